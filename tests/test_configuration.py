"""Experiment files: every key known, every fault named, every path resolved."""

from __future__ import annotations

from pathlib import Path

import pytest

from mimic.configuration import load_configuration
from mimic.crossval_sections import load_comparison, study_configuration
from mimic.cube_sections import load_cube_config

GOOD = """
name: small
tracks:
  file: tracks.csv
  resample: {step: 24h}
choices: {resolution: 4, max_distance_km: 100}
models:
  distance: {features: [distance_km, stay]}
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(text)
    return path


def refusal(tmp_path: Path, text: str) -> str:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the message is what the tests look at
        load_configuration(write(tmp_path, text))
    return str(caught.value)


def test_good_file_resolves_its_paths_and_writes_its_defaults_out(tmp_path: Path) -> None:
    configuration = load_configuration(write(tmp_path, GOOD))
    assert configuration.tracks is not None
    assert configuration.tracks.file == tmp_path / "tracks.csv"
    assert "batch_decisions: 512" in configuration.to_yaml()


def test_resolved_configuration_is_itself_a_valid_experiment(tmp_path: Path) -> None:
    configuration = load_configuration(write(tmp_path, GOOD))
    again = tmp_path / "again.yaml"
    again.write_text(configuration.to_yaml())
    assert load_configuration(again) == configuration


def test_unknown_keys_are_refused_with_the_nearest_known_name(tmp_path: Path) -> None:
    assert "choices: unknown key max_distance; did you mean max_distance_km?" in refusal(
        tmp_path, GOOD.replace("max_distance_km", "max_distance")
    )
    assert "unknown key modells; did you mean models?" in refusal(tmp_path, GOOD.replace("models:", "modells:"))
    assert "unknown key zzz; known are" in refusal(tmp_path, GOOD + "zzz: 1\n")


def test_misspelt_training_override_of_a_model_is_refused(tmp_path: Path) -> None:
    text = GOOD.replace("stay]}", "stay], training: {learning_rat: 0.1}}")
    assert "unknown key learning_rat; did you mean learning_rate?" in refusal(tmp_path, text)


def test_key_written_twice_is_refused_with_its_line(tmp_path: Path) -> None:
    message = refusal(tmp_path, GOOD + "name: other\n")
    assert "line 9: the key name is written twice" in message


def test_every_fault_is_listed_at_once(tmp_path: Path) -> None:
    message = refusal(tmp_path, GOOD.replace("resolution: 4", "resolution: 44").replace("24h}", "24h, tolerence: 1h}"))
    assert "choices.resolution" in message
    assert "unknown key tolerence; did you mean tolerance?" in message


def test_what_is_no_yaml_or_no_mapping_or_no_file_is_said_so(tmp_path: Path) -> None:
    assert "is no valid YAML" in refusal(tmp_path, "name: [1, 2\n")
    assert "expected sections, such as name: and what belongs to it; got a list." in refusal(tmp_path, "- 1\n- 2\n")
    assert "got an empty file" in refusal(tmp_path, "")
    with pytest.raises(FileNotFoundError, match="expected a YAML file; got .*, but there is no such file"):
        load_configuration(tmp_path / "nothing.yaml")


def test_tracks_or_table_but_not_both_or_neither(tmp_path: Path) -> None:
    assert "expected either tracks" in refusal(tmp_path, "name: x\nmodels: {m: {features: [a]}}\n")
    assert "need the section choices" in refusal(
        tmp_path, GOOD.replace("choices: {resolution: 4, max_distance_km: 100}\n", "")
    )


def test_sections_that_a_ready_table_would_ignore_are_refused(tmp_path: Path) -> None:
    table = "name: x\ntable: {file: t.csv, features: [a]}\nmodels: {m: {features: [a]}}\n"
    assert load_configuration(write(tmp_path, table)).table is not None
    message = refusal(tmp_path, table + "areas: {b: {file: b.geojson}}\nfeatures: {c: {source: a}}\n")
    assert "areas, features cannot serve a ready table" in message


def test_group_that_is_no_expression_is_refused_before_anything_runs(tmp_path: Path) -> None:
    message = refusal(tmp_path, GOOD + "groups: {choices: {move: 'distance_km >'}}\n")
    assert "groups.choices" in message
    assert "distance_km >" in message


def test_difference_figure_of_an_unknown_model_is_refused(tmp_path: Path) -> None:
    assert "unknown model far" in refusal(tmp_path, GOOD + "figures: {difference: [distance, far]}\n")


def test_path_takes_the_environment_variable_or_its_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, GOOD.replace("tracks.csv", "${MIMIC_TEST_DATA:-../there}/t.csv"))
    monkeypatch.delenv("MIMIC_TEST_DATA", raising=False)
    tracks = load_configuration(path).tracks
    assert tracks is not None
    assert tracks.file == tmp_path.parent / "there" / "t.csv"
    monkeypatch.setenv("MIMIC_TEST_DATA", str(tmp_path / "elsewhere"))
    tracks = load_configuration(path).tracks
    assert tracks is not None
    assert tracks.file == tmp_path / "elsewhere" / "t.csv"


def test_all_experiment_files_of_the_project_are_valid(root: Path) -> None:
    files = sorted((root / "experiments").glob("*.yaml"))
    assert {"demo", "bluefin", "ses", "kotz", "kruger"} <= {f.stem for f in files}
    for file in files:
        if "studies:" in file.read_text(encoding="utf-8"):
            comparison = load_comparison(file)
            assert comparison.name == file.stem
            for name, study in comparison.studies.items():
                assert study_configuration(name, study).name == name
        elif file.stem.endswith("_cube"):
            assert load_cube_config(file).name == file.stem
        else:
            assert load_configuration(file).name == file.stem


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("step: 24h", "step: often", 'expected a duration such as "24h" or "20min"; got \'often\''),
        ("choices:", "covariates: {stay: {file: a.nc}}\nchoices:", "the name stay is given twice"),
        ("choices:", "features: {distance_km: {source: stay}}\nchoices:", "the name distance_km is given twice"),
        ("resample:", "keep: [stay]\n  resample:", "the name stay is given twice"),
        ("[distance_km, stay]", "[stay, stay]", "model distance lists the feature stay twice"),
        ("max_distance_km: 100", "max_distance_km: .inf", "choices.max_distance_km: Input should be a finite number"),
        ("models:", "split: {seed: -1}\nmodels:", "split.seed"),
        ("models:", "training: {units: [8, 0]}\nmodels:", "training.units.1"),
    ],
)
def test_values_that_cannot_be_meant_are_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in GOOD
    assert message in refusal(tmp_path, GOOD.replace(old, new))


def test_unknown_scaling_is_one_fault_with_what_there_is(tmp_path: Path) -> None:
    for text in ("zscor", "{stay: zscor}"):
        message = refusal(tmp_path, GOOD + f"training: {{scaling: {text}}}\n")
        assert "training.scaling: expected zscore, minmax, robust, log, log1p, none, or feature: one of them" in message
        assert message.count("training.scaling") == 1


def test_unit_of_bins_is_told_what_it_is_for(tmp_path: Path) -> None:
    bins = "bins: {value: depth, edges: [0, 1, 2], unit: m/s}"
    text = GOOD.replace("choices: {resolution: 4, max_distance_km: 100}", bins)
    assert "bins.unit: the unit ends names such as bin_mid_m" in refusal(tmp_path, text)
