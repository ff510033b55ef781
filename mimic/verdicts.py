"""Choice rows in pieces into verdicts: which rows are no choices, which decisions are lost, and why; block by block."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from mimic.choice_rows import Rows
from mimic.expressions import check_names, parse
from mimic.factored import Factored
from mimic.spans import blocks

__all__ = ["DESTINATION", "Absent", "JudgeAll", "Rules", "Verdict", "judge", "judge_here", "merge"]

DESTINATION = "destination"


_MOST_REASONS = 250  # codes are of 8 bits


@dataclass(frozen=True)
class Rules:
    """What makes a row no choice and a decision a lost one.

    Parameters
    ----------
    sources
        Covariates without which a cell is no choice.
    at_origin
        Covariates without which, in its origin, a decision is lost.
    domain
        Expression that says which cells are allowed, or None.
    selects
        Whether selections are known.
    reasons, why
        In words: a row has the code of its reason, from 1; a decision that of its why, from 1.
    """

    sources: tuple[str, ...]
    at_origin: tuple[str, ...]
    domain: str | None
    selects: bool
    reasons: tuple[str, ...]
    why: tuple[str, ...]

    @staticmethod
    def of(
        sources: Sequence[str], at_origin: Sequence[str], domain: str | None, *, selects: bool, max_distance_km: float
    ) -> Rules:
        """The rules and their words."""
        reasons = [f"no {name} at the choice" for name in sources]
        reasons += [f"outside the domain ({domain})"] if domain is not None else []
        why: list[str] = []
        if selects:
            why.append(f"selected cell beyond max_distance_km ({max_distance_km:g} km)")
            why += [f"selected cell: {reason.replace(' at the choice', '')}" for reason in reasons]
        why += [f"origin cell: no {name}" for name in at_origin]
        why.append("no choice or only one left")
        if len(why) > _MOST_REASONS:
            raise ValueError(
                f"{len(sources)} covariates give {len(why)} reasons to lose a decision; at most {_MOST_REASONS} can be "
                "told apart. Build a cube of fewer covariates, or choice sets of some at a time."
            )
        return Rules(tuple(sources), tuple(at_origin), domain, selects, tuple(reasons), tuple(why))


@dataclass(frozen=True, eq=False)
class Verdict:
    """What the rules say of some decisions.

    Parameters
    ----------
    row
        (row,), uint8: code of the reason why a row is no choice, 0 where it is one.
    decision
        (decision,), uint8: code of the reason why a decision is lost, 0 where it is kept.
    selected
        (decision,), int32: the selected row, counted within the decision, -1 where none is or it is unknown.
    n_absent
        Covariate -> rows without a value, before any is filled in.
    absent
        Covariate -> the first few of these: number of the decision, cell and time.
    """

    row: np.ndarray
    decision: np.ndarray
    selected: np.ndarray
    n_absent: dict[str, int]
    absent: dict[str, Absent]


Absent = tuple[np.ndarray, np.ndarray, np.ndarray]
JudgeAll = Callable[[Factored, Rules], Verdict]


def judge_here(pieces: Factored, rules: Rules) -> Verdict:
    """The verdict on all decisions, block by block in this process."""
    return merge(judge(pieces, rules, first, last) for first, last in blocks(pieces.n_decisions) or [(0, 0)])


def merge(verdicts: Iterable[Verdict]) -> Verdict:
    """The verdict on the decisions of several, one after the other; there is at least one."""
    parts = list(verdicts)
    names = list(parts[0].n_absent)
    return Verdict(
        row=np.concatenate([part.row for part in parts]),
        decision=np.concatenate([part.decision for part in parts]),
        selected=np.concatenate([part.selected for part in parts]),
        n_absent={name: sum(part.n_absent[name] for part in parts) for name in names},
        absent={name: _first([part.absent[name] for part in parts]) for name in names},
    )


_N_EXAMPLES = 50


def _first(parts: list[Absent]) -> Absent:
    decision, cell, time = (np.concatenate([part[k] for part in parts]) for k in (0, 1, 2))
    order = np.argsort(decision, kind="stable")[:_N_EXAMPLES]
    return decision[order], cell[order], time[order]


def judge(pieces: Factored, rules: Rules, first: int, last: int) -> Verdict:
    """The verdict on the decisions [first, last).

    Raises
    ------
    ValueError
        If the domain is no expression over known columns.
    """
    rows = pieces.rows(first, last)
    row = np.zeros(len(rows.cell), dtype=np.uint8)
    n_absent: dict[str, int] = {}
    absent: dict[str, Absent] = {}
    known: dict[bytes, np.ndarray] = {}  # covariates of one ocean have one coast
    for code, name in enumerate(rules.sources, start=1):
        where = _missing_rows(pieces, name, rows, known)
        n_absent[name] = len(where)
        few = where[:_N_EXAMPLES]
        decision = first + rows.decision[few]
        absent[name] = decision, rows.cell[few], pieces.times[pieces.time_of(decision)]
        if len(where) and pieces.covariates[name].fill is None:
            row[where[row[where] == 0]] = code
    if rules.domain is not None:
        row[(row == 0) & ~_allowed(rules.domain, rows)] = len(rules.reasons)
    selected = _selected(rows, pieces.offsets[first : last + 1])
    return Verdict(row, _lost(pieces, rules, row, selected, first, last), selected, n_absent, absent)


def _missing_rows(pieces: Factored, name: str, rows: Rows, known: dict[bytes, np.ndarray]) -> np.ndarray:
    """The rows in which a covariate has no value, before any is filled in."""
    joined = pieces.covariates[name].field
    gaps = None if joined is None else joined.constant_gaps
    if gaps is None:
        return np.flatnonzero(pieces.is_missing(name, rows))
    key = gaps.tobytes()
    if key not in known:
        known[key] = np.flatnonzero(pieces.is_missing(name, rows)) if gaps.any() else np.zeros(0, dtype=np.int64)
    return known[key]


def _allowed(domain: str, rows: Rows) -> np.ndarray:
    """Whether a row's cell is in the domain: (row,), bool."""
    expression = parse(domain)
    known = [*rows.at_choice, "distance_km", "stay", *map(str, rows.decisions)]
    check_names(expression, known)
    columns: dict[str, np.ndarray] = {"distance_km": rows.distance_km, "stay": rows.stay.astype(np.float64)}
    for name in expression.names:
        if name in rows.at_choice:
            columns[name] = rows.at_choice[name].astype(np.float64)
        elif name not in columns:
            columns[name] = rows.decisions[name].to_numpy()[rows.decision]
    return np.asarray(expression.evaluate(columns), dtype=bool)


def _selected(rows: Rows, offsets: np.ndarray) -> np.ndarray:
    """The selected row, counted within its decision: (decision,), int32, -1 where there is none or it is unknown."""
    selected = np.full(len(rows.decisions), -1, dtype=np.int32)
    if DESTINATION in rows.decisions:
        destination = rows.decisions[DESTINATION].to_numpy(dtype=np.int64)
        hit = np.flatnonzero(rows.cell == destination.take(rows.decision))
        of_decision = rows.decision[hit]
        selected[of_decision] = hit - (offsets[of_decision] - offsets[0])
    return selected


def _lost(pieces: Factored, rules: Rules, row: np.ndarray, selected: np.ndarray, first: int, last: int) -> np.ndarray:
    """Code of why a decision is lost: (decision,), uint8, 0 where it is kept."""
    code = np.zeros(last - first, dtype=np.uint8)
    starts = pieces.offsets[first:last] - pieces.offsets[first]
    number = 0

    def mark(where: np.ndarray) -> None:
        nonlocal number
        number += 1
        code[(code == 0) & where] = number

    if rules.selects:
        mark(selected < 0)
        fate = row[starts + np.maximum(selected, 0)] if len(row) else code
        for reason in range(1, len(rules.reasons) + 1):
            mark((selected >= 0) & (fate == reason))
    here = pieces.decision_rows(first, last).at_choice
    for name in rules.at_origin:
        mark(np.isnan(here[name]))
    left = np.add.reduceat(row == 0, starts, dtype=np.int64) if len(starts) else starts
    mark(left < 2)
    return code
