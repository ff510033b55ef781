"""What an experiment file asks of a training is done, recorded, and changes the result; what it cannot have is refused."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import Study
from tiny import fit, write_experiment, write_table

from mimic.configuration import load_configuration
from mimic.experiment import fit_models
from mimic.members import Task, check_tasks, open_data, pack_state, train_member, unpack_state
from mimic.model import load_model
from mimic.preparation import prepare
from mimic.registry import Registry

Mimic = Callable[..., tuple[int, str, str]]

TEXT = """
training: {{epochs: {epochs}, units: [3], batch_decisions: 32, learning_rate: {rate}{more}}}
models: {{both: {{features: [depth, noise]}}}}
"""


def experiment(more: str = "", *, epochs: int = 3, rate: float = 0.1) -> str:
    return TEXT.format(more=f", {more}" if more else "", epochs=epochs, rate=rate)


@pytest.mark.parametrize(
    ("name", "value", "base"),
    [
        ("augmentation", "{copies: 2, multiplicative: {noise: 0.1}, additive: {depth: 0.2}}", {}),
        ("weights", '{selected_depth > 1: 3.0, individual == "a1": 0.5}', {}),
        ("labels", "use", {}),
        ("embedding_size", "2", {}),
        ("schedule", "{name: ExponentialDecay, decay_epochs: 1, decay_rate: 0.5}", {}),
        ("plateau", "{patience: 1, factor: 0.1}", {"epochs": 8, "rate": 0.5}),
        ("linear_skip", "true", {}),
        ("gradient_clip_norm", "0.01", {}),
        ("batch_contrasts", "50", {}),
        ("l2", "0.1", {}),
        ("dropout", "0.5", {}),
        ("activation", "tanh", {}),
        ("optimizer", "nadam", {}),
        ("optimizer_arguments", "{beta_1: 0.5}", {}),
        ("weight_decay", "0.5", {}),
        ("loss", "softmax", {}),
        ("patience", "1", {"epochs": 8, "rate": 0.5}),
    ],
)
def test_option_of_the_file_is_recorded_with_the_run_and_changes_it(
    tmp_path: Path, name: str, value: str, base: dict[str, Any]
) -> None:
    found, plain = (fit(tmp_path, experiment(more, **base)) for more in (f"{name}: {value}", ""))
    assert load_configuration(tmp_path / "tiny.yaml").training.model_dump()[name] != yaml.safe_load(value)
    registry = Registry(tmp_path / "registry")
    record = registry.find_run(found[1].runs["both"][0])
    assert record is not None
    kept, given = record.configuration["training"][name], yaml.safe_load(value)
    # sections are recorded with their defaults written out
    assert {k: kept[k] for k in given} == given if isinstance(given, dict) else kept == given
    assert found[1].runs != plain[1].runs
    assert not found[1].history.equals(plain[1].history)
    loaded = load_model(registry.file(record.files["model"]))
    np.testing.assert_array_equal(loaded.log_odds(found[0].choice_sets), found[1].log_odds["both"])


def test_sampled_contrasts_drawn_anew_differ_from_those_drawn_once(tmp_path: Path) -> None:
    once = fit(tmp_path, experiment("loss: contrast_sampled"))[1]
    anew = fit(tmp_path, experiment("loss: contrast_sampled, redraw: true"))[1]
    assert once.history["loss"][0] == anew.history["loss"][0]  # the first draw is the same
    assert once.history["loss"][2] != anew.history["loss"][2]


def test_option_in_a_grid_is_a_parameter_of_its_members(tmp_path: Path) -> None:
    text = experiment() + (
        "grid: {augmentation: [null, {copies: 1, additive: {depth: 0.1}}], plateau: [null, {patience: 1}]}\n"
    )
    _, found = fit(tmp_path, text)
    assert found.members["augmentation"].isna().tolist() == [True, True, False, False]
    assert len(set(found.members["val_true_contrast_loss"])) >= 2
    assert found.members["member"][3] == ("both/augmentation=copies:1;additive:depth:0.1,plateau=patience:1")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("weights: {nope == 1: 2}", "mimic: model both: group expression 'nope == 1' uses unknown column nope"),
        ("weights: {depth >> 1: 2}", "training.weights"),
        ("weights: {selected_depth > 1: -1}", "greater than or equal to 0; got -1"),
        ("labels: nope", "unknown feature nope; known are depth, noise, use"),
        ("labels: noise", "mimic: model both: labels: noise is the use of each choice and must be finite and 0 or more"),
        ("linear_skip: [nope]", "mimic: model both: linear_skip: nope is no feature of the model; these are depth, noise"),
        ("augmentation: {copies: 1, additive: {use: 1}}", "mimic: model both: augmentation: use is no feature of the model"),
        ("augmentation: {copies: 1, additive: {depth: -1}}", "a standard deviation must be above 0; got [-1.0]"),
        ("augmentation: {copies: 0}", "training.augmentation.copies: Input should be greater than or equal to 1; got 0"),
        ("schedule: {name: Cosine}", "expected a learning rate schedule of Keras"),
        ("schedule: {name: CosineDecay, decay_epochs: 9}, plateau: {patience: 3}", "either schedule or plateau"),
        ("plateau: {patience: 0}", "training.plateau.patience"),
        ("plateau: {patient: 1}", "unknown key patient; did you mean patience?"),
        ("optimizer: adamm", "expected an optimizer of Keras"),
        ("optimizer_arguments: {beta: 1}", "'adam' with {'learning_rate': 0.1, 'beta': 1}"),
        ("embedding_size: -1", "training.embedding_size"),
        ("redraw: true", "redraw goes with loss: contrast_sampled"),
        ("activation: rellu", "expected an activation of Keras, such as relu; got 'rellu'"),
    ],
)  # fmt: skip
def test_option_that_cannot_be_is_refused_in_one_message_before_anything_is_trained(
    tmp_path: Path, mimic: Mimic, monkeypatch: pytest.MonkeyPatch, more: str, message: str
) -> None:
    monkeypatch.setattr("mimic.training.train", lambda *_, **__: pytest.fail("training has begun"))
    path = write_experiment(tmp_path, experiment(more))
    code, out, err = mimic("run", path, "--out", tmp_path / "run", "--workers", 1)
    assert (code, out) == (2, "")
    assert err.startswith("mimic: ")
    assert message in err
    assert "Traceback" not in err
    assert not (tmp_path / "run").exists()


def test_fault_in_the_last_model_is_seen_before_the_first_is_trained(
    tmp_path: Path, mimic: Mimic, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mimic.training.train", lambda *_, **__: pytest.fail("training has begun"))
    text = experiment() + "  last: {features: [depth], training: {augmentation: {copies: 1, additive: {noise: 1}}}}\n"
    text = text.replace("models: {both: {features: [depth, noise]}}", "models:\n  both: {features: [depth, noise]}")
    code, _, err = mimic("run", write_experiment(tmp_path, text), "--out", tmp_path / "run", "--workers", 1)
    assert code == 2
    assert err == "mimic: model last: augmentation: noise is no feature of the model; these are depth.\n"


def test_model_may_have_any_name(tmp_path: Path, mimic: Mimic) -> None:
    names = ["whole", "network", "seed", "member"]  # names that occur within files and tables
    text = experiment().partition("models:")[0] + "".join(
        ["models:\n", *(f"  {n}: {{features: [depth]}}\n" for n in names)]
    )
    code, _, err = mimic("run", write_experiment(tmp_path, text), "--out", tmp_path / "run", "--workers", 1)
    assert code == 0, err
    assert sorted(p.stem for p in (tmp_path / "run" / "models").iterdir()) == sorted(names)
    members = pd.read_csv(tmp_path / "run" / "members.csv")
    assert members["member"].tolist() == names
    assert members["run"].nunique() == 1  # the name is no part of what is trained


def test_options_work_on_choice_sets_from_tracks(study: Study) -> None:
    study.edit(
        "batch_decisions: 64}",
        "batch_decisions: 64, weights: {month == 6: 2, selected_stay == 1: 0.5}, "
        "augmentation: {copies: 1, additive: {sst: 0.1}}, embedding_size: 1, linear_skip: [distance_km]}",
    )
    study.edit("  distance: {features: [distance_km, stay]}\n", "")
    configuration = load_configuration(study.experiment)
    prepared = prepare(configuration)
    found = fit_models(configuration, prepared, n_workers=1)
    assert found.history["epoch"].tolist() == [0, 1, 2, 3]
    assert np.isfinite(found.history["val_true_contrast_loss"]).all()


# One member


@lru_cache(maxsize=1)
def task_options() -> dict[str, Any]:
    from mimic.training import TrainingOptions

    return TrainingOptions(epochs=4, units=(3,), batch_decisions=32, plateau={"patience": 1}).as_mapping()  # type: ignore[arg-type]


def test_state_of_a_training_survives_the_way_through_bytes(tmp_path: Path) -> None:
    write_table(tmp_path)
    prepared = prepare(load_configuration(write_experiment(tmp_path, experiment())))
    data = open_data(prepared.choice_sets, None)
    whole = train_member(data, Task("a", "both", "network", ("depth", "noise"), task_options()))
    first = train_member(data, Task("a", "both", "network", ("depth", "noise"), task_options(), until=2))
    assert whole.state is None
    assert first.state is not None
    assert first.history["epoch"].tolist() == [1, 2]
    state = unpack_state(first.state)
    assert pack_state(state) == first.state
    rest = train_member(data, Task("a", "both", "network", ("depth", "noise"), task_options(), state=first.state))
    assert rest.model == whole.model
    assert rest.last == whole.last
    pd.testing.assert_frame_equal(rest.history, whole.history)


def test_check_passes_over_tasks_that_are_right_and_names_the_first_that_is_wrong(tmp_path: Path) -> None:
    write_table(tmp_path)
    prepared = prepare(load_configuration(write_experiment(tmp_path, experiment())))
    data = open_data(prepared.choice_sets, None)
    right = Task("a", "right", "network", ("depth",), task_options())
    wrong = Task("b", "wrong", "network", ("depth",), {**task_options(), "weights": {"x == 1": 2.0}})
    worse = Task("c", "worse", "network", ("depth",), {**task_options(), "epochs": 0})
    logit = Task("d", "logit", "conditional_logit", ("depth",), {"weighting": "individual"})
    assert check_tasks(data, [right, logit, right]) == ""
    assert check_tasks(data, [logit, right, wrong, worse]).startswith("model wrong: group expression 'x == 1'")
    assert check_tasks(data, [worse, wrong]) == "model worse: epochs must be 1 or more; got 0."


def test_last_weights_are_a_file_of_their_own(tmp_path: Path) -> None:
    text = experiment(epochs=12, rate=0.5)
    prepared, found = fit(tmp_path, text)
    registry = Registry(tmp_path / "registry")
    record = registry.find_run(found.runs["both"][0])
    assert record is not None
    assert record.best_epoch is not None
    assert record.best_epoch < 12
    best, last = (load_model(registry.file(record.files[role])) for role in ("model", "last"))
    assert not np.array_equal(best.log_odds(prepared.choice_sets), last.log_odds(prepared.choice_sets))
