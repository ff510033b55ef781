"""A box, or cells and a reach around them, into all H3 cells of a region."""

from __future__ import annotations

import numpy as np

from mimic.hexgrid import (
    EARTH_RADIUS_KM,
    boundaries,
    cell_at,
    centroids,
    check_cells,
    children,
    disks,
    distance_km,
    neighbor_table,
    resolution_of,
)

__all__ = ["MOST_CELLS", "cells_in_box", "cells_within", "surrounding"]

MOST_CELLS = 20_000_000
"""Cells of a region, at most: beyond it, listing them takes gigabytes and minutes."""

_SLACK = 1.5  # a child sticks out of its parent, and a parent's corners bulge: descend a little wider


def cells_in_box(west: float, south: float, east: float, north: float, resolution: int) -> np.ndarray:
    """The cells whose centroid lies in a box: (cell,), int64, sorted.

    Parameters
    ----------
    west, south, east, north
        Degrees, borders included. From `west` eastward to `east`: a box across the date line has an east below its
        west, or above 180. 360 degrees or more go around the globe.
    resolution
        H3 resolution, 0 to 15.

    Raises
    ------
    ValueError
        If latitudes are not in order within -90 to 90, a longitude is beyond -360 to 720, no centroid lies there, or
        about more than `MOST_CELLS` do.

    Notes
    -----
    From the 122 coarsest cells down: the children of every cell near the box. Distances to the box are exact (the
    foot of the perpendicular on its meridians), so that poles and the date line are no special places.
    """
    if not -90 <= south < north <= 90:
        raise ValueError(f"a box needs -90 <= south < north <= 90; got south {south:g}, north {north:g}.")
    if not (-360 <= west <= 720 and -360 <= east <= 720) or west == east:
        raise ValueError(f"a box needs two different longitudes in -360 to 720; got west {west:g}, east {east:g}.")
    width = 360.0 if abs(east - west) >= 360 else (east - west) % 360.0
    sines = np.sin(np.radians([south, north]))
    _check_number(
        width / 360.0 * (sines[1] - sines[0]) / 2.0, resolution, f"box {west:g}, {south:g}, {east:g}, {north:g}"
    )
    longitude, latitude = np.meshgrid(np.arange(-180.0, 180.0, 2.0), np.arange(-90.0, 90.1, 2.0))
    found = np.unique(cell_at(longitude.ravel(), latitude.ravel(), 0))
    for level in range(resolution + 1):
        found = np.unique(children(found, level)[0])
        x, y = centroids(found)
        away = _distance_to_box(x, y, west, south, width, north)
        found = found[away <= (0.0 if level == resolution else _SLACK * _radius_km(found))]
    if len(found) == 0:
        raise ValueError(
            f"no cell of resolution {resolution} has its centroid in the box {west:g}, {south:g}, {east:g}, {north:g}; "
            "widen it, or take a finer resolution."
        )
    return found


def _distance_to_box(x: np.ndarray, y: np.ndarray, west: float, south: float, width: float, north: float) -> np.ndarray:
    """Great-circle distance to a box, 0 inside: (point,), km."""
    turned = (x - west) % 360.0
    # a centroid on the western border may come out a rounding below 360
    within = (turned <= width + 1e-9) | (turned >= 360.0 - 1e-9)
    inside = within & (y >= south) & (y <= north)
    along = np.where(within, distance_km(x, y, x, np.clip(y, south, north)), np.inf)
    for edge in (west, west + width):
        # beyond 90 degrees of longitude the nearest point of a meridian lies beyond the pole
        foot = np.degrees(np.arctan2(np.sin(np.radians(y)), np.cos(np.radians(y)) * np.cos(np.radians(x - edge))))
        along = np.minimum(along, distance_km(x, y, np.full(x.shape, edge), np.clip(foot, south, north)))
        for corner in (south, north):  # a foot over the pole is clipped to the wrong end
            along = np.minimum(along, distance_km(x, y, np.full(x.shape, edge), np.full(x.shape, corner)))
    return np.where(inside, 0.0, np.maximum(along, 1e-12))


def _radius_km(cells: np.ndarray) -> float:
    """The largest distance from a centroid to a corner among some cells, km."""
    few = cells[:: max(1, len(cells) // 500)]
    longitude, latitude = centroids(few)
    corners = boundaries(few)
    return (
        max(
            float(distance_km(x, y, corner[:, 0], corner[:, 1]).max())
            for x, y, corner in zip(longitude, latitude, corners, strict=True)
        )
        if len(few)
        else 0.0
    )


def cells_within(cells: np.ndarray, reach_km: float) -> np.ndarray:
    """All cells whose centroid lies within a reach of that of any of some cells: (cell,), int64, sorted.

    Raises
    ------
    ValueError
        If an id is no H3 cell, or about more than `MOST_CELLS` lie around one of them.
    """
    check_cells(cells)
    if len(cells):
        share = (1.0 - np.cos(min(np.pi, reach_km / EARTH_RADIUS_KM))) / 2.0
        _check_number(share, resolution_of(int(cells[0])), f"reach of {reach_km:g} km")
    return np.unique(neighbor_table(cells, reach_km).cell)


def _check_number(share: float, resolution: int, where: str) -> None:
    """Refuse a share of the earth that holds too many cells."""
    n_cells = share * (2 + 120 * 7.0**resolution)
    if n_cells > MOST_CELLS:
        raise ValueError(
            f"a {where} holds about {n_cells:,.0f} cells of resolution {resolution}; expected {MOST_CELLS:,} or fewer. "
            "Take a coarser resolution, or less of the earth."
        )


def surrounding(cells: np.ndarray, rings: int) -> np.ndarray:
    """The cells within some rings around a region that are not in it: (cell,), int64, sorted.

    Example
    -------
    >>> center = cell_at(np.array([20.0]), np.array([10.0]), 4)
    >>> len(surrounding(center, 1)), len(surrounding(center, 2))
    (6, 18)
    """
    around = np.unique(np.asarray(cells, dtype=np.int64))
    for _ in range(rings):  # ring by ring: a disk of many rings around every cell holds the same cells many times
        around = np.unique(disks(around, 1)[0])
    return np.setdiff1d(around, cells)
