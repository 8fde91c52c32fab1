"""The score of the renders, ε̂_ψ of VSD (arXiv 2305.16213): a LoRA and a camera condition on the prior's UNet.

Adapter and camera condition act only while this score is asked; at all other times the prior computes the
same bits as if they were not there. A prior that sees cameras itself keeps that condition below ours, and where a
camera is withheld, both are: so q is the prior at first, and its marginal over cameras knows none.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from psdbench.guidance.state import SideOptimizer

if TYPE_CHECKING:
    from psdbench.priors.diffusers import DiffusersPrior

TARGETS = ["to_q", "to_k", "to_v", "to_out.0"]
"""attention projections, as diffusers' former LoRAAttnProcessor adapted them"""


class LoraScore:
    """The prior's UNet with a LoRA (rank r, alpha = r) and a camera embedding added to the time embedding.

    Both start at zero effect: the LoRA's up matrices and the last layer of the camera network are zero, so
    that q = p at the first step. Trained in float32, whatever the prior's precision. At most one per prior.
    """

    def __init__(
        self, prior: DiffusersPrior, rank: int, learning_rate: float, generator: torch.Generator
    ) -> None:
        from peft import LoraConfig, LoraModel
        from peft.tuners.tuners_utils import BaseTunerLayer

        if any("lora_" in name for name, _ in prior.unet.named_parameters()):
            raise RuntimeError("the prior already carries a trainable score; close it first")
        self._prior = prior
        config = LoraConfig(r=rank, lora_alpha=rank, target_modules=TARGETS)
        # peft draws initial values from the global generator; ours come from the job's stream instead.
        with torch.random.fork_rng(devices=[]):
            self._adapter = LoraModel(prior.unet, {"q": config}, "q")
        lora = {name: p for name, p in prior.unet.named_parameters() if "lora_" in name}
        for name, parameter in lora.items():
            parameter.data = parameter.data.float()
            if "lora_A" in name:
                uniform(parameter, generator)
        self._camera = camera_network(prior.unet.time_embedding.linear_2.out_features, generator).to(
            prior.device
        )
        # peft's own switch goes through all modules of the UNet each time and takes twice as long.
        self._layers = [layer for layer in prior.unet.modules() if isinstance(layer, BaseTunerLayer)]
        self._switch(False)
        camera = {f"camera.{name}": p for name, p in self._camera.named_parameters()}
        self._optimizer = SideOptimizer(lora | camera, learning_rate)

    def _switch(self, on: bool) -> None:
        for layer in self._layers:
            layer.enable_adapters(on)

    @contextmanager
    def _active(self, condition: Tensor) -> Iterator[None]:
        def add_camera(module: nn.Module, inputs: tuple[Tensor, ...], embedding: Tensor) -> Tensor:
            return embedding + self._camera(condition).to(embedding.dtype)

        hook = self._prior.unet.time_embedding.register_forward_hook(add_camera)
        self._switch(True)
        try:
            yield
        finally:
            self._switch(False)
            hook.remove()

    def predict_noise(self, x_t: Tensor, t: Tensor, text: Tensor, condition: Tensor) -> Tensor:
        """ε̂_ψ(x_t; text, camera) without a graph; `condition` [B, 16], zeros for an unknown camera."""
        eps = []
        for x, time, words, seen in zip(*map(self._prior.pieces, (x_t, t, text, condition)), strict=True):
            with self._active(seen):
                eps.append(self._prior.noise_seen_from(x, time, words, seen))
        return torch.cat(eps)

    def update(self, latents: Tensor, t: Tensor, noise: Tensor, text: Tensor, condition: Tensor) -> Tensor:
        """One AdamW step on mean ‖ε̂_ψ(α x + σ ε) - ε‖²; returns the loss before it."""
        x_t = self._prior.add_noise(latents.detach(), noise, t)
        with self._active(
            condition
        ):  # peft freezes what is inactive, so the backward pass belongs inside too
            eps = self._prior.noise_seen_from(x_t, t, text, condition, grad=True)
            loss = nn.functional.mse_loss(eps, noise)
            self._optimizer.step(loss)
        return loss.detach()

    def state_dict(self) -> dict[str, Tensor]:
        """LoRA, camera network and AdamW moments."""
        return self._optimizer.state_dict()

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take over a stored state; raises CorruptResult when it does not fit."""
        self._optimizer.load_state_dict(state)

    def close(self) -> None:
        """Take the adapter out of the prior's UNet."""
        self._adapter.unload()
        self._prior.unet.requires_grad_(False)


def camera_network(width: int, generator: torch.Generator) -> nn.Module:
    """16 extrinsics → time embedding, with a last layer of zeros: no effect before the first update."""
    with torch.random.fork_rng(devices=[]):
        first, last = nn.Linear(16, width), nn.Linear(width, width)
    uniform(first.weight, generator)
    for zero in (first.bias, last.weight, last.bias):
        nn.init.zeros_(zero)
    return nn.Sequential(first, nn.SiLU(), last)


@torch.no_grad()
def uniform(weight: Tensor, generator: torch.Generator) -> None:
    """The usual initialisation of a linear layer, U(-1/√fan_in, 1/√fan_in), from a CPU generator."""
    weight.copy_((torch.rand(weight.shape, generator=generator) * 2 - 1) / weight.shape[1] ** 0.5)
