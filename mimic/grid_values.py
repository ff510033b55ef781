"""The values of a field at the grid points that weigh anything, into values on cells."""

from __future__ import annotations

import numpy as np
import xarray as xr
from scipy import sparse

__all__ = ["MISSING_ABOVE", "read_points", "used_points", "weigh"]

BLOCK = 16_000_000
"""Grid values read at once."""

MISSING_ABOVE = 1e30
"""Magnitudes from here on count as missing, as in `grids`, for fields that stay in their file."""

AT_ONCE = 1_000_000
"""Values weighed at once: few enough to stay near the processor."""

_TINY = 1e-9  # covered by less: a rounding of weights, not a point


def used_points(weights: sparse.csr_array) -> tuple[np.ndarray, sparse.csr_array]:
    """The grid points that weigh anything, and the weights on them alone.

    Returns
    -------
    points, local
        (point,), int64, sorted, as `regrid_matrix` numbers them; and (cell, point).
    """
    used = np.unique(weights.indices).astype(np.int64)
    place = np.searchsorted(used, weights.indices)
    return used, sparse.csr_array((weights.data, place, weights.indptr), shape=(weights.shape[0], len(used)))


def weigh(weights: sparse.csr_array, values: np.ndarray) -> np.ndarray:
    """Values at grid points onto cells: (step, point) -> (step, cell), float64, NaN where no point has a value.

    The weights of each cell are renormalized over its finite points, step by step.

    Example
    -------
    >>> halves = sparse.csr_array(np.array([[0.5, 0.5]]))
    >>> weigh(halves, np.array([[1.0, 3.0], [np.nan, 3.0]])).ravel().tolist()
    [2.0, 3.0]
    """
    result = np.full((len(values), weights.shape[0]), np.nan)
    size = max(1, AT_ONCE // max(1, values.shape[1]))
    for first in range(0, len(values) if values.shape[1] else 0, size):
        result[first : first + size] = _weigh(weights, values[first : first + size])
    return result


def _weigh(weights: sparse.csr_array, values: np.ndarray) -> np.ndarray:
    by_point = np.ascontiguousarray(values.T)  # (point, step), the order in which the product runs
    finite = np.abs(by_point) < MISSING_ABOVE
    total = weights @ (by_point if finite.all() else np.where(finite, by_point, 0.0))
    if (finite == finite[:, :1]).all():
        finite = finite[:, :1]  # a coast does not move: one product serves all steps
    covered = weights @ finite.astype(np.float64)  # (cell, step or 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(covered > _TINY, total / covered, np.nan).T


def read_points(steps: xr.DataArray, points: np.ndarray, *, block: int = BLOCK) -> np.ndarray:
    """The values at some grid points: (step, point), float64.

    Parameters
    ----------
    steps
        (step, row, column), in memory or still in its file: it is read in bands of rows, and only between the
        outermost columns.
    points
        (point,), sorted, as `regrid_matrix` numbers them.
    block
        Values read at once, but for a row, which is read whole.
    """
    rows, columns = np.divmod(points, steps.shape[2])
    result = np.empty((steps.shape[0], len(points)), dtype=np.float64)
    start = 0
    while start < len(points):
        width = int(columns[start:].max() - columns[start:].min()) + 1
        n_rows = max(1, block // (width * steps.shape[0]))
        stop = int(np.searchsorted(rows, rows[start] + n_rows))
        r, c = rows[start:stop], columns[start:stop]
        pieces = _pieces(c, steps.shape[2])
        for low, high in pieces:
            mine = (c >= low) & (c < high)
            box = _read(steps[:, int(r[0]) : int(r[-1]) + 1, low:high])
            result[:, start:stop][:, mine] = box[:, r[mine] - r[0], c[mine] - low]
        start = stop
    return result


def _read(box: xr.DataArray) -> np.ndarray:
    try:
        return box.to_numpy()
    except (OSError, RuntimeError) as error:
        raise ValueError(f"the file of {box.name} is damaged: {error}. Fetch the file again.") from error


def _pieces(columns: np.ndarray, n_columns: int) -> list[tuple[int, int]]:
    """One or two ranges of columns that hold all: two where the cells lie at both ends of the file's seam."""
    distinct = np.unique(columns)
    gaps = np.diff(distinct)
    if len(gaps) and gaps.max() > n_columns / 4:
        cut = int(gaps.argmax())
        return [(int(distinct[0]), int(distinct[cut]) + 1), (int(distinct[cut + 1]), int(distinct[-1]) + 1)]
    return [(int(distinct[0]), int(distinct[-1]) + 1)]
