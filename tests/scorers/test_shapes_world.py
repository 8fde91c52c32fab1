"""Scorers that know the world: agreement with the render of the named scene."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from psdbench.camera_config import CameraConfig
from psdbench.cameras import Cameras, evaluation_rig, with_view_words
from psdbench.errors import UsageError
from psdbench.scorers import load_scorer
from psdbench.scorers.shapes_world import ShapeAccuracy
from psdbench.world.judge import Judge
from psdbench.world.scenes import render_prompt

RIG = evaluation_rig(CameraConfig())
PROMPTS = ["a red cube"] * 4 + ["a blue sphere"] * 5


def truth() -> torch.Tensor:
    """The renders that the prompts name, [9, 3, 32, 32]."""
    return torch.cat([render_prompt(PROMPTS[0], RIG[:4], 32), render_prompt(PROMPTS[-1], RIG[4:], 32)])


def test_the_named_scene_is_the_best_there_is() -> None:
    scorer = load_scorer("ground_truth")
    swapped = [PROMPTS[-1]] * 4 + [PROMPTS[0]] * 5
    assert torch.allclose(scorer.score(truth(), PROMPTS, RIG), torch.full((9,), 60.0))
    assert (scorer.score(truth(), swapped, RIG) < 25).all()


def test_agreement_is_the_peak_signal_to_noise_ratio() -> None:
    scores = load_scorer("ground_truth").score(truth() * 0.9 + 0.05, PROMPTS, RIG)
    errors = (truth() * 0.1 - 0.05).square().mean(dim=(1, 2, 3))
    assert torch.allclose(scores, -10 * errors.log10(), atol=1e-4)


def test_outline_is_one_for_the_named_scene_and_knows_edges() -> None:
    """Of any colour, size and place; less for a cube turned by an eighth, less for another shape, 0 for nothing."""
    scorer, prompts = load_scorer("outline"), ["a red cube"] * len(RIG)

    def score(prompt: str, cameras: Cameras = RIG) -> torch.Tensor:
        return scorer.score(render_prompt(prompt, cameras, 64), prompts, RIG)

    assert score("a red cube").min() > 0.999
    assert score("a small green cube").min() > 0.87
    turned = score("a red cube", dataclasses.replace(RIG, azimuth=RIG.azimuth + 45))
    assert turned.max() < 0.83
    assert score("a red sphere").max() < 0.86
    assert scorer.score(torch.ones(len(RIG), 3, 64, 64), prompts, RIG).eq(0).all()


@pytest.mark.parametrize("name", ["ground_truth", "outline"])
def test_cameras_are_needed(name: str) -> None:
    with pytest.raises(UsageError, match="cameras"):
        load_scorer(name).score(truth(), PROMPTS)


def test_true_preference_wants_the_named_thing_from_the_named_side() -> None:
    scorer = load_scorer("true_preference")
    assert scorer.view_words
    plain = "a yellow cube with a face"
    images = render_prompt(plain, RIG, 32)
    rightly = scorer.score(images, with_view_words(plain, RIG), RIG)
    assert ((rightly > 30) & (rightly <= 100)).all()
    other = scorer.score(images, with_view_words("a blue sphere", RIG), RIG)
    assert (other < rightly).all()
    two_faced = images[:1].expand(9, -1, -1, -1)  # the face on every side
    assert scorer.score(two_faced, with_view_words(plain, RIG), RIG)[4] < rightly[4] - 1


def test_scorers_made_of_code_have_a_hash_of_it() -> None:
    assert len(load_scorer("ground_truth").sha256) == 64


def test_shape_accuracy_is_one_or_zero_at_any_size(tmp_path: Path) -> None:
    torch.manual_seed(0)
    save_file(Judge().state_dict(), tmp_path / "model.safetensors")
    scorer = ShapeAccuracy("shape_accuracy", tmp_path)
    scores = scorer.score(truth(), PROMPTS, RIG)  # 32 pixels; the classifier reads 64
    assert scores.shape == (9,)
    assert set(scores.tolist()) <= {0.0, 1.0}
