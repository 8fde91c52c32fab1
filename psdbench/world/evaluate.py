"""How good the embedded models are: every figure of the world's README, on held-out combinations."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from psdbench.camera_config import VIEW_NAMES
from psdbench.world import weights_folder
from psdbench.world.data import camera_rows, draw_samples, draw_scene
from psdbench.world.directions import named_azimuths, turned_as
from psdbench.world.grammar import describe
from psdbench.world.judge import Judge, load_judge
from psdbench.world.sampling import ddim_sample
from psdbench.world.scenes import COLOURS, Scene
from psdbench.world.training.labels import NEGATIVE_KINDS, attribute_table, hard_negatives

Figures = dict[str, float]


def evaluate(folder: Path | None = None, count: int = 200, seed: int = 0) -> dict[str, Figures]:
    """All figures but those of the scorers, as {part: {figure: value}}; shares in [0, 1]."""
    from psdbench.priors.diffusers import DiffusersPrior

    folder = folder or weights_folder()
    judge = load_judge(folder / "judge")
    prior = DiffusersPrior.load(folder / "prior")
    return {
        "judge": judge_figures(judge, count, seed),
        "autoencoder": autoencoder_figures(prior, judge, count, seed),
        "clip": clip_figures(folder / "clip", 2 * count, seed),
        "prior": prior_figures(prior, judge, count, seed),
    }


def judge_figures(judge: Judge, count: int, seed: int) -> Figures:
    """How often the judge reads each attribute of clean held-out renders rightly."""
    samples = draw_samples(count, seed, from_held_out=True, clean=True)
    images = samples.images.float() / 255
    truth = attribute_table(samples.captions, camera_rows(samples.cameras))
    found = judge.attributes(images)
    figures = {name: _share(found[name] == truth[:, i]) for i, name in enumerate(found)}
    return {**figures, "shapes and colours": _share(judge.named(images, samples.captions))}


def autoencoder_figures(prior: Any, judge: Judge, count: int, seed: int) -> Figures:
    """Fidelity of reconstructions, and whether the judge reads them as it reads the originals."""
    from psdbench.world.training.autoencoder import psnr

    samples = draw_samples(count, seed + 1, from_held_out=True, clean=True)
    images = samples.images.float() / 255
    with torch.no_grad():
        again = torch.cat([prior.decode(prior.encode(part)) for part in images.split(100)])
    before, after = judge.attributes(images), judge.attributes(again)
    same = {
        f"{name} judged alike": _share(before[name] == after[name])
        for name in ("shape_1", "colour_1", "face")
    }
    named = _share(judge.named(again, samples.captions))
    return {"psnr_db": float(psnr(images, again).mean()), **same, "shapes and colours": named}


def clip_figures(folder: Path, count: int, seed: int) -> Figures:
    """How often CLIP prefers the true caption to one that is wrong in one thing, by kind of error.

    The view is asked of objects with a face, where it can be seen.
    """
    from psdbench.scorers.clip import load_tower

    tower, rng = load_tower(folder), random.Random(seed)
    samples = draw_samples(count, seed + 2, from_held_out=True, clean=True)
    images = tower.see(samples.images.float() / 255)
    right: dict[str, list[bool]] = defaultdict(list)
    for image, caption, scene in zip(images, samples.captions, samples.scenes, strict=True):
        wrong = hard_negatives(caption, rng)
        texts = tower.texts([caption, *wrong.values()])
        scores = texts @ image
        for kind, score in zip(wrong, scores[1:], strict=True):
            if kind != "view" or scene.objects[0].face:
                right[kind].append(bool(scores[0] > score))
    return {kind: sum(right[kind]) / len(right[kind]) for kind in NEGATIVE_KINDS if right[kind]}


def prior_figures(prior: Any, judge: Judge, count: int, seed: int) -> Figures:
    """Samples of the prior for held-out prompts, judged: shape and colour, relation, and faces by view."""
    rng, generator = random.Random(seed + 3), torch.Generator().manual_seed(seed + 3)
    figures: Figures = {}
    for name, keep in _prompt_kinds().items():
        prompts = [describe(s) for s in _held_out_scenes(rng, keep, count // 2)]
        figures[name] = _share(judge.named(_samples(prior, prompts, generator), prompts))
    faces = [describe(s) for s in _held_out_scenes(rng, lambda s: s.objects[0].face, count // 4)]
    for view, wanted in (("front view", True), ("back view", False)):
        images = _samples(prior, [f"{prompt}, {view}" for prompt in faces], generator)
        figures[f"face as named, {view}"] = _share(judge.face_seen(images) == wanted)
    unsaid = judge.face_seen(_samples(prior, faces, generator))
    words = [VIEW_NAMES[8][i % 8] for i in range(count // 2)]
    cubes = [f"a {rng.choice(list(COLOURS))} cube" for _ in words]
    images = _samples(prior, [f"{cube}, {word}" for cube, word in zip(cubes, words, strict=True)], generator)
    turned = _share(turned_as(images, named_azimuths(words)))
    return {**figures, "face where no view is named": _share(unsaid), "cube turned as named": turned}


def _prompt_kinds() -> dict[str, Any]:
    return {
        "one object": lambda s: not s.relation,
        "on top of": lambda s: s.relation == "on top of",
        "next to": lambda s: s.relation == "next to",
    }


def _held_out_scenes(rng: random.Random, keep: Any, count: int) -> list[Scene]:
    def stream() -> Iterator[Scene]:
        while True:
            yield draw_scene(rng, from_held_out=True)

    matching = (scene for scene in stream() if keep(scene))
    return [next(matching) for _ in range(count)]


def _samples(prior: Any, prompts: list[str], generator: torch.Generator) -> Tensor:
    parts = [prompts[i : i + 50] for i in range(0, len(prompts), 50)]
    return torch.cat([ddim_sample(prior, part, generator) for part in parts])


def scorer_figures(work: Path, folder: Path | None = None) -> dict[str, Figures]:
    """Held-out pair accuracy of each scorer against the *true* preference, per kind of pair.

    `work` is the folder of the training, which holds the held-out pairs. Pairs within a point of each other are
    left out: there the preference itself is a toss-up.
    """
    from psdbench.scorers import load_scorer
    from psdbench.world.preference import TRUE_PREFERENCE
    from psdbench.world.training import pairs

    groups = pairs.load(work, "held-out")
    shape = groups.agreement.shape
    truth = TRUE_PREFERENCE.utility(groups.agreement.flatten(), groups.qualities.flatten(0, 1)).view(shape)
    captions = [caption for caption in groups.captions for _ in range(shape[1])]
    images = groups.pixels.flatten(0, 1)
    out: dict[str, Figures] = {}
    for name in ("aesthetic_shapes", "hps_shapes", "image_reward_shapes", "clip_shapes"):
        scorer = load_scorer(name)
        with torch.no_grad():
            parts = [scorer.score(images[i : i + 256].float() / 255, captions[i : i + 256])
                     for i in range(0, len(images), 256)]  # fmt: skip
        out[name] = pair_accuracy(torch.cat(parts).view(shape), truth, pairs.PAIRS)
    return out


def pair_accuracy(scores: Tensor, truth: Tensor, kinds: dict[str, tuple[int, int]]) -> Figures:
    """Share of pairs that `scores` [G, 8] order as `truth` [G, 8] does, per kind and over all kinds."""
    figures, every = {}, []
    for kind, (first, second) in kinds.items():
        gap = truth[:, first] - truth[:, second]
        right = (gap.sign() == (scores[:, first] - scores[:, second]).sign())[gap.abs() > 1]
        figures[kind] = _share(right)
        every.append(right)
    return {"all pairs": _share(torch.cat(every)), **figures}


def _share(right: Tensor) -> float:
    return float(right.float().mean())
