"""The weights at the end of an epoch into the true loss of frozen weights, and the best epoch: Keras callbacks."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import pandas as pd
import tensorflow as tf

from mimic.contrasts import Weighting, contrast_loss, decision_weights, exact_contrasts
from mimic.model import BLOCK_ROWS, check_finite
from mimic.probability import selected_log_probability
from mimic.schema import ChoiceSets

__all__ = ["HISTORY_COLUMNS", "BestEpoch", "TrueLoss"]

HISTORY_COLUMNS = [
    "epoch",
    "loss",
    "true_contrast_loss",
    "true_decision_loss",
    "val_true_contrast_loss",
    "val_true_decision_loss",
    "learning_rate",
]


class TrueLoss(keras.callbacks.Callback):
    """Losses of the frozen weights, dropout off, over the full choice sets at the end of an epoch.

    The `loss` that Keras shows is a mean over batches while the weights move; it is the loss of no model. This
    callback writes `true_contrast_loss`, `true_decision_loss` and, with validation choice sets,
    `val_true_contrast_loss` and `val_true_decision_loss` into the logs of the epoch. Callbacks after it in the
    list read them (EarlyStopping, ReduceLROnPlateau, CSVLogger, ...): place it FIRST. Those that seek a minimum
    need `mode="min"`, since Keras does not know these names.

    It serves any Keras model that maps raw features (row, feature) to log-odds (row, 1).

    Parameters
    ----------
    train, validation
        Choice sets to evaluate on; every row is evaluated once.
    features
        Names in the order in which the model takes them.
    weighting
        Of the decision loss: individuals weigh the same, or decisions do. The contrast loss always weighs
        individuals the same.
    every
        Evaluate every so many epochs, and after the last one that `fit` was asked for; in between the logs
        lack the four losses.

    Raises
    ------
    ValueError
        If a feature is unknown or not finite, or `every` is less than 1.

    Notes
    -----
    Contrast loss: mean over individuals, their decisions and the unselected choices u of a decision of
    ln(1 + exp(phi_u - phi_selected)). Decision loss: the mean over individuals of the mean over their decisions
    of -ln p(selected). NaN where the model's log-odds are not finite, or there is nothing to take the mean of.
    """

    def __init__(
        self,
        train: ChoiceSets,
        validation: ChoiceSets | None = None,
        features: Sequence[str] = (),
        *,
        weighting: Weighting = "individual",
        every: int = 1,
    ) -> None:
        super().__init__()
        if not features:
            raise ValueError("expected the names of the features that the model takes; got none.")
        if every < 1:
            raise ValueError(f"every must be 1 epoch or more; got {every}.")
        self.every = every
        parts = {"": train} if validation is None else {"": train, "val_": validation}
        self._parts = {prefix: _Part(cs, features, weighting) for prefix, cs in parts.items()}
        self._n_features = len(features)
        self._forward: Callable[[Any], Any] | None = None

    def set_model(self, model: keras.Model) -> None:
        super().set_model(model)
        self._forward = None

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        is_last = epoch + 1 == (self.params or {}).get("epochs")
        if logs is not None and ((epoch + 1) % self.every == 0 or is_last):
            logs.update(self.losses())

    def losses(self) -> dict[str, float]:
        """The losses of the model as it stands, by name."""
        if self._forward is None:
            self._forward = _forward_of(self.model, self._n_features)
        found: dict[str, float] = {}
        for prefix, part in self._parts.items():
            contrast, decision = part.losses(self._forward)
            found |= {f"{prefix}true_contrast_loss": contrast, f"{prefix}true_decision_loss": decision}
        return found


class BestEpoch(keras.callbacks.Callback):
    """Keeps the history and the weights of the best epoch, and stops training that no longer improves.

    Place it after `TrueLoss` and before callbacks that move the weights or the learning rate.

    Parameters
    ----------
    monitor
        The log to minimize. Epochs whose logs lack it are passed over.
    patience
        Stop once so many epochs have passed since the best one; None runs all epochs.

    Attributes
    ----------
    best_epoch
        Counted from 1; 0 before there is any.
    diverged_at
        The epoch whose loss was not finite, where training was stopped; None while there is none.
    """

    def __init__(self, monitor: str, *, patience: int | None = None) -> None:
        super().__init__()
        self.monitor = monitor
        self.patience = patience
        self.best_epoch = 0
        self.diverged_at: int | None = None
        self._best = np.inf
        self._weights: list[np.ndarray] = []
        self._rows: list[dict[str, float]] = []

    @property
    def history(self) -> pd.DataFrame:
        """One row an epoch, columns `HISTORY_COLUMNS`; NaN where nothing was evaluated."""
        return pd.DataFrame(self._rows, columns=HISTORY_COLUMNS).astype({"epoch": np.int64})

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        logs = {} if logs is None else logs
        logs["learning_rate"] = float(keras.ops.convert_to_tensor(self.model.optimizer.learning_rate))
        self._rows.append({"epoch": epoch + 1, **{c: float(logs.get(c, np.nan)) for c in HISTORY_COLUMNS[1:]}})
        loss = float(logs.get(self.monitor, np.inf))
        if not np.isfinite(logs.get("loss", 0.0)) or np.isnan(loss):
            self.diverged_at = epoch + 1
            self.model.stop_training = True
        elif loss < self._best:
            self._best, self.best_epoch = loss, epoch + 1
            self._weights = self.model.get_weights()
        if self.patience is not None and self.monitor in logs and epoch + 1 - self.best_epoch >= self.patience:
            self.model.stop_training = True

    def restore(self) -> None:
        """Give the model the weights of the best epoch; nothing happens before there is one."""
        if self.best_epoch:
            self.model.set_weights(self._weights)


class _Part:
    """Choice sets made ready to be evaluated again and again."""

    def __init__(self, cs: ChoiceSets, features: Sequence[str], weighting: Weighting) -> None:
        check_finite(cs, features)
        rows = cs.matrix(features)
        self._blocks = [tf.convert_to_tensor(rows[i : i + BLOCK_ROWS]) for i in range(0, len(rows), BLOCK_ROWS)]
        self._cs = cs
        self._contrasts = exact_contrasts(cs)
        self._decisions = decision_weights(cs, weighting=weighting)

    def losses(self, forward: Callable[[Any], Any]) -> tuple[float, float]:
        """Contrast loss and decision loss."""
        blocks = [forward(block).numpy() for block in self._blocks]
        for block, rows in zip(blocks, self._blocks, strict=True):
            if block.shape not in {(len(rows), 1), (len(rows),)}:
                raise ValueError(
                    f"the model must map (row, feature) = {tuple(rows.shape)} to log-odds ({len(rows)}, 1); "
                    f"it gave {block.shape}."
                )
        phi = np.concatenate([np.zeros(0), *(b.ravel() for b in blocks)])
        if not np.isfinite(phi).all():
            return np.nan, np.nan
        log_p = selected_log_probability(phi, self._cs.offsets, self._cs.selected)
        decision = -np.sum(np.where(self._decisions > 0, log_p, 0.0) * self._decisions)
        return contrast_loss(phi, self._cs, self._contrasts), float(decision) if self._decisions.any() else np.nan


def _forward_of(model: keras.Model, n_features: int) -> Callable[[Any], Any]:
    """The model's forward pass as one graph function, traced once for blocks of any length."""
    # A subclassed model may have a call without `training`; then it does not depend on it.
    frozen = {"training": False} if "training" in inspect.signature(model.call).parameters else {}
    signature = [tf.TensorSpec((None, n_features), tf.float32)]
    return tf.function(
        lambda rows: model(rows, **frozen), input_signature=signature, jit_compile=False, autograph=False
    ).get_concrete_function()
