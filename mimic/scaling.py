"""Training decisions into the scaling of features: what a network subtracts and divides by, after a logarithm or not.

==========  ================================================  ====================================================
`zscore`    (x - mean) / standard deviation                   the default
`minmax`    (x - lowest) / (highest - lowest)                 0 to 1 on the training rows
`robust`    (x - median) / (third - first quartile)           for heavy tails; where the quartiles are equal, as of
                                                              rare indicators, divided by the standard deviation
`log`       z-score of ln(x)                                  for values above 0
`log1p`     z-score of ln(1 + x)                              for values of 0 or more; bends at 1 unit of the feature
`none`      x                                                 for what is of order 1 already
==========  ================================================  ====================================================

A constant feature becomes 0 (but for `none`, which leaves it). Everything is in the network, see `mimic.network`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

import numpy as np

from mimic.schema import ChoiceSets

__all__ = [
    "DEFAULT",
    "Scaling",
    "ScalingKind",
    "check_finite",
    "check_logarithms",
    "check_scaling_option",
    "fit_scaling",
    "scaling_kinds",
]

ScalingKind = Literal["zscore", "minmax", "robust", "log", "log1p", "none"]

DEFAULT = "default"
"""Key of the option `scaling` for the features that it does not name."""

# Two Normalization layers of Keras, each of which clamps at 1e-7, and float32 variances bound what can be scaled.
_SMALLEST_SCALE, _LARGEST_SCALE = 1e-12, 1e18
_LOGARITHMS = {"log": np.log, "log1p": np.log1p}
_INVERSES = {"log": np.exp, "log1p": np.expm1}
_DOMAINS = {"log": "above 0", "log1p": "of 0 or more"}


@dataclass(frozen=True, eq=False)
class Scaling:
    """What the network subtracts from each feature and divides it by, after its logarithm where one is taken.

    Parameters
    ----------
    names
        The features, in the order in which the network takes them.
    mean, scale
        (feature,), float64, in the physical unit, or that of the logarithm: what is subtracted (the mean, or the
        lowest value, the median, 0) and divided by (the standard deviation, or the range, ...). A scale is positive.
    kinds
        The kind of each feature, see the table of this module; by default "zscore" for all.
    """

    names: tuple[str, ...]
    mean: np.ndarray
    scale: np.ndarray
    kinds: tuple[ScalingKind, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(self.names))
        object.__setattr__(self, "mean", np.asarray(self.mean, dtype=np.float64))
        object.__setattr__(self, "scale", np.asarray(self.scale, dtype=np.float64))
        object.__setattr__(self, "kinds", tuple(self.kinds) or ("zscore",) * len(self.names))
        if len(set(self.names)) != len(self.names):
            raise ValueError(f"features must be distinct; got {', '.join(self.names)}.")
        if not self.mean.shape == self.scale.shape == (len(self.names),) == (len(self.kinds),):
            raise ValueError(
                f"mean and scale must have shape (feature,) = ({len(self.names)},), and kinds as many; "
                f"got {self.mean.shape}, {self.scale.shape} and {len(self.kinds)}."
            )
        check_scaling_option(dict(zip(self.names, self.kinds, strict=True)))
        if not np.isfinite(self.mean).all():
            raise ValueError(f"means must be finite; got {self.mean.tolist()} for {', '.join(self.names)}.")
        bad = [n for n, s in zip(self.names, self.scale, strict=True) if not _SMALLEST_SCALE <= s <= _LARGEST_SCALE]
        if bad:
            raise ValueError(
                f"feature {', '.join(bad)}: the standard deviation must lie in [{_SMALLEST_SCALE:g}, "
                f"{_LARGEST_SCALE:g}]; give the feature in another unit."
            )

    @property
    def logarithms(self) -> dict[str, ScalingKind]:
        """Feature -> "log" or "log1p", of the features whose logarithm is taken."""
        return {name: kind for name, kind in zip(self.names, self.kinds, strict=True) if kind in _LOGARITHMS}

    def in_logarithms(self, cs: ChoiceSets) -> ChoiceSets:
        """The choice sets with the logarithm in place of each feature of which it is taken; without any, the same."""
        taken = self.logarithms
        if not taken:
            return cs
        return cs.with_features({name: _logarithm(kind, cs.features[name]) for name, kind in taken.items()})

    def scaled(self, rows: np.ndarray) -> np.ndarray:
        """Rows in physical units as the network scales them: (row, feature) -> (row, feature), float64."""
        columns = [_logarithm(kind, column) for kind, column in zip(self.kinds, np.asarray(rows).T, strict=True)]
        return (np.column_stack(columns) - self.mean) / self.scale

    def physical(self, number: int, scaled: np.ndarray) -> np.ndarray:
        """Scaled values of the feature of this number, (row,), back in its unit: the inverse of `scaled`."""
        values = self.mean[number] + self.scale[number] * np.asarray(scaled, dtype=np.float64)
        inverse = _INVERSES.get(self.kinds[number])
        return values if inverse is None else inverse(values)

    def as_mapping(self) -> dict[str, dict[str, Any]]:
        """Feature -> kind, mean and scale, as a file keeps them."""
        columns = zip(self.names, self.kinds, self.mean.tolist(), self.scale.tolist(), strict=True)
        return {name: {"kind": kind, "mean": mean, "scale": scale} for name, kind, mean, scale in columns}


def check_finite(cs: ChoiceSets, names: Sequence[str]) -> None:
    """Raise ValueError that names every feature with NaN or infinite values, and how many; unknown features too."""
    missing = [name for name in names if name not in cs.features]
    if missing:
        raise ValueError(f"unknown feature {', '.join(missing)}; known are {', '.join(cs.features)}.")
    bad = {name: int(np.count_nonzero(~np.isfinite(cs.features[name]))) for name in names}
    told = [f"{name} ({n:,} of {cs.n_rows:,} rows)" for name, n in bad.items() if n]
    if told:
        raise ValueError(
            f"features must be finite; got NaN or infinity in {', '.join(told)}. "
            "Drop these choices or fill the covariate before training or predicting."
        )


def check_logarithms(features: Mapping[str, np.ndarray], kinds: Mapping[str, str]) -> None:
    """Raise ValueError that names the features with values of which the logarithm asked for does not exist.

    Parameters
    ----------
    features
        Feature -> (row,), physical units.
    kinds
        Feature -> kind; only "log" and "log1p" are looked at.
    """
    for name, kind in kinds.items():
        if kind not in _LOGARITHMS or not len(features[name]):
            continue
        values = features[name]
        bad = int(np.count_nonzero(values <= 0 if kind == "log" else values < 0))
        if bad:
            lowest = float(values.min())
            other = "log1p, which takes 0" if kind == "log" and lowest >= 0 else "zscore, robust or minmax"
            raise ValueError(
                f"feature {name}: scaling {kind} needs values {_DOMAINS[kind]}; {bad:,} of {len(values):,} are not "
                f"(lowest {lowest:g}). Scale it by {other}."
            )


def check_scaling_option(scaling: object) -> None:
    """Raise ValueError where an option `scaling` is neither a kind nor a mapping of features (and `default`) to kinds."""
    known = get_args(ScalingKind)
    kinds = list(scaling.values()) if isinstance(scaling, Mapping) else [scaling]
    bad = [kind for kind in kinds if kind not in known]
    if bad:
        raise ValueError(
            f"scaling must be one of {', '.join(known)}, or feature -> one of them with {DEFAULT} for the others; "
            f"got {bad[0]!r}."
        )


def scaling_kinds(scaling: str | Mapping[str, str], features: Sequence[str]) -> tuple[ScalingKind, ...]:
    """The kind of each feature by an option `scaling`: (feature,).

    Raises
    ------
    ValueError
        If a kind is unknown, or the option names what is no feature of the model.

    Example
    -------
    >>> scaling_kinds({"default": "robust", "stay": "none"}, ["distance_km", "stay"])
    ('robust', 'none')
    """
    check_scaling_option(scaling)
    given = scaling if isinstance(scaling, Mapping) else {DEFAULT: scaling}
    unknown = [str(name) for name in given if name != DEFAULT and name not in features]
    if unknown:
        raise ValueError(
            f"scaling: {', '.join(unknown)} is no feature of the model; these are {', '.join(features)}. "
            "What only one model has is scaled in the training section of that model."
        )
    default = given.get(DEFAULT, "zscore")
    return tuple(cast("ScalingKind", given.get(name, default)) for name in features)


def fit_scaling(
    cs_train: ChoiceSets, names: Sequence[str], *, kinds: str | Mapping[str, str] | Sequence[str] = "zscore"
) -> Scaling:
    """The scaling of each feature by all choice rows of the training decisions, and of them only.

    Parameters
    ----------
    kinds
        One kind for all, feature -> kind with `default` for the others, or the kind of each feature in order.

    Raises
    ------
    ValueError
        If there are no rows; a feature is unknown, holds NaN or infinity, or values without the logarithm asked for.

    Example
    -------
    >>> import pandas as pd
    >>> decisions = pd.DataFrame({"individual": ["a"], "decision": [1]})
    >>> cs = ChoiceSets(decisions, [0, 2], [1, 2], [0], {"depth_m": [10.0, 30.0], "one": [1.0, 1.0]})
    >>> scaling = fit_scaling(cs, ["depth_m", "one"])
    >>> scaling.mean.tolist(), scaling.scale.tolist()
    ([20.0, 1.0], [10.0, 1.0])
    >>> scaling = fit_scaling(cs, ["depth_m", "one"], kinds="minmax")
    >>> scaling.mean.tolist(), scaling.scale.tolist()
    ([10.0, 1.0], [20.0, 1.0])
    """
    option = kinds if isinstance(kinds, str | Mapping) else dict(zip(names, kinds, strict=True))
    resolved = scaling_kinds(option, names)
    check_finite(cs_train, names)
    if cs_train.n_rows == 0:
        raise ValueError("expected training decisions to fit the scaling on; got none.")
    check_logarithms(cs_train.features, dict(zip(names, resolved, strict=True)))
    fitted = [_fit(kind, cs_train.features[name]) for name, kind in zip(names, resolved, strict=True)]
    return Scaling(tuple(names), np.array([m for m, _ in fitted]), np.array([s for _, s in fitted]), resolved)


def _logarithm(kind: str, values: np.ndarray) -> np.ndarray:
    """Values or their logarithm, (row,): float64 where one is taken."""
    taken = _LOGARITHMS.get(kind)
    return values if taken is None else taken(np.asarray(values, dtype=np.float64))


def _fit(kind: ScalingKind, column: np.ndarray) -> tuple[float, float]:
    """What is subtracted from a feature and what it is divided by."""
    if kind == "none":
        return 0.0, 1.0
    column = _logarithm(kind, column)
    low, high = float(column.min()), float(column.max())
    if kind == "minmax":
        return low, high - low if high > low else 1.0
    spread = float(column.std(dtype=np.float64)) if high > low else 1.0
    if kind == "robust":
        first, median, third = np.quantile(column.astype(np.float64), [0.25, 0.5, 0.75])
        return float(median), float(third - first) if third > first else spread
    return float(column.mean(dtype=np.float64)), spread
