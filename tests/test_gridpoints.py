"""Axes of any convention unwrap to the same grid."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import xarray as xr

from mimic.gridpoints import Grid, grid_of


def grid(longitude: Sequence[float] | np.ndarray, latitude: Sequence[float] | np.ndarray = (0.0, 1.0)) -> Grid:
    values = np.zeros((len(latitude), len(longitude)))
    return grid_of(xr.DataArray(values, {"latitude": list(latitude), "longitude": list(longitude)}))


def test_axis_across_the_date_line_does_not_jump() -> None:
    columns = grid([-180.0, -170, 160, 170]).columns
    np.testing.assert_array_equal(columns.position, [160, 170, 180, 190])
    np.testing.assert_array_equal(columns.index, [2, 3, 0, 1])
    assert not columns.is_cyclic


@pytest.mark.parametrize(
    "longitude",
    [np.arange(0, 360, 2.0), np.arange(-179, 180, 2.0), np.arange(20, 380, 2.0), np.arange(0, 361, 2.0)],
)
def test_global_grids_are_cyclic_and_hold_each_column_once(longitude: np.ndarray) -> None:
    columns = grid(longitude).columns
    assert columns.is_cyclic
    assert len(columns.position) == 180
    assert (np.diff(columns.position) == 2).all()


def test_a_grid_with_a_missing_column_is_not_cyclic() -> None:
    assert not grid(np.arange(0, 358, 2.0)).columns.is_cyclic


def test_location_between_nodes_by_hand() -> None:
    # 12.5 lies a quarter of the way from node 1 (10 degrees, second in the file) to node 2 (20, first)
    columns = grid([20.0, 10.0, 0.0]).columns
    low, high, weight, inside = columns.locate(np.array([12.5, 372.5]))
    assert low.tolist() == [1, 1]
    assert high.tolist() == [0, 0]
    np.testing.assert_allclose(weight, 0.25)
    assert inside.all()


def test_the_seam_of_a_global_grid_lies_between_its_last_and_first_column() -> None:
    low, high, weight, inside = grid(np.arange(0, 360, 90.0)).columns.locate(np.array([315.0, -45.0]))
    assert low.tolist() == [3, 3]
    assert high.tolist() == [0, 0]
    np.testing.assert_allclose(weight, [0.5, 0.5])
    assert inside.all()


def test_a_point_a_rounding_before_the_first_column_is_on_it() -> None:
    for longitude in (np.arange(0, 360, 90.0), np.arange(0, 40, 10.0)):
        assert grid(longitude).columns.nearest(np.array([-1e-14, 1e-14, 360.0])).tolist() == [0, 0, 0]


def test_nodes_reach_half_a_spacing_beyond_the_rim() -> None:
    regional = grid([10.0, 12.0, 16.0], [-5.0, -4.0])
    longitude = np.array([8.9, 9.1, 17.9, 18.1, 12.0, 12.0, np.nan])
    latitude = np.array([-4.5, -4.5, -4.5, -4.5, -5.6, -3.6, -4.0])
    assert regional.covers(longitude, latitude).tolist() == [False, True, True, False, False, True, False]


def test_a_single_row_reaches_as_far_as_the_columns_do() -> None:
    line = grid([0.0, 1.0, 2.0], [50.0])
    assert line.covers(np.array([1.0, 1.0]), np.array([50.4, 50.6])).tolist() == [True, False]


def test_ranges_may_go_around_the_seam() -> None:
    columns = grid(np.arange(0, 360, 10.0)).columns
    first, number, index = columns.between(np.array([-15.0, 95.0, 0.0]), np.array([15.0, 96.0, 400.0]))
    found = [sorted(index[a : a + n].tolist()) for a, n in zip(first, number, strict=True)]
    assert found == [[0, 1, 35], [], list(range(36))]


def test_projected_points_go_there_and_back() -> None:
    field = xr.DataArray(np.zeros((2, 2)), {"y": [7.19e6, 7.34e6], "x": [3.2e5, 4.0e5]}, attrs={"crs": "EPSG:32736"})
    kruger = grid_of(field)
    column, row = kruger.project(np.array([31.76642049]), np.array([-24.53730062]))
    # the Movebank file gives 375051.36, 7285726.06 for this fix
    np.testing.assert_allclose([column[0], row[0]], [375051.36, 7285726.06], atol=0.1)
    np.testing.assert_allclose(np.ravel(kruger.unproject(column, row)), [31.76642049, -24.53730062])
    assert not kruger.covers(np.array([-150.0]), np.array([60.0])).any()


def test_digest_tells_grids_apart() -> None:
    same = {grid([0.0, 1.0]).digest(), grid([0.0, 1.0]).digest()}
    assert len(same) == 1
    assert len(same | {grid([0.0, 2.0]).digest(), grid([0.0, 1.0], [0.0, 2.0]).digest()}) == 3


def test_other_dims_are_an_error() -> None:
    with pytest.raises(ValueError, match=r"expected a field with the dims .*; got \(lat, lon\). Open it with mimic"):
        grid_of(xr.DataArray(np.zeros((2, 2)), dims=("lat", "lon")))
    with pytest.raises(ValueError, match=r"and attrs\['crs'\]; got \(y, x\)"):
        grid_of(xr.DataArray(np.zeros((2, 2)), dims=("y", "x")))


def test_missing_coordinates_are_an_error() -> None:
    with pytest.raises(ValueError, match="must be one or more finite numbers"):
        grid([0.0, np.nan])
