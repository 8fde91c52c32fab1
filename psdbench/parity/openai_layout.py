"""Weights for OpenAI's CLIP package: its own names, and LAION's head upon it.

A part of `official_side.py`, which finds it by path: it imports nothing of psdbench either.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any


def laion_head(state: dict[str, Any]) -> Any:
    """The network that LAION's improved-aesthetic-predictor defines: five linear layers, nothing between."""
    from torch import nn

    linear = [nn.Linear(*sizes) for sizes in pairwise((768, 1024, 128, 64, 16, 1))]
    dropout = [nn.Dropout(0.2), nn.Dropout(0.2), nn.Dropout(0.1)]
    layers = [linear[0], dropout[0], linear[1], dropout[1], linear[2], dropout[2], *linear[3:]]
    head = nn.ModuleDict({"layers": nn.Sequential(*layers)})
    head.load_state_dict(state)
    return head["layers"].eval()


OPENAI_NAMES = {
    "visual_projection.weight": "visual.proj",
    "text_projection.weight": "text_projection",
    "vision_model.": "visual.",
    "text_model.": "",
    "embeddings.position_embedding.weight": "positional_embedding",
    "embeddings.patch_embedding": "conv1",
    "embeddings.": "",
    "encoder.layers": "transformer.resblocks",
    "self_attn": "attn",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "pre_layrnorm": "ln_pre",
    "post_layernorm": "ln_post",
    "final_layer_norm": "ln_final",
    "layer_norm": "ln_",
}
"""what parts of the keys of transformers are called by OpenAI, in the order in which they are to be replaced"""


def as_openai(state: dict[str, Any]) -> dict[str, Any]:
    """A CLIP state dict of transformers in the names and shapes of OpenAI's package."""
    import torch

    made = {}
    for key, value in state.items():
        name = key
        for ours, theirs in OPENAI_NAMES.items():
            name = name.replace(ours, theirs)
        if not name.endswith("position_ids"):
            made[name] = value.T if name in ("visual.proj", "text_projection") else value
    for name in [name for name in made if ".q_proj." in name]:
        thirds = [made.pop(name.replace(".q_", f".{which}_")) for which in "qkv"]
        made[name.replace(".q_proj.", ".in_proj_")] = torch.cat(thirds)
    return made
