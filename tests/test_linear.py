"""The linear term: the conditional logit's coefficients in the order of the network, and as a model of its own."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import pytest
from conftest import reference_table

from mimic.conditional_logit import fit_conditional_logit
from mimic.linear import linear_model, linear_term
from mimic.model import build_network, fit_scaling, load_model, save_model
from mimic.options import TrainingOptions
from mimic.probability import grouped_log_softmax, grouped_sum, selected_log_probability
from mimic.schema import ChoiceSets, FeatureInfo
from mimic.tables import from_table
from mimic.training import train

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


def test_weights_also_count_where_individuals_weigh_the_same() -> None:
    cs = world()
    weights = np.where(np.arange(cs.n_decisions) < 100, 2.0, 0.5)
    fit = fit_conditional_logit(cs, ["x"], weights=weights, weighting="individual")
    assert linear_term(cs, ["x"], weights=weights)[0] == fit.coef[0]
    assert linear_term(cs, ["x"])[0] != pytest.approx(fit.coef[0], rel=1e-4)


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


@pytest.mark.parametrize("weighting", ["decision", "individual"])
def test_network_without_hidden_layers_learns_the_conditional_logit_of_wildboar(
    shared: Path, weighting: Literal["decision", "individual"]
) -> None:
    # the same likelihood, climbed in other ways: all decisions in one minibatch, a rate that falls to 0 over 300 steps
    known, table = reference_table(shared, "wildboar_habitat_movement")
    names = list(known["coef"])
    cs = from_table(table, features=names)
    fit = fit_conditional_logit(cs, names, weighting=weighting)
    options = TrainingOptions(
        loss="softmax",
        weighting=weighting,
        units=(),
        epochs=300,
        batch_decisions=cs.n_decisions,
        learning_rate=0.1,
        schedule={"name": "CosineDecay", "decay_epochs": 300},
        evaluate_every=50,
    )
    learned, exact = train(cs, None, names, options).model.log_odds(cs).astype(np.float64), fit.log_odds(cs)
    difference = learned - exact
    # log-odds mean something only up to a constant in each decision
    difference -= np.repeat(grouped_sum(difference, cs.offsets) / cs.n_choices, cs.n_choices)
    assert np.abs(difference).max() < 1e-3
    log_p = [selected_log_probability(phi, cs.offsets, cs.selected) for phi in (learned, exact)]
    assert log_p[0].mean() == pytest.approx(log_p[1].mean(), abs=1e-5)
    balanced = [pd.Series(values).groupby(cs.individuals).mean().mean() for values in log_p]
    assert balanced[0] == pytest.approx(balanced[1], abs=1e-5)
    assert balanced[1] == pytest.approx(fit.balanced_log_probability, rel=1e-9)


def test_linear_skip_starts_at_the_conditional_logit_of_the_weighted_decisions() -> None:
    from mimic.training import TrainingOptions, train

    rng = np.random.default_rng(0)
    n = 200
    depth = rng.normal(size=(n, 3))
    picked = (np.repeat([2.0, -1.0], n // 2)[:, None] * depth + rng.gumbel(size=(n, 3))).argmax(axis=1)
    decisions = pd.DataFrame({"individual": "a", "decision": np.arange(n)})
    cs = ChoiceSets(
        decisions, np.arange(n + 1) * 3, np.tile([0, 1, 2], n), np.arange(n) * 3 + picked, {"depth": depth.ravel()}
    )
    options = TrainingOptions(
        linear_skip=True, loss="softmax", epochs=1, learning_rate=1e-12, units=(2,), weights={"decision < 100": 0.0}
    )
    network = train(cs, None, ["depth"], options).model.log_odds(cs)
    late = np.arange(n) >= 100
    expected = fit_conditional_logit(cs, ["depth"], weighting="individual", weights=late.astype(float)).log_odds(cs)
    np.testing.assert_allclose(np.diff(network), np.diff(expected), atol=1e-4)
