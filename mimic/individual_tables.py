"""Log-odds and choice sets into figures by individual and by month: D, stays and differences, with what to color by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from mimic.bootstrap import mean_intervals
from mimic.comparison import check_pairs
from mimic.evaluation import decision_table, evaluate
from mimic.exemplars import exemplars
from mimic.expressions import EVERYTHING
from mimic.groups import choice_mask, split_masks
from mimic.probability import gmp, grouped_sum
from mimic.schema import (
    BURST,
    DECISION,
    INDIVIDUAL,
    LATITUDE,
    LONGITUDE,
    ORIGIN,
    SPLIT,
    TIME,
    ChoiceSets,
    examples,
    require_columns,
)
from mimic.scores import ChoiceGroup, mass_of
from mimic.stay_shares import stays_and_stayed

__all__ = [
    "DIFFERENCE_COLUMNS",
    "INDIVIDUAL_COLUMNS",
    "MONTH_COLUMNS",
    "individual_context",
    "individual_differences",
    "individual_table",
    "month_table",
]

INDIVIDUAL_COLUMNS = [
    *("individual", "split", "model", "choice_group", "n_decisions", "n_unknown"),
    *("log_probability", "gmp", "null_log_probability", "stay_share", "expected_stay"),
]
DIFFERENCE_COLUMNS = [
    *("model", "other", "split", "choice_group", "individual", "n_decisions", "n_days"),
    *("difference", "difference_low", "difference_high", "total", "share_improved", "rank", "side"),
]
MONTH_COLUMNS = [
    *("model", "split", "choice_group", "month", "n_individuals", "n_decisions"),
    *(f"{name}{end}" for name in ("log_probability", "null", "gain") for end in ("", "_low", "_high")),
    "note",
]
# what tells of one decision, and the columns of the tables themselves
_NO_CONTEXT = {DECISION, ORIGIN, TIME, BURST, LONGITUDE, LATITUDE, SPLIT, "destination"}
_NO_CONTEXT |= {*INDIVIDUAL_COLUMNS, *DIFFERENCE_COLUMNS}


def individual_table(
    log_odds: Mapping[str, np.ndarray],
    choice_sets: ChoiceSets,
    *,
    choice_group: str = EVERYTHING,
    splits: Sequence[str] | None = None,
    context: Sequence[str] | None = None,
) -> pd.DataFrame:
    """How well each model predicts each individual, and how often that stays: one row a split x model x individual.

    Parameters
    ----------
    log_odds
        Model -> (row,), nats; -inf means impossible.
    choice_sets
        The decisions. Those without a known selection are left out, and counted.
    choice_group, splits
        A condition on choices and names of splits, see `mimic.evaluation.evaluate`.
    context
        Decision columns to add, see `individual_context`.

    Returns
    -------
    Columns `INDIVIDUAL_COLUMNS`, then the context. n_decisions: in the choice group; n_unknown: of unknown selection.
    log_probability: D of these decisions, nats; gmp = exp(D); null_log_probability: D of no model. stay_share: share
    of the decisions with a stay among the choices of the group that select it; expected_stay: mean probability that the
    model gives to staying in the same decisions. Both are NaN where nothing is to stay, and all numbers where an
    individual has no decision in the group.

    Raises
    ------
    ValueError
        As `mimic.evaluation.evaluate`, and as `individual_context`.

    Example
    -------
    A fish stays and then moves; a model gives the stay odds 3 : 1, so p is 3/4 and 1/4.

    >>> decisions = pd.DataFrame({"individual": ["a", "a"], "decision": [1, 2]})
    >>> cs = ChoiceSets(decisions, [0, 2, 4], [0, 1, 0, 1], [0, 3], {"stay": [1.0, 0.0, 1.0, 0.0]})
    >>> table = individual_table({"m": np.log([3.0, 1.0, 3.0, 1.0])}, cs)
    >>> table.loc[0, ["n_decisions", "gmp", "stay_share", "expected_stay"]].astype(float).round(3).tolist()
    [2.0, 0.433, 0.5, 0.75]
    """
    cs = choice_sets
    # names that no column has, as a model may well be called null
    table = decision_table({f"ln p {m}": phi for m, phi in log_odds.items()}, cs, choice_group=choice_group)
    mask = choice_mask(cs, choice_group)
    index = np.flatnonzero(ChoiceGroup.of(cs, mask).inside)  # the decisions that are the rows of the table
    stays, stayed = stays_and_stayed(cs, mask)
    table["stayed"] = stayed[index]
    for model, phi in log_odds.items():
        table[f"stay {model}"] = _stay_probability(np.asarray(phi), cs, mask, stays)[index]
    about = individual_context(cs, context)
    parts = []
    for split, in_split in split_masks(cs, splits).items():
        individuals = pd.Index(dict.fromkeys(cs.individuals[in_split]), name=INDIVIDUAL)
        unknown = pd.Series(cs.individuals[in_split & (cs.selected < 0)], dtype=object).value_counts()
        groups = table[in_split[index]].groupby(INDIVIDUAL, sort=False)
        means = groups[[name for name in table if str(name).startswith(("ln p ", "stay"))] + ["null"]].mean()
        means = means.reindex(individuals)
        counts = {
            "n_decisions": groups.size().reindex(individuals, fill_value=0).to_numpy(np.int64),
            "n_unknown": unknown.reindex(individuals, fill_value=0).to_numpy(np.int64),
        }
        for model in log_odds:
            numbers = {
                "log_probability": means[f"ln p {model}"],
                "gmp": gmp(means[f"ln p {model}"].to_numpy()),
                "null_log_probability": means["null"],
                "stay_share": means["stayed"],
                "expected_stay": means[f"stay {model}"],
            }
            names = {SPLIT: split, "model": model, "choice_group": choice_group}
            parts.append(means.assign(**numbers).reset_index().assign(**names, **counts)[INDIVIDUAL_COLUMNS])
    return _with_context(pd.concat(parts, ignore_index=True), about)


def individual_context(choice_sets: ChoiceSets, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """What is known of each individual, such as its release site: one row an individual, which is the index.

    Parameters
    ----------
    choice_sets
        The decisions; their columns are the context.
    columns
        Which of them; by default all that have one value within every individual, but for what locates or numbers a
        decision (time, place, burst, split) and the names of columns of the tables here. A value missing in some
        decisions of an individual is the one of its others.

    Raises
    ------
    ValueError
        If a column asked for is missing, is taken by the tables here, or varies within an individual.
    """
    decisions = choice_sets.decisions
    wanted = [str(name) for name in decisions if str(name) not in _NO_CONTEXT] if columns is None else list(columns)
    require_columns(list(decisions.columns), wanted, where="decisions")
    taken = [name for name in wanted if name in _NO_CONTEXT]
    if taken:
        raise ValueError(f"{', '.join(taken)} cannot be context: it is no trait of an individual, or a column here.")
    groups = decisions.groupby(INDIVIDUAL, sort=False)
    varies = {name: groups[name].nunique().gt(1) for name in wanted}
    for name, several in varies.items():
        if columns is not None and several.any():
            found = examples(several.index[several].to_numpy())
            raise ValueError(f"{name} has several values within {several.sum()} individuals ({found}).")
    kept = [name for name in wanted if not varies[name].any()]
    return groups[kept].first() if kept else pd.DataFrame(index=pd.Index(dict.fromkeys(choice_sets.individuals)))


def individual_differences(
    log_odds: Mapping[str, np.ndarray],
    choice_sets: ChoiceSets,
    pairs: Sequence[tuple[str, str]] | None = None,
    *,
    choice_group: str = EVERYTHING,
    splits: Sequence[str] | None = None,
    context: Sequence[str] | None = None,
    level: float = 0.95,
    n_resamples: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """By how much one model predicts each individual better than another: one row a pair x split x individual.

    Parameters
    ----------
    log_odds, choice_sets, choice_group, splits, context
        As in `individual_table`.
    pairs
        (model, other): by default each model against the one before it.
    level, n_resamples, seed
        Of the intervals, see `mimic.bootstrap.mean_intervals`.

    Returns
    -------
    Columns `DIFFERENCE_COLUMNS`, then the context; the rows of `mimic.exemplars.exemplars` by individual, the most
    helped first, except for the interval. That comes from drawing the days (UTC) of the individual anew, and is NaN
    without `time_utc` or where there is only one day.

    Raises
    ------
    ValueError
        As `individual_table`, or if a pair is not of two different known models.

    Notes
    -----
    The interval says how well the mean of this individual is known from its days, not what holds for others. Days that
    follow each other are alike, so that it is rather too narrow.
    """
    cs = choice_sets
    chosen = check_pairs(list(log_odds), pairs)
    scored = {f"ln p {m}": log_odds[m] for m in dict.fromkeys(sum(chosen, ()))}
    table = decision_table(scored, cs, choice_group=choice_group)
    days = table[TIME].dt.floor("D") if TIME in table else pd.Series(pd.NaT, index=table.index)
    in_split = split_masks(cs, splits)
    index = np.flatnonzero(ChoiceGroup.of(cs, choice_mask(cs, choice_group)).inside)
    whole = [
        exemplars(log_odds, cs, model, other, n=None, choice_group=choice_group, splits=splits)
        for model, other in chosen
    ]
    found = pd.concat(whole, ignore_index=True).rename(columns={"value": INDIVIDUAL})
    with np.errstate(invalid="ignore"):  # impossible by both
        differences = np.column_stack([table[f"ln p {m}"] - table[f"ln p {o}"] for m, o in chosen])
    ends = []
    for split, mask in in_split.items():
        for individual, rows in table[mask[index] & days.notna()].groupby(INDIVIDUAL, sort=False).indices.items():
            at = np.flatnonzero(mask[index] & days.notna())[rows]
            codes = pd.factorize(days.iloc[at])[0]
            options = {"level": level, "n_resamples": n_resamples, "seed": seed}
            of_days = mean_intervals(differences[at], codes, weighting="decision", **options)  # type: ignore[arg-type]
            for pair, low, high in zip(chosen, of_days.low, of_days.high, strict=True):
                ends.append([*pair, split, individual, of_days.n_individuals, low, high])
    keys, own = ["model", "other", SPLIT, INDIVIDUAL], ["n_days", "difference_low", "difference_high"]
    of_days_table = pd.DataFrame(ends, columns=[*keys, *own])
    found = found.drop(columns=["difference_low", "difference_high"]).merge(of_days_table, on=keys, how="left")
    found["n_days"] = found["n_days"].fillna(0).astype(np.int64)
    return _with_context(found[DIFFERENCE_COLUMNS], individual_context(cs, context))


def month_table(
    log_odds: Mapping[str, np.ndarray],
    choice_sets: ChoiceSets,
    *,
    choice_group: str = EVERYTHING,
    splits: Sequence[str] | None = None,
    level: float = 0.95,
    n_resamples: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """How well each model predicts in each calendar month (UTC), individuals weighing the same.

    Parameters
    ----------
    log_odds, choice_sets, choice_group, splits, level, n_resamples, seed
        As in `mimic.evaluation.evaluate`.

    Returns
    -------
    Columns `MONTH_COLUMNS`, twelve rows a model x split: log_probability (D), null (D of no model) and gain, the
    former less the latter, nats, with intervals from drawing individuals anew; NaN in a month without decisions. The
    individuals of one month are not those of another, so that a difference between months may be one between them.

    Raises
    ------
    ValueError
        As `evaluate`, or if the decisions have no `time_utc`.
    """
    require_columns(list(choice_sets.decisions.columns), [TIME], where="decisions")
    months = range(1, 13)
    table = evaluate(
        log_odds,
        choice_sets,
        choice_groups={choice_group: choice_group},
        behavior_groups={str(month): f"month == {month}" for month in months},
        splits=splits,
        weightings=["individual"],
        level=level,
        n_resamples=n_resamples,
        seed=seed,
    )
    table = table.assign(month=table["behavior_group"].astype(np.int64))
    with np.errstate(divide="ignore"):  # of a selection that a model calls impossible, ln 0
        for name, of in (("null", "null_gmp"), ("gain", "lift")):
            for end in ("", "_low", "_high"):
                table[name + end] = np.log(table[of + end].to_numpy(dtype=float))
    return table[MONTH_COLUMNS]


def _stay_probability(phi: np.ndarray, cs: ChoiceSets, mask: np.ndarray, stays: np.ndarray) -> np.ndarray:
    """Probability of staying among the choices of a group: (decision,), NaN where none of them is to stay."""
    has_stay = grouped_sum(stays.astype(np.int64), cs.offsets) > 0
    # decisions that have no stay in the group may have nothing in it at all: they keep what they have
    kept = mask | ~np.repeat(has_stay, cs.n_choices)
    return np.where(has_stay, mass_of(phi if kept.all() else np.where(kept, phi, -np.inf), cs, stays), np.nan)


def _with_context(table: pd.DataFrame, about: pd.DataFrame) -> pd.DataFrame:
    return table.assign(**{str(name): table[INDIVIDUAL].map(about[name]) for name in about})
