"""Attributes of individuals: levels with unknown as their own, and constants that are given and not fitted."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from feature_rows import two_decisions

from mimic.choice_rows import Rows
from mimic.feature_library import feature_specs
from mimic.feature_sections import FeatureConfig
from mimic.features import compute_feature
from mimic.individual_features import level_ledger, level_names, missing_ledger


def made(rows: Rows, **options: object) -> dict[str, list[float]]:
    specs = feature_specs({"f": FeatureConfig(source="given", **options)}, {})
    return {name: compute_feature(spec, rows)[0].tolist() for name, spec in specs.items()}


def test_levels_are_one_feature_each_and_unknown_is_everything_else() -> None:
    rows = two_decisions(given=["female", "male"])
    assert made(rows, levels=["female", "male"]) == {
        "f_female": [1, 1, 1, 0, 0],
        "f_male": [0, 0, 0, 1, 1],
        "f_unknown": [0, 0, 0, 0, 0],
    }
    missing_and_other = two_decisions(given=[None, "intersex"])
    assert made(missing_and_other, levels=["female", "male"])["f_unknown"] == [1, 1, 1, 1, 1]


def test_in_every_decision_exactly_one_level_holds() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        rows = two_decisions(given=rng.choice(np.array(["x", "y", "z", None], dtype=object), 2))
        assert np.sum(list(made(rows, levels=["x", "y"]).values()), axis=0).tolist() == [1] * 5


def test_numbers_texts_and_booleans_name_the_levels_that_a_file_spells_its_own_way() -> None:
    assert made(two_decisions(given=[3.0, np.nan]), levels=[3])["f_3"] == [1, 1, 1, 0, 0]
    assert made(two_decisions(given=[3, 4]), levels=["3"])["f_3"] == [1, 1, 1, 0, 0]
    assert made(two_decisions(given=[True, False]), levels=[True])["f_True"] == [1, 1, 1, 0, 0]
    assert made(two_decisions(given=[" female", "x"]), levels=["female"])["f_female"] == [1, 1, 1, 0, 0]
    assert made(two_decisions(given=pd.Categorical(["b", None])), levels=["b"])["f_unknown"] == [0, 0, 0, 1, 1]


def test_level_names_are_words_and_two_levels_of_one_name_are_refused() -> None:
    assert level_names("age", ["adult female", "1.5"]) == {
        "age_adult_female": "adult female",
        "age_1_5": "1.5",
        "age_unknown": "",
    }
    for levels in (["a b", "a-b"], ["a", "a"], ["unknown"], ["?"]):
        with pytest.raises(ValueError, match="levels of age must be distinct"):
            level_names("age", levels)


def test_constant_stands_where_a_number_is_unknown_and_known_says_where() -> None:
    found = made(two_decisions(given=[80.0, np.nan]), missing=100)
    assert found == {"f": [80, 80, 80, 100, 100], "f_known": [1, 1, 1, 0, 0]}
    # the constant is in the unit of the column: ln(100), not 100
    logarithm = made(two_decisions(given=[80.0, np.nan]), missing=100, transform="log")
    assert logarithm["f"] == pytest.approx([*[np.log(80)] * 3, *[np.log(100)] * 2])


def test_text_in_a_column_of_numbers_is_refused_and_levels_are_named_as_the_way_out() -> None:
    with pytest.raises(ValueError, match="given must hold numbers.* got 'large' in 1 decisions. Give levels"):
        made(two_decisions(given=["large", None]), missing=0)


def test_fitted_constant_is_refused_because_it_would_leak() -> None:
    with pytest.raises(
        ValueError, match="missing must be a number.* got 'mean'.* validating individuals into training"
    ):
        FeatureConfig(source="length", missing="mean")  # type: ignore[arg-type]


def test_levels_go_with_times_only_and_missing_without_it() -> None:
    with pytest.raises(ValueError, match="of the other options only times goes with them"):
        FeatureConfig(source="sex", levels=["f"], transform="log")
    with pytest.raises(ValueError, match="missing goes with neither minus_origin nor times"):
        FeatureConfig(source="length", missing=0, times="sst")
    with pytest.raises(ValueError, match="transform: square"):
        FeatureConfig(source="sst", times="sst")


def test_ledger_counts_the_decisions_taken_as_unknown_apart_by_reason() -> None:
    decisions = pd.DataFrame(
        {"individual": ["a", "b", "b", "c"], "sex": ["male", None, None, "drone"], "length": [1.0, np.nan, np.nan, 2.0]}
    )
    entries = level_ledger(decisions, "sex", "sex", ["female", "male"]).entries
    assert [(e.n, e.reason, e.example, e.action) for e in entries] == [
        (2, "no sex: sex_unknown", "b", "changed"),
        (1, "sex of another level: sex_unknown", "c drone", "changed"),
    ]
    assert [(e.n, e.reason) for e in missing_ledger(decisions, "length", 1.5).entries] == [
        (2, "no length: filled with 1.5")
    ]
    assert level_ledger(decisions.iloc[:1], "sex", "sex", ["male"]).entries == ()
