"""Scores of choice groups from one exponential against scores of each group by itself."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import mimic.scores
from mimic.probability import contrast_losses, grouped_sum, selected_log_probability
from mimic.schema import ChoiceSets
from mimic.scores import ChoiceGroup, mass_of, score_groups


def ragged(sizes: list[int], selected: list[int]) -> ChoiceSets:
    """Decisions of one animal with so many choices, the so-manieth selected (-1: unknown)."""
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    at = [o + s if s >= 0 else -1 for o, s in zip(offsets[:-1], selected, strict=True)]
    choice = np.concatenate([np.arange(n) for n in sizes])
    return ChoiceSets(pd.DataFrame({"individual": "a", "decision": np.arange(len(sizes))}), offsets, choice, at, {})


def test_odds_of_one_three_and_four_and_of_the_last_two_alone() -> None:
    cs = ragged([3], [1])
    whole, last_two = ChoiceGroup.of(cs, np.ones(3, bool)), ChoiceGroup.of(cs, np.array([False, True, True]))
    scores = score_groups(np.log([1.0, 3.0, 4.0]), cs, [whole, last_two])
    assert np.exp(scores[0].log_p[0]) == pytest.approx(3 / 8)
    assert np.exp(scores[1].log_p[0]) == pytest.approx(3 / 7)
    # against odds of 1: ln(1 + 1/3); against 4: ln(1 + 4/3)
    assert scores[0].contrast[0] == pytest.approx((np.log(4 / 3) + np.log(7 / 3)) / 2)
    assert scores[1].contrast[0] == pytest.approx(np.log(7 / 3))


@pytest.mark.parametrize("rows_in_a_block", [5, 1 << 17])
def test_every_group_scores_as_the_choice_sets_restricted_to_it(
    rows_in_a_block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mimic.scores, "_BLOCK_ROWS", rows_in_a_block)
    rng = np.random.default_rng(0)
    sizes = rng.integers(1, 9, 200).tolist()
    cs = ragged(sizes, [int(rng.integers(-1, n)) for n in sizes])
    phi = rng.normal(0, 4, cs.n_rows)
    for share in (0.3, 0.8, 1.0):
        mask = rng.uniform(size=cs.n_rows) < share
        group = ChoiceGroup.of(cs, mask)
        scores = score_groups(phi, cs, [group])[0]
        alone = cs.filter(cs.selected >= 0)
        known = np.repeat(cs.selected >= 0, cs.n_choices)
        alone, kept = (
            alone.restrict(mask[known]),
            phi[known][mask[known] & np.repeat(group.inside, cs.n_choices)[known]],
        )
        np.testing.assert_array_equal(group.counts[group.inside], alone.n_choices)
        expected = selected_log_probability(kept, alone.offsets, alone.selected)
        np.testing.assert_allclose(scores.log_p[group.inside], expected, rtol=1e-12, atol=1e-14)
        lost = grouped_sum(contrast_losses(kept, alone.offsets, alone.selected), alone.offsets)
        several = alone.n_choices > 1
        found = scores.contrast[group.inside]
        np.testing.assert_allclose(found[several], lost[several] / (alone.n_choices[several] - 1), rtol=1e-12)
        assert np.isnan(found[~several]).all()
        assert np.isnan(scores.log_p[~group.inside]).all()


def test_a_group_far_below_the_likeliest_choice_loses_no_digits() -> None:
    # the choice left out has all of the probability: exp(-2000) is 0 in float64
    cs = ragged([3], [1])
    group = ChoiceGroup.of(cs, np.array([False, True, True]))
    for depth in (100.0, 460.0, 2000.0, 1e5):
        phi = np.array([0.0, -depth, -depth - np.log(3)])
        assert np.exp(score_groups(phi, cs, [group])[0].log_p[0]) == pytest.approx(3 / 4, rel=1e-9)


def test_one_choice_left_is_certain_to_the_last_bit() -> None:
    cs = ragged([3], [1])
    group = ChoiceGroup.of(cs, np.array([False, True, False]))
    assert score_groups(np.array([0.3, -7.7, 1.1]), cs, [group])[0].log_p[0] == 0.0


def test_impossible_choices_have_no_part_and_an_impossible_selection_has_log_zero() -> None:
    cs = ragged([3, 3], [1, 0])
    phi = np.array([-np.inf, 0.0, 0.0, -np.inf, 0.0, 0.0])
    scores = score_groups(phi, cs, [ChoiceGroup.of(cs, np.ones(6, bool))])[0]
    assert np.exp(scores.log_p).tolist() == [0.5, 0.0]
    assert scores.contrast.tolist() == [pytest.approx(np.log(2) / 2), np.inf]


def test_a_group_that_leaves_only_impossible_choices_is_refused() -> None:
    cs = ragged([3], [1])
    phi = np.array([0.0, -np.inf, -np.inf])
    with pytest.raises(ValueError, match="every choice of a decision has log-odds -inf"):
        score_groups(phi, cs, [ChoiceGroup.of(cs, np.array([False, True, True]))])
    with pytest.raises(ValueError, match="every choice of a decision has log-odds -inf"):
        mass_of(np.full(3, -np.inf), cs, np.ones(3, bool))


def test_mass_of_several_choices_is_their_probability_together() -> None:
    cs = ragged([3, 1], [1, -1])
    mass = mass_of(np.log([1.0, 3.0, 4.0, 9.0]), cs, np.array([True, False, True, False]))
    assert mass.tolist() == [pytest.approx(5 / 8), 0.0]


def test_threads_change_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    cs = ragged([7] * 3000, [2] * 3000)
    phi, mask = rng.normal(size=cs.n_rows), np.tile([True, False, True, True, True, False, True], 3000)
    monkeypatch.setattr(mimic.scores, "_BLOCK_ROWS", 1000)
    one = score_groups(phi, cs, [ChoiceGroup.of(cs, mask)])[0]
    monkeypatch.setattr(mimic.scores, "_WORTH_THREADS", 1)
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    several = score_groups(phi, cs, [ChoiceGroup.of(cs, mask)])[0]
    assert one.log_p.tobytes() == several.log_p.tobytes()
    assert one.contrast.tobytes() == several.contrast.tobytes()


def test_nothing_at_all_scores_as_nothing() -> None:
    cs = ragged([3], [0]).filter(np.array([False]))
    group = ChoiceGroup.of(cs, np.zeros(0, bool))
    assert len(score_groups(np.zeros(0), cs, [group])[0].log_p) == 0
