"""Probabilities over ragged choice sets: by hand, against a plain loop, at the edges of floating point."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from mimic.probability import (
    contrast_losses,
    contrast_share,
    gmp,
    grouped_log_softmax,
    grouped_sum,
    selected_log_probability,
    softplus,
    weighted_mean,
)

OFFSETS = np.array([0, 3, 4, 6])


def ragged(rng: np.random.Generator, n_decisions: int = 30) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Log-odds, offsets and selected rows of random choice sets of 1 to 7 choices."""
    counts = rng.integers(1, 8, n_decisions)
    offsets = np.concatenate([[0], np.cumsum(counts)])
    return rng.normal(size=offsets[-1]), offsets, offsets[:-1] + rng.integers(0, counts)


def test_probabilities_of_odds_one_to_two_to_five_are_eighths() -> None:
    p = np.exp(grouped_log_softmax(np.log([1.0, 2.0, 5.0, 9.0, 3.0, 1.0]), OFFSETS))
    np.testing.assert_allclose(p, [1 / 8, 2 / 8, 5 / 8, 1, 3 / 4, 1 / 4], rtol=1e-14)


def test_log_softmax_is_that_of_a_loop_over_decisions() -> None:
    phi, offsets, _ = ragged(np.random.default_rng(0))
    expected = np.concatenate([phi[a:b] - np.log(np.sum(np.exp(phi[a:b]))) for a, b in itertools.pairwise(offsets)])
    np.testing.assert_allclose(grouped_log_softmax(phi, offsets), expected, atol=1e-14)


def test_probabilities_of_a_decision_sum_to_one() -> None:
    phi, offsets, _ = ragged(np.random.default_rng(1))
    np.testing.assert_allclose(grouped_sum(np.exp(grouped_log_softmax(30 * phi, offsets)), offsets), 1, rtol=1e-13)


def test_shifting_all_log_odds_of_a_decision_changes_nothing() -> None:
    phi, offsets, selected = ragged(np.random.default_rng(2))
    shifted = phi + np.repeat(np.linspace(-3, 3, len(selected)), np.diff(offsets))
    np.testing.assert_allclose(grouped_log_softmax(shifted, offsets), grouped_log_softmax(phi, offsets), atol=1e-14)
    np.testing.assert_allclose(
        contrast_losses(shifted, offsets, selected), contrast_losses(phi, offsets, selected), atol=1e-14
    )


def test_reordering_the_choices_of_a_decision_reorders_their_probabilities() -> None:
    phi = np.array([0.3, -1.0, 2.0, 0.0, 1.0, 4.0])
    order = np.array([2, 0, 1, 3, 5, 4])
    np.testing.assert_allclose(
        grouped_log_softmax(phi[order], OFFSETS), grouped_log_softmax(phi, OFFSETS)[order], atol=1e-15
    )


def test_padding_with_impossible_choices_changes_nothing() -> None:
    phi = np.array([0.3, -1.0, 2.0])
    padded = np.array([0.3, -1.0, 2.0, -np.inf, -np.inf])
    log_p = grouped_log_softmax(padded, np.array([0, 5]))
    np.testing.assert_array_equal(log_p[:3], grouped_log_softmax(phi, np.array([0, 3])))
    assert np.isneginf(log_p[3:]).all()


def test_large_log_odds_do_not_overflow() -> None:
    log_p = grouped_log_softmax(np.array([1000.0, 999.0, -1000.0]), np.array([0, 3]))
    np.testing.assert_allclose(
        log_p, [-np.log1p(np.exp(-1)), -1 - np.log1p(np.exp(-1)), -2000.3132616875182], rtol=1e-14
    )


def test_equal_odds_give_exactly_minus_ln_n() -> None:
    for n in range(1, 40):
        for level in (0.0, 7.3, -1e5):
            assert (grouped_log_softmax(np.full(n, level), np.array([0, n])) == -np.log(n)).all()


def test_float32_log_odds_are_taken_up_in_float64() -> None:
    assert grouped_log_softmax(np.zeros(3, dtype=np.float32), np.array([0, 3])).dtype == np.float64


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_and_infinite_log_odds_are_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="1 of 3 are NaN or"):
        grouped_log_softmax(np.array([0.0, bad, 1.0]), np.array([0, 3]))


def test_a_decision_without_a_possible_choice_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one must be possible"):
        grouped_log_softmax(np.array([0.0, -np.inf, -np.inf]), np.array([0, 1, 3]))


def test_no_decisions_give_empty_answers() -> None:
    none, offsets = np.zeros(0), np.array([0])
    assert grouped_log_softmax(none, offsets).shape == (0,)
    assert grouped_sum(none, offsets).shape == (0,)
    assert selected_log_probability(none, offsets, none.astype(int)).shape == (0,)
    assert contrast_losses(none, offsets, none.astype(int)).shape == (0,)


def test_grouped_sums_by_hand_and_of_booleans_counts() -> None:
    assert grouped_sum(np.array([1, 2, 3, 4, 5, 6]), OFFSETS).tolist() == [6, 4, 11]
    assert grouped_sum(np.array([True, True, True, False, True, True]), OFFSETS).tolist() == [3, 0, 2]


def test_selected_log_probability_by_hand_and_nan_where_unknown() -> None:
    phi = np.log([1.0, 2.0, 5.0, 9.0, 3.0, 1.0])
    log_p = selected_log_probability(phi, OFFSETS, np.array([2, -1, 5]))
    np.testing.assert_allclose(log_p, [np.log(5 / 8), np.nan, np.log(1 / 4)], rtol=1e-14)


def test_contrast_losses_by_hand() -> None:
    # odds 1 : 2 : 5, the second selected: ln(1 + 1/2) against the first, ln(1 + 5/2) against the third
    losses = contrast_losses(np.log([1.0, 2.0, 5.0, 9.0, 3.0, 1.0]), OFFSETS, np.array([1, 3, -1]))
    np.testing.assert_allclose(losses, [np.log(1.5), 0, np.log(3.5), 0, 0, 0], rtol=1e-14)


def test_a_contrast_without_a_model_costs_ln_two() -> None:
    np.testing.assert_allclose(contrast_losses(np.zeros(3), np.array([0, 3]), np.array([0])), [0, np.log(2), np.log(2)])


def test_the_contrast_loss_is_minus_ln_p_of_two_choices() -> None:
    phi, offsets = np.array([0.7, -0.4]), np.array([0, 2])
    loss = contrast_losses(phi, offsets, np.array([1]))[0]
    assert loss == pytest.approx(-selected_log_probability(phi, offsets, np.array([1]))[0], rel=1e-14)


def test_an_impossible_selection_costs_infinitely_much_and_an_impossible_alternative_nothing() -> None:
    phi, offsets = np.array([-np.inf, 0.0, -np.inf]), np.array([0, 3])
    assert contrast_losses(phi, offsets, np.array([0])).tolist() == [0, np.inf, np.inf]
    assert contrast_losses(phi, offsets, np.array([1])).tolist() == [0, 0, 0]


def test_softplus_holds_from_end_to_end() -> None:
    x = np.array([-800.0, -40.0, 0.0, 40.0, 800.0])
    np.testing.assert_allclose(softplus(x), [0, np.exp(-40), np.log(2), 40, 800], rtol=1e-15)


def test_weighted_mean_by_hand_and_weight_two_is_the_row_twice() -> None:
    assert weighted_mean(np.array([1.0, 4.0]), np.array([1.0, 2.0])) == 3.0
    assert weighted_mean(np.array([1.0, 4.0, 4.0]), np.ones(3)) == 3.0
    assert np.isnan(weighted_mean(np.array([1.0]), np.array([0.0])))
    assert np.isnan(weighted_mean(np.zeros(0), np.zeros(0)))


@pytest.mark.parametrize(("d", "percent"), [(-1.385, 25.0), (-1.351, 25.9), (-1.340, 26.2), (-1.247, 28.7)])
def test_gmp_of_published_log_probabilities(d: float, percent: float) -> None:
    # REFERENCE.md: D and GMP from one study's table
    assert round(100 * float(gmp(d)), 1) == percent


def test_gmp_of_uniform_choice_is_one_over_n() -> None:
    log_p = selected_log_probability(np.zeros(19), np.array([0, 19]), np.array([7]))
    assert gmp(log_p.mean()) == pytest.approx(1 / 19, rel=1e-14)


@pytest.mark.parametrize(("p", "share"), [(0.55, 0.959), (0.65, 0.972)])
def test_the_share_of_stay_contrasts_of_the_study(p: float, share: float) -> None:
    # FIELD.md: p_c = p M / (p M + 1 - p) with 19 alternatives
    assert round(float(contrast_share(p, 19)), 3) == share


def test_the_share_of_stay_contrasts_is_what_drawing_them_gives() -> None:
    # a share p of 1000 decisions selects stay: each gives M contrasts against stay's alternatives;
    # each other decision meets stay as one of its M alternatives
    p, m, n = 0.6, 9, 1000
    selecting_stay, against_stay = p * n * m, (1 - p) * n * 1
    assert contrast_share(p, m) == pytest.approx(selecting_stay / (selecting_stay + against_stay), rel=1e-14)
    assert contrast_share(p, 1) == pytest.approx(p)
