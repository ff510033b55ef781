"""The linear term: the conditional logit's coefficients in the order of the network, and as a model of its own."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mimic.conditional_logit import fit_conditional_logit
from mimic.linear import linear_model, linear_term
from mimic.model import build_network, fit_scaling, load_model, save_model
from mimic.probability import grouped_log_softmax
from mimic.schema import ChoiceSets, FeatureInfo

FEATURES = ("night", "northing_m", "npp", "x")


def world(seed: int = 0, n_decisions: int = 300) -> ChoiceSets:
    """Log-odds 0.4 of northing in units of 5 m, -0.7 of production in units of 1e-9, and 1 of x; night cancels."""
    rng = np.random.default_rng(seed)
    offsets = np.concatenate([[0], np.cumsum(rng.integers(2, 7, size=n_decisions))])
    x = rng.normal(size=(offsets[-1], 3))
    utility = x @ [0.4, -0.7, 1.0] + rng.gumbel(size=len(x))
    return ChoiceSets(
        decisions=pd.DataFrame(
            {"individual": [f"boar {i % 7 % 5}" for i in range(n_decisions)], "decision": range(n_decisions)}
        ),
        offsets=offsets,
        choice=np.concatenate([np.arange(n) for n in np.diff(offsets)]),
        selected=np.array([s + utility[s:e].argmax() for s, e in itertools.pairwise(offsets)]),
        features={
            "night": np.repeat(rng.integers(0, 2, size=n_decisions), np.diff(offsets)),
            "northing_m": 7_100_000 + 5 * x[:, 0],
            "npp": 2e-8 + 1e-9 * x[:, 1],
            "x": x[:, 2],
        },
        info={"night": FeatureInfo("decision")},
    )


def test_term_is_the_conditional_logit_by_individual_in_the_order_of_the_features() -> None:
    cs = world()
    fit = fit_conditional_logit(cs, ["x", "npp", "northing_m"], weighting="individual")
    by_name = dict(zip(fit.features, fit.coef, strict=True))
    expected = [0.0, by_name["northing_m"], by_name["npp"], by_name["x"]]
    np.testing.assert_allclose(linear_term(cs, FEATURES), expected, rtol=1e-6)
    by_decision = linear_term(cs, FEATURES, weighting="decision")
    np.testing.assert_allclose(by_decision[3], fit_conditional_logit(cs, FEATURES[1:]).coef[2], rtol=1e-6)
    assert by_decision[3] != pytest.approx(expected[3], rel=1e-4)


def test_term_recovers_the_truth_whatever_the_unit() -> None:
    coef = linear_term(world(seed=1, n_decisions=4000), FEATURES)
    np.testing.assert_allclose(coef * [1, 5, 1e-9, 1], [0, 0.4, -0.7, 1.0], atol=0.08)


def test_feature_that_is_constant_in_every_decision_has_no_coefficient_whatever_its_role() -> None:
    cs = world()
    undeclared = ChoiceSets(cs.decisions, cs.offsets, cs.choice, cs.selected, cs.features)
    assert undeclared.info["night"].role == "choice"
    np.testing.assert_array_equal(linear_term(undeclared, FEATURES), linear_term(cs, FEATURES))


def test_term_of_named_features_is_zero_elsewhere() -> None:
    cs = world()
    coef = linear_term(cs, FEATURES, only=["x", "npp"])
    assert (coef != 0).tolist() == [False, False, True, True]
    np.testing.assert_allclose(
        coef[3], fit_conditional_logit(cs, ["npp", "x"], weighting="individual").coef[1], rtol=1e-9
    )


def test_decisions_of_weight_two_count_twice() -> None:
    cs = world()
    weights = np.where(np.arange(cs.n_decisions) < 100, 2.0, 1.0)
    fit = fit_conditional_logit(cs, ["x"], weights=weights)
    assert linear_term(cs, ["x"], weighting="decision", weights=weights)[0] == fit.coef[0]


def test_collinear_features_are_an_error_that_leads_to_named_features() -> None:
    cs = world()
    cs = cs.with_features({"twice": 2 * cs.features["x"]})
    with pytest.raises(
        ValueError, match=r"no optimum to start from: .*linearly independent.*linear_skip: \[x, \.\.\.\]"
    ):
        linear_term(cs, ["x", "twice"])
    assert linear_term(cs, ["x", "twice"], only=["x"])[1] == 0


def test_separating_feature_is_an_error_that_leads_to_named_features() -> None:
    cs = world()
    cs = cs.with_features({"answer": cs.is_selected})
    with pytest.raises(ValueError, match=r"no optimum to start from: .*answer separates.* Or name the features"):
        linear_term(cs, ["x", "answer"])


def test_term_without_anything_to_learn_is_an_error() -> None:
    cs = world()
    with pytest.raises(
        ValueError, match="expected a feature that differs between the choices of a decision; got night"
    ):
        linear_term(cs, ["night"])
    with pytest.raises(ValueError, match="expected a feature that differs .*; got none"):
        linear_term(cs, [])
    with pytest.raises(ValueError, match="the linear term names slope; expected features of the model: x, npp"):
        linear_term(cs, ["x", "npp"], only=["slope"])
    with pytest.raises(ValueError, match="expected training decisions with a known selection"):
        linear_term(cs.filter(np.zeros(cs.n_decisions, dtype=bool)), ["x"])


def test_network_with_the_term_starts_with_the_probabilities_of_the_conditional_logit() -> None:
    cs = world()
    network = build_network(fit_scaling(cs, FEATURES), units=(8, 8), linear=linear_term(cs, FEATURES), seed=1)
    phi = network.predict(cs.matrix(FEATURES), batch_size=4096, verbose=0)[:, 0]
    exact = fit_conditional_logit(cs, FEATURES[1:], weighting="individual").log_odds(cs)
    np.testing.assert_allclose(grouped_log_softmax(phi, cs.offsets), grouped_log_softmax(exact, cs.offsets), atol=2e-5)


def test_linear_model_is_the_conditional_logit_also_from_its_file(tmp_path: Path) -> None:
    cs = world()
    save_model(linear_model(cs, FEATURES), tmp_path / "linear.keras")
    again = load_model(tmp_path / "linear.keras")
    exact = fit_conditional_logit(cs, FEATURES[1:], weighting="individual")
    np.testing.assert_allclose(
        grouped_log_softmax(again.log_odds(cs), cs.offsets),
        grouped_log_softmax(exact.log_odds(cs), cs.offsets),
        atol=2e-5,
    )
    assert again.metadata["kind"] == "conditional_logit"
    assert again.metadata["coef"]["x"] == pytest.approx(exact.coef[2], rel=1e-6)
    assert [layer.name for layer in again.network.layers if layer.trainable_weights] == ["log_odds"]
