"""Latent diffusion priors from Stable-Diffusion-format folders, by the classes of diffusers and transformers.

The folder holds `unet`, `vae`, `text_encoder`, `tokenizer` and `scheduler`, as a pipeline's save_pretrained
writes them. Only safetensors are read, only from disk, and every key must be covered.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch
from safetensors import SafetensorError
from torch import Tensor

from psdbench.counters import Counters
from psdbench.errors import EnvironmentProblem, UsageError
from psdbench.priors.diffusion import Diffusion, alphas_cumprod
from psdbench.priors.finetuned import fuse
from psdbench.store.digest import model_files, sha256_file
from psdbench.streams import Streams

if TYPE_CHECKING:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
    from transformers import CLIPTextModel

    from psdbench.cameras import Cameras
    from psdbench.priors import TunableScore

LOG = logging.getLogger(__name__)
FETCH = "fetch the whole folder again, or save the pipeline with safe_serialization=True"


class DiffusersPrior(Diffusion):
    """Stable Diffusion, or any latent diffusion model in its format, as a frozen prior."""

    def __init__(
        self,
        *,
        unet: UNet2DConditionModel,
        vae: AutoencoderKL | AutoencoderTiny,
        vae_config: Mapping[str, Any],
        text_encoder: CLIPTextModel,
        tokenizer: Any,
        scheduler: dict[str, Any],
        folder: Path,
        lora: Path | None = None,
    ) -> None:
        super().__init__(alphas_cumprod(scheduler).to(unet.device))
        self.prediction = scheduler.get("prediction_type", "epsilon")
        if self.prediction not in ("epsilon", "v_prediction"):
            raise UsageError(
                f"the prior in {folder} predicts '{self.prediction}'",
                "use a prior of epsilon or v_prediction type",
            )
        self.name, self.folder, self.lora = folder.name, folder, lora
        self.unet, self.vae, self.text_encoder, self.tokenizer = unet, vae, text_encoder, tokenizer
        self.device, self.dtype = unet.device, unet.dtype
        self.latent_channels: int = unet.config["in_channels"]
        self.latent_scale: int = latent_scale(vae)
        self._shift, self._scale = latent_normalisation(vae_config, self.latent_channels, self.device)
        self.counters = Counters()
        self._embeddings: dict[str, Tensor] = {}

    @classmethod
    def load(
        cls,
        folder: Path,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        lora: Path | None = None,
    ) -> Self:
        """Read a folder, and fuse the LoRA of a finetuning into its UNet.

        Raises EnvironmentProblem naming what is missing, unexpected or not safetensors.
        """
        import diffusers
        import transformers

        folder = Path(folder)
        scheduler = read_json(folder / "scheduler" / "scheduler_config.json")
        vae_config = read_json(folder / "vae" / "config.json")
        kind = vae_config.get("_class_name", "AutoencoderKL")
        if kind not in ("AutoencoderKL", "AutoencoderTiny"):
            raise EnvironmentProblem(f"{folder}/vae is a {kind}", "use an AutoencoderKL or AutoencoderTiny")
        if not (folder / "tokenizer").is_dir():
            raise EnvironmentProblem(f"{folder}/tokenizer is missing", FETCH)
        models = {
            "unet": load_frozen(diffusers.UNet2DConditionModel, folder / "unet", dtype),
            "vae": load_frozen(getattr(diffusers, kind), folder / "vae", dtype),
            "text_encoder": load_frozen(transformers.CLIPTextModel, folder / "text_encoder", dtype),
        }
        # Channels-last convolutions are what oneDNN and cuDNN run fastest; the arithmetic is the same.
        models = {part: m.to(device=device, memory_format=torch.channels_last) for part, m in models.items()}
        tokenizer = transformers.CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
        refuse_other_architectures(folder, **models)
        if lora is not None:
            fuse(models["unet"], lora)
        # The class fills in what the file leaves out; the file knows moments that a class may not.
        vae_config = {**models["vae"].config, **vae_config}
        return cls(
            folder=folder,
            lora=lora,
            vae_config=vae_config,
            tokenizer=tokenizer,
            scheduler=scheduler,
            **models,
        )

    @cached_property
    def weights(self) -> dict[str, str]:
        """sha256 of every file of the prior, by its path in the folder; hashed when first asked for."""
        tuned = {self.lora.name: sha256_file(self.lora)} if self.lora else {}
        return model_files(self.folder) | tuned

    @torch.no_grad()
    def encode_text(self, prompts: Sequence[str]) -> Tensor:
        """Last hidden states of the text encoder [B, L, D], float32; cached per prompt."""
        for prompt in dict.fromkeys(prompts):
            if prompt not in self._embeddings:
                tokens = self.tokenizer(
                    [prompt],
                    padding="max_length",
                    truncation=True,
                    max_length=self.tokenizer.model_max_length,
                    return_tensors="pt",
                )
                self._warn_if_cut(prompt)
                # One prompt at a time: a batch of another size could round differently.
                hidden = self.text_encoder(tokens.input_ids.to(self.device))[0]
                self._embeddings[prompt] = hidden.float()
        return torch.cat([self._embeddings[prompt] for prompt in prompts])

    def _warn_if_cut(self, prompt: str) -> None:
        length, limit = len(self.tokenizer(prompt).input_ids), self.tokenizer.model_max_length
        if length > limit:
            LOG.warning(
                "prompt of %d tokens is cut to %d, view words at its end included: %s", length, limit, prompt
            )

    def encode(self, images: Tensor) -> Tensor:
        """Images to latents; of a KL autoencoder's distribution the mode, so that no stream draws for it."""
        self.counters.add("encodes", len(images))
        encoded = self.vae.encode((images * 2 - 1).to(self.dtype))
        raw = encoded.latent_dist.mode() if hasattr(encoded, "latent_dist") else encoded.latents
        return (raw.float() - self._shift) * self._scale

    def decode(self, latents: Tensor) -> Tensor:
        """Latents to images in [0, 1]."""
        self.counters.add("decodes", len(latents))
        raw = latents / self._scale + self._shift
        return (self.vae.decode(raw.to(self.dtype)).sample.float() / 2 + 0.5).clamp(0, 1)

    def predict_noise(
        self, x_t: Tensor, t: Tensor, text: Tensor, cameras: Cameras | None = None, *, grad: bool = False
    ) -> Tensor:
        """ε̂(x_t; text), float32. The UNet has no camera condition: views differ by their text."""
        self.counters.add("denoiser_forwards", len(x_t))
        with torch.set_grad_enabled(grad):
            output = self.unet(x_t.to(self.dtype), t, text.to(self.dtype)).sample.float()
            eps = self.epsilon(self.prediction, output, x_t, t)
        if eps.requires_grad:
            eps.register_hook(lambda _: self.counters.add("denoiser_backwards", len(x_t)))
        return eps

    def tunable_score(self, rank: int, learning_rate: float, streams: Streams) -> TunableScore:
        """The prior's UNet with a LoRA and a camera condition; one at a time."""
        from psdbench.priors.lora import LoraScore

        return LoraScore(self, rank, learning_rate, streams["lora"])


def read_json(file: Path) -> dict[str, Any]:
    """A JSON file of a prior's folder; raises EnvironmentProblem when it is missing or broken."""
    if not file.is_file():
        raise EnvironmentProblem(f"{file} is missing", FETCH)
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise EnvironmentProblem(f"{file} is not valid JSON: {error}", FETCH) from error


def load_frozen(model_class: Any, folder: Path, dtype: torch.dtype) -> Any:
    """A model in evaluation mode, nothing trainable, from local safetensors that cover it exactly."""
    read_json(folder / "config.json")
    stem = "model" if model_class.__name__.startswith("CLIP") else "diffusion_pytorch_model"
    variants = [v for v in ("", ".fp16") if (folder / f"{stem}{v}.safetensors").is_file()]
    if not variants:
        pickles = [
            file.name for suffix in ("bin", "ckpt", "pt", "pth") for file in folder.glob(f"*.{suffix}")
        ]
        found = (
            f"only pickled weights ({', '.join(pickles)}), which are never loaded"
            if pickles
            else "no weights"
        )
        raise EnvironmentProblem(f"{folder} has {found}", f"put {stem}.safetensors there: {FETCH}")
    try:
        with quiet():
            model, info = model_class.from_pretrained(
                folder,
                variant=variants[0].lstrip(".") or None,
                torch_dtype=dtype,
                local_files_only=True,
                use_safetensors=True,
                output_loading_info=True,
            )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise EnvironmentProblem(f"{folder} cannot be loaded: {str(error).splitlines()[0]}", FETCH) from error
    # Old text encoders carry the position numbers as a buffer; they are no parameters.
    unexpected = [key for key in info["unexpected_keys"] if not key.endswith("position_ids")]
    for problem, keys in (("lacks", info["missing_keys"]), ("has unexpected", unexpected)):
        if keys:
            raise EnvironmentProblem(f"{folder} {problem} weights: {', '.join(sorted(keys)[:5])}", FETCH)
    return model.eval().requires_grad_(False)


@contextmanager
def quiet() -> Iterator[None]:
    """Without progress bars and remarks of the loading libraries; what matters is checked and raised here."""
    from diffusers.utils import logging as diffusers_log
    from transformers.utils import logging as transformers_log

    logs = (diffusers_log, transformers_log)
    before = [(log, log.get_verbosity(), log.is_progress_bar_enabled()) for log in logs]
    for log in logs:
        log.set_verbosity_error()
        log.disable_progress_bar()
    try:
        yield
    finally:
        for log, verbosity, bars in before:
            log.set_verbosity(verbosity)
            if bars:
                log.enable_progress_bar()


def refuse_other_architectures(folder: Path, unet: Any, vae: Any, text_encoder: Any) -> None:
    """Raise UsageError where the parts do not make a plain text-conditioned latent diffusion model."""
    channels, expected = unet.config["in_channels"], vae.config["latent_channels"]
    width, text_width = unet.config["cross_attention_dim"], text_encoder.config.hidden_size
    for problem, found in (
        ("needs more than a text embedding (as SDXL)", unet.config["addition_embed_type"] is not None),
        (f"takes {channels} channels where the latents have {expected} (inpainting?)", channels != expected),
        (f"attends to text of width {width}, the encoder gives {text_width}", width != text_width),
    ):
        if found:
            raise UsageError(
                f"the UNet in {folder} {problem}", "use a text-to-image prior in SD 1 or 2 format"
            )


def latent_scale(vae: AutoencoderKL | AutoencoderTiny) -> int:
    """Pixels per latent along one side, from the autoencoder's configuration."""
    stages = vae.config.get("num_encoder_blocks") or vae.config["block_out_channels"]
    return 2 ** (len(stages) - 1)


def latent_normalisation(
    config: Mapping[str, Any], channels: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Shift and scale, [1, C, 1, 1] each, such that latents = (raw - shift) · scale.

    Diffusers' convention: (raw - latents_mean) · scaling_factor / latents_std where the configuration knows
    the moments of each channel, else (raw - shift_factor) · scaling_factor.
    """

    def per_channel(values: Any) -> Tensor:
        return torch.as_tensor(values, dtype=torch.float32, device=device).expand(channels)[
            None, :, None, None
        ]

    scale = per_channel(config.get("scaling_factor") or 1.0)
    if config.get("latents_mean") is not None:
        return per_channel(config["latents_mean"]), scale / per_channel(config["latents_std"])
    return per_channel(config.get("shift_factor") or 0.0), scale
