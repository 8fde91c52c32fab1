"""MVDream's public checkpoint to a folder in Stable Diffusion's layout, which psdbench reads without foreign code.

Two layouts are known. The original (MVDream's release): one file with the UNet, the autoencoder and OpenCLIP's text
encoder under the names of latent-diffusion. The port to diffusers: a folder whose UNet keeps those names, while
the rest has diffusers'. Widths are read off the weights. Every weight must find its place in a model, and every
model be filled; what is left out on purpose is named below.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from psdbench.errors import EnvironmentProblem, UsageError
from psdbench.priors.diffusion import alphas_cumprod
from psdbench.priors.folder import FETCH, PICKLES, STEMS, inspect, read_json
from psdbench.priors.ldm import as_clip, text_config, unet_config, vae_config, without_last_block
from psdbench.store import atomic

Weights = dict[str, Tensor]

UNET, VAE, TEXT = "model.diffusion_model.", "first_stage_model.", "cond_stage_model.model."
CAMERA = ("camera_embed.", "label_emb.0.")
"""the camera network's name in MVDream, and that of the same network in latent-diffusion's naming"""
UNUSED = (
    "text_projection",  # of the image-text model that the text encoder was taken from
    "logit_scale",
    "attn_mask",  # follows from the length
)
SCHEDULER = {
    "_class_name": "DDIMScheduler",
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "epsilon",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}
PADDING = "!"
"""what OpenCLIP pads with, its token 0; Stable Diffusion 1's tokenizer pads otherwise"""
OTHER = "give MVDream's sd-v2.1-base-4view.pt, or the folder of its port to diffusers"


def convert_mvdream(source: Path, out: Path, tokenizer: Path | None = None) -> None:
    """Write the folder `out` from a checkpoint file or a port's folder.

    The original has no vocabulary: `tokenizer` is the folder of one, such as `tokenizer` of any Stable Diffusion 2.
    Raises UsageError for options that do not fit, EnvironmentProblem for a file that is not MVDream's.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} is not empty", "give a new folder")
    if not source.exists():
        raise UsageError(f"there is no {source}", OTHER)
    whole = source.is_file()
    words = tokenizer or (None if whole else source / "tokenizer")
    if words is None:
        raise UsageError(
            f"{source.name} holds no vocabulary",
            "add --tokenizer FOLDER, the tokenizer/ of any Stable Diffusion 2 folder",
        )
    tensors = read_weights(source if whole else weight_file(source / "unet", STEMS["unet"]))
    part = out.with_name(f".{out.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        if whole:
            _from_original(tensors, part)
        else:
            _write_unet({UNET + key: value for key, value in tensors.items()}, part)
            _copy_rest(source, part)
        _write_tokenizer(words, part)
        atomic.write_json(part / "scheduler" / "scheduler_config.json", SCHEDULER)
        inspect(part)
        out.parent.mkdir(parents=True, exist_ok=True)
        if out.exists():
            out.rmdir()
        part.rename(out)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def read_weights(file: Path) -> Weights:
    """The tensors of a safetensors file, or of a pickle that is read without executing anything in it."""
    from pickle import UnpicklingError

    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        content = torch.load(file, map_location="cpu", weights_only=True)
    except (SafetensorError, UnpicklingError, RuntimeError, EOFError, OSError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise EnvironmentProblem(f"{file} cannot be read: {reason}", FETCH) from error
    content = content.get("state_dict", content) if isinstance(content, dict) else {}
    if not content or not all(isinstance(value, Tensor) for value in content.values()):
        raise EnvironmentProblem(f"{file} is not a dictionary of weights", OTHER)
    return dict(content)


def weight_file(folder: Path, stem: str) -> Path:
    """A port's weights, safetensors before others."""
    found = (folder / f"{stem}{v}.{s}" for s in ("safetensors", *PICKLES) for v in ("", ".fp16"))
    file = next((file for file in found if file.is_file()), None)
    if file is None:
        raise EnvironmentProblem(f"{folder} has no {stem}.safetensors", OTHER)
    return file


def _from_original(tensors: Weights, out: Path) -> None:
    """All models of the one file; EnvironmentProblem that names what is left over."""
    groups = {
        prefix: {k: v for k, v in tensors.items() if k.startswith(prefix)} for prefix in (UNET, VAE, TEXT)
    }
    rest = tensors.keys() - {key for group in groups.values() for key in group}
    _refuse_left_over(key for key in rest if "." in key and not key.startswith("model_ema."))
    if "alphas_cumprod" in tensors:
        schedule = alphas_cumprod(SCHEDULER)
        if not torch.allclose(tensors["alphas_cumprod"].float(), schedule, rtol=1e-3, atol=1e-5):
            raise EnvironmentProblem("the checkpoint's noise schedule is not Stable Diffusion's", OTHER)
    _write_unet(groups[UNET], out)
    _write_vae(groups[VAE], out)
    _write_text_encoder({key.removeprefix(TEXT): value for key, value in groups[TEXT].items()}, out)


def _write_unet(tensors: Weights, out: Path) -> None:
    from diffusers import UNet2DConditionModel
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

    named = {key.replace(UNET + CAMERA[0], UNET + CAMERA[1]): value for key, value in tensors.items()}
    try:
        config = unet_config({key.removeprefix(UNET): value for key, value in named.items()})
        converted = convert_ldm_unet_checkpoint(named, config)
    except (KeyError, ValueError, IndexError) as error:
        raise EnvironmentProblem(f"the UNet is not MVDream's: {error}", OTHER) from error
    _refuse_left_over(_without_place(named, converted))
    with torch.device("meta"):
        model = UNet2DConditionModel(**config)
    _write(model, converted, out, "unet")


def _write_vae(tensors: Weights, out: Path) -> None:
    from diffusers import AutoencoderKL
    from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint

    try:
        config = vae_config({key.removeprefix(VAE): value for key, value in tensors.items()})
        converted = convert_ldm_vae_checkpoint(tensors, config)
    except (KeyError, ValueError) as error:
        raise EnvironmentProblem(f"the autoencoder is not Stable Diffusion's: {error}", OTHER) from error
    _refuse_left_over(_without_place(tensors, converted))
    with torch.device("meta"):
        model = AutoencoderKL(**config)
    _write(model, converted, out, "vae")


def _write_text_encoder(tensors: Weights, out: Path) -> None:
    """OpenCLIP's text encoder without its last block: MVDream, as Stable Diffusion 2, reads the one before."""
    from transformers import CLIPTextConfig, CLIPTextModel

    used = without_last_block({key: value for key, value in tensors.items() if key not in UNUSED})
    try:
        config = CLIPTextConfig(**text_config(used))
    except KeyError as error:
        raise EnvironmentProblem(f"the text encoder is not OpenCLIP's: it lacks {error}", OTHER) from error
    with torch.device("meta"):
        model = CLIPTextModel(config)
    prefix = "text_model." if hasattr(model, "text_model") else ""
    converted = {prefix + name: part for key, value in used.items() for name, part in as_clip(key, value)}
    _write(model, converted, out, "text_encoder")


def _without_place(tensors: Weights, converted: Weights) -> list[str]:
    """Names of tensors that no converted one shares its memory with."""
    placed = {value.data_ptr() for value in converted.values() if value is not None}
    return [key for key, value in tensors.items() if value.data_ptr() not in placed]


def _refuse_left_over(keys: Iterable[str]) -> None:
    if left := sorted(keys):
        more = f" and {len(left) - 5} more" if len(left) > 5 else ""
        raise EnvironmentProblem(f"the checkpoint has unknown weights: {', '.join(left[:5])}{more}", OTHER)


def _write(model: Any, tensors: Weights, out: Path, part: str) -> None:
    """Configuration and weights of one model; EnvironmentProblem where names or shapes are not the model's."""
    expected = {key: value.shape for key, value in model.state_dict().items()}
    differ = [k for k in expected.keys() & tensors.keys() if tensors[k].shape != expected[k]]
    problems = {
        "lacks": expected.keys() - tensors.keys(),
        "has unknown": tensors.keys() - expected.keys(),
        "has other shapes of": differ,
    }
    for problem, keys in problems.items():
        if keys:
            raise EnvironmentProblem(f"the {part} {problem} weights: {', '.join(sorted(keys)[:5])}", OTHER)
    (out / part).mkdir(parents=True)
    model.config.save_pretrained(out / part) if part == "text_encoder" else model.save_config(out / part)
    atomic.write_tensors(out / part / f"{STEMS[part]}.safetensors", tensors, {"format": "pt"})


def _copy_rest(source: Path, out: Path) -> None:
    """Autoencoder and text encoder of a port, which are diffusers' and transformers' own already."""
    for part in ("vae", "text_encoder"):
        config = read_json(source / part / "config.json")
        tensors = read_weights(weight_file(source / part, STEMS[part]))
        atomic.write_text(out / part / "config.json", json.dumps(config, indent=1))
        atomic.write_tensors(out / part / f"{STEMS[part]}.safetensors", tensors, {"format": "pt"})


def _write_tokenizer(folder: Path, out: Path) -> None:
    """The vocabulary, set to pad as OpenCLIP does; EnvironmentProblem where it is not CLIP's."""
    from transformers import CLIPTokenizer

    if not folder.is_dir():
        raise EnvironmentProblem(
            f"{folder} is not a tokenizer's folder", "give the tokenizer/ of Stable Diffusion 2"
        )
    tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    config = read_json(out / "text_encoder" / "config.json")
    if len(tokenizer) != config["vocab_size"] or tokenizer.convert_tokens_to_ids(PADDING) != 0:
        raise EnvironmentProblem(
            f"{folder} has {len(tokenizer)} words and '{PADDING}' is number "
            f"{tokenizer.convert_tokens_to_ids(PADDING)}: the text encoder has {config['vocab_size']} and 0",
            "give the tokenizer/ of Stable Diffusion 2",
        )
    tokenizer.pad_token, tokenizer.model_max_length = PADDING, config["max_position_embeddings"]
    tokenizer.save_pretrained(out / "tokenizer")
