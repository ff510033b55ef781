"""The coastline: land is land and sea is sea, on every map window, over the date line and around the poles."""

from __future__ import annotations

import doctest
import json
import subprocess
import sys
from functools import cache

import numpy as np
import pytest
import shapely

import mimic.coastline
from mimic.coastline import KM_PER_DEGREE, MapView, graticule, land, leaves_at, unwrap, view_of

WORLD = MapView("equirectangular", 0.0, (-180.0, 180.0), (-90.0, 90.0))
PACIFIC = MapView("equirectangular", 180.0, (100.0, 300.0), (-70.0, 75.0))

LAND = {
    "Paris": (2.3, 48.8),
    "Madagascar": (46.9, -19.4),
    "Chukotka, west": (178.0, 67.5),
    "Chukotka, on 180": (180.0, 67.5),
    "Chukotka, east": (-177.0, 66.8),
    "Alaska": (-150.0, 65.0),
    "Tasmania": (146.6, -42.0),
    "Chile": (-71.0, -30.0),
}
SEA = {
    "Atlantic": (-40.0, 30.0),
    "Pacific": (-150.0, 0.0),
    "on 180": (180.0, 0.0),
    "Bering Sea": (-178.0, 58.0),
    "Caspian Sea": (51.0, 41.5),
    "Arctic Ocean": (-160.0, 78.0),
}

land_on = cache(land)


def is_land(view: MapView, longitude: float, latitude: float) -> bool:
    x, y = view.project(np.array([longitude]), np.array([latitude]))
    return bool(land_on(view).contains(shapely.Point(x[0], y[0])))


def test_longitudes_unwrap_around_any_center() -> None:
    assert unwrap(np.array([-179.0, 179.0, 359.0]), 180.0).tolist() == [181.0, 179.0, 359.0]
    assert unwrap(np.array([-170.0, 190.0, 550.0]), 0.0).tolist() == [-170.0, -170.0, -170.0]
    assert unwrap(np.array([180.0]), 0.0).tolist() == [-180.0]  # half open: one name for each meridian


@pytest.mark.parametrize("name", LAND)
def test_land_is_land_on_a_world_map_cut_at_180_and_at_0(name: str) -> None:
    lon, lat = LAND[name]
    assert is_land(view_of(np.array([lon - 9, lon + 9]), np.array([lat - 4, lat + 4])), lon, lat)
    if PACIFIC.x[0] < unwrap(np.array(lon), 180.0) < PACIFIC.x[1]:
        assert is_land(PACIFIC, lon, lat)
    if abs(lon) < 180:
        assert is_land(WORLD, lon, lat)


@pytest.mark.parametrize("name", SEA)
def test_sea_is_sea(name: str) -> None:
    lon, lat = SEA[name]
    assert not is_land(view_of(np.array([lon - 9, lon + 9]), np.array([lat - 4, lat + 4])), lon, lat)


def test_no_seam_is_left_where_russia_crosses_180_degrees() -> None:
    shapes = land(view_of(np.array([175.0, -175.0]), np.array([63.0, 71.0])))
    along = shapely.LineString([(178.5, 67.8), (181.5, 67.8)])
    assert any(p.covers(along) for p in shapes.geoms)
    at_180 = [np.isclose(np.asarray(p.exterior.coords)[:, 0], 180.0) for p in shapes.geoms]
    assert not any((a[1:] & a[:-1]).any() for a in at_180)  # no edge runs along the meridian


def test_antarctica_reaches_the_pole_in_both_projections() -> None:
    around = np.array([0.0, 90.0, 180.0, -90.0])
    polar = view_of(around, np.full(4, -78.0))
    assert polar.projection == "south polar"
    assert land(polar).contains(shapely.Point(0.0, 0.0))
    assert all(is_land(WORLD, lon, -89.0) for lon in (-179.0, -60.0, 0.0, 100.0, 179.0))


def test_the_north_pole_lies_in_the_sea_and_antarctica_is_not_turned_inside_out() -> None:
    view = view_of(np.array([0.0, 90.0, 180.0, -90.0]), np.full(4, 76.0))
    assert view.projection == "north polar"
    assert not land(view).intersects(shapely.Point(0.0, 0.0).buffer(400.0))
    assert is_land(view, -40.0, 80.0)  # Greenland
    assert land(view).area < 0.5 * (view.x[1] - view.x[0]) * (view.y[1] - view.y[0])


def test_an_inland_map_is_land_to_its_edges_and_a_map_of_open_sea_has_none() -> None:
    kruger = view_of(np.array([31.5, 32.4]), np.array([-25.2, -24.0]))
    assert land(kruger).contains(shapely.box(kruger.x[0], kruger.y[0], kruger.x[1], kruger.y[1]))
    assert land(view_of(np.array([-42.0, -38.0]), np.array([29.0, 31.0]))).is_empty


def test_polygons_are_valid_and_no_ring_jumps_around_the_earth() -> None:
    polygons = mimic.coastline.land_polygons()
    assert shapely.is_valid(polygons).all()
    # The closing way of Antarctica, along the pole, is the only long step there may be.
    jumps = [np.abs(np.diff(np.asarray(p.exterior.coords)[:, 0])).max() > 180 for p in polygons]
    assert sum(jumps) == 1
    area = shapely.area(polygons).sum() / (360 * 180)
    assert 0.3 < area < 0.37  # of a world map in degrees, a third is land: Antarctica counts for much


def test_the_map_is_cut_in_the_widest_gap_of_longitudes() -> None:
    # 178 and -178: the gap of 356 degrees lies around 0, the map around 180.
    view = view_of(np.array([178.0, -178.0]), np.array([60.0, 62.0]))
    assert view.center_longitude == 180.0
    assert 178.0 > view.x[0] > 170.0
    assert 182.0 < view.x[1] < 190.0
    # 0, 100, 130 and 240: gaps of 100, 30, 110 and 120, so the map runs from 0 to 240.
    assert view_of(np.array([0.0, 100.0, 130.0, -120.0]), np.zeros(4)).center_longitude == pytest.approx(120.0)


def test_a_degree_east_is_half_a_degree_north_on_paper_at_60_degrees() -> None:
    view = view_of(np.array([10.0, 20.0]), np.array([58.0, 62.0]))
    assert view.aspect == pytest.approx(2.0)
    assert view.stretch > 1.0


@pytest.mark.parametrize(
    ("longitude", "latitude", "projection"),
    [
        ([0.0, 20.0], [60.0, 74.0], "equirectangular"),
        ([0.0, 20.0], [60.0, 76.0], "north polar"),
        ([0.0, 20.0], [-76.0, -60.0], "south polar"),
        ([0.0, 145.0], [-69.0, -48.0], "south polar"),  # far around
        ([0.0, 20.0], [-60.0, 80.0], "equirectangular"),
    ],
)
def test_the_view_is_polar_near_a_pole_of_one_hemisphere(
    longitude: list[float], latitude: list[float], projection: str
) -> None:
    assert view_of(np.array(longitude), np.array(latitude)).projection == projection


def test_distances_from_the_pole_are_true_and_north_is_up_at_the_data() -> None:
    for side, name in ((1.0, "north polar"), (-1.0, "south polar")):
        view = MapView(name, 30.0, (-1.0, 1.0), (-1.0, 1.0))  # type: ignore[arg-type]
        x, y = view.project(np.array([30.0, 30.0, 40.0]), side * np.array([80.0, 81.0, 80.0]))
        assert np.hypot(x[0], y[0]) == pytest.approx(10 * KM_PER_DEGREE)
        assert x[0] == pytest.approx(0.0, abs=1e-9)
        assert side * (y[1] - y[0]) > 0  # nearer to the pole is up in the north, down in the south
        assert x[2] > 0  # east is right


@pytest.mark.parametrize("seed", range(6))
def test_every_point_lies_within_the_frame_and_the_paper_is_no_ribbon(seed: int) -> None:
    rng = np.random.default_rng(seed)
    center = rng.uniform(-180, 180)
    lon = (center + rng.uniform(-1, 1, 50) * rng.choice([0.01, 1, 30, 170]) + 180) % 360 - 180
    lat = np.clip(rng.uniform(-88, 88) + rng.normal(size=50) * rng.choice([0.01, 1, 10]), -90, 90)
    view = view_of(lon, lat)
    x, y = view.project(lon, lat)
    assert ((x >= view.x[0]) & (x <= view.x[1]) & (y >= view.y[0]) & (y <= view.y[1])).all()
    assert view.height_over_width < 1.6
    assert land(view).is_valid


def test_a_single_point_gets_a_map_and_nan_is_left_aside() -> None:
    view = view_of(np.array([5.0, np.nan]), np.array([50.0, 51.0]))
    assert view.x[0] < 5.0 < view.x[1]
    assert view.y[0] < 50.0 < view.y[1]


def test_a_map_without_points_or_with_swapped_coordinates_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one point with finite coordinates"):
        view_of(np.array([np.nan]), np.array([1.0]))
    with pytest.raises(ValueError, match=r"latitude must lie in \[-90, 90\]; got -150.0. Are longitude and latitude"):
        view_of(np.array([60.0]), np.array([-150.0]))


def test_meridians_leave_the_frame_at_its_edge() -> None:
    view = MapView("north polar", 0.0, (-1000.0, 1000.0), (-1000.0, 1000.0))
    parallels, meridians = graticule(view)
    assert 85.0 in parallels
    assert np.hypot(*parallels[85.0].T) == pytest.approx(np.full(361, 5 * KM_PER_DEGREE))
    ends = {lon: leaves_at(view, meridians[lon]) for lon in (0.0, 90.0, -180.0, -90.0)}
    assert {lon: out for lon, (_, out) in ends.items()} == {0.0: (0, -1), 90.0: (1, 0), -180.0: (0, 1), -90.0: (-1, 0)}
    assert ends[0.0][0] == pytest.approx([0.5, 0.0])
    assert ends[90.0][0] == pytest.approx([1.0, 0.5])


def test_a_line_outside_the_frame_leaves_it_nowhere() -> None:
    view = MapView("north polar", 0.0, (0.0, 1.0), (0.0, 1.0))
    assert np.isnan(leaves_at(view, np.array([[2.0, 2.0], [3.0, 3.0]]))[0]).all()


def test_examples_in_the_docstrings_hold() -> None:
    assert doctest.testmod(mimic.coastline).failed == 0


def test_drawing_libraries_are_not_loaded_and_geopandas_only_with_the_land() -> None:
    code = (
        "import sys, json, numpy as np; import mimic.coastline as c; before = sorted(sys.modules);"
        "c.land(c.view_of(np.array([0., 9.]), np.array([50., 55.])));"
        "print(json.dumps([[m in part for m in ('matplotlib', 'geopandas')] for part in (before, sorted(sys.modules))]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [[False, False], [False, True]]
