"""Collections and a text into a paper: PDF, figures, tables and numbers in one folder; refused where one is amiss."""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mimic import __version__
from mimic.collection import (
    DATA,
    FIGURE,
    NUMBER,
    TABLE,
    Collection,
    Problem,
    check_collection,
    find_collection,
    read_table,
)
from mimic.latex import latex_table
from mimic.paper_items import Subject, are_words
from mimic.registry import Registry
from mimic.runs import check_output

__all__ = ["STUDY_TEXT", "Part", "build_paper", "check_paper", "format_problems"]

STUDY_TEXT = "study.typ"
"""The text for any study, shipped with mimic."""

_ASSETS = "assets/paper"
_MOST_NAMED = 12
_RUN_DIGITS = 8
_ATTEMPTS = 10


@dataclass(frozen=True, eq=False)
class Part:
    """A subject with the registry that holds its collection."""

    subject: Subject
    registry: Registry


def check_paper(parts: Sequence[Part], text: Path | None = None) -> list[Problem]:
    """What keeps a paper from being built: items that are missing, altered or stale, names that the text asks in vain.

    Parameters
    ----------
    text
        The Typst file; by default that for any study.

    Raises
    ------
    ValueError
        If the text is no Typst, or two subjects have one name.
    """
    _check_names(parts)
    problems = [problem for part in parts for problem in check_collection(part.subject, part.registry)]
    if not problems:  # what the text asks for can be answered only then
        with _written(parts, text) as main:
            problems = _unanswered(main, json.loads((main.parent / "data.json").read_text(encoding="utf-8")))
    return problems


def build_paper(parts: Sequence[Part], out: Path, *, text: Path | None = None, date: str = "") -> list[Path]:
    """Write the paper and all that is in it into a folder, whole or not at all; the files.

    Parameters
    ----------
    out
        `whitepaper.pdf`, `numbers.csv`, `figures/` (PDF, SVG, PNG, and CSV of what is drawn), `tables/` (CSV of the
        values, LaTeX of what is printed). An earlier paper there is replaced.
    text
        As in `check_paper`.
    date
        Printed in the paper, such as "2026-11-21"; by default none, so that equal content gives equal bytes.

    Raises
    ------
    ValueError
        If an item is missing, altered or stale, or the text asks for one that is not there: all are named.
    FileExistsError
        If `out` is there and no earlier paper.
    """
    _check_folder(out)
    problems = check_paper(parts, text)
    if problems:
        raise ValueError(format_problems(problems) + "\n" + _advice(problems))
    out.parent.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as temporary,
        _written(parts, text, date=date) as main,
    ):
        made = Path(temporary) / out.name
        made.mkdir()
        _typst().compile(
            str(main), output=str(made / "whitepaper.pdf"), root=str(main.parent), ignore_system_fonts=True
        )
        for part in parts:
            _export(part, made)
        _numbers(parts).to_csv(made / "numbers.csv", index=False)
        _put_in_place(made, out, Path(temporary))
    return sorted(path for path in out.rglob("*") if path.is_file())


def format_problems(problems: Sequence[Problem]) -> str:
    """The problems by name, a line each, so many that they can be read."""
    named = [f"{p.name} ({p.kind}) {p.reason}" for p in problems[:_MOST_NAMED]]
    n_more = len(problems) - len(named)
    return "\n".join([*named, *([f"and {n_more:,} more; --check names them all"] if n_more else [])])


def _advice(problems: Sequence[Problem]) -> str:
    if all(p.kind == "text" for p in problems):
        return "The paper was not built. Ask the text for what is there (numbers.csv lists the numbers)."
    return "The paper was not built. Add --refresh to compute and draw everything anew from what the registry has now."


def _put_in_place(made: Path, out: Path, aside: Path) -> None:
    """Replace an earlier paper by the one made; of two builds at the same time the later stays."""
    for attempt in range(_ATTEMPTS):
        with suppress(FileNotFoundError):  # there is none, or another build has just taken it away
            os.replace(out, aside / f"earlier{attempt}")
        try:
            os.replace(made, out)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST) or attempt == _ATTEMPTS - 1:
                raise
        else:
            return


def _check_names(parts: Sequence[Part]) -> None:
    names = [part.subject.name for part in parts]
    double = sorted({name for name in names if names.count(name) > 1})
    if double:
        raise ValueError(f"two runs are both called {', '.join(double)}; a text could not tell them apart. Give one.")


def _check_folder(out: Path) -> None:
    """Refuse to replace what is no paper."""
    if out.exists() and not ((out / "whitepaper.pdf").is_file() and (out / "numbers.csv").is_file()):
        raise FileExistsError(f"{out} exists and is no paper of mimic; choose another --out.")
    if not out.exists():
        check_output(out)


@contextmanager
def _written(parts: Sequence[Part], text: Path | None, *, date: str = "") -> Iterator[Path]:
    """A folder with the text, the template and all items, in which Typst finds everything; the path of the text."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if text is not None:
            _copy_text(text, folder)
        for asset in resources.files("mimic").joinpath(_ASSETS).iterdir():
            if not (folder / asset.name).exists():
                (folder / asset.name).write_bytes(asset.read_bytes())
        data = _data(parts, folder, date)
        (folder / "data.json").write_text(json.dumps(data), encoding="utf-8")
        yield folder / (STUDY_TEXT if text is None else text.name)


def _copy_text(text: Path, folder: Path) -> None:
    """Copy a text and the Typst files, bibliographies and pictures beside and below it."""
    if not text.is_file():
        raise FileNotFoundError(f"expected the text of a paper, a Typst file; there is none at {text}.")
    for path in sorted(text.parent.rglob("*")):
        if path.is_file() and path.suffix in (".typ", ".bib", ".yml", ".yaml", ".csl", ".png", ".svg", ".pdf"):
            target = folder / path.relative_to(text.parent)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)


def _data(parts: Sequence[Part], folder: Path, date: str) -> dict[str, Any]:
    """Everything a text may ask for, with the figures put into the folder."""
    data: dict[str, Any] = {
        "mimic": __version__,
        "date": date,
        "studies": [],
        "numbers": {},
        "figures": {},
        "tables": {},
    }
    for part in parts:
        subject, collection = part.subject, _collection(part)
        runs = list(subject.run_ids)
        data["studies"].append({"name": subject.name, "run_ids": runs, **subject.facts})
        for item in collection.items(NUMBER):
            for name, value, text in read_table(item, part.registry).itertuples(index=False):
                shown = value if np.isfinite(value) else None  # JSON has no infinity
                data["numbers"][f"{subject.name}/{name}"] = {"text": text, "value": shown, "runs": runs}
        for item in collection.items(TABLE):
            shown = read_table(item, part.registry)
            data["tables"][f"{subject.name}/{item['name']}"] = {
                "caption": item["caption"],
                "columns": [str(name).strip() for name in shown],
                "align": ["left" if are_words(shown[name]) else "right" for name in shown],
                "rows": shown.astype(str).to_numpy().tolist(),
                "runs": runs,
            }
        for item in collection.items(FIGURE):
            if str(item["name"]).endswith(".pdf"):
                name = f"{subject.name}/{str(item['name']).removesuffix('.pdf')}"
                file = f"figures/{name}.pdf"
                (folder / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(part.registry.file(str(item["content"])), folder / file)
                caption, width = item["caption"], item["width_cm"]
                data["figures"][name] = {"file": file, "width_cm": width, "caption": caption, "runs": runs}
    return data


def _unanswered(main: Path, data: Mapping[str, Any]) -> list[Problem]:
    """The names that the text asks for and that no collection has."""
    typst = _typst()
    try:
        found = json.loads(
            typst.query(str(main), "<used>", field="value", root=str(main.parent), ignore_system_fonts=True)
        )
    except RuntimeError as error:  # also TypstError
        said = str(error).rstrip(".")
        raise ValueError(f"{main.name} cannot be set: {said}. Mend it where Typst says.") from None
    asked = {(str(one["kind"]), str(one["name"])) for one in found}
    kinds = {"number": "numbers", "figure": "figures", "table": "tables"}
    lost = sorted((kind, name) for kind, name in asked if name not in data[kinds[kind]])
    return [
        Problem(name, "text", f"is a {kind} that {main.name} asks for, and no collection has it") for kind, name in lost
    ]


def _export(part: Part, out: Path) -> None:
    """Write the figures and tables of one subject."""
    subject, collection, registry = part.subject, _collection(part), part.registry
    figures, tables = out / "figures" / subject.name, out / "tables" / subject.name
    figures.mkdir(parents=True, exist_ok=True)
    tables.mkdir(parents=True, exist_ok=True)
    for item in collection.items(FIGURE):
        shutil.copyfile(registry.file(str(item["content"])), figures / str(item["name"]))
    for item in collection.items(DATA):
        kind, _, name = str(item["name"]).partition(" ")
        folder = figures if kind == "figure" else tables
        read_table(item, registry).to_csv(folder / f"{name.replace(' ', '_')}.csv", index=False)
    note = f"Runs {', '.join(one[:_RUN_DIGITS] for one in subject.run_ids)}" if subject.run_ids else ""
    for item in collection.items(TABLE):
        name = str(item["name"])
        text = latex_table(
            read_table(item, registry), caption=str(item["caption"]), label=f"{subject.name}-{name}", note=note
        )
        (tables / f"{name}.tex").write_text(text, encoding="utf-8")


def _numbers(parts: Iterable[Part]) -> pd.DataFrame:
    """All numbers of all subjects: name, value and text."""
    found = []
    for part in parts:
        for item in _collection(part).items(NUMBER):
            table = read_table(item, part.registry)
            found.append(table.assign(name=part.subject.name + "/" + table["name"]))
    return pd.concat(found, ignore_index=True)


def _collection(part: Part) -> Collection:
    found = find_collection(part.subject, part.registry)
    assert found is not None, "checked before"
    return found


def _typst() -> Any:
    try:
        import typst
    except ModuleNotFoundError:
        raise ModuleNotFoundError('a paper needs typst; pip install "mimic[whitepaper]".') from None
    return typst
