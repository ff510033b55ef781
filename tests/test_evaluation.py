"""The evaluator: by hand, against a plain loop, in its invariants, and against published and reference numbers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import reference_table

import mimic.scores
from mimic.evaluation import (
    GROUP_COLUMNS,
    INTERVAL_COLUMNS,
    decision_table,
    evaluate,
    format_groups,
    mean_choice_probability,
)
from mimic.groups import behavior_mask, behavior_names, choice_mask, choice_names, split_masks
from mimic.schema import ChoiceSets, FeatureInfo
from mimic.tables import from_table

ALL = {"all": "all"}
MOVE = {"move": "distance_km > 0"}


def make(*decisions: tuple[str, list[float], int], **context: Any) -> tuple[ChoiceSets, np.ndarray]:
    """Choice sets and log-odds of (individual, odds, place of the selected choice); the first choice is to stay."""
    counts = [len(odds) for _, odds, _ in decisions]
    offsets = np.concatenate([[0], np.cumsum(counts)])
    cs = ChoiceSets(
        decisions=pd.DataFrame(
            {"individual": [i for i, _, _ in decisions], "decision": np.arange(len(decisions)), **context}
        ),
        offsets=offsets,
        choice=np.concatenate([np.arange(n) for n in counts]),
        selected=[
            start + place if place >= 0 else -1 for start, (_, _, place) in zip(offsets, decisions, strict=False)
        ],
        features={"distance_km": np.concatenate([[0.0] + [20.0] * (n - 1) for n in counts])},
        info={"distance_km": FeatureInfo("pair", "km")},
    )
    return cs, np.log(np.concatenate([odds for _, odds, _ in decisions]))


# the animal moves, stays, moves; odds as told, stay first
THREE = (("a", [8.0, 1.0, 3.0], 1), ("a", [5.0, 1.0, 2.0], 0), ("a", [2.0, 3.0, 1.0, 2.0], 1))


def one(table: pd.DataFrame, **where: str) -> pd.Series:
    """The one row of a table with these values."""
    for name, value in where.items():
        table = table[table[name] == value]
    assert len(table) == 1
    return table.iloc[0]


def score(
    cs: ChoiceSets, phi: np.ndarray, *, choices: str = "all", behavior: str = "all", by: str = "decision"
) -> pd.Series:
    """The row of one model, choice group and behavior group."""
    table = evaluate({"m": phi}, cs, choice_groups={"c": choices}, behavior_groups={"b": behavior}, splits=["all"])
    return one(table, weighting=by)


# ---------------------------------------------------------------------------------------------- by hand


def test_removing_stay_without_renormalising_is_5_2_percent_where_renormalising_is_16_7() -> None:
    # FIELD.md's classic error. Odds: stay 13.25, six moves 1 each; a move was selected.
    cs, phi = make(("a", [13.25, 1, 1, 1, 1, 1, 1], 3))
    not_renormalised = 1 / (13.25 + 6 * 1)
    renormalised = 1 / (6 * 1)
    assert (round(not_renormalised, 3), round(renormalised, 3)) == (0.052, 0.167)
    assert score(cs, phi)["gmp"] == pytest.approx(not_renormalised, rel=1e-12)
    moves = score(cs, phi, choices="distance_km > 0")
    assert moves["gmp"] == pytest.approx(renormalised, rel=1e-12)
    assert moves["lift"] == pytest.approx(1, rel=1e-12)


def test_all_choices_of_three_decisions_by_hand() -> None:
    cs, phi = make(*THREE)
    row = score(cs, phi)
    log_p = np.log([1 / 12, 5 / 8, 3 / 8])
    null = np.log([1 / 3, 1 / 3, 1 / 4])
    contrast = [
        (np.log(1 + 8 / 1) + np.log(1 + 3 / 1)) / 2,
        (np.log(1 + 1 / 5) + np.log(1 + 2 / 5)) / 2,
        (np.log(1 + 2 / 3) + np.log(1 + 1 / 3) + np.log(1 + 2 / 3)) / 3,
    ]
    assert (row["n_individuals"], row["n_decisions"]) == (1, 3)
    assert row["log_probability"] == pytest.approx(log_p.mean(), rel=1e-12)
    assert row["gmp"] == pytest.approx((1 / 12 * 5 / 8 * 3 / 8) ** (1 / 3), rel=1e-12)
    assert row["null_gmp"] == pytest.approx((1 / 3 * 1 / 3 * 1 / 4) ** (1 / 3), rel=1e-12)
    assert row["lift"] == pytest.approx(np.exp(log_p.mean() - null.mean()), rel=1e-12)
    assert row["mean_probability"] == pytest.approx((1 / 12 + 5 / 8 + 3 / 8) / 3, rel=1e-12)
    assert row["contrast_loss"] == pytest.approx(np.mean(contrast), rel=1e-12)


def test_moves_of_three_decisions_by_hand() -> None:
    # without stay: 1 of 1 + 3, the second decision is out, 3 of 3 + 1 + 2
    cs, phi = make(*THREE)
    row = score(cs, phi, choices="distance_km > 0")
    assert row["n_decisions"] == 2
    assert row["gmp"] == pytest.approx((1 / 4 * 3 / 6) ** 0.5, rel=1e-12)
    assert row["null_gmp"] == pytest.approx((1 / 2 * 1 / 3) ** 0.5, rel=1e-12)
    assert row["lift"] == pytest.approx((1 / 4 * 3 / 6) ** 0.5 / (1 / 2 * 1 / 3) ** 0.5, rel=1e-12)
    assert row["mean_probability"] == pytest.approx((1 / 4 + 3 / 6) / 2, rel=1e-12)
    contrast = [np.log(1 + 3 / 1), (np.log(1 + 1 / 3) + np.log(1 + 2 / 3)) / 2]
    assert row["contrast_loss"] == pytest.approx(np.mean(contrast), rel=1e-12)


def test_a_behavior_group_keeps_decisions_and_all_their_choices() -> None:
    cs, phi = make(*THREE)
    row = score(cs, phi, behavior="selected_distance_km > 0")
    assert row["n_decisions"] == 2
    assert row["gmp"] == pytest.approx((1 / 12 * 3 / 8) ** 0.5, rel=1e-12)  # stay is still among the choices
    assert row["null_gmp"] == pytest.approx((1 / 3 * 1 / 4) ** 0.5, rel=1e-12)


def test_individuals_or_decisions_weigh_the_same() -> None:
    # a: p = 1/2 and 1/4; b: p = 1/8
    cs, phi = make(("a", [1, 1], 0), ("b", [7, 1], 1), ("a", [3, 1], 1))
    by_decision, by_individual = score(cs, phi), score(cs, phi, by="individual")
    assert by_decision["gmp"] == pytest.approx((1 / 2 * 1 / 4 * 1 / 8) ** (1 / 3), rel=1e-12)
    assert by_individual["gmp"] == pytest.approx(((1 / 2 * 1 / 4) ** (1 / 2) * (1 / 8)) ** (1 / 2), rel=1e-12)
    assert by_decision["mean_probability"] == pytest.approx((1 / 2 + 1 / 4 + 1 / 8) / 3, rel=1e-12)
    assert by_individual["mean_probability"] == pytest.approx(((1 / 2 + 1 / 4) / 2 + 1 / 8) / 2, rel=1e-12)
    contrast = np.log([1 + 1 / 1, 1 + 3 / 1, 1 + 7 / 1])  # a, a, b
    assert by_decision["contrast_loss"] == pytest.approx(contrast.mean(), rel=1e-12)
    assert by_individual["contrast_loss"] == pytest.approx((contrast[:2].mean() + contrast[2]) / 2, rel=1e-12)
    assert by_decision["n_individuals"] == by_individual["n_individuals"] == 2


def test_a_decision_with_one_choice_left_counts_with_certainty_and_has_no_contrast() -> None:
    cs, phi = make(("a", [3, 1], 1), ("b", [3, 1, 1], 1))
    row = score(cs, phi, choices="distance_km > 0", by="individual")
    assert (row["n_individuals"], row["n_decisions"]) == (2, 2)
    assert row["gmp"] == pytest.approx((1 * 1 / 2) ** 0.5, rel=1e-12)
    assert row["null_gmp"] == pytest.approx((1 * 1 / 2) ** 0.5, rel=1e-12)
    assert row["contrast_loss"] == pytest.approx(np.log(2), rel=1e-12)  # of b alone
    assert score(cs, phi, choices="distance_km > 0", behavior="n_choices_in_group > 1")["n_decisions"] == 1
    assert score(cs, phi, choices="distance_km > 0", behavior="n_choices > 1")["n_decisions"] == 2


def test_only_certain_decisions_have_no_contrast_loss_at_all() -> None:
    row = score(*make(("a", [3], 0)))
    assert np.isnan(row["contrast_loss"])
    assert (row["log_probability"], row["gmp"], row["lift"]) == (0, 1, 1)


def test_no_model_scores_ln_two_per_contrast_and_lift_exactly_one() -> None:
    rng = np.random.default_rng(0)
    cs, _ = make(*((str(rng.integers(5)), [1.0] * n, int(rng.integers(n))) for n in rng.integers(1, 30, 500)))
    for level in (0.0, 4.2):
        table = evaluate({"none": np.full(cs.n_rows, level)}, cs, choice_groups=ALL | MOVE, behavior_groups=ALL)
        assert (table["lift"] == 1).all()
        assert (table["gmp"] == table["null_gmp"]).all()
        np.testing.assert_allclose(table["contrast_loss"], np.log(2), rtol=1e-14)


def test_nineteen_equal_choices_score_as_no_model_does_in_the_published_table() -> None:
    # FIELD.md: none, train C -.693, D -2.944
    row = score(*make(*[("a", [1.0] * 19, 4)] * 3))
    assert (round(-row["contrast_loss"], 3), round(row["log_probability"], 3)) == (-0.693, -2.944)


@pytest.mark.parametrize(("d", "percent"), [(-1.385, 25.0), (-1.351, 25.9), (-1.340, 26.2), (-1.247, 28.7)])
def test_published_log_probabilities_give_the_published_gmp(d: float, percent: float) -> None:
    row = score(*make(("a", [np.exp(d), 1 - np.exp(d)], 0)))
    assert row["log_probability"] == pytest.approx(d, rel=1e-12)
    assert round(100 * row["gmp"], 1) == percent


def test_decisions_of_unknown_selection_do_not_count() -> None:
    cs, phi = make(THREE[0], ("a", [1, 1, 1, 1], -1), ("b", [1, 1], -1), *THREE[1:])
    for choices in ("all", "distance_km > 0"):
        known = score(*make(*THREE), choices=choices)
        pd.testing.assert_series_equal(score(cs, phi, choices=choices), known, check_names=False)


def test_an_impossible_selection_has_gmp_zero_and_infinite_loss() -> None:
    cs, _ = make(("a", [1, 1, 1], 1), ("b", [1, 1], 0))
    row = score(cs, np.array([0, -np.inf, -np.inf, 0, 0.0]), by="individual")
    assert (row["gmp"], row["lift"], row["contrast_loss"], row["log_probability"]) == (0, 0, np.inf, -np.inf)
    assert row["mean_probability"] == pytest.approx((0 + 1 / 2) / 2)


# ------------------------------------------------------------------------------------ against a plain loop


def random_world(seed: int, n_decisions: int = 60) -> tuple[ChoiceSets, dict[str, np.ndarray]]:
    """Ragged choice sets with context, gaps and unknown selections, and the log-odds of two models."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, 9, n_decisions)
    offsets = np.concatenate([[0], np.cumsum(counts)])
    distance = np.where(rng.uniform(size=offsets[-1]) < 0.3, 0, rng.uniform(5, 100, offsets[-1]))
    sst = np.where(rng.uniform(size=offsets[-1]) < 0.1, np.nan, rng.normal(10, 3, offsets[-1]))
    night = np.repeat(rng.integers(0, 2, n_decisions), counts)
    cs = ChoiceSets(
        decisions=pd.DataFrame(
            {
                "individual": rng.choice(list("abcde"), n_decisions),
                "decision": np.arange(n_decisions),
                "time_utc": pd.date_range("2020-01-01", periods=n_decisions, freq="37h").astype("datetime64[ns]"),
                "region": rng.choice(["N", "S"], n_decisions),
                "split": rng.choice(["validation", "train"], n_decisions),
            }
        ),
        offsets=offsets,
        choice=np.concatenate([np.arange(n) for n in counts]),
        selected=np.where(rng.uniform(size=n_decisions) < 0.9, offsets[:-1] + rng.integers(0, counts), -1),
        features={"distance_km": distance, "sst": sst, "night": night},
        info={"distance_km": FeatureInfo("pair", "km"), "night": FeatureInfo("decision")},
    )
    return cs, {"m1": rng.normal(0, 2, offsets[-1]), "m2": rng.normal(0, 1, offsets[-1]).astype(np.float32)}


CHOICE_GROUPS = {
    "all": "all",
    "move": "distance_km > 0",
    "near": "0 < distance_km <= 50",
    "warm": "sst > 9 or choice == 0",
    "south": 'region == "S" and distance_km > 0',
    "june": "month == 6",
    "nobody": "distance_km < 0",
}
BEHAVIOR_GROUPS = {
    "all": "True",
    "summer": "month in (5, 6, 7)",
    "north at night": 'region == "N" and night',
    "movers": "selected_distance_km > 0",
    "many": "n_choices_in_group > 2",
    "a": 'individual == "a"',
    "nobody": "year == 1999",
}


def keeps_choice(group: str, decision: dict[str, Any], distance: float, sst: float, choice: int) -> bool:
    return {
        "all": True,
        "move": distance > 0,
        "near": 0 < distance <= 50,
        "warm": sst > 9 or choice == 0,
        "south": decision["region"] == "S" and distance > 0,
        "june": decision["time_utc"].month == 6,
        "nobody": False,
    }[group]


def keeps_decision(group: str, decision: dict[str, Any], distance: float, night: float, n_left: int) -> bool:
    return {
        "all": True,
        "summer": decision["time_utc"].month in (5, 6, 7),
        "north at night": decision["region"] == "N" and night == 1,
        "movers": distance > 0,
        "many": n_left > 2,
        "a": decision["individual"] == "a",
        "nobody": False,
    }[group]


def mean_of(values: dict[str, list[float]], weighting: str) -> float:
    """Mean of values by individual, without gaps; NaN of nothing."""
    lists = [[v for v in of if not np.isnan(v)] for of in values.values()]
    if weighting == "decision":
        lists = [[v for of in lists for v in of]]
    means = [sum(of) / len(of) for of in lists if of]
    return sum(means) / len(means) if means else np.nan


def plain(cs: ChoiceSets, phi: np.ndarray, split: str, choices: str, behavior: str) -> dict[str, list[float]]:
    """What a loop over decisions and dictionaries finds: weighting -> columns of the table from n_individuals on."""
    distance, sst, night = (cs.features[name].tolist() for name in ("distance_km", "sst", "night"))
    found: dict[str, list[tuple[float, float, float, float]]] = {}
    for d, decision in enumerate(cs.decisions.to_dict("records")):
        rows = range(cs.offsets[d], cs.offsets[d + 1])
        odds = {
            r: np.exp(float(phi[r])) for r in rows if keeps_choice(choices, decision, distance[r], sst[r], r - rows[0])
        }
        s = int(cs.selected[d])
        if s not in odds or decision["split"] != split:
            continue
        if not keeps_decision(behavior, decision, distance[s], night[s], len(odds)):
            continue
        contrasts = [np.log1p(odds[r] / odds[s]) for r in odds if r != s]
        p = odds[s] / sum(odds.values())
        contrast = sum(contrasts) / len(contrasts) if contrasts else np.nan
        found.setdefault(decision["individual"], []).append((contrast, np.log(p), -np.log(len(odds)), p))
    answer = {}
    for weighting in ("individual", "decision"):
        contrast, log_p, null, p = (
            mean_of({i: [x[k] for x in v] for i, v in found.items()}, weighting) for k in range(4)
        )
        counts = [len(found), sum(map(len, found.values()))]
        answer[weighting] = [*counts, contrast, log_p, np.exp(log_p), np.exp(null), np.exp(log_p - null), p]
    return answer


@pytest.mark.parametrize("seed", [0, 1])
def test_the_table_is_what_a_plain_loop_finds_whatever_the_blocks(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    cs, models = random_world(seed)
    table = evaluate(models, cs, choice_groups=CHOICE_GROUPS, behavior_groups=BEHAVIOR_GROUPS)
    assert list(table) == GROUP_COLUMNS + INTERVAL_COLUMNS
    pd.testing.assert_frame_equal(
        evaluate(models, cs, choice_groups=CHOICE_GROUPS, behavior_groups=BEHAVIOR_GROUPS, method=None),
        table[GROUP_COLUMNS],
    )
    assert len(table) == 2 * 2 * len(CHOICE_GROUPS) * len(BEHAVIOR_GROUPS) * 2
    for (model, split, choices, behavior), rows in table.groupby(GROUP_COLUMNS[:4]):
        expected = plain(cs, models[model], split, choices, behavior)
        assert rows["weighting"].tolist() == list(expected)
        np.testing.assert_allclose(rows[GROUP_COLUMNS[5:]].to_numpy(dtype=float), list(expected.values()), rtol=1e-12)
    monkeypatch.setattr(mimic.scores, "_BLOCK_ROWS", 16)
    in_blocks = evaluate(models, cs, choice_groups=CHOICE_GROUPS, behavior_groups=BEHAVIOR_GROUPS)
    pd.testing.assert_frame_equal(in_blocks, table, rtol=1e-13)


# ------------------------------------------------------------------------------------------- invariants


def test_rows_come_in_the_order_model_split_choice_group_behavior_group_weighting() -> None:
    cs, models = random_world(0)
    table = evaluate(models, cs, choice_groups=ALL | MOVE, behavior_groups={"x": "night", "y": "not night"})
    keys = [tuple(row) for row in table[GROUP_COLUMNS[:5]].itertuples(index=False)]
    assert keys[:5] == [
        ("m1", "train", "all", "x", "individual"),
        ("m1", "train", "all", "x", "decision"),
        ("m1", "train", "all", "y", "individual"),
        ("m1", "train", "all", "y", "decision"),
        ("m1", "train", "move", "x", "individual"),
    ]
    assert [k[1] for k in keys[::8]] == ["train", "validation"] * 2


def test_a_choice_group_scores_as_choice_sets_restricted_to_it() -> None:
    cs, models = random_world(2)
    for condition in CHOICE_GROUPS.values():
        part = cs.restrict(choice_mask(cs, condition))
        phi = models["m1"][np.isin(key(cs), key(part))]
        pd.testing.assert_series_equal(score(cs, models["m1"], choices=condition), score(part, phi), rtol=1e-12)


def key(cs: ChoiceSets) -> np.ndarray:
    """A number for each row that survives restriction."""
    return cs.decisions["decision"].to_numpy()[cs.decision_of_row] * 100 + cs.choice


def test_decisions_of_behavior_groups_that_split_the_whole_add_up() -> None:
    cs, models = random_world(3)
    parts = [score(cs, models["m1"], behavior=text) for text in ("night", "not night")]
    whole = score(cs, models["m1"])
    assert sum(p["n_decisions"] for p in parts) == whole["n_decisions"]
    total = sum(p["n_decisions"] * p["log_probability"] for p in parts)
    assert total / whole["n_decisions"] == pytest.approx(whole["log_probability"], rel=1e-12)


def test_shifting_the_log_odds_of_decisions_changes_nothing() -> None:
    cs, models = random_world(4)
    shift = np.repeat(np.linspace(-50, 50, cs.n_decisions), cs.n_choices)
    for choices in CHOICE_GROUPS.values():
        shifted = score(cs, models["m1"] + shift, choices=choices)
        pd.testing.assert_series_equal(shifted, score(cs, models["m1"], choices=choices), rtol=1e-11)


def test_reordering_choices_within_decisions_changes_nothing() -> None:
    cs, models = random_world(5)
    rng = np.random.default_rng(0)
    order = np.lexsort((rng.uniform(size=cs.n_rows), cs.decision_of_row))
    place = np.argsort(order)
    shuffled = ChoiceSets(
        cs.decisions,
        cs.offsets,
        cs.choice[order],
        np.where(cs.selected >= 0, place[np.maximum(cs.selected, 0)], -1),
        {name: values[order] for name, values in cs.features.items()},
        cs.info,
    )
    groups: dict[str, Any] = {"choice_groups": CHOICE_GROUPS, "behavior_groups": BEHAVIOR_GROUPS}
    one_way = evaluate({"m": models["m1"]}, cs, **groups)
    pd.testing.assert_frame_equal(evaluate({"m": models["m1"][order]}, shuffled, **groups), one_way, rtol=1e-12)


def test_evaluating_changes_neither_log_odds_nor_choice_sets() -> None:
    cs, models = random_world(6)
    before = {name: phi.copy() for name, phi in models.items()}
    for phi in models.values():
        phi.flags.writeable = False
    evaluate(models, cs, choice_groups=CHOICE_GROUPS, behavior_groups=BEHAVIOR_GROUPS)
    assert all((models[name] == before[name]).all() for name in models)


# -------------------------------------------------------------------------------- splits and empty groups


def test_splits_come_train_first_and_all_may_be_asked_for() -> None:
    cs, phi = make(*THREE, ("b", [1, 1], 0), split=["test", "validation", "train", None])
    assert list(split_masks(cs, None)) == ["train", "validation", "test"]
    assert {name: mask.tolist() for name, mask in split_masks(cs, ["all", "test"]).items()} == {
        "all": [True] * 4,
        "test": [True, False, False, False],
    }
    table = evaluate({"m": phi}, cs, choice_groups=ALL, behavior_groups=ALL, weightings=["decision"])
    assert table["n_decisions"].tolist() == [1, 1, 1]
    with pytest.raises(ValueError, match="unknown split tset; known are train, validation, test, all"):
        split_masks(cs, ["tset"])


def test_without_a_split_column_there_is_one_split_all() -> None:
    cs, phi = make(*THREE)
    assert evaluate({"m": phi}, cs, choice_groups=ALL, behavior_groups=ALL)["split"].tolist() == ["all", "all"]


def test_an_empty_group_has_counts_zero_and_no_numbers() -> None:
    cs, phi = make(*THREE)
    for row in (score(cs, phi, choices="distance_km > 99"), score(cs, phi, behavior="selected_distance_km > 99")):
        assert (row["n_individuals"], row["n_decisions"]) == (0, 0)
        assert row[GROUP_COLUMNS[7:]].isna().all()


def test_choice_sets_without_decisions_give_empty_groups() -> None:
    cs, phi = make(*THREE)
    empty = cs.filter(np.zeros(3, dtype=bool))
    table = evaluate({"m": phi[:0]}, empty, choice_groups=ALL | MOVE, behavior_groups={"s": "selected_distance_km > 0"})
    assert table["n_decisions"].tolist() == [0] * 4
    assert len(decision_table({"m": phi[:0]}, empty)) == 0
    assert mean_choice_probability({"m": phi[:0]}, empty, "distance_km == 0")["observed"].isna().all()


def test_counts_are_integers() -> None:
    table = evaluate({"m": make(*THREE)[1]}, make(*THREE)[0], choice_groups=ALL, behavior_groups=ALL)
    assert table["n_individuals"].dtype == table["n_decisions"].dtype == np.int64


# ----------------------------------------------------------------------------- what groups may speak of


def test_behavior_groups_speak_of_decisions_and_of_selected_choices() -> None:
    times = np.array(["2020-02-29T23:00", "NaT", "2021-07-01"], dtype="datetime64[ns]")
    cs, _ = make(*THREE, time_utc=times, tag=["x", "y", "z"])
    cs = cs.with_features(
        {"length_cm": np.repeat([70.0, 70, 90], cs.n_choices)}, {"length_cm": FeatureInfo("decision", "cm")}
    )

    def holds(text: str) -> list[int]:
        return np.flatnonzero(behavior_mask(cs, text)).tolist()

    assert holds("month == 2 and hour == 23 and year == 2020 and day_of_year == 60") == [0]
    assert holds("month != 2") == [2]  # the decision without a time is in neither
    assert holds("length_cm > 80") == [2]
    assert holds("selected_length_cm > 80") == [2]
    assert holds("selected_distance_km == 0") == [1]
    assert holds("selected_choice == 1") == [0, 2]
    assert holds("n_choices == 4") == [2]
    assert holds('tag in ("x", "z") and decision < 2') == [0]
    assert behavior_names(cs) == [
        "individual", "decision", "time_utc", "tag", "month", "hour", "year", "day_of_year", "n_choices", "length_cm",
        "selected_distance_km", "selected_length_cm", "selected_choice", "n_choices_in_group",
    ]  # fmt: skip


def test_choice_groups_speak_of_choices_and_of_their_decisions() -> None:
    cs, _ = make(*THREE[:2], region=["N", None])
    assert choice_names(cs) == ["distance_km", "choice", "individual", "decision", "region", "n_choices"]
    assert choice_mask(cs, 'region == "N" and choice > 0').tolist() == [False, True, True, False, False, False]
    assert choice_mask(cs, 'region != "N" or choice == 0').tolist() == [True, False, False, True, False, False]
    assert choice_mask(cs, 'region == "N"').tolist() == [True] * 3 + [False] * 3
    text = ChoiceSets(cs.decisions, cs.offsets, list("abcabc"), cs.selected)
    assert choice_mask(text, 'choice in ("a", "c")').tolist() == [True, False, True] * 2


def test_a_column_of_its_own_wins_over_a_derived_one() -> None:
    times = np.array(["2020-02-01"], dtype="datetime64[ns]")
    cs, _ = make(THREE[0], time_utc=times, month=[7])
    assert behavior_mask(cs, "month == 7").all()
    cs = cs.with_features({"month": np.array([1.0, 2.0, 3.0])})
    assert choice_mask(cs, "month == 2").tolist() == [False, True, False]


def test_unknown_selections_are_in_no_behavior_group() -> None:
    cs, _ = make(THREE[0], ("b", [1, 1], -1))
    for text in ("all", "selected_distance_km > 0", "not selected_distance_km < 0"):
        assert behavior_mask(cs, text).tolist() == [True, False]


def test_names_of_the_other_kind_of_group_are_refused_with_a_hint() -> None:
    cs, _ = make(*THREE)
    with pytest.raises(ValueError, match=r"distance_km \(did you mean selected_distance_km\?\)"):
        behavior_mask(cs, "distance_km > 0")
    with pytest.raises(ValueError, match=r"selected_distance_km \(did you mean distance_km\?\)"):
        choice_mask(cs, "selected_distance_km > 0")
    with pytest.raises(ValueError, match="unknown column month"):
        behavior_mask(cs, "month == 6")


# ----------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("log_odds", "message"),
    [
        ({}, "at least one model; got none"),
        ({"m": np.zeros(9)}, r"log-odds of model m must have shape \(row,\) = \(10,\); got \(9,\)"),
        ({"m": np.zeros((10, 1))}, r"got \(10, 1\)"),
        (
            {"ok": np.zeros(10), "m": np.full(10, np.nan)},
            "log-odds of model m must be finite or -inf; 10 of 10 are NaN",
        ),
        ({"m": np.full(10, np.inf)}, "model m must be finite or -inf; 10 of 10"),
        ({"m": np.full(10, -np.inf)}, "model m: every choice of a decision has log-odds -inf"),
    ],
)
def test_log_odds_that_do_not_fit_are_refused_by_the_name_of_their_model(
    log_odds: dict[str, np.ndarray], message: str
) -> None:
    cs, _ = make(*THREE)
    with pytest.raises(ValueError, match=message):
        evaluate(log_odds, cs, choice_groups=ALL, behavior_groups=ALL)
    with pytest.raises(ValueError, match=message):
        mean_choice_probability(log_odds, cs, "all")
    with pytest.raises(ValueError, match=message):
        decision_table(log_odds, cs)


def test_an_unknown_weighting_is_refused() -> None:
    cs, phi = make(*THREE)
    with pytest.raises(ValueError, match='weighting must be "individual" or "decision"; got \'animal\''):
        evaluate({"m": phi}, cs, choice_groups=ALL, behavior_groups=ALL, weightings=["animal"])  # type: ignore[list-item]


# --------------------------------------------------------------------------------- tables of decisions


def test_the_decision_table_by_hand() -> None:
    cs, phi = make(*THREE, ("b", [1, 1], -1), split="train", origin=[7, 8, 9, 10], tag="x")
    table = decision_table({"m": phi, "none": 0 * phi}, cs, choice_group="distance_km > 0")
    assert list(table) == ["individual", "decision", "split", "origin", "n_choices", "null", "m", "none"]
    assert table["decision"].tolist() == [0, 2]
    assert table["origin"].tolist() == [7, 9]
    assert table["n_choices"].tolist() == [2, 3]
    np.testing.assert_allclose(table["m"], np.log([1 / 4, 3 / 6]), rtol=1e-12)
    np.testing.assert_array_equal(table["none"], table["null"])


def test_the_decision_table_has_the_mean_of_the_group_table() -> None:
    cs, models = random_world(7)
    table = decision_table(models, cs, choice_group="distance_km > 0")
    assert table["m1"].mean() == pytest.approx(score(cs, models["m1"], choices="distance_km > 0")["log_probability"])


def test_a_model_of_the_name_of_a_column_is_refused_in_the_decision_table() -> None:
    cs, phi = make(*THREE)
    with pytest.raises(ValueError, match="no model may be called null here"):
        decision_table({"null": phi}, cs)


# --------------------------------------------------------------------------------- shares of a kind of choice


def test_predicted_and_observed_share_of_staying_by_hand() -> None:
    cs, phi = make(*THREE, ("b", [1, 3], 0))
    table = mean_choice_probability({"m": phi, "none": 0 * phi}, cs, "distance_km == 0")
    predicted = np.array([8 / 12, 5 / 8, 2 / 8, 1 / 4])
    row = one(table, model="m", weighting="decision")
    assert (row["n_individuals"], row["n_decisions"]) == (2, 4)
    assert row["predicted"] == pytest.approx(predicted.mean(), rel=1e-12)
    assert row["observed"] == 2 / 4
    row = one(table, model="m", weighting="individual")
    assert row["predicted"] == pytest.approx((predicted[:3].mean() + predicted[3]) / 2, rel=1e-12)
    assert row["observed"] == pytest.approx((1 / 3 + 1) / 2)
    assert one(table, model="none", weighting="decision")["predicted"] == pytest.approx(
        (1 / 3 + 1 / 3 + 1 / 4 + 1 / 2) / 4
    )


def test_shares_are_over_decisions_that_have_such_a_choice_and_know_their_selection() -> None:
    cs, phi = make(("a", [1, 3], 1), ("a", [1], 0), ("a", [1, 1, 2], -1), ("b", [1, 1, 2], 2))
    row = one(mean_choice_probability({"m": phi}, cs, "distance_km > 0"), weighting="decision")
    assert row["n_decisions"] == 2  # the second has no move, the third is unknown
    assert row["predicted"] == pytest.approx((3 / 4 + (1 + 2) / 4) / 2)
    assert row["observed"] == 1


def test_shares_within_a_behavior_group_and_a_split() -> None:
    cs, phi = make(*THREE, split=["train", "train", "validation"])
    table = mean_choice_probability({"m": phi}, cs, "distance_km == 0", behavior_group="selected_distance_km == 0")
    assert table["split"].tolist() == ["train", "train", "validation", "validation"]
    assert table["predicted"].tolist()[:2] == pytest.approx([5 / 8] * 2)
    assert table["observed"].tolist()[:2] == [1, 1]
    assert table["n_decisions"].tolist() == [1, 1, 0, 0]
    assert table[["predicted", "observed"]].iloc[2:].isna().all(axis=None)


def test_shares_of_choice_groups_that_split_the_whole_add_up_to_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mimic.scores, "_BLOCK_ROWS", 16)
    cs, _ = make(*((i, [1.0, 2.0, 3.0], k) for i in "abcdefgh" for k in range(3)))
    phi = np.random.default_rng(0).normal(size=cs.n_rows)
    parts = [mean_choice_probability({"m": phi}, cs, text) for text in ("choice == 0", "choice == 1", "choice > 1")]
    np.testing.assert_allclose(sum(p["predicted"] for p in parts), 1, rtol=1e-12)
    np.testing.assert_allclose(sum(p["observed"] for p in parts), 1, rtol=1e-12)


# ---------------------------------------------------------------------------------------------- as text


NO_INTERVAL = ["one", "individual:", "no", "interval"]


def test_the_text_table_is_aligned_rounded_and_says_where_nothing_is() -> None:
    cs, phi = make(*[THREE[0]] * 1500, ("b", [4], 0))
    table = evaluate(
        {"m": phi},
        cs,
        choice_groups=ALL | {"far": "distance_km > 99"},
        behavior_groups={"all": "all", "b": 'individual == "b"'},
        weightings=["decision"],
    )
    lines = format_groups(table).splitlines()
    assert len(lines) == 1 + 4
    header, whole, b, far, _ = lines
    assert header.split()[-1] == "note"
    assert header.split()[:7] == [*GROUP_COLUMNS[:5], "individuals", "decisions"]
    assert "split" not in format_groups(table, leave_out=["split"])
    assert whole.split() == [
        "m",
        "all",
        "all",
        "all",
        "decision",
        *("2", "1,501", "1.7918", "-2.4833"),
        *("8.35", "(1.16e-06", "to", "100)"),  # Student's interval of two animals
        *("33.4", "0.25", "(3.74e-05", "to", "1.67e+03)", "8.39"),
        *("few", "individuals"),
    ]
    assert b.split() == [
        "m",
        "all",
        "all",
        "b",
        "decision",
        "1",
        "1",
        "-",
        "0.0000",
        "100",
        "100",
        "1",
        "100",
        *NO_INTERVAL,
    ]
    assert far.split() == ["m", "all", "far", "all", "decision", "0", "0", "no", "decisions", *["-"] * 5]
    end = header.index("contrast_loss") + len("contrast_loss")
    assert all(line[end - 1] != " " and line[end : end + 2] == "  " for line in lines)


def test_the_text_table_of_nothing_is_its_header() -> None:
    assert format_groups(pd.DataFrame(columns=GROUP_COLUMNS)).startswith("model")
    with pytest.raises(ValueError, match="group table: expected the columns"):
        format_groups(pd.DataFrame({"model": ["m"]}))


# ------------------------------------------------------------------------------------- reference numbers


def reference(shared: Path, key: str) -> tuple[ChoiceSets, np.ndarray, dict[str, Any]]:
    """Choice sets of a reference table, its log-odds in float64 from the raw columns, and its numbers."""
    known, table = reference_table(shared, key)
    cs = from_table(table, features=list(known["coef"]))
    assert (cs.n_decisions, cs.n_rows) == (known["n_decisions"], known["n_rows"])
    assert (cs.choice == table["choice"]).all()  # rows of a decision lie together, so the order is the file's
    return cs, table[list(known["coef"])].to_numpy() @ np.array(list(known["coef"].values())), known


@pytest.mark.parametrize("key", ["logan", "mode_canada", "mtc_work", "wildboar_habitat", "wildboar_habitat_movement"])
def test_reference_coefficients_give_the_reference_likelihood_and_gmp(shared: Path, key: str) -> None:
    # reference.json: an independent float64 Newton solver, agreeing with R survival, mlogit and larch
    cs, phi, known = reference(shared, key)
    row = score(cs, phi)
    assert row["n_decisions"] * row["log_probability"] == pytest.approx(known["log_likelihood"], rel=1e-10)
    assert row["gmp"] == pytest.approx(known["gmp"], rel=1e-9)
    assert row["null_gmp"] == pytest.approx(known["null_gmp"], rel=1e-9)
    assert row["n_decisions"] * np.log(row["null_gmp"]) == pytest.approx(known["null_log_likelihood"], rel=1e-10)
    assert row["lift"] == pytest.approx(known["gmp"] / known["null_gmp"], rel=1e-9)
    assert decision_table({"m": phi}, cs)["m"].sum() == pytest.approx(known["log_likelihood"], rel=1e-10)


@pytest.mark.parametrize("key", ["wildboar_habitat", "wildboar_habitat_movement"])
def test_boars_that_weigh_the_same_have_the_reference_gmp(shared: Path, key: str) -> None:
    cs, phi, known = reference(shared, key)
    row = score(cs, phi, by="individual")
    assert row["n_individuals"] == 8
    assert row["log_probability"] == pytest.approx(known["balanced_mean_log_probability"], rel=1e-9)
    assert row["gmp"] == pytest.approx(known["gmp_balanced_by_individual"], rel=1e-9)


def test_at_the_optimum_a_mode_with_a_constant_has_the_share_it_has(shared: Path) -> None:
    # the score equation of an alternative-specific constant: predicted choices = observed choices
    cs, phi, _ = reference(shared, "mode_canada")
    for mode in (1, 2, 3):
        row = one(mean_choice_probability({"m": phi}, cs, f"choice == {mode}"), weighting="decision")
        assert row["predicted"] == pytest.approx(row["observed"], abs=1e-9)


# ---------------------------------------------------------------------------------------------- imports


def test_importing_the_evaluator_loads_neither_tensorflow_nor_matplotlib() -> None:
    code = "import sys, mimic.evaluation, mimic.tables; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "mimic.evaluation" in loaded
    assert not {"tensorflow", "keras", "matplotlib", "seaborn", "sklearn", "h3", "xarray"} & set(loaded)
