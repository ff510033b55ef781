"""What of a cube is finished, into a journal that a killed build goes on from and a growing cube is held against."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mimic.wholefile import write_whole

__all__ = ["JOURNAL", "LOCK", "Journal", "Unit", "digest_lines"]

# In the folder of an array, where Zarr looks for nothing but its chunks: beside the arrays it would warn of them.
JOURNAL = "cell/.journal.jsonl"
LOCK = "cell/.lock"


@dataclass(frozen=True)
class Unit:
    """A finished chunk of a variable.

    Parameters
    ----------
    variable, chunk
        Which.
    definition
        Hash of how the variable is made.
    n_inputs, inputs
        How many fields of files it was made of, and their hash.
    files
        Key of each file -> (SHA-256, bytes).
    n, missing
        Values, and how many of them are missing.
    """

    variable: str
    chunk: int
    definition: str
    n_inputs: int
    inputs: str
    files: Mapping[str, Any] = field(default_factory=dict)
    n: int = 0
    missing: int = 0

    def is_whole(self, folder: Path) -> bool:
        """Whether its files are there, of their size."""
        paths = {folder / self.variable / key: size for key, (_, size) in self.files.items()}
        return all(path.is_file() and path.stat().st_size == size for path, size in paths.items())


class Journal:
    """The units finished so far, in a file: a line is added for each, and the whole written anew at the end.

    Parameters
    ----------
    folder
        Of the store.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / JOURNAL
        self.header: dict[str, Any] = {}
        self.units: dict[tuple[str, int], Unit] = {}
        lines = self.path.read_bytes().split(b"\n") if self.path.is_file() else []
        for line in lines:
            try:
                entry = json.loads(line)
            except ValueError:
                continue  # the last one, cut off by a kill
            if "variable" in entry:
                unit = Unit(**entry)
                self.units[unit.variable, unit.chunk] = unit
            else:
                self.header = entry
        self._is_torn = bool(lines) and lines[-1] != b""

    def set_header(self, header: Mapping[str, Any]) -> None:
        """Note what the cube is to become."""
        self.header = dict(header)
        self._append(self.header)

    def add(self, unit: Unit) -> None:
        """Note a unit whose files are written."""
        self.units[unit.variable, unit.chunk] = unit
        self._append(unit.__dict__)

    def settle(self) -> None:
        """Write the journal in an order that tells nothing of how the build went."""
        units = [self.units[key].__dict__ for key in sorted(self.units)]
        write_whole(self.path, "".join(_line(entry) for entry in [self.header, *units]).encode())

    def _append(self, entry: Mapping[str, Any]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            if self._is_torn:
                file.write("\n")
                self._is_torn = False
            file.write(_line(entry))
            file.flush()
            os.fsync(file.fileno())


def digest_lines(lines: Iterable[str]) -> str:
    """A hash over lines of text."""
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def _line(entry: Mapping[str, Any]) -> str:
    return json.dumps(entry, sort_keys=True, separators=(",", ":")) + "\n"
