from typing import Any

from django.db import models
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from apps.warehouse.dimensions import DimCategory, DimCustomer, DimDate, DimEmployee, DimProduct, DimRegion

# An amount of a line fits 12 digits; the largest cost times the largest quantity needs 22.
MONEY: dict[str, Any] = {"max_digits": 24, "decimal_places": 2}


class FactSales(models.Model):
    """Grain: one order line of a recognised sale (its order is paid or shipped). Money is UAH.

    On PostgreSQL the table has one partition, the root, which has one for each range of order ids. A first load prepares these where nobody
    looks and swaps a new root in under one short lock; grants and views belong to the table and stay.
    """

    order_item_id = models.BigIntegerField(_("order item id"), primary_key=True, help_text=_("natural key: order_items.id"))
    order_id = models.BigIntegerField(_("order id"), db_index=True, help_text=_("orders.id: the order of the line"))
    order_status = models.CharField(_("order status"), max_length=20, help_text=_("paid or shipped"))
    payment_method = models.CharField(_("payment method"), max_length=20, help_text=_("the single captured method, 'mixed', or 'none'"))
    date = models.ForeignKey(
        DimDate, models.PROTECT, db_column="date_key", help_text=_("day of the order, in the shop's time zone"), verbose_name=_("date")
    )
    product = models.ForeignKey(DimProduct, models.PROTECT, db_column="product_key", verbose_name=_("product"), help_text=_("product sold"))
    category = models.ForeignKey(
        DimCategory,
        models.PROTECT,
        db_column="category_key",
        db_index=False,
        verbose_name=_("category"),
        help_text=_("category of the product today; changes when the product moves"),
    )
    customer = models.ForeignKey(
        DimCustomer,
        models.PROTECT,
        db_column="customer_key",
        db_index=False,
        verbose_name=_("customer"),
        help_text=_("customer who bought"),
    )
    employee = models.ForeignKey(
        DimEmployee,
        models.PROTECT,
        db_column="employee_key",
        db_index=False,
        verbose_name=_("employee"),
        help_text=_("employee who sold; -2 for a web order"),
    )
    region = models.ForeignKey(
        DimRegion, models.PROTECT, db_column="region_key", db_index=False, verbose_name=_("region"), help_text=_("region where it was sold")
    )
    quantity = models.IntegerField(_("quantity"), help_text=_("pieces"))
    gross_amount = models.DecimalField(_("gross amount"), **MONEY, help_text=_("unit price x quantity"))
    discount_amount = models.DecimalField(_("discount amount"), **MONEY, help_text=_("discount on the whole line"))
    net_amount = models.DecimalField(_("net amount"), **MONEY, help_text=_("gross - discount"))
    unit_cost = models.DecimalField(
        _("unit cost"),
        max_digits=12,
        decimal_places=2,
        null=True,
        help_text=_("product cost at the line's first load; stays when the cost changes, and when the line leaves and returns"),
    )
    cost_amount = models.DecimalField(_("cost amount"), **MONEY, null=True, help_text=_("unit cost x quantity"))
    margin_amount = models.DecimalField(_("margin amount"), **MONEY, null=True, help_text=_("net - cost"))
    paid_amount = models.DecimalField(
        _("paid amount"), **MONEY, help_text=_("captured - refunded payments of the order, allocated by net amount")
    )
    paid_at = models.DateTimeField(_("paid at"), null=True, help_text=_("time of the last captured payment"))
    ordered_at = models.DateTimeField(_("ordered at"), help_text=_("time of the order, in UTC"))
    run_id = models.BigIntegerField(_("run id"), help_text=_("run that last wrote the row"))

    class Meta:
        db_table = "fact_sales"
        verbose_name = _("sales fact")
        verbose_name_plural = _("sales facts")

    def __str__(self) -> str:
        return gettext("Order line %s") % self.pk


class LineCost(models.Model):
    """Grain: one line that has left a fact, with the unit cost that it had. A line that returns with the same product takes it again."""

    id = models.BigAutoField(_("id"), primary_key=True, help_text=_("surrogate key"))
    fact = models.CharField(_("fact"), max_length=40, help_text=_("table of the fact"))
    line_id = models.BigIntegerField(_("line id"), help_text=_("key of the line in the fact"))
    product_id = models.BigIntegerField(_("product id"), help_text=_("products.id: the product sold"))
    unit_cost = models.DecimalField(_("unit cost"), max_digits=12, decimal_places=2, help_text=_("product cost at the line's first load"))

    class Meta:
        db_table = "etl_line_cost"
        verbose_name = _("line cost")
        verbose_name_plural = _("line costs")
        constraints = [models.UniqueConstraint(fields=["fact", "line_id"], name="one_cost_per_line")]

    def __str__(self) -> str:
        return gettext("Order line %s") % self.line_id
