"""Points of feature space: the sample of rows, grids, and whose log-odds a point has."""

from __future__ import annotations

import numpy as np
import pytest
from explained import linear, rows, world

from mimic.ensemble import combine
from mimic.model import LogOddsModel
from mimic.network import Scaling, build_network
from mimic.points import check_own_response, differs_within, feature_grid, mean_choice, point_log_odds, sample_rows
from mimic.schema import FeatureInfo


def test_mean_choice_weighs_individuals_and_then_decisions_the_same() -> None:
    # a: (0 + 2) / 2 = 1 and 4 -> 2.5; b: 10. Not the mean of the rows (0 + 2 + 4 + 10) / 4 = 4.
    cs = rows({"x": np.array([0.0, 2.0, 4.0, 10.0])}, [2, 1, 1], ["a", "a", "b"])
    assert mean_choice(cs, linear(x=1.0)) == {"x": 6.25}


def test_sample_takes_every_individual_once_before_any_twice() -> None:
    cs = rows({"x": np.arange(12.0)}, [2] * 6, ["a", "a", "a", "a", "b", "c"])
    sample = sample_rows(cs, ["x"], n_decisions=4, seed=3)
    counts = np.bincount(sample.individual) / 2
    assert sorted(counts.tolist()) == [1, 1, 2]
    assert sample.weights.sum() == pytest.approx(1)
    assert np.bincount(sample.individual, sample.weights) == pytest.approx([1 / 3] * 3)
    assert np.array_equal(sample.values["x"], sample_rows(cs, ["x"], n_decisions=4, seed=3).values["x"])


def test_grid_is_distinct_values_or_quantiles_exact_in_float32() -> None:
    assert feature_grid(np.array([2.0, 0.0, 1.0, 1.0]), 3).tolist() == [0, 1, 2]
    grid = feature_grid(np.linspace(0, 1, 1001) ** 2, 5)
    assert grid == pytest.approx([0, 1 / 16, 1 / 4, 9 / 16, 1], abs=1e-6)
    assert np.array_equal(grid, grid.astype(np.float32).astype(np.float64))
    with pytest.raises(ValueError, match=r"it is \[1.0\] everywhere"):
        feature_grid(np.ones(3), 5)
    with pytest.raises(ValueError, match="2 or more finite values"):
        feature_grid(np.arange(3.0), 5, given=[1.0, np.nan])


def test_points_of_an_ensemble_of_probabilities_have_the_log_odds_of_each_member() -> None:
    scaling = Scaling(("x", "y"), np.zeros(2), np.ones(2))
    members = [LogOddsModel(build_network(scaling, units=(3,), seed=s), ("x", "y")) for s in (1, 2)]
    ensemble = combine(members, "mean_probability")
    points = {"x": np.array([0.0, 1.0, 2.0]), "y": np.array([1.0, -1.0, 0.5])}
    each = np.hstack([point_log_odds(m, points, 3) for m in members])
    assert point_log_odds(ensemble, points, 3) == pytest.approx(each, abs=1e-6)
    assert each.shape == (3, 2)


def test_point_is_of_the_population_unless_an_individual_is_named() -> None:
    scaling = Scaling(("x",), np.zeros(1), np.ones(1))
    network = build_network(scaling, units=(4,), n_individuals=2, embedding_size=1)
    network.get_layer("embedding").set_weights([np.array([[0.0], [1.0], [2.0]])])
    model = LogOddsModel(network, ("x",), {"individuals": ["population", "b"]})  # a fish of that name is no reason
    points = {"x": np.array([1.0])}
    inputs = [np.array([[1.0, number]], dtype=np.float32) for number in (0, 1, 2)]
    expected = [float(np.asarray(network(x))[0, 0]) for x in inputs]
    found = [point_log_odds(model, points, 1, individual=i).item() for i in (None, "population", "b")]
    assert found == pytest.approx(expected)
    assert len(set(found)) == 3
    with pytest.raises(ValueError, match="no embedding of individual c; it knows population, b"):
        point_log_odds(model, points, 1, individual="c")


def test_feature_has_a_response_of_its_own_only_where_it_differs_between_choices() -> None:
    cs = world(n_individuals=2, n_decisions=3, night=True)
    same = cs.with_features({"same": np.repeat(np.arange(6.0), 5)}, {"same": FeatureInfo("choice")})
    assert [differs_within(same, f) for f in ("a", "night", "same")] == [True, False, False]
    model = linear(a=1.0, night=1.0)
    check_own_response([model], same, "a")
    with pytest.raises(ValueError, match=r"night is the same for all choices .* surface with a feature .* \(a\)"):
        check_own_response([model], same, "night")
    with pytest.raises(ValueError, match="the model takes a, night; it has no b"):
        check_own_response([model], same, "b")


def test_missing_and_infinite_features_are_named() -> None:
    cs = world(n_individuals=2, n_decisions=2)
    with pytest.raises(ValueError, match="unknown feature z"):
        sample_rows(cs, ["a", "z"])
    with pytest.raises(ValueError, match="NaN or infinity in a"):
        sample_rows(cs.with_features({"a": np.full(cs.n_rows, np.nan)}), ["a"])
    with pytest.raises(ValueError, match="no values of b"):
        point_log_odds(linear(a=1.0, b=1.0), {"a": np.zeros(1)}, 1)
    with pytest.raises(ValueError, match="expected decisions to sample"):
        sample_rows(cs, ["a"], n_decisions=0)
