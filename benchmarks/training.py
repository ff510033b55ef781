"""Seconds an epoch of training on contrasts: `train` against a TFRecord pipeline and against plain Keras `fit`.

All start from the same initial weights, and evaluate training and validation decisions after every epoch.
"""

from __future__ import annotations

import os

# Before TensorFlow is imported. Small networks gain nothing from more threads within an operation; operations
# side by side (the stages of tf.data) keep TensorFlow's default.
os.environ["TF_NUM_INTRAOP_THREADS"] = "1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import tensorflow as tf

from mimic.contrasts import contrast_loss, exact_contrasts, sample_contrasts
from mimic.model import LogOddsModel, build_network, fit_scaling
from mimic.schema import ChoiceSets
from mimic.training import TrainingOptions, train

FEATURES = ("distance_km", "heading_sin", "heading_cos", "food")
N_CHOICES = 19
DECISIONS_PER_INDIVIDUAL, ALTERNATIVES_PER_DECISION = 200, 19
BATCH_CONTRASTS = 10_000
BATCH_DECISIONS = BATCH_CONTRASTS // ALTERNATIVES_PER_DECISION  # 526
UNITS = (24, 24, 24)
LEARNING_RATE = 1e-3
EPOCHS_OF_OURS = 100
N_WARM_UP = 2  # epochs in which graphs are built and compiled


@dataclass(frozen=True)
class Size:
    """How much is trained on, and how long the slow ones run, the warm-up included."""

    individuals: tuple[int, int]  # training, validation
    decisions: tuple[int, int]
    epochs: int
    epochs_parsing_each: int | None  # None: the slowest way is left out


SIZES = {
    "quick": Size((14, 8), (960, 500), 5, None),
    "full": Size((71, 40), (4_800, 2_500), 5, 3),
}


def emit(case: str, metric: str, value: float, unit: str) -> None:
    """One line of the result on standard output."""
    print(
        json.dumps({"benchmark": "training", "case": case, "metric": metric, "value": value, "unit": unit}), flush=True
    )


def say(text: str) -> None:
    """Progress on standard error."""
    print(f"[training] {text}", file=sys.stderr, flush=True)


# ---------------------------------------------------------------- input


def simulate(n_individuals: int, n_decisions: int, rng: np.random.Generator) -> ChoiceSets:
    """Decisions with 19 choices each, selected by known log-odds: to stay near, to go south-east, to find food."""
    ring = np.repeat([0.0, 45.0, 85.0], [1, 6, 12])
    moved = ring > 0
    distance = (ring + rng.uniform(-8.0, 8.0, (n_decisions, N_CHOICES))) * moved  # (decision, choice)
    heading = rng.uniform(-np.pi, np.pi, (n_decisions, N_CHOICES))
    food = rng.normal(size=(n_decisions, N_CHOICES))
    heading_sin, heading_cos = np.sin(heading) * moved, np.cos(heading) * moved
    log_odds = -distance / 18.0 + 0.8 * (heading_sin - heading_cos) + 0.5 * food - 0.3 * food**2
    picked = np.argmax(log_odds + rng.gumbel(size=log_odds.shape), axis=1)
    who = np.sort(np.concatenate([np.arange(n_individuals), rng.integers(0, n_individuals, n_decisions)])[:n_decisions])
    decisions = pd.DataFrame({"individual": [f"fish {i}" for i in who], "decision": np.arange(n_decisions)})
    offsets = np.arange(n_decisions + 1) * N_CHOICES
    columns = dict(zip(FEATURES, (distance, heading_sin, heading_cos, food), strict=True))
    return ChoiceSets(
        decisions,
        offsets,
        choice=np.tile(np.arange(N_CHOICES), n_decisions),
        selected=offsets[:-1] + picked,
        features={name: values.ravel() for name, values in columns.items()},
    )


@dataclass(frozen=True, eq=False)
class Contrasts:
    """Sampled contrasts, one entry each, in random order.

    Parameters
    ----------
    choices
        (contrast, 2, feature), float32: one of them was selected.
    label
        (contrast,), int64: which of the two.
    """

    choices: np.ndarray
    label: np.ndarray

    def __len__(self) -> int:
        return len(self.label)


def draw_contrasts(cs: ChoiceSets, rng: np.random.Generator) -> Contrasts:
    """The sampled contrasts of the published study, each written out."""
    counts = sample_contrasts(
        cs,
        decisions_per_individual=DECISIONS_PER_INDIVIDUAL,
        alternatives_per_decision=ALTERNATIVES_PER_DECISION,
        rng=rng,
    )
    unselected = rng.permutation(np.repeat(np.arange(cs.n_rows), counts))
    selected = cs.selected[cs.decision_of_row[unselected]]
    label = rng.integers(0, 2, len(unselected))
    pairs = np.where(label[:, None] == 0, [[0, 1]], [[1, 0]])  # which of (selected, unselected) comes first
    rows = np.take_along_axis(np.column_stack([selected, unselected]), pairs, axis=1)
    return Contrasts(cs.matrix(FEATURES)[rows], label)


# ---------------------------------------------------------------- what is measured of each way


@dataclass(frozen=True, eq=False)
class Outcome:
    """What one way of training took, and what it gave."""

    clock: Clock
    steps_per_epoch: int
    losses: dict[str, float]  # true contrast losses after the last epoch

    @property
    def seconds_per_epoch(self) -> float:
        """Median over the epochs after the warm-up."""
        return float(np.median(np.diff(self.clock.ends)[N_WARM_UP - 1 :]))

    @property
    def cpu_seconds_per_epoch(self) -> float:
        """Time of all threads together, mean over the epochs after the warm-up."""
        return float(np.mean(np.diff(self.clock.cpu_ends)[N_WARM_UP - 1 :]))


class Clock(keras.callbacks.Callback):
    """Stamps the end of every epoch, and keeps the initial weights. Place it last."""

    def __init__(self) -> None:
        super().__init__()
        self.started = time.perf_counter()
        self.ends: list[float] = []  # seconds since the start
        self.cpu_ends: list[float] = []
        self.initial: list[np.ndarray] = []

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self.initial = self.model.get_weights()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.ends.append(time.perf_counter() - self.started)
        self.cpu_ends.append(time.process_time())


class Reevaluation(keras.callbacks.Callback):
    """Losses over the training and the validation set after every epoch: the usual re-evaluating callback."""

    def __init__(self, evaluate_train: Callable[[], float], evaluate_validation: Callable[[], float]) -> None:
        super().__init__()
        self.evaluate = {"true_loss": evaluate_train, "val_true_loss": evaluate_validation}

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        for name, evaluate in self.evaluate.items():
            value = evaluate()
            if logs is not None:
                logs[name] = value


def initial_network(cs_train: ChoiceSets, seed: int) -> keras.Model:
    """The network that `train` starts from with this seed."""
    seeds = np.random.SeedSequence(seed).generate_state(3).tolist()
    return build_network(fit_scaling(cs_train, FEATURES), units=UNITS, seed=seeds[0])


def true_losses(network: keras.Model, parts: dict[str, ChoiceSets]) -> dict[str, float]:
    """Exact contrast loss of a network over whole choice sets."""
    model = LogOddsModel(network, FEATURES)
    return {
        f"{prefix}true_contrast_loss": contrast_loss(model.log_odds(cs), cs, exact_contrasts(cs))
        for prefix, cs in parts.items()
    }


def pair_model(network: keras.Model, *, jit_compile: bool) -> keras.Model:
    """One input a choice, the same layers for each, and a softmax over them: compiled, ready to fit."""
    inputs = [keras.Input((len(FEATURES),), name=f"choice_{n}") for n in range(2)]
    log_odds = keras.layers.Concatenate()([network(one) for one in inputs])
    model = keras.Model(inputs, log_odds)
    model.compile(
        optimizer=keras.optimizers.Adam(LEARNING_RATE),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=jit_compile,
    )
    return model


# ---------------------------------------------------------------- the ways


def run_ours(parts: dict[str, ChoiceSets], seed: int, epochs: int, same_steps: int) -> dict[str, Outcome]:
    """`train` with exact contrasts; its losses after as many epochs and as many steps as the others take."""
    clock = Clock()
    options = TrainingOptions(
        epochs=EPOCHS_OF_OURS,
        batch_decisions=BATCH_DECISIONS,
        learning_rate=LEARNING_RATE,
        units=UNITS,
        seed=seed,
    )
    history = train(parts[""], parts["val_"], FEATURES, options, callbacks=[clock]).history
    for ours, expected in zip(clock.initial, initial_network(parts[""], seed).get_weights(), strict=True):
        assert np.array_equal(ours, expected), "the ways do not start from the same weights"
    steps = -(-parts[""].n_decisions // BATCH_DECISIONS)
    columns = ["true_contrast_loss", "val_true_contrast_loss"]
    at = {"ours": epochs, "ours_same_steps": round(same_steps / steps), "ours_100_epochs": EPOCHS_OF_OURS}
    losses = {case: {c: float(history[c].iloc[epoch - 1]) for c in columns} for case, epoch in at.items()}
    return {case: Outcome(clock, steps, losses[case]) for case in at}


def write_all(contrasts: dict[str, Contrasts], folder: Path) -> dict[str, str]:
    """The TFRecord files of the training and the validation contrasts."""
    files = {prefix: str(folder / f"{prefix}contrasts.tfrecord") for prefix in contrasts}
    started = time.perf_counter()
    for prefix, part in contrasts.items():
        write_records(part, files[prefix])
    emit("usual_way", "seconds_to_write_records", round(time.perf_counter() - started, 3), "s")
    return files


def run_usual_way(
    parts: dict[str, ChoiceSets],
    contrasts: dict[str, Contrasts],
    files: dict[str, str],
    seed: int,
    epochs: int,
    *,
    parse_each: bool,
) -> Outcome:
    """TFRecords, tf.data, one input a choice.

    Tuned, unless `parse_each`: examples are parsed a batch at a time and not one by one. Both ways parse in
    parallel and ahead of the training, and do not shuffle where losses are evaluated.
    """
    clock = Clock()
    network = initial_network(parts[""], seed)
    model = pair_model(network, jit_compile=False)

    def read(prefix: str, *, shuffle: bool) -> tf.data.Dataset:
        return read_records(files[prefix], len(contrasts[prefix]), shuffle=shuffle, parse_each=parse_each)

    training, *again = read("", shuffle=True), read("", shuffle=False), read("val_", shuffle=False)
    callback = Reevaluation(
        lambda: model.evaluate(again[0], verbose=0),
        lambda: model.evaluate(again[1], verbose=0),
    )
    model.fit(training, epochs=epochs, shuffle=False, verbose=0, callbacks=[callback, clock])
    return Outcome(clock, -(-len(contrasts[""]) // BATCH_CONTRASTS), true_losses(network, parts))


def run_keras_fit(parts: dict[str, ChoiceSets], contrasts: dict[str, Contrasts], seed: int, epochs: int) -> Outcome:
    """Keras `fit` on arrays in memory, with the same contrasts, model and callback.

    Tuned: compiled by XLA, which is faster here once it has compiled; above, the records cost more than the steps.
    """
    clock = Clock()
    network = initial_network(parts[""], seed)
    model = pair_model(network, jit_compile=True)
    arrays = {prefix: ([part.choices[:, 0], part.choices[:, 1]], part.label) for prefix, part in contrasts.items()}
    callback = Reevaluation(
        lambda: model.evaluate(*arrays[""], batch_size=BATCH_CONTRASTS, verbose=0),
        lambda: model.evaluate(*arrays["val_"], batch_size=BATCH_CONTRASTS, verbose=0),
    )
    model.fit(*arrays[""], batch_size=BATCH_CONTRASTS, epochs=epochs, verbose=0, callbacks=[callback, clock])
    return Outcome(clock, -(-len(contrasts[""]) // BATCH_CONTRASTS), true_losses(network, parts))


def write_records(contrasts: Contrasts, path: str) -> None:
    """One tf.train.Example a contrast, a feature list a choice."""
    with tf.io.TFRecordWriter(path) as writer:
        for choices, label in zip(contrasts.choices.tolist(), contrasts.label.tolist(), strict=True):
            features = {
                f"choice_{n}": tf.train.Feature(float_list=tf.train.FloatList(value=choice))
                for n, choice in enumerate(choices)
            }
            features["label"] = tf.train.Feature(int64_list=tf.train.Int64List(value=[label]))
            writer.write(tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString())


def read_records(path: str, n_contrasts: int, *, shuffle: bool, parse_each: bool) -> tf.data.Dataset:
    """Batches of parsed contrasts."""
    layout = {f"choice_{n}": tf.io.FixedLenFeature([len(FEATURES)], tf.float32) for n in range(2)}
    layout["label"] = tf.io.FixedLenFeature([], tf.int64)

    def parse(serialized: tf.Tensor) -> tuple[tuple[tf.Tensor, tf.Tensor], tf.Tensor]:
        parsed = (tf.io.parse_single_example if parse_each else tf.io.parse_example)(serialized, layout)
        return (parsed["choice_0"], parsed["choice_1"]), parsed["label"]

    records = tf.data.TFRecordDataset(path).apply(tf.data.experimental.assert_cardinality(n_contrasts))
    if parse_each:
        records = records.map(parse, num_parallel_calls=tf.data.AUTOTUNE)
    if shuffle:
        records = records.shuffle(10 * BATCH_CONTRASTS)
    records = records.batch(BATCH_CONTRASTS)
    if not parse_each:
        records = records.map(parse, num_parallel_calls=tf.data.AUTOTUNE)
    return records.prefetch(tf.data.AUTOTUNE)


def report(case: str, outcome: Outcome, n_epochs: int) -> None:
    """The lines of one way."""
    emit(case, "seconds_per_epoch", round(outcome.seconds_per_epoch, 5), "s")
    emit(case, "cpu_seconds_per_epoch", round(outcome.cpu_seconds_per_epoch, 5), "s")
    emit(case, "seconds_to_first_epoch_end", round(outcome.clock.ends[0], 3), "s")
    emit(case, "n_timed_epochs", len(outcome.clock.ends) - N_WARM_UP, "epochs")
    emit(case, "steps_per_epoch", outcome.steps_per_epoch, "steps")
    report_losses(case, outcome, n_epochs)


def report_losses(case: str, outcome: Outcome, n_epochs: int) -> None:
    """The losses of one way, and after how many epochs."""
    emit(case, "epochs_before_losses", n_epochs, "epochs")
    for metric, value in outcome.losses.items():
        emit(case, metric, round(value, 5), "nats")


def run_all(size: Size) -> None:
    """All ways in turn."""
    rng = np.random.default_rng(0)
    seed = 0
    parts = {
        prefix: simulate(n, d, rng) for prefix, n, d in zip(("", "val_"), size.individuals, size.decisions, strict=True)
    }
    contrasts = {prefix: draw_contrasts(cs, rng) for prefix, cs in parts.items()}
    emit("input", "n_training_decisions", parts[""].n_decisions, "decisions")
    emit("input", "n_training_contrasts", len(contrasts[""]), "contrasts")
    emit("input", "n_validation_contrasts", len(contrasts["val_"]), "contrasts")
    for metric, value in true_losses(initial_network(parts[""], seed), parts).items():
        emit("initial_weights", metric, round(value, 5), "nats")
    outcomes: dict[str, Outcome] = {}
    with tempfile.TemporaryDirectory() as folder:
        say("writing TFRecords")
        files = write_all(contrasts, Path(folder))
        say("usual way")
        outcomes["usual_way"] = run_usual_way(parts, contrasts, files, seed, size.epochs, parse_each=False)
        if size.epochs_parsing_each is not None:
            say("usual way, parsing each example by itself")
            outcomes["usual_way_parse_each"] = run_usual_way(
                parts, contrasts, files, seed, size.epochs_parsing_each, parse_each=True
            )
    say("Keras fit on arrays")
    outcomes["keras_fit"] = run_keras_fit(parts, contrasts, seed, size.epochs)
    say("ours")
    same_steps = size.epochs * outcomes["usual_way"].steps_per_epoch
    outcomes |= run_ours(parts, seed, size.epochs, same_steps)
    slow = [case for case in outcomes if not case.startswith("ours")]
    for case in slow:
        report(case, outcomes[case], len(outcomes[case].clock.ends))
    report("ours", outcomes["ours"], size.epochs)
    steps = outcomes["ours"].steps_per_epoch
    report_losses("ours_same_steps", outcomes["ours_same_steps"], round(same_steps / steps))
    report_losses("ours_100_epochs", outcomes["ours_100_epochs"], EPOCHS_OF_OURS)
    for other in slow:
        ours, theirs = outcomes["ours"], outcomes[other]
        ratio = theirs.seconds_per_epoch / ours.seconds_per_epoch
        emit("ours", f"ratio_to_{other}", round(ratio, 1), "times as fast per epoch")
        of_cpu = theirs.cpu_seconds_per_epoch / ours.cpu_seconds_per_epoch
        emit("ours", f"ratio_to_{other}_cpu", round(of_cpu, 1), "times less processor time per epoch")
        per_step = ratio * ours.steps_per_epoch / theirs.steps_per_epoch
        emit("ours", f"ratio_to_{other}_per_step", round(per_step, 1), "times as fast per optimizer step")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a fifth of the individuals and decisions")
    run_all(SIZES["quick" if parser.parse_args().quick else "full"])


if __name__ == "__main__":
    main()
