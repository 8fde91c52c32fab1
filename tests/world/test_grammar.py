"""Captions and scenes translate into each other, and what lies outside the language is refused with a hint."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from psdbench.cameras import VIEW_WORDS
from psdbench.errors import UsageError
from psdbench.world.grammar import check, describe, in_vocabulary, parse
from psdbench.world.scenes import STYLES, Scene, sample_scene


@given(
    st.integers(0, 2**32),
    st.sampled_from(("", *VIEW_WORDS)),
    st.lists(st.sampled_from(STYLES), unique=True, max_size=3),
)
def test_parse_inverts_describe(seed: int, view: str, styles: list[str]) -> None:
    scene = sample_scene(random.Random(seed))
    caption = parse(describe(scene, view, styles))
    assert caption.scene == Scene(scene.objects, scene.relation)
    assert (caption.view, caption.styles) == (view, tuple(styles))


def test_articles_and_case() -> None:
    assert describe(parse("An ORANGE  cube").scene) == "an orange cube"
    assert describe(parse("red cube").scene) == "a red cube"


@pytest.mark.parametrize(
    ("prompt", "message", "remedy"),
    [
        ("a red cub", "unknown words 'cub'", "'cub' → 'cube'"),
        ("a corgi", "unknown words 'corgi'", "shapes: cube, sphere"),
        ("a red", "is not a [size] colour shape", "for example"),
        ("a red cube on top of a green cone", "nothing stands on top of a cone", "for example"),
        ("a small red cube with a face", "a size or a face, not both", "for example"),
        ("a red cube next to a blue cube next to a pink cube", "at most two objects", "for example"),
        ("a red cube, from", "unknown words 'from'", "shapes"),
        ("a red cube, a face", "neither a view nor a style", "for example"),
        ("", "is not a [size] colour shape", "for example"),
    ],
)
def test_foreign_prompts_are_refused_with_the_culprit(prompt: str, message: str, remedy: str) -> None:
    with pytest.raises(UsageError) as caught:
        check(prompt)
    assert message in str(caught.value)
    assert remedy in caught.value.remedy
    assert not in_vocabulary(prompt)


@given(st.text(max_size=60))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    in_vocabulary(text)
