"""A sweep that is stopped, killed or spread over processes: what was finished is kept, and the tables are the same."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest
from tiny import write_experiment

from mimic.registry import Registry
from mimic.registry_tables import DATABASE_FILE

Mimic = Callable[..., tuple[int, str, str]]

# Six runs of two architectures: as many as it takes for two workers to have some each.
TEXT = """
training: {epochs: EPOCHS, units: [3], batch_decisions: 32, learning_rate: 0.01}
grid: {units: [[3], [4, 4]], seed: [0, 1, 2]}
models:
  none: {features: []}
  both: {features: [depth, noise]}
groups: {shares: {deep: depth > 0}}
"""
TABLES = ("members.csv", "selection.csv", "history.csv", "evaluation.csv", "shares.csv", "log_odds.parquet")
N_RUNS = 6


@pytest.fixture(scope="module")
def benchmark(root: Path) -> ModuleType:
    """The benchmark of the same name, which knows how to kill."""
    spec = importlib.util.spec_from_file_location("resume_benchmark", root / "benchmarks" / "resume.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # for its dataclasses
    spec.loader.exec_module(module)
    return module


def digests(out: Path) -> dict[str, str]:
    """File -> SHA-256 of all tables and models."""
    paths = [*(out / name for name in TABLES), *sorted((out / "models").iterdir())]
    assert len(paths) == len(TABLES) + 2  # both, both_seeds
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of the study, trained by one process without any interruption."""
    folder = tmp_path_factory.mktemp("undisturbed")
    command = [sys.executable, "-m", "mimic.cli", "run", str(write_experiment(folder, TEXT.replace("EPOCHS", "300")))]
    done = subprocess.run([*command, "--out", str(folder / "run"), "--workers", "1"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder / "run"


def start(folder: Path, *arguments: str, epochs: int = 300) -> subprocess.Popen[str]:
    """`mimic run` in a process group of its own, as a terminal starts it."""
    path = write_experiment(folder, TEXT.replace("EPOCHS", str(epochs)))
    return subprocess.Popen(
        [sys.executable, "-m", "mimic.cli", "run", str(path), "--out", str(folder / "run"), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
    )


def recorded(folder: Path) -> int:
    if not (folder / "registry" / DATABASE_FILE).is_file():
        return 0
    return len(Registry(folder / "registry", create=False).runs(columns=["id"]))


def wait_for_runs(process: subprocess.Popen[str], folder: Path, n_runs: int) -> None:
    end = time.monotonic() + 120
    while recorded(folder) < n_runs:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.05)


@contextlib.contextmanager
def cluster() -> Iterator[str]:
    """The scheduler of a dask cluster of two worker processes."""
    pytest.importorskip("distributed")
    from distributed import LocalCluster

    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": "127.0.0.1:0"}
    with LocalCluster(**options, silence_logs=logging.CRITICAL) as local:
        logging.getLogger("distributed.nanny").setLevel(logging.CRITICAL)  # workers are killed here on purpose
        yield local.scheduler_address


@pytest.mark.slow
def test_two_worker_processes_give_the_bytes_of_one(tmp_path: Path, undisturbed: Path) -> None:
    process = start(tmp_path, "--workers", "2")
    _, err = process.communicate()
    assert process.returncode == 0, err
    assert digests(tmp_path / "run") == digests(undisturbed)
    attempts = Registry(tmp_path / "registry").attempts()
    assert len(attempts) == N_RUNS
    assert attempts["process"].nunique() == 2  # both did some


@pytest.mark.slow
def test_cluster_gives_the_bytes_of_one_process_and_a_killed_worker_costs_only_its_own_run(
    tmp_path: Path, undisturbed: Path, mimic: Mimic
) -> None:
    path = write_experiment(tmp_path, TEXT.replace("EPOCHS", "300"))
    killed: list[int] = []

    with cluster() as address:
        from distributed import Client

        def kill_one() -> None:
            """Kill a worker once a run is recorded: both are then at work on others."""
            with Client(address, set_as_default=False) as client:
                workers = sorted(client.run(os.getpid).values())
                while not recorded(tmp_path):
                    time.sleep(0.05)
                os.kill(workers[0], signal.SIGKILL)
                killed.append(workers[0])

        thread = threading.Thread(target=kill_one)
        thread.start()
        code, _, err = mimic("run", path, "--out", tmp_path / "run", "--cluster", address)
        thread.join()
    assert code == 0, err
    assert len(killed) == 1
    assert recorded(tmp_path) == N_RUNS
    assert digests(tmp_path / "run") == digests(undisturbed)


@pytest.mark.slow
def test_killed_sweep_goes_on_where_it_was(tmp_path: Path, benchmark: ModuleType) -> None:
    sweep = benchmark.Sweep(n_kills=1, n_seeds=3, units=((4,),), epochs=100, n_individuals=9, n_decisions=20)
    found = benchmark.measure(tmp_path, sweep, seed=56)  # as soon as two runs are recorded
    assert found["kills"] == 1
    assert found["runs_recorded"] == found["runs_in_table"] == sweep.n_runs == 6
    assert found["runs_recorded_at_first_kill"] >= 2
    assert found["runs_trained_twice_after_being_recorded"] == 0
    # two were under way, and of each worker one more may have ended without being recorded yet
    assert found["starts_of_trainings"] <= 6 + 2 + 2
    assert found["processes_left_behind"] == 0
    assert found["partial_folders_left_behind"] == 0
    assert found["tables_identical"] == 1


@pytest.mark.slow
def test_interrupted_sweep_stops_cleanly_and_goes_on(
    tmp_path: Path, undisturbed: Path, benchmark: ModuleType, mimic: Mimic
) -> None:
    process = start(tmp_path, "--workers", "2")
    wait_for_runs(process, tmp_path, 1)
    workers = benchmark.children(process.pid)
    assert len(workers) >= 2
    os.killpg(process.pid, signal.SIGINT)  # what Ctrl-C in a terminal does
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (130, "")
    assert err == (
        "mimic: stopped; no folder was written. Trainings that had ended are recorded: run it again, and it goes on.\n"
    )
    assert benchmark.still_there(workers) == set()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["registry", "table.csv", "tiny.yaml"]
    registry = Registry(tmp_path / "registry")
    kept = registry.runs(columns=["id", "recorded_utc"])
    assert 1 <= len(kept) < N_RUNS
    code, _, err = mimic("run", tmp_path / "tiny.yaml", "--out", tmp_path / "run", "--workers", 1)
    assert code == 0, err
    assert digests(tmp_path / "run") == digests(undisturbed)
    starts = registry.attempts()
    later = starts[starts["started_utc"] > kept["recorded_utc"].max()]
    assert not set(later["run"]) & set(kept["id"])
    pd.testing.assert_frame_equal(registry.runs(columns=["id", "recorded_utc"]).head(len(kept)), kept)
