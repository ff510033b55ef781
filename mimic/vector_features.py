"""A field of vectors (a current, a wind), given as an eastward and a northward covariate, into features.

Both parts point to where the motion goes. `NAME_along` is the component of the field in the direction of the step to
the choice, `NAME_across` the one that pushes to the right of it: a current against the step has a negative part along
it. Staying is no step: both are 0 for it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np

from mimic.choice_rows import Rows
from mimic.feature_definition import Definition
from mimic.schema import Role

__all__ = ["VectorField", "vector_definitions"]


@dataclass(frozen=True)
class VectorField:
    """A field of vectors.

    Parameters
    ----------
    name
        What its sources begin with.
    east, north
        The covariates of its parts, in one unit.
    at
        Where it is read: in the origin, or in each choice.
    """

    name: str
    east: str
    north: str
    at: Literal["origin", "choice"] = "origin"

    def parts(self, rows: Rows) -> tuple[np.ndarray, np.ndarray]:
        """Eastward and northward parts at the decision's time: two (row,).

        Raises
        ------
        ValueError
            If a part is no covariate, or the two have different units.
        """
        values = rows.at_origin if self.at == "origin" else rows.at_choice
        missing = [part for part in (self.east, self.north) if part not in values]
        if missing:
            raise ValueError(
                f"vectors {self.name}: {', '.join(missing)} is no covariate; known are {', '.join(values) or 'none'}."
            )
        units = [rows.units.get(part, "1") for part in (self.east, self.north)]
        if units[0] != units[1]:
            raise ValueError(
                f"vectors {self.name}: both parts must have one unit; {self.east} has {units[0]} and {self.north} has "
                f"{units[1]}. Set unit in the covariates where the file says it wrong."
            )
        return np.asarray(values[self.east], dtype=np.float64), np.asarray(values[self.north], dtype=np.float64)


def vector_definitions(field: VectorField) -> tuple[Definition, ...]:
    """The sources `NAME_speed`, `NAME_heading_sin`, `NAME_heading_cos`, `NAME_along` and `NAME_across`."""
    name, where = field.name, field.at
    role: Role = "decision" if where == "origin" else "choice"
    table: list[tuple[str, Role, str, str, str, Callable[[VectorField, Rows], np.ndarray]]] = [
        ("speed", role, field.east, f"speed of {name} in the {where}", "sqrt(east^2 + north^2)", _speed),
        ("heading_sin", role, "", f"eastward part of the direction of {name}", "east / speed; 0 if calm", _heading_sin),
        ("heading_cos", role, "", f"northward part of the direction of {name}", "north / speed; 0 if calm", _heading_cos),
        ("along", "pair", field.east, f"{name} along the step", "east sin(b) + north cos(b), b bearing; 0 for stay", _along),
        ("across", "pair", field.east, f"{name} to the right of it", "east cos(b) - north sin(b), b bearing; 0 for stay", _across),
    ]  # fmt: skip
    needed = (field.east, field.north) if where == "origin" else ()
    return tuple(
        Definition(
            f"{name}_{part}", own_role, "1", what, formula, partial(make, field), unit_of=unit_of, at_origin=needed
        )
        for part, own_role, unit_of, what, formula, make in table
    )


def _speed(field: VectorField, rows: Rows) -> np.ndarray:
    return np.hypot(*field.parts(rows))


def _heading_sin(field: VectorField, rows: Rows) -> np.ndarray:
    east, north = field.parts(rows)
    return _share(east, np.hypot(east, north))


def _heading_cos(field: VectorField, rows: Rows) -> np.ndarray:
    east, north = field.parts(rows)
    return _share(north, np.hypot(east, north))


def _along(field: VectorField, rows: Rows) -> np.ndarray:
    east, north = field.parts(rows)
    sine, cosine, stays = _step(rows)
    return np.where(stays, 0.0, east * sine + north * cosine)


def _across(field: VectorField, rows: Rows) -> np.ndarray:
    east, north = field.parts(rows)
    sine, cosine, stays = _step(rows)
    return np.where(stays, 0.0, east * cosine - north * sine)


def _step(rows: Rows) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    stays = rows.stay > 0
    bearing = np.where(stays, 0.0, rows.bearing_rad)
    return np.sin(bearing), np.cos(bearing), stays


def _share(part: np.ndarray, speed: np.ndarray) -> np.ndarray:
    # A calm has no direction; (0, 0) lies on no circle. A missing field stays missing.
    return np.where(speed == 0, 0.0, part / np.where(speed == 0, 1.0, speed))
