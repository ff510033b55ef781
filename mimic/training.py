"""Choice sets and options into a trained log-odds model and its history: the engine and its Keras face."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, get_args

import keras
import numpy as np
import pandas as pd
import tensorflow as tf

from mimic.callbacks import BestEpoch, TrueLoss
from mimic.contrasts import Weighting, decision_weights, exact_contrasts, has_contrasts, sample_contrasts
from mimic.features import check_variation
from mimic.model import LogOddsModel, build_network, describe_features, fit_scaling
from mimic.schema import ChoiceSets

__all__ = ["Loss", "TrainingOptions", "TrainingResult", "configure_threads", "train"]

Loss = Literal["contrast_exact", "contrast_sampled", "softmax"]
Progress = Callable[[int, int, dict[str, float]], None]

_AT_LEAST_ONE = (
    *("epochs", "patience", "batch_decisions", "units"),
    *("decisions_per_individual", "alternatives_per_decision", "evaluate_every"),
)


@dataclass(frozen=True)
class TrainingOptions:
    """How a network is built and trained.

    Parameters
    ----------
    loss
        "contrast_exact": every contrast with its exact weight; "contrast_sampled": contrasts drawn once, before
        the first epoch; "softmax": -ln p(selected) over the whole choice set.
    epochs, patience
        At most so many epochs, fewer when the monitored loss has had no new minimum for `patience` epochs.
    batch_decisions
        The most decisions in a minibatch. Minibatches are of equal size, up to one decision.
    learning_rate, optimizer, optimizer_arguments, gradient_clip_norm
        Any optimizer of Keras by name, with further arguments of its own; the norm of the whole gradient is
        clipped where one is given.
    units, activation, dropout
        Of the hidden layers, see `mimic.model.build_network`.
    weighting
        For the softmax loss only: individuals weigh the same, or decisions do. Contrasts always weigh
        individuals the same.
    seed
        Of initial weights, dropout, shuffling and the drawing of contrasts.
    decisions_per_individual, alternatives_per_decision
        What "contrast_sampled" draws, see `mimic.contrasts.sample_contrasts`.
    evaluate_every
        True losses are computed, and the best epoch is sought, every so many epochs.

    Raises
    ------
    ValueError
        If an option is out of range.
    """

    loss: Loss = "contrast_exact"
    epochs: int = 100
    batch_decisions: int = 512
    learning_rate: float = 1e-3
    optimizer: str = "adam"
    optimizer_arguments: Mapping[str, Any] = field(default_factory=dict)
    gradient_clip_norm: float | None = None
    units: tuple[int, ...] = (24, 24, 24)
    activation: str = "relu"
    dropout: float = 0.0
    patience: int | None = None
    weighting: Weighting = "individual"
    seed: int = 0
    decisions_per_individual: int = 200
    alternatives_per_decision: int = 19
    evaluate_every: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "units", tuple(int(n) for n in self.units))
        for name, known in (("loss", get_args(Loss)), ("weighting", get_args(Weighting))):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}; got {getattr(self, name)!r}.")
        if self.weighting == "decision" and self.loss != "softmax":
            raise ValueError('weighting="decision" goes with loss="softmax"; contrasts weigh individuals the same.')
        for name in _AT_LEAST_ONE:
            value = getattr(self, name)
            if value is not None and any(n < 1 for n in (value if name == "units" else [value])):
                raise ValueError(f"{name} must be 1 or more; got {value}.")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must lie in [0, 1); got {self.dropout}.")
        for name in ("learning_rate", "gradient_clip_norm"):
            value = getattr(self, name)
            if value is not None and not (np.isfinite(value) and value > 0):
                raise ValueError(f"{name} must be a positive number; got {value}.")
        if self.seed < 0:
            raise ValueError(f"seed must be 0 or more; got {self.seed}.")
        try:
            keras.activations.get(self.activation)
        except ValueError as error:
            raise ValueError(f"expected an activation of Keras, such as relu; got {self.activation!r}.") from error
        _optimizer(self)

    @property
    def monitor(self) -> str:
        """The true loss, without `val_`, that is the twin of the trained loss."""
        return "true_decision_loss" if self.loss == "softmax" else "true_contrast_loss"


@dataclass(frozen=True, eq=False)
class TrainingResult:
    """A trained model with how it came about.

    Parameters
    ----------
    model
        With the weights of the best epoch.
    history
        One row an epoch: epoch (from 1), loss (running, over moving weights), true_contrast_loss,
        true_decision_loss, val_true_contrast_loss, val_true_decision_loss, learning_rate. NaN where not evaluated.
    best_epoch
        The epoch with the lowest monitored loss, from 1.
    """

    model: LogOddsModel
    history: pd.DataFrame
    best_epoch: int


def train(
    cs_train: ChoiceSets,
    cs_validation: ChoiceSets | None,
    features: Sequence[str],
    options: TrainingOptions | None = None,
    *,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    progress: Progress | None = None,
) -> TrainingResult:
    """The network of the epoch with the lowest true loss on the validation decisions.

    Equal data, options and seed give equal bits, whatever was trained before, on the same machine with the same
    number of threads.

    Parameters
    ----------
    cs_validation
        Decides on the best epoch and on early stopping; None leaves both to the true training loss.
    features
        Names, in the order in which the network takes them.
    callbacks
        Any Keras callbacks. They see the true losses in the logs, and run after them. What ModelCheckpoint
        saves is the log-odds network.
    progress
        Called as `progress(epoch, n_epochs, logs)` after each epoch, counted from 1.

    Raises
    ------
    ValueError
        If there is no feature, a feature is unknown or not finite, or does not differ between choices as its role
        says; no decision can be learned from or validated on, an option is unknown to Keras, or the loss is not
        finite in the very first epoch.

    Warns
    -----
    RuntimeWarning
        If the loss stops being finite later: training ends, and the best epoch before is kept.
    """
    options = options or TrainingOptions()
    _check_decisions(cs_train, cs_validation)
    check_variation(cs_train, features)
    seeds = np.random.SeedSequence(options.seed).generate_state(3).tolist()
    scaling = fit_scaling(cs_train, features)
    network = build_network(
        scaling, units=options.units, activation=options.activation, dropout=options.dropout, seed=seeds[0]
    )
    packed = _pack(cs_train, features, options, np.random.default_rng(seeds[1]))
    trainer = _Trainer(network, packed, options, shuffle_seed=seeds[2] % 2**31)
    true_loss = TrueLoss(cs_train, cs_validation, features, weighting=options.weighting, every=options.evaluate_every)
    best = BestEpoch(options.monitor if cs_validation is None else f"val_{options.monitor}", patience=options.patience)
    trainer.fit(
        tf.data.Dataset.range(options.epochs),
        epochs=options.epochs,
        steps_per_epoch=1,
        shuffle=False,  # the step shuffles
        verbose=0,
        callbacks=[true_loss, best, *callbacks, *([_progress(options.epochs, progress)] if progress else [])],
    )
    _warn_if_diverged(best, options)
    best.restore()
    metadata = {
        **describe_features(cs_train, features),
        "options": asdict(options),
        "best_epoch": best.best_epoch,
    }
    return TrainingResult(LogOddsModel(network, tuple(features), metadata), best.history, best.best_epoch)


def configure_threads(n_threads: int) -> None:
    """Let TensorFlow use so many threads, here and in child processes. For programs, not for libraries.

    Small networks train fastest on one thread each, several side by side. Child processes are also made quiet.

    Raises
    ------
    ValueError
        If `n_threads` is less than 1.
    RuntimeError
        If TensorFlow has computed something already.
    """
    if n_threads < 1:
        raise ValueError(f"n_threads must be 1 or more; got {n_threads}.")
    try:
        tf.config.threading.set_intra_op_parallelism_threads(n_threads)
        tf.config.threading.set_inter_op_parallelism_threads(n_threads)
    except RuntimeError as error:
        raise RuntimeError(
            "threads must be configured before TensorFlow computes anything; call configure_threads first, or set "
            "TF_NUM_INTRAOP_THREADS before starting Python."
        ) from error
    os.environ["TF_NUM_INTRAOP_THREADS"] = os.environ["TF_NUM_INTEROP_THREADS"] = str(n_threads)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


@dataclass(frozen=True, eq=False)
class _Packed:
    """Rows that matter to the loss, flat, the selected row of each decision first.

    One more row and one more decision at the end are the padding: no choices and no weight.
    """

    rows: np.ndarray  # (row + 1, feature), float32
    starts: np.ndarray  # (decision + 1,), int32
    sizes: np.ndarray  # (decision + 1,), int32
    row_weights: np.ndarray  # (row + 1,), float32: of contrasts, zero on selected rows
    decision_weights: np.ndarray  # (decision + 1,), float32: of the softmax


def _pack(cs: ChoiceSets, features: Sequence[str], options: TrainingOptions, rng: np.random.Generator) -> _Packed:
    """Weights of the loss, and only the rows that have one; a decision without alternatives teaches nothing."""
    cs = replace(cs, features={name: cs.features[name] for name in features})
    of_decision = decision_weights(cs, weighting=options.weighting)
    if options.loss == "softmax":
        of_row = np.zeros(cs.n_rows)
        keep = np.repeat(has_contrasts(cs), cs.n_choices)
    else:
        of_row = exact_contrasts(cs)
        if options.loss == "contrast_sampled":
            counts = sample_contrasts(
                cs,
                decisions_per_individual=options.decisions_per_individual,
                alternatives_per_decision=options.alternatives_per_decision,
                rng=rng,
            )
            of_row = counts / counts.sum()
        drawn = np.add.reduceat(of_row, cs.offsets[:-1]) > 0
        keep = (of_row > 0) | (cs.is_selected & np.repeat(drawn, cs.n_choices))
    kept_decisions = np.add.reduceat(keep, cs.offsets[:-1]) > 0
    of_row, of_decision, kept = of_row[keep], of_decision[kept_decisions], cs.restrict(keep)
    order = _selected_first(kept)
    rows = kept.matrix(features)[order]
    return _Packed(
        rows=np.concatenate([rows, rows[:1]]),
        starts=kept.offsets.astype(np.int32),
        sizes=np.append(kept.n_choices, 0).astype(np.int32),
        row_weights=np.append(of_row[order], 0.0).astype(np.float32),
        decision_weights=np.append(of_decision, 0.0).astype(np.float32),
    )


def _selected_first(cs: ChoiceSets) -> np.ndarray:
    """(row,): the order of rows that puts the selected row of each decision before its other rows."""
    row = np.arange(cs.n_rows)
    start, selected = np.repeat(cs.offsets[:-1], cs.n_choices), np.repeat(cs.selected, cs.n_choices)
    return np.where(row == start, selected, row - ((row > start) & (row <= selected)))


class _Trainer(keras.Model):
    """A Keras model whose one training step is an epoch: a loop over minibatches inside the graph.

    Keras' own loop would cross from Python to TensorFlow at every minibatch, which costs more than the step of
    a small network. Weights, optimizer and callbacks are those of any Keras model.
    """

    def __init__(self, network: keras.Model, packed: _Packed, options: TrainingOptions, shuffle_seed: int) -> None:
        super().__init__(name="trainer")
        self.network = network
        self.running_loss = keras.metrics.Sum(name="loss")
        self._rows = tf.constant(packed.rows)
        self._starts, self._sizes = tf.constant(packed.starts), tf.constant(packed.sizes)
        self._row_weights = tf.constant(packed.row_weights)
        self._decision_weights = tf.constant(packed.decision_weights)
        self._is_softmax = options.loss == "softmax"
        self._n_decisions = len(packed.sizes) - 1
        self._n_choices = int(packed.sizes.max())
        self._n_batches = -(-self._n_decisions // options.batch_decisions)
        self._batch_size = -(-self._n_decisions // self._n_batches)
        self._shuffle_seed = shuffle_seed
        self.compile(optimizer=_optimizer(options), jit_compile=False)  # with dropout XLA is far slower
        self.optimizer.build(network.trainable_variables)
        self.built = True

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        # Keras would otherwise report its own loss tracker, which an own train_step leaves at zero.
        return [self.running_loss]

    def call(self, inputs: Any, training: bool = False) -> Any:
        return self.network(inputs, training=training)

    def save(self, *args: Any, **kwargs: Any) -> None:
        self.network.save(*args, **kwargs)

    def train_step(self, data: Any) -> dict[str, Any]:
        self._epoch(data)
        return {"loss": self.running_loss.result()}

    # The loop is written out: AutoGraph would need to convert it, and what it converts depends on Python's version.
    @tf.function(jit_compile=False, autograph=False)
    def _epoch(self, epoch: Any) -> None:
        shuffled = tf.random.experimental.stateless_shuffle(
            tf.range(self._n_decisions), [self._shuffle_seed, tf.cast(epoch, tf.int32)]
        )
        n_padding = self._n_batches * self._batch_size - self._n_decisions
        order = tf.concat([shuffled, tf.fill([n_padding], self._n_decisions)], axis=0)
        batches = tf.reshape(order, [self._n_batches, self._batch_size])

        def step(number: Any) -> tuple[Any]:
            self._step(batches[number])
            return (number + 1,)

        tf.while_loop(lambda number: number < self._n_batches, step, [tf.constant(0)], parallel_iterations=1)

    def _step(self, decisions: Any) -> None:
        variables = self.network.trainable_variables
        with tf.GradientTape() as tape:
            loss = self._loss(decisions)
            # All weights together are 1: this makes the mean gradient of the minibatches that of the whole loss.
            scaled = loss * self._n_batches
        self.optimizer.apply(tape.gradient(scaled, variables), variables)
        self.running_loss.update_state(loss)

    def _loss(self, decisions: Any) -> Any:
        """The share of a minibatch, (decision,), in the weighted mean of all losses."""
        position = tf.range(self._n_choices)
        is_choice = position < tf.gather(self._sizes, decisions)[:, None]  # (decision, choice)
        row = tf.where(is_choice, tf.gather(self._starts, decisions)[:, None] + position, len(self._rows) - 1)
        features = tf.gather(self._rows, tf.reshape(row, [-1]))
        log_odds = tf.reshape(self.network(features, training=True), [self._batch_size, self._n_choices])
        if self._is_softmax:
            weights = tf.gather(self._decision_weights, decisions)
            # A large negative number, unlike -inf, keeps the gradient of a wholly padded decision free of NaN.
            log_total = tf.reduce_logsumexp(tf.where(is_choice, log_odds, -1e30), axis=1)
            losses = log_total - log_odds[:, 0]
        else:
            weights = tf.gather(self._row_weights, row)
            losses = tf.nn.softplus(log_odds - log_odds[:, :1])
        return tf.reduce_sum(weights * losses)


def _optimizer(options: TrainingOptions) -> keras.optimizers.Optimizer:
    """The optimizer by name; one clear message where Keras does not know it or its arguments."""
    config = {"learning_rate": options.learning_rate, **options.optimizer_arguments}
    if options.gradient_clip_norm is not None:
        config["global_clipnorm"] = options.gradient_clip_norm
    try:
        optimizer = keras.optimizers.get({"class_name": options.optimizer, "config": config})
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"expected an optimizer of Keras, such as adam, adamw or sgd, and its arguments; got "
            f"{options.optimizer!r} with {config}."
        ) from error
    # Summing over replicas, of which there is one, registers a gradient for good and with it the whole graph: 4 MB
    # for every training in a process. Where Keras drops this private name, only that saving is lost.
    optimizer._all_reduce_sum_gradients = lambda grads_and_vars: grads_and_vars
    return optimizer


def _check_decisions(cs_train: ChoiceSets, cs_validation: ChoiceSets | None) -> None:
    if keras.backend.backend() != "tensorflow":
        raise ValueError(f"training needs the TensorFlow backend of Keras; got {keras.backend.backend()!r}.")
    hints = {"training": "", "validation": " Pass None to train without validation."}
    for (name, hint), cs in zip(hints.items(), (cs_train, cs_validation), strict=True):
        if cs is not None and not has_contrasts(cs).any():
            raise ValueError(
                f"expected {name} decisions with a known selection and at least one other choice; "
                f"got none among {cs.n_decisions}.{hint}"
            )


def _progress(n_epochs: int, progress: Progress) -> keras.callbacks.Callback:
    return keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: progress(epoch + 1, n_epochs, {k: float(v) for k, v in logs.items()})
    )


def _warn_if_diverged(best: BestEpoch, options: TrainingOptions) -> None:
    advice = f"Try a learning_rate below {options.learning_rate:g} or a gradient_clip_norm."
    if best.best_epoch == 0:
        raise ValueError(f"training diverged: the loss is not finite in epoch {best.diverged_at}. {advice}")
    if best.diverged_at is not None:
        warnings.warn(
            f"training diverged: the loss is not finite in epoch {best.diverged_at}; the weights of epoch "
            f"{best.best_epoch} are kept. {advice}",
            RuntimeWarning,
            stacklevel=3,
        )
