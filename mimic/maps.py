"""Tables with longitude and latitude into maps: tracks, differences between models, one choice set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colorbar import Colorbar
from matplotlib.colors import LinearSegmentedColormap, LogNorm, Normalize
from matplotlib.dates import date2num, num2date
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator

from mimic.coastline import MapView, unwrap, view_of
from mimic.figures import (
    COLORS,
    MAX_LEGEND,
    SPLIT_LINES,
    WIDTH_CM,
    legend_below,
    new_figure,
    root_figure,
    set_wrapped_title,
    style,
    wrapped,
)
from mimic.ground import HALO, draw_ground
from mimic.hexgrid import boundaries, centroids
from mimic.schema import BURST, INDIVIDUAL, LATITUDE, LONGITUDE, TIME, require_columns

__all__ = [
    "DIFFERENCES",
    "color_bar",
    "draw_choice_set",
    "draw_difference_map",
    "draw_tracks",
    "fit_height",
    "new_map",
]

# The second model's color where it is better, pale, the first model's: dark enough to be told apart in gray.
DIFFERENCES = LinearSegmentedColormap.from_list(
    "differences", ["#b34700", "#e8852b", "#f6c58a", "#f4f4f4", "#a9c9e6", "#3f7db8", "#0b3c6f"]
)


@style()
def draw_tracks(
    tracks: pd.DataFrame,
    ax: Axes | None = None,
    *,
    color_by: str = INDIVIDUAL,
    split: str | None = None,
    width_cm: float = WIDTH_CM,
) -> Axes:
    """The axes with a map of all tracks on the coast, one line a burst.

    Parameters
    ----------
    tracks
        Columns individual, time_utc, longitude, latitude (degrees); `burst` where tracks were resampled: lines
        are not drawn between bursts. Rows without coordinates are left out.
    ax
        Axes to draw in; by default a new figure of `width_cm`.
    color_by
        Column that gives the color. Text, truth values or the individual: one color each, named below the map up
        to twelve, only counted beyond. Numbers and times: a color bar; a step has the color of its first fix, gray where
        that is NaN.
    split
        Column with "train" and "validation": solid and dashed lines.

    Raises
    ------
    ValueError
        If a column is missing or no row has coordinates.

    Notes
    -----
    Tracks across 180 degrees stay whole: the map is cut open in the widest gap of longitudes. A single fix
    without neighbors in its burst is a dot.
    """
    wanted = [INDIVIDUAL, TIME, LONGITUDE, LATITUDE, color_by] + ([split] if split else [])
    require_columns(list(tracks.columns), list(dict.fromkeys(wanted)), where="tracks")
    fixes = tracks.dropna(subset=[LONGITUDE, LATITUDE]).sort_values([INDIVIDUAL, TIME], kind="stable")
    view = view_of(fixes[LONGITUDE].to_numpy(), fixes[LATITUDE].to_numpy())
    is_new, ax = ax is None, ax or new_map(view, width_cm)
    x, y = view.project(fixes[LONGITUDE].to_numpy(), fixes[LATITUDE].to_numpy())
    draw_ground(view, ax, points=np.column_stack([x, y]))
    follows = _follows(fixes, x, view)
    values = fixes[color_by]
    is_scale = color_by != INDIVIDUAL and (
        pd.api.types.is_datetime64_any_dtype(values)
        or (pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values))
    )
    if is_scale:
        _draw_scaled_tracks(ax, x, y, follows, values)
    else:
        names = values.astype(str).tolist()
        parts = fixes[split].astype(str).tolist() if split else [""] * len(fixes)
        _draw_named_tracks(ax, x, y, follows, np.array(names), np.array(parts))
        _name_tracks(ax, list(dict.fromkeys(names)), color_by, len(fixes), sorted(set(parts) - {""}))
    if is_new:
        fit_height(ax, view.height_over_width)
    return ax


def _follows(fixes: pd.DataFrame, x: np.ndarray, view: MapView) -> np.ndarray:
    """Whether each fix is joined to the one before it: (fix,), bool."""
    joined = np.ones(len(fixes), dtype=bool)
    joined[:1] = False
    for column in (INDIVIDUAL, BURST):
        if column in fixes:
            codes = pd.factorize(fixes[column])[0]
            joined[1:] &= codes[1:] == codes[:-1]
    if not view.is_polar:  # an animal that went around the world leaves the map at one side
        joined[1:] &= np.abs(np.diff(x)) <= 180.0
    return joined


def _draw_named_tracks(
    ax: Axes, x: np.ndarray, y: np.ndarray, follows: np.ndarray, names: np.ndarray, splits: np.ndarray
) -> None:
    """One Line2D for each name and split: its bursts with NaN between them, fixes alone as dots."""
    colors = {name: COLORS[i % len(COLORS)] for i, name in enumerate(dict.fromkeys(names))}
    same = np.concatenate([[False], (names[1:] == names[:-1]) & (splits[1:] == splits[:-1])])
    starts = np.flatnonzero(~(follows & same))
    ends = np.append(starts[1:], len(x))
    # A step belongs to its first fix: a run is drawn up to the first fix of the next one.
    stops = np.where(np.append(follows, False)[ends], ends + 1, ends)
    pieces: dict[tuple[str, str], list[slice]] = {}
    for start, stop in zip(starts, stops, strict=True):
        pieces.setdefault((names[start], splits[start]), []).append(slice(start, stop))
    for (name, part), slices in pieces.items():
        look: dict[str, Any] = {
            "color": colors[name],
            "linestyle": SPLIT_LINES.get(part, "-"),
            "gid": name,
            "zorder": 2,
        }
        path = [np.append(np.column_stack([x[s], y[s]]), [[np.nan, np.nan]], axis=0) for s in slices]
        ax.plot(*np.concatenate(path)[:-1].T, linewidth=0.8, label=name, **look)
        alone = np.array([s.start for s in slices if s.stop - s.start == 1], dtype=int)
        if alone.size:
            ax.plot(x[alone], y[alone], marker=".", markersize=2.5, **(look | {"linestyle": "none", "label": "_alone"}))


def _draw_scaled_tracks(ax: Axes, x: np.ndarray, y: np.ndarray, follows: np.ndarray, values: pd.Series) -> None:
    """Steps colored by a number or a time, with a color bar."""
    points = np.column_stack([x, y])
    step = np.flatnonzero(follows)
    is_time = pd.api.types.is_datetime64_any_dtype(values)
    numbers = date2num(values.to_numpy()) if is_time else values.to_numpy(dtype=float)
    segments = np.stack([points[step - 1], points[step]], axis=1)  # (step, end, x and y)
    colors = mpl.colormaps["viridis"].with_extremes(bad="0.7")
    lines = LineCollection(list(segments), cmap=colors, linewidth=0.9)
    lines.set_array(numbers[step - 1])
    lines.set_zorder(2)
    ax.add_collection(lines)
    bar = color_bar(ax, lines, str(values.name))
    if is_time:
        first, last = np.nanmin(numbers), np.nanmax(numbers)
        ticks = first + (last - first) * np.array([0.1, 0.5, 0.9])
        form = "%Y-%m-%d" if last - first > 3 else "%d %b %H:%M"
        bar.set_ticks(ticks, labels=[f"{num2date(tick):{form}}" for tick in ticks])


def _name_tracks(ax: Axes, names: list[str], color_by: str, n_fixes: int, splits: list[str]) -> None:
    """Legend below the map, or, with too many names for one, their number."""
    handles = [Line2D([], [], color="0.15", linestyle=SPLIT_LINES.get(s, "-"), label=s) for s in splits]
    if len(names) <= MAX_LEGEND:
        handles = [Line2D([], [], color=COLORS[i], label=name) for i, name in enumerate(names)] + handles
    else:
        what = "individuals" if color_by == INDIVIDUAL else f"values of {color_by}"
        ax.set_xlabel(f"{len(names)} {what}, {n_fixes:,} fixes", fontsize="small")
    legend_below(ax, handles)


@style()
def draw_difference_map(
    decisions: pd.DataFrame,
    ax: Axes | None = None,
    *,
    title: str | None = None,
    limit: float | None = None,
    width_cm: float = WIDTH_CM,
) -> Axes:
    """The axes with a map of where model A explains an animal's decisions better than model B.

    Parameters
    ----------
    decisions
        One row a decision, in general of one individual: longitude, latitude of the origin, longitude_selected,
        latitude_selected (degrees) and difference: ln p of the selected choice by A minus that by B, nats. Rows
        with a difference or coordinate of NaN are left out.
    ax
        Axes to draw in; by default a new figure of `width_cm`.
    title
        The individual and the models, if wanted: "seal 7: temperature (A), distance (B)".
    limit
        Differences beyond +-limit get the color of the limit, nats. By default the 98th percentile of the
        absolute difference.

    Raises
    ------
    ValueError
        If a column is missing or no decision has a difference and coordinates.

    Notes
    -----
    Moves are arrows from origin to selected, stays (selected where it was) are dots. Blue, the first model's color,
    where A is better; red, the second's, where B is. Large differences are drawn last.
    """
    columns = [LONGITUDE, LATITUDE, "longitude_selected", "latitude_selected", "difference"]
    require_columns(list(decisions.columns), columns, where="decisions")
    rows = decisions[columns].astype(float).dropna()
    rows = rows.iloc[np.argsort(rows["difference"].abs().to_numpy(), kind="stable")]
    from_lon, from_lat, to_lon, to_lat, difference = rows.to_numpy().T
    view = view_of(np.append(from_lon, to_lon), np.append(from_lat, to_lat))
    is_new, ax = ax is None, ax or new_map(view, width_cm)
    x, y = view.project(from_lon, from_lat)
    to_x, to_y = view.project(to_lon, to_lat)
    dx, dy = to_x - x if view.is_polar else unwrap(to_x - x, 0.0), to_y - y
    draw_ground(view, ax, points=np.column_stack([x, y]))
    largest = float(limit or np.quantile(np.abs(difference), 0.98) or np.abs(difference).max() or 1.0)
    look: dict[str, Any] = {"cmap": DIFFERENCES, "norm": Normalize(-largest, largest), "edgecolor": "0.25", "zorder": 3}
    look["linewidth"] = min(0.25, 40.0 / len(rows))  # pt: the outlines of many short arrows would hide their colors
    move = np.hypot(dx, dy) > 1e-9
    ax.scatter(x[~move], y[~move], c=difference[~move], s=9, label="stay", **look)
    arrows = ax.quiver(
        *(v[move] for v in (x, y, dx, dy, difference)),
        angles="xy",
        scale_units="xy",
        scale=1,
        units="inches",
        width=0.014,
        headwidth=4.5,
        headlength=5,
        headaxislength=4.5,
        minlength=0.5,
        label="move",
        **look,
    )
    extend = "both" if np.abs(difference).max() > largest else "neither"
    color_bar(ax, arrows, "ln p(A) - ln p(B), nats", extend=extend)
    if title is not None:
        set_wrapped_title(ax, title)
    if is_new:
        fit_height(ax, view.height_over_width)
    return ax


@style()
def draw_choice_set(
    cells: np.ndarray,
    probability: np.ndarray,
    ax: Axes | None = None,
    *,
    origin: int,
    selected: int | None = None,
    scale: Literal["log", "linear"] = "log",
    width_cm: float = WIDTH_CM,
) -> Axes:
    """The axes with the choices of one decision as cells colored by probability.

    Parameters
    ----------
    cells
        (choice,), H3 cells as int64.
    probability
        (choice,), of the model, in [0, 1]. NaN: drawn without color.
    ax
        Axes to draw in; by default a new figure of `width_cm`.
    origin
        Cell the animal was in: a ring.
    selected
        Cell it chose, if known: a cross.
    scale
        Colors by the logarithm (where an animal mostly stays, a linear scale shows nothing else) or the value.

    Raises
    ------
    ValueError
        If the arrays differ in shape, are empty or a probability lies outside [0, 1].
    """
    cells, probability = np.asarray(cells, dtype=np.int64), np.asarray(probability, dtype=np.float64)
    if cells.shape != probability.shape or cells.ndim != 1 or cells.size == 0:
        raise ValueError(
            f"expected cells and probability of one shape (choice,); got {cells.shape}, {probability.shape}."
        )
    if ((probability < 0) | (probability > 1)).any():
        worst = probability[(probability < 0) | (probability > 1)][0]
        raise ValueError(f"probability must lie in [0, 1]; got {worst}. Pass probabilities, not log-odds.")
    marks = np.array([origin] if selected is None else [origin, selected], dtype=np.int64)
    corners = boundaries(np.append(cells, marks))
    view = view_of(*np.concatenate(corners).T, margin=0.03)
    is_new, ax = ax is None, ax or new_map(view, width_cm)
    draw_ground(view, ax, coast_over=True)
    patches = PolyCollection(
        view.outlines(corners[: len(cells)]),
        cmap="viridis",
        norm=_probability_norm(probability, scale),
        edgecolor="white",
        linewidth=0.5,
        zorder=2,
    )
    patches.set_array(np.ma.masked_invalid(probability))
    ax.add_collection(patches)
    handles = []
    for lon, lat, (marker, size, name) in zip(
        *centroids(marks), (("o", 9, "origin"), ("x", 6, "selected")), strict=False
    ):
        look: dict[str, Any] = {
            "marker": marker,
            "markersize": size,
            "linestyle": "none",
            "label": name,
            "fillstyle": "none",
            "mew": 1.3,
        }
        ax.plot(*view.project(lon, lat), color="black", path_effects=HALO, zorder=4, **look)
        handles.append(Line2D([], [], color="black", **look))
    legend_below(ax, handles)
    color_bar(ax, patches, "probability")
    if is_new:
        fit_height(ax, view.height_over_width)
    return ax


def _probability_norm(probability: np.ndarray, scale: str) -> Normalize:
    """Colors from zero (linear) or from the smallest positive probability, at most four powers of ten down (log)."""
    positive = probability[probability > 0]
    largest = float(positive.max()) if positive.size else 1.0
    if scale == "linear":
        return Normalize(0.0, largest)
    return LogNorm(min(max(float(positive.min(initial=largest)), largest * 1e-4), largest / 2), largest, clip=True)


def new_map(view: MapView, width_cm: float) -> Axes:
    """Axes of a new figure for one map of that shape, with spare height for a legend: end with `fit_height`."""
    spare_cm = 12.0  # for the longest legend; `fit_height` takes back what is not needed
    return new_figure(width_cm, width_cm * view.height_over_width + spare_cm, layout="compressed").subplots()


def fit_height(ax: Axes, height_over_width: float, *, most_cm: float = np.inf) -> None:
    """Take back the height that the axes of fixed shape of a new figure do not need, once all is drawn.

    Parameters
    ----------
    ax
        The first axes of the figure, in a "compressed" layout; others, a color bar, lie below it.
    height_over_width
        Shape of the axes.
    most_cm
        The axes become no higher than this.
    """
    figure = root_figure(ax)
    figure.draw_without_rendering()
    width_in = figure.get_figwidth() * ax.get_position(original=True).width
    # Labels, legend, title, color bar: what lies around the axes, and a little air for each.
    boxes = [box for box in (other.get_tightbbox() for other in figure.axes) if box is not None]
    around = [box.height for box in boxes]
    around[0] -= ax.get_window_extent().height
    own_in = min(width_in * height_over_width, most_cm / 2.54)
    figure.set_figheight(own_in + sum(h / figure.dpi + 0.1 for h in around))
    figure.draw_without_rendering()  # the layout of axes of fixed shape settles only at the second time


def color_bar(ax: Axes | Sequence[Axes], drawn: ScalarMappable, label: str, *, extend: str = "neither") -> Colorbar:
    """A color bar below the map, or below several."""
    maps = [ax] if isinstance(ax, Axes) else list(ax)
    spec = ax.get_subplotspec() if isinstance(ax, Axes) else None
    room_pt = 65 * root_figure(maps[0]).get_figwidth() / (spec.get_gridspec().ncols if spec is not None else 1)
    label = wrapped(label, room_pt, size=mpl.rcParams["axes.labelsize"])
    bar = root_figure(maps[0]).colorbar(
        drawn, ax=maps, location="bottom", label=label, extend=extend, shrink=0.8, aspect=35, pad=0.02
    )
    bar.outline.set_linewidth(0.6)
    if isinstance(drawn.norm, LogNorm):
        lowest, highest = drawn.get_clim()
        subs = (1.0, 2.0, 5.0) if (highest or 1.0) < 100 * (lowest or 1.0) else (1.0,)
        bar.set_ticks(LogLocator(subs=subs), minor=False)
        bar.ax.xaxis.set_major_formatter(lambda v, _: f"{v:g}")
        bar.minorticks_off()
    else:
        bar.ax.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    return bar
