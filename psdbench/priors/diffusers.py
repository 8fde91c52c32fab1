"""Diffusion priors from folders in Stable Diffusion's layout, by the classes of diffusers and transformers.

The folder holds `unet`, `vae`, `text_encoder`, `tokenizer` and `scheduler` (`psdbench.priors.folder`). Without a
`vae` the prior denoises pixels (DeepFloyd IF's first stage), and its latents are the image in [-1, 1].
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor

from psdbench.counters import Counters
from psdbench.priors.diffusion import LatentPrior, noise_schedule, prediction_type
from psdbench.priors.finetuned import fuse
from psdbench.priors.folder import inspect, read_config, read_json
from psdbench.priors.loading import load_text_encoder, load_unet, load_vae
from psdbench.store.digest import model_files, sha256_file
from psdbench.streams import Streams

if TYPE_CHECKING:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    from psdbench.cameras import Cameras
    from psdbench.priors import TunableScore

LOG = logging.getLogger(__name__)


class DiffusersPrior(LatentPrior):
    """Stable Diffusion, or any text-to-image diffusion model in its layout, as a frozen prior."""

    def __init__(
        self,
        *,
        unet: UNet2DConditionModel,
        vae: AutoencoderKL | AutoencoderTiny | None,
        vae_config: Mapping[str, Any],
        text_encoder: Any,
        tokenizer: Any,
        scheduler: dict[str, Any],
        folder: Path,
        lora: Path | None = None,
    ) -> None:
        super().__init__(*(level.to(unet.device) for level in noise_schedule(scheduler)))
        self.prediction = prediction_type(scheduler)
        self.name, self.folder, self.lora = folder.name, folder, lora
        self.unet, self.vae, self.text_encoder, self.tokenizer = unet, vae, text_encoder, tokenizer
        self.device, self.dtype = unet.device, unet.dtype
        self.latent_channels: int = unet.config["in_channels"]
        self.latent_scale: int = latent_scale(vae) if vae else 1
        self._shift, self._scale = latent_normalisation(vae_config, self.latent_channels, self.device)
        self.counters = Counters()
        self._embeddings: dict[str, Tensor] = {}
        self._at_once = 0

    @classmethod
    def load(
        cls,
        folder: Path,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        lora: Path | None = None,
    ) -> Self:
        """Read a folder, and fuse the LoRA of a finetuning into its UNet.

        Raises EnvironmentProblem naming what is missing, unexpected, not safetensors, or no prior at all.
        """
        folder = Path(folder)
        pixels = inspect(folder).kind == "pixel"
        unet, vae = load_unet(folder, dtype), None if pixels else load_vae(folder, dtype)
        text_encoder, tokenizer = load_text_encoder(folder, dtype)
        # Channels-last convolutions are what oneDNN and cuDNN run fastest; the arithmetic is the same.
        for model in (unet, text_encoder, *([vae] if vae else [])):
            model.to(device=device, memory_format=torch.channels_last)
        if lora is not None:
            fuse(unet, lora)
        return cls(
            folder=folder,
            lora=lora,
            unet=unet,
            vae=vae,
            # The class fills in what the file leaves out; the file knows moments that a class may not.
            vae_config={**vae.config, **read_config(folder, "vae")} if vae else {},
            text_encoder=text_encoder,
            tokenizer=tokenizer,
            scheduler=read_json(folder / "scheduler" / "scheduler_config.json"),
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
                    max_length=self.text_length,
                    return_tensors="pt",
                ).to(self.device)
                self._warn_if_cut(prompt)
                # One prompt at a time: a batch of another size could round differently. CLIP attends to its
                # padding, as Stable Diffusion was trained; T5 does not, as DeepFloyd IF was.
                seen = {"attention_mask": tokens.attention_mask} if self._masks_padding else {}
                hidden = self.text_encoder(tokens.input_ids, **seen)[0]
                self._embeddings[prompt] = hidden.float()
        return torch.cat([self._embeddings[prompt] for prompt in prompts])

    @property
    def _masks_padding(self) -> bool:
        return bool(self.text_encoder.config.model_type == "t5")

    @property
    def text_length(self) -> int:
        """Tokens of an embedding: the tokenizer's own, 77 for a T5 without a limit (as DeepFloyd IF)."""
        return min(int(self.tokenizer.model_max_length), 77 if self._masks_padding else 10_000)

    def _warn_if_cut(self, prompt: str) -> None:
        length, limit = len(self.tokenizer(prompt).input_ids), self.text_length
        if length > limit:
            LOG.warning(
                "prompt of %d tokens is cut to %d, view words at its end included: %s", length, limit, prompt
            )

    def encode(self, images: Tensor) -> Tensor:
        """Images to latents; of a KL autoencoder's distribution the mode, so that no stream draws for it."""
        self.counters.add("encodes", len(images))
        if self.vae is None:
            return images * 2 - 1
        encoded = self.vae.encode((images * 2 - 1).to(self.dtype))
        raw = encoded.latent_dist.mode() if hasattr(encoded, "latent_dist") else encoded.latents
        return (raw.float() - self._shift) * self._scale

    def decode(self, latents: Tensor) -> Tensor:
        """Latents to images in [0, 1]."""
        self.counters.add("decodes", len(latents))
        if self.vae is None:
            return (latents / 2 + 0.5).clamp(0, 1)
        raw = (latents / self._scale + self._shift).to(self.dtype)
        images = torch.cat([self.vae.decode(some).sample for some in self.pieces(raw)])
        return (images.float() / 2 + 0.5).clamp(0, 1)

    def predict_noise(
        self, x_t: Tensor, t: Tensor, text: Tensor, cameras: Cameras | None = None, *, grad: bool = False
    ) -> Tensor:
        """ε̂(x_t; text), float32. Without a camera condition, views differ by their text."""
        poses = cameras.extrinsics() if cameras is not None and self.views > 1 else None
        return self.noise_seen_from(x_t, t, text, poses, grad=grad)

    def noise_seen_from(
        self, x_t: Tensor, t: Tensor, text: Tensor, poses: Tensor | None, *, grad: bool = False
    ) -> Tensor:
        """ε̂ of `predict_noise`, the cameras as poses [B, 16] (`Cameras.extrinsics`), of zeros where unknown."""
        self.counters.add("denoiser_forwards", len(x_t))
        with torch.set_grad_enabled(grad):
            output = self._denoise_pieces(x_t.to(self.dtype), t, text.to(self.dtype), poses, grad).float()
            # DeepFloyd IF predicts a variance too, in further channels.
            eps = self.epsilon(self.prediction, output[:, : x_t.shape[1]], x_t, t)
        if eps.requires_grad:
            eps.register_hook(lambda _: self.counters.add("denoiser_backwards", len(x_t)))
        return eps

    def pieces(self, batch: Tensor) -> tuple[Tensor, ...]:
        """A batch in parts of as many images as `save_memory` allows."""
        return batch.split(self._at_once or len(batch))

    def save_memory(self, at_once: int = 0, recompute: bool = False) -> None:
        """As in the contract; activations of a tiny autoencoder, which are few, are kept in any case."""
        self._at_once = at_once
        for model in (self.unet, self.vae):
            # diffusers' own switch feeds the encoder of an AutoencoderTiny images of the wrong range.
            if model is not None and type(model).__name__ != "AutoencoderTiny":
                model.enable_gradient_checkpointing() if recompute else model.disable_gradient_checkpointing()

    def _denoise_pieces(
        self, x_t: Tensor, t: Tensor, text: Tensor, poses: Tensor | None, grad: bool
    ) -> Tensor:
        """`_denoise` of as many images at a time as wished; a graph holds all activations in any case."""
        if grad or not 0 < self._at_once < len(x_t):
            return self._denoise(x_t, t, text, poses)
        seen = [None] * len(x_t) if poses is None else self.pieces(poses)
        columns = map(self.pieces, (x_t, t, text))
        return torch.cat([self._denoise(*each) for each in zip(*columns, seen, strict=False)])

    def _denoise(self, x_t: Tensor, t: Tensor, text: Tensor, poses: Tensor | None) -> Tensor:
        """The UNet's output."""
        return self.unet(x_t, self.network_time(t), text).sample

    def network_time(self, t: Tensor) -> Tensor:
        """What the network is told of the time: t, or a flow's σ as a share of T."""
        return self.sigmas[t] * self.num_timesteps if self.prediction == "flow" else t

    def tunable_score(self, rank: int, learning_rate: float, streams: Streams) -> TunableScore:
        """The prior's UNet with a LoRA and a camera condition; one at a time."""
        from psdbench.priors.lora import LoraScore

        return LoraScore(self, rank, learning_rate, streams["lora"])


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
