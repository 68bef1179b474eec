"""Clean batches into the warehouse: COPY to staging, set-based merge, checks, and one row of etl_load, in one transaction."""

from apps.etl.load.publish import Published, PublishRequest, publish

__all__ = ["PublishRequest", "Published", "publish"]
