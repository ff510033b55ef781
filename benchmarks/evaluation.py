"""GMP of four groups of choices and decisions: `evaluate` against pandas groupby; and of a hundred groups at once.

Every case runs in a process of its own, one at a time, on the same simulated log-odds; the parent compares them.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

# The parent stays small and imports the standard library only: on Linux the peak memory that a child reports is
# at least that of the process it was started from.
if TYPE_CHECKING:
    import pandas as pd

    from mimic.schema import ChoiceSets

N_ROWS = {"quick": 1_000_000, "full": 20_000_000}
N_REPEATS = 3
TOLERANCE = 1e-9
CASES = ("usual_way", "usual_way_whole_table", "ours", "ours_with_intervals", "ours_100_groups")
LIKE_FOR_LIKE = ("usual_way", "usual_way_whole_table", "ours_with_intervals")
METRICS = ("gmp", "log_probability", "contrast_loss", "null_gmp", "lift", "mean_probability")
CHOICE_GROUPS = {"all": "all", "move": "distance_km > 0"}
BEHAVIOR_GROUPS = {"all": "all", "summer": "season == 'summer'"}
# Every group leaves other choices, so that nothing of one serves another but the exponential of the log-odds.
HUNDRED_GROUPS = {f"beyond_{k}": f"distance_km > {k / 2}" for k in range(100)}


def emit(case: str, metric: str, value: float, unit: str) -> None:
    """One line of the result on standard output."""
    line = {"benchmark": "evaluation", "case": case, "metric": metric, "value": value, "unit": unit}
    print(json.dumps(line), flush=True)


def say(text: str) -> None:
    """Progress on standard error."""
    print(f"[evaluation] {text}", file=sys.stderr, flush=True)


def peak_mb() -> float:
    """Largest resident memory of this process so far, MB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


def simulate(n_rows: int) -> tuple[ChoiceSets, Any]:
    """Ragged choice sets of 15 to 23 choices from 200 individuals, and log-odds of every row."""
    import numpy as np
    import pandas as pd

    from mimic.schema import ChoiceSets

    rng = np.random.default_rng(0)
    n_decisions = n_rows // 19
    sizes = rng.integers(15, 24, n_decisions)
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    distance = rng.uniform(20.0, 100.0, offsets[-1]).astype(np.float32)
    distance[offsets[:-1]] = 0.0  # the first choice of a decision is to stay
    selected = offsets[:-1] + np.where(rng.uniform(size=n_decisions) < 0.6, 0, rng.integers(0, sizes))
    individual = np.sort(rng.integers(0, 200, n_decisions))
    decisions = pd.DataFrame(
        {
            "individual": pd.Series(individual).map(lambda code: f"fish {code}"),
            "decision": np.arange(n_decisions),
            "season": np.where(rng.uniform(size=n_decisions) < 0.4, "summer", "winter"),
        }
    )
    choice = np.arange(offsets[-1]) - np.repeat(offsets[:-1], sizes)
    log_odds = rng.normal(size=offsets[-1]) - distance / 30.0
    return ChoiceSets(decisions, offsets, choice, selected, {"distance_km": distance}), log_odds


def hundred_groups(choice_sets: ChoiceSets, log_odds: Any) -> tuple[list[tuple[float, float]], dict[str, float]]:
    """Seconds of one `evaluate` of a hundred choice groups, with intervals and both weightings."""
    from mimic.evaluation import evaluate

    started, cpu_started = time.perf_counter(), time.process_time()
    table = evaluate(
        {"model": log_odds}, choice_sets, choice_groups=HUNDRED_GROUPS, behavior_groups={"all": "all"}, splits=["all"]
    )
    seconds = [(time.perf_counter() - started, time.process_time() - cpu_started)]
    assert len(table) == 2 * len(HUNDRED_GROUPS)
    assert table["gmp_low"].notna().all()
    return seconds, {}


def ours(
    choice_sets: ChoiceSets, log_odds: Any, *, method: Any = None
) -> tuple[list[tuple[float, float]], dict[str, float]]:
    """Seconds (wall, processor) of each repeat of `evaluate`, and its numbers by metric and group."""
    from mimic.evaluation import evaluate

    seconds = []
    for _ in range(N_REPEATS):
        started, cpu_started = time.perf_counter(), time.process_time()
        table = evaluate(
            {"model": log_odds},
            choice_sets,
            choice_groups=CHOICE_GROUPS,
            behavior_groups=BEHAVIOR_GROUPS,
            splits=["all"],
            weightings=["individual"],
            method=method,
        )
        seconds.append((time.perf_counter() - started, time.process_time() - cpu_started))
    names = table["choice_group"] + " x " + table["behavior_group"]
    table = table.set_index(names)[list(METRICS)]
    return seconds, {f"{metric}: {name}": float(table.loc[name, metric]) for name in table.index for metric in METRICS}


def long_table(choice_sets: ChoiceSets, log_odds: Any) -> pd.DataFrame:
    """What a pandas user holds: one row a choice, with the keys as integers and categories."""
    import pandas as pd

    number = choice_sets.decision_of_row
    decisions = choice_sets.decisions
    return pd.DataFrame(
        {
            "individual": decisions["individual"].astype("category").array[number],
            "decision": number,
            "season": decisions["season"].astype("category").array[number],
            "distance_km": choice_sets.features["distance_km"],
            "selected": choice_sets.is_selected,
            "log_odds": log_odds,
        }
    )


def scores_of_decisions(rows: pd.DataFrame, *, whole_table: bool) -> pd.DataFrame:
    """One row a decision whose selection is among the rows: individual, season, log_p, and what else is asked for."""
    import numpy as np

    by_decision = rows.groupby("decision", sort=False)["log_odds"]
    largest = by_decision.transform("max")
    odds = np.exp(rows["log_odds"] - largest)
    total = odds.groupby(rows["decision"], sort=False).sum()
    picked = rows[rows["selected"]]
    log_p = picked["log_odds"] - largest[picked.index] - np.log(picked["decision"].map(total))
    scores = picked[["individual", "season"]].assign(log_p=log_p)
    if not whole_table:
        return scores
    others = rows[~rows["selected"] & rows["decision"].isin(picked["decision"])]
    of_selected = others["decision"].map(picked.set_index("decision")["log_odds"])
    losses = np.logaddexp(0.0, others["log_odds"] - of_selected)
    contrast = losses.groupby(others["decision"], sort=False).mean()
    null = -np.log(picked["decision"].map(by_decision.size()))
    return scores.assign(contrast=picked["decision"].map(contrast), null=null, p=np.exp(log_p))


def summary(scores: pd.DataFrame) -> dict[str, float]:
    """Metric -> mean over individuals of the means of their decisions, or what follows from it."""
    import numpy as np

    names = [name for name in ("log_p", "contrast", "null", "p") if name in scores]
    means = scores.groupby("individual", observed=True)[names].mean().mean()
    found = {"gmp": float(np.exp(means["log_p"]))}
    if len(names) == 1:
        return found
    lift = float(np.exp(means["log_p"] - means["null"]))
    return found | {
        "log_probability": means["log_p"],
        "contrast_loss": means["contrast"],
        "null_gmp": float(np.exp(means["null"])),
        "lift": lift,
        "mean_probability": means["p"],
    }


def usual_way(rows: pd.DataFrame, *, whole_table: bool) -> tuple[list[tuple[float, float]], dict[str, float]]:
    """Seconds (wall, processor) of each repeat of a groupby pipeline, and its numbers by metric and group.

    Tuned as far as the approach goes: built-in aggregations only, no sorting of keys, decisions scored once for
    each of the two choice groups, from which both behavior groups are taken.
    """
    seconds = []
    for _ in range(N_REPEATS):
        started, cpu_started = time.perf_counter(), time.process_time()
        found = {}
        for choice_group in CHOICE_GROUPS:
            kept = rows if choice_group == "all" else rows[rows["distance_km"] > 0]
            scores = scores_of_decisions(kept, whole_table=whole_table)
            for behavior_group in BEHAVIOR_GROUPS:
                part = scores if behavior_group == "all" else scores[scores["season"] == "summer"]
                for metric, value in summary(part).items():
                    found[f"{metric}: {choice_group} x {behavior_group}"] = value
        seconds.append((time.perf_counter() - started, time.process_time() - cpu_started))
    return seconds, found


def run_case(case: str, n_rows: int) -> None:
    """Measure one case in this process."""
    choice_sets, log_odds = simulate(n_rows)
    emit(case, "n_rows", choice_sets.n_rows, "rows")
    if case.startswith("ours"):
        import mimic.evaluation  # noqa: F401  (imports are not part of the measurement)

        before = peak_mb()
        if case == "ours_100_groups":
            seconds, numbers = hundred_groups(choice_sets, log_odds)
        else:
            seconds, numbers = ours(choice_sets, log_odds, method="expanded" if "intervals" in case else None)
    else:
        rows = long_table(choice_sets, log_odds)
        del choice_sets, log_odds
        before = peak_mb()
        seconds, numbers = usual_way(rows, whole_table=case == "usual_way_whole_table")
    emit(case, "memory_before", round(before, 1), "MB")
    emit(case, "peak_memory", round(peak_mb(), 1), "MB")
    # the repeat that other programs disturbed least
    emit(case, "seconds", min(wall for wall, _ in seconds), "s")
    emit(case, "cpu_seconds", min(cpu for _, cpu in seconds), "s")
    for name, value in numbers.items():
        emit(case, name, value, "nats" if name.startswith(("log", "contrast")) else "1")


def run_all(n_rows: int) -> None:
    """All cases in turn, and whether they agree."""
    found: dict[str, dict[str, tuple[float, str]]] = {}
    for case in CASES:
        say(case)
        command = [sys.executable, __file__, "--case", case, "--rows", str(n_rows)]
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        lines = [json.loads(line) for line in output.splitlines()]
        found[case] = {line["metric"]: (line["value"], line["unit"]) for line in lines}
    compare(found)
    for case, metrics in found.items():
        for metric, (value, unit) in metrics.items():
            if ":" not in metric or metric.startswith("gmp"):
                emit(case, metric, round(value, 12), unit)
        emit(case, "rows_per_second", round(metrics["n_rows"][0] / metrics["seconds"][0]), "rows/s")
    for other in LIKE_FOR_LIKE:
        ratios = {m: found[other][m][0] / found["ours"][m][0] for m in ("seconds", "cpu_seconds")}
        emit("ours", f"ratio_to_{other}", round(ratios["seconds"], 2), "times as fast")
        emit("ours", f"ratio_to_{other}_cpu", round(ratios["cpu_seconds"], 2), "times less processor time")


def compare(found: dict[str, dict[str, tuple[float, str]]]) -> None:
    """Assert that the usual ways give the numbers of ours."""
    for case, n_expected in (("usual_way", 4), ("usual_way_whole_table", 24)):
        numbers = [metric for metric in found[case] if ":" in metric]
        assert len(numbers) == n_expected
        for name in numbers:
            difference = abs(found["ours"][name][0] - found[case][name][0])
            assert difference < TOLERANCE, f"{case}: {name} differs by {difference:g}"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a million rows instead of 20 million")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    parser.add_argument("--rows", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.case is None:
        run_all(N_ROWS["quick" if given.quick else "full"])
    else:
        run_case(given.case, given.rows)


if __name__ == "__main__":
    main()
