"""Imports every module that registers admin pages; Django looks for this module."""

from apps.console import accounts, proofs, rejects, schedules, sources, warehouse
from apps.console.runs import admin as runs

__all__ = ["accounts", "proofs", "rejects", "runs", "schedules", "sources", "warehouse"]
