"""A finished run folder and its registry into a study: everything that a paper about it is made from."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mimic.baseline import BASELINE
from mimic.configuration import Configuration, load_configuration
from mimic.identity import choices_id, content_id, table_id
from mimic.recorded import find_tables
from mimic.registry import Registry
from mimic.runrecords import RunRecord, to_json
from mimic.runs import REGISTRY, load_run, load_summary
from mimic.schema import ORIGIN, ChoiceSets

__all__ = ["Study", "load_study", "open_registry"]

_FOLDER_TABLES = ("ledger", "members", "selection", "search", BASELINE)
_TEXT = ("model", "member", "configuration", "run", "status", "feature", "stage", "reason", "example")
_METRICS = ("true_contrast_loss", "true_decision_loss", "val_true_contrast_loss", "val_true_decision_loss")


@dataclass(frozen=True, eq=False)
class Study:
    """A run of an experiment with all its tables.

    Parameters
    ----------
    folder
        Of the run.
    configuration, summary, choice_sets, log_odds
        As the run has them.
    tracks
        Resampled tracks, or None for a ready table of choices.
    tables
        evaluation, differences, chain, shares, bins (of the registry); ledger, members, selection, search,
        conditional_logit (of the folder); those that are not there are empty.
    records
        Run id -> what the registry knows of each training behind this study, with its history.
    """

    folder: Path
    configuration: Configuration
    summary: Mapping[str, Any]
    choice_sets: ChoiceSets
    log_odds: Mapping[str, np.ndarray]
    tracks: pd.DataFrame | None
    tables: Mapping[str, pd.DataFrame]
    records: Mapping[str, RunRecord]

    @property
    def name(self) -> str:
        """Of the experiment."""
        return self.configuration.name

    @cached_property
    def run_ids(self) -> list[str]:
        """Ids of the runs behind the models, in the order of the models."""
        return list(dict.fromkeys(one for ids in self.summary["runs"].values() for one in ids))

    @property
    def models(self) -> list[str]:
        """The models of the experiment as it names them: no means over seeds, no baseline beside others, no truth."""
        named = [name for name in self.configuration.models if name in self.log_odds]
        return [name for name in named if name != BASELINE] or named

    @property
    def is_spatial(self) -> bool:
        """Whether choices are cells around an origin."""
        return ORIGIN in self.choice_sets.decisions and self.configuration.bins is None and self.tracks is not None

    @cached_property
    def history(self) -> pd.DataFrame:
        """The histories of all members, one after the other, with the columns model, member and run."""
        members = self.tables["members"]
        if "run" not in members:
            return pd.DataFrame()
        parts = [
            self.records[str(row["run"])].history.assign(model=row["model"], member=row["member"], run=row["run"])
            for row in members.to_dict(orient="records")
            if str(row["run"]) in self.records
        ]
        return pd.concat([part for part in parts if len(part)], ignore_index=True) if any(map(len, parts)) else parts[0]

    @cached_property
    def sources(self) -> Mapping[str, str]:
        """Name of what items are made from -> id of its content: records of the registry, files of the folder."""
        found = {name: table_id(table) for name, table in self.tables.items()}
        found["runs"] = _digest("\n".join(to_json(_facts(record)) for record in self.records.values()).encode())
        found["epochs"] = content_id([table_id(record.history) for record in self.records.values()])
        found["log_odds"] = content_id([[name, _digest(values.tobytes())] for name, values in self.log_odds.items()])
        found["choices"] = choices_id(
            self.choice_sets, list(self.choice_sets.features), context=list(map(str, self.choice_sets.decisions))
        )
        found["configuration"] = content_id(self.configuration.to_yaml())
        if self.tracks is not None:
            found["tracks"] = table_id(self.tracks)
        return found


def open_registry(folder: Path, registry: str | Path | None = None, files: str | Path | None = None) -> Registry:
    """The registry of a run: the one given, or that which the run was recorded in, or the one beside the run now.

    Raises
    ------
    FileNotFoundError
        If there is none.
    """
    recorded = load_summary(folder).get("registry")
    beside = folder.resolve().parent / REGISTRY
    places = [registry] if registry is not None else [place for place in (recorded, beside) if place is not None]
    for place in places:
        if "://" in str(place) or (Path(place) / "registry.sqlite").is_file():
            return Registry(place, files=files, create=False)
    raise FileNotFoundError(
        f"no registry at {' or '.join(map(str, places))}, where the runs behind {folder} are recorded; give --registry."
    )


def load_study(folder: Path, registry: Registry) -> Study:
    """Read a run folder and what the registry knows about it.

    Raises
    ------
    FileNotFoundError
        If the folder is no run folder.
    ValueError
        If the registry lacks runs or tables of it; all are named.
    """
    summary = load_summary(folder)
    choice_sets, log_odds = load_run(folder)
    configuration = load_configuration(folder / "configuration.yaml")
    tables = {name: _read(folder / f"{name}.csv") for name in _FOLDER_TABLES}
    wanted = list(dict.fromkeys(one for ids in summary["runs"].values() for one in ids))
    members = tables["members"]
    if "run" in members:
        wanted = list(dict.fromkeys([*wanted, *members["run"].dropna().astype(str)]))
    records = registry.find_runs(wanted, history=True)
    if len(records) < len(wanted):
        lost = [one for one in wanted if one not in records]
        raise ValueError(f"{registry.name} lacks run {', '.join(lost)} of {folder}; run the experiment again.")
    evaluated = find_tables(registry, summary["runs"], log_odds, configuration)
    if evaluated is None:
        raise ValueError(f"{registry.name} has no evaluation of the models in {folder}; run the experiment again.")
    tracks = folder / "tracks.parquet"
    return Study(
        folder=folder,
        configuration=configuration,
        summary=summary,
        choice_sets=choice_sets,
        log_odds=log_odds,
        tracks=pd.read_parquet(tracks) if tracks.is_file() else None,
        tables={**evaluated, **tables, "members": _with_metrics(members, records)},
        records=records,
    )


def _read(path: Path) -> pd.DataFrame:
    """A table of the folder; names and ids stay text, whatever they look like (a model NA, a run id of digits)."""
    if not path.is_file():
        return pd.DataFrame()
    text = dict.fromkeys(_TEXT, "str")
    return pd.read_csv(path, dtype=text, keep_default_na=False, na_values=[""])


def _facts(record: RunRecord) -> list[Any]:
    """All of a run but its history, and what only tells when and where it was trained."""
    return [
        record.id,
        record.model,
        record.status,
        record.seed,
        record.best_epoch,
        record.data,
        record.code,
        dict(record.configuration),
        dict(record.metrics),
        dict(record.facts),
        list(record.verdicts),
        dict(record.files),
    ]


def _with_metrics(members: pd.DataFrame, records: Mapping[str, RunRecord]) -> pd.DataFrame:
    """The members with their losses, status and best epoch as the registry has them now."""
    if "run" not in members:
        return members
    known = [records[one] for one in members["run"].astype(str)]
    new = {name: [float(r.metrics.get(name, math.nan)) for r in known] for name in _METRICS if name in members}
    return members.assign(
        **new, status=[r.status for r in known], best_epoch=pd.Series([r.best_epoch for r in known], dtype=object)
    )


def _digest(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()[:16]
