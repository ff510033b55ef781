"""How a network is built and trained: options checked once, and the Keras optimizer and learning rates they mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_args

import keras
import numpy as np

from mimic.augmentation import Augmentation
from mimic.contrasts import Weighting
from mimic.expressions import parse
from mimic.scaling import check_scaling_option

__all__ = ["Loss", "Plateau", "TrainingOptions", "build_optimizer", "learning_rates"]

Loss = Literal["contrast_exact", "contrast_sampled", "softmax"]

_AT_LEAST_ONE = (
    *("epochs", "patience", "batch_decisions", "batch_contrasts", "units"),
    *("decisions_per_individual", "alternatives_per_decision", "evaluate_every"),
)
_ABOVE_ZERO = ("learning_rate", "gradient_clip_norm")
_NOT_NEGATIVE = ("l2", "embedding_l2", "weight_decay", "seed", "embedding_size")


@dataclass(frozen=True)
class Plateau:
    """The learning rate is multiplied by `factor` after `patience` epochs without a new minimum of the monitored loss."""

    patience: int = 10
    factor: float = 0.5
    min_learning_rate: float = 0.0

    def __post_init__(self) -> None:
        if self.patience < 1 or not 0 < self.factor < 1 or not self.min_learning_rate >= 0:
            raise ValueError(
                "plateau expects patience of 1 or more, a factor in (0, 1) and min_learning_rate of 0 or more; got "
                f"{self.patience}, {self.factor} and {self.min_learning_rate}."
            )


@dataclass(frozen=True)
class TrainingOptions:
    """How a network is built and trained.

    Parameters
    ----------
    loss
        "contrast_exact": every contrast with its exact weight; "contrast_sampled": contrasts are drawn;
        "softmax": -ln p(selected) over the whole choice set.
    redraw
        Sampled contrasts are drawn anew for every epoch, and not once before the first.
    epochs, patience
        At most so many epochs, fewer when the monitored loss has had no new minimum for `patience` epochs.
    batch_decisions, batch_contrasts
        The most decisions in a minibatch, or about how many contrasts: that many of those that the loss counts
        (drawn ones, where they are sampled). Minibatches are of equal size, up to one decision.
    learning_rate, schedule
        The initial rate, and a schedule of Keras by name, such as {"name": "CosineDecay", "decay_epochs": 100}.
        Lengths are given in epochs (`decay_epochs`, `warmup_epochs`, ...; `boundaries` of PiecewiseConstantDecay).
    optimizer, optimizer_arguments, weight_decay, gradient_clip_norm
        Any optimizer of Keras by name, with further arguments of its own; the norm of the whole gradient is
        clipped where one is given.
    plateau
        Lowers the learning rate where the monitored loss no longer falls; not together with a schedule.
    scaling
        How features are scaled, "zscore", "minmax", "robust", "log", "log1p" or "none": one for all features, or
        feature -> kind with "default" for the others, see `mimic.scaling`.
    units, activation, dropout, l2
        Of the hidden layers, see `mimic.network.build_network`.
    linear_skip
        Log-odds are a linear term, started at the conditional logit of the training decisions, plus the network,
        whose last layer starts at zero. Epoch 0, the classical model itself, may be the best one. A sequence
        names the features of the linear term.
    embedding_size, embedding_l2
        Numbers learned for every training individual, pulled to 0, which stands for the population and is used
        for individuals never seen.
    augmentation
        Noisy copies of the training decisions.
    weights
        Condition on decisions (a behavior group) -> how much they count in training, such as
        {"selected_stay == 1": 0.5} or {'individual == "A7"': 2}. Where several hold, their product counts.
        Individuals are made to weigh the same before.
    labels
        A feature with the use of every choice, in place of one selected choice, see
        `mimic.labels.soft_selections`.
    weighting
        For the softmax loss only: individuals weigh the same, or decisions do. Contrasts always weigh
        individuals the same.
    seed
        Of initial weights, dropout, noise, shuffling and the drawing of contrasts.
    decisions_per_individual, alternatives_per_decision
        What "contrast_sampled" draws, see `mimic.contrasts.sample_contrasts`.
    evaluate_every
        True losses are computed, and the best epoch is sought, every so many epochs.

    Raises
    ------
    ValueError
        If an option is out of range, unknown to Keras, or does not go with another.
    """

    loss: Loss = "contrast_exact"
    redraw: bool = False
    epochs: int = 100
    batch_decisions: int = 512
    batch_contrasts: int | None = None
    learning_rate: float = 1e-3
    schedule: Mapping[str, Any] | None = None
    optimizer: str = "adam"
    optimizer_arguments: Mapping[str, Any] = field(default_factory=dict)
    weight_decay: float | None = None
    gradient_clip_norm: float | None = None
    plateau: Plateau | None = None
    scaling: str | Mapping[str, str] = "zscore"
    units: tuple[int, ...] = (24, 24, 24)
    activation: str = "relu"
    dropout: float = 0.0
    l2: float = 0.0
    linear_skip: bool | tuple[str, ...] = False
    embedding_size: int = 0
    embedding_l2: float = 1e-2
    augmentation: Augmentation | None = None
    weights: Mapping[str, float] = field(default_factory=dict)
    labels: str | None = None
    patience: int | None = None
    weighting: Weighting = "individual"
    seed: int = 0
    decisions_per_individual: int = 200
    alternatives_per_decision: int = 19
    evaluate_every: int = 1

    def __post_init__(self) -> None:
        put = object.__setattr__
        put(self, "units", tuple(int(n) for n in self.units))
        if not isinstance(self.linear_skip, bool):
            put(self, "linear_skip", tuple(self.linear_skip))
        for name, kind in (("plateau", Plateau), ("augmentation", Augmentation)):
            value = getattr(self, name)
            if isinstance(value, Mapping):
                put(self, name, _from_mapping(name, kind, value))
        self._check_ranges()
        self._check_together()
        for text in self.weights:
            parse(text)
        check_scaling_option(self.scaling)
        _check_activation(self.activation)
        build_optimizer(self)
        learning_rates(self, n_epochs=1, steps_per_epoch=1)

    def _check_ranges(self) -> None:
        for name, known in (("loss", get_args(Loss)), ("weighting", get_args(Weighting))):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}; got {getattr(self, name)!r}.")
        for name in _AT_LEAST_ONE:
            value = getattr(self, name)
            if value is not None and any(n < 1 for n in (value if name == "units" else [value])):
                raise ValueError(f"{name} must be 1 or more; got {value}.")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must lie in [0, 1); got {self.dropout}.")
        for name in _ABOVE_ZERO:
            value = getattr(self, name)
            if value is not None and not (np.isfinite(value) and value > 0):
                raise ValueError(f"{name} must be a positive number; got {value}.")
        for name in _NOT_NEGATIVE:
            value = getattr(self, name)
            if value is not None and not (np.isfinite(value) and value >= 0):
                raise ValueError(f"{name} must be 0 or more; got {value}.")
        bad = {text: factor for text, factor in self.weights.items() if not (np.isfinite(factor) and factor >= 0)}
        if bad:
            raise ValueError(f"weights must be finite and 0 or more; got {bad}.")

    def _check_together(self) -> None:
        if self.weighting == "decision" and self.loss != "softmax":
            raise ValueError('weighting="decision" goes with loss="softmax"; contrasts weigh individuals the same.')
        if self.redraw and self.loss != "contrast_sampled":
            raise ValueError(f'redraw goes with loss="contrast_sampled"; got {self.loss!r}, which draws nothing.')
        if self.plateau is not None and self.schedule is not None:
            raise ValueError("expected either a schedule or plateau to move the learning rate; got both.")

    @property
    def monitor(self) -> str:
        """The true loss, without `val_`, that is the twin of the trained loss."""
        return "true_decision_loss" if self.loss == "softmax" else "true_contrast_loss"

    def as_mapping(self) -> dict[str, Any]:
        """All options as plain values, as a file keeps them."""
        return {one.name: _plain(getattr(self, one.name)) for one in fields(self)}


def build_optimizer(options: TrainingOptions) -> keras.optimizers.Optimizer:
    """The optimizer by name; one clear message where Keras does not know it or its arguments."""
    config = {"learning_rate": options.learning_rate, **options.optimizer_arguments}
    if options.gradient_clip_norm is not None:
        config["global_clipnorm"] = options.gradient_clip_norm
    if options.weight_decay is not None:
        config["weight_decay"] = options.weight_decay
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


def learning_rates(options: TrainingOptions, *, n_epochs: int, steps_per_epoch: int) -> np.ndarray | None:
    """The learning rate of every step under the schedule: (step,), float32; None without a schedule.

    Raises
    ------
    ValueError
        If Keras does not know the schedule or its arguments.
    """
    if options.schedule is None:
        return None
    given = dict(options.schedule)
    name = given.pop("name", None)
    config = {"initial_learning_rate": options.learning_rate, **_in_steps(given, steps_per_epoch)}
    if name == "PiecewiseConstantDecay":
        config.pop("initial_learning_rate")
    try:
        schedule = keras.optimizers.schedules.deserialize({"class_name": name, "config": config})
        rates = _of_steps(schedule, n_epochs * steps_per_epoch)
    except (ValueError, TypeError, AttributeError, LookupError) as error:
        raise ValueError(
            "expected a learning rate schedule of Keras with its arguments, lengths in epochs, such as "
            f'{{"name": "CosineDecay", "decay_epochs": 100}}; got {dict(options.schedule)}.'
        ) from error
    if not (np.isfinite(rates) & (rates >= 0)).all():
        raise ValueError(f"schedule: learning rates must be finite and 0 or more; got {rates.min():g}.")
    return rates


def _in_steps(given: Mapping[str, Any], steps_per_epoch: int) -> dict[str, Any]:
    config: dict[str, Any] = {}
    for name, value in given.items():
        if name.endswith("_epochs"):
            config[name.removesuffix("_epochs") + "_steps"] = round(value * steps_per_epoch)
        elif name == "boundaries":
            config[name] = [round(epoch * steps_per_epoch) for epoch in value]
        else:
            config[name] = value
    return config


def _of_steps(schedule: Any, n_steps: int) -> np.ndarray:
    """All steps at once; one by one where the schedule takes a single step only."""

    def rate(step: int) -> float:
        return float(keras.ops.convert_to_numpy(schedule(step)))

    probes = sorted({0, n_steps // 3, n_steps // 2, n_steps - 1})
    try:
        rates = np.broadcast_to(keras.ops.convert_to_numpy(schedule(np.arange(n_steps))), (n_steps,))
        if np.allclose(rates[probes], [rate(step) for step in probes], rtol=1e-6, atol=0):
            return rates.astype(np.float32)
    except Exception:  # whatever it is, a single step is what schedules promise to take
        pass
    return np.array([rate(step) for step in range(n_steps)], dtype=np.float32)


def _from_mapping(name: str, kind: type, value: Mapping[str, Any]) -> Any:
    known = [one.name for one in fields(kind)]
    unknown = [key for key in value if key not in known]
    if unknown:
        raise ValueError(f"{name}: unknown key {', '.join(unknown)}; known are {', '.join(known)}.")
    try:
        return kind(**value)
    except TypeError as error:
        raise ValueError(f"{name} expects {', '.join(known)}; got {dict(value)}.") from error


def _check_activation(activation: str) -> None:
    try:
        keras.activations.get(activation)
    except ValueError as error:
        raise ValueError(f"expected an activation of Keras, such as relu; got {activation!r}.") from error


def _plain(value: Any) -> Any:
    if isinstance(value, (Plateau, Augmentation)):
        return {one.name: _plain(getattr(value, one.name)) for one in fields(value)}
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(v) for v in value]
    return value
