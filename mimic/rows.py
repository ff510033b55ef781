"""Choice sets into the flat rows that losses are computed on, and log-odds of those rows into the true losses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mimic.contrasts import Weighting, decision_weights, exact_contrasts
from mimic.probability import softplus
from mimic.schema import ChoiceSets

__all__ = ["LossRows", "loss_rows", "row_order"]

# exp() of a float64 overflows at 709; a difference of log-odds beyond this takes the slow way.
_LARGEST_DIFFERENCE = 700.0


@dataclass(frozen=True, eq=False)
class LossRows:
    """The rows of the decisions whose selection is known, the selected row of each decision first.

    Parameters
    ----------
    matrix
        (row, input), float32: what the network takes.
    starts, sizes
        (decision,), int32: the first row of a decision, which is the selected one, and its number of rows.
    contrast_weights
        (row,), float64, summing to 1: of the contrast with the selected row; 0 on selected rows. All 0 where
        there is no contrast.
    decision_weights
        (decision,), float64, summing to 1.
    """

    matrix: np.ndarray
    starts: np.ndarray
    sizes: np.ndarray
    contrast_weights: np.ndarray
    decision_weights: np.ndarray

    def losses(self, log_odds: np.ndarray) -> tuple[float, float]:
        """Contrast loss and decision loss of the log-odds (row,); NaN where they are not finite.

        Notes
        -----
        With e_r = exp(phi_r - phi_selected) both follow from one exponential: the contrast loss of row r is
        ln(1 + e_r), and -ln p(selected) = ln sum_r e_r.
        """
        if not np.isfinite(log_odds).all():
            return np.nan, np.nan
        phi = log_odds.astype(np.float64)
        difference = phi - np.repeat(phi[self.starts], self.sizes)
        if difference.max(initial=0.0) < _LARGEST_DIFFERENCE:
            e = np.exp(difference)
            contrasts, decisions = np.log1p(e), np.log(np.add.reduceat(e, self.starts))
        else:
            largest = np.maximum.reduceat(difference, self.starts)
            total = np.add.reduceat(np.exp(difference - np.repeat(largest, self.sizes)), self.starts)
            contrasts, decisions = softplus(difference), largest + np.log(total)
        contrast = np.sum(contrasts * self.contrast_weights) if self.contrast_weights.any() else np.nan
        decision = np.sum(decisions * self.decision_weights) if self.decision_weights.any() else np.nan
        return float(contrast), float(decision)


def loss_rows(
    cs: ChoiceSets,
    matrix: np.ndarray,
    *,
    weighting: Weighting = "individual",
    factors: np.ndarray | None = None,
) -> LossRows:
    """Flatten choice sets for their losses.

    Parameters
    ----------
    matrix
        (row, input), float32, in the order of the rows of `cs`.
    weighting
        Of the decision loss; contrasts always weigh individuals the same.
    factors
        (decision,): how much each decision counts, see `mimic.contrasts.decision_weights`.
    """
    of_decision = decision_weights(cs, weighting=weighting, factors=factors)
    of_row = exact_contrasts(cs, factors=factors)
    known = cs.selected >= 0
    order = row_order(cs)
    sizes = cs.n_choices[known]
    starts = np.cumsum(sizes) - sizes
    return LossRows(
        matrix=matrix[order],
        starts=starts.astype(np.int32),
        sizes=sizes.astype(np.int32),
        contrast_weights=of_row[order],
        decision_weights=of_decision[known],
    )


def row_order(cs: ChoiceSets) -> np.ndarray:
    """Rows of the decisions whose selection is known, the selected row of each before its others: positions in `cs`."""
    known = cs.selected >= 0
    row = np.arange(cs.n_rows)
    start = np.repeat(cs.offsets[:-1], cs.n_choices)
    selected = np.repeat(np.where(known, cs.selected, cs.offsets[:-1]), cs.n_choices)
    order = np.where(row == start, selected, row - ((row > start) & (row <= selected)))
    return order if known.all() else order[np.repeat(known, cs.n_choices)]
