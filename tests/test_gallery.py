"""The gallery shows every figure of mimic, and its pictures are there."""

from __future__ import annotations

import ast
import re
from pathlib import Path


def test_every_public_figure_is_in_the_gallery(root: Path) -> None:
    page = (root / "docs" / "gallery.md").read_text()
    for module in sorted((root / "mimic").glob("*.py")):
        tree = ast.parse(module.read_text())
        for function in (n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name.startswith("draw_")):
            if function.name != "draw_ground":  # what lies under maps
                assert f"`{module.stem}.{function.name}`" in page, f"{module.stem}.{function.name}"


def test_every_picture_of_the_gallery_is_there_and_none_is_left_over(root: Path) -> None:
    page = (root / "docs" / "gallery.md").read_text()
    shown = set(re.findall(r"\(gallery/([\w.]+)\)", page))
    assert shown == {path.name for path in (root / "docs" / "gallery").glob("*")}
    assert len(shown) >= 25
