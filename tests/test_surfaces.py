"""Surfaces of odds and Friedman's H: additive, product, and what cancels."""

from __future__ import annotations

import numpy as np
import pytest
from explained import Known, choose, linear, rows, world

from mimic.conditional_logit import fit_conditional_logit
from mimic.schema import FeatureInfo
from mimic.surfaces import INTERACTION_COLUMNS, SURFACE_COLUMNS, interactions, odds_surface


def test_surface_of_a_linear_model_is_a_plane() -> None:
    cs = world(n_individuals=3)
    table = odds_surface(linear(a=2.0, b=-1.0), cs, "a", "b", n_grid=6)
    plane = 2.0 * table["x"] - table["y"]
    error = table["log_odds"] - plane
    assert list(table) == SURFACE_COLUMNS
    assert np.ptp(error) == pytest.approx(0, abs=1e-9)
    assert table["odds"].to_numpy() == pytest.approx(np.exp(table["log_odds"].to_numpy()))
    assert np.average(table["log_odds"], weights=table["n_rows"]) == pytest.approx(0, abs=1e-9)
    assert set(table["centered"]) == {"overall"}


def test_cells_without_data_are_marked() -> None:
    # four choices at two corners of a square: the other two corners were never seen
    cs = rows({"x": np.array([0.0, 0.0, 1.0, 1.0]), "y": np.array([0.0, 0.0, 1.0, 1.0])}, [4], ["a"])
    table = odds_surface(linear(x=1.0, y=1.0), cs, "x", "y").set_index(["x", "y"])
    assert table["n_rows"].to_dict() == {(0, 0): 2, (0, 1): 0, (1, 0): 0, (1, 1): 2}
    assert table["has_data"].tolist() == [True, False, False, True]
    assert table.loc[(0, 0), "log_odds"] == pytest.approx(-1)


@pytest.mark.parametrize("turned", [False, True])
def test_feature_of_the_decision_changes_the_response_and_cancels_alone(turned: bool) -> None:
    cs = world(n_individuals=3, night=True)
    model = Known(("a", "night"), lambda f: (1 + f["night"]) * f["a"] + 100 * f["night"])
    pair = ("night", "a") if turned else ("a", "night")
    table = odds_surface(model, cs, *pair, n_grid=9)
    table = table.rename(columns=dict(zip(("x", "y"), pair, strict=True)))
    slope = {n: np.polyfit(t["a"], t["log_odds"], 1)[0] for n, t in table.groupby("night")}
    assert slope == pytest.approx({0.0: 1.0, 1.0: 2.0})
    assert table["log_odds"].abs().max() < 15  # the 100 of the night are nothing between choices
    assert set(table["centered"]) == {"within night"}


def test_additive_model_has_no_interaction() -> None:
    cs = world(n_individuals=5)
    cs = choose(cs, linear(a=1.0).log_odds(cs))
    table = interactions(fit_conditional_logit(cs, ["a", "b", "noise"]), cs)
    assert table["h2"].to_numpy() == pytest.approx(0, abs=1e-12)
    bent = Known(("a", "b"), lambda f: np.sin(f["a"]) + f["b"] ** 2)
    assert interactions(bent, cs)["h2"].to_numpy() == pytest.approx(0, abs=1e-12)


def test_product_is_all_interaction_and_a_sum_with_it_a_known_share() -> None:
    # at the corners (-1, -1), ..., (1, 1) x, y and xy are orthogonal with mean square 1
    square = {"x": np.array([-1.0, -1.0, 1.0, 1.0]), "y": np.array([-1.0, 1.0, -1.0, 1.0]), "z": np.zeros(4)}
    cs = rows(square, [4], ["a"])
    model = Known(("x", "y", "z"), lambda f: 2 * f["x"] + f["y"] + 3 * f["x"] * f["y"])
    table = interactions(model, cs, n_points=4)
    first = table.iloc[0]
    assert (first["feature_x"], first["feature_y"], first["rank"]) == ("x", "y", 1)
    assert first["interaction"] == pytest.approx(3)
    assert first["h2"] == pytest.approx(9 / (4 + 1 + 9))
    assert list(table) == INTERACTION_COLUMNS
    assert len(table) == 3


def test_decision_features_interact_beyond_what_cancels() -> None:
    # the night itself cancels: of 100 night + a night the pair does a night alone, and a has no part of its own
    size = {"a": np.array([-1.0, 1.0, -1.0, 1.0]), "night": np.array([-1.0, -1.0, 1.0, 1.0])}
    cs = rows({**size, "moon": size["night"]}, [2, 2], ["x", "x"])
    cs = cs.with_features({}, {"night": FeatureInfo("decision"), "moon": FeatureInfo("decision")})
    model = Known(("a", "night", "moon"), lambda f: 100 * f["night"] + f["a"] * f["night"])
    table = interactions(model, cs, n_points=4).set_index(["feature_x", "feature_y"])
    assert table.loc[("a", "night"), "h2"] == pytest.approx(1)
    assert table.loc[("a", "night"), "interaction"] == pytest.approx(1)
    assert np.isnan(table.loc[("night", "moon"), "h2"])
    assert table.loc[("night", "moon"), "note"] == "both cancel: night and moon are the same for all choices"
    assert table.loc[("a", "moon"), "note"] == "the pair does nothing"


def test_points_are_one_of_a_decision_and_the_same_for_the_same_seed() -> None:
    cs = world(n_individuals=5)
    model = Known(("a", "b"), lambda f: f["a"] * f["b"])
    table = interactions(model, cs, n_points=30, seed=4)
    assert table["n_points"].item() == 30
    assert table.equals(interactions(model, cs, n_points=30, seed=4))
    assert not table.equals(interactions(model, cs, n_points=30, seed=5))


def test_pairs_that_are_none_are_refused() -> None:
    cs = world(n_individuals=2, night=True)
    cs = cs.with_features({"moon": cs.features["night"]}, {"moon": FeatureInfo("decision")})
    model = linear(a=1.0, night=1.0, moon=1.0)
    with pytest.raises(ValueError, match="it has no feature b"):
        odds_surface(model, cs, "a", "b")
    with pytest.raises(ValueError, match="got a twice"):
        odds_surface(model, cs, "a", "a")
    with pytest.raises(ValueError, match="night and moon are both the same for all choices"):
        odds_surface(model, cs, "night", "moon")
    with pytest.raises(ValueError, match="two or more features of the model"):
        interactions(model, cs, features=["a"])
