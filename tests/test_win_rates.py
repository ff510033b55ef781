"""Win rates: contrasts counted by hand, sums that are the contrast loss, and the pair that a model gets wrong."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest

from mimic.contrasts import contrast_loss, exact_contrasts
from mimic.ideal import ideal_losses
from mimic.schema import ChoiceSets
from mimic.win_rates import WIN_COLUMNS, describe_bins, format_win_rates, win_rates


def ragged(seed: int = 0, n_decisions: int = 800) -> ChoiceSets:
    """Sets of 1 to 7 choices of 8 individuals; x is 0, 1, 2 or 3 and 1 is liked most. Some selections are unknown."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 8, n_decisions)
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    x = rng.integers(0, 4, offsets[-1])
    utility = -0.9 * (x - 1.0) ** 2 + rng.gumbel(size=len(x))
    selected = np.array([a + utility[a:b].argmax() for a, b in itertools.pairwise(offsets)])
    selected[::13] = -1
    individual = rng.integers(0, 8, n_decisions)
    split = np.where(individual < 3, "validation", "train")
    decisions = pd.DataFrame({"individual": individual.astype(str), "decision": np.arange(n_decisions), "split": split})
    return ChoiceSets(decisions, offsets, np.arange(offsets[-1]), selected, {"x": x, "noise": rng.normal(size=len(x))})


CS = ragged()
X = CS.features["x"].astype(float)
MODELS = {"none": np.zeros(CS.n_rows), "line": -0.6 * X, "hill": -0.9 * (X - 1) ** 2}


def test_contrasts_by_hand_are_counted_and_weighed() -> None:
    # Choices 0, 1, 1 with a 1 selected; 0, 1 with 0 selected; each decision weighs 1/2.
    # 0 against 1: lost with 1/4 (one of two alternatives), won with 1/2; 1 against 1: 1/4.
    decisions = pd.DataFrame({"individual": "a", "decision": [1, 2]})
    cs = ChoiceSets(decisions, [0, 3, 5], [1, 2, 3, 1, 2], [1, 3], {"x": [0.0, 1.0, 1.0, 0.0, 1.0]})
    model = np.log([1.0, 3.0, 3.0, 1.0, 3.0])
    table = win_rates({"m": model}, cs, ["x"]).set_index(["bin_a", "bin_b"])
    assert table["n_contrasts"].to_dict() == {(0, 1): 2, (1, 1): 1}
    assert table["weight"].to_dict() == {(0, 1): pytest.approx(0.75), (1, 1): pytest.approx(0.25)}
    assert table["observed"].to_dict() == {(0, 1): pytest.approx(2 / 3), (1, 1): 0.5}
    assert table["predicted"].to_dict() == {(0, 1): pytest.approx(1 / 4), (1, 1): 0.5}
    assert table["ideal"].to_dict() == {(0, 1): pytest.approx(2 / 3, abs=1e-6), (1, 1): 0.5}
    assert 0.5 < table.loc[(0, 1), "penalized"] < 2 / 3
    by_hand = 0.25 * np.log(4 / 3) + 0.5 * np.log(4)
    assert table.loc[(0, 1), "loss"] == pytest.approx(by_hand)
    assert table.loc[(0, 1), "loss_left"] == pytest.approx(by_hand + 0.5 * np.log(2 / 3) + 0.25 * np.log(1 / 3))
    assert table.loc[(1, 1), "loss"] == pytest.approx(0.25 * np.log(2))
    assert table.loc[(1, 1), "loss_left"] == pytest.approx(0, abs=1e-12)
    assert table.loc[(0, 1), ["a", "b"]].tolist() == ["x = 0", "x = 1"]


def test_pairs_sum_to_the_contrast_loss_of_the_model_and_of_the_ideal_table() -> None:
    table = win_rates(MODELS, CS, ["x"])
    assert list(table.columns) == WIN_COLUMNS
    for split in ("train", "validation"):
        part = CS.split(split)
        own = np.repeat((CS.decisions["split"] == split).to_numpy(), CS.n_choices)
        for model, phi in MODELS.items():
            rows = table[(table["model"] == model) & (table["split"] == split)]
            assert rows["weight"].sum() == pytest.approx(1)
            assert rows["loss"].sum() == pytest.approx(contrast_loss(phi[own], part, exact_contrasts(part)))
            assert rows["loss_ideal"].sum() == pytest.approx(ideal_losses(part, ["x"], penalty=0).contrast, abs=1e-8)
            assert rows["loss_left"].sum() > 0
            assert rows["n_contrasts"].sum() == (exact_contrasts(part) > 0).sum()
            assert (rows["loss_left"].diff().dropna() <= 0).all()


def test_pair_that_a_model_gets_wrong_comes_first() -> None:
    # A line that falls from 0 cannot know that 1 beats 0; the hill knows all.
    table = win_rates(MODELS, CS, ["x"], splits=["all"])
    line = table[table["model"] == "line"].iloc[0]
    assert (line["a"], line["b"]) == ("x = 0", "x = 1")
    assert line["observed"] < 0.5 < line["predicted"]
    hill = table[table["model"] == "hill"]
    assert hill["loss_left"].max() < line["loss_left"] / 20
    assert (hill["difference"].abs() < 0.06).all()


def test_bins_are_the_same_for_all_splits_and_a_group_has_its_own_contrasts() -> None:
    table = win_rates(MODELS, CS, ["noise"], max_bins=5)
    names = table.groupby("split")["a"].agg(lambda names: set(names))
    assert names["train"] & names["validation"] == names["validation"]
    one = win_rates(MODELS, CS, ["x"], behavior_group="individual == '3'", splits=["all"])
    alone = CS.filter(CS.individuals == "3")
    assert one[one["model"] == "none"]["n_contrasts"].sum() == (exact_contrasts(alone) > 0).sum()
    assert len(win_rates(MODELS, CS, ["x"], behavior_group="individual == 'nobody'")) == 0
    assert len(win_rates(MODELS, CS, ["x"], behavior_group="n_choices == 1")) == 0


def test_names_tell_ranges_and_leave_out_what_does_not_differ() -> None:
    cs = CS.with_features({"same": np.ones(CS.n_rows)})
    bins = (cs.features["x"] > 1).astype(int)
    assert describe_bins(cs, ["x", "same"], bins).tolist() == ["x 0 to 1", "x 2 to 3"]
    assert describe_bins(cs, ["same"], np.zeros(cs.n_rows, int)).tolist() == ["all choices"]


def test_text_shows_the_worst_pairs_of_each_model() -> None:
    lines = format_win_rates(win_rates(MODELS, CS, ["x"], splits=["all"]), n_rows=2).splitlines()
    assert len(lines) == 1 + 2 * 3
    assert lines[3].startswith("line")
    assert "x = 0" in lines[3]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features": ["depth"]}, "expected the column depth"),
        ({"max_bins": 0}, "max_bins must be 1 or more"),
        ({"log_odds": {"m": np.zeros(3)}}, "model m must have shape"),
        ({"log_odds": {"m": np.where(np.arange(CS.n_rows) == 3, -np.inf, 0)}}, "model m must be finite here"),
        ({"choice_sets": CS.with_features({"x": np.where(X > 1, np.nan, X)})}, "NaN or infinity in x"),
    ],
)
def test_wrong_arguments_are_named(change: dict[str, object], message: str) -> None:
    given: dict[str, object] = {"log_odds": MODELS, "choice_sets": CS, "features": ["x"], **change}
    with pytest.raises(ValueError, match=message):
        win_rates(**given)  # type: ignore[arg-type]
