"""Stay shares: counts, the binomial mixture and the test of one common share by hand and against SciPy."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from explained import rows
from scipy import stats

from mimic.schema import ChoiceSets
from mimic.stay_shares import (
    DISTRIBUTION_COLUMNS,
    HOMOGENEITY_COLUMNS,
    STAY_COLUMNS,
    stay_distribution,
    stay_homogeneity,
    stay_shares,
    stays_and_stayed,
)


def shares_of(n_decisions: list[int], n_stay: list[int], split: str = "all") -> pd.DataFrame:
    names = [f"a{k}" for k in range(len(n_stay))]
    table = pd.DataFrame({"split": split, "individual": names, "n_decisions": n_decisions, "n_stay": n_stay})
    return table.assign(share=table["n_stay"] / table["n_decisions"].where(table["n_decisions"] > 0))


def test_only_decisions_that_can_stay_and_are_known_count() -> None:
    # a: stays, moves, unknown, has no stay to select; b: moves; c: has no stay
    cs = rows({"stay": np.array([1, 0] * 3 + [0, 0] + [1, 0] + [0, 0])}, [2] * 6, ["a"] * 4 + ["b", "c"])
    cs = ChoiceSets(cs.decisions, cs.offsets, cs.choice, np.array([0, 3, -1, 6, 9, 10]), cs.features)
    table = stay_shares(cs)
    assert list(table) == STAY_COLUMNS
    assert table[["individual", "n_decisions", "n_stay"]].values.tolist() == [["a", 2, 1], ["b", 1, 0], ["c", 0, 0]]
    assert table["share"].tolist()[:2] == [0.5, 0.0]
    assert np.isnan(table["share"].iloc[2])
    stays, stayed = stays_and_stayed(cs)
    assert stays.tolist() == [True, False] * 3 + [False] * 2 + [True, False] + [False] * 2
    np.testing.assert_array_equal(stayed, [1, 0, np.nan, np.nan, 0, np.nan])
    np.testing.assert_array_equal(stays_and_stayed(cs, np.zeros(12, dtype=bool))[1], [np.nan] * 6)


def test_splits_are_together_unless_asked_for() -> None:
    cs = rows({"stay": np.array([1, 0] * 3)}, [2] * 3, ["a", "a", "b"], split=["train", "train", "validation"])
    assert stay_shares(cs)["split"].tolist() == ["all", "all"]
    assert stay_shares(cs, splits=None)["split"].tolist() == ["train", "validation"]
    with pytest.raises(ValueError, match="unknown split test; known are train, validation"):
        stay_shares(cs, splits=["test"])


def test_choices_that_do_not_say_what_is_to_stay_are_refused() -> None:
    with pytest.raises(ValueError, match="do not say which choice is to stay: expected a feature stay or distance_km"):
        stay_shares(rows({}, [2, 2], ["a", "b"]))


def test_homogeneity_is_the_chi_square_test_of_a_table_of_stays_and_moves() -> None:
    n, k = np.array([40, 55, 30, 80]), np.array([10, 30, 9, 44])
    row = stay_homogeneity(shares_of(n.tolist(), k.tolist())).iloc[0]
    known = stats.chi2_contingency(np.array([k, n - k]), correction=False)
    assert row["chi_square"] == pytest.approx(known.statistic)
    assert row["degrees_of_freedom"] == known.dof == 3
    assert row["p_homogeneity"] == pytest.approx(known.pvalue)
    assert row["overdispersion"] == pytest.approx(known.statistic / 3)
    assert (row["n_individuals"], row["n_decisions"], row["note"]) == (4, 205, "")
    assert row["pooled_share"] == pytest.approx(93 / 205)


def test_one_common_share_has_overdispersion_near_one_and_different_ones_more() -> None:
    rng = np.random.default_rng(0)
    n = rng.integers(50, 400, size=300)
    alike = stay_homogeneity(shares_of(n.tolist(), rng.binomial(n, 0.3).tolist())).iloc[0]
    assert alike["overdispersion"] == pytest.approx(1, abs=4 * np.sqrt(2 / 299))
    assert alike["p_homogeneity"] > 0.001
    # the share of each drawn from beta(6, 14): variance 0.3 x 0.7 / 21, so 1 + (n - 1) / 21 times that of one share
    own = rng.beta(6, 14, size=300)
    different = stay_homogeneity(shares_of(n.tolist(), rng.binomial(n, own).tolist())).iloc[0]
    assert different["overdispersion"] == pytest.approx(1 + (n.mean() - 1) / 21, rel=0.25)
    assert different["p_homogeneity"] < 1e-6


@pytest.mark.parametrize(("n", "k"), [([30], [10]), ([30, 20], [0, 0]), ([30, 20], [30, 20]), ([30, 0], [10, 0])])
def test_without_two_individuals_or_any_variance_there_is_no_test(n: list[int], k: list[int]) -> None:
    row = stay_homogeneity(shares_of(n, k)).iloc[0]
    assert np.isnan([row["chi_square"], row["overdispersion"], row["p_homogeneity"]]).all()
    assert row["note"] == ""


def test_few_expected_stays_or_moves_are_noted() -> None:
    assert stay_homogeneity(shares_of([20, 20], [1, 2])).iloc[0]["note"] == "few expected stays"
    assert stay_homogeneity(shares_of([20, 20], [19, 18])).iloc[0]["note"] == "few expected moves"
    assert stay_homogeneity(shares_of([200, 200], [100, 90])).iloc[0]["note"] == ""


def test_expected_numbers_are_binomial_and_observed_ones_counted() -> None:
    table = stay_distribution(shares_of([4, 10, 0], [1, 6, 0]), n_bins=4)
    assert list(table) == DISTRIBUTION_COLUMNS
    p = 7 / 14
    # quarters of 4 decisions: 0 | 1 | 2 | 3, 4; of 10: 0 to 2 | 3, 4 | 5 to 7 | 8 to 10
    four, ten = stats.binom.pmf(np.arange(5), 4, p), stats.binom.pmf(np.arange(11), 10, p)
    parts = [
        four[0] + ten[:3].sum(),
        four[1] + ten[3:5].sum(),
        four[2] + ten[5:8].sum(),
        four[3:].sum() + ten[8:].sum(),
    ]
    assert table["expected"].to_numpy() == pytest.approx(parts)
    assert table["observed"].tolist() == [0, 1, 1, 0]
    pd.testing.assert_frame_equal(
        table[HOMOGENEITY_COLUMNS].head(1), stay_homogeneity(shares_of([4, 10, 0], [1, 6, 0])), check_dtype=False
    )


def test_expected_numbers_add_up_and_have_the_pooled_mean() -> None:
    table = stay_distribution(shares_of([500, 3000, 17], [100, 900, 3]), n_bins=1000)
    assert table["expected"].sum() == pytest.approx(3)
    middle = (table["share_low"] + table["share_high"]) / 2
    assert np.average(middle, weights=table["expected"]) == pytest.approx(1003 / 3517, abs=0.001)


def test_a_share_on_an_edge_belongs_to_the_bin_above_it_whatever_its_rounding() -> None:
    # 3 / 10 and 0.3 = 6 x 0.05 are different floating-point numbers
    table = stay_distribution(shares_of([10, 10, 20, 20], [3, 7, 0, 20]), n_bins=20)
    assert np.flatnonzero(table["observed"]).tolist() == [0, 6, 14, 19]


def test_all_or_none_that_stay_are_expected_to() -> None:
    none = stay_distribution(shares_of([5, 9], [0, 0]), n_bins=2)
    assert none["expected"].tolist() == [2, 0]
    every = stay_distribution(shares_of([5, 9], [5, 9]), n_bins=2)
    assert every["expected"].tolist() == [0, 2]


def test_splits_have_their_own_rows_and_none_without_decisions() -> None:
    both = pd.concat([shares_of([10, 10], [2, 8], "train"), shares_of([10, 10], [5, 5], "validation")])
    table = stay_distribution(both, n_bins=5)
    assert table["split"].value_counts().to_dict() == {"train": 5, "validation": 5}
    assert table.groupby("split")["overdispersion"].first().to_dict() == pytest.approx({"train": 7.2, "validation": 0})
    empty = stay_distribution(shares_of([0, 0], [0, 0]))
    assert empty.empty
    assert list(empty) == DISTRIBUTION_COLUMNS


def test_bad_bins_and_tables_are_told() -> None:
    with pytest.raises(ValueError, match="n_bins must be 1 or more; got 0"):
        stay_distribution(shares_of([5, 9], [0, 0]), n_bins=0)
    with pytest.raises(ValueError, match="stay shares: expected the columns n_decisions, n_stay"):
        stay_homogeneity(pd.DataFrame({"split": [], "individual": []}))
