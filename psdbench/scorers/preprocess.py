"""From images in [0, 1] to the input of a vision tower: fitted to a square, then normalised."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from psdbench.errors import EnvironmentProblem

Filter = Literal["bicubic", "bilinear"]
Fit = Literal["crop", "pad", "stretch"]

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
FILE = "preprocessor_config.json"
_RESAMPLE: dict[Filter, int] = {"bilinear": 2, "bicubic": 3}  # PIL's numbers, as transformers writes them
_SIZE_KEYS: dict[Fit, str] = {"crop": "shortest_edge", "pad": "longest_edge"}


@dataclass(frozen=True)
class Preprocess:
    """Resize with antialiasing, fit to a square, normalise; differentiable, the same in training and use.

    `fit` says what happens to images that are not square: the centre is cropped, black is padded, or the
    image is stretched. Bicubic overshoot beyond [0, 1] is kept (PIL clips it when it rounds to bytes), so
    that no pixel loses its gradient.
    """

    size: int
    mean: Sequence[float] = CLIP_MEAN
    std: Sequence[float] = CLIP_STD
    resize: Filter = "bicubic"
    fit: Fit = "crop"

    def __call__(self, images: Tensor) -> Tensor:
        """Images [N, 3, H, W] in [0, 1] to normalised [N, 3, size, size]."""
        square = self._fit(images)
        mean, std = (square.new_tensor(list(v)).view(1, 3, 1, 1) for v in (self.mean, self.std))
        return (square - mean) / std

    def _fit(self, images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        if height == width or self.fit == "stretch":
            return self._resize(images, self.size, self.size)
        if self.fit == "crop":
            sides = [side * self.size // min(height, width) for side in (height, width)]
        else:
            sides = [max(1, round(side * self.size / max(height, width))) for side in (height, width)]
        spare = [self.size - side for side in sides]  # negative: to crop; positive: to pad
        top, left = (s // 2 for s in spare)
        resized = self._resize(images, *sides)
        return functional.pad(resized, (left, spare[1] - left, top, spare[0] - top))

    def _resize(self, images: Tensor, height: int, width: int) -> Tensor:
        if images.shape[-2:] == (height, width):
            return images
        return functional.interpolate(
            images, (height, width), mode=self.resize, align_corners=False, antialias=True
        )

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
