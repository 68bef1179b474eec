"""Numbers as a person reads them, everywhere alike."""

from decimal import Decimal


def whole(count: int) -> str:
    return f"{count:,}".replace(",", " ")


def uah(amount: Decimal, sign: str = "") -> str:
    """`sign` "+": also before what is positive."""
    return f"{amount:{sign},.2f}".replace(",", " ")
