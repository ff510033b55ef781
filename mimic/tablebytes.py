"""A table into bytes from which exactly the same table comes back, and back."""

from __future__ import annotations

import io

import pandas as pd

__all__ = ["from_bytes", "is_same_table", "to_bytes"]


def to_bytes(table: pd.DataFrame) -> bytes:
    """A table as the bytes of a Parquet file.

    Raises
    ------
    ValueError
        If the same table would not come back: its dtypes, missing values, order and index.
    """
    buffer = io.BytesIO()
    try:
        table.to_parquet(buffer)
    except (TypeError, ValueError) as error:  # pyarrow's own errors are ValueErrors
        raise ValueError(f"this table cannot be stored: {' '.join(str(error).split())}.") from None
    if not is_same_table(from_bytes(buffer.getvalue()), table):
        raise ValueError(
            "this table would not come back as it is; give every column one kind of values (numbers, text, times)."
        )
    return buffer.getvalue()


def from_bytes(raw: bytes) -> pd.DataFrame:
    """The table that `to_bytes` took."""
    return pd.read_parquet(io.BytesIO(raw))


def is_same_table(one: pd.DataFrame, other: pd.DataFrame) -> bool:
    """Whether two tables have the same columns, dtypes, values and index; missing equals missing."""
    return one.dtypes.astype(str).to_dict() == other.dtypes.astype(str).to_dict() and one.equals(other)
