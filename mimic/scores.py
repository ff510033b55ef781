"""Log-odds and choice groups into what a model makes of every decision: ln p of the selection and contrast loss."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from mimic.probability import contrast_losses, grouped_sum, selected_log_probability
from mimic.schema import ChoiceSets

__all__ = ["ChoiceGroup", "Scores", "check_log_odds", "groups_at_a_time", "mass_of", "score_groups"]

# Rows are scored in blocks that fit into the processor's cache: half the time of whole arrays, no copies of them.
_BLOCK_ROWS = 1 << 17
_WORTH_THREADS = 1 << 21  # rows from which blocks are shared among threads
_MOST_SCORES = 1 << 26  # numbers held at a time while groups are scored, 512 MB
_UNDERFLOW = 1e-200  # odds of a group relative to the likeliest choice outside it, below which it is scored by itself


@dataclass(frozen=True, eq=False)
class ChoiceGroup:
    """The choices that a choice group leaves, and the decisions that it is about.

    Parameters
    ----------
    keep_row
        (row,), bool; None where it leaves all.
    inside
        (decision,), bool: the selection is known and in the group.
    counts
        (decision,), int64: choices left.
    """

    keep_row: np.ndarray | None
    inside: np.ndarray
    counts: np.ndarray

    @property
    def n_in_group(self) -> np.ndarray:
        """(decision,), int64: choices left, 0 for decisions that the group is not about."""
        return np.where(self.inside, self.counts, 0)

    @staticmethod
    def of(cs: ChoiceSets, mask: np.ndarray) -> ChoiceGroup:
        """The group of the rows in a mask (row,)."""
        known = cs.selected >= 0
        if mask.all():
            return ChoiceGroup(None, known, cs.n_choices)
        inside = known & mask[np.maximum(cs.selected, 0)] if cs.n_rows else known
        counts = np.zeros(cs.n_decisions, dtype=np.int64)

        def count(first: int, last: int, rows: slice, offsets: np.ndarray) -> None:
            counts[first:last] = np.add.reduceat(mask[rows], offsets[:-1], dtype=np.int64)

        _over_blocks(cs, count)
        return ChoiceGroup(mask, inside, counts)


@dataclass(frozen=True, eq=False)
class Scores:
    """What a model makes of each decision of a choice group; NaN for decisions that the group is not about.

    Parameters
    ----------
    log_p
        (decision,), ln p(selected) among the choices left, nats.
    contrast
        (decision,), mean loss over the unselected choices left, nats; NaN also where there is none.
    """

    log_p: np.ndarray
    contrast: np.ndarray


def check_log_odds(log_odds: Mapping[str, Any], choice_sets: ChoiceSets) -> None:
    """Raise ValueError unless there is a model, and the log-odds of all are (row,) and finite or -inf."""
    if not log_odds:
        raise ValueError("expected the log-odds of at least one model; got none.")
    for model, phi in log_odds.items():
        values = np.asarray(phi)
        if values.shape != (choice_sets.n_rows,):
            raise ValueError(
                f"log-odds of model {model} must have shape (row,) = ({choice_sets.n_rows},); got {values.shape}."
            )
        bad = np.isnan(values) | (values == np.inf)
        if bad.any():
            raise ValueError(
                f"log-odds of model {model} must be finite or -inf; {bad.sum()} of {len(values)} are NaN or +inf. "
                "Are features missing, or has its training diverged?"
            )


def groups_at_a_time(cs: ChoiceSets, n_models: int) -> int:
    """How many choice groups to score together, so that their scores take little memory."""
    return max(1, _MOST_SCORES // max(2 * cs.n_decisions * n_models + cs.n_rows // 8, 1))


def score_groups(log_odds: np.ndarray, cs: ChoiceSets, groups: Sequence[ChoiceGroup]) -> list[Scores]:
    """The scores of one model in several choice groups, from one exponential of each log-odds.

    Parameters
    ----------
    log_odds
        (row,), nats, without NaN and +inf.
    groups
        Of these choice sets.

    Raises
    ------
    ValueError
        If all choices that a group leaves to a decision are impossible (-inf).

    Notes
    -----
    With odds o = exp(phi - max phi) over the whole choice set, ln p(selected) in a group G is
    ln o_selected - ln sum_{m in G} o_m. Where that sum is below 1e-200 the group is scored by its own maximum.
    """
    phi = np.asarray(log_odds)
    found = [Scores(*(np.full(cs.n_decisions, np.nan) for _ in range(2))) for _ in groups]

    def score(first: int, last: int, rows: slice, offsets: np.ndarray) -> None:
        part = np.asarray(phi[rows], dtype=np.float64)
        sizes, starts = np.diff(offsets), offsets[:-1]
        selected = cs.selected[first:last] - cs.offsets[first]
        known = selected >= 0
        largest = np.maximum.reduceat(part, starts)
        # where all are impossible there is no maximum to subtract, and the decision is scored, and refused, below
        shifted = part - np.repeat(np.where(np.isneginf(largest), 0.0, largest), sizes)
        odds = np.exp(shifted)
        losses = contrast_losses(part, offsets, np.where(known, selected, -1))
        finite = bool(np.isfinite(losses).all())
        of_selected = shifted[np.maximum(selected, 0)]
        for group, scores in zip(groups, found, strict=True):
            inside = group.inside[first:last]
            if not inside.any():
                continue
            keep = None if group.keep_row is None else group.keep_row[rows]
            total = grouped_sum(odds if keep is None else odds * keep, offsets)
            if keep is None:
                lost = grouped_sum(losses, offsets)
            else:  # a product takes a seventh of the time of `where`, but 0 x infinity is not 0
                lost = grouped_sum(losses * keep if finite else np.where(keep, losses, 0.0), offsets)
            with np.errstate(divide="ignore", invalid="ignore"):
                log_p = of_selected - np.log(total)
            small = np.flatnonzero(inside & (total < _UNDERFLOW))
            if len(small):
                log_p[small] = _by_own_maximum(part, offsets, selected, keep, small)
            alternatives = group.counts[first:last] - 1
            log_p[alternatives == 0] = 0.0  # one choice left: ln 1, not its rounding
            contrast = lost / np.where(alternatives > 0, alternatives, np.nan)
            scores.log_p[first:last] = np.where(inside, log_p, np.nan)
            scores.contrast[first:last] = np.where(inside, contrast, np.nan)

    _over_blocks(cs, score)
    return found


def mass_of(log_odds: np.ndarray, cs: ChoiceSets, wanted: np.ndarray) -> np.ndarray:
    """Probability on all wanted choices (row,) of each decision together: (decision,)."""
    phi, mass = np.asarray(log_odds), np.empty(cs.n_decisions)

    def add(first: int, last: int, rows: slice, offsets: np.ndarray) -> None:
        part = np.asarray(phi[rows], dtype=np.float64)
        largest = np.maximum.reduceat(part, offsets[:-1])
        if np.isneginf(largest).any():
            raise ValueError("every choice of a decision has log-odds -inf; at least one must be possible.")
        odds = np.exp(part - np.repeat(largest, np.diff(offsets)))
        mass[first:last] = grouped_sum(odds * wanted[rows], offsets) / grouped_sum(odds, offsets)

    _over_blocks(cs, add)
    return mass


def _by_own_maximum(
    phi: np.ndarray, offsets: np.ndarray, selected: np.ndarray, keep: np.ndarray | None, decisions: np.ndarray
) -> list[float]:
    """Log-probability of the selections of a few decisions among the choices kept."""
    found = []
    for d in decisions:
        rows = np.arange(offsets[d], offsets[d + 1])
        rows = rows if keep is None else rows[keep[rows]]
        at = np.searchsorted(rows, selected[d])
        found.append(float(selected_log_probability(phi[rows], np.array([0, len(rows)]), np.array([at]))[0]))
    return found


def _over_blocks(cs: ChoiceSets, work: Callable[[int, int, slice, np.ndarray], None]) -> None:
    """Call `work(first decision, last, rows, offsets of the block)` for neighboring decisions, by threads if many.

    Each block writes to its own decisions, so that threads do not change a bit.
    """
    edges = np.unique([*np.searchsorted(cs.offsets[:-1], np.arange(0, cs.n_rows, _BLOCK_ROWS)), cs.n_decisions])
    blocks = list(pairwise(edges.tolist()))

    def run(block: tuple[int, int]) -> None:
        first, last = block
        start = int(cs.offsets[first])
        work(first, last, slice(start, int(cs.offsets[last])), cs.offsets[first : last + 1] - start)

    n_threads = min(os.cpu_count() or 1, 4)
    if cs.n_rows < _WORTH_THREADS or n_threads == 1:
        for block in blocks:
            run(block)
        return
    with ThreadPoolExecutor(n_threads) as threads:
        for _ in threads.map(run, blocks):
            pass
