"""Fields of vectors: speed, direction and the part along the step, worked out by hand."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest
from feature_rows import two_decisions

from mimic.choice_rows import Rows
from mimic.feature_definition import Definition
from mimic.features import FeatureSpec, compute_feature, origin_covariates
from mimic.vector_features import VectorField, vector_definitions

CURRENT = VectorField("current", "uo", "vo")


Found = tuple[dict[str, Definition], Rows]


def flowing(
    east: object, north: object, field: VectorField = CURRENT, *, unit: str = "m s-1", **bearings: object
) -> Found:
    rows = replace(two_decisions(), units={"uo": "m s-1", "vo": unit}, **bearings)
    parts = {"uo": np.asarray(east, dtype=float) * np.ones(5), "vo": np.asarray(north, dtype=float) * np.ones(5)}
    elsewhere = {"uo": np.full(5, 9.0), "vo": np.full(5, 9.0)}
    at_origin, at_choice = (parts, elsewhere) if field.at == "origin" else (elsewhere, parts)
    rows = replace(rows, at_origin=at_origin, at_choice=at_choice)
    return {d.name.removeprefix("current_"): d for d in vector_definitions(field)}, rows


def values(found: Found, part: str) -> list[float]:
    definitions, rows = found
    return compute_feature(FeatureSpec("x", definition=definitions[part]), rows)[0].tolist()


def test_current_to_the_east_helps_a_step_to_the_north_east_by_cos_45() -> None:
    bearings = np.array([np.nan, np.pi / 4, np.pi / 2, np.nan, -np.pi / 4])
    found = flowing(1.0, 0.0, bearing_rad=bearings)
    half = np.sqrt(0.5)
    assert values(found, "along") == pytest.approx([0, half, 1, 0, -half])
    # of a step to the north-east, a current to the east pushes to the right
    assert values(found, "across") == pytest.approx([0, half, 0, 0, half], abs=1e-7)


def test_speed_and_direction_of_a_field_are_those_of_a_3_4_5_triangle() -> None:
    found = flowing(3.0, 4.0)
    assert values(found, "speed") == pytest.approx([5] * 5)
    assert values(found, "heading_sin") == pytest.approx([0.6] * 5)
    assert values(found, "heading_cos") == pytest.approx([0.8] * 5)


def test_calm_has_no_direction_and_a_missing_field_stays_missing() -> None:
    calm = flowing([0.0, 0.0, 0.0, np.nan, np.nan], [0.0, 0.0, 0.0, 1.0, 1.0])
    assert values(calm, "heading_sin")[:3] == values(calm, "heading_cos")[:3] == [0, 0, 0]
    assert np.isnan(values(calm, "heading_sin")[3:]).all()


def test_along_and_across_are_the_field_turned_into_the_step() -> None:
    rng = np.random.default_rng(0)
    east, north, bearings = rng.normal(size=5), rng.normal(size=5), rng.uniform(-np.pi, np.pi, 5)
    found = flowing(east, north, bearing_rad=bearings, stay=np.zeros(5, dtype=bool))
    assert np.hypot(values(found, "along"), values(found, "across")) == pytest.approx(np.hypot(east, north), rel=1e-6)


def test_field_is_read_in_the_origin_or_in_the_choice_and_has_the_role_of_its_place() -> None:
    there = VectorField("current", "uo", "vo", at="choice")
    speeds = np.arange(5.0)
    found = flowing(speeds, 0.0, there)
    assert values(found, "speed") == speeds.tolist()
    roles = {part: d.role for part, d in found[0].items()}
    assert roles == {
        "speed": "choice",
        "heading_sin": "choice",
        "heading_cos": "choice",
        "along": "pair",
        "across": "pair",
    }
    assert flowing(1.0, 0.0)[0]["speed"].role == "decision"


def test_what_is_read_in_the_origin_says_so_and_drops_decisions_without_it() -> None:
    definitions, _ = flowing(1.0, 0.0)
    spec = FeatureSpec("x", source="sst", times=FeatureSpec("current_along", definition=definitions["along"]))
    assert origin_covariates(spec) == {"uo", "vo"}
    in_choice = vector_definitions(VectorField("current", "uo", "vo", at="choice"))
    assert all(d.at_origin == () for d in in_choice)


def test_unit_is_that_of_the_parts_and_two_units_are_refused() -> None:
    definitions, rows = flowing(1.0, 0.0)
    assert compute_feature(FeatureSpec("x", definition=definitions["along"]), rows)[1].unit == "m s-1"
    assert compute_feature(FeatureSpec("x", definition=definitions["heading_sin"]), rows)[1].unit == "1"
    with pytest.raises(ValueError, match="both parts must have one unit; uo has m s-1 and vo has km h-1"):
        values(flowing(1.0, 0.0, unit="km h-1"), "along")


def test_part_that_is_no_covariate_is_named() -> None:
    definitions, rows = flowing(1.0, 0.0)
    bare: Rows = replace(rows, at_origin={"uo": rows.at_origin["uo"]})
    with pytest.raises(ValueError, match="vectors current: vo is no covariate; known are uo"):
        values((definitions, bare), "along")


def test_source_can_be_sent_to_a_worker() -> None:
    definitions, rows = flowing(3.0, 4.0)
    sent = pickle.loads(pickle.dumps(definitions["along"]))
    np.testing.assert_array_equal(sent.make(rows), definitions["along"].make(rows))
