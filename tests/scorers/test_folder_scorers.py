"""The scorers with weights: numbers against the plain transformers call, gradients, strict files, sharing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional

from psdbench.errors import EnvironmentProblem
from psdbench.scorers import Scorer
from psdbench.scorers.aesthetic import AestheticScorer
from psdbench.scorers.clip import ClipScorer, load_tower
from psdbench.scorers.hps import HpsScorer
from psdbench.scorers.image_reward import ImageRewardScorer

KINDS = {
    "clip": (ClipScorer, "clip_folder"),
    "hps": (HpsScorer, "clip_folder"),
    "aesthetic": (AestheticScorer, "aesthetic_folder"),
    "image_reward": (ImageRewardScorer, "reward_folder"),
}


@pytest.fixture(params=KINDS)
def scorer(request: pytest.FixtureRequest) -> Scorer:
    """Each kind of scorer once."""
    kind, folder = KINDS[request.param]
    return kind(f"{request.param}_test", request.getfixturevalue(folder))


def copy_of(scorer: Scorer, target: Path) -> Scorer:
    """The same scorer from a copy of its folders, to be damaged."""
    parent = target / "weights"
    shutil.copytree(scorer.folder.parent, parent)
    return type(scorer)(scorer.id, parent / scorer.folder.name)


def weights_of(scorer: Scorer) -> Path:
    """The safetensors file of a scorer."""
    return next(scorer.folder.glob("*.safetensors"))


def test_scores_are_one_number_per_image(scorer: Scorer, images: torch.Tensor, prompts: list[str]) -> None:
    scores = scorer.score(images, prompts)
    assert scores.shape == (4,)
    assert scores.dtype == torch.float32
    assert scores.isfinite().all()
    one_by_one = torch.cat([scorer.score(images[i : i + 1], prompts[i : i + 1]) for i in range(4)])
    assert torch.allclose(scores, one_by_one, atol=1e-5)


def test_gradient_reaches_the_image_and_not_the_weights(
    scorer: Scorer, images: torch.Tensor, prompts: list[str]
) -> None:
    if isinstance(scorer, ClipScorer):
        scorer = HpsScorer("unclamped", scorer.folder)  # random embeddings may lie below the clamp at 0
    images = images.clone().requires_grad_()
    scorer.score(images, prompts).sum().backward()
    assert images.grad is not None
    assert images.grad.abs().sum(dim=(1, 2, 3)).gt(0).all()
    modules = [m for m in vars(scorer).values() if isinstance(m, torch.nn.Module)]
    modules += [scorer.tower.model] if hasattr(scorer, "tower") else []
    assert modules
    assert not any(p.requires_grad or p.grad is not None for m in modules for p in m.parameters())
    assert not any(m.training for m in modules)


def test_nothing_is_read_before_the_first_use(tmp_path: Path) -> None:
    for kind, _ in KINDS.values():
        scorer = kind("absent", tmp_path / "absent")
        with pytest.raises(EnvironmentProblem, match="is missing"):
            _ = scorer.sha256


def test_clip_is_the_cosine_of_transformers(
    clip_folder: Path, images: torch.Tensor, prompts: list[str]
) -> None:
    from transformers import CLIPModel, CLIPTokenizer

    scorer = ClipScorer("clip_test", clip_folder)
    model, tokenizer = CLIPModel.from_pretrained(clip_folder), CLIPTokenizer.from_pretrained(clip_folder)
    tokens = tokenizer(prompts, padding="max_length", truncation=True, return_tensors="pt")
    with torch.no_grad():
        out = model(**tokens, pixel_values=scorer.tower.preprocess(images))
    cosine = (out.image_embeds * out.text_embeds).sum(-1)
    assert torch.allclose(scorer.score(images, prompts), (100 * cosine).clamp(min=0), atol=1e-4)
    assert torch.allclose(HpsScorer("hps_test", clip_folder).score(images, prompts), cosine, atol=1e-6)


def test_towers_are_shared_and_prompts_encoded_once(
    clip_folder: Path, aesthetic_folder: Path, images: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip, head = ClipScorer("a", clip_folder), AestheticScorer("b", aesthetic_folder)
    assert clip.tower is head.tower is load_tower(clip_folder / ".." / "clip")
    clip.score(images[:1], ["a green cylinder"])

    def fail(*_: object, **__: object) -> None:
        raise AssertionError("encoded again")

    monkeypatch.setattr(clip.tower.model, "get_text_features", fail)
    clip.score(images, ["a green cylinder"] * 4)


def test_texts_cached_without_gradient_serve_with_gradient(clip_folder: Path, images: torch.Tensor) -> None:
    scorer = HpsScorer("hps_test", clip_folder)
    with torch.inference_mode():
        scorer.score(images[:1], ["a pink cube"])
    images = images.clone().requires_grad_()
    scorer.score(images, ["a pink cube"] * 4).sum().backward()
    assert images.grad is not None


def test_aesthetic_is_the_head_on_unit_embeddings(
    aesthetic_folder: Path, images: torch.Tensor, prompts: list[str]
) -> None:
    scorer = AestheticScorer("aesthetic_test", aesthetic_folder)
    state = load_file(aesthetic_folder / "head.safetensors")
    features = scorer.tower.see(images)
    assert torch.allclose(features.norm(dim=-1), torch.ones(4), atol=1e-6)
    for index in (0, 2, 4, 6, 7):
        features = functional.linear(features, state[f"layers.{index}.weight"], state[f"layers.{index}.bias"])
    scores = scorer.score(images, prompts)
    assert torch.allclose(scores, features[:, 0], atol=1e-6)
    assert torch.equal(scores, scorer.score(images, prompts[::-1]))  # the prompt is not read


def test_image_reward_reads_the_whole_prompt_without_a_causal_mask(
    reward_folder: Path, images: torch.Tensor
) -> None:
    scorer = ImageRewardScorer("image_reward_test", reward_folder)
    cube, sphere = scorer.score(images[:1].repeat(2, 1, 1, 1), ["a red cube", "a red sphere"])
    assert cube != sphere  # [CLS] comes first: under a causal mask it could not see the shape
    red, noise = scorer.score(images[:2], ["a red cube"] * 2)
    assert red != noise


def test_image_reward_is_standardised(reward_folder: Path, tmp_path: Path, images: torch.Tensor) -> None:
    scorer = ImageRewardScorer("image_reward_test", reward_folder)
    raw = copy_of(scorer, tmp_path)
    config = json.loads((raw.folder / "config.json").read_text())
    (raw.folder / "config.json").write_text(json.dumps({**config, "mean": 0.0, "std": 1.0}))
    prompts = ["a red cube"] * 4
    assert torch.allclose(scorer.score(images, prompts), (raw.score(images, prompts) - 0.1) / 2, atol=1e-6)
    assert scorer.sha256 != raw.sha256


def test_a_wrong_key_is_an_error_that_names_it(scorer: Scorer, images: torch.Tensor, tmp_path: Path) -> None:
    broken = copy_of(scorer, tmp_path)
    path = weights_of(broken)
    state = load_file(path)
    lost = next(key for key in state if key.endswith("weight"))
    state["stray.weight"] = state.pop(lost)
    save_file(state, path)
    with pytest.raises(EnvironmentProblem) as caught:
        broken.score(images, ["a red cube"] * 4)
    assert lost in str(caught.value)
    if not isinstance(scorer, AestheticScorer):
        assert "unexpected stray.weight" in str(caught.value)


def test_a_wrong_shape_and_a_truncated_file_are_errors(
    scorer: Scorer, images: torch.Tensor, tmp_path: Path
) -> None:
    broken = copy_of(scorer, tmp_path)
    path = weights_of(broken)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(EnvironmentProblem, match="is damaged"):
        broken.score(images, ["a red cube"] * 4)
    other = copy_of(scorer, tmp_path / "other")
    state = load_file(weights_of(scorer))
    key = next(k for k in state if k.endswith("bias"))
    save_file({**state, key: torch.zeros(77)}, weights_of(other))
    with pytest.raises(EnvironmentProblem, match=r"has shape \(77,\)"):
        other.score(images, ["a red cube"] * 4)


def test_old_checkpoints_may_carry_position_ids(
    clip_folder: Path, images: torch.Tensor, tmp_path: Path
) -> None:
    copy = copy_of(ClipScorer("clip_test", clip_folder), tmp_path)
    state = load_file(weights_of(copy))
    save_file({**state, "text_model.embeddings.position_ids": torch.arange(32)[None]}, weights_of(copy))
    assert copy.score(images, ["a red cube"] * 4).shape == (4,)


def test_settings_say_whether_prompts_name_the_view(clip_folder: Path, tmp_path: Path) -> None:
    scorer = ClipScorer("clip_test", clip_folder)
    assert not scorer.view_words
    copy = copy_of(scorer, tmp_path)
    (copy.folder / "score.json").write_text('{"view_words": true}')
    assert copy.view_words
    assert copy.sha256 != scorer.sha256
