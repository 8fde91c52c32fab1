"""Each mistake of a user: one line, one remedy, the right exit code, nothing on stdout, no traceback."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest


def assert_refused(done: object, message: str, remedy: str = "", code: int = 2) -> None:
    assert done.code == code, done.err  # type: ignore[attr-defined]
    assert done.out == ""  # type: ignore[attr-defined]
    lines = done.err.splitlines()  # type: ignore[attr-defined]
    assert len(lines) == 2
    assert lines[0].startswith("error: ")
    assert message in lines[0]
    assert lines[1].startswith("  remedy: ")
    assert remedy in lines[1]


@pytest.mark.parametrize("command", ["run", "plan"])
@pytest.mark.parametrize(
    ("args", "message", "remedy"),
    [
        (["--methods", "pds"], "unknown method 'pds'", "did you mean 'psd'?"),
        (["--methods", ","], "no methods given", "psd"),
        (["--set", "sds.guidance=3"], "unknown parameter 'guidance' in sds", "'guidance_scale'"),
        (["--set", "sds.guidance_scale=big"], "must be a number, not 'big'", ""),
        (["--set", "x"], "is not TABLE.KEY=VALUE", "psd.preference_scale=0.5"),
        (["--prior", "shaps"], "unknown prior 'shaps'", "did you mean 'shapes'?"),
        (["--representation", "voxel"], "unknown representation 'voxel'", "did you mean 'voxels'?"),
        (["--metrics", "clp"], "unknown metric 'clp'", "did you mean 'clip"),
        (["--reward", "hsp"], "unknown metric 'hsp'", "did you mean 'hps"),
        (["--seeds", "many"], "seeds must be a count or a range", "--seeds 3"),
        (["--steps", "x"], "valid integer", ""),
        (["--steps", "0"], "steps must be at least 1", ""),
        (["--budget", "600"], "budget must be nfe=N or seconds=S, not '600'", "--budget nfe=600"),
        (["--budget", "nfe=9"], "steps and budget exclude each other", ""),
        (["--grad-norm", "unti"], "unknown value 'unti' in optimize.grad_norm", "did you mean 'unit'?"),
        (["--plugin", "nowhere.py"], "cannot read the plugin", "--plugin"),
        (["--workers", "0"], "workers must be at least 1", ""),
        (["--device", "tpu"], "device must be auto, cpu or cuda", ""),
        (["--config", "nowhere.toml"], "cannot read nowhere.toml", ""),
        (["--prompts", "nowhere.txt"], "unknown prompt file 'nowhere.txt'", ""),
        (["--nonsense"], "No such option: --nonsense", "--help"),
        (["extra"], "unexpected extra argument", "--help"),
    ],
)
def test_wrong_arguments(
    program: Callable, small: list[object], command: str, args: list[str], message: str, remedy: str
) -> None:
    if args[0] in small:  # a list option would be added to, not replaced
        small[small.index(args[0]) + 1] = args[1]
        args = []
    assert_refused(program(command, *small, *args), message, remedy)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "has no prompts"),
        ("a red cube\na \x1b[2J cube\n", "p.txt:2: control character U+001B"),
        ("x" * 5000, "p.txt:1: 5000 characters"),
    ],
)
def test_bad_prompt_files(
    program: Callable, small: list[object], tmp_path: Path, content: str, message: str
) -> None:
    (tmp_path / "p.txt").write_text(content)
    assert_refused(program("run", *small), message)


def test_a_bad_config_file_names_the_key(program: Callable, small: list[object], tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text("stesp = 3\n")
    done = program("run", *small, "--config", tmp_path / "run.toml")
    assert_refused(done, "unknown key 'stesp'", "did you mean 'steps'?")


def test_a_folder_that_cannot_be_written(program: Callable, small: list[object], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    done = program("run", *small[:-2], "--out", tmp_path / "file" / "run")
    assert_refused(done, "cannot make the folder", "--out", code=4)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission(program: Callable, small: list[object], tmp_path: Path) -> None:
    (tmp_path / "run" / "jobs").mkdir(parents=True)
    (tmp_path / "run" / "jobs").chmod(0o500)
    assert_refused(program("run", *small), "permission denied", "--out", code=4)


def test_psd_without_a_reward(program: Callable, small: list[object]) -> None:
    small[small.index("sds")] = "psd"
    assert_refused(program("plan", *small), "'psd' ranks images by a reward", "--reward")


def test_no_cuda(program: Callable, small: list[object]) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    assert_refused(program("plan", *small, "--device", "cuda"), "no CUDA device", "doctor", code=4)


def test_missing_weights(program: Callable, small: list[object], monkeypatch: pytest.MonkeyPatch) -> None:
    from psdbench import world

    monkeypatch.setattr(world, "weights_folder", lambda: Path("/nonexistent"))
    small[small.index("--prior") + 1] = "shapes"
    assert_refused(program("run", *small), "weights are not there", "psdbench world train", code=4)


@pytest.mark.parametrize("command", ["score", "report"])
def test_what_is_not_a_run(program: Callable, tmp_path: Path, command: str) -> None:
    assert_refused(program(command, tmp_path), "is not a run folder", "results/NAME")


def test_unknown_kind_of_list(program: Callable) -> None:
    assert_refused(program("list", "colours"), "'colours' is not one of", "")


def test_a_prompt_is_never_a_path_or_a_command(
    program: Callable, small: list[object], tmp_path: Path
) -> None:
    (tmp_path / "p.txt").write_text('../../../etc/x $(touch pwned)\n"; rm -rf / #\n-rf\n\u65e5\u672c\n')
    before = set(tmp_path.parent.iterdir())
    small[small.index("true_preference,ground_truth")] = "none"
    done = program("run", *small)
    assert done.code == 0
    assert set(tmp_path.parent.iterdir()) == before
    assert {p.name for p in tmp_path.iterdir()} == {"p.txt", "run"}
    names = sorted(p.name for p in (tmp_path / "run" / "jobs").iterdir())
    assert [name.split("--")[1] for name in names] == ["etc-x-touch-pwned", "prompt", "rf", "rm-rf"]
