"""A way to fit into models fitted again: to individuals drawn anew, for intervals of whatever a model says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from mimic.bootstrap import interval_of_draws, resample_counts
from mimic.points import Model
from mimic.schema import INDIVIDUAL, ChoiceSets
from mimic.spans import segments

__all__ = ["Drawn", "Refits", "bootstrap_fits", "curve_interval", "resample_individuals", "several_models"]

_LARGEST_SHARE_FAILED = 0.2


@dataclass(frozen=True, eq=False)
class Refits:
    """Models of one kind that differ by what they were fitted to, and the fits that failed.

    Parameters
    ----------
    models
        In the order of the draws.
    failures
        Messages of the fits without a model, such as a feature that separates the choices of few individuals.
    """

    models: tuple[Model, ...]
    failures: tuple[str, ...] = ()

    @property
    def note(self) -> str:
        """What a table tells of them; nothing where all succeeded."""
        n = len(self.failures)
        return f"{n} of {n + len(self.models)} refits failed" if n else ""


@dataclass(frozen=True, eq=False)
class Drawn:
    """A curve, its interval and what the interval is of.

    Parameters
    ----------
    estimate, low, high
        (value,); low and high are NaN where nothing was drawn.
    interval
        "refits", "members", what else varies, or "" for nothing.
    n_draws
        Curves that the interval is made of.
    """

    estimate: np.ndarray
    low: np.ndarray
    high: np.ndarray
    interval: str
    n_draws: int


def bootstrap_fits(
    fit: Callable[[ChoiceSets], Model],
    cs: ChoiceSets,
    *,
    n: int = 200,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Refits:
    """The model fitted again to individuals drawn with replacement: the cluster bootstrap.

    Parameters
    ----------
    fit
        What fits: choice sets in, a model out. A ValueError of it is a failure, kept by its message.
    cs
        What the model was fitted to, in general the training decisions.
    n, seed
        Number of draws, and their seed.
    progress
        Called as `progress(n_done, n)`.

    Raises
    ------
    ValueError
        If there are fewer than 2 individuals, or more than a fifth of the fits fail: intervals of the others
        would be of another study.

    Notes
    -----
    Whole individuals are drawn, as many as there are, because decisions of one individual are alike. An individual
    drawn again gets a name of its own, so that it weighs twice where individuals weigh the same.
    """
    n_individuals = len(set(cs.individuals))
    if n_individuals < 2:
        raise ValueError(f"a bootstrap over individuals needs 2 or more; got {n_individuals}.")
    models: list[Model] = []
    failures: list[str] = []
    for done, counts in enumerate(resample_counts(n_individuals, n_resamples=n, seed=seed), start=1):
        try:
            models.append(fit(resample_individuals(cs, counts)))
        except ValueError as error:
            failures.append(str(error))
        if progress is not None:
            progress(done, n)
    if len(failures) > _LARGEST_SHARE_FAILED * n:
        raise ValueError(
            f"{len(failures)} of {n} refits to individuals drawn anew failed; the first said: {failures[0]} "
            "Take a model with fewer features, or more individuals."
        )
    return Refits(tuple(models), tuple(failures))


def resample_individuals(cs: ChoiceSets, counts: Sequence[int] | np.ndarray) -> ChoiceSets:
    """The choice sets with each individual as often as it was drawn.

    Parameters
    ----------
    counts
        (individual,), in the order of `cs.individual_codes`. The second copy of fish "a" is called "a (2)", or "a (2)'"
        where names end in parentheses.

    Raises
    ------
    ValueError
        If there is not one count for each individual, or nothing is drawn.

    Example
    -------
    >>> import pandas as pd
    >>> decisions = pd.DataFrame({"individual": ["a", "b"], "decision": [1, 1]})
    >>> cs = ChoiceSets(decisions, [0, 2, 5], [1, 2, 1, 2, 3], [1, 2])
    >>> drawn = resample_individuals(cs, [2, 0])
    >>> drawn.individuals.tolist(), drawn.selected.tolist()
    (['a', 'a (2)'], [1, 3])
    """
    often = np.asarray(counts)
    codes = cs.individual_codes
    if often.shape != (codes.max(initial=-1) + 1,) or not often.any():
        raise ValueError(f"counts must have one entry for each of {codes.max(initial=-1) + 1} individuals, not all 0.")
    copies = [np.flatnonzero(often[codes] > copy) for copy in range(int(often.max()))]
    taken = np.concatenate(copies)  # (decision,), of the original decisions
    sizes = cs.n_choices[taken]
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    rows = segments(cs.offsets[taken], sizes)
    number = np.repeat(np.arange(1, len(copies) + 1), [len(c) for c in copies])
    decisions = cs.decisions.iloc[taken]
    end = ")"
    while any(str(name).endswith(end) for name in set(cs.individuals)):
        end += "'"  # a fish that is called "a (2)" already is no copy of fish "a"
    names = [f"{name} ({k}{end}" if k > 1 else name for name, k in zip(decisions[INDIVIDUAL], number, strict=True)]
    old = cs.selected[taken]
    return ChoiceSets(
        decisions=decisions.assign(**{INDIVIDUAL: names}),
        offsets=offsets,
        choice=cs.choice[rows],
        selected=np.where(old >= 0, old - cs.offsets[taken] + offsets[:-1], -1),
        features={name: values[rows] for name, values in cs.features.items()},
        info=cs.info,
    )


def curve_interval(
    models: Sequence[Model], refits: Refits | Sequence[Model], curve: Callable[[Model], np.ndarray], level: float
) -> Drawn:
    """The mean curve of the models, with the interval over refits, else over several models, else over members.

    Parameters
    ----------
    curve
        The curve by each member of a model: (member, value); most models have one.
    """
    own = [curve(model) for model in models]
    members = own[0] if len(own) == 1 else np.stack([one.mean(axis=0) for one in own])
    estimate = members.mean(axis=0)
    again = refits.models if isinstance(refits, Refits) else tuple(refits)
    draws = np.stack([curve(model).mean(axis=0) for model in again]) if again else members
    if len(draws) < 2:
        nothing = np.full_like(estimate, np.nan)
        return Drawn(estimate, nothing, nothing.copy(), "", 0)
    low, high = interval_of_draws(estimate, draws, level=level)
    return Drawn(estimate, low, high, "refits" if again else "members", len(draws))


def several_models(models: Model | Sequence[Model]) -> Sequence[Model]:
    """The models as a sequence. Raises ValueError if there are none, or they do not take the same features."""
    several = models if isinstance(models, Sequence) else [models]
    if not several:
        raise ValueError("expected a model or several; got none.")
    other = [m.features for m in several if set(m.features) != set(several[0].features)]
    if other:
        raise ValueError(
            f"models of one curve must take the same features; got {', '.join(several[0].features)} and "
            f"{', '.join(other[0])}."
        )
    return several
