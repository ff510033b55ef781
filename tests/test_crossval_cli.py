"""`mimic crossval`: one table of several studies, whole or not at all, and killed it goes on."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import typer
from conftest import Study
from tiny import write_experiment, write_table
from typer.testing import CliRunner

from mimic.configuration import load_configuration
from mimic.crossval_cli import crossval_command
from mimic.crossval_sections import SchemeConfig, absent_files, load_comparison, study_configuration
from mimic.preparation import prepare
from mimic.registry import Registry
from mimic.registry_tables import DATABASE_FILE

MODELS = """
training: {epochs: 2, units: [3], batch_decisions: 64}
models:
  none: {features: []}
  depth: {kind: conditional_logit, features: [depth]}
  both: {kind: conditional_logit, features: [depth, noise]}
"""
COMPARISON = """
name: two
studies:
  first:
    experiment: tiny.yaml
    leave_out: individual
    models:
      none: {features: []}
      depth: {kind: conditional_logit, features: [depth]}
  second:
    experiment: tiny.yaml
    folds: 2
    reference: none
"""
TABLES = ("summary", "differences", "scores", "individuals", "splits")

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Command:
    """The command in this process: exit code, standard output, and what it says on standard error or raises."""
    monkeypatch.delenv("MIMIC_REGISTRY", raising=False)
    app = typer.Typer()
    app.command()(crossval_command)

    def call(*arguments: object) -> tuple[int, str, str]:
        done = CliRunner().invoke(app, [*map(str, arguments), "--workers", "1"])
        return done.exit_code, done.stdout, done.stderr + str(done.exception or "")

    return call


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An experiment of four animals and a comparison of two studies on it."""
    write_table(tmp_path, n_individuals=4, n_decisions=6)
    write_experiment(tmp_path, MODELS)
    (tmp_path / "two.yaml").write_text(COMPARISON)
    return tmp_path


def test_comparison_of_two_studies_gives_one_table_and_all_tables_as_files(folder: Path, command: Command) -> None:
    code, out, err = command(folder / "two.yaml", "--out", folder / "out")
    assert code == 0, err
    assert "first: each individual left out" in out
    assert "second: 2 folds of individuals" in out
    tables = {name: pd.read_csv(folder / "out" / f"{name}.csv") for name in TABLES}
    assert all(table.columns[0] == "study" for table in tables.values())
    summary = tables["summary"]
    assert summary[["study", "model"]].values.tolist() == [
        ["first", "none"],
        ["first", "depth"],
        ["second", "none"],
        ["second", "depth"],
        ["second", "both"],
    ]
    assert summary.groupby("study")["n_splits"].first().tolist() == [4, 2]
    pairs = tables["differences"].query("study == 'second'")[["model", "other"]]
    assert pairs.values.tolist() == [["depth", "none"], ["both", "none"]]
    decisions = pd.read_parquet(folder / "out" / "decisions.parquet")
    assert len(decisions) == 2 * 24
    means = decisions.query("study == 'first'").groupby("individual")["depth"].mean()
    assert summary["log_probability"][1] == pytest.approx(means.mean(), rel=1e-12)
    assert (folder / "out" / "comparison.txt").read_text().strip() in out
    assert load_configuration(folder / "out" / "configuration_first.yaml").name == "first"
    assert (folder / "registry" / DATABASE_FILE).is_file()
    before = (folder / "out" / "summary.csv").read_bytes()
    code, _, err = command(folder / "two.yaml", "--out", folder / "out")
    assert code != 0
    assert "add --overwrite" in err
    code, out, err = command(folder / "two.yaml", "--out", folder / "out", "--overwrite", "--json")
    assert code == 0, err
    told = json.loads(out)
    assert [one["n_trained"] for one in told["studies"]] == [0, 0]  # all found in the registry
    assert len(told["summary"]) == 5
    assert (folder / "out" / "summary.csv").read_bytes() == before


def test_experiment_takes_its_splits_from_the_options(folder: Path, command: Command) -> None:
    options = ["--leave-out", "individual", "--models", "none", "--models", "depth", "--reference", "none"]
    code, out, err = command(folder / "tiny.yaml", *options, "--out", folder / "out", "--json")
    assert code == 0, err
    told = json.loads(out)
    assert told["studies"][0]["scheme"] == "each individual left out"
    assert [row["model"] for row in told["summary"]] == ["none", "depth"]
    assert [(row["model"], row["other"]) for row in told["differences"]] == [("depth", "none")]


def test_study_whose_data_are_absent_is_named_and_skipped(folder: Path, command: Command) -> None:
    (folder / "gone.yaml").write_text((folder / "tiny.yaml").read_text().replace("table.csv", "gone.csv"))
    text = COMPARISON.replace("  second:\n    experiment: tiny.yaml", "  second:\n    experiment: gone.yaml")
    (folder / "two.yaml").write_text(text)
    code, out, err = command(folder / "two.yaml", "--out", folder / "out", "--json")
    assert code == 0, err
    assert f"study second is skipped, as {folder / 'gone.csv'} is not there" in err
    told = json.loads(out)
    assert [one["study"] for one in told["studies"]] == ["first"]
    assert told["skipped"] == [{"study": "second", "absent": [str(folder / "gone.csv")]}]
    code, _, err = command(folder / "gone.yaml", "--out", folder / "none")
    assert code != 0
    assert "no study can be run: study tiny is skipped, as" in err
    assert not (folder / "none").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["two.yaml", "--folds", "3", "--leave-out", "individual"], "leave out --folds, --leave-out, or give"),
        (["two.yaml", "--studies", "third"], "has no study third; it has first, second"),
        (["two.yaml", "--models", "deep"], "has no model deep; it has none, depth"),
        (["tiny.yaml", "--studies", "first"], "--studies are those of a comparison file"),
        (["tiny.yaml", "--folds", "3", "--time-blocks", "3"], "one of folds, leave_out and time_blocks; got folds and"),
        (["tiny.yaml", "--folds", "1"], "--folds: Input should be greater than or equal to 2; got 1."),
        (["tiny.yaml", "--gap", "24h"], "gap cannot serve here: only blocks of time use this"),
        (["tiny.yaml", "--time-blocks", "3", "--seed", "1"], "seed cannot serve here: blocks of time have nothing ran"),
        (["tiny.yaml", "--folds", "5"], "study tiny: the number of folds must lie between 2 and 4"),
        (["tiny.yaml", "--leave-out", "colony"], "study tiny: decisions: expected the column"),
        (["tiny.yaml", "--time-blocks", "3"], "study tiny: decisions: expected the column"),
        (["tiny.yaml", "--reference", "deep"], "study tiny: reference: unknown model deep; known are none, depth"),
        (["nowhere.yaml"], "expected a YAML file"),
    ],
)
def test_what_cannot_be_done_is_refused_and_leaves_nothing(
    folder: Path, command: Command, arguments: list[str], message: str
) -> None:
    code, out, err = command(folder / arguments[0], *arguments[1:], "--out", folder / "out")
    assert code != 0
    assert out == ""
    assert message in err
    assert not (folder / "out").exists()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("folds: 2", "folds: 2\n    fold: 3", "studies.second: unknown key fold; did you mean folds?"),
        ("folds: 2", "folds: 2\n    leave_out: region", "studies.second: expected one of folds, leave_out and time"),
        ("folds: 2", "folds: 2\n    training: {epocs: 2}", "unknown key epocs; did you mean epochs?"),
        ("[depth]}", "[depth], kin: 1}", "unknown key kin; did you mean kind?"),
        ("    experiment: tiny.yaml\n    folds", "    folds", "studies.second.experiment: Field required"),
    ],
)
def test_fault_of_a_comparison_is_named_with_its_place(
    folder: Path, command: Command, old: str, new: str, message: str
) -> None:
    assert old in COMPARISON
    (folder / "two.yaml").write_text(COMPARISON.replace(old, new))
    code, _, err = command(folder / "two.yaml", "--out", folder / "out")
    assert code != 0
    assert message in err


def test_models_of_a_study_replace_those_of_its_experiment_with_groups_and_figures(folder: Path) -> None:
    path = write_experiment(
        folder,
        MODELS + "groups: {shares: {deep: depth > 0}}\nfigures: {difference: [both, depth]}\ngrid: {seed: [0, 1]}\n",
    )
    text = COMPARISON.replace("  second:", "    training: {epochs: 7}\n  second:")
    (folder / "two.yaml").write_text(text)
    studies = load_comparison(folder / "two.yaml").studies
    replaced, kept = (study_configuration(name, study) for name, study in studies.items())
    assert list(replaced.models) == ["none", "depth"]
    assert (replaced.name, replaced.grid, replaced.groups.shares, replaced.training.epochs) == ("first", {}, {}, 7)
    assert kept.model_copy(update={"name": "tiny"}) == load_configuration(path)
    assert absent_files(replaced) == []


def test_scheme_tells_itself_in_words() -> None:
    def words(**given: Any) -> str:
        return SchemeConfig.model_validate(given).words

    assert words() == "5 folds of individuals"
    assert words(folds=3, repeats=2) == "3 folds of individuals, 2 repeats"
    assert words(leave_out="colony") == "each colony left out"
    assert words(time_blocks=4, gap="24h") == "4 blocks of time, forward, gap 24h"


def test_comparison_of_the_project_is_valid_and_names_features_that_its_studies_can_have(root: Path) -> None:
    studies = load_comparison(root / "experiments" / "comparison.yaml").studies
    assert list(studies) == ["wildboar", "bluefin", "ses", "kruger"]
    for name, study in studies.items():
        configuration = study_configuration(name, study)
        assert list(configuration.models) == ["none", "conditional_logit", "step_selection", "network", "ensemble"]
        network, ensemble = configuration.models["network"], configuration.models["ensemble"]
        assert network.features == ensemble.features
        assert set(configuration.models["step_selection"].features) <= set(network.features)
        assert set(configuration.models["conditional_logit"].features) < set(network.features)
        assert configuration.training_of("ensemble").loss == "softmax"


CODE = """
import typer
from mimic.crossval_cli import crossval_command
app = typer.Typer()
app.command()(crossval_command)
app()
"""


@pytest.mark.slow
def test_killed_comparison_goes_on_and_gives_what_an_undisturbed_one_gives(folder: Path, command: Command) -> None:
    text = MODELS.replace("epochs: 2", "epochs: 100") + "  network: {features: [depth], grid: {seed: [0, 1]}}\n"
    given = [str(write_experiment(folder, text)), "--folds", "2", "--models", "network"]
    there = ["--out", str(folder / "out"), "--registry", str(folder / "killed")]
    process = subprocess.Popen(
        [sys.executable, "-c", CODE, *given, *there, "--workers", "2"], stderr=subprocess.PIPE, process_group=0
    )
    end = time.monotonic() + 120
    while not (folder / "killed" / DATABASE_FILE).is_file() or not len(Registry(folder / "killed").runs()):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (folder / "out").exists()
    recorded = len(Registry(folder / "killed").runs())
    code, out, err = command(*given, *there, "--json")
    assert code == 0, err
    assert json.loads(out)["studies"][0]["n_trained"] == 4 - recorded
    code, _, err = command(*given, "--out", folder / "whole", "--registry", folder / "other")
    assert code == 0, err
    for name in TABLES:
        assert (folder / "out" / f"{name}.csv").read_bytes() == (folder / "whole" / f"{name}.csv").read_bytes()
    assert not re.findall("partial", " ".join(os.listdir(folder)))


def test_blocks_of_time_of_tracks_leave_one_step_between_them(study: Study) -> None:
    configuration = load_configuration(study.experiment)
    decisions = prepare(configuration).choice_sets.decisions
    scheme = SchemeConfig(time_blocks=3).for_tracks("24h")
    assert scheme.words == "3 blocks of time, forward, gap 24h"
    split = scheme.splits(decisions)[0]
    times = {role: decisions["time_utc"][split.role == role] for role in ("train", "validation", "test")}
    # the origin one step after the last training decision is not yet one that is validated on
    assert times["validation"].min() - times["train"].max() > pd.Timedelta("24h")
    assert times["test"].min() - times["validation"].max() > pd.Timedelta("24h")
    assert SchemeConfig(time_blocks=3, gap="48h").for_tracks("24h").gap == "48h"
    assert SchemeConfig(folds=3).for_tracks("24h").gap is None
