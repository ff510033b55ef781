"""Tasks into results from processes on this machine, each with one thread: whoever dies costs only its own task.

A worker is a fresh interpreter that imports neither the script nor the notebook that started it, so no
`if __name__ == "__main__"` is needed, and that speaks with its parent over a pair of inherited sockets: no port is
open. Its environment is set before it imports anything. It ends at once when its parent does, even by kill -9. For
Linux and macOS.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import pickle
import select
import signal
import subprocess
import sys
import tempfile
import threading
import weakref
from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, Pipe, wait
from typing import IO, Any

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

__all__ = ["LocalWorkers", "available_cpus", "serve"]

# Workers that die one after the other before they are ready; then no more are started.
_FALSE_STARTS = 3
_LOOK_AGAIN_S = 1.0
_TAIL_BYTES = 4000
_READY, _ANSWER, _NO_SETUP = "ready", "answer", "no setup"


def available_cpus() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class LocalWorkers:
    """Worker processes on this machine; they start with the first tasks and stay until `close`.

    Use it in a `with` statement: whatever ends the block, Ctrl-C too, no process is left.

    Parameters
    ----------
    n_workers
        At most so many processes; by default one for each processor.
    setup
        (function, arguments): run once in every worker, for data that all tasks share. What it returns is given
        to each task as its first argument.

    Example
    -------
    >>> with LocalWorkers(1) as workers:
    ...     sorted((done.index, done.value) for done in workers.run("math:factorial", [(3,), (4,)]))
    [(0, 6), (1, 24)]
    """

    def __init__(self, n_workers: int | None = None, *, setup: Setup | None = None) -> None:
        if n_workers is not None and n_workers < 1:
            raise ValueError(f"n_workers must be 1 or more; got {n_workers}.")
        self._n_workers = available_cpus() if n_workers is None else n_workers
        self._setup, self._setup_file = setup, None if setup is None else _write_setup(setup)
        self._children: list[_Child] = []
        self._n_false_starts = 0
        self._is_running = False
        self._close = weakref.finalize(self, _close, self._children, self._setup_file, os.getpid())

    def __enter__(self) -> LocalWorkers:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """End all workers now, whatever they are doing; for good."""
        self._close()

    def run(
        self, function: str, tasks: Sequence[tuple[Any, ...]], *, affinity: Sequence[Hashable] | None = None
    ) -> Iterator[Done]:
        """The results of the tasks as they finish, in any order; to stop early, leave the loop and close.

        Parameters
        ----------
        function
            By name, "package.module:function". Workers import it.
        tasks
            The arguments of each call, after what the setup returned.
        affinity
            The kind of each task. Tasks of a kind preferably go to the same worker. It decides on nothing else.

        Returns
        -------
        For each task one `Done`. Its value is a `Failure` where the function raised or cannot be imported, where
        arguments or result cannot be sent, and where the worker died with it twice.

        Raises
        ------
        ValueError
            If the function is no such name, or the affinities are not as many as the tasks.
        TypeError
            If a task is no tuple of arguments.
        RuntimeError
            If these workers are running other tasks, or closed.
        ChildProcessError
            If the setup fails, or workers die before they are ready: then no task can be done.
        """
        return self._results(function, tasks, plan(function, tasks, affinity))

    def _results(self, function: str, tasks: Sequence[tuple[Any, ...]], agenda: Agenda) -> Iterator[Done]:
        if self._is_running or not self._close.alive:
            state = "running other tasks" if self._is_running else "closed"
            raise RuntimeError(f"these workers are {state}; make other LocalWorkers.")
        self._is_running = True
        attempts: Counter[int] = Counter()
        n_left = len(tasks)
        try:
            while n_left:
                self._staff(n_left)
                finished = self._hand_out(function, tasks, agenda)
                for child in [] if finished else self._heard_from():
                    finished += self._listen(child, agenda, attempts)
                finished += self._hand_out(function, tasks, agenda)  # before the caller takes its time
                n_left -= len(finished)
                yield from finished
        finally:
            self._is_running = False
            for child in [c for c in self._children if c.task is not None]:
                self._children.remove(child)
                child.end()

    def _staff(self, n_tasks: int) -> None:
        """Start workers where some are missing."""
        for child in [c for c in self._children if c.is_ready and c.task is None and c.process.poll() is not None]:
            self._lose(child)
        if not self._children and self._n_false_starts >= _FALSE_STARTS:
            self._n_false_starts = 0  # others did the work meanwhile, and are gone too
        while len(self._children) < min(self._n_workers, n_tasks) and self._n_false_starts < _FALSE_STARTS:
            self._children.append(_start_child(self._setup_file))

    def _heard_from(self) -> list[_Child]:
        """Workers that have said something or are dead; after a second at the latest."""
        spoken = wait([child.connection for child in self._children], timeout=_LOOK_AGAIN_S)
        # A process that a task has started may hold the connection open beyond the worker's death.
        return [c for c in self._children if c.connection in spoken or c.process.poll() is not None]

    def _hand_out(self, function: str, tasks: Sequence[tuple[Any, ...]], agenda: Agenda) -> list[Done]:
        """Give a task to every idle worker; tasks whose arguments cannot be sent are done."""
        unsent = []
        for child in self._children:
            others = {kind for other in self._children if other is not child for kind in other.met}
            while child.is_ready and child.task is None and (index := agenda.take(child.met, others)) is not None:
                packed = pack(tuple(tasks[index]), f"the arguments of {function}")
                if isinstance(packed, Failure):
                    unsent.append(Done(index, packed, 0.0))
                    continue
                child.give(index, agenda.kind(index), function, packed)
        return unsent

    def _listen(self, child: _Child, agenda: Agenda, attempts: Counter[int]) -> list[Done]:
        """What a worker has said, or what its death means."""
        message = child.receive()
        if message is None:
            return self._lose(child, agenda, attempts)
        kind, content, seconds = message
        if kind == _NO_SETUP:
            self._refuse(content)
        if kind == _READY:
            child.is_ready, self._n_false_starts = True, 0
            return []
        index, child.task = child.task, None
        assert index is not None
        return [Done(index, unpack(content, f"the result of task {index}"), seconds)]

    def _lose(self, child: _Child, agenda: Agenda | None = None, attempts: Counter[int] | None = None) -> list[Done]:
        """Take leave of a dead worker; its task goes to another, or is given up."""
        self._children.remove(child)
        how, output = child.end()
        if not child.is_ready:
            self._n_false_starts += 1
            if self._n_false_starts >= _FALSE_STARTS and not self._children:
                raise ChildProcessError(
                    f"{_FALSE_STARTS} worker processes ended one after the other before they were ready; the last "
                    f"{how}. Its last output: {output or 'none'}"
                )
        if child.task is None or agenda is None or attempts is None:
            return []
        attempts[child.task] += 1
        if attempts[child.task] < ATTEMPTS:
            agenda.put_back(child.task)
            return []
        message = f"task {child.task} was tried {ATTEMPTS} times, and the worker process died each time; the last {how}"
        return [Done(child.task, Failure("WorkerDied", message, output=output), 0.0)]

    def _refuse(self, failure: Failure) -> None:
        self.close()
        assert self._setup is not None
        error = ChildProcessError(f"{self._setup[0]}, the setup of the worker processes, failed: {failure}")
        error.add_note(failure.traceback)
        raise error


@dataclass(eq=False)
class _Child:
    """A worker process as its parent sees it."""

    process: subprocess.Popen[bytes]
    connection: Connection
    output: IO[bytes]
    is_ready: bool = False
    task: int | None = None
    met: list[Hashable] = field(default_factory=list)  # kinds of tasks, the latest last

    def give(self, index: int, kind: Hashable, function: str, packed: bytes) -> None:
        self.task = index
        self.met = [*(k for k in self.met if k != kind), kind]
        # A worker that is dead by now is noticed, with its task, when it is listened to.
        with contextlib.suppress(OSError):
            self.connection.send_bytes(pickle.dumps((function, packed)))

    def receive(self) -> tuple[str, Any, float] | None:
        """The next message; None when the worker is dead."""
        try:
            return pickle.loads(self.connection.recv_bytes()) if self.connection.poll() else None
        except (EOFError, OSError):
            return None

    def end(self) -> tuple[str, str]:
        """Kill it, with what its task has started; how it ended, and its last output."""
        self.kill()
        code = self.process.wait()
        output = _tail(self.output)
        for file in (self.connection, self.output, self.process.stdin):
            with contextlib.suppress(OSError):
                file.close()  # type: ignore[union-attr]
        if code >= 0:
            return f"ended by itself with exit code {code}", output
        hint = " (perhaps by the system, for want of memory)" if -code == signal.SIGKILL else ""
        return f"was killed by {signal.Signals(-code).name}{hint}", output

    def kill(self) -> None:
        # Not yet waited for, so that its number cannot be another's.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)


def _close(children: list[_Child], setup: IO[bytes] | None, owner: int) -> None:
    if setup is not None:
        setup.close()
    if os.getpid() != owner:  # a fork of the owner, whose children these are not
        return
    for child in children:  # all at once, and then wait
        child.kill()
    while children:
        children.pop().end()


def _write_setup(setup: Setup) -> IO[bytes]:
    """The setup in a nameless file, which all workers read and which is gone with the last of them."""
    check_function(setup[0])
    file = tempfile.TemporaryFile(prefix="mimic-")  # noqa: SIM115
    try:
        pickle.dump((setup[0], tuple(setup[1])), file, pickle.HIGHEST_PROTOCOL)
    except Exception as error:
        file.close()
        raise ValueError(f"the arguments of {setup[0]} cannot be sent to worker processes: {error}.") from error
    file.flush()
    return file


def _start_child(setup: IO[bytes] | None) -> _Child:
    ours, theirs = Pipe()
    output = tempfile.TemporaryFile(prefix="mimic-")  # noqa: SIM115
    given = [theirs.fileno()] + ([] if setup is None else [setup.fileno()])
    path = [os.fspath(entry) for entry in sys.path]
    arguments = ", ".join(map(str, [os.getpid(), *given]))
    code = f"import sys; sys.path[:] = {path!r}; from mimic.workers import serve; serve({arguments})"
    process = subprocess.Popen(
        [sys.executable, "-u", "-X", "faulthandler", "-c", code],
        stdin=subprocess.PIPE,  # never written to: it closes when this process ends, however it ends
        stdout=output,
        stderr=output,
        bufsize=0,
        env={**os.environ, **ENVIRONMENT},
        pass_fds=given,
        process_group=0,  # Ctrl-C in the terminal is for this process alone
    )
    theirs.close()
    return _Child(process, ours, output)


def _tail(output: IO[bytes]) -> str:
    size = os.fstat(output.fileno()).st_size
    return os.pread(output.fileno(), _TAIL_BYTES, max(0, size - _TAIL_BYTES)).decode(errors="replace").strip()


def serve(parent: int, channel: int, setup: int | None = None) -> None:
    """The life of a worker process: set up, then answer tasks until the parent ends. Started by `LocalWorkers`.

    Parameters
    ----------
    parent
        The process that started this one.
    channel, setup
        Inherited file descriptors: the connection to the parent, and the file with the setup.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for descriptor in (channel, setup):
        if descriptor is not None:
            os.set_inheritable(descriptor, False)
    threading.Thread(target=_end_with_parent, args=(parent, os.dup(0)), daemon=True).start()
    with open(os.devnull) as nothing:
        os.dup2(nothing.fileno(), 0)
    connection = Connection(channel)
    with contextlib.suppress(EOFError, OSError):  # the parent has ended
        shared: tuple[Any, ...] = () if setup is None else (_read_setup(setup),)
        failed = bool(shared) and isinstance(shared[0], Failure)
        connection.send_bytes(pickle.dumps((_NO_SETUP, shared[0], 0.0) if failed else (_READY, None, 0.0)))
        while not failed:
            function, packed = pickle.loads(connection.recv_bytes())
            _forget_output()
            answer, seconds = perform(function, packed, shared)
            connection.send_bytes(pickle.dumps((_ANSWER, answer, seconds)))


def _read_setup(descriptor: int) -> Any:
    with mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ) as content:
        setup = unpack(content, "the setup")
    return setup if isinstance(setup, Failure) else call(*setup)


def _end_with_parent(parent: int, lifeline: int) -> None:
    """End this process, and what its tasks have started, as soon as the parent's end of the pipe is closed."""
    # A fork of the parent may hold that end open beyond the parent's death: then this process has another parent.
    while not select.select([lifeline], [], [], _LOOK_AGAIN_S)[0] and os.getppid() == parent:
        pass
    if os.getpgrp() == os.getpid():
        os.killpg(os.getpid(), signal.SIGKILL)
    os._exit(1)


def _forget_output() -> None:
    """Empty this worker's output, so that it holds that of one task."""
    sys.stdout.flush()
    os.ftruncate(1, 0)
    os.lseek(1, 0, os.SEEK_SET)
