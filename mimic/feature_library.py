"""The features, places and vectors of an experiment into sources, names and `FeatureSpec`s, each checked before any data."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from mimic.feature_definition import Definition
from mimic.feature_sections import FeatureConfig, PlaceConfig, VectorConfig
from mimic.features import FeatureSpec, definitions_of
from mimic.individual_features import filled_definitions, level_definitions, level_names
from mimic.movement_features import BEARING
from mimic.place_features import locate_columns, place_definitions
from mimic.vector_features import VectorField, vector_definitions

__all__ = [
    "check_features",
    "check_known",
    "check_places",
    "expand_lists",
    "experiment_definitions",
    "feature_specs",
    "members_of_feature",
    "refuse_angles",
    "warnings_of",
]


def experiment_definitions(
    places: Mapping[str, PlaceConfig], vectors: Mapping[str, VectorConfig]
) -> dict[str, Definition]:
    """Source -> definition, of what the places and vectors of an experiment bring."""
    found: list[Definition] = []
    for name, place in places.items():
        locate = partial(locate_columns, place.longitude, place.latitude, name)
        found += place_definitions(name, locate, always_known=not place.columns)
    for name, field in vectors.items():
        found += vector_definitions(VectorField(name, field.east, field.north, field.at))
    return {definition.name: definition for definition in found}


def members_of_feature(name: str, feature: FeatureConfig) -> tuple[str, ...]:
    """The features that a name stands for: itself, with `NAME_known`, or one a level and `NAME_unknown`."""
    if feature.levels is not None:
        return tuple(level_names(name, feature.levels))
    return (name, f"{name}_known") if feature.missing is not None else (name,)


def feature_specs(
    features: Mapping[str, FeatureConfig], definitions: Mapping[str, Definition]
) -> dict[str, FeatureSpec]:
    """Name -> spec of every feature that an experiment declares, in order, levels and `NAME_known` one by one.

    Parameters
    ----------
    definitions
        From `experiment_definitions`.

    Raises
    ------
    ValueError
        If features are multiplied in a circle, or by one that stands for several.
    """
    of_name = {member: name for name, feature in features.items() for member in members_of_feature(name, feature)}

    def factor(name: str, chain: tuple[str, ...]) -> FeatureSpec:
        if name in chain:
            raise ValueError(f"features are multiplied in a circle: {' times '.join([*chain, name])}. Take one away.")
        if name in of_name:
            return build(of_name[name], (*chain, name))[name]
        if name in features:
            members = members_of_feature(name, features[name])
            raise ValueError(f"features.{chain[0]}.times: {name} stands for several; take one of {', '.join(members)}.")
        return FeatureSpec(name, definition=definitions.get(name))

    def build(name: str, chain: tuple[str, ...]) -> dict[str, FeatureSpec]:
        given = features[name]
        times = None if given.times is None else factor(given.times, chain)
        if given.levels is not None:
            made = level_definitions(name, given.source, given.levels)
            return {d.name: FeatureSpec(d.name, given.source, times=times, definition=d) for d in made}
        form = FeatureSpec(
            name,
            given.source,
            minus_origin=given.minus_origin,
            multiply=given.multiply,
            clip=given.clip,
            transform=given.transform,
            times=times,
            definition=definitions.get(given.source),
        )
        if given.missing is None:
            return {name: form}
        filled, known = filled_definitions(name, given.source, given.missing)
        return {
            name: replace(form, definition=filled),
            known.name: FeatureSpec(known.name, given.source, definition=known),
        }

    return {member: spec for name in features for member, spec in build(name, (name,)).items()}


def expand_lists(data: Any) -> Any:
    """The mapping of an experiment file, names that stand for several features replaced by these, wherever models list them.

    Anything that is not as it should be is left for the checks to complain about. What is expanded already stays.
    """
    several = _several(data)
    if not several:
        return data

    def listed(names: Any) -> Any:
        if not isinstance(names, list):
            return names
        added: list[Any] = []
        for name in names:
            members = several.get(name, (name,)) if isinstance(name, str) else (name,)
            added += [m for m in members if m == name or (m not in names and m not in added)]
        return added

    def section(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        found = {key: listed(item) if key in ("features", "linear_skip") else item for key, item in value.items()}
        if isinstance(kinds := found.get("scaling"), dict):
            found["scaling"] = {one: kind for name, kind in kinds.items() for one in several.get(name, (name,))}
        return {**found, **{key: section(found[key]) for key in ("training",) if key in found}}

    models = data.get("models")
    changed = {key: section(data[key]) for key in ("training", "baseline") if key in data}
    if isinstance(models, dict):
        changed["models"] = {name: section(model) for name, model in models.items()}
    return {**data, **changed}


def _several(data: Any) -> dict[str, tuple[str, ...]]:
    features = data.get("features") if isinstance(data, dict) else None
    found = {}
    for name, given in features.items() if isinstance(features, dict) else ():
        if not isinstance(given, dict) or not isinstance(name, str):
            continue
        try:
            found[name] = members_of_feature(name, FeatureConfig.model_validate(given))
        except ValueError:
            continue  # said, with its place, where the section itself is checked
    return {name: members for name, members in found.items() if members != (name,)}


def check_places(places: Mapping[str, PlaceConfig], columns: Sequence[str]) -> None:
    """Raise ValueError if a place is given by something that is no decision column."""
    for name, place in places.items():
        check_known(place.columns, columns, where=f"places.{name}")


def check_features(
    features: Mapping[str, FeatureConfig],
    specs: Mapping[str, FeatureSpec],
    *,
    sources: Sequence[str],
    columns: Sequence[str],
) -> None:
    """Raise ValueError if a feature's source or factor is unknown, or levels are of something that is no column.

    Parameters
    ----------
    specs
        From `feature_specs`.
    sources, columns
        All sources, and those of them that are decision columns.
    """
    for name, feature in features.items():
        of_column = feature.levels is not None or feature.missing is not None
        if of_column and feature.source in sources and feature.source not in columns:
            option = "levels" if feature.levels is not None else "missing"
            raise ValueError(
                f"features.{name}: {option} belongs to a decision column; {feature.source} is none. Columns are "
                f"{', '.join(columns)}."
            )
        check_known([feature.source], columns if of_column else sources, where=f"features.{name}.source")
        if feature.times is not None:
            check_known([feature.times], [*specs, *sources], where=f"features.{name}.times")


def check_known(names: Iterable[str], known: Sequence[str], *, where: str) -> None:
    """Raise ValueError at the first name that is not known, with the nearest that is."""
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=3)
            hint = f"did you mean {' or '.join(near)}?" if near else "`mimic features EXPERIMENT` lists what there is."
            raise ValueError(f"{where}: unknown {name}; {hint}")


def refuse_angles(names: Iterable[str], features: Mapping[str, FeatureConfig], *, where: str) -> None:
    """Raise ValueError if a model takes the bearing as a number."""
    for name in names:
        source = features[name].source if name in features else name
        if source == BEARING:
            raise ValueError(
                f"{where}: {name} is an angle, which jumps from pi to -pi in the south, so that neighboring directions are "
                f"far apart, and staying has none; list heading_sin and heading_cos instead. {BEARING} is for groups and "
                "plots."
            )


def warnings_of(names: Sequence[str], specs: Mapping[str, FeatureSpec]) -> list[str]:
    """What to say about a model's features that are 0 where they are unknown, without the one that says so."""
    parts = {name: definitions_of(specs.get(name, FeatureSpec(name))) for name in names}
    there = {definition.name for found in parts.values() for definition in found}
    return [
        f"{name} is a number also where it is unknown, which no model can tell from a value; list {definition.known}"
        + (" beside it." if len(found) == 1 else ", or its product with the same, beside it.")
        for name, found in parts.items()
        for definition in found
        if definition.known and definition.known not in there
    ]
