"""The section `cells` of a cube into its cells: of a box, around tracks, or of a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from mimic.cube_sections import CellsConfig
from mimic.hexgrid import cell_at, check_cells, resolution_of
from mimic.regions import cells_in_box, cells_within
from mimic.tracks import clean_tracks, read_tracks

__all__ = ["cells_of"]


def cells_of(section: CellsConfig) -> np.ndarray:
    """The cells that a section means: (cell,), int64, sorted.

    Raises
    ------
    FileNotFoundError, ValueError
        If a file cannot be read, or there are no cells.
    """
    if section.box is not None and section.resolution is not None:
        return cells_in_box(*section.box, section.resolution)
    if section.tracks is not None and section.resolution is not None and section.reach_km is not None:
        given = section.tracks
        tracks, _ = read_tracks(
            given.file, columns=given.columns, individual=given.individual, crs=given.crs, timezone=given.timezone
        )
        tracks, _ = clean_tracks(tracks)
        if len(tracks) == 0:
            raise ValueError(f"{given.file.name}: no fix is left after cleaning; check its columns.")
        visited = cell_at(tracks["longitude"].to_numpy(), tracks["latitude"].to_numpy(), section.resolution)
        return cells_within(np.unique(visited), section.reach_km)
    return _listed_cells(section.file or Path())


def _listed_cells(path: Path) -> np.ndarray:
    """The cells of a Parquet or CSV file with a column `cell`."""
    if not path.is_file():
        raise FileNotFoundError(f"no file of cells {path}; give a CSV or Parquet file with a column cell.")
    table = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path, dtype={"cell": "int64"})
    if "cell" not in table or table["cell"].dtype.kind not in "iu" or len(table) == 0:
        raise ValueError(
            f"{path.name}: expected a column cell, H3 cells as whole numbers; it has {', '.join(map(str, table.columns))}."
        )
    cells = np.unique(table["cell"].to_numpy().astype(np.int64))
    check_cells(cells)
    if len({resolution_of(c) for c in cells.tolist()}) > 1:
        raise ValueError(f"{path.name}: cells must be of one H3 resolution.")
    return cells
