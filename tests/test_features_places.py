"""Places: distance and direction of every choice, worked out on the equator, where a degree is 111.195 km."""

from __future__ import annotations

import pickle
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest

from mimic.choice_rows import Rows
from mimic.features import FeatureSpec, compute_feature
from mimic.hexgrid import bearing_rad, cell_at, centroids, distance_km
from mimic.place_features import locate_columns, place_definitions
from mimic.schema import FeatureInfo


@pytest.fixture
def rows() -> Rows:
    """From a cell at 0 E 0 N: stay / about 2 degrees east / about 2 degrees north / about 2 degrees west."""
    cell = cell_at(np.array([0.0, 2.0, 0.0, -2.0]), np.array([0.0, 0.0, 2.0, 0.0]), 3)
    longitude, latitude = centroids(cell)
    away = distance_km(longitude[0], latitude[0], longitude, latitude)
    bearing = bearing_rad(np.full(4, longitude[0]), np.full(4, latitude[0]), longitude, latitude)
    decisions = pd.DataFrame(
        {
            "individual": ["a"],
            "decision": [0],
            "origin": cell[:1],
            # straight east and straight north of the centroid of the origin, to within the curve of a parallel
            "home_longitude": [longitude[0] + 10],
            "home_latitude": [latitude[0]],
        }
    )
    return Rows(np.zeros(4, np.int64), away, bearing, np.arange(4) == 0, decisions, cell, {}, {}, {})


def made(
    rows: Rows, part: str, longitude: str | float = "home_longitude", latitude: str | float = "home_latitude"
) -> tuple[np.ndarray, FeatureInfo]:
    definitions = {d.name: d for d in place_definitions("home", partial(locate_columns, longitude, latitude, "home"))}
    spec = FeatureSpec(f"home_{part}", definition=definitions[f"home_{part}"])
    return compute_feature(spec, rows)


def test_distance_to_a_place_is_the_great_circle_from_each_choice(rows: Rows) -> None:
    values, info = made(rows, "km")
    longitude, _ = centroids(rows.cell)
    east = rows.decisions["home_longitude"][0] - longitude[:2]
    # along the equator a degree is 2 pi R / 360 = 111.195 km; both centroids lie within half a degree of it
    assert values[:2] == pytest.approx(111.195 * east, rel=1e-3)
    assert (info.role, info.unit) == ("pair", "km")


def test_change_of_distance_is_0_for_stay_negative_toward_and_positive_away(rows: Rows) -> None:
    values = made(rows, "change_km")[0]
    assert values[0] == 0
    # law of cosines with home 10 degrees = 1112 km east, on a plane: c^2 = a^2 + b^2 - 2 a b cos(angle)
    step, angle = rows.distance_km[1:], rows.bearing_rad[1:] - np.pi / 2
    left = np.sqrt(1112**2 + step**2 - 2 * 1112 * step * np.cos(angle))
    assert values[1:] == pytest.approx(left - 1112, abs=2)
    assert values[1] < 0 < values[3]


def test_angle_is_the_heading_of_the_choice_less_the_bearing_of_the_place(rows: Rows) -> None:
    cosine, sine = made(rows, "cos")[0], made(rows, "sin")[0]
    toward = np.pi / 2  # home lies east
    for k in (1, 2, 3):
        assert cosine[k] == pytest.approx(np.cos(rows.bearing_rad[k] - toward), abs=0.01)
        assert sine[k] == pytest.approx(np.sin(rows.bearing_rad[k] - toward), abs=0.01)
    # east is toward it, north passes it on its left (home to the right), west is away
    assert cosine.round(0).tolist() == [0, 1, 0, -1]
    assert sine[2] < -0.9


def test_stay_has_no_direction_and_neither_has_the_place_itself(rows: Rows) -> None:
    assert (made(rows, "cos")[0][0], made(rows, "sin")[0][0]) == (0, 0)
    longitude, latitude = centroids(rows.cell[:1])
    at_home = replace(rows, decisions=rows.decisions.assign(home_longitude=longitude, home_latitude=latitude))
    assert made(at_home, "cos")[0].tolist() == [0, 0, 0, 0]
    assert made(at_home, "sin")[0].tolist() == [0, 0, 0, 0]


def test_unknown_place_is_0_for_every_choice_and_known_says_so(rows: Rows) -> None:
    unknown = replace(rows, decisions=rows.decisions.assign(home_longitude=np.nan, home_latitude=np.nan))
    for part in ("km", "change_km", "cos", "sin", "known"):
        assert made(unknown, part)[0].tolist() == [0, 0, 0, 0]
    values, info = made(rows, "known")
    assert values.tolist() == [1, 1, 1, 1]
    assert info.role == "decision"


def test_fixed_point_is_the_same_place_as_columns_that_hold_it_and_is_always_known(rows: Rows) -> None:
    point = (float(rows.decisions["home_longitude"][0]), float(rows.decisions["home_latitude"][0]))
    for part in ("km", "change_km", "cos", "sin"):
        np.testing.assert_array_equal(made(rows, part, *point)[0], made(rows, part)[0])
    always = place_definitions("camp", partial(locate_columns, *point, "camp"), always_known=True)
    assert [d.name for d in always] == ["camp_km", "camp_change_km", "camp_cos", "camp_sin"]
    assert all(d.known == "" for d in always)


def test_longitudes_of_any_convention_are_one_place(rows: Rows) -> None:
    turned = replace(rows, decisions=rows.decisions.assign(home_longitude=rows.decisions["home_longitude"] - 360))
    for part in ("km", "cos", "sin"):
        assert made(turned, part)[0] == pytest.approx(made(rows, part)[0], abs=1e-3)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"home_latitude": [91.0]}, r"latitude must be degrees in \[-90, 90\].* home_latitude has 91"),
        ({"home_longitude": ["west"]}, "longitude must be degrees.* home_longitude has west"),
        ({"home_longitude": [np.nan]}, "1 decisions have a longitude without a latitude or the reverse .individuals a"),
    ],
)
def test_places_that_are_none_are_refused(rows: Rows, columns: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        made(replace(rows, decisions=rows.decisions.assign(**columns)), "km")


def test_missing_column_of_a_place_is_named(rows: Rows) -> None:
    with pytest.raises(ValueError, match="place home: expected the column nest_lon"):
        made(rows, "km", longitude="nest_lon")


def test_values_of_a_slice_are_the_slice_of_the_values_and_the_source_can_be_sent_to_a_worker(rows: Rows) -> None:
    for definition in place_definitions("home", partial(locate_columns, "home_longitude", "home_latitude", "home")):
        sent = pickle.loads(pickle.dumps(definition))
        part = replace(
            rows,
            decision=rows.decision[2:],
            distance_km=rows.distance_km[2:],
            bearing_rad=rows.bearing_rad[2:],
            stay=rows.stay[2:],
            cell=rows.cell[2:],
        )
        np.testing.assert_array_equal(sent.make(part), definition.make(rows)[2:])
