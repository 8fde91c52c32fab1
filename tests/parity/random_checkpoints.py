"""Random checkpoints in the official layouts, by the official classes: a script for whichever interpreter has them.

    PYTHON random_checkpoints.py KIND FOLDER VISION_LAYERS TEXT_LAYERS SEED

Keys and shapes are those of the official package's own model, so nothing of psdbench decides the layout. All values
are ones that half precision holds, as in the published files.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

GAIN = 1.4
"""standard deviation of what a matrix makes of unit input: attention picks, scores depend on what is shown"""
CLIP_SIZES: dict[str, dict[str, dict[str, Any]]] = {
    "clip_vit_l14": {
        "vision": {
            "hidden_size": 1024,
            "intermediate_size": 4096,
            "num_attention_heads": 16,
            "patch_size": 14,
        },
        "text": {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12},
        "both": {"projection_dim": 768},
    },
    "clip_vit_b32": {
        "vision": {
            "hidden_size": 768,
            "intermediate_size": 3072,
            "num_attention_heads": 12,
            "patch_size": 32,
        },
        "text": {"hidden_size": 512, "intermediate_size": 2048, "num_attention_heads": 8},
        "both": {"projection_dim": 512},
    },
    "clip_vit_b16": {
        "vision": {
            "hidden_size": 768,
            "intermediate_size": 3072,
            "num_attention_heads": 12,
            "patch_size": 16,
        },
        "text": {"hidden_size": 512, "intermediate_size": 2048, "num_attention_heads": 8},
        "both": {"projection_dim": 512},
    },
    "pickscore_v1": {
        "vision": {
            "hidden_size": 1280,
            "intermediate_size": 5120,
            "num_attention_heads": 16,
            "patch_size": 14,
        },
        "text": {"hidden_size": 1024, "intermediate_size": 4096, "num_attention_heads": 16},
        "both": {"projection_dim": 1024},
    },
}
MED_CONFIG = {
    "architectures": ["BertModel"],
    "attention_probs_dropout_prob": 0.1,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "hidden_size": 768,
    "initializer_range": 0.02,
    "intermediate_size": 3072,
    "layer_norm_eps": 1e-12,
    "max_position_embeddings": 512,
    "model_type": "bert",
    "num_attention_heads": 12,
    "pad_token_id": 0,
    "type_vocab_size": 2,
    "vocab_size": 30524,
    "encoder_width": 768,
    "add_cross_attention": True,
}
"""BLIP's BERT-base with cross-attention"""


def draw(state: dict[str, Any], seed: int) -> dict[str, Any]:
    """New values for all floating-point tensors of a state dict; every one of them counts for a score."""
    import torch

    generator = torch.Generator().manual_seed(seed)

    def drawn(name: str, old: Any) -> Any:
        if not old.is_floating_point():
            return old.clone()
        if old.ndim == 0:
            return torch.tensor(math.log(100)).half().float()
        new = torch.randn(old.shape, generator=generator)
        leaf, centre = name.rsplit(".", 1)[-1], 0.0
        if old.ndim == 1 and leaf in ("weight", "bias"):  # biases and normalisations
            spread, centre = 0.1, float(leaf == "weight")
        elif "embed" in leaf or leaf == "cls_token" or (old.ndim == 2 and "embedding" in name):
            spread = 0.5
        else:
            fan_in = old.shape[0] if leaf in ("proj", "text_projection") else old[0].numel()
            spread = GAIN / math.sqrt(fan_in)
        return new.mul_(spread).add_(centre).half().float()

    return {name: drawn(name, old) for name, old in state.items()}


def image_reward(folder: Path, layers: tuple[int, int], seed: int) -> None:
    """ImageReward's file; the working directory holds bert-base-uncased."""
    import torch
    from ImageReward import ImageReward
    from ImageReward.models.BLIP import blip

    (folder / "med_config.json").write_text(json.dumps({**MED_CONFIG, "num_hidden_layers": layers[1]}))
    build = blip.VisionTransformer
    blip.VisionTransformer = lambda *args, **settings: build(*args, **{**settings, "depth": layers[0]})
    model = ImageReward(str(folder / "med_config.json"))
    torch.save(draw(model.state_dict(), seed), folder / "random.pt")


def hpsv2(folder: Path, layers: tuple[int, int], seed: int) -> None:
    """The file of HPS v2, in half precision."""
    import torch
    from hpsv2.src.open_clip import factory

    config = factory._MODEL_CONFIGS["ViT-H-14"]
    config["vision_cfg"]["layers"], config["text_cfg"]["layers"] = layers
    state = draw(factory.create_model("ViT-H-14").state_dict(), seed)
    torch.save({"state_dict": {key: value.half() for key, value in state.items()}}, folder / "random.pt")


def clip(folder: Path, layers: tuple[int, int], seed: int) -> None:
    """A CLIP folder as on the hub; the cosine is positive for a grey picture, so that CLIP score clamps little."""
    import torch
    from safetensors.torch import save_file
    from transformers import CLIPConfig, CLIPModel

    sizes, pick = CLIP_SIZES[folder.name], folder.name == "pickscore_v1"
    act = {"hidden_act": "gelu" if pick else "quick_gelu"}
    text = {"vocab_size": 49408, "max_position_embeddings": 77, "bos_token_id": 0, "eos_token_id": 2, **act}
    config = CLIPConfig(
        vision_config={**sizes["vision"], **act, "image_size": 224, "num_hidden_layers": layers[0]},
        text_config={**sizes["text"], **text, "num_hidden_layers": layers[1]},
        **sizes["both"],
    )
    model = CLIPModel(config).eval()
    state = draw(model.state_dict(), seed)
    model.load_state_dict(state)
    with torch.no_grad():
        ids = torch.tensor([[49406, 320, 736, 49407]])
        if model(input_ids=ids, pixel_values=torch.zeros(1, 3, 224, 224)).logits_per_image.item() < 0:
            state["visual_projection.weight"].neg_()
    save_file({key: value.contiguous() for key, value in state.items()}, folder / "random.safetensors")
    config.save_pretrained(folder)


def aesthetic(folder: Path, layers: tuple[int, int], seed: int) -> None:
    """LAION's head."""
    import torch

    widths = (768, 1024, 128, 64, 16, 1)
    shapes = {}
    for index, into, out in zip((0, 2, 4, 6, 7), widths[:-1], widths[1:], strict=True):
        shapes |= {f"layers.{index}.weight": (out, into), f"layers.{index}.bias": (out,)}
    state = {name: torch.empty(shape) for name, shape in shapes.items()}
    torch.save(draw(state, seed), folder / "random.pth")


KINDS = {"image_reward": image_reward, "hpsv2": hpsv2, "clip": clip, "aesthetic": aesthetic}


def main() -> None:
    """Write the checkpoint that the arguments name."""
    kind, folder, vision, text, seed = sys.argv[1:]
    KINDS[kind](Path(folder), (int(vision), int(text)), int(seed))


if __name__ == "__main__":
    main()
