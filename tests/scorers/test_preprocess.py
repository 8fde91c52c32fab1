"""Preprocessing: the numbers of PIL, geometry, gradients, files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from psdbench.errors import EnvironmentProblem, UsageError
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


SHAPES = [(224, 224), (512, 512), (64, 100), (331, 225), (225, 449), (1, 1), (7, 300)]


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)


def tensor_of(pixels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("crop", ["even", "down"])
def test_the_pil_engine_is_pil_bit_by_bit(shape: tuple[int, int], crop: str) -> None:
    height, width = shape
    pixels = noise(height, width)
    picture = Image.fromarray(pixels)
    if height < width:  # torchvision's Resize(32): the shorter side to 32, the longer one rounded down
        picture = picture.resize((int(32 * width / height), 32), Image.Resampling.BICUBIC)
    else:
        picture = picture.resize((32, int(32 * height / width)), Image.Resampling.BICUBIC)
    spare = picture.width - 32, picture.height - 32
    left, top = (round(s / 2) if crop == "even" else s // 2 for s in spare)
    theirs = np.asarray(picture.crop((left, top, left + 32, top + 32)), dtype=np.float32) / 255
    ours = Preprocess(32, **PLAIN, engine="pil", crop=crop)(tensor_of(pixels))  # type: ignore[arg-type]
    assert torch.equal(ours[0].permute(1, 2, 0), torch.from_numpy(theirs))


def test_an_odd_remainder_goes_where_the_package_puts_it() -> None:
    row = torch.arange(35.0).expand(1, 3, 32, 35) / 255
    for crop, first in (("even", 2), ("down", 1)):  # 3 columns too many: torchvision rounds 1.5 up, to even
        for engine in ("pil", "tensor"):
            cut = Preprocess(32, **PLAIN, engine=engine, crop=crop)(row)  # type: ignore[arg-type]
            assert round(float(cut[0, 0, 0, 0]) * 255) == first


@pytest.mark.parametrize("shape", [(48, 80), (80, 49), (33, 32), (300, 7), (1, 1)])
def test_hps_pads_what_it_resized(shape: tuple[int, int]) -> None:
    """hpsv2's own order: scale = 32 / longest side, sides rounded, half the remainder before, zeros."""
    image = tensor_of(noise(*shape))
    scale = 32 / float(max(shape))
    sides = [max(1, round(side * scale)) for side in shape]
    resized = torch.nn.functional.interpolate(image, sides, mode="bicubic", antialias=True)
    above, before = (32 - sides[0]) // 2, (32 - sides[1]) // 2
    expected = torch.zeros(1, 3, 32, 32)
    expected[..., above : above + sides[0], before : before + sides[1]] = resized
    assert torch.equal(Preprocess(32, **PLAIN, fit="pad")(image), expected)


def test_how_far_the_differentiable_variant_is_from_pil() -> None:
    exact, soft = Preprocess(224, **PLAIN, engine="pil"), Preprocess(224, **PLAIN)
    y, x = np.mgrid[0:512, 0:512] / 511
    smooth = np.stack([0.2 + 0.5 * x, 0.3 + 0.4 * y, 0.5 + 0.3 * np.sin(6 * x * y)], -1)
    flat = tensor_of((smooth * 255).astype(np.uint8))
    assert (exact(flat) - soft(flat)).abs().max() < 1.5 / 255
    for side in (64, 256):
        worst = tensor_of(noise(side, side))
        difference = (exact(worst) - soft(worst)).abs()
        assert 1.5 / 255 < difference.max() < 0.13
        assert difference.mean() < 0.002


def test_images_that_ask_for_a_gradient_get_one() -> None:
    pil = Preprocess(32, engine="pil")
    images = tensor_of(noise(64, 64)).requires_grad_()
    pil(images).square().sum().backward()
    assert images.grad.abs().sum() > 0
    with torch.no_grad():
        assert torch.equal(pil(images), pil(images.detach()))


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 1, 32, 32), (1, 4, 32, 32), (1, 3, 0, 5), (1, 3, 3, 500)])
def test_what_is_no_rgb_image_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match="cannot be scored"):
        Preprocess(32)(torch.zeros(shape))
