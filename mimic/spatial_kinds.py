"""Values on cells into their gradient and into statistics of the rings around each cell."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from mimic.cell_graph import CellGraph

__all__ = ["MIN_NEIGHBORS", "gradient_parts", "ring_statistic"]

MIN_NEIGHBORS = 3
"""A plane needs this many neighbors with a value."""

# Of the smaller over the larger spread of the points: below it they lie on a line. 1 for a whole ring.
_FLATTEST = 0.02
BLOCK = 4_000_000
"""Values handled at once; results do not depend on it."""


def gradient_parts(values: np.ndarray, graph: CellGraph) -> tuple[np.ndarray, np.ndarray]:
    """How much values grow per km to the east and to the north: two (step, cell), NaN where unknown.

    Parameters
    ----------
    values
        (step, cell), NaN for missing.

    Notes
    -----
    The plane a + b x + c y of least squares through the cell (x = y = 0) and its neighbors with a value. With means
    over those n points, S_xx = sum (x - mean x)^2 and so on, b = (S_yy S_xv - S_xy S_yv) / (S_xx S_yy - S_xy^2).
    """
    east, north = np.full(values.shape, np.nan), np.full(values.shape, np.nan)
    for first, last in _blocks(values):
        east[first:last], north[first:last] = _plane(values[first:last], graph)
    return east, north


def _plane(values: np.ndarray, graph: CellGraph) -> tuple[np.ndarray, np.ndarray]:
    n, x_sum, y_sum, v_sum, xx, xy, yy, xv, yv = np.zeros((9, *values.shape))
    n += 1.0  # the cell itself, at x = y = 0 and of value 0: values are counted from its own
    for slot in range(graph.neighbors.shape[1]):
        # the last cell stands in for a neighbor that does not exist: its place is NaN
        rise = values[:, graph.neighbors[:, slot]] - values
        known = np.isfinite(rise) & (graph.neighbors[:, slot] >= 0)
        rise = np.where(known, rise, 0.0)
        x = np.where(known, graph.east_km[:, slot], 0.0)
        y = np.where(known, graph.north_km[:, slot], 0.0)
        n += known
        x_sum += x
        y_sum += y
        v_sum += rise
        xx += x * x
        xy += x * y
        yy += y * y
        xv += x * rise
        yv += y * rise
    xx, xy, yy = xx - x_sum * x_sum / n, xy - x_sum * y_sum / n, yy - y_sum * y_sum / n
    xv, yv = xv - x_sum * v_sum / n, yv - y_sum * v_sum / n
    determinant = xx * yy - xy * xy
    spread = (xx + yy) / 2
    good = (n > MIN_NEIGHBORS) & (determinant > _FLATTEST * spread * spread) & np.isfinite(values)
    determinant = np.where(good, determinant, np.nan)
    return (yy * xv - xy * yv) / determinant, (xx * yv - xy * xv) / determinant


def ring_statistic(
    values: np.ndarray, graph: CellGraph, statistic: str, *, rings: int = 1, min_share: float = 0.5
) -> np.ndarray:
    """A statistic of the cells within some rings, the cell's own included: (step, cell), NaN where unknown.

    Parameters
    ----------
    values
        (step, cell), NaN for missing.
    statistic
        "mean", "max", "min" or "sd" (population: divided by n, not n - 1).
    min_share
        NaN where less than this share of the cells of the whole disk have a value. Cells that do not exist around a
        pentagon are not counted; cells outside the graph are, as missing.
    """
    position, offsets = graph.disk(rings)
    result = np.full(values.shape, np.nan)
    needed = min_share * graph.disk_size(rings) - 1e-9
    for first, last in _blocks(values):
        block = values[first:last]
        count = _disk_sum(np.isfinite(block).astype(np.float64), position, offsets)
        enough = (count > 0) & (count >= needed)
        result[first:last] = np.where(enough, _of_disk(block, position, offsets, statistic, count), np.nan)
    return result


def _of_disk(
    values: np.ndarray, position: np.ndarray, offsets: np.ndarray, statistic: str, count: np.ndarray
) -> np.ndarray:
    if statistic in ("max", "min"):
        best = np.full(values.shape, np.nan)
        better = np.fmax if statistic == "max" else np.fmin
        for slot, holds in _slots(position, offsets):
            best = np.where(holds, better(best, values[:, slot]), best)
        return best
    known = np.maximum(count, 1.0)
    mean = _disk_sum(np.nan_to_num(values, nan=0.0), position, offsets) / known
    if statistic == "mean":
        return mean
    # Around the disk's own mean: the mean of squares less the square of the mean cancels.
    squares = np.zeros(values.shape)
    for slot, holds in _slots(position, offsets):
        squares += np.where(holds, np.nan_to_num(values[:, slot] - mean, nan=0.0) ** 2, 0.0)
    return np.sqrt(squares / known)


def _disk_sum(values: np.ndarray, position: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Sum of the members of each cell's disk: (step, cell)."""
    n = len(offsets) - 1
    matrix = sparse.csr_array((np.ones(len(position)), position, offsets), shape=(n, n))
    return (matrix @ values.T).T


def _slots(position: np.ndarray, offsets: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """The first member of every disk, then the second, ...: positions (cell,) and whether there is one (cell,)."""
    sizes = np.diff(offsets)
    return [
        (position[np.minimum(offsets[:-1] + slot, len(position) - 1)], sizes > slot)
        for slot in range(int(sizes.max(initial=0)))
    ]


def _blocks(values: np.ndarray) -> list[tuple[int, int]]:
    """Runs of steps that fit into memory with all their sums."""
    size = max(1, BLOCK // max(1, values.shape[1]))
    return [(first, min(first + size, len(values))) for first in range(0, len(values), size)]
