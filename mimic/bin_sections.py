"""The section `bins` of an experiment file: ordered bins of a measured value as choices, in place of cells."""

from __future__ import annotations

import math
import re
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from mimic.bin_decisions import Bins
from mimic.sections import CovariateConfig, Strict

__all__ = ["BIN_FEATURES", "BinFieldConfig", "BinsConfig", "LimitConfig"]

BIN_FEATURES = (
    "bin_mid",
    "bin_width",
    "bin_limit",
    "log_bin_mid",
    "is_bottom",
    "same_bin",
    "bin_change",
    "bin_distance",
)
"""What bins bring by themselves; the first three end in the unit."""


class LimitConfig(Strict):
    """How far bins reach at a place, see `mimic.bin_fields.Limit`: a covariate times a factor, largest within rings.

    The default of one ring is for positions of a tag without GPS: of 3,321 days of 31 bluefin tuna it drops 15 whose
    depth lies below the sea floor, and none would drop 121.
    """

    source: str
    multiply: float = 1.0
    rings: int = Field(default=1, ge=0, le=20)


class BinFieldConfig(CovariateConfig):
    """A gridded covariate with an axis of the bins' quantity; `missing: above` takes the value of the bin before."""

    axis: str
    missing: Literal["drop", "error", "above"] | float = "drop"  # type: ignore[assignment]

    @model_validator(mode="after")
    def _axis_is_free(self) -> BinFieldConfig:
        if self.file is None:
            raise ValueError("a covariate of bins needs a file; nothing is derived there.")
        if self.level is not None and self.axis in self.level:
            raise ValueError(f"level must not name the axis {self.axis}, along which the bins lie.")
        return self


class BinsConfig(Strict):
    """Which bins are choices, and whose value tells the selected one, see `mimic.bin_decisions`.

    `value` is a column of the track file; `label` names it in figures. `resolution` is that of the cell of a fix,
    where covariates are looked up.
    """

    value: str
    value_of: Literal["own", "next"] = "own"
    edges: list[float] = Field(min_length=3)
    unit: str = "1"
    label: str = "value"
    resolution: int = Field(default=4, ge=0, le=15)
    limit: LimitConfig | None = None
    at_bin: dict[Annotated[str, Field(pattern=r"^[A-Za-z]\w*$")], BinFieldConfig] = Field(default={})
    outside: Literal["drop", "error"] = "drop"

    @field_validator("unit")
    @classmethod
    def _ends_a_name(cls, unit: str) -> str:
        if not re.fullmatch(r"\w+", unit):
            raise ValueError(f"the unit ends names such as bin_mid_m: expected letters, digits and _; got {unit!r}.")
        return unit

    @model_validator(mode="after")
    def _are_bins(self) -> BinsConfig:
        if not all(math.isfinite(edge) for edge in self.edges):
            raise ValueError("edges must be finite; the last bin ends at a number too.")
        Bins(tuple(self.edges), self.unit)
        return self

    @property
    def bins(self) -> Bins:
        return Bins(tuple(self.edges), self.unit)

    @property
    def own_names(self) -> list[str]:
        """The features that there are without being asked for."""
        named = [self.bins.named(name) for name in BIN_FEATURES[:3]]
        fields = [name + end for name in self.at_bin for end in ("", "_minus_first")]
        return [*named, *BIN_FEATURES[3:], "previous_bin_known", *fields]
