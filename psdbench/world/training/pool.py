"""The pool of training pictures, drawn once and shared by all stages."""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from psdbench.world.data import camera_rows, chunk_seeds, draw_samples

SIZE = 30_000


@dataclass(frozen=True)
class Pool:
    """Training pictures [N, 3, 64, 64] uint8, captions, and the four camera numbers of each [N, 4]."""

    pixels: Tensor
    captions: list[str]
    cameras: Tensor

    @classmethod
    def load(cls, work: Path) -> Pool:
        """Read the pool that `draw` wrote."""
        tensors = load_file(work / "pool.safetensors")
        return cls(tensors["pixels"], json.loads((work / "pool.json").read_text()), tensors["cameras"])

    def indices(self, count: int, generator: torch.Generator) -> Tensor:
        """`count` random positions."""
        return torch.randint(0, len(self.captions), (count,), generator=generator)

    def images(self, count: int, generator: torch.Generator, device: str = "cpu") -> Tensor:
        """`count` random pictures in [0, 1]."""
        return self.pixels[self.indices(count, generator)].to(device).float() / 255

    def sample(self, count: int, seed: int) -> Tensor:
        """`count` pictures in [0, 1] that depend on the seed alone."""
        return self.images(count, torch.Generator().manual_seed(seed))


def draw(work: Path, seed: int, size: int = SIZE) -> None:
    """Draw the pool into `work`, unless it is there."""
    if (work / "pool.json").exists():
        return
    pixels, captions, cameras = [], [], []
    # one process and one thread per core: rendering is many small tensor operations
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(os.cpu_count(), context, torch.set_num_threads, (1,)) as workers:
        for part in workers.map(draw_samples, *zip(*chunk_seeds(size, seed), strict=True)):
            pixels.append(part.images)
            captions += part.captions
            cameras.append(camera_rows(part.cameras))
            print(f"pool         {len(captions)}/{size} pictures", file=sys.stderr, flush=True)
    tensors = {"pixels": torch.cat(pixels).contiguous(), "cameras": torch.cat(cameras).contiguous()}
    save_file(tensors, work / "pool.safetensors")
    temporary = work / "pool.json.tmp"
    temporary.write_text(json.dumps(captions))
    os.replace(temporary, work / "pool.json")
