"""Choice rows in pieces - decisions, a neighbor table, covariates on cells - gathered into `Rows` where they are wanted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from mimic.choice_rows import Rows
from mimic.hexgrid import NeighborTable, neighbor_table
from mimic.joins import JoinedField
from mimic.schema import ORIGIN, TIME
from mimic.spans import segments

if TYPE_CHECKING:
    from mimic.memory import History

__all__ = ["Factored", "OnCells", "factor"]


@dataclass(frozen=True, eq=False)
class OnCells:
    """A covariate as the pieces hold it.

    Parameters
    ----------
    field
        Its values on `Factored.cells`, joined to `Factored.times`.
    sample
        In place of the field: (row,) cells and (row,) times -> (row,) values, for what is no table of cells and steps.
    unit
        As in figures.
    fill
        What a missing value is replaced by; None leaves NaN.
    """

    field: JoinedField | None
    sample: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None
    unit: str = "1"
    fill: float | None = None


@dataclass(frozen=True, eq=False)
class Factored:
    """All choice rows of many decisions without a single feature of them: 4 bytes a row.

    Parameters
    ----------
    decisions
        One row a decision, with `origin` and `time_utc`.
    offsets
        (decision + 1,): the rows of decision `d` are `offsets[d]:offsets[d + 1]`.
    table_row
        (row,), int32: the row of the neighbor table that a choice is.
    table
        The cells around every origin.
    cells, times
        (cell,) and (time,), sorted and distinct: what the fields are given for.
    covariates
        Name -> values on cells.
    history
        What animals can remember; see `mimic.choice_rows.Rows`.
    """

    decisions: pd.DataFrame
    offsets: np.ndarray
    table_row: np.ndarray
    table: NeighborTable
    cells: np.ndarray
    times: np.ndarray
    covariates: Mapping[str, OnCells] = field(default_factory=dict)
    history: History | None = None

    @cached_property
    def _table_cell(self) -> np.ndarray:
        """Position of the cell of every row of the neighbor table: (table row,)."""
        return np.searchsorted(self.cells, self.table.cell)

    @cached_property
    def _table_stay(self) -> np.ndarray:
        """Whether a row of the neighbor table is its origin: (table row,), bool."""
        return self.table.cell == np.repeat(self.table.origin, np.diff(self.table.offsets))

    @cached_property
    def _origin_cell(self) -> np.ndarray:
        """Position of every decision's origin: (decision,)."""
        return np.searchsorted(self.cells, self.decisions[ORIGIN].to_numpy(dtype=np.int64))

    @cached_property
    def _time_of(self) -> np.ndarray:
        """Position of every decision's time: (decision,)."""
        return np.searchsorted(self.times, self.decisions[TIME].to_numpy(dtype="datetime64[ns]"))

    @property
    def n_decisions(self) -> int:
        return len(self.decisions)

    @property
    def n_rows(self) -> int:
        return len(self.table_row)

    @property
    def units(self) -> dict[str, str]:
        """Covariate -> unit."""
        return {name: covariate.unit for name, covariate in self.covariates.items()}

    def choice(self, first: int = 0, last: int | None = None) -> np.ndarray:
        """The cell of every choice row of the decisions [first, last): (row,), int64."""
        return self.table.cell[self.table_row[self._span(first, last)]]

    def is_stay(self) -> np.ndarray:
        """Whether each choice row is the origin of its decision: (row,), bool."""
        return self._table_stay.take(self.table_row)

    def rows(self, first: int = 0, last: int | None = None) -> Rows:
        """What features are computed from, of the decisions [first, last)."""
        return _PieceRows(self, first, self.n_decisions if last is None else last)

    def decision_rows(self, first: int = 0, last: int | None = None) -> Rows:
        """One row a decision, its origin: for features that are the same for all choices of a decision."""
        last = self.n_decisions if last is None else last
        n = last - first
        place, when = self._origin_cell[first:last], self._time_of[first:last]
        here = _Gathered(self, place, when, None)
        return Rows(
            decision=np.arange(n),
            distance_km=np.zeros(n),
            bearing_rad=np.full(n, np.nan),
            stay=np.ones(n, dtype=bool),
            decisions=self.decisions.iloc[first:last].reset_index(drop=True),
            cell=self.cells.take(place),
            at_choice=here,
            at_origin=here,
            units=self.units,
            history=self.history,
        )

    def step_rows(self) -> Rows:
        """One row for each row of the neighbor table: for features of the step alone. It has no decisions."""
        n = len(self.table.cell)
        return Rows(
            decision=np.zeros(n, dtype=np.int64),
            distance_km=self.table.distance_km,
            bearing_rad=self.table.bearing_rad,
            stay=self._table_stay,
            decisions=self.decisions.iloc[:0],
            cell=self.table.cell,
            at_choice={},
            at_origin={},
            units={},
        )

    def time_of(self, decisions: np.ndarray) -> np.ndarray:
        """Position in `times` of the time of some decisions, counted from 0."""
        return self._time_of[decisions]

    def at_origin(self, name: str) -> np.ndarray:
        """A covariate in the origin of every decision, at its time: (decision,), float32, NaN where it has no value."""
        return _Gathered(self, self._origin_cell, self._time_of, None)[name]

    def is_missing(self, name: str, rows: Rows) -> np.ndarray:
        """Whether a covariate has no value in the choice of each row, before any is filled in: (row,), bool."""
        covariate = self.covariates[name]
        if covariate.field is not None and covariate.field.constant_gaps is not None:
            return covariate.field.constant_gaps.take(self.place(rows))
        if covariate.fill is None:
            return np.isnan(rows.at_choice[name])
        bare = replace(self, covariates={name: replace(covariate, fill=None)})
        when = np.searchsorted(self.times, rows.decisions[TIME].to_numpy(dtype="datetime64[ns]"))
        return np.isnan(_Gathered(bare, self.place(rows), when, rows.decision)[name])

    def place(self, rows: Rows) -> np.ndarray:
        """Position in `cells` of the choice of each row: (row,)."""
        if isinstance(rows, _PieceRows):
            return rows.place
        return np.searchsorted(self.cells, rows.cell)

    def pick(self, decisions: np.ndarray) -> tuple[Factored, np.ndarray]:
        """Some decisions, counted from 0, in the order given, and their rows here, (row,)."""
        counts = np.diff(self.offsets)[decisions]
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        rows = segments(self.offsets[:-1][decisions], counts)
        picked = replace(
            self,
            decisions=self.decisions.iloc[decisions].reset_index(drop=True),
            offsets=offsets,
            table_row=self.table_row[rows],
        )
        return self._with_known(picked, decisions), rows

    def take(self, keep_decision: np.ndarray, keep_row: np.ndarray) -> Factored:
        """Only some decisions (decision,), bool, with some of their rows (row,), bool; other decisions have none."""
        counts = np.add.reduceat(keep_row, self.offsets[:-1], dtype=np.int64) if self.n_decisions else self.offsets[:0]
        taken = replace(
            self,
            decisions=self.decisions[keep_decision].reset_index(drop=True),
            offsets=np.concatenate([[0], np.cumsum(counts[keep_decision])]).astype(np.int64),
            table_row=self.table_row[keep_row],
        )
        return self._with_known(taken, keep_decision)

    def _with_known(self, other: Factored, decisions: np.ndarray) -> Factored:
        """Others of its decisions; what is known of the table and of the decisions is not looked up again."""
        vars(other).update({name: vars(self)[name] for name in ("_table_cell", "_table_stay") if name in vars(self)})
        known: dict[str, Any] = {
            name: vars(self)[name][decisions] for name in ("_origin_cell", "_time_of") if name in vars(self)
        }
        vars(other).update(known)
        return other

    def _span(self, first: int, last: int | None) -> slice:
        last = self.n_decisions if last is None else last
        return slice(int(self.offsets[first]), int(self.offsets[last]))


class _PieceRows(Rows):
    """Rows of the decisions [first, last), each column gathered when it is first asked for."""

    def __init__(self, pieces: Factored, first: int, last: int) -> None:
        span = slice(int(pieces.offsets[first]), int(pieces.offsets[last]))
        given = {
            "decision": np.repeat(np.arange(last - first), np.diff(pieces.offsets[first : last + 1])),
            "decisions": pieces.decisions.iloc[first:last].reset_index(drop=True),
            "units": pieces.units,
            "history": pieces.history,
            "_pieces": pieces,
            "_table_row": pieces.table_row[span].astype(np.intp),
            "_first": first,
            "_last": last,
        }
        vars(self).update(given)  # the dataclass is frozen

    _pieces: Factored
    _table_row: np.ndarray
    _first: int
    _last: int

    @cached_property
    def distance_km(self) -> np.ndarray:  # type: ignore[override]
        return self._pieces.table.distance_km.take(self._table_row)

    @cached_property
    def bearing_rad(self) -> np.ndarray:  # type: ignore[override]
        return self._pieces.table.bearing_rad.take(self._table_row)

    @cached_property
    def stay(self) -> np.ndarray:  # type: ignore[override]
        return self._pieces._table_stay.take(self._table_row)

    @cached_property
    def cell(self) -> np.ndarray:  # type: ignore[override]
        return self._pieces.table.cell.take(self._table_row)

    @cached_property
    def place(self) -> np.ndarray:
        """Position of the choice among the cells: (row,)."""
        return self._pieces._table_cell.take(self._table_row)

    @cached_property
    def at_choice(self) -> Mapping[str, np.ndarray]:  # type: ignore[override]
        return _Gathered(self._pieces, self.place, self._pieces._time_of[self._first : self._last], self.decision)

    @cached_property
    def at_origin(self) -> Mapping[str, np.ndarray]:  # type: ignore[override]
        span = slice(self._first, self._last)
        return _Gathered(
            self._pieces, self._pieces._origin_cell[span], self._pieces._time_of[span], None, self.decision
        )


class _Gathered(Mapping[str, np.ndarray]):
    """Covariates of some rows, each gathered when it is first asked for."""

    def __init__(
        self,
        pieces: Factored,
        place: np.ndarray,
        time: np.ndarray,
        decision: np.ndarray | None,
        spread: np.ndarray | None = None,
    ) -> None:
        """Of cells at `place` and times of rows (or of their decisions); spread over rows at last where asked."""
        self._pieces, self._place, self._decision, self._spread = pieces, place, decision, spread
        self._time_of = time
        self._time: np.ndarray | None = None
        self._known: dict[str, np.ndarray] = {}
        self._flat: dict[bytes, np.ndarray] = {}

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self._known:
            values = self._values(self._pieces.covariates[name])
            self._known[name] = values if self._spread is None else values.take(self._spread)
        return self._known[name]

    def __contains__(self, name: object) -> bool:
        return name in self._pieces.covariates

    def __iter__(self) -> Iterator[str]:
        return iter(self._pieces.covariates)

    def __len__(self) -> int:
        return len(self._pieces.covariates)

    def _values(self, covariate: OnCells) -> np.ndarray:
        joined = covariate.field
        if joined is not None and joined.is_plain:
            values = joined.values.ravel().take(self._place if len(joined.values) == 1 else self._flat_index(joined))
        elif joined is not None:
            values = joined.at(self._place, self._times())
        else:
            assert covariate.sample is not None
            cells, times = self._pieces.cells[self._place], self._pieces.times[self._times()]
            values = np.asarray(covariate.sample(cells, times), dtype=np.float32)
        if covariate.fill is not None:
            values = np.where(np.isnan(values), np.float32(covariate.fill), values)
        return values

    def _times(self) -> np.ndarray:
        if self._time is None:
            self._time = self._spread_over_rows(self._time_of)
        return self._time

    def _spread_over_rows(self, of_decision: np.ndarray) -> np.ndarray:
        return of_decision if self._decision is None else of_decision.take(self._decision)

    def _flat_index(self, joined: JoinedField) -> np.ndarray:
        """Position in the flattened values of a field: (row,); fields with the same steps share it."""
        key = joined.steps_digest
        if key not in self._flat:
            start = joined.low.take(self._time_of) * joined.values.shape[1]
            self._flat[key] = self._spread_over_rows(start) + self._place
        return self._flat[key]


def factor(
    decisions: pd.DataFrame,
    *,
    max_distance_km: float,
    join: Callable[[np.ndarray, np.ndarray], Mapping[str, OnCells]] = lambda cells, times: {},
    history: History | None = None,
) -> Factored:
    """All cells within reach of every decision's origin, as pieces.

    Parameters
    ----------
    decisions
        With `origin` and `time_utc`.
    max_distance_km
        As for `mimic.hexgrid.neighbor_table`.
    join
        (cell,) and (time,), sorted and distinct -> covariates on them.
    """
    decisions = decisions.reset_index(drop=True)
    origin = decisions[ORIGIN].to_numpy(dtype=np.int64)
    table = neighbor_table(origin, max_distance_km)
    table_row, offsets = table.rows_of(origin)
    cells = np.unique(table.cell)
    times = np.unique(decisions[TIME].to_numpy(dtype="datetime64[ns]"))
    return Factored(decisions, offsets, table_row.astype(np.int32), table, cells, times, join(cells, times), history)
