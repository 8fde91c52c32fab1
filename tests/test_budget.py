"""Equal compute: exact to one step, schedules over the budget, the same bits after a kill, and steps as before."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from psdbench import registry
from psdbench.budget import PATIENCE, Budget
from psdbench.config import JobSpec, OptimizeConfig, PriorRef, Protocol
from psdbench.errors import UsageError
from psdbench.guidance import Method, Setting, State, Step, method
from psdbench.optimizer.loop import Optimisation, OptimizeResult, optimize
from psdbench.optimizer.particles import ASSET
from psdbench.optimizer.trace import TRACE, from_tensor, to_tensor
from psdbench.priors.gaussian import GaussianPrior

SIZE = 8
UNEVEN = {"negative": "dpo_x0", "negative_every": 3, "negative_start": 0.2}
"""PSD that pays more at every third step, and only later in the run"""


class Redness:
    """A reward in closed form."""

    id, sha256 = "redness", "0" * 64
    higher_is_better = differentiable = True
    view_words = False

    def score(self, images: Tensor, prompts: Sequence[str], cameras: Any = None) -> Tensor:
        return (images[:, 0] - images[:, 1]).mean((-1, -2))


@method("idle", paper="none")
class Idle(Method):
    """Never asks the prior."""

    def gradient(self, step: Step) -> Tensor:
        return torch.zeros_like(step.latents)


@method("curious", paper="none")
class Curious(Method):
    """Reports the length that it is told of."""

    def setup(self, setting: Setting) -> State | None:
        raise RuntimeError(f"steps: {setting.steps}")

    def gradient(self, step: Step) -> Tensor:
        return torch.zeros_like(step.latents)


def make_spec(name: str = "sds", params: dict[str, Any] | None = None, **fields: Any) -> JobSpec:
    config = OptimizeConfig(**{"size": SIZE, "checkpoint_every": 5} | fields)
    params3d = {"resolution": 6, "density_scale": 20.0}
    protocol = Protocol(PriorRef("gaussian", "0" * 64), representation_params=params3d, optimize=config)
    return JobSpec("a red cube", name, params or {}, 0, protocol)


def make_prior() -> GaussianPrior:
    target = torch.tensor([0.9, 0.1, 0.2])[:, None, None].expand(3, SIZE, SIZE)
    return GaussianPrior({"a red cube": target, "": 1 - target}, std=0.3)


def run(spec: JobSpec, folder: Path, **hooks: Any) -> OptimizeResult:
    made = registry.method_class(spec.method)(**spec.params)
    return optimize(spec, make_prior(), made, Redness(), folder, **hooks)


def test_a_budget_worth_n_steps_gives_the_bits_of_n_steps(tmp_path: Path) -> None:
    plain = run(make_spec(steps=12), tmp_path / "steps")
    bought = run(make_spec(nfe=24), tmp_path / "nfe")
    assert plain.trace == bought.trace
    for name in (ASSET, TRACE):
        assert (tmp_path / "steps" / name).read_bytes() == (tmp_path / "nfe" / name).read_bytes()


@pytest.mark.parametrize(
    ("name", "params"), [("sds", {}), ("vsd", {}), ("psd", {}), ("psd", UNEVEN)], ids=str
)
def test_every_method_ends_at_the_first_step_that_reaches_the_budget(
    name: str, params: dict[str, Any], tmp_path: Path
) -> None:
    result = run(make_spec(name, params, nfe=51), tmp_path)
    spent = [row.denoiser_forwards for row in result.trace]
    assert spent[-2] < 51 <= spent[-1]
    assert result.counters.denoiser_forwards == spent[-1]
    progress = [row.progress for row in result.trace]
    assert progress[0] == 0.0
    assert progress == sorted(progress)
    # the last step sees where the run stands when one more average step ends it
    assert 1 - progress[-1] <= (spent[-1] - spent[-2]) / 51
    expected = 0.1 + 0.9 * (1 + math.cos(math.pi * progress[-1])) / 2
    assert result.trace[-1].learning_rate == pytest.approx(0.2 * expected)


class Killed(Exception):
    """Stands for the death of the process."""


def test_a_killed_and_resumed_budget_ends_with_the_same_bits(tmp_path: Path) -> None:
    def kill(row: Any) -> None:
        if row.step == 8:
            raise Killed

    spec = make_spec("psd", UNEVEN, nfe=70)
    whole = run(spec, tmp_path / "whole")
    with pytest.raises(Killed):
        run(spec, tmp_path / "cut", on_step=kill)
    steps: list[int] = []
    rest = run(spec, tmp_path / "cut", on_step=lambda row: steps.append(row.step))
    assert steps == list(range(5, len(whole.trace)))
    assert len({b.denoiser_forwards - a.denoiser_forwards for a, b in pairwise(rest.trace)}) > 1
    assert (rest.trace, rest.counters) == (whole.trace, whole.counters)
    for name in (ASSET, TRACE):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "cut" / name).read_bytes()
    again = run(spec, tmp_path / "cut", on_step=kill)
    assert again.trace == whole.trace


def test_a_budget_of_seconds_is_exact_to_one_step() -> None:
    job = Optimisation.begin(make_spec(seconds=0.3), make_prior(), registry.method_class("sds")(), None)
    before = [0.0]
    while not job.at_end:
        before.append(job.spent)
        job.step()
    assert before[-1] < 0.3 <= job.spent
    progress = [row.progress for row in job.trace]
    assert progress[0] == 0.0
    assert progress == sorted(progress)
    assert progress[-1] <= 1.0


def test_a_budget_below_the_first_step_is_one_step(tmp_path: Path) -> None:
    assert len(run(make_spec(seconds=1e-9), tmp_path / "seconds").trace) == 1
    assert len(run(make_spec("psd", nfe=1), tmp_path / "nfe").trace) == 1


def test_a_method_that_never_spends_its_budget_is_stopped_with_a_reason(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"no denoiser forward in {PATIENCE} steps") as caught:
        optimize(make_spec("idle", nfe=10), make_prior(), Idle(), None, tmp_path)
    assert "--budget seconds" in caught.value.remedy
    plain = optimize(make_spec("idle", steps=PATIENCE + 5), make_prior(), Idle(), None, tmp_path / "steps")
    assert len(plain.trace) == PATIENCE + 5


@pytest.mark.parametrize(("fields", "told"), [({"steps": 7}, "7"), ({"nfe": 20}, "None")])
def test_methods_are_told_the_steps_only_where_they_are_known(
    fields: dict[str, Any], told: str, tmp_path: Path
) -> None:
    with pytest.raises(RuntimeError, match=f"^steps: {told}$"):
        optimize(make_spec("curious", **fields), make_prior(), Curious(), None, tmp_path)


def test_the_budget_is_part_of_the_protocol_and_its_absence_is_not() -> None:
    spec = make_spec()
    for fields in ({"nfe": 600}, {"nfe": 601}, {"seconds": 600.0}):
        config = replace(spec.protocol.optimize, **fields)  # type: ignore[arg-type]
        assert replace(spec.protocol, optimize=config).hash != spec.protocol.hash
    with pytest.raises(ValueError, match="either of nfe or of seconds"):
        OptimizeConfig(nfe=1, seconds=1.0)


@pytest.mark.parametrize(
    ("config", "text"),
    [
        (OptimizeConfig(), "300 steps"),
        (OptimizeConfig(nfe=1_000_000), "1000000 denoiser forwards"),
        (OptimizeConfig(seconds=2.5), "2.5 seconds"),
    ],
)
def test_lengths_in_words(config: OptimizeConfig, text: str) -> None:
    assert str(Budget.of(config)) == text


@given(st.integers(1, 5000), st.integers(1, 40))
def test_even_costs_are_forecast_exactly_and_schedules_are_those_of_steps(amount: int, cost: int) -> None:
    budget, steps = Budget("nfe", amount), -(-amount // cost)
    for step in {0, 1, 2, steps // 2, steps - 1} & set(range(steps)):
        progress = budget.progress(step * cost, step)
        assert 0 <= progress <= 1
        if amount % cost == 0:
            assert progress == (step / (steps - 1) if steps > 1 else 0)
        assert budget.expected_steps(step, progress) == (steps if step else 0)


@given(st.lists(st.integers(1, 10), min_size=1, max_size=200), st.integers(100, 400))
def test_uneven_costs_never_turn_a_schedule_back(costs: list[int], amount: int) -> None:
    """Where no step costs more than the budget's square root: else a few steps are the whole run."""
    budget, spent, seen = Budget("nfe", amount), 0, [0.0]
    for step, cost in enumerate(costs):
        if spent >= amount:
            break
        progress = budget.progress(spent, step)
        assert 0 <= progress <= 1
        assert progress >= seen[-1]
        seen.append(progress)
        spent += cost


def test_a_trace_survives_its_tensor(tmp_path: Path) -> None:
    trace = run(make_spec(nfe=9), tmp_path).trace
    again = from_tensor(to_tensor(trace))
    assert again == trace
    assert [type(value) for value in again[0]] == [type(value) for value in trace[0]]
    assert from_tensor(to_tensor([])) == []
