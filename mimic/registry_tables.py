"""A folder or a database URL into an open registry: its tables, its schema version and its transactions."""

from __future__ import annotations

import os
import sqlite3
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa

__all__ = [
    "ABOUT",
    "ATTEMPTS",
    "EPOCHS",
    "EPOCH_NUMBERS",
    "EVALUATIONS",
    "EXPERIMENTS",
    "FIGURES",
    "FILES",
    "NOTES",
    "RUNS",
    "SCHEMA_VERSION",
    "TABLES",
    "USES",
    "Database",
    "open_database",
]

SCHEMA_VERSION = 1
DATABASE_FILE = "registry.sqlite"
# How long a writer waits for the others. One write takes milliseconds.
BUSY_S = 60.0
# Any number that other programs on the same PostgreSQL server are unlikely to lock.
_LOCK = 0x6D696D6963

_METADATA = sa.MetaData()


def _text(name: str, **options: bool) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=False, **options)  # type: ignore[arg-type]


ABOUT = sa.Table("about", _METADATA, _text("key", primary_key=True), _text("value"))
EXPERIMENTS = sa.Table(
    "experiments",
    _METADATA,
    _text("id", primary_key=True),
    _text("name"),
    _text("configuration"),
    _text("data"),
    _text("code"),
    _text("recorded_utc"),
)
# Mappings and lists are JSON texts as Python writes them: NaN and infinities are NaN and Infinity there.
RUNS = sa.Table(
    "runs",
    _METADATA,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
    _text("id", unique=True),
    _text("experiment"),
    _text("model"),
    _text("status"),
    sa.Column("seed", sa.BigInteger, nullable=False),
    sa.Column("best_epoch", sa.Integer),
    sa.Column("seconds", sa.Double),
    _text("data"),
    _text("code"),
    _text("configuration"),
    _text("metrics"),
    _text("facts"),
    _text("verdicts"),
    _text("files"),
    _text("message"),
    _text("history_columns"),
    _text("recorded_utc"),
)
USES = sa.Table("uses", _METADATA, _text("experiment", primary_key=True), _text("run", primary_key=True))
ATTEMPTS = sa.Table(
    "attempts",
    _METADATA,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
    _text("run", index=True),
    _text("experiment"),
    _text("process"),
    _text("started_utc"),
)
EPOCH_NUMBERS = (
    "loss",
    "true_contrast_loss",
    "true_decision_loss",
    "val_true_contrast_loss",
    "val_true_decision_loss",
    "learning_rate",
    "gradient_norm",
    "gradient_norm_max",
)
# NaN is NULL here (SQLite knows no NaN); infinities stay. `more` holds further columns of a history, as JSON.
EPOCHS = sa.Table(
    "epochs",
    _METADATA,
    _text("run", primary_key=True),
    sa.Column("row", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("epoch", sa.Integer, nullable=False),
    *(sa.Column(name, sa.Double) for name in EPOCH_NUMBERS),
    sa.Column("more", sa.Text),
)
EVALUATIONS = sa.Table(
    "evaluations",
    _METADATA,
    _text("id", primary_key=True),
    _text("key"),
    _text("runs"),
    sa.Column("parquet", sa.LargeBinary, nullable=False),
    _text("recorded_utc"),
)
FIGURES = sa.Table(
    "figures",
    _METADATA,
    _text("id", primary_key=True),
    _text("name"),
    _text("caption"),
    _text("annotations"),
    _text("runs"),
    _text("file"),
    _text("recorded_utc"),
)
NOTES = sa.Table(
    "notes",
    _METADATA,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
    _text("about", index=True),
    _text("text"),
    _text("recorded_utc"),
)
# Every file that a record ever named: what is here and in no record has lost its record.
FILES = sa.Table("files", _METADATA, _text("sha256", primary_key=True))
TABLES = {table.name: table for table in _METADATA.sorted_tables}


class Database:
    """An open registry database: transactions that wait for each other and end whole or not at all."""

    def __init__(self, engine: sa.Engine, name: str) -> None:
        self._engine = engine
        self.name = name

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """A transaction that sees one state of the registry.

        Raises
        ------
        OSError
            If the database cannot be read.
        """
        with self._told(), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """A transaction that no other writer runs beside; it is undone if its body raises.

        Raises
        ------
        OSError
            If the database cannot be written, or others have held it for a minute.
        """
        engine = self._engine.execution_options(mimic_writes=True)
        with self._told(), engine.begin() as connection:
            if connection.dialect.name == "postgresql":
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
            yield connection

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except sa.exc.DBAPIError as error:
            reason = " ".join(str(error.orig).split())
            if "file is not a database" in reason or "malformed" in reason:
                raise ValueError(
                    f"{self.name} is no SQLite database, or it is damaged; restore it or move it."
                ) from None
            if "database is locked" in reason:
                raise TimeoutError(
                    f"{self.name} has been held by other processes for {BUSY_S:g} s; end them."
                ) from None
            raise OSError(f"the registry {self.name} could not be used: {reason}") from None


def open_database(where: str | Path, *, create: bool = True) -> Database:
    """Open the registry in a folder or at a URL, with its tables made where there are none.

    Parameters
    ----------
    where
        A folder, in which the database is `registry.sqlite`; or a URL that begins with `postgresql://`.
    create
        Whether a folder without a registry gets one.

    Raises
    ------
    FileNotFoundError
        If there is no registry in the folder and `create` is False.
    ValueError, OSError
        If the place is no folder, the file no registry or one of another schema version, the URL none that is
        known, or the server does not answer.
    ModuleNotFoundError
        If the URL is one of PostgreSQL and psycopg is not installed.
    """
    if "://" in str(where):
        database = _open_url(str(where))
        with database.writing() as connection:
            if not sa.inspect(connection).has_table(ABOUT.name):
                _make_tables(connection)
    else:
        path = Path(where) / DATABASE_FILE
        _require_folder(Path(where), create=create)
        if not path.exists():
            _make_file(path)
        database = Database(_sqlite_engine(path), str(path))
    _check_version(database)
    return database


def _require_folder(folder: Path, *, create: bool) -> None:
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"expected the folder of a registry; {folder} is a file.")
    if not create and not (folder / DATABASE_FILE).is_file():
        raise FileNotFoundError(f"no registry in {folder}: it has no {DATABASE_FILE}. Give the folder of a registry.")
    folder.mkdir(parents=True, exist_ok=True)


def _sqlite_engine(path: Path) -> sa.Engine:
    """An engine whose connections live for one transaction: safe with threads and forked processes alike."""
    engine = sa.create_engine(
        sa.URL.create("sqlite", database=str(path)), poolclass=sa.NullPool, connect_args={"timeout": BUSY_S}
    )

    @sa.event.listens_for(engine, "connect")
    def _on_connect(connection: sqlite3.Connection, _: object) -> None:
        connection.isolation_level = None  # transactions begin below, not where sqlite3 thinks they should
        # Enough in WAL mode: a killed process loses nothing, a power cut the last moments but never the file.
        connection.execute("PRAGMA synchronous = NORMAL")

    @sa.event.listens_for(engine, "begin")
    def _on_begin(connection: sa.Connection) -> None:
        # A plain BEGIN would turn into a writer at its first write, and fail at once where another one was faster.
        writes = connection.get_execution_options().get("mimic_writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _make_file(path: Path) -> None:
    """Make the database beside its place and put it there whole: of several processes the first one wins."""
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".new-") as folder:
        new = Path(folder) / path.name
        database = Database(_sqlite_engine(new), str(path))
        with database._engine.connect() as connection:
            raw = connection.connection.dbapi_connection
            assert raw is not None
            raw.execute("PRAGMA journal_mode = WAL")  # kept in the file
        with database.writing() as connection:
            _make_tables(connection)
        try:
            os.link(new, path)
        except FileExistsError:
            return
        except OSError:  # a file system without hard links
            if not path.exists():
                os.replace(new, path)


def _open_url(text: str) -> Database:
    try:
        url = sa.make_url(text)
    except sa.exc.ArgumentError:
        raise ValueError(f"expected a folder or a URL such as postgresql://user@host/name; got {text!r}.") from None
    name = url.render_as_string(hide_password=True)
    if url.get_backend_name() not in ("postgresql", "postgres"):
        raise ValueError(f"expected a folder (SQLite) or a URL that begins with postgresql://; got {name}.")
    try:
        engine = sa.create_engine(url.set(drivername="postgresql+psycopg"), pool_pre_ping=True, pool_size=1)
    except ModuleNotFoundError:
        raise ModuleNotFoundError(f'{name} needs psycopg; pip install "mimic[postgres]".') from None
    database = Database(engine, name)
    weakref.finalize(database, engine.dispose)  # closes what waits in the pool
    return database


def _make_tables(connection: sa.Connection) -> None:
    _METADATA.create_all(connection)
    connection.execute(ABOUT.insert(), {"key": "schema_version", "value": str(SCHEMA_VERSION)})


def _check_version(database: Database) -> None:
    with database.reading() as connection:
        if not sa.inspect(connection).has_table(ABOUT.name):
            raise ValueError(f"{database.name} is a database, but no registry of mimic; choose another place.")
        found = connection.scalar(sa.select(ABOUT.c.value).where(ABOUT.c.key == "schema_version"))
    if found == str(SCHEMA_VERSION):
        return
    if found is not None and found.isdecimal() and int(found) > SCHEMA_VERSION:
        raise ValueError(
            f"{database.name} was made by a newer mimic (schema {found}; this one knows {SCHEMA_VERSION}); update mimic."
        )
    raise ValueError(f"{database.name} has an unknown schema version {found!r}; expected {SCHEMA_VERSION}.")
