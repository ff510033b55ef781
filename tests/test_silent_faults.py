"""The silent faults of real pipelines, each planted or set against an independent computation: mimic has none of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h3.api.basic_int as h3
import numpy as np
import pandas as pd
import pydantic
import pyproj
import pytest
import xarray as xr
from conftest import Study

from mimic import prepared as prepared_training
from mimic import training
from mimic.choice_rows import Rows
from mimic.choices import Source, build_choices, make_decisions
from mimic.configuration import Configuration, load_configuration
from mimic.contrasts import contrast_loss, exact_contrasts, sample_contrasts
from mimic.covariates import Covariate, sample
from mimic.crossval import cross_validate
from mimic.evaluation import evaluate, mean_choice_probability
from mimic.experiment import fit_models
from mimic.factored import factor
from mimic.feature_definition import Definition
from mimic.features import FeatureSpec
from mimic.hexgrid import neighbor_table
from mimic.layers import ContrastSampling
from mimic.memory import History
from mimic.memory_checks import check_past_only
from mimic.memory_features import MEMORY
from mimic.model import load_model, save_model
from mimic.network import Scaling, check_scaling, fit_scaling
from mimic.partitions import k_fold, time_blocks
from mimic.preparation import prepare
from mimic.schema import ChoiceSets
from mimic.splits import audit_split
from mimic.tables import from_table, to_table
from mimic.training import TrainingOptions, train
from mimic.transitions import check_transitions, read_transitions, transition_table, write_transitions

SPHERE = pyproj.Geod(a=6371007.180918475, b=6371007.180918475)
ALL = {"all": "all"}


def decisions_at(points: list[tuple[float, float]], times: list[str], **columns: Any) -> pd.DataFrame:
    """Decisions of one animal at (longitude, latitude) points, resolution 4, of unknown selection."""
    cells = [h3.latlng_to_cell(latitude, longitude, 4) for longitude, latitude in points]
    return pd.DataFrame(
        {
            "individual": "a",
            "decision": np.arange(len(points)),
            "time_utc": np.array(times, dtype="datetime64[ns]"),
            "origin": np.array(cells, dtype=np.int64),
            **columns,
        }
    )


def ragged(sizes: list[int], seed: int = 0, **columns: Any) -> ChoiceSets:
    """Choice sets of these sizes with two random features; every third decision is of animal b."""
    rng = np.random.default_rng(seed)
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    return ChoiceSets(
        decisions=pd.DataFrame(
            {
                "individual": ["b" if d % 3 == 2 else "a" for d in range(len(sizes))],
                "decision": np.arange(len(sizes)),
                **columns,
            }
        ),
        offsets=offsets,
        choice=np.concatenate([np.arange(n) for n in sizes]),
        selected=[int(s + rng.integers(n)) for s, n in zip(offsets, sizes, strict=False)],
        features={name: rng.normal(3.0, 2.0, offsets[-1]) for name in ("x", "y")},
    )


def losses_one_by_one(phi: np.ndarray, cs: ChoiceSets) -> tuple[float, float]:
    """Contrast loss and decision loss by plain loops over unpadded lists, individuals weighing the same."""
    contrast: dict[str, list[float]] = {}
    decision: dict[str, list[float]] = {}
    for d, individual in enumerate(cs.individuals):
        start, end, chosen = cs.offsets[d], cs.offsets[d + 1], phi[cs.selected[d]]
        others = [phi[r] for r in range(start, end) if r != cs.selected[d]]
        contrast.setdefault(individual, []).append(
            math.fsum(math.log1p(math.exp(o - chosen)) for o in others) / len(others)
        )
        decision.setdefault(individual, []).append(math.log(math.fsum(math.exp(o - chosen) for o in [*others, chosen])))
    means = [[math.fsum(v) / len(v) for v in by.values()] for by in (contrast, decision)]
    return math.fsum(means[0]) / len(means[0]), math.fsum(means[1]) / len(means[1])


# ------------------------------------------------- covariate joined on the cell the animal went to next


def test_covariate_joined_on_the_next_cell_is_refused_with_the_explanation(study: Study) -> None:
    choice_sets = prepare(load_configuration(study.experiment)).choice_sets
    table = to_table(choice_sets)
    joined = choice_sets.features["sst"][choice_sets.selected]  # one value a decision: where the animal went
    table["sst"] = np.repeat(joined, choice_sets.n_choices)
    table.to_csv(study.folder / "table.csv", index=False)
    text = study.experiment.read_text()
    sections = text[text.index("split:") :].replace("stay, sst, depth]", "stay, sst]")
    study.experiment.write_text(
        f"name: planted\ntable: {{file: table.csv, features: [distance_km, stay, sst]}}\n{sections}"
    )
    with pytest.raises(ValueError, match=r"sst has role choice.*joined on the cell the animal went to next"):
        prepare(load_configuration(study.experiment))


def sst_of(field: xr.DataArray, owner: np.ndarray, cell: int, time: pd.Timestamp) -> float:
    """The mean of the grid points whose cell this is, or between the four around its centroid; by plain xarray."""
    month = field.sel(month=time.month)
    held = month.to_numpy()[owner == cell]
    if len(held) >= 3:
        return float(np.mean(held, dtype=np.float64))
    latitude, longitude = h3.cell_to_latlng(cell)
    return float(month.interp(latitude=latitude, longitude=longitude % 360))


def test_covariate_of_every_choice_is_that_of_its_own_cell_in_the_month_of_the_decision(study: Study) -> None:
    choice_sets = prepare(load_configuration(study.experiment)).choice_sets
    with xr.open_dataset(study.folder / "sst.nc", engine="h5netcdf") as file:
        field = file["sst"].load()
    longitude, latitude = np.meshgrid(field["longitude"].to_numpy() - 360, field["latitude"].to_numpy())
    owner = np.vectorize(lambda x, y: h3.latlng_to_cell(y, x, 4), otypes=[np.int64])(longitude, latitude)
    known: dict[tuple[int, int], float] = {}
    expected, on_next = [], []
    for d, decision in choice_sets.decisions.iterrows():
        time = decision["time_utc"]
        for row in range(choice_sets.offsets[d], choice_sets.offsets[d + 1]):  # type: ignore[operator,index]
            for cell, values in ((int(choice_sets.choice[row]), expected), (int(decision["destination"]), on_next)):
                if (cell, time.month) not in known:
                    known[cell, time.month] = sst_of(field, owner, cell, time)
                values.append(known[cell, time.month])
    assert {month for _, month in known} == {5, 6}
    np.testing.assert_allclose(choice_sets.features["sst"], expected, rtol=2e-7)
    # the fault would show: the value where the animal went is another for most choices
    assert (np.abs(choice_sets.features["sst"] - np.array(on_next)) > 1e-3).mean() > 0.7


@pytest.mark.parametrize("lazy", [False, True])
def test_covariate_on_cells_joined_on_the_next_cell_is_refused_before_training(lazy: bool) -> None:
    rng = np.random.default_rng(0)
    n = 40
    cells = neighbor_table(np.array([h3.latlng_to_cell(56.0, -150.0, 4)]), 150.0).cell
    visited = rng.choice(cells, n)
    decisions = pd.DataFrame(
        {
            "individual": "a",
            "decision": np.arange(n),
            "time_utc": np.datetime64("2020-01-01", "ns") + np.arange(n) * np.timedelta64(1, "D"),
            "origin": visited,
            "destination": np.append(visited[1:], visited[0]),
        }
    )
    sst = dict(zip(cells.tolist(), rng.normal(8.0, 2.0, len(cells)), strict=True))
    next_cell = dict(zip(decisions["time_utc"].to_numpy(), decisions["destination"].tolist(), strict=True))

    def honest(cells: np.ndarray, times: np.ndarray) -> np.ndarray:
        return np.array([sst.get(cell, 8.0) for cell in cells.tolist()])

    def planted(cells: np.ndarray, times: np.ndarray) -> np.ndarray:
        return np.array([sst[next_cell[time]] for time in times])

    for values in (honest, planted):
        given: dict[str, Any] = {"features": [FeatureSpec("sst")], "sources": [Source("sst", values)]}
        cs, _ = build_choices(decisions, max_distance_km=400.0, lazy=lazy, **given)
        assert cs.n_decisions == n
        if values is honest:
            train(cs, None, ["distance_km", "sst"], TrainingOptions(epochs=1, units=(2,)))
        else:
            with pytest.raises(ValueError, match=r"sst has role choice.*joined on the cell the animal went to next"):
                train(cs, None, ["distance_km", "sst"], TrainingOptions(epochs=1, units=(2,)))


# ------------------------------------------------- season and heading


def test_january_is_not_december_and_new_year_is_no_jump() -> None:
    times = ["2019-01-15", "2019-12-15", "2019-12-31T23", "2020-01-01T01"]
    specs = [FeatureSpec("season_sin"), FeatureSpec("season_cos")]
    cs, _ = build_choices(decisions_at([(-150.0, 57.0)] * 4, times), max_distance_km=60, features=specs)
    first = cs.offsets[:-1]
    season = np.column_stack([cs.features["season_sin"][first], cs.features["season_cos"][first]]).astype(np.float64)
    apart = np.linalg.norm(season[0] - season[1])
    assert apart == pytest.approx(2 * math.sin(math.pi * 31 / 365), abs=1e-6)  # 31 days on the circle, not 0
    assert np.linalg.norm(season[2] - season[3]) < 2 * math.pi * 2.1 / 24 / 365


def test_climatology_of_january_is_not_that_of_december(study: Study) -> None:
    cells = np.array([h3.latlng_to_cell(56.0, -150.0, 4)] * 2)
    times = np.array(["2019-01-20", "2019-12-20"], dtype="datetime64[ns]")
    january, december = sample(Covariate("sst", study.folder / "sst.nc", "sst"), cells, times)
    # the study's wave is 3 cos((month - 8) / 6 pi): -2.6 degrees in January, -1.5 in December
    assert january - december == pytest.approx(3 * (math.cos(-7 / 6 * math.pi) - math.cos(4 / 6 * math.pi)), abs=1e-3)


@pytest.mark.parametrize("home", [(-150.0, 60.0), (179.95, 55.0), (-179.95, -41.0), (10.0, 83.0)])
def test_heading_is_the_true_bearing_also_far_north_and_across_the_date_line(home: tuple[float, float]) -> None:
    specs = [FeatureSpec("heading_sin"), FeatureSpec("heading_cos")]
    cs, _ = build_choices(decisions_at([home], ["2020-06-01"]), max_distance_km=100, features=specs)
    origin = int(cs.decisions.loc[0, "origin"])
    latitude, longitude = h3.cell_to_latlng(origin)
    naive_errors = []
    for row, cell in enumerate(cs.choice.tolist()):
        found = cs.features["heading_sin"][row], cs.features["heading_cos"][row]
        if cell == origin:
            assert found == (0.0, 0.0)  # on no point of the circle: neither east nor north
            continue
        to_latitude, to_longitude = h3.cell_to_latlng(cell)
        true = math.radians(SPHERE.inv(longitude, latitude, to_longitude, to_latitude)[0])
        assert found == (pytest.approx(math.sin(true), abs=1e-6), pytest.approx(math.cos(true), abs=1e-6))
        naive = math.atan2(to_longitude - longitude, to_latitude - latitude)
        naive_errors.append(abs((naive - true + math.pi) % (2 * math.pi) - math.pi))
    assert max(naive_errors) > math.radians(15)  # the usual formula is told apart


# ------------------------------------------------- seeds


def seeds_of(section: type[pydantic.BaseModel], prefix: str = "") -> Iterator[str]:
    """Dotted names of all seeds of a configuration."""
    for name, field in section.model_fields.items():
        if "seed" in name:
            yield prefix + name
        if isinstance(field.annotation, type) and issubclass(field.annotation, pydantic.BaseModel):
            yield from seeds_of(field.annotation, f"{prefix}{name}.")


def changed(configuration: Configuration, dotted: str, value: int) -> Configuration:
    section, name = dotted.split(".")
    inner = getattr(configuration, section).model_copy(update={name: value})
    return configuration.model_copy(update={section: inner})


def outcome(configuration: Configuration) -> tuple[tuple[str, ...], np.ndarray]:
    """Who validates, and the log-odds of all choices."""
    prepared = prepare(configuration)
    log_odds = fit_models(configuration, prepared).log_odds["distance"]
    decisions = prepared.choice_sets.decisions
    return tuple(sorted(set(decisions.loc[decisions["split"] == "validation", "individual"]))), log_odds


def test_every_seed_of_an_experiment_is_read_and_keeping_it_keeps_the_result(study: Study) -> None:
    study.edit("epochs: 3", "epochs: 1, loss: contrast_sampled")
    study.edit("  environment: {features: [distance_km, stay, sst, depth]}\n", "")
    configuration = load_configuration(study.experiment)
    assert set(seeds_of(Configuration)) == {"split.seed", "training.seed"}
    split, log_odds = outcome(configuration)
    again_split, again = outcome(configuration)
    assert again_split == split
    np.testing.assert_array_equal(again, log_odds)
    assert (
        len(
            {outcome_split for outcome_split, _ in (outcome(changed(configuration, "split.seed", s)) for s in range(4))}
        )
        > 1
    )
    other_split, other = outcome(changed(configuration, "training.seed", 7))
    assert other_split == split
    assert np.abs(other - log_odds).max() > 1e-3


def test_seed_of_training_also_draws_the_contrasts(monkeypatch: pytest.MonkeyPatch) -> None:
    build = training.build_network
    # the same initial weights for every seed, one minibatch and no steps: only the drawn contrasts are left to differ
    monkeypatch.setattr(training, "build_network", lambda scaling, **o: build(scaling, **{**o, "seed": 0}))
    cs = ragged([5] * 12)
    options: dict[str, Any] = {"units": (), "optimizer": "sgd", "learning_rate": 1e-12, "epochs": 1}

    def loss(seed: int, kind: Any) -> float:
        few = TrainingOptions(loss=kind, seed=seed, decisions_per_individual=3, alternatives_per_decision=2, **options)
        return float(train(cs, None, ["x", "y"], few).history["loss"].iloc[0])

    assert loss(0, "contrast_exact") == pytest.approx(loss(1, "contrast_exact"), rel=1e-6)
    assert loss(0, "contrast_sampled") == loss(0, "contrast_sampled")
    assert abs(loss(0, "contrast_sampled") - loss(1, "contrast_sampled")) > 1e-3


# ------------------------------------------------- contrasts


def test_alternatives_are_drawn_anew_for_every_redraw_of_a_decision() -> None:
    cs = ragged([20])
    rng = np.random.default_rng(3)
    counts = sample_contrasts(cs, decisions_per_individual=190, alternatives_per_decision=1, rng=rng)
    # drawn once and copied, all 190 would lie on one row; drawn anew they spread over 19 rows, 10 +- 3.1 each
    assert counts.sum() == 190
    assert (counts > 0).sum() >= 17
    assert counts.max() <= 25
    layer = ContrastSampling(1, seed=0)
    features = np.arange(20.0, dtype=np.float32)[None, :, None].repeat(190, axis=0)
    pairs, _, _ = layer((features, np.ones((190, 20), bool), np.zeros(190, np.int32)))
    assert len(np.unique(np.asarray(pairs)[:, 1, 0])) >= 17


# ------------------------------------------------- missing days, lost selections


def test_missing_days_make_no_decision(study: Study) -> None:
    path = study.folder / "tracks.csv"
    table = pd.read_csv(path, dtype=str).drop(index=[3, 4, 30, 60, 61, 62, 149])
    table.to_csv(path, index=False)
    prepared = prepare(load_configuration(study.experiment))
    when = pd.to_datetime(table["when"])
    fixes = set(zip(table["fish"], when, strict=True))
    expected = {(fish, time) for fish, time in fixes if (fish, time + pd.Timedelta("1D")) in fixes}
    found = prepared.choice_sets.decisions
    assert set(zip(found["individual"], found["time_utc"], strict=True)) == expected
    following = when.groupby(table["fish"]).shift(-1) - when
    assert (following > pd.Timedelta("1D")).sum() == 3  # where "the next row" would have made a decision
    next_day = {
        (fish, time): h3.latlng_to_cell(float(y), float(x), 4)
        for fish, time, x, y in zip(table["fish"], when, table["lon"], table["lat"], strict=True)
    }
    went = [next_day[i, t + pd.Timedelta("1D")] for i, t in zip(found["individual"], found["time_utc"], strict=True)]
    assert prepared.choice_sets.choice[prepared.choice_sets.selected].tolist() == went
    ledger = prepared.ledger.to_frame().set_index("reason")
    assert ledger.loc["no next fix one step later", "n"] == 6 + 3


def test_selections_too_far_on_land_or_without_covariates_are_in_the_ledger() -> None:
    home = h3.latlng_to_cell(57.0, -150.0, 4)
    near = sorted(h3.grid_ring(home, 1))
    far, land, blank = next(iter(h3.grid_ring(home, 8))), near[0], near[1]
    points = [h3.cell_to_latlng(c) for c in (home, far, far, home, land, home, blank, home, near[2])]
    tracks = pd.DataFrame(
        {
            "individual": "a",
            "time_utc": np.datetime64("2020-06-01", "ns") + np.arange(9) * np.timedelta64(1, "D"),
            "longitude": [p[1] for p in points],
            "latitude": [p[0] for p in points],
            "burst": 0,
        }
    )
    elevation = Source("elevation", lambda cells, _: np.where(cells == land, 100.0, -50.0))
    sst = Source("sst", lambda cells, _: np.where(cells == blank, np.nan, 8.0))
    decisions, ledger = make_decisions(tracks, resolution=4)
    cs, more = build_choices(decisions, max_distance_km=100, sources=[elevation, sst], domain="elevation < 0")
    table = (ledger + more).to_frame().set_index("reason")["n"]
    assert table["no next fix one step later"] == 1
    assert table["selected cell beyond max_distance_km (100 km)"] == 2  # home to far, and back
    assert table["selected cell: outside the domain (elevation < 0)"] == 1
    assert table["selected cell: no sst"] == 1
    # left: far to far, home to near; land to home and blank to home start where no choice is, but went to one
    assert cs.n_decisions == 4
    assert len(tracks) == cs.n_decisions + (ledger + more).n_dropped("fix", "decision")
    assert land not in cs.choice
    assert blank not in cs.choice


# ------------------------------------------------- scaling and padding


def test_wild_values_of_validation_animals_leave_the_saved_scaling_alone(study: Study, tmp_path: Path) -> None:
    configuration = load_configuration(study.experiment)
    choice_sets = prepare(configuration).choice_sets
    is_train = np.repeat((choice_sets.decisions["split"] == "train").to_numpy(), choice_sets.n_choices)
    wild = np.where(is_train, choice_sets.features["depth"], 1e6).astype(np.float32)
    planted = choice_sets.with_features({"depth": wild})
    names, options = ["distance_km", "depth"], TrainingOptions(epochs=1, units=(4,))
    layers = []
    for name, cs in (("plain", choice_sets), ("planted", planted)):
        save_model(train(cs.split("train"), cs.split("validation"), names, options).model, tmp_path / f"{name}.keras")
        network = load_model(tmp_path / f"{name}.keras").network
        assert network is not None
        layers.append(network.get_layer("scaling"))
    for part in ("mean", "variance"):
        np.testing.assert_array_equal(getattr(layers[0], part), getattr(layers[1], part))
    rows = choice_sets.features["depth"][is_train].astype(np.float64)
    assert np.ravel(layers[0].mean)[1] == pytest.approx(rows.mean(), rel=1e-6)
    assert np.ravel(layers[0].variance)[1] == pytest.approx(rows.var(), rel=1e-6)
    assert abs(choice_sets.features["depth"].astype(np.float64).mean() / rows.mean() - 1) > 1e-4  # the fault would show


def test_scaling_fitted_with_validation_rows_is_caught_when_an_experiment_is_fitted(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    configuration = load_configuration(study.experiment)
    prepared = prepare(configuration)
    everything = prepared.choice_sets
    honest = fit_models(configuration, prepared)
    check_scaling(honest.models["environment"], everything.split("train"))

    def planted(_: ChoiceSets, names: Any, **options: Any) -> Scaling:
        return fit_scaling(everything, names, **options)

    monkeypatch.setattr(prepared_training, "fit_scaling", planted)
    again = prepare(configuration)
    with pytest.raises(ValueError, match="the scaling was fitted on other rows than those of these"):
        fit_models(configuration, again)


@pytest.mark.parametrize("batch_decisions", [2, 7, 100])
@pytest.mark.parametrize("loss", ["contrast_exact", "softmax"])
def test_padding_takes_no_part_beside_a_decision_of_sixty_choices(loss: Any, batch_decisions: int) -> None:
    cs = ragged([2, 60, 3, 2, 5, 2, 2, 4, 3])
    still = TrainingOptions(
        loss=loss, batch_decisions=batch_decisions, units=(5,), optimizer="sgd", learning_rate=1e-12, epochs=1
    )
    result = train(cs, None, ["x", "y"], still)
    contrast, decision = losses_one_by_one(result.model.log_odds(cs), cs)
    running = float(result.history["loss"].iloc[0])
    assert running == pytest.approx(contrast if loss == "contrast_exact" else decision, rel=2e-6)
    assert result.history["true_contrast_loss"].iloc[0] == pytest.approx(contrast, rel=1e-12)
    assert result.history["true_decision_loss"].iloc[0] == pytest.approx(decision, rel=1e-12)


def test_padding_moves_no_weight() -> None:
    """A decision without alternatives has no loss; its only trace would be through the padding it brings or takes."""
    sizes = [3, 2, 4, 2, 3, 2]
    cs = ragged(sizes)
    one_more = ragged([*sizes, 40])  # the same rows first, then a wide decision, of unknown selection
    wide = ChoiceSets(
        one_more.decisions,
        one_more.offsets,
        one_more.choice,
        np.append(cs.selected, -1),
        {n: np.concatenate([cs.features[n], np.full(40, cs.features[n].mean())]) for n in ("x", "y")},
    )
    options = TrainingOptions(units=(), epochs=20, optimizer="sgd", learning_rate=0.3, batch_decisions=100)
    slopes = []
    for given in (cs, wide):
        model = train(given, None, ["x", "y"], options).model
        slopes.append(np.diff(model.log_odds(given)[:4]))
    # scaling differs (more rows), so compare against descent by hand instead of bit by bit
    assert slopes[0].shape == slopes[1].shape
    for given, found in zip((cs, wide), slopes, strict=True):
        np.testing.assert_allclose(found, np.diff(descend(given, options)[:4]), rtol=1e-4, atol=1e-5)


def descend(cs: ChoiceSets, options: TrainingOptions) -> np.ndarray:
    """Log-odds of the linear model after plain gradient descent on the exact contrast loss, decision by decision."""
    x = cs.matrix(["x", "y"]).astype(np.float64)
    x = (x - x.mean(0)) / x.std(0)
    still = TrainingOptions(**{**options.__dict__, "learning_rate": 1e-12, "epochs": 1})
    network = train(cs, None, ["x", "y"], still).model.network
    assert network is not None
    beta = np.asarray(network.get_layer("log_odds").kernel, dtype=np.float64)[:, 0]
    for _ in range(options.epochs):
        phi, slope, n = x @ beta, np.zeros(2), {"a": 0, "b": 0}
        for d, individual in enumerate(cs.individuals):
            n[individual] += cs.selected[d] >= 0
        for d, individual in enumerate(cs.individuals):
            s = int(cs.selected[d])
            if s < 0:
                continue
            others = [r for r in range(cs.offsets[d], cs.offsets[d + 1]) if r != s]
            for r in others:
                share = 1 / (1 + math.exp(phi[s] - phi[r]))
                slope += share * (x[r] - x[s]) / (2 * n[individual] * len(others))
        beta = beta - options.learning_rate * slope
    return x @ beta


# ------------------------------------------------- the future in features of memory


def fixes_of(study: Study) -> pd.DataFrame:
    table = pd.read_csv(study.folder / "tracks.csv", dtype={"fish": str})
    table["time_utc"] = pd.to_datetime(table["when"])
    return table.rename(columns={"fish": "individual", "lon": "longitude", "lat": "latitude"})


def test_memory_that_stands_a_step_ahead_of_its_decisions_is_caught_when_they_are_built(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    study.edit("distance_km, stay, sst, depth]", "distance_km, stay, sst, depth, n_visits]")
    configuration = load_configuration(study.experiment)
    assert prepare(configuration).choice_sets.features["n_visits"].max() > 0
    build = History.of

    def planted(fixes: pd.DataFrame, **options: Any) -> History:
        ahead = fixes.assign(time_utc=fixes["time_utc"] - pd.Timedelta("1D"))  # the next fix at the time of this one
        return build(ahead, **options)

    monkeypatch.setattr(History, "of", planted)
    with pytest.raises(ValueError, match=r"are not made where the fix is .*let features of memory see the future"):
        prepare(configuration)


def test_feature_of_memory_that_counts_later_visits_too_is_caught(study: Study) -> None:
    history = History.of(fixes_of(study), resolution=4)
    decisions = prepare(load_configuration(study.experiment)).choice_sets.decisions
    rows = factor(decisions, max_distance_km=60.0, history=history).rows()

    def visits_ever(rows: Rows) -> np.ndarray:
        assert rows.history is not None
        individual = rows.history.positions_of(rows.decisions["individual"])[rows.decision]
        fixes = list(zip(rows.history.individual_of_fix, rows.history.cell, strict=True))
        return np.array([fixes.count(key) for key in zip(individual, rows.cell, strict=True)], dtype=np.float64)

    check_past_only(MEMORY, rows)
    planted = Definition("visits_ever", "pair", "1", "", "", visits_ever, needs_history=True)
    with pytest.raises(ValueError, match="visits_ever knows the future"):
        check_past_only([planted], rows)


# ------------------------------------------------- exp()


def test_log_odds_of_ten_thousand_overflow_nowhere() -> None:
    decisions = pd.DataFrame({"individual": ["a", "a"], "decision": [0, 1]})
    cs = ChoiceSets(decisions, [0, 3, 5], [0, 1, 2, 0, 1], [0, 4], {"stay": [1, 0, 0, 1, 0]})
    phi = np.array([1e4, 1e4 - 1.0, -1e4, 1e4, -1e4])
    row = evaluate({"m": phi}, cs, choice_groups=ALL, behavior_groups=ALL).iloc[0]
    # decision 1: ln(1 / (1 + 1/e)); decision 2: -20,000 exactly
    expected = (-math.log1p(math.exp(-1.0)) - 20_000.0) / 2
    assert row["log_probability"] == pytest.approx(expected, rel=1e-12)
    contrast = ((math.log1p(math.exp(-1.0)) + 0.0) / 2 + 20_000.0) / 2
    assert row["contrast_loss"] == pytest.approx(contrast, rel=1e-12)
    assert contrast_loss(phi, cs, exact_contrasts(cs)) == pytest.approx(contrast, rel=1e-12)
    stays = mean_choice_probability({"m": phi}, cs, "stay == 1").iloc[0]
    assert stays["predicted"] == pytest.approx((1 / (1 + math.exp(-1.0)) + 1.0) / 2, rel=1e-12)


@pytest.mark.parametrize("loss", ["contrast_exact", "softmax"])
def test_engine_does_not_overflow_at_log_odds_of_ten_thousand(loss: Any) -> None:
    cs = ragged([4, 3, 5, 2, 6, 3])
    options = TrainingOptions(loss=loss, units=(), optimizer="sgd", learning_rate=3e4, epochs=4)
    result = train(cs, None, ["x", "y"], options)  # one step of 30,000 throws the log-odds far out
    assert np.isfinite(result.history[["loss", "true_contrast_loss", "true_decision_loss"]].to_numpy()).all()
    assert result.history["loss"].max() > 1e3


# ------------------------------------------------- identities


def test_decision_ids_that_repeat_across_individuals_do_not_merge() -> None:
    rows = [
        ("a", 1, 0, 0, 0.0), ("b", 1, 0, 1, 0.0), ("a", 1, 1, 1, 1.0), ("b", 1, 1, 0, 2.0), ("b", 1, 2, 0, 3.0),
    ]  # fmt: skip
    cs = from_table(pd.DataFrame(rows, columns=["individual", "decision", "choice", "selected", "x"]), features=["x"])
    assert cs.n_choices.tolist() == [2, 3]
    row = evaluate({"m": cs.features["x"]}, cs, choice_groups=ALL, behavior_groups=ALL).iloc[0]
    a = -math.log1p(math.exp(-1.0))
    b = -math.log(1 + math.exp(2.0) + math.exp(3.0))
    assert row["log_probability"] == pytest.approx((a + b) / 2, rel=1e-7)  # five choices in one stratum: -3.4
    assert (row["n_individuals"], row["n_decisions"]) == (2, 2)


def rename(study: Study, of: Callable[[str, int], str]) -> None:
    """Fish of the study under other names: (fish, row within fish) -> name."""
    path = study.folder / "tracks.csv"
    table = pd.read_csv(path, dtype=str)
    within = table.groupby("fish").cumcount()
    table["fish"] = [of(fish, k) for fish, k in zip(table["fish"], within, strict=True)]
    table.to_csv(path, index=False)


def test_two_tags_of_one_animal_are_on_one_side_of_every_split(study: Study) -> None:
    rename(study, lambda fish, k: f"{fish}_tag{k // 13}")
    configuration = load_configuration(study.experiment)
    apart = 0
    for seed in range(5):
        decisions = prepare(changed(configuration, "split.seed", seed)).choice_sets.decisions
        apart += (decisions.groupby(decisions["individual"].str[:2])["split"].nunique() > 1).any()
    assert apart > 0  # under the names of the tags an animal does come on both sides
    study.edit("resample:", 'clean: {individual_pattern: "(.+)_tag."}\n  resample:')
    configuration = load_configuration(study.experiment)
    for seed in range(5):
        decisions = prepare(changed(configuration, "split.seed", seed)).choice_sets.decisions
        assert sorted(set(decisions["individual"])) == [f"{k:02d}" for k in range(6)]
        assert decisions["tag"].nunique() == 12
        assert (decisions.groupby(decisions["tag"].str[:2])["split"].nunique() == 1).all()
        audit_split(decisions)


def test_one_tag_under_two_names_in_train_and_validation_is_refused(study: Study) -> None:
    choice_sets = prepare(load_configuration(study.experiment)).choice_sets
    side = choice_sets.decisions.drop_duplicates("split").set_index("split")["individual"]
    tag = choice_sets.decisions["individual"].replace({side["train"]: "T9", side["validation"]: "T9"})
    to_table(choice_sets.with_context(tag=tag)).to_csv(study.folder / "table.csv", index=False)
    text = study.experiment.read_text()
    sections = text[text.index("split:") :].replace(", depth]", "]")
    study.experiment.write_text(
        f"name: tags\ntable: {{file: table.csv, features: [distance_km, stay, sst]}}\n{sections}"
    )
    with pytest.raises(ValueError, match=r"1 tag is on more than one side of the split \(T9\)"):
        prepare(load_configuration(study.experiment))


# ------------------------------------------------- the best on the very set that chose it


def test_best_epoch_is_the_only_choice_made_on_validation_and_is_stated(study: Study) -> None:
    configuration = load_configuration(study.experiment)
    prepared = prepare(configuration)
    fit = fit_models(configuration, prepared)
    assert set(fit.best_epochs) == {"distance", "environment"}
    for name, epoch in fit.best_epochs.items():
        history = fit.history[fit.history["model"] == name].set_index("epoch")
        assert history["val_true_contrast_loss"].idxmin() == epoch
        validation = prepared.choice_sets.split("validation")
        contrast, decision = losses_one_by_one(fit.models[name].log_odds(validation), validation)
        assert history.loc[epoch, "val_true_contrast_loss"] == pytest.approx(contrast, rel=1e-9)
        assert history.loc[epoch, "val_true_decision_loss"] == pytest.approx(decision, rel=1e-9)


def test_best_seed_is_reported_on_animals_that_played_no_part_in_choosing_it(tmp_path: Path) -> None:
    # Nothing can be learned from noise. The best of six seeds beats chance where it was chosen, and not elsewhere.
    rng = np.random.default_rng(3)
    keys = [(f"a{i}", d, c) for i in range(8) for d in range(8) for c in range(3)]
    rows = pd.DataFrame(keys, columns=["individual", "decision", "choice"]).assign(noise=rng.normal(size=8 * 8 * 3))
    rows["selected"] = (rows["choice"] == np.repeat(rng.integers(0, 3, 64), 3)).astype(int)
    rows.to_csv(tmp_path / "noise.csv", index=False)
    (tmp_path / "noise.yaml").write_text(
        "name: noise\ntable: {file: noise.csv, features: [noise]}\n"
        "training: {epochs: 15, units: [8], batch_decisions: 16, learning_rate: 0.03}\n"
        "models: {network: {features: [noise], grid: {seed: [0, 1, 2, 3, 4, 5]}}}\n"
    )
    configuration = load_configuration(tmp_path / "noise.yaml")
    prepared = prepare(configuration)
    splits = k_fold(prepared.choice_sets.decisions, n_folds=2, validation_share=0.34)
    for split in splits:
        sides = {role: set(prepared.choice_sets.individuals[split.role == role]) for role in set(split.role)}
        assert sides.keys() == {"train", "validation", "test"}
        assert not (sides["test"] & (sides["train"] | sides["validation"]))
    row = cross_validate(configuration, prepared, splits, n_workers=1).summary.set_index("model").loc["network"]
    assert row["validation_log_probability"] > -math.log(3) > row["log_probability"]


# ------------------------------------------------- chronological splits that shuffle


@pytest.mark.parametrize("seed", range(3))
def test_blocks_of_time_train_on_the_past_whatever_the_order_of_the_rows(seed: int) -> None:
    days = pd.date_range("2020-01-01", periods=60)
    table = pd.DataFrame({"individual": np.repeat(["a", "b"], 60), "time_utc": [*days, *days]})
    table = table.sample(frac=1, random_state=seed, ignore_index=True)
    splits = time_blocks(table, n_blocks=4)
    assert len(splits) == 2
    for split in splits:
        times = {role: table["time_utc"][split.role == role] for role in ("train", "validation", "test")}
        assert times["train"].max() < times["validation"].min()
        assert times["validation"].max() < times["test"].min()


# ------------------------------------------------- a transition matrix exported transposed


def test_transposed_transition_matrix_is_refused_and_files_keep_the_orientation(tmp_path: Path) -> None:
    decisions = pd.DataFrame({"individual": "a", "decision": [0, 1], "origin": [1, 2]})
    cs = ChoiceSets(decisions, [0, 2, 4], [1, 2, 1, 2], [0, 2], {})
    table = transition_table(np.log([0.9, 0.1, 0.6, 0.4]), cs)  # 1 keeps what it has, 2 sends most to 1
    for name in ("t.csv", "t.nc"):
        back = read_transitions(write_transitions(table, tmp_path / name)).set_index(["origin", "choice"])
        assert back.loc[(2, 1), "probability"] == pytest.approx(0.6)
        assert back.loc[(1, 2), "probability"] == pytest.approx(0.1)
    swapped = table.rename(columns={"origin": "choice", "choice": "origin"})
    with pytest.raises(ValueError, match="transposed"):
        check_transitions(swapped)
