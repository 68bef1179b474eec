"""When things happen in the demo shop: opening hours in Kyiv, stored as UTC."""

from datetime import UTC, datetime, time, timedelta
from functools import cache
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from apps.demo.randomness import Ints, draw_flags

Timestamps = npt.NDArray[np.datetime64]

KYIV = ZoneInfo("Europe/Kyiv")  # not the setting: the same seed gives the same shop everywhere
FIRST_MIDNIGHT = datetime(2024, 1, 1, tzinfo=KYIV)
FIRST_DAY = FIRST_MIDNIGHT.date()
DAYS = 731  # to 2025-12-31 inclusive
# Durations are microseconds.
SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
OPENING_TIME, CLOSING_TIME = 9 * HOUR, 21 * HOUR
NIGHT_PERCENT = 3
# January to December: few orders after New Year, many from Black Friday to Christmas.
MONTH_WEIGHTS = [80, 85, 95, 90, 95, 95, 90, 105, 110, 105, 140, 165]


@cache
def cumulative_day_weights() -> Ints:
    """Return, for each day, the sum of the weights of all days up to and including it."""
    months = [(FIRST_DAY + timedelta(days=day)).month for day in range(DAYS)]
    return np.cumsum([MONTH_WEIGHTS[month - 1] for month in months]).astype(np.int64)


def assign_days(positions: Ints, orders: int) -> Ints:
    """Return the day (0 to 730) of the order at each position; days ascend with positions."""
    weights = cumulative_day_weights()
    days: Ints = np.searchsorted(weights, (2 * positions + 1) * weights[-1] // (2 * orders), side="right").astype(np.int64)
    return days


@cache
def kyiv_midnights() -> tuple[Timestamps, Timestamps]:
    """Return each Kyiv day's midnight in UTC, by the offset before 03:00 and by the offset after: at that hour the clock changes."""
    return _midnights_by_offset_at(0), _midnights_by_offset_at(12)


def _midnights_by_offset_at(hour: int) -> Timestamps:
    moments = [datetime.combine(FIRST_DAY + timedelta(days=day), time(hour), KYIV) for day in range(DAYS)]
    return np.array([moment.astimezone(UTC).replace(tzinfo=None) - timedelta(hours=hour) for moment in moments], dtype="datetime64[us]")


def draw_order_times(rng: np.random.Generator, days: Ints) -> Timestamps:
    """Draw an ascending time on each of the ascending days: mostly in opening hours, a few within an hour of midnight."""
    clock = rng.integers(OPENING_TIME, CLOSING_TIME, len(days))
    night = draw_flags(rng, NIGHT_PERCENT, len(days))
    late = draw_flags(rng, 50, len(days))
    clock = np.where(night, rng.integers(0, HOUR, len(days)) + np.where(late, 23 * HOUR, 0), clock)
    before, after = kyiv_midnights()
    midnight = np.where(clock < 3 * HOUR, before[days], after[days])
    return np.sort(midnight + clock.astype("timedelta64[us]"))


def add_microseconds(timestamps: Timestamps, microseconds: Ints) -> Timestamps:
    later: Timestamps = timestamps + microseconds.astype("timedelta64[us]")
    return later


def format_timestamps(timestamps: Timestamps) -> list[str]:
    """Format as MySQL and SQLite both read and compare them, with six decimals: "2024-01-01 08:30:00.000000"."""
    return [text.replace("T", " ") for text in np.datetime_as_string(timestamps.astype("datetime64[us]")).tolist()]
