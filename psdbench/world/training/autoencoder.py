"""The latent space of the embedded prior: diffusers' AutoencoderTiny, 64 px → 8 × 16 × 16."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from psdbench.world.training.loop import Recipe, fit
from psdbench.world.training.pool import Pool

RECIPE = Recipe(steps=2400, batch=16, learning_rate=2e-3, ema=0.995)
DECODER_RECIPE = Recipe(steps=500, batch=16, learning_rate=6e-4, ema=0.99)
LATENT_NOISE = 0.05
"""standard deviation of the noise the decoder must bear, in units of the latents' own deviation"""


def build() -> Any:
    """An untrained autoencoder with downsampling factor 4 and 8 latent channels."""
    from diffusers import AutoencoderTiny

    return AutoencoderTiny(
        encoder_block_out_channels=(48, 48, 48),
        decoder_block_out_channels=(48, 48, 48),
        num_encoder_blocks=(1, 2, 2),
        num_decoder_blocks=(2, 2, 1),
        latent_channels=8,
        upsampling_scaling_factor=2,
        scaling_factor=1.0,
    )


def reconstruction_loss(images: Tensor, decoded: Tensor) -> Tensor:
    """L1 + 4·L2 + 0.5·gradient, object pixels counted four times; images [B, 3, H, W] in [-1, 1]."""
    border = torch.cat([images[..., 0, :], images[..., -1, :]], -1).median(-1).values[..., None, None]
    weight = 1 + 3 * ((images - border).abs().amax(1, keepdim=True) > 0.12).float()
    error = decoded - images
    slope = sum(torch.diff(error, dim=d).abs().mean() for d in (-1, -2))
    return (weight * (error.abs() + 4 * error.square())).mean() / 2 + 0.5 * slope


def train(work: Path, seed: int, device: str = "cpu") -> torch.nn.Module:
    """Train both halves, standardise the latents per channel, and refit the decoder to them."""
    torch.manual_seed(seed)
    pool = Pool.load(work)
    model = build().to(device)

    def loss(step: int, generator: torch.Generator) -> Tensor:
        images = _pictures(pool, RECIPE.batch, generator, device)
        latents = model.encode(images).latents
        noise = torch.randn(latents.shape, generator=generator).to(device) * LATENT_NOISE
        return (
            reconstruction_loss(images, model.decode(latents + noise).sample) + 1e-3 * latents.square().mean()
        )

    model = fit("autoencoder", model, loss, RECIPE, work, seed, device)
    _standardise(model, pool.sample(2048, seed).to(device) * 2 - 1)
    for parameter in model.decoder.parameters():
        parameter.requires_grad_(True)

    def decoder_loss(step: int, generator: torch.Generator) -> Tensor:
        images = _pictures(pool, DECODER_RECIPE.batch, generator, device)
        with torch.no_grad():
            latents = model.encode(images).latents
        noise = torch.randn(latents.shape, generator=generator).to(device) * LATENT_NOISE
        return reconstruction_loss(images, model.decode(latents + noise).sample)

    return fit("decoder", model, decoder_loss, DECODER_RECIPE, work, seed + 1, device)


def _pictures(pool: Pool, batch: int, generator: torch.Generator, device: str) -> Tensor:
    """Training pictures in [-1, 1]: mostly 32-px crops, four times cheaper than whole pictures."""
    images = pool.images(batch, generator, device) * 2 - 1
    if torch.rand((), generator=generator) < 0.25:
        return images
    top, left = torch.randint(0, images.shape[-1] - 32 + 1, (2,), generator=generator).tolist()
    return images[..., top : top + 32, left : left + 32]


@torch.no_grad()
def _standardise(model: Any, images: Tensor) -> None:
    """Fold zero mean and unit variance per latent channel into the encoder's last convolution.

    Off-centre latents gave the prototype grey backgrounds. The decoder squashes its input by a tanh, so the
    inverse cannot be folded into it exactly: it is refitted instead.
    """
    latents = torch.cat([model.encode(part).latents for part in images.split(256)])
    mean, deviation = latents.mean((0, 2, 3)), latents.std((0, 2, 3))
    last: Any = [m for m in model.encoder.modules() if isinstance(m, torch.nn.Conv2d)][-1]
    last.weight.div_(deviation[:, None, None, None])
    last.bias.sub_(mean).div_(deviation)


def psnr(images: Tensor, decoded: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB per image, images in [0, 1]."""
    return -10 * F.mse_loss(decoded.clamp(0, 1), images, reduction="none").mean((1, 2, 3)).log10()
