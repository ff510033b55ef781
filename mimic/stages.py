"""Conditions into the stages of a movement: ordered partitions of the choices, each within the classes before it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from mimic.groups import choice_mask
from mimic.probability import grouped_sum
from mimic.schema import DECISION, INDIVIDUAL, ChoiceSets, examples

__all__ = ["Division", "Stages", "default_stages", "divide", "log_mass"]

Stages = Mapping[str, Mapping[str, str]]
"""Stage -> class -> condition on choices, in order."""

_NEAT = np.array([1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0])


@dataclass(frozen=True, eq=False)
class Division:
    """One stage: which class each choice is in, within its class of the stage before.

    Parameters
    ----------
    stage
        Its name.
    before, node
        (row,), int64: code of the class before this stage and after it. Rows of one node share one in `before`.
    names_before
        Name of each code of `before`: the classes so far, such as "move / up to 30 km"; "all" before the first.
    names, labels, parent
        Of each node: its name, its class in this stage ("" where the class before was left whole), and its code
        in `before`.
    """

    stage: str
    before: np.ndarray
    node: np.ndarray
    names_before: tuple[str, ...]
    names: tuple[str, ...]
    labels: tuple[str, ...]
    parent: tuple[int, ...]


def divide(choice_sets: ChoiceSets, stages: Stages) -> list[Division]:
    """The choices in the classes of each stage, checked to be partitions.

    Parameters
    ----------
    choice_sets
        Decisions and their choices. Decisions of unknown selection are divided, but not checked.
    stages
        Stage -> class -> condition on choices (`mimic.groups.choice_mask`). A stage divides every class of the
        stage before wholly - each of its choices is in exactly one class - or, where none of its choices is in any,
        leaves it whole: bands of distance divide the moves and leave "stay" as it is.

    Raises
    ------
    ValueError
        If classes overlap, a class of the stage before is divided in part only, a stage divides nothing, has no
        classes, or a condition is none.

    Example
    -------
    >>> import pandas as pd
    >>> decisions = pd.DataFrame({"individual": ["a"], "decision": [1]})
    >>> cs = ChoiceSets(decisions, [0, 3], [0, 1, 2], [1], {"km": [0.0, 20.0, 40.0]})
    >>> stages = {"stay or move": {"stay": "km == 0", "move": "km > 0"}, "band": {"near": "0 < km < 30", "far": "km > 30"}}
    >>> divide(cs, stages)[1].names
    ('stay', 'move / near', 'move / far')
    """
    before = np.zeros(choice_sets.n_rows, dtype=np.int64)
    names: tuple[str, ...] = ("all",)
    divisions = []
    for stage, classes in stages.items():
        division = _divide(choice_sets, stage, classes, before, names)
        divisions.append(division)
        before, names = division.node, division.names
    return divisions


def default_stages(choice_sets: ChoiceSets) -> dict[str, dict[str, str]]:
    """Stay or move, then the band of distance, as far as the choice sets can tell them apart.

    Returns
    -------
    Stages for `divide`. "stay or move" where there is a feature `stay`, or `distance_km` that is 0 for some choices;
    "distance" where `distance_km` differs between moves: up to three bands at neat numbers near the thirds of the
    distances of all moves that could be made. Empty, which leaves one stage, where there is neither.

    Example
    -------
    >>> import pandas as pd
    >>> decisions = pd.DataFrame({"individual": ["a"], "decision": [1]})
    >>> distance = [0.0, 23.0, 24.0, 41.0, 44.0, 46.0, 66.0, 69.0, 71.0]
    >>> cs = ChoiceSets(decisions, [0, 9], np.arange(9), [1], {"distance_km": distance})
    >>> list(default_stages(cs)["distance"])
    ['up to 40 km', '40 to 60 km', 'over 60 km']
    """
    features = choice_sets.features
    stages: dict[str, dict[str, str]] = {}
    move, moves = "distance_km >= 0", np.ones(choice_sets.n_rows, dtype=bool)
    distance = features.get("distance_km")
    if "stay" in features:
        moves = features["stay"] <= 0.5
        stay, move = "stay > 0.5", "stay <= 0.5"
    elif distance is not None:
        moves = distance != 0
        stay, move = "distance_km == 0", "distance_km > 0"
    if moves.any() and not moves.all():
        stages["stay or move"] = {"stay": stay, "move": move}
    if distance is not None and np.isfinite(distance[moves]).all() and len(edges := _neat_edges(distance[moves])):
        bands = {f"up to {edges[0]:g} km": f"{move} and distance_km <= {edges[0]:g}"}
        for low, high in pairwise(edges):
            bands[f"{low:g} to {high:g} km"] = f"{move} and {low:g} < distance_km <= {high:g}"
        bands[f"over {edges[-1]:g} km"] = f"{move} and distance_km > {edges[-1]:g}"
        stages["distance"] = bands
    return stages


def log_mass(log_odds: np.ndarray, inside: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Logarithm of the summed odds of those choices of a decision that are inside: (decision,), nats.

    -inf where none are inside, or all of them impossible. `log_odds` and `inside` are (row,).

    Example
    -------
    >>> log_mass(np.array([1000.0, 1000.0, 2000.0]), np.array([True, True, False]), np.array([0, 3])) - 1000
    array([0.69314718])
    """
    if len(offsets) < 2:
        return np.zeros(0)
    masked = np.where(inside, log_odds, -np.inf)
    largest = np.maximum.reduceat(masked, offsets[:-1])
    shift = np.where(np.isfinite(largest), largest, 0.0)
    with np.errstate(divide="ignore"):
        return np.log(grouped_sum(np.exp(masked - np.repeat(shift, np.diff(offsets))), offsets)) + shift


def _neat_edges(distance: np.ndarray) -> list[float]:
    """Neat numbers near the thirds of the distances that leave some on either side: ascending, km."""
    if len(distance) == 0:
        return []
    edges = []
    for third in np.quantile(distance, [1 / 3, 2 / 3]):
        scale = 10.0 ** np.floor(np.log10(third)) if third > 0 else 1.0
        edges.append(float(f"{_NEAT[np.abs(_NEAT * scale - third).argmin()] * scale:g}"))
    return [edge for edge in sorted(set(edges)) if distance.min() <= edge < distance.max()]


def _divide(
    cs: ChoiceSets, stage: str, classes: Mapping[str, str], before: np.ndarray, names: tuple[str, ...]
) -> Division:
    if not classes:
        raise ValueError(f"stage {stage!r}: expected classes, name -> condition on choices; got none.")
    masks = [choice_mask(cs, text) for text in classes.values()]
    n_classes_of_row = np.sum(masks, axis=0, dtype=np.int64)
    known = np.repeat(cs.selected >= 0, cs.n_choices)
    _check_overlaps(cs, stage, list(classes), masks, known & (n_classes_of_row > 1))
    divided = np.bincount(before[known & (n_classes_of_row > 0)], minlength=len(names)) > 0
    if not divided.any() and known.any():
        raise ValueError(
            f"stage {stage!r} divides nothing: no choice is in any of its classes {', '.join(classes)}. "
            "Look at its conditions."
        )
    gap = known & divided[before] & (n_classes_of_row == 0)
    if gap.any():
        of = names[before[np.flatnonzero(gap)[0]]]
        n_whole = int(np.count_nonzero(known & (before == before[np.flatnonzero(gap)[0]])))
        n_gap = int(np.count_nonzero(gap & (before == before[np.flatnonzero(gap)[0]])))
        raise ValueError(
            f"stage {stage!r} leaves {n_gap} of the {n_whole} choices of {of!r} in no class (individual/decision/choice "
            f"{_example_rows(cs, gap)}). Its classes must hold every choice of a class before it, or none."
        )
    code = np.where(n_classes_of_row == 0, 0, 1 + np.argmax(masks, axis=0))
    return _division(stage, list(classes), before, names, divided, code)


def _division(
    stage: str,
    classes: list[str],
    before: np.ndarray,
    names_before: tuple[str, ...],
    divided: np.ndarray,
    code: np.ndarray,
) -> Division:
    """Nodes in the order of the classes before, then of the classes of this stage; those without choices too."""
    names: list[str] = []
    labels: list[str] = []
    parents: list[int] = []
    number = np.zeros((len(names_before), len(classes) + 1), dtype=np.int64)  # (class before, class or whole) -> node
    for parent, name in enumerate(names_before):
        for k, label in enumerate(classes, start=1) if divided[parent] else ((0, ""),):
            number[parent, k] = len(names)
            whole = name if not label else label if name == "all" else f"{name} / {label}"
            names.append(whole)
            labels.append(label)
            parents.append(parent)
    return Division(stage, before, number[before, code], names_before, tuple(names), tuple(labels), tuple(parents))


def _check_overlaps(
    cs: ChoiceSets, stage: str, classes: list[str], masks: list[np.ndarray], several: np.ndarray
) -> None:
    if not several.any():
        return
    first = int(np.flatnonzero(several)[0])
    shared = [name for name, mask in zip(classes, masks, strict=True) if mask[first]]
    raise ValueError(
        f"stage {stage!r} has {several.sum()} choices in more than one class, such as {' and '.join(shared)} "
        f"(individual/decision/choice {_example_rows(cs, several)}). Its classes must not overlap."
    )


def _example_rows(cs: ChoiceSets, mask: np.ndarray) -> str:
    rows = np.flatnonzero(mask)[:5]
    of = np.searchsorted(cs.offsets, rows, side="right") - 1
    decisions = cs.decisions.iloc[of]
    keys = zip(decisions[INDIVIDUAL], decisions[DECISION], cs.choice[rows], strict=True)
    return examples(["/".join(map(str, key)) for key in keys])
