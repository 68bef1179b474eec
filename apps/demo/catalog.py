"""The catalog of the demo shop: 14 categories, 25 products, and variants of these products for a large shop."""

from dataclasses import dataclass

import numpy as np

from apps.demo.bulk import CHUNK, Columns, insert_rows, with_timestamps
from apps.demo.money import format_money
from apps.demo.randomness import Ints, make_rng
from apps.demo.timestamps import MINUTE, SECOND, add_microseconds
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
# Name, SKU, category, price in kopiykas. Every price is a multiple of 20 kopiykas, so that 5 % of it is a whole number.
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
MIN_PRICE, MAX_PRICE = 1_299, 89_999  # hryvnias
OPENED_AT = np.datetime64("2023-01-02T07:00:00", "us")


@dataclass(frozen=True)
class Catalog:
    """Prices and costs in kopiykas by position; the product at position 0 has id 1."""

    prices: Ints
    costs: Ints


def make_catalog(seed: int, count: int) -> Catalog:
    """Make `count` products: the 25 of the list at its prices, then variants up to 15 % dearer or cheaper, in whole hryvnias."""
    rng = make_rng(seed, "catalog")
    base = np.array([price for *_, price in PRODUCTS], dtype=np.int64)
    prices = base[np.arange(count) % len(PRODUCTS)]
    variants = np.clip(prices * rng.integers(85, 116, count) // 10_000, MIN_PRICE, MAX_PRICE) * 100
    prices = np.where(np.arange(count) < len(PRODUCTS), prices, variants)
    return Catalog(prices, prices * rng.integers(690, 840, count) // 1_000 + 1)


def write_catalog(catalog: Catalog) -> dict[str, int]:
    """Insert categories and products; return the rows by table."""
    names = list(CATEGORY_ID)
    parents = [None] * len(ROOTS) + list(CHILDREN.values())
    opened_at = np.full(len(names), OPENED_AT)
    rows: Columns = {"id": list(range(1, len(names) + 1)), "name": names, "parent_id": parents}
    return {
        "categories": insert_rows(Category, with_timestamps(rows, opened_at, opened_at)),
        "products": sum(
            insert_rows(Product, product_columns(catalog, first, min(first + CHUNK, len(catalog.prices))))
            for first in range(0, len(catalog.prices), CHUNK)
        ),
    }


def product_columns(catalog: Catalog, first: int, last: int) -> Columns:
    positions = list(range(first, last))
    models = [PRODUCTS[position % len(PRODUCTS)] for position in positions]
    variants = [position // len(PRODUCTS) for position in positions]
    added = add_microseconds(np.full(len(positions), OPENED_AT), np.arange(first, last) * SECOND)
    rows: Columns = {
        "id": [position + 1 for position in positions],
        "name": [f"{name}, версія {variant + 1}" if variant else name for (name, *_), variant in zip(models, variants, strict=True)],
        "sku": [f"{sku}-{variant + 1:04d}" if variant else sku for (_, sku, *_), variant in zip(models, variants, strict=True)],
        "category_id": [CATEGORY_ID[category] for _, _, category, _ in models],
        "price": format_money(catalog.prices[first:last]),
        "cost": format_money(catalog.costs[first:last]),
        # One product in twelve is no longer sold; its old orders stay.
        "status": [ProductStatus.INACTIVE.value if position % 12 == 11 else ProductStatus.ACTIVE.value for position in positions],
    }
    return with_timestamps(rows, added, add_microseconds(added, np.full(len(positions), MINUTE)))
