"""A written-down truth into choice sets in milliseconds: whole studies of animals whose log-odds are known.

For questions that need hundreds of studies: how many animals it takes to find an effect, whether intervals cover.
The demo's world, with a real ocean in it, is in `mimic.synthetic`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd
from numpy.typing import DTypeLike
from scipy.optimize import brentq

from mimic.hexgrid import bearing_rad, cell_at, centroids, distance_km, neighbor_table
from mimic.schema import DECISION, INDIVIDUAL, ORIGIN, TIME, ChoiceSets, FeatureInfo, require_columns

__all__ = [
    "COEFFICIENTS",
    "Seed",
    "World",
    "draw_effects",
    "share_ahead",
    "simulate",
    "tilt_coefficient",
    "true_log_odds",
]

Seed = int | tuple[int, ...]
COEFFICIENTS = ("stay", "distance_km", "heading", "covariate", "irrelevant")

_INFO = {
    "distance_km": FeatureInfo("pair", "km"),
    **dict.fromkeys(("stay", "heading_sin", "heading_cos"), FeatureInfo("pair")),
    **dict.fromkeys(("covariate", "irrelevant", "perimeter"), FeatureInfo("choice")),
}
_PLACE = (
    *("resolution", "max_distance_km", "longitude", "latitude", "radius_km", "start_km"),
    *("share_missing", "perimeter", "field_seed"),
)
_EFFECTS, _STARTS, _LENGTHS, _DAYS, _GAPS, _WAVES = range(1, 7)  # each draws from a stream of its own
_N_WAVES, _WAVELENGTH_KM = 12, 400.0  # half to twice as long
_N_ORIENTATIONS = 360


@dataclass(frozen=True)
class World:
    """A study of animals on H3 cells and the truth behind it.

    Log-odds of a choice, every coefficient being the mean below plus a normal deviation of the individual::

        phi = stay * [choice is the origin] + distance_km * distance
              + heading * cos(bearing - heading_deg) * [choice is not the origin]
              + covariate * covariate + irrelevant * irrelevant
              and -infinity inside the perimeter

    `covariate` and `irrelevant` are smooth random fields of mean 0 and standard deviation 1 over the cells of the
    region. The irrelevant one has mean coefficient 0; individuals may differ in it all the same.

    Parameters
    ----------
    n_individuals, n_days
        Individuals, and decisions of each, one a day.
    min_days
        Tracks last min_days to n_days, uniformly; by default n_days all.
    resolution, max_distance_km
        Of the cells, and of the choice sets.
    longitude, latitude, radius_km, start_km
        The region: the cells within `radius_km` of the cell at this point, degrees. Nobody leaves it. The animals
        start in cells drawn from those within `start_km`.
    share_missing
        Share of the cells that are no choice for anyone (land, no data), so that choice sets differ.
    stay, distance_km, heading, covariate
        Mean coefficients, nats; of distance per km, of the covariate per standard deviation of the field.
    heading_deg
        The preferred true bearing, degrees clockwise from north.
    stay_sd, distance_km_sd, heading_sd, covariate_sd, irrelevant_sd
        Standard deviations of the coefficients between individuals, in the units of their means.
    perimeter
        Longitude and latitude of the center and radius, km, of a disk that nobody enters; None for none.
    field_seed
        Of the fields and the missing cells: they belong to the world, and all its studies share them.

    Raises
    ------
    ValueError
        If a count is below 1, min_days above n_days, a standard deviation or radius negative, or the share not in [0, 1).
    """

    n_individuals: int = 30
    n_days: int = 60
    min_days: int | None = None
    resolution: int = 4
    max_distance_km: float = 100.0
    longitude: float = -150.0
    latitude: float = 54.0
    radius_km: float = 700.0
    start_km: float = 150.0
    share_missing: float = 0.03
    stay: float = 1.5
    distance_km: float = -0.03
    heading: float = 0.0
    covariate: float = 0.5
    heading_deg: float = 90.0
    stay_sd: float = 0.0
    distance_km_sd: float = 0.0
    heading_sd: float = 0.0
    covariate_sd: float = 0.0
    irrelevant_sd: float = 0.0
    perimeter: tuple[float, float, float] | None = None
    field_seed: int = 0

    def __post_init__(self) -> None:
        shortest = self.n_days if self.min_days is None else self.min_days
        if min(self.n_individuals, self.n_days, shortest) < 1 or shortest > self.n_days:
            counts = f"{self.n_individuals}, {self.n_days} and {self.min_days}"
            raise ValueError(f"expected n_individuals >= 1 and n_days >= min_days >= 1; got {counts}.")
        if not 0 <= self.share_missing < 1:
            raise ValueError(f"share_missing must lie in [0, 1); got {self.share_missing}.")
        if not min(self.radius_km, self.start_km, *self.deviations) >= 0:
            raise ValueError("radius_km, start_km and standard deviations between individuals must be 0 or more.")

    @property
    def means(self) -> tuple[float, ...]:
        """Mean coefficients, in the order of `COEFFICIENTS`."""
        return (self.stay, self.distance_km, self.heading, self.covariate, 0.0)

    @property
    def deviations(self) -> tuple[float, ...]:
        """Standard deviations of the coefficients between individuals, in the order of `COEFFICIENTS`."""
        return (self.stay_sd, self.distance_km_sd, self.heading_sd, self.covariate_sd, self.irrelevant_sd)


def simulate(world: World, *, seed: Seed) -> ChoiceSets:
    """The study: every individual's decisions, one a day, with all choices, features and selections.

    A study with fewer individuals, or (without `min_days`) with fewer days, is a part of the larger one of the same
    seed.

    Returns
    -------
    Decisions with individual, decision (0, 1, ...), time_utc and origin, sorted by individual; the features
    distance_km, stay, heading_sin, heading_cos, covariate, irrelevant and perimeter (1 inside, else 0).

    Raises
    ------
    ValueError
        If all cells to start from are missing or closed.
    """
    ground = _ground(World(**{name: getattr(world, name) for name in _PLACE}))
    effects = draw_effects(world, seed=seed)
    beta = np.asarray(world.means) + effects.to_numpy()  # (individual, coefficient)
    u = _rng(seed, _STARTS).uniform(size=world.n_individuals)
    at = ground.starts[(u * len(ground.starts)).astype(np.int64)]
    origins, picks = np.empty((2, world.n_individuals, world.n_days), dtype=np.int64)
    direction = np.radians(world.heading_deg)
    for day in range(world.n_days):
        phi = _combine(beta, {name: values[at] for name, values in ground.features.items()}, direction)
        phi = np.where(ground.is_possible[at], phi, -np.inf)  # the origin always is
        cumulative = np.cumsum(np.exp(phi - phi.max(axis=1, keepdims=True)), axis=1)  # (individual, place)
        drawn = _rng(seed, _DAYS, day).uniform(size=world.n_individuals) * cumulative[:, -1]
        origins[:, day] = at
        picks[:, day] = np.argmax(cumulative > drawn[:, None], axis=1)
        at = ground.neighbor[at, picks[:, day]]
    shortest = world.n_days if world.min_days is None else world.min_days
    n_more = _rng(seed, _LENGTHS).uniform(size=world.n_individuals) * (world.n_days - shortest + 1)
    alive = np.arange(world.n_days) < shortest + n_more.astype(np.int64)[:, None]  # (individual, day)
    return _choice_sets(ground, effects.index.to_numpy(), origins, picks, alive)


def draw_effects(world: World, *, seed: Seed) -> pd.DataFrame:
    """How individuals deviate from the mean coefficients: one row an individual (the index), one column a coefficient."""
    normal = _rng(seed, _EFFECTS).normal(size=(world.n_individuals, len(COEFFICIENTS)))
    names = pd.Index([f"a{i + 1:04d}" for i in range(world.n_individuals)], name=INDIVIDUAL, dtype="str")
    return pd.DataFrame(normal * world.deviations, index=names, columns=list(COEFFICIENTS))


def true_log_odds(world: World, cs: ChoiceSets, individual_effects: pd.DataFrame | None = None) -> np.ndarray:
    """True log-odds of every choice: (row,), float64, nats; -inf inside the perimeter.

    Parameters
    ----------
    individual_effects
        From `draw_effects` with the seed of the study. Without it every individual is at the population mean.

    Raises
    ------
    ValueError
        If the choice sets lack a feature of the world, or the effects an individual of the choice sets.
    """
    require_columns(list(cs.features), list(_INFO), where="the features of the world")
    beta = np.broadcast_to(np.asarray(world.means), (cs.n_decisions, len(COEFFICIENTS)))
    if individual_effects is not None:
        unknown = sorted(set(cs.individuals) - set(individual_effects.index))
        if unknown:
            raise ValueError(f"individual_effects lacks {', '.join(unknown[:5])}; draw it with the seed of the study.")
        beta = beta + individual_effects.loc[cs.individuals, list(COEFFICIENTS)].to_numpy()
    columns = {name: values[:, None] for name, values in cs.features.items()}
    phi = _combine(beta[cs.decision_of_row], columns, np.radians(world.heading_deg))[:, 0]
    return np.where(cs.features["perimeter"] > 0, -np.inf, phi)


def share_ahead(coefficient: float, *, n_cells: int = 6) -> float:
    """Probability that a move goes within 90 degrees of the preferred bearing, among moves of equal distance.

    `coefficient` is that of cos(bearing - preferred bearing), nats; `n_cells` of the ring are 6 neighbors, or more.

    Notes
    -----
    The cells lie evenly on a circle in an open field; the mean over all orientations of the ring to the preferred
    bearing. To first order it is 1/2 + coefficient / pi for any ring; of a fine one, that of von Mises.

    Example
    -------
    >>> share_ahead(0.0), round(share_ahead(0.1), 4), round(share_ahead(-0.1), 4)
    (0.5, 0.5318, 0.4682)
    """
    turned = (np.arange(_N_ORIENTATIONS) + 0.5) / _N_ORIENTATIONS / n_cells  # of a circle; no cell lies at 90 degrees
    along = np.cos(2 * np.pi * (turned[:, None] + np.arange(n_cells) / n_cells))  # (orientation, cell)
    odds = np.exp(coefficient * along)
    return float(np.mean(np.where(along > 0, odds, 0.0).sum(axis=1) / odds.sum(axis=1)))


def tilt_coefficient(share: float, *, n_cells: int = 6) -> float:
    """The coefficient of cos(bearing - preferred) that sends this share of moves ahead, nats: inverts `share_ahead`.

    A tilt of 1 % is a share of .51 in place of .50.

    Raises
    ------
    ValueError
        If the share does not lie in [0.02, 0.98].

    Example
    -------
    >>> round(tilt_coefficient(0.51), 4), round(tilt_coefficient(0.51, n_cells=18), 4)
    (0.0314, 0.0314)
    """
    if not 0.02 <= share <= 0.98:
        raise ValueError(f"share must lie in [0.02, 0.98], 0.5 being no tilt at all; got {share}.")
    if share == 0.5:
        return 0.0
    return float(brentq(lambda beta: share_ahead(beta, n_cells=n_cells) - share, -30.0, 30.0, xtol=1e-14))


@dataclass(frozen=True, eq=False)
class _Ground:
    """The cells of a world with their choice sets, padded: place 0 is the origin itself."""

    cell: np.ndarray  # (cell,), int64
    starts: np.ndarray  # (start,), indices of cells
    neighbor: np.ndarray  # (cell, place), indices of cells; 0 where there is none
    exists: np.ndarray  # (cell, place), bool
    is_possible: np.ndarray  # (cell, place), bool: exists, and is not closed
    features: dict[str, np.ndarray]  # name -> (cell, place), float32


@lru_cache(maxsize=8)
def _ground(world: World) -> _Ground:
    """Of a world that says where it is and nothing of its animals, so that worlds in one place share it."""
    middle = cell_at(np.array([world.longitude]), np.array([world.latitude]), world.resolution)
    around = neighbor_table(middle, world.radius_km)
    kept = _rng(world.field_seed, _GAPS).uniform(size=len(around.cell)) >= world.share_missing
    order = np.argsort(around.cell[kept])
    cell, away_km = around.cell[kept][order], around.distance_km[kept][order]
    closed = np.zeros(len(cell), dtype=bool)
    if world.perimeter is not None:
        x, y, radius_km = np.asarray(world.perimeter, dtype=np.float64)
        closed = distance_km(*centroids(cell), x, y) <= radius_km
    starts = np.flatnonzero((away_km <= world.start_km) & ~closed)
    if not len(starts):
        raise ValueError("every cell to start from is missing or closed; make start_km larger or move the perimeter.")
    table = neighbor_table(cell, world.max_distance_km)
    index = np.minimum(np.searchsorted(cell, table.cell), len(cell) - 1)
    inside = cell[index] == table.cell  # neither beyond the region nor missing
    owner = np.repeat(np.arange(len(cell)), np.diff(table.offsets))[inside]
    index, distance, bearing = index[inside], table.distance_km[inside], np.nan_to_num(table.bearing_rad[inside])
    place = np.arange(len(owner)) - np.searchsorted(owner, owner)
    moves = distance > 0
    fields = [_field(cell, away_km, middle, (number, world.field_seed))[index] for number in range(2)]
    heading = [np.where(moves, np.sin(bearing), 0.0), np.where(moves, np.cos(bearing), 0.0)]

    def padded(values: np.ndarray, dtype: DTypeLike) -> np.ndarray:
        wide: np.ndarray = np.zeros((len(cell), int(place.max()) + 1), dtype=dtype)
        wide[owner, place] = values
        return wide

    columns = (distance, ~moves, *heading, *fields, closed[index])
    return _Ground(
        cell=cell,
        starts=starts,
        neighbor=padded(index, np.int64),
        exists=padded(np.ones(len(owner)), bool),
        is_possible=padded(~closed[index], bool),
        features={name: padded(values, np.float32) for name, values in zip(_INFO, columns, strict=True)},
    )


def _field(cell: np.ndarray, away_km: np.ndarray, middle: np.ndarray, seed: Seed) -> np.ndarray:
    """A sum of random plane waves, mean 0 and standard deviation 1 over the cells: (cell,)."""
    rng = _rng(seed, _WAVES)
    bearing = np.nan_to_num(bearing_rad(*centroids(middle), *centroids(cell)))
    toward, phase = rng.uniform(0, 2 * np.pi, (2, _N_WAVES))
    number = 2 * np.pi / (_WAVELENGTH_KM * 2 ** rng.uniform(-1, 1, _N_WAVES))  # radians per km
    field = np.sin(number * away_km[:, None] * np.cos(bearing[:, None] - toward) + phase).sum(axis=1)
    return (field - field.mean()) / max(float(field.std()), 1e-12)  # a region of one cell has no variation


def _combine(beta: np.ndarray, features: dict[str, np.ndarray], direction: float) -> np.ndarray:
    """Log-odds without the perimeter: coefficients (one, coefficient), features (one, place) -> (one, place)."""
    f = {name: features[name].astype(np.float64) for name in _INFO}
    along = f["heading_sin"] * np.sin(direction) + f["heading_cos"] * np.cos(direction)
    columns = (f["stay"], f["distance_km"], along, f["covariate"], f["irrelevant"])
    phi = np.zeros_like(along)
    for k, column in enumerate(columns):
        phi += beta[:, k, None] * column
    return phi


def _choice_sets(
    ground: _Ground, names: np.ndarray, origins: np.ndarray, picks: np.ndarray, alive: np.ndarray
) -> ChoiceSets:
    individual, day = np.nonzero(alive)
    at, pick = origins[alive], picks[alive]
    mask = ground.exists[at]  # (decision, place)
    offsets = np.concatenate([[0], np.cumsum(mask.sum(axis=1))])
    decisions = pd.DataFrame(
        {
            INDIVIDUAL: names[individual],
            DECISION: day,
            TIME: np.datetime64("2020-01-01T12:00:00", "ns") + day * np.timedelta64(1, "D"),
            ORIGIN: ground.cell[at],
        }
    )
    return ChoiceSets(
        decisions,
        offsets,
        ground.cell[ground.neighbor[at][mask]],
        offsets[:-1] + pick,
        {name: values[at][mask] for name, values in ground.features.items()},
        _INFO,
    )


def _rng(seed: Seed, *stream: int) -> np.random.Generator:
    # the stream comes first: for NumPy, seeds that differ by zeros at their end are the same
    return np.random.default_rng([*stream, *((seed,) if isinstance(seed, int) else seed)])
