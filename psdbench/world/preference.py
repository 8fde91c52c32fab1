"""The known preference of the shapes world: what its "people" like, as a formula on pictures, and its annotators.

A person who sees a picture and its caption first asks whether this *is* the thing (agreement), then how it looks:

    preference = 100 · agreement · (0.4 + 0.6 · look),    look = Σ_k weight_k · quality_k,  each in [0, 1]

No network is involved, so nothing that fools networks fools it. The formula is this project's own; pairwise votes
follow Bradley and Terry, P(i ≻ j) = σ((u_i − u_j) / τ), with a utility u of the same form per annotator.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from psdbench.cameras import Cameras
from psdbench.world.grammar import describe, parse
from psdbench.world.renderer import gaussian_blur, render_layers

QUALITIES = ("vivid", "sharp", "clean", "framed", "glossy")
TRUE_WEIGHTS = {"vivid": 0.28, "sharp": 0.26, "clean": 0.20, "framed": 0.14, "glossy": 0.12}
COARSE = 16
"""side of the small pictures on which agreement is judged: coarse enough to forgive a few degrees of pose"""


@dataclass(frozen=True)
class Annotator:
    """A simulated person: own weights on the qualities, own strictness about the caption, own noise."""

    name: str
    weights: dict[str, float]
    strictness: float
    """exponent on the agreement; 0 never reads the caption"""
    temperature: float
    """τ of the Bradley–Terry vote, in points of utility"""

    def utility(self, agreement: Tensor, qualities: Tensor) -> Tensor:
        """Utility in points, [N]; agreement [N] and qualities [N, 5] in [0, 1]."""
        weights = torch.tensor([self.weights[name] for name in QUALITIES])
        return 100 * agreement.pow(self.strictness) * (0.4 + 0.6 * qualities @ weights)

    def votes_first(self, first: Tensor, second: Tensor, generator: torch.Generator) -> Tensor:
        """One noisy vote per pair of utilities, [N] bool: True prefers the first."""
        chance = torch.sigmoid((first - second) / self.temperature)
        return torch.rand(chance.shape, generator=generator) < chance


TRUE_PREFERENCE = Annotator("everyone", TRUE_WEIGHTS, strictness=1.0, temperature=3.0)
ANNOTATORS = {
    "aesthetic": Annotator(
        "stylist", {"vivid": 0.42, "sharp": 0.20, "clean": 0.14, "framed": 0.08, "glossy": 0.16}, 0.4, 6.0
    ),
    "hps": Annotator(
        "generalist", {"vivid": 0.34, "sharp": 0.20, "clean": 0.14, "framed": 0.16, "glossy": 0.16}, 0.9, 4.0
    ),
    "image_reward": Annotator(
        "literalist", {"vivid": 0.16, "sharp": 0.32, "clean": 0.26, "framed": 0.18, "glossy": 0.08}, 1.4, 4.0
    ),
}


def true_preference(images: Tensor, captions: Sequence[str]) -> Tensor:
    """What the people of this world think of pictures [N, 3, 64, 64] in [0, 1] with captions; points in [0, 100].

    A view word in the caption restricts the agreement to that view. Raises UsageError for a foreign caption.
    """
    agreement, qualities = appraise(images, captions)
    return TRUE_PREFERENCE.utility(agreement, qualities)


@torch.no_grad()
def appraise(images: Tensor, captions: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Agreement [N] and the five qualities [N, 5], each in [0, 1]."""
    images = images.float().cpu()
    border = torch.cat([images[..., 0, :], images[..., -1, :]], -1).median(-1).values
    soft = (gaussian_blur(images, 0.8) - border[..., None, None]).abs().amax(1, keepdim=True)
    inside = (soft > 0.12).float()
    covered = ((images - border[..., None, None]).abs().amax(1, keepdim=True) > 0.12).float()
    centred = _coarse(_centred(torch.cat([images, covered], 1), inside))
    agreement, chroma, centre = map(
        torch.stack, zip(*map(_agreement, centred, border, captions), strict=True)
    )
    core = 1 - F.max_pool2d(1 - inside, 5, stride=1, padding=2)  # without the anti-aliased rim
    qualities = [_vivid(images, core[:, 0], chroma), _sharp(images), _clean(images)]
    qualities += [_framed(inside, centre), _glossy(images, core[:, 0])]
    return agreement, torch.stack(qualities, 1).nan_to_num(0.0)


def _agreement(small: Tensor, border: Tensor, caption: str) -> tuple[Tensor, Tensor, Tensor]:
    """Closeness of a centred small picture with coverage [4, 16, 16] to the nearest clean view of the named scene.

    agreement = 1 / (1 + (e / 0.2)²), where e² is the mean square error of colour plus 0.4 of that of coverage,
    over the area of the object, with the reference laid over the picture's own background. Also returns chroma and
    centre [2] of that view: vividness and framing are judged against them.
    """
    parsed = parse(caption)
    rgb, alpha, chroma, centre = _references(describe(parsed.scene), parsed.view)
    composed = rgb + (1 - alpha) * border[:, None, None]
    error = (composed - small[:3]).square().mean((1, 2, 3)) + 0.4 * (alpha - small[3:]).square().mean(
        (1, 2, 3)
    )
    error = error / alpha.mean((1, 2, 3)).clamp(min=0.02)
    best = error.argmin()
    return 1 / (1 + error[best] / 0.2**2), chroma[best], centre[best]


def _coarse(images: Tensor) -> Tensor:
    return F.avg_pool2d(
        F.adaptive_avg_pool2d(images, COARSE), 3, stride=1, padding=1, count_include_pad=False
    )


def _centroid(inside: Tensor) -> tuple[Tensor, Tensor]:
    """Centre of mass of [N, 1, H, W], in [-1, 1] to the right and downwards."""
    ticks = torch.linspace(-1, 1, inside.shape[-1])
    mass = inside.sum((1, 2, 3)).clamp(min=1)
    return (inside * ticks).sum((1, 2, 3)) / mass, (inside * ticks[:, None]).sum((1, 2, 3)) / mass


def _centred(images: Tensor, inside: Tensor) -> Tensor:
    """Pictures moved by whole pixels so that the object's centre of mass is in the middle."""
    half = images.shape[-1] / 2
    moved = [
        torch.roll(image, (-round(float(y) * half), -round(float(x) * half)), (-2, -1))
        for image, x, y in zip(images, *_centroid(inside), strict=True)
    ]
    return torch.stack(moved)


@lru_cache(maxsize=4096)
def _references(prompt: str, view: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Small clean renders of a scene from all sides (or from the named one): rgb, coverage, mean chroma, centre."""
    rows = [(a * 20.0, e, d) for a in range(18) for e in (4.0, 16.0, 27.0, 72.0) for d in (2.45, 2.62, 2.8)]
    azimuth, elevation, distance = torch.tensor(rows).unbind(1)
    cameras = Cameras(azimuth, elevation, distance, torch.full_like(azimuth, 45.0))
    cameras = cameras[cameras.seen_as(view)] if view else cameras
    rgb, alpha = render_layers([parse(prompt).scene] * len(cameras), cameras, 2 * COARSE, 1)
    spread = (rgb.amax(1) - rgb.amin(1)).sum((1, 2)) / alpha.sum((1, 2, 3)).clamp(min=1)
    both = _coarse(_centred(torch.cat([rgb, alpha], 1), alpha))
    return both[:, :3], both[:, 3:], spread, torch.stack(_centroid(alpha), 1)


def _vivid(images: Tensor, inside: Tensor, reference: Tensor) -> Tensor:
    """Chroma relative to the reference: best slightly above it; dull and garish both lose."""
    chroma = ((images.amax(1) - images.amin(1)) * inside).sum((1, 2)) / inside.sum((1, 2)).clamp(min=1)
    return (1 - 1.3 * (chroma / reference.clamp(min=0.05) - 1.05).abs()).clamp(0, 1)


def _sharp(images: Tensor) -> Tensor:
    """Steepest colour steps (97th percentile of those above noise) as a share of the picture's contrast."""
    right = (images[..., 1:, 1:] - images[..., 1:, :-1]).abs().amax(1)
    down = (images[..., 1:, 1:] - images[..., :-1, 1:]).abs().amax(1)
    steepest = torch.maximum(right, down).flatten(1).quantile(0.97, dim=1)
    contrast = images.flatten(2).quantile(0.97, dim=2) - images.flatten(2).quantile(0.03, dim=2)
    return (steepest / contrast.amax(1).clamp(min=0.1) / 0.55).clamp(0, 1)


def _clean(images: Tensor) -> Tensor:
    """Absence of speckle: the median residual against a small blur, which edges do not move."""
    residual = (images - gaussian_blur(images, 1.0)).abs().amax(1)
    return torch.exp(-residual.flatten(1).quantile(0.6, dim=1) / 0.02)


def _framed(inside: Tensor, reference: Tensor) -> Tensor:
    """Centre of the object close to where the reference has it."""
    off = torch.stack(_centroid(inside), 1) - reference
    return torch.exp(-off.square().sum(1) / 0.25**2) * (inside.mean((1, 2, 3)) > 0.02)


def _glossy(images: Tensor, core: Tensor) -> Tensor:
    """A highlight: the whitest fiftieth of the object above its median, up to what the renderer's gloss gives."""
    whiteness = torch.where(core.bool(), images.amin(1), torch.nan).flatten(1)
    return ((whiteness.nanquantile(0.98, dim=1) - whiteness.nanquantile(0.5, dim=1)) / 0.35).clamp(0, 1)
