"""Flow matching through the same contract: a Gaussian whose noise schedule is α = 1 - σ."""

from __future__ import annotations

import pytest
import torch
from folders import FLOW_SCHEDULER
from toys import MEAN, MEAN_NEGATIVE, STD, assert_mean_is, make_step

from psdbench.guidance import noise_pool, one_step_x0
from psdbench.guidance.inversion import posterior_std
from psdbench.methods.sdi import SDI
from psdbench.methods.sds import SDS
from psdbench.priors.diffusion import Diffusion, noise_schedule
from psdbench.priors.gaussian import GaussianPrior
from psdbench.streams import Streams, randn


@pytest.fixture
def prior() -> GaussianPrior:
    means = {"y": MEAN, "n": MEAN_NEGATIVE, "": torch.zeros_like(MEAN)}
    return GaussianPrior(means, STD, FLOW_SCHEDULER)


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_schedule_is_that_of_diffusers(shift: float) -> None:
    """Theirs has the ends of a thousand intervals, ours the middles."""
    from diffusers import FlowMatchEulerDiscreteScheduler

    alphas, sigmas = noise_schedule(FLOW_SCHEDULER | {"shift": shift})
    theirs = FlowMatchEulerDiscreteScheduler(shift=shift).sigmas.sort().values
    ends = torch.cat([torch.zeros(1), theirs])
    assert (ends[:-1] < sigmas).all()
    assert (sigmas < ends[1:]).all()
    torch.testing.assert_close(alphas + sigmas, torch.ones(1000))
    assert alphas.min() > 0
    assert sigmas.min() > 0


def test_velocity_becomes_noise_and_clean_image() -> None:
    """v = ε - x, hence ε = x_t + α v and x = x_t - σ v."""
    diffusion = Diffusion(*noise_schedule(FLOW_SCHEDULER))
    x, noise = torch.randn(2, 4, 3, 8, 8)
    t = torch.tensor([0, 10, 500, 990])
    x_t = diffusion.add_noise(x, noise, t)
    eps = diffusion.epsilon("flow", noise - x, x_t, t)
    torch.testing.assert_close(eps, noise, rtol=1e-4, atol=1e-5)
    sigma = diffusion.alpha_sigma(t)[1]
    torch.testing.assert_close(x_t - sigma * (noise - x), x, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(diffusion.predict_x0(x_t, eps, t), x, rtol=1e-2, atol=1e-3)


def test_the_gaussians_own_velocity_is_its_noise(prior: GaussianPrior) -> None:
    """E[ε - x | x_t] by the joint Gaussian of both goes through the conversion."""
    x_t, t = torch.randn(5, 3, 1, 1), torch.full((5,), 300)
    alpha, sigma = prior.alpha_sigma(t)
    # Cov(ε - x, x_t) = σ - α s², Var(x_t) = α² s² + σ²
    gain = (sigma - alpha * STD**2) / (alpha**2 * STD**2 + sigma**2)
    velocity = -MEAN + gain * (x_t - alpha * MEAN)
    eps = prior.predict_noise(x_t, t, prior.encode_text(["y"] * 5))
    torch.testing.assert_close(prior.epsilon("flow", velocity, x_t, t), eps, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("timestep", [50, 450, 900])
def test_sds_has_its_closed_form(prior: GaussianPrior, timestep: int) -> None:
    """ρ = σα(θ - μ_ω)/v - (α²s²/v) ε with whatever α and σ are."""
    latents = randn((4, 3, 1, 1), Streams(0)["test"])
    step = make_step(prior, latents, Streams(1), timestep=timestep)
    gradient = SDS(guidance_scale=3.0, weighting="uniform").gradient(step)
    noise = randn(latents.shape, Streams(1)["noise"])
    alpha, sigma = prior.alpha_sigma(torch.tensor([timestep]))
    variance = alpha**2 * STD**2 + sigma**2
    mean = MEAN_NEGATIVE + 3.0 * (MEAN - MEAN_NEGATIVE)
    rho = sigma * alpha * (latents - mean) / variance - alpha**2 * STD**2 / variance * noise
    torch.testing.assert_close(gradient, rho, rtol=1e-4, atol=1e-4)


def test_regressing_x0_is_regressing_what_the_prior_sees(prior: GaussianPrior) -> None:
    """The weight σ/α makes the gradient x - x̂0 here as well."""
    latents = randn((4, 3, 1, 1), Streams(0)["test"])
    gradient = SDS(guidance_scale=3.0, weighting="x0").gradient(make_step(prior, latents, Streams(1)))
    step = make_step(prior, latents, Streams(1))
    x0 = one_step_x0(step, noise_pool(step, step.noise(), 3.0))[0]
    torch.testing.assert_close(gradient, latents - x0, rtol=1e-3, atol=1e-4)


def test_fixed_point_is_the_guided_mean(prior: GaussianPrior) -> None:
    mean = MEAN_NEGATIVE + 3.0 * (MEAN - MEAN_NEGATIVE)
    latents = mean.expand(20_000, -1, -1, -1)
    assert_mean_is(SDS(guidance_scale=3.0).gradient(make_step(prior, latents, Streams(1))), 0.0)


def test_ddim_inversion_runs_along_a_flow(prior: GaussianPrior) -> None:
    """A noise-free inversion leaves the render at the prior's mean alone."""
    method = SDI(guidance_scale=1.0, inversion_guidance=1.0, inversion_eta=0.0, inversion_steps=200)
    at_mean = method.gradient(make_step(prior, MEAN.expand(2, -1, -1, -1), Streams(1)))
    away = method.gradient(make_step(prior, MEAN.expand(2, -1, -1, -1) + 0.5, Streams(1)))
    assert at_mean.abs().max() < 0.02
    assert (away > 0.05).all()


def test_the_posterior_is_that_of_the_forward_process(prior: GaussianPrior) -> None:
    """Of x_t given x_to and x_0, by regressing samples."""
    t, to, n = torch.tensor(300), torch.tensor(600), 200_000
    (alpha, sigma), (alpha_to, sigma_to) = prior.alpha_sigma(t), prior.alpha_sigma(to)
    early, fresh = randn((n,), Streams(0)["a"]), randn((n,), Streams(0)["b"])
    x_t = (sigma * early).flatten()
    scale = alpha_to / alpha
    x_to = (scale * x_t + (sigma_to**2 - (scale * sigma) ** 2).sqrt() * fresh).flatten()
    slope = (x_t * x_to).mean() / x_to.square().mean()
    rest = (x_t - slope * x_to).std()
    torch.testing.assert_close(rest, posterior_std(prior, t, to).flatten()[0], rtol=0.01, atol=0)
