"""Ids: equal content gives equal ids, and the smallest difference another one."""

from __future__ import annotations

import hashlib
import math
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import mimic
from mimic import identity
from mimic.identity import canonical_json, choices_id, code_version, content_id, run_id
from mimic.schema import ChoiceSets, FeatureInfo

CONFIGURATION: dict[str, Any] = {
    "features": ["distance_km", "sst"],
    "training": {"units": [24, 24], "learning_rate": 0.001, "patience": None, "redraw": True, "seed": 0},
}


def choice_sets(**changes: Any) -> ChoiceSets:
    """Two decisions of three and two choices; parts may be replaced."""
    parts: dict[str, Any] = {
        "decisions": pd.DataFrame({"individual": ["a", "b"], "decision": [0, 0], "split": ["train", "train"]}),
        "offsets": np.array([0, 3, 5]),
        "choice": np.array([10, 11, 12, 10, 13]),
        "selected": np.array([1, 3]),
        "features": {"x": np.arange(5.0), "y": np.ones(5)},
        "info": {"x": FeatureInfo("pair", "km"), "y": FeatureInfo("choice")},
    }
    return ChoiceSets(**{**parts, **changes})


def test_id_is_the_beginning_of_sha256_over_sorted_json_without_spaces() -> None:
    text = '{"a":[1,2.0,true,null],"b":{"c":"é","d":1e-05}}'.replace("é", "\\u00e9")
    value = {"b": {"d": 1e-5, "c": "é"}, "a": (1, 2.0, True, None)}
    assert canonical_json(value) == text
    assert content_id(value) == hashlib.sha256(text.encode()).hexdigest()[:16]


def test_order_of_keys_and_kind_of_sequence_do_not_matter() -> None:
    turned = dict(reversed(list(CONFIGURATION.items())))
    turned["training"] = dict(reversed(list({**CONFIGURATION["training"], "units": (24, 24)}.items())))
    assert list(turned) != list(CONFIGURATION)
    assert content_id(turned) == content_id(CONFIGURATION)


def test_order_within_lists_matters() -> None:
    assert content_id(["distance_km", "sst"]) != content_id(["sst", "distance_km"])


def test_integer_float_truth_and_text_of_one_are_four_values() -> None:
    assert len({content_id({"x": one}) for one in (1, 1.0, True, "1")}) == 4
    assert len({content_id({"x": zero}) for zero in (0, 0.0, False, "0", None, "", [], {})}) == 8


def test_neighboring_floats_have_different_ids() -> None:
    assert content_id(0.001) != content_id(math.nextafter(0.001, 1))
    assert content_id(1e-3) == content_id(0.001)


@pytest.mark.parametrize(
    "change",
    [{"units": [24, 25]}, {"learning_rate": 0.002}, {"patience": 0}, {"redraw": 1}, {"seed": 1}, {"Seed": 0}],
)
def test_one_changed_character_gives_another_run_id(change: Mapping[str, Any]) -> None:
    changed = {**CONFIGURATION, "training": {**CONFIGURATION["training"], **change}}
    assert run_id(configuration=changed, data="d", code="c") != run_id(configuration=CONFIGURATION, data="d", code="c")


def test_run_id_depends_on_data_and_code_and_does_not_confuse_them() -> None:
    ids = {run_id(configuration={}, data=d, code=c) for d, c in [("a", "b"), ("b", "a"), ("ab", ""), ("", "ab")]}
    assert len(ids) == 4
    assert all(len(one) == 16 and int(one, 16) >= 0 for one in ids)


def test_path_is_its_text_with_forward_slashes() -> None:
    assert content_id({"file": PurePosixPath("data/a.csv")}) == content_id({"file": "data/a.csv"})


def test_numpy_numbers_are_the_python_numbers_they_hold() -> None:
    assert content_id([np.int64(3), np.float64(0.1), np.bool_(True)]) == content_id([3, 0.1, True])


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        ({"training": {"rate": math.nan}}, ValueError, "got nan at training.rate"),
        ({"rates": [1.0, math.inf]}, ValueError, r"got inf at rates\[1\]"),
        (math.nan, ValueError, "got nan at the value itself"),
        ({"a": {"b": {1, 2}}}, TypeError, "got set at a.b"),
        ({"a": [object()]}, TypeError, r"got object at a\[0\]"),
        ({"a": np.zeros(2)}, TypeError, "got ndarray at a"),
        ({"a": {1: "x"}}, TypeError, "keys that are text; got 1 in a"),
    ],
)
def test_value_without_an_id_is_refused_with_its_place(value: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        content_id(value)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])
@given(one=values, other=values)
def test_ids_are_equal_exactly_where_texts_are(one: Any, other: Any) -> None:
    assert (content_id(one) == content_id(other)) == (canonical_json(one) == canonical_json(other))


def test_id_of_choice_sets_ignores_what_training_does_not_see() -> None:
    cs = choice_sets()
    same = [
        choice_sets().with_features({"z": np.zeros(5)}),
        choice_sets().with_context(month=[1, 2]),
        choice_sets(choice=np.array([10, 11, 12, 10, 13], dtype=np.int32)),
        choice_sets(info={"x": FeatureInfo("pair", "m", "described"), "y": FeatureInfo("choice")}),
    ]
    assert {choices_id(one, ["x", "y"]) for one in same} == {choices_id(cs, ["x", "y"])}
    assert choices_id(cs, ["y", "x"]) == choices_id(cs, ["x", "y"])


@pytest.mark.parametrize(
    "changes",
    [
        {"offsets": np.array([0, 2, 5]), "selected": np.array([1, 3])},
        {"selected": np.array([2, 3])},
        {"selected": np.array([1, -1])},
        {"choice": np.array([10, 11, 12, 10, 14])},
        {"choice": np.array(["10", "11", "12", "10", "13"])},
        {"decisions": pd.DataFrame({"individual": ["a", "c"], "decision": [0, 0], "split": ["train"] * 2})},
        {"decisions": pd.DataFrame({"individual": ["a", "b"], "decision": [0, 1], "split": ["train"] * 2})},
        {"decisions": pd.DataFrame({"individual": ["a", "b"], "decision": [0, 0], "split": ["train", "validation"]})},
        {"decisions": pd.DataFrame({"individual": ["a", "b"], "decision": [0, 0]})},
        {"features": {"x": np.nextafter(np.arange(5, dtype=np.float32), np.float32(9)), "y": np.ones(5)}},
        {"features": {"y": np.arange(5.0), "x": np.ones(5)}},
        {"info": {"x": FeatureInfo("decision"), "y": FeatureInfo("choice")}},
    ],
)
def test_any_change_of_the_data_gives_another_id(changes: dict[str, Any]) -> None:
    assert choices_id(choice_sets(**changes), ["x", "y"]) != choices_id(choice_sets(), ["x", "y"])


def test_fewer_features_are_other_data() -> None:
    assert choices_id(choice_sets(), ["x"]) != choices_id(choice_sets(), ["x", "y"])


def test_context_counts_where_it_is_asked_for() -> None:
    june, july = (choice_sets().with_context(month=[6, month]) for month in (6, 7))
    assert choices_id(june, ["x"]) == choices_id(july, ["x"])
    assert choices_id(june, ["x"], context=["month"]) != choices_id(july, ["x"], context=["month"])
    times = [choice_sets().with_context(when=pd.to_datetime(["2020-01-01", day])) for day in ("2020-01-02", None)]
    assert choices_id(times[0], ["x"], context=["when"]) != choices_id(times[1], ["x"], context=["when"])


def test_text_labels_are_told_apart_however_they_are_cut() -> None:
    cuts = (["ab", "c", "d", "ab", "c"], ["a", "bc", "d", "a", "bc"])
    one, other = (choice_sets(choice=np.array(labels)) for labels in cuts)
    assert choices_id(one, ["x"]) != choices_id(other, ["x"])


def test_unknown_feature_and_column_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown feature depth; known are x, y"):
        choices_id(choice_sets(), ["x", "depth"])
    with pytest.raises(ValueError, match="expected the column month"):
        choices_id(choice_sets(), ["x"], context=["month"])


def test_code_version_is_the_version_with_a_hash_of_the_modules_that_train() -> None:
    version, _, digest = code_version().partition("+")
    assert version == mimic.__version__
    assert len(digest) == 8
    deciding = identity._deciding_sources()
    assert {"schema", "probability", "contrasts", "conditional_logit", "model", "callbacks", "training"} <= set(
        deciding
    )
    assert not {"cli", "figures", "registry", "identity"} & set(deciding)


def test_code_version_changes_with_any_deciding_source_and_any_package(monkeypatch: pytest.MonkeyPatch) -> None:
    def fresh() -> str:
        code_version.cache_clear()
        return code_version()

    sources = identity._deciding_sources()
    found = [fresh()]
    for name in ("contrasts", "training"):
        with monkeypatch.context() as patch:
            patch.setattr(identity, "_deciding_sources", lambda _, name=name: {**sources, name: sources[name] + "#"})
            found.append(fresh())
    with monkeypatch.context() as patch:
        installed = identity._installed
        patch.setattr(identity, "_installed", lambda name: "0" if name == "keras" else installed(name))
        found.append(fresh())
    assert len(set(found)) == 4
    assert fresh() == found[0]


def test_code_version_is_the_same_in_another_process_which_loads_no_tensorflow(tmp_path: Path) -> None:
    code = "import sys; from mimic.identity import code_version; print(code_version(), 'tensorflow' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(mimic.__file__).parents[1], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [code_version(), "False"]


def test_missing_package_has_a_version_of_its_own() -> None:
    assert identity._installed("a-package-that-nobody-has") == "none"
