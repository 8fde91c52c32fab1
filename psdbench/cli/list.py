"""`psdbench list`: what there is to choose from."""

from __future__ import annotations

import dataclasses
from enum import StrEnum
from typing import Annotated, Any

import typer

from psdbench.cli import options as o
from psdbench.cli.output import print_columns, print_json, say


class Kind(StrEnum):
    """What can be listed."""

    methods = "methods"
    priors = "priors"
    representations = "representations"
    metrics = "metrics"
    prompts = "prompts"
    defaults = "defaults"


def list_names(
    kind: Annotated[
        Kind, typer.Argument(help="methods, priors, representations, metrics, prompts or defaults")
    ],
    plugin: o.Plugin = None,
    json: o.Json = False,
) -> None:
    """List methods and representations with their parameters, priors, metrics, prompt sets, priors' defaults."""
    from psdbench.registry import use_plugins

    use_plugins([str(file) for file in plugin or ()])
    entries = {
        Kind.methods: methods,
        Kind.priors: priors,
        Kind.representations: representations,
        Kind.metrics: metrics,
        Kind.prompts: prompts,
        Kind.defaults: defaults,
    }[kind]()
    if json:
        print_json(entries)
        return
    row = _metric_row if kind == Kind.metrics else _row
    print_columns([row(entry) for entry in entries])
    for entry in entries:
        if parameters := entry.get("parameters"):
            print(f"\n{entry['name']}: parameters for --set {entry['name']}.NAME=VALUE")
            print_columns([(f"  {p['name']}", str(p["default"]), p["meaning"]) for p in parameters])
        if values := entry.get("values"):
            print(f"\n{entry['name']}: with such a prior, unless --config or an option says otherwise")
            print_columns([(v["name"], str(v["value"]), v["source"]) for v in values])


def _row(entry: dict[str, Any]) -> tuple[str, ...]:
    return entry["name"], entry["summary"]


def methods() -> list[dict[str, Any]]:
    """Every method with its paper, what it costs and needs, and its parameters."""
    from psdbench.registry import method_class, method_names

    return [_method(name, method_class(name)) for name in method_names()]


def _method(name: str, cls: type[Any]) -> dict[str, Any]:
    from psdbench.registry import plugin_ref

    cost, source = measured_cost(cls), plugin_ref(name)
    needs = "a reward with a gradient" if cls.needs_reward_gradient else "a reward" * cls.needs_reward
    details = "; ".join(
        [
            cls.paper,
            f"per step and view {in_words(cost) or 'not measured'}",
            *([f"needs {needs}"] if needs else []),
            *([f"from {source.file or 'an installed package'}"] if source else []),
        ]
    )
    return {
        "name": name,
        "summary": f"{first_sentence(cls.__doc__)} {details}",
        "paper": cls.paper,
        "cost_per_view": cost,
        "needs_reward": cls.needs_reward,
        "needs_reward_gradient": cls.needs_reward_gradient,
        "plugin": dataclasses.asdict(source) if source else None,
        "parameters": parameters(cls),
    }


def measured_cost(cls: type[Any]) -> dict[str, float] | None:
    """Passes through networks per step and view with the defaults; None for a method that cannot be run so."""
    from psdbench.plan.method_cost import cost_per_view

    try:
        return cost_per_view(cls())
    except Exception as error:  # a method from outside may want what a closed-form prior does not have
        say(f"note: the cost of '{cls.name}' is not measured: {type(error).__name__}: {error}")
        return None


def in_words(cost: dict[str, float] | None) -> str:
    """``2 denoiser forwards, 1 denoiser backward``, without what is not used."""
    used = {name.replace("_", " "): n for name, n in (cost or {}).items() if n}
    return ", ".join(f"{n:g} {name.removesuffix('s') if n == 1 else name}" for name, n in used.items())


def representations() -> list[dict[str, Any]]:
    """Every representation with its parameters."""
    from psdbench.registry import REPRESENTATIONS, representation_config

    return [
        {"name": name, "summary": entry.summary, "parameters": parameters(representation_config(name))}
        for name, entry in REPRESENTATIONS.items()
    ]


def priors() -> list[dict[str, Any]]:
    """The embedded prior, and how to name others."""
    from psdbench.registry import LORA, PRIORS

    foreign = {
        "name": "FOLDER",
        "summary": "any folder in Stable Diffusion's layout (unet/, vae/, …), by its path: SD 1 and 2 with ε-, v- or "
        "x-prediction, priors of pixels, and MVDream as psdbench convert mvdream writes it",
    }
    cached = {
        "name": "OWNER/NAME[@REVISION]",
        "summary": "such a folder in the Hugging Face hub's local cache",
    }
    finetuned = {
        "name": f"PRIOR{LORA}FOLDER",
        "summary": "either of these with the LoRA in a folder that psdbench finetune wrote",
    }
    return [*({"name": name, "summary": text} for name, text in PRIORS.items()), foreign, cached, finetuned]


def metrics() -> list[dict[str, Any]]:
    """Every scorer by its full id, with direction, unit, range and what it needs beside the pictures."""
    from psdbench.scorers.catalogue import SCORERS

    return [
        {
            "name": name,
            "summary": listing.summary,
            "higher_is_better": not listing.lower_is_better,
            "unit": listing.unit,
            "range": listing.range,
            "needs": [
                *(
                    "shapes prompt" if need == "prompt" and listing.world_only else need
                    for need in listing.needs
                ),
                *([f"weights {listing.weights}"] if listing.weights else []),
            ],
        }
        for name, listing in SCORERS.items()
    ]


def _metric_row(entry: dict[str, Any]) -> tuple[str, ...]:
    """A metric on a line."""
    better = "higher" if entry["higher_is_better"] else "lower"
    needs = f"needs {', '.join(entry['needs'])}" if entry["needs"] else ""
    return entry["name"], f"{better} is better", entry["range"], entry["unit"], needs, entry["summary"]


def prompts() -> list[dict[str, Any]]:
    """The prompt sets at hand, with what their headers say."""
    from psdbench.prompts import header, read_prompts, shipped_sets

    entries = []
    for name, path in shipped_sets().items():
        count = len(read_prompts([str(path)]).prompts)
        entries.append({"name": name, "summary": f"{count} prompts: {header(path)}", "file": str(path)})
    return entries


def defaults() -> list[dict[str, Any]]:
    """What each family of priors puts in place of the built-in defaults, every value with its source."""
    from psdbench.defaults import FAMILIES, path
    from psdbench.prompts import header

    return [{"name": name, "summary": header(path(name)), "values": _values(name)} for name in FAMILIES]


def _values(family: str) -> list[dict[str, Any]]:
    from psdbench.defaults import read, sources

    options, tables = read(family)
    flat = options | {f"{table}.{key}": v for table, keys in tables.items() for key, v in keys.items()}
    return [{"name": n, "value": flat[n], "source": source} for n, source in sources(family).items()]


def parameters(cls: type[Any]) -> list[dict[str, Any]]:
    """The fields of a dataclass with default and the docstring under each."""
    meanings = field_docstrings(cls)
    fields = [field for field in dataclasses.fields(cls) if field.init]
    return [{"name": f.name, "default": f.default, "meaning": meanings.get(f.name, "")} for f in fields]


def field_docstrings(cls: type[Any]) -> dict[str, str]:
    """The text literal under each field of a dataclass or its parents, which Python itself does not keep."""
    import ast
    import inspect
    import textwrap
    from itertools import pairwise

    texts = {}
    for base in reversed([c for c in cls.__mro__ if "__dataclass_fields__" in vars(c)]):
        body = ast.parse(textwrap.dedent(inspect.getsource(base))).body[0].body  # type: ignore[attr-defined]
        for field, after in pairwise(body):
            match (field, after):
                case (ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text)))):
                    texts[name] = " ".join(text.split())
    return texts


def first_sentence(text: str | None) -> str:
    """The first line of a docstring."""
    return (text or "").strip().split("\n")[0]
