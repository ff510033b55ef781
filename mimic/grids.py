"""Gridded files (NetCDF, Zarr, GeoTIFF) into fields whose dims, longitudes, times and gaps are normalized."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from mimic.axes import normalize_axes

__all__ = ["open_dataset", "open_field", "variable_name"]

LOAD_UP_TO = 20_000_000
"""Fields of at most this many values are loaded at once; larger ones stay in the file until they are regridded."""

MISSING_ABOVE = 1e30
"""Magnitudes from here on are nodata that no attribute declares: -3.4e38 in rasters, NetCDF's own 9.97e36."""

_TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_RASTER_SUFFIXES = {".tif", ".tiff", ".asc", ".vrt", ".img"}


def open_field(
    path: str | Path,
    variable: str | None = None,
    *,
    crs: str | None = None,
    level: Mapping[str, Any] | None = None,
) -> xr.DataArray:
    """One variable of a gridded file, as (time or month, if any; latitude, longitude) or (..., y, x).

    Parameters
    ----------
    path
        A NetCDF file (version 3 or 4), a Zarr folder or, with the extra `raster`, a GeoTIFF.
    variable
        Its name in the file; needed where the file has several.
    crs
        The projection of a grid in x and y, as "EPSG:32736" or anything pyproj reads. Wins over what
        the file says; needed where the file says nothing.
    level
        Extra dimension -> value, as `{"depth": 0}`: the nearest level is taken, and kept in
        `attrs["level"]`. Extra dimensions of length one need no entry.

    Returns
    -------
    xr.DataArray
        Dims `time` (naive UTC, datetime64[ns]) or `month` (1 to 12) or neither, then `latitude`,
        `longitude` (degrees, order and convention of the file) or `y`, `x` (unit of the projection) with
        `attrs["crs"]`. NaN where the file has a fill value, an infinite value or a magnitude of 1e30 or more.
        Fields of up to `LOAD_UP_TO` values are in memory and their file is closed. A larger one stays in
        the file, uncleaned, until regridding reads the part it needs: close it with `field.close()`.

    Raises
    ------
    FileNotFoundError
        If there is no such file or folder.
    ImportError
        If the file is a raster and rioxarray is not installed.
    ValueError
        If the file cannot be read, the variable is unknown or ambiguous or has no finite value, the axes
        are not recognized, an extra dimension is not selected, or a projection is missing.

    Notes
    -----
    Axes are recognized by CF attributes (standard_name, units), then by name. A time axis that calls
    itself a climatology (CF `climatology`, Ferret `modulo`) and has twelve steps becomes `month`, as does
    one without units that counts 1 to 12. A time axis that cannot be decoded to dates (months since,
    calendars of 360 or 365 days) stays numeric: only the join "climatology" accepts it.
    """
    path = Path(path)
    dataset = open_dataset(path, variable)
    try:
        name = variable_name(dataset, variable, path)
        field = normalize_axes(dataset, name, crs, level or {}, f"{path.name}, variable {name}")
        if field.size <= LOAD_UP_TO:
            field = field.copy(data=_read(field, path))
            found = bool(np.isfinite(field.to_numpy()).any())
        else:
            found = _holds_data(field, path)
        if not found:
            raise ValueError(f"{path.name}, variable {name}: expected data; every value is missing. Check the file.")
    except BaseException:
        dataset.close()
        raise
    if field.size <= LOAD_UP_TO:
        dataset.close()
    else:
        field.set_close(dataset.close)
    return field


# ---------------------------------------------------------------- reading


def open_dataset(path: Path, variable: str | None = None) -> xr.Dataset:
    """The file as a lazy dataset, its axes as they are; close it after use.

    Parameters
    ----------
    path, variable
        As for `open_field`; of a raster, `variable` is the description of the band to take.

    Raises
    ------
    FileNotFoundError, ImportError, ValueError
        As `open_field`, where the file cannot be read.
    """
    if not path.exists():
        there = sorted(p.name for p in path.parent.iterdir()) if path.parent.is_dir() else []
        near = difflib.get_close_matches(path.name, there, n=1)
        hint = f" Did you mean {near[0]}?" if near else " Check the path."
        raise FileNotFoundError(f"expected a NetCDF, Zarr or GeoTIFF file; {path} does not exist.{hint}")
    if path.is_dir():
        if not any((path / name).exists() for name in ("zarr.json", ".zgroup", ".zmetadata")):
            raise ValueError(f"{path} is a folder but not a Zarr store (no zarr.json, no .zgroup). Give a file.")
        return _open_with(path, "zarr", "Zarr store")
    with path.open("rb") as file:
        magic = file.read(4)
    if magic in _TIFF_MAGIC or path.suffix.lower() in _RASTER_SUFFIXES:
        return _open_raster(path, variable)
    return _open_with(path, "scipy" if magic[:3] == b"CDF" else "h5netcdf", "NetCDF file")


def _open_with(path: Path, engine: str, kind: str) -> xr.Dataset:
    # Durations stay numbers: a wave period in "seconds" is no time axis. Seconds, not ns, so that the
    # year 1 of climatologies can be held.
    dates = xr.coders.CFDatetimeCoder(use_cftime=False, time_unit="s")
    options: dict[str, Any] = {"consolidated": False} if engine == "zarr" else {}

    def read(decode_times: Any) -> xr.Dataset:
        with warnings.catch_warnings():
            # two fill values that agree to a rounding, and format extensions: both read well
            warnings.simplefilter("ignore", xr.SerializationWarning)
            warnings.filterwarnings("ignore", module="zarr")
            return xr.open_dataset(path, engine=engine, decode_times=decode_times, decode_timedelta=False, **options)

    try:
        try:
            return read(dates)
        except (ValueError, OverflowError, ImportError):
            return read(False)  # an axis that is no calendar date; judged when it is joined
    except Exception as error:
        raise ValueError(
            f"{path} cannot be read as a {kind}: {_first_line(error)}. The file may be cut short; fetch it again."
        ) from error


def _open_raster(path: Path, variable: str | None) -> xr.Dataset:
    """A raster as a dataset of one variable (band, y, x), with the projection in its attributes."""
    try:
        import rioxarray
    except ImportError as error:
        raise ImportError(f"reading {path.name} needs rioxarray, which is not here: install mimic[raster].") from error
    try:
        with warnings.catch_warnings():
            # rioxarray multiplies affine matrices with *, which affine 3 is about to give up
            warnings.simplefilter("ignore", PendingDeprecationWarning)
            # a raster without georeference is an error below (no projection), not a warning
            warnings.filterwarnings("ignore", message=".*no geotransform.*")
            raster = rioxarray.open_rasterio(path, mask_and_scale=True)
    except Exception as error:
        raise ValueError(
            f"{path} cannot be read as a raster: {_first_line(error)}. The file may be cut short; fetch it again."
        ) from error
    if not isinstance(raster, xr.DataArray):
        raise ValueError(f"{path.name} holds several rasters; write the one you need to a GeoTIFF of its own.")
    projection = raster.rio.crs
    close = raster.close
    labels = raster.attrs.get("long_name", ())
    labels = [labels] if isinstance(labels, str) else [str(label) for label in labels]
    if variable in labels:
        raster = raster.isel(band=[labels.index(variable)])
    name = variable if variable in labels else labels[0] if len(labels) == 1 else path.stem
    dataset = raster.drop_vars("spatial_ref", errors="ignore").rename(name).to_dataset()
    if projection is not None:
        dataset.attrs["crs"] = projection.to_wkt()
    dataset.set_close(close)
    return dataset


def _read(field: xr.DataArray, path: Path) -> np.ndarray:
    """The values as float32 or float64, NaN where missing."""
    try:
        values = field.to_numpy()
    except (OSError, RuntimeError, ValueError) as error:
        raise ValueError(
            f"{path} is damaged: {_first_line(error)} while reading {field.name}. Fetch the file again."
        ) from error
    values = values.astype(np.result_type(values.dtype, np.float32), copy=False)
    missing = ~(np.abs(values) < MISSING_ABOVE)
    return np.where(missing, values.dtype.type(np.nan), values) if missing.any() else values


def _holds_data(field: xr.DataArray, path: Path) -> bool:
    """Whether any value is there; reads block by block and stops at the first."""
    flat = field if field.ndim == 3 else field.expand_dims("step")
    rows = max(1, LOAD_UP_TO // flat.shape[2])
    return any(
        bool(np.isfinite(_read(flat[step, first : first + rows], path)).any())
        for step in range(flat.shape[0])
        for first in range(0, flat.shape[1], rows)
    )


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].rstrip(".")[:200]


def variable_name(dataset: xr.Dataset, variable: str | None, path: Path) -> str:
    """The name of the variable wanted, or of the only gridded one.

    Raises
    ------
    ValueError
        If there is no such variable, or there are several and none is named.
    """
    bounds = {str(v.attrs.get(key)) for v in dataset.variables.values() for key in ("bounds", "climatology")}
    gridded = [str(n) for n, v in dataset.data_vars.items() if v.ndim >= 2 and n not in bounds]
    if variable is None:
        if len(gridded) != 1:
            raise ValueError(
                f"{path.name}: expected one gridded variable; found {', '.join(gridded) or 'none'}. "
                + ("Name one with variable=." if gridded else "Check the file.")
            )
        return gridded[0]
    if variable not in dataset.data_vars:
        near = difflib.get_close_matches(variable, gridded, n=1, cutoff=0.5)
        near = near or [n for n in gridded if n.lower() == variable.lower()]
        raise ValueError(
            f"{path.name} has no variable {variable}; it has {', '.join(gridded) or 'none'}."
            + (f" Did you mean {near[0]}?" if near else "")
        )
    return variable
