"""Synthetic worlds: the truth worked out by hand, draws that follow it, and studies that are parts of larger ones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from mimic.conditional_logit import fit_conditional_logit
from mimic.hexgrid import bearing_rad, centroids, distance_km
from mimic.probability import grouped_log_softmax
from mimic.schema import ChoiceSets
from mimic.worlds import COEFFICIENTS, World, draw_effects, share_ahead, simulate, tilt_coefficient, true_log_odds

SMALL = World(n_individuals=6, n_days=10, radius_km=300.0, start_km=100.0)
CLOSED = replace(SMALL, n_individuals=20, n_days=40, perimeter=(-148.5, 54.0, 80.0))


def hand_made(**features: list[float]) -> ChoiceSets:
    """One decision of one animal; features that are not given are 0."""
    n = len(next(iter(features.values())))
    names = ("distance_km", "stay", "heading_sin", "heading_cos", "covariate", "irrelevant", "perimeter")
    decisions = pd.DataFrame({"individual": ["a0001"], "decision": [0]})
    return ChoiceSets(
        decisions, [0, n], np.arange(n), [0], {name: np.array(features.get(name, [0.0] * n)) for name in names}
    )


def test_true_log_odds_worked_out_by_hand() -> None:
    cs = hand_made(
        stay=[1, 0, 0], distance_km=[0, 40, 40], heading_sin=[0, 0, 1], heading_cos=[0, 1, 0],
        covariate=[2, -1, 0], perimeter=[0, 0, 1],
    )  # fmt: skip
    world = World(stay=1.5, distance_km=-0.03, heading=0.4, heading_deg=0.0, covariate=0.5)
    # stay: 1.5 + .5 * 2;  north, as preferred: -.03 * 40 + .4 - .5;  inside the perimeter: never
    assert true_log_odds(world, cs).tolist() == pytest.approx([2.5, -1.3, -np.inf], abs=1e-6)
    east = replace(world, heading_deg=90.0)
    assert true_log_odds(east, cs)[1] == pytest.approx(-1.7, abs=1e-6)  # to the side: no heading
    effects = pd.DataFrame([[0.1, 0.01, -0.4, 0.0, 0.0]], index=["a0001"], columns=list(COEFFICIENTS))
    # stay: + .1;  north: + .01 * 40 - .4
    assert true_log_odds(world, cs, effects)[:2].tolist() == pytest.approx([2.6, -1.3], abs=1e-6)


def test_share_ahead_of_a_ring_of_two_cells_worked_out_by_hand() -> None:
    # A ring of 2 cells, mean over orientations: the cell ahead has exp(b c) / (exp(b c) + exp(-b c)), c = cos > 0.
    along = np.cos(np.linspace(-np.pi / 2, np.pi / 2, 20_001))
    by_hand = np.mean(1 / (1 + np.exp(-2 * 0.7 * along)))
    assert share_ahead(0.7, n_cells=2) == pytest.approx(by_hand, abs=1e-4)
    # to first order 1/2 + b / pi, for any ring
    for n_cells in (6, 12, 18):
        assert (share_ahead(1e-4, n_cells=n_cells) - 0.5) / 1e-4 == pytest.approx(1 / np.pi, rel=1e-4)


@pytest.mark.parametrize("share", [0.3, 0.5, 0.51, 0.9])
def test_tilt_coefficient_inverts_share_ahead(share: float) -> None:
    assert share_ahead(tilt_coefficient(share)) == pytest.approx(share, abs=1e-12)
    assert tilt_coefficient(1 - share) == pytest.approx(-tilt_coefficient(share), abs=1e-9)


def test_impossible_tilt_is_refused() -> None:
    with pytest.raises(ValueError, match="share must lie in"):
        tilt_coefficient(51.0)


def test_a_tilt_sends_the_share_of_moves_ahead_that_it_says() -> None:
    """4,000 animals in an open field, 10 days: about 16,000 moves, standard error .4 %."""
    world = World(n_individuals=4000, n_days=10, share_missing=0.0, covariate=0.0, heading=tilt_coefficient(0.6))
    cs = simulate(world, seed=0)
    east = cs.features["heading_sin"][cs.selected][cs.features["stay"][cs.selected] == 0]
    assert len(east) > 12_000
    assert np.mean(east > 0) == pytest.approx(0.6, abs=0.02)


def test_equal_seeds_give_equal_studies_and_others_do_not() -> None:
    first, again, other = (simulate(SMALL, seed=seed) for seed in (1, 1, 2))
    pd.testing.assert_frame_equal(first.decisions, again.decisions)
    assert (first.selected == again.selected).all()
    assert not first.decisions["origin"].equals(other.decisions["origin"])


def test_a_smaller_study_is_a_part_of_the_larger_one() -> None:
    world = replace(SMALL, stay_sd=0.5, heading_sd=0.3)
    large = simulate(world, seed=3)
    small = simulate(replace(world, n_individuals=4, n_days=7), seed=3)
    part = large.filter((large.individual_codes < 4) & (large.decisions["decision"] < 7).to_numpy())
    pd.testing.assert_frame_equal(part.decisions, small.decisions)
    assert (part.selected == small.selected).all()
    assert (part.choice == small.choice).all()
    pd.testing.assert_frame_equal(
        draw_effects(world, seed=3).iloc[:4], draw_effects(replace(world, n_individuals=4), seed=3)
    )


def test_features_are_those_of_the_cells() -> None:
    cs = simulate(SMALL, seed=0)
    origin = cs.decisions["origin"].to_numpy()[cs.decision_of_row]
    moves = origin != cs.choice
    distance = distance_km(*centroids(origin), *centroids(cs.choice))
    bearing = bearing_rad(*centroids(origin), *centroids(cs.choice))
    np.testing.assert_allclose(cs.features["distance_km"], distance, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(cs.features["heading_sin"], np.where(moves, np.sin(bearing), 0), atol=1e-5)
    np.testing.assert_allclose(cs.features["heading_cos"], np.where(moves, np.cos(bearing), 0), atol=1e-5)
    assert (cs.features["stay"] == ~moves).all()
    assert cs.features["distance_km"].max() <= SMALL.max_distance_km
    for name in ("covariate", "irrelevant"):  # the same cell has the same value in every decision
        values = pd.Series(cs.features[name]).groupby(cs.choice)
        assert values.nunique().max() == 1
        assert values.first().std() > 0.3


def test_choice_sets_are_ragged_and_each_decision_starts_where_the_last_ended() -> None:
    cs = simulate(SMALL, seed=0)
    assert len(np.unique(cs.n_choices)) > 3
    chosen, origin = cs.choice[cs.selected], cs.decisions["origin"].to_numpy()
    same_animal = cs.individuals[1:] == cs.individuals[:-1]
    assert (chosen[:-1] == origin[1:])[same_animal].all()
    assert cs.decisions["time_utc"].diff()[1:][same_animal].eq(pd.Timedelta("1D")).all()
    assert cs.info["distance_km"].unit == "km"


def test_nobody_enters_the_perimeter() -> None:
    cs = simulate(CLOSED, seed=0)
    closed = cs.features["perimeter"] > 0
    assert closed.sum() > 100  # it was within reach
    assert not closed[cs.selected].any()
    assert np.isneginf(true_log_odds(CLOSED, cs)[closed]).all()


def test_selections_are_draws_from_the_true_log_odds() -> None:
    """If they are, -ln p(selected) has the mean and the variance that p itself says: |z| < 3."""
    world = replace(CLOSED, n_individuals=100, heading=0.5, stay_sd=0.8, distance_km_sd=0.01, covariate_sd=0.5)
    cs = simulate(world, seed=5)
    log_p = grouped_log_softmax(true_log_odds(world, cs, draw_effects(world, seed=5)), cs.offsets)
    p = np.exp(log_p)
    finite = np.where(p > 0, log_p, 0.0)
    entropy = np.add.reduceat(-p * finite, cs.offsets[:-1])
    variance = np.add.reduceat(p * finite**2, cs.offsets[:-1]) - entropy**2
    z = (-log_p[cs.selected] - entropy).sum() / np.sqrt(variance.sum())
    assert abs(z) < 3
    # not those of other animals: the effects of another seed fit worse
    others = grouped_log_softmax(true_log_odds(world, cs, draw_effects(world, seed=6)), cs.offsets)
    assert others[cs.selected].mean() < log_p[cs.selected].mean() - 0.05


def test_a_fit_recovers_the_coefficients_of_the_world() -> None:
    """300 animals, 40 days: every estimate within 4 standard errors, and the standard errors are small."""
    world = World(n_individuals=300, n_days=40, heading=0.3)
    features = ["stay", "distance_km", "heading_sin", "heading_cos", "covariate", "irrelevant"]
    fit = fit_conditional_logit(simulate(world, seed=0), features)
    truth = np.array([world.stay, world.distance_km, world.heading, 0.0, world.covariate, 0.0])
    assert np.abs((fit.coef - truth) / fit.se).max() < 4
    assert (fit.se < [0.1, 0.01, 0.05, 0.05, 0.05, 0.05]).all()


def test_tracks_of_unequal_length() -> None:
    cs = simulate(replace(SMALL, n_individuals=200, min_days=4), seed=0)
    lengths = np.bincount(cs.individual_codes)
    assert set(lengths) == set(range(4, 11))
    assert lengths.mean() == pytest.approx(7, abs=0.5)


def test_effects_have_the_deviations_of_the_world() -> None:
    world = World(n_individuals=4000, stay_sd=0.8, heading_sd=0.3)
    effects = draw_effects(world, seed=0)
    assert effects.std().tolist() == pytest.approx([0.8, 0, 0.3, 0, 0], rel=0.05)
    assert np.abs(effects.mean()).max() < 0.05


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_individuals": 0}, "n_individuals >= 1"),
        ({"min_days": 11}, "n_days >= min_days >= 1; got 6, 10 and 11"),
        ({"share_missing": 1.0}, "share_missing must lie in"),
        ({"stay_sd": -0.1}, "must be 0 or more"),
        ({"radius_km": -1.0}, "must be 0 or more"),
    ],
)
def test_impossible_worlds_are_refused(change: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(SMALL, **change)  # type: ignore[arg-type]


def test_a_world_that_is_closed_where_it_starts_is_refused() -> None:
    with pytest.raises(ValueError, match="every cell to start from is missing or closed"):
        simulate(replace(SMALL, perimeter=(-150.0, 54.0, 200.0)), seed=0)


def test_effects_of_other_animals_are_refused() -> None:
    cs = simulate(SMALL, seed=0)
    with pytest.raises(ValueError, match="individual_effects lacks a0004, a0005, a0006"):
        true_log_odds(SMALL, cs, draw_effects(SMALL, seed=0).iloc[:3])
    partial = {name: values for name, values in cs.features.items() if name != "perimeter"}
    lacking = replace(cs, features=partial)
    with pytest.raises(ValueError, match="the features of the world: expected the column perimeter"):
        true_log_odds(SMALL, lacking)
