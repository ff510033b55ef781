"""Steps of a field to times: which steps each time takes, and the values of a field on cells at any cell and time."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

import numpy as np
import pandas as pd
import xarray as xr

__all__ = ["Join", "JoinedField", "Picks", "as_day", "as_gap", "as_times", "combine", "factorize_times", "pick_steps"]

Join = Literal["auto", "static", "climatology", "nearest", "previous", "linear"]

_BLOCK = 4_000_000  # values looked through at once

DEFAULT_GAP = 1.5
"""The largest gap of a time join, in median steps of the field, where the user gives none."""


@dataclass(frozen=True, eq=False)
class JoinedField:
    """A covariate on cells, joined to times: what it takes to give its value at any of these cells and times.

    Parameters
    ----------
    values
        (step, cell), float32, in the order of the cells it was made for.
    low, high, weight, valid
        (time,): the two steps that a time takes, the weight of the second, and whether it takes any.
    """

    values: np.ndarray
    low: np.ndarray
    high: np.ndarray
    weight: np.ndarray
    valid: np.ndarray

    @staticmethod
    def static(values: np.ndarray, n_times: int) -> JoinedField:
        """Of one value a cell, (cell,), whatever the time."""
        zero = np.zeros(n_times, dtype=np.int64)
        return JoinedField(
            np.asarray(values, dtype=np.float32)[None], zero, zero, np.zeros(n_times), np.ones(n_times, dtype=bool)
        )

    @staticmethod
    def nowhere(n_cells: int, n_times: int) -> JoinedField:
        """Without a value at any cell and time."""
        zero = np.zeros(n_times, dtype=np.int64)
        return JoinedField(
            np.zeros((0, n_cells), dtype=np.float32), zero, zero, np.zeros(n_times), np.zeros(n_times, dtype=bool)
        )

    def takes_steps_of(self, other: JoinedField, times: np.ndarray) -> bool:
        """Whether both take the same steps, with the same weights, at some of the times, (time,), bool."""
        return len(self.values) == len(other.values) and all(
            np.array_equal(getattr(self, part)[times], getattr(other, part)[times])
            for part in ("low", "high", "weight")
        )

    @cached_property
    def is_plain(self) -> bool:
        """Whether every time takes the value of one step."""
        return bool(self.valid.all()) and not self.weight.any() and bool(len(self.values))

    @cached_property
    def constant_gaps(self) -> np.ndarray | None:
        """Which cells have no value at any time, (cell,), bool, where all others always have one; else None.

        A coast does not move: what is missing can then be told once for each cell.
        """
        if not self.is_plain:
            return None
        gaps = np.isnan(self.values[0])
        size = max(1, _BLOCK // max(1, len(gaps)))
        blocks = (self.values[first : first + size] for first in range(0, len(self.values), size))
        return gaps if all(bool((np.isnan(block) == gaps).all()) for block in blocks) else None

    @cached_property
    def steps_digest(self) -> bytes:
        """The same for fields of as many cells whose times take the same steps."""
        return hashlib.blake2b(np.int64(self.values.shape[1]).tobytes() + self.low.tobytes(), digest_size=16).digest()

    def at(self, cell: np.ndarray, time: np.ndarray) -> np.ndarray:
        """The value at each row's cell and time, both positions (row,): (row,), float32, NaN where there is none."""
        if self.is_plain:
            if len(self.values) == 1:
                return self.values[0].take(cell)
            return self.values.ravel().take(self.low[time] * self.values.shape[1] + cell)
        return combine(self.values, Picks(self.low, self.high, self.weight, self.valid), time, cell)


@dataclass(frozen=True, eq=False)
class Picks:
    """For each time: the two steps it takes, the weight of the second, and whether it takes any; all (time,)."""

    low: np.ndarray
    high: np.ndarray
    weight: np.ndarray
    valid: np.ndarray

    def among(self, kept: np.ndarray) -> Picks:
        """The same picks, counted over the steps that were kept (sorted)."""
        last = max(0, len(kept) - 1)
        low, high = (np.minimum(np.searchsorted(kept, i), last) for i in (self.low, self.high))
        return Picks(low, high, self.weight, self.valid)


def pick_steps(field: xr.DataArray, times: np.ndarray, join: Join, max_gap: pd.Timedelta | None) -> Picks:
    """The steps of a field (grid or cells) for distinct times."""
    if join not in get_args(Join):
        raise ValueError(f"join must be one of {', '.join(get_args(Join))}; got {join}.")
    axis = next((d for d in ("time", "month") if d in field.dims), None)
    if join == "auto":
        join = "nearest" if axis == "time" else "climatology" if axis == "month" else "static"
    zero = np.zeros(len(times), dtype=np.int64)
    if axis is None or join == "static":
        if join != "static" or (axis is not None and field.sizes[axis] > 1):
            steps = "no steps in time" if axis is None else f"{field.sizes[axis]} steps of {axis}"
            raise ValueError(f"the join {join} does not suit a field with {steps}; use join='auto'.")
        return Picks(zero, zero, np.zeros(len(times)), np.ones(len(times), dtype=bool))
    if len(times) == 1 and np.isnat(times[0]):
        raise ValueError(f"the field has {field.sizes[axis]} steps of {axis}; give the times of the rows.")
    if join == "climatology":
        return _pick_months(field, axis, times)
    if axis == "month":
        raise ValueError(f"the join {join} needs dates; the field has months: use join='climatology'.")
    return _pick_times(field, times, join, max_gap)


def _pick_months(field: xr.DataArray, axis: str, times: np.ndarray) -> Picks:
    steps = field[axis].to_numpy()
    months = steps if axis == "month" else _month(steps) if steps.dtype.kind == "M" else np.arange(1, len(steps) + 1)
    if axis == "time" and sorted(months.tolist()) != list(range(1, 13)):
        raise ValueError(
            f"the join climatology needs twelve steps in twelve months; the time axis has {len(steps)}. "
            "Average it by month first, or use join='nearest'."
        )
    step_of_month = np.full(13, -1)
    step_of_month[months] = np.arange(len(months))
    step = np.where(np.isnat(times), -1, step_of_month[np.where(np.isnat(times), 0, _month(times))])
    low = np.maximum(step, 0)
    return Picks(low, low, np.zeros(len(times)), step >= 0)


def _pick_times(field: xr.DataArray, times: np.ndarray, join: Join, max_gap: pd.Timedelta | None) -> Picks:
    steps = field["time"].to_numpy()
    if steps.dtype.kind != "M":
        units = ", ".join(f"{k} {v}" for k, v in field["time"].attrs.items()) or "no units"
        raise ValueError(
            f"the time axis is not in dates ({units}): only the join climatology can use it. "
            "Rewrite the file with 'days since ...' in the standard calendar."
        )
    order = np.argsort(steps, kind="stable")
    stamps = steps[order].astype("datetime64[ns]").astype(np.int64)
    repeated = np.flatnonzero(np.diff(stamps) == 0)
    if len(repeated):
        raise ValueError(f"the time axis repeats {len(repeated)} steps (e.g. {steps[order[repeated[0]]]}); drop them.")
    if max_gap is None and len(stamps) == 1:
        raise ValueError(
            "the field has a single time step: use join='static', or say how far it reaches with max_gap=."
        )
    gap = int(DEFAULT_GAP * np.median(np.diff(stamps))) if max_gap is None else max_gap.as_unit("ns").value
    wanted = times.astype(np.int64)
    before = np.searchsorted(stamps, wanted, side="right") - 1
    low, high = np.maximum(before, 0), np.minimum(before + 1, len(stamps) - 1)
    # NaT is the smallest int64: its differences would overflow
    safe = np.where(np.isnat(times), stamps[0], wanted)
    to_low, to_high = np.abs(safe - stamps[low]), np.abs(stamps[high] - safe)
    nearest = np.where(to_low <= to_high, low, high)
    weight = np.zeros(len(times))
    valid = np.minimum(to_low, to_high) <= gap
    if join == "previous":
        high, valid = low, (before >= 0) & (to_low <= gap)
    elif join == "nearest":
        low = high = nearest
    else:
        width = stamps[high] - stamps[low]
        weight = np.where(width > 0, to_low / np.maximum(width, 1), 0.0)
        weight[before < 0] = 0.0
    return Picks(order[low], order[high], weight, valid & ~np.isnat(times))


def combine(values: np.ndarray, picks: Picks, row_step: np.ndarray, column: np.ndarray) -> np.ndarray:
    """(step, cell) values at each row's time and column: (row,), float32."""
    if values.shape[0] == 0:  # no time has a step
        return np.full(len(column), np.nan, dtype=np.float32)
    result = values[picks.low[row_step], column].astype(np.float32)
    weight = picks.weight[row_step]
    between = np.flatnonzero(weight > 0)
    if len(between):
        upper = values[picks.high[row_step[between]], column[between]]
        lower = values[picks.low[row_step[between]], column[between]]
        result[between] = lower + weight[between] * (upper - lower)
    result[~picks.valid[row_step]] = np.nan
    return result


def as_times(times: np.ndarray | pd.Series | pd.DatetimeIndex) -> np.ndarray:
    index = pd.DatetimeIndex(times)
    if index.tz is not None:
        index = index.tz_convert("UTC").tz_localize(None)
    return index.to_numpy().astype("datetime64[ns]")


def factorize_times(
    times: np.ndarray | pd.Series | pd.DatetimeIndex | None, n_rows: int
) -> tuple[np.ndarray, np.ndarray]:
    """Which distinct time each row has, and the distinct times; without times one NaT for all rows."""
    if times is None:
        return np.zeros(n_rows, dtype=np.int64), np.array(["NaT"], dtype="datetime64[ns]")
    stamps = as_times(times)
    if stamps.shape != (n_rows,):
        raise ValueError(f"times must have one entry a row, ({n_rows},); got {stamps.shape}.")
    codes, unique = pd.factorize(stamps.astype(np.int64))
    return codes, unique.astype("datetime64[ns]")


def _month(times: np.ndarray) -> np.ndarray:
    return times.astype("datetime64[M]").astype(np.int64) % 12 + 1


def as_gap(max_gap: pd.Timedelta | str | None, where: str) -> pd.Timedelta | None:
    if max_gap is None:
        return None
    try:
        gap = pd.Timedelta(max_gap)
    except (ValueError, TypeError):
        gap = pd.Timedelta("NaT")
    if not gap >= pd.Timedelta(0):
        raise ValueError(f"{where}: max_gap must be a duration such as '36h' or '10D'; got {max_gap!r}.")
    return gap


def as_day(time: np.datetime64) -> str:
    return str(time.astype("datetime64[D]"))
