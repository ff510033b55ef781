"""What the README shows does run."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

from mimic.cli import app


def test_python_example_of_the_readme_prints_groups_and_ledger(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (root / "README.md").read_text(), flags=re.DOTALL)
    assert len(blocks) == 1
    monkeypatch.chdir(root)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(blocks[0], "README.md", "exec"), {})
    text = printed.getvalue()
    assert re.search(r"distance +validation +move +june", text)
    assert "12 fixes dropped: repeated time, same position" in text


def test_every_command_line_of_the_readme_is_understood(root: Path) -> None:
    block = re.search(r"```sh\n(mimic .*?)```", (root / "README.md").read_text(), flags=re.DOTALL)
    assert block is not None
    for line in block[1].splitlines():
        words = shlex.split(line, comments=True)[1:]
        command: Any = typer.main.get_command(app)
        while hasattr(command, "commands"):
            command = command.commands[words.pop(0)]
        command.make_context(line, words)  # parses, and calls nothing


def test_links_and_pictures_of_the_readme_exist(root: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+)\)", (root / "README.md").read_text())
    assert targets
    assert [t for t in targets if not (root / t).exists()] == []
