"""Choice sets and a scaling into what the core of a network takes: features side by side, scaled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from mimic.core import scale_rows
from mimic.network import Scaling, build_network, individual_numbers
from mimic.scaling import check_logarithms
from mimic.schema import ChoiceSets

__all__ = ["network_inputs", "scaled_inputs"]


def network_inputs(cs: ChoiceSets, features: Sequence[str], individuals: Sequence[str]) -> np.ndarray:
    """(row, input), float32: the features and, where individuals are embedded, their numbers."""
    matrix = cs.matrix(features)
    return np.column_stack([matrix, individual_numbers(cs, individuals)]) if individuals else matrix


def scaled_inputs(matrix: np.ndarray, scaling: Scaling, *, embeds: bool) -> Any:
    """What the core of a network takes, as a tensor: (row, input), float32.

    Raises ValueError where the scaling takes a logarithm of values that have none.
    """
    check_logarithms(dict(zip(scaling.names, matrix.T, strict=False)), scaling.logarithms)
    return tf.convert_to_tensor(matrix) if embeds else scale_rows(build_network(scaling, units=()), matrix)
