"""Models into the importance of their features: what permuting within choice sets, or leaving out, costs in nats of D."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from mimic.bootstrap import few_note, mean_intervals
from mimic.contrasts import Weighting
from mimic.expressions import EVERYTHING
from mimic.groups import behavior_mask, choice_mask, split_masks
from mimic.points import Model
from mimic.schema import ChoiceSets
from mimic.scores import ChoiceGroup, score_groups

__all__ = ["IMPORTANCE_COLUMNS", "drop_one", "feature_groups", "permutation_importance"]

IMPORTANCE_COLUMNS = [
    "model",
    "feature",
    "features",
    "how",
    "split",
    "choice_group",
    "behavior_group",
    "weighting",
    "n_individuals",
    "n_decisions",
    "drop",
    "drop_low",
    "drop_high",
    "drop_sd",
    "rank",
    "note",
]

_ALL = {"all": EVERYTHING}
WITHIN, ACROSS, REFIT = "permuted within choice sets", "permuted across decisions", "refitted without"


def feature_groups(features: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Features by name, with the sine and cosine of one angle as one: heading_sin and heading_cos are `heading`.

    Example
    -------
    >>> feature_groups(["sst", "heading_sin", "heading_cos"])
    {'sst': ('sst',), 'heading': ('heading_sin', 'heading_cos')}
    """
    groups: dict[str, tuple[str, ...]] = {}
    for name in features:
        angle, _, part = name.rpartition("_")
        is_circle = part in ("sin", "cos") and {f"{angle}_sin", f"{angle}_cos"} <= set(features)
        groups.setdefault(angle if is_circle else name, ())
        groups[angle if is_circle else name] += (name,)
    return groups


def permutation_importance(
    models: Mapping[str, Model],
    cs: ChoiceSets,
    *,
    groups: Mapping[str, Sequence[str]] | None = None,
    n_repeats: int = 5,
    choice_groups: Mapping[str, str] = _ALL,
    behavior_groups: Mapping[str, str] = _ALL,
    splits: Sequence[str] | None = None,
    weightings: Sequence[Weighting] = ("individual",),
    level: float = 0.95,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> pd.DataFrame:
    """How much worse models predict the selections when a feature no longer tells the choices apart.

    Parameters
    ----------
    models
        Name -> model.
    groups
        Name -> features that are permuted together; by default `feature_groups` of each model.
    n_repeats, seed
        Permutations, and their seed. All models see the same ones.
    choice_groups, behavior_groups, splits, weightings
        As in `mimic.evaluation.evaluate`. Values are permuted among the choices of the choice group, and their
        probabilities renormalized.
    progress
        Called as `progress(n_done, n)`.

    Returns
    -------
    Columns `IMPORTANCE_COLUMNS`, one row a model x feature (group) x split x choice group x behavior group x
    weighting. drop: D of the model less its mean D over the permutations, nats; positive where the feature helps.
    Its interval is from a bootstrap over individuals, drop_sd the standard deviation of the repeats. `how` is
    "permuted within choice sets". A feature that is the same for all choices of a decision would not change so: its
    values, a decision at a time, go to other decisions of the split ("permuted across decisions"). rank: 1 has the
    largest drop.

    Raises
    ------
    ValueError
        If there are no models, a group names a feature that the model does not take, n_repeats is less than 1, or as
        `evaluate`.

    Notes
    -----
    Within choice sets, because a permutation across them would put a tropical temperature into an arctic choice set,
    where the model was never asked. Features that go together share what they know: permuting one of two equal
    features costs little. `drop_one` asks what the model would do without.

    Example
    -------
    Two choices, odds 3 : 1 by the one feature, the first selected: permuting swaps them or not.

    >>> decisions = pd.DataFrame({"individual": ["a"], "decision": [1]})
    >>> cs = ChoiceSets(decisions, [0, 2], [1, 2], [0], {"deep": [1.0, 0.0]})
    >>> class Deep:
    ...     features = ("deep",)
    ...     def log_odds(self, cs):
    ...         return np.log(3.0) * cs.features["deep"]
    >>> table = permutation_importance({"m": Deep()}, cs, n_repeats=1000)
    >>> bool(abs(table["drop"].item() - np.log(3) / 2) < 0.05)  # half of the permutations cost ln 3
    True
    """
    if not models or n_repeats < 1:
        raise ValueError(f"expected models and 1 or more repeats; got {len(models)} models and {n_repeats} repeats.")
    wanted = {name: _checked_groups(model, groups) for name, model in models.items()}
    n_steps, n_done = len(choice_groups) * sum(map(len, wanted.values())), 0
    parts = []
    for (choice_group, text), (name, model) in product(choice_groups.items(), models.items()):
        group = _Group(cs, choice_group, text, behavior_groups, splits)
        before = group.log_p(model.log_odds(cs))
        for feature, together in wanted[name].items():
            after = [
                group.log_p(model.log_odds(_permuted(cs, together, group, [seed, repeat])))
                for repeat in range(n_repeats)
            ]
            drops = before[:, None] - np.column_stack(after)
            keys = {"model": name, "feature": feature, "features": ", ".join(together), "how": _how(cs, together)}
            parts += group.rows(keys, drops, weightings, level)
            n_done += 1
            if progress is not None:
                progress(n_done, n_steps)
    return _ranked(pd.DataFrame(parts))


def drop_one(
    fit: Callable[[tuple[str, ...]], Model],
    cs: ChoiceSets,
    features: Sequence[str],
    *,
    name: str = "model",
    groups: Mapping[str, Sequence[str]] | None = None,
    choice_groups: Mapping[str, str] = _ALL,
    behavior_groups: Mapping[str, str] = _ALL,
    splits: Sequence[str] | None = None,
    weightings: Sequence[Weighting] = ("individual",),
    level: float = 0.95,
    progress: Callable[[int, int], None] | None = None,
) -> pd.DataFrame:
    """How much worse a model predicts that is fitted again without a feature.

    Parameters
    ----------
    fit
        Features -> a model fitted to training decisions, with the same options each time. It is called once with all
        features and once without each group; where no feature is left the null takes its place.
    cs
        Decisions to predict, in general of other individuals.
    features
        All of them.
    groups
        Name -> features that are left out together; by default `feature_groups`.
    name
        Of the model, for the table.

    Returns
    -------
    As `permutation_importance`, with `how` "refitted without" and drop = D of the full model less D without the
    feature, paired by decision. A network differs between seeds too: let `fit` train a few and average, or compare the
    drop with the spread of seeds. drop_sd is NaN.

    Raises
    ------
    ValueError
        If a group names other features, or a fit fails; the message then names the group.
    """
    wanted = _checked_groups(_Named(tuple(features)), groups)
    full = fit(tuple(features)).log_odds(cs)
    less: dict[str, np.ndarray] = {}
    for number, (feature, together) in enumerate(wanted.items(), start=1):
        left = tuple(n for n in features if n not in together)
        try:
            less[feature] = fit(left).log_odds(cs) if left else np.zeros(cs.n_rows)
        except ValueError as error:
            raise ValueError(f"without {feature}: {error}") from error
        if progress is not None:
            progress(number, len(wanted))
    parts = []
    for choice_group, text in choice_groups.items():
        group = _Group(cs, choice_group, text, behavior_groups, splits)
        before = group.log_p(full)
        for feature, together in wanted.items():
            keys = {"model": name, "feature": feature, "features": ", ".join(together), "how": REFIT}
            parts += group.rows(keys, (before - group.log_p(less[feature]))[:, None], weightings, level)
    return _ranked(pd.DataFrame(parts))


class _Named:
    """Features without a model, for the check of groups."""

    def __init__(self, features: tuple[str, ...]) -> None:
        self.features = features

    def log_odds(self, cs: ChoiceSets, /) -> np.ndarray:
        return np.zeros(cs.n_rows)


class _Group:
    """The decisions of a choice group, and the splits and behavior groups to report them by."""

    def __init__(
        self,
        cs: ChoiceSets,
        name: str,
        text: str,
        behavior_groups: Mapping[str, str],
        splits: Sequence[str] | None,
    ) -> None:
        self.cs, self.name = cs, name
        self.choices = ChoiceGroup.of(cs, choice_mask(cs, text))
        inside = np.repeat(self.choices.inside, cs.n_choices)
        self.keep_row = inside if self.choices.keep_row is None else inside & self.choices.keep_row
        self.decision = np.flatnonzero(self.choices.inside)  # (decision in group,)
        self.individual = cs.individual_codes[self.decision]
        self.splits = split_masks(cs, splits)
        self.behaviors = {
            b: behavior_mask(cs, t, n_in_group=self.choices.n_in_group) for b, t in behavior_groups.items()
        }

    def log_p(self, log_odds: np.ndarray) -> np.ndarray:
        """ln p of the selected choice among those of the group: (decision in group,), nats."""
        return score_groups(log_odds, self.cs, [self.choices])[0].log_p[self.decision]

    def rows(
        self, keys: Mapping[str, str], drops: np.ndarray, weightings: Sequence[Weighting], level: float
    ) -> list[dict[str, Any]]:
        """Rows of the table from drops (decision in group, repeat)."""
        found = []
        for (split, in_split), (behavior, in_behavior) in product(self.splits.items(), self.behaviors.items()):
            inside = (in_split & in_behavior)[self.decision]
            codes, values = self.individual[inside], drops[inside]
            n_individuals = len(np.unique(codes))
            for weighting in weightings:
                summary = _summary(values, codes, weighting, level)
                place = {"split": split, "choice_group": self.name, "behavior_group": behavior, "weighting": weighting}
                counts = {"n_individuals": n_individuals, "n_decisions": len(codes), "note": few_note(n_individuals)}
                found.append({**keys, **place, **counts, **summary})
        return found


def _summary(values: np.ndarray, codes: np.ndarray, weighting: Weighting, level: float) -> dict[str, float]:
    """Mean drop, its interval and the standard deviation of the repeats; NaN of nothing."""
    if len(codes) == 0:
        return dict.fromkeys(("drop", "drop_low", "drop_high", "drop_sd"), np.nan)
    of_all = mean_intervals(values.mean(axis=1), codes, weighting=weighting, level=level)
    sd = np.nan
    if values.shape[1] > 1:
        sd = float(np.std(mean_intervals(values, codes, weighting=weighting, n_resamples=1).estimate, ddof=1))
    return {
        "drop": float(of_all.estimate[0]),
        "drop_low": float(of_all.low[0]),
        "drop_high": float(of_all.high[0]),
        "drop_sd": sd,
    }


def _permuted(cs: ChoiceSets, features: Sequence[str], group: _Group, seed: Sequence[int]) -> ChoiceSets:
    """The choice sets with features permuted together, among the choices of the group or among decisions."""
    new: dict[str, np.ndarray] = {}
    within = [name for name in features if cs.info[name].role != "decision"]
    across = [name for name in features if cs.info[name].role == "decision"]
    if within:
        rows = np.flatnonzero(group.keep_row)
        drawn = np.random.default_rng([*seed, 0]).random(len(rows))
        order = rows[np.lexsort((drawn, cs.decision_of_row[rows]))]
        for name in within:
            new[name] = cs.features[name].copy()
            new[name][rows] = cs.features[name][order]
    if across:
        rng = np.random.default_rng([*seed, 1])
        source = np.arange(cs.n_decisions)
        for there in _apart(source, list(group.splits.values())):
            source[there] = rng.permutation(there)
        for name in across:
            new[name] = np.repeat(cs.features[name][cs.offsets[:-1]][source], cs.n_choices)
    return cs.with_features(new)


def _apart(decisions: np.ndarray, masks: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The decisions in parts that no mask (decision,) divides: "all" beside "train" must not lend it other values."""
    parts = [decisions.copy()]
    for mask in masks:
        parts = [part[side] for part in parts for side in (mask[part], ~mask[part])]
    return parts


def _checked_groups(model: Model, groups: Mapping[str, Sequence[str]] | None) -> dict[str, tuple[str, ...]]:
    if groups is None:
        return feature_groups(model.features)
    named = {name: tuple(together) for name, together in groups.items()}
    unknown = sorted({n for together in named.values() for n in together if n not in model.features})
    if unknown or not all(named.values()):
        raise ValueError(
            f"groups must be of features of the model ({', '.join(model.features)}); got {', '.join(unknown) or 'none'}."
        )
    return named


def _how(cs: ChoiceSets, features: Sequence[str]) -> str:
    roles = {cs.info[name].role == "decision" for name in features}
    return f"{WITHIN}; {ACROSS}" if len(roles) == 2 else ACROSS if roles == {True} else WITHIN


def _ranked(table: pd.DataFrame) -> pd.DataFrame:
    """The table with ranks among the features of each group, the largest drop first."""
    if table.empty:
        return pd.DataFrame(columns=IMPORTANCE_COLUMNS)
    keys = ["model", "split", "choice_group", "behavior_group", "weighting"]
    rank = table.groupby(keys, sort=False)["drop"].rank(ascending=False, method="first")
    place = table.groupby(keys, sort=False).ngroup()
    table = table.assign(rank=rank.astype("Int64"), _place=place)
    return table.sort_values(["_place", "rank"], kind="stable", ignore_index=True)[IMPORTANCE_COLUMNS]
