"""Several particles: one is the plain loop; more take turns, share the method's memory, and resume bit by bit."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from psdbench import registry
from psdbench.cameras import Cameras, sample_cameras
from psdbench.config import JobSpec, OptimizeConfig, PriorRef, Protocol
from psdbench.errors import Diverged
from psdbench.export.turntable import to_picture
from psdbench.guidance import Step, TextEmbeddings
from psdbench.job import Models, Task, Watch, execute
from psdbench.methods.sds import SDS
from psdbench.optimizer import checkpoint
from psdbench.optimizer.loop import Optimisation, OptimizeResult, draw_backgrounds, optimize
from psdbench.optimizer.particles import ASSET, load_asset
from psdbench.optimizer.trace import TRACE
from psdbench.plan import resolve_params
from psdbench.priors.diffusers import DiffusersPrior
from psdbench.priors.gaussian import GaussianPrior
from psdbench.representations import Representation
from psdbench.schedules import TimestepSchedule
from psdbench.store.manifest import read_manifest
from psdbench.store.run import job_folder
from psdbench.streams import Streams

SIZE = 8
STD = 0.3
PROMPT = "a red cube"


class Redness:
    """A reward in closed form."""

    id, sha256 = "redness", "0" * 64
    higher_is_better = differentiable = True
    view_words = False

    def score(self, images: Tensor, prompts: Sequence[str], cameras: Cameras | None = None) -> Tensor:
        return (images[:, 0] - images[:, 1]).mean((-1, -2))


def make_spec(name: str = "sds", params: dict[str, Any] | None = None, **fields: Any) -> JobSpec:
    config = OptimizeConfig(**{"steps": 12, "size": SIZE, "checkpoint_every": 5} | fields)
    content = {"resolution": 6, "density_scale": 20.0}
    protocol = Protocol(PriorRef("gaussian", "0" * 64), representation_params=content, optimize=config)
    return JobSpec(PROMPT, name, params or {}, 0, protocol)


def make_prior() -> GaussianPrior:
    target = torch.tensor([0.9, 0.1, 0.2])[:, None, None].expand(3, SIZE, SIZE)
    return GaussianPrior({PROMPT: target, "": 1 - target}, STD)


def run(spec: JobSpec, folder: Path, prior: Any = None, **hooks: Any) -> OptimizeResult:
    made = registry.method_class(spec.method)(**spec.params)
    return optimize(spec, prior or make_prior(), made, Redness(), folder, **hooks)


def begin(spec: JobSpec) -> Optimisation:
    made = registry.method_class(spec.method)(**spec.params)
    return Optimisation.begin(spec, make_prior(), made, None)


def walk(job: Optimisation, steps: int) -> list[int]:
    """So many steps; the particles that they moved."""
    return [job.step().particle for _ in range(steps)]


def plain_loop(spec: JobSpec, prior: GaussianPrior) -> Representation:
    """SDS as one writes it down for a single asset, without a word of particles."""
    config, streams = spec.protocol.optimize, Streams(spec.seed)
    asset = registry.make_representation("voxels", spec.protocol.representation_params, streams["init"])
    adam = torch.optim.Adam(asset.parameter_groups(config), betas=(0.9, 0.99), fused=True)
    first = [group["lr"] for group in adam.param_groups]
    schedule = TimestepSchedule(config.timestep_min, config.timestep_max_start, config.timestep_max_end)
    text = TextEmbeddings.encode(prior, [PROMPT] * config.views, PROMPT)
    for i in range(config.steps):
        progress = i / (config.steps - 1)
        cameras = sample_cameras(streams["cameras"], config.views, spec.protocol.cameras)
        render = asset.render(cameras, SIZE, draw_backgrounds(streams["background"], config.views))
        t = torch.full((config.views,), schedule.sample(progress, streams["timesteps"], 1000))
        step = Step(
            latents=render.rgb.detach(),
            timestep=t,
            schedule=schedule,
            cameras=cameras,
            prompt=PROMPT,
            prompts=[PROMPT] * config.views,
            text=text,
            prior=prior,
            reward=None,
            index=i,
            progress=progress,
            streams=streams,
            counters=prior.counters,
        )
        penalty = sum(asset.regularisation(render, progress, config).values())
        adam.zero_grad()
        ((render.rgb * SDS().gradient(step)).sum() / config.views + penalty).backward()
        for group, rate in zip(adam.param_groups, first, strict=True):
            group["lr"] = rate * (0.1 + 0.9 * (1 + math.cos(math.pi * progress)) / 2)
        adam.step()
    return asset


def test_one_particle_is_the_plain_loop_bit_for_bit(tmp_path: Path) -> None:
    spec = make_spec(views=2, particles=1)
    result = run(spec, tmp_path)
    expected = plain_loop(spec, make_prior()).state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in result.asset.state_dict().items())
    assert spec.id == make_spec(views=2).id, "jobs from before there were particles keep their ids"
    assert make_spec(views=2, particles=2).id != spec.id
    stored = checkpoint.load_newest(tmp_path, spec.id)
    assert stored is not None
    assert not [name for name in stored.tensors if "particle" in name or "-" in name]
    assert result.files == (ASSET, TRACE)


def test_particles_take_turns_in_an_order_that_is_drawn() -> None:
    job, count = begin(make_spec(steps=180, particles=3)), 3
    turns = walk(job, 180)
    rounds = [tuple(turns[i : i + count]) for i in range(0, 180, count)]
    assert {frozenset(order) for order in rounds} == {frozenset(range(count))}
    assert len(set(rounds)) == 6, "all orders of three occur"
    assert max(Counter(rounds).values()) < 25


def test_a_step_moves_its_own_particle_alone() -> None:
    job = begin(make_spec(particles=3))
    for _ in range(6):
        before = [{name: t.clone() for name, t in particle.tensors().items()} for particle in job.particles]
        moved = job.step().particle
        for particle, old in zip(job.particles, before, strict=True):
            now = particle.tensors()
            same = now.keys() == old.keys() and all(torch.equal(now[name], old[name]) for name in now)
            assert same == (particle.number != moved)


def test_particles_begin_apart_and_the_first_as_a_single_one_would() -> None:
    alone, several = begin(make_spec()), begin(make_spec(particles=3))
    colours = [particle.asset.colour for particle in several.particles]  # type: ignore[union-attr]
    assert torch.equal(colours[0], alone.particles[0].asset.colour)  # type: ignore[arg-type]
    assert not torch.equal(colours[0], colours[1])
    assert not torch.equal(colours[1], colours[2])


def test_a_job_of_several_costs_and_draws_what_a_job_of_one_does(tmp_path: Path) -> None:
    one = run(make_spec("psd"), tmp_path / "one")
    three = run(make_spec("psd", particles=3), tmp_path / "three")
    assert three.counters == one.counters
    seen = [(row.timestep, row.learning_rate, row.progress) for row in three.trace]
    assert seen == [(row.timestep, row.learning_rate, row.progress) for row in one.trace]
    assert three.files == (ASSET, "asset-1.safetensors", "asset-2.safetensors", TRACE)
    header, first = (tmp_path / "three" / TRACE).read_text().splitlines()[:2]
    assert header.endswith(",particle")
    assert first.endswith(f",{three.trace[0].particle}")


class Killed(Exception):
    """Stands for the death of the process."""


def assert_resumes_with_the_same_bits(spec: JobSpec, folder: Path, make: Any) -> None:
    """Killed in a round, continued from a checkpoint in another, against a run that nothing disturbed."""

    def kill(row: Any) -> None:
        if row.step == 8:
            raise Killed

    whole = run(spec, folder / "whole", make())
    with pytest.raises(Killed):
        run(spec, folder / "cut", make(), on_step=kill)
    steps: list[int] = []
    rest = run(spec, folder / "cut", make(), on_step=lambda row: steps.append(row.step))
    assert steps == list(range(5, spec.protocol.optimize.steps))
    assert (rest.trace, rest.counters) == (whole.trace, whole.counters)
    for name in whole.files:
        assert (folder / "whole" / name).read_bytes() == (folder / "cut" / name).read_bytes(), name
    ends = [checkpoint.load_newest(folder / name, spec.id) for name in ("whole", "cut")]
    tensors, expected = (end.tensors for end in ends if end)
    assert tensors.keys() == expected.keys()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in tensors.items())


@pytest.mark.parametrize("particles", [2, 3])
@pytest.mark.parametrize("name", ["sds", "vsd", "psd"])
def test_a_killed_job_of_several_ends_with_the_same_bits(name: str, particles: int, tmp_path: Path) -> None:
    assert_resumes_with_the_same_bits(make_spec(name, particles=particles), tmp_path, make_prior)


def test_a_killed_job_whose_particles_share_a_lora_ends_with_the_same_bits(
    tiny_prior_folder: Path, tmp_path: Path
) -> None:
    spec = make_spec("vsd", size=32, particles=2)
    assert_resumes_with_the_same_bits(spec, tmp_path, lambda: DiffusersPrior.load(tiny_prior_folder))


def test_a_kill_before_a_particles_first_step_is_survived(tmp_path: Path) -> None:
    spec = make_spec(particles=8, checkpoint_every=2)

    def kill(row: Any) -> None:
        if row.step == 3:
            raise Killed

    whole = run(spec, tmp_path / "whole")
    with pytest.raises(Killed):
        run(spec, tmp_path / "cut", on_step=kill)
    run(spec, tmp_path / "cut")
    for name in whole.files:
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "cut" / name).read_bytes(), name


def test_one_empty_scene_among_many_ends_the_job_after_so_many_steps_of_its_own() -> None:
    job = begin(make_spec(particles=3, empty_steps=3, steps=30))
    with torch.no_grad():
        job.particles[2].asset.density.fill_(-50.0)  # type: ignore[union-attr, operator]
    with pytest.raises(Diverged, match="scene of particle 2 has been empty for 3 steps") as diverged:
        walk(job, 30)
    assert [row.particle for row in job.trace].count(2) == 2, "the third is the one that is refused"
    assert diverged.value.step == job.index
    assert max(row.opacity for row in job.trace if row.particle != 2) > 0.1


def test_a_number_that_is_none_is_found_in_any_particle() -> None:
    job = begin(make_spec(particles=2))
    with torch.no_grad():
        job.particles[1].asset.colour[0, 0, 0, 0] = float("nan")  # type: ignore[index]
    with pytest.raises(Diverged, match="not finite"):
        walk(job, 2)


def test_every_particle_has_a_step_however_small_the_budget(tmp_path: Path) -> None:
    trace = run(make_spec(nfe=1, particles=3), tmp_path).trace
    assert sorted(row.particle for row in trace) == [0, 1, 2]
    assert [row.progress for row in trace] == [0.0, 1.0, 1.0]


def test_the_first_particle_is_rendered_and_all_are_stored(tiny_prior_folder: Path, tmp_path: Path) -> None:
    protocol = Protocol(
        registry.prior_ref(str(tiny_prior_folder)),
        representation_params=resolve_params("voxels", {"resolution": 12}),
        optimize=OptimizeConfig(steps=4, size=32, particles=2),
    )
    spec = JobSpec(PROMPT, "sds", resolve_params("sds", {}), 0, protocol)
    task = Task(spec, job_folder(tmp_path, spec), ())
    assert execute([task], Models(), Watch())[0].status == "finished"
    manifest = read_manifest(task.folder)
    assert manifest is not None
    assert {name for name, entry in manifest.files.items() if entry.stage == "optimize"} == {
        ASSET,
        "asset-1.safetensors",
        TRACE,
        "cost.json",
    }
    first, second = (load_asset(spec, task.folder / name) for name in (ASSET, "asset-1.safetensors"))
    front = evaluation_view(spec)
    with Image.open(task.folder / "renders" / "view_00.png") as picture:
        assert picture.tobytes() == front(first).tobytes() != front(second).tobytes()


def evaluation_view(spec: JobSpec) -> Any:
    """The first picture of the rig, of any asset."""
    from psdbench.cameras import evaluation_rig

    def picture(asset: Representation) -> Image.Image:
        camera = next(iter(evaluation_rig(spec.protocol.cameras)))
        with torch.no_grad():
            return to_picture(asset.render(camera, spec.protocol.evaluate.size, torch.ones(3)).rgb[0])

    return picture
