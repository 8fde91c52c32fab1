"""Picture files of every kind to what is scored."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from psdbench.errors import CorruptResult
from psdbench.scorers.pictures import read_picture


def saved(picture: Image.Image, folder: Path, suffix: str = ".png", **options: object) -> Path:
    path = folder / f"picture{suffix}"
    picture.save(path, **options)
    return path


def test_bytes_are_exact(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    read = read_picture(saved(Image.fromarray(pixels), tmp_path))
    assert read.shape == (3, 5, 7)
    assert torch.equal(read, torch.from_numpy(pixels).permute(2, 0, 1).float() / 255)


def test_what_is_transparent_is_white_and_not_what_lies_under_it(tmp_path: Path) -> None:
    black = saved(Image.new("RGBA", (4, 4), (0, 0, 0, 0)), tmp_path)
    assert torch.equal(read_picture(black), torch.ones(3, 4, 4))
    half = saved(Image.new("LA", (4, 4), (0, 51)), tmp_path)
    assert torch.allclose(read_picture(half), torch.full((3, 4, 4), 0.8), atol=1 / 255)


def test_a_transparent_colour_of_a_palette_is_white(tmp_path: Path) -> None:
    picture = Image.new("P", (4, 4), 0)
    picture.putpalette([10, 20, 30, 255, 0, 0])
    picture.putpixel((0, 0), 1)
    read = read_picture(saved(picture, tmp_path, transparency=0))
    assert read[:, 0, 0].tolist() == [1, 0, 0]
    assert read[:, 1:].eq(1).all()


def test_sixteen_bits_are_scaled_and_not_clipped(tmp_path: Path) -> None:
    grey = np.array([[0, 300, 32768, 65535]], dtype=np.uint16)
    read = read_picture(saved(Image.fromarray(grey), tmp_path))
    assert read.shape == (3, 1, 4)
    assert torch.allclose(read[0, 0], torch.tensor(grey[0].astype(np.float32)) / 65535)


@pytest.mark.parametrize("mode", ["L", "1", "CMYK", "YCbCr"])
def test_other_modes_become_rgb(mode: str, tmp_path: Path) -> None:
    picture = Image.new("RGB", (3, 2), "white").convert(mode)
    suffix = ".png" if mode in ("L", "1") else ".jpg"
    assert torch.allclose(read_picture(saved(picture, tmp_path, suffix)), torch.ones(3, 2, 3), atol=2 / 255)


def test_one_pixel_is_a_picture(tmp_path: Path) -> None:
    assert read_picture(saved(Image.new("RGB", (1, 1), "red"), tmp_path)).flatten().tolist() == [1, 0, 0]


@pytest.mark.parametrize("fault", ["cut", "empty", "text", "missing", "float"])
def test_what_cannot_be_read_is_named(fault: str, tmp_path: Path) -> None:
    path = saved(Image.effect_noise((40, 40), 50), tmp_path)
    content = path.read_bytes()
    if fault == "missing":
        path.unlink()
    elif fault == "float":
        path = saved(Image.new("F", (4, 4)), tmp_path, ".tiff")
    else:
        path.write_bytes({"cut": content[:200], "empty": b"", "text": b"<html>"}[fault])
    with pytest.raises(CorruptResult) as caught:
        read_picture(path)
    assert str(path) in str(caught.value)
