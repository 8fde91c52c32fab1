"""Vocabularies for random checkpoints: CLIP's own, and one in the layout of bert-base-uncased made from it."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path

CLIP_MERGES = 49152 - 256 - 2
"""merges of the BPE file that CLIP uses; the file holds more"""
BERT_SIZE = 30522
CLIP_ENDS = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>"}


def byte_letters() -> dict[int, str]:
    """The printable character that stands for each byte in byte-level BPE, in the order of the vocabulary."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + i) for i, byte in enumerate(others)}


def read_merges(bpe: Path) -> list[str]:
    """The merges of a bpe_simple_vocab_16e6.txt.gz."""
    with gzip.open(bpe, "rt", encoding="utf-8") as file:
        return file.read().split("\n")[1 : CLIP_MERGES + 1]


def write_clip_tokenizer(folder: Path, bpe: Path) -> None:
    """The tokenizer files of a CLIP folder on the hub: vocab.json, merges.txt, tokenizer.json and configuration."""
    from transformers import CLIPTokenizer

    folder.mkdir(parents=True, exist_ok=True)
    merges, letters = read_merges(bpe), list(byte_letters().values())
    pieces = [*letters, *(f"{letter}</w>" for letter in letters), *(m.replace(" ", "") for m in merges)]
    pieces += CLIP_ENDS.values()
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n", encoding="utf-8")
    config = {**CLIP_ENDS, "unk_token": CLIP_ENDS["eos_token"], "pad_token": CLIP_ENDS["eos_token"]}
    config |= {"model_max_length": 77, "tokenizer_class": "CLIPTokenizer"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    tokenizer = CLIPTokenizer(vocab=vocabulary, merges=[tuple(merge.split()) for merge in merges])
    tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"))


def write_bert_tokenizer(folder: Path, bpe: Path) -> None:
    """The tokenizer files of bert-base-uncased: special pieces at the usual numbers, words made from CLIP's."""
    from transformers import BertTokenizer

    folder.mkdir(parents=True, exist_ok=True)
    pieces = ["[PAD]", *(f"[unused{i}]" for i in range(99)), "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    pieces += [f"[unused{i}]" for i in range(99, 994)]
    pieces = list(dict.fromkeys([*pieces, *_characters(), *_words(read_merges(bpe))]))[:BERT_SIZE]
    (folder / "vocab.txt").write_text("\n".join(pieces) + "\n", encoding="utf-8")
    config = {"do_lower_case": True, "model_max_length": 512, "tokenizer_class": "BertTokenizer"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    tokenizer = BertTokenizer(vocab={piece: number for number, piece in enumerate(pieces)})
    tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"))


def _characters() -> Iterator[str]:
    """Single characters, whole and as continuations; some scripts wholly, some in part, some not at all."""
    blocks = [(0x21, 0x7F), (0xA1, 0x180), (0x391, 0x3CA), (0x410, 0x450), (0x621, 0x64B), (0x905, 0x93A)]
    blocks += [(0x3041, 0x30FF), (0x4E00, 0x5200), (0x65E5, 0x6700), (0x2200, 0x2270)]
    for first, last in blocks:
        for character in map(chr, range(first, last)):
            if character.lower() == character and not character.isspace():
                yield character
                yield f"##{character}"


def _words(merges: list[str]) -> Iterator[str]:
    """CLIP's pieces of letters as BERT's: words and continuations, in the order of their frequency."""
    bytes_of = {letter: byte for byte, letter in byte_letters().items()}
    for merge in merges:
        piece = merge.replace(" ", "")
        word = piece.removesuffix("</w>")
        try:
            text = bytes(bytes_of[letter] for letter in word).decode("utf-8")
        except (KeyError, UnicodeDecodeError):
            continue
        if text.isalpha():
            yield text if piece != word or len(text) > 3 else f"##{text}"
            if piece != word:
                yield f"##{text}"
