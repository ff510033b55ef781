"""Files as data centers deliver them become one time axis on one grid; what does not fit together is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from mimic.file_layers import Layers, combine, thickness
from mimic.file_times import name_stamp
from mimic.filesets import FileSet, Source, find_files, open_files

LAT, LON = np.array([0.0, 1, 2]), np.array([10.0, 11, 12, 13])
EVERY = np.arange(12)


def write(path: Path, name: str, dims: dict[str, Any], values: np.ndarray, **encoding: Any) -> str:
    units = {"latitude": "degrees_north", "lat": "degrees_north", "longitude": "degrees_east", "lon": "degrees_east"}
    coords = {d: (d, v, {"units": units[d]} if d in units else {}) for d, v in dims.items()}
    data = xr.Dataset({name: (tuple(dims), values, {"units": "degC"})}, coords)
    data.to_netcdf(path, engine="h5netcdf", encoding={name: encoding} if encoding else None)
    return str(path)


def day(number: int, hours: int = 0) -> np.datetime64:
    return np.datetime64("2020-01-01", "ns") + np.timedelta64(24 * number + hours, "h")


def daily(folder: Path, number: int, *, value: float | None = None, name: str = "sst", lon: np.ndarray = LON) -> str:
    values = np.full((1, 3, 4), float(number) if value is None else value, dtype=np.float32)
    dims = {"time": np.array([day(number)]), "latitude": LAT, "longitude": lon}
    return write(folder / f"{name}_{number:02d}.nc", "sst", dims, values)


def values_of(files: FileSet, points: np.ndarray = EVERY, **options: Any) -> np.ndarray:
    """All steps at some points: (step, point)."""
    most = options.pop("most_values", 10_000)
    return np.concatenate([part for _, part in files.read(0, len(files.stamps), points, most_values=most)])


# ---------------------------------------------------------------- many files, one axis


def test_files_in_any_order_become_one_ascending_axis(tmp_path: Path) -> None:
    paths = tuple(daily(tmp_path, n) for n in (2, 0, 1))
    files = open_files(Source("sst", paths))
    assert files.axis == "time"
    assert files.stamps.tolist() == np.array([day(0), day(1), day(2)]).tolist()
    np.testing.assert_array_equal(values_of(files)[:, 0], [0, 1, 2])


def test_blocks_are_small_where_memory_is_short_and_give_the_same_values(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(7, 3, 4)).astype(np.float32)
    dims = {"time": np.array([day(n) for n in range(7)]), "latitude": LAT, "longitude": LON}
    files = open_files(Source("sst", (write(tmp_path / "a.nc", "sst", dims, values),)))
    blocks = list(files.read(0, 7, EVERY, most_values=130))
    assert [len(part) for _, part in blocks] == [2, 2, 2, 1]
    np.testing.assert_array_equal(np.concatenate([part for _, part in blocks]), values.reshape(7, 12))


def test_gaps_are_reported_where_two_steps_are_missing(tmp_path: Path) -> None:
    files = open_files(Source("sst", tuple(daily(tmp_path, n) for n in (0, 1, 2, 5, 6))))
    assert files.report["gaps"] == [("2020-01-03T00:00:00", "2020-01-06T00:00:00")]
    assert files.report["n_gaps"] == 1


def test_equal_stamps_are_refused_with_both_files_named(tmp_path: Path) -> None:
    paths = (daily(tmp_path, 0), daily(tmp_path, 1), daily(tmp_path, 1, name="again", value=9))
    with pytest.raises(ValueError, match=r"1 steps are there twice, such as 2020-01-02.* in sst_01.nc and again_01.nc"):
        open_files(Source("sst", paths))


def test_overlap_first_takes_the_file_named_first(tmp_path: Path) -> None:
    one, other = daily(tmp_path, 0), daily(tmp_path, 0, name="again", value=9)
    assert values_of(open_files(Source("sst", (one, other), overlap="first")))[0, 0] == 0
    files = open_files(Source("sst", (other, one), overlap="first"))
    assert values_of(files)[0, 0] == 9
    assert files.report["n_overlaps"] == 1


def test_files_of_different_grids_are_refused_with_both_named(tmp_path: Path) -> None:
    paths = (daily(tmp_path, 0), daily(tmp_path, 1, lon=LON + 0.25))
    with pytest.raises(ValueError, match=r"sst_00.nc and sst_01.nc have different grids \(longitude 4 from 10 to 13"):
        open_files(Source("sst", paths))


def test_a_grid_rounded_to_float32_is_the_same_grid(tmp_path: Path) -> None:
    paths = (daily(tmp_path, 0), daily(tmp_path, 1, lon=LON + 1e-5))
    assert len(open_files(Source("sst", paths)).stamps) == 2


def test_files_of_different_units_are_refused(tmp_path: Path) -> None:
    paths = (daily(tmp_path, 0), daily(tmp_path, 1))
    with xr.open_dataset(paths[1], engine="h5netcdf") as data:
        changed = data.load()
    changed["sst"].attrs["units"] = "K"
    changed.to_netcdf(paths[1], engine="h5netcdf")
    with pytest.raises(ValueError, match=r"different units \(degC and K\)"):
        open_files(Source("sst", paths))


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    paths = (daily(tmp_path, 0), daily(tmp_path, 1))
    Path(paths[1]).write_bytes(Path(paths[1]).read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"sst_01.nc cannot be read as a NetCDF file"):
        open_files(Source("sst", paths))


def test_a_file_that_is_damaged_where_its_values_are_is_named(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(1, 30, 40))
    dims = {"time": np.array([day(0)]), "latitude": np.arange(30.0), "longitude": np.arange(40.0)}
    path = write(tmp_path / "a.nc", "sst", dims, values, zlib=True, chunksizes=(1, 30, 40))
    files = open_files(Source("sst", (path,)))
    import h5py

    with h5py.File(path) as file:
        where = file["sst"].id.get_chunk_info(0)
    raw = bytearray(Path(path).read_bytes())
    raw[where.byte_offset + 10 : where.byte_offset + where.size - 10] = b"\0" * (where.size - 20)
    Path(path).write_bytes(bytes(raw))
    with pytest.raises(ValueError, match=r"a.nc cannot be read: .*It may be damaged; fetch it again"):
        values_of(files, np.arange(1200))


def test_find_files_sorts_patterns_and_names_what_is_missing(tmp_path: Path) -> None:
    paths = [daily(tmp_path, n) for n in (1, 0)]
    assert find_files([str(tmp_path / "sst_*.nc")], "sst") == (paths[1], paths[0])
    with pytest.raises(ValueError, match=r"sst: no file .*chl_\*.nc"):
        find_files([str(tmp_path / "chl_*.nc")], "sst")


# ---------------------------------------------------------------- as data centers write


def test_copernicus_marine_packed_int16_with_depth(tmp_path: Path) -> None:
    values = np.full((2, 3, 3, 4), 12.5, dtype=np.float32)
    values[:, 1] = 8.25
    values[0, 0, 0, 0] = np.nan
    dims = {"time": np.array([day(0, 12), day(1, 12)]), "depth": np.array([0.494, 1.541, 2.646])}
    packed = {"dtype": "int16", "scale_factor": 0.001, "add_offset": 20.0, "_FillValue": np.int16(-32767)}
    path = write(tmp_path / "thetao.nc", "thetao", {**dims, "latitude": LAT, "longitude": LON}, values, **packed)
    found = values_of(open_files(Source("thetao", (path,), "thetao", level={"depth": 0.5})))
    assert np.isnan(found[0, 0])
    np.testing.assert_allclose(found[1], 12.5, atol=1e-3)
    np.testing.assert_allclose(values_of(open_files(Source("t", (path,), level={"depth": 1.5})))[0], 8.25, atol=1e-3)
    with pytest.raises(ValueError, match=r"dimension depth has 3 values"):
        open_files(Source("thetao", (path,)))


def test_noaa_oisst_with_a_zlev_of_length_one(tmp_path: Path) -> None:
    dims = {"time": np.array([day(0, 12)]), "zlev": np.zeros(1), "lat": LAT, "lon": LON}
    path = write(tmp_path / "oisst.nc", "sst", dims, np.arange(12.0).reshape(1, 1, 3, 4))
    np.testing.assert_array_equal(values_of(open_files(Source("sst", (path,))))[0], EVERY)


def test_era5_valid_time_descending_latitude_and_longitudes_to_360(tmp_path: Path) -> None:
    dims = {"valid_time": np.array([day(0), day(0, 1)]), "latitude": LAT[::-1], "longitude": LON + 340}
    path = write(tmp_path / "era5.nc", "t2m", dims, np.arange(24.0).reshape(2, 3, 4))
    files = open_files(Source("t2m", (path,), multiply=1.0, add=-273.15))
    assert list(files.coordinates["latitude"]) == [2, 1, 0]
    np.testing.assert_allclose(values_of(files)[1], EVERY + 12 - 273.15)


def test_era5_streams_of_expver_are_put_together(tmp_path: Path) -> None:
    values = np.full((2, 2, 3, 4), np.nan)
    values[0, 0], values[1, 1] = 1.0, 5.0  # final in the first month, preliminary in the second
    dims = {"time": np.array([day(0), day(31)]), "expver": np.array([1, 5]), "latitude": LAT, "longitude": LON}
    path = write(tmp_path / "era5.nc", "u10", dims, values)
    found = values_of(open_files(Source("u10", (path,))))
    np.testing.assert_array_equal(found[:, 0], [1, 5])


def test_a_zarr_folder_is_a_file_like_others(tmp_path: Path) -> None:
    dims = {"time": np.array([day(0), day(1)]), "latitude": LAT, "longitude": LON}
    coords = {d: (d, v) for d, v in dims.items()}
    data = xr.Dataset({"sst": (tuple(dims), np.arange(24.0).reshape(2, 3, 4))}, coords)
    data.to_zarr(tmp_path / "a.zarr", consolidated=False, zarr_format=3)
    found = values_of(open_files(Source("sst", (str(tmp_path / "a.zarr"),))))
    np.testing.assert_array_equal(found.ravel(), np.arange(24))


def test_stamps_are_whole_seconds(tmp_path: Path) -> None:
    stamps = np.array([day(0), day(1)]) + np.timedelta64(123_456, "ns")
    dims = {"time": stamps, "latitude": LAT, "longitude": LON}
    files = open_files(Source("sst", (write(tmp_path / "a.nc", "sst", dims, np.zeros((2, 3, 4))),)))
    assert files.stamps.tolist() == np.array([day(0), day(1)]).tolist()


def test_a_single_date_beside_the_field_is_its_time(tmp_path: Path) -> None:
    data = xr.Dataset({"sst": (("latitude", "longitude"), np.ones((3, 4)))}, {"latitude": LAT, "longitude": LON})
    paths = []
    for number in range(2):
        paths.append(str(tmp_path / f"{number}.nc"))
        data.assign_coords(time=day(number)).to_netcdf(paths[-1], engine="h5netcdf")
    assert open_files(Source("sst", tuple(paths))).stamps.tolist() == np.array([day(0), day(1)]).tolist()


def test_many_files_without_times_are_refused(tmp_path: Path) -> None:
    data = xr.Dataset({"sst": (("latitude", "longitude"), np.ones((3, 4)))}, {"latitude": LAT, "longitude": LON})
    paths = [str(tmp_path / f"{number}.nc") for number in range(2)]
    for path in paths:
        data.to_netcdf(path, engine="h5netcdf")
    with pytest.raises(ValueError, match="many files need a time each: in the file, or in its name by time_pattern"):
        open_files(Source("sst", tuple(paths)))


# ---------------------------------------------------------------- depth ranges, worked by hand


def test_mean_over_a_depth_range_is_weighted_by_thickness(tmp_path: Path) -> None:
    # Levels 0, 10, 30, 60 within 0 to 40: 0 stands for 0-5, 10 for 5-20, 30 for 20-40; 60 lies outside.
    values = np.empty((1, 4, 3, 4))
    values[0, :] = np.array([1.0, 2, 3, 100])[:, None, None]
    values[0, 2, 0, 1] = np.nan  # sea floor between 10 and 30 m: (5 * 1 + 15 * 2) / 20
    dims = {"time": np.array([day(0)]), "depth": np.array([0.0, 10, 30, 60]), "latitude": LAT, "longitude": LON}
    files = open_files(Source("t", (write(tmp_path / "a.nc", "t", dims, values),), level={"depth": (0, 40)}))
    found = values_of(files)[0]
    assert found[0] == pytest.approx((5 * 1 + 15 * 2 + 20 * 3) / 40)
    assert found[1] == pytest.approx(35 / 20)
    assert files.attributes["level"] == "depth=0 to 40 (mean by thickness)"


def test_a_range_without_levels_is_refused(tmp_path: Path) -> None:
    dims = {"depth": np.array([0.0, 10]), "latitude": LAT, "longitude": LON}
    path = write(tmp_path / "a.nc", "t", dims, np.zeros((2, 3, 4)))
    with pytest.raises(ValueError, match="no level of depth lies in 100 to 200; there are 0 to 10"):
        open_files(Source("t", (path,), level={"depth": (100, 200)}))


def test_heights_below_zero_count_like_depths() -> None:
    np.testing.assert_array_equal(thickness(np.array([0.0, -10, -30, -60]), -40, 0), [5, 15, 20, 0])


def test_thickness_of_levels_over_their_whole_span_is_its_length() -> None:
    levels = np.sort(np.random.default_rng(0).uniform(0, 100, 20))
    assert thickness(levels, 0, levels[-1]).sum() == pytest.approx(levels[-1])


def test_weighted_mean_of_no_value_is_missing() -> None:
    nothing = np.full((1, 1), np.nan)
    assert np.isnan(combine([nothing, nothing], Layers(({}, {}), (1.0, 2.0)))).all()


# ---------------------------------------------------------------- times in names


@pytest.mark.parametrize(
    ("name", "pattern", "expected"),
    [
        ("lst_20200229.tif", "lst_%Y%m%d.tif", "2020-02-29T00"),
        ("A2003032.hdf", "A%Y%j.hdf", "2003-02-01T00"),
        ("wind-2020-01-02T06_v3.tif", "wind-%Y-%m-%dT%H*.tif", "2020-01-02T06"),
    ],
)
def test_time_in_a_name(name: str, pattern: str, expected: str) -> None:
    assert name_stamp(name, pattern) == np.datetime64(expected, "ns")


def test_pattern_that_does_not_fit_names_file_and_pattern() -> None:
    with pytest.raises(ValueError, match=r"the pattern lst_%Y%m%d.tif does not fit 'lst.tif'"):
        name_stamp("lst.tif", "lst_%Y%m%d.tif")
    with pytest.raises(ValueError, match=r"has no such date"):
        name_stamp("lst_20201350.tif", "lst_%Y%m%d.tif")
    with pytest.raises(ValueError, match=r"a pattern of times needs a date"):
        name_stamp("lst.tif", "lst.tif")


def raster(path: Path, values: np.ndarray, labels: tuple[str, ...] = ()) -> str:
    rasterio = pytest.importorskip("rasterio", reason="needs the extra raster")
    pytest.importorskip("rioxarray")
    transform = rasterio.transform.Affine(1, 0, 9.5, 0, -1, 2.5)
    shape = {"count": len(values), "height": 3, "width": 4, "dtype": "float32", "crs": "EPSG:4326"}
    with rasterio.open(path, "w", driver="GTiff", transform=transform, **shape) as file:
        file.write(values.astype(np.float32))
        for band, label in enumerate(labels, 1):
            file.set_band_description(band, label)
    return str(path)


def test_geotiffs_with_dates_in_their_names_are_a_stack(tmp_path: Path) -> None:
    paths = tuple(raster(tmp_path / f"lst_2020010{n}.tif", np.full((1, 3, 4), n)) for n in (2, 1))
    files = open_files(Source("lst", paths, time_pattern="lst_%Y%m%d.tif"))
    assert files.stamps.tolist() == np.array([day(0), day(1)]).tolist()
    np.testing.assert_array_equal(values_of(files)[:, 0], [1, 2])


def test_bands_of_a_raster_are_steps(tmp_path: Path) -> None:
    values = np.arange(3.0)[:, None, None] * np.ones((3, 3, 4))
    path = raster(tmp_path / "a.tif", values, ("d 2020-01-01", "d 2020-01-02", "d 2020-01-03"))
    for times in (("2020-01-01", "24h"), "d %Y-%m-%d"):
        files = open_files(Source("lst", (path,), band_times=times))
        assert files.stamps.tolist() == np.array([day(0), day(1), day(2)]).tolist()
        np.testing.assert_array_equal(values_of(files)[:, 5], [0, 1, 2])


def test_twelve_rasters_by_month_are_a_climatology(tmp_path: Path) -> None:
    paths = tuple(raster(tmp_path / f"tavg_{m:02d}.tif", np.full((1, 3, 4), m)) for m in range(1, 13))
    files = open_files(Source("tavg", paths, time_pattern="tavg_%m.tif"))
    assert files.axis == "month"
    np.testing.assert_array_equal(values_of(files)[:, 0], np.arange(1, 13))
    with pytest.raises(ValueError, match="a climatology needs the twelve months; got 1, 2"):
        open_files(Source("tavg", paths[:2], time_pattern="tavg_%m.tif"))


def test_codes_become_the_indicator_of_a_class(tmp_path: Path) -> None:
    dims = {"latitude": LAT, "longitude": LON}
    values = np.arange(12.0).reshape(3, 4)
    values[0, 0] = np.nan
    files = open_files(Source("forest", (write(tmp_path / "a.nc", "cover", dims, values),), codes=(1, 5)))
    found = values_of(files)[0]
    assert np.isnan(found[0])
    assert np.flatnonzero(found == 1).tolist() == [1, 5]


def test_pandas_reads_the_same_stamps(tmp_path: Path) -> None:
    files = open_files(Source("sst", tuple(daily(tmp_path, n) for n in range(3))))
    assert pd.DatetimeIndex(files.stamps).equals(pd.date_range("2020-01-01", periods=3))
