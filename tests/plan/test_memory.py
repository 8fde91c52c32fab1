"""What a job is said to need, against what it takes: real processes, real networks, the most memory they held."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from folders import write_sd
from safetensors.torch import load_file

from psdbench import registry
from psdbench.config import JobSpec, OptimizeConfig, Protocol
from psdbench.job.stages import peak_memory_mb
from psdbench.plan import resolve_params
from psdbench.plan.memory import header_elements, largest_calls, lockstep_jobs, predict, prior_bytes

FACTOR = 1.5
"""within which predictions are to lie of what is measured"""


def make_spec(prior: str, representation: str, method: str = "sds", **optimize: Any) -> JobSpec:
    protocol = Protocol(
        registry.prior_ref(prior),
        representation=representation,
        representation_params=resolve_params(representation, {}),
        optimize=OptimizeConfig(**{"steps": 2} | optimize),
    )
    return JobSpec("a red cube", method, resolve_params(method, {}), 0, protocol)


MEASURE = """
import sys
sys.path[:0] = {tests!r}
import torch
from test_memory import make_spec
from psdbench import registry
from psdbench.optimizer.loop import Optimisation
from psdbench.scorers import load_scorer
from psdbench.job.stages import peak_memory_mb

torch.set_num_threads(1)
spec = make_spec({prior!r}, {representation!r}, {method!r}, **{optimize!r})
method = registry.method_class(spec.method)(**spec.params)
reward = load_scorer("hps_shapes") if method.needs_reward else None
job = Optimisation.begin(spec, registry.load_prior(spec.protocol.prior, "cpu"), method, reward)
job.step(), job.step()
print(peak_memory_mb("cpu"))
"""


def measured(prior: str, representation: str, method: str, optimize: dict[str, Any]) -> float:
    """The peak of a process that does two steps, the first and the last of a job, MB."""
    about = {"prior": prior, "representation": representation, "method": method, "optimize": optimize}
    code = MEASURE.format(tests=[str(folder) for folder in Path(__file__).parents[:2]], **about)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(done.stdout)


@pytest.fixture(scope="session")
def wide_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stable Diffusion's shape with a fifth of its width: here networks, not the process, take the memory."""
    from diffusers import AutoencoderKL

    widths = {"block_out_channels": (64, 128, 256, 256), "norm_num_groups": 8, "attention_head_dim": 8}
    folder = write_sd(tmp_path_factory.mktemp("priors") / "wide", **widths)
    AutoencoderKL(
        block_out_channels=(32, 64, 128, 128),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        latent_channels=4,
        norm_num_groups=8,
    ).save_pretrained(folder / "vae")
    return folder


CASES = [
    ("shapes", "voxels", "sds", {"views": 1}),
    ("shapes", "voxels", "psd", {"views": 32}),
    ("shapes", "hashgrid", "sds", {"views": 16}),
    ("shapes", "gaussians", "sds", {"views": 16}),
    ("shapes", "voxels", "sds", {"views": 4, "size": 256, "memory_rung": 1}),
    ("wide", "voxels", "sds", {"views": 2, "size": 256}),
    ("wide", "voxels", "vsd", {"views": 2, "size": 256}),
    ("wide", "voxels", "sds", {"views": 2, "size": 256, "memory_rung": 2}),
    ("mvdream", "voxels", "sds", {"views": 8, "size": 128}),
]


@pytest.mark.slow
@pytest.mark.parametrize(("prior", "representation", "method", "optimize"), CASES)
def test_predictions_against_real_processes(
    prior: str, representation: str, method: str, optimize: dict[str, Any], request: pytest.FixtureRequest
) -> None:
    place = prior if prior == "shapes" else str(request.getfixturevalue(f"{prior}_folder"))
    parts = predict(make_spec(place, representation, method, **optimize))
    peak = measured(place, representation, method, optimize)
    assert peak / FACTOR < sum(parts.values()) < peak * FACTOR, (peak, parts)


def total(spec: JobSpec) -> float:
    return sum(predict(spec).values())


def test_more_needs_more_and_a_rung_less(sd_folder: Path) -> None:
    def of(method: str = "sds", **optimize: Any) -> float:
        return total(make_spec(str(sd_folder), "voxels", method, **{"views": 4, "size": 256} | optimize))

    assert of(views=1) < of(views=2) < of() < of(size=512)
    assert of(memory_rung=2) < of(memory_rung=1) < of()
    assert of("sds") < of("vsd")
    assert of("sds") < of("psd")
    spec = make_spec(str(sd_folder), "voxels", views=4)
    half = replace(spec.protocol.prior, dtype="bfloat16")
    assert total(replace(spec, protocol=replace(spec.protocol, prior=half))) < total(spec)


def test_the_largest_calls_are_those_of_the_algorithms() -> None:
    def of(method: str, **params: Any) -> tuple[int, ...]:
        spec = make_spec("shapes", "voxels", method)
        calls = largest_calls(replace(spec, params={**spec.params, **params}))
        return calls.denoised, calls.denoised_with_graph, calls.decoded, calls.decoded_with_graph

    assert of("sds") == (2, 0, 0, 0)
    assert of("vsd") == (2, 1, 0, 0)
    assert of("psd") == (4, 0, 2, 0)
    assert of("psd", negative="refl") == (4, 1, 2, 1)


def test_jobs_in_lockstep_need_more_but_those_that_train_on_the_prior_run_alone() -> None:
    shared, alone = make_spec("shapes", "voxels", "sds"), make_spec("shapes", "voxels", "vsd")
    assert [lockstep_jobs(spec, 4) for spec in (shared, alone)] == [4, 1]
    assert lockstep_jobs(shared, 1) == 1
    assert sum(predict(shared, pack=4).values()) > total(shared)


def test_weights_are_counted_from_headers(sd_folder: Path) -> None:
    files = [next((sd_folder / part).glob("*.safetensors")) for part in ("unet", "vae", "text_encoder")]
    numbers = [sum(tensor.numel() for tensor in load_file(file).values()) for file in files]
    assert [header_elements(file) for file in files] == numbers
    assert prior_bytes(sd_folder, 2) == 2 * sum(numbers)


def test_the_peak_of_a_process_is_its_own() -> None:
    """Not that of the one that has started it."""
    held = bytearray(os.urandom(1) * 400 * 2**20)
    code = "from psdbench.job.stages import peak_memory_mb; print(peak_memory_mb('cpu'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 10 < float(done.stdout) < len(held) / 2**20
    assert peak_memory_mb("cpu") > len(held) / 2**20
