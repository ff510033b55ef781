"""The library of an experiment: names, interactions, places and vectors from the file to choice sets, and its refusals."""

from __future__ import annotations

import json
import logging
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import Study
from feature_rows import two_decisions

from mimic.choice_rows import Rows
from mimic.choices import Source, build_choices, make_decisions
from mimic.configuration import Configuration, load_configuration
from mimic.factored import factor
from mimic.feature_library import expand_lists
from mimic.features import (
    LIBRARY,
    FeatureSpec,
    check_variation,
    compute_feature,
    format_formula,
    is_of_step,
    needs_history,
    origin_covariates,
)
from mimic.features_cli import features_command
from mimic.formula import formula_columns
from mimic.memory import History
from mimic.memory_checks import check_past_only
from mimic.place_features import place_definitions
from mimic.preparation import Prepared, prepare
from mimic.schema import ChoiceSets
from mimic.tracks import resample_tracks

SST = np.array([4.0, 6.0, 8.0, 10.0, 20.0])
AT_ORIGIN = np.array([4.0, 4.0, 4.0, 10.0, 10.0])


def with_sst() -> Rows:
    rows = two_decisions(night=[1.0, 0.0], length_cm=[80.0, 100.0])
    return replace(rows, at_choice={"sst": SST}, at_origin={"sst": AT_ORIGIN}, units={"sst": "degC"})


def read(study: Study, text: str = "", *, models: str = "") -> Configuration:
    """The small study with sections added, and the features of its model `distance` replaced."""
    if models:
        study.edit("distance: {features: [distance_km, stay]}", f"distance: {{features: [{models}]}}")
    study.experiment.write_text(study.experiment.read_text() + text)
    return load_configuration(study.experiment)


def refusal(study: Study, text: str = "", *, models: str = "") -> str:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the message is what the tests look at
        read(study, text, models=models)
    return str(caught.value)


def add_columns(study: Study, keep: str, **columns: object) -> None:
    table = pd.read_csv(study.folder / "tracks.csv", dtype={"fish": str})
    table.assign(**columns).to_csv(study.folder / "tracks.csv", index=False)
    study.edit("  resample: {step: 24h", f"  keep: [{keep}]\n  resample: {{step: 24h")


def add_feature(study: Study, line: str) -> None:
    study.edit("  depth: {source: elevation, multiply: -1}", f"  depth: {{source: elevation, multiply: -1}}\n  {line}")


def test_interaction_is_the_product_with_the_role_of_what_varies_most() -> None:
    rows = with_sst()
    values, info = compute_feature(FeatureSpec("x", source="sst", times=FeatureSpec("length_cm")), rows)
    assert values.tolist() == [320, 480, 640, 1000, 2000]  # 4 x 80 ... 20 x 100
    assert (info.role, info.unit, info.description) == (
        "choice",
        "degC",
        "sst at the choice, times length_cm of the decision",
    )
    change = FeatureSpec("x", source="sst", minus_origin=True, times=FeatureSpec("length_cm"))
    assert compute_feature(change, rows)[0].tolist() == [0, 160, 320, 0, 1000]
    assert compute_feature(change, rows)[1].role == "pair"
    both = FeatureSpec("x", source="length_cm", times=FeatureSpec("length_cm", transform="log"))
    assert compute_feature(both, rows)[1].role == "decision"


def test_interaction_of_three_is_the_product_of_all_and_has_every_unit() -> None:
    spec = FeatureSpec(
        "x", source="distance_km", times=FeatureSpec("sst", times=FeatureSpec("length_cm", multiply=0.01))
    )
    values, info = compute_feature(spec, with_sst())
    assert values.tolist() == pytest.approx([0, 10 * 6 * 0.8, 20 * 8 * 0.8, 0, 5 * 20 * 1.0])
    assert (info.role, info.unit) == ("pair", "km degC")
    assert format_formula(spec) == "distance_km sst 0.01 length_cm"


def test_interaction_means_what_a_colon_means_in_a_formula() -> None:
    rows = with_sst()
    product = compute_feature(FeatureSpec("x", source="sst", times=FeatureSpec("length_cm")), rows)[0]
    cs = ChoiceSets(rows.decisions, [0, 3, 5], rows.cell, [0, 3], {"sst": SST})
    np.testing.assert_allclose(formula_columns("sst:length_cm", cs)["sst:length_cm"], product)


def test_what_a_feature_needs_is_asked_of_its_factors_too() -> None:
    spec = FeatureSpec("x", source="distance_km", times=FeatureSpec("sst", minus_origin=True))
    assert origin_covariates(spec) == {"sst"}
    assert is_of_step(FeatureSpec("d", source="distance_km", transform="square"))
    assert not is_of_step(spec)  # though its source is
    assert not needs_history(spec)
    assert needs_history(FeatureSpec("x", source="sst", times=FeatureSpec("n_visits")))


def test_every_source_is_described_and_indicators_exist() -> None:
    for name, definition in LIBRARY.items():
        assert definition.name == name
        assert definition.description
        assert definition.formula
        assert not definition.known or LIBRARY[definition.known].role == "decision"


def test_names_that_stand_for_several_features_are_spelled_out_wherever_models_list_them() -> None:
    data = {
        "features": {"sex": {"source": "sex", "levels": ["f"]}, "size": {"source": "length", "missing": 1}},
        "models": {"a": {"features": ["sex", "size", "x"], "training": {"linear_skip": ["sex", "x"]}}},
        "baseline": {"features": ["size"]},
        "training": {"scaling": {"sex": "none", "x": "zscore"}, "linear_skip": True},
    }
    spelled = expand_lists(data)
    assert spelled["models"]["a"]["features"] == ["sex_f", "sex_unknown", "size", "size_known", "x"]
    assert spelled["models"]["a"]["training"]["linear_skip"] == ["sex_f", "sex_unknown", "x"]
    assert spelled["baseline"]["features"] == ["size", "size_known"]
    assert spelled["training"] == {
        "scaling": {"sex_f": "none", "sex_unknown": "none", "x": "zscore"},
        "linear_skip": True,
    }
    assert expand_lists(spelled) == spelled
    for strange in (None, [], {"features": 3}, {"features": {"a": 1}, "models": [1]}):
        assert expand_lists(strange) == strange


def test_levels_of_a_study_reach_its_model_and_the_ledger(study: Study) -> None:
    fish = pd.read_csv(study.folder / "tracks.csv", dtype={"fish": str})["fish"]
    add_columns(study, "sex, length", sex=fish.map({"00": "f", "01": "m", "02": "x"}), length=fish.map({"00": 80.0}))
    add_feature(study, "kind: {source: sex, levels: [f, m]}")
    add_feature(study, "size: {source: length, missing: 90}")
    configuration = read(study, models="distance_km, stay, kind, size")
    made = prepare(configuration)
    cs = made.choice_sets
    assert configuration.models["distance"].features[2:] == ["kind_f", "kind_m", "kind_unknown", "size", "size_known"]
    by_fish = pd.DataFrame({n: cs.features[n][cs.offsets[:-1]] for n in ("kind_f", "kind_m", "kind_unknown", "size")})
    means = by_fish.groupby(cs.decisions["individual"].to_numpy()).mean()
    assert means.loc["00"].tolist() == [1, 0, 0, 80]
    assert means.loc["02"].tolist() == [0, 0, 1, 90]
    said = {e.reason: e.n for e in made.ledger.entries if e.stage == "features"}
    n = cs.decisions["individual"].value_counts()
    assert said == {
        "no sex: kind_unknown": n[["03", "04", "05"]].sum(),
        "sex of another level: kind_unknown": n["02"],
        "no length: filled with 90": n.sum() - n["00"],
    }
    again = study.folder / "again.yaml"
    again.write_text(configuration.to_yaml())
    assert load_configuration(again) == configuration


def test_level_that_nobody_has_is_warned_of_and_not_taken_for_a_fault(
    study: Study, caplog: pytest.LogCaptureFixture
) -> None:
    add_columns(study, "sex", sex="f")
    add_feature(study, "warm: {source: sex, levels: [f, m], times: sst}")
    with caplog.at_level(logging.WARNING):
        cs = prepare(read(study, models="distance_km, stay, warm")).choice_sets
    assert not cs.features["warm_m"].any()
    np.testing.assert_array_equal(cs.features["warm_f"], cs.features["sst"])
    assert cs.info["warm_f"].role == "choice"
    assert [r.getMessage() for r in caplog.records] == [
        "model distance: no decision has the level of warm_m; it is 0 everywhere."
    ]


HOME = "\nplaces:\n  home: {longitude: home_lon, latitude: home_lat}\n"


def test_places_of_a_study_by_columns_and_the_builtin_ones_agree_with_distance(study: Study) -> None:
    fish = pd.read_csv(study.folder / "tracks.csv", dtype={"fish": str})
    first = fish.groupby("fish")[["lon", "lat"]].transform("first")
    add_columns(study, "home_lon, home_lat", home_lon=first["lon"], home_lat=first["lat"])
    names = "distance_km, stay, home_km, home_known, home_change_km, first_km, first_cos, past_center_km, n_visits"
    cs = prepare(read(study, HOME, models=names)).choice_sets
    # a home at the first fix is the place `first`, which is taken from the past alone
    np.testing.assert_allclose(cs.features["home_km"], cs.features["first_km"], atol=1e-3)
    assert (np.abs(cs.features["home_change_km"]) <= cs.features["distance_km"] + 1e-3).all()
    assert cs.features["home_known"].all()


def test_unknown_home_is_flagged_and_its_distance_without_the_flag_is_warned_of(
    study: Study, caplog: pytest.LogCaptureFixture
) -> None:
    fish = pd.read_csv(study.folder / "tracks.csv", dtype={"fish": str})["fish"]
    lost = fish == "00"
    add_columns(study, "home_lon, home_lat", home_lon=np.where(lost, np.nan, -150), home_lat=np.where(lost, np.nan, 56))
    with caplog.at_level(logging.WARNING):
        cs = prepare(read(study, HOME, models="distance_km, stay, home_km, home_cos")).choice_sets
    of_lost = (cs.decisions["individual"] == "00").to_numpy()[cs.decision_of_row]
    assert not cs.features["home_km"][of_lost].any()
    assert cs.features["home_km"][~of_lost].all()
    assert "home_km is a number also where it is unknown" in caplog.text
    assert "list home_known beside it" in caplog.text
    assert "home_cos is a number" not in caplog.text


def test_groups_may_speak_of_sources_that_no_model_takes(study: Study) -> None:
    study.edit("move: distance_km > 0", "move: distance_km > 0, north: abs(bearing_rad) < 0.8")
    study.edit("june: month == 6", "june: month == 6, dark: night == 1, onward: selected_turn_cos > 0.5")
    cs = prepare(load_configuration(study.experiment)).choice_sets
    assert {"bearing_rad", "night", "turn_cos"} <= set(cs.features)
    assert np.isnan(cs.features["bearing_rad"][cs.features["stay"] == 1]).all()


def test_linear_models_say_which_features_have_no_coefficient(study: Study, caplog: pytest.LogCaptureFixture) -> None:
    study.edit("distance: {features: [distance_km, stay]}", "linear: {kind: conditional_logit, features: [sst, night]}")
    with caplog.at_level(logging.WARNING):
        prepare(load_configuration(study.experiment))
    assert (
        "model linear: night is the same for all choices of a decision, cancels in a linear model and has no "
        "coefficient; left out there. Give an interaction instead: a feature with times: night."
    ) in caplog.text


def test_network_takes_decision_features_in_silence_unless_its_linear_term_names_them(
    study: Study, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        prepare(read(study, models="distance_km, stay, night"))
    assert caplog.records == []
    study.edit("[distance_km, stay, night]}", "[distance_km, stay, night], training: {linear_skip: [stay, night]}}")
    with pytest.raises(ValueError, match="models.distance.linear_skip: night is the same for all choices .* cancels"):
        prepare(load_configuration(study.experiment))


def test_previous_speed_without_its_indicator_is_warned_of_also_in_a_product(
    study: Study, caplog: pytest.LogCaptureFixture
) -> None:
    add_feature(study, "fast: {source: distance_km, times: previous_speed_km_h}")
    with caplog.at_level(logging.WARNING):
        prepare(read(study, models="distance_km, stay, fast"))
    assert "fast is a number also where it is unknown" in caplog.text
    assert "list previous_known, or its product with the same, beside it" in caplog.text
    caplog.clear()
    add_feature(study, "fast_known: {source: distance_km, times: previous_known}")
    study.edit("stay, fast]", "stay, fast, fast_known]")
    with caplog.at_level(logging.WARNING):
        prepare(load_configuration(study.experiment))
    assert caplog.records == []


@pytest.mark.parametrize(
    ("feature", "models", "message"),
    [
        ("", "distance_km, bearing_rad", "bearing_rad is an angle, .* list heading_sin and heading_cos instead"),
        ("b: {source: bearing_rad}", "distance_km, b", "models.distance.features: b is an angle"),
        ("", "distance_km, n_visit", "unknown n_visit; did you mean n_visits"),
        ("x: {source: elevaton}", "distance_km", "features.x.source: unknown elevaton; did you mean elevation"),
        ("x: {source: sst, times: nightt}", "distance_km", "features.x.times: unknown nightt; did you mean night"),
        ("x: {source: sst, tims: night}", "distance_km", "unknown key tims; did you mean times"),
        (
            "x: {source: sst, levels: [a]}",
            "distance_km",
            "features.x: levels belongs to a decision column; sst is none",
        ),
        ("x: {source: sst, times: y}\n  y: {source: stay, times: x}", "stay", "in a circle: x times y times x"),
        ("night: {source: sst}", "distance_km", "the name night is given twice"),
        (
            "sex: {source: individual, levels: [a]}\n  sex_a: {source: sst}",
            "distance_km",
            "the name sex_a is given twice",
        ),
        (
            "sex: {source: individual, levels: [a]}\n  x: {source: sst, times: sex}",
            "distance_km",
            "features.x.times: sex stands for several; take one of sex_a, sex_unknown",
        ),
        ("sex: {source: individual, levels: [a, a]}", "distance_km", "levels of sex must be distinct"),
    ],
)
def test_faults_of_features_are_refused_before_any_data(study: Study, feature: str, models: str, message: str) -> None:
    if feature:
        add_feature(study, feature)
    text = refusal(study, models=models)
    assert re.search(message, text), text


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ("vectors: {flow: {east: sst, north: vo}}", "vectors.flow: unknown vo"),
        ("vectors: {flow: {east: sst, north: sst}}", "east and north must be two covariates; got sst for both"),
        ("vectors: {flow: {east: sst, north: elevation, at: nowhere}}", "vectors.flow.at: Input should be 'origin'"),
        ("places: {home: {longitude: home_lon, latitude: home_lat}}", "places.home: unknown home_lon"),
        ("places: {home: {longitude: 190.5, latitude: 91}}", "latitude must lie in"),
        ("places: {home: {longitude: 10, latitude: home_lat}}", "must both be columns, or both numbers"),
        ("places: {first: {longitude: 10, latitude: 5}}", "the name first_change_km, first_cos, .* is given twice"),
        ("places: {home: {longitude: 10, latitude: 5, height: 2}}", "unknown key height"),
        ("places: {9: {longitude: 10, latitude: 5}}", "9"),
    ],
)
def test_faults_of_places_and_vectors_are_refused_before_any_data(study: Study, section: str, message: str) -> None:
    text = refusal(study, f"\n{section}\n")
    assert re.search(message, text), text


def test_ready_tables_take_no_places() -> None:
    data = {
        "name": "t",
        "table": {"file": "t.csv", "features": ["x"]},
        "places": {"home": {"longitude": 1, "latitude": 2}},
        "models": {"m": {"features": ["x"]}},
    }
    with pytest.raises(ValueError, match="places cannot serve a ready table"):
        Configuration.model_validate(data)


@pytest.fixture
def decisions(study: Study) -> pd.DataFrame:
    table = pd.read_csv(study.folder / "tracks.csv", dtype={"fish": str})
    fixes = table.rename(columns={"fish": "individual", "lon": "longitude", "lat": "latitude"})
    fixes = fixes.assign(time_utc=pd.to_datetime(fixes["when"]))
    resampled, _ = resample_tracks(fixes.drop(columns="when"), step="24h", tolerance="1h")
    return make_decisions(resampled, resolution=4)[0]


def field_of(cells: np.ndarray) -> np.ndarray:
    """A value of each cell, the same each time."""
    return (cells // 2**20 % 997).astype(np.float64)


def test_covariate_joined_on_the_next_cell_for_every_choice_is_refused(decisions: pd.DataFrame) -> None:
    right = Source("food", lambda cells, times: field_of(cells))
    cs, _ = build_choices(decisions, max_distance_km=60.0, sources=[right], features=[FeatureSpec("food")])
    check_variation(cs, ["distance_km", "food"])
    # the fault: of every choice, the value of the cell that the animal went to next
    next_food = pd.Series(field_of(decisions["destination"].to_numpy()))
    of_time = next_food.groupby(decisions["time_utc"].to_numpy()).first()
    wrong = Source("food", lambda cells, times: of_time.reindex(times).to_numpy())
    planted, _ = build_choices(decisions, max_distance_km=60.0, sources=[wrong], features=[FeatureSpec("food")])
    with pytest.raises(ValueError, match="feature food .* joined on the cell the animal went to next instead of"):
        check_variation(planted, ["distance_km", "food"])


def test_product_with_a_covariate_joined_on_the_next_cell_is_refused_too(decisions: pd.DataFrame) -> None:
    of_time = pd.Series(field_of(decisions["destination"].to_numpy())).groupby(decisions["time_utc"].to_numpy()).first()
    wrong = Source("food", lambda cells, times: of_time.reindex(times).to_numpy())
    spec = FeatureSpec("hungry", source="food", times=FeatureSpec("season_cos"))
    planted, _ = build_choices(decisions, max_distance_km=60.0, sources=[wrong], features=[spec])
    with pytest.raises(ValueError, match="feature hungry has role choice, but it has the same value for all choices"):
        check_variation(planted, ["distance_km", "hungry"])


def test_gathered_products_equal_held_ones(decisions: pd.DataFrame) -> None:
    food = Source("food", lambda cells, times: field_of(cells))
    specs = [
        FeatureSpec("a", source="distance_km", times=FeatureSpec("food")),
        FeatureSpec("b", source="stay", times=FeatureSpec("season_sin")),
        FeatureSpec("c", source="distance_km", times=FeatureSpec("heading_sin")),
        FeatureSpec("d", source="season_sin", times=FeatureSpec("hours_since_move")),
    ]
    made = {}
    for lazy in (False, True):
        cs, _ = build_choices(decisions, max_distance_km=60.0, sources=[food], features=specs, lazy=lazy)
        made[lazy] = {name: np.array(cs.features[name]) for name in "abcd"}
    for name in "abcd":
        np.testing.assert_array_equal(made[False][name], made[True][name])
        assert made[True][name].any()


def rows_with_history(decisions: pd.DataFrame, study: Study) -> Rows:
    table = pd.read_csv(study.folder / "tracks.csv", dtype={"fish": str})
    fixes = table.rename(columns={"fish": "individual", "lon": "longitude", "lat": "latitude"})
    history = History.of(fixes.assign(time_utc=pd.to_datetime(fixes["when"])), resolution=4)
    return factor(decisions, max_distance_km=60.0, join=lambda cells, times: {}, history=history).rows()


def test_no_source_of_the_library_knows_the_future(decisions: pd.DataFrame, study: Study) -> None:
    check_past_only(list(LIBRARY.values()), rows_with_history(decisions, study))


def test_center_of_the_whole_track_is_found_to_know_the_future(decisions: pd.DataFrame, study: Study) -> None:
    rows = rows_with_history(decisions, study)

    def center(rows: Rows) -> tuple[np.ndarray, np.ndarray]:
        assert rows.history is not None
        n = len(rows.decisions)
        return np.full(n, rows.history.longitude.mean()), np.full(n, rows.history.latitude.mean())

    planted = place_definitions("center", center)
    with pytest.raises(ValueError, match="center_km knows the future"):
        check_past_only(planted, rows)


def listed(capsys: pytest.CaptureFixture[str], path: Path | None, *, as_json: bool = True) -> Any:
    features_command(path, as_json)
    out = capsys.readouterr().out
    return {f["name"]: f for f in json.loads(out)["features"]} if as_json else out


def test_command_lists_every_source_with_role_unit_and_formula(capsys: pytest.CaptureFixture[str]) -> None:
    found = listed(capsys, None)
    assert list(found) == list(LIBRARY)
    assert found["previous_speed_km_h"]["known"] == "previous_known"
    text = listed(capsys, None, as_json=False)
    assert "turn_cos" in text
    assert "  previous_speed_km_h: previous_known" in text


def test_command_lists_what_an_experiment_defines_as_the_data_will_have_it(
    study: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    add_columns(study, "sex", sex="f")
    for line in (
        "dark_depth: {source: night, times: depth}",
        "change: {source: sst, minus_origin: true, times: sex_f}",
        "sex_of: {source: sex, levels: [f]}",
    ):
        add_feature(study, line.replace("sex_f", "sex_of_f"))
    sections = "\nplaces: {bay: {longitude: -150, latitude: 56}}\nvectors: {slope: {east: sst, north: sst2}}\n"
    study.edit("covariates:\n", "covariates:\n  sst2: {file: sst.nc, variable: sst, unit: degC}\n")
    names = "distance_km, stay, dark_depth, change, sex_of, bay_km, slope_along"
    configuration = read(study, sections, models=names)
    found = listed(capsys, study.experiment)
    assert found["dark_depth"]["formula"] == "night -1 elevation"
    assert found["change"]["formula"] == "(sst - sst of the origin) (1 if sex = f, else 0)"
    assert (found["bay_km"]["origin"], found["slope_along"]["origin"]) == ("places", "vectors")
    made: Prepared = prepare(configuration)
    for name, info in made.choice_sets.info.items():
        assert (found[name]["role"], found[name]["unit"]) == (info.role, info.unit), name


def test_command_lists_bins_and_nothing_that_is_of_cells(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = listed(capsys, root / "experiments" / "depth.yaml")
    assert "distance_km" not in found
    assert (found["bin_mid_m"]["role"], found["bin_mid_m"]["unit"]) == ("choice", "m")
    assert found["same_bin"]["known"] == "previous_bin_known"
    assert found["temperature_minus_first"]["unit"] == "degC"
    assert found["elevation"]["role"] == "decision"
    named = load_configuration(root / "experiments" / "depth.yaml").models["everything"].features
    assert set(named) <= set(found)


def test_command_lists_units_of_derived_covariates(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = listed(capsys, root / "experiments" / "fronts.yaml")
    units = {name: found[name]["unit"] for name in ("sst_front", "log_front", "slope")}
    assert units == {"sst_front": "degC km-1", "log_front": "ln(degC km-1)", "slope": "degrees"}
