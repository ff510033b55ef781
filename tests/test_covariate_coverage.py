"""The coverage report: hand-made losses, agreement with what is built, pictures and files of a small study."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from conftest import Study

from mimic import coverage
from mimic.choices import Source, build_choices
from mimic.configuration import load_configuration
from mimic.coverage import ALL, NONE, Coverage, assess_coverage
from mimic.coverage_cli import coverage_command
from mimic.coverage_tables import coverage_tables, format_coverage, lost_by, percent, write_tables
from mimic.features import FeatureSpec
from mimic.hexgrid import cell_at, disks
from mimic.preparation import read_decisions, sources_and_features

mpl.use("Agg")

CENTER = cell_at(np.array([20.0]), np.array([10.0]), 4)
NEAR = np.setdiff1d(disks(CENTER, 1)[0], CENTER)
FAR = np.setdiff1d(disks(CENTER, 3)[0], disks(CENTER, 2)[0])[0]
REACH = 50.0  # the center and the six cells around it

# Who selects what from the center. Over NEAR[0] there is neither a nor b, over NEAR[1] no b, NEAR[2] is outside the
# domain, and in February a is known in NEAR[3] alone.
SELECTED = {"kept": 3, "no a": 0, "no b": 1, "outside": 2, "beyond": None, "lone": 3}


@pytest.fixture
def decisions() -> pd.DataFrame:
    n = len(SELECTED)
    return pd.DataFrame(
        {
            "individual": ["x", "x", "x", "y", "y", "y"],
            "decision": [0, 1, 2, 0, 1, 2],
            "time_utc": pd.to_datetime(["2020-01-05"] * (n - 1) + ["2020-02-05"]).to_numpy().astype("datetime64[ns]"),
            "origin": np.repeat(CENTER, n),
            "destination": [FAR if k is None else NEAR[k] for k in SELECTED.values()],
            "sea": ["north", "north", "south", "south", "south", "south"],
        }
    )


def a_at(cells: np.ndarray, times: np.ndarray) -> np.ndarray:
    is_february = times >= np.datetime64("2020-02-01")
    return np.where((cells == NEAR[0]) | (is_february & (cells != NEAR[3])), np.nan, 1.0)


SOURCES = [
    Source("a", a_at),
    Source("b", lambda cells, times: np.where(np.isin(cells, NEAR[:2]), np.nan, 2.0)),
    Source("depth", lambda cells, times: np.where(cells == NEAR[2], 1.0, -1.0)),
]
RULES: dict[str, Any] = {"max_distance_km": REACH, "sources": SOURCES, "domain": "depth < 0"}


def first_reasons(found: Coverage) -> list[str]:
    reasons = ["", *found.reasons]
    return [reasons[k] for k in found.decisions["first_reason"]]


# ---------------------------------------------------------------- by hand


def test_each_selection_is_lost_for_the_reason_it_was_made_for(decisions: pd.DataFrame) -> None:
    found = assess_coverage(decisions, **RULES)
    assert first_reasons(found) == [
        "",
        "selected cell: no a",
        "selected cell: no b",
        "selected cell: outside the domain (depth < 0)",
        "selected cell beyond max_distance_km (50 km)",
        "no choice or only one left",
    ]
    losses = found.losses().set_index("reason")
    assert losses["n_first"].tolist() == [1, 1, 1, 0, 1, 1]
    # the second has neither a nor b: both reasons would do
    assert losses["n_any"].tolist() == [1, 1, 2, 0, 1, 1]
    assert found.n_lost == losses["n_first"].sum() == 5


def test_shares_of_choices_selected_and_origins_by_hand(decisions: pd.DataFrame) -> None:
    shares = assess_coverage(decisions, **RULES).shares().set_index("covariate")
    assert shares["n_choices"].tolist() == [42, 42, 42]
    # a: 6 of 7 in five decisions of January, 1 of 7 in that of February; b: 5 of 7
    assert shares["share_choices"].tolist() == pytest.approx([31 / 42, 5 / 7, 1.0])
    assert shares["n_selected"].tolist() == [5, 5, 5]
    assert shares["share_selected"].tolist() == pytest.approx([4 / 5, 3 / 5, 1.0])
    assert shares["share_origins"].tolist() == pytest.approx([5 / 6, 1.0, 1.0])


def test_shares_by_month_and_region_say_where(decisions: pd.DataFrame) -> None:
    found = assess_coverage(decisions, **RULES, region="sea")
    months = found.shares(["month"]).set_index(["covariate", "month"])["share_choices"]
    assert months[("a", "2020-01")] == pytest.approx(6 / 7)
    assert months[("a", "2020-02")] == pytest.approx(1 / 7)
    both = found.shares(["month", "region"])
    assert both[["month", "region"]].drop_duplicates().to_numpy().tolist() == [
        ["2020-01", "north"],
        ["2020-01", "south"],
        ["2020-02", "south"],
    ]
    assert both.groupby("covariate")["n_choices"].sum().tolist() == [42, 42, 42]


def test_costs_say_what_each_covariate_alone_and_all_but_each_leave(decisions: pd.DataFrame) -> None:
    costs = assess_coverage(decisions, **RULES).costs().set_index("scenario")["n_left"].to_dict()
    assert costs == {
        NONE: 5,
        "a": 3,
        "b": 3,
        "depth": 5,
        "domain": 4,
        ALL: 1,
        "all but a": 2,
        "all but b": 2,
        "all but depth": 1,
    }


def test_losses_by_group_add_up_to_the_whole(decisions: pd.DataFrame) -> None:
    found = assess_coverage(decisions, **RULES, region="sea")
    whole = found.losses().set_index("reason")[["n_first", "n_any"]]
    for by in ("month", "region", "individual"):
        parts = found.losses([by]).groupby("reason")[["n_first", "n_any"]].sum()
        pd.testing.assert_frame_equal(parts.loc[whole.index], whole, check_names=False)
        assert lost_by(found, by)["n_lost"].sum() == 5
    assert lost_by(found, "individual")["n_lost"].tolist() == [2, 3]


def test_a_feature_of_the_origin_makes_its_absence_a_loss(decisions: pd.DataFrame) -> None:
    change = FeatureSpec("change", source="a", minus_origin=True)
    found = assess_coverage(decisions, **RULES, features=[change])
    assert first_reasons(found)[-1] == "origin cell: no a"
    last = found.losses().iloc[-1]
    assert last["reason"] == "no choice or only one left"
    assert (last["n_first"], last["n_any"]) == (0, 1)


def test_what_is_filled_in_loses_nothing_but_shows(decisions: pd.DataFrame) -> None:
    filled = [Source("a", a_at, missing=0.0), *SOURCES[1:]]
    found = assess_coverage(decisions, **{**RULES, "sources": filled})
    assert found.filled == ("a",)
    assert found.shares()["share_choices"][0] == pytest.approx(31 / 42)
    assert not found.losses().set_index("reason").loc["selected cell: no a", ["n_first", "n_any"]].any()
    assert found.costs().set_index("scenario")["n_left"][ALL] == 2  # the kept one and the lone one


def test_unknown_selections_are_counted_without_any_being_lost(decisions: pd.DataFrame) -> None:
    found = assess_coverage(decisions.drop(columns="destination"), **RULES)
    assert found.reasons == ("no choice or only one left",)
    assert found.n_lost == 1
    assert np.isnan(found.shares()["share_selected"]).all()


# ---------------------------------------------------------------- agreement with what is built


@pytest.mark.parametrize("features", [[], [FeatureSpec("change", source="a", minus_origin=True)]])
def test_totals_are_those_of_the_ledger_of_the_build(decisions: pd.DataFrame, features: list[FeatureSpec]) -> None:
    found = assess_coverage(decisions, **RULES, features=features)
    agree(found, *build_choices(decisions, **RULES, features=features))


def agree(found: Coverage, choice_sets: Any, ledger: Any) -> None:
    lines = ledger.to_frame().query("unit == 'decision' and action == 'dropped' and stage == 'choices'")
    mine = found.losses().pipe(lambda t: t[t["n_first"] > 0])
    assert dict(zip(mine["reason"], mine["n_first"], strict=True)) == dict(
        zip(lines["reason"], lines["n"], strict=True)
    )
    kept = found.decisions["first_reason"] == 0
    assert choice_sets.n_decisions == kept.sum() == found.left[ALL].sum()
    assert (found.left[ALL] == kept).all()
    assert choice_sets.n_rows == found.decisions.loc[kept, "n_usable"].sum()
    assert ledger.n_dropped("choice") + choice_sets.n_rows == found.decisions["n_choices"].sum()


def test_small_study_agrees_with_its_build(study: Study) -> None:
    study.edit("domain: elevation < 0", "domain: elevation < -450")
    configuration = load_configuration(study.experiment)
    rows, _, _, _ = read_decisions(configuration)
    sources, features = sources_and_features(configuration)
    rules: dict[str, Any] = {
        "max_distance_km": 60,
        "sources": sources,
        "features": features,
        "domain": "elevation < -450",
    }
    found = assess_coverage(rows, **rules)
    assert 0 < found.n_lost < len(rows)
    agree(found, *build_choices(rows, **rules))


def test_real_studies_agree_with_their_builds(shared: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIMIC_SHARED", str(shared))
    configuration = load_configuration(root / "experiments" / "bluefin.yaml")
    assert configuration.choices is not None
    rows, _, _, _ = read_decisions(configuration)
    sources, features = sources_and_features(configuration)
    rules: dict[str, Any] = {
        "max_distance_km": configuration.choices.max_distance_km,
        "sources": sources,
        "features": features,
        "domain": configuration.choices.domain,
    }
    found = assess_coverage(rows, **rules)
    agree(found, *build_choices(rows, **rules))
    assert found.shares()["share_choices"].min() > 0.9999


def test_blocks_change_nothing(decisions: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = coverage_tables(assess_coverage(decisions, **RULES))
    monkeypatch.setattr(coverage, "BLOCK_DECISIONS", 2)
    for name, table in coverage_tables(assess_coverage(decisions, **RULES)).items():
        pd.testing.assert_frame_equal(table, whole[name])


# ---------------------------------------------------------------- regions, text, files


def test_regions_are_as_fine_as_a_number_of_them_allows(decisions: pd.DataFrame) -> None:
    found = assess_coverage(decisions, **RULES)
    assert found.decisions["region"].unique().tolist() == CENTER.tolist()  # one origin: its own cell
    coarse = assess_coverage(decisions, **RULES, region=0)
    assert coarse.decisions["region"].nunique() == 1
    assert coarse.decisions["region"][0] != CENTER[0]


def test_report_names_what_is_lost_and_where(decisions: pd.DataFrame) -> None:
    text = format_coverage(assess_coverage(decisions, **RULES, region="sea"))
    assert "6 decisions, 42 choices within reach, of which 21 (50.0 %) have all covariates" in text
    assert re.search(r"^in all +5 of 6$", text, re.MULTILINE)
    assert "2020-02  14.3 %" in text
    assert text.count("most lost by") == 3


def test_percent_says_all_only_of_all() -> None:
    assert [percent(x) for x in (1.0, 0.9999999, 0.0, 1e-7, np.nan)] == ["100 %", ">99.9 %", "0 %", "<0.1 %", "-"]


def test_tables_are_written_whole_and_the_same_twice(decisions: pd.DataFrame, tmp_path: Path) -> None:
    tables = coverage_tables(assess_coverage(decisions, **RULES))
    paths = write_tables(tables, tmp_path / "out")
    before = [p.read_bytes() for p in paths]
    write_tables(tables, tmp_path / "out")
    assert [p.read_bytes() for p in paths] == before
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == sorted(f"{name}.csv" for name in tables)
    regions = pd.read_csv(tmp_path / "out" / "shares_by_region.csv")
    assert regions["region"].tolist() == [int(CENTER[0])] * 3
    assert {"longitude", "latitude"} <= set(regions)


# ---------------------------------------------------------------- pictures


def test_heat_map_draws_the_shares_and_crosses_where_selections_are_lost(decisions: pd.DataFrame) -> None:
    from mimic.coverage_figures import draw_shares

    table = assess_coverage(decisions, **RULES).shares(["month"])
    ax = draw_shares(table)
    np.testing.assert_allclose(
        np.asarray(ax.collections[0].get_array()).reshape(3, 2), [[6 / 7, 1 / 7], [5 / 7, 5 / 7], [1.0, 1.0]]
    )
    crosses = next(c for c in ax.collections if c.get_label() == "selections lost").get_offsets()
    assert np.asarray(crosses).tolist() == [[0, 0], [0, 1]]
    assert [t.get_text() for t in ax.get_yticklabels()] == ["a", "b", "depth"]
    plt.close("all")


@pytest.mark.parametrize("region", [3, "sea"])
def test_report_is_drawn_with_maps_of_cells_and_without(decisions: pd.DataFrame, region: int | str) -> None:
    from mimic.coverage_figures import draw_report

    found = assess_coverage(decisions, **RULES, region=region)
    figure = draw_report(found.shares(["month"]), found.shares(["region"]), lost_by(found, "region"), title="small")
    titles = [ax.get_title(loc="left") + ax.get_title() for ax in figure.axes]
    assert any("small" in t for t in titles)
    assert sum("that can be built" in t for t in titles) == (region == 3)
    plt.close(figure)


# ---------------------------------------------------------------- the command


def test_command_prints_and_writes_a_report(study: Study, capsys: pytest.CaptureFixture[str]) -> None:
    out = study.folder / "report"
    coverage_command(study.experiment, out, None, False)
    text = capsys.readouterr().out
    assert "rows read; before decisions" in text
    assert "decisions left with" in text
    assert (out / "coverage.png").stat().st_size > 10_000
    assert len(list(out.glob("*.csv"))) == 9
    assert not list(out.glob(".*"))


def test_command_answers_in_json(study: Study, capsys: pytest.CaptureFixture[str]) -> None:
    coverage_command(study.experiment, None, "1", True)
    result = json.loads(capsys.readouterr().out)
    assert result["n_decisions"] == 6 * 24
    assert {row["covariate"] for row in result["shares"]} == {"elevation", "sst"}
    assert "written" not in result


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"region": "ocean"}, "ocean"),
        ({"region": 9}, "between 0 and that of the cells; got 9"),
        ({"sources": []}, "needs decisions and covariates; got 6 decisions, 0 covariates"),
        ({"domain": "dept < 0"}, "dept"),
    ],
)
def test_faults_are_explained(decisions: pd.DataFrame, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        assess_coverage(decisions, **{**RULES, **options})


def test_command_refuses_what_is_no_region_or_no_folder_before_it_reads(study: Study) -> None:
    with pytest.raises(ValueError, match=r"--region expects an H3 resolution .* 0 to 4, or a column .* got 99"):
        coverage_command(study.experiment, None, "99", False)
    with pytest.raises(ValueError, match="a region is an H3 resolution or a column of the decisions"):
        coverage_command(study.experiment, None, "\N{SUPERSCRIPT TWO}", False)
    with pytest.raises(ValueError, match=r"--out expects a folder; .*small.yaml is a file"):
        coverage_command(study.experiment, study.experiment, None, False)
