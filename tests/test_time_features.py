"""Features of time: circles worked out by hand, light at the place of the decision, the same for all its choices."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from mimic.choice_rows import Rows
from mimic.hexgrid import cell_at, centroids
from mimic.sky import moon_elevation_deg, moon_light, sun_elevation_deg
from mimic.time_features import TIME, day_circle, year_circle

DEFINITIONS = {definition.name: definition for definition in TIME}


def rows_at(when: list[str], longitude: list[float], latitude: list[float]) -> Rows:
    """Two choices, the origin and another, of one decision at each time and place."""
    n = len(when)
    decision = np.repeat(np.arange(n), 2)
    decisions = pd.DataFrame(
        {
            "individual": [f"animal {i}" for i in range(n)],
            "decision": 0,
            "time_utc": np.array(when, dtype="datetime64[ns]"),
            "longitude": longitude,
            "latitude": latitude,
            "origin": cell_at(np.array(longitude), np.array(latitude), 5),
        }
    )
    stay = np.tile([True, False], n)
    return Rows(
        decision=decision,
        distance_km=np.where(stay, 0.0, 10.0),
        bearing_rad=np.where(stay, np.nan, 0.5),
        stay=stay,
        decisions=decisions,
        cell=decisions["origin"].to_numpy()[decision],
        at_choice={},
        at_origin={},
        units={},
    )


def values(rows: Rows, name: str) -> list[float]:
    """By decision; all choices of a decision must have the same."""
    made = DEFINITIONS[name].make(rows)
    assert (made[::2] == made[1::2]).all()
    return made[::2].tolist()


@pytest.fixture
def rows() -> Rows:
    """Noon and midnight in summer and winter at 52 north, civil twilight, and the two poles in June."""
    return rows_at(
        ["2020-06-20T12:00", "2020-06-21T00:00", "2020-12-21T12:00", "2020-12-21T16:15"] + ["2020-06-20T12:00"] * 2,
        [0.0] * 6,
        [52.0] * 4 + [90.0, -90.0],
    )


def test_year_is_a_circle_on_which_january_follows_december() -> None:
    when = np.array(["2019-12-31T12:00", "2020-01-01", "2020-07-02"], dtype="datetime64[ns]")
    angle = year_circle(when)
    assert angle[1] == 0
    assert 2 * np.pi - angle[0] == pytest.approx(2 * np.pi / 730)  # half a day before
    assert angle[2] == np.pi  # the 183 days of a half leap year later


def test_hour_is_that_of_utc_and_solar_hour_that_of_the_place() -> None:
    # 18 h UTC at 90 west is 12 h solar: halfway round
    rows = rows_at(["2020-03-01T18:00"], [-90.0], [10.0])
    assert values(rows, "hour_sin") == pytest.approx([-1])
    assert values(rows, "hour_cos") == pytest.approx([0], abs=1e-12)
    assert values(rows, "solar_hour_sin") == pytest.approx([0], abs=1e-12)
    assert values(rows, "solar_hour_cos") == pytest.approx([-1])


def test_solar_hour_is_the_same_on_both_sides_of_the_date_line() -> None:
    when = np.array(["2020-01-01T12:00"], dtype="datetime64[ns]")
    assert day_circle(when, 180.0)[0] == pytest.approx(0.0)
    assert day_circle(when, -180.0)[0] == pytest.approx(0.0)


def test_season_is_sine_and_cosine_of_the_year() -> None:
    rows = rows_at(["2019-04-02T06:00", "2019-07-02T12:00"], [0.0, 0.0], [0.0, 0.0])
    assert values(rows, "season_sin") == pytest.approx([1, 0], abs=1e-12)  # a quarter, 91.25 of 365 days; a half
    assert values(rows, "season_cos") == pytest.approx([0, -1], abs=1e-12)


def test_noon_at_the_solstice_is_90_less_the_latitude_plus_the_tilt(rows: Rows) -> None:
    # 90 - 52 + 23.44 in June and 90 - 52 - 23.44 in December; at the poles the tilt itself
    assert [values(rows, "sun_elevation_deg")[k] for k in (0, 2, 4, 5)] == pytest.approx(
        [61.44, 14.56, 23.44, -23.44], abs=0.01
    )


def test_night_is_no_day_and_twilight_its_bright_part(rows: Rows) -> None:
    assert values(rows, "day") == [1, 0, 1, 0, 1, 0]
    assert values(rows, "night") == [0, 1, 0, 1, 0, 1]
    # at midnight in June the sun is 14.6 degrees down, at a quarter past four in December 3.4
    assert values(rows, "twilight") == [0, 0, 0, 1, 0, 0]


def test_day_length_is_that_of_the_season_and_the_latitude(rows: Rows) -> None:
    assert values(rows, "day_length_h") == pytest.approx([16.734, 16.734, 7.742, 7.742, 24, 0], abs=0.01)


def test_moon_turns_from_new_over_the_first_quarter_to_full() -> None:
    rows = rows_at(["2020-06-21T06:41", "2020-06-28T08:16", "2020-06-05T19:12"], [0.0] * 3, [0.0] * 3)
    assert values(rows, "moon_sin") == pytest.approx([0, 1, 0], abs=1e-3)
    assert values(rows, "moon_cos") == pytest.approx([1, 0, -1], abs=1e-3)
    assert values(rows, "moon_light") == pytest.approx([0, 0.5, 1], abs=0.005)


def test_moonlight_needs_night_and_a_moon_above_the_horizon() -> None:
    # full moon of 2020-06-05 at Greenwich: high at midnight, below the horizon at noon; half moon up in the afternoon
    rows = rows_at(["2020-06-05T23:59", "2020-06-05T12:00", "2020-06-28T15:00"], [0.0] * 3, [0.0] * 3)
    when, zero = rows.decisions["time_utc"].to_numpy(), np.zeros(3)
    moon = moon_elevation_deg(when, zero, zero)
    assert moon[0] > 60
    assert moon[1] < 0 < moon[2]
    assert values(rows, "moon_elevation_deg") == moon.tolist()
    expected = moon_light(when)[0] * np.sin(np.radians(moon[0]))
    assert values(rows, "moonlight_at_night") == pytest.approx([expected, 0, 0])


def test_every_source_has_role_decision_and_is_the_same_for_all_choices(rows: Rows) -> None:
    assert len(DEFINITIONS) == len(TIME) == 16
    for name, definition in DEFINITIONS.items():
        assert definition.role == "decision"
        assert not definition.needs_history
        assert definition.formula
        assert np.isfinite(values(rows, name)).all()


def test_a_slice_of_the_rows_has_the_values_of_the_whole(rows: Rows) -> None:
    keep = slice(5, 9)
    part = replace(
        rows, **{name: getattr(rows, name)[keep] for name in ("decision", "distance_km", "bearing_rad", "stay", "cell")}
    )
    for definition in TIME:
        assert (definition.make(part) == definition.make(rows)[keep]).all()


def test_without_positions_the_light_is_that_of_the_center_of_the_origin(rows: Rows) -> None:
    bare = replace(rows, decisions=rows.decisions.drop(columns=["longitude", "latitude"]))
    when, origin = rows.decisions["time_utc"].to_numpy(), rows.decisions["origin"].to_numpy()
    assert values(bare, "sun_elevation_deg") == sun_elevation_deg(when, *centroids(origin)).tolist()


def test_missing_time_column_is_named() -> None:
    rows = rows_at(["2020-06-20T12:00"], [0.0], [0.0])
    with pytest.raises(ValueError, match="features of time: expected the column time_utc"):
        DEFINITIONS["day"].make(replace(rows, decisions=rows.decisions.drop(columns="time_utc")))


def test_decisions_without_a_position_are_named() -> None:
    rows = rows_at(["2020-06-20T12:00"] * 2, [0.0, 0.0], [0.0, 0.0])
    gap = rows.decisions.assign(latitude=[0.0, np.nan])
    with pytest.raises(ValueError, match=r"1 decisions have no longitude or latitude \(individuals animal 1\)"):
        DEFINITIONS["day"].make(replace(rows, decisions=gap))
