"""Calibration: tables worked by hand, the true model within its expectation, wrong models found where they are wrong."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from mimic.calibration import (
    RELIABILITY_COLUMNS,
    SUMMARY_COLUMNS,
    calibration_summary,
    format_calibration,
    reliability,
)
from mimic.conditional_logit import fit_conditional_logit
from mimic.predicted import predictions
from mimic.ranks import HISTOGRAM_COLUMNS, TOP_COLUMNS, rank_histogram, rank_table
from mimic.schema import ChoiceSets, FeatureInfo
from mimic.used_habitat import SHARE_COLUMNS, feature_shares

ALL = {"all": "all"}


def synthetic(seed: int = 0, n_decisions: int = 3000) -> tuple[ChoiceSets, dict[str, np.ndarray]]:
    """Ragged sets selected by phi = 1.2 deep - 0.8 far: the truth, one twice as sure, and one fitted without deep."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(2, 12, n_decisions)
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    deep, far = rng.normal(size=(2, offsets[-1])).astype(np.float32).astype(np.float64)
    true = 1.2 * deep - 0.8 * far
    liked = true + rng.gumbel(size=offsets[-1])
    selected = np.array([a + liked[a:b].argmax() for a, b in itertools.pairwise(offsets)])
    individual = rng.integers(0, 30, n_decisions).astype(str)
    decisions = pd.DataFrame({"individual": individual, "decision": np.arange(n_decisions)})
    noise = rng.normal(size=offsets[-1])
    cs = ChoiceSets(
        decisions,
        offsets,
        np.arange(offsets[-1]),
        selected,
        {"deep": deep, "far": far, "noise": noise, "size": np.repeat(sizes, sizes)},
    )
    # fitted and not -0.8 far: without deep the best coefficient is smaller
    return cs, {"true": true, "twice": 2 * true, "without deep": fit_conditional_logit(cs, ["far"]).log_odds(cs)}


def pair(odds: list[float], selected: list[int], individuals: list[str] | None = None) -> tuple[Any, ChoiceSets]:
    """Decisions between two choices of the same odds, and which was selected in each."""
    n = len(selected)
    decisions = pd.DataFrame({"individual": individuals or ["a"] * n, "decision": np.arange(n)})
    cs = ChoiceSets(
        decisions, np.arange(n + 1) * 2, np.tile([0, 1], n), np.arange(n) * 2 + selected, {"x": np.tile([0.0, 1.0], n)}
    )
    return {"m": np.log(np.tile(odds, n))}, cs


CS, MODELS = synthetic()


# ---------------------------------------------------------------- reliability


def test_observed_shares_by_hand_are_the_selections_of_each_probability() -> None:
    models, cs = pair([1, 3], [1, 1, 0, 1, 1])  # p = 1/4 selected in 1 of 5, p = 3/4 in 4 of 5
    table = reliability(models, cs, bins=4)
    assert table["predicted"].tolist() == pytest.approx([0.25, 0.75])
    assert table["observed"].tolist() == pytest.approx([0.2, 0.8])
    assert table["n_rows"].tolist() == [5, 5]
    assert table["n_selected"].tolist() == [1, 4]
    assert table["share_of_rows"].tolist() == [0.5, 0.5]
    summary = calibration_summary(models, cs)
    assert summary.loc[0, "ece"] == pytest.approx(0.05)


def test_individuals_weigh_the_same_unless_decisions_do() -> None:
    models, cs = pair([1, 3], [1, 1, 1, 0], ["a", "a", "a", "b"])
    table = reliability(models, cs, weightings=["individual", "decision"])
    observed = table.groupby("weighting", sort=False)["observed"].apply(list).to_dict()
    assert observed == {"individual": [0.5, 0.5], "decision": [0.25, 0.75]}


def test_bins_hold_equally_many_choices_or_equal_widths_in_logarithms() -> None:
    by_count = reliability({"true": MODELS["true"]}, CS, bins=10)
    assert by_count["n_rows"].min() > 0.99 * CS.n_rows / 10 - 1
    assert by_count["n_rows"].sum() == CS.n_rows
    assert by_count["n_selected"].sum() == CS.n_decisions
    by_log = reliability({"true": MODELS["true"]}, CS, bins=10, spacing="log")
    width = np.log(by_log["probability_high"].iloc[-1] / by_log["probability_low"].iloc[0]) / 10
    assert (np.log(by_log["probability_high"] / by_log["probability_low"]) <= width + 1e-9).all()
    for table in (by_count, by_log):
        assert (table["probability_low"].iloc[1:].to_numpy() > table["probability_high"].iloc[:-1].to_numpy()).all()
        assert table["predicted"].between(table["probability_low"], table["probability_high"]).all()


def test_true_model_is_reliable_and_one_twice_as_sure_is_not() -> None:
    table = reliability(MODELS, CS, bins=10)
    holds = (table["observed_low"] <= table["predicted"]) & (table["predicted"] <= table["observed_high"])
    by_model = holds.groupby(table["model"]).sum()
    assert by_model["true"] >= 8
    assert by_model["twice"] <= 4
    twice = table[table["model"] == "twice"]
    assert twice["observed"].iloc[-1] < twice["predicted"].iloc[-1]  # too sure of what it likes
    assert twice["observed"].iloc[4] > twice["predicted"].iloc[4]


def test_calibration_error_of_the_true_model_is_what_chance_makes() -> None:
    table = calibration_summary(MODELS, CS).set_index("model")
    assert list(table.reset_index()[SUMMARY_COLUMNS]) == SUMMARY_COLUMNS
    assert table.loc["true", "ece"] < table.loc["true", "ece_expected_high"]
    assert table.loc["true", "ece_p"] > 0.05
    assert table.loc["twice", "ece"] > 3 * table.loc["twice", "ece_expected_high"]
    assert table.loc["twice", "ece_p"] == pytest.approx(1 / 201)
    assert table.loc["true", "ece"] == pytest.approx(table.loc["true", "ece_expected"], rel=0.6)


def test_expected_calibration_error_is_that_of_many_drawn_studies() -> None:
    # of 5 decisions with p = 3/4, k select the second: ece = mean |k/5 - 3/4|, binomial
    models, cs = pair([1, 3], [1, 1, 0, 1, 1])
    k = np.arange(6)
    by_hand = float((stats.binom.pmf(k, 5, 0.75) * np.abs(k / 5 - 0.75)).sum())
    found = calibration_summary(models, cs, n_simulations=4000).loc[0, "ece_expected"]
    assert found == pytest.approx(by_hand, rel=0.03)


def test_drawn_selections_follow_the_probabilities() -> None:
    found = next(predictions({"m": MODELS["true"]}, CS, choice_groups=ALL, behavior_groups=ALL))
    rng = np.random.default_rng(0)
    counts = np.zeros(CS.n_rows)
    for _ in range(400):
        rows = found.draw(rng)
        assert ((rows >= CS.offsets[:-1]) & (rows < CS.offsets[1:])).all()
        counts[rows] += 1
    z = (counts - 400 * found.probability) / np.sqrt(400 * found.probability * (1 - found.probability) + 1e-9)
    assert np.mean(z**2) == pytest.approx(np.mean(1 - 0 * z), abs=0.05)
    never = next(predictions({"m": np.where(CS.is_selected, 0.0, -np.inf)}, CS, choice_groups=ALL, behavior_groups=ALL))
    assert np.array_equal(never.draw(rng), CS.selected)


# ---------------------------------------------------------------- ranks


def test_rank_of_the_true_model_is_uniform_and_that_of_a_surer_one_is_not() -> None:
    table = rank_histogram(MODELS, CS, bins=10, weightings=["decision"])
    counts = {m: (t["observed"] * t["n_decisions"]).to_numpy() for m, t in table.groupby("model", sort=False)}
    assert stats.chisquare(counts["true"]).pvalue > 0.01
    assert stats.chisquare(counts["twice"]).pvalue < 1e-9
    assert counts["twice"][-1] > 1.5 * CS.n_decisions / 10  # too sure: what it holds for improbable is selected
    timid = rank_histogram({"half": 0.5 * MODELS["true"]}, CS, bins=10, weightings=["decision"])["observed"]
    assert timid.iloc[0] > 0.12 > 0.08 > timid.iloc[-1]


def test_ties_do_not_bend_the_rank_histogram() -> None:
    # Without features all choices tie, and the rank must be uniform; without ties in the sum it would lie below 1/n.
    table = rank_histogram({"none": np.zeros(CS.n_rows)}, CS, bins=5, weightings=["decision"])
    assert stats.chisquare(table["observed"] * CS.n_decisions).pvalue > 0.01
    assert table["observed"].sum() == pytest.approx(1)
    assert table["expected"].tolist() == [0.2] * 5


def test_best_guesses_by_hand() -> None:
    # odds 3 2 2 1: of rank 1 never; of rank 2 with one of the two tied; of rank 3 always.
    decisions = pd.DataFrame({"individual": ["a"], "decision": [1]})
    cs = ChoiceSets(decisions, [0, 4], [0, 1, 2, 3], [1])
    table = rank_table({"m": np.log([3.0, 2, 2, 1])}, cs, ranks=[1, 2, 3, 5])
    assert table["accuracy"].tolist() == [0, 0.5, 1, 1]
    assert table["null_accuracy"].tolist() == [0.25, 0.5, 0.75, 1]
    same = rank_table({"none": np.zeros(4)}, cs, ranks=[1, 3])
    assert same["accuracy"].tolist() == same["null_accuracy"].tolist() == [0.25, 0.75]


def test_concordance_by_hand_counts_pairs_ranked_right_and_half_of_ties() -> None:
    # The selected has one above it, one tied and one below: (0 + 1/2 + 1) / 3.
    decisions = pd.DataFrame({"individual": ["a", "b"], "decision": [1, 1]})
    cs = ChoiceSets(decisions, [0, 4, 5], [0, 1, 2, 3, 0], [1, 4])  # b had no alternative: no pair
    row = calibration_summary({"m": np.log([3.0, 2, 2, 1, 1])}, cs).loc[0]
    assert row["concordance"] == pytest.approx(0.5)
    better = calibration_summary({"m": np.log([2.0, 3, 2, 1, 1])}, cs).loc[0]
    assert better["concordance"] == 1
    assert better["top1"] == 1
    assert better["null_top1"] == pytest.approx((0.25 + 1) / 2)


def test_chance_ranks_half_of_the_pairs_right_and_the_truth_more() -> None:
    models = {
        **MODELS,
        "none": np.zeros(CS.n_rows),
        "noise": np.random.default_rng(1).normal(size=CS.n_rows),
        "reversed": -MODELS["true"],
    }
    table = calibration_summary(models, CS, n_simulations=10).set_index("model")
    assert table.loc["none", "concordance"] == 0.5
    assert table.loc["none", "top1"] == pytest.approx(table.loc["none", "null_top1"], abs=1e-12)
    assert table.loc["noise", "concordance_low"] < 0.5 < table.loc["noise", "concordance_high"]
    assert table.loc["true", "concordance_low"] > table.loc["without deep", "concordance_high"] > 0.5
    assert table.loc["twice", "concordance"] == table.loc["true", "concordance"]  # order is all it sees
    assert table.loc["true", "boyce"] > 0.97
    assert table.loc["reversed", "boyce"] < -0.97
    assert np.isnan(table.loc["none", "boyce"])
    assert table.loc["noise", "boyce_low"] < 0 < table.loc["noise", "boyce_high"]
    assert ((table["boyce_low"] <= table["boyce"]) & (table["boyce"] <= table["boyce_high"]))[["noise"]].all()


# ---------------------------------------------------------------- used habitat


def test_shares_by_hand_of_two_values() -> None:
    models, cs = pair([1, 3], [1, 1, 0, 1])
    table = feature_shares(models, cs, ["x"])
    assert list(table.columns) == SHARE_COLUMNS
    assert table["feature_low"].tolist() == table["feature_high"].tolist() == [0, 1]
    assert table["available"].tolist() == pytest.approx([0.5, 0.5])
    assert table["predicted"].tolist() == pytest.approx([0.25, 0.75])
    assert table["observed"].tolist() == pytest.approx([0.25, 0.75])
    assert table["outside"].tolist() == [False, False]


def test_missing_feature_shows_in_its_own_shares_and_in_no_other() -> None:
    table = feature_shares(MODELS, CS, ["deep", "far", "noise"], level=0.99)
    outside = table.groupby(["model", "feature"])["outside"].sum()
    assert outside["without deep", "deep"] >= 6
    assert outside["without deep", "far"] <= 1
    assert outside["without deep", "noise"] <= 1
    for feature in ("deep", "far", "noise"):
        assert outside["true", feature] <= 1
    sums = table.groupby(["model", "feature"])[["available", "predicted", "observed"]].sum()
    np.testing.assert_allclose(sums, 1, atol=1e-12)
    deep = table.query("model == 'without deep' and feature == 'deep'")
    assert deep["predicted"].iloc[-1] < deep["observed"].iloc[-1]  # deep choices are selected, and it does not know


def test_edges_are_the_users_and_unknown_values_have_a_bin_of_their_own() -> None:
    deep = CS.features["deep"].copy()
    deep[::50] = np.nan
    table = feature_shares({"m": MODELS["true"]}, CS.with_features({"deep": deep}), ["deep"], bins={"deep": [-1, 0, 1]})
    assert len(table) == 5
    assert table["feature_low"].iloc[1:4].tolist() == pytest.approx([-1, 0, 1], abs=0.01)
    assert table["feature_high"].iloc[0] < -1 <= table["feature_low"].iloc[1]
    assert np.isnan(table["feature_low"].iloc[4])
    assert table["available"].iloc[4] == pytest.approx(0.02, abs=0.004)


# ---------------------------------------------------------------- groups, seeds, errors


def test_groups_are_those_of_the_evaluation() -> None:
    groups: dict[str, Any] = {
        "choice_groups": {"all": "all", "near": "far < 0.5"},
        "behavior_groups": {"all": "all", "nobody": "individual == 'x'", "few": "individual == '3'"},
    }
    only = {"true": MODELS["true"]}
    summary = calibration_summary(only, CS, n_simulations=5, **groups)
    keys = ["choice_group", "behavior_group"]
    counts = summary.set_index(keys)["n_decisions"]
    near = CS.features["far"] < 0.5
    assert counts["all", "all"] == CS.n_decisions
    assert counts["near", "all"] == near[CS.selected].sum()
    assert counts["near", "nobody"] == 0
    assert summary.set_index(keys)["ece"].isna().to_dict()["all", "nobody"]
    assert summary.set_index(keys).loc[("all", "few"), "note"] == "one individual: no interval"
    restricted = CS.restrict(near)
    alone = reliability({"true": MODELS["true"][np.isin(CS.choice, restricted.choice)]}, restricted)
    by_group = reliability(only, CS, **groups).query("choice_group == 'near' and behavior_group == 'all'")
    # the same choices, probabilities renormalized among them; resamples are of individuals in another order
    leave_out = ["choice_group", "observed_low", "observed_high"]
    pd.testing.assert_frame_equal(
        alone.drop(columns=leave_out), by_group.drop(columns=leave_out).reset_index(drop=True)
    )
    for table, columns in (
        (rank_histogram(only, CS, **groups), HISTOGRAM_COLUMNS),
        (rank_table(only, CS, **groups), TOP_COLUMNS),
        (reliability(only, CS, **groups), RELIABILITY_COLUMNS),
    ):
        assert list(table.columns) == columns
        assert set(table["behavior_group"]) == {"all", "few"}


def test_equal_seeds_give_equal_tables_and_others_others() -> None:
    def tables(seed: int) -> list[pd.DataFrame]:
        few = CS.filter(np.arange(CS.n_decisions) < 300)
        model = {"true": MODELS["true"][: few.n_rows]}
        return [
            calibration_summary(model, few, seed=seed, n_simulations=20),
            rank_histogram(model, few, seed=seed),
            feature_shares(model, few, ["deep"], seed=seed, n_simulations=20),
        ]

    for one, same, other in zip(tables(1), tables(1), tables(2), strict=True):
        pd.testing.assert_frame_equal(one, same, check_exact=True)
        assert not one.equals(other)


def test_choice_sets_without_decisions_have_empty_tables() -> None:
    nobody = CS.filter(np.zeros(CS.n_decisions, dtype=bool))
    empty = {"m": np.zeros(0)}
    assert len(reliability(empty, nobody)) == len(rank_histogram(empty, nobody)) == len(rank_table(empty, nobody)) == 0
    assert len(feature_shares(empty, nobody, ["deep"])) == 0
    assert calibration_summary(empty, nobody)["n_decisions"].tolist() == [0]
    assert "-" in format_calibration(calibration_summary(empty, nobody))


def test_text_tells_chance_from_error() -> None:
    lines = format_calibration(calibration_summary(MODELS, CS)).splitlines()
    assert "more than chance" in lines[2]
    assert "more than chance" not in lines[1]
    assert lines[1].split()[0] == "true"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, cs: reliability(m, cs, bins=0), "bins must be 1 or more"),
        (lambda m, cs: reliability(m, cs, spacing="square"), 'spacing must be "count" or "log"'),
        (lambda m, cs: calibration_summary(m, cs, n_simulations=0), "n_simulations must be 1 or more"),
        (lambda m, cs: rank_histogram(m, cs, bins=0), "bins must be 1 or more"),
        (lambda m, cs: rank_table(m, cs, ranks=[0]), "ranks must be 1 or more"),
        (lambda m, cs: feature_shares(m, cs, ["depth"]), "unknown feature depth; known are"),
        (lambda m, cs: feature_shares(m, cs, ["deep"], bins={"deep": [1, 0]}), "edges of deep must ascend"),
        (lambda m, cs: feature_shares(m, cs, ["deep"], bins=0), "bins must be 1 or more"),
        (lambda m, cs: feature_shares(m, cs, ["deep"], n_simulations=0), "n_simulations must be 1"),
        (lambda m, cs: reliability(m, cs, weightings=["week"]), "weighting must be"),
        (lambda m, cs: reliability({}, cs), "expected the log-odds of at least one model"),
        (lambda m, cs: reliability({"m": np.zeros(2)}, cs), "model m must have shape"),
        (lambda m, cs: reliability({"m": np.full(cs.n_rows, np.nan)}, cs), "model m must be finite"),
        (lambda m, cs: reliability({"m": np.full(cs.n_rows, -np.inf)}, cs), "model m: every choice of a decision"),
    ],
)
def test_wrong_arguments_are_named(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call({"true": MODELS["true"]}, CS)


def test_feature_of_the_decision_is_sent_to_the_behavior_groups() -> None:
    cs = CS.with_features({"size": CS.features["size"]}, {"size": FeatureInfo("decision")})
    with pytest.raises(ValueError, match="size is the same for all choices of a decision"):
        feature_shares({"true": MODELS["true"]}, cs, ["size"])
