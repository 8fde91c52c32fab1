"""Jobs in lockstep: the numbers of each job alone, one denoiser call for all, and failures that stay with their job."""

from __future__ import annotations

import csv
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import Done, refusal
from safetensors.torch import load_file
from torch import Tensor

from psdbench import registry
from psdbench.config import EvaluateConfig, JobSpec, OptimizeConfig, Protocol
from psdbench.errors import Interrupted
from psdbench.job import Models, Outcome, Task, Watch, execute
from psdbench.metrics import scorer_ref
from psdbench.plan import resolve_params
from psdbench.priors.diffusers import DiffusersPrior
from psdbench.store.run import job_folder
from psdbench.store.sealed import read_json

STEPS, JOBS = 6, 3
CLOSE = 1e-4
"""a larger batch sums in another order; Adam turns that into a step of its own where a gradient is next to nothing"""


def make_tasks(run: Path, prior_folder: Path, method: str, count: int = JOBS, **params: Any) -> list[Task]:
    protocol = Protocol(
        registry.prior_ref(str(prior_folder)),
        reward=scorer_ref("hps_shapes"),
        representation_params=resolve_params("voxels", {"resolution": 12}),
        optimize=OptimizeConfig(steps=STEPS, size=64, checkpoint_every=4),
        evaluate=EvaluateConfig(size=16, turntable_frames=1),
    )
    filled = resolve_params(method, params)
    specs = [JobSpec("a red cube", method, filled, seed, protocol) for seed in range(count)]
    return [Task(spec, job_folder(run, spec), ()) for spec in specs]


def run(tasks: list[Task], watch: Watch | None = None) -> list[Outcome]:
    return execute(tasks, Models(), watch or Watch())


def assets(tasks: list[Task]) -> list[dict[str, Tensor]]:
    return [load_file(task.folder / "asset.safetensors") for task in tasks]


def assert_same_to_rounding(some: list[Task], others: list[Task]) -> None:
    for one, other in zip(assets(some), assets(others), strict=True):
        assert one.keys() == other.keys()
        for name, tensor in one.items():
            assert (tensor - other[name]).abs().mean() < CLOSE, name
    for one, other in zip(some, others, strict=True):
        for row, same in zip(read_trace(one), read_trace(other), strict=True):
            assert float(row["gradient_rms"]) == pytest.approx(float(same["gradient_rms"]), rel=CLOSE)
            assert row["timestep"] == same["timestep"]


def read_trace(task: Task) -> list[dict[str, str]]:
    return list(csv.DictReader((task.folder / "trace.csv").open()))


def cost(task: Task) -> dict[str, Any]:
    return read_json(task.folder / "cost.json") or {}


@pytest.fixture
def denoised(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of images of every call of the UNet."""
    seen, call = list[int](), DiffusersPrior._denoise

    def listen(self: DiffusersPrior, x_t: Tensor, *rest: Any) -> Tensor:
        seen.append(len(x_t))
        return call(self, x_t, *rest)

    monkeypatch.setattr(DiffusersPrior, "_denoise", listen)
    return seen


@pytest.mark.parametrize("method", ["sds", "psd", "ism"])
def test_a_pack_gives_the_numbers_of_its_jobs_alone(
    method: str, tmp_path: Path, tiny_prior_folder: Path
) -> None:
    together = make_tasks(tmp_path / "together", tiny_prior_folder, method)
    assert [outcome.status for outcome in run(together)] == ["finished"] * JOBS
    alone = make_tasks(tmp_path / "alone", tiny_prior_folder, method)
    for task in alone:
        assert run([task])[0].status == "finished"
    assert_same_to_rounding(together, alone)
    for task, other in zip(together, alone, strict=True):
        counted = ("denoiser_forwards", "encodes", "decodes", "reward_forwards", "reward_backwards")
        assert [cost(task)[name] for name in counted] == [cost(other)[name] for name in counted]
        assert (cost(task)["pack"], cost(other)["pack"]) == (JOBS, 1)


def test_one_call_denoises_for_all(tmp_path: Path, tiny_prior_folder: Path, denoised: list[int]) -> None:
    run(make_tasks(tmp_path, tiny_prior_folder, "sds"))
    assert denoised == [2 * JOBS] * STEPS


def test_a_job_that_trains_the_prior_runs_alone_and_keeps_its_bits(
    tmp_path: Path, tiny_prior_folder: Path
) -> None:
    together = make_tasks(tmp_path / "together", tiny_prior_folder, "vsd", 2)
    assert [outcome.status for outcome in run(together)] == ["finished"] * 2
    alone = make_tasks(tmp_path / "alone", tiny_prior_folder, "vsd", 2)
    for task in alone:
        run([task])
    for one, other in zip(assets(together), assets(alone), strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one)
    assert cost(together[0])["pack"] == 1


def test_a_job_that_diverges_leaves_the_others_alone(
    tmp_path: Path, tiny_prior_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = make_tasks(tmp_path, tiny_prior_folder, "sds", 2)
    # An opacity that no scene reaches: the second job counts as empty from its second step on.
    strict = replace(tasks[1].spec.protocol.optimize, empty_opacity=2.0, empty_steps=2)
    spec = replace(tasks[1].spec, protocol=replace(tasks[1].spec.protocol, optimize=strict))
    tasks[1] = replace(tasks[1], spec=spec, folder=job_folder(tmp_path, spec))
    first, second = run(tasks)
    assert first.status == "finished"
    assert (second.status, second.step) == ("diverged", 1)


def test_jobs_that_are_stopped_together_continue_together(tmp_path: Path, tiny_prior_folder: Path) -> None:
    asked = 0

    def stop_after_a_while() -> int:
        nonlocal asked
        asked += 1
        return signal.SIGTERM if asked > 2 * JOBS + 4 else 0

    tasks = make_tasks(tmp_path / "stopped", tiny_prior_folder, "psd")
    with pytest.raises(Interrupted):
        run(tasks, Watch(should_stop=stop_after_a_while))
    assert all(list(task.folder.glob("checkpoint-*")) for task in tasks)
    assert [outcome.status for outcome in run(tasks)] == ["finished"] * JOBS
    through = make_tasks(tmp_path / "through", tiny_prior_folder, "psd")
    run(through)
    assert_same_to_rounding(tasks, through)


def test_half_as_many_where_memory_does_not_do_for_all(
    tmp_path: Path, tiny_prior_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes, call = list[int](), DiffusersPrior._denoise

    def small(self: DiffusersPrior, x_t: Tensor, *rest: Any) -> Tensor:
        if len(x_t) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        sizes.append(len(x_t))
        return call(self, x_t, *rest)

    monkeypatch.setattr(DiffusersPrior, "_denoise", small)
    tasks = make_tasks(tmp_path, tiny_prior_folder, "sds", 4)
    assert [outcome.status for outcome in run(tasks)] == ["finished"] * 4
    assert sizes == [4] * 2 * STEPS
    assert all(cost(task)["memory_rung"] == 0 for task in tasks)


def test_seconds_of_a_pack_are_shared_out(tmp_path: Path, tiny_prior_folder: Path) -> None:
    tasks = make_tasks(tmp_path, tiny_prior_folder, "sds")
    start = time.perf_counter()
    run(tasks)
    assert sum(cost(task)["seconds"] for task in tasks) <= time.perf_counter() - start


def test_run_takes_the_size_of_a_pack(
    tmp_path: Path, tiny_prior_folder: Path, program: Callable[..., Done], denoised: list[int]
) -> None:
    (tmp_path / "prompts.txt").write_text("a red cube\n")
    words = ["--methods", "sds", "--prompts", tmp_path / "prompts.txt", "--prior", tiny_prior_folder]
    words += [
        "--seeds",
        4,
        "--steps",
        2,
        "--set",
        "voxels.resolution=12",
        "--metrics",
        "none",
        "--workers",
        1,
    ]
    done = program("run", *words, "--pack", 2, "--out", tmp_path / "run")
    assert done.code == 0, done.err
    assert denoised == [4] * 4
    assert "pack must be at least 1" in refusal(program("plan", *words, "--pack", 0))[0]
