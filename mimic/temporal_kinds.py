"""Values on cells over time into lagged values, trailing means and anomalies: from the past and the present only."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import sparse

__all__ = ["anomaly", "lag", "monthly_climatology", "step_days_of", "trailing_mean"]

_DAY_NS = 86_400_000_000_000


def step_days_of(times: np.ndarray) -> float:
    """The median step, days; 1 for a single time."""
    stamps = np.asarray(times, dtype="datetime64[ns]").astype(np.int64)
    return float(np.median(np.diff(stamps))) / _DAY_NS if len(stamps) > 1 else 1.0


def lag(values: np.ndarray, times: np.ndarray, *, days: float, max_gap_days: float) -> np.ndarray:
    """The values some days before each step: (step, cell), NaN where no step lies near enough.

    Parameters
    ----------
    values, times
        (step, cell) and (step,), ascending.
    days
        Above 0.
    max_gap_days
        The step taken is the last at or before the lagged time; if it is older than this it has no value.

    Example
    -------
    >>> times = np.array(["2020-01-01", "2020-01-02", "2020-01-03"], dtype="datetime64[ns]")
    >>> lag(np.array([[1.0], [2.0], [4.0]]), times, days=1, max_gap_days=0).ravel().tolist()
    [nan, 1.0, 2.0]
    """
    stamps = np.asarray(times, dtype="datetime64[ns]").astype(np.int64)
    wanted = stamps - round(days * _DAY_NS)
    source = np.searchsorted(stamps, wanted, side="right") - 1
    known = (source >= 0) & (wanted - stamps[np.maximum(source, 0)] <= round(max_gap_days * _DAY_NS))
    return np.where(known[:, None], values[np.maximum(source, 0)], np.nan)


def trailing_mean(
    values: np.ndarray, times: np.ndarray, *, days: float, min_share: float = 0.5, step_days: float | None = None
) -> np.ndarray:
    """The mean over the present step and those less than `days` before: (step, cell), NaN where too few have a value.

    Parameters
    ----------
    values, times
        (step, cell) and (step,), ascending.
    min_share
        Of the steps that a whole window holds, round(days / step_days) and at least one: this share must have a value.
        The first steps of a series have shorter windows and are NaN until enough are there.
    step_days
        Days between steps; None for the median.

    Example
    -------
    >>> times = np.array(["2020-01-01", "2020-01-02", "2020-01-03"], dtype="datetime64[ns]")
    >>> trailing_mean(np.array([[1.0], [2.0], [4.0]]), times, days=2).ravel().tolist()
    [1.0, 1.5, 3.0]
    """
    stamps = np.asarray(times, dtype="datetime64[ns]").astype(np.int64)
    n = len(stamps)
    first = np.searchsorted(stamps, stamps - round(days * _DAY_NS), side="right")
    sizes = np.arange(1, n + 1) - first
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    member = np.arange(offsets[-1]) + np.repeat(first - offsets[:-1], sizes)
    # Not a difference of running sums: a value must not depend on where a series was cut off.
    window = sparse.csr_array((np.ones(len(member)), member, offsets), shape=(n, n))
    finite = np.isfinite(values)
    count = window @ finite.astype(np.float64)
    whole = max(1, round(days / (step_days_of(times) if step_days is None else step_days)))
    enough = (count > 0) & (count >= min_share * whole - 1e-9)
    return np.where(enough, (window @ np.where(finite, values, 0.0)) / np.maximum(count, 1.0), np.nan)


def monthly_climatology(values: np.ndarray, times: np.ndarray, *, base: Sequence[str] | None = None) -> np.ndarray:
    """The mean of each calendar month: (12, cell), January first, NaN where a month has no value.

    Parameters
    ----------
    values, times
        (step, cell) and (step,).
    base
        First and last date, both included; None for all steps.

    Raises
    ------
    ValueError
        If the base period holds no step.
    """
    inside = _within(times, base)
    month = _months(times)
    member = sparse.csr_array((inside.astype(np.float64), (month, np.arange(len(month)))), shape=(12, len(month)))
    finite = np.isfinite(values)
    count = member @ finite.astype(np.float64)
    return np.where(count > 0, (member @ np.where(finite, values, 0.0)) / np.maximum(count, 1.0), np.nan)


def anomaly(
    values: np.ndarray, times: np.ndarray, climatology: np.ndarray | None = None, *, base: Sequence[str] | None = None
) -> np.ndarray:
    """Values minus the climatology of their calendar month: (step, cell).

    Parameters
    ----------
    climatology
        (12, cell), January first; None to compute it from the base period of the values.

    Raises
    ------
    ValueError
        If the climatology has not twelve steps, or both it and a base period are given.

    Example
    -------
    >>> times = np.array(["2020-01-01", "2021-01-01", "2021-07-01"], dtype="datetime64[ns]")
    >>> anomaly(np.array([[1.0], [4.0], [9.0]]), times, base=("2020-01-01", "2020-12-31")).ravel().tolist()
    [0.0, 3.0, nan]
    """
    if climatology is None:
        climatology = monthly_climatology(values, times, base=base)
    elif base is not None:
        raise ValueError("anomaly: give a climatology as second input or a base period, not both.")
    if len(climatology) != 12:
        raise ValueError(f"anomaly: the climatology must have 12 steps, January first; got {len(climatology)}.")
    return values - climatology[_months(times)]


def _months(times: np.ndarray) -> np.ndarray:
    """Months from 0, January, to 11: (step,)."""
    return np.asarray(times, dtype="datetime64[M]").astype(np.int64) % 12


def _within(times: np.ndarray, base: Sequence[str] | None) -> np.ndarray:
    if base is None:
        return np.ones(len(times), dtype=bool)
    if len(base) != 2:
        raise ValueError(f"base must be (first date, last date); got {base!r}.")
    days = np.asarray(times, dtype="datetime64[D]")
    inside = (days >= np.datetime64(str(base[0]), "D")) & (days <= np.datetime64(str(base[1]), "D"))
    if not inside.any():
        raise ValueError(
            f"no step lies in the base period {base[0]} to {base[1]}; steps: {days.min()} to {days.max()}."
        )
    return inside
