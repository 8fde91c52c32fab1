"""Prompt files: one prompt a line with ``#`` comments, or JSON lists; errors name file and line.

JSON is a list of texts or an object of such lists, as threestudio's prompt_library.json
(``{"dreamfusion": [...]}``). Prompts are NFC-normalised, blanks collapsed, duplicates dropped with a note,
and so are empty texts in JSON, where they have a number.
"""

from __future__ import annotations

import json
import re
import sys
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from psdbench.errors import PsdbenchError, UsageError, unknown

MAX_LENGTH = 400
"""characters of one prompt; text encoders read about 77 tokens"""
MAX_BYTES = 4_000_000
"""size of a prompt file"""
STDIN = "-"

_BIDI = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_FORBIDDEN_CATEGORIES = {"Cc", "Cs", "Zl", "Zp"}


@dataclass(frozen=True)
class Prompt:
    """One text and where it came from (``prompts/shapes.txt:3``)."""

    text: str
    origin: str


@dataclass(frozen=True)
class PromptSet:
    """Prompts in the order of their files without duplicates, and notes about what was dropped."""

    prompts: tuple[Prompt, ...]
    notes: tuple[str, ...] = ()

    @property
    def texts(self) -> tuple[str, ...]:
        return tuple(p.text for p in self.prompts)


def read_prompts(sources: Sequence[str]) -> PromptSet:
    """Read files, names of shipped sets or ``-`` for stdin; UsageError, also when nothing is in them."""
    seen: dict[str, Prompt] = {}
    notes: list[str] = []
    for source in sources:
        name, content = _content(source)
        count = 0
        for prompt in _parse(name, content):
            count += bool(prompt.text)
            if not prompt.text:
                notes.append(f"{prompt.origin}: empty, dropped")
            elif prompt.text in seen:
                notes.append(f"{prompt.origin}: duplicate of {seen[prompt.text].origin}, dropped")
            else:
                seen[prompt.text] = prompt
        if not count:
            raise UsageError(f"{name} has no prompts", "write one prompt a line; lines with # are comments")
    if not seen:
        raise UsageError("no prompts given", "pass --prompts FILE, for example prompts/shapes.txt")
    return PromptSet(tuple(seen.values()), tuple(notes))


def check_world(prompts: PromptSet) -> None:
    """Check that every prompt is inside the shapes world; the error names file, line and words."""
    from psdbench.world.grammar import check

    for prompt in prompts.prompts:
        try:
            check(prompt.text)
        except PsdbenchError as error:
            remedy = f"{error.remedy}; or pass --prior FOLDER with a model that knows all words"
            raise UsageError(f"{prompt.origin}: {error}", remedy) from error


def shipped_sets() -> dict[str, Path]:
    """The prompt sets at hand by name: ``./prompts`` first, then those beside the package."""
    folders = (Path(__file__).resolve().parent.parent / "prompts", Path("prompts"))
    return {p.stem: p for folder in folders for p in sorted(folder.glob("*.txt"))}


def header(path: Path) -> str:
    """The comment lines at the top of a prompt file as one sentence or two."""
    lines = []
    for line in path.read_text(encoding="utf-8-sig").split("\n"):
        if not line.startswith("#"):
            break
        lines.append(line.lstrip("# ").rstrip())
    return " ".join(lines).strip()


def _content(source: str) -> tuple[str, str]:
    if source == STDIN:
        return "stdin", _decode("stdin", sys.stdin.buffer.read(MAX_BYTES + 1))
    path = Path(source)
    if (path.is_dir() or not path.exists()) and source in shipped_sets():  # a folder may bear the name, too
        path = shipped_sets()[source]
    try:
        with path.open("rb") as file:
            return str(path), _decode(str(path), file.read(MAX_BYTES + 1))
    except (FileNotFoundError, NotADirectoryError):
        known = [*shipped_sets(), *(str(p) for p in path.parent.glob("*.txt"))]
        raise unknown("prompt file", source, known) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(
            f"cannot read prompts from {source}: {reason}", "pass a readable text file"
        ) from error


def _decode(name: str, raw: bytes) -> str:
    if len(raw) > MAX_BYTES:
        raise UsageError(f"{name} is larger than {MAX_BYTES} bytes", "split it")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise UsageError(f"{name}:{line}: not UTF-8", "save the file as UTF-8") from error


def _parse(name: str, content: str) -> Iterator[Prompt]:
    if name.endswith(".json") or (name == "stdin" and content.lstrip()[:1] in ("{", "[")):
        yield from _parse_json(name, content)
        return
    for number, line in enumerate(content.replace("\r\n", "\n").replace("\r", "\n").split("\n"), start=1):
        if line.strip() and not line.lstrip().startswith("#"):
            yield _clean(line, f"{name}:{number}")


def _parse_json(name: str, content: str) -> Iterator[Prompt]:
    try:
        data = json.loads(content)
    except json.JSONDecodeError as error:
        raise UsageError(
            f"{name}:{error.lineno}: not JSON: {error.msg}", "see threestudio's prompt_library.json"
        ) from error
    except RecursionError as error:
        raise UsageError(
            f"{name}: nested too deeply", "a list of texts, or an object of such lists"
        ) from error
    groups: dict[str, Any] = data if isinstance(data, dict) else {"": data}
    for key, texts in groups.items():
        where = f"{name}:{key}" if key else name
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise UsageError(f"{where} is not a list of texts", "a list of texts, or an object of such lists")
        for index, text in enumerate(texts):
            yield _clean(text, f"{where}[{index}]")


def _clean(line: str, origin: str) -> Prompt:
    text = re.sub("[ \t\u00a0]+", " ", unicodedata.normalize("NFC", line)).strip()
    for character in text:
        if unicodedata.category(character) in _FORBIDDEN_CATEGORIES or _BIDI.match(character):
            raise UsageError(
                f"{origin}: control character U+{ord(character):04X} in the prompt", "remove it from the file"
            )
    if len(text) > MAX_LENGTH:
        raise UsageError(f"{origin}: {len(text)} characters, at most {MAX_LENGTH}", "shorten the prompt")
    return Prompt(text, origin)
