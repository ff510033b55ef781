"""Choice sets and bins of their rows into the best table of log-odds, one entry a bin: convex, by Newton."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import linalg, sparse, special

from mimic.contrasts import exact_contrasts
from mimic.probability import softplus
from mimic.schema import ChoiceSets

__all__ = [
    "N_FOLDS",
    "Moments",
    "TablePart",
    "contrast_parts",
    "contrast_wins",
    "decision_parts",
    "fit_table",
    "table_losses",
]

N_FOLDS = 4
_BLOCK_ROWS = 1 << 18  # bounds the copies made in an iteration
_TOLERANCE = 1e-10  # nats by which the loss may lie above its minimum

Moments = tuple[float, np.ndarray, np.ndarray]
"""Value, gradient and Hessian."""


@dataclass(frozen=True, eq=False)
class TablePart:
    """The loss of the decisions of one fold.

    Parameters
    ----------
    moments
        Its value, gradient (bin,) and Hessian (bin, bin) at a table of log-odds (bin,), nats.
    weight, n_decisions
        Sum of the weights of its contrasts or decisions, and how many decisions it has.
    """

    moments: Callable[[np.ndarray], Moments]
    weight: float
    n_decisions: int


def contrast_wins(cs: ChoiceSets, bin_of_row: np.ndarray, n_bins: int) -> np.ndarray:
    """Weight of the contrasts in which a row of one bin was selected against one of another: (bin, bin), sums to 1.

    Weights are those of `mimic.contrasts.exact_contrasts`; the first axis is the bin of the selected row.
    """
    return _wins(cs, bin_of_row, n_bins, np.zeros(cs.n_decisions, dtype=np.int64), 1)[0]


def contrast_parts(cs: ChoiceSets, bin_of_row: np.ndarray, n_bins: int, n_folds: int = N_FOLDS) -> list[TablePart]:
    """The contrast loss of a table over the bins (row,), one part a fold. All selections must be known."""
    fold = _fold_of_decision(cs, n_folds)
    wins = _wins(cs, bin_of_row, n_bins, fold, n_folds)
    sizes = np.bincount(fold, minlength=n_folds)
    return [TablePart(_contrast_moments(w), float(w.sum()), int(n)) for w, n in zip(wins, sizes, strict=True)]


def decision_parts(cs: ChoiceSets, weights: np.ndarray, bin_of_row: np.ndarray, n_bins: int) -> list[TablePart]:
    """The decision loss of a table over the bins (row,), with weights (decision,): one part a fold."""
    fold = _fold_of_decision(cs, N_FOLDS)
    counts = sparse.csr_array(
        (np.ones(cs.n_rows), (cs.decision_of_row, bin_of_row)), shape=(cs.n_decisions, n_bins)
    )  # rows of a decision in one bin are summed
    counts.sum_duplicates()
    selected = bin_of_row[cs.selected]
    parts = []
    for k in range(N_FOLDS):
        of = np.flatnonzero(fold == k)
        parts.append(
            TablePart(_decision_moments(counts[of], selected[of], weights[of]), float(weights[of].sum()), len(of))
        )
    return parts


def table_losses(parts: Sequence[TablePart], n_bins: int, penalty: float) -> tuple[float, float]:
    """Mean loss of the best table on its own rows, and on the folds it was not fitted to (NaN without others)."""
    total = sum(part.weight for part in parts)
    if total == 0:
        return np.nan, np.nan
    everything = fit_table(parts, n_bins, penalty)
    own = sum(part.moments(everything)[0] for part in parts) / total
    unseen, weight = 0.0, 0.0
    for k, part in enumerate(parts):
        others = [other for j, other in enumerate(parts) if j != k and other.weight]
        if part.weight and others:
            table = fit_table(others, n_bins, penalty, start=everything)
            unseen, weight = unseen + part.moments(table)[0], weight + part.weight
    return own, unseen / weight if weight else np.nan


def fit_table(
    parts: Sequence[TablePart], n_bins: int, penalty: float, *, start: np.ndarray | None = None, max_steps: int = 100
) -> np.ndarray:
    """The table (bin,), nats, with the lowest mean loss of some folds plus the ridge: damped Newton."""
    weight, n_decisions = sum(part.weight for part in parts), sum(part.n_decisions for part in parts)
    ridge, identity = penalty / n_decisions, np.eye(n_bins)

    def moments(table: np.ndarray) -> Moments:
        found = [part.moments(table) for part in parts]
        value = sum(f[0] for f in found) / weight
        gradient = np.sum([f[1] for f in found], axis=0) / weight
        hessian = np.sum([f[2] for f in found], axis=0) / weight
        return value + ridge / 2 * float(np.sum(table**2)), gradient + ridge * table, hessian + ridge * identity

    table = np.zeros(n_bins) if start is None else start
    now = moments(table)
    for _ in range(max_steps):
        # The loss does not know what is added to all bins, and knows ever less of bins that always win; 1e-12 is
        # above the rounding of sums of weights that are 1 together.
        floor = identity * (1e-12 + 1e-10 * float(now[2].diagonal().max()))
        step = -linalg.solve(now[2] + floor, now[1], assume_a="pos", check_finite=False)
        expected = -float(np.sum(now[1] * step))
        if expected / 2 <= _TOLERANCE:
            break
        there = moments(table + step)
        while there[0] > now[0] and np.any(table + step != table):
            step = step / 2
            there = moments(table + step)
        table, now = table + step, there
    return table


def _wins(cs: ChoiceSets, bin_of_row: np.ndarray, n_bins: int, fold: np.ndarray, n_folds: int) -> np.ndarray:
    """Matrices of wins: (fold, bin of the selected row, bin of the other)."""
    pair = np.repeat(bin_of_row[cs.selected] * n_bins, cs.n_choices) + bin_of_row
    pair += np.repeat(fold * n_bins**2, cs.n_choices)
    wins = np.bincount(pair, exact_contrasts(cs), minlength=n_folds * n_bins**2)
    return wins.reshape(n_folds, n_bins, n_bins)


def _fold_of_decision(cs: ChoiceSets, n_folds: int) -> np.ndarray:
    """(decision,): whole individuals, or decisions in turn where there are fewer individuals than folds."""
    codes = cs.individual_codes
    return (codes if codes.max() + 1 >= n_folds else np.arange(cs.n_decisions)) % n_folds


def _contrast_moments(wins: np.ndarray) -> Callable[[np.ndarray], Moments]:
    """Of the weights of contrasts, (bin of the selected row, bin of the other)."""

    def moments(table: np.ndarray) -> Moments:
        difference = table[None, :] - table[:, None]
        loses = special.expit(difference)
        pull = wins * loses
        curvature = pull * special.expit(-difference)
        curvature = curvature + curvature.T
        hessian = np.diag(curvature.sum(axis=1)) - curvature
        return float(np.sum(wins * softplus(difference))), pull.sum(axis=0) - pull.sum(axis=1), hessian

    return moments


def _decision_moments(
    counts: sparse.csr_array, selected: np.ndarray, weights: np.ndarray
) -> Callable[[np.ndarray], Moments]:
    """Of counts (decision, bin), the bin of the selected row (decision,), and weights (decision,)."""
    n_decisions, n_bins = counts.shape
    block = max(1, _BLOCK_ROWS * max(n_decisions, 1) // max(counts.nnz, 1))

    def moments(table: np.ndarray) -> Moments:
        value, gradient = 0.0, -np.bincount(selected, weights, minlength=n_bins)
        hessian = np.zeros((n_bins, n_bins))
        odds = np.exp(table - table.max())
        for first in range(0, n_decisions, block):
            part, weight = counts[first : first + block], weights[first : first + block]
            total = part @ odds
            share = sparse.diags_array(1.0 / total) @ part @ sparse.diags_array(odds)  # (decision, bin), p of a bin
            value += float(np.sum(weight * np.log(total)))
            expected = share.T @ weight
            gradient = gradient + expected
            hessian += np.diag(expected) - (share.T @ (sparse.diags_array(weight) @ share)).toarray()
        return value - float(np.sum(weights * (table[selected] - table.max()))), gradient, hessian

    return moments
