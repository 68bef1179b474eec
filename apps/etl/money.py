"""Money: whole kopiykas in memory, DECIMAL in UAH in the databases. Conversions, and SQL that sums and rounds exactly."""

from decimal import Decimal

# The largest amount of DECIMAL(12,2), in kopiykas.
MAX_KOPIYKAS = 999_999_999_999


def uah(kopiykas: int) -> Decimal:
    """-12345 kopiykas as Decimal("-123.45")."""
    return (Decimal(kopiykas) / 100).quantize(Decimal("0.01"))


def sql_sum(vendor: str, column: str) -> str:
    """Return SQL for the exact sum of a column in UAH. SQLite stores floats, exact to the kopiyka each; their sum would not be."""
    if vendor == "sqlite":
        total = f"COALESCE(SUM(CAST(ROUND({column} * 100) AS INTEGER)), 0)"
        return f"printf('%s%d.%02d', CASE WHEN {total} < 0 THEN '-' ELSE '' END, ABS({total}) / 100, ABS({total}) % 100)"
    return f"COALESCE(SUM({column}), 0.00)"


def sql_round(vendor: str, amount: str) -> str:
    """Return SQL for an amount computed of columns. SQLite stores floats; PostgreSQL is exact without ROUND, and faster."""
    return f"ROUND({amount}, 2)" if vendor == "sqlite" else amount
