"""A named source of feature values: its role, its unit, its formula, and what makes it from choice rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from mimic.choice_rows import Rows
from mimic.hexgrid import centroids
from mimic.schema import INDIVIDUAL, LATITUDE, LONGITUDE, ORIGIN, FeatureInfo, Role, examples, require_columns

__all__ = ["Definition", "decision_positions", "optional_column"]


@dataclass(frozen=True)
class Definition:
    """One source of features.

    Parameters
    ----------
    name
        What experiments call it.
    role, unit
        As in `mimic.schema.FeatureInfo`.
    description
        What it is, in a few words, for tables.
    formula
        How it is computed, in symbols, for tables.
    make
        Choice rows -> (row,), float64. It sees any slice of rows and looks at no row but its own.
    known
        The source that is 1 where this one has a value and 0 where it is unknown; "" where it always has one.
        Where it is unknown its value is 0, which is a number like any other to a model: the two belong together.
    unit_of
        The covariate whose unit it has, in place of `unit`.
    at_origin
        The covariates whose value at the origin it needs.
    needs_history
        Whether it draws on `Rows.history`.
    """

    name: str
    role: Role
    unit: str
    description: str
    formula: str
    make: Callable[[Rows], np.ndarray]
    known: str = ""
    unit_of: str = ""
    at_origin: tuple[str, ...] = ()
    needs_history: bool = False

    def info(self, rows: Rows) -> FeatureInfo:
        """Role, unit and description with these rows."""
        unit = rows.units.get(self.unit_of, "1") if self.unit_of else self.unit
        return FeatureInfo(self.role, unit, self.description)


def optional_column(rows: Rows, name: str, *, needed_by: Sequence[str], advice: str) -> np.ndarray:
    """A decision column that may have gaps: (decision,), float64, NaN where it is unknown or no number.

    Raises
    ------
    ValueError
        If there is no such column; the message names the sources that need it, and gives the advice.
    """
    import pandas as pd

    if name not in rows.decisions:
        present = list(map(str, rows.decisions.columns))
        raise ValueError(
            f"{', '.join(needed_by)} need{'s' if len(needed_by) == 1 else ''} the decision column {name}, which is not "
            f"there; {advice} The columns are {', '.join(present)}."
        )
    return pd.to_numeric(rows.decisions[name], errors="coerce").to_numpy(dtype=np.float64)


def decision_positions(rows: Rows) -> tuple[np.ndarray, np.ndarray]:
    """Longitude and latitude where each decision is made: two (decision,), degrees.

    The decision columns `longitude` and `latitude`; the center of the origin where one of them is not there.

    Raises
    ------
    ValueError
        If a coordinate is unknown or no number, or there is neither a position nor an origin.
    """
    made = rows.decisions
    if LONGITUDE not in made or LATITUDE not in made:
        columns = list(map(str, made.columns))
        require_columns(columns, [ORIGIN], where="features of the place of a decision, without longitude and latitude")
        return centroids(made[ORIGIN].to_numpy(dtype=np.int64))
    longitude, latitude = (
        optional_column(rows, name, needed_by=["features of place"], advice="") for name in (LONGITUDE, LATITUDE)
    )
    unknown = ~(np.isfinite(longitude) & np.isfinite(latitude))
    if unknown.any():
        raise ValueError(
            f"{unknown.sum():,} decisions have no longitude or latitude (individuals "
            f"{examples(made.loc[unknown, INDIVIDUAL])}); features of their place and light need both everywhere."
        )
    return longitude, latitude
