"""The commands that recompute figures of a finished run: `mimic evaluate` and `mimic compare`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mimic.answers import answer

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

__all__ = ["chosen_models", "compare_command", "evaluate_command", "named_groups"]

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output, nothing else.")]
ChoicesOption = Annotated[list[str] | None, typer.Option(help='Choice group, "NAME=EXPRESSION"; may be repeated.')]
BehaviorsOption = Annotated[list[str] | None, typer.Option(help='Behavior group, "NAME=EXPRESSION"; may be repeated.')]
MethodOption = Annotated[str, typer.Option(help="Of the intervals: expanded, percentile or bca.")]
LevelOption = Annotated[float, typer.Option(help="Of the intervals.")]
ResamplesOption = Annotated[int, typer.Option(min=1, help="How often individuals are drawn anew.")]
SeedOption = Annotated[int, typer.Option(min=0, help="Seed of these draws.")]

_BLOCK = ("split", "choice_group", "weighting")  # told above the rows that share them: a line has 160 characters
_TOO_WIDE = ("mean_probability",)  # JSON has it


def evaluate_command(
    run: Annotated[Path, typer.Argument(help="The folder of a run.")],
    choices: ChoicesOption = None,
    behaviors: BehaviorsOption = None,
    models: Annotated[list[str] | None, typer.Option(help="Only these models; may be repeated.")] = None,
    method: MethodOption = "expanded",
    level: LevelOption = 0.95,
    resamples: ResamplesOption = 2000,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Recompute GMP for any choice groups and behavior groups of a finished run; by default the run's own."""
    from mimic.evaluation import evaluate, format_groups
    from mimic.runs import load_groups, load_run

    choice_sets, log_odds = load_run(run)
    known = load_groups(run)
    table = evaluate(
        chosen_models(run, log_odds, models),
        choice_sets,
        choice_groups=named_groups(choices, known.choices),
        behavior_groups=named_groups(behaviors, known.behaviors),
        method=method,  # type: ignore[arg-type]
        level=level,
        n_resamples=resamples,
        seed=seed,
    )
    answer(
        {"run": str(run), "evaluation": table.to_dict(orient="records")},
        as_json,
        lambda: _blocks(table, format_groups, _TOO_WIDE),
    )


def compare_command(
    run: Annotated[Path, typer.Argument(help="The folder of a run.")],
    model: Annotated[str | None, typer.Argument(help="A model; by default each with the one before it.")] = None,
    other: Annotated[str | None, typer.Argument(help="The model that it is compared with.")] = None,
    choices: ChoicesOption = None,
    behaviors: BehaviorsOption = None,
    method: MethodOption = "expanded",
    level: LevelOption = 0.95,
    resamples: ResamplesOption = 2000,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Compare two models of a finished run on the same decisions, with intervals over individuals."""
    from mimic.comparison import compare, format_comparison
    from mimic.runs import load_groups, load_run

    if (model is None) != (other is None):
        raise ValueError("give two models, such as: mimic compare RUN environment distance; or none for all in order.")
    choice_sets, log_odds = load_run(run)
    known = load_groups(run)
    if model is not None and other is not None:
        chosen_models(run, log_odds, [model, other])
    table = compare(
        log_odds,
        choice_sets,
        None if model is None or other is None else [(model, other)],
        choice_groups=named_groups(choices, known.choices),
        behavior_groups=named_groups(behaviors, known.behaviors),
        method=method,  # type: ignore[arg-type]
        level=level,
        n_resamples=resamples,
        seed=seed,
    )
    answer(
        {"run": str(run), "comparison": table.to_dict(orient="records")},
        as_json,
        lambda: _blocks(table, format_comparison),
    )


def _blocks(table: pd.DataFrame, form: Callable[..., str], leave_out: Sequence[str] = ()) -> str:
    """The rows of each split, choice group and weighting under a title of their own."""
    parts = [
        ", ".join(f"{name} {value}" for name, value in zip(_BLOCK, values, strict=True))
        + "\n"
        + form(part, leave_out=[*_BLOCK, *leave_out])
        for values, part in table.groupby(list(_BLOCK), sort=False)
    ]
    return "\n\n".join(parts)


def chosen_models(run: Path, log_odds: Mapping[str, np.ndarray], models: Sequence[str] | None) -> dict[str, np.ndarray]:
    """The log-odds of the models asked for, or of all. Raises ValueError that names those that the run lacks."""
    unknown = [m for m in models or [] if m not in log_odds]
    if unknown:
        raise ValueError(f"{run} has no model {', '.join(unknown)}; it has {', '.join(log_odds)}.")
    return {m: log_odds[m] for m in models or log_odds}


def named_groups(texts: list[str] | None, known: dict[str, str]) -> dict[str, str]:
    """ "NAME=EXPRESSION", "EXPRESSION" or the name of a group of the run into name -> expression; by default its groups."""
    if not texts:
        return known
    named: dict[str, str] = {}
    for text in texts:
        match = re.fullmatch(r"\s*([A-Za-z_]\w*)\s*=(?!=)\s*(.+)", text, flags=re.DOTALL)
        name, expression = (match[1], match[2]) if match else (text.strip(), text.strip())
        if match and re.fullmatch(r"[-+.\d\s]+|(['\"]).*\1", expression.strip()):
            raise ValueError(
                f"{text!r} names a group {name}; to compare a column, write {name} == {expression.strip()}."
            )
        if name in named:
            raise ValueError(f"the group {name} is given twice; give each group its own name.")
        named[name] = known.get(expression, expression)
    return named
