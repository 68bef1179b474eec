"""Why a row is rejected, as apps/etl/transform says it: it knows no Django, and so no language. Declared here in every process."""

from techmarket.messages import gettext_noop as _

REASONS = (
    _("{column} is empty"),
    _("{column} is negative"),
    _("{column} is none of {allowed}"),
    _("another row has the same {column}"),
    _("{column} is not a whole number"),
    _("{column} is not an amount within DECIMAL(12,2)"),
    _("{column} is not a date and time"),
    _("{column} is not a date"),
    _("{column} is neither 0 nor 1"),
    _("{column} is not valid UTF-8, or longer than the warehouse's column"),
    _("the order has no date"),
    _("order_date is before 2015"),
    _("order_date is in the future"),
    _("the order names no customer"),
    _("the payment names no order"),
    _("quantity is less than 1"),
    _("quantity is more than the warehouse's column holds"),
    _("unit_price x quantity is not within DECIMAL(12,2)"),
    _("discount is more than unit_price x quantity"),
    _("amount is not positive"),
    _("its order is rejected"),
    _("its order is not in orders_db"),
)
