"""MVDream (arXiv 2308.16512): a latent diffusion prior that denoises four views of one object with their cameras.

Its UNet is Stable Diffusion 2.1's with two changes. A camera's pose, a flattened 4 x 4 camera-to-world matrix with
a translation of unit length, passes Linear-SiLU-Linear and is added to the time embedding: diffusers'
`class_embed_type="projection"`. And self-attention goes over the tokens of all views of a set at once, which an
attention processor does by folding the views into the tokens. With one view and no camera it is the 2D UNet.

`psdbench convert mvdream` writes the folder from the public checkpoint.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers.models.attention_processor import AttnProcessor2_0
from torch import Tensor

from psdbench.priors.diffusers import DiffusersPrior
from psdbench.priors.folder import MVDREAM_VIEWS


class MVDreamPrior(DiffusersPrior):
    """MVDream as a frozen prior: batches are sets of four views that follow one another."""

    views = MVDREAM_VIEWS

    def __init__(self, **parts: Any) -> None:
        super().__init__(**parts)
        join_views(self.unet, self.views)

    def _denoise(self, x_t: Tensor, t: Tensor, text: Tensor, poses: Tensor | None) -> Tensor:
        if len(x_t) % self.views:
            raise ValueError(f"{len(x_t)} images are no sets of {self.views} views")
        if poses is None:
            poses = torch.zeros(len(x_t), 16, device=x_t.device)
        return self.unet(x_t, self.network_time(t), text, class_labels=poses.to(self.dtype)).sample


def join_views(unet: Any, views: int) -> None:
    """Let self-attention see all views of a set, and cameras of zeros, the unknown ones, add nothing.

    MVDream leaves the camera embedding out where there is no camera (as for the 2D images of its training).
    """
    joint = JointAttention(views)
    kinds = unet.attn_processors
    unet.set_attn_processor(
        {name: joint if ".attn1." in name else processor for name, processor in kinds.items()}
    )
    unet.class_embedding.register_forward_hook(
        lambda module, inputs, embedding: embedding * inputs[0].any(-1, keepdim=True)
    )


class JointAttention(AttnProcessor2_0):
    """Self-attention over the tokens of a whole set of views: [B · V, L, D] is attended to as [B, V · L, D]."""

    def __init__(self, views: int) -> None:
        super().__init__()
        self.views = views

    def __call__(self, attn: Any, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        batch, tokens = hidden_states.shape[:2]
        joined = hidden_states.reshape(batch // self.views, self.views * tokens, -1)
        return super().__call__(attn, joined, *args, **kwargs).reshape(batch, tokens, -1)
