"""Networks of log-odds into tidy tables of their layers (sizes, parameters, what feeds what), and these into outlines."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from mimic.schema import require_columns

if TYPE_CHECKING:
    import keras

    from mimic.model import LogOddsModel

__all__ = ["COLUMNS", "INDIVIDUAL_NUMBER", "ROLES", "HiddenLayer", "Outline", "architecture_table", "outline_of"]

ROLES = ("feature", "input", "scaling", "embedding", "hidden", "skip", "output")
COLUMNS = (
    *("name", "member", "role", "kind", "n_inputs", "n_units", "activation", "rate", "n_parameters", "fed_by"),
    *("unit", "scaling"),
)

# The names that `mimic.network.build_network` and `mimic.ensemble.combine` give; the first that matches counts.
_NAMES = {
    "input": r"raw(_axis|_columns)?",
    "scaling": r"scaling.*|log(1p)?(_columns|_others|_taken)?",
    "embedding": r"individual(_axis|_columns)?|embedding|embedded|with_embedding|numbers?|inputs",
    "hidden": r"(hidden|dropout)_\d+",
    "skip": r"linear(_features)?",
    "output": r"log_odds|with_linear|mean_log_odds|log_odds_of_members",
}
# Roles of layers with other names, by their class.
_KINDS = {"InputLayer": "input", "Normalization": "scaling", "Rescaling": "scaling", "Embedding": "embedding"}
_OF_MEMBER = re.compile(r"member_\d+_")  # before the names of layers that an ensemble has for one member
INDIVIDUAL_NUMBER = "number of the individual"
_DENSE = "Dense"


@dataclass(frozen=True)
class HiddenLayer:
    """A hidden layer, with the rate of the dropout after it (NaN: none)."""

    name: str
    n_units: int
    activation: str
    rate: float
    n_parameters: int


@dataclass(frozen=True)
class Outline:
    """What a drawing shows of one network, or of one of the equal members of an ensemble.

    Parameters
    ----------
    features
        Names, with units of measurement in brackets.
    scaling
        Its kinds ("zscore"; counted, a line each, where there are several; empty if unknown), or None without.
    embedding
        Numbers learned for an individual.
    n_parameters
        Role -> parameters.
    total
        Parameters of all members together.
    n_members, mean_of
        0 and empty where it is no ensemble; else what the members become one by, "log-odds" or "probabilities".
    """

    features: tuple[str, ...]
    scaling: str | None
    embedding: int
    hidden: tuple[HiddenLayer, ...]
    n_parameters: dict[str, int]
    total: int
    n_members: int
    mean_of: str


def architecture_table(network: LogOddsModel | keras.Model) -> pd.DataFrame:
    """One row a feature, then one a layer, in the order of the computation.

    Parameters
    ----------
    network
        A model, whose features have names and, where it knows them, units; or a functional network of Keras.

    Returns
    -------
    name; member, of an ensemble ("member_1"; empty for what its members share); role, one of `ROLES`; kind, the
    class of the layer, or "feature"; n_inputs, the numbers that it takes for one choice; n_units, those that it
    gives; activation ("linear" where there is none, empty where there can be none); rate, of a dropout, else NaN;
    n_parameters; fed_by, the names of what it takes, with ", " between them (within its member, whose first layer
    takes shared ones); and, of features, unit and scaling (its kind, where known), else empty.

    The parameters add up to those that Keras counts. A network with an embedding takes one feature more,
    `INDIVIDUAL_NUMBER`.

    Raises
    ------
    ValueError
        If the model has no features, and so no network, or the network is no graph of layers.

    Notes
    -----
    Roles follow the names that mimic gives to layers. In other networks they follow the class of the layer: the last
    layer is the output, a Normalization, Rescaling or Embedding what it is, and all else is hidden.

    Example
    -------
    >>> from mimic.network import build_network
    >>> from mimic.scaling import Scaling
    >>> scaling = Scaling(("distance_km", "stay"), np.zeros(2), np.ones(2))
    >>> table = architecture_table(build_network(scaling, units=(3,)))
    >>> columns = ["name", "role", "n_inputs", "n_units", "n_parameters", "fed_by"]
    >>> print(table.loc[table["role"] != "feature", columns].to_string(index=False))
        name    role  n_inputs  n_units  n_parameters               fed_by
    features   input         2        2             0 feature_1, feature_2
     scaling scaling         2        2             0             features
    hidden_1  hidden         2        3             9              scaling
    log_odds  output         3        1             3             hidden_1
    """
    keras_network, features, metadata = _parts(network)
    inputs = keras_network.operations[0]
    rows = _features(features, metadata)
    if keras_network.input_shape[1] > len(features):
        rows.append(_row(INDIVIDUAL_NUMBER, "feature", "feature", n_units=1))
    own = {row["name"]: 1 for row in rows}
    rows += _layers(keras_network, "", own, {inputs.name: list(own)})
    return pd.DataFrame(rows, columns=list(COLUMNS))


def outline_of(table: pd.DataFrame) -> Outline:
    """What a drawing shows of the table of `architecture_table`.

    Raises
    ------
    ValueError
        If a column is missing, the table has no features or no layers, or the members of an ensemble differ.
    """
    require_columns([str(name) for name in table], COLUMNS, where="architecture")
    # Empty text comes back from a file as NaN.
    texts = {name: table[name].astype(object) for name in ("member", "activation", "unit", "scaling")}
    table = table.assign(**{name: column.where(column.notna(), "") for name, column in texts.items()})
    features = table[table["role"] == "feature"]
    layers = table[table["role"] != "feature"]
    if layers.empty or features.empty:
        raise ValueError(
            "expected the features and layers of a network; got none. architecture_table makes such a table."
        )
    members = [own for name, own in layers.groupby("member", sort=False) if name]
    _check_equal(members)
    one = members[0] if members else layers
    last = str(layers["kind"].iloc[-1])
    named = features[features["name"] != INDIVIDUAL_NUMBER]
    kinds = Counter(kind for kind in named["scaling"] if kind)
    told = ", ".join(kinds) if len(kinds) < 2 else "\n".join(f"{n} {kind}" for kind, n in kinds.items())
    embedding = one.loc[one["kind"] == "Embedding", "n_units"]
    return Outline(
        features=tuple(_feature(name, unit) for name, unit in zip(named["name"], named["unit"], strict=True)),
        scaling=told if (one["role"] == "scaling").any() else None,
        embedding=int(embedding.iloc[0]) if len(embedding) else 0,
        hidden=_hidden_layers(one[one["role"] == "hidden"]),
        n_parameters={str(role): int(n) for role, n in one.groupby("role")["n_parameters"].sum().items()},
        total=int(table["n_parameters"].sum()),
        n_members=len(members),
        mean_of="" if not members else "log-odds" if last == "Average" else "probabilities",
    )


def _parts(network: LogOddsModel | keras.Model) -> tuple[Any, Sequence[str], Mapping[str, Any]]:
    """The Keras network, the names of its features and what is known of them."""
    if hasattr(network, "features") and hasattr(network, "metadata"):
        model, features, metadata = network.network, network.features, network.metadata
        if model is None:
            raise ValueError("the model without features has no network: all its log-odds are zero.")
    else:
        model, metadata = network, {}
        shape = getattr(model, "input_shape", None)
        features = [f"feature_{k + 1}" for k in range(shape[1])] if isinstance(shape, tuple) and len(shape) == 2 else []
    if not hasattr(model, "operations") or not features:
        raise ValueError(
            "expected a functional network of Keras that takes (row, feature), as mimic.network.build_network makes; "
            f"got {type(model).__name__}."
        )
    return model, features, metadata


def _features(names: Sequence[str], metadata: Mapping[str, Any]) -> list[dict[str, Any]]:
    info = metadata.get("info", {})
    kinds = [part.get("scaling", {}) for part in (metadata, *metadata.get("members", ()))]
    scalings = {name: str(one[name]["kind"]) for one in reversed(kinds) for name in one}
    return [
        _row(name, "feature", "feature", n_units=1, unit=info.get(name, {}).get("unit", ""), scaling=scalings.get(name))
        for name in names
    ]


def _layers(network: Any, member: str, sizes: dict[str, int], fed: Mapping[str, list[str]]) -> list[dict[str, Any]]:
    """The layers of a network, those of networks within it in their place.

    Parameters
    ----------
    member
        Of the network within an ensemble.
    sizes
        Name -> numbers for one choice, of all that was met before; is added to.
    fed
        Input layer -> what it takes.
    """
    configurations = {one["config"]["name"]: one for one in network.get_config()["layers"]}
    last = {tensor.name: name for tensor, name in zip(network.outputs, network.output_names, strict=True)}.values()
    rows = []
    for operation in network.operations:
        configuration = configurations[operation.name]
        names = fed.get(operation.name) or list(dict.fromkeys(_sources(configuration["inbound_nodes"])))
        if hasattr(operation, "operations"):
            inner = operation.operations[0].name
            own = dict(sizes)  # names within a member are its own
            rows += _layers(operation, operation.name, own, {inner: names})
            sizes[operation.name] = own[operation.output_names[0]]
            continue
        n_units = prod(operation.output.shape[1:])
        sizes[operation.name] = n_units
        kind, options = str(configuration["class_name"]), configuration["config"]
        row = _row(
            operation.name,
            _role(operation.name, kind, is_last=operation.name in last),
            kind,
            member=member,
            n_inputs=sum(sizes[name] for name in names),
            n_units=n_units,
            activation=_activation(kind, options.get("activation")),
            rate=float(options.get("rate", np.nan)),
            n_parameters=operation.count_params() if hasattr(operation, "count_params") else 0,
            fed_by=", ".join(names),
        )
        rows.append(row)
    return rows


def _row(name: str, role: str, kind: str, **known: Any) -> dict[str, Any]:
    empty = {"member": "", "n_inputs": 0, "activation": "", "rate": np.nan, "n_parameters": 0, "fed_by": "", "unit": ""}
    given = {key: value for key, value in known.items() if value is not None}
    return {"name": name, "role": role, "kind": kind, **empty, "scaling": "", **given}


def _sources(node: Any) -> list[str]:
    """The names of the layers that the tensors in the description of a node come from."""
    if isinstance(node, Mapping):
        if node.get("class_name") == "__keras_tensor__":
            return [str(node["config"]["keras_history"][0])]
        return [name for value in node.values() for name in _sources(value)]
    return [name for value in node for name in _sources(value)] if isinstance(node, list | tuple) else []


def _role(name: str, kind: str, *, is_last: bool) -> str:
    own = _OF_MEMBER.sub("", name, count=1)
    for role, pattern in _NAMES.items():
        if re.fullmatch(pattern, own):
            return role
    return "output" if is_last else _KINDS.get(kind, "hidden")


def _activation(kind: str, given: Any) -> str:
    if isinstance(given, str):
        return given
    if isinstance(given, Mapping):  # one of Keras' own as an object, or one of the user
        return str(given.get("config", {}).get("name") or given.get("class_name", ""))
    return "linear" if kind == _DENSE else ""


def _check_equal(members: Sequence[pd.DataFrame]) -> None:
    if not members:
        return
    shapes = ["kind", "n_inputs", "n_units", "activation"]
    for own in members[1:]:
        if own[shapes].to_numpy().tolist() != members[0][shapes].to_numpy().tolist():
            raise ValueError(
                f"one drawing shows members of one architecture; {members[0]['member'].iloc[0]} and "
                f"{own['member'].iloc[0]} differ. Draw the members one by one."
            )


def _hidden_layers(rows: pd.DataFrame) -> tuple[HiddenLayer, ...]:
    """Hidden layers in order, each with the dropout after it."""
    found: list[HiddenLayer] = []
    for row in rows.to_dict(orient="records"):
        if row["kind"] == "Dropout" and found:
            found[-1] = replace(found[-1], rate=float(row["rate"]))
        else:
            does = str(row["activation"] or row["kind"])
            found.append(HiddenLayer(str(row["name"]), int(row["n_units"]), does, np.nan, int(row["n_parameters"])))
    return tuple(found)


def _feature(name: str, unit: str) -> str:
    return f"{name} [{unit}]" if unit not in ("", "1") else name
