"""A YAML file into the mapping that it holds, in which no key may be written twice."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

__all__ = ["read_yaml"]


_SEEN = {type(None): "an empty file", list: "a list"}


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping a YAML file holds.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no such file, it is no YAML, a key is written twice, or it holds no mapping.
    """
    if not path.is_file():
        what = "which is a folder" if path.is_dir() else "but there is no such file"
        raise FileNotFoundError(f"expected a YAML file; got {path}, {what}. Check the path.")
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), Loader=_OnceLoader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        said = " ".join(str(error).split()).replace(' in "<unicode string>",', " at")
        raise ValueError(f"{path} is no valid YAML: {said}") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    if not isinstance(data, dict):
        raise ValueError(
            f"{path}: expected sections, such as name: and what belongs to it; got {_SEEN.get(type(data), 'a single value')}."
        )
    return data


class _OnceLoader(yaml.SafeLoader):
    """A YAML loader that refuses a key written twice (plain YAML silently keeps the last)."""


def _mapping_once(loader: _OnceLoader, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
    seen: set[Hashable] = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, Hashable):
            raise ValueError(f"line {key_node.start_mark.line + 1}: a key must be a word or a number; got {key}.")
        if key in seen:
            raise ValueError(f"line {key_node.start_mark.line + 1}: the key {key} is written twice; keep one.")
        seen.add(key)
    loader.flatten_mapping(node)
    return loader.construct_mapping(node, deep=deep)


_OnceLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping_once)
