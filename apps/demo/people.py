"""Regions, employees and customers of the demo shop."""

from dataclasses import dataclass

import numpy as np

from apps.demo.bulk import Columns, insert_rows, with_timestamps
from apps.demo.catalog import OPENED_AT
from apps.demo.names import NamePool
from apps.demo.randomness import Ints, draw_weighted, make_rng, pick
from apps.demo.timestamps import DAY, DAYS, HOUR, MINUTE, Timestamps, add_microseconds
from apps.sources.orders.models import Customer, Employee, Region

REGIONS = {"KV": "Київська", "LV": "Львівська", "OD": "Одеська", "KH": "Харківська", "DP": "Дніпропетровська"}
REGION_PERCENTS = [36, 20, 16, 14, 14]
# Reserved domains (RFC 2606): a demo shop must hold no address of a real person.
CUSTOMER_DOMAINS = ["example.com", "example.org", "example.net"]
STAFF_DOMAIN = "techmarket.example"
OPERATORS = ["50", "63", "66", "67", "68", "73", "93", "95", "96", "97", "98", "99"]


@dataclass(frozen=True)
class PeopleChunk:
    """One chunk of employees or customers: the columns, and what their accounts are made from."""

    columns: Columns
    emails: list[str]
    created_at: Timestamps


def write_regions() -> int:
    opened_at = np.full(len(REGIONS), OPENED_AT)
    rows: Columns = {"id": list(range(1, len(REGIONS) + 1)), "code": list(REGIONS), "name": list(REGIONS.values())}
    return insert_rows(Region, with_timestamps(rows, opened_at, opened_at))


def make_employees(seed: int, names: NamePool, count: int) -> PeopleChunk:
    """Make employees: number i works in region (i - 1) % 5 + 1, and the first half are managers, so that ten cover every region."""
    rng = make_rng(seed, "employees")
    people = names.draw_people(rng, count)
    ids = range(1, count + 1)
    emails = [f"{mailbox}.{number}@{STAFF_DOMAIN}" for number, mailbox in zip(ids, people.mailboxes, strict=True)]
    hired_at = np.datetime64("2019-03-01T07:00:00", "us") + (np.sort(rng.integers(0, 1_400, count)) * DAY).astype("timedelta64[us]")
    rows: Columns = {
        "id": list(ids),
        "first_name": people.first_names,
        "last_name": people.last_names,
        "email": emails,
        "region_id": [(number - 1) % len(REGIONS) + 1 for number in ids],
        "hired_at": hired_at.astype("datetime64[D]").astype(str).tolist(),
        "is_manager": [int(number <= count // 2) for number in ids],
    }
    return PeopleChunk(with_timestamps(rows, hired_at, hired_at), emails, hired_at)


def write_employees(persons: PeopleChunk) -> int:
    return insert_rows(Employee, persons.columns)


def draw_customer_regions(seed: int, count: int) -> Ints:
    """Draw region ids by position; the customer at position 0 has id 1."""
    return draw_weighted(make_rng(seed, "regions"), REGION_PERCENTS, count) + 1


def registration_times(first: int, last: int, count: int) -> Timestamps:
    """Return when each customer registered: the first half in the year before the first order, the others evenly over the two years.

    `count_registered` lets a customer order a day later at the earliest.
    """
    early_count = count // 2
    positions = np.arange(first, last)
    early = positions * (360 * DAY // early_count)
    late = 365 * DAY + (positions - early_count) * (DAYS * DAY // (count - early_count)) - 4 * DAY
    offsets = np.where(positions < early_count, early, late).astype("timedelta64[us]")
    return np.datetime64("2023-01-03T08:00:00", "us") + offsets


def count_registered(days: Ints, count: int) -> Ints:
    """Return how many of `count` customers have registered before each day (0 to 730)."""
    early_count = count // 2
    return early_count + (count - early_count) * days // DAYS


def make_customers(seed: int, names: NamePool, regions: Ints, first: int, last: int) -> PeopleChunk:
    rng = make_rng(seed, "customers", first)
    size = last - first
    people = names.draw_people(rng, size)
    ids = range(first + 1, last + 1)
    domains = pick(CUSTOMER_DOMAINS, rng.integers(0, len(CUSTOMER_DOMAINS), size))
    emails = [f"{mailbox}.{number}@{domain}" for mailbox, number, domain in zip(people.mailboxes, ids, domains, strict=True)]
    created = add_microseconds(registration_times(first, last, len(regions)), rng.integers(0, 10 * HOUR, size))
    rows: Columns = {
        "id": list(ids),
        "first_name": people.first_names,
        "last_name": people.last_names,
        "email": emails,
        "phone": draw_phones(rng, size),
        "region_id": regions[first:last].tolist(),
    }
    return PeopleChunk(with_timestamps(rows, created, add_microseconds(created, rng.integers(0, MINUTE, size))), emails, created)


def write_customers(persons: PeopleChunk) -> int:
    return insert_rows(Customer, persons.columns)


def draw_phones(rng: np.random.Generator, size: int) -> list[str]:
    operators = pick(OPERATORS, rng.integers(0, len(OPERATORS), size))
    numbers = rng.integers(1_000_000, 10_000_000, size).tolist()
    return [f"+380 {operator} {n // 10_000} {n // 100 % 100:02d} {n % 100:02d}" for operator, n in zip(operators, numbers, strict=True)]
