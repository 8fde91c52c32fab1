"""The measured cost of a step: what the papers' algorithms imply, and means over a run where it varies."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import asdict
from typing import Any

import pytest
import torch
from torch import Tensor

from psdbench import registry
from psdbench.cli.list import in_words, measured_cost
from psdbench.config import JobSpec, OptimizeConfig, PriorRef, Protocol
from psdbench.guidance import Method, Step, method
from psdbench.optimizer.loop import Optimisation
from psdbench.plan.method_cost import PASSES, PROMPT, SIZE, STEPS, _Brightness, _Prior, cost_per_view


@pytest.mark.parametrize(
    ("name", "params", "expected"),
    [
        ("sds", {}, (2, 0, 0, 0, 0)),
        ("sds", {"guidance_scale": 1.0}, (1, 0, 0, 0, 0)),
        ("vsd", {}, (4, 1, 0, 0, 0)),
        ("psd", {}, (4, 0, 2, 2, 0)),
        ("psd", {"preference_scale": 0.0}, (2, 0, 0, 0, 0)),
    ],
)
def test_the_cost_is_that_of_the_algorithm(name: str, params: dict, expected: tuple[float, ...]) -> None:
    cost = cost_per_view(registry.method_class(name)(**params))
    assert tuple(cost[part] for part in PASSES) == expected


@method("late", paper="none", needs_reward_gradient=True)
class Late(Method):
    """Asks for a reward's gradient in the second half of a run."""

    def gradient(self, step: Step) -> Tensor:
        if step.progress < 0.5:
            return torch.zeros_like(step.latents)
        x0 = step.latents[None].clone().requires_grad_()
        return -torch.autograd.grad(step.rewards(x0, grad=True).sum(), x0)[0][0]


def test_what_varies_over_a_run_counts_with_its_share() -> None:
    cost = cost_per_view(Late())
    share = sum(i / (STEPS - 1) >= 0.5 for i in range(STEPS)) / STEPS
    assert (cost["reward_forwards"], cost["reward_backwards"], cost["denoiser_forwards"]) == (share, share, 0)
    assert in_words(cost) == "0.5 decodes, 0.5 reward forwards, 0.5 reward backwards"
    assert Late.needs_reward


@method("odd", paper="none")
class Odd(Method):
    """Wants what a closed-form prior does not have."""

    def gradient(self, step: Step) -> Tensor:
        return step.prior.unet(step.latents)  # type: ignore[no-any-return, attr-defined]


def test_a_method_that_cannot_be_measured_is_listed_without_a_cost(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert measured_cost(Odd) is None
    assert "the cost of 'odd' is not measured: AttributeError" in capsys.readouterr().err
    assert in_words(None) == ""


def test_costs_in_words() -> None:
    assert in_words({"denoiser_forwards": 1.0, "decodes": 0.0}) == "1 denoiser forward"
    assert in_words({"denoiser_forwards": 5.5, "decodes": 2.0}) == "5.5 denoiser forwards, 2 decodes"


def counted_by_the_optimizer(method: Method) -> dict[str, float]:
    """The same of a job of that length, from the counters that every job has."""
    config = OptimizeConfig(steps=STEPS, size=SIZE)
    protocol = Protocol(PriorRef("gaussian", ""), representation_params={"resolution": 4}, optimize=config)
    run = Optimisation.begin(JobSpec(PROMPT, method.name, {}, 0, protocol), _Prior(), method, _Brightness())
    try:
        for _ in range(STEPS):
            run.step()
    finally:
        run.close()
    counted = asdict(run.prior.counters)
    return {name: counted[name] / STEPS for name in PASSES}


@pytest.mark.parametrize("name", registry.shipped_methods())
def test_passes_are_counted_as_the_optimizer_makes_them(name: str) -> None:
    method = registry.method_class(name)()
    assert cost_per_view(method) == counted_by_the_optimizer(method)


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("psd", {"base": "vsd", "rank_on": 3}),
        ("psd", {"preference_schedule": "t_gate", "base": "csd"}),
        ("psd", {"negative": "dpo_x0"}),
        ("csd", {"negative_scale": 1.0}),
        ("rewardsds", {"noises": 4, "reward_duration": 0.5}),
    ],
)
def test_parameters_change_what_is_counted(name: str, params: dict[str, Any]) -> None:
    method = registry.method_class(name)(**params)
    counted = cost_per_view(method)
    assert counted == counted_by_the_optimizer(method)
    assert counted != cost_per_view(registry.method_class(name)())


def test_counting_imports_no_optimizer() -> None:
    """With torch's optimizers comes its compiler, which takes as long to import as all else in a plan."""
    code = (
        "import sys\n"
        "from psdbench.plan.method_cost import cost_per_view\n"
        "from psdbench.registry import method_class, shipped_methods\n"
        "for name in shipped_methods(): cost_per_view(method_class(name)())\n"
        "print('torch._dynamo' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
