"""Priors: frozen text-to-image diffusion models behind one contract.

Images are [B, 3, H, W] in [0, 1]; latents are what the denoiser works on; timesteps are int64 in
[0, num_timesteps). Whatever a checkpoint predicts, `predict_noise` returns ε̂.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol, TypeAlias

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from psdbench.cameras import Cameras
    from psdbench.counters import Counters
    from psdbench.streams import Streams


PullBack: TypeAlias = "Callable[[Tensor], Tensor]"
"""the gradient on the images of the one on their latents; to be called once"""


class TunableScore(Protocol):
    """A noise prediction that can be trained on the renders: VSD's q, which starts out equal to the prior."""

    def predict_noise(self, x_t: Tensor, t: Tensor, text: Tensor, condition: Tensor) -> Tensor:
        """ε̂ of q, without a graph; `condition` [B, 16] holds camera extrinsics, zeros for unknown."""

    def update(self, latents: Tensor, t: Tensor, noise: Tensor, text: Tensor, condition: Tensor) -> Tensor:
        """One training step on clean latents noised to t; returns the loss, a scalar without a graph."""

    def state_dict(self) -> dict[str, Tensor]:
        """All that the next `update` depends on, as flat tensors."""

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take over a stored state; raises CorruptResult when it does not fit."""

    def close(self) -> None:
        """Leave the prior as it was before."""


class Prior(Protocol):
    """A frozen text-to-image diffusion model."""

    name: str
    num_timesteps: int
    alphas: Tensor
    """α_t, [num_timesteps]: the share of the clean image in x_t"""
    sigmas: Tensor
    """σ_t, [num_timesteps]: the size of the noise in x_t; any pair of schedules, α² + σ² may differ from 1"""
    views: int
    """images denoised together: 1, or the size of the sets of views that follow one another in a batch"""
    latent_channels: int
    latent_scale: int
    """pixels per latent, along one side"""
    device: torch.device
    away: float
    """seconds since its making in which it has worked for other jobs"""
    counters: Counters
    """where forward and backward passes are counted, per image"""

    @property
    def weights(self) -> dict[str, str]:
        """sha256 of every file the prior was read from, by its path in the folder."""

    def encode_text(self, prompts: Sequence[str]) -> Tensor:
        """Text embeddings [B, L, D], cached, without a graph. The empty string is the null prompt."""

    def encode(self, images: Tensor) -> Tensor:
        """Images to latents [B, C, H/scale, W/scale]; differentiable."""

    def encode_for_gradient(self, images: Tensor) -> tuple[Tensor, PullBack]:
        """`encode` without a graph to the images, and what takes a gradient on the latents back to them."""

    def decode(self, latents: Tensor) -> Tensor:
        """Latents to images, clamped to [0, 1]; differentiable."""

    def predict_noise(
        self, x_t: Tensor, t: Tensor, text: Tensor, cameras: Cameras | None = None, *, grad: bool = False
    ) -> Tensor:
        """ε̂(x_t; text), float32, t [B]; a prior without camera condition ignores `cameras`.

        Where `views` is not 1, B is a multiple of it. No graph is kept unless `grad` asks for one.
        """

    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """α_t and σ_t of any shape of t, with three dimensions of 1 appended."""

    def add_noise(self, x: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """x_t = α x + σ ε."""

    def predict_x0(self, x_t: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """x̂0 = (x_t - σ ε̂) / α."""

    def save_memory(self, at_once: int = 0, recompute: bool = False) -> None:
        """From now on let denoiser and decoder take so many images at a time (0: all of a call), and keep no
        activations for a backward pass that can be computed again; results change by rounding alone.
        """

    def tunable_score(self, rank: int, learning_rate: float, streams: Streams) -> TunableScore:
        """A trainable copy of this prior's score, sharing its weights."""
