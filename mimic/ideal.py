"""`ChoiceSets` and features into the ideal loss: the lowest that any model of these features can reach on them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from scipy import linalg, sparse, special

from mimic.contrasts import Weighting, decision_weights, exact_contrasts
from mimic.probability import softplus
from mimic.schema import ChoiceSets, require_columns

__all__ = ["IdealLoss", "bin_features", "ideal_losses"]

_BLOCK_ROWS = 1 << 18  # bounds the copies made in an iteration
_QUANTILE_BINS = (3, 6, 12, 24, 48)  # of a continuous feature; 3 see a hill that 2 do not
_FEW_VALUES = 8  # a feature with so many distinct values keeps them, or is left out of the bins
_SEARCH_DECISIONS = 20_000  # the search for bins looks at no more decisions than this
_LEAST_GAIN = 1e-4  # nats by which bins made finer must lower the contrast loss of decisions not fitted
_N_FOLDS = 4
_TOLERANCE = 1e-10  # nats by which the loss may lie above its minimum

_Moments = tuple[float, np.ndarray, np.ndarray]


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

    >>> import pandas as pd
    >>> decisions = pd.DataFrame({"individual": "a", "decision": [1, 2, 3, 4]})
    >>> cs = ChoiceSets(decisions, [0, 2, 4, 6, 8], [1, 2] * 4, [0, 2, 4, 7], {"deep": [1.0, 0.0] * 4})
    >>> round(ideal_losses(cs, ["deep"], penalty=0).contrast, 4)
    0.5623
    """
    for option, value in (("max_bins", max_bins), ("max_decisions", max_decisions)):
        if value < 1:
            raise ValueError(f"{option} must be 1 or more; got {value}.")
    if not (np.isfinite(penalty) and penalty >= 0):
        raise ValueError(f"penalty must be 0 or more, in 1 / nats^2; got {penalty}.")
    _check(cs, features)
    cs = _take(replace(cs, features={name: cs.features[name] for name in features}), max_decisions)
    if cs.n_decisions == 0:
        raise ValueError("expected decisions with a known selection to find the ideal loss of; got none.")
    bin_of_row, bins, exact = bin_features(cs, features, max_bins=max_bins)
    n_bins, weights = int(bin_of_row.max()) + 1, decision_weights(cs, weighting=weighting)
    contrast, contrast_unseen = _table_losses(_contrast_parts(cs, bin_of_row, n_bins), n_bins, penalty)
    decision, decision_unseen = _table_losses(_decision_parts(cs, weights, bin_of_row, n_bins), n_bins, penalty)
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


def _take(cs: ChoiceSets, max_decisions: int) -> ChoiceSets:
    """Evenly spaced decisions whose selection is known, so many at most."""
    known = np.flatnonzero(cs.selected >= 0)
    keep = np.zeros(cs.n_decisions, dtype=bool)
    keep[known[:: max(1, -(-len(known) // max_decisions))]] = True
    return cs.filter(keep)


def _check(cs: ChoiceSets, features: Sequence[str]) -> None:
    require_columns(list(cs.features), list(features), where="features")
    bad = [name for name in features if not np.isfinite(cs.features[name]).all()]
    if bad:
        raise ValueError(f"features must be finite; got NaN or infinity in {', '.join(bad)}. Drop these choices first.")


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
                    found[name] = _table_losses(_contrast_parts(few, joint[rows], n_bins, 2), n_bins, 0.1)[1]
        if not found or min(found.values()) > best - _LEAST_GAIN:
            return levels
        name = min(found, key=found.__getitem__)
        levels[name], best = levels[name] + 1, found[name]


# ---------------------------------------------------------------- tables


@dataclass(frozen=True, eq=False)
class _Part:
    """The loss of the decisions of one fold as a function of the table (bin,), and its total weight."""

    moments: Callable[[np.ndarray], _Moments]
    weight: float
    n_decisions: int


def _fold_of_decision(cs: ChoiceSets, n_folds: int) -> np.ndarray:
    """(decision,): whole individuals, or decisions in turn where there are fewer individuals than folds."""
    codes = cs.individual_codes
    return (codes if codes.max() + 1 >= n_folds else np.arange(cs.n_decisions)) % n_folds


def _contrast_parts(cs: ChoiceSets, bin_of_row: np.ndarray, n_bins: int, n_folds: int = _N_FOLDS) -> list[_Part]:
    """Matrices of wins, one a fold."""
    weights = exact_contrasts(cs)
    fold = _fold_of_decision(cs, n_folds)
    pair = np.repeat(bin_of_row[cs.selected] * n_bins, cs.n_choices) + bin_of_row
    pair += np.repeat(fold * n_bins**2, cs.n_choices)
    wins = np.bincount(pair, weights, minlength=n_folds * n_bins**2).reshape(n_folds, n_bins, n_bins)
    sizes = np.bincount(fold, minlength=n_folds)
    return [_Part(_contrast_moments(w), float(w.sum()), int(n)) for w, n in zip(wins, sizes, strict=True)]


def _contrast_moments(wins: np.ndarray) -> Callable[[np.ndarray], _Moments]:
    """Of the weights of contrasts, (bin of the selected row, bin of the other)."""

    def moments(table: np.ndarray) -> _Moments:
        difference = table[None, :] - table[:, None]
        loses = special.expit(difference)
        pull = wins * loses
        curvature = pull * special.expit(-difference)
        curvature = curvature + curvature.T
        hessian = np.diag(curvature.sum(axis=1)) - curvature
        return float(np.sum(wins * softplus(difference))), pull.sum(axis=0) - pull.sum(axis=1), hessian

    return moments


def _decision_parts(cs: ChoiceSets, weights: np.ndarray, bin_of_row: np.ndarray, n_bins: int) -> list[_Part]:
    """Choice sets as counts of rows in each bin, by fold."""
    fold = _fold_of_decision(cs, _N_FOLDS)
    counts = sparse.csr_array(
        (np.ones(cs.n_rows), (cs.decision_of_row, bin_of_row)), shape=(cs.n_decisions, n_bins)
    )  # rows of a decision in one bin are summed
    counts.sum_duplicates()
    selected = bin_of_row[cs.selected]
    parts = []
    for k in range(_N_FOLDS):
        of = np.flatnonzero(fold == k)
        parts.append(_Part(_decision_moments(counts[of], selected[of], weights[of]), float(weights[of].sum()), len(of)))
    return parts


def _decision_moments(
    counts: sparse.csr_array, selected: np.ndarray, weights: np.ndarray
) -> Callable[[np.ndarray], _Moments]:
    """Of counts (decision, bin), the bin of the selected row (decision,), and weights (decision,)."""
    n_decisions, n_bins = counts.shape
    block = max(1, _BLOCK_ROWS * max(n_decisions, 1) // max(counts.nnz, 1))

    def moments(table: np.ndarray) -> _Moments:
        value, gradient = 0.0, -np.bincount(selected, weights, minlength=n_bins)
        hessian = np.zeros((n_bins, n_bins))
        odds = np.exp(table - table.max())
        for first in range(0, n_decisions, block):
            part, weight = counts[first : first + block], weights[first : first + block]
            total = part @ odds
            share = sparse.diags_array(1.0 / total) @ part @ sparse.diags_array(odds)  # (decision, bin), p of a bin
            value += float(weight @ np.log(total))
            expected = share.T @ weight
            gradient = gradient + expected
            hessian += np.diag(expected) - (share.T @ (sparse.diags_array(weight) @ share)).toarray()
        return value - float(weights @ (table[selected] - table.max())), gradient, hessian

    return moments


def _table_losses(parts: Sequence[_Part], n_bins: int, penalty: float) -> tuple[float, float]:
    """Mean loss of the best table on its own rows, and on the folds it was not fitted to (NaN without others)."""
    total = sum(part.weight for part in parts)
    if total == 0:
        return np.nan, np.nan
    everything = _fit_table(parts, n_bins, penalty)
    own = sum(part.moments(everything)[0] for part in parts) / total
    unseen, weight = 0.0, 0.0
    for k, part in enumerate(parts):
        others = [other for j, other in enumerate(parts) if j != k and other.weight]
        if part.weight and others:
            table = _fit_table(others, n_bins, penalty, start=everything)
            unseen, weight = unseen + part.moments(table)[0], weight + part.weight
    return own, unseen / weight if weight else np.nan


def _fit_table(
    parts: Sequence[_Part], n_bins: int, penalty: float, *, start: np.ndarray | None = None, max_steps: int = 100
) -> np.ndarray:
    """The table (bin,), nats, with the lowest mean loss of some folds plus the ridge: damped Newton."""
    weight, n_decisions = sum(part.weight for part in parts), sum(part.n_decisions for part in parts)
    ridge, identity = penalty / n_decisions, np.eye(n_bins)

    def moments(table: np.ndarray) -> _Moments:
        found = [part.moments(table) for part in parts]
        value = sum(f[0] for f in found) / weight
        gradient = np.sum([f[1] for f in found], axis=0) / weight
        hessian = np.sum([f[2] for f in found], axis=0) / weight
        return value + ridge / 2 * float(table @ table), gradient + ridge * table, hessian + ridge * identity

    table = np.zeros(n_bins) if start is None else start
    now = moments(table)
    for _ in range(max_steps):
        # The loss does not know what is added to all bins, and knows ever less of bins that always win; 1e-12 is
        # above the rounding of sums of weights that are 1 together.
        floor = identity * (1e-12 + 1e-10 * float(now[2].diagonal().max()))
        step = -linalg.solve(now[2] + floor, now[1], assume_a="pos", check_finite=False)
        expected = -float(now[1] @ step)
        if expected / 2 <= _TOLERANCE:
            break
        there = moments(table + step)
        while there[0] > now[0] and np.any(table + step != table):
            step = step / 2
            there = moments(table + step)
        table, now = table + step, there
    return table
