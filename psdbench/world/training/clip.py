"""The embedded CLIP: contrastive training with captions that are wrong by one word, and an attribute loss."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from psdbench.cameras import VIEW_WORDS
from psdbench.world.grammar import parse
from psdbench.world.training.labels import (
    ATTRIBUTES,
    NEGATIVE_KINDS,
    attribute_errors,
    attribute_table,
    hard_negatives,
)
from psdbench.world.training.loop import Recipe, fit
from psdbench.world.training.pool import Pool
from psdbench.world.training.tokenizers import MAX_TOKENS

RECIPE = Recipe(steps=1800, batch=48, learning_rate=1.2e-3, weight_decay=0.05, warmup=100, ema=0.99)
VISION_RECIPE = Recipe(steps=1600, batch=48, learning_rate=8e-4, weight_decay=0.05, warmup=50, ema=0.99)
SHAPE_RECIPE = Recipe(steps=2000, batch=48, learning_rate=8e-4, weight_decay=0.05, warmup=50, ema=0.99)
NEGATIVES = 2
VIEWS = ("", *VIEW_WORDS)


def build(vocabulary: int) -> Any:
    """An untrained CLIPModel: text 3 × 128, vision 4 × 128 on 8 × 8 patches, joint space of 128."""
    from transformers import CLIPConfig, CLIPModel

    text = {
        "vocab_size": vocabulary, "hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 3,
        "num_attention_heads": 4, "max_position_embeddings": MAX_TOKENS, "projection_dim": 128,
        "bos_token_id": vocabulary - 2, "eos_token_id": vocabulary - 1, "pad_token_id": vocabulary - 1,
    }  # fmt: skip
    vision = {
        "hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 4, "num_attention_heads": 4,
        "image_size": 64, "patch_size": 8, "projection_dim": 128,
    }  # fmt: skip
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=128))


class _WithAttributes(nn.Module):
    """CLIP and the auxiliary heads, which are thrown away after training."""

    def __init__(self, clip: Any) -> None:
        super().__init__()
        self.clip = clip
        self.image_heads = nn.Linear(128, sum(ATTRIBUTES.values()))
        # no picture tells some views apart (a sphere's left from its right), so contrast alone lets the text tower
        # drop them, and the prior can then not be told from where to look
        self.view_head = nn.Linear(128, len(VIEWS))
        # contrastive training from scratch at this size diverges with CLIP's own start of 1/0.07
        self.clip.logit_scale.data.fill_(2.3)


class ClipTraining:
    """The phases of the CLIP: both towers in bfloat16, then the vision tower alone in full precision.

    What separates a cube from a cylinder are differences of cosine below bfloat16's grain; the last phase pits
    every caption against wrong shapes only, which the others learn last.
    """

    def __init__(self, work: Path, tokenizer_folder: Path, seed: int, device: str) -> None:
        from transformers import CLIPTokenizer

        torch.manual_seed(seed)
        self.work, self.seed, self.device = work, seed, device
        self.pool = Pool.load(work)
        self.tokenizer = CLIPTokenizer.from_pretrained(tokenizer_folder)
        self.classes = attribute_table(self.pool.captions, self.pool.cameras)
        self.model = _WithAttributes(build(len(self.tokenizer))).to(device)

    def towers(self) -> Any:
        """Both towers, after which the text tower is final; returns the CLIPModel."""
        self.model = fit("clip", self.model, self._loss, RECIPE, self.work, self.seed, self.device)
        return self.model.clip

    def vision(self) -> Any:
        """All phases; returns the CLIPModel. Phases that are finished are read from their checkpoints."""
        self.towers()
        phases = (("clip-vision", NEGATIVE_KINDS, VISION_RECIPE), ("clip-shapes", ("shape",), SHAPE_RECIPE))
        for offset, (name, kinds, recipe) in enumerate(phases, start=1):
            loss = partial(self._loss, kinds=kinds)
            for part in (
                self.model.clip.vision_model,
                self.model.clip.visual_projection,
                self.model.image_heads,
            ):
                part.requires_grad_(True)
            self.model = fit(name, self.model, loss, recipe, self.work, self.seed + offset, self.device)
        return self.model.clip

    def _loss(self, step: int, generator: torch.Generator, kinds: Sequence[str] = NEGATIVE_KINDS) -> Tensor:
        pool, rows = self.pool, self.pool.indices(RECIPE.batch, generator)
        rng = random.Random(int(torch.randint(0, 2**31, (), generator=generator)))
        captions = [pool.captions[i] for i in rows.tolist()]
        images = _augment(pool.pixels[rows].to(self.device).float() / 255, generator)
        options = [[text for kind, text in hard_negatives(c, rng).items() if kind in kinds] for c in captions]
        texts = captions + [text for group in options for text in rng.choices(group, k=NEGATIVES)]
        both = self.model.clip.text_projection.weight.requires_grad
        with torch.autocast(self.device, torch.bfloat16, enabled=both):
            return _loss(
                self.model, images, texts, captions, self.classes[rows].to(self.device), self.tokenizer
            )


def _augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """A little shift and brightness: the towers must not lean on exact pixels."""
    dx, dy = torch.randint(-3, 4, (2,), generator=generator).tolist()
    gain = 0.9 + 0.2 * torch.rand(len(images), 1, 1, 1, generator=generator).to(images)
    return (torch.roll(images, (dy, dx), (-2, -1)) * gain).clamp(0, 1)


def _loss(
    model: _WithAttributes,
    images: Tensor,
    texts: list[str],
    captions: list[str],
    classes: Tensor,
    tokenizer: Any,
) -> Tensor:
    clip, count = model.clip, len(images)
    tokens = tokenizer(texts, padding=True, truncation=True, return_tensors="pt").to(images.device)
    seen = clip.get_image_features((images - 0.5) / 0.5).pooler_output
    read = clip.get_text_features(**tokens)
    said = F.normalize(read.pooler_output, dim=-1)
    scale = clip.logit_scale.clamp(max=4.6).exp()
    unit = F.normalize(seen, dim=-1)
    same = torch.tensor([[a == b for b in captions] for a in captions], device=images.device)
    twins = same & ~torch.eye(count, dtype=torch.bool, device=images.device)
    among = (scale * unit @ said[:count].T).float().masked_fill(twins, -1e4)
    own = said[count:].unflatten(0, (count, NEGATIVES))
    against = (scale * torch.einsum("bd,bkd->bk", unit, own)).float()
    target = torch.arange(count, device=images.device)
    contrast = F.cross_entropy(torch.cat([among, against], 1), target) + F.cross_entropy(among.T, target)
    attribute = attribute_errors(model.image_heads(seen), classes).mean()
    # the hard negatives once more on their own: among 64 easy captions they hardly count
    hard = F.cross_entropy(torch.cat([among.diagonal()[:, None], against], 1), torch.zeros_like(target))
    views = torch.tensor([VIEWS.index(parse(text).view) for text in texts], device=images.device)
    view = F.cross_entropy(model.view_head(read.last_hidden_state.mean(1)).float(), views)
    return contrast + hard + attribute + view
