"""What a network sees in images, apart from what a scorer makes of it.

Looking is the costly part, it does not depend on the prompt, and several scorers look with the same network: CLIP
ViT-L/14 serves the CLIP score, the aesthetic head and `janus`. So a scorer with weights is an eye and a rating, and
the eyes look at many images at once, of several assets, each image once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from psdbench.batches import IMAGES, in_batches
from psdbench.scorers.folder import FolderScorer
from psdbench.scorers.onednn import LinearByOneDnn

if TYPE_CHECKING:
    from psdbench.cameras import Cameras
    from psdbench.scorers.asset import AssetViews
    from psdbench.scorers.preprocess import Preprocess


class Eye(ABC):
    """A frozen network that looks at images, on its device and with the preprocessing that it wants."""

    device: torch.device
    preprocess: Preprocess

    @abstractmethod
    def encode(self, pixels: Tensor) -> Tensor:
        """Preprocessed pixels [N, 3, S, S] to features [N, …], each image for itself; differentiable."""

    def pixels(self, images: Tensor) -> Tensor:
        """Images [N, 3, H, W] in [0, 1] to what the network takes, [N, 3, S, S], on its device."""
        return self.preprocess(images.to(self.device, torch.float32))

    def see(self, images: Tensor) -> Tensor:
        """Images [N, 3, H, W] in [0, 1] to features [N, …]; differentiable."""
        return self.encode(self.pixels(images))


class EyeScorer(FolderScorer, ABC):
    """A scorer with weights: what its eye sees, rated with the prompt."""

    @property
    @abstractmethod
    def eye(self) -> Eye:
        """The network that looks, loaded on first use; scorers of the same network have the same one."""

    @abstractmethod
    def rate(self, seen: Tensor, prompts: Sequence[str]) -> Tensor:
        """Features [N, …] of the eye with a prompt each to scores [N] in float32; differentiable."""

    def score(self, images: Tensor, prompts: Sequence[str], cameras: Cameras | None = None) -> Tensor:
        """Images [N, 3, H, W] in [0, 1] with their prompts to scores [N], in the range that `rate` states."""
        return self.rate(self.eye.see(images), prompts)


@torch.no_grad()
def look(
    eyes: Iterable[Eye],
    assets: Sequence[AssetViews],
    most: int = IMAGES,
    between: Callable[[], None] = lambda: None,
) -> None:
    """Let eyes see the views of assets that they have not seen yet; what they saw is then in `asset.seen`.

    At most `most` images at a time are preprocessed, once for all eyes that want the same, and go through a
    network together. `between` is called before each such batch, and may raise in order to stop.
    """
    alike: dict[tuple[Preprocess, torch.device], list[Eye]] = {}
    for eye in dict.fromkeys(eyes):
        alike.setdefault((eye.preprocess, eye.device), []).append(eye)
    for group in alike.values():
        fresh = [asset for asset in assets if any(eye not in asset.seen for eye in group)]
        for batch in in_batches(fresh, len, most):
            pixels = torch.cat([group[0].pixels(asset.images) for asset in batch])
            for eye in group:
                between()
                for asset, part in zip(batch, _encode(eye, pixels, list(map(len, batch)), most), strict=True):
                    asset.seen[eye] = part


def _encode(eye: Eye, pixels: Tensor, sizes: list[int], most: int) -> Sequence[Tensor]:
    """The features of assets of so many images each.

    On a CPU each asset by itself: a matrix product of another size adds in another order, and a score must have the
    same bits whatever else is scored. On a GPU, where filling it pays and bits differ anyhow, all together.
    """
    if eye.device.type != "cpu":
        return torch.cat([eye.encode(part) for part in pixels.split(most)]).split(sizes)
    with LinearByOneDnn():
        return [torch.cat([eye.encode(part) for part in own.split(most)]) for own in pixels.split(sizes)]
