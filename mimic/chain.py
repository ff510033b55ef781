"""The chain rule of a movement: ln p(selected) into stay or move, how far, and where; stage by stage, in nats."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from mimic.bootstrap import few_note, mean_intervals
from mimic.contrasts import Weighting
from mimic.decision_groups import DecisionGroup, decision_groups, group_mean
from mimic.probability import grouped_log_softmax, grouped_sum
from mimic.schema import CHOICE, ChoiceSets
from mimic.scores import check_log_odds
from mimic.stages import Stages, divide, log_mass
from mimic.textable import align

__all__ = ["CHAIN_COLUMNS", "chain_rule", "format_chain"]

CHAIN_COLUMNS = [
    "model",
    "split",
    "behavior_group",
    "weighting",
    "stage",
    "n_individuals",
    "n_decisions",
    "n_open",
    "log_probability",
    "null_log_probability",
    "gain",
    "gain_low",
    "gain_high",
    "gmp",
    "null_gmp",
    "lift",
    "gmp_open",
    "null_gmp_open",
    "lift_open",
    "better_than_chance",
    "note",
]
_EVERYTHING = "all"
_ROUNDING = 1e-12  # nats


def chain_rule(
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
    """Where a model gains over chance: ln p(selected) as the sum of the stages of a movement.

    Parameters
    ----------
    log_odds
        Model -> (row,) log-odds over the rows of `choice_sets`, nats; -inf means impossible.
    choice_sets
        The decisions. Those without a known selection take no part.
    stages
        Stage -> class -> condition on choices, in order, such as those of `mimic.stages.default_stages`; see
        `mimic.stages.divide`. The last stage, `choice` within its last class, is added by itself.
    behavior_groups
        Name -> condition on decisions, see `mimic.groups.behavior_names`; by default all of them.
    splits
        Values of the decision column `split`, or "all"; by default those that occur.
    weightings
        "individual": individuals weigh the same; "decision": decisions do.
    level, n_resamples, seed
        Of the intervals, see `mimic.bootstrap.mean_intervals`.

    Returns
    -------
    Columns `CHAIN_COLUMNS`, one row a model x split x behavior group x weighting x stage, and a row of stage "all"
    after them, which is the sum of the stages.

    n_open counts the decisions in which the stage has anything to decide: two classes or more (in the stage
    `choice`, two choices or more) within the selected class of the stage before. log_probability (nats) is the
    stage's part of D, null_log_probability that of the null, gain their difference with its interval by bootstrap
    over individuals. gmp, null_gmp and lift are exp() of the three: over ALL decisions, a decision that is not
    open counting with p = 1, so that those of the stages multiply to the whole. gmp_open, null_gmp_open and
    lift_open are means over the open decisions alone: what the stage achieves where it has work.
    better_than_chance is "yes" where gain_low > 0, "worse" where gain_high < 0, else "no better than chance";
    "nothing to decide" without open decisions, "unknown" without an interval. An empty group has counts 0 and NaN.

    Raises
    ------
    ValueError
        As `mimic.stages.divide` and `mimic.evaluation.evaluate`.

    Notes
    -----
    ln p(selected) = ln p(A1) + ln p(A2 | A1) + ... + ln p(selected | Ak), with Ak the class of stage k that the
    selected choice is in. With L_in and L_out the log-sum-exp of the log-odds inside Ak, and of those in A(k-1)
    but outside Ak, a stage is -softplus(L_out - L_in): exact for probabilities near 0 and near 1 alike.
    Choices that are all impossible (-inf) count as equally likely among themselves.

    Example
    -------
    Odds 8 : 1 : 3 of staying and two moves, the first move selected: p = 4/12 x 1/4 = 1/12. Chance moves in 2 of 3
    and then takes it in 1 of 2:

    >>> decisions = pd.DataFrame({"individual": ["a"], "decision": [1]})
    >>> cs = ChoiceSets(decisions, [0, 3], [0, 1, 2], [1], {"distance_km": [0.0, 20.0, 20.0]})
    >>> stages = {"stay or move": {"stay": "distance_km == 0", "move": "distance_km > 0"}}
    >>> table = chain_rule({"m": np.log([8.0, 1.0, 3.0])}, cs, stages, weightings=["individual"])
    >>> table[["stage", "gmp", "null_gmp", "lift"]].round(4)
              stage     gmp  null_gmp  lift
    0  stay or move  0.3333    0.6667  0.50
    1        choice  0.2500    0.5000  0.50
    2           all  0.0833    0.3333  0.25
    """
    cs = choice_sets
    check_log_odds(log_odds, cs)
    links = _links(cs, stages)
    models = {name: _stage_parts(name, phi, cs, links) for name, phi in log_odds.items()}
    options = {"level": level, "n_resamples": n_resamples, "seed": seed}
    rows = [
        row
        for (model, parts), group in product(models.items(), decision_groups(cs, behavior_groups, splits, weightings))
        for row in _chain_rows(cs, model, parts, links, group, options)
    ]
    return pd.DataFrame(rows, columns=CHAIN_COLUMNS)


def format_chain(table: pd.DataFrame) -> str:
    """A chain table as aligned text: nats to 4 decimals first, then GMP in percent and lift to 3 digits.

    Columns that say the same in every row (the split, the weighting, ...) are told once, in the first line.
    """
    keys = [c for c in CHAIN_COLUMNS[:4] if table[c].nunique() > 1]
    same = [f"{c} {table[c].iloc[0]}" for c in CHAIN_COLUMNS[:4] if table[c].nunique() == 1]
    header = [*keys, "stage", "decisions", "open", "nats", "null", "gain", "interval of gain"]
    header += ["GMP %", "lift", "lift if open", "better than chance?"]
    lines = [header, *([*(str(row[k]) for k in keys), *_cells(row)] for row in table.to_dict(orient="records"))]
    text = align(lines, {*range(len(keys) + 1), len(header) - 1})
    notes = dict.fromkeys(str(note) for note in table["note"] if note)
    return "\n".join([*([", ".join(same)] if same else []), *text, *(f"note: {note}" for note in notes)])


# ---------------------------------------------------------------- stages of the selected choices


@dataclass(frozen=True, eq=False)
class _Link:
    """One stage, seen from the selected choice of each decision."""

    stage: str
    inside: np.ndarray  # (row,), bool: in the class of the selected choice
    outside: np.ndarray  # (row,), bool: in its class of the stage before, but not of this stage
    null: np.ndarray  # (decision,), nats
    is_open: np.ndarray  # (decision,), bool


def _links(cs: ChoiceSets, stages: Stages) -> list[_Link]:
    """The stages in order, the choice itself last, and "all" of them together behind it."""
    taken = [name for name in (CHOICE, _EVERYTHING) if name in stages]
    if taken:
        raise ValueError(f"no stage may be called {', '.join(taken)}: these are added by themselves. Rename it.")
    everything = before = np.ones(cs.n_rows, dtype=bool)
    links = []
    for division in divide(cs, stages):
        node = division.node
        inside = node == np.repeat(node[np.maximum(cs.selected, 0)], cs.n_choices) if cs.n_rows else before
        links.append(_link(division.stage, cs, before, inside))
        before = inside
    return [*links, _link(CHOICE, cs, before, cs.is_selected), _link(_EVERYTHING, cs, everything, cs.is_selected)]


def _link(stage: str, cs: ChoiceSets, before: np.ndarray, inside: np.ndarray) -> _Link:
    outside = before & ~inside
    n_in, n_out = (grouped_sum(mask.astype(np.float64), cs.offsets) for mask in (inside, outside))
    known = cs.selected >= 0
    return _Link(stage, inside, outside, -np.log1p(n_out / np.maximum(n_in, 1.0)), known & (n_out > 0))


def _stage_parts(model: str, phi: np.ndarray, cs: ChoiceSets, links: Sequence[_Link]) -> np.ndarray:
    """ln p of every stage, and of all of them together: (decision, stage + 1), nats."""
    try:
        log_p = grouped_log_softmax(phi, cs.offsets)  # of the size of the differences, however large the log-odds
    except ValueError as error:
        raise ValueError(f"model {model}: {error}") from None
    parts = []
    for link in links[:-1]:
        inside, outside = (log_mass(log_p, mask, cs.offsets) for mask in (link.inside, link.outside))
        undecided = np.isneginf(inside) & np.isneginf(outside)  # nothing of the class before is possible
        difference = np.where(undecided, 0.0, outside) - np.where(undecided, 0.0, inside)
        parts.append(np.where(undecided, link.null, -np.logaddexp(0.0, difference)) + 0.0)  # + 0.0: no "-0"
    whole = log_p[np.maximum(cs.selected, 0)] if cs.n_rows else np.zeros(0)  # not by summing: the sum can be checked
    return np.stack([*parts, whole], axis=1)


# ---------------------------------------------------------------- rows of the tables


def _chain_rows(
    cs: ChoiceSets,
    model: str,
    parts: np.ndarray,
    links: Sequence[_Link],
    group: DecisionGroup,
    options: dict[str, Any],
) -> list[list[Any]]:
    """The rows of one model and group, as `CHAIN_COLUMNS` has them."""
    inside = group.inside
    codes = cs.individual_codes[inside]
    log_p, null = parts[inside], np.stack([link.null for link in links], axis=1)[inside]  # (decision, stage + 1)
    is_open = np.stack([link.is_open for link in links], axis=1)[inside]
    gains = log_p - null
    gains[np.abs(gains) < _ROUNDING] = 0.0  # else the null itself is surely better, or worse, by the last bits
    interval = mean_intervals(gains, codes, weighting=group.weighting, **options)
    low, high = interval.low, interval.high
    n_individuals = len(np.unique(codes))
    rows = []
    for k, link in enumerate(links):
        means = [group_mean(values[:, k], codes, group.weighting) for values in (log_p, null)]
        opened = is_open[:, k]
        of_open = [group_mean(values[opened, k], codes[opened], group.weighting) for values in (log_p, null)]
        gain = group_mean(gains[:, k], codes, group.weighting)
        n_open = int(opened.sum())
        n_impossible = int(np.isneginf(log_p[:, k]).sum())
        notes = [few_note(n_individuals), f"{n_impossible} selected what is impossible" if n_impossible else ""]
        rows.append(
            [
                *(model, *group.names, link.stage, n_individuals, len(codes), n_open),
                *(*means, gain, low[k], high[k]),
                *(np.exp(x) for x in (*means, gain, *of_open, of_open[0] - of_open[1])),
                _verdict(gain, low[k], high[k], n_open),
                "; ".join(note for note in notes if note),
            ]
        )
    return rows


def _verdict(gain: float, low: float, high: float, n_open: int) -> str:
    if n_open == 0:
        return "nothing to decide"
    if np.isneginf(gain):
        return "worse"
    if np.isnan(low):
        return "unknown"
    return "yes" if low > 0 else "worse" if high < 0 else "no better than chance"


def _cells(row: Mapping[Any, Any]) -> list[str]:
    """One row of the text table, from the stage on."""

    def number(name: str, form: str, factor: float = 1.0) -> str:
        return "-" if np.isnan(row[name]) else format(factor * row[name], form)

    interval = "-" if np.isnan(row["gain_low"]) else f"{row['gain_low']:+.4f} {row['gain_high']:+.4f}"
    return [
        str(row["stage"]),
        *(f"{row[name]:,}" for name in ("n_decisions", "n_open")),
        *(number(name, ".4f") for name in ("log_probability", "null_log_probability")),
        number("gain", "+.4f"),
        interval,
        number("gmp", ".3g", 100.0),
        *(number(name, ".3g") for name in ("lift", "lift_open")),
        str(row["better_than_chance"]),
    ]
