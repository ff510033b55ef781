"""One opened file and what is wanted of it into the field, or the levels and weights, that make one value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import xarray as xr

__all__ = ["Layers", "combine", "layers_of", "thickness"]

Level = Mapping[str, float | str | tuple[float, float]]


@dataclass(frozen=True)
class Layers:
    """Which levels of a file make one value, and how.

    Parameters
    ----------
    levels
        Each a choice of extra dimensions, as for `mimic.axes.normalize_axes`.
    weights
        Of each level.
    rule
        "mean": weighted, over the levels that have a value. "first": of the first that has one.
    """

    levels: tuple[Mapping[str, Any], ...] = ({},)
    weights: tuple[float, ...] = (1.0,)
    rule: Literal["mean", "first"] = "mean"


def layers_of(dataset: xr.Dataset, name: str, level: Level, where: str) -> Layers:
    """The layers of a variable: one for a single level, several for a range or for ERA5's two streams.

    Parameters
    ----------
    level
        Extra dimension -> a value (the nearest level), or (low, high): the mean of the levels within.

    Raises
    ------
    ValueError
        If there is no such dimension, several ranges are given, or no level lies within.

    Notes
    -----
    ERA5 delivered months that were not final yet with a dimension `expver` of length two, each value being in one
    stream and missing in the other; the first stream that has a value is taken.
    """
    fixed = {dim: value for dim, value in level.items() if not isinstance(value, (tuple, list))}
    ranges = {dim: value for dim, value in level.items() if isinstance(value, (tuple, list))}
    dims = dataset[name].sizes
    if "expver" in dims and "expver" not in level and dims["expver"] > 1:
        if ranges:
            raise ValueError(f"{where}: a range of levels cannot be taken of two expver; give expver in level.")
        streams = dataset["expver"].to_numpy()
        return Layers(tuple({**fixed, "expver": _plain(s)} for s in streams), (1.0,) * len(streams), "first")
    if not ranges:
        return Layers((fixed,))
    if len(ranges) > 1:
        raise ValueError(f"{where}: expected one range of levels; got {', '.join(ranges)}.")
    dim, (low, high) = next(iter(ranges.items()))
    if dim not in dims:
        raise ValueError(f"{where}: level names {dim}; the dimensions are {', '.join(map(str, dims))}.")
    values = dataset[dim].to_numpy().astype(np.float64)
    weights = thickness(values, float(low), float(high))
    inside = np.flatnonzero(weights > 0)
    if len(inside) == 0:
        raise ValueError(
            f"{where}: no level of {dim} lies in {low:g} to {high:g}; there are {values.min():g} to {values.max():g}."
        )
    return Layers(tuple({**fixed, dim: float(values[i])} for i in inside), tuple(weights[inside].tolist()))


def thickness(levels: np.ndarray, low: float, high: float) -> np.ndarray:
    """How much of a range each level within it stands for: (level,), in the unit of the levels; 0 outside.

    A level stands for the water (or air) between the midpoints to its neighbors, cut off at the range; the first of
    the file reaches up to the range's end, the last half a spacing beyond itself.

    Example
    -------
    >>> thickness(np.array([0.0, 10, 20, 30, 50, 75]), 0, 50).tolist()
    [5.0, 10.0, 10.0, 15.0, 10.0, 0.0]
    """
    order = np.argsort(levels, kind="stable")
    ascending = levels[order]
    if len(ascending) == 1:
        return np.where((levels >= low) & (levels <= high), 1.0, 0.0)
    middle = (ascending[1:] + ascending[:-1]) / 2
    half = (ascending[-1] - ascending[-2]) / 2
    upper = np.append(middle, max(ascending[-1] + half, high if ascending[-1] <= 0 else -np.inf))
    lower = np.insert(middle, 0, -np.inf if ascending[0] >= 0 else ascending[0] - (ascending[1] - ascending[0]) / 2)
    covered = np.minimum(upper, high) - np.maximum(lower, low)
    within = (ascending >= low) & (ascending <= high)
    # a level on the end of the range may stand for no length of it
    result = np.zeros(len(levels))
    result[order] = np.where(within, np.maximum(covered, 0.0), 0.0)
    return result


def combine(parts: Sequence[np.ndarray], layers: Layers) -> np.ndarray:
    """The values of several levels into one: each (step, point), NaN for missing.

    Example
    -------
    >>> layers = Layers(({}, {}), (1.0, 3.0))
    >>> combine([np.array([[1.0, 1.0]]), np.array([[2.0, np.nan]])], layers).tolist()
    [[1.75, 1.0]]
    """
    if len(parts) == 1:
        return parts[0]
    if layers.rule == "first":
        result = parts[0]
        for part in parts[1:]:
            result = np.where(np.isfinite(result), result, part)
        return result
    total, weight = np.zeros(parts[0].shape), np.zeros(parts[0].shape)
    for part, share in zip(parts, layers.weights, strict=True):
        finite = np.isfinite(part)
        total += np.where(finite, part * share, 0.0)
        weight += finite * share
    return np.divide(total, weight, out=np.full(total.shape, np.nan), where=weight > 0)


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value
