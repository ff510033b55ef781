"""Distances to points, lines, polygons and the shore: by hand, against brute force, at the date line and the poles."""

from __future__ import annotations

import time
from pathlib import Path

import geopandas
import numpy as np
import pytest
import shapely

from mimic.hexgrid import EARTH_RADIUS_KM, cell_at, centroids, disks, distance_km
from mimic.vector_layers import distance_to_layer, distance_to_shore, read_layer, shipped_land, vector_layer

DEGREE = EARTH_RADIUS_KM * np.pi / 180


def to(shape: object, longitude: float, latitude: float, **options: bool) -> float:
    return float(vector_layer(shape).distance_km(np.array([longitude]), np.array([latitude]), **options)[0])


def brute(edges: np.ndarray, longitude: np.ndarray, latitude: np.ndarray, *, n: int = 20_000) -> np.ndarray:
    """Distance to the nearest of many points laid along the edges, (edge, 2, 2) degrees."""
    share = np.linspace(0, 1, n)[None, :, None]
    along = (edges[:, :1] + share * (edges[:, 1:] - edges[:, :1])).reshape(-1, 2)
    return np.array([distance_km(x, y, *along.T).min() for x, y in zip(longitude, latitude, strict=True)])


def test_distance_to_a_point_is_the_great_circle() -> None:
    assert to(shapely.Point(10, 50), 10, 53) == pytest.approx(3 * DEGREE)
    assert to(shapely.MultiPoint([(10, 50), (12, 53)]), 11, 53) == pytest.approx(
        float(distance_km(*np.array([11.0, 53.0, 12.0, 53.0])))
    )


def test_distance_to_a_meridian_and_beyond_its_end() -> None:
    line = shapely.LineString([(20, 0), (20, 40)])
    # the foot on a meridian from latitude b, d degrees away: sin(distance) = cos b sin d
    assert to(line, 25, 20) == pytest.approx(
        EARTH_RADIUS_KM * np.arcsin(np.cos(np.radians(20)) * np.sin(np.radians(5)))
    )
    assert to(line, 20, 43) == pytest.approx(3 * DEGREE)


def test_parallel_is_straight_in_degrees_and_not_the_great_circle_between_its_ends() -> None:
    # that great circle passes 16 degrees north of the parallel's middle
    assert to(shapely.LineString([(-60, 50), (60, 50)]), 0, 53) == pytest.approx(3 * DEGREE, abs=0.005)


def test_polygon_is_zero_inside_and_signed_as_deep_as_its_border() -> None:
    box = shapely.box(0, 0, 20, 20)
    assert to(box, 10, 2) == 0.0
    assert to(box, 10, 2, signed=True) == pytest.approx(-2 * DEGREE, rel=1e-4)
    assert to(box, 10, -2, signed=True) == pytest.approx(2 * DEGREE, rel=1e-4)


def test_a_hole_is_outside_and_a_common_border_is_none() -> None:
    ring = shapely.box(0, 0, 20, 20).difference(shapely.box(8, 8, 12, 12))
    assert to(ring, 10, 9) == pytest.approx(DEGREE, rel=1e-4)
    halves = shapely.MultiPolygon([shapely.box(0, 0, 10, 20), shapely.box(10, 0, 20, 20)])
    assert to(shapely.union_all(halves), 10, 10, signed=True) == to(halves, 10, 10, signed=True) < -1000


def test_lines_and_polygons_across_the_date_line() -> None:
    assert to(shapely.LineString([(179, 0), (-179, 0)]), 180, 1) == pytest.approx(DEGREE, rel=1e-6)
    for past in (
        shapely.box(170, -10, 190, 10),
        shapely.MultiPolygon([shapely.box(170, -10, 180, 10), shapely.box(-180, -10, -170, 10)]),
    ):
        assert to(past, -179.9, 0) == 0.0
        assert to(past, -165, 0, signed=True) == pytest.approx(5 * DEGREE, rel=1e-4)
        # the cut at 180 degrees is no border
        assert to(past, 179.99, 0, signed=True) < -9 * DEGREE


def test_cap_around_a_pole_has_only_its_parallel_as_border() -> None:
    cap = shapely.box(-180, 80, 180, 90)
    assert to(cap, 77, 90, signed=True) == pytest.approx(-10 * DEGREE, abs=0.03)
    assert to(cap, 180, 85, signed=True) == pytest.approx(-5 * DEGREE, abs=0.03)
    assert to(cap, -33, 78) == pytest.approx(2 * DEGREE, abs=0.03)


def test_distances_agree_with_brute_force() -> None:
    rng = np.random.default_rng(0)
    corners = np.cumsum(rng.normal(scale=3.0, size=(12, 2)), axis=0) + [175.0, 60.0]
    layer = vector_layer(shapely.LineString(corners))
    longitude, latitude = rng.uniform(150, 210, 100), rng.uniform(30, 89.9, 100)
    known = brute(np.stack([corners[:-1], corners[1:]], axis=1), longitude, latitude)
    # laid 20,000 points an edge: never closer than the edge, and never farther than half their spacing from its nearest
    off = layer.distance_km(longitude, latitude) - known
    assert off.max() < 0.005
    assert off.min() > -0.02


def test_where_filters_and_projected_files_are_read(tmp_path: Path) -> None:
    table = geopandas.GeoDataFrame(
        {"kind": ["river", "road"], "width": [5.0, 9.0]},
        geometry=[shapely.Point(31.0, -24.0), shapely.Point(31.5, -24.0)],
        crs="EPSG:4326",
    )
    path = tmp_path / "lines.gpkg"
    table.to_crs("EPSG:32736").to_file(path, layer="water")
    cell = cell_at(np.array([31.5]), np.array([-24.0]), 8)
    near, far = (distance_to_layer(path, cell, layer="water", where=w)[0] for w in ("width > 8", "kind == 'river'"))
    assert near < 1.0
    assert far == pytest.approx(0.5 * DEGREE * np.cos(np.radians(24)), abs=1.0)
    assert distance_to_layer(path, cell)[0] == near


def test_cells_may_repeat_and_come_in_any_order() -> None:
    cells = disks(cell_at(np.array([10.0]), np.array([40.0]), 4), 2)[0]
    mixed = np.concatenate([cells[::-1], cells[:3]])
    whole = distance_to_shore(cells)
    assert distance_to_shore(mixed).tolist() == [*whole[::-1].tolist(), *whole[:3].tolist()]
    assert whole.dtype == np.float32


def test_shore_is_positive_at_sea_and_negative_on_land() -> None:
    # Paris lies 150 to 160 km from the Channel; point Nemo 2,688 km from the nearest land
    places = {
        "Paris": (2.35, 48.86),
        "Nemo": (-123.39, -48.876),
        "south pole": (0.0, -90.0),
        "Fiji's cut": (180.0, -18.5),
    }
    longitude, latitude = np.array(list(places.values())).T
    paris, nemo, pole, cut = shipped_land().distance_km(longitude, latitude, signed=True)
    assert -165 < paris < -140
    assert nemo == pytest.approx(2688, abs=15)
    assert -700 < pole < -400
    assert cut > 20


def test_shore_of_own_land() -> None:
    cell = cell_at(np.array([25.0]), np.array([10.0]), 4)
    longitude, latitude = centroids(cell)
    expected = EARTH_RADIUS_KM * np.arcsin(np.cos(np.radians(latitude)) * np.sin(np.radians(longitude - 20)))
    assert distance_to_shore(cell, shapely.box(0, 0, 20, 20)) == pytest.approx(expected, abs=0.02)


def test_shore_of_ten_thousand_cells_takes_seconds() -> None:
    cells = disks(cell_at(np.array([20.0]), np.array([38.0]), 4), 57)[0]
    shipped_land()
    start = time.perf_counter()
    distance = distance_to_shore(cells)
    assert time.perf_counter() - start < 5.0
    assert len(cells) > 9_900
    assert (distance > 0).mean() == pytest.approx(0.21, abs=0.02)


def test_faults_are_explained(tmp_path: Path) -> None:
    cell = cell_at(np.array([0.0]), np.array([0.0]), 4)
    with pytest.raises(FileNotFoundError, match="expected a file of points, lines or polygons"):
        read_layer(tmp_path / "none.gpkg")
    (tmp_path / "bad.geojson").write_text("{")
    with pytest.raises(ValueError, match="cannot be read as a vector layer"):
        read_layer(tmp_path / "bad.geojson")
    with pytest.raises(ValueError, match="signed distance needs polygons"):
        distance_to_shore(cell, shapely.Point(0, 0))
    with pytest.raises(ValueError, match="expected degrees; got x 500000"):
        distance_to_layer(shapely.Point(500_000, 7_000_000), cell)
    with pytest.raises(ValueError, match="expected shapes; none is there"):
        distance_to_layer(geopandas.GeoSeries([]), cell)
    table = geopandas.GeoDataFrame({"width": [1.0]}, geometry=[shapely.Point(0, 0)])
    with pytest.raises(ValueError, match="none meets width > 2"):
        distance_to_layer(table, cell, where="width > 2")
    with pytest.raises(TypeError, match="expected a path, a GeoDataFrame or a shapely geometry; got int"):
        distance_to_layer(3, cell)


def test_table_without_shapes_is_no_layer(tmp_path: Path) -> None:
    (tmp_path / "tracks.csv").write_text("individual,lon,lat\na,1,2\n")
    with pytest.raises(ValueError, match=r"tracks.csv holds a table without shapes"):
        read_layer(tmp_path / "tracks.csv")
