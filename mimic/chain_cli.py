"""The commands `chain` and `calibration`: tables of a finished run by stage of a movement and by probability."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mimic.answers import answer
from mimic.evaluation_cli import chosen_models, named_groups

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from mimic.schema import ChoiceSets

__all__ = ["calibration_command", "chain_command", "parse_stages"]

_RunArgument = Annotated[Path, typer.Argument(help="The folder of a run.")]
_BehaviorsOption = Annotated[
    list[str] | None,
    typer.Option(
        help='Behavior group, "NAME=EXPRESSION", or the name of one of the run; by default all; may be repeated.'
    ),
]
_ModelsOption = Annotated[list[str] | None, typer.Option(help="Only these models; may be repeated.")]
_JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output, nothing else.")]


def chain_command(
    run: _RunArgument,
    stage: Annotated[
        list[str] | None,
        typer.Option(
            help='Stage, "NAME: CLASS=EXPRESSION; CLASS=EXPRESSION"; may be repeated, in order. By default stay or '
            "move, then bands of distance."
        ),
    ] = None,
    behaviors: _BehaviorsOption = None,
    models: _ModelsOption = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the intervals.")] = 0,
    as_json: _JsonOption = False,
) -> None:
    """Where models gain over chance: ln p of stay or move, of the distance, and of the cell, adding up to the whole."""
    from mimic.chain import chain_rule, format_chain
    from mimic.chain_classes import chain_classes
    from mimic.expressions import EVERYTHING
    from mimic.runs import load_groups, load_run
    from mimic.stages import default_stages

    stages = parse_stages(stage) if stage else None
    choice_sets, log_odds = load_run(run)
    chosen = chosen_models(run, log_odds, models)
    stages = stages or default_stages(choice_sets)
    groups = named_groups(behaviors, load_groups(run).behaviors) if behaviors else {EVERYTHING: EVERYTHING}
    table = chain_rule(chosen, choice_sets, stages, behavior_groups=groups, seed=seed)
    classes = chain_classes(chosen, choice_sets, stages, behavior_groups=groups, seed=seed)
    result = {
        "run": str(run),
        "stages": stages,
        "chain": table.to_dict(orient="records"),
        "classes": classes.to_dict(orient="records"),
    }
    own = table[table["weighting"] == "individual"]
    answer(result, as_json, lambda: "\n\n".join(format_chain(part) for _, part in own.groupby("split", sort=False)))


def calibration_command(
    run: _RunArgument,
    by: Annotated[
        list[str] | None,
        typer.Option(help="Feature whose observed and predicted shares to show; may be repeated."),
    ] = None,
    wins: Annotated[
        list[str] | None,
        typer.Option(
            help="Features by whose bins contrasts are compared: observed and predicted win rates, and the ideal "
            "losses of these features; may be repeated."
        ),
    ] = None,
    choices: Annotated[
        list[str] | None,
        typer.Option(
            help='Choice group, "NAME=EXPRESSION", or the name of one of the run; by default all; may be repeated.'
        ),
    ] = None,
    behaviors: _BehaviorsOption = None,
    models: _ModelsOption = None,
    bins: Annotated[int, typer.Option(min=1, help="Bins of the probability, and of each feature.")] = 10,
    seed: Annotated[int, typer.Option(min=0, help="Of the intervals and simulations.")] = 0,
    as_json: _JsonOption = False,
) -> None:
    """Can predicted probabilities be believed: calibration error against chance, ranks, and shares by any feature."""
    from mimic.calibration import calibration_summary, format_calibration, reliability
    from mimic.expressions import EVERYTHING
    from mimic.ranks import rank_histogram, rank_table
    from mimic.runs import load_groups, load_run
    from mimic.used_habitat import feature_shares, format_shares

    choice_sets, log_odds = load_run(run)
    chosen = chosen_models(run, log_odds, models)
    known = load_groups(run)
    everything = {EVERYTHING: EVERYTHING}
    choice_groups = named_groups(choices, known.choices) if choices else everything
    behavior_groups = named_groups(behaviors, known.behaviors) if behaviors else everything

    shared: dict[str, Any] = {"choice_groups": choice_groups, "behavior_groups": behavior_groups, "seed": seed}
    found = {"calibration": calibration_summary(chosen, choice_sets, bins=bins, **shared)}
    if by:
        found["shares"] = feature_shares(chosen, choice_sets, by, bins=bins, **shared)
    if wins:
        found |= _wins(chosen, choice_sets, wins)
    if as_json:
        found["reliability"] = reliability(chosen, choice_sets, bins=bins, **shared)
        found["rank_histogram"] = rank_histogram(chosen, choice_sets, bins=bins, **shared)
        found["ranks"] = rank_table(chosen, choice_sets, **shared)
    result = {"run": str(run), **{name: table.to_dict(orient="records") for name, table in found.items()}}
    parts = [format_calibration(found["calibration"]), *([format_shares(found["shares"])] if by else [])]
    parts += _format_wins(found) if wins else []
    answer(result, as_json, lambda: "\n\n".join(parts))


def _wins(log_odds: Mapping[str, np.ndarray], cs: ChoiceSets, features: Sequence[str]) -> dict[str, pd.DataFrame]:
    """Win rates of the models whose log-odds are finite, and the ideal losses of the training decisions."""
    import numpy as np

    from mimic.ideal import ideal_table
    from mimic.schema import SPLIT, TRAIN
    from mimic.win_rates import win_rates

    finite = {name: phi for name, phi in log_odds.items() if np.isfinite(phi).all()}
    if not finite:
        raise ValueError(
            f"win rates compare log-odds, which are infinite somewhere for {', '.join(log_odds)}; choose others by --models."
        )
    learned = cs.split(TRAIN) if SPLIT in cs.decisions and (cs.decisions[SPLIT] == TRAIN).any() else cs
    return {"wins": win_rates(finite, cs, features), "ideal": ideal_table(learned, features)}


def _format_wins(found: Mapping[str, pd.DataFrame]) -> list[str]:
    from mimic.win_rates import format_win_rates

    text = found["ideal"].to_string(index=False, float_format="{:.4f}".format)
    ideal = "\n".join(line.rstrip() for line in text.splitlines())
    return [
        format_win_rates(found["wins"]),
        f"lowest losses that these features allow, training decisions, nats:\n{ideal}",
    ]


def parse_stages(texts: Sequence[str]) -> dict[str, dict[str, str]]:
    """ "NAME: CLASS=EXPRESSION; CLASS=EXPRESSION" into stage -> class -> condition on choices, in order.

    Raises
    ------
    ValueError
        If an option has another form, or a stage or a class of a stage is given twice.

    Example
    -------
    >>> parse_stages(["how far: near=distance_km <= 30; far=distance_km > 30"])
    {'how far': {'near': 'distance_km <= 30', 'far': 'distance_km > 30'}}
    """
    stages: dict[str, dict[str, str]] = {}
    for text in texts:
        name, colon, rest = (part.strip() for part in text.partition(":"))
        # a semicolon within quotes is text
        found = [part.strip() for part in re.findall(r"(?:[^;'\"]|'[^']*'|\"[^\"]*\")+", rest)]
        pairs = [re.fullmatch(r"([^=<>!]+?)\s*=(?!=)\s*(.+)", part, flags=re.DOTALL) for part in found if part]
        if not (name and colon and pairs) or None in pairs:
            raise ValueError(
                f'expected --stage "NAME: CLASS=EXPRESSION; CLASS=EXPRESSION", such as "stay or move: '
                f'stay=distance_km == 0; move=distance_km > 0"; got {text!r}.'
            )
        if name in stages:
            raise ValueError(f"the stage {name} is given twice; give each stage its own name.")
        classes = [(match[1], match[2]) for match in pairs if match]
        if len(dict(classes)) < len(classes):
            raise ValueError(f"the stage {name} has a class twice: {', '.join(label for label, _ in classes)}.")
        stages[name] = dict(classes)
    return stages
