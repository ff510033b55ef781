"""Training and validation choice sets into what every training on them shares: scaling, rows and their tensors."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from mimic.contrasts import Weighting, has_contrasts
from mimic.expressions import parse
from mimic.features import check_variation
from mimic.inputs import network_inputs, scaled_inputs
from mimic.labels import soft_selections
from mimic.network import Scaling, fit_scaling
from mimic.options import TrainingOptions
from mimic.rows import LossRows, loss_rows
from mimic.scaling import check_finite, scaling_kinds
from mimic.schema import ChoiceSets
from mimic.streams import RowStream, is_too_large

__all__ = ["Part", "TrainingData", "prepare_training"]

# Of a grid all members train on the same data; the folds of an ensemble come one after the other.
_N_KEPT = 2
_kept: list[tuple[weakref.ref[ChoiceSets], weakref.ref[ChoiceSets] | None, tuple[Any, ...], TrainingData]] = []


@dataclass(frozen=True, eq=False)
class Part:
    """One split, ready for losses.

    Parameters
    ----------
    choice_sets
        With soft labels: a decision for every used choice.
    factors
        (decision,): shares of use, or None where every decision has one selection.
    rows
        Without their matrix, which is in the tensor.
    tensor
        (row, input), float32, scaled, see `mimic.core.scale_rows`; a `RowStream` where they are too large to hold.
    """

    choice_sets: ChoiceSets
    factors: np.ndarray | None
    rows: LossRows
    tensor: Any


@dataclass(frozen=True, eq=False)
class TrainingData:
    """What trainings with the same data and features share.

    Parameters
    ----------
    individuals
        Of the training decisions, in order, where the network has an embedding; otherwise empty.
    """

    features: tuple[str, ...]
    scaling: Scaling
    training: Part
    validation: Part | None
    individuals: tuple[str, ...] = field(default=())


def prepare_training(
    cs_train: ChoiceSets, cs_validation: ChoiceSets | None, features: Sequence[str], options: TrainingOptions
) -> TrainingData:
    """Check the data and make them ready; those of the last two calls are kept for the next.

    Raises
    ------
    ValueError
        If there is no feature, a feature is unknown or not finite, or does not differ between choices as its role
        says; no decision can be learned from or validated on.
    """
    # What weights are conditions on stays with the choice sets, for the training to read.
    spoken_of = {name.removeprefix("selected_") for text in options.weights for name in parse(text).names}
    more = tuple(sorted(spoken_of & set(cs_train.features)))
    kinds = scaling_kinds(options.scaling, features)
    key = (tuple(features), kinds, options.labels, options.weighting, options.embedding_size > 0, more)
    for train_ref, validation_ref, kept_key, data in _kept:
        same = train_ref() is cs_train and (validation_ref() if validation_ref else None) is cs_validation
        if same and kept_key == key:
            return data
    data = _prepare(cs_train, cs_validation, *key)
    references = (weakref.ref(cs_train), None if cs_validation is None else weakref.ref(cs_validation))
    _kept.append((*references, key, data))
    del _kept[:-_N_KEPT]
    return data


def _prepare(
    cs_train: ChoiceSets,
    cs_validation: ChoiceSets | None,
    features: tuple[str, ...],
    kinds: tuple[str, ...],
    labels: str | None,
    weighting: Weighting,
    embeds: bool,
    more: tuple[str, ...],
) -> TrainingData:
    _check_decisions(cs_train, cs_validation, labels)
    check_variation(cs_train, features)
    scaling = fit_scaling(cs_train, features, kinds=kinds)
    individuals = tuple(dict.fromkeys(map(str, cs_train.individuals))) if embeds else ()
    parts = [
        None
        if cs is None
        else _part(_only(cs, (*features, *more), labels), features, individuals, labels, weighting, scaling)
        for cs in (cs_train, cs_validation)
    ]
    assert parts[0] is not None
    return TrainingData(features, scaling, parts[0], parts[1], individuals)


def _only(cs: ChoiceSets, features: Sequence[str], labels: str | None) -> ChoiceSets:
    """The choice sets with the features that are needed: others would be copied for nothing."""
    if labels is None and is_too_large(cs, len(features)):
        return cs
    wanted = dict.fromkeys([*features, *([labels] if labels else [])])
    return replace(cs, features={name: cs.features[name] for name in wanted if name in cs.features})


def _part(
    cs: ChoiceSets,
    features: tuple[str, ...],
    individuals: tuple[str, ...],
    labels: str | None,
    weighting: Weighting,
    scaling: Scaling,
) -> Part:
    factors = None
    if labels is not None:
        cs, factors = soft_selections(cs, labels)
    if labels is None and is_too_large(cs, len(features)):
        known = cs.selected >= 0
        check_finite(cs if known.all() else cs.filter(known), features)  # rows are not looked at again
        rows = loss_rows(cs, np.zeros((cs.n_rows, 0), np.float32), weighting=weighting)
        return Part(cs, None, rows, RowStream.of(cs, features, individuals, scaling))
    rows = loss_rows(cs, network_inputs(cs, features, individuals), weighting=weighting, factors=factors)
    if not np.isfinite(rows.matrix).all():
        fit_scaling(cs, features)  # names what is not finite
    tensor = scaled_inputs(rows.matrix, scaling, embeds=bool(individuals))
    return Part(cs, factors, replace(rows, matrix=rows.matrix[:0]), tensor)


def _check_decisions(cs_train: ChoiceSets, cs_validation: ChoiceSets | None, labels: str | None) -> None:
    hints = {"training": "", "validation": " Pass None to train without validation."}
    for (name, hint), cs in zip(hints.items(), (cs_train, cs_validation), strict=True):
        if cs is None:
            continue
        usable = has_contrasts(cs if labels is None else soft_selections(cs, labels)[0])
        if not usable.any():
            raise ValueError(
                f"expected {name} decisions with a known selection and at least one other choice; "
                f"got none among {cs.n_decisions}.{hint}"
            )
