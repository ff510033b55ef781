"""Files of every kind open as the same field, and bad files say what is wrong with them."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
import xarray as xr

from mimic import grids
from mimic.grids import open_field

UTM = "EPSG:32736"


def dataset(**attrs: Any) -> xr.Dataset:
    """Two days on a grid of 3 latitudes (descending) and 4 longitudes: 0 ... 23."""
    values = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    return xr.Dataset(
        {"sst": (("time", "lat", "lon"), values, {"units": "degC", **attrs})},
        {"time": pd.date_range("2020-01-01 12:00", periods=2), "lat": [52.0, 51, 50], "lon": [358.0, 359, 0, 1]},
    )


def netcdf(folder: Path, data: xr.Dataset, **encoding: Any) -> Path:
    path = folder / "field.nc"
    data.to_netcdf(path, engine="h5netcdf", encoding=encoding)
    return path


def raster(path: Path, values: np.ndarray, crs: str | None = UTM, **profile: Any) -> Path:
    """A GeoTIFF of (band, y, x) values; 100 units a pixel, the upper left corner at (1000, 2000)."""
    rasterio = pytest.importorskip("rasterio", reason="needs the extra raster")
    count, height, width = values.shape
    labels = profile.pop("labels", ())
    options = {"count": count, "height": height, "width": width, "dtype": values.dtype, "crs": crs, **profile}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        options.setdefault("transform", rasterio.transform.from_origin(1000, 2000, 100, 100))
        with rasterio.open(path, "w", driver="GTiff", **options) as file:
            file.write(values)
            for band, label in enumerate(labels, 1):
                file.set_band_description(band, label)
    return path


def check_field(field: xr.DataArray) -> None:
    assert field.dims == ("time", "latitude", "longitude")
    assert field.dtype == np.float32
    assert field.attrs["units"] == "degC"
    np.testing.assert_array_equal(field, dataset()["sst"])
    np.testing.assert_array_equal(field["latitude"], [52, 51, 50])
    np.testing.assert_array_equal(field["longitude"], [358, 359, 0, 1])
    np.testing.assert_array_equal(field["time"], np.array(["2020-01-01T12", "2020-01-02T12"], "datetime64[ns]"))


# ---------------------------------------------------------------- kinds of files


def test_netcdf4_opens(tmp_path: Path) -> None:
    check_field(open_field(netcdf(tmp_path, dataset())))


@pytest.mark.parametrize("version", ["NETCDF3_CLASSIC", "NETCDF3_64BIT"])
def test_netcdf3_opens(tmp_path: Path, version: Any) -> None:
    dataset().to_netcdf(tmp_path / "old.nc", engine="scipy", format=version)
    check_field(open_field(tmp_path / "old.nc", "sst"))


@pytest.mark.parametrize("version", [2, 3])
def test_zarr_folder_opens(tmp_path: Path, version: Any) -> None:
    dataset().to_zarr(tmp_path / "field.zarr", zarr_format=version, consolidated=False)
    check_field(open_field(tmp_path / "field.zarr"))


def test_suffix_does_not_matter(tmp_path: Path) -> None:
    check_field(open_field(netcdf(tmp_path, dataset()).rename(tmp_path / "field.grd")))


def test_geotiff_opens_with_pixel_centers_and_projection(tmp_path: Path) -> None:
    values = np.arange(6, dtype=np.float32).reshape(1, 2, 3)
    field = open_field(raster(tmp_path / "a.tif", values))
    assert field.dims == ("y", "x")
    assert field.attrs["crs"] == UTM
    np.testing.assert_array_equal(field, values[0])
    np.testing.assert_array_equal(field["x"], [1050, 1150, 1250])
    np.testing.assert_array_equal(field["y"], [1950, 1850])


def test_geotiff_in_degrees_has_latitude_and_longitude(tmp_path: Path) -> None:
    transform = pytest.importorskip("affine").Affine(1, 0, 10, 0, -1, 50)
    field = open_field(raster(tmp_path / "a.tif", np.ones((1, 2, 3)), "EPSG:4326", transform=transform))
    assert field.dims == ("latitude", "longitude")
    np.testing.assert_array_equal(field["longitude"], [10.5, 11.5, 12.5])


def test_large_geotiff_is_read_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grids, "LOAD_UP_TO", 0)
    field = open_field(raster(tmp_path / "a.tif", np.arange(6.0).reshape(1, 2, 3)))
    np.testing.assert_array_equal(field[1:, 1:], [[4, 5]])
    field.close()


def test_band_is_chosen_by_number_or_by_description(tmp_path: Path) -> None:
    values = np.arange(12, dtype=np.float32).reshape(2, 2, 3)
    path = raster(tmp_path / "a.tif", values, labels=("ndvi", "slope"))
    np.testing.assert_array_equal(open_field(path, "slope"), values[1])
    np.testing.assert_array_equal(open_field(path, level={"band": 2}), values[1])
    with pytest.raises(ValueError, match=r"dimension band has 2 values .1, 2.. Choose one with level="):
        open_field(path)


def test_projection_of_the_user_serves_a_raster_without_one(tmp_path: Path) -> None:
    path = raster(tmp_path / "a.tif", np.ones((1, 2, 3)), None)
    assert open_field(path, crs=UTM).attrs["crs"] == UTM
    with pytest.raises(ValueError, match="names no projection"):
        open_field(path)


def test_raster_without_georeference_is_an_error_not_a_warning(tmp_path: Path) -> None:
    transform = pytest.importorskip("affine").Affine.identity()
    with pytest.raises(ValueError, match="names no projection"):
        open_field(raster(tmp_path / "a.tif", np.ones((1, 2, 3)), None, transform=transform))


def test_missing_rioxarray_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = raster(tmp_path / "a.tif", np.ones((1, 2, 3)))
    monkeypatch.setitem(sys.modules, "rioxarray", None)
    with pytest.raises(ImportError, match=r"a.tif needs rioxarray.*install mimic\[raster\]"):
        open_field(path)


# ---------------------------------------------------------------- missing values and scales


def test_fill_values_and_scales_are_decoded(tmp_path: Path) -> None:
    data = dataset()
    data["sst"] = data["sst"].where(data["sst"] != 5)
    encoding = {"dtype": "int16", "scale_factor": 0.5, "add_offset": 3.0, "_FillValue": -32768}
    np.testing.assert_allclose(open_field(netcdf(tmp_path, data, sst=encoding)), data["sst"])


@pytest.mark.parametrize("bad", [np.inf, -np.inf, -3.4e38, 9.96921e36])
def test_infinite_and_undeclared_fill_values_are_missing(tmp_path: Path, bad: float) -> None:
    data = dataset()
    data["sst"][0, 1, 1] = bad
    field = open_field(netcdf(tmp_path, data, sst={"_FillValue": None}))
    assert np.isnan(field[0, 1, 1])
    assert int(field.isnull().sum()) == 1


@pytest.mark.parametrize("nodata", [-3.4e38, None])
def test_nodata_of_a_raster_is_missing_declared_or_not(tmp_path: Path, nodata: float | None) -> None:
    values = np.array([[[1.0, -3.4e38], [2.0, 3.0]]], dtype=np.float32)
    field = open_field(raster(tmp_path / "a.tif", values, nodata=nodata))
    np.testing.assert_array_equal(field, [[1, np.nan], [2, 3]])


def test_integers_become_floats(tmp_path: Path) -> None:
    assert open_field(netcdf(tmp_path, dataset().astype("int16"))).dtype == np.float32


def test_two_fill_values_do_not_warn(tmp_path: Path) -> None:
    path = netcdf(tmp_path, dataset())
    with h5py.File(path, "a") as file:
        file["sst"].attrs["missing_value"] = np.float32(7)
        file["sst"].attrs["_FillValue"] = np.float32(8)
    assert int(open_field(path).isnull().sum()) == 2


def test_a_variable_in_seconds_is_no_duration(tmp_path: Path) -> None:
    field = open_field(netcdf(tmp_path, dataset(units="s").rename(sst="wave_period")))
    np.testing.assert_array_equal(field, dataset()["sst"])


def test_calendars_that_numpy_does_not_know_leave_numbers(tmp_path: Path) -> None:
    data = dataset().assign_coords(time=("time", [0.0, 1.0], {"units": "days since 2000-01-01", "calendar": "noleap"}))
    assert open_field(netcdf(tmp_path, data))["time"].attrs["calendar"] == "noleap"


# ---------------------------------------------------------------- large files


def test_large_field_stays_in_the_file_until_it_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    whole = grids._read
    monkeypatch.setattr(grids, "LOAD_UP_TO", 5)
    monkeypatch.setattr(grids, "_read", lambda field, path: (read.append(field.size), whole(field, path))[1])
    field = open_field(netcdf(tmp_path, dataset()))
    assert read == [4], "one row is enough to know that there are data"
    check_field(field)
    field.close()


def test_large_field_with_late_data_is_not_called_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grids, "LOAD_UP_TO", 5)
    data = dataset()
    path = netcdf(tmp_path, data.where(data["sst"] == 23))
    open_field(path).close()
    with pytest.raises(ValueError, match="every value is missing"):
        open_field(netcdf(tmp_path, data.where(data["sst"] == 24)))


@pytest.mark.parametrize("limit", [0, 1000])
def test_order_of_dims_does_not_matter_in_memory_or_in_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    monkeypatch.setattr(grids, "LOAD_UP_TO", limit)
    field = open_field(netcdf(tmp_path, dataset().transpose("lon", "lat", "time")))
    check_field(field)
    field.close()


def test_file_is_closed_after_reading_and_after_an_error(tmp_path: Path) -> None:
    path = netcdf(tmp_path, dataset())
    field = open_field(path)
    netcdf(tmp_path, dataset() + 1)  # HDF5 refuses to write a file that is open
    with pytest.raises(ValueError, match="no variable"):
        open_field(path, "salinity")
    netcdf(tmp_path, dataset() + 2)
    check_field(field)


# ---------------------------------------------------------------- errors


def test_missing_file_names_its_neighbor(tmp_path: Path) -> None:
    netcdf(tmp_path, dataset())
    with pytest.raises(FileNotFoundError, match=r"fields.nc does not exist. Did you mean field.nc\?"):
        open_field(tmp_path / "fields.nc")


def test_text_is_no_netcdf(tmp_path: Path) -> None:
    (tmp_path / "page.nc").write_text("<html>404</html>")
    with pytest.raises(ValueError, match=r"cannot be read as a NetCDF file: .*may be cut short; fetch it again"):
        open_field(tmp_path / "page.nc")


@pytest.mark.parametrize("keep", [0.5, 0.999])
def test_cut_netcdf_is_one_clear_error(tmp_path: Path, keep: float) -> None:
    path = netcdf(tmp_path, dataset())
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content))])
    with pytest.raises(ValueError, match=r"field.nc (cannot be read|is damaged)"):
        open_field(path)


def test_cut_netcdf3_is_one_clear_error(tmp_path: Path) -> None:
    dataset().to_netcdf(tmp_path / "old.nc", engine="scipy")
    content = (tmp_path / "old.nc").read_bytes()
    (tmp_path / "old.nc").write_bytes(content[:100])
    with pytest.raises(ValueError, match=r"old.nc cannot be read as a NetCDF file"):
        open_field(tmp_path / "old.nc")


def test_damaged_data_are_one_clear_error(tmp_path: Path) -> None:
    path = netcdf(tmp_path, dataset(), sst={"zlib": True, "chunksizes": (2, 3, 4)})
    with h5py.File(path) as file:
        chunk = file["sst"].id.get_chunk_info(0)
    with path.open("r+b") as file:
        file.seek(chunk.byte_offset)
        file.write(b"\0" * chunk.size)
    with pytest.raises(ValueError, match=r"field.nc is damaged: .* while reading sst. Fetch the file again"):
        open_field(path)


def test_cut_raster_is_one_clear_error(tmp_path: Path) -> None:
    path = raster(tmp_path / "a.tif", np.random.default_rng(0).normal(size=(1, 50, 50)))
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"a.tif (cannot be read as a raster|is damaged)"):
        open_field(path)
    path.write_text("not a raster")
    with pytest.raises(ValueError, match=r"a.tif cannot be read as a raster"):
        open_field(path)


def test_folder_without_zarr_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is a folder but not a Zarr store"):
        open_field(tmp_path)


def test_unknown_variable_lists_those_there_and_the_nearest(tmp_path: Path) -> None:
    data = dataset().assign(salinity=dataset()["sst"])
    with pytest.raises(ValueError, match=r"no variable salinty; it has sst, salinity. Did you mean salinity\?"):
        open_field(netcdf(tmp_path, data), "salinty")
    with pytest.raises(ValueError, match=r"no variable SST; it has sst, salinity. Did you mean sst\?"):
        open_field(tmp_path / "field.nc", "SST")


def test_several_variables_need_a_name_and_bounds_are_no_variable(tmp_path: Path) -> None:
    data = dataset()
    data["lat"].attrs["bounds"] = "lat_bnds"
    data["lat_bnds"] = (("lat", "side"), np.zeros((3, 2)))
    check_field(open_field(netcdf(tmp_path, data)))
    with pytest.raises(ValueError, match=r"expected one gridded variable; found sst, sss. Name one with variable="):
        open_field(netcdf(tmp_path, data.assign(sss=data["sst"])))


def test_variable_without_any_value_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"field.nc, variable sst: expected data; every value is missing"):
        open_field(netcdf(tmp_path, dataset() * np.nan))


# ---------------------------------------------------------------- reference data


def test_all_reference_files_open(shared: Path) -> None:
    paths = sorted((shared / "data").glob("*/*.nc"))
    assert len(paths) == 11
    for path in paths:
        with xr.open_dataset(path, engine="h5netcdf", decode_times=False) as file:
            names = list(map(str, file.data_vars))
        for name in names:
            field = open_field(path, name, level={"depth": 0} if name == "TEMP" else None)
            assert field.dims[-2:] in (("latitude", "longitude"), ("y", "x"))
            assert field.dtype == np.float32


def test_kruger_raster_equals_the_same_layer_in_netcdf(shared: Path) -> None:
    folder = shared / "data" / "kruger_buffalo"
    pytest.importorskip("rioxarray", reason="needs the extra raster")
    tif = open_field(folder / "kruger_temp_200m.tif")
    layer = open_field(folder / "covariates_utm36s_200m.nc", "lst_mean")
    assert tif.attrs["crs"] == layer.attrs["crs"] == UTM
    np.testing.assert_array_equal(tif, layer)
    np.testing.assert_allclose(tif["x"], layer["x"])
