"""The layers of a network into a drawing: from the features of one choice to its log-odds and its probability."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import EllipseCollection
from matplotlib.patches import Circle, FancyBboxPatch, Polygon, Rectangle
from matplotlib.textpath import TextPath

from mimic.architecture import HiddenLayer, Outline, outline_of
from mimic.figures import COLORS, WIDTH_CM, new_figure, style

__all__ = ["draw_architecture"]

_SIZE = 6.5  # of all texts, points
_LINE_CM = 0.3  # from line to line of them
_GAP_CM = 0.32  # between rows, where connections are drawn
_PITCH_CM = 0.42  # from unit to unit, at most
_CIRCLE_CM = 0.11  # units that are closer than this become a bar
_MARGIN_CM = 0.15
_LANE_CM = 0.55  # the linear skip beside the hidden layers
_MAX_LINES = 10  # of names of features; the rest is counted
_RADIUS_CM = 0.2  # of a single number
_APART_CM = 0.55  # from choice to choice
_HALF_CM = 1.6  # half the width of what is drawn of a decision
_BETWEEN_CM = 0.35  # columns of names
_TEXT, _PALE, _EDGE = "0.15", "0.9", "0.45"
_ARROW: dict[str, Any] = {"arrowstyle": "-|>,head_width=0.12,head_length=0.25", "color": _EDGE, "linewidth": 0.8}


@dataclass(frozen=True)
class _Row:
    """A step of the computation, a line of the drawing: its height, what is written at its left and at its right."""

    what: str
    label: str
    height: float
    counted: str = ""
    n_units: int = 0


@dataclass(frozen=True, eq=False)
class _Frame:
    """Where is drawn, cm: between left and right, hidden layers about the middle with a pitch from unit to unit."""

    ax: Axes
    left: float
    right: float
    middle: float
    pitch: float
    color: str


# Left and right end, top and bottom of what is drawn in a row, cm.
_Box = tuple[float, float, float, float]


@style()
def draw_architecture(
    table: pd.DataFrame, ax: Axes | None = None, *, color: str = COLORS[0], width_cm: float = WIDTH_CM
) -> Axes:
    """A network from the features of one choice through its layers to log-odds, and the softmax of one decision.

    Parameters
    ----------
    table
        Of `mimic.architecture.architecture_table`. Of an ensemble, one of its members is drawn.
    ax
        Axes to draw in, which lose their frame: as wide as their place allows, as high as the drawing needs. By
        default those of a new figure of `width_cm`.
    color
        Of the units: that of the model.

    Raises
    ------
    ValueError
        If a column is missing, the table has no layers, or the members of an ensemble differ.

    Notes
    -----
    The widths of hidden layers are proportional to their units, each of them a circle where there is room. Features
    are named, with their units of measurement, as far as ten lines go, and the rest is counted.
    """
    network = outline_of(table)
    if ax is not None:
        figure = ax.get_figure()
        assert figure is not None
        width_cm = ax.get_window_extent().width / figure.dpi * 2.54
    label_cm, count_cm = _column_widths(network)
    columns = _feature_columns(network.features, width_cm - 2 * _MARGIN_CM)
    rows = _rows(network, max(map(len, columns)))
    height_cm = sum(row.height + _GAP_CM for row in rows)
    if ax is None:
        whole = new_figure(width_cm, height_cm)
        whole.set_layout_engine("none")  # the drawing is its own layout: its coordinates are centimeters
        ax = whole.add_axes((0.0, 0.0, 1.0, 1.0))
    ax.set_axis_off()
    ax.set(xlim=(0, width_cm), ylim=(height_cm, 0), aspect="equal", anchor="N")
    widest = max((one.n_units for one in network.hidden), default=1)
    lane = _LANE_CM if "skip" in network.n_parameters else 0.0
    left, right = label_cm + 0.3, width_cm - count_cm - 0.3
    frame = _Frame(ax, left, right, (left + right - lane) / 2, min(_PITCH_CM, (right - left - lane) / widest), color)
    _draw_rows(frame, rows, network, columns)
    return ax


def _label(layer: HiddenLayer) -> str:
    dropout = "" if np.isnan(layer.rate) else f"\ndropout {layer.rate:g}"
    return f"{layer.name.replace('_', ' ')}\n{layer.n_units:,} {layer.activation}{dropout}"


@lru_cache(maxsize=4096)
def _width_cm(text: str) -> float:
    """The width of the widest line of a text."""
    return (
        max(float(TextPath((0, 0), line or "-", size=_SIZE).get_extents().x1) for line in text.split("\n")) / 72 * 2.54
    )


def _column_widths(network: Outline) -> tuple[float, float]:
    """Room for the labels at the left and the numbers of parameters at the right, cm."""
    labels = [row.label for row in _rows(network, 1)]
    return max(map(_width_cm, labels)) + 0.1, max(_width_cm("parameters"), _width_cm(f"= {network.total:,}")) + 0.1


def _feature_columns(names: Sequence[str], width_cm: float) -> list[list[str]]:
    """Names in as many columns as fit, read downwards; what finds no place is counted at the end."""
    names = [_shortened(name, width_cm - _BETWEEN_CM) for name in names]
    most = int(width_cm / (min(map(_width_cm, names)) + _BETWEEN_CM))
    for n_columns in range(max(1, min(most, len(names))), 0, -1):
        shown = names
        if len(names) > n_columns * _MAX_LINES:
            kept = n_columns * _MAX_LINES - 1
            shown = [*names[:kept], f"and {len(names) - kept} more"]
        n_lines = -(-len(shown) // n_columns)
        columns = [shown[start : start + n_lines] for start in range(0, len(shown), n_lines)]
        if sum(max(map(_width_cm, column)) + _BETWEEN_CM for column in columns) <= width_cm:
            break
    return columns


def _shortened(name: str, width_cm: float) -> str:
    short = name
    while _width_cm(short) > width_cm and len(short) > 2:
        short = f"{short.rstrip('…')[:-1]}…"
    return short


def _rows(network: Outline, n_lines: int) -> list[_Row]:
    """The lines of the drawing, from top to bottom."""
    counts = network.n_parameters
    rows = [_Row("features", "", (n_lines + 1) * _LINE_CM + 0.2)]
    if network.scaling is not None or network.embedding:
        label = f"scaling\n{network.scaling or ''}".rstrip()
        n_scaling = counts.get("scaling", 0) + counts.get("embedding", 0)
        rows.append(_Row("scaling", label, _LINE_CM * max(2, label.count("\n") + 1), f"{n_scaling:,}"))
    for one in network.hidden:
        height = _LINE_CM * (_label(one).count("\n") + 1)
        rows.append(_Row("hidden", _label(one), height, f"{one.n_parameters:,}", one.n_units))
    if "skip" in counts:
        rows.append(_Row("skip", "linear skip", 2 * _RADIUS_CM, f"{counts['skip']:,}"))
    rows.append(_Row("output", "log-odds\nof the choice", 2 * _LINE_CM, f"{counts.get('output', 0):,}"))
    decision = [
        _Row("choices", "all choices of\nthe decision", 2 * _LINE_CM),
        _Row("softmax", "softmax:\nprobability", 2 * _LINE_CM),
    ]
    if network.n_members:
        members = _Row("members", f"mean over\n{network.n_members} members", 2 * _LINE_CM, f"× {network.n_members}")
        decision.insert(0 if network.mean_of == "log-odds" else 2, members)
    rows[1] = replace(rows[1], counted=f"parameters\n{rows[1].counted}")
    last = replace(decision[-1], counted=f"{decision[-1].counted}\n= {network.total:,}".strip())
    return [*rows, *decision[:-1], last]


def _draw_rows(frame: _Frame, rows: Sequence[_Row], network: Outline, columns: Sequence[Sequence[str]]) -> None:
    """All rows, with their labels and numbers, each connected to the one above."""
    boxes: dict[str, _Box] = {}  # the last of each kind
    above: _Box | None = None
    top = _GAP_CM / 2
    for row in rows:
        y = top + row.height / 2
        for x, text in ((frame.left - 0.15, row.label), (frame.ax.get_xlim()[1] - _MARGIN_CM, row.counted)):
            frame.ax.text(x, y, text, ha="right", va="center", fontsize=_SIZE, color=_TEXT, linespacing=1.05)
        box = _draw_row(frame, row, network, columns, top)
        boxes[row.what] = box
        top += row.height + _GAP_CM
        if row.what == "skip":
            continue  # it goes past the hidden layers, which are connected behind it
        if above is not None:
            _connect(frame.ax, above, box, is_line=row.what in ("choices", "members"))
        above = box
    if "skip" in boxes:
        _draw_lane(frame.ax, boxes.get("scaling", boxes["features"]), boxes["skip"], boxes["output"])


def _draw_row(frame: _Frame, row: _Row, network: Outline, columns: Sequence[Sequence[str]], top: float) -> _Box:
    """What a row shows, and where."""
    ax, bottom = frame.ax, top + row.height
    y = (top + bottom) / 2
    if row.what == "features":
        return _draw_features(ax, network, columns, top, bottom)
    if row.what == "scaling":
        return _draw_scaling(frame, network, top, bottom)
    if row.what == "hidden":
        return _draw_units(frame, row.n_units, y)
    if row.what == "skip":
        return _draw_circle(frame, frame.right - _LANE_CM / 2, y, "", filled=False)
    if row.what == "output":
        return _draw_circle(frame, frame.middle, y, r"$\varphi$")
    if row.what == "choices":
        for k, text in enumerate((r"$\varphi_1$", r"$\varphi_2$", "", "…", r"$\varphi_n$"), start=-2):
            if text == "…":
                _write(ax, frame.middle + k * _APART_CM, y, text)
            elif text:
                _draw_circle(frame, frame.middle + k * _APART_CM, y, text, filled=False)
        box = _draw_circle(frame, frame.middle, y, r"$\varphi_m$")
        return frame.middle - _HALF_CM, frame.middle + _HALF_CM, *box[2:]
    text = f"mean of {network.mean_of}"
    if row.what == "softmax":
        text = r"$p_m = \exp(\varphi_m)\, /\, \sum_k \exp(\varphi_k)$"
    half = _HALF_CM
    _write(ax, frame.middle, y, text)
    return _draw_box(ax, (frame.middle - half, frame.middle + half, top, bottom))


def _draw_features(ax: Axes, network: Outline, columns: Sequence[Sequence[str]], top: float, bottom: float) -> _Box:
    """The names of the features, in columns over the whole width."""
    n, right = len(network.features), ax.get_xlim()[1] - _MARGIN_CM
    _write(
        ax, (_MARGIN_CM + right) / 2, top + 0.6 * _LINE_CM, f"{n} feature{'s' if n > 1 else ''} of one choice", "0.4"
    )
    widths = [max(map(_width_cm, names)) for names in columns]
    between = (right - _MARGIN_CM - sum(widths)) / (len(columns) + 1)
    x = _MARGIN_CM + between
    for names, width in zip(columns, widths, strict=True):
        for line, name in enumerate(names):
            ax.text(x, top + (line + 1.65) * _LINE_CM, name, va="center", fontsize=_SIZE, color=_TEXT, zorder=4)
        x += width + between
    return _draw_box(ax, (_MARGIN_CM, right, top, bottom))


def _draw_scaling(frame: _Frame, network: Outline, top: float, bottom: float) -> _Box:
    """The scaled features, and the numbers of the individual beside them."""
    split = frame.left
    if network.embedding:
        text = f"individual:\n{network.embedding} number{'s' if network.embedding > 1 else ''}"
        split += _width_cm(text) + 0.3
        _draw_box(frame.ax, (frame.left, split, top, bottom))
        _write(frame.ax, (frame.left + split) / 2, (top + bottom) / 2, text)
        split += 0.15
    if network.scaling is None:
        return frame.left, split - 0.15, top, bottom
    _draw_box(frame.ax, (split, frame.right, top, bottom))
    n = len(network.features)
    _write(frame.ax, (split + frame.right) / 2, (top + bottom) / 2, f"{n} scaled feature{'s' if n > 1 else ''}")
    return frame.left, frame.right, top, bottom


def _draw_units(frame: _Frame, n: int, y: float) -> _Box:
    """A hidden layer: a row of circles, or a bar of the same width where they would be too small to see."""
    half = n * frame.pitch / 2
    if frame.pitch < _CIRCLE_CM:
        shape = Rectangle((frame.middle - half, y - _RADIUS_CM / 2), 2 * half, _RADIUS_CM, facecolor=frame.color)
        frame.ax.add_patch(shape)
        return frame.middle - half, frame.middle + half, y - _RADIUS_CM / 2, y + _RADIUS_CM / 2
    size = min(0.8 * frame.pitch, 1.5 * _RADIUS_CM)
    x = frame.middle + (np.arange(n) - (n - 1) / 2) * frame.pitch
    look: dict[str, Any] = {
        "units": "x",
        "offsets": np.column_stack([x, np.full(n, y)]),
        "offset_transform": frame.ax.transData,
    }
    circles = EllipseCollection([size], [size], [0], facecolors=frame.color, linewidths=0, zorder=3, **look)
    frame.ax.add_collection(circles, autolim=False)
    return frame.middle - half, frame.middle + half, y - size / 2, y + size / 2


def _draw_circle(frame: _Frame, x: float, y: float, text: str, *, filled: bool = True) -> _Box:
    """A single number: filled where it is that of the network drawn."""
    look: dict[str, Any] = {
        "facecolor": frame.color if filled else "white",
        "edgecolor": _EDGE,
        "linewidth": 0.6,
        "zorder": 3,
    }
    frame.ax.add_patch(Circle((x, y), _RADIUS_CM, **look))
    _write(frame.ax, x, y, text, color="white" if filled else _TEXT)
    return x - _RADIUS_CM, x + _RADIUS_CM, y - _RADIUS_CM, y + _RADIUS_CM


def _draw_box(ax: Axes, box: _Box) -> _Box:
    left, right, top, bottom = box
    look: dict[str, Any] = {"facecolor": "white", "edgecolor": _EDGE, "linewidth": 0.6, "zorder": 2.5}
    ax.add_patch(FancyBboxPatch((left, top), right - left, bottom - top, "round,pad=0,rounding_size=0.08", **look))
    return box


def _write(ax: Axes, x: float, y: float, text: str, color: str = _TEXT) -> None:
    if text:
        ax.text(x, y, text, ha="center", va="center", fontsize=_SIZE, color=color, zorder=4, linespacing=1.05)


def _connect(ax: Axes, above: _Box, below: _Box, *, is_line: bool) -> None:
    """Every number above goes into every number below; or one becomes another."""
    if is_line:
        middle = (below[0] + below[1]) / 2
        ax.annotate("", (middle, below[2]), (middle, above[3]), arrowprops=_ARROW)
        return
    corners = [(above[0], above[3]), (above[1], above[3]), (below[1], below[2]), (below[0], below[2])]
    ax.add_patch(Polygon(corners, facecolor=_PALE, linewidth=0, zorder=1))


def _draw_lane(ax: Axes, start: _Box, unit: _Box, end: _Box) -> None:
    """The linear skip: from the scaled features through one unit to the log-odds, past the hidden layers."""
    x, y = (unit[0] + unit[1]) / 2, (end[2] + end[3]) / 2
    ax.plot([x, x, end[1]], [start[3], y, y], color=_EDGE, linewidth=1.0, linestyle=(0, (3, 1.5)), zorder=2)
    ax.lines[-1].set_label("_skip")
    ax.annotate("", (end[1], y), (end[1] + 0.3, y), arrowprops=_ARROW)
