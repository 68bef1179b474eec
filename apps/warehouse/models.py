"""dwh: the star schema of sales: what was sold, when, where, to whom and by whom.

The app's label is the database alias. The database is PostgreSQL 15 or SQLite.
"""

from apps.warehouse.dimensions import DimCategory, DimCustomer, DimDate, DimEmployee, DimProduct, DimRegion
from apps.warehouse.facts import FactSales, LineCost
from apps.warehouse.fingerprints import OrderFingerprint, Segment
from apps.warehouse.loads import Load
from apps.warehouse.prepared import Prepared, ReservedKey

__all__ = [
    "DimCategory",
    "DimCustomer",
    "DimDate",
    "DimEmployee",
    "DimProduct",
    "DimRegion",
    "FactSales",
    "LineCost",
    "Load",
    "OrderFingerprint",
    "Prepared",
    "ReservedKey",
    "Segment",
]
