"""Eyes look at many assets at once: each image once, and what it scores does not depend on its company."""

from __future__ import annotations

import gc
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from psdbench.camera_config import CameraConfig
from psdbench.cameras import orbit
from psdbench.scorers import Scorer, clip
from psdbench.scorers.aesthetic import AestheticScorer
from psdbench.scorers.asset import AssetViews, eyes, score_views
from psdbench.scorers.clip import ClipScorer, load_tower
from psdbench.scorers.eye import Eye, look
from psdbench.scorers.hps import HpsScorer
from psdbench.scorers.image_reward import ImageRewardScorer
from psdbench.scorers.janus import Janus
from psdbench.scorers.pickscore import PickScorer
from psdbench.scorers.preprocess import Preprocess

PROMPTS = ("a red cube", "a blue sphere", "a yellow cone with a face", "a red cube")


@pytest.fixture
def scorers(clip_folder: Path, aesthetic_folder: Path, reward_folder: Path) -> list[Scorer]:
    """One of each kind that has an eye; all but ImageReward have the same."""
    kinds = (ClipScorer, HpsScorer, PickScorer, Janus)
    return [
        *(kind(kind.__name__, clip_folder) for kind in kinds),
        AestheticScorer("aesthetic", aesthetic_folder),
        ImageRewardScorer("image_reward", reward_folder),
    ]


def assets() -> list[AssetViews]:
    """Four assets of several sizes and numbers of views, among them one of a single pixel."""
    generator = torch.Generator().manual_seed(5)
    shapes = ((5, 64, 64), (1, 1, 1), (3, 40, 40), (9, 64, 64))
    return [
        AssetViews(prompt, torch.rand(n, 3, h, w, generator=generator), orbit(n, 15, CameraConfig()))
        for prompt, (n, h, w) in zip(PROMPTS, shapes, strict=True)
    ]


class Recorder(Eye):
    """An eye that notes how many images came, and sees their mean."""

    device = torch.device("cpu")

    def __init__(self, size: int) -> None:
        self.preprocess = Preprocess(size)
        self.prepared, self.encoded = list[int](), list[int]()

    def pixels(self, images: torch.Tensor) -> torch.Tensor:
        self.prepared.append(len(images))
        return super().pixels(images)

    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        self.encoded.append(len(pixels))
        return pixels.mean((2, 3))


@pytest.mark.parametrize("most", [9, 16, 64])
def test_scores_do_not_depend_on_the_company(scorers: list[Scorer], most: int) -> None:
    """To the bit, on a CPU."""
    alone, together = assets(), assets()
    look(eyes(scorers), together, most)
    for one, other in zip(alone, together, strict=True):
        for scorer in scorers:
            expected = score_views(scorer, one)
            assert score_views(scorer, other) == expected
            assert None not in expected


def test_scores_are_those_of_the_images_alone(scorers: list[Scorer]) -> None:
    for views in assets():
        for scorer in (scorer for scorer in scorers if not isinstance(scorer, Janus)):
            plain = scorer.score(views.images, [views.prompt] * len(views))
            assert score_views(scorer, views) == pytest.approx(plain.tolist(), abs=1e-6, rel=1e-5)


def test_images_are_prepared_once_for_all_eyes_that_want_the_same_and_seen_once() -> None:
    views, alike, other = assets(), [Recorder(8), Recorder(8)], Recorder(16)
    look([*alike, other, alike[0]], views)
    assert (alike[0].prepared, alike[1].prepared, other.prepared) == ([5, 1, 3, 9], [], [5, 1, 3, 9])
    assert [eye.encoded for eye in (*alike, other)] == [[5, 1, 3, 9]] * 3
    assert all(torch.equal(each.seen[alike[0]], each.seen[alike[1]]) for each in views)
    look([*alike, other], views)
    assert views[0].features(other).shape == (5, 3)
    assert [eye.encoded for eye in (*alike, other)] == [[5, 1, 3, 9]] * 3


def test_a_gpu_sees_all_at_once() -> None:
    eye, views = Recorder(8), assets()
    eye.pixels = lambda images: eye.preprocess(images)  # type: ignore[method-assign]  # the pixels stay here
    eye.device = torch.device("cuda")
    look([eye], views)
    assert eye.encoded == [18]
    assert [len(each.seen[eye]) for each in views] == [5, 1, 3, 9]


def test_no_more_images_at_once_than_the_bound() -> None:
    eye, stops = Recorder(8), list[int]()
    views = assets()
    look([eye], views, 4, between=lambda: stops.append(1))
    assert eye.encoded == [4, 1, 1, 3, 4, 4, 1]
    assert len(stops) == 3
    assert [len(each.seen[eye]) for each in views] == [5, 1, 3, 9]


def test_what_was_seen_belongs_to_the_images() -> None:
    eye, views = Recorder(8), assets()[0]
    views.features(eye)
    changed = replace(views, images=1 - views.images)
    assert changed.seen == {}
    assert not torch.equal(changed.features(eye), views.features(eye))


def test_equal_preprocessing_is_one_however_it_was_written() -> None:
    listed = Preprocess.of(Path(), {"preprocess": {"size": 8, "mean": [0.5] * 3, "std": [0.5] * 3}})
    assert hash(listed) == hash(Preprocess(8, (0.5,) * 3, (0.5,) * 3))


def test_a_tower_is_gone_with_its_last_scorer(clip_folder: Path) -> None:
    gc.collect()
    before = len(clip._towers)
    scorer = ClipScorer("clip_test", clip_folder)
    assert scorer.tower is load_tower(clip_folder)
    del scorer
    gc.collect()
    assert len(clip._towers) <= before


def test_the_latest_prompts_are_kept(clip_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clip, "TEXTS", 2)
    tower = clip.ClipTower(clip_folder)
    first = tower.texts(PROMPTS)
    assert list(tower._texts) == ["a blue sphere", "a yellow cone with a face"]
    tower.texts(["a blue sphere", "a pink cube"])
    assert list(tower._texts) == ["a blue sphere", "a pink cube"]
    torch.testing.assert_close(tower.texts(PROMPTS), first, atol=1e-6, rtol=0)


def test_janus_has_no_score_where_clip_does_not_read_the_view(clip_folder: Path) -> None:
    janus, views = Janus("janus_test", clip_folder), assets()[0]
    assert janus.score_asset(views).isfinite().all()
    assert janus.score_asset(replace(views, prompt="a red cube " * 20)).isnan().all()
