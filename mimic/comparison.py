"""Log-odds of two models into their difference by group, paired by decision, with intervals over individuals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise, product
from typing import Any

import numpy as np
import pandas as pd

from mimic.bootstrap import IndividualSums, Method, few_note, intervals_of_sums, sign_flip_p
from mimic.contrasts import Weighting
from mimic.expressions import EVERYTHING, parse
from mimic.groups import N_IN_GROUP, behavior_mask, choice_mask, split_masks
from mimic.schema import ChoiceSets, require_columns
from mimic.scores import ChoiceGroup, check_log_odds, score_groups
from mimic.textable import align, number, with_interval

__all__ = ["COMPARISON_COLUMNS", "check_pairs", "compare", "format_comparison", "summarize_differences"]

COMPARISON_COLUMNS = [
    "model",
    "other",
    "split",
    "choice_group",
    "behavior_group",
    "weighting",
    "n_individuals",
    "n_decisions",
    "difference",
    "difference_low",
    "difference_high",
    "gmp_ratio",
    "gmp_ratio_low",
    "gmp_ratio_high",
    "share_improved",
    "p_sign_flip",
    "note",
]


def compare(
    log_odds: Mapping[str, np.ndarray],
    choice_sets: ChoiceSets,
    pairs: Sequence[tuple[str, str]] | None = None,
    *,
    choice_groups: Mapping[str, str] | None = None,
    behavior_groups: Mapping[str, str] | None = None,
    splits: Sequence[str] | None = None,
    weightings: Sequence[Weighting] = ("individual", "decision"),
    method: Method = "expanded",
    level: float = 0.95,
    n_resamples: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """By how much one model predicts the same selections better than another.

    Parameters
    ----------
    log_odds, choice_sets, choice_groups, behavior_groups, splits, weightings
        As in `mimic.evaluation.evaluate`; without groups, of all choices and decisions.
    pairs
        (model, other): by default each model against the one before it.
    method, level, n_resamples, seed
        Of the intervals, see `mimic.bootstrap.mean_intervals`; the seed also draws sign flips.

    Returns
    -------
    One row a pair x split x choice group x behavior group x weighting, columns `COMPARISON_COLUMNS`: difference,
    D of the model minus that of the other, nats, and gmp_ratio, exp of it, with intervals from drawing individuals
    anew; share_improved, the share of individuals whose mean difference is above 0, ties half; p_sign_flip, see
    `mimic.bootstrap.sign_flip_p`, over individuals weighing the same under either weighting. NaN in empty groups.

    Raises
    ------
    ValueError
        As `evaluate`, or if a pair names an unknown model or one twice.

    Notes
    -----
    Two models score the same decisions of the same individuals, so their difference is far better known than either
    D: intervals that overlap prove nothing.

    Example
    -------
    Two fish choose the second of two; one model gives it odds 1 : 1, another 1 : 3, so that ln p gains ln 1.5.

    >>> decisions = pd.DataFrame({"individual": ["a", "b"], "decision": [1, 1]})
    >>> cs = ChoiceSets(decisions, [0, 2, 4], [0, 1, 0, 1], [1, 3], {})
    >>> models = {"null": np.zeros(4), "m": np.log([1.0, 3.0, 1.0, 3.0])}
    >>> table = compare(models, cs, [("m", "null")], weightings=["individual"])
    >>> table[["gmp_ratio", "gmp_ratio_low", "share_improved", "p_sign_flip"]].round(3).values.tolist()
    [[1.5, 1.5, 1.0, 0.5]]
    """
    cs = choice_sets
    check_log_odds(log_odds, cs)
    chosen = check_pairs(list(log_odds), pairs)
    by_split = split_masks(cs, splits)
    groups = {name: choice_mask(cs, text) for name, text in (choice_groups or {EVERYTHING: EVERYTHING}).items()}
    behaviors = behavior_groups or {EVERYTHING: EVERYTHING}
    individual = cs.individual_codes
    options: dict[str, Any] = {"method": method, "level": level, "n_resamples": n_resamples, "seed": seed}
    found: dict[tuple[str, ...], list[object]] = {}
    for choice_group, mask in groups.items():
        group = ChoiceGroup.of(cs, mask)
        log_p = {name: score_groups(log_odds[name], cs, [group])[0].log_p for name in dict.fromkeys(sum(chosen, ()))}
        masks = {
            name: behavior_mask(cs, text, n_in_group=group.n_in_group if N_IN_GROUP in parse(text).names else None)
            for name, text in behaviors.items()
        }
        for (model, other), (split, in_split), (behavior, inside) in product(chosen, by_split.items(), masks.items()):
            part = np.flatnonzero(in_split & inside & group.inside)
            difference = _difference(log_p[model][part], log_p[other][part])
            for weighting in weightings:
                row = summarize_differences(difference, individual[part], weighting=weighting, **options)
                found[model, other, split, choice_group, behavior, weighting] = list(row.values())
    order = product(chosen, by_split, groups, behaviors, weightings)
    rows = [[*pair, *rest, *found[(*pair, *rest)]] for pair, *rest in order]
    return pd.DataFrame(rows, columns=COMPARISON_COLUMNS)


def summarize_differences(
    difference: np.ndarray,
    individual: np.ndarray,
    *,
    weighting: Weighting = "individual",
    method: Method = "expanded",
    level: float = 0.95,
    n_resamples: int = 2000,
    seed: int = 0,
) -> dict[str, object]:
    """The entries of `COMPARISON_COLUMNS` from n_individuals on, of differences of decisions.

    Parameters
    ----------
    difference
        (decision,), ln p of the model minus that of the other, nats.
    individual
        (decision,), integer codes.
    """
    sums = IndividualSums.of(difference, individual)
    n_individuals = len(sums.count)
    found = intervals_of_sums(sums, weighting=weighting, method=method, level=level, n_resamples=n_resamples, seed=seed)
    estimate, low, high = (float(x[0]) for x in (found.estimate, found.low, found.high))
    with np.errstate(invalid="ignore"):
        means = sums.total[:, 0] / sums.count[:, 0]
    clear = means[~np.isnan(means)]  # not so where plus and minus infinity meet
    improved = float(np.mean((clear > 0) + 0.5 * (clear == 0))) if len(clear) else np.nan
    return {
        "n_individuals": n_individuals,
        "n_decisions": len(difference),
        "difference": estimate,
        "difference_low": low,
        "difference_high": high,
        "gmp_ratio": float(np.exp(estimate)),
        "gmp_ratio_low": float(np.exp(low)),
        "gmp_ratio_high": float(np.exp(high)),
        "share_improved": improved,
        "p_sign_flip": sign_flip_p(means, seed=seed),
        "note": few_note(n_individuals),
    }


def check_pairs(models: Sequence[str], pairs: Sequence[tuple[str, str]] | None) -> list[tuple[str, str]]:
    """The pairs to compare: those given, checked, or each model with the one before it.

    Raises
    ------
    ValueError
        If a pair is not of two different known models.
    """
    if pairs is None:
        return [(model, other) for other, model in pairwise(models)]
    chosen = [tuple(pair) for pair in pairs]
    for pair in chosen:
        unknown = [name for name in pair if name not in models]
        if len(pair) != 2 or unknown or pair[0] == pair[1]:
            raise ValueError(
                f"a pair names two different models of {', '.join(models)}; got {' and '.join(map(str, pair))}."
            )
    return [(model, other) for model, other in chosen]


def format_comparison(table: pd.DataFrame, *, leave_out: Sequence[str] = ()) -> str:
    """Differences as aligned text: nats to 4 decimals and ratios to 3, each with its interval."""
    require_columns(list(table.columns), COMPARISON_COLUMNS, where="comparison")
    shown = pd.DataFrame(index=table.index)
    for name in ("model", "other", "split", "choice_group", "behavior_group", "weighting"):
        if name not in leave_out:
            shown[name] = table[name]
    shown["individuals"], shown["decisions"] = table["n_individuals"], table["n_decisions"].map("{:,}".format)
    shown["D difference"] = with_interval(table, "difference", "{:+.4f}")
    shown["GMP ratio"] = with_interval(table, "gmp_ratio", "{:.3f}")
    shown["improved"] = [number(x, "{:.0%}") for x in table["share_improved"]]
    shown["p"] = [number(x, "{:.2g}") for x in table["p_sign_flip"]]
    if table["note"].astype(bool).any():
        shown["note"] = table["note"]
    left = {k for k, name in enumerate(shown) if name in (*COMPARISON_COLUMNS[:6], "note")}
    cells = shown.astype(str).to_numpy().tolist()
    return "\n".join(align([list(map(str, shown)), *cells], left))


def _difference(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """ln p minus ln p; of two impossible selections, 0."""
    with np.errstate(invalid="ignore"):
        return np.where(np.isneginf(first) & np.isneginf(second), 0.0, first - second)
