"""Choice sets built by other processes, animal by animal: the same to the last bit as those built here."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mimic.choices import Source, build_choices
from mimic.factored import factor
from mimic.features import FeatureSpec
from mimic.hexgrid import cell_at, neighbor_table
from mimic.joins import JoinedField
from mimic.judges import judge_on_cluster, judge_with, whole_individuals
from mimic.schema import ChoiceSets
from mimic.workers import LocalWorkers

N = 600


@pytest.fixture(scope="module")
def decisions() -> pd.DataFrame:
    """Of seven animals whose decisions are mixed, some with destinations out of reach."""
    rng = np.random.default_rng(3)
    longitude, latitude = rng.uniform(178, 182, N), rng.uniform(51, 53, N)
    origin = cell_at(longitude, latitude, 4)
    table = neighbor_table(origin, 130.0)
    flat, offsets = table.rows_of(origin)
    return pd.DataFrame(
        {
            "individual": rng.choice(list("gfedcba"), N),
            "decision": np.arange(N),
            "time_utc": np.datetime64("2020-01-01", "ns") + rng.integers(0, 9, N).astype("timedelta64[D]"),
            "origin": origin,
            "destination": table.cell[flat[offsets[:-1] + rng.integers(0, np.diff(offsets))]],
        }
    )


def sources(fill: float) -> list[Source]:
    """Depth, missing in a tenth of the cells, and a daily field with gaps that are filled."""

    def depth(cells: np.ndarray, times: np.ndarray) -> JoinedField:
        values = (cells // 4096 % 97).astype(np.float32)
        return JoinedField.static(np.where(values < 10, np.nan, values), len(times))

    def warmth(cells: np.ndarray, times: np.ndarray) -> JoinedField:
        values = (cells[None] // 8192 % 31 + np.arange(len(times))[:, None]).astype(np.float32)
        step = np.arange(len(times))
        return JoinedField(
            np.where(values < 5, np.nan, values), step, step, np.zeros(len(times)), np.ones(len(times), dtype=bool)
        )

    def never(cells: np.ndarray, times: np.ndarray) -> np.ndarray:
        raise AssertionError("these are joined as a whole")

    return [Source("depth", never, join=depth), Source("warmth", never, missing=fill, join=warmth)]


def build(decisions: pd.DataFrame, **options: Any) -> tuple[ChoiceSets, str]:
    specs = [FeatureSpec("depth"), FeatureSpec("warmth"), FeatureSpec("deeper", "depth", minus_origin=True)]
    choice_sets, ledger = build_choices(
        decisions, max_distance_km=110.0, features=specs, sources=sources(-1.0), domain="depth < 90", **options
    )
    return choice_sets, ledger.explain()


def assert_same(one: tuple[ChoiceSets, str], other: tuple[ChoiceSets, str]) -> None:
    pd.testing.assert_frame_equal(one[0].decisions, other[0].decisions)
    for name in ("offsets", "choice", "selected"):
        assert np.array_equal(getattr(one[0], name), getattr(other[0], name)), name
    for name in one[0].features:
        assert np.array_equal(one[0].features[name], other[0].features[name]), name
    assert one[1] == other[1]


def test_parts_are_whole_individuals_and_hold_every_decision_once(decisions: pd.DataFrame) -> None:
    parts = whole_individuals(decisions, 150)
    assert len(parts) > 2
    assert sorted(np.concatenate(parts).tolist()) == list(range(N))
    owners = [set(decisions["individual"].iloc[part]) for part in parts]
    assert sum(map(len, owners)) == 7  # nobody is in two parts
    assert all(len(part) >= 150 for part in parts[:-1])


def test_build_by_two_processes_is_that_of_one_to_the_last_bit(decisions: pd.DataFrame) -> None:
    with_workers = judge_with(lambda setup: LocalWorkers(2, setup=setup), part_decisions=100)
    assert_same(build(decisions), build(decisions, judge_all=with_workers))


def test_no_decisions_are_judged_by_workers_as_here(decisions: pd.DataFrame) -> None:
    with_workers = judge_with(lambda setup: LocalWorkers(1, setup=setup))
    nothing = decisions.iloc[:0]
    assert_same(build(nothing), build(nothing, judge_all=with_workers))


def test_build_on_a_dask_cluster_of_two_processes_is_that_of_one_to_the_last_bit(decisions: pd.DataFrame) -> None:
    pytest.importorskip("distributed", reason="dask and distributed are not installed: pip install 'mimic[scale]'")
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0", silence_logs=logging.CRITICAL
    ) as cluster:
        assert_same(build(decisions), build(decisions, judge_all=judge_on_cluster(cluster.scheduler_address)))


def test_a_domain_that_no_worker_understands_is_told_as_here(decisions: pd.DataFrame) -> None:
    pieces = factor(decisions, max_distance_km=110.0)
    from mimic.verdicts import Rules, judge_here

    rules = Rules.of([], [], "depth < 3", selects=True, max_distance_km=110.0)
    by: list[Callable[..., Any]] = [judge_here, judge_with(lambda setup: LocalWorkers(1, setup=setup))]
    messages = []
    for judge_all in by:
        with pytest.raises(ValueError, match="depth") as told:
            judge_all(pieces, rules)
        messages.append(str(told.value))
    assert messages[0] == messages[1]
