"""A table of fixes into one in order, of named animals, without the fixes that cannot be: the rules of cleaning."""

from __future__ import annotations

import difflib
import itertools
import re
from collections.abc import Mapping

import numpy as np
import pandas as pd

from mimic.ledger import Ledger
from mimic.movebank import numbers, wrap
from mimic.schema import INDIVIDUAL, LATITUDE, LONGITUDE, TIME, examples
from mimic.speeds import plausible_fixes

__all__ = [
    "TAG",
    "drop_fixes",
    "drop_implausible",
    "drop_impossible",
    "drop_repeated",
    "hours_and_places",
    "impossible",
    "individual_slices",
    "name_animals",
    "sort_fixes",
]

TAG = "tag"


def sort_fixes(tracks: pd.DataFrame) -> pd.DataFrame:
    """A checked copy in order of individual and time; rows of one time keep their order."""
    time = tracks[TIME]
    if not pd.api.types.is_datetime64_any_dtype(time.dtype):
        raise ValueError(f"tracks: time_utc must be datetimes; got {time.dtype}. Convert it with pandas.to_datetime.")
    if isinstance(time.dtype, pd.DatetimeTZDtype):
        time = time.dt.tz_convert("UTC").dt.tz_localize(None)
    if time.isna().any() or tracks[INDIVIDUAL].isna().any():
        raise ValueError("tracks: every fix needs an individual and a time; drop the others first.")
    table = tracks.copy()
    table[INDIVIDUAL] = tracks[INDIVIDUAL].astype("str")
    table[TIME] = time.astype("datetime64[ns]")
    return table.sort_values([INDIVIDUAL, TIME], kind="stable", ignore_index=True)


def drop_fixes(
    table: pd.DataFrame, bad: np.ndarray, ledger: Ledger, *, stage: str, reason: str
) -> tuple[pd.DataFrame, Ledger]:
    """The table without the bad fixes, numbered anew, and the ledger with a line for them; `bad` is (fix,), bool."""
    if not bad.any():
        return table, ledger
    some = table.iloc[np.flatnonzero(bad)[:10]]
    labels = [f"{i} {t:%Y-%m-%d %H:%M:%S}" for i, t in zip(some[INDIVIDUAL], some[TIME], strict=True)]
    ledger = ledger.dropped(stage, reason, labels, unit="fix", n=int(bad.sum()))
    return table[~bad].reset_index(drop=True), ledger


def individual_slices(table: pd.DataFrame) -> list[slice]:
    """The rows of each individual of a sorted table."""
    names = table[INDIVIDUAL].to_numpy()
    edges = [0, *(np.flatnonzero(names[1:] != names[:-1]) + 1).tolist(), len(names)]
    return [slice(a, b) for a, b in itertools.pairwise(edges) if b > a]


def hours_and_places(table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Hours since the first fix, longitude and latitude: three (fix,)."""
    since = table[TIME].to_numpy() - table[TIME].to_numpy()[:1]
    return since / np.timedelta64(1, "h"), table[LONGITUDE].to_numpy(), table[LATITUDE].to_numpy()


def impossible(table: pd.DataFrame) -> dict[str, np.ndarray]:
    """Reason -> (fix,), bool; no fix under two reasons."""
    longitude, latitude = table[LONGITUDE].to_numpy(np.float64), table[LATITUDE].to_numpy(np.float64)
    finite = np.isfinite(longitude) & np.isfinite(latitude)
    return {
        "missing or infinite coordinates": ~finite,
        "impossible coordinates": finite & ((np.abs(latitude) > 90) | (np.abs(longitude) > 360)),
        "longitude and latitude exactly 0": (longitude == 0) & (latitude == 0),
    }


def name_animals(
    table: pd.DataFrame, ledger: Ledger, *, of_tag: Mapping[str, str] | None, pattern: str | None
) -> tuple[pd.DataFrame, Ledger]:
    """The fixes of tags put to the animals that bore them, sorted, and a ledger line for every tag so renamed.

    Parameters
    ----------
    of_tag
        Tag -> animal. Looked up in the column `tag` if it holds any of the names, else in `individual`.
    pattern
        Regular expression whose first group, found in `individual`, is the animal. What `individual` was becomes
        `tag`, unless there is a tag.

    Raises
    ------
    ValueError
        If both are given, a tag is unknown, or the pattern is none or fits not every individual.
    """
    if not of_tag and pattern is None:
        return table, ledger
    if of_tag and pattern is not None:
        raise ValueError("give individual_of_tag or individual_pattern, not both.")
    if pattern is not None:
        source, names = INDIVIDUAL, {i: _animal(i, pattern) for i in table[INDIVIDUAL].unique()}
    else:
        source, names = _tag_names(table, of_tag or {})
    animal = table[source].map(names).fillna(table[INDIVIDUAL]).astype("str")
    tag = table[TAG] if TAG in table else table[INDIVIDUAL]
    renamed = [f"{old} is {new}" for old, new in names.items() if old != new]
    ledger = ledger.changed("clean", "tag put to its animal", renamed, unit="individual")
    return sort_fixes(table.assign(**{INDIVIDUAL: animal.to_numpy(), TAG: tag.to_numpy()})), ledger


def drop_impossible(table: pd.DataFrame, ledger: Ledger) -> tuple[pd.DataFrame, Ledger]:
    """The fixes that lie somewhere on Earth, their longitudes in [-180, 180), and the ledger of the others."""
    for reason in impossible(table):
        table, ledger = drop_fixes(table, impossible(table)[reason], ledger, stage="clean", reason=reason)
    return table.assign(**{LONGITUDE: wrap(table[LONGITUDE].to_numpy(np.float64))}), ledger


def drop_repeated(table: pd.DataFrame, ledger: Ledger, *, error_radius_column: str) -> tuple[pd.DataFrame, Ledger]:
    """One fix for each time of an individual, and the ledger of the others; the table is sorted.

    The fix of smallest error radius stays, a missing one being the greatest; among equals, and without such a
    column, the first.
    """
    n_fixes = len(table)
    error = np.zeros(n_fixes)
    if error_radius_column in table:
        error = np.nan_to_num(numbers(table[error_radius_column], where="tracks"), nan=np.inf, posinf=np.inf)
    moment = np.cumsum(~table.duplicated([INDIVIDUAL, TIME]).to_numpy()) - 1  # (fix,)
    order = np.lexsort((np.arange(n_fixes), error, moment))
    best = order[np.unique(moment[order], return_index=True)[1]]  # (moment,)
    is_kept = np.zeros(n_fixes, dtype=bool)
    is_kept[best] = True
    place = table[[LONGITUDE, LATITUDE]].to_numpy()
    is_same = (place == place[best][moment]).all(axis=1)
    reasons = {"repeated time, same position": is_same, "repeated time, other position": ~is_same}
    for reason, these in reasons.items():
        _, ledger = drop_fixes(table, these & ~is_kept, ledger, stage="clean", reason=reason)
    return table[is_kept].reset_index(drop=True), ledger


def drop_implausible(table: pd.DataFrame, ledger: Ledger, *, max_speed_km_h: float) -> tuple[pd.DataFrame, Ledger]:
    """Of each individual the largest set of fixes without a faster step, and the ledger of the others."""
    kept = [
        plausible_fixes(*hours_and_places(table.iloc[rows]), max_speed_km_h=max_speed_km_h)
        for rows in individual_slices(table)
    ]
    bad = ~np.concatenate([np.zeros(0, dtype=bool), *kept])
    return drop_fixes(table, bad, ledger, stage="clean", reason=f"not reached at {max_speed_km_h:g} km/h")


def _tag_names(table: pd.DataFrame, of_tag: Mapping[str, str]) -> tuple[str, dict[str, str]]:
    """The column that holds the tags, and tag -> animal as text."""
    names = {str(tag): str(animal) for tag, animal in of_tag.items()}
    source = TAG if TAG in table and table[TAG].isin(list(names)).any() else INDIVIDUAL
    known = table[source].dropna().unique().tolist()
    unknown = [tag for tag in names if tag not in known]
    if unknown:
        others = [*known, *(table[TAG].dropna().unique().tolist() if TAG in table else [])]
        near = dict.fromkeys(hit for tag in unknown for hit in difflib.get_close_matches(tag, others, n=1))
        raise ValueError(
            f"individual_of_tag names unknown tags: {examples(unknown)}. "
            + (f"Nearest: {examples(list(near))}." if near else f"There are {examples(known)}.")
        )
    return source, names


def _animal(individual: str, pattern: str) -> str:
    try:
        match = re.search(pattern, individual)
        name = match[1] if match else None
    except (re.error, IndexError) as error:
        raise ValueError(
            f"individual_pattern must be a regular expression with a group, such as (.+)_[^_]+; got {pattern!r} ({error})."
        ) from error
    if not name:
        raise ValueError(
            f"individual_pattern {pattern!r} finds no animal in {individual!r}; it must fit every individual."
        )
    return name
