"""The exact Newton of `fit_conditional_logit` against statsmodels, xlogit and choice-learn, on the reference tables.

- `mimic`: coefficients, and covariances of three kinds, from ragged choice sets with features in their own units.
- `statsmodels`: `ConditionalLogit(selected, features, groups=decision).fit()`, BFGS, with its standard errors.
- `xlogit`: `MultinomialLogit().fit(...)`, BFGS, with its standard errors from a numerical Hessian. It needs choice sets
  of one size: smaller ones are filled up with unavailable choices.
- `choice_learn`: `SimpleMNL(optimizer="lbfgs")`, float32, without standard errors; filled up in the same way.

The others are benchmark-only and need not be there: the script runs those that its interpreter can import, and names the
rest. They get every feature divided by its standard deviation, without which BFGS often stops early. Timed are the model
and its fit, on arrays that are laid out for it beforehand, on one thread. Each case has a process of its own, with a time
limit; the least of at most three repeats counts. Log-likelihoods are those of the coefficients, in float64. Reference
tables are found by MIMIC_SHARED, and skipped where they are absent; a synthetic table of 20,000 decisions x 20 choices and
6 features (2,000 with --quick) is always there.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Before NumPy starts: one thread for everybody.
os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
os.environ |= {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import numpy as np
import pandas as pd
from parts.output import emitter, say

from mimic.conditional_logit import fit_conditional_logit
from mimic.probability import grouped_log_softmax
from mimic.schema import ChoiceSets
from mimic.tables import from_table

SHARED = Path(os.environ.get("MIMIC_SHARED", Path(__file__).resolve().parents[2] / "shared"))
REFERENCE = ("logan", "mode_canada", "mtc_work", "wildboar_habitat", "wildboar_habitat_movement")
SYNTHETIC = "synthetic"
PACKAGES = {"statsmodels": "statsmodels", "xlogit": "xlogit", "choice_learn": "choice-learn"}
N_DECISIONS = {"quick": 2_000, "full": 20_000}
LIMIT_S = {"quick": 60, "full": 600}
TABLES = {"quick": ("logan",), "full": REFERENCE}
N_CHOICES, N_REPEATS, ENOUGH_S = 20, 3, 30.0
emit = emitter("conditional_logit")


def load(name: str, n_decisions: int) -> tuple[ChoiceSets, dict[str, np.ndarray]]:
    """Choice sets and their features in float64."""
    if name == SYNTHETIC:
        return simulate(n_decisions)
    known = json.loads((SHARED / "reference" / "reference.json").read_text())[name]
    table = pd.read_csv(SHARED / "reference" / known["file"])
    if "wildboar" in name:
        table["sl_km"] = table["step_length_m"] / 1000
        table["log_sl"] = np.log(table["step_length_m"])
        table["cos_ta"] = np.cos(table["turn_angle_rad"])
    names = list(known["coef"])
    # the rows of a decision lie together in these files, so their order is that of the choice sets
    return from_table(table, features=names), {n: table[n].to_numpy(dtype=np.float64) for n in names}


def simulate(n_decisions: int) -> tuple[ChoiceSets, dict[str, np.ndarray]]:
    """Decisions of 50 individuals among 20 choices, with six features."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n_decisions, N_CHOICES, 6))
    utility = x @ np.array([1.0, -0.7, 0.5, -0.3, 0.1, 0.0]) + rng.gumbel(size=x.shape[:2])
    offsets = np.arange(n_decisions + 1) * N_CHOICES
    decisions = pd.DataFrame(
        {"individual": (np.arange(n_decisions) % 50).astype(str), "decision": np.arange(n_decisions)}
    )
    columns = {f"x{j}": x[:, :, j].ravel() for j in range(6)}
    choice = np.tile(np.arange(N_CHOICES), n_decisions)
    return ChoiceSets(decisions, offsets, choice, offsets[:-1] + utility.argmax(axis=1), columns), columns


def scaled(columns: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Features over their standard deviations, (row, feature), and these."""
    x = np.column_stack(list(columns.values()))
    scale = x.std(axis=0)
    return x / scale, scale


def filled(cs: ChoiceSets, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Features (decision, choice, feature) and availability (decision, choice) of choice sets filled up to one size."""
    place = np.arange(cs.n_rows) - np.repeat(cs.offsets[:-1], cs.n_choices)
    dense = np.zeros((cs.n_decisions, int(cs.n_choices.max()), x.shape[1]))
    available = np.zeros(dense.shape[:2], dtype=bool)
    dense[cs.decision_of_row, place], available[cs.decision_of_row, place] = x, True
    return dense, available


def with_mimic(cs: ChoiceSets, columns: dict[str, np.ndarray]) -> Callable[[], np.ndarray]:
    return lambda: fit_conditional_logit(cs, list(columns), columns=columns).coef


def with_statsmodels(cs: ChoiceSets, columns: dict[str, np.ndarray]) -> Callable[[], np.ndarray]:
    from statsmodels.discrete.conditional_models import ConditionalLogit

    x, scale = scaled(columns)
    selected, groups = cs.is_selected.astype(np.int64), cs.decision_of_row

    def fit() -> np.ndarray:
        result = ConditionalLogit(selected, x, groups=groups).fit(disp=0)
        result.bse  # its standard errors are computed when they are asked for  # noqa: B018
        return np.asarray(result.params) / scale

    return fit


def with_xlogit(cs: ChoiceSets, columns: dict[str, np.ndarray]) -> Callable[[], np.ndarray]:
    from xlogit import MultinomialLogit

    x, scale = scaled(columns)
    dense, available = filled(cs, x)
    n, j, k = dense.shape
    y = np.zeros((n, j))
    y[np.arange(n), cs.selected - cs.offsets[:-1]] = 1
    ids, alts = np.repeat(np.arange(n), j), np.tile(np.arange(j), n)
    avail = None if available.all() else available.ravel().astype(float)

    def fit() -> np.ndarray:
        model = MultinomialLogit()
        model.fit(dense.reshape(-1, k), y.ravel(), list(columns), alts, ids, avail=avail, verbose=0)
        return np.asarray(model.coeff_) / scale

    return fit


def with_choice_learn(cs: ChoiceSets, columns: dict[str, np.ndarray]) -> Callable[[], np.ndarray]:
    from choice_learn.data import ChoiceDataset
    from choice_learn.models import SimpleMNL

    x, scale = scaled(columns)
    dense, available = filled(cs, x)
    data = ChoiceDataset(
        choices=cs.selected - cs.offsets[:-1],
        items_features_by_choice=(dense.astype(np.float32),),
        items_features_by_choice_names=(list(columns),),
        available_items_by_choice=available.astype(np.float32),
    )

    def fit() -> np.ndarray:
        model = SimpleMNL(optimizer="lbfgs", epochs=1000)
        model.fit(data)
        return np.asarray(model.trainable_weights[0], dtype=np.float64).ravel() / scale

    return fit


FITS: dict[str, Callable[..., Callable[[], np.ndarray]]] = {
    "mimic": with_mimic,
    "statsmodels": with_statsmodels,
    "xlogit": with_xlogit,
    "choice_learn": with_choice_learn,
}


def run_case(package: str, table: str, n_decisions: int) -> dict[str, Any]:
    """Least seconds of a fit, by the clock and of the processor, and the log-likelihood of its coefficients."""
    cs, columns = load(table, n_decisions)
    fit = FITS[package](cs, columns)
    seconds: list[float] = []
    seconds_cpu: list[float] = []
    while len(seconds) < N_REPEATS and sum(seconds) < ENOUGH_S:
        started, started_cpu = time.perf_counter(), time.process_time()
        coef = fit()
        seconds.append(time.perf_counter() - started)
        seconds_cpu.append(time.process_time() - started_cpu)
    log_odds = sum(b * x for b, x in zip(coef, columns.values(), strict=True))
    log_p = grouped_log_softmax(np.asarray(log_odds), cs.offsets)[cs.selected]
    return {"seconds": min(seconds), "seconds_cpu": min(seconds_cpu), "log_likelihood": float(log_p.sum())}


def in_own_process(package: str, table: str, n_decisions: int, limit_s: float) -> dict[str, Any] | None:
    """What `run_case` gives in a process of its own; None if the limit was reached or it failed."""
    command = [sys.executable, __file__, "--case", package, table, str(n_decisions)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit_s)
    except subprocess.TimeoutExpired:
        say(f"{table}: {package} was stopped after {limit_s:g} s, the time limit")
        emit(f"{table}: {package}", "stopped_after", limit_s, "s")
        return None
    if done.returncode:
        say(f"{table}: {package} failed: {done.stderr.strip().splitlines()[-1]}")
        return None
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one reference table and 2,000 synthetic decisions")
    parser.add_argument("--case", nargs=3, metavar=("PACKAGE", "TABLE", "DECISIONS"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        package, table, n_decisions = arguments.case
        print(json.dumps(run_case(package, table, int(n_decisions))))
        return
    size = "quick" if arguments.quick else "full"
    packages = [name for name in PACKAGES if importlib.util.find_spec(name)]
    missing = [pip for name, pip in PACKAGES.items() if name not in packages]
    if missing:
        say(f"not installed here, so left out: {', '.join(missing)}; for them, pip install {' '.join(missing)}")
    tables = [*TABLES[size], SYNTHETIC]
    if not (SHARED / "reference").is_dir():
        say(f"no reference tables at {SHARED}; set MIMIC_SHARED to the folder that holds reference/")
        tables = [SYNTHETIC]
    for table in tables:
        say(table)
        ours = None
        for package in ("mimic", *packages):
            found = in_own_process(package, table, N_DECISIONS[size], LIMIT_S[size])
            if found is None:
                continue
            for metric in ("seconds", "seconds_cpu"):
                emit(f"{table}: {package}", metric, found[metric], "s")
            emit(f"{table}: {package}", "log_likelihood", found["log_likelihood"], "nats")
            ours = ours or found
            if found is not ours:
                for metric in ("seconds", "seconds_cpu"):
                    emit(f"{table}: {package} / mimic", metric, found[metric] / ours[metric], "ratio")
                less = ours["log_likelihood"] - found["log_likelihood"]
                emit(f"{table}: mimic - {package}", "log_likelihood", less, "nats")


if __name__ == "__main__":
    main()
