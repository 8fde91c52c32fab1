"""The training distribution: reproducible, free of held-out combinations, and biased to the front as stated."""

from __future__ import annotations

import random

import pytest
import torch

from psdbench.world.data import draw_samples, draw_scene, held_out
from psdbench.world.grammar import parse
from psdbench.world.training.labels import ATTRIBUTES, attribute_table, hard_negatives


def test_samples_depend_on_the_seed_alone() -> None:
    one, same, other = draw_samples(8, 3), draw_samples(8, 3), draw_samples(8, 4)
    assert torch.equal(one.images, same.images)
    assert one.captions == same.captions
    assert not torch.equal(one.images, other.images)


def test_held_out_combinations_never_train() -> None:
    rng = random.Random(0)
    assert not any(held_out(draw_scene(rng)) for _ in range(300))
    assert all(held_out(draw_scene(rng, from_held_out=True)) for _ in range(20))


def test_captions_without_a_view_word_favour_the_front() -> None:
    samples = draw_samples(600, 0)
    front = [abs((a + 180) % 360 - 180) <= 45 for a in samples.cameras.azimuth.tolist()]
    said = [bool(parse(c).view) for c in samples.captions]
    unsaid_front = [f for f, s in zip(front, said, strict=True) if not s]
    said_front = [f for f, s in zip(front, said, strict=True) if s]
    assert sum(unsaid_front) / len(unsaid_front) == pytest.approx(0.85, abs=0.08)
    assert sum(said_front) / len(said_front) == pytest.approx(0.25, abs=0.08)


def test_labels_of_two_objects_follow_the_picture() -> None:
    caption = "a red cube next to a blue cone"
    rows = torch.tensor([[0.0, 10, 2.6, 45], [180.0, 10, 2.6, 45]])
    front, back = attribute_table([caption, caption], rows)
    names = list(ATTRIBUTES)
    assert front[names.index("shape_1")] == 0
    assert back[names.index("shape_1")] == 2
    assert front[names.index("view")] == 0
    assert back[names.index("view")] == 2


def test_hard_negatives_are_wrong_in_the_vocabulary() -> None:
    rng = random.Random(0)
    for caption in draw_samples(60, 1).captions:
        for kind, text in hard_negatives(caption, rng).items():
            assert text != caption, kind
            parse(text)
