"""Predicted probabilities against what was selected: reliability by bin, and the calibration error that chance makes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd

from mimic.bootstrap import IndividualSums, few_note, intervals_of_sums
from mimic.contrasts import Weighting
from mimic.expressions import EVERYTHING
from mimic.predicted import GROUP_KEYS, Predicted, predictions
from mimic.ranks import ranking_figures
from mimic.schema import ChoiceSets
from mimic.textable import align

__all__ = [
    "RELIABILITY_COLUMNS",
    "SUMMARY_COLUMNS",
    "Spacing",
    "calibration_summary",
    "format_calibration",
    "reliability",
]

Spacing = Literal["count", "log"]

RELIABILITY_COLUMNS = [
    *GROUP_KEYS,
    "bin",
    "probability_low",
    "probability_high",
    "n_individuals",
    "n_rows",
    "n_selected",
    "share_of_rows",
    "predicted",
    "observed",
    "observed_low",
    "observed_high",
    "note",
]
SUMMARY_COLUMNS = [
    *GROUP_KEYS,
    "n_individuals",
    "n_decisions",
    "n_rows",
    "ece",
    "ece_expected",
    "ece_expected_high",
    "ece_p",
    *(name + end for name in ("concordance", "boyce", "top1") for end in ("", "_low", "_high")),
    "null_top1",
    "note",
]

_ALL = {EVERYTHING: EVERYTHING}


def reliability(
    log_odds: Mapping[str, np.ndarray],
    choice_sets: ChoiceSets,
    *,
    bins: int = 10,
    spacing: Spacing = "count",
    choice_groups: Mapping[str, str] = _ALL,
    behavior_groups: Mapping[str, str] = _ALL,
    splits: Sequence[str] | None = None,
    weightings: Sequence[Weighting] = ("individual",),
    level: float = 0.95,
    n_resamples: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Of choices predicted with a probability, the share that was selected: one row a group x weighting x bin.

    Parameters
    ----------
    log_odds, choice_sets, choice_groups, behavior_groups, splits, weightings
        As in `mimic.evaluation.evaluate`.
    bins
        Number of bins of the predicted probability, at most; equal probabilities share one.
    spacing
        "count": bins of equally many choices. "log": of equal width in ln p, from the smallest positive probability
        to the largest, because most probabilities are small; impossible choices are in the first bin.
    level, n_resamples, seed
        Of the intervals, from drawing individuals anew.

    Returns
    -------
    Columns `RELIABILITY_COLUMNS`: the smallest and largest probability of the bin, its choices (n_rows) and the
    selected among them, its share of all weight, the mean predicted probability, and the observed share with its
    interval. A choice weighs what its decision weighs. Empty groups and empty bins have no rows.

    Raises
    ------
    ValueError
        As `mimic.predicted.predictions`; if there is less than one bin, or the spacing is unknown.

    Example
    -------
    Of two decisions between two choices with p = .25 and .75, one selects the first:

    >>> decisions = pd.DataFrame({"individual": ["a", "b"], "decision": [1, 1]})
    >>> cs = ChoiceSets(decisions, [0, 2, 4], [0, 1, 0, 1], [0, 3])
    >>> reliability({"m": np.log([1.0, 3.0, 1.0, 3.0])}, cs, bins=2)[["predicted", "observed"]].round(2)
       predicted  observed
    0       0.25       0.5
    1       0.75       0.5
    """
    _check_bins(bins, spacing)
    rows: list[dict[str, Any]] = []
    for found in predictions(
        log_odds, choice_sets, choice_groups=choice_groups, behavior_groups=behavior_groups, splits=splits
    ):
        for weighting in weightings if found.n_decisions else ():
            rows += _reliability_rows(found, weighting, bins, spacing, level, n_resamples, seed)
    return pd.DataFrame(rows, columns=RELIABILITY_COLUMNS)


def calibration_summary(
    log_odds: Mapping[str, np.ndarray],
    choice_sets: ChoiceSets,
    *,
    bins: int = 10,
    spacing: Spacing = "count",
    choice_groups: Mapping[str, str] = _ALL,
    behavior_groups: Mapping[str, str] = _ALL,
    splits: Sequence[str] | None = None,
    weightings: Sequence[Weighting] = ("individual",),
    n_simulations: int = 200,
    level: float = 0.95,
    n_resamples: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """How far predicted probabilities can be believed: one row a model x split x choice group x behavior group.

    Arguments as those of `reliability`; n_simulations is the number of times that all selections are drawn anew
    from the model.

    Returns
    -------
    Columns `SUMMARY_COLUMNS`. ece is the expected calibration error: the mean over bins, by their weight, of
    |observed - predicted|. It is above 0 for a perfect model too: ece_expected and ece_expected_high (the quantile
    `level`) are those of selections drawn from the model itself, and ece_p is the share of draws (this one
    included) with an ece as large. concordance, boyce and top1 with their intervals, and null_top1, are those of
    `mimic.ranks`. An empty group has counts 0 and NaN.

    Raises
    ------
    ValueError
        As `reliability`; if there is less than one simulation.

    Notes
    -----
    ECE after Guo et al. (2017, arXiv:1706.04599), of all choices. Times the mean number of choices it is the
    probability of a decision that lies on the wrong choices, counted twice. Simulated selections are independent
    given the model: where decisions of an individual resemble each other beyond it, chance makes a somewhat larger
    ece than ece_expected.
    """
    _check_bins(bins, spacing)
    if n_simulations < 1:
        raise ValueError(f"n_simulations must be 1 or more; got {n_simulations}.")
    rows = []
    for found in predictions(
        log_odds, choice_sets, choice_groups=choice_groups, behavior_groups=behavior_groups, splits=splits
    ):
        bin_of_row = _bin_rows(found.probability, bins, spacing)
        for weighting in weightings:
            counts = {"n_individuals": found.n_individuals, "n_decisions": found.n_decisions, "n_rows": len(found.rows)}
            row = {**found.key, "weighting": weighting, **counts, "note": few_note(found.n_individuals)}
            if found.n_decisions:
                row |= _calibration_error(found, weighting, bin_of_row, n_simulations, level, seed)
                row |= ranking_figures(found, weighting, level=level, n_resamples=n_resamples, seed=seed)
            rows.append(row)
    return pd.DataFrame(rows, columns=SUMMARY_COLUMNS)


def format_calibration(summary: pd.DataFrame) -> str:
    """A calibration summary as aligned text, with a verdict on the calibration error."""
    header = [
        "model",
        "split",
        "choice group",
        "behavior group",
        "weighting",
        "decisions",
        "ece",
        "by chance",
        "ece is",
    ]
    header += ["Boyce", "concordance", "top 1 %", "null %"]
    lines = [header]
    for row in summary.to_dict(orient="records"):
        verdict = "-" if np.isnan(row["ece"]) else "more than chance" if row["ece_p"] < 0.05 else "chance"
        lines.append(
            [
                *(str(row[key]) for key in GROUP_KEYS),
                f"{row['n_decisions']:,}",
                *(_number(row[name], ".5f") for name in ("ece", "ece_expected")),
                verdict,
                *(_number(row[name], ".3f") for name in ("boyce", "concordance")),
                *(_number(100 * row[name], ".3g") for name in ("top1", "null_top1")),
            ]
        )
    return "\n".join(align(lines, range(len(GROUP_KEYS))))


def _number(value: float, form: str) -> str:
    return "-" if np.isnan(value) else format(value, form)


def _check_bins(bins: int, spacing: str) -> None:
    if bins < 1:
        raise ValueError(f"bins must be 1 or more; got {bins}.")
    if spacing not in get_args(Spacing):
        raise ValueError(f'spacing must be "count" or "log"; got {spacing!r}.')


def _bin_rows(probability: np.ndarray, bins: int, spacing: Spacing) -> np.ndarray:
    """The bin of every choice, from 0 without gaps: (row,), int64."""
    if len(probability) == 0:
        return np.zeros(0, dtype=np.int64)
    if spacing == "count":
        edges = np.quantile(probability, np.arange(1, bins) / bins, method="higher")
    else:
        lowest, highest = np.log(probability[probability > 0].min()), np.log(probability.max())
        edges = np.exp(np.linspace(lowest, highest, bins + 1)[1:-1])
    return np.unique(np.searchsorted(edges, probability, side="right"), return_inverse=True)[1]


def _reliability_rows(
    found: Predicted, weighting: Weighting, bins: int, spacing: Spacing, level: float, n_resamples: int, seed: int
) -> list[dict[str, Any]]:
    bin_of_row = _bin_rows(found.probability, bins, spacing)
    n_bins = int(bin_of_row.max()) + 1
    weight = found.weights(weighting)
    of_row = np.repeat(weight, found.n_choices)
    total = np.bincount(bin_of_row, of_row, n_bins)
    predicted = np.bincount(bin_of_row, of_row * found.probability, n_bins) / total
    # of each individual, in each bin: (individual, bin)
    cell = np.repeat(found.individual, found.n_choices) * n_bins + bin_of_row
    shape = (found.n_individuals, n_bins)
    n_selected = np.bincount(bin_of_row[found.selected], minlength=n_bins)
    selected = np.bincount(cell[found.selected], weight, np.prod(shape)).reshape(shape)
    available = np.bincount(cell, of_row, np.prod(shape)).reshape(shape)
    observed = intervals_of_sums(
        IndividualSums(selected, available), weighting="decision", level=level, n_resamples=n_resamples, seed=seed
    )
    rows = []
    for k in range(n_bins):
        inside = found.probability[bin_of_row == k]
        n_individuals = int(np.count_nonzero(available[:, k]))
        rows.append(
            {
                **found.key,
                "weighting": weighting,
                "bin": k + 1,
                "probability_low": inside.min(),
                "probability_high": inside.max(),
                "n_individuals": n_individuals,
                "n_rows": len(inside),
                "n_selected": int(n_selected[k]),
                "share_of_rows": total[k] / total.sum(),
                "predicted": predicted[k],
                "observed": observed.estimate[k],
                "observed_low": observed.low[k],
                "observed_high": observed.high[k],
                "note": few_note(n_individuals),
            }
        )
    return rows


def _calibration_error(
    found: Predicted, weighting: Weighting, bin_of_row: np.ndarray, n_simulations: int, level: float, seed: int
) -> dict[str, float]:
    """The calibration error, and that of selections drawn from the model."""
    n_bins = int(bin_of_row.max()) + 1
    weight = found.weights(weighting)
    of_row = np.repeat(weight, found.n_choices)
    expected = np.bincount(bin_of_row, of_row * found.probability, n_bins)
    shares = found.draw_shares(bin_of_row, n_bins, weighting, n_draws=n_simulations, seed=seed)
    own = np.bincount(bin_of_row[found.selected], weight, n_bins)
    error, *simulated = np.abs(np.vstack([own, shares]) - expected).sum(axis=1) / of_row.sum()
    return {
        "ece": float(error),
        "ece_expected": float(np.mean(simulated)),
        "ece_expected_high": float(np.quantile(simulated, level)),
        "ece_p": float((1 + np.count_nonzero(simulated >= error * (1 - 1e-12))) / (1 + n_simulations)),
    }
