"""A YAML file of a covariate cube into a validated `CubeConfig`: every path resolved, one message for all faults."""

from __future__ import annotations

import re
from datetime import date, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, field_validator, model_validator

from mimic.configuration import describe_fault, read_yaml, resolve_path
from mimic.derived import KINDS
from mimic.sections import Duration, Strict

__all__ = [
    "LAYER_KINDS",
    "CellsConfig",
    "ConvertConfig",
    "CubeConfig",
    "CubeTracksConfig",
    "DerivedConfig",
    "TimeConfig",
    "VariableConfig",
    "level_name",
    "load_cube_config",
]

LAYER_KINDS: dict[str, tuple[str, ...]] = {
    "distance_to_shore": ("file",),
    "distance_to_layer": ("file", "layer", "where", "signed"),
}
"""Kinds made of shapes and not of other variables, and their options; see `mimic.vector_layers`."""

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_TAKEN = ("cell", "time", "month", "latitude", "longitude")


def _as_text(value: Any) -> Any:
    return value.isoformat() if isinstance(value, date | datetime) else value


def _check_moment(text: str) -> str:
    import pandas as pd

    try:
        moment = pd.Timestamp(text)
    except ValueError:
        raise ValueError(f'expected a date such as "2020-01-31" or a time "2020-01-31T12:00"; got {text!r}.') from None
    if moment.tzinfo is not None or moment is pd.NaT:
        raise ValueError(f"times are UTC, without a zone; got {text!r}.")
    return text


Moment = Annotated[str, BeforeValidator(_as_text), AfterValidator(_check_moment)]


class CubeTracksConfig(Strict):
    """A track file and its columns, as in an experiment."""

    file: Path
    columns: dict[str, str | list[str]] | None = None
    individual: str | None = None
    crs: str | None = None
    timezone: str | None = None


class CellsConfig(Strict):
    """The cells: of a box, all within reach of any that tracks visit, or those of a file."""

    resolution: int | None = Field(default=None, ge=0, le=15)
    box: tuple[float, float, float, float] | None = None
    tracks: CubeTracksConfig | None = None
    reach_km: float | None = Field(default=None, ge=0, le=20_040)
    file: Path | None = None

    @field_validator("box", mode="before")
    @classmethod
    def _is_a_box(cls, value: Any) -> Any:
        numbers = isinstance(value, list | tuple) and all(isinstance(x, int | float) for x in value)
        if value is not None and not (numbers and len(value) == 4):
            raise ValueError(f"expected [west, south, east, north], degrees; got {value!r}.")
        return value

    @model_validator(mode="after")
    def _is_one(self) -> CellsConfig:
        given = [name for name in ("box", "tracks", "file") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"expected one of box, tracks and file; got {' and '.join(given) or 'none'}.")
        if (self.tracks is None) != (self.reach_km is None):
            raise ValueError("tracks and reach_km go together: all cells within reach of any that is visited.")
        if (self.file is None) == (self.resolution is None):
            raise ValueError("box and tracks need a resolution; the cells of a file have theirs.")
        return self


class TimeConfig(Strict):
    """The steps: those of the files from `start` to `end`, both included; with `step`, means over so long a time."""

    start: Moment | None = None
    end: Moment | None = None
    step: Duration | None = None


class ConvertConfig(Strict):
    """Values become multiply * value + add."""

    multiply: float = 1.0
    add: float = 0.0


class VariableConfig(Strict):
    """A variable from files: a path, several, or patterns such as sst_*.nc.

    `level` is the nearest level of an extra dimension, or [low, high], the mean over a range weighted by thickness;
    `levels` makes one variable of each level, `classes` one of each class: its share.
    """

    files: str | list[str] = Field(min_length=1)
    variable: str | None = None
    level: dict[str, float | tuple[float, float] | str] = Field(default={})
    levels: dict[str, list[float]] | None = Field(default=None, min_length=1, max_length=1)
    classes: dict[str, list[int]] | None = Field(default=None, min_length=1)
    method: Literal["auto", "mean", "nearest", "bilinear", "area"] = "auto"
    unit: str | None = None
    crs: str | None = None
    time_pattern: str | None = None
    band_times: str | tuple[Moment, Duration] | None = None
    overlap: Literal["refuse", "first"] = "refuse"
    convert: ConvertConfig = ConvertConfig()

    @model_validator(mode="after")
    def _goes_together(self) -> VariableConfig:
        ranges = [value for value in self.level.values() if isinstance(value, tuple)]
        wrong = [value for value in ranges if not value[0] < value[1]]
        if wrong:
            raise ValueError(f"a range of levels is [low, high] with low < high; got {list(wrong[0])}.")
        if self.levels and self.classes:
            raise ValueError("expected levels or classes; got both.")
        if self.classes and ranges:
            raise ValueError("classes have no mean over a range of levels; give one level.")
        if self.time_pattern and self.band_times:
            raise ValueError("expected time_pattern (a time a file) or band_times (a time a band); got both.")
        return self


class DerivedConfig(Strict):
    """A variable made of others (`of`) or, for distances, of shapes (the option `file`); see `mimic.derived.KINDS`."""

    kind: str
    of: str | list[str] = Field(default=[])
    options: dict[str, Any] = Field(default={})
    unit: str | None = None

    @property
    def inputs(self) -> list[str]:
        """The variables it is made of."""
        return [self.of] if isinstance(self.of, str) else self.of

    @model_validator(mode="after")
    def _is_known(self) -> DerivedConfig:
        if self.kind in LAYER_KINDS:
            allowed = LAYER_KINDS[self.kind]
            unknown = [name for name in self.options if name not in allowed]
            if unknown or self.inputs:
                raise ValueError(
                    f"{self.kind} is made of shapes: leave `of` out; its options are {', '.join(allowed)}."
                )
            if self.kind == "distance_to_layer" and "file" not in self.options:
                raise ValueError("distance_to_layer needs the option file, of points, lines or polygons.")
            return self
        if self.kind not in KINDS:
            raise ValueError(f"unknown kind {self.kind}; known are {', '.join([*KINDS, *LAYER_KINDS])}.")
        kind = KINDS[self.kind]
        most = kind.n_inputs + kind.n_optional
        if not kind.n_inputs <= len(self.inputs) <= most:
            wanted = str(most) if most == kind.n_inputs else f"{kind.n_inputs} to {most}"
            raise ValueError(f"{self.kind} is made of {wanted} variables; of names {len(self.inputs)}.")
        kind.with_defaults(self.options)
        if kind.needs_all_steps(len(self.inputs)) and not self.options.get("base"):
            raise ValueError(
                f"{self.kind} in a cube needs a climatology as second variable, or the option base: [first, last date]; "
                "without, every new date would change all values."
            )
        return self


class CubeConfig(Strict):
    """A cube of covariates on cells."""

    name: str
    description: str = ""
    cells: CellsConfig
    time: TimeConfig = TimeConfig()
    chunk_steps: int = Field(default=32, ge=1)
    memory_mb: int = Field(default=512, ge=16)
    variables: dict[str, VariableConfig] = Field(min_length=1)
    derived: dict[str, DerivedConfig] = Field(default={})

    @model_validator(mode="after")
    def _is_whole(self) -> CubeConfig:
        outputs = self.outputs
        for name in [*self.variables, *self.derived]:
            if not _NAME.fullmatch(name) or name in _TAKEN:
                raise ValueError(
                    f"names are made of letters, digits and _, and are none of {', '.join(_TAKEN)}; got {name!r}."
                )
        names = [*(n for made in outputs.values() for n in made), *self.derived]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"the name {', '.join(twice)} is given twice.")
        for name, section in self.derived.items():
            for made_of in section.inputs:
                if made_of not in names:
                    raise ValueError(f"derived.{name}: unknown variable {made_of}; known are {', '.join(names)}.")
        self.derived_in_order  # noqa: B018  (raises on a circle)
        return self

    @property
    def outputs(self) -> dict[str, list[str]]:
        """Variable of the file -> the variables of the cube that it becomes: itself, or one a level or class."""
        found = {}
        for name, section in self.variables.items():
            levels = next(iter(section.levels.values())) if section.levels else []
            made = [f"{name}_{level_name(level)}" for level in levels]
            found[name] = made or [f"{name}_{label}" for label in section.classes or ()] or [name]
        return found

    @property
    def derived_in_order(self) -> list[str]:
        """The derived variables, each after those it is made of.

        Raises
        ------
        ValueError
            If they are made of each other in a circle.
        """
        done: list[str] = []
        waiting = list(self.derived)
        while waiting:
            ready = [n for n in waiting if not set(self.derived[n].inputs) & set(waiting)]
            if not ready:
                raise ValueError(f"derived: {', '.join(waiting)} are made of each other in a circle.")
            done += ready
            waiting = [n for n in waiting if n not in ready]
        return done


def level_name(level: float) -> str:
    """A level as part of a name.

    Example
    -------
    >>> level_name(100.0), level_name(0.5), level_name(-5.0)
    ('100', '0_5', 'minus5')
    """
    return f"{level:g}".replace("-", "minus").replace(".", "_").replace("+", "")


def load_cube_config(path: Path) -> CubeConfig:
    """Read and check the file of a cube.

    Paths are taken relative to the folder of the file; `${NAME:-default}` in a path is replaced by the environment
    variable NAME, or by the default where it is not set.

    Raises
    ------
    FileNotFoundError, ValueError
        As `mimic.configuration.read_yaml`; and one ValueError that lists every fault of the content.
    """
    data = read_yaml(path)
    try:
        return CubeConfig.model_validate(_resolved(data, path.resolve().parent))
    except ValidationError as error:
        faults = "\n".join(f"  {describe_fault(e)}" for e in error.errors())
        raise ValueError(f"{path} is not a valid cube:\n{faults}") from None


def _resolved(value: Any, folder: Path, key: str = "") -> Any:
    if isinstance(value, dict):
        return {k: _resolved(v, folder, str(k)) for k, v in value.items()}
    if key in ("file", "files"):
        if isinstance(value, str):
            return str(resolve_path(value, folder))
        return (
            [str(resolve_path(v, folder)) if isinstance(v, str) else v for v in value]
            if isinstance(value, list)
            else value
        )
    return value
