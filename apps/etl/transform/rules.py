"""The rules for source rows: for every code a short label, and the reason that is shown for a rejected row.

A reason is a template. The transform rejects by code with the template's parameters, the ledger stores both, and a page renders them in
the language of its reader. To add a rule, add it here and reject by its code in the transform of the table.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass


def _(text: str) -> str:
    """Mark text for makemessages; it is translated where it is rendered, since the transform does without Django."""
    return text


@dataclass(frozen=True)
class Rule:
    label: str
    reason: str


RULES = {
    "bad_date": Rule(_("Invalid date"), _("{column} is not a valid date ({format})")),
    "bad_flag": Rule(_("Neither 0 nor 1"), _("{column} is neither 0 nor 1")),
    "bad_money": Rule(_("Amount missing or out of range"), _("{column} is not an amount from {least} to {greatest}")),
    "bad_quantity": Rule(_("Quantity out of range"), _("quantity is not between {least} and {greatest}")),
    "bad_text": Rule(_("Invalid UTF-8 or text too long"), _("{column} is not valid UTF-8, contains NUL, or exceeds {length} characters")),
    "date_out_of_range": Rule(_("Date out of range"), _("{column} is before {earliest} or in the future")),
    "discount_over_gross": Rule(_("Discount exceeds price"), _("the discount exceeds unit_price × quantity")),
    "duplicate": Rule(_("Duplicate key"), _("another row has the same {column}")),
    "missing_customer": Rule(_("Missing customer"), _("the order has no customer")),
    "missing_date": Rule(_("Missing date"), _("the order has no date")),
    "missing_order": Rule(_("Missing order"), _("{column} does not refer to an order")),
    "missing_value": Rule(_("Missing value"), _("{column} is empty")),
    "negative_discount": Rule(_("Negative discount"), _("the discount is negative")),
    "negative_price": Rule(_("Negative price"), _("the price is negative")),
    "not_whole": Rule(_("Not a whole number"), _("{column} is not a whole number")),
    "order_rejected": Rule(_("Order rejected"), _("the order of this line was rejected")),
    "unknown_method": Rule(_("Unknown payment method"), _("{column} is not one of {allowed}")),
    "unknown_role": Rule(_("Unknown role"), _("{column} is not one of {allowed}")),
    "unknown_status": Rule(_("Unknown status"), _("{column} is not one of {allowed}")),
}

Translate = Callable[[str], str]


def english(text: str) -> str:
    return text


def render_label(code: str, translate: Translate = english) -> str:
    """Return the rule's short name, or the code itself where no such rule exists any more."""
    return translate(RULES[code].label) if code in RULES else code


def render_reason(code: str, parameters: Mapping[str, str], translate: Translate = english) -> str:
    """Return why the row was rejected, or the code itself where the rule or one of its parameters is missing, as in an old row."""
    if code not in RULES:
        return code
    try:
        return translate(RULES[code].reason).format(**parameters)
    except (LookupError, TypeError):
        return code
