"""What scorers loaded from a folder have in common: strict weights, local files, one hash."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from psdbench import weights
from psdbench.errors import EnvironmentProblem
from psdbench.scorers.layouts import PLAIN, Layout
from psdbench.store.digest import model_files

Model = TypeVar("Model", bound=nn.Module)
RESTORE = "restore the file, or delete it and fetch it again with psdbench prefetch"
LIST = "`psdbench doctor` lists the weights that a run needs"
_NOT_WEIGHTS = "embeddings.position_ids"  # a counter 0, 1, 2 … that old versions of transformers stored


class FolderScorer:
    """A scorer whose weights lie in a local folder; nothing is read before the first use.

    `given` are the settings of an official checkpoint (`psdbench.scorers.official`); the optional
    ``score.json`` of the folder adds to them and wins. Settings, all optional: ``weights`` and ``layout``
    (the file and how its keys are named), ``config`` (the architecture, else ``config.json``),
    ``preprocess`` (else ``preprocessor_config.json``), ``clean`` (tidy prompts as OpenCLIP does),
    ``clip`` and ``clip_settings`` (a second folder), ``view_words`` (made for captions that name the view).
    """

    higher_is_better = True
    differentiable = True

    def __init__(
        self,
        id: str,
        folder: Path,
        device: torch.device | str = "cpu",
        given: Mapping[str, Any] | None = None,
    ) -> None:
        self.id, self.folder, self.device = id, Path(folder), torch.device(device)
        self.given = dict(given or {})

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The given settings and the fields of ``score.json``."""
        return settings_of(self.folder, self.given)

    @property
    def view_words(self) -> bool:
        """Whether prompts come with the name of the view."""
        return bool(self.settings.get("view_words", False))

    @property
    def parts(self) -> Sequence[tuple[Path, Mapping[str, Any]]]:
        """All folders whose files decide the score, each with its settings."""
        return [(self.folder, self.settings)]

    @cached_property
    def sha256(self) -> str:
        """Hash of the weights, configuration, vocabulary and official settings that decide the score."""
        listing: dict[str, Any] = {"settings": self.given} if self.given else {}
        for i, (folder, settings) in enumerate(self.parts):
            if not folder.is_dir():
                raise missing(folder)
            files = model_files(folder)
            if "weights" in settings:
                files[settings["weights"]] = weights.file_sha256(weights_path(folder, settings))
            listing |= {f"{i}/{name}": sha256 for name, sha256 in files.items()}
        return hashlib.sha256(json.dumps(listing, sort_keys=True).encode()).hexdigest()


def settings_of(folder: Path, given: Mapping[str, Any]) -> dict[str, Any]:
    """What a scorer goes by: the given settings under those of the folder's ``score.json``."""
    path = folder / "score.json"
    return {**given, **(read_json(path) if path.exists() else {})}


def weights_path(folder: Path, settings: Mapping[str, Any], usual: str = "model.safetensors") -> Path:
    """The weights file of a folder; EnvironmentProblem if it is missing."""
    path = folder / settings.get("weights", usual)
    if not path.is_file():
        raise missing(path)
    return path


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file; EnvironmentProblem if it is missing or is not one."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise missing(path) from None
    except ValueError as error:
        raise EnvironmentProblem(
            f"{path} is not JSON: {error}", "restore the folder of this scorer"
        ) from error
    if not isinstance(content, dict):
        raise EnvironmentProblem(f"{path} is not a JSON object", "restore the folder of this scorer")
    return content


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file or of a torch checkpoint, from which nothing but tensors is unpickled.

    EnvironmentProblem if the file is missing, is damaged, holds no tensors by name, or is not the one whose
    hash `psdbench.weights` knows.
    """
    if not path.is_file():
        raise missing(path)
    weights.verify(path)
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except SafetensorError as error:
            raise EnvironmentProblem(f"{path} is damaged: {error}", RESTORE) from error
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # foreign bytes: the unpickler has no exception of its own for them
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise EnvironmentProblem(f"{path} is damaged or no checkpoint: {reason}", RESTORE) from error
    state = content.get("state_dict", content) if isinstance(content, dict) else {}
    if not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise EnvironmentProblem(f"{path} does not hold tensors by name", RESTORE)
    return dict(state)


def blank(build: Callable[[], Model]) -> Model:
    """The model that `build` makes, without values: `fill` brings them all, so none need be drawn or stored."""
    with torch.device("meta"):
        return build()


@torch.inference_mode(False)
def fill(model: Model, path: Path, layout: Layout = PLAIN) -> Model:
    """Load a weights file into a model and freeze it; the model keeps its precision.

    The weights serve gradients later even where the first use is in inference mode.
    Raises EnvironmentProblem that names, in the file's words, each missing, unexpected or misshapen key.
    """
    state = {
        key: value
        for key, value in read_weights(path).items()
        if not key.endswith(_NOT_WEIGHTS) and not key.startswith(layout.unused)
    }
    own = model.state_dict()
    sources = {key: layout.source(key) for key in own}
    _refuse_misfits(path, state, {s.key: s.shape(tuple(own[key].shape)) for key, s in sources.items()})
    taken = {key: s.take(state[s.key]).to(own[key].dtype).contiguous() for key, s in sources.items()}
    model.load_state_dict(taken, assign=True)
    for module in model.modules():
        for name, buffer in module.named_buffers(recurse=False):
            if buffer.is_meta:  # of our models only counters 0, 1, 2 … are no part of the state
                counter = torch.arange(buffer.shape[-1]).expand(buffer.shape)
                module.register_buffer(name, counter, persistent=False)
    return model.eval().requires_grad_(False)


def _refuse_misfits(path: Path, state: Mapping[str, Tensor], wanted: Mapping[str, tuple[int, ...]]) -> None:
    problems = [f"missing {key}" for key in sorted(wanted.keys() - state.keys())]
    problems += [f"unexpected {key}" for key in sorted(state.keys() - wanted.keys())]
    problems += [
        f"{key} has shape {tuple(state[key].shape)} instead of {wanted[key]}"
        for key in sorted(wanted.keys() & state.keys())
        if tuple(state[key].shape) != wanted[key]
    ]
    if problems:
        more = f" and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise EnvironmentProblem(
            f"{path} does not fit its configuration: {'; '.join(problems[:5])}{more}",
            "it may be the checkpoint of another model: use the weights that belong to this configuration",
        )


def missing(path: Path) -> EnvironmentProblem:
    """The error for weights that are not there, with the command that gets them where there is one."""
    return EnvironmentProblem(f"{path} is missing", weights.remedy_for(path) or LIST)
