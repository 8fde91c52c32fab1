"""LoRA files of reward-finetuned priors: diffusers' format, with a header that says what they were made for.

The tensors are named as `save_lora_weights` of a diffusers pipeline names them (alpha equals the rank), so the
file loads there too. The safetensors metadata holds the header, so a file's sha256 covers it. Loading fuses
W ← W + B A: the prior costs what it costs without, acts in both branches of classifier-free guidance, and can
carry VSD's own LoRA on top.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from psdbench.errors import EnvironmentProblem, PsdbenchError, UsageError
from psdbench.store import atomic
from psdbench.strict import build

if TYPE_CHECKING:
    from psdbench.config import LoraRef, PriorRef, ScorerRef

FILE = "pytorch_lora_weights.safetensors"
"""diffusers' name"""
HEADER = "psdbench"
"""key of the metadata"""
PREFIX, DOWN, UP = "unet.", ".lora_A.weight", ".lora_B.weight"
MAKE_ONE = "make one with: psdbench finetune --prior PRIOR --algorithm draft --out FOLDER"


@dataclass(frozen=True)
class Header:
    """What a LoRA is: everything that a run must know without the files beside it."""

    name: str
    """what a report calls it"""
    algorithm: str
    prior: str
    """sha256 of the prior it was trained on, and fits"""
    prior_name: str
    reward: dict[str, str]
    """id and sha256 of the scorer it was trained on"""
    finetuning: str
    """hash of all that determines the training"""


def write_lora(path: Path, parameters: Mapping[str, Tensor], header: Header) -> None:
    """Write matrices by module, ``….to_q.lora_A.weight`` and so on, atomically."""
    tensors = {PREFIX + name: tensor for name, tensor in parameters.items()}
    # One key only: safetensors writes several in an order of chance, and the bytes would differ each time.
    atomic.write_tensors(path, tensors, {HEADER: json.dumps(asdict(header), sort_keys=True)})


def lora_file(path: str | Path) -> Path:
    """The file that a folder or a file name means; UsageError when there is none."""
    file = Path(path) / FILE if Path(path).is_dir() else Path(path)
    if not file.is_file():
        raise UsageError(f"no LoRA at {path}", MAKE_ONE)
    return file


def read_header(file: Path) -> Header:
    """The header; UsageError for a file that `psdbench finetune` has not written."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as opened:
            metadata = opened.metadata() or {}
        return build(Header, json.loads(metadata[HEADER]), str(file))
    except SafetensorError as error:
        raise EnvironmentProblem(f"{file} is damaged: {error}", "make it again") from error
    except (KeyError, ValueError, TypeError, PsdbenchError) as error:
        raise UsageError(f"{file} does not say which prior and reward it was made with", MAKE_ONE) from error


def lora_ref(path: str | Path, prior: PriorRef) -> LoraRef:
    """The identity of a LoRA; UsageError when it was made for another prior than this."""
    from psdbench.config import LoraRef, ScorerRef, slug
    from psdbench.store.digest import sha256_file

    file = lora_file(path)
    header = read_header(file)
    if header.prior != prior.sha256:
        raise UsageError(
            f"the LoRA {file} was made for another prior: '{header.prior_name}' {header.prior[:12]}, "
            f"not '{prior.name}' {prior.sha256[:12]}",
            "finetune this prior anew, or give the one it was made for",
        )
    if header.name != slug(header.name):  # it becomes part of a folder's name
        raise UsageError(f"{file} has the name '{header.name}'", "only a-z, 0-9 and hyphens can be used")
    reward: ScorerRef = build(ScorerRef, header.reward, str(file))
    return LoraRef(sha256_file(file), header.name, reward, str(file))


@torch.no_grad()
def fuse(unet: nn.Module, file: Path) -> None:
    """Add B A to every weight that the file names; EnvironmentProblem when it does not fit the UNet."""
    from safetensors.torch import load_file

    tensors = load_file(file)
    modules = {key.removesuffix(suffix) for key in tensors for suffix in (DOWN, UP)} - tensors.keys()
    for module in sorted(modules):
        try:
            layer: Any = unet.get_submodule(module.removeprefix(PREFIX))
            weight: Tensor = layer.weight
            down, up = tensors.pop(module + DOWN), tensors.pop(module + UP)
            update = (up.to(weight.device).float() @ down.to(weight.device).float()).view_as(weight)
        except (AttributeError, KeyError, RuntimeError) as error:
            raise _misfit(file, module, error) from error
        weight.data = (weight.float() + update).to(weight.dtype)
    if tensors:
        raise _misfit(file, ", ".join(sorted(tensors)[:3]), "not a LoRA matrix of the UNet")


def _misfit(file: Path, where: str, reason: Any) -> EnvironmentProblem:
    return EnvironmentProblem(f"{file} does not fit the UNet at {where}: {reason}", "make it again")
