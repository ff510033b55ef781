"""Run records into rows of the registry and back, and into a table with parameters and metrics as columns."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd

from mimic.identity import canonical_json

__all__ = [
    "RunRecord",
    "Status",
    "epochs_table",
    "flat_parameters",
    "history_of",
    "history_rows",
    "record_of",
    "run_row",
    "runs_table",
    "to_json",
    "varying_columns",
]

Status = Literal["finished", "diverged", "failed"]

# Sections of a configuration whose entries are parameters by their own name; others give `section_entry`.
_HOISTED = ("training", "contrasts", "options")
# What tells runs apart beside the parameters of their configuration.
_INGREDIENTS = ("model", "seed", "data", "code")
_OWN_FIRST = ("id", "experiment", "model", "status", "seed", "best_epoch", "verdicts", "n_verdicts")
_OWN_LAST = ("seconds", "message", "notes", "data", "code", "recorded_utc")
_NAME = re.compile(r"[A-Za-z_]\w*")


def _no_history() -> pd.DataFrame:
    return pd.DataFrame({"epoch": np.zeros(0, dtype=np.int64)})


@dataclass(frozen=True, eq=False)
class RunRecord:
    """All that is known of one training.

    Parameters
    ----------
    id
        Of configuration, data and code version, see `mimic.identity.run_id`.
    experiment
        The id or the name of the experiment that trained it.
    model
        Its name in the experiment.
    configuration
        Features, kind and training options, resolved; flat, or the options in a section `training`.
    data, code
        Ids of the choice sets and of the code version.
    seed
        Of the training.
    status
        "finished"; "diverged": stopped by NaN or infinity, with the best weights before; "failed": without a model.
    best_epoch
        The epoch of the weights that were kept, or None.
    metrics
        Name -> number: the losses of the kept weights. NaN and infinities are kept.
    facts
        Name -> number: sizes and counts.
    verdicts
        What the training doctor found, by name.
    history
        One row an epoch, with the column `epoch`. Comes back with its columns, dtypes and order.
    files
        Role -> address in the file store, such as {"model": ..., "last": ...}.
    seconds
        How long the training took, s.
    message
        Why it failed, for people.

    Raises
    ------
    ValueError
        If the id is empty, the status unknown, or a history has rows but no column `epoch`.
    """

    id: str
    experiment: str
    model: str
    configuration: Mapping[str, Any]
    data: str = ""
    code: str = ""
    seed: int = 0
    status: Status = "finished"
    best_epoch: int | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    facts: Mapping[str, float] = field(default_factory=dict)
    verdicts: Sequence[str] = ()
    history: pd.DataFrame = field(default_factory=_no_history)
    files: Mapping[str, str] = field(default_factory=dict)
    seconds: float = math.nan
    message: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "verdicts", tuple(self.verdicts))
        if not self.id:
            raise ValueError("expected the id of a run; got empty text. mimic.identity.run_id makes one.")
        if self.status not in get_args(Status):
            raise ValueError(f"status must be one of {', '.join(get_args(Status))}; got {self.status!r}.")
        if len(self.history) and "epoch" not in self.history:
            raise ValueError(
                f"run {self.id}: a history needs the column epoch; it has {', '.join(map(str, self.history.columns))}."
            )


def to_json(value: Any) -> str:
    """The JSON text of a value in the order it has. NaN and infinities are kept, as NaN and Infinity."""
    return json.dumps(value, default=_bare)


def run_row(record: RunRecord, recorded_utc: str) -> dict[str, Any]:
    """The row of the table `runs` for a record.

    Raises
    ------
    ValueError, TypeError
        If the configuration has no id, see `mimic.identity.canonical_json`.
    """
    canonical_json(record.configuration)
    return {
        "id": record.id,
        "experiment": record.experiment,
        "model": record.model,
        "status": record.status,
        "seed": int(record.seed),
        "best_epoch": None if record.best_epoch is None else int(record.best_epoch),
        "seconds": _number(record.seconds),
        "data": record.data,
        "code": record.code,
        "configuration": to_json(dict(record.configuration)),
        "metrics": to_json(dict(record.metrics)),
        "facts": to_json(dict(record.facts)),
        "verdicts": to_json(list(record.verdicts)),
        "files": to_json(dict(record.files)),
        "message": record.message,
        "history_columns": to_json([[str(name), str(dtype)] for name, dtype in record.history.dtypes.items()]),
        "recorded_utc": recorded_utc,
    }


def record_of(row: Mapping[str, Any], history: pd.DataFrame | None = None) -> RunRecord:
    """The record of a row of the table `runs`; without its history where none is given."""
    texts = ("configuration", "metrics", "facts", "verdicts", "files")
    plain = ("id", "experiment", "model", "status", "seed", "best_epoch", "data", "code", "message")
    return RunRecord(
        **{name: row[name] for name in plain},
        **{name: json.loads(row[name]) for name in texts},
        seconds=math.nan if row["seconds"] is None else row["seconds"],
        history=_no_history() if history is None else history,
    )


def history_rows(record: RunRecord, numbers: Sequence[str]) -> list[dict[str, Any]]:
    """The rows of the table `epochs` for a record, in order; columns beside `numbers` go into `more`, as JSON."""
    history = record.history
    n_rows = len(history)
    if not n_rows:
        return []
    kept = [n for n in numbers if n in history and pd.api.types.is_numeric_dtype(history[n])]
    other = [str(n) for n in history if n not in kept and n != "epoch"]
    columns: dict[str, list[Any]] = {name: [None] * n_rows for name in numbers}
    columns |= {name: [_number(v) for v in history[name].tolist()] for name in kept}
    columns["epoch"] = [int(v) for v in history["epoch"]]
    columns["row"] = list(range(n_rows))
    columns["run"] = [record.id] * n_rows
    columns["more"] = [None] * n_rows
    if other:
        columns["more"] = [to_json(one) for one in history[other].to_dict(orient="records")]
    names = list(columns)
    return [dict(zip(names, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def epochs_table(rows: pd.DataFrame, wanted: Sequence[str]) -> pd.DataFrame:
    """Rows of the table `epochs` with the columns of their histories: run, epoch, then `wanted` in order.

    A number that was NaN, or is in the history of other runs only, is NaN.
    """
    table = rows[["run", "epoch"]].reset_index(drop=True)
    more = [json.loads(text) if isinstance(text, str) else {} for text in rows["more"]]
    for name in wanted:
        if name == "epoch":
            continue
        if name in rows:
            values: Any = pd.to_numeric(rows[name]).astype(np.float64).to_numpy()
            if any(name in one for one in more):  # a number in one history, text in another
                values = [one.get(name, value) for one, value in zip(more, values, strict=True)]
        else:
            values = [one.get(name) for one in more]
        table[name] = values
    return table


def history_of(epochs: pd.DataFrame, history_columns: str) -> pd.DataFrame:
    """The history of one run as it was recorded: its columns in their order, with their dtypes."""
    columns = json.loads(history_columns)
    if not columns:
        return _no_history()
    table = epochs[[name for name, _ in columns]].reset_index(drop=True)
    other = {name: dtype for name, dtype in columns if str(table[name].dtype) != dtype}
    return table.astype(other) if other else table


def runs_table(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """One row a run: what it is, its metrics, its parameters, its facts, and where it comes from.

    A parameter whose name is one of the registry's own columns is called `parameter_NAME` (unless it says the same
    in every run); a metric or fact whose name is taken, `metric_NAME` or `fact_NAME`.
    """
    own = [_own_columns(row) for row in rows]
    parameters = [flat_parameters(json.loads(row["configuration"])) for row in rows]
    metrics = [json.loads(row["metrics"]) for row in rows]
    facts = [json.loads(row["facts"]) for row in rows]
    table = {name: _column([one[name] for one in own]) for name in _OWN_FIRST}
    last = {name: _column([one[name] for one in own]) for name in _OWN_LAST}
    given = _columns(parameters)
    named: dict[str, pd.Series] = {}
    for name, values in given.items():
        column = {**table, **last}.get(name)
        if column is None:
            named[name] = values
        elif not values.astype(object).equals(column.astype(object)):
            named[f"parameter_{name}"] = values
    for prefix, found in (("metric", _columns(metrics)), ("fact", _columns(facts))):
        taken = {*table, *last, *named, *given}
        renamed = {f"{prefix}_{name}" if name in taken else name: values for name, values in found.items()}
        if prefix == "metric":
            table |= renamed  # metrics stand before the parameters
        else:
            last = {**renamed, **last}
    result = pd.DataFrame({**table, **named, **last})
    result.attrs["parameters"] = [name for name in (*_INGREDIENTS, *named) if name in result]
    return result


def varying_columns(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """The parameters, model, seed, data and code with more than one value: columns parameter, n_values and values.

    `values` are sorted; a parameter that some runs do not have counts as None there.
    """
    table = runs_table(rows)
    found = []
    for name in table.attrs["parameters"]:
        values = [None if pd.isna(v) else v for v in table[name].drop_duplicates().tolist()]
        if len(values) > 1:
            values.sort(key=lambda v: (v is not None, v if v is not None else 0))
            found.append({"parameter": name, "n_values": len(values), "values": values})
    return pd.DataFrame(found, columns=["parameter", "n_values", "values"])


def flat_parameters(configuration: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of a configuration by name, each a number, text, boolean or None.

    Example
    -------
    >>> flat_parameters({"features": ["sst", "stay"], "training": {"units": [24, 24], "plateau": {"patience": 5}}})
    {'features': 'sst, stay', 'units': '24-24', 'plateau_patience': 5}
    """
    found: dict[str, Any] = {}
    for path, value in _leaves(configuration, ()):
        short = path[1:] if len(path) > 1 and path[0] in _HOISTED else path
        name = "_".join(short)
        found["_".join(path) if name in found else name] = _cell(value)
    return found


def _leaves(value: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    for key, inner in value.items():
        # Keys that are no names, such as conditions, are values themselves.
        if isinstance(inner, Mapping) and inner and all(_NAME.fullmatch(k) for k in inner):
            yield from _leaves(inner, (*path, key))
        else:
            yield (*path, key), inner


def _cell(value: Any) -> Any:
    """A value of a configuration as one cell of a table."""
    if isinstance(value, list | tuple):
        if value and all(type(v) is int and v >= 0 for v in value):
            return "-".join(map(str, value))
        if value and all(isinstance(v, str) for v in value):
            return ", ".join(value)
    return value if isinstance(value, bool | int | float | str) or value is None else to_json(value)


def _own_columns(row: Mapping[str, Any]) -> dict[str, Any]:
    verdicts = json.loads(row["verdicts"])
    return {
        **row,
        "verdicts": ", ".join(verdicts),
        "n_verdicts": len(verdicts),
        "best_epoch": math.nan if row["best_epoch"] is None else row["best_epoch"],
        "seconds": math.nan if row["seconds"] is None else row["seconds"],
        "notes": row.get("notes", ""),
        "recorded_utc": np.datetime64(row["recorded_utc"], "ns"),
    }


def _columns(mappings: Sequence[Mapping[str, Any]]) -> dict[str, pd.Series]:
    names = dict.fromkeys(name for one in mappings for name in one)
    return {name: _column([one.get(name) for one in mappings]) for name in names}


def _column(values: list[Any]) -> pd.Series:
    """Values as a column of one kind: numbers, booleans, times, or text where kinds meet; None is missing."""
    kinds = {type(v) for v in values if v is not None}
    if kinds == {int} and None not in values:
        return pd.Series(values)
    if kinds and kinds <= {int, float}:
        return pd.Series([math.nan if v is None else v for v in values], dtype=np.float64)
    if kinds == {bool}:
        return pd.Series(values, dtype=bool if None not in values else object)
    if kinds == {np.datetime64}:
        return pd.Series(np.array(values, dtype="datetime64[ns]"))
    return pd.Series([None if v is None else v if isinstance(v, str) else to_json(v) for v in values], dtype="str")


def _number(value: Any) -> float | int | None:
    """A number as a database column takes it: NaN and missing as NULL."""
    if value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value)):
        return None
    return value.item() if isinstance(value, np.generic) else value


def _bare(value: Any) -> Any:
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, PurePath):
        return value.as_posix()
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"expected text, numbers, booleans, None, paths, lists and mappings; got {type(value).__name__}.")
