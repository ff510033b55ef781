"""A table of simulated studies into power curves: how often an effect is found, by animals, days and size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.transforms import ScaledTranslation

from mimic.figures import (
    COLORS,
    MARKERS,
    NULL_COLOR,
    WIDTH_CM,
    legend_below,
    new_figure,
    root_figure,
    set_wrapped_title,
    style,
)
from mimic.power import animals_needed
from mimic.schema import require_columns

__all__ = ["draw_power", "wilson_interval"]

_Z = 1.959964  # of 95 %
_DASHES = ("-", (0, (3.2, 1.4)), (0, (1, 1.2)), (0, (5, 1.2, 1, 1.2)))
_CURVE = ["effect", "size", "sd", "alpha", "n_days"]
_TWO_COLUMNS_CM = 12.0
_APART_PT = 1.8  # between the intervals of two lines at the same number of animals
_NO_EFFECT = "irrelevant"


@style()
def draw_power(
    table: pd.DataFrame,
    *,
    wanted: float = 0.8,
    colors: Mapping[float, str] | None = None,
    width_cm: float = WIDTH_CM,
) -> Figure:
    """A figure of the power by number of animals, one line a number of days, one panel an effect, size and sd.

    Parameters
    ----------
    table
        Of `mimic.power.power_table`, or several of them below each other.
    wanted
        The power that a study shall have: a horizontal line. Where a curve crosses it, a line leads down to the
        number of animals of `mimic.power.animals_needed`, which the legend names; "about" so many are more than in the table.
    colors
        Number of days (or size, where these are the lines) -> color.

    Raises
    ------
    ValueError
        If a column is missing, there is no row, a study is there twice, or the wanted power is not between 0 and 1.

    Notes
    -----
    With one number of days alone, the lines are the sizes of an effect. Bars are Wilson's 95 % intervals of the share
    of so many simulated studies: they hold values near 0 and 1 too, and say how far `n_studies` can be believed. The
    dotted line is alpha, the share of studies that find an effect which is none.
    """
    require_columns(list(table.columns), [*_CURVE, "n_individuals", "n_studies", "power"], where="power table")
    if table.empty:
        raise ValueError("expected at least one row of a power table; got none.")
    if table.duplicated([*_CURVE, "n_individuals"]).any():
        raise ValueError("expected each number of animals and days once for an effect; got some several times.")
    needed = animals_needed(table, power=wanted)
    line = "n_days" if table["n_days"].nunique() > 1 or table["size"].nunique() == 1 else "size"
    values = sorted(set(table[line]))
    looks = _looks(values, colors or {})
    keys = [k for k in _CURVE if k != line]
    panels = list(table.groupby(keys, sort=False))
    n_columns = min(len(panels), 2 if width_cm >= _TWO_COLUMNS_CM else 1)
    n_rows = -(-len(panels) // n_columns)
    legend_cm = 0.42 * (len(values) + 2)
    figure = new_figure(width_cm, n_rows * (5.6 + legend_cm))
    axes = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
    for ax, (key, part) in zip(axes, panels, strict=False):
        own = needed[np.logical_and.reduce([needed[k] == v for k, v in zip(keys, key, strict=True)])]
        _draw_panel(ax, part, own, line, looks, wanted)
        set_wrapped_title(ax, _title(part, line), pad=6.0)
    for ax in axes[len(panels) :]:
        ax.set_axis_off()
    return figure


def wilson_interval(share: np.ndarray, n: np.ndarray, *, z: float = _Z) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper end of the interval of a share of n independent trials, of any shape; n at least 1.

    Notes
    -----
    (p + z^2 / 2n -+ z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n). It stays within 0 and 1, and has a width where
    all or none of the trials succeed.

    References
    ----------
    Wilson, E. B. (1927), doi:10.1080/01621459.1927.10502953.

    Example
    -------
    None of 10, and half of 10:

    >>> low, high = wilson_interval(np.array([0.0, 0.5]), np.array([10, 10]))
    >>> low.round(3).tolist(), high.round(3).tolist()
    ([0.0, 0.237], [0.278, 0.763])
    """
    share, n = np.asarray(share, dtype=np.float64), np.asarray(n, dtype=np.float64)
    middle = share + z**2 / (2 * n)
    half = z * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    low, high = (middle - half) / (1 + z**2 / n), (middle + half) / (1 + z**2 / n)
    return np.clip(low, 0.0, 1.0), np.clip(high, 0.0, 1.0)


def _looks(values: Sequence[float], colors: Mapping[float, str]) -> dict[float, dict[str, Any]]:
    """Color, marker and dashes of each line, the same in all panels."""
    return {
        value: {
            "color": colors.get(value, COLORS[k % len(COLORS)]),
            "marker": MARKERS[k % len(MARKERS)],
            "linestyle": _DASHES[k % len(_DASHES)],
            "markersize": 4.0,
        }
        for k, value in enumerate(values)
    }


def _draw_panel(
    ax: Axes,
    table: pd.DataFrame,
    needed: pd.DataFrame,
    line: str,
    looks: Mapping[float, Mapping[str, Any]],
    wanted: float,
) -> None:
    """The curves of one effect."""
    alpha = float(table["alpha"].iloc[0])
    is_effect = table["effect"].iloc[0] != _NO_EFFECT
    if is_effect:
        ax.axhline(wanted, color=NULL_COLOR, linewidth=0.8, zorder=1, label="_wanted")
    ax.axhline(alpha, color=NULL_COLOR, linewidth=0.8, linestyle=":", zorder=1, label="_alpha")
    values = [v for v in looks if (table[line] == v).any()]
    handles: list[Artist] = []
    for k, value in enumerate(values):
        look = looks[value]
        curve = table[table[line] == value].sort_values("n_individuals")
        n, power = curve["n_individuals"].to_numpy(dtype=float), curve["power"].to_numpy(dtype=float)
        low, high = wilson_interval(power, curve["n_studies"].to_numpy())
        beside = ScaledTranslation(_APART_PT * (k - (len(values) - 1) / 2) / 72, 0, root_figure(ax).dpi_scale_trans)
        ax.vlines(n, low, high, color=look["color"], linewidth=0.9, zorder=2, transform=ax.transData + beside)
        ax.plot(n, power, zorder=3, label=f"{value:g}", transform=ax.transData + beside, **look)
        found = needed[needed[line] == value].iloc[0]
        if found["basis"] == "between":
            at = float(np.interp(wanted, *_rise(n, power, wanted)))
            ax.plot([at, at], [0, wanted], color=look["color"], linewidth=0.7, linestyle=":", label="_needed")
        name = f"{value:g} days" if line == "n_days" else _size(str(curve["effect"].iloc[0]), value)
        handles.append(Line2D([], [], label=f"{name}{_in_words(found)}", **look))
    ends = table["n_individuals"].max()
    ax.set(xlim=(0, 1.06 * ends), ylim=(-0.02, 1.03), xlabel="individuals", ylabel="power")
    ax.set_xticks(_spaced(sorted(set(table["n_individuals"])), ends))
    ax.yaxis.set_major_formatter(lambda v, _: f"{100 * v:.0f} %")
    if is_effect:
        handles.append(Line2D([], [], color=NULL_COLOR, linewidth=0.8, label=f"wanted: {100 * wanted:g} %"))
    handles.append(Line2D([], [], color=NULL_COLOR, linewidth=0.8, linestyle=":", label=f"alpha: {100 * alpha:g} %"))
    sns.despine(ax=ax)
    legend_below(ax, handles, gap_pt=32)


def _rise(n: np.ndarray, power: np.ndarray, wanted: float) -> tuple[np.ndarray, np.ndarray]:
    """Power and number of animals at the ends of the piece of the curve that first reaches the wanted power."""
    k = int(np.argmax(power >= wanted))
    return power[k - 1 : k + 1], n[k - 1 : k + 1]


def _in_words(needed: pd.Series) -> str:
    """How many animals are needed, for the legend."""
    n = needed["n_individuals"]
    if needed["basis"] == "nothing to find":
        return ""
    if np.isnan(n):
        return ": cannot be told"
    return {"between": f": {n:.0f} animals", "at most": f": at most {n:.0f} animals"}.get(
        needed["basis"], f": about {n:.0f} animals"
    )


def _spaced(numbers: Sequence[float], end: float) -> list[float]:
    """The numbers, the larger first, that are not too near each other for their names."""
    kept: list[float] = []
    for number in reversed(numbers):
        if not kept or kept[-1] - number >= 0.055 * end:
            kept.append(number)
    return kept[::-1]


def _title(table: pd.DataFrame, line: str) -> str:
    """The effect with what all of the panel have in common: its size, or the days, and how much animals differ."""
    first = table.iloc[0]
    effect, sd = str(first["effect"]), float(first["sd"])
    shared = f"{first['n_days']:g} days" if line == "size" else _size(effect, float(first["size"]))
    if effect == _NO_EFFECT:
        shared = "share of false positives"
    return ", ".join([effect, shared, *([f"sd between animals {sd:g} nats"] if sd > 0 else [])])


def _size(effect: str, size: float) -> str:
    """The size of an effect as `mimic.power` measures it."""
    known = {
        "heading": f"tilt {100 * size:g} %",
        "covariate": f"{size:g} nats per sd",
        "perimeter": f"p up to {size:g}",
    }
    return known.get(effect, f"size {size:g}")
