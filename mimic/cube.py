"""A cube of covariates, a Zarr store (time or month, cell), into its values on the cells and steps asked for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

__all__ = ["cube_field", "cube_variable", "describe_cube", "is_cube", "open_cube"]

_STORE, _JOURNAL = "zarr.json", "cell/.journal.jsonl"
_MARK = "mimic_cube"


def is_cube(path: str | Path) -> bool:
    """Whether a folder is a cube that `mimic covariates build` has finished, or has begun."""
    folder = Path(path)
    if (folder / _JOURNAL).is_file():
        return True
    try:
        told = json.loads((folder / _STORE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(told, dict) and _MARK in told.get("attributes", {})


def open_cube(path: str | Path) -> xr.Dataset:
    """A cube as a dataset whose values stay on disk until they are asked for; close it after use.

    Returns
    -------
    xr.Dataset
        Variables (time, cell), (month, cell) or (cell,), float32, NaN for missing; coordinates `cell`, int64, sorted,
        and `time`, datetime64[ns], or `month`, 1 to 12.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no such folder, it is no cube, or its build has not finished.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise FileNotFoundError(f"no cube {folder}; build one with mimic covariates build.")
    if not is_cube(folder):
        raise ValueError(f"{folder} is no cube of mimic; build one with mimic covariates build.")
    if not (folder / _STORE).is_file():
        raise ValueError(f"the cube {folder} is not finished; run mimic covariates build again, and it goes on.")
    dataset = xr.open_dataset(folder, engine="zarr", consolidated=True, chunks=None)
    if "time" in dataset.coords:
        dataset["time"] = dataset["time"].astype("datetime64[ns]")
    return dataset


def cube_field(
    path: str | Path,
    variable: str | None,
    cells: np.ndarray,
    *,
    times: tuple[np.datetime64, np.datetime64] | None = None,
    steps: slice | None = None,
) -> xr.DataArray:
    """One variable of a cube on exactly the cells asked for: (time or month if any, cell), float32, in memory.

    Parameters
    ----------
    path
        Of the cube.
    variable
        Its name; may be None where the cube has one.
    cells
        (cell,), int64, any order, repeats are fine. Cells outside the cube are NaN; `attrs["n_outside"]` counts them.
    times
        First and last time wanted, both included; only chunks that hold them are read.
    steps
        Steps wanted, by position, instead.

    Raises
    ------
    FileNotFoundError, ValueError
        As `open_cube`; and if the variable is unknown, times are asked of one without dates, or cells are of another
        resolution than the cube.
    """
    cells = np.asarray(cells, dtype=np.int64)
    with open_cube(path) as cube:
        field = cube_variable(cube, variable, path)
        known = cube["cell"].to_numpy()
        _check_level(cube, cells, Path(path))
        if times is not None:
            if field.dims[0] != "time":
                raise ValueError(f"{field.name} of {Path(path).name} has no dates; leave times out.")
            stamps = cube["time"].to_numpy()
            low, high = (np.datetime64(t).astype("datetime64[ns]") for t in times)
            steps = slice(int(np.searchsorted(stamps, low)), int(np.searchsorted(stamps, high, side="right")))
        part = field if steps is None or field.ndim == 1 else field.isel({field.dims[0]: steps})
        position = np.minimum(np.searchsorted(known, cells), len(known) - 1)
        inside = known[position] == cells
        values = _columns(part, position, inside, int(field.encoding["chunks"][0]))
        axes = {d: part[d].variable for d in part.dims[:-1]}
        coords = {**axes, "cell": ("cell", cells, dict(cube["cell"].attrs))}
        attrs = {**field.attrs, "n_outside": int((~inside).sum())}
        return xr.DataArray(values, coords, (*axes, "cell"), name=str(field.name), attrs=attrs)


def describe_cube(path: str | Path) -> dict[str, Any]:
    """What is in a cube, in plain values: variables, units, extent, dates, share of missing values.

    Raises
    ------
    FileNotFoundError, ValueError
        As `open_cube`.
    """
    from mimic.hexgrid import centroids

    with open_cube(path) as cube:
        longitude, latitude = centroids(cube["cell"].to_numpy())
        missing = _missing(Path(path))
        dates = cube["time"].to_numpy() if "time" in cube.coords else np.zeros(0, "datetime64[ns]")
        return {
            "cube": str(path),
            **{k: cube.attrs[k] for k in ("name", "description", "configuration") if k in cube.attrs},
            "level": int(cube["cell"].attrs["level"]),
            "n_cells": cube.sizes["cell"],
            "extent": _extent(longitude, latitude),
            "n_times": len(dates),
            "first": str(dates[0])[:19] if len(dates) else None,
            "last": str(dates[-1])[:19] if len(dates) else None,
            "variables": {
                str(name): {
                    "steps": str(field.dims[0]) if field.ndim == 2 else "static",
                    **{k: field.attrs.get(k) for k in ("units", "long_name", "source", "method", "level")},
                    "share_missing": missing.get(str(name)),
                }
                for name, field in cube.data_vars.items()
            },
        }


# ---------------------------------------------------------------- reading


def cube_variable(cube: xr.Dataset, variable: str | None, path: str | Path) -> xr.DataArray:
    """One variable of an open cube, unread; `variable` may be None where it has one. Raises ValueError if it has not."""
    return cube[_name(cube, variable, Path(path))]


def _name(cube: xr.Dataset, variable: str | None, path: Path) -> str:
    names = [str(name) for name in cube.data_vars]
    if variable is None and len(names) == 1:
        return names[0]
    if variable not in names:
        asked = "name one of them" if variable is None else f"there is no {variable}"
        raise ValueError(f"{path.name}: {asked}; it holds {', '.join(names)}.")
    return variable


def _check_level(cube: xr.Dataset, cells: np.ndarray, path: Path) -> None:
    from mimic.hexgrid import resolution_of

    if len(cells) and resolution_of(int(cells[0])) != int(cube["cell"].attrs["level"]):
        raise ValueError(
            f"the cells are of resolution {resolution_of(int(cells[0]))}, those of {path.name} of "
            f"{cube['cell'].attrs['level']}; build a cube of the same resolution."
        )


def _columns(field: xr.DataArray, position: np.ndarray, inside: np.ndarray, chunk_steps: int) -> np.ndarray:
    """(step, cell) or (cell,): read a chunk of steps at a time, between the outermost cells."""
    shape = (*field.shape[:-1], len(position))
    result = np.full(shape, np.nan, dtype=np.float32)
    if not inside.any():
        return result
    low, high = int(position[inside].min()), int(position[inside].max()) + 1
    column = position[inside] - low
    if field.ndim == 1:
        result[inside] = field[low:high].to_numpy()[column]
        return result
    for first in range(0, field.shape[0], chunk_steps):
        block = field[first : first + chunk_steps, low:high].to_numpy()
        result[first : first + chunk_steps, inside] = block[:, column]
    return result


def _missing(folder: Path) -> dict[str, float]:
    """Variable -> share of missing values, as noted when it was built."""
    counts: dict[str, list[int]] = {}
    path = folder / _JOURNAL
    units: dict[tuple[str, int], tuple[int, int]] = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            entry = json.loads(line)
        except ValueError:
            continue  # being written, or cut off by a kill
        if "variable" in entry:  # a chunk that has grown is there twice until the build ends
            units[entry["variable"], entry["chunk"]] = entry["n"], entry["missing"]
    for (name, _), (n, missing) in units.items():
        total = counts.setdefault(name, [0, 0])
        counts[name] = [total[0] + n, total[1] + missing]
    return {name: missing / n for name, (n, missing) in counts.items() if n}


def _extent(longitude: np.ndarray, latitude: np.ndarray) -> list[float]:
    """West, south, east, north of the cells' centers; west is above east across the date line."""
    turned = np.sort(longitude % 360.0)
    gaps = np.diff(turned, append=turned[0] + 360.0)
    start = (int(gaps.argmax()) + 1) % len(turned)
    west, east = turned[start], turned[start - 1]
    west, east = ((x + 180.0) % 360.0 - 180.0 for x in (west, east))
    return [round(float(x), 4) for x in (west, latitude.min(), east, latitude.max())]
