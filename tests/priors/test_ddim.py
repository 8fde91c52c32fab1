"""The sampler against its closed form on the Gaussian prior, and against diffusers' own."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from toys import MEAN, STD, gaussian_prior

from psdbench.priors import ddim
from psdbench.streams import Streams, randn


def test_a_deterministic_chain_of_a_gaussian_ends_in_that_gaussian() -> None:
    """Many small moves carry N(α_T μ, v_T) to mean μ and deviation s."""
    prior = gaussian_prior()
    alpha, sigma = prior.alpha_sigma(torch.tensor(999))
    spread = (alpha**2 * STD**2 + sigma**2).sqrt()
    noise = alpha * MEAN + spread * randn((4000, 3, 1, 1), Streams(0)["noise"])
    text = prior.encode_text(["y"]).expand(2, 4000, -1, -1)
    x0 = ddim.walk(prior, noise, text, ddim.moves(prior, 200), 1.0)
    error = STD / 4000**0.5
    assert (x0.mean(0) - MEAN).abs().max() < 5 * error
    torch.testing.assert_close(x0.std(0), torch.full((3, 1, 1), STD), rtol=0.05, atol=0)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_transitions_are_those_of_diffusers(eta: float) -> None:
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler(
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, clip_sample=False
    )
    scheduler.set_timesteps(10)
    prior = gaussian_prior()
    x, text = randn((2, 3, 1, 1), Streams(0)["x"]), prior.encode_text(["y", "n"]).unsqueeze(1)
    text = text.expand(-1, 2, -1, -1).contiguous()
    now, then = 700, 600
    mean, std = ddim.transition(prior, x, text, (now, then), 3.0, eta=eta)
    eps = ddim.guided(prior, x, torch.full((2,), now), text, 3.0, grad=False)
    z = randn(x.shape, Streams(0)["z"])
    theirs = scheduler.step(eps, now, x, eta=eta, variance_noise=z if eta else None).prev_sample
    torch.testing.assert_close(mean + std * z, theirs, rtol=1e-4, atol=1e-5)


def test_guidance_one_computes_one_branch_and_others_two() -> None:
    prior = gaussian_prior()
    x, text = torch.zeros(2, 3, 1, 1), prior.encode_text(["n", "y"]).unsqueeze(1).expand(-1, 2, -1, -1)
    t = torch.full((2,), 500)
    one = ddim.guided(prior, x, t, text, 1.0, grad=False)
    assert prior.counters.denoiser_forwards == 2
    assert torch.equal(one, prior.predict_noise(x, t, text[1]))
    before = prior.counters.denoiser_forwards
    ddim.guided(prior, x, t, text, 5.0, grad=False)
    assert prior.counters.denoiser_forwards - before == 4


@pytest.mark.parametrize("steps", [1, 2, 7, 10])
def test_a_path_leads_from_the_noisiest_time_to_zero(steps: int) -> None:
    path = ddim.moves(gaussian_prior(), steps)
    assert len(path) == steps
    assert (path[0][0], path[-1][1]) == (999, 0)
    assert all(a > b for a, b in path)
    assert all(first[1] == second[0] for first, second in pairwise(path))
