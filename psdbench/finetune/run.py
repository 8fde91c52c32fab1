"""A finetuning from its identity to the LoRA file: load, train, measure, write. The same call again continues."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psdbench import registry
from psdbench.config import PriorRef, ScorerRef, digest, slug, stored
from psdbench.errors import EnvironmentProblem, UsageError, unknown
from psdbench.finetune import ALGORITHMS
from psdbench.finetune.captions import captions_for
from psdbench.metrics import metric_id, scorer_ref
from psdbench.priors.finetuned import FILE, Header, write_lora
from psdbench.scorers import load_scorer
from psdbench.store import atomic
from psdbench.store.digest import sha256_file
from psdbench.store.run import claim
from psdbench.store.sealed import read_json
from psdbench.strict import build

if TYPE_CHECKING:
    from psdbench.finetune.algorithm import Algorithm, Tuner
    from psdbench.finetune.train import Row

FACTS = "finetune.json"
VERSION = 1
"""raised when the same settings begin to mean another training"""
MEASURE_BATCH = 8


@dataclass(frozen=True)
class FinetuneSpec:
    """Everything that determines a finetuned prior."""

    name: str
    """what a report calls it"""
    algorithm: str
    params: dict[str, Any]
    prior: PriorRef
    reward: ScorerRef
    captions: tuple[str, ...]
    held_out: tuple[str, ...]
    seed: int
    device: str = "cpu"
    version: int = VERSION

    @cached_property
    def id(self) -> str:
        """sha256 (hex) of the canonical JSON."""
        return digest(self)


def make_spec(
    algorithm: str,
    reward: str,
    prior: str,
    *,
    params: Mapping[str, Any] | None = None,
    prompts: Sequence[str] = (),
    seed: int = 0,
    device: str = "cpu",
    name: str = "",
) -> FinetuneSpec:
    """Resolve and check the options of a finetuning; UsageError names the first thing that is wrong."""
    chosen = build(algorithm_class(algorithm), params or {}, algorithm)
    if registry.split_prior(prior)[1]:
        raise UsageError("a finetuned prior cannot be finetuned again", "give the prior without +lora:…")
    if name != (slug(name) if name else name):
        raise UsageError(f"name '{name}' has more than a-z, 0-9 and hyphens", f"for example: {slug(name)}")
    if registry.prior_facts(prior).views > 1:
        raise UsageError(
            f"prior '{prior}' denoises sets of views, and finetuning has single images",
            "finetune a prior of single images",
        )
    prior_ref = registry.prior_ref(prior)
    scorer = metric_id(reward, prior)
    if chosen.needs_gradient and not load_scorer(scorer).differentiable:
        raise UsageError(
            f"algorithm '{algorithm}' needs the gradient of its reward, and '{scorer}' has none",
            "choose another --reward, or an algorithm that needs none: dpo, ddpo",
        )
    captions = captions_for(prior, prompts, seed)
    settings, reward_ref = asdict(chosen), scorer_ref(scorer)
    return FinetuneSpec(
        name or algorithm, algorithm, settings, prior_ref, reward_ref, *captions, seed, device
    )


def algorithm_class(name: str) -> type[Algorithm]:
    """The dataclass of an algorithm; UsageError with the nearest name when there is none."""
    if name not in ALGORITHMS:
        raise unknown("algorithm", name, ALGORITHMS)
    return registry.load(ALGORITHMS[name])  # type: ignore[no-any-return]


def finetune(
    spec: FinetuneSpec,
    folder: Path,
    on_step: Callable[[Row], None] = lambda row: None,
    should_stop: Callable[[], int] = lambda: 0,
) -> dict[str, Any]:
    """Train into a folder, or find the result there; returns what finetune.json holds.

    Raises UsageError when the folder belongs to another finetuning or another process works in it.
    """
    from psdbench.finetune.train import train

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EnvironmentProblem(
            f"cannot make the folder {folder}: {error.strerror}", "choose --out"
        ) from error
    with claim(folder) as mine:
        if not mine:
            raise UsageError(f"another process is finetuning into {folder}", "wait for it, or choose --out")
        facts = _begin(spec, folder)
        if "lora" in facts:
            return facts
        algorithm = algorithm_class(spec.algorithm)(**spec.params)
        tuner = make_tuner(spec, algorithm)
        train(algorithm, tuner, folder, spec.id, on_step, should_stop)
        facts |= {"counters": asdict(tuner.prior.counters), "seconds": round(tuner.seconds, 1)}
        facts |= {"reward_on_held_out": compare(algorithm, tuner, spec)}
        write_lora(folder / FILE, tuner.adapter.parameters, header(spec))
        facts |= {"lora": {"file": FILE, "sha256": sha256_file(folder / FILE)}}
        atomic.write_json(folder / FACTS, facts)
        for checkpoint in folder.glob("checkpoint-*.safetensors"):
            checkpoint.unlink()
    return facts


def _begin(spec: FinetuneSpec, folder: Path) -> dict[str, Any]:
    """What the folder holds of this finetuning; with "lora" in it, there is nothing left to do."""
    facts = read_json(folder / FACTS)
    if facts and facts.get("id") != spec.id:
        raise UsageError(f"{folder} holds another finetuning", "choose another folder with --out")
    lora = folder / FILE
    if facts and "lora" in facts and lora.is_file() and sha256_file(lora) == facts["lora"]["sha256"]:
        return facts
    facts = {"id": spec.id, **stored(spec)}
    atomic.write_json(folder / FACTS, facts)
    return facts


def header(spec: FinetuneSpec) -> Header:
    """What the LoRA file says of itself."""
    prior, reward = spec.prior, {"id": spec.reward.id, "sha256": spec.reward.sha256}
    return Header(spec.name, spec.algorithm, prior.sha256, prior.name, reward, spec.id)


def make_tuner(spec: FinetuneSpec, algorithm: Algorithm) -> Tuner:
    """The prior with a fresh LoRA, the reward, and streams that follow from the seed."""
    from psdbench.finetune.algorithm import Tuner
    from psdbench.finetune.lora import LoraAdapter
    from psdbench.guidance.state import SideOptimizer
    from psdbench.priors.diffusers import DiffusersPrior
    from psdbench.streams import Streams

    prior = registry.load_prior(spec.prior, spec.device)
    assert isinstance(prior, DiffusersPrior)
    streams = Streams(spec.seed)
    adapter = LoraAdapter(prior, algorithm.lora_rank, streams["lora"])
    rate, decay = algorithm.learning_rate, algorithm.weight_decay
    size = prior.unet.config["sample_size"]
    return Tuner(
        prior=prior,
        adapter=adapter,
        reward=load_scorer(spec.reward.id, spec.device),
        captions=spec.captions,
        latent_shape=(prior.latent_channels, size, size),
        streams=streams,
        optimizer=SideOptimizer(adapter.parameters, rate, weight_decay=decay),
    )


def compare(algorithm: Algorithm, tuner: Tuner, spec: FinetuneSpec) -> dict[str, Any]:
    """Mean reward of samples on held-out captions before and after, same noises, each with its interval."""
    from psdbench.scorers.catalogue import scale
    from psdbench.stats import estimate, paired_difference

    ends = scale(spec.reward.id)
    after = measure(algorithm, tuner, spec)
    with tuner.adapter.off():
        before = measure(algorithm, tuner, spec)
    figures = {"before": estimate(before, ends), "after": estimate(after, ends)}
    figures["gain"] = paired_difference(after, before)
    return {name: asdict(figure) for name, figure in figures.items()}


def measure(algorithm: Algorithm, tuner: Tuner, spec: FinetuneSpec) -> dict[tuple[str, int], float]:
    """The reward of one sample of each held-out caption; cameras and noises follow from the seed alone."""
    from psdbench.camera_config import CameraConfig
    from psdbench.cameras import sample_cameras
    from psdbench.finetune.algorithm import make_batch
    from psdbench.priors import ddim
    from psdbench.streams import Streams, randn

    streams, config, scores = Streams(spec.seed), CameraConfig(), {}
    cameras = sample_cameras(streams["held-out cameras"], len(spec.held_out), config)
    path = ddim.moves(tuner.prior, algorithm.sampling_steps)
    for start in range(0, len(spec.held_out), MEASURE_BATCH):
        part = slice(start, start + MEASURE_BATCH)
        batch = make_batch(tuner.prior, spec.held_out[part], cameras[part], config)
        noise = randn((len(batch), *tuner.latent_shape), streams["held-out noise"], tuner.prior.device)
        x0 = ddim.walk(tuner.prior, noise, batch.text, path, algorithm.guidance_scale)
        for caption, reward in zip(batch.captions, tuner.rewards(x0, batch).tolist(), strict=True):
            scores[caption, 0] = reward
    return scores
