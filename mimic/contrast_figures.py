"""Tables of contrasts into figures: p_c against p, and the error of p by the size of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from mimic.figures import COLORS, WIDTH_CM, labels_apart, legend_below, new_figure, root_figure, style
from mimic.schema import require_columns

__all__ = ["draw_contrast_curve", "draw_contrast_spread"]


@style()
def draw_contrast_curve(
    table: pd.DataFrame,
    ax: Axes | None = None,
    *,
    marks: Sequence[float] = (),
    mark_alternatives: int | None = None,
    width_cm: float = WIDTH_CM,
) -> Axes:
    """The share of contrasts that select a choice against its probability, one line an M.

    Parameters
    ----------
    table
        Of `mimic.contrast_error.contrast_curve`.
    marks
        Probabilities to point out, such as those of a model and of the data, on the line of `mark_alternatives` (by
        default the last).

    Raises
    ------
    ValueError
        If a column is missing.
    """
    require_columns(list(table.columns), ["n_alternatives", "probability", "contrast_share"], where="contrast curve")
    ax = ax or new_figure(width_cm, 7.5).subplots()
    numbers = list(dict.fromkeys(table["n_alternatives"]))
    dashes = ("-", (0, (3.2, 1.4)), (0, (1, 1.2)), (0, (5, 1.2, 1, 1.2)))
    handles = []
    for k, m in enumerate(numbers):
        curve = table[table["n_alternatives"] == m]
        look: dict[str, Any] = {"color": COLORS[k % len(COLORS)], "linestyle": dashes[k % len(dashes)]}
        ax.plot(curve["probability"], curve["contrast_share"], **look)
        handles.append(Line2D([], [], label=f"M = {m:g}", **look))
    marked = table[table["n_alternatives"] == (numbers[-1] if mark_alternatives is None else mark_alternatives)]
    for k, p in enumerate(sorted(marks)):
        share = float(np.interp(p, marked["probability"], marked["contrast_share"]))
        ax.plot([p, p, 0], [0, share, share], color="0.35", linewidth=0.6, linestyle=":")
        ax.plot([p], [share], color="0.15", marker="o", markersize=3.5)
        # in the empty corner below all curves, as near marks would write over each other
        where: dict[str, Any] = {"transform": ax.transAxes, "ha": "right", "fontsize": 7}
        ax.text(0.98, 0.05 + 0.07 * (len(marks) - 1 - k), f"p = {p:.3g}: $p_c$ = {share:.3f}", **where)
    ax.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="probability p of the choice", ylabel="share of contrasts $p_c$")
    legend_below(ax, handles, gap_pt=32)
    sns.despine(ax=ax)
    return ax


@style()
def draw_contrast_spread(table: pd.DataFrame, ax: Axes | None = None, *, width_cm: float = WIDTH_CM) -> Axes:
    """The error with which batches see the probability to stay, by their size: the formula, and batches drawn.

    Parameters
    ----------
    table
        Of `mimic.contrast_error.contrast_spread`. Batches of all decisions have no error, and no place on the axes.

    Raises
    ------
    ValueError
        If a column is missing, or no batch has an error.
    """
    require_columns(list(table.columns), ["batch_decisions", "error", "error_drawn", "probability"], where="spread")
    rows = table[table["error"] > 0]
    if rows.empty:
        raise ValueError("expected batches smaller than all decisions; got none with an error. Give smaller ones.")
    ax = ax or new_figure(width_cm, 7.0).subplots()
    ax.plot(
        rows["batch_decisions"],
        rows["error"],
        color=COLORS[0],
        marker="_" if len(rows) == 1 else "",
        label="by formula",
    )
    drawn = rows[rows["error_drawn"].notna()]
    look: dict[str, Any] = {"color": COLORS[1], "marker": "o", "markersize": 4, "linestyle": "none"}
    ax.plot(drawn["batch_decisions"], drawn["error_drawn"], label="of batches drawn", **look)
    ax.set(xscale="log", yscale="log", xlabel="decisions in a batch", ylabel="error of the probability to stay")
    ax.set_xticks(rows["batch_decisions"], _sizes(ax, rows["batch_decisions"].to_numpy(dtype=float)))
    low, high = ax.get_ylim()
    if high < 4 * low:  # of one batch, or of batches with about the same error
        low, high = np.sqrt(low * high) * np.array([0.5, 2.0])
        ax.set_ylim(low, high)
    ticks = [t for k in range(-6, 1) for t in (10.0**k, 2 * 10.0**k, 5 * 10.0**k) if low <= t <= high]
    ax.set_yticks(ticks, [f"{100 * t:g} %" for t in ticks])
    ax.minorticks_off()
    ax.set_title(f"stay probability {rows['probability'].iloc[0]:.1%} of all decisions")
    handles = [Line2D([], [], color=COLORS[0], label="by formula")]
    handles += [Line2D([], [], label="of batches drawn", **look)] if len(drawn) else []
    legend_below(ax, handles, gap_pt=32)
    sns.despine(ax=ax)
    return ax


def _sizes(ax: Axes, batch_decisions: np.ndarray) -> list[str]:
    """The sizes of batches as labels of a logarithmic axis, empty where there is no room."""
    names = [f"{n:,.0f}" for n in batch_decisions]
    logs = np.log(batch_decisions)
    width_pt = 0.85 * ax.get_position(original=True).width * root_figure(ax).get_figwidth() * 72
    kept = labels_apart(width_pt * (logs - logs[0]) / max(float(np.ptp(logs)), 1e-9), names)
    return [name if k in kept else "" for k, name in enumerate(names)]
