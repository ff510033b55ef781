"""Contrasts made visible: the share p_c against the probability p, its spread over batches, and the batch a study needs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from mimic.contrasts import decision_weights, has_contrasts
from mimic.probability import contrast_share, grouped_sum
from mimic.schema import ChoiceSets
from mimic.stay import StayFacts, find_stay, measure_stay

__all__ = ["contrast_curve", "contrast_spread", "decisions_for_error", "probability_of_share"]

_BATCHES = (25, 100, 500, 1000, 5000)
_EVERYTHING = 1 << 62


def probability_of_share(share: float | np.ndarray, n_alternatives: float) -> np.ndarray:
    """The probability p that a share p_c of contrasts stands for: the inverse of `mimic.probability.contrast_share`.

    Notes
    -----
    p = p_c / (p_c + M (1 - p_c)).

    Example
    -------
    A share of contrasts that is 1.4 % larger is a probability that is 18 % larger.

    >>> probability_of_share(np.array([0.959, 0.972]), 19).round(2).tolist()
    [0.55, 0.65]
    """
    s = np.asarray(share, dtype=np.float64)
    return s / (s + n_alternatives * (1.0 - s))


def contrast_curve(
    n_alternatives: Sequence[int] = (1, 4, 19, 49), *, probabilities: Sequence[float] | np.ndarray | None = None
) -> pd.DataFrame:
    """The share of contrasts that select a choice against the probability of the choice, for several M.

    Parameters
    ----------
    n_alternatives
        M, the alternatives drawn per decision, 1 or more each.
    probabilities
        By default 0, 0.01, ..., 1.

    Returns
    -------
    One row an M and probability: n_alternatives, probability, contrast_share (p_c), slope = dp_c / dp, and
    amplification = dp / dp_c: what an error of the contrasts is multiplied by on its way to the probability.

    Raises
    ------
    ValueError
        If an M is less than 1 or a probability outside [0, 1].

    Notes
    -----
    p_c = p M / (p M + 1 - p), dp_c / dp = M / (p M + 1 - p)^2.

    Example
    -------
    >>> contrast_curve([19], probabilities=[0.55, 0.65]).round(3).values.tolist()
    [[19.0, 0.55, 0.959, 0.16, 6.253], [19.0, 0.65, 0.972, 0.118, 8.489]]
    """
    p = np.linspace(0.0, 1.0, 101) if probabilities is None else np.asarray(probabilities, dtype=np.float64)
    if ((p < 0) | (p > 1) | np.isnan(p)).any() or min(n_alternatives, default=0) < 1:
        raise ValueError(
            "expected probabilities in [0, 1] and n_alternatives of 1 or more; "
            f"got {p.min(initial=np.nan):g} to {p.max(initial=np.nan):g} and {list(n_alternatives)}."
        )
    parts = []
    for m in n_alternatives:
        slope = m / (p * m + 1.0 - p) ** 2
        columns = {"probability": p, "contrast_share": contrast_share(p, m), "slope": slope}
        parts.append(pd.DataFrame({"n_alternatives": m, **columns, "amplification": 1.0 / slope}))
    return pd.concat(parts, ignore_index=True)


def contrast_spread(
    cs: ChoiceSets,
    *,
    batch_decisions: Sequence[int] = _BATCHES,
    n_draws: int = 1000,
    stay: np.ndarray | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """How far apart batches of a size see the probability to stay: by formula, and in batches really drawn.

    Parameters
    ----------
    cs
        Training decisions; those with one choice to stay among several are counted.
    batch_decisions
        Decisions in a batch; more than there are mean all.
    n_draws, seed
        Batches drawn, and their seed; 0 leaves the simulation out.
    stay
        (row,), bool, the choice to look at, one a decision; by default `mimic.stay.find_stay`.

    Returns
    -------
    One row a size: batch_decisions; batch_contrasts, about (batch_decisions x M); n_decisions, all that are counted;
    probability, n_alternatives (M) and contrast_share of all decisions; contrast_share_sd and error, the standard
    deviations of p_c over batches and of the p that follows, by the formula of `mimic.stay.measure_stay`;
    contrast_share_sd_drawn, error_drawn, the same of drawn batches (NaN without). Batches without any contrast of stay
    are drawn as they come and left out. Empty where nothing is to stay, or it is always or never selected.

    Raises
    ------
    ValueError
        If a size or n_draws is out of range, or `stay` is not (row,).
    """
    if n_draws < 0:
        raise ValueError(f"n_draws must be 0 or more; got {n_draws}.")
    rows = []
    for batch in batch_decisions:
        facts = measure_stay(cs, batch_decisions=batch, stay=stay)
        if facts is None:
            continue
        whole = measure_stay(cs, batch_decisions=_EVERYTHING, stay=stay)
        assert whole is not None
        drawn = (np.nan, np.nan)
        if n_draws:
            drawn = _drawn(cs, stay, facts, n_draws, np.random.default_rng([seed, batch]))
        rows.append(
            {
                "batch_decisions": facts.batch_decisions,
                "batch_contrasts": round(facts.batch_decisions * facts.n_alternatives),
                "n_decisions": whole.batch_decisions,
                "probability": facts.probability,
                "n_alternatives": facts.n_alternatives,
                "contrast_share": facts.contrast_share,
                "contrast_share_sd": facts.contrast_share_sd,
                "contrast_share_sd_drawn": drawn[0],
                "error": facts.error,
                "error_drawn": drawn[1],
            }
        )
    columns = ["batch_decisions", "batch_contrasts", "n_decisions", "probability", "n_alternatives", "contrast_share"]
    columns += ["contrast_share_sd", "contrast_share_sd_drawn", "error", "error_drawn"]
    table = pd.DataFrame(rows, columns=columns)
    return table.drop_duplicates("batch_decisions", ignore_index=True)


def decisions_for_error(
    cs: ChoiceSets, errors: Sequence[float] = (0.1, 0.05, 0.02, 0.01), *, stay: np.ndarray | None = None
) -> pd.DataFrame:
    """The batch at which the probability to stay is seen with a wanted error: the inverse of `contrast_spread`.

    Parameters
    ----------
    errors
        Standard deviations of the probability over batches, above 0: 0.01 is a percentage point.

    Returns
    -------
    One row an error: error, batch_decisions (the smallest that does), batch_contrasts, about, and n_decisions, all
    there are, which have no spread. Empty where nothing is to stay, or it is always or never selected.

    Raises
    ------
    ValueError
        If an error is not above 0, or `stay` is not (row,).

    Notes
    -----
    The error of a batch of B of N decisions is e^2 = v (N - B) / (B (N - 1)), with v the variance of one decision, so
    B = N v / (v + e^2 (N - 1)).

    Example
    -------
    13 of 20 decisions stay: v = .65 x .35. For 10 points, B = 20 x .2275 / (.2275 + .01 x 19) = 10.9.

    >>> decisions = pd.DataFrame({"individual": "a", "decision": np.arange(20)})
    >>> at = np.arange(20) * 20 + np.repeat([0, 1], [13, 7])
    >>> features = {"stay": np.tile(np.eye(20)[0], 20)}
    >>> cs = ChoiceSets(decisions, np.arange(21) * 20, np.tile(np.arange(20), 20), at, features)
    >>> decisions_for_error(cs, [0.1])["batch_decisions"].tolist()
    [11]
    """
    if not all(0 < error < np.inf for error in list(errors) or [0.0]):
        raise ValueError(f"errors must be above 0, such as 0.01 for a percentage point; got {list(errors)}.")
    one = measure_stay(cs, batch_decisions=1, stay=stay)
    whole = measure_stay(cs, batch_decisions=_EVERYTHING, stay=stay)
    columns = ["error", "batch_decisions", "batch_contrasts", "n_decisions"]
    if one is None or whole is None:
        return pd.DataFrame(columns=columns)
    n, variance = whole.batch_decisions, one.error**2
    rows = []
    for error in errors:
        batch = int(np.ceil(n * variance / (variance + error**2 * (n - 1)) - 1e-9))
        rows.append([error, batch, round(batch * one.n_alternatives), n])
    return pd.DataFrame(rows, columns=columns)


def _drawn(
    cs: ChoiceSets, stay: np.ndarray | None, facts: StayFacts, n_draws: int, rng: np.random.Generator
) -> tuple[float, float]:
    """Standard deviations of p_c, and of the p that it stands for, over batches drawn without replacement."""
    found = find_stay(cs) if stay is None else np.asarray(stay, dtype=bool)
    assert found is not None
    counted = has_contrasts(cs) & (grouped_sum(found.astype(np.int64), cs.offsets) == 1)
    stayed = found[np.maximum(cs.selected, 0)][counted]
    weights = decision_weights(cs.filter(counted))
    total = np.where(stayed, weights, weights / (cs.n_choices - 1.0)[counted])  # contrasts with stay on one side
    if facts.batch_decisions == len(stayed):
        return 0.0, 0.0  # and not the rounding of sums in another order
    shares = np.empty(n_draws)
    for k in range(n_draws):
        batch = rng.choice(len(stayed), facts.batch_decisions, replace=False)
        shares[k] = np.sum((weights * stayed)[batch]) / np.sum(total[batch])
    return float(np.std(shares)), float(np.std(probability_of_share(shares, facts.n_alternatives)))
