"""Named sources and how a feature is made of them: values of every choice, each with its role and unit.

The sources that need nothing but tracks are in `LIBRARY`: of the step and the motion before it
(`mimic.movement_features`), of time (`mimic.time_features`), of memory (`mimic.memory_features`) and of the places
`first` and `past_center` (`mimic.place_features`). Covariates and decision columns are sources under their own names;
an experiment adds places, vectors and levels of individuals. `mimic features` lists them all.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from mimic.choice_rows import Rows
from mimic.feature_definition import Definition
from mimic.individual_features import column_definition
from mimic.memory_features import MEMORY, first_position, past_center
from mimic.movement_features import MOVEMENT, PREVIOUS_HEADING
from mimic.place_features import place_definitions
from mimic.schema import ChoiceSets, FeatureInfo, Role
from mimic.time_features import TIME, day_circle, year_circle

__all__ = [
    "LIBRARY",
    "PREVIOUS_HEADING",
    "SOURCES",
    "FeatureSpec",
    "Transform",
    "check_variation",
    "compute_feature",
    "day_circle",
    "definitions_of",
    "format_formula",
    "is_of_step",
    "needs_history",
    "origin_covariates",
    "product_role",
    "product_unit",
    "transformed_unit",
    "year_circle",
]

Transform = Literal["none", "log", "log1p", "square"]


@dataclass(frozen=True)
class FeatureSpec:
    """How one feature is made from its source.

    The source's value is multiplied by `multiply`, clipped to `clip`, then transformed; with `minus_origin` the
    same form at the origin cell and the same time is subtracted; and `times` is multiplied last.

    Parameters
    ----------
    name
        What models and groups call it.
    source
        A source of `LIBRARY`, a covariate or a decision column. By default the name.
    minus_origin
        Difference from the value at the origin; only for covariates. The role becomes "pair".
    times
        Another feature: the value becomes the product of the two, an interaction. Its role is "pair" if one of
        the two has it, else "choice" if one has, else "decision".
    definition
        What makes the source, where it is none of `LIBRARY`, no covariate and no decision column.
    """

    name: str
    source: str = ""
    minus_origin: bool = False
    multiply: float = 1.0
    clip: tuple[float | None, float | None] | None = None
    transform: Transform = "none"
    times: FeatureSpec | None = None
    definition: Definition | None = None

    def __post_init__(self) -> None:
        if not self.source:
            object.__setattr__(self, "source", self.name)
        if self.clip is not None:
            low, high = self.clip
            if low is not None and high is not None and not low < high:
                raise ValueError(
                    f"feature {self.name}: clip must be [low, high] with low < high; got {list(self.clip)}."
                )


LIBRARY: Mapping[str, Definition] = {
    definition.name: definition
    for definition in (
        *MOVEMENT,
        *TIME,
        *MEMORY,
        *place_definitions(
            "first", first_position, always_known=True, needs_history=True, what="the first known position"
        ),
        *place_definitions(
            "past_center", past_center, always_known=True, needs_history=True, what="the center of the past"
        ),
    )
}
"""Source -> its definition, of all that need neither covariate nor experiment."""

SOURCES = tuple(LIBRARY)
"""Names of the sources that need no covariate; some need decision columns that `make_decisions` gives, or a history."""


_OF_STEP = frozenset({"distance_km", "log_distance", "stay", "heading_sin", "heading_cos", "bearing_rad"})


def compute_feature(spec: FeatureSpec, rows: Rows) -> tuple[np.ndarray, FeatureInfo]:
    """Values of one feature, (row,), float32, with its role and unit.

    Raises
    ------
    ValueError
        If the source is unknown (the message names the nearest), the difference from the origin is asked
        of something that is no covariate, or a logarithm meets a value it is not defined for.
    """
    value, info = _compute(spec, rows)
    return value.astype(np.float32), info


def _compute(spec: FeatureSpec, rows: Rows) -> tuple[np.ndarray, FeatureInfo]:
    """As `compute_feature`, in float64."""
    value, info = _own_part(spec, rows)
    if spec.times is None:
        return value, info
    factor, other = _compute(spec.times, rows)
    both = f"{info.description or spec.source}, times {other.description or spec.times.name}"
    return value * factor, FeatureInfo(product_role(info.role, other.role), product_unit(info.unit, other.unit), both)


def _own_part(spec: FeatureSpec, rows: Rows) -> tuple[np.ndarray, FeatureInfo]:
    if spec.definition is None and spec.source in rows.at_choice:
        value = _form(spec, rows.at_choice[spec.source])
        info = FeatureInfo(
            "choice", transformed_unit(spec, rows.units.get(spec.source, "1")), f"{spec.source} at the choice"
        )
        if spec.minus_origin:
            value = value - _form(spec, rows.at_origin[spec.source])
            info = FeatureInfo("pair", info.unit, f"{spec.source} at the choice minus at the origin")
        return value, info
    if spec.minus_origin:
        raise ValueError(f"feature {spec.name}: minus_origin needs a covariate as source; got {spec.source}.")
    definition = spec.definition or LIBRARY.get(spec.source)
    if definition is None:
        if spec.source not in rows.decisions.columns:
            raise ValueError(f"feature {spec.name}: {_unknown_source(spec.source, rows)}")
        definition = column_definition(spec.source)
    info = definition.info(rows)
    return _form(spec, definition.make(rows)), FeatureInfo(
        info.role, transformed_unit(spec, info.unit), info.description
    )


def _unknown_source(source: str, rows: Rows) -> str:
    known = [*LIBRARY, *rows.at_choice, *map(str, rows.decisions.columns)]
    near = difflib.get_close_matches(source, known, n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known are {', '.join(known)}."
    return f"unknown source {source}; {hint}"


def definitions_of(spec: FeatureSpec) -> list[Definition]:
    """The definitions that a feature and its factors draw on; covariates and plain decision columns have none."""
    own = spec.definition or LIBRARY.get(spec.source)
    return [*([own] if own is not None else []), *(definitions_of(spec.times) if spec.times is not None else [])]


def origin_covariates(spec: FeatureSpec) -> frozenset[str]:
    """The covariates that must have a value in the origin for the feature to have one."""
    own = {spec.source} if spec.minus_origin else set()
    inner = origin_covariates(spec.times) if spec.times is not None else frozenset()
    return inner | own | {name for definition in definitions_of(spec) for name in definition.at_origin}


def needs_history(spec: FeatureSpec) -> bool:
    """Whether the feature draws on the fixes of the animal's past."""
    return any(definition.needs_history for definition in definitions_of(spec))


def is_of_step(spec: FeatureSpec) -> bool:
    """Whether the feature depends on the step from origin to choice alone, as distance and heading do."""
    inner = spec.times is None or is_of_step(spec.times)
    return inner and spec.definition is None and spec.source in _OF_STEP


def product_role(one: Role, other: Role) -> Role:
    """The role of a product of features.

    Example
    -------
    >>> product_role("decision", "choice"), product_role("choice", "pair"), product_role("decision", "decision")
    ('choice', 'pair', 'decision')
    """
    order: tuple[Role, ...] = ("pair", "choice", "decision")
    return min(one, other, key=order.index)


def product_unit(one: str, other: str) -> str:
    """The unit of a product.

    Example
    -------
    >>> product_unit("1", "degC"), product_unit("km", "m s-1"), product_unit("1", "1")
    ('degC', 'km m s-1', '1')
    """
    return " ".join(unit for unit in (one, other) if unit != "1") or "1"


def format_formula(spec: FeatureSpec) -> str:
    """How a feature is made, in symbols.

    Example
    -------
    >>> format_formula(FeatureSpec("d", source="elevation", multiply=-1, clip=(1, None), transform="log"))
    'ln(clip(-1 elevation, 1, inf))'
    >>> format_formula(FeatureSpec("x", source="sst", minus_origin=True, times=FeatureSpec("moon")))
    '(sst - sst of the origin) moon'
    """
    chain = [spec]
    while chain[-1].times is not None:
        chain.append(chain[-1].times)
    if len(chain) == 1:
        return _own_formula(spec)
    return " ".join(
        f"({_own_formula(one)})" if one.minus_origin or _is_unlisted(one) else _own_formula(one) for one in chain
    )


def _is_unlisted(spec: FeatureSpec) -> bool:
    """Whether the source has no name of its own that a reader could look up: a level, a filled column."""
    return spec.definition is not None and spec.definition.name != spec.source


def _own_formula(spec: FeatureSpec) -> str:
    """As `format_formula`, without the factors."""
    source = spec.definition.formula if spec.definition is not None and _is_unlisted(spec) else spec.source
    text = _formed(spec, source)
    return f"{text} - {_formed(spec, f'{source} of the origin')}" if spec.minus_origin else text


def _formed(spec: FeatureSpec, source: str) -> str:
    text = source if spec.multiply == 1 else f"{spec.multiply:g} {source}"
    if spec.clip is not None:
        low, high = (
            end if limit is None else f"{limit:g}" for limit, end in zip(spec.clip, ("-inf", "inf"), strict=True)
        )
        text = f"clip({text}, {low}, {high})"
    return {"log": f"ln({text})", "log1p": f"ln(1 + {text})", "square": f"({text})^2"}.get(spec.transform, text)


def _form(spec: FeatureSpec, value: np.ndarray) -> np.ndarray:
    value = np.asarray(value, dtype=np.float64) * spec.multiply
    if spec.clip is not None:
        value = np.clip(value, spec.clip[0], spec.clip[1])
    lowest = np.nanmin(value) if value.size and not np.isnan(value).all() else np.inf
    if spec.transform == "log":
        if lowest <= 0:
            raise ValueError(f"feature {spec.name}: log needs values above 0; got {lowest:g}. Use log1p or clip first.")
        return np.log(value)
    if spec.transform == "log1p":
        if lowest < 0:
            raise ValueError(f"feature {spec.name}: log1p needs values of at least 0; got {lowest:g}. Use clip first.")
        return np.log1p(value)
    return value**2 if spec.transform == "square" else value


def transformed_unit(spec: FeatureSpec, unit: str) -> str:
    """The unit of a feature whose source has a unit."""
    return {"log": f"ln({unit})", "log1p": f"ln(1 + {unit})", "square": f"{unit}^2"}.get(spec.transform, unit)


def check_variation(choice_sets: ChoiceSets, names: Sequence[str], *, share: float = 0.99) -> None:
    """Refuse features that are declared to differ between choices but do not.

    A feature of role "choice" or "pair" that is the same for all choices of (nearly) every decision cancels
    in the probability. A rare indicator (one value nearly everywhere, another for a few choices of a few
    decisions: a closed area) is fine.

    Raises
    ------
    ValueError
        If in at least `share` of the decisions with two or more choices the feature has one value only, no
        feature differs between choices, or one is unknown.
    """
    missing = [name for name in names if name not in choice_sets.info]
    if missing:
        raise ValueError(f"unknown feature {', '.join(missing)}; known are {', '.join(choice_sets.info)}.")
    if names and all(choice_sets.info[name].role == "decision" for name in names):
        raise ValueError(
            f"all features ({', '.join(names)}) are of role decision, the same for all choices of a decision, so "
            "they cancel in its probabilities; add a feature of the choices, such as distance_km, to interact with."
        )
    usable = choice_sets.n_choices >= 2
    if not usable.any():
        return
    starts = choice_sets.offsets[:-1]
    for name in names:
        if choice_sets.info[name].role == "decision":
            continue
        values = choice_sets.features[name]
        low = np.minimum.reduceat(values, starts)[usable]
        constant = low == np.maximum.reduceat(values, starts)[usable]
        if constant.mean() < share or (not constant.all() and len(np.unique(low[constant])) == 1):
            continue
        raise ValueError(
            f"feature {name} has role {choice_sets.info[name].role}, but it has the same value for all choices of "
            f"{constant.sum():,} of {len(constant):,} decisions, so it cancels in their probabilities. The usual causes: "
            "a covariate joined on the cell the animal went to next instead of on each choice, or a grid so coarse "
            "that all choices fall on one grid point (try method: bilinear). If it really describes the decision, "
            "declare it with role decision."
        )
