"""A run folder into the tables of its page: decisions with places, probabilities and ranks, individuals, groups, curves."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from mimic.baseline import BASELINE
from mimic.configuration import TRUTH, Configuration, load_configuration
from mimic.explanation_runs import load_models, pair_of
from mimic.hexgrid import centroids
from mimic.points import Model, differs_within
from mimic.probability import grouped_sum, selected_log_probability
from mimic.responses import CURVE_COLUMNS, response
from mimic.runs import load_run, load_summary
from mimic.schema import (
    DECISION,
    INDIVIDUAL,
    LATITUDE,
    LONGITUDE,
    ORIGIN,
    SPLIT,
    TIME,
    ChoiceSets,
    require_columns,
)
from mimic.scores import check_log_odds
from mimic.stay import find_stay

__all__ = [
    "NULL",
    "PageTables",
    "curve_tables",
    "decision_tables",
    "individual_tables",
    "page_tables",
    "selected_ranks",
    "thinned",
]

NULL = "null (1/n)"
"""The null among models, under a name that no model of a run has."""

# A page holds these: 50,000 decisions of 7 models are 5 MB of it. Beyond, tracks are thinned.
MAX_SHOWN = 60_000
_MAX_BYTES, _BYTES, _BYTES_OF_MODEL = 7_000_000, 44, 6

_GROUP_KEYS = ["split", "choice_group", "behavior_group", "weighting"]
_CURVES = ["model", *CURVE_COLUMNS]
_MOST_DECISIONS = 30_000  # that curves are sampled from: each curve reads the columns of all of them


@dataclass(frozen=True, eq=False)
class PageTables:
    """Everything a page shows.

    Parameters
    ----------
    name, description, version
        Of the experiment, and of the mimic that ran it.
    runs
        Model -> ids of the runs behind it.
    models
        Those with log-odds, in the order of the run; the null is not among them.
    pair
        The two to compare at first; the second may be `NULL`.
    decisions
        From `decision_tables`, by time.
    log_probability, rank
        (decision, model), columns `models` and `NULL`, rows those of `decisions`: ln p of the selected choice, nats;
        and its rank among its choices.
    individuals, scores
        From `individual_tables`, of all decisions.
    groups
        The run's evaluation; empty where it has none.
    curves
        From `curve_tables`.
    n_unknown
        Decisions left out, whose selection is not known.
    n_all
        Decisions before thinning; `decisions` are every k-th of each individual where there are fewer.
    no_map
        Why there is no map; empty where there is one.
    labels
        Feature -> what it is, with its unit.
    """

    name: str
    description: str
    version: str
    runs: Mapping[str, list[str]]
    models: tuple[str, ...]
    pair: tuple[str, str]
    decisions: pd.DataFrame
    log_probability: pd.DataFrame
    rank: pd.DataFrame
    individuals: pd.DataFrame
    scores: pd.DataFrame
    groups: pd.DataFrame
    curves: pd.DataFrame
    n_unknown: int = 0
    n_all: int = 0
    no_map: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)


def page_tables(run: Path, *, curves: bool = True) -> PageTables:
    """The tables of a finished run; with curves TensorFlow is started, where a model needs it.

    Raises
    ------
    FileNotFoundError, ValueError
        As `mimic.runs.load_run`, or if no decision has a known selection.
    """
    summary, (cs, log_odds) = load_summary(run), load_run(run)
    configuration = load_configuration(run / "configuration.yaml")
    known = cs.selected >= 0
    if not known.any():
        raise ValueError(f"{run} has no decision whose selection is known, so that no model can be judged.")
    log_odds = {name: phi[np.repeat(known, cs.n_choices)] for name, phi in log_odds.items()}
    n_unknown, cs = int((~known).sum()), cs.filter(known)
    no_map = _why_no_map(cs, configuration)
    decisions, log_probability, rank = decision_tables(cs, log_odds, places=not no_map)
    individuals, scores = individual_tables(decisions, log_probability)
    keep = thinned(decisions, len(log_odds))
    several = len([name for name in log_odds if name != TRUTH]) > 1
    groups = run / "evaluation.csv"
    return PageTables(
        name=str(summary.get("experiment", run.name)),
        description=" ".join((configuration.description or "").split()),
        version=str(summary.get("mimic", "")),
        runs={str(model): list(ids) for model, ids in summary.get("runs", {}).items()},
        models=tuple(log_odds),
        pair=pair_of(run, None, None, log_odds) if several else (next(iter(log_odds)), NULL),
        decisions=decisions[keep].reset_index(drop=True),
        log_probability=log_probability[keep].reset_index(drop=True),
        rank=rank[keep].reset_index(drop=True),
        individuals=individuals,
        scores=scores,
        groups=_read_groups(groups) if groups.is_file() else pd.DataFrame(),
        curves=_curves_of(run, cs, tuple(log_odds)) if curves else pd.DataFrame(columns=_CURVES),
        n_unknown=n_unknown,
        n_all=len(decisions),
        no_map=no_map,
        labels={name: _label(name, info.description, info.unit) for name, info in cs.info.items()},
    )


def decision_tables(
    cs: ChoiceSets, log_odds: Mapping[str, np.ndarray], *, places: bool
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Every decision, by time, and what each model made of it.

    Parameters
    ----------
    cs, log_odds
        Decisions with known selections, and model -> (row,), nats.
    places
        Whether choices are cells, so that decisions have an origin and a selected cell.

    Returns
    -------
    decisions
        individual, decision, split ("all" without one), time_utc (NaT without one), burst, n_choices, stay (1, 0;
        NaN where the choices do not say) and with places longitude and latitude (of the animal, else its origin),
        origin_longitude, origin_latitude, selected_longitude, selected_latitude: centroids, degrees.
    log_probability, rank
        Columns the models and `NULL`.

    Raises
    ------
    ValueError
        As `mimic.scores.check_log_odds`, or if all choices of a decision are impossible.
    """
    check_log_odds(log_odds, cs)
    known = cs.decisions
    table = pd.DataFrame({INDIVIDUAL: known[INDIVIDUAL].astype(str), DECISION: known[DECISION]})
    table[SPLIT] = known[SPLIT].astype(str) if SPLIT in known else "all"
    table[TIME] = pd.to_datetime(known[TIME]) if TIME in known else pd.NaT
    table["burst"] = known.get("burst", 0)
    table["n_choices"] = cs.n_choices
    stay = find_stay(cs)
    # bins have an origin too, but none of them is to stay
    table["stay"] = np.nan if stay is None or not stay.any() else stay[cs.selected].astype(float)
    if places:
        origin_lon, origin_lat = centroids(known[ORIGIN].to_numpy(dtype=np.int64))
        selected_lon, selected_lat = centroids(cs.choice[cs.selected])
        has_fix = LONGITUDE in known and LATITUDE in known
        table[LONGITUDE] = known[LONGITUDE].fillna(pd.Series(origin_lon)) if has_fix else origin_lon
        table[LATITUDE] = known[LATITUDE].fillna(pd.Series(origin_lat)) if has_fix else origin_lat
        table["origin_longitude"], table["origin_latitude"] = origin_lon, origin_lat
        table["selected_longitude"], table["selected_latitude"] = selected_lon, selected_lat
    chances = {name: selected_log_probability(phi, cs.offsets, cs.selected) for name, phi in log_odds.items()}
    ranks = {name: selected_ranks(phi, cs) for name, phi in log_odds.items()}
    chances[NULL], ranks[NULL] = -np.log(cs.n_choices), (cs.n_choices + 1) / 2
    order = table.sort_values([TIME, INDIVIDUAL, DECISION], kind="stable").index
    whole = (table, pd.DataFrame(chances), pd.DataFrame(ranks))
    decisions, log_probability, rank = (part.loc[order].reset_index(drop=True) for part in whole)
    return decisions, log_probability, rank


def selected_ranks(log_odds: np.ndarray, cs: ChoiceSets) -> np.ndarray:
    """The place of the selected choice among its choices, 1 the most probable: (decision,); ties share their mean.

    Example
    -------
    >>> decisions = pd.DataFrame({"individual": ["a"], "decision": [1]})
    >>> cs = ChoiceSets(decisions, [0, 4], [0, 1, 2, 3], [1])
    >>> selected_ranks(np.array([9.0, 5.0, 5.0, 1.0]), cs).tolist()
    [2.5]
    """
    phi = np.asarray(log_odds, dtype=np.float64)
    own = np.repeat(phi[cs.selected], cs.n_choices)
    above = grouped_sum((phi > own).astype(np.int64), cs.offsets)
    equal = grouped_sum((phi == own).astype(np.int64), cs.offsets)
    return above + (equal + 1) / 2


def individual_tables(decisions: pd.DataFrame, log_probability: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Every individual, and what each model made of it.

    Returns
    -------
    individuals
        individual, split, n_decisions, first_utc, last_utc, stay_share; by name, numbers in their order.
    scores
        individual, model, log_probability (D, the mean of ln p), gmp, null_gmp, lift; models and `NULL`.
    """
    by = decisions.groupby(INDIVIDUAL, sort=False)
    individuals = by.agg(
        split=(SPLIT, lambda names: ", ".join(dict.fromkeys(names))),
        n_decisions=(DECISION, "size"),
        first_utc=(TIME, "min"),
        last_utc=(TIME, "max"),
        stay_share=("stay", "mean"),
    )
    individuals = individuals.loc[sorted(individuals.index, key=_natural)].reset_index()
    means = log_probability.groupby(decisions[INDIVIDUAL].to_numpy()).mean().loc[individuals[INDIVIDUAL]]
    null = means[NULL].to_numpy()
    parts = [
        pd.DataFrame({INDIVIDUAL: means.index, "model": model, "log_probability": d, "null_gmp": np.exp(null)}).assign(
            gmp=np.exp(d), lift=np.exp(d - null)
        )
        for model, d in ((str(name), means[name].to_numpy()) for name in means)
    ]
    columns = [INDIVIDUAL, "model", "log_probability", "gmp", "null_gmp", "lift"]
    return individuals, pd.concat(parts, ignore_index=True)[columns]


def thinned(decisions: pd.DataFrame, n_models: int, *, limit: int = MAX_SHOWN) -> np.ndarray:
    """Which decisions a page of bounded size shows: all, or every k-th of each individual in time: (decision,), bool."""
    most = min(limit, _MAX_BYTES // (_BYTES + _BYTES_OF_MODEL * (n_models + 1)))
    every = -(-len(decisions) // most)
    turn = decisions.groupby(INDIVIDUAL).cumcount().to_numpy()
    return np.asarray(turn % max(every, 1) == 0)


def curve_tables(
    models: Mapping[str, Model], cs: ChoiceSets, *, n_decisions: int = 500, n_grid: int = 20
) -> pd.DataFrame:
    """The accumulated local effects of every feature that differs between choices, of every model that has it.

    Columns `model` and `mimic.responses.CURVE_COLUMNS`, as `mimic explain response` computes them; features in the order
    of the choice sets. Features that are the same for all choices cancel and have no curve. Of more than 30,000
    decisions so many are drawn first.
    """
    found = []
    part = cs
    if cs.n_decisions > _MOST_DECISIONS:
        part = cs.pick(np.sort(np.random.default_rng(0).permutation(cs.n_decisions)[:_MOST_DECISIONS]))
    for feature in part.features:
        if not differs_within(part, feature):
            continue
        for name, model in models.items():
            if feature in model.features:
                table = response(model, part, feature, n_decisions=n_decisions, n_grid=n_grid)
                found.append(table.assign(model=name))
    return pd.concat(found, ignore_index=True)[_CURVES] if found else pd.DataFrame(columns=_CURVES)


def _natural(name: str) -> str:
    """A key by which seal 2 comes before seal 10."""
    return re.sub(r"\d+", lambda number: number[0].zfill(12), name)


def _read_groups(path: Path) -> pd.DataFrame:
    # a model or group may be called "none" or "NA": only numbers can be missing
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    require_columns(table.columns.tolist(), ["model", *_GROUP_KEYS, "gmp"], where=str(path))
    for name in table.columns.difference(["model", "split", "choice_group", "behavior_group", "weighting", "note"]):
        table[name] = pd.to_numeric(table[name], errors="coerce")
    # the models of a group side by side, groups in the order of the run
    order = np.lexsort([pd.factorize(table[name])[0] for name in reversed(_GROUP_KEYS)])
    return table.iloc[order].reset_index(drop=True)


def _curves_of(run: Path, cs: ChoiceSets, names: tuple[str, ...]) -> pd.DataFrame:
    """The curves of the models that the run has kept."""
    kept = [name for name in names if name == BASELINE or (run / "models" / f"{name}.keras").is_file()]
    return curve_tables(load_models(run, kept, None)[1] if kept else {}, cs)


def _why_no_map(cs: ChoiceSets, configuration: Configuration) -> str:
    if configuration.bins is not None:
        what = configuration.bins.label or configuration.bins.value
        return f"The choices of this run are bins ({what}), not places: there is no map of them."
    if configuration.tracks is None or ORIGIN not in cs.decisions:
        return "This run was made from a table of choices without cells and tracks: there is nothing to draw a map of."
    return ""


def _label(name: str, description: str, unit: str) -> str:
    told = f"{name}: {description}" if description and description != name else name
    return told if unit in ("", "1") else f"{told} ({unit})"
