"""Prompts as OpenCLIP tidies them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from psdbench.scorers.tokens import clean


@pytest.mark.parametrize(
    ("prompt", "tidy"),
    [
        ("a  red\n\tcube ", "a red cube"),
        ("A Red CUBE, ΟΔΟΣ", "a red cube, οδος"),
        ("“quoted” and it’s ‘single’", "\"quoted\" and it's 'single'"),
        ("cats &amp; dogs", "cats & dogs"),
        ("&lt;b&gt; &amp;amp; x", "<b> & x"),
        ("<i>&amp;</i>", "<i>&</i>"),
        ("ﬂuﬀy ﬁre", "fluffy fire"),
        ("ＦＵＬＬ　ｗｉｄｔｈ！", "full width!"),
        ("cafe\u0301", "caf\u00e9"),
        ("a cafÃ© â€” wrongly decoded", "a café — wrongly decoded"),
        ("a\x00b\ufeffc\x1b[31md", "abcd"),
        ("日本の城 🏯", "日本の城 🏯"),
        ("", ""),
    ],
)
def test_prompts_are_tidied(prompt: str, tidy: str) -> None:
    assert clean(prompt) == tidy


@given(
    st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=126, exclude_characters="&"), max_size=60)
)
def test_plain_text_only_loses_blanks_and_capitals(prompt: str) -> None:
    assert clean(prompt) == " ".join(prompt.split()).lower()


@given(st.text(max_size=40))
def test_any_text_becomes_one_line_without_controls(prompt: str) -> None:
    text = clean(prompt)
    assert text == text.strip()
    assert not any(character in text for character in "\n\t\x00\x1b\ufeff\u201c\u2019")
