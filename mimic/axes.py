"""The axes of a gridded variable: any names and orders into (time or month; latitude, longitude or y, x)."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from mimic.schema import examples

if TYPE_CHECKING:
    import pyproj

__all__ = ["normalize_axes"]

_NAMES = {
    "longitude": {"lon", "longitude", "long", "lons", "nav_lon", "xlong"},
    "latitude": {"lat", "latitude", "lats", "nav_lat", "xlat"},
    "x": {"x", "xc", "easting", "eastings", "projection_x_coordinate", "rlon"},
    "y": {"y", "yc", "northing", "northings", "projection_y_coordinate", "rlat"},
    "time": {"time", "t", "times", "date", "valid_time", "time_counter"},
    "month": {"month", "months", "mon"},
}
_STANDARD_NAMES = {
    "longitude": "longitude",
    "latitude": "latitude",
    "projection_x_coordinate": "x",
    "projection_y_coordinate": "y",
    "grid_longitude": "x",
    "grid_latitude": "y",
    "time": "time",
}
_UNITS = {
    "degrees_east": "longitude",
    "degree_east": "longitude",
    "degrees_e": "longitude",
    "degrees_north": "latitude",
    "degree_north": "latitude",
    "degrees_n": "latitude",
}


def normalize_axes(
    dataset: xr.Dataset, name: str, crs: str | None, level: Mapping[str, Any], where: str
) -> xr.DataArray:
    """The variable with known dims in a known order; nothing is read but the axes.

    Parameters
    ----------
    dataset, name
        The opened file and the variable wanted.
    crs
        The user's projection, which wins over the file's.
    level
        Extra dimension -> value; the nearest is taken.
    where
        What to call the variable in messages.

    Returns
    -------
    xr.DataArray
        Dims (time or month, if any; latitude, longitude or y, x), coordinates only along these,
        `attrs` units, long_name, standard_name, level and, for y and x, crs.

    Raises
    ------
    ValueError
        If the variable is not numeric, an axis is not recognized or out of range, a dimension is left
        over, or a grid in x and y has no projection.
    """
    field = dataset[name]
    if field.dtype.kind not in "fiub":
        raise ValueError(f"{where}: expected numbers; got {field.dtype}.")
    projection = _projection(dataset, field, crs, where)
    axes = _horizontal(dataset, field, projection, crs, where)
    roles = {dim: _role(str(dim), dataset.variables.get(dim)) for dim in field.dims}
    flat = [dim for dim, _ in axes.values()]
    # of two time axes (start and lead of a forecast) one has to be selected
    steps = [d for d in field.dims if roles[d] in ("time", "month") and d not in (*flat, *level)][:1]
    field, chosen = _select_levels(field, [*steps, *flat], level, where)
    coordinates: dict[str, Any] = {}
    names: dict[Hashable, str] = {dim: new for new, (dim, _) in axes.items()}
    if steps:
        axis = dataset.variables.get(steps[0])
        step_name, values, attrs = _step_axis(str(steps[0]), axis, field.sizes[steps[0]], where)
        coordinates[step_name] = (step_name, values, attrs)
        names[steps[0]] = step_name
    field = field.drop_vars(list(field.coords)).rename({old: new for old, new in names.items() if old != new})
    coordinates |= {new: (new, values) for new, (_, values) in axes.items()}
    attrs = {k: field.attrs[k] for k in ("units", "long_name", "standard_name") if k in field.attrs}
    if "y" in axes:
        attrs["crs"] = _crs_text(projection)
    if chosen:
        attrs["level"] = chosen
    field.attrs = attrs
    return field.assign_coords(coordinates).transpose(*coordinates)


def _role(name: str, variable: xr.Variable | None) -> str | None:
    """What an axis is: longitude, latitude, x, y, time, month, or None."""
    attrs = {} if variable is None else {**variable.encoding, **variable.attrs}
    units = str(attrs.get("units", "")).strip().lower()
    by_name = next((role for role, names in _NAMES.items() if name.lower() in names), None)
    if variable is not None and variable.dtype.kind == "M":
        return "time"
    by_attribute = _STANDARD_NAMES.get(str(attrs.get("standard_name", "")).lower()) or _UNITS.get(units)
    axis = {"T": "time", "X": "x", "Y": "y"}.get(str(attrs.get("axis", "")).upper())
    return by_attribute or by_name or ("time" if " since " in units else None) or axis


def _horizontal(
    dataset: xr.Dataset, field: xr.DataArray, projection: pyproj.CRS | None, crs: str | None, where: str
) -> dict[str, tuple[str, np.ndarray]]:
    """The two horizontal axes: latitude, longitude or y, x -> (dim of the file, coordinates)."""
    found: dict[str, tuple[str, np.ndarray]] = {}
    for dim in map(str, field.dims):
        along = [str(dim)] if dim in dataset.variables else []
        along += [str(n) for n, v in dataset.variables.items() if v.dims == (dim,) and n != dim]
        for name in along:
            role = _role(name, dataset.variables[name])
            if role in ("longitude", "latitude", "x", "y") and role not in found:
                found[role] = (dim, _axis_values(dataset.variables[name], projection))
    geographic = projection is None or (projection.is_geographic and not projection.is_derived)
    if not geographic and {"x", "y"} <= set(found):
        return {name: found[name] for name in ("y", "x")}
    if {"longitude", "latitude"} <= set(found):
        if crs is not None and not geographic:
            raise ValueError(f"{where}: the grid is in longitude and latitude, but crs is {crs}; leave crs out.")
        return _checked({name: found[name] for name in ("latitude", "longitude")}, where)
    if {"x", "y"} <= set(found):
        if projection is None:
            raise ValueError(f"{where}: the grid is in x and y, and the file names no projection. Give crs='EPSG:...'.")
        return _checked({"latitude": found["y"], "longitude": found["x"]}, where)
    curved = [str(n) for n, v in dataset.variables.items() if v.ndim == 2 and _role(str(n), v) == "longitude"]
    hint = (
        f"{curved[0]} has two dims (a curvilinear grid): regrid the file to straight axes first."
        if curved
        else "Name the axes longitude and latitude, or x and y, in the file."
    )
    raise ValueError(f"{where}: no horizontal axes among the dims {', '.join(map(str, field.dims))}. {hint}")


def _axis_values(variable: xr.Variable, projection: pyproj.CRS | None) -> np.ndarray:
    """Coordinates as float64; kilometers become meters where the projection counts in meters."""
    values = variable.to_numpy().astype(np.float64)
    in_km = str(variable.attrs.get("units", "")).lower() in ("km", "kilometer", "kilometers", "kilometre", "kilometres")
    meters = projection is not None and projection.axis_info and projection.axis_info[0].unit_name in ("metre", "meter")
    return values * 1000.0 if in_km and meters else values


def _checked(axes: dict[str, tuple[str, np.ndarray]], where: str) -> dict[str, tuple[str, np.ndarray]]:
    for name, low, high in (("latitude", -90.01, 90.01), ("longitude", -360.01, 720.01)):
        values = axes[name][1]
        if not ((values >= low) & (values <= high)).all():
            raise ValueError(
                f"{where}: {name} must be finite degrees; got {values.min():g} to {values.max():g}. "
                "If the grid is projected, name its axes x and y and give crs=."
            )
    return axes


def _projection(dataset: xr.Dataset, field: xr.DataArray, crs: str | None, where: str) -> pyproj.CRS | None:
    """The projection: the user's, else that of the grid mapping, else that of the attributes."""
    mapping = field.encoding.get("grid_mapping", field.attrs.get("grid_mapping"))
    names = [str(mapping)] if mapping in dataset.variables else []
    names += [str(n) for n, v in dataset.variables.items() if "grid_mapping_name" in v.attrs or "crs_wkt" in v.attrs]
    said: list[Any] = [] if crs is None else [crs]
    for attrs in (*(dataset.variables[n].attrs for n in names), field.attrs, dataset.attrs):
        said += [attrs[k] for k in ("crs_wkt", "spatial_ref", "crs", "epsg_code", "proj4") if k in attrs]
        said += [dict(attrs)] if "grid_mapping_name" in attrs else []
    if not said:
        return None
    import pyproj  # 0.1 s, and only projected grids need it

    for text in said:
        try:
            if isinstance(text, dict):
                return pyproj.CRS.from_cf(text)
            return pyproj.CRS.from_user_input(int(text) if str(text).isdigit() else str(text))
        except (pyproj.exceptions.CRSError, KeyError):
            if crs is not None:
                raise ValueError(
                    f"{where}: crs must be a projection pyproj knows, as 'EPSG:32736'; got {crs}."
                ) from None
    return None


def _crs_text(projection: pyproj.CRS | None) -> str:
    if projection is None:
        raise RuntimeError("a projected grid without projection got past its check: a fault of mimic.")
    authority = projection.to_authority(min_confidence=100)
    return ":".join(authority) if authority else str(projection.to_wkt())


def _select_levels(
    field: xr.DataArray, known: Iterable[Hashable], level: Mapping[str, Any], where: str
) -> tuple[xr.DataArray, str]:
    """The field without its extra dims, and the levels that were taken, as text."""
    extra = [str(d) for d in field.dims if d not in set(known)]
    unknown = [d for d in level if d not in extra]
    if unknown:
        raise ValueError(
            f"{where}: level names {', '.join(unknown)}; the extra dimensions are {', '.join(extra) or 'none'}."
        )
    chosen = []
    for dim in extra:
        values = field[dim].to_numpy()  # positions 0, 1, ... where the file has no coordinate
        if dim not in level and len(values) > 1:
            raise ValueError(
                f"{where}: dimension {dim} has {len(values)} values ({examples(values)}). "
                f"Choose one with level={{'{dim}': {values[0]}}}."
            )
        position = _nearest_level(values, level[dim], f"{where}: level {dim}") if dim in level else 0
        field = field.isel({dim: position})
        chosen.append(f"{dim}={values[position]}")
    return field, ", ".join(chosen)


def _nearest_level(values: np.ndarray, wanted: Any, where: str) -> int:
    if values.dtype.kind in "fiu" and isinstance(wanted, int | float):
        away = np.abs(values - wanted)
        nearest = int(np.nanargmin(away))
        spacing = np.diff(np.sort(values[np.isfinite(values)])).max(initial=0.0)
        if len(values) > 1 and not np.nanmin(values) <= wanted <= np.nanmax(values) and away[nearest] > spacing:
            raise ValueError(
                f"{where} is {wanted:g}, far from all there are: {np.nanmin(values):g} to {np.nanmax(values):g}."
            )
        return nearest
    same = np.flatnonzero(values.astype(str) == str(wanted))
    if len(same) == 0:
        raise ValueError(f"{where} is {wanted}; expected one of {examples(values)}.")
    return int(same[0])


def _step_axis(name: str, axis: xr.Variable | None, size: int, where: str) -> tuple[str, np.ndarray, dict[str, Any]]:
    """The time axis: its new name (time or month), its values, its attributes."""
    is_month = name.lower() in _NAMES["month"]
    if axis is None:
        if is_month and size == 12:
            return "month", np.arange(1, 13), {}
        raise ValueError(f"{where}: dimension {name} has no coordinate; write its times to the file.")
    values = axis.to_numpy()
    said = {**axis.encoding, **axis.attrs}
    climatology = size == 12 and ("climatology" in said or "modulo" in said)
    if values.dtype.kind == "M":
        if np.isnat(values).any():
            raise ValueError(f"{where}: the time axis has missing times; repair the file.")
        months = values.astype("datetime64[M]").astype(np.int64) % 12 + 1
        low, high = np.datetime64("1678-01-01"), np.datetime64("2262-01-01")
        holds_ns = bool(((values > low) & (values < high)).all())
        if len(set(months.tolist())) == 12 == size and (climatology or not holds_ns):
            return "month", months, {}
        if not holds_ns:
            raise ValueError(f"{where}: times must lie in 1678 to 2261; got {values.min()} to {values.max()}.")
        return "time", values.astype("datetime64[ns]"), {}
    numeric = values.dtype.kind in "fiu"
    if is_month or (numeric and "since" not in str(said.get("units", "")) and _counts_months(values)):
        if not (numeric and len(set(values.tolist())) == size and set(values.tolist()) <= set(range(1, 13))):
            raise ValueError(f"{where}: months must be numbers from 1 to 12, each once; got {examples(values)}.")
        return "month", values.astype(np.int64), {}
    if climatology:  # mid-month stamps of the year 0 in a calendar NumPy does not know
        return "month", np.arange(1, 13), {}
    return "time", values, {k: said[k] for k in ("units", "calendar") if k in said}


def _counts_months(values: np.ndarray) -> bool:
    return len(values) == 12 and set(values.tolist()) == set(range(1, 13))
