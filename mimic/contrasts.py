"""`ChoiceSets` into weights of contrasts (selected against unselected): the exact expectation or sampled counts."""

from __future__ import annotations

from typing import Literal

import numpy as np

from mimic.probability import contrast_losses, weighted_mean
from mimic.schema import ChoiceSets

__all__ = [
    "Weighting",
    "contrast_loss",
    "decision_weights",
    "exact_contrasts",
    "has_contrasts",
    "sample_contrasts",
]

Weighting = Literal["individual", "decision"]


def has_contrasts(cs: ChoiceSets) -> np.ndarray:
    """Whether a decision has a known selection and at least one unselected choice: (decision,), bool."""
    return (cs.selected >= 0) & (cs.n_choices > 1)


def decision_weights(
    cs: ChoiceSets, *, weighting: Weighting = "individual", factors: np.ndarray | None = None
) -> np.ndarray:
    """Weight of each decision in a mean over decisions.

    Parameters
    ----------
    weighting
        "individual": individuals weigh the same; "decision": decisions weigh the same.
    factors
        (decision,), 0 or more: how much a decision counts (among those of its individual, where individuals
        weigh the same); by default all count 1.

    Returns
    -------
    (decision,), float64, summing to 1. Zero where the selection is unknown; all zero if it is unknown everywhere.

    Notes
    -----
    1 / (I D_i) or 1 / D, with D_i the decisions of individual i whose selection is known, D their sum and I
    the number of individuals that have any. With factors f_d it is f_d in place of 1, and D sums them.
    """
    return _shares(cs, cs.selected >= 0, weighting, factors)


def exact_contrasts(cs: ChoiceSets, *, factors: np.ndarray | None = None) -> np.ndarray:
    """Weight of the contrast of each unselected row with the selected row of its decision, in expectation.

    It is what `sample_contrasts` tends to as more is drawn, without the noise of drawing. With `factors`
    (decision,) decisions count unequally among those of their individual.

    Returns
    -------
    (row,), float64, summing to 1. Zero on selected rows and in decisions without an alternative or without a
    known selection; all zero if there is no contrast at all.

    Notes
    -----
    1 / (I D_i U_d), with U_d the unselected rows of decision d, D_i the decisions of individual i that have
    contrasts and I the number of individuals that have such decisions.

    Example
    -------
    Fish a decides once among 3 choices, fish b once among 2:

    >>> import pandas as pd
    >>> decisions = pd.DataFrame({"individual": ["a", "b"], "decision": [1, 1]})
    >>> cs = ChoiceSets(decisions, offsets=[0, 3, 5], choice=[1, 2, 3, 1, 2], selected=[0, 4])
    >>> exact_contrasts(cs)
    array([0.  , 0.25, 0.25, 0.5 , 0.  ])
    """
    per_decision = _shares(cs, has_contrasts(cs), "individual", factors)
    weights = np.repeat(per_decision / np.maximum(cs.n_choices - 1, 1), cs.n_choices)
    weights[cs.is_selected] = 0.0
    return weights


def sample_contrasts(
    cs: ChoiceSets, *, decisions_per_individual: int, alternatives_per_decision: int, rng: np.random.Generator
) -> np.ndarray:
    """How often each row is drawn as the unselected side of a contrast.

    For every individual its decisions are drawn with replacement, and for EACH draw of a decision unselected
    choices of it are drawn anew, with replacement.

    Returns
    -------
    (row,), int64: counts. Their sum is individuals with contrasts x `decisions_per_individual` x
    `alternatives_per_decision`; zero wherever `exact_contrasts` is zero.

    Raises
    ------
    ValueError
        If either number to draw is less than 1.
    """
    if decisions_per_individual < 1 or alternatives_per_decision < 1:
        raise ValueError(
            "decisions_per_individual and alternatives_per_decision must be 1 or more; "
            f"got {decisions_per_individual} and {alternatives_per_decision}."
        )
    usable = np.flatnonzero(has_contrasts(cs))
    if len(usable) == 0:
        return np.zeros(cs.n_rows, dtype=np.int64)
    codes = cs.individual_codes[usable]
    by_individual = usable[np.argsort(codes, kind="stable")]  # decisions of one individual lie together
    n_of_individual = np.bincount(codes)
    first = (np.cumsum(n_of_individual) - n_of_individual)[n_of_individual > 0, None]
    n_of_individual = n_of_individual[n_of_individual > 0, None]
    draws = first + rng.integers(0, n_of_individual, size=(len(first), decisions_per_individual))
    drawn = by_individual[draws.ravel(), None]  # (draw, 1)
    position = rng.integers(0, cs.n_choices[drawn] - 1, size=(len(drawn), alternatives_per_decision))
    rows = cs.offsets[:-1][drawn] + position
    rows += rows >= cs.selected[drawn]  # step over the selected row
    return np.bincount(rows.ravel(), minlength=cs.n_rows)


def contrast_loss(log_odds: np.ndarray, cs: ChoiceSets, weights: np.ndarray) -> float:
    """Mean loss of the weighted contrasts, in nats: ln 2 for a model without features.

    Parameters
    ----------
    log_odds
        (row,), nats.
    weights
        (row,): from `exact_contrasts` or `sample_contrasts`.

    Returns
    -------
    The mean; NaN when there are no contrasts.

    Notes
    -----
    sum_r w_r ln(1 + exp(phi_r - phi_s)) / sum_r w_r, with s the selected row of the decision of r.
    """
    return weighted_mean(contrast_losses(log_odds, cs.offsets, cs.selected), weights)


def _shares(cs: ChoiceSets, keep: np.ndarray, weighting: Weighting, factors: np.ndarray | None = None) -> np.ndarray:
    """Weights (decision,) that sum to 1 over the decisions to keep."""
    if weighting not in ("individual", "decision"):
        raise ValueError(f'weighting must be "individual" or "decision"; got {weighting!r}.')
    counted = keep.astype(np.float64) if factors is None else np.where(keep, _checked(factors, cs), 0.0)
    if not counted.any():
        return np.zeros(cs.n_decisions)
    if weighting == "decision":
        return counted / counted.sum()
    codes = cs.individual_codes
    of_individual = np.bincount(codes, weights=counted, minlength=codes.max() + 1)
    n_individuals = np.count_nonzero(of_individual)
    return counted / (n_individuals * np.where(of_individual > 0, of_individual, 1.0)[codes])


def _checked(factors: np.ndarray, cs: ChoiceSets) -> np.ndarray:
    factors = np.asarray(factors, dtype=np.float64)
    if factors.shape != (cs.n_decisions,) or not np.isfinite(factors).all() or (factors < 0).any():
        raise ValueError(
            f"factors must be finite, 0 or more, and of shape (decision,) = ({cs.n_decisions},); got shape "
            f"{factors.shape}" + (f" and values down to {factors.min():g}." if factors.size else ".")
        )
    return factors
