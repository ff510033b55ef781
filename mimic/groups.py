"""Conditions on choices and on decisions into masks over choice sets: choice groups, behavior groups, splits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from mimic.expressions import EVERYTHING, check_names, parse
from mimic.schema import CHOICE, SPLIT, TIME, TRAIN, VALIDATION, ChoiceSets

__all__ = [
    "N_IN_GROUP",
    "behavior_mask",
    "behavior_names",
    "choice_mask",
    "choice_names",
    "split_masks",
]

N_IN_GROUP = "n_choices_in_group"

_N_CHOICES = "n_choices"
_SELECTED = "selected_"
_CALENDAR = ("month", "hour", "year", "day_of_year")


def choice_mask(choice_sets: ChoiceSets, text: str) -> np.ndarray:
    """The rows of a choice group: (row,), bool.

    Parameters
    ----------
    choice_sets
        The decisions and their choices.
    text
        Condition over the names of `choice_names`, or "all".

    Raises
    ------
    ValueError
        If it is no condition or uses unknown columns.

    Example
    -------
    >>> decisions = pd.DataFrame({"individual": ["a"], "decision": [1]})
    >>> cs = ChoiceSets(decisions, [0, 2], [0, 1], [1], {"distance_km": [0.0, 23.0]})
    >>> choice_mask(cs, "distance_km > 0")
    array([False,  True])
    """
    cs = choice_sets
    expression = parse(text)
    check_names(expression, choice_names(cs))
    if not expression.names & {*cs.features, CHOICE}:
        # same for all choices of a decision: twenty times less to compare
        inside = expression.evaluate(lambda name: _decision_column(cs, name), n_rows=cs.n_decisions)
        return np.repeat(inside, cs.n_choices)

    def look(name: str) -> Any:
        if name in cs.features:
            return cs.features[name]
        return cs.choice if name == CHOICE else pd.Series(_decision_column(cs, name)).array.repeat(cs.n_choices)

    return expression.evaluate(look)


def behavior_mask(choice_sets: ChoiceSets, text: str, *, n_in_group: np.ndarray | None = None) -> np.ndarray:
    """The decisions of a behavior group: (decision,), bool. Those of unknown selection are in none.

    Parameters
    ----------
    choice_sets
        The decisions and their choices.
    text
        Condition over the names of `behavior_names`, or "all".
    n_in_group
        (decision,), what `n_choices_in_group` stands for; by default all choices count.

    Raises
    ------
    ValueError
        If it is no condition or uses unknown columns.

    Example
    -------
    >>> decisions = pd.DataFrame({"individual": ["a", "b"], "decision": [1, 1]})
    >>> cs = ChoiceSets(decisions, [0, 2, 4], [0, 1, 0, 1], [1, 2], {"distance_km": [0.0, 23.0, 0.0, 9.0]})
    >>> behavior_mask(cs, "selected_distance_km > 0")
    array([ True, False])
    """
    cs = choice_sets
    expression = parse(text)
    check_names(expression, behavior_names(cs))
    decision_level = set(_decision_level(cs))

    def look(name: str) -> Any:
        if name in decision_level:
            return _decision_column(cs, name)
        if name in cs.features and cs.info[name].role == "decision":
            return cs.features[name][cs.offsets[:-1]]
        if name == N_IN_GROUP:
            return cs.n_choices if n_in_group is None else n_in_group
        values = cs.features.get(name.removeprefix(_SELECTED), cs.choice)
        return values[np.maximum(cs.selected, 0)]  # of unknown selections anything: they are left out below

    return expression.evaluate(look, n_rows=cs.n_decisions) & (cs.selected >= 0)


def split_masks(choice_sets: ChoiceSets, splits: Sequence[str] | None) -> dict[str, np.ndarray]:
    """Split -> its decisions: (decision,), bool.

    By default the values of the decision column `split`, train and validation first, or "all" where there is
    none; "all" may also be asked for by name. Raises ValueError for a split that does not occur.
    """
    cs = choice_sets
    column = cs.decisions[SPLIT] if SPLIT in cs.decisions else pd.Series(index=cs.decisions.index, dtype=object)
    values = {str(value): value for value in column.dropna().unique()}
    there = [name for name in (TRAIN, VALIDATION) if name in values]
    there += [name for name in values if name not in there]
    wanted = (there or [EVERYTHING]) if splits is None else list(splits)
    unknown = [name for name in wanted if name not in (*there, EVERYTHING)]
    if unknown:
        raise ValueError(f"unknown split {', '.join(unknown)}; known are {', '.join([*there, EVERYTHING])}.")
    everything = np.ones(cs.n_decisions, dtype=bool)
    return {name: (column == values[name]).to_numpy(bool) if name in values else everything for name in wanted}


def choice_names(choice_sets: ChoiceSets) -> list[str]:
    """What a choice group may speak of: features, `choice`, decision columns, calendar columns, `n_choices`.

    Where a feature and a decision column share a name, it means the feature.
    """
    return list(dict.fromkeys([*choice_sets.features, CHOICE, *_decision_level(choice_sets)]))


def behavior_names(choice_sets: ChoiceSets) -> list[str]:
    """What a behavior group may speak of, the first of a name taking precedence.

    Decision columns; month, hour, year and day_of_year where there is `time_utc`; `n_choices` (of the full
    choice set); features with the role "decision"; any feature of the selected choice as
    `selected_<feature>`, and `selected_choice`; and `n_choices_in_group`, the choices left in the choice group.
    """
    own = [name for name, info in choice_sets.info.items() if info.role == "decision"]
    selected = [_SELECTED + name for name in (*choice_sets.features, CHOICE)]
    return list(dict.fromkeys([*_decision_level(choice_sets), *own, *selected, N_IN_GROUP]))


def _decision_level(cs: ChoiceSets) -> list[str]:
    """Columns that every decision has: its own, and those that follow from them."""
    return [*map(str, cs.decisions.columns), *(_CALENDAR if TIME in cs.decisions else ()), _N_CHOICES]


def _decision_column(cs: ChoiceSets, name: str) -> Any:
    if name in cs.decisions:
        return cs.decisions[name]
    if name == _N_CHOICES:
        return cs.n_choices
    return getattr(pd.DatetimeIndex(cs.decisions[TIME]), name).to_numpy()
