"""Experiments, runs, epochs, evaluations and figures into a registry that many processes share, and into tables."""

from __future__ import annotations

import hashlib
import json
import os
import socket
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import sqlalchemy as sa

from mimic.expressions import parse
from mimic.filestore import FileStore
from mimic.identity import canonical_json, content_id
from mimic.registry_queries import (
    add_uses,
    delete_runs,
    epoch_rows,
    fetch,
    known_ids,
    notes_by_id,
    now_utc,
    parts_of,
    require_runs,
    run_rows,
    runs_of,
)
from mimic.registry_tables import (
    ATTEMPTS,
    EPOCH_NUMBERS,
    EPOCHS,
    EVALUATIONS,
    EXPERIMENTS,
    FIGURES,
    FILES,
    NOTES,
    RUNS,
    USES,
    open_database,
)
from mimic.registry_upkeep import (
    ArchiveReport,
    archive_files,
    csv_files,
    figure_copies,
    stored_tables,
    write_files,
)
from mimic.runrecords import (
    RunRecord,
    epochs_table,
    flat_parameters,
    history_of,
    history_rows,
    record_of,
    run_row,
    runs_table,
    to_json,
    varying_columns,
)
from mimic.schema import examples, require_columns
from mimic.tablebytes import from_bytes, is_same_table, to_bytes

__all__ = ["ArchiveReport", "Registry", "RunRecord"]


class Registry:
    """The record of all that was trained: opened cheaply, and safe in several processes at once.

    Parameters
    ----------
    where
        A folder (`registry.sqlite` and `files/` in it, made where they are not), or the URL of a PostgreSQL
        database. A folder must be on a local disk: SQLite's WAL mode does not work on network file systems.
    files
        The folder of the files; by default `files` in the folder of the registry. Needed with a URL as soon as
        files are stored.
    create
        Whether to make a registry where there is none.

    Raises
    ------
    FileNotFoundError, ValueError, OSError, ModuleNotFoundError
        See `mimic.registry_tables.open_database`. Any method raises OSError when the database does not answer.

    Notes
    -----
    Each write is one transaction that waits for its turn (`BEGIN IMMEDIATE` in SQLite): after `kill -9` a record is
    there whole, with all its epochs, or not at all.
    """

    def __init__(self, where: str | Path, *, files: str | Path | None = None, create: bool = True) -> None:
        self._database = open_database(where, create=create)
        folder = Path(where) / "files" if files is None and "://" not in str(where) else files
        self._files = None if folder is None else FileStore(Path(folder))

    @property
    def name(self) -> str:
        """Where the registry is, without passwords."""
        return self._database.name

    # Experiments and runs

    def record_experiment(self, *, name: str, configuration: Mapping[str, Any], data: str = "", code: str = "") -> str:
        """Record an experiment, unless it is there, and get its id: the same content has the same id."""
        identity = content_id({"name": name, "configuration": configuration, "data": data, "code": code})
        row = {"id": identity, "name": name, "configuration": to_json(dict(configuration))}
        with self._database.writing() as connection:
            if not known_ids(connection, EXPERIMENTS, [identity]):
                connection.execute(EXPERIMENTS.insert(), {**row, "data": data, "code": code, "recorded_utc": now_utc()})
        return identity

    def record_run(self, record: RunRecord, *, replace: bool = False) -> bool:
        """Record a run with its epochs, in one transaction; False if a run of that id is there, which then stays.

        Its experiment uses the run from now on in any case.

        Parameters
        ----------
        replace
            Put this record in the place of the earlier one.

        Raises
        ------
        ValueError
            If the id is taken by a run with another configuration, data or code version: ids mix nothing up.
        FileNotFoundError
            If a file of the record is not in the store.
        """
        row, epochs = run_row(record, now_utc()), history_rows(record, EPOCH_NUMBERS)
        with self._database.writing() as connection:
            earlier = connection.execute(sa.select(RUNS).where(RUNS.c.id == record.id)).mappings().first()
            if earlier is not None:
                _check_same(earlier, row)
            add_uses(connection, record.experiment, [record.id])
            if earlier is not None and not replace:
                return False
            self._claim(connection, record.files.values())
            delete_runs(connection, [record.id])
            connection.execute(RUNS.insert(), row)
            if epochs:
                connection.execute(EPOCHS.insert(), epochs)
        return True

    def record_uses(self, experiment: str, run_ids: Sequence[str]) -> None:
        """Record that an experiment uses runs that were found and not trained again.

        Raises
        ------
        ValueError
            If a run is unknown.
        """
        with self._database.writing() as connection:
            require_runs(connection, run_ids)
            add_uses(connection, experiment, run_ids)

    def record_attempt(self, run_id: str, experiment: str = "") -> None:
        """Record that a training starts now in this process. It stays, whatever becomes of the training."""
        row = {"run": run_id, "experiment": experiment, "process": f"{socket.gethostname()}:{os.getpid()}"}
        with self._database.writing() as connection:
            connection.execute(ATTEMPTS.insert(), {**row, "started_utc": now_utc()})

    def attempts(self) -> pd.DataFrame:
        """Every start of a training, in order: number, run, experiment, process (host:id), started_utc."""
        table = self._table(sa.select(ATTEMPTS).order_by(ATTEMPTS.c.number))
        return table.assign(started_utc=_times(table["started_utc"]))

    def experiments(self) -> pd.DataFrame:
        """One row an experiment: id, name, data, code, recorded_utc and n_runs, the runs it uses."""
        columns = [EXPERIMENTS.c[n] for n in ("id", "name", "data", "code", "recorded_utc")]
        table = self._table(sa.select(*columns).order_by(EXPERIMENTS.c.recorded_utc, EXPERIMENTS.c.id))
        uses = self._table(sa.select(USES))
        counts = table["id"].map(uses.groupby("experiment").size()).fillna(0).astype(int)
        return table.assign(recorded_utc=_times(table["recorded_utc"]), n_runs=counts)

    def find_run(self, run_id: str, *, history: bool = True) -> RunRecord | None:
        """The record of a run, or None."""
        return self.find_runs([run_id], history=history).get(run_id)

    def find_runs(self, run_ids: Sequence[str], *, history: bool = False) -> dict[str, RunRecord]:
        """Id -> record of those runs that are there, in the order asked for; with their histories if wanted."""
        with self._database.reading() as connection:
            rows = {row["id"]: row for row in run_rows(connection, run_ids)}
        asked = [run_id for run_id in dict.fromkeys(run_ids) if run_id in rows]
        epochs: dict[str, pd.DataFrame] = {}
        if history and asked:
            epochs = {str(run): part for run, part in self.epochs(asked).groupby("run", sort=False)}
        return {
            run_id: record_of(rows[run_id], _history(rows[run_id], epochs.get(run_id)) if history else None)
            for run_id in asked
        }

    def runs(
        self,
        where: str | None = None,
        *,
        experiment: str | None = None,
        model: str | None = None,
        columns: Sequence[str] | None = None,
    ) -> pd.DataFrame:
        """One row a run, in the order of recording, with parameters, metrics and facts as columns.

        Parameters
        ----------
        where
            A condition on the columns, such as `learning_rate < 0.01 and model == "environment"`; see
            `mimic.expressions`.
        experiment
            Only the runs that an experiment uses: its id, or the name of one or several.
        model
            Only the runs of the models of this name.
        columns
            Only these columns.

        Returns
        -------
        id, experiment (its name), model, status, seed, best_epoch, verdicts, n_verdicts, metrics, parameters, facts,
        seconds, message, notes, data, code, recorded_utc. Lists are text (`units` is "24-24-24"). See
        `mimic.runrecords.runs_table` for names that clash.

        Raises
        ------
        ValueError
            If the condition is none, or a column or the experiment is unknown.
        """
        table = runs_table(self._selected(where, experiment=experiment, model=model))
        if columns is not None and len(table):
            require_columns([str(c) for c in table], columns, where="the table of runs")
        return table if columns is None else table.reindex(columns=list(columns))

    def epochs(self, run_ids: Sequence[str] | None = None) -> pd.DataFrame:
        """The histories of runs one after the other: run, epoch, and what any of them recorded.

        In the order of `run_ids`, or of recording where all runs are asked for. NaN where a run lacks a column.
        """
        with self._database.reading() as connection:
            return epochs_table(*epoch_rows(connection, run_ids))

    def varying(self, selection: pd.DataFrame | str | None = None, *, experiment: str | None = None) -> pd.DataFrame:
        """What varies within a selection of runs: parameter, n_values and values, sorted.

        Parameters
        ----------
        selection
            A table with the column `id`, a condition as for `runs`, or None for all.
        """
        if isinstance(selection, pd.DataFrame):
            require_columns([str(c) for c in selection], ["id"], where="the selection of runs")
            with self._database.reading() as connection:
                return varying_columns(run_rows(connection, selection["id"].tolist()))
        return varying_columns(self._selected(selection, experiment=experiment))

    def compare(self, run_ids: Sequence[str]) -> pd.DataFrame:
        """Runs side by side: one row for each column of `runs`, one column a run, and whether the runs `differ`.

        Ids may be shortened as long as only one run begins so.
        """
        ids = list(dict.fromkeys(self.resolve(run_id) for run_id in run_ids))
        with self._database.reading() as connection:
            rows = {row["id"]: row for row in run_rows(connection, ids)}
        table = runs_table([rows[i] for i in ids]).drop(columns="id")
        compared = table.astype(object).T.set_axis(ids, axis=1)
        differs = [table[name].nunique(dropna=False) > 1 for name in table]
        return compared.assign(differ=differs).rename_axis("name").reset_index()

    def resolve(self, prefix: str, *, kinds: Sequence[str] = ("run",)) -> str:
        """The id that begins with a text, among those of "run", "figure" or "experiment".

        Raises
        ------
        ValueError
            If none or several do.
        """
        tables = {"run": RUNS, "figure": FIGURES, "experiment": EXPERIMENTS}
        with self._database.reading() as connection:
            found: list[str] = []
            for kind in kinds:
                identity = tables[kind].c.id
                begins = identity.startswith(prefix, autoescape=True)
                found += connection.scalars(sa.select(identity).where(begins).order_by(identity)).all()
        if prefix in found:
            return prefix
        what = " or ".join(kinds)
        if not found or not prefix:
            raise ValueError(f"no {what} {prefix!r} in {self.name}; `mimic runs list` shows the ids.")
        if len(found) > 1:
            raise ValueError(f"{prefix!r} is the beginning of {len(found)} ids ({examples(found)}); give more of it.")
        return found[0]

    def delete_runs(self, run_ids: Sequence[str]) -> int:
        """Delete the records of runs with their epochs, and get how many there were. `archive` then moves their files."""
        with self._database.writing() as connection:
            n_known = len(known_ids(connection, RUNS, run_ids))
            delete_runs(connection, run_ids)
            for part in parts_of(run_ids):
                connection.execute(USES.delete().where(USES.c.run.in_(part)))
        return n_known

    # Evaluations, figures and notes

    def record_evaluation(
        self, key: Mapping[str, Any], table: pd.DataFrame, runs: Sequence[str] = (), *, replace: bool = False
    ) -> str:
        """Record the table that was computed for a key, and get the id of the key.

        Parameters
        ----------
        key
            All that decides about the table: data, groups, runs, ...
        runs
            Ids of the runs behind it.
        replace
            Put this table in the place of an earlier, different one.

        Raises
        ------
        ValueError
            If the table does not come back from Parquet as it is, a run is unknown, or another table is recorded
            under the key.
        """
        identity = content_id(key)
        row = {"id": identity, "key": to_json(dict(key)), "runs": to_json(list(runs)), "parquet": to_bytes(table)}
        with self._database.writing() as connection:
            require_runs(connection, runs)
            earlier = connection.scalar(sa.select(EVALUATIONS.c.parquet).where(EVALUATIONS.c.id == identity))
            if earlier is not None and not replace:
                if not is_same_table(from_bytes(earlier), table):
                    raise ValueError(
                        f"evaluation {identity} is recorded with another table; add to the key what differs, or replace it."
                    )
                return identity
            connection.execute(EVALUATIONS.delete().where(EVALUATIONS.c.id == identity))
            connection.execute(EVALUATIONS.insert(), {**row, "recorded_utc": now_utc()})
        return identity

    def find_evaluation(self, key: Mapping[str, Any]) -> pd.DataFrame | None:
        """The table recorded for a key: the same dtypes, missing values and order; None if there is none."""
        with self._database.reading() as connection:
            found = connection.scalar(sa.select(EVALUATIONS.c.parquet).where(EVALUATIONS.c.id == content_id(key)))
        return None if found is None else from_bytes(found)

    def evaluations(self) -> pd.DataFrame:
        """One row an evaluation: id, key (a mapping), runs (a list), recorded_utc."""
        columns = [EVALUATIONS.c[n] for n in ("id", "key", "runs", "recorded_utc")]
        table = self._table(sa.select(*columns).order_by(EVALUATIONS.c.recorded_utc, EVALUATIONS.c.id))
        return _read_json(table, "key", "runs")

    def record_figure(
        self,
        path: str | Path | bytes,
        *,
        name: str,
        caption: str = "",
        annotations: Mapping[str, Any] | None = None,
        runs: Sequence[str] = (),
        suffix: str | None = None,
    ) -> str:
        """Store a figure with what it shows and the runs behind it, and get its id: the same content, the same id.

        Parameters
        ----------
        path
            A file, or its bytes with a `suffix`.

        Raises
        ------
        FileNotFoundError, ValueError
            If there is no such file, or a run is unknown.
        """
        known = {"name": name, "caption": caption, "annotations": dict(annotations or {}), "runs": list(runs)}
        file = self.put_file(path, suffix)
        identity = content_id({**known, "file": file})
        row = {**known, "annotations": to_json(known["annotations"]), "runs": to_json(known["runs"])}
        with self._database.writing() as connection:
            require_runs(connection, runs)
            self._claim(connection, [file])
            if not known_ids(connection, FIGURES, [identity]):
                connection.execute(FIGURES.insert(), {**row, "id": identity, "file": file, "recorded_utc": now_utc()})
        return identity

    def figures(self) -> pd.DataFrame:
        """One row a figure: id, name, caption, annotations (a mapping), runs (a list), file, recorded_utc, notes."""
        with self._database.reading() as connection:
            table = fetch(connection, sa.select(FIGURES).order_by(FIGURES.c.recorded_utc, FIGURES.c.id))
            notes = notes_by_id(connection)
        table = _read_json(table, "annotations", "runs")
        return table.assign(notes=pd.Series([notes.get(i, "") for i in table["id"]], dtype="str"))

    def figure_file(self, identity: str) -> str:
        """The address of the file of a figure, by the whole id of the figure; KeyError if there is none."""
        with self._database.reading() as connection:
            address = connection.scalar(sa.select(FIGURES.c.file).where(FIGURES.c.id == identity))
        if address is None:
            raise KeyError(identity)
        return str(address)

    def delete_figures(self, ids: Sequence[str]) -> None:
        """Delete the records of figures. `archive` then moves their files."""
        with self._database.writing() as connection:
            for part in parts_of(ids):
                connection.execute(FIGURES.delete().where(FIGURES.c.id.in_(part)))

    def annotate(self, identity: str, text: str) -> str:
        """Add a note to a run, a figure or an experiment (the beginning of its id will do), and get its whole id."""
        if not text.strip():
            raise ValueError("expected the text of a note; got none.")
        whole = self.resolve(identity, kinds=("run", "figure", "experiment"))
        with self._database.writing() as connection:
            connection.execute(NOTES.insert(), {"about": whole, "text": text, "recorded_utc": now_utc()})
        return whole

    # Files

    def put_file(self, content: str | Path | bytes, suffix: str | None = None) -> str:
        """Store a file, or bytes, and get its address: SHA-256, 64 hexadecimal digits. Record it within a minute."""
        return self._store().put(content, suffix)

    def file(self, address: str) -> Path:
        """The stored file at an address; FileNotFoundError if it is gone."""
        return self._store().path(address)

    def file_trouble(self, address: str) -> str:
        """What is wrong with a stored file: that it is gone, or that its content is another; "" if nothing is."""
        try:
            path = self.file(address)
        except FileNotFoundError:
            return "is missing: its file is no more in the store"
        return "" if hashlib.sha256(path.read_bytes()).hexdigest() == address else "was altered: its file is another"

    def archive(self) -> ArchiveReport:
        """Move files whose record is gone into the folder `archive`, and tell which records have lost their file.

        A file that no record ever named is moved only when it is older than a minute: it may yet get one.
        """
        return archive_files(self._database, self._store())

    # Export

    def export(self, folder: str | Path, *, figures: bool = False, overwrite: bool = False) -> list[Path]:
        """Write all tables as CSV into a folder, as a backup, and get the paths.

        The tables are as in the database; `runs_wide.csv` is that of `runs`, and `evaluation_rows.csv` holds the
        tables of all evaluations.

        Parameters
        ----------
        figures
            Also copy the figures into the folder `figures`, under their names.
        overwrite
            Replace files of the same names.

        Raises
        ------
        FileExistsError
            If a file is there and `overwrite` is False; then nothing is written.
        """
        tables = {**stored_tables(self._database), "runs_wide": self.runs()}
        figure_files = figure_copies(self.figures(), self._store()) if figures else {}
        return write_files(Path(folder), {**csv_files(tables), **figure_files}, overwrite=overwrite)

    # Within

    def _store(self) -> FileStore:
        if self._files is None:
            raise ValueError(f"{self.name} has no folder for files; open it with files=FOLDER.")
        return self._files

    def _table(self, statement: sa.Select[Any]) -> pd.DataFrame:
        with self._database.reading() as connection:
            return fetch(connection, statement)

    def _claim(self, connection: sa.Connection, addresses: Iterable[str]) -> None:
        """See that files are there, and remember that a record names them."""
        for address in dict.fromkeys(addresses):
            self.file(address)
            if connection.scalar(sa.select(FILES.c.sha256).where(FILES.c.sha256 == address)) is None:
                connection.execute(FILES.insert(), {"sha256": address})

    def _selected(
        self, where: str | None, *, experiment: str | None = None, model: str | None = None
    ) -> list[dict[str, Any]]:
        """The rows of the table `runs` that fulfil all conditions."""
        with self._database.reading() as connection:
            rows = run_rows(connection, None if experiment is None else runs_of(connection, experiment))
        rows = [row for row in rows if model is None or row["model"] == model]
        if where is None:
            return rows
        expression = parse(where)
        if not rows:  # then no column is known
            return rows
        holds = expression.evaluate(runs_table(rows))
        return [row for row, kept in zip(rows, holds, strict=True) if kept]


def _check_same(earlier: sa.RowMapping, row: Mapping[str, Any]) -> None:
    """Raise ValueError where one id stands for two trainings."""
    different = [name for name in ("data", "code") if earlier[name] != row[name]]
    before, now = json.loads(earlier["configuration"]), json.loads(row["configuration"])
    if canonical_json(before) != canonical_json(now):
        old, new = flat_parameters(before), flat_parameters(now)
        names = [name for name in {**old, **new} if old.get(name) != new.get(name)]
        different.append(f"configuration ({examples(names)})" if names else "configuration")
    if different:
        raise ValueError(
            f"run {row['id']} is recorded with another {' and '.join(different)}; "
            "an id must come from all three, see mimic.identity.run_id."
        )


def _history(row: Mapping[str, Any], epochs: pd.DataFrame | None) -> pd.DataFrame:
    if epochs is None:
        columns = [name for name, _ in json.loads(row["history_columns"])]
        epochs = pd.DataFrame(columns=columns)
    return history_of(epochs, row["history_columns"])


def _read_json(table: pd.DataFrame, *names: str) -> pd.DataFrame:
    """A table with JSON texts read, and its times as times."""
    read = {name: pd.Series([json.loads(text) for text in table[name]], dtype=object) for name in names}
    return table.assign(**read, recorded_utc=_times(table["recorded_utc"]))


def _times(texts: pd.Series) -> pd.Series:
    return pd.to_datetime(texts).astype("datetime64[ns]")
