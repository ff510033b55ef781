"""The layers of mimic: which module may import which, read from the syntax trees and tried in fresh processes."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

MIMIC = Path(__file__).resolve().parents[1] / "mimic"

# A module imports only modules of strictly lower layers. Fractions order modules that share a subject.
# A new module needs a line here, in the commit that brings it.
LAYERS: dict[str, float] = {
    "__init__": -1,
    "spans": -0.5,
    "schema": 0,
    "ledger": 0.5,
    "textable": 0.5,
    "archive": 0.7,
    "grammar": 0.7,
    "tablefile": 0.7,
    "filestore": 0.7,
    "tablebytes": 0.7,
    "probability": 1,
    "hexgrid": 1,
    "expressions": 1,
    "tables": 1.1,
    "axes": 1.5,
    "gridpoints": 1.5,
    "groups": 1.5,
    "movebank": 1.5,
    "speeds": 1.5,
    "fixes": 1.7,
    "tracks": 2,
    "splits": 2,
    "grids": 2,
    "regrid": 2,
    "polygons": 2,
    "coastline": 2.5,
    "covariates": 3,
    "features": 3,
    "bin_decisions": 1.5,
    "bin_fields": 4.2,
    "bins": 4.3,
    "palette": 0.1,
    "written": 0.1,
    "paper_items": 0.1,
    "latex": 0.2,
    "cell_values": 1.5,
    "stay_shares": 6.1,
    "architecture": 6.3,
    "individual_tables": 7.4,
    "looks": 8.1,
    "individual_figures": 8.2,
    "power_figures": 8.2,
    "architecture_figures": 8.3,
    "chain_figures": 8.3,
    "member_figures": 8.3,
    "grid_figures": 8.4,
    "cell_figures": 8.6,
    "pair_figures": 8.7,
    "grid_tables": 8.95,
    "collection": 9.6,
    "paper": 10.4,
    "study": 10.45,
    "drawn": 10.47,
    "study_facts": 10.5,
    "study_maps": 10.5,
    "study_figures": 10.5,
    "study_numbers": 10.5,
    "study_tables": 10.5,
    "page_tables": 10.8,
    "study_learning": 10.8,
    "page_map": 10.85,
    "page_panels": 10.85,
    "subjects": 10.85,
    "page": 10.9,
    "whitepaper_cli": 10.95,
    "page_cli": 10.95,
    "bin_shares": 6.2,
    "bin_figures": 8.3,
    "bin_sections": 8.95,
    "strata": 1.2,
    "windows": 0.7,
    "prediction": 10.6,
    "predict_cli": 10.8,
    "sky": 1,
    "memory": 2.4,
    "choice_rows": 2.6,
    "feature_definition": 2.7,
    "time_features": 2.8,
    "memory_features": 2.85,
    "memory_checks": 2.9,
    "cell_graph": 1.5,
    "spatial_kinds": 1.7,
    "temporal_kinds": 1,
    "class_shares": 2.5,
    "vector_layers": 2.7,
    "coverage": 4.5,
    "coverage_tables": 4.6,
    "coverage_figures": 8.6,
    "coverage_cli": 10.8,
    "joins": 1.5,
    "cube": 1.6,
    "wholefile": 0.6,
    "locks": 0.7,
    "cube_store": 0.7,
    "cube_journal": 0.8,
    "file_times": 1.5,
    "file_layers": 1.5,
    "regions": 1.5,
    "grid_values": 1.6,
    "file_source": 2.2,
    "filesets": 2.4,
    "cube_sections": 9.1,
    "cube_axis": 9.15,
    "cube_cells": 9.15,
    "cube_plan": 9.2,
    "cube_units": 9.3,
    "cube_build": 9.5,
    "covariates_cli": 10.8,
    "derived": 2,
    "past_motion": 1.5,
    "movement_features": 2.8,
    "place_features": 2.8,
    "vector_features": 2.8,
    "individual_features": 2.8,
    "feature_sections": 8.95,
    "feature_library": 8.97,
    "wanted_features": 9.2,
    "feature_listing": 9.2,
    "features_cli": 10.8,
    "yamlfile": 0.7,
    "derived_sources": 4.1,
    "scaling": 5.1,
    "random_steps": 6.15,
    "random_steps_study": 6.2,
    "random_points": 6.4,
    "random_steps_cli": 10.8,
    "factored": 3.2,
    "verdicts": 3.5,
    "gathered": 3.5,
    "store": 4.2,
    "inputs": 6.33,
    "counted": 6.9,
    "streams": 6.35,
    "judges": 9.6,
    "choices": 4,
    "contrasts": 5,
    "synthetic": 5,
    "augmentation": 5.1,
    "labels": 5.1,
    "options": 5.2,
    "rows": 5.2,
    "identity": 5.2,
    "bootstrap": 5.3,
    "scores": 5.5,
    "conditional_logit": 6,
    "ideal": 6,
    "stay": 6,
    "layers": 6,
    "evaluation": 6,
    "population": 6.15,
    "step_selection": 6.3,
    "kernel_updates": 6.2,
    "movement_kernels": 6.1,
    "random_effects": 1,
    "clogit_cli": 10.8,
    "estimator": 6.2,
    "longtable": 0.7,
    "formula": 1,
    "terms": 0.8,
    "chain_cli": 10.9,
    "evaluation_figures": 8.2,
    "transitions": 6.2,
    "win_rates": 6.3,
    "bin_tables": 5.5,
    "calibration": 6.4,
    "used_habitat": 6.3,
    "ranks": 6.3,
    "predicted": 6,
    "chain_classes": 6.2,
    "chain": 6.2,
    "decision_groups": 5.6,
    "stages": 2.2,
    "baseline": 6.1,
    "inference": 6.1,
    "coefficients": 5.8,
    "covariance": 5.6,
    "design": 5.6,
    "comparison": 6.1,
    "network": 6.1,
    "model": 6.2,
    "linear": 6.3,
    "core": 6.3,
    "prepared": 6.4,
    "curves": 6.55,
    "doctor": 6.6,
    "callbacks": 6.5,
    "engine": 6.8,
    "training": 7,
    "ensemble": 7.2,
    "points": 7.2,
    "refits": 7.25,
    "responses": 7.3,
    "exemplars": 7.3,
    "contrast_error": 7.3,
    "selection_strength": 7.35,
    "surfaces": 7.35,
    "importance": 7.35,
    "leaks": 7.4,
    "explanation_figures": 8.6,
    "contrast_figures": 8.6,
    "explanation_runs": 10.75,
    "explanation_cli": 10.8,
    "worlds": 5,
    "power": 7.5,
    "power_cli": 10.9,
    "partitions": 2.2,
    "crossval_sections": 9.1,
    "crossval_tables": 9.2,
    "crossval": 10.2,
    "crossval_cli": 10.8,
    "figures": 8,
    "group_figures": 8.2,
    "training_figures": 8.2,
    "ground": 8.2,
    "maps": 8.5,
    "grid": 8.9,
    "sections": 8.9,
    "configuration": 9,
    "members": 9.6,
    "sweep": 9.7,
    "tasks": 9.3,
    "workers": 9.4,
    "cluster": 9.4,
    "registry_tables": 9.45,
    "runrecords": 9.45,
    "registry_queries": 9.47,
    "registry_upkeep": 9.48,
    "registry": 9.5,
    "preparation": 9.8,
    "assessment": 9.8,
    "experiment": 10,
    "runs": 10.3,
    "recorded": 10.4,
    "report": 10.6,
    "consultation": 10.6,
    "answers": 10.7,
    "bars": 10.7,
    "tensorflow_start": 10.7,
    "registry_cli": 10.8,
    "evaluation_cli": 10.8,
    "cli": 11,
}

DRAWING = {
    *("contrast_figures", "evaluation_figures", "explanation_figures", "figures", "ground"),
    *("bin_figures", "coverage_figures", "group_figures", "maps", "training_figures"),
    *("architecture_figures", "cell_figures", "chain_figures", "grid_figures", "individual_figures", "looks"),
    *("member_figures", "pair_figures", "power_figures"),
}

# Packages that only these modules may import at all, even within a function.
ONLY_IN: dict[str, set[str]] = {
    "h3": {"hexgrid"},
    "matplotlib": DRAWING,
    "seaborn": DRAWING,
    "sqlalchemy": {"registry", "registry_queries", "registry_tables", "registry_upkeep"},
}

# Slow packages that only these modules may import at module level; elsewhere the import goes into the function.
AT_MODULE_LEVEL_ONLY_IN: dict[str, set[str]] = {
    "tensorflow": {
        "callbacks",
        "core",
        "counted",
        "engine",
        "inputs",
        "layers",
        "model",
        "prepared",
        "streams",
        "training",
    },
    "keras": {
        "callbacks",
        "core",
        "counted",
        "engine",
        "ensemble",
        "layers",
        "model",
        "network",
        "options",
        "training",
    },
    "sklearn": set(),
}

HEAVY = {"tensorflow", "keras", "sklearn", "matplotlib", "seaborn"}


def _is_type_checking(node: ast.AST) -> bool:
    """Whether a node is `if TYPE_CHECKING:`, whose body never runs."""
    return isinstance(node, ast.If) and ast.unparse(node.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}


def _nodes(node: ast.AST, runs_on_import: bool = True) -> Iterator[tuple[ast.AST, bool]]:
    """Every node below, and whether it runs when the module is imported."""
    for name, value in ast.iter_fields(node):
        within = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) and name == "body"
        within = within or (_is_type_checking(node) and name == "body")
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield child, runs_on_import and not within
                yield from _nodes(child, runs_on_import and not within)


def _imports(source: str) -> list[tuple[str, bool]]:
    """Dotted names that a module of mimic imports, and whether on import; `from mimic import a` gives "mimic.a"."""
    found: list[tuple[str, bool]] = []
    for node, on_import in _nodes(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [(alias.name, on_import) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            # The package is flat: one leading dot is mimic itself.
            base = ".".join(part for part in ("mimic" if node.level else "", node.module or "") if part)
            names = [f"{base}.{alias.name}" for alias in node.names] if base == "mimic" else [base]
            found += [(name, on_import) for name in names]
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in {"importlib.import_module", "import_module"}:
            found += [(arg.value, on_import) for arg in node.args[:1] if isinstance(arg, ast.Constant)]
    return found


def faults(module: str, source: str) -> list[str]:
    """What a module imports against the rules, in words; empty if nothing."""
    if module not in LAYERS:
        return [f"{module} is not in the table of layers; add it to LAYERS in tests/test_layers.py"]
    found = []
    for name, on_import in _imports(source):
        package, _, rest = name.partition(".")
        target = rest.split(".")[0]
        if package == "mimic" and target and not target.startswith("__"):
            if target not in LAYERS:
                found.append(f"{module} imports mimic.{target}, which is not in the table of layers")
            elif LAYERS[target] >= LAYERS[module]:
                found.append(
                    f"{module} (layer {LAYERS[module]:g}) imports {target} (layer {LAYERS[target]:g}); "
                    "only lower layers are allowed"
                )
        if module not in ONLY_IN.get(package, {module}):
            found.append(f"{module} imports {package}; only {', '.join(sorted(ONLY_IN[package]))} may")
        if on_import and module not in AT_MODULE_LEVEL_ONLY_IN.get(package, {module}):
            found.append(f"{module} imports {package} at module level; import it in the function that needs it")
    return found


def _sources() -> dict[str, str]:
    return {path.stem: path.read_text(encoding="utf-8") for path in sorted(MIMIC.glob("*.py"))}


@pytest.mark.parametrize("module", sorted(_sources()))
def test_module_imports_only_lower_layers(module: str) -> None:
    assert faults(module, _sources()[module]) == []


def test_package_is_flat() -> None:
    # The table knows modules by one name; a package within the package would escape it.
    assert [str(p.relative_to(MIMIC)) for p in MIMIC.glob("*/**/*.py")] == []


@pytest.mark.parametrize(
    ("module", "line", "message"),
    [
        ("schema", "from mimic.hexgrid import cell_at", "schema (layer 0) imports hexgrid (layer 1)"),
        ("schema", "from mimic import cli", "schema (layer 0) imports cli (layer 11)"),
        ("schema", "import mimic.ledger as account", "schema (layer 0) imports ledger (layer 0.5)"),
        ("schema", "from .probability import gmp", "schema (layer 0) imports probability (layer 1)"),
        ("schema", "from . import probability", "schema (layer 0) imports probability (layer 1)"),
        ("schema", "def late():\n    from mimic.cli import main", "schema (layer 0) imports cli (layer 11)"),
        ("schema", "import importlib\nimportlib.import_module('mimic.cli')", "schema (layer 0) imports cli"),
        ("probability", "from mimic.hexgrid import cell_at", "only lower layers are allowed"),
        ("schema", "from mimic.helpers import x", "mimic.helpers, which is not in the table"),
        ("schema", "def late():\n    import h3.api.basic_int as h3", "schema imports h3; only hexgrid may"),
        (
            "schema",
            "def late():\n    import matplotlib.pyplot",
            "schema imports matplotlib; only architecture_figures, bin_figures, ",
        ),
        ("schema", "from tensorflow import keras", "schema imports tensorflow at module level"),
        ("schema", "try:\n    import keras\nexcept ImportError:\n    pass", "schema imports keras at module level"),
        ("schema", "class A:\n    import sklearn", "schema imports sklearn at module level"),
        ("schema", "def late(x=__import__('os')):\n    pass\nimport seaborn", "schema imports seaborn"),
    ],
)
def test_forbidden_import_in_a_copy_is_found(module: str, line: str, message: str) -> None:
    source = _sources()[module]
    assert faults(module, source) == []
    found = faults(module, f"{source}\n{line}\n")
    assert len(found) >= 1
    assert message in " | ".join(found)


@pytest.mark.parametrize(
    "line",
    [
        "def late():\n    import keras",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import keras",
        "from mimic import __version__",
        "from mimic.schema import ChoiceSets",
    ],
)
def test_allowed_import_in_a_copy_is_not_a_fault(line: str) -> None:
    assert faults("probability", f"{_sources()['probability']}\n{line}\n") == []


def test_module_missing_from_the_table_is_a_fault() -> None:
    assert faults("helpers", "import os\n") == [
        "helpers is not in the table of layers; add it to LAYERS in tests/test_layers.py"
    ]


def _loaded_after(code: str, folder: Path) -> set[str]:
    """Top-level modules in a fresh process after running code, which reports through the last line of stderr."""
    report = "import json, sys; print(json.dumps(sorted({m.split('.')[0] for m in sys.modules})), file=sys.stderr)"
    # Run elsewhere, so that what is on the path is mimic and nothing that happens to lie beside the caller.
    environment = {**os.environ, "PYTHONPATH": str(MIMIC.parent)}
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{report}"],
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stderr.strip().splitlines()[-1]))


def _need(module: str) -> None:
    if not (MIMIC / f"{module}.py").is_file():
        pytest.skip(f"mimic.{module} is not written yet")


def test_importing_evaluation_loads_no_tensorflow_matplotlib_or_sklearn(tmp_path: Path) -> None:
    _need("evaluation")
    loaded = _loaded_after("import mimic.evaluation", tmp_path)
    assert "mimic" in loaded
    assert loaded & HEAVY == set()


def test_help_of_the_command_line_loads_nothing_heavy(tmp_path: Path) -> None:
    _need("cli")
    code = (
        "import runpy, sys\n"
        "sys.argv = ['mimic', '--help']\n"
        "try:\n    runpy.run_module('mimic.cli', run_name='__main__')\n"
        "except SystemExit as end:\n    assert not end.code, end.code\n"
    )
    loaded = _loaded_after(code, tmp_path)
    assert "typer" in loaded  # the command line did run
    assert loaded & (HEAVY | {"pandas", "geopandas"}) == set()
