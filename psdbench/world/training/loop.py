"""The one training loop of the embedded models: AdamW, warm-up and cosine, moving average, resumable."""

from __future__ import annotations

import copy
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

Model = TypeVar("Model", bound=nn.Module)


@dataclass(frozen=True)
class Recipe:
    """How long and how fast one model is trained."""

    steps: int
    batch: int
    learning_rate: float
    weight_decay: float = 0.01
    warmup: int = 50
    ema: float = 0.0
    """decay of the moving average of the weights; 0 keeps the last weights"""
    checkpoint_every: int = 100

    def rate(self, step: int) -> float:
        """Learning rate at a step: linear warm-up, then a cosine to zero."""
        if step < self.warmup:
            return self.learning_rate * (step + 1) / self.warmup
        done = (step - self.warmup) / max(1, self.steps - self.warmup)
        return self.learning_rate * 0.5 * (1 + float(torch.cos(torch.tensor(done * torch.pi))))


def fit(
    name: str,
    model: Model,
    loss: Callable[[int, torch.Generator], Tensor],
    recipe: Recipe,
    work: Path,
    seed: int,
    device: str = "cpu",
) -> Model:
    """Minimise `loss(step, generator)` over the trainable parameters of `model`; return it (or its average).

    A checkpoint in `work` carries weights, optimizer, average and random state: the same call continues.
    """
    trainable = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        trainable, recipe.learning_rate, (0.9, 0.98), weight_decay=recipe.weight_decay
    )
    average = copy.deepcopy(model) if recipe.ema else model
    generator = torch.Generator().manual_seed(seed)
    path = work / f"{name}.checkpoint.pt"
    start, spent = _resume(path, model, average, optimizer, generator, device)
    began, running = time.perf_counter(), float("nan")
    for step in range(start, recipe.steps):
        for group in optimizer.param_groups:
            group["lr"] = recipe.rate(step)
        value = loss(step, generator)
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        torch.nn.utils.clip_grad_norm_(trainable, 1.0)
        optimizer.step()
        _update_average(average, model, min(recipe.ema, (step + 1) / (step + 10)))
        running = 0.98 * running + 0.02 * value.item() if running == running else value.item()
        last = step + 1 == recipe.steps
        if last or (step + 1) % recipe.checkpoint_every == 0:
            seconds = spent + time.perf_counter() - began
            _log(name, step + 1, recipe.steps, running, seconds)
            _save(path, model, average, optimizer, generator, step + 1, seconds)
    return average.eval().requires_grad_(False)


def _update_average(average: nn.Module, model: nn.Module, decay: float) -> None:
    if average is model:
        return
    with torch.no_grad():
        for slow, fast in zip(average.parameters(), model.parameters(), strict=True):
            slow.lerp_(fast, 1 - decay)


def _log(name: str, step: int, steps: int, loss: float, seconds: float) -> None:
    left = seconds / step * (steps - step)
    print(f"{name:12s} step {step:6d}/{steps}  loss {loss:.4f}  {seconds:6.0f} s  left {left:5.0f} s",
          file=sys.stderr, flush=True)  # fmt: skip


def _save(
    path: Path,
    model: nn.Module,
    average: nn.Module,
    optimizer: torch.optim.Optimizer,
    generator: torch.Generator,
    step: int,
    seconds: float,
) -> None:
    state = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "step": step,
        "seconds": seconds,
    }
    state["generator"] = generator.get_state()
    if average is not model:
        state["average"] = average.state_dict()
    temporary = path.with_suffix(".tmp")
    torch.save(state, temporary)
    os.replace(temporary, path)


def _resume(
    path: Path,
    model: nn.Module,
    average: nn.Module,
    optimizer: torch.optim.Optimizer,
    generator: torch.Generator,
    device: str,
) -> tuple[int, float]:
    if not path.exists():
        return 0, 0.0
    state = torch.load(path, map_location=device, weights_only=True)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    generator.set_state(state["generator"].cpu())
    if average is not model:
        average.load_state_dict(state["average"])
    return int(state["step"]), float(state["seconds"])
