"""The command `mimic features`: what features there are, and which an experiment defines, as a table or as JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mimic.answers import answer

__all__ = ["features_command"]


def features_command(
    experiment: Annotated[
        Path | None, typer.Argument(help="An experiment, a YAML file; its own features are listed too.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object on standard output, nothing else.")
    ] = False,
) -> None:
    """List the features that models can take, with role, unit and formula."""
    from dataclasses import asdict

    from mimic.configuration import load_configuration
    from mimic.feature_listing import format_listing, list_features

    listed = list_features(None if experiment is None else load_configuration(experiment))
    answer({"features": [asdict(feature) for feature in listed]}, as_json, lambda: format_listing(listed))
