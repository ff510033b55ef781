"""H3 cells into centroids, distances, bearings and neighbor tables: the only module that imports h3.

Everywhere else longitude comes before latitude; h3 speaks (lat, lng), and the swap happens here.
Cells are int64 (H3 ids lie below 2^63): uint64 ids turn into float64, and wrong, in a pandas reindex.
"""

from __future__ import annotations

from dataclasses import dataclass

import h3.api.basic_int as h3
import numpy as np

__all__ = [
    "EARTH_RADIUS_KM",
    "NeighborTable",
    "bearing_rad",
    "boundaries",
    "cell_at",
    "centroids",
    "check_cells",
    "children",
    "distance_km",
    "neighbor_table",
    "resolution_of",
]

EARTH_RADIUS_KM = 6371.007180918475
"""Radius of the sphere of equal area, the one H3 itself uses."""


def cell_at(longitude: np.ndarray, latitude: np.ndarray, resolution: int) -> np.ndarray:
    """The H3 cell of each point: (point,), degrees -> (point,), int64. Longitudes may be of any convention.

    Raises
    ------
    ValueError
        If the resolution is not 0 ... 15 or a coordinate is not finite.
    """
    if not 0 <= resolution <= 15:
        raise ValueError(f"resolution must be an H3 resolution, 0 to 15; got {resolution}.")
    lon, lat = np.asarray(longitude, dtype=np.float64), np.asarray(latitude, dtype=np.float64)
    if not (np.isfinite(lon).all() and np.isfinite(lat).all()):
        raise ValueError("coordinates must be finite; clean the tracks first.")
    lon = (lon + 180.0) % 360.0 - 180.0
    to_cell = h3.latlng_to_cell
    return np.fromiter(
        (to_cell(y, x, resolution) for x, y in zip(lon.tolist(), lat.tolist(), strict=True)), np.int64, count=lon.size
    )


def centroids(cells: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Longitude and latitude of the centers: (cell,), int64 -> two (cell,), degrees, longitude in [-180, 180)."""
    unique, inverse = np.unique(np.asarray(cells, dtype=np.int64), return_inverse=True)
    to_latlng = h3.cell_to_latlng
    points = np.array([to_latlng(c) for c in unique.tolist()], dtype=np.float64).reshape(-1, 2)
    longitude = (points[:, 1] + 180.0) % 360.0 - 180.0
    return longitude[inverse], points[:, 0][inverse]


def boundaries(cells: np.ndarray) -> list[np.ndarray]:
    """Corners of each cell: a list of (corner, 2) arrays of longitude, latitude in degrees, not unwrapped."""
    return [np.array(h3.cell_to_boundary(c))[:, ::-1] for c in np.asarray(cells, dtype=np.int64).tolist()]


def resolution_of(cell: int) -> int:
    """H3 resolution of a cell."""
    return h3.get_resolution(int(cell))


def check_cells(cells: np.ndarray) -> None:
    """Raise ValueError that names up to five entries which are no H3 cells."""
    unique = np.unique(np.asarray(cells, dtype=np.int64))
    bad = [c for c in unique.tolist() if not h3.is_valid_cell(c)]
    if bad:
        raise ValueError(f"expected H3 cells as integers; {len(bad)} are not valid ({', '.join(map(str, bad[:5]))}).")


def distance_km(
    longitude_a: np.ndarray, latitude_a: np.ndarray, longitude_b: np.ndarray, latitude_b: np.ndarray
) -> np.ndarray:
    """Great-circle distance between points in degrees, km, on the sphere of radius `EARTH_RADIUS_KM`.

    Notes
    -----
    Haversine formula: exact for small distances, safe across the date line and at the poles.

    Example
    -------
    >>> float(distance_km(179.5, 0.0, -179.5, 0.0).round(1))  # one degree of the equator
    111.2
    """
    lat_a, lat_b = np.radians(latitude_a), np.radians(latitude_b)
    half_lon = np.radians(np.subtract(longitude_b, longitude_a)) / 2
    a = np.sin((lat_b - lat_a) / 2) ** 2 + np.cos(lat_a) * np.cos(lat_b) * np.sin(half_lon) ** 2
    return 2 * EARTH_RADIUS_KM * np.arcsin(np.sqrt(np.clip(a, 0.0, 1.0)))


def bearing_rad(
    longitude_a: np.ndarray, latitude_a: np.ndarray, longitude_b: np.ndarray, latitude_b: np.ndarray
) -> np.ndarray:
    """True bearing at A of the great circle to B, radians in [-pi, pi], clockwise from north.

    NaN where A and B are the same point: staying has no heading.

    Example
    -------
    >>> [round(float(b), 3) for b in bearing_rad([0, 0, 179.5], [0, 0, 60], [0, 1, -179.5], [1, 0, 60])]
    [0.0, 1.571, 1.563]
    """
    lon_a, lat_a, lon_b, lat_b = (
        np.radians(np.asarray(v, float)) for v in (longitude_a, latitude_a, longitude_b, latitude_b)
    )
    east = np.sin(lon_b - lon_a) * np.cos(lat_b)
    north = np.cos(lat_a) * np.sin(lat_b) - np.sin(lat_a) * np.cos(lat_b) * np.cos(lon_b - lon_a)
    same = (np.hypot(east, north) < 1e-12) | ((lon_a == lon_b) & (lat_a == lat_b))
    return np.where(same, np.nan, np.arctan2(east, north))


@dataclass(frozen=True, eq=False)
class NeighborTable:
    """The cells within a distance of each origin, origin included.

    Parameters
    ----------
    origin
        (origin,), int64, sorted and distinct.
    offsets
        (origin + 1,): the neighbors of origin `i` are rows `offsets[i]:offsets[i + 1]`, sorted by distance.
    cell
        (row,), int64.
    distance_km
        (row,), between centroids; 0 for the origin itself.
    bearing_rad
        (row,), true bearing at the origin, NaN for the origin itself.
    """

    origin: np.ndarray
    offsets: np.ndarray
    cell: np.ndarray
    distance_km: np.ndarray
    bearing_rad: np.ndarray

    def rows_of(self, origins: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rows of this table for each of many origins: (flat rows, offsets (origin + 1,))."""
        position = np.searchsorted(self.origin, origins)
        if (position >= len(self.origin)).any() or (self.origin[position] != origins).any():
            raise ValueError("an origin is not in the neighbor table; build the table from all origins.")
        counts = np.diff(self.offsets)[position]
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        within = np.arange(offsets[-1]) - np.repeat(offsets[:-1], counts)
        return np.repeat(self.offsets[position], counts) + within, offsets


def neighbor_table(origins: np.ndarray, max_distance_km: float) -> NeighborTable:
    """All cells whose centroid lies within `max_distance_km` of each origin's centroid.

    Parameters
    ----------
    origins
        (cell,), int64, one resolution; repeats are fine.
    max_distance_km
        km, at least 0 (0 gives the origin alone).

    Notes
    -----
    The disk radius follows from the distance. Any great circle from the origin to a cell within reach
    passes only through cells whose centroids lie within reach plus one circumradius, so rings are added
    until a whole ring lies beyond that, and the disk within it holds all; the bound is local, which keeps pentagons and the smaller cells
    around them right (at resolution 4 and 100 km three rings are needed, for 19 to 32 cells).
    """
    if not 0 <= max_distance_km < np.inf:
        raise ValueError(f"max_distance_km must be finite and at least 0; got {max_distance_km}.")
    unique = np.unique(np.asarray(origins, dtype=np.int64))
    if len(unique) == 0:
        empty = np.zeros(0)
        return NeighborTable(unique, np.zeros(1, np.int64), unique.copy(), empty, empty.copy())
    disks = _disks(unique, max_distance_km)
    counts = np.array([len(d) for d in disks], dtype=np.int64)
    cell = np.fromiter((c for d in disks for c in d), np.int64, count=int(counts.sum()))
    owner = np.repeat(np.arange(len(unique)), counts)
    lon, lat = centroids(cell)
    lon_o, lat_o = centroids(unique)
    distance = distance_km(lon_o[owner], lat_o[owner], lon, lat)
    distance[cell == unique[owner]] = 0.0
    order = np.lexsort((cell, distance, owner))
    order = order[distance[order] <= max_distance_km]
    owner, cell, distance = owner[order], cell[order], distance[order]
    bearing = bearing_rad(lon_o[owner], lat_o[owner], lon[order], lat[order])
    bearing[cell == unique[owner]] = np.nan
    offsets = np.searchsorted(owner, np.arange(len(unique) + 1)).astype(np.int64)
    return NeighborTable(unique, offsets, cell, distance, bearing)


def _disks(origins: np.ndarray, max_distance_km: float) -> list[list[int]]:
    """A disk around each origin that surely holds every cell within reach."""
    edge = h3.average_hexagon_edge_length(resolution_of(origins[0]), unit="km")
    # Where cells are of average size, ring k lies 1.5 k edges away at its nearest. Cells differ: _beyond decides.
    k = max(1, int(np.ceil((max_distance_km + edge) / (1.5 * edge))))
    disks: dict[int, list[int]] = {}
    waiting = origins
    while len(waiting):
        is_beyond = _beyond(waiting, k, max_distance_km)
        disks |= {origin: h3.grid_disk(origin, k - 1) for origin in waiting[is_beyond].tolist()}
        waiting, k = waiting[~is_beyond], k + 1
    return [disks[origin] for origin in origins.tolist()]


def _beyond(origins: np.ndarray, k: int, max_distance_km: float) -> np.ndarray:
    """Whether every cell of ring k lies farther than the reach plus its own circumradius: (origin,), bool."""
    rings = [h3.grid_ring(origin, k) for origin in origins.tolist()]
    counts = np.array([len(ring) for ring in rings])
    cells = np.fromiter((c for ring in rings for c in ring), np.int64, count=int(counts.sum()))
    unique, place = np.unique(cells, return_inverse=True)
    longitude, latitude = centroids(unique)
    corners = np.array([h3.cell_to_boundary(c)[0] for c in unique.tolist()]).reshape(-1, 2)
    # a quarter more than the distance to one corner: hexagons on the sphere are not regular
    radius = 1.25 * distance_km(longitude, latitude, corners[:, 1], corners[:, 0])
    owner = np.repeat(np.arange(len(origins)), counts)
    own_longitude, own_latitude = centroids(origins)
    distance = distance_km(own_longitude[owner], own_latitude[owner], longitude[place], latitude[place])
    near = np.bincount(owner[distance <= max_distance_km + radius[place]], minlength=len(origins))
    return near == 0


def children(cells: np.ndarray, resolution: int) -> tuple[np.ndarray, np.ndarray]:
    """The cells of a finer resolution inside each cell: (child,), int64, and offsets (cell + 1,).

    The children of cell `i` are `children[offsets[i]:offsets[i + 1]]`; 7 a step (6 for a pentagon).

    Raises
    ------
    ValueError
        If the resolution is coarser than that of a cell, or above 15.
    """
    listed = np.asarray(cells, dtype=np.int64).tolist()
    if not all(resolution_of(c) <= resolution <= 15 for c in listed):
        raise ValueError(f"resolution must lie between that of the cells and 15; got {resolution}.")
    found = [h3.cell_to_children(c, resolution) for c in listed]
    offsets = np.concatenate([[0], np.cumsum([len(f) for f in found])]).astype(np.int64)
    return np.fromiter((c for f in found for c in f), np.int64, count=int(offsets[-1])), offsets
