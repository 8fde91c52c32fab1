"""`psdbench list`: what there is to choose from."""

from __future__ import annotations

import dataclasses
from enum import StrEnum
from typing import Annotated, Any

import typer

from psdbench.cli import options as o
from psdbench.cli.output import print_columns, print_json


class Kind(StrEnum):
    """What can be listed."""

    methods = "methods"
    priors = "priors"
    representations = "representations"
    metrics = "metrics"
    prompts = "prompts"


def list_names(
    kind: Annotated[Kind, typer.Argument(help="methods, priors, representations, metrics or prompts")],
    json: o.Json = False,
) -> None:
    """List methods and representations with their parameters, priors, metrics or prompt sets."""
    entries = {
        Kind.methods: methods,
        Kind.priors: priors,
        Kind.representations: representations,
        Kind.metrics: metrics,
        Kind.prompts: prompts,
    }[kind]()
    if json:
        print_json(entries)
        return
    print_columns([(entry["name"], entry["summary"]) for entry in entries])
    for entry in entries:
        if parameters := entry.get("parameters"):
            print(f"\n{entry['name']}: parameters for --set {entry['name']}.NAME=VALUE")
            print_columns([(f"  {p['name']}", str(p["default"]), p["meaning"]) for p in parameters])


def methods() -> list[dict[str, Any]]:
    """Every method with its paper and parameters."""
    from psdbench.registry import method_class, method_names

    return [_method(name, method_class(name)) for name in method_names()]


def _method(name: str, cls: type[Any]) -> dict[str, Any]:
    reward = " (ranks by --reward)" if cls.needs_reward else ""
    return {
        "name": name,
        "summary": f"{first_sentence(cls.__doc__)} {cls.paper}{reward}",
        "paper": cls.paper,
        "needs_reward": cls.needs_reward,
        "parameters": parameters(cls),
    }


def representations() -> list[dict[str, Any]]:
    """Every representation with its parameters."""
    from psdbench.registry import REPRESENTATIONS, representation_config

    return [
        {"name": name, "summary": entry.summary, "parameters": parameters(representation_config(name))}
        for name, entry in REPRESENTATIONS.items()
    ]


def priors() -> list[dict[str, Any]]:
    """The embedded prior, and how to name others."""
    from psdbench.registry import PRIORS

    foreign = {
        "name": "FOLDER",
        "summary": "any folder in Stable Diffusion's format (unet/, vae/, …), by its path",
    }
    return [*({"name": name, "summary": text} for name, text in PRIORS.items()), foreign]


def metrics() -> list[dict[str, Any]]:
    """Every scorer by its full id."""
    from psdbench.registry import metrics as known

    return [{"name": name, "summary": text} for name, text in known().items()]


def prompts() -> list[dict[str, Any]]:
    """The prompt sets at hand, with what their headers say."""
    from psdbench.prompts import header, read_prompts, shipped_sets

    entries = []
    for name, path in shipped_sets().items():
        count = len(read_prompts([str(path)]).prompts)
        entries.append({"name": name, "summary": f"{count} prompts: {header(path)}", "file": str(path)})
    return entries


def parameters(cls: type[Any]) -> list[dict[str, Any]]:
    """The fields of a dataclass with default and the docstring under each."""
    meanings = field_docstrings(cls)
    fields = [field for field in dataclasses.fields(cls) if field.init]
    return [{"name": f.name, "default": f.default, "meaning": meanings.get(f.name, "")} for f in fields]


def field_docstrings(cls: type[Any]) -> dict[str, str]:
    """The text literal under each field of a class, which Python itself does not keep."""
    import ast
    import inspect
    import textwrap
    from itertools import pairwise

    body = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0].body  # type: ignore[attr-defined]
    texts = {}
    for field, after in pairwise(body):
        match (field, after):
            case (ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text)))):
                texts[name] = " ".join(text.split())
    return texts


def first_sentence(text: str | None) -> str:
    """The first line of a docstring."""
    return (text or "").strip().split("\n")[0]
