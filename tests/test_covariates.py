"""Fields at cells and times: every join by hand, the gaps, the messages, and real animals."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from mimic import grid_values, grids, regrid
from mimic.covariates import Covariate, at, coverage, sample
from mimic.grids import open_field
from mimic.hexgrid import cell_at, centroids
from mimic.joins import Join

CELLS = np.array([30, 10], dtype=np.int64)


def stamps(*times: str) -> np.ndarray:
    return np.array(times, dtype="datetime64[ns]")


def daily(values: list[float], start: str = "2020-01-01") -> xr.DataArray:
    """A field on two cells: the values on cell 30, ten times them on cell 10, one step a day."""
    data = np.outer(values, [1.0, 10.0]).astype(np.float32)
    times = pd.date_range(start, periods=len(values)).to_numpy().astype("datetime64[ns]")
    return xr.DataArray(data, {"time": times, "cell": CELLS}, ("time", "cell"))


def joined(field: xr.DataArray, join: Join, *times: str, **options: Any) -> list[float]:
    return at(field, np.full(len(times), 30), stamps(*times), join=join, **options).tolist()


# ---------------------------------------------------------------- joins


def test_each_row_gets_the_value_of_its_cell_and_time() -> None:
    rows = at(daily([1, 2, 3]), np.array([10, 30, 10]), stamps("2020-01-03", "2020-01-01", "2020-01-01"))
    assert rows.dtype == np.float32
    assert rows.tolist() == [30, 1, 10]


def test_static_field_needs_no_times() -> None:
    field = daily([5])[0].drop_vars("time")
    assert at(field, np.array([10, 30])).tolist() == [50, 5]
    assert at(field, np.array([10]), stamps("1999-01-01")).tolist() == [50]


def test_a_single_step_may_be_called_static() -> None:
    assert joined(daily([5]), "static", "1999-01-01") == [5]
    with pytest.raises(ValueError, match="single time step: use join='static', or say how far"):
        joined(daily([5]), "auto", "2020-01-01")
    assert joined(daily([5]), "auto", "2020-01-02", max_gap="1D") == [5]


def test_nearest_takes_the_nearest_step_and_the_earlier_of_two() -> None:
    assert joined(daily([1, 2, 3]), "nearest", "2020-01-01T11", "2020-01-01T13", "2020-01-01T12") == [1, 2, 1]


def test_previous_takes_the_last_step_at_or_before() -> None:
    assert joined(daily([1, 2, 3]), "previous", "2020-01-01T23", "2020-01-02", "2020-01-03T05") == [1, 2, 3]


def test_previous_knows_nothing_before_the_first_step() -> None:
    np.testing.assert_array_equal(joined(daily([1, 2]), "previous", "2019-12-31T23:59"), [np.nan])


def test_linear_lies_between_the_steps_around() -> None:
    values = joined(daily([1, 3, 3]), "linear", "2020-01-01T06", "2020-01-02", "2020-01-02T12")
    np.testing.assert_allclose(values, [1.5, 3, 3])


def test_linear_holds_the_outermost_values_within_the_gap() -> None:
    values = joined(daily([1, 3]), "linear", "2019-12-31T12", "2020-01-02T12", "2020-01-05")
    np.testing.assert_array_equal(values, [1, 3, np.nan])


def test_linear_is_missing_beside_a_missing_step_but_not_on_its_neighbor() -> None:
    values = joined(daily([1, np.nan, 3]), "linear", "2020-01-01T12", "2020-01-01", "2020-01-03")
    np.testing.assert_array_equal(values, [np.nan, 1, 3])


@pytest.mark.parametrize("join", ["nearest", "previous", "linear"])
def test_order_of_steps_and_rows_does_not_matter(join: Join) -> None:
    rng = np.random.default_rng(0)
    field = daily(rng.normal(size=20).tolist())
    times = stamps("2020-01-01") + rng.integers(0, 19 * 86400 * 10**9, 50)
    cells = rng.choice(CELLS, 50)
    expected = at(field, cells, times, join=join)
    shuffle = rng.permutation(50)
    turned = field.isel(time=rng.permutation(20), cell=[1, 0])
    np.testing.assert_array_equal(at(turned, cells[shuffle], times[shuffle], join=join), expected[shuffle])


def test_months_take_the_step_of_their_month() -> None:
    field = xr.DataArray(np.arange(1.0, 13)[:, None], {"month": np.arange(1, 13), "cell": [30]})
    assert joined(field, "auto", "2020-01-31T23:59", "1969-12-01", "2021-07-15") == [1, 12, 7]
    np.testing.assert_array_equal(joined(field.isel(month=[6]), "auto", "2020-01-05", "2020-07-05"), [np.nan, 7])


def test_twelve_dated_steps_can_be_a_climatology_from_any_month_on() -> None:
    field = daily([float(m) for m in [7, 8, 9, 10, 11, 12, 1, 2, 3, 4, 5, 6]])
    field["time"] = pd.date_range("1999-07-16", periods=12, freq="31D").to_numpy().astype("datetime64[ns]")
    assert joined(field, "climatology", "2020-07-01", "2020-01-31", "2020-06-30") == [7, 1, 6]
    with pytest.raises(ValueError, match="needs twelve steps in twelve months; the time axis has 3"):
        joined(daily([1, 2, 3]), "climatology", "2020-01-01")


def test_undecoded_times_serve_a_climatology_only() -> None:
    field = daily([float(m) for m in range(1, 13)])
    field = field.assign_coords(time=("time", np.arange(12.0), {"units": "months since 1960-01-01"}))
    assert joined(field, "climatology", "2020-03-05") == [3]
    with pytest.raises(ValueError, match=r"not in dates \(units months since 1960-01-01\): only the join climatology"):
        joined(field, "auto", "2020-03-05")


# ---------------------------------------------------------------- gaps


@pytest.mark.parametrize("join", ["nearest", "previous", "linear"])
def test_no_value_beyond_the_largest_gap(join: Join) -> None:
    field = daily([1, 1, 1, 1]).isel(time=[0, 3])  # a hole of two days
    values = joined(field, join, "2020-01-01T12", "2020-01-02T11", "2020-01-05", max_gap="12h")
    np.testing.assert_array_equal(values, [1, np.nan, np.nan])


def test_default_gap_is_one_and_a_half_steps() -> None:
    field = daily([1, 2, 3])
    values = joined(field, "auto", "2020-01-04T12", "2020-01-04T13", "2019-12-30T12", "2019-12-30T11")
    np.testing.assert_array_equal(values, [3, np.nan, 1, np.nan])


def test_default_gap_covers_every_day_of_monthly_means_stamped_on_the_first() -> None:
    firsts = pd.date_range("2020-01-01", periods=3, freq="MS").to_numpy().astype("datetime64[ns]")
    field = xr.DataArray([[1.0], [2], [3]], {"time": firsts, "cell": [30]})
    days = pd.date_range("2020-01-01", "2020-03-31T23").to_numpy()
    assert at(field, np.full(len(days), 30), days, join="previous").tolist() == pd.DatetimeIndex(days).month.tolist()


def test_missing_time_has_no_value() -> None:
    for join in ("nearest", "previous", "linear"):
        np.testing.assert_array_equal(joined(daily([1, 2]), join, "NaT", "2020-01-01"), [np.nan, 1])


@pytest.mark.parametrize("unit", ["s", "us", "ns"])
def test_times_of_any_unit_and_container_are_the_same(unit: str) -> None:
    times = stamps("2020-01-02").astype(f"datetime64[{unit}]")
    for given in (times, pd.Series(times), pd.DatetimeIndex(times).tz_localize("UTC").tz_convert("Asia/Tokyo")):
        assert at(daily([1, 2]), np.array([30]), given).tolist() == [2]


@pytest.mark.parametrize(
    ("join", "message"),
    [
        ("static", "the join static does not suit a field with 2 steps of time"),
        ("spline", "join must be one of auto, static, climatology, nearest, previous, linear; got spline"),
    ],
)
def test_unsuited_joins_are_errors(join: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        joined(daily([1, 2]), join, "2020-01-01")


def test_wrong_rows_are_errors() -> None:
    field = daily([1, 2])
    with pytest.raises(ValueError, match=r"2 rows have cells the field is not on \(e.g. 40\)"):
        at(field, np.array([30, 40, 7]), stamps("2020-01-01", "2020-01-01", "2020-01-01"))
    with pytest.raises(ValueError, match="the field has 2 steps of time; give the times of the rows"):
        at(field, np.array([30]))
    with pytest.raises(ValueError, match=r"times must have one entry a row, \(2,\); got \(1,\)"):
        at(field, np.array([30, 10]), stamps("2020-01-01"))
    with pytest.raises(ValueError, match="the join nearest needs dates; the field has months"):
        joined(field.rename(time="month"), "nearest", "2020-01-01")
    with pytest.raises(ValueError, match="the join linear does not suit a field with no steps in time"):
        joined(field[0].drop_vars("time"), "linear", "2020-01-01")
    with pytest.raises(ValueError, match=r"the time axis repeats 1 steps .e.g. 2020-01-02"):
        joined(field.isel(time=[0, 1, 1]), "nearest", "2020-01-01")
    with pytest.raises(ValueError, match="max_gap must be a duration such as '36h' or '10D'; got 'soon'"):
        joined(field, "nearest", "2020-01-01", max_gap="soon")


# ---------------------------------------------------------------- definitions


def test_definition_reads_its_gap_once() -> None:
    assert Covariate("sst", "a.nc", max_gap="36h").max_gap == pd.Timedelta(hours=36)


@pytest.mark.parametrize("missing", ["drop", "error", 0, -1.5])
def test_missing_policies_are_drop_error_or_a_number(missing: Any) -> None:
    assert Covariate("sst", "a.nc", missing=missing).missing == missing


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": ""}, "a covariate needs a name"),
        ({"method": "cubic"}, "covariate sst: method must be one of auto, mean, .*; got cubic"),
        ({"join": "asof"}, "covariate sst: join must be one of auto, static, .*; got asof"),
        (
            {"missing": "fill"},
            "covariate sst: missing must be 'drop', 'error' or a finite number to fill in; got 'fill'",
        ),
        ({"missing": True}, "to fill in; got True"),
        ({"missing": float("nan")}, "to fill in; got nan"),
        ({"max_gap": "-1h"}, "covariate sst: max_gap must be a duration"),
    ],
)
def test_bad_definitions_are_errors(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Covariate(**{"name": "sst", "path": "a.nc", **options})


# ---------------------------------------------------------------- sampling


def gridded(folder: Path, n_steps: int = 30) -> Path:
    """A file whose value is 100 x day of January + latitude, on 40 ... 50 N, 20 ... 30 E."""
    axis = np.arange(0, 10.01, 0.1)
    data = 100.0 * np.arange(1, n_steps + 1)[:, None, None] + (40 + axis)[:, None] + 0 * axis
    times = pd.date_range("2020-01-01", periods=n_steps)
    values = xr.DataArray(data, {"time": times, "lat": 40 + axis, "lon": 20 + axis}, ("time", "lat", "lon"))
    values.astype(np.float32).to_dataset(name="v").to_netcdf(folder / "v.nc", engine="h5netcdf")
    return folder / "v.nc"


def rows(n: int = 200, days: int = 20) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    cells = cell_at(rng.uniform(21, 29, n), rng.uniform(41, 49, n), 5)
    return cells, stamps("2020-01-05") + rng.integers(0, days, n) * np.timedelta64(1, "D")


def test_sample_is_the_field_at_each_cell_and_time(tmp_path: Path) -> None:
    cells, times = rows()
    values = sample(Covariate("v", gridded(tmp_path), method="bilinear"), cells, times)
    assert values.dtype == np.float32
    day = (times - stamps("2019-12-31")) / np.timedelta64(1, "D")
    np.testing.assert_allclose(values, 100 * day + centroids(cells)[1], rtol=1e-6)


@pytest.mark.parametrize("join", ["nearest", "previous", "linear"])
@pytest.mark.parametrize("limit", [0, 10**9], ids=["in the file", "in memory"])
def test_sample_equals_the_three_steps_by_hand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, join: Join, limit: int
) -> None:
    monkeypatch.setattr(grids, "LOAD_UP_TO", limit)
    path = gridded(tmp_path)
    cells, times = rows(days=40)  # the last times lie beyond the file
    times = times + np.timedelta64(5, "h")
    with open_field(path) as field:
        on_cells = regrid.to_cells(field, np.unique(cells))
    expected = at(on_cells, cells, times, join=join)
    assert 0 < np.isnan(expected).sum() < len(expected)
    np.testing.assert_array_equal(sample(Covariate("v", path, join=join), cells, times), expected)


def test_only_the_steps_that_are_needed_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[tuple[int, ...]] = []
    whole = grid_values._read
    monkeypatch.setattr(grid_values, "_read", lambda box: (read.append(box.shape), whole(box))[1])
    monkeypatch.setattr(grids, "LOAD_UP_TO", 0)
    cells = cell_at(np.array([25.0, 25.1]), np.array([45.0, 45.1]), 5)
    sample(Covariate("v", gridded(tmp_path)), cells, stamps("2020-01-03", "2020-01-27"))
    assert [shape[0] for shape in read] == [2]
    assert read[0][1] * read[0][2] < 100


def test_file_is_closed_after_sampling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grids, "LOAD_UP_TO", 0)
    cells, times = rows()
    covariate = Covariate("v", gridded(tmp_path))
    sample(covariate, cells, times)
    gridded(tmp_path)  # HDF5 refuses to write a file that is open
    with pytest.raises(ValueError, match="do not overlap"):
        sample(covariate, cells, times + np.timedelta64(900, "D"))
    gridded(tmp_path)


def test_no_rows_give_no_values() -> None:
    assert sample(Covariate("v", "nowhere.nc"), np.zeros(0, dtype=np.int64), stamps()).shape == (0,)


def test_errors_name_the_covariate(tmp_path: Path) -> None:
    cells, times = rows()
    with pytest.raises(ValueError, match="covariate depth: the join static does not suit a field with 30 steps"):
        sample(Covariate("depth", gridded(tmp_path), join="static"), cells, times)


def test_no_value_at_all_says_that_space_does_not_overlap(tmp_path: Path) -> None:
    cells = cell_at(np.array([-60.0, -50.0]), np.array([30.0, 31.0]), 5)
    message = (
        r"covariate v has no value at any of the 2 rows. They do not overlap in space. 0 of 2 cells lie on the grid: "
        r"it spans longitude 20 to 30, latitude 40 to 50; the cells longitude -60.\d+ to -50.\d+, latitude 30.\d+ to "
        r"31.\d+. 2 of 2 times have a step near enough: the field runs from 2020-01-01 to 2020-01-30; "
        r"the times from 2020-01-02 to 2020-01-03."
    )
    with pytest.raises(ValueError, match=message):
        sample(Covariate("v", gridded(tmp_path)), cells, stamps("2020-01-02", "2020-01-03"))


def test_no_value_at_all_says_that_time_does_not_overlap(tmp_path: Path) -> None:
    cells, times = rows()
    message = "do not overlap in time. .* 0 of 20 times .* from 2020-01-01 to 2020-01-30; the times from 2022-06-23 to"
    with pytest.raises(ValueError, match=message):
        sample(Covariate("v", gridded(tmp_path)), cells, times + np.timedelta64(900, "D"))


def test_no_value_at_all_says_that_neither_overlaps(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="do not overlap in space nor in time"):
        sample(Covariate("v", gridded(tmp_path)), cell_at([0.0], [0.0], 5), stamps("1999-01-01"))


def test_no_value_at_all_may_be_allowed(tmp_path: Path) -> None:
    cells = cell_at([0.0], [0.0], 5)
    covariate = Covariate("v", gridded(tmp_path))
    for times in (stamps("2020-01-03"), stamps("1999-01-01")):
        np.testing.assert_array_equal(sample(covariate, cells, times, allow_all_missing=True), [np.nan])


def test_coverage_tells_a_mask_and_a_coarse_grid_from_no_overlap(tmp_path: Path) -> None:
    cells, times = rows()
    with open_field(gridded(tmp_path)) as field:
        assert coverage(field * np.nan, cells, times).startswith("They overlap, but the field has only missing values")
        fine = cell_at(np.array([25.03]), np.array([45.04]), 9)
        story = coverage(field, fine, times, method="mean")
    assert story.startswith("The grid is coarser than the cells, and none holds a grid point: use method='auto'.")


def test_coverage_of_a_projected_grid_speaks_its_own_coordinates() -> None:
    field = xr.DataArray(np.ones((2, 2)), {"y": [0.0, 1e5], "x": [0.0, 1e5]}, attrs={"crs": "EPSG:32736"})
    story = coverage(field, cell_at([31.7], [-24.5], 6))
    assert story.startswith("They do not overlap in space. 0 of 1 cells lie on the grid: it spans x (EPSG:32736) 0 to")


def test_a_million_rows_take_about_a_second(tmp_path: Path) -> None:
    cells, times = rows(3000)
    pick = np.random.default_rng(0).integers(0, 3000, 1_000_000)
    covariate = Covariate("v", gridded(tmp_path), join="linear")
    start = time.perf_counter()
    values = sample(covariate, cells[pick], times[::-1][pick])
    assert time.perf_counter() - start < 5, "0.4 s on an idle core"
    assert np.isfinite(values).all()


# ---------------------------------------------------------------- reference data


def test_sea_surface_temperature_follows_what_the_tuna_tags_measured(shared: Path) -> None:
    folder = shared / "data" / "bluefin_psat"
    tracks = pd.read_csv(folder / "tracks.csv")
    cells = cell_at(tracks["lon"], tracks["lat"], 4)
    times = pd.to_datetime(tracks["timestamp"])

    def correlation(method: Any) -> tuple[int, float]:
        covariate = Covariate("sst", folder / "coads_monthly_climatology.nc", "SST", method=method)
        sst = sample(covariate, cells, times)
        both = np.isfinite(sst) & tracks["max_temp_c"].notna().to_numpy()
        return int(both.sum()), float(np.corrcoef(sst[both], tracks["max_temp_c"][both])[0, 1])

    assert correlation("nearest") == (3280, pytest.approx(0.825, abs=0.005))
    assert correlation("auto") == (3280, pytest.approx(0.869, abs=0.005))


def test_elephant_seals_near_ice_and_land_have_no_nearest_sst(shared: Path) -> None:
    folder = shared / "data" / "ses_kerguelen"
    tracks = pd.read_csv(folder / "tracks.csv")
    cells = cell_at(tracks["lon"], tracks["lat"], 9)  # 0.2 km: as good as the positions
    times = pd.to_datetime(tracks["timestamp"])
    path = folder / "ersstv5_monthly_2013_2015.nc"
    nearest = sample(Covariate("sst", path, method="nearest"), cells, times)
    assert len(nearest) == 7353
    assert np.isnan(nearest).mean() == pytest.approx(0.062, abs=0.001)
    auto = sample(Covariate("sst", path), cells, times)
    assert np.isfinite(auto).all(), "one of the four points around is always at sea"
