"""Do 95 % intervals cover the truth in 95 % of studies? Synthetic studies whose truth is known, of 8 to 60 animals.

A study of `mimic.worlds`: animals with 20 to 40 daily decisions among about 20 cells. Its first 8, 15, 30 and all 60
animals are studies of their own. Animals differ in every coefficient (`HETEROGENEOUS`), but for one case
(`HOMOGENEOUS`).

- `D`, `difference`: mean ln p(selected) of a fixed model (the population's mean coefficients), and how much better it
  is than the same model without heading and covariate, paired by decision. Intervals by `mean_intervals`, all methods
  and both weightings. An interval of D is one of GMP = exp(D): it covers when the other does. The truth is the mean
  over 20,000 animals.
- `hessian` on homogeneous studies: coefficients of the conditional logit, the truth being those of the world.
- `hessian`, `cluster` on heterogeneous ones: the truth is the coefficient that the same fit tends to with ever more
  animals (not the mean over animals: odds of a mixture are no mean of odds), from 20 fits to 1,000 animals each.

Every truth is printed with its own Monte-Carlo standard error. `missed_above` is the share of studies whose interval
lies above the truth. The Monte-Carlo standard error of a coverage of 95 % is 1.5 points with 200 studies, so that of
200 studies of intervals that are right one in 20 lies outside 92 to 98 %; `all coefficients` is their mean.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, get_args

import numpy as np
import pandas as pd
from parts.output import emitter, say

from mimic.bootstrap import Method, mean_intervals
from mimic.conditional_logit import fit_conditional_logit
from mimic.contrasts import Weighting
from mimic.covariance import CovarianceKind
from mimic.probability import selected_log_probability
from mimic.schema import ChoiceSets
from mimic.worlds import World, simulate, true_log_odds

HOMOGENEOUS = World(n_days=40, min_days=20, heading=0.3)
HETEROGENEOUS = replace(
    HOMOGENEOUS, stay_sd=0.8, distance_km_sd=0.01, heading_sd=0.4, covariate_sd=0.4, irrelevant_sd=0.2
)
SIZES = (8, 15, 30, 60)
N_STUDIES = {"quick": 20, "full": 200}
N_CHUNKS = {"quick": 2, "full": 20}  # of 1,000 animals, for the truth
FEATURES = ("stay", "distance_km", "heading_sin", "heading_cos", "covariate", "irrelevant")
QUANTITIES = ("D", "difference")
KINDS: tuple[CovarianceKind, ...] = ("hessian", "cluster")
LEVEL = 0.95

emit = emitter("coverage")


@dataclass(frozen=True, eq=False)
class Truth:
    """What intervals should cover.

    Parameters
    ----------
    value, error
        (quantity,): the truth and its Monte-Carlo standard error, 0 where it is known.
    """

    value: np.ndarray
    error: np.ndarray


def scores(world: World, cs: ChoiceSets) -> np.ndarray:
    """ln p(selected) under the mean coefficients, and by how much it beats movement alone: (decision, quantity)."""
    plain = replace(world, heading=0.0, covariate=0.0)
    log_p = [selected_log_probability(true_log_odds(w, cs), cs.offsets, cs.selected) for w in (world, plain)]
    return np.column_stack([log_p[0], log_p[0] - log_p[1]])


def truth_of_means(world: World, *, n_chunks: int) -> dict[Weighting, Truth]:
    """Means of `scores` over very many animals, with individuals, and with decisions, weighing the same."""
    sums, counts = [], []
    for cs in population(world, n_chunks):
        codes, values = cs.individual_codes, scores(world, cs)
        counts.append(np.bincount(codes))
        sums.append(np.column_stack([np.bincount(codes, column) for column in values.T]))
    total, count = np.concatenate(sums), np.concatenate(counts)[:, None]
    means, n = total / count, len(count)
    by_decision = total.sum(axis=0) / count.sum()
    spread = (total - by_decision * count).std(axis=0) / count.mean()  # of a ratio, linearized
    return {
        "individual": Truth(means.mean(axis=0), means.std(axis=0) / np.sqrt(n)),
        "decision": Truth(by_decision, spread / np.sqrt(n)),
    }


def truth_of_coefficients(world: World, *, n_chunks: int) -> Truth:
    """What the pooled conditional logit tends to: the mean over fits to 1,000 animals each."""
    fits = np.array([fit_conditional_logit(cs, FEATURES).coef for cs in population(world, n_chunks)])
    return Truth(fits.mean(axis=0), fits.std(axis=0, ddof=1) / np.sqrt(n_chunks))


def known_coefficients(world: World) -> Truth:
    """The coefficients of a world whose preferred heading is east, in the order of `FEATURES`."""
    values = np.array([world.stay, world.distance_km, world.heading, 0.0, world.covariate, 0.0])
    return Truth(values, np.zeros(len(values)))


def population(world: World, n_chunks: int) -> Iterator[ChoiceSets]:
    """Animals that are in no study, 1,000 at a time."""
    large = replace(world, n_individuals=1000)
    return (simulate(large, seed=(1, chunk)) for chunk in range(n_chunks))


def cover_means(
    world: World, truth: dict[Weighting, Truth], *, sizes: Sequence[int], n_studies: int, seed: int = 0
) -> pd.DataFrame:
    """One row a study x size x weighting x method x quantity: low, high, truth."""
    rows: list[tuple[object, ...]] = []

    def look(study: int, cs: ChoiceSets) -> None:
        values, codes = scores(world, cs), cs.individual_codes
        for size, weighting, method in product(sizes, get_args(Weighting), get_args(Method)):
            part = codes < size
            found = mean_intervals(values[part], codes[part], weighting=weighting, method=method, level=LEVEL)
            for k, name in enumerate(QUANTITIES):
                rows.append(
                    (study, size, name, weighting, method, found.low[k], found.high[k], truth[weighting].value[k])
                )

    _for_each_study(world, sizes, n_studies, seed, look)
    return pd.DataFrame(rows, columns=["study", "size", "quantity", "weighting", "method", "low", "high", "truth"])


def cover_coefficients(
    world: World, truth: Truth, *, kinds: Sequence[CovarianceKind], sizes: Sequence[int], n_studies: int, seed: int = 0
) -> pd.DataFrame:
    """One row a study x size x kind of standard error x feature: low, high, truth."""
    rows: list[tuple[object, ...]] = []

    def look(study: int, cs: ChoiceSets) -> None:
        codes = cs.individual_codes
        for size in sizes:
            fit = fit_conditional_logit(cs.filter(codes < size), FEATURES)
            for kind in kinds:
                ends = fit.intervals(level=LEVEL, kind=kind).to_numpy()  # (feature, end)
                rows.extend((study, size, name, kind, *ends[k], truth.value[k]) for k, name in enumerate(FEATURES))

    _for_each_study(world, sizes, n_studies, seed, look)
    return pd.DataFrame(rows, columns=["study", "size", "quantity", "method", "low", "high", "truth"])


def coverage_table(intervals: pd.DataFrame) -> pd.DataFrame:
    """Share of studies whose interval holds the truth, lies above it, and its mean width, by all else there is."""
    marked = intervals.assign(
        coverage=(intervals["low"] <= intervals["truth"]) & (intervals["truth"] <= intervals["high"]),
        missed_above=intervals["low"] > intervals["truth"],
        width=intervals["high"] - intervals["low"],
    )
    keys = [c for c in ("quantity", "weighting", "method", "size") if c in intervals]
    return marked.groupby(keys, sort=False)[["coverage", "missed_above", "width"]].mean().reset_index()


def pooled(table: pd.DataFrame) -> pd.DataFrame:
    """The coverage table with the mean over the coefficients at its end; widths have different units and no mean."""
    means = table.groupby(["method", "size"], sort=False)[["coverage", "missed_above"]].mean().reset_index()
    return pd.concat([table, means.assign(quantity="all coefficients")], ignore_index=True)


def _for_each_study(
    world: World, sizes: Sequence[int], n_studies: int, seed: int, look: Callable[[int, ChoiceSets], None]
) -> None:
    large = replace(world, n_individuals=max(sizes))
    for study in range(n_studies):
        look(study, simulate(large, seed=(0, seed, study)))


def report(name: str, table: pd.DataFrame) -> None:
    """Print the rows of a coverage table."""
    for row in table.to_dict(orient="records"):
        words = [
            name,
            *(str(row[c]) for c in ("quantity", "weighting", "method") if c in row),
            f"{row['size']} animals",
        ]
        for metric, unit in (("coverage", "share"), ("missed_above", "share"), ("width", "nats")):
            if np.isnan(row[metric]):
                continue
            emit(", ".join(words), metric, round(float(row[metric]), 5), unit)


def report_truth(name: str, names: Sequence[str], truth: Truth) -> None:
    """Print a truth and its Monte-Carlo error."""
    for k, quantity in enumerate(names):
        emit(f"{name}, {quantity}", "truth", float(truth.value[k]), "nats")
        emit(f"{name}, {quantity}", "truth_error", float(truth.error[k]), "nats")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="20 studies, and truths from 2,000 animals")
    parser.add_argument("--studies", type=int, help="synthetic studies (200)")
    parser.add_argument("--seed", type=int, default=0, help="of the studies")
    arguments = parser.parse_args()
    size = "quick" if arguments.quick else "full"
    n_studies = arguments.studies or N_STUDIES[size]
    options: dict[str, Any] = {"sizes": SIZES, "n_studies": n_studies, "seed": arguments.seed}
    started = time.perf_counter()
    emit("all", "n_studies", n_studies, "studies")

    means = truth_of_means(HETEROGENEOUS, n_chunks=N_CHUNKS[size])
    for weighting, truth in means.items():
        report_truth(f"means, {weighting}", QUANTITIES, truth)
    say(f"truths of the means: {time.perf_counter() - started:.0f} s")
    report("means", coverage_table(cover_means(HETEROGENEOUS, means, **options)))
    say(f"means: {time.perf_counter() - started:.0f} s")

    known = known_coefficients(HOMOGENEOUS)
    table = cover_coefficients(HOMOGENEOUS, known, kinds=KINDS, **options)
    report("homogeneous", pooled(coverage_table(table)))
    say(f"homogeneous: {time.perf_counter() - started:.0f} s")

    tended_to = truth_of_coefficients(HETEROGENEOUS, n_chunks=N_CHUNKS[size])
    report_truth("heterogeneous", FEATURES, tended_to)
    table = cover_coefficients(HETEROGENEOUS, tended_to, kinds=KINDS, **options)
    report("heterogeneous", pooled(coverage_table(table)))
    emit("all", "seconds", time.perf_counter() - started, "s")


if __name__ == "__main__":
    main()
