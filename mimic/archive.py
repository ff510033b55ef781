"""ChoiceSets into a folder of two Parquet files, and back exactly as they were."""

from __future__ import annotations

import hashlib
import json
import shutil
import uuid
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from mimic.schema import ChoiceSets, FeatureInfo

__all__ = ["load_choices", "new_folder", "save_choices"]

DECISIONS_FILE = "decisions.parquet"
CHOICES_FILE = "choices.parquet"

# the underscore keeps these apart from context columns and features of the same name
_N_CHOICES = "_n_choices"
_SELECTED_INDEX = "_selected_index"
_CHOICE = "_choice"
_KEY = b"mimic"
_FORMAT = 1
_ROW_GROUP = 1_000_000


def save_choices(choice_sets: ChoiceSets, path: str | Path) -> Path:
    """The folder in which the choice sets now lie.

    It holds `decisions.parquet` (individual, decision, context, and `_n_choices` and `_selected_index`, the
    position of the selected choice within its decision, -1 where unknown) and `choices.parquet` (`_choice`
    and the features, float32), with roles and units of the features as JSON under the key `mimic` of the
    schema. The folder is written under a temporary name and renamed, so it is there as a whole or not at all.

    Raises
    ------
    FileExistsError
        If the target exists.
    ValueError
        If a column holds values that Parquet has no type for.
    """
    cs, path = choice_sets, Path(path)
    if path.exists():
        raise FileExistsError(f"{path} exists already and is not overwritten; give another folder or remove it first.")
    within = np.where(cs.selected >= 0, cs.selected - cs.offsets[:-1], -1)
    decisions = cs.decisions.assign(**{_N_CHOICES: cs.n_choices, _SELECTED_INDEX: within})
    try:
        decision_table = pa.Table.from_pandas(decisions, preserve_index=False)
        choice_table = pa.table({_CHOICE: pa.array(cs.choice), **{n: pa.array(v) for n, v in cs.features.items()}})
    except (pa.ArrowException, TypeError) as error:
        raise ValueError(f"cannot save these choice sets: {error}. Let each column hold one kind of value.") from None
    objects = [str(name) for name, dtype in decisions.dtypes.items() if dtype.kind == "O" and str(dtype) == "object"]
    infos = {name: asdict(info) for name, info in cs.info.items()}
    with new_folder(path) as folder:
        _write(decision_table, folder / DECISIONS_FILE, {"format": _FORMAT, "objects": objects})
        about = {"format": _FORMAT, "choice_dtype": cs.choice.dtype.str, "features": infos}
        about["offsets"] = _checksum(cs.offsets)
        _write(choice_table, folder / CHOICES_FILE, about)
    return path


def load_choices(path: str | Path, *, memory_map: bool = False) -> ChoiceSets:
    """The choice sets that `save_choices` wrote.

    Parameters
    ----------
    path
        The folder.
    memory_map
        Whether features stay on disk and are read as they are used. Parquet is compressed, so at the first
        time they are unpacked beside it, into a folder `unpacked-...` (4 bytes a value), which later loads
        use again and which may be deleted at any time.

    Raises
    ------
    FileNotFoundError
        If the folder or one of its two files is missing.
    ValueError
        If a file is corrupt, was written by something else, or the two do not belong together.
    """
    path = Path(path)
    for file in (path / DECISIONS_FILE, path / CHOICES_FILE):
        if not file.is_file():
            raise FileNotFoundError(
                f"no choice sets in {path}: {file.name} is missing. Give a folder made by save_choices, such as choices in that of a run."
            )
    decisions, offsets, selected = _read_decisions(path / DECISIONS_FILE)
    file, about = _open(path / CHOICES_FILE)
    infos = {name: FeatureInfo(**info) for name, info in about["features"].items()}
    if about["offsets"] != _checksum(offsets) or file.metadata.num_rows != offsets[-1]:
        raise ValueError(
            f"{path}: {DECISIONS_FILE} tells of {offsets[-1]} choices, {CHOICES_FILE} holds {file.metadata.num_rows}, "
            "or of other decisions; the two files are not of one writing. Save the choice sets again."
        )
    with _readable(path / CHOICES_FILE):
        choice = _column(file, _CHOICE).astype(np.dtype(about["choice_dtype"]), copy=False)
        if memory_map:
            features = _mapped(file, list(infos), _unpacked_folder(path / CHOICES_FILE))
        else:
            features = {name: _column(file, name) for name in infos}
    return ChoiceSets(decisions, offsets, choice, selected, features, infos)


def _read_decisions(path: Path) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """Decisions, offsets and selected rows."""
    file, about = _open(path)
    with _readable(path):
        decisions = file.read().to_pandas()
    for name in about["objects"]:  # pandas gives text a type of its own on reading
        decisions[name] = decisions[name].astype(object).where(decisions[name].notna(), None)
    counts, within = decisions.pop(_N_CHOICES).to_numpy(), decisions.pop(_SELECTED_INDEX).to_numpy()
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return decisions, offsets, np.where(within >= 0, offsets[:-1] + within, -1)


def _checksum(offsets: np.ndarray) -> int:
    return zlib.crc32(offsets.astype("<i8").tobytes())


def _open(path: Path) -> tuple[pq.ParquetFile, dict]:
    """A Parquet file of ours and what its schema says about it."""
    with _readable(path):
        file = pq.ParquetFile(path)
    about = json.loads((file.schema_arrow.metadata or {}).get(_KEY, b"{}"))
    if about.get("format") != _FORMAT:
        raise ValueError(
            f"{path} was not written by this version of save_choices (format {about.get('format')}, expected "
            f"{_FORMAT}); read a long table with read_choice_table instead."
        )
    return file, about


def _column(file: pq.ParquetFile, name: str) -> np.ndarray:
    return file.read(columns=[name]).column(name).to_numpy()


def _mapped(file: pq.ParquetFile, names: list[str], folder: Path) -> dict[str, np.ndarray]:
    """Features as memory-mapped arrays, unpacked row group by row group where they are not yet."""
    if not folder.is_dir():
        with new_folder(folder) as unpacked:
            for k, name in enumerate(names):
                shape = (file.metadata.num_rows,)
                values = np.lib.format.open_memmap(unpacked / f"{k}.npy", mode="w+", dtype=np.float32, shape=shape)
                start = 0
                for batch in file.iter_batches(_ROW_GROUP, columns=[name]):
                    values[start : start + len(batch)] = batch.column(name).to_numpy()
                    start += len(batch)
                values.flush()
    return {name: np.load(folder / f"{k}.npy", mmap_mode="r") for k, name in enumerate(names)}


def _unpacked_folder(path: Path) -> Path:
    # the end of a Parquet file holds counts, places and extremes of all columns: it tells one file from another
    with path.open("rb") as stream:
        stream.seek(-min(path.stat().st_size, 1 << 20), 2)
        return path.with_name(f"unpacked-{hashlib.sha256(stream.read()).hexdigest()[:16]}")


def _write(table: pa.Table, path: Path, about: dict) -> None:
    metadata = {**(table.schema.metadata or {}), _KEY: json.dumps(about).encode()}
    pq.write_table(table.replace_schema_metadata(metadata), path, compression="zstd", row_group_size=_ROW_GROUP)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A folder to write into, which gets its name when all went well and vanishes otherwise."""
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.partial")
    partial.mkdir(parents=True)
    try:
        yield partial
        partial.rename(path)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, KeyError) as error:
        raise ValueError(
            f"{path} cannot be read as Parquet; it is corrupt or cut short ({error}). Write it again."
        ) from error
