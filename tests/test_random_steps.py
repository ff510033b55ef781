"""Random steps: the proposal by hand, draws as often as it says, and coefficients that are those of all cells."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import Study

from mimic.conditional_logit import fit_conditional_logit
from mimic.movement_kernels import GammaSteps, VonMisesTurns
from mimic.probability import grouped_sum
from mimic.random_steps import MOVEMENT, Proposal, draw_random_steps, fit_proposal
from mimic.random_steps_cli import random_steps_command
from mimic.random_steps_study import format_random_steps, random_steps_study, summarize
from mimic.schema import ChoiceSets
from mimic.worlds import World, simulate

FEATURES = ["distance_km", "stay", "covariate"]
TRUTH = {"distance_km": -0.03, "stay": 1.5, "covariate": 0.5}
WORLD = World(n_individuals=20, n_days=60, share_missing=0.0)


def with_movement(cs: ChoiceSets) -> ChoiceSets:
    distance = cs.features["distance_km"]
    return cs.with_features({"log_distance": np.log(np.where(distance > 0, distance, 1))})


def grid_of_turns(n_decisions: int, *, n_ahead: int, seed: int = 0) -> ChoiceSets:
    """Decisions of a stay, and moves of 5, 10 and 20 km straight on, to the side and back; most go on."""
    rng = np.random.default_rng(seed)
    distance = np.array([0.0, *np.repeat([5.0, 10.0, 20.0], 3)])
    turn = np.array([0.0, *np.tile([1.0, 0.0, -1.0], 3)])
    within = np.where(np.arange(n_decisions) < n_ahead, 1 + 3 * rng.integers(0, 3, n_decisions), 0)
    within[: n_ahead // 4] += 2  # these turn back
    return ChoiceSets(
        pd.DataFrame({"individual": "a", "decision": range(n_decisions)}),
        np.arange(0, 10 * n_decisions + 1, 10),
        np.tile(np.arange(10), n_decisions),
        10 * np.arange(n_decisions) + within,
        {
            "distance_km": np.tile(distance, n_decisions),
            "turn_cos": np.tile(turn, n_decisions),
            "stay": np.tile((distance == 0).astype(float), n_decisions),
        },
    )


# ----------------------------------------------------------------------------- the proposal


def test_cells_of_a_wider_ring_share_the_density_of_its_length() -> None:
    # Gamma of shape 2: density l exp(-l / 10) / 100; over 2 pi l it is exp(-l / 10), here at 10 and 20 km e^-1 and e^-2.
    decisions = pd.DataFrame({"individual": ["a"], "decision": [1]})
    cs = ChoiceSets(decisions, [0, 2], [1, 2], [0], {"distance_km": [10.0, 20.0]})
    q = np.exp(Proposal(GammaSteps(2.0, 0.1), VonMisesTurns(0.0), 0.5).log_probability(cs))
    assert q == pytest.approx([1 / (1 + np.exp(-1)), np.exp(-1) / (1 + np.exp(-1))])


def test_turning_back_is_proposed_where_most_turn_back() -> None:
    decisions = pd.DataFrame({"individual": ["a"], "decision": [1]})
    cs = ChoiceSets(decisions, [0, 2], [1, 2], [0], {"distance_km": [5.0, 5.0], "turn_cos": [1.0, -1.0]})
    q = np.exp(Proposal(GammaSteps(2.0, 0.1), VonMisesTurns(np.log(3) / 2, np.pi), 0.5).log_probability(cs))
    assert q == pytest.approx([0.25, 0.75])


def test_origin_alone_or_absent_leaves_probabilities_that_sum_to_one() -> None:
    decisions = pd.DataFrame({"individual": ["a"] * 3, "decision": [1, 2, 3]})
    cs = ChoiceSets(decisions, [0, 1, 3, 5], [1, 2, 3, 4, 5], [0, 1, 3], {"distance_km": [0.0, 5, 9, 0, 3]})
    log_q = Proposal(GammaSteps(2.0, 0.1), VonMisesTurns(0.0), 0.2).log_probability(cs)
    np.testing.assert_allclose(grouped_sum(np.exp(log_q), cs.offsets), 1)
    assert np.exp(log_q[[0, 3, 4]]) == pytest.approx([1, 0.2, 0.8])


def test_proposal_is_fitted_to_the_moves_and_counts_the_stays() -> None:
    cs = grid_of_turns(100, n_ahead=40)
    proposal = fit_proposal(cs)
    picked = cs.features["distance_km"][cs.selected]
    assert proposal.steps == GammaSteps.fit(picked[picked > 0])
    assert proposal.stay == pytest.approx(60.5 / 101)
    assert proposal.turns.mean_rad == 0.0
    # the mean of cos over 30 ahead and 10 back is 1/2
    assert proposal.turns == VonMisesTurns.fit(np.array([0.0] * 30 + [np.pi] * 10))


def test_unknown_turns_take_no_part() -> None:
    cs = grid_of_turns(100, n_ahead=40)
    unknown = np.repeat(np.arange(100) % 2 == 1, 10)
    half = cs.with_features({"turn_cos": np.where(unknown, 0, cs.features["turn_cos"])})
    known = fit_proposal(cs.filter(np.arange(100) % 2 == 0)).turns
    assert fit_proposal(half).turns == known
    without = ChoiceSets(cs.decisions, cs.offsets, cs.choice, cs.selected, {"distance_km": cs.features["distance_km"]})
    assert fit_proposal(without).turns.kappa == 0


def test_terms_are_what_ln_q_is_made_of() -> None:
    cs = with_movement(grid_of_turns(50, n_ahead=30))
    proposal = fit_proposal(cs)
    terms = proposal.terms(cs)
    assert set(terms) == set(MOVEMENT)
    made = sum(terms[name] * cs.features[name].astype(float) for name in MOVEMENT)
    difference = (proposal.log_probability(cs) - made).reshape(50, 10)
    np.testing.assert_allclose(difference, difference[:, :1] * np.ones(10), atol=1e-6)


def test_share_of_uniform_draws_leaves_no_choice_unlikely() -> None:
    cs = with_movement(grid_of_turns(50, n_ahead=30))
    proposal = fit_proposal(cs)
    mixed = replace(proposal, uniform=0.2)
    q = np.exp(mixed.log_probability(cs))
    np.testing.assert_allclose(q, 0.8 * np.exp(proposal.log_probability(cs)) + 0.2 / 10)
    with pytest.raises(ValueError, match="not linear in features"):
        mixed.terms(cs)
    with pytest.raises(ValueError, match=r"uniform is a share of the draws, in \[0, 1\); got 1"):
        replace(proposal, uniform=1.0)


# ----------------------------------------------------------------------------- draws


def test_choices_are_drawn_as_often_as_the_proposal_says() -> None:
    cs = grid_of_turns(400, n_ahead=200)
    proposal = fit_proposal(cs)
    drawn = draw_random_steps(cs, proposal, k=200, seed=1)
    n_drawn = drawn.n_drawn - drawn.choice_sets.is_selected
    assert n_drawn.sum() == 400 * 200
    share = np.bincount(drawn.choice_sets.choice, n_drawn, 10) / n_drawn.sum()
    q = np.exp(proposal.log_probability(cs))[:10]
    assert np.abs(share - q).max() < 4 * np.sqrt(0.25 / n_drawn.sum())


def test_selected_choice_is_always_there_and_every_choice_once() -> None:
    cs = grid_of_turns(100, n_ahead=40)
    drawn = draw_random_steps(cs, fit_proposal(cs), k=3, seed=0)
    thin = drawn.choice_sets
    np.testing.assert_array_equal(thin.choice[thin.selected], cs.choice[cs.selected])
    assert (thin.n_choices <= 4).all()
    assert len(set(zip(thin.decision_of_row.tolist(), thin.choice.tolist(), strict=True))) == thin.n_rows
    np.testing.assert_array_equal(grouped_sum(drawn.n_drawn, thin.offsets), 4)
    np.testing.assert_allclose(drawn.offset("offset"), np.log(drawn.n_drawn) - drawn.log_q)
    np.testing.assert_array_equal(drawn.offset("none"), np.log(drawn.n_drawn))


def test_equal_seeds_draw_the_same_and_fewer_steps_are_among_more() -> None:
    cs = grid_of_turns(60, n_ahead=30)
    proposal = fit_proposal(cs)
    few, again, many = (draw_random_steps(cs, proposal, k=k, seed=4) for k in (4, 4, 9))
    np.testing.assert_array_equal(few.choice_sets.choice, again.choice_sets.choice)
    pairs = [set(zip(r.choice_sets.decision_of_row, r.choice_sets.choice, strict=True)) for r in (few, many)]
    assert pairs[0] <= pairs[1]
    other = draw_random_steps(cs, proposal, k=4, seed=5)
    assert not np.array_equal(other.choice_sets.choice, few.choice_sets.choice)


def test_nothing_disappears_without_a_line_in_the_ledger() -> None:
    cs = grid_of_turns(50, n_ahead=30)
    unknown = ChoiceSets(cs.decisions, cs.offsets, cs.choice, np.where(np.arange(50) < 5, -1, cs.selected), cs.features)
    drawn = draw_random_steps(unknown, fit_proposal(cs), k=2, features=["distance_km"])
    assert drawn.choice_sets.n_decisions == 45
    assert list(drawn.choice_sets.features) == ["distance_km"]
    assert drawn.ledger.n_dropped("decision") == 5
    assert drawn.ledger.n_dropped("choice") == 500 - drawn.choice_sets.n_rows
    told = set(drawn.ledger.to_frame()["reason"])
    assert told == {"selection unknown", "of a decision with unknown selection", "not drawn"}


def test_errors_say_what_was_expected() -> None:
    cs = grid_of_turns(20, n_ahead=10)
    proposal = fit_proposal(cs)
    with pytest.raises(ValueError, match="k must be 1 or more random steps; got 0"):
        draw_random_steps(cs, proposal, k=0)
    with pytest.raises(ValueError, match="expected two or more moves of training individuals .* got 0 among 20"):
        fit_proposal(grid_of_turns(20, n_ahead=0))
    with pytest.raises(ValueError, match="random steps: expected the column distance_km"):
        fit_proposal(ChoiceSets(cs.decisions, cs.offsets, cs.choice, cs.selected, {}))
    with pytest.raises(ValueError, match=r"the probability to stay must lie in \(0, 1\); got 1"):
        Proposal(GammaSteps(1.0, 1.0), VonMisesTurns(0.0), 1.0)
    with pytest.raises(ValueError, match='correction must be "offset" or "none"'):
        draw_random_steps(cs, proposal, k=1).offset("full")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="expected k and repeats of 1 or more"):
        random_steps_study(cs, cs, ["distance_km"], k=[])


# ----------------------------------------------------------------------------- recovery


def test_offset_gives_the_coefficients_of_all_cells_and_without_it_movement_is_biased() -> None:
    cs = simulate(WORLD, seed=3)
    proposal = fit_proposal(cs)
    full = fit_conditional_logit(cs, FEATURES)
    drawn = draw_random_steps(cs, proposal, k=19, seed=0)
    right = fit_conditional_logit(drawn.choice_sets, FEATURES, offset=drawn.offset("offset"))
    wrong = fit_conditional_logit(drawn.choice_sets, FEATURES, offset=drawn.offset("none"))
    assert drawn.choice_sets.n_rows < cs.n_rows / 2
    for name, one, all_cells, error, biased in zip(FEATURES, right.coef, full.coef, right.se, wrong.coef, strict=True):
        assert abs(one - all_cells) < error, name
        assert abs(one - TRUTH[name]) < 3 * error, name
        if name != "covariate":  # it is hardly related to what was drawn by
            assert abs(biased - TRUTH[name]) > 5 * error, name


def test_offset_is_right_on_average_over_worlds_even_with_few_steps() -> None:
    differences = []
    for seed in range(30):
        cs = simulate(World(n_individuals=10, n_days=40, share_missing=0.0), seed=100 + seed)
        drawn = draw_random_steps(cs, fit_proposal(cs), k=4, seed=seed)
        fit = fit_conditional_logit(drawn.choice_sets, FEATURES, offset=drawn.offset())
        differences.append(fit.coef - [TRUTH[name] for name in FEATURES])
    mean, error = np.mean(differences, axis=0), np.std(differences, axis=0) / np.sqrt(len(differences))
    assert (np.abs(mean) < 3 * error).all()


def test_as_many_draws_as_it_takes_give_the_full_choice_sets_back() -> None:
    cs = simulate(World(n_individuals=3, n_days=30, max_distance_km=60), seed=0)
    drawn = draw_random_steps(cs, Proposal(GammaSteps(2.0, 0.05), VonMisesTurns(0.0), 0.3), k=20_000, seed=0)
    assert drawn.choice_sets.n_rows == cs.n_rows
    fit = fit_conditional_logit(drawn.choice_sets, FEATURES, offset=drawn.offset())
    full = fit_conditional_logit(cs, FEATURES)
    np.testing.assert_allclose(fit.coef, full.coef, atol=0.05 * full.se.max())


# ----------------------------------------------------------------------------- the study


def test_study_judges_every_design_on_the_full_choice_sets() -> None:
    train, validation = with_movement(simulate(WORLD, seed=0)), with_movement(simulate(WORLD, seed=1))
    features = ["distance_km", "log_distance", "stay", "covariate"]
    table, proposal = random_steps_study(train, validation, features, k=[4, 19], repeats=2)
    again, _ = random_steps_study(train, validation, features, k=[4, 19], repeats=2)
    pd.testing.assert_frame_equal(table, again)
    assert proposal == fit_proposal(train)
    summary = summarize(table)
    assert len(summary) == 4 * (1 + 4 * 2)
    of = summary.set_index(["design", "k", "feature"])
    assert of.loc[("full", 0, "stay"), "from_full"] == 0
    d = summary.drop_duplicates(["design", "k"]).set_index(["design", "k"])["log_probability"]
    assert d["offset", 19] == pytest.approx(d["full", 0], abs=0.01)
    assert d["mixed", 19] == pytest.approx(d["full", 0], abs=0.01)
    assert d["updated", 19] == pytest.approx(d["full", 0], abs=0.02)  # the movement terms absorb the proposal
    assert d["none", 19] < d["full", 0] - 0.5
    for name in features:
        assert abs(of.loc[("updated", 19, name), "from_full"]) < 1, name
    assert abs(of.loc[("none", 19, "distance_km"), "from_full"]) > 5
    assert of.loc[("offset", 4, "covariate"), "coef_sd"] > 0


def test_coefficients_of_movement_are_not_updated_by_half() -> None:
    train, validation = simulate(WORLD, seed=0), simulate(WORLD, seed=1)
    table, _ = random_steps_study(train, validation, FEATURES, k=[9], repeats=1)
    of = summarize(table).set_index(["design", "feature"])
    assert np.isnan(of.loc[("updated", "distance_km"), "coef"])
    assert of.loc[("updated", "covariate"), "coef"] == of.loc[("none", "covariate"), "coef"]
    text = format_random_steps(summarize(table))
    lines = text.splitlines()
    assert lines[0].split() == ["design", "k", "choices", "D", "sd"]
    assert [line.split()[:2] for line in lines[1:6]] == [
        ["full", "all"],
        *([name, "9"] for name in ("offset", "mixed", "none", "updated")),
    ]
    assert lines[7].split() == ["coefficient", "design", "k", "=", "9"]
    assert lines[8].startswith("distance_km  full")
    assert lines[12].split()[:4] == ["distance_km", "updated", "-", "(-;"]


# ----------------------------------------------------------------------------- the command


def test_command_writes_the_table_and_prints_it(
    study: Study, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out = tmp_path / "table.csv"
    arguments = {"k": "1,4", "repeats": 2, "uniform": 0.1, "points": False, "seed": 0}
    random_steps_command(study.experiment, "distance_km,stay,sst", out=out, as_json=True, **arguments)
    report = json.loads(capsys.readouterr().out)
    assert report["features"] == ["distance_km", "stay", "sst"]
    assert set(report["proposal"]) == {"steps", "turns", "stay"}
    table = pd.read_csv(out)
    assert set(table["design"]) == {"full", "offset", "mixed", "none", "updated"}
    first = out.read_bytes()
    random_steps_command(study.experiment, "distance_km,stay,sst", out=out, as_json=False, **arguments)
    assert out.read_bytes() == first
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    text = capsys.readouterr().out
    assert "Random steps drawn from a gamma" in text
    assert "offset" in text


def test_command_takes_all_features_that_have_a_coefficient_and_tells_which_have_none(
    study: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    study.edit("depth: {source: elevation, multiply: -1}", "depth: {source: elevation, multiply: -2}")
    study.edit("stay, sst, depth]", "stay, sst, depth, elevation, season_sin]")
    options = {"features": None, "k": "4", "repeats": 1, "uniform": 0.0, "points": False, "seed": 0, "out": None}
    random_steps_command(study.experiment, as_json=True, **options)
    report = json.loads(capsys.readouterr().out)
    assert report["features"][:4] == ["distance_km", "log_distance", "turn_cos", "stay"]
    assert "season_sin" not in report["features"]
    assert len(set(report["left_out"]) & {"depth", "elevation"}) == 1
    assert set(report["left_out"].values()) == {"a linear combination of other features"}
    random_steps_command(study.experiment, as_json=False, **options)
    assert "(a linear combination of other features)" in capsys.readouterr().out


def test_command_draws_random_points_beside_the_cells(study: Study, capsys: pytest.CaptureFixture[str]) -> None:
    options = {"features": "distance_km,stay", "k": "4", "repeats": 2, "uniform": 0.0, "seed": 0, "out": None}
    random_steps_command(study.experiment, points=True, as_json=True, **options)
    points = json.loads(capsys.readouterr().out)["points"]
    names = [row["name"] for row in points if row["part"] == "habitat"]
    assert names == ["elevation", "sst"]
    random_steps_command(study.experiment, points=True, as_json=False, **options)
    assert "Random points in place of cells" in capsys.readouterr().out


def test_command_refuses_what_it_cannot_do_before_reading(study: Study, tmp_path: Path) -> None:
    options = {"features": None, "repeats": 1, "uniform": 0.0, "points": False, "seed": 0, "as_json": False}
    with pytest.raises(ValueError, match="--k expects whole numbers of 1 or more"):
        random_steps_command(study.experiment, k="0,4", out=None, **options)
    with pytest.raises(ValueError, match=r"--out expects a file that ends in \.csv"):
        random_steps_command(study.experiment, k="1", out=tmp_path / "table.json", **options)
    with pytest.raises(FileNotFoundError, match="expected a folder to write"):
        random_steps_command(study.experiment, k="1", out=tmp_path / "nowhere" / "table.csv", **options)


def test_no_features_and_more_steps_than_memory_holds_are_refused() -> None:
    cs = grid_of_turns(40, n_ahead=30)
    with pytest.raises(ValueError, match="expected one feature or more"):
        random_steps_study(cs, cs, [], k=[1], repeats=1)
    with pytest.raises(ValueError, match=r"1,000,000,000 random steps for each of 40 decisions .* up to 1,250,000"):
        random_steps_study(cs, cs, ["stay"], k=[1_000_000_000], repeats=1)
