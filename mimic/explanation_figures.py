"""Tables of explanation into figures: responses, surfaces, importance, exemplars. Only draws what it is given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from mimic.figures import (
    COLORS,
    MARKERS,
    MAX_LEGEND,
    WIDTH_CM,
    grow_by_legend,
    legend_below,
    legend_outside,
    model_colors,
    new_figure,
    root_figure,
    set_wrapped_title,
    style,
    wrap_labels,
    wrapped,
)
from mimic.importance import ACROSS
from mimic.maps import DIFFERENCES, color_bar, draw_choice_set, draw_difference_map
from mimic.responses import CURVE_COLUMNS
from mimic.schema import INDIVIDUAL, ORIGIN, require_columns
from mimic.surfaces import SURFACE_COLUMNS

__all__ = [
    "draw_exemplar_decision",
    "draw_exemplar_map",
    "draw_exemplars",
    "draw_importance",
    "draw_response",
    "draw_surface",
]

_KINDS = {
    "partial_dependence": "partial dependence",
    "accumulated": "accumulated local effects",
    "log_rss": "log-RSS",
}
_DASHES: tuple[Any, ...] = ("-", (0, (3.2, 1.4)), ":", (0, (5, 1.2, 1, 1.2)))
_HATCHES = ("", "////", "....", "xxxx", "----", "||||", "\\\\\\\\", "oo", "++++", "**", "//..", "--..")
_FEW_VALUES = 5
_SMALLEST_MAP_CM = 4.0
_MOST_LABELS = 40
_LONG_LABEL = 56  # characters that an axis label has room for
_ZERO: dict[str, Any] = {"color": "0.55", "linewidth": 0.6, "zorder": 0.5}


@style()
def draw_response(
    table: pd.DataFrame,
    ax: Axes | None = None,
    *,
    rug: np.ndarray | None = None,
    colors: Mapping[str, str] | None = None,
    width_cm: float = WIDTH_CM,
) -> Axes:
    """Curves of the log-odds by one feature, with their intervals as bands.

    Parameters
    ----------
    table
        Of `mimic.responses.response` or `mimic.selection_strength.log_rss_curve`, several one below the other if they
        are of one feature; with a column `model` too. Each kind and model is a line.
    rug
        Values of the feature in the data, drawn as ticks at the bottom, at most 500 of them.
    colors
        model (or kind, without models) -> color.

    Raises
    ------
    ValueError
        If a column is missing, or the table is not of one feature.
    """
    require_columns(list(table.columns), CURVE_COLUMNS, where="response")
    features = table["feature"].unique()
    if len(features) != 1:
        raise ValueError(f"expected the curves of one feature; got {', '.join(map(str, features)) or 'none'}.")
    is_new, ax = ax is None, ax or new_figure(width_cm, 7.5).subplots()
    keys = ["model", "kind"] if "model" in table else ["kind"]
    curves = {tuple(map(str, np.atleast_1d(np.array(k, dtype=object)))): c for k, c in table.groupby(keys, sort=False)}
    names = list(dict.fromkeys(key[0] for key in curves))
    palette = model_colors(names) | dict(colors or {})
    kinds = list(dict.fromkeys(key[-1] for key in curves))
    handles: list[Artist] = []
    for key, curve in curves.items():
        label = ", ".join(_KINDS.get(part, part) for part in (key if len(kinds) > 1 or len(key) == 1 else key[:1]))
        look: dict[str, Any] = {"color": palette[key[0]], "linestyle": _DASHES[kinds.index(key[-1]) % len(_DASHES)]}
        if len(keys) > 1 and len(names) > 1:  # colors alone are not told apart in gray
            look |= {"marker": MARKERS[names.index(key[0]) % len(MARKERS)], "markersize": 4}
        _draw_curve(ax, curve, look, names.index(key[0]) / len(names))
        handles.append(Line2D([], [], label=label, **look))
    ax.axhline(0.0, **_ZERO)
    if rug is not None:
        _draw_rug(ax, rug, table["value"].to_numpy())
    unit = str(table["unit"].iloc[0])
    ax.set_xlabel(str(features[0]) + (f", {unit}" if unit not in ("", "1") else ""))
    reference = table["reference"].iloc[0]
    of_one_kind = f"{_KINDS.get(kinds[0], kinds[0])},\n" if len(kinds) == 1 else ""
    ax.set_ylabel(f"{of_one_kind}log-odds, nats" if np.isnan(reference) else f"log-RSS against {reference:.3g}, nats")
    intervals = [i for i in table["interval"].unique() if i]
    if intervals:
        handles.append(Patch(color="0.75", label=f"interval over: {', '.join(intervals)}"))
    wrap_labels(ax)
    legend_below(ax, handles, gap_pt=32)
    if is_new:
        grow_by_legend(ax)
    sns.despine(ax=ax)
    return ax


@style()
def draw_surface(
    table: pd.DataFrame, ax: Axes | None = None, *, limit: float | None = None, width_cm: float = WIDTH_CM
) -> Axes:
    """The surface of log-odds by two features as colors, hatched where there are no data.

    Parameters
    ----------
    table
        Of `mimic.surfaces.odds_surface`.
    limit
        Log-odds beyond +-limit get the color of the limit, nats; by default the largest where there are data.

    Raises
    ------
    ValueError
        If a column is missing.
    """
    require_columns(list(table.columns), SURFACE_COLUMNS, where="surface")
    ax = ax or new_figure(width_cm, 9.0).subplots()
    first = table.iloc[0]
    shaped = {c: table.pivot(index="y", columns="x", values=c) for c in ("log_odds", "has_data")}
    x, y = (shaped["log_odds"].columns.to_numpy(dtype=float), shaped["log_odds"].index.to_numpy(dtype=float))
    values, has_data = shaped["log_odds"].to_numpy(dtype=float), shaped["has_data"].to_numpy(dtype=bool)
    seen = np.abs(values[has_data])
    largest = limit or float(seen.max(initial=0.0)) or 1.0
    shown = np.ma.masked_where(~has_data, values)
    mesh = ax.pcolormesh(_edges(x), _edges(y), shown, cmap=DIFFERENCES, norm=Normalize(-largest, largest))
    handles = []
    if not has_data.all():
        empty: dict[str, Any] = {"facecolor": "0.93", "edgecolor": "0.65", "hatch": "////", "linewidth": 0}
        ax.patch.set(**empty)
        handles.append(Patch(**empty, label="no data"))
    ax.set_xlabel(_axis_label(str(first["feature_x"]), str(first["unit_x"])))
    ax.set_ylabel(_axis_label(str(first["feature_y"]), str(first["unit_y"])))
    beyond = "both" if seen.max(initial=0.0) > largest else "neither"
    bar = root_figure(ax).colorbar(mesh, ax=ax, extend=beyond, aspect=30, pad=0.02)
    bar.set_label("log-odds, nats" + ("" if first["centered"] == "overall" else f", 0 on average {first['centered']}"))
    bar.outline.set_linewidth(0.6)
    wrap_labels(ax)
    legend_below(ax, handles, gap_pt=32)
    for axis, grid in ((ax.xaxis, x), (ax.yaxis, y)):
        if len(grid) <= _FEW_VALUES:
            ticks = _apart(grid)
            axis.set_ticks(ticks, [f"{v:.3g}" for v in ticks])
    return ax


@style()
def draw_importance(
    table: pd.DataFrame,
    ax: Axes | None = None,
    *,
    colors: Mapping[str, str] | None = None,
    width_cm: float = WIDTH_CM,
) -> Axes:
    """What each feature is worth, in nats of D, with intervals: the most important at the top.

    Parameters
    ----------
    table
        Of `mimic.importance`, of one split, choice group, behavior group and weighting. Several models: one marker
        each, ordered by the first. Open markers were not permuted within choice sets.
    colors
        model -> color.

    Raises
    ------
    ValueError
        If a column is missing, or the table is of several groups.
    """
    groups = ["split", "choice_group", "behavior_group", "weighting"]
    require_columns(
        list(table.columns), ["model", "feature", "how", "drop", "drop_low", "drop_high", *groups], where="importance"
    )
    if len(table[groups].drop_duplicates()) != 1:
        raise ValueError(
            f"expected the importance in one group; got {len(table[groups].drop_duplicates())} combinations of "
            f"{', '.join(groups)}. Keep one."
        )
    models = list(dict.fromkeys(table["model"].astype(str)))
    order = table.sort_values("drop", ascending=False, kind="stable")
    order = pd.concat([order[order["model"] == m] for m in models])
    features = list(dict.fromkeys(order["feature"].astype(str)))
    ax = ax or new_figure(width_cm, 1.6 + len(features) * max(0.55, 0.22 + 0.26 * len(models)) + 1.6).subplots()
    palette = model_colors(models) | dict(colors or {})
    step = 0.6 / len(models)
    for row in table.to_dict(orient="records"):
        m = models.index(str(row["model"]))
        y = features.index(str(row["feature"])) + step * (m - (len(models) - 1) / 2)
        color = palette[models[m]]
        ax.plot([row["drop_low"], row["drop_high"]], [y, y], color=color, linewidth=1.1, zorder=2)
        filled = "white" if ACROSS in str(row["how"]) else color
        look: dict[str, Any] = {"marker": MARKERS[m % len(MARKERS)], "markersize": 4.5, "markerfacecolor": filled}
        ax.plot([row["drop"]], [y], color=color, linestyle="none", zorder=3, **look)
    ax.axvline(0.0, **_ZERO)
    ax.set_yticks(range(len(features)), features)
    ax.set_ylim(len(features) - 0.5, -0.5)
    ax.tick_params(axis="y", length=0)
    ax.set_xlabel("drop in mean ln p(selected), nats")
    wrap_labels(ax)
    handles = [
        Line2D([], [], color=palette[m], marker=MARKERS[k % len(MARKERS)], markersize=4.5, label=m)
        for k, m in enumerate(models)
    ]
    for how in sorted(map(str, table["how"].unique()), key=lambda how: ACROSS in how):
        filled = "white" if ACROSS in how else "0.15"
        look = {"marker": "o", "linestyle": "none", "markersize": 4.5, "markerfacecolor": filled}
        handles.append(Line2D([], [], color="0.15", label=how, **look))
    legend_below(ax, handles, gap_pt=32)
    sns.despine(ax=ax, left=True)
    return ax


@style()
def draw_exemplars(
    table: pd.DataFrame,
    ax: Axes | None = None,
    *,
    color_by: str | None = None,
    colors: Mapping[str, str] | None = None,
    width_cm: float = WIDTH_CM,
) -> Axes:
    """Sorted bars of how much one model helps each individual, month or region against another.

    Parameters
    ----------
    table
        Of `mimic.exemplars.exemplars`, of one split.
    color_by
        A column of the table that gives the color of the bars, such as the release site; by default the side.
    colors
        Value of that column -> color.

    Raises
    ------
    ValueError
        If a column is missing, the table is empty, or it is of several splits.

    Notes
    -----
    A gap between bars is where the middle has been left out (ranks jump). Beyond 40 bars only ranks are written.
    """
    needed = ["model", "other", "by", "value", "split", "difference", "rank", *([color_by] if color_by else [])]
    require_columns(list(table.columns), needed, where="exemplars")
    if table["split"].nunique() != 1:
        raise ValueError(f"expected the exemplars of one split; got {', '.join(map(str, table['split'].unique()))}.")
    rows = table.sort_values("rank", kind="stable")
    y = np.arange(len(rows)) + np.cumsum(np.diff(rows["rank"], prepend=rows["rank"].iloc[0]) > 1)
    tall = 0.42 if len(rows) <= 20 else 0.34 if len(rows) <= _MOST_LABELS else 0.12
    ax = ax or new_figure(width_cm, 3.4 + tall * len(rows)).subplots()
    sides = {"helped": COLORS[0], "harmed": COLORS[1], "": "0.6"}
    of_bar = [f"{v:g}" if isinstance(v, float) else str(v) for v in rows[color_by or "side"]]
    known = list(dict.fromkeys(of_bar))
    palette = (model_colors(known) if color_by else sides) | dict(colors or {})
    bars = ax.barh(y, rows["difference"], color=[palette[v] for v in of_bar], height=0.78, zorder=2)
    hatches = {v: _HATCHES[k % len(_HATCHES)] if color_by else "" for k, v in enumerate(known)}
    for bar, v in zip(bars, of_bar, strict=True):
        bar.set(hatch=hatches[v], edgecolor="white", linewidth=0)
    if "difference_low" in rows:
        for at, low, high in zip(y, rows["difference_low"], rows["difference_high"], strict=True):
            ax.plot([low, high], [at, at], color="0.15", linewidth=0.8, zorder=3)
    ax.axvline(0.0, **_ZERO | {"color": "0.15", "zorder": 2.5})
    ax.set_ylim(y[-1] + 0.7, -0.7)
    if len(rows) <= _MOST_LABELS:
        ax.set_yticks(y, rows["value"].astype(str))
    else:
        ax.set_ylabel(f"{rows['by'].iloc[0]}, by rank")
    ax.tick_params(axis="y", length=0)
    first = rows.iloc[0]
    title, label = f"by {first['by']}, {first['split']}", f"mean ln p({first['model']}) - ln p({first['other']}), nats"
    if len(label) > _LONG_LABEL:
        title, label = f"{title}: A = {first['model']}, B = {first['other']}", "mean ln p(A) - ln p(B), nats"
    ax.set_xlabel(label)
    set_wrapped_title(ax, title)
    if color_by and len(known) <= MAX_LEGEND:
        look: dict[str, Any] = {"edgecolor": "white", "linewidth": 0}
        legend_below(ax, [Patch(facecolor=palette[v], hatch=hatches[v], label=v, **look) for v in known], gap_pt=32)
    sns.despine(ax=ax, left=True)
    return ax


@style()
def draw_exemplar_map(table: pd.DataFrame, ax: Axes | None = None, *, title: str | None = None, **options: Any) -> Axes:
    """A map of where one model explains decisions better than another; by default named after the individual.

    Parameters
    ----------
    table
        Of `mimic.exemplars.difference_map_table`.
    **options
        Of `mimic.maps.draw_difference_map`.
    """
    names = list(dict.fromkeys(table[INDIVIDUAL])) if INDIVIDUAL in table else []
    return draw_difference_map(
        table, ax, title=title or (f"individual {names[0]}" if len(names) == 1 else None), **options
    )


@style()
def draw_exemplar_decision(table: pd.DataFrame, *, title: str | None = None, width_cm: float = 2 * WIDTH_CM) -> Figure:
    """Maps of one choice set, side by side, with the probability of every choice by each model.

    Parameters
    ----------
    table
        Of `mimic.exemplars.choice_set_table`.

    Raises
    ------
    ValueError
        If a column is missing, there is no model, or no choice is the origin.
    """
    require_columns(list(table.columns), ["choice", "is_selected", "is_origin"], where="choice set")
    models = [str(name) for name in table if str(name).startswith("p ")]
    if not models or not table["is_origin"].any():
        raise ValueError(
            f"expected columns 'p <model>' and a choice that is the {ORIGIN}; got {', '.join(map(str, table.columns))}."
        )
    n_columns = int(np.clip(width_cm // _SMALLEST_MAP_CM, 1, len(models)))
    n_rows = -(-len(models) // n_columns)
    figure = new_figure(width_cm, n_rows * (width_cm / n_columns * 0.95 + 0.6) + 2.2, layout="compressed")
    panels = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
    for ax in panels[len(models) :]:
        ax.remove()
    cells = table["choice"].to_numpy()
    selected = table.loc[table["is_selected"], "choice"]
    colored: list[PolyCollection] = []
    for ax, name in zip(panels, models, strict=False):
        draw_choice_set(
            cells,
            table[name].to_numpy(),
            ax,
            origin=int(table.loc[table["is_origin"], "choice"].iloc[0]),
            selected=int(selected.iloc[0]) if len(selected) else None,
        )
        pad = 14.0 if not len(ax.get_xticks()) else None  # meridians are named above a polar map
        set_wrapped_title(ax, name.removeprefix("p "), pad=pad)
        colored += [c for c in ax.collections if isinstance(c, PolyCollection) and c.get_array() is not None]
    _share_colors(figure, list(panels[: len(models)]), colored)
    if title is not None:
        size = float(mpl.rcParams["font.size"])
        figure.suptitle(wrapped(title, 69 * figure.get_figwidth(), size=size), fontsize=size, x=0.01, ha="left")
    return figure


def _share_colors(figure: Figure, panels: Sequence[Axes], colored: Sequence[PolyCollection]) -> None:
    """One scale, color bar and legend for maps of one choice set: one color is one probability in all of them."""
    lows, highs = zip(*(c.get_clim() for c in colored), strict=True)
    handles: list[Artist] = []
    for ax, cells in zip(panels, colored, strict=True):
        cells.set_clim(min(lows), max(highs))
        if cells.colorbar is not None:
            cells.colorbar.remove()
        legend = ax.get_legend()
        if legend is not None:
            handles = [h for h in legend.legend_handles if h is not None]
            legend.remove()
    color_bar(panels, colored[0], "probability")
    legend_outside(figure, handles)


def _draw_curve(ax: Axes, curve: pd.DataFrame, look: Mapping[str, Any], phase: float) -> None:
    """A line with a band and a few markers, at places of its own, or points with bars where there are few values."""
    x, y, low, high = (curve[c].to_numpy(dtype=float) for c in ("value", "log_odds", "log_odds_low", "log_odds_high"))
    if len(x) <= _FEW_VALUES:
        ax.plot(x, y, **{"marker": "o", "markersize": 4, **look, "linewidth": 0.8})
        ax.vlines(x, low, high, color=look["color"], linewidth=1.4)
        ax.set_xticks(x)
        return
    step = max(1, len(x) // 6)
    ax.fill_between(x, low, high, color=look["color"], alpha=0.18, linewidth=0)
    ax.plot(x, y, markevery=(int(phase * step), step), **look)


def _draw_rug(ax: Axes, rug: np.ndarray, grid: np.ndarray) -> None:
    """Ticks at values of the data that lie within the curve."""
    inside = np.asarray(rug, dtype=float)
    inside = np.sort(inside[(inside >= grid.min()) & (inside <= grid.max())])
    shown = inside[:: max(1, len(inside) // 500)]
    where = ax.get_xaxis_transform()
    ax.vlines(shown, 0.0, 0.025, transform=where, color="0.25", linewidth=0.35, alpha=0.6, label="_rug")


def _edges(centers: np.ndarray) -> np.ndarray:
    """Edges halfway between values; the first and last value are edges too, as nothing is known beyond them."""
    return np.concatenate([centers[:1], (centers[1:] + centers[:-1]) / 2, centers[-1:]])


def _apart(values: np.ndarray) -> list[float]:
    """Those of sorted values whose labels do not overlap: an eighth of the axis apart."""
    kept = [float(values[0])]
    for value in map(float, values[1:]):
        if value - kept[-1] >= (values[-1] - values[0]) / 8:
            kept.append(value)
    return kept


def _axis_label(feature: str, unit: str) -> str:
    return feature + (f", {unit}" if unit not in ("", "1") else "")
