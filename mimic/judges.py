"""Choice rows in pieces judged by other processes, animal by animal: the workers of a dask cluster, or of this machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from mimic.factored import Factored
from mimic.schema import INDIVIDUAL
from mimic.spans import BLOCK_DECISIONS, blocks, segments
from mimic.tasks import Failure, Setup, Workers
from mimic.verdicts import JudgeAll, Rules, Verdict, judge, merge

__all__ = ["judge_on_cluster", "judge_part", "judge_with", "share", "whole_individuals"]


def judge_on_cluster(address: str) -> JudgeAll:
    """Judges on the dask cluster whose scheduler is at this address; the verdict is the same to the last bit."""
    from mimic.cluster import DaskWorkers

    return judge_with(lambda setup: DaskWorkers(address, setup=setup))


def judge_with(workers: Callable[[Setup], Workers], *, part_decisions: int = BLOCK_DECISIONS) -> JudgeAll:
    """Judges by workers: the neighbor table and the covariates are sent once, then the decisions of some individuals.

    Raises
    ------
    RuntimeError
        From the judge: if a worker fails; the message is the worker's.
    ConnectionError, ChildProcessError
        As the workers.
    """

    def judge_all(pieces: Factored, rules: Rules) -> Verdict:
        nothing = np.zeros(0, dtype=np.int64)
        shared = replace(pieces.pick(nothing)[0], history=None)
        parts = whole_individuals(pieces.decisions, part_decisions)
        tasks = [(pieces.decisions.iloc[part],) for part in parts]
        verdicts: dict[int, Verdict] = {}
        with workers(("mimic.judges:share", (shared, rules))) as running:
            for done in running.run("mimic.judges:judge_part", tasks):
                if isinstance(done.value, Failure):
                    kind = ValueError if done.value.type == "ValueError" else RuntimeError
                    raise kind(done.value.message or str(done.value))
                verdicts[done.index] = done.value
        return _in_order(pieces, rules, parts, [verdicts[index] for index in range(len(parts))])

    return judge_all


def share(pieces: Factored, rules: Rules) -> tuple[Factored, Rules]:
    """What a worker holds for its tasks."""
    return pieces, rules


def judge_part(shared: tuple[Factored, Rules], decisions: pd.DataFrame) -> Verdict:
    """The verdict on some decisions, in a worker."""
    pieces, rules = shared
    decisions = decisions.reset_index(drop=True)
    table_row, offsets = pieces.table.rows_of(decisions["origin"].to_numpy(dtype=np.int64))
    part = replace(pieces, decisions=decisions, offsets=offsets, table_row=table_row.astype(np.int32))
    return merge(judge(part, rules, first, last) for first, last in blocks(len(decisions)))


def whole_individuals(decisions: pd.DataFrame, part_decisions: int) -> list[np.ndarray]:
    """Which decisions each part has: all of some individuals, at least `part_decisions` but for the last part."""
    codes = pd.factorize(decisions[INDIVIDUAL])[0]
    order = np.argsort(codes, kind="stable")
    ends = np.cumsum(np.bincount(codes))
    parts: list[np.ndarray] = []
    start = 0
    for end in ends.tolist():
        if end - start >= part_decisions or end == len(order):
            parts.append(np.sort(order[start:end]))
            start = end
    return parts


def _in_order(pieces: Factored, rules: Rules, parts: Sequence[np.ndarray], verdicts: Sequence[Verdict]) -> Verdict:
    """Verdicts on parts of the decisions as one on all of them, in their order."""
    row = np.zeros(pieces.n_rows, dtype=np.uint8)
    decision = np.zeros(pieces.n_decisions, dtype=np.uint8)
    selected = np.zeros(pieces.n_decisions, dtype=np.int32)
    numbered: list[Verdict] = []
    for part, verdict in zip(parts, verdicts, strict=True):
        row[segments(pieces.offsets[part], np.diff(pieces.offsets)[part])] = verdict.row
        decision[part], selected[part] = verdict.decision, verdict.selected
        absent: dict[str, Any] = {n: (part[at], cell, time) for n, (at, cell, time) in verdict.absent.items()}
        numbered.append(replace(verdict, absent=absent))
    whole = merge(numbered) if numbered else judge(pieces, rules, 0, 0)
    return replace(whole, row=row, decision=decision, selected=selected)
