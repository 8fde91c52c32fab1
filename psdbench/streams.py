"""Named random streams: one seed, many independent generators.

A method that draws more numbers than another must not shift anybody else's: the cameras of a job are the
same whether its method draws one noise a step or eight. So each purpose has a stream of its own, seeded by
the hash of the job's seed and the stream's name. All numbers are drawn on the CPU and then moved, which
makes them the same on every device.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor


class Streams:
    """Independent CPU generators by name, created when first asked for: ``streams["cameras"]``."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._generators: dict[str, torch.Generator] = {}

    def __getitem__(self, name: str) -> torch.Generator:
        if name not in self._generators:
            digest = hashlib.sha256(f"{self.seed}/{name}".encode()).digest()
            self._generators[name] = torch.Generator().manual_seed(int.from_bytes(digest[:8], "little"))
        return self._generators[name]

    def state_dict(self) -> dict[str, Tensor]:
        """The state of every stream used so far, uint8 tensors by name."""
        return {name: generator.get_state() for name, generator in sorted(self._generators.items())}

    def load_state_dict(self, states: dict[str, Tensor]) -> None:
        """Set the streams to stored states; a stream that is not among them starts anew."""
        self._generators.clear()
        for name, state in states.items():
            self[name].set_state(state.cpu())


def randn(
    shape: Sequence[int], generator: torch.Generator, device: torch.device | str | None = None
) -> Tensor:
    """Standard normal float32 numbers of a shape, drawn on the CPU and moved to the device."""
    return torch.randn(tuple(shape), generator=generator).to(device or "cpu")
