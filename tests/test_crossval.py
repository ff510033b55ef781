"""Honest selection: what is reported on an animal was trained, stopped and chosen without it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tiny import write_experiment, write_table

from mimic import crossval
from mimic.baseline import BASELINE
from mimic.conditional_logit import fit_conditional_logit
from mimic.configuration import Configuration, load_configuration
from mimic.crossval import cross_validate
from mimic.crossval_tables import CrossValidation, difference_table, format_crossval
from mimic.ledger import Ledger
from mimic.partitions import TEST, Split, k_fold, leave_one_out, time_blocks
from mimic.preparation import Prepared, prepare
from mimic.probability import selected_log_probability
from mimic.registry import Registry
from mimic.schema import VALIDATION, ChoiceSets, FeatureInfo
from mimic.tables import from_table

LINEAR = """
models:
  none: {features: []}
  depth: {kind: conditional_logit, features: [depth]}
  both: {kind: conditional_logit, features: [depth, noise]}
"""
ONE = "models:\n  depth: {kind: conditional_logit, features: [depth]}\n"
NETWORKS = """
training: {epochs: 2, units: [3], batch_decisions: 64, learning_rate: 0.01}
models:
  depth: {kind: conditional_logit, features: [depth]}
  network: {features: [depth, noise], grid: {seed: [0, 1]}}
  ensemble: {features: [depth, noise], ensemble: {members: 2}}
"""

SHORT = "training: {epochs: 1, units: [2], batch_decisions: 64}\n"


def study(folder: Path, text: str, **table: int) -> tuple[Configuration, Prepared]:
    if table:
        write_table(folder, **table)
    configuration = load_configuration(write_experiment(folder, text))
    return configuration, prepare(configuration)


def of(choice_sets: ChoiceSets) -> Prepared:
    return Prepared(choice_sets, Ledger(), choice_sets.n_decisions, None)


def assert_same(one: CrossValidation, other: CrossValidation) -> None:
    for name, table in one.tables.items():
        pd.testing.assert_frame_equal(table, other.tables[name], check_exact=True)


@dataclass(frozen=True)
class Found:
    """A cross-validation with what it was made of."""

    configuration: Configuration
    prepared: Prepared
    splits: list[Split]
    result: CrossValidation
    registry: Path


def cross(folder: Path, text: str, splits: Callable[[pd.DataFrame], list[Split]], **table: int) -> Found:
    configuration, prepared = study(folder, text, **table)
    made = splits(prepared.choice_sets.decisions)
    result = cross_validate(configuration, prepared, made, n_workers=1, registry=folder / "registry")
    return Found(configuration, prepared, made, result, folder / "registry")


@pytest.fixture(scope="module")
def linear(tmp_path_factory: pytest.TempPathFactory) -> Found:
    """Four animals left out one by one, by three models."""
    return cross(tmp_path_factory.mktemp("linear"), LINEAR, leave_one_out, n_individuals=4, n_decisions=15)


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Found:
    """Two folds of five animals, by models of all kinds."""
    folder = tmp_path_factory.mktemp("networks")
    return cross(folder, NETWORKS, lambda d: k_fold(d, n_folds=2), n_individuals=5, n_decisions=6)


def test_leave_one_out_of_four_animals_is_the_loop_that_fits_the_other_three(linear: Found) -> None:
    cs, found = linear.prepared.choice_sets, linear.result
    by_hand = {}
    for name in ("a0", "a1", "a2", "a3"):
        inside = cs.individuals == name
        fit = fit_conditional_logit(cs.filter(~inside), ["depth", "noise"], weighting="individual")
        test = cs.filter(inside)
        log_p = selected_log_probability(fit.log_odds(test), test.offsets, test.selected)
        by_hand[name] = log_p.mean()
        told = found.decisions.loc[found.decisions["individual"] == name, "both"]
        np.testing.assert_allclose(told, log_p, rtol=0, atol=1e-6)  # the model is a float32 network
    table = found.summary.set_index("model")
    assert table["log_probability"]["both"] == pytest.approx(np.mean(list(by_hand.values())), abs=1e-7)
    # from the told decisions on, to the last bits
    means = found.decisions.groupby("individual")["both"].mean()
    individuals = found.individuals.query("model == 'both'").set_index("individual")["log_probability"]
    np.testing.assert_allclose(individuals, means, rtol=1e-12)
    assert table["log_probability"]["both"] == pytest.approx(means.mean(), rel=1e-12)
    assert table["gmp"]["both"] == pytest.approx(np.exp(means.mean()), rel=1e-12)
    assert table["lift"]["none"] == 1
    assert table["null_gmp"]["both"] == pytest.approx(0.25, rel=1e-12)
    of_split = found.scores.query("model == 'both'").set_index("split")["log_probability"]
    np.testing.assert_allclose(of_split, means, rtol=1e-12)
    assert table["split_min"]["both"] == of_split.min()
    assert table["split_max"]["both"] == of_split.max()
    assert table["split_sd"]["both"] == pytest.approx(np.std(of_split, ddof=1), rel=1e-12)
    assert table["note"]["both"] == "few individuals"


def test_differences_are_paired_and_every_later_model_is_compared_with_every_earlier(linear: Found) -> None:
    found = linear.result
    pairs = found.differences[["model", "other"]].values.tolist()
    assert pairs == [["depth", "none"], ["both", "none"], ["both", "depth"]]
    means = found.individuals.pivot(index="individual", columns="model", values="log_probability")
    gain = (means["both"] - means["depth"]).to_numpy()
    row = found.differences.iloc[2]
    assert row["difference"] == pytest.approx(gain.mean(), rel=1e-9)
    assert row["share_improved"] == np.mean(gain > 0)
    assert row["difference_low"] <= row["difference"] <= row["difference_high"]
    against = difference_table(found.decisions, ["none", "depth", "both"], reference="depth")
    assert against[["model", "other"]].values.tolist() == [["none", "depth"], ["both", "depth"]]
    assert against["difference"][0] == pytest.approx(-found.differences["difference"][0], rel=1e-12)


def test_outcomes_of_the_tested_animals_change_no_model(networks: Found, tmp_path: Path) -> None:
    cs, split = networks.prepared.choice_sets, networks.splits[0]
    inside = split.role == TEST
    # each tested animal takes the next choice instead
    other = cs.offsets[:-1] + (cs.selected - cs.offsets[:-1] + 1) % cs.n_choices
    taken = np.where(inside, other, cs.selected)
    poisoned = ChoiceSets(cs.decisions, cs.offsets, cs.choice, taken, cs.features, cs.info)
    for model in networks.configuration.models:
        found = [
            crossval.fit_outcome(crossval.Study(networks.configuration, data, [split], str(where)), 0, model)
            for data, where in ((cs, networks.registry), (poisoned, tmp_path))
        ]
        assert found[0].chosen == found[1].chosen
        assert found[0].validation == found[1].validation
        assert all((found[0].log_p[name] != found[1].log_p[name]).any() for name in found[0].log_p)
    # Networks have the very same runs: the tested animals are not even among their data. Lone models are reported on
    # them, and have runs of their own, but the same weights.
    runs = [Registry(where).runs() for where in (networks.registry, tmp_path)]
    ids = [set(table.loc[table["model"] == "network", "id"]) for table in runs]
    assert ids[1] < ids[0]
    for model in ("depth", "ensemble"):
        losses = [set(table.loc[table["model"] == model, "true_decision_loss"]) for table in runs]
        assert len(losses[1]) == 1
        assert losses[1] < losses[0]


NOISE = """
name: noise
table: {file: noise.csv, features: [a, b, c]}
training: {loss: softmax, epochs: 6, units: [6], batch_decisions: 64, learning_rate: 0.05}
models:
  network: {features: [a, b, c], grid: {seed: SEEDS}}
"""


def write_noise(folder: Path, *, n_individuals: int, n_decisions: int, n_seeds: int) -> Path:
    """Selections that have nothing to do with three features."""
    rng = np.random.default_rng(5)
    n_rows = n_individuals * n_decisions * 3
    table = pd.DataFrame({name: rng.normal(size=n_rows) for name in "abc"})
    table["individual"] = np.repeat([f"n{i}" for i in range(n_individuals)], n_decisions * 3)
    table["decision"] = np.tile(np.repeat(np.arange(n_decisions), 3), n_individuals)
    table["choice"] = np.tile(np.arange(3), n_individuals * n_decisions)
    taken = np.repeat(rng.integers(0, 3, n_individuals * n_decisions), 3)
    table["selected"] = (table["choice"] == taken).astype(int)
    table.to_csv(folder / "noise.csv", index=False)
    path = folder / "noise.yaml"
    path.write_text(NOISE.replace("SEEDS", str(list(range(n_seeds)))))
    return path


def test_best_of_many_seeds_flatters_itself_where_it_was_chosen_and_not_on_animals_that_played_no_part(
    tmp_path: Path,
) -> None:
    configuration = load_configuration(write_noise(tmp_path, n_individuals=8, n_decisions=8, n_seeds=8))
    prepared = prepare(configuration)
    splits = k_fold(prepared.choice_sets.decisions, n_folds=2, validation_share=0.34)
    found = cross_validate(configuration, prepared, splits, n_workers=1)
    network = found.summary.set_index("model").loc["network"]
    null = -np.log(3)
    # Nothing can be learned: on new animals no model beats the null in expectation, and the chosen one does not.
    assert network["validation_log_probability"] > null
    assert network["log_probability"] < null
    assert network["optimism"] > 0.02
    scores = found.scores.query("model == 'network'")
    assert (scores["optimism"] == scores["validation_log_probability"] - scores["log_probability"]).all()
    assert scores["chosen"].str.startswith("network/seed=").all()


def test_second_time_gives_the_same_tables_and_trains_nothing(networks: Found) -> None:
    assert networks.result.n_trained == 2 * (1 + 2 + 1)
    again = cross_validate(
        networks.configuration, networks.prepared, networks.splits, n_workers=1, registry=networks.registry
    )
    assert again.n_trained == 0
    assert_same(networks.result, again)
    assert "network_seeds" in set(again.summary["model"])


@pytest.mark.slow
def test_two_workers_give_the_tables_of_one(networks: Found, tmp_path: Path) -> None:
    two = cross_validate(networks.configuration, networks.prepared, networks.splits, n_workers=2, registry=tmp_path)
    assert two.n_trained == networks.result.n_trained
    assert_same(networks.result, two)


def test_stopped_cross_validation_goes_on_where_it_was(
    networks: Found, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit, done = crossval.fit_outcome, []

    def until_stopped(*arguments: Any) -> Any:
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(arguments)
        return fit(*arguments)

    def run() -> CrossValidation:
        given = (networks.configuration, networks.prepared, networks.splits)
        return cross_validate(*given, n_workers=1, registry=tmp_path)

    monkeypatch.setattr(crossval, "fit_outcome", until_stopped)
    with pytest.raises(KeyboardInterrupt):
        run()
    monkeypatch.setattr(crossval, "fit_outcome", fit)
    recorded = len(Registry(tmp_path).runs())
    assert 0 < recorded < networks.result.n_trained
    after = run()
    assert after.n_trained == networks.result.n_trained - recorded
    assert_same(after, networks.result)


def test_repeats_have_seeds_of_their_own(networks: Found) -> None:
    def seeds(model: str, repeat: int) -> list[int]:
        return [m.seed for m in crossval._one_model(networks.configuration, model, repeat).members_of(model)]

    assert [seeds("network", repeat) for repeat in (0, 2)] == [[0, 1], [2000, 2001]]
    assert [seeds("ensemble", repeat) for repeat in (0, 1)] == [[0], [1000]]


def test_repeats_add_no_individuals_and_no_decisions(tmp_path: Path) -> None:
    found = cross(tmp_path, ONE, lambda d: k_fold(d, n_folds=2, n_repeats=2), n_individuals=4, n_decisions=5).result
    summary = found.summary.iloc[0]
    assert (summary["n_individuals"], summary["n_decisions"], summary["n_splits"]) == (4, 20, 4)
    assert len(found.decisions) == 40
    assert found.decisions.groupby(["repeat", "individual", "decision"]).size().eq(1).all()
    assert found.individuals["n_decisions"].tolist() == [5, 5, 5, 5]


def test_blocks_of_time_say_that_they_test_no_animals(tmp_path: Path) -> None:
    configuration, prepared = study(tmp_path, ONE, n_individuals=3, n_decisions=12)
    cs = prepared.choice_sets
    cs = cs.with_context(time_utc=pd.Timestamp("2020-01-01") + pd.to_timedelta(cs.decisions["decision"], unit="D"))
    found = cross_validate(configuration, of(cs), time_blocks(cs.decisions, n_blocks=4), n_workers=1)
    assert set(found.summary["note"]) == {"tests of time, not of animals; few individuals"}
    assert set(found.splits["role"]) == {"train", VALIDATION, TEST, "left out"}
    assert "tests of time, not of animals" in format_crossval(found.summary, found.differences)
    assert found.summary["n_decisions"].unique().tolist() == [18]


def test_individual_with_a_single_decision_is_tested_and_weighs_as_much_as_any(tmp_path: Path) -> None:
    configuration, prepared = study(tmp_path, ONE, n_individuals=4, n_decisions=8)
    cs = prepared.choice_sets
    keep = (cs.individuals != "a0") | (cs.decisions["decision"] == 0).to_numpy()
    few = of(cs.filter(keep))
    found = cross_validate(configuration, few, leave_one_out(few.choice_sets.decisions), n_workers=1)
    rows = found.individuals.query("model == 'depth'")
    assert rows.set_index("individual")["n_decisions"]["a0"] == 1
    summary = found.summary.set_index("model")["log_probability"]
    assert summary["depth"] == pytest.approx(rows["log_probability"].mean(), rel=1e-12)


def test_decisions_without_a_known_selection_are_passed_over(tmp_path: Path) -> None:
    configuration, prepared = study(tmp_path, ONE, n_individuals=4, n_decisions=8)
    cs = prepared.choice_sets
    selected = cs.selected.copy()
    selected[:3] = -1
    unknown = of(ChoiceSets(cs.decisions, cs.offsets, cs.choice, selected, cs.features, cs.info))
    found = cross_validate(configuration, unknown, k_fold(cs.decisions, n_folds=2), n_workers=1)
    assert len(found.decisions) == cs.n_decisions - 3


def separated(levels: dict[str, list[int]]) -> tuple[ChoiceSets, Configuration]:
    """Choices of two; `use` is 1 for the first choice in the decisions listed, and which was taken by individual."""
    rows = [
        {"individual": i, "decision": d, "choice": c, "selected": int(c == taken), "use": float(c == 0), "x": x}
        for i, choices in levels.items()
        for d, taken in enumerate(choices)
        for c, x in ((0, 0.3 * d), (1, 0.5))
    ]
    cs = from_table(pd.DataFrame(rows), features={"use": FeatureInfo("choice"), "x": FeatureInfo("choice")})
    return cs, Configuration.model_validate(
        {
            "name": "separated",
            "table": {"file": "nowhere.csv", "features": ["use", "x"]},
            "models": {"use": {"kind": "conditional_logit", "features": ["use"]}},
        }
    )


def test_split_in_which_a_feature_separates_is_named_and_the_others_are_recorded(tmp_path: Path) -> None:
    # without d nobody ever takes the second choice
    cs, configuration = separated({"a": [0, 0, 0], "b": [0, 0], "c": [0, 0], "d": [1, 1, 0]})
    with pytest.raises(
        ValueError, match=r"split d \(repeat 0\): use: use separates|split d .repeat 0.: use.*separates"
    ):
        cross_validate(configuration, of(cs), leave_one_out(cs.decisions), n_workers=1, registry=tmp_path / "r")
    runs = Registry(tmp_path / "r").runs()
    assert (runs["status"] == "finished").sum() == 3


def test_level_that_a_training_part_never_sees_has_no_effect_there_and_alone_the_split_is_named() -> None:
    cs, configuration = separated({"a": [0, 1], "b": [1, 0], "c": [0, 1]})
    flat = np.where(np.repeat(cs.individuals == "b", 2), cs.features["use"], 0.0)  # only b can use it
    cs = cs.with_features({"use": flat})
    with pytest.raises(ValueError, match=r"split b \(repeat 0\): use: expected a feature that differs"):
        cross_validate(configuration, of(cs), leave_one_out(cs.decisions), n_workers=1)
    x = {
        "x": {"kind": "conditional_logit", "features": ["x"]},
        "both": {"kind": "conditional_logit", "features": ["use", "x"]},
    }
    wider = Configuration.model_validate({**configuration.model_dump(), "models": x})
    split = [one for one in leave_one_out(cs.decisions) if one.name == "b"]
    found = cross_validate(wider, of(cs), split, n_workers=1).decisions
    np.testing.assert_allclose(found["both"], found["x"], atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reference": "nobody"}, "reference: unknown model nobody; known are none, depth, both"),
        ({"splits": []}, "expected at least one split"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_anything_is_fitted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], message: str
) -> None:
    configuration, prepared = study(tmp_path, LINEAR)
    monkeypatch.setattr(crossval, "fit_models", None)
    splits = options.pop("splits", leave_one_out(prepared.choice_sets.decisions))
    with pytest.raises(ValueError, match=message):
        cross_validate(configuration, prepared, splits, n_workers=1, **options)


def test_splits_of_other_decisions_are_refused(tmp_path: Path) -> None:
    configuration, prepared = study(tmp_path, LINEAR)
    splits = leave_one_out(prepared.choice_sets.decisions[:50])
    with pytest.raises(ValueError, match="split a0 is of other decisions; expected a role for each of 120"):
        cross_validate(configuration, prepared, splits, n_workers=1)


def test_model_called_as_a_column_of_the_tables_is_refused(tmp_path: Path) -> None:
    configuration, prepared = study(tmp_path, "models:\n  repeat: {features: []}\n")
    with pytest.raises(ValueError, match="no model may be called repeat here"):
        cross_validate(configuration, prepared, leave_one_out(prepared.choice_sets.decisions), n_workers=1)


def test_format_shows_a_line_a_model_and_a_line_a_pair(linear: Found) -> None:
    found = linear.result
    text = format_crossval(found.summary, found.differences)
    lines = text.splitlines()
    assert lines[0] == "4 individuals, 60 decisions, 4 splits, null GMP 25.00 % (few individuals)"
    assert sum(line.startswith("both ") for line in lines) == 3
    two = [table.assign(study=name) for name in ("x", "y") for table in (found.summary, found.differences)]
    both = format_crossval(pd.concat([two[0], two[2]]), pd.concat([two[1], two[3]]))
    assert both.splitlines()[0].startswith("x: 4 individuals")
    assert "\ny: 4 individuals" in both


def test_experiment_brings_its_conditional_logit_as_a_model_of_every_split(tmp_path: Path) -> None:
    configuration, prepared = study(tmp_path, SHORT + "models: {none: {features: []}, small: {features: [depth]}}\n")
    splits = leave_one_out(prepared.choice_sets.decisions)
    found = cross_validate(configuration, prepared, splits, n_workers=1)
    assert found.summary["model"].tolist() == ["none", "small", BASELINE]
    cs = prepared.choice_sets
    first = splits[0]
    fit = fit_conditional_logit(cs.filter(first.role != TEST), ["depth"], weighting="individual")
    tested = cs.filter(first.role == TEST)
    expected = selected_log_probability(fit.log_odds(tested), tested.offsets, tested.selected)
    own = found.decisions[found.decisions["split"] == first.name]
    np.testing.assert_allclose(own[BASELINE], expected, rtol=1e-12)
    assert "conditional_logit" in set(found.differences["other"]) | set(found.differences["model"])


def test_tested_decisions_never_reach_a_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    real = crossval.fit_models

    def watch(one: Any, prepared: Prepared, **options: Any) -> Any:
        seen.append((set(prepared.choice_sets.individuals), set(prepared.choice_sets.decisions["split"])))
        return real(one, prepared, **options)

    monkeypatch.setattr(crossval, "fit_models", watch)
    text = "models: {linear: {kind: conditional_logit, features: [depth]}, small: {features: [depth]}}\n"
    configuration, prepared = study(tmp_path, SHORT + text)
    splits = leave_one_out(prepared.choice_sets.decisions)
    cross_validate(configuration, prepared, splits, n_workers=1)
    everybody = set(prepared.choice_sets.individuals)
    tested = [set(prepared.choice_sets.individuals[split.role == TEST]) for split in splits]
    linear, networks = seen[: len(splits)], seen[len(splits) :]
    assert [names for names, _ in linear] == [everybody - one for one in tested] == [names for names, _ in networks]
    assert all(roles == {"train"} for _, roles in linear)
    assert all(roles == {"train", "validation"} for _, roles in networks)
