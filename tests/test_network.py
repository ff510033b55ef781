"""Networks: scaling by hand, log-odds by hand, the linear term, penalties, embeddings, and seeds."""

from __future__ import annotations

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from mimic.network import Scaling, build_network, fit_scaling, individual_numbers
from mimic.schema import ChoiceSets

PLAIN = Scaling(("x", "y"), np.zeros(2), np.ones(2))


def choice_sets(**features: object) -> ChoiceSets:
    """Two decisions of two choices each with the given features (row,)."""
    return ChoiceSets(
        decisions=pd.DataFrame({"individual": ["a", "b"], "decision": [1, 1]}),
        offsets=np.array([0, 2, 4]),
        choice=np.array([1, 2, 1, 2]),
        selected=np.array([0, 3]),
        features={name: np.asarray(values, dtype=np.float32) for name, values in features.items()},
    )


def two_features() -> ChoiceSets:
    return choice_sets(distance_km=[0, 10, 20, 50], depth_m=[-100, -4000, -30, -2500])


def rows(n_features: int, n_rows: int = 50) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(n_rows, n_features)).astype(np.float32)


def names_of(network: keras.Model) -> list[str]:
    return [layer.name for layer in network.layers]


def test_scaling_by_hand() -> None:
    scaling = fit_scaling(choice_sets(x=[1, 3, 1, 3], y=[0, 0, 0, 8], one=[7, 7, 7, 7]), ["y", "x", "one"])
    assert scaling.names == ("y", "x", "one")
    np.testing.assert_allclose(scaling.mean, [2, 2, 7])
    np.testing.assert_allclose(scaling.scale, [np.sqrt(12), 1, 1])  # a constant has scale 1


def test_scaling_of_a_large_and_of_a_nearly_constant_feature_is_exact() -> None:
    # UTM northings: in float32 sums their spread would drown. 0.1 in float32 is no exact number, yet constant.
    northing = np.float32([7_100_000, 7_100_010, 7_100_000, 7_100_010])
    scaling = fit_scaling(choice_sets(northing_m=northing, tenth=[0.1] * 4), ["northing_m", "tenth"])
    np.testing.assert_allclose(scaling.mean, [7_100_005, 0.1], rtol=1e-7)
    np.testing.assert_allclose(scaling.scale, [5, 1])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_not_finite_feature_is_an_error_that_names_it(bad: float) -> None:
    with pytest.raises(ValueError, match=r"got NaN or infinity in sst \(2 of 4 rows\)"):
        fit_scaling(choice_sets(x=[1, 2, 3, 4], sst=[bad, 1, bad, 1]), ["x", "sst"])


def test_errors_of_scaling_say_what_was_expected() -> None:
    cs = two_features()
    with pytest.raises(ValueError, match="unknown feature slope; known are distance_km, depth_m"):
        fit_scaling(cs, ["slope"])
    with pytest.raises(ValueError, match="expected training decisions to fit the scaling on; got none"):
        fit_scaling(cs.filter(np.zeros(2, dtype=bool)), ["depth_m"])
    with pytest.raises(ValueError, match="features must be distinct; got depth_m, depth_m"):
        fit_scaling(cs, ["depth_m", "depth_m"])
    with pytest.raises(ValueError, match=r"mean and scale must have shape \(feature,\) = \(2,\)"):
        Scaling(("a", "b"), np.zeros(2), np.ones(3))
    with pytest.raises(ValueError, match="feature b: the standard deviation must lie in"):
        Scaling(("a", "b"), np.zeros(2), np.array([1, 1e-20]))
    with pytest.raises(ValueError, match="means must be finite"):
        Scaling(("a",), np.array([np.nan]), np.ones(1))


def test_network_without_hidden_layers_is_linear_in_the_scaled_features() -> None:
    network = build_network(Scaling(("x", "y"), np.array([1.0, 2.0]), np.array([4.0, 0.5])), units=())
    network.get_layer("log_odds").set_weights([np.array([[2.0], [-3.0]])])
    # 2 (9 - 1) / 4 - 3 (1 - 2) / 0.5 = 4 + 6
    assert float(network(np.array([[9.0, 1.0]]))[0, 0]) == pytest.approx(10, rel=1e-6)
    assert network.count_params() - network.get_layer("scaling").count_params() == 2  # no bias: it would cancel


def test_network_with_a_hidden_layer_by_hand() -> None:
    network = build_network(Scaling(("x",), np.zeros(1), np.ones(1)), units=(2,))
    network.get_layer("hidden_1").set_weights([np.array([[1.0, -1.0]]), np.array([0.0, 1.0])])
    network.get_layer("log_odds").set_weights([np.array([[2.0], [10.0]])])
    # x = 3: relu(3), relu(-2) -> 6. x = -1: relu(-1), relu(2) -> 20.
    np.testing.assert_allclose(network(np.array([[3.0], [-1.0]])), [[6], [20]])


@pytest.mark.parametrize("scale", [3e-9, 2e-12, 1e-3, 1e6])
def test_scaling_layer_serves_features_of_any_unit(scale: float) -> None:
    # Net primary production in kg m-2 s-1 is of the order of 1e-9, which a Normalization layer alone would clamp.
    network = build_network(Scaling(("npp", "x"), np.array([10 * scale, 0.0]), np.array([scale, 1.0])), units=())
    network.get_layer("log_odds").set_weights([np.array([[1.0], [1.0]])])
    values = network(np.array([[12 * scale, 0.5]], dtype=np.float32))
    assert float(values[0, 0]) == pytest.approx(2.5, rel=1e-5)


def test_network_is_that_of_its_seed_whatever_was_built_before() -> None:
    scaling = Scaling(("x", "y"), np.zeros(2), np.ones(2))

    def weights(seed: int, dropout: float = 0.0) -> np.ndarray:
        network = build_network(scaling, units=(4, 4), seed=seed, dropout=dropout)
        return np.concatenate([w.ravel() for w in network.get_weights()])

    first = weights(3)
    keras.utils.set_random_seed(99)
    np.testing.assert_array_equal(first, weights(3))
    np.testing.assert_array_equal(first, weights(3, dropout=0.5))
    assert (first != weights(4)).any()


def test_layers_of_equal_shape_start_differently() -> None:
    network = build_network(Scaling(("x", "y"), np.zeros(2), np.ones(2)), units=(2, 2), seed=0)
    assert (network.get_layer("hidden_1").get_weights()[0] != network.get_layer("hidden_2").get_weights()[0]).any()


def test_dropout_acts_in_training_only() -> None:
    network = build_network(Scaling(("x",), np.zeros(1), np.ones(1)), units=(50,), dropout=0.5)
    x = np.ones((1, 1), dtype=np.float32)
    frozen = [float(network(x, training=False)[0, 0]) for _ in range(2)]
    moving = [float(network(x, training=True)[0, 0]) for _ in range(2)]
    assert frozen[0] == frozen[1]
    assert moving[0] != moving[1]


def test_network_without_features_is_an_error_that_leads_to_zero_model() -> None:
    with pytest.raises(ValueError, match=r"a model without features is zero_model\(\)"):
        build_network(Scaling((), np.zeros(0), np.zeros(0)))


# ----------------------------------------------------------------------------- the linear term


def test_network_with_a_linear_term_starts_as_that_term_up_to_a_constant() -> None:
    # 0.5 nats per km and -0.002 nats per m: 10 km and 100 m more are 5 - 0.2.
    scaling = Scaling(("distance_km", "depth_m"), np.array([30.0, 2000.0]), np.array([20.0, 900.0]))
    network = build_network(scaling, units=(8, 8), linear=np.array([0.5, -0.002]), seed=3)
    values = keras.ops.convert_to_numpy(network(np.array([[10.0, 500.0], [20.0, 600.0]])))[:, 0]
    assert values[1] - values[0] == pytest.approx(4.8, rel=1e-5)


@pytest.mark.parametrize("scale", [3e-9, 1e-3, 1e6])
def test_linear_term_is_per_physical_unit_whatever_the_scale(scale: float) -> None:
    scaling = Scaling(("npp", "x"), np.array([10 * scale, 5.0]), np.array([scale, 2.0]))
    network = build_network(scaling, units=(4,), linear=np.array([2 / scale, 1.0]))
    values = keras.ops.convert_to_numpy(network(np.array([[10 * scale, 5], [11 * scale, 5], [10 * scale, 6]])))[:, 0]
    np.testing.assert_allclose(values[1:] - values[0], [2, 1], rtol=1e-5)


def test_hidden_layers_start_the_same_with_and_without_a_linear_term() -> None:
    with_linear = build_network(PLAIN, units=(4, 4), seed=3, linear=np.ones(2))
    without = build_network(PLAIN, units=(4, 4), seed=3)
    for name in ("hidden_1", "hidden_2"):
        kernel, bias = without.get_layer(name).get_weights()
        np.testing.assert_array_equal(with_linear.get_layer(name).get_weights()[0], kernel)
        np.testing.assert_array_equal(with_linear.get_layer(name).get_weights()[1], bias)
    assert (with_linear.get_layer("log_odds").get_weights()[0] == 0).all()
    assert (without.get_layer("log_odds").get_weights()[0] != 0).all()


def test_feature_without_a_coefficient_never_enters_the_linear_term() -> None:
    network = build_network(PLAIN, units=(4,), linear=np.array([0.5, 0.0]))
    with tf.GradientTape() as tape:
        value = keras.ops.sum(network(rows(2)))
    gradient = tape.gradient(value, network.get_layer("linear").kernel).numpy()[:, 0]
    assert gradient[0] != 0
    assert gradient[1] == 0
    assert "linear_features" not in names_of(build_network(PLAIN, units=(4,), linear=np.ones(2)))


@pytest.mark.parametrize("linear", [np.ones(3), np.ones((2, 1)), np.array([1.0, np.nan])])
def test_linear_term_of_another_shape_or_not_finite_is_an_error(linear: np.ndarray) -> None:
    with pytest.raises(
        ValueError, match=r"linear must be finite and have shape \(feature,\) = \(2,\), in the order x, y"
    ):
        build_network(PLAIN, linear=linear)


# ----------------------------------------------------------------------------- penalties


def test_l2_is_on_the_weights_of_hidden_and_last_layers_and_not_on_biases_or_the_linear_term() -> None:
    network = build_network(PLAIN, units=(2,), l2=0.1, linear=np.array([100.0, 100.0]))
    network.get_layer("hidden_1").set_weights([np.array([[1.0, 2.0], [3.0, 0.0]]), np.array([50.0, 50.0])])
    network.get_layer("log_odds").set_weights([np.array([[4.0], [0.0]])])
    # 0.1 (1 + 4 + 9) + 0.1 x 16
    assert sum(float(loss) for loss in network.losses) == pytest.approx(3.0, rel=1e-6)
    assert build_network(PLAIN, units=(2,), linear=np.ones(2)).losses == []


def test_penalties_do_not_change_the_initial_weights() -> None:
    plain, penalized = build_network(PLAIN, units=(3,), seed=2), build_network(PLAIN, units=(3,), seed=2, l2=0.5)
    for one, other in zip(plain.get_weights(), penalized.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("option", ["l2", "embedding_l2", "embedding_size"])
def test_negative_penalty_or_size_is_an_error(option: str) -> None:
    with pytest.raises(ValueError, match=f"{option} must be 0 or more; got -1"):
        build_network(PLAIN, n_individuals=2, **{option: -1})


# ----------------------------------------------------------------------------- embeddings of individuals


def test_embedding_starts_as_the_population_for_everyone() -> None:
    network = build_network(PLAIN, units=(4,), n_individuals=3, embedding_size=2)
    x = np.repeat(rows(2, 1), 4, axis=0)
    values = keras.ops.convert_to_numpy(network(np.column_stack([x, [0, 1, 2, 3]])))
    assert network.input_shape == (None, 3)
    assert (values == values[0]).all()


def test_embedding_acts_on_its_own_individual_only() -> None:
    network = build_network(PLAIN, units=(16,), n_individuals=2, embedding_size=1)
    x = np.repeat(rows(2, 1), 3, axis=0)
    inputs = np.column_stack([x, [0, 1, 2]])
    before = keras.ops.convert_to_numpy(network(inputs))[:, 0]
    network.get_layer("embedding").set_weights([np.array([[0.0], [0.0], [3.0]])])
    after = keras.ops.convert_to_numpy(network(inputs))[:, 0]
    assert (after != before).tolist() == [False, False, True]


def test_embedding_leaves_the_scaled_features_alone() -> None:
    scaling = Scaling(("x", "y"), np.array([1.0, 2.0]), np.array([4.0, 0.5]))
    network = build_network(scaling, units=(2,), n_individuals=5, embedding_size=1)
    network.get_layer("hidden_1").set_weights([np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]), np.zeros(2)])
    network.get_layer("log_odds").set_weights([np.array([[2.0], [3.0]])])
    # 2 (9 - 1) / 4 + 3 (3 - 2) / 0.5 = 4 + 6
    assert float(network(np.array([[9.0, 3.0, 4.0]]))[0, 0]) == pytest.approx(10, rel=1e-6)


def test_penalty_of_the_embedding_is_its_sum_of_squares() -> None:
    network = build_network(PLAIN, units=(4,), n_individuals=2, embedding_size=2, embedding_l2=0.5)
    network.get_layer("embedding").set_weights([np.array([[0.0, 0.0], [1.0, 2.0], [3.0, 0.0]])])
    assert [float(loss) for loss in network.losses] == [7.0]


def test_population_stays_at_zero_when_individuals_are_learned() -> None:
    network = build_network(PLAIN, units=(8,), n_individuals=2, embedding_size=2, seed=1)
    network.compile(keras.optimizers.Adam(0.05), "mse")
    number = np.repeat([1.0, 2.0], 25)
    network.fit(np.column_stack([rows(2), number]), number, epochs=5, verbose=0)
    embedding = network.get_layer("embedding").get_weights()[0]
    assert (embedding[0] == 0).all()
    assert (embedding[1:] != 0).all()


def test_embedding_without_individuals_or_a_layer_to_act_on_is_an_error() -> None:
    with pytest.raises(ValueError, match="an embedding needs n_individuals of 1 or more; got 0"):
        build_network(PLAIN, embedding_size=2)
    with pytest.raises(ValueError, match="an embedding needs a hidden layer: .* and cancel"):
        build_network(PLAIN, units=(), embedding_size=2, n_individuals=3)


def test_numbers_of_individuals_are_by_name_and_zero_for_the_unknown() -> None:
    cs = choice_sets(x=[1, 2, 3, 4])
    assert individual_numbers(cs, ["b", "c"]).tolist() == [0, 0, 1, 1]
    assert individual_numbers(cs, []).tolist() == [0, 0, 0, 0]
    assert individual_numbers(cs, ["b"]).dtype == np.float32
    with pytest.raises(ValueError, match="individuals must be distinct; got a more than once"):
        individual_numbers(cs, ["a", "b", "a"])
