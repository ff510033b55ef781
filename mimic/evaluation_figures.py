"""Tables of the chain rule and of calibration into figures, in the style of figures.py. Only draws what it is given."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from mimic.figures import (
    MARKERS,
    NULL_COLOR,
    WIDTH_CM,
    grow_by_legend,
    labels_apart,
    legend_below,
    model_colors,
    new_figure,
    root_figure,
    set_wrapped_title,
    style,
    wrap_labels,
)
from mimic.schema import VALIDATION, require_columns

__all__ = ["draw_chain", "draw_feature_shares", "draw_rank_histogram", "draw_reliability", "rows_of"]

_OBSERVED_COLOR = "0.1"
_EXPECTED_COLOR = "0.55"
_TICKS = (0.001, 0.002, 0.005, 0.01, 0.03, 0.06, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0)


@style()
def draw_chain(
    chain: pd.DataFrame,
    ax: Axes | None = None,
    *,
    split: str | None = None,
    behavior_group: str | None = None,
    weighting: str = "individual",
    colors: Mapping[str, str] | None = None,
    width_cm: float = WIDTH_CM,
) -> Axes:
    """Where models gain over chance: bars of nats by stage and model, with intervals and the lift written beside.

    Parameters
    ----------
    chain
        Of `mimic.chain.chain_rule`.
    ax
        Axes to draw in; by default those of a new figure of `width_cm`.
    split, behavior_group, weighting
        The rows to draw: by default validation, or else the first split that is there, and the first behavior group.
    colors
        model -> color; by default `model_colors` of the models in order.

    Raises
    ------
    ValueError
        If a column is missing or no row is of that split, behavior group and weighting.

    Notes
    -----
    The bars of the stages add up to the one of "all"; the line above it separates them. Lifts multiply likewise.
    """
    columns = ["model", "stage", "gain", "gain_low", "gain_high", "lift"]
    rows = rows_of(chain, columns, split, weighting, behavior_group=behavior_group)
    models, colors = _models(rows, colors)
    stages = list(dict.fromkeys(rows["stage"].astype(str)))
    if ax is None:
        ax = new_figure(width_cm, len(stages) * (0.42 * len(models) + 0.5) + 2.6).subplots()
    step = 0.8 / len(models)
    for row in rows.to_dict(orient="records"):
        m = models.index(str(row["model"]))
        y = stages.index(str(row["stage"])) + step * (m - (len(models) - 1) / 2)
        if not np.isfinite(row["gain"]):
            ax.text(0, y, " impossible" if row["gain"] < 0 else " no decisions", va="center", fontsize=6, color="0.35")
            continue
        ax.plot(
            [0, 0],
            [y - 0.4 * step, y + 0.4 * step],
            color=colors[models[m]],
            linewidth=2.5,
            label="_null",
            zorder=2.6,
        )
        ax.barh(y, row["gain"], height=0.86 * step, color=colors[models[m]], zorder=2)
        ends = np.array([row["gain"], *(row[e] for e in ("gain_low", "gain_high") if np.isfinite(row[e]))])
        if len(ends) == 3:
            ax.plot(ends[1:], [y, y], color="0.15", linewidth=0.8, zorder=3)
        lift = f"×{row['lift']:.3g}"
        ax.annotate(lift, (max(ends.max(), 0.0), y), (3, 0), textcoords="offset points", va="center", fontsize=6)
    ax.axvline(0, color=NULL_COLOR, linewidth=0.8, zorder=2.5)
    if len(stages) > 1:
        ax.axhline(len(stages) - 1.5, color="0.7", linewidth=0.6)
    ax.set_yticks(range(len(stages)), [textwrap.fill(stage, 18) for stage in stages])
    ax.set_ylim(len(stages) - 0.5, -0.5)
    ax.tick_params(axis="y", length=0)
    low, high = ax.get_xlim()
    ax.set_xlim(low, high + 0.12 * (high - low))  # room for the last lift
    ax.set_xlabel("gain over chance, nats per decision (× lift)")
    sns.despine(ax=ax, left=True)
    return _finish(ax, rows, [Patch(color=colors[m], label=m) for m in models] if len(models) > 1 else [])


@style()
def draw_reliability(
    reliability: pd.DataFrame,
    ax: Axes | None = None,
    *,
    split: str | None = None,
    choice_group: str | None = None,
    behavior_group: str | None = None,
    weighting: str = "individual",
    colors: Mapping[str, str] | None = None,
    width_cm: float = WIDTH_CM,
) -> Axes:
    """Observed share against predicted probability, with intervals: on the diagonal where a model can be believed.

    Parameters
    ----------
    reliability
        Of `mimic.calibration.reliability`.
    ax, split, choice_group, behavior_group, weighting, colors, width_cm
        As in `draw_chain`, with its errors.

    Notes
    -----
    Both axes are square roots of probability: most are small, and 0 must be shown.
    """
    columns = ["model", "predicted", "observed", "observed_low", "observed_high"]
    rows = rows_of(reliability, columns, split, weighting, choice_group=choice_group, behavior_group=behavior_group)
    models, colors = _models(rows, colors)
    is_new, ax = ax is None, ax or new_figure(width_cm, 1.2 * width_cm, layout="compressed").subplots()
    highest = float(rows[["predicted", "observed", "observed_high"]].max().max())
    top = min(1.0, 1.1 * highest)
    ax.plot([0, top], [0, top], color=_EXPECTED_COLOR, linewidth=0.8, zorder=1, label="_calibrated")
    for m, model in enumerate(models):
        table = rows[rows["model"].astype(str) == model].sort_values("predicted")
        look: dict[str, Any] = {"color": colors[model], "zorder": 3}
        x, y = table["predicted"].to_numpy(float), table["observed"].to_numpy(float)
        ax.plot(x, y, marker=MARKERS[m % len(MARKERS)], markersize=3.5, linewidth=0.9, label=model, **look)
        _draw_intervals(ax, x, table, 1.0, colors[model])
    ticks = _root_ticks(ax, top)
    root = (lambda p: np.sqrt(np.maximum(p, 0.0)), np.square)
    ax.set_xscale("function", functions=root)
    ax.set_yscale("function", functions=root)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_ticks(ticks, [f"{100 * t:g}" for t in ticks])
    ax.set_xlim(0, top)
    ax.set_ylim(0, top)
    ax.set_box_aspect(1)
    ax.set_xlabel("predicted probability, %")
    ax.set_ylabel("observed share, %")
    sns.despine(ax=ax)
    _finish(ax, rows, [*_model_handles(models, colors), _calibrated()])
    if is_new:
        grow_by_legend(ax)
    return ax


@style()
def draw_rank_histogram(
    histogram: pd.DataFrame,
    ax: Axes | None = None,
    *,
    split: str | None = None,
    choice_group: str | None = None,
    behavior_group: str | None = None,
    weighting: str = "individual",
    colors: Mapping[str, str] | None = None,
    width_cm: float = WIDTH_CM,
) -> Axes:
    """Rank histogram of the selected choice, with intervals: level where a model is calibrated.

    Parameters
    ----------
    histogram
        Of `mimic.ranks.rank_histogram`.
    ax, split, choice_group, behavior_group, weighting, colors, width_cm
        As in `draw_chain`, with its errors.
    """
    columns = ["model", "rank_low", "rank_high", "observed", "observed_low", "observed_high", "expected"]
    rows = rows_of(histogram, columns, split, weighting, choice_group=choice_group, behavior_group=behavior_group)
    models, colors = _models(rows, colors)
    is_new, ax = ax is None, ax or new_figure(width_cm, max(6.5, 0.7 * width_cm)).subplots()
    ax.axhline(100 * float(rows["expected"].iloc[0]), color=_EXPECTED_COLOR, linewidth=0.8, zorder=1)
    for m, model in enumerate(models):
        table = rows[rows["model"].astype(str) == model].sort_values("rank_low")
        low, high = (table[name].to_numpy(float) for name in ("rank_low", "rank_high"))
        shift = (m - (len(models) - 1) / 2) * 0.6 / len(models)
        x, y = (low + high) / 2 + shift * (high - low), 100 * table["observed"].to_numpy(float)
        ax.plot(x, y, color=colors[model], marker=MARKERS[m % len(MARKERS)], markersize=3.5, linewidth=0.9, label=model)
        _draw_intervals(ax, x, table, 100.0, colors[model])
    ax.set_xlim(0, 1)
    ax.set_ylim(bottom=0)
    ax.set_xlabel("rank of the selected choice\n(probability of all that are more probable)")
    ax.set_ylabel("decisions, %")
    sns.despine(ax=ax)
    _finish(ax, rows, [*_model_handles(models, colors), _calibrated()])
    if is_new:
        grow_by_legend(ax)
    return ax


@style()
def draw_feature_shares(
    shares: pd.DataFrame,
    ax: Axes | None = None,
    *,
    feature: str | None = None,
    unit: str = "",
    split: str | None = None,
    choice_group: str | None = None,
    behavior_group: str | None = None,
    weighting: str = "individual",
    colors: Mapping[str, str] | None = None,
    width_cm: float = WIDTH_CM,
) -> Axes:
    """Selections by bin of a feature: what each model predicts, what was observed, and what there was to select.

    Parameters
    ----------
    shares
        Of `mimic.used_habitat.feature_shares`.
    feature
        The one to draw; by default the first.
    unit
        Of the feature, for the axis.
    ax, split, choice_group, behavior_group, weighting, colors, width_cm
        As in `draw_chain`.

    Raises
    ------
    ValueError
        As `draw_chain`, or if the feature is not in the table.

    Notes
    -----
    Pale bars are the envelope of selections drawn from the model. The line through the observed share is the interval of
    its difference from the predicted one, paired by individual: where it misses the marker, the model is off.
    """
    columns = ["model", "feature", "bin", "feature_low", "feature_high", "available", "observed"]
    columns += [name + end for name in ("predicted", "difference") for end in ("", "_low", "_high")]
    rows = rows_of(shares, columns, split, weighting, choice_group=choice_group, behavior_group=behavior_group)
    there = list(dict.fromkeys(rows["feature"]))
    feature = there[0] if feature is None else feature
    if feature not in there:
        raise ValueError(f"the table has no feature {feature}; it has {', '.join(there)}.")
    rows = rows[rows["feature"] == feature]
    models, colors = _models(rows, colors)
    bins = sorted(rows["bin"].unique())
    if ax is None:
        ax = new_figure(width_cm, len(bins) * (0.3 * len(models) + 0.5) + 2.6).subplots()
    step = 0.78 / len(models)
    for row in rows.to_dict(orient="records"):
        m, center = models.index(str(row["model"])), bins.index(row["bin"])
        if m == 0:
            ends = [center - 0.4, center + 0.4]
            ax.plot([100 * row["available"]] * 2, ends, color=_EXPECTED_COLOR, linewidth=1.0, label="_available")
        y = center + step * (m - (len(models) - 1) / 2)
        _draw_share(ax, row, y, colors[models[m]], MARKERS[(m + 1) % len(MARKERS)])
    first = rows[rows["model"].astype(str) == models[0]].set_index("bin")
    ax.set_yticks(range(len(bins)), _ranges(first.loc[bins]))
    ax.set_ylim(-0.5, len(bins) - 0.5)
    ax.tick_params(axis="y", length=0)
    ax.set_xlim(left=-0.01 * ax.get_xlim()[1])  # markers at 0 are not cut
    ax.set_xlabel("share of the selections, %")
    ax.hlines(np.arange(1, len(bins)) - 0.5, *ax.get_xlim(), color="0.9", linewidth=0.5, zorder=0)
    sns.despine(ax=ax, left=True)
    handles = [
        Line2D([], [], color=_OBSERVED_COLOR, marker="o", markersize=2.5, linewidth=0.8, label="observed"),
        *_model_handles(models, colors, first_marker=1),
        Line2D([], [], color=_EXPECTED_COLOR, linewidth=1.0, label="share of all choices"),
    ]
    return _finish(ax, rows, handles, about=f"{feature}, {unit}" if unit and unit != "1" else feature)


def _draw_intervals(ax: Axes, x: np.ndarray, table: pd.DataFrame, factor: float, color: str) -> None:
    for at, low, high in zip(x, table["observed_low"], table["observed_high"], strict=True):
        if np.isfinite(low):
            ax.plot([at, at], [factor * low, factor * high], linewidth=0.8, color=color, zorder=2, label="_interval")


def _draw_share(ax: Axes, row: Mapping[Any, Any], y: float, color: str, marker: str) -> None:
    """The predicted share on its envelope, and the observed one with the interval of their difference."""
    low, high = 100 * row["predicted_low"], 100 * row["predicted_high"]
    ax.plot([low, high], [y, y], color=color, linewidth=4.0, alpha=0.35, solid_capstyle="butt", label="_envelope")
    ax.plot([100 * row["predicted"]], [y], color=color, marker=marker, markersize=4, zorder=2.5, label="_predicted")
    if np.isfinite(row["difference_low"]):
        ends = [100 * (row["predicted"] - row[end]) for end in ("difference_low", "difference_high")]
        ax.plot(ends, [y, y], color=_OBSERVED_COLOR, linewidth=0.8, zorder=3, label="_interval")
    ax.plot(
        [100 * row["observed"]], [y], color=_OBSERVED_COLOR, marker="o", markersize=2.5, zorder=3, label="_observed"
    )


def _ranges(rows: pd.DataFrame) -> list[str]:
    """The values of each bin as text; what is nothing beside the other bins is 0."""
    ends = rows[["feature_low", "feature_high"]].to_numpy(dtype=float)
    typical = np.nanmedian(np.abs(ends))
    ends = np.where(np.abs(ends) < 1e-3 * typical, 0.0, ends)
    texts = [f"{low:.3g}" if low == high else f"{low:.3g} to {high:.3g}" for low, high in ends]
    return ["unknown" if np.isnan(low) else text for text, (low, _) in zip(texts, ends, strict=True)]


def rows_of(
    table: pd.DataFrame, columns: Sequence[str], split: str | None, weighting: str, **groups: str | None
) -> pd.DataFrame:
    """The rows of one split, weighting and group, each by default the first there is (of splits validation).

    Raises
    ------
    ValueError
        If a column is missing or there are no such rows.
    """
    require_columns(list(table.columns), ["split", "weighting", *groups, *columns], where="table")
    present = list(dict.fromkeys(table["split"]))
    if split is None and present:
        split = VALIDATION if VALIDATION in present else str(present[0])
    wanted = {"split": split, "weighting": weighting}
    wanted |= {k: v if v is not None or table.empty else table[k].iloc[0] for k, v in groups.items()}
    rows = table[np.logical_and.reduce([table[k] == v for k, v in wanted.items()])]
    if rows.empty:
        there = table[list(wanted)].drop_duplicates().astype(str).agg(" by ".join, axis=1)
        asked = " by ".join(map(str, wanted.values()))
        raise ValueError(f"no row of the table is {asked}; there are {', '.join(there) or 'none'}.")
    return rows


def _models(rows: pd.DataFrame, colors: Mapping[str, str] | None) -> tuple[list[str], dict[str, str]]:
    """The models in order, and their colors."""
    models = list(dict.fromkeys(rows["model"].astype(str)))
    return models, model_colors(models) | dict(colors or {})


def _model_handles(models: Sequence[str], colors: Mapping[str, str], *, first_marker: int = 0) -> list[Artist]:
    looks = [{"marker": MARKERS[(m + first_marker) % len(MARKERS)], "markersize": 4} for m in range(len(models))]
    return [
        Line2D([], [], color=colors[model], linewidth=0.9, label=model, **look)  # type: ignore[arg-type]
        for model, look in zip(models, looks, strict=True)
    ]


def _calibrated() -> Line2D:
    return Line2D([], [], color=_EXPECTED_COLOR, linewidth=0.8, label="calibrated")


def _finish(ax: Axes, rows: pd.DataFrame, handles: Sequence[Artist], *, about: str = "") -> Axes:
    """The title, that says what is drawn, and the legend."""
    row = rows.iloc[0]
    choices = f"choices: {row['choice_group']}" if row.get("choice_group", "all") != "all" else ""
    behavior = row["behavior_group"] if row["behavior_group"] != "all" else ""
    parts = [str(part) for part in (row["split"], choices, behavior) if part]
    wrap_labels(ax)
    set_wrapped_title(ax, (f"{about}: " if about else "") + ", ".join(parts))
    legend_below(ax, handles, gap_pt=32)
    return ax


def _root_ticks(ax: Axes, top: float) -> list[float]:
    """Round probabilities up to the highest, whose percents can be written beside each other on an axis of roots."""
    width_pt = 0.9 * ax.get_position(original=True).width * root_figure(ax).get_figwidth() * 72
    ticks = [t for t in _TICKS if 0.01 * top <= t <= top][::-1]  # the highest are kept first
    labels = [*(f"{100 * t:g}" for t in ticks), "0"]
    kept = labels_apart([-width_pt * np.sqrt(t / top) for t in ticks] + [0.0], labels)
    return [0.0, *(ticks[k] for k in kept if k < len(ticks))]
