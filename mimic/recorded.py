"""What a run computes into the registry, and back out of it: evaluations computed once, figures with their runs."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from mimic.assessment import assess
from mimic.configuration import Configuration
from mimic.experiment import Fit
from mimic.identity import choices_id, code_version
from mimic.registry import Registry
from mimic.schema import ChoiceSets

__all__ = ["TABLES", "assess_once", "record_figures"]

TABLES = ("evaluation", "shares", "differences", "chain", "bins")
"""The tables of an experiment that the registry keeps."""

_EVALUATION = ("evaluation", "comparison", "chain", "bin_shares")


def assess_once(
    configuration: Configuration, choice_sets: ChoiceSets, fit: Fit, registry: str | Path
) -> dict[str, pd.DataFrame]:
    """The tables of `mimic.assessment.assess`: from the registry where they were computed before.

    What decides about them is in their key: the data, each model's log-odds, the groups and the code.
    """
    opened = Registry(registry)
    groups_in_order = {name: _in_order(groups) for name, groups in configuration.groups.model_dump().items()}
    key: dict[str, Any] = {
        "data": choices_id(choice_sets, list(choice_sets.features), context=list(map(str, choice_sets.decisions))),
        # Lists, because the order of models and groups is that of the tables.
        "models": [
            [name, fit.runs.get(name, []), hashlib.sha256(log_odds.tobytes()).hexdigest()]
            for name, log_odds in fit.log_odds.items()
        ],
        "groups": groups_in_order,
        "bins": None if configuration.bins is None else [list(configuration.bins.edges), configuration.bins.unit],
        "code": code_version(roots=_EVALUATION),
    }
    runs = list(dict.fromkeys(run for ids in fit.runs.values() for run in ids))
    found = {name: opened.find_evaluation({**key, "table": name}) for name in TABLES}
    known = {name: table for name, table in found.items() if table is not None}
    if len(known) == len(TABLES):
        return known
    tables = assess(configuration, choice_sets, fit.log_odds)
    for name in TABLES:
        opened.record_evaluation({**key, "table": name}, tables[name], runs, replace=True)
    return tables


def _in_order(value: Any) -> Any:
    """Mappings as lists of pairs: the order of groups and stages is that of the tables."""
    return [[key, _in_order(one)] for key, one in value.items()] if isinstance(value, dict) else value


def record_figures(
    registry: str | Path,
    configuration: Configuration,
    fit: Fit,
    figures: Sequence[Path],
    *,
    files: str | Path | None = None,
) -> None:
    """Every figure with the experiment it shows and the runs behind it. `files` as in `mimic.registry.Registry`."""
    opened = Registry(registry, files=files)
    runs = list(dict.fromkeys(run for ids in fit.runs.values() for run in ids))
    for path in figures:
        opened.record_figure(
            path,
            name=f"{configuration.name}_{path.stem}",
            caption=f"{path.stem} of the experiment {configuration.name}",
            annotations={"experiment": configuration.name},
            runs=runs,
        )
