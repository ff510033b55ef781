"""Choice sets whose features are gathered, and a scaling, into rows for training that are never all in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tensorflow as tf

from mimic.inputs import network_inputs, scaled_inputs
from mimic.model import BLOCK_ROWS
from mimic.network import Scaling
from mimic.rows import row_order
from mimic.schema import ChoiceSets, Columns
from mimic.spans import blocks, segments

__all__ = ["HELD_BYTES", "RowStream", "ahead", "is_too_large"]

HELD_BYTES = 1_000_000_000
"""Rows for training are held in memory up to this size; larger ones of gathered features are streamed."""


def is_too_large(cs: ChoiceSets, n_features: int) -> bool:
    """Whether the rows of these choice sets are to be streamed: their features are gathered, and large."""
    return isinstance(cs.features, Columns) and cs.n_rows * n_features * 4 > HELD_BYTES


@dataclass(frozen=True, eq=False)
class RowStream:
    """Rows of decisions, (row, input), float32, scaled, the selected row of each decision first.

    Parameters
    ----------
    choice_sets
        Whose features are gathered when they are asked for.
    features, individuals, scaling
        What the network takes: see `mimic.prepared.TrainingData`.
    decisions
        (decision,): which decisions of the choice sets, in order.
    sizes
        (decision,): how many rows each has.
    keep
        (row,), bool, over all rows of these decisions: which count; None for all.
    """

    choice_sets: ChoiceSets
    features: tuple[str, ...]
    individuals: tuple[str, ...]
    scaling: Scaling
    decisions: np.ndarray
    sizes: np.ndarray
    keep: np.ndarray | None = None

    @staticmethod
    def of(choice_sets: ChoiceSets, features: Sequence[str], individuals: Sequence[str], scaling: Scaling) -> RowStream:
        """Of all decisions whose selection is known."""
        decisions = np.flatnonzero(choice_sets.selected >= 0)
        return RowStream(
            choice_sets, tuple(features), tuple(individuals), scaling, decisions, choice_sets.n_choices[decisions]
        )

    @property
    def shape(self) -> tuple[int, int]:
        """(row, input), as an array would have it."""
        n_rows = int(self.sizes.sum()) if self.keep is None else int(np.count_nonzero(self.keep))
        return n_rows, len(self.features) + bool(self.individuals)

    def __len__(self) -> int:
        return self.shape[0]

    def only(self, keep_decision: np.ndarray, keep_row: np.ndarray) -> RowStream:
        """Some of its decisions (decision,), bool, and some of their rows (row,), bool; of all rows it has now."""
        if self.keep is not None:
            raise RuntimeError("rows are left out of a stream once: a fault of mimic.")
        within = np.repeat(keep_decision, self.sizes)
        return replace(
            self, decisions=self.decisions[keep_decision], sizes=self.sizes[keep_decision], keep=keep_row[within]
        )

    def of_decisions(self, which: np.ndarray) -> Any:
        """The rows of some of its decisions, counted from 0, in this order: (row, input), a tensor."""
        part = self.choice_sets.pick(self.decisions[which], self.features)
        matrix = network_inputs(part, self.features, self.individuals)[row_order(part)]
        if self.keep is not None:
            ends = np.cumsum(self.sizes)
            matrix = matrix[self.keep[segments(ends[which] - self.sizes[which], self.sizes[which])]]
        return scaled_inputs(matrix, self.scaling, embeds=bool(self.individuals))

    def __iter__(self) -> Iterator[Any]:
        """All rows, in blocks of the size in which a tensor of them would be evaluated."""
        parts = [np.arange(first, last) for first, last in blocks(len(self.decisions))]
        left = None
        for rows in ahead(self.of_decisions, parts):
            rows = rows if left is None else tf.concat([left, rows], axis=0)
            whole = len(rows) // BLOCK_ROWS * BLOCK_ROWS
            yield from (rows[i : i + BLOCK_ROWS] for i in range(0, whole, BLOCK_ROWS))
            left = rows[whole:]
        if left is not None and len(left):
            yield left


def ahead(make: Any, wanted: Sequence[Any]) -> Iterator[Any]:
    """`make` of each, in order; the next is made in a thread while one is used."""
    with ThreadPoolExecutor(1) as pool:
        coming = None
        for one in wanted:
            ready, coming = coming, pool.submit(make, one)
            if ready is not None:
                yield ready.result()
        if coming is not None:
            yield coming.result()
