"""Fits of the conditional logit into tests and comparisons: Wald, likelihood ratio, information criteria."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import special

from mimic.coefficients import ConditionalLogit
from mimic.covariance import CovarianceKind

__all__ = ["LikelihoodRatio", "WaldTest", "compare_fits", "likelihood_ratio_test", "wald_test"]


@dataclass(frozen=True)
class WaldTest:
    """Whether linear combinations of coefficients differ from given values.

    Parameters
    ----------
    chi2, df
        The statistic and how many combinations it tests. For kind "cluster" the covariance is raised by
        G / (G - 1), with G clusters.
    f, df_clusters
        chi2 / df, and the degrees of freedom beside `df`: G - 1 for kind "cluster", otherwise infinite.
    p
        Probability of a larger f: of F(df, G - 1) for kind "cluster", otherwise that of chi2 on `df`.
    kind
        Of the covariance.
    """

    chi2: float
    df: int
    f: float
    df_clusters: float
    p: float
    kind: CovarianceKind


@dataclass(frozen=True)
class LikelihoodRatio:
    """Twice the log-likelihood that a full model gains on a restricted one; p is that of a larger chi2 on df."""

    chi2: float
    df: int
    p: float


def wald_test(
    fit: ConditionalLogit,
    features: Sequence[str] | None = None,
    *,
    matrix: np.ndarray | None = None,
    values: np.ndarray | None = None,
    kind: CovarianceKind | None = None,
) -> WaldTest:
    """The Wald test that coefficients, or linear combinations of them, are zero or have given values.

    Parameters
    ----------
    features
        Those tested together; by default all. Not beside `matrix`.
    matrix
        (restriction, feature): R, tested is R coef = values.
    values
        (restriction,), one for each tested feature or row of `matrix`; 0 by default.
    kind
        Of the covariance; by default "cluster" from two clusters on, and otherwise "hessian".

    Raises
    ------
    ValueError
        If a feature is unknown, a shape is wrong, rows of `matrix` depend on each other, or more is tested
        than the clusters can tell: at most G - 1 combinations with G clusters.

    Notes
    -----
    chi2 = (R b - r)^T (R V R^T)^-1 (R b - r). With clusters, F = chi2 / df on (df, G - 1) degrees of freedom
    (Cameron & Miller 2015, J. Hum. Resour. 50, doi:10.3368/jhr.50.2.317).

    Example
    -------
    Of one feature, chi2 is the square of coef / se: with 3 selections of 4 that is (ln 3)^2 x 4 x 3/16.

    >>> from mimic.conditional_logit import fit_conditional_logit
    >>> from mimic.schema import ChoiceSets
    >>> decisions = pd.DataFrame({"individual": "a", "decision": [1, 2, 3, 4]})
    >>> cs = ChoiceSets(decisions, [0, 2, 4, 6, 8], [1, 2] * 4, [0, 2, 4, 7], {"deep": [1.0, 0.0] * 4})
    >>> test = wald_test(fit_conditional_logit(cs, ["deep"]), ["deep"])
    >>> round(test.chi2, 4), test.df, test.kind
    (0.9052, 1, 'hessian')
    """
    kind = kind or fit.default_kind
    r = _restrictions(fit, features, matrix)
    wanted = np.zeros(len(r)) if values is None else np.asarray(values, dtype=np.float64)
    if wanted.shape != (len(r),):
        raise ValueError(f"values must have shape (restriction,) = ({len(r)},); got {wanted.shape}.")
    if len(r) == 0 or np.linalg.matrix_rank(r) < len(r):
        raise ValueError("expected at least one restriction, and none that follows from the others.")
    covariance = fit.covariance_of(kind, small_sample=True)
    if kind == "cluster" and len(r) >= fit.n_clusters:
        raise ValueError(
            f"{len(r)} restrictions cannot be tested with {fit.n_clusters} clusters, but at most "
            f'{max(fit.n_clusters - 1, 0)}; test fewer together, or use kind="robust", which takes decisions for '
            "independent."
        )
    difference = np.einsum("qk,k->q", r, fit.coef) - wanted
    within = np.einsum("qk,kl,pl->qp", r, covariance, r)
    chi2 = float(difference @ np.linalg.solve(within, difference))
    df, degrees = len(r), float(fit.n_clusters - 1) if kind == "cluster" else np.inf
    p = special.chdtrc(df, chi2) if np.isinf(degrees) else special.fdtrc(df, degrees, chi2 / df)
    return WaldTest(chi2, df, chi2 / df, degrees, float(p), kind)


def likelihood_ratio_test(restricted: ConditionalLogit, full: ConditionalLogit) -> LikelihoodRatio:
    """The test that the features which only the full model has are of no use.

    Both must be fitted to the same decisions, with the features of the restricted one among those of the full one;
    that a name means the same values in both is not checked.

    Raises
    ------
    ValueError
        If the models are not nested or not of the same data, individuals weigh the same, weights are no counts,
        or clusters were named: the ratio then has no chi2 distribution, and `wald_test` with kind "cluster" is the
        way.

    Notes
    -----
    2 (ln L_full - ln L_restricted), chi2 on the number of features that only the full model has. It takes
    decisions for independent, those of one individual too.
    """
    alone = [name for name in restricted.features if name not in full.features]
    if alone:
        raise ValueError(
            f"the restricted model must have features of the full one only; it alone has {', '.join(alone)}. "
            "Compare models that are not nested by compare_fits."
        )
    df = len(full.features) - len(restricted.features)
    if df == 0:
        raise ValueError("the full model must have more features than the restricted one; both have the same.")
    _refuse_other_data({"restricted": restricted, "full": full})
    for fit in (restricted, full):
        _refuse_no_likelihood(fit)
    chi2 = 2 * (full.log_likelihood - restricted.log_likelihood)
    return LikelihoodRatio(chi2, df, float(special.chdtrc(df, max(chi2, 0.0))))


def compare_fits(fits: Mapping[str, ConditionalLogit]) -> pd.DataFrame:
    """Fits to the same data side by side, nested or not, in the order given.

    Returns
    -------
    One row a model (the index): features, n_features, log_likelihood, aic, delta_aic (above the smallest), bic,
    delta_bic, mcfadden, adjusted_mcfadden, gmp, balanced_gmp.

    Raises
    ------
    ValueError
        If there is none, or they are not of the same data.
    """
    if not fits:
        raise ValueError("expected at least one fit to compare; got none.")
    _refuse_other_data(fits)
    table = pd.DataFrame(
        {
            name: {
                "features": ", ".join(fit.features),
                "n_features": len(fit.features),
                "log_likelihood": fit.log_likelihood,
                "aic": fit.aic,
                "delta_aic": fit.aic - min(other.aic for other in fits.values()),
                "bic": fit.bic,
                "delta_bic": fit.bic - min(other.bic for other in fits.values()),
                "mcfadden": fit.mcfadden,
                "adjusted_mcfadden": fit.adjusted_mcfadden,
                "gmp": fit.gmp,
                "balanced_gmp": fit.balanced_gmp,
            }
            for name, fit in fits.items()
        }
    ).T
    kinds = {name: "str" if name == "features" else "int64" if name == "n_features" else "float64" for name in table}
    return table.astype(kinds).rename_axis("model")


def _restrictions(fit: ConditionalLogit, features: Sequence[str] | None, matrix: np.ndarray | None) -> np.ndarray:
    """R, (restriction, feature)."""
    if matrix is not None:
        r = np.asarray(matrix, dtype=np.float64)
        if features is not None:
            raise ValueError("give features or a matrix of restrictions, not both.")
        if r.ndim != 2 or r.shape[1] != len(fit.features):
            raise ValueError(
                f"matrix must have shape (restriction, feature) = (.., {len(fit.features)}); got {r.shape}."
            )
        return r
    names = list(fit.features if features is None else features)
    unknown = [name for name in names if name not in fit.features]
    if unknown:
        raise ValueError(f"unknown feature {', '.join(unknown)}; the fit has {', '.join(fit.features)}.")
    return np.eye(len(fit.features))[[fit.features.index(name) for name in names]]


def _refuse_other_data(fits: Mapping[str, ConditionalLogit]) -> None:
    """Raise ValueError unless all are fits to the same choice sets, selections, weights and offset."""
    (first, one), *others = fits.items()
    for name, other in others:
        same = one.n_decisions == other.n_decisions and one.n_rows == other.n_rows and one.data_id == other.data_id
        if not same or one.weighting != other.weighting:
            raise ValueError(
                f"models must be of the same data to be compared: {first} has {_data(one)}, {name} has {_data(other)}. "
                "Fit both to the same decisions, with the same choices, weights and offset."
            )


def _data(fit: ConditionalLogit) -> str:
    return (
        f"{fit.n_decisions} decisions with {fit.n_rows} choices, {fit.weighting}s weighing the same, null "
        f"log-likelihood {fit.null_log_likelihood:.6f}"
    )


def _refuse_no_likelihood(fit: ConditionalLogit) -> None:
    """Raise ValueError if the weighted log-likelihood is none of independent decisions."""
    instead = 'Test the features by wald_test(full, [...], kind="cluster").'
    if fit.weighting != "decision":
        raise ValueError(f"with individuals weighing the same there is no likelihood ratio test. {instead}")
    if fit.clusters_given:
        raise ValueError(f"the likelihood ratio takes decisions for independent, but clusters were named. {instead}")
    if not fit.weights_are_counts:
        raise ValueError(f"with weights that are no whole numbers there is no likelihood ratio test. {instead}")
