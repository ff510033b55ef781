"""Track files into clean, regular fixes: reading, cleaning, resampling, and a ledger that balances."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyproj import Transformer

from mimic.hexgrid import distance_km
from mimic.ledger import Ledger
from mimic.schema import BURST, INDIVIDUAL, LATITUDE, LONGITUDE, TIME
from mimic.tracks import check_report, clean_tracks, read_tracks, resample_tracks

Write = Callable[..., Path]

PLAIN = "individual,timestamp,lon,lat\nA,2020-01-01 00:00:00,10,50\nA,2020-01-02 00:00:00,10.5,50\n"
MOVEBANK = (
    "event-id,visible,timestamp,location-long,location-lat,manually-marked-outlier,"
    "tag-local-identifier,individual-local-identifier\n"
    '1,true,2020-01-01 01:00:00.000,31.5,-24.5,,"T1","Queen"\n'
    '2,true,2020-01-01 00:00:00.000,31.4,-24.5,false,"T1","Queen"\n'
    '3,false,2020-01-01 02:00:00.000,0.0,0.0,,"T1","Queen"\n'
    '4,true,2020-01-01 03:00:00.000,31.6,-24.5,true,"T1","Queen"\n'
    '5,true,2020-01-01 03:00:00.000,31.6,-24.5,,"T2",""\n'
    '6,true,,31.6,-24.5,,"T2","Cilla"\n'
    '7,true,2020-01-01 03:00:00.000,31.7,-24.6,,"T2","Cilla"\n'
)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_file(content: str | bytes, name: str = "tracks.csv") -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write_file


def fixes(
    hours: list[float],
    longitude: list[float],
    latitude: list[float] | None = None,
    individual: str = "A",
    **context: object,
) -> pd.DataFrame:
    """A track table of one animal, hours after a start."""
    start = pd.Timestamp("2020-01-01")
    return pd.DataFrame(
        {
            INDIVIDUAL: individual,
            TIME: [start + pd.Timedelta(h, unit="h").round("s") for h in hours],
            LONGITUDE: np.asarray(longitude, float),
            LATITUDE: np.zeros(len(hours)) if latitude is None else np.asarray(latitude, float),
            **context,
        }
    ).astype({TIME: "datetime64[ns]"})


def hours_of(tracks: pd.DataFrame) -> list[float]:
    return ((tracks[TIME] - pd.Timestamp("2020-01-01")) / pd.Timedelta("1h")).tolist()


def reasons(ledger: Ledger) -> dict[str, int]:
    return {entry.reason: entry.n for entry in ledger.entries if entry.action == "dropped"}


def balances(tracks: pd.DataFrame, ledger: Ledger) -> bool:
    return bool(tracks.attrs["n_read"] == len(tracks) + ledger.n_dropped("fix"))


# Reading


def test_movebank_file_by_hand(write: Write) -> None:
    tracks, ledger = read_tracks(write(MOVEBANK))
    assert tracks.to_dict("list") == {
        "individual": ["Cilla", "Queen", "Queen"],
        "time_utc": [pd.Timestamp(f"2020-01-01 0{h}:00") for h in (3, 0, 1)],
        "longitude": [31.7, 31.4, 31.5],
        "latitude": [-24.6, -24.5, -24.5],
        "tag": ["T2", "T1", "T1"],
    }
    assert reasons(ledger) == {
        "not visible in Movebank": 1,
        "marked as outlier by hand": 1,
        "missing individual": 1,
        "missing time": 1,
    }
    assert [e.example for e in ledger.entries] == ["row 3", "row 4", "row 5", "row 6"]
    assert tracks.attrs["n_read"] == 7
    assert balances(tracks, ledger)


def test_track_table_has_promised_types_and_order(write: Write) -> None:
    tracks, _ = read_tracks(write(PLAIN))
    assert list(tracks.columns) == [INDIVIDUAL, TIME, LONGITUDE, LATITUDE]
    assert tracks[TIME].dtype == np.dtype("datetime64[ns]")
    assert tracks[LONGITUDE].dtype == tracks[LATITUDE].dtype == np.float64
    assert isinstance(tracks.index, pd.RangeIndex)
    assert all(type(i) is str for i in tracks[INDIVIDUAL])


@pytest.mark.parametrize("sign", ["-", "_", ".", " "])
def test_movebank_spellings_read_the_same(write: Write, sign: str) -> None:
    header, _, body = MOVEBANK.partition("\n")
    other = write(header.replace("-", sign).title() + "\n" + body, "other.csv")
    pd.testing.assert_frame_equal(read_tracks(other)[0], read_tracks(write(MOVEBANK))[0])


@pytest.mark.parametrize(
    ("name", "pack"),
    [
        ("tracks.csv.gz", lambda text: gzip.compress(text.encode())),
        ("tracks.csv", lambda text: gzip.compress(text.encode())),
        ("semicolons.csv", lambda text: text.replace(",", ";")),
        ("tabs.txt", lambda text: text.replace(",", "\t")),
        ("marked.csv", lambda text: b"\xef\xbb\xbf" + text.encode()),
        ("windows.csv", lambda text: text.replace("\n", "\r\n")),
        ("padded.csv", lambda text: text.replace(",", " , ")),
    ],
)
def test_containers_and_separators_read_the_same(write: Write, name: str, pack: Callable[[str], bytes | str]) -> None:
    expected = read_tracks(write(PLAIN, "plain.csv"))[0]
    pd.testing.assert_frame_equal(read_tracks(write(pack(PLAIN), name))[0], expected)


def test_parquet_reads_like_csv(write: Write, tmp_path: Path) -> None:
    table = pd.DataFrame(
        {
            "individual": ["A", "A"],
            "timestamp": pd.to_datetime(["2020-01-01", "2020-01-02"]),
            "lon": [10.0, 10.5],
            "lat": [50.0, 50.0],
        }
    )
    expected = read_tracks(write(PLAIN))[0]
    table.to_parquet(tmp_path / "a.parquet")
    table.assign(timestamp=table["timestamp"].dt.tz_localize("UTC").dt.tz_convert("America/Anchorage")).to_parquet(
        tmp_path / "b.parquet"
    )
    table.set_index("individual").to_parquet(tmp_path / "c.parquet")
    for name in "abc":
        tracks = read_tracks(tmp_path / f"{name}.parquet", timezone=None)[0]
        pd.testing.assert_frame_equal(tracks, expected)


def test_ids_stay_text(write: Write, tmp_path: Path) -> None:
    text = PLAIN.replace("A,", "007,", 1).replace("A,", " 1.0 ,")
    assert read_tracks(write(text))[0][INDIVIDUAL].tolist() == ["007", "1.0"]
    numbers = pd.DataFrame({"individual": [7, None], "time": ["2020-01-01"] * 2, "lon": [1.0, 1.0], "lat": [1.0, 1.0]})
    numbers.to_parquet(tmp_path / "ids.parquet")
    tracks, ledger = read_tracks(tmp_path / "ids.parquet")
    assert tracks[INDIVIDUAL].tolist() == ["7"]
    assert reasons(ledger) == {"missing individual": 1}


def test_individual_is_the_key_and_not_the_tag(write: Write) -> None:
    with pytest.raises(ValueError, match="individual-local-identifier"):
        read_tracks(write(MOVEBANK.replace("individual-local-identifier", "nick")))


def test_column_mapping_with_two_time_columns_projection_and_a_single_animal(write: Write) -> None:
    path = write("east,north,day,clock\n3558403,5999400,2009-02-13,00:02:23\n")
    tracks, _ = read_tracks(
        path, columns={"x": "east", "y": "north", "time": ["day", "clock"]}, individual="deer", crs="EPSG:31467"
    )
    lon, lat = Transformer.from_crs("EPSG:31467", "EPSG:4326", always_xy=True).transform(3558403, 5999400)
    assert tracks.iloc[0].tolist() == ["deer", pd.Timestamp("2009-02-13 00:02:23"), lon, lat]
    assert (round(lon, 1), round(lat, 1)) == (9.9, 54.1)


def test_mapped_columns_may_trade_names(write: Write) -> None:
    path = write("individual,animal,when,lon,lat\nT9,Queen,2020-01-01,1,2\n")
    tracks, _ = read_tracks(path, columns={"individual": "animal", "tag": "individual", "time": "when"})
    assert tracks[[INDIVIDUAL, "tag"]].iloc[0].tolist() == ["Queen", "T9"]


def test_context_columns_become_numbers_unless_that_loses_something(write: Write) -> None:
    path = write(
        "individual,timestamp,lon,lat,length-cm,quality,site,only 1\n"
        "A,2020-01-01,1,2,260.5,B,007,x\nA,2020-01-02,1,2,,3,012,y\n"
    )
    tracks, _ = read_tracks(path, keep=["length_cm", "quality", "site"])
    assert list(tracks.columns)[4:] == ["length_cm", "quality", "site"]
    assert tracks["length_cm"].tolist()[0] == 260.5
    assert np.isnan(tracks["length_cm"][1])
    assert tracks["quality"].tolist() == ["B", "3"]
    assert tracks["site"].tolist() == ["007", "012"]


@pytest.mark.parametrize(
    ("given_text", "timezone", "expected"),
    [
        ("2020-07-01 12:00:00", None, "2020-07-01 12:00:00"),
        ("2020-07-01T12:00:00Z", None, "2020-07-01 12:00:00"),
        ("2020-07-01 12:00:00 UTC", None, "2020-07-01 12:00:00"),
        ("2020-07-01 12:00:00.250+02:00", None, "2020-07-01 10:00:00.250"),
        ("2020-07-01 12:00:00 -0330", None, "2020-07-01 15:30:00"),
        ("2020-07-01 12:00", "Europe/Berlin", "2020-07-01 10:00:00"),
        ("2020-07-01 12:00:00+00:00", "Europe/Berlin", "2020-07-01 12:00:00"),
        ("2020-01-01", None, "2020-01-01 00:00:00"),
        ("20200701T120000Z", None, "2020-07-01 12:00:00"),
    ],
)
def test_times_become_utc(write: Write, given_text: str, timezone: str | None, expected: str) -> None:
    tracks, _ = read_tracks(write(f"individual,timestamp,lon,lat\nA,{given_text},1,2\n"), timezone=timezone)
    assert tracks[TIME].tolist() == [pd.Timestamp(expected)]


def test_hours_that_daylight_saving_skips_or_repeats_go_to_the_ledger(write: Write) -> None:
    path = write(
        "individual,timestamp,lon,lat\nA,2020-03-29 02:30:00,1,2\nA,2020-03-29 03:30:00,1,2\n"
        "A,2020-10-25 02:30:00,1,2\nA,,1,2\n"
    )
    tracks, ledger = read_tracks(path, timezone="Europe/Berlin")
    assert tracks[TIME].tolist() == [pd.Timestamp("2020-03-29 01:30")]
    assert sorted(reasons(ledger).values()) == [1, 2]
    assert balances(tracks, ledger)


def test_longitudes_are_wrapped_and_those_in_range_keep_every_digit(write: Write) -> None:
    path = write(
        "individual,timestamp,lon,lat\n"
        + "".join(f"A,2020-01-0{i + 1},{lon},2\n" for i, lon in enumerate(["200.5", "180", "-162.55618286", "-359"]))
    )
    assert read_tracks(path)[0][LONGITUDE].tolist() == [-159.5, -180.0, -162.55618286, 1.0]


def test_missing_coordinates_are_read_as_missing_for_cleaning_to_count(write: Write) -> None:
    path = write(
        "individual,timestamp,lon,lat\nA,2020-01-01,,2\nA,2020-01-02,NA,2\nA,2020-01-03,inf,2\n"
        "A,2020-01-04,0,0\nA,2020-01-05,10,91\nA,2020-01-06,361,1\nA,2020-01-07,10,1\nA,2020-01-08,0,1\nA,2020-01-09,0,1\n"
    )
    tracks, ledger = read_tracks(path)
    assert (len(tracks), ledger) == (9, Ledger())
    cleaned, ledger = clean_tracks(tracks)
    assert reasons(ledger) == {
        "missing or infinite coordinates": 3,
        "impossible coordinates": 2,
        "longitude and latitude exactly 0": 1,
    }
    assert balances(cleaned, ledger)


def test_file_whose_rows_are_all_hidden_gives_an_empty_table(write: Write) -> None:
    tracks, ledger = read_tracks(write(MOVEBANK.replace(",true,2020", ",false,2020")))
    cleaned, more = clean_tracks(tracks, max_speed_km_h=10)
    resampled, last = resample_tracks(cleaned, step="1h", tolerance="0s")
    assert len(resampled) == 0
    assert resampled[BURST].dtype == np.int64
    assert balances(resampled, ledger + more + last)
    assert check_report(resampled, ledger)["median_step_h"] is None


# Files that cannot be read: one message each


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        ("", "tracks.csv", "is empty"),
        ("", "tracks.csv.gz", "is empty"),
        (" \n\n", "tracks.csv", "is empty"),
        (gzip.compress(b""), "tracks.csv.gz", "is empty"),
        ("individual,timestamp,lon,lat\n", "tracks.csv", "header but no rows"),
        (gzip.compress(PLAIN.encode() * 50)[:-20], "tracks.csv.gz", "not a whole gzip file"),
        (PLAIN, "tracks.csv.gz", "not a whole gzip file"),
        (b"PAR1" + b"\1" * 50 + b"PAR1", "tracks.parquet", "not a whole Parquet file"),
        ("nothing of the kind", "tracks.parquet", "not a whole Parquet file"),
        (b"PK\3\4" + b"\0" * 30, "tracks.csv", "not a table.*zip archive"),
        ("<!DOCTYPE html><html>License</html>", "tracks.csv", "not a table.*license terms"),
        (b"\x89PNG\r\n\0\0\0", "tracks.csv", "not a table.*binary"),
        (PLAIN.encode("utf-16"), "tracks.csv", "not a table.*UTF-8"),
        (PLAIN.replace("A", "Björn").encode("latin-1"), "tracks.csv", "not UTF-8"),
        ("Dear all,\nthe tracks, as asked, are here\n", "tracks.csv", "not a table"),
        ("just one column\n1\n2\n", "tracks.csv", "not a table: expected columns separated"),
        ("a,b\n1,2\n1,2,3,4\n", "tracks.csv", "not a table.*line 3"),
    ],
)
def test_unreadable_file_has_one_clear_message(write: Write, content: str | bytes, name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        read_tracks(write(content, name))
    assert name in str(caught.value)


def test_missing_file_and_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no track file at .*nowhere\.csv"):
        read_tracks(tmp_path / "nowhere.csv")
    with pytest.raises(ValueError, match="is a folder"):
        read_tracks(tmp_path)


def test_cut_off_parquet_is_said_to_be_so(tmp_path: Path) -> None:
    path = tmp_path / "cut.parquet"
    pd.DataFrame({"individual": ["A"] * 100}).to_parquet(path)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ValueError, match="not a whole Parquet file"):
        read_tracks(path)


def test_all_missing_columns_are_named_at_once_with_the_nearest(write: Write) -> None:
    path = write("individual,timestamp,longitud,lattitude,speed\nA,2020-01-01,1,2,3\n")
    with pytest.raises(ValueError, match=r"tracks\.csv: expected the columns") as caught:
        read_tracks(path, keep=["quality"])
    message = str(caught.value)
    assert "longitude (location-long" in message
    assert "latitude (location-lat" in message
    assert "quality" in message
    assert "longitud (for longitude)" in message
    assert "lattitude (for latitude)" in message


def test_mapped_column_that_is_missing_is_named_with_the_nearest(write: Write) -> None:
    with pytest.raises(ValueError, match=r"expected the column fish_id.*Nearest: individual_id \(for fish_id\)"):
        read_tracks(write(PLAIN.replace("individual", "individual_id")), columns={"individual": "fish_id"})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"columns": {"longtude": "lon"}}, "did you mean longitude"),
        ({"columns": {"individual": ["a", "b"]}}, "one column"),
        ({"columns": {"x": "lon", "y": "lat"}}, "x and y need a crs"),
        ({"columns": {"longitude": "lon"}, "crs": "EPSG:32736"}, "is projected"),
        ({"crs": "EPSG:32736"}, "expected the columns x .*, y "),
        ({"crs": "the moon"}, "unknown crs"),
        ({"timezone": "Africa/Johanesburg"}, "did you mean Africa/Johannesburg"),
        ({"keep": ["longitude"]}, "mimic's own"),
        ({"individual": " "}, "got blank text"),
    ],
)
def test_wrong_option_has_one_clear_message(write: Write, options: dict[str, object], message: str) -> None:
    path = write(PLAIN if "keep" not in options else PLAIN.replace("lon,", "longitude,"))
    with pytest.raises(ValueError, match=message):
        read_tracks(path, **options)  # type: ignore[arg-type]


def test_ambiguous_column_is_an_error(write: Write) -> None:
    with pytest.raises(ValueError, match=r"could be any of location-long, location\.long"):
        read_tracks(write("individual,timestamp,location-long,location.long,lat\nA,2020-01-01,1,2,3\n"))
    with pytest.raises(ValueError, match=r"could be any of lat, lat\.1"):
        read_tracks(write("individual,timestamp,lon,lat,lat\nA,2020-01-01,1,2,3\n"))


def test_one_name_for_several_animals_is_an_error(write: Write) -> None:
    path = write(PLAIN + "B,2020-01-01,1,2\n")
    with pytest.raises(ValueError, match="one animal, but its column individual names 2"):
        read_tracks(path, individual="deer")


@pytest.mark.parametrize(
    ("times", "message"),
    [
        (["17/02/2005 05:05", "2005-02-17"], r"1 of 2 times cannot be read \(17/02/2005"),
        (["now", "today"], "2 of 2 times cannot be read"),
        (["2005", "1234567890"], "2 of 2 times cannot be read"),
        (["2005-02-30", "9999-01-01"], "2 of 2 times cannot be read"),
        (["05:05:00", "06:05"], "clocks without a date"),
        (["2005-02-17 05:05:00", "2005-02-17T05:05:00+02:00"], "with and without an offset"),
        (["2005-02-17", "2005-02-17T05:05:00Z"], "with and without an offset"),
    ],
)
def test_unreadable_and_mixed_times_are_shown(write: Write, times: list[str], message: str) -> None:
    path = write("individual,timestamp,lon,lat\n" + "".join(f"A,{t},1,2\n" for t in times))
    with pytest.raises(ValueError, match=message):
        read_tracks(path)


def test_offsets_that_differ_are_no_mix(write: Write) -> None:
    path = write("individual,timestamp,lon,lat\nA,2020-03-01 12:00+01:00,1,2\nA,2020-04-01 12:00+02:00,1,2\n")
    assert read_tracks(path)[0][TIME].dt.hour.tolist() == [11, 10]


def test_coordinates_that_are_no_numbers_are_shown(write: Write) -> None:
    path = write("individual;timestamp;lon;lat\nA;2020-01-01;10,5;50,1\n")
    with pytest.raises(ValueError, match=r"expected numbers in lon.*10,5.*decimal points"):
        read_tracks(path)


def test_swapped_and_projected_coordinates_are_recognized(write: Write) -> None:
    header = "individual,timestamp,lon,lat\n"
    with pytest.raises(ValueError, match="look swapped"):
        read_tracks(write(header + "A,2020-01-01,66.3,-162.5\nA,2020-01-02,66.3,-162.4\n"))
    # An animal that straddles 90 degrees east: swapped, most rows remain possible.
    rows = "".join(f"A,2020-01-{i + 1:02d},{i % 3},{89 if i % 2 else 91}\n" for i in range(24))
    with pytest.raises(ValueError, match="look swapped"):
        read_tracks(write(header + rows))
    with pytest.raises(ValueError, match="given as x and y with a crs"):
        read_tracks(write(header + "A,2020-01-01,3558403,5999400\n"))


# Cleaning


def test_repeated_times_keep_one_fix_by_hand() -> None:
    tracks = fixes([0, 0, 0, 1], [1.0, 1.0, 2.0, 3.0])
    cleaned, ledger = clean_tracks(tracks)
    assert cleaned[LONGITUDE].tolist() == [1.0, 3.0]
    assert reasons(ledger) == {"repeated time, same position": 1, "repeated time, other position": 1}


def test_fix_of_smallest_error_radius_stays() -> None:
    radius = [np.nan, 500.0, 100.0, np.nan, 7.0]
    tracks = fixes([0, 0, 0, 1, 1], [1.0, 2.0, 3.0, 4.0, 5.0], error_radius_m=radius)
    assert clean_tracks(tracks)[0][LONGITUDE].tolist() == [3.0, 5.0]
    renamed = tracks.rename(columns={"error_radius_m": "cep"})
    assert clean_tracks(renamed)[0][LONGITUDE].tolist() == [1.0, 4.0]
    assert clean_tracks(renamed, error_radius_column="cep")[0][LONGITUDE].tolist() == [3.0, 5.0]


def test_same_time_of_two_animals_is_no_repetition() -> None:
    tracks = pd.concat([fixes([0], [1.0]), fixes([0], [1.0], individual="B")])
    assert len(clean_tracks(tracks)[0]) == 2


def test_error_radius_and_quality_are_dropped_with_reasons() -> None:
    tracks = fixes(
        [0, 1, 2, 3], [1.0] * 4, error_radius_m=[100.0, 999999.0, np.nan, 5000.0], quality=["3", "Z", "Z", "B"]
    )
    cleaned, ledger = clean_tracks(tracks, max_error_radius_m=5000, drop_quality=["Z", "Z"])
    assert hours_of(cleaned) == [0, 3]
    assert reasons(ledger) == {"error radius above 5000 m": 1, "quality Z": 1}


def test_quality_of_numbers_is_compared_as_text() -> None:
    tracks = fixes([0, 1, 2], [1.0] * 3, quality=[0.0, 3.0, np.nan])
    assert hours_of(clean_tracks(tracks, drop_quality=["0"])[0]) == [1, 2]


def test_tags_are_put_to_their_animals_by_pattern_before_anything_else() -> None:
    tracks = pd.concat(
        [fixes([0, 2], [1.0, 1.0], individual="EB_1_06A"), fixes([1, 2], [1.0, 1.0], individual="EB_1_09S")]
    )
    cleaned, ledger = clean_tracks(tracks, individual_pattern=r"(.+)_[^_]+$")
    assert cleaned[INDIVIDUAL].tolist() == ["EB_1"] * 3
    assert cleaned["tag"].tolist() == ["EB_1_06A", "EB_1_09S", "EB_1_06A"]
    assert hours_of(cleaned) == [0, 1, 2]
    assert ledger.n_dropped("fix") == 1
    assert ledger.entries[0].action == "changed"
    assert "EB_1_06A is EB_1" in ledger.entries[0].example


def test_tags_are_put_to_their_animals_by_mapping() -> None:
    tracks = pd.concat(
        [fixes([0], [1.0], individual="a"), fixes([1], [1.0], individual="b"), fixes([2], [1.0], individual="c")]
    )
    assert clean_tracks(tracks, individual_of_tag={"b": "a"})[0][INDIVIDUAL].tolist() == ["a", "a", "c"]
    tagged = tracks.assign(tag=["1", "2", "3"])
    cleaned, _ = clean_tracks(tagged, individual_of_tag={"2": "a"})
    assert cleaned[[INDIVIDUAL, "tag"]].to_numpy().tolist() == [["a", "1"], ["a", "2"], ["c", "3"]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_speed_km_h": 0}, "max_speed_km_h must be above 0"),
        ({"max_error_radius_m": float("nan")}, "max_error_radius_m must be above 0"),
        ({"max_error_radius_m": 10}, "error_radius_m"),
        ({"drop_quality": ["Z"]}, "quality"),
        ({"individual_pattern": "(unclosed"}, "regular expression with a group"),
        ({"individual_pattern": "A"}, "regular expression with a group"),
        ({"individual_pattern": "(.+)_x"}, "finds no animal in 'A'"),
        ({"individual_of_tag": {"AA": "B"}}, r"unknown tags: AA\. Nearest: A"),
        ({"individual_of_tag": {"A": "B"}, "individual_pattern": "(.)"}, "not both"),
    ],
)
def test_wrong_cleaning_option_has_one_clear_message(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        clean_tracks(fixes([0, 1], [1.0, 1.0]), **options)  # type: ignore[arg-type]


def test_table_that_is_no_track_is_refused() -> None:
    with pytest.raises(ValueError, match="expected the columns longitude, latitude"):
        clean_tracks(fixes([0], [1.0])[[INDIVIDUAL, TIME]])
    with pytest.raises(ValueError, match="time_utc must be datetimes"):
        clean_tracks(fixes([0], [1.0]).assign(**{TIME: "2020-01-01"}))
    with pytest.raises(ValueError, match="needs an individual and a time"):
        clean_tracks(fixes([0], [1.0]).assign(**{TIME: pd.NaT}).astype({TIME: "datetime64[ns]"}))


@pytest.mark.parametrize(
    ("longitude", "kept"),
    [
        ([0.0, 0.1, 5.0, 0.2, 0.3], [0, 1, 3, 4]),  # one spike
        ([5.0, 0.0, 0.1, 0.2, 0.3], [1, 2, 3, 4]),  # the first fix
        ([0.0, 0.1, 0.2, 0.3, 5.0], [0, 1, 2, 3]),  # the last fix
        ([0.0, 0.1, 5.0, 5.1, 0.3, 0.4], [0, 1, 4, 5]),  # two wrong fixes that fit each other
        ([0.0, 5.0, -5.0, 0.1], [0, 3]),  # spikes to both sides
        ([0.0, 0.1, 9.0, 9.1, 9.2], [2, 3, 4]),  # a jump: the longer side
        ([0.0, 0.1, 0.2], [0, 1, 2]),
        ([0.0, 5.0], [0]),  # nothing tells which: the first
        ([0.0, 0.15, 0.05, 0.1, 0.15], [0, 2, 3, 4]),  # either of two: the shorter path
    ],
)
def test_speed_filter_keeps_the_largest_plausible_set(longitude: list[float], kept: list[int]) -> None:
    # 0.1 degrees of the equator in an hour are 11.1 km/h.
    tracks = fixes(list(range(len(longitude))), [20 + lon for lon in longitude])
    if longitude == [0.0, 0.15, 0.05, 0.1, 0.15]:
        tracks.loc[1, LATITUDE] = 0.05
    cleaned, ledger = clean_tracks(tracks, max_speed_km_h=11.2 if 0.15 in longitude else 12)
    assert hours_of(cleaned) == kept
    assert ledger.n_dropped("fix") == len(longitude) - len(kept)


def test_speed_filter_knows_the_date_line() -> None:
    assert len(clean_tracks(fixes([0, 1, 2], [179.95, -179.95, 179.95]), max_speed_km_h=12)[0]) == 3


def test_speed_filter_does_not_join_two_animals() -> None:
    tracks = pd.concat([fixes([0, 1], [1.0, 1.1]), fixes([2, 3], [50.0, 50.1], individual="B")])
    assert len(clean_tracks(tracks, max_speed_km_h=12)[0]) == 4


def _speeds(tracks: pd.DataFrame) -> np.ndarray:
    lon, lat = tracks[LONGITUDE].to_numpy(), tracks[LATITUDE].to_numpy()
    return distance_km(lon[:-1], lat[:-1], lon[1:], lat[1:]) / np.diff(hours_of(tracks))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(st.tuples(st.integers(1, 3), st.integers(-3, 3), st.integers(-3, 3)), min_size=1, max_size=9),
    st.sampled_from([5.0, 12.0, 40.0]),
)
def test_speed_filter_agrees_with_trying_every_subset(steps: list[tuple[int, int, int]], limit: float) -> None:
    table = np.array(steps, dtype=float)
    tracks = fixes(np.cumsum(table[:, 0]).tolist(), (table[:, 1] / 10).tolist(), (table[:, 2] / 10).tolist())
    cleaned, _ = clean_tracks(tracks, max_speed_km_h=limit)
    tracks = tracks[(tracks[LONGITUDE] != 0) | (tracks[LATITUDE] != 0)]
    if tracks.empty:
        return
    largest = 0
    for chosen in range(1, 2 ** len(tracks)):
        mask = [bool(chosen >> i & 1) for i in range(len(tracks))]
        if sum(mask) > largest and (_speeds(tracks[mask]) <= limit).all():
            largest = sum(mask)
    assert len(cleaned) == largest
    assert (_speeds(cleaned) <= limit * (1 + 1e-9)).all()


def test_spikes_are_found_again_among_fifty_thousand_fixes_in_two_seconds() -> None:
    rng, n_fixes = np.random.default_rng(1), 50_000
    hours = np.arange(n_fixes, dtype=float)
    lon, lat = np.cumsum(rng.normal(0, 0.005, (2, n_fixes)), axis=1)
    is_spike = rng.random(n_fixes) < 0.05
    tracks = fixes([0], [0.0])
    tracks = pd.DataFrame(
        {
            INDIVIDUAL: "A",
            TIME: tracks[TIME].iloc[0] + pd.to_timedelta(hours, unit="h"),
            LONGITUDE: lon + np.where(is_spike, rng.choice([-30, 30], n_fixes), 0),
            LATITUDE: lat,
        }
    )
    start = time.perf_counter()
    cleaned, _ = clean_tracks(tracks, max_speed_km_h=5)
    seconds = time.perf_counter() - start
    np.testing.assert_array_equal(cleaned[TIME].to_numpy(), tracks.loc[~is_spike, TIME].to_numpy("datetime64[ns]"))
    assert seconds < 4  # 0.4 s on an idle core


def test_cleaning_does_not_touch_its_argument_nor_care_for_the_order() -> None:
    tracks = fixes([0, 1, 2, 3], [190.0, 190.1, 100.0, 190.2])
    before = tracks.copy()
    cleaned, _ = clean_tracks(tracks, max_speed_km_h=20)
    pd.testing.assert_frame_equal(tracks, before)
    shuffled, _ = clean_tracks(tracks.iloc[[2, 0, 3, 1]], max_speed_km_h=20)
    pd.testing.assert_frame_equal(cleaned, shuffled)
    again, ledger = clean_tracks(cleaned, max_speed_km_h=20)
    pd.testing.assert_frame_equal(cleaned, again)
    assert ledger == Ledger()


def test_times_with_a_zone_are_accepted_as_utc() -> None:
    tracks = fixes([0, 1], [1.0, 1.0])
    zoned = tracks.assign(**{TIME: tracks[TIME].dt.tz_localize("UTC").dt.tz_convert("Asia/Tokyo")})
    pd.testing.assert_frame_equal(clean_tracks(zoned)[0], clean_tracks(tracks)[0])


# Resampling


def test_resampling_by_hand() -> None:
    # Step 6, tolerance 1. After 0 comes 6.5 (5.5 would do and comes first: it is kept); after 5.5 nothing lies
    # in [10.5, 12.5], so 13 starts a burst; then 18, 24; 25 lies between.
    tracks = fixes([0, 3, 5.5, 6.5, 13, 18, 24, 25], [1.0] * 8)
    result, ledger = resample_tracks(tracks, step="6h", tolerance="1h")
    assert hours_of(result) == [0, 5.5, 13, 18, 24]
    assert result[BURST].tolist() == [0, 0, 1, 1, 1]
    assert result[BURST].dtype == np.int64
    assert reasons(ledger) == {"between steps": 3}


def test_both_ends_of_the_tolerance_belong_to_it() -> None:
    result, _ = resample_tracks(fixes([0, 5, 12, 17.9, 18.9, 26], [1.0] * 6), step="6h", tolerance=pd.Timedelta("1h"))
    assert hours_of(result) == [0, 5, 12, 17.9, 26]
    assert result[BURST].tolist() == [0, 0, 0, 0, 1]


def test_every_individual_starts_a_burst() -> None:
    tracks = pd.concat([fixes([0, 1], [1.0, 1.0], individual="B"), fixes([0, 1, 3], [1.0, 1.0, 1.0])])
    result, _ = resample_tracks(tracks, step="1h", tolerance="0min")
    assert result[INDIVIDUAL].tolist() == ["A", "A", "A", "B", "B"]
    assert result[BURST].tolist() == [0, 0, 1, 2, 2]


@pytest.mark.parametrize(
    ("step", "tolerance", "message"),
    [
        ("six hours", "0min", "step must be a duration"),
        ("6h", "soon", "tolerance must be a duration"),
        ("NaT", "0min", "step must be a duration"),
        ("6h", "6h", "0 <= tolerance < step"),
        ("6h", "-1min", "0 <= tolerance < step"),
        ("0h", "0h", "0 <= tolerance < step"),
    ],
)
def test_wrong_duration_has_one_clear_message(step: str, tolerance: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        resample_tracks(fixes([0], [1.0]), step=step, tolerance=tolerance)


def _resampled_slowly(minutes: list[int], step: int, tolerance: int) -> list[tuple[int, int]]:
    """The definition, word by word: (minute, burst)."""
    kept = [(minutes[0], 0)]
    for now in minutes[1:]:
        last, burst = kept[-1]
        if now - last > step + tolerance:
            kept.append((now, burst + 1))
        elif now - last >= step - tolerance:
            kept.append((now, burst))
    return kept


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 400), min_size=1, max_size=60), st.integers(2, 60), st.data())
def test_resampling_agrees_with_its_definition(minutes: list[int], step: int, data: st.DataObject) -> None:
    tolerance = data.draw(st.integers(0, step - 1))
    minutes = sorted(minutes)
    tracks = fixes([m / 60 for m in minutes], [1.0] * len(minutes))
    result, ledger = resample_tracks(tracks, step=f"{step}min", tolerance=f"{tolerance}min")
    got = [(round(60 * h), b) for h, b in zip(hours_of(result), result[BURST].tolist(), strict=True)]
    assert got == _resampled_slowly(minutes, step, tolerance)
    ledger.check(len(tracks), len(result), "fix")


def test_fifty_thousand_fixes_are_resampled_within_a_second() -> None:
    start = pd.Timestamp("2020-01-01")
    times = start + pd.to_timedelta(np.arange(50_000) * 7, unit="min")
    tracks = pd.DataFrame({INDIVIDUAL: "A", TIME: times, LONGITUDE: 1.0, LATITUDE: 1.0})
    begin = time.perf_counter()
    result, _ = resample_tracks(tracks, step="1h", tolerance="5min")
    assert time.perf_counter() - begin < 1
    assert result[TIME].diff().dropna().eq(pd.Timedelta("56min")).all()


# The report


def test_report_by_hand() -> None:
    tracks = pd.concat([fixes([0, 2], [179.0, -179.0], tag="1"), fixes([0], [178.0], [-1.0], "B", tag="2")])
    report = check_report(tracks, Ledger().dropped("read", "missing time", ["row 3"], unit="fix"))
    # Two degrees of the equator in two hours: 222.4 km.
    assert report["max_speed_km_h"] == report["median_speed_km_h"] == 111.195
    assert (report["west"], report["south"], report["east"], report["north"]) == (178.0, -1.0, -179.0, 0.0)
    assert (report["n_fixes"], report["n_individuals"], report["n_tags"], report["n_dropped"]) == (3, 2, 2, 1)
    assert (report["n_read"], report["is_balanced"]) == (None, None)
    assert report["median_step_h"] == 2.0
    assert report["first_time_utc"] == "2020-01-01T00:00:00"
    assert [i["n_fixes"] for i in report["individuals"]] == [2, 1]
    assert report["individuals"][1]["max_speed_km_h"] is None
    assert report["ledger"][0]["reason"] == "missing time"


def test_report_of_dirty_tracks_counts_faults_and_is_strict_json() -> None:
    tracks = fixes([0, 0, 1, 2, 3], [1.0, 1.0, np.nan, np.inf, 1.0], [1.0, 1.0, 1.0, 1.0, 95.0])
    report = check_report(tracks, Ledger())
    assert (report["n_repeated_times"], report["n_impossible_coordinates"]) == (1, 3)
    assert json.loads(json.dumps(report, allow_nan=False)) == report


def test_report_measures_steps_within_bursts_only() -> None:
    result, ledger = resample_tracks(fixes([0, 1, 50, 51], [1.0, 1.1, 5.0, 5.1]), step="1h", tolerance="0s")
    report = check_report(result, ledger)
    assert (report["n_bursts"], report["n_steps"], report["n_bursts_below_3_fixes"]) == (2, 2, 2)
    assert report["median_step_h"] == 1.0


# Accounting


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["A", "B", "", "B_2"]),
            st.sampled_from(["", *(f"2020-01-0{d} 0{h}:00:00" for d in (1, 2) for h in range(4))]),
            st.sampled_from(["1", "1.1", "", "0", "400", "-170", "nan"]),
            st.sampled_from(["0", "1", "", "-95"]),
            st.sampled_from(["true", "false", ""]),
            st.sampled_from(["100", "999999", ""]),
        ),
        min_size=1,
        max_size=40,
    )
)
def test_rows_of_the_file_are_fixes_out_plus_fixes_dropped(rows: list[tuple[str, ...]]) -> None:
    import tempfile

    text = "individual,timestamp,lon,lat,visible,error_radius_m\n" + "".join(",".join(r) + "\n" for r in rows)
    # Swapped columns are another test: keep most latitudes possible.
    text += "C,2020-01-01,1,1,,\n" * (len(rows) + 1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tracks.csv"
        path.write_text(text)
        tracks, ledger = read_tracks(path, keep=["error_radius_m"])
    assert balances(tracks, ledger)
    cleaned, more = clean_tracks(
        tracks, max_speed_km_h=20, max_error_radius_m=1000, individual_of_tag=None, individual_pattern="([A-Z])"
    )
    ledger += more
    assert balances(cleaned, ledger)
    assert not cleaned.duplicated([INDIVIDUAL, TIME]).any()
    assert cleaned[LONGITUDE].between(-180, 180, inclusive="left").all()
    resampled, more = resample_tracks(cleaned, step="1h", tolerance="10min")
    assert balances(resampled, ledger + more)
    assert check_report(resampled, ledger + more)["is_balanced"]


# Real data


def test_red_deer_is_resampled_as_amt_does(shared: Path) -> None:
    path = shared / "reference" / "red_deer_sh.csv.gz"
    columns = {"x": "x_epsg31467", "y": "y_epsg31467", "time": ["day", "time"]}
    tracks, ledger = read_tracks(path, columns=columns, individual="deer", crs="EPSG:31467")
    assert len(tracks) == 1500
    cleaned, more = clean_tracks(tracks)
    ledger += more
    assert len(cleaned) == 1493
    assert reasons(ledger) == {"repeated time, same position": 7}
    result, more = resample_tracks(cleaned, step="6h", tolerance="20min")
    sizes = result[BURST].value_counts()
    assert (len(result), len(sizes), int((sizes - 1).sum()), int((sizes < 3).sum())) == (826, 35, 791, 6)
    assert balances(result, ledger + more)


def test_kruger_buffalo_is_read_as_movebank_wrote_it(shared: Path) -> None:
    tracks, ledger = read_tracks(shared / "data" / "kruger_buffalo" / "movebank_kruger_buffalo.csv.gz")
    assert (len(tracks), tracks[INDIVIDUAL].nunique(), tracks["tag"].nunique()) == (28_410, 6, 6)
    cleaned, more = clean_tracks(tracks, max_speed_km_h=20)
    ledger += more
    assert reasons(ledger) == {
        "repeated time, same position": 3742,
        "repeated time, other position": 5,
        "not reached at 20 km/h": 1,
    }
    assert balances(cleaned, ledger)


def test_bearded_seals_of_two_tags_become_seven_clean_animals(shared: Path) -> None:
    path = shared / "data" / "kotz_bearded_seals" / "tracks.csv.gz"
    tracks, ledger = read_tracks(path, keep=["quality", "error_radius_m"])
    assert (len(tracks), tracks[LATITUDE].min()) == (54_698, pytest.approx(-15.70539))
    found = reasons(clean_tracks(tracks, individual_pattern=r"(.+)_[^_]+$")[1])
    assert found["repeated time, same position"] + found["repeated time, other position"] == 3261
    cleaned, more = clean_tracks(
        tracks, max_speed_km_h=10, max_error_radius_m=10_000, drop_quality=["Z"], individual_pattern=r"(.+)_[^_]+$"
    )
    ledger += more
    assert (cleaned[INDIVIDUAL].nunique(), cleaned["tag"].nunique()) == (7, 14)
    assert cleaned[LATITUDE].min() > 55
    for _, animal in cleaned.groupby(INDIVIDUAL):
        assert _speeds(animal).max() <= 10 * (1 + 1e-9)
    report = check_report(cleaned, ledger)
    assert report["west"] > 0 > report["east"]  # across 180 degrees
    assert report["is_balanced"]


def test_elephant_seals_are_already_regular(shared: Path) -> None:
    tracks, _ = read_tracks(shared / "data" / "ses_kerguelen" / "tracks.csv")
    result, ledger = resample_tracks(clean_tracks(tracks)[0], step="576min", tolerance="1min")
    assert (len(result), result[BURST].nunique(), ledger) == (7353, 15, Ledger())


def test_bad_fix_never_wins_over_a_good_one_of_the_same_time() -> None:
    tracks = pd.DataFrame(
        {
            "individual": "a",
            "time_utc": np.array(["2020-01-01", "2020-01-01"], dtype="datetime64[ns]"),
            "longitude": [10.0, 11.0],
            "latitude": [50.0, 51.0],
            "quality": ["Z", "1"],
        }
    )
    cleaned, ledger = clean_tracks(tracks, drop_quality=["Z"])
    assert cleaned["longitude"].tolist() == [11.0]
    assert reasons(ledger) == {"quality Z": 1}
