"""`psdbench score` on what is broken, missing or odd: an error that names it, or the policy that is stated.

No picture is scored that is not what its folder says it is.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from foreign_renders import draw, gpteval3d, threestudio
from PIL import Image

from psdbench.store.table import load_table
from psdbench.world import weights_folder

CHECKPOINT = "model.safetensors"


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """PickScore's folder with the embedded CLIP in the place of the official one: the same class, the same files."""
    folder = tmp_path / "library" / "pickscore_v1"
    shutil.copytree(weights_folder() / "clip", folder)
    for name in ("vocab.json", "merges.txt"):
        (folder / name).write_text("{}" if name.endswith("json") else "")
    settings = {"preprocess": {"size": 64, "mean": [0.5] * 3, "std": [0.5] * 3}}
    (folder / "score.json").write_text(json.dumps(settings))
    monkeypatch.setenv("PSDBENCH_WEIGHTS", str(folder.parent))
    return folder


def refused(done: Any, code: int, *words: str) -> None:
    """The command ended with one error line, one remedy and nothing on stdout."""
    assert (done.code, done.out) == (code, "")
    error, remedy = done.err.splitlines()[-2:]
    assert error.startswith("error: ")
    assert remedy.startswith("  remedy: ")
    assert all(word in error for word in words), error


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("truncated", "is damaged"),
        ("empty", "is damaged"),
        ("another model", "does not fit its configuration"),
        ("gone", "is missing"),
    ],
)
def test_a_checkpoint_that_is_not_one(
    program: Callable, tmp_path: Path, library: Path, fault: str, words: str
) -> None:
    path = library / CHECKPOINT
    if fault == "another model":
        shutil.copy(weights_folder() / "image_reward" / CHECKPOINT, path)
    elif fault == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[: 100_000 if fault == "truncated" else 0])
    folder, run = gpteval3d(tmp_path / "t", 2), tmp_path / "run"
    refused(program("score", folder, "--out", run, "--metrics", "pickscore"), 4, str(path), words)
    assert not list(run.rglob("scores.json"))


def one_asset(root: Path, picture: Callable[[Path], object], views: int = 2) -> Path:
    """A plain folder with one asset whose views are drawn and then changed by `picture`."""
    for view in range(views):
        picture(draw(root / "a_red_cube" / f"{view}.png", "#404040", view, 64, "RGBA"))
    (root / "prompts.txt").write_text("a red cube\n")
    return root


def over_white(path: Path) -> None:
    picture = Image.open(path).convert("RGBA")
    Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB").save(path)


def grey(path: Path) -> None:
    over_white(path)
    Image.open(path).convert("L").save(path)


def sixteen_bits(path: Path) -> None:
    grey(path)
    Image.fromarray(np.asarray(Image.open(path)).astype(np.uint16) * 257).save(path)


def test_grey_transparent_and_sixteen_bit_pictures_score_as_what_they_show(
    program: Callable, tmp_path: Path, library: Path
) -> None:
    """Grey is three equal channels, what is transparent lies over white, 16 bits are scaled and not clipped."""
    values = {}
    for name, change in (
        ("plain", over_white),
        ("grey", grey),
        ("transparent", lambda path: path),
        ("sixteen", sixteen_bits),
    ):
        folder, run = one_asset(tmp_path / name, change), tmp_path / f"run-{name}"
        assert program("score", folder, "--out", run, "--metrics", "pickscore").code == 0
        values[name] = load_table(run).value.tolist()
    assert len(values["plain"]) == 2
    for name in values:
        assert values[name] == pytest.approx(values["plain"], abs=1e-5), name


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        (lambda path: Image.new("RGB", (1, 1), "red").save(path), 3, "one flat colour"),
        (lambda path: Image.new("RGB", (64, 64)).save(path), 3, "one flat colour"),
        (lambda path: Image.new("RGBA", (64, 64), (9, 9, 9, 0)).save(path), 3, "one flat colour"),
        (lambda path: path.write_bytes(path.read_bytes()[:-60]), 3, "cannot be read as a picture"),
        (lambda path: path.write_bytes(b"<html>"), 2, "cannot be read as a picture"),
        (lambda path: Image.new("RGB", (64, 32)).save(path), 2, "not square"),
    ],
    ids=["one pixel", "black", "nothing there", "cut off", "no picture", "not square"],
)
def test_a_picture_that_is_no_render_is_no_score(
    program: Callable, tmp_path: Path, change: Callable[[Path], object], code: int, words: str
) -> None:
    run = tmp_path / "run"
    done = program("score", one_asset(tmp_path / "t", change), "--out", run)
    assert done.code == code
    assert words in done.err
    assert ".png" in done.err
    assert not list(run.rglob("scores.json"))


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("prompts.txt", "\n  \n", "has no prompts"),
        ("prompts.json", '["", "a red cube"]', "prompts.json[0]: empty"),
        ("prompts.txt", "a red cube\n" + "a red cube beside " * 600, "at most 400"),
    ],
)
def test_a_prompt_that_is_none(
    program: Callable, tmp_path: Path, file: str, content: str, words: str
) -> None:
    folder = one_asset(tmp_path / "t", over_white)
    (folder / "prompts.txt").unlink()
    (folder / file).write_text(content)
    refused(program("score", folder, "--out", tmp_path / "run"), 2, words)


def test_a_trial_without_a_prompt(program: Callable, tmp_path: Path) -> None:
    folder = threestudio(tmp_path / "outputs", '""')
    refused(program("score", folder, "--out", tmp_path / "run"), 2, "names no prompt")


def test_a_long_prompt_is_cut_with_one_warning(program: Callable, tmp_path: Path, library: Path) -> None:
    """A trial's prompt is what it was made from, however long; a prompt file refuses more than 400 characters."""
    folder, run = threestudio(tmp_path / "outputs", "a red cube"), tmp_path / "run"
    config = next(folder.rglob("parsed.yaml"))
    config.write_text(config.read_text().replace("a red cube", "a red cube beside a blue sphere " * 320))
    done = program("score", folder, "--out", run, "--metrics", "pickscore,coverage")
    assert done.code == 0, done.err
    assert done.err.count("is cut there") == 1
    assert len(done.err) < 1500
    table = load_table(run)
    assert set(table.scorer) == {"pickscore_v1", "coverage"}
    assert table.value.notna().all()


def test_a_missing_view_is_named(program: Callable, tmp_path: Path) -> None:
    folder = gpteval3d(tmp_path / "t", 8)
    place = folder / "methods" / "sjc" / "0" / "0"
    (place / "rgb_7.png").unlink()  # the last: only the method's other assets tell
    refused(program("score", folder, "--out", tmp_path / "run"), 2, str(place), "7 views", "8")
    (place / "rgb_3.png").unlink()
    refused(program("score", folder, "--out", tmp_path / "run"), 2, str(place), "lacks view 3")


def test_a_run_that_has_lost_a_view_is_not_scored(program: Callable, tmp_path: Path) -> None:
    folder, run = gpteval3d(tmp_path / "t", 3), tmp_path / "run"
    assert program("score", folder, "--out", run).code == 0
    lost = sorted(run.glob("jobs/*/renders/view_01.png"))[0]
    lost.unlink()
    done = program("score", run, "--metrics", "clip_shapes")
    assert done.code == 5
    assert "view_01.png" in done.err
    assert "3 of 3 jobs finished" in done.err
    assert "clip_shapes" not in (lost.parent.parent / "scores.json").read_text()
