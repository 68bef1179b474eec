"""Drills: the guarantees for runs on workers, tested with real worker processes on real servers. See `make drill`.

Each module is one drill: `drill(times)` yields the lines of its report and raises DrillFailed where a guarantee does not hold.
"""

import os

import django

# Small, so that a recovery takes seconds; `kill` also measures one with the default settings.
SETTINGS = {
    "DJANGO_SETTINGS_MODULE": "techmarket.settings",
    "ENV_FILE": os.devnull,
    "ETL_BATCH_ORDERS": "200",
    "ETL_HEARTBEAT_SECONDS": "1",
    "ETL_LOST_AFTER_SECONDS": "5",
    "ETL_REAP_SECONDS": "2",
    "ETL_RETRY_SECONDS": "1",
    # The shop of one drill replaces that of the one before: the brakes would stop that.
    "ETL_MAX_REJECTED_PERCENT": "100",
    "ETL_MAX_DELETED_PERCENT": "100",
    "ETL_MAX_MONTH_PERCENT": "100",
}
for name, value in SETTINGS.items():
    os.environ.setdefault(name, value)
django.setup()
