"""Papers: what a text asks for by name is set; what is missing, altered or stale stops the build with its name."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mimic.collection import FIGURE, collect
from mimic.figures import new_figure
from mimic.paper import Part, _written, build_paper, check_paper, format_problems
from mimic.paper_items import PaperFigure, PaperTable, Subject
from mimic.registry import Registry, RunRecord

typst = pytest.importorskip("typst", reason="typst is not installed (the extra whitepaper)")

TEXT = """
#import "template.typ": *
#show: paper.with(title: [A small paper])
GMP is #n("fish/gmp"). #fig("fish/line") #tab("fish/groups") #if has-number("fish/none") [never]
"""


def draw_line() -> Any:
    figure = new_figure(8.0, 4.0)
    figure.subplots().plot([0, 1], [1, 0])
    return figure


def subject(**changes: Any) -> Subject:
    values = pd.DataFrame({"model": ["a_b", "c"], "gmp": [0.261, np.nan]})
    shown = pd.DataFrame({"model": ["a_b", "c"], "GMP": ["26.1 %", "\N{EN DASH}"]})
    numbers = pd.DataFrame({"name": ["gmp"], "value": [0.261], "text": ["26.1 %"]}).astype(
        {"name": "str", "text": "str"}
    )
    whole: dict[str, Any] = {
        "name": "fish",
        "run_ids": ["0123456789abcdef"],
        "sources": {"evaluation": "one"},
        "facts": {"title": "fish"},
        "numbers": lambda: numbers,
        "tables": [lambda: PaperTable("groups", "GMP by group", values, shown, ("evaluation",))],
        "figures": [lambda: PaperFigure("line", "A line", ("evaluation",), {"": values}, draw_line, 8.0)],
    }
    return Subject(**(whole | changes))


@pytest.fixture
def part(tmp_path: Path) -> Part:
    registry = Registry(tmp_path / "registry")
    registry.record_run(RunRecord(id="0123456789abcdef", experiment="fish", model="a", configuration={"units": [8]}))
    collect(subject(), registry)
    return Part(subject(), registry)


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text" / "small.typ"
    path.parent.mkdir()
    path.write_text(TEXT)
    return path


def pdf_text(path: Path) -> bytes:
    return path.read_bytes()


def test_a_paper_has_its_pdf_figures_tables_and_numbers(part: Part, text: Path, tmp_path: Path) -> None:
    out = tmp_path / "paper"
    written = build_paper([part], out, text=text)
    assert [str(path.relative_to(out)) for path in written] == [
        *("figures/fish/line.csv", "figures/fish/line.pdf", "figures/fish/line.png", "figures/fish/line.svg"),
        *("numbers.csv", "tables/fish/groups.csv", "tables/fish/groups.tex", "whitepaper.pdf"),
    ]
    assert (out / "whitepaper.pdf").read_bytes().startswith(b"%PDF")
    assert pd.read_csv(out / "numbers.csv").to_dict("records") == [
        {"name": "fish/gmp", "value": 0.261, "text": "26.1 %"}
    ]
    assert pd.read_csv(out / "tables/fish/groups.csv")["gmp"].tolist()[0] == 0.261
    latex = (out / "tables/fish/groups.tex").read_text()
    assert r"a\_b & 26.1 \% \\" in latex
    assert "Runs 01234567." in latex


def test_what_the_text_sets_is_the_text_of_the_number(part: Part, text: Path) -> None:
    with _written([part], text) as main:
        found = json.loads(typst.query(str(main), "<used>", field="value", root=str(main.parent)))
    assert found == [
        {"kind": "number", "name": "fish/gmp"},
        {"kind": "figure", "name": "fish/line"},
        {"kind": "table", "name": "fish/groups"},
    ]


def test_equal_content_gives_equal_bytes(part: Part, text: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        build_paper([part], tmp_path / name, text=text)
    for path in sorted((tmp_path / "one").rglob("*.*")):
        assert path.read_bytes() == (tmp_path / "two" / path.relative_to(tmp_path / "one")).read_bytes(), path.name


def test_a_name_that_no_collection_has_stops_the_build(part: Part, text: Path, tmp_path: Path) -> None:
    text.write_text(TEXT + '#n("fish/lift") #fig("fish/map")')
    problems = check_paper([part], text)
    assert [(p.name, p.kind) for p in problems] == [("fish/map", "text"), ("fish/lift", "text")]
    with pytest.raises(ValueError, match=r"fish/lift \(text\) is a number that small.typ asks for") as refused:
        build_paper([part], tmp_path / "paper", text=text)
    assert "fish/map (text) is a figure that small.typ asks for" in str(refused.value)
    assert "The paper was not built." in str(refused.value)
    assert not (tmp_path / "paper").exists()


def test_a_deleted_figure_stops_the_build_and_leaves_the_earlier_paper(part: Part, text: Path, tmp_path: Path) -> None:
    out = tmp_path / "paper"
    build_paper([part], out, text=text)
    before = {path: path.read_bytes() for path in out.rglob("*.*")}
    figures = part.registry.figures()
    part.registry.delete_figures(figures.loc[figures["name"] == "fish/line.pdf", "id"].tolist())
    assert [p.name for p in check_paper([part], text)] == ["fish/line.pdf"]
    with pytest.raises(ValueError, match=r"fish/line.pdf \(figure\) is missing.*\n.*Add --refresh"):
        build_paper([part], out, text=text)
    assert {path: path.read_bytes() for path in out.rglob("*.*")} == before


def test_a_stale_item_stops_the_build_with_its_name(part: Part, text: Path, tmp_path: Path) -> None:
    stale = Part(subject(sources={"evaluation": "two"}), part.registry)
    with pytest.raises(ValueError, match=r"fish/groups \(table\) is stale: evaluation changed after it was made"):
        build_paper([stale], tmp_path / "paper", text=text)


def test_a_number_that_is_infinite_is_set_as_its_text(part: Part, tmp_path: Path) -> None:
    impossible = pd.DataFrame({"name": ["gmp"], "value": [-np.inf], "text": ["\N{MINUS SIGN}\N{INFINITY}"]})
    changed = subject(numbers=lambda: impossible.astype({"name": "str", "text": "str"}))
    collect(changed, part.registry)
    text = tmp_path / "text.typ"
    text.write_text('#import "template.typ": *\n#n("fish/gmp") #assert(value("fish/gmp") == none)')
    build_paper([Part(changed, part.registry)], tmp_path / "paper", text=text)
    assert pd.read_csv(tmp_path / "paper" / "numbers.csv")["value"].tolist() == [-np.inf]


def test_a_figure_that_is_taller_than_a_page_is_set_smaller(part: Part, tmp_path: Path) -> None:
    values = pd.DataFrame({"model": ["a"]})
    tall = PaperFigure("tall", "Tall", ("evaluation",), {"": values}, lambda: new_figure(17.0, 40.0), 17.0)
    changed = subject(figures=[*subject().figures, lambda: tall])
    collect(changed, part.registry)
    text = tmp_path / "text.typ"
    text.write_text('#import "template.typ": *\n#show: paper.with(title: [x])\n#fig("fish/tall") #fig("fish/line")')
    with _written([Part(changed, part.registry)], text) as main:
        pictures = json.loads(typst.query(str(main), "image", root=str(main.parent)))
    sizes = {Path(p["source"]).stem: (p.get("width", "auto"), p.get("height", "auto")) for p in pictures}
    assert sizes["tall"] == ("auto", "0% + 637.8pt")  # 22.5 cm
    assert sizes["line"] == ("0% + 226.77pt", "auto")  # 8 cm


def test_of_two_builds_at_the_same_time_the_later_stays(
    part: Part, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "paper"
    build_paper([part], out, text=text)
    real, moves = os.replace, []

    def replace(source: Path, target: Path) -> None:
        real(source, target)
        moves.append(target)
        if len(moves) == 1:  # the earlier paper is away: another build comes in between
            shutil.copytree(target, out)

    monkeypatch.setattr("mimic.paper.os.replace", replace)
    build_paper([part], out, text=text, date="2026-11-21")
    assert moves[-1] == out
    assert len(moves) == 3
    assert {path.name for path in tmp_path.iterdir()} >= {"paper"}
    assert not list(tmp_path.glob(".paper.*"))


def test_files_of_figures_come_from_the_registry_and_are_the_recorded_bytes(
    part: Part, text: Path, tmp_path: Path
) -> None:
    build_paper([part], tmp_path / "paper", text=text)
    manifest = collect(subject(), part.registry)
    for item in manifest.items(FIGURE):
        file = tmp_path / "paper" / "figures" / "fish" / item["name"]
        assert file.read_bytes() == part.registry.file(item["content"]).read_bytes()


def test_a_text_that_typst_cannot_read_is_refused_with_its_name(part: Part, text: Path) -> None:
    text.write_text("#let x = (")
    with pytest.raises(ValueError, match="small.typ cannot be set"):
        check_paper([part], text)


def test_a_text_that_is_not_there_is_refused(part: Part, tmp_path: Path) -> None:
    with pytest.raises(
        FileNotFoundError, match=r"expected the text of a paper, a Typst file; there is none at .*no.typ"
    ):
        check_paper([part], tmp_path / "no.typ")


def test_two_subjects_of_one_name_are_refused(part: Part) -> None:
    with pytest.raises(ValueError, match="two runs are both called fish"):
        check_paper([part, part])


def test_a_folder_that_is_no_paper_is_not_replaced(part: Part, text: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "whitepaper.pdf").write_text("mine")
    with pytest.raises(FileExistsError, match="exists and is no paper of mimic"):
        build_paper([part], tmp_path / "thesis", text=text)
    assert (tmp_path / "thesis" / "whitepaper.pdf").read_text() == "mine"


def test_many_problems_are_counted() -> None:
    from mimic.collection import Problem

    text = format_problems([Problem(f"fish/{k}", "number", "is stale") for k in range(15)])
    assert text.count("\n") == 12
    assert text.endswith("and 3 more; --check names them all")


def test_captions_of_a_simulation_carry_its_record(part: Part, text: Path, tmp_path: Path) -> None:
    simulated = subject(run_ids=[], facts={"title": "power", "record": "3fa2b1c0d4e5f607"})
    collect(simulated, part.registry)
    from mimic.paper import _written

    with _written([Part(simulated, part.registry)], text) as main:
        captions = typst.query(str(main), "figure.caption", root=str(main.parent), ignore_system_fonts=True)
    assert captions.count("3fa2b1c0") == 2  # of the figure and of the table
    assert "Simulation" in captions


def test_captions_say_whose_they_are_only_among_several_studies(part: Part, text: Path) -> None:
    from mimic.paper import _written

    other = subject(name="birds", tables=[], figures=[])
    collect(other, part.registry)
    for parts, said in (([part], False), ([part, Part(other, part.registry)], True)):
        with _written(parts, text) as main:
            captions = typst.query(str(main), "figure.caption", root=str(main.parent), ignore_system_fonts=True)
        assert ('"text":"fish"' in captions.replace(" ", "")) is said
