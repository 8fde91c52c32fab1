"""What an algorithm is, and all that it may see while it trains: the `Tuner`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol

import torch
from torch import Tensor

from psdbench.camera_config import CameraConfig
from psdbench.cameras import Cameras, sample_cameras
from psdbench.errors import UsageError
from psdbench.guidance.state import SideOptimizer
from psdbench.streams import Streams, randn

if TYPE_CHECKING:
    from psdbench.priors import Prior
    from psdbench.scorers import Scorer


class Adapter(Protocol):
    """What is trained of a prior; at its start the prior computes the same as without it."""

    @property
    def parameters(self) -> Mapping[str, Tensor]:
        """The trained tensors by name."""

    def off(self) -> AbstractContextManager[None]:
        """Within the block the prior is the frozen reference."""


@dataclass(frozen=True)
class Batch:
    """B captions with the view each is asked for, as distillation will ask: ``a red cube, back view``."""

    captions: list[str]
    """without view words"""
    prompts: list[str]
    """with view words"""
    cameras: Cameras
    text: Tensor
    """[2, B, L, D]: the embeddings of the empty prompt and of the prompts"""

    def __len__(self) -> int:
        return len(self.captions)


@dataclass
class Tuner:
    """A prior with an adapter in training, the reward, captions, and named random streams."""

    prior: Prior
    adapter: Adapter
    reward: Scorer
    captions: Sequence[str]
    latent_shape: Sequence[int]
    """[C, h, w] of one sample"""
    streams: Streams
    optimizer: SideOptimizer
    seconds: float = 0.0
    """spent in steps so far"""

    def draw(self, count: int, repeats: int = 1) -> Batch:
        """`count` random captions from random cameras, each `repeats` times in a row."""
        rows = torch.randint(len(self.captions), (count,), generator=self.streams["captions"])
        config = CameraConfig()
        cameras = sample_cameras(self.streams["cameras"], count, config)
        return make_batch(self.prior, [self.captions[i] for i in rows], cameras, config, repeats)

    def noise(self, count: int, stream: str = "noise") -> Tensor:
        """Standard normal latents [count, C, h, w] from a named stream."""
        return randn((count, *self.latent_shape), self.streams[stream], self.prior.device)

    def rewards(self, latents: Tensor, batch: Batch, *, grad: bool = False) -> Tensor:
        """Rewards [B] of clean latents, decoded; higher is better, no graph unless asked.

        Raises UsageError when a gradient is asked of a reward that has none.
        """
        if grad and not self.reward.differentiable:
            raise UsageError(
                f"reward '{self.reward.id}' has no gradient",
                "choose another reward, or an algorithm that needs none: --algorithm dpo or ddpo",
            )
        prompts = batch.prompts if self.reward.view_words else batch.captions
        with torch.set_grad_enabled(grad):
            scores = self.reward.score(self.prior.decode(latents), prompts, batch.cameras).float()
        self.prior.counters.add("reward_forwards", len(batch))
        if scores.requires_grad:
            scores.register_hook(lambda _: self.prior.counters.add("reward_backwards", len(batch)))
        return scores if self.reward.higher_is_better else -scores

    def descend(self, losses: Iterable[Tensor]) -> float:
        """One optimizer step on the sum of losses; each one's graph is freed before the next is made."""
        leaves = list(self.adapter.parameters.values())
        total, sums = 0.0, [torch.zeros_like(leaf) for leaf in leaves]
        for loss in losses:
            for accumulated, gradient in zip(sums, torch.autograd.grad(loss, leaves), strict=True):
                accumulated += gradient
            total += float(loss.detach())
        # The gradient of these products is the accumulated one: the optimizer takes a loss.
        self.optimizer.step(torch.stack([(p * g).sum() for p, g in zip(leaves, sums, strict=True)]).sum())
        return total


def make_batch(
    prior: Prior, captions: Sequence[str], cameras: Cameras, config: CameraConfig, repeats: int = 1
) -> Batch:
    """The batch of captions, each seen by its camera and repeated in a row."""
    rows = [row for row in range(len(captions)) for _ in range(repeats)]
    words = cameras.view_words(config.named_azimuths)
    prompts = [f"{captions[row]}, {words[row]}" for row in rows]
    text = torch.stack([prior.encode_text([""] * len(rows)), prior.encode_text(prompts)])
    seen = cameras[torch.tensor(rows)].to(prior.device)
    return Batch([captions[row] for row in rows], prompts, seen, text)


@dataclass(frozen=True, kw_only=True)
class Algorithm(ABC):
    """How a LoRA is trained on a reward: a frozen dataclass of hyper-parameters and one step.

    An algorithm never saves, logs or picks its captions. Defaults are sized for the embedded world on two
    CPU cores, less than ten minutes; where a source is named and the value differs, that is why.
    """

    name: ClassVar[str]
    paper: ClassVar[str]
    needs_gradient: ClassVar[bool] = False
    """whether the reward must be differentiable"""

    steps: int
    """optimisation steps; each draws new samples"""
    learning_rate: float
    """of AdamW, constant"""
    weight_decay: float = 1e-4
    """of AdamW; the value of ddpo-pytorch and AlignProp"""
    lora_rank: int = 4
    """rank of the LoRA, its alpha alike; diffusers' default at the papers' time"""
    sampling_steps: int = 10
    """DDIM evaluations of a sample; the papers use 50"""
    guidance_scale: float = 5.0
    """ω of classifier-free guidance on samples; the value of ddpo-pytorch and AlignProp"""

    def __post_init__(self) -> None:
        for field in ("steps", "lora_rank", "sampling_steps"):
            if getattr(self, field) < 1:
                raise ValueError(f"{field} must be at least 1")
        if self.learning_rate <= 0:
            raise ValueError("learning_rate must be positive")

    @abstractmethod
    def step(self, tuner: Tuner) -> tuple[float, float]:
        """Sample, score, descend; returns the loss and the mean reward of the samples."""
