"""Training of the independent judge, with pictures of things that are *not* the named shape among its material."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from psdbench.world.judge import Judge
from psdbench.world.renderer import gaussian_blur
from psdbench.world.training.labels import attribute_errors, attribute_table
from psdbench.world.training.loop import Recipe, fit
from psdbench.world.training.pool import Pool

RECIPE = Recipe(steps=1000, batch=40, learning_rate=2e-3, weight_decay=0.02, warmup=50, ema=0.99)
SPOILED_SHARE = 0.15


def train(work: Path, seed: int, device: str = "cpu") -> nn.Module:
    """Train the judge on the pool; a share of the pictures is spoiled and labelled "no shape"."""
    torch.manual_seed(seed)
    pool = Pool.load(work)
    classes = attribute_table(pool.captions, pool.cameras)
    model = Judge().to(device)

    def loss(step: int, generator: torch.Generator) -> Tensor:
        rows = pool.indices(RECIPE.batch, generator)
        images, target = pool.pixels[rows].to(device).float() / 255, classes[rows].clone()
        spoiled = torch.rand(len(rows), generator=generator) < SPOILED_SHARE
        spoiled &= target[:, 0] != 1  # a rounded sphere is a sphere
        if spoiled.any():
            images[spoiled] = spoil(images[spoiled], generator)
            target[spoiled, 0] = 4
        return attribute_errors(model(images), target.to(device)).sum()

    return fit("judge", model, loss, RECIPE, work, seed, device)


def spoil(images: Tensor, generator: torch.Generator) -> Tensor:
    """Make shapes unrecognisable as themselves: corners rounded off, or dissolved into fog."""
    border = torch.cat([images[..., 0, :], images[..., -1, :]], -1).median(-1).values[..., None, None]
    if torch.rand((), generator=generator) < 0.4:
        return gaussian_blur(images, 4.0 + 2 * float(torch.rand((), generator=generator)))
    inside = ((images - border).abs().amax(1, keepdim=True) > 0.12).float()
    sigma = 6.0 + 3 * float(torch.rand((), generator=generator))
    soft = gaussian_blur(inside, sigma)
    colour = gaussian_blur(images * inside, sigma) / soft.clamp(min=1e-3)
    edge = torch.sigmoid((soft - 0.5) * 14)
    return colour * edge + border * (1 - edge)
