"""Checkpoints in the layouts of the official packages, read into the classes of transformers.

A layout says for every key of our model where the file has it. Missing, unexpected and misshapen keys are
therefore found, and named, in the file's own words.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor


class Source(NamedTuple):
    """Where a file holds one of our tensors."""

    key: str
    third: int | None = None
    """of a fused matrix of queries, keys and values: which third"""
    transposed: bool = False

    def shape(self, own: tuple[int, ...]) -> tuple[int, ...]:
        """The shape in the file of what has the shape `own` with us."""
        if self.transposed:
            own = own[::-1]
        return own if self.third is None else (3 * own[0], *own[1:])

    def take(self, stored: Tensor) -> Tensor:
        """Our tensor of the file's one."""
        part = stored if self.third is None else stored.chunk(3)[self.third]
        return part.T if self.transposed else part


class Layout(NamedTuple):
    """The source of each of our keys, and the beginnings of keys that do not decide a score."""

    source: Callable[[str], Source]
    unused: tuple[str, ...] = ()


_OPENCLIP = {
    "logit_scale": "logit_scale",
    "visual_projection.weight": "visual.proj",
    "text_projection.weight": "text_projection",
    "text_model.embeddings.token_embedding.weight": "token_embedding.weight",
    "text_model.embeddings.position_embedding.weight": "positional_embedding",
    "vision_model.embeddings.class_embedding": "visual.class_embedding",
    "vision_model.embeddings.patch_embedding.weight": "visual.conv1.weight",
    "vision_model.embeddings.position_embedding.weight": "visual.positional_embedding",
}
_OPENCLIP_NAMES = {
    "text_model.final_layer_norm": "ln_final",
    "vision_model.pre_layrnorm": "visual.ln_pre",  # [sic], the spelling of transformers
    "vision_model.post_layernorm": "visual.ln_post",
    "text_model.encoder.layers": "transformer.resblocks",
    "vision_model.encoder.layers": "visual.transformer.resblocks",
    "self_attn.out_proj": "attn.out_proj",
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}
_PROJECTION = re.compile(r"self_attn\.([qkv])_proj\.(weight|bias)$")


def _openclip(key: str) -> Source:
    if key in _OPENCLIP:
        return Source(_OPENCLIP[key], transposed=key.endswith("projection.weight"))
    name = _renamed(key, _OPENCLIP_NAMES)
    if found := _PROJECTION.search(name):
        fused = f"{name[: found.start()]}attn.in_proj_{found[2]}"
        return Source(fused, third="qkv".index(found[1]))
    return Source(name)


_BLIP_VISION_NAMES = {
    "embeddings.class_embedding": "cls_token",
    "embeddings.position_embedding": "pos_embed",
    "embeddings.patch_embedding": "patch_embed.proj",
    "encoder.layers": "blocks",
    "self_attn.qkv": "attn.qkv",
    "self_attn.projection": "attn.proj",
    "layer_norm1": "norm1",
    "layer_norm2": "norm2",
    "post_layernorm": "norm",
}
_BLIP_PRETRAINING = (
    *("vision_proj.", "text_proj.", "itm_head.", "text_decoder.", "temp", "queue_ptr", "image_queue"),
    *("text_queue", "visual_encoder_m.", "vision_proj_m.", "text_encoder_m.", "text_proj_m."),
)
"""parts of BLIP's pre-training (arXiv 2201.12086) that ImageReward keeps or may keep and never asks"""


def _image_reward(key: str) -> Source:
    if key.startswith("visual_encoder."):
        return Source(f"blip.{_renamed(key, _BLIP_VISION_NAMES)}")
    return Source(f"blip.{key}" if key.startswith("text_encoder.") else key)


def _renamed(key: str, names: dict[str, str]) -> str:
    """The key with every whole dotted part that `names` lists replaced."""
    for ours, theirs in names.items():
        key = re.sub(rf"(?<![^.]){re.escape(ours)}(?![^.])", theirs, key)
    return key


PLAIN = Layout(Source)
LAYOUTS: dict[str, Layout] = {
    "plain": PLAIN,
    "openclip": Layout(_openclip),
    "image_reward": Layout(_image_reward, tuple(f"blip.{part}" for part in _BLIP_PRETRAINING)),
}
"""by the name that a scorer's settings use: as transformers writes it, HPS v2's files, ImageReward.pt"""
