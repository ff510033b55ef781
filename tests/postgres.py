"""A PostgreSQL cluster of its own for tests: in a temporary folder, on a socket, gone afterwards."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["absence", "cluster"]


def absence() -> str | None:
    """Why there can be no cluster here, or None."""
    for program in ("initdb", "postgres"):
        if shutil.which(program) is None:
            return f"PostgreSQL is absent: no {program} on the path"
    if importlib.util.find_spec("psycopg") is None:
        return 'psycopg is absent: pip install "mimic[postgres]"'
    if os.getuid() == 0 and _user() is None:
        return "PostgreSQL does not run as root, and there is no user postgres or nobody"
    return None


@contextmanager
def cluster() -> Iterator[str]:
    """The URL of a running cluster's database `postgres`."""
    folder = Path(tempfile.mkdtemp(prefix="mimic-postgres-"))
    user = _user() if os.getuid() == 0 else None
    try:
        if user is not None:
            shutil.chown(folder, user)
        data = str(folder / "data")
        subprocess.run(
            ["initdb", "-D", data, "-U", "mimic", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"],
            **{"check": True, "capture_output": True, "cwd": folder, "user": user},
        )
        options = ["listen_addresses=", "fsync=off", "max_connections=30", "shared_buffers=16MB"]
        server = subprocess.Popen(
            ["postgres", "-D", data, "-k", str(folder), *(word for o in options for word in ("-c", o))],
            **{"cwd": folder, "user": user, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL},
        )
        try:
            url = f"postgresql://mimic@/postgres?host={folder}"
            _wait(url, server)
            yield url
        finally:
            server.send_signal(signal.SIGINT)  # at once; SIGTERM would wait for clients to go
            server.wait(timeout=30)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _user() -> str | None:
    """Somebody other than root, which PostgreSQL refuses."""
    known = {entry.pw_name for entry in pwd.getpwall()}
    return next((name for name in ("postgres", "nobody") if name in known), None)


def _wait(url: str, server: subprocess.Popen[bytes]) -> None:
    import psycopg

    for _ in range(200):
        if server.poll() is not None:
            raise RuntimeError(f"postgres ended with code {server.returncode}")
        try:
            psycopg.connect(url).close()
            return
        except psycopg.OperationalError:
            time.sleep(0.05)
    raise TimeoutError("postgres did not answer within 10 s")
