"""Contrasts made visible: the published numbers, the formula against batches really drawn, and its inverse."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from mimic.contrast_error import contrast_curve, contrast_spread, decisions_for_error, probability_of_share
from mimic.probability import contrast_share
from mimic.schema import ChoiceSets
from mimic.stay import measure_stay


def stays(n_stay: int, n_move: int, n_alternatives: int = 19) -> ChoiceSets:
    """Decisions of four fish among stay, the first choice, and so many alternatives."""
    n, size = n_stay + n_move, n_alternatives + 1
    order = np.random.default_rng(0).permutation(n)
    selected = np.arange(n) * size + np.repeat([0, 1], [n_stay, n_move])[order]
    decisions = pd.DataFrame({"individual": (np.arange(n) % 4).astype(str), "decision": np.arange(n)})
    choice = np.tile(np.arange(size), n)
    return ChoiceSets(decisions, np.arange(n + 1) * size, choice, selected, {"stay": choice == 0})


def test_published_shares_and_their_error() -> None:
    # a 1.4 % error of the contrasts is an 18 % error of the probability
    table = contrast_curve([19], probabilities=[0.55, 0.65])
    assert table["contrast_share"].round(3).tolist() == [0.959, 0.972]
    shares = table["contrast_share"].to_numpy()
    assert shares[1] / shares[0] - 1 == pytest.approx(0.014, abs=5e-4)
    assert pytest.approx(0.18, abs=5e-3) == 0.65 / 0.55 - 1
    between = (0.65 - 0.55) / (shares[1] - shares[0])
    assert table["amplification"].iloc[0] < between < table["amplification"].iloc[1]


def test_share_and_probability_are_inverse_to_each_other() -> None:
    p = np.linspace(0, 1, 11)
    for m in (1, 19):
        assert probability_of_share(contrast_share(p, m), m) == pytest.approx(p)
    one = contrast_curve([1])
    assert one["contrast_share"].to_numpy() == pytest.approx(one["probability"].to_numpy())
    assert one["amplification"].to_numpy() == pytest.approx(1)


def test_slope_is_the_derivative() -> None:
    table = contrast_curve([19], probabilities=[0.3, 0.3 + 1e-6])
    rise = np.diff(table["contrast_share"]) / 1e-6
    assert rise.item() == pytest.approx(table["slope"].iloc[0], rel=1e-4)


def test_formula_is_that_of_batches_drawn() -> None:
    cs = stays(1300, 700)
    table = contrast_spread(cs, batch_decisions=[50, 200, 800], n_draws=2000)
    assert table["error_drawn"].to_numpy() == pytest.approx(table["error"].to_numpy(), rel=0.07)
    ratio = table["contrast_share_sd_drawn"] / table["contrast_share_sd"]
    assert ratio.iloc[1:].to_numpy() == pytest.approx(1, rel=0.07)
    assert ratio.iloc[0] > 1  # p_c bends: small batches scatter farther than the straight line says
    assert table["batch_contrasts"].tolist() == [950, 3800, 15200]
    assert table["probability"].to_numpy() == pytest.approx(0.65, abs=0.01)


def test_batch_of_all_decisions_has_no_error_and_is_there_once() -> None:
    table = contrast_spread(stays(13, 7), batch_decisions=[5, 20, 1000], n_draws=100)
    assert table["batch_decisions"].tolist() == [5, 20]
    assert table.loc[1, ["error", "error_drawn", "contrast_share_sd"]].tolist() == [0, 0, 0]


def test_batch_for_an_error_is_the_smallest_that_reaches_it() -> None:
    cs = stays(1300, 700)
    for error, batch in decisions_for_error(cs, [0.1, 0.03, 0.01])[["error", "batch_decisions"]].values:
        reached, before = (measure_stay(cs, batch_decisions=int(batch) - k) for k in (0, 1))
        assert reached is not None
        assert before is not None
        assert reached.error <= error < before.error
    facts = measure_stay(cs, batch_decisions=10)
    assert facts is not None
    assert decisions_for_error(cs, [0.01])["batch_decisions"].item() == facts.decisions_for_one_point


def test_simulation_is_seeded_and_may_be_left_out() -> None:
    cs = stays(60, 40)
    first = contrast_spread(cs, batch_decisions=[10], n_draws=50, seed=1)
    assert first.equals(contrast_spread(cs, batch_decisions=[10], n_draws=50, seed=1))
    assert not first.equals(contrast_spread(cs, batch_decisions=[10], n_draws=50, seed=2))
    assert contrast_spread(cs, batch_decisions=[10], n_draws=0)["error_drawn"].isna().all()


def test_tables_are_empty_where_nothing_stays() -> None:
    assert contrast_spread(stays(0, 5)).empty
    assert decisions_for_error(stays(5, 0)).empty


def test_wrong_numbers_are_refused() -> None:
    cs = stays(3, 2)
    with pytest.raises(ValueError, match=r"probabilities in \[0, 1\]"):
        contrast_curve([19], probabilities=[1.1])
    with pytest.raises(ValueError, match="n_alternatives of 1 or more"):
        contrast_curve([0])
    with pytest.raises(ValueError, match="errors must be above 0"):
        decisions_for_error(cs, [0.0])
    with pytest.raises(ValueError, match="n_draws must be 0 or more"):
        contrast_spread(cs, n_draws=-1)
    with pytest.raises(ValueError, match="batch_decisions must be 1 or more"):
        contrast_spread(cs, batch_decisions=[0])
