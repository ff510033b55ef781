"""Importance: by hand, irrelevant and relevant features, groups, and what cannot be permuted within choice sets."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from explained import Known, choose, linear, rows, world

from mimic.conditional_logit import ConditionalLogit, fit_conditional_logit
from mimic.evaluation import evaluate
from mimic.importance import ACROSS, IMPORTANCE_COLUMNS, REFIT, WITHIN, drop_one, feature_groups, permutation_importance
from mimic.schema import ChoiceSets, FeatureInfo


@pytest.fixture(scope="module")
def cs() -> ChoiceSets:
    plain = world(n_individuals=20, n_decisions=25, seed=2)
    return choose(plain, linear(a=1.5, b=0.7).log_odds(plain), seed=1)


def test_permuting_the_one_feature_of_a_pair_costs_the_log_odds_half_of_the_time() -> None:
    cs = rows({"deep": np.array([1.0, 0.0])}, [2], ["a"])
    table = permutation_importance({"m": linear(deep=np.log(3.0))}, cs, n_repeats=2000)
    # kept: ln 3/4; swapped: ln 1/4
    assert table["drop"].item() == pytest.approx(np.log(3) / 2, abs=0.03)
    assert table["drop_sd"].item() == pytest.approx(np.log(3) / 2, rel=0.01)
    assert table["note"].item() == "one individual: no interval"
    assert np.isnan(table["drop_low"].item())


def test_relevant_features_rank_first_and_an_irrelevant_one_has_drop_zero(cs: ChoiceSets) -> None:
    fit = fit_conditional_logit(cs, ["noise", "b", "a"])
    table = permutation_importance({"clogit": fit}, cs)
    assert list(table) == IMPORTANCE_COLUMNS
    assert table["feature"].tolist() == ["a", "b", "noise"]
    assert table["rank"].tolist() == [1, 2, 3]
    by = table.set_index("feature")
    assert by.loc["a", "drop_low"] > by.loc["b", "drop_high"] > by.loc["b", "drop_low"] > 0
    assert by.loc["noise", "drop_low"] <= 0.005
    assert abs(by.loc["noise", "drop"]) < 0.01
    assert set(table["how"]) == {WITHIN}


def test_permuting_what_is_constant_within_decisions_does_nothing(cs: ChoiceSets) -> None:
    constant = cs.with_features({"same": np.repeat(np.arange(cs.n_decisions, dtype=float), 5)})
    table = permutation_importance({"m": linear(a=1.0, same=2.0)}, constant).set_index("feature")
    assert table.loc["same", ["drop", "drop_low", "drop_high", "drop_sd"]].tolist() == [0, 0, 0, 0]


def test_drop_in_a_choice_group_is_the_difference_of_d_in_the_evaluation(cs: ChoiceSets) -> None:
    models = {("a", "b"): linear(a=1.5, b=0.5), ("a",): linear(a=1.5), ("b",): linear(b=0.5)}
    groups = {"choice_groups": {"some": "noise > 0"}, "behavior_groups": {"two": "n_choices_in_group > 1"}}
    table = drop_one(lambda f: models[f], cs, ["a", "b"], weightings=["decision"], **groups)  # type: ignore[arg-type]
    phi = {" ".join(names): model.log_odds(cs) for names, model in models.items()}
    known = evaluate(phi, cs, weightings=["decision"], **groups).set_index("model")  # type: ignore[arg-type]
    d = known["log_probability"]
    assert table["n_decisions"].tolist() == [known["n_decisions"].iloc[0]] * 2
    assert table["drop"].tolist() == pytest.approx([d["a b"] - d["b"], d["a b"] - d["a"]])


def test_values_stay_within_the_choice_group() -> None:
    # among moves the distances are all alike: permuting them is nothing, though stay has another
    cs = rows({"distance_km": np.array([20.0, 0.0, 20.0] * 4)}, [3] * 4, ["a", "a", "b", "b"])
    model = linear(distance_km=-0.1)
    table = permutation_importance({"m": model}, cs, choice_groups={"all": "all", "move": "distance_km > 0"})
    by = table.set_index("choice_group")["drop"]
    assert by["move"] == 0
    assert by["all"] != 0


def test_sine_and_cosine_are_permuted_together_so_that_a_heading_stays_one() -> None:
    names = ["sst", "heading_sin", "heading_cos", "season_sin"]
    assert feature_groups(names) == {
        "sst": ("sst",),
        "heading": ("heading_sin", "heading_cos"),
        "season_sin": ("season_sin",),  # its cosine is no feature
    }
    angle = np.random.default_rng(0).uniform(-np.pi, np.pi, 60)
    cs = rows({"heading_sin": np.sin(angle), "heading_cos": np.cos(angle)}, [3] * 20, ["a"] * 10 + ["b"] * 10)
    off_circle = Known(("heading_sin", "heading_cos"), lambda f: 1e6 * (f["heading_sin"] ** 2 + f["heading_cos"] ** 2))
    together = permutation_importance({"m": off_circle}, cs)
    assert together["features"].tolist() == ["heading_sin, heading_cos"]
    assert abs(together["drop"].item()) < 1  # rounding of float32, times a million
    apart = permutation_importance({"m": off_circle}, cs, groups={"sine": ["heading_sin"]})
    assert abs(apart["drop"].item()) > 1000


def test_decision_features_are_permuted_across_decisions_and_the_table_says_so() -> None:
    plain = world(n_individuals=10, night=True)
    model = Known(("a", "night"), lambda f: np.where(f["night"] > 0, 2.0, -2.0) * f["a"])
    cs = choose(plain, model.log_odds(plain))
    table = permutation_importance({"m": model}, cs).set_index("feature")
    assert table.loc["night", "how"] == ACROSS
    assert table.loc["a", "how"] == WITHIN
    assert table.loc["night", "drop_low"] > 0.5
    both = permutation_importance({"m": model}, cs, groups={"both": ["a", "night"]})
    assert both["how"].item() == f"{WITHIN}; {ACROSS}"


def test_decision_features_stay_within_their_split() -> None:
    plain = world(n_individuals=4, night=True)
    split = np.where(plain.individual_codes < 2, "train", "validation")
    value = np.repeat((split == "train").astype(float), 5)
    cs = plain.with_context(split=split).with_features({"night": value}, {"night": FeatureInfo("decision")})
    model = Known(("a", "night"), lambda f: f["a"] * (1 + 5 * f["night"]))
    table = permutation_importance({"m": model}, cs).set_index(["feature", "split"])
    assert table.loc[("night", "train"), "drop"] == 0  # constant there, so its values change nothing
    assert table.loc[("night", "validation"), "drop"] == 0


def test_all_decisions_asked_for_beside_a_split_change_nothing_in_it() -> None:
    plain = world(n_individuals=4, night=True)
    split = np.where(plain.individual_codes < 2, "train", "validation")
    value = np.repeat((split == "train").astype(float), 5)
    cs = plain.with_context(split=split).with_features({"night": value}, {"night": FeatureInfo("decision")})
    model = Known(("a", "night"), lambda f: f["a"] * (1 + 5 * f["night"]))
    for splits in (["train", "all"], ["all", "train"], ["all", "train", "validation"]):
        table = permutation_importance({"m": model}, cs, splits=splits).set_index(["feature", "split"])
        assert table.loc[("night", "train"), "drop"] == 0


def test_groups_of_the_table_are_those_of_the_evaluation(cs: ChoiceSets) -> None:
    table = permutation_importance(
        {"m": linear(a=1.0), "n": linear(a=1.0, b=1.0)},
        cs,
        behavior_groups={"all": "all", "none": "month == 7", "one": 'individual == "fish 03"'},
        weightings=["individual", "decision"],
        n_repeats=1,
    )
    assert len(table) == 3 * 3 * 2  # model-features x behaviors x weightings
    empty = table[table["behavior_group"] == "none"]
    assert (empty["n_decisions"] == 0).all()
    assert empty["drop"].isna().all()
    assert set(table.loc[table["behavior_group"] == "one", "n_individuals"]) == {1}
    # the same permutations for both models
    assert table.equals(
        permutation_importance(
            {"m": linear(a=1.0), "n": linear(a=1.0, b=1.0)},
            cs,
            behavior_groups={"all": "all", "none": "month == 7", "one": 'individual == "fish 03"'},
            weightings=["individual", "decision"],
            n_repeats=1,
        )
    )


def test_drop_one_is_the_difference_of_two_fits(cs: ChoiceSets) -> None:
    train, test = cs.filter(cs.individual_codes < 10), cs.filter(cs.individual_codes >= 10)

    def fit(features: Sequence[str]) -> ConditionalLogit:
        return fit_conditional_logit(train, features)

    table = drop_one(fit, test, ["noise", "b", "a"], name="clogit").set_index("feature")
    phi = {"full": fit(["a", "b", "noise"]).log_odds(test), "less": fit(["b", "noise"]).log_odds(test)}
    d = evaluate(phi, test, choice_groups={"all": "all"}, behavior_groups={"all": "all"}, weightings=["individual"])
    expected = d["log_probability"].iloc[0] - d["log_probability"].iloc[1]
    assert table.loc["a", "drop"] == pytest.approx(expected, rel=1e-6)
    assert table.index.tolist() == ["a", "b", "noise"]
    assert table.loc["noise", "drop_low"] <= 0 <= table.loc["noise", "drop_high"]
    assert set(table["how"]) == {REFIT}
    assert table["drop_sd"].isna().all()


def test_leaving_out_the_last_feature_leaves_the_null(cs: ChoiceSets) -> None:
    table = drop_one(lambda f: fit_conditional_logit(cs, f), cs, ["a"])
    fit = fit_conditional_logit(cs, ["a"])
    assert table["drop"].item() == pytest.approx((fit.log_likelihood + cs.n_decisions * np.log(5)) / cs.n_decisions)


def test_failing_fits_name_what_was_left_out(cs: ChoiceSets) -> None:
    def fit(features: Sequence[str]) -> Known:
        if "b" not in features:
            raise ValueError("no maximum")
        return linear(a=1.0)

    with pytest.raises(ValueError, match="without b: no maximum"):
        drop_one(fit, cs, ["a", "b"])


def test_unknown_groups_and_no_models_are_refused(cs: ChoiceSets) -> None:
    with pytest.raises(ValueError, match=r"features of the model \(a\); got z"):
        permutation_importance({"m": linear(a=1.0)}, cs, groups={"g": ["z"]})
    with pytest.raises(ValueError, match="got 0 models and 5 repeats"):
        permutation_importance({}, cs)
    with pytest.raises(ValueError, match=r"features of the model \(a, b\); got none"):
        drop_one(lambda f: linear(a=1.0), cs, ["a", "b"], groups={"nothing": []})
