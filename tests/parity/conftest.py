"""A small random CLIP, and the weights of PickScore made of it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small random CLIPModel with its tokenizer, as transformers saves them."""
    from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

    from psdbench.world.training.tokenizers import save_clip_tokenizer

    tower = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    folder = tmp_path_factory.mktemp("weights") / "clip"
    save_clip_tokenizer(folder)
    tokenizer = CLIPTokenizer.from_pretrained(folder, model_max_length=77)
    tokenizer.save_pretrained(folder)
    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    config = CLIPConfig(
        text_config={**tower, **ends, "vocab_size": len(tokenizer), "max_position_embeddings": 77},
        vision_config={**tower, "image_size": 224, "patch_size": 32},
        projection_dim=8,
    )
    torch.manual_seed(0)
    CLIPModel(config).save_pretrained(folder)
    return folder


@pytest.fixture
def pickscore(clip_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of PickScore's weights: that CLIP, with an input of full size, since CLIPProcessor has no other."""
    folder = tmp_path / "library" / "pickscore_v1"
    shutil.copytree(clip_folder, folder)
    monkeypatch.setenv("PSDBENCH_WEIGHTS", str(folder.parent))
    return folder
