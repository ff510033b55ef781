"""Scaling of features: each kind by hand, in the network's own layers, in files, and fitted on the right rows."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import pytest
from conftest import Study

from mimic.conditional_logit import fit_conditional_logit
from mimic.configuration import load_configuration
from mimic.core import core_network, scale_rows
from mimic.ensemble import combine
from mimic.experiment import fit_models
from mimic.linear import linear_model
from mimic.model import LogOddsModel, load_model, save_model, zero_model
from mimic.network import build_network, check_scaling
from mimic.preparation import prepare
from mimic.prepared import prepare_training
from mimic.probability import selected_log_probability
from mimic.scaling import Scaling, fit_scaling, scaling_kinds
from mimic.schema import ChoiceSets, concatenate
from mimic.sections import TrainingConfig
from mimic.training import TrainingOptions, train

KINDS = ("zscore", "minmax", "robust", "log", "log1p", "none")
EACH = {f"x_{kind}": kind for kind in KINDS}


def choice_sets(**features: Any) -> ChoiceSets:
    """Two decisions of two choices each with the given features (row,)."""
    return ChoiceSets(
        decisions=pd.DataFrame({"individual": ["a", "b"], "decision": [1, 1]}),
        offsets=np.array([0, 2, 4]),
        choice=np.array([1, 2, 1, 2]),
        selected=np.array([0, 3]),
        features={name: np.asarray(values, dtype=np.float32) for name, values in features.items()},
    )


def simulate(n_individuals: int = 3, n_days: int = 40, seed: int = 0, prefix: str = "boar") -> ChoiceSets:
    """Five choices a decision of a lognormal distance, which deters by its logarithm, and a normal sst."""
    rng = np.random.default_rng(seed)
    n = n_individuals * n_days
    distance, sst = rng.lognormal(1, 1, size=5 * n), rng.normal(10, 3, size=5 * n)
    picked = (-np.log(distance) + 0.3 * sst + rng.gumbel(size=5 * n)).reshape(n, 5).argmax(axis=1)
    who = [f"{prefix} {i}" for i in range(n_individuals) for _ in range(n_days)]
    return ChoiceSets(
        pd.DataFrame({"individual": who, "decision": [*range(n_days)] * n_individuals}),
        np.arange(0, 5 * n + 1, 5),
        np.tile(np.arange(5), n),
        5 * np.arange(n) + picked,
        {"distance_km": distance, "sst": sst},
    )


def every_kind(n_rows: int = 100, seed: int = 0) -> ChoiceSets:
    """Positive features named after the kind they are to be scaled by."""
    rng = np.random.default_rng(seed)
    n = n_rows // 2
    return ChoiceSets(
        pd.DataFrame({"individual": [f"a{i % 3}" for i in range(n)], "decision": range(n)}),
        np.arange(0, n_rows + 1, 2),
        np.tile([1, 2], n),
        2 * np.arange(n) + rng.integers(0, 2, n),
        {name: rng.lognormal(1, 0.8, n_rows) for name in EACH},
    )


def small(**more: Any) -> TrainingOptions:
    return TrainingOptions(**{"epochs": 2, "units": (4,), "batch_decisions": 32, **more})


def values_of(network: keras.Model, rows: np.ndarray) -> np.ndarray:
    return keras.ops.convert_to_numpy(network(rows, training=False))


# ----------------------------------------------------------------------------- each kind by hand


@pytest.mark.parametrize(
    ("kind", "mean", "scale"),
    [
        ("zscore", 4.0, np.sqrt(9.5)),  # (9 + 4 + 0 + 25) / 4
        ("minmax", 1.0, 8.0),
        ("robust", 3.0, 3.5),  # quartiles at 0.75 and 2.25 of the order: 1.75 and 5.25
        ("none", 0.0, 1.0),
    ],
)
def test_what_is_subtracted_and_divided_by_hand(kind: str, mean: float, scale: float) -> None:
    scaling = fit_scaling(choice_sets(x=[1, 2, 4, 9]), ["x"], kinds=kind)
    assert scaling.mean == pytest.approx([mean])
    assert scaling.scale == pytest.approx([scale])
    assert scaling.kinds == (kind,)


def test_logarithms_by_hand() -> None:
    cs = choice_sets(x=[1, np.e**2, 1, np.e**2], y=[0, np.e**4 - 1, 0, np.e**4 - 1])
    scaling = fit_scaling(cs, ["x", "y"], kinds={"x": "log", "y": "log1p"})
    np.testing.assert_allclose(scaling.mean, [1, 2], rtol=1e-6)  # ln x is 0 and 2; ln(1 + y) is 0 and 4
    np.testing.assert_allclose(scaling.scale, [1, 2], rtol=1e-6)
    np.testing.assert_allclose(scaling.scaled(cs.matrix(["x", "y"])), [[-1, -1], [1, 1]] * 2, rtol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_constant_feature_is_zero_and_never_nan(kind: str) -> None:
    cs = choice_sets(x=[3, 3, 3, 3], y=[1, 2, 3, 4])
    scaling = fit_scaling(cs, ["x", "y"], kinds={"x": kind})
    network = build_network(scaling, units=())
    scaled = keras.ops.convert_to_numpy(scale_rows(network, cs.matrix(["x", "y"])))
    assert (scaled[:, 0] == (3 if kind == "none" else 0)).all()


def test_rare_indicator_of_equal_quartiles_is_divided_by_its_standard_deviation() -> None:
    cs = choice_sets(stay=[0, 0, 0, 0], x=[1, 2, 3, 4])
    cs = concatenate([cs, cs.with_context(decision=[2, 2]), cs.with_context(decision=[3, 3])])
    cs = cs.with_features({"stay": np.array([1.0] + 11 * [0.0])})
    scaling = fit_scaling(cs, ["stay"], kinds="robust")
    assert scaling.mean.tolist() == [0.0]
    assert scaling.scale == pytest.approx([np.sqrt(11) / 12])


def test_default_is_the_z_score_to_the_last_bit() -> None:
    cs = every_kind()
    plain, named = fit_scaling(cs, list(EACH)), fit_scaling(cs, list(EACH), kinds={"x_log": "zscore"})
    np.testing.assert_array_equal(plain.mean, [cs.features[n].mean(dtype=np.float64) for n in EACH])
    np.testing.assert_array_equal(plain.scale, [cs.features[n].std(dtype=np.float64) for n in EACH])
    np.testing.assert_array_equal(named.mean, plain.mean)
    names = [layer.name for layer in build_network(plain, units=(2,)).operations]
    assert names == ["features", "scaling", "hidden_1", "log_odds"]


def test_physical_is_the_inverse_of_scaled() -> None:
    cs = every_kind()
    scaling = fit_scaling(cs, list(EACH), kinds=EACH)
    matrix = cs.matrix(list(EACH))
    scaled = scaling.scaled(matrix)
    for number in range(len(EACH)):
        np.testing.assert_allclose(scaling.physical(number, scaled[:, number]), matrix[:, number], rtol=1e-6)


# ----------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        ("log", [0, 1, 2, 3], r"scaling log needs values above 0; 1 of 4 are not \(lowest 0\).*log1p"),
        ("log", [-2, -1, 2, 3], r"scaling log needs values above 0; 2 of 4 are not \(lowest -2\).*zscore, robust"),
        ("log1p", [-0.5, 1, 2, 3], r"scaling log1p needs values of 0 or more; 1 of 4 are not \(lowest -0.5\).*zscore"),
    ],
)
def test_logarithm_of_a_signed_feature_is_refused(kind: str, values: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=f"feature change: {message}"):
        fit_scaling(choice_sets(change=values), ["change"], kinds=kind)


def test_logarithm_is_refused_in_validation_and_in_prediction_too() -> None:
    cs, other = simulate(seed=0), simulate(seed=1, prefix="other")
    signed = other.with_features({"distance_km": -other.features["distance_km"]})
    options = small(scaling={"distance_km": "log"})
    with pytest.raises(ValueError, match="feature distance_km: scaling log needs values above 0"):
        train(cs, signed, ["distance_km", "sst"], options)
    model = train(cs, other, ["distance_km", "sst"], options).model
    for one in (model, combine([model, model], "mean_probability")):
        with pytest.raises(ValueError, match="feature distance_km: scaling log needs values above 0"):
            one.log_odds(signed)


def test_noise_that_makes_a_logarithm_impossible_is_refused() -> None:
    options = small(scaling={"distance_km": "log1p"}, augmentation={"copies": 3, "additive": {"distance_km": 50.0}})
    with pytest.raises(ValueError, match="feature distance_km: scaling log1p needs values of 0 or more"):
        train(simulate(), None, ["distance_km", "sst"], options)


def test_unknown_kinds_and_features_are_errors_that_name_the_known() -> None:
    with pytest.raises(ValueError, match="scaling must be one of zscore, minmax, .*; got 'z-score'"):
        TrainingOptions(scaling="z-score")
    with pytest.raises(ValueError, match="got 'ln'"):
        TrainingOptions(scaling={"default": "zscore", "sst": "ln"})
    with pytest.raises(ValueError, match="scaling: depth is no feature of the model; these are sst, stay"):
        scaling_kinds({"depth": "log"}, ["sst", "stay"])
    with pytest.raises(ValueError, match="and kinds as many"):
        Scaling(("x",), np.zeros(1), np.ones(1), ("none", "none"))
    assert TrainingConfig(scaling={"default": "robust", "stay": "none"}).scaling == {
        "default": "robust",
        "stay": "none",
    }
    with pytest.raises(ValueError, match="scaling"):
        TrainingConfig(scaling="standard")  # type: ignore[arg-type]


# ----------------------------------------------------------------------------- in the network


@pytest.mark.parametrize("embedding_size", [0, 2])
def test_network_scales_as_the_scaling_says(embedding_size: int) -> None:
    cs = every_kind()
    scaling = fit_scaling(cs, list(EACH), kinds=EACH)
    network = build_network(scaling, units=(8,), seed=1, n_individuals=3, embedding_size=embedding_size)
    matrix = cs.matrix(list(EACH))
    inputs = np.column_stack([matrix, np.ones(len(matrix), np.float32)]) if embedding_size else matrix
    kernel, bias = network.get_layer("hidden_1").get_weights()
    hidden = np.maximum(scaling.scaled(matrix) @ kernel[: len(EACH)] + bias, 0)
    expected = hidden @ network.get_layer("log_odds").get_weights()[0]
    np.testing.assert_allclose(values_of(network, inputs), expected, atol=2e-5)


@pytest.mark.parametrize("kinds", [*KINDS, EACH], ids=str)
def test_rows_scaled_once_are_those_of_the_networks_own_layers_to_the_last_bit(kinds: Any) -> None:
    cs = every_kind(2000)
    scaling = fit_scaling(cs, list(EACH), kinds=kinds)
    network = build_network(scaling, units=(8,), seed=1)
    matrix = cs.matrix(list(EACH))
    core = core_network(network)
    np.testing.assert_array_equal(values_of(core, scale_rows(network, matrix)), values_of(network, matrix))
    whole = keras.ops.convert_to_numpy(scale_rows(network, matrix))
    for start, stop in ((0, 1), (3, 10), (7, 1024)):
        part = keras.ops.convert_to_numpy(scale_rows(network, matrix[start:stop]))
        # TensorFlow takes logarithms by eights, and those left over by another routine.
        np.testing.assert_allclose(part, whole[start:stop], rtol=0, atol=2e-6 if scaling.logarithms else 0)


def test_logarithm_leaves_the_other_columns_to_the_last_bit() -> None:
    cs = every_kind()
    names = ["x_none", "x_log", "x_log1p"]
    scaling = Scaling(tuple(names), np.zeros(3), np.ones(3), ("none", "log", "log1p"))
    scaled = keras.ops.convert_to_numpy(scale_rows(build_network(scaling, units=()), cs.matrix(names)))
    np.testing.assert_array_equal(scaled[:, 0], cs.features["x_none"])
    np.testing.assert_allclose(scaled[:, 1], np.log(cs.features["x_log"]), rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(scaled[:, 2], np.log1p(cs.features["x_log1p"]), rtol=1e-6)


def test_kinds_are_part_of_what_is_kept_for_the_next_training() -> None:
    cs = simulate()
    one = prepare_training(cs, None, ["distance_km", "sst"], small())
    other = prepare_training(cs, None, ["distance_km", "sst"], small(scaling="robust"))
    assert one.scaling.kinds != other.scaling.kinds
    assert prepare_training(cs, None, ["distance_km", "sst"], small(scaling="zscore")) is one
    assert not np.array_equal(one.training.tensor, other.training.tensor)


@pytest.mark.parametrize("embedding_size", [0, 1])
@pytest.mark.parametrize("scaling", ["robust", "minmax", {"default": "none", "distance_km": "log"}], ids=str)
def test_trained_model_says_the_loss_that_training_saw(scaling: Any, embedding_size: int) -> None:
    cs, validation = simulate(), simulate(seed=1, prefix="other")
    options = small(scaling=scaling, embedding_size=embedding_size, loss="softmax", epochs=3)
    result = train(cs, validation, ["distance_km", "sst"], options)
    log_p = selected_log_probability(result.model.log_odds(validation), validation.offsets, validation.selected)
    expected = result.history.set_index("epoch").loc[result.best_epoch, "val_true_decision_loss"]
    assert -log_p.mean() == pytest.approx(expected, rel=1e-6)


# ----------------------------------------------------------------------------- the linear term


def test_linear_term_of_a_logarithm_starts_at_the_conditional_logit_of_the_logarithm() -> None:
    cs = simulate(4, 100)
    options = small(scaling={"distance_km": "log"}, linear_skip=True, epochs=1, learning_rate=1e-12)
    model = train(cs, None, ["distance_km", "sst"], options).model
    logged = cs.with_features({"log_distance": np.log(cs.features["distance_km"])})
    fit = fit_conditional_logit(logged, ["log_distance", "sst"], weighting="individual")
    difference = model.log_odds(cs) - fit.log_odds(logged)
    assert np.ptp(difference) < 1e-4  # equal up to a constant
    assert fit.coef == pytest.approx([-1, 0.3], abs=0.15)  # the truth


# ----------------------------------------------------------------------------- files


def test_file_loads_with_keras_alone_and_equal_models_are_equal_bytes(tmp_path: Path) -> None:
    cs = every_kind()
    names = list(EACH)
    scaling = fit_scaling(cs, names, kinds=EACH)
    for name in ("one", "two"):  # the second is built after other logarithms
        network = build_network(scaling, units=(4,), seed=3)
        metadata = {"scaling": scaling.as_mapping()}
        save_model(LogOddsModel(network, tuple(names), metadata), tmp_path / f"{name}.keras")
    assert (tmp_path / "one.keras").read_bytes() == (tmp_path / "two.keras").read_bytes()
    np.save(tmp_path / "rows.npy", cs.matrix(names))
    code = (
        "import sys, keras, numpy as np\n"
        "network = keras.saving.load_model('one.keras', safe_mode=True)\n"
        "np.save('out.npy', np.asarray(network(np.load('rows.npy'))))\n"
        "assert 'mimic' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(np.load(tmp_path / "out.npy")[:, 0], load_model(tmp_path / "one.keras").log_odds(cs))


def test_metadata_describe_the_scaling(tmp_path: Path) -> None:
    cs = simulate()
    model = train(cs, None, ["distance_km", "sst"], small(scaling={"distance_km": "log1p"})).model
    save_model(model, tmp_path / "m.keras")
    with zipfile.ZipFile(tmp_path / "m.keras") as archive:
        told = json.loads(archive.read("mimic.json"))
    assert told["scaling"]["distance_km"]["kind"] == "log1p"
    assert told["scaling"]["sst"]["kind"] == "zscore"
    assert told["scaling"]["sst"]["mean"] == cs.features["sst"].mean(dtype=np.float64)
    assert told["options"]["scaling"] == {"distance_km": "log1p"}


def test_members_of_different_scaling_combine(tmp_path: Path) -> None:
    cs = simulate()
    models = [train(cs, None, ["distance_km", "sst"], small(scaling=kind)).model for kind in ("log", "robust")]
    mixed = combine(models, "mean_log_odds")
    expected = (models[0].log_odds(cs) + models[1].log_odds(cs)) / 2
    np.testing.assert_allclose(mixed.log_odds(cs), expected, atol=1e-5)
    save_model(mixed, tmp_path / "mixed.keras")
    np.testing.assert_array_equal(load_model(tmp_path / "mixed.keras").log_odds(cs), mixed.log_odds(cs))


def test_grid_of_an_experiment_tries_scalings(study: Study) -> None:
    study.edit(
        "distance: {features: [distance_km, stay]}",
        "distance: {features: [distance_km, stay], grid: {scaling: [zscore, {default: robust, stay: none}]}}",
    )
    configuration = load_configuration(study.experiment)
    fit = fit_models(configuration, prepare(configuration))
    table = fit.members[fit.members["model"] == "distance"]
    assert table["scaling"].tolist() == ["zscore", "default:robust;stay:none"]


def test_experiment_whose_option_names_no_feature_is_refused_before_training(study: Study) -> None:
    study.edit("units: [4]", "scaling: {depth: log1p}, units: [4]")
    configuration = load_configuration(study.experiment)
    with pytest.raises(ValueError, match="model distance: scaling: depth is no feature of the model"):
        fit_models(configuration, prepare(configuration))


# ----------------------------------------------------------------------------- fitted on the right rows


@pytest.mark.parametrize("scaling", ["zscore", "minmax", {"sst": "robust", "distance_km": "log1p"}], ids=str)
def test_scaling_fitted_with_validation_rows_is_caught(scaling: Any, tmp_path: Path) -> None:
    cs, validation = simulate(), simulate(seed=1, prefix="other")
    validation = validation.with_features({"sst": validation.features["sst"] + 5})  # other waters
    honest = train(cs, validation, ["distance_km", "sst"], small(scaling=scaling, epochs=1)).model
    save_model(honest, tmp_path / "honest.keras")
    check_scaling(honest, cs)
    check_scaling(load_model(tmp_path / "honest.keras"), cs)
    everything = concatenate([cs, validation])
    planted = train(everything, validation, ["distance_km", "sst"], small(scaling=scaling, epochs=1)).model
    with pytest.raises(ValueError, match=r"fitted on other rows than those of these 120 decisions: .*sst \(mean"):
        check_scaling(planted, cs)
    check_scaling(planted, everything)


def test_one_decision_more_is_caught_and_another_order_is_not() -> None:
    cs = simulate()
    model = train(cs, None, ["distance_km", "sst"], small(epochs=1)).model
    check_scaling(model, concatenate([cs.filter(cs.individuals == name) for name in ("boar 2", "boar 0", "boar 1")]))
    with pytest.raises(ValueError, match="fitted on other rows than those of these 119 decisions"):
        check_scaling(model, cs.filter(np.arange(120) != 60))


def test_models_of_an_experiment_pass_the_check_on_their_training_split(study: Study) -> None:
    configuration = load_configuration(study.experiment)
    prepared = prepare(configuration)
    model = fit_models(configuration, prepared).models["environment"]
    check_scaling(model, prepared.choice_sets.split("train"))
    with pytest.raises(ValueError, match="fitted on other rows"):
        check_scaling(model, prepared.choice_sets)
    check_scaling(linear_model(prepared.choice_sets, ["distance_km", "stay"]), prepared.choice_sets)


def test_model_without_one_scaling_cannot_be_checked() -> None:
    cs = simulate()
    member = train(cs, None, ["distance_km", "sst"], small(epochs=1)).model
    for model in (zero_model(), combine([member, member], "mean_log_odds")):
        with pytest.raises(ValueError, match="expected a network with its own scaling"):
            check_scaling(model, cs)
