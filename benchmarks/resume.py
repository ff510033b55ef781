"""What kill -9 costs a sweep: killed at random moments and run again, does it train twice, and end with other tables?

A grid of small networks on a simulated choice table is run once undisturbed. Then `mimic run` on a registry of its own
is killed by SIGKILL again and again, the process alone, at moments drawn from a seed: once a drawn number of runs is
recorded, and a drawn time later, so that the start, the trainings and the writing of records are all met. At last it
may finish. Tables and model files are compared byte for byte with those of the undisturbed run.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mimic.registry import Registry
from mimic.registry_tables import DATABASE_FILE

N_CHOICES = 10
# The longest time from a recorded run to the kill, s: a training or two.
LONGEST_WAIT_S = 3.0
TABLES = ("members.csv", "selection.csv", "history.csv", "evaluation.csv", "shares.csv", "log_odds.parquet")
EXPERIMENT = """
name: resume
table: {{file: table.csv, features: [depth, slope, noise]}}
split: {{validation_share: 0.34, seed: 1}}
training: {{epochs: {epochs}, batch_decisions: 128, learning_rate: 0.01}}
grid: {{units: {units}, seed: {seeds}}}
models:
  depth: {{features: [depth]}}
  whole: {{features: [depth, slope, noise]}}
groups: {{behaviors: {{all: all, deep: selected_depth > 0}}, shares: {{deep: depth > 0}}}}
"""


@dataclass(frozen=True)
class Sweep:
    """How large the sweep is, and how often it is killed."""

    n_kills: int
    n_seeds: int
    units: tuple[tuple[int, ...], ...]
    epochs: int = 400
    n_individuals: int = 30
    n_decisions: int = 40

    @property
    def n_runs(self) -> int:
        return 2 * self.n_seeds * len(self.units)


FULL = Sweep(n_kills=10, n_seeds=5, units=((8,), (8, 8), (16, 16), (16, 16, 16)))
QUICK = Sweep(n_kills=2, n_seeds=4, units=((8,),), epochs=20, n_individuals=12)


def write_study(folder: Path, sweep: Sweep) -> Path:
    """A choice table of animals that like depth and gentle slopes, and the experiment upon it."""
    rng = np.random.default_rng(0)
    n_all = sweep.n_individuals * sweep.n_decisions
    rows = pd.DataFrame(
        {
            "individual": np.repeat(np.arange(sweep.n_individuals), sweep.n_decisions * N_CHOICES),
            "decision": np.repeat(np.arange(n_all), N_CHOICES),
            "choice": np.tile(np.arange(N_CHOICES), n_all),
            **{name: rng.normal(size=n_all * N_CHOICES) for name in ("depth", "slope", "noise")},
        }
    )
    liked = 1.5 * rows["depth"] - rows["slope"] ** 2 + rng.gumbel(size=len(rows))
    rows["selected"] = rows.index.isin(liked.groupby(rows["decision"]).idxmax()).astype(int)
    rows.to_csv(folder / "table.csv", index=False)
    path = folder / "resume.yaml"
    units, seeds = [list(one) for one in sweep.units], list(range(sweep.n_seeds))
    path.write_text(EXPERIMENT.format(epochs=sweep.epochs, units=units, seeds=seeds))
    return path


def start(experiment: Path, out: Path, registry: Path) -> subprocess.Popen[bytes]:
    """`mimic run` with two worker processes."""
    command = ["-m", "mimic.cli", "run", str(experiment), "--out", str(out), "--registry", str(registry)]
    with (out.parent / f"{out.name}.log").open("ab") as log:
        return subprocess.Popen([sys.executable, *command, "--workers", "2"], stdout=log, stderr=log)


def finish(process: subprocess.Popen[bytes], out: Path) -> None:
    if process.wait() != 0:
        raise RuntimeError(f"mimic run ended with {process.returncode}: {(out.parent / f'{out.name}.log').read_text()}")


def n_recorded(registry: Path) -> int:
    if not (registry / DATABASE_FILE).is_file():
        return 0
    return len(Registry(registry, create=False).runs(columns=["id"]))


def children(process: int) -> set[int]:
    """The processes that a process has started, and those that these have."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            after_name = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has ended meanwhile
        parents[int(stat.parent.name)] = int(after_name[1])
    found, new = set(), {process}
    while new:
        new = {one for one, parent in parents.items() if parent in new}
        found |= new
    return found


def still_there(processes: Iterable[int], seconds: float = 5.0) -> set[int]:
    """Those that have not ended after so long; zombies have."""
    left, end = set(processes), time.monotonic() + seconds
    while left and time.monotonic() < end:
        left = {one for one in left if _state(one) not in ("", "Z")}
        time.sleep(0.02)
    return left


def _state(process: int) -> str:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def kill_at(process: subprocess.Popen[bytes], registry: Path, *, n_runs: int, wait_s: float) -> tuple[bool, set[int]]:
    """Kill it, `wait_s` after so many runs are recorded; whether it was still at work, and whom it has left behind."""
    while n_recorded(registry) < n_runs and process.poll() is None:
        time.sleep(0.02)
    end = time.monotonic() + wait_s
    while time.monotonic() < end and process.poll() is None:
        time.sleep(0.01)
    workers = children(process.pid)
    was_at_work = process.poll() is None
    if was_at_work:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    return was_at_work, still_there(workers)


def digests(out: Path) -> dict[str, str]:
    """Name -> SHA-256 of every table and model file."""
    paths = [*(out / name for name in TABLES), *sorted((out / "models").iterdir())]
    return {str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def starts_after_record(registry: Registry) -> int:
    """Trainings that were started although their run was recorded already."""
    starts, runs = registry.attempts(), registry.runs(columns=["id", "recorded_utc"])
    recorded = starts["run"].map(runs.set_index("id")["recorded_utc"])
    return int((starts["started_utc"] > recorded).sum())


def measure(folder: Path, sweep: Sweep, *, seed: int = 0) -> dict[str, Any]:
    """The figures of a sweep that was killed and resumed."""
    experiment = write_study(folder, sweep)
    whole, killed = folder / "whole", folder / "killed"
    began = time.monotonic()
    finish(start(experiment, whole, folder / "registry_whole"), whole)
    undisturbed_s = time.monotonic() - began
    rng, registry = np.random.default_rng(seed), folder / "registry_killed"
    moments = sorted(rng.choice(sweep.n_runs, size=sweep.n_kills, replace=False).tolist())
    n_kills, orphans, kept = 0, set(), []
    for n_runs in moments:
        was_at_work, left = kill_at(
            start(experiment, killed, registry), registry, n_runs=n_runs, wait_s=float(rng.uniform(0, LONGEST_WAIT_S))
        )
        n_kills += was_at_work
        orphans |= left
        kept.append(n_recorded(registry))
        print(f"  killed with {kept[-1]} of {sweep.n_runs} runs recorded", file=sys.stderr)
        if not was_at_work:
            break
    if not killed.exists():
        finish(start(experiment, killed, registry), killed)
    opened = Registry(registry, create=False)
    starts = opened.attempts()
    return {
        "undisturbed_seconds": round(undisturbed_s, 1),
        "kills": n_kills,
        "runs_recorded_at_first_kill": kept[0],
        "runs_recorded_at_last_kill": kept[-1],
        "runs_recorded": len(opened.runs(columns=["id"])),
        "runs_in_table": len(pd.read_csv(killed / "members.csv")),
        "runs_trained_twice_after_being_recorded": starts_after_record(opened),
        "starts_of_trainings": len(starts),
        "processes_left_behind": len(orphans),
        "partial_folders_left_behind": len(list(folder.glob(".*.partial"))),
        "tables_identical": int(digests(whole) == digests(killed)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a sweep of 8 runs, killed twice")
    parser.add_argument("--seed", type=int, default=0, help="of the moments of the kills")
    arguments = parser.parse_args()
    case, sweep = ("quick", QUICK) if arguments.quick else ("full", FULL)
    with tempfile.TemporaryDirectory(prefix="mimic-resume-") as folder:
        for metric, value in measure(Path(folder), sweep, seed=arguments.seed).items():
            unit = "s" if metric.endswith("_seconds") else "1" if metric == "tables_identical" else "count"
            print(json.dumps({"benchmark": "resume", "case": case, "metric": metric, "value": value, "unit": unit}))


if __name__ == "__main__":
    main()
