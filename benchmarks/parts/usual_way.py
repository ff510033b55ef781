"""The usual way to train on contrasts, our re-creation: TFRecords, tf.data, an N-input Keras model; and plain `fit`."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from parts.study import BATCH_CONTRASTS, FEATURES, LEARNING_RATE, Contrasts

__all__ = ["Clock", "fit_arrays", "fit_records", "write_records"]

N_WARM_UP = 2  # epochs in which graphs are built and compiled


class Clock(keras.callbacks.Callback):
    """Stamps the end of every epoch. Place it last."""

    def __init__(self) -> None:
        super().__init__()
        self.ends: list[float] = []
        self.cpu_ends: list[float] = []

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.ends.append(time.perf_counter())
        self.cpu_ends.append(time.process_time())

    @property
    def seconds_per_epoch(self) -> float:
        """Median over the epochs after the warm-up."""
        return float(np.median(np.diff(self.ends)[N_WARM_UP - 1 :]))

    @property
    def cpu_seconds_per_epoch(self) -> float:
        """Of all threads together, mean over the epochs after the warm-up."""
        return float(np.mean(np.diff(self.cpu_ends)[N_WARM_UP - 1 :]))


class Reevaluation(keras.callbacks.Callback):
    """Evaluates frozen weights on training and validation contrasts after every epoch."""

    def __init__(self, *evaluate: Callable[[], Any]) -> None:
        super().__init__()
        self._evaluate = evaluate

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        for evaluate in self._evaluate:
            evaluate()


def pair_model(network: keras.Model, *, jit_compile: bool) -> keras.Model:
    """One input a choice, the same layers for each, and a softmax over them that is the model's output."""
    inputs = [keras.Input((len(FEATURES),), name=f"choice_{n}") for n in range(2)]
    log_odds = keras.layers.Concatenate()([network(one) for one in inputs])
    model = keras.Model(inputs, keras.layers.Softmax()(log_odds))
    model.compile(
        optimizer=keras.optimizers.Adam(LEARNING_RATE),
        loss=keras.losses.SparseCategoricalCrossentropy(),
        jit_compile=jit_compile,
    )
    return model


def write_records(contrasts: Contrasts, path: Path) -> None:
    """One tf.train.Example a contrast, a feature list a choice."""
    with tf.io.TFRecordWriter(str(path)) as writer:
        for choices, label in zip(contrasts.choices.tolist(), contrasts.label.tolist(), strict=True):
            features = {
                f"choice_{n}": tf.train.Feature(float_list=tf.train.FloatList(value=choice))
                for n, choice in enumerate(choices)
            }
            features["label"] = tf.train.Feature(int64_list=tf.train.Int64List(value=[label]))
            writer.write(tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString())


def read_records(path: Path, n_contrasts: int, *, shuffle: bool, parse_each: bool) -> tf.data.Dataset:
    """Batches of parsed contrasts; examples parsed a batch at a time, or each by itself as it is often written."""
    layout = {f"choice_{n}": tf.io.FixedLenFeature([len(FEATURES)], tf.float32) for n in range(2)}
    layout["label"] = tf.io.FixedLenFeature([], tf.int64)

    def parse(serialized: tf.Tensor) -> tuple[tuple[tf.Tensor, tf.Tensor], tf.Tensor]:
        parsed = (tf.io.parse_single_example if parse_each else tf.io.parse_example)(serialized, layout)
        return (parsed["choice_0"], parsed["choice_1"]), parsed["label"]

    records = tf.data.TFRecordDataset(str(path)).apply(tf.data.experimental.assert_cardinality(n_contrasts))
    if parse_each:
        records = records.map(parse, num_parallel_calls=tf.data.AUTOTUNE)
    if shuffle:
        records = records.shuffle(10 * BATCH_CONTRASTS)
    records = records.batch(BATCH_CONTRASTS)
    if not parse_each:
        records = records.map(parse, num_parallel_calls=tf.data.AUTOTUNE)
    return records.prefetch(tf.data.AUTOTUNE)


def fit_records(
    network: keras.Model, contrasts: dict[str, Contrasts], folder: Path, *, epochs: int, parse_each: bool
) -> Clock:
    """Train `network` from records, with a callback that evaluates both splits after every epoch.

    Tuned, unless `parse_each`: parsed a batch at a time, in parallel and ahead of the training, not shuffled where
    losses are evaluated.
    """
    clock, model = Clock(), pair_model(network, jit_compile=False)

    def read(split: str, *, shuffle: bool) -> tf.data.Dataset:
        return read_records(folder / split, len(contrasts[split]), shuffle=shuffle, parse_each=parse_each)

    again = [read(split, shuffle=False) for split in contrasts]
    callback = Reevaluation(*(lambda data=data: model.evaluate(data, verbose=0) for data in again))
    model.fit(read("train", shuffle=True), epochs=epochs, shuffle=False, verbose=0, callbacks=[callback, clock])
    return clock


def fit_arrays(network: keras.Model, contrasts: dict[str, Contrasts], *, epochs: int) -> Clock:
    """Plain Keras `fit` on arrays in memory, with the same contrasts, model and callback.

    Tuned: compiled by XLA, which is faster here once it has compiled; above, the records cost more than the steps.
    """
    clock, model = Clock(), pair_model(network, jit_compile=True)
    arrays = {split: ([part.choices[:, 0], part.choices[:, 1]], part.label) for split, part in contrasts.items()}
    options: dict[str, Any] = {"batch_size": BATCH_CONTRASTS, "verbose": 0}
    callback = Reevaluation(*(lambda data=data: model.evaluate(*data, **options) for data in arrays.values()))
    model.fit(*arrays["train"], epochs=epochs, callbacks=[callback, clock], **options)
    return clock
