"""A plan into a cube on disk: chunk by chunk, resumed where it was killed, grown by new dates."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mimic.cube_journal import LOCK, Journal, Unit, digest_lines
from mimic.cube_plan import AXES, Plan, StepAxis, make_plan
from mimic.cube_sections import CubeConfig
from mimic.cube_store import (
    array_metadata,
    chunk_key,
    encode_chunk,
    group_metadata,
    metadata_bytes,
    remove_partial,
)
from mimic.cube_units import Told, build_unit, make_builder
from mimic.hexgrid import resolution_of
from mimic.identity import content_id
from mimic.locks import hold_lock
from mimic.tasks import Workers
from mimic.wholefile import write_whole

__all__ = ["build_cube"]

_TIME_CHUNK = 65_536  # steps of the time coordinate in one file


@dataclass(frozen=True)
class _Task:
    """A unit of work: a chunk of the variables of a group that share an axis, as far as they are not finished."""

    group: tuple[str, ...]
    axis: StepAxis
    chunk: int
    outputs: tuple[str, ...]


def build_cube(
    config: CubeConfig,
    out: Path,
    *,
    n_workers: int = 1,
    cluster: str | None = None,
    progress: Callable[..., None] = lambda *_: None,
) -> dict[str, Any]:
    """Build a cube, go on with one, or let it grow.

    Parameters
    ----------
    config
        What to build.
    out
        Folder of the Zarr store. An unfinished build of the same configuration goes on; a finished one grows by new
        dates and variables: chunks that are full are not written again.
    n_workers, cluster
        Processes on this machine, or the address of a dask scheduler whose workers see the same folders.
    progress
        Called with what, done, total and a note.

    Returns
    -------
    Plain values: cells, times, chunks, how many of them were written, and for each variable its files, gaps and share
    of missing values.

    Raises
    ------
    FileNotFoundError, ImportError, ValueError
        As `mimic.cube_plan.make_plan`; and if the folder holds something else, or a cube that is not the beginning of
        this one: the message says what differs.
    mimic.locks.LockedError
        If another process is building it.

    Notes
    -----
    Every file is written under another name and renamed. The metadata come last: until then readers find no cube, or
    the one before it grew. The bytes depend neither on kills nor on workers nor on the order of the work, and a cube
    that has grown is the same as one built at once. Chunks begin at the first date, so that new dates change no chunk
    but the last, where it was not full. A field is known by the name of its file, its number in it and its time: that
    a file has got another content under its old name is not noticed.
    """
    started = time.perf_counter()
    out = Path(out)
    _check_folder(out)
    known = Journal(out).header.get("step_days")
    plan = make_plan(config, step_days=known, progress=progress)  # before the lock: a refused one leaves no folder
    with hold_lock(out / LOCK, f"the cube {out}"):
        journal = Journal(out)
        if journal.header.get("step_days") != known:  # another process has begun it meanwhile
            plan = make_plan(config, step_days=journal.header.get("step_days"), progress=progress)
        header = _header(plan)
        _check_grows(journal.header, header, plan, out)
        remove_partial(out)
        journal.set_header(header)
        tasks, n_units = _tasks(plan, journal, header, out)
        n_done = n_units - sum(len(task.outputs) for task in tasks)
        progress("chunks", n_done, n_units, "")
        with _running(plan, out, tasks, n_workers, cluster) as results:
            for task, told in results:
                for name in task.outputs:
                    journal.add(_unit(plan, header, name, task, told[name]))
                n_done += len(task.outputs)
                progress("chunks", n_done, n_units, task.outputs[0])
        _finish(plan, out, journal)
    return _report(plan, out, journal, sum(len(t.outputs) for t in tasks), time.perf_counter() - started)


def _check_folder(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is a file; give another folder for the cube.")
    if out.is_dir() and any(out.iterdir()) and not (out / LOCK).exists():
        raise ValueError(f"{out} holds something that is not a cube of mimic; give another folder.")


# ---------------------------------------------------------------- what is there, what is to do


def _header(plan: Plan) -> dict[str, Any]:
    stamps = [] if plan.time is None else np.datetime_as_string(plan.time.stamps, unit="s").tolist()
    return {
        "cube": 1,
        "cells": digest_lines(map(str, plan.cells.tolist())),
        "n_cells": len(plan.cells),
        "chunk_steps": plan.chunk_steps,
        "step_days": None if plan.time is None else plan.time.step_days,
        "first": stamps[0] if stamps else None,
        "last": stamps[-1] if stamps else None,
        "n_times": len(stamps),
        "times": digest_lines(stamps),
        "definitions": {name: content_id(variable.definition) for name, variable in plan.variables.items()},
    }


def _check_grows(old: Mapping[str, Any], new: Mapping[str, Any], plan: Plan, out: Path) -> None:
    """Refuse a plan that the cube on disk is not the beginning of."""
    if not old:
        return
    faults = []
    if old["cells"] != new["cells"]:
        faults.append(f"other cells ({old['n_cells']:,} there, {new['n_cells']:,} now)")
    if old["chunk_steps"] != new["chunk_steps"]:
        faults.append(f"chunk_steps {old['chunk_steps']} there, {new['chunk_steps']} now")
    gone = [name for name in old["definitions"] if name not in new["definitions"]]
    if gone:
        faults.append(f"{', '.join(gone)} is not wanted any more")
    other = [n for n, d in old["definitions"].items() if new["definitions"].get(n, d) != d]
    if other:
        faults.append(f"{', '.join(other)} is made differently")
    stamps = [] if plan.time is None else np.datetime_as_string(plan.time.stamps[: old["n_times"]], unit="s").tolist()
    if digest_lines(stamps) != old["times"]:
        there = f"{old['n_times']} from {old['first']} to {old['last']}"
        now = f"{new['n_times']} from {new['first']} to {new['last']}"
        faults.append(f"its times ({there}) are not the first of those now ({now})")
    if faults:
        raise ValueError(
            f"{out} holds another cube: {'; '.join(faults)}. A cube grows by later dates and more variables only; for "
            "anything else give another folder with --out, or remove this one."
        )


def _tasks(plan: Plan, journal: Journal, header: Mapping[str, Any], out: Path) -> tuple[list[_Task], int]:
    """The work that is left, chunks of early steps first, and how many units the whole cube has."""
    tasks, n_units = [], 0
    for group in plan.groups:
        for axis in AXES:
            names = [name for name in group if plan.variables[name].axis == axis]
            for chunk in range(plan.n_chunks(axis) if names else 0):
                n_units += len(names)
                left = tuple(n for n in names if not _is_done(plan, journal, header, n, axis, chunk, out))
                if left:
                    tasks.append(_Task(group, axis, chunk, left))
    return sorted(tasks, key=lambda task: (AXES.index(task.axis), task.chunk)), n_units


def _is_done(
    plan: Plan, journal: Journal, header: Mapping[str, Any], name: str, axis: StepAxis, chunk: int, out: Path
) -> bool:
    """Whether a chunk is finished; an error where it is, of other files."""
    unit = journal.units.get((name, chunk))
    if unit is None or unit.definition != header["definitions"][name]:
        return False
    entries = plan.inputs_of(name, *plan.rows(axis, chunk))
    if digest_lines(entries[: unit.n_inputs]) != unit.inputs or len(entries) < unit.n_inputs:
        first, last = plan.rows(axis, chunk)
        when = "" if plan.time is None or axis != "time" else f" from {_day(plan, first)} to {_day(plan, last - 1)}"
        raise ValueError(
            f"{name}{when} was built of other files or steps than are there now. A cube grows by later dates only: "
            f"build {out.name} anew in another folder, or give the files it was built of."
        )
    return len(entries) == unit.n_inputs and unit.n == _size(plan, axis, chunk) and unit.is_whole(out)


def _size(plan: Plan, axis: StepAxis, chunk: int) -> int:
    first, last = plan.rows(axis, chunk)
    return (last - first) * len(plan.cells)


def _day(plan: Plan, row: int) -> str:
    return "" if plan.time is None else str(plan.time.rows[row])[:10]


def _unit(plan: Plan, header: Mapping[str, Any], name: str, task: _Task, told: Mapping[str, Any]) -> Unit:
    entries = plan.inputs_of(name, *plan.rows(task.axis, task.chunk))
    return Unit(name, task.chunk, header["definitions"][name], len(entries), digest_lines(entries), **told)


# ---------------------------------------------------------------- doing it


@contextmanager
def _running(
    plan: Plan, out: Path, tasks: Sequence[_Task], n_workers: int, cluster: str | None
) -> Iterator[Iterator[tuple[_Task, Told]]]:
    """What comes of the tasks, as they finish."""
    arguments = [(task.group, task.axis, task.chunk, task.outputs) for task in tasks]
    if not tasks or (cluster is None and n_workers == 1):
        builder = make_builder(plan, str(out))
        yield ((task, build_unit(builder, *given)) for task, given in zip(tasks, arguments, strict=True))
        return
    builder = make_builder(plan, str(out))
    for group in plan.groups:  # once, before workers ask for it
        for name in group:
            if plan.variables[name].kind == "anomaly" and len(plan.variables[name].inputs) == 1:
                builder.climatology(group, plan.variables[name])
    setup = ("mimic.cube_units:make_builder", (plan, str(out.resolve())))
    workers: Workers
    if cluster is not None:
        from mimic.cluster import DaskWorkers

        workers = DaskWorkers(cluster, setup=setup)
    else:
        from mimic.workers import LocalWorkers

        workers = LocalWorkers(min(n_workers, len(tasks)), setup=setup)
    with workers:
        yield _results(workers, tasks, arguments)


def _results(
    workers: Workers, tasks: Sequence[_Task], arguments: Sequence[tuple[Any, ...]]
) -> Iterator[tuple[_Task, Told]]:
    kinds = [task.group for task in tasks]
    for done in workers.run("mimic.cube_units:build_unit", arguments, affinity=kinds):
        if done.failed:
            raise ValueError(f"{', '.join(tasks[done.index].outputs)}: {done.value.message}")
        yield tasks[done.index], done.value


def _finish(plan: Plan, out: Path, journal: Journal) -> None:
    """Coordinates, then metadata: that of the store last, which switches readers over."""
    arrays = {name: _metadata(plan, name) for name in plan.variables}
    cells = plan.cells
    attributes = {"grid_name": "h3", "level": resolution_of(int(cells[0])), "long_name": "H3 cell"}
    arrays["cell"] = array_metadata([len(cells)], [len(cells)], "int64", ["cell"], attributes)
    write_whole(out / "cell" / chunk_key(0), encode_chunk(cells, [len(cells)]))
    if plan.time is not None:
        seconds = plan.time.stamps.astype("datetime64[s]").astype(np.int64)
        attributes = {"units": "seconds since 1970-01-01", "calendar": "proleptic_gregorian", "standard_name": "time"}
        arrays["time"] = array_metadata([len(seconds)], [_TIME_CHUNK], "int64", ["time"], attributes)
        for number, first in enumerate(range(0, len(seconds), _TIME_CHUNK)):
            raw = encode_chunk(seconds[first : first + _TIME_CHUNK], [_TIME_CHUNK])
            write_whole(out / "time" / chunk_key(number), raw)
    if any(variable.axis == "month" for variable in plan.variables.values()):
        arrays["month"] = array_metadata([12], [12], "int64", ["month"], {"long_name": "calendar month"})
        write_whole(out / "month" / chunk_key(0), encode_chunk(np.arange(1, 13), [12]))
    for name, metadata in sorted(arrays.items()):
        write_whole(out / name / "zarr.json", metadata_bytes(metadata))
    journal.settle()
    write_whole(out / "zarr.json", metadata_bytes(group_metadata(arrays, plan.attributes)))
    remove_partial(out)


def _metadata(plan: Plan, name: str) -> dict[str, Any]:
    variable = plan.variables[name]
    n, width = len(plan.cells), plan.chunk_cells
    if variable.axis == "static":
        return array_metadata([n], [width], "float32", ["cell"], variable.attributes)
    steps = plan.chunk_steps if variable.axis == "time" else 12
    shape = [plan.n_steps(variable.axis), n]
    return array_metadata(shape, [steps, width], "float32", [variable.axis, "cell"], variable.attributes)


def _report(plan: Plan, out: Path, journal: Journal, n_written: int, seconds: float) -> dict[str, Any]:
    variables = {}
    for name, variable in plan.variables.items():
        units = [unit for (of, _), unit in sorted(journal.units.items()) if of == name]
        n = sum(unit.n for unit in units)
        made = {} if variable.files is None else variable.files.report
        variables[name] = {
            "units": variable.attributes.get("units"),
            "steps": variable.axis,
            **{k: v for k, v in made.items() if k != "steps"},
            "share_missing": sum(unit.missing for unit in units) / n if n else None,
        }
    return {
        "cube": str(out),
        "n_cells": len(plan.cells),
        "level": resolution_of(int(plan.cells[0])),
        "n_times": plan.n_steps("time"),
        "first": journal.header["first"],
        "last": journal.header["last"],
        "n_chunks": len(journal.units),
        "n_written": n_written,
        "variables": variables,
        "seconds": round(seconds, 3),
    }
