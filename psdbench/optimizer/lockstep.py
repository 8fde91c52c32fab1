"""Several jobs in lockstep on one prior: each runs as it does alone until it asks a network, which serves all at once.

A job is a greenlet, a function that can be left in the middle and entered again; all of them run in one thread, one
at a time. Where a job denoises, encodes its renders or pulls a gradient back through the encoder, it waits; once
every job waits, one call serves those that ask for the same: denoising goes first, so that jobs which denoise more
often in a step catch up, and encoding last, which is where all steps begin. Nothing else is shared: random streams,
counters, checkpoints and failures are each job's own. A call on a larger batch rounds differently, so numbers are
those of the job alone to rounding, and the same again with the same company.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from greenlet import GreenletExit, getcurrent, greenlet
from torch import Tensor

from psdbench.cameras import Cameras
from psdbench.counters import Counters
from psdbench.errors import Interrupted
from psdbench.optimizer.memory_ladder import is_out_of_memory
from psdbench.priors import Prior, PullBack, TunableScore
from psdbench.streams import Streams

ORDER = ("denoise", "pull_back", "encode")


class OwnPriorNeeded(Exception):
    """A job wants to train the prior's score, which only one job at a time can."""


@dataclass(eq=False)
class Request:
    """What a job waits for."""

    seat: Seat
    work: str
    """one of ORDER"""
    inputs: tuple[Any, ...]
    company: Any
    """only requests of equal company are served together"""
    at: greenlet = field(default_factory=getcurrent)
    seconds: float = 0.0
    """this job's share of the time of the call"""


class Lockstep:
    """The jobs, and what they wait for."""

    def __init__(self) -> None:
        self.largest: int | None = None
        """requests that one call serves, once more of them have run out of memory"""
        self._waiting: list[Request] = []
        self._interrupted: Interrupted | None = None
        self._hub = getcurrent()

    def seat(self, prior: Prior) -> Prior:
        """The prior for one job."""
        return cast(Prior, Seat(prior, self))

    def run(self, jobs: Sequence[Callable[[], None]]) -> None:
        """Run all to their end. Interrupted is raised when all have left; any other error ends all jobs at once."""
        self._hub, inside = getcurrent(), [greenlet(job) for job in jobs]
        try:
            for job in inside:
                self._enter(job)
            while self._waiting:
                for request, answer in self._serve(self._next()):
                    self._enter(request.at, answer)
        finally:
            for job in inside:
                if not job.dead:
                    job.throw(GreenletExit)
        if self._interrupted:
            raise self._interrupted

    def ask(self, request: Request) -> Any:
        """Leave a job until its request is served; the answer. Raises what the network raised."""
        grad, left = torch.is_grad_enabled(), time.perf_counter()
        try:
            answer = self._hub.switch(request)
        finally:
            torch.set_grad_enabled(grad)
        request.seat.away += time.perf_counter() - left - request.seconds
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _enter(self, job: greenlet, *answer: Any) -> None:
        """Go on with a job until it waits again or ends."""
        torch.set_grad_enabled(True)
        try:
            request = job.switch(*answer)
        except Interrupted as stop:  # this one has written its checkpoint, the others are about to
            self._interrupted = stop
            return
        if not job.dead:
            self._waiting.append(request)

    def _next(self) -> list[Request]:
        """The requests to be served now, which wait no longer."""
        work = min((request.work for request in self._waiting), key=ORDER.index)
        first = next(request for request in self._waiting if request.work == work)
        group = [
            request for request in self._waiting if request.work == work and request.company == first.company
        ]
        if work != "pull_back":
            group = group[: self.largest]
        self._waiting = [request for request in self._waiting if request not in group]
        return group

    def _serve(self, group: list[Request]) -> Iterator[tuple[Request, Any]]:
        """The answer to each request, or the error; with half of them at a time where memory does not do for all."""
        start = time.perf_counter()
        engine = group[0].seat.engine
        engine.save_memory(*max(request.seat.thrift for request in group))
        try:
            answers: Sequence[Any] = SERVE[group[0].work](engine, [request.inputs for request in group])
        except Exception as error:
            if is_out_of_memory(error) and len(group) > 1 and group[0].work != "pull_back":
                self.largest = len(group) // 2
                yield from self._serve(group[: self.largest])
                yield from self._serve(group[self.largest :])
                return
            answers = [error] * len(group)
        for request in group:
            request.seconds = (time.perf_counter() - start) / len(group)
        yield from zip(group, answers, strict=True)


class Seat:
    """The prior as one of several jobs has it. All that is not said here is the prior's own."""

    def __init__(self, prior: Prior, lockstep: Lockstep) -> None:
        self._own, self._lockstep = copy.copy(prior), lockstep
        self._own.counters = Counters()
        self.engine = copy.copy(prior)
        """what denoises for all; its counters are nobody's"""
        self.engine.counters = Counters()
        self.network = id(prior)
        self.thrift = (0, False)
        self.away = 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._own, name)

    @property
    def counters(self) -> Counters:
        """Of this job alone."""
        return self._own.counters

    @counters.setter
    def counters(self, value: Counters) -> None:
        self._own.counters = value

    def predict_noise(
        self, x_t: Tensor, t: Tensor, text: Tensor, cameras: Cameras | None = None, *, grad: bool = False
    ) -> Tensor:
        """As in the contract; with a graph for this job alone."""
        if grad:
            return self._own.predict_noise(x_t, t, text, cameras, grad=True)
        self.counters.add("denoiser_forwards", len(x_t))
        company = (self.network, x_t.shape[1:], text.shape[1:], cameras is None)
        return cast(Tensor, self._ask("denoise", (x_t, t, text, cameras), company))

    def encode_for_gradient(self, images: Tensor) -> tuple[Tensor, PullBack]:
        """As in the contract."""
        self.counters.add("encodes", len(images))
        latents, batch, place = self._ask("encode", (images.detach(),), (self.network, images.shape))
        return latents, lambda gradient: self._ask("pull_back", (batch, place, gradient), id(batch))

    def save_memory(self, at_once: int = 0, recompute: bool = False) -> None:
        """As in the contract; what is done together is done as the thriftiest of the jobs needs it."""
        self.thrift = (at_once, recompute)
        self._own.save_memory(at_once, recompute)

    def tunable_score(self, rank: int, learning_rate: float, streams: Streams) -> TunableScore:
        """Never given here: OwnPriorNeeded says that the job has to run alone."""
        raise OwnPriorNeeded

    def _ask(self, work: str, inputs: tuple[Any, ...], company: Any) -> Any:
        return self._lockstep.ask(Request(self, work, inputs, company))


@dataclass(eq=False)
class Encoded:
    """Renders of several jobs that went through the encoder together, until their gradients have come back."""

    pull_back: PullBack
    shape: torch.Size
    """of one job's latents"""
    jobs: int


def _denoise(
    engine: Prior, inputs: Sequence[tuple[Tensor, Tensor, Tensor, Cameras | None]]
) -> Sequence[Tensor]:
    x_t, t, text = (torch.cat(column) for column in list(zip(*inputs, strict=True))[:3])
    cameras = [each[3] for each in inputs]
    together = None if cameras[0] is None else Cameras.join(cast(list[Cameras], cameras))
    return engine.predict_noise(x_t, t, text, together).split([len(each[0]) for each in inputs])


def _encode(engine: Prior, inputs: Sequence[tuple[Tensor]]) -> list[tuple[Tensor, Encoded, int]]:
    # One render fills the cache of a core: on a CPU several at once were measured to take longer than in turn.
    calls = [[images] for (images,) in inputs] if engine.device.type == "cpu" else [[i for (i,) in inputs]]
    answers = []
    for call in calls:
        latents, pull_back = engine.encode_for_gradient(torch.cat(call))
        parts = latents.chunk(len(call))
        batch = Encoded(pull_back, parts[0].shape, len(call))
        answers += [(part, batch, place) for place, part in enumerate(parts)]
    return answers


def _pull_back(engine: Prior, inputs: Sequence[tuple[Encoded, int, Tensor]]) -> list[Tensor]:
    batch, some = inputs[0][0], inputs[0][2]
    gradients = [some.new_zeros(batch.shape) for _ in range(batch.jobs)]  # of a job that has ended, none
    for _, place, gradient in inputs:
        gradients[place] = gradient
    pulled = batch.pull_back(torch.cat(gradients)).chunk(batch.jobs)
    return [pulled[place] for _, place, _ in inputs]


SERVE: dict[str, Callable[[Prior, Sequence[Any]], Sequence[Any]]] = {
    "denoise": _denoise,
    "pull_back": _pull_back,
    "encode": _encode,
}
