"""The ideal loss: Bradley-Terry by hand, bounds that hold for any model of the bins, and what bins are made."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize

from mimic.conditional_logit import fit_conditional_logit
from mimic.contrasts import contrast_loss, decision_weights, exact_contrasts
from mimic.ideal import bin_features, ideal_losses, ideal_table
from mimic.probability import selected_log_probability
from mimic.schema import ChoiceSets


def pairs(n_first: int, n_second: int, **features: list[float]) -> ChoiceSets:
    """Decisions between two choices of which the first was selected so often, the second so often."""
    n = n_first + n_second
    decisions = pd.DataFrame({"individual": "a", "decision": np.arange(n)})
    offsets = np.arange(n + 1) * 2
    selected = offsets[:-1] + np.repeat([0, 1], [n_first, n_second])
    return ChoiceSets(decisions, offsets, np.tile([1, 2], n), selected, {k: v * n for k, v in features.items()})


def ragged(seed: int = 0, n_decisions: int = 300, *, levels: int = 4, faults: bool = False) -> ChoiceSets:
    """Choice sets of 2 to 7 choices of 8 individuals with two features of few values, selected by a hill."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1 if faults else 2, 8, n_decisions)
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    x, y = rng.integers(0, levels, offsets[-1]), rng.integers(0, 3, offsets[-1])
    utility = -0.7 * (x - 1.0) ** 2 + 0.5 * y * (x > 1) + rng.gumbel(size=len(x))
    selected = np.array([s + utility[s:e].argmax() for s, e in itertools.pairwise(offsets)])
    if faults:
        selected[::11] = -1
    decisions = pd.DataFrame({"individual": rng.integers(0, 8, n_decisions).astype(str), "decision": sizes.cumsum()})
    return ChoiceSets(decisions, offsets, np.arange(offsets[-1]), selected, {"x": x, "y": y})


def losses_of(log_odds: np.ndarray, cs: ChoiceSets) -> tuple[float, float]:
    """Contrast and decision loss of any log-odds, as the training callback has them."""
    weights = decision_weights(cs)
    log_p = selected_log_probability(log_odds, cs.offsets, cs.selected)
    return contrast_loss(log_odds, cs, exact_contrasts(cs)), -float(
        np.nansum(np.where(weights > 0, log_p, 0) * weights)
    )


# ---------------------------------------------------------------- by hand


def test_three_wins_of_four_cost_the_entropy_of_three_quarters() -> None:
    # The optimum is theta_1 - theta_2 = ln 3, so that the first wins with probability 3/4.
    by_hand = -(3 * np.log(3 / 4) + np.log(1 / 4)) / 4
    found = ideal_losses(pairs(3, 1, x=[1.0, 0.0]), ["x"], penalty=0)
    assert found.contrast == pytest.approx(by_hand, abs=1e-9)
    assert found.decision == pytest.approx(by_hand, abs=1e-9)  # of two choices the softmax is the contrast
    assert (found.n_bins, found.exact, dict(found.bins)) == (2, True, {"x": 2})


def test_choices_with_equal_features_cost_ln_two_and_the_log_of_their_number() -> None:
    found = ideal_losses(pairs(3, 1, x=[5.0, 5.0]), ["x"])
    assert found.n_bins == 1
    assert found.contrast == pytest.approx(np.log(2), abs=1e-12)
    assert found.decision == pytest.approx(np.log(2), abs=1e-12)
    assert found.null_decision == pytest.approx(np.log(2), abs=1e-12)


def test_contrast_within_the_selected_bin_costs_ln_two() -> None:
    # Choices 1, 0, 1 with the first selected, and choices 1, 0 with 0 selected, each decision weighing one half.
    # Contrasts: 1 beats 0 with weight 1/4, 1 meets 1 with weight 1/4 (ln 2), 0 beats 1 with weight 1/2.
    decisions = pd.DataFrame({"individual": "a", "decision": [1, 2]})
    cs = ChoiceSets(decisions, [0, 3, 5], [1, 2, 3, 1, 2], [0, 4], {"x": [1.0, 0.0, 1.0, 1.0, 0.0]})
    by_hand = 0.25 * np.log(2) - 0.25 * np.log(1 / 3) - 0.5 * np.log(2 / 3)
    assert ideal_losses(cs, ["x"], penalty=0).contrast == pytest.approx(by_hand, abs=1e-9)


def test_bin_that_always_wins_costs_nothing_without_a_penalty_and_something_with_it() -> None:
    cs = pairs(3, 0, x=[1.0, 0.0])
    assert 0 <= ideal_losses(cs, ["x"], penalty=0).contrast < 1e-8
    with_penalty = ideal_losses(cs, ["x"], penalty=1.0)
    # minimize ln(1 + exp(-2 t)) + 1 / (2 x 3) (t^2 + t^2): the slope -2 / (1 + exp(2 t)) + 2 t / 3 is 0
    t = minimize(lambda t: np.log1p(np.exp(-2 * t[0])) + t[0] ** 2 / 3, [0.5], tol=1e-12).x[0]
    assert with_penalty.contrast == pytest.approx(np.log1p(np.exp(-2 * t)), abs=1e-6)


def test_no_features_have_the_losses_of_no_model() -> None:
    cs = ragged()
    found = ideal_losses(cs, [])
    assert found.contrast == pytest.approx(np.log(2))
    assert found.null_contrast == pytest.approx(np.log(2))
    assert found.decision == pytest.approx(losses_of(np.zeros(cs.n_rows), cs)[1])
    assert found.null_decision == pytest.approx(found.decision)


# ---------------------------------------------------------------- invariants


def test_no_model_of_the_bins_has_a_lower_loss() -> None:
    cs = ragged(faults=True)
    found = ideal_losses(cs, ["x", "y"], penalty=0)
    assert found.exact
    bin_of_row = bin_features(cs, ["x", "y"])[0]
    rng = np.random.default_rng(1)
    x, y = cs.features["x"].astype(float), cs.features["y"].astype(float)
    models = [rng.normal(size=found.n_bins)[bin_of_row] * s for s in (0.1, 1.0, 3.0)]
    models += [fit_conditional_logit(cs, ["x", "y"]).log_odds(cs), -0.7 * (x - 1) ** 2 + 0.5 * y * (x > 1)]
    for log_odds in models:
        contrast, decision = losses_of(log_odds, cs)
        assert found.contrast < contrast
        assert found.decision < decision


def test_decision_loss_is_that_of_a_conditional_logit_on_indicators() -> None:
    cs = ragged()
    one_hot = cs.with_features({f"x is {v}": cs.features["x"] == v for v in (1, 2, 3)})
    fit = fit_conditional_logit(one_hot, ["x is 1", "x is 2", "x is 3"], weighting="individual")
    expected = -fit.log_likelihood / cs.n_decisions
    assert ideal_losses(cs, ["x"], penalty=0).decision == pytest.approx(expected, abs=1e-8)
    by_decision = -fit_conditional_logit(one_hot, ["x is 1", "x is 2", "x is 3"]).log_likelihood / cs.n_decisions
    assert ideal_losses(cs, ["x"], penalty=0, weighting="decision").decision == pytest.approx(by_decision, abs=1e-8)


def test_contrast_loss_is_that_of_a_general_minimizer() -> None:
    cs = ragged()
    code, weights = cs.features["x"].astype(int), exact_contrasts(cs)
    lowest = minimize(lambda table: contrast_loss(table[code], cs, weights), np.zeros(4), tol=1e-12).fun
    assert ideal_losses(cs, ["x"], penalty=0).contrast == pytest.approx(lowest, abs=1e-7)


def test_finer_bins_never_have_a_higher_loss_without_a_penalty() -> None:
    cs = ragged(levels=8)
    coarse = cs.with_features({"half": cs.features["x"] // 2, "quarter": cs.features["x"] // 4})
    nested = [["quarter"], ["half"], ["x"], ["x", "y"]]
    found = [ideal_losses(coarse, features, penalty=0) for features in nested]
    assert [f.n_bins for f in found] == [2, 4, 8, 24]
    for coarser, finer in itertools.pairwise(found):
        assert finer.contrast <= coarser.contrast + 1e-9
        assert finer.decision <= coarser.decision + 1e-9


def test_order_of_choices_and_unknown_selections_do_not_matter() -> None:
    cs = ragged()
    reverse = np.concatenate([np.arange(e - 1, s - 1, -1) for s, e in itertools.pairwise(cs.offsets)])
    turned = ChoiceSets(
        cs.decisions,
        cs.offsets,
        cs.choice[reverse],
        cs.offsets[:-1] + cs.offsets[1:] - 1 - cs.selected,
        {name: values[reverse] for name, values in cs.features.items()},
    )
    known = ragged(faults=True)
    for one, other in ((cs, turned), (known, known.filter(known.selected >= 0))):
        a, b = (ideal_losses(c, ["x", "y"]) for c in (one, other))
        assert a.contrast == pytest.approx(b.contrast, abs=1e-9)
        assert a.decision_unseen == pytest.approx(b.decision_unseen, abs=1e-8)


def test_penalty_keeps_one_of_a_kind_bins_from_being_rewarded() -> None:
    # Noise that differs in every row: each row is a bin of its own, and without penalty all selections are explained.
    rng = np.random.default_rng(0)
    cs = pairs(60, 60, x=[0.0, 0.0])
    cs = cs.with_features({"noise": rng.permutation(cs.n_rows).astype(float)})
    free, held = (ideal_losses(cs, ["noise"], max_bins=240, penalty=p) for p in (0.0, 0.1))
    assert free.n_bins == 240
    assert free.contrast < 1e-8 < 0.2 < held.contrast_unseen
    # what a table of noise "learns" does not hold on decisions it was not fitted to
    assert held.contrast_unseen == pytest.approx(np.log(2), abs=1e-6)
    assert held.contrast > 0.05


def test_table_has_the_infimum_the_penalized_and_the_unseen_losses_of_the_same_bins() -> None:
    cs = ragged()
    table = ideal_table(cs, ["x", "y"], penalty=0.5).set_index("bound")
    held, free = (ideal_losses(cs, ["x", "y"], penalty=p) for p in (0.5, 0.0))
    assert table["contrast_loss"].to_dict() == {
        "null": np.log(2),
        "unseen": held.contrast_unseen,
        "penalized": held.contrast,
        "infimum": free.contrast,
    }
    assert table["decision_loss"].tolist() == [
        held.null_decision,
        held.decision_unseen,
        held.decision,
        free.decision,
    ]
    np.testing.assert_allclose(table["gmp"], np.exp(-table["decision_loss"]))
    assert table.loc["infimum", "contrast_loss"] < table.loc["penalized", "contrast_loss"]
    assert table["exact"].all()
    assert table["n_bins"].tolist() == [12] * 4


def test_table_tells_that_one_of_a_kind_bins_have_learned_nothing() -> None:
    rng = np.random.default_rng(0)
    cs = pairs(60, 60, x=[0.0, 0.0])
    cs = cs.with_features({"noise": rng.permutation(cs.n_rows).astype(float)})
    table = ideal_table(cs, ["noise"], max_bins=240).set_index("bound")["contrast_loss"]
    assert table["infimum"] < 1e-8
    assert table["unseen"] == pytest.approx(table["null"], abs=1e-6)
    assert table["penalized"] > 0.05


# ---------------------------------------------------------------- bins


def test_continuous_features_are_binned_by_quantiles_up_to_the_most_bins() -> None:
    rng = np.random.default_rng(0)
    n = 3000
    x, useless = rng.normal(size=(n, 5)), rng.normal(size=(n, 5))
    selected = np.arange(n) * 5 + np.argmax(-2 * x**2 + rng.gumbel(size=x.shape), axis=1)
    cs = ChoiceSets(
        pd.DataFrame({"individual": [f"{i % 10}" for i in range(n)], "decision": np.arange(n)}),
        np.arange(n + 1) * 5,
        np.tile(np.arange(5), n),
        selected,
        {"x": x.ravel(), "useless": useless.ravel()},
    )
    bin_of_row, bins, exact = bin_features(cs, ["x", "useless"], max_bins=40)
    assert not exact
    assert bins["useless"] == 1  # bins are spent on what lowers the loss of unseen decisions
    assert 6 <= bins["x"] <= 24
    assert np.array_equal(np.unique(bin_of_row), np.arange(bins["x"]))
    assert np.bincount(bin_of_row).min() > 0.9 * cs.n_rows / bins["x"]
    # a hill in x: no linear model gets near, and the table is within 2 % of the truth
    found = ideal_losses(cs, ["x", "useless"], max_bins=40)
    truth = losses_of(-2 * x.ravel() ** 2, cs)
    assert found.contrast == pytest.approx(truth[0], rel=0.02)
    assert found.contrast < found.contrast_unseen < truth[0] + 0.02
    assert found.decision == pytest.approx(truth[1], rel=0.04)
    assert ideal_losses(cs, ["x", "useless"], max_bins=4).n_bins <= 4


def test_equal_values_share_a_bin_and_few_values_are_kept() -> None:
    cs = ragged(levels=5)
    bin_of_row, bins, exact = bin_features(cs, ["x", "y"])
    assert (bins, exact) == ({"x": 5, "y": 3}, True)
    rows = pd.DataFrame({"x": cs.features["x"], "y": cs.features["y"], "bin": bin_of_row})
    assert (rows.groupby(["x", "y"])["bin"].nunique() == 1).all()
    assert rows["bin"].nunique() == len(rows[["x", "y"]].drop_duplicates()) == 15


def test_of_many_decisions_evenly_spaced_ones_are_taken() -> None:
    cs = ragged(n_decisions=301)
    every_third = cs.filter(np.arange(301) % 3 == 0)
    found = ideal_losses(cs, ["x"], max_decisions=120)
    assert found.n_decisions == 101
    assert found == ideal_losses(every_third, ["x"])
    assert ideal_losses(cs, ["x"], max_decisions=301).n_decisions == 301


def test_equal_data_give_equal_bits() -> None:
    cs = ragged()
    assert ideal_losses(cs, ["x", "y"]) == ideal_losses(cs, ["x", "y"])


# ---------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("features", "options", "message"),
    [
        (["z"], {}, "expected the column z; got x, y"),
        (["x"], {"max_bins": 0}, "max_bins must be 1 or more; got 0"),
        (["x"], {"max_decisions": 0}, "max_decisions must be 1 or more; got 0"),
        (["x"], {"penalty": -1.0}, "penalty must be 0 or more"),
        (["x"], {"weighting": "week"}, 'must be "individual" or "decision"'),
    ],
)
def test_wrong_arguments_are_named(features: list[str], options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ideal_losses(ragged(), features, **options)


def test_table_without_a_penalty_is_refused() -> None:
    with pytest.raises(ValueError, match="expected a penalty above 0"):
        ideal_table(ragged(), ["x"], penalty=0)


def test_features_that_are_not_finite_and_unknown_selections_are_refused() -> None:
    cs = ragged()
    with pytest.raises(ValueError, match="NaN or infinity in x"):
        ideal_losses(cs.with_features({"x": np.where(cs.features["x"] > 1, np.nan, 0)}), ["x"])
    unknown = ChoiceSets(cs.decisions, cs.offsets, cs.choice, np.full(cs.n_decisions, -1), cs.features)
    with pytest.raises(ValueError, match="expected decisions with a known selection"):
        ideal_losses(unknown, ["x"])
