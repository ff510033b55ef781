"""Feature scaling and layer sizes into a Keras network of log-odds, built of Keras' own layers only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import pandas as pd

from mimic.schema import INDIVIDUAL, ChoiceSets

__all__ = ["Scaling", "build_network", "check_finite", "column_layers", "fit_scaling", "individual_numbers"]

# Two Normalization layers of Keras, each of which clamps at 1e-7, and float32 variances bound what can be scaled.
_SMALLEST_SCALE, _LARGEST_SCALE = 1e-12, 1e18


@dataclass(frozen=True, eq=False)
class Scaling:
    """Mean and standard deviation of each feature, in its physical unit: what the network subtracts and divides by.

    Parameters
    ----------
    names
        The features, in the order in which the network takes them.
    mean, scale
        (feature,), float64. A scale is positive.
    """

    names: tuple[str, ...]
    mean: np.ndarray
    scale: np.ndarray

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(self.names))
        object.__setattr__(self, "mean", np.asarray(self.mean, dtype=np.float64))
        object.__setattr__(self, "scale", np.asarray(self.scale, dtype=np.float64))
        if len(set(self.names)) != len(self.names):
            raise ValueError(f"features must be distinct; got {', '.join(self.names)}.")
        if not self.mean.shape == self.scale.shape == (len(self.names),):
            raise ValueError(
                f"mean and scale must have shape (feature,) = ({len(self.names)},); "
                f"got {self.mean.shape} and {self.scale.shape}."
            )
        if not np.isfinite(self.mean).all():
            raise ValueError(f"means must be finite; got {self.mean.tolist()} for {', '.join(self.names)}.")
        bad = [n for n, s in zip(self.names, self.scale, strict=True) if not _SMALLEST_SCALE <= s <= _LARGEST_SCALE]
        if bad:
            raise ValueError(
                f"feature {', '.join(bad)}: the standard deviation must lie in [{_SMALLEST_SCALE:g}, "
                f"{_LARGEST_SCALE:g}]; give the feature in another unit."
            )


def check_finite(cs: ChoiceSets, names: Sequence[str]) -> None:
    """Raise ValueError that names every feature with NaN or infinite values, and how many; unknown features too."""
    missing = [name for name in names if name not in cs.features]
    if missing:
        raise ValueError(f"unknown feature {', '.join(missing)}; known are {', '.join(cs.features)}.")
    bad = {name: int(np.count_nonzero(~np.isfinite(cs.features[name]))) for name in names}
    told = [f"{name} ({n:,} of {cs.n_rows:,} rows)" for name, n in bad.items() if n]
    if told:
        raise ValueError(
            f"features must be finite; got NaN or infinity in {', '.join(told)}. "
            "Drop these choices or fill the covariate before training or predicting."
        )


def fit_scaling(cs_train: ChoiceSets, names: Sequence[str]) -> Scaling:
    """Mean and standard deviation of each feature over all choice rows of the training decisions.

    A constant feature gets scale 1, so that it becomes 0 and not NaN.

    Raises
    ------
    ValueError
        If there are no rows, a feature is unknown, or one holds NaN or infinity.

    Example
    -------
    >>> import pandas as pd
    >>> decisions = pd.DataFrame({"individual": ["a"], "decision": [1]})
    >>> cs = ChoiceSets(decisions, [0, 2], [1, 2], [0], {"depth_m": [10.0, 30.0], "one": [1.0, 1.0]})
    >>> scaling = fit_scaling(cs, ["depth_m", "one"])
    >>> scaling.mean.tolist(), scaling.scale.tolist()
    ([20.0, 1.0], [10.0, 1.0])
    """
    check_finite(cs_train, names)
    if cs_train.n_rows == 0:
        raise ValueError("expected training decisions to fit the scaling on; got none.")
    columns = [cs_train.features[name] for name in names]
    mean = np.array([column.mean(dtype=np.float64) for column in columns])
    spread = [1.0 if c.min() == c.max() else float(c.std(dtype=np.float64)) for c in columns]
    return Scaling(tuple(names), mean, np.array(spread))


def individual_numbers(cs: ChoiceSets, individuals: Sequence[str]) -> np.ndarray:
    """The number by which a network with an embedding knows the individual of each row: (row,), float32.

    1 for the first of `individuals`, 2 for the second, ...; 0, the population, for an individual that is not among
    them. It is the last column of what such a network takes, after the features.

    Raises
    ------
    ValueError
        If an individual is listed twice.

    Example
    -------
    >>> decisions = pd.DataFrame({"individual": ["boar b", "boar c"], "decision": [1, 1]})
    >>> cs = ChoiceSets(decisions, [0, 2, 4], [1, 2, 1, 2], [0, 2])
    >>> individual_numbers(cs, ["boar a", "boar b"]).tolist()
    [2.0, 2.0, 0.0, 0.0]
    """
    known = pd.Index([str(name) for name in individuals], dtype=object)
    if not known.is_unique:
        twice = known[known.duplicated()].unique()
        raise ValueError(f"individuals must be distinct; got {', '.join(twice[:5])} more than once.")
    numbers = known.get_indexer(pd.Index(cs.decisions[INDIVIDUAL], dtype=object)) + 1
    return np.repeat(numbers.astype(np.float32), cs.n_choices)


def build_network(
    scaling: Scaling,
    *,
    units: Sequence[int] = (24, 24, 24),
    activation: str = "relu",
    dropout: float = 0.0,
    seed: int = 0,
    l2: float = 0.0,
    linear: np.ndarray | None = None,
    n_individuals: int = 0,
    embedding_size: int = 0,
    embedding_l2: float = 1e-2,
) -> keras.Model:
    """A network from the raw features of one choice, (row, feature), to its log-odds, (row, 1).

    Parameters
    ----------
    scaling
        Becomes a layer of the network, so that the network takes physical units.
    units
        Units of each hidden layer; none gives a linear model.
    dropout
        Share of the units of each hidden layer that is silenced in training.
    seed
        Of the initial weights (He) and of the dropout: equal seeds give equal networks.
    l2
        Penalty on the squared weights (not on biases) of the hidden layers and of the last one, in nats. It is in
        `network.losses`.
    linear
        (feature,), nats per physical unit: the start of a linear term beside the hidden layers, whose last layer then
        starts at zero, so that the network starts as this linear model, up to a constant. `mimic.linear.linear_term`
        gives the conditional logit's. A feature with 0 is left out of the term for good. `l2` is not on it: it would
        pull the classical model to zero.
    n_individuals, embedding_size, embedding_l2
        With an embedding_size above 0, as many numbers are learned for each individual and given to the first hidden
        layer. The network then takes (row, feature + 1): the last column is the individual's number, see
        `individual_numbers`, with 0 for the population. The embedding starts at 0; embedding_l2 x the sum of its
        squares is in `network.losses` and pulls individuals to the population, which therefore stays at 0.

    Raises
    ------
    ValueError
        If there is no feature: then nothing can be learned, see `zero_model`. If `linear` has another shape or is not
        finite, a penalty is negative, or an embedding has no individuals or no hidden layer to act on.

    Notes
    -----
    The last layer has no bias: adding a constant to all log-odds of a decision changes no probability.
    """
    _check(scaling, units, l2, n_individuals, embedding_size, embedding_l2)
    seeds = iter(np.random.SeedSequence(seed).generate_state(2 * len(units) + 1).tolist())

    def dense(n: int, name: str, **options: Any) -> keras.layers.Layer:
        start = {"kernel_initializer": keras.initializers.HeNormal(seed=next(seeds)), **options}
        return keras.layers.Dense(n, kernel_regularizer=_l2(l2), name=name, **start)

    inputs = keras.Input((len(scaling.names) + (embedding_size > 0),), name="features")
    if embedding_size:
        scaled = _scaled(column_layers(inputs, 0, len(scaling.names), name="raw"), scaling)
        embedding = keras.layers.Embedding(
            n_individuals + 1, embedding_size, "zeros", embeddings_regularizer=_l2(embedding_l2), name="embedding"
        )
        of_individual = embedding(column_layers(inputs, len(scaling.names), None, name="individual"))
        of_individual = keras.layers.Reshape((embedding_size,), name="embedded")(of_individual)
        x = keras.layers.Concatenate(name="with_embedding")([scaled, of_individual])
    else:
        x = scaled = _scaled(inputs, scaling)
    for number, n in enumerate(units, start=1):
        x = dense(int(n), f"hidden_{number}", activation=activation)(x)
        dropout_seed = next(seeds)  # taken in any case: initial weights do not depend on the dropout
        if dropout > 0:
            x = keras.layers.Dropout(dropout, seed=dropout_seed, name=f"dropout_{number}")(x)
    if linear is None:
        return keras.Model(inputs, dense(1, "log_odds", use_bias=False)(x), name="log_odds_network")
    x = dense(1, "log_odds", use_bias=False, kernel_initializer="zeros")(x)
    x = keras.layers.Add(name="with_linear")([_linear(scaled, scaling, linear), x])
    return keras.Model(inputs, x, name="log_odds_network")


def column_layers(inputs: Any, start: int, stop: int | None, *, name: str) -> Any:
    """The columns [start, stop) of a Keras tensor (row, column), by layers: slices of Keras have no names of their own.

    Names that Keras makes up count what was built before, and equal models would be unequal files.
    """
    width = inputs.shape[1]
    stop = width if stop is None else stop
    x = keras.layers.Reshape((width, 1), name=f"{name}_axis")(inputs)
    x = keras.layers.Cropping1D((start, width - stop), name=f"{name}_columns")(x)
    return keras.layers.Reshape((stop - start,), name=name)(x)


def _check(
    scaling: Scaling, units: Sequence[int], l2: float, n_individuals: int, embedding_size: int, embedding_l2: float
) -> None:
    if not scaling.names:
        raise ValueError("expected at least one feature; a model without features is zero_model().")
    for name, value in {"l2": l2, "embedding_l2": embedding_l2, "embedding_size": embedding_size}.items():
        if not (np.isfinite(value) and value >= 0):
            raise ValueError(f"{name} must be 0 or more; got {value}.")
    if embedding_size and n_individuals < 1:
        raise ValueError(f"an embedding needs n_individuals of 1 or more; got {n_individuals}.")
    if embedding_size and not len(units):
        raise ValueError(
            "an embedding needs a hidden layer: added to the log-odds it would be the same for all choices of a "
            "decision, and cancel. Give units, or embedding_size=0."
        )


def _l2(factor: float) -> keras.regularizers.Regularizer | None:
    return keras.regularizers.L2(factor) if factor > 0 else None


def _linear(scaled: Any, scaling: Scaling, coef: np.ndarray) -> Any:
    """The linear term of the scaled features, started at coefficients per physical unit, without a bias."""
    coef = np.asarray(coef, dtype=np.float64)
    if coef.shape != scaling.mean.shape or not np.isfinite(coef).all():
        raise ValueError(
            f"linear must be finite and have shape (feature,) = ({len(scaling.names)},), in the order "
            f"{', '.join(scaling.names)}; got {coef.tolist()}."
        )
    if (coef == 0).any():
        # Its gradient would be zero but for rounding, which Adam divides by its own size.
        scaled = keras.layers.Rescaling((coef != 0).astype(float).tolist(), name="linear_features")(scaled)
    layer = keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros", name="linear")
    result = layer(scaled)
    layer.set_weights([(coef * scaling.scale)[:, None]])
    return result


def _scaled(inputs: Any, scaling: Scaling) -> Any:
    """(x - mean) / scale by one Normalization layer, or two for tiny scales, which a single one would clamp."""
    coarse = np.maximum(scaling.scale, 1e-6)
    mean, variance = scaling.mean.tolist(), np.square(coarse).tolist()
    x = keras.layers.Normalization(mean=mean, variance=variance, name="scaling")(inputs)
    if (coarse == scaling.scale).all():
        return x
    rest = np.square(scaling.scale / coarse).tolist()
    return keras.layers.Normalization(mean=[0.0] * len(rest), variance=rest, name="scaling_of_small")(x)
