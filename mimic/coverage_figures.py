"""Tables of a coverage report into a picture: covariates by month, and where on the map values are missing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import Colormap, LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.path import Path
from matplotlib.ticker import FuncFormatter

from mimic.coastline import MapView, view_of
from mimic.coverage_tables import percent
from mimic.figures import PAGE_CM, new_figure, root_figure, set_wrapped_title, style, text_width_pt
from mimic.ground import HALO, draw_ground
from mimic.hexgrid import boundaries
from mimic.maps import color_bar, fit_height, new_map
from mimic.schema import require_columns

__all__ = ["draw_report", "draw_share_map", "draw_shares"]

# Pale blue where all is there; any share below, however near, has a tint of its own, and dark is nothing: what is
# missing should meet the eye, in gray too.
SHARES: Colormap = LinearSegmentedColormap.from_list("shares", ["#4a1404", "#a63603", "#e8852b", "#fbdcb4"])
SHARES = SHARES.with_extremes(over="#e9f1f7")
BELOW_ALL = Normalize(0.0, float(np.nextafter(1.0, 0.0)))
_FONT_PT = 6.0
_NARROW_CM = 12.0  # below it, maps and color bars lie below, not beside
_DARK = 0.45  # below it, what is written on a share is white


@style()
def draw_shares(table: pd.DataFrame, ax: Axes | None = None, *, by: str = "month", width_cm: float = PAGE_CM) -> Axes:
    """The axes with a heat map of the share of choices that have a value: covariates down, groups along.

    Parameters
    ----------
    table
        From `Coverage.shares([by])`: covariate, the group, share_choices, n_selected and share_selected. Months
        between the first and the last without a decision are hatched.
    ax
        Axes to draw in; by default a new figure of `width_cm`.

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
        ax = new_figure(width_cm, 2.5 + 0.6 * len(names) + 1.5 * (width_cm < _NARROW_CM)).subplots()
    at = {name: k for k, name in enumerate(groups)}
    # exactly all is a color of its own: shares go over as float64
    share, lost = np.full((len(names), len(groups)), np.nan), np.zeros((len(names), len(groups)), dtype=bool)
    row, column = table["covariate"].map(names.index).to_numpy(), table[by].map(at).to_numpy()
    share[row, column] = table["share_choices"]
    lost[row, column] = (table["share_selected"] < 1).to_numpy() & (table["n_selected"] > 0).to_numpy()
    edges_x, edges_y = np.arange(len(groups) + 1) - 0.5, np.arange(len(names) + 1) - 0.5
    around_cm = 5.0 if _is_narrow(ax) else 7.5  # names and shares, and a color bar beside them
    cell_pt = (root_figure(ax).get_figwidth() * 2.54 - around_cm) / 2.54 * 72 / len(groups)
    line: dict[str, Any] = {"edgecolor": "white", "linewidth": 0.3} if cell_pt > 4 else {}
    mesh = ax.pcolormesh(edges_x, edges_y, share, cmap=SHARES, norm=BELOW_ALL, rasterized=True, **line)
    ax.patch.set(facecolor="white", hatch="/////", edgecolor="0.85")  # seen where nobody decided
    y, x = np.nonzero(lost)
    is_dark = share[y, x] < _DARK
    cross: dict[str, Any] = {"s": 9, "linewidths": 0.8} if cell_pt > 4 else {"s": 2.5, "linewidths": 0.5}
    look: dict[str, Any] = {"marker": "x", "label": "selections lost", **cross}
    ax.scatter(x, y, c=np.where(is_dark, "white", "black"), **look)
    ax.set(xlim=(edges_x[0], edges_x[-1]), ylim=(edges_y[-1], edges_y[0]), yticks=range(len(names)), yticklabels=names)
    step = int(np.ceil(len(groups) / np.clip(cell_pt * len(groups) / 11, 3, 24)))
    ticks = np.arange(0, len(groups), step)
    ax.set_xticks(ticks, [groups[k] for k in ticks], rotation=60, ha="right", rotation_mode="anchor")
    ax.tick_params(length=0)
    weight = table["n_choices"] if "n_choices" in table else pd.Series(1.0, table.index)
    for k, name in enumerate(names):
        mine = table["covariate"] == name
        whole = float(np.average(table.loc[mine, "share_choices"], weights=weight[mine]))
        ax.annotate(percent(whole), (1.01, k), xycoords=("axes fraction", "data"), va="center", fontsize=_FONT_PT + 1)
    place: dict[str, Any] = {"location": "bottom", "pad": 0.02} if _is_narrow(ax) else {"aspect": 14, "pad": 0.1}
    bar = root_figure(ax).colorbar(mesh, ax=ax, extend="max", extendfrac=0.12, **place)
    bar.set_label("with a value (tip: all)")
    bar.outline.set_linewidth(0.6)
    bar.formatter = FuncFormatter(lambda v, _: f"{100 * v:.0f} %")
    return ax


@style()
def draw_share_map(
    table: pd.DataFrame,
    ax: Axes | None = None,
    *,
    label: str,
    view: MapView | None = None,
    width_cm: float = PAGE_CM,
) -> Axes:
    """The axes with a map of regions, colored by their share, with the share and the number of decisions in each.

    Parameters
    ----------
    table
        region (H3 cells, int64), share (0 to 1) and n_decisions; NaN shares are drawn gray.
    ax
        Axes to draw in; by default a new figure of `width_cm`, with a color bar.
    label
        Title of the map.

    Notes
    -----
    In regions that are drawn too small for both numbers stands the share, or nothing.
    """
    require_columns(list(table.columns), ["region", "share", "n_decisions"], where="table")
    corners = boundaries(table["region"].to_numpy(dtype=np.int64))
    view = view or view_of(*np.concatenate(corners).T)
    shapes = view.outlines(corners)
    is_new, ax = ax is None, ax or new_map(view, width_cm)
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
    paths = [Path(shape) for shape in shapes]
    for name in list(ax.texts):  # of parallels: not below the numbers of a region
        if any(path.contains_point(name.get_position()) for path in paths):
            name.remove()
    ax.add_collection(cells)
    for shape, share, n in zip(shapes, table["share"], table["n_decisions"], strict=True):
        _write_share(ax, view, shape, float(share), int(n))
    set_wrapped_title(ax, label, pad=14.0 if view.is_polar else 4.0)  # labels of meridians stand above a polar map
    if is_new:
        bar = color_bar(ax, cells, "share (tip: all)", extend="max")
        bar.ax.xaxis.set_major_formatter(lambda v, _: f"{100 * v:.0f} %")
        fit_height(ax, view.height_over_width)
    return ax


def _is_narrow(ax: Axes) -> bool:
    return root_figure(ax).get_figwidth() * 2.54 < _NARROW_CM


def _write_share(ax: Axes, view: MapView, shape: np.ndarray, share: float, n: int) -> None:
    """The share and the number of decisions of a region, as far as there is room in it."""
    if not np.isfinite(share):
        return
    size = _FONT_PT - 1
    width_pt, height_pt = 72 * root_figure(ax).get_size_inches() * ax.get_position(original=True).size
    unit_pt = min(width_pt / np.ptp(view.x), height_pt / (view.aspect * np.ptp(view.y)))  # one unit of x
    room = 0.75 * unit_pt * np.ptp(shape, axis=0) * [1.0, view.aspect]
    lines = [percent(share), f"{n:,}"]
    while lines and (max(text_width_pt(t, size) for t in lines) > room[0] or 1.3 * size * len(lines) > room[1]):
        lines.pop()
    if lines:
        ax.annotate(
            "\n".join(lines),
            shape.mean(axis=0),
            ha="center",
            va="center",
            fontsize=size,
            color="white" if share < _DARK else "black",
            zorder=5,
            path_effects=None if share < _DARK else HALO,
            clip_on=True,
        )


@style()
def draw_report(
    by_month: pd.DataFrame,
    by_region: pd.DataFrame,
    lost_by_region: pd.DataFrame,
    *,
    title: str | None = None,
    width_cm: float = PAGE_CM,
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
    is_narrow = width_cm < _NARROW_CM
    map_cm = 1.6 * width_cm if is_narrow else 8.0
    heat_cm = 3.0 + 0.55 * n_covariates + 1.5 * is_narrow
    below_cm = map_cm if is_cells else heat_cm
    figure = new_figure(width_cm, heat_cm + below_cm)
    panels: Any = figure.subfigures(2, 1, height_ratios=[heat_cm, below_cm])
    above, below = panels
    heading = f"{title + ': ' if title else ''}share of choices with a value (x: selected cells without)"
    set_wrapped_title(draw_shares(by_month, above.subplots(), by="month"), heading)
    if not is_cells:
        set_wrapped_title(draw_shares(by_region, below.subplots(), by="region"), "the same by region")
        return figure
    first, second = below.subplots(2, 1) if is_narrow else below.subplots(1, 2)
    worst = by_region.groupby("region").agg(share=("share_choices", "min"), n_decisions=("n_decisions", "first"))
    draw_share_map(worst.reset_index(), first, label="Choices with a value, of the scarcest covariate")
    kept = lost_by_region.assign(share=1.0 - lost_by_region["share_lost"])
    draw_share_map(kept, second, label="Decisions that can be built")
    return figure


def _groups(values: pd.Series) -> list[str]:
    """The groups in order; of months, also those between in which nobody decided."""
    found = sorted(set(values.astype(str)))
    if not all(len(v) == 7 and v[4] == "-" for v in found):
        return found
    months = np.arange(np.datetime64(found[0], "M"), np.datetime64(found[-1], "M") + 1)
    return months.astype(str).tolist() if len(months) <= 240 else found
