"""`verify-scorers`: what it refuses, and its table and exit code with an interpreter that answers wrongly."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from psdbench import weights


@pytest.fixture(autouse=True)
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PSDBENCH_WEIGHTS", str(tmp_path / "library"))
    return tmp_path / "library"


def place(name: str) -> Path:
    """Files of the right names without content."""
    folder = weights.folder(name)
    folder.mkdir(parents=True)
    for file in weights.catalogue()[name].files:
        (folder / file.name).write_bytes(b"{}")
    return folder


def test_without_checkpoints_the_command_that_gets_them_is_named(program: Callable) -> None:
    for args, message in (([], "no official checkpoints"), (["--metrics", "hps_v2.0"], "pt is missing")):
        done = program("verify-scorers", *args)
        assert done.code == 4
        assert message in done.err
        assert "remedy: psdbench prefetch --metrics hps_v2." in done.err
        assert done.out == ""


def test_without_the_package_it_is_named_with_how_to_get_it(program: Callable) -> None:
    place("hps_v2.0")
    done = program("verify-scorers", "--python", sys.executable)
    assert done.code == 4
    assert "has no hpsv2" in done.err
    assert "remedy: pip install hpsv2==1.2.0 open_clip_torch" in done.err


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--metrics", "consistency"], "'consistency' has no official package"),
        (["--metrics", "hps_v3"], "did you mean"),
        (["--pictures", "0"], "--pictures"),
    ],
)
def test_mistakes_of_usage(program: Callable, args: list[str], message: str) -> None:
    done = program("verify-scorers", *args)
    assert done.code == 2
    assert message in done.err


def test_what_is_no_interpreter(program: Callable, tmp_path: Path) -> None:
    place("hps_v2.0")
    done = program("verify-scorers", "--python", tmp_path / "nowhere")
    assert done.code == 2
    assert "nowhere cannot be run" in done.err


ANSWER = """#!{python}
import json, sys
asked, answered = sys.argv[-2:]
pairs = json.load(open(asked))["pairs"]
scores = [float(number) for number, _ in enumerate(pairs)]
json.dump({{"versions": {{"transformers": "9.9"}}, "scores": scores}}, open(answered, "w"))
"""


@pytest.fixture
def pickscore() -> Path:
    """The embedded CLIP in PickScore's place."""
    from psdbench.world import weights_folder

    folder = place("pickscore_v1")
    shutil.copytree(weights_folder() / "clip", folder, dirs_exist_ok=True)
    (folder / "score.json").write_text(json.dumps({"preprocess": {"size": 64}}))
    return folder


def test_a_score_that_is_off_is_exit_code_1(program: Callable, tmp_path: Path, pickscore: Path) -> None:
    python = tmp_path / "python"
    python.write_text(ANSWER.format(python=sys.executable))
    python.chmod(0o755)
    done = program("verify-scorers", "--python", python, "--pictures", 1)
    assert done.code == 1
    header, line = done.out.splitlines()
    assert header.startswith("metric")
    assert line.startswith("pickscore_v1  transformers 9.9")
    assert "OUT OF BOUNDS" in line
    done = program("verify-scorers", "--python", python, "--pictures", 1, "--json")
    assert done.code == 1
    (row,) = json.loads(done.out)
    assert (row["pairs"], row["within"]) == (40, False)
    assert row["largest"] > row["sd"]
