"""Repeated splits of an experiment into figures on decisions that played no part in training, stopping or choosing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd

from mimic.baseline import BASELINE, fit_baseline
from mimic.configuration import TRUTH, Configuration
from mimic.crossval_tables import (
    NULL,
    CrossValidation,
    difference_table,
    individual_table,
    score_table,
    summary_table,
)
from mimic.evaluation import decision_table
from mimic.experiment import fit_models
from mimic.ledger import Ledger
from mimic.partitions import TEST, Split, audit_splits
from mimic.preparation import Prepared, Progress
from mimic.schema import ORIGIN, SPLIT, TRAIN, VALIDATION, ChoiceSets
from mimic.sections import FiguresConfig
from mimic.synthetic import read_truth, true_log_odds
from mimic.tasks import Failure
from mimic.workers import LocalWorkers, available_cpus

__all__ = ["Outcome", "Study", "check_models", "cross_validate", "fit_outcome", "open_study"]

# Fewer trainings than this are done where we are.
_WORTH_A_PROCESS = 4
# What a repeat adds to every seed: beyond the seeds that a grid lists.
_SEEDS_OF_REPEAT = 1000
_OF_TIME = "tests of time, not of animals"


@dataclass(frozen=True, eq=False)
class Study:
    """What every training of a cross-validation shares."""

    configuration: Configuration
    choice_sets: ChoiceSets
    splits: Sequence[Split]
    registry: str
    files: str | None = None


@dataclass(frozen=True, eq=False)
class Outcome:
    """What one model of the experiment gave in one split.

    Parameters
    ----------
    log_p
        Model -> (tested decision,), ln p(selected). A model of several seeds gives two.
    validation
        Model -> D on the validating individuals; empty where nothing was chosen on them.
    chosen
        Model -> the member that was chosen.
    """

    log_p: Mapping[str, np.ndarray]
    validation: Mapping[str, float]
    chosen: Mapping[str, str]
    n_trained: int


def _silent(what: str, done: int, total: int, note: str = "") -> None:
    return None


def cross_validate(
    configuration: Configuration,
    prepared: Prepared,
    splits: Sequence[Split],
    *,
    registry: str | Path | None = None,
    files: str | Path | None = None,
    n_workers: int | None = None,
    reference: str | None = None,
    level: float = 0.95,
    before_training: Callable[[], None] = lambda: None,
    progress: Progress = _silent,
) -> CrossValidation:
    """Fit every model anew in every split, and score it on the tested decisions, of which it knows nothing.

    The selection is nested: in each split the best epoch, seed and configuration are chosen on the validating
    individuals of that split, and the choice is scored on the tested ones. What chooses nothing on them (a
    conditional logit; an ensemble of one configuration, whose members stop on folds of their own) trains on the
    validating individuals too.

    Parameters
    ----------
    prepared
        As `mimic.preparation.prepare` gives it; its own column `split` is not used. Decisions without a known selection
        are passed over.
    splits
        Of its decisions, see `mimic.partitions`.
    registry, files
        As in `mimic.experiment.fit_models`: runs are found again instead of being trained.
    n_workers
        Processes that fit side by side; 1 is this one. Results are the same.
    reference
        The model that all others are compared with; by default every pair is.
    level
        Of the intervals.
    before_training
        Called before anything in this process imports TensorFlow.
    progress
        Called as progress(what, done, total, note).

    Raises
    ------
    ValueError
        As `audit_splits`; if `reference` is no model; or if a model cannot be fitted in some split: which, who was
        tested, and why. The others are fitted and recorded before.

    Notes
    -----
    Repeat r adds 1000 r to every seed, so that repeats differ by their random starts too. Over repeats, the decisions
    of an individual are averaged before individuals are resampled: repeats add no individuals.

    What the training decisions of a split cannot tell, they do not: a feature that never varies within any of them has
    the coefficient 0 in that split's conditional logit.
    """
    models = check_models(configuration, reference)
    cs, splits = _known(prepared.choice_sets, splits)
    audit = audit_splits(cs.decisions, splits)
    with ExitStack() as stack:
        if registry is None:
            registry = stack.enter_context(TemporaryDirectory(prefix="mimic-"))
        study = Study(configuration, cs, splits, str(registry), None if files is None else str(files))
        outcomes = _fit_all(study, n_workers, before_training, progress)
    truth = _truth(configuration, cs)
    parts = [_tested(cs, split, [outcomes[k, m] for m in models], truth) for k, split in enumerate(splits)]
    decisions = pd.concat(parts, ignore_index=True)
    columns = [str(name) for name in decisions.columns]
    names = columns[columns.index(NULL) + 1 :]
    scores = score_table(decisions, names, _chosen(splits, models, outcomes))
    note = _OF_TIME if any(split.tests == "time" for split in splits) else ""
    return CrossValidation(
        decisions=decisions,
        splits=audit,
        scores=scores,
        individuals=individual_table(decisions, names),
        summary=summary_table(decisions, scores, names, level=level, note=note),
        differences=difference_table(decisions, names, reference=reference, level=level, note=note),
        n_trained=sum(outcome.n_trained for outcome in outcomes.values()),
    )


def open_study(*arguments: Any) -> Study:
    """The setup of a worker."""
    return Study(*arguments)


def fit_outcome(study: Study, number: int, model: str) -> Outcome:
    """Fit one model in one split, and score it on the tested decisions."""
    split, cs = study.splits[number], study.choice_sets
    if model == BASELINE and model not in study.configuration.models:
        return _baseline_outcome(study.configuration, cs, split)
    one = _one_model(study.configuration, model, split.repeat)
    chooses = _chooses(one, model)
    side = split.role if chooses else np.where(split.role == VALIDATION, TRAIN, split.role)
    part = cs.with_context(**{SPLIT: side}).filter(np.isin(side, (TRAIN, VALIDATION)))
    fit = fit_models(
        one,
        Prepared(part, Ledger(), part.n_decisions, None),
        registry=study.registry,
        files=study.files,
        n_workers=1,
    )
    test, validation = cs.filter(split.role == TEST), cs.filter(split.role == VALIDATION)
    chosen_on = {
        name: _mean_d(_log_p(m.log_odds(validation), validation), validation) for name, m in fit.models.items()
    }
    return Outcome(
        log_p={name: _log_p(fitted.log_odds(test), test) for name, fitted in fit.models.items()},
        validation=chosen_on if chooses else {},
        chosen=fit.chosen,
        n_trained=fit.n_trained,
    )


def _baseline_outcome(configuration: Configuration, cs: ChoiceSets, split: Split) -> Outcome:
    """The conditional logit that stands beside the models, without features that have no coefficient in this split."""
    assert configuration.baseline is not None
    test, rest = cs.filter(split.role == TEST), cs.filter(np.isin(split.role, (TRAIN, VALIDATION)))
    found = fit_baseline(rest, configuration.baseline_features, weighting=configuration.baseline.weighting)
    log_odds = np.zeros(test.n_rows) if found.fit is None else found.log_odds(test)
    return Outcome(log_p={BASELINE: _log_p(log_odds, test)}, validation={}, chosen={}, n_trained=0)


def check_models(configuration: Configuration, reference: str | None = None) -> list[str]:
    """The models of an experiment; ValueError if one has the name of a column here, or `reference` is none of them."""
    models = [*configuration.models, *([BASELINE] if configuration.has_baseline else [])]
    taken = [name for name in models if name in ("repeat", SPLIT, TRUTH)]
    if taken:
        raise ValueError(
            f"no model may be called {', '.join(taken)} here: tables have a column of that name. Rename it."
        )
    known = [*models, *configuration.seeds_models.values(), *([TRUTH] if configuration.truth else [])]
    if reference is not None and reference not in known:
        raise ValueError(f"reference: unknown model {reference}; known are {', '.join(known)}.")
    return models


def _known(cs: ChoiceSets, splits: Sequence[Split]) -> tuple[ChoiceSets, list[Split]]:
    """Only the decisions whose selection is known: others can neither train nor be scored."""
    known = cs.selected >= 0
    wrong = [split.name for split in splits if split.role.shape != (cs.n_decisions,)]
    if wrong:
        raise ValueError(f"split {wrong[0]} is of other decisions; expected a role for each of {cs.n_decisions:,}.")
    return cs.filter(known), [Split(s.name, s.repeat, s.role[known], s.tests) for s in splits]


def _one_model(configuration: Configuration, model: str, repeat: int) -> Configuration:
    """The experiment with one model only, with the seeds of the repeat."""
    shift = _SEEDS_OF_REPEAT * repeat

    def later(options: Mapping[str, Any] | None) -> dict[str, Any] | None:
        if options is None or "seed" not in options:
            return None if options is None else dict(options)
        seed = options["seed"]
        return {**options, "seed": [one + shift for one in seed] if isinstance(seed, list) else seed + shift}

    section, training = configuration.models[model], configuration.training
    update = {"training": later(section.training), "grid": later(section.grid)}
    return configuration.model_copy(
        update={
            "models": {model: section.model_copy(update=update)},
            "training": training.model_copy(update={"seed": training.seed + shift}),
            "grid": later(configuration.grid),
            "figures": FiguresConfig(),
            "truth": None,
            "baseline": None,
        }
    )


def _chooses(configuration: Configuration, model: str) -> bool:
    """Whether an epoch, a seed or a configuration of the model is chosen on validation."""
    section = configuration.models[model]
    if not section.features or section.kind == "conditional_logit":
        return False
    return section.ensemble is None or len(configuration.members_of(model)) > 1


def _fit_all(
    study: Study, n_workers: int | None, before_training: Callable[[], None], progress: Progress
) -> dict[tuple[int, str], Outcome]:
    """(split, model) -> outcome. Linear models first: what they refuse is told before hours of training."""
    sections = study.configuration.models
    linear = [m for m, section in sections.items() if section.kind == "conditional_logit" or not section.features]
    linear += [BASELINE] if study.configuration.has_baseline else []
    rest = sorted((m for m in sections if m not in linear), key=lambda m: sections[m].ensemble is None)
    stages = [[(k, m) for m in models for k in range(len(study.splits))] for models in (linear, rest)]
    n_tasks = sum(map(len, stages))
    if n_workers is None:
        n_workers = available_cpus() if n_tasks >= _WORTH_A_PROCESS else 1
    found: dict[tuple[int, str], Outcome] = {}
    setup = (study.configuration, study.choice_sets, list(study.splits), study.registry, study.files)
    with ExitStack() as stack:
        workers = None
        if n_workers > 1:
            workers = stack.enter_context(LocalWorkers(n_workers, setup=("mimic.crossval:open_study", setup)))
        else:
            before_training()
        progress("cross-validation", 0, n_tasks)
        for tasks in filter(None, stages):
            failures = {}
            for index, value in _done(study, workers, tasks):
                if isinstance(value, Failure):
                    failures[index] = value
                    continue
                number, model = tasks[index]
                found[number, model] = value
                d = _mean_d(value.log_p[model], _test_of(study, number))
                progress("cross-validation", len(found), n_tasks, f"{study.splits[number].name}: {model} {d:.4f}")
            if failures:
                raise ValueError(_told(study, [(*tasks[index], failures[index]) for index in sorted(failures)]))
    return found


def _done(study: Study, workers: LocalWorkers | None, tasks: Sequence[tuple[int, str]]) -> Any:
    """Task number and outcome, or failure, as they come."""
    if workers is not None:
        for done in workers.run("mimic.crossval:fit_outcome", tasks, affinity=[model for _, model in tasks]):
            yield done.index, done.value
        return
    for index, task in enumerate(tasks):
        try:
            yield index, fit_outcome(study, *task)
        except (ValueError, TypeError) as error:
            yield index, Failure(type(error).__name__, str(error))


def _told(study: Study, failures: Sequence[tuple[int, str, Failure]]) -> str:
    """Which models could not be fitted in which splits, and why."""
    told = []
    for number, model, failure in failures[:5]:
        split = study.splits[number]
        why = failure.message if failure.type in ("ValueError", "TypeError", "MemberFailure") else str(failure)
        told.append(f"split {split.name} (repeat {split.repeat}): {why if model in why else f'{model}: {why}'}")
    more = f"\n  and {len(failures) - 5} more" if len(failures) > 5 else ""
    what = "a model" if len(failures) == 1 else f"{len(failures)} models"
    return (
        f"{what} could not be fitted without the tested decisions; what the others gave is recorded:\n  "
        + "\n  ".join(told)
        + more
    )


def _truth(configuration: Configuration, cs: ChoiceSets) -> np.ndarray | None:
    if configuration.truth is None:
        return None
    return true_log_odds(read_truth(configuration.truth.file)[0], cs)


def _test_of(study: Study, number: int) -> ChoiceSets:
    return study.choice_sets.filter(study.splits[number].role == TEST)


def _log_p(log_odds: np.ndarray, cs: ChoiceSets) -> np.ndarray:
    """ln p(selected): (decision,)."""
    return decision_table({"m": log_odds}, cs)["m"].to_numpy(dtype=np.float64)


def _mean_d(log_p: np.ndarray, cs: ChoiceSets) -> float:
    """The mean over individuals of the mean over their decisions."""
    return float(pd.Series(log_p).groupby(cs.individuals).mean().mean())


def _tested(cs: ChoiceSets, split: Split, outcomes: Sequence[Outcome], truth: np.ndarray | None) -> pd.DataFrame:
    """The tested decisions of a split with ln p by every model."""
    inside = split.role == TEST
    test = cs.filter(inside)
    table = decision_table({"m": np.zeros(test.n_rows)}, test).drop(columns=["m", SPLIT, ORIGIN], errors="ignore")
    table.insert(0, "repeat", split.repeat)
    table.insert(1, SPLIT, split.name)
    columns = {name: log_p for outcome in outcomes for name, log_p in outcome.log_p.items()}
    if truth is not None:
        columns[TRUTH] = _log_p(truth[np.repeat(inside, cs.n_choices)], test)
    return table.assign(**columns)


def _chosen(
    splits: Sequence[Split], models: Sequence[str], outcomes: Mapping[tuple[int, str], Outcome]
) -> pd.DataFrame:
    """Of every split the models that were chosen on validation, and D there."""
    rows = [
        (split.repeat, split.name, name, d, outcomes[number, model].chosen.get(name, ""))
        for number, split in enumerate(splits)
        for model in models
        for name, d in outcomes[number, model].validation.items()
    ]
    columns = ["repeat", SPLIT, "model", "validation_log_probability", "chosen"]
    table = pd.DataFrame(rows, columns=columns)
    return table.astype({"repeat": "int64", SPLIT: object, "model": object, "validation_log_probability": "float64"})
