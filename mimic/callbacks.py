"""The weights at the end of an epoch into the true loss of frozen weights, and the best epoch: Keras callbacks."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import pandas as pd
import tensorflow as tf

from mimic.contrasts import Weighting
from mimic.model import BLOCK_ROWS, check_finite
from mimic.options import Plateau
from mimic.rows import LossRows, loss_rows
from mimic.schema import ChoiceSets
from mimic.streams import RowStream

__all__ = ["HISTORY_COLUMNS", "BestEpoch", "LowerRate", "TrueLoss"]

HISTORY_COLUMNS = [
    "epoch",
    "loss",
    "true_contrast_loss",
    "true_decision_loss",
    "val_true_contrast_loss",
    "val_true_decision_loss",
    "learning_rate",
    "gradient_norm",
    "gradient_norm_max",
]

Forward = Callable[[Any], Any]


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
        parts: dict[str, tuple[LossRows, Any]] = {}
        for prefix, cs in {"": train, "val_": validation}.items():
            if cs is not None:
                check_finite(cs, features)
                rows = loss_rows(cs, cs.matrix(features), weighting=weighting)
                parts[prefix] = (rows, tf.convert_to_tensor(rows.matrix))
        self._begin(parts, every)

    @classmethod
    def of_rows(
        cls, parts: Mapping[str, tuple[LossRows, Any]], forward: Forward | None = None, *, every: int = 1
    ) -> TrueLoss:
        """The callback for rows made ready before: prefix of the logs ("" or "val_") -> rows and their tensor.

        `forward` maps that tensor to log-odds; by default the model does.
        """
        callback = cls.__new__(cls)
        super(TrueLoss, callback).__init__()
        callback._begin(parts, every, forward)
        return callback

    def _begin(self, parts: Mapping[str, tuple[LossRows, Any]], every: int, forward: Forward | None = None) -> None:
        if every < 1:
            raise ValueError(f"every must be 1 epoch or more; got {every}.")
        self.every = every
        self._parts = {prefix: (rows, _blocks(tensor)) for prefix, (rows, tensor) in parts.items()}
        self._n_inputs = next(iter(parts.values()))[1].shape[1]
        self._own_forward = self._forward = forward

    def set_model(self, model: keras.Model) -> None:
        super().set_model(model)
        self._forward = self._own_forward

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        is_last = epoch + 1 == (self.params or {}).get("epochs")
        if logs is not None and ((epoch + 1) % self.every == 0 or is_last):
            logs.update(self.losses())

    def losses(self) -> dict[str, float]:
        """The losses of the model as it stands, by name."""
        if self._forward is None:
            self._forward = _forward_of(self.model, self._n_inputs)
        found: dict[str, float] = {}
        for prefix, (rows, blocks) in self._parts.items():
            contrast, decision = rows.losses(_log_odds(self._forward, blocks))
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
    at_start
        Gives the losses before the first epoch: then epoch 0, the initial weights, is in the history and may
        be the best.

    Attributes
    ----------
    best_epoch
        Counted from 1; 0 is the initial weights. None before there is any.
    diverged_at
        The epoch whose loss was not finite, where training was stopped; None while there is none.
    """

    def __init__(
        self, monitor: str, *, patience: int | None = None, at_start: Callable[[], dict[str, float]] | None = None
    ) -> None:
        super().__init__()
        self.monitor = monitor
        self.patience = patience
        self.best_epoch: int | None = None
        self.diverged_at: int | None = None
        self._at_start = at_start
        self._best = np.inf
        self._weights: list[np.ndarray] = []
        self._rows: list[dict[str, float]] = []

    @property
    def history(self) -> pd.DataFrame:
        """One row an epoch, columns `HISTORY_COLUMNS`; NaN where nothing was evaluated."""
        return pd.DataFrame(self._rows, columns=HISTORY_COLUMNS).astype({"epoch": np.int64})

    @property
    def weights(self) -> list[np.ndarray]:
        """Of the best epoch, as `get_weights` gave them; none before there is one."""
        return self._weights

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        if self._at_start is not None and not self._rows:
            self._take(0, {**self._at_start(), "learning_rate": _learning_rate(self.model)})

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        logs = {} if logs is None else logs
        logs["learning_rate"] = _learning_rate(self.model)
        self._take(epoch + 1, logs)
        if not np.isfinite(logs.get("loss", 0.0)) or np.isnan(logs.get(self.monitor, 0.0)):
            self.diverged_at = epoch + 1
            self.model.stop_training = True
        waited = epoch + 1 - (self.best_epoch or 0)
        if self.patience is not None and self.monitor in logs and waited >= self.patience:
            self.model.stop_training = True

    def _take(self, epoch: int, logs: Mapping[str, Any]) -> None:
        """Into the history, and the weights where this is the best epoch so far."""
        self._rows.append({"epoch": epoch, **{c: float(logs.get(c, np.nan)) for c in HISTORY_COLUMNS[1:]}})
        loss = float(logs.get(self.monitor, np.inf))
        if np.isfinite(logs.get("loss", 0.0)) and loss < self._best:
            self._best, self.best_epoch = loss, epoch
            self._weights = self.model.get_weights()

    def restore(self) -> None:
        """Give the model the weights of the best epoch; nothing happens before there is one."""
        if self.best_epoch is not None:
            self.model.set_weights(self._weights)

    def state(self) -> dict[str, Any]:
        """What to go on from."""
        return {"best": self._best, "epoch": self.best_epoch, "weights": self._weights, "rows": list(self._rows)}

    def take_up(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` gave."""
        self._best, self.best_epoch = state["best"], state["epoch"]
        self._weights, self._rows = list(state["weights"]), list(state["rows"])


class LowerRate(keras.callbacks.Callback):
    """Multiplies the learning rate by a factor after some epochs without a new minimum of the monitored log.

    As Keras' ReduceLROnPlateau, but epochs without the log are passed over, and it can be taken up again.
    """

    def __init__(self, monitor: str, plateau: Plateau) -> None:
        super().__init__()
        self.monitor, self.plateau = monitor, plateau
        self._best, self._waited = np.inf, 0

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if logs is None or self.monitor not in logs:
            return
        loss = float(logs[self.monitor])
        if loss < self._best:
            self._best, self._waited = loss, 0
            return
        self._waited += 1
        if self._waited >= self.plateau.patience:
            lower = _learning_rate(self.model) * self.plateau.factor
            self.model.optimizer.learning_rate = max(lower, self.plateau.min_learning_rate)
            self._waited = 0

    def state(self) -> dict[str, Any]:
        """What to go on from; the learning rate itself is the optimizer's."""
        return {"best": float(self._best), "waited": self._waited}

    def take_up(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` gave."""
        self._best, self._waited = state["best"], state["waited"]


def _blocks(rows: Any) -> Iterable[Any]:
    """Rows in blocks, again and again: of a tensor, whose memory they share, or of a stream."""
    if isinstance(rows, RowStream):
        return rows
    return [rows[i : i + BLOCK_ROWS] for i in range(0, len(rows), BLOCK_ROWS)]


def _log_odds(forward: Forward, blocks: Iterable[Any]) -> np.ndarray:
    """(row,), float32: the model on all rows, a block at a time."""
    found = []
    for block in blocks:
        values = forward(block).numpy()
        found.append(values)
        if values.shape not in {(len(block), 1), (len(block),)}:
            raise ValueError(
                f"the model must map (row, feature) = {tuple(block.shape)} to log-odds ({len(block)}, 1); "
                f"it gave {values.shape}."
            )
    return np.concatenate([np.zeros(0, np.float32), *(values.ravel() for values in found)])


def _learning_rate(model: keras.Model) -> float:
    return float(keras.ops.convert_to_tensor(model.optimizer.learning_rate))


def _forward_of(model: keras.Model, n_features: int) -> Callable[[Any], Any]:
    """The model's forward pass as one graph function, traced once for blocks of any length."""
    # A subclassed model may have a call without `training`; then it does not depend on it.
    frozen = {"training": False} if "training" in inspect.signature(model.call).parameters else {}
    signature = [tf.TensorSpec((None, n_features), tf.float32)]
    return tf.function(
        lambda rows: model(rows, **frozen), input_signature=signature, jit_compile=False, autograph=False
    ).get_concrete_function()
