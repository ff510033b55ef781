"""Choice sets in pieces on disk: what comes back is what went in, features are gathered, and faults are told."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from test_judges import assert_same, build, decisions  # noqa: F401

from mimic.choices import build_choices
from mimic.feature_definition import Definition
from mimic.features import FeatureSpec
from mimic.gathered import GatheredFeatures
from mimic.schema import ChoiceSets
from mimic.store import MANIFEST, load_choice_sets, save_choice_sets


@pytest.fixture
def lazy(decisions: pd.DataFrame) -> ChoiceSets:  # noqa: F811
    return build(decisions, lazy=True)[0]


@pytest.fixture
def stored(lazy: ChoiceSets, tmp_path: Path) -> Path:
    return save_choice_sets(lazy, tmp_path / "choices")


def test_gathered_features_are_bit_for_bit_those_that_are_held(decisions: pd.DataFrame) -> None:  # noqa: F811
    assert_same(build(decisions, lazy=True), build(decisions, lazy=False))


def test_filtered_and_restricted_choice_sets_gather_what_the_held_ones_hold(decisions: pd.DataFrame) -> None:  # noqa: F811
    lazy, held = build(decisions, lazy=True)[0], build(decisions, lazy=False)[0]
    keep = held.individuals != "c"
    near = held.features["distance_km"] < 60
    for one, other in ((lazy.filter(keep), held.filter(keep)), (lazy.restrict(near), held.restrict(near))):
        assert isinstance(one.features, GatheredFeatures)
        assert_same((one, ""), (other, ""))
    some = np.array([40, 3, 17, 200])
    assert_same((lazy.pick(some), ""), (held.pick(some), ""))
    assert_same((lazy.block(5, 90), ""), (held.block(5, 90), ""))


def test_added_features_are_kept_beside_the_gathered_ones(lazy: ChoiceSets) -> None:
    values = np.arange(lazy.n_rows, dtype=np.float32)
    more = lazy.with_features({"mine": values})
    assert list(more.features) == [*lazy.features, "mine"]
    assert np.array_equal(more.block(3, 9).features["mine"], values[lazy.offsets[3] : lazy.offsets[9]])
    keep = lazy.individuals == "a"
    assert np.array_equal(more.filter(keep).features["mine"], values[np.repeat(keep, lazy.n_choices)])


def test_what_is_read_is_what_was_written(lazy: ChoiceSets, stored: Path) -> None:
    again = load_choice_sets(stored)
    assert isinstance(again.features, GatheredFeatures)
    assert list(again.features) == list(lazy.features)
    assert again.info == lazy.info
    assert_same((again, ""), (lazy, ""))


def test_equal_choice_sets_are_equal_bytes(lazy: ChoiceSets, stored: Path, tmp_path: Path) -> None:
    other = save_choice_sets(lazy, tmp_path / "other")
    names = sorted(p.name for p in stored.iterdir())
    assert names == sorted(p.name for p in other.iterdir())
    assert all((stored / name).read_bytes() == (other / name).read_bytes() for name in names)


def test_features_of_the_experiment_keep_their_place_and_bearings_of_stay_stay_unknown(
    decisions: pd.DataFrame,  # noqa: F811
    tmp_path: Path,
) -> None:
    own = Definition("half_km", "pair", "km", "", "distance_km / 2", lambda rows: rows.distance_km / 2)
    specs = [FeatureSpec("half_km", definition=own), FeatureSpec("bearing_rad"), FeatureSpec("log_distance")]
    lazy, _ = build_choices(decisions, max_distance_km=110.0, features=specs, lazy=True)
    assert np.isnan(lazy.features["bearing_rad"]).any()
    again = load_choice_sets(save_choice_sets(lazy, tmp_path / "choices"))
    assert list(again.features) == ["distance_km", "stay", "half_km", "bearing_rad", "log_distance"]
    for name in again.features:
        assert np.array_equal(again.features[name], lazy.features[name], equal_nan=True)
    more = again.with_features({"mine": np.zeros(again.n_rows)}).filter(again.individuals == "a")
    assert list(more.features) == [*again.features, "mine"]


def test_held_choice_sets_are_stored_as_parquet(decisions: pd.DataFrame, tmp_path: Path) -> None:  # noqa: F811
    held = build(decisions, lazy=False)[0]
    folder = save_choice_sets(held, tmp_path / "held")
    assert not (folder / MANIFEST).exists()
    assert_same((load_choice_sets(folder), ""), (held, ""))


def test_an_earlier_folder_is_not_overwritten(lazy: ChoiceSets, stored: Path) -> None:
    with pytest.raises(FileExistsError, match="exists already"):
        save_choice_sets(lazy, stored)


def test_a_feature_that_is_computed_otherwise_today_is_refused(stored: Path) -> None:
    manifest = json.loads((stored / MANIFEST).read_text())
    recipe = next(r for r in manifest["features"] if r["name"] == "warmth")
    recipe["multiply"] = 2.0
    (stored / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match="warmth come out otherwise today"):
        load_choice_sets(stored)


def test_a_lost_file_is_told_by_its_name(stored: Path) -> None:
    (stored / "covariate_depth.npy").unlink()
    with pytest.raises(ValueError, match="covariate_depth.npy"):
        load_choice_sets(stored)


def test_no_choice_sets_are_told_as_such(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no choice sets"):
        load_choice_sets(tmp_path)
