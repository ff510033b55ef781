"""Ragged arrays by spans: the rows of some of their parts, and blocks of parts that are worked on at once."""

from __future__ import annotations

import numpy as np

__all__ = ["BLOCK_DECISIONS", "blocks", "segments"]

BLOCK_DECISIONS = 32_768
"""Decisions whose rows are gathered at once: about 700,000 rows at resolution 4 and 100 km."""


def segments(starts: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """start, start + 1, ... of one segment after another: (sum of sizes,).

    Example
    -------
    >>> segments(np.array([10, 3]), np.array([2, 3])).tolist()
    [10, 11, 3, 4, 5]
    """
    ends = np.cumsum(sizes)
    return np.repeat(starts - (ends - sizes), sizes) + np.arange(int(ends[-1]) if len(ends) else 0)


def blocks(n_decisions: int, size: int = BLOCK_DECISIONS) -> list[tuple[int, int]]:
    """[first, last) of one block of decisions after another.

    Example
    -------
    >>> blocks(5, 2)
    [(0, 2), (2, 4), (4, 5)]
    """
    return [(first, min(first + size, n_decisions)) for first in range(0, n_decisions, size)]
