"""Tests and comparisons of fits: by hand, against each other, under a true hypothesis, and what they refuse."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import reference_table

from mimic.conditional_logit import ConditionalLogit, fit_conditional_logit
from mimic.covariance import cluster_covariance, quantile, robust_covariance, two_sided_p
from mimic.inference import compare_fits, likelihood_ratio_test, wald_test
from mimic.schema import ChoiceSets
from mimic.tables import from_table

NAMES = ["x", "y", "z"]


def simulated(seed: int = 0, n_decisions: int = 300, coef: tuple[float, ...] = (0.8, -0.4, 0.0)) -> ChoiceSets:
    """Ragged decisions of six animals; z means nothing."""
    rng = np.random.default_rng(seed)
    offsets = np.concatenate([[0], np.cumsum(rng.integers(2, 7, n_decisions))])
    features = rng.normal(size=(offsets[-1], 3))
    utility = features @ coef + rng.gumbel(size=len(features))
    return ChoiceSets(
        pd.DataFrame({"individual": rng.integers(0, 6, n_decisions).astype(str), "decision": np.arange(n_decisions)}),
        offsets,
        np.arange(offsets[-1]),
        np.array([a + utility[a:b].argmax() for a, b in pairwise(offsets)]),
        dict(zip(NAMES, features.T, strict=True)),
    )


def by_hand(coef: list[float], covariance: list[list[float]], n_clusters: int = 0) -> ConditionalLogit:
    """A fit of which only coefficients and covariance are of interest."""
    c = np.array(covariance)
    sandwich = c if n_clusters else None
    return ConditionalLogit(
        tuple("ab"[: len(coef)]), np.array(coef), c, -1.0, -2.0, 9, 18, 1, True, sandwich, sandwich, n_clusters
    )


# ------------------------------------------------------------------------------------------- covariances


def test_sandwich_of_scores_by_hand() -> None:
    # scores 1, -1, 2, -2 of one feature, C = 1/10: sum of squares 10; by pairs (1 - 1)^2 + (2 - 2)^2 = 0,
    # by signs (1 + 2)^2 + (-1 - 2)^2 = 18
    c, scores = np.array([[0.1]]), np.array([[1.0], [-1.0], [2.0], [-2.0]])
    assert robust_covariance(c, scores)[0, 0] == pytest.approx(0.1)
    assert cluster_covariance(c, scores, np.array([0, 0, 1, 1]))[0, 0] == 0
    assert cluster_covariance(c, scores, np.array([0, 1, 0, 1]))[0, 0] == pytest.approx(0.18)
    assert np.isnan(cluster_covariance(c, scores, np.zeros(4, dtype=int))).all()


def test_a_count_of_two_is_two_scores_and_not_one_of_twice_the_size() -> None:
    c, scores = np.eye(1), np.array([[1.0], [-2.0]])
    twice = robust_covariance(c, np.repeat(scores, [2, 1], axis=0))
    assert robust_covariance(c, scores, counts=np.array([2.0, 1.0])) == pytest.approx(twice)
    assert twice[0, 0] == 6


def test_quantiles_and_probabilities_agree_with_the_tables_of_textbooks() -> None:
    assert quantile(0.975) == pytest.approx(1.959964, abs=1e-6)
    assert [quantile(0.975, degrees=d) for d in (1, 7, 30)] == pytest.approx([12.7062, 2.3646, 2.0423], abs=1e-4)
    assert two_sided_p(np.array([2.3646, -2.3646]), degrees=7) == pytest.approx([0.05, 0.05], abs=1e-5)
    assert two_sided_p(np.array([0.0, 1.959964])) == pytest.approx([1.0, 0.05], abs=1e-6)


# -------------------------------------------------------------------------------------------------- Wald


def test_wald_of_one_feature_is_the_square_of_z() -> None:
    test = wald_test(by_hand([3.0], [[2.25]]), ["a"])
    assert (test.chi2, test.df, test.f, test.df_clusters) == (pytest.approx(4.0), 1, pytest.approx(4.0), np.inf)
    assert test.p == pytest.approx(0.0455003, abs=1e-7)  # P(|z| > 2)


def test_wald_of_two_features_by_hand() -> None:
    # V = [[2, 1], [1, 2]], inverse 1/3 [[2, -1], [-1, 2]]; b = (1, 3): (2 - 6 + 18) / 3 = 14/3; p = exp(-7/3)
    test = wald_test(by_hand([1.0, 3.0], [[2.0, 1.0], [1.0, 2.0]]))
    assert test.chi2 == pytest.approx(14 / 3)
    assert test.p == pytest.approx(np.exp(-7 / 3))
    # the difference b - a = 2 has variance 2 + 2 - 2 = 2; against 1: (2 - 1)^2 / 2
    difference = wald_test(by_hand([1.0, 3.0], [[2.0, 1.0], [1.0, 2.0]]), matrix=[[-1.0, 1.0]], values=[1.0])
    assert difference.chi2 == pytest.approx(0.5)


def test_wald_with_few_clusters_is_an_f_with_the_factor() -> None:
    # G = 3: the covariance is raised by 3/2, F(1, 2); p of F(1, 2) is that of t with 2 degrees of freedom,
    # 1 - t / sqrt(2 + t^2) with t = 2: 1 - 2 / sqrt(6)
    test = wald_test(by_hand([3.0], [[1.5]], n_clusters=3), ["a"])
    assert (test.kind, test.df_clusters) == ("cluster", 2)
    assert test.f == pytest.approx(4.0)
    assert test.p == pytest.approx(1 - 2 / np.sqrt(6))


def test_wald_of_a_feature_has_the_p_of_the_summary() -> None:
    fit = fit_conditional_logit(simulated(), NAMES)
    for kind in ("hessian", "robust", "cluster"):
        table = fit.summary(kind=kind)
        assert [wald_test(fit, [name], kind=kind).p for name in NAMES] == pytest.approx(table["p"].tolist(), rel=1e-6)


def test_wald_does_not_depend_on_how_restrictions_are_written() -> None:
    fit = fit_conditional_logit(simulated(), NAMES)
    r = np.array([[0.0, 1.0, 1.0], [0.0, 2.0, -1.0]])
    assert wald_test(fit, matrix=r).chi2 == pytest.approx(wald_test(fit, ["z", "y"]).chi2, rel=1e-10)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"features": ["x", "w"]}, "unknown feature w; the fit has x, y, z"),
        ({"features": []}, "expected at least one restriction"),
        ({"features": ["x", "x"]}, "none that follows from the others"),
        ({"matrix": [[1.0, 0.0]]}, r"matrix must have shape \(restriction, feature\) = \(.., 3\); got \(1, 2\)"),
        ({"features": ["x"], "matrix": np.eye(3)}, "give features or a matrix of restrictions, not both"),
        ({"features": ["x"], "values": [1.0, 2.0]}, r"values must have shape \(restriction,\) = \(1,\); got \(2,\)"),
        ({"kind": "HC3"}, "kind of covariance must be one of hessian, robust, cluster; got 'HC3'"),
    ],
)
def test_wrong_restrictions_are_one_clear_error(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        wald_test(fit_conditional_logit(simulated(), NAMES), **options)


def test_more_restrictions_than_clusters_can_tell_are_refused() -> None:
    cs = simulated()
    fit = fit_conditional_logit(cs, NAMES, cluster=np.arange(300) % 3)
    with pytest.raises(ValueError, match="3 restrictions cannot be tested with 3 clusters, but at most 2"):
        wald_test(fit, kind="cluster")
    assert wald_test(fit, ["x", "y"], kind="cluster").p < 0.1
    with pytest.raises(ValueError, match="this fit has no robust covariance"):
        wald_test(by_hand([1.0], [[1.0]]), kind="robust")


# -------------------------------------------------------------------------------------- likelihood ratio


def test_likelihood_ratio_is_twice_the_difference_and_near_the_wald_test() -> None:
    cs = simulated(n_decisions=2000)
    full, restricted = fit_conditional_logit(cs, NAMES), fit_conditional_logit(cs, ["x", "y"])
    test = likelihood_ratio_test(restricted, full)
    assert test.chi2 == pytest.approx(2 * (full.log_likelihood - restricted.log_likelihood))
    assert test.df == 1
    assert test.chi2 == pytest.approx(wald_test(full, ["z"], kind="hessian").chi2, rel=0.02)
    null = likelihood_ratio_test(fit_conditional_logit(cs, []), full)
    assert null.chi2 == pytest.approx(2 * (full.log_likelihood - full.null_log_likelihood))
    assert null.p < 1e-50


def test_tests_of_a_feature_without_meaning_reject_as_often_as_they_say() -> None:
    def worlds(seed: int) -> tuple[float, float, float]:
        cs = simulated(seed, 200)
        full = fit_conditional_logit(cs, NAMES)
        ratio = likelihood_ratio_test(fit_conditional_logit(cs, ["x", "y"]), full).p
        return ratio, wald_test(full, ["z"], kind="hessian").p, wald_test(full, ["z"], kind="cluster").p

    p = np.array([worlds(seed) for seed in range(300)])
    # 300 worlds: a share of 5 % is known to 1.3 points
    assert np.abs((p < 0.05).mean(axis=0) - 0.05).max() < 0.04
    assert np.abs(p.mean(axis=0) - 0.5).max() < 0.06


def test_what_is_no_likelihood_ratio_is_refused() -> None:
    cs = simulated()
    full = fit_conditional_logit(cs, NAMES)
    one = fit_conditional_logit(cs, ["x"])
    with pytest.raises(ValueError, match="it alone has y, z. Compare models that are not nested by compare_fits"):
        likelihood_ratio_test(full, one)
    with pytest.raises(ValueError, match="the full model must have more features"):
        likelihood_ratio_test(full, full)
    half = cs.filter(np.arange(300) < 150)
    with pytest.raises(ValueError, match="must be of the same data .*: restricted has 150 decisions .*, full has 300"):
        likelihood_ratio_test(fit_conditional_logit(half, ["x"]), full)
    # as many decisions and choices, but other selections
    other = ChoiceSets(cs.decisions, cs.offsets, cs.choice, cs.offsets[:-1], cs.features)
    with pytest.raises(ValueError, match="must be of the same data"):
        likelihood_ratio_test(fit_conditional_logit(other, ["x"]), full)
    by_individual = [fit_conditional_logit(cs, names, weighting="individual") for names in (["x"], NAMES)]
    with pytest.raises(ValueError, match="with individuals weighing the same there is no likelihood ratio"):
        likelihood_ratio_test(*by_individual)
    with pytest.raises(ValueError, match="must be of the same data"):
        likelihood_ratio_test(one, by_individual[1])
    clustered = [fit_conditional_logit(cs, names, cluster=cs.individuals) for names in (["x"], NAMES)]
    with pytest.raises(ValueError, match=r"clusters were named. Test the features by wald_test\(full"):
        likelihood_ratio_test(*clustered)
    weights = np.random.default_rng(0).uniform(size=300)
    weighted = [fit_conditional_logit(cs, names, weights=weights) for names in (["x"], NAMES)]
    with pytest.raises(ValueError, match="weights that are no whole numbers"):
        likelihood_ratio_test(*weighted)
    counts = np.arange(300) % 3.0
    assert likelihood_ratio_test(*(fit_conditional_logit(cs, n, weights=counts) for n in (["x"], NAMES))).df == 2


# ------------------------------------------------------------------------------------------- comparisons


def test_comparison_has_the_measures_of_each_fit_and_what_the_best_gains() -> None:
    cs = simulated()
    fits = {" ".join(names) or "null": fit_conditional_logit(cs, names) for names in ([], ["x"], ["x", "y"], NAMES)}
    table = compare_fits(fits)
    assert list(table.index) == ["null", "x", "x y", "x y z"]
    assert list(table["n_features"]) == [0, 1, 2, 3]
    assert table.loc["x y", "features"] == "x, y"
    assert table["delta_aic"].min() == table["delta_bic"].min() == 0
    assert table["bic"].idxmin() == "x y"
    for name, fit in fits.items():
        assert table.loc[name, ["aic", "bic", "mcfadden", "gmp", "log_likelihood"]].tolist() == [
            *(fit.aic, fit.bic, fit.mcfadden, fit.gmp, fit.log_likelihood)
        ]
    assert (table.loc["null", "mcfadden"], table.loc["null", "gmp"]) == (0, fits["x"].null_gmp)
    with pytest.raises(ValueError, match="must be of the same data"):
        compare_fits({"all": fits["x"], "half": fit_conditional_logit(cs.filter(np.arange(300) < 150), ["x"])})
    with pytest.raises(ValueError, match="expected at least one fit"):
        compare_fits({})


def test_movement_matters_to_wild_boars_far_beyond_habitat(shared: Path) -> None:
    known, table = reference_table(shared, "wildboar_habitat_movement")
    cs = from_table(table, features=list(known["coef"]))
    habitat, both = (fit_conditional_logit(cs, names) for names in (["dtw", "imp", "hab"], list(known["coef"])))
    test = likelihood_ratio_test(habitat, both)
    # the log-likelihoods of reference.json; its features in float64, ours in float32
    assert test.chi2 == pytest.approx(2 * (9741.778757 - 7053.697116), abs=1e-3)
    assert test.df == 3
    # few animals, yet clear; the persistence of direction does it
    assert wald_test(both, ["sl_km", "log_sl", "cos_ta"]).p < 0.01
    assert wald_test(both, ["sl_km", "log_sl"]).p > 0.1
