"""Predictions of decisions whose selection is unknown: of tables and of last positions, networks and logits."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import typer
from conftest import Study
from tiny import write_experiment

from mimic.configuration import load_configuration
from mimic.hexgrid import cell_at
from mimic.predict_cli import predict_command
from mimic.prediction import last_decisions, load_predictor, predict_table
from mimic.runs import load_run

Call = Callable[..., str]


@pytest.fixture
def predict(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Call:
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(predict_command)

    def call(*arguments: object) -> str:
        monkeypatch.setattr(sys, "argv", ["predict", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            app()
        assert not stopped.value.code
        return capsys.readouterr().out

    return call


def run(experiment: Path, out: Path) -> Path:
    from mimic.report import Training, run_to_folder

    configuration = load_configuration(experiment)
    training = Training(n_workers=1)
    run_to_folder(configuration, out, overwrite=False, progress=lambda *_, **__: None, training=training)
    return out


MODELS = """
training: {epochs: 2, units: [3], batch_decisions: 32}
models:
  none: {features: []}
  deep: {features: [depth, noise]}
  several: {features: [depth], ensemble: {members: 2}}
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a ready table."""
    folder = tmp_path_factory.mktemp("predicted")
    return run(write_experiment(folder, MODELS), folder / "run")


def test_probabilities_of_a_table_are_those_of_the_run_itself(finished: Path) -> None:
    table = pd.read_csv(finished.parent / "table.csv")
    table.drop(columns=["selected", "use"]).to_csv(finished.parent / "new.csv", index=False)
    choice_sets, log_odds = load_run(finished)
    for model in ("deep", "several", "conditional_logit", "none"):
        predicted, _ = predict_table(load_predictor(finished, model), finished.parent / "new.csv")
        odds = np.exp(log_odds[model] - log_odds[model].max())
        sums = np.add.reduceat(odds, choice_sets.offsets[:-1])
        np.testing.assert_allclose(predicted["probability"], odds / np.repeat(sums, choice_sets.n_choices), rtol=2e-5)
        total = predicted.groupby(["individual", "decision"])["probability"].sum()
        np.testing.assert_allclose(total, 1.0)


def test_rank_one_is_the_likeliest_and_equal_choices_share_a_rank(finished: Path) -> None:
    predicted, _ = predict_table(load_predictor(finished, "deep"), finished.parent / "table.csv")
    best = predicted.loc[predicted.groupby(["individual", "decision"])["probability"].idxmax()]
    assert (best["rank"] == 1).all()
    alike, _ = predict_table(load_predictor(finished, "none"), finished.parent / "table.csv")
    assert (alike["rank"] == 1).all()
    assert set(alike["probability"]) == {0.25}


def test_conditional_logit_is_softmax_of_its_printed_coefficients(finished: Path) -> None:
    rows = pd.DataFrame({"individual": "new", "decision": 1, "choice": [1, 2], "depth": [0.0, 1.0], "noise": 0.0})
    rows.to_csv(finished.parent / "two.csv", index=False)
    coefficient = pd.read_csv(finished / "conditional_logit.csv").set_index("feature").loc["depth", "coef"]
    predicted, _ = predict_table(load_predictor(finished, "conditional_logit"), finished.parent / "two.csv")
    expected = 1 / (1 + np.exp(-float(coefficient)))
    assert predicted["probability"].tolist() == pytest.approx([1 - expected, expected])


def test_command_writes_all_and_shows_the_likeliest(finished: Path, predict: Call, tmp_path: Path) -> None:
    out = tmp_path / "made" / "p.csv"
    text = predict(finished, "deep", finished.parent / "table.csv", "--out", out)
    assert f"120 decisions, the likeliest 5 choices of up to 20 shown; all probabilities are in {out}" in text
    written = pd.read_csv(out)
    assert list(written.columns) == ["individual", "decision", "choice", "probability", "rank"]
    assert len(written) == 480
    assert [p.name for p in out.parent.iterdir()] == ["p.csv"]
    found = json.loads(predict(finished, "deep", finished.parent / "table.csv", "--json"))
    assert found["n_decisions"] == 120
    assert len(found["predictions"]) == 480


def test_bytes_of_two_predictions_are_equal(finished: Path, predict: Call, tmp_path: Path) -> None:
    for name in ("one.csv.gz", "two.csv.gz"):
        predict(finished, "deep", finished.parent / "table.csv", "--out", tmp_path / name)
    one, two = ((tmp_path / name).read_bytes() for name in ("one.csv.gz", "two.csv.gz"))
    assert one == two


def test_faults_are_named(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no model best; it has none, deep, several, conditional_logit"):
        load_predictor(finished, "best")
    with pytest.raises(FileNotFoundError, match="no run folder"):
        load_predictor(tmp_path, "deep")
    with pytest.raises(ValueError, match="expected a table of choices, or --last"):
        predict_command(finished, "deep")
    with pytest.raises(ValueError, match="--last needs an experiment with tracks"):
        predict_command(finished, "none", finished.parent / "table.csv", last=True)
    pd.read_csv(finished.parent / "table.csv").drop(columns="noise").to_csv(tmp_path / "less.csv", index=False)
    with pytest.raises(ValueError, match="expected the column noise"):
        predict_table(load_predictor(finished, "deep"), tmp_path / "less.csv")
    with pytest.raises(ValueError, match=r"--out must be a \.csv"):
        predict_command(finished, "none", finished.parent / "table.csv", out=tmp_path / "p.txt")


def test_next_cells_are_predicted_from_every_last_position(study: Study, predict: Call) -> None:
    out = run(study.experiment, study.folder / "run")
    found = json.loads(predict(out, "environment", "--last", "--json"))
    table = pd.DataFrame(found["predictions"])
    tracks = pd.read_parquet(out / "tracks.parquet")
    last = tracks.groupby("individual").tail(1).set_index("individual")
    assert found["n_decisions"] == 6
    np.testing.assert_allclose(table.groupby("individual")["probability"].sum(), 1.0)
    assert table["cell"].tolist() == [f"{cell:x}" for cell in table["choice"]]
    for individual, rows in table.groupby("individual"):
        place = last.loc[individual, ["longitude", "latitude"]].to_numpy(dtype=float)
        origin = cell_at(place[:1], place[1:], 4)[0]
        assert origin in set(rows["choice"])  # to stay is a choice
        assert set(rows["time_utc"]) == {last.loc[individual, "time_utc"].isoformat()}
    # the same positions as a file
    again = json.loads(predict(out, "environment", study.folder / "tracks.csv", "--last", "--json"))
    assert again["predictions"] == found["predictions"]


def test_last_decision_knows_how_the_animal_came(study: Study) -> None:
    configuration = load_configuration(study.experiment)
    tracks = pd.DataFrame(
        {
            "individual": pd.Series(["a", "a"], dtype="str"),
            "time_utc": pd.to_datetime(["2020-01-01", "2020-01-02"]).astype("datetime64[ns]"),
            "longitude": [-150.0, -150.0],
            "latitude": [55.0, 56.0],
            "burst": 0,
        }
    )
    decisions = last_decisions(configuration, tracks)
    assert len(decisions) == 1
    assert decisions["time_utc"].tolist() == [pd.Timestamp("2020-01-02")]
    assert decisions["decision"].tolist() == [1]
    assert "destination" not in decisions
    assert decisions["previous_heading_rad"].iloc[0] == pytest.approx(0.0, abs=0.2)  # due north
    assert len(tracks) == 2
