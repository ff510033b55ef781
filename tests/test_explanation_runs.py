"""A run folder into models and figures into files: the parts that the commands do not show."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from mimic.explanation_runs import drawn, pair_of, write_files

CONFIGURATION = """
name: small
table: {file: table.csv, features: [depth]}
split: {validation_share: 0.34, seed: 1}
models: {depth: {features: [depth]}}
"""


def run_folder(folder: Path, extra: str = "") -> Path:
    (folder / "table.csv").write_text("individual,decision,choice,selected,depth\n")
    (folder / "configuration.yaml").write_text(CONFIGURATION + extra)
    return folder


def test_pair_is_the_last_two_models_and_the_baseline_where_there_is_one(tmp_path: Path) -> None:
    run = run_folder(tmp_path)
    assert pair_of(run, None, None, dict.fromkeys(["a", "b", "conditional_logit", "truth"])) == ("b", "a")
    assert pair_of(run, None, None, dict.fromkeys(["b", "conditional_logit", "truth"])) == ("b", "conditional_logit")
    assert pair_of(run, "truth", None, dict.fromkeys(["a", "b", "truth"])) == ("truth", "a")
    with pytest.raises(ValueError, match="has one model"):
        pair_of(run, None, None, dict.fromkeys(["a"]))


def test_nothing_is_drawn_without_a_folder_and_nothing_written_where_files_are(tmp_path: Path) -> None:
    def never() -> Any:
        raise AssertionError("drawn")

    tables = {"t": pd.DataFrame({"x": [1]})}
    figures: dict[str, Callable[[], Any]] = {"f": never}
    assert write_files(None, tables, figures, overwrite=False) == []
    (tmp_path / "f.png").write_text("mine")
    with pytest.raises(FileExistsError, match="f.png exist in"):
        write_files(tmp_path, tables, figures, overwrite=False)
    assert [path.name for path in tmp_path.iterdir()] == ["f.png"]


def test_a_table_that_fails_leaves_no_piece_of_a_file(tmp_path: Path) -> None:
    class Broken(pd.DataFrame):
        def to_csv(self, *arguments: Any, **options: Any) -> None:  # type: ignore[override]
            Path(str(arguments[0])).write_text("half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_files(tmp_path, {"t": Broken({"x": [1]})}, {}, overwrite=False)
    assert list(tmp_path.iterdir()) == []


def test_a_figure_that_fails_leaves_no_file_and_no_folder(tmp_path: Path) -> None:
    def broken() -> None:
        raise ValueError("nothing to draw")

    with pytest.raises(ValueError, match="nothing to draw"):
        write_files(tmp_path / "new", {"t": pd.DataFrame({"x": [1]})}, {"f": broken}, overwrite=False)
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_file_name_is_written_all_the_same(tmp_path: Path) -> None:
    table = pd.DataFrame({"x": [1]})
    (path,) = write_files(tmp_path, {"response_depth/width (m)": table}, {}, overwrite=False)
    assert path == str(tmp_path / "response_depth_width_(m).csv")
    assert [file.name for file in tmp_path.iterdir()] == ["response_depth_width_(m).csv"]
    with pytest.raises(ValueError, match="two files would be a_b.csv"):
        write_files(tmp_path, {"a/b": table, "a b": table}, {}, overwrite=False)


def test_figure_is_drawn_by_the_module_that_has_it() -> None:
    from mimic.contrast_error import contrast_curve

    assert drawn("draw_contrast_curve", contrast_curve([19]))().get_ylabel() == "share of contrasts $p_c$"
    import matplotlib.pyplot as plt

    plt.close("all")
