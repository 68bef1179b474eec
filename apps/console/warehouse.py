"""Read-only pages of the warehouse. The page of a fact links to its source rows and to the run that wrote it."""

from typing import Any

from django.apps import apps
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import path, reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from apps.console.balances import describe_balances
from apps.console.readonly import LargeTableAdmin, register_read_only
from apps.warehouse.facts import FactSales, LineCost
from apps.warehouse.fingerprints import OrderFingerprint

# By foreign key of the fact: the source table, its admin page, and the dimension's natural key.
DIMENSION_SOURCES = {
    "product": ("catalog_db.products", "catalog_db_product", "product_id"),
    "customer": ("orders_db.customers", "orders_db_customer", "customer_id"),
    "employee": ("orders_db.employees", "orders_db_employee", "employee_id"),
    "region": ("orders_db.regions", "orders_db_region", "region_id"),
}
FACT_COLUMNS = [field.name for field in FactSales._meta.concrete_fields]


class FactAdmin(LargeTableAdmin):
    fieldsets = ((_("Lineage"), {"fields": ("origin",)}), (_("Row"), {"fields": FACT_COLUMNS}))
    readonly_fields = ("origin",)

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view(self.list_balances)
        return [path("balances/", view, name="dwh_factsales_balances"), *super().get_urls()]

    def list_balances(self, request: HttpRequest) -> HttpResponse:
        """List the orders that are paid less, or more, than their net."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        return render(request, "console/balances.html", self.admin_site.each_context(request) | describe_balances(request.GET))

    def origin(self, fact: FactSales) -> SafeString:
        """Return links to the source rows and to the run that wrote the fact."""
        return format_html("<ul>{}</ul>", format_html_join("", '<li>{} <a class="tm-link" href="{}">{}</a></li>', find_origins(fact)))

    origin.short_description = _("source rows and run")  # type: ignore[attr-defined]


def find_origins(fact: FactSales) -> list[tuple[Any, str, Any]]:
    """Return the table, the address of the row's page and its key, for every source row and the run."""
    found: list[tuple[Any, str, Any]] = [
        ("orders_db.order_items", change_address("orders_db_orderitem", fact.pk), fact.pk),
        ("orders_db.orders", change_address("orders_db_order", fact.order_id), fact.order_id),
        (
            "payments_db.payments",
            f"{reverse('admin:payments_db_payment_changelist')}?order_id={fact.order_id}",
            f"order_id = {fact.order_id}",
        ),
    ]
    for name, (table, page, natural_key) in DIMENSION_SOURCES.items():
        key = getattr(getattr(fact, name), natural_key)
        if key is not None:
            found.append((table, change_address(page, key), key))
    return [*found, (_("run"), change_address("orchestration_run", fact.run_id), fact.run_id)]


def change_address(page: str, key: int) -> str:
    return reverse(f"admin:{page}_change", args=[key])


LIST_COLUMNS = (
    "order_item_id",
    "order_id",
    "date",
    "product",
    "region",
    "employee",
    "payment_method",
    "quantity",
    "net_amount",
    "margin_amount",
)
FACT_OPTIONS: dict[str, Any] = {
    "list_display": LIST_COLUMNS,
    "list_filter": ("region", "category"),  # a filter of a text column would scan the fact for its values
    "search_fields": ("order_id", "order_item_id"),
}

for model in apps.get_app_config("dwh").get_models():
    if model is FactSales:
        register_read_only(model, FactAdmin, **FACT_OPTIONS)
    elif model in (LineCost, OrderFingerprint):
        register_read_only(model, LargeTableAdmin)
    else:
        register_read_only(model)
