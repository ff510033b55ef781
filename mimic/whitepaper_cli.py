"""The command `mimic whitepaper`: finished runs into the paper about them, or into what is stale in it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mimic.answers import answer
from mimic.bars import progress_bars

if TYPE_CHECKING:
    from mimic.collection import Problem
    from mimic.paper import Part

__all__ = ["whitepaper_command"]

_RUNS = Path("runs")
_PAPER = "whitepaper"


def whitepaper_command(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(help="Run folders. With --check by default all folders in runs/ that have a paper."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the paper; by default whitepaper in the run, of several beside them.")
    ] = None,
    text: Annotated[
        Path | None, typer.Option(help="Your own text, a Typst file; by default a text that fits any study.")
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Only tell what is missing, altered or stale.")] = False,
    refresh: Annotated[bool, typer.Option("--refresh", help="Compute and draw all items anew.")] = False,
    date: Annotated[str, typer.Option(help="A date to print; by default none, and equal content is equal bytes.")] = "",
    registry: Annotated[
        str | None, typer.Option(envvar="MIMIC_REGISTRY", help="Where the runs are recorded; by default they know.")
    ] = None,
    files: Annotated[
        Path | None,
        typer.Option(envvar="MIMIC_REGISTRY_FILES", help="Folder of the files, where the registry is a URL."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object on standard output, nothing else.")
    ] = False,
) -> None:
    """Write the paper of runs: PDF, figures (PDF, SVG, PNG) and tables (CSV, LaTeX), all from the registry.

    What a paper shows is recorded by name when it is first made. Later an item that is missing, altered or stale stops
    the build; --check names all of them and ends with code 1, --refresh makes them anew.
    """
    if check and refresh:
        raise ValueError("--check changes nothing and --refresh makes everything anew; give one of them.")
    folders = list(runs or [])
    if not folders:
        if not check:
            raise ValueError("expected run folders, such as runs/demo; got none. `mimic run` makes them.")
        folders = sorted(path.parent for path in _RUNS.glob(f"*/{_PAPER}") if (path.parent / "summary.json").is_file())
        if not folders:
            raise ValueError(f"no run in {_RUNS}/ has a paper yet; `mimic whitepaper RUN` writes one.")
    where = out or (folders[0] / _PAPER if len(folders) == 1 else folders[0].resolve().parent / _PAPER)
    from mimic.paper import build_paper, check_paper

    with progress_bars() as progress:
        parts = _parts(folders, registry, files, refresh=refresh, collects=not check, progress=progress)
        if check:
            _answer_check(folders, check_paper(parts, text), as_json)
            return
        progress("setting the paper", 0, 1)
        written = build_paper(parts, where, text=text, date=date)
        progress("setting the paper", 1, 1)
    result = {"out": str(where), "paper": str(where / "whitepaper.pdf"), "files": [str(path) for path in written]}
    answer(
        result,
        as_json,
        lambda: f"{result['paper']}\n{len(written) - 1} more files are in {where}: figures, tables, numbers",
    )


def _parts(
    folders: list[Path], registry: str | None, files: Path | None, *, refresh: bool, collects: bool, progress: Any
) -> list[Part]:
    """The runs and the simulation that is recorded beside them, each collected where it never was."""
    from mimic.collection import collect, find_collection
    from mimic.paper import Part
    from mimic.study import load_study, open_registry
    from mimic.subjects import power_subject, recorded_power, study_subject

    parts = []
    for folder in folders:
        opened = open_registry(folder, registry, files)
        parts.append(Part(study_subject(load_study(folder, opened)), opened))
    power = recorded_power(parts[0].registry)
    if power is not None:
        parts.append(Part(power_subject(power), parts[0].registry))
    for part in parts if collects else ():
        if refresh or find_collection(part.subject, part.registry) is None:
            from mimic.tensorflow_start import start_tensorflow

            start_tensorflow()
            collect(part.subject, part.registry, progress=progress)
    return parts


def _answer_check(folders: list[Path], problems: list[Problem], as_json: bool) -> None:
    """Print what is amiss; the exit code says whether something is."""
    found = [{"name": p.name, "kind": p.kind, "reason": p.reason} for p in problems]

    def text() -> str:
        if not problems:
            return f"every number, table and figure of {', '.join(map(str, folders))} is as its sources give it"
        return "\n".join(f"{p.name} ({p.kind}) {p.reason}" for p in problems)

    answer({"runs": [str(folder) for folder in folders], "problems": found}, as_json, text)
    if problems:
        sys.exit(1)
