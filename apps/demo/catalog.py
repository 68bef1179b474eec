"""What the demo shop sells: 14 categories, 25 products, and variants of them for a large shop."""

from dataclasses import dataclass

import numpy as np

from apps.demo import instants, money
from apps.demo.draw import Ints, stream
from apps.demo.write import CHUNK, Columns, insert, stamped
from apps.sources.catalog.models import Category, Product, ProductStatus

ROOTS = ["Ноутбуки та комп'ютери", "Смартфони та планшети", "Периферія", "Аксесуари", "Аудіо та відео", "Мережеве обладнання"]
CHILDREN = {
    "Ноутбуки": 1,
    "Настільні ПК": 1,
    "Моноблоки": 1,
    "Смартфони": 2,
    "Планшети": 2,
    "Миші": 3,
    "Клавіатури": 3,
    "Монітори": 3,
}
CATEGORY_ID = {name: number for number, name in enumerate([*ROOTS, *CHILDREN], start=1)}
# Name, sku, category, price in kopiykas. Every price is a multiple of 20 kopiykas: 5 % of it is a whole number of them.
PRODUCTS = [
    ("Ноутбук Lenovo IdeaPad 5 16", "NB-LEN-IP5", "Ноутбуки", 32_999_00),
    ("Смартфон Samsung Galaxy A56", "SM-SAM-A56", "Смартфони", 18_499_00),
    ("Миша Logitech M720", "MS-LOG-M720", "Миші", 1_899_60),
    ("Навушники Sony WH-CH720N", "AU-SON-CH720", "Аудіо та відео", 4_799_00),
    ("Монітор Dell S2725QS 27", "MN-DEL-S27", "Монітори", 14_299_00),
    ("Зарядний пристрій Baseus 65W", "AC-BAS-65W", "Аксесуари", 1_299_00),
    ("Клавіатура Keychron K2", "KB-KEY-K2", "Клавіатури", 4_199_80),
    ("Маршрутизатор TP-Link Archer AX55", "NW-TPL-AX55", "Мережеве обладнання", 4_299_00),
    ("Ноутбук Apple MacBook Air 13", "NB-APL-AIR13", "Ноутбуки", 54_999_00),
    ("Смартфон Apple iPhone 16", "SM-APL-IP16", "Смартфони", 42_999_00),
    ("Планшет Samsung Galaxy Tab S9", "TB-SAM-S9", "Планшети", 27_499_00),
    ("Миша Razer DeathAdder V3", "MS-RAZ-DA3", "Миші", 3_099_00),
    ("Рюкзак для ноутбука Thule 15.6", "AC-THU-156", "Аксесуари", 3_499_40),
    ("Настільний ПК ARTLINE Gaming X57", "PC-ART-X57", "Настільні ПК", 48_999_00),
    ("Акустика JBL Charge 6", "AU-JBL-CH6", "Аудіо та відео", 6_999_00),
    ("Комутатор MikroTik CSS610", "NW-MIK-610", "Мережеве обладнання", 5_299_20),
    ("Ноутбук ASUS ROG Strix G16", "NB-ASU-G16", "Ноутбуки", 89_999_00),
    ("Смартфон Xiaomi Redmi Note 14", "SM-XIA-RN14", "Смартфони", 9_499_00),
    ("Монітор LG UltraGear 32", "MN-LGE-UG32", "Монітори", 21_999_00),
    ("Моноблок HP ProOne 440", "AI-HP-440", "Моноблоки", 36_799_00),
    ("Планшет Apple iPad 11", "TB-APL-IP11", "Планшети", 19_999_00),
    ("Клавіатура Logitech MX Keys", "KB-LOG-MXK", "Клавіатури", 5_499_00),
    ("Настільний ПК Dell OptiPlex 7020", "PC-DEL-7020", "Настільні ПК", 29_399_00),
    ("Моноблок Lenovo IdeaCentre 27", "AI-LEN-IC27", "Моноблоки", 41_299_00),
    ("Вебкамера Logitech Brio 500", "AU-LOG-BR500", "Аудіо та відео", 5_199_00),
]
LOWEST, HIGHEST = 1_299, 89_999  # hryvnias
OPENED = np.datetime64("2023-01-02T07:00:00", "us")


@dataclass(frozen=True)
class Catalog:
    """The prices that orders take, in kopiykas by product; the product at position 0 has id 1."""

    prices: Ints
    costs: Ints


def make(seed: int, count: int) -> Catalog:
    """The first 25 cost what the list says; a variant up to 15 % more or less, in whole hryvnias."""
    rng = stream(seed, "catalog")
    base = np.array([price for *_, price in PRODUCTS], dtype=np.int64)
    prices = base[np.arange(count) % len(PRODUCTS)]
    variants = np.clip(prices * rng.integers(85, 116, count) // 10_000, LOWEST, HIGHEST) * 100
    prices = np.where(np.arange(count) < len(PRODUCTS), prices, variants)
    return Catalog(prices, prices * rng.integers(690, 840, count) // 1_000 + 1)


def write(catalog: Catalog) -> dict[str, int]:
    names = list(CATEGORY_ID)
    parents = [None] * len(ROOTS) + list(CHILDREN.values())
    opened = np.full(len(names), OPENED)
    rows: Columns = {"id": list(range(1, len(names) + 1)), "name": names, "parent_id": parents}
    return {
        "categories": insert(Category, stamped(rows, opened, opened)),
        "products": sum(
            insert(Product, products(catalog, first, min(first + CHUNK, len(catalog.prices))))
            for first in range(0, len(catalog.prices), CHUNK)
        ),
    }


def products(catalog: Catalog, first: int, last: int) -> Columns:
    positions = list(range(first, last))
    models = [PRODUCTS[position % len(PRODUCTS)] for position in positions]
    variants = [position // len(PRODUCTS) for position in positions]
    added = instants.later(np.full(len(positions), OPENED), np.arange(first, last) * instants.SECOND)
    rows: Columns = {
        "id": [position + 1 for position in positions],
        "name": [f"{name}, версія {variant + 1}" if variant else name for (name, *_), variant in zip(models, variants, strict=True)],
        "sku": [f"{sku}-{variant + 1:04d}" if variant else sku for (_, sku, *_), variant in zip(models, variants, strict=True)],
        "category_id": [CATEGORY_ID[category] for _, _, category, _ in models],
        "price": money.written(catalog.prices[first:last]),
        "cost": money.written(catalog.costs[first:last]),
        # One in twelve is no longer sold; its old orders stay.
        "status": [ProductStatus.INACTIVE.value if position % 12 == 11 else ProductStatus.ACTIVE.value for position in positions],
    }
    return stamped(rows, added, instants.later(added, np.full(len(positions), instants.MINUTE)))
