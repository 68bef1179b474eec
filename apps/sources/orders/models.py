"""orders_db: regions, employees, customers, orders and their lines."""

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
    """A sales region."""

    code = models.CharField(_("code"), max_length=10, unique=True, help_text=_("short stable code for filters"))
    name = models.CharField(_("name"), max_length=120, help_text=_("display name"))

    class Meta:
        db_table = "regions"
        verbose_name = _("region")
        verbose_name_plural = _("regions")

    def __str__(self) -> str:
        return self.name


class Person(SourceRow):
    personal: tuple[str, ...] = ("first_name", "last_name", "email")

    first_name = models.CharField(_("first name"), max_length=80, help_text=_("given name"))
    last_name = models.CharField(_("last name"), max_length=80, help_text=_("family name"))
    email = models.CharField(_("email"), max_length=254, unique=True, help_text=_("contact address"))

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return f"{self.first_name} {self.last_name}"


class Employee(Person):
    """An employee in sales."""

    region = models.ForeignKey(Region, models.PROTECT, verbose_name=_("region"), help_text=_("where the employee works"))
    hired_at = models.DateField(_("hired at"), help_text=_("first working day"))
    is_manager = models.BooleanField(_("is manager"), default=False, help_text=_("whether the employee leads others"))

    class Meta:
        db_table = "employees"
        verbose_name = _("employee")
        verbose_name_plural = _("employees")


class Customer(Person):
    """A customer of the shop."""

    personal = (*Person.personal, "phone")

    region = models.ForeignKey(Region, models.PROTECT, verbose_name=_("region"), help_text=_("where the customer lives"))
    phone = models.CharField(_("phone"), max_length=40, blank=True, help_text=_("as the customer entered it"))

    class Meta:
        db_table = "customers"
        verbose_name = _("customer")
        verbose_name_plural = _("customers")


class Order(SourceRow):
    """An order. `customer` and `order_date` are nullable, because other programs write to the table; the ETL rejects such orders."""

    customer = models.ForeignKey(Customer, models.PROTECT, null=True, verbose_name=_("customer"), help_text=_("buyer"))
    employee = models.ForeignKey(
        Employee, models.PROTECT, null=True, blank=True, help_text=_("seller; empty for a web order"), verbose_name=_("employee")
    )
    region = models.ForeignKey(Region, models.PROTECT, verbose_name=_("region"), help_text=_("region of the sale"))
    order_date = models.DateTimeField(_("order date"), null=True, help_text=_("when the order was placed, UTC"))
    status = models.CharField(_("status"), max_length=20, choices=OrderStatus, help_text=_("paid and shipped orders count as sales"))
    total_amount = models.DecimalField(
        _("total amount"), max_digits=12, decimal_places=2, help_text=_("sum of the lines after discount, UAH")
    )

    class Meta:
        db_table = "orders"
        verbose_name = _("order")
        verbose_name_plural = _("orders")

    def __str__(self) -> str:
        return gettext("Order %s") % self.pk


class OrderItem(SourceRow):
    """A line of an order: one product with its quantity and price."""

    order = models.ForeignKey(Order, models.CASCADE, verbose_name=_("order"), help_text=_("order of the line"))
    product_id = models.BigIntegerField(_("product id"), db_index=True, help_text=_("products.id in catalog_db"))
    quantity = models.IntegerField(_("quantity"), help_text=_("number of pieces, 1 or more"))
    unit_price = models.DecimalField(
        _("unit price"), max_digits=12, decimal_places=2, help_text=_("price of one piece before discount, UAH")
    )
    discount = models.DecimalField(
        _("discount"), max_digits=12, decimal_places=2, default=0, help_text=_("discount on the whole line, UAH")
    )

    class Meta:
        db_table = "order_items"
        verbose_name = _("order line")
        verbose_name_plural = _("order lines")
        constraints = [models.UniqueConstraint(fields=["order", "product_id"], name="order_items_order_product")]
