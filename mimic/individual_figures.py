"""Tables by individual and by month into figures: sorted differences, D against staying, stay shares, and months."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from mimic.figures import (
    COLORS,
    MARKERS,
    NULL_COLOR,
    WIDTH_CM,
    legend_below,
    legend_columns,
    legend_outside,
    model_colors,
    new_figure,
    set_wrapped_title,
    style,
)
from mimic.individual_tables import MONTH_COLUMNS
from mimic.looks import OTHER_COLOR, Looks, looks_of, value_marker
from mimic.schema import INDIVIDUAL, SPLIT, TRAIN, require_columns
from mimic.stay_shares import DISTRIBUTION_COLUMNS

__all__ = ["draw_individual_differences", "draw_months", "draw_stay_against_score", "draw_stay_distribution"]

MonthValue = Literal["gain", "log_probability"]

_MOST_NAMES = 40  # individuals that are named at the axis
_LONGEST_NAME = 14
_VALUE_LABELS = {"gain": "gain over no model,\nnats per decision", "log_probability": "mean ln p(selected),\nnats"}


@style()
def draw_individual_differences(
    table: pd.DataFrame,
    *,
    color_by: str | None = None,
    colors: Mapping[str, str] | None = None,
    width_cm: float = WIDTH_CM,
) -> Figure:
    """By how much one model helps each individual against another, sorted: a row for each pair, a column for each split.

    Parameters
    ----------
    table
        Of `mimic.individual_tables.individual_differences`.
    color_by
        A column, such as the release site: up to 12 values have a color and a marker each, of more the rarer ones are
        "other"; numbers of more values are shades of one color scale.
    colors
        Value of that column -> color.

    Raises
    ------
    ValueError
        If a column is missing or the table is empty.

    Notes
    -----
    Above each panel stands the share of its individuals that the first model helps (ties half). Thin lines are
    intervals, where the table has them. Individuals are named up to 40 in a panel. A difference that is not finite is
    no point, but counts for the share. Panels of a row share their scales, rows do not.
    """
    needed = ["model", "other", SPLIT, INDIVIDUAL, "difference", *([color_by] if color_by else [])]
    require_columns(list(table.columns), needed, where="individual differences")
    _refuse_empty(table, "individual differences")
    looks = looks_of(table, color_by, colors)
    pairs = dict(list(table.groupby(["model", "other"], sort=False)))
    splits = list(dict.fromkeys(table[SPLIT].astype(str)))
    sizes = [int(rows.groupby(SPLIT).size().max()) for rows in pairs.values()]
    heights = [2.7 + (0.33 * n if n <= _MOST_NAMES else max(4.5, 0.06 * n)) for n in sizes]
    figure = new_figure(width_cm, sum(heights) + 0.8 + 1.2 * bool(looks.handles or looks.shades))
    panels = figure.subplots(len(pairs), len(splits), squeeze=False, sharex="row", height_ratios=heights)
    narrow = width_cm < 5 * len(splits)  # too little room for a line of words above a panel, or for many ticks
    for row, ((model, other), rows), size in zip(panels, pairs.items(), sizes, strict=True):
        for panel, split in zip(row, splits, strict=True):
            _draw_sorted(panel, rows[rows[SPLIT].astype(str) == split], looks, size, split, narrow=narrow)
            panel.xaxis.set_major_locator(MaxNLocator(3 if narrow else 6))
        set_wrapped_title(
            row[0], f"{model} against {other}", n_panels=len(splits), fontweight="bold", pad=37 if narrow else 27
        )
    for panel in panels[-1]:
        panel.set_xlabel("difference\nof D, nats\nper decision" if narrow else "difference of D,\nnats per decision")
    if looks.shades is not None:
        bar = figure.colorbar(looks.shades, ax=panels, location="bottom", aspect=40, pad=0.02, label=color_by)
        bar.outline.set_linewidth(0.6)  # type: ignore[operator]
    elif looks.handles:
        legend_outside(figure, looks.handles)
    return figure


@style()
def draw_stay_against_score(
    table: pd.DataFrame,
    ax: Axes | None = None,
    *,
    models: Sequence[str] | None = None,
    splits: Sequence[str] | None = None,
    colors: Mapping[str, str] | None = None,
    width_cm: float = WIDTH_CM,
) -> Axes:
    """How well individuals are predicted against how often they stay: a marker an individual and model.

    Parameters
    ----------
    table
        Of `mimic.individual_tables.individual_table`.
    models, splits
        Those to draw, in this order; by default all.
    colors
        model -> color; by default `model_colors` of the models of the table in order.

    Raises
    ------
    ValueError
        If a column is missing, a model or split is unknown, or no individual has both numbers.

    Notes
    -----
    The area of a marker is proportional to the number of decisions. Markers of training individuals are open, others
    filled; a thin line joins those of one individual.
    """
    needed = [INDIVIDUAL, SPLIT, "model", "n_decisions", "log_probability", "stay_share"]
    require_columns(list(table.columns), needed, where="individual table")
    known = [str(m) for m in dict.fromkeys(table["model"])]
    chosen = _chosen("model", models, known)
    of_splits = _chosen("split", splits, [str(s) for s in dict.fromkeys(table[SPLIT])])
    palette = model_colors(known) | dict(colors or {})
    there = np.isfinite(table["log_probability"]) & np.isfinite(table["stay_share"])
    rows = table[there & table["model"].astype(str).isin(chosen) & table[SPLIT].astype(str).isin(of_splits)]
    if rows.empty:
        raise ValueError("no individual has both a stay share and a finite log_probability; there is nothing to draw.")
    most = float(rows["n_decisions"].max())
    handles: list[Artist] = [value_marker(palette[m], MARKERS[known.index(m) % len(MARKERS)], m) for m in chosen]
    handles += [value_marker("0.35", "o", s, face="none" if s == TRAIN else "0.35") for s in of_splits]
    sizes = sorted({float(rows["n_decisions"].min()), most})
    handles += [value_marker("0.35", "o", f"{n:,.0f} decisions", size=float(np.sqrt(_area(n, most)))) for n in sizes]
    if ax is None:
        n_lines = -(-len(handles) // legend_columns(handles, 0.75 * width_cm / 2.54 * 72))
        ax = new_figure(width_cm, min(0.65 * width_cm, 9.0) + 1.5 + 0.42 * n_lines).subplots()
    for _, own in rows.groupby([SPLIT, INDIVIDUAL], sort=False):
        ends = [own["log_probability"].min(), own["log_probability"].max()]
        ax.plot([100 * own["stay_share"].iloc[0]] * 2, ends, color="0.8", linewidth=0.4, zorder=1, label="_individual")
    for model in chosen:
        of_model = rows[rows["model"].astype(str) == model]
        for split in of_splits:
            part = of_model[of_model[SPLIT].astype(str) == split]
            face = "none" if split == TRAIN else palette[model]
            ax.scatter(
                100 * part["stay_share"],
                part["log_probability"],
                s=_area(part["n_decisions"].to_numpy(dtype=float), most),
                marker=MARKERS[known.index(model) % len(MARKERS)],
                facecolors=face,
                edgecolors=palette[model] if split == TRAIN else "white",
                linewidths=0.7 if split == TRAIN else 0.3,
                label=f"_{model}, {split}",
                zorder=2,
            )
    ax.set_xlabel("decisions that stay, %")
    ax.set_ylabel("mean ln p(selected), nats")
    legend_below(ax, handles, gap_pt=32)
    sns.despine(ax=ax)
    return ax


@style()
def draw_stay_distribution(
    table: pd.DataFrame, ax: Axes | None = None, *, split: str | None = None, width_cm: float = WIDTH_CM
) -> Axes:
    """How many individuals stay how often, and how many would if all had one probability to stay.

    Parameters
    ----------
    table
        Of `mimic.stay_shares.stay_distribution`.
    split
        By default the first of the table.

    Raises
    ------
    ValueError
        If a column is missing, the table is empty, or there is no such split.

    Notes
    -----
    Only the range of shares is drawn where an individual is or is expected to be.
    """
    require_columns(list(table.columns), DISTRIBUTION_COLUMNS, where="stay distribution")
    _refuse_empty(table, "stay distribution")
    chosen = _chosen("split", None if split is None else [split], [str(s) for s in dict.fromkeys(table[SPLIT])])[0]
    rows = table[table[SPLIT].astype(str) == chosen].sort_values("share_low")
    ax = ax or new_figure(width_cm, min(0.55 * width_cm, 6.0) + 2.2).subplots()
    low, high, observed, expected = (
        rows[name].to_numpy(dtype=float) for name in ("share_low", "share_high", "observed", "expected")
    )
    ax.bar(100 * low, observed, 100 * (high - low), align="edge", color=COLORS[0], alpha=0.55, edgecolor="white")
    ax.stairs(expected, 100 * np.append(low, high[-1]), color=NULL_COLOR, linewidth=1.2, baseline=None, zorder=3)
    there = np.flatnonzero((observed > 0) | (expected > 0.01))
    ax.set_xlim(100 * max(low[there[0]] - 0.05, 0.0) - 0.5, 100 * min(high[there[-1]] + 0.05, 1.0) + 0.5)
    ax.set_ylim(0, 1.08 * max(observed.max(), expected.max()))
    ax.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    ax.set_xlabel("decisions that stay, %")
    ax.set_ylabel("individuals")
    first = rows.iloc[0]
    about = "" if chosen == "all" else f"{chosen}: "
    set_wrapped_title(ax, f"{about}{int(first['n_individuals']):,} individuals, {_overdispersion(first)}")
    alike = f"expected if all stay with {100 * first['pooled_share']:.3g} %"
    handles = [Patch(color=COLORS[0], alpha=0.55, label="observed"), Line2D([], [], color=NULL_COLOR, label=alike)]
    legend_below(ax, handles, gap_pt=32)
    sns.despine(ax=ax)
    return ax


@style()
def draw_months(
    table: pd.DataFrame,
    *,
    value: MonthValue = "gain",
    models: Sequence[str] | None = None,
    splits: Sequence[str] | None = None,
    colors: Mapping[str, str] | None = None,
    width_cm: float = WIDTH_CM,
) -> Figure:
    """How well models predict by month, with intervals as bands, above the number of decisions: a column for each split.

    Parameters
    ----------
    table
        Of `mimic.individual_tables.month_table`.
    value
        "gain" over no model, or "log_probability", with that of no model as a dashed line.
    models, splits
        Those to draw, in this order; by default all.
    colors
        model -> color; by default `model_colors` of the models of the table in order.

    Raises
    ------
    ValueError
        If a column is missing, the table is empty, or a value, model or split is unknown.

    Notes
    -----
    Months without decisions are gaps. The scale is that of the lines: bands of months with few individuals may leave
    the panel, as may the band of a model beyond the others.
    """
    require_columns(list(table.columns), MONTH_COLUMNS, where="month table")
    _refuse_empty(table, "months")
    if value not in get_args(MonthValue):
        raise ValueError(f"value must be {' or '.join(get_args(MonthValue))}; got {value!r}.")
    known = [str(m) for m in dict.fromkeys(table["model"])]
    chosen = _chosen("model", models, known)
    of_splits = _chosen("split", splits, [str(s) for s in dict.fromkeys(table[SPLIT])])
    palette = model_colors(known) | dict(colors or {})
    figure = new_figure(width_cm, 8.6)
    panels = figure.subplots(2, len(of_splits), squeeze=False, sharex=True, sharey="row", height_ratios=[3.4, 1.0])
    shown = table[table["model"].astype(str).isin(chosen) & table[SPLIT].astype(str).isin(of_splits)]
    for column, split in zip(panels.T, of_splits, strict=True):
        rows = shown[shown[SPLIT].astype(str) == split]
        for model in chosen:
            own = _by_month(rows[rows["model"].astype(str) == model])
            look = {"color": palette[model], "marker": MARKERS[known.index(model) % len(MARKERS)]}
            _draw_month_line(column[0], own, value, model, look, shade=0.18 if len(chosen) <= 2 else 0.1)
        first = _by_month(rows[rows["model"].astype(str) == chosen[0]])
        null = np.zeros(12) if value == "gain" else first["null"].to_numpy(dtype=float)
        column[0].plot(first.index, null, color=NULL_COLOR, linewidth=0.8, linestyle="--", zorder=1, label="_null")
        column[1].bar(first.index, first["n_decisions"].fillna(0), color=OTHER_COLOR, width=0.8)
        set_wrapped_title(column[0], split)
        column[1].set_xticks(range(1, 13), list("JFMAMJJASOND"))
        column[1].set_xlim(0.4, 12.6)
        column[1].set_xlabel("month")
        for panel in column:
            sns.despine(ax=panel)
    panels[0, 0].set_ylim(*_range_of(shown, value))
    panels[0, 0].set_ylabel(_VALUE_LABELS[value])
    panels[1, 0].set_ylabel("decisions")
    panels[1, 0].yaxis.set_major_locator(MaxNLocator(2, integer=True))
    handles = [value_marker(palette[m], MARKERS[known.index(m) % len(MARKERS)], m, line="-") for m in chosen]
    null_handle = Line2D([], [], color=NULL_COLOR, linewidth=0.8, linestyle="--", label="no model")
    legend_outside(figure, [*handles, null_handle])
    return figure


def _chosen(kind: str, wanted: Sequence[str] | None, known: Sequence[str]) -> list[str]:
    """Those wanted, in that order, or all that are known."""
    unknown = [name for name in wanted or () if name not in known]
    if unknown or (wanted is not None and not wanted):
        raise ValueError(f"unknown {kind} {', '.join(unknown) or '(none)'}; known are {', '.join(known) or 'none'}.")
    return list(known if wanted is None else wanted)


def _draw_sorted(ax: Axes, rows: pd.DataFrame, looks: Looks, size: int, split: str, *, narrow: bool) -> None:
    """The differences of the individuals of one panel, the largest at the top, in slots for `size` individuals."""
    rows = rows.sort_values("difference", ascending=False, kind="stable")
    d = rows["difference"].to_numpy(dtype=float)
    values = rows[looks.column] if looks.column else [None] * len(rows)
    small = size > _MOST_NAMES
    ax.axvline(0.0, color=NULL_COLOR, linewidth=0.7, zorder=1)
    ends = rows.reindex(columns=["difference_low", "difference_high"]).to_numpy(dtype=float)
    for y, (at, value, end) in enumerate(zip(d, values, ends, strict=True)):
        if not np.isfinite(at):
            continue
        color, marker = looks.of(value)
        known = bool(np.isfinite(end).all())
        if not (small and known):  # two lines in so narrow a slot cannot be told apart
            ax.plot(
                [0.0, at], [y, y], color=color, linewidth=0.7 if small else 2.2, alpha=0.45, zorder=2, label="_stem"
            )
        if known:
            look: dict[str, Any] = {"color": "0.6", "linewidth": 0.4} if small else {"color": "0.25", "linewidth": 0.7}
            ax.plot(end, [y, y], zorder=2.5, label="_interval", **look)
        ax.plot([at], [y], color=color, marker=marker, markersize=2.2 if small else 4.0, zorder=3, label="_difference")
    clear = d[~np.isnan(d)]
    improved = f"{100 * np.mean((clear > 0) + 0.5 * (clear == 0)):.0f} % of {len(clear)}" if len(clear) else ""
    said = [improved, "improved"] if narrow else [f"{improved} improved"]
    said = [split, *(said if len(clear) else ["no individuals"])]
    ax.annotate("\n".join(said), (0, 1), (0, 3), xycoords="axes fraction", textcoords="offset points", va="bottom")
    ax.set_ylim(1.015 * size - 0.4, -0.015 * size - 0.6)  # whole markers, however narrow the slots
    names = [] if small else [_short(name, _LONGEST_NAME - 4 * narrow) for name in rows[INDIVIDUAL]]
    ax.set_yticks(range(len(names)), names)
    ax.tick_params(axis="y", length=0, **({"labelsize": 6.0} if narrow else {}))
    sns.despine(ax=ax, left=True)


def _draw_month_line(
    ax: Axes, rows: pd.DataFrame, value: str, model: str, look: Mapping[str, Any], *, shade: float
) -> None:
    """A line over the months that have decisions, its band, and bars where a month stands alone."""
    y, low, high = (rows[f"{value}{end}"].to_numpy(dtype=float) for end in ("", "_low", "_high"))
    y = np.where(np.isfinite(y), y, np.nan)
    band = np.isfinite(y) & np.isfinite(low) & np.isfinite(high)
    ax.fill_between(
        rows.index, low, high, where=band, color=look["color"], alpha=shade, linewidth=0, label=f"_band {model}"
    )
    alone = band & ~np.append(band[1:], False) & ~np.append(False, band[:-1])
    ax.vlines(rows.index[alone], low[alone], high[alone], color=look["color"], linewidth=0.8, alpha=0.6, label="_alone")
    ax.plot(rows.index, y, markersize=3.2, linewidth=1.0, label=model, **look)


def _by_month(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of one model and split by month, all twelve of them."""
    return rows.set_index("month").reindex(range(1, 13))


def _range_of(rows: pd.DataFrame, value: str) -> tuple[float, float]:
    """From the lowest to the highest point of all lines and of no model, and half as much on both sides for bands."""
    points = np.append(
        rows[value].to_numpy(dtype=float), 0.0 if value == "gain" else rows["null"].to_numpy(dtype=float)
    )
    points = points[np.isfinite(points)]
    ends = rows[[f"{value}_low", f"{value}_high"]].to_numpy(dtype=float)
    ends = ends[np.isfinite(ends)]
    low, high = (points.min(), points.max()) if len(points) else (0.0, 1.0)
    room = 0.5 * (high - low) or 0.1
    return (
        max(low - room, ends.min(initial=low) - 0.08 * room),
        min(high + room, ends.max(initial=high) + 0.16 * room),
    )


def _overdispersion(row: pd.Series) -> str:
    """What the test of one common share says, in words."""
    over, p = float(row["overdispersion"]), float(row["p_homogeneity"])
    if np.isnan(over):
        return "no test of a common share"
    note = f" ({row['note']})" if row["note"] else ""
    return f"overdispersion {over:.3g}, " + ("p < 0.001" if p < 0.001 else f"p = {p:.2g}") + note


def _refuse_empty(table: pd.DataFrame, what: str) -> None:
    if table.empty:
        raise ValueError(f"the table of {what} has no rows; there is nothing to draw.")


def _area(n_decisions: np.ndarray | float, most: float) -> np.ndarray | float:
    """Area of a marker, square points: in proportion to decisions, yet never invisible."""
    return np.maximum(44.0 * n_decisions / most, 4.0)


def _short(name: object, longest: int) -> str:
    """A name that leaves room for what is drawn: a long one keeps its ends, by which names mostly differ."""
    text = str(name)
    half = longest // 2
    return text if len(text) <= longest else f"{text[: half - 1]}…{text[-half:]}"
