"""Prepared choice sets into trained models: every member of every model, and the choice among them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from mimic.baseline import BASELINE, Baseline, fit_baseline
from mimic.configuration import TRUTH, Configuration
from mimic.grid import Selection, select
from mimic.identity import choices_id, code_version
from mimic.preparation import Prepared, Progress
from mimic.schema import TRAIN, ChoiceSets
from mimic.sweep import Sweep, Trainee, monitor_of, outcome_table, require_one_finished, trainee_of
from mimic.synthetic import read_truth, true_log_odds

if TYPE_CHECKING:
    from mimic.model import LogOddsModel
    from mimic.registry import Registry
    from mimic.runrecords import RunRecord

__all__ = ["Fit", "fit_models"]


@dataclass(frozen=True, eq=False)
class Fit:
    """What training gave.

    Parameters
    ----------
    models
        Name -> model: of a grid the best member of the best configuration, see `mimic.grid.select`, and as
        `NAME_seeds` the mean probability over the seeds of that configuration.
    history
        The histories of all members below each other, with the columns model and member.
    log_odds
        Name -> (row,), nats; `truth` too where the experiment knows it (individual effects at their mean).
    best_epochs
        Of the models that have one.
    members
        One row a member: run, parameters, seed, status, best epoch, true losses, verdicts of the doctor.
    selection
        One row a configuration of a grid: the spread of the validation loss over its seeds.
    search
        One row a rung of successive halving, with the epochs it spent; empty for a full grid.
    chosen
        Model -> the member whose weights it has.
    runs
        Model -> the ids of the runs behind it.
    n_trained
        Runs that were trained now, and not found in the registry.
    """

    models: dict[str, LogOddsModel]
    history: pd.DataFrame
    log_odds: dict[str, np.ndarray]
    best_epochs: dict[str, int] = field(default_factory=dict)
    members: pd.DataFrame = field(default_factory=pd.DataFrame)
    selection: pd.DataFrame = field(default_factory=pd.DataFrame)
    search: pd.DataFrame = field(default_factory=pd.DataFrame)
    chosen: dict[str, str] = field(default_factory=dict)
    runs: dict[str, list[str]] = field(default_factory=dict)
    n_trained: int = 0
    baseline: Baseline | None = None


def _silent(what: str, done: int, total: int, note: str = "") -> None:
    return None


def fit_models(
    configuration: Configuration,
    prepared: Prepared,
    *,
    registry: str | Path | None = None,
    files: str | Path | None = None,
    n_workers: int | None = None,
    cluster: str | None = None,
    retrain: bool = False,
    before_training: Callable[[], None] = lambda: None,
    progress: Progress = _silent,
) -> Fit:
    """Train every member of every model on the training split, and choose among them on validation.

    Parameters
    ----------
    registry
        Folder or URL where runs are recorded, and found again instead of being trained; None records nothing.
    files
        The folder of the models' files, where the registry is a URL.
    n_workers
        Processes that train side by side; 1 is this one. By default one a processor, where it is worth it.
        Results are the same, to the last bit, where TensorFlow runs on one thread here too.
    cluster
        The address of a dask scheduler whose workers train instead.
    retrain
        Train again what the registry has.
    before_training
        Called before anything here imports TensorFlow.

    Raises
    ------
    mimic.sweep.MemberFailure
        A ValueError: if a member cannot be trained.
    """
    from mimic.registry import Registry

    with ExitStack() as stack:
        if registry is None:
            registry = stack.enter_context(TemporaryDirectory(prefix="mimic-"))
        before = lru_cache(maxsize=1)(before_training)
        if "://" in str(registry) and files is None:
            raise ValueError("a registry at a URL needs a folder for the files of models and figures: --files FOLDER.")
        opened = Registry(registry, files=files)
        experiment = opened.record_experiment(
            name=configuration.name,
            configuration=configuration.model_dump(mode="json"),
            data=choices_id(prepared.choice_sets, list(prepared.choice_sets.features)),
            code=code_version(),
        )
        trainees = {name: _trainees(configuration, prepared.choice_sets, name) for name in configuration.models}
        with Sweep(
            opened,
            str(registry),
            experiment,
            prepared.choice_sets,
            n_workers=n_workers,
            cluster=cluster,
            retrain=retrain,
            before_training=before,
            progress=progress,
        ) as sweep:
            records, search = _search(configuration, sweep, trainees)
        reached = {m: [t for t in own if t.task.run in records] for m, own in trainees.items()}
        tables = {m: outcome_table(own, records) for m, own in reached.items() if own}
        selections = {m: _select(reached[m], table, records) for m, table in tables.items()}
        before()
        models, chosen, runs = _models(configuration, opened, reached, selections, records)
        finals = [t for own in reached.values() for t in own]
        history = _histories(opened, finals)
    best = {m: records[chosen_run].best_epoch for m, chosen_run in _chosen_runs(chosen, tables).items()}
    _check_scalings(configuration, models, prepared.choice_sets)
    log_odds = {name: model.log_odds(prepared.choice_sets) for name, model in models.items()}
    baseline = _baseline(configuration, prepared.choice_sets)
    if baseline is not None and baseline.fit is not None:
        log_odds[BASELINE] = baseline.log_odds(prepared.choice_sets)
    if configuration.truth is not None:
        log_odds[TRUTH] = true_log_odds(read_truth(configuration.truth.file)[0], prepared.choice_sets)
    several = {m: s.table.assign(model=m) for m, s in selections.items() if len(tables[m]) > 1}
    return Fit(
        models,
        history,
        log_odds,
        best_epochs={m: int(epoch) for m, epoch in best.items() if epoch is not None},
        members=_below(list(tables.values())),
        selection=_below(list(several.values())),
        search=search,
        chosen=chosen,
        runs=runs,
        n_trained=sweep.n_trained,
        baseline=baseline,
    )


def _baseline(configuration: Configuration, choice_sets: ChoiceSets) -> Baseline | None:
    """The conditional logit of the training decisions, where the experiment wants one."""
    rules = configuration.baseline
    if rules is None or not configuration.has_baseline:
        return None
    return fit_baseline(choice_sets.split(TRAIN), configuration.baseline_features, weighting=rules.weighting)


def _trainees(configuration: Configuration, choice_sets: ChoiceSets, model: str) -> list[Trainee]:
    section = configuration.models[model]
    if not section.features:
        return []
    kind = "ensemble" if section.ensemble else section.kind
    return [
        trainee_of(
            member,
            choice_sets,
            kind=kind,
            features=section.features,
            options={**configuration.contrasts.model_dump(), **member.training},
            ensemble=section.ensemble.model_dump() if section.ensemble else None,
        )
        for member in configuration.members_of(model)
    ]


def _search(
    configuration: Configuration, sweep: Sweep, trainees: Mapping[str, list[Trainee]]
) -> tuple[dict[str, RunRecord], pd.DataFrame]:
    """The records of all members that were trained to the end, and what halving spent."""
    rules = configuration.search
    halved = [
        name
        for name, own in trainees.items()
        if rules.method == "halving"
        and own
        and own[0].task.kind == "network"
        and len({t.member.configuration for t in own}) > 1
    ]
    rest = [t for name, own in trainees.items() if name not in halved for t in own]
    records = sweep.finish(rest) if rest else {}
    spent = []
    for name in halved:
        more, table = sweep.halve(trainees[name], factor=rules.factor, min_epochs=rules.min_epochs)
        records |= more
        spent.append(table.assign(model=name))
    return records, _below(spent)


def _select(trainees: list[Trainee], table: pd.DataFrame, records: Mapping[str, RunRecord]) -> Selection:
    require_one_finished(trainees, records)
    monitor = monitor_of(trainees[0].task.options)
    # a lone member has nothing to choose, and may have come without validation
    return select(table, monitor=monitor.removeprefix("val_") if len(trainees) == 1 else monitor)


def _models(
    configuration: Configuration,
    registry: Registry,
    trainees: Mapping[str, list[Trainee]],
    selections: Mapping[str, Selection],
    records: Mapping[str, RunRecord],
) -> tuple[dict[str, LogOddsModel], dict[str, str], dict[str, list[str]]]:
    """The models by name, the member that each is, and the runs behind each."""
    from mimic.ensemble import combine
    from mimic.model import load_model, zero_model

    models: dict[str, LogOddsModel] = {}
    chosen: dict[str, str] = {}
    runs: dict[str, list[str]] = {}
    seeds_models = configuration.seeds_models
    for name in configuration.models:
        if name not in selections:
            models[name] = zero_model()
            continue
        selection = selections[name]
        own = {
            t.member.name: records[t.task.run]
            for t in trainees[name]
            if t.member.configuration == selection.configuration and records[t.task.run].status == "finished"
        }
        loaded = {m: load_model(registry.file(r.files["model"])) for m, r in own.items() if "model" in r.files}
        models[name], chosen[name] = loaded[selection.member], selection.member
        runs[name] = [own[selection.member].id]
        if name in seeds_models and len(loaded) > 1 and trainees[name][0].task.kind == "network":
            models[seeds_models[name]] = combine(list(loaded.values()), "mean_probability")
            runs[seeds_models[name]] = [own[m].id for m in loaded]
    return models, chosen, runs


def _check_scalings(configuration: Configuration, models: Mapping[str, LogOddsModel], choice_sets: ChoiceSets) -> None:
    """Read the scaling off every single network, and see that it is that of the training decisions alone."""
    from mimic.network import check_scaling

    training = choice_sets.split(TRAIN)
    for name, section in configuration.models.items():
        model = models.get(name)
        if model is not None and model.network is not None and section.kind == "network" and section.ensemble is None:
            check_scaling(model, training)


def _chosen_runs(chosen: Mapping[str, str], tables: Mapping[str, pd.DataFrame]) -> dict[str, str]:
    return {m: str(tables[m].set_index("member")["run"][member]) for m, member in chosen.items()}


def _histories(registry: Registry, trainees: list[Trainee]) -> pd.DataFrame:
    records = registry.find_runs([t.task.run for t in trainees], history=True)
    parts = [records[t.task.run].history.assign(model=t.member.model, member=t.member.name) for t in trainees]
    return _below([part for part in parts if len(part)])


def _below(tables: list[pd.DataFrame]) -> pd.DataFrame:
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()
