"""A CSV or Parquet file, gzipped or not, into the rows of a table, or into one message that says what is wrong."""

from __future__ import annotations

import gzip
import io
import zlib
from pathlib import Path

import pandas as pd
import pyarrow as pa

__all__ = ["read_rows"]


def read_rows(path: str | Path) -> pd.DataFrame:
    """The rows of a track file, in the order of the file.

    Parameters
    ----------
    path
        CSV (comma, semicolon or tab) or Parquet; either may be gzipped. Told apart by their first
        bytes, so a wrong suffix does no harm.

    Returns
    -------
    pd.DataFrame
        One row a line. From CSV every column is text, "007" included; Parquet keeps its types.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is a folder, empty, without rows, damaged, or not a table.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"no track file at {path}; check the path.")
    if path.is_dir():
        raise ValueError(f"{path} is a folder; expected a track file (CSV or Parquet).")
    raw = path.read_bytes()
    if raw[:2] == b"\x1f\x8b" or (raw and path.suffix.lower() == ".gz"):
        raw = _gunzip(raw, path)
    if not raw.strip():
        raise ValueError(f"{path} is empty; expected a table with a header and rows. Download or export it again.")
    is_parquet = raw[:4] == b"PAR1" or ".parquet" in [s.lower() for s in path.suffixes]
    rows = _parse_parquet(raw, path) if is_parquet else _parse_csv(raw, path)
    if rows.empty:
        raise ValueError(f"{path} has a header but no rows ({', '.join(map(str, rows.columns))}); export it again.")
    return rows


def _gunzip(raw: bytes, path: Path) -> bytes:
    try:
        return gzip.decompress(raw)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(
            f"{path} is not a whole gzip file ({error}); it may be cut off or not gzipped at all. "
            "Download it again, or drop the suffix .gz if it is plain text."
        ) from error


def _parse_parquet(raw: bytes, path: Path) -> pd.DataFrame:
    try:
        rows = pd.read_parquet(io.BytesIO(raw))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise ValueError(f"{path} is not a whole Parquet file ({error}); it may be cut off. Write it again.") from error
    if rows.index.names != [None]:
        rows = rows.reset_index()
    rows = rows.reset_index(drop=True).rename(columns=str)
    rows.attrs = {}
    return rows


def _parse_csv(raw: bytes, path: Path) -> pd.DataFrame:
    head = raw[:4096].lstrip(b"\xef\xbb\xbf \t\r\n")
    for is_it, what in [
        (head[:2] == b"PK", "a zip archive or a workbook: unpack it, or save it as CSV"),
        (head[:1] in (b"<", b"{"), "HTML, XML or JSON: a download may have ended at a page of license terms"),
        (b"\0" in head, "binary, or text that is not UTF-8"),
    ]:
        if is_it:
            raise ValueError(f"{path} is not a table; it looks like {what}.")
    header = head.split(b"\n", 1)[0]
    separator = max(",;\t", key=lambda sign: header.count(sign.encode()))
    try:
        rows = pd.read_csv(
            io.BytesIO(raw),
            sep=separator,
            dtype=str,
            keep_default_na=False,
            encoding="utf-8-sig",
            skipinitialspace=True,
        )
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8."
        ) from error
    except pd.errors.ParserError as error:
        raise ValueError(f"{path} is not a table: {str(error).strip()}") from error
    if not isinstance(rows.index, pd.RangeIndex):
        # pandas would silently take the first column for an index and shift the others.
        raise ValueError(f"{path} is not a table: its rows have more values than its header has names.")
    if len(rows.columns) < 2:
        raise ValueError(
            f"{path} is not a table: expected columns separated by comma, semicolon or tab; "
            f"got one column {str(rows.columns[0])[:60]!r}."
        )
    return rows.rename(columns=lambda name: str(name).strip())
