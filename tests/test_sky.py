"""Sun and moon: positions of another program, phases from an almanac, and what must hold wherever one stands."""

from __future__ import annotations

import numpy as np
import pytest

from mimic.sky import day_length_h, moon_angle, moon_elevation_deg, moon_light, sun_elevation_deg

# PyEphem 4.2.1, which has the theories VSOP87 and ELP2000 (shortened): for each line
#   o = ephem.Observer(); o.pressure = o.elevation = 0; o.lon, o.lat = radians of the place; o.date = time
#   degrees(ephem.Sun(o).alt), degrees(ephem.Moon(o).alt)
ELEVATIONS = [  # time, longitude, latitude, sun, moon
    ("1980-02-29T23:59:59", 0.0, 90.0, -7.609, 10.364),
    ("2000-01-01T12:00:00", 0.0, 90.0, -23.035, -11.787),
    ("2020-06-20T21:43:44", 0.0, 90.0, 23.434, 22.165),
    ("2000-01-01T12:00:00", 0.0, -90.0, 23.030, 10.009),
    ("2013-12-21T17:11:00", 0.0, -90.0, 23.433, -11.846),
    ("2024-04-08T18:20:00", 0.0, -90.0, -7.595, -8.912),
    ("2013-12-21T17:11:00", 180.0, 0.0, -10.831, 57.501),
    ("2020-06-20T21:43:44", 180.0, 0.0, 49.114, 52.522),
    ("2029-09-23T03:07:00", 180.0, 0.0, 41.343, -44.161),
    ("2020-06-20T21:43:44", -179.9, -16.5, 37.791, 40.306),
    ("2024-04-08T18:20:00", -179.9, -16.5, 2.303, 1.330),
    ("1980-02-29T23:59:59", -179.9, -16.5, 80.632, -82.352),
    ("2024-04-08T18:20:00", 179.9, -16.5, 2.113, 1.140),
    ("2029-09-23T03:07:00", 179.9, -16.5, 39.448, -44.619),
    ("2000-01-01T12:00:00", 179.9, -16.5, -50.459, -27.328),
    ("2029-09-23T03:07:00", -143.5, 50.1, 2.985, -0.489),
    ("1980-02-29T23:59:59", -143.5, 50.1, 25.423, -19.252),
    ("2013-12-21T17:11:00", -143.5, 50.1, -3.404, 22.392),
    ("1980-02-29T23:59:59", 31.5, -24.5, -47.614, 38.272),
    ("2000-01-01T12:00:00", 31.5, -24.5, 61.940, 4.036),
    ("2020-06-20T21:43:44", 31.5, -24.5, -87.050, -87.808),
    ("2000-01-01T12:00:00", 70.0, -49.3, 30.657, -15.404),
    ("2013-12-21T17:11:00", 70.0, -49.3, -11.943, -2.625),
    ("2024-04-08T18:20:00", 70.0, -49.3, -46.331, -47.358),
    ("2013-12-21T17:11:00", -166.0, 67.0, -20.639, 25.921),
    ("2020-06-20T21:43:44", -166.0, 67.0, 44.577, 44.271),
    ("2029-09-23T03:07:00", -166.0, 67.0, 10.194, -5.857),
    ("2020-06-20T21:43:44", 15.0, 78.2, 12.265, 10.671),
    ("2024-04-08T18:20:00", 15.0, 78.2, 3.515, 2.793),
    ("1980-02-29T23:59:59", 15.0, 78.2, -19.145, 21.400),
]

# The same program: Moon.phase / 100, and ecliptic longitude of date of the moon less that of the sun, from
#   ephem.Ecliptic(ephem.Equatorial(body.g_ra, body.g_dec, epoch=date), epoch=date).lon
PHASES = [  # time, lit share, angle in degrees
    ("1980-02-29T23:59:59", 0.9931, 170.487),
    ("2000-01-01T12:00:00", 0.2300, 302.955),
    ("2013-12-21T17:11:00", 0.8404, 227.005),
    ("2020-06-20T21:43:44", 0.0015, 355.547),
    ("2024-04-08T18:20:00", 0.0000, 359.992),
    ("2029-09-23T03:07:00", 0.9963, 184.923),
]

# The same program: Observer.next_setting less previous_rising with horizon -0.833, pressure 0 and use_center=True.
DAY_LENGTHS = [  # noon, latitude, hours
    ("2020-06-20T12:00:00", 0.0, 12.1225),
    ("2020-06-20T12:00:00", 52.0, 16.7338),
    ("2020-12-21T12:00:00", 52.0, 7.7425),
    ("2020-03-20T12:00:00", -60.0, 12.1874),
]


def times(*text: str) -> np.ndarray:
    return np.array(text, dtype="datetime64[ns]")


@pytest.fixture
def points() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    when = times("1995-01-01") + rng.integers(0, 30 * 365 * 86_400, 500).astype("timedelta64[s]")
    return when, rng.uniform(-180, 180, 500), rng.uniform(-90, 90, 500)


def test_sun_and_moon_stand_where_another_program_says() -> None:
    when, longitude, latitude, sun, moon = (np.array(column) for column in zip(*ELEVATIONS, strict=True))
    assert sun_elevation_deg(when, longitude, latitude) == pytest.approx(sun, abs=0.004)
    assert moon_elevation_deg(when, longitude, latitude) == pytest.approx(moon, abs=0.006)


def test_phases_of_the_moon_are_those_of_another_program() -> None:
    when, share, angle = (np.array(column) for column in zip(*PHASES, strict=True))
    assert moon_light(when) == pytest.approx(share, abs=0.0003)
    assert np.degrees(moon_angle(when)) == pytest.approx(angle, abs=0.006)


def test_quarters_of_the_moon_are_a_quarter_of_the_circle_apart() -> None:
    # PyEphem 4.2.1: next_full_moon, next_last_quarter_moon, next_new_moon, next_first_quarter_moon after 2020-06-01
    quarters = times("2020-06-05T19:12:22", "2020-06-13T06:23:39", "2020-06-21T06:41:26", "2020-06-28T08:15:40")
    angle = moon_angle(quarters)
    assert np.exp(1j * angle) == pytest.approx(np.array([-1, -1j, 1, 1j]), abs=2e-4)
    assert moon_light(quarters) == pytest.approx([1.0, 0.5, 0.0, 0.5], abs=0.005)


def test_day_length_is_that_between_sunrise_and_sunset_of_another_program() -> None:
    when, latitude, hours = (np.array(column) for column in zip(*DAY_LENGTHS, strict=True))
    assert day_length_h(when, latitude) == pytest.approx(hours, abs=0.005)  # 0.3 minutes


def test_day_length_is_24_in_the_polar_day_and_0_in_the_polar_night_up_to_the_poles() -> None:
    june = times(*["2020-06-20T12:00:00"] * 4)
    assert day_length_h(june, np.array([90.0, 75.0, -75.0, -90.0])).tolist() == [24.0, 24.0, 0.0, 0.0]


def test_sun_is_up_as_long_as_the_day_length_says() -> None:
    # minute by minute through a day at 40 degrees north: the minutes with the sun above -0.833 degrees
    minutes = times("2021-05-03") + np.arange(1440).astype("timedelta64[m]")
    up = (sun_elevation_deg(minutes, np.zeros(1440), np.full(1440, 40.0)) > -0.833).sum() / 60
    assert up == pytest.approx(day_length_h(times("2021-05-03T12:00"), np.array([40.0]))[0], abs=2 / 60)


def test_longitudes_180_and_minus_180_and_540_are_one_meridian(points: tuple[np.ndarray, ...]) -> None:
    when, _, latitude = points
    for elevation in (sun_elevation_deg, moon_elevation_deg):
        known = elevation(when, np.full(500, 180.0), latitude)
        assert elevation(when, np.full(500, -180.0), latitude) == pytest.approx(known, abs=1e-9)
        assert elevation(when, np.full(500, 540.0), latitude) == pytest.approx(known, abs=1e-9)


def test_at_the_poles_the_longitude_means_nothing(points: tuple[np.ndarray, ...]) -> None:
    when, longitude, _ = points
    pole = np.full(500, 90.0)
    assert sun_elevation_deg(when, longitude, pole) == pytest.approx(sun_elevation_deg(when, 0 * longitude, pole))


def test_a_value_depends_on_its_own_time_and_place_alone(points: tuple[np.ndarray, ...]) -> None:
    when, longitude, latitude = points
    whole = sun_elevation_deg(when, longitude, latitude), moon_elevation_deg(when, longitude, latitude)
    for part in (slice(7, 9), slice(0, 500, 13)):
        assert (sun_elevation_deg(when[part], longitude[part], latitude[part]) == whole[0][part]).all()
        assert (moon_elevation_deg(when[part], longitude[part], latitude[part]) == whole[1][part]).all()
    assert (moon_light(when[::-1]) == moon_light(when)[::-1]).all()


def test_interpolated_positions_are_those_computed_at_the_time_itself(points: tuple[np.ndarray, ...]) -> None:
    # 0.0001 degrees from ERFA at the very time, without the fixed instants between
    import erfa

    when = points[0][:50]
    days = when.astype(np.int64) / 86_400e9
    tt = days + 69.184 / 86_400
    sun = -erfa.epv00(2440587.5, tt - 499.005 / 86_400)[0]["p"]
    moon = erfa.moon98(2440587.5, tt)["p"]
    lit = np.einsum("ij,ij->i", -moon, sun - moon) / np.linalg.norm(moon, axis=1) / np.linalg.norm(sun - moon, axis=1)
    assert moon_light(when) == pytest.approx((1 + lit) / 2, abs=2e-6)
    declination = np.arcsin((erfa.c2i00b(2440587.5, tt) @ sun[:, :, None])[:, 2, 0] / np.linalg.norm(sun, axis=1))
    assert sun_elevation_deg(when, np.zeros(50), np.full(50, 90.0)) == pytest.approx(np.degrees(declination), abs=1e-4)


def test_all_is_in_its_range_from_1900_to_2099_and_nothing_warns() -> None:
    # the ends of the range lie in blocks of instants that reach beyond it
    when = np.append(np.arange("1900-01-05", "2099-12-27", 97, dtype="datetime64[D]"), np.datetime64("2099-12-26"))
    angle, light = moon_angle(when), moon_light(when)
    assert ((angle >= 0) & (angle < 2 * np.pi) & (light >= 0) & (light <= 1)).all()
    zero = np.zeros(len(when))
    assert (np.abs(sun_elevation_deg(when, zero, zero)) <= 90).all()
    # the disk is half lit a quarter of the circle from the sun; they differ by how near the sun is
    assert light == pytest.approx((1 - np.cos(angle)) / 2, abs=0.01)


def test_no_times_give_no_values() -> None:
    none = times()
    assert (
        len(moon_light(none))
        == len(moon_angle(none))
        == len(sun_elevation_deg(none, none.astype(float), none.astype(float)))
        == 0
    )


@pytest.mark.parametrize("wrong", ["NaT", "1899-07-01", "2200-01-01"])
def test_time_that_is_unknown_or_out_of_range_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match=rf"from 1900-01-05 to 2099-12-27; 1 times lie .* such as {wrong}"):
        moon_light(times("2020-01-01", wrong))


def test_place_that_is_unknown_or_off_the_earth_is_refused() -> None:
    when = times("2020-01-01")
    for longitude, latitude in ((np.nan, 0.0), (0.0, np.nan), (0.0, 91.0)):
        with pytest.raises(ValueError, match=r"finite degrees, latitudes in \[-90, 90\]"):
            sun_elevation_deg(when, np.array([longitude]), np.array([latitude]))
