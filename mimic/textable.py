"""Cells of text into a table of aligned columns."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import pandas as pd

__all__ = ["align", "number", "with_interval"]


def align(lines: Sequence[Sequence[str]], left: Collection[int]) -> list[str]:
    """The lines with columns two blanks apart; those of these numbers, from 0, to the left and the others to the right.

    Example
    -------
    >>> print(*align([["model", "D"], ["none", "-2.89"]], {0}), sep="\\n")
    model      D
    none   -2.89
    """
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if k in left else cell.rjust(width)
            for k, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]


def number(value: float, form: str) -> str:
    """A number in a form such as "{:.3f}"; "-" for one that does not exist."""
    return "-" if np.isnan(value) else form.format(value)


def with_interval(table: pd.DataFrame, name: str, form: str) -> list[str]:
    """The figures of a column with the interval in `NAME_low` and `NAME_high` in brackets, where there is one."""
    return [
        number(x, form) + ("" if np.isnan(low) else f" ({form.format(low)} to {form.format(high)})")
        for x, low, high in zip(table[name], table[f"{name}_low"], table[f"{name}_high"], strict=True)
    ]
