"""ChoiceSets: what they accept, and that restricting, filtering and joining keep choices with their decisions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from mimic.schema import ChoiceSets, FeatureInfo, concatenate, examples, require_columns

# a/1 chose 12 of 10 11 12; a/2 chose 20 of 20 21; b/1 is unknown, of 30 31 32
DECISIONS = {"individual": ["a", "a", "b"], "decision": [1, 2, 1], "region": ["N", "S", "N"]}
OFFSETS = [0, 3, 5, 8]
CHOICE = [10, 11, 12, 20, 21, 30, 31, 32]
SELECTED = [2, 3, -1]
DISTANCE = [0.0, 20.0, 40.0, 0.0, 23.0, 0.0, 22.0, 41.0]


def small(**changes: Any) -> ChoiceSets:
    arguments: dict[str, Any] = {
        "decisions": pd.DataFrame(DECISIONS),
        "offsets": np.array(OFFSETS),
        "choice": np.array(CHOICE),
        "selected": np.array(SELECTED),
        "features": {"distance_km": np.array(DISTANCE)},
        "info": {"distance_km": FeatureInfo("pair", "km")},
    }
    return ChoiceSets(**(arguments | changes))


def random_choice_sets(rng: np.random.Generator, n_decisions: int = 40, individuals: str = "abcd") -> ChoiceSets:
    counts = rng.integers(1, 6, n_decisions)
    offsets = np.concatenate([[0], np.cumsum(counts)])
    within = rng.integers(0, counts)
    selected = np.where(rng.uniform(size=n_decisions) < 0.9, offsets[:-1] + within, -1)
    return ChoiceSets(
        decisions=pd.DataFrame(
            {"individual": rng.choice(list(individuals), n_decisions), "decision": np.arange(n_decisions)}
        ),
        offsets=offsets,
        choice=np.arange(offsets[-1]) + 100,
        selected=selected,
        features={"x": rng.normal(size=offsets[-1]), "z": rng.normal(size=offsets[-1])},
        info={"x": FeatureInfo("pair", "km")},
    )


def content(cs: ChoiceSets) -> dict[tuple[str, int], tuple]:
    """Everything there is about each decision, whatever the order and numbering of rows."""
    found = {}
    for d, row in cs.decisions.iterrows():
        rows = range(cs.offsets[d], cs.offsets[d + 1])
        selected = cs.choice[cs.selected[d]] if cs.selected[d] >= 0 else None
        features = tuple(tuple(cs.features[n][r] for n in sorted(cs.features)) for r in rows)
        found[row["individual"], row["decision"]] = (selected, tuple(cs.choice[list(rows)]), features)
    return found


def test_properties_of_three_decisions_worked_by_hand() -> None:
    cs = small()
    assert (cs.n_decisions, cs.n_rows) == (3, 8)
    assert cs.n_choices.tolist() == [3, 2, 3]
    assert cs.decision_of_row.tolist() == [0, 0, 0, 1, 1, 2, 2, 2]
    assert np.flatnonzero(cs.is_selected).tolist() == [2, 3]
    assert cs.individuals.tolist() == ["a", "a", "b"]
    assert cs.individual_codes.tolist() == [0, 0, 1]
    assert cs.features["distance_km"].dtype == np.float32
    assert cs.offsets.dtype == cs.selected.dtype == np.int64


def test_restricting_to_moves_drops_the_decision_that_stayed_and_keeps_the_unknown_one() -> None:
    moves = small().restrict(np.array(DISTANCE) > 0)
    assert moves.decisions["region"].tolist() == ["N", "N"]
    assert moves.choice.tolist() == [11, 12, 31, 32]
    assert moves.offsets.tolist() == [0, 2, 4]
    assert moves.selected.tolist() == [1, -1]
    assert moves.features["distance_km"].tolist() == [20, 40, 22, 41]
    assert moves.info["distance_km"] == FeatureInfo("pair", "km")
    assert moves.decisions.index.tolist() == [0, 1]


def test_restricting_drops_an_unknown_decision_without_any_choice_left() -> None:
    assert small().restrict(np.array(CHOICE) < 30).decisions["individual"].tolist() == ["a", "a"]


def test_filtering_keeps_the_choices_of_the_decisions_kept() -> None:
    kept = small().filter(np.array([False, True, True]))
    assert kept.choice.tolist() == [20, 21, 30, 31, 32]
    assert kept.selected.tolist() == [0, -1]
    assert kept.offsets.tolist() == [0, 2, 5]
    assert kept.decisions["decision"].tolist() == [2, 1]


def test_filtering_nothing_away_changes_nothing_and_everything_leaves_an_empty_one() -> None:
    cs = small()
    assert content(cs.filter(np.ones(3, dtype=bool))) == content(cs.restrict(np.ones(8, dtype=bool))) == content(cs)
    empty = cs.filter(np.zeros(3, dtype=bool))
    assert (empty.n_decisions, empty.n_rows, empty.offsets.tolist()) == (0, 0, [0])
    assert empty.decision_of_row.shape == empty.is_selected.shape == (0,)
    assert content(cs.restrict(np.zeros(8, dtype=bool))) == {}
    assert empty.restrict(np.zeros(0, dtype=bool)).filter(np.zeros(0, dtype=bool)).n_decisions == 0


@pytest.mark.parametrize("seed", range(5))
def test_what_a_restriction_or_a_filter_keeps_is_what_a_loop_keeps(seed: int) -> None:
    rng = np.random.default_rng(seed)
    cs = random_choice_sets(rng)
    keep_row, keep_decision = rng.uniform(size=cs.n_rows) < 0.6, rng.uniform(size=cs.n_decisions) < 0.5
    expected = {}
    for d, (key, (selected, choices, features)) in enumerate(content(cs).items()):
        rows = [k for k in range(len(choices)) if keep_row[cs.offsets[d] + k]]
        inside = selected in [choices[k] for k in rows] if selected is not None else bool(rows)
        if inside:
            expected[key] = (selected, tuple(choices[k] for k in rows), tuple(features[k] for k in rows))
    assert content(cs.restrict(keep_row)) == expected
    whole = {key: value for keep, (key, value) in zip(keep_decision, content(cs).items(), strict=True) if keep}
    assert content(cs.filter(keep_decision)) == whole


def test_two_halves_concatenated_are_the_whole() -> None:
    cs = random_choice_sets(np.random.default_rng(1))
    half = np.arange(cs.n_decisions) % 2 == 0
    joined = concatenate([cs.filter(half), cs.filter(~half)])
    assert content(joined) == content(cs)
    assert joined.info == cs.info
    assert content(concatenate([cs, cs.filter(half & False)])) == content(cs)


def test_split_picks_decisions_by_their_split() -> None:
    cs = small().with_context(split=["train", "validation", "train"])
    assert cs.split("train").choice.tolist() == [10, 11, 12, 30, 31, 32]
    assert cs.split("test").n_decisions == 0
    with pytest.raises(ValueError, match="expected the column split"):
        small().split("train")


def test_matrix_puts_features_side_by_side_in_the_order_asked_for() -> None:
    cs = small().with_features({"twice": 2 * np.array(DISTANCE)}, {"twice": FeatureInfo("choice", "km")})
    assert cs.matrix(["twice", "distance_km"])[2].tolist() == [80, 40]
    assert cs.matrix(["twice"]).dtype == np.float32
    assert cs.matrix([]).shape == (8, 0)
    with pytest.raises(ValueError, match="unknown feature depth, sst; known are distance_km, twice"):
        cs.matrix(["depth", "twice", "sst"])


def test_with_features_and_with_context_leave_the_original_alone() -> None:
    cs = small()
    more = cs.with_features({"x": np.zeros(8)}).with_context(month=[1, 2, 3])
    assert list(more.features) == ["distance_km", "x"]
    assert more.info["x"] == FeatureInfo("choice")
    assert more.info["distance_km"].unit == "km"
    assert list(cs.features) == ["distance_km"]
    assert "month" not in cs.decisions


def test_text_choices_are_choices_too() -> None:
    cs = small(choice=np.array(list("abcdefgh"))).restrict(np.array(DISTANCE) > 0)
    assert cs.choice.tolist() == ["b", "c", "g", "h"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"decisions": pd.DataFrame({"animal": [1, 2, 3]})}, "expected the columns individual, decision; got animal"),
        ({"offsets": [0, 3, 8]}, r"offsets must have shape \(decision \+ 1,\) = \(4,\)"),
        ({"selected": [2, 3]}, r"selected \(decision,\) = \(3,\); got \(4,\) and \(2,\)"),
        ({"offsets": [0, 3, 5, 9]}, "offsets must run from 0 to 8 rows; got 0 to 9"),
        ({"offsets": [1, 3, 5, 8]}, "got 1 to 8"),
        ({"offsets": [0, 3, 3, 8]}, r"1 decisions have no choices \(decision rows 1\)"),
        ({"offsets": [0, 5, 3, 8]}, "no choices"),
        ({"features": {"x": np.zeros(7)}}, r"feature x must have shape \(row,\) = \(8,\); got \(7,\)"),
        ({"features": {"x": np.zeros((8, 1))}}, r"got \(8, 1\)"),
        ({"selected": [3, 3, -1]}, r"1 decisions have a selected row outside their own choices \(decision rows 0\)"),
        ({"selected": [2, 2, 8]}, r"2 decisions .* \(decision rows 1, 2\)"),
        (
            {"decisions": pd.DataFrame(DECISIONS | {"individual": ["a"] * 3})},
            r"1 \(individual, decision\) keys occur more than once \(a/1\)",
        ),
    ],
)
def test_what_does_not_fit_together_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small(**changes)


def test_masks_of_the_wrong_length_are_refused() -> None:
    with pytest.raises(ValueError, match=r"keep_row must have shape \(row,\) = \(8,\); got \(3,\)"):
        small().restrict(np.ones(3, dtype=bool))
    with pytest.raises(ValueError, match=r"keep_decision must have shape \(decision,\) = \(3,\); got \(8,\)"):
        small().filter(np.ones(8, dtype=bool))


def test_an_individual_may_have_a_decision_of_the_number_of_another() -> None:
    assert small().decisions["decision"].tolist() == [1, 2, 1]


def other(**changes: Any) -> ChoiceSets:
    return small(decisions=pd.DataFrame(DECISIONS | {"individual": ["c", "c", "d"]}), **changes)


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (other(features={"x": DISTANCE}), "same features; got distance_km and x"),
        (other(info={"distance_km": FeatureInfo("pair", "m")}), "distance_km has another role or unit"),
        (other().with_context(origin=[1, 2, 3]), "same decision columns; got individual, decision, region and"),
        (other(choice=list("abcdefgh")), "all integers or all text"),
        (small(), r"keys occur more than once"),
    ],
)
def test_parts_that_do_not_belong_together_are_not_concatenated(part: ChoiceSets, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        concatenate([small(), part])


def test_nothing_cannot_be_concatenated() -> None:
    with pytest.raises(ValueError, match="at least one"):
        concatenate([])


def test_concatenating_keeps_cells_exact() -> None:
    cell = 599686042433355775  # not representable as float64
    a, b = small().with_context(origin=[cell] * 3), other().with_context(origin=[cell + 2] * 3)
    assert concatenate([a, b]).decisions["origin"].tolist() == [cell] * 3 + [cell + 2] * 3


def test_examples_show_the_first_five_distinct_values() -> None:
    assert examples([3, 3, 1]) == "3, 1"
    assert examples(range(7)) == "0, 1, 2, 3, 4, ..."
    assert examples(np.array(["a", "b"])) == "a, b"
    assert examples(pd.Series([5, 6], index=[9, 8])) == "5, 6"
    assert examples([]) == ""


def test_all_missing_columns_are_named_in_one_message() -> None:
    require_columns(["a", "b"], ["b"], where="table")
    with pytest.raises(ValueError, match=r"table: expected the columns c, d; got a, b\. Rename"):
        require_columns(["a", "b"], ["c", "a", "d"], where="table")
