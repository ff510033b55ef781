"""Log-odds over ragged choice sets into log-probabilities, losses and geometric-mean probability (NumPy only)."""

from __future__ import annotations

import numpy as np

__all__ = [
    "contrast_losses",
    "contrast_share",
    "gmp",
    "grouped_log_softmax",
    "grouped_sum",
    "selected_log_probability",
    "softplus",
    "weighted_mean",
]


def grouped_sum(values: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Sum over the rows of each decision: (row,), (decision + 1,) -> (decision,). No decision may be empty.

    Of booleans it is the count of True.
    """
    if len(offsets) < 2:
        return np.zeros(0, dtype=np.asarray(values).dtype)
    return np.add.reduceat(values, offsets[:-1])


def grouped_log_softmax(log_odds: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Log-probability of every choice within its decision.

    Parameters
    ----------
    log_odds
        (row,), nats. NaN or +inf is an error; -inf means probability zero.
    offsets
        (decision + 1,).

    Returns
    -------
    (row,), float64, nats.

    Raises
    ------
    ValueError
        If a log-odds is NaN or +inf, or all choices of a decision are -inf.

    Notes
    -----
    ln p_m = phi_m - max phi - ln sum_k exp(phi_k - max phi), so that exp() never overflows.

    Example
    -------
    >>> np.exp(grouped_log_softmax(np.log([1.0, 3.0, 5.0]), np.array([0, 2, 3]))).round(2)
    array([0.25, 0.75, 1.  ])
    """
    phi = np.asarray(log_odds, dtype=np.float64)
    if len(offsets) < 2:
        return phi.copy()
    bad = np.isnan(phi) | (phi == np.inf)
    if bad.any():
        raise ValueError(f"log-odds must be finite or -inf; {bad.sum()} of {phi.size} are NaN or +inf.")
    sizes = np.diff(offsets)
    largest = np.maximum.reduceat(phi, offsets[:-1])
    if np.isneginf(largest).any():
        raise ValueError("every choice of a decision has log-odds -inf; at least one must be possible.")
    shifted = phi - np.repeat(largest, sizes)
    total = np.add.reduceat(np.exp(shifted), offsets[:-1])
    return shifted - np.repeat(np.log(total), sizes)


def selected_log_probability(log_odds: np.ndarray, offsets: np.ndarray, selected: np.ndarray) -> np.ndarray:
    """Log-probability of the selected choice of each decision: (decision,), nats; NaN where selected is -1."""
    if len(selected) == 0:
        return np.zeros(0)
    log_p = grouped_log_softmax(log_odds, offsets)
    return np.where(selected >= 0, log_p[np.maximum(selected, 0)], np.nan)


def softplus(x: np.ndarray) -> np.ndarray:
    """ln(1 + exp(x)) without overflow."""
    return np.logaddexp(0.0, x)


def contrast_losses(log_odds: np.ndarray, offsets: np.ndarray, selected: np.ndarray) -> np.ndarray:
    """Loss of the contrast (selected, this row) for every row: softplus(phi_row - phi_selected).

    Returns
    -------
    (row,), float64, nats. Zero for the selected row itself (it is no contrast) and where nothing is selected;
    infinite where the selected row is impossible (-inf).
    """
    phi = np.asarray(log_odds, dtype=np.float64)
    if len(selected) == 0:
        return np.zeros_like(phi)
    sizes = np.diff(offsets)
    known = np.repeat(selected >= 0, sizes)
    phi_selected = phi[np.maximum(selected, 0)]
    with np.errstate(invalid="ignore"):  # -inf against -inf
        loss = softplus(phi - np.repeat(phi_selected, sizes))
    if np.isneginf(phi_selected).any():
        loss[np.repeat(np.isneginf(phi_selected), sizes)] = np.inf
    loss[selected[selected >= 0]] = 0.0
    return np.where(known, loss, 0.0)


def weighted_mean(values: np.ndarray, weights: np.ndarray) -> float:
    """Sum of weights x values over the sum of weights; NaN when the weights sum to zero."""
    values, weights = np.asarray(values, np.float64), np.asarray(weights, np.float64)
    total = float(weights.sum())
    # Not np.dot: its bits depend on the threads of BLAS, which also spin beside TensorFlow's.
    return float((values * weights).sum() / total) if total > 0 else np.nan


def gmp(log_probability: float | np.ndarray) -> float | np.ndarray:
    """Geometric-mean probability exp(D) of a mean log-probability D.

    Example
    -------
    >>> round(float(gmp(-1.385)), 3)
    0.25
    """
    return np.exp(log_probability)


def contrast_share(probability: float | np.ndarray, n_alternatives: int) -> float | np.ndarray:
    """The share p_c of contrasts with "stay" on one side that select it, when a share p of decisions does.

    Notes
    -----
    p_c = p M / (p M + 1 - p) with M alternatives drawn per decision.

    Example
    -------
    >>> round(float(contrast_share(0.55, 19)), 3), round(float(contrast_share(0.65, 19)), 3)
    (0.959, 0.972)
    """
    p = np.asarray(probability, dtype=np.float64)
    return p * n_alternatives / (p * n_alternatives + 1.0 - p)
