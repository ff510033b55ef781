"""Members of an experiment into records of finished runs: found in the registry, or trained by workers and recorded."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from mimic.doctor import Verdict, diagnose
from mimic.expressions import parse
from mimic.grid import Member, epochs_spent, halving_rungs, members_table, survivors
from mimic.ideal import IdealLoss, ideal_losses
from mimic.identity import choices_id, code_version, run_id
from mimic.members import Task, Trained, check_tasks, open_data, save_data, train_member
from mimic.registry import Registry
from mimic.runrecords import RunRecord
from mimic.schema import SPLIT, TRAIN, ChoiceSets
from mimic.stay import measure_stay
from mimic.tasks import Done, Failure, Workers
from mimic.workers import LocalWorkers, available_cpus

__all__ = [
    "ROWS_FOR_IDEAL",
    "MemberFailure",
    "Sweep",
    "Trainee",
    "find_verdicts",
    "monitor_of",
    "open_workers",
    "outcome_table",
    "trainee_of",
]

# Fewer runs than this are trained where we are: to start a process costs about as much as to train a small network.
_WORTH_A_PROCESS = 4
# Above this many rows the ideal loss, and with it the verdict "underfitting", is left out: it takes minutes.
ROWS_FOR_IDEAL = 2_000_000

_TRAIN, _CHECK = "mimic.members:train_member", "mimic.members:check_tasks"
_FUNCTIONS: dict[str, Callable[..., Any]] = {_TRAIN: train_member, _CHECK: check_tasks}

Progress = Callable[[str, int, int, str], None]


class MemberFailure(ValueError):
    """A member could not be trained: the data or the options are wrong, or its worker died again and again."""


@dataclass(frozen=True)
class Trainee:
    """A member with its task and what identifies its run."""

    member: Member
    task: Task
    configuration: Mapping[str, Any]
    data: str
    code: str

    def up_to(self, epoch: int) -> Trainee:
        """The same, to be trained up to an epoch for now; up to its last epoch it is the member itself."""
        if epoch >= self.member.training["epochs"]:
            return self
        configuration = {**self.configuration, "until": epoch}
        run = run_id(configuration=configuration, data=self.data, code=self.code)
        return replace(self, configuration=configuration, task=replace(self.task, run=run, until=epoch))


def trainee_of(
    member: Member,
    choice_sets: ChoiceSets,
    *,
    kind: str,
    features: Sequence[str],
    options: Mapping[str, Any],
    ensemble: Mapping[str, Any] | None = None,
) -> Trainee:
    """A member of an experiment as something to train, with the id of its run.

    Parameters
    ----------
    options
        All training options, as `mimic.options.TrainingOptions` takes them.
    """
    weights = options.get("weights") or {}
    wanted = [*features, *([options["labels"]] if options.get("labels") else [])]
    context: list[str] = []
    if weights:  # conditions may speak of any column of the decisions, and of features of the selected choice
        names = {name.removeprefix("selected_") for text in weights for name in parse(text).names}
        wanted += sorted(names & set(choice_sets.features))
        context = [str(column) for column in choice_sets.decisions if str(column) != SPLIT]
    configuration = {
        "kind": kind,
        "features": list(features),
        **({"ensemble": dict(ensemble)} if ensemble else {}),
        "training": {"weighting": options["weighting"]} if kind == "conditional_logit" else dict(options),
    }
    data, code = choices_id(choice_sets, wanted, context=context), code_version()
    run = run_id(configuration=configuration, data=data, code=code)
    task = Task(run, member.model, kind, tuple(features), dict(options), ensemble)
    return Trainee(member, task, configuration, data, code)


@contextmanager
def open_workers(
    choice_sets: ChoiceSets, *, n_tasks: int, n_workers: int | None, cluster: str | None, registry: str
) -> Iterator[Workers]:
    """Workers that hold the choice sets: of a dask cluster, processes of this machine, or this very process.

    Parameters
    ----------
    n_workers
        1 trains in this process. By default one for each processor, where there are runs enough.
    """
    if cluster is not None:
        from mimic.cluster import DaskWorkers

        with DaskWorkers(cluster, setup=("mimic.members:open_data", (choice_sets, None))) as workers:
            yield workers
        return
    if n_workers is None:
        n_workers = min(available_cpus(), n_tasks) if n_tasks >= _WORTH_A_PROCESS else 1
    if n_workers == 1:
        yield _Here(choice_sets, registry)
        return
    with tempfile.TemporaryDirectory(prefix="mimic-") as folder:
        path = Path(folder) / "choice_sets.pickle"
        save_data(choice_sets, path)
        with LocalWorkers(n_workers, setup=("mimic.members:open_data", (str(path), registry))) as workers:
            yield workers


class _Here:
    """This process as its own and only worker."""

    def __init__(self, choice_sets: ChoiceSets, registry: str) -> None:
        self._data = open_data(choice_sets, registry)

    def __enter__(self) -> _Here:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Nothing to close."""

    def run(self, function: str, tasks: Sequence[tuple[Any, ...]], *, affinity: object = None) -> Iterator[Done]:
        """The tasks one after the other."""
        for index, arguments in enumerate(tasks):
            started = time.perf_counter()
            value: Any
            try:
                value = _FUNCTIONS[function](self._data, *arguments)
            except (ValueError, TypeError) as error:
                value = Failure(type(error).__name__, str(error))
            yield Done(index, value, time.perf_counter() - started)


class Sweep:
    """Trains what the registry does not have yet, and records it as it comes.

    Parameters
    ----------
    registry, where
        Where runs are recorded, and its folder or URL, for workers to open.
    experiment
        The id of the experiment that uses the runs.
    choice_sets
        All decisions, with the column `split`.
    retrain
        Train even what the registry has, and replace it.
    """

    def __init__(
        self,
        registry: Registry,
        where: str,
        experiment: str,
        choice_sets: ChoiceSets,
        *,
        n_workers: int | None = None,
        cluster: str | None = None,
        retrain: bool = False,
        before_training: Callable[[], None] = lambda: None,
        progress: Progress = lambda what, done, total, note: None,
    ) -> None:
        self.registry, self.experiment = registry, experiment
        self._where = where
        self.n_trained = 0
        self._choice_sets, self._training = choice_sets, choice_sets.split(TRAIN)
        self._n_workers, self._cluster, self._retrain = n_workers, cluster, retrain
        self._before_training, self._progress = before_training, progress
        self._ideals: dict[tuple[str, ...], IdealLoss] = {}
        self._fresh: set[str] = set()

    def finish(self, trainees: Sequence[Trainee], *, what: str = "training") -> dict[str, RunRecord]:
        """Run id -> record, without its history, of every trainee, trained where needed.

        Raises
        ------
        MemberFailure
            If one cannot be trained. All others are trained and recorded before.
        """
        records = self.registry.find_runs([t.task.run for t in trainees])
        if self._retrain:
            records = {run: record for run, record in records.items() if run in self._fresh}
        records = {run: record for run, record in records.items() if record.status != "failed"}
        self.registry.record_uses(self.experiment, list(records))
        missing = list({t.task.run: t for t in trainees if t.task.run not in records}.values())
        self._say(what, trainees, records)
        if missing:
            self._before_training()
            with open_workers(
                self._choice_sets,
                n_tasks=len(missing),
                n_workers=self._n_workers,
                cluster=self._cluster,
                registry=self._where,
            ) as workers:
                self._train(workers, missing, trainees, records, what)
        return {t.task.run: records[t.task.run] for t in trainees}

    def _train(
        self,
        workers: Workers,
        missing: Sequence[Trainee],
        trainees: Sequence[Trainee],
        records: dict[str, RunRecord],
        what: str,
    ) -> None:
        failures: list[tuple[Trainee, Failure]] = []
        # Before hours of training: what only TensorFlow's side can tell of the options.
        for done in workers.run(_CHECK, [([t.task for t in missing],)]):
            if done.value:
                raise MemberFailure(str(done.value))
        kinds = [_architecture(t.task) for t in missing]
        for done in workers.run(_TRAIN, [(t.task,) for t in missing], affinity=kinds):
            trainee = missing[done.index]
            if isinstance(done.value, Failure):
                failures.append((trainee, done.value))
                continue
            records[trainee.task.run] = self._record(trainee, done.value, done.seconds)
            self.n_trained += 1
            self._say(what, trainees, records)
        if failures:
            trainee, failure = failures[0]
            said = failure.message if failure.type in ("ValueError", "TypeError") else str(failure)
            others = f" ({len(failures)} of {len(missing)} members failed)" if len(failures) > 1 else ""
            raise MemberFailure(f"{trainee.member.name}: {said}{others}")

    def _record(self, trainee: Trainee, trained: Trained, seconds: float) -> RunRecord:
        files = {"model": (trained.model, ".keras"), "last": (trained.last, ".keras"), "state": (trained.state, ".npz")}
        record = RunRecord(
            id=trainee.task.run,
            experiment=self.experiment,
            model=trainee.member.model,
            configuration=trainee.configuration,
            data=trainee.data,
            code=trainee.code,
            seed=trainee.member.seed,
            status="finished" if trained.status == "finished" else "diverged",
            best_epoch=trained.best_epoch,
            metrics=trained.metrics,
            facts=trained.facts,
            verdicts=[v.name for v in self._verdicts(trainee, trained)],
            history=trained.history,
            files={k: self.registry.put_file(content, suffix) for k, (content, suffix) in files.items() if content},
            seconds=seconds,
            message=trained.message,
        )
        self.registry.record_run(record, replace=self._retrain)
        self._fresh.add(record.id)
        return record

    def _verdicts(self, trainee: Trainee, trained: Trained) -> list[Verdict]:
        if trainee.task.kind != "network" or trainee.task.until is not None:
            return []
        features = trainee.task.features
        if features not in self._ideals and self._training.n_rows <= ROWS_FOR_IDEAL:
            self._ideals[features] = ideal_losses(self._training, features)
        return find_verdicts(
            trained.history,
            trainee.task.options,
            trained.facts,
            choice_sets=self._training,
            ideal=self._ideals.get(features),
        )

    def _say(self, what: str, trainees: Sequence[Trainee], records: Mapping[str, RunRecord]) -> None:
        """Runs done, and the best of them."""
        done = [t for t in trainees if t.task.run in records]
        losses = {
            t.member.name: records[t.task.run].metrics.get(monitor_of(t.task.options), float("nan")) for t in done
        }
        known = {name: loss for name, loss in losses.items() if loss == loss}
        best = min(known, key=lambda name: known[name]) if known else None
        self._progress(what, len(done), len(trainees), f"best {best} {known[best]:.4f}" if best else "")

    def halve(
        self, trainees: Sequence[Trainee], *, factor: int, min_epochs: int
    ) -> tuple[dict[str, RunRecord], pd.DataFrame]:
        """Successive halving over the configurations of one model: those that look worst after few epochs are left.

        Members go on from where they were, so that a winner is, bit for bit, what the full grid would give.

        Returns
        -------
        records
            Run id -> record of the members of the configurations that reached the last epoch.
        table
            One row a rung: rung, n_configurations, n_members, epochs (behind each member), epochs_spent.
        """
        epochs = int(trainees[0].member.training["epochs"])
        n_seeds = len({t.member.seed for t in trainees})
        rungs = halving_rungs(
            len({t.member.configuration for t in trainees}), epochs, factor=factor, min_epochs=min(min_epochs, epochs)
        )
        left, rows = list(trainees), []
        records: dict[str, RunRecord] = {}
        states: dict[str, str] = {}
        for number, rung in enumerate(rungs, start=1):
            partial = [self._continued(t.up_to(rung.epochs), states.get(t.member.name)) for t in left]
            records = self.finish(partial, what=f"rung {number} of {len(rungs)}")
            states = {t.member.name: records[t.task.run].files.get("state", "") for t in partial}
            n_spent = len(partial) * rung.more_epochs
            rows.append(
                {
                    "rung": number,
                    "n_configurations": len({t.member.configuration for t in partial}),
                    "n_members": len(partial),
                    "epochs": rung.epochs,
                    "epochs_spent": n_spent,
                }
            )
            if number < len(rungs):
                table = outcome_table(partial, records)
                kept = set(survivors(table, rung.n_kept, monitor=monitor_of(left[0].task.options)))
                left = [t for t in left if t.member.configuration in kept]
        count = epochs_spent(rungs, n_seeds=n_seeds)
        table = pd.DataFrame(rows).assign(epochs_of_full_grid=count.full)
        return records, table

    def _continued(self, trainee: Trainee, state: str | None) -> Trainee:
        if not state:
            return trainee
        return replace(trainee, task=replace(trainee.task, state=self.registry.file(state).read_bytes()))


def outcome_table(trainees: Sequence[Trainee], records: Mapping[str, RunRecord]) -> pd.DataFrame:
    """The members with what came out: run, status, best_epoch, true losses and verdicts."""
    outcomes = {}
    for trainee in trainees:
        record = records[trainee.task.run]
        outcomes[trainee.member.name] = {
            "run": record.id,
            "status": record.status,
            "best_epoch": record.best_epoch,
            **record.metrics,
            "verdicts": ", ".join(record.verdicts),
        }
    return members_table([t.member for t in trainees], outcomes)


def find_verdicts(
    history: pd.DataFrame,
    options: Mapping[str, Any],
    facts: Mapping[str, Any],
    *,
    choice_sets: ChoiceSets,
    ideal: IdealLoss | None,
) -> list[Verdict]:
    """What the doctor says of a network's training.

    Parameters
    ----------
    choice_sets
        The training decisions.
    ideal
        Of the training decisions; None leaves out what needs it.
    """
    size = facts.get("batch_decisions")
    stay = measure_stay(choice_sets, batch_decisions=int(size)) if size else None
    return diagnose(history, options=options, facts=facts, ideal=ideal, stay=stay)


def monitor_of(options: Mapping[str, Any]) -> str:
    """The true validation loss that decides which member is best."""
    return "val_true_decision_loss" if options.get("loss") == "softmax" else "val_true_contrast_loss"


def _architecture(task: Task) -> str:
    """Tasks of one architecture share a traced graph in a worker."""
    names = ("units", "activation", "dropout", "l2", "optimizer", "loss", "embedding_size", "linear_skip")
    return repr((task.kind, task.features, [task.options.get(name) for name in names]))
