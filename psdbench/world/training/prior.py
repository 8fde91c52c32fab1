"""The embedded diffusion prior: a UNet2DConditionModel on the latents, conditioned on the CLIP text tower."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from psdbench.priors.diffusion import alphas_cumprod
from psdbench.world.training.loop import Recipe, fit
from psdbench.world.training.pool import Pool
from psdbench.world.training.tokenizers import MAX_TOKENS

RECIPE = Recipe(steps=6500, batch=32, learning_rate=1e-3, weight_decay=0.01, warmup=200, ema=0.9985)
CAPTION_DROPOUT = 0.1
SCHEDULER: dict[str, Any] = {
    "_class_name": "DDIMScheduler",
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "epsilon",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}


def build() -> Any:
    """An untrained denoiser of 8 × 16 × 16 latents with cross-attention at 8 × 8 and 4 × 4."""
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=16,
        in_channels=8,
        out_channels=8,
        block_out_channels=(64, 96, 96),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=128,
        attention_head_dim=8,
        norm_num_groups=16,
    )


@torch.no_grad()
def encode_captions(text_model: Any, tokenizer: Any, captions: list[str], device: str) -> Tensor:
    """Hidden states of the frozen text tower, [N, 32, 128]."""
    out = []
    for start in range(0, len(captions), 256):
        part = captions[start : start + 256]
        tokens = tokenizer(
            part, padding="max_length", max_length=MAX_TOKENS, truncation=True, return_tensors="pt"
        )
        out.append(text_model(tokens.input_ids.to(device)).last_hidden_state)
    return torch.cat(out)


def train(work: Path, autoencoder: Any, text_model: Any, tokenizer: Any, seed: int, device: str) -> nn.Module:
    """Train the denoiser on the pool's latents with caption dropout and min-SNR weights (arXiv 2303.09556)."""
    torch.manual_seed(seed)
    pool = Pool.load(work)
    latents = _pool_latents(work, pool, autoencoder, device)
    unique = sorted(set(pool.captions))
    place = {caption: index for index, caption in enumerate(unique)}
    which = torch.tensor([place[c] for c in pool.captions])
    texts = encode_captions(text_model, tokenizer, [*unique, ""], device)
    model = build().to(device, memory_format=torch.channels_last)
    alphas = alphas_cumprod(SCHEDULER).to(device)

    def loss(step: int, generator: torch.Generator) -> Tensor:
        rows = pool.indices(RECIPE.batch, generator)
        dropped = torch.rand(RECIPE.batch, generator=generator) < CAPTION_DROPOUT
        text = texts[torch.where(dropped, len(unique), which[rows]).to(device)]
        t = torch.randint(0, 1000, (RECIPE.batch,), generator=generator).to(device)
        noise = torch.randn((RECIPE.batch, *latents.shape[1:]), generator=generator).to(device)
        alpha_bar = alphas[t].view(-1, 1, 1, 1)
        x_t = alpha_bar.sqrt() * latents[rows.to(device)] + (1 - alpha_bar).sqrt() * noise
        predicted = model(x_t.contiguous(memory_format=torch.channels_last), t, text).sample
        snr = alpha_bar / (1 - alpha_bar)
        return (snr.clamp(max=5) / snr * (predicted - noise).square()).mean()

    return fit("prior", model, loss, RECIPE, work, seed, device)


@torch.no_grad()
def _pool_latents(work: Path, pool: Pool, autoencoder: Any, device: str) -> Tensor:
    """Latents of all pictures, kept in `work`: encoding them takes minutes on a CPU."""
    path = work / "latents.safetensors"
    if not path.exists():
        parts = pool.pixels.split(16)  # larger batches fall out of the cache
        latents = torch.cat(
            [autoencoder.encode(p.to(device).float() / 127.5 - 1).latents.cpu() for p in parts]
        )
        save_file({"latents": latents}, path)
    return load_file(path)["latents"].to(device)


def save_scheduler(folder: Path) -> None:
    """Write the scheduler's config in diffusers' layout."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "scheduler_config.json").write_text(json.dumps(SCHEDULER, indent=2) + "\n")
