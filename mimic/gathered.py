"""Choice rows in pieces and feature definitions into columns of features, gathered when they are asked for."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property

import numpy as np

from mimic.choice_rows import Rows
from mimic.factored import Factored
from mimic.features import FeatureSpec, compute_feature, is_of_step
from mimic.schema import Columns, FeatureInfo
from mimic.spans import blocks

__all__ = ["GatheredFeatures"]

KEPT_BYTES = 1_000_000_000
"""Columns gathered last are kept up to this size."""


class GatheredFeatures(Columns):
    """Features of choice rows held in pieces; equal, bit for bit, to what would be computed for all rows at once.

    Parameters
    ----------
    pieces
        Of which every choice row is a choice.
    specs
        What to compute, in this order.
    more
        Further columns that are held: name -> (row,), float32.
    order
        All names in the order in which they are listed; by default those that are computed, then the others.
    """

    def __init__(
        self,
        pieces: Factored,
        specs: Sequence[FeatureSpec],
        more: Mapping[str, np.ndarray] | None = None,
        *,
        order: Sequence[str] = (),
    ) -> None:
        self.pieces = pieces
        self.specs = {spec.name: spec for spec in specs}
        self.more = {name: np.asarray(values, dtype=np.float32) for name, values in (more or {}).items()}
        known = {**self.specs, **self.more}
        self._order = tuple(dict.fromkeys([*(name for name in order if name in known), *known]))
        self._of_step: dict[str, np.ndarray] = {}
        self._kept: OrderedDict[str, np.ndarray] = OrderedDict()

    def __getstate__(self) -> dict[str, object]:
        return {**vars(self), "_kept": OrderedDict()}  # to be gathered again where it goes

    @cached_property
    def info(self) -> dict[str, FeatureInfo]:
        """Role and unit of every feature that is gathered."""
        nothing = self.pieces.rows(0, 0)
        return {name: compute_feature(spec, nothing)[1] for name, spec in self.specs.items()}

    @property
    def n_rows(self) -> int:
        return self.pieces.n_rows

    def __getitem__(self, name: str) -> np.ndarray:
        if name in self.more:
            return self.more[name]
        if name not in self.specs:
            raise KeyError(name)
        if name not in self._kept:
            self._kept[name] = self.gather([name])[name]
        self._kept.move_to_end(name)
        while len(self._kept) > 1 and sum(c.nbytes for c in self._kept.values()) > KEPT_BYTES:
            self._kept.popitem(last=False)
        return self._kept[name]

    def __contains__(self, name: object) -> bool:
        return name in self.specs or name in self.more

    def __iter__(self) -> Iterator[str]:
        yield from self._order

    def __len__(self) -> int:
        return len(self._order)

    def gather(self, names: Sequence[str] | None = None) -> dict[str, np.ndarray]:
        """Columns in memory: name -> (row,), float32; all by default. Blocks of decisions are shared by all processors."""
        names = list(self.specs) if names is None else list(names)
        columns = {name: np.empty(self.n_rows, dtype=np.float32) for name in names}

        def fill(span: tuple[int, int]) -> None:
            start, stop = int(self.pieces.offsets[span[0]]), int(self.pieces.offsets[span[1]])
            for name, values in self.block(*span, names).items():
                columns[name][start:stop] = values

        spans = blocks(self.pieces.n_decisions)
        if len(spans) > 1:
            self._steps(names)
            with ThreadPoolExecutor(min(os.cpu_count() or 1, 4)) as pool:
                list(pool.map(fill, spans))
        elif spans:
            columns = self.block(*spans[0], names)
        return columns

    def block(self, first: int, last: int, names: Sequence[str]) -> dict[str, np.ndarray]:
        self._steps(names)
        start, stop = int(self.pieces.offsets[first]), int(self.pieces.offsets[last])
        rows: Rows | None = None
        of_decision: Rows | None = None
        table_row = self.pieces.table_row[start:stop].astype(np.intp)
        found: dict[str, np.ndarray] = {}
        for name in names:
            if name in self.more:
                found[name] = self.more[name][start:stop]
            elif name in self._of_step:
                found[name] = self._of_step[name].take(table_row)
            elif self.info[name].role == "decision":
                of_decision = of_decision or self.pieces.decision_rows(first, last)
                values = compute_feature(self.specs[name], of_decision)[0]
                found[name] = np.repeat(values, np.diff(self.pieces.offsets[first : last + 1]))
            else:
                rows = rows or self.pieces.rows(first, last)
                found[name] = self._of_row(self.specs[name], rows)
        return found

    def pick(self, decisions: np.ndarray, names: Sequence[str]) -> dict[str, np.ndarray]:
        pieces, rows = self.pieces.pick(decisions)
        more = {name: self.more[name][rows] for name in names if name in self.more}
        picked = GatheredFeatures(pieces, [self.specs[n] for n in names if n in self.specs], more)
        picked._of_step, vars(picked)["info"] = self._of_step, self.info
        self._steps(names)
        return picked.block(0, pieces.n_decisions, names)

    def take(self, keep_decision: np.ndarray, keep_row: np.ndarray) -> GatheredFeatures:
        more = {name: values[keep_row] for name, values in self.more.items()}
        return GatheredFeatures(
            self.pieces.take(keep_decision, keep_row), list(self.specs.values()), more, order=self._order
        )

    def with_more(self, features: Mapping[str, np.ndarray]) -> GatheredFeatures:
        return GatheredFeatures(self.pieces, list(self.specs.values()), {**self.more, **features}, order=self._order)

    def _of_row(self, spec: FeatureSpec, rows: Rows) -> np.ndarray:
        if spec == FeatureSpec(spec.name, spec.source) and spec.source in self.pieces.covariates:
            return rows.at_choice[spec.source].astype(np.float32, copy=False)  # as it is
        return compute_feature(spec, rows)[0]

    def _steps(self, names: Sequence[str]) -> None:
        """Compute what depends on the step alone once for each row of the neighbor table."""
        wanted = [n for n in names if n in self.specs and is_of_step(self.specs[n]) and n not in self.more]
        missing = [n for n in wanted if n not in self._of_step]
        if missing:
            rows = self.pieces.step_rows()
            self._of_step |= {n: compute_feature(self.specs[n], rows)[0] for n in missing}
