"""The forward diffusion that all priors share."""

from __future__ import annotations

import pytest
import torch

from psdbench.errors import EnvironmentProblem
from psdbench.priors.diffusion import Diffusion, alphas_cumprod, noise_schedule

STABLE_DIFFUSION = {"beta_start": 0.00085, "beta_end": 0.012, "num_train_timesteps": 1000}


@pytest.mark.parametrize("kind", ["linear", "scaled_linear", "squaredcos_cap_v2"])
def test_schedules_are_those_of_diffusers(kind: str) -> None:
    from diffusers import DDPMScheduler

    config = {**STABLE_DIFFUSION, "beta_schedule": kind}
    torch.testing.assert_close(
        alphas_cumprod(config), DDPMScheduler(**config).alphas_cumprod, rtol=1e-5, atol=1e-7
    )


def test_defaults_are_those_of_diffusers() -> None:
    from diffusers import DDPMScheduler

    torch.testing.assert_close(alphas_cumprod({}), DDPMScheduler().alphas_cumprod, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    "config",
    [{"beta_schedule": "sigmoid"}, {"rescale_betas_zero_snr": True}, {"trained_betas": [0.1, 0.2]}],
)
def test_other_schedules_are_refused(config: dict) -> None:
    with pytest.raises(EnvironmentProblem, match="noise schedule"):
        alphas_cumprod(config)


def test_x0_inverts_noising_at_any_shape_of_t() -> None:
    diffusion = Diffusion(*noise_schedule(STABLE_DIFFUSION))
    x, noise = torch.randn(2, 2, 5, 3, 4, 4)
    t = torch.randint(1000, (2, 5))
    x_t = diffusion.add_noise(x, noise, t)
    torch.testing.assert_close(diffusion.predict_x0(x_t, noise, t), x, rtol=1e-3, atol=1e-3)
    row = diffusion.add_noise(x[1], noise[1], t[1])
    assert torch.equal(row, x_t[1])
    alpha, sigma = diffusion.alpha_sigma(t)
    torch.testing.assert_close(alpha**2 + sigma**2, torch.ones(2, 5, 1, 1, 1))


def test_v_prediction_becomes_noise() -> None:
    """v = α ε - σ x, hence ε = σ x_t + α v."""
    diffusion = Diffusion(*noise_schedule(STABLE_DIFFUSION))
    x, noise = torch.randn(2, 4, 3, 8, 8)
    t = torch.tensor([0, 10, 500, 999])
    alpha, sigma = diffusion.alpha_sigma(t)
    x_t = diffusion.add_noise(x, noise, t)
    v = alpha * noise - sigma * x
    torch.testing.assert_close(diffusion.epsilon("v_prediction", v, x_t, t), noise, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(diffusion.epsilon("sample", x, x_t, t), noise, rtol=1e-3, atol=1e-3)
    assert diffusion.epsilon("epsilon", noise, x_t, t) is noise
