"""A track file into fixes that are clean, regular in time and accounted for: read, clean, resample, report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mimic import movebank
from mimic.fixes import (
    TAG,
    drop_fixes,
    drop_implausible,
    drop_impossible,
    drop_repeated,
    hours_and_places,
    impossible,
    individual_slices,
    name_animals,
    sort_fixes,
)
from mimic.ledger import Ledger
from mimic.schema import BURST, INDIVIDUAL, LATITUDE, LONGITUDE, TIME, examples, require_columns
from mimic.speeds import step_speeds_km_h
from mimic.tablefile import read_rows

__all__ = ["check_report", "clean_tracks", "read_tracks", "resample_tracks"]

_TRACK = [INDIVIDUAL, TIME, LONGITUDE, LATITUDE]


def read_tracks(
    path: str | Path,
    *,
    columns: Mapping[str, str | Sequence[str]] | None = None,
    individual: str | None = None,
    crs: str | None = None,
    timezone: str | None = None,
    keep: Sequence[str] = (),
) -> tuple[pd.DataFrame, Ledger]:
    """The fixes of a file as a track table, and the ledger of rows that are no fixes.

    Parameters
    ----------
    path
        CSV or Parquet, may be gzipped.
    columns
        Our name -> the file's name, for individual, time (one column, or two: date and clock), longitude
        and latitude, x and y, tag. Names of Movebank in any spelling and plain ones ("lon") need no entry.
    individual
        Name of the animal, where the file holds only one and has no column for it.
    crs
        Of x and y, such as "EPSG:32736"; they become longitude and latitude.
    timezone
        Of times without an offset, such as "Africa/Johannesburg"; UTC by default.
    keep
        Context columns to carry, by their name in the file. They become numbers where every value is a
        number without leading zeros, and stay text otherwise. All other columns are left out.

    Returns
    -------
    tracks
        individual (text), time_utc, longitude in [-180, 180), latitude, tag where the file has it, then
        `keep`. Sorted by individual and time, rows of one time in the order of the file. Coordinates may still
        be missing or impossible. `attrs["n_read"]` is the number of rows in the file.
    ledger
        Rows that Movebank hides (visible = false) or that were marked as outliers by hand, rows without
        individual or time, and times that daylight saving leaves without meaning.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is damaged or no table; columns are missing; times cannot be read or mix clocks; longitude and
        latitude look swapped; the CRS or the time zone is unknown; or one name is given for several animals.
    """
    rows, where = read_rows(path), Path(path).name
    place = _coordinate_names(columns or {}, crs)
    found = movebank.find_columns(
        list(rows.columns),
        [*(["individual"] if individual is None else []), "time", *place, *([TAG] if TAG in keep else [])],
        columns=columns,
        optional=["individual", TAG, "visible", "outlier"],
        keep=[name for name in keep if name != TAG],
        where=where,
    )
    _check_request(rows, found, individual, keep, where)
    n_read = len(rows)
    names = (
        movebank.ids(rows[found["individual"][0]]) if individual is None else pd.Series(individual, index=rows.index)
    )
    rows, ledger = _drop_unusable(rows, names, found)
    times, unclear = movebank.utc_times([rows[c] for c in found["time"]], timezone=timezone, where=where)
    reason = f"time that daylight saving of {timezone} skips or repeats"
    rows, ledger = _drop_rows(rows, unclear, ledger, reason)
    rows, ledger = _drop_rows(rows, times[rows.index].isna().to_numpy(), ledger, "missing time")
    first, second = (movebank.numbers(rows[found[name][0]], where=where) for name in place)
    longitude, latitude = movebank.to_lon_lat(first, second, crs=crs, where=where)
    fixes = {INDIVIDUAL: names[rows.index], TIME: times[rows.index], LONGITUDE: longitude, LATITUDE: latitude}
    tags = {TAG: movebank.ids(rows[found[TAG][0]])} if TAG in found else {}
    context = {name: _context(rows[found[name][0]]) for name in keep if name != TAG}
    tracks = sort_fixes(pd.DataFrame({**fixes, **tags, **context}))
    tracks.attrs["n_read"] = n_read
    return tracks, ledger


def clean_tracks(
    tracks: pd.DataFrame,
    *,
    max_speed_km_h: float | None = None,
    max_error_radius_m: float | None = None,
    error_radius_column: str = "error_radius_m",
    drop_quality: Sequence[str] = (),
    quality_column: str = "quality",
    individual_of_tag: Mapping[str, str] | None = None,
    individual_pattern: str | None = None,
) -> tuple[pd.DataFrame, Ledger]:
    """The fixes that a plausible animal can have made, and the ledger of the others.

    In this order: tags are put to their animals; missing and impossible coordinates; error radius; quality;
    repeated times (so that a bad fix never wins over a good one of the same time); speed.

    Parameters
    ----------
    tracks
        With individual, time_utc, longitude and latitude; of any order.
    max_speed_km_h
        Greatest speed between successive fixes; of each animal the largest set of fixes that keeps to it
        stays (`speeds.plausible_fixes`). None: any speed.
    max_error_radius_m, error_radius_column
        Fixes with a greater radius are dropped (Argos writes 999999 where it knows nothing). A missing radius
        is no fault: GPS fixes have none, and old Argos fixes of the best class.
    drop_quality, quality_column
        Classes to drop, compared as text, such as ["Z"].
    individual_of_tag
        Tag -> animal, where one animal bore several tags. Looked up in the column `tag` if it holds any of the
        names, else in `individual`. Tags not named keep their individual.
    individual_pattern
        Regular expression whose first group, found in `individual`, is the animal: r"(.+)_[^_]+" makes
        EB2009_3000 of EB2009_3000_06A1346. What `individual` was is kept as `tag`, unless there is a tag.

    Returns
    -------
    tracks
        Sorted by individual and time, no time twice in an individual. Of fixes at one time the one with the
        smallest error radius stays (a missing radius is the greatest), among equals the first.
    ledger
        Dropped fixes by reason; tags put to animals.

    Raises
    ------
    ValueError
        If a column is missing, a limit is not above 0, a tag in `individual_of_tag` is unknown, or
        `individual_pattern` is no expression with a group that fits every individual.
    """
    for name, limit in [("max_speed_km_h", max_speed_km_h), ("max_error_radius_m", max_error_radius_m)]:
        if limit is not None and not limit > 0:
            raise ValueError(f"{name} must be above 0; got {limit}. Leave it out to keep all fixes.")
    needed = [error_radius_column] * (max_error_radius_m is not None) + [quality_column] * bool(drop_quality)
    require_columns(list(tracks.columns), [*_TRACK, *needed], where="tracks")
    table, ledger = name_animals(sort_fixes(tracks), Ledger(), of_tag=individual_of_tag, pattern=individual_pattern)
    table, ledger = drop_impossible(table, ledger)
    if max_error_radius_m is not None:
        bad = movebank.numbers(table[error_radius_column], where="tracks") > max_error_radius_m
        reason = f"error radius above {max_error_radius_m:g} m"
        table, ledger = drop_fixes(table, bad, ledger, stage="clean", reason=reason)
    for quality in dict.fromkeys(str(q) for q in drop_quality):
        bad = (movebank.ids(table[quality_column]) == quality).to_numpy(dtype=bool)
        table, ledger = drop_fixes(table, bad, ledger, stage="clean", reason=f"quality {quality}")
    table, ledger = drop_repeated(table, ledger, error_radius_column=error_radius_column)
    if max_speed_km_h is not None:
        table, ledger = drop_implausible(table, ledger, max_speed_km_h=max_speed_km_h)
    return table, ledger


def resample_tracks(
    tracks: pd.DataFrame, *, step: pd.Timedelta | str, tolerance: pd.Timedelta | str
) -> tuple[pd.DataFrame, Ledger]:
    """The fixes that are one step apart, in bursts, and the ledger of those between.

    Parameters
    ----------
    tracks
        Clean: with individual, time_utc, longitude, latitude, no time twice.
    step, tolerance
        As pandas spells durations ("24h", "20min"); 0 <= tolerance < step.

    Returns
    -------
    tracks
        With `burst`, int64, numbered from 0 over the whole table. Within a burst every fix follows the one
        before after step +- tolerance, both ends included. A burst may have a single fix.
    ledger
        Fixes between steps.

    Raises
    ------
    ValueError
        If a duration cannot be read or the tolerance is not below the step.

    Notes
    -----
    Greedy from the first fix of each individual: after a fix at t comes the first fix in [t + step - tolerance,
    t + step + tolerance]; if there is none, the next fix after it starts a new burst. R's amt does the same
    (track_resample).
    """
    require_columns(list(tracks.columns), _TRACK, where="tracks")
    step_ns, tolerance_ns = _duration_ns(step, "step"), _duration_ns(tolerance, "tolerance")
    if not 0 <= tolerance_ns < step_ns:
        raise ValueError(f"expected 0 <= tolerance < step; got tolerance {tolerance} and step {step}.")
    table = sort_fixes(tracks)
    times = table[TIME].to_numpy().astype("datetime64[ns]").astype(np.int64)
    kept, starts = [], []
    for rows in individual_slices(table):
        own = times[rows]
        following = np.searchsorted(own, own + step_ns - tolerance_ns).tolist()
        is_late = np.append(own, 0)[following] > own + step_ns + tolerance_ns
        i, is_start = 0, True
        while i < len(own):
            kept.append(rows.start + i)
            starts.append(is_start)
            i, is_start = following[i], bool(is_late[i])
    is_kept = np.zeros(len(table), dtype=bool)
    is_kept[kept] = True
    result, ledger = drop_fixes(table, ~is_kept, Ledger(), stage="resample", reason="between steps")
    return result.assign(**{BURST: np.cumsum(starts, dtype=np.int64) - 1}), ledger


def check_report(tracks: pd.DataFrame, ledger: Ledger) -> dict[str, Any]:
    """What is in a track table, in plain values that JSON knows; None where there is nothing to tell.

    Parameters
    ----------
    tracks
        Read, cleaned or resampled. Steps and speeds are those within individuals, and within bursts if there are any.
    ledger
        Of all steps so far.

    Returns
    -------
    Counts (n_read is None where the table does not know it), is_balanced (rows read = fixes + dropped), first
    and last time, the bounding box west, south, east, north (west > east where it crosses 180 degrees), steps in
    hours, speeds in km/h, faults left, one entry an individual, and the ledger.
    """
    require_columns(list(tracks.columns), _TRACK, where="tracks")
    table = sort_fixes(tracks)
    n_read = tracks.attrs.get("n_read")
    hours, speeds, of = _steps(table)
    report: dict[str, Any] = {
        "n_read": n_read,
        "n_fixes": len(table),
        "n_dropped": ledger.n_dropped("fix"),
        "is_balanced": None if n_read is None else n_read == len(table) + ledger.n_dropped("fix"),
        "n_individuals": int(table[INDIVIDUAL].nunique()),
    }
    if TAG in table:
        report["n_tags"] = int(table[TAG].nunique())
    if BURST in table:
        sizes = table[BURST].value_counts()
        report |= {"n_bursts": len(sizes), "n_steps": len(hours), "n_bursts_below_3_fixes": int((sizes < 3).sum())}
    return report | {
        **_span(table),
        **_box(table),
        **_step_summary(hours, speeds),
        "n_repeated_times": int(table.duplicated([INDIVIDUAL, TIME]).sum()),
        "n_impossible_coordinates": int(sum(bad.sum() for bad in impossible(table).values())),
        "individuals": [
            {
                "individual": str(table[INDIVIDUAL].iloc[rows.start]),
                "n_fixes": rows.stop - rows.start,
                **_span(table.iloc[rows]),
                **_step_summary(*(v[slice(*np.searchsorted(of, [rows.start, rows.stop]))] for v in (hours, speeds))),
            }
            for rows in individual_slices(table)
        ],
        "ledger": ledger.to_frame().to_dict(orient="records"),
    }


def _coordinate_names(columns: Mapping[str, object], crs: str | None) -> tuple[str, str]:
    """Whether a file is to be read by longitude and latitude or by x and y."""
    if crs is None:
        if "x" in columns or "y" in columns:
            raise ValueError("x and y need a crs such as EPSG:32736; for degrees name longitude and latitude instead.")
        return "longitude", "latitude"
    if movebank.parse_crs(crs).is_projected and ("longitude" in columns or "latitude" in columns):
        raise ValueError(f"{crs} is projected: in columns, name x and y instead of longitude and latitude.")
    is_xy = movebank.parse_crs(crs).is_projected or "x" in columns
    return ("x", "y") if is_xy else ("longitude", "latitude")


def _check_request(
    rows: pd.DataFrame, found: Mapping[str, Sequence[str]], individual: str | None, keep: Sequence[str], where: str
) -> None:
    clash = [name for name in keep if name in [*_TRACK, BURST, "time"]]
    if clash:
        raise ValueError(
            f"keep is for context columns; {', '.join(clash)} is a name of mimic's own. Rename the column."
        )
    if individual is not None and not individual.strip():
        raise ValueError("individual is the name of the one animal in the file; got blank text.")
    if individual is not None and "individual" in found:
        column = found["individual"][0]
        n_names = movebank.ids(rows[column]).nunique()
        if n_names > 1:
            raise ValueError(
                f"{where}: individual={individual!r} says that the file holds one animal, but its column {column} "
                f"names {n_names} ({examples(rows[column])}). Leave individual out."
            )


def _drop_unusable(
    rows: pd.DataFrame, names: pd.Series, found: Mapping[str, Sequence[str]]
) -> tuple[pd.DataFrame, Ledger]:
    """Rows that Movebank hides, and rows of no animal; before times are read, for they may have none."""
    ledger = Ledger()
    for name, truth, reason in [
        ("visible", False, "not visible in Movebank"),
        ("outlier", True, "marked as outlier by hand"),
    ]:
        if name in found:
            bad = movebank.is_flagged(rows[found[name][0]], truth=truth)
            rows, ledger = _drop_rows(rows, bad, ledger, reason)
    return _drop_rows(rows, names[rows.index].isna().to_numpy(), ledger, "missing individual")


def _drop_rows(rows: pd.DataFrame, bad: np.ndarray, ledger: Ledger, reason: str) -> tuple[pd.DataFrame, Ledger]:
    """The rows that are not bad; their index still counts the rows of the file from 0."""
    labels = [f"row {i + 1}" for i in rows.index[bad][:10]]
    return rows[~bad], ledger.dropped("read", reason, labels, unit="fix", n=int(bad.sum()))


def _context(column: pd.Series) -> pd.Series:
    """A context column as numbers if that loses nothing, else as it is."""
    if not (pd.api.types.is_string_dtype(column.dtype) or column.dtype == object):
        return column
    text = movebank.ids(column)
    known = text.dropna()
    # "007" is a name, not a number.
    if len(known) == 0 or known.str.match(r"[+-]?0[0-9]").any() or pd.to_numeric(known, errors="coerce").isna().any():
        return text
    return pd.to_numeric(text)


def _duration_ns(duration: pd.Timedelta | str, name: str) -> int:
    try:
        # NaT is no number: that, too, is a ValueError.
        return int(pd.Timedelta(duration) // pd.Timedelta("1ns"))
    except ValueError as error:
        raise ValueError(f'{name} must be a duration such as "24h" or "20min"; got {duration!r}.') from error


def _steps(table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Hours and km/h of every step, and the row it starts from: three (step,)."""
    hours, longitude, latitude = hours_and_places(table)
    longitude, latitude = (np.where(np.isfinite(v), v, np.nan) for v in (longitude, latitude))
    keys = table[[INDIVIDUAL, BURST]] if BURST in table else table[[INDIVIDUAL]]
    same = (keys.iloc[1:].to_numpy() == keys.iloc[:-1].to_numpy()).all(axis=1)
    return np.diff(hours)[same], step_speeds_km_h(hours, longitude, latitude)[same], np.flatnonzero(same)


def _step_summary(hours: np.ndarray, speeds: np.ndarray) -> dict[str, float | None]:
    """Steps of no time have no speed; they are counted as repeated times."""
    speeds = speeds[np.isfinite(speeds) & (hours > 0)]
    quantiles = {"median_speed_km_h": 0.5, "p99_speed_km_h": 0.99, "max_speed_km_h": 1.0}
    return {
        "median_step_h": round(float(np.median(hours)), 4) if len(hours) else None,
        **{name: round(float(np.quantile(speeds, q)), 3) if len(speeds) else None for name, q in quantiles.items()},
    }


def _span(table: pd.DataFrame) -> dict[str, str | None]:
    if table.empty:
        return {"first_time_utc": None, "last_time_utc": None}
    return {f"{k}_time_utc": v.isoformat() for k, v in [("first", table[TIME].min()), ("last", table[TIME].max())]}


def _box(table: pd.DataFrame) -> dict[str, float | None]:
    """The narrowest box; the widest stretch of longitudes without a fix lies outside it."""
    good = ~np.logical_or.reduce(list(impossible(table).values()))
    if not good.any():
        return dict.fromkeys(("west", "south", "east", "north"))
    latitude = table[LATITUDE].to_numpy()[good]
    longitude = np.unique(movebank.wrap(table[LONGITUDE].to_numpy()[good]))
    after = int(np.argmax(np.diff(longitude, append=longitude[0] + 360)))
    west, east = longitude[(after + 1) % len(longitude)], longitude[after]
    return {
        k: round(float(v), 6)
        for k, v in zip(("west", "south", "east", "north"), (west, latitude.min(), east, latitude.max()), strict=True)
    }
