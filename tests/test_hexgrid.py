"""Cells, distances, bearings and neighbor tables."""

from __future__ import annotations

import h3.api.basic_int as h3
import numpy as np
import pytest

from mimic.hexgrid import (
    bearing_rad,
    boundaries,
    cell_at,
    centroids,
    check_cells,
    distance_km,
    neighbor_table,
    resolution_of,
)


def brute_force(origin: int, reach_km: float, k: int) -> set[int]:
    """Cells within reach, from a disk far larger than needed and h3's own distance."""
    here = h3.cell_to_latlng(origin)
    return {
        c
        for c in h3.grid_disk(origin, k)
        if h3.great_circle_distance(here, h3.cell_to_latlng(c), unit="km") <= reach_km
    }


def test_distance_of_one_degree_along_the_equator_and_a_meridian() -> None:
    degree = 2 * np.pi * 6371.007180918475 / 360  # 111.195 km
    assert distance_km(0, 0, 1, 0) == pytest.approx(degree)
    assert distance_km(10, 40, 10, 41) == pytest.approx(degree)


def test_distance_across_the_date_line_is_short_and_to_the_antipode_half_the_globe() -> None:
    assert distance_km(179.5, 0, -179.5, 0) == pytest.approx(111.195, abs=1e-3)
    assert distance_km(0, 0, 180, 0) == pytest.approx(np.pi * 6371.007180918475)


def test_bearing_is_true_clockwise_from_north_and_undefined_for_staying() -> None:
    # North, east on the equator, south, west: 0, pi/2, pi, -pi/2.
    bearing = bearing_rad([0, 0, 0, 0, 5], [0, 0, 1, 0, 60], [0, 1, 0, -1, 5], [1, 0, 0, 0, 60])
    assert bearing[:4] == pytest.approx([0, np.pi / 2, np.pi, -np.pi / 2])
    assert np.isnan(bearing[4])


def test_bearing_at_60_north_is_not_that_of_plain_degrees() -> None:
    # One degree east and one north at 60 N: a degree of longitude is half as long, so the heading is
    # near atan(0.5) = 26.6 degrees, not 45 as atan2(dlat, dlon) without cos(latitude) would say.
    assert np.degrees(bearing_rad(0.0, 60.0, 1.0, 61.0)) == pytest.approx(25.8, abs=0.5)
    assert np.degrees(bearing_rad(179.5, 0.0, -179.5, 0.0)) == pytest.approx(90.0)


def test_cell_of_a_centroid_is_the_cell_itself_for_every_convention_of_longitude() -> None:
    cells = np.array(h3.grid_disk(h3.latlng_to_cell(58.0, -179.9, 4), 5))
    longitude, latitude = centroids(cells)
    assert (cell_at(longitude, latitude, 4) == cells).all()
    assert (cell_at(longitude % 360, latitude, 4) == cells).all()
    assert cells.dtype == np.int64
    assert ((longitude >= -180) & (longitude < 180)).all()


def test_neighbors_equal_brute_force_at_the_date_line_the_pole_and_all_pentagons() -> None:
    origins = np.array([h3.latlng_to_cell(y, x, 4) for x, y in [(180, 55), (-150, 58), (0, 89.9), (30, -89.99)]])
    origins = np.concatenate([origins, np.array(h3.get_pentagons(4))])
    table = neighbor_table(origins, 100.0)
    for origin in origins.tolist():
        rows, _ = table.rows_of(np.array([origin]))
        assert set(table.cell[rows].tolist()) == brute_force(origin, 100.0, 8)


@pytest.mark.parametrize(("resolution", "reach_km"), [(2, 700.0), (5, 60.0), (8, 2.5), (4, 350.0), (4, 1.0)])
def test_neighbors_equal_brute_force_at_any_resolution_and_distance(resolution: int, reach_km: float) -> None:
    rng = np.random.default_rng(3)
    latitude = np.degrees(np.arcsin(rng.uniform(-1, 1, 12)))
    origins = cell_at(rng.uniform(-180, 180, 12), latitude, resolution)
    pentagon = h3.get_pentagons(resolution)[3]
    beside = h3.grid_ring(pentagon, 2)[0]
    table = neighbor_table(np.concatenate([origins, [pentagon, beside]]), reach_km)
    for i, origin in enumerate(table.origin.tolist()):
        found = table.cell[table.offsets[i] : table.offsets[i + 1]]
        assert set(found.tolist()) == brute_force(origin, reach_km, 14)


def test_neighbors_are_sorted_by_distance_and_begin_with_the_origin() -> None:
    table = neighbor_table(cell_at(np.array([-150.0]), np.array([57.0]), 4), 100.0)
    assert table.cell[0] == table.origin[0]
    assert table.distance_km[0] == 0.0
    assert np.isnan(table.bearing_rad[0])
    assert (np.diff(table.distance_km) >= 0).all()
    assert np.isfinite(table.bearing_rad[1:]).all()


def test_choice_sets_of_100_km_at_resolution_4_hold_19_to_32_cells() -> None:
    rng = np.random.default_rng(0)
    latitude = np.degrees(np.arcsin(rng.uniform(-1, 1, 400)))
    table = neighbor_table(cell_at(rng.uniform(-180, 180, 400), latitude, 4), 100.0)
    sizes = np.diff(table.offsets)
    assert sizes.min() >= 19
    assert sizes.max() <= 32


def test_zero_distance_leaves_the_origin_alone() -> None:
    table = neighbor_table(cell_at(np.array([3.0]), np.array([50.0]), 6), 0.0)
    assert table.cell.tolist() == table.origin.tolist()


def test_pentagon_of_the_gulf_of_alaska_has_five_neighbors() -> None:
    pentagon = cell_at(np.array([-143.5]), np.array([50.1]), 4)
    assert h3.is_pentagon(int(pentagon[0]))
    assert len(h3.grid_disk(int(pentagon[0]), 2)) == 16
    assert len(boundaries(pentagon)[0]) >= 5


def test_rows_of_repeats_the_neighbors_of_each_origin() -> None:
    origins = cell_at(np.array([-150.0, -140.0]), np.array([57.0, 57.0]), 4)
    table = neighbor_table(origins, 100.0)
    rows, offsets = table.rows_of(origins[[1, 0, 1]])
    sizes = {int(o): int(n) for o, n in zip(table.origin, np.diff(table.offsets), strict=True)}
    assert np.diff(offsets).tolist() == [sizes[int(origins[i])] for i in (1, 0, 1)]
    assert (table.cell[rows[: offsets[1]]] == table.cell[rows[offsets[2] :]]).all()


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match="resolution must be an H3 resolution, 0 to 15; got 16"):
        cell_at(np.array([0.0]), np.array([0.0]), 16)
    with pytest.raises(ValueError, match="coordinates must be finite"):
        cell_at(np.array([np.nan]), np.array([0.0]), 4)
    with pytest.raises(ValueError, match="max_distance_km must be finite and at least 0; got -1"):
        neighbor_table(cell_at(np.array([0.0]), np.array([0.0]), 4), -1.0)
    with pytest.raises(ValueError, match="expected H3 cells"):
        check_cells(np.array([12345]))
    table = neighbor_table(cell_at(np.array([0.0]), np.array([0.0]), 4), 50.0)
    with pytest.raises(ValueError, match="not in the neighbor table"):
        table.rows_of(cell_at(np.array([9.0]), np.array([9.0]), 4))


def test_resolution_of_a_cell() -> None:
    assert resolution_of(int(cell_at(np.array([0.0]), np.array([0.0]), 7)[0])) == 7


def test_reach_of_more_than_a_million_cells_is_refused() -> None:
    origin = cell_at(np.array([20.0]), np.array([10.0]), 15)
    with pytest.raises(ValueError, match=r"cells of resolution 15 lie within 90 km .* Take a coarser resolution"):
        neighbor_table(origin, 90.0)
