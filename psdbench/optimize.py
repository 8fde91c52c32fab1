"""The shared 3D optimizer: one loop for every method, representation and prior.

    camera → representation.render → prior.encode → method.gradient → Adam

A method only turns encoded renders into a gradient G on them; everything else is here, so two jobs that
differ in the method alone differ in nothing else. All random numbers come from named streams and a checkpoint
holds all state, so on a CPU an interrupted job ends with the same bits as one that ran through.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from psdbench import checkpoint, registry
from psdbench.cameras import Cameras, sample_cameras, with_view_words
from psdbench.config import JobSpec
from psdbench.counters import Counters
from psdbench.errors import CorruptResult, Diverged, Interrupted
from psdbench.guidance import Method, Setting, Step, TextEmbeddings
from psdbench.schedules import TimestepSchedule
from psdbench.stopwatch import Stopwatch
from psdbench.store import atomic
from psdbench.streams import Streams

if TYPE_CHECKING:
    from psdbench.priors import Prior
    from psdbench.representations import Representation
    from psdbench.scorers import Scorer

ASSET, TRACE = "asset.safetensors", "trace.csv"


class TraceRow(NamedTuple):
    """What one step leaves behind."""

    step: int
    loss: float
    """½‖G‖²/V, whose gradient is G, plus the weighted penalties"""
    gradient_rms: float
    """root mean square of G"""
    opacity: float
    """mean over the pixels"""
    timestep: int
    learning_rate: float
    """of the first parameter group"""


@dataclass(frozen=True)
class OptimizeResult:
    """A finished optimisation, with the names of its files in the job folder."""

    asset: Representation
    trace: list[TraceRow]
    counters: Counters
    seconds_by_part: dict[str, float]
    """by PARTS, summed over all processes that worked on the job"""
    files: tuple[str, ...] = (ASSET, TRACE)

    @property
    def seconds(self) -> float:
        """All parts together."""
        return sum(self.seconds_by_part.values())


def optimize(
    spec: JobSpec,
    prior: Prior,
    method: Method,
    reward: Scorer | None,
    folder: Path,
    on_step: Callable[[TraceRow], None] = lambda row: None,
    should_stop: Callable[[], int] = lambda: 0,
) -> OptimizeResult:
    """Optimise the asset of a job, from its newest checkpoint on where there is one.

    `should_stop` is asked between steps and answers with the number of the signal that wants an end, or 0.
    Raises Interrupted then, after a checkpoint, and Diverged when a number is not finite or the scene stays
    empty.
    """
    config = spec.protocol.optimize
    run = Optimisation.begin(spec, prior, method, reward)
    try:
        run.resume(folder)
        while run.index < config.steps:
            if signal_number := should_stop():
                run.save(folder)
                raise Interrupted(signal_number)
            on_step(run.step())
            if run.index % config.checkpoint_every == 0 or run.index == config.steps:
                run.save(folder)
        return run.finish(folder)
    except Diverged:
        run.write_trace(folder)
        raise
    finally:
        run.close()


@dataclass
class Optimisation:
    """A job while it is optimised: what it works with, and all state that a step changes."""

    spec: JobSpec
    prior: Prior
    method: Method
    reward: Scorer | None
    streams: Streams
    asset: Representation
    adam: torch.optim.Adam
    method_state: Any
    clock: Stopwatch
    trace: list[TraceRow] = field(default_factory=list)

    @classmethod
    def begin(cls, spec: JobSpec, prior: Prior, method: Method, reward: Scorer | None) -> Optimisation:
        """Everything as it is before the first step."""
        protocol, config, streams = spec.protocol, spec.protocol.optimize, Streams(spec.seed)
        clock = Stopwatch(prior.device)
        prior.counters = Counters()
        name, params = protocol.representation, protocol.representation_params
        asset = registry.make_representation(name, params, streams["init"]).to(prior.device)
        betas = (config.adam_beta1, config.adam_beta2)
        adam = torch.optim.Adam(asset.parameter_groups(config), betas=betas, fused=True)
        for group in adam.param_groups:
            group["initial_lr"] = group["lr"]
        text = TextEmbeddings.encode(prior, [spec.prompt], spec.prompt, protocol.negative_prompt)
        state = method.setup(Setting(prior, text, streams, config.steps))
        return cls(spec, prior, method, reward, streams, asset, adam, state, clock)

    @property
    def index(self) -> int:
        """The number of steps done."""
        return len(self.trace)

    def step(self) -> TraceRow:
        """One step of the shared optimizer."""
        config, lap = self.spec.protocol.optimize, self.clock.lap
        progress = self.index / max(config.steps - 1, 1)
        cameras = sample_cameras(self.streams["cameras"], config.views, self.spec.protocol.cameras)
        background = draw_backgrounds(self.streams["background"], config.views).to(self.prior.device)
        lap("rest")
        render = self.asset.render(cameras.to(self.prior.device), config.size, background)
        lap("render")
        latents = self.prior.encode(render.rgb)
        lap("encode")
        step = self._method_step(latents.detach(), cameras, progress)
        gradient = self.method.gradient(step).detach().float()
        rms = self._finite(gradient.square().mean().sqrt(), "the method's gradient")
        lap("method")
        penalty = sum(self.asset.regularisation(render, progress, config).values())
        self.adam.zero_grad()
        # The gradient of this product on the latents is G/V: the denoiser's Jacobian stays out.
        ((latents * gradient).sum() / config.views + penalty).backward()
        lap("backward")
        self._set_learning_rates(progress)
        self.adam.step()
        lap("adam")
        loss = self._finite(0.5 * gradient.square().sum() / config.views + penalty, "the loss")
        rate = self.adam.param_groups[0]["lr"]
        row = TraceRow(
            self.index, loss, rms, float(render.opacity.detach().mean()), int(step.timestep[0]), rate
        )
        self._guard(row)
        self.trace.append(row)
        lap("rest")
        return row

    def _set_learning_rates(self, progress: float) -> None:
        """Every group's rate by a cosine from its first value down: large steps find the shape, small ones clean it."""
        end = self.spec.protocol.optimize.learning_rate_end
        share = end + (1 - end) * (1 + math.cos(math.pi * progress)) / 2
        for group in self.adam.param_groups:
            group["lr"] = group["initial_lr"] * share

    def _method_step(self, latents: Tensor, cameras: Cameras, progress: float) -> Step:
        """What the method sees: one timestep for all views, and each view's words in its prompt."""
        protocol, config, prior = self.spec.protocol, self.spec.protocol.optimize, self.prior
        schedule = TimestepSchedule(config.timestep_min, config.timestep_max_start, config.timestep_max_end)
        t = schedule.sample(progress, self.streams["timesteps"], prior.num_timesteps)
        prompts = with_view_words(self.spec.prompt, cameras, protocol.cameras.named_azimuths)
        return Step(
            latents=latents,
            timestep=torch.full((config.views,), t, device=prior.device),
            schedule=schedule,
            cameras=cameras.to(prior.device),
            prompt=self.spec.prompt,
            prompts=prompts,
            text=TextEmbeddings.encode(prior, prompts, self.spec.prompt, protocol.negative_prompt),
            prior=prior,
            reward=self.reward,
            index=self.index,
            progress=progress,
            streams=self.streams,
            counters=prior.counters,
            state=self.method_state,
        )

    def _finite(self, value: Tensor, what: str) -> float:
        number = float(value.detach())
        if not math.isfinite(number):
            raise Diverged(self.index, f"{what} is not finite")
        return number

    def _guard(self, row: TraceRow) -> None:
        """Raise Diverged when the asset is not finite or the scene has been empty for too long."""
        self._finite(torch.stack([p.detach().sum() for p in self.asset.parameters()]).sum(), "the asset")
        config = self.spec.protocol.optimize
        last = [*self.trace, row][-config.empty_steps :]
        if len(last) == config.empty_steps and all(r.opacity < config.empty_opacity for r in last):
            raise Diverged(self.index, f"the scene has been empty for {config.empty_steps} steps")

    def save(self, folder: Path) -> None:
        """Write a checkpoint and the trace so far."""
        self.clock.lap("rest")
        tensors = {f"asset.{name}": tensor for name, tensor in self.asset.state_dict().items()}
        tensors |= {f"streams.{name}": state for name, state in self.streams.state_dict().items()}
        for name, parameter in self.asset.named_parameters():
            tensors |= {f"adam.{name}.{key}": value for key, value in self.adam.state[parameter].items()}
        if self.method_state is not None:
            tensors |= {f"method.{key}": value for key, value in self.method_state.state_dict().items()}
        tensors["trace"] = torch.tensor(self.trace, dtype=torch.float64).view(-1, len(TraceRow._fields))
        facts = {"counters": asdict(self.prior.counters), "seconds": self.clock.seconds}
        checkpoint.save(folder, self.spec.id, checkpoint.Checkpoint(self.index, tensors, facts))
        self.write_trace(folder)

    def resume(self, folder: Path) -> None:
        """Take over the newest sound checkpoint, if there is one."""
        stored = checkpoint.load_newest(folder, self.spec.id)
        if stored is None:
            return
        self.asset.load_state_dict(stored.part("asset"))
        self.streams.load_state_dict(stored.part("streams"))
        for name, parameter in self.asset.named_parameters():
            state = stored.part(f"adam.{name}")
            self.adam.state[parameter] = {key: value.to(parameter.device) for key, value in state.items()}
        if self.method_state is not None:
            self.method_state.load_state_dict(stored.part("method"))
        rows = (TraceRow(*row) for row in stored.tensors["trace"].tolist())
        self.trace = [row._replace(step=int(row.step), timestep=int(row.timestep)) for row in rows]
        self.prior.counters = Counters(**stored.facts["counters"])
        for part, seconds in stored.facts["seconds"].items():
            self.clock.seconds[part] += seconds

    def finish(self, folder: Path) -> OptimizeResult:
        """Write the asset."""
        name = {"representation": self.spec.protocol.representation}
        atomic.write_tensors(folder / ASSET, self.asset.state_dict(), name)
        self.clock.lap("rest")
        return OptimizeResult(self.asset, self.trace, self.prior.counters, self.clock.seconds)

    def write_trace(self, folder: Path) -> None:
        """Write the trace as CSV, floats in full precision."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerows([TraceRow._fields, *self.trace])
        atomic.write_text(folder / TRACE, text.getvalue())

    def close(self) -> None:
        """Give back what the method borrowed of the prior."""
        if self.method_state is not None:
            self.method_state.close()


def load_asset(spec: JobSpec, path: Path, device: torch.device | str = "cpu") -> Representation:
    """The asset of a finished optimisation from its `asset.safetensors`; CorruptResult if it does not fit."""
    protocol = spec.protocol
    first = Streams(spec.seed)["init"]
    asset = registry.make_representation(protocol.representation, protocol.representation_params, first)
    try:
        asset.load_state_dict(load_file(path))
    except (SafetensorError, RuntimeError, OSError) as error:
        raise CorruptResult(f"{path} is not this job's asset: {error}", "remove it and run again") from error
    return asset.to(device)


def draw_backgrounds(generator: torch.Generator, views: int) -> Tensor:
    """Solid background colours [V, 3]: white for half of the views, uniform over RGB for the others."""
    draws = torch.rand(views, 4, generator=generator)
    return torch.where(draws[:, :1] < 0.5, torch.ones(3), draws[:, 1:])
