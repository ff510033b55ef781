"""Tables of a page: probabilities, ranks and places of decisions, figures of individuals, thinning, curves."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from explained import choose, linear, world
from tiny import write_experiment, write_table

from mimic.configuration import load_configuration
from mimic.hexgrid import cell_at
from mimic.page_tables import (
    NULL,
    curve_tables,
    decision_tables,
    individual_tables,
    page_tables,
    selected_ranks,
    thinned,
)
from mimic.palette import COLORS, DIFFERENCE_COLORS, interpolated, model_colors
from mimic.schema import ChoiceSets
from mimic.store import save_choice_sets

# Two decisions: of "b" among odds 1 : 3 the second was selected, of "a", a day earlier, among 8 : 1 : 1 : 6 the first move.
TIMES = pd.to_datetime(["2020-01-02", "2020-01-01"])


def _cells(n: int) -> np.ndarray:
    return cell_at(np.array([10.0, 11.0, 12.0, 13.0])[:n], np.full(n, 50.0), 4)


def _two(**context: object) -> ChoiceSets:
    cells = _cells(4)
    decisions = pd.DataFrame({"individual": ["b", "a"], "decision": [0, 0], "time_utc": TIMES, "origin": cells[0]})
    stay = np.array([1.0, 0.0, 1.0, 0.0, 0.0, 0.0])
    choice = np.concatenate([cells[:2], cells])
    return ChoiceSets(decisions.assign(**context), [0, 2, 6], choice, [1, 3], {"stay": stay})


ODDS = {"m": np.log(np.array([1.0, 3.0, 8.0, 1.0, 1.0, 6.0]))}


def test_decisions_are_sorted_by_time_with_probability_rank_and_null() -> None:
    decisions, log_p, rank = decision_tables(_two(), ODDS, places=False)
    assert decisions["individual"].tolist() == ["a", "b"]
    # 1 of 8 + 1 + 1 + 6; 3 of 1 + 3
    assert np.exp(log_p["m"]).tolist() == pytest.approx([1 / 16, 3 / 4])
    assert np.exp(log_p[NULL]).tolist() == pytest.approx([1 / 4, 1 / 2])
    # two are more probable, and one is a tie: between place 3 and 4; among equals the middle of 1 to n
    assert rank["m"].tolist() == [3.5, 1.0]
    assert rank[NULL].tolist() == [2.5, 1.5]
    assert decisions["n_choices"].tolist() == [4, 2]
    assert decisions["stay"].tolist() == [0.0, 0.0]
    assert decisions["split"].tolist() == ["all", "all"]


def test_places_are_those_of_the_animal_or_of_its_cell() -> None:
    without, _, _ = decision_tables(_two(), ODDS, places=True)
    known = _two(longitude=[10.2, np.nan], latitude=[50.1, np.nan])
    with_fixes, _, _ = decision_tables(known, ODDS, places=True)
    assert without["longitude"].tolist() == without["origin_longitude"].tolist()
    assert with_fixes["longitude"].tolist() == [without["origin_longitude"][0], 10.2]
    # both selected the second cell, whose center is near 11 degrees east
    assert without["selected_longitude"].to_numpy() == pytest.approx([11.0, 11.0], abs=0.3)
    assert without["selected_latitude"].to_numpy() == pytest.approx([50.0, 50.0], abs=0.3)


def test_stay_is_unknown_where_no_choice_is_to_stay() -> None:
    cs = _two()
    bins = ChoiceSets(cs.decisions, cs.offsets, [0, 1, 0, 1, 2, 3], cs.selected)
    decisions, _, _ = decision_tables(bins, ODDS, places=False)
    assert decisions["stay"].isna().all()


def test_rank_does_not_change_when_log_odds_are_shifted() -> None:
    cs = choose(world(n_individuals=3, n_decisions=10, seed=2), np.zeros(150))
    phi = np.random.default_rng(1).normal(size=cs.n_rows)
    ranks = selected_ranks(phi, cs)
    assert selected_ranks(phi + 5, cs).tolist() == ranks.tolist()
    assert selected_ranks(-phi, cs).tolist() == (cs.n_choices + 1 - ranks).tolist()


def test_individuals_have_the_means_of_their_own_decisions() -> None:
    decisions = pd.DataFrame(
        {
            "individual": ["seal 10", "seal 2", "seal 2"],
            "decision": [0, 0, 1],
            "split": ["train", "validation", "validation"],
            "time_utc": pd.to_datetime(["2020-01-01", "2020-01-03", "2020-01-02"]),
            "stay": [1.0, 1.0, 0.0],
        }
    )
    log_p = pd.DataFrame({"m": np.log([0.5, 0.2, 0.8]), NULL: np.log([0.25, 0.1, 0.1])})
    individuals, scores = individual_tables(decisions, log_p)
    assert individuals["individual"].tolist() == ["seal 2", "seal 10"]  # 2 before 10
    assert individuals["n_decisions"].tolist() == [2, 1]
    assert individuals["stay_share"].tolist() == [0.5, 1.0]
    assert individuals["first_utc"].tolist() == [pd.Timestamp("2020-01-02"), pd.Timestamp("2020-01-01")]
    row = scores.set_index(["individual", "model"]).loc[("seal 2", "m")]
    # the geometric mean of 0.2 and 0.8 is 0.4: four times the null's 0.1
    assert row[["gmp", "null_gmp", "lift"]].tolist() == pytest.approx([0.4, 0.1, 4.0])
    assert scores.set_index(["individual", "model"]).loc[("seal 10", NULL), "lift"] == pytest.approx(1.0)


def test_thinning_keeps_every_kth_decision_of_each_individual() -> None:
    decisions = pd.DataFrame({"individual": ["a"] * 6 + ["b"] * 4})
    assert thinned(decisions, 1).all()
    # 10 decisions, at most 4: every third
    kept = thinned(decisions, 1, limit=4)
    assert np.flatnonzero(kept).tolist() == [0, 3, 6, 9]


def test_curve_of_a_linear_model_has_its_slope_and_constant_features_have_none() -> None:
    cs = choose(world(n_individuals=6, n_decisions=10, seed=3, night=True), np.zeros(300))
    curves = curve_tables({"m": linear(a=2.0, b=-1.0)}, cs, n_decisions=60)
    assert curves["feature"].unique().tolist() == ["a", "b"]  # no noise, and night cancels
    one = curves[curves["feature"] == "a"]
    slope = np.diff(one["log_odds"]) / np.diff(one["value"])
    assert slope == pytest.approx(np.full(len(one) - 1, 2.0), rel=1e-4)


def _run(folder: Path, *, n_unknown: int = 0) -> Path:
    """A run folder written by hand: a table of choices, one model of log-odds and the baseline."""
    rows = write_table(folder)
    path = write_experiment(folder, "models: {m: {features: [depth]}}\n")
    run = folder / "run"
    (run / "models").mkdir(parents=True)
    (run / "configuration.yaml").write_text(load_configuration(path).to_yaml())
    keys = rows[["individual", "decision"]].drop_duplicates()
    n = len(keys)
    split = np.where(keys["individual"].isin(["a4", "a5"]), "validation", "train")
    selected = np.flatnonzero(rows["selected"])
    selected[:n_unknown] = -1
    features = {name: rows[name].to_numpy() for name in ("depth", "noise", "use")}
    cs = ChoiceSets(keys.assign(split=split), 4 * np.arange(n + 1), rows["choice"].to_numpy(), selected, features)
    save_choice_sets(cs, run / "choices")
    log_odds = {"m": 1.5 * rows["depth"], "conditional_logit": 1.4 * rows["depth"]}
    pd.DataFrame(log_odds).to_parquet(run / "log_odds.parquet", index=False)
    (run / "summary.json").write_text(json.dumps({"mimic": "0.1.0", "experiment": "tiny", "runs": {"m": ["ab"]}}))
    return run


def test_tables_of_a_run_leave_out_and_count_decisions_of_unknown_selection(tmp_path: Path) -> None:
    tables = page_tables(_run(tmp_path, n_unknown=3))
    assert (tables.n_unknown, tables.n_all, len(tables.log_probability)) == (3, 117, 117)
    assert tables.models == ("m", "conditional_logit")
    assert tables.pair == ("conditional_logit", "m") or tables.pair == ("m", "conditional_logit")
    assert tables.runs == {"m": ["ab"]}
    assert "without cells" in tables.no_map
    # the network of m was not kept: only the baseline, fitted again, has curves
    assert tables.curves["model"].unique().tolist() == ["conditional_logit"]
    assert len(tables.groups) == 0


def test_groups_keep_names_that_look_like_missing_values_and_models_stand_side_by_side(tmp_path: Path) -> None:
    run = _run(tmp_path)
    head = "model,split,choice_group,behavior_group,weighting,gmp,note"
    lines = [
        head,
        "none,train,all,NA,individual,0.1,",
        "none,train,move,NA,individual,,",
        "m,train,all,NA,individual,0.3,few",
    ]
    (run / "evaluation.csv").write_text("\n".join(lines) + "\n")
    groups = page_tables(run, curves=False).groups
    assert groups["model"].tolist() == ["none", "m", "none"]
    assert groups["behavior_group"].tolist() == ["NA"] * 3
    assert groups["gmp"].isna().tolist() == [False, False, True]


def test_table_of_groups_without_its_columns_is_refused_by_its_name(tmp_path: Path) -> None:
    run = _run(tmp_path)
    (run / "evaluation.csv").write_text("garbage\n1\n")
    with pytest.raises(ValueError, match="evaluation.csv: expected the columns model, split, .*; got garbage"):
        page_tables(run, curves=False)


def test_run_without_any_known_selection_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no decision whose selection is known"):
        page_tables(_run(tmp_path, n_unknown=120))


def test_colors_of_pages_are_those_of_figures() -> None:
    from matplotlib.colors import to_rgb

    from mimic import figures, maps

    assert figures.model_colors is model_colors
    assert model_colors(["a", "b", "a"]) == {"a": COLORS[0], "b": COLORS[1]}
    anchors = np.linspace(0, 1, len(DIFFERENCE_COLORS))
    # the map of a figure is a table of 256 colors: near its anchors, not on them
    ours = [to_rgb(color) for color in DIFFERENCE_COLORS]
    assert maps.DIFFERENCES(anchors)[:, :3] == pytest.approx(np.array(ours), abs=0.01)
    assert interpolated(DIFFERENCE_COLORS, 7) == list(DIFFERENCE_COLORS)
