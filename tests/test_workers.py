"""Workers on this machine: results whoever dies, no process left behind, and equal bits with one worker or two."""

from __future__ import annotations

import contextlib
import gc
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import toy_tasks

from mimic.tasks import ENVIRONMENT, Agenda, Done, Failure
from mimic.workers import LocalWorkers, available_cpus

TESTS = Path(__file__).resolve().parent


class Unreadable:
    """Can be pickled, and cannot be unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return int, ("no number",)


def values(done: Iterator[Done]) -> list[Any]:
    """Values by the number of their task."""
    found = {d.index: d.value for d in done}
    return [found[index] for index in sorted(found)]


def processes() -> dict[int, int]:
    """Live processes and their parents; those that have ended, and wait for their parent to hear of it, are left out."""
    if Path("/proc/self/stat").is_file():
        stats = []
        for file in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):  # ended meanwhile
                stats.append((file.parent.name, *file.read_text().rpartition(")")[2].split()[:2]))
    else:
        listed = subprocess.run(["ps", "-A", "-o", "pid=,stat=,ppid="], capture_output=True, text=True, check=True)
        stats = [tuple(line.split()) for line in listed.stdout.splitlines()]
    return {int(pid): int(parent) for pid, state, parent in stats if state[0] not in "ZX"}


def is_alive(pid: int) -> bool:
    return pid in processes()


def children() -> set[int]:
    """Live child processes of this one."""
    return {pid for pid, parent in processes().items() if parent == os.getpid()}


def wait_until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.02)


@pytest.fixture(autouse=True)
def no_process_is_left() -> Iterator[None]:
    before = children()
    yield
    wait_until(lambda: children() <= before)


def test_results_carry_the_number_of_their_task() -> None:
    tasks = [(n, 10) for n in range(20)]
    with LocalWorkers(2) as workers:
        done = list(workers.run("toy_tasks:add", tasks))
    assert {d.index: d.value for d in done} == {n: n + 10 for n in range(20)}
    assert len(done) == 20
    assert all(d.seconds >= 0 and not d.failed for d in done)


def test_fast_tasks_do_not_wait_for_a_slow_one() -> None:
    with LocalWorkers(2) as workers:
        order = [d.index for d in workers.run("time:sleep", [(0.6,), (0.0,), (0.0,), (0.0,)])]
    assert order[-1] == 0


def test_workers_stay_for_further_tasks() -> None:
    with LocalWorkers(2) as workers:
        first = set(values(workers.run("toy_tasks:who", [(n,) for n in range(6)])))
        second = set(values(workers.run("toy_tasks:who", [(n,) for n in range(6)])))
    assert first == second
    assert len(first) == 2
    assert os.getpid() not in first


def test_no_more_workers_than_tasks_are_started() -> None:
    before = children()
    with LocalWorkers(8) as workers:
        assert values(workers.run("toy_tasks:add", [(1, 2)])) == [3]
        assert len(children() - before) == 1
    assert list(workers_of_none()) == []


def workers_of_none() -> Iterator[Done]:
    with LocalWorkers(2) as workers:
        yield from workers.run("toy_tasks:add", [])


def test_default_is_one_worker_for_each_processor() -> None:
    assert available_cpus() >= 1
    with LocalWorkers() as workers:
        n_tasks = available_cpus() + 1
        assert len(set(values(workers.run("toy_tasks:who", [(n,) for n in range(n_tasks)])))) <= available_cpus()


def test_environment_is_set_before_a_worker_imports_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", "7")
    with LocalWorkers(1) as workers:
        (found,) = values(workers.run("toy_tasks:environment", [tuple(ENVIRONMENT)]))
        (loaded,) = values(workers.run("toy_tasks:modules", [("tensorflow", "keras", "numpy", "pandas", "mimic")]))
    assert dict(zip(ENVIRONMENT, found, strict=True)) == ENVIRONMENT
    assert loaded == [False, False, False, False, True]
    assert os.environ["TF_NUM_INTRAOP_THREADS"] == "7"  # of this process nothing is changed


def test_nothing_a_worker_prints_reaches_the_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    with LocalWorkers(1) as workers:
        assert values(workers.run("toy_tasks:chatter", [("hello",), ("again",)])) == ["hello", "again"]
        assert values(workers.run("toy_tasks:read_standard_input", [()])) == [""]
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("function", "arguments", "type_", "message"),
    [
        ("toy_tasks:fail", ("no fish",), "ValueError", "no fish"),
        ("toy_tasks:leave", (3,), "SystemExit", "3"),
        ("toy_tasks:absent", (), "ImportError", "toy_tasks has no function absent"),
        ("no_such_module:f", (), "ModuleNotFoundError", "No module named 'no_such_module'"),
        ("toy_tasks:add", (1,), "TypeError", r"missing 1 required positional argument: 'two'"),
        ("toy_tasks:give_function", (), ".*Error", "the result of toy_tasks:give_function cannot be sent to another"),
        ("toy_tasks:add", (1, lambda: 2), ".*Error", "the arguments of toy_tasks:add cannot be sent to another proc"),
        ("toy_tasks:add", (1, Unreadable()), "ValueError", "the arguments of toy_tasks:add cannot be read in this pro"),
    ],
)
def test_what_goes_wrong_comes_back_as_failure(
    function: str, arguments: tuple[Any, ...], type_: str, message: str
) -> None:
    with LocalWorkers(1) as workers:
        (failure,) = values(workers.run(function, [arguments]))
        assert values(workers.run("toy_tasks:add", [(1, 2)])) == [3]  # the worker goes on
    assert isinstance(failure, Failure)
    assert re.fullmatch(type_, failure.type)
    assert re.search(message, failure.message)
    assert str(failure) == f"{failure.type}: {failure.message}"
    assert failure.type in failure.traceback


def test_traceback_shows_the_line_that_raised_and_not_the_workings_of_workers() -> None:
    with LocalWorkers(1) as workers:
        (failure,) = values(workers.run("toy_tasks:fail", [("no fish",)]))
    assert "raise ValueError(message)" in failure.traceback
    assert "mimic" not in failure.traceback.replace(str(TESTS), "")


def test_result_that_cannot_be_read_here_is_a_failure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "elsewhere.py").write_text("class Thing:\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    with LocalWorkers(1) as workers:
        (thing,) = values(workers.run("elsewhere:Thing", [()]))
        assert type(thing).__name__ == "Thing"
        # The class vanishes here, not in the worker.
        monkeypatch.setitem(sys.modules, "elsewhere", None)
        (failure,) = values(workers.run("elsewhere:Thing", [()]))
    assert "the result of task 0 cannot be read in this process" in failure.message


def test_worker_killed_in_the_middle_costs_only_its_own_task(tmp_path: Path) -> None:
    tasks = [(str(tmp_path), n, n == 1) for n in range(8)]
    with LocalWorkers(2) as workers:
        results = workers.run("toy_tasks:hang_once", tasks)
        found = [next(results), next(results)]
        wait_until(lambda: toy_tasks.starts(tmp_path, 1))
        (victim,) = toy_tasks.starts(tmp_path, 1)
        os.kill(victim, signal.SIGKILL)
        found += results
    assert {d.index: d.value for d in found} == {n: 1 + (n == 1) for n in range(8)}
    assert [len(toy_tasks.starts(tmp_path, n)) for n in range(8)] == [1, 2, 1, 1, 1, 1, 1, 1]
    assert victim not in toy_tasks.starts(tmp_path, 1)[1:]  # a fresh process


def test_idle_worker_that_was_killed_is_replaced() -> None:
    with LocalWorkers(1) as workers:
        (one,) = values(workers.run("toy_tasks:who", [()]))
        os.kill(one, signal.SIGKILL)
        (other,) = values(workers.run("toy_tasks:who", [()]))
    assert other != one


def test_task_that_kills_its_worker_twice_is_given_up_and_the_others_go_on(tmp_path: Path) -> None:
    how = ["well", "always", "once", "well", "exit"]
    with LocalWorkers(2) as workers:
        found = values(workers.run("toy_tasks:die", [(str(tmp_path), n, h) for n, h in enumerate(how)]))
    assert [found[n] for n in (0, 2, 3)] == [1, 2, 1]
    killed, left = found[1], found[4]
    assert killed.type == left.type == "WorkerDied"
    assert "task 1 was tried 2 times" in killed.message
    assert "was killed by SIGKILL (perhaps by the system, for want of memory)" in killed.message
    assert "ended by itself with exit code 3" in left.message
    assert (killed.output, left.output) == ("last words of 1", "last words of 4")
    assert len(toy_tasks.starts(tmp_path, 1)) == 2


def test_setup_runs_once_in_each_worker_and_its_value_comes_first(tmp_path: Path) -> None:
    with LocalWorkers(2, setup=("toy_tasks:load", (str(tmp_path), [10, 20, 30]))) as workers:
        found = values(workers.run("toy_tasks:pick", [(n % 3,) for n in range(12)]))
        found += values(workers.run("toy_tasks:pick", [(0,)]))
    assert found == [(v, 1) for v in [10, 20, 30] * 4] + [(10, 1)]
    assert len(set(toy_tasks.starts(tmp_path, "load"))) == len(toy_tasks.starts(tmp_path, "load")) <= 2


def test_fresh_worker_is_set_up_too(tmp_path: Path) -> None:
    with LocalWorkers(1, setup=("toy_tasks:load", (str(tmp_path), [10]))) as workers:
        assert values(workers.run("toy_tasks:pick", [(0,)])) == [(10, 1)]
        os.kill(toy_tasks.starts(tmp_path, "load")[0], signal.SIGKILL)
        assert values(workers.run("toy_tasks:pick", [(0,)])) == [(10, 1)]
    assert len(set(toy_tasks.starts(tmp_path, "load"))) == 2


def test_setup_that_raises_is_one_clear_error() -> None:
    with (
        LocalWorkers(2, setup=("toy_tasks:fail", ("no data",))) as workers,
        pytest.raises(ChildProcessError, match="toy_tasks:fail, the setup of the .* failed: ValueError: no data") as at,
    ):
        list(workers.run("toy_tasks:pick", [(0,), (1,)]))
    assert "raise ValueError(message)" in at.value.__notes__[0]


def test_setup_that_kills_every_worker_is_one_clear_error() -> None:
    with (
        LocalWorkers(2, setup=("toy_tasks:load_and_die", ())) as workers,
        pytest.raises(ChildProcessError, match="3 worker processes ended .* exit code 9. Its last output: no memory"),
    ):
        list(workers.run("toy_tasks:pick", [(0,), (1,)]))


def test_work_goes_on_with_the_workers_that_could_be_set_up(tmp_path: Path) -> None:
    with LocalWorkers(2, setup=("toy_tasks:load_unless_told", (str(tmp_path),))) as workers:
        found = values(workers.run("toy_tasks:slow_start", [(n,) for n in range(6)]))
    assert found == [1] * 6
    assert 2 <= len(toy_tasks.starts(tmp_path, "load")) <= 5  # and not one more for each task


def test_setup_that_cannot_be_sent_is_refused() -> None:
    with pytest.raises(ValueError, match="the arguments of toy_tasks:load cannot be sent to worker processes"):
        LocalWorkers(1, setup=("toy_tasks:load", (lambda: 1,)))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda w: w.run("factorial", []), ValueError, "such as \"mimic.members:train_member\"; got 'factorial'"),
        (lambda w: w.run(len, []), ValueError, "expected a function by name"),
        (lambda w: w.run("__main__:f", []), ValueError, "defined in the script .or notebook. itself"),
        (lambda w: w.run("math:factorial", [3]), TypeError, r"a tuple of arguments for each task, .* got 3"),
        (lambda w: w.run("math:factorial", [(3,)], affinity=[]), ValueError, "each of the 1 tasks; got 0"),
        (lambda w: LocalWorkers(0), ValueError, "n_workers must be 1 or more; got 0"),
        (lambda w: LocalWorkers(1, setup=("load", ())), ValueError, "expected a function by name"),
    ],
)
def test_faulty_calls_are_refused_at_once(call: Callable[[Any], object], error: type, message: str) -> None:
    with LocalWorkers(1) as workers, pytest.raises(error, match=message):
        call(workers)


def test_workers_do_one_run_at_a_time_and_none_when_closed() -> None:
    with LocalWorkers(1) as workers:
        first = workers.run("toy_tasks:add", [(1, 2), (3, 4)])
        next(first)
        with pytest.raises(RuntimeError, match="running other tasks"):
            next(workers.run("toy_tasks:add", [(1, 2)]))
        assert [d.value for d in first] == [7]
    workers.close()
    with pytest.raises(RuntimeError, match="closed"):
        next(workers.run("toy_tasks:add", [(1, 2)]))


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, ZeroDivisionError])
def test_error_in_the_loop_over_results_ends_all_workers_at_once(error: type[BaseException], tmp_path: Path) -> None:
    before = children()
    began = time.monotonic()
    with pytest.raises(error), LocalWorkers(2) as workers:  # noqa: PT012
        for _ in workers.run("time:sleep", [(0.0,), (600.0,), (600.0,)]):
            assert len(children() - before) == 2
            raise error
    assert children() <= before
    assert time.monotonic() - began < 60  # and did not wait for the tasks


def test_leaving_the_loop_stops_its_tasks_and_keeps_the_workers_usable(tmp_path: Path) -> None:
    with LocalWorkers(2) as workers:
        results = workers.run("toy_tasks:hang_once", [(str(tmp_path), n, n > 0) for n in range(3)])
        assert next(results).index == 0
        results.close()
        assert values(workers.run("toy_tasks:add", [(1, 2)])) == [3]


def test_forgotten_workers_end_without_a_warning(tmp_path: Path) -> None:
    before = children()
    workers = LocalWorkers(1, setup=("toy_tasks:load", (str(tmp_path), [7])))
    results = workers.run("toy_tasks:pick", [(0,), (0,)])
    assert next(results).value == (7, 1)
    del workers, results
    gc.collect()
    wait_until(lambda: children() <= before)


def test_ctrl_c_ends_a_worker_and_what_its_task_has_started(tmp_path: Path) -> None:
    interrupt = f"import os, time; time.sleep(1); os.kill({os.getpid()}, {signal.SIGINT:d})"
    with (
        pytest.raises(KeyboardInterrupt),
        subprocess.Popen([sys.executable, "-c", interrupt]),
        LocalWorkers(1) as workers,
    ):
        next(workers.run("toy_tasks:sleep_with_a_child", [(str(tmp_path), 600.0)]))
    wait_until(lambda: not is_alive(int((tmp_path / "grandchild").read_text())))


PARENT = """
import sys
from mimic.workers import LocalWorkers

open(sys.argv[1] + "/main.runs", "a").write("x")
with LocalWorkers(2) as workers:
    for done in workers.run("toy_tasks:{function}", [(sys.argv[1], n, {arguments}) for n in range(2)]):
        print(done.value)
print("end")
"""


def _parent(folder: Path, function: str, arguments: str) -> subprocess.Popen[str]:
    """A script without `if __name__ == "__main__"` that runs two tasks."""
    script = folder / "script.py"
    script.write_text(PARENT.format(function=function, arguments=arguments))
    path = os.pathsep.join([str(TESTS), str(TESTS.parent)])
    return subprocess.Popen(
        [sys.executable, str(script), str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
        start_new_session=True,
    )


def test_script_needs_no_guard_and_runs_once(tmp_path: Path) -> None:
    with _parent(tmp_path, "hang_once", "False") as script:
        out, err = script.communicate(timeout=60)
    assert (out, err, script.returncode) == ("1\n1\nend\n", "", 0)
    assert (tmp_path / "main.runs").read_text() == "x"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_worker_survives_its_parent(number: signal.Signals, tmp_path: Path) -> None:
    with _parent(tmp_path, "hang_once", "True") as script:
        wait_until(lambda: toy_tasks.starts(tmp_path, 0) and toy_tasks.starts(tmp_path, 1))
        pids = toy_tasks.starts(tmp_path, 0) + toy_tasks.starts(tmp_path, 1)
        assert all(map(is_alive, pids))
        script.send_signal(number)
        out, err = script.communicate(timeout=20)
    wait_until(lambda: not any(map(is_alive, pids)), seconds=5)
    assert out == ""
    assert ("KeyboardInterrupt" in err) == (number == signal.SIGINT)


def test_ctrl_c_in_the_terminal_is_for_the_parent_alone(tmp_path: Path) -> None:
    with _parent(tmp_path, "hang_once", "True") as script:
        wait_until(lambda: toy_tasks.starts(tmp_path, 0) and toy_tasks.starts(tmp_path, 1))
        os.killpg(script.pid, signal.SIGINT)  # as a terminal does: to the whole group
        _, err = script.communicate(timeout=20)
    assert err.count("KeyboardInterrupt") == 1


def test_tasks_of_a_kind_stay_with_the_worker_that_met_it() -> None:
    agenda = Agenda(["a", "b", "a", "b", "c", "a"])
    assert agenda.take([], []) == 0  # a, for the first worker
    assert agenda.take([], ["a"]) == 1  # b, which nobody has met, for the second
    assert agenda.take(["a"], ["b"]) == 2
    assert agenda.take(["b"], ["a"]) == 3
    assert agenda.take(["b"], ["a"]) == 4  # no b is left: c, rather than an a
    agenda.put_back(2)
    assert agenda.take(["a"], ["b", "c"]) == 2  # first of its kind again
    assert agenda.take(["b", "c"], ["a"]) == 5  # nothing else is left
    assert agenda.take(["a"], ["b", "c"]) is None


def test_kind_met_last_comes_before_kinds_met_earlier() -> None:
    agenda = Agenda(["a", "b", "a", "b"])
    assert [agenda.take(["a", "b"], []) for _ in range(3)] == [1, 3, 0]


def test_longest_queue_of_another_worker_is_shortened_first() -> None:
    agenda = Agenda(["a", "b", "b"])
    assert agenda.take(["c"], ["a", "b"]) == 1
    assert len(agenda) == 2


def test_two_kinds_on_two_workers_are_not_mixed() -> None:
    kinds = ["a", "b"] * 6
    with LocalWorkers(2) as workers:
        list(workers.run("toy_tasks:who", [(n,) for n in range(2)]))  # both have started
        pids = values(workers.run("toy_tasks:who", [(n,) for n in range(12)], affinity=kinds))
    met = Counter(zip(kinds, pids, strict=True))
    # Equal work, so that at most the very last task changes hands.
    assert sorted(met.values())[-2:] >= [5, 5]


def test_trainings_have_equal_bits_with_one_worker_and_with_two() -> None:
    tasks = [((4,), 0), ((4, 4), 0), ((4,), 1), ((4, 4), 1)]
    setup = ("toy_tasks:make_choices", ())
    found = []
    for n_workers in (1, 2):
        with LocalWorkers(n_workers, setup=setup) as workers:
            found.append(values(workers.run("toy_tasks:train_tiny", tasks, affinity=[units for units, _ in tasks])))
    assert [f for f in found[0] + found[1] if isinstance(f, Failure)] == []
    for (one, history), (two, same) in zip(*found, strict=True):
        assert one == two
        pd.testing.assert_frame_equal(history, same, check_exact=True)
    assert len({weights for weights, _ in found[0]}) == 4
    assert all(np.isfinite(np.frombuffer(weights, dtype=np.float32)).all() for weights, _ in found[0])
