"""Feature definitions: values worked out by hand, roles, units, and the silent faults they guard against."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from mimic.choice_rows import Rows
from mimic.features import FeatureSpec, check_variation, compute_feature, day_circle, year_circle
from mimic.schema import ChoiceSets, FeatureInfo


@pytest.fixture
def rows() -> Rows:
    """Two decisions: stay / 10 km east / 20 km north, and stay / 5 km south-west."""
    decisions = pd.DataFrame(
        {
            "individual": ["a", "b"],
            "decision": [0, 0],
            "time_utc": np.array(["2020-07-01T06:00", "2021-01-01T00:00"], dtype="datetime64[ns]"),
            "longitude": [-90.0, 0.0],
            "latitude": [0.0, 45.0],
            "length_cm": [80.0, 95.0],
        }
    )
    return Rows(
        decision=np.array([0, 0, 0, 1, 1]),
        distance_km=np.array([0.0, 10.0, 20.0, 0.0, 5.0]),
        bearing_rad=np.array([np.nan, np.pi / 2, 0.0, np.nan, -3 * np.pi / 4]),
        stay=np.array([True, False, False, True, False]),
        decisions=decisions,
        cell=np.array([1, 2, 3, 4, 5]),
        at_choice={"elevation": np.array([-100.0, -50.0, -10.0, -300.0, -3.0])},
        at_origin={"elevation": np.array([-100.0, -100.0, -100.0, -300.0, -300.0])},
        units={"elevation": "m"},
    )


def values(rows: Rows, name: str, **options: object) -> list[float]:
    return compute_feature(FeatureSpec(name, **options), rows)[0].tolist()  # type: ignore[arg-type]


def test_heading_is_sine_and_cosine_of_the_true_bearing_and_no_direction_for_staying(rows: Rows) -> None:
    half = np.sqrt(0.5)
    assert values(rows, "heading_sin") == pytest.approx([0, 1, 0, 0, -half])
    assert values(rows, "heading_cos") == pytest.approx([0, 0, 1, 0, -half], abs=1e-7)
    # (0, 0) for staying: not on the circle, so it is no heading at all - "stay heads east" is the classic fault.


def test_stay_and_distance_are_pair_features_in_their_units(rows: Rows) -> None:
    stay, info = compute_feature(FeatureSpec("stay"), rows)
    assert stay.tolist() == [1, 0, 0, 1, 0]
    assert info.role == "pair"
    assert compute_feature(FeatureSpec("distance_km"), rows)[1].unit == "km"
    assert stay.dtype == np.float32


def test_difference_from_the_origin_of_a_clipped_logarithm(rows: Rows) -> None:
    spec = FeatureSpec("d", source="elevation", multiply=-1.0, clip=(5.0, 200.0), transform="log", minus_origin=True)
    made, info = compute_feature(spec, rows)
    # depths 100 50 10 | 300 3 -> clipped 100 50 10 | 200 5, minus the origins' 100 | 200
    assert made.tolist() == pytest.approx(np.log([1, 0.5, 0.1, 1, 0.025]).tolist(), abs=1e-6)
    assert info == FeatureInfo("pair", "ln(m)", "elevation at the choice minus at the origin")


def test_covariate_at_the_choice_keeps_its_unit_and_is_a_choice_feature(rows: Rows) -> None:
    made, info = compute_feature(FeatureSpec("elevation"), rows)
    assert made.tolist() == [-100, -50, -10, -300, -3]
    assert (info.role, info.unit) == ("choice", "m")


def test_log_distance_is_the_logarithm_for_moves_and_0_for_staying(rows: Rows) -> None:
    made, info = compute_feature(FeatureSpec("log_distance"), rows)
    assert made.tolist() == pytest.approx([0, np.log(10), np.log(20), 0, np.log(5)])
    assert (info.role, info.unit) == ("pair", "ln(km)")


def test_turn_is_the_heading_of_the_choice_less_the_previous_heading(rows: Rows) -> None:
    # decision 0 arrived heading east: stay / east is straight on / north is a turn to the left by pi / 2
    known = replace(rows, decisions=rows.decisions.assign(previous_heading_rad=[np.pi / 2, np.nan]))
    assert values(known, "turn_cos") == pytest.approx([0, 1, 0, 0, 0], abs=1e-7)
    assert values(known, "turn_sin") == pytest.approx([0, 0, -1, 0, 0], abs=1e-7)
    assert compute_feature(FeatureSpec("turn_cos"), known)[1].role == "pair"


def test_unknown_turn_is_0_for_every_choice_and_turn_known_says_so(rows: Rows) -> None:
    unknown = replace(rows, decisions=rows.decisions.assign(previous_heading_rad=[np.nan, -np.pi]))
    known, info = compute_feature(FeatureSpec("turn_known"), unknown)
    assert known.tolist() == [0, 0, 0, 1, 1]
    assert info.role == "decision"
    assert values(unknown, "turn_cos")[:3] == values(unknown, "turn_sin")[:3] == [0, 0, 0]
    # south, then south-west: a turn of pi / 4 to the right
    assert values(unknown, "turn_cos")[4] == pytest.approx(np.sqrt(0.5))
    assert values(unknown, "turn_sin")[4] == pytest.approx(np.sqrt(0.5))


def test_turns_without_the_previous_heading_are_refused_and_so_are_degrees(rows: Rows) -> None:
    with pytest.raises(ValueError, match="need the decision column previous_heading_rad, which is not there"):
        compute_feature(FeatureSpec("turn_cos"), rows)
    degrees = replace(rows, decisions=rows.decisions.assign(previous_heading_rad=[90.0, np.nan]))
    with pytest.raises(ValueError, match=r"must lie in \[-pi, pi\] or be NaN; got 90. Convert from degrees"):
        compute_feature(FeatureSpec("turn_known"), degrees)


def test_season_is_a_true_circle_where_december_is_beside_january_and_not_equal_to_it() -> None:
    times = np.array(["2021-01-01", "2021-12-31T23:59:59", "2021-12-01", "2020-07-02"], dtype="datetime64[ns]")
    angle = year_circle(times)
    assert angle[0] == 0.0
    assert angle[1] == pytest.approx(2 * np.pi, abs=1e-6)
    assert 2 * np.pi - angle[2] == pytest.approx(2 * np.pi * 31 / 365)  # a month away: (month - 1) / 11 says 0
    assert angle[3] == pytest.approx(2 * np.pi * 183 / 366)  # a leap year has 366 days


def test_hour_is_a_circle_in_utc_and_in_solar_time(rows: Rows) -> None:
    assert values(rows, "hour_sin")[0] == pytest.approx(1.0)  # 06:00 UTC: a quarter of the day
    assert values(rows, "solar_hour_cos")[0] == pytest.approx(1.0)  # at 90 W it is midnight
    assert day_circle(np.array(["2020-01-01T12:00"], dtype="datetime64[ns]"), 180.0)[0] == pytest.approx(0.0)


def test_individual_attribute_is_a_decision_feature(rows: Rows) -> None:
    made, info = compute_feature(FeatureSpec("length_cm"), rows)
    assert made.tolist() == [80, 80, 80, 95, 95]
    assert info.role == "decision"


def test_missing_attribute_is_refused_with_the_individual(rows: Rows) -> None:
    broken = replace(rows, decisions=rows.decisions.assign(length_cm=[80.0, np.nan]))
    with pytest.raises(ValueError, match="length_cm is missing or not a number for 1 decisions .individuals b."):
        compute_feature(FeatureSpec("length_cm"), broken)


def test_unknown_source_names_the_nearest(rows: Rows) -> None:
    with pytest.raises(ValueError, match="unknown source elevaton; did you mean elevation?"):
        compute_feature(FeatureSpec("elevaton"), rows)
    with pytest.raises(ValueError, match="minus_origin needs a covariate"):
        compute_feature(FeatureSpec("x", source="distance_km", minus_origin=True), rows)


def test_logarithms_refuse_what_they_are_not_defined_for(rows: Rows) -> None:
    with pytest.raises(ValueError, match="log needs values above 0; got 0. Use log1p or clip first"):
        compute_feature(FeatureSpec("x", source="distance_km", transform="log"), rows)
    with pytest.raises(ValueError, match="log1p needs values of at least 0; got -300"):
        compute_feature(FeatureSpec("x", source="elevation", transform="log1p"), rows)
    with pytest.raises(ValueError, match="clip must be"):
        FeatureSpec("x", clip=(3.0, 1.0))


def sets_with(feature: np.ndarray, role: str = "choice", n: int = 200) -> ChoiceSets:
    return ChoiceSets(
        decisions=pd.DataFrame({"individual": ["a"] * n, "decision": range(n)}),
        offsets=np.arange(n + 1) * 3,
        choice=np.tile([1, 2, 3], n),
        selected=np.arange(n) * 3,
        features={"x": feature},
        info={"x": FeatureInfo(role)},  # type: ignore[arg-type]
    )


def test_covariate_joined_on_the_next_cell_is_refused_with_the_explanation() -> None:
    rng = np.random.default_rng(0)
    joined_on_next = np.repeat(rng.normal(size=200), 3)  # one value a decision: that of the cell it went to
    with pytest.raises(ValueError, match="joined on the cell the animal went to next"):
        check_variation(sets_with(joined_on_next), ["x"])


def test_decision_feature_rare_indicator_and_real_covariate_pass_the_same_check() -> None:
    rng = np.random.default_rng(0)
    per_decision = np.repeat(rng.normal(size=200), 3)
    both = sets_with(per_decision, "decision").with_features({"y": rng.normal(size=600)})
    check_variation(both, ["x", "y"])
    with pytest.raises(ValueError, match="all features .x. are of role decision"):
        check_variation(both, ["x"])
    rare = np.zeros(600)
    rare[4] = 1.0
    check_variation(sets_with(rare), ["x"])
    check_variation(sets_with(rng.normal(size=600)), ["x"])


def test_feature_that_never_varies_is_refused() -> None:
    with pytest.raises(ValueError, match="same value for all choices of 200 of 200 decisions"):
        check_variation(sets_with(np.ones(600)), ["x"])
