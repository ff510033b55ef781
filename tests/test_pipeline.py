"""The whole line through the command line: a small study in, a run folder out, and every bad input refused whole."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from conftest import Study

Mimic = Callable[..., tuple[int, str, str]]

COLUMNS = [
    "model", "split", "choice_group", "behavior_group", "weighting", "n_individuals", "n_decisions",
    "contrast_loss", "log_probability", "gmp", "null_gmp", "lift", "mean_probability",
]  # fmt: skip


def test_run_makes_a_whole_folder_and_its_numbers_agree_with_each_other(study: Study, mimic: Mimic) -> None:
    out = study.folder / "run"
    code, text, err = mimic("run", study.experiment, "--out", out)
    assert code == 0, err
    names = {str(p.relative_to(out)) for p in out.rglob("*") if p.is_file()}
    assert {
        "configuration.yaml", "ledger.csv", "evaluation.csv", "shares.csv", "history.csv", "summary.json",
        "differences.csv", "chain.csv", "conditional_logit.csv",
        "log_odds.parquet", "tracks.parquet", "choices/decisions.parquet", "choices/choices.parquet",
        "models/distance.keras", "models/environment.keras",
        "figures/tracks.png", "figures/training.png", "figures/groups.png", "figures/chain.png", "figures/difference.png",
    } <= names  # fmt: skip
    table = pd.read_csv(out / "evaluation.csv")
    assert list(table.columns[: len(COLUMNS)]) == COLUMNS
    assert len(table) == 4 * 2 * 2 * 3 * 2  # model, split, choice group, behavior group, weighting
    assert set(table["model"]) == {"none", "distance", "environment", "conditional_logit"}
    filled = table[table["n_decisions"] > 0]
    np.testing.assert_allclose(filled["gmp"], np.exp(filled["log_probability"]))
    np.testing.assert_allclose(filled["lift"], filled["gmp"] / filled["null_gmp"])
    none = filled[filled["model"] == "none"]
    np.testing.assert_allclose(none["lift"], 1.0)
    summary = json.loads((out / "summary.json").read_text())
    ledger = pd.read_csv(out / "ledger.csv")
    account = ledger[ledger["unit"].isin(["fix", "decision"]) & (ledger["action"] == "dropped")]
    assert summary["rows_read"] == 150 == summary["n_decisions"] + account["n"].sum()
    assert "figures/groups.png" in text

    chain = pd.read_csv(out / "chain.csv").query("n_decisions > 0")
    keys = ["model", "split", "behavior_group", "weighting"]
    stages = chain[chain["stage"] != "all"].groupby(keys)["log_probability"].sum()
    whole = table.query("choice_group == 'all' and n_decisions > 0").set_index(keys)["log_probability"]
    pd.testing.assert_series_equal(stages.sort_index(), whole.sort_index(), check_exact=False, rtol=0, atol=1e-9)
    differences = pd.read_csv(out / "differences.csv")
    assert set(zip(differences["model"], differences["other"], strict=True)) == {
        ("distance", "none"),
        ("environment", "distance"),
        ("distance", "conditional_logit"),
        ("environment", "conditional_logit"),
    }
    assert pd.read_csv(out / "conditional_logit.csv")["feature"].tolist()[:2] == ["distance_km", "stay"]

    code, text, err = mimic("compare", out, "environment", "distance", "--behaviors", "all", "--json")
    assert code == 0, err
    row = pd.DataFrame(json.loads(text)["comparison"]).query("choice_group == 'all'")
    told = differences.query("model == 'environment' and other == 'distance' and behavior_group == 'all'")
    told = told.query("choice_group == 'all'")
    np.testing.assert_allclose(row["difference_low"].astype(float), told["difference_low"])
    code, text, err = mimic("compare", out, "environment", "distance")
    assert code == 0, err
    assert text.startswith("split train, choice_group all, weighting individual\nmodel  ")
    code, text, err = mimic("evaluate", out)
    assert max(map(len, text.splitlines())) <= 170  # a title tells what the rows below it share
    assert text.count("split validation, choice_group move, weighting decision\n") == 1
    code, _, err = mimic("compare", out, "environment")
    assert (code, "give two models" in err) == (2, True)
    code, _, err = mimic("compare", out, "environment", "environmental")
    assert (code, "has no model environmental; it has none, distance" in err) == (2, True)

    code, text, err = mimic(
        "evaluate", out, "--choices", "far=distance_km > 50", "--choices", "all", "--behaviors", "month == 6", "--json"
    )
    assert code == 0, err
    again = pd.DataFrame(json.loads(text)["evaluation"])
    assert set(again["choice_group"]) == {"far", "all"}
    keys = ["model", "split", "weighting"]
    june = table.query("choice_group == 'all' and behavior_group == 'june'").set_index(keys)["gmp"]
    same = again.query("choice_group == 'all'").set_index(keys)["gmp"]
    pd.testing.assert_series_equal(june.sort_index(), same.sort_index(), check_exact=False, rtol=1e-9)

    code, _, err = mimic("run", study.experiment, "--out", out)
    assert code == 2
    assert "exists; choose another --out or add --overwrite" in err
    before = (out / "evaluation.csv").read_bytes()
    code, text, err = mimic("run", study.experiment, "--out", out, "--overwrite", "--json")
    assert code == 0, err
    assert json.loads(text)["n_decisions"] == summary["n_decisions"]
    assert (out / "evaluation.csv").read_bytes() == before  # the same seed, the same bits


def test_choices_build_and_tracks_check_answer_in_json(study: Study, mimic: Mimic) -> None:
    code, text, err = mimic("choices", "build", study.experiment, "--out", study.folder / "built", "--json")
    assert code == 0, err
    built = json.loads(text)
    assert built["rows_read"] == built["n_decisions"] + built["rows_dropped"]
    code, _, err = mimic("evaluate", study.folder / "built")
    assert code == 2
    assert "holds choice sets without models" in err
    columns = [f"--column={p}" for p in ("individual=fish", "time=when", "longitude=lon", "latitude=lat")]
    code, text, err = mimic("tracks", "check", study.folder / "tracks.csv", *columns, "--step", "24h", "--json")
    assert code == 0, err
    assert json.loads(text)["n_individuals"] == 6


def test_ready_choice_table_runs_without_cells(study: Study, mimic: Mimic) -> None:
    rng = np.random.default_rng(0)
    rows = pd.DataFrame(
        [(i, d, c) for i in range(5) for d in range(20) for c in "abc"], columns=["individual", "decision", "choice"]
    )
    rows["cost"] = rng.normal(size=len(rows))
    best = rows.groupby(["individual", "decision"])["cost"].idxmin()
    rows["selected"] = rows.index.isin(best).astype(int)
    rows.to_csv(study.folder / "table.csv", index=False)
    study.experiment.write_text(
        "name: t\ntable: {file: table.csv, features: [cost]}\nsplit: {validation_share: 0.4}\n"
        "training: {epochs: 30, units: [], learning_rate: 0.2}\nmodels: {none: {features: []}, cost: {features: [cost]}}\n"
        "groups: {choices: {all: all, not_a: 'choice != \"a\"'}}\n"
    )
    out = study.folder / "run"
    code, _, err = mimic("run", study.experiment, "--out", out)
    assert code == 0, err
    table = pd.read_csv(out / "evaluation.csv").query("weighting == 'individual' and split == 'validation'")
    assert table.query("model == 'cost' and choice_group == 'all'")["lift"].item() > 1.5
    assert table.query("model == 'none' and choice_group == 'not_a'")["null_gmp"].item() == pytest.approx(0.5)


def refused(mimic: Mimic, study: Study) -> str:
    """Run the study, see it refused in one message, and see that nothing was written or left behind."""
    before = {path for path in study.folder.rglob("*") if "registry" not in path.parts}
    code, text, err = mimic("run", study.experiment, "--out", study.folder / "run")
    assert code == 2, err
    assert text == ""
    assert err.startswith("mimic: ")
    assert "Traceback" not in err
    # The registry may have been opened to look for runs; it is no output, and has none.
    assert {path for path in study.folder.rglob("*") if "registry" not in path.parts} == before
    return err


def change_tracks(study: Study, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    path = study.folder / "tracks.csv"
    change(pd.read_csv(path, dtype={"fish": str})).to_csv(path, index=False)


def test_misspelt_column_is_named_with_what_is_there(study: Study, mimic: Mimic) -> None:
    study.edit("individual: fish", "individual: fisch")
    message = refused(mimic, study)
    assert "fisch" in message
    assert "fish" in message.replace("fisch", "")


def test_empty_track_file_is_refused(study: Study, mimic: Mimic) -> None:
    (study.folder / "tracks.csv").write_text("")
    assert "empty" in refused(mimic, study)
    (study.folder / "tracks.csv").write_text("fish,when,lon,lat\n")
    assert "tracks.csv" in refused(mimic, study)


def test_missing_track_file_is_refused(study: Study, mimic: Mimic) -> None:
    (study.folder / "tracks.csv").unlink()
    assert "tracks.csv" in refused(mimic, study)


def test_nan_and_infinite_coordinates_are_dropped_with_a_reason(study: Study, mimic: Mimic) -> None:
    def spoil(table: pd.DataFrame) -> pd.DataFrame:
        table.loc[3, "lon"] = np.nan
        table.loc[40, "lat"] = np.inf
        return table

    change_tracks(study, spoil)
    code, _, err = mimic("choices", "build", study.experiment, "--out", study.folder / "built", "--json")
    assert code == 0, err
    ledger = pd.read_csv(study.folder / "built" / "ledger.csv")
    assert ledger[ledger["reason"].str.contains("coordinates")]["n"].sum() == 2


def test_swapped_coordinates_are_recognised(study: Study, mimic: Mimic) -> None:
    change_tracks(study, lambda t: t.rename(columns={"lon": "lat", "lat": "lon"}))
    assert "swapped" in refused(mimic, study)


def test_mixed_time_zones_are_refused(study: Study, mimic: Mimic) -> None:
    def mix(table: pd.DataFrame) -> pd.DataFrame:
        table.loc[5, "when"] = table.loc[5, "when"] + "+02:00"
        return table

    change_tracks(study, mix)
    assert "offset from UTC are mixed" in refused(mimic, study)


def test_covariate_elsewhere_in_space_is_refused_with_both_extents(study: Study, mimic: Mimic) -> None:
    grid = xr.open_dataset(study.folder / "sst.nc").load()
    grid.close()
    (study.folder / "sst.nc").unlink()
    grid.assign_coords(longitude=grid["longitude"] - 100).to_netcdf(study.folder / "sst.nc", engine="h5netcdf")
    assert "sst" in refused(mimic, study)


def test_covariate_of_another_year_is_refused(study: Study, mimic: Mimic) -> None:
    grid = xr.open_dataset(study.folder / "sst.nc").load()
    grid.close()
    (study.folder / "sst.nc").unlink()
    dated = grid.rename(month="time").assign_coords(time=pd.date_range("1999-01-01", periods=12, freq="MS"))
    dated.to_netcdf(study.folder / "sst.nc", engine="h5netcdf")
    message = refused(mimic, study)
    assert "1999" in message
    assert "2019" in message


def test_all_nan_covariate_is_refused(study: Study, mimic: Mimic) -> None:
    grid = xr.open_dataset(study.folder / "sst.nc").load()
    grid.close()
    (study.folder / "sst.nc").unlink()
    (grid * np.nan).to_netcdf(study.folder / "sst.nc", engine="h5netcdf")
    assert "sst: expected data; every value is missing" in refused(mimic, study)


def test_zero_decisions_left_tells_where_they_went(study: Study, mimic: Mimic) -> None:
    study.edit("domain: elevation < 0", "domain: elevation < -100000")
    message = refused(mimic, study)
    assert "no decisions are left" in message
    assert "outside the domain" in message


def test_step_that_no_two_fixes_keep_leaves_no_decisions_and_says_so(study: Study, mimic: Mimic) -> None:
    study.edit("step: 24h, tolerance: 1h", "step: 7h, tolerance: 1h")
    assert "no next fix one step later" in refused(mimic, study)


def test_unknown_feature_or_group_column_is_refused_before_training(study: Study, mimic: Mimic) -> None:
    study.edit("features: [distance_km, stay, sst, depth]", "features: [distance_km, stay, sts, depth]")
    assert "did you mean sst" in refused(mimic, study)
    study.edit("stay, sts, depth", "stay, sst, depth")
    study.edit("june: month == 6", "june: moth == 6")
    assert "month" in refused(mimic, study)


def test_group_expression_that_is_none_is_refused(study: Study, mimic: Mimic) -> None:
    study.edit("distance_km > 0", "__import__('os').getcwd()")
    assert "groups.choices" in refused(mimic, study)


@pytest.mark.parametrize("name", ["sst.nc", "tracks.csv.gz", "tracks.parquet"])
def test_corrupt_files_are_refused_by_name(study: Study, mimic: Mimic, name: str) -> None:
    path = study.folder / name
    if name.startswith("tracks"):
        table = pd.read_csv(study.folder / "tracks.csv")
        if name.endswith("gz"):
            path.write_bytes(gzip.compress(table.to_csv(index=False).encode()))
        else:
            table.to_parquet(path)
        study.edit("file: tracks.csv", f"file: {name}")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2] + b"\0" * 50)
    assert name in refused(mimic, study)


def test_output_that_exists_or_cannot_be_written_is_refused_before_any_work(study: Study, mimic: Mimic) -> None:
    (study.folder / "taken").mkdir()
    code, _, err = mimic("run", study.experiment, "--out", study.folder / "taken")
    assert code == 2
    assert "exists" in err
    code, _, err = mimic("run", study.experiment, "--out", study.folder / "taken", "--overwrite")
    assert code == 2
    assert "will not be replaced" in err
    code, _, err = mimic("run", study.experiment, "--out", study.folder / "tracks.csv" / "run")
    assert code == 2
    assert "is a file" in err


def test_duplicate_yaml_key_is_refused(study: Study, mimic: Mimic) -> None:
    study.edit("name: small", "name: small\nname: twice")
    assert "written twice" in refused(mimic, study)


def test_ready_table_with_no_or_two_selected_choices_is_refused(study: Study, mimic: Mimic) -> None:
    rows = pd.DataFrame(
        {"individual": [1, 1, 2, 2], "decision": [0, 0, 0, 0], "choice": [1, 2, 1, 2], "x": [0.0, 1, 2, 3]}
    )
    study.experiment.write_text("name: t\ntable: {file: t.csv, features: [x]}\nmodels: {m: {features: [x]}}\n")
    for selected in ([1, 1, 0, 1], [1, 0, 0, 0]):
        rows.assign(selected=selected).to_csv(study.folder / "t.csv", index=False)
        assert "selected" in refused(mimic, study)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ("figures: {color_by: nothing}", "figures.color_by: expected the column nothing"),
        ("figures: {individual: nobody}", "figures.individual: nobody has no decisions"),
    ],
)
def test_figures_that_cannot_be_drawn_are_refused_before_training(
    study: Study, mimic: Mimic, monkeypatch: pytest.MonkeyPatch, section: str, message: str
) -> None:
    monkeypatch.setattr("mimic.report.fit_models", lambda *_, **__: pytest.fail("training has begun"))
    study.experiment.write_text(study.experiment.read_text() + section + "\n")
    assert message in refused(mimic, study)


def test_unknown_activation_or_optimizer_of_a_later_model_is_refused_before_the_first_is_trained(
    study: Study, mimic: Mimic, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mimic.training.train", lambda *_, **__: pytest.fail("training has begun"))
    study.edit("sst, depth]}", "sst, depth], training: {activation: rellu}}")
    assert "expected an activation of Keras, such as relu; got 'rellu'" in refused(mimic, study)
    study.edit("activation: rellu", "optimizer: adamm")
    assert "expected an optimizer of Keras" in refused(mimic, study)
