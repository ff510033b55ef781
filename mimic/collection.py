"""Subjects into their collections in the registry - numbers, tables, figures by name - and back, checked."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mimic import __version__
from mimic.identity import code_version, table_id
from mimic.paper_items import NUMBER_COLUMNS, PaperFigure, Subject
from mimic.registry import Registry

__all__ = [
    "DATA",
    "FIGURE",
    "FORMATS",
    "NUMBER",
    "TABLE",
    "Collection",
    "Problem",
    "check_collection",
    "collect",
    "find_collection",
    "read_table",
]

FORMATS = ("pdf", "svg", "png")
"""What every figure is recorded as."""

Progress = Callable[..., None]

_CODE = ("study_numbers", "study_tables", "study_figures", "study_learning", "study_maps", "figures")
_MANIFEST = ["kind", "name", "key", "content", "sources", "caption", "width_cm", "mimic", "code"]
NUMBER, TABLE, FIGURE, DATA = "number", "table", "figure", "data"


@dataclass(frozen=True, eq=False)
class Collection:
    """All recorded items of a subject.

    Parameters
    ----------
    manifest
        One row an item: kind (number, table, figure, data), name, key (JSON of the key of a table, id of a figure),
        content (id of its content when it was made), sources (JSON: name -> id), caption, width_cm, mimic and code (which
        made it).
    """

    subject: str
    run_ids: tuple[str, ...]
    manifest: pd.DataFrame

    def items(self, kind: str) -> list[dict[str, Any]]:
        """The rows of the manifest of one kind."""
        found: list[dict[str, Any]] = self.manifest[self.manifest["kind"] == kind].to_dict(orient="records")  # type: ignore[assignment]
        return found


@dataclass(frozen=True)
class Problem:
    """An item that cannot be printed as it is, and why.

    Parameters
    ----------
    name
        With that of its subject, such as "demo/chain".
    kind
        number, table, figure, data or collection.
    reason
        For people; it follows the name.
    """

    name: str
    kind: str
    reason: str


def collect(
    subject: Subject, registry: Registry, *, progress: Progress = lambda *_: None, only: Sequence[str] | None = None
) -> Collection:
    """Compute and draw all items of a subject, record them, and put them in the place of earlier ones.

    Parameters
    ----------
    progress
        Called as progress(what, done, total).
    only
        Names of figures to draw; by default all.

    Raises
    ------
    ValueError
        If the registry does not know a run.
    """
    earlier = find_collection(subject, registry)
    rows: list[dict[str, Any]] = []

    def keep(kind: str, name: str, table: pd.DataFrame, sources: Sequence[str], caption: str = "") -> None:
        key = {**_key(subject), "kind": kind, "name": name}
        kept = _storable(table)
        registry.record_evaluation(key, kept, subject.run_ids, replace=True)
        rows.append(_row(subject, kind, name, json.dumps(key), table_id(kept), sources, caption=caption))

    keep(NUMBER, "numbers", subject.numbers(), list(subject.sources))
    for make_table in subject.tables:
        table = make_table()
        if table is not None:
            keep(DATA, f"table {table.name}", table.values, table.sources)
            keep(TABLE, table.name, table.shown, table.sources, table.caption)
    makers = list(subject.figures)
    for done, make_figure in enumerate(makers):
        made = make_figure()
        for figure in [] if made is None else made if isinstance(made, list) else [made]:
            if only is not None and figure.name not in only:
                continue
            for part, data in figure.tables.items():
                keep(DATA, f"figure {figure.name} {part}".rstrip(), data, figure.sources)
            rows += _record_figure(subject, figure, registry)
        progress(f"drawing figures of {subject.name}", done + 1, len(makers))
    manifest = pd.DataFrame(rows, columns=_MANIFEST).astype({"width_cm": np.float64})
    registry.record_evaluation({**_key(subject), "kind": "manifest"}, manifest, subject.run_ids, replace=True)
    if earlier is not None:
        old = set(earlier.manifest.loc[earlier.manifest["kind"] == FIGURE, "key"])
        registry.delete_figures(sorted(old - set(manifest["key"])))
    return Collection(subject.name, tuple(subject.run_ids), manifest)


def find_collection(subject: Subject, registry: Registry) -> Collection | None:
    """What is recorded of a subject with these runs; None where nothing was ever collected."""
    manifest = registry.find_evaluation({**_key(subject), "kind": "manifest"})
    return None if manifest is None else Collection(subject.name, tuple(subject.run_ids), manifest)


def check_collection(subject: Subject, registry: Registry) -> list[Problem]:
    """What is missing, altered or stale among the recorded items of a subject; an empty list where all is well.

    Notes
    -----
    An item is missing where its record or file is gone; altered where its content is not that of when it was made;
    stale where what it was made from has changed. Numbers are computed again and compared one by one.
    """
    collection = find_collection(subject, registry)
    if collection is None:
        return [Problem(subject.name, "collection", "has never been collected from these runs")]
    problems: list[Problem] = []
    figures = registry.figures().set_index("id")
    for item in collection.manifest.to_dict(orient="records"):
        if item["kind"] == NUMBER:
            problems += _number_troubles(item, subject, registry)
            continue
        reason = _figure_trouble(item, figures, registry) if item["kind"] == FIGURE else _table_trouble(item, registry)
        reason = reason or _staleness(item, subject)
        if reason:
            problems.append(Problem(f"{subject.name}/{item['name']}", str(item["kind"]), reason))
    return problems


def read_table(item: Mapping[str, Any], registry: Registry) -> pd.DataFrame:
    """The table of an item that is number, table or data; KeyError where it is gone."""
    found = registry.find_evaluation(json.loads(str(item["key"])))
    if found is None:
        raise KeyError(str(item["name"]))
    return found


def _key(subject: Subject) -> dict[str, Any]:
    return {"paper": subject.name, "runs": list(subject.run_ids)}


def _row(
    subject: Subject,
    kind: str,
    name: str,
    key: str,
    content: str,
    sources: Sequence[str],
    *,
    caption: str = "",
    width_cm: float = np.nan,
) -> dict[str, Any]:
    return {
        "kind": kind,
        "name": name,
        "key": key,
        "content": content,
        "sources": json.dumps({source: subject.sources.get(source, "") for source in sources}),
        "caption": caption,
        "width_cm": width_cm,
        "mimic": __version__,
        "code": code_version(roots=_CODE),
    }


def _record_figure(subject: Subject, figure: PaperFigure, registry: Registry) -> list[dict[str, Any]]:
    """Draw a figure and record it in each format; its rows of the manifest."""
    from mimic.figures import save_formats

    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for path in save_formats(figure.draw(), Path(folder) / "figure", formats=FORMATS):
            name = f"{figure.name}{path.suffix}"
            sources = {source: subject.sources.get(source, "") for source in figure.sources}
            identity = registry.record_figure(
                path,
                name=f"{subject.name}/{name}",
                caption=figure.caption,
                annotations={"subject": subject.name, "sources": sources, "width_cm": figure.width_cm},
                runs=subject.run_ids,
            )
            file = registry.figure_file(identity)
            rows.append(
                _row(
                    subject,
                    FIGURE,
                    name,
                    identity,
                    file,
                    figure.sources,
                    caption=figure.caption,
                    width_cm=figure.width_cm,
                )
            )
    return rows


def _table_trouble(item: Mapping[Any, Any], registry: Registry) -> str:
    try:
        table = registry.find_evaluation(json.loads(str(item["key"])))
    except (ValueError, OSError):
        return "is damaged in the registry"
    if table is None:
        return "is missing: it is no more in the registry"
    return "" if table_id(table) == item["content"] else "was altered in the registry after it was made"


def _figure_trouble(item: Mapping[Any, Any], figures: pd.DataFrame, registry: Registry) -> str:
    if item["key"] not in figures.index:
        return "is missing: it is no more in the registry"
    if figures.at[item["key"], "file"] != item["content"]:
        return "was altered in the registry after it was drawn"
    return registry.file_trouble(str(item["content"]))


def _staleness(item: Mapping[Any, Any], subject: Subject) -> str:
    recorded = json.loads(str(item["sources"]))
    changed = [source for source, identity in recorded.items() if subject.sources.get(source, "") != identity]
    return f"is stale: {', '.join(changed).replace('_', ' ')} changed after it was made" if changed else ""


def _number_troubles(item: Mapping[Any, Any], subject: Subject, registry: Registry) -> list[Problem]:
    """The numbers whose recorded text or value is not the one that their sources give now."""
    trouble = _table_trouble(item, registry)
    if trouble and "altered" not in trouble:
        return [Problem(f"{subject.name}/numbers", NUMBER, trouble)]
    then, now = (_by_name(table) for table in (read_table(item, registry), subject.numbers()))
    troubles = []
    for name, (value, text) in then.items():
        if name not in now:
            reason = f"is stale: {text} is recorded, its sources have it no more"
        elif now[name] != (value, text):
            reason = f"is stale or altered: {text} is recorded, its sources give {now[name][1]}"
        else:
            continue
        troubles.append(Problem(f"{subject.name}/{name}", NUMBER, reason))
    lost = [name for name in now if name not in then]
    return troubles + [Problem(f"{subject.name}/{name}", NUMBER, "is missing: its sources have it") for name in lost]


def _by_name(numbers: pd.DataFrame) -> dict[str, tuple[float | None, str]]:
    """Name -> value (None where it is none, which equals itself) and text."""
    rows = zip(*(numbers[column].tolist() for column in NUMBER_COLUMNS), strict=True)
    return {str(name): (None if np.isnan(value) else float(value), str(text)) for name, value, text in rows}


def _storable(table: pd.DataFrame) -> pd.DataFrame:
    """The table with plain columns and rows: what is no number, truth value or time becomes text; missing stays."""
    columns = {}
    for name in table:
        values = table[name].reset_index(drop=True)
        if not (pd.api.types.is_numeric_dtype(values) or pd.api.types.is_datetime64_any_dtype(values)):
            values = values.astype(object).map(str, na_action="ignore").astype("str")
        columns[str(name)] = values
    return pd.DataFrame(columns)
