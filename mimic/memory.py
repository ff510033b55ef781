"""Fixes into what an animal can remember at a time: where it has been before, when it was there last, how often.

Only the past counts: a fix is in the past of a decision if it is of the same individual and its time is strictly before
the decision's. The present is no memory, so the fix that the decision is made from is not in its own past.

A **visit** is a run of successive fixes of an individual in one cell; with `max_gap_hours` a longer gap ends it, too.
The **present visit** to the origin, which the decision is made in, is left out: the run of fixes in the origin that the
past ends with. Without this, every origin in which the animal stayed would be "visited before", and memory would be
another word for staying. What counts for the origin are visits that ended before the animal came to it this time.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from mimic.hexgrid import cell_at
from mimic.schema import INDIVIDUAL, LATITUDE, LONGITUDE, TIME, examples, require_columns

__all__ = ["History", "Past", "Visits"]


@dataclass(frozen=True, eq=False)
class Past:
    """The fixes before each of many decisions, as ranges of the fixes of a `History`.

    Parameters
    ----------
    individual
        (decision,), int64: which of the history's individuals.
    begin, end
        (decision,), int64: the past are the fixes `begin ... end - 1`; none where the two are equal.
    end_at_origin
        (decision,), int64: the same end without the present visit to the origin.
    """

    individual: np.ndarray
    begin: np.ndarray
    end: np.ndarray
    end_at_origin: np.ndarray


@dataclass(frozen=True, eq=False)
class Visits:
    """What the past holds about a cell.

    Parameters
    ----------
    last
        (row,), int64: the last fix in the cell, -1 where the animal was never there.
    n_visits
        (row,), int64: how many visits, 0 where never.
    """

    last: np.ndarray
    n_visits: np.ndarray


@dataclass(frozen=True, eq=False)
class History:
    """Every fix of some individuals, sorted by individual and time; make it with `History.of`.

    Parameters
    ----------
    individuals
        (individual,), text, sorted and distinct.
    offsets
        (individual + 1,), int64: the fixes of individual `i` are `offsets[i] ... offsets[i + 1] - 1`; perhaps none.
    time_utc
        (fix,), datetime64[ns].
    longitude, latitude
        (fix,), degrees, longitude in [-180, 180).
    cell
        (fix,), int64, H3 cells of `resolution`.
    max_gap_hours
        A longer time between two fixes in a cell makes two visits of them.

    Example
    -------
    An animal on the equator, one fix a day, in cells a a b a:

    >>> import pandas as pd
    >>> fixes = pd.DataFrame({"individual": "x", "time_utc": pd.date_range("2020-01-01", periods=4),
    ...                       "longitude": [0.0, 0.0, 5.0, 0.0], "latitude": 0.0})
    >>> history = History.of(fixes, resolution=4)
    >>> a, b = history.cell[[0, 2]]
    >>> past = history.past(["x", "x"], fixes["time_utc"][2:], origins=[b, a])  # the third fix and the fourth
    >>> history.visits([0, 0, 1, 1], [a, b, a, b], past=past, origins=[b, b, a, a]).n_visits.tolist()
    [1, 0, 1, 1]
    """

    individuals: np.ndarray
    offsets: np.ndarray
    time_utc: np.ndarray
    longitude: np.ndarray
    latitude: np.ndarray
    cell: np.ndarray
    resolution: int
    max_gap_hours: float = np.inf

    @classmethod
    def of(cls, fixes: pd.DataFrame, *, resolution: int, max_gap_hours: float = np.inf) -> History:
        """The history in a table of fixes, in any order.

        Parameters
        ----------
        fixes
            `individual`, `time_utc`, `longitude` and `latitude`. The tags of an individual go together under its name.
            Fixes at the same time are all kept, in the order of their longitude and latitude: together they are in the
            past of a decision or are not.
        resolution
            Of the H3 cells, that of the choices.
        max_gap_hours
            A longer time between two successive fixes in a cell makes two visits of them; by default no gap does.

        Raises
        ------
        ValueError
            If a column is missing, an individual, time or coordinate is unknown, or the gap is not above 0.
        """
        require_columns(list(fixes.columns), [INDIVIDUAL, TIME, LONGITUDE, LATITUDE], where="fixes of the history")
        unknown = fixes[[INDIVIDUAL, TIME, LONGITUDE, LATITUDE]].isna().any(axis=1)
        if unknown.any():
            raise ValueError(
                f"the fixes of a history need individual, time and position; {unknown.sum()} have a gap (individuals "
                f"{examples(fixes.loc[unknown, INDIVIDUAL])}). Clean the tracks first."
            )
        if not max_gap_hours > 0:
            raise ValueError(f"max_gap_hours must be above 0; got {max_gap_hours}. Leave it out for no limit.")
        codes, names = pd.factorize(fixes[INDIVIDUAL].astype(str), sort=True)
        time = fixes[TIME].to_numpy(dtype="datetime64[ns]")
        longitude = (fixes[LONGITUDE].to_numpy(dtype=np.float64) + 180.0) % 360.0 - 180.0
        latitude = fixes[LATITUDE].to_numpy(dtype=np.float64)
        order = np.lexsort((latitude, longitude, time, codes))
        longitude, latitude = longitude[order], latitude[order]
        return cls(
            individuals=np.asarray(names, dtype=object),
            offsets=np.searchsorted(codes[order], np.arange(len(names) + 1)).astype(np.int64),
            time_utc=time[order],
            longitude=longitude,
            latitude=latitude,
            cell=cell_at(longitude, latitude, resolution),
            resolution=resolution,
            max_gap_hours=max_gap_hours,
        )

    @property
    def n_fixes(self) -> int:
        return len(self.cell)

    @property
    def individual_of_fix(self) -> np.ndarray:
        """Position of each fix's individual in `individuals`: (fix,), int64."""
        return np.repeat(np.arange(len(self.individuals)), np.diff(self.offsets))

    def positions_of(self, individuals: np.ndarray | pd.Series | list[str]) -> np.ndarray:
        """Where individuals stand in `individuals`: (decision,) text -> (decision,), int64.

        Raises
        ------
        ValueError
            If one is not in the history; the message names up to five.
        """
        wanted = pd.Index(individuals).astype(str)
        found = pd.Index(self.individuals).get_indexer(wanted)
        if (found < 0).any():
            raise ValueError(
                f"{wanted[found < 0].nunique()} individuals have decisions but no fixes in the history "
                f"({examples(wanted[found < 0].unique().to_numpy())}). Build the history from the tracks of all "
                "individuals, under the names that they have in the decisions."
            )
        return found.astype(np.int64)

    def past(
        self,
        individuals: np.ndarray | pd.Series | list[str],
        times: np.ndarray | pd.Series,
        *,
        origins: np.ndarray | list[int],
    ) -> Past:
        """The fixes strictly before each decision.

        Parameters
        ----------
        individuals, times, origins
            (decision,): text, datetime64 in UTC, and the cell that the decision is made in.

        Raises
        ------
        ValueError
            If an individual is not in the history.
        """
        animal = self.positions_of(individuals)
        when = np.asarray(times, dtype="datetime64[ns]")
        instants, key = self._instants
        begin = self.offsets[animal]
        end = np.searchsorted(key, animal * (len(instants) + 1) + np.searchsorted(instants, when)).astype(np.int64)
        if not self.n_fixes:
            return Past(animal, begin, end, end)
        last = np.maximum(end - 1, 0)
        gap = when - self.time_utc[last]
        present = (end > begin) & (self.cell[last] == np.asarray(origins, dtype=np.int64)) & ~self._too_long(gap)
        return Past(animal, begin, end, np.where(present, self._visit_begin[last], end))

    def visits(
        self,
        decision: np.ndarray | list[int],
        cells: np.ndarray | list[int],
        *,
        past: Past,
        origins: np.ndarray | list[int],
    ) -> Visits:
        """What the past of each row's decision holds about its cell.

        Parameters
        ----------
        decision
            (row,), index into `past`.
        cells, origins
            (row,), int64: the choice, and the origin of the decision.
        """
        cell, row = np.asarray(cells, dtype=np.int64), np.asarray(decision, dtype=np.int64)
        cells_known, key, fix, ordinal = self._by_cell
        if not self.n_fixes:
            return Visits(np.full(len(cell), -1), np.zeros(len(cell), dtype=np.int64))
        end = np.where(cell == np.asarray(origins, dtype=np.int64), past.end_at_origin[row], past.end[row])
        code = np.minimum(np.searchsorted(cells_known, cell), len(cells_known) - 1)
        first_key = code * (self.n_fixes + 1)
        place = np.searchsorted(key, first_key + end) - 1
        at = np.maximum(place, 0)
        been = (place >= 0) & (cells_known[code] == cell) & (key[at] >= first_key + past.begin[row])
        return Visits(np.where(been, fix[at], -1), np.where(been, ordinal[at], 0))

    def before(self, times: np.ndarray) -> History:
        """The history cut off: of individual `i` only the fixes before `times[i]`, (individual,), datetime64."""
        keep = self.time_utc < np.asarray(times, dtype="datetime64[ns]")[self.individual_of_fix]
        counts = np.bincount(self.individual_of_fix[keep], minlength=len(self.individuals))
        return History(
            individuals=self.individuals,
            offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            time_utc=self.time_utc[keep],
            longitude=self.longitude[keep],
            latitude=self.latitude[keep],
            cell=self.cell[keep],
            resolution=self.resolution,
            max_gap_hours=self.max_gap_hours,
        )

    def sum_of_vectors(self, past: Past) -> np.ndarray:
        """Sum of the unit vectors (from the earth's center) of the fixes in the past: (decision, 3); 0 without any."""
        # one leading 0 an individual, so that the sum of no fixes is there too
        return self._sums[past.end + past.individual]

    def _too_long(self, gap: np.ndarray) -> np.ndarray:
        return gap / np.timedelta64(1, "h") > self.max_gap_hours

    @cached_property
    def _instants(self) -> tuple[np.ndarray, np.ndarray]:
        """The distinct times, and (individual, time) of each fix as one sorted number: (fix,), int64."""
        instants, rank = np.unique(self.time_utc, return_inverse=True)
        return instants, self.individual_of_fix * (len(instants) + 1) + rank

    @cached_property
    def _begins_visit(self) -> np.ndarray:
        """Whether a fix is the first of a visit: (fix,), bool."""
        begins = np.ones(self.n_fixes, dtype=bool)
        animal = self.individual_of_fix
        begins[1:] = (
            (self.cell[1:] != self.cell[:-1]) | (animal[1:] != animal[:-1]) | self._too_long(np.diff(self.time_utc))
        )
        return begins

    @cached_property
    def _visit_begin(self) -> np.ndarray:
        """The fix with which the visit of each fix began: (fix,), int64."""
        return np.maximum.accumulate(np.where(self._begins_visit, np.arange(self.n_fixes), 0))

    @cached_property
    def _by_cell(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Distinct cells; then by (cell, fix), sorted: that pair as one number, the fix, its visit's number from 1."""
        cells, code = np.unique(self.cell, return_inverse=True)
        fix = np.argsort(code, kind="stable")
        code, animal = code[fix], self.individual_of_fix[fix]
        new = np.ones(self.n_fixes, dtype=bool)
        new[1:] = (code[1:] != code[:-1]) | (animal[1:] != animal[:-1])
        counted = np.cumsum(self._begins_visit[fix])
        # the first fix of an individual in a cell always begins a visit, number 1
        ordinal = counted - counted[new][np.cumsum(new) - 1] + 1
        return cells, code * (self.n_fixes + 1) + fix, fix, ordinal

    @cached_property
    def _sums(self) -> np.ndarray:
        """Running sums of unit vectors, each individual from 0 on: (fix + individual, 3)."""
        longitude, latitude = np.radians(self.longitude), np.radians(self.latitude)
        vectors = np.column_stack(
            [np.cos(latitude) * np.cos(longitude), np.cos(latitude) * np.sin(longitude), np.sin(latitude)]
        )
        # one individual at a time: a sum over all of them would depend, in its last digits, on who else is there
        zero = np.zeros((1, 3))
        pieces = [
            np.concatenate([zero, np.cumsum(vectors[begin:end], axis=0)])
            for begin, end in zip(self.offsets[:-1], self.offsets[1:], strict=True)
        ]
        return np.concatenate(pieces) if pieces else np.zeros((0, 3))
