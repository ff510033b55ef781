"""`mimic runs ...`: what is printed, what JSON holds, and what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import mimic
from mimic.registry import Registry, RunRecord
from mimic.registry_cli import runs_app

Runs = Callable[..., str]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A registry of four runs of two models in two experiments, and a figure."""
    registry = Registry(tmp_path / "registry")
    study = registry.record_experiment(name="study", configuration={})
    for number, rate in enumerate([0.001, 0.01, 0.1, 0.001]):
        history = pd.DataFrame({"epoch": [1, 2], "loss": [0.7, 0.5], "val_true_contrast_loss": [np.nan, 0.2]})
        record = RunRecord(
            f"{'abcd'[number]}{number}{number:014x}",
            study if number < 3 else "other",
            "environment" if number < 3 else "distance",
            {"features": ["sst"], "training": {"units": [24, 24], "learning_rate": rate, "seed": 0}},
            best_epoch=2,
            metrics={"val_true_contrast_loss": 0.2 - number / 100, "val_true_decision_loss": np.inf},
            verdicts=["diverging"] if number == 2 else [],
            status="diverged" if number == 2 else "finished",
            history=history,
            facts={"n_parameters": 721},
        )
        registry.record_run(record)
    registry.record_figure(b"a map", name="map", caption="Where they go", runs=["a000000000000000"], suffix=".png")
    return tmp_path / "registry"


@pytest.fixture
def runs(folder: Path) -> Runs:
    """runs("list", ...) -> standard output."""

    def call(*arguments: object, registry: object = folder) -> str:
        command, *rest = map(str, arguments)
        result = CliRunner().invoke(runs_app, [command, "--registry", str(registry), *rest], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.stdout

    return call


def as_json(text: str) -> dict[str, Any]:
    return json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_list_shows_what_varies_best_epochs_losses_and_verdicts(runs: Runs) -> None:
    lines = runs("list").splitlines()
    assert lines[0].split() == [
        *("id", "experiment", "model", "learning_rate", "status", "best_epoch"),
        *("val_true_contrast_loss", "val_true_decision_loss", "verdicts"),
    ]
    assert lines[3].split() == ["c2000000", "study", "environment", "0.1", "diverged", "2", "0.18", "-", "diverging"]
    assert lines[4].split() == ["d3000000", "other", "distance", "0.001", "finished", "2", "0.17", "-"]
    assert lines[5] == "4 runs"
    end = lines[0].index("learning_rate") + len("learning_rate")
    assert [line[:end].split()[-1] for line in lines[1:5]] == ["0.001", "0.01", "0.1", "0.001"]  # one below the other


def test_list_narrows_sorts_and_limits(runs: Runs) -> None:
    where = 'learning_rate < 0.05 and model == "environment"'
    listed = as_json(runs("list", "--where", where, "--sort", "val_true_contrast_loss", "--json"))
    assert [run["id"][:1] for run in listed["runs"]] == ["b", "a"]
    assert (listed["n_found"], listed["varying"]) == (2, ["learning_rate"])
    assert listed["runs"][0]["val_true_decision_loss"] is None
    assert listed["runs"][0]["units"] == "24-24"
    listed = as_json(runs("list", "--sort", "learning_rate", "--descending", "--limit", "1", "--json"))
    assert [run["id"][:1] for run in listed["runs"]] == ["c"]
    assert runs("list", "--limit", "3").splitlines()[-1] == "3 of 4 runs"
    assert [r["id"][:1] for r in as_json(runs("list", "--experiment", "other", "--json"))["runs"]] == ["d"]
    assert [r["id"][:1] for r in as_json(runs("list", "--model", "distance", "--json"))["runs"]] == ["d"]


def test_list_of_no_runs_says_so(runs: Runs) -> None:
    assert runs("list", "--where", "seed > 5", "--sort", "seed") == "no runs\n"
    assert as_json(runs("list", "--where", "seed > 5", "--json"))["runs"] == []


def test_show_tells_all_of_a_run(runs: Runs) -> None:
    text = runs("show", "c2")
    for piece in ("c200000000000002", "diverging", "learning_rate  0.1", "n_parameters  721", "units          24-24"):
        assert piece in text
    assert text.splitlines()[-1].split() == ["2", "0.5", "0.2"]
    shown = as_json(runs("show", "c2", "--json"))
    assert shown["configuration"]["training"]["units"] == [24, 24]
    assert shown["history"][0] == {"epoch": 1, "loss": 0.7, "val_true_contrast_loss": None}
    assert shown["metrics"]["val_true_decision_loss"] is None


def test_show_tells_what_is_behind_a_figure(runs: Runs, folder: Path) -> None:
    identity = Registry(folder).figures()["id"].iloc[0]
    shown = as_json(runs("show", identity[:8], "--json"))
    assert (shown["name"], shown["caption"], shown["runs"]) == ("map", "Where they go", ["a000000000000000"])
    assert "a000000000000000" in runs("show", identity)


def test_compare_shows_what_differs_and_names_what_does_not(runs: Runs) -> None:
    text = runs("compare", "a0", "b1")
    assert "learning_rate" in text.split("the same in all:")[0]
    assert "units" in text.split("the same in all:")[1]
    compared = as_json(runs("compare", "a0", "b1", "--json"))
    assert compared["runs"] == ["a000000000000000", "b100000000000001"]
    rows = {row["name"]: row for row in compared["compared"]}
    assert rows["learning_rate"]["b100000000000001"] == 0.01
    assert (rows["learning_rate"]["differ"], rows["units"]["differ"]) == (True, False)


def test_varying_lists_parameters_with_their_values(runs: Runs) -> None:
    lines = [line.split(maxsplit=2) for line in runs("varying").splitlines()]
    assert lines[1:] == [["model", "2", "distance, environment"], ["learning_rate", "3", "0.001, 0.01, 0.1"]]
    found = as_json(runs("varying", "--where", "learning_rate > 0.005", "--json"))["varying"]
    assert found == [{"parameter": "learning_rate", "n_values": 2, "values": [0.01, 0.1]}]
    assert runs("varying", "--where", "learning_rate == 0.1") == "nothing varies within the selection\n"


def test_export_writes_tables_and_figures(runs: Runs, tmp_path: Path) -> None:
    paths = as_json(runs("export", tmp_path / "csv", "--figures", "--json"))["files"]
    assert {Path(p).name for p in paths} >= {"runs.csv", "epochs.csv", "runs_wide.csv", "map.png", "index.csv"}
    assert all(Path(p).is_file() for p in paths)
    assert len(pd.read_csv(tmp_path / "csv" / "epochs.csv")) == 8
    assert runs("export", tmp_path / "csv", "--overwrite").count("wrote ") == len(paths) - 2


def test_archive_tells_what_was_moved_and_what_is_missing(runs: Runs, folder: Path) -> None:
    registry = Registry(folder)
    address = registry.put_file(b"model", ".keras")
    registry.record_run(RunRecord("ee", "study", "m", {}, files={"model": address}))
    registry.delete_runs(["ee"])
    registry.file(registry.figures()["file"].iloc[0]).unlink()
    found = as_json(runs("archive", "--json"))
    assert [Path(p).name for p in found["moved"]] == [f"{address}.keras"]
    assert [(m["kind"], m["role"]) for m in found["missing"]] == [("figure", "figure")]
    assert runs("archive").splitlines()[:2] == ["0 files without a record moved", "1 records without their file"]


def test_annotate_adds_a_note_that_list_and_show_tell(runs: Runs) -> None:
    assert runs("annotate", "b1", "the one in figure 2") == "noted at b100000000000001\n"
    assert as_json(runs("annotate", "b1", "again", "--json")) == {"id": "b100000000000001", "note": "again"}
    assert "the one in figure 2; again" in runs("show", "b1")
    listed = as_json(runs("list", "--where", "not missing(notes) and notes != ''", "--json"))
    assert [run["notes"] for run in listed["runs"]] == ["the one in figure 2; again"]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (["list", "--where", "learning_rat < 1"], ValueError, "did you mean learning_rate"),
        (["list", "--where", "learning_rate <"], ValueError, "no expression"),
        (["list", "--sort", "val_loss"], ValueError, "--sort: expected the column val_loss"),
        (["list", "--experiment", "none"], ValueError, "no experiment 'none' .* known are other, study"),
        (["show", "zz"], ValueError, "no run or figure 'zz'"),
        (["show", ""], ValueError, "no run or figure ''"),
        (["compare", "a0"], ValueError, "two or more different runs; got a0"),
        (["compare", "a0", "a00"], ValueError, "two or more different runs; got a0, a00"),
        (["annotate", "a0", " "], ValueError, "the text of a note"),
    ],
)
def test_bad_input_is_told_in_one_message(
    runs: Runs, arguments: list[str], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message) as told:
        runs(*arguments)
    assert "\n" not in str(told.value)


def test_missing_registry_is_told_and_not_made(runs: Runs, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no registry in"):
        runs("list", registry=tmp_path / "elsewhere")
    assert not (tmp_path / "elsewhere").exists()


def test_earlier_export_is_not_replaced_unless_asked(runs: Runs, tmp_path: Path) -> None:
    runs("export", tmp_path / "csv")
    with pytest.raises(FileExistsError, match="choose another folder, or replace them with overwrite"):
        runs("export", tmp_path / "csv")


def test_registry_may_be_named_by_the_environment(folder: Path) -> None:
    result = CliRunner().invoke(runs_app, ["list"], env={"MIMIC_REGISTRY": str(folder)}, catch_exceptions=False)
    assert result.stdout.splitlines()[-1] == "4 runs"


def test_ids_are_as_long_as_it_takes_to_tell_them_apart(runs: Runs, folder: Path) -> None:
    registry = Registry(folder)
    for last in "xy":
        registry.record_run(RunRecord(f"f123456789{last}", "other", "m", {"a": last}))
    listed = [line.split()[0] for line in runs("list", "--model", "m").splitlines()[1:3]]
    assert listed == ["f123456789x", "f123456789y"]


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys\nfrom mimic.registry_cli import runs_app\n"
        "try:\n    runs_app(['--help'])\nexcept SystemExit:\n    pass\n"
        "print(sorted({'pandas', 'sqlalchemy', 'numpy', 'tensorflow'} & set(sys.modules)), file=sys.stderr)"
    )
    root = Path(mimic.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert "annotate" in done.stdout
    assert done.stderr.strip() == "[]"
