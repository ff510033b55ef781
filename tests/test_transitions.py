"""Transitions: rows are origins and sum to one, in memory and in files; a transposed matrix is refused by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy import sparse

from mimic.schema import ChoiceSets
from mimic.transitions import (
    TransitionMatrix,
    check_transitions,
    read_transitions,
    to_transition_array,
    to_transition_matrix,
    transition_table,
    write_transitions,
)

CELLS = np.array([595200000000000001, 595200000000000002, 595200000000000003])  # too large for a float64


def study() -> tuple[np.ndarray, ChoiceSets]:
    """Cell 1 leads to 1 and 2 (odds 1 : 3), cell 2 in one decision to 2 and 3 (1 : 1), in another to 2 alone."""
    decisions = pd.DataFrame({"individual": "a", "decision": [1, 2, 3], "origin": CELLS[[0, 1, 1]]})
    cs = ChoiceSets(decisions, [0, 2, 4, 5], CELLS[[0, 1, 1, 2, 1]], [-1, -1, -1])
    return np.log([1.0, 3.0, 2.0, 2.0, 7.0]), cs


def lopsided() -> pd.DataFrame:
    """Three origins that all tend to the first cell: columns do not sum to 1."""
    p = np.array([[0.8, 0.1, 0.1], [0.7, 0.3, 0.0], [0.6, 0.0, 0.4]])
    row, column = np.nonzero(p)
    return pd.DataFrame({"origin": CELLS[row], "choice": CELLS[column], "probability": p[row, column]})


def swapped(table: pd.DataFrame) -> pd.DataFrame:
    return table.rename(columns={"origin": "choice", "choice": "origin"})


def test_probabilities_by_hand_are_means_over_the_decisions_of_an_origin() -> None:
    table = transition_table(*study())
    assert table["origin"].tolist() == CELLS[[0, 0, 1, 1]].tolist()
    assert table["choice"].tolist() == CELLS[[0, 1, 1, 2]].tolist()
    assert table["probability"].tolist() == pytest.approx([0.25, 0.75, 0.75, 0.25])
    assert table["n_decisions"].tolist() == [1, 1, 2, 2]
    assert table["origin"].dtype == np.int64


def test_matrix_and_array_have_origins_as_rows() -> None:
    table = transition_table(*study())
    expected = [[0.25, 0.75, 0], [0, 0.75, 0.25]]
    matrix = to_transition_matrix(table)
    np.testing.assert_allclose(matrix.probability.toarray(), expected)
    assert matrix.origins.tolist() == CELLS[:2].tolist()
    assert matrix.choices.tolist() == CELLS.tolist()
    array = to_transition_array(table)
    assert array.dims == ("origin", "choice")
    np.testing.assert_allclose(array.sel(origin=CELLS[1], choice=CELLS[2]), 0.25)
    np.testing.assert_allclose(array.sum("choice"), 1)


def test_transposed_transition_matrix_is_refused_by_name() -> None:
    table = lopsided()
    p = to_transition_array(table).to_numpy()
    check_transitions(table)
    check_transitions(p)
    transposed = (swapped(table), p.T, sparse.csr_array(p.T), xr.DataArray(p, dims=("choice", "origin")))
    for wrong in transposed:
        with pytest.raises(
            ValueError, match=r"transposed: columns \(choices\) sum to 1, and rows \(origins\) to 0.4 to 2"
        ):
            check_transitions(wrong)
    # the dimensions have names: their order does not matter
    check_transitions(xr.DataArray(p.T, dims=("choice", "origin")))
    with pytest.raises(ValueError, match="transposed"):
        TransitionMatrix(sparse.csr_array(p.T), CELLS, CELLS)
    with pytest.raises(
        ValueError, match=r"expected a matrix \(origin, choice\) = \(2, 3\); got \(3, 2\). It is transposed"
    ):
        TransitionMatrix(sparse.csr_array(np.full((3, 2), 0.5)), CELLS[:2], CELLS)


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".nc"])
def test_files_keep_the_orientation_and_refuse_a_transposed_one(tmp_path: Path, suffix: str) -> None:
    table = lopsided()
    path = write_transitions(table, tmp_path / f"matrix{suffix}")
    back = read_transitions(path)
    pd.testing.assert_frame_equal(back, table.sort_values(["origin", "choice"], ignore_index=True), check_exact=True)
    if suffix == ".nc":
        wrong = to_transition_array(table).to_numpy()
        labels = {"choice": CELLS, "origin": CELLS}
        file = xr.DataArray(wrong, coords=labels, dims=("choice", "origin"), name="probability").to_dataset()
        file.to_netcdf(tmp_path / f"wrong{suffix}", engine="h5netcdf")
    else:
        swapped(table).to_csv(tmp_path / f"wrong{suffix}", index=False)
    with pytest.raises(ValueError, match="transposed"):
        read_transitions(tmp_path / f"wrong{suffix}")
    with pytest.raises(ValueError, match="transposed"):
        write_transitions(swapped(table), tmp_path / f"never{suffix}")
    assert not (tmp_path / f"never{suffix}").exists()


def test_netcdf_with_exchanged_dimensions_reads_the_same(tmp_path: Path) -> None:
    array = to_transition_array(lopsided()).transpose("choice", "origin")
    array.to_dataset().to_netcdf(tmp_path / "exchanged.nc", engine="h5netcdf")
    found = read_transitions(tmp_path / "exchanged.nc")
    pd.testing.assert_frame_equal(found, lopsided().sort_values(["origin", "choice"], ignore_index=True))


def test_labels_of_text_stay_text(tmp_path: Path) -> None:
    table = pd.DataFrame({"origin": ["07", "7"], "choice": ["7", "07"], "probability": [1.0, 1.0]})
    back = read_transitions(write_transitions(table, tmp_path / "bins.csv"))
    assert back[["origin", "choice"]].to_numpy().tolist() == [["07", "7"], ["7", "07"]]


def test_wrong_sums_and_numbers_are_told() -> None:
    with pytest.raises(ValueError, match=r"1 of 2 do not \(sums 0.5 to 1\). Are choices missing, or are these odds?"):
        check_transitions(np.array([[0.25, 0.25], [0.5, 0.5]]))
    with pytest.raises(ValueError, match="finite and 0 or more; 1 of 2 are not"):
        check_transitions(np.array([[-1.0, 2.0]]))
    with pytest.raises(ValueError, match="1 transitions are there twice"):
        check_transitions(pd.concat([lopsided(), lopsided().head(1)]))
    with pytest.raises(ValueError, match="expected the column probability"):
        check_transitions(lopsided().drop(columns="probability"))
    with pytest.raises(ValueError, match="expected the dimensions origin and choice; got x, y"):
        check_transitions(xr.DataArray(np.eye(2), dims=("x", "y")))
    with pytest.raises(ValueError, match="ends in .csv, .csv.gz or .nc; got matrix.txt"):
        write_transitions(lopsided(), "matrix.txt")
    with pytest.raises(ValueError, match="ends in .csv, .csv.gz or .nc; got matrix.txt"):
        read_transitions("matrix.txt")


def test_decisions_without_origin_and_bad_log_odds_are_refused() -> None:
    phi, cs = study()
    bare = ChoiceSets(cs.decisions.drop(columns="origin"), cs.offsets, cs.choice, cs.selected)
    with pytest.raises(ValueError, match="expected the column origin"):
        transition_table(phi, bare)
    gaps = cs.with_context(origin=cs.decisions["origin"].astype("Int64").where([True, False, True]))
    with pytest.raises(ValueError, match="1 decisions have no origin"):
        transition_table(phi, gaps)
    with pytest.raises(ValueError, match="must have shape"):
        transition_table(phi[:2], cs)


def test_array_that_no_memory_holds_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mimic.transitions._MOST_ENTRIES", 8)
    with pytest.raises(ValueError, match="3 origins x 3 choices are 9 entries, too many"):
        to_transition_array(lopsided())


def test_rows_of_any_choice_sets_sum_to_one() -> None:
    rng = np.random.default_rng(0)
    sizes = rng.integers(1, 9, 200)
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    choice = np.concatenate([rng.permutation(20)[:n] for n in sizes])
    decisions = pd.DataFrame({"individual": "a", "decision": np.arange(200), "origin": rng.integers(0, 20, 200)})
    cs = ChoiceSets(decisions, offsets, choice, np.full(200, -1))
    table = transition_table(rng.normal(size=offsets[-1]) * 30, cs)
    np.testing.assert_allclose(table.groupby("origin")["probability"].sum(), 1, atol=1e-12)
    check_transitions(table)
    assert not table.duplicated(["origin", "choice"]).any()
