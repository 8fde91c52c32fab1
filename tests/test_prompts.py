"""Prompt files: what is read, what is dropped, what is refused, and that each complaint names file and line."""

from __future__ import annotations

import contextlib
import io
import json
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from psdbench.errors import UsageError
from psdbench.prompts import MAX_LENGTH, check_world, header, read_prompts


def write(folder: Path, content: str | bytes, name: str = "p.txt") -> str:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


def test_comments_blanks_bom_and_carriage_returns(tmp_path: Path) -> None:
    source = write(
        tmp_path, b"\xef\xbb\xbf# a set\r\n\r\na red cube\r\n  a \t blue\xc2\xa0sphere \r\n#end\r\n"
    )
    read = read_prompts([source])
    assert read.texts == ("a red cube", "a blue sphere")
    assert [p.origin for p in read.prompts] == [f"{source}:3", f"{source}:4"]
    assert read.notes == ()


def test_nfc_and_duplicates_over_files(tmp_path: Path) -> None:
    first = write(tmp_path, "caf\u00e9\n")
    second = write(tmp_path, "x\ncafe\u0301\n", "q.txt")
    read = read_prompts([first, second])
    assert read.texts == ("caf\u00e9", "x")
    assert read.notes == (f"{second}:2: duplicate of {first}:1, dropped",)


def test_json_library(tmp_path: Path) -> None:
    library = {"dreamfusion": ["a corgi", "a tiger"], "magic3d": ["a corgi", "a frog"]}
    source = write(tmp_path, json.dumps(library), "library.json")
    read = read_prompts([source])
    assert read.texts == ("a corgi", "a tiger", "a frog")
    assert read.prompts[2].origin == f"{source}:magic3d[1]"
    assert read_prompts([write(tmp_path, '["x"]', "list.json")]).texts == ("x",)


def test_stdin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a red cube\n")))
    assert read_prompts(["-"]).prompts[0].origin == "stdin:1"


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        ("", "p.txt", "p.txt has no prompts"),
        ("# only\n\n", "p.txt", "has no prompts"),
        ("{}", "p.json", "has no prompts"),
        ("ok\n\x1b[31mred\n", "p.txt", r"p.txt:2: control character U\+001B"),
        ("ok\nab\u202ecd\n", "p.txt", r"p.txt:2: control character U\+202E"),
        ("a\0b\n", "p.txt", r"p.txt:1: control character U\+0000"),
        ("a\u2028b\n", "p.txt", r"p.txt:1: control character U\+2028"),
        (b"ok\n\xff\xfe\n", "p.txt", "p.txt:2: not UTF-8"),
        ("x" * (MAX_LENGTH + 1), "p.txt", f"p.txt:1: {MAX_LENGTH + 1} characters, at most {MAX_LENGTH}"),
        ("[1, 2]", "p.json", "p.json is not a list of texts"),
        ('{"a": "b"}', "p.json", "p.json:a is not a list of texts"),
        ("[\n1,\n", "p.json", "p.json:3: not JSON"),
        ("[" * 100_000, "p.json", "p.json"),
        (b"a" * 4_000_001, "p.txt", "larger than"),
    ],
)
def test_refusals_name_the_place(tmp_path: Path, content: str | bytes, name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_prompts([write(tmp_path, content, name)])


def test_missing_files(tmp_path: Path) -> None:
    write(tmp_path, "x", "shapes.txt")
    with pytest.raises(UsageError, match="unknown prompt file") as caught:
        read_prompts([str(tmp_path / "shaps.txt")])
    assert "shapes.txt" in caught.value.remedy
    with pytest.raises(UsageError, match="cannot read prompts"):
        read_prompts([str(tmp_path)])
    with pytest.raises(UsageError, match="no prompts given"):
        read_prompts([])
    with pytest.raises(UsageError):
        read_prompts(["a\0b"])


def test_a_folder_does_not_hide_the_shipped_set_of_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = read_prompts(["shapes"]).texts
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shapes").mkdir()
    assert read_prompts(["shapes"]).texts == shipped
    write(tmp_path, "mine", "shapes-tuning")
    assert read_prompts(["shapes-tuning"]).texts == ("mine",)


def test_the_world_refuses_unknown_words_with_file_and_line(tmp_path: Path) -> None:
    check_world(read_prompts([write(tmp_path, "a red cube\n")]))
    source = write(tmp_path, "a red cube\na red dragon\n")
    with pytest.raises(UsageError, match=r"p\.txt:2: .*dragon") as caught:
        check_world(read_prompts([source]))
    assert "--prior" in caught.value.remedy


def test_header(tmp_path: Path) -> None:
    assert header(Path(write(tmp_path, "# one\n#  two\nx\n# three\n"))) == "one two"


@settings(max_examples=100)
@given(content=st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_any_file_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    source = write(tmp_path_factory.getbasetemp(), content, "fuzz.txt")
    texts: tuple[str, ...] = ("refused",)
    with contextlib.suppress(UsageError):
        texts = read_prompts([source]).texts
    assert texts
    assert all(text == text.strip() and "\n" not in text for text in texts)
