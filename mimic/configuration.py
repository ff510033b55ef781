"""A YAML file into a validated `Configuration`: every key known, every path resolved, one message for all faults."""

from __future__ import annotations

import os
import re
from collections.abc import Hashable
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from mimic.baseline import BASELINE
from mimic.features import SOURCES
from mimic.grid import Member, expand
from mimic.sections import (
    BaselineConfig,
    ChoicesConfig,
    ContrastsConfig,
    CovariateConfig,
    FeatureConfig,
    FiguresConfig,
    FileConfig,
    GroupsConfig,
    ModelConfig,
    SearchConfig,
    SplitConfig,
    Strict,
    TableConfig,
    TracksConfig,
    TrainingConfig,
)

__all__ = ["TRUTH", "Configuration", "describe_fault", "load_configuration", "read_yaml"]

TRUTH = "truth"
"""The name of the truth of a synthetic world in tables and figures."""

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
# Columns that mimic gives every decision (a kept column would be lost in them), and calendar names of groups.
_OWN_COLUMNS = (
    *("decision", "split", "origin", "destination", "choice", "selected"),
    *("n_choices", "n_choices_in_group", "previous_heading_rad"),
)
_CALENDAR = ("month", "hour", "year", "day_of_year")
# Beside these a table by decision has a column for each model.
_NOT_FOR_MODELS = ("individual", "decision", "split", "time_utc", "origin", "n_choices", "null")


class Configuration(Strict):
    """One experiment: data, choice sets, features, split, models and groups."""

    name: str
    description: str = ""
    tracks: TracksConfig | None = None
    table: TableConfig | None = None
    covariates: dict[str, CovariateConfig] = Field(default={})
    areas: dict[str, FileConfig] = Field(default={})
    choices: ChoicesConfig | None = None
    features: dict[str, FeatureConfig] = Field(default={})
    split: SplitConfig = SplitConfig()
    contrasts: ContrastsConfig = ContrastsConfig()
    training: TrainingConfig = TrainingConfig()
    grid: dict[str, list[Any]] = Field(default={})
    search: SearchConfig = SearchConfig()
    models: dict[str, ModelConfig] = Field(min_length=1)
    baseline: BaselineConfig | None = BaselineConfig()
    groups: GroupsConfig = GroupsConfig()
    figures: FiguresConfig = FiguresConfig()
    truth: FileConfig | None = None

    @model_validator(mode="after")
    def _is_whole(self) -> Configuration:
        if (self.tracks is None) == (self.table is None):
            raise ValueError(
                "expected either tracks (with choices) or a ready table; got "
                + ("both." if self.tracks else "neither.")
            )
        if self.tracks is not None and self.choices is None:
            raise ValueError("tracks need the section choices (resolution, max_distance_km).")
        self._check_names()
        idle = [name for name in ("choices", "covariates", "areas", "features", "truth") if getattr(self, name)]
        if self.table is not None and idle:
            raise ValueError(
                f"{', '.join(idle)} cannot serve a ready table, which brings its own choices and features."
            )
        self._check_models()
        return self

    def _check_names(self) -> None:
        for name in [*self.models, *self.covariates, *self.areas, *self.features, *self.groups.shares]:
            if not _NAME.fullmatch(name):
                raise ValueError(f"names are made of letters, digits and _; got {name!r}.")
        names = [*SOURCES, *self.covariates, *self.areas, *self.features, *(self.tracks.keep if self.tracks else ())]
        taken = sorted({name for name in names if names.count(name) > 1})
        if taken:
            raise ValueError(
                f"the name {', '.join(taken)} is given twice; covariates, areas, features, columns to keep and the "
                f"built-in sources ({', '.join(SOURCES)}) need names of their own."
            )
        own = [name for name in (self.tracks.keep if self.tracks else ()) if name in (*_OWN_COLUMNS, *_CALENDAR)]
        if own:
            raise ValueError(
                f"tracks.keep: {', '.join(own)} means something else in choice sets; rename the column of the track file."
            )

    def _check_models(self) -> None:
        for name, model in self.models.items():
            repeated = sorted({f for f in model.features if model.features.count(f) > 1})
            if repeated:
                raise ValueError(f"model {name} lists the feature {', '.join(repeated)} twice.")
        if self.truth is not None and TRUTH in self.models:
            raise ValueError("with truth set, no model may be called truth.")
        if BASELINE in self.models and self.models[BASELINE].kind != "conditional_logit":
            raise ValueError(f"no model but a conditional logit may be called {BASELINE}; rename it.")
        taken = [name for name in self.models if name in _NOT_FOR_MODELS]
        if taken:
            raise ValueError(
                f"no model may be called {', '.join(taken)}: tables have a column of that name. Rename it."
            )
        for name in self.models:
            try:
                self.training_of(name)
            except ValidationError as error:
                raise ValueError(
                    "; ".join(describe_fault(e, f"models.{name}.training") for e in error.errors())
                ) from None
            self.members_of(name)
        taken = sorted(set(self.seeds_models.values()) & set(self.models))
        if taken:
            raise ValueError(f"the ensemble of seeds will be called {', '.join(taken)}; rename the model of that name.")
        scored = [*self.models, *self.seeds_models.values(), *([BASELINE] if self.has_baseline else ())]
        for name in (name for pair in self.groups.pairs or () for name in pair):
            if name not in scored:
                raise ValueError(f"groups.pairs: unknown model {name}; known are {', '.join(scored)}.")
        for name in self.figures.difference or ():
            if name not in self.models:
                raise ValueError(f"figures.difference: unknown model {name}; known are {', '.join(self.models)}.")

    @property
    def has_baseline(self) -> bool:
        """Whether a conditional logit is fitted beside the models: not where one of them is one."""
        is_there = any(model.kind == "conditional_logit" for model in self.models.values())
        return self.baseline is not None and not is_there and any(m.features for m in self.models.values())

    @property
    def baseline_features(self) -> list[str]:
        """The features of the baseline: those named, or all of the models."""
        named = self.baseline.features if self.baseline is not None else None
        return list(dict.fromkeys(f for m in self.models.values() for f in m.features)) if named is None else named

    def training_of(self, model: str) -> TrainingConfig:
        """The training section of a model: the common one with the model's own overrides."""
        return TrainingConfig.model_validate({**self.training.model_dump(), **self.models[model].training})

    def members_of(self, model: str) -> list[Member]:
        """The trainings of a model: one for each combination of its grid, one where it has none.

        Raises
        ------
        ValueError
            If the grid sets an option that does not exist, or to a value that it cannot have.
        """
        section = self.models[model]
        grid = self.grid if section.grid is None else section.grid
        if not section.features or section.kind == "conditional_logit":
            grid = {}
        base = {**self.training.model_dump(), **section.training}
        members = []
        for member in expand(model, base, grid, known=TrainingConfig.model_fields):
            try:
                training = TrainingConfig.model_validate(_thawed(member.training))
            except ValidationError as error:
                raise ValueError("; ".join(describe_fault(e, f"grid of {model}") for e in error.errors())) from None
            members.append(replace(member, training=training.model_dump()))
        return members

    @property
    def seeds_models(self) -> dict[str, str]:
        """Model -> the name of the ensemble of its seeds, where its grid has several and it is none already."""
        single = [m for m, section in self.models.items() if section.ensemble is None]
        several = [m for m in single if len({member.seed for member in self.members_of(m)}) > 1]
        return {model: f"{model}_seeds" for model in several}

    def to_yaml(self) -> str:
        """The resolved configuration, defaults written out."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _thawed(value: Any) -> Any:
    """Tuples as the lists that a file has."""
    if isinstance(value, dict):
        return {k: _thawed(v) for k, v in value.items()}
    return [_thawed(v) for v in value] if isinstance(value, (list, tuple)) else value


class _OnceLoader(yaml.SafeLoader):
    """A YAML loader that refuses a key written twice (plain YAML silently keeps the last)."""


def _mapping_once(loader: _OnceLoader, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
    seen: set[Hashable] = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, Hashable):
            raise ValueError(f"line {key_node.start_mark.line + 1}: a key must be a word or a number; got {key}.")
        if key in seen:
            raise ValueError(f"line {key_node.start_mark.line + 1}: the key {key} is written twice; keep one.")
        seen.add(key)
    loader.flatten_mapping(node)
    return loader.construct_mapping(node, deep=deep)


_OnceLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping_once)


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping a YAML file holds.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no such file, it is no YAML, a key is written twice, or it holds no mapping.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no experiment file {path}; give the path of a YAML file.")
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), Loader=_OnceLoader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        said = " ".join(str(error).split()).replace(' in "<unicode string>",', " at")
        raise ValueError(f"{path} is no valid YAML: {said}") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    if not isinstance(data, dict):
        raise ValueError(
            f"{path}: expected a mapping of sections (name, tracks, models, ...); got {type(data).__name__}."
        )
    return data


def load_configuration(path: Path) -> Configuration:
    """Read and check an experiment file.

    Paths are taken relative to the folder of the file. `${NAME:-default}` in a path is replaced by the
    environment variable NAME, or by the default where it is not set.

    Raises
    ------
    FileNotFoundError, ValueError
        As `read_yaml`; and one ValueError that lists every fault of the content.
    """
    data = read_yaml(path)
    try:
        return Configuration.model_validate(_resolve_paths(data, path.resolve().parent))
    except ValidationError as error:
        faults = "\n".join(f"  {describe_fault(e)}" for e in error.errors())
        raise ValueError(f"{path} is not a valid experiment:\n{faults}") from None


def describe_fault(error: ErrorDetails, section: str = "") -> str:
    """Where a fault is, what was expected there and what came."""
    place = ".".join(str(part) for part in (*([section] if section else []), *error["loc"])) or "(the file)"
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] in ("value_error", "missing"):  # our own words say what came; nothing came
        return f"{place}: {message}"
    got = repr(error["input"])
    return f"{place}: {message}; got {got if len(got) <= 80 else got[:77] + '...'}"


def _resolve_paths(value: Any, folder: Path) -> Any:
    if isinstance(value, dict):
        return {
            k: str(_resolve_path(v, folder)) if k == "file" and isinstance(v, str) else _resolve_paths(v, folder)
            for k, v in value.items()
        }
    return value


def _resolve_path(text: str, folder: Path) -> Path:
    def fill(match: re.Match[str]) -> str:
        value = os.environ.get(match[1])
        if value:  # a relative one is meant from where the command runs, not from the experiment's folder
            return os.path.abspath(value)
        if match[2] is None:
            raise ValueError(f"the path {text} needs the environment variable {match[1]}; set it.")
        return match[2]

    filled = re.sub(r"\$\{(\w+)(?::-([^}]*))?\}", fill, text)
    return Path(os.path.normpath(folder / Path(filled).expanduser()))
