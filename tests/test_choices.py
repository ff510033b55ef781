"""Tracks into choice sets: who is a choice, what was selected, and where every dropped row is accounted for."""

from __future__ import annotations

import json
from pathlib import Path

import h3.api.basic_int as h3
import numpy as np
import pandas as pd
import pytest

from mimic.choices import DESTINATION, Source, area_source, build_choices, make_decisions, require_decisions
from mimic.features import FeatureSpec
from mimic.hexgrid import bearing_rad, cell_at, centroids
from mimic.ledger import Ledger


def walk(cells: list[int], individual: str = "a", burst: int = 0, start: str = "2020-05-01") -> pd.DataFrame:
    longitude, latitude = centroids(np.array(cells))
    times = np.datetime64(start, "ns") + np.arange(len(cells)) * np.timedelta64(1, "D")
    return pd.DataFrame(
        {"individual": individual, "time_utc": times, "longitude": longitude, "latitude": latitude, "burst": burst}
    )


@pytest.fixture
def home() -> int:
    return int(cell_at(np.array([-150.0]), np.array([57.0]), 4)[0])


@pytest.fixture
def around(home: int) -> list[int]:
    return list(h3.grid_ring(home, 1))


def test_decisions_are_the_fixes_with_a_next_fix_and_the_rest_is_in_the_ledger(home: int, around: list[int]) -> None:
    tracks = pd.concat(
        [walk([home, home, around[0]], burst=0), walk([home, around[1]], burst=1, start="2020-06-01")],
        ignore_index=True,
    )
    decisions, ledger = make_decisions(tracks, resolution=4)
    assert decisions["origin"].tolist() == [home, home, home]
    assert decisions[DESTINATION].tolist() == [home, around[0], around[1]]
    assert decisions["decision"].tolist() == [0, 1, 2]
    assert ledger.n_dropped("fix") == 2
    ledger.check(len(tracks), len(decisions), "fix")


def test_a_gap_makes_no_decision_between_bursts(home: int, around: list[int]) -> None:
    tracks = pd.concat([walk([home], burst=0), walk([around[0]], burst=1, start="2020-05-02")], ignore_index=True)
    decisions, _ = make_decisions(tracks, resolution=4)
    assert len(decisions) == 0


def test_bursts_that_are_numbered_anew_for_every_animal_do_not_join_animals(home: int, around: list[int]) -> None:
    tracks = pd.concat([walk([home, around[0]], burst=0), walk([home, around[1]], burst=0)], ignore_index=True)
    tracks["individual"] = np.repeat(["fish 1", "fish 2"], 2)
    decisions, ledger = make_decisions(tracks, resolution=4)
    assert decisions[DESTINATION].tolist() == [around[0], around[1]]
    assert decisions["previous_heading_rad"].isna().all()
    assert ledger.n_dropped("fix") == 2


def test_choice_set_holds_the_origin_and_all_cells_within_reach_and_knows_what_was_selected(
    home: int, around: list[int]
) -> None:
    decisions, _ = make_decisions(walk([home, home, around[2]]), resolution=4)
    choice_sets, ledger = build_choices(decisions, max_distance_km=100.0)
    assert choice_sets.choice[choice_sets.selected].tolist() == [home, around[2]]
    first = choice_sets.choice[: choice_sets.offsets[1]].tolist()
    assert home in first
    assert set(around) <= set(first)
    assert choice_sets.features["stay"][choice_sets.selected].tolist() == [1.0, 0.0]
    assert choice_sets.features["distance_km"].max() <= 100.0
    assert ledger == Ledger()


def test_selection_beyond_reach_is_dropped_with_a_reason_or_refused(home: int) -> None:
    far = h3.grid_ring(home, 9)[0]
    decisions, _ = make_decisions(walk([home, home, far]), resolution=4)
    choice_sets, ledger = build_choices(decisions, max_distance_km=100.0)
    assert choice_sets.n_decisions == 1
    dropped = ledger.to_frame().query("unit == 'decision'")
    assert dropped["n"].tolist() == [1]
    assert dropped["reason"].tolist() == ["selected cell beyond max_distance_km (100 km)"]
    assert dropped["example"].tolist() == ["a 2020-05-02 00:00:00"]
    with pytest.raises(ValueError, match="1 of 2 decisions have no usable choice set"):
        build_choices(decisions, max_distance_km=100.0, outside="error")


def land(cells: set[int], missing: object = "drop") -> Source:
    """Elevation: +10 on the given cells, NaN nowhere, -100 elsewhere."""
    return Source(
        "elevation",
        lambda c, t: np.array([10.0 if x in cells else -100.0 for x in c.tolist()]),
        "m",
        missing,  # type: ignore[arg-type]
    )


def test_domain_leaves_out_land_and_counts_who_selected_it(home: int, around: list[int]) -> None:
    decisions, _ = make_decisions(walk([home, around[0], home, around[1]]), resolution=4)
    choice_sets, ledger = build_choices(
        decisions, max_distance_km=50.0, sources=[land({around[0]})], domain="elevation < 0"
    )
    assert around[0] not in choice_sets.choice.tolist()
    table = ledger.to_frame()
    lost = table[(table["unit"] == "decision") & (table["action"] == "dropped")]
    assert lost["reason"].tolist() == ["selected cell: outside the domain (elevation < 0)"]
    assert lost["n"].tolist() == [1]
    # The account of the choices: left out of kept decisions, plus all choices of the dropped decision.
    assert ledger.n_dropped("choice") + choice_sets.n_rows == len(
        build_choices(decisions, max_distance_km=50.0)[0].choice
    )


def test_domain_expression_over_an_unknown_column_is_refused(home: int) -> None:
    decisions, _ = make_decisions(walk([home, home]), resolution=4)
    with pytest.raises(ValueError, match="elevaton"):
        build_choices(decisions, max_distance_km=50.0, sources=[land(set())], domain="elevaton < 0")


def holes(cells: set[int], missing: object) -> Source:
    return Source(
        "sst",
        lambda c, t: np.array([np.nan if x in cells else 8.0 + x % 7 for x in c.tolist()]),
        "degC",
        missing,  # type: ignore[arg-type]
    )


def test_missing_covariate_drops_fills_or_refuses_as_the_user_says(home: int, around: list[int]) -> None:
    decisions, _ = make_decisions(walk([home, home, around[0]]), resolution=4)
    kept, ledger = build_choices(decisions, max_distance_km=50.0, sources=[holes({around[0]}, "drop")])
    assert kept.n_decisions == 1
    assert "selected cell: no sst" in ledger.to_frame()["reason"].tolist()
    filled, ledger = build_choices(
        decisions, max_distance_km=50.0, sources=[holes({around[0]}, 4.0)], features=[FeatureSpec("sst")]
    )
    assert filled.n_decisions == 2
    assert filled.features["sst"][filled.choice == around[0]].tolist() == [4.0, 4.0]
    assert ledger.to_frame()[["reason", "n", "action"]].values.tolist() == [["no sst: filled with 4.0", 2, "changed"]]
    with pytest.raises(ValueError, match="covariate sst has no value for 2 of 14 choices"):
        build_choices(decisions, max_distance_km=50.0, sources=[holes({around[0]}, "error")])


def test_difference_from_an_origin_without_the_covariate_drops_the_decision(home: int, around: list[int]) -> None:
    decisions, _ = make_decisions(walk([home, around[0], around[0]]), resolution=4)
    change = FeatureSpec("change", source="sst", minus_origin=True)
    choice_sets, ledger = build_choices(
        decisions, max_distance_km=50.0, sources=[holes({home}, "drop")], features=[change]
    )
    assert choice_sets.n_decisions == 1
    assert "origin cell: no sst" in ledger.to_frame()["reason"].tolist()
    assert np.isfinite(choice_sets.features["change"]).all()


def test_covariate_is_joined_on_the_choice_cell_at_the_decision_time(home: int, around: list[int]) -> None:
    seen: list[tuple[int, np.datetime64]] = []

    def record(cells: np.ndarray, times: np.ndarray) -> np.ndarray:
        seen.extend(zip(cells.tolist(), times, strict=True))
        return np.array([float(c % 1000) + 1000 * (t - times.min()).astype("timedelta64[D]").astype(int)
                         for c, t in zip(cells.tolist(), times, strict=True)])  # fmt: skip

    decisions, _ = make_decisions(walk([home, around[0], around[0]]), resolution=4)
    choice_sets, _ = build_choices(
        decisions, max_distance_km=50.0, sources=[Source("x", record)], features=[FeatureSpec("x")]
    )
    expected = choice_sets.choice % 1000 + 1000 * choice_sets.decision_of_row
    assert choice_sets.features["x"].tolist() == pytest.approx(expected.tolist())
    assert {t for _, t in seen} == set(decisions["time_utc"].to_numpy(dtype="datetime64[ns]"))


def test_without_destinations_the_selection_is_unknown(home: int, around: list[int]) -> None:
    decisions, _ = make_decisions(walk([home, around[0]]), resolution=4)
    choice_sets, _ = build_choices(decisions.drop(columns=DESTINATION), max_distance_km=50.0)
    assert choice_sets.selected.tolist() == [-1]


def test_lone_cell_is_no_choice_and_the_whole_ledger_is_told(home: int) -> None:
    decisions, ledger = make_decisions(walk([home, home]), resolution=4)
    choice_sets, more = build_choices(decisions, max_distance_km=1.0)
    assert choice_sets.n_decisions == 0
    with pytest.raises(ValueError, match=r"no decisions are left(.|\n)*no next fix(.|\n)*no choice or only one left"):
        require_decisions(choice_sets, ledger + more)


def test_choice_sets_across_the_date_line_and_at_the_pole_are_whole() -> None:
    for longitude, latitude in [(179.99, 60.0), (-179.99, 60.0), (0.0, 89.9)]:
        cell = int(cell_at(np.array([longitude]), np.array([latitude]), 4)[0])
        decisions, _ = make_decisions(walk([cell, cell]), resolution=4)
        choice_sets, _ = build_choices(decisions, max_distance_km=100.0, features=[FeatureSpec("heading_sin")])
        assert 19 <= choice_sets.n_rows <= 32
        heading = choice_sets.features["heading_sin"]
        assert (heading > 0.3).any()
        assert (heading < -0.3).any()


def test_area_marks_the_cells_inside_its_polygons(tmp_path: Path, home: int, around: list[int]) -> None:
    corners = [[y, x] for x, y in h3.cell_to_boundary(home)]
    geometry = {"type": "Polygon", "coordinates": [[*corners, corners[0]]]}
    path = tmp_path / "area.geojson"
    feature = {"type": "Feature", "properties": {}, "geometry": geometry}
    path.write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    decisions, _ = make_decisions(walk([home, around[0]]), resolution=4)
    choice_sets, _ = build_choices(
        decisions, max_distance_km=50.0, sources=[area_source("closed", path)], features=[FeatureSpec("closed")]
    )
    assert choice_sets.choice[choice_sets.features["closed"] == 1].tolist() == [home]


def test_origin_outside_the_domain_leaves_a_decision_without_a_stay_and_the_ledger_says_so(
    home: int, around: list[int]
) -> None:
    decisions, _ = make_decisions(walk([home, around[0], around[0]]), resolution=4)
    choice_sets, ledger = build_choices(decisions, max_distance_km=50.0, sources=[land({home})], domain="elevation < 0")
    assert choice_sets.n_decisions == 2
    assert choice_sets.filter(np.array([True, False])).features["stay"].sum() == 0
    changed = ledger.to_frame().query("unit == 'decision' and action == 'changed'")
    assert changed["n"].tolist() == [1]
    assert "staying could not be selected" in changed["reason"].item()


def test_previous_heading_is_that_of_the_move_before_and_unknown_after_a_stay_a_gap_or_another_animal(
    home: int, around: list[int]
) -> None:
    tracks = pd.concat(
        [
            walk([home, around[0], around[0], home, around[1]], burst=0),
            walk([home, around[0], home], burst=1, start="2020-06-01"),
            walk([around[0], home, home], "b", burst=2),
        ],
        ignore_index=True,
    )
    decisions, _ = make_decisions(tracks, resolution=4)
    longitude, latitude = centroids(np.array([home, around[0]]))
    to_home = float(bearing_rad(longitude[0], latitude[0], longitude[1], latitude[1])) + np.pi  # away from around[0]
    to_around = float(bearing_rad(longitude[1], latitude[1], longitude[0], latitude[0])) + np.pi
    expected = [np.nan, to_around, np.nan, to_home, np.nan, to_around, np.nan, to_home]
    difference = decisions["previous_heading_rad"].to_numpy() - expected
    assert np.isnan(difference).tolist() == np.isnan(expected).tolist()
    assert np.cos(difference[~np.isnan(difference)]) == pytest.approx(1.0, abs=1e-12)
    assert decisions["previous_heading_rad"].abs().max() <= np.pi


def test_heading_of_arrival_is_that_at_the_end_of_the_great_circle() -> None:
    # between equal latitudes the great circle leaves north of east and arrives as far south of east
    west, east = cell_at(np.array([-10.0, 10.0]), np.array([70.0, 70.0]), 7).tolist()
    decisions, _ = make_decisions(walk([west, east, east]), resolution=7)
    longitude, latitude = centroids(np.array([west, east]))
    leaving = float(bearing_rad(longitude[0], latitude[0], longitude[1], latitude[1]))
    arriving = float(decisions["previous_heading_rad"].iloc[1])
    assert leaving < np.pi / 2 - 0.1
    assert arriving == pytest.approx(np.pi - leaving, abs=0.01)


def test_going_on_along_the_great_circle_is_no_turn_at_high_latitude_and_across_the_date_line() -> None:
    points = [(178.0, 75.0), (179.8, 75.05), (-178.4, 75.05)]  # a great circle bulges to the north
    cells = [int(cell_at(np.array([x]), np.array([y]), 5)[0]) for x, y in points]
    decisions, _ = make_decisions(walk(cells), resolution=5)
    choice_sets, _ = build_choices(
        decisions, max_distance_km=70.0, features=[FeatureSpec(name) for name in ("turn_cos", "turn_sin", "turn_known")]
    )
    chosen = {name: values[choice_sets.selected] for name, values in choice_sets.features.items()}
    assert chosen["turn_known"].tolist() == [0, 1]
    assert chosen["turn_cos"][0] == 0
    assert chosen["turn_cos"][1] > 0.98
    assert chosen["turn_cos"][1] ** 2 + chosen["turn_sin"][1] ** 2 == pytest.approx(1.0, abs=1e-6)


def test_previous_heading_comes_from_the_past_alone(home: int, around: list[int]) -> None:
    one = [home, around[0], home, around[3]]
    features = [FeatureSpec(name) for name in ("turn_cos", "turn_sin", "log_distance")]
    made = []
    for future in ([around[1], home], [around[4], around[5]]):
        decisions, _ = make_decisions(walk([*one, *future]), resolution=4)
        made.append(build_choices(decisions, max_distance_km=100.0, features=features)[0].filter(np.arange(5) < 4))
    for name in ("turn_cos", "turn_sin", "log_distance"):
        assert made[0].features[name].tolist() == made[1].features[name].tolist()


def test_previous_heading_is_known_where_the_decision_before_was_dropped(home: int, around: list[int]) -> None:
    far = h3.grid_ring(home, 9)[0]
    decisions, _ = make_decisions(walk([home, far, home]), resolution=4)
    choice_sets, _ = build_choices(decisions.iloc[[1]], max_distance_km=600.0, features=[FeatureSpec("turn_cos")])
    assert choice_sets.features["turn_cos"][choice_sets.selected] == pytest.approx([-1.0], abs=1e-6)  # back home


def test_more_covariates_than_reasons_can_be_told_apart_are_refused() -> None:
    from mimic.verdicts import Rules

    names = [f"c{k}" for k in range(300)]
    with pytest.raises(ValueError, match="300 covariates give 302 reasons to lose a decision; at most 250"):
        Rules.of(names, [], None, selects=True, max_distance_km=100)
    assert len(Rules.of(names[:200], [], None, selects=True, max_distance_km=100).why) == 202
