"""Choice sets with eight covariates and six features of geometry and time: mimic against a loop over h3 calls.

Every case runs in a process of its own, one at a time. At the smallest size the usual ways run too, and all results are
compared row by row at the end.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from parts.output import emitter, peak_memory_mib, say

# The parent stays small and imports the standard library only: on Linux the peak memory that a child reports is
# at least that of the process it was started from.
if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from mimic.choices import Source
    from mimic.ledger import Ledger
    from mimic.schema import ChoiceSets

DATA = Path(__file__).resolve().parents[1] / "data" / "north_pacific"
SMALLEST = 10_000
SIZES = {"quick": (SMALLEST, 100_000), "full": (SMALLEST, 100_000, 1_000_000)}
N_REPEATS = {"quick": 1, "full": 3}
USUAL = ("usual_way", "usual_way_tuned", "usual_way_cached")
OURS = ("table_and_rows", "ours", "ours_lazy", "store")
RESOLUTION = 4
MAX_DISTANCE_KM = 100.0
DISK = 3  # rings that hold every cell within 100 km at resolution 4
WEST, EAST, SOUTH, NORTH = -170.0, -132.0, 50.0, 60.5
DAILY = ("sst", "salinity", "mixed_layer_m", "production", "current_east", "current_north")
STATIC = ("elevation", "shore_km")
GEOMETRY = ("distance_km", "stay", "heading_sin", "heading_cos", "season_sin", "season_cos")
FEATURES = (*GEOMETRY, *DAILY, *STATIC)


@dataclass(frozen=True)
class Cost:
    """What a case takes: wall time, processor time, and the largest resident memory of its process."""

    seconds: float
    cpu_seconds: float
    peak_mib: float


emit = emitter("choices")


# ---------------------------------------------------------------- input


def prepare(folder: Path, n_decisions: int) -> None:
    """Decisions of animals at random places at sea, and a year of covariates on cells, missing on land."""
    import numpy as np
    import pandas as pd

    from mimic.covariates import Covariate, sample
    from mimic.hexgrid import cell_at, centroids, neighbor_table

    rng = np.random.default_rng(0)
    elevation = Covariate("elevation", DATA / "elevation_5min.nc", "elevation", unit="m")
    longitude, latitude = rng.uniform(WEST, EAST, 3 * n_decisions), rng.uniform(SOUTH, NORTH, 3 * n_decisions)
    cells = cell_at(longitude, latitude, RESOLUTION)
    at_sea = np.flatnonzero(sample(elevation, cells) < 0)[:n_decisions]
    origin = cells[at_sea]
    table = neighbor_table(origin, MAX_DISTANCE_KM)
    flat, offsets = table.rows_of(origin)
    # six of ten decisions stay: the origin is the first of its neighbors
    drawn = np.where(rng.uniform(size=n_decisions) < 0.6, 0, rng.integers(0, np.diff(offsets)))
    n_individuals = max(2, n_decisions // 100)
    decisions = pd.DataFrame(
        {
            "individual": np.char.add("fish ", np.sort(rng.integers(0, n_individuals, n_decisions)).astype(str)),
            "decision": np.arange(n_decisions),
            "time_utc": np.datetime64("2018-01-01T20", "ns")
            + rng.integers(0, 365, n_decisions).astype("timedelta64[D]"),
            "longitude": longitude[at_sea],
            "latitude": latitude[at_sea],
            "origin": origin,
            "destination": table.cell[flat[offsets[:-1] + drawn]],
        }
    )
    decisions.to_parquet(folder / "decisions.parquet")
    known = np.unique(table.cell)
    east, north = centroids(known)
    depth = sample(elevation, known)
    on_land = depth >= 0
    day = np.arange(365)[:, None]
    waves = [
        np.sin(np.radians(east * (k + 1)) + day * 2 * np.pi / 365) + np.cos(np.radians(north * (k + 2))) * (k + 1)
        for k in range(len(DAILY))
    ]
    noise = rng.normal(scale=0.1, size=(len(DAILY), 365, len(known)))
    daily = (np.stack(waves) + noise).astype(np.float32)
    daily[:, :, on_land] = np.nan
    np.save(folder / "cells.npy", known)
    np.save(folder / "daily.npy", daily)
    np.save(folder / "static.npy", np.stack([depth, np.hypot(east, north)]).astype(np.float32))
    emit(f"input_{n_decisions}", "n_distinct_origins", len(table.origin), "cells")
    emit(f"input_{n_decisions}", "n_cells", len(known), "cells")


# ---------------------------------------------------------------- ours


def sources(folder: Path) -> list[Source]:
    """The eight covariates, on cells."""
    import numpy as np

    from mimic.choices import Source
    from mimic.joins import JoinedField

    known, daily, static = (np.load(folder / f"{name}.npy") for name in ("cells", "daily", "static"))

    def join_daily(values: np.ndarray, cells: np.ndarray, times: np.ndarray) -> JoinedField:
        step = (times.astype("datetime64[D]") - np.datetime64("2018-01-01")).astype(np.int64)
        on_cells = values if np.array_equal(cells, known) else values[:, np.searchsorted(known, cells)]
        return JoinedField(on_cells, step, step, np.zeros(len(times)), np.ones(len(times), dtype=bool))

    def join_static(values: np.ndarray, cells: np.ndarray, times: np.ndarray) -> JoinedField:
        return JoinedField.static(values[np.searchsorted(known, cells)], len(times))

    def no_rows(cells: np.ndarray, times: np.ndarray) -> np.ndarray:
        raise RuntimeError("these covariates are joined as a whole")

    return [
        *(
            Source(name, no_rows, join=lambda cells, times, values=values: join_daily(values, cells, times))
            for name, values in zip(DAILY, daily, strict=True)
        ),
        *(
            Source(name, no_rows, join=lambda cells, times, values=values: join_static(values, cells, times))
            for name, values in zip(STATIC, static, strict=True)
        ),
    ]


def build(
    decisions: pd.DataFrame, covariates: list[Source], *, lazy: bool, features: bool = True
) -> tuple[ChoiceSets, Ledger]:
    """`build_choices` with all features, or the rows alone."""
    from mimic.choices import build_choices
    from mimic.features import FeatureSpec

    return build_choices(
        decisions,
        max_distance_km=MAX_DISTANCE_KM,
        features=[FeatureSpec(name) for name in FEATURES] if features else [],
        sources=covariates if features else [],
        domain="elevation < 0" if features else None,
        lazy=lazy,
    )


def ours(folder: Path, case: str, name: str) -> Cost:
    """What a case of mimic costs; its rows are kept for the comparison where there are few."""
    import pandas as pd
    import scipy.spatial  # noqa: F401  (imports are not part of the measurement)

    decisions = pd.read_parquet(folder / "decisions.parquet")
    covariates = sources(folder)
    emit(name, "memory_before", round(peak_memory_mib(), 1), "MiB")
    started, cpu_started = time.perf_counter(), time.process_time()
    choice_sets, _ = build(decisions, covariates, lazy=case != "ours", features=case != "table_and_rows")
    if case == "ours_lazy":
        gather_all(choice_sets)
    elif case == "store":
        size = store(folder, choice_sets, name)
    cost = Cost(time.perf_counter() - started, time.process_time() - cpu_started, peak_memory_mib())
    emit(name, "n_kept_decisions", choice_sets.n_decisions, "decisions")
    emit(name, "n_rows", choice_sets.n_rows, "rows")
    if case == "store":
        emit(name, "on_disk", round(size / 1e6, 1), "MB")
    elif case == "ours" and len(decisions) == SMALLEST:
        keep_rows(folder, case, choice_sets)
    return cost


def gather_all(choice_sets: ChoiceSets) -> None:
    """Every feature of every row, block by block, as training and evaluation read them."""
    step = 32_768
    for first in range(0, choice_sets.n_decisions, step):
        choice_sets.block(first, min(first + step, choice_sets.n_decisions), FEATURES)


def store(folder: Path, choice_sets: ChoiceSets, name: str) -> int:
    """Bytes on disk of the choice sets, which are read back and compared in a block."""
    import numpy as np

    from mimic.store import load_choice_sets, save_choice_sets

    target = folder / f"{name}_choices"
    started = time.perf_counter()
    save_choice_sets(choice_sets, target)
    emit(name, "seconds_writing", round(time.perf_counter() - started, 3), "s")
    size = sum(file.stat().st_size for file in target.rglob("*") if file.is_file())
    started = time.perf_counter()
    again = load_choice_sets(target)
    emit(name, "seconds_opening", round(time.perf_counter() - started, 3), "s")
    one, other = (cs.block(0, min(1000, cs.n_decisions), FEATURES) for cs in (choice_sets, again))
    assert np.array_equal(one.choice, other.choice)
    for feature in FEATURES:
        assert np.array_equal(one.features[feature], other.features[feature]), f"{feature} changed on disk"
    return size


def keep_rows(folder: Path, case: str, choice_sets: ChoiceSets) -> None:
    """The rows as a table, for the comparison."""
    import pandas as pd

    rows = pd.DataFrame(
        {
            "decision": choice_sets.decisions["decision"].to_numpy()[choice_sets.decision_of_row],
            "choice": choice_sets.choice,
            "selected": choice_sets.is_selected,
            **{name: choice_sets.features[name] for name in FEATURES},
        }
    )
    rows.to_parquet(folder / f"{case}.parquet")


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


def covariate_tables(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The covariates as tables: one row for each cell and day, and one for each cell."""
    import numpy as np
    import pandas as pd

    known, daily, static = (np.load(folder / f"{name}.npy") for name in ("cells", "daily", "static"))
    keys = {"choice": np.tile(known, 365), "day": np.repeat(np.arange(365), len(known))}
    return (
        pd.DataFrame({**keys, **{name: values.ravel() for name, values in zip(DAILY, daily, strict=True)}}),
        pd.DataFrame({"choice": known, **dict(zip(STATIC, static, strict=True))}),
    )


def usual_way(folder: Path, name: str) -> Cost:
    """What the pipeline costs as it is commonly written: a loop over decisions with h3 calls, and pandas merges.

    Cells as the text that h3 gives by default, a dictionary for each choice, features of a choice in the loop, those
    of a decision by pandas, and a merge for each covariate, as each comes in a table of its own.
    """
    import h3
    import numpy as np
    import pandas as pd

    decisions = pd.read_parquet(folder / "decisions.parquet")
    by_day, by_cell = covariate_tables(folder)
    text = {cell: h3.int_to_str(cell) for cell in by_cell["choice"].tolist()}
    daily = [by_day[["choice", "day", c]].assign(choice=by_day["choice"].map(text)) for c in DAILY]
    static = [by_cell[["choice", c]].assign(choice=by_cell["choice"].map(text)) for c in STATIC]
    decisions["origin"], decisions["destination"] = decisions["origin"].map(text), decisions["destination"].map(text)
    emit(name, "memory_before", round(peak_memory_mib(), 1), "MiB")
    started, cpu_started = time.perf_counter(), time.process_time()
    collected = []
    for decision in decisions.itertuples():
        here = h3.cell_to_latlng(decision.origin)
        for cell in h3.grid_disk(decision.origin, DISK):
            there = h3.cell_to_latlng(cell)
            distance = h3.great_circle_distance(here, there, unit="km")
            if distance > MAX_DISTANCE_KM:
                continue
            stay = cell == decision.origin
            heading = 0.0 if stay else bearing(*here, *there)
            collected.append(
                {
                    "decision": decision.decision,
                    "choice": cell,
                    "selected": cell == decision.destination,
                    "time_utc": decision.time_utc,
                    "distance_km": distance,
                    "stay": int(stay),
                    "heading_sin": 0.0 if stay else math.sin(heading),
                    "heading_cos": 0.0 if stay else math.cos(heading),
                }
            )
    rows = pd.DataFrame(collected)
    times = rows["time_utc"]
    rows["day"] = times.dt.day_of_year - 1
    year_start = pd.to_datetime(times.dt.year.astype(str) + "-01-01")
    angle = 2 * np.pi * ((times - year_start) / pd.Timedelta(days=1)) / np.where(times.dt.is_leap_year, 366, 365)
    rows["season_sin"], rows["season_cos"] = np.sin(angle), np.cos(angle)
    for table in daily:
        rows = rows.merge(table, on=["choice", "day"], how="left")
    for table in static:
        rows = rows.merge(table, on="choice", how="left")
    rows = usable(rows)
    cost = Cost(time.perf_counter() - started, time.process_time() - cpu_started, peak_memory_mib())
    rows["choice"] = rows["choice"].map({cell: number for number, cell in text.items()})
    rows.drop(columns=["day", "time_utc"]).to_parquet(folder / "usual_way.parquet")
    return cost


def usable(rows: pd.DataFrame) -> pd.DataFrame:
    """Choices at sea with all covariates, of decisions whose selected choice is one of at least two of them."""
    rows = rows[rows[[*DAILY, *STATIC]].notna().all(axis=1) & (rows["elevation"] < 0)]
    by_decision = rows.groupby("decision")["selected"]
    return rows[(by_decision.transform("sum") == 1) & (by_decision.transform("size") >= 2)].reset_index(drop=True)


def usual_way_tuned(folder: Path, name: str, *, cached: bool) -> Cost:
    """What the same costs once it is tuned as far as a loop and merges go.

    This means integer cells, tuples and not dictionaries, features of a decision computed
    once a decision and not once a row, one merge for all daily covariates and one for the static ones. With `cached`
    the neighbors of an origin are kept for its next decision.
    """
    from functools import cache

    import h3  # noqa: F401  (imports are not part of the measurement)
    import numpy as np
    import pandas as pd

    decisions = pd.read_parquet(folder / "decisions.parquet")
    by_day, by_cell = covariate_tables(folder)
    emit(name, "memory_before", round(peak_memory_mib(), 1), "MiB")
    started, cpu_started = time.perf_counter(), time.process_time()
    look_around = cache(neighbors) if cached else neighbors
    times = decisions["time_utc"]
    year_start = pd.to_datetime(times.dt.year.astype(str) + "-01-01")
    angle = 2 * np.pi * ((times - year_start) / pd.Timedelta(days=1)) / np.where(times.dt.is_leap_year, 366, 365)
    columns = [
        decisions["decision"].tolist(),
        decisions["origin"].tolist(),
        decisions["destination"].tolist(),
        (times.dt.day_of_year - 1).tolist(),
        np.sin(angle).tolist(),
        np.cos(angle).tolist(),
    ]
    collected = []
    for decision, origin, destination, day, season_sin, season_cos in zip(*columns, strict=True):
        for cell, distance, stay, heading_sin, heading_cos in look_around(origin):
            collected.append(
                (
                    decision,
                    cell,
                    cell == destination,
                    day,
                    distance,
                    stay,
                    heading_sin,
                    heading_cos,
                    season_sin,
                    season_cos,
                )
            )
    rows = pd.DataFrame(collected, columns=["decision", "choice", "selected", "day", *GEOMETRY])
    rows = rows.merge(by_day, on=["choice", "day"], how="left").merge(by_cell, on="choice", how="left")
    rows = usable(rows)
    cost = Cost(time.perf_counter() - started, time.process_time() - cpu_started, peak_memory_mib())
    rows.drop(columns="day").to_parquet(folder / f"{'usual_way_cached' if cached else 'usual_way_tuned'}.parquet")
    return cost


# ---------------------------------------------------------------- one case, the comparison, all of them


def run_case(case: str, folder: Path, n_decisions: int) -> None:
    """Measure one case in this process."""
    name = f"{case}_{n_decisions}"
    if case == "usual_way":
        cost = usual_way(folder, name)
    elif case in USUAL:
        cost = usual_way_tuned(folder, name, cached=case == "usual_way_cached")
    else:
        cost = ours(folder, case, name)
    emit(name, "peak_memory", round(cost.peak_mib, 1), "MiB")
    emit(name, "seconds", cost.seconds, "s")
    emit(name, "cpu_seconds", cost.cpu_seconds, "s")


def compare(folder: Path) -> None:
    """Assert that all cases have the same rows."""
    import numpy as np
    import pandas as pd

    keys = ["decision", "choice"]
    tables = {
        c: pd.read_parquet(folder / f"{c}.parquet").sort_values(keys, ignore_index=True) for c in (*USUAL, "ours")
    }
    expected = tables["usual_way"]
    for case, table in tables.items():
        for name in [*keys, "selected"]:
            assert np.array_equal(table[name], expected[name]), f"{case}: {name} differs from the usual way"
        for name in FEATURES:
            np.testing.assert_allclose(table[name], expected[name], rtol=1e-5, atol=1e-5, err_msg=f"{case}: {name}")
    emit("all", "n_equal_rows", len(expected), "rows")


def child(folder: Path, step: str, n_decisions: int) -> list[dict[str, Any]]:
    """Run one step in a process of its own: its result lines."""
    say(f"{step}, {n_decisions:,} decisions")
    command = [sys.executable, __file__, "--step", step, "--folder", str(folder), "--decisions", str(n_decisions)]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return [json.loads(line) for line in output.splitlines()]


def run_all(sizes: tuple[int, ...], n_repeats: int) -> None:
    """All cases in turn, and again; the least of the repeats, which other programs disturbed least."""
    least: dict[tuple[str, str, str], float] = {}
    for n_decisions in sizes:
        cases = (*USUAL, *OURS) if n_decisions == SMALLEST else OURS
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            relay(child(folder, "prepare", n_decisions))
            for repeat in range(n_repeats):
                for case in cases:
                    for line in child(folder, case, n_decisions):
                        key = (line["case"], line["metric"], line["unit"])
                        least[key] = min(least.get(key, math.inf), line["value"])
                    if case == "store":
                        subprocess.run(["rm", "-r", str(folder / f"store_{n_decisions}_choices")], check=True)
                if repeat == 0 and n_decisions == SMALLEST:
                    relay(child(folder, "compare", n_decisions))
    for (case, metric, unit), value in least.items():
        emit(case, metric, round(value, 4), unit)
    for n_decisions in sizes:
        for case in OURS:
            per = least[f"{case}_{n_decisions}", "seconds", "s"] / n_decisions
            emit(f"{case}_{n_decisions}", "per_decision", round(per * 1e6, 2), "us")
    ratios(sizes, least)


def ratios(sizes: tuple[int, ...], least: dict[tuple[str, str, str], float]) -> None:
    """The cost of a decision by the usual ways, measured at the smallest size, over that by mimic at each size."""
    for other in USUAL:
        for case in ("ours", "ours_lazy"):
            for n_decisions in sizes:
                for metric, unit in (("seconds", "times as fast"), ("cpu_seconds", "times less processor time")):
                    theirs = least[f"{other}_{SMALLEST}", metric, "s"] / SMALLEST
                    mine = least[f"{case}_{n_decisions}", metric, "s"] / n_decisions
                    name = f"ratio_to_{other}" + ("_cpu" if metric == "cpu_seconds" else "")
                    emit(f"{case}_{n_decisions}", name, round(theirs / mine, 1), unit)


def relay(lines: list[dict[str, Any]]) -> None:
    """Pass on the lines of a child."""
    for line in lines:
        emit(line["case"], line["metric"], line["value"], line["unit"])


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="up to 100,000 decisions once; else 1,000,000, three times"
    )
    parser.add_argument("--step", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--decisions", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.step is None:
        size = "quick" if given.quick else "full"
        run_all(SIZES[size], N_REPEATS[size])
    elif given.step == "prepare":
        prepare(given.folder, given.decisions)
    elif given.step == "compare":
        compare(given.folder)
    else:
        run_case(given.step, given.folder, given.decisions)


if __name__ == "__main__":
    main()
