"""The stamps of many files into the time axis of a cube."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mimic.cube_sections import TimeConfig

__all__ = ["TimeAxis", "time_axis"]

_DAY_NS = 86_400_000_000_000
_SHARED = 0.5  # of the stamps within a common span: below it, two variables have different clocks


@dataclass(frozen=True, eq=False)
class TimeAxis:
    """The steps of a cube and those before it, which lagged and trailing values need.

    Parameters
    ----------
    rows
        (row,), datetime64[ns], ascending: history, then the steps of the cube.
    n_before
        Rows of history.
    step_days
        Days between steps: that of the configuration, or the median.
    step_ns
        Length of the steps that stamps are gathered into; 0 where rows are the stamps themselves.
    """

    rows: np.ndarray
    n_before: int
    step_days: float
    step_ns: int = 0

    @property
    def stamps(self) -> np.ndarray:
        """The steps of the cube: (time,), datetime64[ns]."""
        return self.rows[self.n_before :]

    def row_of(self, stamps: np.ndarray) -> np.ndarray:
        """The row that each stamp belongs to: (step,); one past the last for stamps after the end."""
        if not self.step_ns:
            return np.searchsorted(self.rows, stamps)
        row = (stamps.astype(np.int64) - self.rows[0].astype(np.int64)) // self.step_ns
        return np.minimum(row, len(self.rows))


def time_axis(dated: Mapping[str, np.ndarray], section: TimeConfig, *, step_days: float | None = None) -> TimeAxis:
    """The steps from `start` to `end`, and before.

    Parameters
    ----------
    dated
        Variable -> its stamps, ascending.
    section
        A date as `end` includes its whole day. With `step`, steps begin at `start`, or at midnight of the first day.
    step_days
        That of an earlier build.

    Raises
    ------
    ValueError
        If no step lies between start and end, or variables have different stamps and no `step` brings them together.
    """
    if not section.step:
        _check_clocks(dated)
    stamps = np.unique(np.concatenate(list(dated.values())))
    start = pd.Timestamp(section.start) if section.start else pd.Timestamp(stamps[0])
    if section.step:
        step = pd.Timedelta(section.step).as_unit("ns").value
        if step <= 0:
            raise ValueError(f"time.step must be longer than nothing; got {section.step}.")
        origin = start.as_unit("ns").value if section.start else start.normalize().as_unit("ns").value
        numbers = (stamps.astype(np.int64) - origin) // step
        rows = (origin + np.arange(numbers[0], numbers[-1] + 1) * step).astype("datetime64[ns]")
        days = step / _DAY_NS
    else:
        step, rows = 0, stamps
        days = float(np.median(np.diff(rows).astype(np.int64))) / _DAY_NS if len(rows) > 1 else 1.0
    if section.end is not None:
        rows = rows[rows <= _end(section.end)]
    n_before = int(np.searchsorted(rows, start.to_datetime64()))
    if n_before == len(rows):
        raise ValueError(
            f"no step lies from {section.start or 'the first'} to {section.end or 'the last'}; the files run from "
            f"{str(stamps[0])[:19]} to {str(stamps[-1])[:19]}."
        )
    return TimeAxis(rows, n_before, days if step_days is None else step_days, step)


def _end(text: str) -> np.datetime64:
    moment = pd.Timestamp(text)
    is_date = moment == moment.normalize() and ":" not in text and "T" not in text
    return (moment + pd.Timedelta("1D") - pd.Timedelta("1ns") if is_date else moment).to_datetime64()


def _check_clocks(dated: Mapping[str, np.ndarray]) -> None:
    names = list(dated)
    first = dated[names[0]]
    for name in names[1:]:
        other = dated[name]
        low, high = max(first[0], other[0]), min(first[-1], other[-1])
        one, two = (s[(s >= low) & (s <= high)] for s in (first, other))
        most = max(len(one), len(two))
        if most and len(np.intersect1d(one, two)) < _SHARED * most:
            raise ValueError(
                f"{names[0]} and {name} have different times ({_some(one)}; {_some(two)}). Give time.step, such as 24h, "
                "whose means bring them together, or build a cube of each."
            )


def _some(stamps: np.ndarray) -> str:
    return ", ".join(str(stamp)[:16] for stamp in stamps[:2]) or "none in common"
