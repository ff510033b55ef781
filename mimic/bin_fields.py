"""Gridded fields into what bins need of them: values at the middle of each bin, and how far bins reach at a place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import xarray as xr

from mimic.choices import Source
from mimic.covariates import Covariate, sample
from mimic.hexgrid import disks

__all__ = ["BinField", "Limit", "MissingAtBin", "between_levels", "read_levels"]

MissingAtBin = Literal["drop", "error", "above"] | float


@dataclass(frozen=True, eq=False)
class Limit:
    """How far bins reach at a place: the largest value of a source times a factor in the cells around.

    Parameters
    ----------
    source
        Such as the elevation.
    multiply
        Such as -1: an elevation of -300 m is a depth of 300 m.
    rings
        0: the value of the origin's cell. 1 and more: the largest among the cells so many steps around, because the
        position of a tag without GPS is uncertain: an animal that dived deeper than its cell was beside it.
    """

    source: Source
    multiply: float = 1.0
    rings: int = 1

    @property
    def name(self) -> str:
        return self.source.name

    def at(self, cells: np.ndarray, times: np.ndarray) -> np.ndarray:
        """(decision,) cells and times -> (decision,), NaN where no cell around has a value."""
        if len(cells) == 0:
            return np.zeros(0)
        unique, inverse = np.unique(cells, return_inverse=True)
        around, offsets = disks(unique, self.rings)
        counts = np.diff(offsets)[inverse]
        starts = np.concatenate([[0], np.cumsum(counts)])
        rows = np.arange(starts[-1]) + np.repeat(offsets[:-1][inverse] - starts[:-1], counts)
        values = self.multiply * np.asarray(
            self.source.sample(around[rows], np.repeat(times, counts)), dtype=np.float64
        )
        largest = np.maximum.reduceat(np.where(np.isnan(values), -np.inf, values), starts[:-1])
        return np.where(np.isinf(largest), np.nan, largest)


@dataclass(frozen=True, eq=False)
class BinField:
    """A covariate with an axis of the bins' quantity, such as the temperature at depth.

    Parameters
    ----------
    covariate
        Where it comes from; its `level` must not name the axis.
    axis
        The dimension of the file along which bins lie, such as "depth", in the bins' unit.
    levels
        Its values in the file, ascending (see `read_levels`).
    missing
        What happens to a bin without a value: "drop" it, "error", a number to fill in, or "above": the value of the
        nearest bin before it that has one, for a coarse grid whose sea floor lies above the real one.
    """

    covariate: Covariate
    axis: str
    levels: tuple[float, ...]
    missing: MissingAtBin = "drop"

    @property
    def name(self) -> str:
        return self.covariate.name

    @property
    def unit(self) -> str:
        return self.covariate.unit or "1"

    def at(self, cells: np.ndarray, times: np.ndarray, values: np.ndarray) -> np.ndarray:
        """The field at each decision's cell and time, at values of its axis: (decision, value), NaN where it has none.

        Linear between the levels around a value; NaN beyond the first and the last level, and where a level that
        has weight has no value.
        """
        low, high, weight = between_levels(np.asarray(values, dtype=np.float64), np.array(self.levels))
        needed = np.unique(np.concatenate([low[weight < 1], high[weight > 0]]))
        on_level = {int(k): self._level(int(k), cells, times) for k in needed}
        nothing = np.full(len(cells), np.nan)
        columns = []
        for a, b, w in zip(low.tolist(), high.tolist(), weight.tolist(), strict=True):
            if np.isnan(w):
                columns.append(nothing)
            else:
                columns.append(
                    on_level[a] if w == 0 else on_level[b] if w == 1 else (1 - w) * on_level[a] + w * on_level[b]
                )
        return np.column_stack(columns)

    def _level(self, k: int, cells: np.ndarray, times: np.ndarray) -> np.ndarray:
        level = {**(self.covariate.level or {}), self.axis: self.levels[k]}
        covariate = replace(self.covariate, level=level)
        return sample(covariate, cells, times, allow_all_missing=True).astype(np.float64)

    def filled(self, table: np.ndarray, allowed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Values (decision, first edge and bins) with the policy for missing ones, and which bins were filled.

        `allowed` is (decision, bin): only these bins are counted, and only they can be an error.
        """
        absent = np.isnan(table)
        if self.missing == "drop" or not absent.any():
            return table, np.zeros_like(allowed)
        if self.missing == "error":
            bad = (absent[:, 1:] | absent[:, :1]) & allowed
            if bad.any():
                raise ValueError(
                    f"{self.name} has no value for {bad.sum():,} of {allowed.sum():,} bins. Set missing: drop to leave "
                    "these out, missing: above to take the value of the bin above, or missing: <number> to fill them."
                )
            return table, np.zeros_like(allowed)
        if self.missing == "above":
            source = np.maximum.accumulate(np.where(absent, 0, np.arange(table.shape[1])), axis=1)
            table = np.take_along_axis(table, source, axis=1)
        else:
            table = np.where(absent, float(self.missing), table)
        return table, absent[:, 1:] & ~np.isnan(table[:, 1:]) & allowed


def between_levels(values: np.ndarray, levels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The levels around each value and the weight of the second, NaN beyond the levels: three (value,).

    Example
    -------
    >>> between_levels(np.array([0.0, 5.0, 20.0, 25.0]), np.array([0.0, 10.0, 20.0]))[2]
    array([0. , 0.5, 1. , nan])
    """
    last = len(levels) - 1
    low = np.clip(np.searchsorted(levels, values, side="right") - 1, 0, max(last - 1, 0))
    high = np.minimum(low + 1, last)
    width = np.where(high > low, levels[high] - levels[low], 1.0)
    weight = (values - levels[low]) / width
    return low, high, np.where((values < levels[0]) | (values > levels[-1]), np.nan, weight)


def read_levels(covariate: Covariate, axis: str) -> tuple[float, ...]:
    """The values of a dimension of the covariate's file, ascending.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file cannot be read or has no such dimension with numbers along it.
    """
    from pathlib import Path

    path = Path(covariate.path)
    if not path.exists():
        raise FileNotFoundError(f"covariate {covariate.name}: no file at {path}.")
    try:
        # times are of no interest here, and some cannot be decoded
        opened = xr.open_zarr(path, decode_times=False) if path.is_dir() else xr.open_dataset(path, decode_times=False)
    except (OSError, ValueError) as error:
        raise ValueError(f"covariate {covariate.name}: {path.name} cannot be read ({error}).") from error
    with opened:
        if axis not in opened.dims:
            raise ValueError(
                f"covariate {covariate.name}: {path.name} has no dimension {axis}; it has {_told(list(opened.dims))}."
            )
        levels = np.asarray(opened[axis].to_numpy())
    if levels.dtype.kind not in "iuf" or not np.isfinite(levels.astype(np.float64)).all():
        raise ValueError(f"covariate {covariate.name}: the dimension {axis} of {path.name} has no numbers along it.")
    return tuple(sorted(levels.astype(np.float64).tolist()))


def _told(names: Sequence[object]) -> str:
    return ", ".join(map(str, names)) or "none"
