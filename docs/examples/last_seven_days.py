"""The orders that changed in the last seven days of the shop's calendar, today included; first as a dry run.

From the checkout: PYTHONPATH=. DJANGO_SETTINGS_MODULE=techmarket.settings .venv/bin/python docs/examples/last_seven_days.py
"""

# ruff: noqa: E402  Django is set up before anything of ours is imported
import django

django.setup()

from apps.orchestration import api

tried = api.run("incremental", requested_by="last_seven_days.py", days=7, dry_run=True)
would = api.row_counts(tried)["fact_sales"]
print(f"would insert {would['inserted']}, update {would['updated']}, delete {would['deleted']} facts")

done = api.run("incremental", requested_by="last_seven_days.py", days=7)
print(f"run {done.pk}: {done.state}, changes from {done.window_start:%Y-%m-%d %H:%M} to {done.window_end:%Y-%m-%d %H:%M} UTC")
print(f"fact_sales: {api.row_counts(done)['fact_sales']}")
