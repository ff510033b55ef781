"""Losses of the members of a grid into figures: by hyper-parameter, and their spread over random starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from mimic.figures import (
    MARKERS,
    WIDTH_CM,
    legend_columns,
    legend_outside,
    model_colors,
    new_figure,
    set_wrapped_title,
    style,
)
from mimic.member_figures import draw_member_curves
from mimic.schema import require_columns

__all__ = ["draw_hyperparameters", "draw_member_curves", "draw_random_starts"]

_MARK_AT = 0.965  # of the height, or width, of a panel: what lies beyond it
_DIVERGED, _BEYOND = "x", {"y": "^", "x": ">"}


@style()
def draw_hyperparameters(
    table: pd.DataFrame,
    *,
    loss: str = "contrast loss",
    top: float | None = None,
    colors: Mapping[str, str] | None = None,
    width_cm: float = WIDTH_CM,
) -> Figure:
    """Validation loss by the value of each hyper-parameter: members as points, their median as a bar, a panel each.

    Parameters
    ----------
    table
        model, parameter, value, order, seed and loss, of `mimic.grid_tables.hyperparameter_table`.
    loss
        What the loss is called.
    top
        The highest loss within the panels, nats. By default the largest, but no more than twice as far above the
        third quartile of all as the smallest is below it.
    colors
        model -> color; by default `model_colors` of the models in order.

    Raises
    ------
    ValueError
        If a column is missing or nothing varies.

    Notes
    -----
    Nothing is dropped: members above the top, and those that diverged, are marked at the upper edge. Points lie
    beside each other in the order of the table, the same in every drawing. A median above the top is not drawn.
    """
    require_columns(list(table.columns), ["model", "parameter", "value", "order", "loss"], where="hyperparameters")
    if table.empty:
        raise ValueError("expected a hyper-parameter that varies; got an empty table.")
    models = [str(model) for model in dict.fromkeys(table["model"])]
    colors = model_colors(models) | dict(colors or {})
    bottom, top = _view(table["loss"], top)
    parts = {str(name): own for name, own in table.groupby("parameter", sort=False)}
    n_columns = int(np.clip(width_cm // 3.8, 1, len(parts)))
    n_rows = -(-len(parts) // n_columns)
    median = Line2D([], [], color="0.15", linewidth=1.6, label="median of a value")
    handles = [*_model_handles(models, colors), median, *_edge_handles(table["loss"], top, "y")]
    room_cm = 0.8 * width_cm / n_columns
    upright_cm = max(_upright_cm(own, room_cm) for own in parts.values())
    figure = new_figure(width_cm, (4.6 + upright_cm) * n_rows + _legend_cm(handles, width_cm))
    panels = figure.subplots(n_rows, n_columns, squeeze=False, sharey=True)
    for panel in panels.flat[len(parts) :]:
        panel.set_axis_off()
    for panel, (name, own) in zip(panels.flat, parts.items(), strict=False):
        _draw_parameter(panel, own, models, colors, top)
        panel.set_xlabel(name)
        _label_values(panel, own, room_cm)
    panels[0, 0].set_ylim(bottom, top + 0.1 * (top - bottom))
    for row in panels:
        row[0].set_ylabel(f"validation\n{loss}, nats")
    legend_outside(figure, handles)
    return figure


@style()
def draw_random_starts(
    table: pd.DataFrame,
    *,
    loss: str = "contrast loss",
    top: float | None = None,
    colors: Mapping[str, str] | None = None,
    width_cm: float = WIDTH_CM,
) -> Figure:
    """How much the random start matters: the sorted losses of the seeds of every configuration, with their spread.

    Parameters
    ----------
    table
        model, configuration, rank, loss, n_seeds, n_diverged, min, median, p90 and spread, of
        `mimic.grid_tables.random_starts_table`.
    loss, top, colors
        As in `draw_hyperparameters`.

    Raises
    ------
    ValueError
        If a column is missing or the table is empty.

    Notes
    -----
    A panel a model, all with one axis; the points of a configuration climb with their rank. The bar from the
    smallest loss to the 90th percentile is the spread, written beside it. Members beyond the panel, and those that
    diverged, are marked at its right edge.
    """
    numbers = ["n_seeds", "n_diverged", "min", "median", "p90", "spread"]
    require_columns(list(table.columns), ["model", "configuration", "rank", "loss", *numbers], where="random starts")
    if table.empty:
        raise ValueError("expected the losses of at least one member; got an empty table.")
    parts = {str(model): own for model, own in table.groupby("model", sort=False)}
    colors = model_colors(list(parts)) | dict(colors or {})
    low, high = _view(table["loss"], top)
    rows_cm = {m: [_row_cm(name) for name in dict.fromkeys(own["configuration"])] for m, own in parts.items()}
    heights = [sum(own) for own in rows_cm.values()]
    spread: dict[str, Any] = {"color": "0.15", "linewidth": 3.0, "alpha": 0.3}
    handles = [
        Line2D([], [], color="0.15", marker="o", markersize=3, linestyle="none", label="one seed"),
        Line2D([], [], color="0.15", marker="|", markersize=8, linestyle="none", label="median"),
        Line2D([], [], **spread, label="minimum to 90th percentile"),
        *_edge_handles(table["loss"], high, "x"),
    ]
    figure = new_figure(width_cm, sum(heights) + 0.7 * len(parts) + 1.6 + _legend_cm(handles, width_cm))
    panels = figure.subplots(len(parts), 1, squeeze=False, sharex=True, height_ratios=heights)[:, 0]
    for panel, (model, own) in zip(panels, parts.items(), strict=True):
        _draw_starts(panel, own, colors[model], rows_cm[model], high)
        set_wrapped_title(panel, model)
    panels[0].annotate(
        "spread,\nnats", (1, 1), (5, 3), xycoords="axes fraction", textcoords="offset points", fontsize=7, va="bottom"
    )
    panels[-1].set_xlim(low, high + 0.05 * (high - low))
    panels[-1].xaxis.set_major_locator(MaxNLocator(4))
    panels[-1].set_xlabel(f"validation {loss}, nats")
    legend_outside(figure, handles)
    return figure


def _view(losses: pd.Series, top: float | None) -> tuple[float, float]:
    """The lowest and the highest loss that panels show."""
    finite = losses[np.isfinite(losses)].to_numpy(dtype=float)
    if not len(finite):
        return 0.0, 1.0
    low, quartile = float(finite.min()), float(np.quantile(finite, 0.75))
    far = quartile + 2 * (quartile - low) if quartile > low else np.inf
    high = min(float(finite.max()), far) if top is None else float(top)
    # A lone loss gets some air.
    return (low - 0.05 * (high - low), high) if high > low else (low - 0.01, low + 0.01)


def _draw_parameter(
    ax: Axes, table: pd.DataFrame, models: Sequence[str], colors: Mapping[str, str], top: float
) -> None:
    """The members by the value of one parameter, models beside each other, and the median of each value."""
    here = [model for model in models if model in set(table["model"].astype(str))]
    step = 0.8 / len(here)
    for (model, _), own in table.groupby(["model", "order"], sort=False):
        middle = float(own["order"].iloc[0]) + step * (here.index(str(model)) - (len(here) - 1) / 2)
        losses = own["loss"].to_numpy(dtype=float)
        n = len(losses)
        x = middle + 0.8 * step * ((np.arange(n) + 0.5) / n - 0.5)
        look: dict[str, Any] = {"color": colors[str(model)], "linestyle": "none", "label": str(model)}
        inside = losses <= top
        marker = MARKERS[models.index(str(model)) % len(MARKERS)]
        if inside.any():
            ax.plot(x[inside], losses[inside], marker=marker, markersize=2.6, alpha=0.8, markeredgewidth=0, **look)
        _draw_beyond(ax, x, losses, top, look, "y")
        # Half of the members may have diverged; then there is no median to draw.
        median = float(np.median(losses))
        if np.isfinite(median) and median <= top:
            ends = [middle - 0.45 * step, middle + 0.45 * step]
            ax.plot(ends, [median, median], color="0.15", linewidth=1.6, zorder=3, label="_median")


def _draw_beyond(
    ax: Axes, along: np.ndarray, losses: np.ndarray, top: float, look: Mapping[str, Any], axis: str
) -> None:
    """Marks at the far edge of the panel for what has no place in it."""
    transform = ax.get_xaxis_transform() if axis == "y" else ax.get_yaxis_transform()
    for which, marker in ((np.isinf(losses), _DIVERGED), (np.isfinite(losses) & (losses > top), _BEYOND[axis])):
        if which.any():
            edge = np.full(which.sum(), _MARK_AT)
            x, y = (along[which], edge) if axis == "y" else (edge, along[which])
            ax.plot(x, y, marker=marker, markersize=3.5, transform=transform, zorder=4, **look)


def _values(table: pd.DataFrame) -> pd.Series:
    """Order -> value of a parameter."""
    return table.drop_duplicates("order").set_index("order")["value"].astype(str).sort_index()


def _upright_cm(table: pd.DataFrame, width_cm: float) -> float:
    """The height of the values of a parameter where they are too long to stand side by side, else 0."""
    values = _values(table)
    longest_cm = 0.65 * mpl.rcParams["xtick.labelsize"] / 72 * 2.54 * max(map(len, values))
    return longest_cm if longest_cm * len(values) > 0.85 * width_cm else 0.0


def _legend_cm(handles: Sequence[Line2D], width_cm: float) -> float:
    """The height of a legend below all panels."""
    return 0.42 * -(-len(handles) // legend_columns(handles, width_cm / 2.54 * 72)) + 0.3


def _label_values(ax: Axes, table: pd.DataFrame, width_cm: float) -> None:
    """The values of a parameter under its axis, upright where they must be."""
    values = _values(table)
    upright = _upright_cm(table, width_cm) > 0
    ax.set_xticks(values.index.tolist(), values.tolist(), rotation=90 if upright else 0)
    ax.set_xlim(values.index.min() - 0.55, values.index.max() + 0.55)
    ax.tick_params(axis="x", length=0)
    sns.despine(ax=ax)


def _row_cm(configuration: str) -> float:
    return 0.3 * max(1, len(configuration.split(","))) + 0.4


def _draw_starts(ax: Axes, table: pd.DataFrame, color: str, rows_cm: Sequence[float], top: float) -> None:
    """The configurations of a model below each other, in rows of the heights that their names need."""
    names, places = [], []
    position = 0.0
    for height, (name, own) in zip(rows_cm, table.groupby("configuration", sort=False), strict=True):
        middle = position + height / 2
        position += height
        names.append(str(name).replace(",", "\n"))
        places.append(middle)
        first = own.iloc[0]
        losses = own["loss"].to_numpy(dtype=float)
        climb = 0.62 * height * (0.5 - own["rank"].to_numpy(dtype=float) / (len(own) + 1))
        ends = [first["min"], min(first["p90"], 2 * top)]
        if np.isfinite(first["min"]):
            ax.plot(ends, [middle] * 2, color=color, linewidth=3.6, alpha=0.3, solid_capstyle="butt", label="_spread")
        if np.isfinite(first["median"]):
            span = [middle - 0.36 * height, middle + 0.36 * height]
            ax.plot([first["median"]] * 2, span, color="0.15", linewidth=1.2, zorder=2.5, label="_median")
        look: dict[str, Any] = {"color": color, "linestyle": "none", "label": "seeds"}
        inside = losses <= top
        ax.plot(losses[inside], middle + climb[inside], marker="o", markersize=2.8, markeredgewidth=0, zorder=3, **look)
        _draw_beyond(ax, middle + climb, losses, top, look, "x")
        told = f"{first['spread']:.2g}" if first["n_seeds"] > 1 else "one seed"
        if not np.isfinite(first["spread"]):
            told = f"{int(first['n_diverged'])} of {int(first['n_seeds'])}\ndiverged"
        where = ax.get_yaxis_transform()
        ax.annotate(
            told,
            (1, middle),
            (5, 0),
            xycoords=where,
            textcoords="offset points",
            va="center",
            fontsize=6.5,
            color="0.15",
        )
    ax.set_yticks(places, names)
    ax.set_ylim(position, 0)
    ax.tick_params(axis="y", length=0)
    sns.despine(ax=ax, left=True)


def _model_handles(models: Sequence[str], colors: Mapping[str, str]) -> list[Line2D]:
    return [
        Line2D([], [], color=colors[m], marker=MARKERS[k % len(MARKERS)], markersize=4, linestyle="none", label=m)
        for k, m in enumerate(models)
    ]


def _edge_handles(losses: pd.Series, top: float, axis: str) -> list[Line2D]:
    """What the marks at the edge mean, where there are any."""
    look: dict[str, Any] = {"color": "0.15", "linestyle": "none", "markersize": 4}
    beyond = np.isfinite(losses) & (losses > top)
    handles = [Line2D([], [], marker=_BEYOND[axis], label=f"above {top:.3g}", **look)] if beyond.any() else []
    return [*handles, Line2D([], [], marker=_DIVERGED, label="diverged", **look)] if np.isinf(losses).any() else handles
