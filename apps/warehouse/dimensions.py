"""The six dimensions. Key -1 of each is the *Unknown* member and key -2 *Not applicable*; neither has a natural key."""

from typing import Any

from django.db import models
from django.utils.translation import gettext_lazy as _

UNKNOWN = -1
NOT_APPLICABLE = -2
LABELS = {UNKNOWN: "Unknown", NOT_APPLICABLE: "Not applicable"}
SHORT_LABEL = "N/A"  # for columns too narrow for the label
SURROGATE_KEY = _("surrogate key, assigned once and never changed; -1 unknown, -2 not applicable")


class Dimension(models.Model):
    run_id = models.BigIntegerField(_("run id"), help_text=_("run that last wrote the row"))
    is_deleted = models.BooleanField(_("is deleted"), help_text=_("the source row no longer exists"))
    is_inferred = models.BooleanField(
        _("is inferred"), help_text=_("created for a fact that arrived before the source row; a later run fills it in")
    )

    class Meta:
        abstract = True

    @classmethod
    def build_member(cls, special: int) -> dict[str, Any]:
        """Return a row without source, by column: its label for text, key `special` for references, and NULL or false otherwise."""
        return {str(field.column): default_value(field, special) for field in cls._meta.concrete_fields}


def default_value(field: "models.Field[Any, Any]", special: int) -> Any:
    if isinstance(field, models.CharField):
        label = LABELS[special]
        return label if len(label) <= (field.max_length or 0) else SHORT_LABEL
    if isinstance(field, models.BooleanField):
        return False
    return special if str(field.column).endswith("_key") else None


class DimDate(Dimension):
    """Grain: one calendar day of the shop, key YYYYMMDD."""

    date_key = models.IntegerField(_("date key"), primary_key=True, help_text=_("day as YYYYMMDD; -1 unknown, -2 not applicable"))
    date = models.DateField(_("date"), null=True, unique=True, help_text=_("day of the shop's calendar"))
    year = models.IntegerField(_("year"), null=True, help_text=_("four digits"))
    quarter = models.IntegerField(_("quarter"), null=True, help_text=_("1 to 4"))
    month = models.IntegerField(_("month"), null=True, help_text=_("1 to 12"))
    month_name = models.CharField(_("month name"), max_length=20, help_text=_("in English"))
    iso_week = models.IntegerField(_("iso week"), null=True, help_text=_("1 to 53, ISO 8601: weeks begin on Monday"))
    day = models.IntegerField(_("day"), null=True, help_text=_("day of the month, 1 to 31"))
    day_of_week = models.IntegerField(_("day of week"), null=True, help_text=_("1 is Monday"))
    is_weekend = models.BooleanField(_("is weekend"), help_text=_("Saturday or Sunday"))
    is_holiday = models.BooleanField(_("is holiday"), help_text=_("public holiday of Ukraine"))

    class Meta:
        db_table = "dim_date"
        verbose_name = _("day")
        verbose_name_plural = _("dates")

    def __str__(self) -> str:
        return str(self.date or self.month_name)


class DimRegion(Dimension):
    """Grain: one region."""

    region_key = models.IntegerField(_("region key"), primary_key=True, help_text=SURROGATE_KEY)
    region_id = models.BigIntegerField(_("region id"), null=True, unique=True, help_text=_("natural key: regions.id"))
    code = models.CharField(_("code"), max_length=10, help_text=_("short stable code, for filters"))
    name = models.CharField(_("name"), max_length=120, help_text=_("name of the region"))

    class Meta:
        db_table = "dim_region"
        verbose_name = _("region")
        verbose_name_plural = _("regions")

    def __str__(self) -> str:
        return self.name


class DimCategory(Dimension):
    """Grain: one category. A root category has *Not applicable* as its parent and its own name as root name."""

    category_key = models.IntegerField(_("category key"), primary_key=True, help_text=SURROGATE_KEY)
    category_id = models.BigIntegerField(_("category id"), null=True, unique=True, help_text=_("natural key: categories.id"))
    name = models.CharField(_("name"), max_length=120, help_text=_("name of the category"))
    parent_category_key = models.IntegerField(
        _("parent category key"), help_text=_("dim_category.category_key of the parent; -2 for a root")
    )
    root_name = models.CharField(_("root name"), max_length=120, help_text=_("name of its root category"))

    class Meta:
        db_table = "dim_category"
        verbose_name = _("category")
        verbose_name_plural = _("categories")

    def __str__(self) -> str:
        return self.name


class DimProduct(Dimension):
    """Grain: one product."""

    product_key = models.IntegerField(_("product key"), primary_key=True, help_text=SURROGATE_KEY)
    product_id = models.BigIntegerField(_("product id"), null=True, unique=True, help_text=_("natural key: products.id"))
    name = models.CharField(_("name"), max_length=200, help_text=_("name shown to customers"))
    sku = models.CharField(_("SKU"), max_length=40, help_text=_("stock keeping unit: the shop's own product number"))
    category = models.ForeignKey(
        DimCategory,
        models.PROTECT,
        db_column="category_key",
        verbose_name=_("category"),
        help_text=_("category of the product today"),
    )
    category_name = models.CharField(_("category name"), max_length=120, help_text=_("name of its category"))
    root_category_name = models.CharField(_("root category name"), max_length=120, help_text=_("name of its root category"))
    price = models.DecimalField(_("price"), max_digits=12, decimal_places=2, null=True, help_text=_("price of one piece today, UAH"))
    cost = models.DecimalField(
        _("cost"), max_digits=12, decimal_places=2, null=True, help_text=_("cost of one piece to the shop today, UAH")
    )
    status = models.CharField(_("status"), max_length=20, help_text=_("active (on sale) or inactive"))

    class Meta:
        db_table = "dim_product"
        verbose_name = _("product")
        verbose_name_plural = _("products")

    def __str__(self) -> str:
        return self.name


class DimCustomer(Dimension):
    """Grain: one customer, with the status of the account in auth_db."""

    personal = ("first_name", "last_name", "email")

    customer_key = models.IntegerField(_("customer key"), primary_key=True, help_text=SURROGATE_KEY)
    customer_id = models.BigIntegerField(_("customer id"), null=True, unique=True, help_text=_("natural key: customers.id"))
    first_name = models.CharField(_("first name"), max_length=80, help_text=_("given name"))
    last_name = models.CharField(_("last name"), max_length=80, help_text=_("family name"))
    email = models.CharField(_("email"), max_length=254, help_text=_("email address"))
    region = models.ForeignKey(
        DimRegion, models.PROTECT, db_column="region_key", verbose_name=_("region"), help_text=_("region of the customer")
    )
    account_status = models.CharField(_("account status"), max_length=20, help_text=_("auth_users.status, or 'none' without an account"))
    registered_at = models.DateTimeField(_("registered at"), null=True, help_text=_("when the customer was created in the shop"))

    class Meta:
        db_table = "dim_customer"
        verbose_name = _("customer")
        verbose_name_plural = _("customers")

    def __str__(self) -> str:
        return self.last_name if self.pk < 0 else f"{self.first_name} {self.last_name}"


class DimEmployee(Dimension):
    """Grain: one employee, with the roles of the account in auth_db."""

    personal = ("first_name", "last_name", "email")

    employee_key = models.IntegerField(_("employee key"), primary_key=True, help_text=SURROGATE_KEY)
    employee_id = models.BigIntegerField(_("employee id"), null=True, unique=True, help_text=_("natural key: employees.id"))
    first_name = models.CharField(_("first name"), max_length=80, help_text=_("given name"))
    last_name = models.CharField(_("last name"), max_length=80, help_text=_("family name"))
    email = models.CharField(_("email"), max_length=254, help_text=_("email address"))
    region = models.ForeignKey(
        DimRegion, models.PROTECT, db_column="region_key", verbose_name=_("region"), help_text=_("region of the employee")
    )
    is_manager = models.BooleanField(_("is manager"), help_text=_("whether the employee is a manager"))
    hired_at = models.DateField(_("hired at"), null=True, help_text=_("first day at work"))
    roles = models.CharField(_("roles"), max_length=80, help_text=_("names of the roles in auth_db, separated by commas"))

    class Meta:
        db_table = "dim_employee"
        verbose_name = _("employee")
        verbose_name_plural = _("employees")

    def __str__(self) -> str:
        return self.last_name if self.pk < 0 else f"{self.first_name} {self.last_name}"
