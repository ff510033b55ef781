"""How benchmarks print: JSON lines on standard output, progress on standard error."""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Callable

__all__ = ["emitter", "peak_memory_mib", "say"]


def emitter(benchmark: str) -> Callable[[str, str, float, str], None]:
    """A function that prints one result: case, metric, value, unit."""

    def emit(case: str, metric: str, value: float, unit: str) -> None:
        line = {"benchmark": benchmark, "case": case, "metric": metric, "value": value, "unit": unit}
        print(json.dumps(line), flush=True)

    return emit


def say(text: str) -> None:
    """Progress on standard error."""
    print(f"[benchmark] {text}", file=sys.stderr, flush=True)


def peak_memory_mib() -> float:
    """The largest resident memory of this process, or of any of its children that have ended, MiB."""
    unit = 1024 if sys.platform == "linux" else 1024**2
    return max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) / unit
