"""orders_db: who bought what, through whom, where."""

from django.db import models
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from apps.sources.rows import SourceRow


class OrderStatus(models.TextChoices):
    NEW = "new", _("New")
    PAID = "paid", _("Paid")
    SHIPPED = "shipped", _("Shipped")
    CANCELLED = "cancelled", _("Cancelled")


class Region(SourceRow):
    """A region that the shop sells in."""

    code = models.CharField(_("code"), max_length=10, unique=True, help_text=_("short and stable, for filters"))
    name = models.CharField(_("name"), max_length=120, help_text=_("as people call it"))

    class Meta:
        db_table = "regions"
        verbose_name = _("region")
        verbose_name_plural = _("regions")

    def __str__(self) -> str:
        return self.name


class Person(SourceRow):
    first_name = models.CharField(_("first name"), max_length=80, help_text=_("given name"))
    last_name = models.CharField(_("last name"), max_length=80, help_text=_("family name"))
    email = models.CharField(_("email"), max_length=254, unique=True, help_text=_("where the person is written to"))

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return f"{self.first_name} {self.last_name}"


class Employee(Person):
    """Who sells."""

    region = models.ForeignKey(Region, models.PROTECT, verbose_name=_("region"), help_text=_("where the employee works"))
    hired_at = models.DateField(_("hired at"), help_text=_("first day at work"))
    is_manager = models.BooleanField(_("is manager"), default=False, help_text=_("leads others"))

    class Meta:
        db_table = "employees"
        verbose_name = _("employee")
        verbose_name_plural = _("employees")


class Customer(Person):
    """Who buys."""

    personal = ("first_name", "last_name", "email", "phone")

    region = models.ForeignKey(Region, models.PROTECT, verbose_name=_("region"), help_text=_("where the customer lives"))
    phone = models.CharField(_("phone"), max_length=40, blank=True, help_text=_("as the customer wrote it"))

    class Meta:
        db_table = "customers"
        verbose_name = _("customer")
        verbose_name_plural = _("customers")


class Order(SourceRow):
    """One purchase. `customer` and `order_date` may be NULL in the database for other programs write it; the ETL rejects such an order."""

    customer = models.ForeignKey(Customer, models.PROTECT, null=True, verbose_name=_("customer"), help_text=_("who bought"))
    employee = models.ForeignKey(
        Employee, models.PROTECT, null=True, blank=True, help_text=_("who sold; empty for a web order"), verbose_name=_("employee")
    )
    region = models.ForeignKey(Region, models.PROTECT, verbose_name=_("region"), help_text=_("where it was sold"))
    order_date = models.DateTimeField(_("order date"), null=True, help_text=_("when it was ordered, kept in UTC"))
    status = models.CharField(_("status"), max_length=20, choices=OrderStatus, help_text=_("a sale is what is paid or shipped"))
    total_amount = models.DecimalField(_("total amount"), max_digits=12, decimal_places=2, help_text=_("UAH, its lines after discount"))

    class Meta:
        db_table = "orders"
        verbose_name = _("order")
        verbose_name_plural = _("orders")

    def __str__(self) -> str:
        return gettext("Order %s") % self.pk


class OrderItem(SourceRow):
    """One line of an order: one product."""

    order = models.ForeignKey(Order, models.CASCADE, verbose_name=_("order"), help_text=_("whose line it is"))
    product_id = models.BigIntegerField(_("product id"), db_index=True, help_text=_("products.id in catalog_db"))
    quantity = models.IntegerField(_("quantity"), help_text=_("pieces, 1 or more"))
    unit_price = models.DecimalField(_("unit price"), max_digits=12, decimal_places=2, help_text=_("UAH a piece, before discount"))
    discount = models.DecimalField(_("discount"), max_digits=12, decimal_places=2, default=0, help_text=_("UAH off the whole line"))

    class Meta:
        db_table = "order_items"
        verbose_name = _("order line")
        verbose_name_plural = _("order lines")
        constraints = [models.UniqueConstraint(fields=["order", "product_id"], name="order_items_order_product")]
