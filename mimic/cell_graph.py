"""A set of H3 cells into a graph: who neighbors whom, and how far east and north the steps between them go."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mimic.hexgrid import bearing_rad, centroids, check_cells, disks, distance_km, resolution_of

__all__ = ["CellGraph"]

N_NEIGHBORS = 6


@dataclass(frozen=True, eq=False)
class CellGraph:
    """Cells of one resolution and the steps between neighbors; made by `CellGraph.of`.

    Parameters
    ----------
    cells
        (cell,), int64, sorted and distinct. A position is an index into them.
    neighbors
        (cell, 6), int32: positions of the adjacent cells, sorted, -1 where one is not in the set or does not exist
        (a pentagon has five). Every -1 stands at the end of its row.
    longitude, latitude
        (cell,), degrees, of the centroids.
    east_km, north_km
        (cell, 6), km: the step to each neighbor in the plane that touches the sphere at the cell's centroid
        (azimuthal equidistant: great-circle distance times sine and cosine of the bearing); NaN where there is none.

    Notes
    -----
    Distances and bearings are those of great circles, so that cells at the date line and around the poles are as any
    others; east and north are those at the cell itself.

    Example
    -------
    >>> from mimic.hexgrid import cell_at, disks
    >>> center = cell_at([20.0], [10.0], 4)
    >>> graph = CellGraph.of(disks(center, 1)[0])
    >>> (graph.neighbors >= 0).sum(axis=1)[graph.positions(center)].tolist()
    [6]
    >>> sorted(set((graph.neighbors >= 0).sum(axis=1).tolist()))  # those on the rim: the center and two beside
    [3, 6]
    """

    cells: np.ndarray
    neighbors: np.ndarray
    longitude: np.ndarray
    latitude: np.ndarray
    east_km: np.ndarray
    north_km: np.ndarray

    @classmethod
    def of(cls, cells: np.ndarray) -> CellGraph:
        """The graph of some cells: (cell,), H3 ids, any order, repeats are fine.

        Raises
        ------
        ValueError
            If an id is no H3 cell, or the cells are of several resolutions.
        """
        unique = np.unique(np.asarray(cells, dtype=np.int64))
        check_cells(unique)
        resolutions = {resolution_of(c) for c in unique.tolist()}
        if len(resolutions) > 1:
            raise ValueError(f"cells must be of one H3 resolution; got {', '.join(map(str, sorted(resolutions)))}.")
        longitude, latitude = centroids(unique)
        owner, position, _ = _members(unique, 1)
        owner, position = owner[position != owner], position[position != owner]
        first = np.searchsorted(owner, np.arange(len(unique)))
        slot = np.arange(len(owner)) - first[owner]
        neighbors = np.full((len(unique), N_NEIGHBORS), -1, dtype=np.int32)
        neighbors[owner, slot] = position
        ends = longitude[owner], latitude[owner], longitude[position], latitude[position]
        length, bearing = distance_km(*ends), bearing_rad(*ends)
        east, north = np.full(neighbors.shape, np.nan), np.full(neighbors.shape, np.nan)
        east[owner, slot], north[owner, slot] = length * np.sin(bearing), length * np.cos(bearing)
        return cls(unique, neighbors, longitude, latitude, east, north)

    def __len__(self) -> int:
        return len(self.cells)

    @cached_property
    def resolution(self) -> int:
        """H3 resolution of the cells."""
        return resolution_of(self.cells[0])

    def positions(self, cells: np.ndarray) -> np.ndarray:
        """Where cells are in this graph: (n,), int64 -> (n,), int64.

        Raises
        ------
        ValueError
            If a cell is not among those of the graph.
        """
        cells = np.asarray(cells, dtype=np.int64)
        position = np.minimum(np.searchsorted(self.cells, cells), max(0, len(self.cells) - 1))
        strange = cells[self.cells[position] != cells] if len(self.cells) else cells
        if len(strange):
            raise ValueError(
                f"{len(strange):,} cells are not in the graph (e.g. {strange[0]}); build it from all cells."
            )
        return position

    def disk(self, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The cells within `k` rings that are in the set, each cell's own included.

        Returns
        -------
        positions, offsets
            (member,), int32, sorted within each cell; those of cell `i` are `positions[offsets[i]:offsets[i + 1]]`.
            Rings are counted on the whole H3 grid, also where the set has holes.
        """
        owner, position, _ = self._disk(k)
        return position.astype(np.int32), np.searchsorted(owner, np.arange(len(self.cells) + 1))

    def disk_size(self, k: int) -> np.ndarray:
        """How many cells lie within `k` rings on the whole H3 grid, in the set or not: (cell,), int64."""
        return self._disk(k)[2]

    def _disk(self, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        if k not in self._disks:  # asked for again by every block of steps
            self._disks[k] = _members(self.cells, k)
        return self._disks[k]

    @cached_property
    def _disks(self) -> dict[int, tuple[np.ndarray, np.ndarray, np.ndarray]]:
        return {}


def _members(cells: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Owner and position of every member of a disk that is among the cells, and the size of each whole disk."""
    members, offsets = disks(cells, k)
    sizes = np.diff(offsets)
    owner = np.repeat(np.arange(len(cells)), sizes)
    position = np.minimum(np.searchsorted(cells, members), max(0, len(cells) - 1))
    known = cells[position] == members if len(cells) else np.zeros(0, dtype=bool)
    return owner[known], position[known], sizes
