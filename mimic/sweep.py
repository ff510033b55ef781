"""Members of an experiment into records of finished runs: found in the registry, or trained by workers and recorded."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import pandas as pd

from mimic.doctor import Verdict, diagnose
from mimic.expressions import parse
from mimic.grid import Member, halving_rungs, members_table, survivors
from mimic.ideal import IdealLoss, ideal_losses
from mimic.identity import choices_id, code_version, run_id
from mimic.members import Task, Trained, check_tasks, open_data, train_member
from mimic.registry import Registry
from mimic.runrecords import RunRecord
from mimic.schema import SPLIT, TRAIN, ChoiceSets
from mimic.stay import measure_stay
from mimic.tasks import Done, Failure, Workers
from mimic.workers import LocalWorkers, available_cpus

__all__ = [
    "ROWS_FOR_IDEAL",
    "VERDICTS_FILE",
    "MemberFailure",
    "Sweep",
    "Trainee",
    "find_verdicts",
    "monitor_of",
    "open_workers",
    "outcome_table",
    "require_one_finished",
    "trainee_of",
]

# Fewer runs than this are trained where we are: to start a process costs about as much as to train a small network.
_WORTH_A_PROCESS = 4
# Above this many rows the ideal loss, and with it the verdict "underfitting", is left out: it takes minutes.
ROWS_FOR_IDEAL = 2_000_000

# So many parts the check of the options is cut into, so that all workers get ready side by side.
_N_CHECKS = 16

_OPEN, _TRAIN, _CHECK = "mimic.members:open_data", "mimic.members:train_member", "mimic.members:check_tasks"
_LINEAR = "conditional_logit"
VERDICTS_FILE = "verdicts"
FOLD = "fold"
_OPTIONAL = ("last", VERDICTS_FILE)  # files of a run without which it need not be trained again
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


def open_workers(
    choice_sets: ChoiceSets, *, n_tasks: int, n_workers: int | None, cluster: str | None, registry: str
) -> Workers:
    """Workers that hold the choice sets: of a dask cluster, processes of this machine, or this very process.

    Parameters
    ----------
    n_workers
        1 trains in this process. By default one for each processor, where there are runs enough.
    """
    if cluster is not None:
        from mimic.cluster import DaskWorkers

        return DaskWorkers(cluster, setup=(_OPEN, (choice_sets, None)))
    if n_workers is None:
        n_workers = available_cpus() if n_tasks >= _WORTH_A_PROCESS else 1
    if n_workers == 1:
        return _Here(choice_sets, registry)
    return LocalWorkers(n_workers, setup=(_OPEN, (choice_sets, registry)))


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

    def run(
        self, function: str, tasks: Sequence[tuple[Any, ...]], *, affinity: Sequence[Hashable] | None = None
    ) -> Iterator[Done]:
        """The tasks one after the other, those of a kind together."""
        kinds = list(affinity or [None] * len(tasks))
        for index in sorted(range(len(tasks)), key=lambda index: kinds.index(kinds[index])):
            arguments = tasks[index]
            started = time.perf_counter()
            value: Any
            try:
                value = _FUNCTIONS[function](self._data, *arguments)
            except Exception as error:  # as in a worker process: it costs this task only
                value = Failure(type(error).__name__, str(error))
            yield Done(index, value, time.perf_counter() - started)


class Sweep:
    """Trains what the registry does not have yet, and records it as it comes. Use it in a `with` statement.

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
        self._workers: Workers | None = None

    def __enter__(self) -> Sweep:
        return self

    def __exit__(self, *error: object) -> None:
        if self._workers is not None:
            self._workers.close()
            self._workers = None

    def finish(self, trainees: Sequence[Trainee], *, what: str = "training") -> dict[str, RunRecord]:
        """Run id -> record, without its history, of every trainee, trained where needed.

        Raises
        ------
        MemberFailure
            If one cannot be trained. All others are trained and recorded before, and its failure too.
        """
        found = self.registry.find_runs([t.task.run for t in trainees])
        records = {run: record for run, record in found.items() if self._will_do(record)}
        self.registry.record_uses(self.experiment, list(records))
        missing = list({t.task.run: t for t in trainees if t.task.run not in records}.values())
        # Linear models first: they take no time, and what they refuse is told before hours of training.
        missing.sort(key=lambda t: t.task.kind != _LINEAR)
        self._say(what, trainees, records)
        if missing:
            self._train(self._staff(len(missing)), missing, trainees, records, what)
        return {t.task.run: records[t.task.run] for t in trainees}

    def _will_do(self, record: RunRecord) -> bool:
        """Whether a run that is recorded need not be trained again."""
        if record.status == "failed" or (self._retrain and record.id not in self._fresh):
            return False
        return all(self._has_file(address) for role, address in record.files.items() if role not in _OPTIONAL)

    def _has_file(self, address: str) -> bool:
        try:
            return self.registry.file(address).is_file()
        except FileNotFoundError:
            return False

    def _staff(self, n_tasks: int) -> Workers:
        """The workers, who stay: they keep their data and their traced graphs."""
        if self._workers is None or (isinstance(self._workers, _Here) and n_tasks >= _WORTH_A_PROCESS):
            self._workers = open_workers(
                self._choice_sets,
                n_tasks=n_tasks,
                n_workers=self._n_workers,
                cluster=self._cluster,
                registry=self._where,
            )
        if isinstance(self._workers, _Here):
            self._before_training()
        return self._workers

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
        parts = [[t.task for t in missing[k::_N_CHECKS]] for k in range(min(_N_CHECKS, len(missing)))]
        faults = {
            done.index: str(done.value) for done in workers.run(_CHECK, [(part,) for part in parts]) if done.value
        }
        if faults:
            raise MemberFailure(faults[min(faults)])
        kinds = [_architecture(t.task) for t in missing]
        for done in workers.run(_TRAIN, [(t.task,) for t in missing], affinity=kinds):
            trainee = missing[done.index]
            if isinstance(done.value, Failure):
                failures.append((trainee, done.value))
                self._record_failure(trainee, done.value, done.seconds)
                if trainee.task.kind == _LINEAR:
                    break
                continue
            records[trainee.task.run] = self._record(trainee, done.value, done.seconds)
            self.n_trained += 1
            self._say(what, trainees, records)
        if failures:
            trainee, failure = failures[0]
            said = failure.message if failure.type in ("ValueError", "TypeError") else str(failure)
            others = f" ({len(failures)} of {len(missing)} members failed)" if len(failures) > 1 else ""
            raise MemberFailure(f"{trainee.member.name}: {said}{others}")

    def _blank(self, trainee: Trainee) -> RunRecord:
        """The record of a run that has not given anything: failed, until it has."""
        return RunRecord(
            id=trainee.task.run,
            experiment=self.experiment,
            model=trainee.member.model,
            configuration=trainee.configuration,
            data=trainee.data,
            code=trainee.code,
            seed=trainee.member.seed,
            status="failed",
        )

    def _record(self, trainee: Trainee, trained: Trained, seconds: float) -> RunRecord:
        verdicts = self._verdicts(trainee, trained)
        files = {
            "model": (trained.model, ".keras"),
            "last": (trained.last, ".keras"),
            "state": (trained.state, ".npz"),
            VERDICTS_FILE: (json.dumps([asdict(v) for v in verdicts]).encode() if verdicts else None, ".json"),
        }
        record = replace(
            self._blank(trainee),
            status="finished" if trained.status == "finished" else "diverged",
            best_epoch=trained.best_epoch,
            metrics=trained.metrics,
            facts=trained.facts,
            verdicts=list(dict.fromkeys(v.name for v in verdicts)),
            history=trained.history,
            files={k: self.registry.put_file(content, suffix) for k, (content, suffix) in files.items() if content},
            seconds=seconds,
            message=trained.message,
        )
        # What is there already was to be trained again, or another process was as fast: either is as good.
        self.registry.record_run(record, replace=True)
        self._fresh.add(record.id)
        return record

    def _record_failure(self, trainee: Trainee, failure: Failure, seconds: float) -> None:
        record = replace(self._blank(trainee), seconds=seconds, message=str(failure))
        earlier = self.registry.find_run(record.id, history=False)
        if earlier is None or earlier.status == "failed":  # never in the place of a training that went well
            self.registry.record_run(record, replace=True)

    def _verdicts(self, trainee: Trainee, trained: Trained) -> list[Verdict]:
        """What the doctor says; of an ensemble fold by fold."""
        if trainee.task.kind == _LINEAR or trainee.task.until is not None:
            return []
        features = trainee.task.features
        if features not in self._ideals and self._training.n_rows <= ROWS_FOR_IDEAL:
            self._ideals[features] = ideal_losses(self._training, features)

        def verdicts_of(history: pd.DataFrame) -> list[Verdict]:
            return find_verdicts(
                history,
                trainee.task.options,
                trained.facts,
                choice_sets=self._training,
                ideal=self._ideals.get(features),
            )

        if FOLD not in trained.history:
            return verdicts_of(trained.history)
        return [
            replace(verdict, evidence=f"fold {fold:g}: {verdict.evidence}")
            for fold in trained.history[FOLD].unique()
            for verdict in verdicts_of(trained.history[trained.history[FOLD] == fold].reset_index(drop=True))
        ]

    def _say(self, what: str, trainees: Sequence[Trainee], records: Mapping[str, RunRecord]) -> None:
        """Runs done, and the best of them."""
        done = [t for t in trainees if t.task.run in records]
        losses = {
            t.member.name: records[t.task.run].metrics.get(monitor_of(t.task.options), float("nan")) for t in done
        }
        known = {name: loss for name, loss in losses.items() if loss == loss}
        best = min(known, key=lambda name: known[name]) if known else None
        self._progress(what, len(done), len(trainees), f"best {known[best]:.4f} {best}" if best else "")

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
            One row a rung: rung, n_configurations, n_members, epochs (behind each member), epochs_spent, and
        epochs_of_full_grid.
        """
        epochs = int(trainees[0].member.training["epochs"])
        if any(t.member.training["epochs"] != epochs for t in trainees):
            raise ValueError(
                f"model {trainees[0].member.model}: halving compares members after equal numbers of epochs; take "
                "epochs out of the grid, or search it in full (search: {method: full})."
            )
        rungs = halving_rungs(
            len({t.member.configuration for t in trainees}), epochs, factor=factor, min_epochs=min(min_epochs, epochs)
        )
        # Between evaluations there is nothing to compare by, and one more of them might find another best epoch.
        every = math.lcm(*(int(t.member.training["evaluate_every"]) for t in trainees))
        left, rows, before = list(trainees), [], 0
        records: dict[str, RunRecord] = {}
        states: dict[str, str] = {}
        for number, rung in enumerate(rungs, start=1):
            end = min(-(-rung.epochs // every) * every, epochs)
            partial = [self._continued(t.up_to(end), states.get(t.member.name)) for t in left]
            records = self.finish(partial, what=f"rung {number} of {len(rungs)}")
            # What diverged starts anew, and diverges again: it has nothing to go on from.
            done = [(t, records[t.task.run]) for t in partial]
            states = {t.member.name: r.files.get("state", "") for t, r in done if r.status == "finished"}
            rows.append(
                {
                    "rung": number,
                    "n_configurations": len({t.member.configuration for t in partial}),
                    "n_members": len(partial),
                    "epochs": end,
                    "epochs_spent": len(partial) * (end - before),
                    "epochs_of_full_grid": len(trainees) * epochs,
                }
            )
            before = end
            if number < len(rungs):
                require_one_finished(partial, records)
                table = outcome_table(partial, records)
                kept = set(survivors(table, rung.n_kept, monitor=monitor_of(left[0].task.options)))
                left = [t for t in left if t.member.configuration in kept]
        return records, pd.DataFrame(rows)

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


def require_one_finished(trainees: Sequence[Trainee], records: Mapping[str, RunRecord]) -> None:
    """See that not all members of a model diverged.

    Raises
    ------
    ValueError
        If they did: where the first of them did, and what to try.
    """
    own = [records[t.task.run] for t in trainees]
    if any(record.status == "finished" for record in own):
        return
    first, many = trainees[0].member, len(own) > 1
    place = f"all {len(own)} members diverged, and the first, {first.name}: " if many else ""
    raise ValueError(
        f"model {first.model}: {place}{own[0].message}. Try a learning_rate below "
        f"{first.training['learning_rate']:g} or a gradient_clip_norm."
    )


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
