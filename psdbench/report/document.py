"""The report in Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from psdbench.report.blocks import Cell, Line, Table
from psdbench.report.results import Result
from psdbench.report.text import link, markdown, table

if TYPE_CHECKING:
    from psdbench.report.content import Content
    from psdbench.report.output import Output

TURNTABLE = "turntable.mp4"
_INTERVAL = re.compile(r"\\\[([-+.\d]+, [-+.\d]+)\\\]")
_AROUND = {"": "", "best": "**", "told": "**", "shared": "_"}


@dataclass(frozen=True)
class Pictures:
    """The contact sheets of a report: overviews of all prompts, and one sheet for each prompt."""

    overviews: tuple[Path, ...] = ()
    by_prompt: dict[str, Path] = field(default_factory=dict)


def summary(content: Content) -> str:
    """Verdict and main tables: what the command prints."""
    heading = f"# {markdown(content.name)}: {markdown(content.title)}" if content.name else ""
    return _joined(heading, text_of(content.verdict, content.results).strip())


def opening(report: Output, parts: Iterable[str]) -> str:
    """The parts in Markdown, after what must be said before several of them."""
    head = [_lines(report.lines), *map(_section, [report.table] if report.table else [])]
    return _joined(*head, *(part.strip() for part in parts))


def text_of(lines: Sequence[Line], tables: Sequence[Table]) -> str:
    """Lines, then tables."""
    return _joined(_lines(lines), *map(_section, tables))


def document(content: Content, results: Sequence[Result], pictures: Pictures, folder: Path) -> str:
    """The whole report, for a file in `folder`: its links are relative to that."""
    name = f"{markdown(content.name)}: " if content.name else ""
    return _joined(
        f"# {name}{markdown(content.title)}",
        _lines(content.verdict),
        *(f"![every prompt, every method]({link(path, folder)})" for path in pictures.overviews),
        *map(_section, content.tables),
        _gallery(results, pictures, folder),
        *map(_section, content.provenance),
    )


def _joined(*parts: str) -> str:
    return "\n\n".join(part for part in parts if part) + "\n"


def _lines(lines: Sequence[Line]) -> str:
    return "\n".join(f"- {_subject(line)}{_prose(line.text)}" for line in lines)


def _subject(line: Line) -> str:
    return f"**{markdown(line.subject)}** " if line.subject else ""


def _prose(text: str) -> str:
    """The text escaped, but for the brackets of intervals, which cannot act."""
    return _INTERVAL.sub(r"[\1]", markdown(text))


def _section(part: Table) -> str:
    """Heading, table and notes."""
    body = table(list(map(markdown, part.header)), [list(map(_cell, row)) for row in part.rows], part.left)
    return _joined(f"## {markdown(part.title)}", body, markdown(" ".join(part.notes))).strip()


def _cell(cell: Cell) -> str:
    small = f" {cell.small}" if cell.small else ""
    return f"{_AROUND[cell.mark]}{markdown(cell.text)}{small}{_AROUND[cell.mark]}{markdown(cell.suffix)}"


def _gallery(results: Sequence[Result], pictures: Pictures, folder: Path) -> str:
    """Each prompt with its sheet and the turntables of its jobs."""
    blocks = ["## Pictures"] if pictures.by_prompt else []
    for prompt, sheet in pictures.by_prompt.items():
        videos = [
            f"[{markdown(r.label)} seed {r.spec.seed}]({link(r.folder / TURNTABLE, folder)})"
            for r in results
            if r.spec.prompt == prompt and (r.folder / TURNTABLE).is_file()
        ]
        turntables = f"Turntables: {' · '.join(videos)}" if videos else ""
        blocks += [f"### {markdown(prompt)}", f"![views of every method]({link(sheet, folder)})", turntables]
    return _joined(*blocks).strip()
