"""Priors of random weights in memory: Stable Diffusion 1.5 and MVDream at their official sizes, or narrower."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import folders
import torch

from psdbench.priors.diffusers import DiffusersPrior
from psdbench.priors.mvdream import MVDreamPrior

TEXT_SD15 = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "vocab_size": 49408,
}
TEXT_SD21 = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 23,
    "num_attention_heads": 16,
    "vocab_size": 49408,
}
VAE = {"block_out_channels": (128, 256, 512, 512), "norm_num_groups": 32}
WIDTHS = (320, 640, 1280, 1280)
SD15 = {"block_out_channels": WIDTHS, "cross_attention_dim": 768, "attention_head_dim": 8}
SD21 = {
    "block_out_channels": WIDTHS,
    "cross_attention_dim": 1024,
    "attention_head_dim": (5, 10, 20, 20),
    "use_linear_projection": True,
}
NARROW = {"block_out_channels": (32, 64, 128, 128), "norm_num_groups": 8, "cross_attention_dim": 32}
NARROW_VAE = {"block_out_channels": (16, 32, 64, 64), "norm_num_groups": 16}
TINY = {"block_out_channels": folders.WIDTHS, "norm_num_groups": 4}


@dataclass(frozen=True)
class Scale:
    """Which prior, how large, where."""

    kind: str
    """sd15 or mvdream"""
    width: Literal["official", "narrow", "tiny"]
    """a tenth of the official one is narrow"""
    device: str = "cpu"
    dtype: torch.dtype = torch.float32


def make_prior(scale: Scale) -> DiffusersPrior:
    """The prior as its loader would leave it: frozen, channels last."""
    multi_view = scale.kind == "mvdream"
    sizes: dict[str, Any] = {**(SD21 if multi_view else SD15), "norm_num_groups": 32}
    text, vae = (TEXT_SD21 if multi_view else TEXT_SD15), VAE
    if scale.width != "official":
        heads = {"attention_head_dim": (1, 2, 4, 4)} if multi_view else {}
        sizes, text, vae = sizes | NARROW | heads, {}, NARROW_VAE
    if scale.width == "tiny":
        heads = {"attention_head_dim": (1, 2, 2, 2)} if multi_view else {}
        sizes, vae = sizes | TINY | heads, {}
    camera = folders.CAMERA if multi_view else {}
    with torch.device(scale.device):
        models = {
            "unet": folders.unet(**sizes, **camera),
            "vae": folders.vae(**vae),
            "text_encoder": folders.text_encoder(**text),
        }
    for model in models.values():
        model.eval().requires_grad_(False).to(memory_format=torch.channels_last)
        if scale.dtype != torch.float32:
            model.to(scale.dtype)
    return (MVDreamPrior if multi_view else DiffusersPrior)(
        **models,
        vae_config=models["vae"].config,
        tokenizer=folders.byte_tokenizer(77),
        scheduler=folders.SCHEDULER,
        folder=Path(f"random-{scale.kind}"),
    )
