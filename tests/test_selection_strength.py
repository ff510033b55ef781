"""Log-RSS: exact on linear models, with the interval of the cluster bootstrap."""

from __future__ import annotations

import numpy as np
import pytest
from explained import Known, choose, linear, rows, world

from mimic.conditional_logit import fit_conditional_logit
from mimic.refits import bootstrap_fits
from mimic.responses import CURVE_COLUMNS
from mimic.selection_strength import log_rss, log_rss_curve


def test_log_rss_of_a_linear_model_is_coefficient_times_difference() -> None:
    cs = world(n_individuals=2)
    model = linear(a=2.0, b=-1.0)
    found = log_rss(model, cs, {"a": 1.5, "b": 1.0}, {"a": 0.5, "b": 0.0})
    assert found["log_rss"].item() == pytest.approx(2.0 * 1.0 - 1.0 * 1.0)
    assert found["rss"].item() == pytest.approx(np.e)
    assert np.isnan(found["log_rss_low"]).all()
    curve = log_rss_curve(model, cs, "a", reference=0.5)
    assert curve["log_odds"].to_numpy() == pytest.approx(2.0 * (curve["value"] - 0.5).to_numpy(), abs=1e-9)
    assert list(curve) == CURVE_COLUMNS


def test_other_features_are_at_their_mean_unless_given() -> None:
    cs = rows({"a": np.array([0.0, 1.0]), "b": np.array([2.0, 4.0])}, [2], ["x"])
    product = Known(("a", "b"), lambda f: f["a"] * f["b"])
    assert log_rss(product, cs, {"a": 1}, {"a": 0})["log_rss"].item() == pytest.approx(3)
    assert log_rss(product, cs, {"a": 1}, {"a": 0}, at={"b": 10})["log_rss"].item() == pytest.approx(10)
    assert log_rss(product, cs, {"a": np.array([1, 2])}, {"a": 0})["log_rss"].tolist() == pytest.approx([3, 6])


def test_curve_is_zero_at_its_reference_the_mean() -> None:
    cs = world(n_individuals=2)
    curve = log_rss_curve(Known(("a",), lambda f: f["a"] ** 3), cs, "a", grid=[-1, 0, 1])
    at = curve["reference"].iloc[0]
    assert at == pytest.approx(cs.features["a"].mean(), abs=1e-6)
    assert curve["log_odds"].to_numpy() == pytest.approx(np.array([-1, 0, 1]) - at**3, abs=1e-6)


def test_interval_of_refits_agrees_with_cluster_robust_standard_errors() -> None:
    cs = world(n_individuals=60, n_decisions=25, seed=1)
    taste = np.random.default_rng(2).normal(1.0, 0.6, 60)
    cs = choose(cs, np.repeat(taste[cs.individual_codes], 5) * cs.features["a"], seed=3)
    fit = fit_conditional_logit(cs, ["a"], cluster=cs.individual_codes)
    refits = bootstrap_fits(lambda drawn: fit_conditional_logit(drawn, ["a"]), cs, n=300, seed=4)
    found = log_rss(fit, cs, {"a": 2.0}, {"a": 0.0}, refits=refits)
    assert fit.cluster_se is not None
    half = (found["log_rss_high"] - found["log_rss_low"]).item() / 2
    assert half == pytest.approx(1.96 * 2.0 * fit.cluster_se[0], rel=0.2)
    assert (found["interval"].item(), found["n_draws"].item()) == ("refits", 300)


def test_places_cannot_differ_in_what_is_the_same_for_all_choices() -> None:
    cs = world(n_individuals=2, night=True)
    model = Known(("a", "night"), lambda f: f["a"] * (1 + f["night"]))
    with pytest.raises(ValueError, match="night is the same for all choices of a decision"):
        log_rss(model, cs, {"night": 1}, {"night": 0})
    assert log_rss(model, cs, {"a": 1}, {"a": 0}, at={"night": 1})["log_rss"].item() == pytest.approx(2)


def test_unknown_features_and_unequal_pairs_are_refused() -> None:
    cs = world(n_individuals=2)
    with pytest.raises(ValueError, match="it has no feature z"):
        log_rss(linear(a=1.0), cs, {"z": 1}, {"z": 0})
    with pytest.raises(ValueError, match="arrays .* of one length"):
        log_rss(linear(a=1.0, b=1.0), cs, {"a": np.zeros(2)}, {"a": 0, "b": np.zeros(3)})
