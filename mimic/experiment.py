"""A `Configuration` into choice sets, trained models and evaluation tables: the whole line, nothing written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from mimic.choices import Source, area_source, build_choices, covariate_source, make_decisions, require_decisions
from mimic.configuration import Configuration
from mimic.covariates import Covariate
from mimic.evaluation import evaluate, mean_choice_probability
from mimic.expressions import parse
from mimic.features import FeatureSpec, check_variation
from mimic.ledger import Ledger
from mimic.schema import INDIVIDUAL, SPLIT, TRAIN, VALIDATION, ChoiceSets, examples, require_columns
from mimic.splits import audit_split, split_individuals
from mimic.synthetic import read_truth, true_log_odds
from mimic.tables import read_choice_table
from mimic.tracks import clean_tracks, read_tracks, resample_tracks

if TYPE_CHECKING:
    from mimic.model import LogOddsModel

__all__ = ["TRUTH", "Fit", "Prepared", "Progress", "assess", "fit_models", "prepare"]

TRUTH = "truth"

Progress = Callable[[str, int, int], None]
"""Called as progress(what, done, total); the command line draws bars with it."""


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
    """What training gave: models, histories, and the log-odds of every choice row under every model.

    `log_odds` holds `truth` too where the experiment knows it (individual effects at their population mean).
    """

    models: dict[str, LogOddsModel]
    history: pd.DataFrame
    log_odds: dict[str, np.ndarray]
    best_epochs: dict[str, int] = field(default_factory=dict)


def _silent(what: str, done: int, total: int) -> None:
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
    choice_sets = read_choice_table(table.file, features=table.roles, columns=table.columns, context=table.context)
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
    # Scoring a model without features runs every group expression.
    nothing = np.zeros(choice_sets.n_rows)
    assess(configuration, choice_sets, {"none": nothing})
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


def fit_models(configuration: Configuration, prepared: Prepared, *, progress: Progress = _silent) -> Fit:
    """Train every model of the experiment on the training split, one after the other."""
    from mimic.model import zero_model
    from mimic.training import TrainingOptions, train

    choice_sets = prepared.choice_sets
    training, validation = choice_sets.split(TRAIN), choice_sets.split(VALIDATION)
    models: dict[str, LogOddsModel] = {}
    histories: list[pd.DataFrame] = []
    best: dict[str, int] = {}
    options = {
        name: TrainingOptions(**configuration.contrasts.model_dump(), **configuration.training_of(name).model_dump())
        for name in configuration.models
    }
    for name, section in configuration.models.items():
        if not section.features:
            models[name] = zero_model()
            continue

        def on_epoch(epoch: int, n_epochs: int, logs: Mapping[str, float], name: str = name) -> None:
            progress(f"training {name}", epoch, n_epochs)

        result = train(training, validation, section.features, options[name], progress=on_epoch)
        models[name], best[name] = result.model, result.best_epoch
        histories.append(result.history.assign(model=name))
    history = pd.concat(histories, ignore_index=True) if histories else pd.DataFrame()
    log_odds = {name: model.log_odds(choice_sets) for name, model in models.items()}
    if configuration.truth is not None:
        log_odds[TRUTH] = true_log_odds(read_truth(configuration.truth.file)[0], choice_sets)
    return Fit(models, history, log_odds, best)


def assess(
    configuration: Configuration, choice_sets: ChoiceSets, log_odds: Mapping[str, np.ndarray]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The two tables of an experiment: GMP by group, and predicted against observed shares of choices."""
    groups = configuration.groups
    table = evaluate(log_odds, choice_sets, choice_groups=groups.choices, behavior_groups=groups.behaviors)
    shares = [
        mean_choice_probability(log_odds, choice_sets, text).assign(condition=name)
        for name, text in groups.shares.items()
    ]
    return table, pd.concat(shares, ignore_index=True) if shares else pd.DataFrame()
