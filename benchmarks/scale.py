"""Seconds and memory of an epoch of training as data grow: 10,000 to 1,000,000 decisions of 19 choices.

Every size has a fresh process on one thread. Simulated decisions, 4 features, 3 layers of 24 units, exact contrasts,
512 decisions a minibatch, true losses of both splits after every epoch. A tenth of the decisions validates.
"""

from __future__ import annotations

import os

os.environ |= {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1", "TF_ENABLE_ONEDNN_OPTS": "0"}
os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "-1"}
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from parts.output import emitter, peak_memory_mib, say
from parts.study import FEATURES, N_CHOICES, simulate

SIZES = {"quick": (1_000, 10_000, 100_000), "full": (10_000, 100_000, 1_000_000)}
EPOCHS = 6
DECISIONS_OF_AN_INDIVIDUAL = 100
emit = emitter("scale")


def measure(n_decisions: int) -> dict[str, float]:
    """One size, in this process."""
    from parts.usual_way import Clock

    from mimic.training import TrainingOptions, train

    rng = np.random.default_rng(0)
    n_individuals = max(n_decisions // DECISIONS_OF_AN_INDIVIDUAL, 2)
    training = simulate(n_individuals, n_decisions, rng)
    validation = simulate(max(n_individuals // 10, 2), n_decisions // 10, rng, prefix="other")
    before, clock = peak_memory_mib(), Clock()
    result = train(
        training, validation, FEATURES, TrainingOptions(epochs=EPOCHS, batch_decisions=512), callbacks=[clock]
    )
    return {
        "seconds": clock.seconds_per_epoch,
        "peak": peak_memory_mib(),
        "before": before,
        "loss": float(result.history["val_true_contrast_loss"].iloc[-1]),
    }


def run_all(size: str) -> None:
    """All sizes in turn; costs a row beside those of the smallest."""
    costs = []
    for n_decisions in SIZES[size]:
        say(f"{n_decisions:,} decisions")
        command = [sys.executable, str(Path(__file__).resolve()), "--decisions", str(n_decisions)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(done.stderr[-3000:])
        one: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        case, n_rows = f"{n_decisions}_decisions", n_decisions * N_CHOICES
        costs.append(one["seconds"] / n_rows)
        emit(case, "n_training_rows", n_rows, "rows")
        emit(case, "seconds_per_epoch", round(one["seconds"], 4), "s")
        emit(case, "nanoseconds_per_row", round(1e9 * costs[-1], 1), "ns an epoch")
        emit(case, "cost_per_row_to_smallest", round(costs[-1] / costs[0], 3), "times that of the smallest size")
        emit(case, "peak_memory_mib", round(one["peak"]), "MiB")
        emit(case, "memory_before_training_mib", round(one["before"]), "MiB, packages and choice sets included")
        emit(case, "val_contrast_loss", round(one["loss"], 5), f"nats after {EPOCHS} epochs")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="1,000 to 100,000 decisions")
    parser.add_argument("--decisions", type=int, help=argparse.SUPPRESS)  # how this script starts its own sizes
    chosen = parser.parse_args()
    if chosen.decisions is not None:
        print(json.dumps(measure(chosen.decisions)))
    else:
        run_all("quick" if chosen.quick else "full")


if __name__ == "__main__":
    main()
