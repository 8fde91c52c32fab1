"""Priors from folders: what they compute, and what they refuse to load."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from folders import FLOW_SCHEDULER, edit, write_pixel
from safetensors.torch import load_file, save_file

from psdbench.errors import EnvironmentProblem
from psdbench.priors.diffusers import DiffusersPrior


@pytest.fixture
def copy(tiny_prior_folder: Path, tmp_path: Path) -> Path:
    """A folder of one's own, to spoil."""
    return Path(shutil.copytree(tiny_prior_folder, tmp_path / "prior"))


def test_what_the_folder_says(tiny_prior: DiffusersPrior) -> None:
    assert tiny_prior.name == "tiny"
    assert (tiny_prior.latent_channels, tiny_prior.latent_scale, tiny_prior.num_timesteps) == (8, 4, 1000)
    models = (tiny_prior.unet, tiny_prior.vae, tiny_prior.text_encoder)
    assert not any(m.training for m in models)
    assert not any(p.requires_grad for m in models for p in m.parameters())


def test_text_is_cached_and_does_not_depend_on_the_batch(tiny_prior: DiffusersPrior) -> None:
    together = tiny_prior.encode_text(["a red cube, front view", "", "a red cube, front view"])
    assert together.shape == (3, 32, 32)
    assert torch.equal(together[0], together[2])
    assert torch.equal(tiny_prior.encode_text([""])[0], together[1])
    assert not torch.allclose(together[0], together[1])
    tiny_prior.text_encoder = None
    assert torch.equal(tiny_prior.encode_text(["", "a red cube, front view"]), together[[1, 0]])


def test_text_embedding_is_that_of_the_stable_diffusion_pipeline(tiny_prior: DiffusersPrior) -> None:
    """Last hidden state, padded to the full length, without an attention mask."""
    tokens = tiny_prior.tokenizer("a cone", padding="max_length", max_length=32, truncation=True)
    with torch.no_grad():
        hidden = tiny_prior.text_encoder(torch.tensor([tokens["input_ids"]])).last_hidden_state
    torch.testing.assert_close(tiny_prior.encode_text(["a cone"]), hidden)


def test_latents_are_standardised_per_channel(tiny_prior: DiffusersPrior) -> None:
    images = torch.rand(2, 3, 64, 64)
    latents = tiny_prior.encode(images)
    assert latents.shape == (2, 8, 16, 16)
    raw = tiny_prior.vae.encode(images * 2 - 1).latents
    mean = torch.tensor([0.1 * c for c in range(8)]).view(8, 1, 1)
    std = torch.tensor([1 + 0.1 * c for c in range(8)]).view(8, 1, 1)
    torch.testing.assert_close(latents, (raw - mean) / std)
    decoded = tiny_prior.decode(latents)
    torch.testing.assert_close(decoded, (tiny_prior.vae.decode(raw).sample / 2 + 0.5).clamp(0, 1))
    assert (tiny_prior.counters.encodes, tiny_prior.counters.decodes) == (2, 2)


def test_encode_and_decode_carry_gradients_to_their_input(tiny_prior: DiffusersPrior) -> None:
    images = torch.rand(1, 3, 64, 64, requires_grad=True)
    latents = tiny_prior.encode(images)
    (gradient,) = torch.autograd.grad(tiny_prior.decode(latents).square().sum(), images)
    assert gradient.abs().max() > 0


def test_kl_autoencoders_give_their_mode_scaled(tiny_prior_folder: Path, tmp_path: Path) -> None:
    from diffusers import AutoencoderKL

    folder = tmp_path / "kl"
    shutil.copytree(tiny_prior_folder, folder, ignore=shutil.ignore_patterns("vae"))
    vae = AutoencoderKL(
        latent_channels=8,
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=4,
        scaling_factor=0.5,
    )
    vae.save_pretrained(folder / "vae")
    edit(folder / "vae" / "config.json", lambda c: c.update(shift_factor=0.25))
    prior = DiffusersPrior.load(folder)
    images = torch.rand(1, 3, 32, 32)
    latents = prior.encode(images)
    assert prior.latent_scale == 2
    assert torch.equal(latents, prior.encode(images)), "nothing is drawn"
    mode = vae.eval().encode(images * 2 - 1).latent_dist.mean
    torch.testing.assert_close(latents, (mode - 0.25) * 0.5, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        prior.decode(latents), (vae.decode(mode).sample / 2 + 0.5).clamp(0, 1), rtol=1e-4, atol=1e-5
    )


def test_noise_prediction_counts_and_keeps_a_graph_only_when_asked(tiny_prior: DiffusersPrior) -> None:
    x_t, t = torch.randn(3, 8, 16, 16), torch.tensor([1, 500, 999])
    text = tiny_prior.encode_text(["a", "b", "c"]).requires_grad_()
    assert not tiny_prior.predict_noise(x_t, t, text).requires_grad
    tiny_prior.predict_noise(x_t, t, text, grad=True).sum().backward()
    assert text.grad.abs().max() > 0
    assert (tiny_prior.counters.denoiser_forwards, tiny_prior.counters.denoiser_backwards) == (6, 3)


@pytest.mark.parametrize("kind", ["v_prediction", "sample"])
def test_other_predictions_are_converted(tiny_prior: DiffusersPrior, copy: Path, kind: str) -> None:
    edit(copy / "scheduler" / "scheduler_config.json", lambda c: c.update(prediction_type=kind))
    x_t, t = torch.randn(2, 8, 16, 16), torch.tensor([100, 900])
    text = tiny_prior.encode_text(["a", "b"])
    output = tiny_prior.predict_noise(x_t, t, text)
    alpha, sigma = tiny_prior.alpha_sigma(t)
    expected = sigma * x_t + alpha * output if kind == "v_prediction" else (x_t - alpha * output) / sigma
    torch.testing.assert_close(DiffusersPrior.load(copy).predict_noise(x_t, t, text), expected)


def test_flows_are_converted_and_told_their_noise_level(tiny_prior: DiffusersPrior, copy: Path) -> None:
    """The network's time is σ in thousandths, and ε̂ = x_t + (1 - σ) v."""
    (copy / "scheduler" / "scheduler_config.json").write_text(json.dumps(FLOW_SCHEDULER))
    prior = DiffusersPrior.load(copy)
    x_t, t = torch.randn(1, 8, 16, 16), torch.tensor([400])
    text, sigma = tiny_prior.encode_text(["a"]), 3 * 0.4005 / (1 + 2 * 0.4005)
    with torch.no_grad():
        velocity = tiny_prior.unet(x_t, torch.tensor([1000 * sigma]), text).sample
    expected = x_t + (1 - sigma) * velocity
    torch.testing.assert_close(prior.predict_noise(x_t, t, text), expected, rtol=1e-4, atol=1e-5)


def test_pixel_priors_need_no_autoencoder(tmp_path: Path) -> None:
    """Of DeepFloyd IF's six channels the last three are a variance; its T5 does not attend to padding."""
    prior = DiffusersPrior.load(write_pixel(tmp_path / "if"))
    images, t = torch.rand(2, 3, 16, 16), torch.tensor([100, 900])
    latents = prior.encode(images)
    assert (prior.latent_channels, prior.latent_scale, prior.text_length) == (3, 1, 77)
    torch.testing.assert_close(latents, images * 2 - 1)
    torch.testing.assert_close(prior.decode(latents), images)
    text = prior.encode_text(["a", "a b c"])
    assert text.shape == (2, 77, 48)
    with torch.no_grad():
        expected = prior.unet(latents, t, text).sample[:, :3]
        alone = prior.text_encoder(prior.tokenizer("a", return_tensors="pt").input_ids)[0]
    torch.testing.assert_close(prior.predict_noise(latents, t, text), expected)
    torch.testing.assert_close(text[0, : alone.shape[1]], alone[0])


def test_stable_diffusions_own_names_of_weights_are_read(sd_folder: Path, tmp_path: Path) -> None:
    """As released in 2022: a prefix on the text encoder's names, and the autoencoder's attention by its old ones."""
    folder = Path(shutil.copytree(sd_folder, tmp_path / "old"))
    text, vae = folder / "text_encoder" / "model.safetensors", folder / "vae"
    tensors = {f"text_model.{k.removeprefix('text_model.')}": v for k, v in load_file(text).items()}
    tensors["text_model.embeddings.position_ids"] = torch.arange(77)[None]
    save_file(tensors, text, {"format": "pt"})
    names = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    old = {}
    for key, tensor in load_file(vae / "diffusion_pytorch_model.safetensors").items():
        for new, before in names.items():
            key = key.replace(f".{new}.", f".{before}.")
        old[key] = tensor
    assert "encoder.mid_block.attentions.0.query.weight" in old
    save_file(old, vae / "diffusion_pytorch_model.safetensors", {"format": "pt"})
    prior, modern = DiffusersPrior.load(folder), DiffusersPrior.load(sd_folder)
    assert torch.equal(prior.encode_text(["a fox"]), modern.encode_text(["a fox"]))
    images = torch.rand(1, 3, 64, 64)
    assert torch.equal(prior.encode(images), modern.encode(images))
    assert (prior.latent_channels, prior.latent_scale, prior.text_length) == (4, 8, 77)


def test_a_prompt_too_long_is_cut_aloud(tiny_prior: DiffusersPrior, caplog: pytest.LogCaptureFixture) -> None:
    tiny_prior.encode_text(["short"])
    assert not caplog.records
    long = tiny_prior.encode_text(["a very long prompt about a red cube on a hill, front view"])
    assert long.shape == (1, 32, 32)
    assert "is cut to 32" in caplog.text


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_weights_must_cover_the_model_exactly(copy: Path, part: str) -> None:
    (weights,) = (copy / part).glob("*.safetensors")
    tensors = load_file(weights)
    name = sorted(tensors)[-1]
    save_file({k: v for k, v in tensors.items() if k != name}, weights, {"format": "pt"})
    with pytest.raises(EnvironmentProblem, match=f"{part} lacks weights: .*{name.rpartition('.')[2]}"):
        DiffusersPrior.load(copy)
    save_file({**tensors, "surplus.weight": torch.ones(1)}, weights, {"format": "pt"})
    with pytest.raises(EnvironmentProblem, match=f"{part} has unexpected weights: surplus.weight"):
        DiffusersPrior.load(copy)


def test_truncated_weights_are_foreseen(copy: Path) -> None:
    weights = copy / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(EnvironmentProblem, match="unet"):
        DiffusersPrior.load(copy)


def test_half_precision_files_are_found(tiny_prior_folder: Path, copy: Path) -> None:
    for weights in copy.glob("*/*.safetensors"):
        half = {k: v.half() if v.is_floating_point() else v for k, v in load_file(weights).items()}
        save_file(half, weights.with_name(f"{weights.stem}.fp16.safetensors"), {"format": "pt"})
        weights.unlink()
    x_t, t = torch.randn(1, 8, 16, 16), torch.tensor([300])
    full, half_prior = DiffusersPrior.load(tiny_prior_folder), DiffusersPrior.load(copy)
    text = full.encode_text(["a"])
    torch.testing.assert_close(
        half_prior.predict_noise(x_t, t, text), full.predict_noise(x_t, t, text), rtol=0.05, atol=0.02
    )


def test_lower_precision_computes_in_it_and_answers_in_float32(tiny_prior_folder: Path) -> None:
    prior = DiffusersPrior.load(tiny_prior_folder, dtype=torch.bfloat16)
    assert prior.unet.dtype == torch.bfloat16
    text = prior.encode_text(["a"])
    latents = prior.encode(torch.rand(1, 3, 64, 64))
    outputs = (text, latents, prior.decode(latents), prior.predict_noise(latents, torch.tensor([300]), text))
    assert all(o.dtype == torch.float32 for o in outputs)


def test_hashes_name_every_file_and_follow_its_content(copy: Path) -> None:
    before = DiffusersPrior.load(copy).weights
    assert {
        "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors",
        "tokenizer/tokenizer.json",
    } <= set(before)
    edit(copy / "scheduler" / "scheduler_config.json", lambda c: c.update(beta_end=0.013))
    after = DiffusersPrior.load(copy).weights
    assert {k for k in before if before[k] != after[k]} == {"scheduler/scheduler_config.json"}


def test_model_libraries_are_imported_only_when_a_model_is_loaded() -> None:
    code = (
        "import sys, psdbench.priors.diffusers, psdbench.priors.lora, psdbench.methods.psd, psdbench.methods.vsd;"
        "sys.exit(any(name in sys.modules for name in ('diffusers', 'transformers', 'peft')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
