"""Choice rows as the sources of features see them: step, cell, decision and covariates, one entry a row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from mimic.schema import TIME, examples

if TYPE_CHECKING:
    from mimic.memory import History

__all__ = ["Rows"]


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
    cell
        (row,), int64, the choice.
    at_choice, at_origin
        covariate name -> (row,), at the choice cell and at the origin cell, both at the decision's time.
    units
        covariate name -> unit.
    history
        Every fix of the individuals, for what an animal can remember; None where no feature asks for it.
    """

    decision: np.ndarray
    distance_km: np.ndarray
    bearing_rad: np.ndarray
    stay: np.ndarray
    decisions: pd.DataFrame
    cell: np.ndarray
    at_choice: Mapping[str, np.ndarray]
    at_origin: Mapping[str, np.ndarray]
    units: Mapping[str, str]
    history: History | None = None

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
