"""A week of the demo shop: every day some changes, every night an incremental run. Needs a shop: manage.py generate_data.

From the checkout: PYTHONPATH=. DJANGO_SETTINGS_MODULE=techmarket.settings .venv/bin/python docs/examples/a_week_day_by_day.py
"""

# ruff: noqa: E402  Django is set up before anything of ours is imported
import django

django.setup()

from apps.demo import changes
from apps.orchestration import api

api.run("full", requested_by="a_week_day_by_day.py")
for day in ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"):
    made = sum(changes.apply(15, seed=len(day)).values())
    done = api.run(requested_by="a_week_day_by_day.py")
    facts = api.row_counts(done)["fact_sales"]
    written = ", ".join(f"{name} {facts[name]}" for name in ("inserted", "updated", "unchanged", "deleted"))
    print(f"{day:<9}  {made} changes  run {done.pk} {done.state}: {written}")
