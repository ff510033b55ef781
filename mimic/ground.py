"""A map window into the ground of a map: land, coast, degrees, graticule and scale bar."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.offsetbox import AnchoredOffsetbox, AuxTransformBox, TextArea, VPacker
from matplotlib.patches import Rectangle
from matplotlib.path import Path
from matplotlib.ticker import Formatter, Locator

from mimic.coastline import KM_PER_DEGREE, MapView, degrees_east, degrees_north, graticule, land, leaves_at
from mimic.figures import root_figure

__all__ = ["HALO", "draw_ground"]

LAND, SEA, COAST, GRID = "#efede8", "#ffffff", "#8a8780", "#cfcfcf"
THIN_HALO = patheffects.withStroke(linewidth=1.1, foreground="white")
HALO = [patheffects.withStroke(linewidth=1.8, foreground="white")]
# Where one scale bar would lie by more than this between two places of the map, none is drawn.
LARGEST_STRETCH = 1.25
_CORNERS = {"lower right": (1, 0), "lower left": (0, 0), "upper right": (1, 1), "upper left": (0, 1)}
_NAME_PT = np.array([30.0, 13.0])  # room that the name of a meridian or parallel needs
DEGREE_STEPS = (*(m * 10.0**p for p in (-4, -3, -2, -1, 0) for m in (1, 2, 5)), 10, 15, 20, 30, 60, 90, 180)


def draw_ground(view: MapView, ax: Axes, *, points: np.ndarray | None = None, coast_over: bool = False) -> Axes:
    """The axes with the ground of a map: limits, aspect, land under all data, graticule with its labels.

    Parameters
    ----------
    view
        What the map shows; draw data at `view.project(longitude, latitude)`.
    ax
        Axes to draw in; their limits and ticks are set.
    points
        (point, 2), x and y on paper: where data will lie. The scale bar, in km, goes to the corner with the
        fewest of them; it is drawn only where the map is true enough to scale.
    coast_over
        Draw the coast over the data too, where these fill areas.
    """
    ax.set(xlim=view.x, ylim=view.y, facecolor=SEA)
    ax.set_aspect(view.aspect, adjustable="box")
    ax.set_autoscale_on(False)
    paths = [_outline(polygon) for polygon in land(view).geoms]
    ax.add_collection(PathCollection(paths, facecolor=LAND, edgecolor=COAST, linewidth=0.4, zorder=0, label="_land"))
    if coast_over:
        ax.add_collection(
            PathCollection(
                paths, facecolor="none", edgecolor="black", linewidth=0.5, zorder=3, path_effects=[THIN_HALO]
            )
        )
    if view.is_polar:
        _draw_polar_graticule(view, ax)
    else:
        _label_degrees(ax)
    if view.stretch < LARGEST_STRETCH:
        corner = _emptiest_corner(view, points)
        _draw_scale_bar(view, ax, corner)
        _clear_corner(view, ax, corner)
    return ax


def _outline(polygon: object) -> Path:
    """A polygon with its holes as one path."""
    rings = [np.asarray(ring.coords) for ring in (polygon.exterior, *polygon.interiors)]  # type: ignore[attr-defined]
    codes = [[Path.MOVETO, *[Path.LINETO] * (len(ring) - 2), Path.CLOSEPOLY] for ring in rings]
    return Path(np.concatenate(rings), np.concatenate(codes))


class _DegreeLocator(Locator):
    """Round degrees, as many as the axis has room for when it is drawn: labels like 150.5°W are wide."""

    def __init__(self, share: float) -> None:
        self.share = share

    def __call__(self) -> Sequence[float]:
        if self.axis is None:
            raise RuntimeError("a locator without an axis has no ticks.")
        return self.tick_values(*self.axis.get_view_interval())

    def tick_values(self, vmin: float, vmax: float) -> Sequence[float]:
        space = self.axis.get_tick_space() if self.axis is not None else 9
        room = int(np.clip(space * self.share, 2, 7))
        ticks = (np.arange(np.ceil(vmin / s - 1e-9), np.floor(vmax / s + 1e-9) + 1) * s for s in DEGREE_STEPS)
        return next((t.tolist() for t in ticks if len(t) <= room), [])


class _DegreeFormatter(Formatter):
    """Ticks as 150°W or 60°N, all of an axis with the same number of decimals."""

    def __init__(self, name: Callable[[float, int], str]) -> None:
        self.name = name

    def __call__(self, x: float, pos: int | None = None) -> str:
        return self.format_ticks([x])[0]

    def format_ticks(self, values: Sequence[float]) -> list[str]:
        decimals = next((d for d in range(4) if np.allclose(values, np.round(values, d), rtol=0, atol=1e-6)), 4)
        return [self.name(value, decimals) for value in values]


def _label_degrees(ax: Axes) -> None:
    ax.xaxis.set_major_locator(_DegreeLocator(0.6))
    ax.yaxis.set_major_locator(_DegreeLocator(0.4))
    ax.xaxis.set_major_formatter(_DegreeFormatter(degrees_east))
    ax.yaxis.set_major_formatter(_DegreeFormatter(degrees_north))
    ax.grid(True, color=GRID, linewidth=0.4)
    ax.set_axisbelow(True)


def _draw_polar_graticule(view: MapView, ax: Axes) -> None:
    """Circles of latitude, labeled within the map, and meridians, labeled where they leave it."""
    ax.set(xticks=[], yticks=[])
    parallels, meridians = graticule(view)
    lines = [*parallels.values(), *meridians.values()]
    ax.add_collection(LineCollection(lines, color=GRID, linewidth=0.4, zorder=0.5, label="_graticule"))
    _label_parallels(view, ax, np.array(list(parallels)))
    taken: list[np.ndarray] = []
    apart = np.maximum([0.17, 0.1], _NAME_PT / _size_pt(ax))  # of names, in shares of the map
    for longitude, line in meridians.items():
        at, out = leaves_at(view, line)
        if np.isnan(at).any() or any((np.abs(at - other) < apart).all() for other in taken):
            continue  # no room for this name beside another
        taken.append(at)
        ax.annotate(
            degrees_east(longitude),
            (at[0], at[1]),
            xycoords="axes fraction",
            xytext=(3 * out[0], 3 * out[1]),
            textcoords="offset points",
            ha=("right", "center", "left")[out[0] + 1],
            va=("top", "center", "bottom")[out[1] + 1],
            fontsize="small",
            annotation_clip=False,
        )


def _label_parallels(view: MapView, ax: Axes, parallels: np.ndarray) -> None:
    """Names of the parallels on one meridian, a quarter of the map east of the middle."""
    width, height = np.ptp(view.x), np.ptp(view.y)
    east = np.degrees(np.arctan2(0.25 * width, max(abs(np.mean(view.y)), 0.25 * width)))
    x, y = view.project(np.full(len(parallels), view.center_longitude + east), parallels)
    look: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": "small", "color": "0.35"}
    names = _DegreeFormatter(degrees_north).format_ticks(parallels.tolist())
    for name, at_x, at_y in zip(names, x, y, strict=True):
        if abs(at_x - np.mean(view.x)) < 0.45 * width and abs(at_y - np.mean(view.y)) < 0.46 * height:
            ax.text(at_x, at_y, name, path_effects=HALO, zorder=4, **look)


def _size_pt(ax: Axes) -> np.ndarray:
    """Width and height that the figure has for the axes, points."""
    return np.asarray(72.0 * root_figure(ax).get_size_inches() * ax.get_position(original=True).size)


def _emptiest_corner(view: MapView, points: np.ndarray | None) -> str:
    """The corner of the map, as matplotlib names it, with the fewest points, the lower ones first."""
    if points is None:
        return next(iter(_CORNERS))
    u = (points - [view.x[0], view.y[0]]) / [np.ptp(view.x), np.ptp(view.y)]
    return min(_CORNERS, key=lambda name: int((np.abs(u - _CORNERS[name]) < [0.35, 0.2]).all(axis=1).sum()))


def _clear_corner(view: MapView, ax: Axes, corner: str) -> None:
    """Without the names of parallels that the scale bar in that corner would lie over."""
    size_pt = _size_pt(ax)
    taken = np.maximum([0.25, 0.0], (_NAME_PT + [10.0, 12.0]) / size_pt) + 0.5 * _NAME_PT / size_pt
    for name in list(ax.texts):
        if name.get_clip_on() or name.get_transform() is not ax.transData:
            continue  # meridians have their names outside
        u = (np.array(name.get_position()) - [view.x[0], view.y[0]]) / [np.ptp(view.x), np.ptp(view.y)]
        if (np.abs(u - _CORNERS[corner]) < taken).all():
            name.remove()


def _draw_scale_bar(view: MapView, ax: Axes, corner: str) -> None:
    """A bar of a round length, at most a quarter of the map wide."""
    unit_km = 1.0 if view.is_polar else KM_PER_DEGREE / view.aspect  # km in one unit of x
    wanted = 0.25 * np.ptp(view.x) * unit_km
    power = 10.0 ** np.floor(np.log10(wanted))
    length = power * max((m for m in (2, 5) if m * power <= wanted), default=1)
    bar = AuxTransformBox(ax.transData)
    bar.add_artist(Rectangle((0, 0), length / unit_km, 0, edgecolor="black", linewidth=1.2))
    name = f"{length:g} km" if length >= 1 else f"{1000 * length:g} m"
    label = TextArea(name, textprops={"size": "small", "path_effects": HALO})
    box = VPacker(children=[label, bar], align="center", pad=0, sep=2)
    ax.add_artist(AnchoredOffsetbox(corner, child=box, pad=0.3, borderpad=0.3, frameon=False, zorder=5))
