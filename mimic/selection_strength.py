"""Models and pairs of places into log relative selection strength (log-RSS), with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from mimic.points import (
    Model,
    check_own_response,
    differs_within,
    feature_grid,
    mean_choice,
    nearest_counts,
    point_log_odds,
)
from mimic.refits import Drawn, Refits, curve_interval, several_models
from mimic.responses import curve_table
from mimic.schema import ChoiceSets

__all__ = ["log_rss", "log_rss_curve"]


def log_rss(
    models: Model | Sequence[Model],
    cs: ChoiceSets,
    x1: Mapping[str, float | np.ndarray],
    x2: Mapping[str, float | np.ndarray],
    *,
    at: Mapping[str, float] | None = None,
    refits: Refits | Sequence[Model] = (),
    individual: str | None = None,
    level: float = 0.95,
) -> pd.DataFrame:
    """How strongly one place is selected over another: log relative selection strength.

    Parameters
    ----------
    models, refits, individual
        As in `mimic.responses.response`.
    cs
        Its mean choice (individuals weighing the same) stands for the features that are not given.
    x1, x2
        Feature -> value, or values (pair,), of the two places.
    at
        Feature -> value at both places, in place of the mean.

    Returns
    -------
    One row a pair: pair, log_rss = phi(x1) - phi(x2) and its interval, nats; rss = exp(log_rss), the odds of x1
    against x2; interval and n_draws as in `mimic.responses.response`. Without refits or several models the interval is NaN.

    Raises
    ------
    ValueError
        If a feature is unknown, numbers of pairs differ, or the places differ in a feature that is the same for all
        choices of a decision.

    References
    ----------
    Avgar et al. 2017, doi:10.1002/ece3.3122.

    Example
    -------
    Of a deep and a shallow cell, the deep one was selected in three decisions of four: odds of 3.

    >>> from mimic.conditional_logit import fit_conditional_logit
    >>> decisions = pd.DataFrame({"individual": "a", "decision": [1, 2, 3, 4]})
    >>> cs = ChoiceSets(decisions, [0, 2, 4, 6, 8], [1, 2] * 4, [0, 2, 4, 7], {"deep": [1.0, 0.0] * 4})
    >>> log_rss(fit_conditional_logit(cs, ["deep"]), cs, {"deep": 1}, {"deep": 0})["rss"].round(6).tolist()
    [3.0]
    """
    several = several_models(models)
    given = [(name, value) for values in (at or {}, x1, x2) for name, value in values.items()]
    unknown = list(dict.fromkeys(name for name, _ in given if name not in several[0].features))
    if unknown:
        raise ValueError(f"the model takes {', '.join(several[0].features)}; it has no feature {', '.join(unknown)}.")
    shapes = {np.shape(value) for _, value in given} - {()} or {(1,)}
    pairs = next(iter(shapes))
    if len(shapes) > 1 or len(pairs) != 1:
        raise ValueError(f"places are given by numbers, or by arrays (pair,) of one length; got shapes {shapes}.")
    rest = mean_choice(cs, several[0]) | dict(at or {})
    first, second = ({n: np.broadcast_to({**rest, **x}[n], pairs) for n in several[0].features} for x in (x1, x2))
    cancels = [n for n in several[0].features if not np.array_equal(first[n], second[n]) and not differs_within(cs, n)]
    if cancels:
        raise ValueError(
            f"{', '.join(cancels)} is the same for all choices of a decision, so two places of one decision cannot "
            "differ in it; give it in `at`."
        )

    def difference(model: Model) -> np.ndarray:
        phi = [point_log_odds(model, x, pairs[0], individual=individual) for x in (first, second)]
        return (phi[0] - phi[1]).T

    found = curve_interval(several, refits, difference, level)
    with np.errstate(over="ignore"):  # odds beyond all numbers are infinite
        rss = np.exp(found.estimate)
    return pd.DataFrame(
        {
            "pair": np.arange(pairs[0]),
            "log_rss": found.estimate,
            "log_rss_low": found.low,
            "log_rss_high": found.high,
            "rss": rss,
            "interval": found.interval,
            "n_draws": found.n_draws,
        }
    )


def log_rss_curve(
    models: Model | Sequence[Model],
    cs: ChoiceSets,
    feature: str,
    *,
    reference: float | None = None,
    at: Mapping[str, float] | None = None,
    refits: Refits | Sequence[Model] = (),
    grid: Sequence[float] | np.ndarray | None = None,
    n_grid: int = 20,
    individual: str | None = None,
    level: float = 0.95,
) -> pd.DataFrame:
    """Log-RSS of places with each value of a feature against one with the reference value, all else equal.

    Parameters
    ----------
    reference
        Value of the feature at the other place; by default its mean over the choices.
    at, models, refits, grid, individual
        As in `log_rss` and `mimic.responses.response`.

    Returns
    -------
    Columns `mimic.responses.CURVE_COLUMNS`: log_odds is log-RSS, 0 at the reference.

    Raises
    ------
    ValueError
        As `mimic.responses.response` and `log_rss`.
    """
    several = several_models(models)
    check_own_response(several, cs, feature)
    values = cs.features[feature]
    where = feature_grid(values, n_grid, given=grid)
    if reference is not None and not np.isfinite(reference):
        raise ValueError(f"the reference of {feature} must be a finite number; got {reference}.")
    zero = mean_choice(cs, several[0])[feature] if reference is None else float(np.float32(reference))
    table = log_rss(
        several, cs, {feature: where}, {feature: zero}, at=at, refits=refits, individual=individual, level=level
    )
    estimate, low, high = (table[name].to_numpy() for name in ("log_rss", "log_rss_low", "log_rss_high"))
    found = Drawn(estimate, low, high, str(table["interval"].iloc[0]), int(table["n_draws"].iloc[0]))
    note = refits.note if isinstance(refits, Refits) else ""
    n_individuals = len(set(cs.individuals))
    support = nearest_counts(where, values)
    return curve_table(cs, "log_rss", feature, where, found, support, zero, n_individuals, note)
