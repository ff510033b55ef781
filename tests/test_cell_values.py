"""Values of a covariate by cell: the mean by hand, the longest period without change, and nothing invented."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from mimic.cell_values import CELL_COLUMNS, covariate_cells
from mimic.hexgrid import cell_at
from mimic.schema import ChoiceSets, FeatureInfo

CELLS = cell_at(np.linspace(0.0, 30.0, 12), np.linspace(50.0, 60.0, 12), 4)
DEGREES = FeatureInfo("choice", "degC")


def make_sets(times: list[str], cells: list[list[int]], values: Any, **info: FeatureInfo) -> ChoiceSets:
    """Decisions at these times among the cells with these numbers; values are given by (time, number of the cell)."""
    decisions = pd.DataFrame({"individual": "a", "decision": np.arange(len(times))})
    decisions["time_utc"] = pd.to_datetime(times, format="ISO8601").astype("datetime64[ns]")
    numbers = np.concatenate(cells)
    when = np.repeat(decisions["time_utc"].to_numpy(), [len(c) for c in cells])
    x = np.array([values(pd.Timestamp(t), int(c)) for t, c in zip(when, numbers, strict=True)])
    offsets = np.concatenate([[0], np.cumsum([len(c) for c in cells])])
    return ChoiceSets(decisions, offsets, CELLS[numbers], offsets[:-1], {"x": x}, {"x": DEGREES, **info})


def by_number(table: pd.DataFrame, column: str = "value") -> dict[int, Any]:
    numbers = {int(cell): k for k, cell in enumerate(CELLS)}
    return {numbers[cell]: value for cell, value in zip(table["cell"].tolist(), table[column].tolist(), strict=True)}


def test_values_by_hand_are_averaged_and_counted() -> None:
    # One day. Cell 0 at 6:00 and 18:00: (1 + 4) / 2; cell 1 twice the same; cell 2 once, without a value.
    values = {(6, 0): 1.0, (18, 0): 4.0, (6, 1): 7.0, (18, 1): 7.0, (6, 2): np.nan}
    cs = make_sets(["2020-05-01 06:00", "2020-05-01 18:00"], [[0, 1, 2], [0, 1]], lambda t, c: values[t.hour, c])
    table = covariate_cells(cs, "x", period="day")
    assert list(table.columns) == CELL_COLUMNS
    assert by_number(table) == {0: 2.5, 1: 7.0, 2: pytest.approx(np.nan, nan_ok=True)}
    assert by_number(table, "n_choices") == {0: 2, 1: 2, 2: 0}
    assert by_number(table, "n_values") == {0: 2, 1: 1, 2: 0}
    assert table["cell"].is_monotonic_increasing
    first = table.iloc[0]
    assert (first["covariate"], first["unit"], first["period"]) == ("x", "degC", "2020-05-01")
    assert first["time_utc"] == pd.Timestamp("2020-05-01")


def test_what_never_changes_is_shown_of_all_times() -> None:
    cs = make_sets(["2020-05-01", "2021-08-09"], [[0, 1], [1, 2]], lambda t, c: 10.0 * c)
    table = covariate_cells(cs, "x")
    assert by_number(table) == {0: 0.0, 1: 10.0, 2: 20.0}
    assert table["period"].unique().tolist() == ["all times"]
    assert table["time_utc"].isna().all()
    without_times = ChoiceSets(
        cs.decisions.drop(columns="time_utc"), cs.offsets, cs.choice, cs.selected, cs.features, cs.info
    )
    assert by_number(covariate_cells(without_times, "x")) == by_number(table)


def test_a_climatology_is_shown_of_the_calendar_month_with_most_cells() -> None:
    times = ["2020-05-01", "2020-05-20", "2021-05-30", "2020-06-02", "2021-06-08"]
    cs = make_sets(times, [[0, 1], [1, 2], [2, 3], [0, 4], [4, 5]], lambda t, c: float(t.month + c))
    table = covariate_cells(cs, "x")
    assert by_number(table) == {0: 5.0, 1: 6.0, 2: 7.0, 3: 8.0}
    assert table["period"].iloc[0] == "May of 2020 to 2021"
    assert table["time_utc"].iloc[0] == pd.Timestamp("2020-05-01")
    assert table["n_values"].tolist() == [1] * 4


def test_a_monthly_series_is_shown_of_one_month_and_a_daily_one_of_one_day() -> None:
    times = ["2020-05-01", "2020-05-20", "2021-05-20", "2021-05-21"]
    cells = [[0, 1], [1, 2], [0, 1, 2, 3], [2, 3, 4]]
    monthly = covariate_cells(make_sets(times, cells, lambda t, c: float(t.year)), "x")
    assert (monthly["period"].iloc[0], by_number(monthly)) == ("2021-05", dict.fromkeys(range(5), 2021.0))
    daily = covariate_cells(make_sets(times, cells, lambda t, c: float(t.day_of_year)), "x")
    assert (daily["period"].iloc[0], sorted(by_number(daily))) == ("2021-05-20", [0, 1, 2, 3])


def test_without_a_cell_on_two_days_nothing_is_known_of_change_and_a_day_is_shown() -> None:
    cs = make_sets(["2020-05-01", "2020-05-02"], [[0, 1], [2, 3, 4]], lambda t, c: float(c))
    assert covariate_cells(cs, "x")["period"].iloc[0] == "2020-05-02"
    assert len(covariate_cells(cs, "x", period="all")) == 5


@pytest.mark.parametrize(
    ("time", "period", "expected"),
    [
        ("2020-05-01 23:00", "day", "2020-05-01"),
        ("2020-06-08", "day", "2020-06-11"),
        (pd.Timestamp("2020-06-10 20:00", tz="America/Anchorage"), "day", "2020-06-11"),  # the next day in UTC
        (np.datetime64("2020-02-03"), "month", "2020-05"),
        ("2019-01-05", "calendar month", "2020-12"),  # January is next to December
        ("1990-05-05", "calendar month", "2020-05"),
    ],
)
def test_a_time_gives_its_period_or_the_nearest_one(time: Any, period: Any, expected: str) -> None:
    cs = make_sets(["2020-05-01 03:00", "2020-06-11", "2020-12-31"], [[0], [1], [2]], lambda t, c: float(c))
    assert covariate_cells(cs, "x", time=time, period=period)["period"].tolist() == [expected]


def test_decisions_without_a_value_choose_no_period_and_all_unknown_is_drawn_as_unknown() -> None:
    cs = make_sets(["2020-05-01", "2020-05-02"], [[0, 1, 2], [3]], lambda t, c: 1.0 if c == 3 else np.nan)
    assert by_number(covariate_cells(cs, "x", period="day")) == {3: 1.0}
    nothing = covariate_cells(cs.with_features({"x": np.full(4, np.nan)}), "x")
    assert nothing["value"].isna().all()
    assert nothing["n_choices"].tolist() == [0] * 4


def test_order_of_decisions_does_not_matter() -> None:
    times = ["2020-05-01", "2020-05-01 12:00", "2020-05-02"]
    cs = make_sets(times, [[0, 1], [1, 2], [2, 3]], lambda t, c: float(t.hour + t.day + c))
    pd.testing.assert_frame_equal(covariate_cells(cs.pick(np.array([2, 0, 1])), "x"), covariate_cells(cs, "x"))


def test_what_has_no_map_is_told() -> None:
    cs = make_sets(["2020-05-01", "2020-05-02"], [[0, 1], [0, 1]], lambda t, c: float(t.day))
    with pytest.raises(ValueError, match="unknown feature y; known are x"):
        covariate_cells(cs, "y")
    pair = cs.with_features({"km": np.zeros(4)}, {"km": FeatureInfo("pair", "km")})
    with pytest.raises(
        ValueError, match="a map needs a feature of role choice.*km has role pair. Of role choice are x"
    ):
        covariate_cells(pair, "km")
    with pytest.raises(ValueError, match="period must be all, calendar month, month, day; got 'year'"):
        covariate_cells(cs, "x", period="year")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="time must be a date or time, UTC, such as 2019-07-01; got 'soon'"):
        covariate_cells(cs, "x", time="soon")
    with pytest.raises(ValueError, match="at least one decision; got none"):
        covariate_cells(cs.filter(np.zeros(2, dtype=bool)), "x")
    labels = ChoiceSets(cs.decisions, cs.offsets, np.array(list("abab")), cs.selected, cs.features, cs.info)
    with pytest.raises(ValueError, match="choices must be H3 cells as integers; got <U1 such as a"):
        covariate_cells(labels, "x")
    bins = ChoiceSets(cs.decisions, cs.offsets, np.array([1, 2, 1, 2]), cs.selected, cs.features, cs.info)
    with pytest.raises(ValueError, match=r"2 are not valid \(1, 2\)"):
        covariate_cells(bins, "x")
    timeless = ChoiceSets(cs.decisions[["individual", "decision"]], cs.offsets, cs.choice, cs.selected, cs.features)
    with pytest.raises(ValueError, match="decisions: expected the column time_utc"):
        covariate_cells(timeless, "x")
