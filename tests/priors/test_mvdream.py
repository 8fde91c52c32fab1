"""MVDream's UNet: four views and their cameras, and nothing else that Stable Diffusion's does not have."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from folders import CAMERA
from torch import Tensor
from toys import make_step

from psdbench.camera_config import CameraConfig
from psdbench.cameras import Cameras, sample_cameras
from psdbench.guidance.state import RenderScore
from psdbench.priors.mvdream import MVDreamPrior
from psdbench.streams import Streams

VIEWS = 4


@pytest.fixture(scope="module")
def prior(mvdream_folder: Path) -> MVDreamPrior:
    return MVDreamPrior.load(mvdream_folder)


def draw(sets: int = 1) -> tuple[Tensor, Tensor, Cameras]:
    """Noisy latents, timesteps and cameras of so many sets of views."""
    generator = torch.Generator().manual_seed(0)
    x_t = torch.randn(sets * VIEWS, 4, 8, 8, generator=generator)
    t = torch.tensor([300, 800])[:sets].repeat_interleave(VIEWS)
    return x_t, t, sample_cameras(generator, sets * VIEWS, CameraConfig(overhead_share=0.0), VIEWS)


def flat_unet(prior: MVDreamPrior):
    """The 2D UNet with the same weights but the camera network's."""
    from diffusers import UNet2DConditionModel

    config = {k: v for k, v in prior.unet.config.items() if k not in CAMERA and not k.startswith("_")}
    weights = {k: v for k, v in prior.unet.state_dict().items() if not k.startswith("class_embedding.")}
    unet = UNet2DConditionModel(**config)
    unet.load_state_dict(weights)
    return unet.eval()


@torch.no_grad()
def test_with_one_view_it_is_the_2d_unet(mvdream_folder: Path) -> None:
    class OneView(MVDreamPrior):
        views = 1

    prior = OneView.load(mvdream_folder)
    x_t, t, _ = draw()
    text = prior.encode_text(["a", "b", "c", "d"])
    expected = flat_unet(prior)(x_t, t, text).sample
    torch.testing.assert_close(prior.predict_noise(x_t, t, text), expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_four_equal_views_without_cameras_are_one(prior: MVDreamPrior) -> None:
    """Attention over four copies of the same tokens is attention over one of them."""
    x_t, t, _ = draw()
    text = prior.encode_text(["a fox"] * VIEWS)
    expected = flat_unet(prior)(x_t[:1], t[:1], text[:1]).sample
    eps = prior.predict_noise(x_t[:1].expand(VIEWS, -1, -1, -1), t, text)
    torch.testing.assert_close(eps, expected.expand_as(eps), rtol=1e-4, atol=1e-5)


def test_permuting_sets_permutes_outputs(prior: MVDreamPrior) -> None:
    x_t, t, cameras = draw(2)
    text, swap = prior.encode_text(["a fox"] * 4 + ["a cube"] * 4), torch.arange(8).roll(4)
    eps = prior.predict_noise(x_t, t, text, cameras)
    swapped = prior.predict_noise(x_t[swap], t[swap], text[swap], cameras[swap])
    torch.testing.assert_close(swapped, eps[swap], rtol=1e-4, atol=1e-5)


def test_permuting_views_permutes_outputs(prior: MVDreamPrior) -> None:
    """What tells the views of a set apart is their content and their camera, not their place."""
    x_t, t, cameras = draw()
    text, order = prior.encode_text(["a fox"] * VIEWS), torch.tensor([2, 0, 3, 1])
    eps = prior.predict_noise(x_t, t, text, cameras)
    permuted = prior.predict_noise(x_t[order], t, text, cameras[order])
    torch.testing.assert_close(permuted, eps[order], rtol=1e-4, atol=1e-5)


def test_a_view_sees_its_own_set_and_no_other(prior: MVDreamPrior) -> None:
    x_t, t, cameras = draw(2)
    text = prior.encode_text(["a fox"] * 8)
    eps = prior.predict_noise(x_t, t, text, cameras)
    x_t[3] += 1
    moved = prior.predict_noise(x_t, t, text, cameras)
    change = (moved - eps).abs().amax((1, 2, 3))
    assert (change[:4] > 1e-5).all()
    assert (change[4:] < 1e-6).all()


def test_the_camera_matters(prior: MVDreamPrior) -> None:
    x_t, t, cameras = draw()
    text = prior.encode_text(["a fox"] * VIEWS)
    turned = Cameras((cameras.azimuth + 90) % 360, cameras.elevation, cameras.distance, cameras.fov)
    seen, other, unseen = (prior.predict_noise(x_t, t, text, c) for c in (cameras, turned, None))
    far = Cameras(cameras.azimuth, cameras.elevation, 2 * cameras.distance, cameras.fov)
    assert not torch.allclose(seen, other, atol=1e-4)
    assert not torch.allclose(seen, unseen, atol=1e-4)
    assert torch.equal(seen, prior.predict_noise(x_t, t, text, far)), "the translation has unit length"


@pytest.mark.parametrize(("azimuth", "elevation"), [(0.0, 0.0), (40.0, 15.0), (200.0, 30.0)])
def test_the_pose_is_mvdreams(azimuth: float, elevation: float) -> None:
    """It looks from (sin a cos e, sin e, cos a cos e) with y up, then turns y up into z up; its front is a = 90°."""
    a, e = torch.deg2rad(torch.tensor([azimuth + 90, elevation])).tolist()
    from math import cos, sin

    backward = torch.tensor([sin(a) * cos(e), sin(e), cos(a) * cos(e)])
    right = torch.nn.functional.normalize(torch.linalg.cross(-backward, torch.tensor([0.0, 1.0, 0.0])), dim=0)
    up = torch.linalg.cross(right, -backward)
    pose = torch.eye(4)
    pose[:3] = torch.stack([right, up, backward, backward], dim=1)
    flip = torch.tensor([[1.0, 0, 0, 0], [0, 0, -1, 0], [0, 1, 0, 0], [0, 0, 0, 1]])
    camera = Cameras(*(torch.tensor([x]) for x in (azimuth, elevation, 3.0, 40.0)))
    torch.testing.assert_close(camera.extrinsics()[0].view(4, 4), flip @ pose, rtol=1e-5, atol=1e-6)


def test_what_is_no_set_is_a_mistake(prior: MVDreamPrior) -> None:
    with pytest.raises(ValueError, match="3 images are no sets of 4 views"):
        prior.predict_noise(*(x[:3] for x in draw()[:2]), prior.encode_text(["a"] * 3))


def test_the_score_of_the_renders_starts_at_the_prior(mvdream_folder: Path) -> None:
    """With the cameras it is the prior with them, without it is the prior without."""
    prior = MVDreamPrior.load(mvdream_folder)
    x_t, t, cameras = draw()
    text, poses = prior.encode_text(["a fox"] * VIEWS), cameras.extrinsics()
    seen, unseen = (prior.predict_noise(x_t, t, text, c) for c in (cameras, None))
    score = prior.tunable_score(4, 1e-2, Streams(0))
    torch.testing.assert_close(score.predict_noise(x_t, t, text, poses), seen, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(score.predict_noise(x_t, t, text, 0 * poses), unseen, rtol=1e-5, atol=1e-6)
    score.update(x_t, t, torch.randn_like(x_t), text, poses)
    assert not torch.allclose(score.predict_noise(x_t, t, text, poses), seen, atol=1e-4)
    assert torch.equal(prior.predict_noise(x_t, t, text, cameras), seen)
    score.close()


class Recorder:
    """A score that remembers what it was fitted on."""

    def update(self, latents: Tensor, t: Tensor, noise: Tensor, text: Tensor, condition: Tensor) -> Tensor:
        self.t, self.known = t, condition.any(-1)
        return torch.zeros(())


def test_the_views_of_a_set_are_fitted_at_one_timestep(prior: MVDreamPrior) -> None:
    step, score = make_step(prior, draw(2)[0], Streams(0), prompt="a", negative=""), Recorder()
    for _ in range(20):
        RenderScore(score, camera_dropout=0.5).fit(step)  # type: ignore[arg-type]
        for facts in (score.t, score.known):
            assert torch.equal(facts, facts[[0, 4]].repeat_interleave(VIEWS))
    assert score.t[0] != score.t[4]
