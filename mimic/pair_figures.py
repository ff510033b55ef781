"""A table of win rates into a heat map of errors: which pairs of bins a model gets wrong, and how often they meet."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.colors import Normalize
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.transforms import ScaledTranslation

from mimic.chain_figures import ink_on
from mimic.figures import WIDTH_CM, new_figure, root_figure, set_wrapped_title, style, text_width_pt
from mimic.maps import DIFFERENCES, color_bar, fit_height
from mimic.schema import VALIDATION, require_columns

__all__ = ["draw_bin_pairs", "short_names"]

_RANGE = re.compile(r"(?P<feature>\S+) (?:= (?P<value>\S+)|(?P<low>\S+) to (?P<high>\S+))")
_SHARE_OF_COLORS = 0.98  # of the weight: rarer errors have the color of the limit
_LEAST_LIMIT = 1.0  # %
_NUMBER_PT = 5.0
_NAME_PT = 6.0
_LETTER = 0.6  # mean width of a letter over the size of the font
_BESIDE = 0.4  # names that need no more of the width than this stand beside their rows, others below
_LABEL_PT = 220.0  # room that the label of the color bar needs
_LARGEST_PLACE_CM, _SMALLEST_MAP_CM = 1.0, 4.0


@style()
def draw_bin_pairs(
    table: pd.DataFrame,
    ax: Axes | None = None,
    *,
    model: str | None = None,
    split: str | None = None,
    limit: float | None = None,
    width_cm: float = WIDTH_CM,
) -> Axes:
    """The axes with one square a pair of bins: its color the error of a model, its area the share of the contrasts.

    Parameters
    ----------
    table
        Of `mimic.win_rates.win_rates`.
    ax
        Axes to draw in; by default those of a new figure of `width_cm`.
    model, split
        The rows to draw: by default the first model, and validation or else the first split.
    limit
        Errors beyond +-limit have the color of the limit. By default the pairs within have 98 % of the weight.

    Raises
    ------
    ValueError
        If a column is missing, there are no such rows, or the limit is not above 0.

    Notes
    -----
    The error is predicted - observed share of the contrasts that the bin of the row wins against that of the column:
    blue and + where the model gives the row too much, red and - where too little. Numbers are percent, written where
    there is room. Of a bin with itself there is no error. Bins are in the order of their ranges; features that do
    not tell them apart are not named, see `short_names`.
    """
    rows, model, split = _rows_of(table, model, split)
    if limit is not None and not limit > 0:
        raise ValueError(f"limit must be a share above 0, such as 0.1; got {limit}.")
    names = _names(rows)
    pairs = _ordered(rows, names)
    n = len(names)
    is_new = ax is None
    ax = ax or new_figure(width_cm, width_cm + 14.0, layout="compressed").subplots()
    largest = _limit(pairs) if limit is None else 100 * limit
    ax.set(xlim=(-0.5, n - 0.5), ylim=(n - 0.5, -0.5), aspect="equal")
    squares = _draw_squares(ax, pairs, n, largest)
    ax.set_xlabel(f"against bin\narea: share of contrasts, largest {100 * pairs['weight'].max():.2g} %")
    extend = "both" if pairs["error"].abs().max() > largest * (1 + 1e-9) else "neither"
    bar = color_bar(ax, squares, "predicted \N{MINUS SIGN} observed wins of the row, %", extend=extend)
    bar.ax.xaxis.set_major_formatter(lambda v, _: _signed(v))
    _name_bins(ax, bar.ax, list(names.values()), 72 * width_cm / 2.54)
    set_wrapped_title(ax, f"{model}, {split}")
    if is_new:
        fit_height(ax, 1.0, most_cm=max(_LARGEST_PLACE_CM * n, _SMALLEST_MAP_CM))
    _write_numbers(ax, pairs, squares)
    return ax


def short_names(names: Sequence[str]) -> list[str]:
    """Names of bins without the features that do not tell them apart: those whose ranges all overlap.

    Parameters
    ----------
    names
        From `mimic.win_rates.describe_bins`. They are returned as they are where one cannot be read as ranges, or two
        of the short ones would be the same.

    Example
    -------
    >>> short_names(["stay = 1, sst 2 to 9", "stay = 0, sst 1 to 9.5"])
    ['stay = 1', 'stay = 0']
    """
    ranges = [_ranges(name) for name in names]
    if not all(ranges) or len({tuple(r) for r in ranges}) > 1:
        return list(names)
    kept = [feature for feature in ranges[0] if _tells_apart(np.array([r[feature] for r in ranges]))]
    parts = [dict(zip(r, name.split(", "), strict=True)) for r, name in zip(ranges, names, strict=True)]
    short = [", ".join(part[f] for f in kept) for part in parts]
    return short if len(set(short)) == len(short) else list(names)


def _tells_apart(ranges: np.ndarray) -> bool:
    """Whether two of the ranges (bin, 2) do not overlap; wide ones may touch."""
    low, high = ranges.T
    is_wide = low < high
    touches = (low[:, None] == high) & is_wide[:, None] & is_wide
    return bool(((low[:, None] > high) | touches).any())


def _ranges(name: str) -> dict[str, tuple[float, float]]:
    """Feature -> lowest and highest value, of the name of a bin; empty where it cannot be read."""
    found = {}
    for part in name.split(", "):
        match = _RANGE.fullmatch(part)
        if match is None:
            return {}
        low, high = (match["value"], match["value"]) if match["value"] else (match["low"], match["high"])
        found[match["feature"]] = (float(low), float(high))
    return found


def _rows_of(table: pd.DataFrame, model: str | None, split: str | None) -> tuple[pd.DataFrame, str, str]:
    """The rows of one model and split, and which they are."""
    wanted = ["model", "split", "bin_a", "bin_b", "a", "b", "weight", "difference"]
    require_columns(list(table.columns), wanted, where="win rates")
    if table.empty:
        raise ValueError("expected win rates of at least one pair of bins; got none: no decision has a contrast.")
    models, splits = (list(dict.fromkeys(table[c].astype(str))) for c in ("model", "split"))
    model = models[0] if model is None else model
    split = (VALIDATION if VALIDATION in splits else splits[0]) if split is None else split
    rows = table[(table["model"].astype(str) == model) & (table["split"].astype(str) == split)]
    if rows.empty:
        raise ValueError(
            f"no row of the win rates is of {model} and {split}; "
            f"there are the models {', '.join(models)} and the splits {', '.join(splits)}."
        )
    return rows, model, split


def _names(rows: pd.DataFrame) -> dict[int, str]:
    """Bin -> name, in the order in which bins are drawn: by the ranges of the features that tell them apart."""
    known = dict(zip(rows["bin_a"], rows["a"].astype(str), strict=True))
    known |= dict(zip(rows["bin_b"], rows["b"].astype(str), strict=True))
    bins = sorted(known)
    short = dict(zip(bins, short_names([known[b] for b in bins]), strict=True))
    keys = {b: tuple(_ranges(short[b]).values()) for b in bins}
    return {b: short[b] for b in sorted(bins, key=lambda b: (keys[b], b))}


def _ordered(rows: pd.DataFrame, names: Mapping[int, str]) -> pd.DataFrame:
    """The pairs at their places: row and column, side of the square, weight, and the error seen from the row, %."""
    place = {b: k for k, b in enumerate(names)}
    first, second = rows["bin_a"].map(place).to_numpy(), rows["bin_b"].map(place).to_numpy()
    sign = np.where(first <= second, 1.0, -1.0)  # what one bin wins too often, the other wins too seldom
    weight = rows["weight"].to_numpy(dtype=float)
    return pd.DataFrame(
        {
            "row": np.minimum(first, second),
            "column": np.maximum(first, second),
            "weight": weight,
            "side": 0.96 * np.sqrt(weight / weight.max()),
            "error": 100 * sign * rows["difference"].to_numpy(dtype=float),
        }
    )


def _limit(pairs: pd.DataFrame) -> float:
    """The error, %, that all but the rarest of the pairs stay within."""
    others = pairs[pairs["row"] != pairs["column"]]
    if others.empty:
        return _LEAST_LIMIT
    errors = others.assign(error=others["error"].abs()).sort_values("error")
    share = (errors["weight"].cumsum() / errors["weight"].sum()).to_numpy()
    return max(float(errors["error"].iloc[int(np.searchsorted(share, _SHARE_OF_COLORS))]), _LEAST_LIMIT)


def _draw_squares(ax: Axes, pairs: pd.DataFrame, n_bins: int, limit: float) -> PatchCollection:
    """The squares, on a grid of the pairs that there can be."""
    lines = np.arange(n_bins + 1) - 0.5
    look: dict[str, Any] = {"color": "0.88", "linewidth": 0.4, "zorder": 0.5, "clip_on": False}
    ax.hlines(lines, np.maximum(lines - 1, -0.5), n_bins - 0.5, **look)
    ax.vlines(lines, -0.5, np.minimum(lines + 1, n_bins - 0.5), **look)
    shapes = [
        Rectangle((x - side / 2, y - side / 2), side, side)
        for x, y, side in zip(pairs["column"], pairs["row"], pairs["side"], strict=True)
    ]
    squares = PatchCollection(shapes, cmap=DIFFERENCES, norm=Normalize(-limit, limit), zorder=2)
    squares.set(edgecolor="0.4", linewidth=0.3)
    squares.set_array(pairs["error"].to_numpy())
    ax.add_collection(squares)
    for spine in ax.spines.values():
        spine.set_visible(False)
    return squares


def _name_bins(ax: Axes, lowest: Axes, names: Sequence[str], width_pt: float) -> None:
    """Numbers on both axes; the names beside those of the rows, or, long ones, in a list below the lowest axes."""
    numbers = [str(k + 1) for k in range(len(names))]
    longest_pt = max(text_width_pt(name, _NAME_PT) for name in names)
    is_beside = longest_pt <= min(_BESIDE * width_pt, width_pt - _LABEL_PT)
    beside = [f"{name}   {k}" for name, k in zip(names, numbers, strict=True)]
    ax.set_xticks(range(len(names)), numbers)
    ax.set_yticks(range(len(names)), beside if is_beside else numbers)
    ax.tick_params(length=0, labelsize=_NAME_PT, pad=2)
    if not is_beside:
        ax.set_ylabel("bin")
        n_letters = int(0.9 * width_pt / (_LETTER * _NAME_PT))
        listed = [textwrap.fill(f"{k}: {name}", n_letters) for k, name in zip(numbers, names, strict=True)]
        look: dict[str, Any] = {"handlelength": 0, "handletextpad": 0, "labelspacing": 0.3, "fontsize": _NAME_PT}
        look["ncols"] = int(np.clip(0.9 * width_pt / (longest_pt + 4 * _NAME_PT), 1, 4))
        handles = [Line2D([], [], linestyle="none", label=text) for text in listed]
        gap_pt = 30 + 10 * lowest.get_xlabel().count("\n")
        below = ScaledTranslation(0, -gap_pt / 72, root_figure(ax).dpi_scale_trans)
        place: dict[str, Any] = {"bbox_to_anchor": (0.5, 0), "bbox_transform": lowest.transAxes + below}
        lowest.legend(handles=handles, loc="upper center", borderaxespad=0, **place, **look)


def _write_numbers(ax: Axes, pairs: pd.DataFrame, squares: PatchCollection) -> None:
    """Errors in percent within their squares, where these have room: the sign tells in gray what red and blue are."""
    n = abs(float(np.diff(ax.get_xlim())[0]))
    place_pt = 72 / root_figure(ax).dpi * ax.get_window_extent().width / n
    look: dict[str, Any] = {"fontsize": _NUMBER_PT, "ha": "center", "va": "center_baseline", "zorder": 3}
    for pair in pairs.to_dict(orient="records"):
        text = _signed(round(pair["error"]))
        if text != "0" and text_width_pt(text, _NUMBER_PT) + 1.5 <= pair["side"] * place_pt:
            ink = ink_on(squares.to_rgba(pair["error"]))
            ax.text(pair["column"], pair["row"], text, color=ink, **look)


def _signed(percent: float) -> str:
    """A number with its sign, as it is written in print."""
    return f"{percent:+g}".replace("-", "\N{MINUS SIGN}") if percent else "0"
