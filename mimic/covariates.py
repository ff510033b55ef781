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

from mimic.cube import cube_field, cube_variable, is_cube, open_cube
from mimic.gridpoints import grid_of
from mimic.grids import open_field
from mimic.hexgrid import centroids
from mimic.joins import Join, JoinedField, as_day, as_gap, as_times, combine, factorize_times, pick_steps
from mimic.regrid import Method, regrid_matrix, to_cells

__all__ = ["Covariate", "at", "coverage", "join", "nowhere", "sample"]


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
        object.__setattr__(self, "max_gap", as_gap(self.max_gap, f"covariate {self.name}"))


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
    row_step, unique_times = factorize_times(times, len(cells))
    picks = pick_steps(field_on_cells, unique_times, join, as_gap(max_gap, "at"))
    values = field_on_cells.to_numpy()
    return combine(values if values.ndim == 2 else values[None], picks, row_step, column)


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
    row_step, unique_times = factorize_times(times, len(cells))
    field = join(covariate, unique_cells, unique_times)
    values = field.at(column, row_step)
    if np.isnan(values).all() and not allow_all_missing:
        raise ValueError(nowhere(covariate, unique_cells, unique_times, len(cells)))
    return values


def join(covariate: Covariate, cells: np.ndarray, times: np.ndarray) -> JoinedField:
    """A covariate on distinct cells, joined to distinct times; only the steps and the part of the grid needed are read.

    Parameters
    ----------
    cells
        (cell,), H3 ids of one resolution, sorted and distinct.
    times
        (time,), datetime64[ns], distinct; one NaT where rows have no times.

    Raises
    ------
    ValueError
        As `sample`, but for a covariate without any value.
    """
    if is_cube(covariate.path):
        return _join_cube(covariate, cells, times)
    options: dict[str, Any] = {"variable": covariate.variable, "crs": covariate.crs, "level": covariate.level}
    with closing(open_field(covariate.path, **options)) as field:
        try:
            max_gap = as_gap(covariate.max_gap, covariate.name)
            picks = pick_steps(field, times, covariate.join, max_gap)
            needed = np.unique(np.concatenate([picks.low[picks.valid], picks.high[picks.valid]]))
            # from the first to the last where all are needed: files read a slice faster than a list
            is_run = len(needed) > 0 and needed[-1] - needed[0] + 1 == len(needed)
            taken = slice(int(needed[0]), int(needed[-1]) + 1) if is_run else needed
            part = field.isel({field.dims[0]: taken}) if field.ndim == 3 else field
            on_cells = to_cells(part, cells, method=covariate.method).to_numpy()
        except ValueError as error:
            raise ValueError(f"covariate {covariate.name}: {error}") from error
        if field.ndim == 3:
            picks = picks.among(needed)
    values = on_cells.reshape(-1, len(cells)).astype(np.float32, copy=False)
    return JoinedField(values, picks.low, picks.high, picks.weight, picks.valid)


def _join_cube(covariate: Covariate, cells: np.ndarray, times: np.ndarray) -> JoinedField:
    """As `join`, of a cube: its cells are taken as they are; cells outside it have no value."""
    if covariate.level is not None or covariate.crs is not None:
        raise ValueError(
            f"covariate {covariate.name}: a cube has neither levels nor a projection; leave level and crs out."
        )
    with open_cube(covariate.path) as cube:
        axis = {str(d): cube[d].variable for d in cube_variable(cube, covariate.variable, covariate.path).dims}
        field = xr.DataArray(np.zeros([v.size for v in axis.values()], dtype=bool), axis, tuple(axis))
    try:
        picks = pick_steps(field, times, covariate.join, as_gap(covariate.max_gap, covariate.name))
    except ValueError as error:
        raise ValueError(f"covariate {covariate.name}: {error}") from error
    used = np.concatenate([picks.low[picks.valid], picks.high[picks.valid]])
    steps = slice(int(used.min()), int(used.max()) + 1) if len(used) else slice(0, 0)
    on_cells = cube_field(covariate.path, covariate.variable, cells, steps=steps if field.ndim == 2 else None)
    if field.ndim == 2:
        picks = picks.among(np.arange(steps.start, steps.stop))
    values = on_cells.to_numpy().reshape(-1, len(cells)).astype(np.float32, copy=False)
    return JoinedField(values, picks.low, picks.high, picks.weight, picks.valid)


def nowhere(covariate: Covariate, cells: np.ndarray, times: np.ndarray, n_rows: int) -> str:
    """Why a covariate has no value at any of some cells and times, in words."""
    if is_cube(covariate.path):
        with open_cube(covariate.path) as cube:
            n_inside = int(np.isin(cells, cube["cell"].to_numpy()).sum())
            span = [as_day(cube["time"].to_numpy()[k]) for k in (0, -1)] if cube.sizes.get("time") else []
        story = f"{n_inside:,} of {len(cells):,} cells are in the cube"
        story += f", which runs from {' to '.join(span)}; the times from " if span else "."
        story += f"{as_day(np.nanmin(times))} to {as_day(np.nanmax(times))}." if span else ""
        return f"covariate {covariate.name} has no value at any of the {n_rows:,} rows. {story}"
    options: dict[str, Any] = {"variable": covariate.variable, "crs": covariate.crs, "level": covariate.level}
    max_gap = as_gap(covariate.max_gap, covariate.name)
    with closing(open_field(covariate.path, **options)) as field:
        story = coverage(field, cells, times, method=covariate.method, join=covariate.join, max_gap=max_gap)
    return f"covariate {covariate.name} has no value at any of the {n_rows:,} rows. {story}"


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
        wanted = as_times(times)
        joined = int(pick_steps(field, wanted, join, as_gap(max_gap, "coverage")).valid.sum())
        in_time = joined > 0
        steps = field["time"].to_numpy()
        days = f"{as_day(steps.min())} to {as_day(steps.max())}" if steps.dtype.kind == "M" else f"{len(steps)} steps"
        story.append(
            f"{joined:,} of {len(wanted):,} times have a step near enough: the field runs from {days}; "
            f"the times from {as_day(np.nanmin(wanted))} to {as_day(np.nanmax(wanted))}."
        )
    if inside == 0 or not in_time:
        parts = [name for name, overlaps in (("space", inside > 0), ("time", in_time)) if not overlaps]
        return f"They do not overlap in {' nor in '.join(parts)}. " + " ".join(story)
    if not regrid_matrix(field, unique, method=method).nnz:
        return "The grid is coarser than the cells, and none holds a grid point: use method='auto'. " + " ".join(story)
    return "They overlap, but the field has only missing values there (land, sea or a mask?). " + " ".join(story)


def _span(values: np.ndarray) -> str:
    finite = values[np.isfinite(values)]
    return f"{finite.min():g} to {finite.max():g}" if len(finite) else "outside the projection"
