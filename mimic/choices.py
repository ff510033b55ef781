"""Tracks, covariates and feature definitions into `ChoiceSets` over H3 cells, with a ledger of all that was dropped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd

from mimic.covariates import Covariate, join, nowhere, sample
from mimic.factored import Factored, OnCells, factor
from mimic.features import PREVIOUS_HEADING, FeatureSpec, origin_covariates
from mimic.gathered import GatheredFeatures
from mimic.hexgrid import bearing_rad, cell_at, centroids
from mimic.joins import JoinedField
from mimic.ledger import Ledger
from mimic.past_motion import past_motion
from mimic.polygons import inside
from mimic.schema import (
    BURST,
    DECISION,
    INDIVIDUAL,
    LATITUDE,
    LONGITUDE,
    ORIGIN,
    TIME,
    ChoiceSets,
    examples,
    require_columns,
)
from mimic.verdicts import DESTINATION, JudgeAll, Rules, Verdict, judge_here

if TYPE_CHECKING:
    from mimic.memory import History

__all__ = [
    "DESTINATION",
    "Missing",
    "Source",
    "area_source",
    "build_choices",
    "covariate_source",
    "make_decisions",
    "require_decisions",
]

Missing = Literal["drop", "error"] | float


@dataclass(frozen=True, eq=False)
class Source:
    """Something that has a value at every (cell, time): a gridded covariate, an area, a table of a simulation.

    Parameters
    ----------
    sample
        (row,) int64 cells and (row,) datetime64[ns] times -> (row,) values, NaN where there is none.
    missing
        What happens to a choice without a value: "drop" it, "error", or a number to fill in.
    join
        (cell,) and (time,), sorted and distinct -> the values on all of them; faster than `sample` row by row.
    explain
        Cells, times and the number of rows -> why none of them has a value.
    """

    name: str
    sample: Callable[[np.ndarray, np.ndarray], np.ndarray]
    unit: str = "1"
    missing: Missing = "drop"
    join: Callable[[np.ndarray, np.ndarray], JoinedField] | None = None
    explain: Callable[[np.ndarray, np.ndarray, int], str] | None = None


def covariate_source(covariate: Covariate) -> Source:
    """A gridded covariate as a source; it is joined on (choice cell, decision time)."""
    return Source(
        covariate.name,
        lambda cells, times: sample(covariate, cells, times),
        covariate.unit or "1",
        covariate.missing,
        join=lambda cells, times: join(covariate, cells, times),
        explain=lambda cells, times, n_rows: nowhere(covariate, cells, times, n_rows),
    )


def area_source(name: str, path: Path) -> Source:
    """1 where a cell's centroid lies in the polygons of a vector file, else 0."""

    def values(cells: np.ndarray, times: np.ndarray) -> np.ndarray:
        unique, inverse = np.unique(cells, return_inverse=True)
        return inside(path, unique)[inverse]

    def joined(cells: np.ndarray, times: np.ndarray) -> JoinedField:
        return JoinedField.static(inside(path, cells), len(times))

    return Source(name, values, "1", "error", join=joined)


def make_decisions(tracks: pd.DataFrame, *, resolution: int) -> tuple[pd.DataFrame, Ledger]:
    """One row for every fix whose next fix, one step later, is known.

    Parameters
    ----------
    tracks
        Resampled: sorted by individual and time, with `burst`; successive fixes of a burst are one step apart.
    resolution
        Of the H3 cells, 0 to 15.

    Returns
    -------
    decisions
        The columns of the tracks and `decision` (numbered from 0 within each individual), `origin` and
        `destination` (H3 cells) and `previous_heading_rad`, the true bearing with which the animal arrived in
        the origin: radians in [-pi, pi], NaN in the first decision of a burst and where the animal stayed in
        the step before. Of the motion before, too: the columns of `mimic.past_motion`.
    ledger
        The last fix of every burst: it has no next fix one step later.

    Notes
    -----
    The heading of arrival is that of the great circle between the centroids of the previous and the present
    cell, at its end: the bearing back to the previous cell plus pi. Where meridians converge it differs from
    the bearing with which the step began.
    """
    require_columns(list(tracks.columns), [INDIVIDUAL, TIME, LONGITUDE, LATITUDE, BURST], where="tracks")
    cells = cell_at(tracks[LONGITUDE].to_numpy(), tracks[LATITUDE].to_numpy(), resolution)
    burst = tracks[BURST].to_numpy()
    has_next = np.zeros(len(tracks), dtype=bool)
    individual = tracks[INDIVIDUAL].to_numpy()
    # bursts may be numbered anew for every individual
    has_next[:-1] = (burst[1:] == burst[:-1]) & (individual[1:] == individual[:-1])
    decisions = tracks[has_next].reset_index(drop=True)
    decisions[ORIGIN] = cells[has_next]
    decisions[DESTINATION] = cells[np.flatnonzero(has_next) + 1]
    decisions[PREVIOUS_HEADING] = _arrival_headings(cells, has_next)[has_next]
    for name, values in past_motion(cells, tracks[TIME].to_numpy(dtype="datetime64[ns]"), has_next).items():
        decisions[name] = values[has_next]
    decisions[DECISION] = decisions.groupby(INDIVIDUAL, sort=False).cumcount().astype("int64")
    ledger = Ledger().dropped(
        "decisions", "no next fix one step later", _where(tracks, np.flatnonzero(~has_next)), unit="fix"
    )
    return decisions, ledger


def _arrival_headings(cells: np.ndarray, has_next: np.ndarray) -> np.ndarray:
    """Bearing of the motion into each fix's cell: (fix,), radians in [-pi, pi], NaN where there was none."""
    heading = np.full(len(cells), np.nan)
    moved = np.flatnonzero(has_next[:-1] & (cells[1:] != cells[:-1]))
    longitude, latitude = centroids(np.concatenate([cells[moved + 1], cells[moved]]))
    here, before = slice(None, len(moved)), slice(len(moved), None)
    back = bearing_rad(longitude[here], latitude[here], longitude[before], latitude[before])
    heading[moved + 1] = np.where(back > 0, back - np.pi, back + np.pi)
    return heading


def build_choices(
    decisions: pd.DataFrame,
    *,
    max_distance_km: float,
    features: Sequence[FeatureSpec] = (),
    sources: Sequence[Source] = (),
    domain: str | None = None,
    outside: Literal["drop", "error"] = "drop",
    history: History | None = None,
    lazy: bool | None = None,
    judge_all: JudgeAll | None = None,
) -> tuple[ChoiceSets, Ledger]:
    """The choice set of every decision: all cells within reach, with their features.

    Parameters
    ----------
    decisions
        From `make_decisions`. Without a `destination` column the selections are unknown (prediction).
    max_distance_km
        A cell is a choice if its centroid lies within this great-circle distance of the origin's. The
        origin is a choice too.
    features
        Computed besides `distance_km` and `stay`, which are always there.
    sources
        Covariates and areas, joined on (choice cell, decision time).
    domain
        Expression over the sources that says which cells are allowed, such as "elevation < 0".
    outside
        What to do with a decision whose selected cell is no choice: drop it (with a line in the ledger) or raise.
    history
        Every fix of the individuals, where a feature asks for the past.
    lazy
        Whether features are gathered from their pieces when they are asked for (4 bytes a row in memory) or held
        as columns (4 bytes a row and feature). By default columns of up to `HELD_VALUES` values are held.
    judge_all
        Who judges the blocks of decisions, such as a dask cluster (`mimic.judges`); by default this process.

    Returns
    -------
    choice_sets, ledger
        Two accounts: decisions in = out + dropped (unit "decision"), choices in = out + dropped ("choice").

    Raises
    ------
    ValueError
        If a selected cell is no choice and `outside` is "error", a source without a value has missing "error",
        or the domain is no expression over known columns.
    """
    require_columns(list(decisions.columns), [INDIVIDUAL, DECISION, ORIGIN, TIME], where="decisions")

    def join_all(cells: np.ndarray, times: np.ndarray) -> dict[str, OnCells]:
        return {source.name: _on_cells(source, cells, times) for source in sources}

    pieces = factor(decisions, max_distance_km=max_distance_km, join=join_all, history=history)
    decisions = pieces.decisions
    rules = Rules.of(
        [source.name for source in sources],
        [s.name for s in sources if any(s.name in origin_covariates(f) for f in features)],
        domain,
        selects=DESTINATION in decisions,
        max_distance_km=max_distance_km,
    )
    verdict = (judge_all or judge_here)(pieces, rules)
    _refuse_missing(pieces, sources, verdict)
    lost = (verdict.decision > 0) & (DESTINATION in decisions)
    if outside == "error" and lost.any():
        text = _explain(decisions, verdict.decision, rules.why).explain()
        raise ValueError(
            f"{lost.sum():,} of {len(decisions):,} decisions have no usable choice set:\n{text}\n"
            "Enlarge max_distance_km, mend the covariates, or set outside: drop to leave them out."
        )
    ledger = _filled(pieces, sources, verdict)
    ledger += _explain(decisions, verdict.decision, rules.why)
    keep_decision = verdict.decision == 0
    keep_row = verdict.row == 0
    gone = keep_row & np.repeat(~keep_decision, np.diff(pieces.offsets))
    code = np.where(gone, np.uint8(len(rules.reasons) + 1), verdict.row)
    for number, reason in enumerate([*rules.reasons, "its decision was dropped"], start=1):
        where = np.flatnonzero(code == number)
        cells = pieces.table.cell[pieces.table_row[where[:50]]]
        ledger = ledger.dropped("choices", reason, cells, unit="choice", n=len(where))
    choice_sets = _assemble(pieces, keep_decision, code == 0, verdict.selected, features, lazy)
    lone = np.flatnonzero(~_stay_is_choice(pieces, code == 0)[keep_decision])
    ledger = ledger.changed(
        "choices",
        "origin cell is no choice (see choices dropped): staying could not be selected",
        _where(choice_sets.decisions, lone),
        unit="decision",
    )
    ledger.check(len(decisions), choice_sets.n_decisions, "decision")
    ledger.check(pieces.n_rows, choice_sets.n_rows, "choice")
    return choice_sets, ledger


def require_decisions(choice_sets: ChoiceSets, ledger: Ledger) -> None:
    """Raise ValueError with the whole ledger when no decision is left."""
    if choice_sets.n_decisions == 0:
        raise ValueError(f"no decisions are left; this is where they went:\n{ledger.explain()}")


HELD_VALUES = 50_000_000
"""Feature values that `build_choices` holds as columns; beyond, they are gathered when they are asked for."""


def _on_cells(source: Source, cells: np.ndarray, times: np.ndarray) -> OnCells:
    fill = None if isinstance(source.missing, str) else float(source.missing)
    if not len(cells):  # of no decisions
        return OnCells(JoinedField.static(np.zeros(0), 0), None, source.unit, fill)
    if source.join is None:
        return OnCells(None, source.sample, source.unit, fill)
    return OnCells(source.join(cells, times), None, source.unit, fill)


def _refuse_missing(pieces: Factored, sources: Sequence[Source], verdict: Verdict) -> None:
    """Raise where a source has no value at all, or none somewhere and must have one everywhere."""
    for source in sources:
        n_absent = verdict.n_absent[source.name]
        nowhere_at_all = 0 < n_absent == pieces.n_rows and bool(np.isnan(pieces.at_origin(source.name)).all())
        if nowhere_at_all and source.explain is not None:
            raise ValueError(source.explain(pieces.cells, pieces.times, pieces.n_rows))
        if source.missing == "error" and n_absent:
            _, cells, times = verdict.absent[source.name]
            raise ValueError(
                f"covariate {source.name} has no value for {n_absent:,} of {pieces.n_rows:,} choices "
                f"(cells {examples(cells)}, times {examples(times.astype('datetime64[D]'))}). "
                "Set missing: drop to leave those choices out, or missing: <number> to fill them."
            )


def _filled(pieces: Factored, sources: Sequence[Source], verdict: Verdict) -> Ledger:
    ledger = Ledger()
    for source in sources:
        n, cells = verdict.n_absent[source.name], verdict.absent[source.name][1]
        if not isinstance(source.missing, str):
            reason = f"no {source.name}: filled with {source.missing}"
            ledger = ledger.changed("choices", reason, cells, unit="choice", n=n)
    return ledger


def _stay_is_choice(pieces: Factored, keep_row: np.ndarray) -> np.ndarray:
    """Whether the origin is among the choices that are kept: (decision,), bool."""
    if not pieces.n_decisions:
        return np.zeros(0, dtype=bool)
    return np.logical_or.reduceat(pieces.is_stay() & keep_row, pieces.offsets[:-1])


def _explain(decisions: pd.DataFrame, lost: np.ndarray, why: Sequence[str]) -> Ledger:
    ledger = Ledger()
    for number, reason in enumerate(why, start=1):
        ledger = ledger.dropped("choices", reason, _where(decisions, np.flatnonzero(lost == number)), unit="decision")
    return ledger


def _assemble(
    pieces: Factored,
    keep_decision: np.ndarray,
    keep_row: np.ndarray,
    selected: np.ndarray,
    features: Sequence[FeatureSpec],
    lazy: bool | None,
) -> ChoiceSets:
    """The choice sets of what is kept; `selected` (decision,) counts rows within the decision, -1 where unknown."""
    chosen = np.where(selected >= 0, pieces.offsets[:-1] + selected, -1)
    # rows of earlier decisions that were dropped are no longer counted
    before = np.concatenate([[0], np.cumsum(keep_row)]) if len(keep_row) else np.zeros(1, dtype=np.int64)
    kept = pieces.take(keep_decision, keep_row)
    specs = {f.name: f for f in [FeatureSpec("distance_km"), FeatureSpec("stay"), *features]}
    gathered = GatheredFeatures(kept, list(specs.values()))
    is_lazy = kept.n_rows * len(specs) > HELD_VALUES if lazy is None else lazy
    old = chosen[keep_decision]
    return ChoiceSets(
        decisions=kept.decisions,
        offsets=kept.offsets,
        choice=kept.choice(),
        selected=np.where(old >= 0, before[np.maximum(old, 0)], -1),
        features=gathered if is_lazy else gathered.gather(),
        info=gathered.info,
    )


def _where(table: pd.DataFrame, rows: np.ndarray) -> list[str]:
    """Ids for the ledger: individual and time of some rows (only the first few are spelled out)."""
    few = rows[:10]
    ids = [f"{i} {t}" for i, t in zip(table[INDIVIDUAL].iloc[few], table[TIME].iloc[few], strict=True)]
    return ids + [""] * (len(rows) - len(ids))
