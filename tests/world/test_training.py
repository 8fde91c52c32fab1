"""The training loop resumes bit for bit, tokenizers are the same in every run, and losses are what they say."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from psdbench.world.evaluate import pair_accuracy
from psdbench.world.grammar import WORDS
from psdbench.world.preference import ANNOTATORS
from psdbench.world.training.loop import Recipe, fit
from psdbench.world.training.pairs import KINDS, Groups
from psdbench.world.training.rewards import DRAWN, Votes
from psdbench.world.training.tokenizers import save_bert_tokenizer, save_clip_tokenizer


def _regression(model: nn.Linear):
    def loss(step: int, generator: torch.Generator) -> Tensor:
        x = torch.randn(8, 4, generator=generator)
        return (model(x) - x.sum(1, keepdim=True)).square().mean()

    return loss


def _fresh() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(4, 1)


def test_an_interrupted_training_ends_with_the_same_bits(tmp_path: Path) -> None:
    recipe = Recipe(steps=30, batch=8, learning_rate=0.05, warmup=5, ema=0.9, checkpoint_every=10)
    (tmp_path / "whole").mkdir()
    (tmp_path / "broken").mkdir()
    model = _fresh()
    whole = fit("toy", model, _regression(model), recipe, tmp_path / "whole", seed=1)

    class Killed(Exception):
        pass

    model = _fresh()
    honest = _regression(model)

    def dies(step: int, generator: torch.Generator) -> Tensor:
        if step == 17:
            raise Killed
        return honest(step, generator)

    with pytest.raises(Killed):
        fit("toy", model, dies, recipe, tmp_path / "broken", seed=1)
    model = _fresh()
    resumed = fit("toy", model, _regression(model), recipe, tmp_path / "broken", seed=1)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))


def test_training_learns(tmp_path: Path) -> None:
    model = _fresh()
    recipe = Recipe(steps=300, batch=8, learning_rate=0.05)
    trained = fit("toy", model, _regression(model), recipe, tmp_path, seed=1)
    assert torch.allclose(trained.weight, torch.ones(1, 4), atol=0.05)


def test_tokenizers_are_reproducible_and_know_every_word(tmp_path: Path) -> None:
    from transformers import BertTokenizer, CLIPTokenizer

    for name in ("one", "two"):
        save_clip_tokenizer(tmp_path / name)
    files = [(tmp_path / name / "tokenizer.json").read_bytes() for name in ("one", "two")]
    assert files[0] == files[1]
    clip = CLIPTokenizer.from_pretrained(tmp_path / "one")
    save_bert_tokenizer(tmp_path / "bert")
    bert = BertTokenizer.from_pretrained(tmp_path / "bert")
    for word in WORDS:
        assert len(clip(word).input_ids) == len(bert(word).input_ids) == 3
    assert clip.decode(clip("größe 猫").input_ids, skip_special_tokens=True).replace(" ", "") == "größe猫"


def test_pair_accuracy_counts_decided_pairs_only() -> None:
    truth = torch.tensor([[10.0, 20.0], [30.0, 30.5], [40.0, 10.0]])
    scores = torch.tensor([[0.0, 1.0], [5.0, 1.0], [0.0, 1.0]])
    assert pair_accuracy(scores, truth, {"kind": (0, 1)}) == {"all pairs": 0.5, "kind": 0.5}


def test_votes_reward_scores_that_follow_the_annotator() -> None:
    generator = torch.Generator().manual_seed(0)
    agreement = torch.rand(40, len(KINDS), generator=generator)
    groups = Groups(
        torch.zeros(40, len(KINDS), 3, 2, 2, dtype=torch.uint8),
        agreement,
        torch.full((40, len(KINDS), 5), 0.5),
        ["a red cube"] * 40,
    )
    votes = Votes(groups, ANNOTATORS["hps"], "cpu")
    rows, columns, loss = votes.draw(32, generator)
    utility = votes.utility[rows[:, None], columns] / ANNOTATORS["hps"].temperature
    assert columns.shape == (32, DRAWN)
    assert loss(utility) < loss(torch.zeros_like(utility)) < loss(-utility)
