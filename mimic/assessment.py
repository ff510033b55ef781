"""Log-odds of the models of an experiment into its tables: GMP by group, shares, differences, the chain of stages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from mimic.baseline import BASELINE
from mimic.bin_shares import bin_table
from mimic.chain import chain_rule
from mimic.comparison import compare
from mimic.configuration import TRUTH, Configuration
from mimic.evaluation import evaluate, mean_choice_probability
from mimic.schema import ChoiceSets
from mimic.stages import default_stages

__all__ = ["assess", "model_pairs"]


def assess(
    configuration: Configuration, choice_sets: ChoiceSets, log_odds: Mapping[str, np.ndarray]
) -> dict[str, pd.DataFrame]:
    """The tables of an experiment, by name; empty ones are there too.

    Returns
    -------
    evaluation, GMP by group (`mimic.evaluation.evaluate`); shares, predicted against observed shares of choices;
    differences between pairs of models (`mimic.comparison.compare`); chain, where each model gains
    (`mimic.chain.chain_rule`); and bins, where the choices are bins (`mimic.bin_shares.bin_table`).
    """
    groups, bins = configuration.groups, configuration.bins
    named: dict[str, Any] = {"choice_groups": groups.choices, "behavior_groups": groups.behaviors}
    shares = [
        mean_choice_probability(log_odds, choice_sets, text).assign(condition=name)
        for name, text in groups.shares.items()
    ]
    known = [name for name in log_odds if name not in configuration.models or configuration.models[name].features]
    pairs = model_pairs(list(log_odds), known) if groups.pairs is None else groups.pairs
    stages = default_stages(choice_sets) if groups.chain is None else groups.chain
    return {
        "evaluation": evaluate(log_odds, choice_sets, **named),
        "shares": pd.concat(shares, ignore_index=True) if shares else pd.DataFrame(),
        "differences": compare(log_odds, choice_sets, [p for p in pairs if {*p} <= {*log_odds}], **named),
        "chain": chain_rule(log_odds, choice_sets, stages, behavior_groups=groups.behaviors),
        "bins": pd.DataFrame() if bins is None else bin_table(log_odds, choice_sets, bins.bins),
    }


def model_pairs(models: Sequence[str], with_features: Sequence[str]) -> list[tuple[str, str]]:
    """What is compared where nothing is asked for: each model with the one before it and with the conditional logit."""
    own = [name for name in models if name not in (BASELINE, TRUTH)]
    pairs = [(model, other) for other, model in pairwise(own)]
    if BASELINE in models:
        pairs += [(model, BASELINE) for model in own if model in with_features]
    return pairs
