"""The sections of a comparison file: which studies, in which splits, with which models; and each as a `Configuration`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pandas as pd
from pydantic import Field, ValidationError, model_validator

from mimic.configuration import Configuration, describe_fault, load_configuration, read_yaml
from mimic.partitions import Split, k_fold, leave_group_out, time_blocks
from mimic.sections import Duration, ModelConfig, Strict

__all__ = [
    "ComparisonConfig",
    "SchemeConfig",
    "StudyConfig",
    "absent_files",
    "load_comparison",
    "study_configuration",
]

_DEFAULT_FOLDS = 5
_NEEDS_BLOCKS = ("order", "gap")
_OF_ANIMALS = ("repeats", "validation_share", "seed")


class SchemeConfig(Strict):
    """How decisions are split again and again: by one of folds (the default), leave_out and time_blocks.

    Without `gap`, one step of the tracks is left out beside a tested block of time, since the outcome of a decision is
    the next one's origin; nothing is of a ready table, whose step is not known.
    """

    folds: int | None = Field(default=None, ge=2)
    leave_out: str | None = None
    time_blocks: int | None = Field(default=None, ge=3)
    order: Literal["forward", "around"] = "forward"
    gap: Duration | None = None
    repeats: int = Field(default=1, ge=1)
    validation_share: float = Field(default=0.2, gt=0, lt=1)
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _is_one(self) -> SchemeConfig:
        given = [name for name in ("folds", "leave_out", "time_blocks") if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"expected one of folds, leave_out and time_blocks; got {' and '.join(given)}.")
        idle = [n for n in (_OF_ANIMALS if self.time_blocks else _NEEDS_BLOCKS) if n in self.model_fields_set]
        if idle:
            why = "blocks of time have nothing random" if self.time_blocks else "only blocks of time use this"
            raise ValueError(f"{', '.join(idle)} cannot serve here: {why}.")
        return self

    def for_tracks(self, step: str) -> SchemeConfig:
        """The scheme with a gap of one step between blocks of time, unless it has its own."""
        if self.time_blocks is None or self.gap is not None:
            return self
        return self.model_copy(update={"gap": step})

    def splits(self, decisions: pd.DataFrame) -> list[Split]:
        """The splits of these decisions; errors as in `mimic.partitions`."""
        if self.time_blocks is not None:
            return time_blocks(decisions, n_blocks=self.time_blocks, order=self.order, gap=self.gap or "0h")
        share, seed = self.validation_share, self.seed
        if self.leave_out is not None:
            return leave_group_out(decisions, self.leave_out, n_repeats=self.repeats, validation_share=share, seed=seed)
        n_folds = self.folds or _DEFAULT_FOLDS
        return k_fold(decisions, n_folds=n_folds, n_repeats=self.repeats, validation_share=share, seed=seed)

    @property
    def words(self) -> str:
        """The scheme in words."""
        if self.time_blocks is not None:
            gap = "" if self.gap is None else f", gap {self.gap}"
            return f"{self.time_blocks} blocks of time, {self.order}{gap}"
        what = (
            f"each {self.leave_out} left out"
            if self.leave_out
            else f"{self.folds or _DEFAULT_FOLDS} folds of individuals"
        )
        return what + (f", {self.repeats} repeats" if self.repeats > 1 else "")


class StudyConfig(SchemeConfig):
    """One study of a comparison: an experiment, how it is split, and what is put in the place of its sections.

    Parameters
    ----------
    experiment
        An experiment file; its data and choice sets are used.
    models
        In place of all its models; its grid, groups and figures are then left out too.
    training
        Over its section of this name.
    grid
        In place of its grid.
    reference
        The model that all others are compared with; by default every pair is.
    """

    experiment: Path
    models: dict[str, ModelConfig] | None = Field(default=None, min_length=1)
    training: dict[str, Any] = Field(default={})
    grid: dict[str, list[Any]] | None = None
    reference: str | None = None

    @property
    def scheme(self) -> SchemeConfig:
        """How it is split, by itself."""
        given = {name: getattr(self, name) for name in SchemeConfig.model_fields if name in self.model_fields_set}
        return SchemeConfig.model_validate(given)


class ComparisonConfig(Strict):
    """Several studies, compared by one command."""

    name: str
    description: str = ""
    studies: dict[str, StudyConfig] = Field(min_length=1)


def load_comparison(path: Path) -> ComparisonConfig:
    """Read and check a comparison file. The paths of experiments are relative to its folder.

    Raises
    ------
    FileNotFoundError, ValueError
        As `mimic.configuration.load_configuration`.
    """
    data = read_yaml(path)
    try:
        found = ComparisonConfig.model_validate(data)
    except ValidationError as error:
        faults = "\n".join(f"  {describe_fault(e)}" for e in error.errors())
        raise ValueError(f"{path} is not a valid comparison:\n{faults}") from None
    folder = path.resolve().parent
    studies = {
        name: study.model_copy(update={"experiment": folder / study.experiment})
        for name, study in found.studies.items()
    }
    return found.model_copy(update={"studies": studies})


def study_configuration(name: str, study: StudyConfig) -> Configuration:
    """The experiment of a study, called `name`, with the study's sections in place of its own.

    Raises
    ------
    FileNotFoundError, ValueError
        As `mimic.configuration.load_configuration`, about the study too.
    """
    base = load_configuration(study.experiment)
    data = base.model_dump()
    data |= {"name": name, "training": {**data["training"], **study.training}}
    if study.models is not None:
        data |= {"models": {m: section.model_dump() for m, section in study.models.items()}}
        data |= {"grid": {}, "groups": {}, "figures": {}}
    if study.grid is not None:
        data["grid"] = study.grid
    try:
        return Configuration.model_validate(data)
    except ValidationError as error:
        faults = "\n".join(f"  {describe_fault(e, f'studies.{name}')}" for e in error.errors())
        raise ValueError(f"study {name} is not valid on {study.experiment}:\n{faults}") from None


def absent_files(configuration: Configuration) -> list[Path]:
    """The files of an experiment that are not there."""
    own = (configuration.tracks, configuration.table, configuration.truth)
    given = (*own, *configuration.covariates.values(), *configuration.areas.values())
    files = [section.file for section in given if section is not None and section.file is not None]
    files += [Path(one.options["file"]) for one in configuration.covariates.values() if "file" in one.options]
    return [path for path in dict.fromkeys(files) if not path.exists()]
