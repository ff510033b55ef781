"""Choice sets into the linear term of a network: the conditional logit as coefficients, and as a `.keras` model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mimic.conditional_logit import fit_conditional_logit
from mimic.contrasts import Weighting, has_contrasts
from mimic.model import LogOddsModel, build_network, check_finite, describe_features, fit_scaling
from mimic.schema import ChoiceSets

__all__ = ["linear_model", "linear_term"]


def linear_term(
    cs_train: ChoiceSets,
    features: Sequence[str],
    *,
    weighting: Weighting = "individual",
    weights: np.ndarray | None = None,
    only: Sequence[str] | None = None,
) -> np.ndarray:
    """The coefficients of the conditional logit, where the linear term of a network starts.

    Parameters
    ----------
    features
        Names, in the order in which the network takes them.
    weighting, weights
        Of the decisions, as in `mimic.conditional_logit.fit_conditional_logit`.
    only
        The features that the term is made of. None takes all that differ between choices: not those of role
        "decision" and not those that are constant within every decision, which have no coefficient.

    Returns
    -------
    (feature,), float64, nats per physical unit; 0 for features outside the term.

    Raises
    ------
    ValueError
        If there is nothing to learn from, no feature differs between choices, `only` names others than `features`,
        or the fit has no maximum: features are collinear within decisions, or separate the selected choices from
        the others.

    Example
    -------
    Of a deep and a shallow cell, the deep one was selected in three nights of four: odds of 3. The moon is the same
    for both.

    >>> import pandas as pd
    >>> decisions = pd.DataFrame({"individual": "a", "decision": [1, 2, 3, 4]})
    >>> given = {"deep": [1.0, 0.0] * 4, "moon": np.repeat([0.1, 0.4, 0.7, 1.0], 2)}
    >>> cs = ChoiceSets(decisions, [0, 2, 4, 6, 8], [1, 2] * 4, [0, 2, 4, 7], given)
    >>> np.exp(linear_term(cs, ["deep", "moon"])).round(6)
    array([3., 1.])
    """
    check_finite(cs_train, features)
    unknown = [name for name in only or () if name not in features]
    if unknown:
        raise ValueError(
            f"the linear term names {', '.join(unknown)}; expected features of the model: {', '.join(features)}."
        )
    if not has_contrasts(cs_train).any():
        raise ValueError("expected training decisions with a known selection among two or more choices; got none.")
    chosen = [name for name in features if (_differs(cs_train, name) if only is None else name in only)]
    if not chosen:
        raise ValueError(
            f"expected a feature that differs between the choices of a decision; got {', '.join(features) or 'none'}. "
            "Train without the linear term (linear_skip: false)."
        )
    try:
        fit = fit_conditional_logit(cs_train, chosen, weighting=weighting, weights=weights)
    except ValueError as error:
        raise ValueError(
            f"the linear term has no optimum to start from: {error} Or name the features that the term shall be made "
            f"of (linear_skip: [{chosen[0]}, ...]); the network takes them all in either case."
        ) from error
    coef = dict(zip(fit.features, fit.coef, strict=True))
    return np.array([coef.get(name, 0.0) for name in features])


def linear_model(
    cs_train: ChoiceSets,
    features: Sequence[str],
    *,
    weighting: Weighting = "individual",
    weights: np.ndarray | None = None,
    only: Sequence[str] | None = None,
) -> LogOddsModel:
    """The conditional logit as a model like any other: a network of one layer over the scaling, saved as `.keras`.

    Its log-odds are those of `fit_conditional_logit` up to a constant, which changes no probability. Parameters and
    errors as in `linear_term`.
    """
    coef = linear_term(cs_train, features, weighting=weighting, weights=weights, only=only)
    scaling = fit_scaling(cs_train, features)
    network = build_network(scaling, units=())
    network.get_layer("log_odds").set_weights([(coef * scaling.scale)[:, None]])
    metadata: dict[str, Any] = {
        **describe_features(cs_train, features),
        "scaling": scaling.as_mapping(),
        "kind": "conditional_logit",
        "weighting": weighting,
        "coef": dict(zip(features, coef.tolist(), strict=True)),
    }
    return LogOddsModel(network, tuple(features), metadata)


def _differs(cs: ChoiceSets, name: str) -> bool:
    """Whether a feature varies within decisions by more than its rounding, so that the fit takes it for varying."""
    if cs.info[name].role == "decision":
        return False
    used = has_contrasts(cs)
    values, starts = cs.features[name], cs.offsets[:-1]
    spread = (np.maximum.reduceat(values, starts) - np.minimum.reduceat(values, starts))[used]
    largest = np.abs(values[np.repeat(used, cs.n_choices)]).max()
    return bool(spread.max() > 8 * np.finfo(values.dtype).eps * largest)
