"""`mimic doctor` on run folders and on runs: the verdicts of the record, explained, wherever it is asked from."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from tiny import fit, write_experiment

from mimic.consultation import consult, format_consultations
from mimic.registry import Registry

Mimic = Callable[..., tuple[int, str, str]]

TEXT = """
training: {epochs: 6, units: [3], batch_decisions: 32, learning_rate: 0.00001}
grid: {seed: [0, 1]}
models:
  none: {features: []}
  logit: {features: [depth], kind: conditional_logit}
  depth: {features: [depth]}
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder, made once, whose network hardly moves: its learning rate is far too low."""
    folder = tmp_path_factory.mktemp("doctor")
    from mimic.configuration import load_configuration
    from mimic.report import Training, run_to_folder

    configuration = load_configuration(write_experiment(folder, TEXT))
    training = Training(n_workers=1)
    run_to_folder(configuration, folder / "run", overwrite=False, progress=lambda *_: None, training=training)
    return folder / "run"


def test_folder_is_examined_member_by_member_with_the_verdicts_that_are_recorded(run: Path, mimic: Mimic) -> None:
    code, text, err = mimic("doctor", run, "--json")
    assert code == 0, err
    found = {one["run"]: one for one in json.loads(text)["members"]}
    members = pd.read_csv(run / "members.csv").set_index("run")
    assert set(found) == set(members.query("model == 'depth'").index)  # a conditional logit has no curves
    assert any(one["verdicts"] for one in found.values())
    for identity, one in found.items():
        assert [verdict["name"] for verdict in one["verdicts"]] == str(members["verdicts"][identity]).split(", ")
        assert one["seed"] == members["seed"][identity]
        assert all(verdict["evidence"] and verdict["advice"] for verdict in one["verdicts"])
    code, text, err = mimic("doctor", run)
    assert code == 0, err
    for identity, one in found.items():
        assert f"depth (run {identity}, seed {one['seed']})" in text
        assert all(verdict["advice"] in text for verdict in one["verdicts"])


def test_run_is_found_by_the_beginning_of_its_id(run: Path, mimic: Mimic) -> None:
    identity = pd.read_csv(run / "members.csv").query("model == 'depth'")["run"].iloc[0]
    code, text, err = mimic("doctor", identity[:9], "--registry", run.parent / "registry", "--json")
    assert code == 0, err
    assert [one["run"] for one in json.loads(text)["members"]] == [identity]
    code, text, err = mimic("doctor", "zzz", "--registry", run.parent / "registry")
    assert (code, text) == (2, "")
    assert "no run 'zzz' in" in err
    assert "mimic runs list" in err


def test_folder_knows_its_registry_from_everywhere_and_after_both_were_moved(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    known = consult(str(run))
    shutil.copytree(run.parent, tmp_path / "moved")
    summary = json.loads((run / "summary.json").read_text())
    assert Path(summary["registry"]).is_absolute()
    summary["registry"] = "/nowhere/registry"
    (tmp_path / "moved" / "run" / "summary.json").write_text(json.dumps(summary))
    assert consult("moved/run") == known


def test_registry_without_the_runs_is_refused_and_named(run: Path, tmp_path: Path, mimic: Mimic) -> None:
    Registry(tmp_path / "other")
    code, _, err = mimic("doctor", run, "--registry", tmp_path / "other")
    assert code == 2
    assert "has no run" in err
    assert "--registry" in err
    code, _, err = mimic("doctor", run, "--registry", tmp_path / "none")
    assert code == 2
    assert f"no registry in {tmp_path / 'none'}" in err
    assert not (tmp_path / "none").exists()


def test_folder_without_trained_networks_has_nothing_to_examine(tmp_path: Path, mimic: Mimic) -> None:
    path = write_experiment(tmp_path, TEXT.partition("  depth:")[0])
    assert mimic("run", path, "--out", tmp_path / "run", "--workers", 1)[0] == 0
    code, text, err = mimic("doctor", tmp_path / "run")
    assert (code, text) == (0, "no network in this run: nothing to examine.\n"), err
    assert mimic("choices", "build", path, "--out", tmp_path / "built")[0] == 0
    code, _, err = mimic("doctor", tmp_path / "built")
    assert code == 2
    assert "has no trained network" in err


def test_diverged_member_is_explained_by_its_id(tmp_path: Path) -> None:
    text = TEXT.replace("0.00001", "1.e+25, optimizer: sgd").replace(
        "grid: {seed: [0, 1]}", "grid: {learning_rate: [1.e+25, 0.1]}"
    )
    _, found = fit(tmp_path, text)
    diverged = found.members.query("status == 'diverged'")["run"].item()
    (one,) = consult(diverged, registry=str(tmp_path / "registry"))
    assert [verdict["name"] for verdict in one["verdicts"]] == ["diverging"]
    assert one["best_epoch"] is None
    assert "diverging" in format_consultations([one])


def test_password_of_a_registry_stays_out_of_the_run_folder() -> None:
    from mimic.runs import _place

    assert _place("postgresql://otter:secret@host:5432/runs") == "postgresql://otter@host:5432/runs"
    assert _place("postgresql://host/runs") == "postgresql://host/runs"
    assert Path(_place("runs/registry")).is_absolute()
