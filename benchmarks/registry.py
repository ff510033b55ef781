"""Runs recorded by four processes at once, with epochs, a file and an attempt each; then all of them read back.

2,000 runs of 30 to 100 epochs (200 with --quick) in a fresh SQLite registry. The script counts what is lost or altered.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from parts.output import emitter, say

from mimic.identity import run_id
from mimic.registry import Registry
from mimic.runrecords import RunRecord

N_RUNS = {"quick": 200, "full": 2_000}
N_PROCESSES = 4
LOSSES = ("true_contrast_loss", "true_decision_loss", "val_true_contrast_loss", "val_true_decision_loss")
COLUMNS = ("loss", *LOSSES, "learning_rate", "gradient_norm", "gradient_norm_max")
emit = emitter("registry")


def make_record(number: int) -> RunRecord:
    """A run of random numbers, always the same for a number."""
    rng = np.random.default_rng(number)
    n_epochs = int(rng.integers(30, 101))
    history = pd.DataFrame({"epoch": np.arange(1, n_epochs + 1), **{name: rng.random(n_epochs) for name in COLUMNS}})
    training = {
        "loss": "contrast_exact",
        "units": [24] * (3 + number % 2),
        "learning_rate": 10.0 ** -(number % 4),
        "batch_decisions": 512,
        "seed": number % 5,
        **{f"option_{k}": k / 7 for k in range(22)},
        "number": number,
    }
    configuration = {"features": ["distance_km", "stay", "sst"], "kind": "network", "training": training}
    return RunRecord(
        run_id(configuration=configuration, data="data", code="code"),
        "study",
        "environment",
        configuration,
        data="data",
        code="code",
        seed=number % 5,
        best_epoch=n_epochs - 1,
        metrics={name: float(rng.random()) for name in LOSSES},
        facts={"n_batches": 10},
        history=history,
        seconds=1.0,
    )


def write(folder: str, first: int, n_runs: int) -> list[float]:
    """Every fourth run, by one process; the seconds of each record."""
    registry, seconds = Registry(folder), []
    for number in range(first, n_runs, N_PROCESSES):
        record = make_record(number)
        file = registry.put_file(f"model {number}".encode() * 2_000, ".keras")
        registry.record_attempt(record.id, "study")
        started = time.perf_counter()
        registry.record_run(replace(record, files={"model": file}))
        seconds.append(time.perf_counter() - started)
    return seconds


def timed(case: str, call: Callable[[], Any]) -> Any:
    """What the call gives; its seconds are printed."""
    started = time.perf_counter()
    result = call()
    emit(case, "seconds", round(time.perf_counter() - started, 3), "s")
    return result


def run_all(n_runs: int, folder: str) -> None:
    """Write with all processes, then read."""
    say(f"{n_runs:,} runs by {N_PROCESSES} processes")
    Registry(folder)
    with ProcessPoolExecutor(N_PROCESSES, mp_context=multiprocessing.get_context("spawn")) as pool:
        started = time.perf_counter()
        futures = [pool.submit(write, folder, first, n_runs) for first in range(N_PROCESSES)]
        seconds = np.concatenate([future.result() for future in futures])
        emit("write", "seconds", round(time.perf_counter() - started, 2), "s, all processes, their start included")
    emit("write", "median_seconds_per_run", round(float(np.median(seconds)), 4), "s")
    emit("write", "slowest_run_seconds", round(float(seconds.max()), 3), "s")
    registry = Registry(folder)
    table = timed("list_as_dataframe", registry.runs)
    timed("list_where", lambda: registry.runs("learning_rate < 0.05 and val_true_contrast_loss < 0.3"))
    epochs = timed("all_epochs_as_dataframe", registry.epochs)
    found = timed("all_records_with_histories", lambda: registry.find_runs(table["id"].tolist(), history=True))
    timed("varying", lambda: registry.varying(table))
    timed("export_as_csv", lambda: registry.export(Path(folder) / "export"))
    n_altered = 0
    for number in range(n_runs):
        expected = make_record(number)
        record = found.get(expected.id)
        if record is not None:
            same = record.history.equals(expected.history) and record.metrics == expected.metrics
            n_altered += not (same and record.configuration == expected.configuration)
    emit("write", "runs_recorded", len(table), "runs")
    emit("write", "runs_lost", n_runs - table["id"].nunique(), "runs")
    emit("write", "runs_altered", n_altered, "runs")
    emit("write", "attempts_recorded", len(registry.attempts()), "attempts")
    emit("write", "epochs_recorded", len(epochs), "epochs")
    emit("write", "database_mb", round((Path(folder) / "registry.sqlite").stat().st_size / 1e6, 1), "MB")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="200 runs")
    size = "quick" if parser.parse_args().quick else "full"
    with tempfile.TemporaryDirectory() as folder:
        run_all(N_RUNS[size], folder)


if __name__ == "__main__":
    main()
