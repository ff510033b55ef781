"""A file into a lock that one process holds at a time, with the name of its owner; a dead owner's lock is taken over."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

__all__ = ["LockedError", "hold_lock"]

HEARTBEAT_S = 5.0
STALE_S = 120.0
"""An owner on another machine that has given no sign of life for this long is taken for dead."""


class LockedError(OSError):
    """Another process holds the lock."""


@contextmanager
def hold_lock(path: Path, what: str) -> Iterator[None]:
    """Hold a lock while the block runs.

    Parameters
    ----------
    path
        The lock file; made where there is none, and left empty behind.
    what
        What is locked, for the message.

    Raises
    ------
    LockedError
        If another process holds it; the message names the process, its machine and its last sign of life.

    Notes
    -----
    The lock is that of the operating system (flock), which ends with its process, even by kill -9. Some network file
    systems keep such locks on each machine by itself: so the owner writes its name into the file and touches it every
    few seconds, and an owner on another machine that did so within `STALE_S` is respected too.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise LockedError(_message(what, _owner(file), path)) from None
        owner = _owner(file)
        is_elsewhere = owner.get("host") not in (None, socket.gethostname())
        if is_elsewhere and time.time() - path.stat().st_mtime < STALE_S:
            raise LockedError(_message(what, owner, path))
        _write(file, json.dumps({"host": socket.gethostname(), "pid": os.getpid()}))
        ended = threading.Event()
        heart = threading.Thread(target=_beat, args=(path, ended), daemon=True)
        heart.start()
        try:
            yield
        finally:
            ended.set()
            heart.join()
            _write(file, "")


def _beat(path: Path, ended: threading.Event) -> None:
    while not ended.wait(HEARTBEAT_S):
        if path.exists():
            os.utime(path)


def _owner(file: IO[str]) -> dict[str, Any]:
    file.seek(0)
    try:
        owner = json.loads(file.read())
    except ValueError:
        return {}
    return owner if isinstance(owner, dict) else {}


def _write(file: IO[str], text: str) -> None:
    file.seek(0)
    file.truncate()
    file.write(text)
    file.flush()


def _message(what: str, owner: dict[str, Any], path: Path) -> str:
    age = max(0.0, time.time() - path.stat().st_mtime)
    who = f"process {owner['pid']} on {owner['host']}" if {"pid", "host"} <= set(owner) else "another process"
    return f"{what} is being written by {who} (last sign of life {age:.0f} s ago). Wait for it, or stop it first."
