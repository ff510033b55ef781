"""A padded batch of decisions into sampled contrasts, as a Keras layer for a training loop of one's own."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

__all__ = ["ContrastSampling"]


@keras.saving.register_keras_serializable(package="mimic")
class ContrastSampling(keras.layers.Layer):
    """Draws contrasts from a padded batch of decisions: the selected choice against unselected choices of it.

    Each decision of the batch gets its own draws, uniform over its unselected choices, with replacement, anew
    on every call. Repeat a decision in the batch (draw the decisions of every individual with replacement) and
    every repetition draws for itself. Works in `tf.data.Dataset.map` after `batch`
    (without `cache` after it: cached draws are not drawn anew) and inside a model.

    `mimic.training.train` does not need it: there a contrast is a weight on a row and nothing is copied.

    Parameters
    ----------
    alternatives_per_decision
        Unselected choices drawn for each decision of the batch.
    seed
        Of this layer's own random state.

    Inputs
    ------
    A tuple of

    - features (decision, choice, feature): padded choices may hold any number;
    - mask (decision, choice), bool: True for real choices;
    - selected (decision,), integer: position of the selected choice, -1 where unknown.

    Outputs
    -------
    A tuple to give to `fit` as (x, y, sample_weight), with contrast = decision x alternatives_per_decision:

    - pairs (contrast, 2, feature): the selected choice, then the unselected one;
    - labels (contrast,), int32: always 0, the position of the selected choice in the pair;
    - weights (contrast,), float: 1, or 0 for a decision with no known selection or no other choice (its pairs
      hold the same choice twice).

    Notes
    -----
    With a network f that maps (..., feature) to (..., 1), the logits of a pair are f(pair) without its last
    axis, and sparse categorical cross-entropy on them is softplus(phi_unselected - phi_selected). Where
    weights are zero, compile the loss with reduction="mean_with_sample_weight".
    """

    def __init__(self, alternatives_per_decision: int = 19, *, seed: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if alternatives_per_decision < 1:
            raise ValueError(f"alternatives_per_decision must be 1 or more; got {alternatives_per_decision}.")
        self.alternatives_per_decision = int(alternatives_per_decision)
        self.seed = int(seed)
        self.seed_generator = keras.random.SeedGenerator(self.seed)

    def build(self, input_shape: Any) -> None:
        if [len(shape) if isinstance(shape, (list, tuple)) else 0 for shape in input_shape] != [3, 2, 1]:
            raise ValueError(
                "ContrastSampling expects the inputs (features, mask, selected) of shapes (decision, choice, feature), "
                f"(decision, choice) and (decision,); got shapes {input_shape}."
            )
        super().build(input_shape)

    def call(self, inputs: Any) -> tuple[Any, Any, Any]:
        features, mask, selected = inputs
        mask, selected = ops.cast(mask, "bool"), ops.cast(selected, "int32")
        n_choices, n_features = ops.shape(features)[1:]
        n_drawn = self.alternatives_per_decision
        unselected = ops.logical_and(mask, ops.arange(n_choices, dtype="int32")[None, :] != selected[:, None])
        usable = ops.logical_and(selected >= 0, ops.any(unselected, axis=1))  # (decision,)
        log_odds = ops.where(unselected, 0.0, -1e9)
        position = keras.random.categorical(log_odds, n_drawn, dtype="int32", seed=self.seed_generator)
        known = ops.maximum(selected, 0)[:, None]
        position = ops.where(usable[:, None], position, known)  # (decision, drawn)
        one = ops.take_along_axis(features, ops.repeat(known, n_drawn, axis=1)[:, :, None], axis=1)
        other = ops.take_along_axis(features, position[:, :, None], axis=1)  # (decision, drawn, feature)
        pairs = ops.reshape(ops.stack([one, other], axis=2), (-1, 2, n_features))
        weights = ops.repeat(ops.cast(usable, self.compute_dtype), n_drawn)
        return pairs, ops.zeros_like(weights, dtype="int32"), weights

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "alternatives_per_decision": self.alternatives_per_decision,
            "seed": self.seed,
        }
