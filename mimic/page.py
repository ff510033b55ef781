"""The tables of a run into one HTML file that shows them and needs nothing else: no server, no network."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

import numpy as np
import pandas as pd
from bokeh.document import Document
from bokeh.embed import file_html
from bokeh.events import DocumentReady, MouseLeave, MouseMove, Tap
from bokeh.models import (
    Button,
    Checkbox,
    CustomJS,
    DatetimeRangeSlider,
    InlineStyleSheet,
    Model,
    Select,
    TextInput,
    Widget,
)
from bokeh.palettes import Viridis256
from bokeh.resources import INLINE
from jinja2 import Environment

from mimic.answers import plain
from mimic.page_map import decision_source, map_figure, map_view
from mimic.page_panels import (
    GROUP_TEXTS,
    HEAD_PX,
    MOST_ROWS,
    ROW_PX,
    by_date_figure,
    curve_figure,
    groups_table,
    people_table,
)
from mimic.page_tables import NULL, PageTables
from mimic.palette import DIFFERENCE_COLORS, interpolated, model_colors
from mimic.schema import INDIVIDUAL, SPLIT, TIME, VALIDATION

__all__ = ["MEANINGS", "page_document", "page_html"]

MEANINGS = {
    "D": "mean of ln p(selected), the log-probability that a model gave to what the animals did: nats, at most 0.",
    "GMP": "geometric-mean probability, exp(D): the typical probability of the selected choice, between 0 and 1.",
    "null": "the model in which every choice of a decision is equally likely, p = 1/n; null GMP is its GMP.",
    "lift": "GMP over null GMP: so many times better than random; 1 is no better, below 1 is worse.",
    "interval": "of GMP, at 95 %, by drawing the individuals with replacement: how far it depends on who was tagged.",
    "weighting": "individual: all individuals weigh the same; decision: all decisions do.",
    "split": "models were fitted to train; validation decided when to stop, so that its figures are a little optimistic.",
    "choices": "only the choices of this group count, their probabilities summing to 1.",
    "behaviors": "only the decisions of this group count.",
    "rank": "place of the selected choice by its probability, 1 the most probable; ties share their mean.",
    "stays": "share of the decisions that selected the origin.",
    "difference": "ln p by one model less ln p by another for the same decision, nats: 0.69 is twice the probability.",
    "curve": "accumulated local effect: what small changes of a feature, added up, do to the log-odds of a choice.",
}

_ALL = ("", "all")
# Around what the keyboard is on: that of bokeh is too pale to be seen, and styles of the page do not reach it.
_RING = (
    ":is(.bk-input, .bk-btn, input, .noUi-handle):focus-visible { outline: 2px solid #0072b2; outline-offset: 1px; }"
)
_DAY_MS, _HOUR_MS = 86_400_000, 3_600_000


def page_html(tables: PageTables) -> str:
    """The page as the text of an HTML file; scripts, styles and data are within it.

    Raises
    ------
    ValueError
        If there is no decision.
    """
    document = page_document(tables)
    has_runs = [(model, ", ".join(tables.runs.get(model, [])) or "no training") for model in tables.models]
    return file_html(
        document,
        INLINE,
        title=f"{tables.name}: decisions and models",
        template=Environment().from_string(_asset("page.html")),
        template_variables={
            "name": tables.name,
            "description": tables.description,
            "version": tables.version,
            "facts": _counts(tables),
            "notes": _notes(tables),
            "terms": list(MEANINGS.items()),
            "runs": has_runs,
            "no_map": tables.no_map,
            "has_map": not tables.no_map,
            "has_time": _has_time(tables),
            "has_groups": len(tables.groups) > 0,
            "has_curves": len(tables.curves) > 0,
            "css": _asset("page.css"),
            "script": _asset("page_dots.js") + _asset("page.js"),
            # "<" could end the script that holds it
            "data": json.dumps(plain(_page_facts(tables)), allow_nan=False).replace("<", "\\u003c"),
        },
        suppress_callback_warning=True,
    )


def page_document(tables: PageTables) -> Document:
    """All models of bokeh that the page shows, under the names that `assets/page.js` and `assets/page.html` know.

    Raises
    ------
    ValueError
        If there is no decision.
    """
    if tables.decisions.empty:
        raise ValueError("expected decisions to show; got none.")
    view = None if tables.no_map else map_view(tables.decisions)
    source, colors = decision_source(tables, view), _colors(tables)
    people = people_table(tables)
    people.tags = [source]  # nothing else that is drawn holds the decisions
    people.source.selected.js_on_change("indices", _js("chooseRow(cb_obj.indices)"))
    roots: list[Model] = [*_model_controls(tables), people, by_date_figure(colors, has_time=_has_time(tables))]
    if view is not None:
        fig = map_figure(tables, source, view)
        for size in ("inner_width", "inner_height"):
            fig.js_on_change(size, _js("fit()"))
        for axis in (fig.x_range, fig.y_range):
            axis.js_on_change("start", _js("paintSoon()"))
        fig.js_on_event(Tap, _js("tap(cb_obj.x, cb_obj.y)"))
        fig.js_on_event(MouseMove, _js("hover(cb_obj.x, cb_obj.y, cb_obj.sx, cb_obj.sy)"))
        fig.js_on_event(MouseLeave, _js("leave()"))
        roots += [fig, *_map_controls(tables)]
    if len(tables.groups):
        roots += [*_group_controls(tables), groups_table(tables, colors)]
    if len(tables.curves):
        roots += [_feature_control(tables), curve_figure(tables.models, colors)]
    ring = InlineStyleSheet(css=_RING)
    document = Document()
    for root in roots:
        if isinstance(root, Widget):
            root.stylesheets = [*root.stylesheets, ring]
        document.add_root(root)
    document.js_on_event(DocumentReady, _js("start()"))
    return document


def _js(call: str) -> CustomJS:
    # before the page is ready there is nothing to answer with
    ready = "" if call == "start()" else "if (document.body.dataset.ready) "
    return CustomJS(code=f"{ready}mimicPage.{call}")


def _model_controls(tables: PageTables) -> list[Model]:
    """Which models, and which individual."""
    first, second = tables.pair
    names = [*tables.models, NULL]
    model = Select(title="Model A", options=names, value=first, name="model", width=170)
    other = Select(title="Model B, compared with A", options=names, value=second, name="other", width=170)
    people = [("", "none"), *((name, name) for name in tables.individuals[INDIVIDUAL])]
    individual = Select(title="Individual", options=people, value="", name="individual", width=190)
    clear = Button(label="Clear", name="clear", width=80, disabled=True)
    for control in (model, other):
        control.js_on_change("value", _js("chooseModels()"))
    individual.js_on_change("value", _js("chooseName(cb_obj.value)"))
    clear.js_on_click(_js("clear()"))
    return [model, other, individual, clear]


def _map_controls(tables: PageTables) -> list[Model]:
    """What the colors mean, and which decisions are shown."""
    kinds = [
        ("probability", "probability (A)"),
        ("lift", "lift over 1/n (A)"),
        ("difference", "difference of ln p (A - B)"),
    ]
    mode = Select(title="Colors", options=kinds, value="probability", name="mode", width=200)
    mode.js_on_change("value", _js("recolor()"))
    splits = [_ALL, *((name, name) for name in dict.fromkeys(tables.decisions[SPLIT]))]
    split = Select(title="Split", options=splits, value="", name="split", width=110)
    split.js_on_change("value", _js("show()"))
    moves = Checkbox(label="lines from origin to selected cell, of the chosen individual", name="moves_shown")
    moves.js_on_change("active", _js("showMoves(cb_obj.active)"))
    controls: list[Model] = [mode, split, moves]
    if _has_time(tables):
        time, unit = tables.decisions[TIME].to_numpy(dtype="datetime64[ms]").astype(np.int64), _step_ms(tables)
        start, end = int(time.min() // unit * unit), int(-(-(time.max() + 1) // unit) * unit)
        slider = DatetimeRangeSlider(
            title="Time (UTC): drag the ends, or the bar between them",
            show_value=False,
            start=start,
            end=end,
            value=(start, end),
            step=unit,
            format="%d %b %Y" if unit == _DAY_MS else "%d %b %Y %H:%M",
            name="time",
            sizing_mode="stretch_width",
            bar_color="#0072b2",
        )
        slider.js_on_change("value", _js("showSoon()"))
        controls.append(slider)
    return controls


def _group_controls(tables: PageTables) -> list[Model]:
    """What filters the table of groups; at first the validation animals, each weighing the same."""
    text = TextInput(title="Filter", placeholder="words, such as: move summer", name="groups_text", width=240)
    text.js_on_change("value_input", _js("filterGroups()"))
    found: list[Model] = [text]
    wanted = {"model": "", "split": VALIDATION, "weighting": "individual"}
    for name, value in wanted.items():
        values = [str(v) for v in dict.fromkeys(tables.groups[name])]
        options = [_ALL, *((v, v) for v in values)]
        control = Select(title=name.capitalize(), options=options, name=f"groups_{name}", width=150)
        control.value = value if value in values else ""
        control.js_on_change("value", _js("filterGroups()"))
        found.append(control)
    return found


def _feature_control(tables: PageTables) -> Select:
    features = list(dict.fromkeys(tables.curves["feature"]))
    select = Select(title="Feature", options=features, value=features[0], name="feature", width=260)
    select.js_on_change("value", _js("respond()"))
    return select


def _page_facts(tables: PageTables) -> dict[str, Any]:
    """What `assets/page.js` reads besides the columns of bokeh."""
    view = None if tables.no_map else map_view(tables.decisions)
    viridis = list(Viridis256)
    return {
        "models": tables.models,
        "null": NULL,
        "colors": list(_colors(tables).values()),
        "splits": list(dict.fromkeys(tables.decisions[SPLIT])),
        "has_time": _has_time(tables),
        "step_ms": _step_ms(tables),
        "individuals": _people(tables),
        "group_texts": GROUP_TEXTS,
        "table_px": {"head": HEAD_PX, "row": ROW_PX, "most": MOST_ROWS},
        "palettes": {"viridis": viridis, "differences": interpolated(DIFFERENCE_COLORS, 255)},
        "view": view and {"x": view.x, "y": view.y, "aspect": view.aspect, "polar": view.is_polar},
        "curves": _curves(tables.curves) if len(tables.curves) else {},
        "curve_notes": _curve_notes(tables.curves) if len(tables.curves) else {},
        "labels": dict(tables.labels),
    }


def _people(tables: PageTables) -> list[dict[str, Any]]:
    """The individuals with D of every model, the null last."""
    d = tables.scores.pivot(index=INDIVIDUAL, columns="model", values="log_probability")[[*tables.models, NULL]]
    milliseconds = {
        name: [None if pd.isna(t) else int(t.timestamp() * 1000) for t in tables.individuals[name]]
        for name in ("first_utc", "last_utc")
    }
    return [
        {
            "name": row[INDIVIDUAL],
            "split": row["split"],
            "n": row["n_decisions"],
            "first": milliseconds["first_utc"][k],
            "last": milliseconds["last_utc"][k],
            "stay": row["stay_share"],
            "d": d.loc[row[INDIVIDUAL]].tolist(),
        }
        for k, row in enumerate(tables.individuals.to_dict(orient="records"))
    ]


def _curves(curves: pd.DataFrame) -> dict[str, dict[str, dict[str, list[float]]]]:
    """Feature -> model -> the points of its curve; a band of no width where there is no interval."""
    found: dict[str, dict[str, dict[str, list[float]]]] = {}
    for (feature, model), part in curves.groupby(["feature", "model"], sort=False):
        y = part["log_odds"]
        ends = {name: part[f"log_odds_{name}"].fillna(y).tolist() for name in ("low", "high")}
        found.setdefault(str(feature), {})[str(model)] = {"x": part["value"].tolist(), "y": y.tolist(), **ends}
    return found


def _curve_notes(curves: pd.DataFrame) -> dict[str, str]:
    """Feature -> what the bands around its curves are."""
    told = {
        "averaging population": "the individuals averaged over (not the model: that of a linear model has no width)",
        "members": "the members of an ensemble",
    }
    found = {}
    for feature, part in curves.groupby("feature", sort=False):
        kinds = [str(kind) for kind in dict.fromkeys(part["interval"]) if kind]
        bands = (
            f"Bands are 95 % over {'; '.join(told.get(kind, kind) for kind in kinds)}." if kinds else "No intervals."
        )
        notes = "; ".join(str(note) for note in dict.fromkeys(part["note"]) if note)
        found[str(feature)] = f"{bands} Note: {notes}." if notes else bands
    return found


def _counts(tables: PageTables) -> list[tuple[str, str]]:
    people = tables.individuals
    splits = people["split"].value_counts()
    counts = [("individuals", f"{len(people):,}"), ("decisions", f"{tables.n_all:,}")]
    if len(splits) > 1:
        counts += [(f"individuals in {name}", f"{splits[name]:,}") for name in dict.fromkeys(sorted(people["split"]))]
    if people["first_utc"].notna().any():
        first, last = people["first_utc"].min(), people["last_utc"].max()
        ends = [f"{end.day} {end:%b %Y}" for end in (first, last)]
        counts.append(("dates", " to ".join(dict.fromkeys(ends))))
    mean = float(tables.decisions["n_choices"].mean())
    counts += [("choices per decision", f"{mean:,.0f}"), ("models", f"{len(tables.models)}"), ("mimic", tables.version)]
    return [(what, value) for what, value in counts if value]


def _notes(tables: PageTables) -> list[str]:
    found = []
    if tables.n_unknown:
        found.append(f"{tables.n_unknown:,} decisions whose selection is not known are left out.")
    if len(tables.decisions) < tables.n_all:
        shown = (
            f"{len(tables.decisions):,} of {tables.n_all:,} decisions are shown one by one, evenly of each individual"
        )
        found.append(f"{shown}; the figures are of all.")
    return found


def _colors(tables: PageTables) -> dict[str, str]:
    return {**model_colors(tables.models), NULL: "#404040"}


def _has_time(tables: PageTables) -> bool:
    return bool(tables.decisions[TIME].notna().all())


def _step_ms(tables: PageTables) -> int:
    """Of the slider: a day, or an hour where all is over in days."""
    return _DAY_MS if tables.decisions[TIME].max() - tables.decisions[TIME].min() > pd.Timedelta("10D") else _HOUR_MS


def _asset(name: str) -> str:
    return files("mimic").joinpath("assets", name).read_text(encoding="utf-8")
