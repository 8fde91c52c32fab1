"""SDI against the closed form of DDIM on the Gaussian prior, and SDS as its special case."""

from __future__ import annotations

import pytest
import torch
from gaussian_chain import growth, level, path
from torch import Tensor
from toys import MEAN, MEAN_NEGATIVE, STD, gaussian_gradient, gaussian_prior, make_step, viewed_step

from psdbench.errors import UsageError
from psdbench.methods.sdi import SDI
from psdbench.methods.sds import SDS
from psdbench.streams import Streams, randn


@pytest.mark.parametrize("timestep", [50, 450, 900])
@pytest.mark.parametrize("guidances", [(1.0, 1.0), (7.5, -7.5)])
def test_gradient_is_the_closed_form(latents: Tensor, guidances: tuple[float, float], timestep: int) -> None:
    """G = x - x̂0 with x_t from DDIM under the inversion's guided mean, x̂0 under the other's."""
    mean, mean_inversion = (MEAN_NEGATIVE + w * (MEAN - MEAN_NEGATIVE) for w in guidances)
    sdi = SDI(
        guidance_scale=guidances[0], inversion_guidance=guidances[1], inversion_jitter=0, inversion_eta=0
    )
    t = level(timestep)
    factor = growth(path(0, timestep, 100)) * level(0).alpha
    x_t = t.alpha * mean_inversion + factor * (latents - mean_inversion)
    x0 = mean + t.alpha * STD**2 / t.variance * (x_t - t.alpha * mean)
    gradient = gaussian_gradient(sdi, latents, timestep=timestep)
    torch.testing.assert_close(gradient, latents - x0, rtol=2e-3, atol=2e-3)


def test_fine_strides_reach_the_limit_which_is_zero_at_the_mean_alone(latents: Tensor) -> None:
    """(1 - αs/√v)(x - μ): without noise, and the smaller the smaller t is."""
    sdi = SDI(
        guidance_scale=1.0, inversion_guidance=1.0, inversion_steps=1000, inversion_jitter=0, inversion_eta=0
    )
    sizes = []
    for timestep in (600, 300, 100):
        shrink = 1 - level(timestep).alpha * STD / level(timestep).variance ** 0.5
        gradient = gaussian_gradient(sdi, latents, timestep=timestep)
        torch.testing.assert_close(gradient, shrink * (latents - MEAN), rtol=0.02, atol=5e-3)
        sizes.append(gradient.abs().max().item())
    assert sizes[0] > 2 * sizes[1] > 4 * sizes[2]
    at_mean = gaussian_gradient(sdi, MEAN.expand(2, -1, -1, -1), timestep=600)
    assert at_mean.abs().max() < 1e-3


def test_without_inversion_it_is_sds_on_x0_bit_for_bit(tiny_prior) -> None:
    latents = randn((2, 8, 16, 16), Streams(0)["test"])
    for sdi, sds in (
        (SDI(inversion_steps=0), SDS(weighting="x0")),
        (SDI(inversion_steps=0, weighting="sds", guidance_scale=50.0), SDS(guidance_scale=50.0)),
    ):
        one, other = (m.gradient(viewed_step(tiny_prior, latents, Streams(1))) for m in (sdi, sds))
        assert torch.equal(one, other)


def test_the_noise_found_above_is_put_at_t(latents: Tensor) -> None:
    """With jitter: κ = (x_end - α_end x)/σ_end becomes x_t = α_t x + σ_t κ; the end is that of the stream."""
    sdi = SDI(guidance_scale=1.0, inversion_guidance=1.0, inversion_eta=0)
    gradient = gaussian_gradient(sdi, latents, timestep=450)
    end = 450 + int(torch.randint(100, (1,), generator=Streams(1)["method"]))
    assert end > 450
    factor = growth(path(0, end, 100)) * level(0).alpha
    kappa = (level(end).alpha * MEAN + factor * (latents - MEAN) - level(end).alpha * latents) / level(
        end
    ).sigma
    t = level(450)
    x_t = t.alpha * latents + t.sigma * kappa
    x0 = MEAN + t.alpha * STD**2 / t.variance * (x_t - t.alpha * MEAN)
    torch.testing.assert_close(gradient, latents - x0, rtol=2e-3, atol=2e-3)


def test_jitter_stays_within_a_stride_and_inside_the_diffusion() -> None:
    """Counted by forwards at ω = 1: ⌈end / 100⌉ + 1; from t = 450 the end is at 450..549, from 999 nowhere else."""
    sdi = SDI(guidance_scale=1.0, inversion_guidance=1.0)
    counts = {450: set(), 999: set()}
    for timestep, seen in counts.items():
        for seed in range(40):
            prior = gaussian_prior()
            sdi.gradient(make_step(prior, torch.zeros(1, 3, 1, 1), Streams(seed), timestep=timestep))
            seen.add(prior.counters.denoiser_forwards)
    assert counts == {450: {6, 7}, 999: {11}}


def test_the_random_parts_follow_the_seed_and_can_be_switched_off(latents: Tensor) -> None:
    first, again, other = (gaussian_gradient(SDI(), latents, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.allclose(first, other)
    quiet = SDI(inversion_jitter=0, inversion_eta=0)
    assert torch.equal(*(gaussian_gradient(quiet, latents, seed=seed) for seed in (1, 2)))


def test_the_base_noise_is_left_alone(latents: Tensor) -> None:
    """What SDI draws comes from the stream of the method; an inversion regresses no drawn noise."""
    streams = Streams(1)
    SDI().gradient(make_step(gaussian_prior(), latents, streams))
    assert list(streams.state_dict()) == ["method"]


@pytest.mark.parametrize(("timestep", "forwards"), [(980, 22), (950, 22), (20, 4)])
def test_cost_is_two_forwards_per_stride_and_two(tiny_prior, timestep: int, forwards: int) -> None:
    step = viewed_step(tiny_prior, torch.randn(2, 8, 16, 16), Streams(0), timestep=timestep)
    gradient = SDI(inversion_jitter=0.5).gradient(step)
    assert gradient.shape == step.latents.shape
    assert not gradient.requires_grad
    counters = vars(step.counters)
    assert counters.pop("denoiser_forwards") == 2 * forwards
    assert set(counters.values()) == {0}


@pytest.mark.parametrize("name", ["inversion_steps", "inversion_jitter", "inversion_eta"])
def test_impossible_inversions_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match=f"sdi.{name} cannot be -1"):
        SDI(**{name: -1})
