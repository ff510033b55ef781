"""Times and places into where the sun and the moon stand, how long the day is, and how much of the moon is lit.

The positions come from ERFA, the open version of the IAU's SOFA routines (package pyerfa; nothing is downloaded). They
are computed at fixed instants, a day apart for the sun and six hours for the moon, and interpolated between them by
cubic polynomials, so that a value depends on its own time and place only, whatever else is asked for with it.

Notes
-----
Elevations are geometric: without refraction, of the center of the disk, above the plane that is perpendicular to the
vertical of the WGS84 ellipsoid. That of the moon is seen from the surface (its parallax lowers it by up to 1 degree),
that of the sun from the center of the earth (a parallax of 0.002 degrees). Left out are UT1 - UTC (below 0.9 s, 0.004
degrees), the slow change of TT - UTC (taken as its value since 2017), the motion of the pole and, for the moon, light
time.

Largest deviations from PyEphem 4.2.1, which has another theory of both bodies, at 4,000 random times of 1980 to 2029
and places all over the earth, poles and date line among them: sun 0.003, moon 0.005, angle of the phase 0.006 degrees,
lit share 0.0003; day length 0.3 minutes (400 days within 60 degrees of the equator). At 4,000 times of 1900 to 2099:
0.005, 0.03, 0.03 degrees and 0.0003. From pvlib 0.16.1 (sun alone, 3,000 times of 1980 to 2029): 0.003 degrees.

References
----------
PyERFA: https://doi.org/10.5281/zenodo.3940699. Sun: X. Moisson and P. Bretagnon, Celest. Mech. Dyn. Astron. 80 (2001)
205-213 (VSOP2000; shortened in `epv00`). Moon: J. Meeus, Astronomical Algorithms, 2nd ed., Willmann-Bell, 1998
(`moon98`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np

__all__ = [
    "HORIZON_DEG",
    "TWILIGHT_DEG",
    "day_length_h",
    "moon_angle",
    "moon_elevation_deg",
    "moon_light",
    "sun_elevation_deg",
]

HORIZON_DEG = -0.833
"""Elevation of the sun's center at sunrise and sunset: its upper edge, raised by refraction, is on the horizon."""

TWILIGHT_DEG = -6.0
"""Elevation of the sun's center where civil twilight ends."""

_EPOCH_JD = 2440587.5  # 1970-01-01T00:00
_SECONDS = 86_400.0
_TT_MINUS_UTC_S = 69.184
_LIGHT_TIME_S = 499.005  # of one astronomical unit; the sun's distance varies by 1.7 %, which makes 0.0001 degrees
_AU_M = 149_597_870_700.0
_BLOCK = 32  # instants that are computed together
_RANGE = np.array(["1900-01-05", "2099-12-27"], dtype="datetime64[ns]")  # of epv00, less what interpolation needs
_COMPUTED_DAYS = (-25565.0, 47479.0)  # 1900-01-03 and 2099-12-29


def sun_elevation_deg(times: np.ndarray, longitude: np.ndarray, latitude: np.ndarray) -> np.ndarray:
    """Elevation of the sun above the horizon, degrees in [-90, 90]: three (point,) -> (point,).

    Parameters
    ----------
    times
        datetime64, UTC.
    longitude, latitude
        Degrees; longitudes of any convention.

    Raises
    ------
    ValueError
        If a time is unknown or not in the years 1900 to 2099, or a coordinate is not finite.

    Example
    -------
    Noon on the equator at the equinox of March 2020 (the sun is 7.5 minutes late then):

    >>> t = np.array(["2020-03-20T12:07:30"], dtype="datetime64[ns]")
    >>> sun_elevation_deg(t, np.array([0.0]), np.array([0.0])).round(1).tolist()
    [89.9]
    """
    longitude, latitude = _checked(longitude, latitude)
    sun = _earth_fixed(times, _sun_block, 1.0)
    return _elevation(sun, _up(longitude, latitude))


def moon_elevation_deg(times: np.ndarray, longitude: np.ndarray, latitude: np.ndarray) -> np.ndarray:
    """Elevation of the moon above the horizon, as seen from the surface, degrees: three (point,) -> (point,).

    Raises
    ------
    ValueError
        As for `sun_elevation_deg`.
    """
    import erfa

    longitude, latitude = _checked(longitude, latitude)
    here = erfa.gd2gc(1, np.radians(longitude), np.radians(latitude), 0.0) / _AU_M
    return _elevation(_earth_fixed(times, _moon_block, 0.25)[:, :3] - here, _up(longitude, latitude))


def day_length_h(times: np.ndarray, latitude: np.ndarray) -> np.ndarray:
    """How long the sun is up in a day, hours in [0, 24]: two (point,) -> (point,). 24 in the polar day, 0 in the night.

    Raises
    ------
    ValueError
        As for `sun_elevation_deg`.

    Notes
    -----
    24 / pi arccos((sin h - sin(latitude) sin(d)) / (cos(latitude) cos(d))) with h = `HORIZON_DEG` and d the declination
    of the sun at the given time: that of a sun which keeps it for a day.
    """
    _, latitude = _checked(0.0, latitude)
    sun = _of_distinct(times, lambda t: _interpolate(t, _sun_block, 1.0))
    sine = sun[:, 2] / np.linalg.norm(sun, axis=1)
    phi = np.radians(latitude)
    needed = np.sin(np.radians(HORIZON_DEG)) - np.sin(phi) * sine
    return 24 / np.pi * np.arccos(np.clip(needed / (np.cos(phi) * np.sqrt(1 - sine**2)), -1.0, 1.0))


def moon_light(times: np.ndarray) -> np.ndarray:
    """Share of the moon's disk that is lit, in [0, 1]: (point,) -> (point,). 0 at new moon, 1 at full moon.

    Raises
    ------
    ValueError
        As for `sun_elevation_deg`.

    Notes
    -----
    (1 + cos i) / 2, with i the angle at the moon between the sun and the center of the earth.
    """
    return _of_distinct(times, _lit_share)


def moon_angle(times: np.ndarray) -> np.ndarray:
    """Phase of the moon as an angle, radians in [0, 2 pi): (point,) -> (point,).

    0 is new moon, pi/2 the first quarter, pi full moon, 3 pi/2 the last quarter: the ecliptic longitude of the moon
    less that of the sun.

    Raises
    ------
    ValueError
        As for `sun_elevation_deg`.
    """
    return _of_distinct(times, _phase)


def _lit_share(times: np.ndarray) -> np.ndarray:
    moon = _interpolate(times, _moon_block, 0.25)[:, :3]
    to_sun = _interpolate(times, _sun_block, 1.0) - moon
    cosine = -(moon * to_sun).sum(axis=1) / (np.linalg.norm(moon, axis=1) * np.linalg.norm(to_sun, axis=1))
    return np.clip((1 + cosine) / 2, 0.0, 1.0)


def _phase(times: np.ndarray) -> np.ndarray:
    moon_and_pole = _interpolate(times, _moon_block, 0.25)
    moon, pole = moon_and_pole[:, :3], moon_and_pole[:, 3:]
    sun = _interpolate(times, _sun_block, 1.0)
    # the sun lies in the ecliptic, to a few thousandths of a degree
    east = (np.cross(sun, moon) * pole).sum(axis=1)
    along = (sun * moon).sum(axis=1) - (sun * pole).sum(axis=1) * (moon * pole).sum(axis=1)
    return np.arctan2(east, along) % (2 * np.pi)


@lru_cache(maxsize=4096)
def _sun_block(number: int) -> np.ndarray:
    """The sun from the earth's center on successive days, (instant, 3), in au; axes as in `_to_date`."""
    import erfa

    days = _block_days(number, 1.0)
    heliocentric = erfa.epv00(_EPOCH_JD, days + (_TT_MINUS_UTC_S - _LIGHT_TIME_S) / _SECONDS)[0]["p"]
    return _to_date(days, -heliocentric)


@lru_cache(maxsize=4096)
def _moon_block(number: int) -> np.ndarray:
    """The moon from the earth's center, in au, and the pole of the ecliptic, every six hours: (instant, 6)."""
    import erfa

    days = _block_days(number, 0.25)
    terrestrial = days + _TT_MINUS_UTC_S / _SECONDS
    pole = erfa.ecm06(_EPOCH_JD, terrestrial)[:, 2]
    return np.hstack([_to_date(days, erfa.moon98(_EPOCH_JD, terrestrial)["p"]), _to_date(days, pole)])


def _block_days(number: int, step: float) -> np.ndarray:
    """Instants of a block, days since 1970, with one more before and two after it: (instant,)."""
    days = (number * _BLOCK + np.arange(-1, _BLOCK + 2)) * step
    # at either end of the range a block reaches beyond it, where nothing is asked for and ERFA warns
    return np.clip(days, *_COMPUTED_DAYS)


def _to_date(days: np.ndarray, celestial: np.ndarray) -> np.ndarray:
    """Vectors from the celestial axes (GCRS) to the intermediate ones of date, whose third is the pole of the earth."""
    import erfa

    matrix = erfa.c2i00b(_EPOCH_JD, days + _TT_MINUS_UTC_S / _SECONDS)
    return erfa.rxp(matrix, np.ascontiguousarray(celestial))


def _interpolate(times: np.ndarray, block_of: Callable[[int], np.ndarray], step: float) -> np.ndarray:
    """Vectors at any times from those at fixed instants, by the cubic through the two before and the two after."""
    step_ns = int(step * _SECONDS * 1e9)
    instant, rest = np.divmod(times.astype(np.int64), step_ns)
    block, place = np.divmod(instant, _BLOCK)
    numbers, table_of = np.unique(block, return_inverse=True)
    table = np.stack([block_of(int(number)) for number in numbers])  # (block, instant, axis)
    x = rest / step_ns
    weights = (
        -x * (x - 1) * (x - 2) / 6,
        (x + 1) * (x - 1) * (x - 2) / 2,
        -(x + 1) * x * (x - 2) / 2,
        (x + 1) * x * (x - 1) / 6,
    )
    terms = [weight[:, np.newaxis] * table[table_of, place + k] for k, weight in enumerate(weights)]
    return terms[0] + terms[1] + terms[2] + terms[3]


def _of_distinct(times: np.ndarray, compute: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """What is computed of times alone, once for each distinct one; checks them."""
    given = np.asarray(times, dtype="datetime64[ns]")
    distinct, inverse = np.unique(given, return_inverse=True)
    if not len(distinct):
        return compute(_RANGE[:1])[:0]
    if np.isnat(distinct[-1]) or distinct[0] < _RANGE[0] or distinct[-1] >= _RANGE[1]:
        wrong = given[np.isnat(given) | (given < _RANGE[0]) | (given >= _RANGE[1])]
        raise ValueError(
            f"where the sun and the moon stand is known from {_RANGE[0].astype('datetime64[D]')} to "
            f"{_RANGE[1].astype('datetime64[D]')}; {len(wrong)} times lie outside or are unknown, such as {wrong[0]}. "
            "Check the times, or leave these features out."
        )
    return compute(distinct)[inverse]


def _earth_fixed(times: np.ndarray, block_of: Callable[[int], np.ndarray], step: float) -> np.ndarray:
    """Vectors on axes that turn with the earth, the first one through longitude 0: (point, 3)."""

    def turned(distinct: np.ndarray) -> np.ndarray:
        import erfa

        angle = erfa.era00(_EPOCH_JD, distinct.astype(np.int64) / (_SECONDS * 1e9))
        vector = _interpolate(distinct, block_of, step)
        x, y, cosine, sine = vector[:, 0], vector[:, 1], np.cos(angle), np.sin(angle)
        return np.column_stack([cosine * x + sine * y, cosine * y - sine * x, vector[:, 2]])

    return _of_distinct(times, turned)


def _up(longitude: np.ndarray, latitude: np.ndarray) -> np.ndarray:
    """The vertical, of length 1: (point, 3)."""
    east, north = np.radians(longitude), np.radians(latitude)
    return np.column_stack([np.cos(north) * np.cos(east), np.cos(north) * np.sin(east), np.sin(north)])


def _elevation(toward: np.ndarray, up: np.ndarray) -> np.ndarray:
    sine = (toward * up).sum(axis=1) / np.linalg.norm(toward, axis=1)
    return np.degrees(np.arcsin(np.clip(sine, -1.0, 1.0)))


def _checked(longitude: np.ndarray | float, latitude: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
    given = (np.atleast_1d(np.asarray(values, dtype=np.float64)) for values in (longitude, latitude))
    east, north = np.broadcast_arrays(*given)
    if not (np.isfinite(east).all() and np.isfinite(north).all() and (np.abs(north) <= 90).all()):
        raise ValueError(
            "longitudes and latitudes must be finite degrees, latitudes in [-90, 90], to say where the sun and the "
            "moon stand; clean the tracks first."
        )
    return east, north
