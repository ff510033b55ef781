"""Training data and options into what a training's loss counts: rows, and a weight for each row and decision."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tensorflow as tf

from mimic.augmentation import augment
from mimic.contrasts import sample_contrasts
from mimic.engine import Minibatches, make_minibatches
from mimic.groups import behavior_mask
from mimic.inputs import network_inputs, scaled_inputs
from mimic.options import TrainingOptions
from mimic.prepared import Part, TrainingData
from mimic.rows import LossRows, loss_rows, row_order
from mimic.schema import ChoiceSets
from mimic.streams import RowStream

__all__ = ["Counted", "count", "factors_of"]


@dataclass(frozen=True, eq=False)
class Counted:
    """The rows that training runs over and their weights.

    Parameters
    ----------
    rows
        Their contrast weights sum to 1.
    tensor
        (row, input), float32, scaled; or a `RowStream`.
    decision_weights
        (decision,), summing to 1.
    n_contrasts
        That the loss counts in an epoch.
    redraw
        The number of an epoch -> other contrast weights (row,), where contrasts are drawn anew.
    """

    rows: LossRows
    tensor: Any
    decision_weights: np.ndarray
    n_contrasts: int
    redraw: Callable[[int], np.ndarray] | None = None

    def minibatches(self, options: TrainingOptions, shuffle_seed: int) -> Minibatches:
        return make_minibatches(
            self.rows,
            self.tensor,
            options,
            row_weights=self.rows.contrast_weights,
            decision_weights=self.decision_weights,
            n_contrasts=self.n_contrasts,
            shuffle_seed=shuffle_seed,
        )


def count(data: TrainingData, options: TrainingOptions, seeds: Sequence[int]) -> Counted:
    """What the loss of a training counts.

    Parameters
    ----------
    seeds
        Of which the second draws contrasts and the fourth makes noisy copies.

    Raises
    ------
    ValueError
        If no decision is left with a weight.
    """
    part = data.training
    if options.augmentation is not None:
        part = _augmented(data, options, np.random.default_rng(seeds[3]))
    cs, rows = part.choice_sets, part.rows
    factors = factors_of(cs, options.weights)
    known = cs.selected >= 0
    decision_weights = _normalized(rows.decision_weights * factors[known])
    if options.loss != "contrast_sampled":
        weights = _normalized(rows.contrast_weights * np.repeat(factors[known], rows.sizes))
        n_contrasts = int(np.count_nonzero(rows.contrast_weights))
        counted = Counted(replace(rows, contrast_weights=weights), part.tensor, decision_weights, n_contrasts)
        return _only_weighted(counted, is_softmax=options.loss == "softmax")
    order = row_order(cs)
    of_row = np.repeat(factors * (1.0 if part.factors is None else part.factors), cs.n_choices)

    def draw(rng: np.random.Generator) -> np.ndarray:
        counts = sample_contrasts(
            cs,
            decisions_per_individual=options.decisions_per_individual,
            alternatives_per_decision=options.alternatives_per_decision,
            rng=rng,
        )
        return _normalized((counts * of_row)[order])

    n_drawn = options.decisions_per_individual * options.alternatives_per_decision * len(set(cs.individuals))
    first = np.random.default_rng(seeds[1])
    counted = Counted(replace(rows, contrast_weights=draw(first)), part.tensor, decision_weights, n_drawn)
    if options.redraw:
        return replace(counted, redraw=lambda epoch: draw(np.random.default_rng([seeds[1], epoch])))
    return _only_weighted(counted, is_softmax=False)


def _augmented(data: TrainingData, options: TrainingOptions, rng: np.random.Generator) -> Part:
    assert options.augmentation is not None
    part = data.training
    cs = augment(part.choice_sets, options.augmentation, rng)
    factors = None if part.factors is None else np.tile(part.factors, options.augmentation.copies + 1)
    matrix = network_inputs(cs, data.features, data.individuals)
    rows = loss_rows(cs, matrix, weighting=options.weighting, factors=factors)
    tensor = scaled_inputs(rows.matrix, data.scaling, embeds=bool(data.individuals))
    return Part(cs, factors, replace(rows, matrix=rows.matrix[:0]), tensor)


def factors_of(cs: ChoiceSets, weights: Mapping[str, float]) -> np.ndarray:
    """(decision,): the product of the factors of all conditions that hold."""
    factors = np.ones(cs.n_decisions)
    for text, factor in weights.items():
        factors[behavior_mask(cs, text)] *= factor
    return factors


def _normalized(weights: np.ndarray) -> np.ndarray:
    total = weights.sum()
    if not total > 0:
        raise ValueError("weights leave no training decision with a weight above 0; give one a higher factor.")
    return weights / total


def _only_weighted(counted: Counted, *, is_softmax: bool) -> Counted:
    """Without the rows that do not count in the loss: a decision without alternatives teaches nothing."""
    rows = counted.rows
    if is_softmax:
        keep_decision = (counted.decision_weights > 0) & (rows.sizes > 1)
        keep = np.repeat(keep_decision, rows.sizes)
    else:
        keep = rows.contrast_weights > 0
        keep_decision = np.add.reduceat(keep, rows.starts) > 0
        keep[rows.starts[keep_decision]] = True
    if keep.all():
        return counted
    sizes = np.add.reduceat(keep.astype(np.int32), rows.starts)[keep_decision]
    kept = LossRows(
        matrix=rows.matrix,
        starts=(np.cumsum(sizes) - sizes).astype(np.int32),
        sizes=sizes.astype(np.int32),
        contrast_weights=rows.contrast_weights[keep],
        decision_weights=rows.decision_weights[keep_decision],
    )
    if isinstance(counted.tensor, RowStream):
        tensor: Any = counted.tensor.only(keep_decision, keep)
    else:
        tensor = tf.gather(counted.tensor, np.flatnonzero(keep))
    return replace(counted, rows=kept, tensor=tensor, decision_weights=counted.decision_weights[keep_decision])
