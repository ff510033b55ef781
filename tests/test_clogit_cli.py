"""The command `mimic clogit`: the reference numbers from files, its JSON, its text, and what it refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import typer
from conftest import reference_table

from mimic.clogit_cli import clogit_command
from mimic.longtable import read_long_table
from mimic.schema import ChoiceSets
from mimic.tables import from_table, save_choices

Clogit = Callable[..., str]

PROMISED = [
    *("coef", "se", "robust_se", "cluster_robust_se", "log_likelihood", "null_log_likelihood"),
    *("gmp", "null_gmp", "n_decisions", "n_rows"),
]


@pytest.fixture
def clogit(capsys: pytest.CaptureFixture[str]) -> Clogit:
    """The command in this process: what it prints; its errors as they are."""
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command("clogit")(clogit_command)

    def call(*arguments: object) -> str:
        capsys.readouterr()
        app([str(a) for a in arguments], standalone_mode=False)
        return capsys.readouterr().out

    return call


def table(n_decisions: int = 200) -> pd.DataFrame:
    """Five fish among three cells each."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n_decisions, 3))
    chosen = (x + rng.gumbel(size=x.shape)).argmax(axis=1)
    return pd.DataFrame(
        {
            "individual": np.repeat([f"{i % 5:03d}" for i in range(n_decisions)], 3),
            "decision": np.repeat(np.arange(n_decisions), 3),
            "choice": np.tile([1, 2, 3], n_decisions),
            "selected": (np.arange(3) == chosen[:, None]).astype(int).ravel(),
            "x": x.ravel(),
            "colony": np.repeat(np.arange(n_decisions) % 12, 3),
            "night": np.repeat(np.arange(n_decisions) % 2, 3),
            "times": np.repeat(np.arange(n_decisions) % 3, 3),
            "minus_ln_q": rng.uniform(size=3 * n_decisions),
        }
    )


def check(found: dict[str, Any], known: dict[str, Any]) -> None:
    for name in ("coef", "se", "cluster_robust_se"):
        if name in known:
            rel = 1e-6 if name == "coef" else 1e-5
            assert list(found[name].values()) == pytest.approx(list(known[name].values()), rel=rel)
    for name in ("log_likelihood", "null_log_likelihood"):
        assert found[name] == pytest.approx(known[name], abs=1e-6)
    for name in ("gmp", "null_gmp"):
        assert found[name] == pytest.approx(known[name], rel=1e-9)
    assert (found["n_decisions"], found["n_rows"]) == (known["n_decisions"], known["n_rows"])


@pytest.mark.parametrize("key", ["logan", "mode_canada", "mtc_work", "wildboar_habitat"])
def test_reference_tables_give_the_reference_numbers(shared: Path, clogit: Clogit, key: str) -> None:
    known, _ = reference_table(shared, key)
    file, names = shared / "reference" / known["file"], list(known["coef"])
    found = json.loads(clogit(file, "--features", ",".join(names), "--cluster", "individual", "--json"))
    assert list(found)[:4] == PROMISED[:4]
    assert set(PROMISED) <= set(found)
    assert list(found["coef"]) == list(found["se"]) == list(found["robust_se"]) == names
    check(found, known)


def test_movement_of_wild_boars_is_derived_by_a_formula(shared: Path, clogit: Clogit) -> None:
    known, _ = reference_table(shared, "wildboar_habitat_movement")
    formula = "dtw + imp + hab + step_length_m/1000 + log(step_length_m) + cos(turn_angle_rad)"
    found = json.loads(clogit(shared / "reference" / known["file"], "--formula", formula, "--json"))
    check(found, known)
    assert found["balanced_gmp"] == pytest.approx(known["gmp_balanced_by_individual"], rel=1e-9)
    assert (found["n_clusters"], found["interval_kind"]) == (8, "cluster")


def test_a_category_of_choices_is_the_constants_of_alternatives(shared: Path, clogit: Clogit) -> None:
    known, _ = reference_table(shared, "mtc_work")
    formula = "totcost + tottime + C(choice) + hhinc:C(choice)"
    check(json.loads(clogit(shared / "reference" / known["file"], "--formula", formula, "--json")), known)


def test_table_on_the_terminal_has_the_facts(tmp_path: Path, clogit: Clogit) -> None:
    table().to_csv(tmp_path / "fish.csv.gz", index=False)
    text = clogit(tmp_path / "fish.csv.gz", "--features", "x")
    for word in (
        "200 (5 individuals), 600 choices",
        "LR chi2",
        "McFadden",
        "cluster_robust_se",
        "rest on few individuals",
    ):
        assert word in text


def test_options_are_those_of_the_fit(tmp_path: Path, clogit: Clogit) -> None:
    table().rename(columns={"individual": "fish"}).to_parquet(tmp_path / "fish.parquet")

    def found(*options: str) -> dict[str, Any]:
        call = clogit(tmp_path / "fish.parquet", "--features", "x", "--column", "individual=fish", "--json", *options)
        result: dict[str, Any] = json.loads(call)
        return result

    plain = found()
    assert found("--cluster", "individual") == plain
    assert found("--cluster", "colony")["n_clusters"] == 12
    assert found("--cluster", "colony")["coef"] == plain["coef"]
    assert found("--weights", "times")["total_weight"] == 199
    assert found("--weights", "times")["n_decisions"] == 133
    assert found("--weighting", "individual")["weighting"] == "individual"
    assert found("--offset", "minus_ln_q")["null_log_likelihood"] != plain["null_log_likelihood"]


def test_one_individual_has_no_cluster_robust_errors(tmp_path: Path, clogit: Clogit) -> None:
    table().assign(individual="a").to_csv(tmp_path / "one.csv", index=False)
    found = json.loads(clogit(tmp_path / "one.csv", "--features", "x", "--json"))
    assert found["cluster_robust_se"] == {"x": None}
    assert found["interval_kind"] == "hessian"


def test_folder_of_a_run_or_of_choice_sets_is_a_table_too(tmp_path: Path, clogit: Clogit) -> None:
    cs = from_table(table(), features=["x"])
    save_choices(cs, tmp_path / "choices")
    of_sets = json.loads(clogit(tmp_path / "choices", "--formula", "x + x:night", "--json"))
    assert json.loads(clogit(tmp_path, "--formula", "x + x:night", "--json")) == of_sets
    table().to_csv(tmp_path / "fish.csv", index=False)
    of_table = json.loads(clogit(tmp_path / "fish.csv", "--formula", "x + x:night", "--json"))
    assert of_sets["coef"] == pytest.approx(of_table["coef"], rel=1e-5)  # float32 against float64


def test_individuals_stay_text(tmp_path: Path) -> None:
    table().to_csv(tmp_path / "fish.csv", index=False)
    assert read_long_table(tmp_path / "fish.csv")["individual"].iloc[0] == "000"
    assert read_long_table(tmp_path / "fish.csv")["x"].dtype == np.float64


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "expected --features or --formula; .*fish.csv has individual, decision, choice, selected, x"),
        (("--features", "x", "--formula", "x"), "expected either features or a formula; got both"),
        (("--features", "x, salt"), "choice table: expected the column salt; got individual"),
        (("--features", "x,night"), "must vary within decisions; night does not"),
        (("--features", "x", "--cluster", "herd"), "unknown cluster column herd"),
        (("--features", "x", "--weighting", "animal"), '"individual" or "decision"; got \'animal\''),
        (("--features", "x", "--column", "individual"), "--column expects OURS=THEIRS, such as individual=fish_id"),
        (("--formula", "x +"), "a term is missing"),
        (("--features", " , "), "expected --features or --formula"),
        (("--features", "x,site"), "feature site must hold numbers; got s0, s1"),
        (("--features", "x", "--weights", "site"), "weights column site must hold numbers; got s0, s1"),
        (("--features", "x", "--column", "selected=taken"), r"expected the column taken; got .*, minus_ln_q, site\."),
    ],
)
def test_wrong_options_are_one_clear_error(
    tmp_path: Path, clogit: Clogit, options: tuple[str, ...], message: str
) -> None:
    rows = table()
    rows.assign(site="s" + (rows["decision"] % 2).astype(str)).to_csv(tmp_path / "fish.csv", index=False)
    with pytest.raises(ValueError, match=message):
        clogit(tmp_path / "fish.csv", *options)


def test_files_that_are_no_table_are_one_clear_error(tmp_path: Path, clogit: Clogit) -> None:
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "cut.parquet").write_bytes(b"PAR1 and no more")
    (tmp_path / "table.xlsx").write_bytes(b"PK")
    with pytest.raises(FileNotFoundError, match="no choice table at"):
        clogit(tmp_path / "none.csv", "--features", "x")
    for name, message in {
        "empty.csv": "empty.csv is empty; expected a header line",
        "cut.parquet": "cannot be read as Parquet; it is corrupt or cut short",
        "table.xlsx": "must be a .csv, .csv.gz or .parquet file; got table.xlsx",
    }.items():
        with pytest.raises(ValueError, match=message):
            clogit(tmp_path / name, "--features", "x")
    with pytest.raises(FileNotFoundError, match=r"decisions.parquet is missing"):
        clogit(tmp_path, "--features", "x")
    several = table().assign(selected=1)
    several.to_csv(tmp_path / "several.csv", index=False)
    with pytest.raises(ValueError, match=r"200 of 200 decisions have several selected choices \(000/0, 001/1"):
        clogit(tmp_path / "several.csv", "--features", "x")
    save_choices(ChoiceSets(pd.DataFrame({"individual": ["a"], "decision": [1]}), [0, 1], [1], [0]), tmp_path / "cs")
    with pytest.raises(ValueError, match="--column is for tables"):
        clogit(tmp_path / "cs", "--features", "x", "--column", "individual=fish")


def test_command_loads_nothing_slow(tmp_path: Path) -> None:
    table().to_csv(tmp_path / "fish.csv", index=False)
    code = (
        "import sys, typer; from mimic.clogit_cli import clogit_command\n"
        "app = typer.Typer(); app.command('clogit')(clogit_command)\n"
        f"app([{str(tmp_path / 'fish.csv')!r}, '--features', 'x', '--json'], standalone_mode=False)\n"
        "print([m for m in ('tensorflow', 'keras', 'sklearn', 'matplotlib', 'scipy.stats', 'xarray') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_averages_over_individuals_are_printed_and_in_json(
    mimic: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    keys = [(f"a{i}", d, c) for i in range(4) for d in range(60) for c in range(3)]
    rows = pd.DataFrame(keys, columns=["individual", "decision", "choice"])
    rows["depth"] = rng.normal(size=len(rows))
    liked = rows["depth"] * 0.8 + rng.gumbel(size=len(rows))
    rows["selected"] = rows.index.isin(liked.groupby([rows["individual"], rows["decision"]]).idxmax()).astype(int)
    rows.to_csv(tmp_path / "t.csv", index=False)
    code, text, err = mimic("clogit", tmp_path / "t.csv", "--formula", "depth + I(depth^2)", "--average")
    assert code == 0, err
    assert "two-step" in text
    code, text, err = mimic("clogit", tmp_path / "t.csv", "--features", "depth", "--average", "--json")
    assert code == 0, err
    found = json.loads(text)
    assert [row["average"] for row in found["averages"]] == ["pooled", "individuals", "two-step"]
    assert [row["individual"] for row in found["individuals"]] == ["a0", "a1", "a2", "a3"]
    own = [row["coef"] for row in found["individuals"]]
    assert found["averages"][1]["estimate"] == pytest.approx(np.mean(own))
    assert found["averages"][0]["estimate"] == pytest.approx(found["coef"]["depth"])
    code, _, err = mimic("clogit", tmp_path / "t.csv", "--features", "depth", "--average", "--weights", "choice")
    assert (code, "--average fits individuals one by one" in err) == (2, True)


def test_animal_that_csv_takes_for_missing_is_refused_with_the_reason(tmp_path: Path, clogit: Clogit) -> None:
    table().replace({"individual": {"001": "NA"}}).to_csv(tmp_path / "fish.csv", index=False)
    with pytest.raises(
        ValueError, match="individual is missing in 120 rows .* so are the names NA, nan, null and None"
    ):
        clogit(tmp_path / "fish.csv", "--features", "x")


def test_columns_of_our_own_are_not_among_those_of_the_user(tmp_path: Path, clogit: Clogit) -> None:
    table().drop(columns="selected").to_csv(tmp_path / "fish.csv", index=False)
    with pytest.raises(ValueError, match=r"expected the column selected; got individual, .*, minus_ln_q\."):
        clogit(tmp_path / "fish.csv", "--features", "x")
