"""What the command line refuses and how it stops: one message, exit code 2, nothing left behind."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

import pytest
from conftest import Study

from mimic import report
from mimic.evaluation_cli import named_groups

Mimic = Callable[..., tuple[int, str, str]]


def refused(mimic: Mimic, study: Study, *arguments: object) -> str:
    """Build the choice sets of the study, see it refused in one message, and see that nothing was left behind."""
    before = set(study.folder.rglob("*"))
    code, out, err = mimic(*(arguments or ("choices", "build", study.experiment, "--out", study.folder / "built")))
    assert code == 2, err
    assert out == ""
    assert err.startswith("mimic: ")
    assert set(study.folder.rglob("*")) == before
    return err


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "max_distance_km: 100",
            "max_distance_km: .inf",
            "choices.max_distance_km: Input should be a finite number; got inf",
        ),
        (
            "epochs: 3",
            "epochs: 3, learning_rate: .inf",
            "training.learning_rate: Input should be a finite number; got inf",
        ),
        ("epochs: 3", "epochs: 3, weighting: decision", "weighting: decision goes with loss: softmax"),
        ("max_distance_km: 100", "max_distance_km: 30000", "less than or equal to 20040; got 30000"),
        ("resolution: 4", "resolution: 16", "choices.resolution: Input should be less than or equal to 15; got 16"),
        ("step: 24h", "step: 24", "tracks.resample.step: Input should be a valid string; got 24"),
        ("stay, sst, depth]", "stay], training: {epocs: 1}", "models.environment.training: unknown key epocs"),
        ("stay, sst, depth]", "stay], training: {epochs: 0}", "models.environment.training.epochs: Input should be"),
        ("  distance: {", "  individual: {", "no model may be called individual"),
        ("  resample:", "  keep: [month]\n  resample:", "tracks.keep: month means something else"),
        ("  resample:", "  keep: [origin, fish]\n  resample:", "tracks.keep: origin means something else"),
        ("name: small", "name: small\n? [a, b]\n: 3", "line 3: a key must be a word or a number; got ['a', 'b']"),
        ("name: small", "name: small\n? {a: b}\n: 3", "line 3: a key must be a word or a number; got {'a': 'b'}"),
        ("name: small", "name: [small", "at line 3, column 7"),
    ],
)
def test_fault_of_the_file_is_named_with_its_place_and_with_what_came(
    study: Study, mimic: Mimic, old: str, new: str, message: str
) -> None:
    study.edit(old, new)
    assert message in refused(mimic, study)


def test_tolerance_without_a_step_is_refused_rather_than_ignored(study: Study, mimic: Mimic) -> None:
    message = refused(mimic, study, "tracks", "check", study.folder / "tracks.csv", "--tolerance", "1h")
    assert "--tolerance is that of --step" in message


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopped_run_leaves_nothing_and_says_so(
    study: Study, mimic: Mimic, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, code: int
) -> None:
    def stop(*_: Any, **__: Any) -> None:
        assert list(study.folder.glob(".run.*.partial"))  # the folder is being written
        os.kill(os.getpid(), number)

    before, handler = set(study.folder.rglob("*")), signal.getsignal(number)
    monkeypatch.setattr(report, "fit_models", stop)
    assert mimic("run", study.experiment, "--out", study.folder / "run") == (
        code,
        "",
        "mimic: stopped; no folder was written. Trainings that had ended are recorded: run it again, and it goes on.\n",
    )
    assert set(study.folder.rglob("*")) == before
    assert signal.getsignal(number) is handler


def test_killed_run_does_not_hinder_the_next(study: Study, mimic: Mimic) -> None:
    (study.folder / ".built.1.partial").mkdir()  # what kill -9 leaves
    code, _, err = mimic("choices", "build", study.experiment, "--out", study.folder / "built", "--json")
    assert code == 0, err
    assert (study.folder / "built" / "summary.json").is_file()


def test_single_equals_sign_in_a_comparison_is_explained() -> None:
    with pytest.raises(ValueError, match="to compare a column, write distance_km == 0"):
        named_groups(["distance_km = 0"], {})
    with pytest.raises(ValueError, match='write region == "Sitka"'):
        named_groups(['region = "Sitka"'], {})
    assert named_groups(["far=distance_km > 0", "move", "month == 6"], {"move": "stay == 0"}) == {
        "far": "distance_km > 0",
        "move": "stay == 0",
        "month == 6": "month == 6",
    }


def test_faults_of_the_operating_system_and_of_memory_are_worded(
    study: Study, mimic: Mimic, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise failure

    monkeypatch.setattr("mimic.configuration.load_configuration", fail)
    failure: BaseException = PermissionError(13, "Permission denied", "/data/x.zarr")
    assert "mimic: /data/x.zarr: permission denied. Check the path" in refused(mimic, study)
    failure = MemoryError("Unable to allocate 693 GiB")
    assert "the memory of this machine is not enough: Unable to allocate 693 GiB. Ask for less" in refused(mimic, study)


def test_stopped_build_of_a_cube_says_that_it_goes_on(mimic: Mimic, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("mimic.cube_sections.load_cube_config", stop)
    code, _, err = mimic("covariates", "build", "c.yaml")
    assert code == 130
    assert "finished chunks of the cube are kept: run it again" in err
