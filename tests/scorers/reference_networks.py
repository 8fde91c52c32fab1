"""The official networks written out in plain torch, small: what our classes must compute from the same files.

Their state dicts are the layouts of OpenCLIP and of ImageReward.pt, since the modules have the same names.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional


class Block(nn.Module):
    """OpenCLIP's residual attention block, normalisation first."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        layers = [
            ("c_fc", nn.Linear(width, hidden)),
            ("gelu", nn.GELU()),
            ("c_proj", nn.Linear(hidden, width)),
        ]
        self.mlp = nn.Sequential(OrderedDict(layers))

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        y = self.ln_1(x)
        x = x + self.attn(y, y, y, need_weights=False, attn_mask=mask)[0]
        return x + self.mlp(self.ln_2(x))


class Blocks(nn.Module):
    """A stack of them."""

    def __init__(self, width: int, layers: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList([Block(width, heads, hidden) for _ in range(layers)])

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        for block in self.resblocks:
            x = block(x, mask)
        return x


class Visual(nn.Module):
    """OpenCLIP's vision tower."""

    def __init__(self, width: int, hidden: int, size: int, patch: int, out: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, patch, patch, bias=False)
        self.class_embedding = nn.Parameter(torch.empty(width))
        self.positional_embedding = nn.Parameter(torch.empty((size // patch) ** 2 + 1, width))
        self.ln_pre, self.ln_post = nn.LayerNorm(width), nn.LayerNorm(width)
        self.transformer = Blocks(width, 2, 2, hidden)
        self.proj = nn.Parameter(torch.empty(width, out))

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.conv1(pixels).flatten(2).transpose(1, 2)
        x = torch.cat([self.class_embedding.expand(len(x), 1, -1), x], dim=1) + self.positional_embedding
        return self.ln_post(self.transformer(self.ln_pre(x))[:, 0]) @ self.proj


class OpenClip(nn.Module):
    """OpenCLIP's two towers, with GELU as in ViT-H-14."""

    def __init__(self, vocabulary: int, length: int, width: int = 16, size: int = 32, out: int = 8) -> None:
        super().__init__()
        self.visual = Visual(24, 40, size, 8, out)
        self.transformer = Blocks(width, 2, 2, 32)
        self.token_embedding = nn.Embedding(vocabulary, width)
        self.positional_embedding = nn.Parameter(torch.empty(length, width))
        self.ln_final = nn.LayerNorm(width)
        self.text_projection = nn.Parameter(torch.empty(width, out))
        self.logit_scale = nn.Parameter(torch.tensor(4.0))
        randomise(self)

    def encode_text(self, ids: Tensor) -> Tensor:
        length = ids.shape[1]
        mask = torch.full((length, length), -torch.inf).triu(1)
        x = self.transformer(self.token_embedding(ids) + self.positional_embedding, mask)
        ends = self.ln_final(x)[torch.arange(len(ids)), ids.argmax(-1)]
        return ends @ self.text_projection

    def cosine(self, pixels: Tensor, ids: Tensor) -> Tensor:
        """[N] of preprocessed pixels and tokens, the end of the text being the highest token."""
        return functional.cosine_similarity(self.visual(pixels), self.encode_text(ids))


@torch.no_grad()
def randomise(module: nn.Module, seed: int = 0) -> None:
    """Values that make every parameter count: also biases and normalisations differ from 0 and 1."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in module.named_parameters():
        if parameter.ndim:
            centre = 1.0 if "ln_" in name and name.endswith("weight") else 0.0
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3 + centre)


def image_reward_state(
    vocabulary: int, width: int = 16, hidden: int = 32, size: int = 32
) -> dict[str, Tensor]:
    """A random checkpoint in the layout of ImageReward.pt: 2 + 2 layers, 8 x 8 patches, with its unused parts."""
    shapes: dict[str, tuple[int, ...]] = {}

    def linear(name: str, out: int, into: int) -> None:
        shapes.update({f"{name}.weight": (out, into), f"{name}.bias": (out,)})

    def norm(name: str) -> None:
        shapes.update({f"{name}.weight": (width,), f"{name}.bias": (width,)})

    eye, reader = "blip.visual_encoder", "blip.text_encoder"
    shapes |= {f"{eye}.cls_token": (1, 1, width), f"{eye}.pos_embed": (1, (size // 8) ** 2 + 1, width)}
    shapes |= {f"{eye}.patch_embed.proj.weight": (width, 3, 8, 8), f"{eye}.patch_embed.proj.bias": (width,)}
    norm(f"{eye}.norm")
    words = f"{reader}.embeddings"
    shapes |= {f"{words}.word_embeddings.weight": (vocabulary, width)}
    shapes |= {f"{words}.position_embeddings.weight": (40, width)}
    norm(f"{words}.LayerNorm")
    for i in range(2):
        norm(f"{eye}.blocks.{i}.norm1")
        norm(f"{eye}.blocks.{i}.norm2")
        for name, out, into in (
            ("attn.qkv", 3 * width, width),
            ("attn.proj", width, width),
            ("mlp.fc1", hidden, width),
            ("mlp.fc2", width, hidden),
        ):
            linear(f"{eye}.blocks.{i}.{name}", out, into)
        layer = f"{reader}.encoder.layer.{i}"
        for attention in ("attention", "crossattention"):
            for name in ("self.query", "self.key", "self.value", "output.dense"):
                linear(f"{layer}.{attention}.{name}", width, width)
            norm(f"{layer}.{attention}.output.LayerNorm")
        linear(f"{layer}.intermediate.dense", hidden, width)
        linear(f"{layer}.output.dense", width, hidden)
        norm(f"{layer}.output.LayerNorm")
    for index, (into, out) in zip(
        (0, 2, 4, 6, 7), [(width, 16), (16, 8), (8, 8), (8, 4), (4, 1)], strict=True
    ):
        linear(f"mlp.layers.{index}", out, into)
    linear("blip.vision_proj", 4, width)
    linear("blip.text_proj", 4, width)
    generator = torch.Generator().manual_seed(1)
    state = {name: torch.randn(shape, generator=generator) * 0.3 for name, shape in shapes.items()}
    return state | {f"{words}.position_ids": torch.arange(40)[None]}


def image_reward(state: dict[str, Tensor], pixels: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
    """The raw score [N] that the official package computes from such a checkpoint, two heads each."""

    def linear(x: Tensor, name: str) -> Tensor:
        return functional.linear(x, state[f"{name}.weight"], state[f"{name}.bias"])

    def norm(x: Tensor, name: str, eps: float) -> Tensor:
        return functional.layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"], eps)

    def attend(q: Tensor, k: Tensor, v: Tensor, seen: Tensor | None = None) -> Tensor:
        q, k, v = (each.unflatten(-1, (2, -1)).transpose(1, 2) for each in (q, k, v))
        mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=seen)
        return mixed.transpose(1, 2).flatten(-2)

    eye, reader = "blip.visual_encoder", "blip.text_encoder"
    patches = state[f"{eye}.patch_embed.proj.weight"]
    x = functional.conv2d(pixels, patches, state[f"{eye}.patch_embed.proj.bias"], stride=8)
    x = torch.cat([state[f"{eye}.cls_token"].expand(len(x), -1, -1), x.flatten(2).transpose(1, 2)], dim=1)
    x = x + state[f"{eye}.pos_embed"]
    for i in range(2):
        block = f"{eye}.blocks.{i}"
        x = x + linear(
            attend(*linear(norm(x, f"{block}.norm1", 1e-6), f"{block}.attn.qkv").chunk(3, -1)),
            f"{block}.attn.proj",
        )
        inner = functional.gelu(linear(norm(x, f"{block}.norm2", 1e-6), f"{block}.mlp.fc1"))
        x = x + linear(inner, f"{block}.mlp.fc2")
    seen = norm(x, f"{eye}.norm", 1e-6)

    words = f"{reader}.embeddings"
    y = state[f"{words}.word_embeddings.weight"][ids]
    y = norm(y + state[f"{words}.position_embeddings.weight"][: ids.shape[1]], f"{words}.LayerNorm", 1e-12)
    for i in range(2):
        layer = f"{reader}.encoder.layer.{i}"
        for kind, source, open_ in (
            ("attention", None, mask[:, None, None].bool()),
            ("crossattention", seen, None),
        ):
            source = y if source is None else source
            q, k, v = (
                linear(each, f"{layer}.{kind}.self.{name}")
                for each, name in ((y, "query"), (source, "key"), (source, "value"))
            )
            mixed = linear(attend(q, k, v, open_), f"{layer}.{kind}.output.dense")
            y = norm(mixed + y, f"{layer}.{kind}.output.LayerNorm", 1e-12)
        inner = linear(functional.gelu(linear(y, f"{layer}.intermediate.dense")), f"{layer}.output.dense")
        y = norm(inner + y, f"{layer}.output.LayerNorm", 1e-12)
    score = y[:, 0]
    for index in (0, 2, 4, 6, 7):
        score = linear(score, f"mlp.layers.{index}")
    return score[:, 0]
