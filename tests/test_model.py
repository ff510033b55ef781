"""The network: scaling by hand, log-odds by hand, seeds, and the `.keras` file with and without mimic."""

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


def test_scaling_by_hand() -> None:
    scaling = fit_scaling(choice_sets(x=[1, 3, 1, 3], y=[0, 0, 0, 8], one=[7, 7, 7, 7]), ["y", "x", "one"])
    assert scaling.names == ("y", "x", "one")
    np.testing.assert_allclose(scaling.mean, [2, 2, 7])
    np.testing.assert_allclose(scaling.scale, [np.sqrt(12), 1, 1])  # a constant has scale 1


def test_scaling_of_a_large_and_of_a_nearly_constant_feature_is_exact() -> None:
    # UTM northings: in float32 sums their spread would drown. 0.1 in float32 is no exact number, yet constant.
    northing = np.float32([7_100_000, 7_100_010, 7_100_000, 7_100_010])
    scaling = fit_scaling(choice_sets(northing_m=northing, tenth=[0.1] * 4), ["northing_m", "tenth"])
    np.testing.assert_allclose(scaling.mean, [7_100_005, 0.1], rtol=1e-7)
    np.testing.assert_allclose(scaling.scale, [5, 1])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_not_finite_feature_is_an_error_that_names_it(bad: float) -> None:
    with pytest.raises(ValueError, match=r"got NaN or infinity in sst \(2 of 4 rows\)"):
        fit_scaling(choice_sets(x=[1, 2, 3, 4], sst=[bad, 1, bad, 1]), ["x", "sst"])


def test_errors_of_scaling_say_what_was_expected() -> None:
    cs = two_features()
    with pytest.raises(ValueError, match="unknown feature slope; known are distance_km, depth_m"):
        fit_scaling(cs, ["slope"])
    with pytest.raises(ValueError, match="expected training decisions to fit the scaling on; got none"):
        fit_scaling(cs.filter(np.zeros(2, dtype=bool)), ["depth_m"])
    with pytest.raises(ValueError, match="features must be distinct; got depth_m, depth_m"):
        fit_scaling(cs, ["depth_m", "depth_m"])
    with pytest.raises(ValueError, match=r"mean and scale must have shape \(feature,\) = \(2,\)"):
        Scaling(("a", "b"), np.zeros(2), np.ones(3))
    with pytest.raises(ValueError, match="feature b: the standard deviation must lie in"):
        Scaling(("a", "b"), np.zeros(2), np.array([1, 1e-20]))
    with pytest.raises(ValueError, match="means must be finite"):
        Scaling(("a",), np.array([np.nan]), np.ones(1))


def test_network_without_hidden_layers_is_linear_in_the_scaled_features() -> None:
    network = build_network(Scaling(("x", "y"), np.array([1.0, 2.0]), np.array([4.0, 0.5])), units=())
    network.get_layer("log_odds").set_weights([np.array([[2.0], [-3.0]])])
    # 2 (9 - 1) / 4 - 3 (1 - 2) / 0.5 = 4 + 6
    assert float(network(np.array([[9.0, 1.0]]))[0, 0]) == pytest.approx(10, rel=1e-6)
    assert network.count_params() - network.get_layer("scaling").count_params() == 2  # no bias: it would cancel


def test_network_with_a_hidden_layer_by_hand() -> None:
    network = build_network(Scaling(("x",), np.zeros(1), np.ones(1)), units=(2,))
    network.get_layer("hidden_1").set_weights([np.array([[1.0, -1.0]]), np.array([0.0, 1.0])])
    network.get_layer("log_odds").set_weights([np.array([[2.0], [10.0]])])
    # x = 3: relu(3), relu(-2) -> 6. x = -1: relu(-1), relu(2) -> 20.
    np.testing.assert_allclose(network(np.array([[3.0], [-1.0]])), [[6], [20]])


@pytest.mark.parametrize("scale", [3e-9, 2e-12, 1e-3, 1e6])
def test_scaling_layer_serves_features_of_any_unit(scale: float) -> None:
    # Net primary production in kg m-2 s-1 is of the order of 1e-9, which a Normalization layer alone would clamp.
    network = build_network(Scaling(("npp", "x"), np.array([10 * scale, 0.0]), np.array([scale, 1.0])), units=())
    network.get_layer("log_odds").set_weights([np.array([[1.0], [1.0]])])
    values = network(np.array([[12 * scale, 0.5]], dtype=np.float32))
    assert float(values[0, 0]) == pytest.approx(2.5, rel=1e-5)


def test_network_is_that_of_its_seed_whatever_was_built_before() -> None:
    scaling = Scaling(("x", "y"), np.zeros(2), np.ones(2))

    def weights(seed: int, dropout: float = 0.0) -> np.ndarray:
        network = build_network(scaling, units=(4, 4), seed=seed, dropout=dropout)
        return np.concatenate([w.ravel() for w in network.get_weights()])

    first = weights(3)
    keras.utils.set_random_seed(99)
    np.testing.assert_array_equal(first, weights(3))
    np.testing.assert_array_equal(first, weights(3, dropout=0.5))
    assert (first != weights(4)).any()


def test_layers_of_equal_shape_start_differently() -> None:
    network = build_network(Scaling(("x", "y"), np.zeros(2), np.ones(2)), units=(2, 2), seed=0)
    assert (network.get_layer("hidden_1").get_weights()[0] != network.get_layer("hidden_2").get_weights()[0]).any()


def test_dropout_acts_in_training_only() -> None:
    network = build_network(Scaling(("x",), np.zeros(1), np.ones(1)), units=(50,), dropout=0.5)
    x = np.ones((1, 1), dtype=np.float32)
    frozen = [float(network(x, training=False)[0, 0]) for _ in range(2)]
    moving = [float(network(x, training=True)[0, 0]) for _ in range(2)]
    assert frozen[0] == frozen[1]
    assert moving[0] != moving[1]


def test_network_without_features_is_an_error_that_leads_to_zero_model() -> None:
    with pytest.raises(ValueError, match=r"a model without features is zero_model\(\)"):
        build_network(Scaling((), np.zeros(0), np.zeros(0)))


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
