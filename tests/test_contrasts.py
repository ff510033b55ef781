"""Contrasts: hand-worked weights, then invariants, then sampled counts that tend to the exact weights."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from mimic.contrasts import contrast_loss, decision_weights, exact_contrasts, has_contrasts, sample_contrasts
from mimic.schema import ChoiceSets, concatenate


def choice_sets(individuals: list[str], sizes: list[int], within: list[int]) -> ChoiceSets:
    """Choice sets by individual, number of choices and position of the selected one (-1 unknown) of each decision."""
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    selected = [s + w if w >= 0 else -1 for s, w in zip(offsets[:-1], within, strict=True)]
    return ChoiceSets(
        decisions=pd.DataFrame({"individual": individuals, "decision": np.arange(len(sizes))}),
        offsets=offsets,
        choice=np.concatenate([np.arange(n) for n in sizes]),
        selected=np.array(selected),
    )


def random_choice_sets(seed: int) -> ChoiceSets:
    """Four animals of 1, 2, 5 and 12 decisions, 1 to 9 choices each, a fifth of the selections unknown."""
    rng = np.random.default_rng(seed)
    individuals = [name for name, n in zip("abcd", [1, 2, 5, 12], strict=True) for _ in range(n)]
    sizes = [3, *rng.integers(1, 10, size=19)]
    within = [0, *(int(rng.integers(0, n)) if rng.random() < 0.8 else -1 for n in sizes[1:])]
    return choice_sets(individuals, list(map(int, sizes)), within)


def test_exact_weight_of_a_contrast_is_one_over_individuals_decisions_and_unselected() -> None:
    # a decides twice (3 and 2 choices), b once (3 choices): I = 2; D_a = 2, D_b = 1.
    cs = choice_sets(["a", "a", "b"], [3, 2, 3], [1, 0, 2])
    expected = [1 / 8, 0, 1 / 8, 0, 1 / 4, 1 / 4, 1 / 4, 0]
    np.testing.assert_allclose(exact_contrasts(cs), expected, rtol=1e-15)


def test_decisions_without_alternative_or_selection_count_neither_as_decision_nor_as_individual() -> None:
    # a: one usable decision beside one with a single choice and one unknown. b: nothing usable, so I = 1.
    cs = choice_sets(["a", "a", "a", "b", "b"], [3, 1, 4, 1, 2], [0, 0, -1, 0, -1])
    np.testing.assert_array_equal(has_contrasts(cs), [True, False, False, False, False])
    expected = np.zeros(cs.n_rows)
    expected[[1, 2]] = 1 / 2
    np.testing.assert_allclose(exact_contrasts(cs), expected)
    counts = sample_contrasts(cs, decisions_per_individual=7, alternatives_per_decision=3, rng=np.random.default_rng(0))
    assert counts.sum() == counts[[1, 2]].sum() == 21


def test_nothing_usable_gives_zero_weights_and_no_loss() -> None:
    cs = choice_sets(["a", "b"], [1, 2], [0, -1])
    assert exact_contrasts(cs).tolist() == [0, 0, 0]
    counts = sample_contrasts(cs, decisions_per_individual=2, alternatives_per_decision=2, rng=np.random.default_rng(0))
    assert counts.tolist() == [0, 0, 0]
    assert np.isnan(contrast_loss(np.zeros(3), cs, counts))
    empty = cs.filter(np.zeros(2, dtype=bool))
    assert exact_contrasts(empty).shape == decision_weights(empty).shape == (0,)
    assert np.isnan(contrast_loss(np.zeros(0), empty, np.zeros(0)))


def test_decision_weights_by_individual_and_by_decision() -> None:
    cs = choice_sets(["a", "b", "a", "c"], [2, 1, 2, 2], [0, 0, 1, -1])
    # A decision with one choice has probability 1: it does count in a mean over decisions.
    np.testing.assert_allclose(decision_weights(cs), [1 / 4, 1 / 2, 1 / 4, 0])
    np.testing.assert_allclose(decision_weights(cs, weighting="decision"), [1 / 3, 1 / 3, 1 / 3, 0])
    assert decision_weights(choice_sets(["a"], [2], [-1])).tolist() == [0]


def test_unknown_weighting_is_an_error() -> None:
    with pytest.raises(ValueError, match='weighting must be "individual" or "decision"; got \'animal\''):
        decision_weights(choice_sets(["a"], [2], [0]), weighting="animal")  # type: ignore[arg-type]


def test_loss_by_hand() -> None:
    # softplus(ln 2 - ln 1) = ln 3 and softplus(ln 1 - ln 1) = ln 2, each of weight 1/2.
    cs = choice_sets(["a"], [3], [0])
    loss = contrast_loss(np.log([1.0, 2.0, 1.0]), cs, exact_contrasts(cs))
    assert loss == pytest.approx((np.log(3) + np.log(2)) / 2, abs=1e-15)


def test_loss_without_model_is_ln_2() -> None:
    cs = random_choice_sets(0)
    assert contrast_loss(np.zeros(cs.n_rows), cs, exact_contrasts(cs)) == pytest.approx(np.log(2), abs=1e-15)


@pytest.mark.parametrize("seed", range(5))
def test_exact_weights_sum_to_one_and_individuals_weigh_the_same(seed: int) -> None:
    cs = random_choice_sets(seed)
    weights = exact_contrasts(cs)
    of_individual = pd.Series(weights).groupby(cs.individuals[cs.decision_of_row]).sum()
    assert weights.sum() == pytest.approx(1, abs=1e-14)
    np.testing.assert_allclose(of_individual[of_individual > 0], 1 / (of_individual > 0).sum())
    assert (weights[cs.is_selected] == 0).all()


def test_weights_do_not_depend_on_the_order_of_decisions() -> None:
    cs = random_choice_sets(3)
    turned = concatenate([cs.filter(np.arange(cs.n_decisions) == d) for d in range(cs.n_decisions)[::-1]])
    rows = np.concatenate([np.arange(cs.offsets[d], cs.offsets[d + 1]) for d in range(cs.n_decisions)[::-1]])
    np.testing.assert_allclose(exact_contrasts(turned), exact_contrasts(cs)[rows], rtol=1e-14)


def test_loss_of_a_count_of_two_is_the_loss_of_the_row_twice() -> None:
    cs = choice_sets(["a", "a"], [3, 3], [0, 1])
    phi = np.array([0.1, 0.9, -0.4, 0.1, 0.9, -0.4])
    once, twice = np.array([0, 1, 0, 0, 0, 1]), np.array([0, 2, 0, 0, 0, 1])
    losses = np.logaddexp(0, [0.9 - 0.1, -0.4 - 0.9])
    assert contrast_loss(phi, cs, once) == pytest.approx(losses.mean())
    assert contrast_loss(phi, cs, twice) == pytest.approx((2 * losses[0] + losses[1]) / 3)


def test_every_individual_gets_the_same_number_of_sampled_contrasts() -> None:
    cs = random_choice_sets(1)
    counts = sample_contrasts(
        cs, decisions_per_individual=200, alternatives_per_decision=19, rng=np.random.default_rng(5)
    )
    of_individual = pd.Series(counts).groupby(cs.individuals[cs.decision_of_row]).sum()
    assert counts.dtype == np.int64
    assert set(of_individual) <= {0, 200 * 19}
    assert (counts[exact_contrasts(cs) == 0] == 0).all()


def test_sampled_counts_are_those_of_the_seed() -> None:
    cs = random_choice_sets(1)
    first, same, other = (
        sample_contrasts(cs, decisions_per_individual=20, alternatives_per_decision=5, rng=np.random.default_rng(seed))
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, same)
    assert (first != other).any()


def test_alternatives_are_drawn_anew_for_every_draw_of_a_decision() -> None:
    # One decision drawn 1,000 times, one alternative each. Copied draws would put all 1,000 on one row.
    cs = choice_sets(["a"], [5], [2])
    counts = sample_contrasts(
        cs, decisions_per_individual=1000, alternatives_per_decision=1, rng=np.random.default_rng(0)
    )
    assert counts[2] == 0
    # Binomial(1000, 1/4): standard deviation 13.7.
    assert (np.abs(counts[[0, 1, 3, 4]] - 250) < 4 * 13.7).all()


@pytest.mark.parametrize("option", ["decisions_per_individual", "alternatives_per_decision"])
def test_drawing_nothing_is_an_error(option: str) -> None:
    numbers = {"decisions_per_individual": 2, "alternatives_per_decision": 2, option: 0}
    with pytest.raises(ValueError, match="must be 1 or more; got"):
        sample_contrasts(choice_sets(["a"], [2], [0]), rng=np.random.default_rng(0), **numbers)


def test_mean_sampled_loss_tends_to_the_exact_loss_at_the_rate_of_one_over_root_n() -> None:
    cs = random_choice_sets(2)
    rng = np.random.default_rng(7)
    phi = rng.normal(size=cs.n_rows)
    exact = contrast_loss(phi, cs, exact_contrasts(cs))
    spread = []
    for n in (4, 16, 64):
        losses = [
            contrast_loss(
                phi, cs, sample_contrasts(cs, decisions_per_individual=n, alternatives_per_decision=3, rng=rng)
            )
            for _ in range(600)
        ]
        spread.append(np.std(losses, ddof=1))
        # Unbiased: the mean of 600 lies within 3.5 standard errors of the exact loss.
        assert abs(np.mean(losses) - exact) < 3.5 * spread[-1] / np.sqrt(600)
    # Four times the draws halve the spread. The ratio of two spreads of 600 has a relative error of 4 %.
    np.testing.assert_allclose(spread[0] / spread[1], 2, rtol=0.15)
    np.testing.assert_allclose(spread[1] / spread[2], 2, rtol=0.15)


def test_sampled_shares_of_rows_tend_to_the_exact_weights() -> None:
    cs = random_choice_sets(4)
    exact = exact_contrasts(cs)
    counts = sample_contrasts(
        cs, decisions_per_individual=20_000, alternatives_per_decision=5, rng=np.random.default_rng(1)
    )
    np.testing.assert_allclose(counts / counts.sum(), exact, atol=0.004)
