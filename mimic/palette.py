"""Models, splits and differences into colors, markers and line styles, and widths: plain values, for figures and for pages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mimic.schema import SEEDS_SUFFIX, TRAIN, VALIDATION

__all__ = [
    "COLORS",
    "COLUMN_CM",
    "DIFFERENCE_COLORS",
    "MARKERS",
    "NULL_COLOR",
    "PAGE_CM",
    "RUNNING_COLOR",
    "SPLIT_LINES",
    "interpolated",
    "model_colors",
]

# Okabe and Ito's colors without black (text) and yellow (too pale for lines), then darker ones of Paul Tol's.
COLORS = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#882255",
    "#999933",
    "#332288",
    "#8C564B",
    "#44AA99",
    "#5F5F5F",
)
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h", "*")
RUNNING_COLOR = "0.6"
NULL_COLOR = "0.25"
SPLIT_LINES: dict[str, Any] = {TRAIN: "-", VALIDATION: (0, (3.2, 1.4))}

# The second model's color where it is better, pale, the first model's: dark enough to be told apart in gray.
DIFFERENCE_COLORS = ("#b34700", "#e8852b", "#f6c58a", "#f4f4f4", "#a9c9e6", "#3f7db8", "#0b3c6f")

COLUMN_CM = 8.0
"""Width of a figure in one column of a journal."""
PAGE_CM = 17.0
"""Width of a figure across a page."""


def model_colors(models: Sequence[str]) -> dict[str, str]:
    """The color of each model, by the order given: hand the same order to every figure of a study.

    Means over the seeds of other models come after all others, so that a grid changes no color.

    Example
    -------
    >>> list(model_colors(["a", "a_seeds", "b"]).items())
    [('a', '#0072B2'), ('b', '#D55E00'), ('a_seeds', '#009E73')]
    """
    is_mean = {m: m.endswith(SEEDS_SUFFIX) and m.removesuffix(SEEDS_SUFFIX) in models for m in models}
    return {model: COLORS[i % len(COLORS)] for i, model in enumerate(sorted(is_mean, key=lambda m: is_mean[m]))}


def interpolated(colors: Sequence[str], n: int) -> list[str]:
    """So many colors evenly from the first to the last of several, all as "#rrggbb".

    Example
    -------
    >>> interpolated(["#000000", "#ff0000"], 3)
    ['#000000', '#800000', '#ff0000']
    """
    parts = [[int(color[k : k + 2], 16) for k in (1, 3, 5)] for color in colors]
    found = []
    for i in range(n):
        place = i * (len(parts) - 1) / max(n - 1, 1)
        left = min(int(place), len(parts) - 2)
        share = place - left
        mixed = [round(a + share * (b - a)) for a, b in zip(parts[left], parts[left + 1], strict=True)]
        found.append("#" + "".join(f"{part:02x}" for part in mixed))
    return found
