"""Polygons from a file into a covariate of cells: 1 where a cell's centroid lies inside, else 0."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mimic.hexgrid import centroids, check_cells

if TYPE_CHECKING:
    import geopandas

__all__ = ["in_degrees", "inside"]


def inside(source: str | Path | Any, cells: np.ndarray, *, layer: str | None = None) -> np.ndarray:
    """Whether each cell's centroid lies in any of the polygons, borders included: (cell,), float32, 1 or 0.

    Parameters
    ----------
    source
        A file geopandas can read (GeoJSON, GPKG, shapefile, ...), a GeoDataFrame or GeoSeries, or a
        shapely geometry. Coordinates without a projection are longitude and latitude in degrees.
    cells
        (cell,), H3 ids; repeats are fine.
    layer
        Which layer of a file with several.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file cannot be read, holds no polygons or something else than polygons, coordinates are
        no degrees, or an id is no H3 cell.

    Notes
    -----
    Polygons may be in longitudes of -180 to 180, 0 to 360, or beyond: a centroid counts at its
    longitude and a full turn to either side. Edges are straight in longitude and latitude, so a polygon
    across the date line has to go on past 180 (170 to 190) or be cut there (RFC 7946, section 3.1.9); a
    ring that jumps from 179 to -179 means the long way around.

    Example
    -------
    >>> import shapely
    >>> from mimic.hexgrid import cell_at
    >>> inside(shapely.box(170, -10, 190, 10), cell_at([-175.0, 175.0, 160.0], [0, 0, 0], 4))
    array([1., 1., 0.], dtype=float32)
    """
    import shapely  # with geopandas 0.4 s: only studies with polygons pay for it

    cells = np.asarray(cells, dtype=np.int64)
    check_cells(cells)
    shapes = _polygons(source, layer)
    unique, inverse = np.unique(cells, return_inverse=True)
    longitude, latitude = centroids(unique)
    tree = shapely.STRtree(shapes)
    hit = np.zeros(len(unique), dtype=np.float32)
    for turn in (-360.0, 0.0, 360.0):
        points = shapely.points(longitude + turn, latitude)
        hit[tree.query(points, predicate="intersects")[0]] = 1.0
    return hit[inverse]


def in_degrees(series: geopandas.GeoSeries, name: str) -> np.ndarray:
    """Shapes in longitude and latitude, projected where they are not: (shape,), objects of shapely.

    Raises ValueError where coordinates without a projection are no degrees; `name` is what the message calls them.
    """
    if series.crs is not None and not series.crs.equals("EPSG:4326", ignore_axis_order=True):
        series = series.to_crs("EPSG:4326")
    west, south, east, north = series.total_bounds
    if not (west >= -540 and east <= 540 and south >= -90.01 and north <= 90.01):
        raise ValueError(
            f"{name}: expected degrees; got x {west:g} to {east:g}, y {south:g} to {north:g}. "
            "Write the projection to the file, or set_crs() on the GeoDataFrame."
        )
    return np.asarray(series.to_numpy())


def _polygons(source: Any, layer: str | None) -> np.ndarray:
    """The polygons in degrees, valid, as an array of shapely geometries."""
    import geopandas
    import shapely

    if isinstance(source, str | Path):
        series, where = _read(Path(source), layer).geometry, Path(source).name
    elif isinstance(source, geopandas.GeoDataFrame | geopandas.GeoSeries):
        series, where = source.geometry, "the polygons"
    elif isinstance(source, shapely.Geometry):
        series, where = geopandas.GeoSeries([source]), "the polygon"
    else:
        raise TypeError(f"expected a path, a GeoDataFrame or a shapely geometry; got {type(source).__name__}.")
    series = series[~(series.isna() | series.is_empty)]
    kinds = sorted(set(series.geom_type))
    if not kinds or not set(kinds) <= {"Polygon", "MultiPolygon"}:
        raise ValueError(f"{where}: expected polygons; got {', '.join(kinds) or 'no geometries'}.")
    return np.asarray(shapely.make_valid(in_degrees(series, where)))


def _read(path: Path, layer: str | None) -> geopandas.GeoDataFrame:
    import geopandas

    if not path.exists():
        raise FileNotFoundError(f"expected a file of polygons; {path} does not exist. Check the path.")
    try:
        return geopandas.read_file(path, **({} if layer is None else {"layer": layer}))
    except Exception as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{path} cannot be read as polygons: {first.rstrip('.')}.") from error
