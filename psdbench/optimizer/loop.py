"""The shared 3D optimizer: one loop for every method, representation and prior.

    camera → representation.render → prior.encode → method.gradient → Adam

A method only turns encoded renders into a gradient G on them; everything else is here, so two jobs that
differ in the method alone differ in nothing else. Where a job has several assets, a step moves one of them
(`psdbench.optimizer.particles`). All random numbers come from named streams and a checkpoint holds all state, so on a
CPU an interrupted job ends with the same bits as one that ran through.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from psdbench.budget import PATIENCE, Budget
from psdbench.cameras import Cameras, sample_cameras, with_view_words
from psdbench.config import JobSpec
from psdbench.counters import Counters
from psdbench.errors import Diverged, Interrupted, UsageError
from psdbench.guidance import Method, Setting, Step
from psdbench.guidance.conditions import TextEmbeddings, other_views
from psdbench.optimizer import checkpoint
from psdbench.optimizer.gradient_scale import scale_gradient
from psdbench.optimizer.memory_ladder import Ladder, Pull
from psdbench.optimizer.particles import Particle, next_particle
from psdbench.optimizer.snapshots import Snapshots
from psdbench.optimizer.stopwatch import Stopwatch
from psdbench.optimizer.trace import TRACE, TraceRow, from_tensor, to_tensor, write_trace
from psdbench.schedules import TimestepSchedule
from psdbench.store import atomic
from psdbench.streams import Streams

if TYPE_CHECKING:
    from psdbench.priors import Prior
    from psdbench.representations import Representation
    from psdbench.scorers import Scorer


@dataclass(frozen=True)
class OptimizeResult:
    """A finished optimisation, with the names of its files in the job folder."""

    assets: tuple[Representation, ...]
    """of all particles, by number"""
    trace: list[TraceRow]
    counters: Counters
    seconds_by_part: dict[str, float]
    """by PARTS, summed over all processes that worked on the job"""
    ladder: Ladder
    files: tuple[str, ...]

    @property
    def asset(self) -> Representation:
        """That of particle 0, which stands for the job."""
        return self.assets[0]

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
    snapshots: Snapshots | None = None,
    note: Callable[[str], None] = lambda text: None,
) -> OptimizeResult:
    """Optimise the assets of a job, from its newest checkpoint on where there is one, with `snapshots` on its way.

    `should_stop` is asked between steps and answers with the number of the signal that wants an end, or 0; `note`
    is told where the job needs less memory from some step on (`psdbench.optimizer.memory_ladder`).
    Raises Interrupted then, after a checkpoint, and Diverged when a number is not finite or a scene stays empty,
    be it of one particle among many.
    """
    config = spec.protocol.optimize
    run, shots = Optimisation.begin(spec, prior, method, reward), snapshots or Snapshots(folder)
    run.ladder.note = note
    try:
        run.resume(folder)
        shots.begin(run)
        while not run.at_end:
            if signal_number := should_stop():
                run.save(folder)
                raise Interrupted(signal_number)
            on_step(run.step())
            shots.take(run)
            if run.index % config.checkpoint_every == 0 or run.at_end:
                run.save(folder)
        return run.finish(folder, shots.files)
    except Diverged:
        write_trace(folder, run.trace)
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
    particles: tuple[Particle, ...]
    method_state: Any
    clock: Stopwatch
    budget: Budget
    ladder: Ladder
    trace: list[TraceRow] = field(default_factory=list)

    @classmethod
    def begin(cls, spec: JobSpec, prior: Prior, method: Method, reward: Scorer | None) -> Optimisation:
        """Everything as it is before the first step."""
        protocol, config, streams = spec.protocol, spec.protocol.optimize, Streams(spec.seed)
        clock = Stopwatch(prior.device, lambda: prior.away)
        prior.counters = Counters()
        draw = partial(Particle.draw, protocol=protocol, generator=streams["init"], device=prior.device)
        particles = tuple(draw(number) for number in range(config.particles))
        text = TextEmbeddings.encode(prior, [spec.prompt], spec.prompt, protocol.negative_prompt)
        budget = Budget.of(config)
        steps = config.steps if budget.unit == "steps" else None
        state = method.setup(Setting(prior, text, streams, steps))
        ladder = Ladder(config.memory_rung)
        return cls(spec, prior, method, reward, streams, particles, state, clock, budget, ladder)

    @property
    def index(self) -> int:
        """The number of steps done."""
        return len(self.trace)

    @property
    def spent(self) -> float:
        """What of the job's length is used up, in its unit."""
        forwards, seconds = self.prior.counters.denoiser_forwards, sum(self.clock.seconds.values())
        return {"steps": self.index, "nfe": forwards, "seconds": seconds}[self.budget.unit]

    @property
    def at_end(self) -> bool:
        """Whether the length of the job is reached; every particle has at least one step."""
        return self.index >= len(self.particles) and self.spent >= self.budget.amount

    def step(self) -> TraceRow:
        """One step of the shared optimizer."""
        config, lap = self.spec.protocol.optimize, self.clock.lap
        progress = self.budget.progress(self.spent, self.index)
        pull = self.ladder.climb(self, partial(self._pull, progress))
        particle = pull.particle
        particle.set_learning_rates(progress, config.learning_rate_end)
        particle.adam.step()
        particle.asset.end_step(particle.adam, progress, self.streams)
        lap("adam")
        loss = self._finite(pull.loss, "the loss")
        forwards, rate = self.prior.counters.denoiser_forwards, particle.learning_rate
        about = (pull.opacity, pull.timestep, rate, progress, forwards, particle.number)
        row = TraceRow(self.index, loss, pull.rms, *about)
        self._guard(row)
        self.trace.append(row)
        lap("rest")
        return row

    def _pull(self, progress: float) -> Pull:
        """The part of a step before the asset moves: gradients on the parameters of the particle whose turn it is."""
        config, lap = self.spec.protocol.optimize, self.clock.lap
        particle = next_particle(self.particles, [row.particle for row in self.trace], self.streams)
        poses = self.spec.protocol.cameras
        cameras = sample_cameras(self.streams["cameras"], config.views, poses, self.prior.views)
        background = draw_backgrounds(self.streams["background"], config.views).to(self.prior.device)
        lap("rest")
        views = self.ladder.views(particle, self.prior, cameras, background, progress, config)
        step = self._method_step(views.encode(lap), cameras, progress)
        gradient = self.method.gradient(step).detach().float()
        rms = self._finite(gradient.square().mean().sqrt(), "the method's gradient")
        gradient = scale_gradient(gradient, rms, config)
        lap("method")
        particle.adam.zero_grad()
        penalty = views.pull(gradient)
        lap("backward")
        loss = 0.5 * gradient.square().sum() / config.views + penalty
        return Pull(particle, loss, rms, views.opacity, int(step.timestep[0]))

    def _method_step(self, latents: Tensor, cameras: Cameras, progress: float) -> Step:
        """What the method sees: one timestep for all views, and each view's words in its prompt."""
        protocol, config, prior = self.spec.protocol, self.spec.protocol.optimize, self.prior
        schedule = TimestepSchedule.of(config)
        t = schedule.sample(progress, self.streams["timesteps"], prior.num_timesteps)
        prompts = with_view_words(self.spec.prompt, cameras, protocol.cameras.named_azimuths)
        cameras = cameras.to(prior.device)
        text = TextEmbeddings.encode(prior, prompts, self.spec.prompt, protocol.negative_prompt)
        if config.perp_neg:
            text = replace(text, others=other_views(prior, self.spec.prompt, cameras, config.perp_neg))
        return Step(
            latents=latents,
            timestep=torch.full((config.views,), t, device=prior.device),
            schedule=schedule,
            cameras=cameras,
            prompt=self.spec.prompt,
            prompts=prompts,
            text=text,
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
        """Raise Diverged when the asset is not finite or the scene has been empty for too many of its steps.

        Raises UsageError when a budget of denoiser forwards is not being spent: the job would never end.
        """
        config, asset = self.spec.protocol.optimize, self.particles[row.particle].asset
        whose = f" of particle {row.particle}" if len(self.particles) > 1 else ""
        self._finite(torch.stack([p.detach().sum() for p in asset.parameters()]).sum(), f"the asset{whose}")
        recent = [*self.trace[-config.empty_steps * len(self.particles) :], row]
        last = [r for r in recent if r.particle == row.particle][-config.empty_steps :]
        if len(last) == config.empty_steps and all(r.opacity < config.empty_opacity for r in last):
            raise Diverged(self.index, f"the scene{whose} has been empty for {config.empty_steps} steps")
        before = self.trace[-PATIENCE].denoiser_forwards if self.index >= PATIENCE else -1
        if config.nfe is not None and row.denoiser_forwards == before:
            raise UsageError(
                f"no denoiser forward in {PATIENCE} steps: a budget of {config.nfe} is never spent",
                "compare this method by --budget seconds=S or by --steps",
            )

    def save(self, folder: Path) -> None:
        """Write a checkpoint and the trace so far."""
        self.clock.lap("rest")
        tensors = {f"streams.{name}": state for name, state in self.streams.state_dict().items()}
        for particle in self.particles:
            tensors |= particle.tensors()
        if self.method_state is not None:
            tensors |= {f"method.{key}": value for key, value in self.method_state.state_dict().items()}
        tensors["trace"] = to_tensor(self.trace)
        facts = {
            "counters": asdict(self.prior.counters),
            "seconds": self.clock.seconds,
            **self.ladder.facts(),
        }
        checkpoint.save(folder, self.spec.id, checkpoint.Checkpoint(self.index, tensors, facts))
        write_trace(folder, self.trace)

    def resume(self, folder: Path) -> None:
        """Take over the newest sound checkpoint, if there is one."""
        stored = checkpoint.load_newest(folder, self.spec.id)
        if stored is None:
            return
        self.streams.load_state_dict(stored.part("streams"))
        for particle in self.particles:
            particle.resume(stored)
        if self.method_state is not None:
            self.method_state.load_state_dict(stored.part("method"))
        self.trace = from_tensor(stored.tensors["trace"])
        self.prior.counters = Counters(**stored.facts["counters"])
        self.ladder.resume(stored.facts)
        for part, seconds in stored.facts["seconds"].items():
            self.clock.seconds[part] += seconds

    def finish(self, folder: Path, more: Sequence[str] = ()) -> OptimizeResult:
        """Write the assets, and the trace once more; `more` files belong to the result.

        The trace in the folder is older where a process died right after its last checkpoint.
        """
        write_trace(folder, self.trace)
        name = {"representation": self.spec.protocol.representation}
        for particle in self.particles:
            atomic.write_tensors(folder / particle.file, particle.asset.state_dict(), name)
        self.clock.lap("rest")
        assets, files = zip(*((particle.asset, particle.file) for particle in self.particles), strict=True)
        seconds, names = self.clock.seconds, (*files, *more, TRACE)
        return OptimizeResult(assets, self.trace, self.prior.counters, seconds, self.ladder, names)

    def close(self) -> None:
        """Give back what the method borrowed of the prior, and leave it as fast as it was."""
        self.prior.save_memory()
        if self.method_state is not None:
            self.method_state.close()


def draw_backgrounds(generator: torch.Generator, views: int) -> Tensor:
    """Solid background colours [V, 3]: white for half of the views, uniform over RGB for the others."""
    draws = torch.rand(views, 4, generator=generator)
    return torch.where(draws[:, :1] < 0.5, torch.ones(3), draws[:, 1:])
