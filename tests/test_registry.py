"""The registry, on SQLite and on PostgreSQL where there is one: nothing lost, nothing mixed up, all comes back."""

from __future__ import annotations

import hashlib
import json
import math
import multiprocessing
import os
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import postgres
import pytest
import sqlalchemy as sa
from pandas.testing import assert_frame_equal

from mimic import registry_tables
from mimic.identity import run_id
from mimic.registry import Registry, RunRecord

Opener = Callable[[], Registry]


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    reason = postgres.absence()
    if reason is not None:
        pytest.skip(reason)
    with postgres.cluster() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def opener(request: pytest.FixtureRequest, tmp_path: Path) -> Opener:
    """Opens the same, at first empty, registry each time."""
    if request.param == "sqlite":
        return partial(Registry, tmp_path / "registry")
    url = request.getfixturevalue("postgres_url")  # skips where it cannot be had
    import psycopg

    schema = f"t{abs(hash(str(tmp_path))):x}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {schema}")
    return partial(Registry, f"{url}&options=-csearch_path%3D{schema}", files=tmp_path / "files")


@pytest.fixture
def registry(opener: Opener) -> Registry:
    return opener()


def make_history(n_epochs: int = 3, **columns: Any) -> pd.DataFrame:
    numbers = np.linspace(0.7, 0.1, n_epochs)
    table = pd.DataFrame({"epoch": np.arange(1, n_epochs + 1), "loss": numbers, "val_true_contrast_loss": numbers / 3})
    return table.assign(learning_rate=np.float32(0.001), **columns)


def make_record(seed: int = 0, *, model: str = "environment", n_epochs: int = 3, **changes: Any) -> RunRecord:
    """A run whose id is that of its content; `training` changes options."""
    training = {"loss": "softmax", "units": [24, 24], "learning_rate": 0.001, "patience": None, "seed": seed}
    training |= changes.pop("training", {})
    configuration = {"features": ["distance_km", "sst"], "kind": "network", "training": training}
    parts: dict[str, Any] = {
        "id": run_id(configuration={**configuration, "model": model}, data="d1", code="0.3.0+c"),
        "experiment": "study",
        "model": model,
        "configuration": configuration,
        "data": "d1",
        "code": "0.3.0+c",
        "seed": seed,
        "best_epoch": 2,
        "metrics": {"val_true_contrast_loss": 0.15 + seed / 100, "val_true_decision_loss": 1.2},
        "facts": {"n_parameters": 1000},
        "history": make_history(n_epochs),
        "seconds": 1.5,
    }
    return RunRecord(**{**parts, **changes})


# Experiments and runs


def test_run_comes_back_as_it_was_recorded(opener: Opener) -> None:
    history = make_history(gradient_norm=[1.0, math.nan, math.inf], true_contrast_loss=[-math.inf, math.nan, 1e-300])
    record = make_record(
        verdicts=["plateaued", "overfitting"],
        metrics={"loss": 0.1 + 0.2, "val_true_contrast_loss": math.nan, "worst": math.inf},
        history=history,
        status="diverged",
        message="epoch 3: loss is inf; “sst” in [1, 2]",
    )
    assert opener().record_run(record)
    found = opener().find_run(record.id)
    assert found is not None
    assert_frame_equal(found.history, history, check_exact=True)
    assert str(found.metrics) == str(record.metrics)
    for name in ("id", "experiment", "model", "configuration", "data", "code", "seed", "status", "best_epoch"):
        assert getattr(found, name) == getattr(record, name)
    for name in ("facts", "verdicts", "files", "seconds", "message"):
        assert getattr(found, name) == getattr(record, name)


def test_history_of_an_ensemble_keeps_rows_columns_and_dtypes(registry: Registry) -> None:
    history = pd.concat([make_history(2, member=k) for k in range(2)], ignore_index=True)
    history["fold"] = ["a", "a", "b", None]
    history["stopped"] = [False, True, False, True]
    history = history[["member", "val_true_contrast_loss", "epoch", "loss", "learning_rate", "fold", "stopped"]]
    record = make_record(history=history)
    registry.record_run(record)
    found = registry.find_run(record.id)
    assert found is not None
    assert_frame_equal(found.history, history, check_exact=True)


def test_run_without_numbers_comes_back_too(registry: Registry) -> None:
    record = RunRecord("0f", "study", "none", {}, status="failed", message="killed")
    registry.record_run(record)
    found = registry.find_run("0f")
    assert found is not None
    assert (found.best_epoch, found.status, found.message, len(found.history)) == (None, "failed", "killed", 0)
    assert math.isnan(found.seconds)
    assert registry.find_run("0e") is None


def test_second_record_of_a_run_replaces_nothing_unless_asked(registry: Registry) -> None:
    first = make_record()
    again = replace(first, message="again", history=make_history(5))
    assert registry.record_run(first)
    assert not registry.record_run(again)
    found = registry.find_run(first.id)
    assert found is not None
    assert (found.message, len(found.history)) == ("", 3)
    assert registry.record_run(again, replace=True)
    found = registry.find_run(first.id)
    assert found is not None
    assert (found.message, len(found.history)) == ("again", 5)
    assert len(registry.runs()) == 1
    assert len(registry.epochs()) == 5


def test_one_id_for_two_trainings_is_refused_and_changes_nothing(registry: Registry) -> None:
    record = make_record()
    registry.record_run(record)
    other = make_record(training={"units": [24, 25]})
    assert other.id != record.id
    mixed = replace(other, id=record.id)
    with pytest.raises(ValueError, match=rf"run {record.id} is recorded with another configuration \(units\)"):
        registry.record_run(mixed, replace=True)
    with pytest.raises(ValueError, match="another data and code"):
        registry.record_run(replace(record, data="d2", code="other"))
    found = registry.find_run(record.id)
    assert found is not None
    assert found.configuration == record.configuration


def test_same_experiment_has_one_record(registry: Registry) -> None:
    content = {"name": "study", "configuration": {"models": {"a": {}}}, "data": "d", "code": "c"}
    first = registry.record_experiment(**content)
    assert registry.record_experiment(**content) == first
    assert registry.record_experiment(**{**content, "configuration": {"models": {"b": {}}}}) != first
    assert registry.experiments()["name"].tolist() == ["study", "study"]


def test_runs_of_an_experiment_include_those_found_and_not_trained_again(registry: Registry) -> None:
    one = registry.record_experiment(name="one", configuration={})
    two = registry.record_experiment(name="two", configuration={})
    records = [make_record(seed, experiment=one) for seed in range(3)]
    for record in records:
        registry.record_run(record)
    registry.record_uses(two, [records[1].id])
    registry.record_run(make_record(7, experiment=two))
    assert registry.runs(experiment="one")["seed"].tolist() == [0, 1, 2]
    assert registry.runs(experiment="two")["seed"].tolist() == [1, 7]
    assert registry.runs(experiment=two)["experiment"].tolist() == ["one", "two"]
    assert registry.experiments().set_index("name")["n_runs"].to_dict() == {"one": 3, "two": 2}
    with pytest.raises(ValueError, match="no experiment 'three' in the registry; known are one, two"):
        registry.runs(experiment="three")
    with pytest.raises(ValueError, match="unknown run nothing"):
        registry.record_uses(two, ["nothing"])


def test_every_start_of_a_training_is_counted(opener: Opener) -> None:
    registry = opener()
    for run in ("a", "b", "a"):
        registry.record_attempt(run, "study")
    attempts = opener().attempts()
    assert attempts["run"].tolist() == ["a", "b", "a"]
    assert attempts["process"].str.endswith(f":{os.getpid()}").all()
    assert attempts["started_utc"].dtype == "datetime64[ns]"
    assert attempts["started_utc"].is_monotonic_increasing


def test_find_runs_gives_those_there_in_the_order_asked_for(registry: Registry) -> None:
    records = [make_record(seed, n_epochs=seed + 1) for seed in range(4)]
    for record in records:
        registry.record_run(record)
    asked = [records[2].id, "unknown", records[0].id]
    assert list(registry.find_runs(asked)) == [records[2].id, records[0].id]
    assert [len(r.history) for r in registry.find_runs(asked).values()] == [0, 0]
    assert [len(r.history) for r in registry.find_runs(asked, history=True).values()] == [3, 1]


def test_many_more_ids_than_a_statement_takes_are_found(registry: Registry) -> None:
    record = make_record()
    registry.record_run(record)
    assert list(registry.find_runs([*(f"x{n}" for n in range(70_000)), record.id])) == [record.id]


# Tables


def test_table_of_runs_has_parameters_metrics_and_facts_as_columns(registry: Registry) -> None:
    registry.record_run(make_record(3, verdicts=["plateaued"]))
    row = registry.runs().iloc[0]
    assert (row["model"], row["seed"], row["best_epoch"], row["verdicts"], row["n_verdicts"]) == (
        *("environment", 3, 2, "plateaued", 1),
    )
    assert (row["units"], row["learning_rate"], row["features"]) == ("24-24", 0.001, "distance_km, sst")
    assert (row["val_true_contrast_loss"], row["n_parameters"]) == (0.18, 1000)
    assert "parameter_seed" not in row  # it says the same as seed


@pytest.mark.parametrize(
    ("where", "seeds"),
    [
        (None, [0, 1, 2, 3, 4, 5]),
        ("learning_rate < 0.01", [0, 1, 2]),
        ('learning_rate < 0.01 and model == "environment"', [0, 2]),
        ('units == "24-24" and val_true_contrast_loss > 0.17', [3, 4, 5]),
        ("missing(patience) and seed > 0", [1, 2, 3, 4]),
        ("patience == 5 or best_epoch > 2", [5]),
        ("n_verdicts == 0", [0, 1, 2, 3, 4, 5]),
        ("True", [0, 1, 2, 3, 4, 5]),
        ("seed > 100", []),
    ],
)
def test_condition_chooses_runs(registry: Registry, where: str | None, seeds: list[int]) -> None:
    for seed in range(6):
        training = {"learning_rate": 0.001 if seed < 3 else 0.1, "patience": 5 if seed == 5 else None}
        registry.record_run(make_record(seed, model="other" if seed == 1 else "environment", training=training))
    assert registry.runs(where)["seed"].tolist() == seeds


def test_model_and_columns_narrow_the_table(registry: Registry) -> None:
    for seed, model in enumerate(["a", "b", "a"]):
        registry.record_run(make_record(seed, model=model))
    table = registry.runs("seed > 0", model="a", columns=["seed", "units"])
    assert table.to_dict(orient="list") == {"seed": [2], "units": ["24-24"]}


def test_wrong_condition_or_column_is_refused_and_an_empty_registry_is_not(registry: Registry) -> None:
    assert len(registry.runs("learning_rate < 1")) == 0
    registry.record_run(make_record())
    with pytest.raises(ValueError, match=r"unknown column learning_rat \(did you mean learning_rate"):
        registry.runs("learning_rat < 1")
    with pytest.raises(ValueError, match="write == to compare"):
        registry.runs("seed = 1")
    with pytest.raises(ValueError, match="expected the column unit;"):
        registry.runs(columns=["unit"])


def test_clashing_names_are_told_apart_by_what_they_are(registry: Registry) -> None:
    changes = {"training": {"status": "new", "plateau": {"patience": 4}}, "facts": {"units": 2}}
    registry.record_run(make_record(metrics={"loss": 0.5, "learning_rate": 0.1}, **changes))
    row = registry.runs().iloc[0]
    assert (row["loss"], row["metric_loss"]) == ("softmax", 0.5)
    assert (row["learning_rate"], row["metric_learning_rate"]) == (0.001, 0.1)
    assert (row["status"], row["parameter_status"]) == ("finished", "new")
    assert (row["units"], row["fact_units"]) == ("24-24", 2)
    assert row["plateau_patience"] == 4


def test_parameter_of_two_kinds_becomes_text_and_can_still_be_asked_for(registry: Registry) -> None:
    for seed, skip in enumerate([True, False, ["sst"], None]):
        registry.record_run(make_record(seed, training={"linear_skip": skip}))
    assert registry.runs('linear_skip == "sst"')["seed"].tolist() == [2]
    assert registry.runs('linear_skip == "true"')["seed"].tolist() == [0]
    assert registry.runs("missing(linear_skip)")["seed"].tolist() == [3]


def test_mapping_from_conditions_is_one_value(registry: Registry) -> None:
    registry.record_run(make_record(training={"weights": {"selected_stay == 1": 2.0}}))
    assert registry.runs()["weights"].tolist() == ['{"selected_stay == 1": 2.0}']


def test_epochs_are_rows_that_the_database_itself_can_ask_for(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    for seed in range(2):
        history = make_history(4, gradient_norm=[1.0, 2.0, math.nan, math.inf])
        registry.record_run(make_record(seed, history=history))
    with sqlite3.connect(tmp_path / "registry.sqlite") as connection:
        query = "SELECT epoch, count(*) FROM epochs WHERE gradient_norm > 1 GROUP BY epoch ORDER BY epoch"
        assert connection.execute(query).fetchall() == [(2, 2), (4, 2)]
        (nulls,) = connection.execute("SELECT count(*) FROM epochs WHERE gradient_norm IS NULL").fetchone()
    connection.close()
    assert nulls == 2  # NaN is NULL


def test_epochs_come_in_the_order_of_the_runs_asked_for(registry: Registry) -> None:
    one, two = make_record(1, n_epochs=2), make_record(2, history=make_history(1, member=7))
    registry.record_run(one)
    registry.record_run(two)
    table = registry.epochs([two.id, one.id])
    assert table["run"].tolist() == [two.id, one.id, one.id]
    assert table["epoch"].tolist() == [1, 1, 2]
    assert table["member"].tolist()[0] == 7
    assert table["member"].isna().tolist() == [False, True, True]
    assert list(registry.epochs([one.id])) == ["run", "epoch", "loss", "val_true_contrast_loss", "learning_rate"]
    assert len(registry.epochs([])) == 0
    assert len(registry.epochs()) == 3


def test_varying_names_exactly_what_differs_within_the_selection(registry: Registry) -> None:
    for seed in range(4):
        units = [24, 24] if seed < 2 else [32, 32]
        registry.record_run(make_record(seed, training={"units": units, "patience": [None, 5][seed % 2]}))
    expected = {"seed": [0, 1, 2, 3], "units": ["24-24", "32-32"], "patience": [None, 5.0]}
    varying = registry.varying()
    assert dict(zip(varying["parameter"], varying["values"], strict=True)) == expected
    assert varying["n_values"].tolist() == [4, 2, 2]
    assert registry.varying("seed < 2")["parameter"].tolist() == ["seed", "patience"]
    table = registry.runs()
    assert registry.varying(table[table["seed"].isin([0, 2])])["parameter"].tolist() == ["seed", "units"]
    assert len(registry.varying("seed == 0")) == 0


def test_compare_puts_runs_side_by_side(registry: Registry) -> None:
    one, two = make_record(1), make_record(2, training={"units": [8]})
    registry.record_run(one)
    registry.record_run(two)
    table = registry.compare([two.id[:10], one.id]).set_index("name")
    assert list(table) == [two.id, one.id, "differ"]
    assert table.loc["units"].tolist() == ["8", "24-24", True]
    assert table.loc["features"].tolist() == ["distance_km, sst", "distance_km, sst", False]
    assert not table.loc["patience", "differ"]  # missing in both


def test_beginning_of_an_id_is_enough_where_one_run_has_it(registry: Registry) -> None:
    for identity in ("abc1", "abc2", "abc", "d_1", "dx1"):
        registry.record_run(RunRecord(identity, "study", "m", {"x": identity}))
    assert registry.resolve("abc1") == "abc1"
    assert registry.resolve("abc") == "abc"
    assert registry.resolve("d_") == "d_1"  # _ is no wildcard
    with pytest.raises(ValueError, match="'ab' is the beginning of 3 ids"):
        registry.resolve("ab")
    for unknown in ("zz", "", "%"):
        with pytest.raises(ValueError, match="no run "):
            registry.resolve(unknown)


# Evaluations, figures, notes


def evaluation_table() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "model": pd.Series(["b", "a", None], dtype="str"),
            "n_decisions": np.array([3, 2, 1]),
            "log_probability": [-0.1 - 0.2, math.nan, -math.inf],
            "gmp": np.array([0.1, 0.2, np.nan], dtype=np.float32),
            "is_best": [True, False, True],
            "group": pd.Categorical(["move", "stay", "move"], categories=["stay", "move"]),
            "time_utc": pd.to_datetime(["2020-01-01", None, "2020-01-02"]),
            "n_maybe": pd.array([1, None, 3], dtype="Int64"),
        },
        index=[5, 3, 4],
    )


def test_evaluation_comes_back_exactly(opener: Opener) -> None:
    record = make_record()
    registry = opener()
    registry.record_run(record)
    key = {"kind": "groups", "runs": [record.id], "groups": {"all": "all"}}
    identity = registry.record_evaluation(key, evaluation_table(), [record.id])
    found = opener().find_evaluation(dict(reversed(key.items())))
    assert found is not None
    assert_frame_equal(found, evaluation_table(), check_exact=True)
    assert registry.find_evaluation({**key, "kind": "shares"}) is None
    listed = registry.evaluations()
    assert (listed["id"].tolist(), listed["key"].tolist(), listed["runs"].tolist()) == (
        [identity],
        [key],
        [[record.id]],
    )


def test_evaluation_is_recorded_once_and_never_silently_changed(registry: Registry) -> None:
    table = evaluation_table()
    identity = registry.record_evaluation({"a": 1}, table)
    assert registry.record_evaluation({"a": 1}, table) == identity
    assert len(registry.evaluations()) == 1
    with pytest.raises(ValueError, match="recorded with another table"):
        registry.record_evaluation({"a": 1}, table.iloc[::-1])
    registry.record_evaluation({"a": 1}, table.iloc[::-1], replace=True)
    found = registry.find_evaluation({"a": 1})
    assert found is not None
    assert found.index.tolist() == [4, 3, 5]
    assert registry.record_evaluation({"a": 1.0}, table) != identity


def test_table_that_would_not_come_back_is_refused(registry: Registry) -> None:
    with pytest.raises(ValueError, match="this table cannot be stored"):
        registry.record_evaluation({"a": 1}, pd.DataFrame({"x": [1, "one"]}))
    with pytest.raises(ValueError, match="this table would not come back"):
        registry.record_evaluation({"a": 1}, pd.DataFrame({"x": [(1, 2), (3, 4)]}))
    with pytest.raises(ValueError, match="unknown run abc"):
        registry.record_evaluation({"a": 1}, evaluation_table(), ["abc"])
    assert registry.find_evaluation({"a": 1}) is None


def test_figure_knows_its_runs_caption_and_notes(registry: Registry, tmp_path: Path) -> None:
    record = make_record()
    registry.record_run(record)
    (tmp_path / "map.png").write_bytes(b"a map")
    known = {"name": "map", "caption": "Where", "annotations": {"model": "environment"}, "runs": [record.id]}
    identity = registry.record_figure(tmp_path / "map.png", **known)
    assert registry.record_figure(tmp_path / "map.png", **known) == identity
    assert registry.record_figure(tmp_path / "map.png", **{**known, "caption": "Here"}) != identity
    registry.annotate(identity[:9], "for the paper")
    registry.annotate(identity, "printed")
    figure = registry.figures().set_index("id").loc[identity]
    assert {name: figure[name] for name in known} == known
    assert figure["notes"] == "for the paper; printed"
    assert registry.file(figure["file"]).read_bytes() == b"a map"
    with pytest.raises(ValueError, match="unknown runs abc, def"):
        registry.record_figure(tmp_path / "map.png", name="map", runs=["abc", record.id, "def"])


def test_notes_stay_with_a_run_and_are_listed(registry: Registry) -> None:
    record = make_record()
    registry.record_run(record)
    assert registry.annotate(record.id[:6], "odd: see “sst”") == record.id
    registry.record_run(record, replace=True)
    assert registry.runs()["notes"].tolist() == ["odd: see “sst”"]
    with pytest.raises(ValueError, match="the text of a note"):
        registry.annotate(record.id, " ")
    with pytest.raises(ValueError, match="no run or figure or experiment 'zz'"):
        registry.annotate("zz", "text")


# Files


def test_file_is_found_by_the_hash_of_its_content(registry: Registry, tmp_path: Path) -> None:
    (tmp_path / "a.keras").write_bytes(b"weights")
    address = registry.put_file(tmp_path / "a.keras")
    assert address == registry.put_file(b"weights", ".keras")
    assert address == hashlib.sha256(b"weights").hexdigest()
    path = registry.file(address)
    assert (path.name, path.parent.name) == (f"{address}.keras", address[:2])
    assert path.read_bytes() == b"weights"
    assert [p.name for p in path.parent.iterdir()] == [path.name]  # nothing temporary is left
    path.write_bytes(b"w")  # cut off, by a power cut say
    registry.put_file(b"weights", ".keras")
    assert path.read_bytes() == b"weights"


def test_missing_file_and_odd_suffix_are_refused(registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="expected a file to store"):
        registry.put_file(tmp_path / "nothing.keras")
    with pytest.raises(ValueError, match="a suffix is a dot and letters"):
        registry.put_file(b"x", "/../x")
    with pytest.raises(FileNotFoundError, match="no file aaaaaaaaaaaa"):
        registry.file("a" * 64)
    with pytest.raises(FileNotFoundError, match="no file aaaaaaaaaaaa"):
        registry.record_run(make_record(files={"model": "a" * 64}))
    assert len(registry.runs()) == 0


def test_archive_moves_files_without_a_record_and_tells_records_without_a_file(registry: Registry) -> None:
    kept, lost, gone = (registry.put_file(content, ".keras") for content in (b"kept", b"lost", b"gone"))
    registry.record_run(make_record(0, files={"model": kept, "last": kept}))
    registry.record_run(make_record(1, files={"model": lost}))
    registry.record_run(make_record(2, files={"model": gone, "last": kept}))
    registry.file(lost).unlink()
    old = registry.file(gone)
    assert registry.delete_runs([make_record(2).id, "unknown"]) == 1
    report = registry.archive()
    assert [p.name for p in report.moved] == [f"{gone}.keras"]
    assert report.moved[0].read_bytes() == b"gone"
    assert "archive" in report.moved[0].parts
    assert not old.exists()
    assert report.missing.to_dict(orient="records") == [
        {"record": make_record(1).id, "kind": "run", "role": "model", "sha256": lost}
    ]
    assert registry.file(kept).is_file()
    with pytest.raises(FileNotFoundError, match="it was archived as"):
        registry.file(gone)
    assert registry.archive().moved == ()


def test_file_that_waits_for_its_record_is_archived_only_when_it_is_old(registry: Registry) -> None:
    address = registry.put_file(b"new", ".keras")
    assert registry.archive().moved == ()
    hour_ago = time.time() - 3600
    os.utime(registry.file(address), (hour_ago, hour_ago))
    registry.put_file(b"new", ".keras")  # wanted again
    assert registry.archive().moved == ()
    os.utime(registry.file(address), (hour_ago, hour_ago))
    assert [p.stem for p in registry.archive().moved] == [address]


def test_archive_never_writes_over_an_archived_file(registry: Registry) -> None:
    for _ in range(2):
        address = registry.put_file(b"twice", ".keras")
        registry.record_run(make_record(files={"model": address}))
        registry.delete_runs([make_record().id])
        (moved,) = registry.archive().moved
    assert sorted(p.name for p in moved.parent.iterdir()) == sorted([f"{address}.keras", f"{address}-2.keras"])


def test_deleted_run_takes_its_epochs_and_uses_along(registry: Registry) -> None:
    registry.record_run(make_record(0))
    registry.record_run(make_record(1))
    registry.delete_runs([make_record(0).id])
    assert registry.runs(experiment="study")["seed"].tolist() == [1]
    assert set(registry.epochs()["run"]) == {make_record(1).id}


# Export


def test_export_holds_every_table_with_all_digits(registry: Registry, tmp_path: Path) -> None:
    record = make_record(history=make_history(3, gradient_norm=[0.1 + 0.2, math.nan, math.inf]))
    registry.record_run(record)
    registry.record_attempt(record.id)
    registry.record_experiment(name="study", configuration={"a": 1})
    registry.record_evaluation({"a": 1}, evaluation_table())
    registry.annotate(record.id, "a note, with comma")
    paths = registry.export(tmp_path / "csv")
    assert {p.stem for p in paths} == {*registry_tables.TABLES, "runs_wide", "evaluation_rows"}
    tables = {p.stem: pd.read_csv(p) for p in paths}
    assert json.loads(tables["runs"].loc[0, "configuration"]) == record.configuration
    assert tables["runs_wide"].loc[0, "units"] == "24-24"
    np.testing.assert_array_equal(tables["epochs"]["gradient_norm"], [0.1 + 0.2, math.nan, math.inf])
    assert tables["notes"].loc[0, "text"] == "a note, with comma"
    assert len(tables["evaluation_rows"]) == 3
    with pytest.raises(FileExistsError, match="choose another folder"):
        registry.export(tmp_path / "csv")
    assert registry.export(tmp_path / "csv", overwrite=True) == paths


def test_figures_are_copied_out_under_readable_names(registry: Registry, tmp_path: Path) -> None:
    names = [("Difference map/2019", b"1"), ("response", b"2"), ("response", b"3")]
    ids = [registry.record_figure(raw, name=name, suffix=".png") for name, raw in names]
    registry.export(tmp_path / "csv", figures=True)
    found = {p.name: p.read_bytes() for p in (tmp_path / "csv" / "figures").glob("*.png")}
    assert found == {
        "Difference_map_2019.png": b"1",
        f"response-{ids[1][:8]}.png": b"2",
        f"response-{ids[2][:8]}.png": b"3",
    }
    index = pd.read_csv(tmp_path / "csv" / "figures" / "index.csv")
    assert set(index["exported_as"]) == set(found)


# Several writers, interruptions, damage


def write_runs(opener: Opener, first: int, n_runs: int) -> int:
    """What one of several processes does."""
    registry = opener()
    for seed in range(first, first + n_runs):
        record = make_record(seed, n_epochs=30, files={"model": registry.put_file(f"model {seed % 7}".encode())})
        registry.record_attempt(record.id, "study")
        assert registry.record_run(record)
    return n_runs


@pytest.fixture(scope="module")
def four_processes() -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(4, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield pool


def test_four_processes_that_write_at_once_lose_nothing(opener: Opener, four_processes: ProcessPoolExecutor) -> None:
    done = [four_processes.submit(write_runs, opener, first, 25) for first in range(0, 100, 25)]
    assert [one.result() for one in done] == [25] * 4
    registry = opener()  # made by whichever process came first
    assert sorted(registry.runs()["seed"]) == list(range(100))
    epochs = registry.epochs()
    assert epochs.groupby("run").size().tolist() == [30] * 100
    assert len(registry.attempts()) == 100
    report = registry.archive()
    assert (report.moved, len(report.missing)) == ((), 0)


def test_threads_may_share_a_registry(registry: Registry) -> None:
    threads = [threading.Thread(target=registry.record_run, args=(make_record(seed),)) for seed in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(registry.runs()["seed"]) == list(range(12))


def test_same_run_recorded_at_once_by_two_is_recorded_once(opener: Opener) -> None:
    registries = [opener(), opener()]
    results: list[bool] = []
    threads = [threading.Thread(target=lambda r=r: results.append(r.record_run(make_record()))) for r in registries]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [False, True]


def write_until_killed(folder: Path) -> None:
    registry = Registry(folder)
    for seed in range(10_000):
        registry.record_run(make_record(seed, n_epochs=40))


def test_killed_writer_leaves_whole_runs_only(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    process = multiprocessing.get_context("spawn").Process(target=write_until_killed, args=(tmp_path,))
    process.start()
    deadline = time.monotonic() + 60
    while len(registry.runs()) < 5 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    runs = registry.runs()
    assert len(runs) >= 5
    assert runs["seed"].tolist() == list(range(len(runs)))
    assert registry.epochs().groupby("run").size().tolist() == [40] * len(runs)
    assert registry.record_run(make_record(len(runs), n_epochs=40))


def test_failed_write_is_undone_whole(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mimic.registry.delete_runs", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        registry.record_run(make_record())
    monkeypatch.undo()
    assert len(registry.runs()) == 0
    with pytest.raises(ValueError, match="no experiment 'study'"):
        registry.runs(experiment="study")
    assert registry.record_run(make_record())


def test_locked_registry_is_told_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry_tables, "BUSY_S", 0.05)
    registry = Registry(tmp_path)
    with registry._database.writing(), pytest.raises(TimeoutError, match="held by other processes for 0.05 s"):
        registry.record_run(make_record())
    assert len(registry.runs()) == 0


def test_reader_does_not_wait_for_a_writer(registry: Registry) -> None:
    with registry._database.writing():
        assert len(registry.runs()) == 0


def test_sqlite_file_is_in_wal_mode_and_has_its_schema_version(tmp_path: Path) -> None:
    Registry(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["registry.sqlite"]
    connection = sqlite3.connect(tmp_path / "registry.sqlite")
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert connection.execute("SELECT * FROM about").fetchall() == [("schema_version", "1")]
    connection.close()


def set_version(folder: Path, statement: str) -> None:
    connection = sqlite3.connect(folder / "registry.sqlite")
    connection.execute(statement)
    connection.commit()
    connection.close()


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("UPDATE about SET value = '2'", "made by a newer mimic .schema 2; this one knows 1.; update mimic"),
        ("UPDATE about SET value = 'x'", "unknown schema version 'x'; expected 1"),
        ("DELETE FROM about", "unknown schema version None"),
        ("DROP TABLE about", "a database, but no registry of mimic"),
    ],
)
def test_database_of_another_schema_is_refused(tmp_path: Path, statement: str, message: str) -> None:
    Registry(tmp_path)
    set_version(tmp_path, statement)
    with pytest.raises(ValueError, match=message):
        Registry(tmp_path)


def test_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "registry.sqlite").write_text("id,loss\n1,0.5\n" * 100)
    with pytest.raises(ValueError, match="is no SQLite database, or it is damaged"):
        Registry(tmp_path)
    assert (tmp_path / "registry.sqlite").read_text().startswith("id,loss")


def test_place_without_a_registry_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="it has no registry.sqlite. Give the folder of a registry"):
        Registry(tmp_path / "nothing", create=False)
    assert not (tmp_path / "nothing").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match="expected the folder of a registry"):
        Registry(tmp_path / "file")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("mysql://user:secret@host/name", r"begins with postgresql://; got mysql://user:\*\*\*@host/name"),
        ("sqlite:///x.sqlite", "expected a folder"),
        ("://host/name", "expected a folder or a URL"),
    ],
)
def test_url_that_is_none_of_ours_is_refused_without_its_password(url: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Registry(url)


def test_server_that_does_not_answer_is_told(tmp_path: Path) -> None:
    pytest.importorskip("psycopg", reason="psycopg is absent")
    with pytest.raises(OSError, match=r"the registry postgresql\S*://mimic:\*\*\*@\S* could not be used"):
        Registry(f"postgresql://mimic:secret@/postgres?host={tmp_path}")


def test_missing_driver_is_named_with_its_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(*_: object, **__: object) -> sa.Engine:
        raise ModuleNotFoundError("No module named 'psycopg'")

    monkeypatch.setattr(sa, "create_engine", absent)
    with pytest.raises(ModuleNotFoundError, match=r"needs psycopg; pip install \"mimic\[postgres\]\""):
        Registry("postgresql://mimic@localhost/postgres")


@pytest.mark.parametrize("opener", ["postgresql"], indirect=True)
def test_url_without_a_folder_for_files_says_so_when_one_is_stored(opener: Opener) -> None:
    with pytest.raises(ValueError, match="open it with files=FOLDER"):
        Registry(opener.args[0]).put_file(b"x")  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"id": ""}, "expected the id of a run"),
        ({"status": "done"}, "status must be one of finished, diverged, failed; got 'done'"),
        ({"history": pd.DataFrame({"loss": [1.0]})}, "a history needs the column epoch; it has loss"),
    ],
)
def test_record_that_is_none_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_record(**changes)


def test_configuration_with_nan_is_refused(registry: Registry) -> None:
    with pytest.raises(ValueError, match="got nan at training.rate"):
        registry.record_run(RunRecord("ab", "study", "m", {"training": {"rate": math.nan}}))
