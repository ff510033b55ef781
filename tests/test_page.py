"""The page of a run as text: what is in it, what it must not load, its size, and the command that writes it."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import shapely

pytest.importorskip("bokeh", reason="bokeh is not installed (the extra html)")

from bokeh.document import Document
from bokeh.models import ColumnDataSource
from paged import MODELS, known_tables, many_tables
from test_page_tables import _run

from mimic.coastline import graticule, view_of
from mimic.page import page_document, page_html
from mimic.page_map import _graticule_lines, decision_source, map_view, wider
from mimic.page_tables import NULL


def _facts(html: str) -> dict[str, Any]:
    """What the script of the page reads."""
    found = re.search(r'<script type="application/json" id="facts">(.*?)</script>', html, re.DOTALL)
    assert found is not None
    facts: dict[str, Any] = json.loads(found[1])
    return facts


def _source(document: Document, name: str) -> ColumnDataSource:
    found = document.get_model_by_name(name)
    assert isinstance(found, ColumnDataSource)
    return found


def test_page_loads_nothing_from_elsewhere() -> None:
    html = page_html(known_tables())
    markup = re.sub(r"(<script[^>]*>).*?</script>", r"\1", html, flags=re.DOTALL)  # bokeh's own text has tags in it
    assert re.findall(r"<[^>]*\ssrc\s*=[^>]*>", markup) == []
    assert re.findall(r"<link[^>]*>", markup) == ['<link rel="icon" href="data:,">']
    assert re.findall(r"https?://", markup) == []
    assert re.findall(r"@import|url\(\s*['\"]?https?:", html) == []


def test_page_of_fifty_thousand_decisions_is_below_15_mb() -> None:
    tables = many_tables()
    html = page_html(tables)
    assert len(html.encode()) < 15e6
    # typed arrays, and not numbers as text
    assert len(re.findall(r'"dtype":"float32"', html)) >= 6 + len(tables.models)


def test_columns_of_decisions_are_probabilities_and_doubled_ranks() -> None:
    tables = known_tables()
    data = decision_source(tables, map_view(tables.decisions)).data
    assert data["p0"].tolist() == [0.5] * 12
    assert sorted(data["p1"].tolist()) == [0.25] * 4 + [0.5] * 4 + [1.0] * 4
    assert set(data["r1"].tolist()) == {4}
    assert {name: data[name].dtype for name in ("x", "p0", "r0", "time")} == {
        "x": np.float32,
        "p0": np.float32,
        "r0": np.uint16,
        "time": np.float64,
    }
    assert data["time"][0] == pd.Timestamp("2020-05-01 12:00").timestamp() * 1000


def test_track_across_180_degrees_does_not_jump_on_the_map() -> None:
    tables = known_tables()
    data = decision_source(tables, map_view(tables.decisions)).data
    seal = data["x"][data["who"] == 0]  # of seal 1
    assert seal.tolist() == pytest.approx([176.0, 177.5, 179.0, 180.5])
    assert (data["sx"] - data["ox"]).tolist() == pytest.approx([0.2] * 12, abs=1e-4)


def test_wider_view_goes_around_the_earth_once_and_not_beyond_its_poles() -> None:
    view = wider(view_of(np.array([-170.0, 0.0, 170.0]), np.array([-50.0, 0.0, 60.0])))
    assert view.x[1] - view.x[0] == pytest.approx(360.0)
    assert (view.y[0], view.y[1]) == (-90.0, 90.0)


def test_polar_run_has_names_of_degrees_and_no_axes() -> None:
    tables = known_tables()
    north = tables.decisions.assign(latitude=80.0, selected_latitude=80.0, origin_latitude=80.0)
    fig = page_document(replace(tables, decisions=north)).get_model_by_name("map")
    assert not any(axis.visible for axis in fig.axis)
    (degrees,) = fig.select(name="degrees")
    assert any(text.endswith("°N") for text in degrees.data_source.data["text"])


def test_polar_map_draws_the_lines_that_it_names() -> None:
    # by 87 degrees north lines of the paper around are two degrees and 30 degrees apart, its names one and 10
    longitude, latitude = np.array([-8.0, 12.0, 3.0]), np.array([84.0, 85.0, 87.0])
    view = view_of(longitude, latitude)
    parallels, meridians = graticule(view)
    drawn = _graticule_lines(view, wider(view))
    for line in (*parallels.values(), *meridians.values()):
        middle = shapely.Point(line[len(line) // 2])
        assert min(shapely.LineString(other).distance(middle) for other in drawn) < 0.1  # km


def test_study_of_one_day_has_one_date() -> None:
    tables = known_tables()
    people = tables.individuals.assign(first_utc=pd.Timestamp("2020-05-01 03:00"), last_utc=pd.Timestamp("2020-05-01"))
    assert "<dt>dates</dt><dd>1 May 2020</dd>" in page_html(replace(tables, individuals=people))
    assert "<dt>dates</dt><dd>1 May 2020 to 6 May 2020</dd>" in page_html(tables)


def test_individuals_of_the_page_have_d_of_every_model_the_null_last() -> None:
    facts = _facts(page_html(known_tables()))
    assert [one["name"] for one in facts["individuals"]] == ["seal 1", "seal 2", "seal 10"]
    assert facts["models"] == list(MODELS)
    assert facts["individuals"][0]["d"] == pytest.approx([np.log(0.5), np.log(0.25), np.log(0.25)])
    assert facts["individuals"][0]["stay"] == 0.25


def test_names_from_files_are_text_and_never_html() -> None:
    html = page_html(known_tables())
    assert "A study of &lt;seals&gt;." in html
    assert "<b>ice</b>" not in html
    assert "<h1>ice &amp; seals</h1>" in html


def test_header_counts_what_is_left_out() -> None:
    html = page_html(known_tables())
    assert "3 decisions whose selection is not known are left out." in html
    assert "0123456789abcdef" in html
    thin = replace(known_tables(), n_all=120)
    assert "12 of 120 decisions are shown one by one" in page_html(thin)


def test_tables_of_groups_and_curves_are_on_the_page() -> None:
    tables = known_tables()
    document = page_document(tables)
    groups = _source(document, "groups").data
    assert groups["gmp"] == pytest.approx(tables.groups["gmp"].tolist())
    assert groups["interval"][0] == "0.7900–0.8100"
    assert _facts(page_html(tables))["curves"]["stay"][MODELS[1]]["y"] == [-1.0, 1.0]
    assert _facts(page_html(tables))["curves"]["depth"][MODELS[0]]["low"] == pytest.approx([-1.1, -0.1, 0.9])
    assert document.get_model_by_name("feature").options == ["depth", "stay"]


def test_both_models_may_be_any_of_the_run_or_the_null() -> None:
    document = page_document(known_tables())
    for name in ("model", "other"):
        assert document.get_model_by_name(name).options == [*MODELS, NULL]


def test_page_without_a_map_says_why() -> None:
    tables = known_tables(no_map="The choices of this run are bins (depth), not places: there is no map of them.")
    document = page_document(tables)
    assert document.get_model_by_name("map") is None
    assert document.get_model_by_name("people_table") is not None
    assert "The choices of this run are bins (depth)" in page_html(tables)


def test_page_of_no_decision_is_refused() -> None:
    tables = known_tables()
    with pytest.raises(ValueError, match="expected decisions to show; got none"):
        page_html(replace(tables, decisions=tables.decisions[:0]))


Mimic = Callable[..., tuple[int, str, str]]


def test_command_writes_the_page_whole_and_never_over_another(tmp_path: Path, mimic: Mimic) -> None:
    run = _run(tmp_path)
    code, out, err = mimic("report", run, "--json")
    assert (code, err) == (0, "")
    told = json.loads(out)
    page = run / "report.html"
    assert (told["out"], told["bytes"]) == (str(page), page.stat().st_size)
    assert (told["n_decisions"], told["n_individuals"], told["map"]) == (120, 6, False)
    assert list(run.glob(".*")) == []  # nothing half-written is left
    assert mimic("report", run)[0] == 2
    assert mimic("report", run, "--overwrite")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["report", "nowhere"], "is no run folder"),
        (["report", "run", "--out", "page.txt"], "ends in .html; got page.txt"),
        (["report", "run", "--out", "folder.html"], "is a folder"),
        (["report", "run", "--out", "file/page.html"], "is a file"),
    ],
)
def test_bad_input_gives_one_message(
    tmp_path: Path, mimic: Mimic, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "summary.json").write_text("{}")
    (tmp_path / "folder.html").mkdir()
    (tmp_path / "file").write_text("")
    monkeypatch.chdir(tmp_path)
    code, out, err = mimic(*arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1


def test_without_bokeh_the_command_tells_what_to_install(
    tmp_path: Path, mimic: Mimic, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "bokeh", None)  # as if it were not there
    (tmp_path / "summary.json").write_text("{}")
    code, _, err = mimic("report", tmp_path)
    assert code == 2
    assert 'pip install "mimic[html]"' in err
