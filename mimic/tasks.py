"""A function by dotted name and packed arguments into a packed answer, or into a `Failure` that says what happened.

What `mimic.workers` and `mimic.cluster` share. Nothing of TensorFlow is imported here.
"""

from __future__ import annotations

import importlib
import mmap
import pickle
import re
import time
import traceback
from collections import deque
from collections.abc import Collection, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

__all__ = [
    "ATTEMPTS",
    "ENVIRONMENT",
    "Agenda",
    "Done",
    "Failure",
    "Setup",
    "Workers",
    "call",
    "check_function",
    "pack",
    "perform",
    "plan",
    "unpack",
]

# Threads and kernels decide on the last bits of a training, and small networks are fastest on one thread each.
ENVIRONMENT = {
    "TF_ENABLE_ONEDNN_OPTS": "0",
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "1",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "CUDA_VISIBLE_DEVICES": "-1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "VECLIB_MAXIMUM_THREADS": "1",
}

# A task is tried again once when its worker dies: the memory may have been short, but the task may be the killer.
ATTEMPTS = 2

Setup = tuple[str, tuple[Any, ...]]
"""A function by dotted name and its arguments. What it returns in a worker is the first argument of its tasks."""


@dataclass(frozen=True)
class Failure:
    """What went wrong with a task.

    Parameters
    ----------
    type
        Name of the exception, such as "ValueError"; "WorkerDied" where there is none.
    message
        What the exception said.
    traceback
        As text; empty where there is none.
    output
        The last that a worker printed before it died.
    """

    type: str
    message: str
    traceback: str = ""
    output: str = ""

    def __str__(self) -> str:
        return f"{self.type}: {self.message}" if self.message else self.type


@dataclass(frozen=True, eq=False)
class Done:
    """The end of a task: its number among the tasks, what came back (or a `Failure`), and the seconds it took."""

    index: int
    value: Any
    seconds: float

    @property
    def failed(self) -> bool:
        return isinstance(self.value, Failure)


class Workers(Protocol):
    """What runs tasks: `mimic.workers.LocalWorkers` or `mimic.cluster.DaskWorkers`."""

    def run(
        self, function: str, tasks: Sequence[tuple[Any, ...]], *, affinity: Sequence[Hashable] | None = None
    ) -> Iterator[Done]: ...

    def close(self) -> None: ...

    def __enter__(self) -> Workers: ...

    def __exit__(self, *error: object) -> None: ...


def check_function(function: str) -> None:
    """Refuse what no other process could import.

    Raises
    ------
    ValueError
        If it is not "package.module:function", or the module is the script itself.
    """
    if not isinstance(function, str) or not re.fullmatch(r"[\w.]+:[\w.]+", function):
        raise ValueError(f'expected a function by name, such as "mimic.members:train_member"; got {function!r}.')
    if function.startswith("__main__:"):
        raise ValueError(
            f"{function} is defined in the script (or notebook) itself, which worker processes do not import; move "
            "it to a module that can be imported."
        )


def plan(function: str, tasks: Sequence[tuple[Any, ...]], affinity: Sequence[Hashable] | None) -> Agenda:
    """The agenda of a run, once function, tasks and affinity have been checked.

    Raises
    ------
    ValueError, TypeError
        If the function is no name as `check_function` wants it, a task is no tuple, or there is not one affinity
        for each task.
    """
    check_function(function)
    wrong = [task for task in tasks if not isinstance(task, tuple)]
    if wrong:
        raise TypeError(f"expected a tuple of arguments for each task, such as (1,); got {wrong[0]!r}.")
    if affinity is not None and len(affinity) != len(tasks):
        raise ValueError(f"expected one affinity for each of the {len(tasks)} tasks; got {len(affinity)}.")
    return Agenda([None] * len(tasks) if affinity is None else affinity)


def call(function: str, arguments: Sequence[Any]) -> Any:
    """What the function returns, or the `Failure` that it raised; even `sys.exit` is one."""
    try:
        return _resolve(function)(*arguments)
    except BaseException as error:
        return _failure(error)


def pack(value: Any, what: str) -> bytes | Failure:
    """A value as bytes, or the `Failure` that it cannot be pickled; `what` names it in the message."""
    try:
        return pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    except Exception as error:
        return _failure(error, f"{what} cannot be sent to another process: {error}. {_HINT}")


def unpack(packed: bytes | mmap.mmap, what: str) -> Any:
    """The value that `pack` packed, or the `Failure` that this process cannot build it."""
    try:
        return pickle.loads(packed)
    except Exception as error:
        return _failure(error, f"{what} cannot be read in this process: {error}. {_HINT}")


def perform(function: str, packed: bytes, shared: Sequence[Any] = ()) -> tuple[bytes, float]:
    """The packed answer of a function to packed arguments, which follow the shared ones, and the seconds it took."""
    start = time.perf_counter()
    arguments = unpack(packed, f"the arguments of {function}")
    value = arguments if isinstance(arguments, Failure) else call(function, (*shared, *arguments))
    seconds = time.perf_counter() - start
    answer = pack(value, f"the result of {function}")
    if isinstance(answer, Failure):
        answer = pickle.dumps(answer)
    return answer, seconds


class Agenda:
    """The tasks still to be given out, as numbers.

    Parameters
    ----------
    affinity
        The kind of each task, such as its architecture: a worker that has met a kind has its traced graph.
    """

    def __init__(self, affinity: Sequence[Hashable]) -> None:
        self._kinds = list(affinity)
        self._pending: dict[Hashable, deque[int]] = {}
        for index, kind in enumerate(self._kinds):
            self._pending.setdefault(kind, deque()).append(index)

    def __len__(self) -> int:
        return sum(map(len, self._pending.values()))

    def kind(self, index: int) -> Hashable:
        return self._kinds[index]

    def put_back(self, index: int) -> None:
        """Let a task be the next of its kind."""
        self._pending.setdefault(self._kinds[index], deque()).appendleft(index)

    def take(self, met: Sequence[Hashable], met_by_others: Collection[Hashable]) -> int | None:
        """The next task of a worker: of the kind it met last, or before, or that nobody met, or of the longest queue.

        Parameters
        ----------
        met
            Kinds that the worker has met, the latest last.

        Returns
        -------
        The number of the task; None when all are given out.
        """

        def rank(kind: Hashable) -> tuple[int, int]:
            if kind in met:
                return (0 if kind == met[-1] else 1), 0
            return (3, -len(self._pending[kind])) if kind in met_by_others else (2, 0)

        if not self._pending:
            return None
        kind = min(self._pending, key=rank)  # the first of equals: order of the tasks
        queue = self._pending[kind]
        index = queue.popleft()
        if not queue:
            del self._pending[kind]
        return index


_HINT = "Use arrays, tables, numbers, text, and classes that an importable module defines."


def _resolve(function: str) -> Any:
    module, _, name = function.partition(":")
    found: Any = importlib.import_module(module)
    for part in name.split("."):
        if not hasattr(found, part):
            raise ImportError(f"{module} has no function {name}")
        found = getattr(found, part)
    return found


def _failure(error: BaseException, message: str | None = None) -> Failure:
    frames = error.__traceback__.tb_next if error.__traceback__ else None  # without this module's own
    text = "".join(traceback.format_exception(type(error), error, frames))
    return Failure(type(error).__name__, str(error) if message is None else message, text)
