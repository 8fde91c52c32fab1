"""ImageReward (arXiv 2304.05977): BLIP reads the prompt with the image before it; a head scores [CLS]."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from psdbench.errors import EnvironmentProblem
from psdbench.scorers.clip import load_tokenizer
from psdbench.scorers.eye import Eye, EyeScorer
from psdbench.scorers.folder import blank, fill, read_json, settings_of, weights_path
from psdbench.scorers.head import ScoreHead
from psdbench.scorers.layouts import LAYOUTS
from psdbench.scorers.preprocess import Preprocess
from psdbench.scorers.tokens import PromptReader

MAX_LENGTH = 35
"""tokens of a prompt that ImageReward reads"""
MED_CONFIG = "med_config.json"
"""BLIP's name for the file with the text tower's architecture, in the fields of a BERT with cross-attention"""
_TEXT_FIELDS = (
    *("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size"),
    *("max_position_embeddings", "hidden_act", "layer_norm_eps", "pad_token_id", "initializer_range"),
    *("hidden_dropout_prob", "attention_probs_dropout_prob"),
)


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
        return self.rate(self.see(pixels), input_ids, attention_mask)

    def see(self, pixels: Tensor) -> Tensor:
        """Preprocessed pixels [N, 3, S, S] to the states of [CLS] and of the patches, [N, 1 + P, D]."""
        return self.visual_encoder(pixels).last_hidden_state

    def rate(self, seen: Tensor, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """States of images and tokens [N, L] of their prompts to standardised scores [N]."""
        read = self.text_encoder(
            input_ids=input_ids,
            attention_mask=attention_mask,
            encoder_hidden_states=seen,
            encoder_attention_mask=torch.ones(seen.shape[:2], dtype=torch.long, device=seen.device),
            is_decoder=False,
        )
        return (self.mlp(read.last_hidden_state[:, 0]) - self.config["mean"]) / self.config["std"]

    @classmethod
    def from_folder(cls, folder: Path, given: Mapping[str, Any] | None = None) -> BlipReward:
        """Load architecture and weights, frozen; EnvironmentProblem if they do not fit.

        The architecture is ``config.json``, or, where the settings hold one, that and ``med_config.json``.
        """
        settings = settings_of(folder, given or {})
        config = settings.get("config") or read_json(folder / "config.json")
        if "text_config" not in config and (folder / MED_CONFIG).exists():
            med = read_json(folder / MED_CONFIG)
            config = {**config, "text_config": {key: med[key] for key in _TEXT_FIELDS if key in med}}
        absent = {"vision_config", "text_config", "mlp", "mean", "std"} - config.keys()
        if absent:
            file = MED_CONFIG if "config" in settings else "config.json"
            problem = f"{folder / file} is missing or has no {', '.join(sorted(absent))}"
            raise EnvironmentProblem(problem, "restore the folder of this scorer")
        layout = LAYOUTS[settings.get("layout", "plain")]
        return fill(blank(lambda: cls(config)), weights_path(folder, settings), layout)

    def save(self, folder: Path) -> None:
        """Write ``config.json`` and ``model.safetensors``; tokenizer and preprocessing are saved beside."""
        from safetensors.torch import save_file

        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps(self.config, indent=2) + "\n", encoding="utf-8")
        state = {key: value.detach().cpu().contiguous() for key, value in self.state_dict().items()}
        save_file(state, folder / "model.safetensors")


class BlipEye(Eye):
    """The vision tower of a BLIP reward."""

    def __init__(self, model: BlipReward, preprocess: Preprocess, device: torch.device) -> None:
        self.model, self.preprocess, self.device = model, preprocess, device

    def encode(self, pixels: Tensor) -> Tensor:
        """Preprocessed pixels [N, 3, S, S] to states [N, 1 + P, D]; of ViT-L/16 0.8 MB for each image."""
        return self.model.see(pixels)


class ImageRewardScorer(EyeScorer):
    """The standardised ImageReward of an image for a prompt; 0 is the mean of its training data."""

    @cached_property
    def model(self) -> BlipReward:
        """The network, loaded on first use."""
        return BlipReward.from_folder(self.folder, self.given).to(self.device)

    @cached_property
    def read(self) -> PromptReader:
        """The tokenizer of the text tower; it reads 35 tokens of a prompt, or fewer where the tower has fewer."""
        return PromptReader(load_tokenizer(self.folder, "BertTokenizer"), MAX_LENGTH, self.id)

    @cached_property
    def eye(self) -> Eye:
        """The vision tower with its preprocessing."""
        return BlipEye(self.model, Preprocess.of(self.folder, self.settings), self.device)

    def rate(self, seen: Tensor, prompts: Sequence[str]) -> Tensor:
        """States of images with their prompts to scores [N], mostly between -2 and 2."""
        tokens = self.read(prompts).to(self.device)
        return self.model.rate(seen, tokens["input_ids"], tokens["attention_mask"])
