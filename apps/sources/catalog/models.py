"""catalog_db: what is sold."""

from django.db import models
from django.utils.translation import gettext_lazy as _

from apps.sources.rows import SourceRow


class ProductStatus(models.TextChoices):
    ACTIVE = "active", _("Active")
    INACTIVE = "inactive", _("Inactive")


class Category(SourceRow):
    """A category of products: a root, or a child of a root; two levels."""

    name = models.CharField(_("name"), max_length=120, help_text=_("no two of one parent have the same"))
    parent = models.ForeignKey(
        "self", models.PROTECT, null=True, blank=True, verbose_name=_("parent"), help_text=_("the category above; empty: a root")
    )

    class Meta:
        db_table = "categories"
        verbose_name = _("category")
        verbose_name_plural = _("categories")
        constraints = [models.UniqueConstraint(fields=["parent", "name"], name="categories_parent_name")]

    def __str__(self) -> str:
        return self.name


class Product(SourceRow):
    """What the shop sells, at today's price and cost."""

    name = models.CharField(_("name"), max_length=200, help_text=_("as customers see it"))
    sku = models.CharField(_("SKU"), max_length=40, unique=True, help_text=_("stock keeping unit: the shop's own number of the product"))
    category = models.ForeignKey(Category, models.PROTECT, verbose_name=_("category"), help_text=_("where it stands in the catalog"))
    price = models.DecimalField(_("price"), max_digits=12, decimal_places=2, help_text=_("of one piece today, UAH"))
    cost = models.DecimalField(_("cost"), max_digits=12, decimal_places=2, help_text=_("what one piece costs the shop today, UAH"))
    status = models.CharField(_("status"), max_length=20, choices=ProductStatus, help_text=_("whether it is on sale"))

    class Meta:
        db_table = "products"
        verbose_name = _("product")
        verbose_name_plural = _("products")

    def __str__(self) -> str:
        return self.name
