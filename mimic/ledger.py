"""The ledger: every row that a step dropped or changed, with its reason, count and example ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from mimic.schema import examples

__all__ = ["Entry", "Ledger", "Unit"]

Unit = Literal["fix", "decision", "choice", "individual"]

_PLURAL = {"fix": "fixes", "decision": "decisions", "choice": "choices", "individual": "individuals"}


@dataclass(frozen=True)
class Entry:
    """One line of the ledger: `n` things of kind `unit` were dropped (or changed) for a reason."""

    stage: str
    reason: str
    n: int
    example: str
    unit: Unit
    action: Literal["dropped", "changed"] = "dropped"


@dataclass(frozen=True)
class Ledger:
    """An account of what happened to the rows: immutable, joined with `+`.

    A decision is a fix that has a next fix, so fixes and decisions count on one account:
    rows read = decisions out + everything dropped with unit "fix" or "decision". Choices
    (rows of choice sets) are a second account.

    Example
    -------
    >>> ledger = Ledger().dropped("clean", "duplicate time", ["fish 1 2020-01-01"], unit="fix")
    >>> ledger.n_dropped("fix")
    1
    """

    entries: tuple[Entry, ...] = ()

    def __add__(self, other: Ledger) -> Ledger:
        return Ledger(self.entries + other.entries)

    def dropped(
        self,
        stage: str,
        reason: str,
        ids: Sequence[object] | np.ndarray | pd.Series,
        *,
        unit: Unit,
        n: int | None = None,
    ) -> Ledger:
        """The ledger with one more line; nothing is written when no row was dropped.

        `n` is the count where `ids` holds only examples; by default every id is one dropped row.
        """
        return self._with(stage, reason, ids, unit, "dropped", n)

    def changed(
        self,
        stage: str,
        reason: str,
        ids: Sequence[object] | np.ndarray | pd.Series,
        *,
        unit: Unit,
        n: int | None = None,
    ) -> Ledger:
        """The ledger with a line on rows that stayed but were altered (filled, moved, renamed)."""
        return self._with(stage, reason, ids, unit, "changed", n)

    def _with(
        self,
        stage: str,
        reason: str,
        ids: Sequence[object] | np.ndarray | pd.Series,
        unit: Unit,
        action: Literal["dropped", "changed"],
        n: int | None,
    ) -> Ledger:
        count = len(ids) if n is None else int(n)
        if count == 0:
            return self
        return Ledger((*self.entries, Entry(stage, reason, count, examples(ids), unit, action)))

    def n_dropped(self, *units: Unit) -> int:
        """How many things were dropped, of the given units (all units if none is named)."""
        return sum(e.n for e in self.entries if e.action == "dropped" and (not units or e.unit in units))

    def check(self, n_in: int, n_out: int, *units: Unit) -> None:
        """Raise RuntimeError unless rows in = rows out + dropped by reason: a fault of mimic, not of the data."""
        if n_in != n_out + self.n_dropped(*units):
            raise RuntimeError(
                f"the ledger does not balance: {n_in} in, {n_out} out, {self.n_dropped(*units)} dropped by reason.\n"
                + self.explain()
            )

    def to_frame(self) -> pd.DataFrame:
        """One row a line: stage, reason, n, example, unit, action."""
        columns = ["stage", "reason", "n", "example", "unit", "action"]
        return pd.DataFrame([[getattr(e, c) for c in columns] for e in self.entries], columns=columns)

    def explain(self, *, with_examples: bool = True) -> str:
        """The ledger as text, one line an entry."""
        if not self.entries:
            return "  (nothing was dropped)"
        return "\n".join(
            f"  {e.stage}: {e.n:,} {e.unit if e.n == 1 else _PLURAL[e.unit]} {e.action}: {e.reason}"
            + (f" (e.g. {e.example})" if with_examples and e.example else "")
            for e in self.entries
        )
