"""Grids of members trained and recorded: nothing twice, choices on validation, halving, divergence and faults."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tiny import fit, write_experiment

from mimic.model import load_model
from mimic.registry import Registry
from mimic.sweep import MemberFailure

Mimic = Callable[..., tuple[int, str, str]]

GRID = """
training: {epochs: 3, units: [3], batch_decisions: 32, learning_rate: 0.01}
grid: {learning_rate: [0.001, 0.1], seed: [0, 1]}
models:
  none: {features: []}
  depth: {features: [depth]}
  both: {features: [depth, noise]}
"""
LOSS = "val_true_contrast_loss"


def runs_of(folder: Path) -> pd.DataFrame:
    return Registry(folder / "registry", create=False).runs()


def test_members_are_models_times_grid_and_each_is_recorded_with_what_the_tables_say(tmp_path: Path) -> None:
    _, found = fit(tmp_path, GRID)
    names = [f"{m}/learning_rate={r},seed={s}" for m in ("depth", "both") for r in (0.001, 0.1) for s in (0, 1)]
    assert found.members["member"].tolist() == names
    assert found.n_trained == 8
    assert list(found.models) == ["none", "depth", "depth_seeds", "both", "both_seeds"]
    recorded = runs_of(tmp_path).set_index("id").loc[found.members["run"]]
    assert set(recorded["status"]) == {"finished"}
    assert recorded[LOSS].tolist() == found.members[LOSS].tolist()
    assert recorded["learning_rate"].tolist() == [0.001, 0.001, 0.1, 0.1] * 2
    registry = Registry(tmp_path / "registry")
    for member, part in found.history.groupby("member", sort=False):
        run = found.members.set_index("member")["run"][member]
        kept = registry.epochs([run])
        assert kept["loss"].tolist() == part["loss"].tolist()
        assert part["epoch"].tolist() == [1, 2, 3]
    attempts = registry.attempts()
    assert sorted(attempts["run"]) == sorted(found.members["run"])  # each started once
    assert registry.experiments()["n_runs"].tolist() == [8]


def test_chosen_member_has_the_lowest_validation_loss_of_the_configuration_with_the_lowest_median(
    tmp_path: Path,
) -> None:
    _, found = fit(tmp_path, GRID)
    for model in ("depth", "both"):
        own = found.members[found.members["model"] == model]
        medians = own.groupby("configuration", sort=False)[LOSS].median()
        best = own[own["configuration"] == medians.idxmin()]
        row = best.loc[best[LOSS].idxmin()]
        assert found.chosen[model] == row["member"]
        assert found.runs[model] == [row["run"]]
        assert found.best_epochs[model] == row["best_epoch"]
        table = found.selection[found.selection["model"] == model].set_index("configuration")
        np.testing.assert_allclose(table["median"], medians)
        np.testing.assert_allclose(table["spread"], table["p90"] - table["min"])
        np.testing.assert_allclose(table["p90"], own.groupby("configuration", sort=False)[LOSS].quantile(0.9))


def test_model_of_seeds_is_the_mean_probability_of_the_seeds_of_the_chosen_configuration(tmp_path: Path) -> None:
    prepared, found = fit(tmp_path, GRID)
    cs, registry = prepared.choice_sets, Registry(tmp_path / "registry")
    configuration = found.members.set_index("member")["configuration"][found.chosen["both"]]
    own = found.members[found.members["configuration"] == configuration]
    assert sorted(found.runs["both_seeds"]) == sorted(own["run"])
    probabilities = []
    for run in own["run"]:
        record = registry.find_run(run)
        assert record is not None
        odds = np.exp(load_model(registry.file(record.files["model"])).log_odds(cs)).reshape(-1, 4)
        probabilities.append(odds / odds.sum(axis=1, keepdims=True))  # (decision, choice)
    of_ensemble = np.exp(found.log_odds["both_seeds"]).reshape(-1, 4)
    of_ensemble /= of_ensemble.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(of_ensemble, np.mean(probabilities, axis=0), rtol=1e-5)


def test_same_experiment_is_found_and_one_character_makes_other_runs(tmp_path: Path) -> None:
    _, first = fit(tmp_path, GRID)
    _, again = fit(tmp_path, GRID)
    assert again.n_trained == 0
    pd.testing.assert_frame_equal(again.members, first.members)
    pd.testing.assert_frame_equal(again.history, first.history)
    for name, log_odds in first.log_odds.items():
        np.testing.assert_array_equal(again.log_odds[name], log_odds)
    _, other = fit(tmp_path, GRID.replace("batch_decisions: 32", "batch_decisions: 31"))
    assert other.n_trained == 8
    assert not set(other.members["run"]) & set(first.members["run"])
    _, more = fit(tmp_path, GRID.replace("seed: [0, 1]", "seed: [0, 1, 2]"))
    assert more.n_trained == 4  # two models, two learning rates
    assert len(runs_of(tmp_path)) == 20


def test_other_data_make_other_runs_and_other_columns_do_not(tmp_path: Path) -> None:
    text = GRID.replace("grid:", "#grid:")
    _, first = fit(tmp_path, text)
    table = pd.read_csv(tmp_path / "table.csv")
    table.assign(noise=table["noise"] + 1e-3).to_csv(tmp_path / "table.csv", index=False)
    _, other = fit(tmp_path, text)
    ids = [one.members.set_index("model")["run"] for one in (first, other)]
    assert ids[0]["depth"] == ids[1]["depth"]
    assert ids[0]["both"] != ids[1]["both"]
    assert other.n_trained == 1


def test_retrain_trains_again_and_replaces_with_the_same_bits(tmp_path: Path) -> None:
    text = GRID.replace("grid:", "#grid:")
    _, first = fit(tmp_path, text)
    files = runs_of(tmp_path).shape, sorted((tmp_path / "registry" / "files").rglob("*.keras"))
    _, again = fit(tmp_path, text, retrain=True)
    assert again.n_trained == 2
    pd.testing.assert_frame_equal(again.members, first.members)
    assert (runs_of(tmp_path).shape, sorted((tmp_path / "registry" / "files").rglob("*.keras"))) == files
    assert len(Registry(tmp_path / "registry").attempts()) == 4


def test_run_whose_model_file_is_gone_is_trained_again(tmp_path: Path) -> None:
    text = GRID.replace("grid:", "#grid:")
    _, first = fit(tmp_path, text)
    registry = Registry(tmp_path / "registry")
    record = registry.find_run(first.runs["depth"][0])
    assert record is not None
    registry.file(record.files["model"]).unlink()
    _, again = fit(tmp_path, text)
    assert again.n_trained == 1
    np.testing.assert_array_equal(again.log_odds["depth"], first.log_odds["depth"])


# Successive halving

HALVING = """
training: {{epochs: 12, units: [3], batch_decisions: 32, evaluate_every: {every}}}
grid: {{learning_rate: [0.0001, 0.001, 0.003, 0.1], seed: [0, 1]}}
search: {{method: {method}, factor: 2, min_epochs: 3}}
models: {{both: {{features: [depth, noise]}}}}
"""


@pytest.mark.parametrize(("every", "ends"), [(1, [3, 6, 12]), (5, [5, 10, 12])])
def test_halving_finds_the_winner_of_the_full_grid_bit_for_bit_with_half_of_the_epochs(
    tmp_path: Path, every: int, ends: list[int]
) -> None:
    folders = {method: tmp_path / method for method in ("full", "halving")}
    found = {}
    for method, folder in folders.items():
        folder.mkdir()
        found[method] = fit(folder, HALVING.format(method=method, every=every))[1]
    full, halved = found["full"], found["halving"]
    assert halved.chosen == full.chosen == {"both": "both/learning_rate=0.1,seed=" + full.chosen["both"][-1]}
    assert halved.runs == full.runs
    for name in ("both", "both_seeds"):
        np.testing.assert_array_equal(halved.log_odds[name], full.log_odds[name])
    kept = full.history[full.history["member"].isin(halved.members["member"])]
    pd.testing.assert_frame_equal(halved.history, kept.reset_index(drop=True))
    # 8 members, then 4, then 2; each rung from where the one before ended; 8 x 12 in full
    steps = np.diff([0, *ends])
    assert halved.search["epochs"].tolist() == ends
    assert halved.search["n_members"].tolist() == [8, 4, 2]
    assert halved.search["epochs_spent"].tolist() == (steps * [8, 4, 2]).tolist()
    assert set(halved.search["epochs_of_full_grid"]) == {96}
    assert len(full.search) == 0
    assert fit(folders["halving"], HALVING.format(method="halving", every=every))[1].n_trained == 0
    # In the registry of the halving, the full grid trains only what did not reach the end.
    assert fit(folders["halving"], HALVING.format(method="full", every=every))[1].n_trained == 6


@pytest.mark.parametrize(
    "option",
    [
        "dropout: 0.2, augmentation: {copies: 1, additive: {depth: 0.1}}",
        "loss: contrast_sampled, redraw: true",
        "schedule: {name: CosineDecay, decay_epochs: 4}",
        "plateau: {patience: 1}",
        "patience: 1, learning_rate: 0.3",
        "linear_skip: true",
    ],
)
def test_training_in_rungs_is_as_if_it_had_never_stopped(tmp_path: Path, option: str) -> None:
    text = (
        f"training: {{epochs: 4, units: [3], batch_decisions: 32, {option}}}\n"
        "grid: {l2: [0.0, 0.001]}\nsearch: {method: METHOD, factor: 2, min_epochs: 2}\n"
        "models: {both: {features: [depth, noise]}}\n"
    )
    full = fit(tmp_path, text.replace("METHOD", "full"), registry=tmp_path / "one")[1]
    halved = fit(tmp_path, text.replace("METHOD", "halving"), registry=tmp_path / "two")[1]
    assert halved.search["epochs"].tolist() == [2, 4]
    member = halved.chosen["both"]
    own = full.history[full.history["member"] == member].reset_index(drop=True)
    pd.testing.assert_frame_equal(halved.history, own)
    files = []
    for registry, found in (("one", full), ("two", halved)):
        opened = Registry(tmp_path / registry)
        record = opened.find_run(found.members.set_index("member")["run"][member])
        assert record is not None
        files.append(dict(record.files))
    assert files[0]["model"] == files[1]["model"]  # addresses: the content of the .keras files
    assert files[0]["last"] == files[1]["last"]


def test_halving_a_grid_over_epochs_is_refused(tmp_path: Path) -> None:
    text = HALVING.format(method="halving", every=1).replace(
        "learning_rate: [0.0001, 0.001, 0.003, 0.1]", "epochs: [3, 4]"
    )
    with pytest.raises(ValueError, match="model both: halving compares members after equal numbers of epochs"):
        fit(tmp_path, text)


# Divergence and failure

DIVERGING = """
training: {epochs: 4, units: [3], batch_decisions: 32, optimizer: sgd, learning_rate: 0.1}
models:
  depth: {features: [depth], grid: {seed: [0, 1]}}
  both: {features: [depth, noise], grid: {learning_rate: [1.e+25, 0.1], seed: [0, 1]}}
"""


def test_diverged_members_are_recorded_counted_and_never_chosen(tmp_path: Path) -> None:
    _, found = fit(tmp_path, DIVERGING)
    table = found.members[found.members["model"] == "both"].set_index("member")
    assert table["status"].tolist() == ["diverged"] * 2 + ["finished"] * 2
    assert table[LOSS].isna().tolist() == [True, True, False, False]
    chosen = found.selection[found.selection["model"] == "both"].set_index("configuration")
    assert chosen["n_diverged"].tolist() == [2, 0]
    assert np.isinf(chosen["median"].iloc[0])
    assert table["configuration"][found.chosen["both"]] == "both/learning_rate=0.1"
    recorded = runs_of(tmp_path).set_index("id").loc[table["run"].iloc[0]]
    assert recorded["status"] == "diverged"
    assert recorded["diverged_epoch"] == 1
    assert "the loss is not finite in epoch 1" in recorded["message"]
    assert "diverging" in recorded["verdicts"]
    assert fit(tmp_path, DIVERGING)[1].n_trained == 0  # a divergence is a result


def test_member_that_diverges_after_its_first_epoch_is_diverged_in_every_rung(tmp_path: Path) -> None:
    text = (
        "training: {epochs: 8, units: [3, 3], activation: linear, batch_decisions: 32, optimizer: sgd}\n"
        "grid: {learning_rate: [1.0, 1000.0], seed: [0, 1, 5]}\n"
        "search: {method: METHOD, factor: 2, min_epochs: 4}\nmodels: {both: {features: [depth, noise]}}\n"
    )
    full = fit(tmp_path, text.replace("METHOD", "full"), registry=tmp_path / "one")[1]
    halved = fit(tmp_path, text.replace("METHOD", "halving"), registry=tmp_path / "two")[1]
    assert halved.search["epochs"].tolist() == [4, 8]
    table = halved.members.set_index("member")
    assert table["status"].tolist() == ["finished", "finished", "diverged"]
    assert table["best_epoch"].iloc[2] == 1  # it diverged before the first rung ended, with an epoch to keep
    pd.testing.assert_frame_equal(table, full.members.set_index("member").loc[table.index], check_dtype=False)
    assert halved.chosen == full.chosen
    assert sorted(halved.runs["both_seeds"]) == sorted(table["run"].iloc[:2])


@pytest.mark.parametrize("method", ["full", "halving"])
def test_model_whose_members_all_diverged_is_one_clear_error_and_other_models_are_kept(
    tmp_path: Path, mimic: Mimic, method: str
) -> None:
    text = DIVERGING.replace("[1.e+25, 0.1]", "[1.e+25, 1.e+26]")
    path = write_experiment(tmp_path, text + f"search: {{method: {method}, factor: 2, min_epochs: 2}}\n")
    code, out, err = mimic("run", path, "--out", tmp_path / "run", "--workers", 1)
    assert (code, out) == (2, "")
    assert err.startswith("mimic: model both: all 4 members diverged, and the first, both/learning_rate=1e+25,seed=0:")
    assert "the loss is not finite in epoch 1, minibatch" in err
    assert "Try a learning_rate below 1e+25 or a gradient_clip_norm." in err
    assert err.count("\n") == 1
    assert not (tmp_path / "run").exists()
    assert not list(tmp_path.glob(".run*"))
    assert (runs_of(tmp_path).query("model == 'depth'")["status"] == "finished").sum() == 2


def test_member_that_cannot_be_trained_is_one_clear_error_and_the_others_are_recorded(
    tmp_path: Path, mimic: Mimic
) -> None:
    text = (
        "training: {epochs: 2, units: [3], batch_decisions: 32}\n"
        "models:\n  linear: {features: [depth, use], training: {linear_skip: true}}\n  depth: {features: [depth]}\n"
    )
    path = write_experiment(tmp_path, text)  # `use` separates: it is highest where selected
    code, out, err = mimic("run", path, "--out", tmp_path / "run", "--workers", 1)
    assert (code, out) == (2, "")
    assert err.startswith("mimic: linear: the linear term has no optimum to start from:")
    assert "linear_skip: [depth, ...]" in err
    assert err.count("\n") == 1
    recorded = runs_of(tmp_path).set_index("model")
    assert recorded["status"].to_dict() == {"linear": "failed", "depth": "finished"}
    assert "no optimum" in recorded["message"]["linear"]
    path.write_text(path.read_text().replace("linear_skip: true", "linear_skip: [depth]"))
    code, text, err = mimic("run", path, "--out", tmp_path / "run", "--workers", 1, "--json")
    assert code == 0, err
    assert json.loads(text)["n_trained"] == 1


def test_failure_is_tried_again_and_never_takes_the_place_of_a_training_that_went_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = GRID.replace("grid:", "#grid:")

    def fail(*_: object) -> None:
        raise MemoryError("none left")

    with monkeypatch.context() as patch:
        patch.setattr(
            "mimic.sweep._FUNCTIONS", {"mimic.members:train_member": fail, "mimic.members:check_tasks": lambda *_: ""}
        )
        with pytest.raises(MemberFailure, match=r"depth: MemoryError: none left \(2 of 2 members failed\)"):
            fit(tmp_path, text)
        assert runs_of(tmp_path)["status"].tolist() == ["failed"] * 2
    assert fit(tmp_path, text)[1].n_trained == 2
    assert runs_of(tmp_path)["status"].tolist() == ["finished"] * 2
    with monkeypatch.context() as patch:
        patch.setattr(
            "mimic.sweep._FUNCTIONS", {"mimic.members:train_member": fail, "mimic.members:check_tasks": lambda *_: ""}
        )
        with pytest.raises(MemberFailure, match="none left"):
            fit(tmp_path, text, retrain=True)
    assert runs_of(tmp_path)["status"].tolist() == ["finished"] * 2


# The command line


def test_terminal_shows_spread_search_and_verdicts_and_the_folder_has_their_tables(
    tmp_path: Path, mimic: Mimic
) -> None:
    path = write_experiment(tmp_path, HALVING.format(method="halving", every=1))
    out = tmp_path / "run"
    code, text, err = mimic("run", path, "--out", out, "--workers", 1)
    assert code == 0, err
    search = pd.read_csv(out / "search.csv")
    assert search["epochs_spent"].sum() / search["epochs_of_full_grid"].iloc[0] == 0.5
    assert "Halving of both: members 8 to epoch 3, 4 to epoch 6, 2 to epoch 12; 48 of 96 epochs (50%)." in text
    members, selection = pd.read_csv(out / "members.csv"), pd.read_csv(out / "selection.csv")
    summary = json.loads((out / "summary.json").read_text())
    chosen = members.set_index("run").loc[summary["runs"]["both"][0]]
    row = selection.set_index("configuration").loc[chosen["configuration"]]
    shown = next(line.split() for line in text.splitlines() if line.strip().startswith("* both/"))
    assert shown == ["*", chosen["configuration"], "2", *(f"{row[c]:.4f}" for c in ("min", "median", "p90", "spread"))]
    if isinstance(chosen["verdicts"], str):
        assert f"  {chosen['member']}: {chosen['verdicts']}" in text
    assert "n_diverged" not in text


def test_long_grid_shows_its_best_configurations_and_counts_the_others() -> None:
    from mimic.report import _format_selection

    names = [f"m/units={n}" for n in range(15)]
    table = pd.DataFrame({"configuration": names, "n_seeds": 2, "n_diverged": 0, "min": 0.1, "model": "m"})
    table = table.assign(median=np.arange(15.0)[::-1], p90=1.0, spread=0.9)
    lines = _format_selection(table, {"m/units=14"}).splitlines()
    assert [line.split()[-6] for line in lines[1:-1]] == names[5:]
    assert [line.strip()[0] for line in lines[1:-1]].count("*") == 1
    assert lines[-1] == "  and 5 more with higher medians in selection.csv"


def test_kinds_of_models_stand_side_by_side(tmp_path: Path, mimic: Mimic) -> None:
    text = """
training: {epochs: 2, units: [3], batch_decisions: 32, learning_rate: 0.1}
grid: {seed: [0, 1]}
models:
  none: {features: []}
  logit: {features: [depth], kind: conditional_logit}
  crowd: {features: [depth], ensemble: {members: 2}, grid: {}}
  both: {features: [depth, noise]}
"""
    out = tmp_path / "run"
    code, _, err = mimic("run", write_experiment(tmp_path, text), "--out", out, "--workers", 1)
    assert code == 0, err
    members = pd.read_csv(out / "members.csv").set_index("member")
    assert list(members.index) == ["logit", "crowd", "both/seed=0", "both/seed=1"]
    evaluation = pd.read_csv(out / "evaluation.csv")
    assert evaluation["model"].unique().tolist() == ["none", "logit", "crowd", "both", "both_seeds"]
    assert sorted(p.stem for p in (out / "models").iterdir()) == ["both", "both_seeds", "crowd", "logit"]
    whole = evaluation.query("split == 'validation' and weighting == 'individual'").set_index("model")
    for model in ("logit", "crowd"):  # the losses in the registry are those of the evaluation
        assert members[LOSS][model] == pytest.approx(whole["contrast_loss"][model], rel=1e-5)
        assert members["val_true_decision_loss"][model] == pytest.approx(-whole["log_probability"][model], rel=1e-5)
    history = pd.read_csv(out / "history.csv")
    assert history.query("model == 'crowd'")[["fold", "epoch"]].to_numpy().tolist() == [[1, 1], [1, 2], [2, 1], [2, 2]]
    assert set(history.query("model == 'crowd'")["member"]) == {"crowd"}
    assert history.query("model == 'both'")["fold"].isna().all()


def test_evaluation_is_computed_once_and_found_again(
    tmp_path: Path, mimic: Mimic, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (
        GRID.replace("grid:", "#grid:")
        + "groups: {behaviors: {all: all, deep: selected_depth > 0}, shares: {d: depth > 0}}\n"
    )
    path = write_experiment(tmp_path, text)
    assert mimic("run", path, "--out", tmp_path / "run", "--workers", 1)[0] == 0
    tables = {name: (tmp_path / "run" / name).read_bytes() for name in ("evaluation.csv", "shares.csv")}
    with monkeypatch.context() as patch:
        patch.setattr("mimic.recorded.assess", lambda *_: pytest.fail("computed again"))
        code, _, err = mimic("run", path, "--out", tmp_path / "again", "--workers", 1)
        assert code == 0, err
    assert {name: (tmp_path / "again" / name).read_bytes() for name in tables} == tables
    # Another order is another table.
    path.write_text(
        path.read_text().replace("{all: all, deep: selected_depth > 0}", "{deep: selected_depth > 0, all: all}")
    )
    assert mimic("run", path, "--out", tmp_path / "other", "--workers", 1)[0] == 0
    assert pd.read_csv(tmp_path / "other" / "evaluation.csv")["behavior_group"].iloc[0] == "deep"


def test_figures_are_recorded_with_the_runs_behind_them(tmp_path: Path, mimic: Mimic) -> None:
    path = write_experiment(tmp_path, GRID.replace("[0.001, 0.1]", "[0.1]"))
    code, text, err = mimic("run", path, "--out", tmp_path / "run", "--workers", 1, "--json")
    assert code == 0, err
    figures = Registry(tmp_path / "registry").figures().set_index("name")
    assert sorted(figures.index) == ["tiny_chain", "tiny_groups", "tiny_training"]
    summary = json.loads(text)
    for name, row in figures.iterrows():
        drawn = tmp_path / "run" / "figures" / f"{str(name).removeprefix('tiny_')}.png"
        assert row["file"] == hashlib.sha256(drawn.read_bytes()).hexdigest()
        assert set(row["runs"]) == {run for ids in summary["runs"].values() for run in ids}


def test_registry_within_the_run_folder_is_refused_before_any_work(tmp_path: Path, mimic: Mimic) -> None:
    path = write_experiment(tmp_path, GRID)
    for arguments in (
        ["--out", tmp_path / "registry"],
        ["--out", tmp_path / "run", "--registry", tmp_path / "run" / "r"],
    ):
        code, _, err = mimic("run", path, *arguments)
        assert code == 2
        assert "would lie in the run folder" in err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["table.csv", "tiny.yaml"]


def test_registry_at_a_url_needs_a_folder_for_files_and_workers_and_cluster_exclude_each_other(
    tmp_path: Path, mimic: Mimic
) -> None:
    path = write_experiment(tmp_path, GRID)
    code, _, err = mimic("run", path, "--out", tmp_path / "run", "--registry", "postgresql://localhost/none")
    assert code == 2
    assert "--files FOLDER" in err
    code, _, err = mimic("run", path, "--out", tmp_path / "run", "--workers", 2, "--cluster", "tcp://localhost:1")
    assert code == 2
    assert "give one of them" in err


def test_runs_of_an_experiment_are_listed_and_shown(tmp_path: Path, mimic: Mimic) -> None:
    _, found = fit(tmp_path, GRID)
    registry = tmp_path / "registry"
    code, text, err = mimic("runs", "list", "--registry", registry, "--model", "both", "--sort", LOSS, "--json")
    assert code == 0, err
    listed = json.loads(text)["runs"]
    own = found.members[found.members["model"] == "both"].sort_values(LOSS)
    assert [run["id"] for run in listed] == own["run"].tolist()
    code, text, err = mimic("runs", "list", "--registry", registry, "--where", "learning_rate < 0.01")
    assert code == 0, err
    assert "4 runs" in text
    run = found.runs["both"][0]
    code, text, err = mimic("runs", "show", run[:10], "--registry", registry, "--json")
    assert code == 0, err
    shown = json.loads(text)
    assert shown["id"] == run
    assert shown["configuration"]["training"]["learning_rate"] == 0.1
    assert [row["epoch"] for row in shown["history"]] == [1, 2, 3]
    code, text, err = mimic("runs", "show", run[:10], "--registry", registry)
    assert code == 0, err
    assert LOSS in text
