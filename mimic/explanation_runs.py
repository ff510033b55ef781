"""A run folder into the models to explain and their classical anchor, and what was found into files."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mimic.baseline import BASELINE, fit_baseline
from mimic.conditional_logit import ConditionalLogit, fit_conditional_logit
from mimic.configuration import TRUTH, load_configuration
from mimic.contrasts import Weighting
from mimic.exemplars import choice_set_table, difference_map_table
from mimic.groups import split_masks
from mimic.points import Model
from mimic.refits import Refits, bootstrap_fits
from mimic.runs import load_run
from mimic.schema import TRAIN, ChoiceSets

__all__ = [
    "anchor_refits",
    "anchor_weighting",
    "check_folder",
    "decisions_of",
    "drawn",
    "exemplar_figures",
    "fit_anchor",
    "load_models",
    "pair_of",
    "write_files",
]


def pair_of(run: Path, model: str | None, other: str | None, log_odds: Mapping[str, Any]) -> tuple[str, str]:
    """The two models to compare: those asked for, else those of the run's difference map, else its last two.

    Raises
    ------
    ValueError
        If there is only one and not both are named.
    """
    known = load_configuration(run / "configuration.yaml").figures.difference
    # the networks as they grow, before the yardsticks: of one network the pair is with the baseline
    names = sorted((name for name in log_odds if name != TRUTH), key=lambda name: name != BASELINE)
    if known is None and len(names) < 2 and (model is None or other is None):
        raise ValueError(f"{run} has one model ({', '.join(log_odds)}); give --model and --other.")
    default = known or (names[-1], names[-2])
    return model or default[0], other or default[1]


def load_models(run: Path, names: list[str] | None, split: str | None) -> tuple[ChoiceSets, dict[str, Model]]:
    """The choice sets of a split (None for all), and models of a run by name; by default its last network.

    The baseline is fitted again, as its coefficients are soon found. Otherwise TensorFlow is started.

    Raises
    ------
    ValueError
        If a model is not there, or has only log-odds, like the truth of a synthetic world.
    """
    cs, log_odds = load_run(run)
    saved = [name for name in log_odds if (run / "models" / f"{name}.keras").is_file()]
    known = saved + [name for name in log_odds if name == BASELINE and name not in saved]
    if not known:
        raise ValueError(f"{run} has no model with features, so there is nothing to explain.")
    wanted = names or saved[-1:] or known
    for name in wanted:
        if name in log_odds and name not in known:
            why = "it has log-odds of these choices, but no model" if name == TRUTH else "it has no features"
            raise ValueError(f"{name} cannot be explained: {why}. Models of {run} are {', '.join(known)}.")
        if name not in log_odds:
            raise ValueError(f"{run} has no model {name}; it has {', '.join(known)}.")
    cs = cs if split is None else decisions_of(cs, split)
    if any(name in saved for name in wanted):
        from mimic.tensorflow_start import start_tensorflow

        start_tensorflow()
    return cs, {name: _load_model(run, name, saved) for name in wanted}


def decisions_of(cs: ChoiceSets, split: str) -> ChoiceSets:
    """The decisions of a split, or of "all". Raises ValueError for one that does not occur."""
    return cs.filter(split_masks(cs, [split])[split])


def fit_anchor(run: Path, features: Sequence[str] | None = None) -> ConditionalLogit:
    """The conditional logit of the training decisions: the run's own, or of those features that have a coefficient.

    Raises
    ------
    ValueError
        If none has one.
    """
    configuration = load_configuration(run / "configuration.yaml")
    wanted = configuration.baseline_features if features is None else features
    fit = fit_baseline(decisions_of(load_run(run)[0], TRAIN), wanted, weighting=anchor_weighting(run)).fit
    if fit is None:
        raise ValueError(f"a conditional logit has no coefficient for any of {', '.join(wanted)} in {run}.")
    return fit


def anchor_refits(run: Path, features: Sequence[str], n: int, seed: int) -> Refits:
    """The conditional logit fitted again to training individuals drawn anew."""

    weighting = anchor_weighting(run)

    def again(drawn: ChoiceSets) -> ConditionalLogit:
        return fit_conditional_logit(drawn, features, weighting=weighting)

    return bootstrap_fits(again, decisions_of(load_run(run)[0], TRAIN), n=n, seed=seed)


def anchor_weighting(run: Path) -> Weighting:
    """The weighting of the run's baseline."""
    rules = load_configuration(run / "configuration.yaml").baseline
    return "individual" if rules is None else rules.weighting


def _load_model(run: Path, name: str, saved: Sequence[str]) -> Model:
    if name not in saved:
        return fit_anchor(run)
    from mimic.model import load_model

    return load_model(run / "models" / f"{name}.keras")


def check_folder(out: Path | None) -> None:
    """Refuse a folder that files cannot be written to, before any work is done.

    Raises
    ------
    NotADirectoryError, PermissionError
    """
    if out is None:
        return
    nearest = next(path for path in (out, *out.resolve().parents) if path.exists())
    if not nearest.is_dir():
        raise NotADirectoryError(f"{out} cannot be a folder of files: {nearest} is a file; choose another --out.")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise PermissionError(f"no permission to write in {nearest}; choose another --out.")


def write_files(
    out: Path | None,
    tables: Mapping[str, pd.DataFrame],
    figures: Mapping[str, Callable[[], Any]],
    *,
    overwrite: bool,
) -> list[str]:
    """Write tables as CSV and figures, drawn when they are written, as PNG; their paths.

    What no file name should hold, such as the slash of a feature, becomes "_". Files take their names when all of
    them are written. Without a folder nothing is drawn or written.

    Raises
    ------
    FileExistsError
        If a file is there and may not be replaced; nothing is written then.
    OSError
        As `check_folder`.
    """
    if out is None:
        return []
    check_folder(out)
    paths = [out / f"{_file_name(name)}.csv" for name in tables]
    paths += [out / f"{_file_name(name)}.png" for name in figures]
    if len(set(paths)) < len(paths):
        raise ValueError(f"two files would be {max(paths, key=paths.count).name}; ask for one of them at a time.")
    there = [path.name for path in paths if path.exists()]
    if there and not overwrite:
        raise FileExistsError(f"{', '.join(there)} exist in {out}; choose another --out or add --overwrite.")
    made = not out.exists()
    out.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(prefix=".partial", dir=out) as partial:
            for name, table in tables.items():
                table.to_csv(Path(partial) / f"{_file_name(name)}.csv", index=False)
            if figures:
                from mimic.figures import save_figure

                for name, draw in figures.items():
                    save_figure(draw(), Path(partial) / f"{_file_name(name)}.png")
            for path in paths:
                os.replace(Path(partial) / path.name, path)
    finally:
        if made and not any(out.iterdir()):
            out.rmdir()
    return [str(path) for path in paths]


def exemplar_figures(
    cs: ChoiceSets,
    log_odds: Mapping[str, np.ndarray],
    model: str,
    other: str,
    choices: str,
    split: str,
    levels: pd.DataFrame,
    decisions: pd.DataFrame,
    figures: dict[str, Callable[[], Any]],
) -> str:
    """Add the maps of the first and the last level and decision to the figures; the reason where there are none."""
    both = {name: log_odds[name] for name in (other, model)}
    title = f"A = {model}, B = {other}"
    for side, row in (("best", 0), ("worst", -1)):
        one = decisions.iloc[row]
        try:
            table = choice_set_table(both, cs, one["individual"], one["decision"])
        except ValueError as error:
            return str(error)
        name = f"individual {one['individual']}, decision {one['decision']}"
        figures[f"exemplar_decision_{side}"] = drawn("draw_exemplar_decision", table, title=name)
        by, value = str(levels["by"].iloc[row]), str(levels["value"].iloc[row])
        places = difference_map_table(
            log_odds, cs, model, other, by=by, value=value, choice_group=choices, splits=[split]
        )
        figures[f"exemplar_map_{side}"] = drawn("draw_exemplar_map", places, title=f"{by} {value}: {title}")
    return ""


def _file_name(name: str) -> str:
    return re.sub(r"[^\w.,()+-]+", "_", name)


def drawn(function: str, table: pd.DataFrame, **options: Any) -> Callable[[], Any]:
    """A figure to be drawn once it is wanted: matplotlib is imported then."""

    def draw() -> Any:
        from mimic import contrast_figures, explanation_figures

        module = explanation_figures if hasattr(explanation_figures, function) else contrast_figures
        return getattr(module, function)(table, **options)

    return draw
