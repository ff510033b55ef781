"""A run folder, or the id of a run, into what the training doctor says of each member."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mimic.doctor import Verdict, diagnose, explain
from mimic.ideal import ideal_losses
from mimic.registry import Registry
from mimic.runrecords import RunRecord
from mimic.runs import REGISTRY, load_summary
from mimic.schema import TRAIN, ChoiceSets
from mimic.sweep import ROWS_FOR_IDEAL, find_verdicts
from mimic.tables import load_choices

__all__ = ["consult", "format_consultations"]


def consult(run: str, *, registry: str | None = None) -> list[dict[str, Any]]:
    """What the doctor says of every network of a run, from the histories in the registry.

    Parameters
    ----------
    run
        A run folder: the members that its models are made of. Or the id of a run, or its beginning: then the ideal
        loss is not known, and with it "underfitting" not seen.
    registry
        By default the one that the run folder names, or runs/registry.

    Returns
    -------
    One mapping a network: run, model, seed, best_epoch, verdicts (name, since_epoch, evidence, advice, numbers).

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
        where = registry or _registry_of(folder, summary.get("registry"))
        choice_sets: ChoiceSets | None = load_choices(folder / "choices").split(TRAIN)
    else:
        where = registry or f"runs/{REGISTRY}"
        ids, choice_sets = [run], None
    opened = Registry(where, create=False)
    if choice_sets is None:
        ids = [opened.resolve(run)]
    records = opened.find_runs(ids, history=True)
    missing = [one for one in ids if one not in records]
    if missing:
        raise ValueError(f"the registry {opened.name} has no run {', '.join(missing)}; name another with --registry.")
    return [_consultation(r, choice_sets) for r in records.values() if r.configuration.get("kind") == "network"]


def _registry_of(folder: Path, named: str | None) -> str:
    """Where the run says that it was recorded; beside the run, where both have been moved."""
    if named is not None and ("://" in named or Path(named).is_dir()):
        return named
    return str(folder.resolve().parent / REGISTRY)


def _consultation(record: RunRecord, choice_sets: ChoiceSets | None) -> dict[str, Any]:
    options = record.configuration["training"]
    if choice_sets is None:
        verdicts = diagnose(record.history, options=options, facts=record.facts)
    else:
        features = record.configuration["features"]
        ideal = ideal_losses(choice_sets, features) if choice_sets.n_rows <= ROWS_FOR_IDEAL else None
        verdicts = find_verdicts(record.history, options, record.facts, choice_sets=choice_sets, ideal=ideal)
    return {
        "run": record.id,
        "model": record.model,
        "seed": record.seed,
        "best_epoch": record.best_epoch,
        "verdicts": [
            {
                "name": verdict.name,
                "since_epoch": verdict.since_epoch,
                "evidence": verdict.evidence,
                "advice": verdict.advice,
                "numbers": dict(verdict.numbers),
            }
            for verdict in verdicts
        ],
    }


def format_consultations(found: Sequence[dict[str, Any]]) -> str:
    """What the command line prints."""
    if not found:
        return "no network in this run: nothing to examine."
    blocks = []
    for one in found:
        verdicts = [Verdict(**verdict) for verdict in one["verdicts"]]
        blocks.append(f"{one['model']} (run {one['run']}, seed {one['seed']})\n{explain(verdicts)}")
    return "\n\n".join(blocks)
