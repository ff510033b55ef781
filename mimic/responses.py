"""Models into response curves of their log-odds: partial dependence and accumulated local effects, with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import pandas as pd

from mimic.bootstrap import bootstrap_means, few_note, interval_of_draws, resample_counts
from mimic.contrasts import Weighting
from mimic.points import Model, RowSample, check_own_response, feature_grid, nearest_counts, point_log_odds, sample_rows
from mimic.refits import Drawn, Refits, curve_interval, several_models
from mimic.schema import ChoiceSets

__all__ = ["CURVE_COLUMNS", "Kind", "curve_table", "response"]

Kind = Literal["partial_dependence", "accumulated"]

CURVE_COLUMNS = [
    "kind",
    "feature",
    "unit",
    "value",
    "log_odds",
    "log_odds_low",
    "log_odds_high",
    "n_rows",
    "reference",
    "interval",
    "n_draws",
    "n_individuals",
    "note",
]

_N_RESAMPLES = 1000


def response(
    models: Model | Sequence[Model],
    cs: ChoiceSets,
    feature: str,
    *,
    kind: Kind = "accumulated",
    refits: Refits | Sequence[Model] = (),
    grid: Sequence[float] | np.ndarray | None = None,
    n_grid: int = 20,
    n_decisions: int = 500,
    weighting: Weighting = "individual",
    individual: str | None = None,
    level: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """How the log-odds of a choice respond to one of its features, averaged over choices that animals had.

    Parameters
    ----------
    models
        A model; or several of the same features, such as trainings from several seeds: their mean curve.
    feature
        One that differs between the choices of a decision.
    kind
        "partial_dependence": the mean over rows with the feature set to each value, all else as it is. It asks
        about choices that may not exist (0 km from the origin, and not the origin). "accumulated": accumulated
        local effects, which ask only about small changes of choices that do; the one to trust where features go
        together.
    refits
        The model fitted again, as from `bootstrap_fits`: the interval is theirs, the curve that of `models`.
    grid, n_grid
        The values, rounded to float32; by default quantiles of the feature, or its distinct values.
    n_decisions, weighting, seed
        Of the sample of rows, see `mimic.points.sample_rows`.
    individual
        Whose embedding to use; by default the population's.

    Returns
    -------
    Columns `CURVE_COLUMNS`, one row a value. log_odds in nats, 0 on average over the rows; n_rows of the sample
    lie nearest to the value. `interval` says what varies: "refits"; "members" (several models, or the members of
    an ensemble that averages probabilities, whose own log-odds depend on the whole choice set); or, of one
    model, "averaging population": the individuals averaged over, and NOT the model, so that the interval of a
    linear model has no width. A curve is a statement on the model, not on what makes animals move.

    Raises
    ------
    ValueError
        If the feature is no feature of the models, or is the same for all choices of a decision (it cancels
        in the probability: see `mimic.surfaces.odds_surface`); if the grid has fewer than 2 values.

    Notes
    -----
    Accumulated: with edges z_0 < z_1 < ... and N_k the rows with the feature in (z_{k-1}, z_k], sum over k of the
    mean over N_k of phi(z_k, rest) - phi(z_{k-1}, rest). Bins without rows add nothing.

    References
    ----------
    Friedman 2001, doi:10.1214/aos/1013203451 (partial dependence). Apley & Zhu 2020, doi:10.1111/rssb.12377
    (accumulated local effects).
    """
    if kind not in get_args(Kind):
        raise ValueError(f"kind must be {' or '.join(get_args(Kind))}; got {kind!r}.")
    several = several_models(models)
    check_own_response(several, cs, feature)
    sample = sample_rows(cs, several[0].features, n_decisions=n_decisions, weighting=weighting, seed=seed)
    at = feature_grid(sample.values[feature], n_grid, given=grid)
    make = _partial_dependence if kind == "partial_dependence" else _accumulated
    curves = _Curves(sample, feature, at, weighting, individual)
    found = curve_interval(several, refits, lambda model: make(curves, model).T, level)
    if found.interval == "":
        low, high = interval_of_draws(found.estimate, curves.resampled(several[0], kind, seed), level=level)
        n_draws = _N_RESAMPLES if sample.n_individuals > 1 else 0
        found = Drawn(found.estimate, low, high, "averaging population", n_draws)
    note = _joined(few_note(sample.n_individuals), refits.note if isinstance(refits, Refits) else "")
    return curve_table(cs, kind, feature, at, found, curves.support, np.nan, sample.n_individuals, note)


def curve_table(
    cs: ChoiceSets,
    kind: str,
    feature: str,
    grid: np.ndarray,
    drawn: Drawn,
    support: np.ndarray,
    reference: float,
    n_individuals: int,
    note: str,
) -> pd.DataFrame:
    """One curve as a table of `CURVE_COLUMNS`; `support` is the number of rows nearest to each value."""
    table = pd.DataFrame({"value": grid, "log_odds": drawn.estimate, "n_rows": support})
    return table.assign(
        kind=kind,
        feature=feature,
        unit=cs.info[feature].unit,
        log_odds_low=drawn.low,
        log_odds_high=drawn.high,
        reference=reference,
        interval=drawn.interval,
        n_draws=drawn.n_draws,
        n_individuals=n_individuals,
        note=note,
    )[CURVE_COLUMNS]


@dataclass(frozen=True, eq=False)
class _Curves:
    """What the curves of one feature are computed from."""

    sample: RowSample
    feature: str
    grid: np.ndarray  # (value,)
    weighting: Weighting
    individual: str | None

    @property
    def support(self) -> np.ndarray:
        """Rows of the sample nearest to each value: (value,)."""
        return nearest_counts(self.grid, self.sample.values[self.feature])

    @property
    def centering(self) -> np.ndarray:
        """Weights (value,) with which a curve through its values has its mean over the rows."""
        x, grid = self.sample.values[self.feature].astype(np.float64), self.grid
        place = np.interp(x, grid, np.arange(len(grid)))
        left = np.minimum(place.astype(int), len(grid) - 2)
        right = (place - left) * self.sample.weights
        n = len(grid)
        return np.bincount(left, self.sample.weights - right, n) + np.bincount(left + 1, right, n)

    def log_odds(self, model: Model, values: np.ndarray) -> np.ndarray:
        """Log-odds of the rows with the feature set to a value for each row: (row, member)."""
        given = {**self.sample.values, self.feature: values}
        return point_log_odds(model, given, self.sample.n_rows, individual=self.individual)

    def resampled(self, model: Model, kind: Kind, seed: int) -> np.ndarray:
        """The centered curve of one model in samples of other individuals: (resample, value)."""
        n = self.sample.n_individuals
        if n < 2:
            return np.full((1, len(self.grid)), np.nan)
        counts = resample_counts(n, n_resamples=_N_RESAMPLES, seed=seed)
        if kind == "partial_dependence":
            of_rows = np.column_stack([self.log_odds(model, _full(self.sample, v))[:, 0] for v in self.grid])
            sizes = np.bincount(self.sample.decision)
            starts = np.cumsum(sizes) - sizes
            means = np.add.reduceat(of_rows, starts) / sizes[:, None]  # (decision, value)
            draws = bootstrap_means(means, self.sample.individual[starts], counts, weighting=self.weighting)
        else:
            change, weight = self.local_effects(model)
            change, weight = change[:, 0].reshape(n, -1), weight.reshape(n, -1)  # (individual, bin)
            below = np.einsum("ri,ib->rb", counts, weight)
            above = np.einsum("ri,ib->rb", counts, change)
            usual = change.sum(axis=0) / np.maximum(weight.sum(axis=0), 1e-300)
            steps = np.where(below > 0, above / np.where(below > 0, below, 1.0), usual)  # what no drawn animal met
            draws = np.concatenate([np.zeros((len(steps), 1)), np.cumsum(steps, axis=1)], axis=1)
        return draws - np.sum(draws * self.centering, axis=1, keepdims=True)

    def local_effects(self, model: Model) -> tuple[np.ndarray, np.ndarray]:
        """Weighted sums of the change over each bin, (individual x bin, member), and of the weights, (individual x bin,)."""
        x, grid = self.sample.values[self.feature], self.grid
        inside = (x >= grid[0]) & (x <= grid[-1])
        k = np.clip(np.searchsorted(grid, x, side="left"), 1, len(grid) - 1)
        change = self.log_odds(model, grid[k]) - self.log_odds(model, grid[k - 1])  # (row, member)
        weights = np.where(inside, self.sample.weights, 0.0)
        n_bins = len(grid) - 1
        place, n = self.sample.individual * n_bins + k - 1, self.sample.n_individuals * n_bins
        sums = [np.bincount(place, weights * one, n) for one in change.T]
        return np.column_stack(sums), np.bincount(place, weights, n)


def _partial_dependence(curves: _Curves, model: Model) -> np.ndarray:
    """Centered: (value, member)."""
    weights = curves.sample.weights[:, None]
    curve = np.stack([np.sum(weights * curves.log_odds(model, _full(curves.sample, v)), axis=0) for v in curves.grid])
    return curve - np.sum(curves.centering[:, None] * curve, axis=0)


def _accumulated(curves: _Curves, model: Model) -> np.ndarray:
    """Centered: (value, member)."""
    change, weight = curves.local_effects(model)
    n_bins = len(curves.grid) - 1
    total = weight.reshape(-1, n_bins).sum(axis=0)[:, None]
    steps = change.reshape(-1, n_bins, change.shape[1]).sum(axis=0) / np.where(total > 0, total, 1.0)
    curve = np.concatenate([np.zeros((1, steps.shape[1])), np.cumsum(steps, axis=0)])
    return curve - np.sum(curves.centering[:, None] * curve, axis=0)


def _full(sample: RowSample, value: float) -> np.ndarray:
    return np.full(sample.n_rows, value, dtype=np.float32)


def _joined(*notes: str) -> str:
    return "; ".join(note for note in notes if note)
