"""Configurations, choice sets and code into short ids: equal content gives equal ids, any difference another one."""

from __future__ import annotations

import ast
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib import metadata, resources
from pathlib import PurePath
from typing import Any

import numpy as np
import pandas as pd

from mimic import __version__
from mimic.schema import DECISION, INDIVIDUAL, SPLIT, ChoiceSets, FeatureInfo, require_columns

__all__ = ["canonical_json", "choices_id", "code_version", "content_id", "run_id", "table_id"]

_LENGTH = 16
# Trainings start here; what these import decides with them.
_ROOTS = ("training", "ensemble", "conditional_logit")
_PACKAGES = ("tensorflow", "keras", "numpy")


def canonical_json(value: Any) -> str:
    """The one JSON text of a value: keys sorted, no spaces, floats as Python writes them.

    Tuples are lists, paths are text with forward slashes, NumPy scalars the Python numbers they hold. The integer 1,
    the float 1.0 and True are three different values.

    Raises
    ------
    ValueError
        If a number is NaN or infinite.
    TypeError
        If a value is of another type, or a key is no text. Both messages name the place.

    Example
    -------
    >>> canonical_json({"units": (24, 24), "rate": 1e-3, "exact": True})
    '{"exact":true,"rate":0.001,"units":[24,24]}'
    """
    return json.dumps(_canonical(value, ""), sort_keys=True, separators=(",", ":"), allow_nan=False)


def content_id(value: Any) -> str:
    """The id of a value: the first 16 hexadecimal digits of SHA-256 over its canonical JSON.

    Raises
    ------
    ValueError, TypeError
        As `canonical_json`.

    Example
    -------
    >>> content_id({"a": 1, "b": 2}) == content_id({"b": 2, "a": 1})
    True
    >>> len({content_id(1), content_id(1.0), content_id(True), content_id("1")})
    4
    """
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:_LENGTH]


def run_id(*, configuration: Mapping[str, Any], data: str, code: str) -> str:
    """The id of a training: of its resolved configuration (seed included), its data and its code version.

    Raises
    ------
    ValueError, TypeError
        As `canonical_json`.
    """
    return content_id({"configuration": configuration, "data": data, "code": code})


def choices_id(cs: ChoiceSets, features: Sequence[str], *, context: Sequence[str] = ()) -> str:
    """The id of the data that a model of these features is trained on.

    Equal for equal offsets, choices, selections, keys, split, and values and roles of these features, in whatever
    order the features are named and whatever else the choice sets hold.

    Parameters
    ----------
    context
        Further columns of the decisions that matter, such as those that weights are conditions on.

    Raises
    ------
    ValueError
        If a feature or a column is unknown.
    """
    unknown = [name for name in features if name not in cs.features]
    if unknown:
        raise ValueError(f"unknown feature {', '.join(unknown)}; known are {', '.join(cs.features)}.")
    require_columns(list(cs.decisions.columns), list(context), where="decisions")
    columns = [INDIVIDUAL, DECISION, *([SPLIT] if SPLIT in cs.decisions else []), *context]
    digest = hashlib.sha256()
    _add(digest, "offsets", cs.offsets)
    _add(digest, "selected", cs.selected)
    _add(digest, "choice", cs.choice)
    for name in dict.fromkeys(columns):
        _add(digest, f"decisions.{name}", cs.decisions[name])
    for name in sorted(set(features)):
        _add(digest, f"features.{name}.{cs.info.get(name, FeatureInfo('choice')).role}", cs.features[name])
    return digest.hexdigest()[:_LENGTH]


def table_id(table: pd.DataFrame) -> str:
    """The id of a table: of its columns in their order, their names, kinds and values; not of its index.

    Missing equals missing; the same numbers as int and as float are two tables.

    Example
    -------
    >>> table_id(pd.DataFrame({"a": [1, 2]})) == table_id(pd.DataFrame({"a": [1, 2]}, index=[5, 6]))
    True
    >>> table_id(pd.DataFrame({"a": [1, 2]})) == table_id(pd.DataFrame({"a": [1.0, 2.0]}))
    False
    """
    digest = hashlib.sha256()
    for number, name in enumerate(table):
        values = table.iloc[:, number]
        if isinstance(values.dtype, np.dtype) and values.dtype.kind == "f":
            values = values.where(values.notna(), np.nan)  # NaN has many bit patterns, and files keep one
        _add(digest, f"{number}.{name}", values)
    return digest.hexdigest()[:_LENGTH]


@lru_cache(maxsize=8)
def code_version(*, roots: tuple[str, ...] = _ROOTS) -> str:
    """What decides about a training beside configuration and data, such as "0.3.0+1f0e2d3c".

    The version of mimic, and a hash over the source of every module that training imports, however indirectly, and
    over the installed versions of TensorFlow, Keras and NumPy, none of which is imported for this. Other `roots`
    (modules of mimic) give the version of what they do.
    """
    digest = hashlib.sha256()
    for name, source in sorted(_deciding_sources(roots).items()):
        digest.update(f"{name}\0{source}\0".encode())
    for package in _PACKAGES:
        digest.update(f"{package}=={_installed(package)}\0".encode())
    return f"{__version__}+{digest.hexdigest()[:8]}"


def _canonical(value: Any, place: str) -> Any:
    """The value in types that JSON knows; `place` leads to it, for messages."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(
                f"expected finite numbers; got {value} at {place or 'the value itself'}. "
                "It equals nothing, or has no JSON; leave it out or write null."
            )
        return value
    if isinstance(value, PurePath):
        return value.as_posix()
    if isinstance(value, Mapping):
        return {_key(k, place): _canonical(v, f"{place}.{k}" if place else str(k)) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_canonical(v, f"{place}[{number}]") for number, v in enumerate(value)]
    raise TypeError(
        "expected text, numbers, booleans, None, paths, lists and mappings; "
        f"got {type(value).__name__} at {place or 'the value itself'}. Convert it first."
    )


def _key(key: object, place: str) -> str:
    if not isinstance(key, str):  # 1 and "1" would become the same key
        raise TypeError(f"expected keys that are text; got {key!r} in {place or 'the mapping'}. Write it as text.")
    return key


def _add(digest: Any, name: str, values: np.ndarray | pd.Series) -> None:
    """Hash a column under its name: numbers as little-endian bytes, everything else as codes and names."""
    names: list[str] = []
    array = np.asarray(values)
    if array.dtype.kind in "iub":
        array = array.astype("<i8", copy=False)
    elif array.dtype.kind == "M":
        array = array.astype("datetime64[ns]").astype("<i8")
    elif array.dtype.kind == "f":
        array = array.astype(array.dtype.newbyteorder("<"), copy=False)
    else:
        codes, distinct = pd.factorize(np.asarray(array, dtype=object))
        array, names = codes.astype("<i8", copy=False), [str(one) for one in distinct]
    digest.update(f"{json.dumps([name, array.dtype.str, array.shape, names])}\n".encode())
    digest.update(np.ascontiguousarray(array).data)


def _deciding_sources(roots: tuple[str, ...] = _ROOTS) -> dict[str, str]:
    """The source of each module of mimic that a training may run: the roots and all that they import."""
    folder = resources.files("mimic")
    sources: dict[str, str] = {}
    waiting = list(roots)
    while waiting:
        name = waiting.pop()
        file = folder / f"{name}.py"
        if name not in sources and file.is_file():
            sources[name] = file.read_text(encoding="utf-8")
            waiting += _imported(sources[name])
    return sources


def _imported(source: str) -> list[str]:
    """The modules of mimic that a source imports, anywhere in it."""
    found: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    parts = [name.split(".") for name in found]
    return [part[1] for part in parts if part[0] == "mimic" and len(part) > 1]


def _installed(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "none"
