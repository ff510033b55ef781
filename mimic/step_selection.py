"""Choice sets of steps into habitat selection and movement at once: integrated step selection.

Two designs are known. Of **random steps** the alternatives were drawn from a tentative distribution of lengths and
turns; `integrated_step_selection` corrects it. Of **cells** every cell within reach is a choice and nothing was drawn;
`cell_step_selection` reads the movement off the features `distance_km`, `log_distance`, `turn_cos` and `stay`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from mimic.conditional_logit import ConditionalLogit, fit_conditional_logit
from mimic.contrasts import Weighting
from mimic.covariance import CovarianceKind, quantile
from mimic.kernel_updates import Updated, updated_step_length, updated_turn_angle
from mimic.movement_kernels import (
    ExponentialSteps,
    GammaSteps,
    HalfNormalSteps,
    Kernel,
    LognormalSteps,
    VonMisesTurns,
    check_steps,
    check_turns,
)
from mimic.schema import ChoiceSets, examples, require_columns

__all__ = ["Family", "StepSelection", "cell_step_selection", "integrated_step_selection", "step_columns"]

Family = Literal["gamma", "exponential", "half_normal", "lognormal"]

_Kind = type[GammaSteps | ExponentialSteps | HalfNormalSteps | LognormalSteps | VonMisesTurns]
_STEPS: dict[str, _Kind] = {
    "gamma": GammaSteps,
    "exponential": ExponentialSteps,
    "half_normal": HalfNormalSteps,
    "lognormal": LognormalSteps,
}
_TERMS = {
    "gamma": ("step", "log_step"),
    "exponential": ("step",),
    "half_normal": ("step_squared",),
    "lognormal": ("log_step", "log_step_squared"),
}


@dataclass(frozen=True, eq=False)
class StepSelection:
    """A conditional logit of habitat and movement, and the movement that follows from it.

    Parameters
    ----------
    fit
        The conditional logit. Its features are the habitat's and those of the movement.
    habitat
        The features of the habitat (of cells, `stay` too).
    terms
        Term of the distributions (`step`, `log_step`, `cos_turn`, ...) -> feature of the fit.
    errors, covariance
        The kind of errors that was asked for, and their (feature, feature); "cluster" is raised by G / (G - 1).
    tentative_step_length, tentative_turn_angle
        From which the alternatives were drawn; None of cells, and of turns where there are none.
    step_length, turn_angle
        The updated distributions: how the animals would move where all habitat is the same.
    sources
        The features that hold step lengths and turns; None where the fit uses features of the choice sets.
    """

    fit: ConditionalLogit
    habitat: tuple[str, ...]
    terms: Mapping[str, str]
    errors: CovarianceKind
    covariance: np.ndarray
    tentative_step_length: Kernel | None
    step_length: Updated
    tentative_turn_angle: Kernel | None
    turn_angle: Updated | None
    sources: tuple[str, str | None] | None

    @property
    def features(self) -> tuple[str, ...]:
        """The features of choice sets that `log_odds` reads."""
        if self.sources is None:
            return self.fit.features
        return (*self.habitat, *(name for name in self.sources if name is not None))

    def log_odds(self, cs: ChoiceSets, *, columns: Mapping[str, np.ndarray] | None = None) -> np.ndarray:
        """Log-odds of every choice: (row,), nats; `columns` and errors as in the fit.

        Of random steps they belong to choices drawn from the tentative distribution, and to no others.
        """
        if self.sources is None:
            return self.fit.log_odds(cs, columns=columns)
        made = step_columns(cs, *self.sources, terms=tuple(self.terms), columns=columns)
        return self.fit.log_odds(cs, columns={**(columns or {}), **made})

    def summary(self, *, level: float = 0.95) -> pd.DataFrame:
        """One row a coefficient and one a parameter of the updated distributions.

        Returns
        -------
        Columns part ("habitat", "movement", "step_length", "turn_angle"), name, estimate, se, low, high (of a
        normal interval or, for "cluster", one of Student's t) and tentative (the parameter before the update, NaN
        for coefficients and for cells).
        """
        se = np.sqrt(np.diag(self.covariance))
        rows = [
            ("habitat" if name in self.habitat else "movement", name, float(b), float(s), np.nan)
            for name, b, s in zip(self.fit.features, self.fit.coef, se, strict=True)
        ]
        rows += _parameters("step_length", self.step_length, self.tentative_step_length)
        if self.turn_angle is not None:
            rows += _parameters("turn_angle", self.turn_angle, self.tentative_turn_angle)
        table = pd.DataFrame(rows, columns=["part", "name", "estimate", "se", "tentative"])
        degrees = max(self.fit.n_clusters - 1, 1) if self.errors == "cluster" else np.inf
        half = quantile(0.5 + level / 2, degrees=degrees) * table["se"]
        table.insert(4, "low", table["estimate"] - half)
        table.insert(5, "high", table["estimate"] + half)
        return table


def integrated_step_selection(
    cs: ChoiceSets,
    habitat_features: Sequence[str],
    *,
    step_length: str,
    turn_angle: str | None = None,
    family: Family = "gamma",
    tentative: Kernel | Literal["alternatives", "used"] = "alternatives",
    tentative_turn: Kernel | Literal["alternatives", "used"] = "alternatives",
    weighting: Weighting = "decision",
    errors: CovarianceKind = "hessian",
    columns: Mapping[str, np.ndarray] | None = None,
) -> StepSelection:
    """Habitat selection and movement from used steps and random alternatives.

    Parameters
    ----------
    cs
        One decision a used step; its choices are the used step and random ones from the same place.
    habitat_features
        Features of the model beside the movement.
    step_length, turn_angle
        Features that hold the length of each step (any unit) and its turn, radians in [-pi, pi]. A turn may be
        NaN for all choices of a decision (the first of a track): it then tells nothing about turns.
    family
        Of the step lengths, which decides about the terms: "gamma" `step` and `log_step`, "exponential"
        `step`, "half_normal" `step_squared`, "lognormal" `log_step` and `log_step_squared`.
    tentative, tentative_turn
        What the alternatives were drawn from. "alternatives": a fit to the alternatives themselves, right
        whatever they were drawn from within the family. "used": a fit to the used steps, right only where the
        alternatives were drawn from such a fit to these very steps. Or the distribution itself.
    weighting, columns
        As in `fit_conditional_logit`.
    errors
        Which covariance the standard errors of updated parameters come from; "cluster" is by individual.

    Raises
    ------
    ValueError
        If lengths are negative or, where a logarithm is needed, 0; turns are no radians; a feature is unknown;
        the likelihood has no maximum; an updated distribution is improper.

    Notes
    -----
    The coefficients of the terms say how the animals differ from the alternatives; see
    `kernel_updates.updated_step_length` for how the two make the distribution. Dropping alternatives because of where
    they end (in the sea, off the raster) makes their lengths differ from those drawn: give `tentative` then.
    """
    terms = (*_TERMS[_known(family)], *(["cos_turn"] if turn_angle is not None else []))
    made = step_columns(cs, step_length, turn_angle, terms=terms, columns=columns)
    drawn = _drawn(cs, step_length, tentative, _STEPS[family], columns)
    turned = None if turn_angle is None else _drawn(cs, turn_angle, tentative_turn, VonMisesTurns, columns)
    fit = fit_conditional_logit(
        cs, [*habitat_features, *terms], weighting=weighting, columns={**(columns or {}), **made}
    )
    own = dict(zip(terms, terms, strict=True))
    return _selection(fit, tuple(habitat_features), own, errors, drawn, turned, (step_length, turn_angle))


def cell_step_selection(
    cs: ChoiceSets,
    habitat_features: Sequence[str] = (),
    *,
    logarithm: bool = True,
    turn: bool = True,
    weighting: Weighting = "decision",
    errors: CovarianceKind = "hessian",
) -> StepSelection:
    """Habitat selection and movement where all cells within reach are choices.

    Parameters
    ----------
    cs
        With the features `distance_km` and, where used, `log_distance` and `turn_cos`, as `build_choices` makes
        them. `stay` joins the habitat where a choice set holds the origin.
    logarithm
        Whether `log_distance` takes part. Without it the shape of the distribution is 2.
    turn
        Whether `turn_cos` takes part.
    weighting, errors
        As in `integrated_step_selection`.

    Raises
    ------
    ValueError
        If a feature is missing, the likelihood has no maximum, or an updated distribution is improper.

    Notes
    -----
    No distribution was drawn from. The step length of moves is a gamma of shape 2 + (coefficient of
    `log_distance`) and rate -(coefficient of `distance_km`), per km, the 2 because rings hold more cells the
    wider they are; see `kernel_updates.updated_step_length`. It is a statement about distances between centroids:
    within a few cells' width it says nothing of the shape, and beyond the largest distance it extrapolates.
    The areas of the cells of one choice set are taken as equal.
    """
    terms = {"step": "distance_km"}
    if logarithm:
        terms["log_step"] = "log_distance"
    if turn:
        terms["cos_turn"] = "turn_cos"
    require_columns(list(cs.features), [*habitat_features, *terms.values()], where="features")
    stays = "stay" in cs.features and "stay" not in habitat_features and cs.features["stay"].any()
    habitat = (*habitat_features, *(["stay"] if stays else []))
    fit = fit_conditional_logit(cs, [*habitat, *terms.values()], weighting=weighting)
    return _selection(fit, habitat, terms, errors, None, None, None)


def step_columns(
    cs: ChoiceSets,
    step_length: str,
    turn_angle: str | None = None,
    *,
    terms: Sequence[str] = ("step", "log_step", "cos_turn"),
    columns: Mapping[str, np.ndarray] | None = None,
) -> dict[str, np.ndarray]:
    """Terms of step lengths and turns as columns for `fit_conditional_logit`: term -> (row,), float64.

    Raises
    ------
    ValueError
        As `integrated_step_selection`; also if a turn is missing for some choices of a decision only.

    Example
    -------
    >>> decisions = pd.DataFrame({"individual": ["a"], "decision": [1]})
    >>> cs = ChoiceSets(decisions, [0, 2], [0, 1], [1], {"m": [1.0, 1.0], "turn": [0.0, np.pi]})
    >>> {name: values.round(6).tolist() for name, values in step_columns(cs, "m", "turn").items()}
    {'step': [1.0, 1.0], 'log_step': [0.0, 0.0], 'cos_turn': [1.0, -1.0]}
    """
    lengths = check_steps(_values(cs, step_length, columns), logarithm=any("log" in term for term in terms))
    made = {"step": lengths, "step_squared": lengths**2}
    if any("log" in term for term in terms):
        made |= {"log_step": np.log(lengths), "log_step_squared": np.log(lengths) ** 2}
    if turn_angle is not None:
        made["cos_turn"] = np.cos(_turns(cs, _values(cs, turn_angle, columns), turn_angle))
        made["cos_turn"][np.isnan(made["cos_turn"])] = 0.0
    return {term: made[term] for term in terms if term in made}


def _turns(cs: ChoiceSets, turns: np.ndarray, name: str) -> np.ndarray:
    """Turns (row,), radians, NaN where no choice of the decision has one."""
    absent = np.isnan(turns)
    n_absent = np.add.reduceat(absent.astype(np.int64), cs.offsets[:-1])
    partly = (n_absent > 0) & (n_absent < cs.n_choices)
    if partly.any():
        raise ValueError(
            f"{name} is missing for some choices, but not all, of {partly.sum():,} decisions (decision rows "
            f"{examples(np.flatnonzero(partly))}). A turn of the alternatives is needed wherever the used step has one."
        )
    check_turns(turns[~absent])
    return turns


def _values(cs: ChoiceSets, name: str, columns: Mapping[str, np.ndarray] | None) -> np.ndarray:
    known = {**cs.features, **(columns or {})}
    require_columns(list(known), [name], where="features")
    values = np.asarray(known[name], dtype=np.float64)
    if values.shape != (cs.n_rows,):
        raise ValueError(f"column {name} must have shape (row,) = ({cs.n_rows},); got {values.shape}.")
    return values


def _known(family: str) -> str:
    if family not in _TERMS:
        raise ValueError(f"family must be one of {', '.join(_TERMS)}; got {family!r}.")
    return family


def _drawn(
    cs: ChoiceSets,
    name: str,
    tentative: Kernel | Literal["alternatives", "used"],
    kind: _Kind,
    columns: Mapping[str, np.ndarray] | None,
) -> Kernel:
    """The distribution that alternatives were drawn from, given or fitted."""
    if isinstance(tentative, Kernel):
        return tentative
    if tentative not in ("alternatives", "used"):
        raise ValueError(f'a tentative distribution must be "alternatives", "used" or one of ours; got {tentative!r}.')
    values = _values(cs, name, columns)
    known = np.repeat(cs.selected >= 0, cs.n_choices)
    values = values[known & (cs.is_selected == (tentative == "used"))]
    return kind.fit(values[~np.isnan(values)])


def _selection(
    fit: ConditionalLogit,
    habitat: tuple[str, ...],
    terms: Mapping[str, str],
    errors: CovarianceKind,
    drawn: Kernel | None,
    turned: Kernel | None,
    sources: tuple[str, str | None] | None,
) -> StepSelection:
    """The movement that follows from a fit."""
    covariance = fit.covariance_of(errors, small_sample=True)
    steps, turns = ([term for term in terms if ("turn" in term) is is_turn] for is_turn in (False, True))

    def part(names: list[str]) -> tuple[dict[str, float], np.ndarray]:
        at = [fit.features.index(terms[name]) for name in names]
        return {name: float(fit.coef[i]) for name, i in zip(names, at, strict=True)}, covariance[np.ix_(at, at)]

    return StepSelection(
        fit=fit,
        habitat=habitat,
        terms=terms,
        errors=errors,
        covariance=covariance,
        tentative_step_length=drawn,
        step_length=updated_step_length(drawn, *part(steps)),
        tentative_turn_angle=turned,
        turn_angle=updated_turn_angle(turned, *part(turns)) if turns else None,
        sources=sources,
    )


def _parameters(part: str, updated: Updated, tentative: Kernel | None) -> list[tuple[str, str, float, float, float]]:
    """The rows of one updated distribution."""
    before = _with_mean(tentative) if tentative is not None else {}
    now = _with_mean(updated.kernel)
    return [(part, name, value, updated.se.get(name, np.nan), before.get(name, np.nan)) for name, value in now.items()]


def _with_mean(kernel: Kernel) -> dict[str, float]:
    return kernel.parameters if isinstance(kernel, VonMisesTurns) else {**kernel.parameters, "mean": kernel.mean}
