"""Collections: what is recorded of a subject comes back, and what is missing, altered or stale is named."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mimic.collection import FIGURE, NUMBER, Problem, check_collection, collect, find_collection, read_table
from mimic.figures import new_figure
from mimic.paper_items import PaperFigure, PaperTable, Subject
from mimic.registry import Registry, RunRecord


def numbers(gmp: float = 0.25) -> pd.DataFrame:
    rows = [("gmp", gmp, f"{100 * gmp:.0f} %"), ("unknown", np.nan, "-")]
    return pd.DataFrame(rows, columns=["name", "value", "text"]).astype({"name": "str", "text": "str"})


def draw_line() -> Any:
    figure = new_figure(8.0, 4.0)
    figure.subplots().plot([0, 1], [1, 0])
    return figure


def subject(**changes: Any) -> Subject:
    table = pd.DataFrame({"model": ["a", "b"], "gmp": [0.25, np.nan]})
    shown = pd.DataFrame({"model": ["a", "b"], "GMP": ["25 %", "-"]})
    whole: dict[str, Any] = {
        "name": "fish",
        "run_ids": ["r1"],
        "sources": {"chain": "one", "evaluation": "two"},
        "facts": {"title": "fish"},
        "numbers": numbers,
        "tables": [lambda: PaperTable("groups", "Groups", table, shown, ("evaluation",)), lambda: None],
        "figures": [
            lambda: PaperFigure("chain", "The chain", ("chain",), {"": table}, draw_line, 8.0),
            lambda: [PaperFigure("months", "Months", ("evaluation",), {"": table}, draw_line, 17.0)],
            lambda: None,
        ],
    }
    return Subject(**(whole | changes))


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    opened = Registry(tmp_path / "registry")
    opened.record_run(RunRecord(id="r1", experiment="fish", model="a", configuration={"units": [8]}))
    return opened


def names(problems: list[Problem]) -> list[tuple[str, str]]:
    return [(problem.name, problem.kind) for problem in problems]


def test_a_subject_that_was_never_collected_says_so(registry: Registry) -> None:
    (problem,) = check_collection(subject(), registry)
    assert (problem.name, problem.reason) == ("fish", "has never been collected from these runs")


def test_what_was_collected_is_there_and_fresh(registry: Registry) -> None:
    collection = collect(subject(), registry)
    assert [item["name"] for item in collection.items(FIGURE)] == [
        *("chain.pdf", "chain.svg", "chain.png"),
        *("months.pdf", "months.svg", "months.png"),
    ]
    found = find_collection(subject(), registry)
    assert found is not None
    pd.testing.assert_frame_equal(found.manifest, collection.manifest)
    (item,) = found.items(NUMBER)
    assert read_table(item, registry)["text"].tolist() == ["25 %", "-"]
    assert check_collection(subject(), registry) == []


def test_figures_know_their_subject_runs_and_caption(registry: Registry) -> None:
    collect(subject(), registry)
    figures = registry.figures()
    assert set(figures["name"]) >= {"fish/chain.pdf", "fish/months.png"}
    first = figures[figures["name"] == "fish/chain.pdf"].iloc[0]
    assert (first["caption"], first["runs"], first["annotations"]["width_cm"]) == ("The chain", ["r1"], 8.0)


def test_collecting_twice_gives_the_same_records(registry: Registry) -> None:
    first, second = collect(subject(), registry), collect(subject(), registry)
    pd.testing.assert_frame_equal(first.manifest, second.manifest)
    assert len(registry.figures()) == 6


def test_figures_that_were_replaced_lose_their_records(registry: Registry) -> None:
    collect(subject(), registry)
    collect(subject(figures=[]), registry)
    assert registry.figures().empty


def test_items_whose_source_changed_are_stale_and_others_are_not(registry: Registry) -> None:
    collect(subject(), registry)
    changed = subject(sources={"chain": "another", "evaluation": "two"})
    problems = check_collection(changed, registry)
    assert names(problems) == [
        ("fish/figure chain", "data"),
        *((f"fish/chain.{form}", "figure") for form in ("pdf", "svg", "png")),
    ]
    assert problems[1].reason == "is stale: chain changed after it was made"


def test_a_number_that_its_sources_no_longer_give_is_named_with_both_values(registry: Registry) -> None:
    collect(subject(), registry)
    (problem,) = check_collection(subject(numbers=lambda: numbers(0.26)), registry)
    assert (problem.name, problem.kind) == ("fish/gmp", "number")
    assert problem.reason == "is stale or altered: 25 % is recorded, its sources give 26 %"


def test_a_number_altered_in_the_registry_is_named(registry: Registry) -> None:
    (item,) = collect(subject(), registry).items(NUMBER)
    registry.record_evaluation(read_key(item), numbers(0.99), ["r1"], replace=True)
    assert names(check_collection(subject(), registry)) == [("fish/gmp", "number")]


def read_key(item: dict[str, Any]) -> dict[str, Any]:
    import json

    key: dict[str, Any] = json.loads(item["key"])
    return key


def test_a_table_altered_or_deleted_in_the_registry_is_named(registry: Registry, tmp_path: Path) -> None:
    collection = collect(subject(), registry)
    item = next(item for item in collection.items("table") if item["name"] == "groups")
    registry.record_evaluation(read_key(item), pd.DataFrame({"model": ["c"]}), ["r1"], replace=True)
    (altered,) = check_collection(subject(), registry)
    assert (altered.name, altered.reason) == ("fish/groups", "was altered in the registry after it was made")
    with sqlite3.connect(tmp_path / "registry" / "registry.sqlite") as connection:
        connection.execute("DELETE FROM evaluations WHERE key LIKE '%\"groups\"%'")
    (missing,) = check_collection(subject(), registry)
    assert (missing.name, missing.reason) == ("fish/groups", "is missing: it is no more in the registry")


def test_bytes_of_a_table_that_are_damaged_are_named(registry: Registry, tmp_path: Path) -> None:
    collect(subject(), registry)
    with sqlite3.connect(tmp_path / "registry" / "registry.sqlite") as connection:
        connection.execute("UPDATE evaluations SET parquet = x'00' WHERE key LIKE '%\"groups\"%'")
    (problem,) = check_collection(subject(), registry)
    assert (problem.name, problem.reason) == ("fish/groups", "is damaged in the registry")


def test_a_deleted_figure_is_named_whether_its_record_or_its_file_is_gone(registry: Registry) -> None:
    collection = collect(subject(), registry)
    chain, months = (next(i for i in collection.items(FIGURE) if i["name"] == f"{n}.pdf") for n in ("chain", "months"))
    registry.delete_figures([chain["key"]])
    (record,) = check_collection(subject(), registry)
    assert (record.name, record.reason) == ("fish/chain.pdf", "is missing: it is no more in the registry")
    registry.file(months["content"]).unlink()
    problems = check_collection(subject(), registry)
    # both figures draw the same line: one file
    assert {problem.reason for problem in problems[1:]} == {"is missing: its file is no more in the store"}
    assert ("fish/months.pdf", "figure") in names(problems)


def test_a_figure_whose_file_was_overwritten_is_named(registry: Registry) -> None:
    item = next(i for i in collect(subject(), registry).items(FIGURE) if i["name"] == "months.svg")
    registry.file(item["content"]).write_text("<svg/>")
    assert ("fish/months.svg", "figure") in names(check_collection(subject(), registry))


def test_another_training_is_another_collection(registry: Registry) -> None:
    collect(subject(), registry)
    assert find_collection(replace(subject(), run_ids=["r2"]), registry) is None


def test_a_subject_with_a_run_that_is_not_recorded_is_refused(registry: Registry) -> None:
    with pytest.raises(ValueError, match="unknown run r9; record them first"):
        collect(subject(run_ids=["r9"]), registry)
