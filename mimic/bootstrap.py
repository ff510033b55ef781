"""Values of decisions into means with intervals: the bootstrap over individuals, and sign flips (NumPy, SciPy)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, get_args

import numpy as np
from scipy import special

from mimic.contrasts import Weighting

__all__ = [
    "FEW_INDIVIDUALS",
    "IndividualSums",
    "Intervals",
    "Method",
    "bootstrap_means",
    "few_note",
    "interval_of_draws",
    "intervals_of_sums",
    "mean_intervals",
    "resample_counts",
    "sign_flip_p",
]

Method = Literal["percentile", "bca", "expanded"]

FEW_INDIVIDUALS = 10
"""Intervals from fewer individuals than this carry a note: no bootstrap can see what was not sampled."""

_CACHED_ENTRIES = 2_000_000  # counts of at most so many draws are kept, and shared by groups of equal size
_EXACT_FLIPS = 16  # individuals up to which all 2^n patterns of signs are tried


@dataclass(frozen=True, eq=False)
class Intervals:
    """Means with their intervals.

    Parameters
    ----------
    estimate, low, high
        (quantity,); low and high are NaN from fewer than two individuals, all three where plus and minus infinity meet.
    n_individuals
        That were resampled.
    """

    estimate: np.ndarray
    low: np.ndarray
    high: np.ndarray
    n_individuals: int

    def within(self, low: np.ndarray | float, high: np.ndarray | float) -> Intervals:
        """The same, with ends where the figure can be: an interval from few individuals may reach beyond."""
        return Intervals(self.estimate, np.clip(self.low, low, high), np.clip(self.high, low, high), self.n_individuals)


@dataclass(frozen=True, eq=False)
class IndividualSums:
    """Sums and counts of decisions by individual: all that means and their intervals need.

    Parameters
    ----------
    total, count
        (individual, quantity): sum of the values that are not NaN, and their number.
    """

    total: np.ndarray
    count: np.ndarray

    @staticmethod
    def of(values: np.ndarray, individual: np.ndarray) -> IndividualSums:
        """Of values (decision,) or (decision, quantity) and any integer codes (decision,), in the order of the codes.

        Raises ValueError if shapes differ.
        """
        table = np.asarray(values, dtype=np.float64)
        shape, table = table.shape, table[:, None] if table.ndim == 1 else table
        codes = np.asarray(individual)
        if table.ndim != 2 or codes.shape != (len(table),):
            raise ValueError(
                f"expected values (decision,) or (decision, quantity) and individual (decision,); got {shape} and "
                f"{codes.shape}."
            )
        codes, n = _compact(codes)
        there = ~np.isnan(table)
        missing = not there.all()
        columns = [np.where(t, v, 0.0) if missing else v for v, t in zip(table.T, there.T, strict=True)]
        total = [np.bincount(codes, column, n) for column in columns]
        sizes = np.bincount(codes, minlength=n).astype(np.float64)
        count = [np.bincount(codes, t, n) if missing else sizes for t in there.T]
        shape = (len(table.T), n)
        return IndividualSums(np.array(total).reshape(shape).T, np.array(count).reshape(shape).T)

    def ratio(self, weighting: Weighting) -> tuple[np.ndarray, np.ndarray]:
        """Numerator and denominator of each individual in the mean: (individual, quantity) each."""
        if weighting not in get_args(Weighting):
            raise ValueError(f'weighting must be "individual" or "decision"; got {weighting!r}.')
        if weighting == "decision":
            return self.total, self.count
        return self.total / np.maximum(self.count, 1.0), (self.count > 0).astype(np.float64)


def mean_intervals(
    values: np.ndarray,
    individual: np.ndarray,
    *,
    weighting: Weighting = "individual",
    level: float = 0.95,
    method: Method = "expanded",
    n_resamples: int = 2000,
    seed: int = 0,
) -> Intervals:
    """Means over decisions with intervals from drawing individuals anew.

    Individuals are the clusters: the decisions of one are alike, and a study with more decisions of the same animals
    knows no more about other animals.

    Parameters
    ----------
    values
        (decision,) or (decision, quantity). NaN takes no part in the mean of its quantity.
    individual
        (decision,), any integer codes.
    weighting
        "individual": individuals weigh the same, and decisions the same within each. "decision": decisions do.
    level
        Of the interval, between 0 and 1.
    method
        "percentile": quantiles of the resampled means. "bca": bias-corrected and accelerated. "expanded": percentile
        with levels that make up for the narrowness of few individuals, and Student's t where they are too few for any
        resampling.
    n_resamples, seed
        Of the draws: equal numbers give equal intervals, whatever was computed before.

    Raises
    ------
    ValueError
        If shapes differ, the level or the number of resamples is out of range, or the method is unknown.

    Notes
    -----
    With n individuals, n of them are drawn with replacement. Expanded: the quantile of alpha / 2 is taken at
    Phi(sqrt(n / (n - 1)) t_{alpha/2, n-1}), n here of those that have the quantity (Hesterberg 2015,
    doi:10.1080/00031305.2015.1089789). BCa: with z0 from the share of resampled means below the estimate and the
    acceleration from leaving out one individual at a time (Efron 1987, doi:10.1080/01621459.1987.10478410). No method
    knows more than the individuals tell: below `FEW_INDIVIDUALS` intervals are too narrow.

    Example
    -------
    Two individuals with means 0 and 1: a quarter of the resamples are two of the first, a quarter two of the second.

    >>> found = mean_intervals(np.array([0.0, 0.0, 1.0]), np.array([7, 7, 9]), method="percentile")
    >>> found.estimate.tolist(), found.low.tolist(), found.high.tolist()
    ([0.5], [0.0], [1.0])
    """
    sums = IndividualSums.of(values, individual)
    return intervals_of_sums(sums, weighting=weighting, level=level, method=method, n_resamples=n_resamples, seed=seed)


def intervals_of_sums(
    sums: IndividualSums,
    *,
    weighting: Weighting = "individual",
    level: float = 0.95,
    method: Method = "expanded",
    n_resamples: int = 2000,
    seed: int = 0,
) -> Intervals:
    """As `mean_intervals`, from sums that are already there."""
    _check(level, method, n_resamples)
    total, weight = sums.ratio(weighting)
    n = len(total)
    with np.errstate(invalid="ignore"):
        estimate = total.sum(axis=0) / weight.sum(axis=0)  # 0 / 0 where a quantity has no value: NaN
    if n < 2:
        nothing = np.full_like(estimate, np.nan)
        return Intervals(estimate, nothing, nothing.copy(), n)
    draws = _ratios(resample_counts(n, n_resamples=n_resamples, seed=seed), total, weight)
    low, high = np.full_like(estimate, np.nan), np.full_like(estimate, np.nan)
    for k in range(len(estimate)):
        drawn = draws[:, k][~np.isnan(draws[:, k])]  # a resample may miss all individuals that have the quantity
        n_own = int(np.count_nonzero(weight[:, k]))  # the others tell nothing of this quantity
        if n_own < 2 or not len(drawn) or np.isnan(estimate[k]):
            continue
        if method == "expanded" and 2.0 ** (1 - n_own) > 1 - level and np.isfinite(total[:, k]).all():
            half = _student_half(level, total[:, k], weight[:, k])
            low[k], high[k] = estimate[k] - half, estimate[k] + half
        else:
            levels = _levels(method, level, n_own, estimate[k], drawn, total[:, k], weight[:, k])
            # of draws themselves and outward, as some may be infinite: a selection that a model calls impossible
            low[k] = np.quantile(drawn, levels[0], method="lower")
            high[k] = np.quantile(drawn, levels[1], method="higher")
    return Intervals(estimate, low, high, n)


def bootstrap_means(
    values: np.ndarray, individual: np.ndarray, counts: np.ndarray, *, weighting: Weighting = "individual"
) -> np.ndarray:
    """Means over decisions in every resample: (resample, quantity), for intervals of what is computed from means.

    Parameters
    ----------
    values
        (decision,) or (decision, quantity); NaN takes no part in the mean of its quantity.
    individual
        (decision,), any integer codes; in the order of the codes they are the columns of `counts`.
    counts
        (resample, individual), as from `resample_counts`.

    Raises
    ------
    ValueError
        If shapes differ or the counts are of another number of individuals.
    """
    total, weight = IndividualSums.of(values, individual).ratio(weighting)
    if counts.ndim != 2 or counts.shape[1] != len(total):
        raise ValueError(f"counts must have shape (resample, individual) = (n, {len(total)}); got {counts.shape}.")
    return _ratios(counts, total, weight)


def resample_counts(n_individuals: int, *, n_resamples: int = 2000, seed: int = 0) -> np.ndarray:
    """How often each individual is drawn when as many as there are are drawn with replacement.

    Returns
    -------
    (resample, individual), whole numbers as float64; read-only, as equal calls share it.

    Raises
    ------
    ValueError
        If there are no individuals or no resamples.
    """
    if n_individuals < 1 or n_resamples < 1:
        raise ValueError(f"expected individuals and resamples; got {n_individuals} and {n_resamples}.")
    if n_individuals * n_resamples <= _CACHED_ENTRIES:
        return _kept_counts(n_individuals, n_resamples, seed)
    return _drawn_counts(n_individuals, n_resamples, seed)


def interval_of_draws(
    estimate: np.ndarray | float, draws: np.ndarray, *, level: float = 0.95
) -> tuple[np.ndarray, np.ndarray]:
    """Low and high quantiles of resampled figures along the first axis; NaN where the estimate or a draw is NaN."""
    _check(level, "percentile", 1)
    table = np.asarray(draws, dtype=np.float64)
    low = np.quantile(table, (1 - level) / 2, axis=0, method="lower")
    high = np.quantile(table, (1 + level) / 2, axis=0, method="higher")
    missing = np.isnan(estimate)
    return np.where(missing, np.nan, low), np.where(missing, np.nan, high)


def sign_flip_p(differences: np.ndarray, *, n_flips: int = 10_000, seed: int = 0) -> float:
    """Two-sided probability of a mean so far from 0 if each individual's difference were as likely to be its negative.

    Parameters
    ----------
    differences
        (individual,); NaN is left out.
    n_flips, seed
        Of random patterns of signs, where there are more than 16 individuals; else all patterns are tried.

    Returns
    -------
    The share of patterns whose mean is at least as far from 0, the observed pattern among them. It can never be less
    than 2 / 2^n: of five individuals that all gain it is 1/16. NaN without any individual, or where one gains and
    another loses without bound.

    Notes
    -----
    A randomization test of symmetry about 0 (Fisher 1935, The Design of Experiments, section 21).

    Example
    -------
    Three individuals gain: of eight patterns, +++ and --- are as far from 0.

    >>> sign_flip_p(np.array([1.0, 2.0, 3.0]))
    0.25
    """
    given = np.asarray(differences, dtype=np.float64)
    d = given[~np.isnan(given)]
    if len(d) == 0 or (np.inf in d and -np.inf in d):
        return np.nan
    # patterns that tie do so to the rounding of the terms, which may cancel
    observed = abs(d.sum()) - 1e-12 * np.abs(d[np.isfinite(d)]).sum()
    if len(d) <= _EXACT_FLIPS:
        patterns = np.arange(2 ** len(d))[:, None] >> np.arange(len(d)) & 1
        return float(np.mean(np.abs(np.einsum("fi,i->f", 1.0 - 2.0 * patterns, d)) >= observed))
    rng = np.random.default_rng(seed)
    n_far = 0
    for first in range(0, n_flips, 1000):
        signs = 1.0 - 2.0 * rng.integers(0, 2, size=(min(1000, n_flips - first), len(d)))
        n_far += int(np.count_nonzero(np.abs(np.einsum("fi,i->f", signs, d)) >= observed))
    return (1 + n_far) / (1 + n_flips)


def few_note(n_individuals: int) -> str:
    """What a table notes beside an interval: nothing, or that it comes from few individuals."""
    if n_individuals >= FEW_INDIVIDUALS or n_individuals == 0:
        return ""
    return "one individual: no interval" if n_individuals == 1 else "few individuals"


def _check(level: float, method: str, n_resamples: int) -> None:
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, such as 0.95; got {level}.")
    if method not in get_args(Method):
        raise ValueError(f"method must be {', '.join(get_args(Method))}; got {method!r}.")
    if n_resamples < 1:
        raise ValueError(f"n_resamples must be 1 or more; got {n_resamples}.")


def _compact(codes: np.ndarray) -> tuple[np.ndarray, int]:
    """Codes renumbered without gaps, in order, and their number."""
    if len(codes) and codes.dtype.kind in "iu" and codes.min() >= 0 and codes.max() <= 4 * len(codes) + 1024:
        present = np.bincount(codes) > 0  # many times faster than sorting
        n = int(np.count_nonzero(present))
        return (codes if n == len(present) else (np.cumsum(present) - 1)[codes]), n
    compact = np.unique(codes, return_inverse=True)[1]
    return compact, int(compact.max(initial=-1)) + 1


def _ratios(counts: np.ndarray, total: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """The mean in every resample: (resample, quantity). Not by BLAS, whose last bits depend on its threads."""
    above = np.einsum("ri,iq->rq", counts, np.where(np.isfinite(total), total, 0.0))
    for end, there in ((np.inf, total == np.inf), (-np.inf, total == -np.inf), (np.nan, np.isnan(total))):
        if there.any():  # 0 x infinity is not what not being drawn means
            with np.errstate(invalid="ignore"):
                above[np.einsum("ri,iq->rq", counts, there.astype(np.float64)) > 0] += end
    if (weight == 1).all():
        return np.asarray(above / len(total))
    with np.errstate(invalid="ignore"):
        return np.asarray(above / np.einsum("ri,iq->rq", counts, weight))


def _drawn_counts(n: int, n_resamples: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng([seed, n])
    counts = np.empty((n_resamples, n))
    for row in counts:
        row[:] = np.bincount(rng.integers(0, n, n), minlength=n)
    counts.flags.writeable = False
    return counts


_kept_counts = lru_cache(maxsize=8)(_drawn_counts)


def _student_half(level: float, total: np.ndarray, weight: np.ndarray) -> float:
    """Half the width of Student's interval of a mean over individuals, by leaving out one at a time."""
    own = weight > 0
    n = int(np.count_nonzero(own))
    left_out = (total.sum() - total[own]) / (weight.sum() - weight[own])
    se = np.sqrt((n - 1) / n * np.sum((left_out - left_out.mean()) ** 2))
    return float(special.stdtrit(n - 1, (1 + level) / 2) * se)


def _levels(
    method: str, level: float, n: int, estimate: float, draws: np.ndarray, total: np.ndarray, weight: np.ndarray
) -> np.ndarray:
    """The two quantiles of the resampled means that are the ends of the interval."""
    ends = np.array([(1 - level) / 2, (1 + level) / 2])
    if method == "expanded":
        ends = special.ndtr(np.sqrt(n / (n - 1)) * special.stdtrit(n - 1, ends))
    if method != "bca":
        return ends
    below = (np.mean(draws < estimate) + np.mean(draws <= estimate)) / 2
    z0 = special.ndtri(np.clip(below, 0.5 / len(draws), 1 - 0.5 / len(draws)))
    with np.errstate(invalid="ignore", divide="ignore"):
        left_out = (total.sum() - total) / (weight.sum() - weight)
    left_out = left_out[np.isfinite(left_out)]
    spread = left_out.sum() / max(len(left_out), 1) - left_out
    size = np.sum(spread**2) ** 1.5
    acceleration = np.sum(spread**3) / (6 * size) if size > 0 else 0.0
    shifted = z0 + special.ndtri(ends)
    return np.asarray(special.ndtr(z0 + shifted / (1 - acceleration * shifted)))
