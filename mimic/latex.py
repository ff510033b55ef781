"""Printed tables into LaTeX that a paper takes as it is: booktabs, escaped, with caption and label."""

from __future__ import annotations

import re

import pandas as pd

from mimic.paper_items import are_words

__all__ = ["escape_latex", "latex_table"]

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\ensuremath{<}",
    ">": r"\ensuremath{>}",
    "\N{MINUS SIGN}": r"\ensuremath{-}",
    "\N{EN DASH}": "--",
    "\N{INFINITY}": r"\ensuremath{\infty}",
    "\N{DEGREE SIGN}": r"\ensuremath{^\circ}",
    "\N{MULTIPLICATION SIGN}": r"\ensuremath{\times}",
}
_LONGEST = 30  # characters that a column of words may have without being wrapped
_MOST_ROWS = 40


def escape_latex(text: str) -> str:
    r"""Text with the characters that LaTeX takes for commands written so that it prints them.

    Example
    -------
    >>> print(escape_latex("26.1 % of sst_front"))
    26.1 \% of sst\_front
    """
    return "".join(_SPECIAL.get(character, character) for character in text)


def latex_table(shown: pd.DataFrame, *, caption: str, label: str, note: str = "") -> str:
    r"""A table of text as LaTeX.

    It needs `\usepackage{booktabs}`, of long tables also `\usepackage{longtable}`. Names in letters that are not Latin
    are left as they are; they need XeLaTeX or LuaLaTeX with a font that has them.

    Parameters
    ----------
    shown
        Text, (row, column), with its headings.
    caption
        Plain text, without a final stop.
    label
        Of the table; characters that LaTeX does not take in labels become "-".
    note
        After the caption, in small print, such as the runs behind the table.

    Example
    -------
    >>> print(latex_table(pd.DataFrame({"model": ["sea_ice"], "GMP": ["26.1 %"]}), caption="A table", label="a"))
    \begin{table}
    \caption{A table.}
    \label{tab:a}
    \centering\small
    \begin{tabular}{lr}
    \toprule
    model & GMP \\
    \midrule
    sea\_ice & 26.1 \% \\
    \bottomrule
    \end{tabular}
    \end{table}
    <BLANKLINE>
    """
    head = " & ".join(escape_latex(str(name).strip()) for name in shown.columns) + r" \\"
    alignments = [_alignment(shown.iloc[:, k]) for k in range(shown.shape[1])]
    rows = [
        " & ".join(_cell(str(text), side) for text, side in zip(row, alignments, strict=True)) + r" \\"
        for row in shown.itertuples(index=False)
    ]
    said = f"{escape_latex(caption)}." + (rf" {{\footnotesize {escape_latex(note)}.}}" if note else "")
    name = re.sub(r"[^A-Za-z0-9-]+", "-", label).strip("-")
    named = [rf"\caption{{{said}}}", rf"\label{{tab:{name}}}"]
    columns = "".join(alignments)
    body = [r"\toprule", head, r"\midrule", *rows, r"\bottomrule"]
    if len(shown) > _MOST_ROWS:
        lines = [rf"\begin{{longtable}}{{{columns}}}", *named, r"\\", *body[:3], r"\endhead", *body[3:]]
        return "\n".join([r"{\small", *lines, r"\end{longtable}}", ""])
    lines = [r"\begin{table}", *named, r"\centering\small", rf"\begin{{tabular}}{{{columns}}}", *body]
    return "\n".join([*lines, r"\end{tabular}", r"\end{table}", ""])


def _cell(text: str, alignment: str) -> str:
    """The text of a cell; in a column of several lines long names may break after signs within them."""
    written = escape_latex(text)
    return re.sub(r"(\\_|/|,(?=\S))", r"\1\\allowbreak{}", written) if alignment.startswith("p") else written


def _alignment(column: pd.Series) -> str:
    texts = column.astype(str)
    if not are_words(texts):
        return "r"
    return r"p{5cm}" if texts.str.len().max() > _LONGEST else "l"
