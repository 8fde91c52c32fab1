"""Models by the names that latent-diffusion and OpenCLIP give their weights: configurations read off the shapes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor

from psdbench.errors import EnvironmentProblem
from psdbench.priors.folder import CAMERA_VALUES

HEAD = 64
"""channels of an attention head, in UNet and text encoder"""
BLOCK = re.compile(r"transformer\.resblocks\.(\d+)\.")

TEXT_NAMES = {
    "positional_embedding": "embeddings.position_embedding.weight",
    "token_embedding.weight": "embeddings.token_embedding.weight",
    "ln_final.": "final_layer_norm.",
    "transformer.resblocks.": "encoder.layers.",
    ".ln_1.": ".layer_norm1.",
    ".ln_2.": ".layer_norm2.",
    ".attn.": ".self_attn.",
    ".mlp.c_fc.": ".mlp.fc1.",
    ".mlp.c_proj.": ".mlp.fc2.",
}
"""OpenCLIP's names and those of transformers"""


def unet_config(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """The configuration of a UNet, from its weights by their names in latent-diffusion."""
    blocks = 1 + max(int(key.split(".")[1]) for key in tensors if key.startswith("input_blocks."))
    firsts = range(1, blocks, 3)  # two residual blocks and a downsampler make a level
    widths = [tensors[f"input_blocks.{i}.0.out_layers.3.weight"].shape[0] for i in firsts]
    attends = [f"input_blocks.{i}.1.proj_in.weight" in tensors for i in firsts]
    contexts = [value.shape[1] for key, value in tensors.items() if key.endswith("attn2.to_k.weight")]
    if tensors["label_emb.0.0.weight"].shape[1] != CAMERA_VALUES:
        raise EnvironmentProblem(
            "the UNet's camera network does not take 16 numbers", "give a checkpoint of MVDream"
        )
    return {
        "sample_size": 32,
        "in_channels": tensors["input_blocks.0.0.weight"].shape[1],
        "out_channels": tensors["out.2.weight"].shape[0],
        "down_block_types": ["CrossAttnDownBlock2D" if a else "DownBlock2D" for a in attends],
        "up_block_types": ["CrossAttnUpBlock2D" if a else "UpBlock2D" for a in reversed(attends)],
        "block_out_channels": widths,
        "layers_per_block": 2,
        "cross_attention_dim": contexts[0],
        "attention_head_dim": [
            max(1, width // HEAD) for width in widths
        ],  # the number of heads, in spite of its name
        "use_linear_projection": True,
        "class_embed_type": "projection",
        "projection_class_embeddings_input_dim": CAMERA_VALUES,
    }


def vae_config(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """The configuration of an autoencoder, from its weights by their names in latent-diffusion."""
    levels = 1 + max(int(key.split(".")[2]) for key in tensors if key.startswith("encoder.down."))
    return {
        "sample_size": 256,
        "block_out_channels": [
            tensors[f"encoder.down.{i}.block.0.conv1.weight"].shape[0] for i in range(levels)
        ],
        "down_block_types": ["DownEncoderBlock2D"] * levels,
        "up_block_types": ["UpDecoderBlock2D"] * levels,
        "layers_per_block": 2,
        "latent_channels": tensors["post_quant_conv.weight"].shape[0],
        "scaling_factor": 0.18215,
    }


def without_last_block(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """OpenCLIP's text encoder as Stable Diffusion 2 and MVDream read it: up to the block before the last."""
    last = _blocks(tensors) - 1
    return {key: v for key, v in tensors.items() if not key.startswith(f"transformer.resblocks.{last}.")}


def text_config(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """The arguments of CLIPTextConfig, from a text encoder's weights by their names in OpenCLIP."""
    width, vocabulary = tensors["ln_final.weight"].shape[0], tensors["token_embedding.weight"].shape[0]
    return {
        "vocab_size": vocabulary,
        "hidden_size": width,
        "intermediate_size": tensors["transformer.resblocks.0.mlp.c_fc.weight"].shape[0],
        "num_hidden_layers": _blocks(tensors),
        "num_attention_heads": max(1, width // HEAD),
        "max_position_embeddings": tensors["positional_embedding"].shape[0],
        "hidden_act": "gelu",
        "bos_token_id": vocabulary - 2,
        "eos_token_id": vocabulary - 1,
    }


def _blocks(tensors: Mapping[str, Tensor]) -> int:
    return 1 + max((int(match[1]) for key in tensors if (match := BLOCK.match(key))), default=-1)


def as_clip(key: str, value: Tensor) -> Iterable[tuple[str, Tensor]]:
    """A weight of OpenCLIP under transformers' name; query, key and value, one matrix there, are three here."""
    for old, new in TEXT_NAMES.items():
        key = key.replace(old, new)
    stem, packed, kind = key.rpartition("in_proj_")
    if not packed:
        return [(key, value)]
    return [(f"{stem}{name}_proj.{kind}", part) for name, part in zip("qkv", value.chunk(3), strict=True)]
