"""Training and evaluation of choice sets in pieces: rows gathered as they are needed, against rows held in memory.

The data are those of choices.py: eight covariates and six features of geometry and time. Both ways train the same
network on the same minibatches for a few epochs in a process of their own, predict all rows and evaluate two choice
groups by two behavior groups; the script asserts that losses, weights and tables are the same to the last bit.
"""

from __future__ import annotations

import os

os.environ |= {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1", "TF_ENABLE_ONEDNN_OPTS": "0"}
os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "-1"}
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import choices
from parts.output import emitter, peak_memory_mib, say

SIZES = {"quick": 20_000, "full": 1_000_000}
EPOCHS = 3
WAYS = ("held", "streamed")
emit = emitter("out_of_core")


def measure(folder: Path, way: str) -> dict[str, Any]:
    """One way, in this process."""
    import numpy as np
    import pandas as pd

    from mimic import streams
    from mimic.evaluation import evaluate
    from mimic.options import TrainingOptions
    from mimic.training import train

    if way == "streamed":
        streams.HELD_BYTES = 0
    decisions = pd.read_parquet(folder / "decisions.parquet")
    covariates = choices.sources(folder)
    before = peak_memory_mib()
    started = time.perf_counter()
    choice_sets, _ = choices.build(decisions, covariates, lazy=way == "streamed")
    built = time.perf_counter()
    names = [name for name in choices.FEATURES if name != "shore_km"]
    validates = choice_sets.decisions["individual"].str.endswith("7").to_numpy()
    splits = choice_sets.with_context(split=np.where(validates, "validation", "train"))
    options = TrainingOptions(epochs=EPOCHS, batch_decisions=2048, units=(24, 24))
    # the first epoch is not timed: graphs are traced in it
    ends: list[float] = []
    result = train(
        splits.filter(~validates),
        splits.filter(validates),
        names,
        options,
        progress=lambda epoch, n, logs: ends.append(time.perf_counter()),
    )
    trained = peak_memory_mib()
    log_odds = {"network": result.model.log_odds(splits)}
    table = evaluate(
        log_odds,
        splits,
        choice_groups={"all": "all", "move": "distance_km > 0"},
        behavior_groups={"all": "all", "warm": "month in (6, 7, 8)"},
        n_resamples=200,
    )
    digest = hashlib.sha256()
    for part in (result.history.to_csv(), *(w.tobytes() for w in result.last_weights)):
        digest.update(part.encode() if isinstance(part, str) else part)
    return {
        "rows": choice_sets.n_rows,
        "before": before,
        "build": built - started,
        "epoch": (ends[-1] - ends[0]) / (EPOCHS - 1),
        "evaluation": time.perf_counter() - ends[-1],
        "peak_training": trained,
        "peak": peak_memory_mib(),
        "training": digest.hexdigest(),
        "gmp": table["gmp"].round(9).tolist(),
    }


def run_all(n_decisions: int) -> None:
    """Both ways in turn."""
    with tempfile.TemporaryDirectory() as name:
        choices.child(Path(name), "prepare", n_decisions)
        found = {}
        for way in WAYS:
            say(f"{way}, {n_decisions:,} decisions")
            command = [sys.executable, str(Path(__file__).resolve()), "--way", way, "--folder", name]
            output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            found[way] = json.loads(output.splitlines()[-1])
    held, streamed = (found[way] for way in WAYS)
    assert held["training"] == streamed["training"], "streamed training gave other losses or weights"
    assert held["gmp"] == streamed["gmp"], "streamed evaluation gave other numbers"
    for way, of_way in found.items():
        emit(way, "rows", of_way["rows"], "rows")
        emit(way, "seconds_build", round(of_way["build"], 2), "s")
        emit(way, "seconds_epoch", round(of_way["epoch"], 2), "s")
        emit(way, "seconds_evaluation", round(of_way["evaluation"], 2), "s")
        for metric in ("before", "peak_training", "peak"):
            emit(way, f"memory_{metric}", round(of_way[metric]), "MiB")
    emit("streamed", "equal_bits", 1, "1 if losses and weights of every epoch are those of held rows")
    emit("streamed", "epoch_over_held", round(streamed["epoch"] / held["epoch"], 2), "times")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="20,000 decisions instead of 1,000,000")
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.way is not None:
        print(json.dumps(measure(given.folder, given.way)))
    else:
        run_all(SIZES["quick" if given.quick else "full"])


if __name__ == "__main__":
    main()
