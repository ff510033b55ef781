"""Daily fields onto H3 cells against `xarray.groupby` and a loop, and what kill -9 costs the build of a cube.

A year of a 720 x 360 grid, one value in ten missing and others each day, becomes means of the grid points in each of
8,000 cells of resolution 3: by the one sparse matrix of `mimic.regrid`, by `xarray.groupby` over the cell of each grid
point, and by a loop over the cells with `numpy.nanmean`. Every case runs in a process of its own on the same file, and
the results are compared. The steps are the same for all cases, so that ratios are of equal work.

The case `kills`: a cube of daily files is built undisturbed; another is killed by SIGKILL again and again at drawn
moments, each time built on, and compared with the first byte by byte.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from parts.output import emitter, peak_memory_mib, say

# The parent stays small and imports the standard library only: on Linux the peak memory that a child reports is
# at least that of the process it was started from.
if TYPE_CHECKING:
    import numpy as np
    import xarray as xr

N_STEPS = {"quick": 30, "full": 365}
N_KILLS = {"quick": 3, "full": 10}
N_DAYS = {"quick": 40, "full": 150}
CASES = ("ours", "groupby", "loop")
N_CELLS, RESOLUTION = 8_000, 3
MISSING = 0.1
CUBE = """
name: kills
cells: {{resolution: 4, box: [170, 40, 200, 60]}}
chunk_steps: 2
variables:
  sst: {{files: {folder}/sst_*.nc}}
derived:
  front: {{kind: front, of: sst}}
  week: {{kind: trailing_mean, of: sst, options: {{days: 7}}}}
"""
emit = emitter("covariates")


# ---------------------------------------------------------------- onto cells


def prepare(folder: Path, n_steps: int) -> None:
    """The fields, (time, latitude, longitude), float32, and the cells."""
    import numpy as np

    from mimic.hexgrid import cell_at

    rng = np.random.default_rng(0)
    values = rng.normal(15.0, 5.0, size=(n_steps, 360, 720)).astype(np.float32)
    values[rng.random(values.shape, dtype=np.float32) < MISSING] = np.nan
    np.save(folder / "fields.npy", values)
    longitude, latitude = np.meshgrid(np.arange(130.25, 240, 0.5), np.arange(-19.75, 65, 0.5))
    cells = np.unique(cell_at(longitude.ravel(), latitude.ravel(), RESOLUTION))[:N_CELLS]
    np.save(folder / "cells.npy", cells)
    emit("input", "n_cells", len(cells), "cells")
    emit("input", "n_steps", n_steps, "steps")


def fields(folder: Path) -> xr.DataArray:
    """The fields in memory."""
    import numpy as np
    import pandas as pd
    import xarray as xr

    values = np.load(folder / "fields.npy")
    coords = {
        "time": pd.date_range("2020-01-01", periods=len(values)),
        "latitude": np.arange(89.75, -90, -0.5),
        "longitude": np.arange(0.25, 360, 0.5),
    }
    return xr.DataArray(values, coords, tuple(coords))


def labels(given: xr.DataArray, cells: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The grid points whose cell is wanted, and that cell, as any user of h3 would find them."""
    import h3.api.basic_int as h3
    import numpy as np

    wanted = set(cells.tolist())
    latitudes, longitudes = given["latitude"].to_numpy().tolist(), given["longitude"].to_numpy().tolist()
    cell = np.array([h3.latlng_to_cell(y, x, RESOLUTION) for y in latitudes for x in longitudes])
    point = np.flatnonzero([c in wanted for c in cell.tolist()])
    return point, cell[point]


def ours(given: xr.DataArray, cells: np.ndarray) -> tuple[float, float, np.ndarray]:
    """Seconds for the weights, seconds for the fields, and the means (step, cell)."""
    from mimic.regrid import regrid_matrix, to_cells

    started = time.perf_counter()
    regrid_matrix(given, cells, method="mean")
    between = time.perf_counter()
    result = to_cells(given, cells, method="mean").to_numpy()
    return between - started, time.perf_counter() - between, result


def groupby(given: xr.DataArray, cells: np.ndarray) -> tuple[float, float, np.ndarray]:
    """The same by `xarray.groupby`; the grid points around the cells are cut out first, which spares it the others."""
    import numpy as np
    import xarray as xr

    started = time.perf_counter()
    point, cell = labels(given, cells)
    between = time.perf_counter()
    flat = given.stack(point=("latitude", "longitude")).drop_vars(["point", "latitude", "longitude"]).isel(point=point)
    means = flat.groupby(xr.DataArray(cell, dims="point", name="cell")).mean("point", skipna=True)
    means = means.reindex(cell=cells)
    return between - started, time.perf_counter() - between, np.asarray(means.transpose("time", "cell"))


def loop(given: xr.DataArray, cells: np.ndarray) -> tuple[float, float, np.ndarray]:
    """The same by a loop over the cells, in float64."""
    import warnings

    import numpy as np

    started = time.perf_counter()
    point, cell = labels(given, cells)
    between = time.perf_counter()
    flat = given.to_numpy().reshape(given.shape[0], -1)
    order = np.argsort(cell, kind="stable")
    starts = np.searchsorted(cell[order], cells)
    ends = np.searchsorted(cell[order], cells, side="right")
    result = np.full((len(flat), len(cells)), np.nan)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of cells without any value
        for number, (first, last) in enumerate(zip(starts, ends, strict=True)):
            if last > first:
                result[:, number] = np.nanmean(flat[:, point[order[first:last]]].astype(np.float64), axis=1)
    return between - started, time.perf_counter() - between, result


def run_case(case: str, folder: Path) -> None:
    """Measure one case in this process, and keep its result for the comparison."""
    import numpy as np
    import xarray as xr  # noqa: F401  (imports are not part of the measurement)

    import mimic.regrid  # noqa: F401

    given, cells = fields(folder), np.load(folder / "cells.npy")
    emit(case, "memory_before", round(peak_memory_mib(), 1), "MiB")
    cases: dict[str, Callable[..., tuple[float, float, np.ndarray]]] = {"ours": ours, "groupby": groupby, "loop": loop}
    once, each, result = cases[case](given, cells)
    emit(case, "seconds_once", round(once, 4), "s")
    emit(case, "seconds", round(each, 4), "s")
    emit(case, "peak_memory", round(peak_memory_mib(), 1), "MiB")
    np.save(folder / f"{case}.npy", result)


def compare(folder: Path) -> None:
    """The largest differences from the loop, and whether all have values in the same places."""
    import numpy as np

    expected = np.load(folder / "loop.npy")
    emit("all", "share_missing", round(float(np.isnan(expected).mean()), 5), "1")
    for case in ("ours", "groupby"):
        found = np.load(folder / f"{case}.npy").astype(np.float64)
        emit(case, "same_missing", int(np.array_equal(np.isnan(found), np.isnan(expected))), "1")
        relative = np.nanmax(np.abs(found - expected) / np.maximum(1.0, np.abs(expected)))
        emit(case, "largest_relative_difference", float(f"{relative:.3g}"), "1")


# ---------------------------------------------------------------- kills


def write_days(folder: Path, n_days: int) -> None:
    """Daily files of 0.5 degrees over the North Pacific."""
    import numpy as np
    import xarray as xr

    rng = np.random.default_rng(0)
    latitude, longitude = np.arange(38.0, 62.1, 0.5), np.arange(168.0, 202.1, 0.5)
    for number in range(n_days):
        values = rng.normal(8, 2, (1, len(latitude), len(longitude))).astype(np.float32)
        values[rng.random(values.shape) < MISSING] = np.nan
        stamp = np.datetime64("2020-01-01", "ns") + np.timedelta64(number, "D")
        coords = {"time": [stamp], "latitude": latitude, "longitude": longitude}
        data = xr.Dataset({"sst": (tuple(coords), values, {"units": "degC"})}, coords)
        data.to_netcdf(folder / f"sst_{number:04d}.nc", engine="h5netcdf")


def digests(store: Path) -> dict[str, str]:
    """File -> SHA-256 of every file of a store."""
    paths = sorted(p for p in store.rglob("*") if p.is_file())
    return {str(p.relative_to(store)): hashlib.sha256(p.read_bytes()).hexdigest() for p in paths}


def build(folder: Path, out: Path) -> subprocess.Popen[bytes]:
    """A process that builds the cube."""
    command = [sys.executable, __file__, "--step", "build", "--folder", str(folder), "--out", str(out)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL)


def n_finished(out: Path) -> int:
    journal = out / "cell" / ".journal.jsonl"
    return journal.read_bytes().count(b'"variable"') if journal.is_file() else 0


def kills(folder: Path, n_days: int, n_kills: int, seed: int) -> None:
    """Build, kill, build on; compare."""
    import numpy as np

    write_days(folder, n_days)
    (folder / "cube.yaml").write_text(CUBE.format(folder=folder))
    whole, killed = folder / "whole.zarr", folder / "killed.zarr"
    started = time.perf_counter()
    if build(folder, whole).wait() != 0:
        raise RuntimeError("the undisturbed build failed")
    emit("kills", "undisturbed_seconds", round(time.perf_counter() - started, 2), "s")
    n_units = n_finished(whole)
    rng = np.random.default_rng(seed)
    moments = sorted(rng.choice(np.arange(n_units - 3), size=n_kills, replace=False).tolist())
    n_hit = 0
    for moment in moments:
        process = build(folder, killed)
        while n_finished(killed) < moment and process.poll() is None:
            time.sleep(0.001)
        time.sleep(float(rng.uniform(0, 0.05)))
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
            n_hit += 1
        process.wait()
        say(f"killed with {n_finished(killed)} of {n_units} chunks finished")
    if build(folder, killed).wait() != 0:
        raise RuntimeError("the last build failed")
    emit("kills", "kills", n_hit, "count")
    emit("kills", "n_chunks", n_units, "count")
    emit("kills", "n_files", len(digests(whole)), "count")
    emit("kills", "bytes_equal", int(digests(whole) == digests(killed)), "1")


def run_build(folder: Path, out: Path) -> None:
    """Build the cube in this process."""
    from mimic.cube_build import build_cube
    from mimic.cube_sections import load_cube_config

    build_cube(load_cube_config(folder / "cube.yaml"), out)


# ---------------------------------------------------------------- all of them


def child(*arguments: str) -> list[dict[str, Any]]:
    """Run one step in a process of its own: its result lines."""
    say(arguments[1])
    output = subprocess.run(
        [sys.executable, __file__, *arguments], check=True, stdout=subprocess.PIPE, text=True
    ).stdout
    lines = [json.loads(line) for line in output.splitlines()]
    for line in lines:
        emit(line["case"], line["metric"], line["value"], line["unit"])
    return lines


def run_all(size: str) -> None:
    """All cases in turn."""
    with tempfile.TemporaryDirectory(prefix="mimic-covariates-") as name:
        child("--step", "prepare", "--folder", name, "--size", str(N_STEPS[size]))
        seconds = {}
        for case in CASES:
            for line in child("--step", case, "--folder", name):
                if line["metric"].startswith("seconds"):
                    seconds[case, line["metric"]] = line["value"]
        child("--step", "compare", "--folder", name)
        for other in ("groupby", "loop"):
            ratio = seconds[other, "seconds"] / seconds["ours", "seconds"]
            emit("ours", f"ratio_to_{other}", round(ratio, 1), "times as fast")
            both = sum(seconds[other, m] for m in ("seconds", "seconds_once"))
            own = sum(seconds["ours", m] for m in ("seconds", "seconds_once"))
            emit("ours", f"ratio_to_{other}_with_weights", round(both / own, 1), "times as fast")
    with tempfile.TemporaryDirectory(prefix="mimic-covariates-") as name:
        child("--step", "kills", "--folder", name, "--size", str(N_DAYS[size]), "--kills", str(N_KILLS[size]))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="30 days instead of a year, 3 kills instead of 10")
    parser.add_argument("--step", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--size", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--kills", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.step is None:
        run_all("quick" if given.quick else "full")
    elif given.step == "prepare":
        prepare(given.folder, given.size)
    elif given.step == "compare":
        compare(given.folder)
    elif given.step == "kills":
        kills(given.folder, given.size, given.kills, seed=0)
    elif given.step == "build":
        run_build(given.folder, given.out)
    else:
        run_case(given.step, given.folder)


if __name__ == "__main__":
    main()
