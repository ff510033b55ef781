"""The time of a decision, and the light at its place, into features that are the same for all its choices.

===================== === ==============================================================================================
`season_sin`, `_cos`  1   the year as a circle: the true fraction of this calendar year
`hour_sin`, `_cos`    1   the UTC day as a circle, 0 at midnight
`solar_hour_sin`, ... 1   the day as a circle in mean solar time at the place of the decision
`sun_elevation_deg`   deg elevation of the sun's center, geometric (no refraction)
`day`                 1   1 where the sun is above -0.833 degrees (between sunrise and sunset), else 0
`night`               1   1 - day
`twilight`            1   civil twilight, the bright part of the night: 1 where the sun is in [-6, -0.833] degrees
`day_length_h`        h   how long the sun is above -0.833 degrees in a day at this latitude
`moon_light`          1   share of the moon's disk that is lit
`moon_sin`, `_cos`    1   the phase of the moon as a circle, from new moon over the first quarter
`moon_elevation_deg`  deg elevation of the moon's center, seen from the surface
`moonlight_at_night`  1   night * moon_light * sin(moon elevation), 0 where the moon is down: moonlight on level ground
===================== === ==============================================================================================

All have role "decision". The place is that of the decision (columns `longitude` and `latitude`), or the center of its
origin where these columns are not there. `mimic.sky` computes sun and moon, to 0.003 and 0.005 degrees of what another
program says.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mimic.choice_rows import Rows
from mimic.feature_definition import Definition, decision_positions
from mimic.schema import TIME as TIME_COLUMN
from mimic.schema import require_columns
from mimic.sky import (
    HORIZON_DEG,
    TWILIGHT_DEG,
    day_length_h,
    moon_angle,
    moon_elevation_deg,
    moon_light,
    sun_elevation_deg,
)

__all__ = ["TIME", "day_circle", "year_circle"]


def year_circle(times: np.ndarray) -> np.ndarray:
    """Angle of the year, radians in [0, 2 pi): the fraction of this calendar year that has passed.

    Leap years have their own length, and December is next to January (not equal to it).

    Example
    -------
    >>> t = np.array(["2019-01-01", "2019-07-02T12", "2020-12-31T12"], dtype="datetime64[ns]")
    >>> (year_circle(t) / (2 * np.pi)).round(4)
    array([0.    , 0.5   , 0.9986])
    """
    years = times.astype("datetime64[Y]")
    start = years.astype("datetime64[ns]")
    end = (years + 1).astype("datetime64[ns]")
    return 2 * np.pi * ((times - start) / (end - start))


def day_circle(times: np.ndarray, longitude: np.ndarray | float = 0.0) -> np.ndarray:
    """Angle of the day, radians in [0, 2 pi), 0 at midnight; at a longitude (degrees) in mean solar time.

    Example
    -------
    >>> t = np.array(["2019-01-01T18"], dtype="datetime64[ns]")
    >>> (day_circle(t) / np.pi).tolist(), (day_circle(t, -90.0) / np.pi).tolist()
    ([1.5], [1.0])
    """
    fraction = (times - times.astype("datetime64[D]").astype("datetime64[ns]")) / np.timedelta64(1, "D")
    return 2 * np.pi * ((fraction + np.asarray(longitude) / 360.0) % 1.0)


def _times(rows: Rows) -> np.ndarray:
    """The time of each decision: (decision,), datetime64[ns]."""
    require_columns(list(map(str, rows.decisions.columns)), [TIME_COLUMN], where="features of time")
    return rows.decisions[TIME_COLUMN].to_numpy(dtype="datetime64[ns]")


def _sun_elevation(rows: Rows) -> np.ndarray:
    return sun_elevation_deg(_times(rows), *decision_positions(rows))


def _moon_elevation(rows: Rows) -> np.ndarray:
    return moon_elevation_deg(_times(rows), *decision_positions(rows))


def _day(rows: Rows) -> np.ndarray:
    return (_sun_elevation(rows) > HORIZON_DEG).astype(np.float64)


def _night(rows: Rows) -> np.ndarray:
    return 1.0 - _day(rows)


def _twilight(rows: Rows) -> np.ndarray:
    sun = _sun_elevation(rows)
    return ((sun >= TWILIGHT_DEG) & (sun <= HORIZON_DEG)).astype(np.float64)


def _moonlight_at_night(rows: Rows) -> np.ndarray:
    height = np.sin(np.radians(np.maximum(_moon_elevation(rows), 0.0)))
    return _night(rows) * moon_light(_times(rows)) * height


def _of_decision(
    name: str, unit: str, description: str, formula: str, compute: Callable[[Rows], np.ndarray]
) -> Definition:
    """A source from its values by decision: (decision,) spread over the rows."""
    return Definition(name, "decision", unit, description, formula, lambda rows: compute(rows)[rows.decision])


def _circle(name: str, what: str, symbol: str, angle: Callable[[Rows], np.ndarray]) -> tuple[Definition, Definition]:
    return (
        _of_decision(f"{name}_sin", "1", f"sine of {what}", f"sin({symbol})", lambda rows: np.sin(angle(rows))),
        _of_decision(f"{name}_cos", "1", f"cosine of {what}", f"cos({symbol})", lambda rows: np.cos(angle(rows))),
    )


TIME: tuple[Definition, ...] = (
    *_circle("season", "the year", "2 pi share of the calendar year", lambda rows: year_circle(_times(rows))),
    *_circle("hour", "the UTC day", "2 pi UTC hour / 24", lambda rows: day_circle(_times(rows))),
    *_circle(
        "solar_hour",
        "the solar day at the origin",
        "2 pi (UTC hour / 24 + longitude / 360)",
        lambda rows: day_circle(_times(rows), decision_positions(rows)[0]),
    ),
    _of_decision("sun_elevation_deg", "deg", "elevation of the sun", "of its center, no refraction", _sun_elevation),
    _of_decision("day", "1", "between sunrise and sunset", "1 if sun_elevation_deg > -0.833, else 0", _day),
    _of_decision("night", "1", "between sunset and sunrise", "1 - day", _night),
    _of_decision(
        "twilight", "1", "civil twilight, part of the night", "1 if -6 <= sun_elevation_deg <= -0.833", _twilight
    ),
    _of_decision(
        "day_length_h",
        "h",
        "time between sunrise and sunset",
        "24 / pi arccos((sin(-0.833 deg) - sin(latitude) sin(decl.)) / (cos(latitude) cos(decl.)))",
        lambda rows: day_length_h(_times(rows), decision_positions(rows)[1]),
    ),
    _of_decision(
        "moon_light",
        "1",
        "lit share of the moon",
        "(1 + cos(angle at the moon between sun and earth)) / 2",
        lambda rows: moon_light(_times(rows)),
    ),
    *_circle("moon", "the moon's phase", "ecliptic longitude, moon - sun", lambda rows: moon_angle(_times(rows))),
    _of_decision(
        "moon_elevation_deg", "deg", "elevation of the moon", "of its center, from the surface", _moon_elevation
    ),
    _of_decision(
        "moonlight_at_night",
        "1",
        "moonlight on level ground at night",
        "night moon_light max(0, sin(moon_elevation_deg))",
        _moonlight_at_night,
    ),
)
"""The sources of time."""
