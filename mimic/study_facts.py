"""A study into what its paper says in words: settings and facts beside the numbers."""

from __future__ import annotations

from typing import Any

from mimic.baseline import BASELINE
from mimic.configuration import TRUTH, Configuration
from mimic.study import Study

__all__ = ["settings", "study_facts"]

_WEIGHTINGS = {"individual": "animals weigh the same", "decision": "decisions weigh the same"}
_LOSSES = {
    "contrast_exact": "expected contrast loss, exact",
    "contrast_sampled": "contrast loss, sampled",
    "softmax": "decision loss (softmax)",
}


def study_facts(study: Study) -> dict[str, Any]:
    """Title, description, models, groups and settings of a study, as plain values that Typst reads."""
    configuration = study.configuration
    return {
        "title": configuration.name.replace("_", " "),
        "kind": "study",
        "folder": study.folder.name,
        "description": " ".join(configuration.description.split()),
        "data": study.sources["choices"],
        "models": study.models,
        "features": {name: ", ".join(model.features) for name, model in configuration.models.items()},
        "kinds": {name: model.kind for name, model in configuration.models.items()},
        "scored": list(study.log_odds),
        "choice_groups": list(configuration.groups.choices),
        "behavior_groups": list(configuration.groups.behaviors),
        "group_conditions": {
            "choices": dict(configuration.groups.choices),
            "behaviors": dict(configuration.groups.behaviors),
            "shares": dict(configuration.groups.shares),
        },
        "stages": [str(one) for one in dict.fromkeys(study.tables["chain"]["stage"])] if _has_chain(study) else [],
        "pairs": [list(pair) for pair in _pairs(study)],
        "covariates": list(configuration.covariates),
        "is_spatial": study.is_spatial,
        "has_truth": TRUTH in study.log_odds,
        "has_baseline": BASELINE in study.log_odds,
        "settings": settings(configuration),
    }


def settings(configuration: Configuration) -> dict[str, str]:
    """What was chosen, by the name that a paper gives it; only what this experiment has."""
    training, split = configuration.training, configuration.split
    found: dict[str, Any] = {}
    if configuration.tracks is not None:
        found["Tracks"] = configuration.tracks.file.name
        found["Time step"] = configuration.tracks.resample.step
        found["Tolerance of the time step"] = configuration.tracks.resample.tolerance
        if configuration.tracks.clean.max_speed_km_h is not None:
            found["Greatest plausible speed"] = f"{configuration.tracks.clean.max_speed_km_h:g} km/h"
    if configuration.table is not None:
        found["Table of choices"] = configuration.table.file.name
    if configuration.choices is not None:
        found["H3 resolution of the cells"] = configuration.choices.resolution
        found["Maximum distance"] = f"{configuration.choices.max_distance_km:g} km"
        found["Domain"] = configuration.choices.domain
    if configuration.bins is not None:
        found["Choices are bins of"] = configuration.bins.label
    found["Covariates"] = ", ".join(configuration.covariates)
    found["Validation animals"] = (
        ", ".join(split.validation) if split.validation else f"{100 * split.validation_share:g} %, seed {split.seed}"
    )
    varied = {*configuration.grid, *(name for model in configuration.models.values() for name in model.grid or {})}
    found["Training loss"] = f"{_LOSSES[training.loss]}; {_WEIGHTINGS[training.weighting]}"
    if training.loss == "contrast_sampled":
        drawn = configuration.contrasts
        found["Contrasts"] = (
            f"{drawn.decisions_per_individual} decisions an animal, {drawn.alternatives_per_decision} alternatives each"
        )
    if not varied & {"units", "activation"}:  # what the grid varies has no one value
        found["Hidden layers"] = ", ".join(map(str, training.units)) + f" units, {training.activation}"
    rate = "" if "learning_rate" in varied else f", learning rate {training.learning_rate:g}"
    found["Optimizer"] = f"{training.optimizer}{rate}"
    size = training.batch_contrasts
    found["Batch"] = f"{size:,} contrasts" if size is not None else f"{training.batch_decisions:,} decisions"
    stopped = "" if training.patience is None else f", stopped after {training.patience} epochs without improvement"
    found["Epochs"] = f"at most {training.epochs}{stopped}"
    if configuration.grid:
        found["Grid"] = "; ".join(f"{name}: {', '.join(map(str, v))}" for name, v in configuration.grid.items())
        found["Search"] = configuration.search.method
    for name, model in configuration.models.items():
        if model.training:
            found[f"Only of {name}"] = "; ".join(f"{key}: {value}" for key, value in model.training.items())
    return {name: str(value) for name, value in found.items() if value not in (None, "", "0min")}


def _has_chain(study: Study) -> bool:
    return "stage" in study.tables["chain"]


def _pairs(study: Study) -> list[tuple[str, str]]:
    """The pairs of models that were compared."""
    table = study.tables["differences"]
    if table.empty:
        return []
    pairs = table[["model", "other"]].drop_duplicates()
    return [(str(model), str(other)) for model, other in pairs.itertuples(index=False)]
