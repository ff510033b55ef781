"""The step from origin to choice, and the motion before it, into features.

A turn is the heading of the choice minus the heading with which the animal arrived (decision column
`previous_heading_rad`): 0 is straight on, positive to the right. It is unknown in the first decision of a burst and
after staying; `turn_sin` and `turn_cos` are then 0 for all choices of the decision and cancel, so that such decisions
tell nothing about turns and all else is kept. (0, 0) lies on no circle: no turn is "straight on" by accident.

`previous_speed_km_h` and `hours_since_move` are the same for all choices of a decision. Where they are unknown they
are 0, which means "it stayed" and "it has just moved": a model that takes them needs `previous_known` and `move_known`
beside them to tell the two apart.

`log_distance` has no value for stay; its 0 there is a convention, and any other constant would give the same model as
long as `stay` is a feature beside it, whose coefficient takes up the difference.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mimic.choice_rows import Rows
from mimic.feature_definition import Definition, optional_column
from mimic.past_motion import HOURS_IN_CELL, PREVIOUS_DISTANCE, PREVIOUS_HOURS

__all__ = [
    "BEARING",
    "MOVEMENT",
    "PREVIOUS_HEADING",
    "distance",
    "heading_cos",
    "heading_sin",
    "hours_since_move",
    "log_distance",
    "move_known",
    "previous_known",
    "previous_speed",
    "stay",
    "turn_cos",
    "turn_known",
    "turn_sin",
]

PREVIOUS_HEADING = "previous_heading_rad"
"""Decision column: true bearing of the motion with which the animal arrived in the origin, NaN where unknown."""

BEARING = "bearing_rad"
"""The one source that is for groups and plots only: an angle is a circle cut open."""

_TURNS = ("turn_sin", "turn_cos", "turn_known")
_MADE = "make_decisions gives it; elsewhere add it,"


def distance(rows: Rows) -> np.ndarray:
    """Great-circle distance from origin to choice: (row,), km."""
    return rows.distance_km


def log_distance(rows: Rows) -> np.ndarray:
    """Logarithm of the distance of a move, 0 for stay: (row,), ln(km)."""
    return np.log(np.where(rows.stay > 0, 1.0, rows.distance_km))


def stay(rows: Rows) -> np.ndarray:
    """1 where the choice is the origin, else 0: (row,)."""
    return rows.stay.astype(np.float64)


def bearing(rows: Rows) -> np.ndarray:
    """True bearing from origin to choice: (row,), radians in [-pi, pi], clockwise from north; NaN for stay."""
    return np.where(rows.stay > 0, np.nan, rows.bearing_rad)


def heading_sin(rows: Rows) -> np.ndarray:
    """Eastward part of the heading: (row,), 0 for stay."""
    return _part(bearing(rows), np.sin)


def heading_cos(rows: Rows) -> np.ndarray:
    """Northward part of the heading: (row,), 0 for stay."""
    return _part(bearing(rows), np.cos)


def turn_sin(rows: Rows) -> np.ndarray:
    """Rightward part of the turn: (row,), 0 for stay and where the previous heading is unknown."""
    return _part(bearing(rows) - _previous_heading(rows)[rows.decision], np.sin)


def turn_cos(rows: Rows) -> np.ndarray:
    """Forward part of the turn: (row,), 0 for stay and where the previous heading is unknown."""
    return _part(bearing(rows) - _previous_heading(rows)[rows.decision], np.cos)


def turn_known(rows: Rows) -> np.ndarray:
    """1 where the previous heading is known, else 0: (row,)."""
    return _known(_previous_heading(rows))[rows.decision]


def previous_speed(rows: Rows) -> np.ndarray:
    """Speed of the last step, between cell centroids: (row,), km/h; 0 after a stay, and where it is unknown."""
    needed = ("previous_speed_km_h", "previous_known")
    kilometers = optional_column(rows, PREVIOUS_DISTANCE, needed_by=needed, advice=f"{_MADE} km, NaN where unknown.")
    hours = optional_column(rows, PREVIOUS_HOURS, needed_by=needed, advice=f"{_MADE} NaN where unknown.")
    if (hours <= 0).any():
        raise ValueError(f"{PREVIOUS_HOURS} must be above 0 or NaN; got {np.nanmin(hours):g}.")
    return _filled(kilometers / hours)[rows.decision]


def previous_known(rows: Rows) -> np.ndarray:
    """1 where the last step is known, 0 in the first decision of a burst: (row,)."""
    column = optional_column(
        rows,
        PREVIOUS_DISTANCE,
        needed_by=("previous_speed_km_h", "previous_known"),
        advice=f"{_MADE} km, NaN where unknown.",
    )
    return _known(column)[rows.decision]


def hours_since_move(rows: Rows) -> np.ndarray:
    """Hours since the animal arrived in the origin cell: (row,); 0 just after a move, and where it is unknown."""
    return _filled(_hours_in_cell(rows))[rows.decision]


def move_known(rows: Rows) -> np.ndarray:
    """1 where the arrival in the origin cell was seen, else 0: (row,)."""
    return _known(_hours_in_cell(rows))[rows.decision]


def _hours_in_cell(rows: Rows) -> np.ndarray:
    return optional_column(
        rows, HOURS_IN_CELL, needed_by=("hours_since_move", "move_known"), advice=f"{_MADE} NaN where unknown."
    )


def _previous_heading(rows: Rows) -> np.ndarray:
    """Heading of the previous move, radians: (decision,), NaN where unknown."""
    heading = optional_column(
        rows, PREVIOUS_HEADING, needed_by=_TURNS, advice=f"{_MADE} radians clockwise from north, NaN where unknown."
    )
    if (np.abs(heading) > np.pi + 1e-9).any():
        raise ValueError(
            f"{PREVIOUS_HEADING} must lie in [-pi, pi] or be NaN; got {np.nanmax(np.abs(heading)):g}. "
            "Convert from degrees first."
        )
    return heading


def _part(angle: np.ndarray, part: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    # (0, 0) lies on no point of the unit circle: where there is no angle, no direction is given away.
    return np.where(np.isnan(angle), 0.0, part(np.where(np.isnan(angle), 0.0, angle)))


def _known(values: np.ndarray) -> np.ndarray:
    return (~np.isnan(values)).astype(np.float64)


def _filled(values: np.ndarray) -> np.ndarray:
    return np.where(np.isnan(values), 0.0, values)


MOVEMENT: tuple[Definition, ...] = (
    Definition("distance_km", "pair", "km", "distance from origin to choice", "great circle of centroids", distance),
    Definition(
        "log_distance",
        "pair",
        "ln(km)",
        "logarithm of the distance of a move",
        "ln(distance_km); 0 for stay",
        log_distance,
    ),
    Definition("stay", "pair", "1", "the choice is the origin", "1 if choice = origin, else 0", stay),
    Definition("heading_sin", "pair", "1", "eastward part of the heading", "sin(bearing_rad); 0 for stay", heading_sin),
    Definition(
        "heading_cos", "pair", "1", "northward part of the heading", "cos(bearing_rad); 0 for stay", heading_cos
    ),
    Definition(
        BEARING,
        "pair",
        "rad",
        "true bearing of the choice, for groups and plots only",
        "clockwise from north; none for stay",
        bearing,
    ),
    Definition(
        "turn_sin",
        "pair",
        "1",
        "rightward part of the turn",
        "sin(bearing_rad - previous_heading_rad); 0 for stay or unknown",
        turn_sin,
    ),
    Definition(
        "turn_cos",
        "pair",
        "1",
        "forward part of the turn",
        "cos(bearing_rad - previous_heading_rad); 0 for stay or unknown",
        turn_cos,
    ),
    Definition(
        "turn_known",
        "decision",
        "1",
        "the previous heading is known",
        "1 if a move led to the origin, else 0",
        turn_known,
    ),
    Definition(
        "previous_speed_km_h",
        "decision",
        "km h-1",
        "speed of the last step",
        "previous_distance_km / previous_hours; 0 if unknown",
        previous_speed,
        known="previous_known",
    ),
    Definition(
        "previous_known",
        "decision",
        "1",
        "the last step is known",
        "0 in the first decision of a burst, else 1",
        previous_known,
    ),
    Definition(
        "hours_since_move",
        "decision",
        "h",
        "time since the animal arrived in its cell",
        "time - time of arrival; 0 if unknown",
        hours_since_move,
        known="move_known",
    ),
    Definition(
        "move_known",
        "decision",
        "1",
        "the arrival in the origin was seen",
        "1 after the first move of a burst, else 0",
        move_known,
    ),
)
"""The sources of movement."""
