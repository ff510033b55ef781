"""Models: log-odds by features, individuals and members, and the `.keras` file with and without mimic."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest

from mimic import model as model_module
from mimic.model import (
    LogOddsModel,
    Scaling,
    build_network,
    describe_features,
    fit_scaling,
    load_model,
    save_model,
    zero_model,
)
from mimic.probability import grouped_log_softmax
from mimic.schema import ChoiceSets, FeatureInfo


def choice_sets(**features: object) -> ChoiceSets:
    """Two decisions of two choices each with the given features (row,)."""
    return ChoiceSets(
        decisions=pd.DataFrame({"individual": ["a", "b"], "decision": [1, 1]}),
        offsets=np.array([0, 2, 4]),
        choice=np.array([1, 2, 1, 2]),
        selected=np.array([0, 3]),
        features={name: np.asarray(values, dtype=np.float32) for name, values in features.items()},
        info={"distance_km": FeatureInfo("pair", "km")} if "distance_km" in features else {},
    )


def two_features() -> ChoiceSets:
    return choice_sets(distance_km=[0, 10, 20, 50], depth_m=[-100, -4000, -30, -2500])


def small_model(seed: int = 0) -> tuple[LogOddsModel, ChoiceSets]:
    cs = two_features()
    names = ["distance_km", "depth_m"]
    network = build_network(fit_scaling(cs, names), units=(5, 3), dropout=0.2, seed=seed)
    metadata = {**describe_features(cs, names), "options": {"seed": seed}}
    return LogOddsModel(network, tuple(names), metadata), cs


def test_zero_model_gives_zero_and_is_not_saved(tmp_path: Path) -> None:
    assert zero_model().log_odds(two_features()).tolist() == [0, 0, 0, 0]
    with pytest.raises(ValueError, match="has no network to save"):
        save_model(zero_model(), tmp_path / "none.keras")


def test_log_odds_are_float64_by_row_and_do_not_depend_on_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    model, cs = small_model()
    whole = model.log_odds(cs)
    assert whole.dtype == np.float64
    assert whole.shape == (4,)
    rows = cs.matrix(model.features)
    np.testing.assert_allclose(whole, keras.ops.convert_to_numpy(model.network(rows))[:, 0], rtol=1e-6)
    monkeypatch.setattr(model_module, "BLOCK_ROWS", 3)
    np.testing.assert_allclose(model.log_odds(cs), whole, rtol=1e-6)
    assert model.log_odds(cs.filter(np.zeros(2, dtype=bool))).shape == (0,)


def test_log_odds_find_features_by_name_not_by_order() -> None:
    model, cs = small_model()
    turned = choice_sets(other=[1, 1, 1, 1], depth_m=cs.features["depth_m"], distance_km=cs.features["distance_km"])
    np.testing.assert_array_equal(model.log_odds(turned), model.log_odds(cs))


def test_log_odds_of_missing_or_not_finite_features_are_an_error() -> None:
    model, _ = small_model()
    with pytest.raises(ValueError, match="unknown feature depth_m; known are distance_km"):
        model.log_odds(choice_sets(distance_km=[1, 2, 3, 4]))
    with pytest.raises(ValueError, match=r"NaN or infinity in depth_m \(1 of 4 rows\)"):
        model.log_odds(choice_sets(distance_km=[1, 2, 3, 4], depth_m=[1, 2, 3, np.nan]))


def test_model_whose_features_do_not_fit_its_network_is_an_error() -> None:
    model, _ = small_model()
    with pytest.raises(ValueError, match=r"must take \(row, feature\) with 1 features \(x\); it takes \(None, 2\)"):
        LogOddsModel(model.network, ("x",))
    with pytest.raises(ValueError, match="a network exactly where it has features"):
        LogOddsModel(None, ("x",))


def test_saved_model_comes_back_with_its_log_odds_and_metadata(tmp_path: Path) -> None:
    model, cs = small_model(seed=5)
    save_model(model, tmp_path / "model.keras")
    again = load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again.log_odds(cs), model.log_odds(cs))
    assert again.features == ("distance_km", "depth_m")
    assert again.metadata["info"]["distance_km"] == {"role": "pair", "unit": "km", "description": ""}
    assert again.metadata["options"] == {"seed": 5}
    assert [p.name for p in tmp_path.iterdir()] == ["model.keras"]  # nothing temporary is left


def test_network_is_saved_with_given_metadata(tmp_path: Path) -> None:
    model, cs = small_model()
    save_model(model.network, str(tmp_path / "m.keras"), metadata={"features": ["distance_km", "depth_m"], "note": 1})
    again = load_model(str(tmp_path / "m.keras"))
    np.testing.assert_array_equal(again.log_odds(cs), model.log_odds(cs))
    assert again.metadata["note"] == 1


def test_saving_over_a_model_replaces_it(tmp_path: Path) -> None:
    path = tmp_path / "m.keras"
    for seed in (1, 2):
        save_model(small_model(seed)[0], path)
    assert load_model(path).metadata["options"] == {"seed": 2}


def test_failed_save_leaves_the_older_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, _ = small_model()
    save_model(model, tmp_path / "m.keras")
    before = (tmp_path / "m.keras").read_bytes()

    def fail(*args: object, **options: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(zipfile.ZipFile, "writestr", fail)
    with pytest.raises(OSError, match="disk full"):
        save_model(model, tmp_path / "m.keras")
    assert (tmp_path / "m.keras").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["m.keras"]


def test_saved_model_loads_in_plain_keras_without_mimic(tmp_path: Path) -> None:
    # In an own folder, where mimic is not on the path, and with safe_mode: no code of ours in the file.
    model, cs = small_model(seed=7)
    save_model(model, tmp_path / "model.keras")
    code = (
        "import json, sys\n"
        "sys.modules['mimic'] = None\n"  # importing mimic now fails
        "import keras, numpy as np\n"
        "network = keras.saving.load_model('model.keras', safe_mode=True)\n"
        f"x = np.array({cs.matrix(model.features).tolist()}, dtype=np.float32)\n"
        "print(json.dumps(network.predict(x, verbose=0)[:, 0].tolist()))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(json.loads(done.stdout.splitlines()[-1]), model.log_odds(cs), rtol=1e-6)


def test_saving_errors_say_what_was_expected(tmp_path: Path) -> None:
    model, _ = small_model()
    with pytest.raises(ValueError, match=r"expected a path that ends in \.keras; got .*model\.h5"):
        save_model(model, tmp_path / "model.h5")
    with pytest.raises(FileNotFoundError, match=r"expected a folder to write m\.keras into"):
        save_model(model, tmp_path / "nowhere" / "m.keras")
    with pytest.raises(ValueError, match="metadata must be JSON-able"):
        save_model(model, tmp_path / "m.keras", metadata={"rng": object()})
    with pytest.raises(ValueError, match="metadata must be JSON-able"):
        save_model(model, tmp_path / "m.keras", metadata={"loss": np.nan})
    with pytest.raises(ValueError, match="a network exactly where it has features"):
        save_model(model.network, tmp_path / "m.keras")
    assert list(tmp_path.iterdir()) == []


def test_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"expected a \.keras file written by mimic; .* does not exist"):
        load_model(tmp_path / "model.keras")


def test_damaged_files_are_an_error(tmp_path: Path) -> None:
    path = tmp_path / "m.keras"
    save_model(small_model()[0], path)
    whole = path.read_bytes()
    for damaged in (b"", b"not a model", whole[: len(whole) // 2]):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"is not a \.keras file, or it is damaged"):
            load_model(path)
    position = whole.index(b"model.weights.h5") + 300  # within the weights
    path.write_bytes(whole[:position] + bytes([whole[position] ^ 255]) + whole[position + 1 :])
    with pytest.raises(ValueError, match=r"is damaged; .* \(member model.weights.h5\)"):
        load_model(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("mimic.json", json.dumps({"features": ["x"]}))
    with pytest.raises(ValueError, match=r"is not a \.keras file, or it is damaged"):
        load_model(path)


def test_file_of_plain_keras_is_an_error_that_tells_the_way(tmp_path: Path) -> None:
    network = keras.Sequential([keras.Input((2,)), keras.layers.Rescaling(1.0)])
    network.save(tmp_path / "plain.keras")
    with pytest.raises(ValueError, match=r"has no mimic\.json, so its features are unknown"):
        load_model(tmp_path / "plain.keras")


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (["x"], r"must take \(row, feature\) with 1 features \(x\); it takes \(None, 2\)"),
        ([], "must list the features of the network; got \\[\\]"),
        (None, "must list the features of the network; got None"),
    ],
)
def test_metadata_that_does_not_fit_the_network_is_an_error(
    tmp_path: Path, features: list[str] | None, message: str
) -> None:
    path = tmp_path / "m.keras"
    network = keras.Sequential([keras.Input((2,)), keras.layers.Rescaling(1.0)])
    network.save(path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("mimic.json", json.dumps({} if features is None else {"features": features}))
    with pytest.raises(ValueError, match=message):
        load_model(path)


def test_equal_models_are_equal_bytes(tmp_path: Path) -> None:
    scaling = Scaling(("a", "b"), np.array([1.0, 2.0]), np.array([3.0, 4.0]))
    network = build_network(scaling, units=(4,), seed=5)
    save_model(network, tmp_path / "one.keras", metadata={"features": ["a", "b"]})
    time.sleep(2.1)  # a zip file counts time in steps of two seconds
    again = build_network(scaling, units=(4,), seed=5)
    save_model(again, tmp_path / "two.keras", metadata={"features": ["a", "b"]})
    assert (tmp_path / "one.keras").read_bytes() == (tmp_path / "two.keras").read_bytes()
    config = zipfile.ZipFile(tmp_path / "one.keras").read("config.json").decode()
    ids = re.findall(r'"shared_object_id": (\d+)', config)
    assert ids  # Keras writes memory addresses, which another process has elsewhere
    assert {int(number) for number in ids} == set(range(len(set(ids))))


def model_of_boars(**metadata: object) -> LogOddsModel:
    """With an embedding of one number: relu(x + number of the individual), 10 for boar a and 20 for boar b."""
    scaling = Scaling(("x",), np.zeros(1), np.ones(1))
    network = build_network(scaling, units=(1,), n_individuals=2, embedding_size=1)
    network.get_layer("embedding").set_weights([np.array([[0.0], [10.0], [20.0]])])
    network.get_layer("hidden_1").set_weights([np.array([[1.0], [1.0]]), np.zeros(1)])
    network.get_layer("log_odds").set_weights([np.ones((1, 1))])
    return LogOddsModel(network, ("x",), {"individuals": ["boar a", "boar b"], **metadata})


def of_individuals(*names: str) -> ChoiceSets:
    """A decision of two choices, x = 1 and x = 2, for each individual."""
    n = len(names)
    decisions = pd.DataFrame({"individual": list(names), "decision": range(n)})
    return ChoiceSets(decisions, 2 * np.arange(n + 1), [1, 2] * n, 2 * np.arange(n), {"x": [1.0, 2.0] * n})


def test_embedding_is_that_of_the_individual_and_of_the_population_for_one_never_seen() -> None:
    values = model_of_boars().log_odds(of_individuals("boar b", "boar z", "boar a"))
    assert values.tolist() == [21, 22, 1, 2, 11, 12]


def test_individuals_are_found_by_name_after_saving(tmp_path: Path) -> None:
    cs = of_individuals("boar b", "boar z", "boar a")
    save_model(model_of_boars(), tmp_path / "boars.keras")
    again = load_model(tmp_path / "boars.keras")
    assert again.individuals == ("boar a", "boar b")
    assert again.log_odds(cs).tolist() == [21, 22, 1, 2, 11, 12]


def test_model_with_an_embedding_but_without_its_individuals_is_an_error() -> None:
    network = model_of_boars().network
    with pytest.raises(ValueError, match=r"must take \(row, feature\) with 1 features \(x\); it takes \(None, 2\)"):
        LogOddsModel(network, ("x",))
    with pytest.raises(ValueError, match=r"2 features \(x, y\) and the number of the individual; it takes \(None, 2\)"):
        LogOddsModel(network, ("x", "y"), {"individuals": ["boar a"]})
    with pytest.raises(ValueError, match="individuals must be distinct; got boar a more than once"):
        LogOddsModel(network, ("x",), {"individuals": ["boar a", "boar a"]}).log_odds(of_individuals("boar a"))


def two_outputs(first: float, second: float) -> keras.Model:
    """Log-odds first x and second x."""
    inputs = keras.Input((1,))
    layer = keras.layers.Dense(2, use_bias=False)
    network = keras.Model(inputs, layer(inputs))
    layer.set_weights([np.array([[first, second]])])
    return network


def test_mean_probability_by_hand() -> None:
    # x = 1, 2. Member 1: odds 1 : 3, p = 1/4, 3/4. Member 2: odds 1 : 1. Mean: 3/8, 5/8.
    model = LogOddsModel(two_outputs(np.log(3), 0), ("x",), {"combine": "mean_probability"})
    np.testing.assert_allclose(np.exp(model.log_odds(of_individuals("a", "b"))), [3 / 8, 5 / 8] * 2, rtol=1e-6)


def test_mean_probability_holds_where_probabilities_underflow() -> None:
    # p of x = 1 is exp(-2000) for member 1 and exp(-3000) for member 2: the mean is half the larger.
    model = LogOddsModel(two_outputs(2000, 3000), ("x",), {"combine": "mean_probability"})
    np.testing.assert_allclose(model.log_odds(of_individuals("a")), [-2000 - np.log(2), 0], rtol=1e-12)


def test_mean_probability_does_not_depend_on_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    offsets = np.concatenate([[0], np.cumsum(rng.integers(1, 9, size=30))])
    x = rng.normal(size=offsets[-1]).astype(np.float32)
    decisions = pd.DataFrame({"individual": "a", "decision": range(30)})
    cs = ChoiceSets(decisions, offsets, np.arange(len(x)), offsets[:-1], {"x": x})
    model = LogOddsModel(two_outputs(1, -2), ("x",), {"combine": "mean_probability"})
    whole = model.log_odds(cs)
    p = np.mean([np.exp(grouped_log_softmax(slope * x.astype(float), offsets)) for slope in (1, -2)], axis=0)
    np.testing.assert_allclose(np.exp(whole), p, rtol=1e-5)
    for block in (1, 3, 10):
        monkeypatch.setattr(model_module, "BLOCK_ROWS", block)
        np.testing.assert_allclose(model.log_odds(cs), whole, rtol=1e-6)
    assert model.log_odds(cs.filter(np.zeros(30, dtype=bool))).shape == (0,)


def test_network_of_several_outputs_needs_a_way_to_combine_them() -> None:
    with pytest.raises(ValueError, match=r"log-odds \(row, 1\), or \(row, member\) .*; it gives \(None, 2\)"):
        LogOddsModel(two_outputs(1, 2), ("x",))
    with pytest.raises(ValueError, match="combine must be mean_log_odds or mean_probability; got 'median'"):
        LogOddsModel(two_outputs(1, 2), ("x",), {"combine": "median"})
