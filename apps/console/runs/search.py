"""Search in the ledger's messages, of which the database holds codes and parameters."""

from django.db.models import Q, TextField
from django.db.models.functions import Cast
from django.utils.translation import gettext

from apps.orchestration.models import Run
from techmarket.messages import MESSAGES


def find_by_cause(term: str) -> Q | None:
    """Return a condition on runs whose cause contains the term; None for a blank one.

    It matches templates of messages in English and in the active language, and the text of parameters. Words of a template and of a
    parameter in one term are not found together.
    """
    text = term.strip().lower()
    if not text:
        return None
    codes = [code for code, template in MESSAGES.items() if text in template.lower() or text in gettext(template).lower()]
    escaped = escape_json(text)
    matches = Run.objects.annotate(cause_text=Cast("cause", TextField())).filter(
        Q(cause__code__in=codes) | Q(cause_text__icontains=text) | Q(cause_text__icontains=escaped)
    )
    return Q(pk__in=matches.values("pk"))


def escape_json(text: str) -> str:
    """Return the text as a JSON column stores it: SQLite and MySQL keep other letters than ASCII as escapes."""
    return text.encode("ascii", "backslashreplace").decode().replace("\\x", "\\u00")
