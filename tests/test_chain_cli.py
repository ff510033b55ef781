"""The commands chain and calibration on a run folder: what they print, and what they refuse."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import typer
from typer.testing import CliRunner

from mimic.chain_cli import calibration_command, chain_command, parse_stages
from mimic.schema import ChoiceSets, FeatureInfo
from mimic.tables import save_choices

EXPERIMENT = """
name: made
table: {file: table.csv, features: [distance_km, deep]}
split: {validation_share: 0.3}
training: {epochs: 1}
models: {none: {features: []}}
groups: {choices: {all: all, move: distance_km > 0}, behaviors: {all: all, left: selected_distance_km > 0}}
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder of 12 animals, 240 decisions of 6 choices, with the log-odds of no model and of the truth."""
    rng = np.random.default_rng(0)
    n, size = 240, 6
    deep = rng.normal(size=(n, size))
    distance = np.tile([0.0, 10, 20, 40, 60, 80], (n, 1))
    true = 0.8 * deep - 0.05 * distance + np.where(distance == 0, 0.5, 0)
    selected = np.arange(n) * size + (true + rng.gumbel(size=true.shape)).argmax(axis=1)
    individual = np.arange(n) % 12
    decisions = pd.DataFrame(
        {
            "individual": individual.astype(str),
            "decision": np.arange(n),
            "split": np.where(individual < 4, "validation", "train"),
        }
    )
    cs = ChoiceSets(
        decisions,
        np.arange(n + 1) * size,
        np.tile(np.arange(size), n),
        selected,
        {"distance_km": distance.ravel(), "deep": deep.ravel()},
        {"distance_km": FeatureInfo("pair", "km")},
    )
    folder = tmp_path_factory.mktemp("runs") / "made"
    folder.mkdir()
    save_choices(cs, folder / "choices")
    log_odds = {"none": np.zeros(n * size), "truth": true.ravel()}
    pd.DataFrame(log_odds).to_parquet(folder / "log_odds.parquet", index=False)
    (folder / "summary.json").write_text("{}")
    (folder / "configuration.yaml").write_text(EXPERIMENT)
    (folder / "table.csv").write_text("")
    return folder


@pytest.fixture
def command() -> Callable[..., str]:
    """chain and calibration as `mimic` has them; standard output, or the error."""
    app = typer.Typer()
    app.command("chain")(chain_command)
    app.command("calibration")(calibration_command)

    def call(*arguments: object) -> str:
        result = CliRunner().invoke(app, [str(a) for a in arguments])
        if result.exception is not None:
            raise result.exception
        return result.stdout

    return call


def test_chain_prints_a_table_of_each_split(run: Path, command: Callable[..., str]) -> None:
    train, validation = command("chain", run).strip().split("\n\n")
    assert train.startswith("split train, behavior_group all, weighting individual")
    lines = validation.splitlines()
    assert lines[0].startswith("split validation")
    assert [line.split()[0] for line in lines[2:10]] == ["none"] * 4 + ["truth"] * 4
    assert lines[9].split()[1] == "all"
    assert lines[9].endswith("yes")
    assert lines[-1] == "note: few individuals"


def test_chain_as_json_has_the_stages_asked_for_and_adds_up(run: Path, command: Callable[..., str]) -> None:
    stages = [
        "go: stay=distance_km == 0; move=distance_km > 0",
        "far: near=0 < distance_km <= 20; far=distance_km > 20",
    ]
    options = ["--stage", stages[0], "--stage", stages[1], "--behaviors", "left", "--models", "truth", "--json"]
    found = json.loads(command("chain", run, *options))
    assert found["stages"]["far"] == {"near": "0 < distance_km <= 20", "far": "distance_km > 20"}
    table = pd.DataFrame(found["chain"])
    assert table["stage"].unique().tolist() == ["go", "far", "choice", "all"]
    assert set(table["behavior_group"]) == {"left"}
    assert set(table["model"]) == {"truth"}
    one = table[(table["split"] == "train") & (table["weighting"] == "individual")].set_index("stage")
    assert one["log_probability"].drop("all").sum() == pytest.approx(one.loc["all", "log_probability"], abs=1e-12)
    classes = pd.DataFrame(found["classes"])
    assert classes[classes["stage"] == "go"]["observed"].unique().tolist() == [0, 1]  # all of this group left


def test_calibration_prints_the_summary_and_the_shares_of_a_feature(run: Path, command: Callable[..., str]) -> None:
    summary, shares = command("calibration", run, "--by", "deep", "--bins", 4).strip().split("\n\n")
    assert [line.split()[0] for line in summary.splitlines()] == ["model", "none", "none", "truth", "truth"]
    lines = shares.splitlines()
    assert len(lines) == 1 + 2 * 2 * 4
    assert any(line.endswith("outside") for line in lines if line.startswith("none"))


def test_calibration_compares_win_rates_with_the_ideal_of_the_features(run: Path, command: Callable[..., str]) -> None:
    text = command("calibration", run, "--wins", "deep")
    assert "won %" in text
    assert "lowest losses that these features allow, training decisions, nats:" in text
    found = json.loads(command("calibration", run, "--wins", "deep", "--wins", "distance_km", "--json"))
    wins = pd.DataFrame(found["wins"]).groupby(["model", "split"])
    np.testing.assert_allclose(wins["weight"].sum(), 1, rtol=1e-12)
    assert wins["loss"].sum()[("none", "train")] == pytest.approx(np.log(2))
    assert wins["loss"].sum()[("truth", "train")] < np.log(2)
    ideal = {row["bound"]: row["contrast_loss"] for row in found["ideal"]}
    assert ideal["infimum"] <= ideal["penalized"] < ideal["unseen"] < ideal["null"]
    with pytest.raises(ValueError, match="depe"):
        command("calibration", run, "--wins", "depe")


def test_calibration_as_json_has_all_tables_by_group(run: Path, command: Callable[..., str]) -> None:
    found = json.loads(command("calibration", run, "--choices", "move", "--models", "truth", "--by", "deep", "--json"))
    tables = {"calibration", "shares", "reliability", "rank_histogram", "ranks"}
    assert set(found) == {"run", *tables}
    for name in tables:
        assert {row["choice_group"] for row in found[name]} == {"move"}
    ece = [row["ece_p"] for row in found["calibration"]]
    assert min(ece) > 0.02  # the truth is calibrated


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["chain", "--models", "best"], "has no model best; it has none, truth"),
        (["chain", "--stage", "go"], "expected --stage"),
        (["chain", "--stage", "go: near=distance_km <= 20"], "stage 'go' leaves"),
        (["calibration", "--models", "best"], "has no model best"),
        (["calibration", "--by", "depth"], "unknown feature depth; known are distance_km, deep"),
        (["calibration", "--behaviors", "a=3"], "to compare a column, write a == 3"),
    ],
)
def test_bad_options_are_named(run: Path, command: Callable[..., str], arguments: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        command(arguments[0], run, *arguments[1:])


def test_stages_are_read_from_text() -> None:
    found = parse_stages(['where: a b=site == "x;y"; c=site != "x;y" and z <= 3;', "then: e=z == 1;f=z != 1"])
    assert found == {
        "where": {"a b": 'site == "x;y"', "c": 'site != "x;y" and z <= 3'},
        "then": {"e": "z == 1", "f": "z != 1"},
    }
    for text in ("a", "a:", ": b=c > 1", "a: b", "a: b == 1"):
        with pytest.raises(ValueError, match="expected --stage"):
            parse_stages([text])
    with pytest.raises(ValueError, match="the stage a is given twice"):
        parse_stages(["a: b=c > 1", "a: b=c > 1"])
    with pytest.raises(ValueError, match="the stage a has a class twice: b, b"):
        parse_stages(["a: b=c > 1; b=c <= 1"])


def test_negative_seed_is_refused_by_name(run: Path) -> None:
    app = typer.Typer()
    app.command("chain")(chain_command)
    done = CliRunner().invoke(app, [str(run), "--seed", "-1"])
    assert done.exit_code == 2
    assert "'--seed'" in done.stderr
