"""Tentative distributions and the coefficients of a step selection into updated distributions of steps and turns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mimic.movement_kernels import ExponentialSteps, GammaSteps, Kernel, LognormalSteps, VonMisesTurns

__all__ = ["Updated", "updated_step_length", "updated_turn_angle"]

_NO_TERMS = {"step": 0.0, "log_step": 0.0, "step_squared": 0.0, "log_step_squared": 0.0}
_ON_A_GRID: dict[frozenset[str], type[Kernel]] = {
    frozenset(["step"]): GammaSteps,
    frozenset(["step", "log_step"]): GammaSteps,
    frozenset(["log_step", "log_step_squared"]): LognormalSteps,
}


@dataclass(frozen=True, eq=False)
class Updated:
    """An updated distribution and the standard errors of its parameters.

    Parameters
    ----------
    kernel
        The distribution.
    se
        Parameter (and "mean" of a step length) -> standard error by the delta method; NaN without a
        covariance, and for what the coefficients leave as it was.
    """

    kernel: Kernel
    se: dict[str, float]


def updated_step_length(
    tentative: Kernel | None, coef: Mapping[str, float], covariance: np.ndarray | None = None
) -> Updated:
    """The distribution of step lengths without habitat, from a tentative one and the coefficients of a step selection.

    Parameters
    ----------
    tentative
        The distribution from which the alternatives were drawn. None where the choices are all cells of a
        grid of equal areas: no distribution was drawn from, and l counts how many cells there are (Notes).
    coef
        Term -> coefficient: for a gamma `step`, `log_step` or both; exponential `step`, or both (a gamma
        results); half-normal `step_squared`; lognormal `log_step`, `log_step_squared` or both. On a grid:
        `step`, alone or with `log_step` (gamma), or `log_step` with `log_step_squared` (lognormal).
    covariance
        (term, term), of the coefficients in the order of `coef`.

    Raises
    ------
    ValueError
        If the family does not take the terms, or the updated distribution is improper; the message says by
        which parameter and what it means.

    Notes
    -----
    Alternatives drawn with density g(l) and odds proportional to exp(beta . t(l)) make steps of density f(l)
    proportional to g(l) exp(beta . t(l)): at equal habitat, the probability that a step is the used one is its
    odds times how often such a step is among the choices. With g of an exponential family in the same terms,
    ln g(l) = eta . t(l) + constant, the product is of that family and its parameters are eta + beta:

    ============  =================================================  =======================================
    family        eta                                                updated
    ============  =================================================  =======================================
    gamma         `log_step` a - 1, `step` -b                        a + beta_log, b - beta_step
    exponential   `step` -b                                          b - beta_step
    half-normal   `step_squared` -1 / (2 s^2)                        s'^-2 = s^-2 - 2 beta_squared
    lognormal     `log_step` m / s^2 - 1, `log_step_squared`         s'^-2 = s^-2 - 2 beta_log_squared,
                  -1 / (2 s^2)                                       m' = s'^2 (m / s^2 + beta_log)
    ============  =================================================  =======================================

    Where choices are all cells of a grid, odds exp(beta . t(l)) belong to a cell. Cells of equal area at a
    distance of l to l + dl fill a ring of area 2 pi l dl, so that f(l) is proportional to l exp(beta . t(l)):
    the plane plays the part of g with eta 1 for `log_step`. A gamma then has shape 2 + beta_log and rate
    -beta_step. Staying is a choice of its own there, with a coefficient of its own, and the distribution is
    that of moves, written as if the choices went on beyond the largest distance.

    The tentative distribution is taken as known: were another one drawn from, the coefficients would differ
    by just that much. Standard errors are sqrt(J C J'), J the derivatives of the parameters by eta.

    References
    ----------
    Avgar, Potts, Lewis & Boyce 2016, doi:10.1111/2041-210X.12528. Fieberg, Signer, Smith & Avgar 2021,
    doi:10.1111/1365-2656.13441.

    Example
    -------
    >>> updated_step_length(GammaSteps(2.0, 0.5), {"step": 0.1, "log_step": -0.5}).kernel
    GammaSteps(shape=1.5, rate=0.4)
    >>> updated_step_length(None, {"step": -0.5}).kernel
    GammaSteps(shape=2.0, rate=0.5)
    """
    if tentative is not None and "cos_turn" in tentative.natural():
        raise ValueError(f"expected a distribution of step lengths; got one of turns, {tentative}.")
    eta = {"log_step": 1.0} if tentative is None else tentative.natural()
    family = _family(tentative, frozenset(coef))
    return _updated(family, {**_NO_TERMS, **eta}, coef, covariance)


def updated_turn_angle(
    tentative: Kernel | None, coef: Mapping[str, float], covariance: np.ndarray | None = None
) -> Updated:
    """The distribution of turns without habitat, from a tentative one and the coefficients of a step selection.

    Parameters
    ----------
    tentative
        A von Mises or uniform distribution from which turns of the alternatives were drawn. None where the
        choices are all cells of a grid, which lie in all directions alike: the same as uniform.
    coef
        Term -> coefficient, of `cos_turn`, `sin_turn` or both.
    covariance
        (term, term), of the coefficients in the order of `coef`.

    Raises
    ------
    ValueError
        If a term is another one, or the tentative distribution is of step lengths.

    Notes
    -----
    As in `updated_step_length`, with ln g = kappa cos(turn - mu) + constant, that is eta kappa cos(mu) for
    `cos_turn` and kappa sin(mu) for `sin_turn`. Of a tentative mean of 0 and `cos_turn` alone the updated
    concentration is kappa + beta. Where that is negative turning back is favored: as exp(-k cos(turn)) =
    exp(k cos(turn - pi)), the result has mean pi and concentration |kappa + beta|. Its standard error, that
    of the coefficient, means little once kappa is not several of them away from 0.

    Example
    -------
    >>> updated_turn_angle(VonMisesTurns(0.5), {"cos_turn": -0.75}).kernel
    VonMisesTurns(kappa=0.25, mean_rad=3.141592653589793)
    """
    eta = VonMisesTurns(0.0).natural() if tentative is None else tentative.natural()
    unknown = [name for name in coef if name not in ("cos_turn", "sin_turn")]
    if "cos_turn" not in eta or unknown:
        what = ", ".join(unknown) or f"the step lengths of {type(tentative).__name__}"
        raise ValueError(f"turns are updated by the coefficients of cos_turn and sin_turn; got {what}.")
    return _updated(VonMisesTurns, eta, coef, covariance)


def _family(tentative: Kernel | None, terms: frozenset[str]) -> type[Kernel]:
    """The family of the product, or ValueError that says which terms would have one."""
    if tentative is None:
        families, what, takes = _ON_A_GRID, "all cells of a grid", "step, step and log_step, or both logarithms"
    else:
        own = frozenset(tentative.natural())
        families, what, takes = {terms & own: type(tentative)}, type(tentative).__name__, " and ".join(sorted(own))
        if isinstance(tentative, ExponentialSteps):
            families, takes = {**families, frozenset(["step", "log_step"]): GammaSteps}, "step, alone or with log_step"
    if terms not in families:
        raise ValueError(
            f"step lengths from {what} cannot be updated by {', '.join(sorted(terms)) or 'no coefficient'}: the "
            f"product is of no known family. Fit the coefficients of {takes}."
        )
    return families[terms]


def _updated(
    family: type[Kernel], eta: Mapping[str, float], coef: Mapping[str, float], covariance: np.ndarray | None
) -> Updated:
    """The kernel of a family with natural parameters eta + coef."""
    kernel = family.from_natural({term: float(value + coef.get(term, 0.0)) for term, value in eta.items()})
    return Updated(kernel, _delta(kernel, list(coef), covariance))


def _delta(kernel: Kernel, terms: list[str], covariance: np.ndarray | None) -> dict[str, float]:
    """Standard errors of the parameters (and the mean) by the delta method."""
    gradients = kernel.gradients()
    if covariance is None:
        return dict.fromkeys([*kernel.parameters, *gradients], np.nan)
    c = np.asarray(covariance, dtype=np.float64)
    if c.shape != (len(terms), len(terms)):
        raise ValueError(f"covariance must have shape (term, term) = ({len(terms)}, {len(terms)}); got {c.shape}.")
    se = dict.fromkeys(kernel.parameters, np.nan)
    for name, gradient in gradients.items():
        j = np.array([gradient.get(term, 0.0) for term in terms])
        variance = float(np.sum(j[:, None] * c * j[None, :]))
        se[name] = np.sqrt(variance) if variance > 0 else np.nan
    return se
