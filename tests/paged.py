"""Tables of a page whose every number is known, for its tests."""

from __future__ import annotations

import numpy as np
import pandas as pd

from mimic.page_tables import NULL, PageTables, individual_tables
from mimic.responses import CURVE_COLUMNS

__all__ = ["MODELS", "known_tables", "many_tables"]

MODELS = ("distance", "sea & <b>ice</b>")


def known_tables(*, no_map: str = "") -> PageTables:
    """Three seals on both sides of 180 degrees, four decisions each, a day apart, from 1, 2 and 3 May 2020.

    By the first model p is 0.5 throughout; by the second 0.25 for seal 1, 0.5 for seal 2, 1 for seal 10. n is 4.
    """
    names, p = ["seal 1", "seal 2", "seal 10"], [0.25, 0.5, 1.0]
    longitude = np.array([176.0, 177.5, 179.0, -179.5, 178.0, 179.0, -180.0, -179.0, -178.0, -177.5, -177.0, -176.5])
    latitude = np.array([60.0, 60.2, 60.4, 60.6, 62.0, 62.0, 62.0, 62.0, 61.0, 60.5, 60.0, 59.5])
    who = np.repeat([0, 1, 2], 4)
    day = who + np.tile(np.arange(4), 3)
    decisions = pd.DataFrame(
        {
            "individual": np.array(names)[who],
            "decision": np.tile(np.arange(4), 3),
            "split": np.where(who < 2, "train", "validation"),
            "time_utc": pd.Timestamp("2020-05-01 12:00") + pd.to_timedelta(day, "D"),
            "burst": who,
            "n_choices": 4,
            "stay": np.tile([1.0, 0.0, 0.0, 0.0], 3),
            "longitude": longitude,
            "latitude": latitude,
            "origin_longitude": longitude,
            "origin_latitude": latitude,
            "selected_longitude": longitude + 0.2,
            "selected_latitude": latitude,
        }
    )
    log_p = pd.DataFrame({MODELS[0]: np.log(0.5), MODELS[1]: np.log(np.array(p)[who]), NULL: -np.log(4.0)})
    rank = pd.DataFrame({MODELS[0]: 1.0, MODELS[1]: 2.0, NULL: 2.5}, index=range(12))
    return _tables(decisions, log_p, rank, groups=_groups(), curves=_curves(), no_map=no_map)


def many_tables(n: int = 50_000, *, n_models: int = 6) -> PageTables:
    """So many decisions of 111 fish at random, by six models."""
    rng = np.random.default_rng(0)
    who = rng.integers(0, 111, n)
    models = [f"model {k}" for k in range(n_models)]
    center = rng.uniform([-160, 50], [-130, 60], (111, 2))[who]
    decisions = pd.DataFrame(
        {
            "individual": np.char.add("fish ", who.astype(str)),
            "decision": np.arange(n),
            "split": np.where(who % 3, "train", "validation"),
            "time_utc": pd.Timestamp("2020-05-01") + pd.to_timedelta(np.sort(rng.integers(0, 400 * 86_400, n)), "s"),
            "burst": 0,
            "n_choices": rng.integers(5, 60, n),
            "stay": (rng.random(n) < 0.5).astype(float),
            "longitude": center[:, 0] + rng.normal(size=n),
            "latitude": center[:, 1] + rng.normal(scale=0.5, size=n),
        }
    )
    places = {
        f"{what}_{axis}": decisions[axis] for what in ("origin", "selected") for axis in ("longitude", "latitude")
    }
    log_p = pd.DataFrame({model: np.log(rng.random(n)) for model in models})
    rank = pd.DataFrame({model: rng.integers(1, 50, n) / 1.0 for model in models})
    log_p[NULL], rank[NULL] = -np.log(decisions["n_choices"]), (decisions["n_choices"] + 1) / 2
    return _tables(decisions.assign(**places), log_p, rank)


def _tables(
    decisions: pd.DataFrame,
    log_p: pd.DataFrame,
    rank: pd.DataFrame,
    *,
    groups: pd.DataFrame | None = None,
    curves: pd.DataFrame | None = None,
    no_map: str = "",
) -> PageTables:
    order = decisions.sort_values(["time_utc", "individual"], kind="stable").index
    decisions, log_p, rank = (part.loc[order].reset_index(drop=True) for part in (decisions, log_p, rank))
    individuals, scores = individual_tables(decisions, log_p)
    models = tuple(name for name in log_p if name != NULL)
    return PageTables(
        name="ice & seals",
        description="A study of <seals>.",
        version="0.1.0",
        runs={models[0]: ["0123456789abcdef"]},
        models=models,
        pair=(models[1], models[0]),
        decisions=decisions,
        log_probability=log_p,
        rank=rank,
        individuals=individuals,
        scores=scores,
        groups=pd.DataFrame() if groups is None else groups,
        curves=pd.DataFrame() if curves is None else curves,
        n_unknown=3,
        n_all=len(decisions),
        no_map=no_map,
        labels={"depth": "depth: at the choice (m)", "stay": "stay"},
    )


def _groups() -> pd.DataFrame:
    """Two models x two splits x two choice groups x two weightings: 16 rows."""
    keys = [
        (model, split, choices, "all", weighting)
        for split in ("train", "validation")
        for choices in ("all", "move")
        for weighting in ("individual", "decision")
        for model in MODELS
    ]
    table = pd.DataFrame(keys, columns=["model", "split", "choice_group", "behavior_group", "weighting"])
    gmp = np.linspace(0.8, 0.05, len(table))
    return table.assign(
        n_individuals=3,
        n_decisions=12,
        log_probability=np.log(gmp),
        gmp=gmp,
        gmp_low=gmp - 0.01,
        gmp_high=gmp + 0.01,
        null_gmp=0.25,
        lift=gmp / 0.25,
        note="few individuals",
    )


def _curves() -> pd.DataFrame:
    parts = []
    for feature, model, values in (
        ("depth", MODELS[0], [10.0, 100.0, 1000.0]),
        ("depth", MODELS[1], [10.0, 100.0, 1000.0]),
        ("stay", MODELS[1], [0.0, 1.0]),
    ):
        y = np.linspace(-1, 1, len(values))
        part = pd.DataFrame({"value": values, "log_odds": y, "log_odds_low": y - 0.1, "log_odds_high": y + 0.1})
        part = part.assign(model=model, feature=feature, interval="averaging population", note="few individuals")
        parts.append(part.reindex(columns=["model", *CURVE_COLUMNS]))
    return pd.concat(parts, ignore_index=True)
