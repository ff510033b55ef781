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
import yaml

from mimic.cli import app
from mimic.configuration import Configuration


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


def test_the_covariates_and_features_that_the_readme_shows_are_an_experiment(root: Path) -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", (root / "README.md").read_text(), flags=re.DOTALL)
    shown = next(yaml.safe_load(block) for block in blocks if "covariates:" in block)
    grids = {name: {"file": "field.nc"} for name in ("elevation", "uo", "vo")}
    features = ["sex", "stay_at_night", "log_depth", "sst_front", "shore_km", "home_cos", "current_along"]
    rest = {
        "name": "readme",
        "tracks": {"file": "t.csv", "resample": {"step": "24h"}, "keep": ["sex", "home_lon", "home_lat"]},
        "choices": {"resolution": 4, "max_distance_km": 100},
        "models": {"all": {"features": features}},
    }
    configuration = Configuration.model_validate({**rest, **shown, "covariates": {**grids, **shown["covariates"]}})
    assert {"sex_female", "sex_male", "sex_unknown"} <= set(configuration.models["all"].features)


def test_links_and_pictures_of_the_readme_exist(root: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+)\)", (root / "README.md").read_text())
    assert targets
    assert [t for t in targets if not (root / t).exists()] == []
