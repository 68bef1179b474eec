"""The ledger, to look at and to act on: a file for each kind of page."""

from apps.orchestration.admin import rejects, runs, schedules

__all__ = ["rejects", "runs", "schedules"]
