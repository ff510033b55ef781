"""The rank of the selected choice among its choice set: histogram, best guesses, concordance and Boyce index."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from mimic.bootstrap import few_note, interval_of_draws, mean_intervals, resample_counts
from mimic.contrasts import Weighting
from mimic.decision_groups import group_mean
from mimic.expressions import EVERYTHING
from mimic.predicted import GROUP_KEYS, Predicted, predictions
from mimic.probability import grouped_sum
from mimic.schema import ChoiceSets

__all__ = ["HISTOGRAM_COLUMNS", "TOP_COLUMNS", "rank_histogram", "rank_table", "ranking_figures"]

HISTOGRAM_COLUMNS = [
    *GROUP_KEYS,
    "bin",
    "rank_low",
    "rank_high",
    "n_individuals",
    "n_decisions",
    "observed",
    "observed_low",
    "observed_high",
    "expected",
    "note",
]
TOP_COLUMNS = [
    *GROUP_KEYS,
    "rank",
    "n_individuals",
    "n_decisions",
    "accuracy",
    "accuracy_low",
    "accuracy_high",
    "null_accuracy",
    "note",
]

_ALL = {EVERYTHING: EVERYTHING}
_WINDOWS, _WINDOW = 101, 0.1  # of the Boyce index, as Hirzel et al. have them


def rank_histogram(
    log_odds: Mapping[str, np.ndarray],
    choice_sets: ChoiceSets,
    *,
    bins: int = 10,
    choice_groups: Mapping[str, str] = _ALL,
    behavior_groups: Mapping[str, str] = _ALL,
    splits: Sequence[str] | None = None,
    weightings: Sequence[Weighting] = ("individual",),
    level: float = 0.95,
    n_resamples: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Where the selected choice lies in the order of its choice set: flat where the model is calibrated.

    Parameters
    ----------
    log_odds, choice_sets, choice_groups, behavior_groups, splits, weightings
        As in `mimic.evaluation.evaluate`.
    bins
        Of equal width between 0 and 1.
    level, n_resamples, seed
        Of the intervals; the seed also breaks ties.

    Returns
    -------
    Columns `HISTOGRAM_COLUMNS`, one row a group x weighting x bin: the observed share of decisions whose rank lies in
    the bin, with its interval, and the expected share, 1 / bins. A heap in the first bins is a model that is too
    timid (what it likes best is selected more often than it says), one in the last bins a model too sure of itself.
    Empty groups have no rows.

    Raises
    ------
    ValueError
        As `mimic.predicted.predictions`, or if there is less than one bin.

    Notes
    -----
    The rank is the probability of all choices more probable than the selected one plus U times that of all choices
    exactly as probable (itself among them), U uniform on [0, 1): a randomized probability integral transform, for
    choice sets of any size uniform on [0, 1] if selections follow the model (Czado et al. 2009,
    doi:10.1111/j.1541-0420.2009.01191.x).
    """
    if bins < 1:
        raise ValueError(f"bins must be 1 or more; got {bins}.")
    rows: list[dict[str, Any]] = []
    for found in predictions(
        log_odds, choice_sets, choice_groups=choice_groups, behavior_groups=behavior_groups, splits=splits
    ):
        if not found.n_decisions:
            continue
        own_bin = np.minimum((_random_ranks(found, seed) * bins).astype(np.int64), bins - 1)
        hits = (own_bin[:, None] == np.arange(bins)).astype(np.float64)
        for weighting in weightings:
            share = mean_intervals(
                hits, found.individual, weighting=weighting, level=level, n_resamples=n_resamples, seed=seed
            ).within(0, 1)
            for k in range(bins):
                rows.append(
                    {
                        **_counts(found, weighting),
                        "bin": k + 1,
                        "rank_low": k / bins,
                        "rank_high": (k + 1) / bins,
                        "observed": share.estimate[k],
                        "observed_low": share.low[k],
                        "observed_high": share.high[k],
                        "expected": 1 / bins,
                    }
                )
    return pd.DataFrame(rows, columns=HISTOGRAM_COLUMNS)


def rank_table(
    log_odds: Mapping[str, np.ndarray],
    choice_sets: ChoiceSets,
    *,
    ranks: Sequence[int] = (1, 3, 5),
    choice_groups: Mapping[str, str] = _ALL,
    behavior_groups: Mapping[str, str] = _ALL,
    splits: Sequence[str] | None = None,
    weightings: Sequence[Weighting] = ("individual",),
    level: float = 0.95,
    n_resamples: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """How often the selected choice is among the k most probable: one row a group x weighting x rank k.

    Returns
    -------
    Columns `TOP_COLUMNS`: accuracy with its interval, and null_accuracy, that of a random order: k / n, at most 1.
    Ties count with the probability of a random order among them. Empty groups have no rows.

    Raises
    ------
    ValueError
        As `mimic.predicted.predictions`, or if a rank is less than 1.

    Example
    -------
    >>> decisions = pd.DataFrame({"individual": ["a"], "decision": [1]})
    >>> cs = ChoiceSets(decisions, [0, 4], [0, 1, 2, 3], [1])
    >>> rank_table({"m": np.log([3.0, 2.0, 2.0, 1.0])}, cs, ranks=[1, 2])[["rank", "accuracy", "null_accuracy"]]
       rank  accuracy  null_accuracy
    0     1       0.0           0.25
    1     2       0.5           0.50
    """
    if any(rank < 1 for rank in ranks):
        raise ValueError(f"ranks must be 1 or more; got {', '.join(map(str, ranks))}.")
    rows: list[dict[str, Any]] = []
    for found in predictions(
        log_odds, choice_sets, choice_groups=choice_groups, behavior_groups=behavior_groups, splits=splits
    ):
        if not found.n_decisions:
            continue
        accuracy, null = _top(found, ranks)
        for weighting in weightings:
            mean = mean_intervals(
                accuracy, found.individual, weighting=weighting, level=level, n_resamples=n_resamples, seed=seed
            ).within(0, 1)
            for k, rank in enumerate(ranks):
                rows.append(
                    {
                        **_counts(found, weighting),
                        "rank": rank,
                        "accuracy": mean.estimate[k],
                        "accuracy_low": mean.low[k],
                        "accuracy_high": mean.high[k],
                        "null_accuracy": group_mean(null[:, k], found.individual, weighting),
                    }
                )
    return pd.DataFrame(rows, columns=TOP_COLUMNS)


def ranking_figures(
    found: Predicted, weighting: Weighting, *, level: float = 0.95, n_resamples: int = 2000, seed: int = 0
) -> dict[str, float]:
    """Concordance, Boyce index and the accuracy of the best guess, each with `_low` and `_high`, and `null_top1`.

    Notes
    -----
    Concordance: the share of pairs (selected, alternative) of a decision in which the selected choice is the more
    probable, ties one half; the mean over decisions that have an alternative; .5 by chance.

    Boyce index: each choice gets as suitability its place between 0 and 1 in the order of p n (its probability over
    that of its null, so that choice sets of different sizes compare), equal values the middle of theirs, a choice
    weighing w_d / n_d. In 101 windows of width 0.1 of it, F = share of selections / share of choices; the index is
    Spearman's correlation of F with the middle of the window, where repeated contents count once. It is the
    continuous index of Hirzel et al. (2006, doi:10.1016/j.ecolmodel.2006.05.017) on a scale of equal availability
    (Boyce et al. 2002, doi:10.1016/S0304-3800(02)00200-4): 1 where selection rises with the prediction, 0 by chance.
    It knows order only. NaN for a model that tells no choices apart.
    """
    if not found.n_decisions:
        return {}
    above, tied = _above_and_tied(found)
    others = np.maximum(found.n_choices - 1.0, 1.0)
    pairs = np.where(found.n_choices > 1, 1 - (above + (tied - 1) / 2) / others, np.nan)
    accuracy, null = _top(found, [1])
    concordance, top = (
        mean_intervals(
            values, found.individual, weighting=weighting, level=level, n_resamples=n_resamples, seed=seed
        ).within(0, 1)
        for values in (pairs, accuracy[:, 0])
    )
    boyce, low, high = _boyce(found, weighting, level=level, n_resamples=n_resamples, seed=seed)
    return {
        "concordance": float(concordance.estimate[0]),
        "concordance_low": float(concordance.low[0]),
        "concordance_high": float(concordance.high[0]),
        "boyce": boyce,
        "boyce_low": low,
        "boyce_high": high,
        "top1": float(top.estimate[0]),
        "top1_low": float(top.low[0]),
        "top1_high": float(top.high[0]),
        "null_top1": group_mean(null[:, 0], found.individual, weighting),
    }


def _counts(found: Predicted, weighting: Weighting) -> dict[str, Any]:
    return {
        **found.key,
        "weighting": weighting,
        "n_individuals": found.n_individuals,
        "n_decisions": found.n_decisions,
        "note": few_note(found.n_individuals),
    }


def _above_and_tied(found: Predicted) -> tuple[np.ndarray, np.ndarray]:
    """Choices more probable than the selected one, and those as probable, itself among them: (decision,) each."""
    own = np.repeat(found.log_p[found.selected], found.n_choices)
    above, tied = (
        grouped_sum(mask.astype(np.float64), found.offsets) for mask in (found.log_p > own, found.log_p == own)
    )
    return above, tied


def _random_ranks(found: Predicted, seed: int) -> np.ndarray:
    """(decision,), in [0, 1]."""
    own = np.repeat(found.log_p[found.selected], found.n_choices)
    above, tied = (
        grouped_sum(found.probability * mask, found.offsets) for mask in (found.log_p > own, found.log_p == own)
    )
    return np.clip(above + np.random.default_rng(seed).uniform(size=found.n_decisions) * tied, 0.0, 1.0)


def _top(found: Predicted, ranks: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Whether the selected choice is among the k most probable, and how likely that is at random: (decision, rank)."""
    above, tied = (values[:, None] for values in _above_and_tied(found))
    k = np.asarray(ranks, dtype=np.float64)[None, :]
    return np.clip((k - above) / tied, 0.0, 1.0), np.minimum(k / found.n_choices[:, None], 1.0)


def _boyce(
    found: Predicted, weighting: Weighting, *, level: float, n_resamples: int, seed: int
) -> tuple[float, float, float]:
    """The index with its interval, from drawing individuals anew while the windows stay."""
    weight = found.weights(weighting)
    place = _suitability(found, np.repeat(weight / found.n_choices, found.n_choices))
    middles = _WINDOW / 2 + np.linspace(0, 1 - _WINDOW, _WINDOWS)
    edges = np.stack([middles - _WINDOW / 2, middles + _WINDOW / 2])
    available = _by_window(
        place,
        np.repeat(found.individual, found.n_choices),
        np.repeat(weight / found.n_choices, found.n_choices),
        edges,
        found.n_individuals,
    )
    selected = _by_window(place[found.selected], found.individual, weight, edges, found.n_individuals)
    # a window with the same choices as the one before, or none, says nothing new
    keep = available.sum(axis=0) > 0
    keep[1:] &= (np.abs(np.diff(available, axis=1)).sum(axis=0) > 0) | (
        np.abs(np.diff(selected, axis=1)).sum(axis=0) > 0
    )
    if np.count_nonzero(keep) < 2:
        return np.nan, np.nan, np.nan
    selected, available = selected[:, keep], available[:, keep]
    index = _spearman(selected.sum(axis=0)[None, :] / available.sum(axis=0)[None, :])
    if found.n_individuals < 2:
        return float(index[0]), np.nan, np.nan
    counts = resample_counts(found.n_individuals, n_resamples=n_resamples, seed=seed)
    above, below = (np.einsum("ri,iw->rw", counts, table) for table in (selected, available))
    draws = _spearman(np.where(below > 0, above / np.where(below > 0, below, 1.0), 0.0))
    low, high = interval_of_draws(index[0], draws[~np.isnan(draws)], level=level)
    return float(index[0]), float(low), float(high)


def _suitability(found: Predicted, weight: np.ndarray) -> np.ndarray:
    """Place of every choice in the weighted order of p n, equal values in the middle of theirs: (row,), in [0, 1]."""
    value = found.log_p + np.log(np.repeat(found.n_choices, found.n_choices))
    code = np.unique(np.round(value, 12), return_inverse=True)[1]  # ln(1/n) + ln n is 0 but for the last bits
    of_value = np.bincount(code, weight)
    return ((np.cumsum(of_value) - of_value / 2) / of_value.sum())[code]


def _by_window(
    place: np.ndarray, individual: np.ndarray, weight: np.ndarray, edges: np.ndarray, n_individuals: int
) -> np.ndarray:
    """Weight within each window of every individual: (individual, window)."""
    cuts = np.unique(np.round(edges, 12))  # windows overlap: sums of the pieces between all their edges
    piece = np.clip(np.searchsorted(cuts, place, side="right") - 1, 0, len(cuts) - 2)
    n_pieces = len(cuts) - 1
    pieces = np.bincount(individual * n_pieces + piece, weight, n_individuals * n_pieces).reshape(
        n_individuals, n_pieces
    )
    first, last = (np.searchsorted(cuts, np.round(edge, 12)) for edge in edges)
    return np.stack([pieces[:, a:b].sum(axis=1) for a, b in zip(first, last, strict=True)], axis=1)


def _spearman(ratio: np.ndarray) -> np.ndarray:
    """Rank correlation of every row with the order of its columns: (row,); NaN for rows of equal values."""
    ranks = stats.rankdata(ratio, axis=1) - (ratio.shape[1] + 1) / 2
    order = np.arange(ratio.shape[1]) - (ratio.shape[1] - 1) / 2
    size = np.sqrt((ranks**2).sum(axis=1) * (order**2).sum())
    with np.errstate(invalid="ignore"):
        return np.where(size > 0, (ranks * order).sum(axis=1) / size, np.nan)
