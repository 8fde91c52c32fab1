"""From options to jobs: every name resolved, every parameter filled in and checked, nothing computed yet."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from psdbench import registry, weights
from psdbench.config import InitRef, JobSpec, Protocol
from psdbench.errors import EnvironmentProblem, UsageError, unknown
from psdbench.metrics import default_metrics, left_out, metric_id, require_weights, scorer_ref, weights_of
from psdbench.prompts import STDIN, PromptSet, check_world, read_prompts
from psdbench.scorers import load_scorer
from psdbench.settings import RunConfig, parse_budget, seed_list, table_class
from psdbench.strict import build

RESULTS = Path("results")


@dataclass(frozen=True)
class Plan:
    """The jobs of a run in the order of work, the metrics they are scored with, and where it all goes."""

    jobs: tuple[JobSpec, ...]
    metrics: tuple[str, ...]
    out: Path
    notes: tuple[str, ...] = ()

    @property
    def protocol(self) -> Protocol:
        """The one protocol of all jobs."""
        return self.jobs[0].protocol


def make_plan(config: RunConfig) -> Plan:
    """Resolve a run's options; UsageError or EnvironmentProblem name the first thing that is wrong."""
    base, place = registry.split_prior(config.prior)
    config = dataclasses.replace(config, prior=base)
    methods = _check_names(config)
    prompts = read_prompts(config.prompts)
    if config.prior == registry.WORLD:
        check_world(prompts)
    seeds = seed_list(config.seeds)
    params = {name: resolve_params(name, config.tables.get(name, {})) for name in methods}
    protocol = _protocol(config)
    _check_representation(protocol, config.tables.get("optimize", {}))
    lora = registry.lora_ref(place, protocol.prior) if place else None
    _check_views(config, protocol)
    _check_reward(params, protocol)
    plugins = {name: registry.plugin_ref(name) for name in methods}
    jobs = tuple(
        JobSpec(prompt, name, params[name], seed, protocol, plugins[name], lora)
        for seed in seeds
        for prompt in prompts.texts
        for name in methods
    )
    metrics = _metrics(config)
    notes = [*prompts.notes, *([] if metrics else ["no metrics: the renders stay unscored"])]
    notes += [
        f"method '{name}' from {ref.file or 'an installed package'} (sha256 {ref.sha256[:12]})"
        for name, ref in plugins.items()
        if ref
    ]
    if not config.metrics and (absent := left_out(config.prior)):
        command = weights.fetch_command(weights.with_needs(weights_of(absent)))
        notes.append(f"not scored with {', '.join(absent)}, whose weights are not here: {command}")
    if lora:
        notes.append(f"prior finetuned as '{lora.name}' on {lora.reward.id} (sha256 {lora.sha256[:12]})")
    return Plan(jobs, metrics, _out(config, prompts, protocol), tuple(notes))


def resolve_params(table: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """All parameters of a method or a representation, the given ones in place, checked by its own rules."""
    return dataclasses.asdict(build(table_class(table), given, table))


def device_of(config: RunConfig) -> str:
    """The device a run uses; EnvironmentProblem when CUDA is asked for and not there."""
    import torch

    available = torch.cuda.is_available()
    if config.device == "cuda" and not available:
        raise EnvironmentProblem("no CUDA device is usable", "see psdbench doctor, or pass --device cpu")
    return "cuda" if available and config.device == "auto" else config.device.replace("auto", "cpu")


def _check_names(config: RunConfig) -> list[str]:
    """Refuse unknown names before anything slow is imported."""
    known = registry.method_names()
    for name in config.methods:
        if name not in known:
            raise unknown("method", name, known)
    if not config.methods:
        raise UsageError("no methods given", f"pass --methods psd,sds; known: {', '.join(known)}")
    registry.representation(config.representation)
    registry.prior_facts(config.prior)
    return list(dict.fromkeys(config.methods))


def _protocol(config: RunConfig) -> Protocol:
    tables = {name: dict(config.tables.get(name, {})) for name in registry.SHARED_TABLES}
    tables["optimize"] = _optimizer_options(config) | tables["optimize"]
    if "steps" in tables["optimize"] and tables["optimize"].keys() & {"nfe", "seconds"}:
        raise UsageError(
            "a budget takes the place of the steps, and both are set", "give --budget or --steps"
        )
    reward = _reward(config)
    return Protocol(
        prior=registry.prior_ref(config.prior, config.dtype),
        reward=scorer_ref(reward) if reward else None,
        representation=config.representation,
        representation_params=resolve_params(
            config.representation, config.tables.get(config.representation, {})
        ),
        optimize=build(table_class("optimize"), tables["optimize"], "optimize"),
        cameras=build(table_class("cameras"), tables["cameras"], "cameras"),
        evaluate=build(table_class("evaluate"), tables["evaluate"], "evaluate"),
        negative_prompt=config.negative_prompt,
        init=_init(config.init),
        device=device_of(config),
    )


def _init(place: str | None) -> InitRef | None:
    if place is None:
        return None
    from psdbench.export.read_shape import init_ref

    return init_ref(place)


def _optimizer_options(config: RunConfig) -> dict[str, Any]:
    """What options of their own set in the table `optimize`; --set and the file's table win over them."""
    options = {"steps": config.steps, "grad_norm": config.grad_norm}
    options |= parse_budget(config.budget) if config.budget else {}
    return {name: value for name, value in options.items() if value is not None}


def _reward(config: RunConfig) -> str | None:
    if config.reward is None:
        return f"{registry.REWARD}_{registry.WORLD}" if config.prior == registry.WORLD else None
    if config.reward == "none":
        return None
    full_id = metric_id(config.reward, config.prior)
    require_weights([full_id])
    return full_id


def _check_views(config: RunConfig, protocol: Protocol) -> None:
    """Refuse a number of views that does not divide into the prior's sets, and names of views that are not used."""
    together, views = registry.prior_facts(config.prior).views, protocol.optimize.views
    if views % together:
        raise UsageError(
            f"prior '{protocol.prior.name}' denoises {together} views together, and optimize.views is {views}",
            f"set optimize.views to {together} or a multiple of it",
        )
    if protocol.optimize.perp_neg and not protocol.cameras.named_azimuths:
        raise UsageError(
            "optimize.perp_neg repels the names of other views, and prompts have no view words here",
            "leave it at 0, or set cameras.named_azimuths to 4",
        )


def _check_representation(protocol: Protocol, given: Mapping[str, Any]) -> None:
    """Refuse shared options that the representation has no use for: they would be set and change nothing."""
    from psdbench.representations import PENALTIES

    name, optimize = protocol.representation, protocol.optimize
    cls = registry.representation_class(name)
    for rate in ("density_learning_rate", "colour_learning_rate"):
        if cls.own_rates and rate in given:
            raise UsageError(
                f"optimize.{rate} is of voxels, and '{name}' has rates of its own",
                f"set those of {name}: see psdbench list representations",
            )
    for penalty in sorted(PENALTIES.keys() - cls.penalties):
        if getattr(optimize, f"{penalty}_weight"):
            raise UsageError(
                f"optimize.{penalty}_weight means nothing for '{name}'",
                f"leave it out; {name} knows {', '.join(sorted(cls.penalties))}",
            )


def _check_reward(params: Mapping[str, Mapping[str, Any]], protocol: Protocol) -> None:
    """Refuse methods that ask their reward for more than it has, be it because of how they are set."""
    reward = protocol.reward and load_scorer(protocol.reward.id)
    for name, given in params.items():
        cls = registry.method_class(name)
        if cls.needs_reward and reward is None:
            raise UsageError(
                f"method '{name}' ranks images by a reward, and none is set", "add --reward NAME"
            )
        if reward and not reward.differentiable and cls(**given).asks_reward_gradient:
            setting = "" if cls.needs_reward_gradient else _as_set(cls, given)
            raise UsageError(
                f"method '{name}'{setting} follows the gradient of its reward, and '{reward.id}' has none",
                "choose a differentiable scorer: --reward hps",
            )


def _as_set(cls: type[Any], given: Mapping[str, Any]) -> str:
    """The parameters that are not at their default, one of which decides: `` with negative=refl``."""
    defaults = {field.name: field.default for field in dataclasses.fields(cls)}
    return " with " + ", ".join(f"{key}={value}" for key, value in given.items() if value != defaults[key])


def _metrics(config: RunConfig) -> tuple[str, ...]:
    if not config.metrics:
        return tuple(default_metrics(config.prior))
    if list(config.metrics) == ["none"]:
        return ()
    ids = dict.fromkeys(metric_id(name, config.prior) for name in config.metrics)
    require_weights(ids)  # before hours are spent on what cannot be scored
    return tuple(ids)


def _out(config: RunConfig, prompts: PromptSet, protocol: Protocol) -> Path:
    """The folder asked for, or one that the same command finds again and another protocol does not share."""
    if config.out:
        return Path(config.out)
    stems = ["stdin" if source == STDIN else Path(source).stem for source in config.prompts]
    return RESULTS / f"{'-'.join(stems)[:40]}-{protocol.hash[:8]}"
