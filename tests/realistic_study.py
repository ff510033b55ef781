"""Tables of grids, individuals, networks, pairs and power as whole studies have them, beside those of `realistic`."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pandas as pd
from realistic import COVARIATES, LONG_FEATURE, LONG_UNIT, MODELS, choice_set, exemplars, history, individuals

from mimic.architecture import COLUMNS as LAYER_COLUMNS
from mimic.individual_tables import MONTH_COLUMNS
from mimic.power import POWER_COLUMNS
from mimic.stay_shares import stay_distribution


def cells(longitude: float, latitude: float, resolution: int = 4) -> pd.DataFrame:
    found = choice_set(longitude, latitude, resolution)
    table = pd.DataFrame({"cell": found["cells"], "value": np.linspace(-3, 12345.6, len(found["cells"]))})
    return table.assign(covariate=LONG_FEATURE, unit=LONG_UNIT, period="2019-04-01 to 2019-04-30")


def member_history(models: Sequence[str] = MODELS, n_members: int = 4) -> pd.DataFrame:
    one = history(models).drop(columns="fold")
    parts = [one.assign(member=one["model"] + f"/units=[16, 16], seed={k}") for k in range(n_members)]
    return pd.concat(parts, ignore_index=True)


def hyperparameters(models: Sequence[str] = MODELS) -> pd.DataFrame:
    values = {
        "units": ["[8]", "[16, 16]", "[64, 64, 64]"],
        "learning_rate": ["0.0001", "0.003", "0.01"],
        "dropout": ["0", "0.5"],
        "batch_decisions": ["32", "128", "1024"],
    }
    rows = [
        (model, name, value, order, seed, 0.6 + 0.02 * m + 0.01 * order + 0.002 * seed)
        for (m, model), (name, known) in itertools.product(enumerate(models), values.items())
        for (order, value), seed in itertools.product(enumerate(known), range(3))
    ]
    return pd.DataFrame(rows, columns=["model", "parameter", "value", "order", "seed", "loss"])


def random_starts(models: Sequence[str] = MODELS) -> pd.DataFrame:
    parts = []
    for m, model in enumerate(models):
        for k in range(4):
            loss = 0.6 + 0.02 * m + 0.01 * k + 0.002 * np.arange(5)
            about = {"model": model, "configuration": f"units=[{8 * (k + 1)}, 16], learning_rate=0.00{k + 1}"}
            spread = {"min": loss.min(), "median": np.median(loss), "p90": np.quantile(loss, 0.9), "spread": 0.007}
            parts.append(
                pd.DataFrame({**about, "rank": np.arange(1, 6), "loss": loss, "n_seeds": 5, "n_diverged": 0, **spread})
            )
    return pd.concat(parts, ignore_index=True)


def individual_differences(n: int, pairs: int = 2) -> pd.DataFrame:
    parts = []
    for k in range(pairs):
        table = exemplars(n).rename(columns={"value": "individual"})
        table["split"] = np.where(np.arange(n) % 3 == 0, "validation", "train")
        table["release_site"] = [f"release site number {i % 5}" for i in range(n)]
        parts.append(table.assign(model=MODELS[4 - k], other=MODELS[3 - k]))
    return pd.concat(parts, ignore_index=True)


def individual_scores(n: int = 25, models: Sequence[str] = MODELS) -> pd.DataFrame:
    share = np.linspace(0.05, 0.95, n)
    about = {"individual": individuals(n), "split": np.where(np.arange(n) % 3 == 0, "validation", "train")}
    parts = [
        pd.DataFrame(
            {**about, "model": model, "n_decisions": 50, "log_probability": -3 + m * share, "stay_share": share}
        )
        for m, model in enumerate(models)
    ]
    return pd.concat(parts, ignore_index=True)


def distribution() -> pd.DataFrame:
    n_stay = np.arange(1, 40)
    shares = pd.DataFrame({"split": "validation", "individual": individuals(39), "n_decisions": 1400, "n_stay": n_stay})
    return stay_distribution(shares.assign(n_stay=30 * n_stay))


def months(models: Sequence[str] = MODELS) -> pd.DataFrame:
    month = np.arange(1, 13)
    parts = []
    for (m, model), split in itertools.product(enumerate(models), ("train", "validation")):
        table = pd.DataFrame({"model": model, "split": split, "choice_group": "all", "month": month, "note": ""})
        table = table.assign(n_individuals=12, n_decisions=12345)
        for name, y in (("gain", 0.3 * m + month / 12), ("log_probability", 0.3 * m - 3), ("null", -3.0)):
            table = table.assign(**{name: y, f"{name}_low": y - 0.2, f"{name}_high": y + 0.2})
        parts.append(table[MONTH_COLUMNS])
    return pd.concat(parts, ignore_index=True)


def layers() -> pd.DataFrame:
    """A network of twelve features with two hidden layers."""
    rows = [(name, "", "feature", "feature", 0, 1, "", np.nan, 0, "", "m", "zscore") for name in COVARIATES]
    n = len(COVARIATES)
    for name, role, kind, n_inputs, n_units, activation, count, fed in (
        ("features", "input", "InputLayer", n, n, "", 0, ", ".join(COVARIATES)),
        ("scaling", "scaling", "Rescaling", n, n, "", 0, "features"),
        ("hidden_1", "hidden", "Dense", n, 64, "relu", 64 * (n + 1), "scaling"),
        ("hidden_2", "hidden", "Dense", 64, 64, "relu", 64 * 65, "hidden_1"),
        ("log_odds", "output", "Dense", 64, 1, "linear", 64, "hidden_2"),
    ):
        rows.append((name, "", role, kind, n_inputs, n_units, activation, np.nan, count, fed, "", ""))
    return pd.DataFrame(rows, columns=list(LAYER_COLUMNS))


def bin_pairs(n: int = 12) -> pd.DataFrame:
    names = [f"distance_km {30 * k} to {30 * k + 29.5}, mixed_layer_thickness {k} to {k + 0.9}" for k in range(n)]
    rows = [
        (MODELS[4], "validation", a, b, names[a], names[b], 1.0 + a, 0.05 * np.sin(a - b))
        for a, b in itertools.combinations(range(n), 2)
    ]
    return pd.DataFrame(rows, columns=["model", "split", "bin_a", "bin_b", "a", "b", "weight", "difference"])


def power() -> pd.DataFrame:
    rows = [
        (effect, size, 0.1, 0.05, days, animals, 200, min(0.99, animals * days * size / 6000))
        for effect, size, days, animals in itertools.product(
            ("heading", "covariate"), (0.5, 1.0), (30, 60, 120, 365), (5, 10, 20, 50, 100)
        )
    ]
    columns = ["effect", "size", "sd", "alpha", "n_days", "n_individuals", "n_studies", "power"]
    return pd.DataFrame(rows, columns=columns).reindex(columns=POWER_COLUMNS)
