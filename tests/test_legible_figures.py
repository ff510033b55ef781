"""Every figure of mimic, drawn as narrow as a column and as wide as a page, can be read."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
import realistic as real
import realistic_study as study
from legibility import assert_legible
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mimic.architecture_figures import draw_architecture
from mimic.bin_figures import draw_bins
from mimic.cell_figures import draw_cells
from mimic.chain_figures import draw_stacked_chain
from mimic.contrast_error import contrast_curve
from mimic.contrast_figures import draw_contrast_curve, draw_contrast_spread
from mimic.coverage_figures import draw_report, draw_share_map, draw_shares
from mimic.evaluation_figures import draw_chain, draw_feature_shares, draw_rank_histogram, draw_reliability
from mimic.explanation_figures import (
    draw_exemplar_decision,
    draw_exemplar_map,
    draw_exemplars,
    draw_importance,
    draw_response,
    draw_surface,
)
from mimic.figures import COLUMN_CM, PAGE_CM, root_figure
from mimic.grid_figures import draw_hyperparameters, draw_random_starts
from mimic.group_figures import draw_groups
from mimic.individual_figures import (
    draw_individual_differences,
    draw_months,
    draw_stay_against_score,
    draw_stay_distribution,
)
from mimic.maps import draw_choice_set, draw_difference_map, draw_tracks
from mimic.member_figures import draw_member_curves
from mimic.pair_figures import draw_bin_pairs
from mimic.power_figures import draw_power
from mimic.training_figures import draw_training_curves

Drawing = tuple[Callable[..., Axes | Figure], tuple[Any, ...], dict[str, Any]]
TITLE = "EB2011_3001_A1: + temperature and primary production (A), conditional_logit (B)"
PACIFIC, ATLANTIC, FARM, POLE = (-178.0, 58.0), (-52.7, 47.5), (9.123, 47.12), (0.0, 88.0)


def _drawing(draw: Callable[..., Axes | Figure], *tables: Any, **options: Any) -> Drawing:
    return draw, tables, options


DRAWINGS: dict[str, Drawing] = {
    "tracks, 12 long names, split": _drawing(draw_tracks, real.many_tracks(12), split="split"),
    "tracks, 200 animals": _drawing(draw_tracks, real.many_tracks(200)),
    "tracks over 180": _drawing(draw_tracks, real.tracks([170.0, -150.0], [55.0, 72.0])),
    "tracks, polar": _drawing(draw_tracks, real.polar_tracks()),
    "tracks, high south": _drawing(draw_tracks, real.tracks([0, 70, 145], [-65, -48, -66])),
    "tracks, a farm": _drawing(draw_tracks, real.many_tracks(3, longitude=9.1, latitude=47.1, scale=1e-3)),
    "tracks, north to south": _drawing(draw_tracks, real.tracks([10.0, 11.0, 12.0], [-50.0, 0.0, 50.0])),
    "tracks, world": _drawing(draw_tracks, real.tracks(np.arange(0, 350, 10), np.full(35, -40.0))),
    "tracks by time": _drawing(draw_tracks, real.many_tracks(2), color_by="time_utc"),
    "tracks by depth": _drawing(draw_tracks, real.many_tracks(2), color_by="depth_m"),
    "differences over 180": _drawing(draw_difference_map, real.differences(*PACIFIC), title=TITLE),
    "differences, polar": _drawing(draw_difference_map, real.differences(0.0, 80.0, 5.0), title=TITLE),
    "differences, a farm": _drawing(draw_difference_map, real.differences(*FARM, 1e-3), title=TITLE),
    "exemplar map": _drawing(draw_exemplar_map, real.differences(*ATLANTIC)),
    "choice set": _drawing(draw_choice_set, **real.choice_set(*ATLANTIC)),
    "choice set over 180, linear": _drawing(draw_choice_set, **real.choice_set(-179.9, 66.0), scale="linear"),
    "choice set, pole": _drawing(draw_choice_set, **real.choice_set(*POLE)),
    "choice set, a farm": _drawing(draw_choice_set, **real.choice_set(*FARM, 9, 1.0)),
    "exemplar decision, 1 model": _drawing(draw_exemplar_decision, real.choice_set_table(*PACIFIC, ["distance"])),
    "exemplar decision, 2 models": _drawing(
        draw_exemplar_decision, real.choice_set_table(*ATLANTIC, real.MODELS[3:]), title=TITLE
    ),
    "exemplar decision, 5 models": _drawing(draw_exemplar_decision, real.choice_set_table(*PACIFIC), title="one day"),
    "exemplar decision, pole": _drawing(draw_exemplar_decision, real.choice_set_table(*POLE), title=TITLE),
    "curves": _drawing(draw_training_curves, real.history().drop(columns="fold")),
    "curves, folds": _drawing(draw_training_curves, real.history(real.MODELS[3:], folds=5), running="decision"),
    "curves, one model": _drawing(draw_training_curves, real.history(["distance"]).drop(columns=["model", "fold"])),
    "groups, 12 by 5 models": _drawing(draw_groups, real.evaluation()),
    "groups, one": _drawing(draw_groups, real.evaluation(["none"], ["all"])),
    "chain, 5 models": _drawing(draw_chain, real.chain()),
    "chain, one model": _drawing(draw_chain, real.chain(["conditional_logit"])),
    "reliability": _drawing(draw_reliability, real.reliability()),
    "reliability, small": _drawing(draw_reliability, real.reliability(highest=0.03)),
    "reliability, middling": _drawing(draw_reliability, real.reliability(highest=0.35)),
    "ranks": _drawing(draw_rank_histogram, real.ranks()),
    "feature shares": _drawing(draw_feature_shares, real.feature_shares(), unit=real.LONG_UNIT),
    "response, 5 models": _drawing(draw_response, real.response(), rug=np.linspace(0, 9000, 900)),
    "response, 3 kinds": _drawing(
        draw_response, real.response(kinds=["accumulated", "partial_dependence", "population"])
    ),
    "response, few values": _drawing(draw_response, real.response(n=5)),
    "response, log-RSS": _drawing(draw_response, real.response(real.MODELS[1:2], kinds=["log_rss"])),
    "surface": _drawing(draw_surface, real.surface(), limit=2.0),
    "surface, few values": _drawing(draw_surface, real.surface(4)),
    "importance": _drawing(draw_importance, real.importance()),
    "exemplars, 10": _drawing(draw_exemplars, real.exemplars(10)),
    "exemplars, 40 by place": _drawing(
        draw_exemplars, real.exemplars(40, place=[f"release site number {k % 12}" for k in range(40)]), color_by="place"
    ),
    "exemplars, 90": _drawing(draw_exemplars, real.exemplars(90)),
    "contrast curve": _drawing(
        draw_contrast_curve, contrast_curve([1, 5, 19, 99]), marks=[0.5, 0.55, 0.6172, 0.65], mark_alternatives=19
    ),
    "contrast spread": _drawing(draw_contrast_spread, real.spread()),
    "shares by month": _drawing(draw_shares, real.shares("month", real.months(40))),
    "shares by region": _drawing(
        draw_shares, real.shares("region", ["Bering Sea", "Gulf of Alaska", "California Current"]), by="region"
    ),
    "share map over 180": _drawing(draw_share_map, real.share_map(real.regions(*PACIFIC)), label="Decisions built"),
    "share map, many": _drawing(
        draw_share_map, real.share_map(real.regions(*ATLANTIC, 3)), label="Choices with a value, of the scarcest"
    ),
    "share map, polar": _drawing(draw_share_map, real.share_map(real.regions(*POLE)), label="Decisions built"),
    "report": _drawing(
        draw_report,
        real.shares("month", real.months(30)),
        real.shares("region", real.regions(*PACIFIC)),
        real.share_map(real.regions(*PACIFIC)),
        title="a study with a long name",
    ),
    "report by names": _drawing(
        draw_report,
        real.shares("month", real.months(3)),
        real.shares("region", ["Bering Sea", "Gulf of Alaska"]),
        real.share_map(real.regions(*PACIFIC)),
    ),
    "bins": _drawing(draw_bins, real.bins(), label="depth of the bin, m"),
    "architecture": _drawing(draw_architecture, study.layers()),
    "cells over 180": _drawing(draw_cells, study.cells(*PACIFIC)),
    "cells, pole, changes": _drawing(draw_cells, study.cells(*POLE), diverging=True),
    "stacked chain": _drawing(draw_stacked_chain, real.summed_chain()),
    "members": _drawing(draw_member_curves, study.member_history()),
    "hyper-parameters": _drawing(draw_hyperparameters, study.hyperparameters()),
    "random starts": _drawing(draw_random_starts, study.random_starts()),
    "individuals by site": _drawing(
        draw_individual_differences, study.individual_differences(30), color_by="release_site"
    ),
    "individuals, 150": _drawing(draw_individual_differences, study.individual_differences(150)),
    "stays against scores": _drawing(draw_stay_against_score, study.individual_scores()),
    "stays": _drawing(draw_stay_distribution, study.distribution()),
    "months": _drawing(draw_months, study.months()),
    "months, D": _drawing(draw_months, study.months(), value="log_probability"),
    "pairs of bins": _drawing(draw_bin_pairs, study.bin_pairs()),
    "power": _drawing(draw_power, study.power()),
}


@pytest.fixture(autouse=True)
def _no_figure_stays_open() -> Iterator[None]:
    yield
    plt.close("all")


# Narrow is hard: all of them. Across a page, the first of each function.
ACROSS = {draw: name for name, (draw, _, _) in reversed(DRAWINGS.items())}


@pytest.mark.parametrize(
    ("name", "width_cm"), [*((name, COLUMN_CM) for name in DRAWINGS), *((name, PAGE_CM) for name in ACROSS.values())]
)
def test_every_text_can_be_read(name: str, width_cm: float) -> None:
    draw, tables, options = DRAWINGS[name]
    drawn = draw(*tables, **options, width_cm=width_cm)
    figure = root_figure(drawn) if isinstance(drawn, Axes) else drawn
    assert figure.get_figwidth() == pytest.approx(width_cm / 2.54)
    assert_legible(figure)


def test_every_public_figure_of_the_package_is_among_them(root: Path) -> None:
    drawn = {draw for draw, _, _ in DRAWINGS.values()}
    missing = {f"{draw.__module__}.{draw.__name__}" for draw in _public_figures(root) - drawn}
    assert missing == {"mimic.ground.draw_ground"}, "give each figure a drawing above; the ground is in all maps"


def _public_figures(root: Path) -> set[Callable[..., Any]]:
    """The functions draw_... that the modules with matplotlib offer."""
    found = set()
    for path in (root / "mimic").glob("*.py"):
        imports = [node for node in ast.parse(path.read_text()).body if isinstance(node, (ast.Import, ast.ImportFrom))]
        names = [i.module or "" if isinstance(i, ast.ImportFrom) else i.names[0].name for i in imports]
        if any(name.split(".")[0] == "matplotlib" for name in names):
            module = importlib.import_module(f"mimic.{path.stem}")
            found |= {getattr(module, name) for name in module.__all__ if name.startswith("draw_")}
    return found
