"""Papers of studies that lack what others have, or whose names mean something to a table, a path or a page."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import Study as Small

from mimic.paper import Part, _written
from mimic.registry import Registry
from mimic.study import Study, _read, load_study
from mimic.study_facts import settings
from mimic.study_learning import _bands
from mimic.study_numbers import _coefficients
from mimic.subjects import study_subject

typst = pytest.importorskip("typst", reason="typst is not installed (the extra whitepaper)")

Mimic = Callable[..., tuple[int, str, str]]

TABLE = """
name: strata
table: {file: table.csv, features: {slope: choice, cover: choice}}
split: {validation_share: 0.4, seed: 1}
models: {classic: {kind: conditional_logit, features: [slope, cover]}}
"""


def write_table(path: Path) -> None:
    """5 animals with 8 decisions each among 4 choices, of which none is to stay."""
    rng = np.random.default_rng(3)
    rows = pd.DataFrame(
        [(f"a{i}", d, c) for i in range(5) for d in range(8) for c in range(4)],
        columns=["individual", "decision", "choice"],
    )
    rows = rows.assign(slope=rng.normal(size=len(rows)), cover=rng.normal(size=len(rows)))
    score = rows["slope"] + rng.gumbel(size=len(rows))
    best = score.groupby([rows["individual"], rows["decision"]]).transform("max")
    rows.assign(selected=(score == best).astype(int)).to_csv(path, index=False)


def paper_of(mimic: Mimic, experiment: Path) -> Study:
    """Run an experiment, write its paper, and read the study."""
    run = experiment.parent / "runs" / "it"
    for arguments in (("run", experiment, "--out", run), ("whitepaper", run)):
        code, _, err = mimic(*arguments)
        assert code == 0, err
    assert (run / "whitepaper" / "whitepaper.pdf").is_file()
    return load_study(run, Registry(run.parent / "registry", create=False))


def said(study: Study) -> tuple[set[str], str]:
    """The names that the paper asks for, and its words."""
    part = Part(study_subject(study), Registry(study.folder.parent / "registry", create=False))
    with _written([part], None) as main:
        used = json.loads(typst.query(str(main), "<used>", field="value", root=str(main.parent)))
        paragraphs = json.loads(typst.query(str(main), "par", root=str(main.parent)))
    return {one["name"] for one in used}, words_of(paragraphs)


def words_of(content: Any) -> str:
    """The text within Typst's content, in order."""
    if isinstance(content, list):
        return "".join(map(words_of, content))
    if not isinstance(content, dict):
        return ""
    own = " " if content.get("func") == "space" else content.get("text", "")
    return own if isinstance(own, str) and own else words_of([content.get(k) for k in ("children", "body", "child")])


def test_a_table_without_stays_networks_or_stages_has_a_paper(mimic: Mimic, tmp_path: Path) -> None:
    write_table(tmp_path / "table.csv")
    (tmp_path / "strata.yaml").write_text(TABLE)
    study = paper_of(mimic, tmp_path / "strata.yaml")
    figures = {path.stem for path in (study.folder / "whitepaper" / "figures" / "strata").glob("*.pdf")}
    assert {"groups", "ranks", "reliability"} <= figures
    assert not {"stay_score", "stay_distribution", "tracks", "contrast_curve"} & figures
    used, words = said(study)
    assert "strata/score/validation/classic/all/all/gmp" in used
    assert not any("/chain/" in name for name in used)  # of one stage, the gain is the whole gain
    assert "is a conditional logit of" in words
    assert "The network of" not in words
    assert "None of them was dropped" in words
    assert "Each choice set has" in words


def test_slashes_in_names_and_fewer_decisions_than_a_batch_have_a_paper(mimic: Mimic, study: Small) -> None:
    tracks = pd.read_csv(study.folder / "tracks.csv", dtype={"fish": str})
    tracks[tracks["fish"].isin(["00", "01"])].to_csv(study.folder / "tracks.csv", index=False)
    study.edit("split: {validation_share: 0.34, seed: 1}", "split: {validation: ['01']}")
    study.edit(
        "groups:\n  choices: {all: all, move: distance_km > 0}",
        "groups:\n  chain: {near/far: {near: distance_km < 40, far: distance_km >= 40}}\n"
        "  choices: {all: all, R&D/50 %: distance_km > 0}",
    )
    found = paper_of(mimic, study.experiment)
    used, words = said(found)
    assert any("/near/far/all/gain" in name for name in used)
    assert any("/R&D/50 %/all/gmp" in name for name in used)
    assert "On the 1 individual that no network was trained on" in words
    assert "1 with 24 decisions trains, 1 with 24 decisions validates" in words
    kinds = (found.folder / "whitepaper" / "tables" / "small" / "models.tex").read_text()
    assert "none & null & none: every choice equally likely" in kinds


def test_numbers_of_one_name_are_refused(mimic: Mimic, tmp_path: Path) -> None:
    write_table(tmp_path / "table.csv")
    (tmp_path / "strata.yaml").write_text(
        TABLE + "groups: {choices: {all: all, all/b: slope > 0}, behaviors: {all: all, b/all: selected_slope > 0}}\n"
    )
    run = tmp_path / "runs" / "it"
    assert mimic("run", tmp_path / "strata.yaml", "--out", run)[0] == 0
    code, out, err = mimic("whitepaper", run)
    assert (code, out) == (2, "")
    assert "are both called score/train/classic/all/b/all/D; take the slash out of a group's name" in err


def test_the_error_of_a_coefficient_is_the_clustered_one_as_in_its_table() -> None:
    fit = pd.DataFrame({"feature": ["stay"], "coef": [-0.5], "se": [0.11], "p": [0.01]})
    assert ("coefficient/stay/se", 0.11, "number") in list(_coefficients(fit))
    assert ("coefficient/stay/se", 0.14, "number") in list(_coefficients(fit.assign(cluster_robust_se=0.14)))


def test_names_of_the_folder_s_tables_stay_text(tmp_path: Path) -> None:
    rows = "member,model,run,best_epoch\nNA,null,1234567890123456,\nb,nan,12345678901234e5,3\n"
    (tmp_path / "members.csv").write_text(rows)
    table = _read(tmp_path / "members.csv")
    assert table["member"].tolist() == ["NA", "b"]
    assert table["model"].tolist() == ["null", "nan"]
    assert table["run"].tolist() == ["1234567890123456", "12345678901234e5"]
    assert np.isnan(table["best_epoch"][0])
    assert _read(tmp_path / "search.csv").empty


def test_settings_leave_out_what_the_grid_varies_and_name_what_only_one_model_has(study: Small) -> None:
    from mimic.configuration import load_configuration

    study.edit("models:\n", "grid: {units: [[4], [8]], learning_rate: [0.01, 0.1]}\nmodels:\n")
    study.edit(
        "environment: {features: [distance_km, stay, sst, depth]}",
        "environment: {features: [distance_km, stay, sst, depth], training: {linear_skip: true}}",
    )
    found = settings(load_configuration(study.experiment))
    assert "Hidden layers" not in found
    assert found["Optimizer"] == "adam"
    assert found["Only of environment"] == "linear_skip: True"


def test_the_bands_of_a_response_are_named_by_what_they_vary() -> None:
    assert _bands({"averaging population"}) == "over the animals averaged over, not of the model"
    assert _bands({"members"}) == "over the members of an ensemble"
    assert _bands({"members", "averaging population"}).startswith(
        "over the members of an ensemble, else over the animals"
    )
