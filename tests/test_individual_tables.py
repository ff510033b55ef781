"""Tables by individual and month: D and stays by hand, means that agree with the evaluation, intervals over days."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from explained import linear, rows, world

from mimic.evaluation import evaluate
from mimic.exemplars import exemplars
from mimic.individual_tables import (
    DIFFERENCE_COLUMNS,
    INDIVIDUAL_COLUMNS,
    MONTH_COLUMNS,
    individual_context,
    individual_differences,
    individual_table,
    month_table,
)
from mimic.schema import ChoiceSets
from mimic.stay_shares import stay_shares

DISTANCE = {"distance_km": np.array([0.0, 20, 20] * 4)}
ODDS = np.log([2, 1, 1, 1, 2, 1, 1, 1, 2, 4, 1, 1.0])


def four() -> ChoiceSets:
    """Fish a stays, moves, and does what nobody knows; fish b moves. Each chooses among a stay and two moves."""
    cs = rows(DISTANCE, [3] * 4, ["a", "a", "a", "b"], split=["train"] * 3 + ["validation"])
    return ChoiceSets(cs.decisions, cs.offsets, cs.choice, np.array([0, 4, -1, 10]), cs.features)


def row_of(table: pd.DataFrame, **where: str) -> dict[str, object]:
    for name, value in where.items():
        table = table[table[name] == value]
    assert len(table) == 1
    return table.iloc[0].to_dict()


def test_d_stays_and_counts_by_hand() -> None:
    table = individual_table({"m": ODDS}, four())
    assert list(table) == INDIVIDUAL_COLUMNS
    assert table["individual"].tolist() == ["a", "b"]
    a, b = row_of(table, individual="a"), row_of(table, individual="b")
    # of a: p(stay) = 2/4 and selected; p(stay) = 1/4, the move with 2/4 selected; the third is unknown
    assert (a["split"], a["n_decisions"], a["n_unknown"]) == ("train", 2, 1)
    assert a["log_probability"] == pytest.approx((np.log(2 / 4) + np.log(2 / 4)) / 2)
    assert a["null_log_probability"] == pytest.approx(-np.log(3))
    assert a["stay_share"] == 1 / 2
    assert a["expected_stay"] == pytest.approx((2 / 4 + 1 / 4) / 2)
    # of b: p(stay) = 4/6, a move with 1/6 selected
    assert (b["split"], b["n_decisions"], b["n_unknown"], b["stay_share"]) == ("validation", 1, 0, 0)
    assert b["gmp"] == pytest.approx(1 / 6)
    assert b["expected_stay"] == pytest.approx(4 / 6)


def test_groups_renormalize_d_and_the_probability_to_stay() -> None:
    cs = four().with_features({"near": np.array([1, 1, 0] * 4)})
    near = row_of(individual_table({"m": ODDS}, cs, choice_group="near == 1"), individual="a")
    assert near["log_probability"] == pytest.approx((np.log(2 / 3) + np.log(2 / 3)) / 2)
    assert near["expected_stay"] == pytest.approx((2 / 3 + 1 / 3) / 2)
    moves = individual_table({"m": ODDS}, cs, choice_group="distance_km > 0")
    assert row_of(moves, individual="a")["n_decisions"] == 1
    assert moves[["stay_share", "expected_stay"]].isna().all(axis=None)
    far = row_of(individual_table({"m": ODDS}, cs, choice_group="near == 0"), individual="a")
    assert far["n_decisions"] == 0
    assert np.isnan([far["log_probability"], far["gmp"], far["stay_share"]]).all()


@pytest.mark.parametrize("group", ["all", "distance_km > 0"])
def test_mean_over_individuals_is_that_of_the_evaluation(group: str) -> None:
    cs = world(n_individuals=6).with_features({"distance_km": np.tile([0.0, 10, 20, 30, 40], 120)})
    cs = ChoiceSets(
        cs.decisions.assign(split=np.where(cs.individuals < "fish 04", "train", "validation")),
        cs.offsets,
        cs.choice,
        cs.offsets[:-1] + np.arange(120) % 5,
        cs.features,
    )
    phi = {"m": linear(a=1.0).log_odds(cs), "null": np.zeros(cs.n_rows)}  # a model may be called null
    table = individual_table(phi, cs, choice_group=group)
    whole = evaluate(
        phi, cs, choice_groups={"g": group}, behavior_groups={"all": "all"}, weightings=["individual"], method=None
    )
    means = table.groupby(["model", "split"])[["log_probability", "null_log_probability"]].mean()
    whole = whole.set_index(["model", "split"])
    pd.testing.assert_series_equal(means["log_probability"], whole["log_probability"].sort_index())
    assert np.exp(means["null_log_probability"]).to_numpy() == pytest.approx(whole["null_gmp"].sort_index().to_numpy())
    assert table.groupby("split")["n_decisions"].sum().sum() == 2 * whole["n_decisions"].groupby("split").first().sum()


def test_stay_share_is_that_of_the_stay_table() -> None:
    cs = four()
    table = individual_table({"m": ODDS}, cs)
    assert table["stay_share"].tolist() == stay_shares(cs)["share"].tolist() == [0.5, 0.0]


def test_impossible_selection_and_choices_without_a_stay() -> None:
    cs = rows({}, [2, 2], ["a", "a"])
    a = row_of(individual_table({"m": np.array([-np.inf, 0, 0, 0])}, cs), individual="a")
    assert a["log_probability"] == -np.inf
    assert (a["gmp"], a["split"]) == (0, "all")
    assert np.isnan([a["stay_share"], a["expected_stay"]]).all()


def test_context_is_what_does_not_vary_within_an_individual() -> None:
    cs = four().with_context(site=["x", None, "x", "y"], depth=[1.0, 2, 3, 4], burst=0, gmp=1.0)
    assert list(individual_context(cs)) == ["site"]
    table = individual_table({"m": ODDS, "other": 2 * ODDS}, cs)
    assert table["site"].tolist() == ["x", "x", "y", "y"]  # of a by both models, then of b
    assert list(table) == [*INDIVIDUAL_COLUMNS, "site"]
    assert list(individual_table({"m": ODDS}, cs, context=[])) == INDIVIDUAL_COLUMNS
    with pytest.raises(ValueError, match=r"depth has several values within 1 individuals \(a\)"):
        individual_context(cs, ["site", "depth"])
    with pytest.raises(ValueError, match="burst, gmp cannot be context"):
        individual_context(cs, ["burst", "gmp"])
    with pytest.raises(ValueError, match="expected the column colony"):
        individual_context(cs, ["colony"])


def days(values: list[float], day: list[int], **context: object) -> tuple[ChoiceSets, dict[str, np.ndarray]]:
    """Decisions of one fish between two choices, and a model whose ln p is -ln 2 + values, the other's -ln 2."""
    p = np.exp(np.array(values) - np.log(2))
    cs = rows({}, [2] * len(p), ["a"] * len(p), **context)
    cs = cs.with_context(time_utc=pd.Timestamp("2020-03-01") + pd.to_timedelta(day, "D"))
    return cs, {"null": np.zeros(2 * len(p)), "m": np.log(np.column_stack([p, 1 - p]).ravel())}


def test_differences_are_those_of_the_exemplars() -> None:
    cs = world(n_individuals=5).with_context(split=np.repeat(["train"] * 3 + ["validation"] * 2, 20), site="bay")
    phi = {"m": linear(a=1.0).log_odds(cs), "b": linear(b=1.0).log_odds(cs), "null": np.zeros(cs.n_rows)}
    table = individual_differences(phi, cs, [("m", "null"), ("b", "m")], n_resamples=50)
    assert list(table) == [*DIFFERENCE_COLUMNS, "site"]
    known = pd.concat([exemplars(phi, cs, m, o, n=None) for m, o in (("m", "null"), ("b", "m"))], ignore_index=True)
    assert table["individual"].tolist() == known["value"].tolist()
    for name in ("model", "other", "split", "difference", "total", "rank", "side"):
        assert table[name].tolist() == known[name].tolist()
    assert (table["n_days"] == 20).all()
    assert (table["difference_low"] < table["difference"]).all()
    assert (table["difference_high"] > table["difference"]).all()


def test_days_are_drawn_and_not_decisions() -> None:
    cs, phi = days([0.1, 0.3, 0.2, -0.4], [0, 1, 2, 3])
    once = row_of(individual_differences(phi, cs), individual="a")
    assert (once["model"], once["other"], once["n_days"]) == ("m", "null", 4)
    assert once["difference"] == pytest.approx(0.05)
    # Student's t of 3 degrees of freedom, as four days are too few for quantiles
    half = 3.182446 * np.std([0.1, 0.3, 0.2, -0.4], ddof=1) / 2
    assert once["difference_high"] == pytest.approx(0.05 + half)
    cs, phi = days([0.1, 0.3, 0.2, -0.4] * 3, [0, 1, 2, 3] * 3)  # every decision three times on its day
    thrice = row_of(individual_differences(phi, cs), individual="a")
    assert thrice["n_decisions"] == 12
    assert thrice["difference_low"] == pytest.approx(once["difference_low"])


def test_one_day_or_no_time_has_no_interval() -> None:
    cs, phi = days([0.1, 0.3], [0, 0])
    one = row_of(individual_differences(phi, cs), individual="a")
    assert one["n_days"] == 1
    timeless = ChoiceSets(cs.decisions.drop(columns="time_utc"), cs.offsets, cs.choice, cs.selected, cs.features)
    none = row_of(individual_differences(phi, timeless), individual="a")
    assert none["n_days"] == 0
    assert none["difference"] == one["difference"]
    assert np.isnan([one["difference_low"], none["difference_low"], none["difference_high"]]).all()


def test_months_by_hand() -> None:
    cs = rows({}, [2, 4, 2, 2], ["a", "a", "a", "b"])
    cs = cs.with_context(time_utc=pd.to_datetime(["2020-01-31", "2021-01-01", "2020-03-01", "2020-03-31"]))
    phi = np.log([3, 1, 1, 1, 1, 1, 3, 1, 1, 3.0])  # the first is selected: 3/4, 1/4, 3/4, 1/4
    table = month_table({"m": phi}, cs, n_resamples=50)
    assert list(table) == MONTH_COLUMNS
    assert table["month"].tolist() == list(range(1, 13))
    january, march = table.iloc[0], table.iloc[2]
    assert (january["n_individuals"], january["n_decisions"]) == (1, 2)
    assert january["log_probability"] == pytest.approx((np.log(3 / 4) + np.log(1 / 4)) / 2)
    assert january["null"] == pytest.approx(-(np.log(2) + np.log(4)) / 2)
    assert january["gain"] == pytest.approx(january["log_probability"] - january["null"])
    assert np.isnan(january["gain_low"])
    assert march["gain"] == pytest.approx((np.log(3 / 2) + np.log(1 / 2)) / 2)
    # Student's t of 1 degree of freedom over two fish
    assert march["gain_high"] - march["gain"] == pytest.approx(12.7062 * np.log(3) / 2, rel=1e-4)
    assert (march["null_low"], march["null_high"]) == pytest.approx((-np.log(2), -np.log(2)))
    others = table[~table["month"].isin([1, 3])]
    assert (others["n_decisions"] == 0).all()
    assert others[["log_probability", "null", "gain"]].isna().all(axis=None)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda cs: month_table({"m": ODDS}, cs), "expected the column time_utc"),
        (lambda cs: individual_table({}, cs), "expected the log-odds of at least one model"),
        (lambda cs: individual_table({"m": ODDS}, cs, splits=["test"]), "unknown split test"),
        (lambda cs: individual_differences({"m": ODDS, "n": ODDS}, cs, [("m", "x")]), "two different models of m, n"),
    ],
)
def test_what_is_not_there_is_told(made: Callable[[ChoiceSets], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        made(four())
