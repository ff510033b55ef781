"""Log-odds over bins into a table by bin: how often each was selected, how often it is predicted, and how well."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from mimic.bin_decisions import Bins
from mimic.bootstrap import IndividualSums, few_note, intervals_of_sums
from mimic.contrasts import Weighting
from mimic.decision_groups import group_mean
from mimic.expressions import EVERYTHING
from mimic.predicted import Predicted, predictions
from mimic.schema import ChoiceSets
from mimic.textable import align, number

__all__ = ["BIN_COLUMNS", "bin_table", "format_bins"]

BIN_COLUMNS = [
    *("model", "split", "weighting", "bin", "low", "high", "label"),
    *("n_individuals", "n_decisions", "n_offered", "observed", "observed_low", "observed_high", "predicted"),
    *("log_probability", "gmp", "null_gmp", "lift", "note"),
]
_ALL = {EVERYTHING: EVERYTHING}


def bin_table(
    log_odds: Mapping[str, np.ndarray],
    choice_sets: ChoiceSets,
    bins: Bins,
    *,
    splits: Sequence[str] | None = None,
    weightings: Sequence[Weighting] = ("individual", "decision"),
    level: float = 0.95,
    n_resamples: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """What was selected and what is predicted, by bin: one row a model x split x weighting x bin, in order.

    Parameters
    ----------
    log_odds, choice_sets, splits, weightings
        As in `mimic.evaluation.evaluate`; the choices are numbers of `bins`.
    level, n_resamples, seed
        Of the intervals of the observed share, from drawing individuals anew.

    Returns
    -------
    Columns `BIN_COLUMNS`. n_decisions selected the bin, by n_individuals, and n_offered had it to select. observed
    and predicted are shares of all decisions, those without the bin too, and add up to 1 each. log_probability
    (nats), gmp, null_gmp and lift are those of the decisions that selected the bin; NaN where none did. Individuals
    (or decisions) weigh the same in each.

    Raises
    ------
    ValueError
        As `mimic.predicted.predictions`; if a choice is no number of a bin.

    Example
    -------
    Two decisions between two bins with p = .25 and .75; one selects the first:

    >>> decisions = pd.DataFrame({"individual": ["a", "b"], "decision": [1, 1]})
    >>> cs = ChoiceSets(decisions, [0, 2, 4], [0, 1, 0, 1], [0, 3])
    >>> table = bin_table({"m": np.log([1.0, 3.0, 1.0, 3.0])}, cs, Bins((0, 10, 50), "m"), weightings=["decision"])
    >>> table[["label", "observed", "predicted", "gmp", "lift"]].round(2)
         label  observed  predicted   gmp  lift
    0   0-10 m       0.5       0.25  0.25   0.5
    1  10-50 m       0.5       0.75  0.75   1.5
    """
    choice = choice_sets.choice
    if choice.dtype.kind not in "iu" or (len(choice) and not 0 <= choice.min() <= choice.max() < bins.n_bins):
        raise ValueError(f"expected choices that are numbers of {bins.n_bins} bins, 0 to {bins.n_bins - 1}.")
    rows: list[dict[str, Any]] = []
    for found in predictions(log_odds, choice_sets, choice_groups=_ALL, behavior_groups=_ALL, splits=splits):
        for weighting in weightings:
            rows += _rows(found, choice[found.rows], bins, weighting, level, n_resamples, seed)
    return pd.DataFrame(rows, columns=BIN_COLUMNS)


def format_bins(table: pd.DataFrame) -> str:
    """A table by bin as aligned text."""
    lines = [["model", "bin", "decisions", "observed %", "predicted %", "GMP %", "null %", "lift"]]
    for row in table.to_dict(orient="records"):
        percent = [number(100 * row[name], "{:.1f}") for name in ("observed", "predicted", "gmp", "null_gmp")]
        lines.append([row["model"], row["label"], f"{row['n_decisions']:,}", *percent, number(row["lift"], "{:.2f}")])
    return "\n".join(align(lines, {0}))


def _rows(
    found: Predicted, choice: np.ndarray, bins: Bins, weighting: Weighting, level: float, n_resamples: int, seed: int
) -> list[dict[str, Any]]:
    weight = found.weights(weighting)
    selected = choice[found.selected]  # (decision,)
    is_selected = (selected[:, None] == np.arange(bins.n_bins)).astype(np.float64)  # (decision, bin)
    observed = intervals_of_sums(
        IndividualSums.of(is_selected, found.individual),
        weighting=weighting,
        level=level,
        n_resamples=n_resamples,
        seed=seed,
    )
    predicted = np.bincount(choice, np.repeat(weight, found.n_choices) * found.probability, bins.n_bins)
    offered = np.bincount(choice, minlength=bins.n_bins)
    log_p, null = found.log_p[found.selected], -np.log(found.n_choices)
    rows = []
    for k, label in enumerate(bins.labels):
        own = selected == k
        means = [group_mean(values[own], found.individual[own], weighting) for values in (log_p, null)]
        n_individuals = len(np.unique(found.individual[own]))
        rows.append(
            {
                **{name: found.key[name] for name in ("model", "split")},
                "weighting": weighting,
                "bin": k,
                "low": bins.edges[k],
                "high": bins.edges[k + 1],
                "label": label,
                "n_individuals": n_individuals,
                "n_decisions": int(own.sum()),
                "n_offered": int(offered[k]),
                "observed": observed.estimate[k],
                "observed_low": observed.low[k],
                "observed_high": observed.high[k],
                "predicted": predicted[k] if found.n_decisions else np.nan,
                "log_probability": means[0],
                "gmp": np.exp(means[0]),
                "null_gmp": np.exp(means[1]),
                "lift": np.exp(means[0] - means[1]),
                "note": few_note(n_individuals),
            }
        )
    return rows
