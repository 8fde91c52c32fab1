"""Drawing pictures from a prior: deterministic DDIM with classifier-free guidance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from psdbench.priors.ddim import guided, moves

if TYPE_CHECKING:
    from psdbench.priors import Prior


@torch.no_grad()
def ddim_sample(
    prior: Prior,
    prompts: Sequence[str],
    generator: torch.Generator,
    guidance_scale: float = 5.0,
    steps: int = 30,
    negative: str = "",
    latent_size: int = 16,
) -> Tensor:
    """One picture per prompt, [N, 3, H, W] in [0, 1] (DDIM, arXiv 2010.02502, η = 0)."""
    shape = (len(prompts), prior.latent_channels, latent_size, latent_size)
    x = torch.randn(shape, generator=generator).to(prior.device)
    text = torch.stack([prior.encode_text([negative] * len(prompts)), prior.encode_text(prompts)])
    for now, then in moves(prior, steps):
        t = torch.full((len(prompts),), now, device=prior.device)
        noise = guided(prior, x, t, text, guidance_scale, grad=False)
        clean = prior.predict_x0(x, noise, t)
        x = prior.add_noise(clean, noise, torch.full_like(t, then)) if then else clean
    return prior.decode(x)
