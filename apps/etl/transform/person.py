"""Rules that customers and employees share."""

import re

from apps.etl.transform.rows import Rows

EMAIL = re.compile(r"[^@\s]+@[^@\s.]+(\.[^@\s.]+)+")


def find_unparsable_emails(people: Rows) -> list[str]:
    """Return the ids of accepted rows whose e-mail cannot be parsed: they are loaded with a warning."""
    clean = people.clean()
    emails = zip(clean["id"], clean["email"], strict=True)
    return [str(row_id) for row_id, email in emails if not isinstance(email, str) or not EMAIL.fullmatch(email)]


def reject_incomplete(people: Rows) -> None:
    for column in ("first_name", "last_name", "email"):
        people.reject_missing(column)
    people.reject_duplicates("id")
