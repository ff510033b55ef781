"""A table by bin into a figure: the observed share of each bin with its interval, and what each model predicts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from mimic.evaluation_figures import rows_of
from mimic.figures import MARKERS, WIDTH_CM, legend_below, model_colors, new_figure, style
from mimic.schema import VALIDATION

__all__ = ["draw_bins"]


@style()
def draw_bins(
    table: pd.DataFrame,
    ax: Axes | None = None,
    *,
    label: str = "value",
    split: str = VALIDATION,
    weighting: str = "individual",
    colors: Mapping[str, str] | None = None,
    width_cm: float = WIDTH_CM,
) -> Axes:
    """The axes with the shares of the bins, the first bin at the top, as depths lie.

    Parameters
    ----------
    table
        One row a model x split x weighting x bin, as from `mimic.bin_shares.bin_table`: model, split, weighting, bin,
        label, observed, observed_low, observed_high and predicted (shares of all decisions).
    label
        What the bins are of: the title of their axis.
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
    Gray bars are what was observed, a black line its interval over individuals; the markers of a bin are the models
    in order, from above.
    """
    columns = ["model", "bin", "label", "observed", "observed_low", "observed_high", "predicted"]
    rows = rows_of(table, columns, split, weighting).sort_values("bin", kind="stable")
    models = [str(m) for m in dict.fromkeys(table["model"])]
    colors = model_colors(models) | dict(colors or {})
    observed = rows.drop_duplicates("bin")
    place = {k: y for y, k in enumerate(observed["bin"])}
    if ax is None:
        ax = new_figure(width_cm, 0.62 * len(observed) + 2.8).subplots()
    y = np.arange(len(observed))
    share, low, high = (100 * observed[n].to_numpy(dtype=float) for n in ("observed", "observed_low", "observed_high"))
    ax.barh(y, share, height=0.8, color="0.82", edgecolor="none", zorder=1, label="_observed")
    ax.hlines(y, low, high, color="0.1", linewidth=0.9, zorder=2, label="_interval")
    step = 0.66 / max(len(models), 1)
    for m, model in enumerate(models):
        own = rows[rows["model"] == model]
        at = own["bin"].map(place).to_numpy(dtype=float) + step * (m - (len(models) - 1) / 2)
        look: dict[str, Any] = {"color": colors[model], "marker": MARKERS[m % len(MARKERS)], "label": model}
        ax.plot(100 * own["predicted"].to_numpy(dtype=float), at, linestyle="none", markersize=3.4, zorder=3, **look)
    ax.set_yticks(y, list(observed["label"]))
    ax.set_ylim(len(observed) - 0.5, -0.5)
    ax.set_xlim(left=0)
    ax.tick_params(axis="y", length=0)
    ax.set_xlabel("share of selections, %")
    ax.set_ylabel(label)
    ax.set_title(f"selected and predicted bins, {split}")
    sns.despine(ax=ax, left=True)
    handles = [
        Line2D([], [], color=colors[m], marker=MARKERS[i % len(MARKERS)], markersize=4, linestyle="none", label=m)
        for i, m in enumerate(models)
    ]
    bar = Line2D([], [], color="0.82", linewidth=5, label="observed")
    whisker = Line2D([], [], color="0.1", linewidth=1.0, label="its interval")
    legend_below(ax, [bar, whisker, *handles], gap_pt=34)
    return ax
