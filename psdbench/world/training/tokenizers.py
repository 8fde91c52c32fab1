"""The two tokenizers of the embedded world, in the formats that CLIP and BERT use."""

from __future__ import annotations

import json
from itertools import groupby
from pathlib import Path
from typing import Any, cast

from psdbench.world.grammar import WORDS

MAX_TOKENS = 32


def save_clip_tokenizer(folder: Path) -> None:
    """Byte-level BPE in CLIP's files: every byte is a token, so any text encodes; every world word is one token.

    Merges are learned by the `tokenizers` trainer from the world's own words, and checked afterwards.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import CLIPTokenizer

    folder.mkdir(parents=True, exist_ok=True)
    learner = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    learner.pre_tokenizer = pre_tokenizers.Whitespace()
    words = sorted(WORDS)
    trainer = trainers.BpeTrainer(
        vocab_size=4096, end_of_word_suffix="</w>", min_frequency=1, show_progress=False
    )
    learner.train_from_iterator([f"{w} {w}" for w in words], trainer)
    merges = _canonical([tuple(pair) for pair in json.loads(learner.to_str())["model"]["merges"]])
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = alphabet + [c + "</w>" for c in alphabet] + ["".join(pair) for pair in merges]
    tokens = [*dict.fromkeys(tokens), "<|startoftext|>", "<|endoftext|>"]
    vocab = {token: index for index, token in enumerate(tokens)}
    tokenizer = CLIPTokenizer(vocab=vocab, merges=cast(Any, merges), model_max_length=MAX_TOKENS)
    tokenizer.save_pretrained(folder)
    loaded = CLIPTokenizer.from_pretrained(folder)
    broken = [w for w in words if len(loaded(w).input_ids) != 3]
    if broken:
        raise AssertionError(f"words that are not one token: {broken}")


def _canonical(merges: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """The same merges in an order that every run agrees on.

    The trainer breaks ties between last letters (on, of) by the order of a hash map, which changes from run to run.
    """

    def tie(pair: tuple[str, str]) -> tuple[str, bool]:
        return pair[0], len(pair[1].removesuffix("</w>")) == 1 and pair[1].endswith("</w>")

    return [pair for (_, tied), run in groupby(merges, tie) for pair in (sorted(run) if tied else run)]


def save_bert_tokenizer(folder: Path) -> None:
    """WordPiece in BERT's files: the world's words, and single characters for everything else."""
    from transformers import BertTokenizer

    folder.mkdir(parents=True, exist_ok=True)
    characters = [chr(c) for c in range(33, 127) if not chr(c).isupper()]
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *sorted(WORDS)]
    tokens += [c for c in characters if c not in WORDS] + [f"##{c}" for c in characters]
    vocab = {token: index for index, token in enumerate(tokens)}
    BertTokenizer(vocab=vocab, model_max_length=MAX_TOKENS).save_pretrained(folder)
