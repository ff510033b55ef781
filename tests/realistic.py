"""Tables as whole studies have them: long names, five models, twelve groups, many animals, maps of every kind."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from mimic import hexgrid
from mimic.importance import ACROSS, WITHIN

MODELS = ("none", "distance", "+ heading and season", "conditional_logit", "+ temperature and primary production")
GROUPS = (
    "all",
    "stay",
    "first month at sea",
    "mixed layer thickness > 50 m",
    "summer",
    "winter",
    "night",
    "far from the coast",
    "females",
    "males",
    "over the continental shelf",
    "2019",
)
STAGES = ("stay or move", "band of distance to the next cell", "direction", "cell", "all")
COVARIATES = (
    "sea_surface_temperature",
    "net_primary_production",
    "mixed_layer_thickness",
    "elevation",
    "salinity",
    "chlorophyll",
    "sea_surface_height",
    "eddy_kinetic_energy",
    "distance_to_coast_km",
    "slope",
    "ice",
    "wind_east",
)
LONG_FEATURE, LONG_UNIT = "net_primary_production_mean_of_30_days", "mg C m-2 d-1"


def individuals(n: int) -> list[str]:
    """Names as tags give them."""
    return [f"EB2011_30{k:02d}_A{k % 7}" for k in range(n)]


def tracks(longitude: Any, latitude: Any, individual: Any = "a", **columns: Any) -> pd.DataFrame:
    n = len(longitude)
    times = pd.date_range("2020-01-01", periods=n, freq="D").astype("datetime64[ns]")
    lon = (np.asarray(longitude, dtype=float) + 180) % 360 - 180
    return pd.DataFrame(
        {"individual": individual, "time_utc": times, "longitude": lon, "latitude": latitude, **columns}
    )


def many_tracks(n: int, *, longitude: float = -40.0, latitude: float = 40.0, scale: float = 1.0) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    parts = []
    for name in individuals(n):
        walk = np.cumsum(rng.normal(size=(2, 30)), axis=1) * scale
        parts.append(tracks(longitude + walk[0], latitude + walk[1] / 2, name, depth_m=np.abs(walk[0]) * 100))
    table = pd.concat(parts, ignore_index=True)
    return table.assign(split=np.where(table["individual"] < individuals(n)[n // 2], "train", "validation"))


def polar_tracks() -> pd.DataFrame:
    turn = np.linspace(0, 330, 100)
    return tracks(turn, 80 + 5 * np.sin(np.radians(3 * turn)), "a polar bear")


def differences(longitude: float, latitude: float, scale: float = 1.0, n: int = 60) -> pd.DataFrame:
    rng = np.random.default_rng(1)
    x, y = np.cumsum(rng.normal(size=(2, n + 1)) * scale, axis=1)
    x, y = (longitude + x + 180) % 360 - 180, latitude + y / 3
    where = {"longitude": x[:-1], "latitude": y[:-1], "longitude_selected": x[1:], "latitude_selected": y[1:]}
    return pd.DataFrame({**where, "difference": rng.normal(size=n), "individual": "EB2011_3001_A1"})


def choice_set(longitude: float, latitude: float, resolution: int = 4, reach_km: float = 100.0) -> dict[str, Any]:
    origin = hexgrid.cell_at(np.array([longitude]), np.array([latitude]), resolution)
    table = hexgrid.neighbor_table(origin, reach_km)
    weight = np.exp(-4 * table.distance_km / reach_km)
    probability = weight / weight.sum()
    return {
        "cells": table.cell,
        "probability": probability,
        "origin": int(origin[0]),
        "selected": int(table.cell[3]),
    }


def choice_set_table(longitude: float, latitude: float, models: Sequence[str] = MODELS) -> pd.DataFrame:
    one = choice_set(longitude, latitude)
    table = pd.DataFrame({"choice": one["cells"]})
    table["is_selected"], table["is_origin"] = table["choice"] == one["selected"], table["choice"] == one["origin"]
    powers = {f"p {model}": one["probability"] ** k for k, model in enumerate(models)}
    return table.assign(**{name: p / p.sum() for name, p in powers.items()})


def history(models: Sequence[str] = MODELS, folds: int = 0) -> pd.DataFrame:
    epoch = np.arange(1, 41)
    parts = []
    for m, model in enumerate(models):
        true = 0.15 + 0.1 * m + 0.5 * np.exp(-epoch / 5)
        validation = true + 1e-4 * (epoch - 12) ** 2
        columns = {"loss": true + 0.02, "true_contrast_loss": true, "val_true_contrast_loss": validation}
        columns |= {"true_decision_loss": 7 * true, "val_true_decision_loss": 7 * validation}
        runs = [pd.DataFrame({"epoch": epoch, **columns, "model": model}) * 1 for _ in range(max(folds, 1))]
        parts += [run.assign(fold=float(k) if folds else np.nan) for k, run in enumerate(runs)]
    return pd.concat(parts, ignore_index=True)


def evaluation(models: Sequence[str] = MODELS, groups: Sequence[str] = GROUPS) -> pd.DataFrame:
    rows = []
    choice_groups = (("all", 0.05), ("distance_km > 0 and elevation < 0", 0.0625))
    for (m, model), (choices, null), (g, group) in itertools.product(
        enumerate(models), choice_groups, enumerate(groups)
    ):
        lift = 1.0 + m * (1 + 0.3 * g)
        n = 0 if group == "ice" else 7312 // (g + 1)
        ends = (null * lift * 0.9, null * lift * 1.1, lift * 0.9, lift * 1.1)
        rows.append((model, "validation", choices, group, "individual", n, null * lift, null, lift, *ends))
    names = ["model", "split", "choice_group", "behavior_group", "weighting", "n_decisions", "gmp", "null_gmp", "lift"]
    return pd.DataFrame(rows, columns=[*names, "gmp_low", "gmp_high", "lift_low", "lift_high"])


def chain(models: Sequence[str] = MODELS) -> pd.DataFrame:
    rows = []
    for (m, model), (s, stage) in itertools.product(enumerate(models), enumerate(STAGES)):
        gain = (-0.02, 0.0, 0.4, 1.1, 2.2)[m] * (0.2 + 0.2 * s)
        gain = {("none", "cell"): -np.inf, ("distance", "direction"): np.nan}.get((model, stage), gain)
        rows.append((model, stage, gain, 0.8 * gain - 0.02, 1.2 * gain + 0.02, np.exp(gain)))
    table = pd.DataFrame(rows, columns=["model", "stage", "gain", "gain_low", "gain_high", "lift"])
    return table.assign(split="validation", behavior_group=GROUPS[3], weighting="individual")


def summed_chain(models: Sequence[str] = MODELS) -> pd.DataFrame:
    """Gains that are all numbers, those of the stages adding up to that of all."""
    table = chain(models)
    table["gain"] = np.where(np.isfinite(table["gain"]), table["gain"], 0.0)
    of_stages = table[table["stage"] != "all"].groupby("model")["gain"].sum()
    table["gain"] = np.where(table["stage"] == "all", table["model"].map(of_stages), table["gain"])
    return table.assign(gain_low=table["gain"] - 0.1, gain_high=table["gain"] + 0.1, lift=np.exp(table["gain"]))


def _grouped(table: pd.DataFrame) -> pd.DataFrame:
    choices = "distance_km > 0 and elevation < 0"
    return table.assign(split="validation", choice_group=choices, behavior_group=GROUPS[3], weighting="individual")


def reliability(models: Sequence[str] = MODELS, highest: float = 0.9) -> pd.DataFrame:
    predicted = highest * np.linspace(0, 1, 8) ** 2
    parts = []
    for m, model in enumerate(models):
        observed = predicted * (1 - 0.08 * m)
        ends = {"observed": observed, "observed_low": 0.9 * observed, "observed_high": np.minimum(1, 1.1 * observed)}
        parts.append(pd.DataFrame({"model": model, "predicted": predicted, **ends}))
    return _grouped(pd.concat(parts, ignore_index=True))


def ranks(models: Sequence[str] = MODELS) -> pd.DataFrame:
    low = np.arange(10) / 10
    parts = []
    for m, model in enumerate(models):
        observed = 0.1 + 0.01 * m * (low - 0.5)
        ends = {"observed": observed, "observed_low": observed - 0.02, "observed_high": observed + 0.02}
        parts.append(pd.DataFrame({"model": model, "rank_low": low, "rank_high": low + 0.1, **ends, "expected": 0.1}))
    return _grouped(pd.concat(parts, ignore_index=True))


def feature_shares(models: Sequence[str] = MODELS, n_bins: int = 10) -> pd.DataFrame:
    edges = np.linspace(-1234.5, 98765.4, n_bins + 1)
    rows = []
    for (m, model), k in itertools.product(enumerate(models), range(n_bins)):
        share = 1 / n_bins + 0.005 * m
        row = {"model": model, "feature": LONG_FEATURE, "bin": k, "available": 0.1, "observed": 0.1}
        row |= {"feature_low": edges[k], "feature_high": edges[k + 1], "difference": share - 0.1}
        row |= {"predicted": share, "predicted_low": 0.9 * share, "predicted_high": 1.1 * share}
        rows.append(row | {"difference_low": share - 0.12, "difference_high": share - 0.08})
    return _grouped(pd.DataFrame(rows))


def response(models: Sequence[str] = MODELS, *, n: int = 40, kinds: Sequence[str] = ("accumulated",)) -> pd.DataFrame:
    x = np.linspace(0, 12345.6, n)
    parts = []
    for (m, model), (k, kind) in itertools.product(enumerate(models), enumerate(kinds)):
        odds = (m + 1) * np.sin(x / 4000) + 0.3 * k
        band = {"log_odds": odds, "log_odds_low": odds - 0.2, "log_odds_high": odds + 0.2}
        about = {"kind": kind, "feature": LONG_FEATURE, "unit": LONG_UNIT, "value": x, "model": model, "note": ""}
        counts = {"n_rows": 100, "n_draws": 50, "n_individuals": 12}
        parts.append(pd.DataFrame({**about, **band, **counts, "interval": "averaging population, and refits"}))
    return pd.concat(parts, ignore_index=True).assign(reference=12.3 if "log_rss" in kinds else np.nan)


def surface(n: int = 20) -> pd.DataFrame:
    x, y = np.meshgrid(np.linspace(-2, 3.5, n), np.linspace(0, 12345.6, n))
    odds = np.sin(x) * y / 4000
    table = pd.DataFrame({"x": x.ravel(), "y": y.ravel(), "log_odds": odds.ravel(), "log_odds_low": odds.ravel()})
    table = table.assign(log_odds_high=table["log_odds"], odds=1.0, n_rows=100, interval="", n_draws=0)
    about = {"feature_x": "sea_surface_temperature_anomaly", "unit_x": "degC", "feature_y": LONG_FEATURE}
    return table.assign(has_data=(table["x"] < 3) | (table["y"] < 6000), unit_y=LONG_UNIT, centered="by row", **about)


def importance(models: Sequence[str] = MODELS) -> pd.DataFrame:
    rows = []
    for (m, model), (k, feature) in itertools.product(enumerate(models), enumerate(COVARIATES)):
        drop = (m + 1) * np.exp(-k / 3)
        row = {"model": model, "feature": feature, "how": ACROSS if feature == "ice" else WITHIN, "drop": drop}
        rows.append(row | {"drop_low": 0.8 * drop - 0.05, "drop_high": 1.2 * drop + 0.05})
    return _grouped(pd.DataFrame(rows))


def exemplars(n: int, **columns: Any) -> pd.DataFrame:
    difference = np.linspace(1.2, -0.4, n)
    table = pd.DataFrame({"value": individuals(n), "difference": difference, "rank": np.arange(1, n + 1)})
    table["difference_low"], table["difference_high"] = difference - 0.1, difference + 0.1
    table["side"] = np.where(difference > 0, "helped", "harmed")
    about = {"model": MODELS[4], "other": MODELS[2], "by": "individual", "split": "validation"}
    return table.assign(**about, **columns)


def spread() -> pd.DataFrame:
    batch = 2 ** np.arange(3, 15)
    error = 0.5 / np.sqrt(batch)
    return pd.DataFrame({"batch_decisions": batch, "error": error, "error_drawn": 1.05 * error, "probability": 0.617})


def shares(by: str, groups: Sequence[Any]) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rows = [
        (name, group, float(share), int(n), float(selected), int(n))
        for name in COVARIATES
        for group, share, selected, n in zip(
            groups,
            rng.choice([0.0, 0.3, 0.999, 1.0], len(groups)),
            rng.choice([0.9, 1.0], len(groups)),
            rng.integers(1, 99999, len(groups)),
            strict=True,
        )
    ]
    names = ["covariate", by, "share_choices", "n_selected", "share_selected", "n_decisions"]
    return pd.DataFrame(rows, columns=names).assign(n_choices=lambda t: 19 * t["n_decisions"])


def months(n: int) -> list[str]:
    return pd.period_range("2018-04", periods=n, freq="M").astype(str).tolist()


def regions(longitude: float, latitude: float, resolution: int = 2, reach_km: float = 500.0) -> list[int]:
    origin = hexgrid.cell_at(np.array([longitude]), np.array([latitude]), resolution)
    return [int(cell) for cell in hexgrid.neighbor_table(origin, reach_km).cell]


def share_map(cells: Sequence[int]) -> pd.DataFrame:
    share = np.linspace(0, 1, len(cells))
    return pd.DataFrame({"region": cells, "share": share, "n_decisions": 12345, "share_lost": 1 - share})


def bins(models: Sequence[str] = MODELS, n: int = 12) -> pd.DataFrame:
    rows = []
    for (m, model), k in itertools.product(enumerate(models), range(n)):
        row = {"model": model, "bin": k, "label": f"{50 * k}-{50 * k + 50} m", "predicted": 0.08 + 0.01 * m}
        rows.append(row | {"observed": 0.1, "observed_low": 0.08, "observed_high": 0.13})
    return _grouped(pd.DataFrame(rows))
