"""What a job has cost, in passes through networks."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Counters:
    """The work done so far, counted in images: a denoiser call on a batch of four counts four."""

    denoiser_forwards: int = 0
    denoiser_backwards: int = 0
    encodes: int = 0
    decodes: int = 0
    reward_forwards: int = 0
    reward_backwards: int = 0

    def add(self, what: str, images: int) -> None:
        """Raise one count; returns nothing, so a gradient hook can call it."""
        setattr(self, what, getattr(self, what) + images)
