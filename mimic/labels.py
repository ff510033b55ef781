"""A share of use for every choice (soft labels) into choice sets with one selection each, and how much each counts."""

from __future__ import annotations

import numpy as np

from mimic.schema import DECISION, ChoiceSets, examples

__all__ = ["soft_selections"]


def soft_selections(cs: ChoiceSets, name: str) -> tuple[ChoiceSets, np.ndarray]:
    """A decision for every choice that was used, with the share of use as its factor.

    A choice set with the shares t_m has the expected loss sum_m t_m loss(m selected): of the softmax this is the
    cross-entropy, of contrasts the contrasts that would be drawn if m were selected with probability t_m.

    Parameters
    ----------
    cs
        The selected choice of a decision is not read; it may be unknown.
    name
        A feature of the choices: their use in any unit (visits, hours, shares), 0 or more.

    Returns
    -------
    choice_sets
        One decision for every used choice, numbered anew.
    factors
        (decision,), float64: use over the use of the whole choice set. A decision without any use has none.

    Raises
    ------
    ValueError
        If the feature is unknown, or a use is negative or not finite.

    Example
    -------
    An animal spent three hours in cell 1 and one in cell 2, none in cell 3:

    >>> import pandas as pd
    >>> decisions = pd.DataFrame({"individual": ["a"], "decision": [1]})
    >>> cs = ChoiceSets(decisions, [0, 3], [1, 2, 3], [-1], {"hours": [3.0, 1.0, 0.0]})
    >>> expanded, factors = soft_selections(cs, "hours")
    >>> expanded.selected.tolist(), factors.tolist()
    ([0, 4], [0.75, 0.25])
    """
    if name not in cs.features:
        raise ValueError(f"labels: unknown feature {name}; known are {', '.join(cs.features)}.")
    use = cs.features[name].astype(np.float64)
    bad = ~np.isfinite(use) | (use < 0)
    if bad.any():
        raise ValueError(
            f"labels: {name} is the use of each choice and must be finite and 0 or more; got {bad.sum():,} others, "
            f"such as {examples(use[bad])}."
        )
    used = np.flatnonzero(use > 0)
    decision = cs.decision_of_row[used]
    factors = use[used] / np.bincount(decision, weights=use[used], minlength=cs.n_decisions)[decision]
    sizes = cs.n_choices[decision]
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    # The rows of a decision once for each choice of it that was used.
    rows = np.arange(offsets[-1]) + np.repeat(cs.offsets[:-1][decision] - offsets[:-1], sizes)
    expanded = ChoiceSets(
        cs.decisions.iloc[decision].assign(**{DECISION: np.arange(len(used))}),
        offsets,
        cs.choice[rows],
        offsets[:-1] + used - cs.offsets[:-1][decision],
        {k: v[rows] for k, v in cs.features.items()},
        cs.info,
    )
    return expanded, factors
