"""CSD against its closed form, and as the difference of two SDS."""

from __future__ import annotations

import pytest
import torch
from gaussian_chain import level
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from toys import MEAN, MEAN_NEGATIVE, gaussian_gradient, gaussian_prior, make_step, viewed_step

from psdbench.errors import UsageError
from psdbench.methods.csd import CSD
from psdbench.methods.sds import SDS
from psdbench.streams import Streams, randn


@pytest.mark.parametrize("timestep", [50, 450, 900])
def test_gradient_is_the_closed_form_wherever_the_render_stands(latents: Tensor, timestep: int) -> None:
    """σα (ω₁ (μ_∅ - μ_y) - ω₂ (μ_∅ - μ_n))/v, with μ_∅ = 0: no noise in it and no fixed point."""
    csd = CSD(positive_scale=2.0, negative_scale_start=0.7, negative_scale=0.7)
    alpha, sigma, variance = level(timestep)
    expected = sigma * alpha * (2.0 * -MEAN - 0.7 * -MEAN_NEGATIVE) / variance
    for x in (latents, latents + 30):
        gradient = gaussian_gradient(csd, x, timestep=timestep)
        torch.testing.assert_close(gradient, expected.expand_as(x), rtol=1e-3, atol=1e-4)


@settings(max_examples=30)
@given(timestep=st.integers(20, 980), omega=st.floats(1.5, 100))
def test_it_is_what_guidance_adds_to_sds(timestep: int, omega: float) -> None:
    """(SDS_ω - SDS_1)/(ω - 1) for the same noise, when the negative prompt is the null prompt."""
    x = randn((2, 3, 1, 1), Streams(0)["test"])
    guided, plain = (
        gaussian_gradient(SDS(guidance_scale=w), x, timestep=timestep, negative="") for w in (omega, 1.0)
    )
    csd = gaussian_gradient(CSD(weighting="sds"), x, timestep=timestep)
    torch.testing.assert_close(csd, (guided - plain) / (omega - 1), rtol=1e-3, atol=1e-5)


def test_equal_scales_are_positive_against_negative(latents: Tensor) -> None:
    """ω₁ = ω₂: the null prompt drops out, as it does from SDS guided by the negative prompt."""
    guided, plain = (gaussian_gradient(SDS(guidance_scale=w), latents) for w in (2.0, 1.0))
    csd = CSD(weighting="sds", negative_scale_start=1.0, negative_scale=1.0)
    torch.testing.assert_close(gaussian_gradient(csd, latents), guided - plain, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("progress", "scale"), [(0.0, 0.0), (0.125, 0.25), (0.25, 0.5), (0.5, 1.0), (1.0, 1.0)]
)
def test_the_negative_prompt_is_annealed_in(latents: Tensor, progress: float, scale: float) -> None:
    """The paper's coarse stage: null against prompt becomes negative against prompt over half the run."""
    annealed = gaussian_gradient(CSD(negative_scale=1.0), latents, progress=progress)
    constant = gaussian_gradient(CSD(negative_scale_start=scale, negative_scale=scale), latents)
    torch.testing.assert_close(annealed, constant, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("negative_scale", "forwards"), [(0.0, 2), (1.0, 3)])
def test_cost_is_one_forward_per_prompt_in_use(tiny_prior, negative_scale: float, forwards: int) -> None:
    step = viewed_step(tiny_prior, torch.randn(3, 8, 16, 16), Streams(0), progress=0.5)
    gradient = CSD(negative_scale=negative_scale).gradient(step)
    assert gradient.shape == step.latents.shape
    assert not gradient.requires_grad
    counters = vars(step.counters)
    assert counters.pop("denoiser_forwards") == 3 * forwards
    assert set(counters.values()) == {0}


def test_an_empty_negative_prompt_has_no_effect(latents: Tensor) -> None:
    """Why the pure form is the default: the run's negative prompt is empty unless somebody writes one."""
    pure, with_negative = (
        CSD(negative_scale_start=scale, negative_scale=scale).gradient(
            make_step(gaussian_prior(), latents, Streams(1), negative="")
        )
        for scale in (0.0, 1.0)
    )
    assert torch.equal(pure, with_negative)


@pytest.mark.parametrize("share", [0.0, 1.5])
def test_an_annealing_outside_the_run_is_refused(share: float) -> None:
    with pytest.raises(UsageError, match="negative_anneal"):
        CSD(negative_anneal=share)
