"""A field on a grid into a field on H3 cells: ONE sparse matrix of weights, cells x grid points."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal, get_args

import numpy as np
import xarray as xr
from scipy import sparse

from mimic.grid_values import MISSING_ABOVE, read_points, used_points, weigh
from mimic.gridpoints import Grid, grid_of
from mimic.hexgrid import boundaries, cell_at, centroids, check_cells, children, distance_km, resolution_of

__all__ = ["MISSING_ABOVE", "Method", "regrid_matrix", "to_cells"]

Method = Literal["auto", "mean", "nearest", "bilinear", "area"]

BLOCK = 16_000_000
"""Grid values held at once while a field is applied."""

_TINY = 1e-9  # a bilinear weight below this is rounding: a point on a NaN node must not take its neighbor's value


def regrid_matrix(
    values: xr.DataArray, cells: np.ndarray, *, method: Method = "auto", min_points: int = 3
) -> sparse.csr_array:
    """Weights that turn a field into its values on cells: (cell, grid point), float64, read-only.

    Parameters
    ----------
    values
        A field as `open_field` returns it; only its coordinates are used. Grid points are numbered
        row by row, as `field.reshape(..., -1)` does.
    cells
        (cell,), H3 ids of one resolution; repeats are fine.
    method
        "mean": the mean of the grid points whose cell this is. "bilinear": between the four points around
        the cell's centroid. "nearest": the point nearest to the centroid, by great circle on a grid in
        degrees, in x and y on a projected one; the one for categories. "area": mean weighted by area,
        from the grid points nearest to many smaller cells inside. "auto": for each cell, "mean" where
        it holds `min_points` grid points or more, else "bilinear".
    min_points
        Grid points a cell must hold for "auto" to take their mean.

    Returns
    -------
    sparse.csr_array
        Each row sums to 1, or is empty where the grid does not reach: its outermost points reach half a
        spacing beyond the grid, and a grid around the globe has no seam.

    Raises
    ------
    ValueError
        If the method is unknown, an id is no H3 cell, or the cells are of several resolutions.

    Notes
    -----
    The last 16 matrices are kept, by a hash of grid, cells and method: many variables and time steps of
    one grid cost one matrix. For a mean only grid points near a cell are ever assigned to cells, so a
    global grid costs no more than its part around the cells.
    """
    if method not in get_args(Method):
        raise ValueError(f"method must be one of {', '.join(get_args(Method))}; got {method}.")
    cells = np.asarray(cells, dtype=np.int64)
    grid = grid_of(values)
    unique, inverse = np.unique(cells, return_inverse=True)
    key = hashlib.blake2b(grid.digest() + unique.tobytes(), digest_size=16).digest()
    weights = _weights(_Request(key, method, min_points, grid, unique))
    return weights if np.array_equal(unique, cells) else weights[inverse]


def to_cells(values: xr.DataArray, cells: np.ndarray, *, method: Method = "auto", min_points: int = 3) -> xr.DataArray:
    """A field on cells, (time or month if any, cell), NaN where a cell has no finite grid point.

    Parameters
    ----------
    values, cells, method, min_points
        As for `regrid_matrix`. A field still in its file is read block by block, only around the cells.

    Returns
    -------
    xr.DataArray
        float32 (float64 where the field is), with the attributes of the field; the coordinate `cell`, int64, has the
        attributes grid_name = "h3" and level = the resolution.

    Notes
    -----
    With weights W, finite points F (1 or 0) and values V (0 where not finite) the result is (W V) / (W F):
    the weights of each cell are renormalized over its finite points. Sums are in float64.
    """
    cells = np.asarray(cells, dtype=np.int64)
    weights = regrid_matrix(values, cells, method=method, min_points=min_points)
    result = _apply(weights, values)
    steps = {d: values[d].variable for d in values.dims[:-2]}
    attrs = {"grid_name": "h3", "level": resolution_of(cells[0])} if len(cells) else {"grid_name": "h3"}
    coords = {**steps, "cell": ("cell", cells, attrs)}
    return xr.DataArray(result, coords, (*steps, "cell"), name=values.name, attrs=values.attrs)


# ---------------------------------------------------------------- weights


@dataclass(frozen=True)
class _Request:
    """What a matrix depends on; equal, for the cache, where key, method and min_points are."""

    key: bytes
    method: Method
    min_points: int
    grid: Grid = field(compare=False)
    cells: np.ndarray = field(compare=False)


@lru_cache(maxsize=16)
def _weights(request: _Request) -> sparse.csr_array:
    cells = request.cells
    check_cells(cells)
    resolutions = {resolution_of(c) for c in cells.tolist()}
    if len(resolutions) > 1:
        raise ValueError(f"cells must be of one H3 resolution; got {', '.join(map(str, sorted(resolutions)))}.")
    methods: dict[str, Callable[[Grid, np.ndarray], sparse.csr_array]]
    methods = {"mean": _mean, "nearest": _nearest, "bilinear": _bilinear, "area": _area}
    if request.method == "auto":
        weights = _auto(request.grid, cells, request.min_points)
    else:
        weights = methods[request.method](request.grid, cells)
    for part in (weights.data, weights.indices, weights.indptr):
        part.flags.writeable = False  # shared by everyone who asks again
    return weights


def _matrix(grid: Grid, n_cells: int, cell: np.ndarray, point: np.ndarray, weight: np.ndarray) -> sparse.csr_array:
    """Rows that sum to 1 from (cell, point, weight) triplets; repeated pairs add up."""
    total = np.bincount(cell, weight, minlength=n_cells)
    shape = (n_cells, grid.shape[0] * grid.shape[1])
    weights = sparse.csr_array((weight / total[cell], (cell, point)), shape=shape)
    weights.sum_duplicates()
    return weights


def _bilinear(grid: Grid, cells: np.ndarray) -> sparse.csr_array:
    column, row = grid.project(*centroids(cells))
    left, right, to_right, inside_columns = grid.columns.locate(column)
    low, high, to_high, inside_rows = grid.rows.locate(row)
    inside = inside_columns & inside_rows
    corners = [
        (low, left, (1 - to_high) * (1 - to_right)),
        (low, right, (1 - to_high) * to_right),
        (high, left, to_high * (1 - to_right)),
        (high, right, to_high * to_right),
    ]
    cell = np.tile(np.arange(len(cells)), 4)
    point = np.concatenate([r * grid.shape[1] + c for r, c, _ in corners])
    weight = np.concatenate([w for _, _, w in corners])
    keep = np.tile(inside, 4) & (weight > _TINY)
    return _matrix(grid, len(cells), cell[keep], point[keep], weight[keep])


def _nearest(grid: Grid, cells: np.ndarray) -> sparse.csr_array:
    point, inside = _nearest_points(grid, *centroids(cells))
    cell = np.flatnonzero(inside)
    return _matrix(grid, len(cells), cell, point[inside], np.ones(len(cell)))


def _nearest_points(grid: Grid, longitude: np.ndarray, latitude: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The grid point nearest to each point, and whether the grid reaches there: two (point,)."""
    inside = grid.covers(longitude, latitude)
    column, row = grid.project(longitude, latitude)
    nearest_column = grid.columns.nearest(column)
    if grid.crs is None:
        # Along a meridian at this difference of longitude the distance grows on both sides of the foot of
        # the perpendicular, which lies poleward of the point: that, not the latitude, picks the row.
        turn = np.cos(np.radians(grid.column_values[nearest_column] - longitude))
        row = np.degrees(np.arctan2(np.sin(np.radians(latitude)), np.cos(np.radians(latitude)) * turn))
    return grid.rows.nearest(row) * grid.shape[1] + nearest_column, inside


def _mean(grid: Grid, cells: np.ndarray) -> sparse.csr_array:
    if len(cells) == 0:
        return _matrix(grid, 0, np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
    point = _points_near(grid, cells)
    rows, columns = np.divmod(point, grid.shape[1])
    longitude, latitude = grid.unproject(grid.column_values[columns], grid.row_values[rows])
    good = np.isfinite(longitude)
    point = point[good]
    owner = cell_at(longitude[good], latitude[good], resolution_of(cells[0]))
    position = np.minimum(np.searchsorted(cells, owner), len(cells) - 1)
    mine = cells[position] == owner
    return _matrix(grid, len(cells), position[mine], point[mine], np.ones(int(mine.sum())))


def _auto(grid: Grid, cells: np.ndarray, min_points: int) -> sparse.csr_array:
    mean, bilinear = _mean(grid, cells), _bilinear(grid, cells)
    several, reached = np.diff(mean.indptr) >= min_points, np.diff(bilinear.indptr) > 0
    # a cell on the rim may hold a point or two although its centroid is off the grid
    by_mean = several | ~reached
    mixed = sparse.diags_array(by_mean * 1.0) @ mean + sparse.diags_array(~by_mean * 1.0) @ bilinear
    mixed = sparse.csr_array(mixed)
    mixed.eliminate_zeros()
    mixed.sort_indices()
    return mixed


def _area(grid: Grid, cells: np.ndarray) -> sparse.csr_array:
    if len(cells) == 0:
        return _mean(grid, cells)
    # About four samples for each grid point of a usual cell, 49 to 2,401 a cell. Not of the fullest one:
    # at the pole of a grid in degrees one cell may hold every column.
    held = np.diff(_mean(grid, cells).indptr)
    usual = float(np.median(held[held > 0])) if (held > 0).any() else 1.0
    finer = int(np.clip(np.ceil(np.log(4 * usual) / np.log(7)), 2, 4))
    resolution = min(15, resolution_of(cells[0]) + finer)
    parts = []
    for group in np.array_split(cells, max(1, len(cells) * 7**finer // 1_000_000)):
        inner, offsets = children(group, resolution)
        point, inside = _nearest_points(grid, *centroids(inner))
        cell = np.repeat(np.arange(len(group)), np.diff(offsets))[inside]
        parts.append(_matrix(grid, len(group), cell, point[inside], np.ones(len(cell))))
    return sparse.csr_array(sparse.vstack(parts))


def _points_near(grid: Grid, cells: np.ndarray) -> np.ndarray:
    """The grid points in a box around each cell, once each, sorted: (point,), int64."""
    boxes = _boxes_lonlat(cells) if grid.crs is None else _boxes_projected(grid, cells)
    first_row, n_rows, row_index = grid.rows.between(boxes[2], boxes[3])
    first_column, n_columns, column_index = grid.columns.between(boxes[0], boxes[1])
    sizes = n_rows * n_columns
    found = [np.zeros(0, dtype=np.int64)]
    ends = np.cumsum(sizes)
    # in groups of cells, so that overlapping boxes on a fine grid do not fill the memory
    for group in np.split(np.arange(len(cells)), np.flatnonzero(np.diff(ends // BLOCK)) + 1):
        n = sizes[group]
        within = np.arange(n.sum()) - np.repeat(np.cumsum(n) - n, n)
        down, along = np.divmod(within, np.repeat(n_columns[group], n))
        row = row_index[np.repeat(first_row[group], n) + down]
        column = column_index[np.repeat(first_column[group], n) + along]
        found.append(np.unique(row * grid.shape[1] + column))
    return np.unique(np.concatenate(found))


def _boxes_lonlat(cells: np.ndarray) -> np.ndarray:
    """West, east, south, north of a box that holds each cell: (4, cell), degrees, unwrapped."""
    longitude, latitude = centroids(cells)
    corners = boundaries(cells)
    owner = np.repeat(np.arange(len(cells)), [len(c) for c in corners])
    corner = np.concatenate(corners)
    reach = distance_km(longitude[owner], latitude[owner], corner[:, 0], corner[:, 1])
    radius = np.zeros(len(cells))
    np.maximum.at(radius, owner, reach)
    radius = 1.05 * radius / 111.19  # degrees of a great circle
    over_pole = np.abs(latitude) + radius >= 90.0
    ratio = np.sin(np.radians(radius)) / np.cos(np.radians(latitude))
    width = np.where(over_pole, 180.0, np.degrees(np.arcsin(np.clip(ratio, 0.0, 1.0))))
    return np.stack([longitude - width, longitude + width, latitude - radius, latitude + radius])


def _boxes_projected(grid: Grid, cells: np.ndarray) -> np.ndarray:
    """Lowest and highest x, y of a box that holds each cell: (4, cell), in the grid's own unit."""
    corners = boundaries(cells)
    starts = np.cumsum([0, *(len(c) for c in corners[:-1])])
    x, y = grid.project(*np.concatenate(corners).T)
    boxes = np.stack(
        [
            np.fmin.reduceat(x, starts),
            np.fmax.reduceat(x, starts),
            np.fmin.reduceat(y, starts),
            np.fmax.reduceat(y, starts),
        ]
    )
    boxes = np.nan_to_num(boxes, nan=np.inf)  # nothing lies between infinity and infinity
    # edges of a cell bulge a little beyond its corners
    margin = 0.2 * np.maximum(
        *(np.subtract(b, a, where=np.isfinite(a), out=np.zeros_like(a)) for a, b in (boxes[:2], boxes[2:]))
    )
    return boxes + np.stack([-margin, margin, -margin, margin])


# ---------------------------------------------------------------- values


def _apply(weights: sparse.csr_array, values: xr.DataArray) -> np.ndarray:
    """(step, cell), or (cell,) for a field without steps."""
    steps = values if values.ndim == 3 else values.expand_dims("step")
    used, local = used_points(weights)
    dtype = np.result_type(values.dtype, np.float32)
    result = np.full((steps.shape[0], weights.shape[0]), np.nan, dtype=dtype)
    block = max(1, BLOCK // max(1, len(used)))
    for first in range(0, steps.shape[0] if len(used) else 0, block):
        result[first : first + block] = weigh(local, read_points(steps[first : first + block], used, block=BLOCK))
    return result if values.ndim == 3 else result[0]
