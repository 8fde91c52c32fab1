"""Picture files to tensors, with one stated policy for everything that is not plain 8-bit RGB."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from psdbench.errors import CorruptResult

_SIXTEEN = ("I", "I;16", "I;16B", "I;16L", "I;16N")


def read_picture(path: Path) -> Tensor:
    """A picture file as [3, H, W] in [0, 1], float32; of an animation the first frame.

    Grey becomes three equal channels, 16 bits are scaled by 65535 and not clipped, and what is transparent is
    laid over white, the background of our own renders: dropping the alpha channel would bring out whatever
    colour, mostly black, lies under it. Raises CorruptResult that names a file that is missing, is cut off, is
    no picture or has no pixels.
    """
    try:
        with Image.open(path) as picture:
            picture.load()
            return torch.from_numpy(_pixels(picture)).permute(2, 0, 1).contiguous()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        remedy = "restore the picture, or run the command that made it again"
        raise CorruptResult(f"{path} cannot be read as a picture: {reason}", remedy) from error


def _pixels(picture: Image.Image) -> np.ndarray:
    """[H, W, 3] in [0, 1], float32."""
    if picture.mode in _SIXTEEN:
        grey = np.asarray(picture, dtype=np.float32) / 65535
        if grey.min() < 0 or grey.max() > 1:
            raise ValueError("its grey values do not fit into 16 bits")
        return np.repeat(grey[..., None], 3, axis=2)
    if picture.mode == "F":
        raise ValueError("it holds floating-point values of no stated range; save it with 8 or 16 bits")
    if "A" in picture.mode or "transparency" in picture.info:
        layer = picture.convert("RGBA")
        white = Image.new("RGBA", layer.size, "white")
        picture = Image.alpha_composite(white, layer)
    return np.asarray(picture.convert("RGB"), dtype=np.float32) / 255
