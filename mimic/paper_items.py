"""What a paper is made of, before it is recorded: subjects with their numbers, tables and figures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

__all__ = ["NUMBER_COLUMNS", "PaperFigure", "PaperTable", "Subject", "are_words"]

NUMBER_COLUMNS = ["name", "value", "text"]
"""Columns of a table of numbers: a name below the subject, the value, and how a paper prints it."""

_STARTS = "0123456789<\N{MINUS SIGN}\N{EN DASH}\N{INFINITY}"


@dataclass(frozen=True, eq=False)
class PaperTable:
    """One table of a paper.

    Parameters
    ----------
    name
        Below that of its subject.
    caption
        Without a final stop.
    values
        The numbers as they are.
    shown
        Text, (row, column): what is printed; its columns are the headings.
    sources
        What it is made from, by the names of `Subject.sources`.
    """

    name: str
    caption: str
    values: pd.DataFrame
    shown: pd.DataFrame
    sources: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class PaperFigure:
    """One figure of a paper: tidy tables, and what draws them.

    Parameters
    ----------
    name, caption, sources
        As of a `PaperTable`.
    tables
        Name -> the tidy table that is drawn.
    draw
        Makes the figure of matplotlib, which is imported then.
    width_cm
        As it is drawn: that of a column or of a page.
    """

    name: str
    caption: str
    sources: tuple[str, ...]
    tables: Mapping[str, pd.DataFrame]
    draw: Callable[[], Any]
    width_cm: float


@dataclass(frozen=True, eq=False)
class Subject:
    """What a paper is about: a study, or a simulation.

    Parameters
    ----------
    name
        By which a text asks for it.
    run_ids
        The runs behind all of its items, in order.
    sources
        Name of what items are made from -> id of its content now.
    facts
        What a text may say of it beside numbers: its title, models, settings.
    numbers
        Computes the table of its numbers, `NUMBER_COLUMNS`.
    tables, figures
        Makers, called one after the other; one that has nothing to show gives None.
    """

    name: str
    run_ids: Sequence[str]
    sources: Mapping[str, str]
    facts: Mapping[str, Any]
    numbers: Callable[[], pd.DataFrame]
    tables: Iterable[Callable[[], PaperTable | None]] = field(default_factory=tuple)
    figures: Iterable[Callable[[], PaperFigure | list[PaperFigure] | None]] = field(default_factory=tuple)


def are_words(column: Iterable[str]) -> bool:
    """Whether a column of printed text is one of words, set to the left, and not of numbers."""
    return not all(not text or text[0] in _STARTS for text in column)
