"""The official side of a parity check: a script for an interpreter that has the official packages.

    PYTHON official_side.py REQUEST.json ANSWER.json

It imports nothing of psdbench, so that no mistake can be made on both sides. The request names a `reference` (a
function of this file), a checkpoint, pictures, prompts and pairs of them; the answer holds the `scores` of the pairs
and the `versions` of the packages, or, where something is missing, `problem` and `remedy`. All on the CPU, float32.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import json
import sys
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

Request = dict[str, Any]
BPE = "bpe_simple_vocab_16e6.txt.gz"


class Missing(Exception):
    """What the environment lacks (first argument), and how to get it (second)."""


def each_pair(request: Request) -> Iterator[tuple[str, str]]:
    """Path of the picture and prompt of each pair."""
    for picture, prompt in request["pairs"]:
        yield request["pictures"][picture], request["prompts"][prompt]


def image_reward(request: Request) -> list[float]:
    """`ImageReward.load` and its `score`, as the package's README calls them.

    The working directory holds the tokenizer's files in a folder ``bert-base-uncased``.
    """
    import ImageReward
    from ImageReward.models.BLIP import blip

    blip.VisionTransformer = _with_depth(blip.VisionTransformer, request["layers"][0])
    model = ImageReward.load(
        request["weights"], device="cpu", med_config=str(Path(request["folder"], "med_config.json"))
    )
    return [model.score(prompt, picture) for picture, prompt in each_pair(request)]


def _with_depth(build: Callable[..., Any], layers: int) -> Callable[..., Any]:
    """The constructor with another number of layers; the package fixes it in its code."""
    return lambda *args, **settings: build(*args, **{**settings, "depth": layers})


def hpsv2(request: Request) -> list[float]:
    """`hpsv2.img_score.score` on all pictures of each prompt; it reads the checkpoint again at every call.

    One thing is left out: before the checkpoint the package fetches LAION's weights, 4 GB, which it then overwrites.
    """
    _find_vocabulary()
    from hpsv2 import img_score
    from hpsv2.src.open_clip import factory

    config = factory._MODEL_CONFIGS["ViT-H-14"]
    config["vision_cfg"]["layers"], config["text_cfg"]["layers"] = request["layers"]
    create = img_score.create_model_and_transforms
    img_score.create_model_and_transforms = lambda name, _, **settings: create(name, None, **settings)
    scores: dict[tuple[int, int], float] = {}
    for prompt in dict.fromkeys(prompt for _, prompt in request["pairs"]):
        seen = [picture for picture, other in request["pairs"] if other == prompt]
        found = img_score.score(
            [request["pictures"][picture] for picture in seen],
            request["prompts"][prompt],
            cp=request["weights"],
        )
        scores.update(((picture, prompt), float(score)) for picture, score in zip(seen, found, strict=True))
    return [scores[picture, prompt] for picture, prompt in request["pairs"]]


def _find_vocabulary() -> None:
    """Missing where hpsv2 lies there without the vocabulary that its wheel forgets."""
    spec = importlib.util.find_spec("hpsv2")
    place = Path(str(spec.origin)).parent / "src" / "open_clip" if spec else Path()
    if not (place / BPE).is_file():
        raise Missing(f"hpsv2 has no {BPE}", f"copy the file of that name from open_clip_torch into {place}")


def openai_clip(request: Request) -> list[float]:
    """OpenAI's package as its README calls it: CLIP score, or under a head LAION's aesthetic prediction."""
    import clip
    import torch

    state = as_openai(_read(request["weights"]))
    model = clip.model.build_model(state).float()
    preprocess = clip.clip._transform(model.visual.input_resolution)
    head = laion_head(_read(request["head"])) if request.get("head") else None

    @torch.no_grad()
    def score(picture: str, prompt: str) -> float:
        from PIL import Image

        image = model.encode_image(preprocess(Image.open(picture))[None])
        image = image / image.norm(dim=-1, keepdim=True)
        if head:
            return head(image).item()
        text = model.encode_text(clip.tokenize([prompt], truncate=True))
        return max(100 * (image * (text / text.norm(dim=-1, keepdim=True))).sum().item(), 0.0)

    return [score(*pair) for pair in each_pair(request)]


def laion_head(state: dict[str, Any]) -> Any:
    """The network that LAION's improved-aesthetic-predictor defines: five linear layers, nothing between."""
    from torch import nn

    widths = [768, 1024, 128, 64, 16, 1]
    dropouts = [[nn.Dropout(0.2)], [nn.Dropout(0.2)], [nn.Dropout(0.1)], [], []]
    layers = [
        [nn.Linear(*sizes), *dropout] for sizes, dropout in zip(pairwise(widths), dropouts, strict=True)
    ]
    head = nn.Module()
    head.layers = nn.Sequential(*(layer for pair in layers for layer in pair))
    head.load_state_dict(state)
    return head.layers.eval()


def as_openai(state: dict[str, Any]) -> dict[str, Any]:
    """A CLIP state dict of transformers in the names and shapes of OpenAI's package."""
    import torch

    whole = {
        "logit_scale": "logit_scale",
        "visual_projection.weight": "visual.proj",
        "text_projection.weight": "text_projection",
        "text_model.embeddings.token_embedding.weight": "token_embedding.weight",
        "text_model.embeddings.position_embedding.weight": "positional_embedding",
        "text_model.final_layer_norm.weight": "ln_final.weight",
        "text_model.final_layer_norm.bias": "ln_final.bias",
        "vision_model.embeddings.class_embedding": "visual.class_embedding",
        "vision_model.embeddings.patch_embedding.weight": "visual.conv1.weight",
        "vision_model.embeddings.position_embedding.weight": "visual.positional_embedding",
    }
    for end in ("weight", "bias"):
        whole[f"vision_model.pre_layrnorm.{end}"] = f"visual.ln_pre.{end}"
        whole[f"vision_model.post_layernorm.{end}"] = f"visual.ln_post.{end}"
    made = {
        theirs: state[ours].T if ours.endswith("projection.weight") else state[ours]
        for ours, theirs in whole.items()
    }
    parts = {"layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj"}
    for tower, start in (("text_model", ""), ("vision_model", "visual.")):
        before = f"{tower}.encoder.layers."
        for number in {int(key[len(before) :].split(".")[0]) for key in state if key.startswith(before)}:
            ours, theirs = f"{before}{number}.", f"{start}transformer.resblocks.{number}."
            for end in ("weight", "bias"):
                thirds = [state[f"{ours}self_attn.{name}_proj.{end}"] for name in "qkv"]
                made[f"{theirs}attn.in_proj_{end}"] = torch.cat(thirds)
                made[f"{theirs}attn.out_proj.{end}"] = state[f"{ours}self_attn.out_proj.{end}"]
                for mine, other in parts.items():
                    made[f"{theirs}{other}.{end}"] = state[f"{ours}{mine}.{end}"]
    return made


def torchmetrics(request: Request) -> list[float]:
    """CLIPScore of torchmetrics, one pair at a time."""
    import numpy as np
    import torch
    from PIL import Image
    from torchmetrics.multimodal import CLIPScore

    model, processor = _transformers_clip(request)
    metric = CLIPScore(lambda: (model, processor))

    def score(picture: str, prompt: str) -> float:
        pixels = torch.from_numpy(np.array(Image.open(picture).convert("RGB"))).permute(2, 0, 1)
        metric.reset()
        metric.update(pixels, prompt)
        return metric.compute().item()

    with torch.no_grad():
        return [score(*pair) for pair in each_pair(request)]


def transformers(request: Request) -> list[float]:
    """PickScore as its authors define it: exp(logit_scale) times the cosine, by CLIPProcessor and CLIPModel."""
    import torch
    from PIL import Image

    model, processor = _transformers_clip(request)
    read = partial(processor, padding=True, truncation=True, max_length=77, return_tensors="pt")

    @torch.no_grad()
    def score(picture: str, prompt: str) -> float:
        images = model.get_image_features(read(images=[Image.open(picture)])["pixel_values"])
        words = read(text=[prompt])
        texts = model.get_text_features(words["input_ids"], words["attention_mask"])
        cosine = torch.nn.functional.cosine_similarity(images, texts)
        return (model.logit_scale.exp() * cosine).item()

    return [score(*pair) for pair in each_pair(request)]


def _transformers_clip(request: Request) -> tuple[Any, Any]:
    """CLIPModel and CLIPProcessor of the request's folder and weights, its pictures resized by PIL."""
    import transformers as package
    from transformers import CLIPConfig, CLIPModel, CLIPProcessor

    try:  # since transformers 5 the plain name is the variant that resizes tensors where torchvision is there
        pil = importlib.import_module("transformers.models.clip.image_processing_pil_clip")
        pictures = pil.CLIPImageProcessorPil()
    except ImportError:
        pictures = package.CLIPImageProcessor()
    # before, the plain name of the tokenizer was a slow variant that tidies, which AutoProcessor does not choose
    reader = getattr(package, "CLIPTokenizerFast", None) or package.CLIPTokenizer
    model = CLIPModel(CLIPConfig.from_pretrained(request["folder"])).eval()
    state = _read(request["weights"])
    model.load_state_dict({key: value for key, value in state.items() if not key.endswith("position_ids")})
    for name in ("get_image_features", "get_text_features"):
        setattr(model, name, _as_tensor(getattr(model, name)))
    tokenizer = reader.from_pretrained(request["folder"], local_files_only=True)
    return model, CLIPProcessor(pictures, tokenizer)


def _as_tensor(features: Callable[..., Any]) -> Callable[..., Any]:
    """What transformers 5 wraps as the tensor that older versions return and torchmetrics expects."""

    def unwrapped(*args: Any, **kwargs: Any) -> Any:
        out = features(*args, **kwargs)
        return getattr(out, "pooler_output", out)

    return unwrapped


def _read(path: str) -> dict[str, Any]:
    if path.endswith(".safetensors"):
        from safetensors.torch import load_file

        return load_file(path)
    import torch

    return torch.load(path, map_location="cpu", weights_only=True)


REFERENCES = {
    "image-reward": (image_reward, ("ImageReward", "clip", "torch", "torchvision")),
    "hpsv2": (hpsv2, ("hpsv2", "torch", "torchvision")),
    "openai-clip": (openai_clip, ("clip", "torch", "torchvision")),
    "torchmetrics": (torchmetrics, ("torchmetrics", "transformers", "torch")),
    "transformers": (transformers, ("transformers", "torch")),
}
"""by the name of the package: what scores, and the modules without which it does not"""


def answer(request: Request) -> dict[str, Any]:
    """Scores and versions; of a request without pairs only the versions, nothing being imported."""
    score, modules = REFERENCES[request["reference"]]
    absent = [module for module in modules if importlib.util.find_spec(module) is None]
    if absent:
        raise Missing(f"{sys.executable} has no {', '.join(absent)}", "")
    names = importlib.metadata.packages_distributions()
    versions = {name: importlib.metadata.version(name) for module in modules for name in names[module][:1]}
    return {"versions": versions, "scores": score(request) if request["pairs"] else []}


def main() -> None:
    """Read the request, write the answer."""
    asked, answered = map(Path, sys.argv[1:])
    try:
        content = answer(json.loads(asked.read_text(encoding="utf-8")))
    except Missing as missing:
        content = {"problem": missing.args[0], "remedy": missing.args[1]}
    except ImportError as error:
        content = {"problem": f"{sys.executable} cannot import {error.name}: {error}", "remedy": ""}
    answered.write_text(json.dumps(content), encoding="utf-8")


if __name__ == "__main__":
    main()
