"""SJC: the variance-exploding form of the paper, and its relation to SDS."""

from __future__ import annotations

import torch
from gaussian_chain import level
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import MEAN, STD, assert_mean_is, gaussian_gradient, gaussian_prior, make_step, viewed_step

from psdbench.methods.sds import SDS
from psdbench.methods.sjc import SJC
from psdbench.streams import Streams, randn


@settings(max_examples=40)
@given(timestep=st.integers(20, 980), reduced=st.booleans())
def test_gradient_is_the_papers_in_its_own_coordinates(timestep: int, reduced: bool) -> None:
    """z = x + uε, the network sees z/√(1 + u²), D = z - u ε̂, G = (x - D)/u or (z - D)/u."""
    prior, x = gaussian_prior(), randn((4, 3, 1, 1), Streams(0)["test"])
    sjc = SJC(guidance_scale=1.0, variance_reduced=reduced)
    gradient = sjc.gradient(make_step(prior, x, Streams(1), timestep=timestep))

    u = level(timestep).sigma / level(timestep).alpha
    z = x + u * randn(x.shape, Streams(1)["noise"])
    t = torch.full((4,), timestep)
    eps = prior.predict_noise(z / (1 + u**2) ** 0.5, t, prior.encode_text(["y"] * 4))
    denoised = z - u * eps
    torch.testing.assert_close(gradient, ((x if reduced else z) - denoised) / u, rtol=1e-3, atol=1e-3)


def test_with_reduced_variance_it_is_sds_with_weight_one_bit_for_bit(tiny_prior) -> None:
    latents = randn((2, 8, 16, 16), Streams(0)["test"])
    sjc, sds = (
        m.gradient(viewed_step(tiny_prior, latents, Streams(1))) for m in (SJC(), SDS(weighting="uniform"))
    )
    assert torch.equal(sjc, sds)


def test_both_forms_have_one_mean_and_the_closed_forms_spread() -> None:
    """Of the noise, ε̂ holds σ²/v, and the residual ε̂ - ε holds -α²s²/v."""
    latents = torch.ones(3, 1, 1).expand(50_000, -1, -1, -1)
    alpha, sigma, variance = level(450)
    mean = sigma * alpha * (1 - MEAN) / variance
    for reduced, spread in ((True, alpha**2 * STD**2 / variance), (False, sigma**2 / variance)):
        gradient = gaussian_gradient(SJC(guidance_scale=1.0, variance_reduced=reduced), latents)
        assert_mean_is(gradient, mean)
        torch.testing.assert_close(gradient.std(0).flatten(), torch.full((3,), spread), rtol=0.03, atol=0)


def test_cost_is_two_forwards(tiny_prior) -> None:
    step = viewed_step(tiny_prior, torch.randn(3, 8, 16, 16), Streams(0))
    assert SJC().gradient(step).shape == step.latents.shape
    counters = vars(step.counters)
    assert counters.pop("denoiser_forwards") == 3 * 2
    assert set(counters.values()) == {0}
