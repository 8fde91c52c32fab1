"""`tune` from the outside: real trials on an untrained prior, what they leave, and what is refused."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from test_errors import assert_refused


@pytest.fixture
def trial(tiny_prior_folder: Path, tmp_path: Path) -> list[object]:
    """Arguments of a tuning of two short trials on one prompt."""
    (tmp_path / "mine.txt").write_text("a green cube\n")
    arguments = ["--method", "sds", "--prompts", tmp_path / "mine.txt", "--seeds", 1, "--trials", 2]
    arguments += ["--prior", tiny_prior_folder, "--objective", "true_preference", "--steps", 2]
    sets = ["--set", "voxels.resolution=12", "--set", "optimize.size=32", "--set", "evaluate.size=32"]
    return [*arguments, *sets, "--workers", 1, "--device", "cpu", "--out", tmp_path / "tuned"]


def test_a_tuning_leaves_its_trials_a_table_and_a_config_file(
    program: Callable, trial: list[object], tmp_path: Path
) -> None:
    pytest.importorskip("optuna")
    done = program("tune", *trial)
    assert done.code == 0, done.err
    assert done.out == f"{tmp_path / 'tuned' / 'best.toml'}\n"
    assert "at most 2 trials of 1 job\n" in done.err
    assert "searched of sds: guidance_scale in 2.0..150.0:log, weighting in sds,uniform," in done.err
    assert "sds was tuned in 2 trials of 1 prompt x 1 seed, 2 steps a job" in done.err
    assert "| trial " in (tmp_path / "tuned" / "tuning.md").read_text()
    assert len(list((tmp_path / "tuned" / "jobs").iterdir())) == 2
    first = json.loads((tmp_path / "tuned" / "tuning.json").read_text())["methods"]["sds"]["trials"][0]
    assert first["params"] == {"guidance_scale": 101.0, "weighting": "sds"}
    assert (first["denoiser_forwards"], first["result"]["n"]) == (4, 1)
    planned = program("plan", *_plan_of(trial), "--config", tmp_path / "tuned" / "best.toml")
    assert planned.code == 0, planned.err


def _plan_of(trial: list[object]) -> list[object]:
    """The same arguments for `plan`, without what is a tuning's own."""
    own = ("--trials", "--objective", "--out")
    pairs = zip(trial[::2], trial[1::2], strict=True)
    return [
        part
        for flag, value in pairs
        if flag not in own
        for part in (str(flag).replace("--method", "-m"), value)
    ]


def test_the_same_command_repeats_nothing_and_more_trials_add(
    program: Callable, trial: list[object], tmp_path: Path
) -> None:
    pytest.importorskip("optuna")
    program("tune", *trial)
    before = (tmp_path / "tuned" / "tuning.json").read_bytes()
    again = program("tune", *trial)
    assert again.code == 0
    assert "started" not in again.err
    assert (tmp_path / "tuned" / "tuning.json").read_bytes() == before
    trial[trial.index("--trials") + 1] = 3
    more = json.loads(program("tune", *trial, "--json").out)
    assert len(more["methods"]["sds"]["trials"]) == 3
    assert more["methods"]["sds"]["trials"][:2] == json.loads(before)["methods"]["sds"]["trials"]


def test_the_jobs_of_a_round_can_be_packed(program: Callable, trial: list[object], tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    trial[trial.index("--seeds") + 1] = 2
    done = program("tune", *trial, "--pack", 2)
    assert done.code == 0, done.err
    costs = list((tmp_path / "tuned" / "jobs").glob("*/cost.json"))
    assert [json.loads(file.read_text())["pack"] for file in costs] == [2] * 4


def test_when_no_trial_has_a_value_some_have_failed(
    program: Callable, trial: list[object], tmp_path: Path
) -> None:
    pytest.importorskip("optuna")
    empty = ["--set", "optimize.empty_opacity=0.99", "--set", "optimize.empty_steps=1"]
    done = program("tune", *trial, *empty)
    assert done.code == 3
    assert "sds was tuned in 2 trials of 1 prompt x 1 seed, 2 steps a job; none has a value." in done.err
    assert "diverged" in (tmp_path / "tuned" / "tuning.md").read_text()


@pytest.mark.parametrize("prompts", ["shapes", "demo", "smoke", "dreamfusion"])
def test_reported_prompts_are_refused(program: Callable, trial: list[object], prompts: str) -> None:
    pytest.importorskip("optuna")
    trial[trial.index("--prompts") + 1] = prompts
    assert_refused(program("tune", *trial), "which is for reporting", "prompts/shapes-tuning.txt")


@pytest.mark.parametrize(
    ("args", "message", "remedy"),
    [
        (["--method", "pds"], "unknown method 'pds'", "did you mean 'psd'?"),
        (["--space", "sds.guidance=1..2"], "unknown parameter 'guidance' in sds", "'guidance_scale'"),
        (["--space", "vsd.guidance_scale=1..2"], "--space names 'vsd', which is not tuned here", "--set"),
        (["--space", "x"], "--space 'x' is not TABLE.KEY=VALUE", "psd.preference_scale=0.1..10:log"),
        (["--trials", "0"], "0 trials are none", "--trials 20"),
        (["--objective", "tru_preference"], "unknown metric", "did you mean 'true_preference'?"),
    ],
)
def test_mistakes_have_a_line_and_a_remedy(
    program: Callable, trial: list[object], args: list[str], message: str, remedy: str
) -> None:
    pytest.importorskip("optuna")
    if args[0] in trial:
        trial[trial.index(args[0]) + 1] = args[1]
        args = []
    assert_refused(program("tune", *trial, *args), message, remedy)


def test_without_optuna_the_way_to_get_it(
    program: Callable, trial: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)  # what an import finds when there is none
    assert_refused(program("tune", *trial), "tuning needs optuna", "pip install 'optuna>=4'", code=4)
    assert not (tmp_path / "tuned").exists()


def test_defaults_are_listed_with_their_sources(program: Callable) -> None:
    text = program("list", "defaults").out
    assert "sds.guidance_scale" in text
    assert "threestudio" in text
    listed = {entry["name"]: entry for entry in json.loads(program("list", "defaults", "--json").out)}
    assert list(listed) == ["shapes", "sd", "mvdream"]
    assert {v["name"] for v in listed["shapes"]["values"]} == {"psd.preference_scale", "psd.cfg_pair"}
    sds = {v["name"]: v for v in listed["mvdream"]["values"]}["sds.guidance_scale"]
    assert (sds["value"], sds["source"]) == (50.0, "MVDream")


def test_every_option_of_tune_has_a_variable() -> None:
    import inspect
    from typing import get_args, get_type_hints

    from psdbench.cli.tune import tune

    hints = get_type_hints(tune, include_extras=True)
    for name in inspect.signature(tune).parameters:
        assert get_args(hints[name])[-1].envvar.startswith("PSDBENCH_")
