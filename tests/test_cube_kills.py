"""A cube that was killed and resumed ends in the bytes of an undisturbed build, and one process builds it at a time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from test_cube import config, digests, write_days, write_depth

from mimic.cube_build import build_cube
from mimic.cube_sections import load_cube_config
from mimic.locks import LockedError, hold_lock

ROOT = Path(__file__).resolve().parents[1]


def test_kill_9_and_resume_end_in_the_same_bytes(tmp_path: Path) -> None:
    write_days(tmp_path / "in", range(12))
    write_depth(tmp_path / "in")
    sections = config(tmp_path / "in", chunk_steps=1).model_dump(mode="json", exclude_defaults=True)
    (tmp_path / "cube.yaml").write_text(yaml.safe_dump(sections))
    build_cube(load_cube_config(tmp_path / "cube.yaml"), tmp_path / "whole.zarr")
    code = f"""
from pathlib import Path
from mimic.cube_build import build_cube
from mimic.cube_sections import load_cube_config
build_cube(load_cube_config(Path({str(tmp_path / "cube.yaml")!r})), Path({str(tmp_path / "c.zarr")!r}))
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    journal = tmp_path / "c.zarr" / "cell" / ".journal.jsonl"
    for n_units in (5, 25):  # of 4 x 12 + 1
        process = subprocess.Popen([sys.executable, "-c", code], env=environment)
        while process.poll() is None:
            if journal.is_file() and journal.read_bytes().count(b"\n") >= n_units:
                process.send_signal(signal.SIGKILL)
                break
            time.sleep(0.005)
        assert process.wait(30) == -signal.SIGKILL
    # a temporary file and half a line, as a kill at the worst moment leaves them
    (tmp_path / "c.zarr" / "sst" / "c" / ".abc.partial").write_bytes(b"half")
    with journal.open("a") as file:
        file.write('{"variable":"ss')
    build_cube(load_cube_config(tmp_path / "cube.yaml"), tmp_path / "c.zarr")
    assert digests(tmp_path / "c.zarr") == digests(tmp_path / "whole.zarr")


# ---------------------------------------------------------------- the lock


def test_a_second_process_is_told_who_is_building(tmp_path: Path) -> None:
    files = tmp_path / "in"
    write_days(files, range(2))
    write_depth(files)
    with (
        hold_lock(tmp_path / "c.zarr" / "cell" / ".lock", "the cube"),
        pytest.raises(LockedError, match=rf"the cube .*c.zarr is being written by process {os.getpid()} on "),
    ):
        build_cube(config(files), tmp_path / "c.zarr")
    build_cube(config(files), tmp_path / "c.zarr")
    assert (tmp_path / "c.zarr" / "cell" / ".lock").read_bytes() == b""


def test_the_lock_of_a_dead_process_is_taken_over(tmp_path: Path) -> None:
    code = f"""
import os, signal
from pathlib import Path
from mimic.locks import hold_lock
with hold_lock(Path({str(tmp_path / "lock")!r}), "x"):
    os.kill(os.getpid(), signal.SIGKILL)
"""
    process = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False)
    assert process.returncode == -signal.SIGKILL
    assert json.loads((tmp_path / "lock").read_text())["pid"] > 0
    with hold_lock(tmp_path / "lock", "x"):
        pass


def test_a_living_owner_on_another_machine_is_respected_and_a_silent_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.write_text(json.dumps({"host": "elsewhere", "pid": 7}))
    with pytest.raises(LockedError, match="by process 7 on elsewhere"), hold_lock(path, "x"):
        pass
    os.utime(path, (0, 0))
    with hold_lock(path, "x"):
        pass
