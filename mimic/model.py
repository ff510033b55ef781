"""Feature scaling and layer sizes into a Keras network of log-odds; the network to and from a plain `.keras` file."""

from __future__ import annotations

import json
import os
import re
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np

from mimic import __version__
from mimic.schema import ChoiceSets, FeatureInfo

__all__ = [
    "BLOCK_ROWS",
    "LogOddsModel",
    "Scaling",
    "build_network",
    "check_finite",
    "describe_features",
    "fit_scaling",
    "load_model",
    "save_model",
    "zero_model",
]

# Rows evaluated at a time: 1.5 MB for a layer of 24 units. Blocks of 262,144 rows took 3 times as long on one
# core, lost in fetching fresh pages of memory for every layer.
BLOCK_ROWS = 16_384
METADATA_MEMBER = "mimic.json"
_SHARED_ID = re.compile(r'("shared_object_id": )(\d+)')
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


def build_network(
    scaling: Scaling,
    *,
    units: Sequence[int] = (24, 24, 24),
    activation: str = "relu",
    dropout: float = 0.0,
    seed: int = 0,
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

    Raises
    ------
    ValueError
        If there is no feature: then nothing can be learned, see `zero_model`.

    Notes
    -----
    The last layer has no bias: adding a constant to all log-odds of a decision changes no probability.
    """
    if not scaling.names:
        raise ValueError("expected at least one feature; a model without features is zero_model().")
    seeds = iter(np.random.SeedSequence(seed).generate_state(2 * len(units) + 1).tolist())

    def dense(n: int, name: str, **options: Any) -> keras.layers.Layer:
        return keras.layers.Dense(
            n, kernel_initializer=keras.initializers.HeNormal(seed=next(seeds)), name=name, **options
        )

    inputs = keras.Input((len(scaling.names),), name="features")
    x = _scaled(inputs, scaling)
    for number, n in enumerate(units, start=1):
        x = dense(int(n), f"hidden_{number}", activation=activation)(x)
        dropout_seed = next(seeds)  # taken in any case: initial weights do not depend on the dropout
        if dropout > 0:
            x = keras.layers.Dropout(dropout, seed=dropout_seed, name=f"dropout_{number}")(x)
    return keras.Model(inputs, dense(1, "log_odds", use_bias=False)(x), name="log_odds_network")


@dataclass(frozen=True, eq=False)
class LogOddsModel:
    """A network with the names of its features.

    Parameters
    ----------
    network
        Maps (row, feature) in physical units to (row, 1); None for the model without features.
    features
        Names, in the order in which the network takes them.
    metadata
        What is saved with it in `mimic.json`: roles and units of the features, training options, ...
    """

    network: keras.Model | None
    features: tuple[str, ...]
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "features", tuple(self.features))
        if (self.network is None) != (not self.features):
            raise ValueError("a model has a network exactly where it has features.")
        if self.network is not None and self.network.input_shape != (None, len(self.features)):
            raise ValueError(
                f"the network must take (row, feature) with {len(self.features)} features "
                f"({', '.join(self.features)}); it takes {self.network.input_shape}."
            )

    def log_odds(self, cs: ChoiceSets) -> np.ndarray:
        """Log-odds of every choice: (row,), float64, nats. Dropout is off.

        Raises
        ------
        ValueError
            If a feature of the model is missing in `cs`, or holds NaN or infinity.
        """
        check_finite(cs, self.features)
        result = np.zeros(cs.n_rows)
        if self.network is None:
            return result
        columns = [cs.features[name] for name in self.features]
        for start in range(0, cs.n_rows, BLOCK_ROWS):
            block = np.column_stack([c[start : start + BLOCK_ROWS] for c in columns])
            values = self.network(block, training=False)
            result[start : start + BLOCK_ROWS] = keras.ops.convert_to_numpy(values)[:, 0]
        return result


def zero_model() -> LogOddsModel:
    """The model without features: all log-odds are zero, all choices of a decision equally likely.

    It has no network and nothing to train or to save.
    """
    return LogOddsModel(None, ())


def save_model(
    model: LogOddsModel | keras.Model, path: str | os.PathLike[str], *, metadata: Mapping[str, Any] | None = None
) -> None:
    """Write the network as a plain `.keras` file with `mimic.json` as one more member.

    The file appears under its name only when it is whole. Keras alone loads it, without mimic:
    `keras.saving.load_model(path, safe_mode=True)` takes raw physical units.

    Parameters
    ----------
    model
        A `LogOddsModel`, or a network; then `metadata` must name its `features` in order.
    metadata
        JSON-able; added to (and winning over) the model's own.

    Raises
    ------
    ValueError
        If the path does not end in .keras, the model has no network, or the metadata lacks the features or is
        not JSON-able.
    """
    path = Path(path)
    if path.suffix != ".keras":
        raise ValueError(f"expected a path that ends in .keras; got {path}.")
    if isinstance(model, LogOddsModel):
        own = {"features": list(model.features), **model.metadata}
        model = LogOddsModel(model.network, model.features, {**own, **(metadata or {})})
    else:
        model = LogOddsModel(model, tuple((metadata or {}).get("features", ())), dict(metadata or {}))
    if model.network is None:
        raise ValueError("the model without features has no network to save.")
    try:
        text = json.dumps({"mimic": __version__, **model.metadata}, indent=1, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"metadata must be JSON-able (text, finite numbers, lists, mappings): {error}.") from error
    if not path.parent.is_dir():
        raise FileNotFoundError(f"expected a folder to write {path.name} into; {path.parent} does not exist.")
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.stem}-") as folder:
        temporary = Path(folder) / path.name
        with _numpy_2_4():
            model.network.save(temporary)
        whole = Path(folder) / "whole.keras"
        _repack(temporary, whole, {METADATA_MEMBER: text})
        os.replace(whole, path)


def _numbered() -> Callable[[re.Match[str]], str]:
    """Replaces the ids of shared objects, which Keras takes from memory addresses, by 0, 1, ... in order."""
    numbers: dict[str, int] = {}
    return lambda found: found[1] + str(numbers.setdefault(found[2], len(numbers)))


def _repack(source: Path, target: Path, members: Mapping[str, str]) -> None:
    """Copy a `.keras` file with more members, without its dates and addresses: equal models are equal bytes."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "metadata.json":
                content = json.dumps({k: v for k, v in json.loads(content).items() if k != "date_saved"}).encode()
            elif name == "config.json":
                content = _SHARED_ID.sub(_numbered(), content.decode()).encode()
            new.writestr(zipfile.ZipInfo(name), content)
        for name, text in members.items():
            new.writestr(zipfile.ZipInfo(name), text)


def load_model(path: str | os.PathLike[str]) -> LogOddsModel:
    """The model that `save_model` wrote.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is no `.keras` file or damaged, has no `mimic.json`, or its features do not fit its network.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"expected a .keras file written by mimic; {path} does not exist.")
    damaged = f"{path} is not a .keras file, or it is damaged; write it again with save_model"
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
            members = archive.namelist()
            if broken is not None:
                raise ValueError(f"{damaged} (member {broken}).")
            if METADATA_MEMBER not in members:
                raise ValueError(
                    f"{path} has no {METADATA_MEMBER}, so its features are unknown: it was not written by mimic. "
                    "Load it with keras.saving.load_model and save it with save_model(network, path, metadata=...)."
                )
            metadata = json.loads(archive.read(METADATA_MEMBER))
    except zipfile.BadZipFile as error:
        raise ValueError(f"{damaged} ({error}).") from error
    try:
        network = keras.saving.load_model(path, compile=False, safe_mode=True)
    except (ValueError, OSError, KeyError, TypeError) as error:
        raise ValueError(f"{damaged} ({str(error).splitlines()[0]}).") from error
    features = metadata.get("features")
    if not isinstance(features, list) or not features:
        raise ValueError(f"{METADATA_MEMBER} of {path} must list the features of the network; got {features!r}.")
    try:
        return LogOddsModel(network, tuple(features), metadata)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def describe_features(cs: ChoiceSets, names: Sequence[str]) -> dict[str, Any]:
    """The part of the metadata on features: their names in order, and role, unit and description of each."""
    info = {name: cs.info.get(name, FeatureInfo("choice")) for name in names}
    return {"features": list(names), "info": {name: asdict(one) for name, one in info.items()}}


def _scaled(inputs: Any, scaling: Scaling) -> Any:
    """(x - mean) / scale by one Normalization layer, or two for tiny scales, which a single one would clamp."""
    coarse = np.maximum(scaling.scale, 1e-6)
    mean, variance = scaling.mean.tolist(), np.square(coarse).tolist()
    x = keras.layers.Normalization(mean=mean, variance=variance, name="scaling")(inputs)
    if (coarse == scaling.scale).all():
        return x
    rest = np.square(scaling.scale / coarse).tolist()
    return keras.layers.Normalization(mean=[0.0] * len(rest), variance=rest, name="scaling_of_small")(x)


@contextmanager
def _numpy_2_4() -> Iterator[None]:
    """Keras copies TensorFlow variables by a call that NumPy has deprecated (`__array__` without copy)."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "__array__ implementation doesn't accept a copy", DeprecationWarning)
        yield
