"""The chain rule of a movement: odds worked by hand, stages that add up, and partitions that are none."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mimic.bootstrap import mean_intervals
from mimic.chain import CHAIN_COLUMNS, chain_rule, format_chain
from mimic.chain_classes import CLASS_COLUMNS, chain_classes
from mimic.evaluation import evaluate
from mimic.schema import ChoiceSets
from mimic.stages import default_stages, divide, log_mass

MOVE = {"stay or move": {"stay": "distance_km == 0", "move": "distance_km > 0"}}
BANDS = {**MOVE, "band": {"near": "0 < distance_km <= 30", "far": "distance_km > 30"}}
COLUMN = ["model", "split", "behavior_group", "weighting"]


def one_decision(odds: list[float], distance: list[float], selected: int) -> tuple[np.ndarray, ChoiceSets]:
    decisions = pd.DataFrame({"individual": ["a"], "decision": [1]})
    cs = ChoiceSets(decisions, [0, len(odds)], np.arange(len(odds)), [selected], {"distance_km": distance})
    with np.errstate(divide="ignore"):
        return np.log(odds), cs


def ragged(seed: int = 0, n_decisions: int = 400, *, unknown: bool = False) -> ChoiceSets:
    """Sets of 1 to 9 choices of 12 individuals; the first choice is to stay, the others up to 100 km away."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 10, n_decisions)
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    distance = rng.uniform(1, 100, offsets[-1]).astype(np.float32)
    distance[offsets[:-1]] = 0
    selected = offsets[:-1] + rng.integers(0, sizes)
    if unknown:
        selected[::7] = -1
    individual = rng.integers(0, 12, n_decisions).astype(str)
    split = np.where(individual.astype(int) < 5, "validation", "train")
    decisions = pd.DataFrame({"individual": individual, "decision": np.arange(n_decisions), "split": split})
    return ChoiceSets(decisions, offsets, np.arange(offsets[-1]), selected, {"distance_km": distance})


def some_log_odds(cs: ChoiceSets, seed: int = 1) -> dict[str, np.ndarray]:
    """Ordinary ones, huge ones, and ones with impossible alternatives."""
    rng = np.random.default_rng(seed)
    usual = rng.normal(size=cs.n_rows)
    impossible = np.where((rng.uniform(size=cs.n_rows) < 0.3) & ~cs.is_selected, -np.inf, usual)
    for start, selected in zip(cs.offsets[:-1], cs.selected, strict=True):
        if selected < 0:
            impossible[start] = 0.0
    return {"usual": usual, "huge": 1e4 * usual, "impossible": impossible, "far off": usual + 1e6}


def rows_of(table: pd.DataFrame, **where: Any) -> pd.DataFrame:
    for name, value in where.items():
        table = table[table[name] == value]
    return table


# ---------------------------------------------------------------- by hand


def test_odds_by_hand_give_the_probability_of_each_stage() -> None:
    # Stay 8; near moves 1 and 3; far moves 2, 2, 4: sum 20. The near move of odds 3 is selected.
    # p(move) = 12/20, p(near | move) = 4/12, p(cell | near) = 3/4; chance: 5/6, 2/5, 1/2.
    phi, cs = one_decision([8, 1, 3, 2, 2, 4], [0, 20, 20, 40, 40, 40], selected=2)
    table = rows_of(chain_rule({"m": phi}, cs, BANDS), weighting="decision")
    assert table["stage"].tolist() == ["stay or move", "band", "choice", "all"]
    np.testing.assert_allclose(table["gmp"], [12 / 20, 4 / 12, 3 / 4, 3 / 20], rtol=1e-14)
    np.testing.assert_allclose(table["null_gmp"], [5 / 6, 2 / 5, 1 / 2, 1 / 6], rtol=1e-14)
    np.testing.assert_allclose(table["lift"], [0.72, 5 / 6, 1.5, 0.9], rtol=1e-13)
    np.testing.assert_allclose(table["gain"], np.log([0.72, 5 / 6, 1.5, 0.9]), rtol=1e-13)
    assert table["n_open"].tolist() == [1, 1, 1, 1]


def test_decision_that_stays_decides_nothing_after_the_first_stage() -> None:
    # Decision 1 stays (p = 8/10, chance 1/3); decision 2 moves to the far of two (p = 1/2 of moving x 1/5).
    decisions = pd.DataFrame({"individual": ["a", "a"], "decision": [1, 2]})
    cs = ChoiceSets(decisions, [0, 3, 6], [0, 1, 2] * 2, [0, 5], {"distance_km": [0.0, 20, 40] * 2})
    table = chain_rule({"m": np.log([8.0, 1, 1, 5, 4, 1])}, cs, BANDS, weightings=["decision"]).set_index("stage")
    assert table["n_open"].to_dict() == {"stay or move": 2, "band": 1, "choice": 0, "all": 2}
    assert table.loc["stay or move", "gmp"] == pytest.approx(np.sqrt(0.8 * 0.5))
    assert table.loc["band", "gmp"] == pytest.approx(np.sqrt(1 / 5))  # the stay counts with p = 1
    assert table.loc["band", "gmp_open"] == pytest.approx(1 / 5)
    assert table.loc["band", "null_gmp_open"] == pytest.approx(1 / 2)
    assert table.loc["band", "lift_open"] == pytest.approx(2 / 5)
    assert table.loc["choice", ["log_probability", "null_log_probability", "gain"]].tolist() == [0, 0, 0]
    assert table.loc["choice", "better_than_chance"] == "nothing to decide"
    assert np.isnan(table.loc["choice", "gmp_open"])


def test_classes_by_hand_have_the_shares_of_those_that_got_there() -> None:
    decisions = pd.DataFrame({"individual": ["a", "a"], "decision": [1, 2]})
    cs = ChoiceSets(decisions, [0, 3, 6], [0, 1, 2] * 2, [0, 5], {"distance_km": [0.0, 20, 40] * 2})
    table = chain_classes({"m": np.log([8.0, 1, 1, 5, 4, 1])}, cs, BANDS, weightings=["decision"])
    assert list(table.columns) == CLASS_COLUMNS
    assert table["within"].tolist() == ["all", "all", "move", "move"]
    assert table["class"].tolist() == ["stay", "move", "near", "far"]
    assert table["n_decisions"].tolist() == [2, 2, 1, 1]
    np.testing.assert_allclose(table["predicted"], [0.65, 0.35, 0.8, 0.2], rtol=1e-14)  # (.8 + .5) / 2; 4/5
    assert table["observed"].tolist() == [0.5, 0.5, 0, 1]
    np.testing.assert_allclose(table["null"], [1 / 3, 2 / 3, 1 / 2, 1 / 2], rtol=1e-14)


# ---------------------------------------------------------------- invariants


@pytest.mark.parametrize("stages", [{}, MOVE, BANDS], ids=["none", "one", "two"])
def test_stages_add_up_to_the_whole(stages: Any) -> None:
    cs = ragged(unknown=True)
    models = some_log_odds(cs)
    groups = {"all": "all", "moves": "selected_distance_km > 0"}
    table = chain_rule(models, cs, stages, behavior_groups=groups)
    whole = evaluate(models, cs, choice_groups={"all": "all"}, behavior_groups=groups).set_index(COLUMN)
    parts = table[table["stage"] != "all"].groupby(COLUMN)[["log_probability", "null_log_probability", "gain"]].sum()
    # sums of numbers of 1e4: 1e-12 of them
    scale = 1 + whole["log_probability"].abs()
    assert ((parts["log_probability"] - whole["log_probability"]).abs() / scale).max() < 1e-12
    of_all = rows_of(table, stage="all").set_index(COLUMN)
    assert (parts["null_log_probability"] - of_all["null_log_probability"]).abs().max() < 1e-12
    np.testing.assert_allclose(np.log(whole["null_gmp"]), of_all["null_log_probability"], atol=1e-12)
    assert ((parts["gain"] - of_all["gain"]).abs() / scale).max() < 1e-12


def test_order_of_the_choices_does_not_matter() -> None:
    cs, stages = ragged(), BANDS
    reverse = np.concatenate([np.arange(e - 1, s - 1, -1) for s, e in itertools.pairwise(cs.offsets)])
    turned = ChoiceSets(
        cs.decisions,
        cs.offsets,
        cs.choice[reverse],
        cs.offsets[:-1] + cs.offsets[1:] - 1 - cs.selected,
        {"distance_km": cs.features["distance_km"][reverse]},
    )
    phi = some_log_odds(cs)["usual"]
    one, other = chain_rule({"m": phi}, cs, stages), chain_rule({"m": phi[reverse]}, turned, stages)
    pd.testing.assert_frame_equal(one, other, check_exact=False, atol=1e-12)
    one, other = chain_classes({"m": phi}, cs, stages), chain_classes({"m": phi[reverse]}, turned, stages)
    pd.testing.assert_frame_equal(one, other, check_exact=False, atol=1e-12)


def test_shift_of_all_log_odds_of_a_decision_does_not_matter() -> None:
    cs = ragged()
    phi = some_log_odds(cs)["usual"]
    shifted = phi + np.repeat(np.random.default_rng(5).normal(size=cs.n_decisions) * 50, cs.n_choices)
    one, other = (chain_rule({"m": p}, cs, BANDS) for p in (phi, shifted))
    pd.testing.assert_frame_equal(one, other, check_exact=False, atol=1e-10)


def test_null_is_no_better_than_chance_in_any_stage() -> None:
    cs = ragged()
    table = chain_rule({"none": np.full(cs.n_rows, 7.5)}, cs, BANDS)
    assert table["gain"].abs().max() == 0
    assert set(table["better_than_chance"]) == {"no better than chance"}
    np.testing.assert_allclose(table["lift_open"], 1, atol=1e-12)


def test_perfect_model_has_probability_one_in_every_stage() -> None:
    cs = ragged()
    table = chain_rule({"perfect": np.where(cs.is_selected, 0.0, -np.inf)}, cs, BANDS)
    assert (table["log_probability"] == 0).all()
    assert (table["gmp"] == 1).all()
    np.testing.assert_allclose(table["gain"], -table["null_log_probability"], atol=1e-12)
    assert set(table["better_than_chance"]) == {"yes"}


def test_probability_close_to_one_keeps_its_distance_from_one() -> None:
    # All the odds of moving are exp(-60) of those of staying: ln p(stay) = -2 exp(-60), far below 1e-16.
    phi, cs = one_decision([1.0, 1, 1], [0, 20, 40], selected=0)
    table = chain_rule({"m": phi + [1000.0, 940, 940]}, cs, MOVE, weightings=["decision"]).set_index("stage")
    assert table.loc["stay or move", "log_probability"] == pytest.approx(-2 * np.exp(-60), rel=1e-12)


def test_stage_within_an_improbable_class_is_exact() -> None:
    # Moves have odds of exp(-2000) together, which no float holds; within them they are 1 : 3.
    phi, cs = one_decision([1.0, 1, 3], [0, 20, 20], selected=2)
    table = chain_rule({"m": phi + [2000.0, 0, 0]}, cs, MOVE, weightings=["decision"]).set_index("stage")
    assert table.loc["stay or move", "log_probability"] == pytest.approx(np.log(4) - 2000, rel=1e-14)
    assert table.loc["choice", "gmp"] == pytest.approx(3 / 4, rel=1e-14)


def test_impossible_selection_is_named_and_counts_where_it_is_impossible() -> None:
    phi, cs = one_decision([1, 0, 0, 0], [0, 20, 20, 40], selected=1)
    table = chain_rule({"m": phi}, cs, BANDS, weightings=["decision"]).set_index("stage")
    assert table["log_probability"].to_dict() == {
        "stay or move": -np.inf,
        "band": pytest.approx(np.log(2 / 3)),  # all moves are equally impossible
        "choice": pytest.approx(np.log(1 / 2)),
        "all": -np.inf,
    }
    assert table.loc["all", "better_than_chance"] == "worse"
    assert "1 selected what is impossible" in table.loc["stay or move", "note"]
    assert chain_classes({"m": phi}, cs, BANDS, weightings=["decision"])["predicted"].tolist() == pytest.approx(
        [1, 0, 2 / 3, 1 / 3]
    )


def test_classes_of_each_stage_sum_to_one() -> None:
    cs = ragged(unknown=True)
    table = chain_classes(some_log_odds(cs), cs, BANDS)
    sums = table.groupby([*COLUMN, "stage", "within"])[["predicted", "observed", "null", "difference"]].sum()
    np.testing.assert_allclose(sums[["predicted", "observed", "null"]], 1, atol=1e-12)
    np.testing.assert_allclose(sums["difference"], 0, atol=1e-12)


def test_intervals_are_those_of_the_mean_gain_by_individual() -> None:
    cs = ragged()
    phi = some_log_odds(cs)["usual"]
    table = rows_of(chain_rule({"m": phi}, cs, {}, splits=["all"], seed=3), weighting="individual", stage="all")
    gains = np.array(
        [
            phi[s] - np.log(np.exp(phi[a:b]).sum()) + np.log(b - a)
            for s, (a, b) in zip(cs.selected, itertools.pairwise(cs.offsets), strict=True)
        ]
    )
    found = mean_intervals(gains, cs.individual_codes, seed=3)
    assert table[["gain", "gain_low", "gain_high"]].to_numpy()[0] == pytest.approx(
        [found.estimate[0], found.low[0], found.high[0]], abs=1e-12
    )


def test_gain_in_one_stage_is_found_there_and_nowhere_else() -> None:
    # Selections stay in 7 of 10 decisions and are otherwise uniform; the model knows that and no more.
    rng = np.random.default_rng(2)
    n, size = 1500, 6
    stays = rng.uniform(size=n) < 0.7
    decisions = pd.DataFrame({"individual": rng.integers(0, 20, n).astype(str), "decision": np.arange(n)})
    selected = np.arange(n) * size + np.where(stays, 0, rng.integers(1, size, n))
    distance = np.tile([0.0, 10, 20, 30, 40, 50], n)
    cs = ChoiceSets(
        decisions, np.arange(n + 1) * size, np.tile(np.arange(size), n), selected, {"distance_km": distance}
    )
    model = np.where(distance == 0, np.log(0.7), np.log(0.3 / 5))
    table = chain_rule({"m": model}, cs, BANDS, weightings=["individual"]).set_index("stage")
    assert table["better_than_chance"].to_dict() == {
        "stay or move": "yes",
        "band": "no better than chance",
        "choice": "no better than chance",
        "all": "yes",
    }
    shares = chain_classes({"m": model}, cs, BANDS, weightings=["individual"])
    assert ((shares["difference_low"] < 0) & (shares["difference_high"] > 0)).all()


def test_empty_groups_have_counts_of_zero_and_few_individuals_are_noted() -> None:
    cs = ragged()
    groups = {"nobody": "individual == 'x'", "one": "individual == '3'", "all": "all"}
    models = {"m": some_log_odds(cs)["usual"]}
    table = chain_rule(models, cs, BANDS, behavior_groups=groups, splits=["validation"], weightings=["individual"])
    empty, one, few = (rows_of(table, behavior_group=name) for name in groups)
    assert empty[["n_individuals", "n_decisions", "n_open"]].to_numpy().sum() == 0
    assert empty[["log_probability", "gain", "gain_low", "gmp", "lift_open"]].isna().all().all()
    assert set(one["note"]) == {"one individual: no interval"}
    assert set(one["better_than_chance"]) == {"unknown"}
    assert set(few["note"]) == {"few individuals"}
    classes = chain_classes(models, cs, BANDS, behavior_groups=groups, splits=["validation"])
    assert rows_of(classes, behavior_group="nobody")["predicted"].isna().all()


# ---------------------------------------------------------------- stages


def test_classes_in_a_third_stage_divide_what_the_second_left_whole() -> None:
    cs = ragged()
    stages = {
        **BANDS,
        "odd": {
            "odd": "0 < distance_km <= 30 and choice % 2 == 1",
            "even": "0 < distance_km <= 30 and choice % 2 == 0",
        },
    }
    last = divide(cs, stages)[-1]
    assert last.names == ("stay", "move / near / odd", "move / near / even", "move / far")
    assert last.labels == ("", "odd", "even", "")
    table = chain_rule({"m": some_log_odds(cs)["usual"]}, cs, stages)
    assert table["stage"].unique().tolist() == ["stay or move", "band", "odd", "choice", "all"]


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        (
            {"far": {"near": "distance_km <= 30", "far": "distance_km >= 20"}},
            r"stage 'far' has \d+ choices in more than one class, such as near and far \(individual/decision/choice",
        ),
        ({**MOVE, "band": {"near": "0 < distance_km <= 30"}}, r"leaves \d+ of the \d+ choices of 'move' in no class"),
        ({"band": {"near": "0 < distance_km <= 30", "far": "distance_km > 30"}}, r"of 'all' in no class"),
        ({"m": {"none": "distance_km > 1000"}}, "stage 'm' divides nothing: no choice is in any of its classes none"),
        ({"m": {}}, "stage 'm': expected classes"),
        ({"choice": MOVE["stay or move"]}, "no stage may be called choice"),
        ({"m": {"a": "depth > 3"}}, "unknown column depth"),
    ],
)
def test_classes_that_are_no_partition_are_refused(stages: Any, message: str) -> None:
    cs = ragged()
    with pytest.raises(ValueError, match=message):
        chain_rule({"m": np.zeros(cs.n_rows)}, cs, stages)


def test_overlaps_and_gaps_are_counted_with_examples() -> None:
    _, cs = one_decision([1, 1, 1], [0, 25, 40], selected=1)
    with pytest.raises(
        ValueError, match=r"has 1 choices in more than one class, .*\(individual/decision/choice a/1/1\)"
    ):
        divide(cs, {"far": {"near": "distance_km <= 30", "far": "distance_km >= 20"}})
    with pytest.raises(ValueError, match=r"leaves 1 of the 3 choices of 'all' in no class .*a/1/2\)"):
        divide(cs, {"far": {"near": "distance_km <= 30"}})


def test_log_odds_that_are_none_are_refused() -> None:
    cs = ragged()
    with pytest.raises(ValueError, match="model m must have shape"):
        chain_rule({"m": np.zeros(3)}, cs, MOVE)
    with pytest.raises(ValueError, match="are NaN or"):
        chain_rule({"m": np.full(cs.n_rows, np.nan)}, cs, MOVE)
    with pytest.raises(ValueError, match="model m: every choice of a decision"):
        chain_rule({"m": np.full(cs.n_rows, -np.inf)}, cs, MOVE)
    with pytest.raises(ValueError, match="weighting must be"):
        chain_rule({"m": np.zeros(cs.n_rows)}, cs, MOVE, weightings=["week"])  # type: ignore[list-item]


def test_default_stages_are_stay_and_bands_where_the_choice_sets_tell() -> None:
    cs = ragged()
    stages = default_stages(cs)
    assert list(stages) == ["stay or move", "distance"]
    assert list(stages["distance"]) == ["up to 30 km", "30 to 60 km", "over 60 km"]
    assert divide(cs, stages)[-1].names[0] == "stay"
    with_stay = cs.with_features({"stay": cs.features["distance_km"] == 0})
    assert default_stages(with_stay)["stay or move"] == {"stay": "stay > 0.5", "move": "stay <= 0.5"}
    assert chain_rule({"m": np.zeros(cs.n_rows)}, with_stay, default_stages(with_stay))["stage"].nunique() == 4
    bare = ChoiceSets(cs.decisions, cs.offsets, cs.choice, cs.selected, {"depth": cs.features["distance_km"]})
    assert default_stages(bare) == {}
    assert list(default_stages(bare.with_features({"stay": cs.features["distance_km"] == 0}))) == ["stay or move"]
    steps = bare.with_features({"distance_km": cs.features["distance_km"] + 1})
    assert list(default_stages(steps)) == ["distance"]
    divide(steps, default_stages(steps))


def test_choice_sets_without_decisions_have_empty_tables() -> None:
    cs = ragged().filter(np.zeros(400, dtype=bool))
    table = chain_rule({"m": np.zeros(0)}, cs, MOVE)
    assert table["n_decisions"].sum() == 0
    assert list(table.columns) == CHAIN_COLUMNS
    assert chain_classes({"m": np.zeros(0)}, cs, MOVE)["n_decisions"].sum() == 0
    assert len(log_mass(np.zeros(0), np.zeros(0, bool), np.zeros(1, dtype=int))) == 0


# ---------------------------------------------------------------- text


def test_text_says_what_is_common_once_and_shows_nats_first() -> None:
    phi, cs = one_decision([8, 1, 3], [0, 20, 20], selected=1)
    text = format_chain(chain_rule({"m": phi}, cs, MOVE, weightings=["individual"]))
    lines = text.splitlines()
    assert lines[0] == "model m, split all, behavior_group all, weighting individual"
    assert lines[1].split()[:6] == ["stage", "decisions", "open", "nats", "null", "gain"]
    assert " ".join(lines[2].split()) == "stay or move 1 1 -1.0986 -0.4055 -0.6931 - 33.3 0.5 0.5 unknown"
    assert lines[-1] == "note: one individual: no interval"
    assert all(len(line) == len(line.rstrip()) for line in lines)
