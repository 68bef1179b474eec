"""catalog_db: categories and products."""

from django.db import models
from django.utils.translation import gettext_lazy as _

from apps.sources.rows import SourceRow


class ProductStatus(models.TextChoices):
    ACTIVE = "active", _("Active")
    INACTIVE = "inactive", _("Inactive")


class Category(SourceRow):
    """A product category on one of two levels: a root, or the child of a root."""

    name = models.CharField(_("name"), max_length=120, help_text=_("unique within the parent"))
    parent = models.ForeignKey(
        "self", models.PROTECT, null=True, blank=True, verbose_name=_("parent"), help_text=_("parent category; empty for a root")
    )

    class Meta:
        db_table = "categories"
        verbose_name = _("category")
        verbose_name_plural = _("categories")
        constraints = [models.UniqueConstraint(fields=["parent", "name"], name="categories_parent_name")]

    def __str__(self) -> str:
        return self.name


class Product(SourceRow):
    """A product with its current price and cost."""

    name = models.CharField(_("name"), max_length=200, help_text=_("name shown to customers"))
    sku = models.CharField(_("SKU"), max_length=40, unique=True, help_text=_("stock keeping unit, the shop's product code"))
    category = models.ForeignKey(Category, models.PROTECT, verbose_name=_("category"), help_text=_("category of the product"))
    price = models.DecimalField(_("price"), max_digits=12, decimal_places=2, help_text=_("current price of one piece, UAH"))
    cost = models.DecimalField(_("cost"), max_digits=12, decimal_places=2, help_text=_("current cost of one piece to the shop, UAH"))
    status = models.CharField(_("status"), max_length=20, choices=ProductStatus, help_text=_("whether the product is on sale"))

    class Meta:
        db_table = "products"
        verbose_name = _("product")
        verbose_name_plural = _("products")

    def __str__(self) -> str:
        return self.name
