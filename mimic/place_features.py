"""A place of each decision - a home, a site of release, a fixed point - into distance and direction of every choice.

The angle is the heading of the choice minus the bearing of the place, both at the origin: 0 leads straight to the
place, positive passes it on its left side, pi leads away. Its sine and cosine are 0 and 0 where there is no angle: for
stay, and where the origin is the place itself. Where a place is unknown (a home that no column gives) all its sources
are 0 for every choice of the decision and cancel, and `NAME_known` is 0.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd

from mimic.choice_rows import Rows
from mimic.feature_definition import Definition
from mimic.hexgrid import bearing_rad, centroids, distance_km
from mimic.schema import ORIGIN, examples, require_columns

__all__ = ["Locate", "Place", "locate_columns", "place_definitions"]

Place = tuple[np.ndarray, np.ndarray]
"""Longitude and latitude of a place by decision: two (decision,), degrees, NaN where it is unknown."""

Locate = Callable[[Rows], Place]


def place_definitions(
    name: str, locate: Locate, *, always_known: bool = False, needs_history: bool = False, what: str = ""
) -> tuple[Definition, ...]:
    """The sources of a place: `NAME_km`, `NAME_change_km`, `NAME_cos`, `NAME_sin` and, unless always known, `NAME_known`.

    Parameters
    ----------
    name
        What the sources begin with.
    locate
        Where the place of each decision is. It sees only what was known at the decision.
    needs_history
        Whether it draws on the animal's past.
    what
        The place in words, by default its name.
    """
    what, known = what or name, "" if always_known else f"{name}_known"
    table: list[tuple[str, str, str, Callable[[Locate, Rows], np.ndarray], str]] = [
        ("km", "km", f"distance of the choice to {what}", _distance, "great circle from the choice"),
        ("change_km", "km", f"how much farther from {what}", _change, f"{name}_km - {name}_km of the origin"),
        ("cos", "1", f"part of the heading toward {what}", _cos, "cos(bearing_rad - bearing of the place); 0 for stay"),
        ("sin", "1", f"part to the right of {what}", _sin, "sin(bearing_rad - bearing of the place); 0 for stay"),
    ]
    found = [
        Definition(
            f"{name}_{part}",
            "pair",
            unit,
            description,
            formula,
            partial(make, locate),
            # only of a distance is 0 a value: on a circle (0, 0) is none, and no change is what "unknown" cancels to
            known=known if part == "km" else "",
            needs_history=needs_history,
        )
        for part, unit, description, make, formula in table
    ]
    if known:
        formula = "1 if its coordinates are known, else 0"
        found.append(
            Definition(
                known,
                "decision",
                "1",
                f"{what} is known",
                formula,
                partial(_known, locate),
                needs_history=needs_history,
            )
        )
    return tuple(found)


def locate_columns(longitude: str | float, latitude: str | float, name: str, rows: Rows) -> Place:
    """A place from two decision columns, or a fixed point of two numbers.

    Raises
    ------
    ValueError
        If a column is missing, holds something that is no number and not empty, or lies outside the earth.
    """
    east, north = (
        _coordinate(longitude, 360.0, "longitude", name, rows),
        _coordinate(latitude, 90.0, "latitude", name, rows),
    )
    half = np.isnan(east) != np.isnan(north)
    if half.any():
        raise ValueError(
            f"place {name}: {half.sum():,} decisions have a longitude without a latitude or the reverse "
            f"(individuals {examples(rows.decisions.loc[half, 'individual'])}); give both or none."
        )
    return east, north


def _coordinate(given: str | float, limit: float, what: str, name: str, rows: Rows) -> np.ndarray:
    if not isinstance(given, str):
        return np.full(len(rows.decisions), float(given))
    require_columns(list(map(str, rows.decisions.columns)), [given], where=f"place {name}")
    column = rows.decisions[given]
    values = pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64)
    wrong = np.isnan(values) & column.notna().to_numpy() | (np.abs(values) > limit)
    if wrong.any():
        raise ValueError(
            f"place {name}: {what} must be degrees in [-{limit:g}, {limit:g}], or empty where it is unknown; column "
            f"{given} has {examples(column[wrong])}."
        )
    return values


def _origins(rows: Rows) -> Place:
    """Centroids of the origins: two (decision,), degrees."""
    require_columns(list(map(str, rows.decisions.columns)), [ORIGIN], where="features of places")
    return centroids(rows.decisions[ORIGIN].to_numpy(dtype=np.int64))


def _distance(locate: Locate, rows: Rows) -> np.ndarray:
    return _zero_where_unknown(_distance_or_nan(locate, rows))


def _distance_or_nan(locate: Locate, rows: Rows) -> np.ndarray:
    longitude, latitude = locate(rows)
    return distance_km(*centroids(rows.cell), longitude[rows.decision], latitude[rows.decision])


def _change(locate: Locate, rows: Rows) -> np.ndarray:
    from_origin = distance_km(*_origins(rows), *locate(rows))
    change = _distance_or_nan(locate, rows) - from_origin[rows.decision]
    return np.where(rows.stay > 0, 0.0, _zero_where_unknown(change))


def _angle(locate: Locate, rows: Rows) -> np.ndarray:
    """Heading of the choice minus the bearing of the place: (row,), radians, NaN where either is none."""
    toward = bearing_rad(*_origins(rows), *locate(rows))
    return np.where(rows.stay > 0, np.nan, rows.bearing_rad) - toward[rows.decision]


def _cos(locate: Locate, rows: Rows) -> np.ndarray:
    return _zero_where_unknown(np.cos(_angle(locate, rows)))


def _sin(locate: Locate, rows: Rows) -> np.ndarray:
    return _zero_where_unknown(np.sin(_angle(locate, rows)))


def _known(locate: Locate, rows: Rows) -> np.ndarray:
    return (~np.isnan(locate(rows)[0])).astype(np.float64)[rows.decision]


def _zero_where_unknown(values: np.ndarray) -> np.ndarray:
    return np.where(np.isnan(values), 0.0, values)
