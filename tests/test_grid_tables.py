"""Tables of a grid: what varies is found, values are in order, and members that diverged stay as infinite losses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tiny import fit

from mimic.grid_tables import MONITOR, chosen_members, hyperparameter_table, random_starts_table
from mimic.registry import Registry

GRID = """
training: {epochs: 1, units: [3], batch_decisions: 64}
grid: {units: [[3], [2, 2]], learning_rate: [0.01], seed: [0, 1]}
models:
  none: {features: []}
  depth: {features: [depth]}
  linear: {kind: conditional_logit, features: [depth]}
"""


def make_members(losses: list[float], **columns: list[object]) -> pd.DataFrame:
    """Members of one model, as `members_table` has them, with parameters before the seed."""
    n = len(losses)
    parameters = {name: values for name, values in columns.items() if name not in ("seed", "model", "status")}
    rows = pd.DataFrame({"model": columns.get("model", ["near"] * n)})
    settings = [",".join(f"{k}={v[i]}" for k, v in parameters.items()) for i in range(n)]
    rows["configuration"] = [f"{m}/{s}" if s else m for m, s in zip(rows["model"], settings, strict=True)]
    rows = rows.assign(**parameters, seed=columns.get("seed", [0] * n))
    rows["member"] = [f"{c},seed={s}" for c, s in zip(rows["configuration"], rows["seed"], strict=True)]
    return rows.assign(status=columns.get("status", ["finished"] * n), **{MONITOR: losses})


def test_values_of_parameters_are_nothing_then_numbers_then_layers_then_text() -> None:
    given = ["24-24-24", "swish", "none", "100", "8", "32-32", "24-8", "1e-05"]
    table = hyperparameter_table(make_members([0.1] * 8, units=given))
    ordered = table.sort_values("order")["value"].tolist()
    assert ordered == ["none", "1e-05", "8", "100", "24-8", "32-32", "24-24-24", "swish"]
    assert sorted(table["order"]) == list(range(8))
    assert table["value"].tolist() == given


def test_numbers_missing_values_and_booleans_become_text() -> None:
    members = make_members([0.1] * 4, plateau=[None, 5.0, 10.0, np.nan], redraw=[True, False, True, False])
    table = hyperparameter_table(members.assign(seed=range(4)))
    values = table.groupby("parameter", sort=False)["value"].agg(list)
    assert values["plateau"] == ["none", "5", "10", "none"]
    assert values["redraw"] == ["true", "false", "true", "false"]
    assert table.loc[table["parameter"] == "plateau", "order"].tolist() == [0, 1, 2, 0]


def test_only_what_varies_within_a_model_is_a_hyperparameter_of_it_and_the_seed_never_is() -> None:
    members = make_members(
        [0.4, 0.3, 0.2, 0.1],
        model=["near", "near", "far", "far"],
        units=["8", "16", "8", "8"],
        loss=["exact", "exact", "softmax", "softmax"],
        seed=[0, 0, 0, 1],
    )
    table = hyperparameter_table(members)
    assert table[["model", "parameter"]].drop_duplicates().to_numpy().tolist() == [["near", "units"]]
    assert table["loss"].tolist() == [0.4, 0.3]
    none = hyperparameter_table(members.iloc[2:])
    assert none.empty
    assert list(none.columns) == ["model", "parameter", "value", "order", "seed", "loss"]


def test_orders_are_shared_by_the_models() -> None:
    members = make_members([0.1] * 4, model=["a", "a", "b", "b"], rate=[0.1, 0.3, 0.2, 0.3])
    assert hyperparameter_table(members)["order"].tolist() == [0, 2, 1, 2]


def test_members_that_diverged_stay_with_an_infinite_loss() -> None:
    statuses = ["finished", "diverged", "finished", "failed"]
    members = make_members([0.1, 0.2, np.nan, np.inf], rate=[1, 2, 3, 4], status=statuses)
    assert hyperparameter_table(members)["loss"].tolist() == [0.1, np.inf, np.inf, np.inf]


def test_random_starts_are_sorted_with_the_percentiles_worked_out_by_hand() -> None:
    # 0.1 ... 1.1 in steps of 0.1: the median is the 6th, the 90th percentile the 10th of 11 values
    losses = np.round(0.1 * np.arange(11, 0, -1), 1).tolist()
    table = random_starts_table(make_members(losses, seed=list(range(11))))
    assert table["rank"].tolist() == list(range(1, 12))
    assert table["loss"].tolist() == losses[::-1]
    assert table["seed"].tolist() == list(range(10, -1, -1))
    assert set(table["configuration"]) == {""}
    first = table.iloc[0]
    assert (first["min"], first["median"], first["p90"]) == pytest.approx((0.1, 0.6, 1.0))
    assert first["spread"] == pytest.approx(0.9)
    assert (first["n_seeds"], first["n_diverged"]) == (11, 0)


def test_configurations_keep_their_order_and_a_configuration_that_diverged_has_no_spread() -> None:
    members = make_members(
        [np.nan, np.nan, 0.3, 0.2],
        units=["9", "9", "2", "2"],
        seed=[0, 1, 0, 1],
        status=["diverged"] * 2 + ["finished"] * 2,
    )
    table = random_starts_table(members)
    assert table["configuration"].tolist() == ["units=9"] * 2 + ["units=2"] * 2
    assert table["loss"].tolist() == [np.inf, np.inf, 0.2, 0.3]
    assert table["seed"].tolist() == [0, 1, 1, 0]
    assert table["n_diverged"].tolist() == [2, 2, 0, 0]
    assert np.isnan(table["spread"].iloc[0])
    assert np.isinf(table["p90"].iloc[0])
    assert table["spread"].iloc[2] == pytest.approx(0.09)  # p90 of two values lies 0.9 of the way


def test_equal_settings_of_two_models_are_two_configurations() -> None:
    members = make_members([0.4, 0.2], model=["a", "b"], units=["9", "9"])
    table = random_starts_table(members)
    assert table[["model", "configuration", "min"]].to_numpy().tolist() == [
        ["a", "units=9", 0.4],
        ["b", "units=9", 0.2],
    ]


def test_members_of_a_real_grid_and_its_registry_give_the_same_tables(tmp_path: Path) -> None:
    _, found = fit(tmp_path, GRID)
    path = tmp_path / "members.csv"
    found.members.to_csv(path, index=False)
    members = pd.read_csv(path)
    runs = Registry(tmp_path / "registry", create=False).runs()
    keys = ["model", "parameter", "value", "seed", "loss"]
    tables = [hyperparameter_table(table).sort_values(keys).reset_index(drop=True) for table in (members, runs)]
    pd.testing.assert_frame_equal(tables[0], tables[1], check_dtype=False)
    assert len(tables[0]) == 4  # the members of depth; the linear model has no parameters
    assert set(tables[0]["parameter"]) == {"units"}  # the only learning rate does not vary
    assert tables[0]["value"].tolist() == ["2-2", "2-2", "3", "3"]
    numbers = ["min", "median", "p90", "spread"]
    starts = [random_starts_table(table) for table in (members, runs)]
    for own in starts:
        spread = own[own["model"] == "depth"].drop_duplicates("configuration")
        expected = found.selection[found.selection["model"] == "depth"]
        by_min = [table.sort_values("min")[numbers].to_numpy() for table in (spread, expected)]
        np.testing.assert_allclose(*by_min)
    assert chosen_members(members, found.runs) == {"depth": found.chosen["depth"], "linear": "linear"}


@pytest.mark.parametrize("table", [hyperparameter_table, random_starts_table])
def test_what_cannot_be_compared_is_refused(table: object) -> None:
    assert callable(table)
    members = make_members([0.1, 0.2], rate=[1, 2])
    with pytest.raises(ValueError, match="the table of members: expected the columns seed, other; got model"):
        table(members.drop(columns="seed"), monitor="other")
    with pytest.raises(ValueError, match="expected at least one member of a grid; got an empty table"):
        table(members.iloc[:0])
    with pytest.raises(ValueError, match=r"runs of near were trained on 2 data sets. Take the runs of one experiment"):
        table(members.assign(data=["one", "other"]))
    with pytest.raises(ValueError, match="not known which columns are hyper-parameters"):
        table(members.drop(columns="configuration"))
    runs = members.drop(columns="configuration").assign(rate=1)
    with pytest.raises(ValueError, match="model near has several runs of the same parameters and seed"):
        table(runs, parameters=["rate"])


def test_random_starts_that_all_diverged_and_unknown_runs_are_refused() -> None:
    members = make_members([np.nan, np.nan], rate=[1, 2])
    with pytest.raises(ValueError, match="2 members, of which all diverged"):
        random_starts_table(members)
    with pytest.raises(ValueError, match="expected the runs of these 2 members; f00 is none of them"):
        chosen_members(members.assign(run=["a", "b"]), {"near": ["f00"], "near_seeds": ["a", "b"]})
