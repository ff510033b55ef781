"""Full choice sets into what random steps make of them: coefficients and D for several k, again and again."""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pandas as pd

from mimic.conditional_logit import ConditionalLogit, fit_conditional_logit
from mimic.contrasts import Weighting, decision_weights
from mimic.probability import selected_log_probability
from mimic.random_steps import Correction, Proposal, RandomSteps, draw_random_steps, fit_proposal
from mimic.schema import ChoiceSets, require_columns
from mimic.textable import align, number

__all__ = ["DESIGNS", "Design", "format_random_steps", "random_steps_study", "summarize"]

_log = logging.getLogger(__name__)

Design = Literal["full", "offset", "mixed", "none", "updated"]
DESIGNS: tuple[Design, ...] = ("full", "offset", "mixed", "none", "updated")

_COLUMNS = ["design", "k", "repeat", "feature", "coef", "se", "log_probability", "n_rows"]


_MOST_DRAWS = 50_000_000  # of one repeat; each is a row with a value of every feature


def random_steps_study(
    cs_train: ChoiceSets,
    cs_validation: ChoiceSets,
    features: Sequence[str],
    *,
    k: Sequence[int] = (1, 4, 9, 19),
    repeats: int = 5,
    uniform: float = 0.1,
    weighting: Weighting = "decision",
    seed: int = 0,
    progress: Callable[[str, int, int], None] | None = None,
) -> tuple[pd.DataFrame, Proposal]:
    """The conditional logit on full choice sets and on random steps, always judged on full choice sets.

    Parameters
    ----------
    cs_train, cs_validation
        Full choice sets of different individuals, with `distance_km` and, for turns, `turn_cos`.
    features
        Of the conditional logit. Without an offset, those of `mimic.random_steps.MOVEMENT` absorb what was drawn from.
    k
        Numbers of random steps.
    repeats
        Draws of each k, with seeds drawn from `seed`.
    uniform
        Share of uniform draws in the design "mixed"; 0 leaves it out.
    weighting
        Of the fits, see `fit_conditional_logit`.
    progress
        Called as progress(what, done, total).

    Returns
    -------
    table
        One row a design, k, repeat and feature: coef, se (cluster-robust, by individual, with the factor for few
        clusters), log_probability (D of the validation decisions on their full choice sets, individuals weighing
        the same, nats) and n_rows (choices that the fit saw). The designs are

        - "full": all cells; k and repeat are 0;
        - "offset": random steps with ln(n / q);
        - "mixed": the same, with a share of uniform draws;
        - "none": random steps without, as they come. Their log-odds are beside the proposal, not beside equal cells;
        - "updated": the same fits with ln q added again, which is what the field does with its movement terms. `se`
          is that of "none": the proposal counts as known. Coefficients of movement are NaN where the features do
          not hold all of them that the proposal needs; D is right all the same.

        A fit that has no maximum is left out, with a warning in the log.
    proposal
        What steps were drawn from: the movement of the training individuals.

    Raises
    ------
    ValueError
        If k or repeats are below 1, the full sets have no maximum, or no validation decision has a known selection.
    """
    if repeats < 1 or not k or min(k) < 1:
        raise ValueError(f"expected k and repeats of 1 or more; got k = {list(k)} and {repeats} repeats.")
    if not features:
        raise ValueError("expected one feature or more for the coefficients; got none.")
    if max(k) * cs_train.n_decisions > _MOST_DRAWS:
        raise ValueError(
            f"{max(k):,} random steps for each of {cs_train.n_decisions:,} decisions are too many to hold; with so many "
            f"decisions k may be up to {_MOST_DRAWS // cs_train.n_decisions:,}."
        )
    require_columns(list(cs_train.features), list(features), where="features")
    judge = _Judge(cs_validation)
    proposal = fit_proposal(cs_train)
    full = fit_conditional_logit(cs_train, features, weighting=weighting)
    rows = _rows("full", 0, 0, full, full.coef, judge.score(full.log_odds(cs_validation)), cs_train.n_rows)
    log_q = proposal.log_probability(cs_validation)
    lacking = _lacking(proposal.terms(cs_train), features)
    proposals = {"own": proposal, "mixed": replace(proposal, uniform=uniform)}
    designs: tuple[Design, ...] = ("offset", "none", "mixed") if uniform > 0 else ("offset", "none")
    seeds = np.random.SeedSequence(seed).generate_state(repeats).tolist()
    for number_done, (repeat, count) in enumerate((r, n) for r in range(repeats) for n in k):
        if progress is not None:
            progress("fitting random steps", number_done, repeats * len(k))
        drawn = {
            name: draw_random_steps(cs_train, one, k=count, seed=seeds[repeat], features=features)
            for name, one in proposals.items()
            if name == "own" or uniform > 0
        }
        for design in designs:
            steps = drawn["mixed" if design == "mixed" else "own"]
            fit = _fit(steps, features, "none" if design == "none" else "offset", weighting, count)
            if fit is None:
                continue
            phi, more = fit.log_odds(cs_validation), (count, repeat + 1)
            n_rows = steps.choice_sets.n_rows
            rows += _rows(design, *more, fit, fit.coef, judge.score(phi), n_rows)
            if design == "none":
                rows += _rows("updated", *more, fit, fit.coef + lacking, judge.score(phi + log_q), n_rows)
    if progress is not None:
        progress("fitting random steps", repeats * len(k), repeats * len(k))
    return pd.DataFrame(rows, columns=_COLUMNS), proposal


def summarize(table: pd.DataFrame) -> pd.DataFrame:
    """Mean and spread over the repeats: one row a design, k and feature, in the order of the study.

    Returns
    -------
    design, k, feature, n_repeats, coef (mean), coef_sd (over repeats), se (mean), from_full (coef minus that of the
    full choice sets, in standard errors of those), log_probability (mean), log_probability_sd, n_rows (mean). Standard
    deviations are NaN of a single repeat.

    Raises
    ------
    ValueError
        If a column is missing.
    """
    require_columns(list(table.columns), _COLUMNS, where="the table of random steps")
    full = table[table["design"] == "full"].set_index("feature")
    keys = table[["design", "k", "feature"]].drop_duplicates()
    numbers = keys["design"].map({name: position for position, name in enumerate(DESIGNS)})
    order = np.lexsort([keys["k"].to_numpy(), numbers.to_numpy()])  # stable: features stay in order
    rows = []
    for design, k, feature in keys.iloc[order].itertuples(index=False):
        part = table[(table["design"] == design) & (table["k"] == k) & (table["feature"] == feature)]
        coef = float(part["coef"].mean())
        rows.append(
            {
                "design": design,
                "k": k,
                "feature": feature,
                "n_repeats": len(part),
                "coef": coef,
                "coef_sd": float(part["coef"].std()),
                "se": float(part["se"].mean()),
                "from_full": (coef - full["coef"][feature]) / full["se"][feature],
                "log_probability": float(part["log_probability"].mean()),
                "log_probability_sd": float(part["log_probability"].std()),
                "n_rows": float(part["n_rows"].mean()),
            }
        )
    return pd.DataFrame(rows)


def format_random_steps(summary: pd.DataFrame) -> str:
    """The summary as two aligned tables: D of each design and k, and each coefficient by design and k.

    A coefficient is mean (standard deviation over repeats; mean standard error), of all cells coefficient (standard
    error).
    """
    first = summary.drop_duplicates(["design", "k"])
    lines = [["design", "k", "choices", "D", "sd"]]
    for row in first.to_dict("records"):
        k = "all" if row["design"] == "full" else str(row["k"])
        d = [number(row[name], "{:.4f}") for name in ("log_probability", "log_probability_sd")]
        lines.append([row["design"], k, f"{row['n_rows']:,.0f}", *d])
    ks = [k for k in dict.fromkeys(first["k"]) if k > 0]
    table = [["coefficient", "design", *(f"k = {k}" for k in ks)]]
    for feature in dict.fromkeys(summary["feature"]):
        for design, part in summary[summary["feature"] == feature].groupby("design", sort=False):
            cells = {row["k"]: _cell(row) for row in part.to_dict("records")}
            shown = [cells.get(0, "")] + [""] * (len(ks) - 1) if design == "full" else [cells.get(k, "") for k in ks]
            table.append([str(feature), str(design), *shown])
    return "\n".join([*align(lines, {0}), "", *align(table, {0, 1})])


def _cell(row: Mapping[Hashable, Any]) -> str:
    sd = "" if row["design"] == "full" else f"{number(row['coef_sd'], '{:.2g}')}; "
    return f"{number(row['coef'], '{:.4g}')} ({sd}{row['se']:.2g})"


def _lacking(terms: Mapping[str, float], features: Sequence[str]) -> np.ndarray:
    """What to add to coefficients that were fitted without an offset: (feature,)."""
    needed = {name for name, value in terms.items() if value != 0}
    none = 0.0 if needed <= set(features) else np.nan
    return np.array([terms[name] + none if name in needed else 0.0 for name in features])


class _Judge:
    """Scores log-odds on the full choice sets of decisions, individuals weighing the same."""

    def __init__(self, cs: ChoiceSets) -> None:
        self._cs = cs
        self._weights = decision_weights(cs)
        if not self._weights.any():
            raise ValueError("expected validation decisions with a known selection; got none.")

    def score(self, log_odds: np.ndarray) -> float:
        log_p = selected_log_probability(log_odds, self._cs.offsets, self._cs.selected)
        used = self._weights > 0
        return float(np.sum(self._weights[used] * log_p[used]))


def _fit(
    drawn: RandomSteps, features: Sequence[str], correction: Correction, weighting: Weighting, k: int
) -> ConditionalLogit | None:
    """The conditional logit of random steps; None, with a warning in the log, where it has no maximum."""
    try:
        return fit_conditional_logit(drawn.choice_sets, features, offset=drawn.offset(correction), weighting=weighting)
    except ValueError as error:
        _log.warning("random steps with k = %d, %s, were left out: %s", k, correction, error)
        return None


def _rows(
    design: str, k: int, repeat: int, fit: ConditionalLogit, coef: np.ndarray, score: float, n_rows: int
) -> list[tuple[object, ...]]:
    se = np.sqrt(np.diag(fit.covariance_of("cluster", small_sample=True)))
    return [
        (design, k, repeat, name, float(b), float(s), score, n_rows)
        for name, b, s in zip(fit.features, coef, se, strict=True)
    ]
