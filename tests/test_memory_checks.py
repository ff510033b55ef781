"""No feature of memory knows the future; and those that do, planted on purpose, are caught."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from mimic.choice_rows import Rows
from mimic.feature_definition import Definition
from mimic.hexgrid import cell_at, neighbor_table
from mimic.memory import History
from mimic.memory_checks import check_history, check_past_only
from mimic.memory_features import MEMORY, first_position, past_center
from mimic.time_features import TIME

RESOLUTION = 4

PLACES = tuple(
    Definition(
        f"{place.__name__}_{axis}",
        "decision",
        "deg",
        "",
        "",
        lambda rows, place=place, k=k: place(rows)[k][rows.decision],  # type: ignore[misc]
        needs_history=True,
    )
    for place in (first_position, past_center)
    for k, axis in enumerate(("longitude", "latitude"))
)


def track(seed: int, n_individuals: int = 3, n_fixes: int = 50) -> pd.DataFrame:
    """Random walks of about a cell a step, one fix every 6 hours, in a box that is visited again and again."""
    rng = np.random.default_rng(seed)
    walk = np.clip(np.cumsum(rng.normal(0, 0.35, (n_individuals, n_fixes, 2)), axis=1), -0.8, 0.8)
    return pd.DataFrame(
        {
            "individual": np.repeat([f"animal {k}" for k in range(n_individuals)], n_fixes),
            "time_utc": np.tile(pd.date_range("2021-03-01", periods=n_fixes, freq="6h"), n_individuals),
            "longitude": 20.0 + walk[..., 0].ravel(),
            "latitude": 45.0 + walk[..., 1].ravel(),
        }
    )


def rows_of(fixes: pd.DataFrame, history: History | None) -> Rows:
    """A decision from every fix, with all cells within 60 km."""
    origin = cell_at(fixes["longitude"].to_numpy(), fixes["latitude"].to_numpy(), RESOLUTION)
    near = neighbor_table(origin, 60.0)
    row, offsets = near.rows_of(origin)
    return Rows(
        decision=np.repeat(np.arange(len(fixes)), np.diff(offsets)),
        distance_km=near.distance_km[row],
        bearing_rad=near.bearing_rad[row],
        stay=near.distance_km[row] == 0,
        decisions=fixes.assign(origin=origin).reset_index(drop=True),
        cell=near.cell[row],
        at_choice={"elevation": near.distance_km[row]},
        at_origin={},
        units={},
        history=history,
    )


@pytest.fixture(scope="module")
def fixes() -> pd.DataFrame:
    return track(1)


@pytest.fixture(scope="module")
def rows(fixes: pd.DataFrame) -> Rows:
    return rows_of(fixes, History.of(fixes, resolution=RESOLUTION))


def one_fix_ahead(history: History) -> History:
    """The planted fault: every fix stands at the time of the one before it, so that the next step is in the past."""
    time = history.time_utc.copy()
    for begin, end in zip(history.offsets[:-1], history.offsets[1:], strict=True):
        time[begin + 1 : end] = history.time_utc[begin : end - 1]
        time[begin] -= np.timedelta64(6, "h")
    return replace(history, time_utc=time - np.timedelta64(1, "s"))


def definition(name: str, make: Callable[[Rows], np.ndarray]) -> Definition:
    return Definition(name, "pair", "1", "", "", make, needs_history=True)


def part_of_decision(rows: Rows, d: int, history: History) -> Rows:
    keep = rows.decision == d
    return Rows(
        decision=np.zeros(keep.sum(), dtype=np.int64),
        distance_km=rows.distance_km[keep],
        bearing_rad=rows.bearing_rad[keep],
        stay=rows.stay[keep],
        decisions=rows.decisions.iloc[[d]].reset_index(drop=True),
        cell=rows.cell[keep],
        at_choice={},
        at_origin={},
        units={},
        history=history,
    )


def test_changing_the_future_of_any_decision_changes_nothing(rows: Rows, fixes: pd.DataFrame) -> None:
    # the claim itself, by plain means, for every decision that has a past: cut from its time on, then another future
    whole = {d.name: d.make(rows) for d in (*MEMORY, *PLACES)}
    rng = np.random.default_rng(0)
    for d in range(0, len(rows.decisions)):
        made = rows.decisions.iloc[d]
        past = fixes[(fixes["individual"] == made["individual"]) & (fixes["time_utc"] < made["time_utc"])]
        if past.empty:
            continue
        at = rng.choice(fixes.index, 10)
        future = fixes.loc[at].assign(
            individual=made["individual"],
            time_utc=made["time_utc"] + pd.to_timedelta(rng.integers(0, 99, 10), unit="h"),
        )
        for known in (past, pd.concat([past, future])):
            part = part_of_decision(rows, d, History.of(known, resolution=RESOLUTION))
            for wanted in (*MEMORY, *PLACES):
                assert (wanted.make(part) == whole[wanted.name][rows.decision == d]).all(), (wanted.name, d)


def test_a_history_one_fix_ahead_changes_what_is_remembered(rows: Rows) -> None:
    # so the equality above is no accident of features that never change
    ahead = replace(rows, history=one_fix_ahead(rows.history))  # type: ignore[arg-type]
    for wanted in MEMORY[:5]:
        assert (wanted.make(rows) != wanted.make(ahead)).mean() > 0.02, wanted.name


def test_features_of_memory_and_time_pass_the_check(rows: Rows) -> None:
    check_past_only([*MEMORY, *PLACES, *TIME], rows, n_rounds=5)


def test_feature_that_sees_the_next_fix_is_caught(rows: Rows) -> None:
    for wanted in MEMORY[:5]:
        leaking = definition(
            "leaking",
            lambda r, make=wanted.make: make(replace(r, history=one_fix_ahead(r.history))),  # type: ignore[misc]
        )
        with pytest.raises(ValueError, match=r"leaking knows the future: of \d+ in 3 decisions looked at it changes"):
            check_past_only([leaking], rows, n_rounds=10)


def test_feature_of_the_whole_track_is_caught(rows: Rows) -> None:
    def n_fixes_ever(r: Rows) -> np.ndarray:
        assert r.history is not None
        return np.isin(r.cell, r.history.cell).astype(np.float64)

    with pytest.raises(ValueError, match=r"ever_there knows .* for individual animal \d at 2021-.* from \d to \d"):
        check_past_only([definition("ever_there", n_fixes_ever)], rows, n_rounds=10)


def test_feature_that_looks_at_later_decisions_is_caught(rows: Rows) -> None:
    def next_longitude(r: Rows) -> np.ndarray:
        later = r.decisions.groupby("individual")["longitude"].shift(-1).fillna(0.0)
        return later.to_numpy()[r.decision]

    with pytest.raises(ValueError, match="next_longitude knows the future"):
        check_past_only([definition("next_longitude", next_longitude)], rows)


def test_feature_that_counts_fixes_at_the_time_of_the_decision_is_caught(rows: Rows) -> None:
    def up_to_now(r: Rows) -> np.ndarray:
        later = r.decisions.assign(time_utc=r.decisions["time_utc"] + pd.Timedelta("1ns"))
        return MEMORY[0].make(replace(r, decisions=later.assign(origin=-1)))

    with pytest.raises(ValueError, match="up_to_now knows the future"):
        check_past_only([definition("up_to_now", up_to_now)], rows)


def test_check_needs_no_history_where_no_source_does(fixes: pd.DataFrame) -> None:
    check_past_only(TIME, rows_of(fixes, None))


def test_check_draws_the_same_decisions_with_the_same_seed(rows: Rows) -> None:
    messages = []
    for _ in range(2):
        leaking = definition(
            "leaking",
            lambda r: MEMORY[1].make(replace(r, history=one_fix_ahead(r.history))),  # type: ignore[arg-type]
        )
        with pytest.raises(ValueError, match="leaking") as error:
            check_past_only([leaking], rows, n_rounds=10, seed=3)
        messages.append(str(error.value))
    assert messages[0] == messages[1]


def test_history_of_the_same_fixes_agrees_with_the_decisions(rows: Rows) -> None:
    assert rows.history is not None
    check_history(rows.history, rows.decisions)


def test_history_that_is_shifted_or_of_other_animals_is_refused(rows: Rows, fixes: pd.DataFrame) -> None:
    # by one fix, by a time zone that is one step wide, and with two animals' names exchanged
    shifted = fixes.assign(time_utc=fixes["time_utc"] - pd.Timedelta("6h"))
    named = fixes.assign(individual=fixes["individual"].replace({"animal 0": "animal 1", "animal 1": "animal 0"}))
    for wrong in (shifted, named):
        with pytest.raises(ValueError, match=r"are not made where the fix is .* would let features of memory see"):
            check_history(History.of(wrong, resolution=RESOLUTION), rows.decisions)


def test_history_at_other_times_says_nothing_against_the_decisions(rows: Rows, fixes: pd.DataFrame) -> None:
    between = fixes.assign(time_utc=fixes["time_utc"] + pd.Timedelta("1min"))
    check_history(History.of(between, resolution=RESOLUTION), rows.decisions)


def test_one_of_two_tags_in_the_origin_is_enough(rows: Rows, fixes: pd.DataFrame) -> None:
    tags = pd.concat([fixes, fixes.assign(longitude=0.0)])
    check_history(History.of(tags, resolution=RESOLUTION), rows.decisions)


def test_cut_history_keeps_its_individuals_and_only_what_was_before(rows: Rows, fixes: pd.DataFrame) -> None:
    history = rows.history
    assert history is not None
    ends = np.array(["2021-03-02", "2021-02-01", "2021-03-01T06:00"], dtype="datetime64[ns]")
    cut = history.before(ends)
    assert np.diff(cut.offsets).tolist() == [4, 0, 1]  # 0, 6, 12, 18 h; none; 0 h
    assert cut.individuals.tolist() == history.individuals.tolist()
