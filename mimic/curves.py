"""The history of a training into its curves: losses of the trained kind, what there was to learn, noise and slope."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from mimic.ideal import IdealLoss
from mimic.schema import require_columns

__all__ = ["Curves", "drop", "end", "noise", "read_curves", "share_of_rises", "smooth"]

_FEWEST_EPOCHS = 5  # of a window to judge a slope by
_GRADIENT_COLUMNS = ("gradient_norm", "gradient_norm_max")
_LEAST_TO_LEARN = 0.05  # of the loss of no model; below it noise would look large


@dataclass(frozen=True, eq=False)
class Curves:
    """Losses of the trained kind (contrast or decision), nats, at the epochs that were evaluated.

    Parameters
    ----------
    epoch
        (evaluated,), from 1; 0 is the model before training.
    running, train
        (evaluated,): over moving weights, and of the frozen weights on the same decisions.
    validation
        (evaluated,), or None.
    null
        Loss of no model; NaN where unknown.
    ideal
        Loss of a table on unseen individuals, see `mimic.ideal.IdealLoss`; NaN where unknown.
    last_epoch
        The last that was run.
    diverged_epoch
        The epoch whose loss is not finite, or None.
    gradient_norm, gradient_norm_max
        Median over the epochs, and the largest; NaN where unknown.
    learning_rate
        Of the options, else of the first epoch; NaN where unknown.
    """

    epoch: np.ndarray
    running: np.ndarray
    train: np.ndarray
    validation: np.ndarray | None
    null: float
    ideal: float
    last_epoch: int
    diverged_epoch: int | None
    gradient_norm: float
    gradient_norm_max: float
    learning_rate: float

    @property
    def scale(self) -> float:
        """What there was to learn, nats: the loss of no model, or of the first epoch where that is higher, less the
        lowest known; at most the loss of no model and at least a twentieth of it."""
        first = float(self.train[0])
        null = first if np.isnan(self.null) else self.null
        lowest = float(np.nanmin([self.ideal, self.train.min()]))
        return max(min(max(first, null) - lowest, null), _LEAST_TO_LEARN * null, 1e-12)

    @property
    def judged(self) -> np.ndarray:
        """The validation loss where there is one, else the training loss."""
        return self.train if self.validation is None else self.validation

    @property
    def window(self) -> int:
        """Evaluated epochs in the last quarter of the run; five where there are so many."""
        return min(len(self.train), max(_FEWEST_EPOCHS, len(self.train) // 4))


def read_curves(
    history: pd.DataFrame, *, options: Mapping[str, Any], facts: Mapping[str, Any], ideal: IdealLoss | None
) -> Curves:
    """The curves of a history; see `mimic.doctor.diagnose` for what each argument may hold.

    Raises
    ------
    ValueError
        If the history lacks a column that is needed.
    """
    kind = "decision" if options.get("loss") == "softmax" else "contrast"
    truth, validation = f"true_{kind}_loss", f"val_true_{kind}_loss"
    require_columns(list(history.columns), ["epoch", "loss", truth], where="history")
    diverged = _diverged_epoch(history, truth, options, facts)
    kept = history[np.isfinite(history[truth]) & (diverged is None or history["epoch"] != diverged)]
    has_validation = validation in kept and len(kept) > 0 and bool(np.isfinite(kept[validation]).all())
    mean, largest = _gradient_norms(history)
    return Curves(
        epoch=kept["epoch"].to_numpy(np.int64),
        running=kept["loss"].to_numpy(np.float64),
        train=kept[truth].to_numpy(np.float64),
        validation=kept[validation].to_numpy(np.float64) if has_validation else None,
        null=float(np.log(2)) if kind == "contrast" else (np.nan if ideal is None else ideal.null_decision),
        ideal=np.nan if ideal is None else float(getattr(ideal, f"{kind}_unseen")),
        last_epoch=int(history["epoch"].max()) if len(history) else 0,
        diverged_epoch=diverged,
        gradient_norm=mean,
        gradient_norm_max=largest,
        learning_rate=_learning_rate(history, options),
    )


def noise(curve: np.ndarray) -> float:
    """Robust standard deviation of a curve (epoch,) about its smooth course; 0 for fewer than three points.

    Notes
    -----
    1.4826 x the median of |x_i - (x_{i-1} + x_{i+1}) / 2| / sqrt(3/2).
    """
    if len(curve) < 3:
        return 0.0
    bend = curve[1:-1] - (curve[:-2] + curve[2:]) / 2
    return 1.4826 * float(np.median(np.abs(bend))) / float(np.sqrt(1.5))


def share_of_rises(curve: np.ndarray) -> float:
    """Share of the steps of a curve (epoch,) that go up: 0 for a falling curve, one half for noise."""
    return float(np.mean(np.diff(curve) > 0)) if len(curve) > 1 else 0.0


def smooth(curve: np.ndarray) -> np.ndarray:
    """Medians of three points in a row, two at the ends: (epoch,)."""
    return pd.Series(curve).rolling(3, center=True, min_periods=1).median().to_numpy(np.float64)


def end(curve: np.ndarray) -> float:
    """Where a curve (epoch,) ends: the median of its last three points."""
    return float(np.median(curve[-3:]))


def drop(epoch: np.ndarray, curve: np.ndarray) -> float:
    """How far a curve falls from its first to its last epoch by the median slope of all its pairs (Theil & Sen)."""
    i, j = np.triu_indices(len(curve), 1)
    if len(i) == 0:
        return 0.0
    slope = np.median((curve[j] - curve[i]) / (epoch[j] - epoch[i]))
    return -float(slope) * float(epoch[-1] - epoch[0])


def _diverged_epoch(
    history: pd.DataFrame, truth: str, options: Mapping[str, Any], facts: Mapping[str, Any]
) -> int | None:
    """The epoch whose loss is not finite. Epoch 0, before training, has no running loss."""
    if facts.get("diverged_epoch") is not None:
        return int(facts["diverged_epoch"])
    trained = history[history["epoch"] > 0]
    # a true loss is missing in epochs that were not evaluated too
    bad = ~np.isfinite(trained["loss"])
    if options.get("evaluate_every", 1) == 1:
        bad = bad | ~np.isfinite(trained[truth])
    return int(trained["epoch"][bad].iloc[0]) if bad.any() else None


def _gradient_norms(history: pd.DataFrame) -> tuple[float, float]:
    """The median of the mean norms and the largest norm; NaN where the history has none."""
    norms = [history[c].to_numpy(np.float64) if c in history else np.zeros(0) for c in _GRADIENT_COLUMNS]
    norms = [values[np.isfinite(values)] for values in norms]
    return float(np.median(norms[0])) if len(norms[0]) else np.nan, float(norms[1].max()) if len(norms[1]) else np.nan


def _learning_rate(history: pd.DataFrame, options: Mapping[str, Any]) -> float:
    given = options.get("learning_rate")
    if isinstance(given, int | float):
        return float(given)
    rates = history["learning_rate"].dropna() if "learning_rate" in history else pd.Series(dtype=np.float64)
    return float(rates.iloc[0]) if len(rates) else np.nan
