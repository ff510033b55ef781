"""Log-odds of models over choice sets into GMP, loss and lift by choice group and behavior group (NumPy only)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise, product
from typing import Literal

import numpy as np
import pandas as pd

from mimic.expressions import EVERYTHING, parse
from mimic.groups import N_IN_GROUP, behavior_mask, choice_mask, split_masks
from mimic.probability import contrast_losses, gmp, grouped_log_softmax, grouped_sum, selected_log_probability
from mimic.schema import (
    DECISION,
    INDIVIDUAL,
    ORIGIN,
    SPLIT,
    TIME,
    ChoiceSets,
    require_columns,
)

__all__ = [
    "GROUP_COLUMNS",
    "Weighting",
    "decision_table",
    "evaluate",
    "format_groups",
    "mean_choice_probability",
]

Weighting = Literal["individual", "decision"]

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

# Rows are scored in blocks that fit into the processor's cache: half the time of whole arrays, no copies of them.
_BLOCK_ROWS = 1 << 17
_PERCENT = ("gmp", "null_gmp", "mean_probability")


def evaluate(
    log_odds: Mapping[str, np.ndarray],
    choice_sets: ChoiceSets,
    *,
    choice_groups: Mapping[str, str],
    behavior_groups: Mapping[str, str],
    splits: Sequence[str] | None = None,
    weightings: Sequence[Weighting] = ("individual", "decision"),
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

    Returns
    -------
    Columns `GROUP_COLUMNS`. Losses and log-probabilities in nats. An empty group has counts 0 and NaN for
    all numbers.

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
    _check_log_odds(log_odds, cs)
    by_split = split_masks(cs, splits)
    masks = {name: behavior_mask(cs, text) for name, text in behavior_groups.items()}
    by_size = [name for name, text in behavior_groups.items() if N_IN_GROUP in parse(text).names]
    individuals = cs.individual_codes
    found: dict[tuple[str, ...], list[float]] = {}
    for choice_group, condition in choice_groups.items():
        group = _Group.of(cs, choice_mask(cs, condition), individuals)
        behaviors = masks | {b: behavior_mask(cs, behavior_groups[b], n_in_group=group.n_in_group(cs)) for b in by_size}
        for model, phi in log_odds.items():
            scores = _scores(model, phi, cs, group)
            for (split, in_split), (behavior, in_behavior) in product(by_split.items(), behaviors.items()):
                part = scores.part((in_split & in_behavior)[group.decision])
                for weighting in weightings:
                    found[model, split, choice_group, behavior, weighting] = part.summary(weighting)
    order = product(log_odds, by_split, choice_groups, behavior_groups, weightings)
    return pd.DataFrame([[*key, *found[key]] for key in order], columns=GROUP_COLUMNS)


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
    _check_log_odds(log_odds, cs)
    named = [name for name in (INDIVIDUAL, DECISION, SPLIT, TIME, ORIGIN) if name in cs.decisions]
    taken = [name for name in (*named, "n_choices", "null") if name in log_odds]
    if taken:
        raise ValueError(f"no model may be called {', '.join(taken)} here: that is a column of its own. Rename it.")
    group = _Group.of(cs, choice_mask(cs, choice_group), cs.individual_codes)
    table = cs.decisions[named].iloc[group.decision].reset_index(drop=True)
    table = table.assign(n_choices=group.counts, null=group.null)
    return table.assign(**{model: _scores(model, phi, cs, group).log_p for model, phi in log_odds.items()})


def mean_choice_probability(
    log_odds: Mapping[str, np.ndarray],
    choice_sets: ChoiceSets,
    expression: str,
    *,
    behavior_group: str = EVERYTHING,
    splits: Sequence[str] | None = None,
    weightings: Sequence[Weighting] = ("individual", "decision"),
) -> pd.DataFrame:
    """Predicted against observed share of a kind of choice, such as staying: one row a model x split x weighting.

    Parameters
    ----------
    log_odds, choice_sets, splits, weightings
        As in `evaluate`.
    expression
        Condition on choices: `distance_km == 0`.
    behavior_group
        Condition on decisions.

    Returns
    -------
    Columns model, split, weighting, n_individuals, n_decisions, predicted and observed. Both are means over
    the decisions of the behavior group that know their selection and have at least one such choice:
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
    _check_log_odds(log_odds, cs)
    by_split = split_masks(cs, splits)
    everything = _Group.of(cs, np.ones(cs.n_rows, dtype=bool), cs.individual_codes)
    wanted = choice_mask(cs, expression)
    observed = wanted[cs.selected[everything.decision]].astype(np.float64)
    has_any = (grouped_sum(wanted, cs.offsets) > 0) & behavior_mask(cs, behavior_group)
    rows = []
    for model, phi in log_odds.items():
        predicted = _mass(model, phi, wanted, cs, everything)
        for (split, in_split), weighting in product(by_split.items(), weightings):
            inside = (in_split & has_any)[everything.decision]
            codes = everything.individual[inside]
            means = [_mean(values[inside], codes, weighting) for values in (predicted, observed)]
            rows.append([model, split, weighting, _n_distinct(codes), len(codes), *means])
    columns = ["model", "split", "weighting", "n_individuals", "n_decisions", "predicted", "observed"]
    return pd.DataFrame(rows, columns=columns)


def format_groups(table: pd.DataFrame, *, leave_out: Sequence[str] = ()) -> str:
    """A group table as aligned text: losses to 4 decimals, probabilities in percent and lift to 3 digits.

    Empty groups say "no decisions"; "-" is a number that does not exist, such as the contrast loss of
    decisions without an alternative. Columns in `leave_out` are not shown.
    """
    require_columns(list(table.columns), GROUP_COLUMNS, where="group table")
    names = [name for name in GROUP_COLUMNS if name not in leave_out]
    is_text = [name in GROUP_COLUMNS[:5] for name in names]
    header = [name.removeprefix("n_") + (" %" if name in _PERCENT else "") for name in names]
    lines = [header, *([_cell(row, name) for name in names] for _, row in table.iterrows())]
    widths = [max(len(line[k]) for line in lines) for k in range(len(header))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if left else cell.rjust(width)
            for cell, width, left in zip(line, widths, is_text, strict=True)
        ).rstrip()
        for line in lines
    )


@dataclass(frozen=True)
class _Group:
    """The choices of a choice group: which rows, of which decisions."""

    decision: np.ndarray  # (decision in group,), int64
    individual: np.ndarray  # (decision in group,), codes
    keep_row: np.ndarray | None  # (row,), bool; None where the group is all rows
    counts: np.ndarray  # (decision in group,), choices left
    within: np.ndarray  # (decision in group,), place of the selected choice among the choices left

    @staticmethod
    def of(cs: ChoiceSets, mask: np.ndarray, codes: np.ndarray) -> _Group:
        """The group of the rows in a mask, without the decisions whose selection is outside it or unknown."""
        known = np.flatnonzero(cs.selected >= 0)
        decision = known[mask[cs.selected[known]]]
        individual = codes[decision]
        starts, selected = cs.offsets[decision], cs.selected[decision]
        if len(decision) == cs.n_decisions and mask.all():
            return _Group(decision, individual, None, cs.n_choices, selected - starts)
        inside = np.zeros(cs.n_decisions, dtype=bool)
        inside[decision] = True
        keep_row = mask & np.repeat(inside, cs.n_choices)
        kept = np.concatenate([[0], np.cumsum(keep_row)])
        counts, within = kept[cs.offsets[decision + 1]] - kept[starts], kept[selected] - kept[starts]
        return _Group(decision, individual, keep_row, counts, within)

    @property
    def null(self) -> np.ndarray:
        """Log-probability of a choice when all that are left are equally likely: (decision in group,)."""
        return -np.log(self.counts.astype(np.float64))

    def n_in_group(self, cs: ChoiceSets) -> np.ndarray:
        """Choices left of every decision, 0 where it is not in the group: (decision,)."""
        counts = np.zeros(cs.n_decisions, dtype=np.int64)
        counts[self.decision] = self.counts
        return counts

    def blocks(self, cs: ChoiceSets) -> Iterator[_Block]:
        """The decisions of the group a few thousand at a time."""
        starts = cs.offsets[self.decision]
        edges = np.unique(np.searchsorted(starts, np.arange(0, cs.n_rows, _BLOCK_ROWS)))
        for first, last in pairwise([*edges, len(starts)]):
            if first < last:
                rows = slice(starts[first], cs.offsets[self.decision[last - 1] + 1])
                offsets = np.concatenate([[0], np.cumsum(self.counts[first:last])])
                keep = None if self.keep_row is None else self.keep_row[rows]
                yield _Block(slice(first, last), rows, keep, offsets, offsets[:-1] + self.within[first:last])


@dataclass(frozen=True)
class _Block:
    """Neighboring decisions of a group as small choice sets of their own."""

    decisions: slice  # of the decisions of the group
    rows: slice  # of all rows
    keep: np.ndarray | None  # (row in block,), bool
    offsets: np.ndarray  # (decision in block + 1,)
    selected: np.ndarray  # (decision in block,)

    def take(self, values: np.ndarray) -> np.ndarray:
        """The values of the choices left: (row,) -> (choice left in block,)."""
        return values[self.rows] if self.keep is None else values[self.rows][self.keep]


@dataclass(frozen=True)
class _Scores:
    """What one model makes of each decision of a choice group, or of a part of them."""

    log_p: np.ndarray  # (decision,), nats
    null: np.ndarray  # (decision,), nats
    contrast: np.ndarray  # (decision,), mean loss over unselected choices, nats; NaN without any
    individual: np.ndarray  # (decision,), codes

    def part(self, inside: np.ndarray) -> _Scores:
        """The scores of some of the decisions."""
        return _Scores(self.log_p[inside], self.null[inside], self.contrast[inside], self.individual[inside])

    def summary(self, weighting: Weighting) -> list[float]:
        """The values of `GROUP_COLUMNS` from n_individuals on."""
        log_p, null, p = (_mean(v, self.individual, weighting) for v in (self.log_p, self.null, np.exp(self.log_p)))
        compared = ~np.isnan(self.contrast)
        contrast = _mean(self.contrast[compared], self.individual[compared], weighting)
        counts = [_n_distinct(self.individual), len(self.individual)]
        return [*counts, contrast, log_p, float(gmp(log_p)), float(gmp(null)), float(gmp(log_p - null)), p]


def _mean(values: np.ndarray, individual: np.ndarray, weighting: Weighting) -> float:
    """Mean over decisions, or over individuals of their means; NaN of nothing."""
    if len(values) == 0:
        return np.nan
    if weighting == "decision":
        return float(np.mean(values))
    if weighting != "individual":
        raise ValueError(f'weighting must be "individual" or "decision"; got {weighting!r}.')
    counts = np.bincount(individual)
    sums = np.bincount(individual, weights=values)
    return float(np.mean(sums[counts > 0] / counts[counts > 0]))


def _n_distinct(codes: np.ndarray) -> int:
    return int(np.count_nonzero(np.bincount(codes)))


def _scores(model: str, phi: np.ndarray, cs: ChoiceSets, group: _Group) -> _Scores:
    log_p, contrast = np.empty(len(group.decision)), np.empty(len(group.decision))
    phi = np.asarray(phi)
    for block in group.blocks(cs):
        inside = block.take(phi)
        with _named(model):
            log_p[block.decisions] = selected_log_probability(inside, block.offsets, block.selected)
        losses = contrast_losses(inside, block.offsets, block.selected)
        contrast[block.decisions] = grouped_sum(losses, block.offsets)
    alternatives = np.where(group.counts > 1, group.counts - 1.0, np.nan)
    return _Scores(log_p, group.null, contrast / alternatives, group.individual)


def _mass(model: str, phi: np.ndarray, wanted: np.ndarray, cs: ChoiceSets, group: _Group) -> np.ndarray:
    """Probability on all wanted choices of a decision together: (decision in group,)."""
    mass = np.empty(len(group.decision))
    for block in group.blocks(cs):
        with _named(model):
            log_p = grouped_log_softmax(block.take(np.asarray(phi)), block.offsets)
        mass[block.decisions] = grouped_sum(np.exp(log_p) * block.take(wanted), block.offsets)
    return mass


@contextmanager
def _named(model: str) -> Iterator[None]:
    """Errors of a model's numbers with its name in front."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"model {model}: {error}") from None


def _check_log_odds(log_odds: Mapping[str, np.ndarray], cs: ChoiceSets) -> None:
    if not log_odds:
        raise ValueError("expected the log-odds of at least one model; got none.")
    for model, phi in log_odds.items():
        values = np.asarray(phi)
        if values.shape != (cs.n_rows,):
            raise ValueError(f"log-odds of model {model} must have shape (row,) = ({cs.n_rows},); got {values.shape}.")
        bad = np.isnan(values) | (values == np.inf)
        if bad.any():
            raise ValueError(
                f"log-odds of model {model} must be finite or -inf; {bad.sum()} of {len(values)} are NaN or +inf. "
                "Are features missing, or has its training diverged?"
            )


def _cell(row: pd.Series, name: str) -> str:
    """One number or name of the text table."""
    if name in GROUP_COLUMNS[:5]:
        return str(row[name])
    if name in GROUP_COLUMNS[5:7]:
        return f"{row[name]:,}"
    value = float(row[name])
    if row["n_decisions"] == 0:
        return "no decisions" if name == "contrast_loss" else "-"
    if np.isnan(value):
        return "-"
    return f"{100 * value:.3g}" if name in _PERCENT else f"{value:.3g}" if name == "lift" else f"{value:.4f}"
