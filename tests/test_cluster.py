"""Workers of a dask cluster: the results of local workers, and a killed worker costs only its own task."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import toy_tasks

from mimic.cluster import DaskWorkers
from mimic.tasks import Done, Failure, Setup
from mimic.workers import LocalWorkers

pytest.importorskip("distributed", reason="dask and distributed are not installed: pip install 'mimic[scale]'")

TESTS = Path(__file__).resolve().parent


@contextlib.contextmanager
def start_cluster(**options: Any) -> Iterator[str]:
    """The scheduler of a cluster on this machine, silent and with a port of its own for its web page."""
    from distributed import LocalCluster

    with LocalCluster(dashboard_address="127.0.0.1:0", silence_logs=logging.CRITICAL, **options) as cluster:
        logging.getLogger("distributed.nanny").setLevel(logging.CRITICAL)  # workers are killed here on purpose
        yield cluster.scheduler_address


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """The scheduler of a cluster of two worker processes."""
    with start_cluster(n_workers=2, threads_per_worker=1) as scheduler:
        yield scheduler


def values(done: Iterator[Done]) -> list[Any]:
    """Values by the number of their task."""
    found = {d.index: d.value for d in done}
    return [found[index] for index in sorted(found)]


def wait_until(condition: Callable[[], object], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.02)


def test_results_and_failures_are_those_of_local_workers(address: str) -> None:
    calls: list[tuple[str, list[tuple[Any, ...]]]] = [
        ("toy_tasks:add", [(n, 10) for n in range(6)]),
        ("toy_tasks:fail", [("no fish",)]),
        ("toy_tasks:leave", [(3,)]),
        ("toy_tasks:absent", [()]),
        ("toy_tasks:give_function", [()]),
        ("toy_tasks:add", [(1, lambda: 2), (1, 2)]),
    ]
    with DaskWorkers(address) as cluster, LocalWorkers(1) as local:
        for function, tasks in calls:
            one, other = values(cluster.run(function, tasks)), values(local.run(function, tasks))
            assert one == other
            assert any(isinstance(v, Failure) for v in one) == (function != "toy_tasks:add" or tasks[0][0] == 1)


def test_trainings_have_the_bits_of_local_workers(address: str) -> None:
    tasks = [((4,), 0), ((4, 4), 0), ((4,), 1)]
    setup: Setup = ("toy_tasks:make_choices", ())
    found = []
    for workers in (DaskWorkers(address, setup=setup), LocalWorkers(1, setup=setup)):
        with workers:
            found.append(values(workers.run("toy_tasks:train_tiny", tasks, affinity=[units for units, _ in tasks])))
    assert [f for f in found[0] + found[1] if isinstance(f, Failure)] == []
    for (one, history), (two, same) in zip(*found, strict=True):
        assert one == two
        pd.testing.assert_frame_equal(history, same, check_exact=True)


def test_setup_runs_once_in_each_worker(address: str, tmp_path: Path) -> None:
    with DaskWorkers(address, setup=("toy_tasks:load", (str(tmp_path), [10, 20, 30]))) as workers:
        found = values(workers.run("toy_tasks:pick", [(n % 3,) for n in range(9)]))
        found += values(workers.run("toy_tasks:pick", [(0,)]))
    assert [value for value, _ in found] == [10, 20, 30] * 3 + [10]
    assert len(set(toy_tasks.starts(tmp_path, "load"))) == len(toy_tasks.starts(tmp_path, "load")) <= 2


def test_setup_that_raises_is_one_clear_error(address: str) -> None:
    with (
        DaskWorkers(address, setup=("toy_tasks:fail", ("no data",))) as workers,
        pytest.raises(ChildProcessError, match="toy_tasks:fail, the setup .* failed: ValueError: no data") as raised,
    ):
        list(workers.run("toy_tasks:pick", [(0,), (1,)]))
    assert "raise ValueError(message)" in raised.value.__notes__[0]


def test_worker_killed_in_the_middle_costs_only_its_own_task(address: str, tmp_path: Path) -> None:
    def kill() -> None:
        wait_until(lambda: toy_tasks.starts(tmp_path, 2))
        os.kill(toy_tasks.starts(tmp_path, 2)[0], signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    with DaskWorkers(address, setup=("toy_tasks:load", (str(tmp_path), []))) as workers:
        found = values(workers.run("toy_tasks:hang_once_with", [(str(tmp_path), n, n == 2) for n in range(8)]))
        killer.join()
        # The nanny has started another worker, or is about to; it is set up like the others.
        wait_until(lambda: len(set(values(workers.run("toy_tasks:who", [()] * 4)))) == 2)
    assert found == [1, 1, 2, 1, 1, 1, 1, 1]
    assert [len(toy_tasks.starts(tmp_path, n)) for n in range(8)] == found
    assert len(toy_tasks.starts(tmp_path, "load")) == 3


def test_tasks_of_workers_that_died_together_are_not_lost(address: str, tmp_path: Path) -> None:
    def kill() -> None:
        wait_until(lambda: toy_tasks.starts(tmp_path, 0) and toy_tasks.starts(tmp_path, 1))
        for n in range(2):
            os.kill(toy_tasks.starts(tmp_path, n)[0], signal.SIGKILL)

    with DaskWorkers(address) as workers:
        wait_until(lambda: len(set(values(workers.run("toy_tasks:who", [()] * 4)))) == 2)
        killer = threading.Thread(target=kill)
        killer.start()
        found = values(workers.run("toy_tasks:hang_once", [(str(tmp_path), n, n < 2) for n in range(4)]))
        killer.join()
    assert found == [2, 2, 1, 1]


def test_task_that_kills_its_workers_is_given_up_and_the_others_go_on(address: str, tmp_path: Path) -> None:
    how = ["well", "always", "well", "well"]
    with DaskWorkers(address) as workers:
        found = values(workers.run("toy_tasks:die", [(str(tmp_path), n, h) for n, h in enumerate(how)]))
    assert [found[n] for n in (0, 2, 3)] == [1, 1, 1]
    assert str(found[1]) == "WorkerDied: task 1 was tried 2 times, and the dask worker was lost each time"
    assert len(set(toy_tasks.starts(tmp_path, 1))) == 2


def test_one_task_at_a_time_runs_in_a_process_with_many_threads() -> None:
    found: list[int] = []

    def run(scheduler: str) -> None:
        with DaskWorkers(scheduler) as workers:
            found.extend(values(workers.run("toy_tasks:most_at_once", [()] * 4)))

    with start_cluster(n_workers=1, threads_per_worker=4) as scheduler:
        studies = [threading.Thread(target=run, args=(scheduler,)) for _ in range(3)]
        for study in studies:
            study.start()
        for study in studies:
            study.join()
    assert found == [1] * 12


def test_stopping_early_leaves_the_cluster_usable(address: str) -> None:
    with DaskWorkers(address) as workers:
        results = workers.run("time:sleep", [(0.0,), (0.3,), (0.3,), (600.0,)])
        next(results)
        with pytest.raises(RuntimeError, match="running other tasks"):
            next(workers.run("toy_tasks:add", [(1, 2)]))
        results.close()
        assert values(workers.run("toy_tasks:add", [(1, 2)])) == [3]
    with pytest.raises(RuntimeError, match="closed"):
        next(workers.run("toy_tasks:add", [(1, 2)]))


def test_address_where_nobody_answers_is_a_clear_error() -> None:
    with pytest.raises(ConnectionError, match=r"expected a dask scheduler at 'tcp://127.0.0.1:9'; none answered"):
        DaskWorkers("tcp://127.0.0.1:9", timeout_s=0.5)


def test_cluster_without_workers_is_a_clear_error() -> None:
    with (
        start_cluster(n_workers=0, processes=False) as scheduler,
        pytest.raises(ConnectionError, match=f"the dask scheduler at {scheduler} has no workers; start some with"),
    ):
        DaskWorkers(scheduler, timeout_s=0.5)


def test_missing_dask_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ImportError, match=r"pip install 'mimic\[scale\]'"):
        DaskWorkers("tcp://127.0.0.1:9")


def test_setup_that_cannot_be_sent_is_refused() -> None:
    with pytest.raises(ValueError, match="the setup toy_tasks:load cannot be sent to another process"):
        DaskWorkers("tcp://127.0.0.1:9", setup=("toy_tasks:load", (lambda: 1,)))


@pytest.mark.parametrize("threads", ["1", "4"])
def test_worker_whose_tensorflow_runs_with_other_threads_is_refused(threads: str) -> None:
    # In a process of its own, in which a module of that name stands for TensorFlow.
    code = (
        "import sys; sys.modules['tensorflow'] = sys\n"
        "from mimic.cluster import _settle_environment\n"
        "print(_settle_environment())"
    )
    environment = {
        **os.environ,
        "PYTHONPATH": str(TESTS.parent),
        "TF_ENABLE_ONEDNN_OPTS": "0",
        "TF_NUM_INTRAOP_THREADS": threads,
        "TF_NUM_INTEROP_THREADS": "1",
    }
    told = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    ).stdout
    assert told.startswith("TensorFlow is running there already, with TF_NUM_INTRAOP_THREADS=4;") == (threads == "4")
    assert bool(told.strip()) == (threads == "4")


def test_worker_with_another_version_is_refused(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mimic.cluster.code_version", lambda: "9.9.9+00000000")
    with (
        DaskWorkers(address) as workers,
        pytest.raises(ChildProcessError, match=r"has another code version \(.*; here 9.9.9\+00000000\)"),
    ):
        list(workers.run("toy_tasks:add", [(1, 2)]))


@pytest.mark.parametrize("address", ["nonsense", "tcp://10.0.0.1", ""])
def test_what_is_no_address_is_refused_at_once(address: str) -> None:
    began = time.perf_counter()
    with pytest.raises(ValueError, match=r"expected the address of a dask scheduler, such as tcp://10.0.0.1:8786; got"):
        DaskWorkers(address)
    assert time.perf_counter() - began < 5
