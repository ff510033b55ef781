"""What an animal can remember into features of every choice.

All draw on `Rows.history` (see `mimic.memory`) and need the decision columns `individual`, `time_utc` and `origin`.
What is past, what a visit is, and why the present visit to the origin does not count, is said there. With t the time of
the decision in hours, t_0 that of the individual's first fix and t_last that of the last fix in the cell before t:

==================== ======== ==== =====================================================================
`visited_before`     pair     1    1 where n_visits > 0, else 0
`n_visits`           pair     1    visits to the cell in the past
`n_visits_per_day`   pair     d-1  n_visits / max(1, (t - t_0) / 24)
`hours_since_visit`  pair     h    t - t_last; never visited: t - t_0, the time it is known not to have come
`visit_recency`      pair     1    1 / (1 + (t - t_last) / 24); 1 just after, 1/2 a day after; never visited: 0
`hours_since_first`  decision h    t - t_0
==================== ======== ==== =====================================================================

None is unknown anywhere. An animal without a past (its first fix is the present one) has visited no cell before, and
t_0 is then t. `hours_since_visit` belongs beside `visited_before`, which says whether it counts from a visit or from
the beginning.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mimic.choice_rows import Rows
from mimic.feature_definition import Definition, decision_positions
from mimic.hexgrid import resolution_of
from mimic.memory import History, Past, Visits
from mimic.schema import INDIVIDUAL, ORIGIN, TIME, require_columns

__all__ = ["MEMORY", "first_position", "past_center"]

HOURS_A_DAY = 24.0

_NO_CENTER = 1e-9
"""Below this length the mean of unit vectors points nowhere: the fixes lie all around the earth."""


def first_position(rows: Rows) -> tuple[np.ndarray, np.ndarray]:
    """Longitude and latitude of each decision's first position: two (decision,), degrees.

    The first fix of the individual's past; the present position where it has none.

    Raises
    ------
    ValueError
        If there is no history or an individual is not in it.
    """
    history, past = _history(rows), _past(rows)
    longitude, latitude = decision_positions(rows)
    has_past = past.end > past.begin
    first = np.where(has_past, past.begin, 0)
    if not history.n_fixes:
        return longitude, latitude
    return (
        np.where(has_past, history.longitude[first], longitude),
        np.where(has_past, history.latitude[first], latitude),
    )


def past_center(rows: Rows) -> tuple[np.ndarray, np.ndarray]:
    """Longitude and latitude of the center of each decision's past and present: two (decision,), degrees.

    Every fix of the past and the present position weigh the same.

    Raises
    ------
    ValueError
        If there is no history or an individual is not in it.

    Notes
    -----
    The direction, from the center of the earth, of the sum of the unit vectors of the positions: no longitude is an
    edge, and a pole is a point like any other. Where they cancel (fixes on opposite sides of the earth) there is no
    center, and the present position stands for it.
    """
    past = _past(rows)
    longitude, latitude = decision_positions(rows)
    east, north = np.radians(longitude), np.radians(latitude)
    here = np.column_stack([np.cos(north) * np.cos(east), np.cos(north) * np.sin(east), np.sin(north)])
    mean = (_history(rows).sum_of_vectors(past) + here) / (past.end - past.begin + 1)[:, np.newaxis]
    is_nowhere = np.linalg.norm(mean, axis=1) < _NO_CENTER
    center_longitude = (np.degrees(np.arctan2(mean[:, 1], mean[:, 0])) + 180.0) % 360.0 - 180.0
    center_latitude = np.degrees(np.arctan2(mean[:, 2], np.hypot(mean[:, 0], mean[:, 1])))
    return np.where(is_nowhere, longitude, center_longitude), np.where(is_nowhere, latitude, center_latitude)


def _history(rows: Rows) -> History:
    if rows.history is None:
        raise ValueError(
            "features of memory need the fixes of the animals, and there are none with these choices; build them from "
            "tracks (History.of)."
        )
    return rows.history


def _past(rows: Rows) -> Past:
    """What lies before each decision: of (decision,)."""
    require_columns(list(map(str, rows.decisions.columns)), [INDIVIDUAL, TIME, ORIGIN], where="features of memory")
    made = rows.decisions
    return _history(rows).past(made[INDIVIDUAL], made[TIME], origins=made[ORIGIN].to_numpy(dtype=np.int64))


def _visits(rows: Rows, past: Past) -> Visits:
    history = _history(rows)
    if len(rows.cell) and resolution_of(int(rows.cell[0])) != history.resolution:
        raise ValueError(
            f"the choices are cells of resolution {resolution_of(int(rows.cell[0]))}, the history was built with "
            f"resolution {history.resolution}; build it with that of the choices."
        )
    origins = rows.decisions[ORIGIN].to_numpy(dtype=np.int64)
    return history.visits(rows.decision, rows.cell, past=past, origins=origins[rows.decision])


def _first_hours(rows: Rows, past: Past) -> np.ndarray:
    """Hours since the first fix of the past: (decision,), 0 where there is none."""
    history, when = _history(rows), rows.decisions[TIME].to_numpy(dtype="datetime64[ns]")
    if not history.n_fixes:
        return np.zeros(len(when))
    has_past = past.end > past.begin
    hours = (when - history.time_utc[np.where(has_past, past.begin, 0)]) / np.timedelta64(1, "h")
    return np.where(has_past, hours, 0.0)


def _last_hours(rows: Rows, visits: Visits) -> np.ndarray:
    """Hours since the last fix in the cell: (row,), infinite where never."""
    history = _history(rows)
    if not history.n_fixes:
        return np.full(len(visits.last), np.inf)
    hours = (rows.times() - history.time_utc[np.maximum(visits.last, 0)]) / np.timedelta64(1, "h")
    return np.where(visits.last >= 0, hours, np.inf)


def _visited_before(rows: Rows) -> np.ndarray:
    return (_visits(rows, _past(rows)).last >= 0).astype(np.float64)


def _n_visits(rows: Rows) -> np.ndarray:
    return _visits(rows, _past(rows)).n_visits.astype(np.float64)


def _n_visits_per_day(rows: Rows) -> np.ndarray:
    past = _past(rows)
    # the first day counts as a whole one: two visits in the first hour are not 48 a day
    days = np.maximum(1.0, _first_hours(rows, past) / HOURS_A_DAY)
    return _visits(rows, past).n_visits / days[rows.decision]


def _hours_since_visit(rows: Rows) -> np.ndarray:
    past = _past(rows)
    hours = _last_hours(rows, _visits(rows, past))
    return np.where(np.isfinite(hours), hours, _first_hours(rows, past)[rows.decision])


def _visit_recency(rows: Rows) -> np.ndarray:
    # not exp(-t / tau): one scale cannot serve animals that come back within hours and those that do within months
    return 1.0 / (1.0 + _last_hours(rows, _visits(rows, _past(rows))) / HOURS_A_DAY)


def _hours_since_first(rows: Rows) -> np.ndarray:
    return _first_hours(rows, _past(rows))[rows.decision]


def _pair(name: str, unit: str, description: str, formula: str, make: Callable[[Rows], np.ndarray]) -> Definition:
    return Definition(name, "pair", unit, description, formula, make, needs_history=True)


MEMORY: tuple[Definition, ...] = (
    _pair("visited_before", "1", "the animal was in the cell before", "1 if n_visits > 0, else 0", _visited_before),
    _pair("n_visits", "1", "earlier visits to the cell", "runs of fixes in the cell before t", _n_visits),
    _pair(
        "n_visits_per_day",
        "d-1",
        "earlier visits to the cell per day of the known past",
        "n_visits / max(1, (t - t_0) / 24 h)",
        _n_visits_per_day,
    ),
    _pair(
        "hours_since_visit",
        "h",
        "time since the animal was last in the cell; since its first fix if never",
        "t - t_last; never visited: t - t_0",
        _hours_since_visit,
    ),
    _pair(
        "visit_recency",
        "1",
        "how recently the animal was in the cell; 0 if never",
        "1 / (1 + (t - t_last) / 24 h); never visited: 0",
        _visit_recency,
    ),
    Definition(
        "hours_since_first",
        "decision",
        "h",
        "time since the first fix of the animal",
        "t - t_0",
        _hours_since_first,
        needs_history=True,
    ),
)
"""The sources of memory."""
