"""The ledger: nothing is lost from it, nothing changes in it, and it balances."""

from __future__ import annotations

import pytest

from mimic.ledger import Entry, Ledger

LEDGER = (
    Ledger()
    .dropped("clean", "duplicate time", ["a 1", "a 2"], unit="fix")
    .dropped("choices", "no next fix", ["a 9"], unit="decision")
    .changed("clean", "longitude wrapped", ["b 1", "b 2", "b 3"], unit="fix")
    .dropped("choices", "no sst", ["c 1"], unit="choice", n=400)
)


def test_counts_by_unit_worked_by_hand() -> None:
    assert LEDGER.n_dropped("fix") == 2
    assert LEDGER.n_dropped("fix", "decision") == 2 + 1
    assert LEDGER.n_dropped("choice") == 400
    assert LEDGER.n_dropped() == 2 + 1 + 400
    assert LEDGER.n_dropped("individual") == 0


def test_rows_that_only_changed_are_written_down_and_not_counted_as_dropped() -> None:
    assert LEDGER.entries[2] == Entry("clean", "longitude wrapped", 3, "b 1, b 2, b 3", "fix", "changed")


def test_rows_in_are_rows_out_and_dropped_ones() -> None:
    LEDGER.check(10, 7, "fix", "decision")
    LEDGER.check(500, 100, "choice")
    with pytest.raises(RuntimeError, match="10 in, 8 out, 3 dropped by reason") as caught:
        LEDGER.check(10, 8, "fix", "decision")
    assert "duplicate time" in str(caught.value)


def test_a_step_that_dropped_nothing_leaves_no_line() -> None:
    assert Ledger().dropped("clean", "duplicate time", [], unit="fix") == Ledger()
    assert Ledger().changed("clean", "filled", ["a"], unit="fix", n=0) == Ledger()


def test_adding_a_line_leaves_the_ledger_before_alone() -> None:
    before = Ledger()
    after = before.dropped("clean", "speed", ["a"], unit="fix")
    assert (len(before.entries), len(after.entries)) == (0, 1)


def test_ledgers_join_in_order() -> None:
    a, b = (Ledger().dropped("s", reason, ["x"], unit="fix") for reason in ("first", "second"))
    assert [entry.reason for entry in (a + b).entries] == ["first", "second"]


def test_at_most_five_examples_are_kept() -> None:
    entry = Ledger().dropped("s", "r", range(1000), unit="fix").entries[0]
    assert (entry.n, entry.example) == (1000, "0, 1, 2, 3, 4, ...")


def test_the_frame_has_a_row_a_line_also_when_there_is_none() -> None:
    frame = LEDGER.to_frame()
    assert frame.shape == (4, 6)
    assert frame["n"].tolist() == [2, 1, 3, 400]
    columns = ["stage", "reason", "n", "example", "unit", "action"]
    assert list(Ledger().to_frame().columns) == list(frame.columns) == columns


def test_the_text_tells_stage_count_unit_action_reason_and_example() -> None:
    lines = LEDGER.explain().splitlines()
    assert lines[0] == "  clean: 2 fixes dropped: duplicate time (e.g. a 1, a 2)"
    assert lines[1] == "  choices: 1 decision dropped: no next fix (e.g. a 9)"
    assert lines[3] == "  choices: 400 choices dropped: no sst (e.g. c 1)"
    assert "nothing" in Ledger().explain()


def test_entry_without_examples_shows_none() -> None:
    assert "e.g." not in Ledger().dropped("bins", "gone", [], unit="choice", n=3).explain()
