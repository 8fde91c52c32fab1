"""What methods remember and train beside the asset; all of it goes into checkpoints as flat tensors."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from psdbench.errors import CorruptResult
from psdbench.streams import randn

if TYPE_CHECKING:
    from psdbench.guidance import Pool, Step
    from psdbench.priors import TunableScore


class State(ABC):
    """What a method remembers from step to step; with it a resumed job continues bit by bit."""

    @abstractmethod
    def state_dict(self) -> dict[str, Tensor]:
        """Everything the coming steps depend on, as flat tensors: copies of what a step changes in place."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take over a stored state."""

    def close(self) -> None:
        """Give back what was borrowed of the prior; called once, also after a failure."""
        return  # most states borrow nothing


class States(State):
    """Several states under one roof, by name: ``States(gap=RunningMean())["gap"]``."""

    def __init__(self, **parts: State) -> None:
        self._parts = parts

    def __getitem__(self, name: str) -> Any:
        return self._parts[name]

    def get(self, name: str) -> Any:
        """The state of that name, or None."""
        return self._parts.get(name)

    def state_dict(self) -> dict[str, Tensor]:
        return {
            f"{name}.{key}": v for name, part in self._parts.items() for key, v in part.state_dict().items()
        }

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        for name, part in self._parts.items():
            prefix = f"{name}."
            part.load_state_dict(
                {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
            )

    def close(self) -> None:
        for part in self._parts.values():
            part.close()


class SideOptimizer(State):
    """AdamW over named leaf tensors; its state, moments included, is flat."""

    def __init__(
        self,
        parameters: Mapping[str, Tensor],
        learning_rate: float,
        *,
        weight_decay: float = 0.01,
        max_norm: float = 1.0,
    ) -> None:
        self.parameters = parameters
        self.max_norm = max_norm
        self._adam = torch.optim.AdamW(parameters.values(), lr=learning_rate, weight_decay=weight_decay)

    def step(self, loss: Tensor) -> None:
        """Descend on a loss; its gradient reaches these tensors and nothing else."""
        leaves = list(self.parameters.values())
        for leaf, gradient in zip(leaves, torch.autograd.grad(loss, leaves), strict=True):
            leaf.grad = gradient
        torch.nn.utils.clip_grad_norm_(leaves, self.max_norm)
        self._adam.step()
        self._adam.zero_grad()

    def state_dict(self) -> dict[str, Tensor]:
        """The tensors by name, and their moments as ``name/exp_avg`` and so on."""
        state = {name: leaf.detach().clone() for name, leaf in self.parameters.items()}
        for name, leaf in self.parameters.items():
            state |= {f"{name}/{key}": value.clone() for key, value in self._adam.state.get(leaf, {}).items()}
        return state

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Copy in place; raises CorruptResult when names or shapes differ."""
        for name, leaf in self.parameters.items():
            if name not in state or state[name].shape != leaf.shape:
                raise CorruptResult(f"stored method state does not fit at '{name}'", "start the job anew")
            leaf.copy_(state[name])
            prefix = f"{name}/"
            moments = {k.removeprefix(prefix): v.clone() for k, v in state.items() if k.startswith(prefix)}
            # AdamW keeps its step count on the CPU and its moments beside the parameter.
            self._adam.state[leaf] = {k: v if k == "step" else v.to(leaf.device) for k, v in moments.items()}


class RunningMean(State):
    """Exponential moving average with bias correction: after the first value it is that value."""

    def __init__(self, decay: float = 0.9) -> None:
        self.decay = decay
        self._sum = torch.zeros(())
        self._mass = torch.zeros(())

    def update(self, value: Tensor) -> Tensor:
        """Take in a scalar and return the mean so far, the value included."""
        self._sum = self.decay * self._sum.to(value.device) + (1 - self.decay) * value.detach()
        self._mass = self.decay * self._mass.to(value.device) + (1 - self.decay)
        return self._sum / self._mass

    def state_dict(self) -> dict[str, Tensor]:
        return {"sum": self._sum, "mass": self._mass}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self._sum, self._mass = state["sum"].clone(), state["mass"].clone()


class RenderScore(State):
    """VSD's ε̂_ψ: the score of the noised renders, learned while they change (arXiv 2305.16213).

    It sees the prompt without view words and the camera instead; a camera is withheld with probability
    `camera_dropout` in training, as ProlificDreamer does.
    """

    def __init__(self, score: TunableScore, camera_dropout: float = 0.1) -> None:
        self.score = score
        self.camera_dropout = camera_dropout

    def predict_noise(self, step: Step, pool: Pool, camera_guidance: float = 1.0) -> Tensor:
        """ε̂_ψ(x_t; prompt, camera) of every noise and view, [K, V, C, h, w], without a graph.

        `camera_guidance` g is ESD's guidance over the camera, ε̂_ψ(∅) + g (ε̂_ψ(camera) - ε̂_ψ(∅)) in one call;
        at 0 and 1 the branch without weight is not computed.
        """
        k, v = pool.timesteps.shape
        seen = step.cameras.extrinsics()
        unseen = torch.zeros_like(seen)
        branches = {0.0: [unseen], 1.0: [seen]}.get(camera_guidance, [unseen, seen])
        n = len(branches)
        eps = self.score.predict_noise(
            pool.x_t.flatten(0, 1).repeat(n, 1, 1, 1),
            pool.timesteps.flatten().repeat(n),
            step.text.plain.repeat(n * k, 1, 1),
            torch.cat([camera.repeat(k, 1) for camera in branches]),
        ).unflatten(0, (n, k, v))
        return eps[0] + camera_guidance * (eps[1] - eps[0]) if n == 2 else eps[0]

    def fit(self, step: Step) -> Tensor:
        """One training step on ‖ε̂_ψ(α x + σ ε) - ε‖², t uniform over the diffusion; returns the loss."""
        together, generator, device = step.prior.views, step.streams["method"], step.latents.device
        sets = (
            len(step.latents) // together
        )  # views that the prior sees together have one t, and all cameras or none
        t = torch.randint(step.prior.num_timesteps, (sets,), generator=generator).to(device)
        noise = randn(step.latents.shape, generator, device)
        keep = (torch.rand(sets, 1, generator=generator) >= self.camera_dropout).to(device)
        t, keep = t.repeat_interleave(together), keep.repeat_interleave(together, 0)
        return self.score.update(step.latents, t, noise, step.text.plain, step.cameras.extrinsics() * keep)

    def state_dict(self) -> dict[str, Tensor]:
        return self.score.state_dict()

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.score.load_state_dict(state)

    def close(self) -> None:
        self.score.close()
