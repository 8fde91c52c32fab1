"""The official side of a parity check: a script for an interpreter that has the official packages.

    PYTHON official_side.py REQUEST.json ANSWER.json

It imports nothing of psdbench, so that no mistake can be made on both sides. The request names a `reference` (a
function of this file), a checkpoint, pictures, prompts and pairs of them; the answer holds the `scores` of the pairs,
what they cost (`cost`) and the `versions` of the packages, or, where something is missing, `problem` and `remedy`.
All on the CPU, float32. Models are loaded and called as the READMEs of the packages show.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import json
import resource
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

Request = dict[str, Any]
BPE = "bpe_simple_vocab_16e6.txt.gz"


class Missing(Exception):
    """What the environment lacks (first argument), and how to get it (second)."""


Score = Callable[[str, list[str]], list[float]]
"""a prompt and paths of pictures to a score for each"""


def image_reward(request: Request) -> Score:
    """`ImageReward.load` and its `score`.

    The working directory holds the tokenizer's files in a folder ``bert-base-uncased``.
    """
    import ImageReward
    import torch
    from ImageReward.models.BLIP import blip

    blip.VisionTransformer = _with_depth(blip.VisionTransformer, request["layers"][0])
    config = str(Path(request["folder"], "med_config.json"))
    model = ImageReward.load(request["weights"], device="cpu", med_config=config)

    @torch.no_grad()
    def score(prompt: str, pictures: list[str]) -> list[float]:
        found = model.score(prompt, pictures)
        return found if len(pictures) > 1 else [found]

    return score


def _with_depth(build: Callable[..., Any], layers: int) -> Callable[..., Any]:
    """The constructor with another number of layers; the package fixes it in its code."""
    return lambda *args, **settings: build(*args, **{**settings, "depth": layers})


def hpsv2(request: Request) -> Score:
    """`hpsv2.img_score.score`; it reads the checkpoint again at every call.

    One thing is left out: before the checkpoint the package fetches LAION's weights, 4 GB, which it then overwrites.
    """
    _find_vocabulary()
    import torch
    from hpsv2 import img_score
    from hpsv2.src.open_clip import factory

    config = factory._MODEL_CONFIGS["ViT-H-14"]
    config["vision_cfg"]["layers"], config["text_cfg"]["layers"] = request["layers"]
    create = img_score.create_model_and_transforms
    img_score.create_model_and_transforms = lambda name, _, **settings: create(name, None, **settings)
    img_score.initialize_model()
    model = img_score.model_dict["model"]
    torch.load, model.load_state_dict = again(torch.load), again(model.load_state_dict)

    def score(prompt: str, pictures: list[str]) -> list[float]:
        return list(map(float, img_score.score(pictures, prompt, cp=request["weights"])))

    return score


def _find_vocabulary() -> None:
    """Missing where hpsv2 lies there without the vocabulary that its wheel forgets."""
    spec = importlib.util.find_spec("hpsv2")
    place = Path(str(spec.origin)).parent / "src" / "open_clip" if spec else Path()
    if not (place / BPE).is_file():
        raise Missing(f"hpsv2 has no {BPE}", f"copy the file of that name from open_clip_torch into {place}")


def openai_clip(request: Request) -> Score:
    """OpenAI's package: CLIP score, or under a head LAION's aesthetic prediction, a picture at a time."""
    import clip
    import torch

    layout = importlib.import_module("openai_layout")
    model = clip.model.build_model(layout.as_openai(_read(request["weights"]))).float()
    preprocess = clip.clip._transform(model.visual.input_resolution)
    head = layout.laion_head(_read(request["head"])) if request.get("head") else None

    @torch.no_grad()
    def one(picture: str, prompt: str) -> float:
        from PIL import Image

        image = model.encode_image(preprocess(Image.open(picture))[None])
        image = image / image.norm(dim=-1, keepdim=True)
        if head:
            return head(image).item()
        text = model.encode_text(clip.tokenize([prompt], truncate=True))
        return max(100 * (image * (text / text.norm(dim=-1, keepdim=True))).sum().item(), 0.0)

    return lambda prompt, pictures: [one(picture, prompt) for picture in pictures]


def torchmetrics(request: Request) -> Score:
    """CLIPScore of torchmetrics, a picture at a time since it averages over what it is given."""
    import numpy as np
    import torch
    from PIL import Image
    from torchmetrics.multimodal import CLIPScore

    model, processor = _transformers_clip(request)
    metric = CLIPScore(lambda: (model, processor))

    @torch.no_grad()
    def one(picture: str, prompt: str) -> float:
        pixels = torch.from_numpy(np.array(Image.open(picture).convert("RGB"))).permute(2, 0, 1)
        metric.reset()
        metric.update(pixels, prompt)
        return metric.compute().item()

    return lambda prompt, pictures: [one(picture, prompt) for picture in pictures]


def transformers(request: Request) -> Score:
    """PickScore as its authors define it: exp(logit_scale) times the cosine, by CLIPProcessor and CLIPModel."""
    import torch
    from PIL import Image

    model, processor = _transformers_clip(request)
    read = partial(processor, padding=True, truncation=True, max_length=77, return_tensors="pt")

    @torch.no_grad()
    def score(prompt: str, pictures: list[str]) -> list[float]:
        pixels = read(images=[Image.open(picture) for picture in pictures])["pixel_values"]
        words = read(text=prompt)
        texts = model.get_text_features(words["input_ids"], words["attention_mask"])
        cosine = torch.nn.functional.cosine_similarity(model.get_image_features(pixels), texts)
        return (model.logit_scale.exp() * cosine).tolist()

    return score


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


REFERENCES: dict[str, tuple[Callable[[Request], Score], tuple[str, ...]]] = {
    "image-reward": (image_reward, ("ImageReward", "clip", "torch", "torchvision")),
    "hpsv2": (hpsv2, ("hpsv2", "torch", "torchvision")),
    "openai-clip": (openai_clip, ("clip", "torch", "torchvision")),
    "torchmetrics": (torchmetrics, ("torchmetrics", "transformers", "torch")),
    "transformers": (transformers, ("transformers", "torch")),
}
"""by the name of the package: what loads its model, and the modules without which it does not"""

_rereading = 0.0
"""CPU seconds in calls of functions that `again` returned"""


def again(call: Callable[..., Any]) -> Callable[..., Any]:
    """The function, its CPU seconds noted as those of a checkpoint that is read once more."""

    def noted(*args: Any, **settings: Any) -> Any:
        global _rereading
        start = time.process_time()
        result = call(*args, **settings)
        _rereading += time.process_time() - start
        return result

    return noted


def answer(request: Request) -> dict[str, Any]:
    """Scores, cost and versions; of a request without pairs only the versions, nothing being imported."""
    load, modules = REFERENCES[request["reference"]]
    absent = [module for module in modules if importlib.util.find_spec(module) is None]
    if absent:
        raise Missing(f"{sys.executable} has no {', '.join(absent)}", "")
    names = importlib.metadata.packages_distributions()
    versions = {name: importlib.metadata.version(name) for module in modules for name in names[module][:1]}
    scored = score_by_prompt(request, load(request)) if request["pairs"] else {"scores": []}
    return {"versions": versions, **scored}


def score_by_prompt(request: Request, score: Score) -> dict[str, Any]:
    """The scores of the pairs, asked for prompt by prompt, and their cost.

    CPU seconds until the model was there, those of reading its checkpoint again, and those of scoring; the most
    memory so far in MB.
    """
    loading = time.process_time()
    found: dict[tuple[int, int], float] = {}
    for prompt in dict.fromkeys(prompt for _, prompt in request["pairs"]):
        seen = [picture for picture, other in request["pairs"] if other == prompt]
        paths = [request["pictures"][picture] for picture in seen]
        scores = score(request["prompts"][prompt], paths)
        found.update(((picture, prompt), value) for picture, value in zip(seen, scores, strict=True))
    cost = {
        "loading": loading,
        "rereading": _rereading,
        "scoring": time.process_time() - loading - _rereading,
        "megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    return {"scores": [found[picture, prompt] for picture, prompt in request["pairs"]], "cost": cost}


def main() -> None:
    """Read the request, write the answer."""
    asked, answered = map(Path, sys.argv[1:])
    sys.path.append(str(Path(__file__).parent))  # -I keeps it away
    try:
        content = answer(json.loads(asked.read_text(encoding="utf-8")))
    except Missing as missing:
        content = {"problem": missing.args[0], "remedy": missing.args[1]}
    except ImportError as error:
        content = {"problem": f"{sys.executable} cannot import {error.name}: {error}", "remedy": ""}
    answered.write_text(json.dumps(content), encoding="utf-8")


if __name__ == "__main__":
    main()
