"""The official layouts at full size: every key once, and as many numbers as the published files hold."""

from __future__ import annotations

import math

import pytest
import torch

from psdbench.scorers.folder import blank
from psdbench.scorers.image_reward import BlipReward
from psdbench.scorers.layouts import LAYOUTS, Source
from psdbench.scorers.official import OFFICIAL

BERT_BASE = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "vocab_size": 30524,
    "max_position_embeddings": 512,
}


def stored(model: torch.nn.Module, layout: str) -> dict[str, tuple[int, ...]]:
    """Keys and shapes of the file that a model is read from."""
    sources = {key: LAYOUTS[layout].source(key) for key in model.state_dict()}
    return {s.key: s.shape(tuple(model.state_dict()[key].shape)) for key, s in sources.items()}


def test_hps_is_vit_h_14_of_openclip() -> None:
    from transformers import CLIPConfig, CLIPModel

    shapes = stored(
        blank(lambda: CLIPModel(CLIPConfig.from_dict(OFFICIAL["hps_v2.1"]["config"]))), "openclip"
    )
    assert len(shapes) == 32 * 12 + 8 + 24 * 12 + 6
    assert sum(map(math.prod, shapes.values())) == 986_109_441  # open_clip's profile: 986.11 million
    assert shapes["visual.proj"] == (1280, 1024)
    assert shapes["visual.transformer.resblocks.31.attn.in_proj_weight"] == (3840, 1280)
    assert shapes["transformer.resblocks.23.mlp.c_proj.weight"] == (1024, 4096)
    assert shapes["visual.conv1.weight"] == (1280, 3, 14, 14)
    assert shapes["text_projection"] == (1024, 1024)
    assert shapes["logit_scale"] == ()


def test_image_reward_is_vit_l_and_bert_with_cross_attention() -> None:
    config = {**OFFICIAL["image_reward_v1.0"]["config"], "text_config": BERT_BASE}
    shapes = stored(blank(lambda: BlipReward(config)), "image_reward")
    assert shapes["blip.visual_encoder.pos_embed"] == (1, 197, 1024)
    assert shapes["blip.text_encoder.encoder.layer.11.crossattention.self.key.weight"] == (768, 1024)
    assert shapes["mlp.layers.0.weight"] == (1024, 768)
    unused = 256 * (1024 + 1 + 768 + 1)  # vision_proj and text_proj
    published = 1_786_880_927 / 4  # bytes of the published float32 file; names and padding take a little
    assert 0 < published - sum(map(math.prod, shapes.values())) - unused < 100_000


@pytest.mark.parametrize("third", [0, 1, 2])
def test_thirds_of_a_fused_matrix(third: int) -> None:
    fused = torch.arange(12.0).reshape(6, 2)
    source = Source("x", third=third)
    assert torch.equal(source.take(fused), fused[2 * third : 2 * third + 2])
    assert source.shape((2, 2)) == (6, 2)


def test_whole_parts_of_a_key_are_renamed() -> None:
    source = LAYOUTS["openclip"].source
    assert (
        source("vision_model.encoder.layers.10.layer_norm1.bias").key
        == "visual.transformer.resblocks.10.ln_1.bias"
    )
    assert source("text_model.encoder.layers.1.self_attn.v_proj.bias") == Source(
        "transformer.resblocks.1.attn.in_proj_bias", 2
    )
