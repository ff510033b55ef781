"""Differences between models paired by decision, by hand and against loops."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from mimic.bootstrap import mean_intervals
from mimic.comparison import COMPARISON_COLUMNS, check_pairs, compare, format_comparison
from mimic.evaluation import decision_table, evaluate
from mimic.schema import ChoiceSets


def study(n_individuals: int = 12, n_decisions: int = 30, seed: int = 0) -> tuple[ChoiceSets, dict[str, np.ndarray]]:
    """Deep cells are liked, by each animal to its own degree; the model that knows depth against one that does not."""
    rng = np.random.default_rng(seed)
    n = n_individuals * n_decisions
    decisions = pd.DataFrame(
        {
            "individual": np.repeat([f"a{k}" for k in range(n_individuals)], n_decisions),
            "decision": np.tile(np.arange(n_decisions), n_individuals),
            "split": np.repeat(np.where(np.arange(n_individuals) < 4, "validation", "train"), n_decisions),
        }
    )
    depth = rng.normal(size=(n, 5))
    liking = np.repeat(rng.normal(1.0, 0.3, n_individuals), n_decisions)
    picked = (liking[:, None] * depth + rng.gumbel(size=(n, 5))).argmax(axis=1)
    cs = ChoiceSets(
        decisions,
        np.arange(n + 1) * 5,
        np.tile(np.arange(5), n),
        np.arange(n) * 5 + picked,
        {"depth": depth.ravel()},
    )
    return cs, {"none": np.zeros(5 * n), "depth": depth.ravel().astype(float)}


def test_difference_is_that_of_the_two_rows_of_the_group_table() -> None:
    cs, models = study()
    groups = {"all": "all", "deep": "depth > 0"}
    behaviors = {"all": "all", "late": "decision > 15"}
    table = compare(models, cs, choice_groups=groups, behavior_groups=behaviors)
    assert list(table) == COMPARISON_COLUMNS
    keys = ["split", "choice_group", "behavior_group", "weighting"]
    each = evaluate(models, cs, choice_groups=groups, behavior_groups=behaviors).set_index(["model", *keys])
    assert len(table) == 2 * 2 * 2 * 2
    for row in table.to_dict("records"):
        one, other = (each.loc[(name, *(row[k] for k in keys))] for name in ("depth", "none"))
        assert row["difference"] == pytest.approx(one["log_probability"] - other["log_probability"], rel=1e-12)
        assert row["gmp_ratio"] == pytest.approx(one["gmp"] / other["gmp"], rel=1e-12)
        assert (row["n_individuals"], row["n_decisions"]) == (one["n_individuals"], one["n_decisions"])


def test_interval_and_share_are_those_of_the_differences_by_individual() -> None:
    cs, models = study()
    row = compare(models, cs, [("depth", "none")], splits=["all"], weightings=["individual"]).iloc[0]
    by_decision = decision_table(models, cs)
    gain = by_decision["depth"] - by_decision["none"]
    found = mean_intervals(gain.to_numpy(), cs.individual_codes)
    assert (row["difference_low"], row["difference_high"]) == (found.low[0], found.high[0])
    assert row["gmp_ratio_low"] == pytest.approx(np.exp(found.low[0]))
    assert row["share_improved"] == np.mean(gain.groupby(by_decision["individual"]).mean() > 0)


def test_paired_interval_is_narrower_than_that_of_either_model() -> None:
    # a third of a nat between animals cancels where both models score the same decisions
    cs, models = study()
    models = {"depth": models["depth"], "nearly": 0.9 * models["depth"]}
    row = compare(models, cs, [("depth", "nearly")], splits=["all"], weightings=["individual"]).iloc[0]
    alone = evaluate(models, cs, choice_groups={"all": "all"}, behavior_groups={"all": "all"}, splits=["all"]).iloc[0]
    width = alone["log_probability_high"] - alone["log_probability_low"]
    assert row["difference_high"] - row["difference_low"] < width / 4


def test_a_model_against_itself_differs_by_nothing() -> None:
    cs, models = study()
    same = {"one": models["depth"], "two": models["depth"].copy()}
    row = compare(same, cs, splits=["all"]).iloc[0]
    assert (row["difference"], row["gmp_ratio"], row["share_improved"], row["p_sign_flip"]) == (0.0, 1.0, 0.5, 1.0)


def test_swapping_the_models_swaps_the_sign() -> None:
    cs, models = study()
    there, back = (
        compare(models, cs, [pair], splits=["all"]).iloc[0] for pair in (("depth", "none"), ("none", "depth"))
    )
    assert there["difference"] == pytest.approx(-back["difference"], rel=1e-12)
    assert there["p_sign_flip"] == back["p_sign_flip"]
    assert there["share_improved"] == 1 - back["share_improved"]


def test_selections_that_both_models_call_impossible_do_not_differ() -> None:
    cs, models = study(n_individuals=3, n_decisions=4)
    impossible = models["depth"].copy()
    impossible[cs.selected[0]] = -np.inf
    row = compare({"a": impossible, "b": impossible.copy()}, cs, splits=["all"]).iloc[0]
    assert row["difference"] == 0
    row = compare({"a": models["none"], "b": impossible}, cs, splits=["all"]).iloc[0]
    assert row["difference"] == -np.inf  # b, that calls a selection impossible, against a


def test_models_that_call_different_selections_impossible_cannot_be_told_apart() -> None:
    cs, models = study(n_individuals=3, n_decisions=4)
    first, second = models["depth"].copy(), models["depth"].copy()
    first[cs.selected[0]] = second[cs.selected[1]] = -np.inf
    row = compare({"a": first, "b": second}, cs, splits=["all"]).iloc[0]
    names = ["difference", "difference_low", "difference_high", "gmp_ratio_low", "gmp_ratio_high"]
    assert row[names].isna().all()
    assert row["share_improved"] == 0.5  # of the other two, for whom they are the same


def test_empty_groups_have_counts_zero_and_few_individuals_are_told() -> None:
    cs, models = study()
    table = compare(models, cs, behavior_groups={"all": "all", "nobody": "decision < 0"}, weightings=["decision"])
    few, nobody = table[table["split"] == "validation"].to_dict("records")
    assert few["note"] == "few individuals"
    assert (nobody["n_individuals"], nobody["n_decisions"], nobody["note"]) == (0, 0, "")
    assert np.isnan([nobody["difference"], nobody["p_sign_flip"], nobody["share_improved"]]).all()


def test_choices_left_count_for_behavior_groups() -> None:
    cs, models = study()
    table = compare(
        models,
        cs,
        choice_groups={"deep": "depth > 1"},
        behavior_groups={"several": "n_choices_in_group > 1"},
        splits=["all"],
    )
    left = np.add.reduceat((cs.features["depth"] > 1).astype(int), cs.offsets[:-1])
    expected = (left > 1) & (cs.features["depth"][cs.selected] > 1)
    assert table["n_decisions"].tolist() == [expected.sum()] * 2


@pytest.mark.parametrize("pair", [("depth", "depth"), ("depth", "deepth")])
def test_bad_pairs_are_told(pair: tuple[str, str]) -> None:
    cs, models = study(n_individuals=2, n_decisions=3)
    with pytest.raises(ValueError, match="a pair names two different models of none, depth; got depth and dee?pth"):
        compare(models, cs, [pair])


def test_by_default_each_model_is_compared_with_the_one_before() -> None:
    assert check_pairs(["a", "b", "c"], None) == [("b", "a"), ("c", "b")]


def test_text_is_aligned_and_holds_intervals() -> None:
    cs, models = study()
    text = format_comparison(compare(models, cs, weightings=["individual"]), leave_out=["weighting"])
    header, train, validation = text.splitlines()
    assert header.split()[:3] == ["model", "other", "split"]
    assert "weighting" not in header
    assert " to " in train
    assert validation.endswith("few individuals")
