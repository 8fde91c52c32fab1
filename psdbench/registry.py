"""Names to methods, priors and representations. Nothing heavy is imported before it is asked for.

A method is a file in the package `psdbench.methods`: its name is the file's, nothing is registered by hand.
Methods from outside, of --plugin files and installed packages, stand beside them (`psdbench.plugins`).
Metrics by name: `psdbench.metrics`.
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psdbench import plugins
from psdbench.errors import EnvironmentProblem, UsageError, unknown

if TYPE_CHECKING:
    import torch

    from psdbench.config import LoraRef, PluginRef, PriorRef
    from psdbench.priors import Prior
    from psdbench.priors.folder import Facts
    from psdbench.representations import Representation

METHODS_PACKAGE = "psdbench.methods"
WORLD = "shapes"
"""the name of the embedded world: of its prior, and the ending of its scorers' ids"""
GET_WEIGHTS = "reinstall psdbench, or make the embedded weights with: psdbench world train"
REWARD = "hps"
"""the scorer that steers by default, where the prior's family has it"""
LORA = "+lora:"
"""between the name of a prior and the place of the LoRA that finetunes it"""


@dataclass(frozen=True)
class RepresentationEntry:
    """A 3D representation: where its class and its configuration's class are."""

    module: str
    cls: str
    config: str
    summary: str


_PLACE = "psdbench.representations"
REPRESENTATIONS = {
    "voxels": RepresentationEntry(
        f"{_PLACE}.voxels",
        "Voxels",
        "VoxelsConfig",
        "a grid of density and colour, volume-rendered in plain torch",
    ),
    "hashgrid": RepresentationEntry(
        f"{_PLACE}.hashgrid",
        "HashGrid",
        "HashGridConfig",
        "a NeRF: hash encoding and a small network, volume-rendered in plain torch",
    ),
    "gaussians": RepresentationEntry(
        f"{_PLACE}.gaussians",
        "Gaussians",
        "GaussiansConfig",
        "3D Gaussian splats; by gsplat on CUDA if it is installed, else in plain torch",
    ),
}

SHARED_TABLES = ("optimize", "cameras", "evaluate")
"""the tables of parameters that no method and no representation owns"""

PRIORS = {
    WORLD: "embedded: a small Stable-Diffusion-format model of coloured shapes, 64 x 64 pixels",
    "sd15": "Stable Diffusion 1.5, 512 x 512 pixels; get it with: psdbench prefetch --prior sd15",
    "sd21": "Stable Diffusion 2.1 base, 512 x 512 pixels; get it with: psdbench prefetch --prior sd21",
}


_plugins: dict[str, plugins.Plugin] = {}
"""the methods of --plugin files by name, as the last `use_plugins` left them"""


def use_plugins(files: Iterable[str]) -> None:
    """Make the methods of these files known, in place of those before; UsageError when one will not do."""
    found = plugins.load_files(files, {*_own_names(), *plugins.packaged_names()})
    _plugins.clear()
    _plugins.update(found)


def method_names() -> list[str]:
    """The methods at hand: shipped ones, those of installed packages, those of --plugin files."""
    plugins.check_packaged(_own_names())
    return sorted({*shipped_methods(), *plugins.packaged_names(), *_plugins})


def _own_names() -> set[str]:
    """Names that no method from outside may have: each also names a table of parameters."""
    return {*shipped_methods(), *SHARED_TABLES, *REPRESENTATIONS}


def shipped_methods() -> list[str]:
    """The files of `psdbench.methods`."""
    spec = importlib.util.find_spec(METHODS_PACKAGE)
    folders = list(spec.submodule_search_locations or []) if spec else []
    files = (p for folder in folders for p in Path(folder).glob("*.py"))
    return sorted(p.stem for p in files if not p.stem.startswith("_"))


def method_class(name: str) -> type[Any]:
    """The frozen dataclass of a method; raises UsageError with the nearest name when there is none."""
    if name not in method_names():
        raise unknown("method", name, method_names())
    if outside := _outside(name):
        return outside.cls
    module = importlib.import_module(f"{METHODS_PACKAGE}.{name}")
    for value in vars(module).values():
        if (
            isinstance(value, type)
            and dataclasses.is_dataclass(value)
            and getattr(value, "name", None) == name
        ):
            return value
    raise UsageError(f"{module.__file__} has no class marked @method('{name}')", "see methods/README.md")


def _outside(name: str) -> plugins.Plugin | None:
    if name in plugins.packaged_names():
        return plugins.load_packaged(name)
    return _plugins.get(name)


def plugin_ref(name: str) -> PluginRef | None:
    """The source of a method from outside, as a job remembers it; None for a shipped method."""
    from psdbench.config import PluginRef

    outside = _outside(name)
    return PluginRef(outside.sha256, outside.file) if outside else None


def planned_method(name: str, ref: PluginRef | None) -> type[Any]:
    """The class of a job's method, in whatever process; EnvironmentProblem when its source has changed."""
    if ref is None:
        return method_class(name)
    found = plugins.loaded(ref.sha256) or (
        plugins.load_file(ref.file) if ref.file else [plugins.load_packaged(name)]
    )
    cls = next((p.cls for p in found if (p.cls.name, p.sha256) == (name, ref.sha256)), None)
    if cls is None:
        raise EnvironmentProblem(
            f"the source of method '{name}' is no longer that which the job was planned with",
            "run the same command again: it makes new jobs with the present source",
        )
    return cls


def representation(name: str) -> RepresentationEntry:
    """The entry of a representation; raises UsageError when there is none."""
    if name not in REPRESENTATIONS:
        raise unknown("representation", name, REPRESENTATIONS)
    return REPRESENTATIONS[name]


def representation_config(name: str) -> type[Any]:
    """The frozen dataclass with a representation's parameters."""
    entry = representation(name)
    return load(f"{entry.module}:{entry.config}")


def representation_class(name: str) -> type[Representation]:
    """The class of a representation."""
    entry = representation(name)
    return load(f"{entry.module}:{entry.cls}")  # type: ignore[no-any-return]


def make_representation(name: str, params: dict[str, Any], generator: torch.Generator) -> Any:
    """A new asset; `generator` draws its first content."""
    cls: Any = representation_class(name)
    return cls(representation_config(name)(**params), generator)


def prior_folder(name: str) -> Path:
    """Where a prior lies: the embedded one and those of `psdbench prefetch` by name, others by path or hub id.

    Raises UsageError for an unknown name, EnvironmentProblem when its files are not on this machine.
    """
    if name == WORLD:
        return world_folder("prior")
    if name in PRIORS:
        from psdbench import weights

        weights.require([name])
        return weights.folder(name)
    from psdbench.priors import hub

    folder = Path(name)
    if folder.is_dir():
        return folder
    if hub.is_id(name):
        return hub.cached(name)
    problem = unknown("prior", name, PRIORS)
    raise UsageError(str(problem), f"{problem.remedy}; or a folder in Stable Diffusion's layout")


def prior_facts(name: str) -> Facts:
    """What kind of prior it is; EnvironmentProblem that names what is missing or unfit in its folder."""
    from psdbench.priors.folder import inspect

    return inspect(prior_folder(name))


def split_prior(name: str) -> tuple[str, str]:
    """``shapes+lora:FOLDER`` to the prior's name and the place of its LoRA, empty where there is none."""
    base, mark, place = name.partition(LORA)
    if mark and not place:
        raise UsageError(f"prior '{name}' names no LoRA", f"give its folder or file: {base}{LORA}FOLDER")
    return base, place


def prior_ref(name: str, dtype: str = "float32") -> PriorRef:
    """The identity of a prior: hashes its files, loads nothing."""
    from psdbench.config import PriorRef
    from psdbench.store.digest import folder_sha256

    folder = prior_folder(name)
    if name == WORLD:
        return PriorRef(name, folder_sha256(folder), dtype=dtype)
    known_as = folder if Path(name).is_dir() else Path(name.partition("@")[0])
    return PriorRef(known_as.name, folder_sha256(folder), str(folder), dtype)


def lora_ref(place: str, prior: PriorRef) -> LoraRef:
    """The identity of a LoRA in a folder or file; UsageError when it was made for another prior than this."""
    from psdbench.priors.finetuned import lora_ref

    return lora_ref(place, prior)


def load_prior(ref: PriorRef, device: str, lora: LoraRef | None = None) -> Prior:
    """Load a prior, finetuned or not; EnvironmentProblem when its files are no longer those of the reference."""
    import torch

    from psdbench.store.digest import sha256_file

    found = prior_ref(ref.folder or ref.name)
    if found.sha256 != ref.sha256:
        raise EnvironmentProblem(
            f"the files of prior '{ref.name}' are not those that the job was planned with",
            "restore them, or run again into another folder with --out",
        )
    file = Path(lora.file) if lora else None
    if lora and file and (not file.is_file() or sha256_file(file) != lora.sha256):
        raise EnvironmentProblem(
            f"{file} is not the LoRA that the job was planned with",
            "restore it, or run the same command again: it makes new jobs with the present one",
        )
    place = ref.folder or ref.name
    cls = "mvdream:MVDreamPrior" if prior_facts(place).kind == "mvdream" else "diffusers:DiffusersPrior"
    prior: Prior = load(f"psdbench.priors.{cls}").load(
        prior_folder(place), device, getattr(torch, ref.dtype), file
    )
    return prior


def world_folder(part: str) -> Path:
    """The folder of one embedded model; raises EnvironmentProblem when it is not there."""
    from psdbench.world import weights_folder

    folder = Path(weights_folder()) / part
    if not folder.is_dir():
        raise EnvironmentProblem(f"the embedded weights are not there: {folder}", GET_WEIGHTS)
    return folder


def split_names(values: Iterable[str]) -> list[str]:
    """``["psd,sds", "vsd"]`` to psd, sds, vsd: commas and repeats count, duplicates and blanks do not."""
    parts = (part.strip() for value in values for part in value.split(","))
    return list(dict.fromkeys(part for part in parts if part))


def load(target: str) -> Any:
    """The object that ``module:name`` names."""
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)
