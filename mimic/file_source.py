"""What is wanted from files, and one of them, into its steps, its grid and its levels; only axes are read."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import xarray as xr

from mimic.axes import normalize_axes
from mimic.file_layers import Layers, layers_of
from mimic.file_times import name_stamp, with_band_times
from mimic.grids import open_dataset, variable_name
from mimic.regrid import Method

__all__ = ["STEPS", "Listed", "Source", "base_name", "check_same", "list_file"]

STEPS = {"time": "times", "month": "months", "static": "no steps"}
"""The kinds of steps, in words."""

_SAME = 1e-3  # of a spacing: producers write one grid in float32 here and float64 there


@dataclass(frozen=True)
class Source:
    """Files that hold one variable, and what is taken from them.

    Parameters
    ----------
    name
        Of the variable in the cube.
    paths
        NetCDF files, Zarr folders, GeoTIFFs; in the order in which the first of equal stamps wins.
    variable, crs
        As for `mimic.grids.open_field`.
    level
        Extra dimension -> the nearest level, or (low, high), the mean over a range weighted by thickness.
    method
        As for `mimic.regrid.regrid_matrix`.
    unit
        In place of that of the files.
    multiply, add
        Values become multiply * value + add.
    codes
        Values become 1 where they are one of these, else 0: the share of a class, once on cells.
    time_pattern
        How file names hold the time, as for `mimic.file_times.name_stamp`.
    band_times
        What the bands of rasters are, as for `mimic.file_times.with_band_times`.
    overlap
        Steps of equal stamp in several files: "refuse", or "first" to take that of the first file.
    """

    name: str
    paths: tuple[str, ...]
    variable: str | None = None
    crs: str | None = None
    level: Mapping[str, float | str | tuple[float, float]] = field(default_factory=dict)
    method: Method = "auto"
    unit: str | None = None
    multiply: float = 1.0
    add: float = 0.0
    codes: tuple[int, ...] | None = None
    time_pattern: str | None = None
    band_times: str | tuple[str, str] | None = None
    overlap: Literal["refuse", "first"] = "refuse"

    def open(self, path: str) -> tuple[xr.Dataset, str]:
        """A file of the source as a lazy dataset, and the name of its variable; close it after use."""
        dataset = open_dataset(Path(path), self.variable)
        try:
            name = variable_name(dataset, self.variable, Path(path))
            if self.band_times is not None:
                dataset = with_band_times(dataset, self.band_times, Path(path).name)
        except BaseException:
            dataset.close()
            raise
        return dataset, name


@dataclass(frozen=True, eq=False)
class Listed:
    """What a file holds; its fields are those of `mimic.filesets.FileSet`, its steps in the order of the file."""

    path: str
    axis: Literal["time", "month", "static"]
    stamps: np.ndarray
    coordinates: dict[str, np.ndarray]
    crs: str | None
    layers: Layers
    attributes: dict[str, str]


def list_file(source: Source, path: str) -> Listed:
    where = f"{base_name(path)}, variable {source.variable or source.name}"
    dataset, name = source.open(path)
    with closing(dataset):
        layers = layers_of(dataset, name, source.level, where)
        level = layers.levels[0]
        steps = normalize_axes(dataset, name, source.crs, level, where)
        axis, stamps = _steps_of(source, path, dataset, steps, where)
        coordinates = {str(d): steps[d].to_numpy().astype(np.float64) for d in steps.dims[-2:]}
        known = {k: str(steps.attrs[k]) for k in ("units", "long_name", "level") if k in steps.attrs}
    if source.level and len(layers.levels) > 1:
        known["level"] = ", ".join(f"{d}={_words(v)}" for d, v in source.level.items())
    return Listed(path, axis, stamps, coordinates, steps.attrs.get("crs"), layers, known)


def _steps_of(
    source: Source, path: str, dataset: xr.Dataset, steps: xr.DataArray, where: str
) -> tuple[Literal["time", "month", "static"], np.ndarray]:
    """What the steps of a file are, and their stamps."""
    dim = str(steps.dims[0]) if steps.ndim == 3 else None
    if source.time_pattern is not None:
        if dim is not None and steps.shape[0] != 1:
            raise ValueError(
                f"{where}: time_pattern is for files of one step; this one has {steps.shape[0]}. Leave it out."
            )
        stamp = name_stamp(base_name(path), source.time_pattern)
        return ("month" if isinstance(stamp, int) else "time"), np.array([stamp])
    if dim == "month":
        return "month", steps["month"].to_numpy().astype(np.int64)
    if dim is not None:
        values = steps[dim].to_numpy()
        if values.dtype.kind != "M":
            units = steps[dim].attrs.get("units", "no units")
            raise ValueError(f"{where}: the time axis is not in dates ({units}); rewrite it with 'days since ...'.")
        return "time", _whole_seconds(values)
    for name in ("time", "valid_time"):  # one date, written beside the field instead of along it
        if name in dataset.coords and dataset[name].ndim == 0 and dataset[name].dtype.kind == "M":
            return "time", _whole_seconds(dataset[name].to_numpy().reshape(1))
    return "static", np.zeros(1, dtype=np.int64)


def _whole_seconds(values: np.ndarray) -> np.ndarray:
    """Stamps to the nearest second: "days since" in float32 or float64 is off by less."""
    ns = values.astype("datetime64[ns]").astype(np.int64)
    return ((ns + 500_000_000) // 1_000_000_000 * 1_000_000_000).astype("datetime64[ns]")


def check_same(first: Listed, other: Listed, name: str) -> None:
    names = f"{base_name(first.path)} and {base_name(other.path)}"
    if list(first.coordinates) != list(other.coordinates) or first.crs != other.crs:
        raise ValueError(f"{name}: {names} have different grids (projections); build a variable from each.")
    for dim, values in first.coordinates.items():
        there = other.coordinates[dim]
        spacing = float(np.median(np.abs(np.diff(values)))) if len(values) > 1 else 1.0
        if len(values) != len(there) or np.abs(values - there).max() > _SAME * spacing:
            raise ValueError(
                f"{name}: {names} have different grids ({dim} {_span(values)} and {_span(there)}); put them on one grid, "
                "or build a variable from each."
            )
    if first.layers != other.layers or first.attributes.get("level") != other.attributes.get("level"):
        raise ValueError(f"{name}: {names} have different levels; build a variable from each.")
    units = [one.attributes.get("units") for one in (first, other)]
    if units[0] != units[1]:
        raise ValueError(
            f"{name}: {names} have different units ({units[0]} and {units[1]}); build a variable from each."
        )


def base_name(path: str) -> str:
    """A path without its folder."""
    return Path(path).name


def _words(value: float | str | tuple[float, float]) -> str:
    return str(value) if isinstance(value, int | float | str) else f"{value[0]:g} to {value[1]:g} (mean by thickness)"


def _span(values: np.ndarray) -> str:
    return f"{len(values)} from {values[0]:g} to {values[-1]:g}"
