"""Grids onto cells: by hand, against brute force, across the seam, in files, and on real rasters."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from mimic import grid_values, grids, regrid
from mimic.grids import open_field
from mimic.hexgrid import cell_at, centroids, children, distance_km
from mimic.regrid import Method, regrid_matrix, to_cells

METHODS = get_args(Method)


def field(
    longitude: np.ndarray | list[float], latitude: np.ndarray | list[float], values: Any = None, **attrs: Any
) -> xr.DataArray:
    if values is None:
        values = np.random.default_rng(0).normal(size=(len(latitude), len(longitude)))
    values = np.asarray(values)
    dims = ("time", "latitude", "longitude")[-values.ndim :]
    coords: dict[str, Any] = {"latitude": latitude, "longitude": longitude}
    if values.ndim == 3:
        coords["time"] = pd.date_range("2020-01-01", periods=len(values)).to_numpy().astype("datetime64[ns]")
    return xr.DataArray(values, coords, dims, attrs=attrs)


def cells_in(west: float, east: float, south: float, north: float, resolution: int, n: int = 2000) -> np.ndarray:
    """The cells that random points of a box fall into."""
    rng = np.random.default_rng(1)
    return np.unique(cell_at(rng.uniform(west, east, n), rng.uniform(south, north, n), resolution))


def globe(resolution: int = 2) -> np.ndarray:
    """All cells of the globe."""
    rng = np.random.default_rng(2)
    latitude = np.degrees(np.arcsin(rng.uniform(-1, 1, 4000)))
    return children(np.unique(cell_at(rng.uniform(-180, 180, 4000), latitude, 0)), resolution)[0]


def smooth(longitude: np.ndarray, latitude: np.ndarray) -> np.ndarray:
    """A linear function of the point in space: smooth at the poles and the date line."""
    lon, lat = np.radians(longitude), np.radians(latitude)
    return np.cos(lat) * (np.cos(lon) + 2 * np.sin(lon)) + 3 * np.sin(lat)


# ---------------------------------------------------------------- by hand


def centered(offset_lon: float = 0.0, offset_lat: float = 0.0, scale: float = 1.0) -> tuple[np.ndarray, xr.DataArray]:
    """A cell of resolution 5 (about 10 km) and a 2 x 2 grid around its centroid, corners `scale` degrees apart."""
    cell = cell_at(np.array([20.0]), np.array([10.0]), 5)
    (lon,), (lat,) = centroids(cell)
    longitude = lon + offset_lon + scale * np.array([-0.5, 0.5])
    latitude = lat + offset_lat + scale * np.array([-0.5, 0.5])
    return cell, field(longitude, latitude, [[1.0, 2.0], [3.0, 6.0]])


def test_bilinear_weights_at_the_center_of_four_points_are_a_quarter_each() -> None:
    cell, values = centered()
    np.testing.assert_allclose(regrid_matrix(values, cell, method="bilinear").toarray(), [[0.25] * 4])
    np.testing.assert_allclose(to_cells(values, cell, method="bilinear"), [3.0])  # (1 + 2 + 3 + 6) / 4


def test_bilinear_weights_by_hand() -> None:
    # the centroid lies 3/4 of the way to the east and 1/2 of the way to the north
    cell, values = centered(offset_lon=-0.25)
    expected = [[0.5 * 0.25, 0.5 * 0.75, 0.5 * 0.25, 0.5 * 0.75]]
    np.testing.assert_allclose(regrid_matrix(values, cell, method="bilinear").toarray(), expected)


def test_bilinear_renormalizes_over_finite_points() -> None:
    cell, values = centered(offset_lon=-0.25)
    values[0, 1] = np.nan  # left are 1 (weight 1/8), 3 (1/8) and 6 (3/8): 22/8 over 5/8
    np.testing.assert_allclose(to_cells(values, cell, method="bilinear"), [(1 + 3 + 3 * 6) / 5])


def test_a_centroid_on_a_missing_point_takes_nothing_from_its_neighbors() -> None:
    cell, values = centered(offset_lon=0.5, offset_lat=0.5)
    values[0, 0] = np.nan
    assert np.isnan(to_cells(values, cell, method="bilinear")).all()


def test_nearest_takes_the_nearest_point() -> None:
    cell, values = centered(offset_lon=-0.1, offset_lat=0.2)
    assert to_cells(values, cell, method="nearest").item() == 2.0  # south-east


def test_mean_weighs_the_points_inside_equally() -> None:
    cell, values = centered(scale=0.02)
    np.testing.assert_allclose(regrid_matrix(values, cell, method="mean").toarray(), [[0.25] * 4])
    values[1, 1] = np.nan
    np.testing.assert_allclose(to_cells(values, cell, method="mean"), [2.0])  # (1 + 2 + 3) / 3


def test_mean_of_a_cell_without_points_is_missing() -> None:
    cell, values = centered(scale=1.0)
    assert regrid_matrix(values, cell, method="mean").nnz == 0
    assert np.isnan(to_cells(values, cell, method="mean")).all()


def test_a_cell_without_finite_points_stays_missing() -> None:
    cell, values = centered(scale=0.02)
    for method in METHODS:
        assert np.isnan(to_cells(values * np.nan, cell, method=method)).all()


def test_auto_is_mean_from_min_points_on_and_bilinear_below() -> None:
    cell, values = centered(offset_lon=-0.005, scale=0.02)
    assert to_cells(values, cell, min_points=4).item() == pytest.approx(3.0)
    bilinear = to_cells(values, cell, method="bilinear").item()
    assert to_cells(values, cell, min_points=5).item() == pytest.approx(bilinear)
    assert bilinear != pytest.approx(3.0)


def test_auto_takes_a_point_inside_where_the_centroid_is_off_the_grid() -> None:
    cell, values = centered(offset_lon=0.04, scale=0.01)
    assert np.isnan(to_cells(values, cell, method="bilinear")).all()
    assert np.isfinite(to_cells(values, cell)).all()


def test_area_weighs_by_the_share_of_the_cell() -> None:
    # the border between the two columns runs through the centroid, that between the rows far to the south
    cell, values = centered(offset_lat=0.4)
    np.testing.assert_allclose(to_cells(values, cell, method="area"), [1.5], atol=0.05)


# ---------------------------------------------------------------- invariants


@pytest.mark.parametrize("method", METHODS)
def test_rows_sum_to_one_or_are_empty(method: Method) -> None:
    cells = cells_in(-12, 12, -12, 12, 3)
    weights = regrid_matrix(field(np.arange(-10, 10, 0.4), np.arange(-10, 10, 0.4)), cells, method=method)
    sums = weights.sum(axis=1)
    assert weights.shape == (len(cells), 50 * 50)
    np.testing.assert_allclose(sums[sums > 0], 1.0)
    assert 0 < (sums == 0).sum() < len(cells)
    assert (weights.data > 0).all()


@pytest.mark.parametrize("method", METHODS)
def test_a_constant_stays_constant(method: Method) -> None:
    values = field(np.arange(-10, 10, 0.4), np.arange(-10, 10, 0.4), np.full((50, 50), 7.5))
    values[:20] = np.nan
    result = to_cells(values, cells_in(-9, 9, -9, 9, 3), method=method).to_numpy()
    np.testing.assert_allclose(result[np.isfinite(result)], 7.5)


def test_mean_equals_the_brute_force_mean() -> None:
    longitude, latitude = np.arange(-60, -50, 1 / 12), np.arange(40, 46, 1 / 12)
    values = np.random.default_rng(3).normal(size=(5, len(latitude), len(longitude)))
    values[np.random.default_rng(4).random(values.shape) < 0.3] = np.nan
    values[:, :, 60:] = np.nan
    cells = cells_in(-61, -50, 40, 47, 4)
    lon, lat = np.meshgrid(longitude, latitude)
    table = pd.DataFrame(values.reshape(5, -1).T).groupby(cell_at(lon.ravel(), lat.ravel(), 4)).mean()
    expected = table.reindex(cells).to_numpy().T
    assert 0 < np.isnan(expected).sum() < expected.size
    np.testing.assert_allclose(
        to_cells(field(longitude, latitude, values), cells, method="mean"), expected, rtol=0, atol=1e-6
    )


@pytest.mark.parametrize(
    "longitude",
    [np.arange(0, 360, 1.5), np.arange(-180, 180, 1.5), np.arange(20.25, 380, 1.5), np.arange(180, -181, -1.5)],
    ids=["0-360", "180-180", "20-380", "repeated, descending"],
)
@pytest.mark.parametrize(
    "latitude", [np.arange(-90, 91, 1.5), np.arange(89.25, -90, -1.5)], ids=["poles", "descending"]
)
def test_a_smooth_field_of_the_globe_is_recovered_on_every_cell(longitude: np.ndarray, latitude: np.ndarray) -> None:
    cells = globe()
    assert len(cells) == 5882
    truth = smooth(*centroids(cells))
    values = field(longitude, latitude, smooth(*np.meshgrid(longitude, latitude)))
    for method, error in {"bilinear": 0.002, "nearest": 0.07, "mean": 0.07, "auto": 0.07}.items():
        result = to_cells(values, cells, method=method)  # type: ignore[arg-type]
        assert np.abs(result - truth).max() < error, method  # NaN would fail


def test_the_same_grid_in_another_convention_gives_the_same_values() -> None:
    cells = cells_in(160, 200, 45, 65, 4)
    longitude, latitude = np.arange(165, 196.0), np.arange(48, 63.0)
    values = np.random.default_rng(0).normal(size=(len(latitude), len(longitude)))
    order = np.argsort((longitude + 180) % 360 - 180)
    turned = field(((longitude + 180) % 360 - 180)[order], latitude[::-1], values[::-1, order])
    for method in METHODS:
        expected = to_cells(field(longitude, latitude, values), cells, method=method)
        assert 0 < np.isnan(expected).sum() < len(cells)
        np.testing.assert_allclose(to_cells(turned, cells, method=method), expected)


def test_nearest_is_nearest_by_great_circle_even_near_the_pole() -> None:
    longitude, latitude = np.arange(0, 360, 40.0), np.arange(55, 90, 6.0)
    lon, lat = np.meshgrid(longitude, latitude)
    cells = cells_in(-180, 180, 60, 89.9, 3, n=300)
    weights = regrid_matrix(field(longitude, latitude), cells, method="nearest")
    away = distance_km(*(v[:, None] for v in centroids(cells)), lon.ravel(), lat.ravel())
    taken = away[np.repeat(np.arange(len(cells)), np.diff(weights.indptr)), weights.indices]
    np.testing.assert_allclose(taken, away.min(axis=1)[np.diff(weights.indptr) > 0])
    assert len(taken) > 100


def test_repeated_cells_repeat_their_values_in_order() -> None:
    cells = cells_in(-5, 5, -5, 5, 3)[:4]
    shuffled = cells[[3, 0, 0, 2]]
    values = field(np.arange(-10, 10, 0.5), np.arange(-10, 10, 0.5))
    expected = to_cells(values, cells).to_numpy()[[3, 0, 0, 2]]
    np.testing.assert_array_equal(to_cells(values, shuffled), expected)


def test_no_cells_give_no_values() -> None:
    values = field([0.0, 1.0], [0.0, 1.0], np.zeros((3, 2, 2)))
    for method in METHODS:
        assert to_cells(values, np.zeros(0, dtype=np.int64), method=method).shape == (3, 0)


def test_infinite_and_huge_values_count_as_missing() -> None:
    cell, values = centered()
    for bad in (np.inf, -3.4e38):
        values[1, 1] = bad
        np.testing.assert_allclose(to_cells(values, cell, method="bilinear"), [2.0])


def test_gaps_that_move_in_time_are_renormalized_step_by_step() -> None:
    cell, one = centered(scale=0.02)
    values = field(one["longitude"].to_numpy(), one["latitude"].to_numpy(), np.stack([one, one, one * np.nan]))
    values[1, 1, 1] = np.nan
    np.testing.assert_allclose(to_cells(values, cell, method="mean")[:, 0], [3.0, 2.0, np.nan])


def test_result_carries_times_cells_and_attributes() -> None:
    cells = cells_in(-5, 5, -5, 5, 3)
    values = field(np.arange(-10, 10, 0.5), np.arange(-10, 10, 0.5), np.zeros((2, 40, 40), np.float32), units="degC")
    result = to_cells(values, cells)
    assert result.dims == ("time", "cell")
    assert result.dtype == np.float32
    assert result["cell"].dtype == np.int64
    assert result["cell"].attrs == {"grid_name": "h3", "level": 3}
    assert result.attrs["units"] == "degC"
    np.testing.assert_array_equal(result["time"], values["time"])


# ---------------------------------------------------------------- cost


def test_matrix_is_computed_once_and_cannot_be_changed() -> None:
    regrid._weights.cache_clear()
    cells = cells_in(-5, 5, -5, 5, 3)
    longitude = np.arange(-10, 10, 0.5)
    first = regrid_matrix(field(longitude, longitude), cells)
    assert regrid_matrix(field(longitude, longitude) + 1, cells.copy()) is first
    regrid_matrix(field(longitude, longitude), cells, method="mean")
    regrid_matrix(field(longitude + 1, longitude), cells)
    assert regrid._weights.cache_info().misses == 3
    with pytest.raises(ValueError, match="read-only"):
        first.data[0] = 2.0


def test_only_grid_points_near_the_cells_are_assigned(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(regrid, "cell_at", lambda lon, *rest: (asked.append(len(lon)), cell_at(lon, *rest))[1])
    cells = np.concatenate([cells_in(-180, -179, 10, 11, 4), cells_in(179, 180, 10, 11, 4)])
    values = field(np.arange(0, 360, 0.1), np.arange(-90, 90, 0.1), np.broadcast_to(np.float32(1), (1800, 3600)))
    assert np.diff(regrid_matrix(values, cells, method="mean").indptr).min() >= 10
    assert sum(asked) < 1500  # of 6,480,000; two square degrees hold 200


@pytest.mark.parametrize("block", [60, 16_000_000])
def test_a_field_in_its_file_gives_the_same_values_block_by_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    longitude, latitude = np.arange(0, 360, 5.0), np.arange(-60, 61, 5.0)
    values = field(longitude, latitude, np.random.default_rng(0).normal(size=(4, 25, 72)).astype(np.float32))
    values[:, 10:15] = np.nan
    values.rename("v").to_netcdf(tmp_path / "v.nc", engine="h5netcdf")
    cells = np.concatenate([cells_in(-20, 20, 0, 30, 1), cells_in(100, 120, -40, -10, 1)])
    read: list[int] = []
    whole = grid_values._read
    monkeypatch.setattr(grid_values, "_read", lambda box: (read.append(box.size), whole(box))[1])
    monkeypatch.setattr(regrid, "BLOCK", block)
    monkeypatch.setattr(grids, "LOAD_UP_TO", 10)
    lazy = open_field(tmp_path / "v.nc")
    result = to_cells(lazy, cells)
    lazy.close()
    assert sum(read) < values.size / 2, "only the part around the cells is read"
    assert max(read) <= max(block, 16 * 72)
    monkeypatch.setattr(regrid, "BLOCK", 16_000_000)
    np.testing.assert_array_equal(result, to_cells(values, cells))


# ---------------------------------------------------------------- projections


def projected(crs: str, x: np.ndarray, y: np.ndarray, values: np.ndarray) -> xr.DataArray:
    return xr.DataArray(values, {"y": y, "x": x}, ("y", "x"), attrs={"crs": crs})


def test_a_polar_grid_covers_the_pole() -> None:
    x = np.arange(-2e6, 2.01e6, 25_000.0)
    values = projected("EPSG:3413", x, x[::-1], np.zeros((len(x), len(x))))
    column, row = np.meshgrid(x, x[::-1])
    values[:] = smooth(*regrid.grid_of(values).unproject(column, row))
    cells = cells_in(-180, 180, 75, 90, 3)
    truth = smooth(*centroids(cells))
    for method, error in {"mean": 0.01, "auto": 0.01, "bilinear": 0.001, "nearest": 0.01, "area": 0.01}.items():
        assert np.abs(to_cells(values, cells, method=method) - truth).max() < error, method  # type: ignore[arg-type]


def test_mean_on_a_projected_grid_equals_the_brute_force_mean() -> None:
    x, y = np.arange(3.2e5, 3.6e5, 500.0), np.arange(7.2e6, 7.23e6, 500.0)
    values = projected("EPSG:32736", x, y, np.random.default_rng(0).normal(size=(len(y), len(x))))
    column, row = np.meshgrid(x, y)
    owner = cell_at(*regrid.grid_of(values).unproject(column.ravel(), row.ravel()), 7)
    expected = pd.Series(values.to_numpy().ravel()).groupby(owner).mean()
    result = to_cells(values, expected.index.to_numpy(), method="mean")
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-6)


def test_cells_outside_the_domain_of_a_projection_are_missing() -> None:
    x = np.arange(-1e6, 1e6, 50_000.0)
    values = projected("+proj=gnom +lat_0=0 +lon_0=0", x, x, np.ones((len(x), len(x))))
    cells = cell_at(np.array([0.0, 180.0]), np.array([0.0, 0.0]), 3)
    for method in METHODS:
        np.testing.assert_array_equal(to_cells(values, cells, method=method), [1, np.nan])


# ---------------------------------------------------------------- errors


def test_wrong_methods_and_cells_are_errors() -> None:
    cell, values = centered()
    with pytest.raises(ValueError, match="method must be one of auto, mean, nearest, bilinear, area; got cubic"):
        regrid_matrix(values, cell, method="cubic")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"expected H3 cells as integers; 1 are not valid .5."):
        regrid_matrix(values, np.append(cell, 5))
    with pytest.raises(ValueError, match="cells must be of one H3 resolution; got 4, 5"):
        regrid_matrix(values, np.append(cell, cell_at(np.array([0.0]), np.array([0.0]), 4)))


# ---------------------------------------------------------------- reference data


def test_kruger_cells_agree_with_direct_lookup(shared: Path) -> None:
    folder = shared / "data" / "kruger_buffalo"
    table = pd.read_csv(folder / "movebank_kruger_buffalo.csv.gz", usecols=["location-long", "location-lat"])
    cells = np.unique(cell_at(table["location-long"], table["location-lat"], 8))
    river = open_field(folder / "covariates_utm36s_200m.nc", "dist_river_m")
    import pyproj

    x, y = pyproj.Transformer.from_crs("EPSG:4326", "EPSG:32736", always_xy=True).transform(*centroids(cells))
    inside = (x > 3.18e5) & (x < 4.012e5) & (y > 7.19e6) & (y < 7.35e6)
    on = {"x": xr.DataArray(x[inside], dims="cell"), "y": xr.DataArray(y[inside], dims="cell")}
    direct = river.sel(on, method="nearest").to_numpy()
    nearest = to_cells(river, cells, method="nearest").to_numpy()
    assert len(cells) == 1135
    assert np.isnan(nearest).sum() == 1  # one fix lies off the raster
    np.testing.assert_array_equal(nearest[inside], direct)
    auto = to_cells(river, cells).to_numpy()[inside]
    assert np.corrcoef(auto, direct)[0, 1] > 0.99
    assert np.diff(regrid_matrix(river, cells).indptr)[inside].min() >= 15


def test_seals_across_the_date_line_have_depths_wherever_the_grid_reaches(shared: Path) -> None:
    folder = shared / "data" / "kotz_bearded_seals"
    table = pd.read_csv(folder / "tracks.csv.gz", usecols=["lon", "lat"])
    depth = open_field(folder / "bathymetry_etopo5_0_360.nc")
    cells = np.unique(cell_at(table["lon"], table["lat"], 5))
    lon, lat = centroids(cells)
    reached = (lat > 48) & (lat < 78) & ((lon % 360) > 170) & ((lon % 360) < 214.9)
    assert (lon[reached] > 0).any(), "some seals cross to the eastern hemisphere"
    result = to_cells(depth, cells).to_numpy()
    assert np.isfinite(result[reached]).all()
    # a cell is 20 km wide: one on the rim holds a few points although its centroid is outside
    far = (lat < 47.8) | (lat > 78.2) | ((lon % 360) < 169.5) | ((lon % 360) > 215.4)
    assert np.isnan(result[far]).all()
    assert far.sum() == 25
