"""Small random checkpoints in the folders and layouts of the official ones."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from reference_networks import OpenClip, image_reward_state

from psdbench.world.training.tokenizers import save_bert_tokenizer, save_clip_tokenizer

SMALL = {"size": 32, "engine": "pil", "crop": "even"}
TEXT = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
VISION = {**TEXT, "image_size": 32, "patch_size": 8}
FILES = {
    "aesthetic_laion_v2": "sac+logos+ava1-l14-linearMSE.pth",
    "image_reward_v1.0": "ImageReward.pt",
    "hps_v2.0": "HPS_v2_compressed.pt",
    "clip_vit_b32": "small.bin",
    "pickscore_v1": "model.safetensors",
}
"""as published where no hash is public; where one is, a small file must have another name"""


def write_settings(folder: Path, **settings: Any) -> None:
    """The score.json that makes an official scorer small."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "score.json").write_text(json.dumps(settings))


def write_hps(folder: Path) -> OpenClip:
    """HPS_v2_compressed.pt in half precision, as published, with the tokenizer."""
    from transformers import CLIPTokenizer

    save_clip_tokenizer(folder)
    tokenizer = CLIPTokenizer.from_pretrained(folder)
    model = OpenClip(len(tokenizer), 32).half().float()  # values that half precision holds
    config = {
        "vision_config": {**VISION, "hidden_size": 24, "intermediate_size": 40, "hidden_act": "gelu"},
        "text_config": {
            **TEXT,
            "hidden_act": "gelu",
            "vocab_size": len(tokenizer),
            "max_position_embeddings": 32,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
        },
        "projection_dim": 8,
    }
    write_settings(folder, config=config, preprocess={"size": 32, "fit": "pad"})
    state = {key: value.half() for key, value in model.state_dict().items()}
    torch.save({"epoch": 1, "state_dict": state}, folder / FILES["hps_v2.0"])
    return model


def write_image_reward(folder: Path) -> dict[str, torch.Tensor]:
    """ImageReward.pt with med_config.json and BERT's tokenizer."""
    from transformers import BertTokenizer

    save_bert_tokenizer(folder)
    size = len(BertTokenizer.from_pretrained(folder))
    med = {**TEXT, "vocab_size": size, "max_position_embeddings": 40, "hidden_act": "gelu"}
    med |= {"architectures": ["BertModel"], "layer_norm_eps": 1e-12, "encoder_width": 768, "pad_token_id": 0}
    (folder / "med_config.json").write_text(json.dumps(med))
    vision = {**VISION, "layer_norm_eps": 1e-6, "hidden_act": "gelu"}
    config = {"vision_config": vision, "mlp": [16, 16, 8, 8, 4, 1], "mean": 0.25, "std": 2.0}
    write_settings(folder, config=config, preprocess=SMALL)
    state = image_reward_state(size)
    torch.save(state, folder / FILES["image_reward_v1.0"])
    return state


def write_hub_clip(folder: Path, file: str, clip_folder: Path) -> None:
    """A folder as it lies on the hub, with safetensors or with what was before it."""
    from safetensors.torch import load_file

    shutil.copytree(clip_folder, folder)
    if file != "model.safetensors":
        torch.save(load_file(folder / "model.safetensors"), folder / file)
        (folder / "model.safetensors").unlink()
    (folder / "preprocessor_config.json").unlink()
    write_settings(folder, preprocess=SMALL, weights=file)
