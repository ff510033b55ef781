"""The command that makes one interactive HTML file of a finished run: `mimic report`."""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from mimic.answers import answer

__all__ = ["report_command"]

_NAME = "report.html"


def report_command(
    run: Annotated[Path, typer.Argument(help="The folder of a run.")],
    out: Annotated[Path | None, typer.Option(help=f"The file to write; by default {_NAME} in the run.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file of this name.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object on standard output, nothing else.")
    ] = False,
) -> None:
    """Make one interactive HTML page of a run: groups, a map of the decisions in time, individuals, response curves.

    The page is a single file that needs no network and no server: open it in a browser, send it by mail.
    """
    from mimic.runs import load_summary

    path = run / _NAME if out is None else out
    load_summary(run)
    _check_file(path, overwrite=overwrite)
    try:
        import_module("bokeh")
    except ModuleNotFoundError:
        advice = 'the page is made with bokeh, which is not installed; pip install "mimic[html]" brings it.'
        raise ImportError(advice) from None
    from mimic.page import page_html
    from mimic.page_tables import page_tables
    from mimic.wholefile import write_whole

    tables = page_tables(run)
    raw = page_html(tables).encode()
    write_whole(path, raw)
    result = {
        "run": str(run),
        "out": str(path),
        "bytes": len(raw),
        "n_decisions": tables.n_all,
        "n_decisions_shown": len(tables.decisions),
        "n_decisions_unknown": tables.n_unknown,
        "n_individuals": len(tables.individuals),
        "models": list(tables.models),
        "map": not tables.no_map,
    }
    answer(result, as_json, lambda: _told(path, len(raw), tables.n_all, len(tables.individuals), tables.no_map))


def _told(path: Path, n_bytes: int, n_decisions: int, n_individuals: int, no_map: str) -> str:
    lines = [f"{n_decisions:,} decisions of {n_individuals:,} individuals"]
    lines += [no_map] if no_map else []
    return "\n".join([*lines, f"wrote {path} ({n_bytes / 1e6:.1f} MB); open it in a browser"])


def _check_file(path: Path, *, overwrite: bool) -> None:
    """Refuse a file that exists or cannot be written, before any work is done."""
    if path.suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"expected a file name that ends in .html; got {path.name}.")
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; give the name of a file, such as {path / _NAME}.")
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists; choose another --out or add --overwrite.")
    nearest = next(parent for parent in path.resolve().parents if parent.exists())
    if not nearest.is_dir():
        raise NotADirectoryError(f"{path} cannot be made: {nearest} is a file.")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise PermissionError(f"{path} cannot be made: no permission to write in {nearest}.")
