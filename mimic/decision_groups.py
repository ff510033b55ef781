"""Splits x behavior groups x weightings into the decisions that they hold, and means over these."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from mimic.bootstrap import IndividualSums
from mimic.contrasts import Weighting
from mimic.expressions import EVERYTHING
from mimic.groups import behavior_mask, split_masks
from mimic.schema import ChoiceSets

__all__ = ["DecisionGroup", "decision_groups", "group_mean"]


@dataclass(frozen=True, eq=False)
class DecisionGroup:
    """The decisions of one split and behavior group, and what weighs the same among them.

    Parameters
    ----------
    inside
        (decision,), bool.
    """

    split: str
    behavior_group: str
    weighting: Weighting
    inside: np.ndarray

    @property
    def names(self) -> list[str]:
        """Split, behavior group and weighting, as the columns of a table have them."""
        return [self.split, self.behavior_group, self.weighting]


def decision_groups(
    choice_sets: ChoiceSets,
    behavior_groups: Mapping[str, str] | None,
    splits: Sequence[str] | None,
    weightings: Sequence[Weighting],
) -> list[DecisionGroup]:
    """Every split x behavior group x weighting, splits varying slowest; without behavior groups all decisions.

    Raises
    ------
    ValueError
        If a split or column is unknown, or a condition is none.
    """
    by_split = split_masks(choice_sets, splits)
    conditions = behavior_groups or {EVERYTHING: EVERYTHING}
    behaviors = {name: behavior_mask(choice_sets, text) for name, text in conditions.items()}
    return [
        DecisionGroup(split, behavior, weighting, in_split & in_behavior)
        for (split, in_split), (behavior, in_behavior), weighting in product(
            by_split.items(), behaviors.items(), weightings
        )
    ]


def group_mean(values: np.ndarray, individual: np.ndarray, weighting: Weighting) -> float:
    """Mean over decisions, or over individuals of their means; NaN of nothing. Values may be -inf.

    Example
    -------
    >>> group_mean(np.array([0.0, 1.0, 2.0]), np.array([0, 0, 1]), "individual")
    1.25
    """
    total, weight = IndividualSums.of(values, individual).ratio(weighting)
    return float(total.sum() / weight.sum()) if len(values) else np.nan
