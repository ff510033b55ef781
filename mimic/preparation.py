"""A `Configuration` into choice sets with their split and ledger, checked before anything is trained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from mimic.bin_decisions import make_bin_decisions
from mimic.bin_fields import BinField, Limit, read_levels
from mimic.bin_sections import BinsConfig
from mimic.bins import build_bins
from mimic.choices import Source, area_source, build_choices, covariate_source, make_decisions, require_decisions
from mimic.configuration import Configuration
from mimic.covariates import Covariate
from mimic.derived_sources import derived_source
from mimic.features import FeatureSpec, check_variation
from mimic.groups import behavior_mask, choice_mask
from mimic.ledger import Ledger
from mimic.schema import INDIVIDUAL, SPLIT, TRAIN, VALIDATION, ChoiceSets, examples, require_columns
from mimic.sections import CovariateConfig, TableConfig
from mimic.splits import audit_split, split_individuals
from mimic.stages import divide
from mimic.strata import read_random_steps
from mimic.synthetic import read_truth, true_log_odds
from mimic.tables import read_choice_table
from mimic.tracks import clean_tracks, read_tracks, resample_tracks
from mimic.verdicts import JudgeAll
from mimic.wanted_features import empty_levels, feature_ledger, history_of, wanted_features, warn_of_features

__all__ = [
    "Prepared",
    "Progress",
    "build_from_decisions",
    "prepare",
    "read_decisions",
    "read_resampled",
    "read_table",
    "sources_and_features",
]

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


def prepare(
    configuration: Configuration,
    *,
    progress: Progress = _silent,
    lazy: bool | None = None,
    judge_all: JudgeAll | None = None,
) -> Prepared:
    """Read, clean, resample and split the tracks (or a ready table) and build the choice sets.

    Parameters
    ----------
    lazy, judge_all
        For choice sets of cells: whether features are gathered when they are asked for, and who judges blocks of
        decisions, see `mimic.choices.build_choices`.

    Raises
    ------
    FileNotFoundError, ValueError
        With one message that says what was expected, what came and what to try; when no decision is left,
        with the whole ledger. Groups and features are checked here too, before anything is trained.
    """
    if configuration.choices is not None:
        prepared = _from_tracks(configuration, progress, lazy, judge_all)
    elif judge_all is not None or lazy is not None:
        raise ValueError(
            "only choice sets of cells are built in pieces or on a cluster; this experiment has other choices."
        )
    else:
        is_table = configuration.table is not None
        prepared = _from_table(configuration) if is_table else _from_bins(configuration, progress)
    require_decisions(prepared.choice_sets, prepared.ledger)
    audit_split(prepared.choice_sets.decisions)
    _check_before_training(configuration, prepared)
    return prepared


def _from_table(configuration: Configuration) -> Prepared:
    table = configuration.table
    assert table is not None
    choice_sets = read_table(table)
    if SPLIT not in choice_sets.decisions:
        choice_sets = choice_sets.with_context(split=_splits(configuration, choice_sets.decisions))
    return Prepared(choice_sets, Ledger(), choice_sets.n_decisions, None)


def read_table(table: TableConfig, *, file: Path | None = None, allow_unknown: bool = False) -> ChoiceSets:
    """The choice sets of a ready table, or of another file in the same form.

    Raises
    ------
    FileNotFoundError, ValueError
        As `mimic.tables.read_choice_table` or `mimic.strata.read_random_steps`.
    """
    path = table.file if file is None else file
    if table.format == "amt":
        individual = (table.columns or {}).get(INDIVIDUAL)
        return read_random_steps(
            path, features=table.roles, individual=individual, derive=table.derive, allow_unknown=allow_unknown
        )
    return read_choice_table(
        path,
        features=table.roles,
        columns=table.columns,
        context=table.context,
        derive=table.derive,
        allow_unknown=allow_unknown,
    )


def _from_tracks(
    configuration: Configuration, progress: Progress, lazy: bool | None = None, judge_all: JudgeAll | None = None
) -> Prepared:
    decisions, resampled, ledger, n_read = read_decisions(configuration, progress=progress)
    choice_sets, more = build_from_decisions(configuration, decisions, fixes=resampled, lazy=lazy, judge_all=judge_all)
    ledger += more + feature_ledger(configuration, choice_sets.decisions)
    ledger.check(n_read, choice_sets.n_decisions, "fix", "decision")
    progress("building choice sets", 4, 4)
    return Prepared(choice_sets, ledger, n_read, resampled)


def read_decisions(
    configuration: Configuration, *, progress: Progress = _silent
) -> tuple[pd.DataFrame, pd.DataFrame, Ledger, int]:
    """The decisions over cells and the regular fixes, both with `split`; the ledger; and how many rows were read.

    Raises
    ------
    FileNotFoundError, ValueError
        As `read_resampled` and `mimic.choices.make_decisions`.
    """
    rules = configuration.choices
    assert rules is not None
    resampled, ledger, n_read = read_resampled(configuration, progress=progress)
    progress("building choice sets", 2, 4)
    decisions, more = make_decisions(resampled, resolution=rules.resolution)
    return *_with_split(configuration, decisions, resampled), ledger + more, n_read


def sources_and_features(configuration: Configuration) -> tuple[list[Source], list[FeatureSpec]]:
    """The covariates and areas of an experiment, unread, and the features that something in it names."""
    return _sources(configuration), wanted_features(configuration)


def _from_bins(configuration: Configuration, progress: Progress) -> Prepared:
    rules = configuration.bins
    assert rules is not None
    resampled, ledger, n_read = read_resampled(configuration, progress=progress)
    progress("building choice sets", 2, 4)
    decisions, more = make_bin_decisions(
        resampled, value=rules.value, value_of=rules.value_of, resolution=rules.resolution
    )
    ledger += more
    decisions, resampled = _with_split(configuration, decisions, resampled)
    choice_sets, more = build_from_decisions(configuration, decisions, fixes=resampled)
    ledger += more + feature_ledger(configuration, choice_sets.decisions)
    ledger.check(n_read, choice_sets.n_decisions, "fix", "decision")
    progress("building choice sets", 4, 4)
    return Prepared(choice_sets, ledger, n_read, resampled)


def read_resampled(configuration: Configuration, *, progress: Progress = _silent) -> tuple[pd.DataFrame, Ledger, int]:
    """The regular fixes of the track file, the ledger of the others, and how many rows were read.

    Raises
    ------
    FileNotFoundError, ValueError
        As `mimic.tracks.read_tracks`, `clean_tracks` and `resample_tracks`.
    """
    section = configuration.tracks
    assert section is not None
    value = [] if configuration.bins is None else [configuration.bins.value]
    progress("reading tracks", 0, 4)
    fixes, ledger = read_tracks(
        section.file,
        columns=section.columns,
        individual=section.individual,
        crs=section.crs,
        timezone=section.timezone,
        keep=list(dict.fromkeys([*section.keep, *value])),
    )
    progress("cleaning tracks", 1, 4)
    cleaned, more = clean_tracks(fixes, **section.clean.model_dump())
    ledger += more
    resampled, more = resample_tracks(cleaned, step=section.resample.step, tolerance=section.resample.tolerance)
    return resampled, ledger + more, int(fixes.attrs["n_read"])


def build_from_decisions(
    configuration: Configuration,
    decisions: pd.DataFrame,
    *,
    fixes: pd.DataFrame | None = None,
    lazy: bool | None = None,
    judge_all: JudgeAll | None = None,
) -> tuple[ChoiceSets, Ledger]:
    """The choice sets of decisions by the rules of the experiment, cells or bins; selections may be unknown.

    Features of memory need `fixes`, the regular ones of the animals' tracks.

    Raises
    ------
    FileNotFoundError, ValueError
        As `mimic.choices.build_choices` or `mimic.bins.build_bins`.
    """
    features, sources = wanted_features(configuration), _sources(configuration)
    if configuration.bins is not None:
        return _build_bins(configuration.bins, decisions, features, sources)
    rules = configuration.choices
    assert rules is not None
    return build_choices(
        decisions,
        max_distance_km=rules.max_distance_km,
        features=features,
        sources=sources,
        domain=rules.domain,
        outside=rules.outside,
        history=history_of(configuration, fixes, decisions),
        lazy=lazy,
        judge_all=judge_all,
    )


def _build_bins(
    rules: BinsConfig, decisions: pd.DataFrame, features: list[FeatureSpec], sources: list[Source]
) -> tuple[ChoiceSets, Ledger]:
    limit = None
    if rules.limit is not None:
        of = next(source for source in sources if source.name == rules.limit.source)
        limit = Limit(of, rules.limit.multiply, rules.limit.rings)
    fields = []
    for name, section in rules.at_bin.items():
        options = {"join": section.join, "max_gap": section.max_gap, "method": section.method, "level": section.level}
        assert section.file is not None
        covariate = Covariate(name, section.file, section.variable, section.unit, section.crs, **options)  # type: ignore[arg-type]
        fields.append(BinField(covariate, section.axis, read_levels(covariate, section.axis), section.missing))
    wanted = {spec.source for spec in features}
    # what serves the limit alone need not have a value in the origin's own cell
    at_origin = [source for source in sources if limit is None or source.name != limit.name or source.name in wanted]
    return build_bins(
        decisions,
        bins=rules.bins,
        limit=limit,
        fields=fields,
        sources=at_origin,
        features=features,
        outside=rules.outside,
    )


def _with_split(
    configuration: Configuration, decisions: pd.DataFrame, resampled: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Decisions and tracks with the column `split`."""
    if not len(decisions):
        return decisions, resampled
    split = _splits(configuration, decisions)
    mapping = dict(zip(decisions[INDIVIDUAL], split, strict=True))
    return decisions.assign(split=split), resampled.assign(split=resampled[INDIVIDUAL].map(mapping))


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
    found: dict[str, Source] = {}
    for name, section in configuration.covariates.items():
        if section.file is None:
            assert section.derive is not None
            inputs = [found[of] for of in section.inputs]
            options = {"options": section.options, "missing": section.missing, "unit": section.unit}
            found[name] = derived_source(name, section.derive, inputs, **options)  # type: ignore[arg-type]
        else:
            found[name] = covariate_source(_covariate(name, section, section.file))
    return [*found.values(), *(area_source(name, section.file) for name, section in configuration.areas.items())]


def _covariate(name: str, section: CovariateConfig, file: Path) -> Covariate:
    return Covariate(
        name=name,
        path=file,
        variable=section.variable,
        unit=section.unit,
        crs=section.crs,
        level=section.level,
        method=section.method,
        join=section.join,
        max_gap=None if section.max_gap is None else pd.Timedelta(section.max_gap),
        missing=section.missing,
    )


def _check_before_training(configuration: Configuration, prepared: Prepared) -> None:
    """All that can be wrong with models, groups and figures, before hours of training are spent on them."""
    choice_sets = prepared.choice_sets
    empty = empty_levels(configuration, choice_sets)
    for name, model in configuration.models.items():
        require_columns(list(choice_sets.features), model.features, where=f"model {name}")
        check_variation(choice_sets, [feature for feature in model.features if feature not in empty])
    warn_of_features(configuration, choice_sets)
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
