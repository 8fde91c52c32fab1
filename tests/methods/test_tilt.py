"""Different ways to one target: the reward-tilted prior p·exp(r/β).

Of a Gaussian prior N(μ, s²) and a linear reward b·x it is N(μ + s²b/β, s²), and its mean is what distilling
from it would end at. Methods that shift a residual by the rewards of noisy images see the tilt through the
denoiser: at timestep t they end at the share α²s²/v_t of it, which is 1 as t → 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor
from toys import (
    DIRECTION,
    MEAN,
    STD,
    LinearReward,
    assert_mean_is,
    gaussian_gradient,
    gaussian_prior,
    make_step,
)
from tunable import gaussian_tuner, gradient_of, kl_weight_of_dpo

from psdbench.finetune.dpo import DiffusionDPO
from psdbench.guidance import Method
from psdbench.methods.psd import PSD
from psdbench.methods.rewardsds import RewardSDS
from psdbench.methods.sds import SDS
from psdbench.priors.gaussian import GaussianPrior
from psdbench.streams import Streams, randn

BETA = 0.5
TILT = (STD**2 / BETA * DIRECTION).view(3, 1, 1)


@dataclass(frozen=True)
class Way:
    """A method that leads to the tilted prior's mean, asked on so many independent renders."""

    method: Method
    renders: int

    def fixed_point(self, timestep: int) -> tuple[Tensor, Tensor]:
        """Where the mean gradient vanishes, and its standard error, [3, 1, 1] each.

        The mean gradient is linear in the render with the slope wσα/v_t of SDS, so one Newton step from any
        place leads there.
        """
        signal, _ = attenuation(timestep)
        alpha, sigma = signal
        slope = sigma**2 * sigma * alpha / (alpha**2 * STD**2 + sigma**2)
        start = MEAN.expand(self.renders, -1, -1, -1)
        ends = start - gaussian_gradient(self.method, start, reward=LinearReward(), timestep=timestep) / slope
        return ends.mean(0), ends.std(0) / self.renders**0.5


def attenuation(timestep: int) -> tuple[tuple[float, float], float]:
    """α and σ, and the share α²s²/v_t of a tilt that is seen through the denoiser."""
    alpha, sigma = (x.item() for x in gaussian_prior().alpha_sigma(torch.tensor([timestep])))
    return (alpha, sigma), alpha**2 * STD**2 / (alpha**2 * STD**2 + sigma**2)


WAYS = {
    "many noises, softmax of temperature β": Way(
        RewardSDS(
            guidance_scale=1.0,
            noises=256,
            rule="softmax",
            temperature=BETA,
            normalise=False,
            per_view=True,
        ),
        renders=600,
    ),
    "pairs, scaled by their gap over 2β": Way(
        PSD(guidance_scale=1.0, scale="linear", temperature=2 * BETA, per_view=True), renders=100_000
    ),
}


@pytest.mark.parametrize("timestep", [20, 200, 450])
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())
def test_fixed_point_is_the_mean_of_the_tilted_prior_seen_through_the_denoiser(
    way: Way, timestep: int
) -> None:
    found, error = way.fixed_point(timestep)
    _, share = attenuation(timestep)
    assert ((found - MEAN - share * TILT).abs() < 5 * error).all()
    assert (found - MEAN).norm() > 10 * error.norm(), "the prior's own mean is well told apart"


def test_share_of_the_tilt_that_is_seen_goes_to_one_with_the_noise() -> None:
    shares = [attenuation(t)[1] for t in (700, 450, 200, 20, 0)]
    assert shares == sorted(shares)
    assert shares[0] < 0.2
    assert shares[-1] == pytest.approx(1, abs=2e-3)


@pytest.mark.parametrize("timestep", [20, 200, 450])
def test_a_prior_finetuned_by_dpo_is_tilted_as_a_whole_and_sds_on_it_sees_all_of_the_tilt(
    timestep: int,
) -> None:
    """The way that changes the prior: no share is lost to the denoiser, at any timestep."""
    one = kl_weight_of_dpo(gaussian_tuner(DiffusionDPO()), timestep)
    algorithm = DiffusionDPO(beta=BETA / one, temperature=1.0, draws=1)
    tuner = gaussian_tuner(algorithm)
    kl_weight_of_dpo(tuner, timestep)
    batch, x0 = tuner.draw(4, repeats=2), MEAN + STD * randn((8, 3, 1, 1), Streams(5)["pairs"])
    preference = algorithm.preference(tuner.rewards(x0, batch))
    before = gradient_of(tuner, algorithm.loss(tuner, batch, x0, preference))
    with torch.no_grad():
        tuner.prior.shift.copy_(TILT)
    after = gradient_of(tuner, algorithm.loss(tuner, batch, x0, preference))
    assert after.norm() < 1e-4 * before.norm(), "the tilted prior is the optimum, pair by pair"

    tuned = GaussianPrior({"y": MEAN + TILT, "n": MEAN + TILT, "": MEAN + TILT}, STD)
    renders = (MEAN + TILT).expand(20_000, -1, -1, -1)
    assert_mean_is(SDS().gradient(make_step(tuned, renders, Streams(1), timestep=timestep)), 0.0)
