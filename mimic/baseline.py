"""Training decisions and features into the classical model that stands beside every other: what could not be fitted left out, and said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from mimic.conditional_logit import (
    CollinearityError,
    ConditionalLogit,
    ConstantFeatureError,
    FeatureError,
    SeparationError,
    fit_conditional_logit,
)
from mimic.contrasts import Weighting, has_contrasts
from mimic.schema import ChoiceSets

__all__ = ["BASELINE", "Baseline", "baseline_table", "fit_baseline"]

BASELINE = "conditional_logit"
"""The name of the baseline in tables and figures."""


@dataclass(frozen=True, eq=False)
class Baseline:
    """The conditional logit of a study.

    Parameters
    ----------
    fit
        Of the training decisions; None where no feature could be fitted.
    left_out
        Feature -> why it has no coefficient.
    """

    fit: ConditionalLogit | None
    left_out: dict[str, str] = field(default_factory=dict)

    def log_odds(self, cs: ChoiceSets) -> np.ndarray:
        """Log-odds of every choice: (row,), nats."""
        assert self.fit is not None
        return self.fit.log_odds(cs)


def fit_baseline(cs_train: ChoiceSets, features: Sequence[str], *, weighting: Weighting = "individual") -> Baseline:
    """The conditional logit of these features, without those that have no coefficient.

    A feature has none where it is the same for all choices of a decision (role "decision"), is a linear combination
    of others, or separates the selected choices from all others, as a closed area does that nobody entered.

    Parameters
    ----------
    cs_train
        The training decisions.
    features
        Names, each once.
    weighting
        Of the decisions, see `mimic.conditional_logit.fit_conditional_logit`.

    Raises
    ------
    ValueError
        If a feature is unknown or not finite.

    Example
    -------
    Of a deep and a shallow cell, the deep one was selected in three nights of four; the moon is the same for both.

    >>> decisions = pd.DataFrame({"individual": "a", "decision": [1, 2, 3, 4]})
    >>> given = {"deep": [1.0, 0.0] * 4, "moon": np.repeat([0.1, 0.4, 0.7, 1.0], 2)}
    >>> cs = ChoiceSets(decisions, [0, 2, 4, 6, 8], [1, 2] * 4, [0, 2, 4, 7], given)
    >>> found = fit_baseline(cs, ["deep", "moon"])
    >>> found.fit.features, found.left_out
    (('deep',), {'moon': 'the same for all choices of a decision'})
    """
    left_out: dict[str, str] = {}
    chosen = list(features)
    while chosen and has_contrasts(cs_train).any():
        try:
            return Baseline(fit_conditional_logit(cs_train, chosen, weighting=weighting), left_out)
        except FeatureError as error:
            if not error.features:
                break
            left_out |= dict.fromkeys(error.features, _why(error))
            chosen = [name for name in chosen if name not in error.features]
    return Baseline(None, left_out)


def baseline_table(baseline: Baseline) -> pd.DataFrame:
    """The coefficients with their standard errors, and below them the features that have none, with the reason.

    Returns
    -------
    One row a feature: feature, the columns of `ConditionalLogit.summary`, and left_out ("" or why).
    """
    rows = pd.DataFrame({"feature": pd.Series(list(baseline.left_out), dtype="str")})
    rows = rows.assign(left_out=list(baseline.left_out.values()))
    if baseline.fit is None:
        return rows
    summary = baseline.fit.summary()
    fitted = summary.rename_axis("feature").reset_index().assign(left_out="")
    return pd.concat([fitted, rows], ignore_index=True) if len(rows) else fitted


def _why(error: FeatureError) -> str:
    match error:
        case ConstantFeatureError():
            return "the same for all choices of a decision"
        case CollinearityError():
            return "a linear combination of other features"
        case SeparationError():
            return "separates: the selected choices lie all at one end"
    return str(error)
