"""A registry into CSV files and readable copies of its figures, and files without a record into the archive."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import sqlalchemy as sa

from mimic.filestore import FileStore
from mimic.registry_queries import all_tables, named_files
from mimic.registry_tables import EVALUATIONS, FILES, Database
from mimic.schema import examples
from mimic.tablebytes import from_bytes

__all__ = ["ArchiveReport", "archive_files", "csv_files", "figure_copies", "stored_tables", "write_files"]

# A file without a record may belong to a process that is about to record it.
_FRESH_S = 60.0


@dataclass(frozen=True)
class ArchiveReport:
    """What `Registry.archive` did and found.

    Parameters
    ----------
    moved
        New places of the files whose record is gone.
    missing
        Records whose file is gone: columns record (id), kind ("run" or "figure"), role and sha256.
    """

    moved: tuple[Path, ...]
    missing: pd.DataFrame


def archive_files(database: Database, store: FileStore) -> ArchiveReport:
    """Move files whose record is gone into the archive, and tell which records have lost their file."""
    with database.writing() as connection:  # nobody records anything meanwhile
        named = named_files(connection)
        known = set(connection.scalars(sa.select(FILES.c.sha256)))
        moved = store.archive(store.unwanted({one[3] for one in named}, known=known, fresh_s=_FRESH_S))
    missing = [one for one in named if store.find(one[3]) is None]
    return ArchiveReport(tuple(moved), pd.DataFrame(missing, columns=["record", "kind", "role", "sha256"]))


def stored_tables(database: Database) -> dict[str, pd.DataFrame]:
    """All tables of the database by name, and `evaluation_rows`: the tables of all evaluations, one after the other."""
    with database.reading() as connection:
        tables = all_tables(connection)
        stored = connection.execute(sa.select(EVALUATIONS.c.id, EVALUATIONS.c.parquet).order_by(EVALUATIONS.c.id))
        parts = [from_bytes(raw).assign(evaluation=identity) for identity, raw in stored]
    rows = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame({"evaluation": []})
    return {**tables, "evaluation_rows": rows}


def csv_files(tables: Mapping[str, pd.DataFrame]) -> dict[str, bytes]:
    """Name -> content of a CSV file for each table; numbers with all their digits."""
    return {f"{name}.csv": table.to_csv(index=False).encode() for name, table in tables.items()}


def figure_copies(figures: pd.DataFrame, store: FileStore) -> dict[str, bytes]:
    """Readable name -> content of each figure, and `index.csv` that tells which is which, its caption and its runs.

    Raises
    ------
    FileNotFoundError
        If the file of a figure is gone.
    """
    files = [store.path(address) for address in figures["file"]]
    names = _readable_names(figures, files)
    copies = {f"figures/{name}": file.read_bytes() for name, file in zip(names, files, strict=True)}
    return {**copies, "figures/index.csv": figures.assign(exported_as=names).to_csv(index=False).encode()}


def write_files(folder: Path, contents: Mapping[str, bytes], *, overwrite: bool = False) -> list[Path]:
    """Write named contents into a folder, made where it is not, and get their paths.

    Raises
    ------
    FileExistsError
        If a file is there and `overwrite` is False; then nothing is written.
    """
    paths = [folder / name for name in contents]
    taken = [str(path) for path in paths if path.exists()]
    if taken and not overwrite:
        raise FileExistsError(f"{examples(taken)} exist; choose another folder, or replace them with overwrite.")
    for path, content in zip(paths, contents.values(), strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return paths


def _readable_names(figures: pd.DataFrame, files: list[Path]) -> list[str]:
    """A file name for each figure: its name, with the beginning of its id where names clash."""
    plain = ["".join(c if c.isalnum() or c in "-_" else "_" for c in name) or "figure" for name in figures["name"]]
    lower = [f"{name}{file.suffix}".lower() for name, file in zip(plain, files, strict=True)]
    return [
        name + (f"-{identity[:8]}" if lower.count(f"{name}{file.suffix}".lower()) > 1 else "") + file.suffix
        for name, identity, file in zip(plain, figures["id"], files, strict=True)
    ]
