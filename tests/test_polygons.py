"""Cells inside polygons, from files and geometries, on both sides of the date line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import shapely

from mimic.hexgrid import cell_at
from mimic.polygons import inside

BOX = shapely.box(0, 0, 10, 10)
HOLE = shapely.Polygon(BOX.exterior, [shapely.box(4, 4, 6, 6).exterior])


def cells(*points: tuple[float, float]) -> np.ndarray:
    longitude, latitude = np.array(points).T
    return cell_at(longitude, latitude, 5)


def saved(path: Path, *shapes: Any, crs: str = "EPSG:4326", layer: str | None = None) -> Path:
    frame = geopandas.GeoDataFrame({"name": range(len(shapes))}, geometry=list(shapes), crs=crs)
    frame.to_file(path, **({} if layer is None else {"layer": layer}))
    return path


def test_cells_inside_are_one_and_others_zero() -> None:
    result = inside(HOLE, cells((2, 2), (5, 5), (11, 5)))
    assert result.dtype == np.float32
    assert result.tolist() == [1, 0, 0]


def test_any_of_several_polygons_counts_and_repeated_cells_repeat() -> None:
    both = geopandas.GeoSeries([BOX, shapely.box(20, 0, 30, 10), None], crs="EPSG:4326")
    assert inside(both, cells((25, 5), (15, 5), (5, 5), (25, 5))).tolist() == [1, 0, 1, 1]


@pytest.mark.parametrize("name", ["area.geojson", "area.gpkg"])
def test_files_are_read(tmp_path: Path, name: str) -> None:
    assert inside(saved(tmp_path / name, BOX), cells((5, 5), (15, 5))).tolist() == [1, 0]


def test_layer_of_a_file_is_chosen_by_name(tmp_path: Path) -> None:
    path = saved(tmp_path / "area.gpkg", BOX, layer="park")
    saved(path, shapely.box(20, 0, 30, 10), layer="reserve")
    assert inside(path, cells((5, 5), (25, 5)), layer="reserve").tolist() == [0, 1]


def test_projected_polygons_are_brought_to_degrees(tmp_path: Path) -> None:
    square = shapely.box(355_000, 7_265_000, 395_000, 7_305_000)  # around (375051, 7285726) = 31.766 E, 24.537 S
    path = saved(tmp_path / "park.gpkg", square, crs="EPSG:32736")
    assert inside(path, cells((31.766, -24.537), (32.5, -24.537))).tolist() == [1, 0]


@pytest.mark.parametrize(
    "shape",
    [
        shapely.box(170, -10, 190, 10),
        shapely.box(-190, -10, -170, 10),
        shapely.union(shapely.box(170, -10, 180, 10), shapely.box(-180, -10, -170, 10)),
    ],
    ids=["0-360", "below -180", "cut"],
)
def test_polygons_across_the_date_line_hold_both_sides(shape: Any) -> None:
    assert inside(shape, cells((175, 0), (-175, 0), (165, 0), (-165, 0), (0, 0))).tolist() == [1, 1, 0, 0, 0]


def test_polygons_in_longitudes_above_180_hold_western_cells() -> None:
    assert inside(shapely.box(200, 50, 220, 60), cells((-150, 55), (150, 55))).tolist() == [1, 0]


def test_a_belt_around_the_globe_is_taken_as_drawn() -> None:
    belt = shapely.box(-180, -60, 180, -50)
    assert inside(belt, cells((0, -55), (179.9, -55), (-100, -55), (0, 0))).tolist() == [1, 1, 1, 0]


def test_a_ring_that_crosses_itself_is_mended() -> None:
    bow = shapely.Polygon([(0, 0), (10, 10), (10, 0), (0, 10)])
    assert inside(bow, cells((1, 5), (9, 5), (5, 1))).tolist() == [1, 1, 0]


def test_missing_and_unreadable_files_are_errors(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"park.gpkg does not exist"):
        inside(tmp_path / "park.gpkg", cells((0, 0)))
    (tmp_path / "park.geojson").write_text("{")
    with pytest.raises(ValueError, match=r"park.geojson cannot be read as polygons"):
        inside(tmp_path / "park.geojson", cells((0, 0)))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (shapely.Point(0, 0), "the polygon: expected polygons; got Point"),
        (shapely.Polygon(), "expected polygons; got no geometries"),
        (shapely.box(370_000, 7_280_000, 380_000, 7_290_000), "expected degrees; got x 370000 to 380000"),
    ],
)
def test_other_geometries_are_errors(source: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        inside(source, cells((0, 0)))


def test_other_things_are_a_type_error() -> None:
    with pytest.raises(TypeError, match="expected a path, a GeoDataFrame or a shapely geometry; got int"):
        inside(3, cells((0, 0)))
