"""`run`, `plan` and `score` from the outside: what they print, where it goes, and how they end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from psdbench.store.run import read_run, told_commands
from psdbench.store.table import load_table


def test_run_continues_and_repeats_nothing(program: Callable, small: list[object], tmp_path: Path) -> None:
    first = program("run", *small)
    assert first.code == 0
    assert first.out == f"{tmp_path / 'run'}\n"
    assert first.err.count(": started") == 2
    assert "2 of 2 jobs finished; next: psdbench report" in first.err
    table = load_table(tmp_path / "run")
    assert len(table) == 2 * 2 * 9
    again = program("run", *small)
    assert again.code == 0
    assert "2 of 2 jobs were finished before" in again.err
    assert "started" not in again.err
    assert load_table(tmp_path / "run").equals(table)
    assert len(told_commands(read_run(tmp_path / "run"))) == 1


def test_more_seeds_and_methods_only_add(program: Callable, small: list[object], tmp_path: Path) -> None:
    program("run", *small)
    small[small.index("--seeds") + 1] = 2
    done = program("run", *small, "--json")
    document = json.loads(done.out)
    assert document["counts"] == {"finished": 4}
    assert sorted(job["fresh"] for job in document["jobs"]) == [False, False, True, True]
    told = told_commands(read_run(tmp_path / "run"))
    assert [command["options"]["seeds"] for command in told] == [1, 2]
    assert [len(command["jobs"]) for command in told] == [2, 4]
    assert document["run"] == str(tmp_path / "run")
    assert document["exit_code"] == 0


def test_a_changed_configuration_is_another_job(
    program: Callable, small: list[object], tmp_path: Path
) -> None:
    program("run", *small)
    done = program("run", *small, "--set", "sds.guidance_scale=3")
    assert done.err.count(": started") == 2
    assert "another protocol" not in done.err
    done = program("run", *small, "--set", "optimize.opacity_weight=0.3")
    assert "has 4 jobs of another protocol" in done.err
    assert len(list((tmp_path / "run" / "jobs").iterdir())) == 6


def test_diverged_jobs_are_exit_code_3(program: Callable, small: list[object]) -> None:
    args = [*small, "--set", "optimize.empty_opacity=0.99", "--set", "optimize.empty_steps=1"]
    done = program("run", *args)
    assert done.code == 3
    assert "diverged at step 0: " in done.err
    assert "0 of 2 jobs finished" in done.err
    assert program("run", *args).code == 3


def test_run_json_holds_options_but_no_arguments(
    program: Callable, small: list[object], tmp_path: Path, monkeypatch: object
) -> None:
    os.environ["PSDBENCH_CANARY_TOKEN"] = "hf_canary"
    try:
        program("run", *small)
    finally:
        del os.environ["PSDBENCH_CANARY_TOKEN"]
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    assert facts["options"]["methods"] == ["sds"]
    assert facts["versions"]["torch"]
    for path in (tmp_path / "run").rglob("*"):
        assert not path.is_file() or b"hf_canary" not in path.read_bytes()


def test_methods_run_to_equal_compute(program: Callable, small: list[object], tmp_path: Path) -> None:
    small[small.index("--methods") + 1] = "sds,vsd"
    small[small.index("--metrics") + 1] = "none"
    place = small.index("--steps")
    small[place : place + 2] = ["--budget", "nfe=8", "--grad-norm", "unit"]
    assert "8 denoiser forwards a job (sds: 4 steps, vsd: 2 steps)" in program("plan", *small).out
    assert program("run", *small).code == 0
    costs = {p.parent.name[:3]: json.loads(p.read_text()) for p in (tmp_path / "run").rglob("cost.json")}
    assert {name: (c["steps"], c["denoiser_forwards"]) for name, c in costs.items()} == {
        "sds": (4, 8),
        "vsd": (2, 8),
    }


def test_plan_computes_nothing(program: Callable, small: list[object], tmp_path: Path) -> None:
    done = program("plan", *small)
    assert done.code == 0
    assert not (tmp_path / "run").exists()
    for word in (
        "folder",
        "protocol",
        "prior",
        "reward",
        "metrics",
        "jobs",
        "left",
        "time",
        "disk",
        "memory",
    ):
        assert f"\n{word} " in f"\n{done.out}"
    document = json.loads(program("plan", *small, "--json").out)
    assert document["forecast"]["jobs"] == document["forecast"]["left"] == 2
    program("run", *small)
    document = json.loads(program("plan", *small, "--json").out)
    assert (document["forecast"]["left"], document["forecast"]["seconds"]) == (0, 0.0)


def test_environment_and_file_and_flag(
    program: Callable, small: list[object], tmp_path: Path, monkeypatch: object
) -> None:
    (tmp_path / "run.toml").write_text("seeds = 4\nsteps = 9\n")
    config = ["--config", tmp_path / "run.toml"]
    without = [a for i, a in enumerate(small) if "--seeds" not in (a, small[i - 1])]
    count = lambda *args: json.loads(program("plan", *args, *config, "--json").out)["forecast"]["jobs"]  # noqa: E731
    assert count(*without) == 8
    os.environ["PSDBENCH_SEEDS"] = "3"
    try:
        assert count(*without) == 6
        assert count(*without, "--seeds", "5-5") == 2
    finally:
        del os.environ["PSDBENCH_SEEDS"]


def test_prompts_from_stdin(process: Callable, small: list[object], tmp_path: Path) -> None:
    small[small.index("--prompts") + 1] = "-"
    done = process("plan", *small, "--json", input="a red cube\na red cube\n")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["forecast"]["jobs"] == 1
    assert done.stderr == "note: stdin:2: duplicate of stdin:1, dropped\n"


def test_score_adds_metrics(program: Callable, small: list[object], tmp_path: Path) -> None:
    small[small.index("true_preference,ground_truth")] = "true_preference"
    program("run", *small)
    assets = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("asset.safetensors")}
    done = program("score", tmp_path / "run", "--metrics", "ground_truth", "--json")
    assert done.code == 0
    assert json.loads(done.out)["counts"] == {"finished": 2}
    assert set(load_table(tmp_path / "run")["scorer"]) == {"true_preference", "ground_truth"}
    assert {p: p.stat().st_mtime_ns for p in assets} == assets
    program("run", *small)
    assert set(load_table(tmp_path / "run")["scorer"]) == {"true_preference", "ground_truth"}


def test_score_reports_damage(program: Callable, small: list[object], tmp_path: Path) -> None:
    program("run", *small)
    next((tmp_path / "run").rglob("view_00.png")).write_bytes(b"no picture")
    done = program("score", tmp_path / "run", "--metrics", "true_preference")
    assert done.code == 5
    assert "view_00.png has 10 bytes instead of" in done.err
    assert program("run", *small).code == 0
    assert program("score", tmp_path / "run", "--metrics", "true_preference").code == 0


def test_a_truncated_manifest_is_set_aside(program: Callable, small: list[object], tmp_path: Path) -> None:
    program("run", *small)
    path = next((tmp_path / "run").rglob("manifest.json"))
    path.write_bytes(path.read_bytes()[:100])
    done = program("run", *small)
    assert done.code == 0
    assert "manifest.json is corrupt" in done.err
    assert "step" not in done.err.split("corrupt")[0]
    assert len(list((path.parent / "quarantine").iterdir())) == 1


def test_the_time_that_is_given_is_kept(process: Callable, small: list[object], tmp_path: Path) -> None:
    small[small.index("--steps") + 1] = 4000
    done = process("run", *small, "--max-time", "2s")
    assert done.returncode == 75
    assert done.stderr.endswith(
        "error: the time of --max-time is over\n  remedy: run the same command again to continue\n"
    )
    assert list((tmp_path / "run").rglob("checkpoint-*"))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGUSR1, 75)])
def test_a_signal_stops_soon_and_the_same_command_continues(
    small: list[object], number: signal.Signals, code: int
) -> None:
    small[small.index("--steps") + 1] = 4000
    command = [sys.executable, "-m", "psdbench", "run", *map(str, small)]
    run = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    assert run.stderr is not None
    while ": started" not in run.stderr.readline():
        assert run.poll() is None
    time.sleep(1)
    run.send_signal(number)
    _, err = run.communicate(timeout=60)
    assert run.returncode == code
    assert err.endswith(
        f"error: stopped by {number.name}\n  remedy: run the same command again to continue\n"
    )


def test_doctor(program: Callable) -> None:
    done = program("doctor", "--json")
    document = json.loads(done.out)
    topics = {check["topic"]: check for check in document["checks"]}
    assert topics["python"]["state"] == topics["torch"]["state"] == "ok"
    assert topics["metric true_preference"]["state"] == "ok"
    assert done.code == (0 if document["ok"] else 4)
    missing = [check for check in document["checks"] if check["state"] == "missing"]
    assert all(check["remedy"] for check in missing)


def test_doctor_tells_which_extras_are_there(program: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib import util

    there = util.find_spec
    monkeypatch.setattr(
        util, "find_spec", lambda name, *rest: None if name == "plyfile" else there(name, *rest)
    )
    done = program("doctor", "--metrics", "true_preference", "--json")
    (mesh,) = (check for check in json.loads(done.out)["checks"] if check["topic"] == "mesh")
    assert mesh["state"] == "optional"  # not missing: all but meshes works
    assert mesh["finding"].endswith("no plyfile")
    assert mesh["remedy"] == "pip install 'psdbench[mesh]'"


def test_lists(program: Callable) -> None:
    for kind, name in [
        ("methods", "psd"),
        ("priors", "shapes"),
        ("representations", "voxels"),
        ("metrics", "hps_shapes"),
        ("prompts", "smoke"),
    ]:
        assert name in program("list", kind).out
        assert name in [entry["name"] for entry in json.loads(program("list", kind, "--json").out)]
    assert "per step and view 2 denoiser forwards" in program("list", "methods").out
    psd = next(e for e in json.loads(program("list", "methods", "--json").out) if e["name"] == "psd")
    assert psd["needs_reward"] is True
    assert psd["needs_reward_gradient"] is False
    assert (psd["cost_per_view"]["denoiser_forwards"], psd["cost_per_view"]["reward_forwards"]) == (4, 2)
    assert all(parameter["meaning"] for parameter in psd["parameters"])


def test_metrics_are_listed_with_direction_range_unit_and_needs(program: Callable) -> None:
    entries = {entry["name"]: entry for entry in json.loads(program("list", "metrics", "--json").out)}
    janus, floaters = entries["janus_clip_vit_l14"], entries["floaters"]
    assert janus["needs"] == ["prompt", "cameras", "weights clip_vit_l14"]
    assert (janus["higher_is_better"], janus["range"], janus["unit"]) == (False, "0 to 1", "probability")
    assert (floaters["needs"], floaters["unit"]) == ([], "share")
    assert entries["true_preference"]["needs"] == ["shapes prompt"]
    lines = program("list", "metrics").out.splitlines()
    assert len(lines) == len(entries)
    row = next(line for line in lines if line.startswith("ground_truth"))
    cells = [cell.strip() for cell in row.split("  ") if cell.strip()]
    assert cells[1:5] == ["higher is better", "0 to 60", "dB", "needs shapes prompt, cameras"]
