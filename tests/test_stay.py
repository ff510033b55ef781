"""What minibatches see of the choice to stay: published numbers, and minibatches really drawn."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from mimic.contrasts import decision_weights
from mimic.probability import contrast_share
from mimic.schema import ChoiceSets
from mimic.stay import StayFacts, find_stay, measure_stay


def stays(n_stay: int, n_move: int, n_alternatives: int = 19, n_individuals: int = 1) -> ChoiceSets:
    """Decisions among stay, the first choice, and so many alternatives; the first ones stay."""
    n, size = n_stay + n_move, n_alternatives + 1
    selected = np.arange(n) * size + np.repeat([0, 1], [n_stay, n_move])
    who = np.arange(n) % n_individuals
    decisions = pd.DataFrame({"individual": who.astype(str), "decision": np.arange(n)})
    choice = np.tile(np.arange(size), n)
    return ChoiceSets(decisions, np.arange(n + 1) * size, choice, selected, {"stay": choice == 0})


def measured(cs: ChoiceSets, batch_decisions: int) -> StayFacts:
    facts = measure_stay(cs, batch_decisions=batch_decisions)
    assert facts is not None
    return facts


@pytest.mark.parametrize(("n_stay", "p", "p_c"), [(55, 0.55, 0.959), (65, 0.65, 0.972)])
def test_share_of_contrasts_is_the_published_one(n_stay: int, p: float, p_c: float) -> None:
    facts = measured(stays(n_stay, 100 - n_stay), 10)
    assert facts.probability == pytest.approx(p)
    assert facts.n_alternatives == pytest.approx(19)
    assert facts.contrast_share == pytest.approx(p_c, abs=5e-4)
    assert facts.contrast_share == pytest.approx(float(contrast_share(p, 19)))


def test_error_of_the_stay_probability_by_hand() -> None:
    # 65 of 100 stay, minibatches of 20: sqrt(.65 x .35 / 20 x 80 / 99) = .0959; the slope of p_c is
    # 19 / (.65 x 19 + .35)^2 = .1179, so p_c has a standard deviation of .0113.
    facts = measured(stays(65, 35), 20)
    assert facts.error == pytest.approx(0.09587, abs=1e-5)
    assert facts.contrast_share_sd == pytest.approx(0.01130, abs=1e-5)
    # n at which .65 x .35 / n x (100 - n) / 99 = .0001: 22.75 / (.2275 + .0099) = 95.8
    assert facts.decisions_for_one_point == 96
    assert measured(stays(65, 35), 1000).error == 0  # a minibatch of all decisions has no spread
    assert measured(stays(65, 35), 1000).batch_decisions == 100


def test_small_error_of_contrasts_is_a_large_error_of_decisions() -> None:
    # The published fault: 1.4 % fewer contrasts are 18 % fewer stays. Its slope: (.65 - .55) / (.972 - .959).
    facts = measured(stays(60, 40), 10)
    assert facts.error / facts.contrast_share_sd == pytest.approx((0.65 - 0.55) / (0.97243 - 0.95871), rel=0.02)


def test_spread_is_that_of_minibatches_really_drawn_from_ragged_sets_of_unequal_individuals() -> None:
    rng = np.random.default_rng(0)
    n = 2000
    sizes = rng.integers(3, 30, n)
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    stayed = rng.uniform(size=n) < 0.6
    selected = offsets[:-1] + np.where(stayed, 0, 1)
    stay = np.zeros(offsets[-1])
    stay[offsets[:-1]] = 1
    who = np.minimum(rng.integers(0, 10, n), rng.integers(0, 10, n))
    decisions = pd.DataFrame({"individual": who.astype(str), "decision": np.arange(n)})
    cs = ChoiceSets(decisions, offsets, np.arange(offsets[-1]), selected, {"stay": stay})
    facts = measured(cs, 200)
    weights = decision_weights(cs)
    with_stay = np.where(stayed, weights, weights / (sizes - 1))
    drawn = [rng.choice(n, 200, replace=False) for _ in range(4000)]
    shares = [np.sum((weights * stayed)[d]) / np.sum(with_stay[d]) for d in drawn]
    assert facts.contrast_share == pytest.approx(np.sum(weights * stayed) / with_stay.sum())
    assert facts.contrast_share_sd == pytest.approx(np.std(shares), rel=0.05)


def test_stay_is_found_by_feature_distance_or_origin() -> None:
    cs = stays(3, 2, 2)
    by_feature = find_stay(cs)
    plain = ChoiceSets(cs.decisions, cs.offsets, cs.choice, cs.selected, {"x": np.zeros(cs.n_rows)})
    by_distance = find_stay(plain.with_features({"distance_km": 10.0 * cs.choice}))
    by_origin = find_stay(plain.with_context(origin=np.zeros(5, dtype=int)))
    for found in (by_feature, by_distance, by_origin):
        assert found is not None
        assert found.tolist() == [True, False, False] * 5
    assert find_stay(plain) is None


def test_nothing_is_measured_where_stay_is_no_choice_or_no_alternative() -> None:
    cs = stays(3, 2, 2)
    plain = ChoiceSets(cs.decisions, cs.offsets, cs.choice, cs.selected, {"x": np.zeros(cs.n_rows)})
    assert measure_stay(plain, batch_decisions=2) is None
    assert measure_stay(plain, batch_decisions=2, stay=np.zeros(cs.n_rows, dtype=bool)) is None
    assert measure_stay(stays(5, 0), batch_decisions=2) is None
    assert measure_stay(stays(0, 5), batch_decisions=2) is None


def test_wrong_arguments_are_named() -> None:
    cs = stays(3, 2, 2)
    with pytest.raises(ValueError, match="batch_decisions must be 1 or more; got 0"):
        measure_stay(cs, batch_decisions=0)
    with pytest.raises(ValueError, match=r"stay must have shape \(row,\) = \(15,\); got \(3,\)"):
        measure_stay(cs, batch_decisions=2, stay=np.zeros(3))
