"""Decisions into repeated splits: who trains, who stops training and chooses, and who is only tested.

Animals are tested that played no part (`k_fold`, `leave_one_out`, `leave_group_out`), or times (`time_blocks`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import pandas as pd

from mimic.schema import INDIVIDUAL, TIME, TRAIN, VALIDATION, examples, require_columns
from mimic.splits import linked_individuals, split_individuals

__all__ = [
    "LEFT_OUT",
    "TEST",
    "Order",
    "Split",
    "audit_splits",
    "k_fold",
    "leave_group_out",
    "leave_one_out",
    "time_blocks",
]

TEST = "test"
LEFT_OUT = "left out"
"""The role of decisions that lie in a gap between blocks of time: they take no part in the split."""

Order = Literal["forward", "around"]

_TAG = "tag"
_ROLES = (TRAIN, VALIDATION, TEST, LEFT_OUT)


@dataclass(frozen=True, eq=False)
class Split:
    """One way to part the decisions.

    Parameters
    ----------
    name
        What is tested, unique within the repeat.
    repeat
        From 0. Within a repeat no decision is tested twice.
    role
        (decision,), text: "train"; "validation", where training is stopped and seeds and configurations are chosen;
        "test", which plays no part in either; or "left out".
    tests
        What is new in the test: "animals", whose every decision is tested, or "time", of the same animals.
    """

    name: str
    repeat: int
    role: np.ndarray
    tests: Literal["animals", "time"] = "animals"


def k_fold(
    decisions: pd.DataFrame, *, n_folds: int = 5, n_repeats: int = 1, validation_share: float = 0.2, seed: int = 0
) -> list[Split]:
    """Whole individuals dealt into folds, each of which is tested once in every repeat.

    Folds have equal numbers of individuals, up to one, unless individuals are linked by a shared tag (column `tag`):
    these stay together. The order of the decisions is of no matter.

    Parameters
    ----------
    decisions
        With `individual` and perhaps `tag`.
    n_repeats
        How often all individuals are dealt anew.
    validation_share
        Share of the individuals outside the test that stop training and choose, drawn anew in every split.
    seed
        Of all draws.

    Raises
    ------
    ValueError
        If there are fewer than 2 folds, fewer (groups of linked) individuals than folds, fewer than two individuals
        beside a fold, or a number is out of range.

    Example
    -------
    >>> table = pd.DataFrame({"individual": list("aabbccdd")})
    >>> for split in k_fold(table, n_folds=2, validation_share=0.5):
    ...     print(split.name, *split.role[::2])
    fold 1 of 2 validation test test train
    fold 2 of 2 test train validation test
    """
    groups = _linked(decisions)
    if not 2 <= n_folds <= len(groups):
        raise ValueError(
            f"the number of folds must lie between 2 and {len(groups)}, the number of individuals that share no tag; "
            f"got {n_folds}."
        )
    names = [f"fold {number + 1} of {n_folds}" for number in range(n_folds)]

    def deal(repeat: int) -> dict[str, list[str]]:
        return dict(zip(names, _dealt(groups, n_folds, np.random.default_rng([seed, repeat])), strict=True))

    return _splits(decisions, deal, n_repeats, validation_share, seed)


def leave_one_out(
    decisions: pd.DataFrame, *, n_repeats: int = 1, validation_share: float = 0.2, seed: int = 0
) -> list[Split]:
    """Every individual by itself is tested once in every repeat; those linked by a shared tag are tested together.

    Repeats differ by who of the others validates. Parameters and errors as in `k_fold`.
    """
    tested = {"+".join(group): group for group in _linked(decisions)}
    return _splits(decisions, lambda repeat: tested, n_repeats, validation_share, seed)


def leave_group_out(
    decisions: pd.DataFrame, column: str, *, n_repeats: int = 1, validation_share: float = 0.2, seed: int = 0
) -> list[Split]:
    """All individuals of a region, a colony, ... are tested together, once in every repeat.

    Repeats differ by who of the others validates. Parameters as in `k_fold`.

    Parameters
    ----------
    column
        Of the decisions; the same for all decisions of an individual. `individual` leaves out one at a time.

    Raises
    ------
    ValueError
        If the column is missing, has no value somewhere, has a single value, or varies within an individual (or
        among individuals that share a tag): an animal that is in two groups would be on both sides.
    """
    if column == INDIVIDUAL:
        return leave_one_out(decisions, n_repeats=n_repeats, validation_share=validation_share, seed=seed)
    require_columns(list(decisions.columns), [INDIVIDUAL, column], where="decisions")
    values, names = decisions[column], decisions[INDIVIDUAL].astype(str)
    if values.isna().any():
        raise ValueError(
            f"{column} has no value for {values.isna().sum():,} decisions (individuals "
            f"{examples(names[values.isna()])}); every individual must belong to a group that can be left out."
        )
    linked = {name: number for number, group in enumerate(_linked(decisions)) for name in group}
    n_values = values.astype(str).groupby(names.map(linked)).nunique()
    torn = [name for name, number in linked.items() if n_values[number] > 1]
    if torn:
        raise ValueError(
            f"{column} varies within {len(torn)} individuals or with those that share their tags ({examples(torn)}), "
            "who would be on both sides of a split. Give each individual one value, such as where it was tagged, or "
            "leave out individuals or blocks of time."
        )
    groups = {value: sorted(set(names[values.astype(str) == value])) for value in sorted(set(values.astype(str)))}
    if len(groups) < 2:
        raise ValueError(f"{column} must have two values or more to leave one out; got only {next(iter(groups))}.")
    return _splits(decisions, lambda repeat: groups, n_repeats, validation_share, seed)


def time_blocks(
    decisions: pd.DataFrame, *, n_blocks: int = 5, order: Order = "forward", gap: str | pd.Timedelta = "0h"
) -> list[Split]:
    """Consecutive blocks of time, never shuffled: a test of other times of the same animals, not of other animals.

    Blocks have about equal numbers of decisions; decisions of one instant are in one block. There is nothing random.

    Parameters
    ----------
    decisions
        With `individual` and `time_utc`.
    n_blocks
        3 or more.
    order
        "forward": block k is tested, the block before it validates, and all earlier blocks train, so that the past
        predicts the future; the first two blocks are never tested. "around": every block is tested, the block before
        it (the second, for the first) validates, and all others, later ones too, train.
    gap
        Training and validation decisions up to this far from the tested block, and training decisions up to this far
        from the validating block, are left out. The outcome of a decision is where the animal is one step later: a
        gap of one step keeps it from being the origin of a tested decision, a longer one keeps out what is alike
        because it is near.

    Raises
    ------
    ValueError
        If times are missing, there are fewer distinct times than blocks, the gap is negative or no duration, or it
        leaves a split without decisions to train or validate on.

    Example
    -------
    >>> days = pd.date_range("2020-05-01", periods=4)
    >>> table = pd.DataFrame({"individual": "a", "time_utc": days})
    >>> for split in time_blocks(table, n_blocks=4):
    ...     print(split.name, *split.role, sep=", ")
    block 3 of 4 (2020-05-03), train, validation, test, left out
    block 4 of 4 (2020-05-04), train, train, validation, test
    """
    require_columns(list(decisions.columns), [INDIVIDUAL, TIME], where="decisions")
    if order not in get_args(Order):
        raise ValueError(f"order must be {' or '.join(get_args(Order))}; got {order!r}.")
    width = _duration(gap)
    times = decisions[TIME]
    if times.isna().any():
        raise ValueError(f"{times.isna().sum():,} decisions have no {TIME}; blocks of time need all.")
    instants = times.to_numpy(dtype="datetime64[ns]")
    block = _blocks(instants, n_blocks)
    return [
        _time_split(instants, block, number, order, width) for number in range(2 if order == "forward" else 0, n_blocks)
    ]


def audit_splits(decisions: pd.DataFrame, splits: Sequence[Split]) -> pd.DataFrame:
    """Who was in which role: one row a split x role x individual.

    Returns
    -------
    Columns repeat, split, role, individual, n_decisions, in the order of the splits; roles as they are passed through
    (train, validation, test, left out), individuals by name.

    Raises
    ------
    ValueError
        If roles have another shape or are unknown; a split lacks a role; a decision is tested twice in a repeat; or,
        where animals are tested, an individual or a tag is in two roles.
    """
    if not splits:
        raise ValueError("expected at least one split; got none.")
    keys = [(split.repeat, split.name) for split in splits]
    if len(set(keys)) < len(keys):
        raise ValueError(f"splits of a repeat must differ by name; got {examples([name for _, name in keys])}.")
    tested: dict[int, np.ndarray] = {}
    parts = []
    for split in splits:
        _check_roles(decisions, split)
        of_repeat = tested.setdefault(split.repeat, np.zeros(len(decisions), dtype=np.int64))
        of_repeat += split.role == TEST
        counts = pd.DataFrame({"role": split.role, INDIVIDUAL: decisions[INDIVIDUAL].astype(str).to_numpy()})
        table = counts.groupby(["role", INDIVIDUAL], sort=True).size().rename("n_decisions").reset_index()
        order = table["role"].map({role: place for place, role in enumerate(_ROLES)})
        table = table.iloc[np.argsort(order.to_numpy(), kind="stable")]
        table.insert(0, "repeat", split.repeat)
        table.insert(1, "split", split.name)
        parts.append(table)
    twice = [repeat for repeat, count in tested.items() if (count > 1).any()]
    if twice:
        raise ValueError(f"a decision is tested twice in repeat {twice[0]}; each may be tested once.")
    return pd.concat(parts, ignore_index=True)


def _check_roles(decisions: pd.DataFrame, split: Split) -> None:
    if split.role.shape != (len(decisions),) or not set(split.role) <= set(_ROLES):
        raise ValueError(
            f"split {split.name}: role must have shape (decision,) = ({len(decisions)},) and say {', '.join(_ROLES)}; "
            f"got {split.role.shape} and {examples(sorted(set(split.role)))}."
        )
    missing = {TRAIN, VALIDATION, TEST} - set(split.role)
    if missing:
        raise ValueError(f"split {split.name}: no decision is left to be {' or '.join(sorted(missing))}.")
    if split.tests == "time":
        return
    for column in (INDIVIDUAL, _TAG):
        if column in decisions:
            n_roles = pd.Series(split.role).groupby(decisions[column].astype("string").to_numpy()).nunique()
            torn = n_roles.index[n_roles > 1]
            if len(torn):
                raise ValueError(
                    f"split {split.name}: {len(torn)} {column}s are in more than one role ({examples(list(torn))}), so "
                    "the test would not be on animals that played no part."
                )


def _linked(decisions: pd.DataFrame) -> list[list[str]]:
    """Individuals in groups that share tags, by name; each by itself where tags are not known."""
    require_columns(list(decisions.columns), [INDIVIDUAL], where="decisions")
    if decisions[INDIVIDUAL].isna().any():
        raise ValueError(f"{decisions[INDIVIDUAL].isna().sum():,} decisions have no individual; name or drop them.")
    names = sorted(set(decisions[INDIVIDUAL].astype(str)))
    tags = decisions[_TAG].tolist() if _TAG in decisions else None
    return linked_individuals(names, decisions[INDIVIDUAL].tolist(), tags)


def _dealt(groups: Sequence[Sequence[str]], n_folds: int, rng: np.random.Generator) -> list[list[str]]:
    """Groups of individuals dealt into folds: the largest groups first, each to the fold with the fewest."""
    shuffled = [groups[k] for k in rng.permutation(len(groups))]
    folds: list[list[str]] = [[] for _ in range(n_folds)]
    for group in sorted(shuffled, key=len, reverse=True):
        min(folds, key=len).extend(group)
    return folds


def _splits(
    decisions: pd.DataFrame,
    tested: Callable[[int], Mapping[str, Sequence[str]]],
    n_repeats: int,
    validation_share: float,
    seed: int,
) -> list[Split]:
    """In every repeat the splits that test these individuals, by name; of the others a drawn share validates."""
    if n_repeats < 1:
        raise ValueError(f"n_repeats must be 1 or more; got {n_repeats}.")
    individuals = decisions[INDIVIDUAL].astype(str)
    splits = []
    for repeat in range(n_repeats):
        for number, (name, test) in enumerate(tested(repeat).items()):
            rest = decisions[~individuals.isin(test)]
            if rest[INDIVIDUAL].nunique() < 2:
                raise ValueError(
                    f"split {name}: beside the tested individuals, one must train and another validate; only "
                    f"{rest[INDIVIDUAL].nunique()} are left. Ask for more folds, or bring more animals."
                )
            sides = split_individuals(
                rest[INDIVIDUAL].tolist(),
                validation_share=validation_share,
                seed=int(np.random.SeedSequence([seed, repeat, number]).generate_state(1)[0]),
                tags=rest[_TAG].tolist() if _TAG in rest else None,
            )
            splits.append(Split(name, repeat, np.array([sides.get(one, TEST) for one in individuals], dtype=object)))
    return splits


def _blocks(instants: np.ndarray, n_blocks: int) -> np.ndarray:
    """The block of each decision, 0 to n_blocks - 1: (decision,)."""
    n_distinct = len(np.unique(instants))
    if n_blocks < 3 or n_distinct < n_blocks:
        raise ValueError(
            "blocks of time train, validate and test: expected 3 of them or more and as many distinct times; got "
            f"{n_blocks} blocks and {n_distinct} times."
        )
    ordered = np.sort(instants)
    starts = ordered[[len(ordered) * k // n_blocks for k in range(1, n_blocks)]]
    block = np.searchsorted(starts, instants, side="right")
    if len(np.unique(block)) < n_blocks:  # many decisions at one instant
        block = np.searchsorted(np.unique(instants), instants) * n_blocks // n_distinct
    return np.asarray(block)


def _time_split(instants: np.ndarray, block: np.ndarray, number: int, order: Order, width: np.timedelta64) -> Split:
    before = number - 1 if number else 1
    is_test, is_validation = block == number, block == before
    role = np.full(len(instants), TRAIN, dtype=object)
    role[is_validation] = VALIDATION
    role[is_test] = TEST
    first, last = instants[is_test].min(), instants[is_test].max()
    role[~is_test & _is_near(instants, first, last, width)] = LEFT_OUT
    validating = instants[is_validation]
    role[(role == TRAIN) & _is_near(instants, validating.min(), validating.max(), width)] = LEFT_OUT
    if order == "forward":
        role[block > number] = LEFT_OUT
    days = dict.fromkeys(np.datetime_as_string([first, last], unit="D").tolist())
    name = f"block {number + 1} of {block.max() + 1} ({' to '.join(days)})"
    missing = {TRAIN, VALIDATION} - set(role)
    if missing:
        raise ValueError(
            f"the gap of {pd.Timedelta(width)} leaves no decision to be {' or '.join(sorted(missing))} when {name} is "
            "tested. Ask for a shorter gap or fewer blocks."
        )
    return Split(name, 0, role, tests="time")


def _is_near(instants: np.ndarray, first: np.datetime64, last: np.datetime64, width: np.timedelta64) -> np.ndarray:
    """Whether a time is in an interval or up to the width from it: (decision,), bool."""
    return np.asarray((instants >= first - width) & (instants <= last + width))


def _duration(gap: str | pd.Timedelta) -> np.timedelta64:
    try:
        width = pd.Timedelta(gap)
    except ValueError:
        raise ValueError(f'gap: expected a duration such as "24h"; got {gap!r}.') from None
    if width is pd.NaT or width < pd.Timedelta(0):
        raise ValueError(f"gap must be 0 or longer; got {gap}.")
    return width.to_timedelta64()
