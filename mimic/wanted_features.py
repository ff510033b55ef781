"""A `Configuration` into the features to compute, the past they need, and what is to be said about them."""

from __future__ import annotations

import logging

import pandas as pd

from mimic.configuration import Configuration
from mimic.expressions import parse
from mimic.feature_library import members_of_feature, warnings_of
from mimic.features import SOURCES, FeatureSpec, needs_history
from mimic.individual_features import level_ledger, missing_ledger
from mimic.ledger import Ledger
from mimic.memory import History
from mimic.memory_checks import check_history
from mimic.schema import ChoiceSets

__all__ = ["empty_levels", "feature_ledger", "history_of", "wanted_features", "warn_of_features"]

_log = logging.getLogger(__name__)

_SELECTED = "selected_"


def wanted_features(configuration: Configuration) -> list[FeatureSpec]:
    """Every feature that a model, the file or a group names; names that are no feature are left to the groups."""
    declared, definitions = configuration.declared_features, configuration.definitions
    own = configuration.bins.own_names if configuration.bins is not None else []
    wanted = [name for model in configuration.models.values() for name in model.features]
    wanted += configuration.baseline_features if configuration.has_baseline else []
    wanted = [name for name in wanted if name not in own]
    groups = configuration.groups
    stages = [text for classes in (groups.chain or {}).values() for text in classes.values()]
    of_choices = [*groups.choices.values(), *groups.shares.values(), *stages]
    named = {name for text in of_choices for name in parse(text).names}
    named |= {name.removeprefix(_SELECTED) for text in groups.behaviors.values() for name in parse(text).names}
    sources = {*configuration.covariates, *configuration.areas, *definitions}
    if configuration.bins is None:
        sources |= set(SOURCES)
    wanted += sorted(named & sources)
    bare = [name for name in dict.fromkeys(wanted) if name not in declared]
    return [*declared.values(), *(FeatureSpec(name, definition=definitions.get(name)) for name in bare)]


def history_of(configuration: Configuration, fixes: pd.DataFrame | None, decisions: pd.DataFrame) -> History | None:
    """The past that the features need, from the regular fixes of the tracks; None where none needs it.

    Raises
    ------
    ValueError
        If a feature needs the past and there are no fixes, or they are not those of the decisions.
    """
    needing = [spec.name for spec in wanted_features(configuration) if needs_history(spec)]
    if not needing:
        return None
    if fixes is None or configuration.choices is None:
        raise ValueError(
            f"{', '.join(needing)} need the fixes of the animals' past and choices that are cells; leave them out here."
        )
    history = History.of(fixes, resolution=configuration.choices.resolution)
    check_history(history, decisions)
    return history


def feature_ledger(configuration: Configuration, decisions: pd.DataFrame) -> Ledger:
    """The decisions whose attributes are unknown, taken as a level of its own or filled with a constant."""
    ledger = Ledger()
    for name, feature in configuration.features.items():
        if feature.levels is not None:
            ledger += level_ledger(decisions, name, feature.source, feature.levels)
        if feature.missing is not None:
            ledger += missing_ledger(decisions, feature.source, feature.missing)
    return ledger


def empty_levels(configuration: Configuration, choice_sets: ChoiceSets) -> list[str]:
    """The features of levels that no decision has: 0 everywhere, also in products. They are no fault of the data."""
    of_levels = [
        member
        for name, feature in configuration.features.items()
        if feature.levels is not None
        for member in members_of_feature(name, feature)
    ]
    return [name for name in of_levels if not choice_sets.features[name].any()]


def warn_of_features(configuration: Configuration, choice_sets: ChoiceSets) -> None:
    """Log what a model cannot learn from its features, or may learn wrongly.

    Raises
    ------
    ValueError
        If a linear term is to be made of features that are the same for all choices of a decision.
    """
    specs = {spec.name: spec for spec in wanted_features(configuration)} if configuration.table is None else {}
    empty = empty_levels(configuration, choice_sets)
    for name, model in configuration.models.items():
        if specs:
            for said in warnings_of(model.features, specs):
                _log.warning("model %s: %s", name, said)
        absent = [feature for feature in model.features if feature in empty and not feature.endswith("_unknown")]
        if absent:
            _log.warning("model %s: no decision has the level of %s; it is 0 everywhere.", name, ", ".join(absent))
        idle = [feature for feature in model.features if choice_sets.info[feature].role == "decision"]
        if idle and model.kind == "conditional_logit":
            _log.warning("model %s: %s", name, _no_coefficient(idle))
        skip = configuration.training_of(name).linear_skip
        named = [feature for feature in skip if feature in idle] if isinstance(skip, list) else []
        if named and model.kind == "network":
            raise ValueError(
                f"models.{name}.linear_skip: {_no_coefficient(named)} The network takes them without being told to."
            )


def _no_coefficient(names: list[str]) -> str:
    are, have = ("is", "has") if len(names) == 1 else ("are", "have")
    return (
        f"{', '.join(names)} {are} the same for all choices of a decision, cancel{'s' if len(names) == 1 else ''} in a "
        f"linear model and {have} no coefficient; left out there. Give an interaction instead: a feature with "
        f"times: {names[0]}."
    )
