"""The conditional logit beside every model: what it leaves out, why, and where it stands in an experiment."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tiny

from mimic.assessment import assess
from mimic.baseline import BASELINE, baseline_table, fit_baseline
from mimic.conditional_logit import fit_conditional_logit
from mimic.configuration import load_configuration
from mimic.schema import ChoiceSets, FeatureInfo


def study(n: int = 300, seed: int = 0) -> ChoiceSets:
    """Three choices; deep ones are liked, closed ones never selected, `twice` is twice the depth, the moon is theirs all."""
    rng = np.random.default_rng(seed)
    depth, closed = rng.normal(size=(n, 3)), np.zeros((n, 3))
    picked = (depth + rng.gumbel(size=(n, 3))).argmax(axis=1)
    closed[np.arange(n), (picked + 1) % 3] = rng.integers(0, 2, n)
    features = {
        "depth": depth.ravel(),
        "moon": np.repeat(rng.normal(size=n), 3),
        "twice": 2 * depth.ravel(),
        "closed": closed.ravel(),
    }
    decisions = pd.DataFrame({"individual": np.repeat(["a", "b", "c"], n // 3), "decision": np.arange(n)})
    info = {name: FeatureInfo("decision" if name == "moon" else "choice") for name in features}
    return ChoiceSets(
        decisions, np.arange(n + 1) * 3, np.tile(np.arange(3), n), np.arange(n) * 3 + picked, features, info
    )


def test_each_feature_without_a_coefficient_is_left_out_with_its_reason() -> None:
    found = fit_baseline(study(), ["depth", "moon", "twice", "closed"])
    assert found.fit is not None
    assert len(found.fit.features) == 1
    assert found.left_out["moon"] == "the same for all choices of a decision"
    assert found.left_out["closed"] == "separates: the selected choices lie all at one end"
    assert sorted(found.left_out) in (["closed", "depth", "moon"], ["closed", "moon", "twice"])
    table = baseline_table(found)
    assert table["feature"].tolist()[0] in ("depth", "twice")
    assert table["left_out"].tolist()[0] == ""
    assert table["coef"].isna().tolist() == [False, True, True, True]


def test_baseline_is_the_conditional_logit_with_individuals_weighing_the_same() -> None:
    cs = study()
    found = fit_baseline(cs, ["depth"])
    expected = fit_conditional_logit(cs, ["depth"], weighting="individual")
    assert found.fit is not None
    assert found.fit.coef.tolist() == expected.coef.tolist()
    assert found.log_odds(cs).tolist() == expected.log_odds(cs).tolist()


def test_without_any_feature_that_counts_there_is_no_baseline() -> None:
    found = fit_baseline(study(), ["moon"])
    assert found.fit is None
    assert baseline_table(found)["feature"].tolist() == ["moon"]
    with pytest.raises(ValueError, match="unknown feature dept"):
        fit_baseline(study(), ["dept"])


MODELS = """
training: {epochs: 2, units: [3], batch_decisions: 32}
models:
  none: {features: []}
  small: {features: [depth]}
"""


def test_every_table_of_an_experiment_has_its_row_by_the_same_rules(tmp_path: Path) -> None:
    prepared, fit = tiny.fit(tmp_path, MODELS)
    assert list(fit.log_odds) == ["none", "small", BASELINE]
    tables = assess(load_configuration(tmp_path / "tiny.yaml"), prepared.choice_sets, fit.log_odds)
    counts = tables["evaluation"].groupby("model", sort=False)[["n_individuals", "n_decisions"]].agg(list)
    assert counts.loc[BASELINE].tolist() == counts.loc["small"].tolist()
    assert tables["evaluation"].query("model == @BASELINE")["gmp_low"].notna().all()
    assert BASELINE in set(tables["chain"]["model"])
    assert ("small", BASELINE) in set(zip(tables["differences"]["model"], tables["differences"]["other"], strict=True))
    training = prepared.choice_sets.split("train")
    assert fit.baseline is not None
    expected = fit_conditional_logit(training, ["depth"], weighting="individual")
    np.testing.assert_array_equal(fit.log_odds[BASELINE], expected.log_odds(prepared.choice_sets))


def test_a_study_that_has_a_conditional_logit_or_wants_none_gets_no_other(tmp_path: Path) -> None:
    own = MODELS + "  classical: {kind: conditional_logit, features: [depth]}\n"
    _, fit = tiny.fit(tmp_path, own)
    assert list(fit.log_odds) == ["none", "small", "classical"]
    (tmp_path / "tiny.yaml").unlink()
    _, fit = tiny.fit(tmp_path, MODELS + "baseline: null\n")
    assert list(fit.log_odds) == ["none", "small"]
    (tmp_path / "tiny.yaml").unlink()
    _, fit = tiny.fit(tmp_path, MODELS + "baseline: {features: [depth, noise]}\n")
    assert fit.baseline is not None
    assert fit.baseline.fit is not None
    assert fit.baseline.fit.features == ("depth", "noise")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("models: {conditional_logit: {features: [depth]}}", "no model but a conditional logit may be called"),
        (
            "models: {a: {features: [depth]}}\ngroups: {pairs: [[a, b]]}",
            "groups.pairs: unknown model b; known are a, cond",
        ),
        ("models: {a: {features: [depth]}}\ngroups: {chain: {x: {y: 'depth >'}}}", "invalid syntax"),
    ],
)
def test_bad_sections_are_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_configuration(tiny.write_experiment(tmp_path, text))


def test_baseline_of_an_unknown_feature_is_refused_before_training(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="baseline: expected the column dept; got"):
        tiny.fit(tmp_path, MODELS + "baseline: {features: [dept]}\n")
