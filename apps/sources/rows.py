"""The columns of every source table: id, created_at and updated_at, filled by the database."""

from typing import Any, ClassVar

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _


class UpdatedAtField(models.DateTimeField):  # type: ignore[type-arg]
    """The time of the row's last change by the database's clock, whichever program made the change.

    MySQL sets it with ON UPDATE, SQLite with a trigger (`service.create_sqlite_triggers`). Both keep a value that the writer sets.
    """

    def __init__(self, **kwargs: Any):
        kwargs.setdefault("db_default", Now())
        kwargs.setdefault("db_index", True)
        kwargs.setdefault("editable", False)
        super().__init__(**kwargs)

    def db_type_suffix(self, connection: BaseDatabaseWrapper) -> str | None:
        return "ON UPDATE CURRENT_TIMESTAMP(6)" if connection.vendor == "mysql" else super().db_type_suffix(connection)

    def pre_save(self, instance: models.Model, add: bool) -> Any:
        # save() writes every column; writing the old value would suppress MySQL's ON UPDATE.
        return super().pre_save(instance, add) if add else Now()


class SourceRow(models.Model):
    # Whether the rows let somebody in, for some time, as tokens do: backups leave them out.
    is_short_lived: ClassVar[bool] = False

    id = models.BigAutoField(_("ID"), primary_key=True, help_text=_("assigned by the database, never reused"))
    created_at = models.DateTimeField(_("created at"), db_default=Now(), editable=False, help_text=_("when the row was created"))
    updated_at = UpdatedAtField(
        verbose_name=_("updated at"), help_text=_("when the row last changed, by the database's clock; incremental runs rely on it")
    )

    class Meta:
        abstract = True
