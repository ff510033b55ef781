"""Questions to an open registry, and changes of it, within a transaction: what `mimic.registry` is made of."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import pandas as pd
import sqlalchemy as sa

from mimic.registry_tables import EPOCHS, EXPERIMENTS, FIGURES, NOTES, RUNS, TABLES, USES
from mimic.schema import examples

__all__ = [
    "add_uses",
    "all_tables",
    "delete_runs",
    "epoch_rows",
    "fetch",
    "known_ids",
    "named_files",
    "notes_by_id",
    "now_utc",
    "parts_of",
    "require_runs",
    "run_rows",
    "runs_of",
]

# Values in one statement; databases have a limit.
_CHUNK = 500


def now_utc() -> str:
    return datetime.now(UTC).replace(tzinfo=None).isoformat(timespec="microseconds")


def parts_of(values: Sequence[str]) -> Iterator[list[str]]:
    distinct = list(dict.fromkeys(values))
    for start in range(0, len(distinct), _CHUNK):
        yield distinct[start : start + _CHUNK]


def fetch(connection: sa.Connection, statement: sa.Select[Any]) -> pd.DataFrame:
    result = connection.execute(statement)
    return pd.DataFrame([tuple(row) for row in result], columns=list(result.keys()))


def known_ids(connection: sa.Connection, table: sa.Table, ids: Sequence[str]) -> set[str]:
    found: set[str] = set()
    for part in parts_of(ids):
        found |= set(connection.scalars(sa.select(table.c.id).where(table.c.id.in_(part))))
    return found


def require_runs(connection: sa.Connection, run_ids: Sequence[str]) -> None:
    known = known_ids(connection, RUNS, run_ids)
    unknown = [run_id for run_id in run_ids if run_id not in known]
    if unknown:
        raise ValueError(f"unknown run{'s' if len(unknown) > 1 else ''} {examples(unknown)}; record them first.")


def run_rows(connection: sa.Connection, run_ids: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Rows of the table `runs` in the order of recording, with notes and the names of their experiments."""
    statement = sa.select(RUNS)
    parts = [statement] if run_ids is None else [statement.where(RUNS.c.id.in_(p)) for p in parts_of(run_ids)]
    rows = [dict(row) for part in parts for row in connection.execute(part).mappings()]
    names = {row.id: row.name for row in connection.execute(sa.select(EXPERIMENTS.c.id, EXPERIMENTS.c.name))}
    notes = notes_by_id(connection)
    for row in rows:
        row["experiment"] = names.get(row["experiment"], row["experiment"])
        row["notes"] = notes.get(row["id"], "")
    return sorted(rows, key=lambda row: row["number"])


def runs_of(connection: sa.Connection, experiment: str) -> list[str]:
    """Ids of the runs that an experiment uses, given by its id or by the name of one or several.

    Raises
    ------
    ValueError
        If there is no such experiment.
    """
    rows = connection.execute(sa.select(EXPERIMENTS.c.id, EXPERIMENTS.c.name)).all()
    used = set(connection.scalars(sa.select(USES.c.experiment).distinct()))
    wanted = {row.id for row in rows if experiment in (row.id, row.name)} | ({experiment} & used)
    if not wanted:
        names = {row.id: row.name for row in rows}
        known = examples(sorted({names.get(one, one) for one in {*names, *used}}))
        raise ValueError(f"no experiment {experiment!r} in the registry; known are {known or 'none'}.")
    return list(connection.scalars(sa.select(USES.c.run).where(USES.c.experiment.in_(sorted(wanted)))))


def epoch_rows(connection: sa.Connection, run_ids: Sequence[str] | None) -> tuple[pd.DataFrame, list[str]]:
    """Rows of the table `epochs` in the order of the runs asked for, and the columns of their histories."""
    statement = sa.select(RUNS.c.id, RUNS.c.history_columns).order_by(RUNS.c.number)
    known = {row.id: row.history_columns for row in connection.execute(statement)}
    ids = list(known) if run_ids is None else [one for one in dict.fromkeys(run_ids) if one in known]
    epochs = sa.select(EPOCHS)
    whole = len(ids) == len(known)
    parts = [epochs] if whole else [epochs.where(EPOCHS.c.run.in_(part)) for part in parts_of(ids)]
    found = [tuple(row) for part in parts for row in connection.execute(part)]
    rows = pd.DataFrame(found, columns=[column.name for column in EPOCHS.c])
    place = rows["run"].map({one: number for number, one in enumerate(ids)})
    rows = rows.assign(place=place).sort_values(["place", "row"], ignore_index=True)
    names = [name for text in dict.fromkeys(known[one] for one in ids) for name, _ in json.loads(text)]
    return rows, list(dict.fromkeys(names))


def notes_by_id(connection: sa.Connection) -> dict[str, str]:
    """Id of a run, figure or experiment -> its notes in order, with semicolons between."""
    notes: dict[str, list[str]] = {}
    for row in connection.execute(sa.select(NOTES.c.about, NOTES.c.text).order_by(NOTES.c.number)):
        notes.setdefault(row.about, []).append(row.text)
    return {identity: "; ".join(texts) for identity, texts in notes.items()}


def add_uses(connection: sa.Connection, experiment: str, run_ids: Sequence[str]) -> None:
    there = set(connection.scalars(sa.select(USES.c.run).where(USES.c.experiment == experiment)))
    new = [{"experiment": experiment, "run": run_id} for run_id in dict.fromkeys(run_ids) if run_id not in there]
    if new:
        connection.execute(USES.insert(), new)


def delete_runs(connection: sa.Connection, run_ids: Sequence[str]) -> None:
    for part in parts_of(run_ids):
        connection.execute(EPOCHS.delete().where(EPOCHS.c.run.in_(part)))
        connection.execute(RUNS.delete().where(RUNS.c.id.in_(part)))


def named_files(connection: sa.Connection) -> list[tuple[str, str, str, str]]:
    """Every file that a record names: record, kind, role, address."""
    runs = connection.execute(sa.select(RUNS.c.id, RUNS.c.files).order_by(RUNS.c.number))
    named = [(row.id, "run", role, file) for row in runs for role, file in json.loads(row.files).items()]
    figures = connection.execute(sa.select(FIGURES.c.id, FIGURES.c.file).order_by(FIGURES.c.id))
    return named + [(row.id, "figure", "figure", row.file) for row in figures]


def all_tables(connection: sa.Connection) -> dict[str, pd.DataFrame]:
    """Every table of the database as it is, ordered by its key; without the bytes of evaluations."""
    tables = {}
    for name, table in TABLES.items():
        columns = [column for column in table.c if column.name != "parquet"]
        tables[name] = fetch(connection, sa.select(*columns).order_by(*table.primary_key))
    return tables
