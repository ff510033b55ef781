"""A column of a table into a color and a marker for each of its values, and into the legend that explains them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd
from matplotlib.artist import Artist
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.lines import Line2D

from mimic.figures import COLORS, MARKERS, MAX_LEGEND, model_colors
from mimic.schema import require_columns

__all__ = ["OTHER_COLOR", "Looks", "looks_of", "value_marker"]

OTHER_COLOR = "0.62"

_OTHERS, _UNKNOWN = "other", "unknown"


@dataclass(frozen=True, eq=False)
class Looks:
    """How the rows of a table are told apart by one of its columns.

    Parameters
    ----------
    column
        Its name; None where all look the same.
    of
        A value -> its color and marker.
    handles
        For a legend; empty where all look the same or there are shades.
    shades
        For a color bar, where the values are many numbers.
    """

    column: str | None
    of: Callable[[Any], tuple[Any, str]]
    handles: list[Artist]
    shades: ScalarMappable | None = None


def looks_of(table: pd.DataFrame, column: str | None, colors: Mapping[str, str] | None = None) -> Looks:
    """The looks of the values of a column.

    Parameters
    ----------
    table
        Colors follow the order in which values occur: hand the same table to all figures of a study.
    column
        Up to 12 values get a color and a marker each; of more the 11 most frequent do and the others are "other".
        Numbers of more than 12 values are shades of viridis. Missing values are "unknown". None: all look the same.
    colors
        Value, as text -> color; the values are then no shades.

    Raises
    ------
    ValueError
        If there is no such column.
    """
    if column is None:
        return Looks(None, lambda _: (COLORS[0], MARKERS[0]), [])
    require_columns(list(table.columns), [column], where="table")
    values = table[column]
    if pd.api.types.is_numeric_dtype(values) and values.nunique() > MAX_LEGEND and not colors:
        shades = ScalarMappable(Normalize(float(values.min()), float(values.max())), "viridis")
        return Looks(column, lambda v: (shades.to_rgba(v) if pd.notna(v) else OTHER_COLOR, "o"), [], shades)
    common = list(values.dropna().map(_text).value_counts().index)
    common = common if len(common) <= MAX_LEGEND else common[: MAX_LEGEND - 1]
    kept = [v for v in dict.fromkeys(values.dropna().map(_text)) if v in common]
    palette = model_colors(kept) | {_OTHERS: OTHER_COLOR, _UNKNOWN: "0.8"} | dict(colors or {})
    looks = {v: (palette[v], MARKERS[k % len(MARKERS)]) for k, v in enumerate([*kept, _OTHERS, _UNKNOWN])}

    def name(value: Any) -> str:
        return _UNKNOWN if pd.isna(value) else _text(value) if _text(value) in kept else _OTHERS

    shown = set(map(name, values))
    handles: list[Artist] = [value_marker(*look, v) for v, look in looks.items() if v in shown]
    return Looks(column, lambda value: looks[name(value)], handles)


def value_marker(
    color: Any, marker: str, label: str, *, face: Any = None, size: float = 4.0, line: Literal["-", "none"] = "none"
) -> Line2D:
    """An entry of a legend: a marker, with its face of another color or on a line where asked for."""
    face = color if face is None else face
    return Line2D(
        [], [], color=color, marker=marker, markerfacecolor=face, markersize=size, linestyle=line, label=label
    )


def _text(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
