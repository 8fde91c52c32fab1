"""Work in batches of bounded size, so that what is done together fits into memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")
IMAGES = 64
"""images that are in memory together and go through a network together: of 512 pixels, 200 MB"""


def in_batches(
    items: Iterable[Item], size: Callable[[Item], int], most: int = IMAGES
) -> Iterator[list[Item]]:
    """Consecutive items whose sizes add up to at most `most`; one that is larger by itself stands alone."""
    batch: list[Item] = []
    total = 0
    for item in items:
        if batch and total + size(item) > most:
            yield batch
            batch, total = [], 0
        batch.append(item)
        total += size(item)
    if batch:
        yield batch
