"""Scores of decisions into covariances of coefficients, and these into intervals: Hessian, robust and by cluster."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from scipy import special

__all__ = [
    "FEW_CLUSTERS",
    "CovarianceKind",
    "check_kind",
    "cluster_covariance",
    "few_clusters_factor",
    "quantile",
    "robust_covariance",
    "two_sided_p",
]

CovarianceKind = Literal["hessian", "robust", "cluster"]

FEW_CLUSTERS = 10
"""With fewer clusters, what rests on them is called so where it is printed."""


def robust_covariance(
    inverse_hessian: np.ndarray, scores: np.ndarray, *, counts: np.ndarray | None = None
) -> np.ndarray:
    """The covariance of coefficients whose decisions are independent, whether or not the model is right.

    Parameters
    ----------
    inverse_hessian
        (feature, feature): C, of -ln L at its maximum.
    scores
        (decision, feature): gradient of each decision's term of ln L.
    counts
        (decision,): how often each decision occurs; once, by default. A decision that occurs twice gives two
        scores, and not one of twice the size: that would be a cluster.

    Returns
    -------
    (feature, feature): C (sum_d n_d s_d s_d^T) C.

    References
    ----------
    White (1982), Econometrica 50, doi:10.2307/1912526.

    Example
    -------
    >>> robust_covariance(np.array([[2.0]]), np.array([[0.5], [-0.5]]))
    array([[2.]])
    """
    weighted = scores if counts is None else scores * counts[:, None]
    return _between(inverse_hessian, np.einsum("di,dj->ij", weighted, scores))


def cluster_covariance(inverse_hessian: np.ndarray, scores: np.ndarray, cluster: np.ndarray) -> np.ndarray:
    """The covariance of coefficients whose clusters are independent; decisions of a cluster may go together.

    Parameters
    ----------
    inverse_hessian, scores
        As in `robust_covariance`, scores with all their weights.
    cluster
        (decision,): codes 0, 1, ...

    Returns
    -------
    (feature, feature): C (sum_g s_g s_g^T) C with s_g the sum of the scores of cluster g, without a factor for
    few clusters (see `few_clusters_factor`). NaN for fewer than two clusters: at the maximum all scores sum to
    zero, and nothing is known of what lies between. With G clusters its rank is at most G - 1.

    References
    ----------
    Liang & Zeger (1986), Biometrika 73, doi:10.1093/biomet/73.1.13.

    Example
    -------
    Two clusters whose decisions go together: twice the variance of independent ones.

    >>> scores = np.array([[0.5], [0.5], [-0.5], [-0.5]])
    >>> float(robust_covariance(np.eye(1), scores)[0, 0])
    1.0
    >>> float(cluster_covariance(np.eye(1), scores, np.array([0, 0, 1, 1]))[0, 0])
    2.0
    """
    n_features = scores.shape[1]
    if len(np.unique(cluster)) < 2:
        return np.full((n_features, n_features), np.nan)
    sums = np.zeros((int(cluster.max()) + 1, n_features))
    for j in range(n_features):
        sums[:, j] = np.bincount(cluster, weights=scores[:, j], minlength=len(sums))
    return _between(inverse_hessian, np.einsum("gi,gj->ij", sums, sums))


def few_clusters_factor(n_clusters: int) -> float:
    """G / (G - 1), by which a cluster-robust covariance is raised because scores sum to zero; NaN below two."""
    return n_clusters / (n_clusters - 1) if n_clusters > 1 else np.nan


def quantile(probability: float, *, degrees: float = np.inf) -> float:
    """Quantile of the standard normal distribution, or of Student's t with finite `degrees` of freedom.

    Example
    -------
    >>> round(quantile(0.975), 3), round(quantile(0.975, degrees=7), 3)
    (1.96, 2.365)
    """
    return float(special.ndtri(probability) if np.isinf(degrees) else special.stdtrit(degrees, probability))


def two_sided_p(z: np.ndarray, *, degrees: float = np.inf) -> np.ndarray:
    """Probability of a larger |z| under the standard normal distribution, or Student's t."""
    if np.isinf(degrees):
        return special.erfc(np.abs(z) / np.sqrt(2))
    return 2 * special.stdtr(degrees, -np.abs(z))


def check_kind(kind: str) -> None:
    """Raise ValueError if this is no kind of covariance."""
    if kind not in get_args(CovarianceKind):
        raise ValueError(f"kind of covariance must be one of {', '.join(get_args(CovarianceKind))}; got {kind!r}.")


def _between(bread: np.ndarray, meat: np.ndarray) -> np.ndarray:
    """bread meat bread, symmetric to the bit."""
    product = np.einsum("il,lj->ij", np.einsum("ik,kl->il", bread, meat), bread)
    return (product + product.T) / 2
