"""Decisions and covariates into a report before anything is built: what has a value, where selections are lost, why."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from mimic.choices import DESTINATION, Source
from mimic.expressions import parse
from mimic.factored import Factored, OnCells, factor
from mimic.features import FeatureSpec, origin_covariates
from mimic.hexgrid import parents, resolution_of
from mimic.joins import JoinedField
from mimic.schema import INDIVIDUAL, ORIGIN, TIME, require_columns
from mimic.spans import blocks
from mimic.verdicts import Rules, judge

__all__ = ["ALL", "NONE", "Coverage", "assess_coverage"]

ALL, NONE = "all together", "none"
N_REGIONS = 24
"""Regions are as fine as keeps them at this many, unless a resolution is asked for."""

BLOCK_DECISIONS = 8192


@dataclass(frozen=True, eq=False)
class Coverage:
    """What has a value, by decision; the tables are made from it.

    Parameters
    ----------
    decisions
        One row a decision: individual, `month` ("2013-04"), `region`, `n_choices` (cells within reach), `n_usable`
        (of these, with all covariates and in the domain), `is_reached` (the selected cell is within reach),
        `first_reason` (its number in `reasons`, from 1; 0 where it is kept).
    n_with
        (covariate, decision): of the choices, how many have a value.
    at_selected, at_origin
        (covariate, decision), bool: whether the selected cell has a value (False where it is beyond reach), the origin.
    reasons
        In words, in the order in which they are applied.
    has_reason
        (reason, decision), bool: whether it would lose the decision by itself.
    left
        Scenario -> (decision,), bool: whether the decision is left. Scenarios: `NONE` (the distance alone), each
        covariate alone, "domain" alone, `ALL`, and "all but X".
    covariates
        Names, in order.
    filled
        Those whose missing values are filled in, and lose nothing.
    """

    decisions: pd.DataFrame
    n_with: np.ndarray
    at_selected: np.ndarray
    at_origin: np.ndarray
    reasons: tuple[str, ...]
    has_reason: np.ndarray
    left: Mapping[str, np.ndarray]
    covariates: tuple[str, ...]
    filled: tuple[str, ...]

    def shares(self, by: Sequence[str] = ()) -> pd.DataFrame:
        """The share with a value, one row a covariate and group.

        Parameters
        ----------
        by
            Of "month", "region" and "individual"; none for the whole study.

        Returns
        -------
        pd.DataFrame
            covariate, the groups, n_decisions, n_choices, share_choices (of choices with a value), n_selected,
            share_selected (of the selected cells within reach), share_origins; NaN where there is none to count.
        """
        groups = self._groups(by)
        parts = []
        for k, name in enumerate(self.covariates):
            table = pd.DataFrame(
                {
                    "n_decisions": 1,
                    "n_choices": self.decisions["n_choices"].to_numpy(),
                    "with_choices": self.n_with[k],
                    "n_selected": self.decisions["is_reached"].to_numpy(dtype=np.int64),
                    "with_selected": self.at_selected[k].astype(np.int64),
                    "with_origins": self.at_origin[k].astype(np.int64),
                }
            )
            total = table.groupby(groups, sort=True).sum().reset_index()
            parts.append(total.assign(covariate=name))
        whole = pd.concat(parts, ignore_index=True)
        for of, n in (("choices", "n_choices"), ("selected", "n_selected"), ("origins", "n_decisions")):
            count = whole[n].to_numpy(dtype=np.float64)
            whole[f"share_{of}"] = whole[f"with_{of}"] / np.where(count > 0, count, np.nan)
        return whole[
            [
                "covariate",
                *by,
                "n_decisions",
                "n_choices",
                "share_choices",
                "n_selected",
                "share_selected",
                "share_origins",
            ]
        ]

    def losses(self, by: Sequence[str] = ()) -> pd.DataFrame:
        """Decisions lost, one row a group and reason: the groups, n_decisions, reason, n_first, n_any, share_first.

        `n_first` counts the first reason that applies, as the ledger of `build_choices` does, and adds up to the
        decisions that are lost; `n_any` counts every one that does, and does not add up.
        """
        groups = self._groups(by)
        first = self.decisions["first_reason"].to_numpy()
        parts = []
        for number, reason in enumerate(self.reasons, start=1):
            table = pd.DataFrame({"n_decisions": 1, "n_first": first == number, "n_any": self.has_reason[number - 1]})
            total = table.astype(np.int64).groupby(groups, sort=True).sum().reset_index()
            parts.append(total.assign(reason=reason, _order=number))
        whole = pd.concat(parts, ignore_index=True).sort_values([*by, "_order"], kind="stable", ignore_index=True)
        whole["share_first"] = whole["n_first"] / whole["n_decisions"].clip(lower=1)
        return whole[[*by, "n_decisions", "reason", "n_first", "n_any", "share_first"]]

    def costs(self) -> pd.DataFrame:
        """What each covariate costs: scenario, n_left, n_lost (decisions), one row a scenario.

        "all but X" leaves out the covariate; where the domain speaks of it, its missing values still lie outside.
        """
        n = len(self.decisions)
        n_left = [int(mask.sum()) for mask in self.left.values()]
        return pd.DataFrame({"scenario": list(self.left), "n_left": n_left, "n_lost": [n - k for k in n_left]})

    @property
    def n_lost(self) -> int:
        """Decisions that all covariates and the domain together lose."""
        return int((self.decisions["first_reason"] > 0).sum())

    def _groups(self, by: Sequence[str]) -> list[pd.Series]:
        require_columns(list(self.decisions.columns), list(by), where="coverage")
        if by:
            return [self.decisions[name] for name in by]
        return [pd.Series(np.zeros(len(self.decisions), dtype=np.int64), name="_all")]


def assess_coverage(
    decisions: pd.DataFrame,
    *,
    max_distance_km: float,
    sources: Sequence[Source],
    features: Sequence[FeatureSpec] = (),
    domain: str | None = None,
    region: int | str | None = None,
    progress: Callable[..., None] = lambda what, done, total: None,
) -> Coverage:
    """What of all choices within reach has a value, without building any of them.

    Parameters
    ----------
    decisions, max_distance_km, sources, features, domain
        As for `mimic.choices.build_choices`; a covariate whose missing values are an error counts as one whose choices
        are dropped.
    region
        H3 resolution of the regions, or a column of the decisions; by default the finest resolution at which the
        origins lie in at most `N_REGIONS` cells. A choice counts in the region of its origin.

    Raises
    ------
    ValueError
        If there are no decisions or sources, the region is no column or resolution, or the domain is no expression over
        known columns.

    Notes
    -----
    Each distinct (cell, step) of a covariate is regridded once; choices are gone through in blocks of decisions.
    """
    require_columns(list(decisions.columns), [INDIVIDUAL, ORIGIN, TIME], where="decisions")
    if len(decisions) == 0 or len(sources) == 0:
        raise ValueError(
            f"coverage needs decisions and covariates; got {len(decisions)} decisions, {len(sources)} covariates."
        )

    def join_all(cells: np.ndarray, times: np.ndarray) -> dict[str, OnCells]:
        found = {}
        for done, source in enumerate(sources):
            progress(f"reading {source.name}", done, len(sources))
            found[source.name] = _on_cells(source, cells, times)
        return found

    pieces = factor(decisions, max_distance_km=max_distance_km, join=join_all)
    names = [s.name for s in sources]
    needed = [s.name for s in sources if any(s.name in origin_covariates(f) for f in features)]
    rules = Rules.of(names, needed, domain, selects=DESTINATION in decisions, max_distance_km=max_distance_km)
    spans = blocks(pieces.n_decisions, BLOCK_DECISIONS)
    parts = []
    for first, last in spans:
        progress("counting choices", first, pieces.n_decisions)
        parts.append(_count(pieces, rules, first, last))
    progress("counting choices", pieces.n_decisions, pieces.n_decisions)
    times = pieces.decisions[TIME].to_numpy(dtype="datetime64[ns]")
    table = pd.DataFrame(
        {
            INDIVIDUAL: pieces.decisions[INDIVIDUAL].to_numpy(),
            "month": times.astype("datetime64[M]").astype(str),
            "region": _regions(pieces.decisions, region),
            "n_choices": np.diff(pieces.offsets),
            "n_usable": np.concatenate([p.n_usable for p in parts]),
            "is_reached": np.concatenate([p.is_reached for p in parts]),
            "first_reason": np.concatenate([p.first_reason for p in parts]).astype(np.int64),
        }
    )
    return Coverage(
        decisions=table,
        n_with=np.concatenate([p.n_with for p in parts], axis=1),
        at_selected=np.concatenate([p.at_selected for p in parts], axis=1),
        at_origin=np.stack([~np.isnan(_unfilled(pieces, name).at_origin(name)) for name in names]),
        reasons=rules.why,
        has_reason=np.concatenate([p.has_reason for p in parts], axis=1),
        left={name: np.concatenate([p.left[name] for p in parts]) for name in parts[0].left},
        covariates=tuple(names),
        filled=tuple(name for name in names if pieces.covariates[name].fill is not None),
    )


# ---------------------------------------------------------------- counting


@dataclass(frozen=True, eq=False)
class _Part:
    """`Coverage` of one block of decisions."""

    n_usable: np.ndarray
    is_reached: np.ndarray
    first_reason: np.ndarray
    n_with: np.ndarray
    at_selected: np.ndarray
    has_reason: np.ndarray
    left: dict[str, np.ndarray]


def _count(pieces: Factored, rules: Rules, first: int, last: int) -> _Part:
    rows = pieces.rows(first, last)
    verdict = judge(pieces, rules, first, last)
    starts = pieces.offsets[first:last] - pieces.offsets[first]
    selected = starts + np.maximum(verdict.selected, 0)
    selects = DESTINATION in pieces.decisions
    is_reached = verdict.selected >= 0
    absent = {name: pieces.is_missing(name, rows) for name in rules.sources}
    n_with = np.stack([np.add.reduceat(~absent[name], starts, dtype=np.int64) for name in rules.sources])
    at_selected = np.stack([is_reached & ~absent[name][selected] for name in rules.sources])
    # only what is not filled in loses anything
    lost = {name: absent[name] & (pieces.covariates[name].fill is None) for name in rules.sources}
    origin = {name: np.isnan(pieces.at_origin(name)[first:last]) for name in rules.at_origin}
    nothing = np.zeros(len(rows.cell), dtype=bool)
    outside = nothing if rules.domain is None else _outside(pieces, rules, first, last)

    def is_left(names: Sequence[str], with_domain: bool) -> np.ndarray:
        gone = np.logical_or.reduce([nothing, *(lost[n] for n in names), *([outside] if with_domain else [])])
        good = np.add.reduceat(~gone, starts, dtype=np.int64) >= 2
        good &= np.logical_and.reduce([good, *(~origin[n] for n in names if n in origin)])
        return good & is_reached & ~gone[selected] if selects else good

    names, has_domain = list(rules.sources), rules.domain is not None
    left = {NONE: is_left([], False), **{name: is_left([name], False) for name in names}}
    left |= {"domain": is_left([], True)} if has_domain else {}
    left |= {ALL: is_left(names, has_domain)}
    left |= {f"all but {name}": is_left([n for n in names if n != name], has_domain) for name in names}
    has_reason = []
    if selects:
        has_reason.append(~is_reached)
        has_reason += [is_reached & lost[name][selected] for name in names]
    if selects and rules.domain is not None:
        # a cell without a value for the domain to judge is not outside it, but unknown
        unknown = np.logical_or.reduce([nothing, *(lost[n] for n in names if n in parse(rules.domain).names)])
        has_reason.append(is_reached & (outside & ~unknown)[selected])
    has_reason += [origin[name] for name in rules.at_origin]
    n_usable = np.add.reduceat(verdict.row == 0, starts, dtype=np.int64)
    has_reason.append(n_usable < 2)
    return _Part(n_usable, is_reached, verdict.decision, n_with, at_selected, np.stack(has_reason), left)


def _outside(pieces: Factored, rules: Rules, first: int, last: int) -> np.ndarray:
    """Whether the domain, by itself, does not allow a row's cell: (row,), bool."""
    alone = Rules.of([], [], rules.domain, selects=False, max_distance_km=0.0)
    return judge(pieces, alone, first, last).row > 0


def _unfilled(pieces: Factored, name: str) -> Factored:
    """The pieces with one covariate, whose missing values are NaN."""
    return replace(pieces, covariates={name: replace(pieces.covariates[name], fill=None)})


def _on_cells(source: Source, cells: np.ndarray, times: np.ndarray) -> OnCells:
    fill = None if isinstance(source.missing, str) else float(source.missing)
    if source.join is None:
        return OnCells(None, source.sample, source.unit, fill)
    field: JoinedField = source.join(cells, times)
    return OnCells(field, None, source.unit, fill)


def _regions(decisions: pd.DataFrame, region: int | str | None) -> np.ndarray:
    """The region of each decision: (decision,), H3 cells or the labels of a column as text."""
    if isinstance(region, str):
        if region not in decisions:
            raise ValueError(
                f"a region is an H3 resolution or a column of the decisions, one of {', '.join(map(str, decisions.columns))}; "
                f"got {region}. Columns of the track file are there if tracks.keep names them."
            )
        return decisions[region].astype(str).to_numpy()
    origin = decisions[ORIGIN].to_numpy(dtype=np.int64)
    if region is not None:
        return parents(origin, region)
    for resolution in range(resolution_of(origin[0]), -1, -1):
        coarse = parents(origin, resolution)
        if len(np.unique(coarse)) <= N_REGIONS:
            break
    return coarse
