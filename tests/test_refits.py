"""The cluster bootstrap of fits: who is drawn, by hand, and what becomes of failures."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from explained import Known, choose, linear, rows, world

from mimic.conditional_logit import fit_conditional_logit
from mimic.refits import Refits, bootstrap_fits, curve_interval, resample_individuals, several_models
from mimic.schema import ChoiceSets


def test_resample_repeats_whole_individuals_under_names_of_their_own() -> None:
    cs = rows({"x": np.arange(7.0)}, [2, 3, 2], ["a", "a", "b"])
    drawn = resample_individuals(cs, [2, 1])
    assert drawn.individuals.tolist() == ["a", "a", "b", "a (2)", "a (2)"]
    assert drawn.features["x"].tolist() == [*range(7), *range(5)]
    assert drawn.selected.tolist() == [0, 2, 5, 7, 9]


def test_copy_of_an_individual_is_not_taken_for_another_of_that_name() -> None:
    decisions = pd.DataFrame({"individual": ["a", "a (2)"], "decision": [1, 2]})
    cs = ChoiceSets(decisions, [0, 2, 4], [1, 2, 1, 2], [1, 2])
    assert len(set(resample_individuals(cs, [2, 1]).individuals)) == 3


def test_individual_drawn_twice_counts_as_weight_two() -> None:
    cs = choose(world(n_individuals=3), linear(a=1.0).log_odds(world(n_individuals=3)))
    twice = fit_conditional_logit(resample_individuals(cs, [2, 0, 1]), ["a", "b"])
    weights = np.array([2.0, 0.0, 1.0])[cs.individual_codes]
    assert twice.coef == pytest.approx(fit_conditional_logit(cs, ["a", "b"], weights=weights).coef, rel=1e-8)


def test_bootstrap_has_the_spread_of_cluster_robust_standard_errors() -> None:
    # animals differ in their taste for a, so that decisions are no independent draws
    cs = world(n_individuals=60, n_decisions=25, seed=1)
    taste = np.random.default_rng(2).normal(1.0, 0.6, 60)
    phi = np.repeat(taste[cs.individual_codes], 5) * cs.features["a"]
    cs = choose(cs, phi, seed=3)
    fit = fit_conditional_logit(cs, ["a", "b"], cluster=cs.individual_codes)
    refits = bootstrap_fits(lambda drawn: fit_conditional_logit(drawn, ["a", "b"]), cs, n=300, seed=4)
    spread = np.std([m.coef for m in refits.models], axis=0, ddof=1)  # type: ignore[attr-defined]
    assert fit.cluster_se is not None
    assert spread == pytest.approx(fit.cluster_se, rel=0.15)
    assert spread[0] > 1.5 * fit.se[0]  # the Hessian's takes decisions for independent


def test_failed_refits_are_counted_and_too_many_refused() -> None:
    cs = world(n_individuals=4, n_decisions=2)
    calls = iter(range(1000))

    def often(drawn: ChoiceSets) -> Known:
        if next(calls) % 10 == 0:
            raise ValueError("separated")
        return linear(a=1.0)

    refits = bootstrap_fits(often, cs, n=20)
    assert (len(refits.models), refits.failures) == (18, ("separated", "separated"))
    assert refits.note == "2 of 20 refits failed"

    def never(drawn: ChoiceSets) -> Known:
        raise ValueError("separated")

    with pytest.raises(ValueError, match="5 of 5 refits .* the first said: separated"):
        bootstrap_fits(never, cs, n=5)
    with pytest.raises(ValueError, match="needs 2 or more; got 1"):
        bootstrap_fits(never, world(n_individuals=1))


def test_interval_is_of_refits_before_members() -> None:
    models = [linear(a=1.0), linear(a=3.0)]

    def slope(model: object) -> np.ndarray:
        return model.formula({"a": np.ones((1, 1))})  # type: ignore[attr-defined, no-any-return]

    members = curve_interval(models, (), slope, 0.5)
    assert (members.estimate.item(), members.low.item(), members.high.item()) == (2.0, 1.0, 3.0)
    assert (members.interval, members.n_draws) == ("members", 2)
    refits = curve_interval(models[:1], Refits(tuple(linear(a=b) for b in range(5))), slope, 0.5)
    assert (refits.estimate.item(), refits.low.item(), refits.high.item()) == (1.0, 1.0, 3.0)
    assert (refits.interval, refits.n_draws) == ("refits", 5)
    alone = curve_interval(models[:1], (), slope, 0.5)
    assert alone.interval == ""
    assert np.isnan(alone.low).all()


def test_models_of_other_features_are_refused() -> None:
    with pytest.raises(ValueError, match="must take the same features; got a and b"):
        several_models([linear(a=1.0), linear(b=1.0)])
    with pytest.raises(ValueError, match="a model or several; got none"):
        several_models([])


def test_counts_of_another_number_of_individuals_are_refused() -> None:
    with pytest.raises(ValueError, match="one entry for each of 2 individuals"):
        resample_individuals(world(n_individuals=2, n_decisions=1), [1, 1, 1])
