"""Tracks, covariates and feature definitions into `ChoiceSets` over H3 cells, with a ledger of all that was dropped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from mimic.covariates import Covariate, sample
from mimic.expressions import check_names, parse
from mimic.features import PREVIOUS_HEADING, FeatureSpec, Rows, compute_feature
from mimic.hexgrid import bearing_rad, cell_at, centroids, neighbor_table
from mimic.ledger import Ledger
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

DESTINATION = "destination"
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
    """

    name: str
    sample: Callable[[np.ndarray, np.ndarray], np.ndarray]
    unit: str = "1"
    missing: Missing = "drop"


def covariate_source(covariate: Covariate) -> Source:
    """A gridded covariate as a source; it is joined on (choice cell, decision time)."""
    return Source(
        covariate.name, lambda cells, times: sample(covariate, cells, times), covariate.unit or "1", covariate.missing
    )


def area_source(name: str, path: Path) -> Source:
    """1 where a cell's centroid lies in the polygons of a vector file, else 0."""

    def values(cells: np.ndarray, times: np.ndarray) -> np.ndarray:
        unique, inverse = np.unique(cells, return_inverse=True)
        return inside(path, unique)[inverse]

    return Source(name, values, "1", "error")


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
        the step before.
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
    decisions = decisions.reset_index(drop=True)
    candidates, ledger = _candidates(decisions, max_distance_km, sources)
    lost_row, reasons = _lost_rows(candidates, decisions, sources, domain)
    selected = _selected_rows(candidates.cell, candidates.decision, decisions)
    lost_decision, why = _lost_decisions(
        candidates, lost_row, reasons, selected, decisions, features, sources, max_distance_km
    )
    if outside == "error" and DESTINATION in decisions and (lost_decision > 0).any():
        text = _explain(decisions, lost_decision, why).explain()
        raise ValueError(
            f"{(lost_decision > 0).sum():,} of {len(decisions):,} decisions have no usable choice set:\n{text}\n"
            "Enlarge max_distance_km, mend the covariates, or set outside: drop to leave them out."
        )
    ledger += _explain(decisions, lost_decision, why)
    gone = (lost_row == 0) & (lost_decision[candidates.decision] > 0)
    lost_row = np.where(gone, len(reasons) + 1, lost_row)
    for code, reason in enumerate([*reasons, "its decision was dropped"], start=1):
        cells = candidates.cell[lost_row == code]
        ledger = ledger.dropped("choices", reason, cells[:50], unit="choice", n=len(cells))
    choice_sets = _assemble(candidates, decisions, lost_row == 0, lost_decision == 0, selected, features, sources)
    lone = np.flatnonzero(np.add.reduceat(choice_sets.features["stay"], choice_sets.offsets[:-1]) == 0)
    ledger = ledger.changed(
        "choices",
        "origin cell is no choice (see choices dropped): staying could not be selected",
        _where(choice_sets.decisions, lone),
        unit="decision",
    )
    ledger.check(len(decisions), choice_sets.n_decisions, "decision")
    ledger.check(len(candidates.cell), choice_sets.n_rows, "choice")
    return choice_sets, ledger


def require_decisions(choice_sets: ChoiceSets, ledger: Ledger) -> None:
    """Raise ValueError with the whole ledger when no decision is left."""
    if choice_sets.n_decisions == 0:
        raise ValueError(f"no decisions are left; this is where they went:\n{ledger.explain()}")


@dataclass(frozen=True, eq=False)
class _Candidates:
    """All cells within reach of every decision, before anything is dropped."""

    decision: np.ndarray  # (row,)
    cell: np.ndarray
    distance_km: np.ndarray
    bearing_rad: np.ndarray
    stay: np.ndarray
    at_choice: dict[str, np.ndarray]
    at_origin: dict[str, np.ndarray]  # (decision,)


def _candidates(
    decisions: pd.DataFrame, max_distance_km: float, sources: Sequence[Source]
) -> tuple[_Candidates, Ledger]:
    origin = decisions[ORIGIN].to_numpy(dtype=np.int64)
    times = decisions[TIME].to_numpy(dtype="datetime64[ns]")
    table = neighbor_table(origin, max_distance_km)
    flat, offsets = table.rows_of(origin)
    decision = np.repeat(np.arange(len(decisions)), np.diff(offsets))
    cell = table.cell[flat]
    at_choice: dict[str, np.ndarray] = {}
    at_origin: dict[str, np.ndarray] = {}
    ledger = Ledger()
    # Origins ride along: one reading of the file serves both.
    cells, when = np.concatenate([cell, origin]), np.concatenate([times[decision], times])
    for source in sources:
        values, filled = _filled(source, cells, when, len(cell))
        at_choice[source.name], at_origin[source.name] = values[: len(cell)], values[len(cell) :]
        ledger = ledger.changed(
            "choices",
            f"no {source.name}: filled with {source.missing}",
            cell[filled][:50],
            unit="choice",
            n=filled.sum(),
        )
    return (
        _Candidates(
            decision,
            cell,
            table.distance_km[flat],
            table.bearing_rad[flat],
            cell == origin[decision],
            at_choice,
            at_origin,
        ),
        ledger,
    )


def _filled(source: Source, cells: np.ndarray, times: np.ndarray, n_choices: int) -> tuple[np.ndarray, np.ndarray]:
    """Values with the source's policy for missing ones, and which of the first `n_choices` were filled in."""
    values = np.asarray(source.sample(cells, times), dtype=np.float64)
    absent = np.isnan(values)
    among_choices = absent[:n_choices]
    if source.missing == "drop" or not absent.any():
        return values, np.zeros(n_choices, dtype=bool)
    if source.missing == "error" and among_choices.any():
        where = np.flatnonzero(among_choices)
        raise ValueError(
            f"covariate {source.name} has no value for {len(where):,} of {n_choices:,} choices "
            f"(cells {examples(cells[where])}, times {examples(times[where].astype('datetime64[D]'))}). "
            "Set missing: drop to leave those choices out, or missing: <number> to fill them."
        )
    return np.where(absent, float(source.missing), values), among_choices


def _lost_rows(
    candidates: _Candidates, decisions: pd.DataFrame, sources: Sequence[Source], domain: str | None
) -> tuple[np.ndarray, list[str]]:
    """Code of the reason why a row is no choice, (row,), 0 where it is one; and the reasons from code 1 on."""
    code = np.zeros(len(candidates.cell), dtype=np.int64)
    reasons: list[str] = []
    for source in sources:
        reasons.append(f"no {source.name} at the choice")
        code[(code == 0) & np.isnan(candidates.at_choice[source.name])] = len(reasons)
    if domain is not None:
        expression = parse(domain)
        columns = {
            **candidates.at_choice,
            "distance_km": candidates.distance_km,
            "stay": candidates.stay.astype(np.float64),
            **{str(c): decisions[c].to_numpy()[candidates.decision] for c in decisions if c in expression.names},
        }
        check_names(expression, list(columns))
        reasons.append(f"outside the domain ({domain})")
        code[(code == 0) & ~expression.evaluate(columns)] = len(reasons)
    return code, reasons


def _selected_rows(cell: np.ndarray, decision: np.ndarray, decisions: pd.DataFrame) -> np.ndarray:
    """Row of the candidate that was selected, (decision,), -1 where none or unknown."""
    selected = np.full(len(decisions), -1, dtype=np.int64)
    if DESTINATION in decisions:
        hit = np.flatnonzero(cell == decisions[DESTINATION].to_numpy(dtype=np.int64)[decision])
        selected[decision[hit]] = hit
    return selected


def _lost_decisions(
    candidates: _Candidates,
    lost_row: np.ndarray,
    reasons: list[str],
    selected: np.ndarray,
    decisions: pd.DataFrame,
    features: Sequence[FeatureSpec],
    sources: Sequence[Source],
    max_distance_km: float,
) -> tuple[np.ndarray, list[str]]:
    """Code of the reason why a decision is dropped, (decision,), 0 where it is kept; and the reasons."""
    code = np.zeros(len(decisions), dtype=np.int64)
    why: list[str] = []

    def mark(reason: str, where: np.ndarray) -> None:
        why.append(reason)
        code[(code == 0) & where] = len(why)

    if DESTINATION in decisions:
        mark(f"selected cell beyond max_distance_km ({max_distance_km:g} km)", selected < 0)
        of_selected = lost_row[np.maximum(selected, 0)] if len(lost_row) else code
        for number, reason in enumerate(reasons, start=1):
            mark(f"selected cell: {reason.replace(' at the choice', '')}", (selected >= 0) & (of_selected == number))
    for source in sources:
        if any(f.minus_origin and f.source == source.name for f in features):
            mark(f"origin cell: no {source.name}", np.isnan(candidates.at_origin[source.name]))
    left = np.bincount(candidates.decision[lost_row == 0], minlength=len(decisions))
    mark("no choice or only one left", left < 2)
    return code, why


def _explain(decisions: pd.DataFrame, lost: np.ndarray, why: list[str]) -> Ledger:
    ledger = Ledger()
    for number, reason in enumerate(why, start=1):
        ledger = ledger.dropped("choices", reason, _where(decisions, np.flatnonzero(lost == number)), unit="decision")
    return ledger


def _assemble(
    candidates: _Candidates,
    decisions: pd.DataFrame,
    keep_row: np.ndarray,
    keep_decision: np.ndarray,
    selected: np.ndarray,
    features: Sequence[FeatureSpec],
    sources: Sequence[Source],
) -> ChoiceSets:
    number = np.cumsum(keep_decision) - 1
    kept = decisions[keep_decision].reset_index(drop=True)
    old_decision = candidates.decision[keep_row]
    rows = Rows(
        decision=number[old_decision],
        distance_km=candidates.distance_km[keep_row],
        bearing_rad=candidates.bearing_rad[keep_row],
        stay=candidates.stay[keep_row],
        decisions=kept,
        at_choice={k: v[keep_row] for k, v in candidates.at_choice.items()},
        at_origin={k: v[old_decision] for k, v in candidates.at_origin.items()},
        units={s.name: s.unit for s in sources},
    )
    specs = {f.name: f for f in [FeatureSpec("distance_km"), FeatureSpec("stay"), *features]}
    made = {name: compute_feature(spec, rows) for name, spec in specs.items()}
    counts = np.bincount(rows.decision, minlength=len(kept))
    new_row = np.cumsum(keep_row) - 1
    old = selected[keep_decision]
    return ChoiceSets(
        decisions=kept,
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        choice=candidates.cell[keep_row],
        selected=np.where(old >= 0, new_row[np.maximum(old, 0)], -1) if len(new_row) else old,
        features={name: values for name, (values, _) in made.items()},
        info={name: info for name, (_, info) in made.items()},
    )


def _where(table: pd.DataFrame, rows: np.ndarray) -> list[str]:
    """Ids for the ledger: individual and time of some rows (only the first few are spelled out)."""
    few = table.iloc[rows[:10]]
    ids = [f"{i} {t}" for i, t in zip(few[INDIVIDUAL], few[TIME], strict=True)]
    return ids + [""] * (len(rows) - len(ids))
