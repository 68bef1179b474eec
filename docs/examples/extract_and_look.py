"""Extract only: the raw rows of the sources as pandas frames. Nothing is written anywhere.

From the checkout: PYTHONPATH=. DJANGO_SETTINGS_MODULE=techmarket.settings .venv/bin/python docs/examples/extract_and_look.py
"""

# ruff: noqa: E402  Django is set up before anything of ours is imported
import django

django.setup()

from apps.orchestration import api

for name, frame in api.extract("fact_sales").items():
    print(f"{name}: {len(frame)} rows of {', '.join(frame.columns)}")

products = api.extract("dim_product")["products"]
print(products.sort_values("price", ascending=False).head(3)[["sku", "name", "price"]].to_string(index=False))
