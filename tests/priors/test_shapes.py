"""The embedded prior, its trained weights: what a method relies on."""

from __future__ import annotations

import torch
from torch.nn.functional import mse_loss

from psdbench.priors.diffusers import DiffusersPrior


def test_latents_are_standardised_and_text_helps_to_denoise(shapes_prior: DiffusersPrior) -> None:
    """On renders of named scenes: unit-size latents, and a lower error under the right caption than a wrong one."""
    from psdbench.camera_config import CameraConfig
    from psdbench.cameras import evaluation_rig, with_view_words
    from psdbench.world.scenes import render_prompt

    cameras = evaluation_rig(CameraConfig())
    latents = shapes_prior.encode(render_prompt("a red cube", cameras, 64))
    assert 0.3 < latents.std().item() < 2.0
    t = torch.full((len(cameras),), 700)
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(0))
    x_t = shapes_prior.add_noise(latents, noise, t)
    right, wrong = (
        mse_loss(
            shapes_prior.predict_noise(x_t, t, shapes_prior.encode_text(with_view_words(p, cameras))), noise
        )
        for p in ("a red cube", "a blue sphere")
    )
    assert right < wrong
    assert right < 0.5
