"""From prompts to tokens, as the official packages make them; what is cut off is said."""

from __future__ import annotations

import html
import logging
import re
import unicodedata
from collections.abc import Sequence
from typing import Any

LOG = logging.getLogger(__name__)
_QUOTES = str.maketrans(
    {
        **dict.fromkeys("\u02bc\u2018\u2019\u201a\u201b", "'"),
        **dict.fromkeys("\u201c\u201d\u201e\u201f", '"'),
        **{ligature: unicodedata.normalize("NFKC", ligature) for ligature in "ĲĳǄǅǆǇǈǉǊǋǌǱǲǳﬀﬁﬂﬃﬄﬅﬆ"},
    }
)
_WIDE = re.compile("[\u3000\uff01-\uffef]+")
_TERMINAL = re.compile("\033\\[((?:\\d|;)*)([a-zA-Z])")
_CONTROLS = re.compile("[\x00-\x08\x0b\x0e-\x1f\x7f\u206a-\u206f\ufeff\ufff9-\ufffc]")


def clean(prompt: str) -> str:
    """A prompt as OpenAI's and OpenCLIP's tokenizers tidy it before they split it; they lower the case too.

    HTML entities are read (twice), curly quotes straightened, ligatures and full-width letters written out,
    control characters dropped, accents composed (NFC), white space made single blanks. Those tokenizers call
    the package ftfy for it; its repair of wrongly decoded text (``cafÃ©``) is not repeated here.
    """
    text = prompt if "<" in prompt else html.unescape(prompt)  # ftfy leaves entities alone beside tags
    text = _TERMINAL.sub("", text).translate(_QUOTES)
    text = _WIDE.sub(lambda wide: unicodedata.normalize("NFKC", wide[0]), text)
    text = unicodedata.normalize("NFC", _CONTROLS.sub("", text))
    return " ".join(html.unescape(html.unescape(text)).split())


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
