"""Regions, employees and customers of the demo shop."""

from dataclasses import dataclass

import numpy as np

from apps.demo import instants
from apps.demo.catalog import OPENED
from apps.demo.draw import Ints, pick, stream, weighted
from apps.demo.names import Names
from apps.demo.write import Columns, insert, stamped
from apps.sources.orders.models import Customer, Employee, Region

REGIONS = {"KV": "Київська", "LV": "Львівська", "OD": "Одеська", "KH": "Харківська", "DP": "Дніпропетровська"}
REGION_PERCENTS = [36, 20, 16, 14, 14]
# Domains that nobody can own (RFC 2606): a demo shop must not hold a stranger's address.
CUSTOMER_DOMAINS = ["example.com", "example.org", "example.net"]
STAFF_DOMAIN = "techmarket.example"
OPERATORS = ["50", "63", "66", "67", "68", "73", "93", "95", "96", "97", "98", "99"]


@dataclass(frozen=True)
class Persons:
    """One chunk of employees or customers: the columns, and what their accounts need of them."""

    columns: Columns
    emails: list[str]
    created_at: instants.Instants


def write_regions() -> int:
    opened = np.full(len(REGIONS), OPENED)
    rows: Columns = {"id": list(range(1, len(REGIONS) + 1)), "code": list(REGIONS), "name": list(REGIONS.values())}
    return insert(Region, stamped(rows, opened, opened))


def employees(seed: int, names: Names, count: int) -> Persons:
    """Employee i works in region (i - 1) % 5 + 1; the first half are managers, so that with ten every region has one."""
    rng = stream(seed, "employees")
    people = names.people(rng, count)
    ids = range(1, count + 1)
    emails = [f"{address}.{number}@{STAFF_DOMAIN}" for number, address in zip(ids, people.addresses, strict=True)]
    hired_at = np.datetime64("2019-03-01T07:00:00", "us") + (np.sort(rng.integers(0, 1_400, count)) * instants.DAY).astype(
        "timedelta64[us]"
    )
    rows: Columns = {
        "id": list(ids),
        "first_name": people.first_names,
        "last_name": people.last_names,
        "email": emails,
        "region_id": [(number - 1) % len(REGIONS) + 1 for number in ids],
        "hired_at": hired_at.astype("datetime64[D]").astype(str).tolist(),
        "is_manager": [int(number <= count // 2) for number in ids],
    }
    return Persons(stamped(rows, hired_at, hired_at), emails, hired_at)


def write_employees(persons: Persons) -> int:
    return insert(Employee, persons.columns)


def regions_of_customers(seed: int, count: int) -> Ints:
    """Region id by customer; the customer at position 0 has id 1."""
    return weighted(stream(seed, "regions"), REGION_PERCENTS, count) + 1


def registered_at(first: int, last: int, count: int) -> instants.Instants:
    """The first half came in the year before the first order, the others evenly over the two years, each a day before they may order."""
    old = count // 2
    positions = np.arange(first, last)
    early = positions * (360 * instants.DAY // old)
    late = 365 * instants.DAY + (positions - old) * (instants.DAYS * instants.DAY // (count - old)) - 4 * instants.DAY
    offsets = np.where(positions < old, early, late).astype("timedelta64[us]")
    return np.datetime64("2023-01-03T08:00:00", "us") + offsets


def known_customers(days: Ints, count: int) -> Ints:
    """How many customers are registered before each business day (0 to 730)."""
    old = count // 2
    return old + (count - old) * days // instants.DAYS


def customers(seed: int, names: Names, regions: Ints, first: int, last: int) -> Persons:
    rng = stream(seed, "customers", first)
    size = last - first
    people = names.people(rng, size)
    ids = range(first + 1, last + 1)
    domains = pick(CUSTOMER_DOMAINS, rng.integers(0, len(CUSTOMER_DOMAINS), size))
    emails = [f"{address}.{number}@{domain}" for address, number, domain in zip(people.addresses, ids, domains, strict=True)]
    created = instants.later(registered_at(first, last, len(regions)), rng.integers(0, 10 * instants.HOUR, size))
    rows: Columns = {
        "id": list(ids),
        "first_name": people.first_names,
        "last_name": people.last_names,
        "email": emails,
        "phone": phones(rng, size),
        "region_id": regions[first:last].tolist(),
    }
    return Persons(stamped(rows, created, instants.later(created, rng.integers(0, instants.MINUTE, size))), emails, created)


def write_customers(persons: Persons) -> int:
    return insert(Customer, persons.columns)


def phones(rng: np.random.Generator, size: int) -> list[str]:
    operators = pick(OPERATORS, rng.integers(0, len(OPERATORS), size))
    numbers = rng.integers(1_000_000, 10_000_000, size).tolist()
    return [f"+380 {operator} {n // 10_000} {n // 100 % 100:02d} {n % 100:02d}" for operator, n in zip(operators, numbers, strict=True)]
