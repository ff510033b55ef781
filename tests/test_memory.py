"""Memory: visits worked out by hand, ties, tags, gaps and the date line, against a loop over every fix."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from mimic.choice_rows import Rows
from mimic.hexgrid import cell_at, centroids, neighbor_table
from mimic.memory import History
from mimic.memory_features import MEMORY, first_position, past_center

RESOLUTION = 4
DEFINITIONS = {definition.name: definition for definition in MEMORY}
PLACES = {"a": (0.0, 0.0), "b": (5.0, 0.0), "c": (0.0, 5.0), "d": (5.0, 5.0)}


def cell_of(place: str) -> int:
    longitude, latitude = PLACES[place]
    return int(cell_at(np.array([longitude]), np.array([latitude]), RESOLUTION)[0])


def fixes_of(track: str, hours: list[float] | None = None, individual: str = "x") -> pd.DataFrame:
    """One fix a letter, at its place; a day apart unless hours are given."""
    hours = [24.0 * k for k in range(len(track))] if hours is None else hours
    return pd.DataFrame(
        {
            "individual": individual,
            "time_utc": pd.Timestamp("2020-01-01") + pd.to_timedelta(hours, unit="h"),
            "longitude": [PLACES[place][0] for place in track],
            "latitude": [PLACES[place][1] for place in track],
        }
    )


def rows_of(decisions: pd.DataFrame, choices: list[int], history: History | None) -> Rows:
    """Rows of decisions with individual, time and position, each with all choices."""
    made = decisions.reset_index(drop=True)
    if "origin" not in made:
        made["origin"] = cell_at(made["longitude"].to_numpy(), made["latitude"].to_numpy(), RESOLUTION)
    decision = np.repeat(np.arange(len(made)), len(choices))
    cell = np.tile(np.array(choices, dtype=np.int64), len(made))
    stay = cell == made["origin"].to_numpy()[decision]
    return Rows(
        decision=decision,
        distance_km=np.where(stay, 0.0, 500.0),
        bearing_rad=np.where(stay, np.nan, 0.0),
        stay=stay,
        decisions=made,
        cell=cell,
        at_choice={},
        at_origin={},
        units={},
        history=history,
    )


def table(
    track: str, choices: str, name: str, *, hours: list[float] | None = None, at: int = -1, gap: float = np.inf
) -> list[float]:
    """Values of the choices (letters) of the decision made from the fix at a position of the track."""
    fixes = fixes_of(track, hours)
    history = History.of(fixes, resolution=RESOLUTION, max_gap_hours=gap)
    rows = rows_of(fixes.iloc[[at]], [cell_of(place) for place in choices], history)
    return DEFINITIONS[name].make(rows).tolist()


def world(seed: int, n_individuals: int = 4, n_fixes: int = 60, n_cells: int = 7) -> tuple[pd.DataFrame, np.ndarray]:
    """Fixes in a few neighboring cells, with stays, ties in time, gaps and shuffled order; and the cells' centers."""
    rng = np.random.default_rng(seed)
    center = cell_at(np.array([179.9]), np.array([-16.5]), RESOLUTION)
    cells = neighbor_table(center, 90.0).cell[:n_cells]
    parts = []
    for k in range(n_individuals):
        walk = np.repeat(rng.integers(0, n_cells, n_fixes), rng.integers(1, 4, n_fixes))[:n_fixes]
        hours = np.cumsum(rng.choice([0, 1, 1, 1, 5, 60], n_fixes))
        longitude, latitude = centroids(cells[walk])
        parts.append(
            pd.DataFrame(
                {
                    "individual": f"animal {k}",
                    "time_utc": pd.Timestamp("2020-01-01") + pd.to_timedelta(hours, unit="h"),
                    "longitude": longitude + rng.normal(0, 0.01, n_fixes),
                    "latitude": latitude + rng.normal(0, 0.01, n_fixes),
                }
            )
        )
    return pd.concat(parts).sample(frac=1.0, random_state=seed).reset_index(drop=True), cells


def looped(fixes: pd.DataFrame, rows: Rows, max_gap_hours: float) -> pd.DataFrame:
    """The same features, row by row and fix by fix, from the words of the definitions."""
    found = []
    for row in range(len(rows.cell)):
        made = rows.decisions.iloc[rows.decision[row]]
        own = fixes[(fixes["individual"] == made["individual"]) & (fixes["time_utc"] < made["time_utc"])]
        own = own.sort_values(["time_utc", "longitude", "latitude"])
        cells = cell_at(own["longitude"].to_numpy(), own["latitude"].to_numpy(), RESOLUTION).tolist()
        hours = ((made["time_utc"] - own["time_utc"]) / pd.Timedelta("1h")).tolist()  # before the decision
        first = hours[0] if hours else 0.0
        if cells and cells[-1] == made["origin"] == rows.cell[row] and hours[-1] <= max_gap_hours:
            while cells:  # the present visit
                cells, last = cells[:-1], hours[-1]
                hours = hours[:-1]
                if not cells or cells[-1] != made["origin"] or hours[-1] - last > max_gap_hours:
                    break
        here = [k for k, cell in enumerate(cells) if cell == rows.cell[row]]
        n_visits = sum(k == 0 or cells[k - 1] != cells[k] or hours[k - 1] - hours[k] > max_gap_hours for k in here)
        since = hours[here[-1]] if here else None
        found.append(
            {
                "visited_before": float(bool(here)),
                "n_visits": n_visits,
                "n_visits_per_day": n_visits / max(1.0, first / 24),
                "hours_since_visit": first if since is None else since,
                "visit_recency": 0.0 if since is None else 1 / (1 + since / 24),
                "hours_since_first": first,
            }
        )
    return pd.DataFrame(found)


def test_visits_are_runs_of_fixes_in_a_cell_before_the_decision() -> None:
    # days 0 to 6, decision on day 6 in d: a on 0 and 1, b on 2, a on 3, c on 4 and 5
    assert table("aabaccd", "abcd", "n_visits") == [2, 1, 1, 0]
    assert table("aabaccd", "abcd", "visited_before") == [1, 1, 1, 0]
    assert table("aabaccd", "abcd", "hours_since_visit") == [72, 96, 24, 144]  # never in d: since day 0
    assert table("aabaccd", "abcd", "visit_recency") == pytest.approx([1 / 4, 1 / 5, 1 / 2, 0])
    assert table("aabaccd", "abcd", "n_visits_per_day") == pytest.approx([2 / 6, 1 / 6, 1 / 6, 0])
    assert table("aabaccd", "abcd", "hours_since_first") == [144] * 4


def test_the_present_fix_is_no_memory_so_a_new_origin_was_not_visited_before() -> None:
    assert table("ab", "ab", "visited_before") == [1, 0]


def test_the_present_visit_does_not_count_for_the_origin() -> None:
    # the animal came to b a day ago and has stayed: it was not there before that
    assert table("abb", "ab", "visited_before") == [1, 0]
    assert table("abb", "ab", "hours_since_visit") == [48, 48]
    # it had been there on day 0
    assert table("babb", "ab", "n_visits") == [1, 1]
    assert table("babb", "ab", "hours_since_visit") == [48, 72]


def test_in_its_first_fix_an_animal_has_no_past_and_all_choices_are_alike() -> None:
    for name in DEFINITIONS:
        assert table("ab", "ab", name, at=0) == [0, 0]


def test_a_gap_ends_a_visit_only_where_that_is_asked_for() -> None:
    hours = [0.0, 1, 100, 101, 102]  # a a, 99 hours, a, b, and the decision in b
    assert table("aaabb", "ab", "n_visits", hours=hours) == [1, 0]
    assert table("aaabb", "ab", "n_visits", hours=hours, gap=24) == [2, 0]
    # the decision itself comes after a gap: the earlier fix in its origin is a visit that has ended
    assert table("aa", "a", "n_visits", hours=[0, 100]) == [0]
    assert table("aa", "a", "n_visits", hours=[0, 100], gap=24) == [1]
    # and a gap within what would be the present visit
    assert table("aaa", "a", "n_visits", hours=[0, 100, 101], gap=24) == [1]
    assert table("aaa", "a", "hours_since_visit", hours=[0, 100, 101], gap=24) == [101]


def test_fixes_at_the_time_of_the_decision_are_not_before_it() -> None:
    # two tags: at the hour of the decision one says c, the other d
    assert table("abcd", "abcd", "visited_before", hours=[0, 1, 2, 2]) == [1, 1, 0, 0]
    assert table("abcda", "bcd", "visited_before", hours=[0, 1, 2, 2, 3]) == [1, 1, 1]


@pytest.mark.parametrize("gap", [np.inf, 3.0])
@pytest.mark.parametrize("seed", [0, 1])
def test_all_features_are_those_of_a_loop_over_every_fix(seed: int, gap: float) -> None:
    fixes, cells = world(seed)
    rng = np.random.default_rng(seed)
    at_fixes = fixes.sample(25, random_state=seed)
    between = at_fixes.assign(time_utc=at_fixes["time_utc"] + pd.to_timedelta(rng.integers(-40, 40, 25), unit="min"))
    history = History.of(fixes, resolution=RESOLUTION, max_gap_hours=gap)
    # and a cell in which nobody ever was
    rows = rows_of(pd.concat([at_fixes, between]), [*cells.tolist(), cell_of("a")], history)
    expected = looped(fixes, rows, gap)
    for name, definition in DEFINITIONS.items():
        np.testing.assert_allclose(definition.make(rows), expected[name], rtol=1e-12, err_msg=name)
    assert expected["n_visits"].max() > 3


def test_the_order_of_fixes_and_of_individuals_does_not_matter() -> None:
    fixes, cells = world(3)
    rows = rows_of(fixes.head(20), cells.tolist(), History.of(fixes, resolution=RESOLUTION))
    other = replace(rows, history=History.of(fixes.iloc[::-1], resolution=RESOLUTION))
    for definition in MEMORY:
        assert (definition.make(rows) == definition.make(other)).all()
    assert all((p == q).all() for p, q in zip(past_center(rows), past_center(other), strict=True))


def test_what_an_individual_remembers_does_not_depend_on_who_else_is_there() -> None:
    fixes, cells = world(4)
    own = fixes[fixes["individual"] == "animal 2"]
    together = rows_of(own, cells.tolist(), History.of(fixes, resolution=RESOLUTION))
    alone = replace(together, history=History.of(own, resolution=RESOLUTION))
    for definition in MEMORY:
        assert (definition.make(together) == definition.make(alone)).all()
    # to the last bit: a build in parts must write the same file
    assert all((p == q).all() for p, q in zip(past_center(together), past_center(alone), strict=True))


def test_a_slice_of_the_rows_has_the_values_of_the_whole() -> None:
    fixes, cells = world(5)
    rows = rows_of(fixes.head(30), cells.tolist(), History.of(fixes, resolution=RESOLUTION))
    keep = slice(3, 100, 2)
    part = replace(
        rows, **{name: getattr(rows, name)[keep] for name in ("decision", "distance_km", "bearing_rad", "stay", "cell")}
    )
    for definition in MEMORY:
        assert (definition.make(part) == definition.make(rows)[keep]).all()


def test_two_tags_of_an_individual_are_one_past() -> None:
    tags = pd.concat([fixes_of("aab", [0, 2, 4]), fixes_of("cc", [1, 3])])
    rows = rows_of(fixes_of("d", [5]), [cell_of(p) for p in "abcd"], History.of(tags, resolution=RESOLUTION))
    assert DEFINITIONS["n_visits"].make(rows).tolist() == [2, 1, 2, 0]  # a c a c b: the tags alternate


def test_first_position_is_the_first_fix_of_the_past_or_the_present_one() -> None:
    fixes = fixes_of("bacd")
    longitude, latitude = first_position(rows_of(fixes, [cell_of("a")], History.of(fixes, resolution=RESOLUTION)))
    assert longitude.tolist() == [5, 5, 5, 5]
    assert latitude.tolist() == [0, 0, 0, 0]
    # a decision before every fix of the history must not know where the animal will begin
    early = fixes_of("c", [-24])
    assert [x.tolist() for x in first_position(rows_of(early, [1], History.of(fixes, resolution=RESOLUTION)))] == [
        [0.0],
        [5.0],
    ]


def test_center_of_the_past_is_the_middle_of_its_fixes_and_the_present_one() -> None:
    fixes = fixes_of("abcd")  # the corners of a square of 5 degrees
    longitude, latitude = past_center(rows_of(fixes, [cell_of("a")], History.of(fixes, resolution=RESOLUTION)))
    assert longitude == pytest.approx([0, 2.5, 5 / 3, 2.5], abs=0.005)
    assert latitude == pytest.approx([0, 0, 5 / 3, 2.5], abs=0.005)


def test_center_across_the_date_line_lies_on_it_and_not_in_greenwich() -> None:
    fixes = fixes_of("ab").assign(longitude=[179.0, -179.0])
    rows = rows_of(fixes, [cell_of("a")], History.of(fixes, resolution=RESOLUTION))
    longitude, latitude = past_center(rows)
    assert longitude.tolist() == pytest.approx([179.0, -180.0])
    assert latitude == pytest.approx([0.0, 0.0])
    assert first_position(rows)[0].tolist() == [179.0, 179.0]


def test_longitudes_from_0_to_360_are_the_same_places() -> None:
    fixes = fixes_of("ab").assign(longitude=[179.0, 181.0])
    history = History.of(fixes, resolution=RESOLUTION)
    assert history.longitude.tolist() == [179.0, -179.0]
    assert history.cell.tolist() == cell_at(np.array([179.0, -179.0]), np.zeros(2), RESOLUTION).tolist()


def test_center_around_a_pole_is_the_pole() -> None:
    fixes = fixes_of("aaaa").assign(longitude=[0.0, 90.0, 180.0, -90.0], latitude=80.0)
    _, latitude = past_center(rows_of(fixes.tail(1), [1], History.of(fixes, resolution=RESOLUTION)))
    assert latitude == pytest.approx([90.0])


def test_without_a_center_the_present_position_stands_for_it() -> None:
    fixes = fixes_of("ab").assign(longitude=[0.0, 180.0])  # opposite sides of the earth
    longitude, latitude = past_center(rows_of(fixes.tail(1), [1], History.of(fixes, resolution=RESOLUTION)))
    assert (abs(longitude[0]), latitude[0]) == (180.0, 0.0)


def test_without_positions_the_present_is_the_center_of_the_origin() -> None:
    fixes = fixes_of("b")
    rows = rows_of(fixes, [1], History.of(fixes, resolution=RESOLUTION))
    bare = replace(rows, decisions=rows.decisions.drop(columns=["longitude", "latitude"]))
    center = centroids(np.array([cell_of("b")]))
    assert first_position(bare)[0] == center[0]
    assert past_center(bare)[1] == pytest.approx(center[1])


def test_sources_of_memory_say_that_they_need_the_history() -> None:
    assert all(definition.needs_history and definition.formula for definition in MEMORY)
    assert {name for name, d in DEFINITIONS.items() if d.role == "decision"} == {"hours_since_first"}


def test_individuals_without_fixes_are_named() -> None:
    history = History.of(fixes_of("ab"), resolution=RESOLUTION)
    strangers = pd.concat([fixes_of("a", individual="y"), fixes_of("a", individual="z"), fixes_of("a")])
    with pytest.raises(ValueError, match=r"2 individuals have decisions but no fixes in the history \(y, z\)"):
        DEFINITIONS["n_visits"].make(rows_of(strangers, [cell_of("a")], history))


def test_rows_without_a_history_are_refused() -> None:
    with pytest.raises(ValueError, match="need the fixes of the animals, and there are none"):
        DEFINITIONS["n_visits"].make(rows_of(fixes_of("a"), [cell_of("a")], None))


def test_history_of_another_resolution_is_refused() -> None:
    rows = rows_of(fixes_of("a"), [cell_of("a")], History.of(fixes_of("a"), resolution=5))
    with pytest.raises(ValueError, match="cells of resolution 4, the history was built with resolution 5"):
        DEFINITIONS["n_visits"].make(rows)


def test_fixes_with_gaps_and_bad_options_are_refused() -> None:
    with pytest.raises(ValueError, match="expected the columns time_utc, longitude"):
        History.of(pd.DataFrame({"individual": ["x"], "latitude": [0.0]}), resolution=4)
    with pytest.raises(ValueError, match=r"1 have a gap \(individuals x\)"):
        History.of(fixes_of("ab").assign(longitude=[0.0, np.nan]), resolution=4)
    with pytest.raises(ValueError, match="max_gap_hours must be above 0; got 0"):
        History.of(fixes_of("ab"), resolution=4, max_gap_hours=0)


def test_history_without_any_fix_knows_no_one() -> None:
    history = History.of(fixes_of(""), resolution=RESOLUTION)
    assert history.n_fixes == 0
    with pytest.raises(ValueError, match="no fixes in the history"):
        history.positions_of(["x"])
