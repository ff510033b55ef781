"""Files into a content-addressed store: each under the hash of its bytes, written whole or not at all."""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from mimic.wholefile import write_whole

__all__ = ["FileStore"]

_ADDRESS = re.compile(r"([0-9a-f]{64})(\.\w+)*")
_SUFFIX = re.compile(r"(\.\w+)*")


@dataclass(frozen=True)
class FileStore:
    """A folder of files named by content: `files/ab/abcd...keras`. Several processes may write at once.

    Parameters
    ----------
    folder
        Made when the first file is put. What is archived goes into the folder `archive` beside it.
    """

    folder: Path

    @property
    def archive_folder(self) -> Path:
        return self.folder.parent / "archive"

    def put(self, content: str | Path | bytes, suffix: str | None = None) -> str:
        """Copy a file, or bytes, into the store and get its address: SHA-256 of its bytes, 64 hexadecimal digits.

        Content that is there already is not written again.

        Parameters
        ----------
        suffix
            Such as ".keras"; by default that of the file, and none for bytes.

        Raises
        ------
        FileNotFoundError, ValueError
            If there is no such file, or the suffix is none.
        """
        if isinstance(content, bytes):
            raw, suffix = content, suffix or ""
        else:
            path = Path(content)
            if not path.is_file():
                raise FileNotFoundError(f"expected a file to store; there is none at {path}.")
            raw, suffix = path.read_bytes(), path.suffix if suffix is None else suffix
        if not _SUFFIX.fullmatch(suffix):
            raise ValueError(f'a suffix is a dot and letters, such as ".keras"; got {suffix!r}.')
        address = hashlib.sha256(raw).hexdigest()
        known = self.find(address)
        if known is not None and known.stat().st_size == len(raw):
            os.utime(known)  # it is wanted again from now on
        else:
            write_whole(self.folder / address[:2] / f"{address}{suffix}", raw)
        return address

    def find(self, address: str) -> Path | None:
        """The file at an address, or None."""
        return next(iter(sorted((self.folder / address[:2]).glob(f"{address}*"))), None)

    def path(self, address: str) -> Path:
        """The file at an address.

        Raises
        ------
        FileNotFoundError
            If it is not there; the message says when it lies in the archive.
        """
        found = self.find(address)
        if found is None:
            archived = sorted(self.archive_folder.rglob(f"{address}*"))
            where = f"it was archived as {archived[0]}; move it back" if archived else "train again to get another"
            raise FileNotFoundError(f"no file {address[:12]}... in {self.folder}; {where}.")
        return found

    def unwanted(self, wanted: Collection[str], *, known: Collection[str], fresh_s: float) -> list[Path]:
        """Files at no wanted address, but for those that may be on their way to becoming wanted.

        Parameters
        ----------
        known
            Addresses that were wanted once. Others, younger than `fresh_s` seconds, are left out.
        """
        now = time.time()
        found = []
        for path in sorted(p for p in self.folder.rglob("*") if p.is_file()):
            match = _ADDRESS.fullmatch(path.name)
            address = match[1] if match else ""
            is_fresh = address not in known and now - path.stat().st_mtime < fresh_s
            if address not in wanted and not is_fresh:
                found.append(path)
        return found

    def archive(self, paths: Collection[Path]) -> list[Path]:
        """Move files of the store into the archive, never over another one, and get their new places."""
        moved = []
        for path in paths:
            target = self.archive_folder / path.relative_to(self.folder)
            number = 1
            while target.exists():
                number += 1
                target = target.with_name(f"{path.stem}-{number}{path.suffix}")
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(path, target)
            moved.append(target)
        return moved
