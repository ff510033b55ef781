"""A network into its core behind the scaling layers, and rows of features into what that core takes."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from mimic.model import BLOCK_ROWS

__all__ = ["core_network", "scale_rows"]


def core_network(network: keras.Model) -> keras.Model:
    """The network behind its scaling layers, with the same weights: it takes what `scale_rows` gives."""
    last = _last_scaling(network)
    return network if last is None else keras.Model(last.output, network.output, name="core")


def scale_rows(network: keras.Model, rows: np.ndarray) -> Any:
    """(row, input), float32, as a tensor: to the last bit what the scaling layers of the network make of its inputs.

    Scaled once and not for every minibatch. A network with an embedding has more than scaled inputs, and scales
    them itself: for it the rows stay as they are.
    """
    last = _last_scaling(network)
    if last is None:
        return tf.convert_to_tensor(rows)
    scale = keras.Model(network.input, last.output)
    blocks = [scale(rows[i : i + BLOCK_ROWS]) for i in range(0, len(rows), BLOCK_ROWS)]
    return tf.concat(blocks, axis=0) if blocks else tf.convert_to_tensor(rows)


def _last_scaling(network: keras.Model) -> keras.layers.Layer | None:
    names = [layer.name for layer in network.layers]
    if "embedding" in names:
        return None
    return network.get_layer("scaling_of_small" if "scaling_of_small" in names else "scaling")
