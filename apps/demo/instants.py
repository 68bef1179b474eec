"""When things happened: the shop's hours in Kyiv, kept as UTC."""

from datetime import UTC, datetime, time, timedelta
from functools import cache
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from apps.demo.draw import Ints, chosen

Instants = npt.NDArray[np.datetime64]

KYIV = ZoneInfo("Europe/Kyiv")  # not the setting: the same seed gives the same shop everywhere
OPENED = datetime(2024, 1, 1, tzinfo=KYIV)
FIRST_DAY = OPENED.date()
DAYS = 731  # to 2025-12-31, the last day included
MICROSECOND = 1
SECOND = 1_000_000 * MICROSECOND
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
OPENS, CLOSES = 9 * HOUR, 21 * HOUR
NIGHT_PERCENT = 3
# January to December: quiet after New Year, loud from Black Friday to Christmas.
SEASON = [80, 85, 95, 90, 95, 95, 90, 105, 110, 105, 140, 165]


@cache
def busy_until() -> Ints:
    """For each day, the share of the two years' sales up to its end, as running whole numbers."""
    months = [(FIRST_DAY + timedelta(days=day)).month for day in range(DAYS)]
    return np.cumsum([SEASON[month - 1] for month in months]).astype(np.int64)


def days_of(positions: Ints, orders: int) -> Ints:
    """The business day (0 to 730) of the order at each position: never goes back as positions grow."""
    until = busy_until()
    return np.searchsorted(until, (2 * positions + 1) * until[-1] // (2 * orders), side="right").astype(np.int64)


@cache
def midnights() -> tuple[Instants, Instants]:
    """UTC of each Kyiv day's midnight by the offset before 03:00, and by the offset after: the clock changes between."""
    return _midnights(0), _midnights(12)


def _midnights(hour: int) -> Instants:
    noons = [datetime.combine(FIRST_DAY + timedelta(days=day), time(hour), KYIV) for day in range(DAYS)]
    return np.array([noon.astimezone(UTC).replace(tzinfo=None) - timedelta(hours=hour) for noon in noons], dtype="datetime64[us]")


def ordered_at(rng: np.random.Generator, days: Ints) -> Instants:
    """An instant on each of the ascending business days, ascending too: mostly in shop hours, a few within an hour of midnight."""
    clock = rng.integers(OPENS, CLOSES, len(days))
    night = chosen(rng, NIGHT_PERCENT, len(days))
    late = chosen(rng, 50, len(days))
    clock = np.where(night, rng.integers(0, HOUR, len(days)) + np.where(late, 23 * HOUR, 0), clock)
    before, after = midnights()
    midnight = np.where(clock < 3 * HOUR, before[days], after[days])
    return np.sort(midnight + clock.astype("timedelta64[us]"))


def later(instants: Instants, microseconds: Ints) -> Instants:
    return instants + microseconds.astype("timedelta64[us]")


def written(instants: Instants) -> list[str]:
    """As both kinds of server read and compare it, always six decimals: "2024-01-01 08:30:00.000000"."""
    return [text.replace("T", " ") for text in np.datetime_as_string(instants.astype("datetime64[us]")).tolist()]
