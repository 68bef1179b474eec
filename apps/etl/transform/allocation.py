"""Allocate an amount to rows exactly to the kopiyka."""

from typing import Any

import numpy as np

# Products of int64 must stay below 2**63; above, Python integers are used, which are slower and as exact.
SAFE = 2**62


def allocate(group: Any, weight: Any, amount: Any) -> Any:
    """Return each row's share of its group's amount in proportion to its weight, by largest remainder; evenly where all weights are 0.

    `group`: ids, equal ones adjacent; `weight`: int64, 0 or more; `amount`: int64, the group's amount repeated in each of its rows, of
    either sign. The shares of a group add up to its amount. Of equal remainders the earlier row gets the kopiyka.
    """
    if len(group) == 0:
        return np.zeros(0, dtype=np.int64)
    starts = np.flatnonzero(np.r_[True, group[1:] != group[:-1]])
    sizes = np.diff(np.r_[starts, len(group)])
    number = np.repeat(np.arange(len(starts)), sizes)
    total = np.add.reduceat(weight, starts)
    weight = np.where(total[number] == 0, 1, weight)
    total = np.where(total == 0, sizes, total)[number]
    size = np.abs(amount)
    product = exact_product(size, weight)
    share, remainder = (product // total).astype(np.int64), (product % total).astype(np.int64)
    missing = size[starts] - np.add.reduceat(share, starts)
    by_remainder = np.lexsort((np.arange(len(group)), -remainder, number))
    rank = np.empty(len(group), dtype=np.int64)
    rank[by_remainder] = np.arange(len(group)) - np.repeat(starts, sizes)
    return (share + (rank < missing[number])) * np.sign(amount)


def exact_product(size: Any, weight: Any) -> Any:
    if int(size.max()) * int(weight.max()) < SAFE:
        return size * weight
    return size.astype(object) * weight.astype(object)
