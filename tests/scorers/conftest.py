"""Tiny scorers with random weights, in the files and classes of the real ones."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from psdbench.scorers.aesthetic import save_head
from psdbench.scorers.head import ScoreHead
from psdbench.scorers.image_reward import BlipReward
from psdbench.scorers.preprocess import Preprocess
from psdbench.world.training.tokenizers import save_bert_tokenizer, save_clip_tokenizer

TOWER = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIPModel saved by transformers itself."""
    from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

    folder = tmp_path_factory.mktemp("weights") / "clip"
    save_clip_tokenizer(folder)
    tokenizer = CLIPTokenizer.from_pretrained(folder)
    torch.manual_seed(0)
    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    config = CLIPConfig(
        text_config={**TOWER, **ends, "vocab_size": len(tokenizer), "max_position_embeddings": 32},
        vision_config={**TOWER, "image_size": 32, "patch_size": 8},
        projection_dim=8,
    )
    CLIPModel(config).save_pretrained(folder)
    Preprocess(32).save(folder)
    return folder


@pytest.fixture(scope="session")
def aesthetic_folder(clip_folder: Path) -> Path:
    """A head in LAION's layout beside the CLIP."""
    torch.manual_seed(1)
    folder = clip_folder.parent / "aesthetic"
    save_head(ScoreHead([8, 16, 8, 8, 4, 1]), folder)
    return folder


@pytest.fixture(scope="session")
def reward_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BLIP reward with BERT's tokenizer."""
    from transformers import BertTokenizer

    folder = tmp_path_factory.mktemp("weights") / "image_reward"
    save_bert_tokenizer(folder)
    torch.manual_seed(2)
    vocabulary = len(BertTokenizer.from_pretrained(folder))
    config = {
        "vision_config": {**TOWER, "image_size": 32, "patch_size": 8},
        "text_config": {**TOWER, "vocab_size": vocabulary, "max_position_embeddings": 40},
        "mlp": [16, 16, 8, 8, 4, 1],
        "mean": 0.1,
        "std": 2.0,
    }
    BlipReward(config).save(folder)
    Preprocess(32).save(folder)
    return folder


@pytest.fixture(scope="session")
def images() -> torch.Tensor:
    """Four images [4, 3, 64, 64] in [0, 1]."""
    return torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(3))


@pytest.fixture
def prompts() -> list[str]:
    """A prompt for each image, one of them twice."""
    return ["a red cube", "a blue sphere", "a red cube", "a yellow cone with a face"]
