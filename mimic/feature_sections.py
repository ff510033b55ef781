"""The sections `features`, `places` and `vectors` of an experiment file."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from mimic.sections import Strict

__all__ = ["FeatureConfig", "PlaceConfig", "VectorConfig"]


class FeatureConfig(Strict):
    """A feature that is not simply a source under its own name.

    `multiply`, `clip`, `transform` and `minus_origin` form the source's value, in this order; `times` multiplies the
    result by another feature or source, an interaction. Of a decision column, `missing` is the number that stands where
    it is empty, and `NAME_known` is then there too; `levels` are its categories, each a 0/1 feature `NAME_LEVEL`, with
    `NAME_unknown` for all else. A model that lists NAME takes all of them.
    """

    source: str
    minus_origin: bool = False
    multiply: float = 1.0
    clip: tuple[float | None, float | None] | None = None
    transform: Literal["none", "log", "log1p", "square"] = "none"
    times: str | None = None
    missing: float | None = None
    levels: list[str | int | float | bool] | None = Field(default=None, min_length=1)

    @field_validator("missing", mode="before")
    @classmethod
    def _is_given(cls, value: Any) -> Any:
        if isinstance(value, str):
            raise ValueError(
                f"missing must be a number, such as a usual value of the column; got {value!r}. What is fitted to the "
                "data, as a mean, would carry the validating individuals into training."
            )
        return value

    @model_validator(mode="after")
    def _goes_together(self) -> FeatureConfig:
        formed = self.minus_origin or self.multiply != 1 or self.clip is not None or self.transform != "none"
        if self.levels is not None and (formed or self.missing is not None):
            raise ValueError("levels are 0 or 1; of the other options only times goes with them.")
        if self.missing is not None and (self.minus_origin or self.times is not None):
            raise ValueError(
                "missing goes with neither minus_origin nor times; name the feature, and let another one have it as its "
                "times (and a third its NAME_known)."
            )
        if self.times == self.source:
            raise ValueError(f"{self.source} times itself is its square: write transform: square.")
        return self


class PlaceConfig(Strict):
    """A place of each decision, by two columns of the decisions or two numbers, degrees; empty where it is unknown.

    Its sources are `NAME_km`, `NAME_change_km`, `NAME_cos`, `NAME_sin` and, of columns, `NAME_known`.
    """

    longitude: str | float
    latitude: str | float

    @model_validator(mode="after")
    def _is_a_point(self) -> PlaceConfig:
        if isinstance(self.longitude, str) != isinstance(self.latitude, str):
            raise ValueError("longitude and latitude must both be columns, or both numbers (degrees).")
        for name, value, limit in (("longitude", self.longitude, 360), ("latitude", self.latitude, 90)):
            if not isinstance(value, str) and abs(value) > limit:
                raise ValueError(f"{name} must lie in [-{limit}, {limit}] degrees; got {value:g}.")
        return self

    @property
    def columns(self) -> tuple[str, ...]:
        """The decision columns that it takes; none of a fixed point."""
        return tuple(value for value in (self.longitude, self.latitude) if isinstance(value, str))


class VectorConfig(Strict):
    """A field of vectors of two covariates, read in the origin or in each choice.

    Its sources are `NAME_speed`, `NAME_heading_sin`, `NAME_heading_cos`, `NAME_along` and `NAME_across`.
    """

    east: str
    north: str
    at: Literal["origin", "choice"] = "origin"

    @model_validator(mode="after")
    def _has_two_parts(self) -> VectorConfig:
        if self.east == self.north:
            raise ValueError(f"east and north must be two covariates; got {self.east} for both.")
        return self
