"""The motion before a decision: worked out by hand, unknown where it is unknown, and never zero by accident."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from feature_rows import two_decisions, values

from mimic.choices import make_decisions
from mimic.features import LIBRARY, FeatureSpec, compute_feature
from mimic.hexgrid import cell_at, centroids, distance_km
from mimic.past_motion import past_motion

SIX_HOURS = np.timedelta64(6, "h")


def steps(n: int) -> np.ndarray:
    return np.datetime64("2020-01-01", "ns") + np.arange(n) * SIX_HOURS


def test_speed_of_the_last_step_is_its_distance_over_its_time_and_0_with_a_flag_where_unknown() -> None:
    rows = two_decisions(previous_distance_km=[12.0, np.nan], previous_hours=[6.0, np.nan])
    assert values(rows, "previous_speed_km_h") == [2, 2, 2, 0, 0]  # 12 km in 6 h
    assert values(rows, "previous_known") == [1, 1, 1, 0, 0]
    info = compute_feature(FeatureSpec("previous_speed_km_h"), rows)[1]
    assert (info.role, info.unit) == ("decision", "km h-1")
    assert LIBRARY["previous_speed_km_h"].known == "previous_known"


def test_a_stay_has_the_known_speed_0_and_a_gap_has_none() -> None:
    stayed = two_decisions(previous_distance_km=[0.0, np.nan], previous_hours=[6.0, np.nan])
    assert values(stayed, "previous_speed_km_h") == [0, 0, 0, 0, 0]
    assert values(stayed, "previous_known") == [1, 1, 1, 0, 0]  # which tells the two zeros apart


def test_hours_since_the_last_move_count_from_the_arrival_in_the_cell() -> None:
    rows = two_decisions(hours_in_cell=[18.0, np.nan])
    assert values(rows, "hours_since_move") == [18, 18, 18, 0, 0]
    assert values(rows, "move_known") == [1, 1, 1, 0, 0]


@pytest.mark.parametrize("name", ["previous_speed_km_h", "previous_known", "hours_since_move", "move_known"])
def test_missing_columns_of_the_past_are_named_with_what_needs_them(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name}.* need the decision column .* make_decisions gives it"):
        values(two_decisions(), name)


def test_step_that_took_no_time_is_refused() -> None:
    rows = two_decisions(previous_distance_km=[12.0, 1.0], previous_hours=[0.0, 6.0])
    with pytest.raises(ValueError, match="previous_hours must be above 0 or NaN; got 0"):
        values(rows, "previous_speed_km_h")


def test_bearing_is_an_angle_for_groups_and_none_for_staying() -> None:
    made = values(two_decisions(), "bearing_rad")
    assert made[1] == pytest.approx(np.pi / 2)
    assert np.isnan(made[0])
    assert np.isnan(made[3])


def test_past_motion_of_one_burst_and_of_the_next_worked_out_by_hand() -> None:
    # cells a a b b | a: stay, move, stay; then another burst, which knows nothing of the first
    cells = cell_at(np.array([0.0, 0.0, 3.0, 3.0, 0.0]), np.zeros(5), 3)
    found = past_motion(cells, steps(5), np.array([True, True, True, False, False]))
    longitude, latitude = centroids(cells[1:3])
    moved = float(distance_km(longitude[0], latitude[0], longitude[1], latitude[1]))
    np.testing.assert_allclose(found["previous_distance_km"], [np.nan, 0, moved, 0, np.nan])
    np.testing.assert_array_equal(found["previous_hours"], [np.nan, 6, 6, 6, np.nan])
    # it was in a when the burst began, so since when is unknown; it came to b in the third fix
    np.testing.assert_array_equal(found["hours_in_cell"], [np.nan, np.nan, 0, 6, np.nan])


def test_changing_the_future_of_a_track_changes_nothing_of_its_past_motion() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        n = 12
        has_next = np.append(rng.random(n - 1) < 0.8, False)
        places, other = rng.choice([0.0, 3.0, 6.0], (2, n))
        now = int(rng.integers(1, n))
        mixed = np.where(np.arange(n) <= now, places, other)
        one = past_motion(cell_at(places, np.zeros(n), 3), steps(n), has_next)
        two = past_motion(cell_at(mixed, np.zeros(n), 3), steps(n), has_next)
        for name, column in one.items():
            np.testing.assert_array_equal(column[: now + 1], two[name][: now + 1])


def test_decisions_carry_the_past_and_every_burst_and_individual_begins_without_one() -> None:
    tracks = pd.DataFrame(
        {
            "individual": ["a"] * 5 + ["b"] * 3,
            "time_utc": [*steps(3), *(steps(2) + np.timedelta64(10, "D")), *steps(3)],
            "longitude": [0.0, 3.0, 3.0, 0.0, 0.0, 0.0, 3.0, 3.0],
            "latitude": 0.0,
            "burst": [0, 0, 0, 1, 1, 0, 0, 0],
        }
    )
    decisions, _ = make_decisions(tracks, resolution=3)
    assert decisions["individual"].tolist() == ["a", "a", "a", "b", "b"]
    assert decisions["previous_hours"].isna().tolist() == [True, False, True, True, False]
    assert decisions["previous_distance_km"].isna().tolist() == [True, False, True, True, False]
    np.testing.assert_array_equal(decisions["hours_in_cell"], [np.nan, 0, np.nan, np.nan, 0])
