"""Imports every module that registers admin pages; Django looks for this module."""

from apps.console import accounts, audit, erasures, payments, proofs, schedules, sources, warehouse
from apps.console.rejects import admin as rejects
from apps.console.runs import admin as runs

__all__ = ["accounts", "audit", "erasures", "payments", "proofs", "rejects", "runs", "schedules", "sources", "warehouse"]
