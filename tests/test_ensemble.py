"""Ensembles: combining by hand, files without mimic, folds of whole individuals, and members that stop on their fold."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import pytest

from mimic.ensemble import EnsembleResult, combine, folds_of_individuals, train_ensemble
from mimic.model import LogOddsModel, Scaling, build_network, load_model, save_model
from mimic.probability import grouped_log_softmax, selected_log_probability
from mimic.schema import ChoiceSets
from mimic.training import TrainingOptions, TrainingResult, train

# Keras copies TensorFlow variables by a call that NumPy has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

WAYS = ("mean_log_odds", "mean_probability")


def world(n_individuals: int = 6, n_decisions: int = 120, seed: int = 0) -> ChoiceSets:
    """Ragged choice sets, selected by the log-odds 1.5 x - 0.8 y; y has mean 100."""
    rng = np.random.default_rng(seed)
    offsets = np.concatenate([[0], np.cumsum(rng.integers(2, 8, size=n_decisions))])
    x = rng.normal(size=(offsets[-1], 2))
    utility = x @ [1.5, -0.8] + rng.gumbel(size=len(x))
    return ChoiceSets(
        decisions=pd.DataFrame(
            {"individual": [f"boar {i % n_individuals}" for i in range(n_decisions)], "decision": range(n_decisions)}
        ),
        offsets=offsets,
        choice=np.concatenate([np.arange(n) for n in np.diff(offsets)]),
        selected=np.array([s + utility[s:e].argmax() for s, e in itertools.pairwise(offsets)]),
        features={"x": x[:, 0], "y": x[:, 1] + 100},
    )


def straight(slope_x: float, slope_y: float, *, mean: float = 0.0, scale: float = 1.0) -> LogOddsModel:
    """Log-odds slope_x x + slope_y y up to a constant, over a scaling of its own."""
    network = build_network(Scaling(("x", "y"), np.full(2, mean), np.full(2, scale)), units=())
    network.get_layer("log_odds").set_weights([scale * np.array([[slope_x], [slope_y]])])
    return LogOddsModel(network, ("x", "y"))


def bent(seed: int, **options: Any) -> LogOddsModel:
    """A network of some architecture; with the names of `individuals`, one that tells them apart."""
    individuals = options.pop("individuals", ())
    known = {"n_individuals": len(individuals), "embedding_size": 2} if individuals else {}
    scaling = Scaling(("x", "y"), np.array([0.1 * seed, 100.0]), np.array([1.0 + seed, 2.0]))
    network = build_network(scaling, seed=seed, **{"units": (5,), **known, **options})
    if individuals:
        values = np.random.default_rng(seed).normal(size=(len(individuals) + 1, 2))
        network.get_layer("embedding").set_weights([np.vstack([np.zeros(2), values[1:]])])
    return LogOddsModel(network, ("x", "y"), {"individuals": list(individuals)} if individuals else {})


def various() -> list[LogOddsModel]:
    """Members of different scalings, architectures and individuals, one with a linear term."""
    return [
        bent(1, individuals=("boar 2", "boar 0")),
        bent(2, units=(4, 3), activation="tanh", dropout=0.2, l2=0.1),
        bent(3, individuals=("boar 0", "boar 5", "boar 2"), linear=np.array([0.5, 0.0])),
    ]


# ----------------------------------------------------------------------------- combining


def test_mean_log_odds_by_hand() -> None:
    # Slopes 1 and 3 of x have the mean 2, slopes 0 and -1 of y the mean -0.5.
    cs = world()
    both = combine([straight(1, 0), straight(3, -1, mean=100, scale=50)], "mean_log_odds")
    exact = 2 * cs.features["x"].astype(float) - 0.5 * cs.features["y"]
    np.testing.assert_allclose(
        grouped_log_softmax(both.log_odds(cs), cs.offsets), grouped_log_softmax(exact, cs.offsets), atol=1e-4
    )
    assert both.network.output_shape == (None, 1)


def test_mean_probability_by_hand() -> None:
    # Two choices at x = 0 and x = 1, y = 0. Odds 1 : 3 and 1 : 1 are 3/4 and 1/2 for the second, their mean 5/8.
    cs = ChoiceSets(
        pd.DataFrame({"individual": ["a"], "decision": [1]}), [0, 2], [1, 2], [0], {"x": [0.0, 1.0], "y": [0.0, 0.0]}
    )
    both = combine([straight(np.log(3), 7), straight(0, -2, mean=3, scale=4)], "mean_probability")
    np.testing.assert_allclose(np.exp(both.log_odds(cs)), [3 / 8, 5 / 8], rtol=1e-6)
    assert both.network.output_shape == (None, 2)


@pytest.mark.parametrize("how", WAYS)
def test_combined_model_is_the_mean_of_its_members(how: str) -> None:
    cs, members = world(), various()
    phi = np.array([member.log_odds(cs) for member in members])
    combined = combine(members, how).log_odds(cs)
    if how == "mean_log_odds":
        np.testing.assert_allclose(combined, phi.mean(axis=0), rtol=1e-5, atol=1e-5)
    else:
        p = np.mean([np.exp(grouped_log_softmax(one, cs.offsets)) for one in phi], axis=0)
        np.testing.assert_allclose(np.exp(combined), p, rtol=1e-5)


@pytest.mark.parametrize("how", WAYS)
def test_one_member_is_itself(how: str) -> None:
    cs, member = world(), bent(1)
    np.testing.assert_allclose(
        grouped_log_softmax(combine([member], how).log_odds(cs), cs.offsets),
        grouped_log_softmax(member.log_odds(cs), cs.offsets),
        atol=1e-6,
    )


def test_member_takes_an_individual_that_it_does_not_know_for_the_population() -> None:
    cs = world(n_individuals=7)
    first, second = bent(1, individuals=("boar 0",)), bent(2, individuals=("boar 1",))
    both = combine([first, second], "mean_log_odds")
    assert both.individuals == ("boar 0", "boar 1")
    np.testing.assert_allclose(both.log_odds(cs), (first.log_odds(cs) + second.log_odds(cs)) / 2, rtol=1e-5)
    stranger = cs.with_context(individual="boar z")
    moved = {k: both.log_odds(cs.filter(cs.individuals == k)) for k in ("boar 0", "boar 1", "boar 2")}
    same = {k: both.log_odds(stranger.filter(cs.individuals == k)) for k in moved}
    assert [(moved[k] == same[k]).all() for k in moved] == [False, False, True]


def test_combining_copies_the_networks() -> None:
    cs, member = world(), bent(1)
    both = combine([member, bent(2)], "mean_log_odds")
    before, name = both.log_odds(cs), member.network.name
    member.network.set_weights([np.zeros_like(w) for w in member.network.get_weights()])
    np.testing.assert_array_equal(both.log_odds(cs), before)
    assert member.network.name == name


def test_ensemble_of_ensembles_is_the_mean_of_means() -> None:
    cs = world()
    inner = combine([straight(1, 0), straight(3, 0)], "mean_log_odds")
    outer = combine([inner, straight(6, 0), inner], "mean_log_odds")
    phi = outer.log_odds(cs)
    slope = np.polyfit(cs.features["x"], phi, 1)[0]
    assert slope == pytest.approx(10 / 3, rel=1e-5)  # (2 + 6 + 2) / 3


def test_errors_of_combining_say_what_was_expected() -> None:
    other = LogOddsModel(straight(1, 1).network, ("y", "x"))
    km, m = (
        LogOddsModel(straight(1, 1).network, ("x", "y"), {"info": {"x": {"unit": unit}, "y": {"unit": "1"}}})
        for unit in ("km", "m")
    )
    averaged = combine([straight(1, 1), straight(1, 2)], "mean_probability")
    with pytest.raises(ValueError, match="combined as mean_log_odds or mean_probability; got 'median'"):
        combine([straight(1, 1)], "median")
    with pytest.raises(ValueError, match="expected models to combine; got none"):
        combine([], "mean_log_odds")
    with pytest.raises(ValueError, match="same features in the same order; member 1 takes x, y, member 2 y, x"):
        combine([straight(1, 1), other], "mean_log_odds")
    with pytest.raises(ValueError, match="same units; got .*'km'.* and .*'m'"):
        combine([km, m], "mean_log_odds")
    with pytest.raises(ValueError, match="member 2 is itself a mean of probabilities; combine its members instead"):
        combine([straight(1, 1), averaged], "mean_log_odds")
    with pytest.raises(ValueError, match="member 1 is the model without features"):
        combine([LogOddsModel(None, ())], "mean_log_odds")


# ----------------------------------------------------------------------------- files


@pytest.mark.parametrize("how", WAYS)
def test_saved_ensemble_comes_back_with_its_log_odds_and_members(tmp_path: Path, how: str) -> None:
    cs, both = world(), combine(various(), how)
    save_model(both, tmp_path / "ensemble.keras")
    again = load_model(tmp_path / "ensemble.keras")
    np.testing.assert_array_equal(again.log_odds(cs), both.log_odds(cs))
    assert again.individuals == ("boar 2", "boar 0", "boar 5")
    assert again.metadata["combine"] == how
    assert len(again.metadata["members"]) == 3


@pytest.mark.parametrize("how", WAYS)
def test_equal_ensembles_are_equal_bytes(tmp_path: Path, how: str) -> None:
    for name in ("one", "two"):  # Keras counts the layers without names that it has made
        save_model(combine(various(), how), tmp_path / f"{name}.keras")
    assert (tmp_path / "one.keras").read_bytes() == (tmp_path / "two.keras").read_bytes()


def test_saved_ensembles_load_in_plain_keras_without_mimic(tmp_path: Path) -> None:
    inputs = np.column_stack([world().matrix(["x", "y"]), np.resize([0, 1, 2, 3], world().n_rows)])[:40]
    expected = {}
    for name, model in {"member": various()[2], **{how: combine(various(), how) for how in WAYS}}.items():
        save_model(model, tmp_path / f"{name}.keras")
        expected[name] = keras.ops.convert_to_numpy(model.network(inputs)).tolist()
    code = (
        "import json, sys\n"
        "sys.modules['mimic'] = None\n"  # importing mimic now fails
        "import keras, numpy as np\n"
        f"x = np.array({inputs.tolist()}, dtype=np.float32)\n"
        "load = lambda name: keras.saving.load_model(name + '.keras', safe_mode=True)\n"
        f"print(json.dumps({{n: np.asarray(load(n)(x)).tolist() for n in {list(expected)}}}))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert [np.shape(found[name])[1] for name in expected] == [1, 1, 3]
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-6, atol=1e-6)


# ----------------------------------------------------------------------------- folds


def test_folds_hold_whole_individuals_and_each_decision_once() -> None:
    cs = world(n_individuals=10)
    folds = folds_of_individuals(cs, 4, seed=3)
    np.testing.assert_array_equal(np.sum(folds, axis=0), np.ones(cs.n_decisions))
    held = [set(cs.individuals[fold]) for fold in folds]
    assert all(one.isdisjoint(other) for one, other in itertools.combinations(held, 2))
    assert sorted(len(one) for one in held) == [2, 2, 3, 3]


def test_folds_are_those_of_the_seed_and_not_of_the_order_of_decisions() -> None:
    cs = world(n_individuals=10)

    def held(cs: ChoiceSets, seed: int) -> list[list[str]]:
        return [sorted(set(cs.individuals[fold])) for fold in folds_of_individuals(cs, 3, seed)]

    turned = ChoiceSets(
        cs.decisions.iloc[::-1],
        np.concatenate([[0], np.cumsum(cs.n_choices[::-1])]),
        cs.choice,
        np.full(cs.n_decisions, -1),
    )
    first = np.concatenate([[0], np.cumsum(cs.n_choices[::-1])])[:-1]
    turned = ChoiceSets(turned.decisions, turned.offsets, turned.choice, first)
    assert held(cs, 1) == held(turned, 1)
    assert held(cs, 1) != held(cs, 2)


def test_individuals_that_share_a_tag_are_in_one_fold() -> None:
    cs = world(n_individuals=6)
    number = cs.decisions["individual"].str[-1].astype(int)
    cs = cs.with_context(tag=(number // 2).astype(str))  # boars 0 and 1, 2 and 3, 4 and 5
    for seed in range(5):
        held = [sorted(set(cs.individuals[fold])) for fold in folds_of_individuals(cs, 3, seed)]
        assert sorted(held) == [["boar 0", "boar 1"], ["boar 2", "boar 3"], ["boar 4", "boar 5"]]


def test_individuals_without_a_known_selection_do_not_make_a_fold() -> None:
    cs = world(n_individuals=4)
    mute = cs.individuals == "boar 3"
    cs = ChoiceSets(cs.decisions, cs.offsets, cs.choice, np.where(mute, -1, cs.selected), cs.features)
    folds = folds_of_individuals(cs, 3, seed=0)
    assert all((cs.selected[fold] >= 0).any() for fold in folds)
    np.testing.assert_array_equal(np.sum(folds, axis=0), np.ones(cs.n_decisions))


def test_errors_of_folds_say_what_was_expected() -> None:
    with pytest.raises(ValueError, match="expected 2 or more folds; got 1"):
        folds_of_individuals(world(), 1, seed=0)
    with pytest.raises(ValueError, match="7 folds need as many individuals .*; got 6. Ask for fewer members"):
        folds_of_individuals(world(), 7, seed=0)


# ----------------------------------------------------------------------------- training


def small(**options: Any) -> TrainingOptions:
    return TrainingOptions(**{"units": (6,), "epochs": 3, "batch_decisions": 64, "learning_rate": 0.02, **options})


@pytest.fixture(scope="module")
def trained() -> EnsembleResult:
    return train_ensemble(world(), world(3, 60, seed=1), ["x", "y"], small(), members=3)


def test_members_train_outside_their_fold_and_stop_on_it() -> None:
    cs, seen = world(), []

    def spy(cs_train: ChoiceSets, cs_validation: ChoiceSets, *args: Any, **options: Any) -> TrainingResult:
        seen.append((set(cs_train.individuals), set(cs_validation.individuals), args[1].seed))
        assert cs_train.n_decisions + cs_validation.n_decisions == cs.n_decisions
        return train(cs_train, cs_validation, *args, **options)

    result = train_ensemble(cs, None, ["x", "y"], small(epochs=1), members=3, train=spy)
    everyone = set(cs.individuals)
    assert [inside | outside for outside, inside, _ in seen] == [everyone] * 3
    assert [inside & outside for outside, inside, _ in seen] == [set()] * 3
    assert set.union(*(inside for _, inside, _ in seen)) == everyone
    assert len({seed for *_, seed in seen}) == 3
    assert [set(m.model.metadata["fold"]) for m in result.members] == [inside for _, inside, _ in seen]


def test_validation_decisions_choose_nothing() -> None:
    # Turned selections would stop training elsewhere if they had a say.
    cs, validation = world(), world(3, 60, seed=1)
    turned = ChoiceSets(
        validation.decisions, validation.offsets, validation.choice, validation.offsets[:-1], validation.features
    )
    results = [train_ensemble(cs, v, ["x", "y"], small(), members=2) for v in (validation, turned, None)]
    for one in results[1:]:
        np.testing.assert_array_equal(one.model.log_odds(cs), results[0].model.log_odds(cs))
    assert [list(r.losses["split"].unique()) for r in results] == [["train", "validation"]] * 2 + [["train"]]


def test_history_has_the_epochs_of_every_member(trained: EnsembleResult) -> None:
    assert list(trained.history.columns) == [*trained.members[0].history.columns, "member"]
    assert trained.history.groupby("member")["epoch"].agg(list).to_dict() == {k: [1, 2, 3] for k in (1, 2, 3)}


def test_losses_are_those_of_members_and_of_both_ways_to_combine_them(trained: EnsembleResult) -> None:
    cs = world(3, 60, seed=1)
    table = trained.losses.query("split == 'validation'").set_index("model")
    models = [m.model for m in trained.members]
    assert list(table.index) == ["member 1", "member 2", "member 3", *WAYS]
    for name, model in {"member 2": models[1], **{how: combine(models, how) for how in WAYS}}.items():
        log_p = selected_log_probability(model.log_odds(cs), cs.offsets, cs.selected)
        mean = pd.Series(log_p).groupby(cs.individuals).mean().mean()
        assert table.loc[name, "log_probability"] == pytest.approx(mean, rel=1e-9)
    # An arithmetic mean of probabilities is never below their geometric mean (Jensen).
    members = table.loc[["member 1", "member 2", "member 3"], "log_probability"]
    assert table.loc["mean_probability", "log_probability"] > members.mean()


def test_ensemble_is_combined_as_asked_and_saved_with_what_made_it(tmp_path: Path, trained: EnsembleResult) -> None:
    assert trained.model.averages_probability
    other = train_ensemble(world(), None, ["x", "y"], small(epochs=1), members=2, combine="mean_log_odds")
    assert other.model.network.output_shape == (None, 1)
    save_model(trained.model, tmp_path / "ensemble.keras")
    metadata = load_model(tmp_path / "ensemble.keras").metadata
    assert metadata["combine"] == "mean_probability"
    assert metadata["info"]["x"]["role"] == "choice"
    assert [m["member"] for m in metadata["members"]] == [1, 2, 3]
    assert sorted(name for m in metadata["members"] for name in m["fold"]) == [f"boar {k}" for k in range(6)]
    assert metadata["members"][0]["options"]["units"] == [6]


def test_equal_seeds_give_equal_ensembles_and_others_do_not(tmp_path: Path, trained: EnsembleResult) -> None:
    again = train_ensemble(world(), None, ["x", "y"], small(), members=3)
    save_model(trained.model, tmp_path / "one.keras")
    save_model(again.model, tmp_path / "two.keras")
    assert (tmp_path / "one.keras").read_bytes() == (tmp_path / "two.keras").read_bytes()
    other = train_ensemble(world(), None, ["x", "y"], small(seed=1), members=3)
    assert (other.model.log_odds(world()) != again.model.log_odds(world())).any()


def test_members_know_no_individual_that_they_stop_on(tmp_path: Path) -> None:
    # Else a member would be validated on numbers learned for the very animals that it is validated on.
    options = small(linear_skip=True, embedding_size=2)
    result = train_ensemble(world(), None, ["x", "y"], options, members=3)
    for member in result.members:
        assert set(member.model.individuals) == set(world().individuals) - set(member.model.metadata["fold"])
    assert set(result.model.individuals) == set(world().individuals)
    save_model(result.model, tmp_path / "ensemble.keras")
    again = load_model(tmp_path / "ensemble.keras").log_odds(world())
    np.testing.assert_array_equal(again, result.model.log_odds(world()))


def test_progress_counts_the_epochs_of_all_members() -> None:
    told: list[tuple[int, int, float]] = []
    train_ensemble(
        world(), None, ["x", "y"], small(epochs=2), members=2,
        progress=lambda epoch, n_epochs, logs: told.append((epoch, n_epochs, logs["member"])),
    )  # fmt: skip
    assert told == [(1, 4, 1), (2, 4, 1), (3, 4, 2), (4, 4, 2)]


def test_unknown_way_to_combine_is_refused_before_anything_is_trained() -> None:
    def fail(*args: object, **options: object) -> TrainingResult:
        raise AssertionError("trained")

    with pytest.raises(ValueError, match="combined as mean_log_odds or mean_probability; got 'sum'"):
        train_ensemble(world(), None, ["x", "y"], small(), combine="sum", train=fail)
