"""How many costly requests a user has sent in this minute, over all web processes: one row of the control database for each user."""

from django.db import connection

from apps.audit.chain import record
from apps.audit.guesses import recent
from apps.audit.models import Deed

WINDOW_S = 60
# The minute, by the database's clock.
NOW = {
    "postgresql": f"CAST(FLOOR(EXTRACT(EPOCH FROM statement_timestamp()) / {WINDOW_S}) AS bigint)",
    "sqlite": f"CAST(strftime('%%s', 'now') AS integer) / {WINDOW_S}",
}
COUNT = """
INSERT INTO audit_request_rate (user_id, minute, count) VALUES (%s, {now}, 1)
ON CONFLICT (user_id) DO UPDATE SET
    minute = excluded.minute,
    count = CASE WHEN audit_request_rate.minute = excluded.minute THEN audit_request_rate.count + 1 ELSE 1 END
RETURNING count
"""


def count_request(user: int) -> int:
    """Count one more request of the user, and return how many there were in this minute. It is one statement, so that none is lost."""
    with connection.cursor() as cursor:
        cursor.execute(COUNT.format(now=NOW[connection.vendor]), [user])
        (count,) = cursor.fetchone()
    return int(count)


def record_refusal(name: str, page: str) -> None:
    """Record that requests of a user are refused, once in the window of refused logins: whoever goes on must not fill the log."""
    if not recent(Deed.REQUESTS_REFUSED).filter(actor=name).exists():
        record(Deed.REQUESTS_REFUSED, after={"page": page})
