"""What a command found into what it prints: one JSON object, or text."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from typing import Any

__all__ = ["answer", "plain"]


def answer(result: dict[str, Any], as_json: bool, text: Callable[[], str]) -> None:
    """Print a result on standard output, and nothing else."""
    sys.stdout.write((json.dumps(plain(result), allow_nan=False) if as_json else text()) + "\n")


def plain(value: Any) -> Any:
    """Values that JSON knows: NaN, infinities and missing values become null, NumPy scalars Python numbers."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if hasattr(value, "isoformat"):
        return value.isoformat() if value == value else None  # NaT differs from itself
    if hasattr(value, "item") and not isinstance(value, (str, bytes)):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, (str, int, float, bool)) or value is None else str(value)
