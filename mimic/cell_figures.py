"""A table of values by cell into a map of cells colored by value."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import Colormap, Normalize

from mimic.coastline import view_of
from mimic.figures import WIDTH_CM, set_wrapped_title, style
from mimic.ground import draw_ground
from mimic.hexgrid import boundaries
from mimic.maps import DIFFERENCES, color_bar, fit_height, new_map
from mimic.schema import examples, require_columns

__all__ = ["VALUES", "draw_cells"]

VALUES = "cividis"
"""The colors of covariates: perceptually uniform, and not those of probabilities."""

_MISSING = "0.8"
_OUTLINED = 400  # more cells than this are drawn without outlines, which would hide their colors
_RASTER = 2000  # more cells than this are pixels in PDF and SVG, which would else be slow to open


@style()
def draw_cells(
    table: pd.DataFrame,
    ax: Axes | None = None,
    *,
    label: str | None = None,
    title: str | None = None,
    diverging: bool = False,
    limits: tuple[float, float] | None = None,
    colors: str | Colormap | None = None,
    width_cm: float = WIDTH_CM,
) -> Axes:
    """The axes with a map of cells colored by value, the coast over them.

    Parameters
    ----------
    table
        One row a cell, as from `mimic.cell_values.covariate_cells`: cell (H3 cells, int64) and value, gray where it is
        NaN. Where they are there, covariate, unit and period name the color bar and the map.
    ax
        Axes to draw in; by default a new figure of `width_cm`.
    label
        Name of the values beside the color bar, without the unit; by default the covariate.
    title
        By default the period, if it is not all times. "": none.
    diverging
        Colors from `DIFFERENCES`, red below 0 and blue above, symmetric around 0: for changes and anomalies.
    limits
        Lowest and highest value told apart; by default those of the table. Values beyond them have the color of the
        limit, and the color bar a tip.
    colors
        Another color map of matplotlib.

    Raises
    ------
    ValueError
        If a column is missing, there is no cell, a cell comes twice, limits are none, or limits of diverging colors
        are not symmetric.

    Notes
    -----
    Maps across 180 degrees are in one piece; cells near a pole are seen from above it, see `mimic.coastline.view_of`.
    """
    cells, values = _cells_of(table)
    corners = boundaries(cells)
    view = view_of(*np.concatenate(corners).T, margin=0.03)
    is_new, ax = ax is None, ax or new_map(view, width_cm)
    shapes = view.outlines(corners)
    draw_ground(view, ax, points=np.stack([shape.mean(axis=0) for shape in shapes]), coast_over=True)
    is_outlined = len(cells) <= _OUTLINED
    scale, extend = _scale(values, limits, diverging)
    patches = PolyCollection(
        shapes,
        cmap=DIFFERENCES if diverging and colors is None else colors or VALUES,
        norm=scale,
        # without a line of their own color, hairlines of the ground show between neighbors
        edgecolor="white" if is_outlined else "face",
        linewidth=0.3 if is_outlined else 0.2,
        zorder=2,
        rasterized=len(cells) > _RASTER,
    )
    patches.set_cmap(patches.get_cmap().with_extremes(bad=_MISSING))
    patches.set_array(np.ma.masked_invalid(values))
    ax.add_collection(patches)
    color_bar(ax, patches, _label(table, label), extend=extend)
    title = _title(table) if title is None else title
    if title:
        set_wrapped_title(ax, title, pad=14.0 if view.is_polar else 4.0)  # meridians are named above a polar map
    if is_new:
        fit_height(ax, view.height_over_width)
    return ax


def _cells_of(table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Cells and values: (cell,) each."""
    require_columns(list(table.columns), ["cell", "value"], where="cells")
    if table.empty:
        raise ValueError("expected at least one cell to draw a map of; got none.")
    repeated = table["cell"].duplicated()
    if repeated.any():
        raise ValueError(
            f"expected each cell once; {repeated.sum()} rows are of cells that came before "
            f"({examples(table.loc[repeated, 'cell'])}). Draw one covariate and one period at a time."
        )
    return table["cell"].to_numpy(dtype=np.int64), table["value"].to_numpy(dtype=np.float64)


def _scale(values: np.ndarray, limits: tuple[float, float] | None, diverging: bool) -> tuple[Normalize, str]:
    """The limits of the colors, and on which ends of the color bar values lie beyond them."""
    known = values[np.isfinite(values)]
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
    if limits is not None:
        if not limits[0] < limits[1]:
            raise ValueError(f"limits must be a lower and a higher value; got {limits[0]} and {limits[1]}.")
        if diverging and not np.isclose(-limits[0], limits[1]):
            raise ValueError(f"limits of diverging colors must be -x and x; got {limits[0]} and {limits[1]}.")
        is_below, is_above = bool((known < limits[0]).any()), bool((known > limits[1]).any())
        extend = {(False, False): "neither", (True, False): "min", (False, True): "max"}.get(
            (is_below, is_above), "both"
        )
        return Normalize(*limits), extend
    if diverging:
        high = max(abs(low), abs(high)) or 1.0
        return Normalize(-high, high), "neither"
    if low == high:  # a color bar from a value to itself has no ticks
        low, high = low - 0.5 * (abs(low) or 1.0), high + 0.5 * (abs(high) or 1.0)
    return Normalize(low, high), "neither"


def _label(table: pd.DataFrame, label: str | None) -> str:
    """The name of the values with their unit."""
    name = label if label is not None else str(table["covariate"].iloc[0]) if "covariate" in table else "value"
    unit = str(table["unit"].iloc[0]) if "unit" in table else "1"
    return name if unit in ("1", "") else f"{name}, {unit}"


def _title(table: pd.DataFrame) -> str:
    period = str(table["period"].iloc[0]) if "period" in table else ""
    return "" if period == "all times" else period
