"""A YAML file into a validated `Configuration`: every key known, every path resolved, one message for all faults."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Hashable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PositiveInt,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails

from mimic.expressions import parse
from mimic.features import SOURCES
from mimic.grid import Member, expand
from mimic.schema import FeatureInfo, Role

__all__ = [
    "AugmentationConfig",
    "ChoicesConfig",
    "CleanConfig",
    "Configuration",
    "ContrastsConfig",
    "CovariateConfig",
    "EnsembleConfig",
    "FeatureConfig",
    "FiguresConfig",
    "FileConfig",
    "GroupsConfig",
    "ModelConfig",
    "PlateauConfig",
    "ResampleConfig",
    "SearchConfig",
    "SplitConfig",
    "TableConfig",
    "TracksConfig",
    "TrainingConfig",
    "load_configuration",
    "read_yaml",
]

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
# Columns that mimic gives every decision (a kept column would be lost in them), and calendar names of groups.
_OWN_COLUMNS = ("decision", "split", "origin", "destination", "choice", "selected", "n_choices", "n_choices_in_group")
_CALENDAR = ("month", "hour", "year", "day_of_year")
# Beside these a table by decision has a column for each model.
_NOT_FOR_MODELS = ("individual", "decision", "split", "time_utc", "origin", "n_choices", "null")
_HALF_THE_EQUATOR_KM = 20_040


class _Strict(BaseModel):
    """A section of the file: unknown keys are refused, with the nearest known name."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_keys(cls, data: Any) -> Any:
        if isinstance(data, dict):
            for key in data:
                if key not in cls.model_fields:
                    near = difflib.get_close_matches(str(key), cls.model_fields, n=1)
                    hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(cls.model_fields)}."
                    raise ValueError(f"unknown key {key}; {hint}")
        return data


def _check_duration(text: str) -> str:
    import pandas as pd

    try:
        pd.Timedelta(text)
    except ValueError:
        raise ValueError(f'expected a duration such as "24h" or "20min"; got {text!r}.') from None
    return text


Duration = Annotated[str, AfterValidator(_check_duration)]


class CleanConfig(_Strict):
    """What is dropped from the tracks."""

    max_speed_km_h: float | None = Field(default=None, gt=0)
    max_error_radius_m: float | None = Field(default=None, gt=0)
    error_radius_column: str = "error_radius_m"
    drop_quality: list[str] = []
    quality_column: str = "quality"
    individual_of_tag: dict[str, str] | None = None
    individual_pattern: str | None = None


class ResampleConfig(_Strict):
    """The step between decisions, as pandas spells durations ("24h", "20min")."""

    step: Duration
    tolerance: Duration = "0min"


class TracksConfig(_Strict):
    """A track file and how it is read, cleaned and resampled."""

    file: Path
    columns: dict[str, str | list[str]] | None = None
    individual: str | None = None
    crs: str | None = None
    timezone: str | None = None
    keep: list[str] = []
    clean: CleanConfig = CleanConfig()
    resample: ResampleConfig


class TableConfig(_Strict):
    """A ready choice table in long format, instead of tracks.

    Features are a list (of role "choice"), or name -> role.
    """

    file: Path
    features: list[str] | dict[str, Role] = Field(min_length=1)
    columns: dict[str, str] | None = None
    context: list[str] = []

    @property
    def roles(self) -> dict[str, FeatureInfo]:
        """Every feature with its role."""
        if isinstance(self.features, dict):
            return {name: FeatureInfo(role) for name, role in self.features.items()}
        return {name: FeatureInfo("choice") for name in self.features}


class CovariateConfig(_Strict):
    """A gridded covariate."""

    file: Path
    variable: str | None = None
    unit: str | None = None
    crs: str | None = None
    level: dict[str, float] | None = None
    method: Literal["auto", "mean", "nearest", "bilinear", "area"] = "auto"
    join: Literal["auto", "static", "nearest", "previous", "linear", "climatology"] = "auto"
    max_gap: Duration | None = None
    missing: Literal["drop", "error"] | float = "drop"


class FileConfig(_Strict):
    """A file: the polygons of an area (1 inside, 0 outside), or the written-down truth of a synthetic world."""

    file: Path


class ChoicesConfig(_Strict):
    """Which cells are choices."""

    resolution: int = Field(ge=0, le=15)
    max_distance_km: float = Field(ge=0, le=_HALF_THE_EQUATOR_KM)
    domain: str | None = None
    outside: Literal["drop", "error"] = "drop"

    @field_validator("domain")
    @classmethod
    def _is_expression(cls, value: str | None) -> str | None:
        if value is not None:
            parse(value)
        return value


class FeatureConfig(_Strict):
    """A feature that is not simply a source under its own name."""

    source: str
    minus_origin: bool = False
    multiply: float = 1.0
    clip: tuple[float | None, float | None] | None = None
    transform: Literal["none", "log", "log1p", "square"] = "none"


class SplitConfig(_Strict):
    """Which individuals validate: a seeded share, or by name."""

    validation_share: float = Field(default=0.36, gt=0, lt=1)
    seed: int = Field(default=0, ge=0)
    validation: list[str] | None = None


class ContrastsConfig(_Strict):
    """How many contrasts are drawn where they are sampled (`loss: contrast_sampled`)."""

    decisions_per_individual: int = Field(default=200, ge=1)
    alternatives_per_decision: int = Field(default=19, ge=1)


class PlateauConfig(_Strict):
    """The learning rate falls after some epochs without a new minimum of the monitored loss."""

    patience: int = Field(default=10, ge=1)
    factor: float = Field(default=0.5, gt=0, lt=1)
    min_learning_rate: float = Field(default=0.0, ge=0)


class AugmentationConfig(_Strict):
    """Noisy copies of the training decisions."""

    copies: int = Field(ge=1)
    multiplicative: dict[str, float] = {}
    additive: dict[str, float] = {}


class TrainingConfig(_Strict):
    """How the networks are trained; a model may override any of it. See `mimic.options.TrainingOptions`."""

    loss: Literal["contrast_exact", "contrast_sampled", "softmax"] = "contrast_exact"
    redraw: bool = False
    epochs: int = Field(default=100, ge=1)
    batch_decisions: int = Field(default=512, ge=1)
    batch_contrasts: int | None = Field(default=None, ge=1)
    learning_rate: float = Field(default=1e-3, gt=0, allow_inf_nan=False)
    schedule: dict[str, Any] | None = None
    optimizer: str = "adam"
    optimizer_arguments: dict[str, Any] = {}
    weight_decay: float | None = Field(default=None, ge=0)
    gradient_clip_norm: float | None = Field(default=None, gt=0)
    plateau: PlateauConfig | None = None
    units: list[PositiveInt] = [24, 24, 24]
    activation: str = "relu"
    dropout: float = Field(default=0.0, ge=0, lt=1)
    l2: float = Field(default=0.0, ge=0)
    linear_skip: bool | list[str] = False
    embedding_size: int = Field(default=0, ge=0)
    embedding_l2: float = Field(default=1e-2, ge=0)
    augmentation: AugmentationConfig | None = None
    weights: dict[str, Annotated[float, Field(ge=0)]] = {}
    labels: str | None = None
    patience: int | None = Field(default=None, ge=1)
    weighting: Literal["individual", "decision"] = "individual"
    seed: int = Field(default=0, ge=0)
    evaluate_every: int = Field(default=1, ge=1)

    @field_validator("weights")
    @classmethod
    def _are_conditions(cls, weights: dict[str, float]) -> dict[str, float]:
        for text in weights:
            parse(text)
        return weights

    @model_validator(mode="after")
    def _goes_together(self) -> TrainingConfig:
        if self.weighting == "decision" and self.loss != "softmax":
            raise ValueError("weighting: decision goes with loss: softmax; contrasts weigh individuals the same.")
        if self.redraw and self.loss != "contrast_sampled":
            raise ValueError("redraw goes with loss: contrast_sampled; the other losses draw nothing.")
        if self.plateau is not None and self.schedule is not None:
            raise ValueError("expected either schedule or plateau to move the learning rate; got both.")
        return self


class EnsembleConfig(_Strict):
    """Members whose early stopping validates on different folds of the training individuals."""

    members: int = Field(default=4, ge=2)
    combine: Literal["mean_probability", "mean_log_odds"] = "mean_probability"


class ModelConfig(_Strict):
    """A model: its features, what kind it is, and what it trains differently."""

    features: list[str]
    kind: Literal["network", "conditional_logit"] = "network"
    ensemble: EnsembleConfig | None = None
    training: dict[str, Any] = {}
    grid: dict[str, list[Any]] | None = None

    @model_validator(mode="after")
    def _goes_together(self) -> ModelConfig:
        if self.kind == "conditional_logit" and (self.ensemble or self.grid):
            raise ValueError("a conditional logit has one solution; it takes neither ensemble nor grid.")
        if self.kind == "conditional_logit" and not self.features:
            raise ValueError("a conditional logit needs features; the model without any is a network's null.")
        return self


class SearchConfig(_Strict):
    """How the grid is searched: all of it to the end, or by successive halving."""

    method: Literal["full", "halving"] = "full"
    factor: int = Field(default=3, ge=2)
    min_epochs: int = Field(default=10, ge=1)


class GroupsConfig(_Strict):
    """Choice groups, behavior groups, and conditions on choices whose predicted share is compared with the data's."""

    choices: dict[str, str] = {"all": "all"}
    behaviors: dict[str, str] = {"all": "all"}
    shares: dict[str, str] = {}

    @field_validator("choices", "behaviors", "shares")
    @classmethod
    def _are_expressions(cls, groups: dict[str, str]) -> dict[str, str]:
        for text in groups.values():
            parse(text)
        return groups


class FiguresConfig(_Strict):
    """What the figures show."""

    difference: tuple[str, str] | None = None
    individual: str | None = None
    color_by: str = "individual"


class Configuration(_Strict):
    """One experiment: data, choice sets, features, split, models and groups."""

    name: str
    description: str = ""
    tracks: TracksConfig | None = None
    table: TableConfig | None = None
    covariates: dict[str, CovariateConfig] = {}
    areas: dict[str, FileConfig] = {}
    choices: ChoicesConfig | None = None
    features: dict[str, FeatureConfig] = {}
    split: SplitConfig = SplitConfig()
    contrasts: ContrastsConfig = ContrastsConfig()
    training: TrainingConfig = TrainingConfig()
    grid: dict[str, list[Any]] = {}
    search: SearchConfig = SearchConfig()
    models: dict[str, ModelConfig] = Field(min_length=1)
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
        if self.truth is not None and "truth" in self.models:
            raise ValueError("with truth set, no model may be called truth.")
        taken = [name for name in self.models if name in _NOT_FOR_MODELS]
        if taken:
            raise ValueError(
                f"no model may be called {', '.join(taken)}: tables have a column of that name. Rename it."
            )
        for name in self.models:
            try:
                self.training_of(name)
            except ValidationError as error:
                raise ValueError("; ".join(_fault(e, f"models.{name}.training") for e in error.errors())) from None
            self.members_of(name)
        taken = sorted(set(self.seeds_models.values()) & set(self.models))
        if taken:
            raise ValueError(f"the ensemble of seeds will be called {', '.join(taken)}; rename the model of that name.")
        for name in self.figures.difference or ():
            if name not in self.models:
                raise ValueError(f"figures.difference: unknown model {name}; known are {', '.join(self.models)}.")

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
                raise ValueError("; ".join(_fault(e, f"grid of {model}") for e in error.errors())) from None
            members.append(replace(member, training=training.model_dump()))
        return members

    @property
    def seeds_models(self) -> dict[str, str]:
        """Model -> the name of the ensemble of its seeds, where its grid has several seeds."""
        several = [m for m in self.models if len({member.seed for member in self.members_of(m)}) > 1]
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
        faults = "\n".join(f"  {_fault(e)}" for e in error.errors())
        raise ValueError(f"{path} is not a valid experiment:\n{faults}") from None


def _fault(error: ErrorDetails, section: str = "") -> str:
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
