"""The shared optimizer: same bits after any interruption, damage costs only steps, NaN is never a score."""

from __future__ import annotations

import csv
import logging
import math
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from psdbench import registry
from psdbench.config import JobSpec, OptimizeConfig, PriorRef, Protocol
from psdbench.errors import CorruptResult, Diverged, Interrupted
from psdbench.optimizer import checkpoint
from psdbench.optimizer.loop import OptimizeResult, draw_backgrounds, optimize
from psdbench.optimizer.particles import ASSET, load_asset
from psdbench.optimizer.stopwatch import PARTS
from psdbench.optimizer.trace import TRACE
from psdbench.priors.diffusers import DiffusersPrior
from psdbench.priors.gaussian import GaussianPrior
from psdbench.store import atomic

STEPS = 12


@pytest.fixture(autouse=True)
def warnings_reach_caplog(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger("psdbench"), "propagate", True)


class Redness:
    """A reward in closed form: more red, less green."""

    id, sha256 = "redness", "0" * 64
    higher_is_better = differentiable = True
    view_words = False

    def score(self, images: Tensor, prompts: Any, cameras: Any = None) -> Tensor:
        return (images[:, 0] - images[:, 1]).mean((-1, -2))


def make_spec(method: str = "sds", params: dict[str, Any] | None = None, **fields: Any) -> JobSpec:
    config = OptimizeConfig(**{"steps": STEPS, "size": 32, "checkpoint_every": 5} | fields)
    protocol = Protocol(
        prior=PriorRef("tiny", "0" * 64), representation_params={"resolution": 12}, optimize=config
    )
    return JobSpec("a red cube", method, params or {}, 0, protocol)


def run(spec: JobSpec, prior: Any, folder: Path, **hooks: Callable[..., Any]) -> OptimizeResult:
    method = registry.method_class(spec.method)(**spec.params)
    return optimize(spec, prior, method, Redness() if method.needs_reward else None, folder, **hooks)


class Killed(Exception):
    """Stands for the death of the process."""


def kill_after(steps: int) -> Callable[[Any], None]:
    def on_step(row: Any) -> None:
        if row.step + 1 == steps:
            raise Killed

    return on_step


def last_state(folder: Path, spec: JobSpec) -> dict[str, Tensor]:
    stored = checkpoint.load_newest(folder, spec.id)
    assert stored is not None and stored.step == STEPS  # noqa: PT018
    return stored.tensors


def assert_same_bits(folder: Path, other: Path, spec: JobSpec) -> None:
    """Asset, trace, Adam's moments, random streams and the method's state."""
    for name in (ASSET, TRACE):
        assert (folder / name).read_bytes() == (other / name).read_bytes()
    state, expected = last_state(folder, spec), last_state(other, spec)
    assert state.keys() == expected.keys()
    for name, tensor in state.items():
        assert torch.equal(tensor, expected[name]), name


METHODS = [
    ("sds", {}),
    ("vsd", {}),
    ("psd", {"negative": "dpo_x0", "negative_every": 2}),
]


@pytest.mark.parametrize(("method", "params"), METHODS, ids=[m for m, _ in METHODS])
def test_killed_and_resumed_run_ends_with_the_same_bits(
    method: str, params: dict[str, Any], tiny_prior_folder: Path, tmp_path: Path
) -> None:
    spec = make_spec(method, params)
    whole = run(spec, DiffusersPrior.load(tiny_prior_folder), tmp_path / "whole")
    with pytest.raises(Killed):
        run(spec, DiffusersPrior.load(tiny_prior_folder), tmp_path / "cut", on_step=kill_after(8))
    steps: list[int] = []
    prior = DiffusersPrior.load(tiny_prior_folder)
    rest = run(spec, prior, tmp_path / "cut", on_step=lambda row: steps.append(row.step))
    assert steps == list(range(5, STEPS))
    assert rest.counters == whole.counters
    assert rest.trace == whole.trace
    assert_same_bits(tmp_path / "cut", tmp_path / "whole", spec)


@pytest.mark.parametrize("file", range(8))
def test_death_before_any_file_is_in_place_costs_no_bit(
    tiny_prior: DiffusersPrior, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: int
) -> None:
    """Three checkpoints, each with the trace, then the results: also right between two that belong together."""
    spec, written, replace = make_spec(), [], os.replace

    def die_before(source: Path, target: Path) -> None:
        written.append(target.name)
        if len(written) == file + 1:
            raise Killed
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(atomic.os, "replace", die_before)
        with pytest.raises(Killed):
            run(spec, tiny_prior, tmp_path / "cut")
    run(spec, tiny_prior, tmp_path / "cut")
    run(spec, tiny_prior, tmp_path / "whole")
    assert_same_bits(tmp_path / "cut", tmp_path / "whole", spec)


def test_two_runs_on_one_prior_give_the_same_bits(tiny_prior: DiffusersPrior, tmp_path: Path) -> None:
    spec = make_spec("vsd")
    for name in ("first", "second"):
        run(spec, tiny_prior, tmp_path / name)
    assert_same_bits(tmp_path / "first", tmp_path / "second", spec)


def test_psd_without_preference_is_sds(tiny_prior: DiffusersPrior, tmp_path: Path) -> None:
    run(make_spec("sds"), tiny_prior, tmp_path / "sds")
    run(make_spec("psd", {"preference_scale": 0.0, "negative": "off"}), tiny_prior, tmp_path / "psd")
    assert (tmp_path / "sds" / ASSET).read_bytes() == (tmp_path / "psd" / ASSET).read_bytes()


def test_a_wish_to_stop_leaves_a_checkpoint(tiny_prior: DiffusersPrior, tmp_path: Path) -> None:
    spec, done = make_spec(), []
    stop = {"should_stop": lambda: 15 if len(done) == 7 else 0, "on_step": done.append}
    with pytest.raises(Interrupted) as stopped:
        run(spec, tiny_prior, tmp_path / "cut", **stop)
    assert stopped.value.exit_code == 143
    stored = checkpoint.load_newest(tmp_path / "cut", spec.id)
    assert stored is not None
    assert stored.step == 7
    run(spec, tiny_prior, tmp_path / "cut")
    run(spec, tiny_prior, tmp_path / "whole")
    assert_same_bits(tmp_path / "cut", tmp_path / "whole", spec)


def test_a_finished_run_is_not_repeated(tiny_prior: DiffusersPrior, tmp_path: Path) -> None:
    spec = make_spec()
    first = run(spec, tiny_prior, tmp_path)
    again = run(spec, tiny_prior, tmp_path, on_step=kill_after(1))
    assert again.trace == first.trace
    assert again.counters == first.counters
    assert again.seconds_by_part["method"] == first.seconds_by_part["method"]


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "truncated": lambda content: content[:-1000],
    "flipped": lambda content: content[:-500] + bytes([content[-500] ^ 1]) + content[-499:],
    "empty": lambda content: b"",
}


def damage(path: Path, how: str) -> None:
    path.write_bytes(DAMAGE[how](path.read_bytes()))


@pytest.mark.parametrize("how", DAMAGE)
def test_a_corrupt_checkpoint_costs_some_steps_only(
    how: str, tiny_prior: DiffusersPrior, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spec = make_spec()
    with pytest.raises(Killed):
        run(spec, tiny_prior, tmp_path / "cut", on_step=kill_after(11))
    damage(tmp_path / "cut" / "checkpoint-000010.safetensors", how)
    steps: list[int] = []
    with caplog.at_level(logging.WARNING):
        run(spec, tiny_prior, tmp_path / "cut", on_step=lambda row: steps.append(row.step))
    assert steps[0] == 5
    assert "checkpoint-000010.safetensors is unusable" in caplog.text
    assert (tmp_path / "cut" / "quarantine" / "checkpoint-000010.safetensors.0").exists()
    run(spec, tiny_prior, tmp_path / "whole")
    assert_same_bits(tmp_path / "cut", tmp_path / "whole", spec)


def test_with_all_checkpoints_corrupt_it_starts_anew(
    tiny_prior: DiffusersPrior, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spec = make_spec()
    run(spec, tiny_prior, tmp_path)
    expected = (tmp_path / ASSET).read_bytes()
    for path in checkpoint.newest_first(tmp_path):
        damage(path, "flipped")
    steps: list[int] = []
    with caplog.at_level(logging.WARNING):
        run(spec, tiny_prior, tmp_path, on_step=lambda row: steps.append(row.step))
    assert len(caplog.records) == 2
    assert steps == list(range(STEPS))
    assert (tmp_path / ASSET).read_bytes() == expected


def test_a_checkpoint_of_another_job_is_not_used(tiny_prior: DiffusersPrior, tmp_path: Path) -> None:
    run(make_spec(), tiny_prior, tmp_path)
    steps: list[int] = []
    run(replace(make_spec(), seed=1), tiny_prior, tmp_path, on_step=lambda row: steps.append(row.step))
    assert steps == list(range(STEPS))


def test_only_the_newest_checkpoints_are_kept(tiny_prior: DiffusersPrior, tmp_path: Path) -> None:
    run(make_spec(checkpoint_every=2), tiny_prior, tmp_path)
    names = [p.name for p in checkpoint.newest_first(tmp_path)]
    assert names == ["checkpoint-000012.safetensors", "checkpoint-000010.safetensors"]
    assert not list(tmp_path.glob(".*"))


def test_nan_in_the_prior_ends_as_diverged_at_its_step(tiny_prior: DiffusersPrior, tmp_path: Path) -> None:
    def poison(row: Any) -> None:
        if row.step == 6:
            tiny_prior.unet.conv_out.bias.data[0] = float("nan")

    with pytest.raises(Diverged, match="gradient is not finite") as diverged:
        run(make_spec(), tiny_prior, tmp_path, on_step=poison)
    assert diverged.value.step == 7
    assert len((tmp_path / TRACE).read_text().splitlines()) == 1 + 7
    assert not (tmp_path / ASSET).exists()


def test_nan_in_the_encoder_ends_as_diverged(tiny_prior: DiffusersPrior, tmp_path: Path) -> None:
    tiny_prior.vae.encoder.layers[0].weight.data.fill_(float("inf"))
    with pytest.raises(Diverged) as diverged:
        run(make_spec(), tiny_prior, tmp_path)
    assert diverged.value.step == 0


def test_an_empty_scene_ends_as_diverged(tiny_prior: DiffusersPrior, tmp_path: Path) -> None:
    spec = make_spec(empty_steps=4)
    params = {"resolution": 12, "density_scale": 1e-6}
    spec = replace(spec, protocol=replace(spec.protocol, representation_params=params))
    with pytest.raises(Diverged, match="empty") as diverged:
        run(spec, tiny_prior, tmp_path)
    assert diverged.value.step == 3


def test_the_prior_is_given_back_after_a_failure(tiny_prior: DiffusersPrior, tmp_path: Path) -> None:
    names = list(tiny_prior.unet.state_dict())
    with pytest.raises(Killed):
        run(make_spec("vsd"), tiny_prior, tmp_path, on_step=kill_after(2))
    assert list(tiny_prior.unet.state_dict()) == names


def test_sds_through_a_known_prior_paints_the_scene_in_its_colour(tmp_path: Path) -> None:
    target = torch.tensor([0.9, 0.1, 0.2])[:, None, None].expand(3, 16, 16)
    prior = GaussianPrior({"a red cube": target, "": target}, std=0.1)
    # its own rates and times: the defaults are tuned for the embedded world and may change
    rates = {"density_learning_rate": 0.05, "colour_learning_rate": 0.05, "learning_rate_end": 1.0}
    plan = {"steps": 120, "size": 16, "checkpoint_every": 1000, "timestep_max_end": 0.5}
    result = run(make_spec("sds", {"guidance_scale": 1.0}, **plan, **rates), prior, tmp_path)
    first, last = (
        torch.tensor([r.gradient_rms for r in rows]).mean()
        for rows in (result.trace[:20], result.trace[-20:])
    )
    assert last < first / 2
    colour = result.asset.colour.detach().sigmoid()[5:7, 5:7, 5:7].mean((0, 1, 2))
    opacity = torch.nn.functional.softplus(result.asset.density.detach())
    assert opacity.max() > 1
    assert colour[0] > 0.6 > 0.4 > colour[1:].max()


def test_learning_rate_falls_by_a_cosine(tiny_prior: DiffusersPrior, tmp_path: Path) -> None:
    spec = make_spec(density_learning_rate=0.2, learning_rate_end=0.1, steps=5)
    rates = [row.learning_rate for row in run(spec, tiny_prior, tmp_path).trace]
    shares = [0.1 + 0.9 * (1 + math.cos(math.pi * k / 4)) / 2 for k in range(5)]
    assert rates == pytest.approx([0.2 * share for share in shares])


def test_trace_counters_and_timer(tiny_prior: DiffusersPrior, tmp_path: Path) -> None:
    spec = make_spec(views=2)
    result = run(spec, tiny_prior, tmp_path)
    with (tmp_path / TRACE).open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == list(range(STEPS))
    assert [float(row["loss"]) for row in rows] == [row.loss for row in result.trace]
    assert all(20 <= row.timestep <= 980 for row in result.trace)
    assert result.trace[-1].timestep <= 500
    assert result.counters.encodes == 2 * STEPS
    assert result.counters.denoiser_forwards == 4 * STEPS
    assert set(result.seconds_by_part) == set(PARTS)
    assert all(seconds > 0 for seconds in result.seconds_by_part.values())


def test_all_methods_see_the_same_cameras_and_timesteps(tiny_prior: DiffusersPrior, tmp_path: Path) -> None:
    traces = [run(make_spec(m, p), tiny_prior, tmp_path / m).trace for m, p in METHODS]
    for trace in traces[1:]:
        assert [row.timestep for row in trace] == [row.timestep for row in traces[0]]
    states = [last_state(tmp_path / m, make_spec(m, p)) for m, p in METHODS]
    for name in (
        "streams.cameras",
        "streams.timesteps",
        "streams.background",
        "streams.noise",
        "streams.init",
    ):
        assert all(torch.equal(state[name], states[0][name]) for state in states)


def test_half_of_the_backgrounds_are_white() -> None:
    colours = draw_backgrounds(torch.Generator().manual_seed(0), 4000)
    white = (colours == 1).all(1)
    assert 0.47 < white.double().mean() < 0.53
    torch.testing.assert_close(colours[~white].mean(0), torch.full((3,), 0.5), atol=0.03, rtol=0)


def test_the_stored_asset_loads_bit_by_bit(tiny_prior: DiffusersPrior, tmp_path: Path) -> None:
    spec = make_spec()
    asset = run(spec, tiny_prior, tmp_path).asset
    loaded = load_asset(spec, tmp_path / ASSET)
    assert all(torch.equal(a, b) for a, b in zip(asset.parameters(), loaded.parameters(), strict=True))
    assert load_file(tmp_path / ASSET).keys() == {"density", "colour"}
    damage(tmp_path / ASSET, "truncated")
    with pytest.raises(CorruptResult, match="not this job's asset"):
        load_asset(spec, tmp_path / ASSET)
