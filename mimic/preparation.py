"""A `Configuration` into choice sets with their split and ledger, checked before anything is trained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd

from mimic.choices import Source, area_source, build_choices, covariate_source, make_decisions, require_decisions
from mimic.configuration import Configuration
from mimic.covariates import Covariate
from mimic.expressions import parse
from mimic.features import FeatureSpec, check_variation
from mimic.groups import behavior_mask, choice_mask
from mimic.ledger import Ledger
from mimic.schema import INDIVIDUAL, SPLIT, TRAIN, VALIDATION, ChoiceSets, examples, require_columns
from mimic.splits import audit_split, split_individuals
from mimic.stages import divide
from mimic.synthetic import read_truth, true_log_odds
from mimic.tables import read_choice_table
from mimic.tracks import clean_tracks, read_tracks, resample_tracks

__all__ = ["Prepared", "Progress", "prepare"]

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
