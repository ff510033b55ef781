"""A YAML file into a validated `Configuration`: every key known, every path resolved, one message for all faults."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from mimic.baseline import BASELINE
from mimic.bin_sections import BinsConfig
from mimic.feature_definition import Definition
from mimic.feature_library import (
    check_features,
    check_known,
    check_places,
    expand_lists,
    experiment_definitions,
    feature_specs,
    members_of_feature,
    refuse_angles,
)
from mimic.feature_sections import FeatureConfig, PlaceConfig, VectorConfig
from mimic.features import SOURCES, FeatureSpec
from mimic.grid import Member, expand
from mimic.schema import SEEDS_SUFFIX
from mimic.sections import (
    BaselineConfig,
    ChoicesConfig,
    ContrastsConfig,
    CovariateConfig,
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
from mimic.yamlfile import read_yaml

__all__ = ["TRUTH", "Configuration", "describe_fault", "load_configuration", "read_yaml", "resolve_path"]

TRUTH = "truth"
"""The name of the truth of a synthetic world in tables and figures."""

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
# Columns that mimic gives every decision (a kept column would be lost in them), and calendar names of groups.
_OWN_COLUMNS = (
    *("decision", "split", "origin", "destination", "choice", "selected"),
    *("n_choices", "n_choices_in_group", "previous_heading_rad"),
    *("previous_distance_km", "previous_hours", "hours_in_cell"),
)
_TRACK_COLUMNS = ("individual", "tag", "time_utc", "longitude", "latitude", "burst")
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
    bins: BinsConfig | None = None
    features: dict[str, FeatureConfig] = Field(default={})
    places: dict[str, PlaceConfig] = Field(default={})
    vectors: dict[str, VectorConfig] = Field(default={})
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

    @model_validator(mode="before")
    @classmethod
    def _spell_features_out(cls, data: Any) -> Any:
        return expand_lists(data)

    @model_validator(mode="after")
    def _is_whole(self) -> Configuration:
        if (self.tracks is None) == (self.table is None):
            raise ValueError(
                "expected either tracks (with choices) or a ready table; got "
                + ("both." if self.tracks else "neither.")
            )
        if self.tracks is not None and (self.choices is None) == (self.bins is None):
            raise ValueError(
                "tracks need the section choices (resolution, max_distance_km) or the section bins (value, edges); got "
                + ("both." if self.bins else "neither.")
            )
        self._check_names()
        of_tracks = ("choices", "bins", "covariates", "areas", "features", "places", "vectors", "truth")
        idle = [name for name in of_tracks if getattr(self, name)]
        if self.table is not None and idle:
            raise ValueError(
                f"{', '.join(idle)} cannot serve a ready table, which brings its own choices and features."
            )
        self._check_bins()
        self._check_covariates()
        self._check_features()
        self._check_models()
        return self

    def _check_bins(self) -> None:
        if self.bins is None:
            return
        if self.truth is not None:
            raise ValueError("truth is of a world of cells; it cannot go with bins.")
        limit = self.bins.limit
        if limit is not None and limit.source not in self.covariates:
            raise ValueError(f"bins.limit: unknown covariate {limit.source}; known are {', '.join(self.covariates)}.")
        given = [*self.covariates, *self.areas, *self.features, *(self.tracks.keep if self.tracks else ())]
        taken = [name for name in self.bins.own_names if name in given]
        if taken:
            raise ValueError(f"bins bring {', '.join(taken)} by themselves; give yours another name.")

    def _check_names(self) -> None:
        own = [*self.covariates, *self.areas, *self.features, *self.places, *self.vectors]
        for name in [*self.models, *own, *self.groups.shares]:
            if not _NAME.fullmatch(name):
                raise ValueError(f"names are made of letters, digits and _; got {name!r}.")
        # levels of a column may go by its name: no single feature has it
        members = [
            m
            for name, one in self.features.items()
            for m in {*members_of_feature(name, one), *(() if one.levels and one.source == name else (name,))}
        ]
        names = [*SOURCES, *self.covariates, *self.areas, *members, *self.definitions]
        names += self.tracks.keep if self.tracks else ()
        taken = sorted({name for name in names if names.count(name) > 1})
        if taken:
            raise ValueError(
                f"the name {', '.join(taken)} is given twice; covariates, areas, features, what places and vectors bring, "
                "columns to keep and the built-in sources (see `mimic features`) need names of their own."
            )
        own = [name for name in (self.tracks.keep if self.tracks else ()) if name in (*_OWN_COLUMNS, *_CALENDAR)]
        if own:
            raise ValueError(
                f"tracks.keep: {', '.join(own)} means something else in choice sets; rename the column of the track file."
            )

    def _check_covariates(self) -> None:
        above: list[str] = []
        for name, section in self.covariates.items():
            unknown = [of for of in section.inputs if of not in above]
            if unknown:
                raise ValueError(
                    f"covariates.{name}: {', '.join(unknown)} must be a covariate above it; "
                    f"there are {', '.join(above) or 'none'}."
                )
            above.append(name)

    def _check_features(self) -> None:
        """Everything that a feature, a place, a field of vectors or a model draws on must be there."""
        if self.bins is not None and (self.places or self.vectors):
            raise ValueError("places and vectors are for choices that are cells; bins lie in no direction.")
        for name, field in self.vectors.items():
            check_known((field.east, field.north), [*self.covariates], where=f"vectors.{name}")
        specs = self.declared_features
        if self.tracks is None or self.bins is not None:
            return
        columns = [*_TRACK_COLUMNS, *_OWN_COLUMNS[:4], *_OWN_COLUMNS[7:], *self.tracks.keep]
        sources = [*SOURCES, *self.definitions, *self.covariates, *self.areas, *columns]
        check_places(self.places, columns)
        check_features(self.features, specs, sources=sources, columns=columns)
        lists = {f"models.{name}": model.features for name, model in self.models.items()}
        if self.has_baseline:
            lists["baseline"] = self.baseline_features
        for where, names in lists.items():
            check_known(names, [*specs, *sources], where=f"{where}.features")
            refuse_angles(names, self.features, where=f"{where}.features")

    @property
    def definitions(self) -> dict[str, Definition]:
        """The sources that places and vectors bring."""
        return experiment_definitions(self.places, self.vectors)

    @property
    def declared_features(self) -> dict[str, FeatureSpec]:
        """The features of the section `features`, by name; what stands for several, one by one."""
        return feature_specs(self.features, self.definitions)

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
        return {model: f"{model}{SEEDS_SUFFIX}" for model in several}

    def to_yaml(self) -> str:
        """The resolved configuration, defaults written out."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _thawed(value: Any) -> Any:
    """Tuples as the lists that a file has."""
    if isinstance(value, dict):
        return {k: _thawed(v) for k, v in value.items()}
    return [_thawed(v) for v in value] if isinstance(value, (list, tuple)) else value


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
            k: str(resolve_path(v, folder)) if k == "file" and isinstance(v, str) else _resolve_paths(v, folder)
            for k, v in value.items()
        }
    return value


def resolve_path(text: str, folder: Path) -> Path:
    """A path of a file: relative to its folder, with `${NAME:-default}` replaced as `load_configuration` says."""

    def fill(match: re.Match[str]) -> str:
        value = os.environ.get(match[1])
        if value:  # a relative one is meant from where the command runs, not from the experiment's folder
            return os.path.abspath(value)
        if match[2] is None:
            raise ValueError(f"the path {text} needs the environment variable {match[1]}; set it.")
        return match[2]

    filled = re.sub(r"\$\{(\w+)(?::-([^}]*))?\}", fill, text)
    return Path(os.path.normpath(folder / Path(filled).expanduser()))
