"""Training choice sets into themselves and copies of them with noise on their features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from mimic.schema import DECISION, ChoiceSets, concatenate

__all__ = ["Augmentation", "augment"]


@dataclass(frozen=True)
class Augmentation:
    """How training rows are multiplied.

    Parameters
    ----------
    copies
        Noisy copies of every decision, beside the decision itself.
    multiplicative
        Feature -> standard deviation of s in x (1 + s).
    additive
        Feature -> standard deviation of a in x + a, in the unit of the feature.

    Raises
    ------
    ValueError
        If there are copies without noise or noise without copies, or a standard deviation is not above 0.
    """

    copies: int
    multiplicative: Mapping[str, float] = field(default_factory=dict)
    additive: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        noise = {**self.multiplicative, **self.additive}
        if self.copies < 1 or not noise:
            raise ValueError(
                "augmentation expects copies of 1 or more and noise on a feature (multiplicative or additive); "
                f"got copies {self.copies} and noise on {', '.join(noise) or 'none'}."
            )
        values = [*self.multiplicative.values(), *self.additive.values()]
        if not all(np.isfinite(sd) and sd > 0 for sd in values):
            raise ValueError(f"augmentation: a standard deviation must be above 0; got {values}.")

    @property
    def features(self) -> tuple[str, ...]:
        """The features that get noise."""
        return tuple(dict.fromkeys([*self.multiplicative, *self.additive]))


def augment(cs: ChoiceSets, augmentation: Augmentation, rng: np.random.Generator) -> ChoiceSets:
    """The choice sets followed by their noisy copies; selections are kept.

    A feature of role "decision" gets one draw for all choices of a decision, others one for every row. Gaussian.

    Returns
    -------
    (copies + 1) times the decisions, numbered anew; the first are the given ones.

    Raises
    ------
    ValueError
        If a feature that gets noise is unknown.
    """
    unknown = [name for name in augmentation.features if name not in cs.features]
    if unknown:
        raise ValueError(
            f"augmentation: unknown feature {', '.join(unknown)}; the model's features are {', '.join(cs.features)}."
        )
    copies = [cs, *(_noisy(cs, augmentation, rng) for _ in range(augmentation.copies))]
    return concatenate(
        [
            part.with_context(**{DECISION: number * cs.n_decisions + np.arange(cs.n_decisions)})
            for number, part in enumerate(copies)
        ]
    )


def _noisy(cs: ChoiceSets, augmentation: Augmentation, rng: np.random.Generator) -> ChoiceSets:
    def draws(name: str, sd: float) -> np.ndarray:
        if cs.info[name].role == "decision":
            return np.repeat(rng.normal(0.0, sd, cs.n_decisions), cs.n_choices)
        return rng.normal(0.0, sd, cs.n_rows)

    features: dict[str, Sequence[float] | np.ndarray] = {}
    for name in augmentation.features:
        values = cs.features[name].astype(np.float64)
        if name in augmentation.multiplicative:
            values = values * (1.0 + draws(name, augmentation.multiplicative[name]))
        if name in augmentation.additive:
            values = values + draws(name, augmentation.additive[name])
        features[name] = values
    return cs.with_features({name: np.asarray(values) for name, values in features.items()})
