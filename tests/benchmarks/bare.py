"""The floor of a step: what it must ask of models, each call alone with the same batch, and nothing around it.

The renderer forth and back, the encoder forth and back, the denoiser, and what the method needs beside: decoder and
reward of PSD, VSD's adapter forth, and its training step. Each has inputs that are ready, on networks as they were
loaded: the denoiser without an adapter in its layers where the prior is meant.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from measuring import Call
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from psdbench.cameras import sample_cameras
from psdbench.optimizer.loop import Optimisation
from psdbench.ramps import side

NOISES = {"sds": 1, "psd": 2, "vsd": 1}
"""that a method draws on each render"""


class Bare:
    """The bare calls of one step of a run; `denoiser` is its UNet before any adapter."""

    def __init__(self, run: Optimisation, denoiser: nn.Module) -> None:
        self.run, self.denoiser, self.prior = run, denoiser, run.prior
        config, device = run.spec.protocol.optimize, run.prior.device
        self.views, self.size = config.views, config.size
        self.side = side(config.size_schedule, config.size, 0.0)
        self.generator = torch.Generator().manual_seed(0)
        self.cameras = sample_cameras(
            self.generator, self.views, run.spec.protocol.cameras, run.prior.views
        ).to(device)
        self.asset = copy.deepcopy(run.particles[0].asset)
        groups = [{**group, "lr": 0.0} for group in self.asset.parameter_groups(config)]
        self.adam = torch.optim.Adam(groups, fused=True)
        self.latent = self.prior.latent_channels, *[self.size // self.prior.latent_scale] * 2

    def calls(self) -> list[Call]:
        """In the order of a step."""
        views, noises = self.views, NOISES[self.run.spec.method]
        calls = [
            Call("render", self._render()),
            Call("encode", self._encode(), {"encodes": views}),
            Call("denoise", self._denoise(2 * noises * views), {"denoiser_forwards": 2 * noises * views}),
        ]
        if self.run.spec.method == "psd":
            calls += self._ranking(noises * views)
        if self.run.spec.method == "vsd":
            calls += self._adapter()
        return [*calls, Call("adam", self.adam.step)]

    def _random(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.randn(shape, generator=self.generator).to(self.prior.device, dtype)

    def _render(self) -> Callable[[], None]:
        white = torch.ones(3, device=self.prior.device)
        gradient = self._random(self.views, 3, self.size, self.size)

        def call() -> None:
            self.asset.zero_grad()
            self.asset.render(self.cameras, self.side, white).picture(self.size).backward(gradient)

        return call

    def _encode(self) -> Callable[[], object]:
        dtype, vae = self.prior.dtype, self.prior.vae
        images = torch.rand(self.views, 3, self.size, self.size, generator=self.generator)
        images = (images * 2 - 1).to(self.prior.device, dtype).requires_grad_()
        gradient = self._random(self.views, *self.latent, dtype=dtype)

        def call() -> object:
            encoded = vae.encode(images)
            latents = encoded.latent_dist.mode() if hasattr(encoded, "latent_dist") else encoded.latents
            return torch.autograd.grad(latents, images, gradient)

        return call

    def _inputs(self, count: int) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
        """Noisy latents, timesteps, text and, where the denoiser wants them, poses of so many images."""
        prior, repeats = self.prior, count // self.views
        text = prior.encode_text(["a red cube, front view"] * count).to(prior.dtype)
        x_t = self._random(count, *self.latent, dtype=prior.dtype)
        poses = self.cameras.extrinsics().to(prior.dtype).repeat(repeats, 1)
        extra = {"class_labels": poses} if prior.views > 1 else {}
        return (x_t, torch.full((count,), 500, device=prior.device), text), extra

    def _denoise(self, count: int) -> Callable[[], object]:
        arguments, extra = self._inputs(count)
        return torch.no_grad()(lambda: self.denoiser(*arguments, **extra))

    def _ranking(self, count: int) -> list[Call]:
        prior, reward = self.prior, self.run.reward
        assert reward is not None
        latents = self._random(count, *self.latent, dtype=prior.dtype)
        images = torch.rand(count, 3, self.size, self.size, generator=self.generator).to(prior.device)
        prompts = ["a red cube, front view"] * count
        decode = torch.no_grad()(lambda: prior.vae.decode(latents))
        score = torch.no_grad()(lambda: reward.score(images, prompts))
        return [
            Call("decode", decode, {"decodes": count}),
            Call("reward", score, {"reward_forwards": count}),
        ]

    def _adapter(self) -> list[Call]:
        """VSD's learned score: its prediction and its training step."""
        score: Any = self.run.method_state.score
        unet, views = self.prior.unet, self.views
        arguments, extra = self._inputs(views)
        noise, condition = self._random(views, *self.latent), self.cameras.extrinsics()
        leaves = list(score._optimizer.parameters.values())
        adam = torch.optim.AdamW(leaves, lr=0.0)

        def train() -> None:
            loss = mse_loss(unet(*arguments, **extra).sample.float(), noise)
            for leaf, gradient in zip(leaves, torch.autograd.grad(loss, leaves), strict=True):
                leaf.grad = gradient
            adam.step()

        predict = torch.no_grad()(lambda: unet(*arguments, **extra))
        active = lambda: score._active(condition)  # noqa: E731
        return [
            Call("adapter", predict, {"denoiser_forwards": views}, active),
            Call("train", train, {"denoiser_forwards": views, "denoiser_backwards": views}, active),
        ]
