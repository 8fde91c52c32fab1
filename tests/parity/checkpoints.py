"""Folders of random weights, one for each scorer, as `psdbench prefetch` would place the official ones."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import random_checkpoints
from vocabularies import write_bert_tokenizer, write_clip_tokenizer

from psdbench.parity.references import REFERENCES
from psdbench.scorers.official import OFFICIAL

Layers = tuple[int, int]
"""of the towers of images and of texts"""
FULL: dict[str, Layers] = {
    "image_reward_v1.0": (24, 12),
    "hps_v2.0": (32, 24),
    "hps_v2.1": (32, 24),
    "clip_vit_l14": (24, 12),
    "clip_vit_b32": (12, 12),
    "clip_vit_b16": (12, 12),
    "pickscore_v1": (32, 24),
}
"""those of the official towers"""


def write_checkpoint(
    metric: str,
    library: Path,
    layers: Mapping[str, Layers],
    pythons: Mapping[str, Path],
    bpe: Path,
    say: Callable[[str], None],
) -> None:
    """Make the folder of a scorer where it is not there; its score.json, written last, says that it is whole.

    `pythons` are the interpreters of the environments by their names, `bpe` is CLIP's vocabulary.
    """
    folder = library / metric
    if metric == "aesthetic_laion_v2":
        write_checkpoint("clip_vit_l14", library, layers, pythons, bpe, say)
    if (folder / "score.json").is_file():
        return
    say(f"{metric}: random weights")
    folder.mkdir(parents=True, exist_ok=True)
    kind, python = _maker(metric, pythons)
    depth = layers.get(metric, (0, 0))
    if kind == "image_reward":
        write_bert_tokenizer(folder, bpe)
    elif kind != "aesthetic":
        write_clip_tokenizer(folder, bpe)
    settings: dict[str, object] = {"weights": WEIGHTS[kind]}
    if kind in ("image_reward", "hpsv2"):
        settings["config"] = _with_layers(OFFICIAL[metric]["config"], depth)
    script = [str(python), "-I", random_checkpoints.__file__, kind, str(folder), *map(str, depth)]
    with tempfile.TemporaryDirectory() as place:
        (Path(place) / "bert-base-uncased").symlink_to(folder)
        offline = os.environ | {"HF_HUB_OFFLINE": "1"}
        subprocess.run([*script, str(list(REFERENCES).index(metric))], cwd=place, env=offline, check=True)
    (folder / "score.json").write_text(json.dumps(settings), encoding="utf-8")


WEIGHTS = {
    "clip": "random.safetensors",
    "aesthetic": "random.pth",
    "image_reward": "random.pt",
    "hpsv2": "random.pt",
}
"""the file that each function of random_checkpoints writes"""


def _maker(metric: str, pythons: Mapping[str, Path]) -> tuple[str, Path]:
    """Which function of random_checkpoints makes a scorer's file, under which interpreter."""
    if metric.startswith("image_reward"):
        return "image_reward", pythons["image_reward"]
    if metric.startswith("hps"):
        return "hpsv2", pythons["hpsv2"]
    return "aesthetic" if metric.startswith("aesthetic") else "clip", Path(sys.executable)


def _with_layers(config: dict[str, dict[str, object]], layers: Layers) -> dict[str, object]:
    towers = dict(zip(("vision_config", "text_config"), layers, strict=True))
    changed = {name: {**config[name], "num_hidden_layers": n} for name, n in towers.items() if name in config}
    return {**config, **changed}
