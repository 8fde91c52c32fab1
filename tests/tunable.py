"""The closed-form test bed for finetuning: a Gaussian prior whose mean can be trained, and scorers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from toys import DIRECTION, MEAN, STD, LinearReward

from psdbench.cameras import Cameras
from psdbench.finetune.algorithm import Algorithm, Tuner
from psdbench.guidance.state import SideOptimizer
from psdbench.priors.gaussian import GaussianPrior
from psdbench.streams import Streams


class TunableGaussian(GaussianPrior):
    """N(μ + shift, s²): the shift, [3, 1, 1] and zero at first, is what a LoRA is on a UNet."""

    def __init__(self) -> None:
        super().__init__({"y": MEAN, "": MEAN}, STD)
        self.shift = torch.zeros(3, 1, 1, requires_grad=True)
        self.parameters = {"shift": self.shift}
        self._on = True

    def predict_noise(
        self, x_t: Tensor, t: Tensor, text: Tensor, cameras: Cameras | None = None, *, grad: bool = False
    ) -> Tensor:
        with torch.set_grad_enabled(grad):
            moved = text + self.shift.flatten() if self._on else text
        return super().predict_noise(x_t, t, moved, cameras, grad=grad)

    @contextmanager
    def off(self) -> Iterator[None]:
        self._on = False
        try:
            yield
        finally:
            self._on = True


class ConstantReward(LinearReward):
    """The same for every image, though a function of it."""

    def score(self, images: Tensor, prompts: Sequence[str], cameras: Cameras | None = None) -> Tensor:
        return super().score(images, prompts, cameras) * 0 + 0.1


def gaussian_tuner(algorithm: Algorithm, reward: LinearReward | None = None, seed: int = 1) -> Tuner:
    """A tuner on a fresh Gaussian prior with a linear reward."""
    prior = TunableGaussian()
    optimizer = SideOptimizer(prior.parameters, algorithm.learning_rate, weight_decay=algorithm.weight_decay)
    return Tuner(prior, prior, reward or LinearReward(), ["y"], (3, 1, 1), Streams(seed), optimizer)


def tilted_mean(
    mean: Tensor = MEAN, std: float = STD, direction: Tensor = DIRECTION, beta: float = 1.0
) -> Tensor:
    """Mean of p·exp(r/β), the optimum of E[r] - β KL(· ‖ p), of p = N(μ, s²) and r(x) = b·x: μ + s² b/β.

    Its variance is that of p. `beta` is in units of the reward.
    """
    return mean + std**2 * direction.view(-1, 1, 1) / beta


def gradient_of(tuner: Tuner, loss: Tensor) -> Tensor:
    """∂loss/∂shift, [3]."""
    return torch.autograd.grad(loss, tuner.prior.shift)[0].flatten()


def kl_weight_of_dpo(tuner: Tuner, timestep: int) -> float:
    """KL weight of the tilt at Diffusion-DPO's optimum where β τ = 1, all its draws at one timestep from now on.

    The implicit reward of N(m, s²) is (β A²/D)(m - μ)·x with A = σα/v and D coordinates, so that Bradley-Terry
    labels of temperature τ are matched at m = μ + (D/(β A² τ)) b = μ + s² b / (s² β A² τ/D).
    """
    prior = tuner.prior
    prior.alphas, prior.sigmas, prior.num_timesteps = prior.alphas[[timestep]], prior.sigmas[[timestep]], 1
    alpha, sigma = (float(x) for x in prior.alpha_sigma(torch.tensor(0)))
    return STD**2 * (sigma * alpha / (alpha**2 * STD**2 + sigma**2)) ** 2 / MEAN.numel()
