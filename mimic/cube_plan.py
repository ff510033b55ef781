"""The configuration of a cube and its files into a plan: cells, time axis, variables and how each is made."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from mimic.cube_axis import TimeAxis, time_axis
from mimic.cube_cells import cells_of
from mimic.cube_sections import LAYER_KINDS, CubeConfig, VariableConfig, level_name
from mimic.derived import KINDS
from mimic.filesets import FileSet, Source, find_files, open_files
from mimic.hexgrid import centroids
from mimic.identity import content_id
from mimic.regrid import regrid_matrix

__all__ = ["AXES", "CHUNK_CELLS", "Plan", "StepAxis", "Variable", "make_plan"]

CHUNK_CELLS = 65_536
"""Cells in a chunk, at most."""

StepAxis = Literal["time", "month", "static"]
AXES: tuple[StepAxis, ...] = ("static", "month", "time")


@dataclass(frozen=True, eq=False)
class Variable:
    """A variable of the cube and how it is made: of files, of shapes, or of other variables.

    Parameters
    ----------
    name, axis
        What it is called, and what its steps are.
    definition
        All that decides on its values but the files and the end of the time axis; of JSON types.
    attributes
        Of the array in the store.
    files
        Where its values are read, if from files.
    kind, inputs, options
        Else how it is derived; see `mimic.derived` and `mimic.vector_layers`.
    """

    name: str
    axis: StepAxis
    definition: Mapping[str, Any]
    attributes: Mapping[str, Any]
    files: FileSet | None = None
    kind: str = ""
    inputs: tuple[str, ...] = ()
    options: Mapping[str, Any] | None = None


@dataclass(frozen=True, eq=False)
class Plan:
    """All there is to know to build a cube; sent to workers.

    Parameters
    ----------
    cells
        (cell,), int64, sorted.
    time
        The steps; None without dated variables.
    variables
        Name -> variable, each after those it is made of.
    chunk_steps
        Steps in a chunk.
    memory_mb
        What reading and computing may hold, about, MB.
    attributes
        Of the store.
    """

    cells: np.ndarray
    time: TimeAxis | None
    variables: Mapping[str, Variable]
    chunk_steps: int
    memory_mb: int
    attributes: Mapping[str, Any]

    @property
    def chunk_cells(self) -> int:
        return min(len(self.cells), CHUNK_CELLS)

    def n_steps(self, axis: StepAxis) -> int:
        """Steps of the cube along an axis."""
        if axis == "time":
            return 0 if self.time is None else len(self.time.stamps)
        return 12 if axis == "month" else 1

    def n_chunks(self, axis: StepAxis) -> int:
        """Chunks along an axis; months, and a static field, are one."""
        return -(-self.n_steps(axis) // self.chunk_steps) if axis == "time" else 1

    def rows(self, axis: StepAxis, chunk: int) -> tuple[int, int]:
        """The rows of a chunk, history before the first step of the cube counted: [first, last)."""
        if axis != "time" or self.time is None:
            return 0, self.n_steps(axis)
        first = self.time.n_before + chunk * self.chunk_steps
        return first, min(first + self.chunk_steps, len(self.time.rows))

    @cached_property
    def groups(self) -> list[tuple[str, ...]]:
        """Variables that are computed together, since one is made of the other."""
        group_of = {name: {name} for name in self.variables}
        for variable in self.variables.values():
            for made_of in variable.inputs:
                merged = group_of[variable.name] | group_of[made_of]
                for member in merged:
                    group_of[member] = merged
        found: dict[int, set[str]] = {id(group): group for group in group_of.values()}
        return [tuple(n for n in self.variables if n in group) for group in found.values()]

    def rings(self, group: Sequence[str]) -> int:
        """Rings of cells around the region that a group needs."""
        around = dict.fromkeys(group, 0)
        for name in reversed(group):
            variable = self.variables[name]
            kind = KINDS.get(variable.kind)
            for made_of in variable.inputs:
                own = kind.rings(variable.options or {}) if kind is not None else 0
                around[made_of] = max(around[made_of], around[name] + own)
        return max(around.values())

    def needed(self, outputs: Sequence[str], first: int, last: int) -> dict[str, tuple[int, int]]:
        """The rows of every variable that some outputs on the rows [first, last) need."""
        ranges = dict.fromkeys(outputs, (first, last))
        for name in reversed(list(self.variables)):
            if name not in ranges:
                continue
            variable = self.variables[name]
            low, high = ranges[name]
            for made_of in variable.inputs:
                axis = self.variables[made_of].axis
                wanted = (self.first_needed(variable, low), high) if axis == "time" else (0, self.n_steps(axis))
                known = ranges.get(made_of, wanted)
                ranges[made_of] = (min(known[0], wanted[0]), max(known[1], wanted[1]))
        return {name: ranges[name] for name in self.variables if name in ranges}

    def first_needed(self, variable: Variable, row: int) -> int:
        """The first row of its dated inputs that a variable needs for its values from some row on."""
        kind = KINDS.get(variable.kind)
        if kind is None or self.time is None or not kind.is_temporal:
            return row
        n = kind.steps_before(variable.options or {}, step_days=self.time.step_days)
        # by time too: where steps lie closer than usual a window holds more of them
        since = self.time.rows[row] - np.timedelta64(round(n * self.time.step_days * 86_400_000_000_000), "ns")
        return max(0, min(row - n, int(np.searchsorted(self.time.rows, since))))

    def inputs_of(self, name: str, first: int, last: int) -> list[str]:
        """The fields of files that a variable on the rows [first, last) is made of, in the order of their stamps."""
        found: list[tuple[int, str, str]] = []
        for made_of, (low, high) in self.needed([name], first, last).items():
            files = self.variables[made_of].files
            if files is None:
                continue
            begin, end = (0, len(files.stamps)) if files.axis != "time" else self._steps(files, low, high)
            for step in range(begin, end):
                stamp = int(files.stamps[step].astype(np.int64)) if files.axis == "time" else -(2**62)
                file = Path(files.source.paths[files.file[step]]).name
                found.append((stamp, made_of, f"{file}[{files.position[step]}]"))
        return [json.dumps(entry) for entry in sorted(found)]

    def _steps(self, files: FileSet, low: int, high: int) -> tuple[int, int]:
        if self.time is None:
            raise RuntimeError("a dated variable without a time axis: a fault of mimic.")
        row = self.time.row_of(files.stamps)
        return int(np.searchsorted(row, low)), int(np.searchsorted(row, high))


def make_plan(
    config: CubeConfig,
    *,
    step_days: float | None = None,
    progress: Callable[..., None] = lambda *_: None,
) -> Plan:
    """Find the files, cells and steps of a cube; only axes and tracks are read.

    Parameters
    ----------
    step_days
        Days between steps that an earlier build of the cube has settled on; by default the median.
    progress
        Called with what, done, total and a note.

    Raises
    ------
    FileNotFoundError, ImportError, ValueError
        As `mimic.filesets.open_files`; and if there are no cells or no steps, no cell lies on the grid of a variable,
        variables have other steps than each other, or a derived variable cannot be made of those it names.
    """
    cells = cells_of(config.cells)
    sources = [source for name, section in config.variables.items() for source in _sources(name, section)]
    file_sets: dict[str, FileSet] = {}
    for number, source in enumerate(sources):
        progress("files", number, len(sources), source.name)
        file_sets[source.name] = open_files(source)
    progress("files", len(sources), len(sources), "")
    _check_reach(file_sets, cells)
    dated = {name: files.stamps for name, files in file_sets.items() if files.axis == "time"}
    time = time_axis(dated, config.time, step_days=step_days) if dated else None
    variables = {name: _of_files(files, config) for name, files in file_sets.items()}
    for name in config.derived_in_order:
        variables[name] = _derived(name, config, variables, time)
    described = {name: content_id(variable.definition) for name, variable in variables.items()}
    attributes = {
        "mimic_cube": 1,
        "name": config.name,
        "configuration": content_id({"variables": described, "time": config.time.model_dump(mode="json")}),
    }
    if config.description:
        attributes["description"] = " ".join(config.description.split())
    plan = Plan(cells, time, variables, config.chunk_steps, config.memory_mb, attributes)
    _check_memory(plan)
    return plan


# ---------------------------------------------------------------- variables


def _sources(name: str, section: VariableConfig) -> list[Source]:
    """The sources of one entry: one for each variable that it becomes."""
    patterns = [section.files] if isinstance(section.files, str) else section.files
    common: dict[str, Any] = {
        "paths": find_files(patterns, name),
        "variable": section.variable,
        "crs": section.crs,
        "method": section.method,
        "unit": section.unit,
        "multiply": section.convert.multiply,
        "add": section.convert.add,
        "time_pattern": section.time_pattern,
        "band_times": section.band_times,
        "overlap": section.overlap,
    }
    if section.levels:
        dim, values = next(iter(section.levels.items()))
        return [Source(f"{name}_{level_name(v)}", level={**section.level, dim: v}, **common) for v in values]
    if section.classes:
        return [
            Source(f"{name}_{label}", level=section.level, codes=tuple(codes), **{**common, "unit": "1"})
            for label, codes in section.classes.items()
        ]
    return [Source(name, level=section.level, **common)]


def _of_files(files: FileSet, config: CubeConfig) -> Variable:
    source = files.source
    names = [Path(path).name for path in source.paths]
    told = ", ".join(names) if len(names) <= 4 else f"{names[0]} to {names[-1]} ({len(names)} files)"
    units = source.unit or files.attributes.get("units")
    attributes = {
        **({"units": units} if units else {}),
        "long_name": files.attributes.get("long_name", source.name),
        "source": told,
        "method": source.method,
        **({"level": files.attributes["level"]} if "level" in files.attributes else {}),
    }
    definition = {
        "variable": source.variable,
        "crs": source.crs,
        "level": {k: list(v) if isinstance(v, tuple) else v for k, v in source.level.items()},
        "method": source.method,
        "unit": units,
        "multiply": source.multiply,
        "add": source.add,
        "codes": source.codes,
        "axis": files.axis,
        "step": config.time.step if files.axis == "time" else None,
    }
    return Variable(source.name, files.axis, definition, attributes, files)


def _derived(name: str, config: CubeConfig, known: Mapping[str, Variable], time: TimeAxis | None) -> Variable:
    section = config.derived[name]
    if section.kind in LAYER_KINDS:
        shown = {k: Path(v).name if k == "file" else v for k, v in section.options.items()}
        attributes = {
            "units": "km",
            "long_name": section.kind.replace("_", " "),
            "source": shown.get("file", "shipped"),
        }
        return Variable(
            name,
            "static",
            {"kind": section.kind, "options": shown},
            attributes,
            None,
            section.kind,
            (),
            section.options,
        )
    kind = KINDS[section.kind]
    inputs = [known[made_of] for made_of in section.inputs]
    axes = {variable.axis for variable in inputs[: kind.n_inputs]}
    axis: StepAxis = "time" if "time" in axes else "month" if "month" in axes else "static"
    if kind.is_temporal and axis != "time":
        raise ValueError(f"derived.{name}: {section.kind} needs a variable with dates; {inputs[0].name} has none.")
    if axis == "time" and "month" in axes:
        raise ValueError(f"derived.{name}: {section.kind} cannot mix dates and months; use anomaly for a climatology.")
    if kind.name == "anomaly" and len(inputs) > 1 and inputs[1].axis != "month":
        raise ValueError(f"derived.{name}: the climatology {inputs[1].name} needs twelve months.")
    options = kind.with_defaults(section.options)
    if time is not None and kind.is_temporal:  # settled once: what a chunk holds must not decide
        usual = {"max_gap_days": 1.5 * time.step_days, "step_days": time.step_days}
        options |= {k: v for k, v in usual.items() if k in options and options[k] is None}
    units = section.unit or kind.unit([str(v.attributes.get("units", "1")) for v in inputs], options)
    attributes = {"units": units, "long_name": f"{section.kind} of {', '.join(section.inputs)}", "source": "derived"}
    definition = {
        "kind": section.kind,
        "of": [dict(variable.definition) for variable in inputs],
        "options": options,
        "unit": units,
    }
    return Variable(name, axis, definition, attributes, None, section.kind, tuple(section.inputs), options)


def _check_reach(file_sets: Mapping[str, FileSet], cells: np.ndarray) -> None:
    """Refuse files whose grid does not reach a single cell: of a whole cube of missing values nobody learns why."""
    few = cells[:: max(1, len(cells) // 500)]
    for name, files in file_sets.items():
        # a few cells tell it fast; the whole matrix, which the build will need, only where they say no
        if regrid_matrix(files.grid, few, method="nearest").nnz or regrid_matrix(files.grid, cells).nnz:
            continue
        spans = [f"{axis} {v.min():g} to {v.max():g}" for axis, v in reversed(list(files.coordinates.items()))]
        longitude, latitude = centroids(cells)
        raise ValueError(
            f"{name}: the grid of {Path(files.source.paths[0]).name} ({', '.join(spans)}) reaches none of the cells "
            f"(longitude {longitude.min():.4g} to {longitude.max():.4g}, latitude {latitude.min():.4g} to "
            f"{latitude.max():.4g}). Check the box (west, south, east, north), the crs, or the axes of the file."
        )


def _check_memory(plan: Plan) -> None:
    """Refuse chunks that a unit of work cannot hold."""
    for group in plan.groups:
        rows = {n: high - low for n, (low, high) in plan.needed(group, *plan.rows("time", 0)).items()}
        n_cells = len(plan.cells) * (1 + 2 * plan.rings(group) / max(1.0, len(plan.cells) ** 0.5))
        held = sum(n * n_cells * 4 for n in rows.values()) + max(rows.values()) * n_cells * 16
        if held > plan.memory_mb * 0.5e6 and plan.n_steps("time"):
            raise ValueError(
                f"a chunk of {plan.chunk_steps} steps of {', '.join(group)} needs about {held / 1e6:.0f} MB beside what is "
                f"being read; memory_mb is {plan.memory_mb}. Lower chunk_steps or raise memory_mb."
            )
