"""A raster of classes (land cover, habitat types) into the share of each class in H3 cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import numpy as np
import xarray as xr
from scipy import sparse

from mimic.hexgrid import resolution_of
from mimic.regrid import MISSING_ABOVE, regrid_matrix

__all__ = ["Classes", "ShareMethod", "class_shares"]

ShareMethod = Literal["auto", "mean", "area", "nearest"]
Classes = Mapping[str, Sequence[int]] | Sequence[int]

_LISTED_AT_MOST = 100


def class_shares(
    values: xr.DataArray,
    cells: np.ndarray,
    *,
    classes: Classes | None = None,
    other: str | None = None,
    no_class: Sequence[int] = (),
    method: ShareMethod = "auto",
    min_points: int = 3,
    min_known: float = 0.5,
) -> xr.Dataset:
    """The share of each class in each cell: one variable a class, (time or month if any, cell), float32, 0 to 1.

    Parameters
    ----------
    values
        Codes on a grid, whole numbers, as `mimic.grids.open_field` returns them; NaN has no class.
    cells
        (cell,), H3 ids of one resolution; repeats are fine.
    classes
        {name: codes} to put several codes into one class, or codes, whose classes are called class_1, class_2, ...;
        None for all codes around the cells.
    other
        Name of a class for all codes that are in none; None leaves them out, and shares then sum to less than 1.
    no_class
        Codes that mean the same as NaN (0 for "no data").
    method
        "mean": among the grid points in the cell. "area": among many samples in the cell, each with the class of the
        nearest grid point. "nearest": 1 for the class at the centroid. "auto": "mean" where a cell holds
        `min_points` grid points or more, else "area".
    min_known
        A cell is NaN in all classes where less than this share of its points (or samples) has a class.

    Returns
    -------
    xr.Dataset
        Of the points with a class: over all classes and `other` the shares sum to 1. The coordinate `cell` has the
        attributes grid_name = "h3" and level = the resolution.

    Raises
    ------
    ValueError
        If codes are not whole numbers, a code is in two classes, a name is there twice, or an option is out of range.

    Notes
    -----
    With weights W of the cells' points (`mimic.regrid.regrid_matrix`), I of class k (1 or 0) and K (1 where a point has
    any class), the share is (W I) / (W K). Classes without a point are 0, not NaN.
    """
    if method not in get_args(ShareMethod):
        raise ValueError(f"method must be one of {', '.join(get_args(ShareMethod))}; got {method}.")
    if not 0 <= min_known <= 1:
        raise ValueError(f"min_known must lie in [0, 1]; got {min_known}.")
    cells = np.asarray(cells, dtype=np.int64)
    unique, inverse = np.unique(cells, return_inverse=True)
    weights = _weights(values, unique, method, min_points)
    codes, weights = _codes_around(values, weights)
    codes[np.isin(codes, np.asarray(no_class, dtype=np.float64))] = np.nan
    known = np.isfinite(codes)
    groups = _groups(classes, np.unique(codes[known]).astype(np.int64))
    if other is not None:
        if other in groups:
            raise ValueError(f"the class {other} is there already; give other= another name.")
        named = [code for members in groups.values() for code in members]
        groups[other] = np.setdiff1d(np.unique(codes[known]), named).tolist()
    covered = weights @ known.T.astype(np.float64)  # (cell, step)
    enough = (covered > 0) & (covered >= min_known - 1e-9)
    shares = {}
    for name, members in groups.items():
        hit = weights @ np.isin(codes, np.asarray(members, dtype=np.float64)).T.astype(np.float64)
        share = np.where(enough, hit / np.where(covered > 0, covered, 1.0), np.nan)
        shares[name] = np.clip(share, 0.0, 1.0).T.astype(np.float32)[:, inverse]
    return _dataset(values, cells, shares)


def _dataset(values: xr.DataArray, cells: np.ndarray, shares: Mapping[str, np.ndarray]) -> xr.Dataset:
    steps = {d: values[d].variable for d in values.dims[:-2]}
    attrs = {"grid_name": "h3", "level": resolution_of(cells[0])} if len(cells) else {"grid_name": "h3"}
    dims = (*steps, "cell")
    variables = {name: (dims, share if steps else share[0], {"units": "1"}) for name, share in shares.items()}
    return xr.Dataset(variables, {**steps, "cell": ("cell", cells, attrs)})


def _weights(values: xr.DataArray, cells: np.ndarray, method: ShareMethod, min_points: int) -> sparse.csr_array:
    if method != "auto":
        return regrid_matrix(values, cells, method=method)
    mean = regrid_matrix(values, cells, method="mean")
    few = np.diff(mean.indptr) < min_points
    if not few.any():
        return mean
    area = regrid_matrix(values, cells[few], method="area")
    place = np.zeros(len(cells), dtype=np.int64)  # mean rows first, area rows behind them
    place[~few], place[few] = np.arange((~few).sum()), (~few).sum() + np.arange(few.sum())
    return sparse.csr_array(sparse.vstack([mean[~few], area])).tocsr()[place]


def _codes_around(values: xr.DataArray, weights: sparse.csr_array) -> tuple[np.ndarray, sparse.csr_array]:
    """The codes at the points that have weight, (step, point), NaN without one; and the weights of those points."""
    used = np.unique(weights.indices).astype(np.int64)
    steps = values if values.ndim == 3 else values.expand_dims("step")
    rows, columns = np.divmod(used, values.shape[-1])
    codes = np.full((steps.shape[0], len(used)), np.nan)
    if len(used):
        # a field still in its file is read step by step, only between the outermost rows and columns
        box = (slice(rows.min(), rows.max() + 1), slice(columns.min(), columns.max() + 1))
        for step in range(len(codes)):
            codes[step] = steps[step, box[0], box[1]].to_numpy()[rows - rows.min(), columns - columns.min()]
    codes[~(np.abs(codes) < MISSING_ABOVE)] = np.nan
    broken = codes[np.isfinite(codes) & (codes != np.round(codes))]
    if len(broken):
        raise ValueError(
            f"classes must be whole numbers; got {broken[0]:g}. A quantity is a covariate as it is, not by shares."
        )
    local = (weights.data, np.searchsorted(used, weights.indices), weights.indptr)
    return codes, sparse.csr_array(local, shape=(weights.shape[0], len(used)))


def _groups(classes: Classes | None, found: np.ndarray) -> dict[str, list[int]]:
    """Class name -> codes."""
    if classes is None:
        if len(found) > _LISTED_AT_MOST:
            raise ValueError(f"{len(found)} codes lie around the cells; name the classes you need with classes=.")
        classes = found.tolist()
    if isinstance(classes, Mapping):
        groups = {str(name): [int(c) for c in codes] for name, codes in classes.items()}
    else:
        groups = {f"class_{int(code)}": [int(code)] for code in classes}
        if len(groups) < len(classes):
            raise ValueError(f"classes names a code twice: {', '.join(map(str, classes))}.")
    members = [code for codes in groups.values() for code in codes]
    twice = sorted({code for code in members if members.count(code) > 1})
    if twice:
        raise ValueError(f"a code belongs to one class; these are in several: {', '.join(map(str, twice[:5]))}.")
    return groups
