"""The command that tells what a model of a finished run expects of new decisions: `mimic predict`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mimic.answers import answer

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["predict_command"]

_SHOWN = 5  # choices of a decision in text
_DECISIONS = 20


def predict_command(
    run: Annotated[Path, typer.Argument(help="The folder of a run.")],
    model: Annotated[str, typer.Argument(help="A model of it, such as environment or conditional_logit.")],
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="[INPUT]",
            help="A long table of choices (.csv, .csv.gz, .parquet), selected or not; with --last a track file in the "
            "form of the experiment's, by default the run's own tracks.",
        ),
    ] = None,
    last: Annotated[
        bool, typer.Option("--last", help="Build the choices of each individual's last position, and predict those.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Write all probabilities here: .csv, .csv.gz or .parquet.")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object on standard output, nothing else.")
    ] = False,
) -> None:
    """Predict decisions whose selection is unknown: the probability and rank of every choice."""
    if file is None and not last:
        raise ValueError("expected a table of choices, or --last for each individual's last position.")
    if file is not None and not file.is_file():
        raise FileNotFoundError(f"no file at {file}; give a table of choices, or with --last a track file.")
    from mimic.prediction import check_suffix, load_predictor, predict_last, predict_table, write_predictions
    from mimic.runs import load_summary
    from mimic.tensorflow_start import start_tensorflow

    if out is not None:
        check_suffix(out)
    load_summary(run)  # TensorFlow takes seconds: what is no run is told before
    start_tensorflow()
    predictor = load_predictor(run, model)
    if last:
        table, ledger = predict_last(predictor, run / "tracks.parquet" if file is None else file)
    else:
        assert file is not None
        table, ledger = predict_table(predictor, file)
    if out is not None:
        write_predictions(table, out)
    result = {
        "run": str(run),
        "model": model,
        "n_decisions": int((table["individual"].astype(str) + "/" + table["decision"].astype(str)).nunique()),
        "out": None if out is None else str(out),
        "ledger": ledger.to_frame().to_dict(orient="records"),
    }
    if out is None:
        result["predictions"] = table.to_dict(orient="records")
    answer(result, as_json, lambda: _format(table, ledger.explain(), out))


def _format(table: pd.DataFrame, ledger: str, out: Path | None) -> str:
    """The likeliest choices of the first decisions."""
    from mimic.textable import align

    first = table[["individual", "decision"]].drop_duplicates().head(_DECISIONS)
    keys = set(first.itertuples(index=False, name=None))
    inside = [key in keys for key in table[["individual", "decision"]].itertuples(index=False, name=None)]
    own = table[inside].sort_values(["individual", "decision", "rank"], kind="stable")
    shown = own.groupby(["individual", "decision"], sort=False).head(_SHOWN)
    what = next(name for name in ("label", "cell", "choice") if name in table)
    lines = [["individual", "decision", what, "probability %", "rank"]]
    for row in shown.to_dict(orient="records"):
        lines.append([str(row["individual"]), str(row["decision"]), str(row[what]), f"{100 * row['probability']:.2f}"])
        lines[-1].append(str(row["rank"]))
    text = "\n".join(align(lines, {0, 2}))
    where = f"all probabilities are in {out}" if out is not None else "give --out for all probabilities"
    n = len(table[["individual", "decision"]].drop_duplicates())
    return f"{text}\n\n{n:,} decisions, the likeliest {_SHOWN} choices of up to {_DECISIONS} shown; {where}.\nledger:\n{ledger}"
