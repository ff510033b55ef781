"""H3 cells into centroids, distances, bearings and neighbor tables: the only module that imports h3.

Everywhere else longitude comes before latitude; h3 speaks (lat, lng), and the swap happens here.
Cells are int64 (H3 ids lie below 2^63): uint64 ids turn into float64, and wrong, in a pandas reindex.
"""

from __future__ import annotations

from dataclasses import dataclass

import h3.api.basic_int as h3
import h3.api.numpy_int as h3_numpy
import numpy as np

from mimic.spans import segments

__all__ = [
    "EARTH_RADIUS_KM",
    "NeighborTable",
    "bearing_rad",
    "boundaries",
    "cell_at",
    "centroids",
    "check_cells",
    "children",
    "disks",
    "distance_km",
    "neighbor_table",
    "parents",
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
        return segments(self.offsets[position], counts), offsets


def neighbor_table(origins: np.ndarray, max_distance_km: float) -> NeighborTable:
    """All cells whose centroid lies within `max_distance_km` of each origin's centroid.

    Parameters
    ----------
    origins
        (cell,), int64, one resolution; repeats are fine.
    max_distance_km
        km, at least 0 (0 gives the origin alone).

    Raises
    ------
    ValueError
        If the distance is negative or not finite, or about more than a million cells lie within it.

    Notes
    -----
    The radius of the disks of cells among which is searched follows from the distance. Any great circle from the
    origin to a cell within reach passes only through cells whose centroids lie within reach plus one circumradius,
    so rings are added until the rim of all disks together lies beyond that; the bound is local, which keeps
    pentagons and the smaller cells around them right (at resolution 4 and 100 km three rings are needed, for 19 to
    32 cells).
    """
    if not 0 <= max_distance_km < np.inf:
        raise ValueError(f"max_distance_km must be finite and at least 0; got {max_distance_km}.")
    unique = np.unique(np.asarray(origins, dtype=np.int64))
    _check_reach(unique, max_distance_km)
    if len(unique) == 0:
        empty = np.zeros(0)
        return NeighborTable(unique, np.zeros(1, np.int64), unique.copy(), empty, empty.copy())
    around = _around(unique, max_distance_km)
    longitude, latitude = centroids(around)
    own = np.searchsorted(around, unique)
    parts = [
        _within_reach(own[first : first + _BLOCK_ORIGINS], around, longitude, latitude, max_distance_km)
        for first in range(0, len(own), _BLOCK_ORIGINS)
    ]
    owner = np.concatenate([part[0] + k * _BLOCK_ORIGINS for k, part in enumerate(parts)])
    place, distance = (np.concatenate([part[k] for part in parts]) for k in (1, 2))
    here = own[owner]
    bearing = bearing_rad(longitude[here], latitude[here], longitude[place], latitude[place])
    bearing[place == here] = np.nan
    offsets = np.searchsorted(owner, np.arange(len(unique) + 1)).astype(np.int64)
    return NeighborTable(unique, offsets, around[place], distance, bearing)


_MOST_NEIGHBORS = 1_000_000


def _check_reach(origins: np.ndarray, max_distance_km: float) -> None:
    """Refuse a reach that holds more cells than a choice set can."""
    if len(origins) == 0:
        return
    resolution = resolution_of(int(origins[0]))
    share = (1.0 - np.cos(min(np.pi, max_distance_km / EARTH_RADIUS_KM))) / 2.0  # of the sphere
    n_cells = share * (2 + 120 * 7.0**resolution)
    if n_cells > _MOST_NEIGHBORS:
        raise ValueError(
            f"about {n_cells:,.0f} cells of resolution {resolution} lie within {max_distance_km:g} km of a cell; expected "
            f"{_MOST_NEIGHBORS:,} or fewer. Take a coarser resolution or a shorter distance."
        )


_BLOCK_ORIGINS = 100_000  # pairs of so many origins are searched at once


def _within_reach(
    own: np.ndarray, around: np.ndarray, longitude: np.ndarray, latitude: np.ndarray, max_distance_km: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs within reach, by origin, distance and cell: number of the origin, position of the cell, km; all (pair,)."""
    from scipy.spatial import KDTree  # 0.1 s

    xyz = _unit_vectors(longitude, latitude)
    # a little wider than the chord of the reach: the great-circle distance decides
    chord = 2 * np.sin(min(max_distance_km / EARTH_RADIUS_KM, np.pi) / 2) * (1 + 1e-9) + 1e-9
    pairs = KDTree(xyz[own]).sparse_distance_matrix(KDTree(xyz), chord, output_type="ndarray")
    owner, place = pairs["i"].astype(np.int64), pairs["j"].astype(np.int64)
    here = own[owner]
    distance = distance_km(longitude[here], latitude[here], longitude[place], latitude[place])
    distance[place == here] = 0.0
    near = np.flatnonzero(distance <= max_distance_km)
    near = near[_by_distance(owner[near], distance[near], place[near], len(around))]
    return owner[near], place[near], distance[near]


def _by_distance(owner: np.ndarray, distance: np.ndarray, place: np.ndarray, n_places: int) -> np.ndarray:
    """The order by origin, distance and cell: (pair,)."""
    counts = np.bincount(owner)
    widest = int(counts.max(initial=0))
    if len(counts) * widest > 4 * len(owner):
        return np.lexsort((place, distance, owner))
    order = np.argsort(owner * n_places + place)  # distinct, and fast to sort
    padded = np.full((len(counts), widest), np.inf)
    is_there = np.arange(widest) < counts[:, None]
    padded[is_there] = distance[order]
    within = np.argsort(padded, axis=1, kind="stable")[is_there]
    return order[within + np.repeat(np.cumsum(counts) - counts, counts)]


def _unit_vectors(longitude: np.ndarray, latitude: np.ndarray) -> np.ndarray:
    lon, lat = np.radians(longitude), np.radians(latitude)
    return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=1)


def _around(origins: np.ndarray, max_distance_km: float) -> np.ndarray:
    """Cells among which is every cell within reach of any of the origins: (cell,), int64, sorted and distinct."""
    edge = h3.average_hexagon_edge_length(resolution_of(origins[0]), unit="km")
    # Where cells are of average size, ring k lies 1.5 k edges away at its nearest. Cells differ: _reached decides.
    k = max(1, int(np.ceil((max_distance_km + edge) / (1.5 * edge))))
    found = [np.zeros(0, dtype=np.int64)]
    waiting = origins
    while len(waiting):
        disks, rim = _disks(waiting, k)
        found.append(disks)
        waiting, k = waiting[_reached(waiting, rim, max_distance_km)], k + 1
    return np.unique(np.concatenate(found))


def _disks(origins: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Cells in the disks of k rings around any of the origins, and those among them that may have others around."""
    inner, ring = origins, _union(origins, 1)
    if len(ring) > 3 * len(origins):  # scattered: disk by disk
        inner, outer = _union(origins, k - 1), _union(origins, k)
        return outer, np.setdiff1d(outer, inner, assume_unique=True)
    rim = np.setdiff1d(ring, inner, assume_unique=True)
    for _ in range(k - 1):  # in crowds each cell is expanded once, and not with every origin near it
        inner = np.concatenate([inner, rim])
        rim = np.setdiff1d(_union(rim, 1), inner, assume_unique=True)
    return np.concatenate([inner, rim]), rim


def _union(origins: np.ndarray, k: int) -> np.ndarray:
    if not len(origins):
        return origins
    return np.unique(np.concatenate([h3_numpy.grid_disk(o, k) for o in origins.tolist()])).astype(np.int64)


def _reached(origins: np.ndarray, rim: np.ndarray, max_distance_km: float) -> np.ndarray:
    """Whether a cell of the rim lies within the reach of an origin plus the cell's circumradius: (origin,), bool."""
    from scipy.spatial import KDTree

    if not len(rim):
        return np.zeros(len(origins), dtype=bool)
    longitude, latitude = centroids(rim)
    corners = np.array([h3.cell_to_boundary(c)[0] for c in rim.tolist()]).reshape(-1, 2)
    # a quarter more than the distance to one corner: hexagons on the sphere are not regular
    radius = 1.25 * distance_km(longitude, latitude, corners[:, 1], corners[:, 0]).max()
    chord = 2 * np.sin(min((max_distance_km + radius) / EARTH_RADIUS_KM, np.pi) / 2)
    tree = KDTree(_unit_vectors(longitude, latitude))
    return tree.query(_unit_vectors(*centroids(origins)))[0] <= chord


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


def disks(cells: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The cells within `k` rings of each cell, itself included: (member,), int64, and offsets (cell + 1,).

    The disk of cell `i` is `disks[offsets[i]:offsets[i + 1]]`, sorted by id; 7 cells for k = 1 (6 around a pentagon).

    Raises
    ------
    ValueError
        If k is negative.
    """
    if k < 0:
        raise ValueError(f"a disk has 0 or more rings; got k = {k}.")
    found = [h3.grid_disk(c, k) for c in np.asarray(cells, dtype=np.int64).tolist()]
    counts = np.array([len(f) for f in found], dtype=np.int64)
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    members = np.fromiter((c for f in found for c in f), np.int64, count=int(offsets[-1]))
    order = np.lexsort((members, np.repeat(np.arange(len(found)), counts)))
    return members[order], offsets


def parents(cells: np.ndarray, resolution: int) -> np.ndarray:
    """The cell of a coarser resolution that holds each cell: (cell,), int64 -> (cell,), int64.

    Raises
    ------
    ValueError
        If the resolution is finer than that of a cell, or negative.
    """
    unique, inverse = np.unique(np.asarray(cells, dtype=np.int64), return_inverse=True)
    listed = unique.tolist()
    if not all(0 <= resolution <= resolution_of(c) for c in listed):
        raise ValueError(f"the resolution of parents must lie between 0 and that of the cells; got {resolution}.")
    return np.fromiter((h3.cell_to_parent(c, resolution) for c in listed), np.int64, count=len(listed))[inverse]
