"""`mimic whitepaper` on a small study: built, checked, and refused by name once anything behind it has changed."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from conftest import EXPERIMENT, write_grids, write_tracks

from mimic.bars import progress_bars
from mimic.configuration import load_configuration
from mimic.registry import Registry
from mimic.report import run_to_folder
from mimic.study import load_study
from mimic.study_figures import study_figures
from mimic.whitepaper_cli import whitepaper_command
from mimic.written import percent

pytest.importorskip("typst", reason="typst is not installed (the extra whitepaper)")

Mimic = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run of two seeds, its registry and its paper."""
    folder = tmp_path_factory.mktemp("paper")
    write_tracks(folder / "tracks.csv")
    write_grids(folder)
    (folder / "small.yaml").write_text(EXPERIMENT + "grid: {seed: [0, 1], learning_rate: [0.001, 0.01]}\n")
    configuration = load_configuration(folder / "small.yaml")
    with progress_bars() as progress:
        run_to_folder(configuration, folder / "runs" / "small", overwrite=False, progress=progress)
    whitepaper_command([folder / "runs" / "small"])
    return folder


@pytest.fixture
def copied(built: Path, tmp_path: Path) -> Path:
    """A copy of the run with its registry, to be spoiled."""
    shutil.copytree(built / "runs", tmp_path / "runs")
    return tmp_path / "runs" / "small"


def registry_of(run: Path) -> Path:
    return run.parent / "registry"


def check(mimic: Mimic, run: Path) -> tuple[int, list[tuple[str, str]]]:
    code, out, _ = mimic("whitepaper", run, "--check", "--registry", registry_of(run), "--json")
    return code, [(p["name"], p["reason"]) for p in json.loads(out)["problems"]]


def test_the_paper_has_every_figure_and_table_that_the_study_has(built: Path) -> None:
    paper = built / "runs" / "small" / "whitepaper"
    figures = {path.stem for path in (paper / "figures" / "small").glob("*.pdf")}
    assert figures == {
        *("tracks", "covariate", "covariate_depth", "choice_set", "groups", "chain", "chain_stacked", "individuals"),
        *(
            "used_habitat",
            "difference",
            "months",
            "stay_score",
            "stay_distribution",
            "reliability",
            "ranks",
            "coverage",
            "training",
        ),
        *("members", "hyperparameters", "random_starts", "contrast_curve", "contrast_spread", "bin_pairs"),
        *("architecture", "importance", "response_1", "response_2", "response_3", "surface"),
    }
    for name in figures:
        assert {path.suffix for path in (paper / "figures" / "small").glob(f"{name}.*")} >= {".pdf", ".svg", ".png"}
    tables = {path.stem for path in (paper / "tables" / "small").glob("*.tex")}
    assert tables == {
        *("groups", "differences", "chain", "shares", "models", "coefficients", "training", "selection", "exemplars"),
        "ledger",
    }
    assert (paper / "whitepaper.pdf").stat().st_size > 100_000


def test_numbers_are_those_of_the_tables_of_the_run(built: Path) -> None:
    run = built / "runs" / "small"
    numbers = pd.read_csv(run / "whitepaper" / "numbers.csv").set_index("name")
    evaluation = pd.read_csv(run / "evaluation.csv")
    asked = evaluation.query(
        "model == 'environment' and split == 'validation' and weighting == 'individual' and choice_group == 'move' "
        "and behavior_group == 'all'"
    ).iloc[0]
    place = "small/score/validation/environment/move/all"
    assert numbers.loc[f"{place}/gmp", "value"] == asked["gmp"]
    assert numbers.loc[f"{place}/gmp", "text"] == percent(asked["gmp"])
    assert (
        numbers.loc["small/count/decisions", "value"] == json.loads((run / "summary.json").read_text())["n_decisions"]
    )


def test_what_was_just_built_is_fresh(mimic: Mimic, copied: Path) -> None:
    assert check(mimic, copied) == (0, [])


def test_a_second_build_takes_what_is_recorded_and_gives_the_same_bytes(mimic: Mimic, copied: Path) -> None:
    before = (copied / "whitepaper" / "whitepaper.pdf").read_bytes()
    n_figures = len(Registry(registry_of(copied)).figures())
    code, out, err = mimic("whitepaper", copied, "--registry", registry_of(copied))
    assert (code, err) == (0, "")
    assert "whitepaper.pdf" in out
    assert (copied / "whitepaper" / "whitepaper.pdf").read_bytes() == before
    assert len(Registry(registry_of(copied)).figures()) == n_figures


def test_a_changed_score_in_the_registry_is_named_and_stops_the_build(mimic: Mimic, copied: Path) -> None:
    registry = Registry(registry_of(copied))
    key = next(key for key in registry.evaluations()["key"] if key.get("table") == "evaluation")
    table = registry.find_evaluation(key)
    assert table is not None
    spoiled = table.assign(gmp=table["gmp"].where(table.index != 40, 0.99))
    row = table.iloc[40]
    registry.record_evaluation(key, spoiled, replace=True)
    name = "/".join(["small/score", *(row[k] for k in ("split", "model", "choice_group", "behavior_group")), "gmp"])
    code, problems = check(mimic, copied)
    reasons = dict(problems)
    assert code == 1
    assert reasons[name].endswith("is recorded, its sources give 99.0 %")
    assert "small/groups" in reasons
    assert "small/groups.pdf" in reasons
    assert "small/tracks.pdf" not in reasons
    before = (copied / "whitepaper" / "whitepaper.pdf").read_bytes()
    code, out, err = mimic("whitepaper", copied, "--registry", registry_of(copied))
    assert (code, out) == (2, "")
    assert name in err
    assert "Add --refresh" in err
    assert (copied / "whitepaper" / "whitepaper.pdf").read_bytes() == before


def test_a_changed_metric_of_a_run_names_what_shows_it(mimic: Mimic, copied: Path) -> None:
    summary = json.loads((copied / "summary.json").read_text())
    (run_id,) = summary["runs"]["environment"]
    with sqlite3.connect(registry_of(copied) / "registry.sqlite") as connection:
        (metrics,) = connection.execute("SELECT metrics FROM runs WHERE id = ?", (run_id,)).fetchone()
        spoiled = json.loads(metrics) | {"val_true_contrast_loss": 0.001}
        connection.execute("UPDATE runs SET metrics = ? WHERE id = ?", (json.dumps(spoiled), run_id))
    code, problems = check(mimic, copied)
    names = [name for name, _ in problems]
    assert code == 1
    assert "small/training/environment/val_contrast_loss" in names
    assert "small/training" in names
    assert "small/random_starts.pdf" in names
    assert "small/groups.pdf" not in names


def test_a_deleted_figure_is_named_and_refresh_draws_it_anew(
    mimic: Mimic, copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = Registry(registry_of(copied))
    figures = registry.figures()
    registry.delete_figures(figures.loc[figures["name"] == "small/chain.pdf", "id"].tolist())
    assert check(mimic, copied) == (1, [("small/chain.pdf", "is missing: it is no more in the registry")])
    code, _, err = mimic("whitepaper", copied, "--registry", registry_of(copied))
    assert code == 2
    assert "small/chain.pdf (figure) is missing" in err
    # Drawing all of them anew would take long: the study has two figures now.
    every = {make.func.__name__: make for make in study_figures(load_study(copied, registry))}
    monkeypatch.setattr("mimic.subjects.study_figures", lambda _: [every["_chain"], every["_ranks"]])
    for others in ("study_maps", "learning_figures"):
        monkeypatch.setattr(f"mimic.subjects.{others}", lambda _: [])
    code, _, err = mimic("whitepaper", copied, "--registry", registry_of(copied), "--refresh")
    assert (code, err) == (0, "")
    assert check(mimic, copied) == (0, [])
    assert sorted(path.stem for path in (copied / "whitepaper" / "figures" / "small").glob("*.pdf")) == [
        "chain",
        "ranks",
    ]
    assert "small/chain.pdf" in set(registry.figures()["name"])


def test_check_says_in_words_that_all_is_well(mimic: Mimic, copied: Path) -> None:
    code, out, _ = mimic("whitepaper", copied, "--check", "--registry", registry_of(copied))
    assert code == 0
    assert out.startswith("every number, table and figure of")


def test_bad_input_is_refused_with_one_message(mimic: Mimic, copied: Path, tmp_path: Path) -> None:
    registry = ("--registry", registry_of(copied))
    refused = {
        "expected run folders, such as runs/demo; got none": (),
        "--check changes nothing and --refresh makes everything anew": (copied, "--check", "--refresh"),
        "is no run folder": (tmp_path, *registry),
        "two runs are both called small": (copied, copied, *registry),
        "there is none at": (copied, "--text", tmp_path / "no.typ", *registry),
        "no registry at": (copied, "--registry", tmp_path / "nowhere"),
        "exists and is no paper of mimic": (copied, "--out", tmp_path, *registry),
    }
    for message, arguments in refused.items():
        code, out, err = mimic("whitepaper", *arguments)
        assert (code, out) == (2, ""), message
        assert message in err


def test_without_runs_check_takes_those_that_have_a_paper(
    mimic: Mimic, copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(copied.parent.parent)
    code, out, _ = mimic("whitepaper", "--check", "--registry", registry_of(copied))
    assert code == 0
    assert "runs/small" in out
