"""The shipped models do what the world's README says of them, on few samples here; `slow` measures the figures."""

from __future__ import annotations

import pytest
import torch

from psdbench.camera_config import VIEW_NAMES, CameraConfig
from psdbench.cameras import evaluation_rig
from psdbench.scorers import load_scorer
from psdbench.world import weights_folder
from psdbench.world.directions import named_azimuths, turned_as
from psdbench.world.evaluate import autoencoder_figures, clip_figures, evaluate, judge_figures
from psdbench.world.judge import load_judge
from psdbench.world.renderer import gaussian_blur
from psdbench.world.sampling import ddim_sample
from psdbench.world.scenes import render_prompt

RIG = evaluation_rig(CameraConfig())
PROMPTS = (
    "a red cube",
    "a green cone",
    "a blue sphere on top of a yellow cylinder",
    "a pink sphere with a face",
)


def test_weights_stay_small() -> None:
    total = sum(path.stat().st_size for path in weights_folder().rglob("*") if path.is_file())
    assert total <= 48 * 2**20


def test_the_judge_reads_clean_renders() -> None:
    assert judge_figures(load_judge(), 60, 5)["shapes and colours"] >= 0.85


def test_the_autoencoder_keeps_what_the_judge_sees(shapes_prior) -> None:
    figures = autoencoder_figures(shapes_prior, load_judge(), 40, 5)
    assert figures["psnr_db"] > 28
    assert figures["colour_1 judged alike"] >= 0.95


def test_clip_tells_captions_from_hard_negatives() -> None:
    figures = clip_figures(weights_folder() / "clip", 120, 5)
    assert min(figures["colour"], figures["order"]) >= 0.9
    assert figures["shape"] >= 0.75


def test_the_prior_draws_what_is_named(shapes_prior) -> None:
    prompts = [p for p in PROMPTS for _ in range(3)]
    images = ddim_sample(shapes_prior, prompts, torch.Generator().manual_seed(0), steps=20)
    assert load_judge().named(images, prompts).float().mean() >= 0.75


def test_the_prior_follows_the_named_direction(shapes_prior) -> None:
    words = [*VIEW_NAMES[8], *VIEW_NAMES[8]]
    prompts = [
        f"a {colour} cube, {word}" for colour, word in zip(["red"] * 8 + ["blue"] * 8, words, strict=True)
    ]
    images = ddim_sample(shapes_prior, prompts, torch.Generator().manual_seed(0), steps=20)
    assert turned_as(images, named_azimuths(words)).float().mean() >= 0.8


@pytest.mark.parametrize("name", ["hps_shapes", "image_reward_shapes", "true_preference"])
def test_scorers_prefer_the_named_object_and_a_sound_picture(name: str) -> None:
    scorer = load_scorer(name)
    for prompt, other in zip(
        PROMPTS, ("a blue sphere", "a red cone", "a green cube", "a cyan cube"), strict=True
    ):
        good, wrong = render_prompt(prompt, RIG), render_prompt(other, RIG)
        prompts = [prompt] * len(RIG)
        mean = float(scorer.score(good, prompts).mean())
        assert mean > float(scorer.score(wrong, prompts).mean()), (prompt, other)
        assert mean > float(scorer.score(gaussian_blur(good, 3.0), prompts).mean()), prompt
        fog = 0.5 * good + 0.5 * 0.6
        assert mean > float(scorer.score(fog, prompts).mean()), prompt


@pytest.mark.slow
def test_figures_of_the_readme_are_reached() -> None:
    figures = evaluate(count=200)
    assert figures["prior"]["one object"] >= 0.9
    assert figures["prior"]["on top of"] >= 0.9
    assert figures["prior"]["cube turned as named"] >= 0.9
