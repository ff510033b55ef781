"""The coordinates of a field into the points of its grid: straight axes, unwrapped longitudes, projection."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import xarray as xr

__all__ = ["Axis", "Grid", "grid_of"]

_SLACK = 1e-9  # of half a spacing: a point on the very rim is inside


@dataclass(frozen=True, eq=False)
class Axis:
    """One straight axis of a grid, ascending and, where it is a longitude, unwrapped.

    Parameters
    ----------
    position
        (node,), ascending, distinct. A longitude axis starts after the largest gap of the circle, so that
        it never jumps: 170, 180, 190 for a grid across the date line.
    index
        (node,), int64: where each node is in the file. A repeated column (0 and 360) is there once.
    edge
        Half a spacing at the low and at the high end: how far the first and last nodes reach.
    period
        360 for longitudes, else None.
    """

    position: np.ndarray
    index: np.ndarray
    edge: tuple[float, float]
    period: float | None = None

    @property
    def gap(self) -> float:
        """The way around from the last node to the first; infinite without a period."""
        return float("inf") if self.period is None else self.position[0] + self.period - self.position[-1]

    @property
    def is_cyclic(self) -> bool:
        """Whether the axis goes around the globe."""
        return len(self.position) > 1 and self.gap <= 1.5 * float(np.median(np.diff(self.position)))

    def unwrap(self, values: np.ndarray) -> np.ndarray:
        """Values in the range of the axis: (point,) -> (point,)."""
        if self.period is None:
            return np.asarray(values, dtype=np.float64)
        turned = self.position[0] + np.mod(values - self.position[0], self.period)
        behind = turned > self.position[-1] + self.gap / 2
        return turned if self.is_cyclic else np.where(behind, turned - self.period, turned)

    def locate(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """The two nodes around each value, the weight of the upper one, and whether the axis reaches there.

        (point,) -> lower node, upper node as indices into the file, weight in [0, 1], bool; all (point,).
        Beyond the first and last node the weight stays with that node.
        """
        at = self.unwrap(values)
        nodes, index = self.position, self.index
        if self.is_cyclic:
            nodes, index = np.append(nodes, nodes[0] + self.period), np.append(index, index[0])
        slack = _SLACK * max(self.edge)
        inside = (at >= nodes[0] - self.edge[0] - slack) & (at <= nodes[-1] + self.edge[1] + slack)
        if len(nodes) == 1:
            only = np.repeat(index, len(at))
            return only, only, np.zeros(len(at)), inside
        low = np.clip(np.searchsorted(nodes, at, side="right") - 1, 0, len(nodes) - 2)
        weight = np.clip((at - nodes[low]) / np.diff(nodes)[low], 0.0, 1.0)
        return index[low], index[low + 1], weight, inside

    def nearest(self, values: np.ndarray) -> np.ndarray:
        """The nearest node, as index into the file: (point,) -> (point,); a tie goes to the lower node."""
        low, high, weight, _ = self.locate(values)
        return np.where(weight > 0.5, high, low)

    def between(self, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The nodes in [low, high]: (range,) x 2 -> first, number (range,), and the index they run over.

        The nodes of range `i` are `index[first[i]:first[i] + number[i]]`; a range may go around the seam.
        """
        if self.period is None:
            first = np.searchsorted(self.position, low, side="left")
            return first, np.maximum(np.searchsorted(self.position, high, side="right") - first, 0), self.index
        nodes = np.concatenate([self.position, self.position + self.period])
        start = self.position[0] + np.mod(low - self.position[0], self.period)
        first = np.searchsorted(nodes, start, side="left")
        number = np.searchsorted(nodes, start + (high - low), side="right") - first
        everything = high - low >= self.period
        return (
            np.where(everything, 0, first),
            np.where(everything, len(self.position), np.clip(number, 0, len(self.position))),
            np.concatenate([self.index, self.index]),
        )


@dataclass(frozen=True, eq=False)
class Grid:
    """The points of a field: rows (latitude or y) x columns (longitude or x), and the projection if any."""

    rows: Axis
    columns: Axis
    row_values: np.ndarray
    column_values: np.ndarray
    crs: str | None = None

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.row_values), len(self.column_values)

    def project(self, longitude: np.ndarray, latitude: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Degrees into the grid's own coordinates (column, row); NaN outside the projection's domain."""
        if self.crs is None:
            return longitude, latitude
        return _finite(*_transformer(self.crs).transform(longitude, latitude))

    def unproject(self, column: np.ndarray, row: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The grid's own coordinates (column, row) into longitude and latitude."""
        if self.crs is None:
            return column, row
        return _finite(*_transformer(self.crs).transform(column, row, direction="INVERSE"))

    def covers(self, longitude: np.ndarray, latitude: np.ndarray) -> np.ndarray:
        """Whether points lie on the grid or within half a spacing of its edge: (point,), bool."""
        column, row = self.project(longitude, latitude)
        return self.columns.locate(column)[3] & self.rows.locate(row)[3]

    def digest(self) -> bytes:
        """A hash of all coordinates and the projection."""
        parts = (self.row_values.tobytes(), b"|", self.column_values.tobytes(), str(self.crs).encode())
        return hashlib.blake2b(b"".join(parts), digest_size=16).digest()


def grid_of(values: xr.DataArray) -> Grid:
    """The grid of a field as `open_field` returns it.

    Raises
    ------
    ValueError
        If its last two dims are neither latitude, longitude nor y, x with `attrs["crs"]`.
    """
    dims = tuple(map(str, values.dims[-2:]))
    if dims not in (("latitude", "longitude"), ("y", "x")) or (dims == ("y", "x") and "crs" not in values.attrs):
        raise ValueError(
            "expected a field with the dims (..., latitude, longitude), or (..., y, x) and attrs['crs']; "
            f"got ({', '.join(map(str, values.dims))}). Open it with mimic.grids.open_field."
        )
    row, column = (values[d].to_numpy().astype(np.float64) for d in dims)
    rows, columns = _axis(row, None), _axis(column, 360.0 if dims[1] == "longitude" else None)
    # a single row or column has no spacing of its own
    rows = replace(rows, edge=columns.edge) if len(rows.position) == 1 else rows
    columns = replace(columns, edge=rows.edge) if len(columns.position) == 1 else columns
    return Grid(rows, columns, row, column, str(values.attrs["crs"]) if dims == ("y", "x") else None)


def _axis(values: np.ndarray, period: float | None) -> Axis:
    """An ascending axis from coordinates in any order and, with a period, any convention."""
    if values.ndim != 1 or len(values) == 0 or not np.isfinite(values).all():
        raise ValueError("the coordinates of a grid must be one or more finite numbers; repair the file.")
    if period is None:
        position, index = np.unique(values, return_index=True)
    else:
        turned = np.mod(values, period)
        index = np.argsort(turned, kind="stable")
        gaps = np.diff(turned[index], append=turned[index[0]] + period)
        index = np.roll(index, -(int(gaps.argmax()) + 1))
        start = turned[index[0]]
        start = start - period if start >= period / 2 else start
        position = start + np.mod(turned[index] - start, period)
        spacing = np.median(np.diff(position)) if len(position) > 1 else period
        distinct = np.append(True, np.diff(position) > 1e-3 * spacing)
        position, index = position[distinct], index[distinct]
    half = np.diff(position) / 2 if len(position) > 1 else np.zeros(1)
    return Axis(position, index.astype(np.int64), (float(half[0]), float(half[-1])), period)


@lru_cache(maxsize=8)
def _transformer(crs: str):  # type: ignore[no-untyped-def]
    import pyproj  # 0.1 s, and only projected grids need it

    return pyproj.Transformer.from_crs("EPSG:4326", crs, always_xy=True)


def _finite(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    good = np.isfinite(a) & np.isfinite(b)
    return np.where(good, a, np.nan), np.where(good, b, np.nan)
