"""Experiments into mimic's own paper: runs those whose data are here, the power study too, and sets the paper."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from mimic.configuration import load_configuration

ROOT = Path(__file__).resolve().parents[1]
RUNS = ROOT / "runs"
STUDIES = ("demo", "demo_grid", "bluefin", "ses", "kotz", "kruger")
# What the power study asks; everything else is the default of the command.
POWER = ["--individuals", "5,10,20,40,80", "--days", "30,60", "--effect", "heading", "--size", "0.05"]


def main() -> int:
    """Bring runs up to date, then build; the exit code of what failed, or 0.

    Trainings that the registry has are not repeated, so a run that is up to date costs seconds.
    """
    present = [name for name in STUDIES if has_data(ROOT / "experiments" / f"{name}.yaml")]
    for name in STUDIES:
        if name not in present:
            sys.stdout.write(f"{name}: its tracks are not here, the paper does without (see MIMIC_SHARED)\n")
    for name in present:
        code = mimic("run", f"experiments/{name}.yaml", "--out", str(RUNS / name), "--overwrite")
        if code:
            return code
    code = mimic("synthetic", "power", *POWER, "--record", str(RUNS / "registry"))
    if code:
        return code
    folders = [str(RUNS / name) for name in present]
    arguments = ["--text", "whitepaper/paper.typ", "--out", str(RUNS / "whitepaper"), "--refresh", *sys.argv[1:]]
    return mimic("whitepaper", *folders, *arguments)


def has_data(experiment: Path) -> bool:
    """Whether the tracks of an experiment are on this machine."""
    tracks = load_configuration(experiment).tracks
    return tracks is not None and tracks.file.is_file()


def mimic(*arguments: str) -> int:
    """Run the command line as a user would, with the tables it prints kept for its folders; its exit code."""
    sys.stdout.write(f"mimic {' '.join(arguments)}\n")
    sys.stdout.flush()
    shown = None if arguments[0] == "whitepaper" else subprocess.DEVNULL
    command = [sys.executable, "-m", "mimic.cli", *arguments]
    return subprocess.run(command, cwd=ROOT, check=False, stdout=shown).returncode


if __name__ == "__main__":
    sys.exit(main())
