"""A history and features of memory into the proof that they know only the past, or a refusal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from mimic.choice_rows import Rows
from mimic.feature_definition import Definition
from mimic.hexgrid import centroids
from mimic.memory import History
from mimic.schema import INDIVIDUAL, LATITUDE, LONGITUDE, ORIGIN, TIME, examples, require_columns

__all__ = ["check_history", "check_past_only"]


def check_history(history: History, decisions: pd.DataFrame, *, share: float = 0.9) -> None:
    """Refuse a history whose fixes stand at other times than the decisions say: it would tell the future, or forget.

    A decision is made in its origin at its time. Where the history has fixes of the individual at this very time, one
    of them must be in the origin. Times shifted by one fix, local times, and names that were mixed up show here.

    Parameters
    ----------
    decisions
        With `individual`, `time_utc` and `origin`.
    share
        The least share of the decisions at the time of a fix that must agree. A position that was interpolated or
        averaged where fixes share a time may lie in the next cell; a shift moves nearly all of a moving animal.

    Raises
    ------
    ValueError
        If fewer agree. Decisions at times without a fix say nothing.
    """
    require_columns(list(decisions.columns), [INDIVIDUAL, TIME, ORIGIN], where="decisions")
    fixes = pd.DataFrame(
        {
            INDIVIDUAL: history.individuals[history.individual_of_fix],
            TIME: history.time_utc,
            "fix_cell": history.cell,
        }
    )
    made = decisions[[INDIVIDUAL, TIME, ORIGIN]].assign(
        **{INDIVIDUAL: decisions[INDIVIDUAL].astype(str).astype(object)}
    )
    both = made.reset_index(names="row").merge(fixes, on=[INDIVIDUAL, TIME])
    agrees = (both["fix_cell"] == both[ORIGIN]).groupby(both["row"]).any()
    if len(agrees) and agrees.mean() < share:
        wrong = made[INDIVIDUAL].loc[agrees.index[~agrees]].unique()
        raise ValueError(
            f"of {len(agrees):,} decisions at the time of a fix of the history, {(~agrees).sum():,} are not made where "
            f"the fix is (individuals {examples(wrong)}). Times that are shifted or local, or another animal's fixes, "
            "would let features of memory see the future: build the history from the fixes of the decisions, in UTC."
        )


def check_past_only(definitions: Sequence[Definition], rows: Rows, *, n_rounds: int = 3, seed: int = 0) -> None:
    """Refuse sources whose values change when the future does.

    In every round one decision of each individual is drawn, and its values are computed three times: as they are; with
    no other decisions, and a history that ends before the drawn ones; and with other fixes in place of what came later.
    All three must be equal, to the last bit.

    Parameters
    ----------
    definitions
        Any sources, such as `MEMORY`; those that only take what a decision column says are not judged by this: a count
        over the whole track that came as a column stays what it is.
    rows
        A sample is enough: with 100 decisions an individual each round looks at one of them.

    Raises
    ------
    ValueError
        If a value changes; the message names the source, the decision and the two values.
    """
    rng = np.random.default_rng(seed)
    whole = {d.name: np.asarray(d.make(rows)) for d in definitions}
    for _ in range(n_rounds):
        drawn = _draw_one_each(rows.decisions[INDIVIDUAL], rows.decision, rng)
        keep = np.flatnonzero(np.isin(rows.decision, drawn))
        part = _only(rows, drawn, keep)
        for changed, what in ((part, "is cut off"), (_other_future(part, rng), "is another one")):
            for definition in definitions:
                _compare(
                    definition.name, whole[definition.name][keep], np.asarray(definition.make(changed)), part, what
                )


def _compare(name: str, known: np.ndarray, again: np.ndarray, rows: Rows, what: str) -> None:
    differs = ~((known == again) | (np.isnan(known) & np.isnan(again)))
    if not differs.any():
        return
    row = int(np.flatnonzero(differs)[0])
    made = rows.decisions.iloc[int(rows.decision[row])]
    n_decisions = len(np.unique(rows.decision[differs]))
    raise ValueError(
        f"{name} knows the future: of {n_decisions} in {len(rows.decisions)} decisions looked at it changes when what "
        f"came later {what}; for individual {made[INDIVIDUAL]} at {made[TIME]} from {known[row]:g} to {again[row]:g}. "
        "Use only fixes strictly before the time of the decision."
    )


def _draw_one_each(individuals: pd.Series, decision: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One decision with rows of each individual: (drawn,), int64, sorted."""
    candidates = rng.permutation(np.unique(decision))
    names = individuals.to_numpy()[candidates]
    return np.sort(candidates[~pd.Series(names).duplicated().to_numpy()])


def _only(rows: Rows, drawn: np.ndarray, keep: np.ndarray) -> Rows:
    """Only these decisions and rows, with a history that ends before each individual's decision."""
    decisions = rows.decisions.iloc[drawn].reset_index(drop=True)
    history = rows.history
    if history is not None:
        ends = np.full(len(history.individuals), np.datetime64("NaT", "ns"))
        ends[history.positions_of(decisions[INDIVIDUAL])] = decisions[TIME].to_numpy(dtype="datetime64[ns]")
        history = history.before(ends)
    return Rows(
        decision=np.searchsorted(drawn, rows.decision[keep]),
        distance_km=rows.distance_km[keep],
        bearing_rad=rows.bearing_rad[keep],
        stay=rows.stay[keep],
        decisions=decisions,
        cell=rows.cell[keep],
        at_choice={name: rows.at_choice[name][keep] for name in rows.at_choice},
        at_origin={name: rows.at_origin[name][keep] for name in rows.at_origin},
        units=rows.units,
        history=history,
    )


def _other_future(rows: Rows, rng: np.random.Generator) -> Rows:
    """The same with made-up fixes from the time of each decision on: in the choices, in random order."""
    history = rows.history
    if history is None:
        return rows
    # (row,): each choice is visited in the month after the decision, or at its very time
    later = np.where(rng.random(len(rows.cell)) < 0.1, 0, rng.integers(0, 30 * 86_400, len(rows.cell)))
    longitude, latitude = centroids(rows.cell)
    made_up = pd.DataFrame(
        {
            INDIVIDUAL: rows.decisions[INDIVIDUAL].astype(str).to_numpy()[rows.decision],
            TIME: rows.times() + later.astype("timedelta64[s]"),
            LONGITUDE: longitude,
            LATITUDE: latitude,
        }
    )
    past = pd.DataFrame(
        {
            INDIVIDUAL: history.individuals[history.individual_of_fix],
            TIME: history.time_utc,
            LONGITUDE: history.longitude,
            LATITUDE: history.latitude,
        }
    )
    fixes = pd.concat([past, made_up], ignore_index=True)
    other = History.of(fixes, resolution=history.resolution, max_gap_hours=history.max_gap_hours)
    return replace(rows, history=other)
