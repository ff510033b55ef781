"""Small worlds and models whose explanation is known, for the tests of explanation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mimic.probability import grouped_log_softmax
from mimic.schema import ChoiceSets, FeatureInfo

__all__ = ["Known", "choose", "linear", "rows", "world"]


@dataclass(frozen=True)
class Known:
    """A model by a formula: features by name -> log-odds, both float64."""

    features: tuple[str, ...]
    formula: Callable[[Mapping[str, np.ndarray]], np.ndarray]

    def log_odds(self, cs: ChoiceSets, /) -> np.ndarray:
        return self.formula({name: cs.features[name].astype(np.float64) for name in self.features})


def linear(**coef: float) -> Known:
    """phi = sum of coefficient x feature."""
    return Known(tuple(coef), lambda f: np.sum([b * f[name] for name, b in coef.items()], axis=0))


def rows(features: Mapping[str, np.ndarray], sizes: list[int], individual: list[str], **context: object) -> ChoiceSets:
    """Choice sets of so many choices each, the first selected."""
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    decisions = pd.DataFrame({"individual": individual, "decision": np.arange(len(sizes)), **context})
    choice = np.concatenate([np.arange(n) for n in sizes])
    return ChoiceSets(decisions, offsets, choice, offsets[:-1], features)


def world(
    *, n_individuals: int = 12, n_decisions: int = 20, n_choices: int = 5, seed: int = 0, night: bool = False
) -> ChoiceSets:
    """Decisions among choices with the features a, b (standard normal) and noise; nothing selected yet is meant."""
    rng = np.random.default_rng(seed)
    n = n_individuals * n_decisions
    features = {name: rng.normal(size=n * n_choices) for name in ("a", "b", "noise")}
    individual = np.repeat([f"fish {k:02d}" for k in range(n_individuals)], n_decisions).tolist()
    start = np.tile(np.arange(n_decisions), n_individuals)
    cs = rows(features, [n_choices] * n, individual, time_utc=pd.Timestamp("2020-01-01") + pd.to_timedelta(start, "D"))
    if night:
        value = np.repeat((start % 2).astype(float), n_choices)
        cs = cs.with_features({"night": value}, {"night": FeatureInfo("decision")})
    return cs


def choose(cs: ChoiceSets, log_odds: np.ndarray, seed: int = 0) -> ChoiceSets:
    """The choice sets with selections drawn by their log-odds."""
    gumbel = np.random.default_rng(seed).gumbel(size=cs.n_rows)
    value = grouped_log_softmax(log_odds, cs.offsets) + gumbel
    order = np.lexsort((value, cs.decision_of_row))
    return ChoiceSets(cs.decisions, cs.offsets, cs.choice, order[cs.offsets[1:] - 1], cs.features, cs.info)
