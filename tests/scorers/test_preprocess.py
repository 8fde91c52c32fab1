"""Preprocessing: the numbers of PIL, geometry, gradients, files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from psdbench.errors import EnvironmentProblem
from psdbench.scorers.preprocess import Preprocess

PLAIN = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}


@pytest.mark.parametrize("shape", [(64, 64), (48, 100), (200, 60), (16, 16)])
def test_resizes_like_pil(shape: tuple[int, int]) -> None:
    height, width = shape
    pixels = np.random.default_rng(0).integers(
        60, 196, (height, width, 3), dtype=np.uint8
    )  # no overshoot to clip
    ours = Preprocess(32, **PLAIN)(torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255)[0]
    scale = min(height, width)
    size = (width * 32 // scale, height * 32 // scale)
    theirs = Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC)
    left, top = (size[0] - 32) // 2, (size[1] - 32) // 2
    theirs = np.asarray(theirs.crop((left, top, left + 32, top + 32))) / 255
    assert np.abs(ours.permute(1, 2, 0).numpy() - theirs).max() < 1.5 / 255


def test_agrees_with_the_image_processor_of_transformers(tmp_path: Path) -> None:
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    Preprocess(24).save(tmp_path)
    processor = CLIPImageProcessorPil.from_pretrained(tmp_path)
    image = Image.effect_noise((60, 40), 20).convert("RGB")
    theirs = torch.as_tensor(np.asarray(processor(image, return_tensors="np")["pixel_values"]))
    ours = Preprocess.from_folder(tmp_path)(torch.from_numpy(np.array(image)).permute(2, 0, 1)[None] / 255)
    assert (ours - theirs).abs().max() < 2.5 / 255 / 0.26


def test_same_size_is_only_normalised() -> None:
    images = torch.rand(2, 3, 16, 16)
    mean, std = torch.tensor([0.5, 0.4, 0.3]), torch.tensor([0.2, 0.3, 0.4])
    expected = (images - mean.view(1, 3, 1, 1)) / std.view(1, 3, 1, 1)
    assert torch.equal(Preprocess(16, mean.tolist(), std.tolist())(images), expected)


def test_padding_is_black_before_the_normalisation() -> None:
    square = Preprocess(32, (0.5,) * 3, (0.5,) * 3, fit="pad")(torch.ones(1, 3, 64, 32))
    assert torch.allclose(square[..., :8], torch.tensor(-1.0))
    assert torch.allclose(square[..., 8:24], torch.tensor(1.0), atol=1e-5)


def test_gradient_reaches_every_pixel() -> None:
    images = torch.ones(1, 3, 40, 40, requires_grad=True)  # white: the value where a clip would stop it
    Preprocess(32)(images).square().sum().backward()
    assert (images.grad != 0).all()


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_file_round_trip(tmp_path: Path, fit: str) -> None:
    made = Preprocess(32, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), "bilinear", fit)  # type: ignore[arg-type]
    made.save(tmp_path)
    assert Preprocess.from_folder(tmp_path) == made


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        "{}",
        '{"size": 8}',
        json.dumps({"size": 8, "image_mean": [0, 0, 0], "image_std": [0, 1, 1]}),
    ],
)
def test_bad_files_are_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "preprocessor_config.json").write_text(content)
    with pytest.raises(EnvironmentProblem, match="preprocessor_config"):
        Preprocess.from_folder(tmp_path)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblem, match="is missing"):
        Preprocess.from_folder(tmp_path)
