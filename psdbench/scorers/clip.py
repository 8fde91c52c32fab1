"""CLIP (arXiv 2103.00020) as a tower that scorers share, and the CLIP score."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from psdbench.scorers.folder import FolderScorer, blank, fill, read_json, settings_of, weights_path
from psdbench.scorers.layouts import LAYOUTS
from psdbench.scorers.preprocess import Preprocess
from psdbench.scorers.tokens import PromptReader

if TYPE_CHECKING:
    from psdbench.cameras import Cameras


class ClipTower:
    """A frozen CLIPModel with its tokenizer and preprocessing: unit embeddings of images and of prompts.

    `given` are the settings of an official checkpoint, as of a FolderScorer.
    """

    def __init__(
        self, folder: Path, device: torch.device | str = "cpu", given: Mapping[str, Any] | None = None
    ) -> None:
        from transformers import CLIPConfig, CLIPModel

        settings = settings_of(folder, given or {})
        config = CLIPConfig.from_dict(settings.get("config") or read_json(folder / "config.json"))
        layout = LAYOUTS[settings.get("layout", "plain")]
        model = fill(blank(lambda: CLIPModel(config).float()), weights_path(folder, settings), layout)
        self.device = torch.device(device)
        self.model = model.to(self.device)  # type: ignore[arg-type]
        limit: int = self.model.text_model.embeddings.position_embedding.num_embeddings
        self.read = PromptReader(load_tokenizer(folder), limit, folder.name, settings.get("clean", False))
        self.preprocess = Preprocess.of(folder, settings)
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
                ids = self.read(new)["input_ids"].to(self.device)
                features = self.model.get_text_features(ids).pooler_output
            self._texts.update(zip(new, functional.normalize(features, dim=-1), strict=True))
        return torch.stack([self._texts[prompt] for prompt in prompts])

    def cosine(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """Cosine similarity of each image with its prompt, [N] in [-1, 1]."""
        return (self.images(images) * self.texts(prompts)).sum(-1)


def load_tower(
    folder: Path, device: torch.device | str = "cpu", given: Mapping[str, Any] | None = None
) -> ClipTower:
    """The tower of a folder, loaded once per process and device however many scorers use it."""
    return _cached_tower(Path(folder).resolve(), str(device), json.dumps(dict(given or {}), sort_keys=True))


@lru_cache(maxsize=8)
def _cached_tower(folder: Path, device: str, given: str) -> ClipTower:
    return ClipTower(folder, device, json.loads(given))


def load_tokenizer(folder: Path, kind: str = "CLIPTokenizer") -> Any:
    """The tokenizer of a folder, from local files only; EnvironmentProblem if they are not there or broken."""
    import transformers

    from psdbench.errors import EnvironmentProblem
    from psdbench.scorers.folder import RESTORE, missing

    names = ("tokenizer.json", "vocab.json", "vocab.txt")
    if not any((folder / name).is_file() for name in names):
        raise missing(folder / names[0])
    try:
        return getattr(transformers, kind).from_pretrained(folder, local_files_only=True)
    except Exception as error:  # the parser of tokenizer.json raises bare Exceptions
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise EnvironmentProblem(f"the tokenizer in {folder} is damaged: {reason}", RESTORE) from error


def release_towers() -> None:
    """Forget the loaded towers, so that what no scorer holds any more leaves the memory."""
    _cached_tower.cache_clear()


class TowerScorer(FolderScorer):
    """A scorer that compares the two embeddings of the CLIP in its folder."""

    @cached_property
    def tower(self) -> ClipTower:
        """The CLIP model, loaded on first use."""
        return load_tower(self.folder, self.device, self.given)


class ClipScorer(TowerScorer):
    """CLIP score: 100 times the cosine of image and prompt, not below 0 (CLIPScore, arXiv 2104.08718)."""

    def score(self, images: Tensor, prompts: Sequence[str], cameras: Cameras | None = None) -> Tensor:
        """Images [N, 3, H, W] in [0, 1] with their prompts to scores [N] in [0, 100]."""
        return (100 * self.tower.cosine(images, prompts)).clamp(min=0)
