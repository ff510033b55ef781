"""A .csv, .csv.gz or .parquet file of choices into a table in memory, its numbers in double precision."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from mimic.schema import INDIVIDUAL

__all__ = ["read_long_table"]


def read_long_table(path: str | Path, *, columns: Mapping[str, str] | None = None) -> pd.DataFrame:
    """The rows of a long table of choices, under the names of the file.

    Parameters
    ----------
    columns
        Our names to the file's, where they differ. Individuals are read as text, so that the tags 7 and 007 stay
        two animals.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is of another kind, empty or corrupt.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no choice table at {path}; give the path of a .csv, .csv.gz or .parquet file.")
    names = {
        "_" + INDIVIDUAL,
        INDIVIDUAL,
        *(theirs for ours, theirs in (columns or {}).items() if ours.removeprefix("_") == INDIVIDUAL),
    }
    read: Callable[[], pd.DataFrame]
    if path.name.endswith(".parquet"):
        kind, read = "Parquet", lambda: pq.ParquetFile(path).read().to_pandas()
    elif path.name.endswith((".csv", ".csv.gz")):
        kind, read = "CSV", lambda: pd.read_csv(path, dtype=dict.fromkeys(names, str), low_memory=False)
    else:
        raise ValueError(f"a choice table must be a .csv, .csv.gz or .parquet file; got {path.name}.")
    try:
        return read()
    except pd.errors.EmptyDataError:
        raise ValueError(f"{path} is empty; expected a header line and one line a choice.") from None
    except (pa.ArrowException, OSError, EOFError, ValueError, zlib.error) as error:
        raise ValueError(f"{path} cannot be read as {kind}; it is corrupt or cut short ({error}).") from error
