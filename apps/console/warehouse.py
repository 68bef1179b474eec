"""The star, to look at. A fact row says where it came from."""

from typing import Any

from django.apps import apps
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _
from unfold.paginator import InfinitePaginator

from apps.console.readonly import ReadOnlyAdmin, show
from apps.warehouse.facts import FactSales

# By reference of the fact: the source's table, its page in the admin, and the dimension's natural key.
ORIGINS = {
    "product": ("catalog_db.products", "catalog_db_product", "product_id"),
    "customer": ("orders_db.customers", "orders_db_customer", "customer_id"),
    "employee": ("orders_db.employees", "orders_db_employee", "employee_id"),
    "region": ("orders_db.regions", "orders_db_region", "region_id"),
}


COLUMNS = [field.name for field in FactSales._meta.concrete_fields]


class FactAdmin(ReadOnlyAdmin):
    """Millions of rows: none of the pages counts them."""

    paginator = InfinitePaginator
    fieldsets = ((_("Where it comes from"), {"fields": ("origin",)}), (_("The row"), {"fields": COLUMNS}))
    readonly_fields = ("origin",)

    def origin(self, fact: FactSales) -> SafeString:
        """Source tables and ids, and the run that wrote the row, each with its page."""
        return format_html("<ul>{}</ul>", format_html_join("", '<li>{} <a class="tm-link" href="{}">{}</a></li>', origins(fact)))

    origin.short_description = _("source rows and run")  # type: ignore[attr-defined]


def origins(fact: FactSales) -> list[tuple[Any, str, Any]]:
    found: list[tuple[Any, str, Any]] = [
        ("orders_db.order_items", change("orders_db_orderitem", fact.pk), fact.pk),
        ("orders_db.orders", change("orders_db_order", fact.order_id), fact.order_id),
        (
            "payments_db.payments",
            f"{reverse('admin:payments_db_payment_changelist')}?order_id={fact.order_id}",
            f"order_id = {fact.order_id}",
        ),
    ]
    for name, (table, page, natural) in ORIGINS.items():
        number = getattr(getattr(fact, name), natural)
        if number is not None:
            found.append((table, change(page, number), number))
    return [*found, (_("run"), change("orchestration_run", fact.run_id), fact.run_id)]


def change(page: str, key: int) -> str:
    return reverse(f"admin:{page}_change", args=[key])


LISTED = ("order_item_id", "order_id", "date", "product", "region", "employee", "payment_method", "quantity", "net_amount", "margin_amount")
CHOSEN: dict[str, Any] = {
    "list_display": LISTED,
    "list_filter": ("region", "category"),  # of text columns, Django would ask for all values: a scan of the fact
    "search_fields": ("=order_id", "=order_item_id"),
}

for model in apps.get_app_config("dwh").get_models():
    if model is FactSales:
        show(model, FactAdmin, **CHOSEN)
    else:
        show(model)
