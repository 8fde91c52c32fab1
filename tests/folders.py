"""Small random priors in the real folder formats: Stable Diffusion 1.5's and 2's shape, MVDream, DeepFloyd IF."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

SCHEDULER = {
    "_class_name": "DDIMScheduler",
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "epsilon",
}
FLOW_SCHEDULER = {"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000, "shift": 3.0}
WIDTHS = (8, 16, 16, 16)
CAMERA = {"class_embed_type": "projection", "projection_class_embeddings_input_dim": 16}


def edit(file: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a JSON file in place."""
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def unet(**config: Any) -> Any:
    """A UNet with every type of block that Stable Diffusion has, four latents, text of width 32."""
    from diffusers import UNet2DConditionModel

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return UNet2DConditionModel(
            **{
                "sample_size": 8,
                "in_channels": 4,
                "out_channels": 4,
                "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
                "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
                "block_out_channels": WIDTHS,
                "layers_per_block": 2,
                "cross_attention_dim": 32,
                "attention_head_dim": 4,
                "norm_num_groups": 4,
            }
            | config
        )


def vae(**config: Any) -> Any:
    """An AutoencoderKL with four latent channels and a side of 8 pixels per latent."""
    from diffusers import AutoencoderKL

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return AutoencoderKL(
            **{
                "block_out_channels": (4, 4, 8, 8),
                "down_block_types": ("DownEncoderBlock2D",) * 4,
                "up_block_types": ("UpDecoderBlock2D",) * 4,
                "layers_per_block": 2,
                "latent_channels": 4,
                "norm_num_groups": 4,
                "scaling_factor": 0.18215,
            }
            | config
        )


def text_encoder(layers: int = 2, **config: Any) -> Any:
    """A CLIP text encoder of width 32 over 77 tokens."""
    from transformers import CLIPTextConfig, CLIPTextModel

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        return CLIPTextModel(
            CLIPTextConfig(
                **{
                    "vocab_size": 514,
                    "hidden_size": 32,
                    "intermediate_size": 64,
                    "num_hidden_layers": layers,
                    "num_attention_heads": 2,
                    "max_position_embeddings": 77,
                    "bos_token_id": 512,
                    "eos_token_id": 513,
                }
                | config
            )
        )


def byte_tokenizer(length: int = 32) -> Any:
    """A CLIPTokenizer without merges: one token per byte, inside a word or at its end."""
    from transformers import CLIPTokenizer
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    letters = list(bytes_to_unicode().values())
    pieces = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={p: i for i, p in enumerate(pieces)}, merges=[], model_max_length=length)


def write_sd(folder: Path, scheduler: dict[str, Any] | None = None, **config: Any) -> Path:
    """A whole folder; `config` changes the UNet's, `scheduler` the scheduler's."""
    for model, name in ((unet(**config), "unet"), (vae(), "vae"), (text_encoder(), "text_encoder")):
        model.save_pretrained(folder / name)
    byte_tokenizer(77).save_pretrained(folder / "tokenizer")
    (folder / "scheduler").mkdir()
    text = json.dumps(SCHEDULER | (scheduler or {}))
    (folder / "scheduler" / "scheduler_config.json").write_text(text)
    return folder


def write_mvdream(folder: Path) -> Path:
    """The same as MVDream has it: Stable Diffusion 2's UNet with an embedding of the camera."""
    return write_sd(folder, use_linear_projection=True, attention_head_dim=[1, 2, 2, 2], **CAMERA)


def write_pixel(folder: Path) -> Path:
    """DeepFloyd IF's first stage: no autoencoder, T5, a cosine schedule, and a variance in further channels."""
    from transformers import T5Config, T5EncoderModel, T5Tokenizer

    blocks = {
        "in_channels": 3,
        "out_channels": 6,
        "down_block_types": ("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        "up_block_types": ("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
        "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
        "block_out_channels": (8, 16),
        "layers_per_block": 1,
        "resnet_time_scale_shift": "scale_shift",
        "act_fn": "gelu",
        "encoder_hid_dim": 48,
        "encoder_hid_dim_type": "text_proj",
        "addition_embed_type": "text",
        "addition_embed_type_num_heads": 4,
    }
    unet(**blocks).save_pretrained(folder / "unet")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        config = T5Config(vocab_size=128, d_model=48, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
        T5EncoderModel(config).save_pretrained(folder / "text_encoder")
    T5Tokenizer().save_pretrained(folder / "tokenizer")
    (folder / "scheduler").mkdir()
    scheduler = {"_class_name": "DDPMScheduler", "beta_schedule": "squaredcos_cap_v2"}
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(scheduler))
    return folder
