"""The classes of the stages of a movement into predicted against observed shares: the calibration of each stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from mimic.bootstrap import few_note, mean_intervals
from mimic.contrasts import Weighting
from mimic.decision_groups import DecisionGroup, decision_groups, group_mean
from mimic.probability import grouped_log_softmax, grouped_sum
from mimic.schema import ChoiceSets
from mimic.scores import check_log_odds
from mimic.stages import Division, Stages, divide, log_mass

__all__ = ["CLASS_COLUMNS", "chain_classes"]

CLASS_COLUMNS = [
    "model",
    "split",
    "behavior_group",
    "weighting",
    "stage",
    "within",
    "class",
    "n_individuals",
    "n_decisions",
    "predicted",
    "observed",
    "null",
    "difference",
    "difference_low",
    "difference_high",
    "note",
]


def chain_classes(
    log_odds: Mapping[str, np.ndarray],
    choice_sets: ChoiceSets,
    stages: Stages,
    *,
    behavior_groups: Mapping[str, str] | None = None,
    splits: Sequence[str] | None = None,
    weightings: Sequence[Weighting] = ("individual", "decision"),
    level: float = 0.95,
    n_resamples: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """The calibration of each stage: predicted against observed share of its classes.

    Arguments as those of `chain_rule`.

    Returns
    -------
    Columns `CLASS_COLUMNS`, one row a model x split x behavior group x weighting x stage x class that is divided
    (`within`, "all" in the first stage) x class. The decisions are those whose selected choice is in `within`;
    predicted is the mean of p(class | within), observed the share that selected it, null that of the null;
    difference = predicted - observed, with its interval by bootstrap over individuals. The classes of a `within`
    sum to 1. NaN where nothing was selected there.

    Example
    -------
    >>> decisions = pd.DataFrame({"individual": ["a"], "decision": [1]})
    >>> cs = ChoiceSets(decisions, [0, 3], [0, 1, 2], [1], {"distance_km": [0.0, 20.0, 20.0]})
    >>> stages = {"stay or move": {"stay": "distance_km == 0", "move": "distance_km > 0"}}
    >>> table = chain_classes({"m": np.log([8.0, 1.0, 3.0])}, cs, stages, weightings=["individual"])
    >>> table[["class", "predicted", "observed", "null"]].round(2)
      class  predicted  observed  null
    0  stay       0.67       0.0  0.33
    1  move       0.33       1.0  0.67
    """
    cs = choice_sets
    check_log_odds(log_odds, cs)
    divisions = divide(cs, stages)
    options = {"level": level, "n_resamples": n_resamples, "seed": seed}
    null = [_class_shares(np.zeros(cs.n_rows), cs, division) for division in divisions]
    rows = []
    for model, phi in log_odds.items():
        predicted = [_class_shares(np.asarray(phi, np.float64), cs, division) for division in divisions]
        for group in decision_groups(cs, behavior_groups, splits, weightings):
            for division, shares, by_chance in zip(divisions, predicted, null, strict=True):
                rows += _class_rows(cs, model, group, division, shares, by_chance, options)
    return pd.DataFrame(rows, columns=CLASS_COLUMNS)


def _class_shares(phi: np.ndarray, cs: ChoiceSets, division: Division) -> np.ndarray:
    """p(class | the class before that was selected) of every class of a stage: (decision, class)."""
    within = division.before == np.repeat(division.before[np.maximum(cs.selected, 0)], cs.n_choices)
    phi = grouped_log_softmax(phi, cs.offsets)  # of the size of the differences, however large the log-odds
    total = np.repeat(log_mass(phi, within, cs.offsets), cs.n_choices)
    n_within = np.repeat(grouped_sum(within.astype(np.float64), cs.offsets), cs.n_choices)
    possible = np.isfinite(total)  # else all of them are equally impossible
    share = np.exp(np.where(within & possible, phi - np.where(possible, total, 0.0), -np.inf))
    share = np.where(within & ~possible, 1.0 / np.maximum(n_within, 1.0), share)
    n_nodes = len(division.names)
    flat = np.bincount(cs.decision_of_row * n_nodes + division.node, share, cs.n_decisions * n_nodes)
    return flat.reshape(cs.n_decisions, n_nodes)


def _class_rows(
    cs: ChoiceSets,
    model: str,
    group: DecisionGroup,
    division: Division,
    predicted: np.ndarray,
    null: np.ndarray,
    options: dict[str, Any],
) -> list[list[Any]]:
    """The rows of one model, group and stage, as `CLASS_COLUMNS` has them."""
    selected = np.maximum(cs.selected, 0)
    rows = []
    for parent, name in enumerate(division.names_before):
        nodes = [k for k, of in enumerate(division.parent) if of == parent and division.labels[k]]
        if not nodes:
            continue
        decisions = np.flatnonzero(group.inside & (division.before[selected] == parent))
        codes = cs.individual_codes[decisions]
        n_individuals = len(np.unique(codes))
        observed = (division.node[selected[decisions]][:, None] == np.array(nodes)[None, :]).astype(np.float64)
        found = predicted[decisions][:, nodes]
        interval = mean_intervals(found - observed, codes, weighting=group.weighting, **options).within(-1, 1)
        low, high = interval.low, interval.high
        for k, node in enumerate(nodes):
            values = (found[:, k], observed[:, k], null[decisions, node])
            means = [group_mean(v, codes, group.weighting) for v in values]
            counts = [n_individuals, len(codes)]
            label = division.labels[node]
            rows.append(
                [
                    *(model, *group.names, division.stage, name, label, *counts, *means),
                    *(means[0] - means[1], low[k], high[k], few_note(n_individuals)),
                ]
            )
    return rows
