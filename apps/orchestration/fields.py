"""A message in a column: its code and parameters as JSON."""

from typing import Any

from django.db import models

from techmarket.messages import Message, load, store


class MessageField(models.JSONField):
    """Reads as a `Message`, or as plain text where it was saved as such; "" where there is none."""

    def __init__(self, *args: Any, **kwargs: Any):
        options: dict[str, Any] = {"default": str, "blank": True} | kwargs
        super().__init__(*args, **options)

    def get_prep_value(self, value: Any) -> Any:
        return store(value)

    def from_db_value(self, value: Any, expression: Any, connection: Any) -> Any:
        found = super().from_db_value(value, expression, connection)
        return load(found) if found else ""

    def to_python(self, value: Any) -> Any:
        return value if isinstance(value, Message) else super().to_python(value)
