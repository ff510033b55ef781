"""`ChoiceSets` into the standardized design of a linear model of log-odds; what cannot be fitted is named."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy import linalg

from mimic.contrasts import has_contrasts
from mimic.probability import grouped_log_softmax
from mimic.schema import ChoiceSets

__all__ = [
    "CollinearityError",
    "ConstantFeatureError",
    "Design",
    "FeatureError",
    "Moments",
    "SeparationError",
    "build_design",
    "format_sum",
    "refuse_separated",
]

_BLOCK_ROWS = 1 << 14  # fits into the processor's cache, and bounds the copies made in an iteration
_SMALLEST_RESIDUAL = 1e-7  # of a standardized feature; its square must stay far from float64's 2e-16 in the Hessian
_SEPARATED = 1e-6  # what a separating direction may lose in one row, as a share of what it gains in another
_AGAINST_SEPARATION = "Leave it out, make it coarser, or restrict the choices to those that it does not decide about."


class FeatureError(ValueError):
    """Features with which the likelihood has no single maximum.

    Parameters
    ----------
    message
        What is wrong with which feature.
    features
        Those to leave out, after which the others can be fitted as far as this fault goes.
    """

    def __init__(self, message: str, features: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.features = tuple(features)


class ConstantFeatureError(FeatureError):
    """Features that are the same for all choices of each decision: they cancel and have no coefficient."""


class CollinearityError(FeatureError):
    """Features that are linear combinations of others within decisions; `features` are one of each group."""


class SeparationError(FeatureError):
    """Features that tell the selected choices from all others, so that their coefficients run to infinity.

    Where several separate only together, `features` are all of them; fewer may do.
    """


Moments = tuple[float, np.ndarray, np.ndarray]


@dataclass(frozen=True, eq=False)
class Design:
    """Standardized features of the decisions that carry information. Made by `build_design`.

    Parameters
    ----------
    names
        Of the features.
    scale
        (feature,): physical units in one unit of `x`.
    x
        (row, feature): centered within decisions, with a root mean square of 1.
    shift
        (row,), nats: the offset of the log-odds.
    offsets, selected
        (decision + 1,) and (decision,), rows of `x`.
    weight
        (decision,), over their mean `unit`, so that a tolerance means the same for any weights.
    used
        (decision of the choice sets,), bool: which of them these are.
    """

    names: tuple[str, ...]
    scale: np.ndarray
    x: np.ndarray
    shift: np.ndarray
    offsets: np.ndarray
    selected: np.ndarray
    weight: np.ndarray
    unit: float
    used: np.ndarray

    def moments(self, coef: np.ndarray) -> Moments:
        """Log-likelihood, its gradient (feature,) and its negative Hessian (feature, feature)."""
        value, gradient, hessian = 0.0, np.zeros(len(coef)), np.zeros((len(coef), len(coef)))
        for block, weight, log_p, p, mean in self._blocks(coef):
            sizes = np.diff(block.offsets)
            # centered before it is squared: the difference of two second moments would cancel for p near 0 or 1
            spread = block.x - np.repeat(mean, sizes, axis=0)
            value += float((weight * log_p[block.selected]).sum())
            gradient += np.einsum("d,dj->j", weight, spread[block.selected])
            # not by BLAS, whose bits depend on its threads
            hessian += np.einsum("ri,rj->ij", spread * (p * np.repeat(weight, sizes))[:, None], spread)
        return value, gradient, hessian

    def scores(self, coef: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """ln p of the selected choices, (decision,), and its gradient, (decision, feature); both unweighted."""
        log_probability, scores = np.empty(len(self.selected)), np.empty((len(self.selected), len(coef)))
        first = 0
        for block, weight, log_p, _, mean in self._blocks(coef):
            there = slice(first, first := first + len(weight))
            log_probability[there] = log_p[block.selected]
            scores[there] = block.x[block.selected] - mean
        return log_probability, scores

    def _blocks(self, coef: np.ndarray) -> Iterator[tuple[_Block, np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
        """Rows, weights, ln p and p (row,), and expected features (decision, feature) of some decisions at a time."""
        cuts = np.searchsorted(self.offsets, np.arange(0, len(self.x), _BLOCK_ROWS))
        for a, b in pairwise(np.unique([*cuts, len(self.selected)])):
            first, last = self.offsets[a], self.offsets[b]
            block = _Block(self.x[first:last], self.offsets[a : b + 1] - first, self.selected[a:b] - first)
            log_p = grouped_log_softmax(np.einsum("rj,j->r", block.x, coef) + self.shift[first:last], block.offsets)
            p = np.exp(log_p)
            mean = np.add.reduceat(p[:, None] * block.x, block.offsets[:-1])
            yield block, self.weight[a:b], log_p, p, mean


@dataclass(frozen=True, eq=False)
class _Block:
    """A stretch of decisions, its rows counted from 0."""

    x: np.ndarray  # (row, feature)
    offsets: np.ndarray  # (decision + 1,)
    selected: np.ndarray  # (decision,)


def build_design(
    cs: ChoiceSets, names: tuple[str, ...], values: Sequence[np.ndarray], weight: np.ndarray, shift: np.ndarray
) -> Design:
    """The design of the decisions with contrasts and a weight above 0.

    Parameters
    ----------
    names, values
        Of the features; (row,) each, finite, of any float type: its rounding decides what counts as equal.
    weight
        (decision,).
    shift
        (row,), nats.

    Raises
    ------
    ValueError
        If no decision is left.
    ConstantFeatureError, CollinearityError, SeparationError
        ValueErrors that name features, checked in this order. Of separation only that by a single feature is
        found here, exactly; see `refuse_separated`.
    """
    used = has_contrasts(cs) & (weight > 0)
    if not used.any():
        raise ValueError("expected decisions with a known selection among two or more choices; got none.")
    rows = np.repeat(used, cs.n_choices)
    offsets = np.concatenate([[0], np.cumsum(cs.n_choices[used])])
    selected = offsets[:-1] + (cs.selected - cs.offsets[:-1])[used]
    x, scale, noise = np.empty((offsets[-1], len(names))), np.ones(len(names)), np.zeros(len(names))
    constant: list[str] = []
    separating: dict[str, str] = {}
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
        separating |= _separates(name, raw, offsets, selected)
    _refuse_constant(constant)
    _refuse_collinear(names, scale, noise, x)
    if separating:
        told = "; ".join(separating.values())
        raise SeparationError(f"the likelihood has no maximum: {told}. {_AGAINST_SEPARATION}", list(separating))
    unit = float(weight[used].mean())
    return Design(names, scale, x, shift[rows], offsets, selected, weight[used] / unit, unit, used)


def refuse_separated(design: Design, direction: np.ndarray) -> None:
    """Raise SeparationError if along a direction the selected choices gain in some decisions and lose in none."""
    gain = np.einsum("rj,j->r", design.x, direction)
    gain = np.repeat(gain[design.selected], np.diff(design.offsets)) - gain
    if gain.max() <= 0 or gain.min() < -_SEPARATED * gain.max():
        return
    which = np.flatnonzero(np.abs(direction) > 1e-3 * np.abs(direction).max())
    raw = direction[which] / design.scale[which]
    names = [design.names[j] for j in which]
    largest = format_sum(list(zip(names, raw / np.abs(raw).max(), strict=True)))
    raise SeparationError(
        f"the likelihood has no maximum: {', '.join(names)} separate{'s' if len(names) == 1 else ' together'}, as the "
        f"selected choice always has the largest {largest} of its decision, to 1e-6 of the range (look for fill "
        f"values too). {_AGAINST_SEPARATION}",
        names,
    )


def format_sum(terms: Sequence[tuple[str, float]]) -> str:
    """A linear combination in words.

    Example
    -------
    >>> format_sum([("a", 0.5), ("b", -1.0)])
    '0.5 a -1 b'
    """
    return " ".join(f"{factor:+.4g} {name}" for name, factor in terms).removeprefix("+")


def _centered(raw: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Values less their mean over the decision: (row,). Exactly 0 where all choices have the same value."""
    sizes = np.diff(offsets)
    x = raw - np.repeat(raw[offsets[:-1]], sizes)
    return x - np.repeat(np.add.reduceat(x, offsets[:-1]) / sizes, sizes)


def _refuse_constant(constant: Sequence[str]) -> None:
    """Raise ConstantFeatureError if there is any such feature."""
    if constant:
        raise ConstantFeatureError(
            f"features must vary within decisions; {', '.join(constant)} {'does' if len(constant) == 1 else 'do'} not. "
            "What is the same for all choices of a decision cancels in the probability and has no coefficient: "
            "leave it out, or let it interact with a feature that varies.",
            constant,
        )


def _refuse_collinear(names: tuple[str, ...], scale: np.ndarray, noise: np.ndarray, x: np.ndarray) -> None:
    """Raise CollinearityError that names the features that are linear combinations of others, and of which."""
    r = np.zeros((0, len(names)))
    for first in range(0, len(x), _BLOCK_ROWS):
        r = np.asarray(np.linalg.qr(np.vstack([r, x[first : first + _BLOCK_ROWS]]), mode="r"))
    r /= np.sqrt(len(x))  # columns of length 1
    basis: list[int] = []
    told: dict[str, str] = {}
    for k in linalg.qr(r, mode="r", pivoting=True)[-1] if len(names) > 1 else []:
        share = linalg.lstsq(r[:, basis], r[:, k])[0] if basis else np.zeros(0)
        # what rounding of this feature and of those that it is made of can leave
        rounding = np.sqrt(noise[k] ** 2 + np.sum((share * noise[basis]) ** 2))
        if not basis or np.linalg.norm(r[:, k] - r[:, basis] @ share) > max(_SMALLEST_RESIDUAL, rounding):
            basis.append(k)
            continue
        real = [(b, s) for b, s in zip(basis, share, strict=True) if abs(s) > max(1e-5, 10 * rounding)]
        told[names[k]] = f"{names[k]} = {format_sum([(names[b], s * scale[k] / scale[b]) for b, s in real])}"
    if told:
        raise CollinearityError(
            f"features must be linearly independent within decisions; got {'; '.join(told.values())} "
            "(up to a constant in each decision). Leave one of each group out.",
            list(told),
        )


def _separates(name: str, raw: np.ndarray, offsets: np.ndarray, selected: np.ndarray) -> dict[str, str]:
    """Feature -> in words, that it alone separates; empty if it does not."""
    gain = np.repeat(raw[selected], np.diff(offsets)) - raw
    if gain.min() < 0 < gain.max():
        return {}
    extreme, end = ("largest", "plus") if gain.min() >= 0 else ("smallest", "minus")
    return {name: f"{name} separates, as the selected choice always has the {extreme} of its decision ({end} infinity)"}
