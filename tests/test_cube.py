"""Cubes hold what one would compute by hand, and end in the same bytes however their build went."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from mimic.cell_graph import CellGraph
from mimic.cube import cube_field, describe_cube, is_cube, open_cube
from mimic.cube_build import build_cube
from mimic.cube_sections import CubeConfig
from mimic.derived import derive
from mimic.grids import open_field
from mimic.hexgrid import centroids
from mimic.regions import surrounding
from mimic.regrid import to_cells

LAT, LON = np.arange(-3.0, 4.0), np.arange(176.0, 185.0)  # across the date line
BOX = [178, -2, 182, 2]


def day(number: int) -> np.datetime64:
    return np.datetime64("2020-01-01", "ns") + np.timedelta64(number, "D")


def field(number: int, seed: int = 0) -> np.ndarray:
    """(latitude, longitude) of a day, with a hole that moves."""
    values = np.random.default_rng([seed, number]).normal(10, 3, (len(LAT), len(LON)))
    values[number % 7, number % 9] = np.nan
    return values


def write_days(folder: Path, days: range, name: str = "sst", seed: int = 0) -> None:
    folder.mkdir(exist_ok=True)
    for number in days:
        data = xr.Dataset(
            {name: (("time", "lat", "lon"), field(number, seed)[None].astype(np.float32), {"units": "degC"})},
            {"time": [day(number)], "lat": LAT, "lon": LON},
        )
        data.to_netcdf(folder / f"{name}_{number:03d}.nc", engine="h5netcdf")


def write_depth(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    values = np.hypot(LAT[:, None], LON[None] - 180) * -100
    data = xr.Dataset({"elevation": (("lat", "lon"), values, {"units": "m"})}, {"lat": LAT, "lon": LON})
    data.to_netcdf(folder / "depth.nc", engine="h5netcdf")


def config(folder: Path, **changes: Any) -> CubeConfig:
    """Daily temperature, its front and trailing mean, and depth, in chunks of 3 days."""
    sections: dict[str, Any] = {
        "name": "test",
        "cells": {"resolution": 3, "box": BOX},
        "chunk_steps": 3,
        "variables": {"sst": {"files": str(folder / "sst_*.nc")}, "depth": {"files": str(folder / "depth.nc")}},
        "derived": {
            "front": {"kind": "front", "of": "sst"},
            "smooth": {"kind": "ring_mean", "of": "week", "options": {"rings": 2}},
            "week": {"kind": "trailing_mean", "of": "sst", "options": {"days": 4}},
        },
    }
    return CubeConfig.model_validate(sections | changes)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    write_days(tmp_path / "in", range(8))
    write_depth(tmp_path / "in")
    return tmp_path / "in"


def digests(store: Path) -> dict[str, str]:
    return {
        str(p.relative_to(store)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(store.rglob("*"))
        if p.is_file()
    }


# ---------------------------------------------------------------- values


def test_cube_holds_what_regridding_gives_and_xarray_reads_it(files: Path, tmp_path: Path) -> None:
    result = build_cube(config(files), tmp_path / "c.zarr")
    assert result["n_times"] == 8
    assert result["n_chunks"] == 3 * 4 + 0 * 1 + 1
    with xr.open_zarr(tmp_path / "c.zarr", chunks=None) as cube:
        cells = cube["cell"].to_numpy()
        assert cells.tolist() == sorted(cells.tolist())
        assert cube["cell"].attrs["grid_name"] == "h3"
        assert cube["cell"].attrs["level"] == 3
        assert cube["sst"].dims == ("time", "cell")
        assert cube["depth"].dims == ("cell",)
        assert cube["sst"].dtype == np.float32
        assert cube["sst"].attrs["units"] == "degC"
        assert cube["front"].attrs["units"] == "degC km-1"
        assert cube["sst"].attrs["source"] == "sst_000.nc to sst_007.nc (8 files)"
        assert cube["time"].to_numpy().astype("datetime64[ns]").tolist() == [day(n).tolist() for n in range(8)]
        for number in range(8):
            expected = to_cells(open_field(files / f"sst_{number:03d}.nc"), cells)[0]
            np.testing.assert_allclose(cube["sst"][number], expected, rtol=1e-6)
        np.testing.assert_allclose(cube["depth"], to_cells(open_field(files / "depth.nc"), cells), rtol=1e-6)
    longitude, latitude = centroids(cells)
    assert ((longitude >= 178) | (longitude <= -178)).all()
    assert (np.abs(latitude) <= 2).all()


def test_derived_values_are_those_of_the_whole_region_with_its_surroundings(files: Path, tmp_path: Path) -> None:
    build_cube(config(files), tmp_path / "c.zarr")
    cells = open_cube(tmp_path / "c.zarr")["cell"].to_numpy()
    wide = np.union1d(cells, surrounding(cells, 2))
    own = np.searchsorted(wide, cells)
    sst = np.concatenate([to_cells(open_field(files / f"sst_{n:03d}.nc"), wide) for n in range(8)]).astype(np.float32)
    graph, times = CellGraph.of(wide), np.array([day(n) for n in range(8)])
    week = derive("trailing_mean", [sst], graph=graph, times=times, options={"days": 4})
    expected = {
        "front": derive("front", [sst], graph=graph),
        "week": week,
        "smooth": derive("ring_mean", [week], graph=graph, options={"rings": 2}),
    }
    for name, values in expected.items():
        np.testing.assert_allclose(cube_field(tmp_path / "c.zarr", name, cells), values[:, own], rtol=1e-5)


def test_trailing_mean_by_hand(tmp_path: Path) -> None:
    # Days 0, 1, 2, 3 have 0, 10, 20, 30 degrees everywhere; the mean of two days is 0, 5, 15, 25, although a chunk
    # holds a single day.
    for number in range(4):
        values = np.full((1, len(LAT), len(LON)), 10.0 * number)
        data = xr.Dataset({"t": (("time", "lat", "lon"), values)}, {"time": [day(number)], "lat": LAT, "lon": LON})
        data.to_netcdf(tmp_path / f"t_{number}.nc", engine="h5netcdf")
    section = {"t": {"files": str(tmp_path / "t_*.nc"), "unit": "degC"}}
    derived = {
        "mean": {"kind": "trailing_mean", "of": "t", "options": {"days": 2}},
        "before": {"kind": "lag", "of": "t", "options": {"days": 2}},
        "change": {"kind": "difference", "of": ["t", "before"]},
    }
    build_cube(config(tmp_path, variables=section, derived=derived, chunk_steps=1), tmp_path / "c.zarr")
    with open_cube(tmp_path / "c.zarr") as cube:
        assert cube["mean"][:, 0].to_numpy().tolist() == [0, 5, 15, 25]
        np.testing.assert_array_equal(cube["before"][:, 0], [np.nan, np.nan, 0, 10])
        np.testing.assert_array_equal(cube["change"][:, 0], [np.nan, np.nan, 20, 20])


def test_days_before_the_start_serve_lags(files: Path, tmp_path: Path) -> None:
    derived = {"before": {"kind": "lag", "of": "sst", "options": {"days": 2}}}
    build_cube(config(files, derived=derived, time={"start": "2020-01-04", "end": "2020-01-06"}), tmp_path / "c.zarr")
    build_cube(config(files), tmp_path / "all.zarr")
    with open_cube(tmp_path / "c.zarr") as cube, open_cube(tmp_path / "all.zarr") as whole:
        assert cube.sizes["time"] == 3
        np.testing.assert_array_equal(cube["before"], whole["sst"][1:4])


def test_steps_are_means_of_the_stamps_within(tmp_path: Path) -> None:
    hours = np.array([day(0) + np.timedelta64(6 * h, "h") for h in range(6)])  # one and a half days
    values = np.arange(6.0)[:, None, None] * np.ones((6, len(LAT), len(LON)))
    data = xr.Dataset({"u10": (("time", "lat", "lon"), values)}, {"time": hours, "lat": LAT, "lon": LON})
    data.to_netcdf(tmp_path / "era5.nc", engine="h5netcdf")
    section = {"u10": {"files": str(tmp_path / "era5.nc")}}
    build_cube(config(tmp_path, variables=section, derived={}, time={"step": "24h"}), tmp_path / "c.zarr")
    with open_cube(tmp_path / "c.zarr") as cube:
        assert cube["u10"][:, 0].to_numpy().tolist() == [(0 + 1 + 2 + 3) / 4, 4.5]


def test_months_levels_classes_and_anomalies(files: Path, tmp_path: Path) -> None:
    months = np.arange(1, 13)[:, None, None, None] * np.ones((12, 2, len(LAT), len(LON)))
    months[:, 1] += 100
    coords = {"month": np.arange(1, 13), "depth": [0.0, 50.0], "lat": LAT, "lon": LON}
    xr.Dataset({"t": (("month", "depth", "lat", "lon"), months)}, coords).to_netcdf(files / "woa.nc", engine="h5netcdf")
    cover = np.where(LON[None] < 180, 1.0, 2.0) * np.ones((len(LAT), 1))
    xr.Dataset({"c": (("lat", "lon"), cover)}, {"lat": LAT, "lon": LON}).to_netcdf(files / "c.nc", engine="h5netcdf")
    variables = {
        "sst": {"files": str(files / "sst_*.nc")},
        "t": {"files": str(files / "woa.nc"), "levels": {"depth": [0, 50]}, "unit": "degC"},
        "cover": {"files": str(files / "c.nc"), "classes": {"west": [1], "east": [2]}},
    }
    derived = {
        "anomaly": {"kind": "anomaly", "of": ["sst", "t_0"]},
        "own": {"kind": "anomaly", "of": "sst", "options": {"base": ["2020-01-01", "2020-01-04"]}},
    }
    build_cube(config(files, variables=variables, derived=derived), tmp_path / "c.zarr")
    with open_cube(tmp_path / "c.zarr") as cube:
        assert cube["t_50"].dims == ("month", "cell")
        np.testing.assert_array_equal(cube["t_50"][:, 0], np.arange(101, 113))
        np.testing.assert_allclose(cube["anomaly"], cube["sst"] - 1)
        base = cube["sst"][:4].mean("time")
        np.testing.assert_allclose(cube["own"], cube["sst"] - base, atol=1e-5)
        np.testing.assert_allclose(cube["cover_west"] + cube["cover_east"], 1, atol=1e-6)
        assert set(np.unique(cube["cover_west"])) >= {0.0, 1.0}


def test_field_is_on_exactly_the_cells_asked_for(files: Path, tmp_path: Path) -> None:
    build_cube(config(files), tmp_path / "c.zarr")
    with open_cube(tmp_path / "c.zarr") as cube:
        cells, sst = cube["cell"].to_numpy(), cube["sst"].to_numpy()
    outside = surrounding(cells, 1)[:1]
    asked = np.concatenate([cells[[5, 2, 5]], outside])
    found = cube_field(tmp_path / "c.zarr", "sst", asked, times=(day(1), day(4)))
    assert found.dims == ("time", "cell")
    assert found["time"].to_numpy().tolist() == [day(n).tolist() for n in range(1, 5)]
    np.testing.assert_array_equal(found[:, :3], sst[1:5][:, [5, 2, 5]])
    assert np.isnan(found[:, 3]).all()
    assert found.attrs["n_outside"] == 1
    assert cube_field(tmp_path / "c.zarr", "depth", asked).shape == (4,)
    assert cube_field(tmp_path / "c.zarr", "sst", outside).isnull().all()


def test_description_tells_units_extent_dates_and_missing(files: Path, tmp_path: Path) -> None:
    build_cube(config(files), tmp_path / "c.zarr")
    told = describe_cube(tmp_path / "c.zarr")
    west, south, east, north = told["extent"]
    assert west > 177.9 > -177.9 > east  # across the date line
    assert -2 <= south < north <= 2
    assert told["variables"]["sst"]["units"] == "degC"
    assert told["first"], told["last"] == ("2020-01-01T00:00:00", "2020-01-08T00:00:00")
    with open_cube(tmp_path / "c.zarr") as cube:
        missing = float(cube["week"].isnull().mean())
    assert told["variables"]["week"]["share_missing"] == pytest.approx(missing)


# ---------------------------------------------------------------- the same bytes, whatever happens


def test_small_memory_and_workers_give_the_same_bytes(files: Path, tmp_path: Path) -> None:
    build_cube(config(files), tmp_path / "a.zarr")
    build_cube(config(files, memory_mb=16), tmp_path / "b.zarr", n_workers=2)
    assert digests(tmp_path / "a.zarr") == digests(tmp_path / "b.zarr")


def test_dask_cluster_gives_the_same_bytes(files: Path, tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed", reason="needs the extra scale")
    build_cube(config(files), tmp_path / "a.zarr")
    options = {"n_workers": 1, "threads_per_worker": 1, "processes": False, "dashboard_address": None}
    with distributed.LocalCluster(**options) as cluster:
        build_cube(config(files), tmp_path / "b.zarr", cluster=cluster.scheduler_address)
    assert digests(tmp_path / "a.zarr") == digests(tmp_path / "b.zarr")


def test_a_cube_grows_by_new_dates_and_full_chunks_stay_untouched(tmp_path: Path) -> None:
    write_days(tmp_path / "in", range(5))
    write_depth(tmp_path / "in")
    build_cube(config(tmp_path / "in"), tmp_path / "c.zarr")
    full = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in (tmp_path / "c.zarr").rglob("c/0/0")}
    assert len(full) == 4
    write_days(tmp_path / "in", range(5, 8))
    result = build_cube(config(tmp_path / "in"), tmp_path / "c.zarr")
    assert result["n_written"] == 2 * 4  # the chunk that was not full, and a new one, of each dated variable
    assert full == {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in full}
    build_cube(config(tmp_path / "in"), tmp_path / "whole.zarr")
    assert digests(tmp_path / "c.zarr") == digests(tmp_path / "whole.zarr")
    assert build_cube(config(tmp_path / "in"), tmp_path / "c.zarr")["n_written"] == 0


def test_a_cube_grows_by_new_variables(files: Path, tmp_path: Path) -> None:
    build_cube(config(files, derived={}), tmp_path / "c.zarr")
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "c.zarr" / "sst").rglob("c/*/*")}
    build_cube(config(files), tmp_path / "c.zarr")
    assert before == {p: p.stat().st_mtime_ns for p in before}
    build_cube(config(files), tmp_path / "whole.zarr")
    assert digests(tmp_path / "c.zarr") == digests(tmp_path / "whole.zarr")


def test_another_configuration_is_refused_with_what_differs(files: Path, tmp_path: Path) -> None:
    build_cube(config(files), tmp_path / "c.zarr")
    other = config(
        files, chunk_steps=4, derived={}, time={"end": "2020-01-05"}, cells={"resolution": 3, "box": [178, -1, 182, 2]}
    )
    with pytest.raises(
        ValueError, match=r"other cells .*chunk_steps 3 there, 4 now; front, .* is not wanted .*its times"
    ):
        build_cube(other, tmp_path / "c.zarr")
    method = config(files, variables={"sst": {"files": str(files / "sst_*.nc"), "method": "nearest"}}, derived={})
    with pytest.raises(ValueError, match=r"sst is made differently"):
        build_cube(method, tmp_path / "c.zarr")


def test_a_file_in_the_past_that_was_not_there_is_refused(tmp_path: Path) -> None:
    write_days(tmp_path / "in", range(0, 4))
    write_days(tmp_path / "in", range(5, 9))
    write_depth(tmp_path / "in")
    build_cube(config(tmp_path / "in"), tmp_path / "c.zarr")
    write_days(tmp_path / "in", range(4, 5))
    with pytest.raises(ValueError, match=r"its times \(8 from .*\) are not the first of those now \(9 from"):
        build_cube(config(tmp_path / "in"), tmp_path / "c.zarr")


def test_a_folder_of_something_else_is_left_alone(files: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds something that is not a cube of mimic"):
        build_cube(config(files), files)


def test_an_unfinished_cube_is_not_read(files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(what: str, done: int, total: int, note: str = "") -> None:
        if what == "chunks" and done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_cube(config(files), tmp_path / "c.zarr", progress=stop)
    assert is_cube(tmp_path / "c.zarr")
    with pytest.raises(ValueError, match="is not finished; run mimic covariates build again"):
        open_cube(tmp_path / "c.zarr")
    assert build_cube(config(files), tmp_path / "c.zarr")["n_written"] == 13 - 5
    build_cube(config(files), tmp_path / "whole.zarr")
    assert digests(tmp_path / "c.zarr") == digests(tmp_path / "whole.zarr")
