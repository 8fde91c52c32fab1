"""What a finetuning trains on and what it is measured on: captions that no comparison uses, and two sets of them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import NamedTuple

from psdbench.errors import UsageError
from psdbench.prompts import check_world, read_prompts, shipped_sets
from psdbench.registry import WORLD

WORLD_SETS = ("shapes", "shapes-tuning", "demo", "smoke")
"""prompt sets on which methods are compared or tuned: never trained on"""
TRAINING, HELD_OUT = 256, 32
"""captions drawn from the embedded world"""
HELD_OUT_EVERY = 5
"""of a file, every fifth prompt is kept for measuring"""


class Captions(NamedTuple):
    """Captions without view words, all different."""

    training: tuple[str, ...]
    held_out: tuple[str, ...]


def captions_for(prior: str, sources: Sequence[str], seed: int) -> Captions:
    """The captions of the files given, or of the embedded world's grammar.

    Raises UsageError for another prior without files.
    """
    if sources:
        prompts = read_prompts(sources)
        if prior == WORLD:
            check_world(prompts)
        return split(prompts.texts)
    if prior != WORLD:
        raise UsageError(
            f"prior '{prior}' has no captions of its own",
            "pass --prompts FILE with prompts that are not those of the comparison",
        )
    return world_captions(seed)


def split(prompts: Sequence[str]) -> Captions:
    """Every fifth prompt, at least the last one, is held out; UsageError for fewer than two."""
    if len(prompts) < 2:
        raise UsageError("one prompt cannot be both trained on and measured on", "give two or more prompts")
    measured = prompts[HELD_OUT_EVERY - 1 :: HELD_OUT_EVERY] or prompts[-1:]
    return Captions(tuple(p for p in prompts if p not in measured), tuple(measured))


def world_captions(seed: int) -> Captions:
    """Captions of the shapes world; held out are combinations that no embedded model was trained on."""
    from psdbench.world.data import draw_scene
    from psdbench.world.grammar import describe, parse

    files = [str(shipped_sets().get(name, name)) for name in WORLD_SETS]
    reserved = {describe(parse(prompt).scene) for prompt in read_prompts(files).texts}
    rng = random.Random(f"psdbench finetune captions {seed}")

    def draw(count: int, from_held_out: bool) -> tuple[str, ...]:
        drawn: dict[str, None] = {}
        while len(drawn) < count:
            caption = describe(draw_scene(rng, from_held_out))
            if caption not in reserved:
                drawn[caption] = None
        return tuple(drawn)

    return Captions(draw(TRAINING, False), draw(HELD_OUT, True))
