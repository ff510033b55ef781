"""The barest training loop there is for this job: raw TensorFlow, dense arrays, nothing recorded but two losses.

`python -m parts.bare_loop data.npz runs.json` trains the runs of runs.json ([units, seed] each) one after the other
and prints their best validation losses and the seconds of an epoch as JSON. One graph per architecture; Adam's update
is TensorFlow's own fused operation; after every epoch the frozen weights are evaluated on both splits. No Keras, no
ragged choice sets, no checks, no best weights, no files: what mimic does beyond this is what it costs more.
"""

from __future__ import annotations

import os

os.environ |= {"TF_ENABLE_ONEDNN_OPTS": "0", "TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}
os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "-1"}
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import itertools
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

BLOCK_ROWS = 16_384


class Bare:
    """One architecture on one study."""

    def __init__(self, data: Any, units: list[int], *, batch_decisions: int, learning_rate: float) -> None:
        # (decision, choice, feature) with the selected choice first, scaled; one padded decision without weight.
        self.n, self.m, self.f = data["train"].shape
        self.n_batches = -(-self.n // batch_decisions)
        self.b = -(-self.n // self.n_batches)
        self.rows = tf.constant(np.concatenate([data["train"], data["train"][:1]]))
        self.weights = tf.constant(np.append(data["train_weights"], 0.0).astype(np.float32))
        self.flat = {s: tf.constant(data[s].reshape(-1, self.f)) for s in ("train", "validation")}
        self.of = {s: tf.constant(data[f"{s}_weights"].astype(np.float32)) for s in self.flat}
        sizes = [self.f, *units, 1]
        self.w = [tf.Variable(np.zeros((i, o), np.float32)) for i, o in itertools.pairwise(sizes)]
        self.bias = [tf.Variable(np.zeros(o, np.float32)) for o in units]
        self.variables = [*self.w, *self.bias]
        self.moments = [(tf.Variable(tf.zeros_like(v)), tf.Variable(tf.zeros_like(v))) for v in self.variables]
        self.t = tf.Variable(0.0)
        self.rate = learning_rate

    def start(self, seed: int) -> None:
        """He weights, Adam from the beginning."""
        rng = np.random.default_rng(seed)
        for w in self.w:
            w.assign(rng.normal(0.0, np.sqrt(2 / w.shape[0]), w.shape).astype(np.float32))
        for v in (*self.bias, *(m for pair in self.moments for m in pair), self.t):
            v.assign(tf.zeros_like(v))

    def log_odds(self, x: Any) -> Any:
        for w, bias in zip(self.w, self.bias, strict=False):
            x = tf.nn.relu(tf.nn.bias_add(tf.matmul(x, w), bias))
        return tf.matmul(x, self.w[-1])

    def loss(self, x: Any, weights: Any) -> Any:
        phi = tf.reshape(self.log_odds(x), [-1, self.m])
        return tf.reduce_sum(weights * tf.reduce_mean(tf.nn.softplus(phi[:, 1:] - phi[:, :1]), axis=1))

    def step(self, decisions: Any) -> None:
        self.t.assign_add(1.0)
        with tf.GradientTape() as tape:
            x = tf.reshape(tf.gather(self.rows, decisions), [-1, self.f])
            loss = self.loss(x, tf.gather(self.weights, decisions)) * self.n_batches
        for v, g, (m, s) in zip(self.variables, tape.gradient(loss, self.variables), self.moments, strict=True):
            tf.raw_ops.ResourceApplyAdam(
                var=v.handle, m=m.handle, v=s.handle, beta1_power=0.9**self.t, beta2_power=0.999**self.t,
                lr=self.rate, beta1=0.9, beta2=0.999, epsilon=1e-7, grad=g,
            )  # fmt: skip

    @tf.function(autograph=False)
    def epoch(self, number: Any) -> None:
        shuffled = tf.random.experimental.stateless_shuffle(tf.range(self.n), [0, number])
        padded = tf.concat([shuffled, tf.fill([self.n_batches * self.b - self.n], self.n)], axis=0)
        batches = tf.reshape(padded, [self.n_batches, self.b])

        def body(i: Any) -> tuple[Any]:
            self.step(batches[i])
            return (i + 1,)

        tf.while_loop(lambda i: i < self.n_batches, body, [tf.constant(0)], parallel_iterations=1)

    @tf.function(autograph=False)
    def true_loss(self, split: str) -> Any:
        x = self.flat[split]
        phi = tf.concat([self.log_odds(x[i : i + BLOCK_ROWS]) for i in range(0, x.shape[0], BLOCK_ROWS)], axis=0)
        phi = tf.reshape(phi, [-1, self.m])
        return tf.reduce_sum(self.of[split] * tf.reduce_mean(tf.nn.softplus(phi[:, 1:] - phi[:, :1]), axis=1))


def main() -> None:
    """The command line."""
    data = dict(np.load(sys.argv[1]))
    plan = json.loads(Path(sys.argv[2]).read_text())
    made: dict[str, Bare] = {}
    losses, seconds = [], []
    for units, seed in plan["runs"]:
        bare = made.setdefault(
            str(units),
            Bare(data, units, batch_decisions=plan["batch_decisions"], learning_rate=plan["learning_rate"]),
        )
        bare.start(seed)
        history = []
        for number in range(plan["epochs"]):
            started = time.perf_counter()
            bare.epoch(tf.constant(number))
            history.append([float(bare.true_loss(split)) for split in ("train", "validation")])
            seconds.append(time.perf_counter() - started)
        losses.append(min(validation for _, validation in history))
    print(json.dumps({"val_contrast_loss": losses, "seconds_per_epoch": float(np.median(seconds))}))


if __name__ == "__main__":
    main()
