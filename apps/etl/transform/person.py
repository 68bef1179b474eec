"""What customers and employees share: names, an e-mail, and an account in auth_db."""

import re

from apps.etl.transform.rows import Rows

EMAIL = re.compile(r"[^@\s]+@[^@\s.]+(\.[^@\s.]+)+")


def unparsable_emails(people: Rows) -> list[str]:
    """Ids of the accepted rows whose e-mail is none: loaded all the same, and warned about."""
    clean = people.clean()
    emails = zip(clean["id"], clean["email"], strict=True)
    return [str(row_id) for row_id, email in emails if not isinstance(email, str) or not EMAIL.fullmatch(email)]


def reject_nameless(people: Rows) -> None:
    for column in ("first_name", "last_name", "email"):
        people.reject_missing(column)
    people.reject_duplicates("id")
