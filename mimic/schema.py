"""Names of columns and dimensions, and `ChoiceSets`: decisions x choices, ragged, checked once at the border."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Literal

import numpy as np
import pandas as pd

from mimic.spans import segments

__all__ = [
    "BURST",
    "CHOICE",
    "DECISION",
    "INDIVIDUAL",
    "LATITUDE",
    "LONGITUDE",
    "ORIGIN",
    "SEEDS_SUFFIX",
    "SELECTED",
    "SPLIT",
    "TIME",
    "TRAIN",
    "VALIDATION",
    "ChoiceSets",
    "Columns",
    "FeatureInfo",
    "Role",
    "concatenate",
    "examples",
    "require_columns",
]

INDIVIDUAL = "individual"
DECISION = "decision"
CHOICE = "choice"
SELECTED = "selected"
SPLIT = "split"
ORIGIN = "origin"
TIME = "time_utc"
LONGITUDE = "longitude"
LATITUDE = "latitude"
BURST = "burst"
TRAIN = "train"
VALIDATION = "validation"
SEEDS_SUFFIX = "_seeds"
"""Ends the name of the mean over the seeds of a model."""

Role = Literal["decision", "choice", "pair"]


@dataclass(frozen=True)
class FeatureInfo:
    """What a feature is: its role and its unit.

    role is "decision" (same for all choices of a decision: cancels in the probability unless it
    interacts), "choice" (of the cell and the time) or "pair" (of origin and choice, like distance).
    """

    role: Role
    unit: str = "1"
    description: str = ""


def examples(values: Sequence[object] | np.ndarray | pd.Series, limit: int = 5) -> str:
    """The first few distinct values as text, for messages and the ledger."""
    distinct = list(dict.fromkeys(str(v) for v in islice(values, 50 * limit)))
    shown = ", ".join(distinct[:limit])
    return shown + (", ..." if len(distinct) > limit else "")


def require_columns(present: Sequence[str], wanted: Sequence[str], *, where: str) -> None:
    """Raise ValueError that names every missing column at once and what is there instead."""
    missing = [name for name in wanted if name not in set(present)]
    if missing:
        raise ValueError(
            f"{where}: expected the column{'s' if len(missing) > 1 else ''} "
            f"{', '.join(missing)}; got {', '.join(map(str, present))}. "
            "Rename the columns or give a column mapping."
        )


class Columns(Mapping[str, np.ndarray]):
    """Features that are gathered when they are asked for, name -> (row,), float32, and not held in memory."""

    @property
    @abstractmethod
    def n_rows(self) -> int:
        """Rows of every column."""

    @abstractmethod
    def take(self, keep_decision: np.ndarray, keep_row: np.ndarray) -> Mapping[str, np.ndarray]:
        """The columns of some decisions (decision,), bool, and of some of their rows (row,), bool."""

    @abstractmethod
    def block(self, first: int, last: int, names: Sequence[str]) -> dict[str, np.ndarray]:
        """Some columns of the rows of the decisions [first, last)."""

    @abstractmethod
    def pick(self, decisions: np.ndarray, names: Sequence[str]) -> dict[str, np.ndarray]:
        """Some columns of the rows of some decisions, in their order; repeats are fine."""

    @abstractmethod
    def with_more(self, features: Mapping[str, np.ndarray]) -> Columns:
        """The same columns with others added or replaced."""


@dataclass(frozen=True, eq=False)
class ChoiceSets:
    """Decisions and the choices each of them was made from, as flat arrays with offsets.

    The choices of decision `d` are the rows `offsets[d]:offsets[d + 1]`.

    Parameters
    ----------
    decisions
        One row a decision, in order, with a fresh RangeIndex. Holds at least `individual` (text) and
        `decision` (integer); the two together are the key. Any further column is context:
        `time_utc` (naive, UTC), `origin`, `split`, `region`, ...
    offsets
        (decision + 1,), int64. First 0, last the number of rows, strictly increasing.
    choice
        (row,), an H3 cell as int64, or any integer or text label. Distinct within a decision.
    selected
        (decision,), int64: the row (counted over all rows) that was selected, -1 where unknown.
    features
        name -> (row,), float32, in physical units, unscaled. `Columns` stay what they are: gathered when asked for.
    info
        name -> role and unit of the feature. Features without an entry get role "choice".

    Raises
    ------
    ValueError
        If shapes disagree, a choice set is empty, keys repeat, or a selected row lies outside its decision.
    """

    decisions: pd.DataFrame
    offsets: np.ndarray
    choice: np.ndarray
    selected: np.ndarray
    features: Mapping[str, np.ndarray] = field(default_factory=dict)
    info: Mapping[str, FeatureInfo] = field(default_factory=dict)

    def __post_init__(self) -> None:
        put = object.__setattr__
        put(self, "decisions", self.decisions.reset_index(drop=True))
        put(self, "offsets", np.asarray(self.offsets, dtype=np.int64))
        put(self, "selected", np.asarray(self.selected, dtype=np.int64))
        put(self, "choice", np.asarray(self.choice))
        if not isinstance(self.features, Columns):
            put(self, "features", {k: np.asarray(v, dtype=np.float32) for k, v in self.features.items()})
        put(self, "info", {k: self.info.get(k, FeatureInfo("choice")) for k in self.features})
        self._check()

    def _check(self) -> None:
        n_decisions, n_rows = len(self.decisions), len(self.choice)
        require_columns(list(self.decisions.columns), [INDIVIDUAL, DECISION], where="decisions")
        if self.offsets.shape != (n_decisions + 1,) or self.selected.shape != (n_decisions,):
            raise ValueError(
                f"offsets must have shape (decision + 1,) = ({n_decisions + 1},) and selected (decision,) = "
                f"({n_decisions},); got {self.offsets.shape} and {self.selected.shape}."
            )
        if self.offsets[0] != 0 or self.offsets[-1] != n_rows:
            raise ValueError(f"offsets must run from 0 to {n_rows} rows; got {self.offsets[0]} to {self.offsets[-1]}.")
        if (np.diff(self.offsets) <= 0).any():
            empty = np.flatnonzero(np.diff(self.offsets) <= 0)
            raise ValueError(
                f"{len(empty)} decisions have no choices (decision rows {examples(empty)}). "
                "Drop them first, with an entry in the ledger."
            )
        if isinstance(self.features, Columns):
            shapes = {"gathered": (self.features.n_rows,)}
        else:
            shapes = {name: values.shape for name, values in self.features.items()}
        for name, shape in shapes.items():
            if shape != (n_rows,):
                raise ValueError(f"feature {name} must have shape (row,) = ({n_rows},); got {shape}.")
        known = self.selected >= 0
        outside = known & ((self.selected < self.offsets[:-1]) | (self.selected >= self.offsets[1:]))
        if outside.any():
            raise ValueError(
                f"{outside.sum()} decisions have a selected row outside their own choices "
                f"(decision rows {examples(np.flatnonzero(outside))})."
            )
        if self.decisions[DECISION].is_unique:
            return
        repeated = self.decisions.duplicated([INDIVIDUAL, DECISION])
        if repeated.any():
            keys = self.decisions.loc[repeated, [INDIVIDUAL, DECISION]].astype(str).agg("/".join, axis=1)
            raise ValueError(
                f"{repeated.sum()} (individual, decision) keys occur more than once ({examples(keys)}). "
                "Number the decisions of each individual anew."
            )

    @property
    def n_decisions(self) -> int:
        return len(self.decisions)

    @property
    def n_rows(self) -> int:
        return len(self.choice)

    @property
    def n_choices(self) -> np.ndarray:
        """Choices of each decision: (decision,), int64."""
        return np.diff(self.offsets)

    @property
    def decision_of_row(self) -> np.ndarray:
        """The decision (0 ... n_decisions - 1) that each row belongs to: (row,), int64."""
        return np.repeat(np.arange(self.n_decisions), self.n_choices)

    @property
    def is_selected(self) -> np.ndarray:
        """Whether a row is the selected one of its decision: (row,), bool."""
        mask = np.zeros(self.n_rows, dtype=bool)
        mask[self.selected[self.selected >= 0]] = True
        return mask

    @property
    def individuals(self) -> np.ndarray:
        """Individual of each decision: (decision,), text."""
        return self.decisions[INDIVIDUAL].to_numpy()

    @property
    def individual_codes(self) -> np.ndarray:
        """Individual of each decision as 0 ... n_individuals - 1 in order of appearance: (decision,)."""
        return pd.factorize(self.decisions[INDIVIDUAL])[0]

    def matrix(self, names: Sequence[str]) -> np.ndarray:
        """Features side by side: (row, feature), float32, in the order of `names`."""
        missing = [n for n in names if n not in self.features]
        if missing:
            raise ValueError(f"unknown feature {', '.join(missing)}; known are {', '.join(self.features)}.")
        if not names:
            return np.zeros((self.n_rows, 0), dtype=np.float32)
        return np.column_stack([self.features[n] for n in names])

    def restrict(self, keep_row: np.ndarray) -> ChoiceSets:
        """Only the choices of a choice group; decisions whose selected choice is outside it are left out.

        A decision without a known selection stays if any of its choices does. With `keep_row` (row,), bool.
        """
        keep_row = np.asarray(keep_row, dtype=bool)
        if keep_row.shape != (self.n_rows,):
            raise ValueError(f"keep_row must have shape (row,) = ({self.n_rows},); got {keep_row.shape}.")
        counts = np.add.reduceat(keep_row.astype(np.int64), self.offsets[:-1]) if self.n_decisions else self.offsets[:0]
        known = self.selected >= 0
        inside = np.where(known, keep_row[np.maximum(self.selected, 0)], counts > 0) if self.n_rows else known
        keep_row = keep_row & np.repeat(inside, self.n_choices)
        new_position = np.cumsum(keep_row) - 1
        selected = self.selected[inside]
        return self._take(
            np.flatnonzero(inside),
            keep_row,
            counts[inside],
            np.where(selected >= 0, new_position[np.maximum(selected, 0)], -1) if len(selected) else selected,
        )

    def filter(self, keep_decision: np.ndarray) -> ChoiceSets:
        """Only the decisions of a behavior group, with all their choices. `keep_decision` is (decision,), bool."""
        keep_decision = np.asarray(keep_decision, dtype=bool)
        if keep_decision.shape != (self.n_decisions,):
            raise ValueError(
                f"keep_decision must have shape (decision,) = ({self.n_decisions},); got {keep_decision.shape}."
            )
        counts = self.n_choices[keep_decision]
        starts = np.concatenate([[0], np.cumsum(counts)[:-1]]) if len(counts) else counts
        old = self.selected[keep_decision]
        within = old - self.offsets[:-1][keep_decision]
        return self._take(
            np.flatnonzero(keep_decision),
            np.repeat(keep_decision, self.n_choices),
            counts,
            np.where(old >= 0, starts + within, -1),
        )

    def split(self, name: str) -> ChoiceSets:
        """The decisions whose `split` column says `name`."""
        require_columns(list(self.decisions.columns), [SPLIT], where="decisions")
        return self.filter((self.decisions[SPLIT] == name).to_numpy())

    def with_features(
        self, features: Mapping[str, np.ndarray], info: Mapping[str, FeatureInfo] | None = None
    ) -> ChoiceSets:
        """The same choice sets with more (or replaced) features."""
        if isinstance(self.features, Columns):
            more: Mapping[str, np.ndarray] = self.features.with_more(features)
        else:
            more = {**self.features, **features}
        return replace(self, features=more, info={**self.info, **(info or {})})

    def with_context(self, **columns: object) -> ChoiceSets:
        """The same choice sets with more (or replaced) decision columns."""
        return replace(self, decisions=self.decisions.assign(**columns))  # type: ignore[arg-type]

    def block(self, first: int, last: int, names: Sequence[str] | None = None) -> ChoiceSets:
        """The decisions [first, last) with some of their features (all by default), in memory."""
        names = list(self.features) if names is None else list(names)
        start, stop = int(self.offsets[first]), int(self.offsets[last])
        if isinstance(self.features, Columns):
            features = self.features.block(first, last, names)
        else:
            features = {name: self.features[name][start:stop] for name in names}
        selected = self.selected[first:last]
        return ChoiceSets(
            decisions=self.decisions.iloc[first:last],
            offsets=self.offsets[first : last + 1] - start,
            choice=self.choice[start:stop],
            selected=np.where(selected >= 0, selected - start, -1),
            features=features,
            info=self.info,
        )

    def pick(self, decisions: np.ndarray, names: Sequence[str] | None = None) -> ChoiceSets:
        """Some decisions, counted from 0, in the order given, with some of their features (all by default), in memory.

        Their ids are kept; each may be asked for once.
        """
        names = list(self.features) if names is None else list(names)
        counts = self.n_choices[decisions]
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        starts = self.offsets[:-1][decisions]
        rows = segments(starts, counts)
        if isinstance(self.features, Columns):
            features = self.features.pick(decisions, names)
        else:
            features = {name: self.features[name][rows] for name in names}
        selected = self.selected[decisions]
        return ChoiceSets(
            decisions=self.decisions.iloc[decisions],
            offsets=offsets,
            choice=self.choice[rows],
            selected=np.where(selected >= 0, selected - starts + offsets[:-1], -1),
            features=features,
            info=self.info,
        )

    def _take(
        self, decisions: np.ndarray, keep_row: np.ndarray, counts: np.ndarray, selected: np.ndarray
    ) -> ChoiceSets:
        if isinstance(self.features, Columns):
            keep_decision = np.zeros(self.n_decisions, dtype=bool)
            keep_decision[decisions] = True
            features = self.features.take(keep_decision, keep_row)
        else:
            features = {k: v[keep_row] for k, v in self.features.items()}
        return ChoiceSets(
            decisions=self.decisions.iloc[decisions],
            offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            choice=self.choice[keep_row],
            selected=selected,
            features=features,
            info=self.info,
        )


def concatenate(parts: Sequence[ChoiceSets]) -> ChoiceSets:
    """The decisions of several choice sets one after the other.

    Raises
    ------
    ValueError
        If there are no parts, their features, decision columns or kinds of choice differ, or an
        (individual, decision) key repeats.
    """
    if not parts:
        raise ValueError("expected at least one ChoiceSets to concatenate; got none.")
    names = list(parts[0].features)
    for part in parts[1:]:
        if set(part.features) != set(names):
            raise ValueError(
                f"all parts must have the same features; got {', '.join(names)} and {', '.join(part.features)}."
            )
        if set(part.decisions.columns) != set(parts[0].decisions.columns):
            # gaps would be filled with NaN, and integers such as cells then become floats
            raise ValueError(
                f"all parts must have the same decision columns; got {', '.join(parts[0].decisions.columns)} "
                f"and {', '.join(part.decisions.columns)}."
            )
        if (part.choice.dtype.kind in "iu") != (parts[0].choice.dtype.kind in "iu"):
            raise ValueError("all parts must have the same kind of choice, all integers or all text.")
        different = [n for n in names if part.info[n] != parts[0].info[n]]
        if different:
            raise ValueError(f"feature {different[0]} has another role or unit in a later part; make them agree.")
    starts = np.concatenate([[0], np.cumsum([p.n_rows for p in parts])])
    return ChoiceSets(
        decisions=pd.concat([p.decisions for p in parts], ignore_index=True),
        offsets=np.concatenate([[0], *(p.offsets[1:] + s for p, s in zip(parts, starts, strict=False))]),
        choice=np.concatenate([p.choice for p in parts]),
        selected=np.concatenate(
            [np.where(p.selected >= 0, p.selected + s, -1) for p, s in zip(parts, starts, strict=False)]
        ),
        features={n: np.concatenate([p.features[n] for p in parts]) for n in names},
        info=parts[0].info,
    )
