"""The known preference orders what a person would order, and its annotators vote by Bradley–Terry."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from psdbench.camera_config import CameraConfig
from psdbench.cameras import evaluation_rig
from psdbench.world.grammar import parse
from psdbench.world.preference import ANNOTATORS, QUALITIES, TRUE_PREFERENCE, appraise, true_preference
from psdbench.world.renderer import apply_look, gaussian_blur, render
from psdbench.world.scenes import Look, render_prompt

PROMPTS = ("a red cube", "a yellow cone with a face", "a blue sphere on top of a green cylinder")
RIG = evaluation_rig(CameraConfig())


def _noise(images: Tensor) -> Tensor:
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    return (images + 0.08 * noise).clamp(0, 1)


FAULTS: dict[str, Callable[[Tensor], Tensor]] = {
    "dull": lambda x: x.mean(1, keepdim=True) + 0.4 * (x - x.mean(1, keepdim=True)),
    "garish": lambda x: (x.mean(1, keepdim=True) + 1.9 * (x - x.mean(1, keepdim=True))).clamp(0, 1),
    "blurred": lambda x: gaussian_blur(x, 2.0),
    "noisy": _noise,
    "foggy": lambda x: x + 0.5 * (0.6 - x),
    "off centre": lambda x: torch.roll(x, (12, 12), (-2, -1)),
    "blank": torch.ones_like,
}


@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_costs(prompt: str, fault: str) -> None:
    clean = render_prompt(prompt, RIG)
    captions = [prompt] * len(RIG)
    before, after = true_preference(clean, captions), true_preference(FAULTS[fault](clean), captions)
    assert (after < before).float().mean() >= 0.85
    assert after.mean() < before.mean() - 1


@pytest.mark.parametrize(
    "other", ["a blue cube", "a red sphere", "a red cone", "a red cube on top of a red cube"]
)
def test_the_wrong_object_is_liked_less(other: str) -> None:
    captions = ["a red cube"] * len(RIG)
    right, wrong = (true_preference(render_prompt(p, RIG), captions) for p in ("a red cube", other))
    assert wrong.mean() < right.mean() - 5


def test_a_second_face_is_seen_through_the_view_word() -> None:
    two_faced = render_prompt("a yellow cube with a face", RIG[:1])
    prompt = "a yellow cube with a face"
    front, back = true_preference(
        two_faced.repeat(2, 1, 1, 1), [f"{prompt}, front view", f"{prompt}, back view"]
    )
    assert back < front - 5


def test_gloss_is_a_merit() -> None:
    scene = parse("a red sphere").scene
    matte, glossy = (
        render([replace(scene, look=Look(gloss=g))] * len(RIG), RIG, torch.ones(len(RIG), 3))
        for g in (0.0, 0.6)
    )
    captions = ["a red sphere"] * len(RIG)
    gloss = QUALITIES.index("glossy")
    assert (
        appraise(glossy, captions)[1][:, gloss] > appraise(matte, captions)[1][:, gloss] + 0.3
    ).float().mean() > 0.6


def test_scores_are_points_and_the_weights_sum_to_one() -> None:
    looks = [Look(saturation=0.3, noise=0.2), Look(blur=2.0)]
    images = apply_look(render_prompt("a red cube", RIG[:2]), looks, torch.Generator().manual_seed(0))
    scores = true_preference(images, ["a red cube"] * 2)
    assert ((scores >= 0) & (scores <= 100)).all()
    for annotator in (TRUE_PREFERENCE, *ANNOTATORS.values()):
        assert sum(annotator.weights.values()) == pytest.approx(1)
        assert set(annotator.weights) == set(QUALITIES)


def test_votes_follow_bradley_terry() -> None:
    annotator = ANNOTATORS["hps"]
    gap = 3.0
    first, second = torch.full((20_000,), 50.0 + gap), torch.full((20_000,), 50.0)
    share = float(annotator.votes_first(first, second, torch.Generator().manual_seed(0)).float().mean())
    chance = 1 / (1 + math.exp(-gap / annotator.temperature))
    assert share == pytest.approx(chance, abs=4 * math.sqrt(chance * (1 - chance) / 20_000))
