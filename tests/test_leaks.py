"""Identity leaks: planted ones are named with their figure, harmless features are not."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from explained import rows, world

from mimic.leaks import ALL, LEAK_COLUMNS, TELLS_INDIVIDUAL, TELLS_PLACE, leak_table
from mimic.schema import ChoiceSets, FeatureInfo


def travelers(*, n_individuals: int = 12, n_days: int = 60, seed: int = 0) -> ChoiceSets:
    """Animals that go east together, 1 degree a day, from one place; with features that leak and some that do not."""
    rng = np.random.default_rng(seed)
    n = n_individuals * n_days
    who, day = np.repeat(np.arange(n_individuals), n_days), np.tile(np.arange(float(n_days)), n_individuals)
    longitude = -150 + day + rng.normal(0, 2, n)
    latitude = 40 + rng.normal(0, 3, n_individuals)[who] + rng.normal(0, 1, n)
    length = rng.normal(70, 8, n_individuals).round()[who]
    cs = rows(
        {
            "noise": rng.normal(size=2 * n),
            "sst": np.repeat(20 - 0.3 * latitude + 3 * np.sin(day / 5) + rng.normal(0, 1.5, n), 2),
            "days": np.repeat(day, 2),
            "length_cm": np.repeat(length, 2),
        },
        [2] * n,
        [f"fish {k:02d}" for k in who],
        longitude=longitude,
        latitude=latitude,
        time_utc=pd.Timestamp("2020-01-01") + pd.to_timedelta(day, "D"),
    )
    return cs.with_features({}, {"days": FeatureInfo("decision"), "length_cm": FeatureInfo("decision")})


def test_planted_leaks_are_named_and_harmless_features_are_not() -> None:
    table = leak_table(travelers())
    assert list(table) == LEAK_COLUMNS
    found = {(r["feature"], r["target"]): r["verdict"] for r in table.to_dict(orient="records") if r["verdict"]}
    assert found[("length_cm", "individual")].startswith("tells the individual (")
    assert found[("days", "place")].startswith("tells the place (R^2 0.9")  # time almost perfectly identifies place
    of_all = {("length_cm", "individual"), ("days", "place"), (ALL, "individual"), (ALL, "place")}
    assert set(found) <= of_all
    by = table.set_index(["feature", "target"])
    assert by.loc[("length_cm", "individual"), "above_chance"] > TELLS_INDIVIDUAL
    assert by.loc[("days", "place"), "above_chance"] > TELLS_PLACE
    assert by.loc[("noise", "individual"), "score"] == pytest.approx(1 / 12, abs=0.05)
    assert by.loc[("noise", "individual"), "chance"] == pytest.approx(1 / 12)
    assert by.loc[("noise", "place"), "score"] < 0.05
    assert by.loc[("days", "individual"), "ratio"] < 1.5  # all are there on the same days


def test_ratio_of_the_place_is_how_many_times_nearer_the_prediction_is() -> None:
    row = leak_table(travelers(), ["days"]).set_index("target").loc["place"]
    assert row["ratio"] == pytest.approx(1 / np.sqrt(1 - row["score"]))
    assert row["ratio"] > 2


def test_neighbors_in_time_do_not_tell_the_individual() -> None:
    # a slow random walk of each animal: its next value is near, its next month is anywhere
    cs = travelers()
    rng = np.random.default_rng(1)
    walk = np.concatenate([np.cumsum(rng.normal(size=60)) for _ in range(12)])
    table = leak_table(cs.with_features({"walk": np.repeat(walk, 2)}), ["walk"])
    assert table["above_chance"].iloc[0] < TELLS_INDIVIDUAL


def test_table_is_the_same_for_the_same_seed() -> None:
    cs = travelers(n_individuals=4, n_days=20)
    first = leak_table(cs, ["noise", "length_cm"], seed=3)
    assert first.equals(leak_table(cs, ["noise", "length_cm"], seed=3))
    assert first["feature"].tolist() == ["noise"] * 2 + ["length_cm"] * 2 + [ALL] * 2


def test_more_decisions_than_wanted_are_sampled_evenly() -> None:
    table = leak_table(travelers(n_individuals=6), ["noise"], max_decisions=120)
    assert table["n_decisions"].tolist() == [120, 120]
    assert table["n_individuals"].tolist() == [6, 6]


def test_tables_without_places_and_single_animals_say_so() -> None:
    table = leak_table(world(n_individuals=3), ["a"]).set_index("target")
    assert np.isnan(table.loc["place", "score"])
    assert table.loc["place", "note"].startswith("no places")
    assert table.loc["place", "verdict"] == ""
    one = leak_table(travelers(n_individuals=1), ["noise"])
    assert one["note"].tolist() == ["fewer than two individuals with five decisions", "fewer than two individuals"]


def test_individuals_of_few_decisions_are_left_out() -> None:
    cs = travelers(n_individuals=3, n_days=10)
    few = cs.filter(~((cs.individual_codes == 2) & (np.arange(30) > 22)))
    table = leak_table(few, ["noise"]).set_index("target")
    assert table["n_individuals"].to_dict() == {"individual": 2, "place": 3}


def test_unknown_and_infinite_features_are_refused() -> None:
    cs = travelers(n_individuals=2, n_days=6)
    with pytest.raises(ValueError, match="unknown feature z"):
        leak_table(cs, ["z"])
    with pytest.raises(ValueError, match="NaN or infinity in noise"):
        leak_table(cs.with_features({"noise": np.full(cs.n_rows, np.inf)}), ["noise"])
    with pytest.raises(ValueError, match="known selection; got none"):
        leak_table(ChoiceSets(cs.decisions, cs.offsets, cs.choice, np.full(12, -1), cs.features), ["noise"])
