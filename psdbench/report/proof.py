"""Is a report that lies in a run folder what the results give? All its numbers are made again and compared.

Pictures are left out, for another version of their encoder writes other bytes; so is what is drawn from them, and
what the report tells of an earlier proof.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from psdbench.errors import CorruptResult, UsageError
from psdbench.report import FOLDER, Output, build_report
from psdbench.report.document import Pictures, document, opening
from psdbench.report.page import page_files
from psdbench.report.provenance import VERIFY
from psdbench.report.tidy import score_tables
from psdbench.store.sealed import read_json

_LEFT_OUT = re.compile(rf"<svg.*?</svg>|[A-Za-z0-9+/=]{{200,}}|{VERIFY}[^<|]*", re.DOTALL)
"""a figure, anything in base64, or the outcome of a proof"""
Check = Callable[[Path], bool]


def check_report(run: Path, votes: Sequence[Path] = ()) -> tuple[int, list[str]]:
    """How many files of RUN/report are proven, and what of the others is wrong; `votes` are those it was made with."""
    folder = run / FOLDER
    try:
        stored = read_json(folder / "table.json") or {}
        parts = stored.get("protocols", [stored])
        if not votes and any("votes" in part for part in parts):
            return 0, [f"{folder} tells what people voted; to prove it, add --votes with their files"]
        checks = _checks(build_report([run], parts[0].get("baseline"), votes), folder)
    except (CorruptResult, UsageError) as error:
        return 0, [f"{folder}: {error}"]
    there = [name for name in checks if (folder / name).exists()]
    wrong = [name for name in there if not checks[name](folder / name)]
    told = [
        f"{folder / name} is not what the scores give; make it anew: psdbench report {run}" for name in wrong
    ]
    return len(there) - len(wrong), told


def _checks(made: Output, folder: Path) -> dict[str, Check]:
    """By file name what tells whether a file says what the report says."""
    texts = {name: made.text(kind) for kind, name in (("csv", "table.csv"), ("json", "table.json"))}
    checks = {name: _is(text) for name, text in texts.items()}
    checks |= {name: _is("".join(parts)) for name, parts in made.csv_files.items()}
    checks["table.tex"] = _is(made.text("latex"))
    written = [document(part.content, (), Pictures(), folder) for part in made.parts]
    checks["report.md"] = _holds(opening(made, written))
    checks["scores.parquet"] = lambda path: _same_table(path, made)
    if (folder / "report.html").exists():
        pages = page_files(folder / "report.html", made)
        checks |= {name: _is(text) for name, text in pages.items() if not name.endswith(".svg")}
    return checks


def _is(text: str) -> Check:
    """Whether a file has this text, but for its pictures."""
    return lambda path: _LEFT_OUT.sub("", _read(path)) == _LEFT_OUT.sub("", text)


def _holds(text: str) -> Check:
    """Whether every paragraph and table is in a file, which has pictures between them."""
    return lambda path: _blocks(text) <= _blocks(_read(path))


def _blocks(text: str) -> set[str]:
    return set(_LEFT_OUT.sub("", text).strip().split("\n\n"))


def _same_table(path: Path, made: Output) -> bool:
    from pyarrow import ArrowException, concat_tables, parquet

    try:
        return bool(parquet.read_table(path).equals(concat_tables(score_tables(made.parts))))
    except (ArrowException, OSError):
        return False


def _read(path: Path) -> str:
    """A file's text; empty when it cannot be read, which no file of a report is."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""
