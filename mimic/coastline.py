"""Land polygons of the whole Earth into the land of one map, cut and shifted: date line and poles come out right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import as_file, files
from typing import TYPE_CHECKING, Literal

import numpy as np

from mimic.hexgrid import EARTH_RADIUS_KM

if TYPE_CHECKING:
    import shapely

__all__ = [
    "KM_PER_DEGREE",
    "MapView",
    "Projection",
    "degrees_east",
    "degrees_north",
    "graticule",
    "land",
    "land_polygons",
    "leaves_at",
    "unwrap",
    "view_of",
]

Projection = Literal["equirectangular", "north polar", "south polar"]

# Beyond this latitude a degree of longitude is less than a quarter of a degree of latitude: look from above the pole.
# So too from a lower latitude when the data go far around: parallels are no straight way there.
POLAR_LATITUDE, POLAR_LATITUDE_OF_WIDE, WIDE = 75.0, 60.0, 120.0
# One degree of a great circle.
KM_PER_DEGREE = EARTH_RADIUS_KM * np.pi / 180.0
SMALLEST_SIDE_DEGREES = 0.01
# Height over width of the paper lies between these, or labels have no room.
FLATTEST, TALLEST = 0.45, 1.4


def unwrap(longitude: np.ndarray, center: float | np.ndarray) -> np.ndarray:
    """Longitudes within half a turn of a center (or each of its own): any shape, degrees, in [center - 180, center + 180).

    Example
    -------
    >>> unwrap(np.array([179.0, -179.0, 541.0]), 180.0).tolist()
    [179.0, 181.0, 181.0]
    """
    return (np.asarray(longitude, dtype=np.float64) - center + 180.0) % 360.0 - 180.0 + center


@dataclass(frozen=True)
class MapView:
    """A rectangle of flat paper and how longitude and latitude come to lie on it.

    Parameters
    ----------
    projection
        "equirectangular": x and y are degrees, longitudes unwrapped around `center_longitude`, so x may
        pass 180. "north polar", "south polar": azimuthal equidistant around the pole, x and y in km from the
        pole; `center_longitude` runs from the pole straight down (north) or up (south), so that north is up
        where the data are.
    center_longitude
        degrees.
    x, y
        (lowest, highest), the edges of the paper.
    """

    projection: Projection
    center_longitude: float
    x: tuple[float, float]
    y: tuple[float, float]

    @property
    def is_polar(self) -> bool:
        return self.projection != "equirectangular"

    @property
    def aspect(self) -> float:
        """Length of a unit of y over a unit of x on paper: 1 / cos(middle latitude), or 1 around a pole."""
        middle = np.clip((self.y[0] + self.y[1]) / 2, -85.0, 85.0)
        return 1.0 if self.is_polar else float(1.0 / np.cos(np.radians(middle)))

    @property
    def height_over_width(self) -> float:
        """Shape of the paper."""
        return self.aspect * (self.y[1] - self.y[0]) / (self.x[1] - self.x[0])

    @property
    def stretch(self) -> float:
        """Largest over smallest scale east-west within the map: 1 means that one scale bar holds everywhere."""
        if self.is_polar:
            corner_km = np.hypot(np.abs(self.x).max(), np.abs(self.y).max())
            angle = min(corner_km / KM_PER_DEGREE, 179.0)
            return float(np.radians(angle) / np.sin(np.radians(angle)))
        nearest, farthest = 0.0 if self.y[0] * self.y[1] < 0 else np.abs(self.y).min(), np.abs(self.y).max()
        return float(np.cos(np.radians(nearest)) / np.cos(np.radians(min(farthest, 89.0))))

    def project(self, longitude: np.ndarray, latitude: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Points on paper: two arrays of one shape, degrees -> x and y, degrees or km (see `MapView`)."""
        latitude = np.asarray(latitude, dtype=np.float64)
        if not self.is_polar:
            return unwrap(longitude, self.center_longitude), latitude
        side = 1.0 if self.projection == "north polar" else -1.0
        radius = (90.0 - side * latitude) * KM_PER_DEGREE
        angle = np.radians(np.asarray(longitude, dtype=np.float64) - self.center_longitude)
        return radius * np.sin(angle), -side * radius * np.cos(angle)

    def outlines(self, corners: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Shapes on paper, each in one piece at the date line and at a pole.

        Parameters
        ----------
        corners
            One array (corner, 2) a shape: longitude, latitude, degrees. No shape is wider than half a turn, but for
            those that hold a pole.

        Returns
        -------
        One array (corner, 2) a shape: x and y, see `project`.

        Example
        -------
        >>> view = view_of(np.array([0.0, 20.0]), np.array([-5.0, 5.0]))
        >>> view.outlines([np.array([[179.0, 0.0], [-179.0, 0.0], [-179.0, 1.0]])])[0].tolist()
        [[179.0, 0.0], [181.0, 0.0], [181.0, 1.0]]
        """
        if len(corners) == 0:
            return []
        lengths = [len(c) for c in corners]
        starts = np.cumsum([0, *lengths[:-1]])
        x, y = self.project(*np.concatenate(corners).T)
        if self.is_polar:
            return np.split(np.column_stack([x, y]), starts[1:])
        steps = unwrap(np.concatenate([x[1:], x[:1]]) - x, 0.0)
        ends = starts + lengths - 1
        steps[ends] = unwrap(x[starts] - x[ends], 0.0)
        turns = np.abs(np.add.reduceat(steps, starts)) > 180.0  # around a pole, not beside it
        shapes = np.split(np.column_stack([unwrap(x, np.repeat(x[starts], lengths)), y]), starts[1:])
        for k in np.flatnonzero(turns):
            shapes[k] = self._cap(shapes[k])
        return shapes

    def _cap(self, shape: np.ndarray) -> np.ndarray:
        """A shape around a pole as the strip of paper from its edge to the pole: (corner, 2) -> (corner, 2)."""
        west, east = self.center_longitude - 180.0, self.center_longitude + 180.0
        x, y = unwrap(shape[:, 0], self.center_longitude), shape[:, 1]
        edge, pole = np.interp(west, x, y, period=360.0), np.copysign(90.0, y.mean())
        ring = np.column_stack([x, y])[np.argsort(x)]
        return np.vstack([[west, edge], ring, [east, edge], [east, pole], [west, pole]])


def view_of(longitude: np.ndarray, latitude: np.ndarray, *, margin: float = 0.06) -> MapView:
    """The map that shows all points, seen from above the pole when they come near one.

    Parameters
    ----------
    longitude, latitude
        (point,), degrees, any convention of longitude. Points with NaN are left aside.
    margin
        Added on every side, as a share of the longer side.

    Raises
    ------
    ValueError
        If no point is finite or a latitude lies outside [-90, 90].

    Notes
    -----
    The map is cut open in the middle of the widest gap between longitudes: seals on both sides of 180 degrees
    get one small map, not one around the world. The view is polar when the data keep to one hemisphere and reach
    beyond 75 degrees, or beyond 60 and around a third of the Earth.

    Example
    -------
    >>> view = view_of(np.array([178.0, -178.0]), np.array([60.0, 62.0]))
    >>> view.center_longitude, view.projection
    (180.0, 'equirectangular')
    """
    lon, lat = np.asarray(longitude, dtype=np.float64).ravel(), np.asarray(latitude, dtype=np.float64).ravel()
    finite = np.isfinite(lon) & np.isfinite(lat)
    lon, lat = lon[finite], lat[finite]
    if lon.size == 0:
        raise ValueError("expected at least one point with finite coordinates to draw a map of; got none.")
    if (np.abs(lat) > 90).any():
        worst = lat[np.abs(lat).argmax()]
        raise ValueError(f"latitude must lie in [-90, 90]; got {worst}. Are longitude and latitude swapped?")
    center = _middle_longitude(lon)
    whole = MapView(_projection(unwrap(lon, center), lat), center, (0.0, 1.0), (0.0, 1.0))
    return _framed(whole, *whole.project(lon, lat), margin=margin)


def degrees_east(longitude: float, decimals: int = 0) -> str:
    """A longitude as on maps, whatever its convention.

    Example
    -------
    >>> degrees_east(210.0), degrees_east(-180.0), degrees_east(31.5, 1), degrees_east(360.0)
    ('150°W', '180°', '31.5°E', '0°')
    """
    value = round((longitude + 180.0) % 360.0 - 180.0, decimals)
    side = "" if value in (0.0, -180.0, 180.0) else "E" if value > 0 else "W"
    return f"{abs(value):.{decimals if side else 0}f}°{side}"


def degrees_north(latitude: float, decimals: int = 0) -> str:
    """A latitude as on maps.

    Example
    -------
    >>> degrees_north(-60.0), degrees_north(0.25, 2)
    ('60°S', '0.25°N')
    """
    value = round(latitude, decimals)
    return f"{abs(value):.{decimals if value else 0}f}°{'N' if value > 0 else 'S' if value < 0 else ''}"


def graticule(view: MapView) -> tuple[dict[float, np.ndarray], dict[float, np.ndarray]]:
    """Parallels and meridians of a polar map: degrees -> line on paper, (point, 2). They run on beyond the frame."""
    side = 1.0 if view.projection == "north polar" else -1.0
    corners = np.hypot(*np.meshgrid(view.x, view.y)) / KM_PER_DEGREE  # degrees from the pole
    farthest, has_pole = corners.max(), view.x[0] < 0 < view.x[1] and view.y[0] < 0 < view.y[1]
    depth = farthest - (0.0 if has_pole else 0.7 * corners.min())
    step = next((s for s in (0.1, 0.2, 0.5, 1, 2, 5, 10) if depth / s <= 6), 20)
    latitudes = side * (90.0 - np.arange(step, min(farthest, 179.0), step))
    longitudes = np.arange(-180.0, 180.0, 30.0 if has_pole else 10.0)
    turn, away = np.linspace(-180.0, 180.0, 361), side * (90.0 - np.linspace(0.0, farthest, 200))
    parallels = {float(lat): np.column_stack(view.project(turn, np.full(361, lat))) for lat in latitudes}
    meridians = {float(lon): np.column_stack(view.project(np.full(200, lon), away)) for lon in longitudes}
    return parallels, meridians


def leaves_at(view: MapView, line: np.ndarray) -> tuple[np.ndarray, tuple[int, int]]:
    """Where a line (point, 2) leaves the frame for good: there, as 0 ... 1 across it, NaN if nowhere; and the way out.

    The way out is (1, 0) at the right, (-1, 0) at the left, (0, 1) at the top, (0, -1) at the bottom.
    """
    u = (line - [view.x[0], view.y[0]]) / [np.ptp(view.x), np.ptp(view.y)]
    inside = ((u > 0) & (u < 1)).all(axis=1)
    if not inside.any() or inside[-1]:
        return np.full(2, np.nan), (0, 0)
    last = int(np.flatnonzero(inside)[-1])
    step = u[last + 1] - u[last]
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(step > 0, (1 - u[last]) / step, np.where(step < 0, -u[last] / step, np.inf))
    axis = int(share.argmin())
    way = int(np.sign(step[axis]))
    return u[last] + share[axis] * step, (way, 0) if axis == 0 else (0, way)


def land(view: MapView) -> shapely.MultiPolygon:
    """The land on a map, in the coordinates of its paper; a bit beyond the edges, so that no cut shows as a coast.

    Empty where the map is all sea. Natural Earth at 1:50 million; of the lakes only the Caspian Sea is cut out.
    """
    import shapely

    polygons = land_polygons()
    if view.is_polar:
        side = 1 if view.projection == "north polar" else -1
        bounds = shapely.bounds(polygons)
        # What lies around the other pole would come out inside out, and is never on the map.
        near = polygons[(bounds[:, 3] if side == 1 else -bounds[:, 1]) > -30.0]
        flat = shapely.transform([_without_pole(p) for p in near], lambda c: _as_rows(view.project(*c.T)))
        shapes = [shapely.make_valid(flat)]
    else:
        shapes = [shapely.transform(polygons, lambda c, t=t: c + [t, 0.0]) for t in (-720.0, -360.0, 0.0, 360.0, 720.0)]
    pad_x, pad_y = 0.02 * (view.x[1] - view.x[0]), 0.02 * (view.y[1] - view.y[0])
    frame = shapely.box(view.x[0] - pad_x, view.y[0] - pad_y, view.x[1] + pad_x, view.y[1] + pad_y)
    visible = np.concatenate(shapes)
    visible = visible[shapely.intersects(visible, frame)]
    # The union removes the seam where two turns of Antarctica or Eurasia meet.
    return _only_polygons(shapely.union_all(shapely.intersection(visible, frame)))


@cache
def land_polygons() -> np.ndarray:
    """All land as valid polygons in degrees, (polygon,), each in one piece: longitudes may pass 180."""
    import geopandas
    import shapely

    with as_file(files("mimic").joinpath("assets", "land-50m.json")) as path:
        parts = shapely.get_parts(geopandas.read_file(path).geometry.to_numpy())
    whole = [_whole([np.asarray(r.coords) for r in (p.exterior, *p.interiors)]) for p in parts]
    return np.array([p for part in shapely.make_valid(whole) for p in _only_polygons(part).geoms])


def _whole(rings: list[np.ndarray]) -> shapely.Polygon:
    """A polygon without jumps from 180 to -180, from its rings: each (corner, 2), degrees, the first the outer one."""
    import shapely

    shell = _without_jumps(rings[0])
    if abs(shell[-1, 0] - shell[0, 0]) > 180.0:  # a ring around the pole: Antarctica
        pole = np.copysign(90.0, shell[:, 1].mean())
        return shapely.Polygon(np.vstack([shell, [shell[-1, 0], pole], [shell[0, 0], pole]]))
    holes = [_without_jumps(ring) for ring in rings[1:]]
    middle = (shell[:, 0].min() + shell[:, 0].max()) / 2
    return shapely.Polygon(shell, [hole + [unwrap(hole[0, 0], middle) - hole[0, 0], 0.0] for hole in holes])


def _without_pole(polygon: shapely.Polygon) -> shapely.Polygon:
    """A polygon in degrees without the corners that lead it along a pole: around a pole it closes by itself."""
    import shapely

    if np.abs(polygon.bounds[1::2]).max() < 90.0:
        return polygon
    corners = np.asarray(polygon.exterior.coords)
    return shapely.Polygon(corners[np.abs(corners[:, 1]) < 90.0])


def _without_jumps(ring: np.ndarray) -> np.ndarray:
    """A ring (corner, 2) whose longitudes follow each other by less than half a turn."""
    steps = unwrap(np.diff(ring[:, 0]), 0.0)
    return np.column_stack([ring[0, 0] + np.concatenate([[0.0], np.cumsum(steps)]), ring[:, 1]])


def _only_polygons(shape: shapely.Geometry) -> shapely.MultiPolygon:
    """The polygons of any shape, without the points and lines that cutting leaves."""
    import shapely

    parts = shapely.get_parts(shape)
    while (shapely.get_type_id(parts) >= 4).any():  # collections of collections
        parts = shapely.get_parts(parts)
    return shapely.MultiPolygon(list(parts[shapely.get_type_id(parts) == 3]))


def _as_rows(columns: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    return np.column_stack(columns)


def _middle_longitude(longitude: np.ndarray) -> float:
    """The longitude opposite the middle of the widest gap: (point,), degrees -> degrees in [-180, 180]."""
    turned = np.unique(np.asarray(longitude) % 360.0)
    gaps = np.diff(turned, append=turned[0] + 360.0)
    widest = int(gaps.argmax())
    west = turned[(widest + 1) % len(turned)]
    middle = west + (360.0 - gaps[widest]) / 2
    return float(middle if middle <= 180.0 else middle - 360.0 * np.ceil((middle - 180.0) / 360.0))


def _projection(longitude: np.ndarray, latitude: np.ndarray) -> Projection:
    """The projection for points whose longitudes do not jump."""
    reach = POLAR_LATITUDE_OF_WIDE if np.ptp(longitude) > WIDE else POLAR_LATITUDE
    if latitude.min() > 0 and latitude.max() > reach:
        return "north polar"
    if latitude.max() < 0 and latitude.min() < -reach:
        return "south polar"
    return "equirectangular"


def _framed(view: MapView, x: np.ndarray, y: np.ndarray, *, margin: float) -> MapView:
    """The view with paper around the points, with a margin, neither a ribbon nor a point."""
    smallest = SMALLEST_SIDE_DEGREES * (KM_PER_DEGREE if view.is_polar else 1.0)
    middle_x, middle_y = (x.min() + x.max()) / 2, (y.min() + y.max()) / 2
    aspect = replace(view, y=(float(middle_y), float(middle_y))).aspect
    width, height = np.ptp(x) / aspect, np.ptp(y)  # both in units of y
    padding = 2 * margin * max(width, height)
    width, height = max(width + padding, smallest), max(height + padding, smallest)
    width, height = max(width, height / TALLEST), max(height, width * FLATTEST)
    width *= aspect
    if view.is_polar:
        return replace(view, x=_around(middle_x, width), y=_around(middle_y, height))
    south, north = _around(middle_y, min(height, 180.0))
    shift = max(-90.0 - south, 0.0) + min(90.0 - north, 0.0)
    return replace(view, x=_around(middle_x, min(width, 360.0)), y=(south + shift, north + shift))


def _around(middle: float, length: float) -> tuple[float, float]:
    return float(middle - length / 2), float(middle + length / 2)
