"""Raters for tests: the embedded world's simulated annotators, who look at the page and save what it saves."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from psdbench.world.preference import Annotator, appraise

Judge = Callable[[dict[str, Any]], str]


def page_data(page: Path) -> dict[str, Any]:
    """What the page gives its script."""
    found = re.search(
        r'<script type="application/json" id="data">(.*?)</script>', page.read_text(), re.DOTALL
    )
    assert found
    return json.loads(found[1])


def save_votes(path: Path, data: dict[str, Any], rater: str, judge: Judge) -> Path:
    """A votes file as the page writes it."""
    votes = [
        {"item": item["id"], "choice": judge(item), "left": "a", "milliseconds": 1500}
        for item in data["items"]
    ]
    content = {"schema_version": 1, "study": data["study"], "rater": rater, "votes": votes}
    path.write_text(json.dumps(content))
    return path


def views_of(url: str, views: int) -> torch.Tensor:
    """The views of a strip on the page, [V, 3, H, W] in [0, 1]."""
    picture = Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).convert("RGB")
    pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 255
    return torch.stack(pixels.chunk(views, dim=-1))


def annotator_judge(
    annotator: Annotator, seed: int, cache: dict[str, tuple[torch.Tensor, torch.Tensor]]
) -> Judge:
    """A simulated person with noise of their own; `cache` keeps what has been looked at."""
    generator = torch.Generator().manual_seed(seed)

    def utility(item: dict[str, Any], side: str) -> torch.Tensor:
        key = item[side]
        if key not in cache:
            images = views_of(item[side], item["views"])
            cache[key] = appraise(images, [item["prompt"]] * len(images))
        return annotator.utility(*cache[key]).mean()[None]

    def judge(item: dict[str, Any]) -> str:
        first = annotator.votes_first(utility(item, "a"), utility(item, "b"), generator)
        return "a" if bool(first[0]) else "b"

    return judge
