"""`mimic explain ...`: what is printed, what JSON holds, what is written, and what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import EXPERIMENT, write_grids, write_tracks
from typer.testing import CliRunner

import mimic
from mimic.configuration import load_configuration
from mimic.explanation_cli import explain_app
from mimic.linear import linear_model
from mimic.model import save_model
from mimic.preparation import prepare
from mimic.runs import write_choices

Explain = Callable[..., str]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of the small study, whose models were not trained but fitted: that is sooner done."""
    folder = tmp_path_factory.mktemp("explained")
    write_tracks(folder / "tracks.csv")
    write_grids(folder)
    (folder / "small.yaml").write_text(EXPERIMENT)
    configuration = load_configuration(folder / "small.yaml")
    prepared = prepare(configuration)
    run = folder / "run"
    (run / "models").mkdir(parents=True)
    write_choices(run, configuration, prepared)
    cs = prepared.choice_sets
    log_odds = {"none": np.zeros(cs.n_rows)}
    for name in ("distance", "environment"):
        model = linear_model(cs.split("train"), configuration.models[name].features)
        save_model(model, run / "models" / f"{name}.keras")
        log_odds[name] = model.log_odds(cs)
    log_odds |= {"conditional_logit": log_odds["environment"], "truth": -0.02 * cs.features["distance_km"]}
    pd.DataFrame(log_odds).to_parquet(run / "log_odds.parquet", index=False)
    return run


@pytest.fixture
def explain(run: Path) -> Explain:
    """explain("leaks", ...) -> standard output."""

    def call(command: str, *arguments: object) -> str:
        result = CliRunner().invoke(explain_app, [command, str(run), *map(str, arguments)], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.stdout

    return call


def as_json(text: str) -> dict[str, Any]:
    return json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_exemplars_are_printed_told_and_drawn(explain: Explain, tmp_path: Path) -> None:
    told = as_json(explain("exemplars", "--json", "-n", 1, "--out", tmp_path))
    assert (told["model"], told["other"]) == ("environment", "distance")
    assert [row["rank"] for row in told["exemplars"]] == [1, 2]
    assert len(told["decisions"]) == 2
    assert told["no_map"] == ""
    names = {Path(path).name for path in told["files"]}
    assert names == {path.name for path in tmp_path.iterdir()}
    assert {"exemplar_map_best.png", "exemplar_decision_worst.png", "exemplars_individual.csv"} <= names
    written = pd.read_csv(tmp_path / "exemplars_individual.csv")
    assert written["difference"].tolist() == pytest.approx([row["difference"] for row in told["exemplars"]])
    assert "mean ln p(environment) - ln p(none) by month" in explain("exemplars", "--by", "month", "--other", "none")


def test_existing_files_are_kept_unless_told_otherwise(explain: Explain, tmp_path: Path) -> None:
    explain("contrasts", "--out", tmp_path)
    with pytest.raises(FileExistsError, match="contrast_curve.csv, .* add --overwrite"):
        explain("contrasts", "--out", tmp_path)
    assert "wrote" in explain("contrasts", "--out", tmp_path, "--overwrite")


def test_response_has_a_table_and_a_figure_for_each_feature(explain: Explain, tmp_path: Path) -> None:
    told = as_json(explain("response", "sst", "stay", "--json", "--out", tmp_path, "--n-grid", 5, "--clogit", 5))
    found = {(row["model"], row["feature"]) for row in told["response"]}
    assert found == {(m, f) for m in ("environment", "conditional logit") for f in ("sst", "stay")}
    assert {row["interval"] for row in told["response"] if row["model"] == "conditional logit"} == {"refits"}
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("response_sst.csv", "response_sst.png", "response_stay.csv", "response_stay.png"),
    ]
    baseline = as_json(explain("response", "sst", "--model", "conditional_logit", "--json"))["response"]
    slopes = [(b["log_odds"] - a["log_odds"]) / (b["value"] - a["value"]) for a, b in pairwise(baseline)]
    assert slopes == pytest.approx([slopes[0]] * len(slopes), rel=1e-6)
    two = as_json(explain("response", "sst", "stay", "--model", "environment", "--model", "distance", "--json"))
    of_distance = {row["feature"] for row in two["response"] if row["model"] == "distance"}
    assert of_distance == {"stay"}  # it has no sst
    every = as_json(explain("response", "--kind", "log_rss", "--json"))
    assert {row["feature"] for row in every["response"]} == {"distance_km", "stay", "sst", "depth"}
    assert {row["kind"] for row in every["response"]} == {"log_rss"}


def test_surface_interactions_importance_and_leaks_answer(explain: Explain, tmp_path: Path) -> None:
    assert "log-odds of environment" in explain("surface", "sst", "distance_km", "--n-grid", 4, "--out", tmp_path)
    assert len(as_json(explain("interactions", "--n-points", 20, "--json"))["interactions"]) == 6
    importance = as_json(explain("importance", "--json", "--n-repeats", 2, "--out", tmp_path))["importance"]
    assert {row["split"] for row in importance} == {"validation"}
    assert [row["rank"] for row in importance] == [1, 2, 3, 4]
    assert "refitted without" in explain("importance", "--drop-one", "--split", "train")
    leaks = as_json(explain("leaks", "sst", "--json"))["leaks"]
    assert [row["target"] for row in leaks] == ["individual", "place"]
    assert (tmp_path / "surface_sst_distance_km.png").stat().st_size > 5000


def test_contrasts_tell_the_batch_that_is_needed(explain: Explain) -> None:
    told = as_json(explain("contrasts", "--json", "--batch", 10, "--error", 0.1))
    assert [row["batch_decisions"] for row in told["spread"]] == [10]
    assert [row["error"] for row in told["batches"]] == [0.1]


def test_models_without_a_network_are_refused_with_the_reason(explain: Explain) -> None:
    with pytest.raises(
        ValueError,
        match="none cannot be explained: it has no features. Models .* distance, environment, conditional_logit",
    ):
        explain("response", "sst", "--model", "none")
    with pytest.raises(ValueError, match="has no model best; it has distance, environment, conditional_logit"):
        explain("importance", "--model", "best")
    with pytest.raises(ValueError, match="truth cannot be explained: it has log-odds of these choices, but no model"):
        explain("surface", "sst", "stay", "--model", "truth")
    assert "ln p(truth)" in explain("exemplars", "--other", "truth")


def test_wrong_wishes_are_named(explain: Explain) -> None:
    with pytest.raises(ValueError, match="unknown split test"):
        explain("exemplars", "--split", "test")
    with pytest.raises(ValueError, match="no individual has 5000 decisions"):
        explain("exemplars", "--min-decisions", 5000)
    with pytest.raises(ValueError, match="--color-by is a decision column"):
        explain("exemplars", "--color-by", "colony")
    with pytest.raises(ValueError, match="it has no depth_m"):
        explain("response", "depth_m")
    with pytest.raises(ValueError, match="--reference is that of --kind log_rss"):
        explain("response", "sst", "--reference", 8)
    with pytest.raises(ValueError, match="the reference of sst must be a finite number; got nan"):
        explain("response", "sst", "--kind", "log_rss", "--reference", "nan")
    with pytest.raises(ValueError, match="no decisions of split validation are in behaviors 'month == 1'"):
        explain("importance", "--behaviors", "month == 1")
    with pytest.raises(ValueError, match="errors must be above 0"):
        explain("contrasts", "--error", "nan")


def test_what_is_no_run_folder_is_called_so(tmp_path: Path) -> None:
    for command in ("leaks", "contrasts"):
        with pytest.raises(FileNotFoundError, match="is no run folder"):
            CliRunner().invoke(explain_app, [command, str(tmp_path)], catch_exceptions=False)


def test_folder_that_cannot_be_written_is_refused_first(explain: Explain, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "sub"):
        with pytest.raises(NotADirectoryError, match="file is a file; choose another --out"):
            explain("leaks", "--out", out)


def test_surface_fits_the_terminal(explain: Explain) -> None:
    text = explain("surface", "sst", "distance_km", "--model", "conditional_logit")
    assert max(map(len, text.splitlines())) <= 160


def test_importing_the_commands_loads_nothing_heavy() -> None:
    code = "import sys, mimic.explanation_cli; print(sorted({m.split('.')[0] for m in sys.modules}))"
    place = {"PYTHONPATH": str(Path(mimic.__file__).parents[1]), "PATH": ""}
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=place).stdout
    assert not {"tensorflow", "keras", "matplotlib", "sklearn", "pandas"} & set(eval(loaded))
