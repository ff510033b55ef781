"""`ChoiceSets` into the classical linear model of log-odds: conditional logit by exact Newton (NumPy and SciPy only)."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd
from scipy import linalg, special

from mimic.contrasts import Weighting, has_contrasts
from mimic.probability import grouped_log_softmax
from mimic.schema import ChoiceSets

__all__ = ["ConditionalLogit", "fit_conditional_logit"]

_log = logging.getLogger(__name__)

_BLOCK_ROWS = 1 << 14  # fits into the processor's cache, and bounds the copies made in an iteration
_SMALLEST_RESIDUAL = 1e-7  # of a standardized feature; its square must stay far from float64's 2e-16 in the Hessian
_SEPARATED = 1e-6  # what a separating direction may lose in one row, as a share of what it gains in another
_AGAINST_SEPARATION = "Leave it out, make it coarser, or restrict the choices to those that it does not decide about."


@dataclass(frozen=True, eq=False)
class ConditionalLogit:
    """A linear model of log-odds, phi = sum_j coef_j x_j, at the maximum of its likelihood.

    Parameters
    ----------
    features, coef
        Names, and (feature,), nats per physical unit of the feature.
    covariance
        (feature, feature): inverse of the negative Hessian of the weighted log-likelihood. It takes
        decisions for independent and weights for counts.
    log_likelihood
        Sum of weight x ln p(selected), nats. Over the sum of weights it is D; without weights GMP is
        exp(log_likelihood / n_decisions).
    null_log_likelihood
        The same with all coefficients 0: the offset alone or, without one, every choice equally likely.
    n_decisions, n_rows
        Decisions with a known selection and a weight above 0, and their choices.
    iterations, converged
        Newton steps taken, and whether the last of them was within the tolerance.
    """

    features: tuple[str, ...]
    coef: np.ndarray
    covariance: np.ndarray
    log_likelihood: float
    null_log_likelihood: float
    n_decisions: int
    n_rows: int
    iterations: int
    converged: bool

    @property
    def se(self) -> np.ndarray:
        """Standard errors, from the diagonal of the covariance: (feature,), in the units of `coef`."""
        return np.sqrt(np.diag(self.covariance))

    def log_odds(self, cs: ChoiceSets, *, columns: Mapping[str, np.ndarray] | None = None) -> np.ndarray:
        """Log-odds of every choice: (row,), float64, nats. An offset of the fit is not in it; add it where it counts.

        `columns` as in the fit. Raises ValueError if a feature is unknown, not finite or of another shape.
        """
        phi = np.zeros(cs.n_rows)
        for coef, values in zip(self.coef, _columns(cs, self.features, columns), strict=True):
            phi += coef * values  # float64, as `coef` is a float64 scalar of NumPy
        return phi

    def summary(self) -> pd.DataFrame:
        """One row a feature (the index): coef, se, z = coef / se and p, the two-sided probability of a larger |z|."""
        z = self.coef / self.se
        return pd.DataFrame(
            {"coef": self.coef, "se": self.se, "z": z, "p": special.erfc(np.abs(z) / np.sqrt(2))},
            index=pd.Index(self.features, name="feature", dtype="str"),
        )


def fit_conditional_logit(
    cs: ChoiceSets,
    features: Sequence[str],
    *,
    weighting: Weighting = "decision",
    weights: np.ndarray | None = None,
    offset: np.ndarray | None = None,
    columns: Mapping[str, np.ndarray] | None = None,
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
        D_i is then the sum of the weights of individual i, and the total stays the sum of `weights`.
    offset
        (row,), nats: a known part of the log-odds, with coefficient 1.
    columns
        Feature -> (row,), float64: values in place of the float32 features, or beside them. Entries that
        are no feature of the model are not read.
    max_iterations
        Where it is reached, `converged` is False and the log has a warning.
    tolerance
        The fit has converged when a Newton step is at most this long, in standard errors.

    Raises
    ------
    ValueError
        If no decision has a known selection among several choices; a feature is unknown, repeated, not
        finite, constant within every decision, or within decisions a linear combination of others;
        features separate the selected choices from the others, so that the likelihood has no maximum;
        weights are negative; a shape is wrong.

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
    values = _columns(cs, names, columns)
    weight = _weights(cs, weights, weighting)
    shift = np.zeros(cs.n_rows) if offset is None else _shaped("offset", offset, "row", cs.n_rows)
    design = _build_design(cs, names, values, weight, shift)
    coef, moments, iterations, converged = _newton(design, max_iterations, tolerance)
    counted = weight > 0
    return ConditionalLogit(
        features=names,
        coef=coef / design.scale,
        covariance=_inverse(design, moments, coef) / np.outer(design.scale, design.scale) / design.unit,
        log_likelihood=moments[0] * design.unit,
        null_log_likelihood=design.moments(np.zeros(len(names)))[0] * design.unit,
        n_decisions=int(counted.sum()),
        n_rows=int(cs.n_choices[counted].sum()),
        iterations=iterations,
        converged=converged,
    )


def _shaped(name: str, values: np.ndarray, axis: str, length: int) -> np.ndarray:
    """Values as float64, checked to be finite and of one axis."""
    array = np.asarray(values, dtype=np.float64)
    if array.shape != (length,) or not np.isfinite(array).all():
        what = f"shape {array.shape}" if array.shape != (length,) else "NaN or infinity"
        raise ValueError(f"{name} must be finite and have shape ({axis},) = ({length},); got {what}.")
    return array


def _columns(cs: ChoiceSets, names: Sequence[str], columns: Mapping[str, np.ndarray] | None) -> list[np.ndarray]:
    """Values of each feature, in the type of float that they came in: (row,) each."""
    known = {**cs.features, **{name: np.asarray(values) for name, values in (columns or {}).items()}}
    missing = [name for name in names if name not in known]
    if missing:
        raise ValueError(f"unknown feature {', '.join(missing)}; known are {', '.join(known)}.")
    found = {name: known[name] if known[name].dtype.kind == "f" else known[name].astype(np.float64) for name in names}
    wrong = [f"{name} {values.shape}" for name, values in found.items() if values.shape != (cs.n_rows,)]
    if wrong:
        raise ValueError(f"columns must have shape (row,) = ({cs.n_rows},); got {', '.join(wrong)}.")
    bad = {name: np.count_nonzero(~np.isfinite(values)) for name, values in found.items()}
    if any(bad.values()):
        told = [f"{name} ({n} of {cs.n_rows} rows)" for name, n in bad.items() if n]
        raise ValueError(
            f"features must be finite; got NaN or infinity in {', '.join(told)}. "
            "Drop these choices or fill the covariate first."
        )
    return list(found.values())


def _weights(cs: ChoiceSets, weights: np.ndarray | None, weighting: Weighting) -> np.ndarray:
    """Weight of each decision, 0 where the selection is unknown: (decision,)."""
    if weighting not in ("individual", "decision"):
        raise ValueError(f'weighting must be "individual" or "decision"; got {weighting!r}.')
    given = np.ones(cs.n_decisions) if weights is None else _shaped("weights", weights, "decision", cs.n_decisions)
    if (given < 0).any():
        raise ValueError(f"weights must be 0 or more; {np.count_nonzero(given < 0)} are negative.")
    counts = np.where(cs.selected >= 0, given, 0.0)
    if weighting == "decision" or not counts.any():
        return counts
    codes = cs.individual_codes
    of_individual = np.bincount(codes, counts)
    mean = counts.sum() / np.count_nonzero(of_individual)
    return counts / np.where(of_individual > 0, of_individual, 1.0)[codes] * mean


_Moments = tuple[float, np.ndarray, np.ndarray]


@dataclass(frozen=True, eq=False)
class _Design:
    """Standardized features of the decisions that carry information."""

    names: tuple[str, ...]
    scale: np.ndarray  # (feature,), physical units
    x: np.ndarray  # (row, feature)
    shift: np.ndarray  # (row,), the offset of the log-odds
    offsets: np.ndarray  # (decision + 1,)
    selected: np.ndarray  # (decision,), rows of x
    weight: np.ndarray  # (decision,), over their mean `unit`, so that the tolerance means the same for any
    unit: float

    def moments(self, coef: np.ndarray) -> _Moments:
        """Log-likelihood, its gradient (feature,) and its negative Hessian (feature, feature)."""
        value, gradient, hessian = 0.0, np.zeros(len(coef)), np.zeros((len(coef), len(coef)))
        cuts = np.searchsorted(self.offsets, np.arange(0, len(self.x), _BLOCK_ROWS))
        for a, b in pairwise(np.unique([*cuts, len(self.selected)])):
            first, last = self.offsets[a], self.offsets[b]
            x, weight, offsets = self.x[first:last], self.weight[a:b], self.offsets[a : b + 1] - first
            selected, sizes = self.selected[a:b] - first, np.diff(offsets)
            log_p = grouped_log_softmax(x @ coef + self.shift[first:last], offsets)
            p = np.exp(log_p)
            # centered before it is squared: the difference of two second moments would cancel for p near 0 or 1
            spread = x - np.repeat(np.add.reduceat(p[:, None] * x, offsets[:-1]), sizes, axis=0)
            value += float(weight @ log_p[selected])
            gradient += weight @ spread[selected]
            hessian += (spread * (p * np.repeat(weight, sizes))[:, None]).T @ spread
        return value, gradient, hessian


def _build_design(
    cs: ChoiceSets, names: tuple[str, ...], values: list[np.ndarray], weight: np.ndarray, shift: np.ndarray
) -> _Design:
    """Center, scale and check the features."""
    used = has_contrasts(cs) & (weight > 0)
    if not used.any():
        raise ValueError("expected decisions with a known selection among two or more choices; got none.")
    rows = np.repeat(used, cs.n_choices)
    offsets = np.concatenate([[0], np.cumsum(cs.n_choices[used])])
    selected = offsets[:-1] + (cs.selected - cs.offsets[:-1])[used]
    x, scale, noise = np.empty((offsets[-1], len(names))), np.ones(len(names)), np.zeros(len(names))
    constant, separating = [], []
    for j, (name, column) in enumerate(zip(names, values, strict=True)):
        raw, rounding = column[rows].astype(np.float64), float(np.finfo(column.dtype).eps)
        centered = _centered(raw, offsets)
        if np.abs(centered).max() <= 4 * rounding * np.abs(raw).max():
            constant.append(name)
            continue
        scale[j] = np.sqrt(np.mean(centered**2))
        # equal values stay equal when they are rounded: only choices that differ carry the noise of rounding
        noise[j] = rounding * np.sqrt(np.mean(np.where(centered != 0, raw, 0.0) ** 2)) / scale[j]
        x[:, j] = centered / scale[j]
        separating += _separates(name, raw, offsets, selected)
    if constant:
        raise ValueError(
            f"features must vary within decisions; {', '.join(constant)} {'does' if len(constant) == 1 else 'do'} not. "
            "What is the same for all choices of a decision cancels in the probability and has no coefficient: "
            "leave it out, or let it interact with a feature that varies."
        )
    _refuse_collinear(names, scale, noise, x)
    if separating:
        raise ValueError(f"the likelihood has no maximum: {'; '.join(separating)}. {_AGAINST_SEPARATION}")
    unit = float(weight[used].mean())
    return _Design(names, scale, x, shift[rows], offsets, selected, weight[used] / unit, unit)


def _centered(raw: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Values less their mean over the decision: (row,). Exactly 0 where all choices have the same value."""
    sizes = np.diff(offsets)
    x = raw - np.repeat(raw[offsets[:-1]], sizes)
    return x - np.repeat(np.add.reduceat(x, offsets[:-1]) / sizes, sizes)


def _refuse_collinear(names: tuple[str, ...], scale: np.ndarray, noise: np.ndarray, x: np.ndarray) -> None:
    """Raise ValueError that names the features that are linear combinations of others, and of which."""
    r = np.zeros((0, len(names)))
    for first in range(0, len(x), _BLOCK_ROWS):
        r = np.asarray(np.linalg.qr(np.vstack([r, x[first : first + _BLOCK_ROWS]]), mode="r"))
    r /= np.sqrt(len(x))  # columns of length 1
    basis: list[int] = []
    told = []
    for k in linalg.qr(r, mode="r", pivoting=True)[-1] if len(names) > 1 else []:
        share = linalg.lstsq(r[:, basis], r[:, k])[0] if basis else np.zeros(0)
        # what rounding of this feature and of those that it is made of can leave
        rounding = np.sqrt(noise[k] ** 2 + np.sum((share * noise[basis]) ** 2))
        if not basis or np.linalg.norm(r[:, k] - r[:, basis] @ share) > max(_SMALLEST_RESIDUAL, rounding):
            basis.append(k)
            continue
        real = [(b, s) for b, s in zip(basis, share, strict=True) if abs(s) > max(1e-5, 10 * rounding)]
        told.append(f"{names[k]} = {_sum([(names[b], s * scale[k] / scale[b]) for b, s in real])}")
    if told:
        raise ValueError(
            f"features must be linearly independent within decisions; got {'; '.join(told)} "
            "(up to a constant in each decision). Leave one of each group out."
        )


def _sum(terms: Sequence[tuple[str, float]]) -> str:
    """A linear combination in words."""
    return " ".join(f"{factor:+.4g} {name}" for name, factor in terms).removeprefix("+")


def _separates(name: str, raw: np.ndarray, offsets: np.ndarray, selected: np.ndarray) -> list[str]:
    """In words, that a feature alone separates; empty if it does not."""
    gain = np.repeat(raw[selected], np.diff(offsets)) - raw
    if gain.min() < 0 < gain.max():
        return []
    extreme, end = ("largest", "plus") if gain.min() >= 0 else ("smallest", "minus")
    return [f"{name} separates, as the selected choice always has the {extreme} of its decision ({end} infinity)"]


def _refuse_separated(design: _Design, direction: np.ndarray) -> None:
    """Raise ValueError if along a direction the selected choices gain in some decisions and lose in none."""
    gain = design.x @ direction
    gain = np.repeat(gain[design.selected], np.diff(design.offsets)) - gain
    if gain.max() <= 0 or gain.min() < -_SEPARATED * gain.max():
        return
    which = np.flatnonzero(np.abs(direction) > 1e-3 * np.abs(direction).max())
    raw = direction[which] / design.scale[which]
    names = [design.names[j] for j in which]
    raise ValueError(
        f"the likelihood has no maximum: {', '.join(names)} separate{'s' if len(names) == 1 else ' together'}, as the "
        f"selected choice always has the largest {_sum(list(zip(names, raw / np.abs(raw).max(), strict=True)))} of "
        f"its decision, to 1e-6 of the range (look for fill values too). {_AGAINST_SEPARATION}"
    )


def _newton(design: _Design, max_iterations: int, tolerance: float) -> tuple[np.ndarray, _Moments, int, bool]:
    """Standardized coefficients, the moments there, steps taken, and whether the last was within the tolerance."""
    coef = np.zeros(len(design.names))
    now, length = design.moments(coef), np.inf
    for iteration in range(1, max_iterations + 1):
        step = _inverse(design, now, coef) @ now[1]
        before, length = length, float(np.sqrt(max(now[1] @ step, 0.0)))
        # near a maximum the length squares with each step; along a separating direction it never does
        if iteration > 4 and length > 0.1 * before:
            _refuse_separated(design, step)
        there, lowest = design.moments(coef + step), now[0] - 1e-13 * abs(now[0])  # less the rounding of the sum
        while there[0] < lowest and np.any(coef + step != coef):
            step = step / 2
            there = design.moments(coef + step)
        coef, now = coef + step, there
        if length <= tolerance:
            return coef, now, iteration, True
    _log.warning("no convergence in %d Newton steps; the last was %.3g standard errors", max_iterations, length)
    return coef, now, max_iterations, False


def _inverse(design: _Design, now: _Moments, coef: np.ndarray) -> np.ndarray:
    """The inverse of the negative Hessian, symmetric to the bit: (feature, feature)."""
    try:
        root = np.linalg.inv(np.linalg.cholesky(now[2]))
        return root.T @ root
    except np.linalg.LinAlgError:
        _refuse_separated(design, coef)
        raise ValueError(
            "the likelihood is too flat to have a maximum in float64; the coefficients have reached "
            f"{_sum(list(zip(design.names, coef / design.scale, strict=True)))}. Look for features that decide alone."
        ) from None
