"""Grids: members in order and by name, choices by the median over seeds, and the epochs that halving spends."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mimic.grid import (
    Member,
    Rung,
    epochs_spent,
    expand,
    halving_rungs,
    members_table,
    select,
    survivors,
)

LOSS = "val_true_contrast_loss"


def table(losses: dict[str, list[float]]) -> pd.DataFrame:
    """Members of configurations with these losses, one a seed."""
    return pd.DataFrame(
        [
            {"member": f"{name},seed={seed}", "configuration": name, "seed": seed, LOSS: loss}
            for name, own in losses.items()
            for seed, loss in enumerate(own)
        ]
    )


def test_last_key_of_a_grid_varies_fastest() -> None:
    members = expand("near", {"epochs": 5, "dropout": 0.5}, {"dropout": [0.0, 0.1], "seed": [3, 1]})
    assert [m.name for m in members] == [
        "near/dropout=0.0,seed=3",
        "near/dropout=0.0,seed=1",
        "near/dropout=0.1,seed=3",
        "near/dropout=0.1,seed=1",
    ]
    assert [m.seed for m in members] == [3, 1, 3, 1]
    assert members[0].training == {"epochs": 5, "dropout": 0.0, "seed": 3}
    assert members[0].parameters == {"dropout": 0.0, "seed": 3}
    assert [m.configuration for m in members] == ["near/dropout=0.0"] * 2 + ["near/dropout=0.1"] * 2


def test_published_grid_has_twenty_members_in_four_configurations() -> None:
    units = [[24] * 3, [32] * 3, [24] * 4, [32] * 4]
    members = expand("environment", {}, {"units": units, "seed": [0, 1, 2, 3, 4]})
    assert len(members) == len({m.name for m in members}) == 20
    assert [m.configuration for m in members[::5]] == [
        "environment/units=24-24-24",
        "environment/units=32-32-32",
        "environment/units=24-24-24-24",
        "environment/units=32-32-32-32",
    ]
    assert members[3].name == "environment/units=24-24-24,seed=3"
    assert members[3].training["units"] == (24, 24, 24)


@pytest.mark.parametrize(("training", "seed"), [({}, 0), ({"seed": 7}, 7)])
def test_empty_grid_is_one_member_of_the_name_of_the_model(training: dict[str, int], seed: int) -> None:
    assert expand("near", training, {}) == [Member("near", "near", {}, seed, {"seed": seed})]


def test_seed_of_the_grid_wins_over_the_training_section() -> None:
    (member,) = expand("near", {"seed": 7}, {"seed": [2]})
    assert (member.seed, member.training["seed"], member.configuration) == (2, 2, "near")


def test_names_show_any_value_of_yaml() -> None:
    grid = {"plateau": [None, {"patience": 3, "factor": 0.5}], "linear_skip": [True], "learning_rate": [0.0005]}
    names = [m.name for m in expand("near", {}, grid)]
    assert names == [
        "near/plateau=none,linear_skip=true,learning_rate=0.0005",
        "near/plateau=patience:3;factor:0.5,linear_skip=true,learning_rate=0.0005",
    ]


def test_members_share_no_list_with_the_grid_or_each_other() -> None:
    units, arguments = [24, 24], {"betas": [0.9, 0.99]}
    members = expand("near", {"optimizer_arguments": arguments}, {"units": [units], "seed": [0, 1]})
    units.append(8)
    arguments["betas"].append(1.0)
    assert [m.training["units"] for m in members] == [(24, 24)] * 2
    assert members[0].training["optimizer_arguments"] == {"betas": (0.9, 0.99)}


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ({"unit": [[8]], "sede": [1]}, "the grid of near: unknown training options unit, sede. Did you mean units"),
        ({"colour": ["red"]}, "unknown training option colour. Known are epochs, units"),
        ({"units": 24}, r"units: expected a list of values, such as \[24\]; got 24"),
        ({"loss": "softmax"}, r"loss: expected a list of values, such as \[softmax\]"),
        ({"units": []}, "units: expected at least one value; got an empty list"),
        ({"units": [[24, 24], [32], [24, 24]]}, "units: 24-24 is listed twice"),
        ({"epochs": [1, 1.0]}, "epochs: 1.0 is listed twice"),
        ({"epochs": [1, "1"]}, "epochs: 1 is listed twice"),
        ({"seed": [0, 1, 0]}, "seed: 0 is listed twice"),
        ({"seed": [0, -1]}, "a seed must be a whole number of 0 or more; got -1"),
        ({"seed": [True]}, "a seed must be a whole number of 0 or more; got True"),
        ({"seed": [1.5]}, "a seed must be a whole number of 0 or more; got 1.5"),
    ],
)
def test_faulty_grid_is_refused(grid: dict[str, list[object]], message: str) -> None:
    known = {"units", "epochs"} | ({"loss"} if "loss" in grid else set())
    with pytest.raises(ValueError, match=message):
        expand("near", {}, grid, known=known)


def test_faulty_seed_of_the_training_section_is_refused() -> None:
    with pytest.raises(ValueError, match="model near: a seed must be a whole number"):
        expand("near", {"seed": "one"}, {})


def test_members_table_shows_options_that_only_another_model_varies() -> None:
    members = expand("a", {"dropout": 0.2}, {"seed": [0, 1]}) + expand("b", {}, {"units": [[8, 8]], "dropout": [0.1]})
    shown = members_table(members, {"a/seed=1": {LOSS: 0.5, "status": "finished"}})
    assert list(shown.columns) == ["member", "model", "configuration", "units", "dropout", "seed", LOSS, "status"]
    assert shown["dropout"].tolist() == [0.2, 0.2, 0.1]
    assert shown["units"].tolist()[2] == "8-8"
    assert shown["configuration"].tolist() == ["a", "a", "b/units=8-8,dropout=0.1"]
    assert shown[LOSS].isna().tolist() == [True, False, True]


def test_best_configuration_has_the_lowest_median_and_not_the_luckiest_seed() -> None:
    # a: median .30 and one lucky seed; b: median .25.
    chosen = select(table({"a": [0.30, 0.10, 0.40], "b": [0.26, 0.25, 0.24]}), monitor=LOSS)
    assert (chosen.configuration, chosen.member, chosen.monitor) == ("b", "b,seed=2", LOSS)
    first = chosen.table.iloc[0]
    # linear percentile: position .9 x 2 = 1.8 between .30 and .40
    assert first[["n_seeds", "n_diverged"]].tolist() == [3, 0]
    assert first[["min", "median", "p90", "spread"]].tolist() == pytest.approx([0.10, 0.30, 0.38, 0.28], abs=1e-15)


def test_member_that_diverged_counts_as_infinitely_bad() -> None:
    # a: .1, inf, inf -> median inf; b: .5, .6, inf -> median .6 and p90 at position 1.8: inf
    chosen = select(table({"a": [0.1, math.nan, math.inf], "b": [0.5, 0.6, math.nan]}), monitor=LOSS)
    assert (chosen.configuration, chosen.member) == ("b", "b,seed=0")
    assert chosen.table["n_diverged"].tolist() == [2, 1]
    assert chosen.table["median"].tolist() == [math.inf, 0.6]
    assert chosen.table["spread"].tolist() == [math.inf, math.inf]


def test_status_other_than_finished_counts_as_diverged_whatever_the_loss() -> None:
    members = table({"a": [0.1, 0.2], "b": [0.3]}).assign(status=["diverged", "failed", "finished"])
    chosen = select(members, monitor=LOSS)
    assert chosen.configuration == "b"
    assert chosen.table["n_diverged"].tolist() == [2, 0]
    assert np.isnan(chosen.table["spread"].iloc[0])  # nothing but infinities


def test_ninetieth_percentile_leaves_out_one_diverged_seed_of_eleven() -> None:
    # position .9 x 10 = 9 is the tenth smallest, exactly: the eleventh takes no part
    chosen = select(table({"a": [*(n / 10 for n in range(10)), math.inf]}), monitor=LOSS)
    assert chosen.table["p90"].iloc[0] == 0.9


def test_ties_go_to_what_comes_first() -> None:
    chosen = select(table({"b": [0.4, 0.2, 0.2], "a": [0.1, 0.2, 0.3]}), monitor=LOSS)
    assert (chosen.configuration, chosen.member) == ("b", "b,seed=1")


def test_among_infinite_medians_the_lowest_loss_is_chosen() -> None:
    chosen = select(table({"a": [math.inf, math.inf], "b": [0.3, math.inf]}), monitor=LOSS)
    assert chosen.member == "b,seed=0"


@pytest.mark.parametrize("losses", [{"a": [math.nan, math.inf]}, {"a": []}])
def test_nothing_to_choose_from_is_an_error(losses: dict[str, list[float]]) -> None:
    members = table(losses) if losses["a"] else table({"a": [0.0]}).iloc[:0]
    with pytest.raises(ValueError, match=f"expected a member with a finite {LOSS} to choose"):
        select(members, monitor=LOSS)


def test_missing_column_of_losses_is_named() -> None:
    with pytest.raises(ValueError, match="the table of members: expected the column val_loss"):
        select(table({"a": [0.1]}), monitor="val_loss")


@given(st.lists(st.floats(0, 10), min_size=1, max_size=30))
def test_percentiles_of_finite_losses_are_those_of_numpy(losses: list[float]) -> None:
    row = select(table({"a": losses}), monitor=LOSS).table.iloc[0]
    assert row["median"] == np.percentile(losses, 50)
    assert row["p90"] == np.percentile(losses, 90)


@given(st.permutations(range(5)), st.lists(st.floats(0, 1), min_size=10, max_size=10, unique=True))
def test_order_of_seeds_changes_no_choice(order: list[int], losses: list[float]) -> None:
    members = table({"a": losses[:5], "b": losses[5:]})
    shuffled = members.iloc[[*order, *(5 + n for n in order)]].reset_index(drop=True)
    one, other = select(members, monitor=LOSS), select(shuffled, monitor=LOSS)
    assert (one.configuration, one.member) == (other.configuration, other.member)
    pd.testing.assert_frame_equal(one.table, other.table)


def test_rungs_by_hand() -> None:
    # 20 -> 7 -> 3 -> 1 by thirds, rounded up; 100 / 27 = 3 epochs would be below 10, so two halvings must do:
    # 100 // 9 = 11, 100 // 3 = 33, 100.
    assert halving_rungs(20, 100, min_epochs=10) == [Rung(20, 11, 11, 7), Rung(7, 33, 22, 3), Rung(3, 100, 67, 1)]
    # Three rungs leave one of four configurations; the first needs no less than 100 // 4 epochs.
    assert halving_rungs(4, 100, factor=2, min_epochs=1) == [
        Rung(4, 25, 25, 2),
        Rung(2, 50, 25, 1),
        Rung(1, 100, 50, 1),
    ]


def test_one_configuration_or_too_few_epochs_is_the_full_grid() -> None:
    assert halving_rungs(1, 50, min_epochs=5) == [Rung(1, 50, 50, 1)]
    assert halving_rungs(8, 50, min_epochs=20) == [Rung(8, 50, 50, 1)]
    assert epochs_spent(halving_rungs(8, 50, min_epochs=20), n_seeds=3).fraction == 1.0


def test_epochs_spent_by_hand() -> None:
    rungs = halving_rungs(20, 100, min_epochs=10)
    # continued: 20 x 11 + 7 x 22 + 3 x 67 = 575; anew: 20 x 11 + 7 x 33 + 3 x 100 = 751; in full: 20 x 100
    assert (epochs_spent(rungs).spent, epochs_spent(rungs).full) == (575, 2000)
    assert epochs_spent(rungs, continued=False).spent == 751
    assert epochs_spent(rungs, n_seeds=5).spent == 5 * 575
    assert epochs_spent(rungs, n_seeds=5).fraction == 0.2875


@given(st.integers(1, 200), st.integers(1, 300), st.integers(2, 5), st.data())
def test_rungs_keep_their_promises(n: int, epochs: int, factor: int, data: st.DataObject) -> None:
    min_epochs = data.draw(st.integers(1, epochs))
    rungs = halving_rungs(n, epochs, factor=factor, min_epochs=min_epochs)
    assert (rungs[0].n_configurations, rungs[-1].epochs, rungs[-1].n_kept) == (n, epochs, 1)
    assert all(rung.epochs >= min_epochs for rung in rungs)
    assert sum(rung.more_epochs for rung in rungs) == epochs
    assert all(one.n_kept == two.n_configurations < one.n_configurations for one, two in itertools.pairwise(rungs))
    assert epochs_spent(rungs).spent <= epochs_spent(rungs).full


@pytest.mark.parametrize(
    "wrong",
    [{"n_configurations": 0}, {"factor": 1}, {"min_epochs": 0}, {"min_epochs": 51}],
)
def test_impossible_rungs_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="halving needs one configuration or more"):
        halving_rungs(**{"n_configurations": 9, "epochs": 50, "factor": 3, "min_epochs": 5, **wrong})


def test_survivors_are_the_lowest_medians_best_first() -> None:
    members = table({"a": [0.3, 0.1], "b": [0.1, 0.2], "c": [math.inf, math.inf], "d": [0.2, 0.1]})
    # medians .2, .15, inf, .15: the tie goes to b, which comes first; c has nothing to go on with
    assert survivors(members, 1, monitor=LOSS) == ["b"]
    assert survivors(members, 3, monitor=LOSS) == ["b", "d", "a"]
    assert survivors(members, 9, monitor=LOSS) == ["b", "d", "a"]
    with pytest.raises(ValueError, match="n_kept must be 1 or more; got 0"):
        survivors(members, 0, monitor=LOSS)


def test_last_survivor_is_the_configuration_that_select_takes() -> None:
    rng = np.random.default_rng(0)
    members = table({f"c{n}": rng.uniform(size=5).tolist() for n in range(9)})
    kept = survivors(members, 3, monitor=LOSS)
    rest = members[members["configuration"].isin(kept)].reset_index(drop=True)
    assert survivors(rest, 1, monitor=LOSS) == [select(members, monitor=LOSS).configuration]
