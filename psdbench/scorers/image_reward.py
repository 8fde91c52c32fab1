"""ImageReward (arXiv 2304.05977): BLIP reads the prompt with the image before it; a head scores [CLS]."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from psdbench.errors import EnvironmentProblem
from psdbench.scorers.clip import load_tokenizer
from psdbench.scorers.folder import FolderScorer, fill, read_json
from psdbench.scorers.head import ScoreHead
from psdbench.scorers.preprocess import Preprocess

if TYPE_CHECKING:
    from psdbench.cameras import Cameras

MAX_LENGTH = 35
"""tokens of a prompt that ImageReward reads"""


class BlipReward(nn.Module):
    """Vision tower, text tower with cross-attention to it, and score head.

    `config` holds `vision_config` and `text_config` in the fields of transformers' BLIP, `mlp` (the widths of
    the head, from the text width to 1), and `mean` and `std` of the raw score over its training data, which
    `forward` removes. Keys of the weights: ``visual_encoder.``, ``text_encoder.`` and ``mlp.``.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        from transformers import BlipTextConfig, BlipTextModel, BlipVisionConfig, BlipVisionModel

        super().__init__()
        self.config = copy.deepcopy(config)
        # transformers' default of 1e-10 starts a new vision tower at zero, where it does not train
        vision = BlipVisionConfig(**{"initializer_range": 0.02, **config["vision_config"]})
        # `is_decoder` here only builds the cross-attention; `forward` switches the causal mask off
        text = {**config["text_config"], "is_decoder": True, "encoder_hidden_size": vision.hidden_size}
        self.visual_encoder = BlipVisionModel(vision)
        self.text_encoder = BlipTextModel(BlipTextConfig(**text), add_pooling_layer=False)
        self.mlp = ScoreHead(config["mlp"])

    def forward(self, pixels: Tensor, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Preprocessed pixels [N, 3, S, S] and tokens [N, L] to standardised scores [N]."""
        seen = self.visual_encoder(pixels).last_hidden_state
        read = self.text_encoder(
            input_ids=input_ids,
            attention_mask=attention_mask,
            encoder_hidden_states=seen,
            encoder_attention_mask=torch.ones(seen.shape[:2], dtype=torch.long, device=seen.device),
            is_decoder=False,
        )
        return (self.mlp(read.last_hidden_state[:, 0]) - self.config["mean"]) / self.config["std"]

    @classmethod
    def from_folder(cls, folder: Path) -> BlipReward:
        """Load ``config.json`` and ``model.safetensors``, frozen; EnvironmentProblem if they do not fit."""
        config = read_json(folder / "config.json")
        absent = {"vision_config", "text_config", "mlp", "mean", "std"} - config.keys()
        if absent:
            problem = f"{folder / 'config.json'} has no {', '.join(sorted(absent))}"
            raise EnvironmentProblem(problem, "restore the folder of this scorer")
        return fill(cls(config), folder / "model.safetensors")

    def save(self, folder: Path) -> None:
        """Write ``config.json`` and ``model.safetensors``; tokenizer and preprocessing are saved beside."""
        from safetensors.torch import save_file

        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps(self.config, indent=2) + "\n", encoding="utf-8")
        state = {key: value.detach().cpu().contiguous() for key, value in self.state_dict().items()}
        save_file(state, folder / "model.safetensors")


class ImageRewardScorer(FolderScorer):
    """The standardised ImageReward of an image for a prompt; 0 is the mean of its training data."""

    @cached_property
    def model(self) -> BlipReward:
        """The network, loaded on first use."""
        return BlipReward.from_folder(self.folder).to(self.device)

    @cached_property
    def tokenizer(self) -> Any:
        """The tokenizer of the text tower."""
        return load_tokenizer(self.folder)

    @cached_property
    def preprocess(self) -> Preprocess:
        """The preprocessing of the vision tower."""
        return Preprocess.from_folder(self.folder)

    def score(self, images: Tensor, prompts: Sequence[str], cameras: Cameras | None = None) -> Tensor:
        """Images [N, 3, H, W] in [0, 1] with their prompts to scores [N]."""
        tokens = tokenise(self.tokenizer, prompts).to(self.device)
        pixels = self.preprocess(images.to(self.device, torch.float32))
        return self.model(pixels, tokens["input_ids"], tokens["attention_mask"])


def tokenise(tokenizer: Any, prompts: Sequence[str]) -> Any:
    """Tokens and mask [N, L] of prompts, padded and cut to L = 35 or the tokenizer's own maximum."""
    length = min(MAX_LENGTH, tokenizer.model_max_length)
    return tokenizer(
        list(prompts), padding="max_length", truncation=True, max_length=length, return_tensors="pt"
    )
