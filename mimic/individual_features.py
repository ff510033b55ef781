"""A decision column - an attribute of the individual, of its tag, of the decision - into numbers a model can take.

A number is taken as it is, or with a constant where it is unknown and a second feature, `NAME_known`, that says so. The
constant is given, never fitted: a mean over all individuals would carry those of the validation into training.
A column of categories becomes one 0/1 feature a level, and `NAME_unknown` for everything else: a missing entry and a
level that was not named are unknown, so that an individual with a new one can still be predicted.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd

from mimic.choice_rows import Rows
from mimic.feature_definition import Definition
from mimic.ledger import Ledger
from mimic.schema import INDIVIDUAL, require_columns

__all__ = [
    "column_definition",
    "filled_definitions",
    "level_definitions",
    "level_ledger",
    "level_names",
    "missing_ledger",
]

Level = str | int | float | bool


def column_definition(name: str) -> Definition:
    """A decision column as it is; it must be a number everywhere."""
    return Definition(name, "decision", "1", f"{name} of the decision", f"column {name}", partial(_column, name))


def filled_definitions(name: str, column: str, missing: float) -> tuple[Definition, Definition]:
    """A numeric decision column with a constant where it is unknown, and `NAME_known`."""
    known = f"{name}_known"
    return (
        Definition(
            name,
            "decision",
            "1",
            f"{column} of the decision",
            f"column {column}; {missing:g} if unknown",
            partial(_filled, column, missing),
            known=known,
        ),
        Definition(
            known, "decision", "1", f"{column} is known", f"0 if {column} is empty, else 1", partial(_known, column)
        ),
    )


def level_names(name: str, levels: Sequence[Level]) -> dict[str, str]:
    """Feature -> the level that it stands for, as text, "" for unknown; in order.

    Raises
    ------
    ValueError
        If levels repeat, lead to one name, or one is called unknown.

    Example
    -------
    >>> level_names("sex", ["female", "male"])
    {'sex_female': 'female', 'sex_male': 'male', 'sex_unknown': ''}
    """
    names = [f"{name}_{re.sub(r'[^A-Za-z0-9]+', '_', _as_text(level)).strip('_')}" for level in levels]
    found = dict(zip([*names, f"{name}_unknown"], [*map(_as_text, levels), ""], strict=True))
    bad = sorted({one for one in names if names.count(one) > 1 or one in (f"{name}_unknown", f"{name}_")})
    if bad:
        raise ValueError(
            f"levels of {name} must be distinct, begin to differ in letters or digits, and leave out unknown, which is "
            f"always there; got {', '.join(map(_as_text, levels))}."
        )
    return found


def level_definitions(name: str, column: str, levels: Sequence[Level]) -> tuple[Definition, ...]:
    """One 0/1 source a level of a decision column, and `NAME_unknown`; in every decision one of them is 1."""
    named = tuple(map(_as_text, levels))
    return tuple(
        Definition(
            feature,
            "decision",
            "1",
            f"{column} is {level or 'unknown'}",
            f"1 if {column} = {level}, else 0" if level else f"1 if {column} is none of {', '.join(named)}, else 0",
            partial(_is_level, column, level) if level else partial(_is_unknown, column, named),
        )
        for feature, level in level_names(name, levels).items()
    )


def level_ledger(decisions: pd.DataFrame, name: str, column: str, levels: Sequence[Level]) -> Ledger:
    """The decisions that a feature takes as unknown: those without an entry, and those of a level that is not named."""
    text = _texts(decisions, column)
    missing = text == ""
    other = ~missing & ~np.isin(text, [_as_text(level) for level in levels])
    animals = decisions[INDIVIDUAL].astype(str).to_numpy(dtype=object)
    return (
        Ledger()
        .changed("features", f"no {column}: {name}_unknown", animals[missing], unit="decision")
        .changed(
            "features",
            f"{column} of another level: {name}_unknown",
            animals[other] + " " + text[other],
            unit="decision",
        )
    )


def missing_ledger(decisions: pd.DataFrame, column: str, missing: float) -> Ledger:
    """The decisions without an entry in a column, for which a constant stands."""
    empty = decisions[column].isna().to_numpy()
    return Ledger().changed(
        "features", f"no {column}: filled with {missing:g}", decisions.loc[empty, INDIVIDUAL], unit="decision"
    )


def _column(name: str, rows: Rows) -> np.ndarray:
    return rows.of_decision(name)


def _numbers(column: str, rows: Rows) -> np.ndarray:
    """A decision column: (decision,), NaN where it is empty; ValueError where it holds something else."""
    require_columns(list(map(str, rows.decisions.columns)), [column], where="decisions")
    given = rows.decisions[column]
    values = pd.to_numeric(given, errors="coerce").to_numpy(dtype=np.float64)
    wrong = np.isnan(values) & given.notna().to_numpy()
    if wrong.any():
        raise ValueError(
            f"decision column {column} must hold numbers, or be empty where they are unknown; got {given[wrong].iloc[0]!r} "
            f"in {wrong.sum():,} decisions. Give levels: [...] for a column of categories."
        )
    return values


def _filled(column: str, missing: float, rows: Rows) -> np.ndarray:
    values = _numbers(column, rows)
    return np.where(np.isnan(values), missing, values)[rows.decision]


def _known(column: str, rows: Rows) -> np.ndarray:
    return (~np.isnan(_numbers(column, rows))).astype(np.float64)[rows.decision]


def _is_level(column: str, level: str, rows: Rows) -> np.ndarray:
    return (_texts(rows.decisions, column) == level).astype(np.float64)[rows.decision]


def _is_unknown(column: str, named: tuple[str, ...], rows: Rows) -> np.ndarray:
    return (~np.isin(_texts(rows.decisions, column), named)).astype(np.float64)[rows.decision]


def _texts(decisions: pd.DataFrame, column: str) -> np.ndarray:
    """A column as text, "" where it is empty: (decision,), object."""
    require_columns(list(map(str, decisions.columns)), [column], where="decisions")
    codes, values = pd.factorize(decisions[column])
    spelled = np.array([*(_as_text(value) for value in values.tolist()), ""], dtype=object)
    return spelled[codes]  # -1, of a missing entry, is the last


def _as_text(level: object) -> str:
    """A level as a file or a YAML list may spell it: 3 and 3.0 are one level, text is stripped of blanks."""
    if isinstance(level, float) and level.is_integer():
        return str(int(level))
    return str(level).strip()
