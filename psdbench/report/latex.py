r"""The main table in LaTeX: booktabs, for any class; bold and underlined by significance, not by the larger mean."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from psdbench.report.blocks import Cell, Table
from psdbench.report.content import Content
from psdbench.report.text import plain

PACKAGES = r"% needs \usepackage{booktabs}"
WIDTH = 5
"""columns of numbers beside each other: what fits between the margins of a plain article"""
_SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    "`": r"\textasciigrave{}",
    "†": r"\dag{}",
    "‡": r"\ddag{}",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "✗": r"$\times$",
    "−": r"$-$",
    "–": r"--",
    "±": r"$\pm$",
    "≤": r"$\le$",
    "ρ": r"$\rho$",
    "τ": r"$\tau$",
}
_MARKS = {"": "{}", "best": r"\textbf{{{}}}", "told": r"\textbf{{{}}}", "shared": r"\underline{{{}}}"}


def latex(parts: Sequence[Content]) -> str:
    """The tables of means and of paired differences, each a float of its own, protocol by protocol."""
    floats = [_float(table, part.name) for part in parts for table in part.results]
    return "\n".join([PACKAGES, *floats])


def _float(table: Table, name: str) -> str:
    """A table whose intervals stand under their means; many metrics take several rows of columns."""
    columns = range(table.left, len(table.header))
    blocks = -(-len(columns) // WIDTH)
    size = -(-len(columns) // blocks)
    parts = [columns[start : start + size] for start in range(0, len(columns), size)]
    body = "\n\\par\\smallskip\n".join(_tabular(table, [*range(table.left), *part]) for part in parts)
    title = f"{name}: {table.title}" if name else table.title
    caption = f"{escape(title)}. {escape(' '.join(table.notes))}"
    head = ["\\begin{table}[htbp]", "\\centering", f"\\caption{{{caption}}}", "\\smallskip", "\\scriptsize"]
    return "\n".join([*head, "\\setlength{\\tabcolsep}{3pt}", body, "\\end{table}"]) + "\n"


def _tabular(table: Table, columns: Sequence[int]) -> str:
    numbers = len(columns) - table.left
    rows = [line for row in table.rows for line in _rows([row[i] for i in columns])]
    lines = [
        rf"\begin{{tabular*}}{{\linewidth}}{{@{{\extracolsep{{\fill}}}}{'l' * table.left}{'r' * numbers}@{{}}}}",
        r"\toprule",
        f"{' & '.join(_heading(table.header[i]) for i in columns)} \\\\",
        r"\midrule",
        *rows,
        r"\bottomrule",
        r"\end{tabular*}",
    ]
    return "\n".join(lines)


def _heading(text: str) -> str:
    """A heading may break at the _ of a metric's id."""
    parts = [escape(part) for part in plain(text).split("_")]
    if len(parts) == 1:
        return parts[0]
    stacked = r" \\ ".join([*(rf"{part}\_" for part in parts[:-1]), parts[-1]])
    return rf"\begin{{tabular}}[b]{{@{{}}r@{{}}}}{stacked}\end{{tabular}}"


def _rows(row: Sequence[Cell]) -> list[str]:
    means = [_MARKS[cell.mark].format(_number(cell.text)) + escape(cell.suffix) for cell in row]
    lines = [f"{' & '.join(means)} \\\\"]
    if any(cell.small for cell in row):
        smalls = [rf"{{\tiny {_number(cell.small)}}}" if cell.small else "" for cell in row]
        lines.append(f"{' & '.join(smalls)} \\\\[2pt]")
    return lines


def _number(text: str) -> str:
    """Text whose numbers have a minus, not a hyphen."""
    return escape(re.sub(r"(?<!\S)(\[?)-(?=[\d.])", r"\1−", text))


def escape(text: str) -> str:
    """Foreign text in which nothing is a command; letters that plain LaTeX does not know lose their accents or go."""
    done = []
    for char in plain(text):
        if char in _SPECIAL:
            done.append(_SPECIAL[char])
        else:
            simple = unicodedata.normalize("NFKD", char).encode("ascii", "ignore").decode()
            done.append("".join(_SPECIAL.get(c, c) for c in simple) or "?")
    return "".join(done)
