"""The arithmetic of the networks by formula is what torch counts, and the page says what was measured."""

from __future__ import annotations

import re

import pytest
import torch
from checkpoints import FULL
from random_checkpoints import CLIP_SIZES
from speed_table import TOWERS, Line, arithmetic, as_markdown, gigaflops
from torch.utils.flop_counter import FlopCounterMode

from psdbench.parity.references import REFERENCES
from psdbench.scorers.image_reward import BlipReward
from psdbench.scorers.official import _BLIP_LARGE

COSTS = {"loading": 5.0, "rereading": 2.0, "scoring": 6.0, "megabytes": 1000.0}
OURS = {"loading": 5.0, "rereading": 0.0, "scoring": 16.0, "megabytes": 3000.0}


def counted(model: torch.nn.Module, **inputs: torch.Tensor) -> float:
    """GFLOP of a call, by torch."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(**inputs)
    return counter.get_total_flops() / 1e9


@pytest.mark.parametrize("name", CLIP_SIZES)
def test_the_formula_is_what_torch_counts_for_clip(name: str) -> None:
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPVisionConfig, CLIPVisionModel

    (width, tokens), (text_width, text_tokens) = TOWERS[name]
    sizes = {**CLIP_SIZES[name]["vision"], "image_size": 224, "num_hidden_layers": 1}
    with torch.device("meta"):
        images = CLIPVisionModel._from_config(CLIPVisionConfig(**sizes), attn_implementation="eager")
        texts = CLIPTextModel._from_config(
            CLIPTextConfig(**CLIP_SIZES[name]["text"], num_hidden_layers=1), attn_implementation="eager"
        )
        found = counted(images, pixel_values=torch.zeros(1, 3, 224, 224))
        patches = 2 * (tokens - 1) * 3 * sizes["patch_size"] ** 2 * width / 1e9
        assert found == pytest.approx(gigaflops(width, tokens, 1) + patches, rel=1e-3)
        found = counted(texts, input_ids=torch.zeros(1, 77, dtype=torch.long))
    assert found == pytest.approx(gigaflops(text_width, text_tokens, 1), rel=1e-3)


def test_the_formula_is_what_torch_counts_for_a_reader_of_images() -> None:
    (width, seen), (own, tokens) = TOWERS["image_reward_v1.0"]
    text = {
        "hidden_size": own,
        "intermediate_size": 4 * own,
        "num_attention_heads": 12,
        "num_hidden_layers": 2,
    }
    vision = {**_BLIP_LARGE["vision_config"], "num_hidden_layers": 1}
    model = BlipReward({**_BLIP_LARGE, "vision_config": vision, "text_config": {**text, "vocab_size": 8}})
    model.text_encoder.set_attn_implementation("eager")
    ids = torch.zeros(1, tokens, dtype=torch.long)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.rate(torch.zeros(1, seen, width), ids, torch.ones_like(ids))
    expected = gigaflops(own, tokens, 2, (width, seen))
    assert counter.get_total_flops() / 1e9 == pytest.approx(expected, rel=0.01)


def lines() -> list[Line]:
    return [Line(metric, "package 1", FULL.get(metric, (24, 12)), COSTS) for metric in REFERENCES]


def test_ours_is_one_tower_less_and_texts_once_for_each_prompt() -> None:
    theirs, ours = arithmetic(lines(), 10**6)
    vit_l, vit_h_text = gigaflops(1024, 257, 24), gigaflops(1024, 77, 24)
    assert theirs - ours == pytest.approx(vit_l + 2 * vit_h_text, rel=1e-3)
    assert arithmetic(lines(), 1)[1] > ours
    assert theirs == pytest.approx(1600, rel=0.05)


def test_the_page_has_the_ratios() -> None:
    page = as_markdown(lines(), OURS, 1e-6, {"assets": 2, "views": 4, "share": 1, "side": 512}, "a CPU")
    assert "| models kept warm: *scores* alone | 3.0 |" in page
    assert "| as the READMEs show, without *loads once* | 4.0 |" in page
    assert f"| the same, with *loads once* | {8 * 13 / 21:.1f} |" in page
    assert "| all, in one go | psdbench |  | 5.0 s | 0.0 s | 16.0 s | 2.00 s | 3000 MB |" in page
    assert "8 renders of 512 pixels, 2 prompts with 4 views" in page
    assert "Measured on: a CPU." in page
    assert not re.search(r"[{}]", page)
