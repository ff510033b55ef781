"""Choice rows small enough to work a feature out by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd

from mimic.choice_rows import Rows
from mimic.features import FeatureSpec, compute_feature

STAY, EAST, NORTH, SOUTH_WEST = np.nan, np.pi / 2, 0.0, -3 * np.pi / 4


def two_decisions(**columns: object) -> Rows:
    """Stay / 10 km east / 20 km north of animal a, and stay / 5 km south-west of animal b, with decision columns."""
    decisions = pd.DataFrame({"individual": ["a", "b"], "decision": [0, 0], **columns})
    bearing = np.array([STAY, EAST, NORTH, STAY, SOUTH_WEST])
    return Rows(
        decision=np.array([0, 0, 0, 1, 1]),
        distance_km=np.array([0.0, 10.0, 20.0, 0.0, 5.0]),
        bearing_rad=bearing,
        stay=np.isnan(bearing),
        decisions=decisions,
        cell=np.array([1, 2, 3, 4, 5]),
        at_choice={},
        at_origin={},
        units={},
    )


def values(rows: Rows, name: str) -> list[float]:
    return compute_feature(FeatureSpec(name), rows)[0].tolist()
