"""A run whose methods differ by a known amount."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from browsing import browser, tab
from made_up_runs import RunMaker, write_json
from PIL import Image, ImageFilter

from psdbench.camera_config import CameraConfig
from psdbench.cameras import evaluation_rig
from psdbench.store.run import open_run
from psdbench.world.known import known_views

__all__ = ["browser", "tab"]

BLUR = {"best": 0.0, "good": 1.2, "poor": 2.6}
"""radius in pixels by which the views of each method are blurred: their known order"""
WORLD_PROMPTS = ("a red cube", "a blue sphere", "a green cone", "a yellow cylinder")


@pytest.fixture
def blurred_run(tmp_path: Path) -> Path:
    """Scenes of the world, more and more out of focus by method, with scores that know and that do not."""
    maker = RunMaker(open_run(tmp_path / "results" / "blurred"))
    rig = evaluation_rig(CameraConfig())
    rng = np.random.default_rng(0)
    for prompt in WORLD_PROMPTS:
        views = known_views(prompt, rig).rgb.clamp(0, 1).mul(255).byte().permute(0, 2, 3, 1).numpy()
        for method, radius in BLUR.items():
            for seed in (0, 1):
                folder = maker.finished(method, prompt, seed)
                for index, view in enumerate(views):
                    picture = Image.fromarray(view).filter(ImageFilter.GaussianBlur(radius))
                    picture.save(folder / "renders" / f"view_{index:02d}.png")
                knows = [-radius] * 9
                scores = {"clip_shapes": knows, "floaters": rng.random(9).tolist()}
                entries = {
                    name: {"sha256": name[0] * 64, "higher_is_better": name != "floaters", "values": values}
                    for name, values in scores.items()
                }
                write_json(folder / "scores.json", entries)
                maker.commit(folder, "finished")
    return maker.run


@pytest.fixture
def flat_run(tmp_path: Path) -> Callable[..., RunMaker]:
    """A small made-up run of any methods."""

    def make(methods: tuple[str, ...], prompts: tuple[str, ...], seeds: tuple[int, ...]) -> RunMaker:
        maker = RunMaker(open_run(tmp_path / "run"))
        for method in methods:
            for prompt in prompts:
                for seed in seeds:
                    maker.finished(method, prompt, seed)
        return maker

    return make
