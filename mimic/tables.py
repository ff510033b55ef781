"""Long tables of choices, in memory or in a file, into ChoiceSets and back."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from mimic.archive import load_choices, save_choices
from mimic.expressions import quantity
from mimic.longtable import read_long_table
from mimic.schema import (
    CHOICE,
    DECISION,
    INDIVIDUAL,
    SELECTED,
    SPLIT,
    TIME,
    TRAIN,
    VALIDATION,
    ChoiceSets,
    FeatureInfo,
    examples,
    require_columns,
)

__all__ = ["from_table", "load_choices", "read_choice_table", "save_choices", "to_table"]

_log = logging.getLogger(__name__)

_KEYS = (INDIVIDUAL, DECISION, CHOICE, SELECTED)
_IS_TRAIN = "_train"


def read_choice_table(
    path: str | Path,
    *,
    features: Sequence[str] | Mapping[str, FeatureInfo],
    columns: Mapping[str, str] | None = None,
    context: Sequence[str] = (),
    derive: Mapping[str, str] | None = None,
    allow_unknown: bool = False,
) -> ChoiceSets:
    """The choice sets in a .csv, .csv.gz or .parquet file; options as in `from_table`.

    `derive` makes columns before anything else: name -> formula over the columns of the file, such as
    `log(step_length_m)`, see `mimic.expressions.quantity`.

    Individuals are read as text, so that the tags 7 and 007 stay two animals.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is of another kind, empty or corrupt, a formula is none or its name is taken, and as `from_table`.
    """
    table = read_long_table(path, columns=columns)
    for name, formula in (derive or {}).items():
        if name in table:
            raise ValueError(f"the derived column {name} is in {Path(path).name} already; give it another name.")
        table[name] = quantity(formula, table)
    return from_table(table, features=features, columns=columns, context=context, allow_unknown=allow_unknown)


def from_table(
    table: pd.DataFrame,
    *,
    features: Sequence[str] | Mapping[str, FeatureInfo],
    columns: Mapping[str, str] | None = None,
    context: Sequence[str] = (),
    allow_unknown: bool = False,
) -> ChoiceSets:
    """The choice sets in a long table: one row a choice, any kind of choice, as many as there are.

    Parameters
    ----------
    table
        Columns `individual`, `decision`, `choice`, `selected` (0/1 or boolean) and the features. The
        names with an underscore in front (`_individual`, ...) are understood too. A decision is an
        (individual, decision) pair, so decision ids may repeat across individuals. Its rows need not be
        neighbors; decisions come out in the order in which they first appear, choices in their order.
    features
        Names of the features, all of role "choice", or name -> role and unit. What is the same for all
        choices of a decision must be declared with role "decision": undeclared, it looks like a covariate
        joined on the wrong cell, and training refuses it.
    columns
        Our names to the table's, where they differ: `{"individual": "animal_id"}`.
    context
        Columns to keep with the decisions; each must be the same for all choices of a decision. By
        default (empty) all such columns that are no features. A time, `time_utc` or `timestamp`, becomes
        `time_utc`, naive, UTC; 1 and 0 in `_train` become "train" and "validation" in `split`, and
        `split` is always kept.
    allow_unknown
        Whether a decision may come without a selected choice, for prediction. It gets `selected` -1; the
        column `selected` may then be missing too.

    Returns
    -------
    ChoiceSets. Individuals are text. Decision ids that are no integers are numbered anew (0, 1, ... by
    first appearance) and kept in the context column `decision_id`.

    Raises
    ------
    ValueError
        If the table is empty or lacks columns; an individual, decision or choice is missing; a decision
        has no or several selected choices, or one choice twice; a feature is no number or not finite (as
        float32); a context column varies within a decision or holds no times.

    Notes
    -----
    Columns that are neither features nor the same within each decision are left out; the log says which.

    Example
    -------
    >>> table = pd.DataFrame(
    ...     {"individual": "a", "decision": 1, "choice": [7, 8], "selected": [0, 1], "distance_km": [0.0, 23.0]}
    ... )
    >>> from_table(table, features=["distance_km"]).selected
    array([1])
    """
    if not len(table):
        raise ValueError("the choice table has no rows; expected one row for each choice of each decision.")
    table = _renamed(table, columns or {}, features)
    context = [TIME if name == "timestamp" and name not in table else name for name in context]
    keys = [key for key in _KEYS if key != SELECTED or not allow_unknown]
    require_columns(list(table.columns), list(dict.fromkeys([*keys, *features, *context])), where="choice table")
    rows = _Rows.of(table[INDIVIDUAL], table[DECISION])
    choice = rows.sorted(_labels(table[CHOICE]))
    _check_distinct(choice, rows)
    values = {name: rows.sorted(column) for name, column in _numbers(table, features).items()}
    _check_finite(values, rows)
    return ChoiceSets(
        decisions=_decisions(table, rows, _context_names(table, rows, features, context)),
        offsets=rows.offsets,
        choice=choice,
        selected=_selected(table.get(SELECTED), rows, allow_unknown),
        features=values,
        info=_info(features, values, rows),
    )


def to_table(choice_sets: ChoiceSets) -> pd.DataFrame:
    """The long table of choice sets: individual, decision, choice, selected (0/1), context columns, features.

    Decisions without a known selection have `selected` 0 throughout. Where a feature and a context column
    share a name, the feature is given.
    """
    cs = choice_sets
    row = cs.decision_of_row
    context = [name for name in cs.decisions.columns if name not in (INDIVIDUAL, DECISION, *cs.features)]
    repeated = cs.decisions[[INDIVIDUAL, DECISION, *context]].iloc[row].reset_index(drop=True)
    keys = {CHOICE: cs.choice, SELECTED: cs.is_selected.astype(np.int8)}
    parts = [repeated[[INDIVIDUAL, DECISION]], pd.DataFrame(keys), repeated[context], pd.DataFrame(dict(cs.features))]
    return pd.concat([part for part in parts if part.shape[1]], axis=1)


@dataclass(frozen=True)
class _Rows:
    """Which rows of a table belong to which decision."""

    individual: np.ndarray  # (decision,), text
    decision: pd.Series  # (decision,), as in the table
    order: np.ndarray | None  # (row,), brings the rows of a decision together; None where they already are
    offsets: np.ndarray  # (decision + 1,), over rows brought together
    first: np.ndarray  # (decision,), the row of the table in which each decision first appears

    @staticmethod
    def of(individual: pd.Series, decision: pd.Series) -> _Rows:
        """Number the (individual, decision) pairs by first appearance."""
        animal, animals = _coded(individual)
        texts, names = pd.factorize(pd.Index(_whole(animals)).astype(str))
        animal = texts[animal]  # 7 and "7" are one animal
        event, events = _coded(decision)
        number, distinct = pd.factorize(animal * len(events) + event)
        offsets = np.concatenate([[0], np.cumsum(np.bincount(number, minlength=len(distinct)))])
        order = None if (np.diff(number) >= 0).all() else np.argsort(number, kind="stable")
        first = offsets[:-1] if order is None else order[offsets[:-1]]
        return _Rows(np.asarray(names, dtype=object)[animal[first]], decision.iloc[first], order, offsets, first)

    def sorted(self, values: np.ndarray) -> np.ndarray:
        """Values of the table's rows with the rows of each decision side by side: (row,)."""
        return values if self.order is None else values[self.order]

    def varies(self, column: pd.Series) -> np.ndarray:
        """Whether a column differs between the choices of a decision: (decision,), bool. Missing equals missing."""
        codes = self.sorted(pd.factorize(column)[0])
        starts = self.offsets[:-1]
        return np.logical_or.reduceat(codes != np.repeat(codes[starts], np.diff(self.offsets)), starts)

    def examples(self, which: np.ndarray) -> str:
        """The first few of the decisions in a mask (decision,), as individual/decision."""
        few = np.flatnonzero(which)[:6]
        return examples([f"{self.individual[d]}/{self.decision.iloc[d]}" for d in few])

    def any_in(self, bad_row: np.ndarray) -> np.ndarray:
        """Which decisions hold a bad row, rows given side by side: (row,) -> (decision,), bool."""
        return np.logical_or.reduceat(bad_row, self.offsets[:-1])


def _renamed(table: pd.DataFrame, columns: Mapping[str, str], features: Iterable[str]) -> pd.DataFrame:
    """The table under our names."""
    table = table.rename(columns=str)
    repeated = table.columns[table.columns.duplicated()]
    if len(repeated):
        raise ValueError(f"column names must be distinct; {examples(list(repeated))} occurs more than once.")
    require_columns(list(table.columns), list(dict.fromkeys(columns.values())), where="choice table")
    ours = {name[1:] if name[1:] in _KEYS and name[:1] == "_" else name: theirs for name, theirs in columns.items()}
    rest = [c for c in table.columns if c not in ours and c not in ours.values()]
    table = table[rest].assign(**{name: table[theirs] for name, theirs in ours.items()}) if ours else table
    aliases = {"_" + key: key for key in _KEYS}
    if TIME not in table and "timestamp" not in features:
        aliases["timestamp"] = TIME
    for alias, name in [*aliases.items(), (_IS_TRAIN, SPLIT)]:
        if alias in table and name in table:
            raise ValueError(f"the choice table has both {alias} and {name}; drop one, or name it in columns.")
    return table.rename(columns=aliases).reset_index(drop=True)


def _coded(column: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """Codes (row,) and distinct values of a key column that must be complete."""
    codes, distinct = pd.factorize(column)
    if (codes < 0).any():
        bad = np.flatnonzero(codes < 0)
        raise ValueError(
            f"{column.name} is missing in {len(bad)} rows (rows {examples(bad[:6])}); every row needs one. "
            "In CSV an empty field is missing, and so are the names NA, nan, null and None."
        )
    return codes.astype(np.int64), np.asarray(distinct)


def _whole(values: np.ndarray) -> np.ndarray:
    """Whole floats, which pandas makes of integers beside a gap, as integers again; anything else as it came."""
    if values.dtype.kind != "f" or not (np.abs(values) < 2.0**53).all() or (values != np.floor(values)).any():
        return values
    return values.astype(np.int64)


def _labels(column: pd.Series) -> np.ndarray:
    """Choices as int64 or text: (row,)."""
    _, distinct = _coded(column)
    kind = pd.api.types.infer_dtype(_whole(distinct))
    if kind in ("integer", "boolean"):
        return column.to_numpy().astype(np.int64)
    if kind in ("string", "empty"):
        return column.to_numpy(dtype=object)
    hint = "Read this column as integers: floats cannot hold cell ids exactly" if kind == "floating" else "Convert it"
    raise ValueError(f"choice must be an integer or text; got {kind} such as {examples(distinct[:6])}. {hint}.")


def _check_distinct(choice: np.ndarray, rows: _Rows) -> None:
    codes, distinct = pd.factorize(choice)
    number = np.repeat(np.arange(len(rows.individual)), np.diff(rows.offsets))
    repeated = rows.any_in(pd.Series(number * len(distinct) + codes).duplicated().to_numpy())
    if repeated.any():
        raise ValueError(
            f"{repeated.sum()} decisions hold a choice more than once ({rows.examples(repeated)}); "
            "every choice of a decision must come once. Do decision ids repeat within an individual?"
        )


def _numbers(table: pd.DataFrame, features: Iterable[str]) -> dict[str, np.ndarray]:
    """The feature columns as float32: name -> (row,)."""
    reserved = sorted(set(features) & set(_KEYS))
    if reserved:
        raise ValueError(
            f"{', '.join(reserved)} cannot be a feature by that name; copy it to a column of another name."
        )
    kinds = pd.api.types
    wrong = {
        name: table[name].dtype
        for name in features
        if not kinds.is_numeric_dtype(table[name].dtype) or kinds.is_complex_dtype(table[name].dtype)
    }
    if wrong:
        said = ", ".join(f"{name} ({dtype})" for name, dtype in list(wrong.items())[:5])
        raise ValueError(f"features must be columns of numbers; got {said}. Turn text into 0/1 columns first.")
    with np.errstate(over="ignore"):  # beyond float32 is infinite, which _check_finite reports
        return {name: table[name].to_numpy(dtype=np.float32, na_value=np.nan) for name in features}


def _check_finite(values: Mapping[str, np.ndarray], rows: _Rows) -> None:
    said = []
    for name, column in values.items():
        bad = ~np.isfinite(column)
        if bad.any():
            said.append(f"{name} in {bad.sum()} rows (decisions {rows.examples(rows.any_in(bad))})")
    if said:
        raise ValueError(
            f"features must be finite numbers; missing or infinite: {'; '.join(said[:5])}"
            f"{' and more features' if len(said) > 5 else ''}. Fill these values or drop these choices first."
        )


def _selected(column: pd.Series | None, rows: _Rows, allow_unknown: bool) -> np.ndarray:
    """The selected row of each decision, -1 where unknown: (decision,)."""
    n_decisions = len(rows.individual)
    selected = np.full(n_decisions, -1)
    if column is None:
        return selected
    flags = rows.sorted(_zero_or_one(column, allow_missing=allow_unknown))
    counts = np.add.reduceat(flags.astype(np.int64), rows.offsets[:-1])
    faults = {"several selected choices": counts > 1, "no selected choice": (counts == 0) & (not allow_unknown)}
    for fault, wrong in faults.items():
        if wrong.any():
            raise ValueError(
                f"{wrong.sum()} of {n_decisions} decisions have {fault} ({rows.examples(wrong)}); expected exactly one. "
                "Mend the table, or allow unknown selections if it is for prediction."
            )
    selected[counts == 1] = np.flatnonzero(flags)
    return selected


def _zero_or_one(column: pd.Series, *, allow_missing: bool = False) -> np.ndarray:
    """A 0/1 or boolean column as booleans, missing as 0 where allowed: (row,)."""
    codes, distinct = pd.factorize(column)
    spellings = [str(value).lower() for value in distinct]
    wrong = [value for value in spellings if value not in ("0", "1", "0.0", "1.0", "true", "false")]
    if not allow_missing and (codes < 0).any():
        wrong.append("a missing value")
    if wrong:
        raise ValueError(f"{column.name} must be 0/1 or true/false; got {examples(wrong)}.")
    is_one = [value in ("1", "1.0", "true") for value in spellings]
    return np.array([*is_one, False])[codes]  # missing has code -1, the last


def _context_names(table: pd.DataFrame, rows: _Rows, features: Iterable[str], context: Sequence[str]) -> list[str]:
    """The columns that go with the decisions."""
    splits = [name for name in (SPLIT, _IS_TRAIN) if name in table]
    wanted = dict.fromkeys([*context, *splits] if context else [c for c in table if c not in (*_KEYS, *features)])
    names: list[str] = []
    left_out = []
    for name in map(str, wanted):
        varies = rows.varies(table[name])
        if not varies.any():
            names.append(name)
        elif context or name in splits:
            raise ValueError(
                f"context column {name} differs between the choices of {varies.sum()} decisions "
                f"({rows.examples(varies)}); expected one value each. Make it a feature or leave it out."
            )
        else:
            left_out.append(name)
    if left_out:
        _log.info("left out columns that are no features and vary within decisions: %s", ", ".join(left_out))
    return names


def _decisions(table: pd.DataFrame, rows: _Rows, context: Sequence[str]) -> pd.DataFrame:
    """One row a decision, with its context."""
    ids = _whole(rows.decision.infer_objects().to_numpy())
    keys: dict[str, object] = {INDIVIDUAL: pd.Series(rows.individual, dtype="str"), DECISION: ids}
    if ids.dtype.kind not in "iu":
        animals = pd.Series(rows.individual)
        keys |= {DECISION: animals.groupby(animals).cumcount().to_numpy(), "decision_id": rows.decision.array}
    more = table[[name for name in context if name not in keys]].iloc[rows.first].reset_index(drop=True)
    decisions = pd.concat([pd.DataFrame(keys), more], axis=1)
    if TIME in context:
        decisions[TIME] = _utc(decisions[TIME])
    if _IS_TRAIN in context:
        is_train = _zero_or_one(decisions.pop(_IS_TRAIN))
        decisions[SPLIT] = np.where(is_train, TRAIN, VALIDATION)
    if SPLIT in decisions and decisions[SPLIT].isna().any():
        bad = decisions[SPLIT].isna().to_numpy()
        raise ValueError(
            f"split is missing for {bad.sum()} decisions ({rows.examples(bad)}); every decision needs one."
        )
    return decisions


def _utc(column: pd.Series) -> pd.Series:
    """Times as naive datetime64[ns] in UTC; times without a zone are taken as UTC."""
    # a number could count anything since anywhen: it is no time
    read = pd.Series(pd.NaT, index=column.index) if pd.api.types.is_numeric_dtype(column.dtype) else column
    times = pd.to_datetime(read, utc=True, format="ISO8601", errors="coerce")
    wrong = times.isna() & column.notna()
    if wrong.any():
        raise ValueError(f"{TIME} must be dates and times such as 2020-06-01 12:00; got {examples(column[wrong])}.")
    return times.dt.tz_localize(None).astype("datetime64[ns]")


def _info(
    features: Sequence[str] | Mapping[str, FeatureInfo], values: Mapping[str, np.ndarray], rows: _Rows
) -> dict[str, FeatureInfo]:
    """Role and unit of each feature, told or found."""
    if not isinstance(features, Mapping):
        return {name: FeatureInfo("choice") for name in values}
    starts = rows.offsets[:-1]
    differs = {
        name: np.minimum.reduceat(column, starts) != np.maximum.reduceat(column, starts)
        for name, column in values.items()
    }
    for name, info in features.items():
        if info.role == "decision" and differs[name].any():
            raise ValueError(
                f"feature {name} has the role decision, but differs between the choices of {differs[name].sum()} "
                f"decisions ({rows.examples(differs[name])}). Give it the role choice or pair."
            )
    return dict(features)
