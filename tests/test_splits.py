"""Individuals into training and validation: seeded, fixed in number, and no animal on both sides."""

from __future__ import annotations

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mimic.splits import audit_split, split_decisions, split_individuals

NAMES = [f"fish {i}" for i in range(100)]


def n_validation(split: dict[str, str]) -> int:
    return sum(side == "validation" for side in split.values())


@pytest.mark.parametrize(
    ("n", "share", "expected"),
    [(100, 0.36, 36), (8, 0.25, 2), (2, 0.01, 1), (2, 0.99, 1), (7, 0.95, 6), (5, 0.5, 2), (10, 0.04, 1), (31, 0.2, 6)],
)
def test_number_of_validation_individuals_is_fixed(n: int, share: float, expected: int) -> None:
    for seed in range(5):
        split = split_individuals(NAMES[:n], validation_share=share, seed=seed)
        assert n_validation(split) == expected
        assert set(split) == set(NAMES[:n])
        assert set(split.values()) == {"train", "validation"}


@settings(max_examples=50, deadline=None)
@given(st.permutations(NAMES[:12]), st.integers(0, 1000), st.floats(0.01, 0.99))
def test_order_and_repetition_of_the_names_do_not_matter(names: list[str], seed: int, share: float) -> None:
    expected = split_individuals(NAMES[:12], validation_share=share, seed=seed)
    assert split_individuals(names, validation_share=share, seed=seed) == expected
    assert split_individuals(names + names[:5], validation_share=share, seed=seed) == expected


def test_seed_is_read() -> None:
    splits = [split_individuals(NAMES, validation_share=0.3, seed=seed) for seed in (0, 0, 1)]
    assert splits[0] == splits[1]
    assert splits[0] != splits[2]


def test_every_individual_can_validate() -> None:
    names = NAMES[:4]
    seen = {
        name
        for seed in range(40)
        for name, side in split_individuals(names, validation_share=0.25, seed=seed).items()
        if side == "validation"
    }
    assert seen == set(names)


def test_named_individuals_validate_whatever_the_share_and_seed() -> None:
    split = split_individuals(["b", "a", "c", "a"], validation_share=0.9, seed=3, validation=["c"])
    assert split == {"a": "train", "b": "train", "c": "validation"}


def test_names_are_text() -> None:
    assert split_individuals([1, 2], validation=["2"]) == {"1": "train", "2": "validation"}  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("names", "options", "message"),
    [
        ([], {"validation_share": 0.5, "seed": 0}, r"at least 2 individuals.*got 0\."),
        (["a", "a"], {"validation_share": 0.5, "seed": 0}, r"at least 2 individuals.*got 1 \(a\)"),
        (["a", None], {"validation_share": 0.5, "seed": 0}, "1 individuals have no name"),
        (["a", "b"], {"validation_share": 0.0, "seed": 0}, "between 0 and 1; got 0.0"),
        (["a", "b"], {"validation_share": 1.0, "seed": 0}, "between 0 and 1"),
        (["a", "b"], {"validation_share": float("nan"), "seed": 0}, "between 0 and 1"),
        (["a", "b"], {}, "needs validation_share and seed, or the names"),
        (
            ["fish 1", "fish 2"],
            {"validation": ["fisch 1", "cow"]},
            r"unknown individuals: fisch 1, cow\. Nearest: fish 1",
        ),
        (["fish 1", "fish 2"], {"validation": ["xyz"]}, "Known are fish 1, fish 2"),
        (["a", "b", "c"], {"validation": ["a", "a"]}, "twice: a"),
        (["a", "b"], {"validation": []}, "got 0 of 2"),
        (["a", "b"], {"validation": ["a", "b"]}, "got 2 of 2"),
        (["a", "b"], {"validation": "a"}, "must be a list"),
    ],
)
def test_impossible_split_has_one_clear_message(names: list[str], options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        split_individuals(names, **options)  # type: ignore[arg-type]


def decisions(**columns: list[object]) -> pd.DataFrame:
    return pd.DataFrame({"individual": ["a", "a", "b"], "split": ["train", "train", "validation"], **columns})


def test_audit_by_hand() -> None:
    audit = audit_split(decisions(tag=["2", "1", None]))
    assert audit.to_dict("list") == {
        "individual": ["a", "b"],
        "split": ["train", "validation"],
        "n_decisions": [2, 1],
        "tags": ["1, 2", ""],
    }
    assert list(audit_split(decisions()).columns) == ["individual", "split", "n_decisions"]


def test_animal_on_both_sides_is_found() -> None:
    with pytest.raises(ValueError, match=r"1 individual is on more than one side of the split \(a\)"):
        audit_split(decisions(split=["train", "validation", "validation"]))


def test_animal_on_both_sides_under_two_names_is_found_by_its_tag() -> None:
    with pytest.raises(ValueError, match=r"1 tag is on more than one side.*\(7\).*individual_of_tag"):
        audit_split(decisions(tag=["6", "7", "7"]))


def test_audit_names_every_animal_on_both_sides_and_missing_splits() -> None:
    both = pd.DataFrame({"individual": ["a", "a", "b", "b"], "split": ["train", "validation"] * 2})
    with pytest.raises(ValueError, match=r"2 individuals are on more than one side of the split \(a, b\)"):
        audit_split(both)
    with pytest.raises(ValueError, match=r"1 decisions have no split \(individuals b\)"):
        audit_split(decisions(split=["train", "train", None]))
    with pytest.raises(ValueError, match="expected the column split"):
        audit_split(decisions().drop(columns="split"))


def test_decisions_are_split_by_individual_and_audited() -> None:
    table = pd.DataFrame({"individual": ["b", "a", "b", "c"], "tag": ["1", "2", "1", "1"]}, index=[9, 8, 7, 6])
    result = split_decisions(table.drop(columns="tag"), validation_share=0.34, seed=0)
    assert n_validation(dict(zip(result["individual"], result["split"], strict=True))) == 1
    assert result.index.tolist() == [9, 8, 7, 6]
    assert "split" not in table
    with pytest.raises(ValueError, match="1 tag is on more than one side"):
        split_decisions(table, validation=["c"])
    assert split_decisions(table, validation=["a"])["split"].tolist() == ["train", "validation", "train", "train"]


def test_individuals_that_share_a_tag_are_drawn_to_one_side() -> None:
    names = [f"buffalo {i}" for i in range(9)]
    tags = ["c0", "c0", "c1", "c2", "c3", "c3", "c4", "c5", None]
    sides = set()
    for seed in range(20):
        split = split_individuals(names, tags=tags, validation_share=0.34, seed=seed)
        assert split["buffalo 0"] == split["buffalo 1"]
        assert split["buffalo 4"] == split["buffalo 5"]
        assert 1 <= sum(side == "validation" for side in split.values()) <= 3
        sides.add(split["buffalo 0"])
    assert sides == {"train", "validation"}
    alone = [f"t{i}" for i in range(9)]
    assert split_individuals(names, tags=alone, validation_share=0.34, seed=3) == split_individuals(
        names, validation_share=0.34, seed=3
    )


def test_animals_that_are_all_linked_by_tags_cannot_be_split() -> None:
    with pytest.raises(ValueError, match="all 3 individuals are linked by shared tags"):
        split_individuals(["a", "b", "b", "c"], tags=["1", "1", "2", "2"], validation_share=0.5, seed=0)
