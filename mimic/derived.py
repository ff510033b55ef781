"""Covariates on cells into derived ones: gradients, rings, lags, trailing means, anomalies, speed and heading."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mimic.cell_graph import CellGraph
from mimic.spatial_kinds import gradient_parts, ring_statistic
from mimic.temporal_kinds import anomaly, lag, step_days_of, trailing_mean

__all__ = ["KINDS", "Kind", "derive"]

Options = Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class _Given:
    """What a kind computes from: inputs, each (step, cell), checked; `times` (step,) is empty where not needed."""

    inputs: Sequence[np.ndarray]
    graph: CellGraph
    times: np.ndarray
    options: Options


Compute = Callable[[_Given], np.ndarray]


@dataclass(frozen=True)
class Kind:
    """A way to derive a covariate from others on the same cells.

    Parameters
    ----------
    name
        As in `KINDS`.
    doc
        What it is, with its formula.
    n_inputs
        How many covariates it takes, in order; `n_optional` more may follow.
    options
        Option -> default; None means that it must be given.
    is_temporal
        Whether other steps of the inputs enter; it then needs their times.
    """

    name: str
    doc: str
    n_inputs: int
    compute: Compute
    unit_rule: Callable[[Sequence[str], Options], str]
    options: Mapping[str, Any]
    is_temporal: bool = False
    n_optional: int = 0

    def with_defaults(self, options: Options) -> dict[str, Any]:
        """The options completed by defaults.

        Raises
        ------
        ValueError
            If one is unknown, missing or out of range.
        """
        unknown = sorted(set(options) - set(self.options))
        if unknown:
            raise ValueError(
                f"{self.name} has no option {', '.join(unknown)}; it has {', '.join(self.options) or 'none'}."
            )
        full = {**self.options, **options}
        if "rings" in full and not (isinstance(full["rings"], int) and full["rings"] >= 1):
            raise ValueError(f"{self.name}: rings must be a whole number of at least 1; got {full['rings']!r}.")
        if "days" in full and not (isinstance(full["days"], int | float) and 0 < full["days"] < np.inf):
            raise ValueError(f"{self.name}: give days, a number above 0; got {full['days']!r}.")
        if "min_share" in full and not 0 < full["min_share"] <= 1:
            raise ValueError(f"{self.name}: min_share must lie in (0, 1]; got {full['min_share']!r}.")
        return full

    def rings(self, options: Options) -> int:
        """How many rings of cells around a cell its value depends on: the halo that must be there too."""
        return int(self.with_defaults(options).get("rings", 1)) if self.is_spatial else 0

    def steps_before(self, options: Options, *, step_days: float = 1.0) -> int:
        """How many steps before a step its value depends on, where steps are `step_days` apart.

        Of an anomaly without a climatology: see `needs_all_steps`.
        """
        full = self.with_defaults(options)
        if self.name == "lag":  # the step taken may lie up to a gap before the lagged time
            return int(np.ceil((full["days"] + _gap_days(full, step_days)) / step_days))
        return int(np.ceil(full["days"] / step_days)) if "days" in full else 0

    def steps_after(self, options: Options, *, step_days: float = 1.0) -> int:
        """How many steps after a step its value depends on: 0, for nothing here looks into the future."""
        return 0

    def needs_all_steps(self, n_inputs: int) -> bool:
        """Whether, given so many inputs, the value at a step depends on all others: an anomaly that makes its own
        climatology."""
        return self.name == "anomaly" and n_inputs < 2

    def unit(self, units: Sequence[str], options: Options | None = None) -> str:
        """The unit of the result, from those of the inputs."""
        return self.unit_rule(units, options or {})

    @property
    def is_spatial(self) -> bool:
        """Whether other cells of the inputs enter; it then needs a halo of `rings`."""
        return self.name.startswith(("gradient", "front", "steepness", "ring_"))


def derive(
    kind: str,
    inputs: Sequence[np.ndarray],
    *,
    graph: CellGraph,
    times: np.ndarray | None = None,
    options: Options | None = None,
) -> np.ndarray:
    """A derived covariate on cells: (step, cell), float32, NaN where it cannot be known.

    Parameters
    ----------
    kind
        One of `KINDS`; each says there what it is and which inputs and options it takes.
    inputs
        Each (step, cell) in the order of `graph.cells`, NaN for missing; one without steps has a single one,
        (1, cell), and holds at every step of the others. Never changed.
    graph
        Of the cells. Cells that are not in it count as missing: give `Kind.rings` more rings than are wanted.
    times
        (step,), datetime64, ascending; needed by temporal kinds.
    options
        Of the kind; see `Kind.options`.

    Raises
    ------
    ValueError
        If the kind, an option, the number of inputs or their shapes are wrong, or times are missing or not ascending.

    Notes
    -----
    Sums are in float64 and run over the members of a window or disk in a fixed order, so that a value is the same
    bytes whichever other steps and cells are computed with it. NaN is judged step by step.

    Example
    -------
    >>> from mimic.hexgrid import cell_at, disks
    >>> center = cell_at([20.0], [10.0], 4)
    >>> graph = CellGraph.of(disks(center, 1)[0])
    >>> values = np.zeros((1, 7))
    >>> values[0, graph.positions(center)] = 7.0
    >>> derive("ring_mean", [values], graph=graph)[0, graph.positions(center)].tolist()
    [1.0]
    """
    if kind not in KINDS:
        raise ValueError(f"a derived covariate must be one of {', '.join(KINDS)}; got {kind}.")
    found = KINDS[kind]
    full = found.with_defaults(options or {})
    arrays = [np.asarray(values, dtype=np.float64) for values in inputs]
    _check(found, arrays, graph, times)
    stamps = np.asarray([] if times is None else times, dtype="datetime64[ns]")
    finite = [np.where(np.isfinite(a), a, np.nan) for a in arrays]
    return found.compute(_Given(finite, graph, stamps, full)).astype(np.float32)


def _check(kind: Kind, arrays: Sequence[np.ndarray], graph: CellGraph, times: np.ndarray | None) -> None:
    most = kind.n_inputs + kind.n_optional
    if not kind.n_inputs <= len(arrays) <= most:
        wanted = str(kind.n_inputs) if most == kind.n_inputs else f"{kind.n_inputs} to {most}"
        raise ValueError(f"{kind.name} takes {wanted} inputs; got {len(arrays)}.")
    wrong = [a.shape for a in arrays if a.ndim != 2 or a.shape[1] != len(graph)]
    if wrong:
        raise ValueError(f"{kind.name}: inputs must be (step, {len(graph)} cells); got {wrong[0]}.")
    if kind.is_temporal:
        if times is None or len(times) != len(arrays[0]):
            came = "none" if times is None else len(times)
            raise ValueError(f"{kind.name} needs the times of its {len(arrays[0])} steps; got {came}.")
        if (np.diff(np.asarray(times, dtype="datetime64[ns]").astype(np.int64)) <= 0).any():
            raise ValueError(f"{kind.name}: times must ascend; sort the steps and drop repeated ones.")
        return
    steps = {len(a) for a in arrays} - {1}
    if len(steps) > 1:
        raise ValueError(f"{kind.name}: inputs must have the same steps, or one; got {sorted(steps)}.")


# ---------------------------------------------------------------- the kinds


def _gap_days(options: Options, step_days: float) -> float:
    gap = options.get("max_gap_days")
    return 1.5 * step_days if gap is None else float(gap)


def _gradient(given: _Given) -> np.ndarray:
    return np.hypot(*gradient_parts(given.inputs[0], given.graph))


def _steepness(given: _Given) -> np.ndarray:
    return np.degrees(np.arctan(_gradient(given) / 1000.0))


def _ring(statistic: str) -> Compute:
    return lambda given: ring_statistic(given.inputs[0], given.graph, statistic, **given.options)


def _lag(given: _Given) -> np.ndarray:
    gap = _gap_days(given.options, step_days_of(given.times))
    return lag(given.inputs[0], given.times, days=given.options["days"], max_gap_days=gap)


def _trailing_mean(given: _Given) -> np.ndarray:
    return trailing_mean(given.inputs[0], given.times, **given.options)


def _anomaly(given: _Given) -> np.ndarray:
    climatology = given.inputs[1] if len(given.inputs) > 1 else None
    return anomaly(given.inputs[0], given.times, climatology, base=given.options["base"])


def _heading(given: _Given) -> np.ndarray:
    east, north = np.broadcast_arrays(*given.inputs)
    return np.where((east == 0) & (north == 0), np.nan, np.arctan2(east, north))


def _ratio(given: _Given) -> np.ndarray:
    over, under = np.broadcast_arrays(*given.inputs)
    return np.divide(over, under, out=np.full(over.shape, np.nan), where=under != 0)


def _same(units: Sequence[str], options: Options) -> str:
    return units[0]


def _per_km(units: Sequence[str], options: Options) -> str:
    return "km-1" if units[0] == "1" else f"{units[0]} km-1"


def _quotient(units: Sequence[str], options: Options) -> str:
    if units[0] == units[1]:
        return "1"
    return units[0] if units[1] == "1" else f"{units[0]} / ({units[1]})"


def _always(unit: str) -> Callable[[Sequence[str], Options], str]:
    return lambda units, options: unit


_PLANE = """Least-squares plane v = a + b x + c y through the cell and its neighbors, x and y km to the east and
north of the cell's centroid. NaN where the cell has no value, or fewer than three of its
neighbors have one."""
_DISK = """Over the cells within `rings` rings, the cell's own included. NaN where less than `min_share` of the cells
that lie there on the H3 grid have a value."""
_RING_OPTIONS = {"rings": 1, "min_share": 0.5}
KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("gradient", f"sqrt(b^2 + c^2), per km. {_PLANE}", 1, _gradient, _per_km, {}),
        Kind("front", "The gradient of a sea surface temperature: see gradient.", 1, _gradient, _per_km, {}),
        Kind(
            "gradient_east",
            f"b, per km: positive where values grow eastward. {_PLANE}",
            1,
            lambda given: gradient_parts(given.inputs[0], given.graph)[0],
            _per_km,
            {},
        ),
        Kind(
            "gradient_north",
            f"c, per km: positive where values grow northward. {_PLANE}",
            1,
            lambda given: gradient_parts(given.inputs[0], given.graph)[1],
            _per_km,
            {},
        ),
        Kind(
            "steepness",
            f"arctan(gradient / 1000), degrees, of an elevation or depth in m. {_PLANE}",
            1,
            _steepness,
            _always("degrees"),
            {},
        ),
        Kind("ring_mean", f"Mean. {_DISK}", 1, _ring("mean"), _same, _RING_OPTIONS),
        Kind("ring_max", f"Largest value. {_DISK}", 1, _ring("max"), _same, _RING_OPTIONS),
        Kind("ring_min", f"Smallest value. {_DISK}", 1, _ring("min"), _same, _RING_OPTIONS),
        Kind("ring_sd", f"Standard deviation, divided by n. {_DISK}", 1, _ring("sd"), _same, _RING_OPTIONS),
        Kind(
            "lag",
            "The value `days` before: that of the last step at or before then, and NaN where that step is more than "
            "`max_gap_days` older (by default 1.5 steps).",
            1,
            _lag,
            _same,
            {"days": None, "max_gap_days": None},
            is_temporal=True,
        ),
        Kind(
            "trailing_mean",
            "Mean over the steps s with t - days < s <= t: of daily steps and 7 days, the step itself and the six "
            "before it. NaN where less than `min_share` of them have a value, days / step_days being all "
            "(step_days: by default the median step).",
            1,
            _trailing_mean,
            _same,
            {"days": None, "min_share": 0.5, "step_days": None},
            is_temporal=True,
        ),
        Kind(
            "anomaly",
            "The value minus the climatology of its calendar month: the second input, (12, cell), January first; "
            "without one, the mean over the steps of that month from `base` = (first, last) date, both included, or "
            "over all steps, which lets the future in.",
            1,
            _anomaly,
            _same,
            {"base": None},
            is_temporal=True,
            n_optional=1,
        ),
        Kind(
            "speed",
            "sqrt(east^2 + north^2), of the parts to the east and to the north.",
            2,
            lambda given: np.hypot(*given.inputs),
            _same,
            {},
        ),
        Kind(
            "heading",
            "arctan2(east, north), radians in [-pi, pi], clockwise from north, where the motion goes to; NaN without "
            "motion.",
            2,
            _heading,
            _always("rad"),
            {},
        ),
        Kind("difference", "First minus second.", 2, lambda given: given.inputs[0] - given.inputs[1], _same, {}),
        Kind("ratio", "First over second; NaN where the second is 0.", 2, _ratio, _quotient, {}),
    )
}
"""Every kind of derived covariate, by name."""
