"""Conditional logit: by hand, in its invariants, on simulated choices, and against published reference numbers."""

from __future__ import annotations

import logging
import pickle
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import reference_table
from scipy.optimize import linprog

from mimic.conditional_logit import (
    CollinearityError,
    ConditionalLogit,
    ConstantFeatureError,
    SeparationError,
    fit_conditional_logit,
)
from mimic.contrasts import decision_weights
from mimic.probability import grouped_log_softmax, grouped_sum, selected_log_probability
from mimic.schema import ChoiceSets, concatenate
from mimic.tables import from_table

TRUTH = {"depth_km": -0.8, "sst": 0.5, "stay": 1.2}


def choices(
    sizes: list[int] | np.ndarray, selected: list[int] | np.ndarray, individual: Any = "a", **features: Any
) -> ChoiceSets:
    """Choice sets of given sizes; `selected` counts within each decision, -1 where unknown."""
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    decisions = pd.DataFrame({"individual": individual, "decision": np.arange(len(sizes))})
    within = np.asarray(selected)
    rows = np.where(within >= 0, offsets[:-1] + within, -1)
    return ChoiceSets(decisions, offsets, np.arange(offsets[-1]), rows, features)


def simulated(n_decisions: int = 400, seed: int = 0) -> ChoiceSets:
    """Ragged decisions of four animals, selected with the odds that TRUTH gives."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(2, 9, n_decisions)
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    stay = np.zeros(offsets[-1])
    stay[offsets[:-1]] = 1
    features = {
        "depth_km": rng.gamma(2.0, 1.0, offsets[-1]).astype(np.float32),
        "sst": (15 + rng.normal(0, 2, offsets[-1])).astype(np.float32),
        "stay": stay,
    }
    phi = sum(coef * features[name].astype(float) for name, coef in TRUTH.items())
    # the largest of log-odds plus Gumbel noise is a draw from the softmax
    noisy = phi + rng.gumbel(size=offsets[-1])
    selected = np.array([noisy[a:b].argmax() for a, b in pairwise(offsets)])
    animals = rng.choice(["a", "b", "c", "d"], n_decisions, p=[0.5, 0.3, 0.15, 0.05])
    return choices(sizes, selected, animals, **features)


def same(one: ConditionalLogit, other: ConditionalLogit) -> bool:
    """Whether two fits have the same coefficients, covariances and likelihoods, to rounding."""
    assert one.converged
    assert other.converged
    pairs = [
        (one.coef, other.coef),
        (one.covariance, other.covariance),
        (one.cluster_covariance, other.cluster_covariance),
        (one.log_likelihood, other.log_likelihood),
        (one.null_log_likelihood, other.null_log_likelihood),
    ]
    return all(np.allclose(a, b, rtol=1e-8, atol=0) for a, b in pairs)


# ----------------------------------------------------------------------------------------------- by hand


def test_three_of_four_for_the_deep_cell_are_odds_of_three() -> None:
    # two choices that differ by 1 in depth: p = 3/4, coef = ln 3, and each decision has information p (1 - p) = 3/16
    cs = choices([2] * 4, [0, 0, 0, 1], deep=[1.0, 0.0] * 4)
    fit = fit_conditional_logit(cs, ["deep"])
    assert fit.converged
    assert fit.coef == pytest.approx([np.log(3)], rel=1e-12)
    assert fit.covariance == pytest.approx(np.array([[1 / (4 * 3 / 16)]]), rel=1e-12)
    assert fit.se == pytest.approx([np.sqrt(4 / 3)], rel=1e-12)
    assert fit.log_likelihood == pytest.approx(3 * np.log(0.75) + np.log(0.25), rel=1e-12)
    assert fit.null_log_likelihood == pytest.approx(-4 * np.log(2), rel=1e-12)
    assert (fit.n_decisions, fit.n_rows) == (4, 8)


def test_two_choices_are_the_logistic_regression_of_their_differences() -> None:
    # +2 selected in 3 of 4 decisions, -1 in 2 of 5: the score equation of logistic regression through the
    # origin, 2 (3 - 4 p(2b)) - (2 - 5 p(-b)) = 0, solved by bisection
    cs = choices([2] * 9, [0, 0, 0, 1, 0, 0, 1, 1, 1], x=[2.0, 0.0] * 4 + [0.0, 1.0] * 5)

    def score(b: float) -> float:
        return float(2 * (3 - 4 / (1 + np.exp(-2 * b))) - (2 - 5 / (1 + np.exp(b))))

    low, high = -5.0, 5.0
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if score(middle) > 0 else (low, middle)
    assert fit_conditional_logit(cs, ["x"]).coef == pytest.approx([low], rel=1e-10)


def test_share_of_stays_is_the_probability_of_staying() -> None:
    # 5 choices, 13 of 20 stay: p = .65, odds against one of the four others .65 / (.35 / 4)
    cs = choices([5] * 20, [0] * 13 + [1, 2, 3, 4, 1, 2, 3], stay=[1.0, 0, 0, 0, 0] * 20)
    fit = fit_conditional_logit(cs, ["stay"])
    assert np.exp(fit.coef) == pytest.approx([0.65 / (0.35 / 4)], rel=1e-12)
    assert np.exp(grouped_log_softmax(fit.log_odds(cs), cs.offsets))[0] == pytest.approx(0.65, rel=1e-12)


def test_summary_has_z_and_the_two_sided_normal_probability() -> None:
    fit = ConditionalLogit(("a", "b"), np.array([1.959963984540054, 0.0]), np.eye(2), -1.0, -2.0, 1, 2, 1, True)
    table = fit.summary()
    assert list(table.columns) == [
        *("coef", "exp_coef", "se", "robust_se", "cluster_robust_se", "z", "p", "low", "high", "kind")
    ]
    assert list(table.index) == ["a", "b"]
    assert table["z"].tolist() == [1.959963984540054, 0.0]
    assert table["p"].to_numpy() == pytest.approx([0.05, 1.0], rel=1e-12)
    assert table["low"].to_numpy() == pytest.approx([0.0, -1.959963984540054], abs=1e-12)
    assert table["robust_se"].isna().all()
    assert set(table["kind"]) == {"hessian"}


def test_sandwiches_of_two_animals_by_hand() -> None:
    # two choices that differ by 1; animal a selects the deep one in 3 of 4 decisions, animal b in 3 of 4 as well but
    # for two more that it splits: 7 of 10 in all, p = .7, coef = ln(7/3), information 10 p (1 - p) = 2.1.
    # scores: 1 - p = .3 where the deep one was selected, -p = -.7 elsewhere
    cs = choices([2] * 10, [0, 0, 0, 1, 0, 0, 0, 1, 0, 1], ["a"] * 4 + ["b"] * 6, deep=[1.0, 0.0] * 10)
    fit = fit_conditional_logit(cs, ["deep"])
    assert fit.coef == pytest.approx([np.log(7 / 3)], rel=1e-10)
    assert fit.covariance[0, 0] == pytest.approx(1 / 2.1, rel=1e-10)
    # 7 x .3^2 + 3 x .7^2 = 2.1: in a model without regressors the robust error is that of the Hessian
    assert fit.robust_covariance == pytest.approx(np.array([[2.1 / 2.1**2]]), rel=1e-10)
    # sums over animals: a 3 x .3 - .7 = .2, b 4 x .3 - 2 x .7 = -.2
    assert fit.cluster_covariance == pytest.approx(np.array([[(0.2**2 + 0.2**2) / 2.1**2]]), rel=1e-10)
    assert fit.covariance_of("cluster", small_sample=True) == pytest.approx(2 * fit.cluster_covariance)
    assert fit.n_clusters == 2
    # Student's t with one degree of freedom: its 97.5 % quantile is tan(.475 pi) = 12.7062
    half = 12.706204736 * np.sqrt(2 * 0.08) / 2.1
    assert fit.intervals(kind="cluster").loc["deep"].tolist() == pytest.approx(
        [np.log(7 / 3) - half, np.log(7 / 3) + half], rel=1e-8
    )


def test_measures_of_fit_by_hand() -> None:
    # 3 of 4 for the deep cell: ln L = 3 ln .75 + ln .25, null 4 ln .5
    fit = fit_conditional_logit(choices([2] * 4, [0, 0, 0, 1], deep=[1.0, 0.0] * 4), ["deep"])
    log_l, null = 3 * np.log(0.75) + np.log(0.25), 4 * np.log(0.5)
    assert fit.aic == pytest.approx(2 - 2 * log_l)
    assert fit.bic == pytest.approx(np.log(4) - 2 * log_l)
    assert fit.mcfadden == pytest.approx(1 - log_l / null)
    assert fit.adjusted_mcfadden == pytest.approx(1 - (log_l - 1) / null)
    assert (fit.gmp, fit.null_gmp) == (pytest.approx((0.75**3 * 0.25) ** 0.25), pytest.approx(0.5))


def test_no_features_is_the_null() -> None:
    cs = choices([2, 4], [0, 3])
    fit = fit_conditional_logit(cs, [])
    assert fit.log_likelihood == fit.null_log_likelihood == pytest.approx(-np.log(8))
    assert fit.coef.shape == (0,)
    assert fit.covariance.shape == (0, 0)
    assert fit.log_odds(cs).tolist() == [0.0] * 6
    assert len(fit.summary()) == 0
    assert fit.aic == -2 * fit.log_likelihood
    assert "GMP" in str(fit)


# -------------------------------------------------------------------------------------------- invariants


def test_score_is_zero_and_covariance_inverts_the_numerical_hessian() -> None:
    cs = simulated()
    fit = fit_conditional_logit(cs, list(TRUTH))
    x = cs.matrix(list(TRUTH)).astype(float)

    def likelihood(coef: np.ndarray) -> float:
        return float(selected_log_probability(x @ coef, cs.offsets, cs.selected).sum())

    h = 1e-3
    steps = np.eye(3) * h
    at = likelihood(fit.coef)
    assert at == pytest.approx(fit.log_likelihood, rel=1e-12)
    gradient = [(likelihood(fit.coef + s) - likelihood(fit.coef - s)) / (2 * h) for s in steps]
    assert np.abs(gradient).max() < 1e-3
    hessian = [
        [
            (likelihood(fit.coef + s + t) - likelihood(fit.coef + s) - likelihood(fit.coef + t) + at) / h**2
            for t in steps
        ]
        for s in steps
    ]
    assert fit.covariance == pytest.approx(-np.linalg.inv(hessian), rel=2e-2, abs=1e-5)


def test_order_of_choices_decisions_and_features_does_not_matter() -> None:
    cs = simulated()
    table = cs.decisions.iloc[cs.decision_of_row].reset_index(drop=True)
    table = table.assign(choice=cs.choice, selected=cs.is_selected, **cs.features)
    shuffled = from_table(table.sample(frac=1, random_state=1), features=list(TRUTH))
    assert same(fit_conditional_logit(cs, list(TRUTH)), fit_conditional_logit(shuffled, list(TRUTH)))
    backwards = fit_conditional_logit(cs, list(TRUTH)[::-1])
    assert backwards.coef[::-1] == pytest.approx(fit_conditional_logit(cs, list(TRUTH)).coef, rel=1e-9)


def test_many_blocks_of_rows_are_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    # blocks of 7 rows, where decisions have up to 8 choices: some blocks would be empty
    cs = simulated(60)
    whole = fit_conditional_logit(cs, list(TRUTH))
    monkeypatch.setattr("mimic.design._BLOCK_ROWS", 7)
    assert same(fit_conditional_logit(cs, list(TRUTH)), whole)


def test_shifting_a_feature_by_a_constant_in_each_decision_changes_nothing() -> None:
    cs = simulated()
    shift = np.random.default_rng(3).normal(0, 100, cs.n_decisions)[cs.decision_of_row]
    moved = {"sst": cs.features["sst"].astype(float) + shift}
    fit = fit_conditional_logit(cs, list(TRUTH))
    assert same(fit_conditional_logit(cs, list(TRUTH), columns=moved), fit)


@pytest.mark.parametrize("factor", [10.0, 1e-8, -1e12])
def test_coefficient_of_a_feature_in_another_unit_is_divided_by_the_factor(factor: float) -> None:
    cs = simulated()
    fit = fit_conditional_logit(cs, list(TRUTH))
    scaled = fit_conditional_logit(cs, list(TRUTH), columns={"sst": cs.features["sst"] * np.float64(factor)})
    assert scaled.coef * [1, factor, 1] == pytest.approx(fit.coef, rel=1e-9)
    assert scaled.se * [1, abs(factor), 1] == pytest.approx(fit.se, rel=1e-9)
    assert scaled.log_likelihood == pytest.approx(fit.log_likelihood, rel=1e-12)


@pytest.mark.parametrize("weighting", ["decision", "individual"])
def test_weight_two_is_the_decision_twice_and_weight_zero_is_never(weighting: Any) -> None:
    cs = simulated(120)
    weights = np.random.default_rng(5).integers(0, 3, cs.n_decisions)
    once, again = cs.filter(weights > 0), cs.filter(weights == 2)
    again = again.with_context(decision=again.decisions["decision"] + 10_000)
    repeated = fit_conditional_logit(concatenate([once, again]), list(TRUTH), weighting=weighting)
    weighted = fit_conditional_logit(cs, list(TRUTH), weighting=weighting, weights=weights)
    assert same(weighted, repeated)
    assert weighted.robust_covariance == pytest.approx(repeated.robust_covariance, rel=1e-8)
    assert weighted.balanced_gmp == pytest.approx(repeated.balanced_gmp, rel=1e-12)
    assert (weighted.aic, weighted.bic) == (pytest.approx(repeated.aic), pytest.approx(repeated.bic))
    assert weighted.total_weight == repeated.n_decisions
    assert (weighted.gmp, weighted.null_gmp) == (pytest.approx(repeated.gmp), pytest.approx(repeated.null_gmp))
    assert weighted.intervals(kind="robust").to_numpy() == pytest.approx(repeated.intervals(kind="robust").to_numpy())
    assert weighted.n_decisions == once.n_decisions
    assert weighted.n_rows == once.n_rows


def test_weighting_by_individual_is_the_weights_of_contrasts() -> None:
    cs = simulated()
    cs = ChoiceSets(
        cs.decisions, cs.offsets, cs.choice, np.where(np.arange(400) % 7, cs.selected, -1), cs.features
    )  # some selections unknown
    known = (cs.selected >= 0).sum()
    weights = decision_weights(cs, weighting="individual") * known
    by_individual = fit_conditional_logit(cs, list(TRUTH), weighting="individual")
    assert same(by_individual, fit_conditional_logit(cs, list(TRUTH), weights=weights))
    # the mean over animals of the mean over their decisions
    log_p = pd.Series(selected_log_probability(by_individual.log_odds(cs), cs.offsets, cs.selected))
    balanced = log_p.groupby(cs.individuals).mean().mean()
    assert by_individual.log_likelihood / known == pytest.approx(balanced, rel=1e-12)
    other = fit_conditional_logit(cs, list(TRUTH))
    log_p = pd.Series(selected_log_probability(other.log_odds(cs), cs.offsets, cs.selected))
    assert balanced > log_p.groupby(cs.individuals).mean().mean()


def test_weights_of_any_size_give_the_same_coefficients() -> None:
    cs = simulated()
    fit = fit_conditional_logit(cs, list(TRUTH))
    tiny = fit_conditional_logit(cs, list(TRUTH), weights=np.full(cs.n_decisions, 1e-12))
    assert tiny.coef == pytest.approx(fit.coef, rel=1e-9)
    assert tiny.covariance * 1e-12 == pytest.approx(fit.covariance, rel=1e-9)
    assert tiny.cluster_covariance == pytest.approx(fit.cluster_covariance, rel=1e-9)
    assert tiny.log_likelihood * 1e12 == pytest.approx(fit.log_likelihood, rel=1e-9)


def test_scores_by_block_are_the_numerical_gradient() -> None:
    # the sandwich put together from finite differences of each decision's ln p
    cs = simulated(150)
    weights = np.random.default_rng(5).integers(0, 3, 150).astype(float)
    fit = fit_conditional_logit(cs, list(TRUTH), weights=weights)
    x, h = cs.matrix(list(TRUTH)).astype(float), 1e-5
    scores = np.column_stack(
        [
            selected_log_probability(x @ (fit.coef + step), cs.offsets, cs.selected)
            - selected_log_probability(x @ (fit.coef - step), cs.offsets, cs.selected)
            for step in np.eye(3) * h
        ]
    ) / (2 * h)
    c = fit.covariance
    assert fit.robust_covariance == pytest.approx(c @ (scores.T @ (scores * weights[:, None])) @ c, rel=1e-5)
    sums = pd.DataFrame(scores * weights[:, None]).groupby(cs.individuals).sum().to_numpy()
    assert fit.cluster_covariance == pytest.approx(c @ (sums.T @ sums) @ c, rel=1e-5)


def test_clusters_of_one_decision_each_are_robust_errors() -> None:
    cs = simulated(100)
    fit = fit_conditional_logit(cs, list(TRUTH), cluster=np.arange(100))
    assert fit.cluster_covariance == pytest.approx(fit.robust_covariance, rel=1e-12)
    assert (fit.n_clusters, fit.clusters_given) == (100, True)


def test_labels_of_clusters_may_be_text_and_do_not_matter() -> None:
    cs = simulated(100)
    by_individual = fit_conditional_logit(cs, list(TRUTH))
    named = [{"a": "north", "b": "south", "c": "east", "d": "west"}[i] for i in cs.individuals]
    fit = fit_conditional_logit(cs, list(TRUTH), cluster=named)
    assert fit.cluster_covariance == pytest.approx(by_individual.cluster_covariance, rel=1e-12)
    assert not by_individual.clusters_given


def test_one_cluster_has_no_errors_and_intervals_of_its_own() -> None:
    fit = fit_conditional_logit(simulated(100).with_context(individual="a"), list(TRUTH))
    assert fit.n_clusters == 1
    assert np.isnan(fit.cluster_se).all()
    assert fit.intervals(kind="cluster").isna().all(axis=None)
    assert set(fit.summary()["kind"]) == {"hessian"}
    assert fit.summary()["p"].notna().all()


def test_intervals_rest_on_their_covariance_and_get_wider_with_the_level() -> None:
    fit = fit_conditional_logit(simulated(100), list(TRUTH))
    for kind, se in (("hessian", fit.se), ("robust", fit.robust_se)):
        table = fit.intervals(kind=kind)
        assert table["high"].to_numpy() == pytest.approx(fit.coef + 1.959963984540054 * se, rel=1e-9)
        assert (table["low"] + table["high"]).to_numpy() / 2 == pytest.approx(fit.coef)
        assert (fit.intervals(0.99, kind)["low"] < table["low"]).all()
    with pytest.raises(ValueError, match="level must lie between 0 and 1, such as 0.95; got 95"):
        fit.intervals(95)
    with pytest.raises(ValueError, match="must be one of hessian, robust, cluster; got 'hc0'"):
        fit.intervals(kind="hc0")


def test_text_has_the_facts_and_calls_few_individuals_so() -> None:
    cs = simulated(100)
    fit = fit_conditional_logit(cs, list(TRUTH))
    text = fit.format()
    assert str(fit) == text
    assert "100 (4 individuals)" in text
    assert f"{fit.log_likelihood:.6f} (null {fit.null_log_likelihood:.6f})" in text
    for word in ("LR chi2", "AIC, BIC", "McFadden", "GMP", "depth_km", "cluster_robust_se"):
        assert word in text
    assert "The cluster-robust errors rest on few individuals (4)." in text
    lines = text.splitlines()
    table = lines[lines.index("") + 1 : lines.index("") + 5]
    assert len({len(line) for line in table}) == 1
    many = fit_conditional_logit(cs, list(TRUTH), cluster=np.arange(100) % 20)
    assert "few" not in many.format()
    # what likelihood_ratio_test refuses is not printed either
    assert "LR chi2" not in many.format()
    assert "LR chi2" not in fit_conditional_logit(cs, list(TRUTH), weights=np.full(100, 0.5)).format()
    assert "LR chi2" not in fit_conditional_logit(cs, list(TRUTH), weighting="individual").format()


def test_unknown_selections_and_single_choices_carry_no_information() -> None:
    cs = simulated(200)
    extra = choices([3, 1], [-1, 0], "z", depth_km=[1, 2, 3, 4], sst=[9, 8, 7, 6], stay=[1, 0, 0, 0])
    fit, more = (fit_conditional_logit(c, list(TRUTH)) for c in (cs, concatenate([cs, extra])))
    assert same(fit, more)
    # the single choice was predicted with certainty, and counts; the unknown selection does not
    assert (more.n_decisions, more.n_rows) == (fit.n_decisions + 1, fit.n_rows + 1)
    assert more.log_odds(extra) == pytest.approx(extra.matrix(list(TRUTH)).astype(float) @ more.coef)


def test_offset_takes_the_place_of_a_feature_with_a_known_coefficient() -> None:
    cs = simulated()
    fit = fit_conditional_logit(cs, list(TRUTH))
    rest = fit_conditional_logit(cs, ["depth_km", "stay"], offset=fit.coef[1] * cs.features["sst"].astype(float))
    assert rest.coef == pytest.approx(fit.coef[[0, 2]], rel=1e-7)
    assert rest.log_likelihood == pytest.approx(fit.log_likelihood, rel=1e-12)
    offset = fit.log_odds(cs)
    assert fit_conditional_logit(cs, list(TRUTH), offset=offset).coef == pytest.approx(np.zeros(3), abs=1e-9)
    # each row keeps its own offset where decisions before it are left out
    unknown = ChoiceSets(
        cs.decisions, cs.offsets, cs.choice, np.where(np.arange(400) < 90, -1, cs.selected), cs.features
    )
    known = np.arange(400) >= 90
    by_row = fit_conditional_logit(cs.filter(known), ["sst"], offset=offset[known[cs.decision_of_row]])
    assert same(fit_conditional_logit(unknown, ["sst"], offset=offset), by_row)
    # the null is the offset alone
    alone = selected_log_probability(offset, cs.offsets, cs.selected).sum()
    assert fit_conditional_logit(cs, ["sst"], offset=offset).null_log_likelihood == pytest.approx(alone, rel=1e-12)


def test_far_offsets_need_halved_steps_and_find_the_same_maximum() -> None:
    # the first step from where the model is certain and wrong is far too long
    cs = simulated()
    fit = fit_conditional_logit(cs, list(TRUTH))
    wrong = -40 * cs.features["depth_km"].astype(float)
    assert fit_conditional_logit(cs, list(TRUTH), offset=wrong).coef == pytest.approx(fit.coef + [40, 0, 0], rel=1e-8)


def test_float64_columns_replace_and_add_features() -> None:
    cs = simulated(100)
    noisy = cs.features["sst"] + np.random.default_rng(1).normal(0, 1e-9, cs.n_rows)  # lost in float32
    fit = fit_conditional_logit(cs, ["sst", "new"], columns={"sst": noisy, "new": np.sin(noisy), "unused": noisy[:3]})
    expected = fit.coef[0] * noisy + fit.coef[1] * np.sin(noisy)
    log_odds = fit.log_odds(cs, columns={"sst": noisy, "new": np.sin(noisy)})
    assert log_odds.dtype == np.float64
    assert log_odds == pytest.approx(expected, rel=1e-14)
    with pytest.raises(ValueError, match="unknown feature new; known are depth_km, sst, stay"):
        fit.log_odds(cs)


def test_offset_makes_up_for_choices_that_were_sampled_unequally() -> None:
    # of 200 cells the choice set holds the selected one i and every other cell j with probability q_j. Given this set D,
    # p(D | i) = prod_(j in D) q_j / q_i times what does not depend on i: each cell is corrected by -ln q
    rng = np.random.default_rng(4)
    near = rng.gamma(2.0, 1.0, 200)
    food = rng.normal(size=200)
    p = np.exp(-1.0 * near + 0.7 * food)
    q = np.clip(0.15 * np.exp(-0.8 * near) / np.exp(-0.8 * near).mean(), 0.01, 1)  # near cells are drawn more often
    n = 4000
    chosen = rng.choice(200, size=n, p=p / p.sum())
    drawn = rng.uniform(size=(n, 200)) < q
    drawn[np.arange(n), chosen] = True
    decision, cell = np.nonzero(drawn)
    cs = ChoiceSets(
        pd.DataFrame({"individual": "a", "decision": np.arange(n)}),
        np.concatenate([[0], np.cumsum(drawn.sum(axis=1))]),
        cell,
        np.flatnonzero(cell == chosen[decision]),
        {"near": near[cell], "food": food[cell]},
    )
    corrected = fit_conditional_logit(cs, ["near", "food"], offset=-np.log(q[cell]))
    assert np.abs((corrected.coef - [-1.0, 0.7]) / corrected.se).max() < 3
    biased = fit_conditional_logit(cs, ["near", "food"])
    # without it, that near cells were drawn more often is taken for dislike
    assert abs((biased.coef[0] + 1.0) / biased.se[0]) > 10


def test_nothing_that_is_given_is_changed() -> None:
    cs = simulated(50)
    weights, offset = np.ones(50), np.zeros(cs.n_rows)
    before = {k: v.copy() for k, v in cs.features.items()}
    fit_conditional_logit(cs, list(TRUTH), weights=weights, offset=offset, weighting="individual")
    assert all((cs.features[k] == v).all() for k, v in before.items())
    assert (weights == 1).all()
    assert (offset == 0).all()


# ---------------------------------------------------------------------------------------------- recovery


def test_coefficients_of_a_simulated_world_are_found() -> None:
    fit = fit_conditional_logit(simulated(5000, seed=11), list(TRUTH))
    assert np.abs((fit.coef - list(TRUTH.values())) / fit.se).max() < 3
    assert fit.se.max() < 0.06


def test_standard_errors_are_the_spread_over_repeated_worlds() -> None:
    fits = [fit_conditional_logit(simulated(300, seed=s), list(TRUTH)) for s in range(200)]
    z = np.array([(f.coef - list(TRUTH.values())) / f.se for f in fits])
    # 200 repetitions: the standard deviation of z is known to 1 / sqrt(400) = .05
    assert z.std(axis=0) == pytest.approx(np.ones(3), abs=0.17)
    assert np.abs(z.mean(axis=0)).max() < 0.25


def test_cluster_errors_are_the_spread_where_animals_differ() -> None:
    # each of 25 animals has a liking of its own: errors that take decisions for independent are far too small
    def study(seed: int) -> ConditionalLogit:
        rng = np.random.default_rng(seed)
        animals = np.repeat(np.arange(25), 40)
        x = rng.normal(size=(1000, 4))
        utility = x * (0.5 + rng.normal(0, 0.6, 25))[animals, None] + rng.gumbel(size=(1000, 4))
        return fit_conditional_logit(
            choices([4] * 1000, utility.argmax(axis=1), animals.astype(str), x=x.ravel()), ["x"]
        )

    fits = [study(seed) for seed in range(150)]
    spread = np.std([f.coef[0] for f in fits])
    # 150 repetitions: a standard deviation is known to 1 / sqrt(300) = 6 %
    assert np.mean([f.cluster_se[0] for f in fits]) == pytest.approx(spread, rel=0.18)
    assert np.mean([f.se[0] for f in fits]) < 0.5 * spread
    tables = [f.intervals(kind="cluster").loc["x"] for f in fits]
    middle = np.mean([f.coef[0] for f in fits])
    assert np.mean([t["low"] < middle < t["high"] for t in tables]) > 0.9


# ------------------------------------------------------------------------------------- what cannot be fitted


def test_errors_hold_the_features_to_leave_out() -> None:
    cs = simulated(200)
    night = np.random.default_rng(0).normal(size=200)[cs.decision_of_row]
    land = np.where(cs.is_selected, 0.0, night > 0.5)
    f = {k: v.astype(float) for k, v in cs.features.items()}
    more = {"night": night, "land": land, "sum": f["sst"] + 2 * f["depth_km"]}
    names = [*TRUTH, *more]
    found: list[type] = []
    for _ in range(3):
        with pytest.raises(ValueError, match=".") as error:
            fit_conditional_logit(cs, names, columns=more)
        found.append(type(error.value))
        names = [name for name in names if name not in error.value.features]
    assert found == [ConstantFeatureError, CollinearityError, SeparationError]
    assert fit_conditional_logit(cs, names, columns=more).converged
    assert len(names) == 3


def test_errors_survive_the_way_from_another_process() -> None:
    error = pickle.loads(pickle.dumps(SeparationError("x separates", ["x"])))
    assert (str(error), error.features) == ("x separates", ("x",))


def test_several_selected_choices_are_refused_with_their_count_and_keys() -> None:
    table = pd.DataFrame(
        {"individual": "a", "decision": np.repeat([1, 2, 3], 3), "choice": [1, 2, 3] * 3, "x": range(9)}
    ).assign(selected=[1, 0, 0, 1, 1, 0, 0, 1, 1])
    with pytest.raises(
        ValueError, match=r"2 of 3 decisions have several selected choices \(a/2, a/3\); expected exactly"
    ):
        from_table(table, features=["x"])


def test_feature_that_is_constant_within_decisions_is_named() -> None:
    cs = simulated(50)
    night = np.random.default_rng(0).normal(size=50)[cs.decision_of_row]
    with pytest.raises(ValueError, match="must vary within decisions; night does not\\. .* let it interact"):
        fit_conditional_logit(cs.with_features({"night": night}), ["sst", "night"])
    # 0.1 + 0.2 is not 0.3, in float64
    rounded = np.where(np.arange(cs.n_rows) % 2, 0.1 + 0.2, 0.3)
    with pytest.raises(ValueError, match="night, one do not"):
        fit_conditional_logit(cs, ["night", "sst", "one"], columns={"night": night, "one": rounded})
    assert fit_conditional_logit(cs, ["sst", "x"], columns={"x": night * cs.features["sst"]}).converged


def test_feature_that_varies_in_a_single_decision_is_fitted() -> None:
    # beside values that are large: its spread over all rows is below what rounding them could make
    cs = simulated(400)
    level = np.repeat(2e6, cs.n_rows)
    rows = np.flatnonzero(cs.decision_of_row == cs.n_choices.argmax())
    level[rows] += np.where(cs.is_selected[rows], 0.0, np.arange(len(rows)) - 4.0)
    fit = fit_conditional_logit(cs.with_features({"level": level}), ["sst", "level"])
    assert fit.converged
    assert fit.se[1] > 0


def test_repeated_feature_is_named_with_what_it_repeats() -> None:
    cs = simulated(50)
    fahrenheit = cs.features["sst"].astype(float) * 1.8 + 32
    for given in ({"features": {"sst_f": fahrenheit}}, {"columns": {"sst_f": fahrenheit}}):
        # in float32 it equals 1.8 sst + 32 to rounding only
        more = cs.with_features(given.get("features", {}))
        with pytest.raises(
            ValueError, match=r"linearly independent within decisions; got (sst_f = 1.8|sst = 0.5556) sst"
        ):
            fit_conditional_logit(more, ["depth_km", "sst", "sst_f"], columns=given.get("columns"))


def test_dummies_that_sum_to_one_are_named_and_others_are_not() -> None:
    rng = np.random.default_rng(2)
    kind = rng.integers(0, 3, 400)
    cs = choices(
        [4] * 100, rng.integers(0, 4, 100), sst=rng.normal(size=400), **{f"is_{k}": kind == k for k in range(3)}
    )
    with pytest.raises(ValueError, match=r"got is_\d = -1 is_\d -1 is_\d \(up to a constant") as error:
        fit_conditional_logit(cs, ["is_0", "sst", "is_1", "is_2"])
    assert "sst" not in str(error.value)
    assert fit_conditional_logit(cs, ["is_0", "sst", "is_1"]).converged


def test_two_groups_of_collinear_features_are_both_named() -> None:
    cs = simulated(50)
    f = {k: v.astype(float) for k, v in cs.features.items()}
    more = {"sum": f["sst"] + 2 * f["depth_km"], "moved": 1 - f["stay"]}
    with pytest.raises(ValueError, match="linearly independent") as error:
        fit_conditional_logit(cs, [*TRUTH, *more], columns=more)
    assert str(error.value).count(" = ") == 2
    assert all(name in str(error.value) for name in [*TRUTH, *more])


def test_almost_collinear_features_are_fitted() -> None:
    # correlated to 1 - 5e-9: badly determined, with standard errors that say so, but determined
    cs = simulated()
    twin = cs.features["sst"] + np.random.default_rng(1).normal(0, 2e-4, cs.n_rows)
    fit = fit_conditional_logit(cs, ["sst", "twin"], columns={"twin": twin})
    assert fit.converged
    assert fit.se.min() > 100
    assert fit.coef.sum() == pytest.approx(fit_conditional_logit(cs, ["sst"]).coef[0], abs=0.05)


def test_feature_that_is_never_selected_is_named_as_separating() -> None:
    cs = simulated()
    land = (np.random.default_rng(0).uniform(size=cs.n_rows) < 0.1) & ~cs.is_selected
    with pytest.raises(
        ValueError, match=r"no maximum: on_land separates, .* smallest of its decision \(minus infinity"
    ):
        fit_conditional_logit(cs.with_features({"on_land": land}), ["sst", "on_land"])
    with pytest.raises(ValueError, match=r"at_sea separates, .* largest of its decision \(plus infinity"):
        fit_conditional_logit(cs.with_features({"at_sea": ~land}), ["sst", "at_sea"])
    # one animal on land once, and the maximum exists
    land[cs.selected[5]] = True
    assert fit_conditional_logit(cs.with_features({"on_land": land}), ["sst", "on_land"]).coef[1] < -2


def test_separation_ends_with_the_weight_of_the_decisions_that_cause_it() -> None:
    cs = choices([2] * 4, [0, 0, 1, 0], x=[1.0, 0, 1, 0, 1, 0, 1, 0])
    assert fit_conditional_logit(cs, ["x"]).coef == pytest.approx([np.log(3)])
    with pytest.raises(ValueError, match="x separates"):
        fit_conditional_logit(cs, ["x"], weights=np.array([1.0, 1, 0, 1]))


@pytest.mark.parametrize("seed", range(5))
def test_features_that_separate_only_together_are_named(seed: int) -> None:
    # neither a nor b alone: the selected choice has the largest a + 2 b, and sst has nothing to do with it
    rng = np.random.default_rng(seed)
    a, b, sst = rng.normal(size=(3, 600))
    selected = (a + 2 * b).reshape(120, 5).argmax(axis=1)
    cs = choices([5] * 120, selected, a=a, b=b)
    with pytest.raises(ValueError, match="no maximum: a, b separate together"):
        fit_conditional_logit(cs, ["a", "b"])
    with pytest.raises(ValueError, match=r"always has the largest 0\.[3-7]\d* a \+1 b of its decision"):
        fit_conditional_logit(cs, ["a", "b"])
    # quasi-separation: in every other decision a and b are the same for all choices, and only sst decides
    same_ab = np.repeat(np.arange(120) % 2 == 0, 5)
    selected = np.where(np.arange(120) % 2 == 0, rng.integers(0, 5, 120), selected)
    cs = choices([5] * 120, selected, a=np.where(same_ab, 0, a), b=np.where(same_ab, 0, b), sst=sst)
    with pytest.raises(ValueError, match="no maximum: a, b separate together"):
        fit_conditional_logit(cs, ["sst", "a", "b"])


def test_separation_is_found_exactly_where_a_linear_program_finds_it() -> None:
    # a direction along which no selected choice loses and one gains: the definition, by an independent method
    found = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        x = rng.integers(0, 3, (60, 3)).astype(float)
        x[x.sum(axis=1) == 0] = 1.0
        utility = x @ rng.normal(0, 2, 3) + rng.gumbel(size=60)
        cs = choices([3] * 20, utility.reshape(20, 3).argmax(axis=1), **{f"f{j}": x[:, j] for j in range(3)})
        gain = np.repeat(x[cs.selected], 3, axis=0) - x
        best = linprog(-gain.sum(axis=0), A_ub=-gain, b_ub=np.zeros(60), bounds=[(-1, 1)] * 3)
        found.append(-best.fun > 1e-6)
        if found[-1]:
            with pytest.raises(ValueError, match="the likelihood has no maximum: .* separate"):
                fit_conditional_logit(cs, list(cs.features))
        else:
            assert fit_conditional_logit(cs, list(cs.features)).converged
    assert 10 < sum(found) < 50


def test_one_reversed_choice_ends_the_separation() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 600))
    selected = (a + 2 * b).reshape(120, 5).argmax(axis=1)
    selected[7] = (a + 2 * b).reshape(120, 5)[7].argmin()
    fit = fit_conditional_logit(choices([5] * 120, selected, a=a, b=b), ["a", "b"])
    assert fit.converged
    assert fit.coef[1] / fit.coef[0] == pytest.approx(2, rel=0.3)


# -------------------------------------------------------------------------------------------- the border


def test_features_that_are_not_finite_are_named() -> None:
    cs = simulated(50)
    gaps = {"npp": np.where(np.arange(cs.n_rows) < 3, np.nan, 1.0), "mld": np.full(cs.n_rows, np.inf)}
    n = cs.n_rows
    with pytest.raises(ValueError, match=rf"finite; got NaN or infinity in npp \(3 of {n} rows\), mld \({n} of {n}"):
        fit_conditional_logit(cs.with_features(gaps), ["npp", "sst", "mld"])
    fit = fit_conditional_logit(cs, ["sst"])
    with pytest.raises(ValueError, match="NaN or infinity in sst"):
        fit.log_odds(cs.with_features({"sst": gaps["npp"]}))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"features": ["sst", "salt"]}, "unknown feature salt; known are depth_km, sst, stay"),
        ({"features": ["sst", "sst"]}, "features must be distinct; got sst, sst"),
        ({"weighting": "animal"}, '"individual" or "decision"; got \'animal\''),
        ({"weights": np.ones(3)}, r"weights must be finite and have shape \(decision,\) = \(50,\); got shape \(3,\)"),
        ({"weights": np.full(50, np.nan)}, r"weights must be finite .*; got NaN or infinity"),
        ({"weights": -np.ones(50)}, "weights must be 0 or more; 50 are negative"),
        ({"weights": np.zeros(50)}, "expected decisions with a known selection among two or more choices; got none"),
        ({"cluster": ["a"] * 3}, r"cluster must have shape \(decision,\) = \(50,\); got \(3,\)"),
        ({"cluster": [None, np.nan, *range(48)]}, "cluster is missing for 2 decisions; every decision needs one"),
        ({"offset": np.zeros(3)}, r"offset must be finite and have shape \(row,\)"),
        ({"columns": {"sst": np.zeros(3)}}, r"columns must have shape \(row,\) = .*; got sst \(3,\)"),
    ],
)
def test_wrong_input_is_one_clear_error(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fit_conditional_logit(simulated(50), **{"features": ["sst"], **options})


def test_too_few_iterations_are_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        fit = fit_conditional_logit(simulated(), list(TRUTH), max_iterations=2)
    assert (fit.converged, fit.iterations) == (False, 2)
    assert "no convergence in 2 Newton steps" in caplog.text


# ------------------------------------------------------------------------------------- reference numbers


def reference(shared: Path, key: str) -> tuple[ChoiceSets, dict[str, np.ndarray], dict[str, Any]]:
    """Choice sets of a reference table, its features in float64, and its numbers."""
    known, table = reference_table(shared, key)
    cs = from_table(table, features=list(known["coef"]))
    assert (cs.choice == table["choice"]).all()  # rows of a decision lie together, so the order is the file's
    return cs, {name: table[name].to_numpy(dtype=np.float64) for name in known["coef"]}, known


@pytest.mark.parametrize("key", ["logan", "mode_canada", "mtc_work", "wildboar_habitat", "wildboar_habitat_movement"])
def test_fit_has_every_number_of_the_reference(shared: Path, key: str) -> None:
    # reference.json: an independent float64 Newton solver, agreeing with R survival, mlogit, torch-choice and larch
    cs, columns, known = reference(shared, key)
    fit = fit_conditional_logit(cs, list(known["coef"]), columns=columns)
    assert fit.converged
    assert (fit.n_decisions, fit.n_rows) == (known["n_decisions"], known["n_rows"])
    assert fit.coef == pytest.approx(list(known["coef"].values()), rel=1e-6)
    assert fit.se == pytest.approx(list(known["se"].values()), rel=1e-5)
    assert fit.log_likelihood == pytest.approx(known["log_likelihood"], abs=1e-6)
    assert fit.null_log_likelihood == pytest.approx(known["null_log_likelihood"], abs=1e-6)
    assert fit.gmp == pytest.approx(known["gmp"], rel=1e-9)
    assert fit.null_gmp == pytest.approx(known["null_gmp"], rel=1e-9)
    log_p = selected_log_probability(fit.log_odds(cs, columns=columns), cs.offsets, cs.selected)
    assert log_p.sum() == pytest.approx(known["log_likelihood"], abs=1e-6)
    if "cluster_robust_se" in known:
        assert fit.cluster_se == pytest.approx(list(known["cluster_robust_se"].values()), rel=1e-5)
        assert fit.balanced_log_probability == pytest.approx(known["balanced_mean_log_probability"], rel=1e-9)
        assert fit.balanced_gmp == pytest.approx(known["gmp_balanced_by_individual"], rel=1e-9)
        assert fit.n_clusters == 8
    else:  # each individual decides once
        assert fit.n_clusters == fit.n_decisions
        assert fit.cluster_se == pytest.approx(fit.robust_se, rel=1e-9)


@pytest.mark.parametrize("key", ["mtc_work", "wildboar_habitat_movement"])
def test_a_fit_takes_less_than_a_second(shared: Path, key: str) -> None:
    cs, columns, known = reference(shared, key)
    before = time.process_time()
    fit_conditional_logit(cs, list(known["coef"]), columns=columns)
    assert time.process_time() - before < 1


def test_float32_features_cost_less_than_a_thousandth_of_a_standard_error(shared: Path) -> None:
    cs, _, known = reference(shared, "mtc_work")
    fit = fit_conditional_logit(cs, list(known["coef"]))
    assert np.abs((fit.coef - list(known["coef"].values())) / fit.se).max() < 1e-3


def test_at_the_optimum_predicted_and_observed_features_agree(shared: Path) -> None:
    cs, columns, known = reference(shared, "mode_canada")
    fit = fit_conditional_logit(cs, list(known["coef"]), columns=columns)
    p = np.exp(grouped_log_softmax(fit.log_odds(cs, columns=columns), cs.offsets))
    for name, values in columns.items():
        expected = grouped_sum(p * values, cs.offsets).sum()
        assert expected == pytest.approx(values[cs.selected].sum(), rel=1e-9), name


def test_animals_that_weigh_the_same_have_a_larger_balanced_gmp(shared: Path) -> None:
    # the fit by decisions has the balanced mean of reference.json; fitting that mean itself can only raise it
    cs, columns, known = reference(shared, "wildboar_habitat_movement")
    fit = fit_conditional_logit(cs, list(known["coef"]), columns=columns, weighting="individual")
    assert fit.log_likelihood / fit.n_decisions > known["balanced_mean_log_probability"]
    assert fit.log_likelihood / fit.n_decisions == pytest.approx(fit.balanced_log_probability, rel=1e-12)
    assert fit.gmp == pytest.approx(fit.balanced_gmp, rel=1e-12)
