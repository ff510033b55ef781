"""The cells of a track into what is known, at each fix, of the motion before it."""

from __future__ import annotations

import numpy as np

from mimic.hexgrid import centroids, distance_km

__all__ = ["HOURS_IN_CELL", "PREVIOUS_DISTANCE", "PREVIOUS_HOURS", "past_motion"]

PREVIOUS_DISTANCE = "previous_distance_km"
"""Decision column: distance between the cells of the previous and the present fix, NaN where there was none."""

PREVIOUS_HOURS = "previous_hours"
"""Decision column: hours since the previous fix of the burst, NaN in the first decision of one."""

HOURS_IN_CELL = "hours_in_cell"
"""Decision column: hours since the animal arrived in the origin cell, NaN where its arrival was not seen."""


def past_motion(cells: np.ndarray, times: np.ndarray, has_next: np.ndarray) -> dict[str, np.ndarray]:
    """Decision columns that tell of the step before each fix and of the time since the last move.

    Parameters
    ----------
    cells
        (fix,), int64, sorted by individual, burst and time.
    times
        (fix,), datetime64[ns].
    has_next
        (fix,), bool: the next fix belongs to the same burst of the same individual.

    Returns
    -------
    Column -> (fix,), float64: `previous_distance_km` (0 after a stay), `previous_hours` and `hours_in_cell` (0 just
    after a move). NaN where the past is unknown: in the first fix of a burst, and for `hours_in_cell` as long as
    the animal has not left the cell in which the burst began.

    Example
    -------
    >>> from mimic.hexgrid import cell_at
    >>> cells = cell_at(np.array([0.0, 0.0, 3.0, 3.0]), np.zeros(4), 3)
    >>> times = np.datetime64("2020-01-01T00", "ns") + np.arange(4) * np.timedelta64(6, "h")
    >>> found = past_motion(cells, times, np.array([True, True, True, False]))
    >>> found["previous_hours"].tolist(), found["hours_in_cell"].tolist()
    ([nan, 6.0, 6.0, 6.0], [nan, nan, 0.0, 6.0])
    """
    n = len(cells)
    follows = np.zeros(n, dtype=bool)
    follows[1:] = has_next[:-1]
    hours = np.full(n, np.nan)
    hours[1:] = np.diff(times) / np.timedelta64(1, "h")
    distance, moved = np.full(n, np.nan), np.zeros(n, dtype=bool)
    moved[1:] = follows[1:] & (cells[1:] != cells[:-1])
    distance[follows] = 0.0
    at = np.flatnonzero(moved)
    longitude, latitude = centroids(np.concatenate([cells[at], cells[at - 1]]))
    here, before = slice(None, len(at)), slice(len(at), None)
    distance[at] = distance_km(longitude[before], latitude[before], longitude[here], latitude[here])
    number = np.arange(n)
    arrival = np.maximum.accumulate(np.where(moved, number, -1))
    start = np.maximum.accumulate(np.where(follows, 0, number))
    since = np.full(n, np.nan)
    seen = arrival > start
    since[seen] = (times[seen] - times[arrival[seen]]) / np.timedelta64(1, "h")
    return {
        PREVIOUS_DISTANCE: distance,
        PREVIOUS_HOURS: np.where(follows, hours, np.nan),
        HOURS_IN_CELL: since,
    }
