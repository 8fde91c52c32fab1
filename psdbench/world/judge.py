"""The independent judge: a small convolutional classifier that no other model of the world uses."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn

from psdbench.world.grammar import parse
from psdbench.world.scenes import COLOURS, RELATIONS, SHAPES, Scene
from psdbench.world.training.labels import ATTRIBUTES


class Judge(nn.Module):
    """Pictures [N, 3, 64, 64] in [0, 1] → logits [N, 37] of shapes, colours, relation, view and face."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for out in (width, 2 * width, 3 * width, 4 * width):
            layers += [
                nn.Conv2d(channels, out, 3, padding=1), nn.GroupNorm(8, out), nn.SiLU(),
                nn.Conv2d(out, out, 3, stride=2, padding=1), nn.GroupNorm(8, out), nn.SiLU(),
            ]  # fmt: skip
            channels = out
        self.features = nn.Sequential(*layers)
        self.head = nn.Sequential(
            nn.Flatten(), nn.Linear(channels * 16, 128), nn.SiLU(), nn.Linear(128, sum(ATTRIBUTES.values()))
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images * 2 - 1))

    @torch.no_grad()
    def attributes(self, images: Tensor) -> dict[str, Tensor]:
        """The most likely class of every attribute, [N] long each."""
        guesses = torch.cat([self(part) for part in images.split(256)]).split(list(ATTRIBUTES.values()), 1)
        return {name: g.argmax(1) for name, g in zip(ATTRIBUTES, guesses, strict=True)}

    def named(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """Whether each picture shows the objects that its prompt names, in shape, colour and relation; [N] bool."""
        found = self.attributes(images)
        return torch.tensor([_agrees(found, i, parse(p).scene) for i, p in enumerate(prompts)])

    def face_seen(self, images: Tensor) -> Tensor:
        """Whether a face is seen, [N] bool."""
        return self.attributes(images)["face"].bool()


def _agrees(found: dict[str, Tensor], row: int, scene: Scene) -> bool:
    seen = [(int(found[f"shape_{k}"][row]), int(found[f"colour_{k}"][row])) for k in (1, 2)]
    named = [(SHAPES.index(o.shape), list(COLOURS).index(o.colour)) for o in scene.objects]
    if int(found["relation"][row]) != (1 + RELATIONS.index(scene.relation) if scene.relation else 0):
        return False
    if scene.relation == "next to":  # who stands left depends on the side one looks from
        return sorted(seen) == sorted(named)
    return seen[: len(named)] == named


@cache
def load_judge(folder: Path | None = None) -> Judge:
    """The shipped judge, frozen."""
    from safetensors.torch import load_file

    from psdbench.world import weights_folder

    judge = Judge()
    judge.load_state_dict(load_file((folder or weights_folder() / "judge") / "model.safetensors"))
    return judge.eval().requires_grad_(False)
