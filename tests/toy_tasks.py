"""Functions that the tests of workers run in other processes, by name."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

_LOADED: list[int] = []


def add(one: int, two: int) -> int:
    return one + two


def fail(message: str) -> None:
    raise ValueError(message)


def leave(code: int) -> None:
    sys.exit(code)


def give_function() -> Callable[[], None]:
    return lambda: None


def who(*_: object) -> int:
    """This process, after long enough for all workers to get a task."""
    time.sleep(0.05)
    return os.getpid()


def environment(*names: str) -> list[str | None]:
    return [os.environ.get(name) for name in names]


def modules(*names: str) -> list[bool]:
    return [name in sys.modules for name in names]


def chatter(text: str) -> str:
    """Writes as Python does and as C++ does."""
    print(text)
    print(text, file=sys.stderr)
    os.write(1, text.encode())
    os.write(2, text.encode())
    return text


def read_standard_input() -> str:
    return sys.stdin.read()


def start(folder: str, name: str) -> int:
    """Note in a file that a task has started, and in which process; how often it has by now."""
    with open(Path(folder) / f"{name}.starts", "a") as file:
        file.write(f"{os.getpid()}\n")
    return len(starts(folder, name))


def starts(folder: str | Path, name: object) -> list[int]:
    """The processes in which a task was started, one entry a start."""
    file = Path(folder) / f"{name}.starts"
    return [int(line) for line in file.read_text().split()] if file.is_file() else []


def hang_once(folder: str, name: object, hangs: bool) -> int:
    """At its first start, if told so, wait to be killed; else the number of starts."""
    n_starts = start(folder, str(name))
    if hangs and n_starts == 1:
        time.sleep(600)
    time.sleep(0.05)
    return n_starts


def die(folder: str, name: object, how: str) -> int:
    """Die in the middle of a task, once or always."""
    n_starts = start(folder, str(name))
    print(f"last words of {name}", flush=True)
    if how == "always" or (how == "once" and n_starts == 1):
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "exit":
        os._exit(3)
    return n_starts


def sleep_with_a_child(folder: str, seconds: float) -> None:
    """A task that starts a process of its own and waits for it."""
    child = subprocess.Popen(["sleep", str(seconds)])
    (Path(folder) / "grandchild").write_text(str(child.pid))
    start(folder, "parent")
    child.wait()


def load(folder: str, values: list[int]) -> list[int]:
    """A setup: notes its process and returns what tasks share."""
    start(folder, "load")
    _LOADED.append(1)
    return values


def pick(values: list[int], position: int) -> tuple[int, int]:
    """A task on shared data; the value, and how often this process was set up."""
    return values[position], len(_LOADED)


def load_and_die() -> None:
    print("no memory here", flush=True)
    os._exit(9)


def load_unless_told(folder: str) -> str:
    """A setup that dies in every process but the first."""
    start(folder, "load")
    try:
        (Path(folder) / "first").mkdir()
    except FileExistsError:
        os._exit(9)
    return folder


def slow_start(folder: str, name: object) -> int:
    time.sleep(0.2)
    return start(folder, str(name))


def make_choices() -> tuple[Any, Any]:
    """Training and validation decisions of a tiny known world: 4 choices, two features."""
    import numpy as np
    import pandas as pd

    from mimic.schema import ChoiceSets

    rng = np.random.default_rng(5)
    n, k = 120, 4
    x = rng.normal(size=(n * k, 2)).astype(np.float32)
    utility = (x @ np.array([1.5, -0.8]) + rng.gumbel(size=n * k)).reshape(n, k)
    choice_sets = ChoiceSets(
        decisions=pd.DataFrame({"individual": [f"i{d % 6}" for d in range(n)], "decision": np.arange(n)}),
        offsets=np.arange(0, n * k + 1, k),
        choice=np.tile(np.arange(k), n),
        selected=np.arange(n) * k + utility.argmax(axis=1),
        features={"x": x[:, 0], "y": x[:, 1]},
    )
    is_validation = np.arange(n) % 6 == 0
    return choice_sets.filter(~is_validation), choice_sets.filter(is_validation)


def train_tiny(data: tuple[Any, Any], units: tuple[int, ...], seed: int) -> tuple[bytes, Any]:
    """A real training: the bytes of all weights, and the history."""
    from mimic.training import TrainingOptions, train

    options = TrainingOptions(units=units, epochs=3, batch_decisions=32, dropout=0.1, seed=seed)
    result = train(*data, ("x", "y"), options)
    assert result.model.network is not None
    return b"".join(w.tobytes() for w in result.model.network.get_weights()), result.history


def hang_once_with(_: object, folder: str, name: object, hangs: bool) -> int:
    return hang_once(folder, name, hangs)


_n_running: list[int] = []


def most_at_once() -> int:
    """How many of these run in this process at the same time."""
    _n_running.append(1)
    time.sleep(0.05)
    n_running = len(_n_running)
    _n_running.pop()
    return n_running
