"""CLIP (arXiv 2103.00020) as a tower that scorers share, and the CLIP score."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from psdbench.scorers.folder import FolderScorer, fill, read_json
from psdbench.scorers.preprocess import Preprocess

if TYPE_CHECKING:
    from psdbench.cameras import Cameras


class ClipTower:
    """A frozen CLIPModel with its tokenizer and preprocessing: unit embeddings of images and of prompts."""

    def __init__(self, folder: Path, device: torch.device | str = "cpu") -> None:
        from transformers import CLIPConfig, CLIPModel

        config = CLIPConfig.from_dict(read_json(folder / "config.json"))
        self.device = torch.device(device)
        self.model = fill(CLIPModel(config).float(), folder / "model.safetensors").to(self.device)  # type: ignore[arg-type]
        self.tokenizer = load_tokenizer(folder)
        self.preprocess = Preprocess.from_folder(folder)
        self._texts: dict[str, Tensor] = {}

    def images(self, images: Tensor) -> Tensor:
        """Images [N, 3, H, W] in [0, 1] to unit embeddings [N, D]; differentiable."""
        pixels = self.preprocess(images.to(self.device, torch.float32))
        return functional.normalize(self.model.get_image_features(pixels).pooler_output, dim=-1)

    def texts(self, prompts: Sequence[str]) -> Tensor:
        """Prompts to unit embeddings [N, D]; each distinct prompt is encoded once."""
        new = [prompt for prompt in dict.fromkeys(prompts) if prompt not in self._texts]
        if new:
            with torch.no_grad():
                ids = self.tokenizer(new, padding="max_length", truncation=True, return_tensors="pt")
                features = self.model.get_text_features(ids["input_ids"].to(self.device)).pooler_output
            self._texts.update(zip(new, functional.normalize(features, dim=-1), strict=True))
        return torch.stack([self._texts[prompt] for prompt in prompts])

    def cosine(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """Cosine similarity of each image with its prompt, [N] in [-1, 1]."""
        return (self.images(images) * self.texts(prompts)).sum(-1)


def load_tower(folder: Path, device: torch.device | str = "cpu") -> ClipTower:
    """The tower of a folder, loaded once per process and device however many scorers use it."""
    return _cached_tower(Path(folder).resolve(), str(device))


@lru_cache(maxsize=8)
def _cached_tower(folder: Path, device: str) -> ClipTower:
    return ClipTower(folder, device)


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer of a folder, from local files only."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)


class ClipScorer(FolderScorer):
    """CLIP score: 100 times the cosine of image and prompt, not below 0 (CLIPScore, arXiv 2104.08718)."""

    @cached_property
    def tower(self) -> ClipTower:
        """The CLIP model, loaded on first use."""
        return load_tower(self.folder, self.device)

    def score(self, images: Tensor, prompts: Sequence[str], cameras: Cameras | None = None) -> Tensor:
        """Images [N, 3, H, W] in [0, 1] with their prompts to scores [N] in [0, 100]."""
        return (100 * self.tower.cosine(images, prompts)).clamp(min=0)
