"""Any names, orders and units of axes give the same field."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from mimic.axes import normalize_axes

LATITUDE = [10.0, 11.0]
LONGITUDE = [20.0, 21.0, 22.0]
VALUES = np.arange(6, dtype=np.float32).reshape(2, 3)
UTM = "EPSG:32736"


def normalized(dataset: xr.Dataset, crs: str | None = None, **level: Any) -> xr.DataArray:
    return normalize_axes(dataset, "v", crs, level, "test.nc, variable v")


def on(y: tuple[str, dict[str, str]], x: tuple[str, dict[str, str]], **attrs: str) -> xr.Dataset:
    return xr.Dataset(
        {"v": ((y[0], x[0]), VALUES)},
        {y[0]: (y[0], LATITUDE, y[1]), x[0]: (x[0], LONGITUDE, x[1])},
        attrs,
    )


def stepped(name: str, values: Any, attrs: dict[str, str] | None = None) -> xr.Dataset:
    data = np.arange(6.0 * len(values)).reshape(len(values), 2, 3)
    return xr.Dataset(
        {"v": ((name, "lat", "lon"), data)},
        {name: (name, values, attrs or {}), "lat": LATITUDE, "lon": LONGITUDE},
    )


@pytest.mark.parametrize(
    ("y", "x"),
    [
        (("lat", {}), ("lon", {})),
        (("LATITUDE", {}), ("LONGITUDE", {})),
        (("nav_lat", {}), ("nav_lon", {})),
        (("row", {"units": "degrees_north"}), ("column", {"units": "degrees_east"})),
        (("row", {"standard_name": "latitude"}), ("column", {"standard_name": "longitude"})),
        (("y", {"units": "degrees_north"}), ("x", {"units": "degrees_east"})),
    ],
)
def test_longitude_and_latitude_are_known_by_name_and_by_attribute(y: Any, x: Any) -> None:
    field = normalized(on(y, x))
    assert field.dims == ("latitude", "longitude")
    np.testing.assert_array_equal(field, VALUES)
    np.testing.assert_array_equal(field["longitude"], LONGITUDE)
    assert field["latitude"].dtype == np.float64


def test_axes_are_found_beside_dims_without_coordinates() -> None:
    dataset = xr.Dataset({"v": (("y", "x"), VALUES), "nav_lat": ("y", LATITUDE), "nav_lon": ("x", LONGITUDE)})
    field = normalized(dataset)
    assert field.dims == ("latitude", "longitude")
    np.testing.assert_array_equal(field["latitude"], LATITUDE)


def test_any_order_of_dims_becomes_time_latitude_longitude() -> None:
    dataset = stepped("time", pd.date_range("2020-01-01", periods=4))
    shuffled = dataset.assign(v=dataset["v"].transpose("lon", "time", "lat"))
    field = normalized(shuffled)
    assert field.dims == ("time", "latitude", "longitude")
    np.testing.assert_array_equal(field, dataset["v"])


def test_times_are_nanoseconds_whatever_the_file_has() -> None:
    times = pd.date_range("2020-01-01", periods=4).to_numpy().astype("datetime64[s]")
    assert normalized(stepped("t", times))["time"].dtype == np.dtype("datetime64[ns]")


# ---------------------------------------------------------------- projections


@pytest.mark.parametrize("names", [("y", "x"), ("northing", "easting"), ("yc", "xc")])
def test_projected_grids_keep_y_and_x_and_carry_their_projection(names: tuple[str, str]) -> None:
    field = normalized(on((names[0], {}), (names[1], {}), crs=UTM))
    assert field.dims == ("y", "x")
    assert field.attrs["crs"] == UTM


def test_projection_of_the_user_wins_over_the_file() -> None:
    assert normalized(on(("y", {}), ("x", {}), crs="EPSG:3857"), UTM).attrs["crs"] == UTM


@pytest.mark.parametrize("code", [UTM, "32736"])
def test_epsg_codes_are_read_with_and_without_prefix(code: str) -> None:
    assert normalized(on(("y", {}), ("x", {}), epsg_code=code)).attrs["crs"] == UTM


def test_grid_mapping_names_the_projection_and_kilometers_become_meters() -> None:
    polar = {
        "grid_mapping_name": "polar_stereographic",
        "latitude_of_projection_origin": 90.0,
        "standard_parallel": 70.0,
        "straight_vertical_longitude_from_pole": -45.0,
        "semi_major_axis": 6378273.0,
        "inverse_flattening": 298.279411123064,
    }
    dataset = on(("yc", {"units": "km"}), ("xc", {"units": "km"}))
    dataset["Polar"] = ((), 0, polar)
    dataset["v"].attrs["grid_mapping"] = "Polar"
    field = normalized(dataset)
    np.testing.assert_array_equal(field["x"], np.multiply(LONGITUDE, 1000))
    assert "Stereographic" in field.attrs["crs"]


def test_rotated_pole_is_a_projection_although_it_counts_in_degrees() -> None:
    rotated = {
        "grid_mapping_name": "rotated_latitude_longitude",
        "grid_north_pole_latitude": 39.25,
        "grid_north_pole_longitude": -162.0,
    }
    dataset = on(("rlat", {"standard_name": "grid_latitude"}), ("rlon", {"standard_name": "grid_longitude"}))
    dataset["pole"] = ((), 0, rotated)
    assert normalized(dataset).dims == ("y", "x")


def test_x_and_y_in_a_geographic_projection_are_longitude_and_latitude() -> None:
    assert normalized(on(("y", {}), ("x", {}), crs="EPSG:4326")).dims == ("latitude", "longitude")


@pytest.mark.parametrize(
    ("dataset", "crs", "message"),
    [
        (on(("y", {}), ("x", {})), None, r"names no projection\. Give crs='EPSG:"),
        (on(("lat", {}), ("lon", {})), UTM, "in longitude and latitude, but crs is EPSG:32736; leave crs out"),
        (on(("y", {}), ("x", {})), "EPSG:1", "crs must be a projection pyproj knows"),
        (on(("a", {}), ("b", {})), None, "no horizontal axes among the dims a, b. Name the axes"),
    ],
)
def test_unclear_projections_and_axes_are_errors(dataset: xr.Dataset, crs: str | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        normalized(dataset, crs)


def test_meters_called_latitude_are_an_error() -> None:
    dataset = on(("lat", {}), ("lon", {})).assign_coords(lat=[7.3e6, 7.4e6])
    with pytest.raises(ValueError, match=r"latitude must be finite degrees; got 7.3e\+06 to 7.4e\+06. If the grid is"):
        normalized(dataset)


def test_curvilinear_grid_is_an_error_that_says_so() -> None:
    dataset = xr.Dataset({"v": (("j", "i"), VALUES), "nav_lon": (("j", "i"), VALUES), "nav_lat": (("j", "i"), VALUES)})
    with pytest.raises(ValueError, match=r"nav_lon has two dims .a curvilinear grid.: regrid the file"):
        normalized(dataset)


def test_text_is_no_field() -> None:
    dataset = on(("lat", {}), ("lon", {}))
    with pytest.raises(ValueError, match="expected numbers; got <U1"):
        normalized(dataset.assign(v=(("lat", "lon"), np.full((2, 3), "a"))))


# ---------------------------------------------------------------- levels


def layered(depth: Any) -> xr.Dataset:
    data = np.arange(6.0 * len(depth)).reshape(len(depth), 2, 3)
    return xr.Dataset({"v": (("depth", "lat", "lon"), data)}, {"depth": depth, "lat": LATITUDE, "lon": LONGITUDE})


def test_nearest_level_is_taken_and_recorded() -> None:
    field = normalized(layered([0.0, 10.0, 30.0]), depth=12)
    np.testing.assert_array_equal(field, VALUES + 6)
    assert field.attrs["level"] == "depth=10.0"


def test_level_of_length_one_needs_no_choice() -> None:
    np.testing.assert_array_equal(normalized(layered([5.0])), VALUES)


def test_text_level_is_taken_by_name() -> None:
    np.testing.assert_array_equal(normalized(layered(["top", "bottom"]), depth="bottom"), VALUES + 6)


def test_level_of_a_dim_without_coordinate_is_a_position() -> None:
    np.testing.assert_array_equal(normalized(layered([0.0, 10.0]).drop_vars("depth"), depth=1), VALUES + 6)


@pytest.mark.parametrize(
    ("level", "message"),
    [
        ({}, r"dimension depth has 2 values \(0.0, 10.0\). Choose one with level=.'depth': 0.0."),
        ({"height": 1}, "level names height; the extra dimensions are depth"),
        ({"depth": "deep"}, "level depth is deep; expected one of 0.0, 10.0"),
    ],
)
def test_unselected_and_unknown_levels_are_errors(level: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        normalized(layered([0.0, 10.0]), **level)


def test_second_time_axis_has_to_be_selected() -> None:
    times = pd.date_range("2020-01-01", periods=2)
    dataset = stepped("time", times).expand_dims(valid_time=times.to_numpy())
    with pytest.raises(ValueError, match="dimension time has 2 values"):
        normalized(dataset.transpose("valid_time", ...))


# ---------------------------------------------------------------- months


@pytest.mark.parametrize("name", ["month", "MONTH", "time"])
def test_an_axis_that_counts_one_to_twelve_is_months(name: str) -> None:
    field = normalized(stepped(name, np.arange(1.0, 13.0)))
    assert field.dims[0] == "month"
    np.testing.assert_array_equal(field["month"], np.arange(1, 13))


def test_month_dim_without_coordinate_is_january_to_december() -> None:
    dataset = stepped("month", np.arange(12)).drop_vars("month")
    np.testing.assert_array_equal(normalized(dataset)["month"], np.arange(1, 13))


@pytest.mark.parametrize("start", ["0001-01-16", "2000-01-16"])
def test_time_axis_that_calls_itself_a_climatology_is_months(start: str) -> None:
    first = np.datetime64(start, "s")
    times = first + np.arange(12) * np.timedelta64(30 * 86400 + 40000, "s")
    field = normalized(stepped("time", times, {"climatology": "climatology_bounds"}))
    np.testing.assert_array_equal(field["month"], np.arange(1, 13))


def test_twelve_months_of_one_real_year_stay_dates() -> None:
    assert normalized(stepped("time", pd.date_range("2020-01-01", periods=12, freq="MS"))).dims[0] == "time"


def test_undecodable_modulo_axis_of_twelve_steps_is_months() -> None:
    hours = 366.0 + 730.485 * np.arange(12)
    field = normalized(stepped("TIME", hours, {"units": "hour since 0000-01-01 00:00:00", "modulo": " "}))
    np.testing.assert_array_equal(field["month"], np.arange(1, 13))


def test_undecodable_times_stay_numbers_with_their_units() -> None:
    field = normalized(stepped("time", [0.5, 1.5], {"units": "months since 1960-01-01", "calendar": "360"}))
    assert field.dims[0] == "time"
    assert field["time"].attrs == {"units": "months since 1960-01-01", "calendar": "360"}


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (stepped("month", [0, 1, 2]), "months must be numbers from 1 to 12, each once; got 0, 1, 2"),
        (stepped("month", [1, 1]), "each once; got 1"),
        (stepped("time", [0, 1]).drop_vars("time"), "dimension time has no coordinate; write its times"),
        (stepped("time", np.array(["2020-01-01", "NaT"], dtype="datetime64[ns]")), "the time axis has missing times"),
        (stepped("time", np.array(["0001-01-01", "0002-01-01"], dtype="datetime64[s]")), "must lie in 1678 to 2261"),
    ],
)
def test_broken_time_axes_are_errors(dataset: xr.Dataset, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        normalized(dataset)


def test_level_far_beyond_all_there_are_is_refused_and_one_just_beyond_is_not() -> None:
    ds = layered([0.5, 10.0, 100.0])
    assert normalized(ds, depth=0.0).attrs["level"] == "depth=0.5"
    assert normalized(ds, depth=150.0).attrs["level"] == "depth=100.0"
    with pytest.raises(ValueError, match=r"level depth is 5000, far from all there are: 0.5 to 100"):
        normalized(ds, depth=5000.0)
