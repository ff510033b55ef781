"""`ChoiceSets` into the classical linear model of log-odds: conditional logit by exact Newton (NumPy and SciPy only)."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from mimic.coefficients import ConditionalLogit, feature_columns
from mimic.contrasts import Weighting
from mimic.covariance import cluster_covariance, robust_covariance
from mimic.design import (
    CollinearityError,
    ConstantFeatureError,
    Design,
    FeatureError,
    Moments,
    SeparationError,
    build_design,
    format_sum,
    refuse_separated,
)
from mimic.schema import ChoiceSets

__all__ = [
    "CollinearityError",
    "ConditionalLogit",
    "ConstantFeatureError",
    "FeatureError",
    "SeparationError",
    "fit_conditional_logit",
]

_log = logging.getLogger(__name__)


def fit_conditional_logit(
    cs: ChoiceSets,
    features: Sequence[str],
    *,
    weighting: Weighting = "decision",
    weights: np.ndarray | None = None,
    offset: np.ndarray | None = None,
    columns: Mapping[str, np.ndarray] | None = None,
    cluster: Sequence[object] | np.ndarray | None = None,
    max_iterations: int = 50,
    tolerance: float = 1e-8,
) -> ConditionalLogit:
    """The linear model of log-odds under which the selections are most likely.

    Parameters
    ----------
    cs
        Decisions with an unknown selection are left out. A decision with a single choice has ln p = 0: it
        counts in `n_decisions` and moves nothing else.
    features
        Distinct names. Without any, the result is the null.
    weighting
        "decision": decisions weigh the same. "individual": individuals do, by the weights 1 / (I D_i) of
        `contrasts.decision_weights`, scaled to sum to the number of decisions.
    weights
        (decision,), 0 or more: how often each decision counts, under either weighting. With "individual",
        D_i is then the sum of the weights of individual i, and the total stays the sum of `weights`. A
        weight of 2 is the decision given twice, in every number of the result. Where weights are no counts,
        only cluster-robust errors do not depend on their size; clusters of one decision each give those of
        independent decisions.
    offset
        (row,), nats: a known part of the log-odds, with coefficient 1. Where choices were sampled into the
        choice sets with probabilities q, -ln q makes up for it (McFadden 1978).
    columns
        Feature -> (row,), float64: values in place of the float32 features, or beside them. Entries that
        are no feature of the model are not read.
    cluster
        (decision,), labels: decisions of one label may go together. By default the individuals.
    max_iterations
        Where it is reached, `converged` is False and the log has a warning.
    tolerance
        The fit has converged when a Newton step is at most this long, in standard errors.

    Raises
    ------
    ConstantFeatureError, CollinearityError, SeparationError
        ValueErrors with the `features` to leave out: if a feature is constant within every decision, or within
        decisions a linear combination of others; or if features separate the selected choices from the
        others, so that the likelihood has no maximum.
    ValueError
        If no decision has a known selection among several choices; a feature is unknown, repeated or not
        finite; weights are negative; a cluster is missing; a shape is wrong.

    Notes
    -----
    Maximizes sum_d w_d ln p_d(selected), concave, with p_m = exp(phi_m) / sum_k exp(phi_k) (McFadden 1974,
    in Zarembka (ed.), Frontiers in Econometrics): Newton steps from coefficients 0, halved while they lose
    likelihood, on features centered within decisions and divided by their root mean square.

    Linear combinations are found by a rank-revealing QR of the centered features; a residual of 1e-7 of a
    feature's spread, or of what rounding to its type (float32) can leave, counts as zero. A single feature
    that separates (Albert & Anderson 1984, doi:10.1093/biomet/71.1.1) is found exactly; several together,
    from Newton steps that gain in some decisions, lose in none and do not shrink.

    Example
    -------
    Of a deep and a shallow cell, the deep one was selected in three decisions of four: odds of 3.

    >>> decisions = pd.DataFrame({"individual": "a", "decision": [1, 2, 3, 4]})
    >>> cs = ChoiceSets(decisions, [0, 2, 4, 6, 8], [1, 2] * 4, [0, 2, 4, 7], {"deep": [1.0, 0.0] * 4})
    >>> np.exp(fit_conditional_logit(cs, ["deep"]).coef).round(6)
    array([3.])
    """
    names = tuple(features)
    if len(set(names)) != len(names):
        raise ValueError(f"features must be distinct; got {', '.join(names)}.")
    values = feature_columns(cs, names, columns)
    counts = _counts(cs, weights)
    factor = _factors(cs, counts, weighting)
    labels = _clusters(cs, cluster)
    shift = np.zeros(cs.n_rows) if offset is None else _shaped("offset", offset, "row", cs.n_rows)
    design = build_design(cs, names, values, counts * factor, shift)
    coef, moments, iterations, converged = _newton(design, max_iterations, tolerance)
    back = np.outer(design.scale, design.scale)
    bread = _inverse(design, moments, coef) / design.unit
    log_p, scores = design.scores(coef)
    used = design.used
    scores *= factor[used, None]
    null_log_p = design.scores(np.zeros(len(names)))[0]
    codes = np.unique(labels[used], return_inverse=True)[1]
    return ConditionalLogit(
        features=names,
        coef=coef / design.scale,
        covariance=bread / back,
        log_likelihood=moments[0] * design.unit,
        null_log_likelihood=float((design.weight * null_log_p).sum()) * design.unit,
        n_decisions=int((counts > 0).sum()),
        n_rows=int(cs.n_choices[counts > 0].sum()),
        iterations=iterations,
        converged=converged,
        robust_covariance=robust_covariance(bread, scores, counts=counts[used]) / back,
        cluster_covariance=cluster_covariance(bread, scores * counts[used, None], codes) / back,
        n_clusters=int(codes.max()) + 1,
        clusters_given=cluster is not None,
        total_weight=float(counts.sum()),
        weights_are_counts=bool((counts == np.floor(counts)).all()),
        weighting=weighting,
        balanced_log_probability=_balanced(cs, counts, used, log_p),
        null_balanced_log_probability=_balanced(cs, counts, used, null_log_p),
        data_id=_data_id(cs, counts * factor, shift),
    )


def _shaped(name: str, values: np.ndarray, axis: str, length: int) -> np.ndarray:
    """Values as float64, checked to be finite and of one axis."""
    array = np.asarray(values, dtype=np.float64)
    if array.shape != (length,) or not np.isfinite(array).all():
        what = f"shape {array.shape}" if array.shape != (length,) else "NaN or infinity"
        raise ValueError(f"{name} must be finite and have shape ({axis},) = ({length},); got {what}.")
    return array


def _counts(cs: ChoiceSets, weights: np.ndarray | None) -> np.ndarray:
    """How often each decision counts, 0 where the selection is unknown: (decision,)."""
    given = np.ones(cs.n_decisions) if weights is None else _shaped("weights", weights, "decision", cs.n_decisions)
    if (given < 0).any():
        raise ValueError(f"weights must be 0 or more; {np.count_nonzero(given < 0)} are negative.")
    return np.where(cs.selected >= 0, given, 0.0)


def _factors(cs: ChoiceSets, counts: np.ndarray, weighting: Weighting) -> np.ndarray:
    """By what the counts are multiplied so that what shall weigh the same does: (decision,)."""
    if weighting not in ("individual", "decision"):
        raise ValueError(f'weighting must be "individual" or "decision"; got {weighting!r}.')
    if weighting == "decision" or not counts.any():
        return np.ones(cs.n_decisions)
    codes = cs.individual_codes
    of_individual = np.bincount(codes, counts)
    mean = counts.sum() / np.count_nonzero(of_individual)
    return mean / np.where(of_individual > 0, of_individual, 1.0)[codes]


def _clusters(cs: ChoiceSets, cluster: Sequence[object] | np.ndarray | None) -> np.ndarray:
    """Codes of the clusters: (decision,)."""
    if cluster is None:
        return cs.individual_codes
    labels = list(cluster)
    if len(labels) != cs.n_decisions:
        raise ValueError(f"cluster must have shape (decision,) = ({cs.n_decisions},); got ({len(labels)},).")
    codes = pd.factorize(pd.Series(labels))[0]
    if (codes < 0).any():
        raise ValueError(f"cluster is missing for {np.count_nonzero(codes < 0)} decisions; every decision needs one.")
    return codes


def _balanced(cs: ChoiceSets, counts: np.ndarray, used: np.ndarray, log_p: np.ndarray) -> float:
    """Mean over individuals of the mean over their decisions; those that are not used have ln p = 0."""
    codes = cs.individual_codes
    everything = np.zeros(cs.n_decisions)
    everything[used] = log_p
    total, n = np.bincount(codes, counts * everything), np.bincount(codes, counts)
    return float((total[n > 0] / n[n > 0]).mean())


def _data_id(cs: ChoiceSets, weight: np.ndarray, shift: np.ndarray) -> str:
    parts = [cs.offsets, cs.selected, weight]
    digest = hashlib.sha256(shift.tobytes() if shift.any() else b"")
    for part in parts:
        digest.update(np.ascontiguousarray(part).tobytes())
    return digest.hexdigest()[:16]


def _newton(design: Design, max_iterations: int, tolerance: float) -> tuple[np.ndarray, Moments, int, bool]:
    """Standardized coefficients, the moments there, steps taken, and whether the last was within the tolerance."""
    coef = np.zeros(len(design.names))
    now, length = design.moments(coef), np.inf
    for iteration in range(1, max_iterations + 1):
        step = _inverse(design, now, coef) @ now[1]
        before, length = length, float(np.sqrt(max(now[1] @ step, 0.0)))
        # near a maximum the length squares with each step; along a separating direction it never does
        if iteration > 4 and length > 0.1 * before:
            refuse_separated(design, step)
        there, lowest = design.moments(coef + step), now[0] - 1e-13 * abs(now[0])  # less the rounding of the sum
        while there[0] < lowest and np.any(coef + step != coef):
            step = step / 2
            there = design.moments(coef + step)
        coef, now = coef + step, there
        if length <= tolerance:
            return coef, now, iteration, True
    _log.warning("no convergence in %d Newton steps; the last was %.3g standard errors", max_iterations, length)
    return coef, now, max_iterations, False


def _inverse(design: Design, now: Moments, coef: np.ndarray) -> np.ndarray:
    """The inverse of the negative Hessian, symmetric to the bit: (feature, feature)."""
    try:
        root = np.linalg.inv(np.linalg.cholesky(now[2]))
        return root.T @ root
    except np.linalg.LinAlgError:
        refuse_separated(design, coef)
        raise SeparationError(
            "the likelihood is too flat to have a maximum in float64; the coefficients have reached "
            f"{format_sum(list(zip(design.names, coef / design.scale, strict=True)))}. Look for features that decide "
            "alone.",
            [design.names[int(np.abs(coef).argmax())]],
        ) from None
