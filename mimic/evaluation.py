"""Log-odds of models over choice sets into GMP, loss and lift by choice group and behavior group (NumPy only)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from mimic.bootstrap import IndividualSums, Method, few_note, intervals_of_sums
from mimic.contrasts import Weighting
from mimic.expressions import EVERYTHING, parse
from mimic.groups import N_IN_GROUP, behavior_mask, choice_mask, split_masks
from mimic.probability import gmp, grouped_sum
from mimic.schema import (
    DECISION,
    INDIVIDUAL,
    ORIGIN,
    SPLIT,
    TIME,
    ChoiceSets,
    require_columns,
)
from mimic.scores import ChoiceGroup, Scores, check_log_odds, groups_at_a_time, mass_of, score_groups
from mimic.textable import align

__all__ = [
    "GROUP_COLUMNS",
    "INTERVAL_COLUMNS",
    "Weighting",
    "decision_table",
    "evaluate",
    "format_groups",
    "mean_choice_probability",
]

GROUP_COLUMNS = [
    "model",
    "split",
    "choice_group",
    "behavior_group",
    "weighting",
    "n_individuals",
    "n_decisions",
    "contrast_loss",
    "log_probability",
    "gmp",
    "null_gmp",
    "lift",
    "mean_probability",
]

INTERVAL_COLUMNS = [f"{name}_{end}" for name in GROUP_COLUMNS[7:] for end in ("low", "high")] + ["note"]

_PERCENT = ("gmp", "null_gmp", "mean_probability")
_WITH_INTERVAL = ("gmp", "lift")  # in text; the table has the interval of every figure


def evaluate(
    log_odds: Mapping[str, np.ndarray],
    choice_sets: ChoiceSets,
    *,
    choice_groups: Mapping[str, str],
    behavior_groups: Mapping[str, str],
    splits: Sequence[str] | None = None,
    weightings: Sequence[Weighting] = ("individual", "decision"),
    method: Method | None = "expanded",
    level: float = 0.95,
    n_resamples: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """How well each model predicts the selections: one row a model x split x choice group x behavior group x weighting.

    Parameters
    ----------
    log_odds
        Model -> (row,) log-odds over the rows of `choice_sets`, nats; -inf means impossible.
    choice_sets
        The decisions. Those without a known selection do not count.
    choice_groups
        Name -> condition on choices (`distance_km > 0`, `"all"`), over features, decision columns, calendar
        columns and `choice`; see `groups.choice_names`. The choices outside it are removed, the probabilities
        renormalised, and decisions whose selected choice is outside left out.
    behavior_groups
        Name -> condition on decisions (`month in (6, 7)`, `individual == "fish 1"`,
        `selected_distance_km > 0`); see `groups.behavior_names`. Decisions outside it are left out.
    splits
        Values of the decision column `split`, or "all" for all decisions. By default those that occur,
        train and validation first, and "all" where there is no such column.
    weightings
        "individual": individuals weigh the same, and decisions the same within each. "decision":
        decisions weigh the same.
    method, level, n_resamples, seed
        Of the intervals, see `mimic.bootstrap.mean_intervals`: individuals are drawn
        anew, whatever the weighting. None leaves the interval columns out.

    Returns
    -------
    Columns `GROUP_COLUMNS`, then `INTERVAL_COLUMNS`: the ends of the interval of each figure, and a note where it
    comes from few individuals. Losses and log-probabilities in nats. An empty group has counts 0 and NaN for
    all numbers; of one individual there is no interval (NaN).

    Raises
    ------
    ValueError
        If log-odds have another shape or are NaN, a split or column is unknown, a condition is none, or
        all choices of a decision are impossible.

    Notes
    -----
    With w_d the weight of decision d: log_probability D = sum w_d ln p_d(selected); gmp = exp(D);
    null_gmp = exp(D0) with ln p_d = -ln n_d, n_d the choices of d within the group; lift = exp(D - D0);
    mean_probability = sum w_d p_d, an arithmetic mean and never GMP. contrast_loss is the same mean, over
    decisions that have an unselected choice in the group, of the mean over these choices u of
    softplus(phi_u - phi_selected).

    A decision with one choice left in the group is predicted perfectly by any model and by none: it counts,
    with ln p = 0 and null 0, and pulls GMP up and lift towards 1. The behavior group
    `n_choices_in_group > 1` leaves such decisions out.

    Example
    -------
    Of a stay and two moves the first move was made. Odds 8 : 1 : 3 give it p = 1/12; among moves, 1/4.

    >>> decisions = pd.DataFrame({"individual": ["a"], "decision": [1]})
    >>> cs = ChoiceSets(decisions, [0, 3], [0, 1, 2], [1], {"distance_km": [0.0, 20.0, 20.0]})
    >>> groups = {"all": "all", "move": "distance_km > 0"}
    >>> table = evaluate({"m": np.log([8.0, 1.0, 3.0])}, cs, choice_groups=groups, behavior_groups={"all": "all"})
    >>> table.query("weighting == 'decision'")[["choice_group", "gmp", "null_gmp", "lift"]].round(4)
      choice_group     gmp  null_gmp  lift
    1          all  0.0833    0.3333  0.25
    3         move  0.2500    0.5000  0.50
    """
    cs = choice_sets
    check_log_odds(log_odds, cs)
    by_split = split_masks(cs, splits)
    masks = {name: behavior_mask(cs, text) for name, text in behavior_groups.items()}
    by_size = [name for name, text in behavior_groups.items() if N_IN_GROUP in parse(text).names]
    options = {"method": method, "level": level, "n_resamples": n_resamples, "seed": seed}
    individual = cs.individual_codes
    found: dict[tuple[str, ...], list[object]] = {}
    names, size = list(choice_groups), groups_at_a_time(cs, 1)
    for few in (names[k : k + size] for k in range(0, len(names), size)):
        groups = {name: ChoiceGroup.of(cs, choice_mask(cs, choice_groups[name])) for name in few}
        for model, phi in log_odds.items():
            with _named(model):
                scored = score_groups(phi, cs, list(groups.values()))
            for (choice_group, group), scores in zip(groups.items(), scored, strict=True):
                own = masks | {b: behavior_mask(cs, behavior_groups[b], n_in_group=group.n_in_group) for b in by_size}
                values = _values(scores, group)
                for (split, in_split), (behavior, in_behavior) in product(by_split.items(), own.items()):
                    part = np.flatnonzero(in_split & in_behavior & group.inside)
                    sums = IndividualSums.of(values[part], individual[part])
                    for weighting in weightings:
                        row = _summary(sums, len(part), weighting, options)
                        found[model, split, choice_group, behavior, weighting] = row
    order = product(log_odds, by_split, choice_groups, behavior_groups, weightings)
    columns = GROUP_COLUMNS + ([] if method is None else INTERVAL_COLUMNS)
    return pd.DataFrame([[*key, *found[key]] for key in order], columns=columns)


def decision_table(
    log_odds: Mapping[str, np.ndarray], choice_sets: ChoiceSets, *, choice_group: str = EVERYTHING
) -> pd.DataFrame:
    """How well each model predicts each decision, for maps and for differences paired by decision.

    Returns
    -------
    One row a decision whose selected choice is known and inside the choice group, in the order of the
    decisions: individual, decision; split, time_utc and origin where there; n_choices (within the group);
    null = -ln n_choices; and for each model a column by its name, ln p(selected). Nats.

    Raises
    ------
    ValueError
        As `evaluate`, or if a model has the name of another column.
    """
    cs = choice_sets
    check_log_odds(log_odds, cs)
    named = [name for name in (INDIVIDUAL, DECISION, SPLIT, TIME, ORIGIN) if name in cs.decisions]
    taken = [name for name in (*named, "n_choices", "null") if name in log_odds]
    if taken:
        raise ValueError(f"no model may be called {', '.join(taken)} here: that is a column of its own. Rename it.")
    group = ChoiceGroup.of(cs, choice_mask(cs, choice_group))
    inside = np.flatnonzero(group.inside)
    counts = group.counts[inside]
    table = cs.decisions[named].iloc[inside].reset_index(drop=True)
    table = table.assign(n_choices=counts, null=-np.log(counts.astype(np.float64)))
    scored = {}
    for model, phi in log_odds.items():
        with _named(model):
            scored[model] = score_groups(phi, cs, [group])[0].log_p[inside]
    return table.assign(**scored)


def mean_choice_probability(
    log_odds: Mapping[str, np.ndarray],
    choice_sets: ChoiceSets,
    expression: str,
    *,
    behavior_group: str = EVERYTHING,
    splits: Sequence[str] | None = None,
    weightings: Sequence[Weighting] = ("individual", "decision"),
    method: Method | None = "expanded",
    level: float = 0.95,
    n_resamples: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Predicted against observed share of a kind of choice, such as staying: one row a model x split x weighting.

    Parameters
    ----------
    log_odds, choice_sets, splits, weightings, method, level, n_resamples, seed
        As in `evaluate`.
    expression
        Condition on choices: `distance_km == 0`.
    behavior_group
        Condition on decisions.

    Returns
    -------
    Columns model, split, weighting, n_individuals, n_decisions, predicted and observed, their intervals and a note.
    Both are means over the decisions of the behavior group that know their selection and have at least one such choice:
    predicted of the probability on all such choices together, observed of whether one of them was
    selected. NaN where there is no such decision.

    Example
    -------
    >>> decisions = pd.DataFrame({"individual": ["a", "a"], "decision": [1, 2]})
    >>> cs = ChoiceSets(decisions, [0, 2, 4], [0, 1, 0, 2], [0, 3], {"distance_km": [0.0, 20.0, 0.0, 30.0]})
    >>> table = mean_choice_probability({"m": np.log([3.0, 1.0, 1.0, 1.0])}, cs, "distance_km == 0")
    >>> table.loc[0, ["predicted", "observed"]].tolist()
    [0.625, 0.5]
    """
    cs = choice_sets
    check_log_odds(log_odds, cs)
    by_split = split_masks(cs, splits)
    wanted = choice_mask(cs, expression)
    observed = wanted[np.maximum(cs.selected, 0)].astype(np.float64) if cs.n_rows else np.zeros(0)
    inside = (grouped_sum(wanted, cs.offsets) > 0) & behavior_mask(cs, behavior_group)
    individual = cs.individual_codes
    options = {"method": method, "level": level, "n_resamples": n_resamples, "seed": seed}
    rows = []
    for model, phi in log_odds.items():
        with _named(model):
            values = np.column_stack([mass_of(phi, cs, wanted), observed])
        for split, in_split in by_split.items():
            part = np.flatnonzero(in_split & inside)
            sums = IndividualSums.of(values[part], individual[part])
            for weighting in weightings:
                shares = np.clip(_intervals(sums, weighting, options), 0, 1)  # nor can an interval reach beyond
                (predicted, *of_predicted), (seen, *of_seen) = shares
                row = [model, split, weighting, len(sums.count), len(part), predicted, seen]
                rows.append(row if method is None else [*row, *of_predicted, *of_seen, few_note(len(sums.count))])
    columns = ["model", "split", "weighting", "n_individuals", "n_decisions", "predicted", "observed"]
    if method is not None:
        columns += [f"{name}_{end}" for name in ("predicted", "observed") for end in ("low", "high")] + ["note"]
    return pd.DataFrame(rows, columns=columns)


def format_groups(table: pd.DataFrame, *, leave_out: Sequence[str] = ()) -> str:
    """A group table as aligned text: losses to 4 decimals, probabilities in percent and lift to 3 digits.

    GMP and lift are followed by their intervals where the table has them. Empty groups say "no decisions"; "-" is a
    number that does not exist, such as the contrast loss of decisions without an alternative. Columns in `leave_out`
    are not shown.
    """
    require_columns(list(table.columns), GROUP_COLUMNS, where="group table")
    names = [name for name in GROUP_COLUMNS if name not in leave_out]
    if "note" in table and table["note"].astype(bool).any() and "note" not in leave_out:
        names.append("note")
    left = {k for k, name in enumerate(names) if name in (*GROUP_COLUMNS[:5], "note")}
    header = [name.removeprefix("n_") + (" %" if name in _PERCENT else "") for name in names]
    lines = [header, *([_cell(row, name) for name in names] for _, row in table.iterrows())]
    return "\n".join(align(lines, left))


def _values(scores: Scores, group: ChoiceGroup) -> np.ndarray:
    """What is averaged: (decision, quantity) with contrast loss, ln p, null ln p, their difference and p."""
    with np.errstate(divide="ignore"):
        null = -np.log(group.counts.astype(np.float64))
    with np.errstate(invalid="ignore"):  # decisions that the group is not about
        return np.column_stack([scores.contrast, scores.log_p, null, scores.log_p - null, np.exp(scores.log_p)])


def _intervals(sums: IndividualSums, weighting: Weighting, options: Mapping[str, Any]) -> np.ndarray:
    """(quantity, 3): mean, low and high; the mean alone, (quantity, 1), without a method."""
    if options["method"] is None:
        total, weight = sums.ratio(weighting)
        with np.errstate(invalid="ignore"):
            return (total.sum(axis=0) / weight.sum(axis=0))[:, None]
    found = intervals_of_sums(sums, weighting=weighting, **options)
    return np.column_stack([found.estimate, found.low, found.high])


def _summary(sums: IndividualSums, n_decisions: int, weighting: Weighting, options: Mapping[str, Any]) -> list[object]:
    """The values of `GROUP_COLUMNS` from n_individuals on, then of `INTERVAL_COLUMNS`."""
    contrast, log_p, null, gain, p = _intervals(sums, weighting, options)
    # an interval from few individuals may reach where no figure can be
    contrast, log_p, null, p = np.maximum(contrast, 0), np.minimum(log_p, 0), np.minimum(null, 0), np.clip(p, 0, 1)
    table = np.array([contrast, log_p, gmp(log_p), gmp(null), gmp(gain), p])  # (figure, 3)
    n_individuals = len(sums.count)
    row: list[object] = [n_individuals, n_decisions, *table[:, 0].tolist()]
    if options["method"] is None:
        return row
    return [*row, *table[:, 1:].ravel().tolist(), few_note(n_individuals)]


@contextmanager
def _named(model: str) -> Iterator[None]:
    """Errors of a model's numbers with its name in front."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"model {model}: {error}") from None


def _cell(row: pd.Series, name: str) -> str:
    """One number or name of the text table."""
    if name in (*GROUP_COLUMNS[:5], "note"):
        return str(row[name])
    if name in GROUP_COLUMNS[5:7]:
        return f"{row[name]:,}"
    if row["n_decisions"] == 0:
        return "no decisions" if name == "contrast_loss" else "-"
    text = _number(float(row[name]), name)
    low = row.get(f"{name}_low", np.nan)
    if name not in _WITH_INTERVAL or np.isnan(low):
        return text
    ends = [_number(low, name), _number(float(row[f"{name}_high"]), name)]
    return text if set(ends) == {text} else f"{text} ({' to '.join(ends)})"  # the lift of the null is surely 1


def _number(value: float, name: str) -> str:
    if np.isnan(value):
        return "-"
    return f"{100 * value:.3g}" if name in _PERCENT else f"{value:.3g}" if name == "lift" else f"{value:.4f}"
