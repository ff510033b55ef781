"""Many files of one variable into one time axis on one grid, read in blocks of bounded size."""

from __future__ import annotations

import glob
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import xarray as xr

from mimic.axes import normalize_axes
from mimic.file_layers import Layers, combine
from mimic.file_source import STEPS, Source, base_name, check_same, list_file
from mimic.grid_values import MISSING_ABOVE, read_points

__all__ = ["FileSet", "Source", "find_files", "open_files"]

MAX_EXAMPLES = 5
_GAP = 1.5  # in median steps


@dataclass(frozen=True, eq=False)
class FileSet:
    """The steps of a source: where each is, in ascending order.

    Parameters
    ----------
    source
        What was opened.
    axis
        What the steps are: times, months of a climatology, or a single one of a static field.
    stamps
        (step,): datetime64[ns], whole seconds; months 1 to 12; or one zero.
    file, position
        (step,): number of the file in the source's paths, and of the step in the file.
    coordinates
        Of the grid: (latitude, longitude) or (y, x), each name -> values.
    crs
        Of y and x; None in degrees.
    layers
        The levels that make one value.
    attributes
        `units`, `long_name` and `level`, where known.
    n_overlaps
        Steps left out because an earlier file has their stamp.
    """

    source: Source
    axis: Literal["time", "month", "static"]
    stamps: np.ndarray
    file: np.ndarray
    position: np.ndarray
    coordinates: Mapping[str, np.ndarray]
    crs: str | None
    layers: Layers
    attributes: Mapping[str, str]
    n_overlaps: int = 0

    @cached_property
    def grid(self) -> xr.DataArray:
        """A field of the grid without values, for `mimic.regrid.regrid_matrix`."""
        shape = tuple(len(values) for values in self.coordinates.values())
        nothing = np.broadcast_to(np.float32(0), shape)
        return xr.DataArray(
            nothing, dict(self.coordinates), tuple(self.coordinates), attrs={"crs": self.crs} if self.crs else {}
        )

    @property
    def gaps(self) -> list[tuple[str, str]]:
        """The stamps between which steps are missing: farther apart than one and a half median steps."""
        if self.axis != "time" or len(self.stamps) < 3:
            return []
        apart = np.diff(self.stamps.astype(np.int64))
        return [
            (str(self.stamps[i])[:19], str(self.stamps[i + 1])[:19])
            for i in np.flatnonzero(apart > _GAP * np.median(apart))
        ]

    @property
    def report(self) -> dict[str, Any]:
        """What was found, in plain values."""
        is_dated = self.axis == "time" and len(self.stamps) > 0
        return {
            "n_files": len(self.source.paths),
            "steps": self.axis,
            "n_steps": len(self.stamps),
            "first": str(self.stamps[0])[:19] if is_dated else None,
            "last": str(self.stamps[-1])[:19] if is_dated else None,
            "n_gaps": len(self.gaps),
            "gaps": self.gaps[:MAX_EXAMPLES],
            "n_overlaps": self.n_overlaps,
            "grid": [len(values) for values in self.coordinates.values()],
        }

    def read(self, first: int, last: int, points: np.ndarray, *, most_values: int) -> Iterator[tuple[int, np.ndarray]]:
        """Blocks of steps at some grid points.

        Parameters
        ----------
        first, last
            Steps [first, last).
        points
            (point,), as `mimic.regrid.regrid_matrix` numbers them.
        most_values
            Values held at once, about; at least one row of the grid is read.

        Yields
        ------
        The number of a block's first step, and its values (step, point), float64, NaN where missing, converted.

        Raises
        ------
        ValueError
            If a file is damaged, or not what it was when it was listed; it is named.
        """
        columns = np.unique(points % self.grid.shape[1]) if len(points) else np.zeros(1)
        wide = len(np.unique(points // self.grid.shape[1])) * int(columns[-1] - columns[0] + 1)
        size = max(1, most_values // max(1, len(points) * (len(self.layers.levels) + 3) + wide))
        for low, high in _runs(self.file[first:last], self.position[first:last]):
            low, high = low + first, high + first
            path = self.source.paths[self.file[low]]
            try:
                dataset, name = self.source.open(path)
                with closing(dataset):
                    for start in range(low, high, size):
                        stop = min(start + size, high)
                        yield start, self._values(dataset, name, start, stop, points, most_values)
            except (OSError, RuntimeError, ValueError, KeyError, IndexError) as error:
                said = (str(error).splitlines() or [type(error).__name__])[0]
                raise ValueError(
                    f"{path} cannot be read: {said.rstrip('.')}. It may be damaged; fetch it again."
                ) from error

    def _values(
        self, dataset: xr.Dataset, name: str, start: int, stop: int, points: np.ndarray, most_values: int
    ) -> np.ndarray:
        begin = int(self.position[start])
        parts = []
        for level in self.layers.levels:
            steps = normalize_axes(dataset, name, self.source.crs, level, name)
            steps = steps[begin : begin + stop - start] if steps.ndim == 3 else steps.expand_dims("step")
            if steps.shape[1:] != self.grid.shape or steps.shape[0] != stop - start:
                raise ValueError(f"it has the shape {steps.shape} now; {(stop - start, *self.grid.shape)} when listed")
            values = read_points(steps, points, block=max(1, most_values // 2))
            parts.append(np.where(np.abs(values) < MISSING_ABOVE, values, np.nan))
        values = combine(parts, self.layers)
        source = self.source
        if source.codes is not None:
            return np.where(np.isfinite(values), np.isin(values, source.codes), np.nan)
        return values if (source.multiply, source.add) == (1.0, 0.0) else values * source.multiply + source.add


def find_files(patterns: Sequence[str], where: str) -> tuple[str, ...]:
    """The files that paths and glob patterns mean, those of a pattern sorted by name, each once.

    Raises
    ------
    ValueError
        If a path does not exist or a pattern fits nothing.
    """
    found: dict[str, None] = {}
    for pattern in patterns:
        there = sorted(glob.glob(pattern, recursive=True)) if glob.has_magic(pattern) else [pattern]
        there = [path for path in there if Path(path).exists()]
        if not there:
            raise ValueError(f"{where}: no file {pattern}. Check the path, or the pattern.")
        found |= dict.fromkeys(there)
    return tuple(found)


def open_files(source: Source) -> FileSet:
    """The steps of a source; only axes are read.

    Raises
    ------
    FileNotFoundError, ImportError, ValueError
        As `mimic.grids.open_field`; and if files have different grids, levels, units or kinds of steps, stamps
        repeat, or there is no time where there are several files. Both files are named.
    """
    listed = [list_file(source, path) for path in source.paths]
    first = listed[0]
    for other in listed[1:]:
        check_same(first, other, source.name)
    kinds = {one.axis for one in listed}
    if len(kinds) > 1 or (kinds == {"static"} and len(listed) > 1):
        odd = next(one for one in listed if one.axis != first.axis or (one.axis == "static" and one is not first))
        raise ValueError(
            f"{source.name}: {base_name(first.path)} holds {STEPS[first.axis]}, {base_name(odd.path)} {STEPS[odd.axis]}; many "
            "files need a time each: in the file, or in its name by time_pattern."
        )
    stamps = np.concatenate([one.stamps for one in listed])
    file = np.repeat(np.arange(len(listed)), [len(one.stamps) for one in listed])
    position = np.concatenate([np.arange(len(one.stamps)) for one in listed])
    order = np.lexsort((position, file, stamps))
    stamps, file, position = stamps[order], file[order], position[order]
    repeated = np.append(False, stamps[1:] == stamps[:-1])
    inside = repeated & np.append(False, file[1:] == file[:-1])
    if inside.any() or (repeated.any() and source.overlap == "refuse"):
        at = int(np.flatnonzero(inside if inside.any() else repeated)[0])
        one, two = (base_name(source.paths[file[i]]) for i in (at - 1, at))
        raise ValueError(
            f"{source.name}: {int(repeated.sum())} steps are there twice, such as {str(stamps[at])[:19]} in {one} and "
            f"{two}. Leave one of them out, or set overlap: first to take that of the file named first."
        )
    keep = ~repeated
    if first.axis == "month" and stamps[keep].tolist() != list(range(1, 13)):
        months = ", ".join(map(str, stamps[keep].tolist()))
        raise ValueError(f"{source.name}: a climatology needs the twelve months; got {months}.")
    return FileSet(
        source, first.axis, stamps[keep], file[keep], position[keep], first.coordinates, first.crs, first.layers,
        first.attributes, int(repeated.sum()),
    )  # fmt: skip


def _runs(file: np.ndarray, position: np.ndarray) -> Iterator[tuple[int, int]]:
    """Ranges of steps that lie one after the other in one file."""
    if len(file) == 0:
        return
    breaks = np.flatnonzero((np.diff(file) != 0) | (np.diff(position) != 1)) + 1
    edges = [0, *breaks.tolist(), len(file)]
    yield from pairwise(edges)
