"""Estimates of several individuals, with their errors, into the mean and the variance between individuals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import optimize

__all__ = ["RandomEffects", "moments_mean", "restricted_means"]


@dataclass(frozen=True)
class RandomEffects:
    """Mean of a population, its standard error, and the variance between individuals.

    The error has the factor of Hartung & Knapp, not let below 1; see `mimic.population.two_step`.
    """

    mean: float
    se: float
    tau2: float


def moments_mean(estimates: np.ndarray, se: np.ndarray) -> RandomEffects:
    """The mean by the moments of DerSimonian & Laird: (individual,) estimates and standard errors, two or more.

    Example
    -------
    At 0 and 2 with errors of 1: Q = 2, tau^2 = (2 - 1) / (2 - 2 / 2) = 1, and the weights are 1 / 2 each.

    >>> moments_mean(np.array([0.0, 2.0]), np.array([1.0, 1.0]))
    RandomEffects(mean=1.0, se=1.0, tau2=1.0)
    """
    v = se**-2
    q = np.sum(v * (estimates - np.sum(v * estimates) / np.sum(v)) ** 2)
    tau2 = max(0.0, float((q - (len(v) - 1)) / (np.sum(v) - np.sum(v**2) / np.sum(v))))
    w = 1 / (se**2 + tau2)
    mean = float(np.sum(w * estimates) / np.sum(w))
    excess = max(1.0, float(np.sum(w * (estimates - mean) ** 2) / (len(w) - 1)))
    return RandomEffects(mean, float(np.sqrt(excess / np.sum(w))), tau2)


def restricted_means(estimates: np.ndarray, covariance: np.ndarray) -> list[RandomEffects]:
    """The means of several features at once, at the maximum of the restricted likelihood.

    Parameters
    ----------
    estimates
        (individual, feature), NaN where an individual has none; of each feature two or more.
    covariance
        (individual, feature, feature), of the estimates; read where both of them are there.

    Returns
    -------
    One a feature.

    Notes
    -----
    With V_i = S_i + diag(tau^2), over the features that i has, A = sum V_i^-1 and r_i = b_i - mu, it minimizes

        sum_i ln |V_i| + ln |A| + sum_i r_i' V_i^-1 r_i,    mu = A^-1 sum_i V_i^-1 b_i,

    over tau^2 >= 0 by L-BFGS-B, from two beginnings, as the likelihood may have two maxima.
    """
    problem = _Problem.of(estimates, covariance)
    n = estimates.shape[1]
    options = {"ftol": 1e-14, "gtol": 1e-9, "maxiter": 1000}
    found = [
        optimize.minimize(
            problem.loss, np.full(n, x), jac=True, method="L-BFGS-B", bounds=[(0, None)] * n, options=options
        )
        for x in (0.0, 0.5)
    ]
    tau2 = min(found, key=lambda result: result.fun).x * problem.unit
    _, w, c, mean, r = problem.at(tau2)
    excess = max(1.0, float(np.einsum("ij,ijk,ik->", r, w, r) / (problem.present.sum() - n)))
    se = np.sqrt(excess * np.diag(c))
    return [RandomEffects(float(m), float(e), float(t)) for m, e, t in zip(mean, se, tau2, strict=True)]


@dataclass(frozen=True, eq=False)
class _Problem:
    """Estimates with 0 for those that are absent, which get a variance of 1 and no weight."""

    b: np.ndarray  # (individual, feature)
    s: np.ndarray  # (individual, feature, feature)
    present: np.ndarray  # (individual, feature), 1 or 0
    unit: np.ndarray  # (feature,), a feature's own spread: one tolerance fits all

    @staticmethod
    def of(estimates: np.ndarray, covariance: np.ndarray) -> _Problem:
        present = (~np.isnan(estimates)).astype(np.float64)
        both = present[:, :, None] * present[:, None, :] > 0
        s = np.where(both, covariance, 0.0) + _diagonals(1 - present)
        within = np.sum(np.einsum("ijj->ij", s) * present, axis=0) / present.sum(axis=0)
        b = np.where(present > 0, estimates, 0.0)
        return _Problem(b, s, present, np.nanvar(estimates, axis=0, ddof=1) + within)

    def at(self, tau2: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """V, its inverse without the absent, the covariance of the mean, the mean, the residuals."""
        v = self.s + _diagonals(self.present * tau2)
        w = np.linalg.inv(v) * self.present[:, :, None] * self.present[:, None, :]
        c = np.linalg.inv(np.sum(w, axis=0))
        mean = np.einsum("jk,ikl,il->j", c, w, self.b)
        return v, w, c, mean, (self.b - mean) * self.present

    def loss(self, scaled: np.ndarray) -> tuple[float, np.ndarray]:
        """Minus the restricted log-likelihood, up to a constant, and its slope, by tau^2 over `unit`."""
        v, w, c, _, r = self.at(scaled * self.unit)
        wr = np.einsum("ijk,ik->ij", w, r)
        value = np.sum(np.linalg.slogdet(v)[1]) - np.linalg.slogdet(c)[1] + np.sum(r * wr)
        slope = np.einsum("ijj->j", w) - np.einsum("ijk,kl,ilj->j", w, c, w) - np.sum(wr**2, axis=0)
        return 0.5 * float(value), 0.5 * slope * self.unit


def _diagonals(values: np.ndarray) -> np.ndarray:
    """(individual, feature) -> (individual, feature, feature), diagonal."""
    return values[:, :, None] * np.eye(values.shape[1])
