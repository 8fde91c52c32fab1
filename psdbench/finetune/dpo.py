"""Diffusion-DPO (arXiv 2311.12908) on pairs that the prior samples and the reward ranks.

    x₀¹, x₀² ~ reference(y),     p = 1 where r(x₀¹) > r(x₀²), ½ where they tie, else 0
    m_i = mean ‖ε̂_θ(α x₀ⁱ + σ ε) - ε‖²,     one t and one ε for both
    z = -½ β [(m_1 - m_2) - (m_1^ref - m_2^ref)]
    L = -p log σ(z) - (1 - p) log σ(-z)

With p in {0, 1} this is the paper's loss, winner first. A temperature τ > 0 makes p = σ((r_1 - r_2)/τ), the
Bradley-Terry probability; then L has a finite optimum, where the implicit reward is r/τ: the prior tilted by
exp(r/·). The pair differs in the clean image and shares the noise; PSD's and DreamDPO's pairs are the mirror
image of that. Only the text branch is trained on, without guidance; the LoRA acts in both branches.
Cost per pair, n DDIM steps and d draws: 4n + 4d denoiser forwards, 2d backwards, 2 reward forwards.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from psdbench.finetune.algorithm import Algorithm, Batch, Tuner
from psdbench.priors import ddim


@dataclass(frozen=True, kw_only=True)
class DiffusionDPO(Algorithm):
    """Direct preference optimisation of the denoising errors."""

    name: ClassVar[str] = "dpo"
    paper: ClassVar[str] = "arXiv 2311.12908"

    steps: int = 150
    """optimisation steps; each draws new pairs. The paper: 2000 steps on a data set of people's choices"""
    learning_rate: float = 1e-3
    """of AdamW, constant; the paper's 1e-8 times the batch is for all weights, this is AlignProp's for a LoRA"""
    beta: float = 5000.0
    """β, strength of the pull to the reference, large because errors are means; the paper's value"""
    temperature: float = 0.0
    """τ of the Bradley-Terry probability, in units of the reward; 0 makes every choice certain, as the paper"""
    pairs: int = 4
    """pairs of a step; the paper uses 2048"""
    draws: int = 4
    """(t, ε) on each pair; the paper takes 1, but here sampling a pair is what costs"""

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.pairs, self.draws) < 1:
            raise ValueError("pairs and draws must be at least 1")
        if self.beta <= 0 or self.temperature < 0:
            raise ValueError("beta must be positive, temperature not negative")

    def step(self, tuner: Tuner) -> tuple[float, float]:
        batch = tuner.draw(self.pairs, repeats=2)
        path = ddim.moves(tuner.prior, self.sampling_steps)
        with tuner.adapter.off():
            x0 = ddim.walk(tuner.prior, tuner.noise(len(batch)), batch.text, path, self.guidance_scale)
        rewards = tuner.rewards(x0, batch)
        loss = self.loss(tuner, batch, x0, self.preference(rewards))
        return tuner.descend([loss]), float(rewards.mean())

    def preference(self, rewards: Tensor) -> Tensor:
        """p [N], the probability that the first of each pair is preferred, of rewards [2N]."""
        gap = torch.sub(*rewards.view(-1, 2).unbind(1))
        return torch.sigmoid(gap / self.temperature) if self.temperature else (1 + gap.sign()) / 2

    def loss(self, tuner: Tuner, batch: Batch, x0: Tensor, preference: Tensor) -> Tensor:
        """L of pairs x0 [2N, C, h, w], one after the other, under fresh t and ε."""
        n = len(preference) * self.draws
        steps, generator = tuner.prior.num_timesteps, tuner.streams["timesteps"]
        t = torch.randint(steps, (n,), generator=generator).to(x0.device).repeat_interleave(2)
        noise = tuner.noise(n, "training_noise").repeat_interleave(2, dim=0)
        x_t = tuner.prior.add_noise(x0.repeat(self.draws, 1, 1, 1), noise, t)
        text = batch.text[1].repeat(self.draws, 1, 1)

        def errors(grad: bool) -> Tensor:
            """m_1 - m_2, [n]."""
            eps = tuner.prior.predict_noise(x_t, t, text, grad=grad)
            return torch.sub(*(eps - noise).square().flatten(1).mean(1).view(-1, 2).unbind(1))

        with tuner.adapter.off():
            reference = errors(grad=False)
        z = -0.5 * self.beta * (errors(grad=True) - reference)
        return functional.binary_cross_entropy_with_logits(z, preference.repeat(self.draws))
