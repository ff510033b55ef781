"""Training on contrasts at the size of the published study: `mimic` against the usual way and against a bare loop.

71 individuals with 4,800 decisions to train on, 40 with 2,500 to validate, 19 choices each, 4 features; networks of 3
or 4 layers of 24 or 32 units with 5 seeds each, Adam 5e-4, 100 epochs, both splits evaluated after every epoch. Every
case has a fresh process, one after the other; the ratios are of this one run.
"""

from __future__ import annotations

import os

# Before TensorFlow is imported. Small networks gain nothing from more threads within an operation; operations side
# by side (the stages of tf.data) keep TensorFlow's default in the usual way and in plain fit, which profit from them.
os.environ["TF_NUM_INTRAOP_THREADS"] = "1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from parts.output import emitter, peak_memory_mib, say
from parts.study import (
    ALTERNATIVES_PER_DECISION,
    BATCH_CONTRASTS,
    DECISIONS_PER_INDIVIDUAL,
    FEATURES,
    LEARNING_RATE,
    SIZES,
    draw_contrasts,
    simulate_study,
)

from mimic.contrasts import exact_contrasts
from mimic.schema import TRAIN, VALIDATION, ChoiceSets

N_WORKERS = 2
BATCH_DECISIONS = BATCH_CONTRASTS // ALTERNATIVES_PER_DECISION  # 526
UNITS = (24, 24, 24)
GRID = {"units": [[24] * 3, [24] * 4, [32] * 3, [32] * 4], "seed": [0, 1, 2, 3, 4]}
HERE = Path(__file__).resolve().parent
emit = emitter("training")


@dataclass(frozen=True)
class Plan:
    """How long each case runs."""

    grid_epochs: int
    seeds: int
    epochs: int  # timed one by one, ours
    slow_epochs: int  # of the usual way and of plain fit
    epochs_parsing_each: int | None  # None: the slowest way is left out


PLANS = {"quick": Plan(10, 1, 12, 4, None), "full": Plan(100, 5, 60, 5, 3)}


def options(loss: str, **more: Any) -> dict[str, Any]:
    """Training options of ours. Sampled contrasts come in minibatches of 10,000, as in the usual way."""
    batch = {"batch_contrasts": BATCH_CONTRASTS} if loss == "contrast_sampled" else {}
    sampling = {
        "decisions_per_individual": DECISIONS_PER_INDIVIDUAL,
        "alternatives_per_decision": ALTERNATIVES_PER_DECISION,
    }
    known = {"loss": loss, "learning_rate": LEARNING_RATE, "batch_decisions": BATCH_DECISIONS, "units": UNITS}
    return {"weighting": "individual", **known, **batch, **sampling, **more}


# ---------------------------------------------------------------- cases, each in a process of its own


def case_grid(size: str, loss: str) -> dict[str, Any]:
    """The whole grid by the product itself: workers, registry, files, best weights, verdicts."""
    from mimic.grid import expand
    from mimic.registry import Registry
    from mimic.sweep import Sweep, trainee_of

    plan, cs = PLANS[size], simulate_study(SIZES[size])
    grid = {**GRID, "seed": GRID["seed"][: plan.seeds]}
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        members = expand("study", options(loss, epochs=plan.grid_epochs), grid)
        trainees = [trainee_of(m, cs, kind="network", features=FEATURES, options=m.training) for m in members]
        with Sweep(Registry(folder), folder, "benchmark", cs, n_workers=N_WORKERS) as sweep:
            records = sweep.finish(trainees)
        seconds = time.perf_counter() - started
    best = [records[t.task.run].metrics["val_true_contrast_loss"] for t in trainees if _is_small(t.member.training)]
    return {"grid_seconds": seconds, "losses": best, "peak": peak_memory_mib()}


def _is_small(training: Any) -> bool:
    return tuple(training["units"]) == UNITS


def case_bare(size: str) -> dict[str, Any]:
    """The whole grid by the bare loop, in as many processes."""
    plan, cs = PLANS[size], simulate_study(SIZES[size])
    runs = list(itertools.product(GRID["units"], GRID["seed"][: plan.seeds]))
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        data = Path(folder) / "data.npz"
        np.savez(data, **_dense(cs))
        processes = []
        for worker in range(N_WORKERS):
            todo = {
                "runs": [r for n, r in enumerate(runs) if n * N_WORKERS // len(runs) == worker],
                "epochs": plan.grid_epochs,
                "batch_decisions": BATCH_DECISIONS,
                "learning_rate": LEARNING_RATE,
            }
            path = Path(folder) / f"runs_{worker}.json"
            path.write_text(json.dumps(todo))
            command = [sys.executable, "-m", "parts.bare_loop", str(data), str(path)]
            processes.append(subprocess.Popen(command, cwd=HERE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL))
        answers = [json.loads(p.communicate()[0]) for p in processes]
        seconds = time.perf_counter() - started
    losses = [loss for answer in answers for loss in answer["val_contrast_loss"]]
    small = [loss for (units, _), loss in zip(runs, losses, strict=True) if tuple(units) == UNITS]
    return {"grid_seconds": seconds, "losses": small, "peak": peak_memory_mib()}


def _dense(cs: ChoiceSets) -> dict[str, np.ndarray]:
    """Scaled features (decision, choice, feature), the selected choice first, and the weight of each decision."""
    parts = {split: cs.split(split) for split in (TRAIN, VALIDATION)}
    matrix = parts[TRAIN].matrix(FEATURES).astype(np.float64)
    mean, scale = matrix.mean(axis=0), matrix.std(axis=0)
    found = {}
    for split, part in parts.items():
        x = ((part.matrix(FEATURES) - mean) / scale).astype(np.float32).reshape(part.n_decisions, -1, len(FEATURES))
        at = part.selected - part.offsets[:-1]
        rest = np.argsort(np.arange(x.shape[1]) != at[:, None], axis=1, kind="stable")  # the selected one first
        found[split] = np.take_along_axis(x, rest[:, :, None], axis=1)
        found[f"{split}_weights"] = np.add.reduceat(exact_contrasts(part), part.offsets[:-1])
    return found


def case_epochs(size: str, loss: str) -> dict[str, Any]:
    """Seconds of an epoch in one process, with all its true losses."""
    from parts.usual_way import Clock

    from mimic.training import TrainingOptions, train

    cs, clock = simulate_study(SIZES[size]), Clock()
    train(
        cs.split(TRAIN),
        cs.split(VALIDATION),
        FEATURES,
        TrainingOptions(**options(loss, epochs=PLANS[size].epochs)),
        callbacks=[clock],
    )
    return {"seconds": clock.seconds_per_epoch, "cpu": clock.cpu_seconds_per_epoch, "peak": peak_memory_mib()}


def case_three_epochs(size: str) -> dict[str, Any]:
    """True losses of ours with sampled contrasts after three epochs."""
    from mimic.training import TrainingOptions, train

    cs = simulate_study(SIZES[size])
    chosen = TrainingOptions(**options("contrast_sampled", epochs=3))
    row = train(cs.split(TRAIN), cs.split(VALIDATION), FEATURES, chosen).history.iloc[-1]
    return {name: float(row[name]) for name in ("true_contrast_loss", "val_true_contrast_loss")}


def case_slow(size: str, way: str) -> dict[str, Any]:
    """A usual way, from the initial weights that ours has; its true losses after three epochs and at the end."""
    from parts.usual_way import fit_arrays, fit_records, write_records

    from mimic.model import build_network, fit_scaling

    plan, cs = PLANS[size], simulate_study(SIZES[size])
    parts = {split: cs.split(split) for split in (TRAIN, VALIDATION)}
    rng = np.random.default_rng(1)
    contrasts = {split: draw_contrasts(part, rng) for split, part in parts.items()}
    seed = np.random.SeedSequence(0).generate_state(3).tolist()[0]  # as `train` does for seed 0

    def run(epochs: int) -> tuple[Any, dict[str, float]]:
        network = build_network(fit_scaling(parts[TRAIN], FEATURES), units=UNITS, seed=seed)
        if way == "keras_fit":
            return fit_arrays(network, contrasts, epochs=epochs), _true_losses(network, parts)
        each = way == "usual_way_parse_each"
        return fit_records(network, contrasts, folder, epochs=epochs, parse_each=each), _true_losses(network, parts)

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if way != "keras_fit":
            for split, part in contrasts.items():
                write_records(part, folder / split)
        epochs = plan.epochs_parsing_each if way == "usual_way_parse_each" else plan.slow_epochs
        assert epochs is not None
        clock, losses = run(epochs)
        if epochs != 3:
            losses = run(3)[1]
    return {"seconds": clock.seconds_per_epoch, "cpu": clock.cpu_seconds_per_epoch, "peak": peak_memory_mib(), **losses}


def _true_losses(network: Any, parts: dict[str, ChoiceSets]) -> dict[str, float]:
    """Exact contrast losses of a network over whole choice sets."""
    from mimic.contrasts import contrast_loss
    from mimic.model import LogOddsModel

    model = LogOddsModel(network, FEATURES)
    prefixes = {TRAIN: "", VALIDATION: "val_"}
    return {
        f"{prefixes[split]}true_contrast_loss": contrast_loss(model.log_odds(cs), cs, exact_contrasts(cs))
        for split, cs in parts.items()
    }


def case_peak() -> dict[str, Any]:
    """Float32 multiplications and additions a second of one thread, in a product of 1024 x 1024 matrices."""
    a = np.random.default_rng(0).normal(size=(1024, 1024)).astype(np.float32)
    seconds = []
    for _ in range(12):
        started = time.perf_counter()
        a @ a
        seconds.append(time.perf_counter() - started)
    return {"flops": 2 * 1024**3 / min(seconds)}


# ---------------------------------------------------------------- all of them


def flops_per_epoch(size: str, units: Sequence[int]) -> float:
    """Of an epoch of ours: forward and backward over the training rows, forward over the rows of both splits."""
    layers = [len(FEATURES), *units, 1]
    products = [2 * i * o for i, o in itertools.pairwise(layers)]  # a row, forward
    backward = 2 * sum(products) - products[0]  # the first layer's inputs need no gradient
    train_rows, validation_rows = (19 * n for n in SIZES[size].decisions)
    return train_rows * (sum(products) + backward) + (train_rows + validation_rows) * sum(products)


def run_case(size: str, *arguments: str) -> dict[str, Any]:
    """A case in a fresh process."""
    say(" ".join(arguments))
    command = [sys.executable, str(Path(__file__).resolve()), "--case", *arguments, *(["--quick"] * (size == "quick"))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments)} failed:\n{done.stderr[-3000:]}")
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def run_all(size: str) -> None:
    """All cases in turn, then their ratios."""
    plan = PLANS[size]
    peak = run_case(size, "peak")["flops"]
    emit("machine", "float32_peak_of_one_thread", round(peak / 1e9, 1), "Gflop/s")
    slow = ["usual_way", *(["usual_way_parse_each"] if plan.epochs_parsing_each else []), "keras_fit"]
    ways = {way: run_case(size, "slow", way) for way in slow}
    losses = {"exact": "contrast_exact", "sampled": "contrast_sampled", "softmax": "softmax"}
    bare = [run_case(size, "bare")]
    grids = {case: run_case(size, "grid", losses[case]) for case in ("exact", "sampled")}
    bare.append(run_case(size, "bare"))  # once before and once after: the machine may have changed
    ours = {case: run_case(size, "epochs", loss) for case, loss in losses.items()}
    for case, one in {**ways, **ours}.items():
        emit(case, "seconds_per_epoch", round(one["seconds"], 5), "s")
        emit(case, "cpu_seconds_per_epoch", round(one["cpu"], 5), "s")
        emit(case, "peak_memory_mib", round(one["peak"]), "MiB")
    n_runs = len(GRID["units"]) * plan.seeds
    for way, one in ways.items():
        extrapolated = one["seconds"] * n_runs * plan.grid_epochs
        emit(way, "grid_seconds_extrapolated", round(extrapolated), "s, one run after the other")
    for case, one in ours.items():
        emit(case, "share_of_float32_peak", round(flops_per_epoch(size, UNITS) / one["seconds"] / peak, 3), "1")
        for way in slow:
            emit(case, f"ratio_to_{way}", round(ways[way]["seconds"] / one["seconds"], 1), "times as fast per epoch")
            of_cpu = ways[way]["cpu"] / one["cpu"]
            emit(case, f"ratio_to_{way}_cpu", round(of_cpu, 1), "times less processor time per epoch")
    bare_seconds = float(np.mean([one["grid_seconds"] for one in bare]))
    for number, one in enumerate(bare, start=1):
        emit("bare_loop", "grid_seconds", round(one["grid_seconds"], 2), f"s, {n_runs} runs, time {number}")
    emit("bare_loop", "peak_memory_mib", round(bare[0]["peak"]), "MiB of the largest process")
    of_grid = sum(flops_per_epoch(size, units) for units in GRID["units"]) * plan.seeds * plan.grid_epochs
    for case, one in grids.items():
        emit(case, "grid_seconds", round(one["grid_seconds"], 2), f"s, {n_runs} runs of {plan.grid_epochs} epochs")
        emit(case, "ratio_to_bare_loop", round(one["grid_seconds"] / bare_seconds, 3), "times the bare loop's time")
        share = of_grid / one["grid_seconds"] / (peak * N_WORKERS)
        emit(case, "grid_share_of_float32_peak", round(share, 3), "1")
        emit(case, "grid_peak_memory_mib", round(one["peak"]), "MiB of the largest process")
    for case, one in {"bare_loop": bare[0], **grids}.items():
        for name, value in (("", np.median), ("_min", np.min), ("_max", np.max)):
            unit = f"nats, {'' if name else 'median of '}{plan.seeds} seeds"
            emit(case, f"val_contrast_loss{name}", round(float(value(one["losses"])), 5), unit)
    three = {"sampled_three_epochs": run_case(size, "three"), **{f"{way}_three_epochs": ways[way] for way in slow}}
    for case, one in three.items():
        for metric in ("true_contrast_loss", "val_true_contrast_loss"):
            emit(case, metric, round(one[metric], 5), "nats")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a fifth of the study, 4 runs, few epochs")
    parser.add_argument("--case", nargs="+", help=argparse.SUPPRESS)  # how this script starts its own cases
    chosen = parser.parse_args()
    size = "quick" if chosen.quick else "full"
    if chosen.case is None:
        run_all(size)
        return
    name, *rest = chosen.case
    cases = {"grid": case_grid, "bare": case_bare, "epochs": case_epochs, "three": case_three_epochs, "slow": case_slow}
    print(json.dumps(case_peak() if name == "peak" else cases[name](size, *rest)))


if __name__ == "__main__":
    main()
