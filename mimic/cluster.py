"""Tasks into results from the workers of a dask cluster: the iterator of `mimic.workers`, on any number of machines.

Needs the extra `scale` (dask and distributed).
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import threading
import time
import uuid
import warnings
from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any

from mimic.identity import code_version
from mimic.tasks import (
    ATTEMPTS,
    ENVIRONMENT,
    Agenda,
    Done,
    Failure,
    Setup,
    call,
    check_function,
    pack,
    perform,
    plan,
    unpack,
)

__all__ = ["DaskWorkers"]

# What decides on the bits of a result, and cannot be changed once TensorFlow has started.
_DECIDING = ("TF_ENABLE_ONEDNN_OPTS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
_LOOK_AGAIN_S, _FETCH_S = 0.5, 30.0
_ANSWER, _STRANGER, _NO_SETUP = "answer", "stranger", "no setup"


class DaskWorkers:
    """The workers of a dask cluster that is running already; those that join or come back later take part too.

    One task at a time runs in a worker process, however many threads it has. Closing does not stop tasks that
    workers are in the middle of: dask cannot. Nobody waits for them.

    Parameters
    ----------
    address
        Of the scheduler, such as "tcp://10.0.0.1:8786".
    setup
        As in `mimic.workers.LocalWorkers`. The data are sent once to each worker process.
    timeout_s
        How long to wait for the scheduler, and for a first worker; seconds.

    Raises
    ------
    ImportError
        If dask is not installed.
    ValueError
        If the arguments of the setup cannot be pickled.
    ConnectionError
        If no scheduler answers at the address, or it has no workers.

    Notes
    -----
    A worker that dies costs only the task it was doing, which is tried once more on another. Tasks are given out from
    here, one to a worker: dask itself knows no affinity, and where all workers of a task died at once it would wait
    for them forever.
    """

    def __init__(self, address: str, *, setup: Setup | None = None, timeout_s: float = 30.0) -> None:
        self._setup = None if setup is None else _packed_setup(setup)
        self._setup_name = "" if setup is None else setup[0]
        self._address, self._timeout_s = address, timeout_s
        self._token = uuid.uuid4().hex
        self._met: dict[str, list[Hashable]] = {}  # worker -> kinds of tasks, the latest last; once it is enlisted
        self._is_running = False
        self._client = _connect(address, timeout_s)
        self._closed = False

    def __enter__(self) -> DaskWorkers:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Let the workers forget the shared data and leave the cluster, which goes on."""
        if self._closed:
            return
        self._closed = True
        with contextlib.suppress(Exception):  # workers or scheduler may be gone
            self._client.run(_discharge, self._token, on_error="ignore")
        self._client.close()

    def run(
        self, function: str, tasks: Sequence[tuple[Any, ...]], *, affinity: Sequence[Hashable] | None = None
    ) -> Iterator[Done]:
        """The results of the tasks as they finish, in any order. As `mimic.workers.LocalWorkers.run`.

        Raises
        ------
        ValueError, TypeError, RuntimeError
            As there.
        ChildProcessError
            If the setup fails, a worker has another version of mimic, TensorFlow, Keras or NumPy, or runs
            TensorFlow with other threads already.
        ConnectionError
            If the scheduler is gone, or no worker is left for `timeout_s`.
        """
        return self._results(function, tasks, plan(function, tasks, affinity))

    def _results(self, function: str, tasks: Sequence[tuple[Any, ...]], agenda: Agenda) -> Iterator[Done]:
        if self._is_running or self._closed:
            state = "running other tasks" if self._is_running else "closed"
            raise RuntimeError(f"these workers are {state}; make other DaskWorkers.")
        self._is_running = True
        work = _Work(function, tasks, agenda)
        last_seen, n_left = time.monotonic(), len(tasks)
        try:
            while n_left:
                present = self._enlisted()
                last_seen = time.monotonic() if present else last_seen
                if time.monotonic() - last_seen > self._timeout_s:
                    raise ConnectionError(f"the scheduler at {self._address} is gone, or has no workers any more.")
                done = self._take_back(work, present)
                for worker in sorted(present - {worker for _, worker in work.given.values()}):
                    done += self._give(worker, work)
                done += [] if done else self._next_finished(work)
                n_left -= len(done)
                yield from done
        finally:
            self._is_running = False
            self._cancel(list(work.given))

    def _enlisted(self) -> set[str]:
        """The workers of this moment, all with the shared data, settings and versions checked."""
        try:
            present = set(self._client.scheduler_info(n_workers=-1)["workers"])
        except OSError as error:
            raise ConnectionError(f"the scheduler at {self._address} is gone ({error}).") from error
        self._met = {worker: kinds for worker, kinds in self._met.items() if worker in present}
        newcomers = sorted(present - set(self._met))
        if newcomers:
            answers = self._client.run(_enlist, self._token, self._setup, workers=newcomers, on_error="return")
            for worker, answer in answers.items():
                if isinstance(answer, OSError):
                    continue  # it has left again
                _check_newcomer(worker, answer)
                self._met[worker] = []
        return set(self._met)

    def _give(self, worker: str, work: _Work) -> list[Done]:
        """Give a task to an idle worker; tasks whose arguments cannot be sent are done."""
        others = {kind for name, kinds in self._met.items() if name != worker for kind in kinds}
        unsent: list[Done] = []
        while (index := work.agenda.take(self._met[worker], others)) is not None:
            packed = pack(tuple(work.tasks[index]), f"the arguments of {work.function}")
            if isinstance(packed, Failure):
                unsent.append(Done(index, packed, 0.0))
                continue
            kind = work.agenda.kind(index)
            self._met[worker] = [*(k for k in self._met[worker] if k != kind), kind]
            future = self._client.submit(
                *(_perform, self._token, work.function, packed),
                key=f"mimic-{work.function.rpartition(':')[2]}-{index}-{uuid.uuid4().hex}",
                workers=[worker],
            )
            work.given[future] = (index, worker)
            future.add_done_callback(work.finished.put)
            break
        return unsent

    def _take_back(self, work: _Work, present: set[str]) -> list[Done]:
        """Put the tasks of workers that have left on the agenda again, or give them up."""
        lost = [future for future, (_, worker) in work.given.items() if worker not in present]
        indices = [work.given.pop(future)[0] for future in lost]
        self._cancel(lost)
        return [done for index in indices if (done := work.lose(index)) is not None]

    def _cancel(self, futures: list[Any]) -> None:
        if futures:
            with contextlib.suppress(Exception):  # the scheduler may be gone
                self._client.cancel(futures, force=True)

    def _next_finished(self, work: _Work) -> list[Done]:
        """What has finished by now, or within half a second."""
        try:
            ended = [work.finished.get(timeout=_LOOK_AGAIN_S if work.given else _LOOK_AGAIN_S / 5)]
            while not work.finished.empty():
                ended.append(work.finished.get())
        except Empty:
            return []
        results = [self._result(future, work) for future in ended if future in work.given]  # others were taken back
        return [done for done in results if done is not None]

    def _result(self, future: Any, work: _Work) -> Done | None:
        """The end of a task; None if it has to be given again, or what it gave is still on its way."""
        index, worker = work.given[future]
        if future.status in ("cancelled", "lost"):
            raise ConnectionError(f"the scheduler at {self._address} is gone, and the results of its tasks with it.")
        try:
            kind, content, seconds = future.result(timeout=_FETCH_S)
        except TimeoutError:  # its worker may have died with it; then it is taken back
            work.finished.put(future)
            return None
        except Exception as error:
            del work.given[future]
            if type(error).__name__ == "KilledWorker":
                return work.lose(index)
            return Done(index, Failure(type(error).__name__, str(error)), 0.0)
        del work.given[future]
        if kind == _STRANGER:  # another process has taken the address of a worker
            self._met.pop(worker, None)
            work.agenda.put_back(index)
            return None
        if kind == _NO_SETUP:
            raised = ChildProcessError(f"{self._setup_name}, the setup of the workers, failed: {content}")
            raised.add_note(content.traceback)
            raise raised
        return Done(index, unpack(content, f"the result of task {index}"), seconds)


@dataclass(eq=False)
class _Work:
    """The tasks of a run, and where they are."""

    function: str
    tasks: Sequence[tuple[Any, ...]]
    agenda: Agenda
    given: dict[Any, tuple[int, str]] = field(default_factory=dict)  # future -> task and worker
    finished: SimpleQueue[Any] = field(default_factory=SimpleQueue)  # futures
    n_lost: Counter[int] = field(default_factory=Counter)

    def lose(self, index: int) -> Done | None:
        """A worker died with a task: it is put back, or given up the second time."""
        self.n_lost[index] += 1
        if self.n_lost[index] < ATTEMPTS:
            self.agenda.put_back(index)
            return None
        message = f"task {index} was tried {ATTEMPTS} times, and the dask worker was lost each time"
        return Done(index, Failure("WorkerDied", message), 0.0)


def _connect(address: str, timeout_s: float) -> Any:
    """A client of a cluster that has at least one worker."""
    if not re.fullmatch(r"([a-z]+://)?[^/\s]+:\d+/?|inproc://.+", address):  # dask would wait, and then fall over
        raise ValueError(
            f"expected the address of a dask scheduler, such as tcp://10.0.0.1:8786; got {address!r}. `dask scheduler` "
            "prints its own."
        )
    try:
        from distributed import Client
    except ImportError as error:
        raise ImportError(
            "a cluster needs dask and distributed, which are not installed: pip install 'mimic[scale]'."
        ) from error
    try:
        client = Client(address, timeout=timeout_s, set_as_default=False)
    except (OSError, ValueError) as error:
        raise ConnectionError(
            f"expected a dask scheduler at {address!r}; none answered within {timeout_s:g} s. Start one with "
            "`dask scheduler`, workers with `dask worker ADDRESS --nthreads 1`, and give the ADDRESS it prints, such "
            "as tcp://10.0.0.1:8786."
        ) from error
    try:
        client.wait_for_workers(1, timeout=timeout_s)
    except TimeoutError as error:
        client.close()
        raise ConnectionError(
            f"the dask scheduler at {address} has no workers; start some with "
            f"`dask worker {address} --nworkers 2 --nthreads 1`."
        ) from error
    return client


def _packed_setup(setup: Setup) -> bytes:
    check_function(setup[0])
    packed = pack((setup[0], tuple(setup[1])), f"the setup {setup[0]}")
    if isinstance(packed, Failure):
        raise ValueError(packed.message)
    return packed


def _check_newcomer(worker: str, answer: Any) -> None:
    if isinstance(answer, BaseException):
        raise ChildProcessError(
            f"the dask worker {worker} cannot take part: {type(answer).__name__}: {answer}. It needs the same mimic."
        ) from answer
    version, fault = answer
    if fault:
        raise ChildProcessError(f"the dask worker {worker} cannot take part: {fault}")
    if version != code_version():
        raise ChildProcessError(
            f"the dask worker {worker} has another code version ({version}; here {code_version()}), and would give "
            "other results. Install the same mimic, TensorFlow, Keras and NumPy on all machines and restart its workers."
        )


# What follows runs in the workers. Each process remembers what it was given, by the token of the DaskWorkers.
_setups: dict[str, bytes | None] = {}
_shared: dict[str, tuple[Any, ...]] = {}
_one_at_a_time = threading.Lock()


def _enlist(token: str, setup: bytes | None) -> tuple[str, str]:
    """Settle the environment of this worker process and keep the setup for the first task; version and fault."""
    fault = _settle_environment()
    _setups[token] = setup
    return code_version(), fault


def _discharge(token: str) -> None:
    _setups.pop(token, None)
    _shared.pop(token, None)


def _settle_environment() -> str:
    """Set the environment before TensorFlow is imported; what is wrong where it is imported already, else nothing."""
    wrong = [f"{k}={os.environ.get(k, '(not set)')}" for k in _DECIDING if os.environ.get(k) != ENVIRONMENT[k]]
    if "tensorflow" in sys.modules and wrong:
        wanted = " ".join(f"{k}={ENVIRONMENT[k]}" for k in _DECIDING)
        return (
            f"TensorFlow is running there already, with {', '.join(wrong)}; its threads and kernels cannot be changed "
            f"any more and decide on the last bits. Restart the worker, or start it with {wanted}."
        )
    os.environ |= ENVIRONMENT
    # NumPy may have been loaded with more threads, which would give other last bits than local workers.
    with contextlib.suppress(ImportError):
        from threadpoolctl import threadpool_limits

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # of mixed OpenMP libraries
            threadpool_limits(limits=1)
    return ""


def _perform(token: str, function: str, packed: bytes) -> tuple[str, Any, float]:
    """What came of a task: kind of message, its content, and seconds."""
    with _one_at_a_time:
        if token not in _setups:
            return _STRANGER, None, 0.0
        if token not in _shared:
            setup = _setups[token]
            if setup is None:
                _shared[token] = ()
            else:
                named = unpack(setup, "the setup")
                value = named if isinstance(named, Failure) else call(*named)
                if isinstance(value, Failure):
                    return _NO_SETUP, value, 0.0
                _shared[token], _setups[token] = (value,), None  # the bytes are not needed again
        answer, seconds = perform(function, packed, _shared[token])
        return _ANSWER, answer, seconds
