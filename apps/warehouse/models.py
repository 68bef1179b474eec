"""dwh: the star; what was sold, when, where, to whom and through whom.

The label is that of its alias: PostgreSQL 15 or SQLite.
"""

from apps.warehouse.dimensions import DimCategory, DimCustomer, DimDate, DimEmployee, DimProduct, DimRegion
from apps.warehouse.facts import FactSales
from apps.warehouse.loads import Load

__all__ = ["DimCategory", "DimCustomer", "DimDate", "DimEmployee", "DimProduct", "DimRegion", "FactSales", "Load"]
