"""Sheets of pictures from the world, as PNG."""

from __future__ import annotations

import random
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from psdbench.store import atomic
from psdbench.world import weights_folder
from psdbench.world.data import draw_samples, draw_scene
from psdbench.world.grammar import check, describe
from psdbench.world.sampling import ddim_sample


def save_sheet(images: Tensor, path: Path, columns: int = 10, zoom: int = 2) -> None:
    """Write pictures [N, 3, H, W] in [0, 1] as a grid, each enlarged `zoom` times."""
    count, _, height, width = images.shape
    rows = -(-count // columns)
    padded = torch.cat([images, torch.ones(rows * columns - count, 3, height, width)])
    grid = padded.view(rows, columns, 3, height, width).permute(0, 3, 1, 4, 2)
    pixels = (grid.reshape(rows * height, columns * width, 3) * 255).round().byte().numpy()
    picture = Image.fromarray(pixels).resize(
        (columns * width * zoom, rows * height * zoom), Image.Resampling.LANCZOS
    )
    atomic.write_with(path, picture.save)


def data_sheet(path: Path, count: int, seed: int) -> list[str]:
    """A sheet of training pictures; returns their captions."""
    samples = draw_samples(count, seed)
    save_sheet(samples.images.float() / 255, path)
    return samples.captions


def prior_sheet(path: Path, prompts: list[str], count: int, guidance_scale: float, seed: int) -> list[str]:
    """A sheet of samples of the embedded prior for `prompts`, or for held-out captions; returns the captions."""
    from psdbench.priors.diffusers import DiffusersPrior

    for prompt in prompts:
        check(prompt)
    rng = random.Random(seed)
    captions = [
        prompts[i % len(prompts)] if prompts else describe(draw_scene(rng, from_held_out=True), _view(rng))
        for i in range(count)
    ]
    prior = DiffusersPrior.load(weights_folder() / "prior")
    generator = torch.Generator().manual_seed(seed)
    parts = [captions[i : i + 50] for i in range(0, count, 50)]
    save_sheet(torch.cat([ddim_sample(prior, p, generator, guidance_scale) for p in parts]), path)
    return captions


def _view(rng: random.Random) -> str:
    return rng.choice(("front view", "side view", "back view", "overhead view"))
