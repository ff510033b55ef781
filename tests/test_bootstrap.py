"""Intervals of means over individuals against enumeration, formulas and known coverage."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy import stats

from mimic.bootstrap import (
    IndividualSums,
    bootstrap_means,
    few_note,
    interval_of_draws,
    mean_intervals,
    resample_counts,
    sign_flip_p,
)

METHODS = ("percentile", "bca", "expanded")


def test_all_resamples_of_three_individuals_are_met_as_often_as_they_should_be() -> None:
    # means 0, 0 and 3: the resampled mean is the number of draws of the third, binomial(3, 1/3)
    values, individual = np.array([0.0, 0.0, 3.0]), np.array([0, 1, 2])
    draws = bootstrap_means(values, individual, resample_counts(3, n_resamples=20_000, seed=1))[:, 0]
    met = [np.mean(draws == k) for k in range(4)]
    np.testing.assert_allclose(met, stats.binom(3, 1 / 3).pmf(range(4)), atol=0.015)


def test_individuals_weigh_the_same_or_decisions_do() -> None:
    # a decides twice (1, 3), b once (8): 5 by individual, 4 by decision
    values, individual = np.array([1.0, 3.0, 8.0]), np.array([4, 4, 9])
    counts = np.array([[1, 1], [2, 0], [0, 2], [3, 1]])
    assert bootstrap_means(values, individual, counts)[:, 0].tolist() == [5.0, 2.0, 8.0, 7.0]
    by_decision = bootstrap_means(values, individual, counts[[0, 1, 2]], weighting="decision")[:, 0]
    assert by_decision.tolist() == [4.0, 2.0, 8.0]
    assert mean_intervals(values, individual).estimate.tolist() == [5.0]
    assert mean_intervals(values, individual, weighting="decision").estimate.tolist() == [4.0]


def test_missing_values_take_no_part_in_the_mean_of_their_quantity() -> None:
    values = np.array([[1.0, 5.0], [3.0, np.nan], [np.nan, 7.0]])
    found = mean_intervals(values, np.array([0, 0, 1]))
    assert found.estimate.tolist() == [2.0, 6.0]
    assert np.isnan(found.low[0])  # only one individual has it
    assert found.low[1] == pytest.approx(6 - 12.706 * 1.0, abs=0.01)  # two individuals, 5 and 7: t = 12.7


def test_individuals_without_a_quantity_make_its_interval_no_narrower() -> None:
    # 6 of 60 individuals have it: levels of 60 would cover as if 60 told of it
    rng, held = np.random.default_rng(5), {"own": 0, "among others": 0}
    for _ in range(400):
        values = np.full(60, np.nan)
        values[:6] = rng.normal(size=6)
        for name, some in (("own", values[:6]), ("among others", values)):
            found = mean_intervals(some, np.arange(len(some)), n_resamples=400)
            held[name] += int(found.low[0] <= 0 <= found.high[0])
    assert held["among others"] >= held["own"] - 4


def test_plus_against_minus_infinity_has_neither_mean_nor_interval_nor_p() -> None:
    values = np.array([np.inf, -np.inf, 1.0, 2.0])
    for individual in (np.array([0, 0, 1, 2]), np.array([0, 1, 2, 2])):  # within an individual, and between two
        found = mean_intervals(values, individual)
        assert np.isnan([found.estimate[0], found.low[0], found.high[0]]).all()
    assert np.isnan(bootstrap_means(values, np.array([0, 0, 1, 2]), np.ones((1, 3)))[0, 0])
    assert np.isnan(sign_flip_p(values))


@pytest.mark.parametrize("method", METHODS)
def test_one_individual_has_no_interval_and_nobody_has_no_mean(method: str) -> None:
    one = mean_intervals(np.array([1.0, 2.0]), np.array([3, 3]), method=method)  # type: ignore[arg-type]
    assert one.estimate.tolist() == [1.5]
    assert np.isnan([one.low[0], one.high[0]]).all()
    nobody = mean_intervals(np.zeros((0, 2)), np.zeros(0, dtype=int), method=method)  # type: ignore[arg-type]
    assert np.isnan(nobody.estimate).all()
    assert nobody.n_individuals == 0


@pytest.mark.parametrize("method", METHODS)
def test_equal_individuals_have_an_interval_of_no_width(method: str) -> None:
    found = mean_intervals(np.full(12, 0.25), np.arange(12) // 2, method=method)  # type: ignore[arg-type]
    assert (found.low[0], found.high[0]) == (0.25, 0.25)


def test_expanded_interval_of_many_normal_individuals_is_that_of_student() -> None:
    values = np.random.default_rng(0).normal(size=40)
    found = mean_intervals(values, np.arange(40), n_resamples=200_000)
    half = stats.t.ppf(0.975, 39) * values.std(ddof=1) / np.sqrt(40)
    assert (found.high[0] - found.low[0]) / 2 == pytest.approx(half, rel=0.02)


@pytest.mark.parametrize("n", [2, 3, 5])
def test_too_few_individuals_for_resampling_have_the_interval_of_student(n: int) -> None:
    # all resampled means of two animals lie between the two, and the truth in half of all studies outside
    values = np.random.default_rng(n).normal(size=n)
    found = mean_intervals(values, np.arange(n))
    half = stats.t.ppf(0.975, n - 1) * values.std(ddof=1) / np.sqrt(n)
    assert found.low[0] == pytest.approx(values.mean() - half)
    assert found.high[0] == pytest.approx(values.mean() + half)
    assert mean_intervals(values, np.arange(n), method="percentile").low[0] >= values.min()


def test_intervals_of_three_individuals_cover_the_mean_of_the_population() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(400):
        found = mean_intervals(rng.normal(size=3), np.arange(3), n_resamples=50)
        covered += bool(found.low[0] <= 0 <= found.high[0])
    assert 0.92 <= covered / 400 <= 0.98  # binomial(400, .95): within with probability .99


def test_bca_follows_the_skewness_that_percentiles_miss() -> None:
    # an interval for the mean of a right-skewed population reaches farther to the right
    values = np.random.default_rng(2).lognormal(sigma=1.0, size=30)
    plain, bca = (mean_intervals(values, np.arange(30), method=m, n_resamples=20_000) for m in ("percentile", "bca"))
    assert bca.low[0] > plain.low[0]
    assert bca.high[0] > plain.high[0]


def test_bca_is_that_of_scipy() -> None:
    values = np.random.default_rng(5).lognormal(size=25)
    ours = mean_intervals(values, np.arange(25), method="bca", n_resamples=50_000)
    theirs = stats.bootstrap((values,), np.mean, method="BCa", n_resamples=50_000, rng=np.random.default_rng(1))
    interval = theirs.confidence_interval
    assert ours.low[0] == pytest.approx(interval.low, rel=0.01)
    assert ours.high[0] == pytest.approx(interval.high, rel=0.01)


def test_intervals_of_thirty_individuals_cover_the_mean_of_the_population() -> None:
    # 300 studies, mean 0, unequal numbers of decisions. A binomial(300, .95) lies between .913 and .98 with
    # probability .997; at 30 individuals none of the methods should leave that.
    rng = np.random.default_rng(3)
    covered = dict.fromkeys(METHODS, 0)
    for _ in range(300):
        sizes = rng.integers(5, 60, 30)
        individual = np.repeat(np.arange(30), sizes)
        values = np.repeat(rng.normal(size=30), sizes) + rng.normal(size=len(individual))
        for method in METHODS:
            found = mean_intervals(values, individual, method=method, n_resamples=500)  # type: ignore[arg-type]
            covered[method] += bool(found.low[0] <= 0 <= found.high[0])
    assert all(0.913 <= n / 300 <= 0.98 for n in covered.values()), covered


def test_decisions_drawn_one_by_one_would_pretend_to_know_more() -> None:
    rng = np.random.default_rng(4)
    individual = np.repeat(np.arange(20), 50)
    values = np.repeat(rng.normal(size=20), 50) + rng.normal(size=1000)
    by_animal = mean_intervals(values, individual)
    by_decision = mean_intervals(values, np.arange(1000))
    assert (by_animal.high - by_animal.low)[0] > 3 * (by_decision.high - by_decision.low)[0]


def test_equal_seeds_give_equal_bits_and_other_seeds_other_draws() -> None:
    values, individual = np.random.default_rng(0).normal(size=(50, 3)), np.arange(50) // 5
    first, again = (mean_intervals(values, individual, seed=7) for _ in range(2))
    other = mean_intervals(values, individual, seed=8)
    assert first.low.tobytes() == again.low.tobytes()
    assert first.low.tobytes() != other.low.tobytes()
    # what else is computed beside a quantity does not change it
    assert mean_intervals(values[:, 1], individual, seed=7).low[0] == first.low[1]


def test_names_of_individuals_and_the_order_of_decisions_are_of_no_matter() -> None:
    rng = np.random.default_rng(0)
    values, individual = rng.normal(size=60), np.repeat(np.arange(6), 10)
    order = rng.permutation(60)
    first = mean_intervals(values, individual)
    shuffled = mean_intervals(values[order], individual[order] * 1000 - 7)
    assert shuffled.low[0] == pytest.approx(first.low[0], rel=1e-12)
    assert shuffled.high[0] == pytest.approx(first.high[0], rel=1e-12)


def test_an_impossible_selection_makes_the_resamples_that_draw_it_infinite() -> None:
    found = mean_intervals(np.array([-1.0, -2.0, -np.inf]), np.arange(3), method="percentile")
    assert found.estimate[0] == -np.inf
    assert found.low[0] == -np.inf
    assert np.isfinite(found.high[0])  # 8 of 27 resamples do not draw it


def test_sums_hold_all_that_means_need() -> None:
    sums = IndividualSums.of(np.array([1.0, 2.0, 4.0]), np.array([0, 0, 1]))
    assert sums.total[:, 0].tolist() == [3.0, 4.0]
    assert sums.count[:, 0].tolist() == [2.0, 1.0]


def test_quantiles_of_draws_are_draws() -> None:
    low, high = interval_of_draws(np.array([5.0, np.nan]), np.column_stack([np.arange(11.0)] * 2), level=0.5)
    assert (low[0], high[0]) == (2.0, 8.0)
    assert np.isnan(low[1])


def test_sign_flips_of_few_individuals_are_enumerated() -> None:
    d = np.array([0.5, -0.1, 0.3, 0.2])
    means = [abs(np.dot(signs, d)) for signs in product([1, -1], repeat=4)]
    assert sign_flip_p(d) == np.mean(np.array(means) >= abs(d.sum()) - 1e-12)
    assert sign_flip_p(np.ones(5)) == 2 / 32
    assert np.isnan(sign_flip_p(np.array([])))
    assert sign_flip_p(np.array([0.0, 0.0])) == 1.0


def test_patterns_that_tie_but_for_rounding_count() -> None:
    assert sign_flip_p(np.array([0.1, 0.2, -0.3])) == 1.0  # a mean of 0, as far from it as any
    assert sign_flip_p(np.array([-0.3, 0.1, 0.2])) == 1.0


def test_random_sign_flips_agree_with_the_t_test() -> None:
    d = np.random.default_rng(1).normal(0.35, 1, size=40)
    assert sign_flip_p(d, n_flips=50_000) == pytest.approx(stats.ttest_1samp(d, 0).pvalue, abs=0.01)
    assert sign_flip_p(np.ones(30)) == 1 / 10_001  # never 0
    assert sign_flip_p(d, seed=3) == sign_flip_p(d, seed=3)


def test_few_individuals_are_told() -> None:
    assert [few_note(n) for n in (0, 1, 9, 10)] == ["", "one individual: no interval", "few individuals", ""]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"level": 95}, "level must lie between 0 and 1, such as 0.95; got 95"),
        ({"method": "normal"}, "method must be percentile, bca, expanded; got 'normal'"),
        ({"n_resamples": 0}, "n_resamples must be 1 or more; got 0"),
        ({"weighting": "animal"}, "weighting must be"),
    ],
)
def test_bad_options_are_told(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mean_intervals(np.ones(4), np.arange(4), **options)  # type: ignore[arg-type]


def test_shapes_that_do_not_fit_are_told() -> None:
    with pytest.raises(ValueError, match=r"got \(3,\) and \(2,\)"):
        mean_intervals(np.ones(3), np.arange(2))
    with pytest.raises(ValueError, match=r"counts must have shape \(resample, individual\) = \(n, 3\)"):
        bootstrap_means(np.ones(3), np.arange(3), np.ones((5, 2)))
    with pytest.raises(ValueError, match="expected individuals and resamples; got 0 and 5"):
        resample_counts(0, n_resamples=5)
