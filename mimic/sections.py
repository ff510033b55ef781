"""The sections of an experiment file: what each may say, and in which range. `mimic.configuration` puts them together."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PositiveInt, field_validator, model_validator

from mimic.derived_sources import check_derived
from mimic.expressions import parse
from mimic.scaling import ScalingKind
from mimic.schema import FeatureInfo, Role

__all__ = [
    "AugmentationConfig",
    "BaselineConfig",
    "ChoicesConfig",
    "CleanConfig",
    "ContrastsConfig",
    "CovariateConfig",
    "EnsembleConfig",
    "FiguresConfig",
    "FileConfig",
    "GroupsConfig",
    "ModelConfig",
    "PlateauConfig",
    "ResampleConfig",
    "SearchConfig",
    "SplitConfig",
    "Strict",
    "TableConfig",
    "TracksConfig",
    "TrainingConfig",
]

_HALF_THE_EQUATOR_KM = 20_040


class Strict(BaseModel):
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


class CleanConfig(Strict):
    """What is dropped from the tracks."""

    max_speed_km_h: float | None = Field(default=None, gt=0)
    max_error_radius_m: float | None = Field(default=None, gt=0)
    error_radius_column: str = "error_radius_m"
    drop_quality: list[str] = []
    quality_column: str = "quality"
    individual_of_tag: dict[str, str] | None = None
    individual_pattern: str | None = None


class ResampleConfig(Strict):
    """The step between decisions, as pandas spells durations ("24h", "20min")."""

    step: Duration
    tolerance: Duration = "0min"


class TracksConfig(Strict):
    """A track file and how it is read, cleaned and resampled."""

    file: Path
    columns: dict[str, str | list[str]] | None = None
    individual: str | None = None
    crs: str | None = None
    timezone: str | None = None
    keep: list[str] = []
    clean: CleanConfig = CleanConfig()
    resample: ResampleConfig


class TableConfig(Strict):
    """A ready choice table in long format, instead of tracks.

    Features are a list (of role "choice"), or name -> role. `derive` makes columns by formulas, such as
    `log_sl: log(step_length_m)`, before anything else is done. `format: amt` reads the random steps of R's amt, see
    `mimic.strata`; of `columns` it takes individual alone.
    """

    file: Path
    format: Literal["long", "amt"] = "long"
    features: list[str] | dict[str, Role] = Field(min_length=1)
    columns: dict[str, str] | None = None
    context: list[str] = []
    derive: dict[str, str] = {}

    @model_validator(mode="after")
    def _fits_its_format(self) -> TableConfig:
        if self.format == "amt" and (set(self.columns or {}) - {"individual"} or self.context):
            raise ValueError(
                "a table of format amt has its own columns; columns may name individual only, and context none."
            )
        return self

    @property
    def roles(self) -> dict[str, FeatureInfo]:
        """Every feature with its role."""
        if isinstance(self.features, dict):
            return {name: FeatureInfo(role) for name, role in self.features.items()}
        return {name: FeatureInfo("choice") for name in self.features}


class CovariateConfig(Strict):
    """A gridded covariate: a file on a grid or a cube on cells; or one derived of others on cells.

    `derive` is a kind of `mimic.derived` that looks at no other times, or a distance to shore or to a vector layer.
    `of` names covariates above it.
    """

    file: Path | None = None
    derive: str | None = None
    of: str | list[str] = []
    options: dict[str, Any] = {}
    variable: str | None = None
    unit: str | None = None
    crs: str | None = None
    level: dict[str, float] | None = None
    method: Literal["auto", "mean", "nearest", "bilinear", "area"] = "auto"
    join: Literal["auto", "static", "nearest", "previous", "linear", "climatology"] = "auto"
    max_gap: Duration | None = None
    missing: Literal["drop", "error"] | float = "drop"

    @model_validator(mode="after")
    def _is_of_a_file_or_derived(self) -> CovariateConfig:
        if (self.file is None) == (self.derive is None):
            raise ValueError(
                "expected either file or derive; got " + ("both." if self.file is not None else "neither.")
            )
        if self.file is not None and (self.inputs or self.options):
            raise ValueError("of and options belong to derive; got a file.")
        if self.derive is not None:
            fields = type(self).model_fields
            of_file = ("variable", "crs", "level", "method", "join", "max_gap")
            idle = [name for name in of_file if getattr(self, name) != fields[name].default]
            if idle:
                raise ValueError(
                    f"{', '.join(idle)} belongs to a file; a derived covariate has those of what it is of."
                )
            check_derived(self.derive, len(self.inputs), self.options)
        return self

    @property
    def inputs(self) -> list[str]:
        """The covariates that it is derived of."""
        return [self.of] if isinstance(self.of, str) else list(self.of)


class FileConfig(Strict):
    """A file: the polygons of an area (1 inside, 0 outside), or the written-down truth of a synthetic world."""

    file: Path


class ChoicesConfig(Strict):
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


class SplitConfig(Strict):
    """Which individuals validate: a seeded share, or by name."""

    validation_share: float = Field(default=0.36, gt=0, lt=1)
    seed: int = Field(default=0, ge=0)
    validation: list[str] | None = None


class ContrastsConfig(Strict):
    """How many contrasts are drawn where they are sampled (`loss: contrast_sampled`)."""

    decisions_per_individual: int = Field(default=200, ge=1)
    alternatives_per_decision: int = Field(default=19, ge=1)


class PlateauConfig(Strict):
    """The learning rate falls after some epochs without a new minimum of the monitored loss."""

    patience: int = Field(default=10, ge=1)
    factor: float = Field(default=0.5, gt=0, lt=1)
    min_learning_rate: float = Field(default=0.0, ge=0)


class AugmentationConfig(Strict):
    """Noisy copies of the training decisions."""

    copies: int = Field(ge=1)
    multiplicative: dict[str, float] = {}
    additive: dict[str, float] = {}


class TrainingConfig(Strict):
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
    scaling: ScalingKind | dict[str, ScalingKind] = "zscore"
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

    @field_validator("scaling", mode="before")
    @classmethod
    def _is_scaling(cls, value: Any) -> Any:
        kinds = get_args(ScalingKind)
        wrong = [one for one in (value.values() if isinstance(value, dict) else [value]) if one not in kinds]
        if wrong:
            raise ValueError(f"expected {', '.join(kinds)}, or feature: one of them; got {wrong[0]!r}.")
        return value

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


class EnsembleConfig(Strict):
    """Members whose early stopping validates on different folds of the training individuals."""

    members: int = Field(default=4, ge=2)
    combine: Literal["mean_probability", "mean_log_odds"] = "mean_probability"


class ModelConfig(Strict):
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


class BaselineConfig(Strict):
    """The conditional logit that stands beside the models, fitted to the training decisions.

    By default of all features of the models; those that have no coefficient are left out and named.
    """

    features: list[str] | None = None
    weighting: Literal["individual", "decision"] = "individual"


class SearchConfig(Strict):
    """How the grid is searched: all of it to the end, or by successive halving."""

    method: Literal["full", "halving"] = "full"
    factor: int = Field(default=3, ge=2)
    min_epochs: int = Field(default=10, ge=1)


class GroupsConfig(Strict):
    """Choice groups, behavior groups, and conditions on choices whose predicted share is compared with the data's.

    `chain` divides a movement into stages, stage -> class -> condition on choices, see `mimic.chain`; by default
    into stay or move and bands of distance. `pairs` are models to be compared, [model, other]; by default each model
    with the one before it and with the conditional logit.
    """

    choices: dict[str, str] = {"all": "all"}
    behaviors: dict[str, str] = {"all": "all"}
    shares: dict[str, str] = {}
    chain: dict[str, dict[str, str]] | None = None
    pairs: list[tuple[str, str]] | None = None

    @field_validator("choices", "behaviors", "shares")
    @classmethod
    def _are_expressions(cls, groups: dict[str, str]) -> dict[str, str]:
        for text in groups.values():
            parse(text)
        return groups

    @field_validator("chain")
    @classmethod
    def _stages_are_expressions(cls, chain: dict[str, dict[str, str]] | None) -> dict[str, dict[str, str]] | None:
        for text in (text for classes in (chain or {}).values() for text in classes.values()):
            parse(text)
        return chain


class FiguresConfig(Strict):
    """What the figures show."""

    difference: tuple[str, str] | None = None
    individual: str | None = None
    color_by: str = "individual"
