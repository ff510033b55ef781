"""Feature scaling and layer sizes into a Keras network of log-odds, built of Keras' own layers and operations only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import keras
import numpy as np
import pandas as pd

from mimic.scaling import Scaling, check_finite, fit_scaling
from mimic.schema import INDIVIDUAL, ChoiceSets, examples

__all__ = [
    "Scaling",
    "build_network",
    "check_finite",
    "check_scaling",
    "column_layers",
    "fit_scaling",
    "individual_numbers",
]

_TOLERANCE = 1e-9  # of the scale; sums over the same rows in another order differ by less


class _Model(Protocol):
    """What `mimic.model.LogOddsModel` has that a check of the scaling reads."""

    @property
    def network(self) -> keras.Model | None: ...

    @property
    def features(self) -> tuple[str, ...]: ...

    @property
    def metadata(self) -> Mapping[str, Any]: ...


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
        Becomes layers of the network, logarithms included, so that the network takes physical units.
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
        (feature,), nats per physical unit (per unit of the logarithm, where one is taken): the start of a linear term beside the hidden layers, whose last layer then
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


def check_scaling(model: _Model, cs_train: ChoiceSets) -> None:
    """Raise ValueError where the scaling in a network is not that of these training decisions.

    A scaling that was fitted with validation rows among the training rows, or on any others, is found so: it is read
    off the layers of the network and computed anew. For a member of an ensemble give the decisions that it trained on.

    Raises
    ------
    ValueError
        If the scaling was fitted on other rows; the message names the features, with both means and scales. If there
        is no scaling to check, as in the model without features and in the several networks of an ensemble.
    """
    names = model.features
    kinds = {name: one["kind"] for name, one in model.metadata.get("scaling", {}).items()}
    fitted = fit_scaling(cs_train, names, kinds=kinds)
    mean, scale = _read_scaling(model.network)
    differs = (np.abs(mean - fitted.mean) > _TOLERANCE * fitted.scale) | (
        np.abs(scale - fitted.scale) > _TOLERANCE * fitted.scale
    )
    if differs.any():
        told = [
            f"{names[k]} (mean {mean[k]:.6g} and scale {scale[k]:.6g}; of these decisions {fitted.mean[k]:.6g} and "
            f"{fitted.scale[k]:.6g})"
            for k in np.flatnonzero(differs)
        ]
        raise ValueError(
            f"the scaling was fitted on other rows than those of these {cs_train.n_decisions:,} decisions: "
            f"{examples(told)}. Fit it on the training decisions alone: validation rows tell the network about "
            "animals that it must not know."
        )


def _read_scaling(network: keras.Model | None) -> tuple[np.ndarray, np.ndarray]:
    """What a network subtracts and divides by: (feature,) each, float64."""
    layers = {} if network is None else {layer.name: layer.get_config() for layer in network.layers}
    if "scaling" not in layers:
        raise ValueError(
            "expected a network with its own scaling; the model without features has none, and of an ensemble each "
            "member has one: check the members."
        )
    scale = np.sqrt(np.asarray(layers["scaling"]["variance"], dtype=np.float64))
    if "scaling_of_small" in layers:
        scale = scale * np.sqrt(np.asarray(layers["scaling_of_small"]["variance"], dtype=np.float64))
    return np.asarray(layers["scaling"]["mean"], dtype=np.float64), scale


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
    x = inputs
    for kind in ("log", "log1p"):
        x = _with_logarithms(x, kind, np.array([one == kind for one in scaling.kinds]))
    coarse = np.maximum(scaling.scale, 1e-6)
    mean, variance = scaling.mean.tolist(), np.square(coarse).tolist()
    x = keras.layers.Normalization(mean=mean, variance=variance, name="scaling")(x)
    if (coarse == scaling.scale).all():
        return x
    rest = np.square(scaling.scale / coarse).tolist()
    return keras.layers.Normalization(mean=[0.0] * len(rest), variance=rest, name="scaling_of_small")(x)


def _with_logarithms(x: Any, kind: str, taken: np.ndarray) -> Any:
    """The columns `taken` (column,) as their logarithm, the others to the last bit as they are.

    Keras has no layer for a logarithm that a file can hold, so it is an operation, renamed because the names that
    Keras gives to operations count those built before.
    """
    if not taken.any():
        return x
    # Columns that are left out are 1 (or 0) in the logarithm and 0 in its result.
    left_out = [0.0 if one or kind == "log1p" else 1.0 for one in taken]
    inner = keras.layers.Rescaling(taken.astype(float).tolist(), left_out, name=f"{kind}_columns")(x)
    logarithm = {"log": keras.ops.log, "log1p": keras.ops.log1p}[kind](inner)
    keras.Model(inner, logarithm).operations[-1].name = kind
    others = keras.layers.Rescaling((~taken).astype(float).tolist(), name=f"{kind}_others")(x)
    return keras.layers.Add(name=f"{kind}_taken")([logarithm, others])
