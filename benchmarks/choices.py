"""Choice sets of synthetic decisions in the Gulf of Alaska: `build_choices` against a loop over h3 calls.

Every case runs in a process of its own, one at a time, and the results are compared row by row at the end.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

# The parent stays small and imports the standard library only: on Linux the peak memory that a child reports is
# at least that of the process it was started from.
if TYPE_CHECKING:
    import pandas as pd

    from mimic.covariates import Covariate

DATA = Path(__file__).resolve().parents[1] / "data" / "north_pacific"
N_DECISIONS = {"quick": 10_000, "full": 100_000}
N_REPEATS = {"quick": 1, "full": 3}
CASES = ("usual_way", "usual_way_cached", "ours_given_tables", "ours")
RESOLUTION = 4
MAX_DISTANCE_KM = 100.0
DISK = 3  # rings that hold every cell within 100 km at resolution 4
WEST, EAST, SOUTH, NORTH = -170.0, -132.0, 50.0, 60.5
FEATURES = ("heading_sin", "heading_cos", "season_sin", "season_cos", "elevation", "sst")


@dataclass(frozen=True)
class Cost:
    """What a case takes: wall time, processor time, and the largest resident memory of its process."""

    seconds: float
    cpu_seconds: float
    peak_mb: float


def emit(case: str, metric: str, value: float, unit: str) -> None:
    """One line of the result on standard output."""
    print(
        json.dumps({"benchmark": "choices", "case": case, "metric": metric, "value": value, "unit": unit}), flush=True
    )


def say(text: str) -> None:
    """Progress on standard error."""
    print(f"[choices] {text}", file=sys.stderr, flush=True)


def peak_mb() -> float:
    """Largest resident memory of this process so far, MB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


# ---------------------------------------------------------------- input


def prepare(folder: Path, n_decisions: int) -> None:
    """Decisions, and both covariates as tables on cells, into Parquet files."""
    import numpy as np
    import pandas as pd

    from mimic.covariates import sample
    from mimic.hexgrid import cell_at, neighbor_table

    rng = np.random.default_rng(0)
    elevation, sst = covariates()
    longitude, latitude = rng.uniform(WEST, EAST, 4 * n_decisions), rng.uniform(SOUTH, NORTH, 4 * n_decisions)
    cells = cell_at(longitude, latitude, RESOLUTION)
    at_sea = np.flatnonzero(sample(elevation, cells) < 0)[:n_decisions]
    origin = cells[at_sea]
    table = neighbor_table(origin, MAX_DISTANCE_KM)
    flat, offsets = table.rows_of(origin)
    # six of ten decisions stay: the origin is the first of its neighbors
    drawn = np.where(rng.uniform(size=n_decisions) < 0.6, 0, rng.integers(0, np.diff(offsets)))
    day = rng.integers(0, 3 * 365, n_decisions)
    decisions = pd.DataFrame(
        {
            "individual": np.char.add("fish ", (np.arange(n_decisions) % 100).astype(str)),
            "decision": np.arange(n_decisions),
            "time_utc": np.datetime64("2018-01-01T20", "ns") + day.astype("timedelta64[D]"),
            "longitude": longitude[at_sea],
            "latitude": latitude[at_sea],
            "origin": origin,
            "destination": table.cell[flat[offsets[:-1] + drawn]],
        }
    )
    decisions.to_parquet(folder / "decisions.parquet")
    known = np.unique(table.cell)
    pd.DataFrame({"choice": known, "elevation": sample(elevation, known)}).to_parquet(folder / "elevation.parquet")
    months = [pd.Timestamp(2018, month, 15) for month in range(1, 13)]
    by_month = [
        pd.DataFrame({"choice": known, "month": m.month, "sst": sample(sst, known, pd.DatetimeIndex([m] * len(known)))})
        for m in months
    ]
    pd.concat(by_month, ignore_index=True).to_parquet(folder / "sst.parquet")
    emit("input", "n_decisions", n_decisions, "decisions")
    emit("input", "n_distinct_origins", len(table.origin), "cells")


def covariates() -> tuple[Covariate, Covariate]:
    """The two covariates of `data/north_pacific`."""
    from mimic.covariates import Covariate

    return (
        Covariate("elevation", DATA / "elevation_5min.nc", "elevation", unit="m"),
        Covariate("sst", DATA / "ocean_climatology.nc", "sst", unit="degC"),
    )


# ---------------------------------------------------------------- ours


def ours(folder: Path, *, from_tables: bool) -> tuple[Cost, pd.DataFrame]:
    """What `build_choices` costs, and its rows."""
    import numpy as np
    import pandas as pd

    from mimic.choices import Source, build_choices, covariate_source
    from mimic.features import FeatureSpec

    decisions = pd.read_parquet(folder / "decisions.parquet")
    elevation_table = pd.read_parquet(folder / "elevation.parquet")
    sst_table = pd.read_parquet(folder / "sst.parquet")
    cells = elevation_table["choice"].to_numpy()  # sorted
    elevation, sst = elevation_table["elevation"].to_numpy(), sst_table["sst"].to_numpy().reshape(12, -1)
    emit_data_memory("ours_given_tables" if from_tables else "ours")

    def look_up_sst(wanted: np.ndarray, times: np.ndarray) -> np.ndarray:
        month = times.astype("datetime64[M]").astype(np.int64) % 12
        return sst[month, np.searchsorted(cells, wanted)]

    started, cpu_started = time.perf_counter(), time.process_time()
    if from_tables:
        sources = [
            Source("elevation", lambda wanted, _: elevation[np.searchsorted(cells, wanted)], "m"),
            Source("sst", look_up_sst, "degC"),
        ]
    else:
        sources = [covariate_source(c) for c in covariates()]
    choice_sets, _ = build_choices(
        decisions,
        max_distance_km=MAX_DISTANCE_KM,
        features=[FeatureSpec(name) for name in FEATURES],
        sources=sources,
        domain="elevation < 0",
    )
    cost = Cost(time.perf_counter() - started, time.process_time() - cpu_started, peak_mb())
    rows = pd.DataFrame(
        {
            "decision": choice_sets.decisions["decision"].to_numpy()[choice_sets.decision_of_row],
            "choice": choice_sets.choice,
            "selected": choice_sets.is_selected,
            **choice_sets.features,
        }
    )
    return cost, rows


# ---------------------------------------------------------------- the usual way


def bearing(latitude_a: float, longitude_a: float, latitude_b: float, longitude_b: float) -> float:
    """True bearing from A to B, radians; all arguments in degrees."""
    lat_a, lat_b = math.radians(latitude_a), math.radians(latitude_b)
    east = math.radians(longitude_b - longitude_a)
    return math.atan2(
        math.sin(east) * math.cos(lat_b),
        math.cos(lat_a) * math.sin(lat_b) - math.sin(lat_a) * math.cos(lat_b) * math.cos(east),
    )


def neighbors(origin: int) -> list[tuple[int, float, int, float, float]]:
    """Cell, distance, stay, and sine and cosine of the heading of every cell within reach of an origin."""
    import h3.api.basic_int as h3

    here = h3.cell_to_latlng(origin)
    found = []
    for cell in h3.grid_disk(origin, DISK):
        there = h3.cell_to_latlng(cell)
        distance = h3.great_circle_distance(here, there, unit="km")
        if distance <= MAX_DISTANCE_KM:
            if cell == origin:
                found.append((cell, distance, 1, 0.0, 0.0))
            else:
                heading = bearing(*here, *there)
                found.append((cell, distance, 0, math.sin(heading), math.cos(heading)))
    return found


def usual_way(folder: Path, *, cached: bool) -> tuple[Cost, pd.DataFrame]:
    """What a loop over decisions with h3 calls and pandas merges costs, and its rows.

    Tuned as far as the approach goes: integer cells, tuples and not dictionaries, features of a decision computed
    once a decision and not once a row. With `cached` the neighbors of an origin are kept for its next decision.
    """
    from functools import cache

    import numpy as np
    import pandas as pd

    decisions = pd.read_parquet(folder / "decisions.parquet")
    elevation, sst = pd.read_parquet(folder / "elevation.parquet"), pd.read_parquet(folder / "sst.parquet")
    emit_data_memory("usual_way_cached" if cached else "usual_way")
    started, cpu_started = time.perf_counter(), time.process_time()
    look_around = cache(neighbors) if cached else neighbors
    times = decisions["time_utc"]
    year_start = pd.to_datetime(times.dt.year.astype(str) + "-01-01")
    year_days = np.where(times.dt.is_leap_year, 366, 365)
    angle = 2 * np.pi * ((times - year_start) / pd.Timedelta(days=1)) / year_days
    columns = [
        decisions["decision"].tolist(),
        decisions["origin"].tolist(),
        decisions["destination"].tolist(),
        times.dt.month.tolist(),
        np.sin(angle).tolist(),
        np.cos(angle).tolist(),
    ]
    collected = []
    for decision, origin, destination, month, season_sin, season_cos in zip(*columns, strict=True):
        for cell, distance, stay, heading_sin, heading_cos in look_around(origin):
            collected.append(
                (
                    decision,
                    cell,
                    cell == destination,
                    distance,
                    stay,
                    heading_sin,
                    heading_cos,
                    month,
                    season_sin,
                    season_cos,
                )
            )
    names = ["decision", "choice", "selected", "distance_km", "stay", *FEATURES[:2], "month", *FEATURES[2:4]]
    rows = pd.DataFrame(collected, columns=names)
    rows = rows.merge(elevation, on="choice", how="left").merge(sst, on=["choice", "month"], how="left")
    rows = rows[rows["elevation"].notna() & rows["sst"].notna() & (rows["elevation"] < 0)]
    by_decision = rows.groupby("decision")["selected"]
    rows = rows[(by_decision.transform("sum") == 1) & (by_decision.transform("size") >= 2)].reset_index(drop=True)
    return Cost(time.perf_counter() - started, time.process_time() - cpu_started, peak_mb()), rows


# ---------------------------------------------------------------- one case, the comparison, all of them


def emit_data_memory(case: str) -> None:
    """Memory with packages and input loaded, before the work."""
    emit(case, "memory_before", round(peak_mb(), 1), "MB")


def run_case(case: str, folder: Path) -> None:
    """Measure one case in this process, and keep its rows for the comparison."""
    if case.startswith("usual_way"):
        import h3  # noqa: F401  (imports are not part of the measurement)

        cost, rows = usual_way(folder, cached=case == "usual_way_cached")
    else:
        cost, rows = ours(folder, from_tables=case == "ours_given_tables")
    emit(case, "peak_memory", round(cost.peak_mb, 1), "MB")
    emit(case, "seconds", cost.seconds, "s")
    emit(case, "cpu_seconds", cost.cpu_seconds, "s")
    rows.to_parquet(folder / f"{case}.parquet")


def compare(folder: Path) -> None:
    """Assert that all cases have the same rows."""
    import numpy as np
    import pandas as pd

    keys = ["decision", "choice"]
    tables = {c: pd.read_parquet(folder / f"{c}.parquet").sort_values(keys, ignore_index=True) for c in CASES}
    expected = tables["usual_way"]
    for case, table in tables.items():
        for name in [*keys, "selected"]:
            assert np.array_equal(table[name], expected[name]), f"{case}: {name} differs from the usual way"
        for name in ("distance_km", "stay", *FEATURES):
            np.testing.assert_allclose(table[name], expected[name], rtol=1e-5, atol=1e-5, err_msg=f"{case}: {name}")
    emit("all", "n_equal_rows", len(expected), "rows")
    emit("all", "n_kept_decisions", int(expected["decision"].nunique()), "decisions")


def child(folder: Path, step: str, n_decisions: int) -> list[dict[str, Any]]:
    """Run one step in a process of its own: its result lines."""
    say(step)
    command = [sys.executable, __file__, "--step", step, "--folder", str(folder), "--decisions", str(n_decisions)]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return [json.loads(line) for line in output.splitlines()]


def run_all(n_decisions: int, n_repeats: int) -> None:
    """All cases in turn, and again; the least of the repeats, which other programs disturbed least."""
    found: dict[tuple[str, str, str], list[float]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        relay(child(folder, "prepare", n_decisions))
        for _ in range(n_repeats):
            for case in CASES:
                for line in child(folder, case, n_decisions):
                    found.setdefault((case, line["metric"], line["unit"]), []).append(line["value"])
        relay(child(folder, "compare", n_decisions))
    least = {key: min(values) for key, values in found.items()}
    for case in CASES:
        for (of_case, metric, unit), value in least.items():
            if of_case == case:
                emit(case, metric, round(value, 4), unit)
        emit(case, "decisions_per_second", round(n_decisions / least[case, "seconds", "s"]), "decisions/s")
    for case in ("ours_given_tables", "ours"):
        for other in ("usual_way", "usual_way_cached"):
            ratios = {m: least[other, m, "s"] / least[case, m, "s"] for m in ("seconds", "cpu_seconds")}
            emit(case, f"ratio_to_{other}", round(ratios["seconds"], 2), "times as fast")
            emit(case, f"ratio_to_{other}_cpu", round(ratios["cpu_seconds"], 2), "times less processor time")


def relay(lines: list[dict[str, Any]]) -> None:
    """Pass on the lines of a child."""
    for line in lines:
        emit(line["case"], line["metric"], line["value"], line["unit"])


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="10,000 decisions, once, instead of 100,000, three times")
    parser.add_argument("--step", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--decisions", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.step is None:
        size = "quick" if given.quick else "full"
        run_all(N_DECISIONS[size], N_REPEATS[size])
    elif given.step == "prepare":
        prepare(given.folder, given.decisions)
    elif given.step == "compare":
        compare(given.folder)
    else:
        run_case(given.step, given.folder)


if __name__ == "__main__":
    main()
