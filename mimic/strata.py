"""Random steps as R's amt makes them, in memory or in a file, into choice sets: each step made against random ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mimic.expressions import quantity
from mimic.longtable import read_long_table
from mimic.schema import (
    BURST,
    CHOICE,
    DECISION,
    INDIVIDUAL,
    SELECTED,
    TIME,
    ChoiceSets,
    FeatureInfo,
    examples,
    require_columns,
)
from mimic.tables import from_table

__all__ = ["AMT_FEATURES", "amt_long_table", "from_random_steps", "read_random_steps"]

AMT_FEATURES: dict[str, FeatureInfo] = {
    "step_length": FeatureInfo("pair", "1", "sl_, in the unit of the coordinates"),
    "log_step_length": FeatureInfo("pair", "1", "logarithm of sl_; of a step of no length, of the shortest other one"),
    "turn_cos": FeatureInfo("pair", "1", "cosine of ta_, 0 where unknown"),
    "turn_sin": FeatureInfo("pair", "1", "sine of ta_, 0 where unknown"),
}
"""What amt's own columns give; `AMT_FEATURES` may be followed by any covariate of the table."""

_NEEDED = ("case_", "step_id_", "sl_")
_INDIVIDUAL_COLUMNS = ("individual", "id", "animal", "animal_id", "individual_id", "id_")
_OTHER = ("x1_", "y1_", "x2_", "y2_", "dt_", "t2_", "ta_")


def amt_long_table(table: pd.DataFrame, *, individual: str | None = None, allow_unknown: bool = False) -> pd.DataFrame:
    """The random steps of R's amt under the names of a long table, for `mimic.tables.from_table`.

    Parameters
    ----------
    table
        As `amt::random_steps` gives it and `write.csv` exports it: case_ (TRUE/FALSE), step_id_, sl_; and burst_,
        ta_, t1_, ..., where there are any. A blank or numbered first column of row names is left out.
    individual
        The column of the animal. By default individual, id, animal, animal_id, individual_id or id_, the first that
        is there; without one the table is of one animal, "1".
    allow_unknown
        Whether a step may come without its observed end, for prediction.

    Returns
    -------
    individual, decision (numbered from 0 within each individual, by first appearance), choice (0 is the step that
    was made, then the random ones in their order), selected (0/1), the features of `AMT_FEATURES` that the table
    allows, time_utc (t1_, the start of the step), burst, step_id, and all other columns as they are.

    Raises
    ------
    ValueError
        If columns are missing, case_ is neither true nor false, or a step has another number of observed ends than
        one: step_id_ repeats between animals (and between bursts), so that without their column strata run together.

    Notes
    -----
    A stratum is an (individual, burst_, step_id_). In amt step_id_ counts from 1 within each call of `steps`, so that
    animals nested in a list column share their numbers.
    """
    require_columns(list(table.columns), _NEEDED, where="random steps")
    table = table.reset_index(drop=True)
    who = individual or next((name for name in _INDIVIDUAL_COLUMNS if name in table), None)
    if who is not None:
        require_columns(list(table.columns), [who], where="random steps")
    names = pd.Series("1", index=table.index) if who is None else _names(table[who])
    strata = [names, table["burst_"] if "burst_" in table else pd.Series(0, index=table.index), table["step_id_"]]
    stratum = pd.DataFrame(dict(enumerate(strata))).groupby([0, 1, 2], sort=False, dropna=False).ngroup()
    selected = _truth(table["case_"])
    _check_strata(names, table["step_id_"], stratum, selected, who, "burst_" in table, allow_unknown)
    first = stratum.drop_duplicates()
    number = names[first.index].groupby(names[first.index], sort=False).cumcount().to_numpy()
    # the observed end comes first, whatever the order of the file
    order = pd.DataFrame({"s": stratum, "o": ~selected}).groupby(["s", "o"], sort=False).cumcount().to_numpy()
    made: dict[str, Any] = {
        INDIVIDUAL: names,
        DECISION: number[stratum],
        CHOICE: np.where(selected, 0, order + 1),
        SELECTED: selected.astype(np.int8),
        **_movement(table),
    }
    if "t1_" in table:
        made[TIME] = table["t1_"]
    used = {who, "case_", "step_id_", "sl_", "t1_", "burst_", "", "Unnamed: 0", *_OTHER, *made}
    rest = table[[name for name in table if name not in used]]
    kept = {BURST: strata[1], "step_id": table["step_id_"]}
    return pd.concat([pd.DataFrame(made), pd.DataFrame(kept), rest], axis=1)


def from_random_steps(
    table: pd.DataFrame,
    *,
    features: Sequence[str] | Mapping[str, FeatureInfo] = (),
    individual: str | None = None,
) -> ChoiceSets:
    """The choice sets of random steps as R's amt makes them: the step that was made against random ones.

    Parameters
    ----------
    table, individual
        As for `amt_long_table`.
    features
        Covariates among its columns, beside step length and turn, which are always there.

    Raises
    ------
    ValueError
        As `amt_long_table` and `mimic.tables.from_table`.

    Notes
    -----
    The choices are a sample, drawn more densely where steps are likely: coefficients of sl_, log(sl_) and cos(ta_)
    correct amt's tentative distributions, and D and GMP hold for these samples only.

    Example
    -------
    >>> steps = pd.DataFrame({"case_": [True, False], "step_id_": 1, "sl_": [100.0, 250.0], "ta_": [0.0, 3.14]})
    >>> cs = from_random_steps(steps)
    >>> cs.selected.tolist(), cs.features["turn_cos"].round(2).tolist()
    ([0], [1.0, -1.0])
    """
    long = amt_long_table(table, individual=individual)
    own = {name: info for name, info in AMT_FEATURES.items() if name in long}
    more = dict(features) if isinstance(features, Mapping) else {name: FeatureInfo("choice") for name in features}
    return from_table(long, features={**own, **more})


def read_random_steps(
    path: str | Path,
    *,
    features: Mapping[str, FeatureInfo],
    individual: str | None = None,
    derive: Mapping[str, str] | None = None,
    allow_unknown: bool = False,
) -> ChoiceSets:
    """The choice sets in a file of amt's random steps (.csv, .csv.gz or .parquet).

    `derive` makes columns first: name -> formula over those of the file and of `amt_long_table`, such as
    `log(forest + 1)`. What is named in `features` may be one of amt's own (`step_length`), a covariate or derived.

    Raises
    ------
    FileNotFoundError, ValueError
        As `mimic.longtable.read_long_table` and `from_random_steps`; if a derived name is taken.
    """
    read = read_long_table(path, columns=None if individual is None else {INDIVIDUAL: individual})
    long = amt_long_table(read, individual=individual, allow_unknown=allow_unknown)
    for name, formula in (derive or {}).items():
        if name in long:
            raise ValueError(f"the derived column {name} is in {Path(path).name} already; give it another name.")
        long[name] = quantity(formula, long)
    own = {name: info for name, info in AMT_FEATURES.items() if name in long}
    return from_table(long, features={**features, **own}, allow_unknown=allow_unknown)


def _movement(table: pd.DataFrame) -> dict[str, np.ndarray]:
    """Step length, its logarithm, and the turn with 0 where it is unknown: name -> (row,)."""
    length = pd.to_numeric(table["sl_"], errors="coerce").to_numpy(dtype=np.float64)
    bad = ~np.isfinite(length) | (length < 0)
    if bad.any():
        raise ValueError(f"sl_ must be 0 or more; got {bad.sum():,} others (rows {examples(np.flatnonzero(bad) + 1)}).")
    shortest = length[length > 0].min(initial=np.inf)
    made = {"step_length": length, "log_step_length": np.log(np.maximum(length, min(shortest, 1e300)))}
    if "ta_" in table:
        turn = pd.to_numeric(table["ta_"], errors="coerce").to_numpy(dtype=np.float64)
        known = ~np.isnan(turn)
        angle = np.where(known, turn, 0.0)
        made |= {"turn_cos": np.where(known, np.cos(angle), 0.0), "turn_sin": np.where(known, np.sin(angle), 0.0)}
    return made


def _names(column: pd.Series) -> pd.Series:
    if column.isna().any():
        raise ValueError(f"{column.name} is missing in {column.isna().sum():,} rows; every step needs its animal.")
    return column.astype(str)


def _truth(column: pd.Series) -> np.ndarray:
    """R's and Python's TRUE and FALSE, 1 and 0: (row,), bool."""
    text = column.astype(str).str.strip().str.lower()
    wrong = ~text.isin(["true", "false", "1", "0", "1.0", "0.0", "t", "f"])
    if wrong.any():
        raise ValueError(f"case_ must be TRUE or FALSE; got {examples(column[wrong])}.")
    return text.isin(["true", "1", "1.0", "t"]).to_numpy()


def _check_strata(
    names: pd.Series,
    step: pd.Series,
    stratum: pd.Series,
    selected: np.ndarray,
    who: str | None,
    has_burst: bool,
    allow: bool,
) -> None:
    counts = np.bincount(stratum, weights=selected)
    wrong = np.flatnonzero((counts > 1) | ((counts == 0) & (not allow)))
    if len(wrong):
        of = np.flatnonzero(stratum.isin(wrong[:5]))
        ids = [f"{names.iloc[i]}/{step.iloc[i]}" for i in of]
        absent = " and ".join([*(["the animal"] if who is None else []), *([] if has_burst else ["burst_"])])
        hint = f"step_id_ repeats between animals and bursts: the table has no column of {absent}." if absent else ""
        raise ValueError(
            f"{len(wrong):,} of {len(counts):,} steps have not exactly one observed end (case_ TRUE; individual/step "
            f"{examples(ids)}). {hint or 'Export the random steps again.'}"
        )
