"""Choice sets into the values of one covariate by cell, at one date: the table of a map."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import pandas as pd

from mimic.hexgrid import check_cells
from mimic.schema import TIME, ChoiceSets, require_columns

__all__ = ["CELL_COLUMNS", "Period", "covariate_cells"]

CELL_COLUMNS = ["cell", "value", "time_utc", "covariate", "unit", "period", "n_choices", "n_values"]

Period = Literal["all", "calendar month", "month", "day"]

# Of the range of a covariate: values of one cell that are nearer than this are the same, up to float32.
_SAME = 1e-5


def covariate_cells(
    choice_sets: ChoiceSets,
    feature: str,
    *,
    time: str | np.datetime64 | pd.Timestamp | None = None,
    period: Period | None = None,
) -> pd.DataFrame:
    """What a covariate was on every cell within reach of a decision, in one period: one row a cell.

    Parameters
    ----------
    choice_sets
        Choices are H3 cells; the decisions have `time_utc`, but for a covariate that never changes.
    feature
        Of role "choice": it belongs to the cell and the time.
    time
        The period that holds this time, UTC, or else the nearest one in which there are decisions. By default the
        period with the most cells, of several the first.
    period
        How long a time one map shows: all times, a calendar month of all years, a month or a day. By default the
        longest of them in which no cell changes its value, which makes the map as full as it can be: all times for
        a depth, a calendar month for a climatology. A day where there is none, or where no cell of a longer period
        is met on two days, so that nothing is known of its change.

    Returns
    -------
    Columns `CELL_COLUMNS`, sorted by cell. value is the mean over the n_choices choices of the period that have one,
    NaN and 0 where none has. n_values counts the different values in it: 1 where nothing was averaged. period says in
    words what the map is of, time_utc when it begins: the first such month of a calendar month, NaT for all times.

    Raises
    ------
    ValueError
        If the feature is unknown or belongs to a decision or to a pair of cells, choices are no cells, there is no
        decision, or a period or time is not one. Also if `time_utc` is missing, of a covariate that changes.

    Notes
    -----
    Only the cells of choice sets have values: a map has holes where no animal came near.

    Example
    -------
    Two cells on two days, the second one warmer on the second day:

    >>> decisions = pd.DataFrame({"individual": "a", "decision": [1, 2]})
    >>> decisions["time_utc"] = pd.to_datetime(["2020-05-01 06:00", "2020-05-02 06:00"])
    >>> a, b = 599686042433355775, 599686030622195711
    >>> cs = ChoiceSets(decisions, [0, 2, 4], [a, b, a, b], [0, 2], {"sst": [4.0, 5.0, 4.0, 7.0]})
    >>> covariate_cells(cs, "sst", time="2020-05-02")[["value", "period", "n_values"]].values.tolist()
    [[7.0, '2020-05-02', 1], [4.0, '2020-05-02', 1]]
    >>> covariate_cells(cs, "sst", period="month")[["value", "period", "n_values"]].values.tolist()
    [[6.0, '2020-05', 2], [4.0, '2020-05', 1]]
    """
    _check(choice_sets, feature, period)
    values = np.asarray(choice_sets.features[feature], dtype=np.float64)
    cell_of_row, cells = pd.factorize(np.asarray(choice_sets.choice, dtype=np.int64), sort=True)
    decision = choice_sets.decision_of_row
    if period is None:
        period = _longest(choice_sets, values, cell_of_row, decision)
    number = _numbers(choice_sets, period)
    kept = number == _chosen(number[decision], cell_of_row, np.isfinite(values), period, _as_utc(time))
    inside = kept[decision]
    rows = pd.DataFrame({"cell": cells[cell_of_row[inside]], "value": values[inside]})
    rows["value"] = rows["value"].where(np.isfinite(rows["value"]))
    table = rows.groupby("cell")["value"].agg(value="mean", n_choices="count", n_values="nunique").reset_index()
    start, text = _in_words(choice_sets, kept, period)
    unit = choice_sets.info[feature].unit
    table = table.assign(time_utc=start, covariate=feature, unit=unit, period=text)
    return table[CELL_COLUMNS]


def _check(cs: ChoiceSets, feature: str, period: str | None) -> None:
    if feature not in cs.features:
        raise ValueError(f"unknown feature {feature}; known are {', '.join(cs.features) or 'none'}.")
    role = cs.info[feature].role
    if role != "choice":
        of_cells = [name for name, info in cs.info.items() if info.role == "choice"]
        raise ValueError(
            f"a map needs a feature of role choice, which belongs to the cell; {feature} has role {role}. "
            f"Of role choice are {', '.join(of_cells) or 'none'}."
        )
    if period is not None and period not in get_args(Period):
        raise ValueError(f"period must be {', '.join(get_args(Period))}; got {period!r}.")
    if cs.n_decisions == 0:
        raise ValueError("expected at least one decision; got none, and no cell to draw.")
    if cs.choice.dtype.kind not in "iu":
        raise ValueError(f"choices must be H3 cells as integers; got {cs.choice.dtype} such as {cs.choice[0]}.")
    check_cells(cs.choice)


def _as_utc(time: str | np.datetime64 | pd.Timestamp | None) -> pd.Timestamp | None:
    if time is None:
        return None
    try:
        stamp = pd.Timestamp(time)
    except ValueError as error:
        raise ValueError(f"time must be a date or time, UTC, such as 2019-07-01; got {time!r}.") from error
    return stamp if stamp.tzinfo is None else stamp.tz_convert("UTC").tz_localize(None)


def _numbers(cs: ChoiceSets, period: Period) -> np.ndarray:
    """The period that each decision is in, counted in days or months from 1970, or 1 to 12: (decision,), int64."""
    if period == "all":
        return np.zeros(cs.n_decisions, dtype=np.int64)
    require_columns(list(cs.decisions.columns), [TIME], where="decisions")
    return _number(cs.decisions[TIME].to_numpy(dtype="datetime64[ns]"), period)


def _number(times: np.ndarray, period: Period) -> np.ndarray:
    counted = times.astype("datetime64[D]" if period == "day" else "datetime64[M]").astype(np.int64)
    return counted % 12 + 1 if period == "calendar month" else counted


def _longest(cs: ChoiceSets, values: np.ndarray, cell_of_row: np.ndarray, decision: np.ndarray) -> Period:
    """The longest period in which no cell is seen to change its value."""
    known = np.isfinite(values)
    if not known.any():
        return "all"
    same = _SAME * float(np.ptp(values[known]))
    has_times = TIME in cs.decisions
    day = _numbers(cs, "day") if has_times else np.zeros(cs.n_decisions, dtype=np.int64)
    rows = pd.DataFrame({"cell": cell_of_row, "value": values, "day": day[decision]})[known]
    periods: tuple[Period, ...] = ("all", "calendar month", "month") if has_times else ("all",)
    for period in periods:
        rows["number"] = _numbers(cs, period)[decision[known]]
        ends = rows.groupby(["cell", "number"], sort=False).agg({"value": ["min", "max"], "day": ["min", "max"]})
        changes = ends["value", "max"] - ends["value", "min"] > same
        is_seen_again = (ends["day", "max"] > ends["day", "min"]).any() or not has_times
        if not changes.any() and is_seen_again:
            return period
    return "day"


def _chosen(
    number: np.ndarray, cell_of_row: np.ndarray, known: np.ndarray, period: Period, time: pd.Timestamp | None
) -> int:
    """The number of the period to show, of those of the rows (row,)."""
    if time is None or period == "all":
        rows = known if known.any() else np.ones(len(known), dtype=bool)
        pairs = np.unique(np.column_stack([number[rows], cell_of_row[rows]]), axis=0)
        periods, n_cells = np.unique(pairs[:, 0], return_counts=True)
        return int(periods[n_cells.argmax()])
    there, wanted = np.unique(number), int(_number(np.array([time], dtype="datetime64[ns]"), period)[0])
    away = np.abs(there - wanted)
    if period == "calendar month":  # December is next to January
        away = np.minimum(away, 12 - away)
    return int(there[away.argmin()])


def _in_words(cs: ChoiceSets, kept: np.ndarray, period: Period) -> tuple[pd.Timestamp, str]:
    """When the period begins, and what it is called."""
    if period == "all":
        return pd.NaT, "all times"  # type: ignore[return-value]
    times = cs.decisions.loc[kept, TIME]
    first, last = times.min(), times.max()
    if period == "day":
        return first.normalize(), f"{first:%Y-%m-%d}"
    start = first.normalize().replace(day=1)
    if period == "month" or first.year == last.year:
        return start, f"{first:%Y-%m}"
    return start, f"{first.month_name()} of {first.year} to {last.year}"
