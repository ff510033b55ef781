"""Decisions between bins of a value, as many as the place allows, into `ChoiceSets` with a ledger of what was dropped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import pandas as pd

from mimic.bin_decisions import BIN_VALUE, PREVIOUS_VALUE, Bins, named_examples
from mimic.bin_fields import BinField, Limit
from mimic.choice_rows import Rows
from mimic.choices import Source
from mimic.features import FeatureSpec, compute_feature
from mimic.ledger import Ledger
from mimic.schema import DECISION, INDIVIDUAL, ORIGIN, TIME, ChoiceSets, FeatureInfo, require_columns

__all__ = ["bin_features", "build_bins"]

_STAGE = "bins"


def build_bins(
    decisions: pd.DataFrame,
    *,
    bins: Bins,
    limit: Limit | None = None,
    fields: Sequence[BinField] = (),
    sources: Sequence[Source] = (),
    features: Sequence[FeatureSpec] = (),
    outside: Literal["drop", "error"] = "drop",
) -> tuple[ChoiceSets, Ledger]:
    """The choice set of every decision: the bins that its place allows, with their features.

    Parameters
    ----------
    decisions
        From `make_bin_decisions`. Where `bin_value` is NaN or no column the selection is unknown (prediction).
    bins
        The bins. A choice is their number, from 0; `bins.labels` are their texts.
    limit
        How far bins reach at a place: those whose lower edge lies below the limit are choices, the deepest of them
        though the limit cuts it. None: all bins everywhere.
    fields
        Covariates with an axis of the bins' quantity, at the middle of each bin.
    sources
        Covariates and areas at the origin: decision columns, which interact.
    features
        Computed besides those of the bins, which are always there (below).
    outside
        What to do with a decision whose selected bin is no choice: drop it (with a line in the ledger) or raise.

    Returns
    -------
    choice_sets, ledger
        Two accounts: decisions in = out + dropped ("decision"), bins within the limit = out + dropped ("choice").
        The decision columns have `bin_limit_m`, and whatever the sources are called.

    Raises
    ------
    ValueError
        If a selected bin is no choice and `outside` is "error", a source or field without a value has missing
        "error", or a feature is one of cells (distance, heading).

    Notes
    -----
    Of every bin there are, with the unit m: `bin_mid_m` and `bin_width_m`; `log_bin_mid` (nats) where the middle is
    above 0; `is_bottom`, 1 for the bin that reaches the limit; `same_bin`, 1 for the bin of the step before, and
    `bin_change`, how many bins deeper than that (negative: shallower), and `bin_distance`, how many away. Where the
    step before is unknown, the three are 0 for all choices and cancel; `previous_bin_known` says so, and `bin_limit_m`
    how deep the place is (both of role decision). A field `temperature` comes with `temperature_minus_first`, less
    its value at the first edge: the surface.
    """
    require_columns(list(decisions.columns), [INDIVIDUAL, DECISION, ORIGIN, TIME], where="decisions")
    decisions = decisions.reset_index(drop=True)
    selected_bin = bins.of(decisions[BIN_VALUE].to_numpy()) if BIN_VALUE in decisions else np.full(len(decisions), -1)
    is_known = decisions[BIN_VALUE].notna().to_numpy() if BIN_VALUE in decisions else np.zeros(len(decisions), bool)
    decisions, why, ledger = _at_origins(decisions, bins, limit, sources)
    reach = decisions[bins.named("bin_limit")].to_numpy() if limit is not None else np.full(len(decisions), np.inf)
    allowed = bins.low[None, :] < np.where(np.isnan(reach), -np.inf, reach)[:, None]  # (decision, bin)
    values, lost, more = _field_values(decisions, bins, fields, allowed)
    ledger += more
    reasons = {**_lost_decisions(bins, is_known, selected_bin, allowed, lost, limit), **why}
    keep = allowed & ~_any(list(lost.values()), allowed)
    reasons["no choice or only one left"] = keep.sum(axis=1) < 2
    dropped, more = _account(decisions, reasons)
    if outside == "error" and dropped.any():
        raise ValueError(
            f"{dropped.sum():,} of {len(decisions):,} decisions have no usable choice set:\n{more.explain()}\n"
            "Add edges, allow a limit of more rings, or set outside: drop to leave them out."
        )
    ledger += more
    for reason, bad in lost.items():
        ledger = ledger.dropped(
            _STAGE, reason, np.array(bins.labels)[np.nonzero(bad)[1][:50]], unit="choice", n=bad.sum()
        )
    gone = keep & dropped[:, None]
    ledger = ledger.dropped(_STAGE, "its decision was dropped", [], unit="choice", n=gone.sum())
    made = _assemble(decisions, bins, keep & ~gone, selected_bin, values, features)
    ledger.check(len(decisions), made.n_decisions, "decision")
    ledger.check(int(allowed.sum()), made.n_rows, "choice")
    return made, ledger


def bin_features(bins: Bins, *, is_limited: bool) -> dict[str, FeatureInfo]:
    """What every bin has by itself: name -> role and unit.

    Example
    -------
    >>> list(bin_features(Bins((0.0, 10.0, 50.0), "m"), is_limited=False))[:3]
    ['bin_mid_m', 'bin_width_m', 'is_bottom']
    """
    decisions = pd.DataFrame({bins.named("bin_limit"): [np.inf]} if is_limited else {})
    first = np.zeros(1, dtype=np.int64)
    return {name: info for name, (_, info) in _bin_features(decisions, bins, first, first).items()}


def _at_origins(
    decisions: pd.DataFrame, bins: Bins, limit: Limit | None, sources: Sequence[Source]
) -> tuple[pd.DataFrame, dict[str, np.ndarray], Ledger]:
    """The decisions with the limit and the sources of their origins, and where these are missing."""
    cells = decisions[ORIGIN].to_numpy(dtype=np.int64)
    times = decisions[TIME].to_numpy(dtype="datetime64[ns]")
    found: dict[str, np.ndarray] = {}
    missing: dict[str, np.ndarray] = {}
    ledger = Ledger()
    if limit is not None:
        found[bins.named("bin_limit")] = limit.at(cells, times)
    for source in sources:
        values = np.asarray(source.sample(cells, times), dtype=np.float64)
        absent = np.isnan(values)
        if source.missing == "error" and absent.any():
            raise ValueError(
                f"covariate {source.name} has no value at the origins of {absent.sum():,} of {len(absent):,} "
                "decisions. Set missing: drop to leave these out, or missing: <number> to fill them."
            )
        if source.missing == "drop":
            missing[f"origin cell: no {source.name}"] = absent
        else:
            ledger = ledger.changed(
                _STAGE,
                f"no {source.name}: filled with {source.missing}",
                named_examples(decisions, absent),
                unit="decision",
            )
            values = np.where(absent, float(source.missing), values)
        found[source.name] = values
    return decisions.assign(**found), missing, ledger


def _field_values(
    decisions: pd.DataFrame, bins: Bins, fields: Sequence[BinField], allowed: np.ndarray
) -> tuple[dict[str, tuple[np.ndarray, str]], dict[str, np.ndarray], Ledger]:
    """Field -> its values (decision, bin) and unit, and less those at the first edge; reason -> bins without a value."""
    cells = decisions[ORIGIN].to_numpy(dtype=np.int64)
    times = decisions[TIME].to_numpy(dtype="datetime64[ns]")
    values: dict[str, tuple[np.ndarray, str]] = {}
    lost: dict[str, np.ndarray] = {}
    ledger = Ledger()
    taken = np.zeros_like(allowed)
    for field in fields:
        table = field.at(cells, times, np.append(bins.edges[0], bins.middle))  # (decision, first edge and bins)
        table, changed = field.filled(table, allowed)
        what = f"no {field.name} at the bin: " + ("taken from above" if field.missing == "above" else "filled")
        ledger = ledger.changed(
            _STAGE, what, np.array(bins.labels)[np.nonzero(changed)[1][:50]], unit="choice", n=changed.sum()
        )
        absent = allowed & ~taken & np.isnan(table[:, 1:] + table[:, :1])
        lost[f"no {field.name} at the bin"] = absent
        taken = taken | absent
        values[field.name] = (table[:, 1:], field.unit)
        values[f"{field.name}_minus_first"] = (table[:, 1:] - table[:, :1], field.unit)
    return values, lost, ledger


def _lost_decisions(
    bins: Bins,
    is_known: np.ndarray,
    selected_bin: np.ndarray,
    allowed: np.ndarray,
    lost: Mapping[str, np.ndarray],
    limit: Limit | None,
) -> dict[str, np.ndarray]:
    """Reason -> the decisions whose selected bin is no choice: (decision,), bool."""
    row = np.arange(len(selected_bin))
    inside = selected_bin >= 0
    low, high = bins.edges[0], bins.edges[-1]
    reasons = {f"value outside the edges ({low:g} to {high:g})": is_known & ~inside}
    if limit is not None:
        reasons[f"origin cell: no {limit.name} that leaves room for a bin"] = ~np.asarray(allowed.any(axis=1))
        reasons[f"selected bin beyond the limit ({limit.name})"] = inside & ~allowed[row, selected_bin]
    return reasons | {
        f"selected bin: {why.removesuffix(' at the bin')}": inside & bad[row, selected_bin] for why, bad in lost.items()
    }


def _account(decisions: pd.DataFrame, reasons: Mapping[str, np.ndarray]) -> tuple[np.ndarray, Ledger]:
    """Which decisions are dropped, (decision,), each for the first of its reasons."""
    dropped = np.zeros(len(decisions), dtype=bool)
    ledger = Ledger()
    for reason, bad in reasons.items():
        ledger = ledger.dropped(_STAGE, reason, named_examples(decisions, bad & ~dropped), unit="decision")
        dropped = dropped | bad
    return dropped, ledger


def _assemble(
    decisions: pd.DataFrame,
    bins: Bins,
    keep: np.ndarray,
    selected_bin: np.ndarray,
    values: Mapping[str, tuple[np.ndarray, str]],
    features: Sequence[FeatureSpec],
) -> ChoiceSets:
    left = np.flatnonzero(keep.any(axis=1))
    decisions, keep, selected_bin = decisions.iloc[left].reset_index(drop=True), keep[left], selected_bin[left]
    of, choice = np.nonzero(keep)  # (row,)
    made = _bin_features(decisions, bins, of, choice)
    for name, (table, unit) in values.items():
        made[name] = (table[left][of, choice], FeatureInfo("choice", unit, f"{name} of the bin"))
    known = made["previous_bin_known"][0]
    rows = Rows(
        decision=of,
        distance_km=np.zeros(len(of)),
        bearing_rad=np.full(len(of), np.nan),
        stay=np.ones(len(of)),
        # the answer is in no column that a feature can name
        decisions=decisions.drop(columns=BIN_VALUE, errors="ignore").assign(previous_bin_known=known[_first(of)]),
        cell=decisions[ORIGIN].to_numpy(dtype=np.int64)[of],
        at_choice={name: column for name, (column, info) in made.items() if info.role != "decision"},
        at_origin={},
        units={name: info.unit for name, (_, info) in made.items()},
    )
    for spec in (spec for spec in features if spec.name not in made):
        made[spec.name] = _declared(spec, rows, made)
    position = np.cumsum(keep).reshape(keep.shape) - 1
    return ChoiceSets(
        decisions=decisions,
        offsets=np.concatenate([[0], np.cumsum(keep.sum(axis=1))]).astype(np.int64),
        choice=choice.astype(np.int64),
        selected=np.where(selected_bin >= 0, position[np.arange(len(keep)), selected_bin], -1),
        features={name: column for name, (column, _) in made.items()},
        info={name: info for name, (_, info) in made.items()},
    )


def _first(of: np.ndarray) -> np.ndarray:
    """The first row of each decision: (decision,)."""
    return np.flatnonzero(np.diff(of, prepend=-1))


def _bin_features(
    decisions: pd.DataFrame, bins: Bins, of: np.ndarray, choice: np.ndarray
) -> dict[str, tuple[np.ndarray, FeatureInfo]]:
    """What every bin has: name -> (row,) and its role."""
    n = len(of)
    previous = bins.of(decisions[PREVIOUS_VALUE].to_numpy())[of] if PREVIOUS_VALUE in decisions else np.full(n, -1)
    known = previous >= 0
    limit = bins.named("bin_limit")
    reach = decisions[limit].to_numpy(dtype=np.float64)[of] if limit in decisions else np.full(n, np.inf)
    middle = bins.middle[choice]
    made = {
        bins.named("bin_mid"): (middle, FeatureInfo("choice", bins.unit, "middle of the bin")),
        bins.named("bin_width"): (bins.width[choice], FeatureInfo("choice", bins.unit, "width of the bin")),
        "is_bottom": (
            np.array(bins.edges[1:])[choice] >= reach,
            FeatureInfo("choice", "1", "the bin reaches the limit"),
        ),
        "same_bin": (known & (choice == previous), FeatureInfo("pair", "1", "the bin of the step before")),
        "bin_change": (
            np.where(known, choice - previous, 0),
            FeatureInfo("pair", "1", "bins deeper than in the step before"),
        ),
        "bin_distance": (
            np.where(known, np.abs(choice - previous), 0),
            FeatureInfo("pair", "1", "bins away from that of the step before"),
        ),
        "previous_bin_known": (known, FeatureInfo("decision", "1", "the bin of the step before is known")),
    }
    if limit in decisions:
        made[limit] = (reach, FeatureInfo("decision", bins.unit, "how far bins reach at the origin"))
    if (bins.middle > 0).all():
        unit = "1" if bins.unit == "1" else f"ln({bins.unit})"
        made["log_bin_mid"] = (np.log(middle), FeatureInfo("choice", unit, "logarithm of the middle of the bin"))
    return {name: (np.asarray(column, dtype=np.float64), info) for name, (column, info) in made.items()}


def _declared(
    spec: FeatureSpec, rows: Rows, made: Mapping[str, tuple[np.ndarray, FeatureInfo]]
) -> tuple[np.ndarray, FeatureInfo]:
    if spec.source == BIN_VALUE:
        raise ValueError(f"feature {spec.name}: {BIN_VALUE} is what was selected, and tells the answer.")
    column, info = compute_feature(spec, rows)
    if info.role == "pair":
        raise ValueError(
            f"feature {spec.name}: {spec.source} is a feature of cells and the same for all bins of a decision; known "
            f"for bins are {', '.join(made)}, decision columns and features of the time."
        )
    is_own = spec.source in made and spec.times is None
    return column, replace(info, role=made[spec.source][1].role) if is_own else info


def _any(masks: Sequence[np.ndarray], like: np.ndarray) -> np.ndarray:
    """Where any of the masks holds: (decision, bin), bool."""
    found = np.zeros_like(like)
    for mask in masks:
        found = found | mask
    return found
