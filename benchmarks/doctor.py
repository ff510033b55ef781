"""How often the training doctor gives each of its verdicts: on healthy trainings, and on ones made faulty on purpose."""

from __future__ import annotations

import os

# Before TensorFlow is imported: small networks gain nothing from more threads.
os.environ |= {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1", "TF_ENABLE_ONEDNN_OPTS": "0"}
os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import argparse
import json
import sys
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from mimic.doctor import VERDICTS, Verdict, diagnose
from mimic.ideal import ideal_losses
from mimic.probability import grouped_log_softmax, grouped_sum, weighted_mean
from mimic.schema import ChoiceSets
from mimic.stay import find_stay, measure_stay
from mimic.training import DivergenceError, TrainingOptions, TrainingResult, train

World = Callable[[int, int, np.random.Generator], ChoiceSets]

FEATURES = ("distance_km", "heading_sin", "heading_cos", "food")
N_CHOICES = 19


def near_and_food(n_individuals: int, n_decisions: int, rng: np.random.Generator) -> ChoiceSets:
    """Decisions with 19 choices each that prefer to stay or go near, to go south-east, and a middle of food."""
    ring = np.repeat([0.0, 45.0, 85.0], [1, 6, 12])
    moved = ring > 0
    distance = (ring + rng.uniform(-8.0, 8.0, (n_decisions, N_CHOICES))) * moved  # (decision, choice)
    heading = rng.uniform(-np.pi, np.pi, (n_decisions, N_CHOICES))
    food = rng.normal(size=(n_decisions, N_CHOICES))
    heading_sin, heading_cos = np.sin(heading) * moved, np.cos(heading) * moved
    log_odds = -distance / 18.0 + 0.8 * (heading_sin - heading_cos) + 0.5 * food - 0.3 * food**2
    columns = dict(zip(FEATURES, (distance, heading_sin, heading_cos, food), strict=True))
    return select(log_odds, columns, n_individuals, rng)


def hill(n_individuals: int, n_decisions: int, rng: np.random.Generator) -> ChoiceSets:
    """Decisions with 19 choices each that prefer a middle depth: nothing that is linear in depth."""
    depth = rng.normal(size=(n_decisions, N_CHOICES))
    return select(-2.0 * depth**2, {"depth": depth}, n_individuals, rng)


def select(
    log_odds: np.ndarray, columns: dict[str, np.ndarray], n_individuals: int, rng: np.random.Generator
) -> ChoiceSets:
    """Choice sets of features (decision, choice) with selections drawn by log-odds (decision, choice)."""
    n_decisions = len(log_odds)
    offsets = np.arange(n_decisions + 1) * N_CHOICES
    who = rng.permutation(np.arange(n_decisions) % n_individuals)
    return ChoiceSets(
        pd.DataFrame({"individual": [f"fish {i}" for i in who], "decision": np.arange(n_decisions)}),
        offsets,
        choice=np.tile(np.arange(N_CHOICES), n_decisions),
        selected=offsets[:-1] + np.argmax(log_odds + rng.gumbel(size=log_odds.shape), axis=1),
        features={name: values.ravel() for name, values in columns.items()},
    )


STUDY, SMALL, TINY = ((71, 4_800), (40, 2_500)), ((20, 800), (10, 400)), ((6, 120), (10, 400))


@dataclass(frozen=True)
class Case:
    """Trainings of one kind: the verdicts of which one is expected (none if healthy), the data and the options."""

    name: str
    sought: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    size: tuple[tuple[int, int], tuple[int, int]] = SMALL  # individuals, decisions: training, validation
    world: World = near_and_food
    features: tuple[str, ...] = FEATURES


SMALL_OPTIONS = {"units": (16, 16), "batch_decisions": 128}
STOPPED = {"epochs": 200, "patience": 20}
HEALTHY = (
    Case("healthy_small", (), STOPPED),
    Case("healthy_small_all_epochs", (), {"epochs": 100}),
    Case("healthy_small_softmax", (), STOPPED | {"loss": "softmax"}),
    Case("healthy_study", (), STOPPED | {"units": (24, 24, 24), "batch_decisions": 512}, STUDY),
    Case("healthy_hill", (), STOPPED | {"learning_rate": 3e-3}, world=hill, features=("depth",)),
)
FAULTS = (
    Case("rate_times_100", ("oscillating", "diverging"), {"epochs": 40, "learning_rate": 0.1}),
    Case("rate_times_1000", ("diverging",), {"epochs": 40, "learning_rate": 1.0}),
    Case("not_finite", ("diverging",), {"epochs": 40, "learning_rate": 8.0, "optimizer": "sgd"}),
    Case("rate_by_1000", ("plateaued",), {"epochs": 60, "learning_rate": 1e-6}),
    Case("five_epochs", ("still_learning",), {"epochs": 5, "learning_rate": 3e-4}),
    Case("big_net_tiny_set", ("overfitting",), {"epochs": 100, "units": (64, 64, 64), "batch_decisions": 64}, TINY),
    Case(
        "no_hidden_layer",
        ("underfitting",),
        {"epochs": 60, "units": (), "learning_rate": 1e-2},
        world=hill,
        features=("depth",),
    ),
    Case("batch_of_50", ("batch_too_small",), {"epochs": 60, "batch_decisions": 50}),
    Case("batch_of_16", ("batch_too_small",), {"epochs": 60, "batch_decisions": 16}),
    Case("dropout_half", ("running_loss_misleads",), {"epochs": 60, "dropout": 0.5}),
)


def emit(case: str, metric: str, value: float, unit: str) -> None:
    """One line of the result on standard output."""
    print(json.dumps({"benchmark": "doctor", "case": case, "metric": metric, "value": value, "unit": unit}), flush=True)


def say(text: str) -> None:
    """Progress on standard error."""
    print(f"[doctor] {text}", file=sys.stderr, flush=True)


def run_case(case: Case, seed: int) -> tuple[list[Verdict], float | None]:
    """The verdicts of one training, and how far the stay probability of its model is from the truth of its data."""
    rng = np.random.default_rng(seed)
    cs_train, cs_validation = (case.world(*size, rng) for size in case.size)
    options = TrainingOptions(**SMALL_OPTIONS | case.options, seed=seed)
    result: TrainingResult | None = None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # diverging on purpose
        try:
            result = train(cs_train, cs_validation, case.features, options)
            history = result.history
        except DivergenceError as error:
            history = error.history
    verdicts = diagnose(
        history,
        options=asdict(options),
        ideal=ideal_losses(cs_train, case.features),
        stay=measure_stay(cs_train, batch_decisions=options.batch_decisions),
    )
    return verdicts, None if result is None else stay_error(result, cs_train)


def stay_error(result: TrainingResult, cs: ChoiceSets) -> float | None:
    """Mean probability to stay less the share that stayed, in percentage points; None without stay."""
    stay = find_stay(cs)
    if stay is None:
        return None
    probability = grouped_sum(np.exp(grouped_log_softmax(result.model.log_odds(cs), cs.offsets)) * stay, cs.offsets)
    return 100 * weighted_mean(probability - stay[cs.selected], np.ones(cs.n_decisions))


def report(case: Case, seeds: range) -> None:
    """All seeds of a case, and their counts."""
    say(f"{case.name}: {len(seeds)} trainings")
    found, errors = [], []
    for seed in seeds:
        verdicts, error = run_case(case, seed)
        found.append({verdict.name for verdict in verdicts})
        errors += [] if error is None else [error]
    emit(case.name, "n_trainings", len(seeds), "trainings")
    for name in VERDICTS:
        emit(case.name, name, sum(name in verdicts for verdicts in found), "trainings")
    if case.sought:
        emit(case.name, "recognized", sum(bool(verdicts & set(case.sought)) for verdicts in found), "trainings")
    else:
        emit(case.name, "false_alarms", sum(bool(verdicts) for verdicts in found), "trainings")
    if errors:
        rms = float(np.sqrt(np.mean(np.square(errors))))
        emit(case.name, "stay_probability_error", round(rms, 2), "percentage points, root mean square")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one kind of healthy training, two seeds of each fault")
    parser.add_argument("--first-seed", type=int, default=0, help="of data and training; 20 healthy seeds follow")
    given = parser.parse_args()
    for case in HEALTHY[:1] if given.quick else HEALTHY:
        report(case, range(given.first_seed, given.first_seed + 20))
    for case in FAULTS:
        report(case, range(given.first_seed, given.first_seed + (2 if given.quick else 10)))


if __name__ == "__main__":
    main()
