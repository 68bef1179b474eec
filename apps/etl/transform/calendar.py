"""dim_date. Grain: one calendar day."""

from datetime import date, timedelta
from functools import cache
from importlib.machinery import PathFinder
from importlib.util import module_from_spec
from pathlib import Path
from typing import Any

import holidays
import pyarrow as pa

from apps.etl.counts import Counts
from apps.etl.transform.rows import Outcome

FIRST_YEAR = 2020
YEARS_AHEAD = 2
MONTHS = ("January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December")


def transform(today: date) -> Outcome:
    """Return the calendar from 2020 to the end of the second year after `today`."""
    clean = days(range(FIRST_YEAR, today.year + YEARS_AHEAD + 1))
    return Outcome("dim_date", clean, counts={"dim_date": Counts(read=clean.num_rows, loaded=clean.num_rows)})


def days(years: range | list[int]) -> pa.Table:
    """Return all days of the years as a clean batch of dim_date."""
    return pa.Table.from_pylist([row(day) for year in years for day in days_of(year)])


def days_of(year: int) -> list[date]:
    first = date(year, 1, 1)
    return [first + timedelta(days=number) for number in range((date(year + 1, 1, 1) - first).days)]


def row(day: date) -> dict[str, object]:
    weekday = day.isoweekday()
    return {
        "date": day,
        "year": day.year,
        "quarter": (day.month + 2) // 3,
        "month": day.month,
        "month_name": MONTHS[day.month - 1],
        "iso_week": day.isocalendar().week,
        "day": day.day,
        "day_of_week": weekday,
        "is_weekend": weekday > 5,
        "is_holiday": day in public_holidays(day.year),
    }


@cache
def public_holidays(year: int) -> frozenset[date]:
    """Return the public holidays of Ukraine, also those that are working days under martial law, since March 2022."""
    return frozenset(find_country().Ukraine(years=year, categories=("public", "workday")))


@cache
def find_country() -> Any:
    """Import this one country. `holidays.country_holidays` imports 250: 0.31 instead of 0.19 s of CPU time, which every first load would
    pay."""
    spec = PathFinder.find_spec("ukraine", [str(Path(holidays.__file__).parent / "countries")])
    if spec is None or spec.loader is None:
        return holidays
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
