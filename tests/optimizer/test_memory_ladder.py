"""A step that runs out of memory: the same numbers with less of it, nothing changed by what failed, all of it told."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from jobs import make_task
from test_loop import Killed, Redness, assert_same_bits, kill_after, make_spec, run
from torch import Tensor

from psdbench import registry
from psdbench.config import JobSpec, OptimizeConfig, PriorRef, Protocol
from psdbench.errors import OutOfMemory
from psdbench.job import Event, Models, Watch, execute
from psdbench.optimizer.loop import Optimisation
from psdbench.optimizer.memory_ladder import is_out_of_memory
from psdbench.priors.diffusers import DiffusersPrior
from psdbench.priors.mvdream import MVDreamPrior
from psdbench.store.log import LOG

VIEWS = 4
REPRESENTATIONS = {
    "voxels": {"resolution": 12},
    "hashgrid": {"samples": 24},
    "gaussians": {"count": 200, "densify_every": 1},
}


def begin(prior: Any, rung: int, representation: str, method: str, **params: Any) -> Optimisation:
    views = 2 * prior.views if prior.views > 1 else VIEWS
    config = OptimizeConfig(steps=2, size=64, views=views, memory_rung=rung, depth_variance_weight=0.01)
    about = {"representation": representation, "representation_params": REPRESENTATIONS[representation]}
    protocol = Protocol(PriorRef("tiny", "0" * 64), optimize=config, **about)
    spec = JobSpec("a red cube", method, params, 0, protocol)
    return Optimisation.begin(spec, prior, registry.method_class(method)(**params), Redness())


def two_steps(*about: Any, **params: Any) -> tuple[list[Any], Tensor, dict[str, Tensor], Any]:
    """The rows of the trace, the gradient of the first step, the state in the end and the counters."""
    job = begin(*about, **params)
    asset = job.particles[0].asset
    try:
        first = job.step()
        gradient = torch.cat([p.grad.flatten() for p in asset.parameters() if p.grad is not None])
        rows = [first, job.step()]
        return rows, gradient, dict(asset.named_buffers()), job.prior.counters
    finally:
        job.close()


SLOW = [
    ("sd_folder", "voxels", "vsd", {}),
    ("sd_folder", "hashgrid", "sds", {}),
    ("mvdream_folder", "voxels", "psd", {"base": "vsd", "negative": "refl", "negative_every": 1}),
]
CASES = [
    ("tiny_prior_folder", "gaussians", "psd", {}),
    *(pytest.param(*case, marks=pytest.mark.slow) for case in SLOW),
]


@pytest.mark.parametrize(("folder", "representation", "method", "params"), CASES)
def test_a_rung_changes_numbers_by_rounding_alone(
    folder: str, representation: str, method: str, params: dict[str, Any], request: pytest.FixtureRequest
) -> None:
    """Losses, gradients, what the asset remembers and what a budget counts, of four or eight views."""
    cls = MVDreamPrior if folder == "mvdream_folder" else DiffusersPrior
    prior = cls.load(request.getfixturevalue(folder))
    rows, gradient, buffers, counters = two_steps(prior, 0, representation, method, **params)
    for rung in (1, 2):
        other = two_steps(prior, rung, representation, method, **params)
        for row, expected in zip(other[0], rows, strict=True):
            numbers = (row.loss, row.gradient_rms, row.opacity)
            assert numbers == pytest.approx(
                (expected.loss, expected.gradient_rms, expected.opacity), rel=1e-5
            )
        torch.testing.assert_close(other[1], gradient, rtol=0, atol=1e-5 * float(gradient.abs().max()))
        for name, buffer in buffers.items():
            torch.testing.assert_close(other[2][name], buffer, rtol=1e-4, atol=1e-5)
        assert other[3].denoiser_forwards == counters.denoiser_forwards
        assert other[3].denoiser_backwards == counters.denoiser_backwards
        assert other[3].encodes == 2 * counters.encodes


class Cramped(DiffusersPrior):
    """A prior whose backward pass through the encoder has room for so many images, from some encoding on."""

    room, until, seen = 1, 0, 0

    def encode(self, images: Tensor) -> Tensor:
        latents = super().encode(images)
        self.seen += 1
        if latents.requires_grad and len(images) > self.room and self.seen > self.until:
            latents.register_hook(self._fail)
        return latents

    def _fail(self, gradient: Tensor) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1.00 GiB")


@pytest.mark.parametrize(
    "method", ["vsd", *(pytest.param(m, marks=pytest.mark.slow) for m in ("sds", "psd"))]
)
def test_a_failed_attempt_leaves_no_trace(method: str, tiny_prior_folder: Path, tmp_path: Path) -> None:
    """It fails on the way back, when the method has drawn, remembered and trained already."""
    spec = make_spec(method, views=VIEWS)
    climbed = run(spec, Cramped.load(tiny_prior_folder), tmp_path / "climbed")
    assert climbed.ladder.facts() == {"memory_rung": 1, "memory_rung_since": {"1": 0}}
    expected = run(
        make_spec(method, views=VIEWS, memory_rung=1),
        DiffusersPrior.load(tiny_prior_folder),
        tmp_path / "one",
    )
    assert expected.ladder.facts() == {"memory_rung": 1, "memory_rung_since": {}}
    assert climbed.counters == expected.counters
    assert_same_bits(tmp_path / "climbed", tmp_path / "one", spec)


def test_a_resumed_job_stays_on_its_rung(tiny_prior_folder: Path, tmp_path: Path) -> None:
    spec, notes = make_spec("vsd", views=VIEWS), list[str]()

    def cramped(until: int) -> Cramped:
        prior = Cramped.load(tiny_prior_folder)
        prior.until = until
        return prior

    whole = run(spec, cramped(3), tmp_path / "whole", note=notes.append)
    assert whole.ladder.since == {1: 3}
    assert notes == ["memory ran out at step 3; from here on views one by one (rung 1)"]
    with pytest.raises(Killed):
        run(spec, cramped(3), tmp_path / "cut", on_step=kill_after(8))
    roomy = DiffusersPrior.load(tiny_prior_folder)
    assert run(spec, roomy, tmp_path / "cut").ladder.facts() == whole.ladder.facts()
    assert_same_bits(tmp_path / "cut", tmp_path / "whole", spec)
    assert roomy.pieces(torch.zeros(VIEWS, 1))[0].shape[0] == VIEWS, "the prior is given back as it was"


def test_a_job_says_what_it_did_and_the_others_go_on(tiny_prior_folder: Path, tmp_path: Path) -> None:
    """Rung and step in cost.json, log and progress; where the last rung fails, so does the job, with the remedy."""
    ref = registry.prior_ref(str(tiny_prior_folder))
    models, prior, events = Models(), Cramped.load(tiny_prior_folder), list[Event]()
    models._priors[ref.sha256] = prior
    task = make_task(tmp_path, ref, views=2)
    assert execute([task], models, Watch(events.append))[0].status == "finished"
    cost = json.loads((task.folder / "cost.json").read_text())
    assert (cost["memory_rung"], cost["memory_rung_since"]) == (1, {"1": 0})
    said = "memory ran out at step 0; from here on views one by one"
    assert said in (task.folder / LOG).read_text()
    assert [e for e in events if e.kind == "note" and said in e.text and task.folder.name in e.text]
    prior.room = 0
    outcome = execute([make_task(tmp_path, ref, views=2, steps=3)], models, Watch())[0]
    assert outcome.status == "failed"
    assert (
        "OutOfMemory: memory ran out at step 0 with views one by one, activations computed" in outcome.reason
    )
    assert "smaller optimize.size" in outcome.reason
    prior.room = 2
    assert execute([make_task(tmp_path, ref, views=2, steps=5)], models, Watch())[0].status == "finished"


def test_other_errors_are_not_tried_again(tiny_prior_folder: Path) -> None:
    job = begin(DiffusersPrior.load(tiny_prior_folder), 0, "voxels", "sds")
    tries = []

    def attempt() -> None:
        tries.append(1)
        raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes"):
        job.ladder.climb(job, attempt)
    assert len(tries) == 1
    assert not is_out_of_memory(ValueError("out of memory"))


REAL = """
import re, resource, sys
import torch
from pathlib import Path
sys.path[:0] = {tests!r}
from test_memory_ladder import begin
from psdbench.priors.diffusers import DiffusersPrior
from psdbench.errors import OutOfMemory

def address_space():
    return 1024 * int(re.search(r"VmSize:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

torch.set_num_threads(1)
prior = DiffusersPrior.load(Path({folder!r}))
begin(prior, 0, "voxels", "sds").step()  # what is loaded once is loaded now
job = begin(prior, 0, "voxels", "sds")
object.__setattr__(job.spec.protocol.optimize, "size", 256)
object.__setattr__(job.spec.protocol.optimize, "views", 8)
limit = address_space() + {room} * 2**20
resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
try:
    print(job.ladder.rung, job.step().loss, job.ladder.rung)
except OutOfMemory as error:
    print(error, error.remedy)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc and a limit of the address space")
@pytest.mark.parametrize(("room", "rung"), [(3000, 0), (400, 1), (30, None)])
def test_a_real_limit(room: int, rung: int | None, sd_folder: Path) -> None:
    """Eight views of 256 pixels need 1.2 GB at once and 0.4 GB one by one; torch's own allocator fails."""
    code = REAL.format(
        tests=[str(folder) for folder in Path(__file__).parents[:2]], folder=str(sd_folder), room=room
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    if rung is None:
        assert "memory ran out at step 0" in done.stdout
        assert "can't allocate memory" in done.stdout
        assert "--dtype bfloat16" in done.stdout
    else:
        before, loss, after = done.stdout.split()
        assert (before, after) == ("0", str(rung))
        assert float(loss) > 0


def test_memory_that_runs_out_is_told_by_type_and_by_text() -> None:
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(RuntimeError("std::bad_alloc"))
    assert not is_out_of_memory(RuntimeError("size mismatch"))
    assert str(OutOfMemory("a", "b")) == "a"
