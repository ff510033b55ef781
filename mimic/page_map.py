"""The decisions of a page into its map: points on the coast, their colors, the chosen animal's track over them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import shapely
from bokeh.models import (
    BoxZoomTool,
    ColorBar,
    ColumnDataSource,
    CustomJSTickFormatter,
    FixedTicker,
    LinearColorMapper,
    PanTool,
    Range1d,
    ResetTool,
    SaveTool,
    WheelZoomTool,
)
from bokeh.plotting import figure

from mimic.coastline import (
    KM_PER_DEGREE,
    MapView,
    degrees_east,
    degrees_north,
    graticule,
    land,
    leaves_at,
    unwrap,
    view_of,
)
from mimic.page_tables import PageTables
from mimic.schema import INDIVIDUAL, LATITUDE, LONGITUDE, SPLIT, TIME

__all__ = ["decision_source", "map_figure", "map_view", "wider"]

SEA, LAND, COAST, CHOSEN = "#eef3f7", "#e3ded2", "#a59c88", "#111111"
HEIGHT_PX = (420, 600)
_WIDTH_PX = 780  # of the map on a screen of 1280: only its shape is taken from it

_DEGREES = """
const step = ticks.length > 1 ? Math.abs(ticks[1] - ticks[0]) : 1
const decimals = Math.max(0, Math.min(4, Math.ceil(-Math.log10(step) - 1e-9)))
const value = %s
const text = Math.abs(value).toFixed(decimals) + "°"
return Math.abs(value) < 1e-9 || Math.abs(value) > 180 - 1e-9 ? text : text + (value > 0 ? "%s" : "%s")
"""
_EAST = _DEGREES % ("(((tick + 180) % 360) + 360) % 360 - 180", "E", "W")
_NORTH = _DEGREES % ("tick", "N", "S")


def map_view(decisions: pd.DataFrame) -> MapView:
    """The map that shows the origins and the selected cells of all decisions."""
    places = [decisions[[LONGITUDE, LATITUDE]], decisions[["selected_longitude", "selected_latitude"]]]
    lon, lat = np.concatenate([part.to_numpy(dtype=float) for part in places]).T
    return view_of(lon, lat)


def wider(view: MapView, share: float = 0.6) -> MapView:
    """The view with more paper around it, by a share of each side: as far as the page lets one go."""
    (west, east), (south, north) = view.x, view.y
    more_x, more_y = share * (east - west), share * (north - south)
    if view.is_polar:
        return replace(view, x=(west - more_x, east + more_x), y=(south - more_y, north + more_y))
    more_x = min(more_x, max((360.0 - (east - west)) / 2, 0.0))
    return replace(view, x=(west - more_x, east + more_x), y=(max(south - more_y, -90.0), min(north + more_y, 90.0)))


def decision_source(tables: PageTables, view: MapView | None) -> ColumnDataSource:
    """The columns that everything on the page reads, a row a decision, as typed arrays.

    time (milliseconds), who and split (numbers of the page's lists), n (choices), burst; p0, p1, ... the probability of
    the selected choice by each model and r0, r1, ... twice its rank; with a view x, y of the decision, ox, oy of the
    origin's and sx, sy of the selected cell's centroid.
    """
    table = tables.decisions
    names = {name: k for k, name in enumerate(tables.individuals[INDIVIDUAL])}
    splits = {name: k for k, name in enumerate(dict.fromkeys(table[SPLIT]))}
    time = table[TIME].to_numpy(dtype="datetime64[ms]")
    most = int(table["n_choices"].max())
    data: dict[str, np.ndarray] = {
        "time": np.where(np.isnat(time), np.nan, time.astype(np.int64)).astype(np.float64),
        "who": table[INDIVIDUAL].map(names).to_numpy(dtype=np.int32),
        "split": table[SPLIT].map(splits).to_numpy(dtype=np.uint8),
        "n": table["n_choices"].to_numpy(dtype=np.uint16 if most < 1 << 16 else np.int32),
        "burst": table["burst"].to_numpy(dtype=np.int32),
    }
    for k, model in enumerate(tables.models):
        data[f"p{k}"] = np.exp(tables.log_probability[model].to_numpy()).astype(np.float32)
        doubled = np.round(2 * tables.rank[model].to_numpy())
        data[f"r{k}"] = doubled.astype(np.uint16 if 2 * most < 1 << 16 else np.int32)
    if view is not None:
        data |= _places(table, view)
    return ColumnDataSource(data, name="decisions")


def _places(table: pd.DataFrame, view: MapView) -> dict[str, np.ndarray]:
    """Where decisions, origins and selected cells lie on paper; the latter without a jump from the former."""
    x, y = view.project(table[LONGITUDE].to_numpy(), table[LATITUDE].to_numpy())
    origin_x, origin_y = view.project(table["origin_longitude"].to_numpy(), table["origin_latitude"].to_numpy())
    to_x, to_y = view.project(table["selected_longitude"].to_numpy(), table["selected_latitude"].to_numpy())
    if not view.is_polar:
        origin_x = x + unwrap(origin_x - x, 0.0)
        to_x = origin_x + unwrap(to_x - origin_x, 0.0)
    found = {"x": x, "y": y, "ox": origin_x, "oy": origin_y, "sx": to_x, "sy": to_y}
    return {name: values.astype(np.float32) for name, values in found.items()}


def map_figure(tables: PageTables, source: ColumnDataSource, view: MapView) -> figure:
    """The map; its ranges, colors and the chosen track are the page's to fill (`assets/page.js`)."""
    widest = wider(view)
    fig = figure(
        name="map",
        x_range=Range1d(*view.x, bounds=widest.x, name="map_x"),
        y_range=Range1d(*view.y, bounds=widest.y, name="map_y"),
        height=int(np.clip(_WIDTH_PX * view.height_over_width, *HEIGHT_PX)),
        min_width=320,
        sizing_mode="stretch_width",
        output_backend="webgl",
        background_fill_color=SEA,
        tools=[PanTool(), BoxZoomTool(match_aspect=True), ResetTool(), SaveTool()],
        toolbar_location="right",
    )
    wheel = WheelZoomTool()
    fig.add_tools(wheel)
    fig.toolbar.active_scroll = wheel
    fig.toolbar.logo = None
    _draw_land(fig, widest)
    _draw_degrees(fig, view, widest)
    mapper = LinearColorMapper(palette=["#440154", "#fde725"], low=0, high=1, name="colors", nan_color="#999999")
    _add_image(fig, "dots")
    _draw_chosen(fig)
    _add_image(fig, "own")
    _add_color_bar(fig, mapper)
    return fig


def _draw_land(fig: figure, view: MapView) -> None:
    """Land polygons with their lakes; to a third of a screen pixel."""
    tolerance = (view.x[1] - view.x[0]) / 6000
    shapes = [part for part in shapely.get_parts(land(view).simplify(tolerance)) if not part.is_empty]
    rings = [[part.exterior, *part.interiors] for part in shapes]
    xs = [[[np.asarray(ring.coords)[:, 0].round(4).tolist() for ring in part]] for part in rings]
    ys = [[[np.asarray(ring.coords)[:, 1].round(4).tolist() for ring in part]] for part in rings]
    data = ColumnDataSource({"xs": xs, "ys": ys}, name="land")
    fig.multi_polygons("xs", "ys", source=data, fill_color=LAND, line_color=COAST, line_width=0.7, name="coast")


def _draw_degrees(fig: figure, view: MapView, widest: MapView) -> None:
    """Degrees on the axes, or, around a pole, parallels and meridians with their names."""
    fig.grid.grid_line_color = "#ffffff"
    fig.grid.grid_line_alpha = 0.7
    fig.axis.major_label_text_font_size = "12px"
    if not view.is_polar:
        fig.xaxis.formatter = CustomJSTickFormatter(code=_EAST)
        fig.yaxis.formatter = CustomJSTickFormatter(code=_NORTH)
        return
    fig.axis.visible = False
    fig.grid.visible = False
    lines = _graticule_lines(view, widest)
    fig.multi_line([line[:, 0] for line in lines], [line[:, 1] for line in lines], color="#8fa3b5", line_width=0.6)
    of_parallels, of_meridians = graticule(view)
    places: dict[str, np.ndarray] = {}
    for longitude, line in of_meridians.items():
        _add_place(places, degrees_east(longitude), leaves_at(view, line)[0])
    for latitude, line in of_parallels.items():
        inside = _shares(view, line)[((_shares(view, line) > 0.05) & (_shares(view, line) < 0.95)).all(axis=1)]
        if len(inside):
            _add_place(places, degrees_north(latitude, 1 if latitude % 1 else 0), inside[inside[:, 0].argmax()])
    at = np.array(list(places.values())).reshape(-1, 2)
    x, y = (low + at[:, k] * (high - low) for k, (low, high) in enumerate((view.x, view.y)))
    look = {"text_font_size": "12px", "text_color": "#33475b", "text_align": "center", "text_baseline": "middle"}
    fig.text(x.tolist(), y.tolist(), text=list(places), name="degrees", **look)


def _graticule_lines(view: MapView, widest: MapView) -> list[np.ndarray]:
    """The parallels and meridians that a map names, as far as its paper goes: (point, 2) each."""
    parallels, meridians = graticule(view)
    side = 1.0 if view.projection == "north polar" else -1.0
    farthest = min(float(np.hypot(*np.meshgrid(widest.x, widest.y)).max()) / KM_PER_DEGREE, 179.0)
    step = min((90.0 - abs(latitude) for latitude in parallels), default=np.inf)  # the first is a step from the pole
    turn, away = np.linspace(-180.0, 180.0, 361), side * (90.0 - np.array([0.0, farthest]))
    latitudes = [side * (90.0 - k * step) for k in range(1, int(farthest / step) + 1)]
    around = [np.column_stack(view.project(turn, np.full(361, latitude))) for latitude in latitudes]
    return around + [np.column_stack(view.project(np.full(2, longitude), away)) for longitude in meridians]


def _shares(view: MapView, line: np.ndarray) -> np.ndarray:
    """A line (point, 2) on paper as shares of the map's width and height."""
    (west, east), (south, north) = view.x, view.y
    return (line - [west, south]) / [east - west, north - south]


def _add_place(places: dict[str, np.ndarray], name: str, at: np.ndarray) -> None:
    """Note where a name goes, a little inside of the frame, unless it is nowhere or another name is there."""
    inside = 0.03 + 0.94 * at
    room = [bool((np.abs(inside - other) > [0.07, 0.05]).any()) for other in places.values()]
    if np.isfinite(at).all() and all(room):
        places[name] = inside


def _add_image(fig: figure, name: str) -> None:
    """Dots that the page stamps into pixels (`assets/page_dots.js`), one image as large as the frame."""
    data = {"image": [np.zeros((1, 1), dtype=np.uint32)], "x": [0.0], "y": [0.0], "dw": [1.0], "dh": [1.0]}
    source = ColumnDataSource(data, name=name)
    fig.image_rgba(image="image", x="x", y="y", dw="dw", dh="dh", source=source, name=f"{name}_image")


def _draw_chosen(fig: figure) -> None:
    """What belongs to the chosen individual; empty until one is."""
    empty: dict[str, list[float]] = {"x": [], "y": []}
    way, track = ColumnDataSource(dict(empty), name="way"), ColumnDataSource(dict(empty), name="track")
    moves = ColumnDataSource({name: [] for name in ("ox", "oy", "sx", "sy")}, name="moves")
    fig.line("x", "y", source=way, color=CHOSEN, line_width=1, line_dash="dotted", line_alpha=0.6, name="way_line")
    fig.line("x", "y", source=track, color=CHOSEN, line_width=1.6, line_alpha=0.85, name="track_line")
    fig.segment(
        "ox", "oy", "sx", "sy", source=moves, color="#7a1fa2", line_width=2, line_alpha=0.8, name="moves_line"
    ).visible = False


def _add_color_bar(fig: figure, mapper: LinearColorMapper) -> None:
    """The scale, below the map; its kind decides how its ticks read."""
    form = CustomJSTickFormatter(code="return mimicPage.scaleText(tick)")
    bar = ColorBar(
        name="scale",
        color_mapper=mapper,
        ticker=FixedTicker(ticks=[0, 1], name="scale_ticks"),
        formatter=form,
        title=" ",
        height=12,
        width="auto",
        orientation="horizontal",
        padding=4,
        title_text_font_style="normal",
        title_text_font_size="13px",
        major_label_text_font_size="12px",
        bar_line_color="#888888",
    )
    fig.add_layout(bar, "below")
