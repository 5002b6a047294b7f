"""Which series go on beyond their data? CO₂ at Mauna Loa, airline passengers, sunspots.

Chapter: ``book/functional_bnn.ipynb``.
"""

import numpy as np
import pandas as pd
import torch

from nnlib.training import Dataset, Split
from tenpapers.data.images import FILES


def co2(horizon: float = 10.0) -> Dataset:
    """Monthly means of the weekly CO₂ concentration at Mauna Loa, March 1958 to December 2001, in ppm.

    Args:
        horizon: Years at the end that are for testing, more than 0 and less than 40.
    """
    weekly = pd.read_csv(FILES / "co2_weekly.csv", index_col=0, parse_dates=True)["co2"]
    monthly = weekly.resample("MS").mean().dropna()
    dates = pd.DatetimeIndex(monthly.index)
    years = dates.year + (dates.month - 0.5) / 12
    return _series(
        years.to_numpy(),
        monthly.to_numpy(),
        horizon,
        40.0,
        "CO₂ at Mauna Loa, monthly means of weekly values",
        "co2_weekly.csv",
        "public domain, C. D. Keeling and T. P. Whorf",
        "parts per million",
    )


def airline(horizon: float = 3.0) -> Dataset:
    """Monthly passengers of international airlines, 1949 to 1960, as the natural logarithm of thousands.

    Args:
        horizon: Years at the end that are for testing, more than 0 and less than 11.
    """
    frame = pd.read_csv(FILES / "airline_passengers.csv")
    date = pd.to_datetime(frame["month"])
    years = date.dt.year + (date.dt.month - 0.5) / 12
    return _series(
        years.to_numpy(),
        np.log(frame["passengers"].to_numpy(dtype=float)),
        horizon,
        11.0,
        "international airline passengers",
        "airline_passengers.csv",
        "published figures, G. E. P. Box and G. M. Jenkins, Time Series Analysis",
        "log of thousands a month",
    )


def sunspots(horizon: float = 50.0) -> Dataset:
    """Yearly mean number of sunspots, 1700 to 2008.

    Args:
        horizon: Years at the end that are for testing, more than 0 and less than 300.
    """
    frame = pd.read_csv(FILES / "sunspots_yearly.csv")
    return _series(
        frame["YEAR"].to_numpy(dtype=float),
        frame["SUNACTIVITY"].to_numpy(dtype=float),
        horizon,
        300.0,
        "yearly sunspot numbers",
        "sunspots_yearly.csv",
        "public domain, SIDC, Royal Observatory of Belgium",
        "sunspots",
    )


def _series(
    years: np.ndarray, values: np.ndarray, horizon: float, most: float, what: str, file: str, licence: str, unit: str
) -> Dataset:
    """The last years for testing, the same number before them for validation, in time's order."""
    if not 0 < horizon < most:
        raise ValueError(f"horizon must lie between 0 and {most:g} years: got {horizon}")
    x, y = torch.tensor(years)[:, None], torch.tensor(values)
    end = float(years[-1])
    test = x[:, 0] > end - horizon
    validation = (x[:, 0] > end - 1.5 * horizon) & ~test
    parts = [Split(x[rows].float(), y[rows].float()) for rows in (~test & ~validation, validation, test)]
    sizes = "/".join(f"{len(part.y):,}" for part in parts)
    return Dataset(
        *parts,
        info={"shape": (1,), "unit": unit, "scaling": "years and values as they are"},
        source=f"{what}, {years[0]:.0f} to {int(end)}, split in time {sizes}, from the package's {file}",
        licence=licence,
    )
