"""A full load, and what it did to each table.

From the checkout: PYTHONPATH=. DJANGO_SETTINGS_MODULE=techmarket.settings .venv/bin/python docs/examples/full_load.py
"""

# ruff: noqa: E402  Django is set up before anything of ours is imported
import django

django.setup()

from apps.orchestration import api

done = api.run("full", requested_by="full_load.py")
print(f"run {done.pk}: {done.state} in {done.seconds} s")
for table, rows in api.row_counts(done).items():
    print(f"{table:<14} " + "  ".join(f"{name} {rows[name]:>6}" for name in ("read", "inserted", "updated", "rejected")))
