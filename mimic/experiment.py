"""A `Configuration` into choice sets, trained models and evaluation tables: the whole line, nothing written."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from mimic.baseline import BASELINE, Baseline, fit_baseline
from mimic.chain import chain_rule
from mimic.choices import Source, area_source, build_choices, covariate_source, make_decisions, require_decisions
from mimic.comparison import compare
from mimic.configuration import Configuration
from mimic.covariates import Covariate
from mimic.evaluation import evaluate, mean_choice_probability
from mimic.expressions import parse
from mimic.features import FeatureSpec, check_variation
from mimic.grid import Selection, select
from mimic.groups import behavior_mask, choice_mask
from mimic.identity import choices_id, code_version
from mimic.ledger import Ledger
from mimic.schema import INDIVIDUAL, SPLIT, TRAIN, VALIDATION, ChoiceSets, examples, require_columns
from mimic.splits import audit_split, split_individuals
from mimic.stages import default_stages, divide
from mimic.sweep import Sweep, Trainee, monitor_of, outcome_table, require_one_finished, trainee_of
from mimic.synthetic import read_truth, true_log_odds
from mimic.tables import read_choice_table
from mimic.tracks import clean_tracks, read_tracks, resample_tracks

if TYPE_CHECKING:
    from mimic.model import LogOddsModel
    from mimic.registry import Registry
    from mimic.runrecords import RunRecord

__all__ = ["TRUTH", "Fit", "Prepared", "Progress", "assess", "fit_models", "model_pairs", "prepare"]

TRUTH = "truth"

Progress = Callable[..., None]
"""Called as progress(what, done, total), and with a note where there is one; the command line draws bars with it."""


@dataclass(frozen=True, eq=False)
class Prepared:
    """The data of an experiment, ready to train on.

    Parameters
    ----------
    choice_sets
        All decisions, with the column `split`.
    ledger
        Everything dropped on the way.
    n_read
        Rows of the track file (or decisions of the table): n_read = decisions + dropped fixes and decisions.
    tracks
        The resampled tracks with `split`, or None for a ready table.
    """

    choice_sets: ChoiceSets
    ledger: Ledger
    n_read: int
    tracks: pd.DataFrame | None


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


def prepare(configuration: Configuration, *, progress: Progress = _silent) -> Prepared:
    """Read, clean, resample and split the tracks (or a ready table) and build the choice sets.

    Raises
    ------
    FileNotFoundError, ValueError
        With one message that says what was expected, what came and what to try; when no decision is left,
        with the whole ledger. Groups and features are checked here too, before anything is trained.
    """
    is_table = configuration.table is not None
    prepared = _from_table(configuration) if is_table else _from_tracks(configuration, progress)
    require_decisions(prepared.choice_sets, prepared.ledger)
    audit_split(prepared.choice_sets.decisions)
    _check_before_training(configuration, prepared)
    return prepared


def _from_table(configuration: Configuration) -> Prepared:
    table = configuration.table
    assert table is not None
    choice_sets = read_choice_table(
        table.file, features=table.roles, columns=table.columns, context=table.context, derive=table.derive
    )
    if SPLIT not in choice_sets.decisions:
        choice_sets = choice_sets.with_context(split=_splits(configuration, choice_sets.decisions))
    return Prepared(choice_sets, Ledger(), choice_sets.n_decisions, None)


def _from_tracks(configuration: Configuration, progress: Progress) -> Prepared:
    section, rules = configuration.tracks, configuration.choices
    assert section is not None
    assert rules is not None
    progress("reading tracks", 0, 4)
    fixes, ledger = read_tracks(
        section.file,
        columns=section.columns,
        individual=section.individual,
        crs=section.crs,
        timezone=section.timezone,
        keep=section.keep,
    )
    n_read = int(fixes.attrs["n_read"])
    progress("cleaning tracks", 1, 4)
    cleaned, more = clean_tracks(fixes, **section.clean.model_dump())
    ledger += more
    resampled, more = resample_tracks(cleaned, step=section.resample.step, tolerance=section.resample.tolerance)
    ledger += more
    progress("building choice sets", 2, 4)
    decisions, more = make_decisions(resampled, resolution=rules.resolution)
    ledger += more
    if len(decisions):
        split = _splits(configuration, decisions)
        decisions[SPLIT] = split
        resampled = resampled.assign(
            split=resampled[INDIVIDUAL].map(dict(zip(decisions[INDIVIDUAL], split, strict=True)))
        )
    choice_sets, more = build_choices(
        decisions,
        max_distance_km=rules.max_distance_km,
        features=_feature_specs(configuration),
        sources=_sources(configuration),
        domain=rules.domain,
        outside=rules.outside,
    )
    ledger += more
    ledger.check(n_read, choice_sets.n_decisions, "fix", "decision")
    progress("building choice sets", 4, 4)
    return Prepared(choice_sets, ledger, n_read, resampled)


def _splits(configuration: Configuration, decisions: pd.DataFrame) -> list[str]:
    rules = configuration.split
    mapping = split_individuals(
        decisions[INDIVIDUAL].tolist(),
        validation_share=rules.validation_share,
        seed=rules.seed,
        validation=rules.validation,
        tags=decisions["tag"].tolist() if "tag" in decisions else None,
    )
    return [mapping[i] for i in decisions[INDIVIDUAL]]


def _sources(configuration: Configuration) -> list[Source]:
    gridded = [
        covariate_source(
            Covariate(
                name=name,
                path=section.file,
                variable=section.variable,
                unit=section.unit,
                crs=section.crs,
                level=section.level,
                method=section.method,
                join=section.join,
                max_gap=None if section.max_gap is None else pd.Timedelta(section.max_gap),
                missing=section.missing,
            )
        )
        for name, section in configuration.covariates.items()
    ]
    return gridded + [area_source(name, section.file) for name, section in configuration.areas.items()]


def _feature_specs(configuration: Configuration) -> list[FeatureSpec]:
    """Every feature that a model, the file or a group names; names that are no feature are left to the groups."""
    declared = {name: FeatureSpec(name, **section.model_dump()) for name, section in configuration.features.items()}
    wanted = [name for model in configuration.models.values() for name in model.features]
    texts = [*configuration.groups.choices.values(), *configuration.groups.shares.values()]
    sources = {*configuration.covariates, *configuration.areas}
    wanted += sorted({n for text in texts for n in parse(text).names} & sources)
    return [*declared.values(), *(FeatureSpec(name) for name in dict.fromkeys(wanted) if name not in declared)]


def _check_before_training(configuration: Configuration, prepared: Prepared) -> None:
    """All that can be wrong with models, groups and figures, before hours of training are spent on them."""
    choice_sets = prepared.choice_sets
    for name, model in configuration.models.items():
        require_columns(list(choice_sets.features), model.features, where=f"model {name}")
        check_variation(choice_sets, model.features)
    splits = set(choice_sets.decisions[SPLIT])
    if not {TRAIN, VALIDATION} <= splits:
        raise ValueError(
            f"both splits need decisions; found only {', '.join(sorted(splits))}. "
            "Choose another split (split.seed, split.validation) or mend the choice sets."
        )
    _check_groups(configuration, choice_sets)
    if configuration.truth is not None:
        true_log_odds(read_truth(configuration.truth.file)[0], choice_sets)
    figures = configuration.figures
    if prepared.tracks is not None:
        require_columns(list(prepared.tracks.columns), [figures.color_by], where="figures.color_by")
    if figures.individual is not None and figures.individual not in set(choice_sets.individuals):
        raise ValueError(
            f"figures.individual: {figures.individual} has no decisions; some that have: "
            f"{examples(choice_sets.individuals)}."
        )


def _check_groups(configuration: Configuration, choice_sets: ChoiceSets) -> None:
    """Run every expression of the groups, on as few decisions as tell what is wrong with it."""
    groups = configuration.groups
    for text in [*groups.choices.values(), *groups.shares.values()]:
        choice_mask(choice_sets, text)
    for text in groups.behaviors.values():
        behavior_mask(choice_sets, text)
    if groups.chain is not None:
        divide(choice_sets, groups.chain)
    if configuration.has_baseline:
        require_columns(list(choice_sets.features), configuration.baseline_features, where="baseline")


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
    return select(table, monitor=monitor_of(trainees[0].task.options))


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


def _chosen_runs(chosen: Mapping[str, str], tables: Mapping[str, pd.DataFrame]) -> dict[str, str]:
    return {m: str(tables[m].set_index("member")["run"][member]) for m, member in chosen.items()}


def _histories(registry: Registry, trainees: list[Trainee]) -> pd.DataFrame:
    records = registry.find_runs([t.task.run for t in trainees], history=True)
    parts = [records[t.task.run].history.assign(model=t.member.model, member=t.member.name) for t in trainees]
    return _below([part for part in parts if len(part)])


def _below(tables: list[pd.DataFrame]) -> pd.DataFrame:
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def assess(
    configuration: Configuration, choice_sets: ChoiceSets, log_odds: Mapping[str, np.ndarray]
) -> dict[str, pd.DataFrame]:
    """The tables of an experiment, by name; empty ones are there too.

    Returns
    -------
    evaluation, GMP by group (`mimic.evaluation.evaluate`); shares, predicted against observed shares of choices;
    differences between pairs of models (`mimic.comparison.compare`); and chain, where each model gains
    (`mimic.chain.chain_rule`).
    """
    groups = configuration.groups
    named: dict[str, Any] = {"choice_groups": groups.choices, "behavior_groups": groups.behaviors}
    shares = [
        mean_choice_probability(log_odds, choice_sets, text).assign(condition=name)
        for name, text in groups.shares.items()
    ]
    known = [name for name in log_odds if name not in configuration.models or configuration.models[name].features]
    pairs = model_pairs(list(log_odds), known) if groups.pairs is None else groups.pairs
    stages = default_stages(choice_sets) if groups.chain is None else groups.chain
    return {
        "evaluation": evaluate(log_odds, choice_sets, **named),
        "shares": _below(shares),
        "differences": compare(log_odds, choice_sets, [p for p in pairs if {*p} <= {*log_odds}], **named),
        "chain": chain_rule(log_odds, choice_sets, stages, behavior_groups=groups.behaviors),
    }


def model_pairs(models: Sequence[str], with_features: Sequence[str]) -> list[tuple[str, str]]:
    """What is compared where nothing is asked for: each model with the one before it and with the conditional logit."""
    own = [name for name in models if name not in (BASELINE, TRUTH)]
    pairs = [(model, other) for other, model in pairwise(own)]
    if BASELINE in models:
        pairs += [(model, BASELINE) for model in own if model in with_features]
    return pairs
