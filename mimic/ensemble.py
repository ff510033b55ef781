"""Choice sets into an ensemble: members that stop early on different individuals, combined into one model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

import keras
import numpy as np
import pandas as pd

from mimic.contrasts import has_contrasts
from mimic.evaluation import evaluate
from mimic.model import Combination, LogOddsModel
from mimic.network import column_layers
from mimic.schema import INDIVIDUAL, SPLIT, TRAIN, VALIDATION, ChoiceSets
from mimic.splits import split_individuals
from mimic.training import TrainingOptions, TrainingResult, train

__all__ = ["EnsembleResult", "combine", "folds_of_individuals", "train_ensemble"]

Progress = Callable[[int, int, dict[str, float]], None]

_HOW = get_args(Combination)
_TAG = "tag"
# What a combined model tells once, and not again for each member.
_SHARED = ("features", "info", "individuals", "mimic")


@dataclass(frozen=True, eq=False)
class EnsembleResult:
    """A trained ensemble, its members, and how they compare.

    Parameters
    ----------
    model
        The members as one model, combined as asked.
    members
        What training each gave; the metadata of its model say on which individuals it stopped (`fold`).
    history
        The histories of the members below each other, with the column `member`, from 1. Their `val_` losses are
        those on the fold of the member.
    losses
        One row a model and split: `member 1`, ..., and both ways to combine them, whichever was asked. Columns
        model, split, weighting, n_individuals, n_decisions, contrast_loss, log_probability, gmp, null_gmp, lift and
        mean_probability as in `mimic.evaluation.evaluate`. No choice was made on the split "validation".
    """

    model: LogOddsModel
    members: tuple[TrainingResult, ...]
    history: pd.DataFrame
    losses: pd.DataFrame


def combine(models: Sequence[LogOddsModel], how: Combination) -> LogOddsModel:
    """Several models as one, which is scored and saved like any other.

    Parameters
    ----------
    models
        Of the same features in the same order and unit, each with one log-odds a choice. Their scaling, architecture
        and the individuals of their embeddings may differ. The networks are copied.
    how
        "mean_log_odds": the mean of the members' log-odds, (row, 1). "mean_probability": the log-odds of all
        members, (row, member), of which `LogOddsModel.log_odds` takes the mean of p over each choice set.

    Returns
    -------
    Its metadata hold `combine`, the roles and units of the features, and what is known of each member (`members`).
    With embeddings, it knows the individuals that any member knows; to a member that does not, such an individual is
    the population.

    Raises
    ------
    ValueError
        If there are no models, `how` is unknown, features or units differ, or a model has no network or several
        outputs.

    Notes
    -----
    The mean of log-odds is the normalized geometric mean of the members' probabilities. One member that takes a
    choice for impossible decides alone there, but not in the arithmetic mean, mean_probability.
    """
    _check_members(models, how)
    n_features = len(models[0].features)
    individuals = list(dict.fromkeys(name for model in models for name in model.individuals))
    inputs = keras.Input((n_features + bool(individuals),), name="features")
    parts = [_member(inputs, model, number, individuals) for number, model in enumerate(models, start=1)]
    if len(parts) == 1:
        output = parts[0]
    elif how == "mean_log_odds":
        output = keras.layers.Average(name="mean_log_odds")(parts)
    else:
        output = keras.layers.Concatenate(name="log_odds_of_members")(parts)
    metadata: dict[str, Any] = {
        **{name: models[0].metadata[name] for name in ("features", "info") if name in models[0].metadata},
        "combine": how,
        **({"individuals": individuals} if individuals else {}),
        "members": [{k: v for k, v in model.metadata.items() if k not in _SHARED} for model in models],
    }
    return LogOddsModel(keras.Model(inputs, output, name="ensemble"), models[0].features, metadata)


def folds_of_individuals(cs: ChoiceSets, n_folds: int, seed: int) -> list[np.ndarray]:
    """Whole individuals dealt into folds: `n_folds` masks (decision,), bool, of which each decision is in one.

    Folds are of equal numbers of individuals, up to one, and do not depend on the order of the decisions. Individuals
    that share a tag (column `tag`) are in one fold, and then numbers may differ by more. Individuals without a
    decision to learn from are not dealt, and are in the last fold.

    Raises
    ------
    ValueError
        If there are fewer than 2 folds, or fewer individuals with a known selection among several choices than folds.
    """
    if n_folds < 2:
        raise ValueError(f"expected 2 or more folds; got {n_folds}.")
    usable = cs.decisions.loc[has_contrasts(cs)]
    n_individuals = usable[INDIVIDUAL].nunique()
    if n_individuals < n_folds:
        raise ValueError(
            f"{n_folds} folds need as many individuals with a known selection among several choices; got "
            f"{n_individuals}. Ask for fewer members."
        )
    folds = []
    unassigned = np.ones(cs.n_decisions, dtype=bool)
    for fold, draw in enumerate(np.random.SeedSequence(seed).generate_state(n_folds - 1).tolist()):
        split = split_individuals(
            usable[INDIVIDUAL].tolist(),
            validation_share=1 / (n_folds - fold),
            seed=draw,
            tags=usable[_TAG].tolist() if _TAG in usable.columns else None,
        )
        drawn = [name for name, side in split.items() if side == VALIDATION]
        folds.append(cs.decisions[INDIVIDUAL].astype(str).isin(drawn).to_numpy())
        unassigned &= ~folds[-1]
        usable = usable.loc[~usable[INDIVIDUAL].astype(str).isin(drawn)]
    return [*folds, unassigned]


def train_ensemble(
    cs_train: ChoiceSets,
    cs_validation: ChoiceSets | None,
    features: Sequence[str],
    options: TrainingOptions | None = None,
    *,
    members: int = 4,
    combine: Combination = "mean_probability",
    train: Callable[..., TrainingResult] = train,
    progress: Progress | None = None,
) -> EnsembleResult:
    """Networks that each train on other individuals of the training decisions, combined into one model.

    The training individuals are dealt into as many folds as there are members. Member k trains on those outside fold
    k, with a seed of its own, and stops early, at its best epoch, on those in fold k.

    Parameters
    ----------
    cs_validation
        Reported in `losses`. It decides about nothing: animals never seen remain so.
    options
        For every member; members have seeds drawn from its seed, which also deals the folds.
    members
        Their number, 2 or more.
    combine
        How the members become one model, see the function of this name.
    train
        What trains a member: called as `train(cs_train, cs_validation, features, options, progress=progress)`.
    progress
        Called as `progress(epoch, n_epochs, logs)` with the epochs of all members counted together; `logs` has
        `member`, from 1. Early stopping leaves epochs out.

    Raises
    ------
    ValueError
        As `train` and `folds_of_individuals`.
    """
    options = options or TrainingOptions()
    _check_how(combine)
    folds = folds_of_individuals(cs_train, members, options.seed)
    seeds = np.random.SeedSequence(options.seed).spawn(1)[0].generate_state(members).tolist()
    results = []
    for number, (fold, seed) in enumerate(zip(folds, seeds, strict=True), start=1):
        inside = cs_train.filter(fold)
        result = train(
            cs_train.filter(~fold),
            inside,
            features,
            replace(options, seed=seed),
            progress=_of_member(progress, number, members),
        )
        names = sorted({str(name) for name in inside.individuals})
        metadata = {**result.model.metadata, "member": number, "fold": names}
        results.append(replace(result, model=replace(result.model, metadata=metadata)))
    models = {how: _combined([result.model for result in results], how) for how in _HOW}
    each = {f"member {number}": result.model for number, result in enumerate(results, start=1)}
    history = pd.concat([r.history.assign(member=k) for k, r in enumerate(results, start=1)], ignore_index=True)
    splits = {TRAIN: cs_train} | ({} if cs_validation is None else {VALIDATION: cs_validation})
    losses = pd.concat([_losses(each | models, cs, name, options) for name, cs in splits.items()], ignore_index=True)
    return EnsembleResult(models[combine], tuple(results), history, losses)


# Under this name also within train_ensemble, whose option is called as the function.
_combined = combine


def _check_how(how: str) -> None:
    if how not in _HOW:
        raise ValueError(f"an ensemble is combined as {' or '.join(_HOW)}; got {how!r}.")


def _check_members(models: Sequence[LogOddsModel], how: str) -> None:
    _check_how(how)
    if not models:
        raise ValueError("expected models to combine; got none.")
    for number, model in enumerate(models, start=1):
        if model.network is None:
            raise ValueError(f"member {number} is the model without features, which has no network to combine.")
        if model.averages_probability and model.network.output_shape[1] > 1:
            raise ValueError(f"member {number} is itself a mean of probabilities; combine its members instead.")
        if model.features != models[0].features:
            raise ValueError(
                f"members must take the same features in the same order; member 1 takes "
                f"{', '.join(models[0].features)}, member {number} {', '.join(model.features)}."
            )
        units = [
            {name: one.get("unit") for name, one in m.metadata["info"].items()}
            for m in (models[0], model)
            if m.metadata.get("info")
        ]
        if len(units) == 2 and units[0] != units[1]:
            raise ValueError(f"members must take features in the same units; got {units[0]} and {units[1]}.")


def _member(inputs: Any, model: LogOddsModel, number: int, individuals: Sequence[str]) -> Any:
    """The log-odds of a copy of a member's network, whose layers have names of their own in the ensemble."""
    network, name = model.network, f"member_{number}"
    assert network is not None
    copy = type(network).from_config({**network.get_config(), "name": name})
    copy.set_weights(network.get_weights())
    if not individuals or list(model.individuals) == list(individuals):
        return copy(inputs)
    features = column_layers(inputs, 0, len(model.features), name=f"{name}_raw")
    if not model.individuals:
        return copy(features)
    # Members that were trained on other individuals number them otherwise: a table from the common numbers.
    own_number = {one: k for k, one in enumerate(model.individuals, start=1)}
    table = np.array([[0], *([own_number.get(one, 0)] for one in individuals)])
    lookup = keras.layers.Embedding(len(table), 1, "zeros", trainable=False, name=f"{name}_numbers")
    own = lookup(column_layers(inputs, len(model.features), None, name=f"{name}_individual"))
    lookup.set_weights([table])
    own = keras.layers.Reshape((1,), name=f"{name}_number")(own)
    return copy(keras.layers.Concatenate(name=f"{name}_inputs")([features, own]))


def _of_member(progress: Progress | None, number: int, members: int) -> Progress | None:
    if progress is None:
        return None

    def report(epoch: int, n_epochs: int, logs: dict[str, float]) -> None:
        progress((number - 1) * n_epochs + epoch, members * n_epochs, {**logs, "member": float(number)})

    return report


def _losses(models: dict[str, LogOddsModel], cs: ChoiceSets, split: str, options: TrainingOptions) -> pd.DataFrame:
    """The table of `evaluate` for whole choice sets and all decisions, one row a model."""
    table = evaluate(
        {name: model.log_odds(cs) for name, model in models.items()},
        cs,
        choice_groups={"all": "all"},
        behavior_groups={"all": "all"},
        splits=["all"],
        weightings=[options.weighting],
        method=None,
    )
    return table.drop(columns=["choice_group", "behavior_group"]).assign(**{SPLIT: split})
