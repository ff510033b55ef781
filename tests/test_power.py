"""Power curves: the figures of a table worked out by hand, the level kept where there is nothing, curves that rise."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from mimic.options import TrainingOptions
from mimic.power import (
    POWER_COLUMNS,
    Effect,
    Finding,
    animals_needed,
    closed_bound,
    find_effect,
    network_findings,
    power_table,
)
from mimic.schema import ChoiceSets
from mimic.worlds import World, simulate, tilt_coefficient

PERIMETER = (-147.5, 54.0, 100.0)


def closed_sets(n_decisions: int, *, entered: int = 0) -> ChoiceSets:
    """Two open cells and a closed one; the closed one is selected in the first `entered` decisions."""
    decisions = pd.DataFrame({"individual": "a", "decision": np.arange(n_decisions)})
    selected = np.arange(n_decisions) * 3 + np.where(np.arange(n_decisions) < entered, 2, 0)
    closed = {"perimeter": np.tile([0.0, 0.0, 1.0], n_decisions)}
    return ChoiceSets(decisions, np.arange(n_decisions + 1) * 3, np.tile([1, 2, 3], n_decisions), selected, closed)


def curve(*powers: float, effect: str = "heading", mean_se: float = 0.1) -> pd.DataFrame:
    """A power table of 10, 20, ... individuals."""
    row = dict.fromkeys(POWER_COLUMNS, 0.0) | {"effect": effect, "truth": 0.1, "n_days": 30, "alpha": 0.05}
    return pd.DataFrame(
        [row | {"n_individuals": 10 * (k + 1), "power": p, "mean_se": mean_se} for k, p in enumerate(powers)]
    )


def test_closed_bound_worked_out_by_hand() -> None:
    # 30 decisions, none for the closed cell of three: 1 - q = .05 ** (1 / 30), below the model's 1/3
    bound, is_avoided = closed_bound(closed_sets(30), np.zeros(90))
    assert bound == pytest.approx(1 - 0.05 ** (1 / 30), abs=1e-9)
    assert is_avoided
    # 2 decisions refute nothing: (1 - 1/3)^2 = .44 is more than .05
    bound, is_avoided = closed_bound(closed_sets(2), np.zeros(6))
    assert bound == pytest.approx(1 - 0.05**0.5, abs=1e-9)
    assert not is_avoided


def test_closed_bound_of_an_entered_perimeter_is_one_and_out_of_reach_is_unknown() -> None:
    assert closed_bound(closed_sets(30, entered=1), np.zeros(90)) == (1.0, False)
    bound, is_avoided = closed_bound(closed_sets(3).restrict(np.tile([True, True, False], 3)), np.zeros(6))
    assert np.isnan(bound)
    assert not is_avoided


def test_closed_bound_does_not_move_with_the_level_of_the_log_odds() -> None:
    phi = np.random.default_rng(0).normal(size=90)
    assert closed_bound(closed_sets(30), phi + 7)[0] == pytest.approx(closed_bound(closed_sets(30), phi)[0], rel=1e-9)


def test_animals_needed_worked_out_by_hand() -> None:
    # half way between .7 (20) and .9 (30)
    assert animals_needed(curve(0.5, 0.7, 0.9)).loc[0, ["n_individuals", "basis"]].tolist() == [25, "between"]
    assert animals_needed(curve(0.85, 0.9)).loc[0, ["n_individuals", "basis"]].tolist() == [10, "at most"]
    # 20 animals have a standard error of .1 for .1; .8 takes an estimate of 1.960 + .842 standard errors: 20 * 2.80^2
    assert animals_needed(curve(0.1, 0.2)).loc[0, ["n_individuals", "basis"]].tolist() == [157, "beyond"]
    told = animals_needed(curve(0.05, effect="irrelevant")).iloc[0]
    assert (told["basis"], np.isnan(told["n_individuals"])) == ("nothing to find", True)
    assert np.isnan(animals_needed(curve(0.1, mean_se=np.nan)).loc[0, "n_individuals"])


@pytest.mark.parametrize("wanted", [0.0, 1.0, 80.0])
def test_impossible_wanted_power_is_refused(wanted: float) -> None:
    with pytest.raises(ValueError, match="power must lie between 0 and 1"):
        animals_needed(curve(0.5), power=wanted)


@pytest.fixture(scope="module")
def tilted() -> pd.DataFrame:
    """A tilt of 10 %: 51 % of moves would need thousands of decisions."""
    return power_table("heading", size=0.1, individuals=[20, 5], days=[15, 30], n_studies=30, seed=1)


def test_power_rises_with_animals_and_days_and_estimates_are_the_truth(tilted: pd.DataFrame) -> None:
    assert list(tilted.columns) == POWER_COLUMNS
    assert tilted[["n_individuals", "n_days"]].to_numpy().tolist() == [[5, 15], [5, 30], [20, 15], [20, 30]]
    power = tilted["power"].to_numpy()
    assert power[3] > power[2] > power[0]
    assert power[3] > 0.9
    assert (tilted["truth"] == tilt_coefficient(0.6)).all()
    # the mean of 30 estimates lies within 4 of its standard errors of the truth
    assert (tilted["bias"].abs() < 4 * tilted["rmse"] / np.sqrt(30)).all()
    # standard errors tell the spread of the estimates: 30 studies know it to an eighth
    assert tilted["mean_se"][3] == pytest.approx(tilted["rmse"][3], rel=0.4)
    # as many decisions, without differences between animals: 20 for 15 days know no less than 10 for 30 would
    assert tilted["mean_se"][2] / tilted["mean_se"][3] == pytest.approx(np.sqrt(2), rel=0.15)


def test_equal_seeds_give_equal_tables_whatever_else_is_on_the_grid(tilted: pd.DataFrame) -> None:
    told: list[tuple[str, int, int]] = []
    alone = power_table(
        "heading", size=0.1, individuals=[5], days=[15], n_studies=30, seed=1, progress=lambda *now: told.append(now)
    )
    pd.testing.assert_frame_equal(alone, tilted.iloc[:1])
    assert told == [("studies", k + 1, 30) for k in range(30)]
    other = power_table("heading", size=0.1, individuals=[5], days=[15], n_studies=30, seed=2)
    assert other["mean_estimate"][0] != alone["mean_estimate"][0]


def test_irrelevant_feature_is_found_as_often_as_the_level_says() -> None:
    """60 studies of animals that differ: at a level of 5 %, 10 or more would be found once in 1,200 times."""
    table = power_table("irrelevant", size=9.0, sd=0.5, individuals=[15], days=[20], n_studies=60)
    assert table["power"][0] < 10 / 60
    assert table["coverage"][0] == pytest.approx(1 - table["power"][0])
    assert table[["size", "truth"]].to_numpy().tolist() == [[0.0, 0.0]]


def test_differences_between_animals_cost_power_and_days_do_not_make_up_for_them() -> None:
    grid = {"individuals": [15], "days": [15, 60], "n_studies": 10}
    same = power_table("covariate", size=0.3, sd=0.0, **grid)  # type: ignore[arg-type]
    differ = power_table("covariate", size=0.3, sd=0.6, **grid)  # type: ignore[arg-type]
    assert differ["mean_se"][1] > 1.5 * same["mean_se"][1]
    # four times the days: half the standard error of animals that are alike, far more than half of those that differ
    assert same["mean_se"][1] / same["mean_se"][0] < 0.6
    assert differ["mean_se"][1] / differ["mean_se"][0] > 0.6


def test_closed_perimeter_separates_and_is_bounded_by_three_over_the_decisions_near_it() -> None:
    table = power_table("perimeter", size=0.02, individuals=[5, 20], days=[40], n_studies=6)
    assert table["share_separated"].tolist() == [1.0, 1.0]
    few, many = table["mean_estimate"]
    assert few > 0.03
    assert many < 0.015
    assert table["power"].tolist() == [0.0, 1.0]
    assert table[["mean_se", "coverage"]].isna().all(axis=None)


def test_one_animal_has_no_interval_and_finds_nothing() -> None:
    found = find_effect(simulate(World(n_individuals=1, n_days=200), seed=0), "covariate")
    assert np.isfinite(found.estimate)
    assert np.isnan([found.low, found.high]).all()
    assert not found.is_found


def test_a_perimeter_that_nobody_comes_near_tells_nothing() -> None:
    far = World(n_individuals=3, n_days=5, radius_km=1500.0, perimeter=(-130.0, 54.0, 50.0))
    found = find_effect(simulate(far, seed=0), "perimeter")
    assert np.isnan(found.estimate)
    assert (found.is_found, found.is_separated) == (False, False)


@pytest.mark.parametrize("effect", ["heading", "covariate", "irrelevant", "perimeter"])
def test_studies_too_small_to_fit_find_nothing_and_raise_nothing(effect: Effect) -> None:
    table = power_table(effect, size=0.2, individuals=[2], days=[1], n_studies=5)
    assert table.loc[0, ["power", "n_studies"]].tolist() == [0.0, 5]


def test_summary_of_studies_worked_out_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    # estimates .1 and .3 of a truth of .2; the third study cannot tell
    known = [
        Finding(0.1, 0.1, -0.1, 0.3, False, False),
        Finding(0.3, 0.02, 0.26, 0.34, True, False),
        Finding(np.nan, np.nan, np.nan, np.nan, False, True),
    ]
    monkeypatch.setattr("mimic.power.find_effect", lambda *_, **__: known.pop(0))
    row = power_table("covariate", size=0.2, individuals=[2], days=[1], n_studies=3).iloc[0]
    assert row["power"] == pytest.approx(1 / 3)
    assert row["power_se"] == pytest.approx(np.sqrt(0.4 * 0.6 / 3))  # (1 + 1) of (3 + 2)
    assert row[["mean_estimate", "bias", "rmse", "mean_se"]].tolist() == pytest.approx([0.2, 0.0, 0.1, 0.06])
    assert row[["coverage", "share_separated"]].tolist() == pytest.approx([0.5, 1 / 3])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"effect": "season"}, "effect must be heading, covariate, irrelevant, perimeter; got 'season'"),
        ({"individuals": [1, 5]}, "individuals >= 2, the clusters"),
        ({"days": []}, "got 5 and none"),
        ({"sd": -1.0}, "expected sd >= 0"),
        ({"alpha": 5.0}, "0 < alpha < 1"),
        ({"size": 51.0}, "size of a heading is a tilt between"),
        ({"effect": "perimeter", "size": 0.0}, "probability between 0 and 1"),
    ],
)
def test_impossible_questions_are_refused(change: dict[str, object], message: str) -> None:
    question: dict[str, object] = {"effect": "heading", "size": 0.1, "individuals": [5], "days": [5], "n_studies": 1}
    with pytest.raises(ValueError, match=message):
        power_table(**(question | change))  # type: ignore[arg-type]


@pytest.mark.slow
def test_a_network_learns_what_is_true_and_nothing_else() -> None:
    world = World(n_individuals=40, n_days=60, heading=tilt_coefficient(0.65), stay_sd=0.5, perimeter=PERIMETER)
    told = pd.DataFrame([network_findings(world, seed=seed) for seed in (1, 2)])
    assert (told["open_probability"] > 0.05).all()
    assert (told["closed_probability"] < 0.01).all()
    # an irrelevant feature is worth nothing: less than a hundredth of a nat either way
    assert told["irrelevant_gain"].max() < 0.01
    assert told["irrelevant_importance"].abs().max() < 0.02
    # early stopping shrinks a tilt, now more, now less
    assert (told["tilt"] > 0.3 * world.heading).all()
    assert told["tilt"].mean() == pytest.approx(world.heading, rel=0.3)


@pytest.mark.slow
def test_a_network_of_a_world_without_a_perimeter_has_no_closed_cells() -> None:
    options = TrainingOptions(loss="softmax", units=(4,), epochs=2)
    told = network_findings(World(n_individuals=4, n_days=10), options=options)
    assert np.isnan([told["closed_probability"], told["open_probability"]]).all()
    assert told["irrelevant_gain_low"] <= told["irrelevant_gain"] <= told["irrelevant_gain_high"]
