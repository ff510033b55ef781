"""Log-odds of choice sets into transition probabilities whose rows are origins, and files that keep it so."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import sparse

from mimic.probability import grouped_log_softmax
from mimic.schema import CHOICE, ORIGIN, ChoiceSets, examples, require_columns
from mimic.scores import check_log_odds

if TYPE_CHECKING:
    import xarray as xr

__all__ = [
    "TransitionMatrix",
    "check_transitions",
    "read_transitions",
    "to_transition_array",
    "to_transition_matrix",
    "transition_table",
    "write_transitions",
]

PROBABILITY = "probability"

_TOLERANCE = 1e-6
_MOST_ENTRIES = 200_000_000  # of a dense array: 1.6 GB


@dataclass(frozen=True, eq=False)
class TransitionMatrix:
    """Probabilities to go from an origin (row) to a choice (column), checked when built.

    Parameters
    ----------
    probability
        (origin, choice), sparse; each row sums to 1.
    origins, choices
        (origin,) and (choice,): what the rows and columns are.

    Raises
    ------
    ValueError
        If shapes disagree, and as `check_transitions`.
    """

    probability: sparse.csr_array
    origins: np.ndarray
    choices: np.ndarray

    def __post_init__(self) -> None:
        shape = (len(self.origins), len(self.choices))
        if self.probability.shape != shape:
            raise ValueError(
                f"expected a matrix (origin, choice) = {shape}; got {self.probability.shape}."
                + (" It is transposed: rows must be origins." if self.probability.shape == shape[::-1] else "")
            )
        check_transitions(self.probability)


def transition_table(log_odds: np.ndarray, choice_sets: ChoiceSets) -> pd.DataFrame:
    """The probability to go from each origin to each of its choices: one row an origin and choice.

    Parameters
    ----------
    log_odds
        (row,), nats; -inf means impossible.
    choice_sets
        Decisions with the column `origin`; selections are not read.

    Returns
    -------
    Columns origin, choice, probability and n_decisions (of that origin), sorted by origin and choice. Where an origin
    has several decisions (other months, other individuals) the probability is their arithmetic mean, a choice that
    a decision did not have counting as 0: each origin sums to 1.

    Raises
    ------
    ValueError
        If there is no column `origin` or it has gaps, or log-odds have another shape, are NaN, or all -inf.

    Example
    -------
    >>> decisions = pd.DataFrame({"individual": "a", "decision": [1, 2], "origin": [7, 7]})
    >>> cs = ChoiceSets(decisions, [0, 2, 4], [7, 8, 7, 9], [-1, -1])
    >>> transition_table(np.log([1.0, 3.0, 1.0, 1.0]), cs)
       origin  choice  probability  n_decisions
    0       7       7        0.375            2
    1       7       8        0.375            2
    2       7       9        0.250            2
    """
    cs = choice_sets
    require_columns(list(cs.decisions.columns), [ORIGIN], where="decisions")
    if cs.decisions[ORIGIN].isna().any():
        raise ValueError(f"{int(cs.decisions[ORIGIN].isna().sum())} decisions have no origin; leave them out first.")
    check_log_odds({"of the transitions": log_odds}, cs)
    origin = cs.decisions[ORIGIN].to_numpy()
    codes, origins = pd.factorize(origin, sort=True)
    choice_codes, choices = pd.factorize(cs.choice, sort=True)
    n_decisions = np.bincount(codes, minlength=len(origins))
    p = np.exp(grouped_log_softmax(log_odds, cs.offsets)) / np.repeat(n_decisions[codes], cs.n_choices)
    pair, at = np.unique(np.repeat(codes, cs.n_choices) * max(len(choices), 1) + choice_codes, return_inverse=True)
    of_pair = pair // max(len(choices), 1)
    return pd.DataFrame(
        {
            ORIGIN: np.asarray(origins)[of_pair],
            CHOICE: np.asarray(choices)[pair % max(len(choices), 1)],
            PROBABILITY: np.bincount(at, p, len(pair)),
            "n_decisions": n_decisions[of_pair],
        }
    )


def check_transitions(
    transitions: pd.DataFrame | sparse.sparray | np.ndarray | xr.DataArray, *, tolerance: float = _TOLERANCE
) -> None:
    """Refuse what are no probabilities from origins (rows) to choices (columns).

    Parameters
    ----------
    transitions
        A long table with the columns origin, choice, probability; a matrix (origin, choice), sparse or dense; or a
        DataArray with these dimensions, in any order.
    tolerance
        Within which the probabilities of each origin must sum to 1.

    Raises
    ------
    ValueError
        If columns or dimensions are missing, an (origin, choice) is there twice, a probability is negative or not
        finite, or an origin does not sum to 1; where each choice sums to 1 instead, it says "transposed".

    Example
    -------
    >>> check_transitions(np.array([[0.9, 0.1], [0.5, 0.5]]).T)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    ValueError: the transitions are transposed: columns (choices) sum to 1, and rows (origins) to 0.6 to 1.4. ...
    """
    p, by_origin, by_choice = _sums(transitions)
    bad = ~np.isfinite(p) | (p < 0)
    if bad.any():
        raise ValueError(f"probabilities must be finite and 0 or more; {bad.sum()} of {len(p)} are not.")
    off = np.abs(by_origin - 1) > tolerance
    if not off.any():
        return
    sums = f"{by_origin.min():.4g} to {by_origin.max():.4g}"
    # choices that no origin reaches may stand in a matrix, and sum to 0
    reached = by_choice[by_choice > tolerance]
    if len(reached) and (np.abs(reached - 1) <= tolerance).all():
        raise ValueError(
            f"the transitions are transposed: columns (choices) sum to 1, and rows (origins) to {sums}. "
            "Rows must be origins: give the transpose, or exchange the names origin and choice."
        )
    raise ValueError(
        f"the probabilities of every origin must sum to 1; {off.sum()} of {len(off)} do not (sums {sums}). "
        "Are choices missing, or are these odds?"
    )


def to_transition_matrix(table: pd.DataFrame) -> TransitionMatrix:
    """The long table as a sparse matrix with the labels of its rows and columns, both sorted.

    Raises
    ------
    ValueError
        As `check_transitions`.
    """
    check_transitions(table)
    rows, origins = pd.factorize(table[ORIGIN], sort=True)
    columns, choices = pd.factorize(table[CHOICE], sort=True)
    matrix = sparse.coo_array((table[PROBABILITY], (rows, columns)), shape=(len(origins), len(choices)))
    return TransitionMatrix(matrix.tocsr(), np.asarray(origins), np.asarray(choices))


def to_transition_array(table: pd.DataFrame) -> xr.DataArray:
    """The long table as a dense DataArray with the dimensions ("origin", "choice"); pairs not in the table are 0.

    Raises
    ------
    ValueError
        As `check_transitions`, or if it would have more than 200 million entries.
    """
    import xarray as xr

    found = to_transition_matrix(table)
    n_entries = len(found.origins) * len(found.choices)
    if n_entries > _MOST_ENTRIES:
        raise ValueError(
            f"{len(found.origins):,} origins x {len(found.choices):,} choices are {n_entries:,} entries, too many for "
            "a dense array. Use the table (CSV), or to_transition_matrix."
        )
    coordinates = {ORIGIN: found.origins, CHOICE: found.choices}
    attributes = {"long_name": "probability to go from origin to choice", "units": "1"}
    return xr.DataArray(
        found.probability.toarray(), coords=coordinates, dims=(ORIGIN, CHOICE), name=PROBABILITY, attrs=attributes
    )


def write_transitions(table: pd.DataFrame, path: str | Path) -> Path:
    """The path of the file, written: .csv or .csv.gz (the long table), or .nc (dense, dimensions origin and choice).

    Raises
    ------
    ValueError
        As `check_transitions` and `to_transition_array`, or if the suffix is another.
    """
    path = Path(path)
    check_transitions(table)
    if path.name.endswith((".csv", ".csv.gz")):
        table.to_csv(path, index=False)
    elif path.suffix == ".nc":
        array = to_transition_array(table)
        array.to_dataset().to_netcdf(path, engine="h5netcdf", encoding={PROBABILITY: {"zlib": True}})
    else:
        raise ValueError(f"expected a file that ends in .csv, .csv.gz or .nc; got {path.name}.")
    return path


def read_transitions(path: str | Path) -> pd.DataFrame:
    """The long table (origin, choice, probability) in a file, checked and sorted; zeros are left out.

    Columns and dimensions are known by their names, in whatever order they are. Labels that are whole numbers in
    plain digits are read as int64, others as text.

    Raises
    ------
    ValueError
        As `check_transitions`: a transposed file is refused; or if the suffix is another.
    """
    path = Path(path)
    if path.name.endswith((".csv", ".csv.gz")):
        text = pd.read_csv(path, dtype=str, keep_default_na=False)
        require_columns(list(text.columns), [ORIGIN, CHOICE, PROBABILITY], where=path.name)
        table = pd.DataFrame({name: _labels(text[name]) for name in (ORIGIN, CHOICE)})
        table[PROBABILITY] = text[PROBABILITY].astype(np.float64)
    elif path.suffix == ".nc":
        table = _read_netcdf(path)
    else:
        raise ValueError(f"expected a file that ends in .csv, .csv.gz or .nc; got {path.name}.")
    check_transitions(table)
    table = table[table[PROBABILITY] != 0]
    return table.sort_values([ORIGIN, CHOICE], ignore_index=True)


def _read_netcdf(path: Path) -> pd.DataFrame:
    import xarray as xr

    with xr.open_dataset(path, engine="h5netcdf") as file:
        require_columns([str(v) for v in file.variables], [ORIGIN, CHOICE, PROBABILITY], where=path.name)
        array = file[PROBABILITY].load()
    check_transitions(array)
    array = array.transpose(ORIGIN, CHOICE)
    row, column = np.nonzero(array.to_numpy())
    return pd.DataFrame(
        {
            ORIGIN: array[ORIGIN].to_numpy()[row],
            CHOICE: array[CHOICE].to_numpy()[column],
            PROBABILITY: array.to_numpy()[row, column],
        }
    )


def _labels(text: pd.Series) -> pd.Series:
    """Whole numbers where all are written in plain digits ("7", not "07"), else the text."""
    return text.astype(np.int64) if text.str.fullmatch(r"0|-?[1-9]\d*").all() else text


def _sums(
    transitions: pd.DataFrame | sparse.sparray | np.ndarray | xr.DataArray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The probabilities, and their sums by origin and by choice."""
    if isinstance(transitions, pd.DataFrame):
        require_columns(list(transitions.columns), [ORIGIN, CHOICE, PROBABILITY], where="transitions")
        twice = transitions.duplicated([ORIGIN, CHOICE])
        if twice.any():
            keys = transitions.loc[twice, [ORIGIN, CHOICE]].astype(str).agg(" to ".join, axis=1)
            raise ValueError(f"{twice.sum()} transitions are there twice ({examples(keys)}); add them up first.")
        by = [transitions.groupby(name)[PROBABILITY].sum().to_numpy(np.float64) for name in (ORIGIN, CHOICE)]
        return transitions[PROBABILITY].to_numpy(np.float64), by[0], by[1]
    if isinstance(transitions, np.ndarray | sparse.sparray | sparse.spmatrix):
        matrix = sparse.csr_array(transitions)
    else:
        missing = {ORIGIN, CHOICE} ^ set(map(str, transitions.dims))
        if missing:
            raise ValueError(f"expected the dimensions origin and choice; got {', '.join(map(str, transitions.dims))}.")
        matrix = sparse.csr_array(transitions.transpose(ORIGIN, CHOICE).to_numpy())
    return (
        matrix.data.astype(np.float64),
        np.asarray(matrix.sum(axis=1)).ravel(),
        np.asarray(matrix.sum(axis=0)).ravel(),
    )
