"""Prompt files out of a dark corner: each is read or refused with one line, and nothing leaves the run folder."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from psdbench.cli.output import printable
from psdbench.config import JobSpec, PriorRef, Protocol
from psdbench.errors import UsageError
from psdbench.prompts import MAX_LENGTH, read_prompts
from psdbench.report.text import csv_field, markdown
from psdbench.store.run import job_folder, read_job, write_job

PROTOCOL = Protocol(PriorRef("shapes", "0" * 64))
PIECES = (
    *("a red cube", "ein grüner Würfel", "红色立方体", "🧊", "e\u0301", "\u00a0", "\u200b", "ﬁ", "İ", "ß"),
    *(
        "\u202eebuc der a",
        "\u2066x\u2069",
        "\u061c",
        "\ufeff",
        "\x00",
        "\x1b[31m",
        "\x07",
        "\u2028",
        "\ud7ff",
    ),
    *("../../etc/passwd", "..\\..\\x", "/etc/shadow", "~root", "C:\\x", "con", ".", "..", "a/b", "%2e%2e%2f"),
    *("$(touch pwned)", "`touch pwned`", '"; rm -rf / #', "| cat", "&& ls", "-rf", "--help", "-", "\\"),
    *("<script>alert(1)</script>", "<img src=x onerror=x>", "&lt;", "[x](javascript:x)", "=cmd|'/c x'!A1"),
    *(
        "\\input{/etc/passwd}",
        "%",
        "_",
        "{",
        "}",
        "#",
        "|",
        "@SUM(1)",
        "+1",
        "\t",
        "   ",
        "x" * 10_000,
        "x" * 90,
    ),
)
BREAKS = (*["\n"] * 20, "\r\n", "\r", "\n\n", "\n# ", "\x0b", "\x0c", "\x85")


def content(rng: random.Random) -> bytes:
    """A file of some lines of some pieces, sometimes JSON, sometimes not UTF-8."""
    count = rng.choice((1, 1, 2, 3, 8))
    lines = [" ".join(rng.choices(PIECES, k=rng.randint(1, 3))) for _ in range(count)]
    kind = rng.randrange(8)
    if kind == 0:
        shape = rng.choice((lines, {"a": lines, "": lines}, {"a": 3}, [lines], [1, None], "text", None))
        return json.dumps(shape).encode()
    text = "".join(line + rng.choice(BREAKS) for line in lines)
    raw = text.encode("utf-16" if kind == 1 else "utf-8")
    if kind == 2:
        raw = b"\xef\xbb\xbf" + raw
    if kind == 3:
        cut = rng.randrange(len(raw))
        raw = raw[:cut] + bytes(rng.choices(range(256), k=4)) + raw[cut:]
    return raw


def told(error: UsageError) -> int:
    """A refusal that can be shown: one line, and a remedy. No prompts."""
    assert error.remedy
    assert printable(str(error)).isprintable()
    return 0


def check(path: Path, run: Path) -> int:
    """Read a prompt file and store its jobs; how many prompts it had, 0 when it was refused."""
    try:
        prompts = read_prompts([str(path)])
    except UsageError as error:
        return told(error)
    for text in prompts.texts:
        assert 0 < len(text) <= MAX_LENGTH
        assert printable(text) == text or any(c in text for c in "\u200b\ufeff"), (
            "nothing that hides or reverses"
        )
        assert "\n" not in markdown(text)
        assert csv_field(text)[:1] not in ("=", "+", "-", "@")
        spec = JobSpec(text, "sds", {}, 0, PROTOCOL)
        folder = job_folder(run, spec)
        assert folder.parent.parent == run
        write_job(folder, spec)
        assert read_job(folder) == spec
    return len(prompts.texts)


@pytest.mark.parametrize("count", [100, pytest.param(1000, marks=pytest.mark.slow)])
def test_files_of_all_kinds(tmp_path: Path, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng, found = random.Random(count), list[int]()
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    for number in range(count):
        path = tmp_path / f"prompts{number}{rng.choice(('.txt', '.json', ''))}"
        path.write_bytes(content(rng))
        found.append(check(path, tmp_path / "run"))
        path.unlink()
    print(f"{count} files, {found.count(0)} refused with a remedy, {sum(found)} prompts in the others")
    assert sum(found) > count / 10, "or little is tested"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cwd", "run"]
    assert list((tmp_path / "cwd").iterdir()) == []
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["jobs"]
