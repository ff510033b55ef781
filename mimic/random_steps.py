"""Choice sets of all cells within reach into a few random steps each, with the offset that makes up for the drawing.

Step-selection studies compare the used step with k random ones, drawn from the lengths and turns of the animals
themselves. With an importance offset the coefficients are those of all cells; without one they are what is left
beside the distributions that were drawn from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from mimic.ledger import Ledger
from mimic.movement_kernels import GammaSteps, VonMisesTurns
from mimic.probability import grouped_log_softmax
from mimic.schema import DECISION, INDIVIDUAL, ChoiceSets, require_columns

__all__ = ["MOVEMENT", "Correction", "Proposal", "RandomSteps", "draw_random_steps", "fit_proposal"]

MOVEMENT = ("distance_km", "log_distance", "turn_cos", "stay")
"""Features that absorb a proposal: ln q is linear in them, but for a constant of each choice set."""

Correction = Literal["offset", "none"]


@dataclass(frozen=True)
class Proposal:
    """What random steps are drawn from: lengths and turns of moves, and how often the animals stay.

    Parameters
    ----------
    steps
        Lengths of moves, km.
    turns
        Away from the previous move, radians; with kappa 0 all directions are equally likely.
    stay
        Probability to stay where the origin is a choice, in (0, 1).
    uniform
        Share of the draws, in [0, 1), to which all choices of a set are equally likely. A few per cent keep the
        offsets bounded where the animals go farther than the gamma thinks.
    """

    steps: GammaSteps
    turns: VonMisesTurns
    stay: float
    uniform: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.stay < 1:
            raise ValueError(f"the probability to stay must lie in (0, 1); got {self.stay:g}.")
        if not 0 <= self.uniform < 1:
            raise ValueError(f"uniform is a share of the draws, in [0, 1); got {self.uniform:g}.")

    def log_probability(self, cs: ChoiceSets) -> np.ndarray:
        """ln q of every choice: (row,), float64, nats; q sums to 1 over each choice set.

        Raises
        ------
        ValueError
            If the choice sets have no distances.

        Notes
        -----
        Of moves, q is proportional to density(l) / (2 pi l) x 2 pi density(turn): lengths spread over a ring whose
        circumference grows with l, and a cell takes its share by its area, which is taken as equal within a choice
        set. Where the turn is unknown all directions are equally likely. The moves of a choice set share 1 - stay
        where the origin is a choice too, and 1 where it is not; where it is alone, it has 1.

        Example
        -------
        Two cells at the same distance, straight on and straight back, and the origin:

        >>> import pandas as pd
        >>> decisions = pd.DataFrame({"individual": ["a"], "decision": [1]})
        >>> features = {"distance_km": [0.0, 5.0, 5.0], "turn_cos": [0.0, 1.0, -1.0]}
        >>> cs = ChoiceSets(decisions, [0, 3], [1, 2, 3], [1], features)
        >>> proposal = Proposal(GammaSteps(2.0, 0.1), VonMisesTurns(np.log(3) / 2), stay=0.2)
        >>> np.exp(proposal.log_probability(cs)).round(6).tolist()
        [0.2, 0.6, 0.2]
        """
        distance, stays, cosine = _geometry(cs)
        n_stays = np.add.reduceat(stays, cs.offsets[:-1], dtype=np.int64)
        can_choose = np.repeat((n_stays > 0) & (n_stays < cs.n_choices), cs.n_choices)  # between staying and moving
        length = np.where(stays, 1.0, distance)
        direction = np.cos(self.turns.mean_rad)  # 1, or -1 where most turn back
        moves = self.steps.logpdf(length) - np.log(length) + self.turns.kappa * direction * cosine
        log_q = grouped_log_softmax(np.where(stays & can_choose, -np.inf, moves), cs.offsets)
        log_q += np.where(can_choose, np.log1p(-self.stay), 0.0)
        log_q = np.where(stays & can_choose, np.log(self.stay), log_q)
        if self.uniform == 0:
            return log_q
        of_all = np.log(self.uniform) - np.log(np.repeat(cs.n_choices, cs.n_choices))
        return np.logaddexp(np.log1p(-self.uniform) + log_q, of_all)

    def terms(self, cs: ChoiceSets) -> dict[str, float]:
        """Coefficients of ln q in the features `MOVEMENT`: what coefficients without an offset lack, in their units.

        Of lengths and turns they are exact. What staying lacks differs between choice sets, as the cells that share
        the moves do; it is the mean over those of `cs` with both.

        Raises
        ------
        ValueError
            If a share of the draws is uniform: ln q is then not linear in any feature.
        """
        if self.uniform > 0:
            raise ValueError(
                "ln q of a proposal that is uniform in part is not linear in features; draw by the offset."
            )
        steps, turns = self.steps.natural(), self.turns.natural()
        # ln q is of a cell, not of a ring, which holds the more cells the wider it is
        terms = {
            "distance_km": steps["step"],
            "log_distance": steps["log_step"] - 1.0,
            "turn_cos": turns["cos_turn"],
        }
        distance, stays, cosine = _geometry(cs)
        log_distance = np.log(np.where(stays, 1.0, distance))
        rest = self.log_probability(cs) - terms["distance_km"] * distance - terms["log_distance"] * log_distance
        rest -= terms["turn_cos"] * cosine
        n_stays = np.add.reduceat(stays, cs.offsets[:-1], dtype=np.int64)
        both = (n_stays > 0) & (n_stays < cs.n_choices)
        if both.any():
            of_stay = np.add.reduceat(np.where(stays, rest, 0.0), cs.offsets[:-1])[both]
            of_moves = np.add.reduceat(np.where(stays, 0.0, rest), cs.offsets[:-1])[both]
            terms["stay"] = float(np.mean(of_stay / n_stays[both] - of_moves / (cs.n_choices - n_stays)[both]))
        return terms


@dataclass(frozen=True, eq=False)
class RandomSteps:
    """Choice sets of the selected choice and random ones.

    Parameters
    ----------
    choice_sets
        Every choice once, in the order of the full sets.
    n_drawn
        (row,), int64: how often each choice is there: the times it was drawn, and once more if it is the selected one.
    log_q
        (row,), nats: ln of the probability with which each draw took this choice.
    ledger
        Decisions without a known selection, and choices that were not drawn.
    """

    choice_sets: ChoiceSets
    n_drawn: np.ndarray
    log_q: np.ndarray
    ledger: Ledger

    def offset(self, correction: Correction = "offset") -> np.ndarray:
        """What to give `fit_conditional_logit` as its offset: (row,), nats.

        "offset" is ln(n / q), under which the coefficients are those of the full choice sets. "none" is ln n, the
        habit: a choice drawn twice is there twice, and nothing tells how likely it was to be drawn.

        Raises
        ------
        ValueError
            If `correction` is another one.
        """
        if correction not in ("offset", "none"):
            raise ValueError(f'correction must be "offset" or "none"; got {correction!r}.')
        return np.log(self.n_drawn) - (self.log_q if correction == "offset" else 0.0)


def fit_proposal(cs_train: ChoiceSets) -> Proposal:
    """The lengths, turns and stays of the selected choices of the training decisions.

    Parameters
    ----------
    cs_train
        With `distance_km`, and `turn_cos` where turns shall count. Give it training individuals only.

    Raises
    ------
    ValueError
        If there are fewer than two moves, or all are of one length or of one turn.

    Notes
    -----
    The gamma and the von Mises are the most likely ones; the von Mises has mean 0 or pi. Turns are left out where
    they are unknown, which is where `turn_cos` is 0 for all choices of a decision. Of n decisions that could stay
    and s that did, the probability to stay is (s + 1/2) / (n + 1), so that no choice is impossible to draw.
    """
    distance, stays, cosine = _geometry(cs_train)
    known = cs_train.selected >= 0
    picked = cs_train.selected[known]
    moved = picked[~stays[picked]]
    if len(moved) < 2:
        raise ValueError(
            f"expected two or more moves of training individuals to draw steps like; got {len(moved)} among "
            f"{len(picked)} decisions with a known selection."
        )
    has_turn = np.add.reduceat(cosine != 0, cs_train.offsets[:-1], dtype=np.int64) > 0
    turned = moved[has_turn[cs_train.decision_of_row[moved]]]
    turns = VonMisesTurns.fit(np.arccos(np.clip(cosine[turned], -1, 1))) if len(turned) else VonMisesTurns(0.0)
    can_stay = (np.add.reduceat(stays, cs_train.offsets[:-1], dtype=np.int64) > 0) & known
    share = (np.count_nonzero(stays[picked]) + 0.5) / (np.count_nonzero(can_stay) + 1)
    return Proposal(GammaSteps.fit(distance[moved]), turns, float(share))


def draw_random_steps(
    cs: ChoiceSets, proposal: Proposal, *, k: int, seed: int = 0, features: Sequence[str] | None = None
) -> RandomSteps:
    """The selected choice of every decision beside `k` draws from the proposal, with replacement.

    Parameters
    ----------
    cs
        Full choice sets; draws are among all their choices, the selected one too.
    k
        Draws of each decision; fewer choices come of it where one is drawn twice.
    seed
        Equal seeds give equal draws, and the draws of a smaller `k` are among those of a larger one.
    features
        Which to keep; by default all.

    Raises
    ------
    ValueError
        If `k` is below 1 or no selection is known.

    Notes
    -----
    Given the choices that are there, each of them n_j times, the selected one of a multinomial logit has the
    probability exp(phi_j + ln(n_j / q_j)) / sum_i exp(phi_i + ln(n_i / q_i)): the condition of McFadden for draws
    with replacement, as Frejinger and others write it. The conditional logit on these sets, with this offset,
    estimates the coefficients of the full ones, consistently and with larger errors. How much larger depends on q:
    where selected choices are very unlikely to be drawn, a few decisions carry huge offsets, and `Proposal.uniform`
    helps, as in defensive mixtures for importance sampling.

    References
    ----------
    McFadden 1978, Modelling the choice of residential location, in Karlqvist et al. (eds.), Spatial Interaction
    Theory and Planning Models. Frejinger, Bierlaire & Ben-Akiva 2009, doi:10.1016/j.trb.2009.03.001. Without an
    offset: Avgar, Potts, Lewis & Boyce 2016, doi:10.1111/2041-210X.12528. Mixtures: Owen,
    Monte Carlo theory, methods and examples, section 9.11, https://artowen.su.domains/mc/.
    """
    if k < 1:
        raise ValueError(f"k must be 1 or more random steps; got {k}.")
    known = cs.selected >= 0
    if not known.any():
        raise ValueError("expected decisions with a known selection; got none.")
    ledger = Ledger().dropped("random steps", "selection unknown", _keys(cs, ~known), unit="decision")
    log_q = proposal.log_probability(cs)
    # (draw, decision): a larger k goes on where a smaller one ends
    u = np.random.default_rng(seed).random((k, cs.n_decisions))
    n_drawn = np.zeros(cs.n_rows, dtype=np.int64)
    for draw in u:
        np.add.at(n_drawn, _pick(log_q, cs.offsets, draw)[known], 1)
    n_drawn[cs.selected[known]] += 1
    keep = n_drawn > 0
    unseen = np.repeat(known, cs.n_choices) & ~keep
    n_lost = int(np.count_nonzero(~np.repeat(known, cs.n_choices)))
    ledger = ledger.dropped("random steps", "of a decision with unknown selection", [], unit="choice", n=n_lost)
    ledger = ledger.dropped(
        "random steps", "not drawn", cs.choice[np.flatnonzero(unseen)[:5]], unit="choice", n=int(unseen.sum())
    )
    names = list(cs.features) if features is None else list(features)
    require_columns(list(cs.features), names, where="features")
    thinned = replace(cs, features={name: cs.features[name] for name in names}).restrict(keep)
    ledger.check(cs.n_decisions, thinned.n_decisions, "decision")
    ledger.check(cs.n_rows, thinned.n_rows, "choice")
    return RandomSteps(thinned, n_drawn[keep], log_q[keep], ledger)


def _pick(log_q: np.ndarray, offsets: np.ndarray, u: np.ndarray) -> np.ndarray:
    """The row that each decision's u in [0, 1) falls on: (decision,), by the cumulative q of its choices."""
    cumulative = _cumulative(np.exp(log_q), offsets)
    number = np.arange(len(u))
    rows = np.searchsorted(cumulative, number + u, side="right")
    return np.clip(rows, offsets[:-1], offsets[1:] - 1)


def _cumulative(q: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """The number of the decision plus the cumulative q of its choices up to each row: (row,), ascending."""
    total = np.cumsum(q)
    before = np.repeat(total[offsets[:-1]] - q[offsets[:-1]], np.diff(offsets))
    ends = np.repeat(total[offsets[1:] - 1], np.diff(offsets))
    within = (total - before) / (ends - before)
    return np.maximum.accumulate(np.repeat(np.arange(len(offsets) - 1), np.diff(offsets)) + within)


def _geometry(cs: ChoiceSets) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distance, km, whether a choice is the origin, and the cosine of the turn (0 where unknown): (row,) each."""
    require_columns(list(cs.features), ["distance_km"], where="random steps")
    distance = cs.features["distance_km"].astype(np.float64)
    cosine = _of(cs.features, "turn_cos", cs.n_rows)
    return distance, distance <= 0, cosine


def _of(features: Mapping[str, np.ndarray], name: str, n_rows: int) -> np.ndarray:
    return features[name].astype(np.float64) if name in features else np.zeros(n_rows)


def _keys(cs: ChoiceSets, decisions: np.ndarray) -> list[str]:
    table = cs.decisions.loc[decisions, [INDIVIDUAL, DECISION]]
    return [f"{who}/{number}" for who, number in table.itertuples(index=False)]
