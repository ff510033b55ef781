"""A network and the names of its features into a model of log-odds; the model to and from a plain `.keras` file."""

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
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, get_args

import keras
import numpy as np

from mimic import __version__
from mimic.network import Scaling, build_network, check_finite, fit_scaling, individual_numbers
from mimic.probability import grouped_log_softmax
from mimic.scaling import check_logarithms
from mimic.schema import ChoiceSets, Columns, FeatureInfo
from mimic.spans import blocks

__all__ = [
    "BLOCK_ROWS",
    "Combination",
    "LogOddsModel",
    "Scaling",
    "build_network",
    "check_finite",
    "describe_features",
    "fit_scaling",
    "individual_numbers",
    "load_model",
    "save_model",
    "zero_model",
]

# How an ensemble becomes one model: the mean of its members' log-odds, or of their probabilities.
Combination = Literal["mean_log_odds", "mean_probability"]

# Rows evaluated at a time: 1.5 MB for a layer of 24 units. Blocks of 262,144 rows took 3 times as long on one
# core, lost in fetching fresh pages of memory for every layer.
BLOCK_ROWS = 16_384
METADATA_MEMBER = "mimic.json"
_SHARED_ID = re.compile(r'("shared_object_id": )(\d+)')


@dataclass(frozen=True, eq=False)
class LogOddsModel:
    """A network with the names of its features.

    Parameters
    ----------
    network
        Maps (row, feature) in physical units to (row, 1), or to (row, member) for an ensemble whose probabilities
        are averaged; None for the model without features. With an embedding of individuals it takes
        (row, feature + 1), see `mimic.network.build_network`.
    features
        Names, in the order in which the network takes them.
    metadata
        What is saved with it in `mimic.json`: roles and units of the features, training options, ... Two entries
        decide about the log-odds: `individuals`, the names that the embedding knows by the numbers 1, 2, ...; and
        `combine`, "mean_probability" where the network has several outputs.

    Raises
    ------
    ValueError
        If the network takes or gives another number of columns than its features and metadata say.
    """

    network: keras.Model | None
    features: tuple[str, ...]
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "features", tuple(self.features))
        if (self.network is None) != (not self.features):
            raise ValueError("a model has a network exactly where it has features.")
        if self.network is not None:
            self._check_inputs(self.network.input_shape)
            self._check_outputs(self.network.output_shape)

    @property
    def individuals(self) -> tuple[str, ...]:
        """The individuals that the network has an embedding of, by number from 1; empty without an embedding."""
        return tuple(self.metadata.get("individuals") or ())

    @property
    def averages_probability(self) -> bool:
        """Whether the network gives the log-odds of several members, whose probabilities are averaged."""
        return self.metadata.get("combine") == "mean_probability"

    def log_odds(self, cs: ChoiceSets) -> np.ndarray:
        """Log-odds of every choice: (row,), float64, nats. Dropout is off.

        Of an ensemble that averages probabilities: ln of the mean over members of p(choice) in its choice set. Give
        it whole choice sets, since the members' probabilities in a part of them are other ones; choice groups are
        for `mimic.evaluation`, which renormalizes the mean.

        Raises
        ------
        ValueError
            If a feature of the model is missing in `cs`, holds NaN or infinity, or values without the logarithm by
            which the network scales it.
        """
        if isinstance(cs.features, Columns) and self.network is not None:
            # gathered block by block, and not a whole column of every feature
            parts = [self.log_odds(cs.block(first, last, self.features)) for first, last in blocks(cs.n_decisions)]
            return np.concatenate([np.zeros(0), *parts])
        check_finite(cs, self.features)
        for part in (self.metadata, *self.metadata.get("members", ())):
            check_logarithms(cs.features, {name: one["kind"] for name, one in part.get("scaling", {}).items()})
        result = np.zeros(cs.n_rows)
        if self.network is None:
            return result
        columns = [cs.features[name] for name in self.features]
        if self.individuals:
            columns.append(individual_numbers(cs, self.individuals))
        for start, stop, offsets in _blocks(cs, whole_decisions=self.averages_probability):
            block = np.column_stack([c[start:stop] for c in columns])
            values = keras.ops.convert_to_numpy(self.network(block, training=False))
            result[start:stop] = _mean_log_probability(values, offsets) if self.averages_probability else values[:, 0]
        return result

    def _check_inputs(self, shape: tuple[int | None, ...]) -> None:
        n_inputs = len(self.features) + bool(self.individuals)
        if shape != (None, n_inputs):
            number = " and the number of the individual" if self.individuals else ""
            raise ValueError(
                f"the network must take (row, feature) with {len(self.features)} features "
                f"({', '.join(self.features)}){number}; it takes {shape}."
            )

    def _check_outputs(self, shape: tuple[int | None, ...]) -> None:
        how = self.metadata.get("combine")
        if how is not None and how not in get_args(Combination):
            raise ValueError(f"combine must be {' or '.join(get_args(Combination))}; got {how!r}.")
        if len(shape) != 2 or not shape[1] or (shape[1] > 1 and not self.averages_probability):
            raise ValueError(
                "the network must give log-odds (row, 1), or (row, member) with combine: mean_probability in its "
                f"metadata; it gives {shape}."
            )


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
        temporary = Path(folder) / "network.keras"
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


def _blocks(cs: ChoiceSets, *, whole_decisions: bool) -> Iterator[tuple[int, int, np.ndarray]]:
    """First and last row + 1 of blocks of about `BLOCK_ROWS` rows, and the offsets of the block's whole decisions."""
    if not whole_decisions:
        for start in range(0, cs.n_rows, BLOCK_ROWS):
            yield start, min(start + BLOCK_ROWS, cs.n_rows), cs.offsets[:0]
        return
    cuts = np.searchsorted(cs.offsets, np.arange(0, cs.n_rows, BLOCK_ROWS))
    for first, last in pairwise(np.unique([*cuts, cs.n_decisions])):
        start, stop = int(cs.offsets[first]), int(cs.offsets[last])
        yield start, stop, cs.offsets[first : last + 1] - start


def _mean_log_probability(log_odds: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """ln of the mean over members of p, without leaving logarithms, where p may underflow: (row, member) -> (row,)."""
    log_p = np.column_stack([grouped_log_softmax(one, offsets) for one in log_odds.T])
    return np.logaddexp.reduce(log_p, axis=1) - np.log(log_p.shape[1])


@contextmanager
def _numpy_2_4() -> Iterator[None]:
    """Keras copies TensorFlow variables by a call that NumPy has deprecated (`__array__` without copy)."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "__array__ implementation doesn't accept a copy", DeprecationWarning)
        yield
