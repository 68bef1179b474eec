"""Dates of the shop's calendar."""

from typing import Any

import pandas as pd


def shop_dates(instants: Any, zone: str) -> Any:
    """Return the calendar day in the shop's time zone of naive UTC instants; right on both days when the clocks change."""
    return pd.DatetimeIndex(instants).tz_localize("UTC").tz_convert(zone).tz_localize(None).to_numpy().astype("datetime64[D]")
