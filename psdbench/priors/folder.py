"""What a prior's folder holds, read from its small files: all that can be refused before anything is queued.

A folder in Stable Diffusion's layout has `unet`, `vae`, `text_encoder`, `tokenizer` and `scheduler`, as a
pipeline's save_pretrained writes them; without a `vae` it is a prior of pixels. Only safetensors are read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from psdbench.errors import EnvironmentProblem

FETCH = "fetch the whole folder again, or save the pipeline with safe_serialization=True"
OTHER = "use a text-to-image prior in the format of Stable Diffusion 1 or 2, MVDream or DeepFloyd IF's first stage"
PICKLES = ("bin", "ckpt", "pt", "pth")
STEMS = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model", "text_encoder": "model"}
"""first part of a weight file's name, by the part of the model"""

TEXT_MODELS = ("clip_text_model", "t5")

MVDREAM_VIEWS = 4
CAMERA_VALUES = 16
"""numbers of MVDream's camera condition: a flattened 4 x 4 pose"""

FEW_STEPS = re.compile(r"turbo|\blcm|lightning|hyper-?sd|schnell|distill|instaflow|\bdmd", re.IGNORECASE)
FEW_STEP_SCHEDULERS = ("LCMScheduler", "TCDScheduler")

Kind = Literal["latent", "pixel", "mvdream"]


@dataclass(frozen=True)
class Facts:
    """What kind of prior a folder holds."""

    kind: Kind
    """latent: Stable Diffusion's; pixel: without an autoencoder; mvdream: four views with their cameras"""
    prediction: str
    """one of psdbench.priors.diffusion.PREDICTIONS"""

    @property
    def views(self) -> int:
        """Images that are denoised together."""
        return MVDREAM_VIEWS if self.kind == "mvdream" else 1


def inspect(folder: Path) -> Facts:
    """Look through a folder; EnvironmentProblem that names what is missing, unsafe or unfit in it.

    Reads configurations and the headers of the weight files, no weights.
    """
    from psdbench.priors.diffusion import noise_schedule, prediction_type

    folder = Path(folder)
    _refuse_other_layouts(folder)
    scheduler, unet = read_json(folder / "scheduler" / "scheduler_config.json"), read_config(folder, "unet")
    refuse_distilled(folder, scheduler, unet)
    try:
        noise_schedule(scheduler)
        prediction = prediction_type(scheduler)
    except EnvironmentProblem as error:
        raise EnvironmentProblem(f"{folder / 'scheduler'}: {error}", error.remedy) from error
    pixels = unet.get("in_channels", 4) == 3 and not (folder / "vae").exists()
    vae = None if pixels else read_config(folder, "vae")
    refuse_other_architectures(folder, unet, vae, read_config(folder, "text_encoder"))
    if not (folder / "tokenizer").is_dir():
        raise EnvironmentProblem(f"{folder / 'tokenizer'} is missing", FETCH)
    for part in ("unet", "text_encoder", *(["vae"] if vae else [])):
        for file in weight_files(folder, part):
            _check_header(file)
    return Facts("mvdream" if sees_cameras(unet) else "latent" if vae else "pixel", prediction)


def sees_cameras(unet: Mapping[str, Any]) -> bool:
    """Whether a UNet's configuration is MVDream's: an embedding of 16 numbers, added to that of the time."""
    condition = unet.get("class_embed_type"), unet.get("projection_class_embeddings_input_dim")
    return condition == ("projection", CAMERA_VALUES)


def read_json(file: Path) -> dict[str, Any]:
    """A JSON file of a prior's folder; raises EnvironmentProblem when it is missing or broken."""
    if not file.is_file():
        raise EnvironmentProblem(f"{file} is missing", FETCH)
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise EnvironmentProblem(f"{file} is not valid JSON: {error}", FETCH) from error
    if not isinstance(content, dict):
        raise EnvironmentProblem(f"{file} is not a JSON object", FETCH)
    return content


def read_config(folder: Path, part: str) -> dict[str, Any]:
    """The configuration of one model of the folder."""
    return read_json(folder / part / "config.json")


def weight_files(folder: Path, part: str) -> list[Path]:
    """The safetensors of one model, full precision before half, one file or the shards of an index.

    Raises EnvironmentProblem where there are none, or a shard is missing.
    """
    stem, place = STEMS[part], folder / part
    for variant in ("", ".fp16"):
        if (whole := place / f"{stem}{variant}.safetensors").is_file():
            return [whole]
        if (index := place / f"{stem}.safetensors.index{variant}.json").is_file():
            shards = sorted(set(read_json(index).get("weight_map", {}).values()))
            return [_there(place / Path(shard).name) for shard in shards]
    pickles = sorted(file.name for suffix in PICKLES for file in place.glob(f"*.{suffix}"))
    only = f"only pickled weights ({', '.join(pickles)}), which are never loaded"
    raise EnvironmentProblem(
        f"{place} has {only if pickles else 'no weights'}", f"put {stem}.safetensors there: {FETCH}"
    )


def _there(file: Path) -> Path:
    if not file.is_file():
        raise EnvironmentProblem(f"{file} is missing", FETCH)
    return file


def _check_header(file: Path) -> None:
    """Raise EnvironmentProblem for a truncated file, or a pointer to one that was never fetched."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt"):
            pass
    except (SafetensorError, OSError) as error:
        raise EnvironmentProblem(f"{file} is damaged: {str(error).splitlines()[0]}", FETCH) from error


def _refuse_other_layouts(folder: Path) -> None:
    if not folder.is_dir():
        raise EnvironmentProblem(f"{folder} is not a folder", FETCH)
    if (folder / "transformer").is_dir():
        raise EnvironmentProblem(f"{folder} has a transformer in place of a UNet (as SD3 and FLUX)", OTHER)
    if not (folder / "unet").is_dir():
        pickles = [f.name for suffix in (*PICKLES, "safetensors") for f in sorted(folder.glob(f"*.{suffix}"))]
        single = f", but the single-file checkpoint {pickles[0]}" if pickles else ""
        remedy = (
            "convert it with: psdbench convert mvdream CKPT OUT" if pickles else "see psdbench list priors"
        )
        raise EnvironmentProblem(
            f"{folder} is not a folder in Stable Diffusion's layout: no unet/ in it{single}",
            f"{remedy}, or give the folder of a diffusers pipeline" if pickles else remedy,
        )


def refuse_distilled(folder: Path, scheduler: Mapping[str, Any], unet: Mapping[str, Any]) -> None:
    """Raise EnvironmentProblem for a model distilled to a few steps, such as SD-Turbo.

    Its output is trained to be a finished image from a few large t; elsewhere it is no score of noised images,
    and score distillation from it follows nothing. Signs are its names, a guidance embedded in the UNet (LCM), and
    an ε-prediction for trailing timesteps, which only few-step models have (those of zero terminal SNR predict v).
    """
    index = folder / "model_index.json"
    names = [folder.name, unet.get("_name_or_path"), scheduler.get("_name_or_path")]
    names += [read_json(index).get("_name_or_path")] if index.is_file() else []
    names += [part for part in folder.parts if part.startswith("models--")]  # the cache of the hub
    trailing = scheduler.get("timestep_spacing") == "trailing" and "Euler" in scheduler.get("_class_name", "")
    signs = [f"it is called '{name}'" for name in names if name and FEW_STEPS.search(Path(name).name)]
    if scheduler.get("_class_name") in FEW_STEP_SCHEDULERS:
        signs.append(f"its scheduler is {scheduler['_class_name']}")
    if unet.get("time_cond_proj_dim"):
        signs.append("its UNet takes the guidance scale as an input")
    if trailing and scheduler.get("prediction_type", "epsilon") == "epsilon":
        signs.append("its scheduler has trailing timesteps")
    if signs:
        raise EnvironmentProblem(
            f"the prior in {folder} is distilled to a few steps ({signs[0]}): it is no score of noised images",
            "use the model it was distilled from",
        )


def refuse_other_architectures(
    folder: Path, unet: Mapping[str, Any], vae: Mapping[str, Any] | None, text_encoder: Mapping[str, Any]
) -> None:
    """Raise EnvironmentProblem where the configurations do not make a text-conditioned diffusion model."""
    for problem in _misfits(unet, vae, text_encoder):
        raise EnvironmentProblem(f"the prior in {folder}: {problem}", OTHER)


def _misfits(
    unet: Mapping[str, Any], vae: Mapping[str, Any] | None, text_encoder: Mapping[str, Any]
) -> Iterator[str]:
    kind = (vae or {}).get("_class_name", "AutoencoderKL")
    if kind not in ("AutoencoderKL", "AutoencoderTiny"):
        yield f"its vae is a {kind}"
    if text_encoder.get("model_type") not in TEXT_MODELS:
        yield f"its text encoder is a {text_encoder.get('model_type')}"
    channels, expected = unet.get("in_channels", 4), vae.get("latent_channels", 4) if vae else 3
    if channels != expected:
        what = "latents" if vae else "images"
        yield f"its UNet takes {channels} channels where the {what} have {expected} (inpainting, upscaling?)"
    if unet.get("addition_embed_type") not in (None, "text"):
        yield "its UNet needs more than a text embedding (as SDXL)"
    if unet.get("class_embed_type") is not None and not sees_cameras(unet):
        yield f"its UNet has a class embedding '{unet['class_embed_type']}' (an upscaler?)"
    width = unet.get("encoder_hid_dim") or unet.get("cross_attention_dim", 1280)
    text_width = text_encoder.get("hidden_size", text_encoder.get("d_model"))
    if width != text_width:
        yield f"its UNet attends to text of width {width}, the encoder gives {text_width}"
