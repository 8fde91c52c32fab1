"""CLIP (arXiv 2103.00020) as a tower that scorers share, and the CLIP score."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import torch
from torch import Tensor
from torch.nn import functional

from psdbench.scorers.eye import Eye, EyeScorer
from psdbench.scorers.folder import blank, fill, read_json, settings_of, weights_path
from psdbench.scorers.layouts import LAYOUTS
from psdbench.scorers.preprocess import Preprocess
from psdbench.scorers.tokens import PromptReader

TEXTS = 4096
"""prompts whose embeddings a tower keeps, the latest: 16 MB where they have 1024 numbers"""


class ClipTower(Eye):
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

    def encode(self, pixels: Tensor) -> Tensor:
        """Preprocessed pixels [N, 3, S, S] to unit embeddings [N, D]; differentiable."""
        return functional.normalize(self.model.get_image_features(pixels).pooler_output, dim=-1)

    def reads(self, prompt: str) -> bool:
        """Whether it reads a prompt to its end."""
        return len(self.read.tokenizer(prompt, verbose=False).input_ids) <= self.read.limit

    def texts(self, prompts: Sequence[str]) -> Tensor:
        """Prompts to unit embeddings [N, D]; each distinct prompt is encoded once."""
        distinct = list(dict.fromkeys(prompts))
        known = {prompt: self._texts.pop(prompt) for prompt in distinct if prompt in self._texts}
        if new := [prompt for prompt in distinct if prompt not in known]:
            with torch.no_grad():
                ids = self.read(new)["input_ids"].to(self.device)
                # as with images: on a CPU the company in a batch would decide the last bits
                parts = ids.split(1) if self.device.type == "cpu" else [ids]
                features = torch.cat([self.model.get_text_features(part).pooler_output for part in parts])
            known.update(zip(new, functional.normalize(features, dim=-1), strict=True))
        self._texts.update(known)  # at the end: the first in the dictionary is the one used longest ago
        while len(self._texts) > TEXTS:
            del self._texts[next(iter(self._texts))]
        return torch.stack([known[prompt] for prompt in prompts])

    def cosine(self, seen: Tensor, prompts: Sequence[str]) -> Tensor:
        """Cosine similarity of image embeddings [N, D] with their prompts, [N] in [-1, 1]."""
        return (seen * self.texts(prompts)).sum(-1)


_towers: WeakValueDictionary[tuple[Path, str, str], ClipTower] = WeakValueDictionary()


def load_tower(
    folder: Path, device: torch.device | str = "cpu", given: Mapping[str, Any] | None = None
) -> ClipTower:
    """The tower of a folder, loaded once per device however many scorers use it, and gone with the last of them."""
    settings = settings_of(folder, given or {})
    key = Path(folder).resolve(), str(device), json.dumps(settings, sort_keys=True)
    tower = _towers.get(key)
    if tower is None:
        tower = _towers[key] = ClipTower(folder, device, settings)
    return tower


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


class TowerScorer(EyeScorer):
    """A scorer that compares the two embeddings of the CLIP in its folder."""

    @cached_property
    def tower(self) -> ClipTower:
        """The CLIP model, loaded on first use."""
        return load_tower(self.folder, self.device, self.given)

    @property
    def eye(self) -> Eye:
        """The image half of the tower."""
        return self.tower


class ClipScorer(TowerScorer):
    """CLIP score: 100 times the cosine of image and prompt, not below 0 (CLIPScore, arXiv 2104.08718)."""

    def rate(self, seen: Tensor, prompts: Sequence[str]) -> Tensor:
        """Image embeddings [N, D] with their prompts to scores [N] in [0, 100]."""
        return (100 * self.tower.cosine(seen, prompts)).clamp(min=0)
