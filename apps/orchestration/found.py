"""How the orders that a run reads were found: its plan's record, as plain values and in words."""

from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop, ngettext

from apps.orchestration.models import Run
from techmarket.formats import format_count

WHY_EVERYTHING = {
    "requested": gettext_noop("every order, as requested"),
    "first": gettext_noop("every order: the warehouse has no fingerprints yet"),
    "rules": gettext_noop("every order: the rules or the columns read have changed"),
    "most": gettext_noop("every order: more than a quarter of them may have changed"),
}
WAYS = {
    "window": gettext_noop("%s by updated_at"),
    "sweep": gettext_noop("%s by the sweep"),
    "due": gettext_noop("%s whose date has come"),
    "repair": gettext_noop("%s named by a person or a comparison"),
    "star": gettext_noop("%s changed in the warehouse by another hand"),
}


def found_orders(run: Run) -> dict[str, Any]:
    """Return `everything`: why all orders are read, or None; by way of finding, how many; the segments of orders swept."""
    found = run.found.get("orders", {})
    return {
        "everything": run.found.get("everything"),
        "found": {way: found.get(way, 0) for way in WAYS},
        "segments": run.found.get("segments", 0),
    }


def describe_found(run: Run) -> str:
    """Return the orders read, by the way in which they were found, and what was swept; empty before the run is planned."""
    if not run.found:
        return ""
    if why := run.found.get("everything"):
        return _(WHY_EVERYTHING[why])
    ways = [_(WAYS[way]) % format_count(count) for way, count in found_orders(run)["found"].items() if count]
    count = run.found["segments"]
    swept = ngettext("%s segment of 1 024 orders swept", "%s segments of 1 024 orders swept", count) % format_count(count)
    return "; ".join([", ".join(ways) or _("none"), swept])
