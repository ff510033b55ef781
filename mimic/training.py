"""Choice sets and options into a trained log-odds model and how it came about."""

from __future__ import annotations

import json
import os
import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import keras
import numpy as np
import pandas as pd
import tensorflow as tf

from mimic.callbacks import BestEpoch, LowerRate, TrueLoss
from mimic.counted import Counted, count, factors_of
from mimic.engine import Trainer, first_bad_batch
from mimic.linear import linear_term
from mimic.model import LogOddsModel, build_network, describe_features
from mimic.options import Loss, Plateau, TrainingOptions
from mimic.prepared import TrainingData, prepare_training
from mimic.schema import ChoiceSets

__all__ = [
    "Divergence",
    "DivergenceError",
    "Loss",
    "Plateau",
    "TrainingOptions",
    "TrainingResult",
    "configure_threads",
    "train",
]

Progress = Callable[[int, int, dict[str, float]], None]

_N_TRAINERS = 4
_trainers: OrderedDict[str, Trainer] = OrderedDict()
_lock = threading.RLock()  # a trainer serves one training at a time


@dataclass(frozen=True)
class Divergence:
    """Where training stopped because the loss was not finite.

    Parameters
    ----------
    epoch, minibatch
        From 1; no minibatch where the loss itself was finite and only the true loss at the end of the epoch not.
    feature, low, high
        The feature of that minibatch that lies farthest from the training mean, and its range there.
    """

    epoch: int
    minibatch: int | None = None
    feature: str | None = None
    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        text = f"the loss is not finite in epoch {self.epoch}"
        if self.minibatch is not None:
            text += f", minibatch {self.minibatch} (where {self.feature} runs from {self.low:g} to {self.high:g})"
        return text


class DivergenceError(ValueError):
    """The loss was not finite before there was any epoch to keep."""

    def __init__(self, message: str, history: pd.DataFrame, divergence: Divergence) -> None:
        super().__init__(message)
        self.history = history
        self.divergence = divergence


@dataclass(frozen=True, eq=False)
class TrainingResult:
    """A trained model with how it came about.

    Parameters
    ----------
    model
        With the weights of the best epoch.
    history
        One row an epoch: epoch (from 1; 0 is the start, with a linear skip), loss (running, over moving weights),
        true_contrast_loss, true_decision_loss, val_true_contrast_loss, val_true_decision_loss, learning_rate, and
        the mean and largest norm of the minibatches' gradients. NaN where not evaluated.
    best_epoch
        The epoch with the lowest monitored loss.
    last_weights
        Of the last epoch, for `model.network.set_weights`.
    divergence
        Where the loss stopped being finite; None where it did not.
    facts
        Counts of the training: n_batches, batch_decisions, n_parameters, n_train_individuals, n_train_decisions,
        n_train_rows, n_epochs.
    state
        With `until`: what the next call goes on from.
    """

    model: LogOddsModel
    history: pd.DataFrame
    best_epoch: int
    last_weights: list[np.ndarray]
    divergence: Divergence | None
    facts: Mapping[str, int]
    state: Mapping[str, Any] = field(default_factory=dict)


def train(
    cs_train: ChoiceSets,
    cs_validation: ChoiceSets | None,
    features: Sequence[str],
    options: TrainingOptions | None = None,
    *,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    progress: Progress | None = None,
    until: int | None = None,
    state: Mapping[str, Any] | None = None,
) -> TrainingResult:
    """The network of the epoch with the lowest true loss on the validation decisions.

    Equal data, options and seed give equal bits, whatever was trained before, on the same machine with the same
    number of threads. Trainings of one architecture in one process share a traced graph.

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
    until, state
        Stop after this epoch for now; go on, with the same data and options, from the `state` of such a result.
        In the end it is as if training had never stopped.

    Raises
    ------
    ValueError
        If there is no feature, a feature is unknown or not finite, or does not differ between choices as its role
        says; no decision can be learned from or validated on, or an option does not fit the data.
    DivergenceError
        A ValueError: if the loss is not finite before any epoch ended well.

    Warns
    -----
    RuntimeWarning
        If the loss stops being finite later: training ends, and the best epoch before is kept.
    """
    options = options or TrainingOptions()
    if keras.backend.backend() != "tensorflow":
        raise ValueError(f"training needs the TensorFlow backend of Keras; got {keras.backend.backend()!r}.")
    if not features:
        raise ValueError("expected at least one feature; a model without features is zero_model().")
    with _lock:
        data = prepare_training(cs_train, cs_validation, features, options)
        return _train(data, options, callbacks, progress, until or options.epochs, state)


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


def _train(
    data: TrainingData,
    options: TrainingOptions,
    callbacks: Sequence[keras.callbacks.Callback],
    progress: Progress | None,
    until: int,
    state: Mapping[str, Any] | None,
) -> TrainingResult:
    seeds = np.random.SeedSequence(options.seed).generate_state(4).tolist()
    counted = count(data, options, seeds)
    minibatches = counted.minibatches(options, seeds[2] % 2**31)
    network, trainer = _network(data, options, seeds[0], minibatches.n_choices)
    trainer.start(network, minibatches, options.learning_rate)
    parts = {"": data.training, "val_": data.validation}
    true_loss = TrueLoss.of_rows(
        {prefix: (part.rows, part.tensor) for prefix, part in parts.items() if part is not None},
        trainer.forward,
        every=options.evaluate_every,
    )
    monitor = options.monitor if data.validation is None else f"val_{options.monitor}"
    best = BestEpoch(
        monitor,
        patience=options.patience,
        at_start=true_loss.losses if options.linear_skip and state is None else None,
    )
    lower = [LowerRate(monitor, options.plateau)] if options.plateau else []
    if state is not None:
        trainer.restore_state(state["trainer"])
        best.take_up(state["best"])
        for one in lower:
            one.take_up(state["lower"])
    first = int(state["epoch"]) if state is not None else 0
    stopped = state is not None and bool(state["stopped"])
    if first < until and not stopped:
        trainer.fit(
            tf.data.Dataset.range(first, until),
            epochs=until,
            initial_epoch=first,
            steps_per_epoch=1,
            shuffle=False,  # the step shuffles
            verbose=0,
            callbacks=[
                *([_Redraw(counted)] if options.redraw else []),
                *(true_loss, best, *lower, *callbacks),
                *([_progress(options.epochs, progress)] if progress else []),
            ],
        )
    divergence = _divergence(best, trainer, data)
    _tell(divergence, best, options)
    stopped = stopped or bool(trainer.stop_training) or divergence is not None
    later = {"trainer": trainer.state(), "best": best.state(), "epoch": until, "lower": {}, "stopped": stopped}
    for one in lower:
        later["lower"] = one.state()
    return _result(network, trainer, data, options, best, divergence, later)


def _result(
    network: keras.Model,
    trainer: Trainer,
    data: TrainingData,
    options: TrainingOptions,
    best: BestEpoch,
    divergence: Divergence | None,
    state: Mapping[str, Any],
) -> TrainingResult:
    last = [np.array(w) for w in trainer.network.get_weights()]
    network.set_weights(best.weights)
    metadata = {
        **describe_features(data.training.choice_sets, data.features),
        **({"individuals": list(data.individuals)} if data.individuals else {}),
        "scaling": data.scaling.as_mapping(),
        "options": options.as_mapping(),
        "best_epoch": best.best_epoch,
    }
    minibatches = trainer.minibatches
    assert minibatches is not None
    assert best.best_epoch is not None
    facts = {
        "n_batches": minibatches.n_batches,
        "batch_decisions": minibatches.batch_size,
        "n_parameters": int(sum(w.size for w in last)),
        "n_train_individuals": len(set(data.training.choice_sets.individuals)),
        "n_train_decisions": minibatches.n_decisions,
        "n_train_rows": int(minibatches.rows.shape[0]),
        "n_epochs": int(best.history["epoch"].max()),
    }
    trainer.minibatches = None  # a kept trainer keeps no data
    model = LogOddsModel(network, data.features, metadata)
    return TrainingResult(model, best.history, best.best_epoch, last, divergence, facts, state)


# ---------------------------------------------------------------- the network and its trainer


def _network(
    data: TrainingData, options: TrainingOptions, seed: int, n_choices: int | None
) -> tuple[keras.Model, Trainer]:
    """A network with its initial weights, and the trainer of its architecture, traced before where possible."""
    linear = _linear(data, options)
    network = build_network(
        data.scaling,
        units=options.units,
        activation=options.activation,
        dropout=options.dropout,
        seed=seed,
        l2=options.l2,
        linear=linear,
        n_individuals=len(data.individuals),
        embedding_size=options.embedding_size,
        embedding_l2=options.embedding_l2,
    )
    key = json.dumps(
        [
            [data.scaling.as_mapping(), len(data.individuals)],
            [options.units, options.activation, options.dropout, options.l2],
            [None if linear is None else (linear != 0).tolist(), options.embedding_size, options.embedding_l2],
            [options.optimizer, dict(options.optimizer_arguments), options.weight_decay, options.gradient_clip_norm],
            [options.loss == "softmax", options.schedule is not None, n_choices],
        ],
        default=str,
    )
    if key not in _trainers:
        _trainers[key] = Trainer(keras.models.clone_model(network), options, n_choices)
        while len(_trainers) > _N_TRAINERS:
            _trainers.popitem(last=False)
    _trainers.move_to_end(key)
    return network, _trainers[key]


def _linear(data: TrainingData, options: TrainingOptions) -> np.ndarray | None:
    if options.linear_skip is False:
        return None
    wanted = data.features if options.linear_skip is True else options.linear_skip
    unknown = [name for name in wanted if name not in data.features]
    if unknown:
        raise ValueError(
            f"linear_skip: {', '.join(unknown)} is no feature of the model; these are {', '.join(data.features)}."
        )
    if data.training.factors is not None:
        raise ValueError("linear_skip needs one selected choice in each decision; it does not go with labels.")
    weights = factors_of(data.training.choice_sets, options.weights) if options.weights else None
    # Where the network takes a logarithm, the term starts at the coefficient of the logarithm.
    logged = data.scaling.in_logarithms(data.training.choice_sets)
    term = linear_term(logged, wanted, weighting=options.weighting, weights=weights)
    coef = dict(zip(wanted, term, strict=True))
    return np.array([coef.get(name, 0.0) for name in data.features])


class _Redraw(keras.callbacks.Callback):
    """Draws contrasts anew before every epoch."""

    def __init__(self, counted: Counted) -> None:
        super().__init__()
        self._counted = counted

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        assert self._counted.redraw is not None
        weights = tf.constant(self._counted.redraw(epoch).astype(np.float32))
        self.model.minibatches = replace(self.model.minibatches, row_weights=weights)


# ---------------------------------------------------------------- progress and divergence


def _progress(n_epochs: int, progress: Progress) -> keras.callbacks.Callback:
    return keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: progress(epoch + 1, n_epochs, {k: float(v) for k, v in logs.items()})
    )


def _divergence(best: BestEpoch, trainer: Trainer, data: TrainingData) -> Divergence | None:
    if best.diverged_at is None:
        return None
    if trainer.bad_batch < 0:
        return Divergence(best.diverged_at)
    rows = first_bad_batch(trainer, best.diverged_at - 1)[:, : len(data.features)].astype(np.float64)
    if data.individuals:  # these rows are not scaled
        rows = data.scaling.scaled(rows)
    worst = int(np.argmax(np.abs(rows).max(axis=0)))
    ends = np.array([rows[:, worst].min(), rows[:, worst].max()])
    low, high = (float(f"{value:.6g}") for value in data.scaling.physical(worst, ends))
    return Divergence(best.diverged_at, trainer.bad_batch + 1, data.features[worst], low, high)


def _tell(divergence: Divergence | None, best: BestEpoch, options: TrainingOptions) -> None:
    if divergence is None:
        return
    advice = f"Try a learning_rate below {options.learning_rate:g} or a gradient_clip_norm."
    if best.best_epoch is None:
        raise DivergenceError(f"training diverged: {divergence}. {advice}", best.history, divergence)
    warnings.warn(
        f"training diverged: {divergence}; the weights of epoch {best.best_epoch} are kept. {advice}",
        RuntimeWarning,
        stacklevel=5,
    )
