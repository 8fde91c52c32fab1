"""What only the shapes world can tell: the true preference, the named scene, shapes by name."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from psdbench.errors import UsageError
from psdbench.scorers.folder import FolderScorer
from psdbench.scorers.preprocess import Preprocess
from psdbench.store.digest import sha256_file

if TYPE_CHECKING:
    from psdbench.cameras import Cameras

PSNR_FLOOR = 1e-6
"""mean squared error below which renders count as equal (60 dB): less than rounding to bytes leaves"""
WORLD_SIZE = Preprocess(64, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
"""preference and classifier are made for 64 x 64 pixels in [0, 1]"""


class WorldScorer:
    """A scorer that is code, not weights: its hash is that of the modules that define the score."""

    higher_is_better = True
    differentiable = False
    view_words = False
    modules: tuple[str, ...] = ()

    def __init__(self, id: str) -> None:
        self.id = id

    @cached_property
    def sha256(self) -> str:
        """Hash of the source of the score."""
        import hashlib

        files = [Path(str(import_module(f"psdbench.world.{name}").__file__)) for name in self.modules]
        return hashlib.sha256("\n".join(map(sha256_file, files)).encode()).hexdigest()


class TruePreference(WorldScorer):
    """What people of this world think of a picture, without the noise of their votes; points in [0, 100].

    The prompts name the view, so that a second face on the back counts as the fault that it is: it costs each view
    from behind 2 to 12 points. But the formula takes the pale edge of a face for gloss, which earns each side view
    of a cylinder or cone 5 points, so that the mean over the views of a two-faced object falls by 1.7 points for
    the cube of the controls and by 0.4 for the cylinder, and rises by 0.02 for the cone. Of two-faced objects it is
    therefore not asked. The formula stays: the world's rewards were trained on its votes.
    """

    view_words = True
    modules = ("preference", "scenes", "renderer", "grammar")

    @torch.no_grad()
    def score(self, images: Tensor, prompts: Sequence[str], cameras: Cameras | None = None) -> Tensor:
        """Images [N, 3, H, W] in [0, 1] with their prompts to points [N]."""
        from psdbench.world.preference import true_preference

        return true_preference(WORLD_SIZE(images.float()), list(prompts)).to(images)


def named_scenes(scorer: str, images: Tensor, prompts: Sequence[str], cameras: Cameras | None) -> Tensor:
    """The renders of the scenes that prompts name, from the same cameras as square images [N, 3, H, W], and as large.

    UsageError without cameras.
    """
    if cameras is None:
        raise UsageError(
            f"{scorer} needs the cameras of the images", "score renders of a run, not single images"
        )
    from psdbench.world.scenes import render_prompt

    scenes = torch.empty_like(images)
    for prompt in dict.fromkeys(prompts):
        rows = torch.tensor([i for i, other in enumerate(prompts) if other == prompt])
        scenes[rows] = render_prompt(prompt, cameras[rows], images.shape[-1]).to(images)
    return scenes


class GroundTruth(WorldScorer):
    """PSNR in dB between an image and the render of the scene that its prompt names, from the same camera."""

    modules = ("scenes", "renderer", "grammar")

    @torch.no_grad()
    def score(self, images: Tensor, prompts: Sequence[str], cameras: Cameras | None = None) -> Tensor:
        """Square images [N, 3, H, W] in [0, 1] to dB [N], at most 60; UsageError without cameras."""
        truth = named_scenes(self.id, images, prompts, cameras)
        return -10 * (images - truth).square().mean(dim=(1, 2, 3)).clamp(min=PSNR_FLOOR).log10()


class Outline(WorldScorer):
    """Agreement of outlines between an image and the render of the scene that its prompt names, place and size apart.

    It tells a cube from a block with round edges, which other scores hardly do.
    """

    modules = ("directions", "scenes", "renderer", "grammar")

    @torch.no_grad()
    def score(self, images: Tensor, prompts: Sequence[str], cameras: Cameras | None = None) -> Tensor:
        """Images [N, 3, H, W] in [0, 1] to the intersection of the outlines over their union, [N] in [0, 1].

        UsageError without cameras.
        """
        from psdbench.world.directions import outlines, overlap

        return overlap(outlines(images.float()), outlines(named_scenes(self.id, images, prompts, cameras)))


class ShapeAccuracy(FolderScorer):
    """Whether a classifier that nothing else uses sees the named shapes and colours."""

    differentiable = False

    @cached_property
    def judge(self) -> Any:
        """The classifier, loaded on first use."""
        from psdbench.world.judge import load_judge

        return load_judge(self.folder).to(self.device)

    @torch.no_grad()
    def score(self, images: Tensor, prompts: Sequence[str], cameras: Cameras | None = None) -> Tensor:
        """Images [N, 3, H, W] in [0, 1] with their prompts to 1 (named rightly) or 0, [N]."""
        pictures = WORLD_SIZE(images.to(self.device, torch.float32))
        return self.judge.named(pictures, list(prompts)).to(self.device, torch.float32)
