"""Exemplars: differences by hand, who is at which end, regions, and the tables of their maps."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from explained import linear, rows, world

from mimic.evaluation import decision_table
from mimic.exemplars import EXEMPLAR_COLUMNS, choice_set_table, difference_map_table, exemplar_decisions, exemplars
from mimic.hexgrid import centroids, neighbor_table
from mimic.schema import ChoiceSets


def spatial(n: int = 6) -> ChoiceSets:
    """Two animals in the Gulf of Alaska, each choosing among the seven cells around it; the second is selected."""
    from mimic.hexgrid import cell_at

    origin = cell_at(np.linspace(-150, -140, n), np.full(n, 55.0), 4)
    table = neighbor_table(origin, 60.0)
    at, offsets = table.rows_of(origin)
    decisions = pd.DataFrame({"individual": np.repeat(["a", "b"], n // 2), "decision": np.arange(n), "origin": origin})
    decisions["time_utc"] = pd.Timestamp("2020-01-31") + pd.to_timedelta(np.arange(n), "D")
    features = {"distance_km": table.distance_km[at]}
    return ChoiceSets(decisions, offsets, table.cell[at], offsets[:-1] + 1, features)


def test_differences_shares_and_totals_by_hand() -> None:
    cs = rows({}, [2, 2, 2, 2], ["a", "a", "a", "b"], split=["train"] * 3 + ["validation"])
    odds = [3, 1, 1, 1, 1, 3, 1, 3.0]  # the first is selected: 3/4, 1/2, 1/4, 1/4
    table = exemplars({"m": np.log(odds), "null": np.zeros(8)}, cs, "m", "null")
    a, b = table.to_dict(orient="records")
    differences = np.log([0.75, 0.5, 0.25]) - np.log(0.5)
    assert list(table) == EXEMPLAR_COLUMNS
    assert (a["split"], a["value"], a["n_decisions"], a["rank"], a["side"]) == ("train", "a", 3, 1, "harmed")
    assert a["difference"] == pytest.approx(differences.mean())
    assert a["total"] == pytest.approx(differences.sum())
    assert a["share_improved"] == pytest.approx(1 / 3)
    assert (b["split"], b["difference"]) == ("validation", pytest.approx(-np.log(2)))
    assert np.isnan(a["difference_low"])


def test_ends_are_the_most_helped_and_the_most_harmed() -> None:
    cs = world(n_individuals=20)
    phi = {"m": linear(a=1.0).log_odds(cs), "other": linear(b=1.0).log_odds(cs)}
    whole = exemplars(phi, cs, "m", "other", n=None)
    assert whole["difference"].is_monotonic_decreasing
    assert whole["rank"].tolist() == list(range(1, 21))
    ends = exemplars(phi, cs, "m", "other", n=3)
    assert ends["rank"].tolist() == [1, 2, 3, 18, 19, 20]
    assert ends["value"].tolist() == [*whole["value"].head(3), *whole["value"].tail(3)]
    turned = exemplars(phi, cs, "other", "m", n=None)
    assert turned["value"].tolist() == whole["value"].tolist()[::-1]
    assert turned["difference"].to_numpy() == pytest.approx(-whole["difference"].to_numpy()[::-1])


def test_months_and_columns_have_intervals_over_individuals() -> None:
    cs = spatial().with_context(colony=["x", "x", "y", "x", "y", None])
    phi = {"m": linear(distance_km=-0.01).log_odds(cs), "null": np.zeros(cs.n_rows)}
    month = exemplars(phi, cs, "m", "null", by="month").set_index("value")
    assert month["n_decisions"].to_dict() == {"1": 1, "2": 5}
    assert month.loc["2", "n_individuals"] == 2
    low, mean, high = month.loc["2", ["difference_low", "difference", "difference_high"]]
    assert low <= mean <= high
    assert month.loc["2", "note"] == "few individuals"
    colony = exemplars(phi, cs, "m", "null", by="colony").set_index("value")
    assert colony["n_decisions"].to_dict() == {"x": 3, "y": 2}  # a decision without a colony makes no row
    assert exemplars(phi, cs, "m", "null", by="month", min_decisions=2)["value"].tolist() == ["2"]


def test_regions_are_coarse_cells_or_the_column_of_that_name() -> None:
    cs = spatial()
    phi = {"m": linear(distance_km=-0.01).log_odds(cs), "null": np.zeros(cs.n_rows)}
    table = exemplars(phi, cs, "m", "null", by="region", n=None)
    assert table["n_decisions"].sum() == 6
    assert 1 < len(table) < 6
    assert all("°N" in value and "°W" in value for value in table["value"])
    coarsest = exemplars(phi, cs, "m", "null", by="region", region_resolution=0)
    assert len(coarsest) < len(table)
    named = exemplars(phi, cs.with_context(region=["gulf"] * 6), "m", "null", by="region")
    assert named["value"].tolist() == ["gulf"]
    with pytest.raises(ValueError, match="coarser than the choices, of resolution 4; got 4"):
        exemplars(phi, cs, "m", "null", by="region", region_resolution=4)


def test_single_decisions_have_probabilities_and_places_by_hand() -> None:
    cs = rows({"distance_km": np.array([20.0, 0.0, 20.0] * 2)}, [3, 3], ["a", "b"])
    phi = {"m": np.log([3, 1, 2, 1, 2, 2.0]), "null": np.zeros(6)}
    table = exemplar_decisions(phi, cs, "m", "null")
    assert table["individual"].tolist() == ["a", "b"]
    assert table["p_model"].tolist() == pytest.approx([3 / 6, 1 / 5])
    assert table["p_other"].tolist() == pytest.approx([1 / 3, 1 / 3])
    assert table["rank_model"].tolist() == [1, 3]
    assert table["rank_other"].tolist() == [2, 2]  # of three alike the middle
    assert table["distance_km"].tolist() == [20, 20]
    assert table["side"].tolist() == ["helped", "harmed"]
    moves = exemplar_decisions(phi, cs, "m", "null", choice_group="distance_km > 0")
    assert moves["p_model"].tolist() == pytest.approx([3 / 5, 1 / 3])
    assert moves["rank_model"].tolist() == [1, 2]
    assert moves["n_choices"].tolist() == [2, 2]


def test_map_table_of_a_column_or_region_holds_its_decisions_alone() -> None:
    cs = spatial()
    cs = cs.with_context(site=np.where(cs.individuals == "b", "north", "south"))
    phi = {"m": linear(distance_km=-0.01).log_odds(cs), "null": np.zeros(cs.n_rows)}
    whole = difference_map_table(phi, cs, "m", "null")
    north = difference_map_table(phi, cs, "m", "null", by="site", value="north")
    pd.testing.assert_frame_equal(north, whole[whole["individual"] == "b"].reset_index(drop=True))
    regions = exemplars(phi, cs, "m", "null", by="region", n=None, min_decisions=1)
    parts = [difference_map_table(phi, cs, "m", "null", by="region", value=value) for value in regions["value"]]
    assert [len(part) for part in parts] == regions["n_decisions"].tolist()
    with pytest.raises(ValueError, match="no decision of site east with a known selection"):
        difference_map_table(phi, cs, "m", "null", by="site", value="east")


def test_map_table_is_the_difference_at_origin_and_selected() -> None:
    cs = spatial()
    phi = {"m": linear(distance_km=-0.01).log_odds(cs), "null": np.zeros(cs.n_rows)}
    table = difference_map_table(phi, cs, "m", "null", individual="b")
    known = decision_table({"m": phi["m"]}, cs)
    assert table["decision"].tolist() == [3, 4, 5]
    assert table["difference"].to_numpy() == pytest.approx((known["m"] - known["null"]).to_numpy()[3:])
    longitude, latitude = centroids(cs.decisions["origin"].to_numpy()[3:])
    assert table["longitude"].to_numpy() == pytest.approx(longitude)
    assert table["latitude"].to_numpy() == pytest.approx(latitude)
    to_longitude, _ = centroids(cs.choice[cs.selected[3:]])
    assert table["longitude_selected"].to_numpy() == pytest.approx(to_longitude)


def test_choice_set_of_a_decision_has_the_probability_of_every_choice() -> None:
    cs = spatial()
    table = choice_set_table({"m": linear(distance_km=-0.01).log_odds(cs)}, cs, "b", 4)
    assert table["p m"].sum() == pytest.approx(1)
    assert table.loc[table["is_origin"], "p m"].item() == table["p m"].max()
    assert table["is_selected"].tolist() == [False, True, *[False] * (len(table) - 2)]
    with pytest.raises(ValueError, match="no decision 9 of individual b"):
        choice_set_table({"m": np.zeros(cs.n_rows)}, cs, "b", 9)


def test_tables_of_choices_have_exemplars_but_no_map() -> None:
    cs = world(n_individuals=2)
    phi = {"m": linear(a=1.0).log_odds(cs), "null": np.zeros(cs.n_rows)}
    assert len(exemplars(phi, cs, "m", "null")) == 2
    for fails in (
        lambda: difference_map_table(phi, cs, "m", "null"),
        lambda: choice_set_table(phi, cs, "fish 00", 0),
        lambda: exemplars(phi, cs, "m", "null", by="region"),
        lambda: difference_map_table(phi, cs.with_context(origin=0), "m", "null"),
    ):
        with pytest.raises(ValueError, match="there is no map"):
            fails()
    assert len(choice_set_table(phi, cs, "fish 00", 0, spatial=False)) == 5


def test_decisions_of_unknown_selection_are_left_out() -> None:
    cs = rows({}, [2, 2], ["a", "b"])
    unknown = ChoiceSets(cs.decisions, cs.offsets, cs.choice, np.array([-1, 2]))
    phi = {"m": np.log([3, 1, 3, 1.0]), "null": np.zeros(4)}
    assert exemplars(phi, unknown, "m", "null")["value"].tolist() == ["b"]
    assert exemplar_decisions(phi, unknown, "m", "null")["individual"].tolist() == ["b"]


def test_unknown_models_columns_and_numbers_are_refused() -> None:
    cs = world(n_individuals=2)
    phi = {"m": np.zeros(cs.n_rows), "null": np.zeros(cs.n_rows)}
    with pytest.raises(ValueError, match="two different models of m, null; got m and x. There is no x"):
        exemplars(phi, cs, "m", "x")
    with pytest.raises(ValueError, match="got m and m"):
        exemplars(phi, cs, "m", "m")
    with pytest.raises(ValueError, match="cannot group decisions by colony; known are region, month"):
        exemplars(phi, cs, "m", "null", by="colony")
    with pytest.raises(ValueError, match="n must be 1 or more"):
        exemplars(phi, cs, "m", "null", n=0)
    with pytest.raises(ValueError, match="n must be 1 or more"):
        exemplar_decisions(phi, cs, "m", "null", n=0)
