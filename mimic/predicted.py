"""Log-odds and groups into what a model predicts: probabilities of the choices of a group, and selections drawn of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np

from mimic.contrasts import Weighting
from mimic.groups import behavior_mask, choice_mask, split_masks
from mimic.probability import grouped_log_softmax
from mimic.schema import ChoiceSets
from mimic.scores import ChoiceGroup, check_log_odds

__all__ = ["GROUP_KEYS", "Predicted", "predictions"]

GROUP_KEYS = ("model", "split", "choice_group", "behavior_group", "weighting")


@dataclass(frozen=True, eq=False)
class Predicted:
    """What one model predicts for the decisions of a split, a choice group and a behavior group.

    Parameters
    ----------
    model, split, choice_group, behavior_group
        Names.
    rows
        (row,): which rows of the choice sets these are.
    offsets
        (decision + 1,), over `rows`.
    selected
        (decision,), positions in `rows`.
    individual
        (decision,), codes from 0 without gaps.
    log_p
        (row,), nats: log-probability within the choice group.
    """

    model: str
    split: str
    choice_group: str
    behavior_group: str
    rows: np.ndarray
    offsets: np.ndarray
    selected: np.ndarray
    individual: np.ndarray
    log_p: np.ndarray

    @property
    def n_decisions(self) -> int:
        return len(self.selected)

    @property
    def n_individuals(self) -> int:
        return int(self.individual.max(initial=-1)) + 1

    @property
    def key(self) -> dict[str, str]:
        """The names, as the first columns of a table."""
        names = (self.model, self.split, self.choice_group, self.behavior_group)
        return dict(zip(GROUP_KEYS, names, strict=False))

    @cached_property
    def n_choices(self) -> np.ndarray:
        """(decision,), int64."""
        return np.diff(self.offsets)

    @cached_property
    def probability(self) -> np.ndarray:
        """(row,)."""
        return np.exp(self.log_p)

    @cached_property
    def decision_of_row(self) -> np.ndarray:
        """(row,), int64."""
        return np.repeat(np.arange(self.n_decisions), self.n_choices)

    @cached_property
    def _cumulative(self) -> np.ndarray:
        return np.cumsum(self.probability)

    def weights(self, weighting: Weighting) -> np.ndarray:
        """Of the decisions, so that individuals (or decisions) weigh the same: (decision,), summing to 1."""
        if weighting == "decision":
            return np.full(self.n_decisions, 1.0 / max(self.n_decisions, 1))
        if weighting != "individual":
            raise ValueError(f'weighting must be "individual" or "decision"; got {weighting!r}.')
        return 1.0 / (np.bincount(self.individual)[self.individual] * max(self.n_individuals, 1.0))

    def draw_shares(
        self, bin_of_row: np.ndarray, n_bins: int, weighting: Weighting, *, n_draws: int, seed: int
    ) -> np.ndarray:
        """Share of each bin in selections drawn from the model, again and again: (draw, bin).

        `bin_of_row` is (row,), from 0. The draws depend on the seed alone, so that bins and weightings compare.
        """
        weight = self.weights(weighting)
        rngs = np.random.default_rng(seed).spawn(n_draws)
        return np.array([np.bincount(bin_of_row[self.draw(rng)], weight, n_bins) for rng in rngs])

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """A selection drawn for each decision by the predicted probabilities: (decision,), positions in `rows`."""
        if self.n_decisions == 0:
            return np.zeros(0, dtype=np.int64)
        end = self._cumulative[self.offsets[1:] - 1]
        start = np.concatenate([[0.0], end[:-1]])
        at = np.searchsorted(self._cumulative, start + rng.uniform(size=self.n_decisions) * (end - start), side="right")
        # sums over many decisions are rounded: a draw must not leave its decision
        return np.clip(at, self.offsets[:-1], self.offsets[1:] - 1)


def predictions(
    log_odds: Mapping[str, np.ndarray],
    choice_sets: ChoiceSets,
    *,
    choice_groups: Mapping[str, str],
    behavior_groups: Mapping[str, str],
    splits: Sequence[str] | None = None,
) -> Iterator[Predicted]:
    """What each model predicts, by split, choice group and behavior group; models vary slowest, then as listed.

    Arguments, and what a group is, are those of `mimic.evaluation.evaluate`. Decisions of unknown selection take
    no part.

    Raises
    ------
    ValueError
        If log-odds have another shape or are NaN, a split or column is unknown, a condition is none, or all
        choices of a decision are impossible.

    Example
    -------
    >>> import pandas as pd
    >>> decisions = pd.DataFrame({"individual": ["a"], "decision": [1]})
    >>> cs = ChoiceSets(decisions, [0, 3], [0, 1, 2], [1], {"distance_km": [0.0, 20.0, 20.0]})
    >>> groups = {"move": "distance_km > 0"}
    >>> found = predictions({"m": np.log([8.0, 1.0, 3.0])}, cs, choice_groups=groups, behavior_groups={"all": "all"})
    >>> next(found).probability.round(2)
    array([0.25, 0.75])
    """
    cs = choice_sets
    check_log_odds(log_odds, cs)
    by_split = split_masks(cs, splits)
    groups = {name: ChoiceGroup.of(cs, choice_mask(cs, text)) for name, text in choice_groups.items()}
    inside = {
        (c, b): behavior_mask(cs, text, n_in_group=groups[c].n_in_group)
        for (c, (b, text)) in product(choice_groups, behavior_groups.items())
    }
    codes = cs.individual_codes
    for model, split, c, b in product(log_odds, by_split, choice_groups, behavior_groups):
        group = groups[c]
        decision = np.flatnonzero(by_split[split] & inside[c, b] & group.inside)
        chosen = np.zeros(cs.n_decisions, dtype=bool)
        chosen[decision] = True
        left = np.repeat(chosen, cs.n_choices)
        rows = np.flatnonzero(left if group.keep_row is None else left & group.keep_row)
        offsets = np.concatenate([[0], np.cumsum(group.counts[decision])])
        try:
            log_p = grouped_log_softmax(np.asarray(log_odds[model])[rows], offsets)
        except ValueError as error:
            raise ValueError(f"model {model}: {error}") from None
        yield Predicted(
            model=model,
            split=split,
            choice_group=c,
            behavior_group=b,
            rows=rows,
            offsets=offsets,
            selected=np.searchsorted(rows, cs.selected[decision]),
            individual=np.unique(codes[decision], return_inverse=True)[1],
            log_p=log_p,
        )
