"""How PSD scales its preference term: s(Δ), λ_t, and the fixed points that follow on the Gaussian prior."""

from __future__ import annotations

from math import pi, sqrt
from typing import Any

import pytest
import torch
from torch import Tensor
from toys import (
    DIRECTION,
    MEAN,
    STD,
    UNIT,
    LinearReward,
    assert_mean_is,
    gaussian_gradient,
    gaussian_prior,
    make_step,
    set_up,
)

from psdbench.methods.psd import PSD
from psdbench.methods.sds import SDS
from psdbench.streams import Streams


def test_scales_of_the_gap(latents: Tensor) -> None:
    """Each s(Δ), read off the size of the preference term; Δ itself from the linear scale with τ = 1."""
    base = gaussian_gradient(SDS(), latents)

    def term(**kwargs: Any) -> Tensor:
        return gaussian_gradient(PSD(**kwargs), latents, reward=LinearReward()) - base

    one, gap = term(scale="one"), term(scale="linear", temperature=1.0)
    delta = (gap / one).mean().item()
    assert delta > 0
    close = {"rtol": 1e-3, "atol": 1e-4}
    torch.testing.assert_close(gap, delta * one, **close)
    torch.testing.assert_close(term(scale="linear", temperature=0.5), 2 * gap, **close)
    torch.testing.assert_close(term(scale="ema"), one, **close)  # the first gap is the mean
    torch.testing.assert_close(term(scale="ema", max_gap=0.25), 0.25 * one, **close)
    sigmoid = 1 / (1 + torch.tensor(delta / 0.3).exp())
    torch.testing.assert_close(term(scale="bt", temperature=0.3), sigmoid * one, **close)
    torch.testing.assert_close(term(scale="gate", temperature=delta * 0.99), one, **close)
    assert not term(scale="gate", temperature=delta * 1.01).any()


def test_ema_divides_by_the_running_mean_of_the_gaps(latents: Tensor) -> None:
    def run(method: PSD | SDS) -> list[Tensor]:
        prior, streams = gaussian_prior(), Streams(1)
        kwargs = {"reward": LinearReward(), "state": set_up(method, prior, streams)}
        return [method.gradient(make_step(prior, latents, streams, index=i, **kwargs)) for i in range(6)]

    base = run(SDS())
    one, linear, ema = (
        [g - b for g, b in zip(run(PSD(scale=s, temperature=1.0, max_gap=1e9)), base, strict=True)]
        for s in ("one", "linear", "ema")
    )
    gaps = [(a / b).mean() for a, b in zip(linear, one, strict=True)]
    for i in range(6):
        share = [0.1 * 0.9 ** (i - j) for j in range(i + 1)]
        mean = sum(s * g for s, g in zip(share, gaps[: i + 1], strict=True)) / sum(share)
        torch.testing.assert_close(ema[i], gaps[i] / mean * one[i], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("schedule", "progress", "timestep", "factor"),
    [
        ("const", 0.7, 450, 1.0),
        ("linear", 0.7, 450, 0.3),
        ("cosine", 0.5, 450, 0.5),
        ("cosine", 0.0, 450, 1.0),
        ("t_gate", 0.5, 450, 1.0),
        ("t_gate", 0.5, 550, 0.0),
    ],
)
def test_schedules_of_lambda(
    schedule: str, progress: float, timestep: int, factor: float, latents: Tensor
) -> None:
    kwargs = {"reward": LinearReward(), "progress": progress, "timestep": timestep}
    scheduled = gaussian_gradient(PSD(preference_schedule=schedule, preference_scale=2.0), latents, **kwargs)
    constant = gaussian_gradient(PSD(preference_scale=2.0 * factor), latents, **kwargs)
    torch.testing.assert_close(scheduled, constant, rtol=1e-4, atol=1e-4)


def fixed_point_shift(scale: str, preference: float, length: float) -> float:
    """How far along b/|b| the fixed point of the base is moved, for a reward of gradient length |b|."""
    prior = gaussian_prior()
    alpha, sigma = (x.item() for x in prior.alpha_sigma(torch.tensor([450])))
    variance = alpha**2 * STD**2 + sigma**2
    return {
        "one": preference * alpha * STD**2 / sigma * 2 / sqrt(pi),
        "linear": 2 * preference * alpha**2 * STD**4 / variance * length,
        "ema": preference * sqrt(pi) * alpha * STD**2 / sigma,
    }[scale]


@pytest.mark.parametrize("length", [0.5, 2.0])
@pytest.mark.parametrize("scale", ["one", "linear", "ema"])
def test_fixed_point(scale: str, length: float) -> None:
    """With 1 as temperature and no bound on the gap; `one` and `ema` do not depend on the reward's units."""
    pairs, preference = 60_000, 0.7
    psd = PSD(
        guidance_scale=1.0,
        scale=scale,
        preference_scale=preference,
        per_view=True,
        temperature=1.0,
        max_gap=1e9,
    )
    reward = LinearReward(DIRECTION / DIRECTION.norm() * length)
    shift = fixed_point_shift(scale, preference, length)
    latents = (MEAN + shift * UNIT).expand(pairs, -1, -1, -1)
    assert_mean_is(gaussian_gradient(psd, latents, reward=reward), 0.0)
    with pytest.raises(AssertionError, match="standard errors"):
        assert_mean_is(gaussian_gradient(psd, MEAN.expand(pairs, -1, -1, -1), reward=reward), 0.0)
