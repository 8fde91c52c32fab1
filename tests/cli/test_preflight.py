"""Memory before anything is queued: what is needed, what is there, and what happens if it is too little."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from psdbench.errors import EnvironmentProblem, UsageError
from psdbench.launch import threads
from psdbench.launch.options import parse_memory
from psdbench.launch.threads import default_workers, physical_mb
from psdbench.plan import Plan, make_plan
from psdbench.plan.preflight import look_for_room
from psdbench.settings import RunConfig, resolve
from psdbench.store import atomic
from psdbench.store.run import job_folder


def planned(prior: Path, tmp_path: Path, *sets: str, **options: object) -> tuple[Plan, RunConfig]:
    prompts = tmp_path / "p.txt"
    prompts.write_text("a red cube\n")
    given = {"methods": ["sds", "vsd"], "prompts": [str(prompts)], "prior": str(prior), "device": "cpu"}
    given |= {"metrics": ["none"], "seeds": 1, "out": str(tmp_path / "run")}
    settings = resolve({**given, **options}, None, sets)
    return make_plan(settings), settings


BIG = ("optimize.views=22", "optimize.size=256")


def test_a_job_of_eight_gigabytes_on_a_device_of_four(
    program: Callable, sd_folder: Path, tmp_path: Path
) -> None:
    """The real command line: refused by plan and run alike, with what is needed, what is there and what to do."""
    prompts, out = tmp_path / "p.txt", tmp_path / "run"
    prompts.write_text("a red fox\n")
    arguments = ["--methods", "sds", "--prompts", prompts, "--prior", sd_folder, "--metrics", "none"]
    arguments += ["--device", "cpu", "--seeds", 1, "--out", out, "--memory", "4GB"]
    arguments += [text for each in BIG for text in ("--set", each)]
    for command in ("plan", "run"):
        done = program(command, *arguments)
        assert done.code == EnvironmentProblem.exit_code == 4
        assert re.search(r"a job of sds needs [78]\.\d GB", done.err)
        assert "4.0 GB are there" in done.err
        assert "fewer views" in done.err
        assert "optimize.size" in done.err
        assert "--dtype bfloat16" in done.err
        assert "Traceback" not in done.err
    assert not out.exists(), "nothing was queued"
    assert program("plan", *arguments, "--set", "optimize.memory_rung=1").code == 0


def test_the_limit_is_a_variable_too(
    process: Callable[..., subprocess.CompletedProcess[str]], small: list[object]
) -> None:
    done = process("plan", *small, env={**os.environ, "PSDBENCH_MEMORY": "300MB"})
    assert done.returncode == 4
    assert "300 MB are there" in done.stderr


def test_finished_jobs_know_better(sd_folder: Path, tmp_path: Path) -> None:
    plan, settings = planned(sd_folder, tmp_path, *BIG, memory="6GB")
    before = look_for_room(plan, settings)
    assert before.parts
    assert before.worker_mb > 6 * 1024
    with pytest.raises(EnvironmentProblem, match="needs"):
        before.check()
    for spec in plan.jobs:
        cost = {"seconds": 1.0, "steps": 1, "peak_memory_mb": 5000.0}
        atomic.write_json(job_folder(plan.out, spec) / "cost.json", cost)
    after = look_for_room(plan, settings)
    assert (after.worker_mb, after.parts) == (5000.0, {})
    assert "measured" in after.sentence
    after.check()


def test_packs_do_not_add_up_what_runs_alone(sd_folder: Path, tmp_path: Path) -> None:
    """VSD trains on the prior, so its jobs leave their pack; what one has measured alone holds for packs too."""
    for method, more in (("sds", True), ("vsd", False)):
        plan, settings = planned(sd_folder, tmp_path, methods=[method], out=str(tmp_path / method))
        one, four = look_for_room(plan, settings), look_for_room(plan, replace(settings, pack=4))
        assert (four.worker_mb > one.worker_mb) is more
        assert ("a smaller --pack" in four.remedies) is more
        cost = {"seconds": 1.0, "steps": 1, "peak_memory_mb": 5000.0, "pack": 1}
        atomic.write_json(job_folder(plan.out, plan.jobs[0]) / "cost.json", cost)
        assert bool(look_for_room(plan, replace(settings, pack=4)).parts) is more


def test_workers_share_the_memory(sd_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("psdbench.launch.threads.cores", lambda: 4)
    plan, settings = planned(sd_folder, tmp_path, seeds=4)
    one = look_for_room(plan, settings).worker_mb
    settings = replace(settings, memory=f"{2.5 * one:.0f}MB")
    room = look_for_room(plan, settings)
    assert room.workers == 2
    room.check()
    assert room.settled(settings).workers == 2
    three = look_for_room(plan, replace(settings, workers=3))
    with pytest.raises(EnvironmentProblem, match="3 workers need") as caught:
        three.check()
    assert "fewer --workers" in caught.value.remedy


def test_a_cluster_is_not_this_machine(sd_folder: Path, tmp_path: Path) -> None:
    plan, settings = planned(sd_folder, tmp_path, *BIG, launcher="slurm")
    assert look_for_room(plan, settings).there_mb is None
    room = look_for_room(plan, replace(settings, memory="4GB"))
    assert room.there_mb == 4096
    assert room.settled(settings).workers is None
    with pytest.raises(EnvironmentProblem):
        room.check()


def test_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = physical_mb()
    assert whole > 100
    assert default_workers("cpu", worker_mb=whole) == 1
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(threads, "CGROUP_LIMITS", (str(limit),))
    for text, expected in (("max\n", whole), (f"{100 * 2**20}\n", 100.0)):
        limit.write_text(text)
        assert physical_mb() == expected


@pytest.mark.parametrize(("text", "mb"), [("4GB", 4096), ("1.5 GiB", 1536), ("800m", 800), ("2TB", 2**21)])
def test_amounts_of_memory(text: str, mb: float) -> None:
    assert parse_memory(text) == mb


@pytest.mark.parametrize("text", ["", "4", "GB", "-1GB", "0GB", "four GB"])
def test_what_is_no_amount(text: str) -> None:
    with pytest.raises(UsageError, match="no amount of memory"):
        parse_memory(text)
