"""Tables of architectures: every layer with its size, its parameters as Keras counts them, and what feeds it."""

from __future__ import annotations

import io
from typing import Any

import keras
import numpy as np
import pandas as pd
import pytest

from mimic.architecture import COLUMNS, INDIVIDUAL_NUMBER, HiddenLayer, architecture_table, outline_of
from mimic.ensemble import combine
from mimic.model import LogOddsModel, zero_model
from mimic.network import build_network
from mimic.scaling import Scaling

NAMES = ("distance_km", "stay", "sst")


def make_model(*, kinds: tuple[Any, ...] = (), scale: float = 1.0, **options: Any) -> LogOddsModel:
    scaling = Scaling(NAMES, np.zeros(3), np.full(3, scale), kinds)
    individuals = [f"a{k}" for k in range(options.get("n_individuals", 0))]
    metadata = {"info": {"distance_km": {"unit": "km"}}, "scaling": scaling.as_mapping(), "individuals": individuals}
    return LogOddsModel(build_network(scaling, **options), NAMES, metadata)


def layer_of(table: pd.DataFrame, name: str, member: str = "") -> dict[str, Any]:
    (row,) = table[(table["name"] == name) & (table["member"] == member)].to_dict(orient="records")
    return row


def test_three_features_and_two_hidden_layers_are_worked_out_by_hand() -> None:
    table = architecture_table(make_model(units=(4, 2), activation="tanh", dropout=0.25))
    assert list(table.columns) == list(COLUMNS)
    assert table["name"].tolist() == [
        *NAMES,
        *("features", "scaling", "hidden_1", "dropout_1", "hidden_2", "dropout_2", "log_odds"),
    ]
    assert table["role"].tolist() == ["feature"] * 3 + ["input", "scaling"] + ["hidden"] * 4 + ["output"]
    # 3 x 4 weights and 4 biases, 4 x 2 and 2, 2 x 1 and no bias
    assert table["n_parameters"].tolist() == [0] * 5 + [16, 0, 10, 0, 2]
    assert table["n_inputs"].tolist() == [0, 0, 0, 3, 3, 3, 4, 4, 2, 2]
    assert table["n_units"].tolist() == [1, 1, 1, 3, 3, 4, 4, 2, 2, 1]
    assert table["fed_by"].tolist()[3:] == [
        *("distance_km, stay, sst", "features", "scaling", "hidden_1", "dropout_1", "hidden_2", "dropout_2"),
    ]
    assert layer_of(table, "hidden_2")["activation"] == "tanh"
    assert layer_of(table, "log_odds")["activation"] == "linear"
    assert layer_of(table, "dropout_1")["rate"] == 0.25
    assert np.isnan(layer_of(table, "hidden_1")["rate"])
    assert table["unit"].tolist()[:3] == ["km", "", ""]
    assert table["scaling"].tolist()[:3] == ["zscore"] * 3


def test_linear_skip_bypasses_the_hidden_layers() -> None:
    table = architecture_table(make_model(units=(4,), linear=np.array([1.0, 0.0, 2.0])))
    assert layer_of(table, "linear") | {"rate": 0} == {
        **{"name": "linear", "member": "", "role": "skip", "kind": "Dense", "n_inputs": 3, "n_units": 1},
        **{"activation": "linear", "rate": 0, "n_parameters": 3, "fed_by": "linear_features", "unit": ""},
        "scaling": "",
    }
    assert layer_of(table, "linear_features")["role"] == "skip"
    assert layer_of(table, "linear_features")["fed_by"] == "scaling"
    last = table.iloc[-1]
    assert (last["role"], last["kind"], last["n_inputs"], last["n_units"]) == ("output", "Add", 2, 1)
    assert set(last["fed_by"].split(", ")) == {"linear", "log_odds"}


def test_embedding_feeds_the_first_hidden_layer_beside_the_scaled_features() -> None:
    table = architecture_table(make_model(units=(4,), n_individuals=5, embedding_size=2))
    assert table.loc[table["role"] == "feature", "name"].tolist() == [*NAMES, INDIVIDUAL_NUMBER]
    assert layer_of(table, "embedding")["n_parameters"] == 12  # two numbers for each of five and the population
    assert layer_of(table, "with_embedding")["n_units"] == 5
    assert layer_of(table, "hidden_1")["n_parameters"] == 5 * 4 + 4
    assert set(table.loc[table["role"] == "embedding", "kind"]) == {
        *("Reshape", "Cropping1D", "Embedding", "Concatenate"),
    }
    assert table.loc[table["name"].str.startswith("raw"), "role"].tolist() == ["input"] * 3


def test_logarithms_and_tiny_scales_are_part_of_the_scaling() -> None:
    table = architecture_table(make_model(units=(2,), kinds=("log", "zscore", "log1p"), scale=1e-9))
    scaling = table.loc[table["role"] == "scaling", "name"].tolist()
    assert sorted(scaling) == sorted(
        [f"{kind}{part}" for kind in ("log", "log1p") for part in ("", "_columns", "_others", "_taken")]
        + ["scaling", "scaling_of_small"]
    )
    assert set(table["role"]) == {"feature", "input", "scaling", "hidden", "output"}
    assert table["scaling"].tolist()[:3] == ["log", "zscore", "log1p"]


MODELS: dict[str, dict[str, Any]] = {
    "plain": {"units": (24, 24, 24)},
    "linear only": {"units": ()},
    "linear skip": {"units": (8, 3), "linear": np.ones(3), "dropout": 0.1},
    "embedding": {"units": (8,), "n_individuals": 4, "embedding_size": 3, "linear": np.array([1.0, 0, 0])},
    "logarithm": {"units": (5,), "kinds": ("log1p", "robust", "none")},
}


@pytest.mark.parametrize("name", MODELS)
def test_parameters_add_up_to_those_that_keras_counts(name: str) -> None:
    model = make_model(**MODELS[name])
    assert model.network is not None
    table = architecture_table(model)
    assert table["n_parameters"].sum() == model.network.count_params() > 0
    assert architecture_table(model.network)["n_parameters"].tolist() == table["n_parameters"].tolist()
    fed = {one for text in table["fed_by"] for one in text.split(", ") if one}
    assert fed == set(table["name"]) - {table["name"].iloc[-1]}  # all but the last feed something


@pytest.mark.parametrize("how", ["mean_probability", "mean_log_odds"])
@pytest.mark.parametrize("embedding_size", [0, 2])
def test_members_of_an_ensemble_are_listed_with_all_their_parameters(how: Any, embedding_size: int) -> None:
    options = {"n_individuals": 2, "embedding_size": embedding_size} if embedding_size else {}
    members = [make_model(units=(4,), seed=seed, **options) for seed in range(3)]
    if embedding_size:  # numbered otherwise, so that the ensemble has a table of numbers for it
        changed = {**members[1].metadata, "individuals": ["b", "a0"]}
        members[1] = LogOddsModel(members[1].network, NAMES, changed)
    ensemble = combine(members, how)
    assert ensemble.network is not None
    table = architecture_table(ensemble)
    assert table["n_parameters"].sum() == ensemble.network.count_params()
    assert list(dict.fromkeys(table["member"])) == ["", "member_1", "member_2", "member_3"]
    assert layer_of(table, "hidden_1", "member_2")["n_parameters"] == (3 + embedding_size) * 4 + 4
    assert layer_of(table, "log_odds", "member_3")["fed_by"] == "hidden_1"
    assert table.iloc[-1]["fed_by"] == "member_1, member_2, member_3"
    assert table.loc[(table["member"] == "") & (table["role"] == "hidden")].empty
    outline = outline_of(table)
    assert outline.n_members == 3
    assert outline.mean_of == {"mean_probability": "probabilities", "mean_log_odds": "log-odds"}[how]
    assert outline.total == ensemble.network.count_params()


def test_networks_of_others_have_roles_by_the_class_of_their_layers() -> None:
    inputs = keras.Input((2,), name="x")
    x = keras.layers.Normalization(mean=0.0, variance=1.0, name="standard")(inputs)
    x = keras.layers.Dense(3, activation=keras.activations.gelu, name="wide")(x)
    x = keras.layers.LeakyReLU(name="leaky")(x)
    network = keras.Model(inputs, keras.layers.Dense(1, name="score")(x))
    table = architecture_table(network)
    assert dict(zip(table["name"], table["role"], strict=True)) == {
        **{"feature_1": "feature", "feature_2": "feature", "x": "input", "standard": "scaling"},
        **{"wide": "hidden", "leaky": "hidden", "score": "output"},
    }
    assert layer_of(table, "wide")["activation"] == "gelu"
    outline = outline_of(table)
    assert [(one.name, one.activation) for one in outline.hidden] == [("wide", "gelu"), ("leaky", "LeakyReLU")]
    assert outline.scaling == ""  # there, but of unknown kind


def test_outline_says_what_is_drawn_also_when_the_table_comes_from_a_file() -> None:
    model = make_model(units=(4, 2), dropout=0.25, kinds=("log1p", "zscore", "zscore"), linear=np.ones(3))
    table = architecture_table(model)
    outline = outline_of(table)
    assert outline.features == ("distance_km [km]", "stay", "sst")
    assert outline.scaling == "1 log1p\n2 zscore"
    assert outline.hidden == (
        HiddenLayer("hidden_1", 4, "relu", 0.25, 16),
        HiddenLayer("hidden_2", 2, "relu", 0.25, 10),
    )
    roles = {role: n for role, n in outline.n_parameters.items() if n}
    assert roles == {"hidden": 26, "skip": 3, "output": 2}
    assert (outline.total, outline.n_members, outline.mean_of, outline.embedding) == (31, 0, "", 0)
    read = pd.read_csv(io.StringIO(table.to_csv(index=False)))
    assert outline_of(read) == outline
    embedded = make_model(units=(4,), n_individuals=5, embedding_size=2)
    assert outline_of(architecture_table(embedded)).embedding == 2


def test_what_has_no_layers_is_refused() -> None:
    with pytest.raises(ValueError, match="the model without features has no network"):
        architecture_table(zero_model())
    with pytest.raises(ValueError, match=r"expected a functional network of Keras .* got Sequential"):
        architecture_table(keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)]))
    table = architecture_table(make_model(units=(2,)))
    with pytest.raises(ValueError, match="expected the features and layers of a network; got none"):
        outline_of(table[table["role"] == "feature"])
    with pytest.raises(ValueError, match="architecture: expected the columns role, fed_by; got name"):
        outline_of(table.drop(columns=["role", "fed_by"]))


def test_members_of_different_architectures_have_no_common_outline() -> None:
    ensemble = combine([make_model(units=(4,)), make_model(units=(5,))], "mean_probability")
    with pytest.raises(ValueError, match="members of one architecture; member_1 and member_2 differ"):
        outline_of(architecture_table(ensemble))
