"""Covariates of an experiment into others that are derived from them on cells: fronts, slopes, distances to shore."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mimic.cell_graph import CellGraph
from mimic.choices import Missing, Source
from mimic.derived import KINDS, derive
from mimic.hexgrid import disks
from mimic.joins import JoinedField
from mimic.vector_layers import distance_to_layer, distance_to_shore

__all__ = ["DISTANCES", "check_derived", "derived_source"]

DISTANCES = {"distance_to_shore": ("file",), "distance_to_layer": ("file", "layer", "where", "signed")}
"""Kinds that take no covariate, and their options."""


def check_derived(kind: str, n_inputs: int, options: Mapping[str, Any]) -> None:
    """Refuse what cannot be derived within an experiment.

    Raises
    ------
    ValueError
        If the kind is unknown or looks at other times, it takes another number of covariates, or an option is wrong.
    """
    if kind in DISTANCES:
        unknown = sorted(set(options) - set(DISTANCES[kind]))
        if unknown:
            raise ValueError(f"{kind} has no option {', '.join(unknown)}; it has {', '.join(DISTANCES[kind])}.")
        if n_inputs:
            raise ValueError(f"{kind} takes no covariate; leave out of.")
        if kind == "distance_to_layer" and "file" not in options:
            raise ValueError("distance_to_layer needs the option file, of points, lines or polygons.")
        return
    known = [name for name, one in KINDS.items() if not one.is_temporal]
    if kind in KINDS and KINDS[kind].is_temporal:
        raise ValueError(
            f"{kind} looks at other times; build a cube with it (mimic covariates build) and give the cube as file. "
            f"Within an experiment: {', '.join([*known, *DISTANCES])}."
        )
    if kind not in KINDS:
        raise ValueError(f"derive must be one of {', '.join([*known, *DISTANCES])}; got {kind}.")
    if n_inputs != KINDS[kind].n_inputs:
        raise ValueError(f"{kind} is derived of {KINDS[kind].n_inputs} covariates; got {n_inputs}.")
    KINDS[kind].with_defaults(options)


def derived_source(
    name: str,
    kind: str,
    inputs: Sequence[Source],
    *,
    options: Mapping[str, Any] | None = None,
    missing: Missing = "drop",
    unit: str | None = None,
) -> Source:
    """A covariate that is derived from others on cells, as a source.

    Parameters
    ----------
    kind, inputs, options
        As for `mimic.derived.derive`, of kinds that look at no other times; or one of `DISTANCES`, without inputs.
    unit
        By default what follows from the units of the inputs.

    Raises
    ------
    ValueError
        As `check_derived`; and, when it is joined, if the inputs have different steps in time.

    Notes
    -----
    Rings of cells around those asked for are joined too, so that a value does not depend on what else is asked for.
    """
    given = dict(options or {})
    check_derived(kind, len(inputs), given)

    def join(cells: np.ndarray, times: np.ndarray) -> JoinedField:
        if kind in DISTANCES:
            return JoinedField.static(_distance(kind, cells, given), len(times))
        graph = CellGraph.of(disks(cells, KINDS[kind].rings(given))[0])
        fields = []
        for source in inputs:
            if source.join is None:
                raise ValueError(f"{name}: {source.name} is no table of cells and steps, and nothing is derived of it.")
            fields.append(source.join(graph.cells, times))
        if not all(len(field.values) for field in fields):  # of one no time has a step
            return JoinedField.nowhere(len(cells), len(times))
        valid = np.logical_and.reduce([field.valid for field in fields])
        first = max(fields, key=lambda field: len(field.values))
        for source, field in zip(inputs, fields, strict=True):
            if len(field.values) > 1 and not field.takes_steps_of(first, valid):
                raise ValueError(
                    f"{name}: {source.name} has other steps in time than the other covariate; put both on the same "
                    "steps in a cube (mimic covariates build)."
                )
        values = derive(kind, [field.values for field in fields], graph=graph, options=given)
        values = np.ascontiguousarray(values[:, graph.positions(cells)])
        return JoinedField(values, first.low, first.high, first.weight, valid)

    def sample(cells: np.ndarray, times: np.ndarray) -> np.ndarray:
        unique, place = np.unique(cells, return_inverse=True)
        stamps, when = np.unique(times, return_inverse=True)
        return join(unique, stamps).at(place, when)

    if unit is None:
        unit = "km" if kind in DISTANCES else KINDS[kind].unit([source.unit for source in inputs], given)
    return Source(name, sample, unit, missing, join=join)


def _distance(kind: str, cells: np.ndarray, options: Mapping[str, Any]) -> np.ndarray:
    others = {key: value for key, value in options.items() if key != "file"}
    if kind == "distance_to_shore":
        return distance_to_shore(cells, options.get("file"))
    return distance_to_layer(options["file"], cells, **others)
