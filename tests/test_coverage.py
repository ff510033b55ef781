"""Coverage in small: intervals of D and of coefficients hold the truth as often as they say, from animals that differ.

`benchmarks/coverage.py` is the same at full size, and gives its parts to this test.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest

# Binomial, 60 studies: with a coverage of 95 %, 50 or fewer intervals hold the truth once in 1,350 times; with 92 %, the
# least that is asked for, once in 50.
N_STUDIES, LEAST = 60, 51 / 60


@pytest.fixture(scope="module")
def study(root: Path) -> ModuleType:
    """The benchmark of coverage."""
    path = root / "benchmarks"
    spec = importlib.util.spec_from_file_location("coverage_benchmark", path / "coverage.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # for its dataclasses
    sys.path.insert(0, str(path))  # for its own parts
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(path))
    return module


@pytest.fixture(scope="module")
def means(study: ModuleType) -> pd.DataFrame:
    """Coverage of D and of a difference, by weighting and method, from 30 animals."""
    truth = study.truth_of_means(study.HETEROGENEOUS, n_chunks=5)
    return study.coverage_table(study.cover_means(study.HETEROGENEOUS, truth, sizes=(30,), n_studies=N_STUDIES))


def test_coverage_table_worked_out_by_hand(study: ModuleType) -> None:
    # two intervals hold 1.0, its upper end included, one lies above and one below
    ends = pd.DataFrame({"low": [0.0, 0.5, 2.0, 0.0], "high": [2.0, 1.0, 3.0, 0.5]})
    table = study.coverage_table(ends.assign(quantity="D", method="bca", size=8, truth=1.0))
    assert table[["coverage", "missed_above", "width"]].to_numpy().tolist() == [[0.5, 0.25, 1.0]]


@pytest.mark.parametrize("method", ["percentile", "bca", "expanded"])
@pytest.mark.parametrize("weighting", ["individual", "decision"])
@pytest.mark.parametrize("quantity", ["D", "difference"])
def test_intervals_of_means_cover_the_truth(means: pd.DataFrame, quantity: str, weighting: str, method: str) -> None:
    rows = means.query("quantity == @quantity and weighting == @weighting and method == @method")
    assert rows["coverage"].item() >= LEAST


def test_expanded_intervals_are_the_wider_ones(means: pd.DataFrame) -> None:
    width = means.pivot_table(index=["quantity", "weighting"], columns="method", values="width")
    # sqrt(30 / 29) t_{.975, 29} / z_{.975} = 1.061
    assert (width["expanded"] / width["percentile"]).to_numpy() == pytest.approx(1.061, abs=0.02)


def test_truth_of_means_is_known_to_a_small_part_of_an_interval(study: ModuleType, means: pd.DataFrame) -> None:
    truth = study.truth_of_means(study.HETEROGENEOUS, n_chunks=2)
    again = study.truth_of_means(study.HETEROGENEOUS, n_chunks=5)
    for weighting in ("individual", "decision"):
        width = means.query("weighting == @weighting").groupby("quantity", sort=False)["width"].min().to_numpy()
        assert (again[weighting].error < 0.05 * width).all()
        assert (np.abs(truth[weighting].value - again[weighting].value) < 4 * truth[weighting].error).all()


@pytest.mark.parametrize("kind", ["hessian", "cluster"])
def test_intervals_of_coefficients_cover_those_of_a_world_of_equal_animals(study: ModuleType, kind: str) -> None:
    world = study.HOMOGENEOUS
    truth = study.known_coefficients(world)
    table = study.coverage_table(study.cover_coefficients(world, truth, kinds=[kind], sizes=(15,), n_studies=N_STUDIES))
    assert (table["coverage"] >= LEAST).all()
    # six coefficients together, taken as independent: 330 of 360 is 2.9 standard errors below 95 %, 355 is 3.1 above
    assert 330 / 360 <= table["coverage"].mean() <= 355 / 360


def test_only_clustered_intervals_cover_where_animals_differ(study: ModuleType) -> None:
    world = study.HETEROGENEOUS
    truth = study.truth_of_coefficients(world, n_chunks=2)
    ends = study.cover_coefficients(world, truth, kinds=["hessian", "cluster"], sizes=(30,), n_studies=N_STUDIES)
    table = study.pooled(study.coverage_table(ends)).set_index(["quantity", "method"])["coverage"]
    assert (table.xs("cluster", level="method") >= LEAST).all()
    assert table["all coefficients", "cluster"] >= 330 / 360
    assert table["heading_sin", "hessian"] < 0.92
    assert table["all coefficients", "hessian"] < table["all coefficients", "cluster"] - 0.02
