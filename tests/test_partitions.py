"""Repeated splits: every decision has one role, animals are on one side, and time is never shuffled."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mimic.partitions import (
    LEFT_OUT,
    TEST,
    Split,
    audit_splits,
    k_fold,
    leave_group_out,
    leave_one_out,
    time_blocks,
)
from mimic.schema import TRAIN, VALIDATION


def table(n_individuals: int = 6, n_decisions: int = 4, seed: int = 0) -> pd.DataFrame:
    """Decisions of animals that were tagged on different days, in random order."""
    rng = np.random.default_rng(seed)
    days = pd.date_range("2020-03-01", periods=n_decisions + n_individuals)
    rows = [
        {"individual": f"a{i}", "decision": d, "time_utc": days[i + d], "region": "ns"[i % 2], "tag": f"t{i}"}
        for i in range(n_individuals)
        for d in range(n_decisions)
    ]
    return pd.DataFrame(rows).iloc[rng.permutation(len(rows))].reset_index(drop=True)


def names(decisions: pd.DataFrame, split: Split, role: str) -> set[str]:
    return set(decisions["individual"][split.role == role])


def test_leave_one_out_tests_each_of_three_animals_and_leaves_two_to_train_and_validate() -> None:
    decisions = table(3, 2)
    splits = leave_one_out(decisions)
    assert [split.name for split in splits] == ["a0", "a1", "a2"]
    for split in splits:
        sides = [names(decisions, split, role) for role in (TRAIN, VALIDATION, TEST)]
        assert [len(side) for side in sides] == [1, 1, 1]
        assert sides[2] == {split.name}
        assert set.union(*sides) == {"a0", "a1", "a2"}


@settings(deadline=None, max_examples=20)
@given(
    n_individuals=st.integers(4, 12),
    n_folds=st.integers(2, 4),
    n_repeats=st.integers(1, 3),
    share=st.floats(0.05, 0.6),
    seed=st.integers(0, 1000),
)
def test_every_decision_is_tested_once_a_repeat_and_animals_are_on_one_side(
    n_individuals: int, n_folds: int, n_repeats: int, share: float, seed: int
) -> None:
    decisions = table(n_individuals, 2, seed)
    splits = k_fold(decisions, n_folds=n_folds, n_repeats=n_repeats, validation_share=share, seed=seed)
    audit = audit_splits(decisions, splits)
    assert len(splits) == n_folds * n_repeats
    for repeat in range(n_repeats):
        own = [split for split in splits if split.repeat == repeat]
        assert (np.sum([split.role == TEST for split in own], axis=0) == 1).all()
        sizes = [len(names(decisions, split, TEST)) for split in own]
        assert max(sizes) - min(sizes) <= 1
    for split in splits:
        assert set(split.role) == {TRAIN, VALIDATION, TEST}
    # each individual has one role in each split, with all its decisions
    assert not audit.duplicated(["repeat", "split", "individual"]).any()
    assert (audit["n_decisions"] == 2).all()
    assert audit["n_decisions"].sum() == len(decisions) * len(splits)


def test_equal_seeds_give_equal_splits_in_whatever_order_the_decisions_are() -> None:
    decisions = table(8, 3)
    first, again, other = (k_fold(decisions, n_folds=4, n_repeats=2, seed=seed) for seed in (1, 1, 2))
    turned = k_fold(decisions[::-1], n_folds=4, n_repeats=2, seed=1)
    assert all((a.role == b.role).all() for a, b in zip(first, again, strict=True))
    assert all((a.role == b.role[::-1]).all() for a, b in zip(first, turned, strict=True))
    assert any((a.role != b.role).any() for a, b in zip(first, other, strict=True))
    # and another repeat is another draw
    assert any((a.role != b.role).any() for a, b in zip(first[:4], first[4:], strict=True))


def test_animals_that_share_a_tag_are_tested_together() -> None:
    decisions = table(6, 3)
    decisions["tag"] = decisions["tag"].replace({"t1": "t0", "t5": "t4"})
    assert [split.name for split in leave_one_out(decisions)] == ["a0+a1", "a2", "a3", "a4+a5"]
    for split in k_fold(decisions, n_folds=3, n_repeats=4):
        for pair in ({"a0", "a1"}, {"a4", "a5"}):
            assert sum(bool(names(decisions, split, role) & pair) for role in (TRAIN, VALIDATION, TEST)) == 1
    decisions["region"] = decisions["individual"].map(dict(zip([f"a{i}" for i in range(6)], "nsnsnn", strict=True)))
    with pytest.raises(ValueError, match="region varies within 2 individuals .* share their tags .a0, a1."):
        leave_group_out(decisions, "region")


def test_missing_tags_link_nobody() -> None:
    decisions = table(4, 2).assign(tag=None)
    assert len(leave_one_out(decisions)) == 4


def test_leave_group_out_tests_all_animals_of_a_region() -> None:
    decisions = table(6, 3)
    north, south = leave_group_out(decisions, "region")
    assert (north.name, south.name) == ("n", "s")
    assert names(decisions, north, TEST) == {"a0", "a2", "a4"}
    assert names(decisions, south, TEST) == {"a1", "a3", "a5"}


def test_leaving_out_the_column_individual_is_leave_one_out() -> None:
    decisions = table(5, 2)
    for a, b in zip(leave_group_out(decisions, "individual", seed=3), leave_one_out(decisions, seed=3), strict=True):
        assert a.name == b.name
        assert (a.role == b.role).all()


@pytest.mark.parametrize("n_blocks", [3, 5, 8])
def test_forward_blocks_train_on_the_past_alone(n_blocks: int) -> None:
    decisions = table(6, 30, seed=n_blocks)
    time = decisions["time_utc"]
    splits = time_blocks(decisions, n_blocks=n_blocks)
    assert len(splits) == n_blocks - 2
    for split in splits:
        assert time[split.role == TRAIN].max() < time[split.role == VALIDATION].min()
        assert time[split.role == VALIDATION].max() < time[split.role == TEST].min()
        assert (time[split.role == LEFT_OUT] > time[split.role == TEST].max()).all()
    tests = pd.concat([time[split.role == TEST] for split in splits])
    assert (
        tests.groupby(np.repeat(range(len(splits)), [np.sum(s.role == TEST) for s in splits]))
        .min()
        .is_monotonic_increasing
    )
    audit_splits(decisions, splits)


def test_blocks_around_test_every_decision_once_and_never_mix_with_other_blocks() -> None:
    decisions = table(4, 25)
    time = decisions["time_utc"]
    splits = time_blocks(decisions, n_blocks=4, order="around")
    assert (np.sum([split.role == TEST for split in splits], axis=0) == 1).all()
    for split in splits:
        first, last = time[split.role == TEST].min(), time[split.role == TEST].max()
        others = time[split.role != TEST]
        assert ((others < first) | (others > last)).all()


def test_gap_keeps_decisions_near_a_tested_or_validating_block_out() -> None:
    decisions = table(4, 40)
    time = decisions["time_utc"]
    for order in ("forward", "around"):
        for split in time_blocks(decisions, n_blocks=4, order=order, gap="2D"):
            test = time[split.role == TEST]
            for role in (TRAIN, VALIDATION):
                near = time[split.role == role]
                assert (test.min() - near[near < test.min()] > pd.Timedelta("2D")).all()
                assert (near[near > test.max()] - test.max() > pd.Timedelta("2D")).all()
            validation, train = time[split.role == VALIDATION], time[split.role == TRAIN]
            assert (validation.min() - train[train < validation.min()] > pd.Timedelta("2D")).all()


def test_gap_of_one_step_takes_the_decision_whose_outcome_is_the_first_tested_origin() -> None:
    decisions = pd.DataFrame({"individual": "a", "time_utc": pd.date_range("2021-01-01", periods=9, freq="h")})
    (split,) = time_blocks(decisions, n_blocks=3, gap="1h")
    t, v, x, o = TRAIN, VALIDATION, TEST, LEFT_OUT
    assert split.role.tolist() == [t, t, o, v, v, o, x, x, x]


def test_decisions_of_one_instant_are_in_one_block() -> None:
    times = pd.to_datetime(["2021-01-01"] * 20 + ["2021-01-02", "2021-01-03"])
    (split,) = time_blocks(pd.DataFrame({"individual": "a", "time_utc": times}), n_blocks=3)
    assert split.role.tolist() == [TRAIN] * 20 + [VALIDATION, TEST]


def leaking(decisions: pd.DataFrame) -> list[Split]:
    split = leave_one_out(decisions)[0]
    role = split.role.copy()
    role[np.flatnonzero(role == TEST)[0]] = TRAIN
    return [Split("leaking", 0, role)]


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        (leaking, "split leaking: 1 individuals are in more than one role .a0., so the test would not be on animals"),
        (
            lambda d: [Split("x", 0, np.full(len(d), TRAIN, dtype=object))],
            "no decision is left to be test or validation",
        ),
        (lambda d: [Split("x", 0, np.full(len(d), "tset", dtype=object))], "say train, validation, test, left out"),
        (lambda d: [Split("x", 0, np.full(3, TEST, dtype=object))], "shape .decision,. = .24,."),
        (lambda d: [leave_one_out(d)[0], Split("again", 0, leave_one_out(d)[0].role)], "tested twice in repeat 0"),
        (lambda d: [leave_one_out(d)[0]] * 2, "must differ by name; got a0"),
        (lambda d: [], "expected at least one split"),
    ],
)
def test_faulty_split_is_refused(splits: Callable[[pd.DataFrame], list[Split]], message: str) -> None:
    decisions = table()
    with pytest.raises(ValueError, match=message):
        audit_splits(decisions, splits(decisions))


def test_tag_on_both_sides_is_refused() -> None:
    decisions = table()
    splits = leave_one_out(decisions)
    with pytest.raises(ValueError, match="tags are in more than one role .t0."):
        audit_splits(decisions.assign(tag="t0"), splits)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda d: k_fold(d, n_folds=7), "must lie between 2 and 6, .* got 7"),
        (lambda d: k_fold(d, n_folds=1), "must lie between 2 and 6, .* got 1"),
        (lambda d: k_fold(d, n_folds=3, n_repeats=0), "n_repeats must be 1 or more; got 0"),
        (lambda d: k_fold(d, n_folds=3, validation_share=1.5), "validation_share must lie between 0 and 1"),
        (lambda d: leave_one_out(d[d["individual"] < "a2"]), "one must train and another validate; only 1 are left"),
        (lambda d: leave_group_out(d, "colony"), "expected the column colony"),
        (lambda d: leave_group_out(d.assign(region="n"), "region"), "two values or more .* got only n"),
        (lambda d: leave_group_out(d.assign(region=d["decision"]), "region"), "region varies within 6 individuals"),
        (lambda d: leave_group_out(d.assign(region=None), "region"), "region has no value for 24 decisions"),
        (lambda d: time_blocks(d, n_blocks=2), "3 of them or more and as many distinct times; got 2 blocks and 9"),
        (lambda d: time_blocks(d, n_blocks=10), "got 10 blocks and 9 times"),
        (lambda d: time_blocks(d, n_blocks=3, order="random"), "order must be forward or around; got 'random'"),
        (lambda d: time_blocks(d, n_blocks=3, gap="long"), "expected a duration such as"),
        (lambda d: time_blocks(d, n_blocks=3, gap="-1h"), "gap must be 0 or longer; got -1h"),
        (lambda d: time_blocks(d, n_blocks=3, gap="9D"), "leaves no decision to be train or validation"),
        (lambda d: time_blocks(d.assign(time_utc=pd.NaT), n_blocks=3), "24 decisions have no time_utc"),
        (lambda d: time_blocks(d.drop(columns="time_utc")), "expected the column time_utc"),
        (lambda d: leave_one_out(d.assign(individual=None)), "24 decisions have no individual"),
    ],
)
def test_what_cannot_be_split_is_refused_in_words(make: Callable[[pd.DataFrame], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(table())
