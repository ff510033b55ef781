"""A figure into a judgment of its text: nothing written over something else, cut off, meaningless or too small."""

from __future__ import annotations

import copy
import itertools
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from mimic.figures import root_figure

__all__ = ["DrawnText", "assert_legible", "drawn_texts"]

TOLERANCE_PT = 0.5
SMALLEST_PT = 5.0
DPI = 200  # at fewer dots an inch the widths of texts are rounded by more than the tolerance
NONSENSE = re.compile(r"(?<![\w.])(None|nan|NaN|NaT|inf)(?!\w)|<NA>|_child\d|object at 0x|\bnp\.\w+\(|\bTimestamp\(")


@dataclass(frozen=True, eq=False)
class DrawnText:
    """A text that is really drawn, with the four corners of its box, points from the lower left of the figure."""

    text: str
    size_pt: float
    corners: np.ndarray  # (corner, 2), of the rotated box
    whole: np.ndarray  # (corner, 2), before axes that clip it cut it
    artist: Text

    def __str__(self) -> str:
        return repr(self.text)


def assert_legible(figure: Figure | Axes, *, tolerance_pt: float = TOLERANCE_PT) -> None:
    """Nothing, or an AssertionError that names every text that cannot be read as it is.

    Raises
    ------
    AssertionError
        If two texts overlap by more than the tolerance, a legend covers a text, a text or legend is cut off by the
        edge of the figure or by its axes, a text is meaningless ("None", "nan", "_child0") or smaller than 5 pt, or
        nothing is written at all.
    """
    whole = root_figure(figure) if isinstance(figure, Axes) else figure
    texts, legends = _draw(whole)
    width, height = 72 * whole.get_size_inches()
    edge = _corners(Bbox.from_extents(0, 0, width, height))
    faults = [] if texts else ["nothing is written in the figure"]
    for text in texts:
        if NONSENSE.search(text.text):
            faults.append(f"{text} means nothing")
        if text.size_pt < SMALLEST_PT - 1e-6:
            faults.append(f"{text} is {text.size_pt:.1f} pt small")
        if (beyond := _beyond(text.whole, edge)) > tolerance_pt:
            faults.append(f"{text} is cut off by the edge of the figure by {beyond:.1f} pt")
        if (lost := _beyond(text.whole, text.corners)) > tolerance_pt:
            faults.append(f"{text} is cut off by its axes by {lost:.1f} pt")
    for one, other in itertools.combinations(texts, 2):
        if (depth := overlap_pt(one.corners, other.corners)) > tolerance_pt:
            faults.append(f"{one} and {other} overlap by {depth:.1f} pt")
    for legend, corners in legends:
        own = {id(t) for t in (*legend.get_texts(), legend.get_title())}
        faults += [
            f"the legend of {_entries(legend)} covers {text} by {depth:.1f} pt"
            for text in texts
            if id(text.artist) not in own and (depth := overlap_pt(corners, text.corners)) > tolerance_pt
        ]
        if (beyond := _beyond(corners, edge)) > tolerance_pt:
            faults.append(f"the legend of {_entries(legend)} is cut off by the edge of the figure by {beyond:.1f} pt")
    for (one, box), (other, other_box) in itertools.combinations(legends, 2):
        if (depth := overlap_pt(box, other_box)) > tolerance_pt:
            faults.append(f"the legends of {_entries(one)} and of {_entries(other)} overlap by {depth:.1f} pt")
    count = f"{len(faults)} fault" + "s" * (len(faults) != 1)
    assert not faults, f"at {width / 72 * 2.54:.1f} cm, {count}: " + "; ".join(faults)


def drawn_texts(figure: Figure | Axes) -> list[DrawnText]:
    """Every text that appears when the figure is drawn: ticks in view, titles, legends, annotations, color bars."""
    return _draw(root_figure(figure) if isinstance(figure, Axes) else figure)[0]


def overlap_pt(one: np.ndarray, other: np.ndarray) -> float:
    """By how much one of two convex boxes must be moved to come free of the other; negative where they are apart.

    Parameters
    ----------
    one, other
        (corner, 2), points.

    Notes
    -----
    Convex shapes are apart if, and only if, their shadows are in one of the directions at right angles to an edge.
    """
    edges = np.concatenate([np.roll(box, -1, axis=0) - box for box in (one, other)])
    edges = edges[np.hypot(*edges.T) > 0]
    normals = np.column_stack([-edges[:, 1], edges[:, 0]]) / np.hypot(*edges.T)[:, None]
    first, second = normals @ one.T, normals @ other.T  # (edge, corner)
    return float((np.minimum(first.max(1), second.max(1)) - np.maximum(first.min(1), second.min(1))).min(initial=1e9))


def _draw(figure: Figure) -> tuple[list[DrawnText], list[tuple[Legend, np.ndarray]]]:
    """Texts and legends of the figure as drawn, with their boxes in points."""
    seen: dict[int, Text] = {}
    legends: dict[int, Legend] = {}
    draw_text, draw_legend = Text.draw, Legend.draw

    def text(self: Text, renderer: Any, *args: Any, **kwargs: Any) -> None:
        if self.get_visible() and self.get_text().strip() and self.get_alpha() != 0:
            seen[id(self)] = self
        draw_text(self, renderer, *args, **kwargs)

    def legend(self: Legend, renderer: Any, *args: Any, **kwargs: Any) -> None:
        if self.get_visible():
            legends[id(self)] = self
        draw_legend(self, renderer, *args, **kwargs)

    with _agg(figure):
        figure.draw_without_rendering()  # the layout first; that of maps settles the second time
        with patch.object(Text, "draw", text), patch.object(Legend, "draw", legend):
            figure.draw_without_rendering()
        scale = 72 / figure.dpi
        texts = [_measured(t, scale) for t in seen.values()]
        boxes = [(one, scale * _corners(_contents(one))) for one in legends.values()]
    return [t for t in texts if len(t.corners)], boxes


@contextmanager
def _agg(figure: Figure) -> Iterator[None]:
    """The figure on a canvas of many dots; afterwards it is as it was."""
    dpi, canvas = figure.dpi, figure.canvas
    try:
        FigureCanvasAgg(figure)
        figure.set_dpi(DPI)
        yield
    finally:
        figure.set_canvas(canvas)
        figure.set_dpi(dpi)


def _measured(text: Text, scale: float) -> DrawnText:
    corners = whole = _rotated(text)
    if text.get_clip_on() and (clip := text.get_clip_box()) is not None:
        inside = Bbox.intersection(Bbox.from_extents(*whole.min(0), *whole.max(0)), clip)
        corners = np.empty((0, 2)) if inside is None else whole.clip(clip.min, clip.max)
    return DrawnText(text.get_text().strip(), float(text.get_fontsize()), scale * corners, scale * whole, text)


def _rotated(text: Text) -> np.ndarray:
    """The corners of the box of a text, (corner, 2), pixels: matplotlib's own box is upright, too large if rotated."""
    hull, angle = Text.get_window_extent(text), np.radians(text.get_rotation())
    if np.isclose(np.sin(2 * angle), 0, atol=1e-6):
        return _corners(hull)
    upright = copy.copy(text)
    upright.stale_callback = None  # the copy is measured only
    upright.set_rotation(0)
    box = Text.get_window_extent(upright)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    middle = np.array([(hull.x0 + hull.x1) / 2, (hull.y0 + hull.y1) / 2])  # the hull shares it with the box in it
    return middle + (_corners(box) - [(box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2]) @ turn


def _contents(legend: Legend) -> Bbox:
    """The box of a legend; without the air around its entries where no frame shows it."""
    box = legend.get_window_extent()
    if legend.get_frame_on():
        return box
    air = min(legend.borderpad * legend.prop.get_size_in_points() * DPI / 72, box.width / 2, box.height / 2)
    return Bbox.from_extents(box.x0 + air, box.y0 + air, box.x1 - air, box.y1 - air)


def _corners(box: Bbox) -> np.ndarray:
    return np.array([[box.x0, box.y0], [box.x1, box.y0], [box.x1, box.y1], [box.x0, box.y1]])


def _beyond(corners: np.ndarray, around: np.ndarray) -> float:
    """By how much corners lie outside an upright box; 0 or less where all are inside."""
    return float(max((around.min(0) - corners.min(0)).max(), (corners.max(0) - around.max(0)).max()))


def _entries(legend: Legend) -> str:
    return ", ".join(t.get_text() for t in legend.get_texts()[:3]) or "nothing"
