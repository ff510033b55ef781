"""`ChoiceSets` and a batch size into the error with which minibatches see the probability to stay."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mimic.contrasts import decision_weights, has_contrasts
from mimic.probability import grouped_sum
from mimic.schema import ORIGIN, ChoiceSets

__all__ = ["StayFacts", "find_stay", "measure_stay"]


@dataclass(frozen=True)
class StayFacts:
    """How well minibatches see the choice to stay.

    Parameters
    ----------
    probability
        Share of decisions that select stay, individuals weighing the same.
    n_alternatives
        M, the alternatives of a decision: their harmonic mean over decisions that did not stay.
    contrast_share
        p_c, the share of contrasts with stay on one side that select it.
    contrast_share_sd
        Standard deviation of p_c between minibatches.
    error
        Standard deviation of the stay probability that this implies, a probability.
    batch_decisions
        Decisions in a minibatch.
    decisions_for_one_point
        Decisions in a minibatch at which `error` is 1 percentage point.
    """

    probability: float
    n_alternatives: float
    contrast_share: float
    contrast_share_sd: float
    error: float
    batch_decisions: int
    decisions_for_one_point: int


def find_stay(cs: ChoiceSets) -> np.ndarray | None:
    """Which rows are the choice to stay: (row,), bool. None where the choice sets do not say.

    By the feature `stay`, else `distance_km` of 0, else choices that equal the `origin` of their decision.
    """
    if "stay" in cs.features:
        return cs.features["stay"] > 0.5
    if "distance_km" in cs.features:
        return cs.features["distance_km"] == 0
    if ORIGIN in cs.decisions:
        return np.asarray(np.repeat(cs.decisions[ORIGIN].to_numpy(), cs.n_choices) == cs.choice)
    return None


def measure_stay(cs: ChoiceSets, *, batch_decisions: int, stay: np.ndarray | None = None) -> StayFacts | None:
    """The error with which minibatches of so many decisions see the probability to stay.

    Parameters
    ----------
    cs
        Training decisions. Those with one choice to stay among several are counted.
    batch_decisions
        Decisions in a minibatch, at most all there are.
    stay
        (row,), bool; by default `find_stay`.

    Returns
    -------
    None where no choice is to stay, or it is always or never selected.

    Raises
    ------
    ValueError
        If `batch_decisions` is less than 1, or `stay` is not (row,).

    Notes
    -----
    With p the share that stays and M alternatives, p_c = p M / (p M + 1 - p), whose slope is
    dp_c/dp = M / (p M + 1 - p)^2. The variance of p_c over minibatches of B of N decisions, drawn without
    replacement, is that of its linearized share of one decision, times (N - B) / (B (N - 1)); the error of p is the
    root of it over the slope.

    Example
    -------
    13 of 20 decisions with 19 alternatives stay; minibatches of 5:

    >>> import pandas as pd
    >>> decisions = pd.DataFrame({"individual": "a", "decision": np.arange(20)})
    >>> at = np.arange(20) * 20 + np.repeat([0, 1], [13, 7])
    >>> features = {"stay": np.tile(np.eye(20)[0], 20)}
    >>> cs = ChoiceSets(decisions, np.arange(21) * 20, np.tile(np.arange(20), 20), at, features)
    >>> facts = measure_stay(cs, batch_decisions=5)
    >>> round(facts.contrast_share, 3), round(facts.error, 3)  # sqrt(.65 x .35 / 5 x 15 / 19)
    (0.972, 0.19)
    """
    if batch_decisions < 1:
        raise ValueError(f"batch_decisions must be 1 or more; got {batch_decisions}.")
    found = find_stay(cs) if stay is None else np.asarray(stay, dtype=bool)
    if found is None or cs.n_decisions == 0:
        return None
    if found.shape != (cs.n_rows,):
        raise ValueError(f"stay must have shape (row,) = ({cs.n_rows},); got {found.shape}.")
    counted = has_contrasts(cs) & (grouped_sum(found.astype(np.int64), cs.offsets) == 1)
    if not counted.any():
        return None
    stayed = found[np.maximum(cs.selected, 0)][counted]
    alternatives = (cs.n_choices - 1.0)[counted]
    weights = decision_weights(cs.filter(counted))
    p = float(weights[stayed].sum())
    if stayed.all() or not stayed.any():
        return None
    n_alternatives = (1 - p) / float(np.sum((weights / alternatives)[~stayed]))
    share = p * n_alternatives / (p * n_alternatives + 1 - p)  # contrast_share, whose M is a whole number
    # of the contrasts with stay on one side: those that a decision adds to the numerator, and to the denominator
    total = np.where(stayed, weights, weights / alternatives)
    part = (stayed * weights - share * total) / total.mean()
    slope = n_alternatives / (p * n_alternatives + 1 - p) ** 2
    n_decisions, batch = len(stayed), min(batch_decisions, int(counted.sum()))
    variance = float(np.mean(part**2))  # of one decision; its mean is 0
    spread = np.sqrt(variance * (n_decisions - batch) / (batch * max(n_decisions - 1, 1)))
    of_one = variance / slope**2
    enough = n_decisions * of_one / (of_one + 1e-4 * (n_decisions - 1))
    return StayFacts(
        probability=p,
        n_alternatives=n_alternatives,
        contrast_share=share,
        contrast_share_sd=float(spread),
        error=float(spread / slope),
        batch_decisions=batch,
        decisions_for_one_point=int(np.ceil(enough)),
    )
