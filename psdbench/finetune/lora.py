"""The LoRA in training on a prior's UNet (peft); until its first update the prior computes the same bits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from psdbench.priors.lora import TARGETS, uniform

if TYPE_CHECKING:
    from psdbench.priors.diffusers import DiffusersPrior

NAME = "tuned"


class LoraAdapter:
    """Rank r, alpha = r, on the attention projections; trained in float32, whatever the prior's precision.

    `parameters` are named as diffusers stores them, ``….to_q.lora_A.weight``. The down matrices start uniform
    from a stream of the seed, the up matrices at zero.
    """

    def __init__(self, prior: DiffusersPrior, rank: int, generator: torch.Generator) -> None:
        from peft import LoraConfig, LoraModel

        config = LoraConfig(r=rank, lora_alpha=rank, target_modules=TARGETS)
        # peft draws initial values from the global generator; ours come from the given stream instead.
        with torch.random.fork_rng(devices=[]):
            self._model = LoraModel(prior.unet, {NAME: config}, NAME)
        self.parameters: dict[str, Tensor] = {
            name.replace(f".{NAME}.", "."): parameter
            for name, parameter in prior.unet.named_parameters()
            if "lora_" in name
        }
        for name, parameter in self.parameters.items():
            parameter.data = parameter.data.float()
            if "lora_A" in name:
                uniform(parameter, generator)

    @contextmanager
    def off(self) -> Iterator[None]:
        """Within the block the prior is the frozen reference."""
        self._model.disable_adapter_layers()
        try:
            yield
        finally:
            self._model.enable_adapter_layers()
