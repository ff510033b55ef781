"""Fixes into the speeds between them, and into the largest set of fixes that a plausible speed can join."""

from __future__ import annotations

import numpy as np

from mimic.hexgrid import distance_km

__all__ = ["plausible_fixes", "step_speeds_km_h"]

_SMALLEST_BLOCK, _LARGEST_BLOCK = 64, 4096


def step_speeds_km_h(hours: np.ndarray, longitude: np.ndarray, latitude: np.ndarray) -> np.ndarray:
    """Speed from each fix to the next: (fix,) -> (fix - 1,), km/h.

    Infinite where two places share a time, 0 where a place and its time repeat.

    Example
    -------
    >>> step_speeds_km_h(np.array([0.0, 2.0]), np.array([0.0, 1.0]), np.zeros(2)).round(1).tolist()
    [55.6]
    """
    distance = distance_km(longitude[:-1], latitude[:-1], longitude[1:], latitude[1:])
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(distance == 0, 0.0, distance / np.diff(hours))


def plausible_fixes(
    hours: np.ndarray, longitude: np.ndarray, latitude: np.ndarray, *, max_speed_km_h: float
) -> np.ndarray:
    """Which fixes of one individual to keep so that no step is faster than the greatest plausible speed.

    Parameters
    ----------
    hours
        (fix,), time in hours from any start, in ascending order.
    longitude, latitude
        (fix,), degrees, finite.
    max_speed_km_h
        Greatest speed of the straight line between successive fixes.

    Returns
    -------
    (fix,), bool. The largest set; among equally large ones the one with the shortest path, then the one
    whose fixes come first.

    Notes
    -----
    A fix j can follow a fix i if distance(i, j) <= max_speed x (t_j - t_i). By the triangle inequality this is
    a partial order: what can follow b, which can follow a, can follow a. The answer is its longest chain,

        length(j) = 1 + max length(i) over all i that j can follow,

    read backward from the greatest length. Single spikes, several wrong fixes in a row, and a wrong first or
    last fix are all the same case: the few that no chain of the many can hold. Dropping the fix with the
    fastest steps, again and again, was rejected: after a wrong first fix or a jump it eats good fixes.

    Predecessors are sought backward in blocks until none farther back can be in a longer chain: about one
    comparison a fix in a clean track. A speed that most steps exceed costs quadratic time.

    Example
    -------
    A spike of one degree within an hour:

    >>> plausible_fixes(np.arange(4.0), np.array([0.0, 0.1, 1.1, 0.2]), np.zeros(4), max_speed_km_h=20).tolist()
    [True, True, False, True]
    """
    n_fixes = len(hours)
    step_km = distance_km(longitude[:-1], latitude[:-1], longitude[1:], latitude[1:])
    follows = step_km <= max_speed_km_h * np.diff(hours)
    if follows.all():
        return np.ones(n_fixes, dtype=bool)
    length = np.ones(n_fixes, dtype=np.int64)
    path_km = np.zeros(n_fixes)
    before = np.full(n_fixes, -1, dtype=np.int64)
    longest = np.ones(n_fixes, dtype=np.int64)  # over this fix and all earlier ones
    n_longest = 1
    for j in range(1, n_fixes):
        i, step = j - 1, step_km[j - 1]
        if not (follows[i] and n_longest == 1 and length[i] == longest[i]):
            i, step = _predecessor(j, hours, longitude, latitude, max_speed_km_h, length, path_km, longest)
        if i >= 0:
            length[j], path_km[j], before[j] = length[i] + 1, path_km[i] + step, i
        longest[j] = max(longest[j - 1], length[j])
        n_longest = 1 if length[j] > longest[j - 1] else n_longest + (length[j] == longest[j])
    ends = np.flatnonzero(length == length.max())
    return _chain(before, int(ends[np.argmin(path_km[ends])]))


def _predecessor(
    j: int,
    hours: np.ndarray,
    longitude: np.ndarray,
    latitude: np.ndarray,
    max_speed_km_h: float,
    length: np.ndarray,
    path_km: np.ndarray,
    longest: np.ndarray,
) -> tuple[int, float]:
    """The fix before `j` in its longest chain (the shortest path among equals) and the km between; -1 if none."""
    best, best_length, best_path, best_step = -1, 1, np.inf, 0.0
    stop, size = j, _SMALLEST_BLOCK
    while stop > 0 and longest[stop - 1] >= best_length:
        block = slice(max(0, stop - size), stop)
        step = distance_km(longitude[block], latitude[block], longitude[j], latitude[j])
        reached = np.where(step <= max_speed_km_h * (hours[j] - hours[block]), length[block], 0)
        top = reached.max()
        if top >= best_length:
            path = np.where(reached == top, path_km[block] + step, np.inf)
            k = int(path.argmin())
            if top > best_length or path[k] <= best_path:
                best, best_length, best_path, best_step = block.start + k, int(top), float(path[k]), float(step[k])
        stop, size = block.start, min(2 * size, _LARGEST_BLOCK)
    return best, best_step


def _chain(before: np.ndarray, end: int) -> np.ndarray:
    """The fixes on the way back from `end`: (fix,), bool."""
    kept = np.zeros(len(before), dtype=bool)
    while end >= 0:
        kept[end] = True
        end = int(before[end])
    return kept
