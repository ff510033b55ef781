"""Ready strata: amt's random steps and raster windows become choice sets, and tell what they are not."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mimic.strata import amt_long_table, from_random_steps, read_random_steps
from mimic.windows import from_windows

# As write.csv(row.names = TRUE) gives amt's random_steps of two animals: step_id_ counts from 1 in each.
CSV = """"","id","burst_","step_id_","case_","x1_","y1_","x2_","y2_","sl_","ta_","t1_","t2_","dt_","forest"
"1","007",1,1,FALSE,0,0,0,200,200,3.14159265,2020-01-01T00:00:00Z,2020-01-01T06:00:00Z,6,0.2
"2","007",1,1,TRUE,0,0,100,0,100,0,2020-01-01T00:00:00Z,2020-01-01T06:00:00Z,6,0.8
"3","007",1,2,TRUE,100,0,100,0,0,NA,2020-01-01T06:00:00Z,2020-01-01T12:00:00Z,6,0.8
"4","007",1,2,FALSE,100,0,50,0,50,1.57079633,2020-01-01T06:00:00Z,2020-01-01T12:00:00Z,6,0.1
"5","8",1,1,TRUE,0,0,0,50,50,0,2020-01-01T00:00:00Z,2020-01-01T06:00:00Z,6,0.5
"6","8",1,1,FALSE,0,0,0,90,90,0,2020-01-01T00:00:00Z,2020-01-01T06:00:00Z,6,0.4
"""


def steps() -> pd.DataFrame:
    return pd.read_csv(io.StringIO(CSV), dtype={"id": str})


def test_strata_are_those_of_each_animal_although_their_step_ids_repeat() -> None:
    cs = from_random_steps(steps(), features=["forest"])
    assert list(zip(cs.individuals, cs.decisions["decision"], strict=True)) == [("007", 0), ("007", 1), ("8", 0)]
    assert cs.n_choices.tolist() == [2, 2, 2]
    assert cs.features["forest"][cs.selected].tolist() == pytest.approx([0.8, 0.8, 0.5])
    assert cs.choice.tolist() == [1, 0, 0, 1, 0, 1]  # 0 is the step that was made
    assert cs.decisions["time_utc"].iloc[1] == pd.Timestamp("2020-01-01 06:00")
    assert cs.decisions["step_id"].tolist() == [1, 2, 1]


def test_unknown_turn_gives_no_direction_and_a_step_of_no_length_has_a_logarithm() -> None:
    cs = from_random_steps(steps())
    stay = 2
    assert cs.features["turn_cos"][stay] == cs.features["turn_sin"][stay] == 0
    assert cs.features["log_step_length"][stay] == pytest.approx(np.log(50))  # of the shortest other step
    np.testing.assert_allclose(cs.features["turn_cos"][[0, 1]], [-1, 1])


def test_same_steps_in_two_bursts_are_two_strata() -> None:
    table = steps()[:2]
    both = pd.concat([table, table.assign(burst_=2)], ignore_index=True)
    assert from_random_steps(both).n_decisions == 2


def test_strata_that_run_together_are_named_with_the_missing_column() -> None:
    with pytest.raises(ValueError, match="1 of 2 steps have not exactly one observed end .*no column of the animal"):
        from_random_steps(steps().drop(columns="id"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"case_": "perhaps"}, "case_ must be TRUE or FALSE; got perhaps"),
        ({"sl_": -1.0}, "sl_ must be 0 or more; got 6 others"),
        ({"case_": "FALSE"}, "3 of 3 steps have not exactly one observed end"),
    ],
)
def test_faults_are_told(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_random_steps(steps().assign(**change))  # type: ignore[arg-type]


def test_missing_columns_are_named_at_once() -> None:
    with pytest.raises(ValueError, match="random steps: expected the columns step_id_, sl_"):
        amt_long_table(steps().drop(columns=["step_id_", "sl_"]))


def test_file_is_read_with_names_kept_as_text_and_formulas(tmp_path: Path) -> None:
    (tmp_path / "steps.csv").write_text(CSV)
    from mimic.schema import FeatureInfo

    features = {"wood": FeatureInfo("choice")}
    cs = read_random_steps(
        tmp_path / "steps.csv", features=features, individual="id", derive={"wood": "log(forest + 1)"}
    )
    assert set(cs.individuals) == {"007", "8"}
    np.testing.assert_allclose(cs.features["wood"][0], np.log(1.2), rtol=1e-6)


def test_experiment_takes_random_steps_as_its_table(tmp_path: Path) -> None:
    from mimic.configuration import load_configuration
    from mimic.preparation import prepare

    (tmp_path / "steps.csv").write_text(CSV)
    text = """
name: steps
table: {file: steps.csv, format: amt, features: [step_length, forest], columns: {individual: id}}
split: {validation: ["8"]}
models: {both: {features: [step_length, forest]}}
"""
    (tmp_path / "steps.yaml").write_text(text)
    cs = prepare(load_configuration(tmp_path / "steps.yaml")).choice_sets
    assert cs.n_decisions == 3
    assert cs.info["step_length"].role == "pair"
    (tmp_path / "steps.yaml").write_text(text.replace("individual: id", "individual: id, decision: step_id_"))
    with pytest.raises(ValueError, match="columns may name individual only"):
        load_configuration(tmp_path / "steps.yaml")


# ---------------------------------------------------------------- windows


def test_pixels_of_a_window_are_choices_with_their_distance_and_bearing() -> None:
    windows = np.arange(9.0).reshape(1, 1, 3, 3)
    cs, ledger = from_windows(windows, np.array([[1, 2]]), layers=["ndvi"], pixel_size=25.0)
    assert cs.choice.tolist() == list(range(9))
    assert cs.selected.tolist() == [5]  # row 1, column 2: east of the center
    assert (cs.features["heading_sin"][5], cs.features["heading_cos"][5]) == (1, 0)
    assert (cs.features["heading_sin"][1], cs.features["heading_cos"][1]) == (0, 1)  # the first row is north
    assert cs.features["distance_m"][[4, 5, 8]].tolist() == pytest.approx([0, 25, 25 * np.sqrt(2)])
    assert cs.features["stay"].tolist() == [0, 0, 0, 0, 1, 0, 0, 0, 0]
    assert cs.features["ndvi"].tolist() == list(range(9))
    assert ledger.entries == ()


def test_pixels_without_a_value_in_any_layer_are_no_choices_and_all_pixels_balance() -> None:
    windows = np.ones((3, 2, 3, 3))
    windows[0, 1, 0, 0] = np.nan
    windows[1, 0, 2, 2] = np.nan
    windows[2] = np.nan
    selected = np.array([[0, 1], [2, 2], [-1, -1]])
    cs, ledger = from_windows(windows, selected, layers=["a", "b"], pixel_size=1.0, individual=["x", "x", "y"])
    assert cs.n_decisions == 1
    assert cs.n_choices.tolist() == [8]
    assert cs.selected.tolist() == [0]  # pixel 1, the first that is left
    reasons = {e.reason: e.n for e in ledger.entries}
    assert reasons == {
        "selected pixel has no value": 1,
        "no pixel or only one left": 1,
        "pixel without a value": 1,
        "its decision was dropped": 18,
    }


def test_unknown_selection_of_a_window_is_minus_one() -> None:
    cs, _ = from_windows(np.ones((2, 1, 3, 3)), np.array([[-1, -1], [2, 2]]), layers=["a"], pixel_size=1.0)
    assert cs.selected.tolist() == [-1, 17]


@pytest.mark.parametrize(
    ("shape", "selected", "message"),
    [
        ((1, 1, 4, 3), [[0, 0]], "odd numbers of rows and columns; got 4 x 3"),
        ((1, 2, 3, 3), [[0, 0]], "with 1 layers"),
        ((1, 1, 3, 3), [[3, 0]], "lie outside windows of 3 x 3"),
        ((1, 1, 3, 3), [[0, 0], [1, 1]], r"\(decision, 2\) = \(1, 2\)"),
    ],
)
def test_windows_of_another_shape_are_refused(shape: tuple[int, ...], selected: list[list[int]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_windows(np.ones(shape), np.array(selected), layers=["a"], pixel_size=1.0)


def test_step_without_an_observed_end_is_for_prediction_only(tmp_path: Path) -> None:
    steps().assign(case_="FALSE").to_csv(tmp_path / "steps.csv", index=False)
    cs = read_random_steps(tmp_path / "steps.csv", features={}, individual="id", allow_unknown=True)
    assert cs.selected.tolist() == [-1, -1, -1]
    assert cs.choice.tolist() == [1, 2, 1, 2, 1, 2]
