"""What a run computes into the registry, and back out of it: evaluations computed once, figures with their runs."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mimic.assessment import assess
from mimic.configuration import Configuration
from mimic.experiment import Fit
from mimic.identity import choices_id, code_version
from mimic.registry import Registry
from mimic.schema import ChoiceSets

__all__ = ["TABLES", "assess_once", "find_tables", "record_figures"]

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
    key: dict[str, Any] = {
        "data": choices_id(choice_sets, list(choice_sets.features), context=list(map(str, choice_sets.decisions))),
        **_models_and_groups(configuration, fit.runs, fit.log_odds),
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


def find_tables(
    registry: Registry,
    runs: Mapping[str, Sequence[str]],
    log_odds: Mapping[str, np.ndarray],
    configuration: Configuration,
) -> dict[str, pd.DataFrame] | None:
    """The tables recorded for models with these runs, log-odds and groups, whatever code computed them; the newest.

    Parameters
    ----------
    runs
        Model -> ids of the runs behind it.

    Returns
    -------
    The tables `TABLES` by name; None where one of them is not there.
    """
    wanted = _models_and_groups(configuration, runs, log_odds)
    keys = [
        key for key in registry.evaluations()["key"] if all(key.get(name) == value for name, value in wanted.items())
    ]
    for key in reversed([key for key in keys if key.get("table") == TABLES[0]]):
        found = {name: registry.find_evaluation({**key, "table": name}) for name in TABLES}
        known = {name: table for name, table in found.items() if table is not None}
        if len(known) == len(TABLES):
            return known
    return None


def _models_and_groups(
    configuration: Configuration, runs: Mapping[str, Sequence[str]], log_odds: Mapping[str, np.ndarray]
) -> dict[str, Any]:
    """What of the key of an evaluation says whose it is."""
    return {
        # Lists, because the order of models and groups is that of the tables.
        "models": [
            [name, list(runs.get(name, [])), hashlib.sha256(values.tobytes()).hexdigest()]
            for name, values in log_odds.items()
        ],
        "groups": {name: _in_order(groups) for name, groups in configuration.groups.model_dump().items()},
        "bins": None if configuration.bins is None else [list(configuration.bins.edges), configuration.bins.unit],
    }


def _in_order(value: Any) -> Any:
    """Mappings as lists of pairs, tuples as lists: the order of groups is that of the tables, and JSON gives it back."""
    if isinstance(value, dict):
        return [[key, _in_order(one)] for key, one in value.items()]
    return [_in_order(one) for one in value] if isinstance(value, list | tuple) else value


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
