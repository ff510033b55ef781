"""Models and two features into their surface of log-odds and odds, and into how strongly each pair interacts."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pandas as pd

from mimic.contrasts import Weighting
from mimic.points import Model, RowSample, differs_within, feature_grid, point_log_odds, sample_rows
from mimic.refits import Refits, curve_interval, several_models
from mimic.schema import ChoiceSets

__all__ = ["INTERACTION_COLUMNS", "SURFACE_COLUMNS", "interactions", "odds_surface"]

SURFACE_COLUMNS = [
    "feature_x",
    "feature_y",
    "unit_x",
    "unit_y",
    "x",
    "y",
    "log_odds",
    "log_odds_low",
    "log_odds_high",
    "odds",
    "n_rows",
    "has_data",
    "centered",
    "interval",
    "n_draws",
]

INTERACTION_COLUMNS = ["feature_x", "feature_y", "h2", "interaction", "joint", "rank", "n_points", "note"]

# Below this, in nats, two features do nothing that float32 networks can tell from rounding.
_NOTHING = 1e-5


def odds_surface(
    models: Model | Sequence[Model],
    cs: ChoiceSets,
    feature_x: str,
    feature_y: str,
    *,
    refits: Refits | Sequence[Model] = (),
    grid_x: Sequence[float] | np.ndarray | None = None,
    grid_y: Sequence[float] | np.ndarray | None = None,
    n_grid: int = 20,
    n_decisions: int = 60,
    weighting: Weighting = "individual",
    individual: str | None = None,
    level: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """The log-odds and the odds of a choice by two of its features, averaged over choices that animals had.

    Parameters
    ----------
    models, refits, weighting, individual, level
        As in `mimic.responses.response`.
    feature_x, feature_y
        At least one of them differs between the choices of a decision. The other may be the same for all, like the
        season: then it shows how the response to the first changes with it.
    grid_x, grid_y, n_grid
        The values; by default quantiles, or the distinct values where they are few.
    n_decisions, seed
        Of the sample of rows that log-odds are averaged over (partial dependence in both features).

    Returns
    -------
    Columns `SURFACE_COLUMNS`, one row a pair of values. log_odds in nats and odds = exp(log_odds), against the average
    choice: log_odds has mean 0 over all rows of `cs`, each at its nearest pair of values (`centered` = "overall").
    With a feature that is the same for all choices of a decision only differences at one value of it mean anything,
    and the mean is 0 at each ("within season_sin"). n_rows of `cs` lie nearest to the pair; where has_data is False
    there are none, and the surface is a guess of the model.

    Raises
    ------
    ValueError
        If a feature is unknown, the two are one, or both are the same for all choices of a decision.
    """
    several = several_models(models)
    _check_pair(several[0], cs, feature_x, feature_y)
    sample = sample_rows(cs, several[0].features, n_decisions=n_decisions, weighting=weighting, seed=seed)
    values_x, values_y = cs.features[feature_x], cs.features[feature_y]
    x, y = feature_grid(values_x, n_grid, given=grid_x), feature_grid(values_y, n_grid, given=grid_y)
    counts = _cell_counts(x, y, values_x, values_y)  # (x, y)
    within = [name for name in (feature_x, feature_y) if not differs_within(cs, name)]
    found = curve_interval(
        several,
        refits,
        lambda m: _centered(_surface(m, sample, (feature_x, feature_y), x, y, individual), counts, within, feature_x),
        level,
    )
    at_x, at_y = (grid.ravel() for grid in np.meshgrid(x, y, indexing="ij"))
    return pd.DataFrame(
        {
            "feature_x": feature_x,
            "feature_y": feature_y,
            "unit_x": cs.info[feature_x].unit,
            "unit_y": cs.info[feature_y].unit,
            "x": at_x,
            "y": at_y,
            "log_odds": found.estimate,
            "log_odds_low": found.low,
            "log_odds_high": found.high,
            "odds": np.exp(found.estimate),
            "n_rows": counts.ravel(),
            "has_data": counts.ravel() > 0,
            "centered": f"within {within[0]}" if within else "overall",
            "interval": found.interval,
            "n_draws": found.n_draws,
        }
    )[SURFACE_COLUMNS]


def interactions(
    model: Model,
    cs: ChoiceSets,
    *,
    features: Sequence[str] | None = None,
    n_points: int = 100,
    individual: str | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """How strongly each pair of features interacts in the log-odds: Friedman's H, the strongest pair first.

    Parameters
    ----------
    features
        By default all of the model.
    n_points, seed
        Of the sample of choices, one a decision, that the pairs are evaluated at and averaged over. The cost is
        n_points squared for each pair and feature.

    Returns
    -------
    Columns `INTERACTION_COLUMNS`. interaction: root mean square over the points of what the two do together beyond
    what each does alone, nats; `joint`: of all that the two do; h2 = (interaction / joint)^2, 0 without interaction and
    1 where there is nothing else (where features go together it may pass 1). Ranks are by `interaction`: h2 is large too where two features do hardly anything.
    h2 is NaN where the pair does nothing at all (below 1e-5 nats), or both are the same for all choices of a decision,
    and cancel.

    Raises
    ------
    ValueError
        If a feature is unknown, or there are fewer than two.

    Notes
    -----
    With PD the partial dependence, each with mean 0 over the points: H^2_jk = sum (PD_jk - PD_j - PD_k)^2 /
    sum PD_jk^2. Of a feature j that is the same for all choices of a decision PD_j cancels in the probability, and is
    left out of the denominator: sum (PD_jk - PD_j)^2.

    References
    ----------
    Friedman & Popescu 2008, doi:10.1214/07-AOAS148.

    Example
    -------
    phi = x y at the four corners of a square: nothing but interaction.

    >>> class Product:
    ...     features = ("x", "y")
    ...     def log_odds(self, cs):
    ...         return cs.features["x"].astype(float) * cs.features["y"]
    >>> decisions = pd.DataFrame({"individual": "a", "decision": [0]})
    >>> square = {"x": [-1.0, -1.0, 1.0, 1.0], "y": [-1.0, 1.0, -1.0, 1.0]}
    >>> cs = ChoiceSets(decisions, [0, 4], [0, 1, 2, 3], [0], square)
    >>> interactions(Product(), cs, n_points=4)[["h2", "interaction"]].values.tolist()
    [[1.0, 1.0]]
    """
    names = tuple(model.features if features is None else features)
    unknown = [name for name in names if name not in model.features]
    if unknown or len(set(names)) < 2:
        raise ValueError(
            f"expected two or more features of the model ({', '.join(model.features)}); got {', '.join(names)}."
        )
    points = _points(cs, model.features, n_points, seed)
    single = {name: _dependence(model, points, (name,), individual) for name in names}
    acts = {name: differs_within(cs, name) for name in names}
    rows = []
    for j, k in combinations(names, 2):
        if not (acts[j] or acts[k]):
            rows.append([j, k, np.nan, 0.0, 0.0, f"both cancel: {j} and {k} are the same for all choices"])
            continue
        both = _dependence(model, points, (j, k), individual)
        joint = both - sum(single[name] for name in (j, k) if not acts[name])
        strength, total = _rms(both - single[j] - single[k]), _rms(joint)
        h2 = (strength / total) ** 2 if total > _NOTHING else np.nan
        rows.append([j, k, h2, strength, total, "" if total > _NOTHING else "the pair does nothing"])
    table = pd.DataFrame(rows, columns=["feature_x", "feature_y", "h2", "interaction", "joint", "note"])
    table = table.sort_values("interaction", ascending=False, kind="stable", ignore_index=True)
    return table.assign(rank=np.arange(1, len(table) + 1), n_points=points.n_rows)[INTERACTION_COLUMNS]


def _check_pair(model: Model, cs: ChoiceSets, feature_x: str, feature_y: str) -> None:
    unknown = [name for name in (feature_x, feature_y) if name not in model.features]
    if unknown:
        raise ValueError(f"the model takes {', '.join(model.features)}; it has no feature {', '.join(unknown)}.")
    if feature_x == feature_y:
        raise ValueError(f"a surface has two features; got {feature_x} twice.")
    known = [name for name in (feature_x, feature_y) if name in cs.features]
    if len(known) == 2 and not any(differs_within(cs, name) for name in known):
        raise ValueError(
            f"{feature_x} and {feature_y} are both the same for all choices of a decision, so that their surface "
            "cancels in the probability; take one feature of the choices, such as distance_km."
        )


def _cell_counts(x: np.ndarray, y: np.ndarray, values_x: np.ndarray, values_y: np.ndarray) -> np.ndarray:
    """Rows nearest to each pair of values: (x, y), int64."""
    near_x, near_y = (np.searchsorted((g[1:] + g[:-1]) / 2, v) for g, v in ((x, values_x), (y, values_y)))
    return np.bincount(near_x * len(y) + near_y, minlength=len(x) * len(y)).reshape(len(x), len(y))


def _surface(
    model: Model, sample: RowSample, pair: tuple[str, str], x: np.ndarray, y: np.ndarray, individual: str | None
) -> np.ndarray:
    """Mean log-odds over the rows at each pair of values: (member, x, y)."""
    n, strip = sample.n_rows, []
    tiled = {name: np.tile(values, len(y)) for name, values in sample.values.items()}
    tiled[pair[1]] = np.repeat(y, n).astype(np.float32)
    for value in x:
        given = {**tiled, pair[0]: np.full(n * len(y), value, dtype=np.float32)}
        phi = point_log_odds(model, given, n * len(y), individual=individual)  # (y x row, member)
        strip.append(np.sum(phi.reshape(len(y), n, -1) * sample.weights[:, None], axis=1))
    return np.moveaxis(np.stack(strip), 2, 0)


def _centered(surface: np.ndarray, counts: np.ndarray, within: Sequence[str], feature_x: str) -> np.ndarray:
    """Log-odds less their mean over the data: (member, x, y) -> (member, x x y)."""
    if not within:
        weights = counts / counts.sum()
        centered = surface - np.sum(surface * weights, axis=(1, 2), keepdims=True)
    else:
        other = 1 if within[0] == feature_x else 0  # the axis of the feature that differs between choices
        weights = counts.sum(axis=1 - other, keepdims=True) / counts.sum()
        centered = surface - np.sum(surface * weights, axis=1 + other, keepdims=True)
    return centered.reshape(len(surface), -1)


def _points(cs: ChoiceSets, features: Sequence[str], n_points: int, seed: int) -> RowSample:
    """One random choice of each of so many decisions, or all choices where there are no more."""
    if cs.n_rows <= n_points:
        return sample_rows(cs, features, n_decisions=cs.n_decisions, seed=seed)
    sample = sample_rows(cs, features, n_decisions=n_points, seed=seed)
    shuffled = np.random.default_rng([seed, 1]).permutation(sample.n_rows)
    turn = pd.Series(sample.decision[shuffled]).groupby(sample.decision[shuffled]).cumcount().to_numpy()
    rows = np.sort(shuffled[np.argsort(turn, kind="stable")[:n_points]])
    values = {name: v[rows] for name, v in sample.values.items()}
    weights = sample.weights[rows] / sample.weights[rows].sum()
    return RowSample(values, weights, sample.decision[rows], sample.individual[rows])


def _dependence(model: Model, points: RowSample, fixed: tuple[str, ...], individual: str | None) -> np.ndarray:
    """Mean over points of the log-odds with some features as at each point, less its mean: (point,), nats."""
    n = points.n_rows
    given = {
        name: np.repeat(values, n) if name in fixed else np.tile(values, n) for name, values in points.values.items()
    }
    phi = point_log_odds(model, given, n * n, individual=individual).mean(axis=1).reshape(n, n)
    curve = phi.mean(axis=1)
    return curve - curve.mean()


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(values**2)))
