"""A table of the chain rule into stacked bars: how much of a model's gain each stage of a movement brings, in nats."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.text import Text

from mimic.evaluation_figures import rows_of
from mimic.figures import (
    NULL_COLOR,
    WIDTH_CM,
    legend_below,
    model_colors,
    new_figure,
    root_figure,
    set_wrapped_title,
    style,
    wrapped,
)
from mimic.schema import examples

__all__ = ["draw_stacked_chain", "ink_on", "tint"]

_WHOLE = "all"
_HATCHES = ("", "////", "....", "\\\\\\\\", "xxxx", "oo")
_SECOND, _LAST = 0.45, 0.8  # shares of white in the color of the second stage and of the last; the first has none
_LINE = "0.15"
_HALFWAY = 0.179  # luminance on which white and black have the same contrast
_GRAY = "0.25"
_NUMBER_PT = 6.0
_AIR_PT = 3.0  # beside the number in a segment
_TOLERANCE = 1e-6  # nats by which the stages may miss the whole, as of tables read from text
_BAR = 0.62
_LABEL_PT = 75.0  # width of the names of models


@style()
def draw_stacked_chain(
    chain: pd.DataFrame,
    ax: Axes | None = None,
    *,
    split: str | None = None,
    behavior_group: str | None = None,
    weighting: str = "individual",
    colors: Mapping[str, str] | None = None,
    width_cm: float = WIDTH_CM,
) -> Axes:
    """The axes with one bar a model, cut into the gains of the stages, which add up to the gain over chance.

    Parameters
    ----------
    chain
        Of `mimic.chain.chain_rule`.
    ax
        Axes to draw in; by default those of a new figure of `width_cm`.
    split, behavior_group, weighting
        The rows to draw: by default validation, or else the first split that is there, and the first behavior group.
    colors
        model -> color; by default `model_colors` of the models in order. Stages are tints of it, with hatches.

    Raises
    ------
    ValueError
        If a column is missing, no row is of that split, behavior group and weighting, a model has a stage twice or
        not at all, or its stages do not add up to "all".

    Notes
    -----
    Gains are stacked to the right from 0 in the order of the stages, losses to the left. The diamond below a bar is
    the whole, their sum, with its interval; at the end stand the whole and its lift. Numbers of segments are written
    where they have room.
    """
    columns = ["model", "stage", "gain", "gain_low", "gain_high", "lift"]
    rows = rows_of(chain, columns, split, weighting, behavior_group=behavior_group)
    stages, gains, wholes = _parts(rows)
    models = list(gains.index)
    colors = model_colors(models) | dict(colors or {})
    labels = [wrapped(model, _LABEL_PT, size=mpl.rcParams["ytick.labelsize"]) for model in models]
    if ax is None:
        row_cm = max(0.95, *(0.35 * (label.count("\n") + 1) + 0.2 for label in labels))
        ax = new_figure(width_cm, row_cm * len(models) + 3.4).subplots()
    known = gains[np.isfinite(gains).all(axis=1)]
    decimals = 2 if known.abs().max().max() >= 0.1 else 3
    numbers, ends = [], []
    for y, model in enumerate(models):
        if model in known.index:
            numbers += _draw_bar(ax, y, known.loc[model].to_numpy(), colors[model], decimals)
        ends.append(_draw_whole(ax, y, gains.loc[model].to_numpy(), wholes.loc[model], decimals))
    ax.axvline(0, color=NULL_COLOR, linewidth=0.8, zorder=2.5)
    ax.set_yticks(range(len(models)), labels)
    ax.set_ylim(len(models) - 0.35, -0.5)
    ax.tick_params(axis="y", length=0)
    ax.set_xlabel("gain over chance, nats per decision")
    sns.despine(ax=ax, left=True)
    first = rows.iloc[0]
    parts = [first["split"], *([first["behavior_group"]] if first["behavior_group"] != _WHOLE else [])]
    set_wrapped_title(ax, ", ".join(map(str, parts)))
    legend_below(ax, _handles(stages), gap_pt=32)
    _make_room(ax, ends, numbers)
    return ax


def tint(color: str, stage: int, n_stages: int) -> str:
    """The color of a stage: that of the model with more white from stage to stage."""
    white = 0.0 if stage == 0 else float(np.linspace(_SECOND, _LAST, max(n_stages - 1, 1))[stage - 1])
    red, green, blue = (1 - white) * np.array(to_rgb(color)) + white
    return to_hex((red, green, blue))


def ink_on(color: Any) -> str:
    """Black or white, whichever can be read on a color.

    Example
    -------
    >>> ink_on("#0072B2"), ink_on("0.9")
    ('white', 'black')
    """
    red, green, blue = (np.array(to_rgb(color)) + 0.055) / 1.055
    luminance = 0.2126 * red**2.4 + 0.7152 * green**2.4 + 0.0722 * blue**2.4
    return "white" if luminance < _HALFWAY else "black"


def _parts(rows: pd.DataFrame) -> tuple[list[str], pd.DataFrame, pd.DataFrame]:
    """The stages in order, their gains (model, stage), and the rows of the whole by model."""
    rows = rows.assign(model=rows["model"].astype(str), stage=rows["stage"].astype(str))
    repeated = rows.duplicated(["model", "stage"])
    if repeated.any():
        raise ValueError(
            f"expected each stage of a model once; got {examples(rows.loc[repeated, 'stage'])} several times. "
            "Draw one chain at a time."
        )
    models, there = list(dict.fromkeys(rows["model"])), list(dict.fromkeys(rows["stage"]))
    stages = [stage for stage in there if stage != _WHOLE]
    if not stages or _WHOLE not in there or len(rows) < len(models) * len(there):
        raise ValueError(
            f"expected of every model its stages and their sum, the stage {_WHOLE}; got {', '.join(there)}, "
            "and not all of every model. Draw the whole table of a chain rule."
        )
    table = rows.pivot(index="model", columns="stage", values="gain").loc[models].astype(float)
    gains = table[stages]
    missed = (gains.sum(axis=1, skipna=False) - table[_WHOLE]).abs() > _TOLERANCE
    if missed.any():  # not of gains that are no number: these compare as false
        off = examples(list(missed.index[missed]))
        raise ValueError(f"the gains of the stages must add up to that of {_WHOLE}; they do not for {off}.")
    return stages, gains, rows[rows["stage"] == _WHOLE].set_index("model")


def _draw_bar(ax: Axes, y: float, gains: np.ndarray, color: str, decimals: int) -> list[tuple[Text, float]]:
    """The segments of one model; their numbers, each with the width of its segment, nats."""
    numbers = []
    ends = {True: 0.0, False: 0.0}  # of what is stacked to the right and to the left
    for k, gain in enumerate(gains):
        start = ends[gain > 0]
        ends[gain > 0] += gain
        if gain == 0:
            continue
        face = tint(color, k, len(gains))
        with mpl.rc_context({"hatch.linewidth": 0.5}):
            look: dict[str, Any] = {"facecolor": face, "edgecolor": _LINE, "hatch": _HATCHES[k % len(_HATCHES)]}
            ax.barh(y, gain, left=start, height=_BAR, linewidth=0.5, zorder=2, **look)
        behind = {"facecolor": face, "edgecolor": "none", "pad": 0.8}  # hatches would run through the number
        text = f"{gain:.{decimals}f}".replace("-", "\N{MINUS SIGN}")
        place: dict[str, Any] = {"ha": "center", "va": "center_baseline", "zorder": 3}
        number = ax.text(start + gain / 2, y, text, fontsize=_NUMBER_PT, color=ink_on(face), bbox=behind, **place)
        numbers.append((number, abs(float(gain))))
    return numbers


def _draw_whole(ax: Axes, y: float, gains: np.ndarray, whole: pd.Series, decimals: int) -> tuple[Text, float]:
    """The sum below the bar, with its interval, and written at the end; the text, and where it begins, nats."""
    look: dict[str, Any] = {"fontsize": _NUMBER_PT + 0.5, "va": "center_baseline", "zorder": 3}
    look["in_layout"] = False  # room is made for it within the axes
    offset: dict[str, Any] = {"xytext": (4, 0), "textcoords": "offset points"}
    gain, low, high = (float(whole[name]) for name in ("gain", "gain_low", "gain_high"))
    if not np.isfinite(gains).all():
        text = "no decisions" if np.isnan(gain) else "impossible"
        return ax.annotate(text, (0.0, y), color="0.35", **offset, **look), 0.0
    below = y + _BAR / 2 + 0.1
    if np.isfinite([low, high]).all():
        ax.plot([low, high], [below, below], color=_LINE, linewidth=0.8, zorder=2.6, label="_interval")
    ax.plot([gain], [below], marker="D", markersize=3, color=_LINE, zorder=2.7, label="_whole")
    end = float(gains[gains > 0].sum())
    text = f"{gain:.{decimals}f} (×{whole['lift']:.3g})".replace("-", "\N{MINUS SIGN}")
    return ax.annotate(text, (end, y), **offset, **look), end


def _handles(stages: Sequence[str]) -> list[Artist]:
    """What the segments and the diamond are, in gray."""
    handles: list[Artist] = []
    for k, stage in enumerate(stages):
        face = tint(_GRAY, k, len(stages))
        with mpl.rc_context({"hatch.linewidth": 0.5}):
            look: dict[str, Any] = {"facecolor": face, "edgecolor": _LINE, "hatch": _HATCHES[k % len(_HATCHES)]}
            handles.append(Patch(linewidth=0.5, label=stage, **look))
    whole: dict[str, Any] = {"marker": "D", "markersize": 3, "color": _LINE, "linewidth": 0.8}
    return [*handles, Line2D([], [], label=f"{_WHOLE}, with interval (× lift)", **whole)]


def _make_room(ax: Axes, ends: Sequence[tuple[Text, float]], numbers: Sequence[tuple[Text, float]]) -> None:
    """Limits with room for the texts at the ends of the bars, and only those numbers that their segments hold."""
    figure = root_figure(ax)
    figure.draw_without_rendering()
    to_pt = 72 / figure.dpi
    width_pt = to_pt * ax.get_window_extent().width
    low, high = ax.get_xlim()
    for text, end in ends:
        share = min((to_pt * text.get_window_extent().width + 6.0) / width_pt, 0.8)
        high = max(high, (end - share * low) / (1 - share))  # so that end + share * (high - low) is inside
    ax.set_xlim(low, high)
    for number, nats in numbers:
        room_pt = nats / (high - low) * width_pt - 2 * _AIR_PT
        number.set_visible(to_pt * number.get_window_extent().width <= room_pt)
