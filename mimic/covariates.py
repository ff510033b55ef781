"""Covariate definitions and fields on cells into one value for each row of (cell, time)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
import xarray as xr

from mimic.gridpoints import grid_of
from mimic.grids import open_field
from mimic.hexgrid import centroids
from mimic.regrid import Method, regrid_matrix, to_cells

__all__ = ["Covariate", "Join", "at", "coverage", "sample"]

Join = Literal["auto", "static", "climatology", "nearest", "previous", "linear"]

DEFAULT_GAP = 1.5
"""The largest gap of a time join, in median steps of the field, where the user gives none."""


@dataclass(frozen=True)
class Covariate:
    """Where a covariate comes from and how it reaches cells and times.

    Parameters
    ----------
    name
        What it is called as a feature.
    path, variable, crs, level
        The file and what to take from it, as for `mimic.grids.open_field`.
    unit
        For labels, as "degC".
    method
        How grid points become cells, as for `mimic.regrid.regrid_matrix`: "auto", "mean", "bilinear",
        "area", or "nearest" for categories.
    join
        How steps become times, as for `at`.
    max_gap
        The largest gap between a time and the step it takes, as "36h"; None for 1.5 steps of the field.
    missing
        What becomes of a choice without a value: "drop" it (with a line in the ledger), "error", or
        the number to fill in. `sample` keeps NaN; the policy is applied where choices are built.

    Raises
    ------
    TypeError, ValueError
        If an option is not one of those above.
    """

    name: str
    path: str | Path
    variable: str | None = None
    unit: str | None = None
    crs: str | None = None
    level: Mapping[str, Any] | None = None
    method: Method = "auto"
    join: Join = "auto"
    max_gap: pd.Timedelta | str | None = None
    missing: Literal["drop", "error"] | float = "drop"

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError("a covariate needs a name; got an empty one.")
        for option, value, allowed in (("method", self.method, Method), ("join", self.join, Join)):
            if value not in get_args(allowed):
                raise ValueError(
                    f"covariate {self.name}: {option} must be one of {', '.join(get_args(allowed))}; got {value}."
                )
        number = isinstance(self.missing, int | float) and not isinstance(self.missing, bool)
        if not (math.isfinite(self.missing) if number else self.missing in ("drop", "error")):  # type: ignore[arg-type]
            raise ValueError(
                f"covariate {self.name}: missing must be 'drop', 'error' or a finite number to fill in; "
                f"got {self.missing!r}."
            )
        object.__setattr__(self, "max_gap", _gap(self.max_gap, f"covariate {self.name}"))


def at(
    field_on_cells: xr.DataArray,
    cells: np.ndarray,
    times: np.ndarray | pd.Series | pd.DatetimeIndex | None = None,
    *,
    join: Join = "auto",
    max_gap: pd.Timedelta | str | None = None,
) -> np.ndarray:
    """The value of a field on cells at each row's cell and time: (row,), float32, NaN where there is none.

    Parameters
    ----------
    field_on_cells
        (time or month if any, cell), as `to_cells` returns it.
    cells
        (row,), H3 ids, each one of the field's.
    times
        (row,), naive UTC. Not needed for a field without steps.
    join
        "static": a field without steps, or with a single one, whatever the time. "climatology": the step
        of the time's month, from a `month` dim or a time axis of twelve steps in twelve months.
        "nearest": the nearest step, the earlier one of two. "previous": the last step at or before the
        time. "linear": between the two steps around the time; before the first and after the last step
        their value holds. "auto": "static" without steps, "climatology" for months, "nearest" for times.
    max_gap
        For the last three: NaN where the step taken ("linear": the nearer of the two) is farther from
        the time than this. None is 1.5 times the median step, which bridges two missing steps, not a hole.

    Raises
    ------
    ValueError
        If a cell is not in the field, the join does not suit the field's steps, or steps repeat.

    Notes
    -----
    Stamps are taken as they are. Monthly means are often stamped on the first of their month: there
    "previous" gives each time its own month, "nearest" the next month from the middle on.

    Example
    -------
    >>> daily = xr.DataArray([[1.0], [3.0]], {"time": pd.date_range("2020-01-01", periods=2), "cell": [7]})
    >>> times = np.array(["2020-01-01T06", "2020-01-09"], dtype="datetime64[ns]")
    >>> at(daily, np.array([7, 7]), times, join="linear")
    array([1.5, nan], dtype=float32)
    """
    cells = np.asarray(cells, dtype=np.int64)
    known = field_on_cells["cell"].to_numpy()
    order = np.argsort(known, kind="stable")
    position = np.searchsorted(known, cells, sorter=order)
    column = order[np.minimum(position, len(known) - 1)] if len(known) else position
    strange = cells[known[column] != cells] if len(known) else cells
    if len(strange):
        raise ValueError(
            f"{len(strange)} rows have cells the field is not on (e.g. {strange[0]}); put it on all cells."
        )
    row_step, unique_times = _factorize(times, len(cells))
    picks = _pick_steps(field_on_cells, unique_times, join, _gap(max_gap, "at"))
    values = field_on_cells.to_numpy()
    return _combine(values if values.ndim == 2 else values[None], picks, row_step, column)


def sample(
    covariate: Covariate,
    cells: np.ndarray,
    times: np.ndarray | pd.Series | pd.DatetimeIndex | None = None,
    *,
    allow_all_missing: bool = False,
) -> np.ndarray:
    """The covariate at each row's cell and time: (row,), float32, NaN where it has no value.

    Parameters
    ----------
    covariate
        Its definition. Its `missing` policy is not applied here.
    cells
        (row,), H3 ids of one resolution; repeats cost little: each distinct cell is regridded once, each
        distinct time joined once, and only the steps and the part of the grid they need are read.
    times
        (row,), naive UTC. Not needed for a field without steps.
    allow_all_missing
        Return even if no row has a value; for a few rows that may well lie on land.

    Raises
    ------
    ValueError
        If no row has a value (the message says whether space or time does not overlap), or the file or
        the join does not suit, as for `open_field` and `at`.
    """
    cells = np.asarray(cells, dtype=np.int64)
    if len(cells) == 0:
        return np.zeros(0, dtype=np.float32)
    column, unique_cells = pd.factorize(cells, sort=True)
    row_step, unique_times = _factorize(times, len(cells))
    options: dict[str, Any] = {"variable": covariate.variable, "crs": covariate.crs, "level": covariate.level}
    with closing(open_field(covariate.path, **options)) as field:
        try:
            max_gap = _gap(covariate.max_gap, covariate.name)
            picks = _pick_steps(field, unique_times, covariate.join, max_gap)
            needed = np.unique(np.concatenate([picks.low[picks.valid], picks.high[picks.valid]]))
            # from the first to the last where all are needed: files read a slice faster than a list
            is_run = len(needed) > 0 and needed[-1] - needed[0] + 1 == len(needed)
            taken = slice(int(needed[0]), int(needed[-1]) + 1) if is_run else needed
            part = field.isel({field.dims[0]: taken}) if field.ndim == 3 else field
            on_cells = to_cells(part, unique_cells, method=covariate.method).to_numpy()
        except ValueError as error:
            raise ValueError(f"covariate {covariate.name}: {error}") from error
        if field.ndim == 3:
            picks = picks.among(needed)
        values = _combine(on_cells.reshape(-1, len(unique_cells)), picks, row_step, column)
        if np.isnan(values).all() and not allow_all_missing:
            join, method = covariate.join, covariate.method
            story = coverage(field, unique_cells, unique_times, method=method, join=join, max_gap=max_gap)
            raise ValueError(f"covariate {covariate.name} has no value at any of the {len(cells):,} rows. {story}")
    return values


def coverage(
    field: xr.DataArray,
    cells: np.ndarray,
    times: np.ndarray | pd.Series | pd.DatetimeIndex | None = None,
    *,
    method: Method = "auto",
    join: Join = "auto",
    max_gap: pd.Timedelta | str | None = None,
) -> str:
    """How a field covers cells and times, in words: what does not overlap, then both extents.

    Parameters
    ----------
    field
        On its grid, as `open_field` returns it.
    cells, times, join, max_gap
        As for `at`; cells and times need not be of the same length.
    method
        As for `regrid_matrix`.
    """
    grid = grid_of(field)
    unique = np.unique(np.asarray(cells, dtype=np.int64))
    longitude, latitude = centroids(unique)
    inside = int(grid.covers(longitude, latitude).sum())
    x, y = grid.project(longitude, latitude)
    x_name, y_name = ("longitude", "latitude") if grid.crs is None else (f"x ({grid.crs})", "y")
    story = [
        f"{inside:,} of {len(unique):,} cells lie on the grid: it spans "
        f"{x_name} {_span(grid.columns.position)}, {y_name} {_span(grid.rows.position)}; "
        f"the cells {x_name} {_span(grid.columns.unwrap(x))}, {y_name} {_span(y)}."
    ]
    in_time = True
    if field.dims[0] == "time" and times is not None and len(times):
        wanted = _times(times)
        joined = int(_pick_steps(field, wanted, join, _gap(max_gap, "coverage")).valid.sum())
        in_time = joined > 0
        steps = field["time"].to_numpy()
        days = f"{_day(steps.min())} to {_day(steps.max())}" if steps.dtype.kind == "M" else f"{len(steps)} steps"
        story.append(
            f"{joined:,} of {len(wanted):,} times have a step near enough: the field runs from {days}; "
            f"the times from {_day(np.nanmin(wanted))} to {_day(np.nanmax(wanted))}."
        )
    if inside == 0 or not in_time:
        parts = [name for name, overlaps in (("space", inside > 0), ("time", in_time)) if not overlaps]
        return f"They do not overlap in {' nor in '.join(parts)}. " + " ".join(story)
    if not regrid_matrix(field, unique, method=method).nnz:
        return "The grid is coarser than the cells, and none holds a grid point: use method='auto'. " + " ".join(story)
    return "They overlap, but the field has only missing values there (land, sea or a mask?). " + " ".join(story)


# ---------------------------------------------------------------- joins in time


@dataclass(frozen=True, eq=False)
class _Picks:
    """For each time: the two steps it takes, the weight of the second, and whether it takes any; all (time,)."""

    low: np.ndarray
    high: np.ndarray
    weight: np.ndarray
    valid: np.ndarray

    def among(self, kept: np.ndarray) -> _Picks:
        """The same picks, counted over the steps that were kept (sorted)."""
        last = max(0, len(kept) - 1)
        low, high = (np.minimum(np.searchsorted(kept, i), last) for i in (self.low, self.high))
        return _Picks(low, high, self.weight, self.valid)


def _pick_steps(field: xr.DataArray, times: np.ndarray, join: Join, max_gap: pd.Timedelta | None) -> _Picks:
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
        return _Picks(zero, zero, np.zeros(len(times)), np.ones(len(times), dtype=bool))
    if len(times) == 1 and np.isnat(times[0]):
        raise ValueError(f"the field has {field.sizes[axis]} steps of {axis}; give the times of the rows.")
    if join == "climatology":
        return _pick_months(field, axis, times)
    if axis == "month":
        raise ValueError(f"the join {join} needs dates; the field has months: use join='climatology'.")
    return _pick_times(field, times, join, max_gap)


def _pick_months(field: xr.DataArray, axis: str, times: np.ndarray) -> _Picks:
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
    return _Picks(low, low, np.zeros(len(times)), step >= 0)


def _pick_times(field: xr.DataArray, times: np.ndarray, join: Join, max_gap: pd.Timedelta | None) -> _Picks:
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
    return _Picks(order[low], order[high], weight, valid & ~np.isnat(times))


def _combine(values: np.ndarray, picks: _Picks, row_step: np.ndarray, column: np.ndarray) -> np.ndarray:
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


# ---------------------------------------------------------------- times


def _times(times: np.ndarray | pd.Series | pd.DatetimeIndex) -> np.ndarray:
    index = pd.DatetimeIndex(times)
    if index.tz is not None:
        index = index.tz_convert("UTC").tz_localize(None)
    return index.to_numpy().astype("datetime64[ns]")


def _factorize(times: np.ndarray | pd.Series | pd.DatetimeIndex | None, n_rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Which distinct time each row has, and the distinct times; without times one NaT for all rows."""
    if times is None:
        return np.zeros(n_rows, dtype=np.int64), np.array(["NaT"], dtype="datetime64[ns]")
    stamps = _times(times)
    if stamps.shape != (n_rows,):
        raise ValueError(f"times must have one entry a row, ({n_rows},); got {stamps.shape}.")
    codes, unique = pd.factorize(stamps.astype(np.int64))
    return codes, unique.astype("datetime64[ns]")


def _month(times: np.ndarray) -> np.ndarray:
    return times.astype("datetime64[M]").astype(np.int64) % 12 + 1


def _gap(max_gap: pd.Timedelta | str | None, where: str) -> pd.Timedelta | None:
    if max_gap is None:
        return None
    try:
        gap = pd.Timedelta(max_gap)
    except (ValueError, TypeError):
        gap = pd.Timedelta("NaT")
    if not gap >= pd.Timedelta(0):
        raise ValueError(f"{where}: max_gap must be a duration such as '36h' or '10D'; got {max_gap!r}.")
    return gap


def _span(values: np.ndarray) -> str:
    finite = values[np.isfinite(values)]
    return f"{finite.min():g} to {finite.max():g}" if len(finite) else "outside the projection"


def _day(time: np.datetime64) -> str:
    return str(time.astype("datetime64[D]"))
