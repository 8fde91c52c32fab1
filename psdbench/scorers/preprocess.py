"""From images in [0, 1] to the input of a vision tower: fitted to a square, then normalised."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from psdbench.errors import EnvironmentProblem, UsageError

Filter = Literal["bicubic", "bilinear"]
Fit = Literal["crop", "pad", "stretch"]

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
MAX_RATIO = 100
"""longest allowed image, as a multiple of its shorter side: the resize to a square input would fill the memory"""
FILE = "preprocessor_config.json"
_RESAMPLE: dict[Filter, int] = {"bilinear": 2, "bicubic": 3}  # PIL's numbers, as transformers writes them
_PIL = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
_SIZE_KEYS: dict[Fit, str] = {"crop": "shortest_edge", "pad": "longest_edge"}


@dataclass(frozen=True)
class Preprocess:
    """Resize with antialiasing, fit to a square, normalise; differentiable, the same in training and use.

    `fit` says what happens to images that are not square: the centre is cropped, black is padded, or the
    image is stretched. `crop` says where an odd remainder goes: rounded down as in transformers, or to the
    nearest even as in torchvision.

    `engine` says what resizes. "tensor" works on floating-point numbers; bicubic overshoot beyond [0, 1] is
    kept, so that no pixel loses its gradient. "pil" gives, to the bit, what a package computes that hands
    pictures to PIL: values are rounded to bytes before, between and after the two passes and clipped to
    [0, 255]. It has no gradient, so where the images ask for one the tensor engine takes its place. The two
    are equal but for the rounding, at most 1.5/255, where nothing overshoots; on white noise, the worst there
    is, they differ by up to 0.13 and by 0.002 on average (`tests/scorers/test_preprocess.py`).
    """

    size: int
    mean: tuple[float, ...] = CLIP_MEAN
    std: tuple[float, ...] = CLIP_STD
    resize: Filter = "bicubic"
    fit: Fit = "crop"
    engine: Literal["tensor", "pil"] = "tensor"
    crop: Literal["down", "even"] = "down"

    def __post_init__(self) -> None:
        for name in ("mean", "std"):  # lists, as JSON has them, would make equal ones hard to find
            object.__setattr__(self, name, tuple(getattr(self, name)))

    def __call__(self, images: Tensor) -> Tensor:
        """Images [N, 3, H, W] in [0, 1] to normalised [N, 3, size, size].

        Raises UsageError for other shapes and for images more than 100 times as long as they are wide.
        """
        self._check(images)
        exact = self.engine == "pil" and not (images.requires_grad and torch.is_grad_enabled())
        square = self._by_pil(images) if exact else self._by_tensor(images)
        mean, std = (square.new_tensor(v).view(1, 3, 1, 1) for v in (self.mean, self.std))
        return (square - mean) / std

    @staticmethod
    def _check(images: Tensor) -> None:
        if images.ndim != 4 or images.shape[1] != 3 or 0 in images.shape:
            shape = "x".join(map(str, images.shape))
            raise UsageError(f"images of shape {shape} cannot be scored", "give [N, 3, H, W]: RGB in [0, 1]")
        height, width = images.shape[-2:]
        if max(height, width) > MAX_RATIO * min(height, width):
            raise UsageError(f"an image of {width} x {height} pixels cannot be scored", "crop it first")

    def _sides(self, height: int, width: int) -> tuple[int, int]:
        """Height and width after the resize."""
        if height == width or self.fit == "stretch":
            return self.size, self.size
        if self.fit == "crop":
            return height * self.size // min(height, width), width * self.size // min(height, width)
        scale = self.size / max(height, width)
        return max(1, round(height * scale)), max(1, round(width * scale))

    def _offset(self, side: int) -> int:
        """Where the square begins in a resized side (negative: where the side begins in the square)."""
        if side < self.size:
            return -((self.size - side) // 2)
        return round((side - self.size) / 2) if self.crop == "even" else (side - self.size) // 2

    def _by_tensor(self, images: Tensor) -> Tensor:
        sides = self._sides(*images.shape[-2:])
        if images.shape[-2:] != sides:
            images = functional.interpolate(
                images, sides, mode=self.resize, align_corners=False, antialias=True
            )
        top, left = map(self._offset, sides)
        bottom, right = self.size - sides[0] + top, self.size - sides[1] + left
        return functional.pad(images, (-left, right, -top, bottom))

    def _by_pil(self, images: Tensor) -> Tensor:
        height, width = self._sides(*images.shape[-2:])
        top, left = self._offset(height), self._offset(width)
        pixels = images.detach().mul(255).round().clamp(0, 255).byte().permute(0, 2, 3, 1).cpu().numpy()
        squares = [
            Image.fromarray(each)
            .resize((width, height), _PIL[self.resize])
            .crop((left, top, left + self.size, top + self.size))
            for each in pixels
        ]
        stacked = torch.from_numpy(np.stack([np.asarray(square) for square in squares]))
        return stacked.permute(0, 3, 1, 2).to(images.device).to(torch.float32) / 255

    @classmethod
    def of(cls, folder: Path, settings: Mapping[str, Any]) -> Preprocess:
        """That of a scorer's settings where they hold one, else that of its folder."""
        given = settings.get("preprocess")
        if given is None:
            return cls.from_folder(folder)
        try:
            return cls(**given)
        except TypeError as error:
            raise EnvironmentProblem(
                f"'preprocess' in {folder / 'score.json'} cannot be used: {error}", "correct it"
            ) from error

    @classmethod
    def from_folder(cls, folder: Path) -> Preprocess:
        """Read ``preprocessor_config.json`` of transformers; EnvironmentProblem if it is not one."""
        path = Path(folder) / FILE
        try:
            return cls.from_config(json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            raise EnvironmentProblem(f"{path} is missing", "restore the folder of this scorer") from None
        except (KeyError, TypeError, ValueError) as error:
            raise EnvironmentProblem(
                f"{path} is not a preprocessor configuration ({type(error).__name__}: {error})",
                "restore the file as it was published with the weights",
            ) from error

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Preprocess:
        """Read its fields; `size` is a number, {shortest_edge}, {longest_edge} or {height, width}."""
        size = config["size"]
        if isinstance(size, int):
            size = {"shortest_edge": size}
        mean, std = _normalisation(config)
        resample = config.get("resample", _RESAMPLE["bicubic"])
        names = {number: name for name, number in _RESAMPLE.items()}
        for fit, key in _SIZE_KEYS.items():
            if key in size:
                return cls(int(size[key]), mean, std, names[resample], fit)
        if size["height"] != size["width"]:
            raise ValueError("only square inputs are supported")
        return cls(int(size["height"]), mean, std, names[resample], "stretch")

    def save(self, folder: Path) -> None:
        """Write ``preprocessor_config.json`` in the fields of `transformers`' CLIPImageProcessor."""
        key = _SIZE_KEYS.get(self.fit)
        square = {"height": self.size, "width": self.size}
        config = {
            "image_processor_type": "CLIPImageProcessor",
            "do_resize": True,
            "size": {key: self.size} if key else square,
            "resample": _RESAMPLE[self.resize],
            "do_center_crop": self.fit == "crop",
            "crop_size": square,
            "do_rescale": True,
            "do_normalize": True,
            "image_mean": list(self.mean),
            "image_std": list(self.std),
        }
        (Path(folder) / FILE).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _normalisation(config: dict[str, Any]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    mean, std = tuple(map(float, config["image_mean"])), tuple(map(float, config["image_std"]))
    if len(mean) != 3 or len(std) != 3 or not torch.tensor(std).gt(0).all():
        raise ValueError("image_mean and image_std must hold three numbers, the deviations positive")
    return mean, std
