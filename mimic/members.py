"""One member of an experiment into what training it gave: the function that worker processes run."""

from __future__ import annotations

import io
import json
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from mimic.groups import behavior_mask
from mimic.labels import soft_selections
from mimic.rows import loss_rows
from mimic.scaling import check_logarithms, scaling_kinds
from mimic.schema import TRAIN, VALIDATION, ChoiceSets

if TYPE_CHECKING:
    from mimic.model import LogOddsModel
    from mimic.training import TrainingOptions, TrainingResult

__all__ = ["LOSSES", "Task", "Trained", "WorkerData", "check_tasks", "open_data", "train_member"]

LOSSES = ("true_contrast_loss", "true_decision_loss", "val_true_contrast_loss", "val_true_decision_loss")


@dataclass(frozen=True)
class Task:
    """What to train, in plain values that travel to a worker.

    Parameters
    ----------
    run
        Its id.
    kind
        "network", "ensemble" or "conditional_logit".
    options
        As `mimic.options.TrainingOptions` takes them.
    ensemble
        `members` and `combine`, for an ensemble.
    until, state
        A network trains up to this epoch for now, and goes on from this state.
    """

    run: str
    model: str
    kind: str
    features: tuple[str, ...]
    options: Mapping[str, Any]
    ensemble: Mapping[str, Any] | None = None
    until: int | None = None
    state: bytes | None = None


@dataclass(frozen=True, eq=False)
class Trained:
    """What a worker gives back.

    Parameters
    ----------
    status
        "finished", or "diverged": the loss was not finite; `model` is that of the best epoch before, if any.
    metrics
        The true losses of the model, `LOSSES`, nats.
    model, last
        `.keras` files with the weights of the best and the last epoch; None where there are none.
    state
        To go on from, with `until`.
    message
        Where it diverged.
    """

    status: str
    history: pd.DataFrame
    best_epoch: int | None
    metrics: Mapping[str, float]
    facts: Mapping[str, float] = field(default_factory=dict)
    model: bytes | None = None
    last: bytes | None = None
    state: bytes | None = None
    message: str = ""


@dataclass(frozen=True, eq=False)
class WorkerData:
    """What all tasks of a worker share: the two splits, and where attempts are recorded (None: nowhere)."""

    training: ChoiceSets
    validation: ChoiceSets
    registry: str | None = None


def open_data(choice_sets: ChoiceSets, registry: str | None) -> WorkerData:
    """The setup of a worker."""
    return WorkerData(choice_sets.split(TRAIN), choice_sets.split(VALIDATION), registry)


def check_tasks(data: WorkerData, tasks: Sequence[Task]) -> str:
    """What Keras or mimic refuses in the options of the first task that is wrong; empty where none is."""
    from mimic.training import TrainingOptions

    checked: set[str] = set()
    for task in tasks:
        if task.kind == "conditional_logit":
            continue
        try:
            options = TrainingOptions(**task.options)
            of_data = (options.weights, options.labels, options.augmentation, options.linear_skip, options.scaling)
            key = repr([task.features, *of_data])
            if key not in checked:
                _check_against_data(data.training, task.features, options)
                checked.add(key)
        except (ValueError, TypeError) as error:
            return f"model {task.model}: {error}"
    return ""


def _check_against_data(choice_sets: ChoiceSets, features: Sequence[str], options: TrainingOptions) -> None:
    """Raise ValueError where options name what the data or the model do not have."""
    for text in options.weights:
        behavior_mask(choice_sets, text)
    if options.labels:
        soft_selections(choice_sets, options.labels)
    kinds = scaling_kinds(options.scaling, features)
    check_logarithms(choice_sets.features, dict(zip(features, kinds, strict=True)))
    named = {"augmentation": options.augmentation.features if options.augmentation else ()}
    named["linear_skip"] = () if isinstance(options.linear_skip, bool) else options.linear_skip
    for what, names in named.items():
        unknown = [name for name in names if name not in features]
        if unknown:
            raise ValueError(
                f"{what}: {', '.join(unknown)} is no feature of the model; these are {', '.join(features)}."
            )


def train_member(data: WorkerData, task: Task) -> Trained:
    """Train one member. The same bits in every process of this machine that runs on one thread."""
    if data.registry is not None:
        from mimic.registry import Registry

        Registry(data.registry).record_attempt(task.run)
    if task.kind == "conditional_logit":
        return _conditional_logit(data, task)
    from mimic.training import TrainingOptions

    options = TrainingOptions(**task.options)
    return _ensemble(data, task, options) if task.kind == "ensemble" else _network(data, task, options)


def _network(data: WorkerData, task: Task, options: TrainingOptions) -> Trained:
    from mimic.training import DivergenceError, train

    state = None if task.state is None else unpack_state(task.state)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # a divergence is told in the record
            result = train(data.training, data.validation, task.features, options, until=task.until, state=state)
    except DivergenceError as error:
        facts = {"diverged_epoch": error.divergence.epoch}
        message = f"training diverged: {error.divergence}"
        return Trained("diverged", error.history, None, dict.fromkeys(LOSSES, np.nan), facts, message=message)
    best = result.history.loc[result.history["epoch"] == result.best_epoch].iloc[0]
    facts = dict(result.facts)
    if result.divergence is not None:
        facts["diverged_epoch"] = result.divergence.epoch
    return Trained(
        status="finished" if result.divergence is None else "diverged",
        history=result.history,
        best_epoch=result.best_epoch,
        metrics={name: float(best[name]) for name in LOSSES},
        facts=facts,
        model=_file(result.model),
        last=_last(result),
        state=pack_state(result.state) if task.until is not None else None,
        message="" if result.divergence is None else f"training diverged: {result.divergence}",
    )


def _ensemble(data: WorkerData, task: Task, options: TrainingOptions) -> Trained:
    from mimic.ensemble import train_ensemble
    from mimic.training import DivergenceError

    assert task.ensemble is not None
    try:
        result = train_ensemble(data.training, data.validation, task.features, options, **task.ensemble)
    except DivergenceError as error:
        facts = {"diverged_epoch": error.divergence.epoch}
        message = f"training diverged: {error.divergence}"
        return Trained("diverged", error.history, None, dict.fromkeys(LOSSES, np.nan), facts, message=message)
    facts = {"n_members": len(result.members), "n_epochs": int(sum(len(one.history) for one in result.members))}
    history = result.history.rename(columns={"member": "fold"})  # a member of the experiment is something else
    return Trained("finished", history, None, _metrics(data, result.model), facts, _file(result.model))


def _conditional_logit(data: WorkerData, task: Task) -> Trained:
    from mimic.linear import linear_model

    model = linear_model(data.training, task.features, weighting=task.options.get("weighting", "individual"))
    nothing = pd.DataFrame({"epoch": np.zeros(0, dtype=np.int64)})
    return Trained("finished", nothing, None, _metrics(data, model), {"n_parameters": len(task.features)}, _file(model))


def _metrics(data: WorkerData, model: LogOddsModel) -> dict[str, float]:
    found: dict[str, float] = {}
    for prefix, cs in (("", data.training), ("val_", data.validation)):
        # Log-odds stand in for the features: the rows are put in order as those are.
        rows = loss_rows(cs, model.log_odds(cs)[:, None])
        contrast, decision = rows.losses(rows.matrix[:, 0])
        found |= {f"{prefix}true_contrast_loss": contrast, f"{prefix}true_decision_loss": decision}
    return {name: found[name] for name in LOSSES}


def _file(model: LogOddsModel) -> bytes:
    from mimic.model import save_model

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        save_model(model, path)
        return path.read_bytes()


def _last(result: TrainingResult) -> bytes:
    """The `.keras` file of the last epoch; the network has its best weights again afterwards."""
    network = result.model.network
    assert network is not None
    best = network.get_weights()
    network.set_weights(result.last_weights)
    try:
        return _file(result.model)
    finally:
        network.set_weights(best)


def pack_state(state: Mapping[str, Any]) -> bytes:
    """What training goes on from as the bytes of a NumPy archive: arrays, and one text for the rest."""
    best = state["best"]
    rest = {
        "epoch": state["epoch"],
        "stopped": state["stopped"],
        "lower": state["lower"],
        "best": {"best": best["best"], "epoch": best["epoch"], "rows": best["rows"]},
    }
    arrays = {f"trainer_{n}": a for n, a in enumerate(state["trainer"])}
    arrays |= {f"best_{n}": a for n, a in enumerate(best["weights"])}
    buffer = io.BytesIO()
    np.savez(buffer, rest=np.array(json.dumps(rest)), **arrays)
    return buffer.getvalue()


def unpack_state(content: bytes) -> dict[str, Any]:
    """What `pack_state` packed."""
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        rest = json.loads(str(archive["rest"]))
        arrays = {name: archive[name] for name in archive.files if name != "rest"}

    def those(prefix: str) -> list[np.ndarray]:
        n = sum(name.startswith(prefix) for name in arrays)
        return [arrays[f"{prefix}{k}"] for k in range(n)]

    return {**rest, "trainer": those("trainer_"), "best": {**rest["best"], "weights": those("best_")}}
