"""Boxes hold every cell whose centroid lies inside, at the date line and the poles too."""

from __future__ import annotations

import numpy as np
import pytest

from mimic.hexgrid import cell_at, centroids, distance_km
from mimic.regions import cells_in_box, cells_within, surrounding

N_CELLS_AT_2 = 5882  # 2 + 120 * 7^2


def test_the_globe_has_all_cells() -> None:
    assert len(cells_in_box(-180, -90, 180, 90, 2)) == N_CELLS_AT_2


@pytest.mark.parametrize(
    "box",
    [
        (170, 50, -170, 60),
        (170, 50, 190, 60),
        (-20, 80, 100, 90),
        (0, -90, 359, -80),
        (300, -5, 20, 5),
        (-5, 40, 5, 41),
    ],
)
def test_box_holds_the_cells_with_their_centroid_inside(box: tuple[float, float, float, float]) -> None:
    west, south, east, north = box
    everything = cells_in_box(-180, -90, 180, 90, 2)
    longitude, latitude = centroids(everything)
    inside = ((longitude - west) % 360 <= (east - west) % 360) & (latitude >= south) & (latitude <= north)
    if inside.any():
        np.testing.assert_array_equal(cells_in_box(*box, 2), everything[inside])
    else:
        with pytest.raises(ValueError, match="no cell of resolution 2 has its centroid in the box"):
            cells_in_box(*box, 2)


def test_box_across_the_date_line_is_written_either_way() -> None:
    np.testing.assert_array_equal(cells_in_box(175, -5, -175, 5, 3), cells_in_box(175, -5, 185, 5, 3))


def test_impossible_boxes_are_refused() -> None:
    with pytest.raises(ValueError, match="south < north"):
        cells_in_box(0, 10, 10, 5, 2)
    with pytest.raises(ValueError, match="two different longitudes"):
        cells_in_box(10, 0, 10, 5, 2)


def test_cells_within_reach_of_any() -> None:
    start = cell_at(np.array([179.9, 10.0]), np.array([0.0, 45.0]), 3)
    found = cells_within(start, 200.0)
    longitude, latitude = centroids(found)
    own = centroids(start)
    nearest = np.min([distance_km(x, y, longitude, latitude) for x, y in zip(*own, strict=True)], axis=0)
    assert (nearest <= 200).all()
    assert set(surrounding(start, 1).tolist()) <= set(found.tolist())


def test_more_cells_than_a_machine_can_list_are_refused_before_they_are_listed() -> None:
    # 2 + 120 * 7^10 cells in all
    with pytest.raises(ValueError, match=r"box -180, -90, 180, 90 holds about 33,897,029,882 cells of resolution 10"):
        cells_in_box(-180, -90, 180, 90, 10)
    with pytest.raises(ValueError, match=r"reach of 1000 km holds about .* cells of resolution 9"):
        cells_within(cell_at(np.array([20.0]), np.array([10.0]), 9), 1000.0)
