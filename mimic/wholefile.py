"""Bytes into a file that is there as a whole or not at all."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

__all__ = ["PARTIAL", "write_whole"]

PARTIAL = ".partial"
"""How temporary names end; they begin with a dot."""


def write_whole(path: Path, raw: bytes) -> str:
    """Write a file under a temporary name and rename it; SHA-256 of its bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=PARTIAL)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(raw)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    return hashlib.sha256(raw).hexdigest()
