"""Tracks with a value such as a depth into decisions, each with the value whose bin was selected, and the bins."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from mimic.hexgrid import cell_at
from mimic.ledger import Ledger
from mimic.schema import BURST, DECISION, INDIVIDUAL, LATITUDE, LONGITUDE, ORIGIN, TIME, require_columns

__all__ = ["BIN_VALUE", "PREVIOUS_VALUE", "Bins", "ValueOf", "make_bin_decisions", "named_examples"]

BIN_VALUE = "bin_value"
"""Decision column: the value whose bin was selected, NaN where unknown. It is the answer, and never a feature."""

PREVIOUS_VALUE = "previous_bin_value"
"""Decision column: the value one step before, NaN where unknown."""

ValueOf = Literal["own", "next"]


@dataclass(frozen=True)
class Bins:
    """Ordered bins of a quantity: bin k holds `edges[k] <= value < edges[k + 1]`, the last one its upper edge too.

    Parameters
    ----------
    edges
        (bin + 1,), ascending and finite, in `unit`.
    unit
        "1" for none; else it ends the names of the features: `bin_mid_m`.

    Example
    -------
    >>> bins = Bins((0.0, 10.0, 50.0), "m")
    >>> bins.labels, bins.of(np.array([0.0, 10.0, 50.0, 51.0])).tolist()
    (('0-10 m', '10-50 m'), [0, 1, 1, -1])
    """

    edges: tuple[float, ...]
    unit: str = "1"

    def __post_init__(self) -> None:
        object.__setattr__(self, "edges", tuple(float(edge) for edge in self.edges))
        edges = np.array(self.edges)
        if len(edges) < 3 or not np.isfinite(edges).all() or (np.diff(edges) <= 0).any():
            raise ValueError(
                f"edges must be three or more ascending, finite numbers; got {', '.join(f'{e:g}' for e in edges)}."
            )

    @property
    def n_bins(self) -> int:
        return len(self.edges) - 1

    @property
    def low(self) -> np.ndarray:
        """(bin,), lower edges."""
        return np.array(self.edges[:-1])

    @property
    def width(self) -> np.ndarray:
        """(bin,)."""
        return np.diff(self.edges)

    @property
    def middle(self) -> np.ndarray:
        """(bin,)."""
        return self.low + self.width / 2

    @property
    def labels(self) -> tuple[str, ...]:
        """(bin,), such as "0-10 m"."""
        unit = "" if self.unit == "1" else f" {self.unit}"
        sign = " to " if self.edges[0] < 0 else "-"
        pairs = zip(self.edges[:-1], self.edges[1:], strict=True)
        return tuple(f"{low:g}{sign}{high:g}{unit}" for low, high in pairs)

    def of(self, values: np.ndarray) -> np.ndarray:
        """The bin of each value: (value,), int64, -1 outside the edges and for NaN."""
        values = np.asarray(values, dtype=np.float64)
        found = np.searchsorted(self.edges, values, side="right") - 1
        found[values == self.edges[-1]] = self.n_bins - 1
        return np.where((found >= 0) & (found < self.n_bins) & ~np.isnan(values), found, -1).astype(np.int64)

    def named(self, name: str) -> str:
        """A feature's name with the unit at its end, where there is one."""
        return name if self.unit == "1" else f"{name}_{self.unit}"


def make_bin_decisions(
    tracks: pd.DataFrame, *, value: str, value_of: ValueOf = "own", resolution: int
) -> tuple[pd.DataFrame, Ledger]:
    """One row for every fix whose behavior during the next step is known.

    Parameters
    ----------
    tracks
        Resampled: sorted by individual and time, with `burst`; successive fixes of a burst are one step apart.
    value
        The column of the behavior, such as the day's greatest depth. It leaves the decisions: it is the answer.
    value_of
        Whose value tells what the animal did in the step that begins at a fix. "own": the fix's own row, whose value
        sums up the time that begins with it, as a tag's depth range of a day stamped at the day's first hour; no
        next fix is needed. "next": the next row, whose value is what was measured one step later, as a depth read
        every six hours.
    resolution
        Of the H3 cells, 0 to 15.

    Returns
    -------
    decisions
        The columns of the tracks without `value`, and `decision` (from 0 within each individual), `origin` (the
        cell of the fix), `bin_value` (the behavior) and `previous_bin_value` (that of the step before, NaN in the
        first fix of a burst under "own", and where it was not measured).
    ledger
        Fixes without a value, and under "next" those without a next fix one step later.
    """
    require_columns(list(tracks.columns), [INDIVIDUAL, TIME, LONGITUDE, LATITUDE, BURST, value], where="tracks")
    values = pd.to_numeric(tracks[value], errors="coerce").to_numpy(dtype=np.float64)
    if len(values) and np.isnan(values).all():
        raise ValueError(
            f"expected numbers in the column {value}, whose bins are the choices; none of {len(values):,} fixes has one "
            f"(the first is {tracks[value].iloc[0]!r})."
        )
    burst, individual = tracks[BURST].to_numpy(), tracks[INDIVIDUAL].to_numpy()
    follows = np.zeros(len(tracks), dtype=bool)
    # bursts may be numbered anew for every individual
    follows[1:] = (burst[1:] == burst[:-1]) & (individual[1:] == individual[:-1])
    before = np.where(follows, np.roll(values, 1), np.nan)
    ledger = Ledger()
    last = np.zeros(len(tracks), dtype=bool)
    if value_of == "next":
        last = ~np.append(follows[1:], False)[: len(tracks)]
        ledger = ledger.dropped("decisions", "no next fix one step later", named_examples(tracks, last), unit="fix")
        values, before = np.where(last, np.nan, np.roll(values, -1)), values
    unknown = np.isnan(values) & ~last
    ledger = ledger.dropped("decisions", f"no {value}", named_examples(tracks, unknown), unit="fix")
    keep = ~(unknown | last)
    decisions = tracks[keep].drop(columns=value).reset_index(drop=True)
    longitude, latitude = decisions[LONGITUDE].to_numpy(), decisions[LATITUDE].to_numpy()
    decisions[ORIGIN] = cell_at(longitude, latitude, resolution)
    decisions[BIN_VALUE], decisions[PREVIOUS_VALUE] = values[keep], before[keep]
    decisions[DECISION] = decisions.groupby(INDIVIDUAL, sort=False).cumcount().astype("int64")
    return decisions, ledger


def named_examples(table: pd.DataFrame, bad: np.ndarray) -> list[str]:
    """Ids for the ledger: individual and time of the rows (only the first few are spelled out)."""
    few = table.iloc[np.flatnonzero(bad)[:10]]
    ids = [f"{i} {t}" for i, t in zip(few[INDIVIDUAL], few[TIME], strict=True)]
    return ids + [""] * (int(np.count_nonzero(bad)) - len(ids))
