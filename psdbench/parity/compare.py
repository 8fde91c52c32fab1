"""One scorer against one official package on the same pairs of picture and prompt, end to end."""

from __future__ import annotations

import math
import statistics
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from psdbench.parity.prompts import Prompt
from psdbench.parity.references import REFERENCES, Reference, ask, find_python

BOUND = 1e-4
"""largest allowed difference, in standard deviations of the official score over the pairs"""

Pair = tuple[int, int]
"""number of the picture, number of the prompt"""


@dataclass(frozen=True)
class Material:
    """What is scored."""

    pictures: Sequence[Path]
    prompts: Sequence[Prompt]
    pairs: Sequence[Pair]


@dataclass(frozen=True)
class Row:
    """A line of the table: how far a scorer is from its reference."""

    metric: str
    package: str
    versions: dict[str, str]
    layers: tuple[int, int]
    """of the towers of images and of texts"""
    pictures: int
    prompts: int
    pairs: int
    sd: float
    """standard deviation of the official scores over the pairs"""
    largest: float
    """largest difference of a pair"""
    worst: str
    """that pair: name of the picture, beginning of the prompt"""

    @property
    def ratio(self) -> float:
        """The largest difference in standard deviations; infinite where the scores are all one or not finite."""
        return self.largest / self.sd if self.sd > 0 and math.isfinite(self.largest) else math.inf

    @property
    def within(self) -> bool:
        """Whether it keeps the bound."""
        return self.ratio <= BOUND


def choose_pairs(pictures: int, prompts: int, each: int) -> list[Pair]:
    """Every prompt with `each` pictures in turn, so that every picture is used: [(picture, prompt)], no pair twice."""
    each = min(each, pictures)
    step = next(step for step in range(each, each + pictures) if math.gcd(step, pictures) == 1)
    return [((prompt * step + k) % pictures, prompt) for prompt in range(prompts) for k in range(each)]


def compare(
    metric: str, material: Material, pythons: Sequence[Path], say: Callable[[str], None] = lambda text: None
) -> list[Row]:
    """A row for each reference of a scorer; its weights must be there (`psdbench.weights`).

    `pythons` are the interpreters to look for the official packages in; this one is the last. All references
    are looked for before anything is scored. KeyError for a scorer that has no reference.
    """
    found = [(each, find_python(each, [*pythons, Path(sys.executable)])) for each in REFERENCES[metric]]
    theirs = []
    for reference, python in found:
        chosen = fitting(material, reference)
        say(f"{metric}: {len(chosen.pairs)} pairs by {reference.package}")
        theirs.append((reference, chosen, ask_official(metric, reference, python, chosen)))
    say(f"{metric}: the same by psdbench")
    ours = score_pairs(metric, material)
    return [_row(metric, reference, chosen, answer, ours) for reference, chosen, answer in theirs]


def fitting(material: Material, reference: Reference) -> Material:
    """The pairs that a reference reads as the scorer's definition says."""
    from PIL import Image

    def fits(picture: Path) -> bool:
        with Image.open(picture) as image:
            longer = max(image.size) * 224 // min(image.size)
        return reference.crops_evenly or (longer - 224) % 4 != 3

    good = [fits(picture) for picture in material.pictures]
    plain = [reference.tidies or prompt.kind == "plain" for prompt in material.prompts]
    pairs = [(picture, prompt) for picture, prompt in material.pairs if good[picture] and plain[prompt]]
    return Material(material.pictures, material.prompts, pairs)


def score_pairs(metric: str, material: Material) -> dict[Pair, float]:
    """Our scores, from the files, on the CPU, as `psdbench score` makes them: every picture is seen once."""
    import torch

    from psdbench.scorers import load_scorer
    from psdbench.scorers.asset import AssetViews
    from psdbench.scorers.eye import EyeScorer
    from psdbench.scorers.pictures import read_picture

    scorer = load_scorer(metric)
    assert isinstance(scorer, EyeScorer)  # all that have a reference are
    by_picture: dict[int, list[int]] = defaultdict(list)
    for picture, prompt in material.pairs:
        by_picture[picture].append(prompt)
    scores: dict[Pair, float] = {}
    with torch.no_grad():
        for picture, wanted in by_picture.items():
            views = AssetViews("", read_picture(material.pictures[picture])[None])
            seen = views.features(scorer.eye)
            for prompt in wanted:
                scores[picture, prompt] = scorer.rate(seen, [material.prompts[prompt].text]).item()
    return scores


def ask_official(metric: str, reference: Reference, python: Path, material: Material) -> dict[str, Any]:
    """The answer of a reference (`official_side`) for the pairs, with the weights that our scorer reads."""
    from psdbench.scorers import load_scorer
    from psdbench.scorers.folder import FolderScorer, weights_path

    scorer = load_scorer(metric)
    assert isinstance(scorer, FolderScorer)  # all that have a reference are
    (own, own_settings), (folder, settings) = scorer.parts[0], scorer.parts[-1]
    head = str(weights_path(own, own_settings)) if folder != own else None
    request = {
        "weights": str(weights_path(folder, settings)),
        "folder": str(folder),
        "head": head,
        "layers": layers(metric),
        "pictures": [str(path.resolve()) for path in material.pictures],
        "prompts": [prompt.text for prompt in material.prompts],
        "pairs": list(material.pairs),
    }
    return ask(reference, python, request, tokenizer=folder)


def layers(metric: str) -> tuple[int, int]:
    """Layers of the towers of images and of texts that a scorer's folder says."""
    from psdbench.scorers import load_scorer
    from psdbench.scorers.folder import FolderScorer, read_json
    from psdbench.scorers.image_reward import MED_CONFIG

    scorer = load_scorer(metric)
    assert isinstance(scorer, FolderScorer)
    folder, settings = scorer.parts[-1]
    config = settings.get("config") or read_json(folder / "config.json")
    if "mlp" in config:  # ImageReward
        config = (
            config if "text_config" in config else {**config, "text_config": read_json(folder / MED_CONFIG)}
        )
    else:
        from transformers import CLIPConfig

        config = CLIPConfig.from_dict(config).to_dict()  # with the defaults
    return config["vision_config"]["num_hidden_layers"], config["text_config"]["num_hidden_layers"]


def _row(
    metric: str, reference: Reference, material: Material, answer: dict[str, Any], ours: dict[Pair, float]
) -> Row:
    theirs: list[float] = answer["scores"]
    gaps = [abs(score - ours[pair]) for pair, score in zip(material.pairs, theirs, strict=True)]
    finite = [gap if math.isfinite(gap) else math.inf for gap in gaps]
    largest = max(finite)
    picture, prompt = material.pairs[finite.index(largest)]
    return Row(
        metric=metric,
        package=reference.package,
        versions=answer["versions"],
        layers=layers(metric),
        pictures=len({picture for picture, _ in material.pairs}),
        prompts=len({prompt for _, prompt in material.pairs}),
        pairs=len(material.pairs),
        sd=statistics.stdev(theirs) if len(theirs) > 1 and all(map(math.isfinite, theirs)) else math.nan,
        largest=largest,
        worst=f"{material.pictures[picture].stem}: {material.prompts[prompt].text[:40]}",
    )
