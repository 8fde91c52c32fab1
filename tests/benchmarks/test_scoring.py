"""Seconds for each of 64 renders under all official scorers: together, and one by one as the packages' READMEs show.

`make speed` asks the official packages themselves, on a CPU. They cannot be installed beside each other, so the other
side here, which runs wherever psdbench does, restates with the same classes and the same random weights what their
READMEs do for an image and a prompt: each of LAION's predictor, ImageReward, PickScore, CLIP score (three models) and
HPS (v2.0 and v2.1) opens the file, preprocesses it, encodes image and prompt, one image at a time; `hpsv2.score` also
reads its checkpoint from the disk at every call. What a README loads once is loaded once here too.

How much is saved depends on what the arithmetic of the towers costs, which batches do not make less. On a GPU it is
little beside two checkpoints of 2 GB read for each image. On a CPU it is most of the time, so the CPU case is about
what is around it: the towers have an eighth of their width and four layers, but all their inputs, patches and words,
and the seconds are those that the process computed, on one thread, for a machine is seldom idle. `-m gpu` measures
the official sizes by the clock, in single precision; it writes 12 GB of random checkpoints.
"""

from __future__ import annotations

import json
import resource
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from psdbench.scorers import load_scorer
from psdbench.scorers.asset import AssetViews, eyes, score_views
from psdbench.scorers.eye import look
from psdbench.scorers.head import LAION_WIDTHS, ScoreHead
from psdbench.scorers.image_reward import BlipReward
from psdbench.scorers.pictures import read_picture
from psdbench.world.training.tokenizers import save_bert_tokenizer, save_clip_tokenizer

ASSETS, VIEWS, SIDE = 8, 8, 512
SAMPLE = 16
"""renders that are scored one by one: each costs the same"""
CLIPS = {
    "clip_vit_l14": (1024, 24, 14, 768, 12),
    "clip_vit_b32": (768, 12, 32, 512, 12),
    "clip_vit_b16": (768, 12, 16, 512, 12),
    "pickscore_v1": (1280, 32, 14, 1024, 24),
    "hps_v2.0": (1280, 32, 14, 1024, 24),
    "hps_v2.1": (1280, 32, 14, 1024, 24),
}
"""width and layers of the vision tower, its patches, width and layers of the text tower"""


@dataclass(frozen=True)
class Size:
    """How much smaller than the official ones the networks are."""

    device: str
    aim: float
    """times fewer seconds for each image"""
    narrower: int = 1
    layers: int | None = None
    words: int = 49408

    def tower(self, width: int, layers: int) -> dict[str, int]:
        """The fields that transformers' CLIP, BLIP and BERT share."""
        width //= self.narrower
        return {
            "hidden_size": width,
            "intermediate_size": 4 * width,
            "num_hidden_layers": self.layers or layers,
            "num_attention_heads": max(1, width // 64),
        }


SIZES = [
    pytest.param(Size("cpu", 2.0, 8, 4), id="narrow-cpu"),
    pytest.param(Size("cuda", 5.0), id="official-gpu", marks=pytest.mark.gpu),
]


def write_weights(root: Path, size: Size) -> None:
    """A folder of random weights for every official scorer."""
    from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

    torch.manual_seed(0)
    for name, (width, layers, patch, text_width, text_layers) in CLIPS.items():
        folder = root / name
        save_clip_tokenizer(folder)
        tokenizer = CLIPTokenizer.from_pretrained(folder)
        ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
        text = {**size.tower(text_width, text_layers), **ends, "vocab_size": size.words}
        text["max_position_embeddings"] = 77
        vision = {**size.tower(width, layers), "image_size": 224, "patch_size": patch}
        config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=text["hidden_size"])
        half = {key: value.half() for key, value in CLIPModel(config).state_dict().items()}
        torch.save({"state_dict": half}, folder / "random.pt")
        write_settings(folder, config=config.to_dict())
    folder = root / "image_reward_v1.0"
    save_bert_tokenizer(folder)
    ends = {"bos_token_id": 2, "sep_token_id": 3, "eos_token_id": 3, "pad_token_id": 0}
    reader = {**size.tower(768, 12), **ends, "vocab_size": min(size.words, 30524)}
    blip = {
        "vision_config": {**size.tower(1024, 24), "image_size": 224, "patch_size": 16},
        "text_config": {**reader, "max_position_embeddings": 512},
        "mlp": [768 // size.narrower, *LAION_WIDTHS],
        "mean": 0.0,
        "std": 1.0,
    }
    torch.save(BlipReward(blip).state_dict(), folder / "random.pt")
    write_settings(folder, config=blip)
    head = ScoreHead([768 // size.narrower, *LAION_WIDTHS]).state_dict()
    write_settings(root / "aesthetic_laion_v2")
    torch.save(head, root / "aesthetic_laion_v2" / "random.pt")


SETTINGS = {"weights": "random.pt", "layout": "plain"}


def write_settings(folder: Path, **settings: Any) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "score.json").write_text(json.dumps({**settings, **SETTINGS}))


@pytest.fixture(params=SIZES)
def size(request: pytest.FixtureRequest, benchmark: Any) -> Size:
    """The networks of a case; where nothing is measured, still smaller ones."""
    if request.param.device == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    return request.param if benchmark.enabled else replace(request.param, narrower=32, layers=1, words=1000)


@pytest.fixture
def scorers(size: Size, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every official scorer of one picture."""
    monkeypatch.setenv("PSDBENCH_WEIGHTS", str(tmp_path))
    write_weights(tmp_path, size)
    names = ("aesthetic_laion_v2", "image_reward_v1.0", *CLIPS)
    return [load_scorer(name, size.device) for name in names]


@pytest.fixture
def renders(tmp_path: Path) -> dict[str, list[Path]]:
    """The pictures of each prompt: smooth ones, which a PNG file holds as it holds renders."""
    noise = torch.rand(ASSETS * VIEWS, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    smooth = torch.nn.functional.interpolate(noise, (SIDE, SIDE), mode="bicubic").clamp(0, 1)
    paths = []
    for number, image in enumerate(smooth):
        pixels = image.mul(255).byte().permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
        paths.append(tmp_path / f"{number}.png")
    return {f"a red cube, number {i}": paths[i * VIEWS : (i + 1) * VIEWS] for i in range(ASSETS)}


def together(scorers: Sequence[Any], renders: dict[str, list[Path]]) -> dict[str, list[float | None]]:
    """As `psdbench score` does it."""
    assets = [
        AssetViews(prompt, torch.stack([read_picture(path) for path in paths]))
        for prompt, paths in renders.items()
    ]
    look(eyes(scorers), assets)
    return {
        scorer.id: [value for views in assets for value in score_views(scorer, views)] for scorer in scorers
    }


@torch.no_grad()
def as_the_readmes(scorer: Any, path: Path, prompt: str) -> Tensor:
    """One image and one prompt, from the file to the score."""
    if scorer.id.startswith("hps"):
        checkpoint = torch.load(scorer.folder / "random.pt", map_location=scorer.device, weights_only=True)
        scorer.tower.model.load_state_dict(checkpoint["state_dict"])
    pixels = scorer.eye.pixels(read_picture(path)[None])
    if scorer.id.startswith("image_reward"):
        tokens = scorer.read([prompt]).to(scorer.device)
        return scorer.model(pixels, tokens["input_ids"], tokens["attention_mask"])
    model = scorer.tower.model
    seen = torch.nn.functional.normalize(model.get_image_features(pixels).pooler_output, dim=-1)
    if scorer.id.startswith("aesthetic"):
        return scorer.head(seen)
    ids = scorer.tower.read([prompt])["input_ids"].to(scorer.device)
    said = torch.nn.functional.normalize(model.get_text_features(ids).pooler_output, dim=-1)
    cosine = (seen * said).sum(-1)
    if scorer.id.startswith("clip"):
        return (100 * cosine).clamp(min=0)
    return cosine * model.logit_scale.exp() if scorer.id.startswith("pickscore") else cosine


def one_by_one(scorers: Sequence[Any], renders: dict[str, list[Path]]) -> dict[str, list[float]]:
    """As the packages' READMEs show."""
    pairs = [(path, prompt) for prompt, paths in renders.items() for path in paths]
    return {
        scorer.id: [as_the_readmes(scorer, path, prompt).item() for path, prompt in pairs]
        for scorer in scorers
    }


def timed(device: str, call: Callable[..., Any], *args: Any) -> tuple[float, Any]:
    """Seconds and result: of computing on a CPU, of waiting for a GPU."""
    clock = time.process_time if device == "cpu" else time.perf_counter
    start = clock()
    result = call(*args)
    return clock() - start, result


def test_scores_together_and_one_by_one(
    scorers: list[Any], renders: dict[str, list[Path]], size: Size, benchmark: Any
) -> None:
    few = {prompt: paths[:1] for prompt, paths in list(renders.items())[:2]}
    renders = renders if benchmark.enabled else few
    sample = {prompt: paths[: SAMPLE // ASSETS] for prompt, paths in renders.items()}
    together(scorers, few)  # loads the weights
    assert (
        len(set(eyes(scorers))) == len(scorers) - 1
    )  # the aesthetic head shares the tower of the CLIP score
    for scorer in scorers:
        if hasattr(scorer, "tower"):
            scorer.tower._texts.clear()
    seconds, ours = benchmark.pedantic(timed, args=(size.device, together, scorers, renders), rounds=1)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    seconds_one_by_one, theirs = timed(size.device, one_by_one, scorers, sample)
    seen = [path for paths in renders.values() for path in paths]
    rows = [seen.index(path) for paths in sample.values() for path in paths]
    for name, values in theirs.items():
        assert [ours[name][row] for row in rows] == pytest.approx(values, rel=1e-3, abs=2e-4), name
    each, each_one_by_one = seconds / len(seen), seconds_one_by_one / len(rows)
    figures = {
        "images": len(seen),
        "ms_per_image": 1e3 * each,
        "ms_per_image_one_by_one": 1e3 * each_one_by_one,
        "ratio": each_one_by_one / each,
        "peak_rss_mb": peak,
    }
    benchmark.extra_info.update(figures)
    print({key: round(value, 1) for key, value in figures.items()})
    if benchmark.enabled:
        assert figures["ratio"] >= size.aim
