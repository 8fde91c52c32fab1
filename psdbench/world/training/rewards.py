"""The three preference scorers: different annotators, different architectures, the same kinds of pictures."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from psdbench.scorers.head import ScoreHead
from psdbench.scorers.image_reward import BlipReward
from psdbench.world.preference import ANNOTATORS, Annotator
from psdbench.world.training.labels import ATTRIBUTES, attribute_errors, attribute_table, hard_negatives
from psdbench.world.training.loop import Recipe, fit
from psdbench.world.training.pairs import KINDS, Groups
from psdbench.world.training.pool import Pool

AESTHETIC_RECIPE = Recipe(steps=2500, batch=64, learning_rate=1e-3, checkpoint_every=500)
HPS_RECIPE = Recipe(steps=1100, batch=12, learning_rate=3e-4, weight_decay=0.05, ema=0.99)
MATCHING_RECIPE = Recipe(steps=1000, batch=40, learning_rate=1e-3, weight_decay=0.05, warmup=100)
BLIP_RECIPE = Recipe(steps=1500, batch=16, learning_rate=8e-4, weight_decay=0.05, warmup=100, ema=0.995)
HPS_SCALE = 25.0
"""inverse temperature of the choice between two cosines"""
DRAWN = 4
"""pictures drawn from each group of eight; all their pairs are compared"""


def blip_config(vocabulary: int) -> dict[str, object]:
    """A small BLIP reward: vision 3 × 96 on 8 × 8 patches, text 2 × 96 with cross-attention."""
    shared = {"hidden_size": 96, "intermediate_size": 384, "num_attention_heads": 4}
    vision = {**shared, "num_hidden_layers": 3, "image_size": 64, "patch_size": 8}
    text = {**shared, "num_hidden_layers": 2, "vocab_size": vocabulary, "encoder_hidden_size": 96,
            "max_position_embeddings": 40, "bos_token_id": 2, "sep_token_id": 3, "eos_token_id": 3,
            "pad_token_id": 0}  # fmt: skip
    return {
        "vision_config": vision,
        "text_config": text,
        "mlp": [96, 128, 64, 32, 16, 1],
        "mean": 0.0,
        "std": 1.0,
    }


class Votes:
    """Draws pictures from groups and lets one annotator compare them."""

    def __init__(self, groups: Groups, annotator: Annotator, device: str) -> None:
        self.groups, self.annotator, self.device = groups, annotator, device
        shape = groups.agreement.shape
        utility = annotator.utility(groups.agreement.flatten(), groups.qualities.flatten(0, 1))
        self.utility = utility.view(shape)
        self.pairs = torch.tensor(list(combinations(range(DRAWN), 2)))

    def draw(
        self, count: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, Callable[[Tensor], Tensor]]:
        """Group rows [G], picture columns [G, 4] and the loss of scores [G, 4] under fresh votes."""
        rows = torch.randint(0, len(self.groups.captions), (count,), generator=generator)
        columns = torch.stack([torch.randperm(len(KINDS), generator=generator)[:DRAWN] for _ in range(count)])
        utility = self.utility[rows[:, None], columns]
        first, second = self.pairs.unbind(1)
        votes = (
            self.annotator.votes_first(utility[:, first], utility[:, second], generator)
            .float()
            .to(self.device)
        )

        def loss(scores: Tensor) -> Tensor:
            return F.binary_cross_entropy_with_logits(scores[:, first] - scores[:, second], votes)

        return rows, columns, loss

    def pictures(self, rows: Tensor, columns: Tensor) -> Tensor:
        """The drawn pictures, [G·4, 3, 64, 64] in [0, 1]."""
        return self.groups.pixels[rows[:, None], columns].flatten(0, 1).to(self.device).float() / 255

    def captions(self, rows: Tensor) -> list[str]:
        """The caption of every drawn picture."""
        return [self.groups.captions[i] for i in rows.tolist() for _ in range(DRAWN)]


def train_aesthetic(work: Path, groups: Groups, clip: Any, seed: int, device: str) -> ScoreHead:
    """LAION's head on the frozen CLIP image embedding; it never reads the caption."""
    torch.manual_seed(seed)
    votes = Votes(groups, ANNOTATORS["aesthetic"], device)
    with torch.no_grad():
        parts = [clip.get_image_features(p.to(device).float() / 127.5 - 1).pooler_output
                 for p in groups.pixels.flatten(0, 1).split(256)]  # fmt: skip
    embeddings = F.normalize(torch.cat(parts), dim=-1).view(*groups.agreement.shape, -1)
    head = ScoreHead((embeddings.shape[-1], 256, 128, 64, 16, 1)).to(device)

    def loss(step: int, generator: torch.Generator) -> Tensor:
        rows, columns, compare = votes.draw(AESTHETIC_RECIPE.batch, generator)
        return compare(head(embeddings[rows[:, None], columns]))

    return fit("aesthetic", head, loss, AESTHETIC_RECIPE, work, seed, device)


def train_hps(work: Path, groups: Groups, clip: Any, tokenizer: Any, seed: int, device: str) -> nn.Module:
    """The CLIP, fine-tuned so that the preferred picture has the larger cosine (HPS v2, arXiv 2306.09341)."""
    torch.manual_seed(seed)
    votes = Votes(groups, ANNOTATORS["hps"], device)
    clip.requires_grad_(True).train()

    def loss(step: int, generator: torch.Generator) -> Tensor:
        rows, columns, compare = votes.draw(HPS_RECIPE.batch, generator)
        tokens = tokenizer([groups.captions[i] for i in rows.tolist()], padding=True, return_tensors="pt").to(
            device
        )
        said = F.normalize(clip.get_text_features(**tokens).pooler_output, dim=-1)
        seen = clip.get_image_features(votes.pictures(rows, columns) * 2 - 1).pooler_output
        unit = F.normalize(seen, dim=-1).view(len(rows), DRAWN, -1)
        return compare(HPS_SCALE * torch.einsum("gkd,gd->gk", unit, said))

    return fit("hps", clip, loss, HPS_RECIPE, work, seed, device)


class _Matching(nn.Module):
    """BLIP towers with throw-away heads: does the caption match, and what is in the picture?"""

    def __init__(self, reward: BlipReward) -> None:
        super().__init__()
        self.reward = reward
        width = reward.config["mlp"][0]
        self.match, self.attributes = nn.Linear(width, 1), nn.Linear(width, sum(ATTRIBUTES.values()))

    def loss(self, images: Tensor, tokens: Any, matches: Tensor, classes: Tensor) -> Tensor:
        """Binary matching of pictures [2·N] (each twice) with captions [2·N], and attributes of the first N."""
        seen = self.reward.visual_encoder(images * 2 - 1).last_hidden_state
        read = self.reward.text_encoder(
            input_ids=tokens.input_ids,
            attention_mask=tokens.attention_mask,
            encoder_hidden_states=seen.repeat(2, 1, 1),
            is_decoder=False,
        ).last_hidden_state[:, 0]
        match = F.binary_cross_entropy_with_logits(self.match(read).squeeze(-1), matches)
        return match + attribute_errors(self.attributes(seen.mean(1)), classes).mean()


def _learn_matching(work: Path, model: BlipReward, tokenizer: Any, seed: int, device: str) -> None:
    """Pretraining in the manner of BLIP (arXiv 2201.12086): match captions against hard negatives.

    From votes alone the towers hardly start to learn: a vote says one bit about two pictures.
    """
    pool = Pool.load(work)
    classes = attribute_table(pool.captions, pool.cameras)

    def loss(step: int, generator: torch.Generator) -> Tensor:
        rows = pool.indices(MATCHING_RECIPE.batch, generator)
        rng = random.Random(int(torch.randint(0, 2**31, (), generator=generator)))
        captions = [pool.captions[i] for i in rows.tolist()]
        wrong = [rng.choice(list(hard_negatives(c, rng).values())) for c in captions]
        tokens = tokenizer(captions + wrong, padding=True, return_tensors="pt").to(device)
        images = pool.pixels[rows].to(device).float() / 255
        matches = torch.arange(2, device=device).flip(0).repeat_interleave(len(captions)).float()
        return pretraining.loss(images, tokens, matches, classes[rows].to(device))

    pretraining = _Matching(model).to(device).train()
    fit("blip-matching", pretraining, loss, MATCHING_RECIPE, work, seed, device)
    model.requires_grad_(True).train()


def train_image_reward(work: Path, groups: Groups, tokenizer: Any, seed: int, device: str) -> BlipReward:
    """BLIP towers with a head (ImageReward, arXiv 2304.05977): matching first, then votes; scores standardised."""
    torch.manual_seed(seed)
    votes = Votes(groups, ANNOTATORS["image_reward"], device)
    model = BlipReward(blip_config(len(tokenizer))).to(device)
    _learn_matching(work, model, tokenizer, seed, device)

    def scores(rows: Tensor, columns: Tensor) -> Tensor:
        tokens = tokenizer(votes.captions(rows), padding=True, return_tensors="pt").to(device)
        pixels = votes.pictures(rows, columns) * 2 - 1
        return model(pixels, tokens.input_ids, tokens.attention_mask).view(columns.shape)

    def loss(step: int, generator: torch.Generator) -> Tensor:
        rows, columns, compare = votes.draw(BLIP_RECIPE.batch, generator)
        return compare(scores(rows, columns))

    average = fit("image_reward", model, loss, BLIP_RECIPE, work, seed, device)
    model.load_state_dict(average.state_dict())
    model.eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    seen = torch.cat([scores(*votes.draw(64, generator)[:2]).flatten() for _ in range(6)])
    model.config["mean"], model.config["std"] = float(seen.mean()), float(seen.std())
    return model
