"""The columns of a track table, Movebank's or another, into known names, text ids, UTC times and degrees."""

from __future__ import annotations

import difflib
import re
import zoneinfo
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from pyproj import CRS, Transformer
from pyproj.exceptions import CRSError

from mimic.schema import examples

__all__ = ["SPELLINGS", "find_columns", "ids", "is_flagged", "numbers", "parse_crs", "to_lon_lat", "utc_times", "wrap"]

SPELLINGS: dict[str, tuple[str, ...]] = {
    "individual": ("individual_local_identifier", "individual", "individual_id", "animal_id", "animal"),
    "time": ("timestamp", "time_utc", "datetime", "date_time", "time"),
    "longitude": ("location_long", "longitude", "lon", "long", "lng"),
    "latitude": ("location_lat", "latitude", "lat"),
    "x": ("x", "easting"),
    "y": ("y", "northing"),
    "tag": ("tag_local_identifier", "tag", "tag_id"),
    "visible": ("visible",),
    "outlier": ("manually_marked_outlier",),
}
"""Our name -> what files call it, the preferred one first. Case and the signs - _ . between words do not matter."""

_MISSING = ["", "NA", "N/A", "<NA>", "NaN", "nan", "NaT", "NULL", "null", "None"]
_DATE = r"\d{4}-\d{1,2}-\d{1,2}(?:[^0-9]|$)|\d{4}/\d{1,2}/\d{1,2}(?:[^0-9]|$)|\d{8}(?:[^0-9]|$)"
_OFFSET = r"[T\s:][0-9:.]*\d\s*(?:Z|[+-]\d\d(?::?\d\d)?)$"


def find_columns(
    present: Sequence[str],
    wanted: Sequence[str],
    *,
    columns: Mapping[str, str | Sequence[str]] | None = None,
    optional: Sequence[str] = (),
    keep: Sequence[str] = (),
    where: str = "table",
) -> dict[str, list[str]]:
    """Our name -> its column in the file, in a list; two columns, date and clock, where the time is so given.

    Parameters
    ----------
    present
        The columns of the file.
    wanted, optional
        Our names: keys of `SPELLINGS`. Optional ones are left out of the answer where the file has none.
    columns
        Our name -> the file's name, as far as the file's names are not known anyway.
    keep
        Further columns by the file's name; they keep it.
    where
        Start of the messages.

    Raises
    ------
    ValueError
        If columns are missing (all are named, with the nearest names in the file), if a name fits
        several columns, or if `columns` has an unknown key.
    """
    asked = _asked_columns(columns or {}, where)
    found: dict[str, list[str]] = {}
    lacking: dict[str, tuple[str, ...]] = {}  # as the message says it -> what it may be called
    for name in [*wanted, *(n for n in optional if n not in wanted), *keep]:
        spellings = SPELLINGS.get(name, ())
        parts = asked.get(name) or ([name] if name in keep else None)
        hits = [_match([part], present, where) for part in parts] if parts else [_match(spellings, present, where)]
        names: list[str | None] = [*parts] if parts else [None]
        for part, hit in zip(names, hits, strict=True):
            if hit is None and part is not None:
                lacking[part] = (part, *spellings)
            elif hit is None and name in wanted:
                lacking[f"{name} ({' or '.join(s.replace('_', '-') for s in spellings[:3])})"] = spellings
        if None not in hits:
            found[name] = [hit for hit in hits if hit is not None]
    if lacking:
        raise ValueError(_lacking_message(lacking, present, found, where))
    return found


def utc_times(
    parts: Sequence[pd.Series], *, timezone: str | None = None, where: str = "table"
) -> tuple[pd.Series, np.ndarray]:
    """Times as naive UTC.

    Parameters
    ----------
    parts
        One column of times, or a column of dates and one of clocks. Text as ISO 8601 spells it
        ("2009-02-13 00:02:23", "2009-02-13T00:02:23+01:00"), or of type datetime.
    timezone
        IANA name for times without an offset; UTC by default. An offset in the text wins.

    Returns
    -------
    times
        (row,), datetime64[ns], NaT where missing or where the clock of `timezone` has no such hour or has it twice.
    unclear
        (row,), bool: there is a time, but daylight saving leaves it without meaning.

    Raises
    ------
    ValueError
        If times cannot be read, some have an offset and some do not, or the time zone is unknown.
    """
    text = _time_text(parts)
    offset = text.str.contains(_OFFSET, regex=True, na=False)
    known = text.notna()
    if (offset & known).any() and (~offset & known).any():
        with_one, without = text[offset].iloc[0], text[known & ~offset].iloc[0]
        raise ValueError(
            f"{where}: times with and without an offset from UTC are mixed ({with_one!r} and {without!r}), so they "
            "stand on different clocks. Give all of them an offset, or none."
        )
    times = pd.to_datetime(text, format="ISO8601", utc=True, errors="coerce").dt.tz_localize(None)
    # Beyond these years nanoseconds overflow; pandas also knows "now" and reads "2005" as a date.
    strange = ~text.str.match(_DATE, na=True) | times.dt.year.lt(1678) | times.dt.year.gt(2261)
    _check_readable(text, (known & (times.isna() | strange)).to_numpy(), where)
    times = times.astype("datetime64[ns]")
    if timezone is None or offset.any():
        return times, np.zeros(len(times), dtype=bool)
    local = times.dt.tz_localize(_zone(timezone), ambiguous="NaT", nonexistent="NaT")
    utc = local.dt.tz_convert("UTC").dt.tz_localize(None).astype("datetime64[ns]")
    return utc, (utc.isna() & known).to_numpy()


def to_lon_lat(
    first: np.ndarray, second: np.ndarray, *, crs: str | None = None, where: str = "table"
) -> tuple[np.ndarray, np.ndarray]:
    """Longitude in [-180, 180) and latitude, degrees: two (row,) from two (row,).

    Impossible values stay as they are, for cleaning to drop and count.

    Parameters
    ----------
    first, second
        (row,), longitude and latitude in degrees, or x and y in the unit of `crs`.
    crs
        Of the input, anything pyproj reads ("EPSG:32736"). By default degrees on WGS 84.

    Raises
    ------
    ValueError
        If the CRS is unknown, or longitude and latitude look swapped or projected.
    """
    if crs is not None:
        transformer = Transformer.from_crs(parse_crs(crs), "EPSG:4326", always_xy=True)
        first, second = transformer.transform(first, second)
    _check_degrees(first, second, where)
    return wrap(first), second


def parse_crs(crs: str) -> CRS:
    """The coordinate reference system of a name, or a ValueError that says what is expected."""
    try:
        return CRS.from_user_input(crs)
    except CRSError as error:
        raise ValueError(f"unknown crs {crs!r}; expected a name such as EPSG:32736.") from error


def wrap(longitude: np.ndarray) -> np.ndarray:
    """Longitudes from [-360, 360] in [-180, 180); impossible ones (beyond, NaN) as they are.

    Example
    -------
    >>> wrap(np.array([181.0, -180.0, 180.0, 12.3, 999.0])).tolist()
    [-179.0, -180.0, -180.0, 12.3, 999.0]
    """
    longitude = np.asarray(longitude, dtype=np.float64)
    outside = (np.abs(longitude) <= 360) & ((longitude < -180) | (longitude >= 180))
    # Only what must move: the arithmetic costs the last digits.
    turned = (longitude[outside] + 180) % 360 - 180
    wrapped = longitude.copy()
    wrapped[outside] = np.where(turned >= 180, -180.0, turned)
    return wrapped


def numbers(column: pd.Series, *, where: str = "table") -> np.ndarray:
    """A column as numbers: (row,), float64, NaN where empty.

    Raises
    ------
    ValueError
        If something is no number.
    """
    if pd.api.types.is_numeric_dtype(column.dtype):
        return column.to_numpy(dtype=np.float64, na_value=np.nan)
    text = _text(column)
    values = pd.to_numeric(text, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    bad = np.isnan(values) & text.notna().to_numpy()
    if bad.any():
        raise ValueError(
            f"{where}: expected numbers in {column.name}; {bad.sum():,} values are none ({examples(text[bad])}). "
            "Write decimal points, not commas, and leave missing values empty."
        )
    return values


def ids(column: pd.Series) -> pd.Series:
    """A column as text without blanks around it, missing where empty; whole numbers lose a ".0"."""
    if pd.api.types.is_float_dtype(column.dtype):
        # Integers with gaps become floats in Parquet: animal 7 must not be called "7.0".
        whole = column.isna() | (column % 1 == 0)
        column = column.astype("Int64") if whole.all() else column
    return _text(column)


def is_flagged(column: pd.Series, *, truth: bool) -> np.ndarray:
    """Where a column of true and false, in any spelling, says `truth`: (row,), bool; False where empty."""
    words = {"true", "t", "1", "1.0", "yes"} if truth else {"false", "f", "0", "0.0", "no"}
    return _text(column).str.lower().isin(words).to_numpy()


def _plain(name: str) -> str:
    """A column name without case and without the kind of sign between its words."""
    return re.sub(r"[\s_.:-]+", "_", name.strip().lower()).strip("_")


def _match(names: Sequence[str], present: Sequence[str], where: str) -> str | None:
    """The column that carries the first of `names` that any carries: exactly, else in another spelling."""
    for name in names:
        # pandas calls the second of two columns "lon" by the name "lon.1".
        again = f"{name}.1"
        if name in present and again not in present:
            return name
        hits = [p for p in present if _plain(p) == _plain(name) or p == again]
        if len(hits) > 1:
            raise ValueError(f"{where}: {name} could be any of {', '.join(hits)}; say which in columns.")
        if hits:
            return hits[0]
    return None


def _asked_columns(columns: Mapping[str, str | Sequence[str]], where: str) -> dict[str, list[str]]:
    asked: dict[str, list[str]] = {}
    for name, column in columns.items():
        key = "time" if name == "time_utc" else name
        if key not in SPELLINGS:
            near = difflib.get_close_matches(key, SPELLINGS, n=1)
            raise ValueError(
                f"{where}: columns gives the file's names for ours ({', '.join(SPELLINGS)}); got {name!r}"
                + (f", did you mean {near[0]}? " if near else ". ")
                + "Further columns go into keep."
            )
        asked[key] = [column] if isinstance(column, str) else list(column)
        if len(asked[key]) not in ((1, 2) if key == "time" else (1,)):
            raise ValueError(f"{where}: {name} is one column (time may be two, date and clock); got {column!r}.")
    return asked


def _lacking_message(
    lacking: Mapping[str, Sequence[str]], present: Sequence[str], found: Mapping[str, Sequence[str]], where: str
) -> str:
    taken = {column for group in found.values() for column in group}
    free = {_plain(p): p for p in present if p not in taken}
    hints = []
    for label, spellings in lacking.items():
        near = [hit for s in spellings for hit in difflib.get_close_matches(_plain(s), free, n=1, cutoff=0.6)]
        if near:
            hints.append(f"{free[near[0]]} (for {label.split(' (')[0]})")
    return (
        f"{where}: expected the column{'s' if len(lacking) > 1 else ''} {', '.join(lacking)}; "
        f"got {', '.join(present)}. "
        + (f"Nearest: {', '.join(hints)}. " if hints else "")
        + "Rename the columns or give the file's names in columns."
    )


def _text(column: pd.Series) -> pd.Series:
    """A column as text without blanks around it, missing where it says so."""
    if not pd.api.types.is_string_dtype(column.dtype):
        column = column.astype(object).where(column.notna(), None)
    text = column.astype("str").str.strip()
    return text.mask(text.isin(_MISSING))


def _time_text(parts: Sequence[pd.Series]) -> pd.Series:
    """The times as text, with an offset where the type carries a time zone."""
    column = parts[0]
    if isinstance(column.dtype, pd.DatetimeTZDtype):
        # Naive text is UTC unless a time zone is named, so the offset must be written out.
        column = column.dt.tz_convert("UTC").dt.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    elif pd.api.types.is_datetime64_dtype(column.dtype):
        column = column.dt.strftime("%Y-%m-%d" if len(parts) == 2 else "%Y-%m-%dT%H:%M:%S.%f")
    text = _text(column)
    if len(parts) == 2:
        text = text + " " + _text(parts[1])
    return text.str.replace(r"\s*(?:UTC|GMT)$", "Z", regex=True)


def _check_readable(text: pd.Series, bad: np.ndarray, where: str) -> None:
    if not bad.any():
        return
    is_clock = text[bad].str.match(r"\d{1,2}:\d\d").all()
    raise ValueError(
        f"{where}: {bad.sum():,} of {len(text):,} times cannot be read ({examples(text[bad])}). "
        + (
            "These are clocks without a date: give columns={'time': [date column, clock column]}."
            if is_clock
            else "Expected times such as 2009-02-13 00:02:23 or 2009-02-13T00:02:23+01:00."
        )
    )


def _zone(timezone: str) -> zoneinfo.ZoneInfo:
    try:
        return zoneinfo.ZoneInfo(timezone)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
        near = difflib.get_close_matches(timezone, zoneinfo.available_timezones(), n=1)
        hint = f"did you mean {near[0]}?" if near else "expected an IANA name such as Africa/Johannesburg."
        raise ValueError(f"unknown time zone {timezone!r}; {hint}") from error


def _check_degrees(longitude: np.ndarray, latitude: np.ndarray, where: str) -> None:
    """Raise where not single rows but the columns as such are wrong."""
    finite = np.isfinite(longitude) & np.isfinite(latitude)
    lon, lat = np.abs(longitude[finite]), np.abs(latitude[finite])
    beyond = lat > 90
    if not beyond.any():
        return
    if beyond.mean() > 0.5 and (lon > 360).mean() > 0.5:
        raise ValueError(
            f"{where}: longitudes such as {examples(longitude[finite])} and latitudes such as "
            f"{examples(latitude[finite])} are no degrees; projected coordinates are given as x and y with a crs."
        )
    # Where animals straddle a longitude of 90 only part of the swapped latitudes is impossible.
    if beyond.mean() > 0.5 or (beyond.sum() >= 10 and beyond.mean() > 0.1 and (lon <= 90).all()):
        raise ValueError(
            f"{where}: longitude and latitude look swapped: {beyond.sum():,} of {len(lat):,} latitudes lie outside "
            f"[-90, 90] ({examples(latitude[finite][beyond])}). Exchange the two columns."
        )
