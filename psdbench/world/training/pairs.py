"""Material for the preference scorers: groups of pictures for one caption and camera, appraised by the formula.

A scorer must order what methods will show it, not only clean against degraded pictures: each group therefore holds
varied looks, the wrong object, distillation-like faults (fog, over-saturation, rounding, speckle) and one-step x̂0
predictions of the prior through the decoder.
"""

from __future__ import annotations

import random
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from psdbench.priors.diffusion import Diffusion, noise_schedule
from psdbench.world.data import draw_camera, draw_scene, stack_cameras, view_word
from psdbench.world.grammar import describe, parse
from psdbench.world.preference import appraise
from psdbench.world.renderer import apply_look, gaussian_blur, render
from psdbench.world.scenes import Look, Scene, sample_background, sample_look
from psdbench.world.training.labels import hard_negatives
from psdbench.world.training.prior import SCHEDULER, encode_captions

KINDS = ("look", "look", "wrong", "fault", "fault", "x0", "x0", "x0_fault")
"""what each of the eight pictures of a group is"""
PAIRS = {
    "look": (0, 1), "wrong object": (0, 2), "look against fault": (0, 3), "fault against fault": (3, 4),
    "x0, two noises": (5, 6), "x0 against x0 of a fault": (5, 7), "x0 against fault": (6, 3),
    "wrong object against x0": (2, 5),
}  # fmt: skip
"""kinds of pair: name → positions within a group"""
GROUPS, HELD_OUT_GROUPS = 3200, 400


@dataclass(frozen=True)
class Groups:
    """G groups of 8: pictures [G, 8, 3, 64, 64] uint8, agreement [G, 8], qualities [G, 8, 5], captions."""

    pixels: Tensor
    agreement: Tensor
    qualities: Tensor
    captions: list[str]


@dataclass(frozen=True)
class PriorModels:
    """The trained parts that x̂0 predictions need."""

    autoencoder: Any
    denoiser: Any
    text_model: Any
    tokenizer: Any
    device: str


def draw(work: Path, name: str, count: int, seed: int, models: PriorModels, from_held_out: bool) -> Groups:
    """Draw `count` groups, or read them back from `work`."""
    path = work / f"pairs-{name}.safetensors"
    if not path.exists():
        parts = []
        for start in range(0, count, 50):
            parts.append(_draw_part(min(50, count - start), seed * 100_003 + start, models, from_held_out))
            print(f"pairs        {name} {min(start + 50, count)}/{count} groups", file=sys.stderr, flush=True)
        captions = torch.frombuffer(
            bytearray("\n".join(c for p in parts for c in p.captions).encode()), dtype=torch.uint8
        )
        stacked = {k: torch.cat([getattr(p, k) for p in parts]) for k in ("pixels", "agreement", "qualities")}
        save_file({**stacked, "captions": captions}, path)
    return load(work, name)


def load(work: Path, name: str) -> Groups:
    """Read back the groups that `draw` left in `work`."""
    data = load_file(work / f"pairs-{name}.safetensors")
    captions = bytes(data.pop("captions").tolist()).decode().split("\n")
    return Groups(**data, captions=captions)


def _draw_part(count: int, seed: int, models: PriorModels, from_held_out: bool) -> Groups:
    rng = random.Random(f"pairs {seed}")
    generator = torch.Generator().manual_seed(rng.getrandbits(48))
    # few scenes and many cameras: the references of the agreement are rendered once per scene
    scenes = [draw_scene(rng, from_held_out) for _ in range(max(1, count // 5))]
    chosen = [rng.choice(scenes) for _ in range(count)]
    cameras = stack_cameras([draw_camera(rng, front=rng.random() < 0.3) for _ in chosen])
    views = [view_word(camera, rng) if rng.random() < 0.7 else "" for camera in cameras]
    captions = [describe(scene, view) for scene, view in zip(chosen, views, strict=True)]
    white = [(1.0, 1.0, 1.0)]
    backgrounds = torch.tensor([rng.choice([*white, sample_background(rng)]) for _ in chosen])

    def picture(scenes: list[Scene]) -> Tensor:
        return apply_look(render(scenes, cameras, backgrounds), [s.look for s in scenes], generator)

    looks = [picture([replace(s, look=_varied_look(rng)) for s in chosen]) for _ in range(2)]
    wrong = picture([replace(_wrong(c, rng), look=Look()) for c in captions])
    faults = [spoil_like_distillation(looks[rng.randrange(2)], backgrounds, rng, generator) for _ in range(2)]
    predicted = _one_step(looks[0], faults[0], captions, rng, generator, models)
    images = torch.stack([*looks, wrong, *faults, *predicted], 1).clamp(0, 1)
    images = (images * 255).round() / 255
    agreement, qualities = appraise(images.flatten(0, 1), [c for c in captions for _ in KINDS])
    shape = (count, len(KINDS))
    pixels = (images * 255).round().byte().contiguous()
    return Groups(pixels, agreement.view(shape), qualities.view(*shape, -1), captions)


def _varied_look(rng: random.Random) -> Look:
    """Looks for comparison: flaws are as common as their absence."""
    look = sample_look(rng)
    return replace(
        look,
        saturation=rng.uniform(0.35, 1.1),
        blur=rng.uniform(0.5, 1.8) if rng.random() < 0.3 else 0.0,
        noise=rng.uniform(0.01, 0.08) if rng.random() < 0.3 else 0.0,
        shift=(rng.uniform(-0.15, 0.15), rng.uniform(-0.15, 0.15)) if rng.random() < 0.3 else (0.0, 0.0),
    )


def _wrong(caption: str, rng: random.Random) -> Scene:
    negatives = hard_negatives(caption, rng)
    negatives.pop("view", None)
    return parse(rng.choice(list(negatives.values()))).scene


def spoil_like_distillation(
    images: Tensor, backgrounds: Tensor, rng: random.Random, generator: torch.Generator
) -> Tensor:
    """The faults of distilled renders: rounding, fog, over-saturation, speckle, each in random strength."""
    border = backgrounds[:, :, None, None]
    out = images.clone()
    for i in range(len(out)):
        picture = out[i : i + 1]
        if rng.random() < 0.5:
            picture = _rounded(picture, border[i : i + 1], rng.uniform(1.5, 6.0))
        if rng.random() < 0.4:
            picture = _fogged(picture, rng.uniform(0.1, 0.6), generator)
        if rng.random() < 0.4:
            grey = picture.mean(1, keepdim=True)
            picture = grey + (picture - grey) * rng.uniform(1.1, 1.9)
        if rng.random() < 0.4:
            speckle = gaussian_blur(torch.randn(picture.shape, generator=generator), rng.uniform(0.4, 1.2))
            picture = picture + speckle / speckle.std() * rng.uniform(0.02, 0.10)
        out[i] = picture[0].clamp(0, 1)
    return out


def _rounded(picture: Tensor, border: Tensor, sigma: float) -> Tensor:
    inside = ((picture - border).abs().amax(1, keepdim=True) > 0.12).float()
    soft = gaussian_blur(inside, sigma)
    colour = gaussian_blur(picture * inside, 0.4 * sigma) / gaussian_blur(inside, 0.4 * sigma).clamp(min=1e-3)
    edge = torch.sigmoid((soft - 0.5) * 12)
    return colour * edge + border * (1 - edge)


def _fogged(picture: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    cloud = torch.nn.functional.interpolate(
        torch.rand(1, 1, 5, 5, generator=generator), 64, mode="bicubic"
    ).clamp(0, 1)
    colour = picture.mean((2, 3), keepdim=True) * 0.5 + 0.5 * torch.rand(1, 3, 1, 1, generator=generator)
    return picture + strength * cloud * (colour - picture)


@torch.no_grad()
def _one_step(
    looks: Tensor,
    faults: Tensor,
    captions: list[str],
    rng: random.Random,
    generator: torch.Generator,
    models: PriorModels,
) -> list[Tensor]:
    """x̂0 of two noises on one picture, and of one noise on a faulty picture, at one t per group."""
    device, count = models.device, len(captions)
    text = encode_captions(models.text_model, models.tokenizer, captions, device)
    null = encode_captions(models.text_model, models.tokenizer, [""], device).expand_as(text)
    t = torch.randint(20, 900, (count,), generator=generator).to(device)
    diffusion = Diffusion(*(level.to(device) for level in noise_schedule(SCHEDULER)))
    scale = torch.tensor([rng.choice((1.0, 3.0, 7.5, 7.5, 12.0)) for _ in captions], device=device).view(
        -1, 1, 1, 1
    )
    out = []
    for source in (looks, looks, faults):
        latents = models.autoencoder.encode(source.to(device) * 2 - 1).latents
        noise = torch.randn(latents.shape, generator=generator).to(device)
        x_t = diffusion.add_noise(latents, noise, t)
        both = models.denoiser(torch.cat([x_t, x_t]), torch.cat([t, t]), torch.cat([null, text])).sample
        negative, positive = both.chunk(2)
        x0 = diffusion.predict_x0(x_t, negative + scale * (positive - negative), t)
        out.append((models.autoencoder.decode(x0).sample.cpu() / 2 + 0.5).clamp(0, 1))
    return out
