"""Official checkpoints, small and random, in their own layouts: numbers of the official networks, strict files."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from official_folders import FILES, SMALL, write_hps, write_hub_clip, write_image_reward, write_settings
from reference_networks import OpenClip, image_reward, image_reward_state

from psdbench.errors import EnvironmentProblem
from psdbench.scorers import Scorer, load_scorer
from psdbench.scorers.head import ScoreHead
from psdbench.scorers.image_reward import BlipReward

PROMPTS = ["a red cube", "A “blue” sphere &amp; more", "", "a yellow cone with a face"]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory, clip_folder: Path) -> Path:
    """A folder of weights with one small checkpoint of every kind."""
    root = tmp_path_factory.mktemp("library")
    write_hps(root / "hps_v2.0")
    write_image_reward(root / "image_reward_v1.0")
    write_hub_clip(root / "clip_vit_b32", FILES["clip_vit_b32"], clip_folder)
    write_hub_clip(root / "pickscore_v1", FILES["pickscore_v1"], clip_folder)
    write_settings(root / "aesthetic_laion_v2", clip="../clip_vit_b32")
    return root


@pytest.fixture(autouse=True)
def _weights(library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PSDBENCH_WEIGHTS", str(library))


@pytest.fixture
def damaged(library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the library to be spoilt."""
    copy = tmp_path / "copy"
    shutil.copytree(library, copy)
    monkeypatch.setenv("PSDBENCH_WEIGHTS", str(copy))
    return copy


@pytest.fixture
def pictures() -> torch.Tensor:
    """Four images [4, 3, 48, 80] of bytes."""
    return torch.randint(0, 256, (4, 3, 48, 80), generator=torch.Generator().manual_seed(3)) / 255


def tokens_of(folder: Path, texts: list[str]) -> Any:
    from transformers import CLIPTokenizer

    tokenizer = CLIPTokenizer.from_pretrained(folder)
    return tokenizer, [tokenizer(text)["input_ids"] for text in texts]


def test_hps_is_openclip_on_the_official_file(library: Path, pictures: torch.Tensor) -> None:
    scorer = load_scorer("hps_v2.0")
    reference = OpenClip(618, 32).half().float()
    texts = ["a red cube", 'A "blue" sphere & more', "", "a yellow cone with a face"]
    _, rows = tokens_of(library / "hps_v2.0", texts)
    ids = torch.tensor([row + [0] * (32 - len(row)) for row in rows])  # open_clip pads with zeros
    expected = reference.cosine(scorer.tower.preprocess(pictures), ids)
    assert torch.allclose(scorer.score(pictures, PROMPTS), expected, atol=1e-6)
    assert expected.std() > 0.01


def test_image_reward_is_blip_on_the_official_file(library: Path, pictures: torch.Tensor) -> None:
    from transformers import BertTokenizer

    scorer = load_scorer("image_reward_v1.0")
    state = image_reward_state(len(BertTokenizer.from_pretrained(library / "image_reward_v1.0")))
    tokens = scorer.read(PROMPTS)
    pixels = scorer.eye.preprocess(pictures)
    raw = image_reward(state, pixels, tokens["input_ids"], tokens["attention_mask"])
    assert torch.allclose(scorer.score(pictures, PROMPTS), (raw - 0.25) / 2, atol=1e-5)
    assert raw.std() > 0.001


def test_pickscore_is_the_logit_of_transformers(library: Path, pictures: torch.Tensor) -> None:
    from transformers import CLIPModel

    scorer = load_scorer("pickscore_v1")
    model = CLIPModel.from_pretrained(library / "pickscore_v1")
    with torch.no_grad():
        out = model(scorer.tower.read(PROMPTS)["input_ids"], scorer.tower.preprocess(pictures))
    assert torch.allclose(scorer.score(pictures, PROMPTS), out.logits_per_image.diagonal(), atol=1e-5)


def test_aesthetic_reads_the_published_head(damaged: Path, pictures: torch.Tensor) -> None:
    head = ScoreHead([8, 16, 8, 8, 4, 1]).eval()
    score_json = json.loads((damaged / "aesthetic_laion_v2" / "score.json").read_text())
    own = {**score_json, "weights": "head.pth"}
    write_settings(damaged / "aesthetic_laion_v2", **own)
    torch.save(head.state_dict(), damaged / "aesthetic_laion_v2" / "head.pth")
    scorer = load_scorer("aesthetic_laion_v2")
    expected = head(load_scorer("clip_vit_b32").tower.see(pictures))
    assert torch.allclose(scorer.score(pictures, PROMPTS), expected, atol=1e-6)


def test_another_head_than_the_published_one_is_refused(damaged: Path) -> None:
    torch.save(
        ScoreHead([8, 16, 8, 8, 4, 1]).state_dict(),
        damaged / "aesthetic_laion_v2" / FILES["aesthetic_laion_v2"],
    )
    with pytest.raises(EnvironmentProblem, match="bytes instead of 3714759") as caught:
        _ = load_scorer("aesthetic_laion_v2").head  # type: ignore[attr-defined]
    assert "psdbench prefetch --metrics aesthetic_laion_v2" in caught.value.remedy


def test_janus_looks_with_the_official_clip(damaged: Path, clip_folder: Path) -> None:
    folder = damaged / "clip_vit_l14"
    write_hub_clip(folder, "small.bin", clip_folder)
    write_settings(folder, weights="small.bin", preprocess=SMALL)
    janus, clip = load_scorer("janus_clip_vit_l14"), load_scorer("clip_vit_l14")
    assert janus.eye is clip.eye  # type: ignore[attr-defined]
    before = janus.sha256
    assert before != clip.sha256
    change(folder, "small.bin", lambda state: state["logit_scale"].add_(1))
    assert load_scorer("janus_clip_vit_l14").sha256 != before


LAYOUTS = {
    "hps_v2.0": "visual.transformer.resblocks.1.attn.in_proj_weight",
    "image_reward_v1.0": "blip.visual_encoder.blocks.0.attn.qkv.bias",
    "clip_vit_b32": "text_model.encoder.layers.0.mlp.fc1.weight",
}


def change(folder: Path, file: str, edit: Callable[[dict[str, Any]], object]) -> None:
    """Edit the state dict of a checkpoint."""
    content = torch.load(folder / file, weights_only=True)
    edit(content.get("state_dict", content))
    torch.save(content, folder / file)


@pytest.mark.parametrize("id", LAYOUTS)
@pytest.mark.parametrize("fault", ["missing", "unexpected", "shape"])
def test_a_wrong_key_is_named_as_the_file_has_it(
    id: str, fault: str, damaged: Path, pictures: torch.Tensor
) -> None:
    key = LAYOUTS[id]
    edits: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
        "missing": (lambda state: state.pop(key), f"missing {key}"),
        "unexpected": (
            lambda state: state.update({"stray.weight": torch.ones(1)}),
            "unexpected stray.weight",
        ),
        "shape": (
            lambda state: state.update({key: torch.ones(5, 7)}),
            rf"{key} has shape (5, 7) instead of (",
        ),
    }
    edit, message = edits[fault]
    change(damaged / id, FILES[id], edit)
    with pytest.raises(EnvironmentProblem) as caught:
        load_scorer(id).score(pictures, PROMPTS)
    assert message in str(caught.value)
    assert FILES[id] in str(caught.value)


def test_parts_that_imagereward_never_asks_may_be_missing_or_there(damaged: Path) -> None:
    folder = damaged / "image_reward_v1.0"
    before = BlipReward.from_folder(folder, {"weights": FILES[folder.name], "layout": "image_reward"})
    extra = {"blip.text_decoder.cls.bias": torch.ones(3), "blip.temp": torch.ones(())}
    change(folder, FILES[folder.name], lambda state: (state.update(extra), state.pop("blip.text_proj.bias")))
    after = BlipReward.from_folder(folder, {"weights": FILES[folder.name], "layout": "image_reward"})
    assert all(torch.equal(a, b) for a, b in zip(before.parameters(), after.parameters(), strict=True))


def damage(kind: str, path: Path, other: Path) -> None:
    """One of the ways in which a checkpoint is not one."""
    content = path.read_bytes()
    spoilt = {"truncated": content[: len(content) // 2], "empty": b"", "text": b"<html>not found</html>"}
    if kind in spoilt:
        path.write_bytes(spoilt[kind])
    elif kind == "another":
        shutil.copy(other, path)
    elif kind == "object":
        torch.save({"state_dict": Path("code")}, path)
    else:
        torch.save(torch.ones(3), path)


@pytest.mark.parametrize("kind", ["truncated", "empty", "text", "another", "object", "tensor"])
@pytest.mark.parametrize("id", ["hps_v2.0", "image_reward_v1.0"])
def test_what_is_no_checkpoint_of_this_model_is_an_error(
    id: str, kind: str, damaged: Path, pictures: torch.Tensor
) -> None:
    other = "image_reward_v1.0" if id == "hps_v2.0" else "hps_v2.0"
    damage(kind, damaged / id / FILES[id], damaged / other / FILES[other])
    with pytest.raises(EnvironmentProblem) as caught:
        load_scorer(id).score(pictures, PROMPTS)
    assert FILES[id] in str(caught.value)
    assert caught.value.remedy


@pytest.mark.parametrize("id", ["hps_v2.0", "image_reward_v1.0", "clip_vit_b32", "pickscore_v1"])
def test_the_differentiable_variant_gives_nearly_the_same(id: str, library: Path) -> None:
    scorer = load_scorer(id)
    smooth = torch.linspace(0.2, 0.8, 90).outer(torch.linspace(0.5, 1, 90))[None, None].expand(1, 3, -1, -1)
    images = smooth.clone().requires_grad_()
    exact, soft = scorer.score(smooth, PROMPTS[:1]), scorer.score(images, PROMPTS[:1])
    spread = scorer.score(torch.rand(16, 3, 90, 90), PROMPTS[:1] * 16).std()
    assert (exact - soft.detach()).abs().item() < 0.05 * spread
    if scorer.id == "hps_v2.0":
        assert torch.equal(exact, soft.detach())  # no bytes in between: one and the same computation
    soft.sum().backward()
    clamped = id == "clip_vit_b32" and soft.item() == 0
    assert clamped or images.grad.abs().sum(1).gt(0).float().mean() > 0.9


def test_a_long_prompt_is_cut_with_one_warning(library: Path, caplog: pytest.LogCaptureFixture) -> None:
    long = "a red cube beside a blue sphere " * 320  # 10 kB
    image = torch.rand(2, 3, 32, 32)
    for id, limit in (("hps_v2.0", 32), ("image_reward_v1.0", 32)):
        scorer: Scorer = load_scorer(id)
        reader = scorer.tower.read if hasattr(scorer, "tower") else scorer.read  # type: ignore[attr-defined]
        reader._seen.clear()
        with caplog.at_level(logging.WARNING, "psdbench.scorers.tokens"):
            first = scorer.score(image, [long, long])
            second = scorer.score(image, [long, long])
        assert torch.equal(first, second)
        assert first.isfinite().all()
        assert [record.args[:2] for record in caplog.records] == [(id, limit)]
        assert len(caplog.text) < 400
        caplog.clear()


def test_the_hash_is_of_weights_vocabulary_and_settings(damaged: Path) -> None:
    before = load_scorer("hps_v2.0").sha256
    assert load_scorer("hps_v2.0").sha256 == before
    change(damaged / "hps_v2.0", FILES["hps_v2.0"], lambda state: state["ln_final.bias"].add_(1))
    weights = load_scorer("hps_v2.0").sha256
    tokenizer = damaged / "hps_v2.0" / "tokenizer.json"
    tokenizer.write_text(tokenizer.read_text() + "\n")
    assert len({before, weights, load_scorer("hps_v2.0").sha256}) == 3
    same = type(load_scorer("hps_v2.0"))("other", damaged / "hps_v2.0", given={"clean": False})
    assert same.sha256 != load_scorer("hps_v2.0").sha256


def test_without_its_files_the_command_that_gets_them_is_named(damaged: Path) -> None:
    (damaged / "hps_v2.0" / FILES["hps_v2.0"]).unlink()
    for id in ("hps_v2.0", "hps_v2.1"):
        with pytest.raises(EnvironmentProblem, match="is missing") as caught:
            _ = load_scorer(id).sha256
        assert caught.value.remedy == f"psdbench prefetch --metrics {id}"
