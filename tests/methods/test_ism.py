"""ISM against the closed form of DDIM on the Gaussian prior."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from gaussian_chain import growth, level, path
from torch import Tensor
from toys import MEAN, MEAN_NEGATIVE, gaussian_gradient, gaussian_prior, make_step, viewed_step

from psdbench.errors import UsageError
from psdbench.methods.csd import CSD
from psdbench.methods.ism import ISM
from psdbench.streams import Streams, randn


@pytest.mark.parametrize(
    ("timestep", "progress", "s", "start", "settings"),
    [
        (450, 0.0, 350, 0, {}),
        (450, 0.15, 360, 0, {}),
        (450, 1.0, 370, 0, {}),
        (980, 1.0, 900, 0, {}),
        (60, 1.0, 0, 0, {}),
        (450, 1.0, 370, 170, {"inversion_steps": 1}),
        (450, 1.0, 450, 400, {"interval": 0.0, "inversion_steps": 1, "inversion_stride": 0.05}),
    ],
)
def test_gradient_is_the_closed_form(
    latents: Tensor, timestep: int, progress: float, s: int, start: int, settings: dict[str, Any]
) -> None:
    """Sample by sample: start at a noised render, climb to s under ∅ (mean 0), step to t, compare."""
    gradient = gaussian_gradient(ISM(**settings), latents, timestep=timestep, progress=progress)

    noise = randn(latents.shape, Streams(1)["noise"])
    stride = round(settings.get("inversion_stride", 0.2) * 1000)
    x_s = level(start).alpha * latents + level(start).sigma * noise
    x_s = x_s * (growth(path(start, s, stride)) if s > start else 1.0)
    x_t = x_s * growth([s, timestep])
    here, there = level(s), level(timestep)
    guided_mean = MEAN_NEGATIVE + 7.5 * (MEAN - MEAN_NEGATIVE)
    eps_s = here.sigma * x_s / here.variance
    eps_t = there.sigma * (x_t - there.alpha * guided_mean) / there.variance
    expected = there.sigma / there.alpha * (eps_t - eps_s)
    torch.testing.assert_close(gradient, expected, rtol=1e-3, atol=1e-3)


def test_without_prompt_it_is_the_change_of_the_prediction_along_the_flow(latents: Tensor) -> None:
    """y = ∅, ω = 1: σ_t/α_t (σ_t/√v_t - σ_s/√v_s) · (x_0 - α_0μ)/√v_0, of first order in the interval."""
    noise = randn(latents.shape, Streams(1)["noise"])
    x_0 = level(0).alpha * latents + level(0).sigma * noise
    t, gradients = level(450), []
    for interval in (10, 20):
        share = interval / 1000
        ism = ISM(
            guidance_scale=1.0,
            interval=share,
            interval_start=share,
            inversion_stride=1e-3,
            inversion_steps=1000,
        )
        gradient = gaussian_gradient(ism, latents, timestep=450, prompt="", negative="")
        s = level(450 - interval)
        change = t.sigma / t.variance**0.5 - s.sigma / s.variance**0.5
        expected = t.sigma / t.alpha * change * x_0 / level(0).variance ** 0.5
        torch.testing.assert_close(gradient, expected, rtol=0.05, atol=1e-4)
        gradients.append(gradient)
    torch.testing.assert_close(gradients[1], 2 * gradients[0], rtol=0.1, atol=1e-4)


def test_without_interval_and_inversion_it_is_csd(latents: Tensor) -> None:
    """x_t = x_s is a noised render, and ε̂_ω - ε̂_∅ = ω (ε̂_y - ε̂_∅) when ∅ is the negative prompt."""
    bare = ISM(interval=0.0, interval_start=0.0, inversion_steps=0)
    csd = gaussian_gradient(CSD(weighting="x0", positive_scale=7.5), latents)
    torch.testing.assert_close(gaussian_gradient(bare, latents, negative=""), csd, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("timestep", "progress", "forwards"), [(980, 1.0, 8), (980, 0.0, 8), (450, 1.0, 5), (20, 1.0, 3)]
)
def test_cost_is_a_forward_per_stride_and_three(
    tiny_prior, timestep: int, progress: float, forwards: int
) -> None:
    """s = 900, 880, 370 and 0: five, five, two and no strides of 200."""
    step = viewed_step(
        tiny_prior, torch.randn(3, 8, 16, 16), Streams(0), timestep=timestep, progress=progress
    )
    gradient = ISM().gradient(step)
    assert gradient.shape == step.latents.shape
    assert not gradient.requires_grad
    counters = vars(step.counters)
    assert counters.pop("denoiser_forwards") == 3 * forwards
    assert set(counters.values()) == {0}


def test_it_follows_the_seed_and_from_low_down_depends_on_it_little(latents: Tensor) -> None:
    """At t = 0 the first noise is faint; a start in the middle makes another target of every noise."""
    spread = {}
    for steps in (5, 1):
        first, again, other = (
            gaussian_gradient(ISM(inversion_steps=steps), latents, seed=seed, timestep=800)
            for seed in (1, 1, 2)
        )
        assert torch.equal(first, again)
        spread[steps] = (first - other).square().mean().sqrt().item()
    assert 0 < 5 * spread[5] < spread[1]


def test_only_the_base_noise_is_drawn(latents: Tensor) -> None:
    streams = Streams(1)
    ISM().gradient(make_step(gaussian_prior(), latents, streams))
    assert list(streams.state_dict()) == ["noise"]


def test_without_warm_up_the_interval_is_its_end(latents: Tensor) -> None:
    sudden = gaussian_gradient(ISM(warm_up=0.0), latents, progress=0.0)
    assert torch.equal(sudden, gaussian_gradient(ISM(), latents, progress=1.0))


@pytest.mark.parametrize(
    ("name", "value"),
    [("interval", -0.1), ("warm_up", -1.0), ("inversion_steps", -1), ("inversion_stride", 0.0)],
)
def test_impossible_inversions_are_refused(name: str, value: float) -> None:
    with pytest.raises(UsageError, match=f"ism.{name} cannot be {value}"):
        ISM(**{name: value})
