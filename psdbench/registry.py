"""Names to methods, priors, representations and metrics. Nothing heavy is imported before it is asked for.

A method is a file in the package `psdbench.methods`: its name is the file's, nothing is registered by hand.
Methods from outside, of --plugin files and installed packages, stand beside them (`psdbench.plugins`).
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

    from psdbench.config import LoraRef, PluginRef, PriorRef, ScorerRef
    from psdbench.priors import Prior
    from psdbench.representations import Representation
    from psdbench.scorers import Scorer

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


REPRESENTATIONS = {
    cls.lower(): RepresentationEntry(f"psdbench.representations.{cls.lower()}", cls, f"{cls}Config", summary)
    for cls, summary in {
        "Voxels": "a grid of density and colour, volume-rendered in plain torch",
        "HashGrid": "a NeRF: hash encoding and a small network, volume-rendered in plain torch",
        "Gaussians": "3D Gaussian splats; by gsplat on CUDA if it is installed, else in plain torch",
    }.items()
}

SHARED_TABLES = ("optimize", "cameras", "evaluate")
"""the tables of parameters that no method and no representation owns"""

PRIORS = {WORLD: "embedded: a small Stable-Diffusion-format model of coloured shapes, 64 x 64 pixels"}


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
    """Where a prior lies: the embedded one by name, any other as a diffusers folder.

    Raises UsageError for an unknown name, EnvironmentProblem when the embedded weights are not there.
    """
    if name == WORLD:
        return world_folder("prior")
    folder = Path(name)
    if not folder.is_dir():
        problem = unknown("prior", name, PRIORS)
        raise UsageError(str(problem), f"{problem.remedy}; or the path of a Stable-Diffusion-format folder")
    if not (folder / "unet").is_dir():
        raise UsageError(
            f"{folder} is not a Stable-Diffusion-format folder: no unet/ in it", "see psdbench list priors"
        )
    return folder


def split_prior(name: str) -> tuple[str, str]:
    """``shapes+lora:FOLDER`` to the prior's name and the place of its LoRA, empty where there is none."""
    base, mark, place = name.partition(LORA)
    if mark and not place:
        raise UsageError(f"prior '{name}' names no LoRA", f"give its folder or file: {base}{LORA}FOLDER")
    return base, place


def prior_ref(name: str) -> PriorRef:
    """The identity of a prior: hashes its files, loads nothing."""
    from psdbench.config import PriorRef
    from psdbench.store.digest import folder_sha256

    folder = prior_folder(name)
    embedded = name == WORLD
    return PriorRef(name if embedded else folder.name, folder_sha256(folder), "" if embedded else str(folder))


def lora_ref(place: str, prior: PriorRef) -> LoraRef:
    """The identity of a LoRA in a folder or file; UsageError when it was made for another prior than this."""
    from psdbench.priors.finetuned import lora_ref

    return lora_ref(place, prior)


def load_prior(ref: PriorRef, device: str, lora: LoraRef | None = None) -> Prior:
    """Load a prior, finetuned or not; EnvironmentProblem when its files are no longer those of the reference."""
    import torch

    from psdbench.priors.diffusers import DiffusersPrior
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
    folder = prior_folder(ref.folder or ref.name)
    return DiffusersPrior.load(folder, device, getattr(torch, ref.dtype), file)


def metrics() -> dict[str, str]:
    """Every metric's full id and what it measures."""
    from psdbench.scorers import SCORERS

    return {name: listing.summary for name, listing in SCORERS.items()}


def metric_id(name: str, family: str) -> str:
    """The full id of a metric's short or full name: ``hps`` with the shapes prior is ``hps_shapes``."""
    known = metrics()
    full = f"{name}_{family}"
    if name in known or full in known:
        return name if name in known else full
    shorts = {key.removesuffix(f"_{WORLD}") for key in known}
    if name in shorts:
        raise UsageError(
            f"metric '{name}' has no version for this prior", f"give a full id: {', '.join(known)}"
        )
    raise unknown("metric", name, shorts | known.keys())


def default_metrics(family: str) -> list[str]:
    """All metrics made for a family of priors."""
    return list(metrics()) if family == WORLD else []


def make_scorer(full_id: str, device: str = "cpu") -> Scorer:
    """A scorer by its full id; its weights are read on first use."""
    from psdbench.scorers import load_scorer

    return load_scorer(full_id, device)


def scorer_ref(full_id: str) -> ScorerRef:
    """The identity of a scorer: hashes its files, loads no model; EnvironmentProblem without them."""
    from psdbench.config import ScorerRef

    return ScorerRef(full_id, make_scorer(full_id).sha256)


def world_folder(part: str) -> Path:
    """The folder of one embedded model; raises EnvironmentProblem when it is not there."""
    from psdbench.world import weights_folder

    folder = Path(weights_folder()) / part
    if not folder.is_dir():
        raise EnvironmentProblem(
            f"the embedded weights are not there: {folder}",
            GET_WEIGHTS,
        )
    return folder


def split_names(values: Iterable[str]) -> list[str]:
    """``["psd,sds", "vsd"]`` to psd, sds, vsd: commas and repeats count, duplicates and blanks do not."""
    parts = (part.strip() for value in values for part in value.split(","))
    return list(dict.fromkeys(part for part in parts if part))


def load(target: str) -> Any:
    """The object that ``module:name`` names."""
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)
