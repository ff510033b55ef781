"""Arrays on cells into the files of a Zarr store (version 3, zstd), each written whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mimic.wholefile import PARTIAL

__all__ = [
    "array_metadata",
    "chunk_key",
    "encode_chunk",
    "group_metadata",
    "metadata_bytes",
    "remove_partial",
]

ZSTD_LEVEL = 3
_TYPES = {"float32": ("<f4", "NaN"), "int64": ("<i8", 0)}


def remove_partial(folder: Path) -> None:
    """Remove what writers that were killed have left under temporary names; only while nobody else writes."""
    for path in folder.rglob(f".*{PARTIAL}"):
        path.unlink(missing_ok=True)


def chunk_key(*position: int) -> str:
    """Where a chunk lies in the folder of its array.

    Example
    -------
    >>> chunk_key(3, 0)
    'c/3/0'
    """
    return "/".join(["c", *map(str, position)])


def encode_chunk(values: np.ndarray, shape: Sequence[int]) -> bytes:
    """The bytes of a chunk: values in the corner of a block of the chunk's shape, the rest filled."""
    import numcodecs

    kind, fill = _TYPES[str(values.dtype)]
    block = np.full(tuple(shape), np.nan if fill == "NaN" else fill, dtype=kind)
    block[tuple(slice(0, n) for n in values.shape)] = values
    return bytes(numcodecs.Zstd(level=ZSTD_LEVEL).encode(block.tobytes()))


def array_metadata(
    shape: Sequence[int], chunks: Sequence[int], dtype: str, dims: Sequence[str], attributes: Mapping[str, Any]
) -> dict[str, Any]:
    """The `zarr.json` of an array."""
    return {
        "shape": list(shape),
        "data_type": dtype,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(chunks)}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": _TYPES[dtype][1],
        "codecs": [
            {"name": "bytes", "configuration": {"endian": "little"}},
            {"name": "zstd", "configuration": {"level": ZSTD_LEVEL, "checksum": False}},
        ],
        "attributes": dict(attributes),
        "dimension_names": list(dims),
        "zarr_format": 3,
        "node_type": "array",
        "storage_transformers": [],
    }


def group_metadata(arrays: Mapping[str, Mapping[str, Any]], attributes: Mapping[str, Any]) -> dict[str, Any]:
    """The `zarr.json` of the store, with that of every array in it: one rename switches a reader to a new state."""
    return {
        "attributes": dict(attributes),
        "zarr_format": 3,
        "node_type": "group",
        "consolidated_metadata": {
            "kind": "inline",
            "must_understand": False,
            "metadata": {name: dict(arrays[name]) for name in sorted(arrays)},
        },
    }


def metadata_bytes(metadata: Mapping[str, Any]) -> bytes:
    """Metadata as the text of a file."""
    return (json.dumps(metadata, indent=2, allow_nan=False) + "\n").encode()
