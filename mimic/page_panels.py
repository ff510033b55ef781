"""The tables of a page into its widgets: the table of groups, the list of individuals, ln p by date, response curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from bokeh.models import (
    CDSView,
    ColumnDataSource,
    CustomJSCompare,
    DataTable,
    DateFormatter,
    DatetimeTickFormatter,
    HTMLTemplateFormatter,
    IndexFilter,
    InlineStyleSheet,
    Legend,
    LegendItem,
    NumberFormatter,
    StringFormatter,
    TableColumn,
)
from bokeh.plotting import figure

from mimic.page_tables import PageTables
from mimic.schema import INDIVIDUAL

__all__ = [
    "GROUP_TEXTS",
    "HEAD_PX",
    "MOST_ROWS",
    "ROW_PX",
    "by_date_figure",
    "curve_figure",
    "groups_table",
    "people_table",
]

GROUP_TEXTS = ("model", "split", "choice_group", "behavior_group", "weighting", "note")
"""Columns that the filter of the table of groups looks in."""

ROW_PX, HEAD_PX, MOST_ROWS = 26, 34, 12
_TABLE_LOOK = """
.slick-header-column { font-size: 12px; font-weight: 600; background: #f5f7f9; }
.slick-cell { font-size: 13px; font-variant-numeric: tabular-nums; }
.slick-row:hover .slick-cell { background: #e8f1f8; }
.slick-cell.selected { background: #cfe4f3; }
"""
# The intervals are texts that sort by their lower ends; <%- %> keeps what comes from files from being HTML.
_INTERVAL = '<div style="text-align: right"><%- isNaN(value) || value === null ? "–" : interval %></div>'
_MODEL = '<span title="<%- value %>"><span style="color: <%- color %>">&#9632;</span> <%- value %></span>'
_TEXT = '<span title="<%- value %>"><%- value %></span>'  # whole where the column is too narrow for it


def groups_table(tables: PageTables, colors: Mapping[str, str]) -> DataTable:
    """The table of groups; which rows are shown is the page's to fill."""
    groups = tables.groups
    data: dict[str, list[Any]] = {
        name: groups[name].astype(str).tolist() if name in groups else [""] * len(groups) for name in GROUP_TEXTS
    }
    for name in ("n_individuals", "n_decisions", "log_probability", "gmp", "gmp_low", "gmp_high", "null_gmp", "lift"):
        values = groups[name] if name in groups else pd.Series(np.nan, index=groups.index)
        data[name] = values.astype(float).tolist()
    ends = zip(data["gmp_low"], data["gmp_high"], strict=True)
    data["interval"] = [f"{low:.4f}–{high:.4f}" for low, high in ends]
    data["color"] = [colors.get(model, "#404040") for model in data["model"]]
    whole = NumberFormatter(format="0,0", text_align="right")
    fine = NumberFormatter(format="0.0000", text_align="right", nan_format="–")
    plain = HTMLTemplateFormatter(template=_TEXT)
    columns = [
        _column("model", "model", 116, HTMLTemplateFormatter(template=_MODEL)),
        _column("split", "split", 76, plain),
        _column("choice_group", "choices", 76, plain),
        _column("behavior_group", "behaviors", 80, plain),
        _column("weighting", "weighting", 76, plain),
        _column("n_individuals", "individuals", 78, whole),
        _column("n_decisions", "decisions", 72, whole),
        _column("log_probability", "D, nats", 64, fine),
        _column("gmp", "GMP", 62, fine),
        _column("gmp_low", "95 % interval", 112, HTMLTemplateFormatter(template=_INTERVAL)),
        _column("null_gmp", "null GMP", 68, fine),
        _column("lift", "lift", 54, NumberFormatter(format="0.00", text_align="right", nan_format="–")),
        _column("note", "note", 92, plain),
    ]
    source = ColumnDataSource(data, name="groups")
    view = CDSView(filter=IndexFilter(indices=list(range(len(groups))), name="groups_shown"))
    return _table("groups_table", source, columns, min(MOST_ROWS, len(groups)), view=view, selectable=False)


def people_table(tables: PageTables) -> DataTable:
    """The list of individuals; GMP, lift and difference are of the models that the page compares."""
    people, n = tables.individuals, len(tables.individuals)
    data = {
        INDIVIDUAL: people[INDIVIDUAL].tolist(),
        "split": people["split"].tolist(),
        "n": people["n_decisions"].tolist(),
        "first": people["first_utc"].to_numpy(dtype="datetime64[ms]"),
        "last": people["last_utc"].to_numpy(dtype="datetime64[ms]"),
        "stay": people["stay_share"].tolist(),
        **{name: [0.0] * n for name in ("gmp", "lift", "difference")},
    }
    share = NumberFormatter(format="0.0 %", text_align="right", nan_format="–")
    fine = NumberFormatter(format="0.0000", text_align="right", nan_format="–")
    date = DateFormatter(format="%d %b %Y", nan_format="–", null_format="–", text_align="right")
    columns = [
        _column(INDIVIDUAL, "individual", 160, HTMLTemplateFormatter(template=_TEXT)),
        _column("split", "split", 90, HTMLTemplateFormatter(template=_TEXT)),
        _column("n", "decisions", 86, NumberFormatter(format="0,0", text_align="right")),
        _column("first", "first", 106, date),
        _column("last", "last", 106, date),
        _column("stay", "stays", 76, share),
        _column("gmp", "GMP", 62, fine),
        _column("lift", "lift", 76, NumberFormatter(format="0.00", text_align="right", nan_format="–")),
        _column("difference", "difference, nats", 120, fine),
    ]
    has = {"first": people["first_utc"].notna().any(), "stay": people["stay_share"].notna().any()}
    has["last"] = has["first"]
    shown = [column for column in columns if has.get(str(column.field), True)]
    return _table("people_table", ColumnDataSource(data, name="people"), shown, min(8, n))


def by_date_figure(colors: Mapping[str, str], *, has_time: bool) -> figure:
    """The small chart of ln p of one individual's decisions, a line a model; empty until one is chosen."""
    fig = figure(
        name="by_date",
        height=250,
        min_width=240,
        sizing_mode="stretch_width",
        x_axis_type="datetime" if has_time else "linear",
        x_axis_label=None if has_time else "decision, in order",
        y_axis_label="ln p of the selected choice, nats",
        tools="xpan,xbox_zoom,reset",
        active_scroll=None,
        toolbar_location="above",
        background_fill_color="#ffffff",
        border_fill_color="#f5f7f9",
    )
    fig.toolbar.logo = None
    _quiet(fig)
    if has_time:
        fig.xaxis.formatter = DatetimeTickFormatter(days="%d %b", months="%b %Y", years="%Y")
        fig.xaxis.ticker.desired_num_ticks = 4
    last = len(colors) - 1
    for k, color in enumerate(colors.values()):
        empty: dict[str, list[float]] = {"x": [0, 1], "y": [-1, 0]}
        dots, line = (ColumnDataSource(dict(empty), name=f"by_date{part}_{k}") for part in ("", "_line"))
        if k < last:  # the null is a line, dashed, and nothing else
            fig.scatter("x", "y", source=dots, color=color, size=4, line_color=None, name=f"by_date_dots_{k}")
        dash = "solid" if k < last else "dashed"
        fig.line("x", "y", source=line, color=color, line_width=1.5, line_dash=dash, name=f"by_date_lines_{k}")
    return fig


def curve_figure(models: Sequence[str], colors: Mapping[str, str]) -> figure:
    """The response curves of one feature, a line with its band a model; which feature is the page's to fill."""
    fig = figure(
        name="curves",
        height=360,
        min_width=320,
        sizing_mode="stretch_width",
        x_axis_label="feature",
        y_axis_label="effect on log-odds, nats",
        tools="pan,box_zoom,reset,save",
        active_scroll=None,
        toolbar_location="right",
        # bokeh clears a canvas from half a pixel on: what a narrower layout has left in its first column stays
        styles={"clip-path": "inset(0 0 0 1px)"},
    )
    fig.toolbar.logo = None
    _quiet(fig)
    items = []
    for k, model in enumerate(models):
        source = ColumnDataSource({name: [0, 1] for name in ("x", "y", "low", "high")}, name=f"curve_{k}")
        band = fig.varea("x", "low", "high", source=source, color=colors[model], alpha=0.12)
        line = fig.line("x", "y", source=source, color=colors[model], line_width=2, name=f"curve_line_{k}")
        dots = fig.scatter("x", "y", source=source, color=colors[model], size=5, name=f"curve_dots_{k}")
        items.append(LegendItem(label=model, renderers=[line, dots, band], name=f"curve_item_{k}"))
    legend = Legend(items=items, click_policy="hide", label_text_font_size="13px", border_line_color=None)
    fig.add_layout(legend, "right")
    return fig


def _quiet(fig: figure) -> None:
    fig.axis.axis_label_text_font_style = "normal"
    fig.axis.axis_label_text_font_size = "13px"
    fig.axis.major_label_text_font_size = "12px"
    fig.axis.minor_tick_line_color = None
    fig.grid.grid_line_color = "#e3e8ed"
    fig.outline_line_color = "#d5dce3"


def _column(field: str, title: str, width: int, formatter: StringFormatter) -> TableColumn:
    return TableColumn(field=field, title=title, width=width, formatter=formatter)


def _table(
    name: str,
    source: ColumnDataSource,
    columns: list[TableColumn],
    rows: int,
    *,
    view: CDSView | None = None,
    selectable: bool = True,
) -> DataTable:
    """A table as wide as the page that shows up to so many rows at once."""
    for column in columns:
        column.sorter = CustomJSCompare(code=f"return mimicPage.compare('{name}', x, y)")
    return DataTable(
        name=name,
        source=source,
        columns=columns,
        **({} if view is None else {"view": view}),
        index_position=None,
        reorderable=False,
        selectable=selectable,
        autosize_mode="force_fit",
        row_height=ROW_PX,
        height=HEAD_PX + ROW_PX * rows,
        sizing_mode="stretch_width",
        stylesheets=[InlineStyleSheet(css=_TABLE_LOOK)],
    )
