"""Rows with weights into one epoch of training inside a TensorFlow graph: a Keras model whose step is an epoch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from mimic.core import core_network, log_odds_of
from mimic.options import TrainingOptions, build_optimizer, learning_rates
from mimic.rows import LossRows
from mimic.spans import segments
from mimic.streams import RowStream, ahead

__all__ = ["Minibatches", "Trainer", "first_bad_batch", "make_minibatches"]

PART_DECISIONS = 50_000
"""Decisions of a stream that are in memory at once, twice: those trained on, and the next."""


@dataclass(frozen=True, eq=False)
class Minibatches:
    """What an epoch runs over: rows of decisions, selected row first, with their weights, as tensors.

    One more decision at the end has no rows: it fills the last minibatch.

    Parameters
    ----------
    rows
        (row, input), float32: scaled as the network would, see `mimic.core.scale_rows`; or a `RowStream` of them.
    position
        (row,), int32: counted within the decision, 0 for the selected row.
    starts, sizes
        (decision + 1,), int32.
    row_weights
        (row,), float32: of contrasts.
    decision_weights
        (decision + 1,), float32: of the softmax.
    n_batches, batch_size
        Minibatches of an epoch, and decisions in each.
    shuffle_seed
        With the number of the epoch it gives the order of the decisions.
    rates
        (step,), float32: the learning rate of every step of the whole training, or empty without a schedule.
    """

    rows: Any
    position: Any
    starts: Any
    sizes: Any
    row_weights: Any
    decision_weights: Any
    n_batches: int
    batch_size: int
    shuffle_seed: int
    rates: Any

    @property
    def n_decisions(self) -> int:
        return int(self.starts.shape[0]) - 1

    @property
    def n_choices(self) -> int | None:
        """Of every choice set, where all are of one size."""
        sizes = self.sizes.numpy()[:-1]
        return int(sizes[0]) if (sizes == sizes[0]).all() else None

    def order(self, epoch: int) -> Any:
        """(batch, decision): the decisions of every minibatch of an epoch, counted from 0."""
        return _order(self.n_decisions, epoch, self.shuffle_seed, self.n_batches, self.batch_size)

    def parts(self, order: Any) -> Iterator[tuple[Minibatches, Any]]:
        """What an epoch runs over one after the other, each with its own order: all at once, or so much of a stream."""
        if not isinstance(self.rows, RowStream):
            yield self, order
            return
        batches = order.numpy()
        size = max(1, PART_DECISIONS // self.batch_size)
        yield from ahead(self._part, [batches[i : i + size] for i in range(0, len(batches), size)])

    def rows_of(self, decisions: np.ndarray) -> np.ndarray:
        """The rows of some decisions, counted from 0: (row, input), float32."""
        if isinstance(self.rows, RowStream):
            return np.asarray(self.rows.of_decisions(decisions))
        row = segments(self.starts.numpy()[decisions], self.sizes.numpy()[decisions])
        return np.asarray(tf.gather(self.rows, row))

    def _part(self, batches: np.ndarray) -> tuple[Minibatches, Any]:
        """Minibatches (batch, decision) of a stream, in memory."""
        wanted = batches.ravel()
        there = wanted[wanted < self.n_decisions]
        sizes = self.sizes.numpy()[there]
        row = segments(self.starts.numpy()[there], sizes)
        part = replace(
            self,
            rows=self.rows.of_decisions(there),
            position=tf.constant(self.position.numpy()[row]),
            starts=tf.constant(np.append(np.cumsum(sizes) - sizes, 0).astype(np.int32)),
            sizes=tf.constant(np.append(sizes, 0).astype(np.int32)),
            row_weights=tf.constant(self.row_weights.numpy()[row]),
            decision_weights=tf.constant(np.append(self.decision_weights.numpy()[there], np.float32(0.0))),
        )
        # decisions that fill the last minibatch have no rows here either
        return part, tf.constant(np.arange(len(wanted), dtype=np.int32).clip(max=len(there)).reshape(batches.shape))


def make_minibatches(
    rows: LossRows,
    tensor: Any,
    options: TrainingOptions,
    *,
    row_weights: np.ndarray,
    decision_weights: np.ndarray,
    n_contrasts: int,
    shuffle_seed: int,
) -> Minibatches:
    """The minibatches of one training.

    Parameters
    ----------
    tensor
        The matrix of the rows, (row, input), as a tensor, which evaluation may share.
    row_weights, decision_weights
        (row,) and (decision,): what the loss counts, each summing to 1.
    n_contrasts
        That the loss counts in an epoch; with `batch_contrasts` it says how many minibatches there are.
    """
    n_decisions = len(rows.starts)
    n_batches = -(-n_decisions // options.batch_decisions)
    if options.batch_contrasts is not None:
        n_batches = min(-(-n_contrasts // options.batch_contrasts), n_decisions)
    batch_size = -(-n_decisions // n_batches)
    # whole decisions may fill fewer: a step without any would move weights by the optimizer's memory alone
    n_batches = -(-n_decisions // batch_size)
    position = np.arange(len(row_weights), dtype=np.int32) - np.repeat(rows.starts, rows.sizes)
    rates = learning_rates(options, n_epochs=options.epochs, steps_per_epoch=n_batches)
    return Minibatches(
        rows=tensor,
        position=tf.constant(position.astype(np.int32)),
        starts=tf.constant(np.append(rows.starts, 0).astype(np.int32)),
        sizes=tf.constant(np.append(rows.sizes, 0).astype(np.int32)),
        row_weights=tf.constant(row_weights.astype(np.float32)),
        decision_weights=tf.constant(np.append(decision_weights, 0.0).astype(np.float32)),
        n_batches=n_batches,
        batch_size=batch_size,
        shuffle_seed=shuffle_seed,
        rates=tf.constant(np.zeros(0, np.float32) if rates is None else rates),
    )


class Trainer(keras.Model):
    """A Keras model whose one training step is an epoch: a loop over minibatches inside the graph.

    Keras' own loop would cross from Python to TensorFlow at every minibatch, which costs more than the step of
    a small network. Weights, optimizer and callbacks are those of any Keras model.

    A trainer serves one architecture: its graph is traced once, and `start` gives it other weights and other
    data for the next training. Results do not depend on what was trained before.
    """

    def __init__(self, network: keras.Model, options: TrainingOptions, n_choices: int | None = None) -> None:
        """For choice sets of `n_choices` each, or for ragged ones (None), which cost a tenth more."""
        super().__init__(name="trainer")
        self.network = network
        self.core = core_network(network)
        self._log_odds = log_odds_of(self.core)
        self._n_choices = n_choices
        self.minibatches: Minibatches | None = None
        self.bad_batch = -1
        self._is_softmax = options.loss == "softmax"
        self._is_scheduled = options.schedule is not None
        # One step is a whole epoch, so that a graph around it would save nothing; the step holds its own.
        self.compile(optimizer=build_optimizer(options), run_eagerly=True)
        self.optimizer.build(network.trainable_variables)
        self._fresh_optimizer = [np.array(v.numpy()) for v in self.optimizer.variables]
        self.built = True
        n_inputs = self.core.input_shape[-1]
        self.forward = tf.function(
            lambda rows: self._log_odds(rows, training=False),
            input_signature=[tf.TensorSpec((None, n_inputs), tf.float32)],
            jit_compile=False,
            autograph=False,
        ).get_concrete_function()
        # The loop is written out: AutoGraph would have to convert it, and what it converts depends on Python's version.
        self._epoch = tf.function(
            self._run_epoch, input_signature=_signature(n_inputs), jit_compile=False, autograph=False
        )

    def start(self, network: keras.Model, minibatches: Minibatches, learning_rate: float) -> None:
        """Begin a training: the weights and random states of `network`, a fresh optimizer, other data."""
        for mine, other in zip(self.network.variables, network.variables, strict=True):
            mine.assign(other)
        for variable, value in zip(self.optimizer.variables, self._fresh_optimizer, strict=True):
            variable.assign(value)
        self.optimizer.learning_rate = learning_rate
        self.minibatches, self.bad_batch = minibatches, -1
        self.stop_training = False

    def state(self) -> list[np.ndarray]:
        """Weights, random states and the optimizer's variables, to go on from."""
        return [np.array(v.numpy()) for v in (*self.network.variables, *self.optimizer.variables)]

    def restore_state(self, state: list[np.ndarray]) -> None:
        """Go on from what `state` gave."""
        for variable, value in zip((*self.network.variables, *self.optimizer.variables), state, strict=True):
            variable.assign(value)

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        # Keras would otherwise report its own loss tracker, which an own train_step leaves at zero.
        return []

    def call(self, inputs: Any, training: bool = False) -> Any:
        return self.network(inputs, training=training)

    def save(self, *args: Any, **kwargs: Any) -> None:
        self.network.save(*args, **kwargs)

    def train_step(self, data: Any) -> dict[str, Any]:
        """One epoch, whose number (from 0) is the data."""
        batches = self.minibatches
        assert batches is not None
        epoch = int(data)
        state = [tf.constant(0.0), tf.constant(0.0), tf.constant(0.0), tf.constant(-1)]
        number = 0  # of minibatches before
        for part, order in batches.parts(batches.order(epoch)):
            *state, bad = self._epoch(
                *(part.rows, part.position, part.starts, part.sizes, part.row_weights, part.decision_weights),
                *(batches.rates, order, epoch * batches.n_batches + number, batches.n_batches, *state[:3]),
            )
            state.append(bad if int(bad) < 0 else bad + number)
            number += int(order.shape[0])
            if int(bad) >= 0:
                break
        loss, norms, largest, bad = state
        self.bad_batch = int(bad)
        return {"loss": loss, "gradient_norm": norms / batches.n_batches, "gradient_norm_max": largest}

    def _run_epoch(
        self,
        rows: Any,
        position: Any,
        starts: Any,
        sizes: Any,
        row_weights: Any,
        decision_weights: Any,
        rates: Any,
        order: Any,
        n_before: Any,
        n_batches: Any,
        *totals: Any,
    ) -> tuple[Any, Any, Any, Any]:
        """Running loss, sum and largest norm of the gradients, and the first minibatch that was not finite or -1.

        Of the minibatches in `order` (batch, decision), after `n_before` steps of the training and on top of the first
        three, `totals`, of the epoch's minibatches before; the epoch has `n_batches`.
        """
        scale = tf.cast(n_batches, tf.float32)
        n_here = tf.shape(order)[0]

        def step(number: Any, total: Any, norms: Any, largest: Any, bad: Any) -> tuple[Any, ...]:
            if self._is_scheduled:
                self.optimizer.learning_rate.assign(rates[n_before + number])
            loss, norm = self._step(
                rows,
                position,
                starts,
                sizes,
                row_weights,
                tf.gather(decision_weights, order[number]),
                order[number],
                scale,
            )
            is_fine = tf.math.is_finite(loss) & tf.math.is_finite(norm)
            return (
                number + 1, total + loss, norms + norm, tf.maximum(largest, norm), tf.where(is_fine, bad, number)
            )  # fmt: skip

        _, total, norms, largest, bad = tf.while_loop(
            lambda number, total, norms, largest, bad: (number < n_here) & (bad < 0),
            step,
            [tf.constant(0), *totals, tf.constant(-1)],
            parallel_iterations=1,
        )
        return total, norms, largest, bad

    def _step(
        self,
        rows: Any,
        position: Any,
        starts: Any,
        sizes: Any,
        row_weights: Any,
        decision_weights: Any,
        decisions: Any,
        scale: Any,
    ) -> tuple[Any, Any]:
        """One minibatch: its share in the weighted mean of all losses, and the norm of the gradient."""
        variables = self.network.trainable_variables
        if self._n_choices is None:
            first = tf.gather(starts, decisions)
            row = tf.raw_ops.RaggedRange(starts=first, limits=first + tf.gather(sizes, decisions), deltas=1)[1]
            x, position, weights = tf.gather(rows, row), tf.gather(position, row), tf.gather(row_weights, row)
        else:
            n_decisions = tf.shape(starts)[0] - 1
            there = tf.minimum(decisions, n_decisions - 1)  # the decision without rows takes any, without weight
            counts = tf.cast(decisions < n_decisions, tf.float32)
            x = tf.gather(tf.reshape(rows, [n_decisions, self._n_choices * rows.shape[1]]), there)
            x = tf.reshape(x, [-1, rows.shape[1]])
            weights = tf.gather(tf.reshape(row_weights, [n_decisions, self._n_choices]), there) * counts[:, None]
        with tf.GradientTape() as tape:
            log_odds = self._log_odds(x, training=True)  # (row, 1)
            if self._n_choices is None:
                loss = self._ragged_loss(tf.squeeze(log_odds, axis=1), position, weights, decision_weights)
            else:
                loss = self._loss(tf.reshape(log_odds, [-1, self._n_choices]), weights, decision_weights)
            # All weights together are 1: this makes the mean gradient of the minibatches that of the whole loss.
            minimized = loss * scale
            if self.core.losses:
                minimized += tf.add_n(self.core.losses)
        gradients = tape.gradient(minimized, variables)
        norm = tf.linalg.global_norm(gradients)
        self.optimizer.apply(gradients, variables)
        return loss, norm

    def _loss(self, log_odds: Any, weights: Any, decision_weights: Any) -> Any:
        """Of choice sets of one size: log-odds (decision, choice), the selected choice first."""
        difference = log_odds - log_odds[:, :1]
        if not self._is_softmax:
            return tf.reduce_sum(weights * tf.nn.softplus(difference))
        return tf.reduce_sum(decision_weights * tf.reduce_logsumexp(difference, axis=1))

    def _ragged_loss(self, log_odds: Any, position: Any, weights: Any, decision_weights: Any) -> Any:
        """Of choice sets of any size: log-odds (row,)."""
        # The selected row of a decision is its first: `position` rows before any other of it.
        selected = tf.gather(log_odds, tf.range(tf.shape(log_odds)[0]) - position)
        difference = log_odds - selected
        if not self._is_softmax:
            return tf.reduce_sum(weights * tf.nn.softplus(difference))
        n_segments = tf.shape(decision_weights)[0]
        segment = tf.cumsum(tf.cast(position == 0, tf.int32)) - 1  # decisions without rows come last
        largest = tf.stop_gradient(tf.math.unsorted_segment_max(difference, segment, n_segments))
        shifted = tf.exp(difference - tf.gather(largest, segment))
        total = tf.math.unsorted_segment_sum(shifted, segment, n_segments)
        has_rows = total > 0
        log_total = tf.math.log(tf.where(has_rows, total, 1.0)) + tf.where(has_rows, largest, 0.0)
        return tf.reduce_sum(decision_weights * log_total)


def first_bad_batch(trainer: Trainer, epoch: int) -> np.ndarray:
    """The inputs of the minibatch whose loss was not finite in an epoch (from 0): (row, input), float32, scaled."""
    batches = trainer.minibatches
    assert batches is not None
    decisions = batches.order(epoch)[trainer.bad_batch].numpy()
    return batches.rows_of(decisions[decisions < batches.n_decisions])


def _order(n_decisions: Any, epoch: Any, seed: Any, n_batches: Any, batch_size: Any) -> Any:
    """(batch, decision), int32: shuffled; the decision without rows fills the last minibatch."""
    shuffled = tf.random.experimental.stateless_shuffle(tf.range(n_decisions), tf.stack([seed, epoch]))
    padding = tf.fill([n_batches * batch_size - n_decisions], n_decisions)
    return tf.reshape(tf.concat([shuffled, padding], axis=0), [n_batches, batch_size])


def _signature(n_inputs: int) -> list[Any]:
    """Of `Trainer._run_epoch`."""
    whole, real, one = (
        lambda: tf.TensorSpec((None,), tf.int32),
        lambda: tf.TensorSpec((None,), tf.float32),
        lambda: tf.TensorSpec((), tf.int32),
    )
    rows = tf.TensorSpec((None, n_inputs), tf.float32)
    order, total = tf.TensorSpec((None, None), tf.int32), lambda: tf.TensorSpec((), tf.float32)
    per_decision = [whole(), whole(), whole(), real(), real(), real()]
    return [rows, *per_decision, order, one(), one(), total(), total(), total()]
