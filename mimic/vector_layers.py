"""Points, lines and polygons into the great-circle distance to the nearest of them; and to the shore, with a sign."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mimic.coastline import land_polygons
from mimic.expressions import check_names, parse
from mimic.hexgrid import EARTH_RADIUS_KM, centroids, check_cells
from mimic.polygons import in_degrees

if TYPE_CHECKING:
    import geopandas
    from scipy.spatial import KDTree

__all__ = ["VectorLayer", "distance_to_layer", "distance_to_shore", "read_layer", "shipped_land", "vector_layer"]

LONGEST_ARC_KM = 10.0
"""Edges are cut into great-circle arcs no longer than this."""

_POINTS_AT_ONCE = 4000
_SEAM = 1e-9  # degrees


@dataclass(frozen=True, eq=False)
class VectorLayer:
    """Shapes ready to measure distances to; made by `vector_layer`, `read_layer` or `shipped_land`.

    Parameters
    ----------
    start, end
        (arc, 3), unit vectors from the center of the earth: the edges of all shapes, cut into short great-circle
        arcs. A point is an arc of no length.
    polygons
        (polygon,), valid shapely polygons in degrees, whose inside has distance 0; empty without polygons.
    tree
        KD-tree of the middles of the arcs.
    half_km
        Half the longest arc, as a chord of the sphere, km.
    """

    start: np.ndarray
    end: np.ndarray
    polygons: np.ndarray
    tree: KDTree
    half_km: float

    def distance_km(self, longitude: np.ndarray, latitude: np.ndarray, *, signed: bool = False) -> np.ndarray:
        """Great-circle distance from points to the nearest shape: (point,), degrees -> (point,), km, float64.

        Parameters
        ----------
        signed
            For polygons: negative inside, as deep as the nearest border; by default 0 inside.

        Raises
        ------
        ValueError
            If a signed distance is asked of a layer without polygons.
        """
        if signed and not len(self.polygons):
            raise ValueError("a signed distance needs polygons; the layer has points or lines only.")
        points = _unit_vectors(longitude, latitude)
        parts = [self._to_arcs(points[i : i + _POINTS_AT_ONCE]) for i in range(0, len(points), _POINTS_AT_ONCE)]
        distance = np.concatenate([np.zeros(0), *parts])
        inside = self.contains(longitude, latitude)
        return np.where(inside, -distance if signed else 0.0, distance)

    def contains(self, longitude: np.ndarray, latitude: np.ndarray) -> np.ndarray:
        """Whether points lie in a polygon, borders included: (point,), bool."""
        import shapely

        found = np.zeros(len(np.atleast_1d(longitude)), dtype=bool)
        if len(self.polygons):
            tree = shapely.STRtree(self.polygons)
            for turn in (-360.0, 0.0, 360.0):
                points = shapely.points(np.asarray(longitude) + turn, latitude)
                point, polygon = tree.query(points)
                # polygons are prepared: a coast of ten thousand corners is not gone through for each point
                found[point[shapely.intersects(self.polygons[polygon], points[point])]] = True
        return found

    def _to_arcs(self, points: np.ndarray) -> np.ndarray:
        # The middle of an arc lies on it, so the nearest arc is no farther than the nearest middle, and its own
        # middle no farther than that and half an arc.
        reach = self.tree.query(points)[0] + self.half_km / EARTH_RADIUS_KM + 1e-12
        near = self.tree.query_ball_point(points, reach, return_sorted=True)
        counts = np.array([len(n) for n in near])
        arc = np.concatenate([np.asarray(n, dtype=np.int64) for n in near])
        owner = np.repeat(np.arange(len(points)), counts)
        angle = _angle_to_arc(points[owner], self.start[arc], self.end[arc])
        return np.minimum.reduceat(angle, np.cumsum(counts) - counts) * EARTH_RADIUS_KM


def distance_to_layer(
    source: VectorLayer | str | Path | Any,
    cells: np.ndarray,
    *,
    layer: str | None = None,
    where: str | None = None,
    signed: bool = False,
) -> np.ndarray:
    """Great-circle distance from each cell's centroid to the nearest shape of a vector layer: (cell,), float32, km.

    Parameters
    ----------
    source
        A file geopandas can read, a GeoDataFrame or GeoSeries, a shapely geometry, or a layer made before.
        Coordinates without a projection are longitude and latitude in degrees.
    cells
        (cell,), H3 ids; repeats are fine.
    layer
        Which layer of a file with several.
    where
        Expression over the columns of the file: only shapes that meet it count, as "kind == 'river'".
    signed
        Negative inside polygons, as deep as the nearest border; by default 0 there.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file cannot be read, no shape is left, coordinates are no degrees, or a signed distance is asked of
        points or lines.

    Notes
    -----
    Edges are straight in longitude and latitude, as in `mimic.polygons`, and are cut into great-circle arcs of at
    most 10 km; the distance to an arc is exact on the sphere. The cutting moves an edge by less than 10^2 tan(latitude)
    / (8 R) km: 3 m at 60 degrees, 22 m at 85. Edges of polygons along the meridian of 180 degrees and at the poles
    are cuts of the map, not borders. A line that jumps from 179 to -179 takes the short way; a polygon that does, the
    long way, as in `mimic.polygons`.

    Example
    -------
    >>> import shapely
    >>> from mimic.hexgrid import cell_at, centroids
    >>> cells = cell_at([20.0], [1.0], 4)
    >>> equator = shapely.LineString([(0, 0), (40, 0)])
    >>> degrees = distance_to_layer(equator, cells) / (EARTH_RADIUS_KM * np.pi / 180)
    >>> bool(np.allclose(degrees, centroids(cells)[1], atol=1e-6))
    True
    """
    if not isinstance(source, VectorLayer):
        is_file = isinstance(source, str | Path)
        source = read_layer(source, layer=layer, where=where) if is_file else vector_layer(source, where=where)
    return _on_cells(cells, lambda longitude, latitude: source.distance_km(longitude, latitude, signed=signed))


def distance_to_shore(cells: np.ndarray, source: VectorLayer | str | Path | Any | None = None) -> np.ndarray:
    """Great-circle distance from each cell's centroid to the shore: (cell,), float32, km, negative on land.

    Parameters
    ----------
    cells
        (cell,), H3 ids; repeats are fine.
    source
        Polygons of land, as for `distance_to_layer`; by default the shipped Natural Earth land at 1:50 million, a
        generalized coast without small islands; lakes other than the Caspian Sea are land there.

    Raises
    ------
    FileNotFoundError, ValueError
        As `distance_to_layer`.
    """
    land = shipped_land() if source is None else source
    return distance_to_layer(land, cells, signed=True)


def read_layer(path: str | Path, *, layer: str | None = None, where: str | None = None) -> VectorLayer:
    """The shapes of a vector file, ready to measure distances to; see `distance_to_layer`."""
    import geopandas

    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"expected a file of points, lines or polygons; {path} does not exist. Check the path.")
    try:
        table = geopandas.read_file(path, **({} if layer is None else {"layer": layer}))
    except Exception as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{path} cannot be read as a vector layer: {first.rstrip('.')}.") from error
    if not isinstance(table, geopandas.GeoDataFrame):
        raise ValueError(f"{path} holds a table without shapes; give a layer of points, lines or polygons.")
    return vector_layer(table, where=where, name=path.name)


def vector_layer(source: Any, *, where: str | None = None, name: str = "the layer") -> VectorLayer:
    """A GeoDataFrame, GeoSeries or shapely geometry, ready to measure distances to; see `distance_to_layer`."""
    import geopandas
    import shapely

    if isinstance(source, shapely.Geometry):
        source = geopandas.GeoSeries([source])
    if not isinstance(source, geopandas.GeoDataFrame | geopandas.GeoSeries):
        raise TypeError(f"expected a path, a GeoDataFrame or a shapely geometry; got {type(source).__name__}.")
    shapes = in_degrees(_filtered(source, where, name), name)
    parts = shapely.get_parts(shapes)
    while (shapely.get_type_id(parts) >= 4).any():  # collections of collections
        parts = shapely.get_parts(parts)
    flat = parts[shapely.get_type_id(parts) == 3]
    if len(flat):  # where two touch there is no border
        flat = shapely.get_parts(shapely.union_all(shapely.make_valid(flat)))
        flat = flat[shapely.get_type_id(flat) == 3]
    return _layer(flat, parts[shapely.get_type_id(parts) < 3], name)


@lru_cache(maxsize=1)
def shipped_land() -> VectorLayer:
    """Natural Earth's land at 1:50 million, ready to measure distances to."""
    return _layer(land_polygons().copy(), np.zeros(0, dtype=object), "land")


# ---------------------------------------------------------------- shapes


def _filtered(source: Any, where: str | None, name: str) -> geopandas.GeoSeries:
    if where is not None:
        columns = {c: source[c] for c in getattr(source, "columns", []) if c != source.geometry.name}
        expression = parse(where)
        check_names(expression, list(columns))
        source = source[expression.evaluate(columns, n_rows=len(source))]
    series = source.geometry
    series = series[~(series.isna() | series.is_empty)]
    if len(series) == 0:
        raise ValueError(f"{name}: expected shapes; none {'meets ' + where if where else 'is there'}.")
    return series


def _layer(polygons: np.ndarray, others: np.ndarray, name: str) -> VectorLayer:
    """From single polygons, and single points and lines."""
    import shapely
    from scipy.spatial import KDTree

    shapely.prepare(polygons)
    rings, lines = _edges(shapely.get_rings(polygons)), _edges(others[shapely.get_type_id(others) > 0])
    rings = rings[~_is_cut(rings)]
    lines[:, 1, 0] = lines[:, 0, 0] + (lines[:, 1, 0] - lines[:, 0, 0] + 180.0) % 360.0 - 180.0  # the short way
    points = shapely.get_coordinates(others[shapely.get_type_id(others) == 0])
    edges = np.concatenate([rings, lines, np.stack([points, points], axis=1)])
    if len(edges) == 0:
        raise ValueError(f"{name}: expected points, lines or polygons with borders; got none.")
    start, end = _arcs(edges)
    middle = start + end
    middle /= np.linalg.norm(middle, axis=1, keepdims=True)
    half = float(np.linalg.norm(start - middle, axis=1).max()) * EARTH_RADIUS_KM
    return VectorLayer(start, end, polygons, KDTree(middle), half)


def _edges(lines: np.ndarray) -> np.ndarray:
    """The edges of lines or rings: (edge, 2 ends, 2), degrees."""
    import shapely

    corners, owner = shapely.get_coordinates(lines, return_index=True)
    follows = owner[1:] == owner[:-1]
    return np.stack([corners[:-1][follows], corners[1:][follows]], axis=1)


def _is_cut(edges: np.ndarray) -> np.ndarray:
    """Whether an edge of a polygon runs along the meridian of 180 degrees or a pole: (edge,), bool."""
    on_seam = np.abs(np.abs(edges[..., 0]) % 360.0 - 180.0) < _SEAM
    at_pole = np.abs(edges[..., 1]) > 90.0 - _SEAM
    same = np.abs(edges[:, 0, 0] - edges[:, 1, 0]) < _SEAM
    return (on_seam.all(axis=1) & same) | at_pole.all(axis=1)


def _arcs(edges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Short arcs along edges that are straight in degrees: unit vectors of their ends, two (arc, 3)."""
    a, b = edges[:, 0], edges[:, 1]
    # never shorter than the edge: with the widest parallel it touches
    widest = np.where(a[:, 1] * b[:, 1] < 0, 0.0, np.minimum(np.abs(a[:, 1]), np.abs(b[:, 1])))
    length = np.hypot((b[:, 0] - a[:, 0]) * np.cos(np.radians(widest)), b[:, 1] - a[:, 1])
    length *= EARTH_RADIUS_KM * np.pi / 180.0
    # Arcs of like lengths keep the search small: a few long ones among thousands of short ones would widen it.
    some = length[length > 0]
    longest = np.clip(4 * np.median(some) if len(some) else 1.0, length.sum() / 1e6, LONGEST_ARC_KM)
    n = np.maximum(1, np.ceil(length / max(longest, 1e-6))).astype(np.int64)
    owner = np.repeat(np.arange(len(edges)), n)
    within = np.arange(len(owner)) - np.repeat(np.cumsum(n) - n, n)
    low, high = within / n[owner], (within + 1) / n[owner]
    step = (b - a)[owner]
    start = a[owner] + low[:, None] * step
    end = np.where((within + 1 == n[owner])[:, None], b[owner], a[owner] + high[:, None] * step)
    return _unit_vectors(*start.T), _unit_vectors(*end.T)


# ---------------------------------------------------------------- the sphere


def _unit_vectors(longitude: np.ndarray, latitude: np.ndarray) -> np.ndarray:
    """(point, 3), from degrees."""
    lon, lat = np.radians(np.atleast_1d(longitude)), np.radians(np.atleast_1d(latitude))
    return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=1)


def _angle_to_arc(point: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Angle at the center between points and the nearest place of an arc: (pair,), radians; all (pair, 3)."""
    chord = np.minimum(np.linalg.norm(point - start, axis=1), np.linalg.norm(point - end, axis=1))
    angle = 2.0 * np.arcsin(np.clip(chord / 2.0, 0.0, 1.0))
    normal = np.cross(start, end)
    size = np.linalg.norm(normal, axis=1)
    # beyond neither end: the point's plane through the axis of the arc meets the arc
    beside = (np.einsum("ij,ij->i", np.cross(normal, start), point) > 0) & (
        np.einsum("ij,ij->i", np.cross(end, normal), point) > 0
    )
    beside &= size > 0
    height = np.abs(np.einsum("ij,ij->i", normal, point)) / np.where(size > 0, size, 1.0)
    return np.where(beside, np.arcsin(np.clip(height, 0.0, 1.0)), angle)


def _on_cells(cells: np.ndarray, measure: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> np.ndarray:
    cells = np.asarray(cells, dtype=np.int64)
    check_cells(cells)
    unique, inverse = np.unique(cells, return_inverse=True)
    return measure(*centroids(unique)).astype(np.float32)[inverse]
