"""A plan and a chunk of steps into values on cells, and into the chunk's files: what workers do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from mimic.cell_graph import CellGraph
from mimic.cube_plan import Plan, StepAxis, Variable
from mimic.cube_store import chunk_key, encode_chunk
from mimic.derived import derive
from mimic.filesets import FileSet
from mimic.grid_values import used_points, weigh
from mimic.regions import surrounding
from mimic.regrid import regrid_matrix
from mimic.vector_layers import distance_to_layer, distance_to_shore
from mimic.wholefile import write_whole

__all__ = ["Builder", "build_unit", "make_builder"]

Told = dict[str, dict[str, Any]]
"""Variable -> what was written: files (key -> digest and size), values and missing ones."""

_MIN_POINTS = 3  # of a class share that is a mean over grid points


class Builder:
    """What makes values of one plan; weights, halos and fields without dates are kept between units.

    Parameters
    ----------
    plan
        What to make.
    folder
        Of the store.
    """

    def __init__(self, plan: Plan, folder: Path) -> None:
        self.plan, self.folder = plan, folder
        self._regions: dict[tuple[str, ...], _Region] = {}

    def region(self, group: Sequence[str]) -> _Region:
        """The cells of a group of variables: those of the cube, and those around it."""
        key = tuple(group)
        if key not in self._regions:
            self._regions[key] = _Region(self.plan, key)
        return self._regions[key]

    def write(self, group: Sequence[str], axis: StepAxis, chunk: int, outputs: Sequence[str]) -> Told:
        """Compute a chunk of some variables and write its files."""
        plan, region = self.plan, self.region(group)
        first, last = plan.rows(axis, chunk)
        values = self.values(group, outputs, first, last)
        told = {}
        for name in outputs:
            own = values[name][:, region.own]
            told[name] = {
                "files": self._write_chunk(name, axis, chunk, own),
                "n": int(own.size),
                "missing": int(np.isnan(own).sum()),
            }
        return told

    def _write_chunk(self, name: str, axis: StepAxis, chunk: int, values: np.ndarray) -> dict[str, Any]:
        width = self.plan.chunk_cells
        written = {}
        for number, low in enumerate(range(0, values.shape[1], width)):
            part = values[:, low : low + width]
            if axis == "static":
                key, raw = chunk_key(number), encode_chunk(part[0], (width,))
            else:
                steps = self.plan.chunk_steps if axis == "time" else 12
                key, raw = chunk_key(chunk, number), encode_chunk(part, (steps, width))
            written[key] = [write_whole(self.folder / name / key, raw), len(raw)]
        return written

    def values(self, group: Sequence[str], outputs: Sequence[str], first: int, last: int) -> dict[str, np.ndarray]:
        """Some variables on the rows [first, last) and the cells of the group's region: each (step, cell), float32."""
        needed = self.plan.needed(outputs, first, last)
        made: dict[str, np.ndarray] = {}
        for name, (low, high) in needed.items():
            made[name] = self._make(group, self.plan.variables[name], low, high, made, needed)
        return {
            name: made[name][first - needed[name][0] : last - needed[name][0]]
            if self.plan.variables[name].axis == "time"
            else made[name]
            for name in outputs
        }

    def _make(
        self,
        group: Sequence[str],
        variable: Variable,
        low: int,
        high: int,
        made: dict[str, np.ndarray],
        needed: dict[str, tuple[int, int]],
    ) -> np.ndarray:
        region = self.region(group)
        if variable.files is None and not variable.inputs:
            return region.once(variable.name, lambda: _distances(variable, region.cells))
        if variable.files is not None:
            files = variable.files
            if variable.axis == "time":
                return self._read(region, files, low, high)
            return region.once(variable.name, lambda: self._read(region, files, low, high))
        begin = self.plan.first_needed(variable, low)
        inputs = []
        for made_of in variable.inputs:
            is_dated = self.plan.variables[made_of].axis == "time"
            since = needed[made_of][0]
            inputs.append(made[made_of][begin - since : high - since] if is_dated else made[made_of])
        options = dict(variable.options or {})
        if variable.kind == "anomaly" and len(inputs) == 1:
            inputs.append(self.climatology(group, variable))
            options["base"] = None
        times = None if variable.axis != "time" or self.plan.time is None else self.plan.time.rows[begin:high]
        result = derive(variable.kind, inputs, graph=region.graph, times=times, options=options)
        return result[low - begin :] if variable.axis == "time" else result

    def _read(self, region: _Region, files: FileSet, low: int, high: int) -> np.ndarray:
        """A variable from its files: (row, cell), float32; means where several stamps belong to a row."""
        points, weights = region.weights(files)
        begin, end = 0, len(files.stamps)
        row = np.arange(end)
        if files.axis == "time" and self.plan.time is not None:
            row = self.plan.time.row_of(files.stamps)
            begin, end = int(np.searchsorted(row, low)), int(np.searchsorted(row, high))
        total, count = np.zeros((high - low, len(region.cells))), np.zeros((high - low, len(region.cells)), np.int32)
        most = max(1, self.plan.memory_mb * 1_000_000 // 48)  # of 8 bytes, with copies
        for start, values in files.read(begin, end, points, most_values=most):
            on_cells = weigh(weights, values)
            for step, field in enumerate(on_cells, start):
                finite = np.isfinite(field)
                total[row[step] - low] += np.where(finite, field, 0.0)
                count[row[step] - low] += finite
        with np.errstate(invalid="ignore"):
            return (total / np.where(count > 0, count, np.nan)).astype(np.float32)

    def climatology(self, group: Sequence[str], variable: Variable) -> np.ndarray:
        """The monthly means that an anomaly with a base period is taken from: (12, cell), January first.

        Kept in the store: when the cube has grown, the files of the base period may be gone.
        """
        region, (name,) = self.region(group), variable.inputs
        path = self.folder / variable.name / f".climatology-{region.digest}.npy"
        return region.once(
            f"climatology of {variable.name}",
            lambda: np.load(path) if path.exists() else self._means(path, group, variable, name),
        )

    def _means(self, path: Path, group: Sequence[str], variable: Variable, name: str) -> np.ndarray:
        import io

        if self.plan.time is None:
            raise RuntimeError("an anomaly without a time axis: a fault of mimic.")
        days = self.plan.time.rows.astype("datetime64[D]")
        low, high = (np.datetime64(str(day), "D") for day in (variable.options or {})["base"])
        inside = np.flatnonzero((days >= low) & (days <= high))
        if len(inside) == 0:
            raise ValueError(
                f"{variable.name}: no step lies in its base period {low} to {high}; steps: {days[0]} to {days[-1]}."
            )
        n_cells = len(self.region(group).cells)
        total, count = np.zeros((12, n_cells)), np.zeros((12, n_cells))
        for first in range(int(inside[0]), int(inside[-1]) + 1, self.plan.chunk_steps):
            last = min(first + self.plan.chunk_steps, int(inside[-1]) + 1)
            values = self.values(group, [name], first, last)[name]
            for month, field in zip(
                days[first:last].astype("datetime64[M]").astype(np.int64) % 12, values, strict=True
            ):
                finite = np.isfinite(field)
                total[month] += np.where(finite, field, 0.0)
                count[month] += finite
        means = np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
        buffer = io.BytesIO()
        np.save(buffer, means)
        write_whole(path, buffer.getvalue())
        return means


class _Region:
    """The cells of a group, sorted, with what is made once for them."""

    def __init__(self, plan: Plan, group: Sequence[str]) -> None:
        rings = plan.rings(group)
        self.inner, self.outer = plan.cells, surrounding(plan.cells, rings) if rings else np.zeros(0, dtype=np.int64)
        both = np.concatenate([self.inner, self.outer])
        self._order = np.argsort(both, kind="stable")
        self.cells = both[self._order]
        self.own = np.searchsorted(self.cells, self.inner)
        self._weights: dict[str, tuple[np.ndarray, sparse.csr_array]] = {}
        self._made: dict[str, np.ndarray] = {}

    @cached_property
    def graph(self) -> CellGraph:
        return CellGraph.of(self.cells)

    @cached_property
    def digest(self) -> str:
        import hashlib

        return hashlib.sha256(self.cells.tobytes()).hexdigest()[:8]

    def once(self, name: str, make: Callable[[], np.ndarray]) -> np.ndarray:
        """What does not depend on dates, made at the first call."""
        if name not in self._made:
            self._made[name] = make()
        return self._made[name]

    def weights(self, files: FileSet) -> tuple[np.ndarray, sparse.csr_array]:
        """The grid points that a variable needs, and their weights on the cells."""
        if files.source.name not in self._weights:
            # By themselves, so that values in the region do not depend on what lies around it.
            parts = [_matrix(files, cells) for cells in (self.inner, self.outer) if len(cells)]
            whole = sparse.csr_array(sparse.vstack(parts))[self._order]
            self._weights[files.source.name] = used_points(sparse.csr_array(whole))
        return self._weights[files.source.name]


def _matrix(files: FileSet, cells: np.ndarray) -> sparse.csr_array:
    method = files.source.method
    if files.source.codes is None or method != "auto":
        return regrid_matrix(files.grid, cells, method=method)
    # between two classes there is nothing: shares are of grid points, or of samples where points are few
    mean, area = (regrid_matrix(files.grid, cells, method=m) for m in ("mean", "area"))  # type: ignore[arg-type]
    several = np.diff(mean.indptr) >= _MIN_POINTS
    mixed = sparse.csr_array(sparse.diags_array(several * 1.0) @ mean + sparse.diags_array(~several * 1.0) @ area)
    mixed.eliminate_zeros()
    mixed.sort_indices()
    return mixed


def _distances(variable: Variable, cells: np.ndarray) -> np.ndarray:
    options = dict(variable.options or {})
    file = options.pop("file", None)
    if variable.kind == "distance_to_shore":
        return distance_to_shore(cells, file)[None]
    return distance_to_layer(file, cells, **options)[None]


def make_builder(plan: Plan, folder: str) -> Builder:
    """The setup of a worker."""
    return Builder(plan, Path(folder))


def build_unit(builder: Builder, group: tuple[str, ...], axis: StepAxis, chunk: int, outputs: tuple[str, ...]) -> Told:
    """The task of a worker: see `Builder.write`."""
    return builder.write(group, axis, chunk, outputs)
