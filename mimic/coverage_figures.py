"""Tables of a coverage report into a picture: covariates by month, and where on the map values are missing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import PolyCollection
from matplotlib.colors import Colormap, LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure

from mimic.coastline import MapView, unwrap, view_of
from mimic.coverage_tables import percent
from mimic.figures import new_figure, root_figure, style
from mimic.ground import HALO, draw_ground
from mimic.hexgrid import boundaries
from mimic.schema import require_columns

__all__ = ["draw_report", "draw_share_map", "draw_shares"]

# Pale blue where all is there; any share below, however near, has a tint of its own, and dark is nothing: what is
# missing should meet the eye, in gray too.
SHARES: Colormap = LinearSegmentedColormap.from_list("shares", ["#4a1404", "#a63603", "#e8852b", "#fbdcb4"])
SHARES = SHARES.with_extremes(over="#e9f1f7")
BELOW_ALL = Normalize(0.0, float(np.nextafter(1.0, 0.0)))
WIDTH_CM = 17.0
_FONT_PT = 6.0
_DARK = 0.45  # below it, what is written on a share is white


@style()
def draw_shares(table: pd.DataFrame, ax: Axes | None = None, *, by: str = "month") -> Axes:
    """The axes with a heat map of the share of choices that have a value: covariates down, groups along.

    Parameters
    ----------
    table
        From `Coverage.shares([by])`: covariate, the group, share_choices, n_selected and share_selected. Months
        between the first and the last without a decision are hatched.
    ax
        Axes to draw in; by default a new figure.

    Notes
    -----
    A cross marks where a selected cell has no value: selections are lost there. At the right, the share of the whole
    study.
    """
    require_columns(
        list(table.columns), ["covariate", by, "share_choices", "n_selected", "share_selected"], where="table"
    )
    names = list(dict.fromkeys(table["covariate"]))
    groups = _groups(table[by])
    if ax is None:
        ax = new_figure(WIDTH_CM, 2.5 + 0.6 * len(names)).subplots()
    place = {name: k for k, name in enumerate(groups)}
    # exactly all is a color of its own: shares go over as float64
    share, lost = np.full((len(names), len(groups)), np.nan), np.zeros((len(names), len(groups)), dtype=bool)
    row, column = table["covariate"].map(names.index).to_numpy(), table[by].map(place).to_numpy()
    share[row, column] = table["share_choices"]
    lost[row, column] = (table["share_selected"] < 1).to_numpy() & (table["n_selected"] > 0).to_numpy()
    edges_x, edges_y = np.arange(len(groups) + 1) - 0.5, np.arange(len(names) + 1) - 0.5
    mesh = ax.pcolormesh(
        edges_x, edges_y, share, cmap=SHARES, norm=BELOW_ALL, edgecolor="white", linewidth=0.3, rasterized=True
    )
    ax.patch.set(facecolor="white", hatch="/////", edgecolor="0.85")  # seen where nobody decided
    y, x = np.nonzero(lost)
    is_dark = share[y, x] < _DARK
    look: dict[str, Any] = {"marker": "x", "s": 9, "linewidths": 0.8, "label": "selections lost"}
    ax.scatter(x, y, c=np.where(is_dark, "white", "black"), **look)
    ax.set(xlim=(edges_x[0], edges_x[-1]), ylim=(edges_y[-1], edges_y[0]), yticks=range(len(names)), yticklabels=names)
    step = int(np.ceil(len(groups) / 24))
    ticks = np.arange(0, len(groups), step)
    ax.set_xticks(ticks, [groups[k] for k in ticks], rotation=60, ha="right", rotation_mode="anchor")
    ax.tick_params(length=0)
    weight = table["n_choices"] if "n_choices" in table else pd.Series(1.0, table.index)
    for k, name in enumerate(names):
        mine = table["covariate"] == name
        whole = float(np.average(table.loc[mine, "share_choices"], weights=weight[mine]))
        ax.annotate(percent(whole), (1.01, k), xycoords=("axes fraction", "data"), va="center", fontsize=_FONT_PT + 1)
    bar = root_figure(ax).colorbar(mesh, ax=ax, extend="max", extendfrac=0.12, aspect=14, pad=0.1)
    bar.set_label("with a value (tip: all)")
    bar.outline.set_linewidth(0.6)
    bar.ax.yaxis.set_major_formatter(lambda v, _: f"{100 * v:.0f} %")
    return ax


@style()
def draw_share_map(table: pd.DataFrame, ax: Axes, *, label: str, view: MapView | None = None) -> ScalarMappable:
    """What the colors of the map mean, after drawing regions by their share.

    Parameters
    ----------
    table
        region (H3 cells, int64), share (0 to 1) and n_decisions; NaN shares are drawn gray.
    ax
        Axes to draw in.
    label
        Title of the map.
    """
    require_columns(list(table.columns), ["region", "share", "n_decisions"], where="table")
    corners = boundaries(table["region"].to_numpy(dtype=np.int64))
    view = view or view_of(*np.concatenate(corners).T)
    shapes = [_on_paper(view, c) for c in corners]
    cells = PolyCollection(
        shapes,
        cmap=SHARES.with_extremes(bad="0.75"),
        norm=BELOW_ALL,
        edgecolor="0.35",
        linewidth=0.5,
        zorder=1,
        alpha=0.9,
    )
    cells.set_array(np.ma.masked_invalid(table["share"].to_numpy(dtype=float)))
    draw_ground(view, ax, points=np.concatenate(shapes), coast_over=True)
    for name in ax.texts:  # of parallels: under the cells, in which numbers are written
        name.set_zorder(0.8)
    ax.add_collection(cells)
    for shape, share, n in zip(shapes, table["share"], table["n_decisions"], strict=True):
        ax.annotate(
            f"{percent(float(share))}\n{int(n):,}",
            shape.mean(axis=0),
            ha="center",
            va="center",
            fontsize=_FONT_PT - 1,
            color="white" if share < _DARK else "black",
            zorder=5,
            path_effects=None if share < _DARK else HALO,
            clip_on=True,
        )
    ax.set_title(label, pad=14.0 if view.is_polar else 4.0)  # labels of meridians stand above a polar map
    return cells


@style()
def draw_report(
    by_month: pd.DataFrame, by_region: pd.DataFrame, lost_by_region: pd.DataFrame, *, title: str | None = None
) -> Figure:
    """The figure of a coverage report: covariates by month above, two maps (or bars) of the regions below.

    Parameters
    ----------
    by_month, by_region
        From `Coverage.shares(["month"])` and `shares(["region"])`.
    lost_by_region
        region, n_decisions, share_lost: decisions that no choice set can be built for.
    """
    n_covariates = by_month["covariate"].nunique()
    is_cells = pd.api.types.is_integer_dtype(by_region["region"])
    heat_cm, below_cm = 3.0 + 0.55 * n_covariates, 8.0 if is_cells else 3.0 + 0.55 * n_covariates
    figure = new_figure(WIDTH_CM, heat_cm + below_cm)
    panels: Any = figure.subfigures(2, 1, height_ratios=[heat_cm, below_cm])
    above, below = panels
    draw_shares(by_month, above.subplots(), by="month").set_title(
        f"{title + ': ' if title else ''}share of choices with a value (x: selected cells without)"
    )
    if not is_cells:
        draw_shares(by_region, below.subplots(), by="region").set_title("the same by region")
        return figure
    left, right = below.subplots(1, 2)
    worst = by_region.groupby("region").agg(share=("share_choices", "min"), n_decisions=("n_decisions", "first"))
    draw_share_map(worst.reset_index(), left, label="Choices with a value, of the scarcest covariate")
    kept = lost_by_region.assign(share=1.0 - lost_by_region["share_lost"])
    draw_share_map(kept, right, label="Decisions that can be built")
    return figure


def _groups(values: pd.Series) -> list[str]:
    """The groups in order; of months, also those between in which nobody decided."""
    found = sorted(set(values.astype(str)))
    if not all(len(v) == 7 and v[4] == "-" for v in found):
        return found
    months = np.arange(np.datetime64(found[0], "M"), np.datetime64(found[-1], "M") + 1)
    return months.astype(str).tolist() if len(months) <= 240 else found


def _on_paper(view: MapView, corners: np.ndarray) -> np.ndarray:
    """Corners of a cell on paper, (corner, 2), in one piece at the date line."""
    x, y = view.project(*corners.T)
    return np.column_stack([x if view.is_polar else unwrap(x, x[0]), y])
