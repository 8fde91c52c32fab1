"""The pictures of a parity check: many sizes and shapes, contents from smooth to the hardest."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

Maker = Callable[[int, int], np.ndarray]
"""height, width to bytes [H, W, 3] or, grey, [H, W]"""


def photograph(height: int, width: int) -> np.ndarray:
    """Noise with the spectrum of photographs, power ~ 1/f² (Field 1987), the channels correlated as theirs."""
    rng = np.random.default_rng((height, width))
    fy, fx = np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None]
    frequency = np.maximum(np.hypot(fy, fx), 1 / max(height, width))
    noise = np.fft.fft2(rng.standard_normal((3, height, width))) / frequency
    grey, *tints = np.fft.ifft2(noise).real
    layers = np.stack([grey, *(grey + 0.4 * tint for tint in tints)], -1)
    layers = (layers - layers.mean((0, 1))) / layers.std((0, 1))
    return (128 + 56 * layers).clip(0, 255).astype(np.uint8)


def white_noise(height: int, width: int) -> np.ndarray:
    """Independent bytes: the worst case of every resampling filter."""
    return np.random.default_rng((width, height)).integers(0, 256, (height, width, 3), dtype=np.uint8)


def gradient(height: int, width: int) -> np.ndarray:
    """A smooth ramp in every channel."""
    y, x = np.mgrid[0:height, 0:width] / (max(height, width) - 1)
    return (255 * np.stack([x, y, (x + y) / 2], -1)).astype(np.uint8)


def stripes(height: int, width: int) -> np.ndarray:
    """Black and white bars of three pixels: edges where bicubic interpolation overshoots."""
    y, x = np.mgrid[0:height, 0:width]
    return np.repeat((255 * ((x + y) // 3 % 2)).astype(np.uint8)[..., None], 3, axis=2)


def flat(value: int, height: int, width: int) -> np.ndarray:
    """One value everywhere."""
    return np.full((height, width, 3), value, np.uint8)


def grey(height: int, width: int) -> np.ndarray:
    """A photograph of one channel; the file says so."""
    return photograph(height, width)[..., 1]


def render(prompt: str, view: int, height: int, width: int) -> np.ndarray:
    """What a prompt of the embedded world names, from one of the evaluation cameras; square."""
    from psdbench.camera_config import CameraConfig
    from psdbench.cameras import evaluation_rig
    from psdbench.world.scenes import render_prompt

    cameras = evaluation_rig(CameraConfig())
    image = render_prompt(prompt, cameras[view : view + 1], width)[0]
    return (image.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()


PICTURES: dict[str, tuple[Maker, int, int]] = {
    "photo-square": (photograph, 512, 512),
    "photo-input-size": (photograph, 224, 224),
    "photo-wide": (photograph, 427, 640),
    "photo-tall": (photograph, 640, 427),
    "photo-odd": (photograph, 331, 225),
    "photo-remainder-of-three": (photograph, 448, 454),
    "photo-panorama": (photograph, 250, 1000),
    "photo-small": (photograph, 96, 128),
    "photo-grey": (grey, 240, 320),
    "noise-square": (white_noise, 256, 256),
    "noise-wide": (white_noise, 300, 401),
    "gradient": (gradient, 768, 768),
    "stripes": (stripes, 200, 300),
    "white": (partial(flat, 255), 256, 256),
    "speck": (white_noise, 9, 13),
    "render-64": (partial(render, "a yellow cone with a face", 0), 64, 64),
    "render-256": (partial(render, "a red cube", 1), 256, 256),
    "render-512": (partial(render, "a blue sphere on top of a yellow cylinder", 3), 512, 512),
}
"""by name. None is transparent (the packages drop the alpha channel, we lay it over white) and none that is not
square has a longest side of 224, which hpsv2 forgets to pad and then refuses."""


def write_pictures(folder: Path) -> list[Path]:
    """All pictures as PNG files; the same bytes every time."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, (make, height, width) in PICTURES.items():
        paths.append(folder / f"{name}.png")
        Image.fromarray(make(height, width)).save(paths[-1])
    return paths
