"""Selected against predicted choices by bin of any feature: the used-habitat calibration of the field."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from mimic.bootstrap import Intervals, few_note, mean_intervals
from mimic.contrasts import Weighting
from mimic.expressions import EVERYTHING
from mimic.predicted import GROUP_KEYS, Predicted, predictions
from mimic.schema import ChoiceSets
from mimic.textable import align

__all__ = ["SHARE_COLUMNS", "feature_shares", "format_shares"]

SHARE_COLUMNS = [
    *GROUP_KEYS,
    "feature",
    "bin",
    "feature_low",
    "feature_high",
    "n_individuals",
    "n_decisions",
    "available",
    "predicted",
    "predicted_low",
    "predicted_high",
    "observed",
    "observed_low",
    "observed_high",
    "difference",
    "difference_low",
    "difference_high",
    "outside",
    "note",
]

_ALL = {EVERYTHING: EVERYTHING}
_FEW_VALUES = 8


def feature_shares(
    log_odds: Mapping[str, np.ndarray],
    choice_sets: ChoiceSets,
    features: Sequence[str],
    *,
    bins: int | Mapping[str, Sequence[float]] = 8,
    choice_groups: Mapping[str, str] = _ALL,
    behavior_groups: Mapping[str, str] = _ALL,
    splits: Sequence[str] | None = None,
    weightings: Sequence[Weighting] = ("individual",),
    n_simulations: int = 200,
    level: float = 0.95,
    n_resamples: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Observed against predicted share of the selections by bin of a feature, whether the models know it or not.

    Parameters
    ----------
    log_odds, choice_sets, choice_groups, behavior_groups, splits, weightings
        As in `mimic.evaluation.evaluate`.
    features
        To look at: of the choices, or of origin and choice.
    bins
        Number of bins that hold equally many choices (of all choice sets together, the same for every group), or
        the inner edges of each feature. A feature with up to 8 values keeps its values. A bin holds its lower edge.
    n_simulations
        Of the envelope: selections drawn from the model for every decision.
    level, n_resamples, seed
        Of the envelope and of the intervals, which draw individuals anew.

    Returns
    -------
    Columns `SHARE_COLUMNS`, one row a group x weighting x feature x bin: the smallest and largest value; its share
    of the choices (available: what no model predicts), of the predicted probability with the envelope of simulated
    selections, and of the selections with their interval; difference = predicted - observed with its interval, paired
    by individual and so much narrower where individuals live in different places; and whether the selections lie
    outside the envelope.
    Choices of unknown value (NaN) are a bin of their own, the last. Empty groups have no rows.

    Raises
    ------
    ValueError
        As `mimic.predicted.predictions`; if a feature is unknown or the same for all choices of a decision, there is
        less than one bin, edges do not ascend, or there is less than one simulation.

    Notes
    -----
    After Fieberg et al. (2018, doi:10.1111/ecog.03123). The envelope takes the model as it is: it holds the chance
    of selections, not the uncertainty of coefficients, and holds selections as independent given the model.

    Example
    -------
    >>> decisions = pd.DataFrame({"individual": ["a", "b"], "decision": [1, 1]})
    >>> cs = ChoiceSets(decisions, [0, 2, 4], [0, 1, 0, 1], [0, 3], {"deep": [0.0, 1.0, 0.0, 1.0]})
    >>> table = feature_shares({"m": np.log([1.0, 3.0, 1.0, 3.0])}, cs, ["deep"])
    >>> table[["feature_low", "available", "predicted", "observed"]].round(2)
       feature_low  available  predicted  observed
    0          0.0        0.5       0.25       0.5
    1          1.0        0.5       0.75       0.5
    """
    cs = choice_sets
    _check(cs, features, bins, n_simulations)
    binned = {name: _bin_values(name, cs.features[name], bins) for name in features}
    rows: list[dict[str, Any]] = []
    for found in predictions(log_odds, cs, choice_groups=choice_groups, behavior_groups=behavior_groups, splits=splits):
        if not found.n_decisions:
            continue
        for name, weighting in ((name, weighting) for weighting in weightings for name in features):
            bin_of_row = binned[name][found.rows]
            n_bins = int(binned[name].max()) + 1
            simulated = found.draw_shares(bin_of_row, n_bins, weighting, n_draws=n_simulations, seed=seed)
            shares = _shares(found, weighting, bin_of_row, simulated, level)
            hits = (bin_of_row[found.selected][:, None] == np.arange(n_bins)).astype(np.float64)
            cell = found.decision_of_row * n_bins + bin_of_row
            mass = np.bincount(cell, found.probability, found.n_decisions * n_bins).reshape(found.n_decisions, n_bins)
            both = np.concatenate([hits, mass - hits], axis=1)  # (decision, 2 x bin)
            mean = mean_intervals(
                both, found.individual, weighting=weighting, level=level, n_resamples=n_resamples, seed=seed
            ).within(np.repeat([0.0, -1.0], n_bins), 1.0)
            values = cs.features[name][found.rows]
            for k in np.unique(bin_of_row):
                inside = values[bin_of_row == k]
                low, high = shares["predicted_low"][k], shares["predicted_high"][k]
                rows.append(
                    {
                        **found.key,
                        "weighting": weighting,
                        "feature": name,
                        "bin": int(k) + 1,
                        "feature_low": float(inside.min()),
                        "feature_high": float(inside.max()),
                        "n_individuals": found.n_individuals,
                        "n_decisions": found.n_decisions,
                        **{column: float(share[k]) for column, share in shares.items()},
                        **_named("observed", mean, k),
                        **_named("difference", mean, n_bins + k),
                        "outside": bool(not low - 1e-12 <= mean.estimate[k] <= high + 1e-12),
                        "note": few_note(found.n_individuals),
                    }
                )
    return pd.DataFrame(rows, columns=SHARE_COLUMNS)


def format_shares(table: pd.DataFrame) -> str:
    """Shares as aligned text, in percent; bins whose selections lie outside the envelope of a model say so."""
    header = [*GROUP_KEYS, "feature", "from", "to", "available %", "predicted %", "envelope", "observed %", ""]
    lines = [header]
    for row in table.to_dict(orient="records"):
        shares = [f"{100 * row[name]:.2f}" for name in ("available", "predicted", "observed")]
        envelope = f"{100 * row['predicted_low']:.2f} to {100 * row['predicted_high']:.2f}"
        ends = [f"{row[name]:.4g}" for name in ("feature_low", "feature_high")]
        names = [str(row[key]) for key in (*GROUP_KEYS, "feature")]
        lines.append([*names, *ends, *shares[:2], envelope, shares[2], "outside" if row["outside"] else ""])
    return "\n".join(align(lines, {*range(len(GROUP_KEYS) + 1), len(header) - 1}))


def _named(name: str, intervals: Intervals, k: int) -> dict[str, float]:
    """One quantity and the ends of its interval as columns."""
    ends = {"": intervals.estimate, "_low": intervals.low, "_high": intervals.high}
    return {name + end: float(values[k]) for end, values in ends.items()}


def _check(cs: ChoiceSets, features: Sequence[str], bins: int | Mapping[str, Sequence[float]], n: int) -> None:
    unknown = [name for name in features if name not in cs.features]
    if unknown:
        raise ValueError(f"unknown feature {', '.join(unknown)}; known are {', '.join(cs.features)}.")
    same = [name for name in features if cs.info[name].role == "decision"]
    if same:
        raise ValueError(
            f"{', '.join(same)} is the same for all choices of a decision, so that every model predicts its shares; "
            "give it as a behavior group instead."
        )
    if isinstance(bins, int) and bins < 1:
        raise ValueError(f"bins must be 1 or more; got {bins}.")
    if n < 1:
        raise ValueError(f"n_simulations must be 1 or more; got {n}.")


def _bin_values(name: str, values: np.ndarray, bins: int | Mapping[str, Sequence[float]]) -> np.ndarray:
    """The bin of every choice, from 0; unknown values in the last: (row,), int64."""
    known = ~np.isnan(values)
    code = np.zeros(len(values), dtype=np.int64)
    if not isinstance(bins, int) and name in bins:
        edges = np.asarray(bins[name], dtype=np.float64)
        if not (np.diff(edges) > 0).all():
            raise ValueError(f"edges of {name} must ascend; got {', '.join(f'{e:g}' for e in edges)}.")
    else:
        distinct = np.unique(values[known])
        n_bins = bins if isinstance(bins, int) else 8
        few = len(distinct) <= _FEW_VALUES or len(values) == 0
        quantiles = np.arange(1, n_bins) / n_bins
        edges = distinct[1:] if few else np.unique(np.quantile(values[known], quantiles, method="higher"))
    code[known] = np.searchsorted(edges, values[known], side="right")
    code[~known] = len(edges) + 1
    return code


def _shares(
    found: Predicted, weighting: Weighting, bin_of_row: np.ndarray, simulated: np.ndarray, level: float
) -> dict[str, np.ndarray]:
    """Share of each bin of the choices, of the probability, and its envelope: (bin,) each."""
    n_bins = simulated.shape[1]
    of_row = np.repeat(found.weights(weighting), found.n_choices)
    low, high = np.quantile(simulated, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return {
        "available": np.bincount(bin_of_row, of_row / np.repeat(found.n_choices, found.n_choices), n_bins),
        "predicted": np.bincount(bin_of_row, of_row * found.probability, n_bins),
        "predicted_low": low,
        "predicted_high": high,
    }
