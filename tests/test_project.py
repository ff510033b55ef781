"""The project around the package: files that must be there, metadata, pins, and what no file may hold."""

from __future__ import annotations

import configparser
import os
import re
import subprocess
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import mimic

REQUIRED_FILES = [
    ".ci/run",
    ".gitignore",
    ".pre-commit-config.yaml",
    "CHANGELOG.md",
    "CONVENTIONS.md",
    "LICENSE",
    "Makefile",
    "README.md",
    "constraints.txt",
    "data/README.md",
    "data/north_pacific/elevation_5min.nc",
    "data/north_pacific/ocean_climatology.nc",
    "experiments/demo.yaml",
    "mimic/__init__.py",
    "mimic/cli.py",
    "pyproject.toml",
    "setup.cfg",
    "whitepaper/README.md",
]

EXTRAS = {"dev", "html", "postgres", "raster", "scale", "whitepaper"}

# Absolute paths that exist on somebody's machine only. Written in pieces, or this file would be its own offender.
MACHINE_PATH = re.compile(r"(?<![\w.~)}>-])/(?:" + "|".join(["work", "tmp", "root", "home", "Users", "opt"]) + r")/")


def _setup(root: Path) -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(root / "setup.cfg", encoding="utf-8")
    return parser


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]


def _requirements(root: Path) -> dict[str, list[Requirement]]:
    """Requirements by extra; those of a plain install are under ""."""
    setup = _setup(root)
    groups = {"": setup["options"]["install_requires"], **setup["options.extras_require"]}
    return {extra: [Requirement(line) for line in _lines(text)] for extra, text in groups.items()}


def _pins(root: Path) -> list[Requirement]:
    return [Requirement(line) for line in _lines((root / "constraints.txt").read_text(encoding="utf-8"))]


def _text_files(root: Path) -> list[Path]:
    """Files that git tracks, or would: ignored ones are left out."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    paths = [root / name for name in done.stdout.split("\0") if name]
    return [p for p in paths if p.is_file() and b"\0" not in p.read_bytes()[:8192]]


@pytest.mark.parametrize("name", REQUIRED_FILES)
def test_file_is_there(root: Path, name: str) -> None:
    assert (root / name).is_file(), f"{name} is missing"


def test_ci_run_is_executable_bash(root: Path) -> None:
    script = root / ".ci" / "run"
    assert os.access(script, os.X_OK)
    subprocess.run(["bash", "-n", str(script)], check=True)


def test_changelog_knows_the_version(root: Path) -> None:
    text = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(rf"^## \[{re.escape(mimic.__version__)}\]", text, flags=re.MULTILINE)


def test_version_has_one_source(root: Path) -> None:
    assert _setup(root)["metadata"]["version"] == "attr: mimic.__version__"
    # A plain string is read from the syntax tree: building a wheel does not import mimic.
    text = (root / "mimic" / "__init__.py").read_text(encoding="utf-8")
    assert f'__version__ = "{mimic.__version__}"' in text
    assert str(Version(mimic.__version__)) == mimic.__version__


def test_no_file_names_a_path_of_one_machine(root: Path) -> None:
    offenders = [
        f"{path.relative_to(root)}:{number}: {line.strip()[:80]}"
        for path in _text_files(root)
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1)
        if MACHINE_PATH.search(line)
    ]
    assert offenders == []


def test_machine_path_is_found_and_a_web_address_is_not() -> None:
    assert MACHINE_PATH.search("open('" + "/tm" + "p/x')")
    assert MACHINE_PATH.search("cd " + "/wo" + "rk/main")
    assert not MACHINE_PATH.search("https://example.org/home/page")
    assert not MACHINE_PATH.search("data/work/x and ../opt/y")


def test_every_make_command_of_the_readme_is_a_target(root: Path) -> None:
    readme = (root / "README.md").read_text(encoding="utf-8")
    # Commands are those in code: in backticks, or at the start of a line of a code block.
    named = set(re.findall(r"(?:`|^\s*(?:\$ )?)make ([a-z][a-z-]*)", readme, flags=re.MULTILINE))
    makefile = (root / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z][a-z-]*):(?!=)", makefile, flags=re.MULTILINE))
    assert "demo" in named
    assert named - targets == set()


def test_every_target_without_a_file_is_phony(root: Path) -> None:
    makefile = (root / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z][a-z-]*):(?!=)", makefile, flags=re.MULTILINE))
    phony = re.search(r"^\.PHONY: (.+)$", makefile, flags=re.MULTILINE)
    assert phony is not None
    assert set(phony[1].split()) == targets


def test_extras_are_the_promised_ones_and_hold_valid_requirements(root: Path) -> None:
    requirements = _requirements(root)
    assert set(requirements) == EXTRAS | {""}
    for extra, wanted in requirements.items():
        assert wanted, f"extra {extra} is empty"
        for requirement in wanted:
            assert requirement.url is None, f"{requirement} comes from an address, not from a registry"
            assert len(requirement.specifier) > 0, f"{requirement.name} has no lower bound"


def test_every_dependency_is_pinned_within_its_bounds(root: Path) -> None:
    pins = {canonicalize_name(pin.name): next(iter(pin.specifier)).version for pin in _pins(root)}
    wanted = [requirement for group in _requirements(root).values() for requirement in group]
    assert [r.name for r in wanted if canonicalize_name(r.name) not in pins] == []
    assert [str(r) for r in wanted if not r.specifier.contains(pins[canonicalize_name(r.name)])] == []


def test_constraints_are_exact_pins_without_hashes_or_addresses(root: Path) -> None:
    text = (root / "constraints.txt").read_text(encoding="utf-8")
    assert "://" not in text
    assert "--" not in "".join(_lines(text))
    pins = _pins(root)
    assert [str(p) for p in pins if [s.operator for s in p.specifier] != ["=="]] == []
    names = [(canonicalize_name(p.name), str(p.marker)) for p in pins]
    assert len(names) == len(set(names))


def test_python_versions_agree(root: Path) -> None:
    setup = _setup(root)
    assert setup["options"]["python_requires"] == ">=3.11,<3.14"
    named = re.findall(r"Python :: (3\.\d+)$", setup["metadata"]["classifiers"], flags=re.MULTILINE)
    assert named == ["3.11", "3.12", "3.13"]


def test_entry_point_is_the_command_line(root: Path) -> None:
    assert _lines(_setup(root)["options.entry_points"]["console_scripts"]) == ["mimic = mimic.cli:main"]
