"""`ContrastSampling`: uniform draws of real unselected choices, in a pipeline, in a model, and through a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from mimic.layers import ContrastSampling


def batch(n_decisions: int = 6, n_choices: int = 5, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A padded batch whose two features are the decision and the position of the choice; padding holds 999."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(2, n_choices + 1, size=n_decisions)
    mask = np.arange(n_choices) < sizes[:, None]
    decision, position = np.meshgrid(np.arange(n_decisions), np.arange(n_choices), indexing="ij")
    features = np.where(mask[..., None], np.stack([decision, position], axis=-1), 999).astype(np.float32)
    return features, mask, rng.integers(0, sizes).astype(np.int32)


def drawn(layer: ContrastSampling, inputs: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs, labels and weights as arrays."""
    pairs, labels, weights = (keras.ops.convert_to_numpy(part) for part in layer(inputs))
    return pairs, labels, weights


def test_pairs_hold_the_selected_choice_and_the_only_alternative() -> None:
    # Two real choices, the second selected, one padded: every draw must be (second, first).
    features = np.array([[[1.0], [2.0], [999.0]]], dtype=np.float32)
    inputs = (features, np.array([[True, True, False]]), np.array([1]))
    pairs, labels, weights = drawn(ContrastSampling(4, seed=0), inputs)
    np.testing.assert_array_equal(pairs, np.tile([[[2.0], [1.0]]], (4, 1, 1)))
    assert labels.tolist() == [0, 0, 0, 0]
    assert labels.dtype == np.int32
    assert weights.tolist() == [1, 1, 1, 1]


def test_padded_and_selected_choices_are_never_drawn_as_the_alternative() -> None:
    features, mask, selected = batch(40, 7)
    pairs, _, weights = drawn(ContrastSampling(200, seed=1), (features, mask, selected))
    assert pairs.shape == (40 * 200, 2, 2)
    decision = np.repeat(np.arange(40), 200)
    np.testing.assert_array_equal(pairs[:, :, 0], np.column_stack([decision, decision]))
    np.testing.assert_array_equal(pairs[:, 0, 1], selected[decision])
    assert (pairs[:, 1, 1] != selected[decision]).all()
    assert pairs.max() < 999
    assert (weights == 1).all()


def test_draws_are_uniform_over_unselected_choices() -> None:
    features, mask, selected = batch(3, 6, seed=2)
    n = 30_000
    pairs, _, _ = drawn(ContrastSampling(n, seed=3), (features, mask, selected))
    for decision in range(3):
        counts = np.bincount(pairs[decision * n : (decision + 1) * n, 1, 1].astype(int), minlength=6)
        expected = np.where(mask[decision], n / (mask[decision].sum() - 1), 0)
        expected[selected[decision]] = 0
        # Standard deviation below sqrt(n / 4) = 87.
        np.testing.assert_allclose(counts, expected, atol=4.5 * 87)


def test_repeated_decision_draws_anew_each_time_and_each_call_draws_anew() -> None:
    features, mask, selected = batch(1, 9, seed=4)
    repeated = (np.repeat(features, 50, axis=0), np.repeat(mask, 50, axis=0), np.repeat(selected, 50))
    layer = ContrastSampling(6, seed=0)
    first, second = (drawn(layer, repeated)[0][:, 1, 1].reshape(50, 6) for _ in range(2))
    assert len(np.unique(first, axis=0)) > 40
    assert (first != second).any()


def test_draws_are_those_of_the_seed() -> None:
    inputs = batch(8, 9, seed=5)
    one, same, other = (drawn(ContrastSampling(6, seed=seed), inputs)[0] for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()


@pytest.mark.parametrize(
    ("mask", "selected"),
    [([True, True, False], -1), ([True, False, False], 0), ([False, False, False], 0)],
    ids=["unknown selection", "single choice", "padded decision"],
)
def test_decision_without_contrasts_has_no_weight_and_no_padding_in_its_pairs(mask: list[bool], selected: int) -> None:
    features = np.array([[[1.0], [2.0], [np.nan]]], dtype=np.float32)
    pairs, _, weights = drawn(ContrastSampling(3, seed=0), (features, np.array([mask]), np.array([selected])))
    assert weights.tolist() == [0, 0, 0]
    assert (pairs == 1).all()


def test_works_in_a_tf_data_pipeline_and_draws_anew_every_epoch() -> None:
    layer = ContrastSampling(10, seed=0)
    dataset = tf.data.Dataset.from_tensor_slices(batch(12, 8)).batch(4).map(lambda *inputs: layer(inputs))
    epochs = [np.concatenate([pairs.numpy() for pairs, _, _ in dataset]) for _ in range(2)]
    assert epochs[0].shape == (120, 2, 2)
    assert (epochs[0][:, 0] == epochs[1][:, 0]).all()
    assert (epochs[0][:, 1] != epochs[1][:, 1]).any()


@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")  # by Keras
def test_works_inside_a_model_that_is_saved_and_loaded(tmp_path: Path) -> None:
    inputs = [keras.Input((5, 2)), keras.Input((5,), dtype="bool"), keras.Input((), dtype="int32")]
    model = keras.Model(inputs, ContrastSampling(3, seed=9, name="contrasts")(tuple(inputs)))
    assert [tuple(output.shape) for output in model.outputs] == [(None, 2, 2), (None,), (None,)]
    assert [output.dtype for output in model.outputs] == ["float32", "int32", "float32"]
    model.save(tmp_path / "sampling.keras")
    restored = keras.saving.load_model(tmp_path / "sampling.keras", safe_mode=True)
    config = restored.get_layer("contrasts").get_config()
    assert config == model.get_layer("contrasts").get_config()
    assert (config["alternatives_per_decision"], config["seed"]) == (3, 9)
    data = batch(4, 5)
    for one, other in zip(model(data), restored(data), strict=True):
        np.testing.assert_array_equal(one, other)


def test_serialised_layer_is_found_by_its_registered_name() -> None:
    layer = ContrastSampling(3, seed=9)
    config = keras.saving.serialize_keras_object(layer)
    assert config["registered_name"] == "mimic>ContrastSampling"
    again = keras.saving.deserialize_keras_object(config)
    np.testing.assert_array_equal(drawn(again, batch())[0], drawn(layer, batch())[0])


def test_fit_of_plain_keras_recovers_known_log_odds() -> None:
    # 600 decisions with log-odds 1.5 x1 - 1 x2, ragged: 3 to 8 choices.
    rng = np.random.default_rng(0)
    features = rng.normal(size=(600, 8, 2)).astype(np.float32)
    mask = np.arange(8) < rng.integers(3, 9, size=600)[:, None]
    utility = features @ [1.5, -1.0] + rng.gumbel(size=(600, 8))
    selected = np.where(mask, utility, -np.inf).argmax(axis=1)
    layer = ContrastSampling(4, seed=1)
    dataset = (
        tf.data.Dataset.from_tensor_slices((features, mask, selected))
        .shuffle(600, seed=2)
        .batch(100)
        .map(lambda *inputs: layer(inputs))
    )
    network = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")])
    pair = keras.Input((2, 2))
    logits = keras.layers.Flatten()(keras.layers.TimeDistributed(network)(pair))
    trainer = keras.Model(pair, logits)
    trainer.compile(keras.optimizers.Adam(0.05), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    history = trainer.fit(dataset, epochs=25, shuffle=False, verbose=0).history
    assert history["loss"][-1] < 0.45 < 0.6 < history["loss"][0]
    np.testing.assert_allclose(network.get_weights()[0][:, 0], [1.5, -1.0], atol=0.25)


def test_errors_say_what_was_expected() -> None:
    with pytest.raises(ValueError, match="alternatives_per_decision must be 1 or more; got 0"):
        ContrastSampling(0, seed=0)
    with pytest.raises(ValueError, match=r"expects the inputs \(features, mask, selected\)"):
        ContrastSampling(2, seed=0)(np.zeros((3, 4, 2), np.float32))
