"""A written-down truth into tracks of synthetic animals: worlds whose true log-odds are known.

The chinook world is a real ocean (depth and sea surface temperature of the north-east Pacific) with
synthetic fish. Its animals choose among the very choice sets that mimic builds for tag data.
"""

from __future__ import annotations

import dataclasses
import gzip
import io
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from mimic.choices import Source, area_source, build_choices, covariate_source
from mimic.covariates import Covariate
from mimic.features import FeatureSpec
from mimic.hexgrid import boundaries, cell_at, centroids
from mimic.probability import grouped_log_softmax
from mimic.schema import DECISION, INDIVIDUAL, LATITUDE, LONGITUDE, ORIGIN, TIME, ChoiceSets, require_columns

__all__ = ["ChinookTruth", "Site", "read_truth", "simulate_chinook", "true_log_odds", "write_chinook"]

_FEATURES = (
    FeatureSpec("heading_sin"),
    FeatureSpec("heading_cos"),
    FeatureSpec("season_cos"),
    FeatureSpec("sst"),
    FeatureSpec("log_depth", source="elevation", multiply=-1.0, clip=(1.0, None), transform="log"),
    FeatureSpec("perimeter"),
)


@dataclass(frozen=True)
class Site:
    """Where and when some of the animals are tagged."""

    name: str
    longitude: float
    latitude: float
    first_day: str
    n_individuals: int


@dataclass(frozen=True)
class ChinookTruth:
    """The truth of the chinook world.

    Log-odds of a choice, with `summer` = (1 - cos(year)) / 2, 0 at New Year and 1 at midsummer::

        phi = (stay + individual effect) * [choice is the origin]
              - distance_km / distance_scale_km
              + heading * summer * cos(bearing - heading_deg)
              - (sst - sst_preferred)^2 / (2 sst_tolerance^2)
              - (ln depth - ln depth_preferred_m)^2 / (2 log_depth_tolerance^2)
              and -infinity inside the perimeter

    Individual effects are normal with standard deviation `individual_sd`: animals differ in how much they move.
    """

    seed: int = 20
    resolution: int = 4
    max_distance_km: float = 100.0
    stay: float = -0.6
    individual_sd: float = 0.5
    distance_scale_km: float = 13.0
    heading: float = 0.9
    heading_deg: float = 135.0
    sst_preferred: float = 9.0
    sst_tolerance: float = 2.0
    depth_preferred_m: float = 300.0
    log_depth_tolerance: float = 1.3
    perimeter: tuple[tuple[float, float], ...] = (
        (-153.0, 56.0),
        (-148.5, 56.0),
        (-148.5, 58.6),
        (-153.0, 58.6),
    )
    sites: tuple[Site, ...] = (
        Site("Dutch Harbor", -166.3, 54.2, "2019-04-20", 25),
        Site("Chignik", -157.6, 56.0, "2019-05-05", 25),
        Site("Kodiak", -151.0, 59.2, "2019-05-20", 25),
        Site("Yakutat", -140.6, 59.2, "2019-06-10", 25),
    )
    mean_days: int = 66
    share_missing_days: float = 0.01


def true_log_odds(
    truth: ChinookTruth, choice_sets: ChoiceSets, *, individual_effects: Mapping[str, float] | None = None
) -> np.ndarray:
    """True log-odds of every choice: (row,), float64; -inf inside the perimeter.

    Without `individual_effects` every individual is at the population mean.

    Raises
    ------
    ValueError
        If the choice sets lack one of the features the truth is made of.
    """
    names = ["distance_km", "stay", *(spec.name for spec in _FEATURES)]
    require_columns(list(choice_sets.features), names, where="the features of the truth")
    f = {name: choice_sets.features[name].astype(np.float64) for name in names}
    stay = np.full(choice_sets.n_decisions, truth.stay)
    if individual_effects is not None:
        stay = stay + np.array([individual_effects[i] for i in choice_sets.individuals])
    direction = np.radians(truth.heading_deg)
    along = f["heading_sin"] * np.sin(direction) + f["heading_cos"] * np.cos(direction)
    summer = (1.0 - f["season_cos"]) / 2.0
    phi = (
        stay[choice_sets.decision_of_row] * f["stay"]
        - f["distance_km"] / truth.distance_scale_km
        + truth.heading * summer * along
        - (f["sst"] - truth.sst_preferred) ** 2 / (2 * truth.sst_tolerance**2)
        - (f["log_depth"] - np.log(truth.depth_preferred_m)) ** 2 / (2 * truth.log_depth_tolerance**2)
    )
    return np.where(f["perimeter"] > 0, -np.inf, phi)


def simulate_chinook(
    truth: ChinookTruth, *, elevation: Path, climatology: Path, perimeter: Path
) -> tuple[pd.DataFrame, dict[str, float]]:
    """Daily positions of all animals and the individual effects they were made with.

    Returns
    -------
    positions
        individual, site, tag, day (0, 1, ...), time_utc, longitude, latitude; sorted by individual and time.
        A position is a uniform point of the cell the animal chose.
    individual_effects
        individual -> effect on the log-odds of staying.
    """
    sources = _world(truth, elevation, climatology, perimeter)
    animals = _animals(truth)
    rng = np.random.default_rng(truth.seed)
    effects = dict(zip(animals[INDIVIDUAL], rng.normal(0.0, truth.individual_sd, len(animals)), strict=True))
    at = cell_at(animals[LONGITUDE].to_numpy(), animals[LATITUDE].to_numpy(), truth.resolution)
    days: list[pd.DataFrame] = []
    for day in range(int(animals["n_days"].max())):
        alive = (animals["n_days"] > day).to_numpy()
        today = animals[alive].copy()
        today[ORIGIN], today[DECISION], today[TIME] = at[alive], day, today["first"] + pd.Timedelta(days=day)
        today[LONGITUDE], today[LATITUDE] = _points_in(at[alive], rng)
        days.append(today)
        at[alive] = _choose(truth, today, sources, effects, rng)
    positions = pd.concat(days, ignore_index=True).rename(columns={DECISION: "day"})
    columns = [INDIVIDUAL, "site", "tag", "day", TIME, LONGITUDE, LATITUDE]
    return positions.sort_values([INDIVIDUAL, TIME], ignore_index=True)[columns], effects


def _choose(
    truth: ChinookTruth,
    today: pd.DataFrame,
    sources: Sequence[Source],
    effects: Mapping[str, float],
    rng: np.random.Generator,
) -> np.ndarray:
    """The cell each animal moves to, by inverting the cumulative probabilities of its choice set."""
    choice_sets, ledger = build_choices(
        today,
        max_distance_km=truth.max_distance_km,
        features=_FEATURES,
        sources=sources,
        domain="elevation < 0",
    )
    if choice_sets.n_decisions != len(today):
        raise ValueError(f"an animal of the synthetic world has no choices; move its site.\n{ledger.explain()}")
    log_odds = true_log_odds(truth, choice_sets, individual_effects=effects)
    probability = np.exp(grouped_log_softmax(log_odds, choice_sets.offsets))
    drawn = rng.uniform(size=choice_sets.n_decisions)
    starts, ends = choice_sets.offsets[:-1], choice_sets.offsets[1:]
    picked = [
        s + np.searchsorted(np.cumsum(probability[s:e])[:-1], u) for s, e, u in zip(starts, ends, drawn, strict=True)
    ]
    return choice_sets.choice[picked]


def _animals(truth: ChinookTruth) -> pd.DataFrame:
    rng = np.random.default_rng([truth.seed, 1])
    rows: list[tuple[object, ...]] = []
    for site in truth.sites:
        for _ in range(site.n_individuals):
            number = len(rows) + 1
            first = pd.Timestamp(site.first_day) + pd.Timedelta(days=int(rng.integers(0, 21)), hours=20)
            n_days = int(rng.integers(truth.mean_days - 36, truth.mean_days + 37))
            # one position more than decisions
            rows.append(
                (
                    f"CHK{number:03d}",
                    site.name,
                    f"{170000 + 7 * number}",
                    first,
                    n_days + 1,
                    site.longitude,
                    site.latitude,
                )
            )
    frame = pd.DataFrame(rows, columns=[INDIVIDUAL, "site", "tag", "first", "n_days", LONGITUDE, LATITUDE])
    return frame.astype({"first": "datetime64[ns]"})


def _world(truth: ChinookTruth, elevation: Path, climatology: Path, perimeter: Path) -> list[Source]:
    """The covariates of the world as tables over all its cells, looked up at every step."""
    longitude, latitude = np.meshgrid(np.arange(176.0, 236.0, 0.1), np.arange(45.0, 63.0, 0.1))
    cells = np.unique(cell_at(longitude.ravel(), latitude.ravel(), truth.resolution))
    months = np.arange(np.datetime64("2019-01", "M"), np.datetime64("2020-01", "M")).astype("datetime64[ns]")
    made = [
        covariate_source(Covariate("elevation", elevation, "elevation", unit="m")),
        covariate_source(Covariate("sst", climatology, "sst", unit="degC")),
        area_source("perimeter", perimeter),
    ]
    return [_tabulated(source, cells, months) for source in made]


def _tabulated(source: Source, cells: np.ndarray, months: np.ndarray) -> Source:
    table = np.stack([source.sample(cells, np.full(len(cells), m)) for m in months])  # (month, cell)

    def look_up(wanted: np.ndarray, times: np.ndarray) -> np.ndarray:
        position = np.minimum(np.searchsorted(cells, wanted), len(cells) - 1)
        month = times.astype("datetime64[M]").astype(np.int64) % 12
        return np.where(cells[position] == wanted, table[month, position], np.nan)

    return Source(source.name, look_up, source.unit, "drop")


def _points_in(cells: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A uniform point inside each cell, kept 2 % off its edge, degrees."""
    center_lon, center_lat = centroids(cells)
    longitude, latitude = np.empty(len(cells)), np.empty(len(cells))
    for i, corners in enumerate(boundaries(cells)):
        x = center_lon[i] + (corners[:, 0] - center_lon[i] + 180.0) % 360.0 - 180.0
        k = int(rng.integers(len(corners)))
        a, b = np.sort(rng.uniform(size=2))
        weights = 0.98 * np.array([a, b - a, 1.0 - b])  # uniform in the triangle of center and one edge
        weights[0] += 0.02
        longitude[i] = weights @ [center_lon[i], x[k], x[(k + 1) % len(x)]]
        latitude[i] = weights @ [center_lat[i], corners[k, 1], corners[(k + 1) % len(x), 1]]
    return (longitude + 180.0) % 360.0 - 180.0, latitude


def _movebank(truth: ChinookTruth, positions: pd.DataFrame) -> pd.DataFrame:
    """The positions as a Movebank download, with the flaws a real one has: missing days, repeats, outliers."""
    rng = np.random.default_rng([truth.seed, 2])
    first = positions["day"] == 0
    kept = positions[first | (rng.uniform(size=len(positions)) >= truth.share_missing_days)]
    flawed = kept.sample(n=24, random_state=rng)
    hidden = flawed.iloc[:8].assign(latitude=lambda t: t[LATITUDE] - 7.0, visible=False)
    fast = flawed.iloc[8:12].assign(
        longitude=lambda t: t[LONGITUDE] - 12.0, time_utc=lambda t: t[TIME] + pd.Timedelta("2h")
    )
    repeated = flawed.iloc[12:]
    rows = pd.concat([kept, hidden, fast, repeated]).sort_values([INDIVIDUAL, TIME], kind="stable", ignore_index=True)
    visible = rows["visible"].map(lambda v: v is not False)
    return pd.DataFrame(
        {
            "event-id": np.arange(1, len(rows) + 1),
            "visible": np.where(visible, "true", "false"),
            "timestamp": rows[TIME].dt.strftime("%Y-%m-%d %H:%M:%S.000"),
            "location-long": rows[LONGITUDE].map("{:.5f}".format),
            "location-lat": rows[LATITUDE].map("{:.5f}".format),
            "sensor-type": "argos-doppler-shift",
            "individual-taxon-canonical-name": "Oncorhynchus tshawytscha",
            "tag-local-identifier": rows["tag"],
            "individual-local-identifier": rows[INDIVIDUAL],
            "study-name": "mimic synthetic chinook",
            "study-site": rows["site"],
        }
    )


def write_chinook(folder: Path, truth: ChinookTruth, *, elevation: Path, climatology: Path) -> list[Path]:
    """Simulate the chinook world and write it: perimeter.geojson, chinook.csv.gz and truth.json, byte for byte the same.

    Each file is written under a temporary name and renamed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    ring = [list(p) for p in (*truth.perimeter, truth.perimeter[0])]
    feature = {
        "type": "Feature",
        "properties": {"name": "closed perimeter"},
        "geometry": {"type": "Polygon", "coordinates": [ring]},
    }
    perimeter = folder / "perimeter.geojson"
    _write(perimeter, json.dumps({"type": "FeatureCollection", "features": [feature]}, indent=1).encode() + b"\n")
    positions, effects = simulate_chinook(truth, elevation=elevation, climatology=climatology, perimeter=perimeter)
    text = _movebank(truth, positions).to_csv(index=False, lineterminator="\n")
    packed = io.BytesIO()
    with gzip.GzipFile(filename="", fileobj=packed, mode="wb", mtime=0) as stream:
        stream.write(text.encode())
    _write(folder / "chinook.csv.gz", packed.getvalue())
    record = {
        "truth": dataclasses.asdict(truth),
        "individual_effects": {name: round(float(value), 6) for name, value in effects.items()},
    }
    _write(folder / "truth.json", json.dumps(record, indent=1).encode() + b"\n")
    return [perimeter, folder / "chinook.csv.gz", folder / "truth.json"]


def read_truth(path: Path) -> tuple[ChinookTruth, dict[str, float]]:
    """The truth and the individual effects that `write_chinook` wrote down.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no such file, or it is no such record.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no written-down truth at {path}; check the path.")
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        parameters = dict(record["truth"])
        parameters["sites"] = tuple(Site(**site) for site in parameters["sites"])
        parameters["perimeter"] = tuple((float(x), float(y)) for x, y in parameters["perimeter"])
        return ChinookTruth(**parameters), {str(k): float(v) for k, v in record["individual_effects"].items()}
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is no written-down truth of a synthetic world ({error}).") from None


def _write(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_bytes(content)
    temporary.replace(path)
