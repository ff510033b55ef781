"""Raster windows around an animal, as deep step-selection models take them, into choice sets of pixels with a ledger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from mimic.ledger import Ledger
from mimic.schema import DECISION, INDIVIDUAL, ChoiceSets, FeatureInfo, examples

__all__ = ["from_windows"]


def from_windows(
    windows: np.ndarray,
    selected: np.ndarray,
    *,
    layers: Sequence[str],
    pixel_size: float,
    individual: Sequence[str] | None = None,
    unit: str = "m",
    context: Mapping[str, Any] | None = None,
) -> tuple[ChoiceSets, Ledger]:
    """The choice sets of raster windows centered on the animal: every pixel with values is a choice.

    Parameters
    ----------
    windows
        (decision, layer, row, col), rows from north to south. NaN in any layer: the pixel is no choice.
    selected
        (decision, 2), row and column of the pixel the animal moved to; -1 where unknown (prediction).
    layers
        Names of the layers.
    pixel_size
        Height and width of a pixel, in `unit`.
    individual
        (decision,), text; by default one animal, "1".
    context
        name -> (decision,), further columns of the decisions.

    Returns
    -------
    choice_sets
        Choices are pixel numbers, row * n_cols + col. Features: the layers (role choice), `distance_<unit>`,
        `heading_sin` and `heading_cos` (clockwise from north on the grid, 0 and 0 for the center) and `stay`.
    ledger
        Decisions whose selected pixel has no value, or with fewer than two pixels ("decision"), and pixels without
        a value ("choice"): all pixels = rows out + dropped.

    Raises
    ------
    ValueError
        If shapes disagree, rows or columns are even in number (there is no center), or a selected pixel lies outside.

    Notes
    -----
    One layer is read at a time; beside the result, a mask of (decision, pixel) is all that is held.

    Example
    -------
    >>> window = np.arange(9.0).reshape(1, 1, 3, 3)
    >>> cs, _ = from_windows(window, np.array([[0, 1]]), layers=["ndvi"], pixel_size=25.0)
    >>> cs.selected.tolist(), cs.features["distance_m"][:3].round().tolist(), float(cs.features["heading_cos"][1])
    ([1], [35.0, 25.0, 35.0], 1.0)
    """
    n, n_rows, n_cols, selected = _check_windows(windows, selected, layers, pixel_size)
    has_value = np.ones((n, n_rows * n_cols), dtype=bool)
    for k in range(len(layers)):
        has_value &= np.isfinite(windows[:, k]).reshape(n, -1)
    known = selected[:, 0] >= 0
    pixel = np.where(known, selected[:, 0] * n_cols + selected[:, 1], 0)
    names = np.array(["1"] * n, dtype=object) if individual is None else np.asarray(individual).astype(str)
    decisions = pd.DataFrame({INDIVIDUAL: pd.Series(names, dtype="str")})
    decisions[DECISION] = decisions.groupby(INDIVIDUAL, sort=False).cumcount().astype("int64")
    decisions = decisions.assign(**(context or {}))
    ledger = Ledger()
    lost = np.zeros(n, dtype=bool)
    reasons = {
        "selected pixel has no value": known & ~has_value[np.arange(n), pixel],
        "no pixel or only one left": has_value.sum(axis=1) < 2,
    }
    for reason, bad in reasons.items():
        few = decisions[bad & ~lost].head(10)
        ids = [f"{i}/{d}" for i, d in zip(few[INDIVIDUAL], few[DECISION], strict=True)]
        ledger = ledger.dropped("windows", reason, ids, unit="decision", n=int((bad & ~lost).sum()))
        lost |= bad
    ledger = ledger.dropped("windows", "pixel without a value", [], unit="choice", n=int((~has_value[~lost]).sum()))
    ledger = ledger.dropped(
        "windows", "its decision was dropped", [], unit="choice", n=int(lost.sum()) * n_rows * n_cols
    )
    keep = has_value[~lost]
    choice = np.nonzero(keep)[1]
    east = (np.arange(n_cols) - n_cols // 2)[None, :] * pixel_size
    north = (n_rows // 2 - np.arange(n_rows))[:, None] * pixel_size
    distance = np.hypot(east, north)
    per_pixel = {
        f"distance_{unit}": (distance, FeatureInfo("pair", unit, "from the center of the window")),
        "heading_sin": (
            east / np.where(distance > 0, distance, 1),
            FeatureInfo("pair", "1", "eastward part of the heading"),
        ),
        "heading_cos": (
            north / np.where(distance > 0, distance, 1),
            FeatureInfo("pair", "1", "northward part of the heading"),
        ),
        "stay": ((distance == 0).astype(np.float64), FeatureInfo("pair", "1", "the choice is the origin")),
    }
    features = {name: table.ravel().astype(np.float32)[choice] for name, (table, _) in per_pixel.items()}
    for k, layer in enumerate(layers):
        features[layer] = np.asarray(windows[:, k], dtype=np.float32).reshape(n, -1)[~lost][keep]
    counts = keep.sum(axis=1)
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    within = np.cumsum(keep, axis=1)[np.arange(len(keep)), pixel[~lost]] - 1
    made = ChoiceSets(
        decisions=decisions[~lost],
        offsets=offsets,
        choice=choice.astype(np.int64),
        selected=np.where(known[~lost], offsets[:-1] + within, -1),
        features=features,
        info={name: info for name, (_, info) in per_pixel.items()} | {name: FeatureInfo("choice") for name in layers},
    )
    ledger.check(n, made.n_decisions, "decision")
    ledger.check(n * n_rows * n_cols, made.n_rows, "choice")
    return made, ledger


def _check_windows(
    windows: np.ndarray, selected: np.ndarray, layers: Sequence[str], pixel_size: float
) -> tuple[int, int, int, np.ndarray]:
    if windows.ndim != 4 or windows.shape[1] != len(layers) or not layers:
        raise ValueError(
            f"windows must be (decision, layer, row, col) with {len(layers)} layers ({', '.join(layers)}); got "
            f"{windows.shape}."
        )
    n, _, n_rows, n_cols = windows.shape
    if n_rows % 2 == 0 or n_cols % 2 == 0:
        raise ValueError(
            f"windows need a pixel in the middle, so odd numbers of rows and columns; got {n_rows} x {n_cols}."
        )
    if not pixel_size > 0:
        raise ValueError(f"pixel_size must be above 0; got {pixel_size}.")
    selected = np.asarray(selected)
    if selected.shape != (n, 2) or selected.dtype.kind not in "iu":
        raise ValueError(
            f"selected must be whole numbers (decision, 2) = ({n}, 2); got {selected.shape}, {selected.dtype}."
        )
    unknown = np.asarray((selected < 0).any(axis=1))
    outside = ~unknown & ((selected[:, 0] >= n_rows) | (selected[:, 1] >= n_cols))
    if outside.any():
        raise ValueError(
            f"{outside.sum():,} selected pixels lie outside windows of {n_rows} x {n_cols} (decisions "
            f"{examples(np.flatnonzero(outside))}). Enlarge the windows or leave these decisions out."
        )
    return n, n_rows, n_cols, np.where(np.repeat(unknown[:, None], 2, axis=1), -1, selected).astype(np.int64)
