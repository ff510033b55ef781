"""Long tables into ChoiceSets and back, files of them, and the folder of two Parquet files."""

from __future__ import annotations

import gzip
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from mimic.schema import ChoiceSets, FeatureInfo
from mimic.tables import from_table, load_choices, read_choice_table, save_choices, to_table

CELL = 599686042433355775  # beyond 2^53


def table(**changes: Any) -> pd.DataFrame:
    """Decision a/1 chose 12 of 10 11 12, b/1 chose 20 of 20 21, a/2 chose 11 of 11 12; columns can be replaced."""
    columns: dict[str, Any] = {
        "individual": ["a", "a", "a", "b", "b", "a", "a"],
        "decision": [1, 1, 1, 1, 1, 2, 2],
        "choice": [10, 11, 12, 20, 21, 11, 12],
        "selected": [0, 0, 1, 1, 0, 1, 0],
        "distance_km": [0.0, 20.0, 40.0, 0.0, 23.0, 0.0, 20.0],
        "night": [1, 1, 1, 0, 0, 0, 0],
        "region": ["N", "N", "N", "S", "S", "N", "N"],
        "step": list("uvwxyzt"),
    }
    return pd.DataFrame(columns | changes)


def assert_same(one: ChoiceSets, two: ChoiceSets) -> None:
    pd.testing.assert_frame_equal(one.decisions, two.decisions)
    assert one.offsets.tolist() == two.offsets.tolist()
    assert one.selected.tolist() == two.selected.tolist()
    assert one.choice.dtype == two.choice.dtype
    assert one.choice.tolist() == two.choice.tolist()
    assert list(one.features) == list(two.features)
    for name in one.features:
        np.testing.assert_array_equal(one.features[name], two.features[name], strict=True)
    assert one.info == two.info


# ----------------------------------------------------------------------------------------- from a table


def test_a_table_becomes_decisions_in_order_of_appearance() -> None:
    cs = from_table(table(), features=["distance_km"])
    assert cs.decisions["individual"].tolist() == ["a", "b", "a"]
    assert cs.decisions["decision"].tolist() == [1, 1, 2]
    assert cs.offsets.tolist() == [0, 3, 5, 7]
    assert cs.choice.tolist() == [10, 11, 12, 20, 21, 11, 12]
    assert cs.selected.tolist() == [2, 3, 5]
    assert cs.features["distance_km"].tolist() == [0, 20, 40, 0, 23, 0, 20]


def test_rows_need_not_be_neighbors_and_keep_their_order_within_a_decision() -> None:
    shuffled = table().iloc[[5, 3, 0, 4, 2, 6, 1]]
    cs = from_table(shuffled, features=["distance_km"])
    assert list(zip(cs.decisions["individual"], cs.decisions["decision"], strict=True)) == [
        ("a", 2),
        ("b", 1),
        ("a", 1),
    ]
    assert cs.choice.tolist() == [11, 12, 20, 21, 10, 12, 11]
    assert cs.selected.tolist() == [0, 2, 5]
    assert cs.decisions["region"].tolist() == ["N", "S", "N"]
    assert cs.features["distance_km"].tolist() == [0, 20, 0, 23, 0, 40, 20]


def test_decision_ids_that_repeat_across_individuals_do_not_merge() -> None:
    assert from_table(table(), features=[]).n_choices.tolist() == [3, 2, 2]


def test_columns_constant_within_decisions_become_context_and_the_log_names_the_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.INFO, "mimic.tables"):
        cs = from_table(table(), features=["distance_km"])
    assert list(cs.decisions) == ["individual", "decision", "night", "region"]
    assert cs.decisions["night"].tolist() == [1, 0, 0]
    assert "vary within decisions: step" in caplog.text


def test_only_the_context_asked_for_is_kept_and_the_split_always() -> None:
    cs = from_table(table(split=["train"] * 3 + ["validation"] * 2 + ["train"] * 2), features=[], context=["region"])
    assert list(cs.decisions) == ["individual", "decision", "region", "split"]
    assert cs.decisions["split"].tolist() == ["train", "validation", "train"]


def test_a_gap_in_context_equals_a_gap() -> None:
    cs = from_table(table(region=[None, None, None, "S", "S", "N", "N"]), features=[])
    assert cs.decisions["region"].isna().tolist() == [True, False, False]


def test_features_named_without_a_role_are_of_the_choices() -> None:
    info = from_table(table(), features=["distance_km", "night"]).info
    assert info == {"distance_km": FeatureInfo("choice"), "night": FeatureInfo("choice")}


def test_roles_and_units_may_be_told() -> None:
    told = {"distance_km": FeatureInfo("pair", "km"), "night": FeatureInfo("decision")}
    assert from_table(table(), features=told).info == told
    with pytest.raises(
        ValueError, match=r"distance_km has the role decision, but differs .* 3 decisions \(a/1, b/1, a/2\)"
    ):
        from_table(table(), features={"distance_km": FeatureInfo("decision")})


def test_underscored_names_are_understood() -> None:
    names = {name: "_" + name for name in ("individual", "decision", "choice", "selected")}
    train = [True, True, True, False, False, True, True]
    cs = from_table(table().rename(columns=names).assign(_train=train), features=["distance_km"])
    expected = from_table(table(split=np.where(train, "train", "validation")), features=["distance_km"])
    assert_same(cs, expected)


def test_columns_of_other_names_are_mapped() -> None:
    theirs = table().rename(columns={"individual": "boar", "distance_km": "d", "decision": "burst"})
    cs = from_table(
        theirs, features=["distance_km"], columns={"individual": "boar", "distance_km": "d", "_decision": "burst"}
    )
    assert_same(cs, from_table(table()[list(cs_order(theirs))], features=["distance_km"]))


def cs_order(theirs: pd.DataFrame) -> list[str]:
    """Our names in the order in which a mapped table holds them: mapped columns last."""
    back = {"boar": "individual", "d": "distance_km", "burst": "decision"}
    return [c for c in theirs if c not in back] + list(back.values())


def test_one_column_may_serve_as_individual_and_as_decision() -> None:
    one = table().drop(columns=["individual", "decision"]).assign(traveler=[1, 1, 1, 2, 2, 3, 3])
    cs = from_table(one, features=[], columns={"individual": "traveler", "decision": "traveler"})
    assert cs.decisions["individual"].tolist() == ["1", "2", "3"]
    assert cs.decisions["decision"].tolist() == [1, 2, 3]


def test_a_mapping_wins_over_a_column_of_our_name() -> None:
    cs = from_table(table(animal=list("xxxyyzz")), features=[], columns={"individual": "animal"})
    assert cs.decisions["individual"].tolist() == ["x", "y", "z"]


@pytest.mark.parametrize(
    "individual",
    [
        [7, 7, 7, 8, 8, 7, 7],
        [7.0, 7.0, 7.0, 8.0, 8.0, 7.0, 7.0],
        ["7", "7", "7", "8", "8", "7", "7"],
        pd.array([7, 7, 7, 8, 8, 7, 7], dtype="Int64"),
        pd.Categorical(["7", "7", "7", "8", "8", "7", "7"]),
        pd.Series([7, "7", 7, 8, "8", 7, 7], dtype=object),
    ],
)
def test_individuals_are_text_whatever_they_were(individual: Any) -> None:
    cs = from_table(table(individual=individual), features=[])
    assert cs.decisions["individual"].tolist() == ["7", "8", "7"]


def test_decision_ids_that_are_text_are_numbered_within_the_individual_and_kept() -> None:
    cs = from_table(table(decision=list("ppprrqq")), features=[])
    assert cs.decisions["decision"].tolist() == [0, 0, 1]
    assert cs.decisions["decision_id"].tolist() == ["p", "r", "q"]


def test_cells_stay_exact_and_text_stays_text() -> None:
    cells = [CELL + k for k in range(7)]
    for dtype in (np.int64, np.uint64):
        cs = from_table(table(choice=np.array(cells, dtype=dtype)), features=[])
        assert cs.choice.dtype == np.int64
        assert cs.choice.tolist() == cells
    assert from_table(table(choice=list("abcdefg")), features=[]).choice.tolist() == list("abcdefg")
    assert from_table(table(choice=pd.Categorical(list("abcdefg"))), features=[]).choice.tolist() == list("abcdefg")


@pytest.mark.parametrize(
    "selected",
    [
        [False, False, True, True, False, True, False],
        [0.0, 0.0, 1.0, 1.0, 0.0, 1.0, 0.0],
        ["False", "False", "True", "True", "False", "True", "False"],
        pd.array([0, 0, 1, 1, 0, 1, 0], dtype="Int8"),
        pd.array([False, False, True, True, False, True, False], dtype="boolean"),
    ],
)
def test_selected_may_be_numbers_or_booleans(selected: Any) -> None:
    assert from_table(table(selected=selected), features=[]).selected.tolist() == [2, 3, 5]


@pytest.mark.parametrize("name", ["time_utc", "timestamp"])
def test_times_become_naive_utc_nanoseconds(name: str) -> None:
    times = ["2020-06-01 14:00+02:00"] * 3 + ["2020-06-02T00:00:00Z"] * 2 + ["2020-06-03"] * 2
    cs = from_table(table(**{name: times}), features=[])
    assert cs.decisions["time_utc"].dtype == np.dtype("datetime64[ns]")
    assert cs.decisions["time_utc"].astype(str).tolist() == [
        "2020-06-01 12:00:00",
        "2020-06-02 00:00:00",
        "2020-06-03 00:00:00",
    ]
    aware = pd.to_datetime(times, utc=True, format="ISO8601").tz_convert("America/Sitka")
    pd.testing.assert_frame_equal(from_table(table(**{name: aware}), features=[]).decisions, cs.decisions)


def test_a_timestamp_may_be_asked_for_as_context_by_either_name() -> None:
    for context in (["timestamp"], ["time_utc"]):
        cs = from_table(table(timestamp="2020-06-01"), features=[], context=context)
        assert list(cs.decisions) == ["individual", "decision", "time_utc"]


def test_unknown_selections_are_minus_one_where_they_are_allowed() -> None:
    unknown = table(selected=[0, 0, 1, 0, 0, None, None])
    assert from_table(unknown, features=[], allow_unknown=True).selected.tolist() == [2, -1, -1]
    assert from_table(table().drop(columns="selected"), features=[], allow_unknown=True).selected.tolist() == [-1] * 3
    with pytest.raises(ValueError, match="selected must be 0/1 or true/false; got a missing value"):
        from_table(unknown, features=[])


def test_the_table_handed_over_is_not_changed() -> None:
    given = table(timestamp="2020-01-01", _train=1)
    before = given.copy()
    from_table(given, features=["distance_km"], columns={"individual": "region"})
    pd.testing.assert_frame_equal(given, before)


MANY = pd.DataFrame(
    {"individual": "a", "decision": np.repeat(range(9), 2), "choice": [1, 2] * 9, "selected": 1, "x": 0.0}
)


@pytest.mark.parametrize(
    ("given", "options", "message"),
    [
        (table().iloc[:0], {}, "has no rows"),
        (
            table().drop(columns=["choice", "selected"]),
            {"features": ["sst"], "context": ["length"]},
            "choice table: expected the columns choice, selected, sst, length; got individual",
        ),
        (
            table(),
            {"columns": {"individual": "boar", "decision": "burst"}},
            "expected the columns boar, burst; got indiv",
        ),
        (
            MANY,
            {},
            r"9 of 9 decisions have several selected choices \(a/0, a/1, a/2, a/3, a/4, \.\.\.\); expected exactly",
        ),
        (table(selected=0), {}, r"3 of 3 decisions have no selected choice \(a/1, b/1, a/2\); expected exactly one"),
        (table(selected=[0, 0, 1, 1, 0, 0, 0]), {}, r"1 of 3 decisions have no selected choice \(a/2\)"),
        (table(selected=[0, 1, 1, 1, 0, 1, 0]), {"allow_unknown": True}, r"1 of 3 .* several selected choices \(a/1\)"),
        (table(selected=[0, 0, 2, 1, 0, 1, 0]), {}, "selected must be 0/1 or true/false; got 2"),
        (table(selected=list("nnyynyn")), {}, "selected must be 0/1 or true/false; got n, y"),
        (
            table(distance_km=[0, np.nan, np.inf, 0, 23, 0, 20], night=[1, 1, 1, 0, 0, -np.inf, -np.inf]),
            {"features": ["distance_km", "night"]},
            r"infinite: distance_km in 2 rows \(decisions a/1\); night in 2 rows \(decisions a/2\)\. Fill",
        ),
        (table(distance_km=[1e39] * 7), {"features": ["distance_km"]}, "distance_km in 7 rows"),
        (
            table(distance_km=pd.array([1, 2, None, 4, 5, 6, 7], dtype="Int64")),
            {"features": ["distance_km"]},
            r"distance_km in 1 rows \(decisions a/1\)",
        ),
        (
            table(),
            {"features": ["region", "distance_km", "step"]},
            r"columns of numbers; got region \(str\), step \(str\)",
        ),
        (table(z=1j), {"features": ["z"]}, r"got z \(complex128\)"),
        (table(choice=[10, 11, 11, 20, 20, 11, 12]), {}, r"2 decisions hold a choice more than once \(a/1, b/1\)"),
        (table(), {"features": ["choice"]}, "choice cannot be a feature by that name"),
        (table(individual=["a", None, "a", "b", "b", None, "a"]), {}, r"individual is missing in 2 rows \(rows 1, 5\)"),
        (table(decision=[1, 1, np.nan, 1, 1, 2, 2]), {}, r"decision is missing in 1 rows \(rows 2\)"),
        (table(choice=["x", None, "z", "u", "v", "x", "y"]), {}, r"choice is missing in 1 rows \(rows 1\)"),
        (table(choice=np.arange(7) / 2), {}, "choice must be an integer or text; got floating such as 0.0, 0.5"),
        (table(choice=np.arange(7) + float(CELL)), {}, "floats cannot hold cell ids exactly"),
        (table(choice=pd.Series([1, "x", 3, 4, 5, 6, 7], dtype=object)), {}, "choice must be an integer or text"),
        (table(), {"context": ["region", "step"]}, r"context column step differs .* 3 decisions \(a/1, b/1, a/2\)"),
        (table(split=["train"] * 6 + ["validation"]), {}, r"context column split differs .* 1 decisions \(a/2\)"),
        (table(split=["train"] * 5 + [None] * 2), {}, r"split is missing for 1 decisions \(a/2\)"),
        (table(_train=[2] * 7), {}, "_train must be 0/1 or true/false; got 2"),
        (table(_train=1, split="train"), {}, "has both _train and split"),
        (table(_choice=1), {}, "has both _choice and choice"),
        (table(time_utc=1591012800), {}, "time_utc must be dates and times such as .* got 1591012800"),
        (table(time_utc="June"), {}, "time_utc must be dates and times such as .* got June"),
        (pd.concat([table(), table()[["night"]]], axis=1), {}, "column names must be distinct; night"),
    ],
)
def test_a_faulty_table_is_refused_with_one_message(given: pd.DataFrame, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        from_table(given, **({"features": []} | options))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


# ------------------------------------------------------------------------------------------- to a table


def test_the_long_table_has_keys_context_and_features() -> None:
    cs = from_table(table(), features=["distance_km"], context=["region"])
    long = to_table(cs)
    assert list(long) == ["individual", "decision", "choice", "selected", "region", "distance_km"]
    expected = table()[list(long)].astype({"selected": np.int8, "distance_km": np.float32})
    pd.testing.assert_frame_equal(long, expected)


def random_choice_sets(seed: int = 0) -> ChoiceSets:
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, 8, 60)
    offsets = np.concatenate([[0], np.cumsum(counts)])
    selected = np.where(rng.uniform(size=60) < 0.9, offsets[:-1] + rng.integers(0, counts), -1)
    decisions = pd.DataFrame(
        {
            "individual": rng.choice(["007", "7", "ä b"], 60),
            "decision": np.arange(60),
            "time_utc": pd.date_range("2020-01-01", periods=60, freq="7h").astype("datetime64[ns]"),
            "origin": CELL + rng.integers(0, 9, 60),
            "region": rng.choice(["N", "S"], 60),
            "length_cm": np.where(rng.uniform(size=60) < 0.2, np.nan, rng.normal(80, 9, 60)),
        }
    )
    features = {"x": rng.normal(size=offsets[-1]), "a.b": rng.normal(size=offsets[-1])}
    info = {"x": FeatureInfo("pair", "km", "how far"), "a.b": FeatureInfo("choice", "°C")}
    return ChoiceSets(decisions, offsets, CELL + np.arange(offsets[-1]), selected, features, info)


@pytest.mark.parametrize("seed", range(3))
def test_a_table_and_back_is_the_same(seed: int) -> None:
    cs = random_choice_sets(seed)
    assert_same(from_table(to_table(cs), features=cs.info, allow_unknown=True), cs)


def test_choice_sets_without_decisions_have_a_table_of_no_rows() -> None:
    cs = random_choice_sets()
    assert to_table(cs.filter(np.zeros(60, dtype=bool))).shape == (0, 4 + 4 + 2)
    assert to_table(ChoiceSets(cs.decisions, cs.offsets, cs.choice, cs.selected)).shape == (cs.n_rows, 4 + 4)


def test_a_feature_that_is_context_too_comes_once_in_the_table() -> None:
    cs = from_table(table(), features=["night"], context=["night"])
    assert list(to_table(cs)) == ["individual", "decision", "choice", "selected", "night"]


# -------------------------------------------------------------------------------------- files of tables


WRITERS: dict[str, Callable[[pd.DataFrame, Path], Any]] = {
    "t.csv": lambda frame, path: frame.to_csv(path, index=False),
    "t.csv.gz": lambda frame, path: frame.to_csv(path, index=False),
    "t.parquet": lambda frame, path: frame.to_parquet(path),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_file_reads_as_the_table_written(tmp_path: Path, name: str) -> None:
    WRITERS[name](table(), tmp_path / name)
    assert_same(
        read_choice_table(tmp_path / name, features=["distance_km"]), from_table(table(), features=["distance_km"])
    )
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("ours", ["individual", "_individual"])
def test_tags_7_and_007_stay_two_animals(tmp_path: Path, ours: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text("tag,decision,choice,selected\n7,1,1,1\n007,1,1,1\n")
    assert read_choice_table(path, features=[], columns={ours: "tag"}).individuals.tolist() == ["7", "007"]
    path.write_text(path.read_text().replace("tag", ours))
    assert read_choice_table(path, features=[]).individuals.tolist() == ["7", "007"]


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


@pytest.mark.parametrize(
    ("name", "spoil", "message"),
    [
        ("t.csv", lambda path: path.write_text(""), "t.csv is empty; expected a header"),
        (
            "t.csv",
            lambda path: path.write_text("individual,decision\n"),
            "expected the columns choice, selected|no rows",
        ),
        ("t.csv", lambda path: path.write_text('a,b\n1,"2\n3,4\n'), "cannot be read as CSV; it is corrupt"),
        ("t.csv", lambda path: path.write_bytes(b"a,b\n\xff\xfe,\x00\n"), "cannot be read as CSV"),
        ("t.csv.gz", _cut, "cannot be read as CSV; it is corrupt or cut short"),
        ("t.csv.gz", lambda path: path.write_text("a,b\n"), "cannot be read as CSV"),
        (
            "t.csv.gz",
            lambda path: path.write_bytes(gzip.compress(b"a,b\n1,2\n")[:12] + b"\x07" * 12),
            "cannot be read as CSV",
        ),
        ("t.parquet", _cut, "cannot be read as Parquet; it is corrupt or cut short"),
        ("t.parquet", lambda path: path.write_text("a,b\n"), "cannot be read as Parquet"),
    ],
)
def test_a_corrupt_file_is_refused_with_its_name(
    tmp_path: Path, name: str, spoil: Callable[[Path], Any], message: str
) -> None:
    WRITERS[name](table(), tmp_path / name)
    spoil(tmp_path / name)
    with pytest.raises(ValueError, match=message):
        read_choice_table(tmp_path / name, features=[])


def test_a_missing_file_and_an_unknown_kind_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no choice table at"):
        read_choice_table(tmp_path / "t.csv", features=[])
    (tmp_path / "t.xlsx").touch()
    with pytest.raises(ValueError, match=r"must be a \.csv, \.csv\.gz or \.parquet file; got t\.xlsx"):
        read_choice_table(tmp_path / "t.xlsx", features=[])


# ------------------------------------------------------------------------------------------ the folder


@pytest.mark.parametrize("memory_map", [False, True])
def test_saved_and_loaded_is_exactly_the_same(tmp_path: Path, memory_map: bool) -> None:
    cs = random_choice_sets()
    cs.features["x"][:4] = [np.nan, np.inf, -0.0, 1e-42]
    cs = cs.with_context(split=pd.Categorical(["train", "validation"] * 30), night=[True, False] * 30)
    assert save_choices(cs, tmp_path / "c") == tmp_path / "c"
    for _ in range(2):  # the second time from what the first unpacked
        loaded = load_choices(tmp_path / "c", memory_map=memory_map)
        assert_same(loaded, cs)
        assert np.signbit(loaded.features["x"][2])


@pytest.mark.parametrize(
    "choice",
    [
        np.array(list("abcdefg"), dtype=object),
        np.array(["a", "bcd", "é", "", "x", "y", "z"]),
        np.arange(7, dtype=np.int32),
        np.arange(7, dtype=np.uint64),
    ],
)
def test_every_kind_of_choice_comes_back_as_it_was(tmp_path: Path, choice: np.ndarray) -> None:
    cs = ChoiceSets(table()[["individual", "decision"]].iloc[[0, 3, 5]], [0, 3, 5, 7], choice, [2, 3, 5])
    save_choices(cs, tmp_path / "c")
    assert_same(load_choices(tmp_path / "c"), cs)


def test_text_of_the_object_type_comes_back_as_objects(tmp_path: Path) -> None:
    cs = random_choice_sets().with_context(note=pd.Series(["a", None] * 30, dtype=object))
    save_choices(cs, tmp_path / "c")
    assert_same(load_choices(tmp_path / "c"), cs)


def test_no_decisions_and_no_features_can_be_saved(tmp_path: Path) -> None:
    cs = random_choice_sets()
    for name, part in {
        "empty": cs.filter(np.zeros(60, dtype=bool)),
        "bare": ChoiceSets(cs.decisions, cs.offsets, cs.choice, cs.selected),
    }.items():
        save_choices(part, tmp_path / name)
        assert_same(load_choices(tmp_path / name, memory_map=True), part)


def test_context_and_features_may_have_the_names_of_the_files_own_columns(tmp_path: Path) -> None:
    cs = random_choice_sets().with_context(n_choices=1, selected=2)
    cs = cs.with_features({"choice": np.zeros(cs.n_rows)})
    save_choices(cs, tmp_path / "c")
    assert_same(load_choices(tmp_path / "c"), cs)


def test_memory_mapped_features_stay_on_disk_also_when_derived_from(tmp_path: Path) -> None:
    save_choices(random_choice_sets(), tmp_path / "c")
    loaded = load_choices(tmp_path / "c", memory_map=True).with_context(x=1)
    assert isinstance(loaded.features["x"], np.memmap) or isinstance(loaded.features["x"].base, np.memmap)
    assert not loaded.features["x"].flags.writeable


def test_unpacked_features_of_another_writing_are_not_used(tmp_path: Path) -> None:
    one, two = random_choice_sets(0), random_choice_sets(0)
    two.features["x"][:] += 1
    save_choices(one, tmp_path / "c")
    load_choices(tmp_path / "c", memory_map=True)
    save_choices(two, tmp_path / "d")
    shutil.copy(tmp_path / "d/choices.parquet", tmp_path / "c/choices.parquet")
    assert_same(load_choices(tmp_path / "c", memory_map=True), two)


def test_the_same_choice_sets_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        save_choices(random_choice_sets(), tmp_path / name)
    for file in ("decisions.parquet", "choices.parquet"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_the_files_tell_counts_selection_roles_and_units_to_any_reader(tmp_path: Path) -> None:
    cs = from_table(table(), features={"distance_km": FeatureInfo("pair", "km")}, context=["region"])
    save_choices(cs, tmp_path / "c")
    decisions = pd.read_parquet(tmp_path / "c/decisions.parquet")
    assert decisions["_n_choices"].tolist() == [3, 2, 2]
    assert decisions["_selected_index"].tolist() == [2, 0, 0]
    choices = pq.ParquetFile(tmp_path / "c/choices.parquet")
    assert choices.schema_arrow.names == ["_choice", "distance_km"]
    assert str(choices.schema_arrow.field("distance_km").type) == "float"
    assert b'"distance_km": {"role": "pair", "unit": "km"' in choices.schema_arrow.metadata[b"mimic"]
    assert choices.metadata.row_group(0).column(1).compression == "ZSTD"


def test_an_existing_target_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "c").mkdir()
    with pytest.raises(FileExistsError, match="exists already and is not overwritten"):
        save_choices(random_choice_sets(), tmp_path / "c")
    assert list((tmp_path / "c").iterdir()) == []


def test_a_save_that_fails_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mixed = random_choice_sets().with_context(note=pd.Series([1, "a"] * 30, dtype=object))
    with pytest.raises(ValueError, match="cannot save these choice sets"):
        save_choices(mixed, tmp_path / "c")
    write, calls = pq.write_table, []

    def fail_at_second(*arguments: Any, **options: Any) -> None:
        calls.append(1)
        if len(calls) == 2:
            raise OSError("disk full")
        write(*arguments, **options)

    monkeypatch.setattr(pq, "write_table", fail_at_second)
    with pytest.raises(OSError, match="disk full"):
        save_choices(random_choice_sets(), tmp_path / "c")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_folder_or_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no choice sets in .*decisions\.parquet is missing"):
        load_choices(tmp_path / "c")
    save_choices(random_choice_sets(), tmp_path / "c")
    (tmp_path / "c/choices.parquet").unlink()
    with pytest.raises(FileNotFoundError, match=r"choices\.parquet is missing"):
        load_choices(tmp_path / "c")


@pytest.mark.parametrize("file", ["decisions.parquet", "choices.parquet"])
def test_a_corrupt_file_of_the_folder_is_told(tmp_path: Path, file: str) -> None:
    save_choices(random_choice_sets(), tmp_path / "c")
    whole = (tmp_path / "c" / file).read_bytes()
    middle = bytes(b ^ 0x55 for b in whole[4:200])
    for spoiled in (b"", whole[:-9], whole[: len(whole) // 2], b"PAR1" + middle + whole[200:], b"text"):
        (tmp_path / "c" / file).write_bytes(spoiled)
        with pytest.raises(ValueError, match=rf"{file} cannot be read as Parquet; it is corrupt or cut short"):
            load_choices(tmp_path / "c")


def test_files_of_something_else_or_of_two_writings_are_told(tmp_path: Path) -> None:
    cs = random_choice_sets()
    save_choices(cs, tmp_path / "c")
    save_choices(random_choice_sets(1), tmp_path / "d")
    shutil.copy(tmp_path / "d/choices.parquet", tmp_path / "c/choices.parquet")
    with pytest.raises(ValueError, match="the two files are not of one writing"):
        load_choices(tmp_path / "c")
    to_table(cs).to_parquet(tmp_path / "c/decisions.parquet")
    with pytest.raises(ValueError, match="was not written by this version of save_choices"):
        load_choices(tmp_path / "c")


# ------------------------------------------------------------------------------------- reference tables


@pytest.mark.parametrize(
    ("name", "n_decisions", "n_rows", "n_individuals"),
    [
        ("wildboar", 3265, 68565, 8),
        ("logan", 838, 4190, 838),
        ("mode_canada", 2779, 11116, 2779),
        ("mtc_work", 5029, 22033, 5029),
    ],
)
def test_reference_tables_enter_without_h3(
    shared: Path, tmp_path: Path, name: str, n_decisions: int, n_rows: int, n_individuals: int
) -> None:
    feature = {"wildboar": "hab", "logan": "is_farm", "mode_canada": "cost", "mtc_work": "totcost"}[name]
    cs = read_choice_table(shared / "reference" / f"{name}.csv.gz", features=[feature])
    assert (cs.n_decisions, cs.n_rows, cs.decisions["individual"].nunique()) == (n_decisions, n_rows, n_individuals)
    save_choices(cs, tmp_path / "c")
    assert_same(load_choices(tmp_path / "c"), cs)


def test_derived_columns_are_made_before_anything_else(tmp_path: Path) -> None:
    table = pd.DataFrame(
        {"individual": "a", "decision": 1, "choice": [7, 8], "selected": [0, 1], "step_m": [500.0, 2000.0]}
    )
    table.to_csv(tmp_path / "t.csv", index=False)
    derive = {"step_km": "step_m / 1000", "far": "step_km > 1"}
    cs = read_choice_table(tmp_path / "t.csv", features=["step_km", "far"], derive=derive)
    assert cs.features["step_km"].tolist() == [0.5, 2.0]
    assert cs.features["far"].tolist() == [0.0, 1.0]
    with pytest.raises(ValueError, match=r"the derived column step_m is in t\.csv already"):
        read_choice_table(tmp_path / "t.csv", features=["step_m"], derive={"step_m": "1"})
    with pytest.raises(ValueError, match="features must be finite|not finite"):
        read_choice_table(tmp_path / "t.csv", features=["bad"], derive={"bad": "log(selected)"})
