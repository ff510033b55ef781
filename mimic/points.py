"""Points of feature space, met by an animal or not, into log-odds; and the sample of rows that curves average over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd

from mimic.contrasts import Weighting
from mimic.schema import DECISION, INDIVIDUAL, ChoiceSets

__all__ = [
    "Model",
    "RowSample",
    "check_own_response",
    "differs_within",
    "feature_grid",
    "mean_choice",
    "nearest_counts",
    "point_log_odds",
    "sample_rows",
]

_BLOCK_ROWS = 1 << 14


class Model(Protocol):
    """Anything that gives log-odds: `LogOddsModel`, `ConditionalLogit`, or your own."""

    @property
    def features(self) -> tuple[str, ...]: ...

    def log_odds(self, cs: ChoiceSets, /) -> np.ndarray: ...


@dataclass(frozen=True, eq=False)
class RowSample:
    """The choices of a seeded sample of decisions.

    Parameters
    ----------
    values
        Feature -> (row,), float32, in physical units.
    weights
        (row,), summing to 1.
    decision, individual
        (row,): codes 0, 1, ... of the decision and the individual of each row.
    """

    values: Mapping[str, np.ndarray]
    weights: np.ndarray
    decision: np.ndarray
    individual: np.ndarray

    @property
    def n_rows(self) -> int:
        return len(self.weights)

    @property
    def n_individuals(self) -> int:
        return int(self.individual.max()) + 1

    def mean(self, feature: str) -> float:
        """Weighted mean of a feature, in its unit."""
        return float(np.sum(self.weights * self.values[feature]))


def sample_rows(
    cs: ChoiceSets,
    features: Sequence[str],
    *,
    n_decisions: int = 500,
    weighting: Weighting = "individual",
    seed: int = 0,
) -> RowSample:
    """All choices of up to `n_decisions` decisions, drawn so that individuals are as evenly there as they can be.

    Parameters
    ----------
    weighting
        Of the decisions in a mean; the choices of a decision share its weight. "individual": individuals weigh the
        same. "decision": decisions do.

    Raises
    ------
    ValueError
        If there is no decision, `n_decisions` is less than 1, or a feature is unknown or not finite.

    Notes
    -----
    The decisions of each individual are shuffled; then the first of every individual is taken, the second, and so on.
    """
    if n_decisions < 1 or cs.n_decisions == 0:
        raise ValueError(f"expected decisions to sample; got {cs.n_decisions}, of which {n_decisions} were asked for.")
    missing = [name for name in features if name not in cs.features]
    if missing:
        raise ValueError(f"unknown feature {', '.join(missing)}; known are {', '.join(cs.features)}.")
    codes = cs.individual_codes
    shuffled = np.random.default_rng(seed).permutation(cs.n_decisions)
    turn = pd.Series(codes[shuffled]).groupby(codes[shuffled]).cumcount().to_numpy()
    taken = np.sort(shuffled[np.argsort(turn, kind="stable")[:n_decisions]])
    part = cs.filter(np.isin(np.arange(cs.n_decisions), taken))
    bad = [name for name in features if not np.isfinite(part.features[name]).all()]
    if bad:
        raise ValueError(f"features must be finite; got NaN or infinity in {', '.join(bad)}. Drop these choices first.")
    own = part.individual_codes
    of_decision = 1.0 / np.bincount(own)[own] if weighting == "individual" else np.ones(part.n_decisions)
    weights = np.repeat(of_decision / of_decision.sum() / part.n_choices, part.n_choices)
    decision = part.decision_of_row
    return RowSample({name: part.features[name] for name in features}, weights, decision, own[decision])


def point_log_odds(
    model: Model, values: Mapping[str, np.ndarray], n_points: int, *, individual: str | None = None
) -> np.ndarray:
    """Log-odds of points given by their features: (point, member), float64, nats; one member but for some ensembles.

    Parameters
    ----------
    values
        Feature -> (point,), in physical units; all features of the model.
    individual
        Whose embedding to use, where the model has one. By default the population's (number 0).

    Raises
    ------
    ValueError
        If a feature is missing, or the individual is not one that the model knows.

    Notes
    -----
    An ensemble that averages probabilities has no log-odds of one choice: ln of the mean p depends on all choices of
    the decision. Of such a model these are the log-odds that its members give, (point, member).
    """
    missing = [name for name in model.features if name not in values]
    if missing:
        raise ValueError(f"the model takes {', '.join(model.features)}; there are no values of {', '.join(missing)}.")
    known = tuple(getattr(model, "individuals", ()))
    if individual is not None and individual not in known:
        told = f"it knows {', '.join(known[:5])}{', ...' if len(known) > 5 else ''}" if known else "it has no embedding"
        raise ValueError(f"the model has no embedding of individual {individual}; {told}. Leave out the individual.")
    if getattr(model, "averages_probability", False):
        return _member_log_odds(model, values, 0 if individual is None else 1 + known.index(individual))
    name = individual or "population"
    while individual is None and name in known:
        name += "_"
    decisions = pd.DataFrame({INDIVIDUAL: [name], DECISION: [0]})
    used = {feature: values[feature] for feature in model.features}
    cs = ChoiceSets(decisions, np.array([0, n_points]), np.arange(n_points), np.array([-1]), used)
    return np.asarray(model.log_odds(cs), dtype=np.float64)[:, None]


def _member_log_odds(model: Any, values: Mapping[str, np.ndarray], number: int) -> np.ndarray:
    """What the network of an ensemble gives before probabilities are averaged: (point, member)."""
    import keras

    columns = [np.asarray(values[name], dtype=np.float32) for name in model.features]
    if model.individuals:
        columns.append(np.full(len(columns[0]), number, dtype=np.float32))
    matrix = np.column_stack(columns)
    blocks = [
        keras.ops.convert_to_numpy(model.network(matrix[first : first + _BLOCK_ROWS], training=False))
        for first in range(0, len(matrix), _BLOCK_ROWS)
    ]
    return np.concatenate(blocks).astype(np.float64)


def feature_grid(values: np.ndarray, n_grid: int, *, given: Sequence[float] | np.ndarray | None = None) -> np.ndarray:
    """Values of a feature to draw it at: (value,), ascending, exact in float32.

    Those given; else the distinct values where there are at most `n_grid`; else quantiles from the smallest to the
    largest value.

    Raises
    ------
    ValueError
        If `n_grid` is less than 2, or there is only one value, or one is not finite.

    Example
    -------
    >>> feature_grid(np.array([0.0, 1.0, 1.0, 0.0]), 20).tolist()
    [0.0, 1.0]
    """
    if given is not None:
        grid = np.unique(np.asarray(given, dtype=np.float32)).astype(np.float64)
        if len(grid) < 2 or not np.isfinite(grid).all():
            raise ValueError(f"a curve needs a grid of 2 or more finite values; got {list(given)}.")
        return grid
    if n_grid < 2:
        raise ValueError(f"a curve needs a grid of 2 values or more; got {n_grid}.")
    distinct = np.unique(np.asarray(values, dtype=np.float32))
    if len(distinct) < 2:
        raise ValueError(f"a curve needs a feature of two or more values; it is {distinct.tolist()} everywhere.")
    if len(distinct) <= n_grid:
        return distinct.astype(np.float64)
    grid = np.quantile(values, np.linspace(0, 1, n_grid))
    return np.unique(grid.astype(np.float32)).astype(np.float64)


def differs_within(cs: ChoiceSets, feature: str) -> bool:
    """Whether a feature differs between the choices of a decision, so that it has a response of its own.

    False for the role "decision", and for what is constant within every decision: it cancels in the probability.
    """
    if cs.info[feature].role == "decision":
        return False
    values, starts = cs.features[feature], cs.offsets[:-1]
    return bool((np.maximum.reduceat(values, starts) > np.minimum.reduceat(values, starts)).any())


def check_own_response(models: Sequence[Model], cs: ChoiceSets, feature: str) -> None:
    """Raise ValueError if a feature is not the models', or is the same for all choices of a decision."""
    if feature not in models[0].features:
        raise ValueError(f"the model takes {', '.join(models[0].features) or 'no feature'}; it has no {feature}.")
    if feature in cs.features and not differs_within(cs, feature):
        others = [name for name in models[0].features if name in cs.features and differs_within(cs, name)]
        raise ValueError(
            f"{feature} is the same for all choices of a decision, so that a curve of its own cancels in the "
            f"probability. Ask for its surface with a feature of the choices ({', '.join(others) or 'none here'})."
        )


def mean_choice(cs: ChoiceSets, model: Model) -> dict[str, float]:
    """Feature -> its mean over all choices, rounded as features are; individuals weigh the same."""
    sample = sample_rows(cs, model.features, n_decisions=cs.n_decisions)
    return {name: float(np.float32(sample.mean(name))) for name in model.features}


def nearest_counts(grid: np.ndarray, values: np.ndarray) -> np.ndarray:
    """How many of the values lie nearest to each value of an ascending grid: (value,), int64."""
    return np.bincount(np.searchsorted((grid[1:] + grid[:-1]) / 2, values), minlength=len(grid))
