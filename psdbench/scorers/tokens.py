"""From prompts to tokens, as the official packages make them; what is cut off is said."""

from __future__ import annotations

import html
import logging
from collections.abc import Sequence
from typing import Any

import ftfy

LOG = logging.getLogger(__name__)


def clean(prompt: str) -> str:
    """A prompt as OpenAI's and OpenCLIP's tokenizers tidy it before they split it.

    Wrongly decoded text is mended, curly quotes, ligatures and wide letters written plainly, accents composed and
    control characters dropped (all by ftfy), HTML entities read, twice, white space made single blanks, and capitals
    lowered.
    """
    return " ".join(html.unescape(html.unescape(ftfy.fix_text(prompt))).split()).lower()


class PromptReader:
    """A tokenizer with a limit. A prompt beyond it is cut, its end mark kept, and a warning says so once.

    `limit` counts tokens with the marks of beginning and end; `name` says in the warning who reads.
    """

    def __init__(self, tokenizer: Any, limit: int, name: str, cleaned: bool = False) -> None:
        self.tokenizer, self.name, self.cleaned = tokenizer, name, cleaned
        self.limit = min(limit, tokenizer.model_max_length)
        self._seen: set[str] = set()

    def __call__(self, prompts: Sequence[str]) -> Any:
        """Tokens and mask, ``input_ids`` and ``attention_mask`` [N, limit], padded."""
        texts = [clean(prompt) if self.cleaned else prompt for prompt in prompts]
        for text in dict.fromkeys(texts):
            if text not in self._seen:
                self._seen.add(text)
                self._warn_if_cut(text)
        return self.tokenizer(
            texts, padding="max_length", truncation=True, max_length=self.limit, return_tensors="pt"
        )

    def _warn_if_cut(self, text: str) -> None:
        length = len(self.tokenizer(text, verbose=False).input_ids)
        if length > self.limit:
            beginning = text if len(text) <= 60 else f"{text[:60]}…"
            message = "%s reads %d tokens; a prompt of %d is cut there: %s"
            LOG.warning(message, self.name, self.limit, length, beginning)
