"""The gallery shows every figure of mimic, and its pictures are there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from test_layers import DRAWING


def test_every_public_figure_is_in_the_gallery(root: Path) -> None:
    page = (root / "docs" / "gallery.md").read_text()
    drawn = [
        f"{module}.{function.name}"
        for module in sorted(DRAWING)
        for function in ast.parse((root / "mimic" / f"{module}.py").read_text()).body
        if isinstance(function, ast.FunctionDef) and function.name.startswith("draw_")
    ]
    drawn.remove("ground.draw_ground")  # what lies under maps
    assert len(drawn) >= 30
    assert [name for name in drawn if f"`{name}`" not in page] == []


def test_every_picture_of_the_gallery_is_there_and_none_is_left_over(root: Path) -> None:
    page = (root / "docs" / "gallery.md").read_text()
    shown = set(re.findall(r"\(gallery/([\w.]+)\)", page))
    assert shown == {path.name for path in (root / "docs" / "gallery").glob("*")}
    assert len(shown) >= 25
