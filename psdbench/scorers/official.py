"""What the official packages do with their checkpoints, as settings for the same classes as the embedded ones.

Every value is from the package named above it. Nothing heavy is imported here.
"""

from __future__ import annotations

from typing import Any

_OPENAI = {"size": 224, "fit": "crop", "engine": "pil", "crop": "even"}
"""openai/CLIP and image-reward: torchvision's Resize(224, bicubic) and CenterCrop(224) on the PIL picture"""
_TRANSFORMERS = {"size": 224, "fit": "crop", "engine": "pil", "crop": "down"}
"""CLIPProcessor of transformers, which PickScore's authors call"""
_HPS = {"size": 224, "fit": "pad", "engine": "tensor"}
"""hpsv2: ToTensor, the longest side to 224 by bicubic interpolation of the tensor, black around it. Whether it
smooths (antialias) is torchvision's default: yes since 0.17, no before; the package does not ask. We do."""

_VIT_H_14 = {
    "vision_config": {
        "hidden_size": 1280,
        "intermediate_size": 5120,
        "num_hidden_layers": 32,
        "num_attention_heads": 16,
        "image_size": 224,
        "patch_size": 14,
        "hidden_act": "gelu",
    },
    "text_config": {
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "hidden_act": "gelu",
        "vocab_size": 49408,
        "max_position_embeddings": 77,
        "bos_token_id": 49406,
        "eos_token_id": 49407,
    },
    "projection_dim": 1024,
}
"""open_clip's ViT-H-14"""

_BLIP_LARGE = {
    "vision_config": {
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "image_size": 224,
        "patch_size": 16,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-6,
    },
    "mlp": [768, 1024, 128, 64, 16, 1],
    "mean": 0.16717362830052426,
    "std": 1.0333394966054072,
}
"""image-reward: ViT-L/16 as timm builds it, its own head, and the moments that it removes from the raw score"""


def _hps(file: str) -> dict[str, Any]:
    return {"weights": file, "layout": "openclip", "config": _VIT_H_14, "preprocess": _HPS, "clean": True}


def _openai_clip(file: str) -> dict[str, Any]:
    return {"weights": file, "preprocess": _OPENAI, "clean": True}


OFFICIAL: dict[str, dict[str, Any]] = {
    "aesthetic_laion_v2": {
        "weights": "sac+logos+ava1-l14-linearMSE.pth",
        "clip": "../clip_vit_l14",
        "clip_settings": _openai_clip("model.safetensors"),
    },
    "image_reward_v1.0": {
        "weights": "ImageReward.pt",
        "layout": "image_reward",
        "config": _BLIP_LARGE,
        "preprocess": _OPENAI,
    },
    "hps_v2.0": _hps("HPS_v2_compressed.pt"),
    "hps_v2.1": _hps("HPS_v2.1_compressed.pt"),
    "clip_vit_l14": _openai_clip("model.safetensors"),
    "janus_clip_vit_l14": _openai_clip("model.safetensors"),
    "clip_vit_b32": _openai_clip("pytorch_model.bin"),
    "clip_vit_b16": _openai_clip("pytorch_model.bin"),
    "pickscore_v1": {"weights": "model.safetensors", "preprocess": _TRANSFORMERS},
}
"""settings of a FolderScorer by scorer id"""

SHORT = {
    "aesthetic": "aesthetic_laion_v2",
    "image_reward": "image_reward_v1.0",
    "hps": "hps_v2.1",
    "clip": "clip_vit_l14",
    "pickscore": "pickscore_v1",
    "janus": "janus_clip_vit_l14",
}
"""what a short name means with a real prior: the newest of its kind"""
