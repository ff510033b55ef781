"""Decisions of the published study's size, selected by known log-odds, and contrasts drawn from them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from mimic.contrasts import sample_contrasts
from mimic.schema import SPLIT, TRAIN, VALIDATION, ChoiceSets, concatenate

__all__ = ["FEATURES", "SIZES", "Contrasts", "Size", "draw_contrasts", "simulate", "simulate_study"]

FEATURES = ("distance_km", "heading_sin", "heading_cos", "food")
N_CHOICES = 19
DECISIONS_PER_INDIVIDUAL, ALTERNATIVES_PER_DECISION = 200, 19
BATCH_CONTRASTS = 10_000
LEARNING_RATE = 5e-4


@dataclass(frozen=True)
class Size:
    """Individuals and decisions of the two splits."""

    individuals: tuple[int, int]  # training, validation
    decisions: tuple[int, int]


SIZES = {"quick": Size((14, 8), (960, 500)), "full": Size((71, 40), (4_800, 2_500))}


def simulate(n_individuals: int, n_decisions: int, rng: np.random.Generator, *, prefix: str = "fish") -> ChoiceSets:
    """Decisions with 19 choices each, selected by known log-odds: to stay near, to go south-east, to find food."""
    ring = np.repeat([0.0, 45.0, 85.0], [1, 6, 12])
    moved = ring > 0
    distance = (ring + rng.uniform(-8.0, 8.0, (n_decisions, N_CHOICES))) * moved  # (decision, choice)
    heading = rng.uniform(-np.pi, np.pi, (n_decisions, N_CHOICES))
    food = rng.normal(size=(n_decisions, N_CHOICES))
    heading_sin, heading_cos = np.sin(heading) * moved, np.cos(heading) * moved
    log_odds = -distance / 18.0 + 0.8 * (heading_sin - heading_cos) + 0.5 * food - 0.3 * food**2
    picked = np.argmax(log_odds + rng.gumbel(size=log_odds.shape), axis=1)
    who = np.sort(np.concatenate([np.arange(n_individuals), rng.integers(0, n_individuals, n_decisions)])[:n_decisions])
    decisions = pd.DataFrame({"individual": [f"{prefix} {i}" for i in who], "decision": np.arange(n_decisions)})
    offsets = np.arange(n_decisions + 1) * N_CHOICES
    columns = dict(zip(FEATURES, (distance, heading_sin, heading_cos, food), strict=True))
    return ChoiceSets(
        decisions,
        offsets,
        choice=np.tile(np.arange(N_CHOICES), n_decisions),
        selected=offsets[:-1] + picked,
        features={name: values.ravel() for name, values in columns.items()},
    )


def simulate_study(size: Size) -> ChoiceSets:
    """Both splits, in the column `split`; always the same."""
    rng = np.random.default_rng(0)
    parts = [
        simulate(n, d, rng, prefix=split).with_context(**{SPLIT: split})
        for split, n, d in zip((TRAIN, VALIDATION), size.individuals, size.decisions, strict=True)
    ]
    return concatenate(parts)


@dataclass(frozen=True, eq=False)
class Contrasts:
    """Sampled contrasts, one entry each, in random order.

    Parameters
    ----------
    choices
        (contrast, 2, feature), float32: one of them was selected.
    label
        (contrast,), int64: which of the two.
    """

    choices: np.ndarray
    label: np.ndarray

    def __len__(self) -> int:
        return len(self.label)


def draw_contrasts(cs: ChoiceSets, rng: np.random.Generator) -> Contrasts:
    """The sampled contrasts of the published study, each written out."""
    counts = sample_contrasts(
        cs,
        decisions_per_individual=DECISIONS_PER_INDIVIDUAL,
        alternatives_per_decision=ALTERNATIVES_PER_DECISION,
        rng=rng,
    )
    unselected = rng.permutation(np.repeat(np.arange(cs.n_rows), counts))
    selected = cs.selected[cs.decision_of_row[unselected]]
    label = rng.integers(0, 2, len(unselected))
    pairs = np.where(label[:, None] == 0, [[0, 1]], [[1, 0]])  # which of (selected, unselected) comes first
    rows = np.take_along_axis(np.column_stack([selected, unselected]), pairs, axis=1)
    return Contrasts(cs.matrix(FEATURES)[rows], label)
