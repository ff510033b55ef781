"""Named feature definitions into feature values of every choice, each with its role and unit.

The known sources are

========================  ========  ====================================================================
`distance_km`             pair      great-circle distance from origin to choice, km
`stay`                    pair      1 where the choice is the origin, else 0
`log_distance`            pair      ln(distance_km) of a move, 0 for stay
`heading_sin`, `_cos`     pair      sine and cosine of the true bearing from origin to choice; 0 and 0 for stay
`turn_sin`, `_cos`        pair      sine and cosine of the turn away from the previous move; 0 and 0 for stay and
                                    where the previous heading is unknown
`turn_known`              decision  1 where the previous heading is known, else 0
`season_sin`, `_cos`      decision  the year as a circle: the true fraction of this calendar year
`hour_sin`, `_cos`        decision  the UTC day as a circle
`solar_hour_sin`, `_cos`  decision  the day as a circle in mean solar time at the origin
a covariate's name        choice    its value at (choice cell, decision time)
a decision column         decision  an attribute of the individual or of the decision
========================  ========  ====================================================================

`log_distance` has no value for stay; its 0 there is a convention, and any other constant would give the same model as
long as `stay` is a feature beside it, whose coefficient takes up the difference. A turn is the heading of the choice
minus the decision column `previous_heading_rad` (see `mimic.choices.make_decisions`): 0 is straight on, positive to
the right. It is unknown in the first decision of a burst and after staying; `turn_sin` and `turn_cos` are then 0 for
all choices of the decision and cancel, so that such decisions tell nothing about turns and all else is kept.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from mimic.schema import LONGITUDE, TIME, ChoiceSets, FeatureInfo, examples

__all__ = [
    "PREVIOUS_HEADING",
    "SOURCES",
    "FeatureSpec",
    "Rows",
    "Transform",
    "check_variation",
    "compute_feature",
    "day_circle",
    "year_circle",
]

Transform = Literal["none", "log", "log1p", "square"]

PREVIOUS_HEADING = "previous_heading_rad"
"""Decision column: true bearing of the motion with which the animal arrived in the origin, NaN where unknown."""


@dataclass(frozen=True)
class FeatureSpec:
    """How one feature is made from its source.

    The source's value is multiplied by `multiply`, clipped to `clip`, then transformed; with
    `minus_origin` the same form at the origin cell and the same time is subtracted last.

    Parameters
    ----------
    name
        What models and groups call it.
    source
        A source from the table of this module, a covariate or a decision column. By default the name.
    minus_origin
        Difference from the value at the origin; only for covariates. The role becomes "pair".
    """

    name: str
    source: str = ""
    minus_origin: bool = False
    multiply: float = 1.0
    clip: tuple[float | None, float | None] | None = None
    transform: Transform = "none"

    def __post_init__(self) -> None:
        if not self.source:
            object.__setattr__(self, "source", self.name)
        if self.clip is not None:
            low, high = self.clip
            if low is not None and high is not None and not low < high:
                raise ValueError(
                    f"feature {self.name}: clip must be [low, high] with low < high; got {list(self.clip)}."
                )


@dataclass(frozen=True, eq=False)
class Rows:
    """What the sources of features draw on: one entry a choice row, all of the same length.

    Parameters
    ----------
    decision
        (row,), index into the rows of `decisions`.
    distance_km, bearing_rad, stay
        (row,), of the step from origin to choice; the bearing is NaN for stay.
    decisions
        One row a decision, with `time_utc` and `longitude` where time features are wanted.
    at_choice, at_origin
        covariate name -> (row,), at the choice cell and at the origin cell, both at the decision's time.
    units
        covariate name -> unit.
    """

    decision: np.ndarray
    distance_km: np.ndarray
    bearing_rad: np.ndarray
    stay: np.ndarray
    decisions: pd.DataFrame
    at_choice: Mapping[str, np.ndarray]
    at_origin: Mapping[str, np.ndarray]
    units: Mapping[str, str]

    def of_decision(self, name: str) -> np.ndarray:
        """A decision column spread over the rows of each decision: (row,), float64."""
        values = pd.to_numeric(self.decisions[name], errors="coerce").to_numpy(dtype=np.float64)
        if np.isnan(values).any():
            where = self.decisions.loc[np.isnan(values), "individual"]
            raise ValueError(
                f"decision column {name} is missing or not a number for {np.isnan(values).sum()} decisions "
                f"(individuals {examples(where)}); a feature needs a number everywhere."
            )
        return values[self.decision]

    def times(self) -> np.ndarray:
        """The time of each row's decision: (row,), datetime64[ns], UTC."""
        return self.decisions[TIME].to_numpy(dtype="datetime64[ns]")[self.decision]


def year_circle(times: np.ndarray) -> np.ndarray:
    """Angle of the year, radians in [0, 2 pi): the fraction of this calendar year that has passed.

    Leap years have their own length, and December is next to January (not equal to it).

    Example
    -------
    >>> t = np.array(["2019-01-01", "2019-07-02T12", "2020-12-31T12"], dtype="datetime64[ns]")
    >>> (year_circle(t) / (2 * np.pi)).round(4)
    array([0.    , 0.5   , 0.9986])
    """
    years = times.astype("datetime64[Y]")
    start = years.astype("datetime64[ns]")
    end = (years + 1).astype("datetime64[ns]")
    return 2 * np.pi * ((times - start) / (end - start))


def day_circle(times: np.ndarray, longitude: np.ndarray | float = 0.0) -> np.ndarray:
    """Angle of the day, radians in [0, 2 pi), 0 at midnight; at a longitude (degrees) in mean solar time.

    Example
    -------
    >>> t = np.array(["2019-01-01T18"], dtype="datetime64[ns]")
    >>> (day_circle(t) / np.pi).tolist(), (day_circle(t, -90.0) / np.pi).tolist()
    ([1.5], [1.0])
    """
    fraction = (times - times.astype("datetime64[D]").astype("datetime64[ns]")) / np.timedelta64(1, "D")
    return 2 * np.pi * ((fraction + np.asarray(longitude) / 360.0) % 1.0)


def _heading(rows: Rows, part: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    # Staying has no heading. (0, 0) lies on no point of the unit circle, so no direction is given away.
    return np.where(rows.stay > 0, 0.0, part(np.where(rows.stay > 0, 0.0, rows.bearing_rad)))


def _log_distance(rows: Rows) -> np.ndarray:
    return np.log(np.where(rows.stay > 0, 1.0, rows.distance_km))


def _previous_heading(rows: Rows) -> np.ndarray:
    """Heading of the previous move, radians: (row,), NaN where unknown."""
    if PREVIOUS_HEADING not in rows.decisions:
        raise ValueError(
            f"turn_sin, turn_cos and turn_known need the decision column {PREVIOUS_HEADING}, which is not there. "
            "make_decisions gives it; elsewhere add it, radians clockwise from north, NaN where it is unknown."
        )
    heading = pd.to_numeric(rows.decisions[PREVIOUS_HEADING], errors="coerce").to_numpy(dtype=np.float64)
    if (np.abs(heading) > np.pi + 1e-9).any():
        raise ValueError(
            f"{PREVIOUS_HEADING} must lie in [-pi, pi] or be NaN; got {np.nanmax(np.abs(heading)):g}. "
            "Convert from degrees first."
        )
    return heading[rows.decision]


def _turn(rows: Rows, part: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    turn = np.where(rows.stay > 0, np.nan, rows.bearing_rad) - _previous_heading(rows)
    return np.where(np.isnan(turn), 0.0, part(np.where(np.isnan(turn), 0.0, turn)))


def _turn_known(rows: Rows) -> np.ndarray:
    return (~np.isnan(_previous_heading(rows))).astype(np.float64)


_SOURCES: dict[str, tuple[FeatureInfo, Callable[[Rows], np.ndarray]]] = {
    "distance_km": (FeatureInfo("pair", "km", "distance from origin to choice"), lambda r: r.distance_km),
    "log_distance": (FeatureInfo("pair", "ln(km)", "logarithm of the distance of a move, 0 for stay"), _log_distance),
    "stay": (FeatureInfo("pair", "1", "the choice is the origin"), lambda r: r.stay.astype(np.float64)),
    "heading_sin": (FeatureInfo("pair", "1", "eastward part of the heading"), lambda r: _heading(r, np.sin)),
    "heading_cos": (FeatureInfo("pair", "1", "northward part of the heading"), lambda r: _heading(r, np.cos)),
    "turn_sin": (FeatureInfo("pair", "1", "rightward part of the turn"), lambda r: _turn(r, np.sin)),
    "turn_cos": (FeatureInfo("pair", "1", "forward part of the turn"), lambda r: _turn(r, np.cos)),
    "turn_known": (FeatureInfo("decision", "1", "the previous heading is known"), _turn_known),
    "season_sin": (FeatureInfo("decision", "1", "sine of the year"), lambda r: np.sin(year_circle(r.times()))),
    "season_cos": (FeatureInfo("decision", "1", "cosine of the year"), lambda r: np.cos(year_circle(r.times()))),
    "hour_sin": (FeatureInfo("decision", "1", "sine of the UTC day"), lambda r: np.sin(day_circle(r.times()))),
    "hour_cos": (FeatureInfo("decision", "1", "cosine of the UTC day"), lambda r: np.cos(day_circle(r.times()))),
    "solar_hour_sin": (
        FeatureInfo("decision", "1", "sine of the solar day at the origin"),
        lambda r: np.sin(day_circle(r.times(), r.of_decision(LONGITUDE))),
    ),
    "solar_hour_cos": (
        FeatureInfo("decision", "1", "cosine of the solar day at the origin"),
        lambda r: np.cos(day_circle(r.times(), r.of_decision(LONGITUDE))),
    ),
}


SOURCES = tuple(_SOURCES)
"""Names of the sources that need no covariate; those of turns need the decision column `PREVIOUS_HEADING`."""


def compute_feature(spec: FeatureSpec, rows: Rows) -> tuple[np.ndarray, FeatureInfo]:
    """Values of one feature, (row,), float32, with its role and unit.

    Raises
    ------
    ValueError
        If the source is unknown (the message names the nearest), the difference from the origin is asked
        of something that is no covariate, or a logarithm meets a value it is not defined for.
    """
    if spec.source in rows.at_choice:
        value = _form(spec, rows.at_choice[spec.source])
        info = FeatureInfo("choice", _unit(spec, rows.units.get(spec.source, "1")), f"{spec.source} at the choice")
        if spec.minus_origin:
            value = value - _form(spec, rows.at_origin[spec.source])
            info = FeatureInfo("pair", info.unit, f"{spec.source} at the choice minus at the origin")
        return value.astype(np.float32), info
    if spec.minus_origin:
        raise ValueError(f"feature {spec.name}: minus_origin needs a covariate as source; got {spec.source}.")
    if spec.source in _SOURCES:
        info, make = _SOURCES[spec.source]
        return _form(spec, make(rows)).astype(np.float32), FeatureInfo(
            info.role, _unit(spec, info.unit), info.description
        )
    if spec.source in rows.decisions.columns:
        value = _form(spec, rows.of_decision(spec.source))
        return value.astype(np.float32), FeatureInfo("decision", _unit(spec, "1"), f"{spec.source} of the decision")
    known = [*_SOURCES, *rows.at_choice, *map(str, rows.decisions.columns)]
    near = difflib.get_close_matches(spec.source, known, n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known are {', '.join(known)}."
    raise ValueError(f"feature {spec.name}: unknown source {spec.source}; {hint}")


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


def _unit(spec: FeatureSpec, unit: str) -> str:
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
