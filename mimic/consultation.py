"""A run folder, or the id of a run, into what the training doctor says of each member."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mimic.doctor import Verdict, diagnose, explain
from mimic.registry import Registry
from mimic.runrecords import RunRecord
from mimic.runs import REGISTRY, load_summary
from mimic.sweep import VERDICTS_FILE

__all__ = ["consult", "format_consultations"]


def consult(run: str, *, registry: str | None = None, files: str | Path | None = None) -> list[dict[str, Any]]:
    """What the doctor said of every network of a run when it was recorded.

    Parameters
    ----------
    run
        A run folder: the members that its models are made of. Or the id of a run, or its beginning.
    registry, files
        By default the registry that the run folder names, or runs/registry.

    Returns
    -------
    One mapping a network or ensemble: run, model, seed, best_epoch, verdicts (name, since_epoch, evidence, advice,
    numbers).

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no such run, or the registry does not have it.
    """
    folder = Path(run)
    if folder.is_dir():
        summary = load_summary(folder)
        ids = list(dict.fromkeys(one for several in summary.get("runs", {}).values() for one in several))
        if not ids:
            raise ValueError(f"{folder} has no trained network; give the --out of a mimic run that trained one.")
        opened = Registry(registry or _registry_of(folder, summary.get("registry")), files=files, create=False)
    else:
        opened = Registry(registry or f"runs/{REGISTRY}", files=files, create=False)
        ids = [opened.resolve(run)]
    records = opened.find_runs(ids, history=True)
    missing = [one for one in ids if one not in records]
    if missing:
        raise ValueError(f"the registry {opened.name} has no run {', '.join(missing)}; name another with --registry.")
    examined = [r for r in records.values() if r.configuration.get("kind") in ("network", "ensemble")]
    return [_consultation(record, opened) for record in examined]


def _registry_of(folder: Path, named: str | None) -> str:
    """Where the run says that it was recorded; beside the run, where both have been moved."""
    if named is not None and ("://" in named or Path(named).is_dir()):
        return named
    return str(folder.resolve().parent / REGISTRY)


def _consultation(record: RunRecord, registry: Registry) -> dict[str, Any]:
    return {
        "run": record.id,
        "model": record.model,
        "seed": record.seed,
        "best_epoch": record.best_epoch,
        "verdicts": _verdicts(record, registry),
    }


def _verdicts(record: RunRecord, registry: Registry) -> list[dict[str, Any]]:
    """As they were recorded; where only their names are left, what the curves alone still show."""
    if not record.verdicts:
        return []
    try:
        found: list[dict[str, Any]] = json.loads(registry.file(record.files[VERDICTS_FILE]).read_text(encoding="utf-8"))
        return found
    except (FileNotFoundError, KeyError):
        options = record.configuration["training"]
        return [asdict(v) for v in diagnose(record.history, options=options, facts=record.facts)]


def format_consultations(found: Sequence[dict[str, Any]]) -> str:
    """What the command line prints."""
    if not found:
        return "no network in this run: nothing to examine."
    blocks = []
    for one in found:
        verdicts = [Verdict(**verdict) for verdict in one["verdicts"]]
        blocks.append(f"{one['model']} (run {one['run']}, seed {one['seed']})\n{explain(verdicts)}")
    return "\n\n".join(blocks)
