"""Ordered bins as choices: the bin of a day, how deep bins reach, what is known of them, and tables by bin."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from mimic.bin_decisions import BIN_VALUE, PREVIOUS_VALUE, Bins, make_bin_decisions
from mimic.bin_fields import BinField, Limit, read_levels
from mimic.bin_shares import bin_table, format_bins
from mimic.bins import build_bins
from mimic.choices import Source
from mimic.configuration import load_configuration
from mimic.covariates import Covariate
from mimic.features import FeatureSpec
from mimic.groups import choice_mask
from mimic.hexgrid import cell_at, disks
from mimic.schema import ChoiceSets

BINS = Bins((0.0, 10.0, 50.0, 100.0, 200.0), "m")


def tracks_of(depths: list[float], bursts: list[int] | None = None) -> pd.DataFrame:
    n = len(depths)
    return pd.DataFrame(
        {
            "individual": pd.Series(["a"] * n, dtype="str"),
            "time_utc": pd.date_range("2020-03-01", periods=n).astype("datetime64[ns]"),
            "longitude": -60.0 + 0.01 * np.arange(n),
            "latitude": 40.0,
            "burst": np.zeros(n, dtype=np.int64) if bursts is None else np.array(bursts),
            "depth": depths,
            "length_cm": 200.0,
        }
    )


def decisions_of(depths: list[float], **options: str) -> pd.DataFrame:
    return make_bin_decisions(tracks_of(depths), value="depth", resolution=4, **options)[0]  # type: ignore[arg-type]


def constant(name: str, value: float, missing: str | float = "drop") -> Source:
    return Source(name, lambda cells, times: np.full(len(cells), value), "m", missing)  # type: ignore[arg-type]


def floor_at(depth: float, rings: int = 0) -> Limit:
    return Limit(constant("elevation", -depth), -1.0, rings)


# ---------------------------------------------------------------- bins and decisions


def test_bin_holds_its_lower_edge_and_the_last_one_both() -> None:
    assert BINS.of(np.array([0.0, 9.9, 10.0, 200.0, 200.1, -1.0, np.nan])).tolist() == [0, 0, 1, 3, -1, -1, -1]


@pytest.mark.parametrize("edges", [(0.0, 10.0), (0.0, 10.0, 10.0), (0.0, 5.0, np.inf)])
def test_edges_that_are_none_are_refused(edges: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="three or more ascending, finite numbers"):
        Bins(edges)


def test_own_value_is_that_of_the_day_that_begins_and_the_previous_one_that_of_the_day_before() -> None:
    decisions = decisions_of([5.0, 60.0, 20.0])
    assert decisions[BIN_VALUE].tolist() == [5.0, 60.0, 20.0]
    np.testing.assert_array_equal(decisions[PREVIOUS_VALUE], [np.nan, 5.0, 60.0])


def test_next_value_is_that_of_the_row_after_and_the_own_is_then_known() -> None:
    decisions = decisions_of([5.0, 60.0, 20.0], value_of="next")
    assert decisions[BIN_VALUE].tolist() == [60.0, 20.0]
    assert decisions[PREVIOUS_VALUE].tolist() == [5.0, 60.0]


def test_previous_value_does_not_cross_a_burst_nor_an_animal() -> None:
    tracks = tracks_of([5.0, 60.0, 20.0, 30.0], [0, 0, 1, 1])
    tracks["individual"] = pd.Series(["a", "a", "a", "b"], dtype="str")
    decisions, _ = make_bin_decisions(tracks, value="depth", resolution=4)
    np.testing.assert_array_equal(decisions[PREVIOUS_VALUE], [np.nan, 5.0, np.nan, np.nan])
    assert decisions["decision"].tolist() == [0, 1, 2, 0]


def test_answer_is_in_no_column_that_has_its_name() -> None:
    assert "depth" not in decisions_of([5.0, 60.0])


def test_fixes_balance_with_reasons() -> None:
    tracks = tracks_of([5.0, np.nan, 20.0, 30.0])
    decisions, ledger = make_bin_decisions(tracks, value="depth", value_of="next", resolution=4)
    assert {e.reason: e.n for e in ledger.entries} == {"no next fix one step later": 1, "no depth": 1}
    ledger.check(4, len(decisions), "fix")


# ---------------------------------------------------------------- choice sets


def test_floor_decides_how_many_bins_there_are_and_cuts_the_last() -> None:
    cs, _ = build_bins(decisions_of([5.0, 60.0]), bins=BINS, limit=floor_at(80.0))
    assert cs.n_choices.tolist() == [3, 3]  # 0-10, 10-50 and 50-100, which the floor at 80 m cuts
    assert cs.features["is_bottom"].tolist() == [0, 0, 1] * 2
    assert cs.selected.tolist() == [0, 5]
    assert cs.features["bin_mid_m"][:3].tolist() == [5, 30, 75]
    assert cs.decisions["bin_limit_m"].tolist() == [80, 80]


def test_bin_that_begins_at_the_floor_is_no_choice() -> None:
    cs, _ = build_bins(decisions_of([5.0]), bins=BINS, limit=floor_at(50.0))
    assert cs.choice.tolist() == [0, 1]
    assert cs.features["is_bottom"].tolist() == [0, 1]


def test_bin_that_ends_at_the_floor_is_the_bottom_whatever_its_width_is_rounded_to() -> None:
    assert 0.2 + (0.9 - 0.2) < 0.9
    cs, _ = build_bins(decisions_of([0.1]), bins=Bins((0.0, 0.2, 0.9, 2.0), "m"), limit=floor_at(0.9))
    assert cs.choice.tolist() == [0, 1]
    assert cs.features["is_bottom"].tolist() == [0, 1]


def test_previous_bin_is_compared_and_where_unknown_all_choices_are_alike() -> None:
    cs, _ = build_bins(decisions_of([60.0, 20.0]), bins=BINS)
    known, same, change, distance = (
        cs.features[n].reshape(2, 4) for n in ("previous_bin_known", "same_bin", "bin_change", "bin_distance")
    )
    assert known[:, 0].tolist() == [0, 1]
    assert [values[0].any() for values in (same, change, distance)] == [False] * 3
    assert same[1].tolist() == [0, 0, 1, 0]  # 60 m was bin 2
    assert change[1].tolist() == [-2, -1, 0, 1]
    assert distance[1].tolist() == [2, 1, 0, 1]
    assert cs.info["previous_bin_known"].role == "decision"
    assert cs.info["same_bin"].role == "pair"


def test_every_drop_has_its_reason_and_both_accounts_balance() -> None:
    decisions = decisions_of([5.0, 150.0, 900.0, 20.0])
    cs, ledger = build_bins(decisions, bins=BINS, limit=floor_at(80.0))
    reasons = {e.reason: e.n for e in ledger.entries if e.unit == "decision"}
    assert reasons == {"value outside the edges (0 to 200)": 1, "selected bin beyond the limit (elevation)": 1}
    assert cs.n_decisions + ledger.n_dropped("decision") == 4
    assert cs.n_rows + ledger.n_dropped("choice") == 4 * 3
    with pytest.raises(ValueError, match="2 of 4 decisions have no usable choice set"):
        build_bins(decisions, bins=BINS, limit=floor_at(80.0), outside="error")


def test_land_and_a_floor_above_the_second_bin_leave_nothing_to_choose() -> None:
    decisions = decisions_of([5.0, 6.0])
    _, ledger = build_bins(decisions, bins=BINS, limit=floor_at(-3.0))
    assert ledger.entries[0].reason == "origin cell: no elevation that leaves room for a bin"
    _, ledger = build_bins(decisions, bins=BINS, limit=floor_at(8.0))
    assert ledger.entries[0].reason == "no choice or only one left"


def test_rings_take_the_deepest_water_around() -> None:
    origin = cell_at(np.array([-60.0]), np.array([40.0]), 4)
    neighbor = int(np.setdiff1d(disks(origin, 1)[0], origin)[0])
    source = Source("elevation", lambda cells, times: np.where(cells == neighbor, -300.0, -40.0))
    times = np.array(["2020-03-01"], dtype="datetime64[ns]")
    assert [float(Limit(source, -1.0, k).at(origin, times)[0]) for k in (0, 1)] == [40, 300]


def test_unknown_selection_is_minus_one() -> None:
    cs, _ = build_bins(decisions_of([5.0, 20.0]).assign(bin_value=np.nan), bins=BINS)
    assert cs.selected.tolist() == [-1, -1]
    assert cs.n_rows == 8


def test_declared_features_are_of_the_bin_the_time_or_the_animal_and_never_of_cells() -> None:
    decisions = decisions_of([5.0, 20.0])
    specs = [FeatureSpec("season_sin"), FeatureSpec("length_cm"), FeatureSpec("deep", "bin_mid_m", clip=(None, 50.0))]
    cs, _ = build_bins(decisions, bins=BINS, sources=[constant("sst", 12.0)], features=[*specs, FeatureSpec("sst")])
    assert {name: cs.info[name].role for name in ("season_sin", "length_cm", "deep", "sst")} == {
        "season_sin": "decision",
        "length_cm": "decision",
        "deep": "choice",
        "sst": "decision",
    }
    assert cs.features["deep"][:4].tolist() == [5, 30, 50, 50]
    with pytest.raises(ValueError, match="distance_km is a feature of cells"):
        build_bins(decisions, bins=BINS, features=[FeatureSpec("distance_km")])
    with pytest.raises(ValueError, match="tells the answer"):
        build_bins(decisions, bins=BINS, features=[FeatureSpec("cheat", BIN_VALUE)])


def test_the_future_changes_no_feature() -> None:
    one, other = (build_bins(decisions_of([60.0, 20.0, last]), bins=BINS)[0] for last in (5.0, 150.0))
    for name, values in one.features.items():
        np.testing.assert_array_equal(values, other.features[name], err_msg=name)
    assert one.selected.tolist() != other.selected.tolist()


# ---------------------------------------------------------------- fields with an axis


@pytest.fixture
def temperature(tmp_path: Path) -> Covariate:
    """20 degrees at the surface, a tenth less each meter, in three levels; nothing at 100 m in March."""
    level, month = np.array([0.0, 20.0, 100.0]), np.arange(1, 13)
    longitude, latitude = np.arange(-64.0, -55.0), np.arange(36.0, 45.0)
    values = 20 - 0.1 * level[None, :, None, None] + np.zeros((12, 1, 9, 9))
    values[2, 2] = np.nan
    xr.Dataset(
        {"t": (("month", "depth", "latitude", "longitude"), values)},
        coords={"month": month, "depth": level, "latitude": latitude, "longitude": longitude},
    ).to_netcdf(tmp_path / "t.nc", engine="h5netcdf")
    return Covariate("temperature", tmp_path / "t.nc", unit="degC")


def field_of(covariate: Covariate, missing: str | float = "drop") -> BinField:
    return BinField(covariate, "depth", read_levels(covariate, "depth"), missing)  # type: ignore[arg-type]


def test_field_is_interpolated_at_the_middle_of_each_bin(temperature: Covariate) -> None:
    decisions = decisions_of([5.0]).assign(time_utc=pd.Timestamp("2020-06-01"))
    cs, ledger = build_bins(decisions, bins=BINS, fields=[field_of(temperature)])
    assert cs.features["temperature"].round(3).tolist() == [19.5, 17.0, 12.5]  # at 5, 30 and 75 m
    assert cs.features["temperature_minus_first"].round(3).tolist() == [-0.5, -3.0, -7.5]
    assert cs.info["temperature"].unit == "degC"
    # 150 m is beyond the last level: no value, and nothing is extrapolated
    assert [(e.reason, e.n) for e in ledger.entries] == [("no temperature at the bin", 1)]


def test_missing_value_is_taken_from_the_bin_above_dropped_filled_or_an_error(temperature: Covariate) -> None:
    decisions = decisions_of([5.0])  # March: the second level is the last with values
    above, ledger = build_bins(decisions, bins=BINS, fields=[field_of(temperature, "above")])
    assert above.features["temperature"].round(3).tolist() == [19.5, 19.5, 19.5, 19.5]
    assert ledger.entries[0].reason == "no temperature at the bin: taken from above"
    assert ledger.entries[0].n == 3
    filled, _ = build_bins(decisions, bins=BINS, fields=[field_of(temperature, 4.0)])
    assert filled.features["temperature"].round(3).tolist() == [19.5, 4, 4, 4]
    _, ledger = build_bins(decisions, bins=BINS, fields=[field_of(temperature)])
    assert "no choice or only one left" in [e.reason for e in ledger.entries]
    with pytest.raises(ValueError, match="temperature has no value for 3 of 4 bins"):
        build_bins(decisions, bins=BINS, fields=[field_of(temperature, "error")])


def test_axis_that_the_file_lacks_is_named(temperature: Covariate) -> None:
    with pytest.raises(ValueError, match=r"t\.nc has no dimension z; it has month, depth"):
        read_levels(temperature, "z")


# ---------------------------------------------------------------- tables by bin


def test_shares_of_bins_add_up_to_one_and_equal_those_of_a_hand() -> None:
    decisions = pd.DataFrame({"individual": ["a", "a", "b"], "decision": [0, 1, 0]})
    # of a two bins, p = .25 and .75, the second selected twice; of b four, all alike, the last selected
    cs = ChoiceSets(decisions, [0, 2, 4, 8], [0, 1, 0, 1, 0, 1, 2, 3], [1, 3, 7], {"bin_mid_m": np.arange(8.0)})
    log_odds = {"m": np.log([1.0, 3.0, 1.0, 3.0, 1.0, 1.0, 1.0, 1.0])}
    table = bin_table(log_odds, cs, BINS)
    own = table[table["weighting"] == "individual"]
    assert own["observed"].tolist() == [0, 0.5, 0, 0.5]
    np.testing.assert_allclose(own["predicted"], [(0.25 + 0.25) / 2, (0.75 + 0.25) / 2, 0.125, 0.125])
    assert own["n_decisions"].tolist() == [0, 2, 0, 1]
    assert own["n_offered"].tolist() == [3, 3, 1, 1]
    np.testing.assert_allclose(own["gmp"], [np.nan, 0.75, np.nan, 0.25])
    np.testing.assert_allclose(own["lift"], [np.nan, 1.5, np.nan, 1.0])
    sums = table.groupby("weighting")[["observed", "predicted"]].sum()
    np.testing.assert_allclose(sums, 1.0)
    assert "100-200 m" in format_bins(own)


def test_choices_that_are_no_bins_have_no_table_by_bin() -> None:
    cs = ChoiceSets(pd.DataFrame({"individual": ["a"], "decision": [0]}), [0, 2], [0, 9], [1])
    with pytest.raises(ValueError, match="numbers of 4 bins, 0 to 3"):
        bin_table({"m": np.zeros(2)}, cs, BINS)


def test_choice_group_of_bins_is_an_expression() -> None:
    cs, _ = build_bins(decisions_of([5.0]), bins=BINS)
    assert choice_mask(cs, "bin_mid_m <= 50").tolist() == [True, True, False, False]
    assert choice_mask(cs, "choice in (0, 3)").tolist() == [True, False, False, True]


def test_figure_draws_observed_shares_as_bars_and_models_as_markers() -> None:
    from mimic.bin_figures import draw_bins

    cs, _ = build_bins(decisions_of([5.0, 60.0]), bins=BINS)
    cs = cs.with_context(split="validation")
    table = bin_table({"none": np.zeros(cs.n_rows), "deep": cs.features["bin_mid_m"] / 50}, cs, BINS)
    ax = draw_bins(table, label="depth")
    assert [bar.get_width() for bar in ax.patches[:4]] == [50, 0, 50, 0]
    none, deep = ax.lines[:2]
    np.testing.assert_allclose(none.get_xdata(), 25)
    assert np.all(np.diff(np.asarray(deep.get_xdata(), dtype=float)) > 0)
    assert [t.get_text() for t in ax.get_yticklabels()] == list(BINS.labels)
    assert ax.get_ylim()[0] > ax.get_ylim()[1]
    with pytest.raises(ValueError, match="no row of the table is train by individual"):
        draw_bins(table, split="train")


# ---------------------------------------------------------------- the experiment

EXPERIMENT = """
name: dives
tracks: {file: tracks.csv, resample: {step: 24h}}
covariates:
  elevation: {file: elevation.nc}
bins: {value: depth, edges: [0, 10, 50], unit: m, limit: {source: elevation, multiply: -1}}
models:
  none: {features: []}
"""


def test_section_is_read_with_its_defaults(tmp_path: Path) -> None:
    (tmp_path / "dives.yaml").write_text(EXPERIMENT)
    bins = load_configuration(tmp_path / "dives.yaml").bins
    assert bins is not None
    assert bins.limit is not None
    assert (bins.value_of, bins.limit.rings, bins.bins.labels) == ("own", 1, ("0-10 m", "10-50 m"))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "bins: {",
            "choices: {resolution: 4, max_distance_km: 100}\nbins: {",
            "need the section choices .* got both",
        ),
        ("source: elevation", "source: floor", "bins.limit: unknown covariate floor; known are elevation"),
        ("[0, 10, 50]", "[0, 10, 5]", "ascending, finite"),
        ("  elevation:", "  bin_mid_m: {file: x.nc}\n  elevation:", "bins bring bin_mid_m by themselves"),
    ],
)
def test_faults_of_the_section_are_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    (tmp_path / "dives.yaml").write_text(EXPERIMENT.replace(old, new))
    with pytest.raises(ValueError, match=message):
        load_configuration(tmp_path / "dives.yaml")


def test_depth_experiment_prepares_the_real_dives(shared: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mimic.preparation import prepare

    monkeypatch.setenv("MIMIC_SHARED", str(shared))
    prepared = prepare(load_configuration(root / "experiments" / "depth.yaml"))
    cs = prepared.choice_sets
    assert prepared.n_read == 4482
    assert cs.n_decisions == 3306
    reasons = {e.reason: e.n for e in prepared.ledger.entries}
    assert reasons["no max_depth_m"] == 1158
    assert reasons["selected bin beyond the limit (elevation)"] == 15
    assert cs.n_choices.min() >= 2
    assert cs.n_choices.max() == 11


def test_column_of_text_is_no_value_of_bins() -> None:
    tracks = tracks_of([5.0, 60.0]).assign(depth=["f", "m"])
    with pytest.raises(ValueError, match=r"expected numbers in the column depth, .* none of 2 fixes has one .* 'f'"):
        make_bin_decisions(tracks, value="depth", resolution=4)


SUB_DAILY = """
name: dives
tracks:
  file: tracks.csv
  columns: {individual: animal, time: time, longitude: lon, latitude: lat}
  resample: {step: 2h, tolerance: 10min}
bins: {value: depth, edges: [0, 20, 100, 400], unit: m}
features:
  deep_at_night: {source: bin_mid_m, times: night}
split: {validation_share: 0.34, seed: 1}
models:
  depth: {kind: conditional_logit, features: [bin_mid_m]}
  night: {kind: conditional_logit, features: [bin_mid_m, deep_at_night]}
"""


def test_decisions_of_two_hours_know_day_from_night_and_recover_who_dives_when(tmp_path: Path) -> None:
    """Animals at the equator that go deep by day and shallow by night, in nine decisions of ten."""
    from mimic.conditional_logit import fit_conditional_logit
    from mimic.preparation import prepare

    rng = np.random.default_rng(0)
    times = pd.date_range("2021-03-20", periods=12 * 20, freq="2h")
    is_night = (times.hour < 6) | (times.hour >= 18)
    parts = []
    for animal in "abc":
        follows = rng.random(len(times)) < 0.9
        depth = np.where(is_night == follows, 10.0, 300.0)
        parts.append(pd.DataFrame({"animal": animal, "time": times, "lon": 0.1, "lat": 0.1, "depth": depth}))
    pd.concat(parts).to_csv(tmp_path / "tracks.csv", index=False)
    (tmp_path / "dives.yaml").write_text(SUB_DAILY)
    cs = prepare(load_configuration(tmp_path / "dives.yaml")).choice_sets
    assert cs.n_decisions == 3 * len(times)
    assert set(np.diff(np.unique(cs.decisions["time_utc"]))) == {np.timedelta64(2, "h")}
    by_day, by_night = (fit_conditional_logit(cs, names) for names in (["bin_mid_m"], ["bin_mid_m", "deep_at_night"]))
    assert by_night.coef[0] > 0 > by_night.coef[0] + by_night.coef[1]  # deep by day, shallow by night
    # a line over three bins cannot reach ln 0.9, but it must be far above the one that knows no night
    assert by_night.log_likelihood > by_day.log_likelihood + 0.2 * cs.n_decisions
