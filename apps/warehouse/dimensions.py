"""The six dimensions. Row -1 of each is *Unknown*, row -2 *Not applicable*; neither has a natural key."""

from typing import Any

from django.db import models
from django.utils.translation import gettext_lazy as _

UNKNOWN = -1
NOT_APPLICABLE = -2
LABELS = {UNKNOWN: "Unknown", NOT_APPLICABLE: "Not applicable"}
SHORT = "N/A"  # where the label does not fit
SURROGATE = _("given once by the warehouse and kept; -1 unknown, -2 not applicable")


class Dimension(models.Model):
    run_id = models.BigIntegerField(_("run id"), help_text=_("the run that last wrote the row"))
    is_deleted = models.BooleanField(_("is deleted"), help_text=_("its source row is gone"))
    is_inferred = models.BooleanField(_("is inferred"), help_text=_("a fact came before the source row; filled in by a later run"))

    class Meta:
        abstract = True

    @classmethod
    def member(cls, special: int) -> dict[str, Any]:
        """By column, what a row says that has no source row: text its label, references row `special`, the rest nothing."""
        return {str(field.column): empty(field, special) for field in cls._meta.concrete_fields}


def empty(field: "models.Field[Any, Any]", special: int) -> Any:
    if isinstance(field, models.CharField):
        label = LABELS[special]
        return label if len(label) <= (field.max_length or 0) else SHORT
    if isinstance(field, models.BooleanField):
        return False
    return special if str(field.column).endswith("_key") else None


class DimDate(Dimension):
    """Grain: one calendar day of the shop, key YYYYMMDD."""

    date_key = models.IntegerField(_("date key"), primary_key=True, help_text=_("the day as YYYYMMDD; -1 unknown, -2 not applicable"))
    date = models.DateField(_("date"), null=True, unique=True, help_text=_("the day, in the shop's time zone"))
    year = models.IntegerField(_("year"), null=True, help_text=_("four digits"))
    quarter = models.IntegerField(_("quarter"), null=True, help_text=_("1 to 4"))
    month = models.IntegerField(_("month"), null=True, help_text=_("1 to 12"))
    month_name = models.CharField(_("month name"), max_length=20, help_text=_("in English"))
    iso_week = models.IntegerField(_("iso week"), null=True, help_text=_("1 to 53, of ISO 8601: weeks begin on Monday"))
    day = models.IntegerField(_("day"), null=True, help_text=_("of the month, 1 to 31"))
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

    region_key = models.IntegerField(_("region key"), primary_key=True, help_text=SURROGATE)
    region_id = models.BigIntegerField(_("region id"), null=True, unique=True, help_text=_("natural key: regions.id"))
    code = models.CharField(_("code"), max_length=10, help_text=_("short and stable, for filters"))
    name = models.CharField(_("name"), max_length=120, help_text=_("as people call it"))

    class Meta:
        db_table = "dim_region"
        verbose_name = _("region")
        verbose_name_plural = _("regions")

    def __str__(self) -> str:
        return self.name


class DimCategory(Dimension):
    """Grain: one category. A root has *Not applicable* for its parent and its own name for its root's."""

    category_key = models.IntegerField(_("category key"), primary_key=True, help_text=SURROGATE)
    category_id = models.BigIntegerField(_("category id"), null=True, unique=True, help_text=_("natural key: categories.id"))
    name = models.CharField(_("name"), max_length=120, help_text=_("the category's own"))
    parent_category_key = models.IntegerField(
        _("parent category key"), help_text=_("dim_category.category_key of the one above; -2 for a root")
    )
    root_name = models.CharField(_("root name"), max_length=120, help_text=_("name of the category at the top"))

    class Meta:
        db_table = "dim_category"
        verbose_name = _("category")
        verbose_name_plural = _("categories")

    def __str__(self) -> str:
        return self.name


class DimProduct(Dimension):
    """Grain: one product."""

    product_key = models.IntegerField(_("product key"), primary_key=True, help_text=SURROGATE)
    product_id = models.BigIntegerField(_("product id"), null=True, unique=True, help_text=_("natural key: products.id"))
    name = models.CharField(_("name"), max_length=200, help_text=_("as customers see it"))
    sku = models.CharField(_("SKU"), max_length=40, help_text=_("stock keeping unit: the shop's own number of the product"))
    category = models.ForeignKey(
        DimCategory,
        models.PROTECT,
        db_column="category_key",
        verbose_name=_("category"),
        help_text=_("where it stands in the catalog today"),
    )
    category_name = models.CharField(_("category name"), max_length=120, help_text=_("name of its category"))
    root_category_name = models.CharField(_("root category name"), max_length=120, help_text=_("name of its category at the top"))
    price = models.DecimalField(_("price"), max_digits=12, decimal_places=2, null=True, help_text=_("of one piece today, UAH"))
    cost = models.DecimalField(
        _("cost"), max_digits=12, decimal_places=2, null=True, help_text=_("what one piece costs the shop today, UAH")
    )
    status = models.CharField(_("status"), max_length=20, help_text=_("active or inactive: whether it is on sale"))

    class Meta:
        db_table = "dim_product"
        verbose_name = _("product")
        verbose_name_plural = _("products")

    def __str__(self) -> str:
        return self.name


class DimCustomer(Dimension):
    """Grain: one customer, with the state of its account in auth_db."""

    personal = ("first_name", "last_name", "email")

    customer_key = models.IntegerField(_("customer key"), primary_key=True, help_text=SURROGATE)
    customer_id = models.BigIntegerField(_("customer id"), null=True, unique=True, help_text=_("natural key: customers.id"))
    first_name = models.CharField(_("first name"), max_length=80, help_text=_("given name"))
    last_name = models.CharField(_("last name"), max_length=80, help_text=_("family name"))
    email = models.CharField(_("email"), max_length=254, help_text=_("where the person is written to"))
    region = models.ForeignKey(
        DimRegion, models.PROTECT, db_column="region_key", verbose_name=_("region"), help_text=_("where the customer lives")
    )
    account_status = models.CharField(_("account status"), max_length=20, help_text=_("auth_users.status, or 'none' without an account"))
    registered_at = models.DateTimeField(_("registered at"), null=True, help_text=_("when the customer was first known to the shop"))

    class Meta:
        db_table = "dim_customer"
        verbose_name = _("customer")
        verbose_name_plural = _("customers")

    def __str__(self) -> str:
        return self.last_name if self.pk < 0 else f"{self.first_name} {self.last_name}"


class DimEmployee(Dimension):
    """Grain: one employee, with the roles of its account in auth_db."""

    employee_key = models.IntegerField(_("employee key"), primary_key=True, help_text=SURROGATE)
    employee_id = models.BigIntegerField(_("employee id"), null=True, unique=True, help_text=_("natural key: employees.id"))
    first_name = models.CharField(_("first name"), max_length=80, help_text=_("given name"))
    last_name = models.CharField(_("last name"), max_length=80, help_text=_("family name"))
    email = models.CharField(_("email"), max_length=254, help_text=_("where the person is written to"))
    region = models.ForeignKey(
        DimRegion, models.PROTECT, db_column="region_key", verbose_name=_("region"), help_text=_("where the employee works")
    )
    is_manager = models.BooleanField(_("is manager"), help_text=_("leads others"))
    hired_at = models.DateField(_("hired at"), null=True, help_text=_("first day at work"))
    roles = models.CharField(_("roles"), max_length=80, help_text=_("auth_db roles, by name, joined with commas"))

    class Meta:
        db_table = "dim_employee"
        verbose_name = _("employee")
        verbose_name_plural = _("employees")

    def __str__(self) -> str:
        return self.last_name if self.pk < 0 else f"{self.first_name} {self.last_name}"
