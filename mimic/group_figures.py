"""A group table into a figure of GMP and lift with their intervals."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mimic.figures import (
    MARKERS,
    NULL_COLOR,
    WIDTH_CM,
    legend_outside,
    model_colors,
    new_figure,
    set_wrapped_title,
    style,
)
from mimic.schema import VALIDATION, require_columns

__all__ = ["draw_groups"]


@style()
def draw_groups(
    evaluation: pd.DataFrame,
    *,
    split: str = VALIDATION,
    weighting: str = "individual",
    colors: Mapping[str, str] | None = None,
    width_cm: float = WIDTH_CM,
) -> Figure:
    """A figure of GMP (with that of no model) and lift, by choice group, behavior group and model.

    Parameters
    ----------
    evaluation
        One row a model x split x choice_group x behavior_group x weighting, with n_decisions, gmp, null_gmp and
        lift; and gmp_low, gmp_high, lift_low and lift_high where intervals shall be drawn, as pale bars.
    split, weighting
        The rows to draw.
    colors
        model -> color; by default `model_colors` of the models in order.

    Raises
    ------
    ValueError
        If a column is missing or no row is of that split and weighting.

    Notes
    -----
    A line leads from what no model would score (every choice of a decision alike) to what the model scores.
    Groups without decisions stay in the figure and say so.
    """
    keys = ["model", "split", "choice_group", "behavior_group", "weighting"]
    require_columns(list(evaluation.columns), [*keys, "n_decisions", "gmp", "null_gmp", "lift"], where="evaluation")
    rows = evaluation[(evaluation["split"] == split) & (evaluation["weighting"] == weighting)]
    if rows.empty:
        there = evaluation[["split", "weighting"]].drop_duplicates().astype(str).agg(" by ".join, axis=1)
        raise ValueError(f"no row of the evaluation is {split} by {weighting}; there are {', '.join(there) or 'none'}.")
    models = [str(m) for m in dict.fromkeys(rows["model"])]
    colors = model_colors(models) | dict(colors or {})
    choice_groups = list(dict.fromkeys(rows["choice_group"]))
    behavior_groups = list(dict.fromkeys(rows["behavior_group"]))
    panel_cm = len(behavior_groups) * max(0.85, 0.4 + 0.27 * len(models)) + 1.2
    figure = new_figure(width_cm, len(choice_groups) * panel_cm + 2.2)
    panels = figure.subplots(len(choice_groups), 2, squeeze=False, sharey="row")
    for row, name in zip(panels, choice_groups, strict=True):
        _draw_choice_group(row, rows[rows["choice_group"] == name], behavior_groups, models, colors)
        set_wrapped_title(row[0], f"choices: {name}, {split}", n_panels=2, fontweight="bold")
    panels[-1, 0].set_xlabel("geometric-mean\nprobability, %")
    panels[-1, 1].set_xlabel("lift, times better\nthan random")
    handles = [
        Line2D([], [], color=colors[m], marker=MARKERS[i % len(MARKERS)], markersize=4, label=m)
        for i, m in enumerate(models)
    ]
    null = Line2D([], [], color=NULL_COLOR, marker="|", markersize=9, linestyle="none", label="no model")
    legend_outside(figure, [*handles, null])
    return figure


def _draw_choice_group(
    panels: Sequence[Axes],
    rows: pd.DataFrame,
    behavior_groups: Sequence[str],
    models: Sequence[str],
    colors: Mapping[str, str],
) -> None:
    """GMP and lift of one choice group: a line of the panels for each behavior group, within it one for each model."""
    left, right = panels
    step = 0.62 / len(models)
    names = []
    for y, group in enumerate(behavior_groups):
        table = rows[(rows["behavior_group"] == group) & (rows["n_decisions"] > 0) & rows["gmp"].notna()]
        name = textwrap.fill(str(group), 18)
        names.append(name if table.empty else f"{name}\n{int(table['n_decisions'].max()):,} decisions")
        numbers = table[["gmp", "null_gmp", "lift"]].to_numpy(dtype=float)
        ends = table.reindex(columns=["gmp_low", "gmp_high", "lift_low", "lift_high"]).to_numpy(dtype=float)
        for model, (gmp, null, lift), end in zip(table["model"].astype(str), numbers, ends, strict=True):
            m = models.index(model)
            at = y + step * (m - (len(models) - 1) / 2)
            look = {"color": colors[model], "marker": MARKERS[m % len(MARKERS)]}
            _draw_score(left, at, 100 * gmp, 100 * null, step / 2, look, 100 * end[:2])
            _draw_score(right, at, lift, 1.0, step / 2, look, end[2:])
        if table.empty:
            for panel in panels:
                where = panel.get_yaxis_transform()
                panel.text(0.04, y, "no decisions", transform=where, va="center", color="0.35", fontsize="small")
    left.set_yticks(range(len(names)), names)
    left.set_ylim(len(names) - 0.5, -0.5)
    for panel in panels:
        panel.tick_params(axis="y", length=0)
        panel.margins(x=0.08)
        if not panel.has_data():
            panel.set_xticks([])
        sns.despine(ax=panel, left=True)


def _draw_score(
    ax: Axes, y: float, value: float, null: float, half: float, look: Mapping[str, Any], interval: np.ndarray
) -> None:
    """A score as a marker over its interval, that of no model as a bar, and a line between them."""
    if np.isfinite(interval).all() and interval[0] < interval[1]:
        ax.plot(interval, [y, y], color=look["color"], linewidth=3.6, alpha=0.35, solid_capstyle="butt", zorder=1.5)
        ax.lines[-1].set_label("_interval")
    ax.plot([null, value], [y, y], color=look["color"], linewidth=0.9, zorder=2)
    ax.plot([null, null], [y - half, y + half], color=NULL_COLOR, linewidth=1.3, zorder=2.5, label="_null")
    ax.plot([value], [y], markersize=4, zorder=3, linestyle="none", **look)
