"""NFSD: noise-free above its threshold, and what it shares with CSD and SDS."""

from __future__ import annotations

import pytest
import torch
from gaussian_chain import level
from torch import Tensor
from toys import MEAN, MEAN_NEGATIVE, gaussian_gradient, viewed_step

from psdbench.methods.csd import CSD
from psdbench.methods.nfsd import NFSD
from psdbench.methods.sds import SDS
from psdbench.streams import Streams, randn
from psdbench.world.grammar import WORDS


@pytest.mark.parametrize("timestep", [200, 450, 900])
def test_above_the_threshold_no_noise_is_left(latents: Tensor, timestep: int) -> None:
    """w σα (μ_n - μ_∅ + s (μ_∅ - μ_y))/v for every render and noise, with μ_∅ = 0."""
    alpha, sigma, variance = level(timestep)
    expected = sigma**2 * sigma * alpha * (MEAN_NEGATIVE - 7.5 * MEAN) / variance
    for seed in (1, 2):
        gradient = gaussian_gradient(NFSD(negative_prompt="n"), latents, seed=seed, timestep=timestep)
        torch.testing.assert_close(gradient, expected.expand_as(latents), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("timestep", [30, 199])
def test_below_the_threshold_it_is_sds_that_keeps_the_noise(latents: Tensor, timestep: int) -> None:
    """ε̂_∅ + s (ε̂_y - ε̂_∅) is SDS's prediction; only its - ε is missing."""
    nfsd = gaussian_gradient(NFSD(), latents, timestep=timestep)
    sds = gaussian_gradient(SDS(guidance_scale=7.5), latents, timestep=timestep, negative="")
    noise = randn(latents.shape, Streams(1)["noise"])
    torch.testing.assert_close(nfsd, sds + level(timestep).sigma ** 2 * noise, rtol=1e-4, atol=1e-5)


def test_without_bad_images_it_is_csd(tiny_prior) -> None:
    """neg = ∅ leaves s δ_C; with s = 1 that is CSD of the same weight."""
    latents = randn((2, 8, 16, 16), Streams(0)["test"])
    gradients = []
    for method in (NFSD(guidance_scale=1.0, negative_prompt=""), CSD(weighting="sds")):
        step = viewed_step(tiny_prior, latents, Streams(1))
        step.text = type(step.text)(step.text.positive, step.text.null, step.text.null, step.text.plain)
        gradients.append(method.gradient(step))
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-6)


def test_an_empty_negative_is_the_runs(latents: Tensor) -> None:
    named, runs = (gaussian_gradient(NFSD(negative_prompt=p), latents, negative="n") for p in ("n", ""))
    assert torch.equal(named, runs)


@pytest.mark.parametrize(("timestep", "matters"), [(199, False), (200, True)])
def test_the_negative_prompt_acts_from_the_threshold_on(tiny_prior, timestep: int, matters: bool) -> None:
    latents = randn((2, 8, 16, 16), Streams(0)["test"])
    one, other = (
        NFSD(negative_prompt=words).gradient(viewed_step(tiny_prior, latents, Streams(1), timestep=timestep))
        for words in ("dull, blurry, noisy", "dark")
    )
    assert torch.equal(one, other) != matters


@pytest.mark.parametrize(("timestep", "forwards"), [(199, 2), (200, 3)])
def test_cost_is_three_forwards_and_two_below_the_threshold(tiny_prior, timestep: int, forwards: int) -> None:
    step = viewed_step(tiny_prior, torch.randn(3, 8, 16, 16), Streams(0), timestep=timestep)
    assert NFSD().gradient(step).shape == step.latents.shape
    counters = vars(step.counters)
    assert counters.pop("denoiser_forwards") == 3 * forwards
    assert set(counters.values()) == {0}


def test_the_embedded_world_knows_the_words_for_bad_images() -> None:
    assert set(NFSD().negative_prompt.split(", ")) <= WORDS
