"""Names of files and bands into the times of their fields, by patterns such as "lst_%Y%m%d.tif"."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

__all__ = ["name_stamp", "with_band_times"]

_DIGITS = {"%Y": r"\d{4}", "%y": r"\d{2}", "%m": r"\d{2}", "%d": r"\d{2}", "%H": r"\d{2}", "%M": r"\d{2}"}
_DIGITS |= {"%S": r"\d{2}", "%j": r"\d{3}", "%b": r"[A-Za-z]{3}", "%B": r"[A-Za-z]+"}


def name_stamp(name: str, pattern: str) -> np.datetime64 | int:
    """The time in a name, or the month, 1 to 12, where the pattern has a month but no year.

    Parameters
    ----------
    name
        Of a file, without its folder, or a band's description.
    pattern
        As `strptime` writes dates, `*` for anything; it must fit the whole name.

    Raises
    ------
    ValueError
        If the pattern has no date, or does not fit the name.

    Example
    -------
    >>> str(name_stamp("lst_20200131_v2.tif", "lst_%Y%m%d*.tif")), name_stamp("tavg_07.tif", "tavg_%m.tif")
    ('2020-01-31T00:00:00.000000000', 7)
    """
    parts = re.findall(r"%.|\*|[^%*]+", pattern)
    codes = [part for part in parts if part.startswith("%")]
    unknown = [code for code in codes if code not in _DIGITS]
    if unknown or not codes:
        raise ValueError(
            f"a pattern of times needs a date of {', '.join(_DIGITS)}, such as lst_%Y%m%d.tif; got {pattern!r}."
        )
    regex = "".join(f"({_DIGITS[p]})" if p in codes else ".*" if p == "*" else re.escape(p) for p in parts)
    match = re.fullmatch(regex, name)
    if match is None:
        raise ValueError(f"the pattern {pattern} does not fit {name!r}; write it for the whole name, * for anything.")
    try:
        moment = datetime.strptime(" ".join(match.groups()), " ".join(codes))
    except ValueError as error:
        raise ValueError(f"{name!r} by the pattern {pattern} has no such date: {error}.") from None
    if "%Y" in codes or "%y" in codes:
        return np.datetime64(moment, "ns")
    return moment.month


def with_band_times(dataset: xr.Dataset, times: str | Sequence[str], where: str) -> xr.Dataset:
    """A raster whose bands are steps, as a dataset with these steps.

    Parameters
    ----------
    dataset
        With a dimension `band`.
    times
        "month" for twelve bands, January first; (start, step) such as ("2020-01-01", "24h"); or a pattern, as for
        `name_stamp`, of the bands' descriptions.
    where
        What to call the file in messages.

    Raises
    ------
    ValueError
        If there are no bands, not twelve, or their descriptions do not fit the pattern.
    """
    if "band" not in dataset.sizes:
        raise ValueError(
            f"{where}: band_times needs a raster with bands; its dims are {', '.join(map(str, dataset.sizes))}."
        )
    n = dataset.sizes["band"]
    if times == "month":
        if n != 12:
            raise ValueError(f"{where}: band_times month needs twelve bands, January first; there are {n}.")
        return _renamed(dataset, "month", np.arange(1, 13))
    if not isinstance(times, str):
        steps = pd.date_range(pd.Timestamp(times[0]), periods=n, freq=pd.Timedelta(times[1]))
        return _renamed(dataset, "time", steps.to_numpy().astype("datetime64[ns]"))
    described: Any = next((v.attrs.get("long_name") for v in dataset.data_vars.values()), None)
    labels = [described] if isinstance(described, str) else list(described or ())
    if len(labels) != n:
        raise ValueError(
            f"{where}: its {n} bands have no descriptions to read times from; give band_times: [start, step]."
        )
    stamps = [name_stamp(str(label), times) for label in labels]
    return _renamed(dataset, "month" if isinstance(stamps[0], int) else "time", np.array(stamps))


def _renamed(dataset: xr.Dataset, dim: str, values: np.ndarray) -> xr.Dataset:
    return dataset.drop_vars("band", errors="ignore").rename(band=dim).assign_coords({dim: values})
