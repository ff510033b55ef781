"""`ChoiceSets` and features into the ideal loss: the lowest that any model of these features can reach on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from mimic.bin_tables import contrast_parts, decision_parts, table_losses
from mimic.contrasts import Weighting, decision_weights
from mimic.schema import ChoiceSets, require_columns

__all__ = ["IdealLoss", "bin_features", "ideal_losses", "ideal_table"]

_QUANTILE_BINS = (3, 6, 12, 24, 48)  # of a continuous feature; 3 see a hill that 2 do not
_FEW_VALUES = 8  # a feature with so many distinct values keeps them, or is left out of the bins
_SEARCH_DECISIONS = 20_000  # the search for bins looks at no more decisions than this
_LEAST_GAIN = 1e-4  # nats by which bins made finer must lower the contrast loss of decisions not fitted


@dataclass(frozen=True)
class IdealLoss:
    """The losses of the best table of log-odds: one entry a bin, the same for all choices with equal features.

    Parameters
    ----------
    contrast, decision
        Lowest contrast loss and decision loss over such tables, nats, of the rows that the table is fitted to;
        individuals weigh the same. Each is minimized by itself. NaN without contrasts or known selections.
    contrast_unseen, decision_unseen
        The same tables fitted to three quarters of the individuals and scored on the others, in turn. A model
        whose TRAINING loss is higher than that has not learned what a table has. NaN for a single decision.
    null_contrast, null_decision
        Of a table of zeros: ln 2, and the mean of ln n over choice sets of n.
    n_bins
        Bins that hold rows.
    n_decisions
        That the losses are of.
    bins
        Feature -> number of values that the bins tell apart; 1 where the feature is not used.
    exact
        Whether each bin is one combination of feature values. Then no model of these features has lower losses
        on these rows than a table without penalty; otherwise a model may do better within bins.
    penalty
        The ridge that the tables were fitted with.
    """

    contrast: float
    decision: float
    contrast_unseen: float
    decision_unseen: float
    null_contrast: float
    null_decision: float
    n_bins: int
    n_decisions: int
    bins: Mapping[str, int] = field(default_factory=dict)
    exact: bool = True
    penalty: float = 0.0


def ideal_losses(
    cs: ChoiceSets,
    features: Sequence[str],
    *,
    max_bins: int = 256,
    max_decisions: int = 100_000,
    penalty: float = 0.1,
    weighting: Weighting = "individual",
) -> IdealLoss:
    """The lowest losses that log-odds which depend on these features alone can have.

    Parameters
    ----------
    cs
        Decisions with an unknown selection take no part. One with a single choice has no contrast, and ln p = 0.
    features
        Of the model. Without any there is one bin, and the losses are those of the null.
    max_bins
        Where there are more combinations of feature values than this, the features are binned, see
        `bin_features`.
    max_decisions
        Of more decisions than this, evenly spaced ones are taken: 100,000 are done in seconds, and give the losses of
        all to about 0.001 nats.
    penalty
        A ridge on the table, in 1 / nats^2, as if one bin's log-odds came from a normal distribution of
        variance 1 / penalty: bins that hold one decision are then not rewarded with a loss of zero. 0 gives
        the infimum itself.
    weighting
        Of the decision loss, see `mimic.contrasts.decision_weights`.

    Raises
    ------
    ValueError
        If no selection is known, a feature is unknown or not finite, `max_bins` or `max_decisions` is less than 1, or
        the penalty is negative.

    Notes
    -----
    Contrast loss: with W_ab the weight (`exact_contrasts`) of contrasts in which a row of bin a was selected
    against one of bin b, sum_ab W_ab ln(1 + exp(theta_b - theta_a)): the model of Bradley & Terry (1952,
    doi:10.2307/2334029). A contrast within a bin costs ln 2. Decision loss: the softmax over each choice set.
    Both are convex, found by Newton with penalty / (2 D) |theta|^2 added, D the number of decisions, and
    reported without it.

    Example
    -------
    The deep one of two cells was selected in three decisions of four. Its ideal log-odds are ln 3, and the loss is
    -(3 ln 3/4 + 1 ln 1/4) / 4:

    >>> decisions = pd.DataFrame({"individual": "a", "decision": [1, 2, 3, 4]})
    >>> cs = ChoiceSets(decisions, [0, 2, 4, 6, 8], [1, 2] * 4, [0, 2, 4, 7], {"deep": [1.0, 0.0] * 4})
    >>> round(ideal_losses(cs, ["deep"], penalty=0).contrast, 4)
    0.5623
    """
    cs = _checked(cs, features, max_bins, max_decisions)
    _check_penalty(penalty)
    return _losses_of_bins(cs, bin_features(cs, features, max_bins=max_bins), penalty, weighting)


def ideal_table(
    cs: ChoiceSets,
    features: Sequence[str],
    *,
    max_bins: int = 256,
    max_decisions: int = 100_000,
    penalty: float = 0.1,
    weighting: Weighting = "individual",
) -> pd.DataFrame:
    """What log-odds of these features can reach on these decisions, from no model to the very lowest loss.

    Arguments as those of `ideal_losses`, with a penalty above 0.

    Returns
    -------
    One row a bound: "null" (no model), "unseen" (the penalized table, on individuals it was not fitted to),
    "penalized" (the table that does not reward one-of-a-kind bins), and "infimum" (without penalty: no table of these
    bins has a lower loss, and a bin that holds one selection costs nothing). Columns bound, contrast_loss,
    decision_loss (nats), log_probability (D, of the decision loss), gmp, penalty, n_bins, n_decisions, and exact:
    whether each bin is one combination of values, so that the infimum bounds every model of these features. Look at
    "infimum" for what cannot be beaten, and at "unseen" for what a model should reach on other animals.

    Raises
    ------
    ValueError
        As `ideal_losses`, or if the penalty is 0.

    Example
    -------
    The deep one of two cells was selected in 30 decisions of 40:

    >>> decisions = pd.DataFrame({"individual": "a", "decision": np.arange(40)})
    >>> selected = np.arange(40) * 2 + np.repeat([0, 1], [30, 10])
    >>> cs = ChoiceSets(decisions, np.arange(41) * 2, [1, 2] * 40, selected, {"deep": [1.0, 0.0] * 40})
    >>> ideal_table(cs, ["deep"])[["bound", "contrast_loss", "gmp"]].round(4)
           bound  contrast_loss     gmp
    0       null         0.6931  0.5000
    1     unseen         0.5675  0.5670
    2  penalized         0.5623  0.5699
    3    infimum         0.5623  0.5699
    """
    if penalty == 0:
        raise ValueError("expected a penalty above 0, such as 0.1; the row infimum is the one without.")
    cs = _checked(cs, features, max_bins, max_decisions)
    _check_penalty(penalty)
    binned = bin_features(cs, features, max_bins=max_bins)
    held, free = (_losses_of_bins(cs, binned, p, weighting) for p in (penalty, 0.0))
    bounds = [
        ("null", held.null_contrast, held.null_decision, np.nan),
        ("unseen", held.contrast_unseen, held.decision_unseen, penalty),
        ("penalized", held.contrast, held.decision, penalty),
        ("infimum", free.contrast, free.decision, 0.0),
    ]
    table = pd.DataFrame(bounds, columns=["bound", "contrast_loss", "decision_loss", "penalty"])
    table.insert(3, "log_probability", -table["decision_loss"])
    table.insert(4, "gmp", np.exp(-table["decision_loss"]))
    return table.assign(n_bins=held.n_bins, n_decisions=held.n_decisions, exact=held.exact)


def bin_features(
    cs: ChoiceSets, features: Sequence[str], *, max_bins: int = 256
) -> tuple[np.ndarray, dict[str, int], bool]:
    """A bin for every row, such that rows with equal features share one.

    Each combination of values is a bin where there are at most `max_bins` of them. Otherwise bins are made finer
    feature by feature - the values themselves of a feature that has up to 8, else 3, 6, ... 48 quantile bins - each
    time by the feature that most lowers the contrast loss of decisions that the table was not fitted to, while there
    are at most `max_bins` bins and this gains 0.0001 nats.

    Returns
    -------
    The bin of each row, (row,), int64, from 0 without gaps; the number of bins of each feature; and whether the bins
    are the combinations of values.
    """
    codes = {name: np.unique(cs.features[name], return_inverse=True)[1].astype(np.int64) for name in features}
    n_values = {name: int(code.max(initial=0)) + 1 for name, code in codes.items()}
    joint = np.zeros(cs.n_rows, dtype=np.int64)
    for name in features:
        joint = _compact(joint * n_values[name] + codes[name])
        if joint.max(initial=0) >= max_bins:
            break
    else:
        return joint, n_values, True
    steps = {name: _steps(codes[name]) for name in features}
    levels = _search(cs, steps, max_bins)
    chosen = {name: steps[name][level] for name, level in levels.items()}
    return _joint(list(chosen.values()), cs.n_rows), {n: int(c.max()) + 1 for n, c in chosen.items()}, False


def _checked(cs: ChoiceSets, features: Sequence[str], max_bins: int, max_decisions: int) -> ChoiceSets:
    """The decisions to find the ideal loss of, with these features alone."""
    for option, value in (("max_bins", max_bins), ("max_decisions", max_decisions)):
        if value < 1:
            raise ValueError(f"{option} must be 1 or more; got {value}.")
    require_columns(list(cs.features), list(features), where="features")
    bad = [name for name in features if not np.isfinite(cs.features[name]).all()]
    if bad:
        raise ValueError(f"features must be finite; got NaN or infinity in {', '.join(bad)}. Drop these choices first.")
    cs = _take(replace(cs, features={name: cs.features[name] for name in features}), max_decisions)
    if cs.n_decisions == 0:
        raise ValueError("expected decisions with a known selection to find the ideal loss of; got none.")
    return cs


def _check_penalty(penalty: float) -> None:
    if not (np.isfinite(penalty) and penalty >= 0):
        raise ValueError(f"penalty must be 0 or more, in 1 / nats^2; got {penalty}.")


def _losses_of_bins(
    cs: ChoiceSets, binned: tuple[np.ndarray, dict[str, int], bool], penalty: float, weighting: Weighting
) -> IdealLoss:
    """The losses of the best tables over the bins that `bin_features` found."""
    bin_of_row, bins, exact = binned
    n_bins, weights = int(bin_of_row.max()) + 1, decision_weights(cs, weighting=weighting)
    contrast, contrast_unseen = table_losses(contrast_parts(cs, bin_of_row, n_bins), n_bins, penalty)
    decision, decision_unseen = table_losses(decision_parts(cs, weights, bin_of_row, n_bins), n_bins, penalty)
    return IdealLoss(
        contrast=contrast,
        decision=decision,
        contrast_unseen=contrast_unseen,
        decision_unseen=decision_unseen,
        null_contrast=float(np.log(2)),
        null_decision=float(np.sum(weights * np.log(cs.n_choices))),
        n_bins=n_bins,
        n_decisions=cs.n_decisions,
        bins=bins,
        exact=exact,
        penalty=penalty,
    )


def _take(cs: ChoiceSets, max_decisions: int) -> ChoiceSets:
    """Evenly spaced decisions whose selection is known, so many at most."""
    known = np.flatnonzero(cs.selected >= 0)
    keep = np.zeros(cs.n_decisions, dtype=bool)
    keep[known[:: max(1, -(-len(known) // max_decisions))]] = True
    return cs.filter(keep)


# ---------------------------------------------------------------- bins


def _compact(codes: np.ndarray) -> np.ndarray:
    """Codes renumbered without gaps, in order: (row,), int64."""
    top = int(codes.max(initial=0))
    if top > 8 * len(codes) + 1024:
        return np.unique(codes, return_inverse=True)[1].astype(np.int64)
    present = np.zeros(top + 1, dtype=bool)
    present[codes] = True
    return (np.cumsum(present) - 1)[codes]


def _joint(parts: Sequence[np.ndarray], n_rows: int) -> np.ndarray:
    """The combination of several codes, without gaps: (row,)."""
    joint = np.zeros(n_rows, dtype=np.int64)
    for part in parts:
        joint = _compact(joint * (int(part.max(initial=0)) + 1) + part)
    return joint


def _steps(values: np.ndarray) -> list[np.ndarray]:
    """Bins of one feature from coarse (one bin) to fine, each within the one before: (row,) each."""
    steps = [np.zeros(len(values), dtype=np.int64)]
    n_values = int(values.max(initial=0)) + 1
    if n_values <= _FEW_VALUES:
        return [*steps, values] if n_values > 1 else steps
    for n_bins in _QUANTILE_BINS:
        # "higher" and not in between, so that equal values share a bin and edges of 3 bins are edges of 6
        edges = np.unique(np.quantile(values, np.arange(1, n_bins) / n_bins, method="higher"))
        finer = _compact(np.searchsorted(edges, values, side="right"))
        if finer.max() > steps[-1].max():
            steps.append(finer)
    return steps


def _search(cs: ChoiceSets, steps: Mapping[str, list[np.ndarray]], max_bins: int) -> dict[str, int]:
    """How fine each feature is binned: its position in its steps."""
    levels = dict.fromkeys(steps, 0)
    sample = np.zeros(cs.n_decisions, dtype=bool)
    sample[:: -(-cs.n_decisions // _SEARCH_DECISIONS)] = True
    rows, few = np.repeat(sample, cs.n_choices), cs.filter(sample)
    best = float(np.log(2))
    while True:
        found: dict[str, float] = {}
        for name in steps:
            if levels[name] + 1 < len(steps[name]):
                finer = {**levels, name: levels[name] + 1}
                joint = _joint([steps[n][level] for n, level in finer.items()], cs.n_rows)
                n_bins = int(joint.max()) + 1
                if n_bins <= max_bins:
                    found[name] = table_losses(contrast_parts(few, joint[rows], n_bins, 2), n_bins, 0.1)[1]
        if not found or min(found.values()) > best - _LEAST_GAIN:
            return levels
        name = min(found, key=found.__getitem__)
        levels[name], best = levels[name] + 1, found[name]
