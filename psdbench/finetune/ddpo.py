"""Denoising Diffusion Policy Optimisation, DDPO-IS (arXiv 2305.13301).

    sampling is a decision process: state x_t, action x_{t'} ~ π_θ(x_{t'} | x_t, y), DDIM with η = 1
    A_i = (r_i - mean r) / std r                   over the samples of one prompt
    ρ_it = π_θ(x_{t'} | x_t, y) / π_old(x_{t'} | x_t, y)
    L = -mean_it min(ρ A, clip(ρ, 1 - c, 1 + c) A)

The reward is asked for numbers alone, so any scorer serves. As in the authors' code, log π is the mean over the
latent's coordinates, which is the scale that their clip range belongs to. Their mean and deviation of a prompt
come from a buffer of its last 16 rewards; ours come from the step's own samples of that prompt and need no
memory. Cost per sample, n DDIM steps of which a share f is trained on, e inner epochs: 2n (1 + fe) denoiser
forwards, 2nfe backwards, 1 reward forward.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from psdbench.finetune.algorithm import Algorithm, Batch, Tuner
from psdbench.priors import ddim

TINY = 1e-8


@dataclass(frozen=True)
class Trajectories:
    """B sampled chains of n moves: states [n + 1, B, C, h, w] and log π_old of the moves [n, B]."""

    path: Sequence[ddim.Move]
    states: Tensor
    log_probs: Tensor


@dataclass(frozen=True, kw_only=True)
class DDPO(Algorithm):
    """Policy gradient on the sampling chain, importance-weighted and clipped."""

    name: ClassVar[str] = "ddpo"
    paper: ClassVar[str] = "arXiv 2305.13301"

    steps: int = 60
    """rounds of sampling, each followed by its inner epochs; the authors' code: 100"""
    learning_rate: float = 1e-3
    """of AdamW, constant; the authors' code: 3e-4, with far more updates"""
    prompts: int = 3
    """captions of a round"""
    samples: int = 4
    """samples of each caption, which its advantages are normalised over"""
    inner_epochs: int = 2
    """updates on one round's samples; at the first every ρ is 1. The authors' code: 1 epoch of several batches"""
    clip_range: float = 1e-4
    """c, on the ratio of the mean log-density; the authors' value"""
    advantage_max: float = 5.0
    """bound on |A|; the authors' value"""
    timestep_share: float = 0.5
    """f, share of the moves that an inner epoch trains on, drawn anew each time; the authors' code: 1"""

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.prompts, self.inner_epochs) < 1 or self.samples < 2:
            raise ValueError("prompts and inner_epochs must be at least 1, samples at least 2")
        if self.clip_range <= 0 or not 0 < self.timestep_share <= 1:
            raise ValueError("clip_range must be positive, timestep_share in (0, 1]")

    def step(self, tuner: Tuner) -> tuple[float, float]:
        batch = tuner.draw(self.prompts, self.samples)
        taken = self.sample(tuner, batch)
        rewards = tuner.rewards(taken.states[-1], batch)
        advantages = self.advantages(rewards)
        loss = 0.0
        for _ in range(self.inner_epochs):
            loss = tuner.descend(self.losses(tuner, batch, taken, advantages))
        return loss, float(rewards.mean())

    @torch.no_grad()
    def sample(self, tuner: Tuner, batch: Batch) -> Trajectories:
        """Chains under the present policy, with the log-densities of what was drawn."""
        path = ddim.moves(tuner.prior, self.sampling_steps)
        states, log_probs = [tuner.noise(len(batch))], []
        for move in path:
            mean, std = self._policy(tuner, batch, states[-1], move)
            states.append(mean + std * tuner.noise(len(batch), "actions"))
            log_probs.append(log_density(states[-1], mean, std))
        return Trajectories(path, torch.stack(states), torch.stack(log_probs))

    def advantages(self, rewards: Tensor) -> Tensor:
        """A [B] of rewards [B], normalised per caption; exactly 0 where all its samples score alike."""
        # In double precision the mean of equal float32 numbers is that number.
        groups = rewards.double().view(-1, self.samples)
        centred = groups - groups.mean(1, keepdim=True)
        scaled = centred / (groups.std(1, keepdim=True, correction=0) + TINY)
        return scaled.clamp(-self.advantage_max, self.advantage_max).flatten().to(rewards)

    def losses(self, tuner: Tuner, batch: Batch, taken: Trajectories, advantages: Tensor) -> Iterator[Tensor]:
        """The parts of L, one for each move trained on."""
        count = max(1, round(self.timestep_share * len(taken.path)))
        chosen = torch.randperm(len(taken.path), generator=tuner.streams["timesteps"])[:count]
        for i in chosen.tolist():
            ratio = self.ratio(tuner, batch, taken, i)
            clipped = ratio.clamp(1 - self.clip_range, 1 + self.clip_range)
            yield -torch.minimum(ratio * advantages, clipped * advantages).mean() / count

    def ratio(self, tuner: Tuner, batch: Batch, taken: Trajectories, i: int) -> Tensor:
        """ρ [B] of move i."""
        mean, std = self._policy(tuner, batch, taken.states[i], taken.path[i], grad=True)
        return (log_density(taken.states[i + 1], mean, std) - taken.log_probs[i]).exp()

    def _policy(
        self, tuner: Tuner, batch: Batch, x: Tensor, move: ddim.Move, grad: bool = False
    ) -> tuple[Tensor, Tensor]:
        return ddim.transition(tuner.prior, x, batch.text, move, self.guidance_scale, eta=1.0, grad=grad)


def log_density(x: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """log N(x; mean, std²) up to a constant, averaged over the coordinates, [B]."""
    return -((x - mean) / std).square().flatten(1).mean(1) / 2
